"""Feeds random chunks to asyncio.StreamReader and to an evl_stream, reads both by the same random reads, and compares what they give.

    streams.py --programs 2000 [--seed 7] [--library libevl.so]     (EVL_LIBRARY names the library, too)

On the first difference it prints what was done, and ends with 1.
"""

import argparse
import asyncio
import ctypes
import os
import random
import socket
import sys
import time
from ctypes import byref, c_char_p, c_int64, c_size_t, c_void_p

EINCOMPLETE = -20024
EOVERRUN = -20025

LIMITS = [1, 2, 3, 5, 8, 20]
SEPARATORS = [b"a", b"\n", b"ab", b"aab", b"aaa", b"b\na", b"abab"]


def check(code):
    if code < 0:
        raise RuntimeError(f"evl answers {code}")
    return code


class OnEvl:
    """A stream of libevl over one end of a socket pair; the other end is fed."""

    def __init__(self, library, limit):
        self.library = library
        self.loop, self.stream, self.future, self.kind = c_void_p(), None, None, None
        check(library.evl_loop_new(None, byref(self.loop)))
        ours, self.peer = socket.socketpair()
        opened, found = c_void_p(), c_void_p()
        check(library.evl_open_connection_from_socket(self.loop, ours.detach(), byref(opened)))
        self.settle()
        check(library.evl_future_result(opened, byref(found)))
        self.stream = c_void_p(library.evl_stream_ref(found))
        library.evl_future_unref(opened)
        check(library.evl_stream_set_limit(self.stream, c_size_t(limit)))

    def settle(self):
        check(self.library.evl_loop_run_until_idle(self.loop))

    def feed(self, data):
        self.peer.sendall(data)
        self.settle()

    def feed_eof(self):
        self.peer.shutdown(socket.SHUT_WR)
        self.settle()

    def begin(self, kind, what):
        self.future, self.kind = c_void_p(), kind
        out = byref(self.future)
        if kind == "read":
            check(self.library.evl_stream_read(self.stream, c_int64(what), out))
        elif kind == "readexactly":
            check(self.library.evl_stream_read_exactly(self.stream, c_size_t(what), out))
        elif kind == "readline":
            check(self.library.evl_stream_read_line(self.stream, out))
        else:
            check(self.library.evl_stream_read_until(self.stream, c_char_p(what), c_size_t(len(what)), out))
        self.settle()

    def is_waiting(self):
        return self.future is not None

    def cancel(self):
        check(self.library.evl_future_cancel(self.future, None))
        self.library.evl_future_unref(self.future)
        self.future = None
        self.settle()

    def answer(self):
        """How the read has ended that was begun; None: it waits, or there is none."""
        if self.future is None or not self.library.evl_future_done(self.future):
            return None
        data, size = c_void_p(), c_size_t()
        code = self.library.evl_future_result_bytes(self.future, byref(data), byref(size))
        if code != 0:
            check(self.library.evl_future_error_bytes(self.future, byref(data), byref(size)))
        content = ctypes.string_at(data, size.value) if data else None
        self.library.evl_future_unref(self.future)
        self.future = None
        if code == 0:
            return "bytes", content
        if code == EINCOMPLETE:
            return "incomplete", content
        if code == EOVERRUN:
            return ("too long",) if self.kind == "readline" else ("overrun", size.value)
        return "error", code

    def at_eof(self):
        return bool(self.library.evl_stream_at_eof(self.stream))

    def is_reading(self):
        return bool(self.library.evl_transport_is_reading(c_void_p(self.library.evl_stream_get_transport(self.stream))))

    def close(self):
        if self.future is not None:
            self.library.evl_future_unref(self.future)
        self.library.evl_stream_unref(self.stream)
        check(self.library.evl_loop_close(self.loop))
        self.library.evl_loop_unref(self.loop)
        self.peer.close()


class Reader(asyncio.StreamReader):
    """asyncio's, but that whoever waits takes what has come before it is decided whether too much is left: evl hands out at once."""

    def feed_data(self, data):
        self._buffer.extend(data)
        self._wakeup_waiter()

    def consider_pausing(self):
        if self._waiter is None and not self._paused and not self._eof and len(self._buffer) > 2 * self._limit:
            self._paused = True
            self._transport.pause_reading()


class OnAsyncio:
    """A StreamReader, and the transport that feeds it."""

    def __init__(self, loop, limit):
        self.loop, self.task = loop, None
        self.paused, self.held, self.eof_is_held = False, b"", False
        self.reader = Reader(limit=limit, loop=loop)
        self.reader.set_transport(self)

    def pause_reading(self):
        self.paused = True

    def resume_reading(self):
        self.paused = False
        self.loop.call_soon(self.deliver)

    def deliver(self):
        if self.paused:
            return
        if self.held:
            data, self.held = self.held, b""
            self.reader.feed_data(data)
        if self.eof_is_held:
            self.eof_is_held = False
            self.reader.feed_eof()

    def settle(self):
        for _ in range(12):
            self.loop.run_until_complete(asyncio.sleep(0))
        self.reader.consider_pausing()

    def feed(self, data):
        self.held += data
        self.deliver()
        self.settle()

    def feed_eof(self):
        self.eof_is_held = True
        self.deliver()
        self.settle()

    def begin(self, kind, what):
        function = getattr(self.reader, kind)
        self.task = self.loop.create_task(function() if kind == "readline" else function(what))
        self.settle()

    def cancel(self):
        self.task.cancel()
        self.settle()
        self.task = None

    def answer(self):
        if self.task is None or not self.task.done():
            return None
        task, self.task = self.task, None
        try:
            return "bytes", task.result()
        except asyncio.IncompleteReadError as error:
            return "incomplete", error.partial
        except asyncio.LimitOverrunError as error:
            return "overrun", error.consumed
        except ValueError:
            return ("too long",)

    def at_eof(self):
        return self.reader.at_eof()

    def is_reading(self):
        return not self.paused

    def close(self):
        if self.task is not None:
            self.cancel()


def some_read(rng):
    kind = rng.choice(["read", "readexactly", "readline", "readuntil", "readuntil"])
    if kind == "read":
        return kind, rng.choice([0, -1]) if rng.random() < 0.05 else rng.choice([1, 2, 3, 5, 10])
    if kind == "readexactly":
        return kind, rng.choice([0, 1, 2, 4, 9, 15])
    return kind, rng.choice(SEPARATORS) if kind == "readuntil" else None


def run_program(library, loop, seed):
    """Returns what was done when something differs."""
    rng = random.Random(seed)
    limit = rng.choice(LIMITS)
    here, there = OnEvl(library, limit), OnAsyncio(loop, limit)
    done, ended, read = [f"limit {limit}"], False, None
    try:
        for _ in range(rng.randint(5, 40)):
            chance = rng.random()
            if chance < 0.45 and not ended:
                data = bytes(rng.choice(b"aab\n") for _ in range(rng.randint(1, 12)))
                done.append(f"feed {data}")
                here.feed(data)
                there.feed(data)
            elif chance < 0.48 and not ended:
                ended = True
                done.append("feed_eof")
                here.feed_eof()
                there.feed_eof()
            elif not here.is_waiting():
                read = some_read(rng)
                done.append(f"begin {read}")
                here.begin(*read)
                there.begin(*read)
            elif chance < 0.55 and read != ("read", -1):  # asyncio loses what such a one has read
                done.append("cancel")
                here.cancel()
                there.cancel()
            answers = here.answer(), there.answer()
            done.append(f"answers {answers[0]}, {answers[1]}")
            if answers[0] != answers[1]:
                return done
            if here.at_eof() != there.at_eof():
                return done + [f"at_eof {here.at_eof()}, {there.at_eof()}"]
            if not ended and not here.is_waiting() and here.is_reading() != there.is_reading():
                return done + [f"reading {here.is_reading()}, {there.is_reading()}"]
    finally:
        here.close()
        there.close()
    return None


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--programs", type=int, default=1000)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--library", default=os.environ.get("EVL_LIBRARY", "libevl.so.0"))
    options = parser.parse_args()
    seed = int(time.time() * 1000) % 10**9 if options.seed is None else options.seed
    library = ctypes.CDLL(options.library)
    for name in ("evl_stream_ref", "evl_stream_get_transport"):
        getattr(library, name).restype = c_void_p
    loop = asyncio.new_event_loop()
    print(f"seed {seed}: programs {seed} to {seed + options.programs - 1}", flush=True)
    for number in range(options.programs):
        different = run_program(library, loop, seed + number)
        if different is not None:
            print(f"program {seed + number} (evl's answers first):", *different, sep="\n  ")
            print(f"{number} passed, 1 failed")
            sys.exit(1)
    loop.close()
    print(f"{options.programs} passed, 0 failed")


main()
