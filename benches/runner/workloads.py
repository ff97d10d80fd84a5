"""The workloads, in the order of the report: which program measures them, and what evl must reach."""

from dataclasses import dataclass

LIBRARIES = ("evl", "libuv", "libev", "libevent", "sd-event", "raw")
PEERS = LIBRARIES[1:-1]


@dataclass(frozen=True)
class Limit:
    """evl's median must be at most `at_most` of the unit, or `times` that of `of` ("raw", or "peers": the fastest)."""

    at_most: float = 0
    times: float = 0
    of: str = ""
    strict: bool = False
    form: str = ""


@dataclass(frozen=True)
class Workload:
    name: str
    program: str
    limits: tuple
    what: str


def at_most(value, form=""):
    return Limit(at_most=value, form=form)


FASTER_THAN_PEERS = Limit(times=1.0, of="peers", strict=True)
TWICE_AS_FAST_AS_PEERS = Limit(times=0.5, of="peers")
AS_FAST_AS_PEERS = Limit(times=1.0, of="peers")

WORKLOADS = (
    Workload("soon_10000", "soon", (at_most(4), Limit(times=2.0, of="raw")), "a callback, 10,000 in flight"),
    Workload("soon_100", "soon", (at_most(5),), "a callback, 100 in flight"),
    Workload("soon_1", "soon", (at_most(35),), "a callback, one in flight"),
    Workload("soon_handle_10000", "soon", (at_most(15),), "a callback with a handle, 10,000 in flight"),
    Workload("timer_start", "timer_start", (at_most(25),), "start one of 1,000,000 timers"),
    Workload("timer_cancel", "timer_start", (at_most(25),), "cancel one of 1,000,000, in random order"),
    Workload("timer_fire", "timer_fire", (at_most(60),), "fire one of 1,000,000 within a second"),
    Workload("timer_rearm", "timer_rearm", (at_most(12),), "push on one of 100,000"),
    Workload("timer_hold_100", "timer_hold", (at_most(35),), "fire one and start another, 100 live"),
    Workload("timer_hold_10k", "timer_hold", (at_most(60),), "fire one and start another, 10,000 live"),
    Workload("timer_hold_1m", "timer_hold", (at_most(110),), "fire one and start another, 1,000,000 live"),
    Workload("timer_bytes", "timer_bytes", (at_most(72),), "memory of a live timer"),
    Workload("post_1", "post", (at_most(25), FASTER_THAN_PEERS), "a message from another thread"),
    Workload("post_4", "post", (at_most(25), FASTER_THAN_PEERS), "a message from one of four threads"),
    Workload("wake_samecore", "wake", (Limit(times=1.1, of="raw"),), "wake a loop on the same core"),
    Workload("executor_1", "executor", (TWICE_AS_FAST_AS_PEERS,), "a job on another thread, one at a time"),
    Workload("executor_10000", "executor", (TWICE_AS_FAST_AS_PEERS,), "a job on another thread, 10,000 outstanding"),
    Workload(
        "getaddrinfo_numeric", "getaddrinfo", (at_most(1000), FASTER_THAN_PEERS), "the address that 127.0.0.1 is"
    ),
    Workload(
        "getaddrinfo_localhost", "getaddrinfo", (Limit(times=1 / 1.5, of="peers"),), "the address of localhost"
    ),
    Workload("pipes_1000", "pipes", (AS_FAST_AS_PEERS,), "a chain of 1100 bytes over 1000 pipes"),
    Workload("pipes_9900", "pipes", (AS_FAST_AS_PEERS,), "a chain of 1100 bytes over 9900 pipes"),
    Workload("pipe_throughput", "pipe_throughput", (AS_FAST_AS_PEERS,), "64 KiB through a pipe"),
    Workload("spawn", "spawn", (AS_FAST_AS_PEERS,), "a child that runs true, until it has ended"),
    Workload("fd_rearm", "fd_rearm", (at_most(25),), "remove and add a reader"),
    Workload("future", "future", (at_most(60),), "make a future, settle it, run its callback"),
    Workload("task", "future", (at_most(80),), "a step of a task that awaits a done future"),
    Workload("tcp_64_50", "echo", (Limit(times=1.03, of="raw"), AS_FAST_AS_PEERS), "an echo of 64 bytes, 50 connections"),
    Workload("tcp_64_500", "echo", (Limit(times=1.03, of="raw"), AS_FAST_AS_PEERS), "an echo of 64 bytes, 500 connections"),
    Workload("tcp_64_50_16", "echo", (Limit(times=1.03, of="raw"), AS_FAST_AS_PEERS), "an echo of 64 bytes, 16 under way"),
    Workload("tcp_1k_50", "echo", (Limit(times=1.03, of="raw"), AS_FAST_AS_PEERS), "an echo of 1 KiB, 50 connections"),
    Workload("tcp_16k_50", "echo", (Limit(times=1.05, of="raw"),), "an echo of 16 KiB, 50 connections"),
    Workload("unix_64_50", "echo", (at_most(2900),), "an echo of 64 bytes over a unix socket"),
    Workload("accept_tcp", "accept", (Limit(times=0.8333, of="libuv"),), "take and close a connection"),
    Workload("accept_unix", "accept", (Limit(times=0.8333, of="libuv"),), "take and close a connection over a unix socket"),
    Workload("udp_64", "datagram", (Limit(times=1 / 1.1, of="libuv"),), "an echo of a datagram of 64 bytes, one by one"),
    Workload("udp_batch_32", "datagram", (Limit(times=1 / 8, of="libuv"),), "an echo of 64 bytes, in batches of 32"),
    Workload("conn_bytes", "echo", (at_most(192),), "memory of an idle connection"),
    Workload("loop_create", "loop", (at_most(5), at_most(20, form="first")), "make and close a loop"),
    Workload("loop_bytes", "loop", (at_most(8192),), "heap of an idle loop"),
    Workload("so_kib", "loop", (at_most(450),), "the stripped library"),
)

# What the last part of a variant may say that makes it another thing to measure: compared only with its like.
FORMS = ("first", "same loop", "new memory", "time passes", "1000 at a time", "of 20,000")


def form_of(variant):
    last = variant.rpartition(", ")[2]
    return last if last in FORMS else ""


# What bench.h calls enum bench_trait.
EVERY_CORE, SLOW, ONCE = 1, 2, 4
