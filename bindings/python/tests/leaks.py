"""Looks whether objects or memory are left behind by a million callbacks, timers, futures, and thousands of connections.

    leaks.py [--quick]

Each part runs once to warm up, then is measured: the interpreter's memory blocks and the process's resident memory must not grow
with the number of rounds.
"""

import argparse
import asyncio
import gc
import os
import subprocess
import sys
import tempfile

import evl

PAGE = os.sysconf("SC_PAGE_SIZE")


def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * PAGE


def call_soon_chain(loop, count):
    def again():
        nonlocal count
        count -= 1
        if count > 0:
            loop.call_soon(again)
        else:
            loop.stop()
    loop.call_soon(again)
    loop.run_forever()


def call_soon_with_arguments(loop, count):
    for _ in range(count // 1000):
        for index in range(1000):
            loop.call_soon(max, index, 5)
        loop.call_soon(loop.stop)
        loop.run_forever()


def threadsafe(loop, count):
    def post():
        for _ in range(count):
            loop.call_soon_threadsafe(max, 1, 2)
        loop.call_soon_threadsafe(loop.stop)
    loop.run_in_executor(None, post)
    loop.run_forever()


def timers(loop, count):
    for _ in range(count // 1000):
        handles = [loop.call_later(index / 1e7, max, index, 1) for index in range(1000)]
        for handle in handles[::2]:
            handle.cancel()
        loop.call_later(0.0002, loop.stop)
        loop.run_forever()


def failures(loop, count):
    loop.set_exception_handler(lambda loop, context: None)

    def fail():
        raise ValueError
    for _ in range(count):
        loop.call_soon(fail)
    loop.call_soon(loop.stop)
    loop.run_forever()
    loop.set_exception_handler(None)


def tasks(loop, count):
    async def nothing():
        await asyncio.sleep(0)

    async def main():
        for _ in range(count):
            await loop.create_task(nothing())
    loop.run_until_complete(main())


def connections(loop, count):
    async def main():
        async def serve(reader, writer):
            writer.write(await reader.read(100))
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        host, port = server.sockets[0].getsockname()
        for _ in range(count):
            reader, writer = await asyncio.open_connection(host, port)
            writer.write(b"hello")
            assert await reader.read() == b"hello"
            writer.close()
            await writer.wait_closed()
        server.close()
        await server.wait_closed()
        # What the server's side has left is closed by now.
        await asyncio.sleep(0.01)
    loop.run_until_complete(main())


def refused(loop, count):
    async def main():
        for _ in range(count):
            try:
                await asyncio.open_connection("127.0.0.1", 1)
            except OSError:
                pass
    loop.run_until_complete(main())


def unix_connections(loop, count):
    class Echo(asyncio.BufferedProtocol):
        def connection_made(self, transport):
            self.transport = transport
            self.buffer = bytearray(64)

        def get_buffer(self, hint):
            return self.buffer

        def buffer_updated(self, size):
            self.transport.write(self.buffer[:size])

    async def main():
        with tempfile.TemporaryDirectory() as directory:
            server = await loop.create_unix_server(Echo, f"{directory}/socket")
            for _ in range(count):
                reader, writer = await asyncio.open_unix_connection(f"{directory}/socket")
                writer.writelines([b"hel", bytearray(b"lo")])
                assert await reader.readexactly(5) == b"hello"
                writer.close()
                await writer.wait_closed()
            server.close()
            await asyncio.sleep(0.01)
    loop.run_until_complete(main())


def datagrams(loop, count):
    class Counter(asyncio.DatagramProtocol):
        def connection_made(self, transport):
            self.transport = transport

        def datagram_received(self, data, address):
            if not got.done():
                got.set_result(data)

    async def main():
        nonlocal got
        for _ in range(count):
            got = loop.create_future()
            here, _ = await loop.create_datagram_endpoint(Counter, local_addr=("127.0.0.1", 0))
            there, _ = await loop.create_datagram_endpoint(Counter, remote_addr=here.get_extra_info("sockname"))
            there.sendto(b"hello")
            await got
            here.close()
            there.close()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
    got = None
    loop.run_until_complete(main())


def sockets(loop, count):
    import socket

    async def main():
        for _ in range(count):
            one, two = socket.socketpair()
            one.setblocking(False)
            two.setblocking(False)
            receiving = loop.create_task(loop.sock_recv(one, 10))
            await asyncio.sleep(0)
            await loop.sock_sendall(two, b"hello")
            assert await receiving == b"hello"
            receiving = loop.create_task(loop.sock_recv(one, 10))
            await asyncio.sleep(0)
            receiving.cancel()
            await asyncio.sleep(0)
            one.close()
            two.close()
    loop.run_until_complete(main())


def children(loop, count):
    async def main():
        for _ in range(count):
            child = await asyncio.create_subprocess_exec("cat", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            assert (await child.communicate(b"hello"))[0] == b"hello"
    loop.run_until_complete(main())


def lookups(loop, count):
    async def main():
        for _ in range(count):
            await loop.getaddrinfo("localhost", 80)
            await loop.getnameinfo(("127.0.0.1", 80))
    loop.run_until_complete(main())


def jobs(loop, count):
    def fail():
        raise ValueError

    async def main():
        for _ in range(count // 100):
            await asyncio.gather(*[loop.run_in_executor(None, int) for _ in range(90)])
            await asyncio.gather(*[loop.run_in_executor(None, fail) for _ in range(5)], return_exceptions=True)
            for job in [loop.run_in_executor(None, int) for _ in range(5)]:
                job.cancel()
            await asyncio.sleep(0)
    loop.run_until_complete(main())


def large_messages(loop, count):
    """Some of which are kept for a while."""
    class Receiver(asyncio.Protocol):
        def data_received(self, data):
            nonlocal got
            got += len(data)
            kept.append(data)
            if len(kept) > 20:
                kept.clear()
            if got >= size:
                done.set_result(None)

    async def main():
        nonlocal got, done
        with tempfile.TemporaryDirectory() as directory:
            server = await loop.create_unix_server(Receiver, f"{directory}/socket")
            transport, _ = await loop.create_unix_connection(asyncio.Protocol, f"{directory}/socket")
            for _ in range(count):
                got, done = 0, loop.create_future()
                transport.write(bytes(size))
                await done
            transport.close()
            server.close()
            kept.clear()
            await asyncio.sleep(0.01)
    got, done, kept, size = 0, None, [], 200_000
    loop.run_until_complete(main())


def loops(loop, count):
    async def main():
        await asyncio.sleep(0)
        other.call_later(1000, print)
    for _ in range(count):
        other = evl.new_event_loop()
        other.run_until_complete(main())
        other.call_soon(print)
        other.close()


PARTS = [
    (call_soon_chain, 1_000_000), (call_soon_with_arguments, 1_000_000), (threadsafe, 200_000), (timers, 200_000),
    (failures, 20_000), (tasks, 200_000), (connections, 10_000), (refused, 2_000), (unix_connections, 5_000), (datagrams, 2_000),
    (sockets, 5_000), (children, 200), (lookups, 2_000),
    (jobs, 50_000), (large_messages, 2_000), (loops, 500),
]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("names", nargs="*")
    options = parser.parse_args()
    bad = 0
    for part, count in PARTS:
        if options.names and part.__name__ not in options.names:
            continue
        if options.quick:
            count = max(count // 10, 50)
        loop = evl.new_event_loop()
        # Twice: the first rounds fill what is kept for the next ones.
        for _ in range(2):
            part(loop, max(count // 10, 1000 if part in (call_soon_with_arguments, timers) else 20))
        gc.collect()
        blocks, memory = sys.getallocatedblocks(), resident()
        part(loop, count)
        gc.collect()
        more_blocks, more_memory = sys.getallocatedblocks() - blocks, resident() - memory
        # A leak is of something for each round; what the allocator keeps is not.
        leaks = more_blocks > 600 + count // 20 or more_memory > 4_000_000 + count * 4
        bad += leaks
        print(f"{part.__name__}: {count} rounds, {more_blocks:+} blocks, {more_memory // 1024:+} KiB{': LEAKS' if leaks else ''}",
              flush=True)
        if not loop.is_closed():
            loop.run_until_complete(loop.shutdown_default_executor())
            loop.close()
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
