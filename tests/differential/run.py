"""Runs random programs on asyncio and on libevl, and compares what happens.

    run.py --programs 2000 --library libevl.so      as CI does; the seed is chosen and printed
    run.py --programs 2000 --seed 7                 the same programs again (EVL_LIBRARY names the library)
    run.py --only-seed 1234 --verbose               one program, its trace shown

On the first difference it prints the program, made as small as it can, and both traces side by side, and ends with 1.
Programs run in a child process, so that a crash or a hang is a difference like any other.
"""

import argparse
import ctypes
import faulthandler
import gc
import itertools
import logging
import mmap
import os
import select
import signal
import struct
import sys
import time

import evl
import on_asyncio
import on_evl
import program as programs

# How much a worker may grow while so many programs run that ran before.
GROWTH_LIMIT = 256 << 10
REPEATED = 500
HANG_SECONDS = 20
SHRINK_SECONDS = 60

# How a child process ends, and what that means.
SAME, DIFFERENT, GROWN = 0, 10, 11


def main():
    options = parse()
    if options.only_seed is not None:
        seed, count = options.only_seed, 1
    else:
        seed = int(time.time() * 1000) % 10**9 if options.seed is None else options.seed
        count = options.programs
        print(f"seed {seed}: programs {seed} to {seed + count - 1}", flush=True)
    progress = Progress()
    status = in_child(lambda: run_programs(options, seed, count, progress), progress)
    if status != SAME:
        done = progress.read()
        if status == GROWN:
            print("The process grows: something leaks.")
        else:
            failed = programs.generate(seed + number_of(done, count))
            print(f"\nprogram {failed.seed}: {explain(status)}")
            report(options, failed, status)
        print(f"{min(done, count)} passed, 1 failed")
        sys.exit(1)
    print(f"{count} passed, 0 failed")


def parse():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--programs", type=int, default=2000, metavar="N", help="how many (default: 2000)")
    parser.add_argument("--seed", type=int, metavar="S", help="of the first program; the next one has S + 1")
    parser.add_argument("--only-seed", type=int, metavar="X", help="run this program only")
    parser.add_argument("--library", default=os.environ.get("EVL_LIBRARY"), help="libevl.so (default: $EVL_LIBRARY)")
    parser.add_argument("--verbose", action="store_true", help="show every program and its trace")
    parser.add_argument("--no-shrink", action="store_true", help="show the failing program as it is")
    parser.add_argument("--self-check", action="store_true", help="compare asyncio with itself: checks the test alone")
    options = parser.parse_args()
    if not options.library and not options.self_check:
        parser.error("name the library: --library PATH or EVL_LIBRARY")
    return options


# -- in the child process


def number_of(done, count):
    """Which program runs when so many have: at the end, some run again."""
    return done if done < count else max(count - REPEATED, 0) + (done - count) % min(count, REPEATED)


def run_programs(options, seed, count, progress):
    """Runs programs until one differs."""
    library = None if options.self_check else evl.Library(options.library)
    began = time.monotonic()
    descriptors = open_descriptors()
    for number in range(count):
        program = programs.generate(seed + number)
        expected = on_asyncio.run(program)
        actual = run_other(library, program)
        if options.verbose:
            print(programs.show(program))
            show_traces(expected, actual)
        if actual != expected:
            return DIFFERENT
        progress.write(number + 1)
        if (number + 1) % max(count // 10, 1) == 0:
            print(f"{number + 1} of {count}, {time.monotonic() - began:.1f} s, {resident() / 2**20:.1f} MiB", flush=True)
    if open_descriptors() != descriptors:
        print(f"{open_descriptors()} descriptors are open, {descriptors} were at the beginning")
        return GROWN
    # What a program has at most at a time differs from one to the next, so that growth tells of a leak only where the same ones run again.
    repeated = min(count, REPEATED)
    for done in range(count, count + 2 * repeated):
        if (done - count) % repeated == 0:
            memory = resident()
        run_other(library, programs.generate(seed + number_of(done, count)))
        progress.write(done + 1)
    growth = resident() - memory
    print(f"memory grew by {growth / 2**10:.0f} KiB while {repeated} programs ran for the third time")
    if growth > GROWTH_LIMIT:
        return GROWN
    return SAME


def run_other(library, program, sink=None):
    """The trace to compare with asyncio's."""
    if library is None:
        return on_asyncio.run(program, sink)
    return on_evl.run(library, program, sink)


def compare(options, program):
    """Runs one program."""
    library = None if options.self_check else evl.Library(options.library)
    return SAME if run_other(library, program) == on_asyncio.run(program) else DIFFERENT


def show_difference(options, program, live):
    """Runs one program and prints both traces."""
    library = None if options.self_check else evl.Library(options.library)
    expected = on_asyncio.run(program)
    actual = run_other(library, program, (lambda event: print("    evl:", text(event), flush=True)) if live else None)
    show_traces(expected, actual)
    return SAME


def show_traces(expected, actual):
    """Prints two traces side by side, and marks the lines that differ."""
    left = [text(event) for event in expected]
    right = [text(event) for event in actual]
    width = max(map(len, [*left, "asyncio"]))
    print(f"    {'asyncio':{width}}   evl")
    for one, other in itertools.zip_longest(left, right, fillvalue=""):
        print(f"{'   ' if one == other else '>>>'} {one:{width}} | {other}")


def text(event):
    """An event as a line."""
    return " ".join(map(str, event))


def resident():
    """Bytes of memory that this process has now, after giving back what it does not use."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")


def open_descriptors():
    """How many descriptors are open."""
    return len(os.listdir("/proc/self/fd"))


# -- in the parent process


class Progress:
    """A number that a child process writes and its parent reads."""

    def __init__(self):
        self.memory = mmap.mmap(-1, 8)

    def write(self, number):
        self.memory[:8] = struct.pack("q", number)

    def read(self):
        return struct.unpack("q", self.memory[:8])[0]


def in_child(function, progress=None, hang_seconds=HANG_SECONDS, quiet=False):
    """Calls function in a child process and returns its result; -signal if it crashed or (SIGKILL) hung."""
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        status = 99
        try:
            logging.disable()
            if quiet:
                null = os.open(os.devnull, os.O_WRONLY)
                os.dup2(null, 1)
                os.dup2(null, 2)
            else:
                faulthandler.enable()
            status = function()
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            sys.stdout.flush()
            os._exit(status)
    descriptor = os.pidfd_open(child)
    last = None
    while True:
        ended = select.select([descriptor], [], [], hang_seconds)[0]
        if ended:
            break
        now = progress.read() if progress else None
        if now == last:
            os.kill(child, signal.SIGKILL)
        last = now
    os.close(descriptor)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def explain(status):
    """The result of in_child in words."""
    if status == DIFFERENT:
        return "the traces differ"
    if status == -signal.SIGKILL:
        return "it hangs"
    if status < 0:
        return f"the process died of {signal.Signals(-status).name}"
    return f"the test itself failed ({status})"


def report(options, program, status):
    """Prints a failing program, made smaller as long as it fails in the same way, and what it did."""
    if not options.no_shrink:
        end = time.monotonic() + SHRINK_SECONDS

        def fails(candidate):
            if time.monotonic() > end:
                return False
            return in_child(lambda: compare(options, candidate), hang_seconds=2, quiet=True) == status

        program = programs.shrink(program, fails)
    print(programs.show(program), flush=True)
    # Should the other side crash, what it did until then is on the screen.
    in_child(lambda: show_difference(options, program, live=status != DIFFERENT), hang_seconds=5)


if __name__ == "__main__":
    main()
