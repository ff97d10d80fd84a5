"""Measures evl's loop beside asyncio's own, uvloop and rloop.

    bench.py [--quick] [--json FILE] [--loops evl,uvloop,...] [workload]...

Every figure is the median of several rounds, each in a process of its own; the loops take turns. Both ends of a connection are in
the loop that is measured. Operations a second: more is better.
"""

import argparse
import asyncio
import importlib
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time

LOOPS = ("evl", "uvloop", "asyncio", "rloop")


def new_loop(name):
    if name == "asyncio":
        return asyncio.new_event_loop()
    return importlib.import_module(name).new_event_loop()


def repeat(seconds, once):
    """Calls once(), which says how many operations it did, for so long; returns operations a second."""
    once()
    began, done = time.perf_counter(), 0
    while (took := time.perf_counter() - began) < seconds:
        done += once()
    return done / took


async def repeat_async(seconds, once):
    await once()
    began, done = time.perf_counter(), 0
    while (took := time.perf_counter() - began) < seconds:
        done += await once()
    return done / took


def call_soon(loop, seconds):
    def once():
        left = 50_000

        def again():
            nonlocal left
            left -= 1
            if left:
                loop.call_soon(again)
            else:
                loop.stop()
        loop.call_soon(again)
        loop.run_forever()
        return 50_000
    return repeat(seconds, once)


def call_soon_arguments(loop, seconds):
    def nothing(a, b):
        pass

    def once():
        for _ in range(20_000):
            loop.call_soon(nothing, 1, 2)
        loop.call_soon(loop.stop)
        loop.run_forever()
        return 20_000
    return repeat(seconds, once)


def timers(loop, seconds):
    """100,000 timers set in no order, due at once, and fired."""
    delays = [(index * 7919 % 100_003) / 1e9 for index in range(100_000)]

    def nothing():
        pass

    def once():
        call_later = loop.call_later
        for delay in delays:
            call_later(delay, nothing)
        call_later(0.0002, loop.stop)
        loop.run_forever()
        return len(delays)
    return repeat(seconds, once)


def timers_cancelled(loop, seconds):
    """Timers set and cancelled while 100,000 others wait."""
    waiting = [loop.call_later(1000 + index / 1000, print) for index in range(100_000)]

    def once():
        for index in range(5_000):
            loop.call_later(50 + index / 1000, print).cancel()
        loop.call_soon(loop.stop)
        loop.run_forever()
        return 5_000
    result = repeat(seconds, once)
    for timer in waiting:
        timer.cancel()
    return result


def threadsafe(loop, seconds):
    def nothing():
        pass

    def once():
        def post():
            for _ in range(20_000):
                loop.call_soon_threadsafe(nothing)
            loop.call_soon_threadsafe(loop.stop)
        loop.run_in_executor(None, post)
        loop.run_forever()
        return 20_000
    return repeat(seconds, once)


def tasks(loop, seconds):
    async def nothing():
        pass

    async def once():
        for _ in range(5_000):
            await loop.create_task(nothing())
        return 5_000
    return loop.run_until_complete(repeat_async(seconds, once))


def ping_pong(loop, seconds):
    """Two tasks that wake each other by futures."""
    async def once():
        ball = [loop.create_future(), loop.create_future()]

        async def player(mine):
            for _ in range(5_000):
                if mine == 0:
                    ball[1].set_result(None)
                await ball[mine]
                ball[mine] = loop.create_future()
                if mine == 1:
                    ball[0].set_result(None)
        await asyncio.gather(player(0), player(1))
        return 10_000
    return loop.run_until_complete(repeat_async(seconds, once))


def sleeps(loop, seconds):
    async def once():
        for _ in range(5_000):
            await asyncio.sleep(0)
        return 5_000
    return loop.run_until_complete(repeat_async(seconds, once))


def executor(loop, seconds):
    def nothing():
        pass

    async def once():
        for _ in range(500):
            await loop.run_in_executor(None, nothing)
        return 500
    return loop.run_until_complete(repeat_async(seconds, once))


class EchoServer(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.transport.write(data)


class EchoClient(asyncio.Protocol):
    def __init__(self, message, counter):
        self.message, self.counter, self.got = message, counter, 0

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.got += len(data)
        if self.got >= len(self.message):
            self.got = 0
            self.counter[0] += 1
            self.transport.write(self.message)


def echo_protocol(loop, seconds, size, connections, unix):
    async def main():
        counter = [0]
        with tempfile.TemporaryDirectory() as directory:
            path = f"{directory}/socket"
            if unix:
                server = await loop.create_unix_server(EchoServer, path)
            else:
                server = await loop.create_server(EchoServer, "127.0.0.1", 0)
                address = server.sockets[0].getsockname()
            transports = []
            for _ in range(connections):
                def make():
                    return EchoClient(b"x" * size, counter)
                connecting = loop.create_unix_connection(make, path) if unix else loop.create_connection(make, *address)
                transports.append((await connecting)[0])
            for transport in transports:
                transport.write(b"x" * size)
            await asyncio.sleep(seconds / 4)
            counter[0], began = 0, time.perf_counter()
            await asyncio.sleep(seconds)
            result = counter[0] / (time.perf_counter() - began)
            for transport in transports:
                transport.abort()
            server.close()
            await asyncio.sleep(0.01)
            return result
    return loop.run_until_complete(main())


def echo_streams(loop, seconds, size, connections):
    async def main():
        counter = [0]

        async def serve(reader, writer):
            try:
                while data := await reader.read(256 * 1024):
                    writer.write(data)
                    await writer.drain()
            except (ConnectionError, asyncio.CancelledError):
                pass

        async def client():
            reader, writer = await asyncio.open_connection(*address)
            message = b"x" * size
            try:
                while True:
                    writer.write(message)
                    await reader.readexactly(size)
                    counter[0] += 1
            finally:
                writer.close()
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        clients = [loop.create_task(client()) for _ in range(connections)]
        await asyncio.sleep(seconds / 4)
        counter[0], began = 0, time.perf_counter()
        await asyncio.sleep(seconds)
        result = counter[0] / (time.perf_counter() - began)
        for task in clients:
            task.cancel()
        await asyncio.gather(*clients, return_exceptions=True)
        server.close()
        await asyncio.sleep(0.05)
        return result
    return loop.run_until_complete(main())


def connect(loop, seconds):
    """Connections made, used for one small exchange, and closed."""
    async def main():
        server = await loop.create_server(EchoServer, "127.0.0.1", 0)
        address = server.sockets[0].getsockname()

        async def once():
            for _ in range(100):
                reader, writer = await asyncio.open_connection(*address)
                writer.write(b"x")
                await reader.readexactly(1)
                writer.close()
            return 100
        result = await repeat_async(seconds, once)
        server.close()
        await asyncio.sleep(0.05)
        return result
    return loop.run_until_complete(main())


WORKLOADS = {
    "call_soon chain": call_soon, "call_soon, 2 arguments": call_soon_arguments, "100,000 timers": timers,
    "call_later and cancel": timers_cancelled, "call_soon_threadsafe": threadsafe, "create_task and await": tasks,
    "task ping-pong": ping_pong, "sleep(0)": sleeps, "run_in_executor": executor, "connect and close": connect,
}
for kind in ("TCP", "UNIX"):
    for amount, text in ((64, "64 B"), (1024, "1 KiB"), (102400, "100 KiB")):
        for number in (1, 50):
            WORKLOADS[f"{kind} echo, protocol, {text}, {number}"] = (
                lambda loop, seconds, amount=amount, number=number, unix=kind == "UNIX":
                echo_protocol(loop, seconds, amount, number, unix))
for amount, text in ((64, "64 B"), (1024, "1 KiB"), (102400, "100 KiB")):
    for number in (1, 50):
        WORKLOADS[f"TCP echo, streams, {text}, {number}"] = (
            lambda loop, seconds, amount=amount, number=number: echo_streams(loop, seconds, amount, number))


def measure(workload, name, seconds):
    loop = new_loop(name)
    asyncio.set_event_loop(loop)
    print(json.dumps(WORKLOADS[workload](loop, seconds)))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json")
    parser.add_argument("--loops", default=",".join(LOOPS))
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("names", nargs="*")
    options = parser.parse_args()
    if options.measure:
        workload, name, seconds = options.measure
        return measure(workload, name, float(seconds))

    loops = []
    for name in options.loops.split(","):
        try:
            new_loop(name).close()
            loops.append(name)
        except ImportError as error:
            print(f"without {name}: {error}")
    rounds, seconds = (3, 0.15) if options.quick else (7, 0.4)
    results = {}
    print(f"CPython {platform.python_version()}, {platform.machine()}, medians of {rounds} rounds of {seconds} s; operations a second")
    print(f"{'':34}" + "".join(f"{name:>12}" for name in loops) + "   evl/uvloop")
    for workload in WORKLOADS:
        if options.names and not any(part in workload for part in options.names):
            continue
        figures = {name: [] for name in loops}
        for _ in range(rounds):
            for name in loops:
                ran = subprocess.run(
                    [sys.executable, __file__, "--measure", workload, name, str(seconds)], capture_output=True, text=True, timeout=120)
                try:
                    figures[name].append(json.loads(ran.stdout.splitlines()[-1]))
                except (IndexError, ValueError):
                    print(f"{workload}, {name}: {ran.stderr.strip().splitlines()[-1:]}", file=sys.stderr)
        medians = {name: statistics.median(values) for name, values in figures.items() if values}
        results[workload] = medians
        line = f"{workload:34}" + "".join(f"{medians[name]:12,.0f}" if name in medians else f"{'-':>12}" for name in loops)
        if "evl" in medians and "uvloop" in medians:
            line += f"{medians['evl'] / medians['uvloop']:13.2f}"
        print(line, flush=True)
    if options.json:
        with open(options.json, "w") as file:
            json.dump({"python": platform.python_version(), "rounds": rounds, "seconds": seconds, "results": results}, file, indent=1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
