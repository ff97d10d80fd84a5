"""Connections: how they are made, given up, and refused."""

import asyncio
import contextlib
import gc
import os
import socket
import ssl
import tempfile
import time
import unittest

from support import LoopTest


class Connections(LoopTest):
    def test_closed_by_connection_made(self):
        class Closing(asyncio.Protocol):
            def connection_made(self, transport):
                transport.close()

            def connection_lost(self, exc):
                got.append(exc)

        async def main():
            here, there = socket.socketpair()
            with there:
                transport, protocol = await self.loop.create_connection(Closing, sock=here)
                self.assertIsInstance(protocol, Closing)
            listening = await self.loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
            transport, protocol = await self.loop.create_connection(Closing, *listening.sockets[0].getsockname())
            self.assertIsInstance(protocol, Closing)
            await asyncio.sleep(0.01)
            # What was not asked for before is there now, too.
            sock = transport.get_extra_info("socket")
            self.assertEqual((sock.family, sock.type, sock.fileno()), (socket.AF_INET, socket.SOCK_STREAM, -1))
            transport, protocol = await self.loop.create_datagram_endpoint(Closing, local_addr=("127.0.0.1", 0))
            self.assertIsInstance(protocol, Closing)
            listening.close()
            await asyncio.sleep(0.01)
            self.assertEqual(got, [None] * 3)
        got = []
        self.loop.run_until_complete(main())

    def test_nothing_comes_before_the_connection_is_returned(self):
        class Noting(asyncio.Protocol):
            def connection_made(self, transport):
                got.append("made")

            def data_received(self, data):
                got.append(data)

            def datagram_received(self, data, address):
                got.append(data)

        async def main():
            for kind in ("stream", "accepted", "datagram") * 20:
                got.clear()
                if kind == "datagram":
                    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
                else:
                    here, there = socket.socketpair()
                with there:
                    there.send(b"x")
                    if kind == "stream":
                        transport, _ = await self.loop.create_connection(Noting, sock=here)
                    elif kind == "accepted":
                        transport, _ = await self.loop.connect_accepted_socket(Noting, here)
                    else:
                        transport, _ = await self.loop.create_datagram_endpoint(Noting, sock=here)
                    got.append("returned")
                    while len(got) < 3:
                        await asyncio.sleep(0.001)
                    self.assertEqual(got, ["made", "returned", b"x"])
                    transport.close()
                    await asyncio.sleep(0)
        got = []
        self.loop.run_until_complete(main())

    def test_the_number_of_a_descriptor_that_was_read_from(self):
        class Noting(asyncio.Protocol):
            def connection_made(self, transport):
                self.got = loop.create_future()

            def data_received(self, data):
                self.got.set_result(data)

        loop = self.loop

        async def main():
            old, peer = socket.socketpair()
            loop.add_reader(old, int)
            await asyncio.sleep(0.01)
            number = old.fileno()
            loop.remove_reader(old)
            old.close()
            peer.close()
            ours, theirs = socket.socketpair()
            if theirs.fileno() == number:
                ours, theirs = theirs, ours
            self.assertEqual(ours.fileno(), number)
            ours.setblocking(False)
            with theirs:
                transport, protocol = await loop.connect_accepted_socket(Noting, ours)
                theirs.send(b"hello")
                self.assertEqual(await asyncio.wait_for(protocol.got, 20), b"hello")
                transport.close()

        loop.run_until_complete(main())

    def test_cancelled_connections(self):
        async def main():
            with socket.socket() as listening:
                listening.bind(("127.0.0.1", 0))
                listening.listen(1)
                tasks = [asyncio.ensure_future(asyncio.open_connection(*listening.getsockname())) for _ in range(10)]
                await asyncio.sleep(0)
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
        self.loop.run_until_complete(main())

    def test_cancelled_when_it_is_done(self):
        # Between the end of what is waited for and its being told; nothing of it may stay behind.
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        path = f"{directory.name}/socket"
        listening = socket.create_server(("127.0.0.1", 0), backlog=100)
        accepting = socket.create_server(("127.0.0.1", 0), backlog=100)
        accepting.setblocking(False)
        unix = socket.socket(socket.AF_UNIX)
        unix.bind(path)
        unix.listen(100)
        for sock in (listening, accepting, unix):
            self.addCleanup(sock.close)
        loop, protocol = self.loop, asyncio.Protocol

        def given():
            ours, theirs = socket.socketpair()
            theirs.close()
            return loop.connect_accepted_socket(protocol, ours)

        kinds = {
            "connection": lambda: loop.create_connection(protocol, *listening.getsockname()),
            "TLS": lambda: loop.create_connection(
                protocol, *listening.getsockname(), ssl=ssl.create_default_context(), server_hostname="x"),
            "unix connection": lambda: loop.create_unix_connection(protocol, path),
            "socket": given,
            "sock_accept": lambda: loop.sock_accept(accepting),
            "server": lambda: loop.create_server(protocol, "localhost", 0),
            "server of a socket": lambda: loop.create_server(protocol, sock=socket.create_server(("127.0.0.1", 0))),
            "unix server": lambda: loop.create_unix_server(protocol, f"{path}-{time.monotonic_ns()}"),
            "datagrams": lambda: loop.create_datagram_endpoint(asyncio.DatagramProtocol, ("127.0.0.1", 0)),
            "child": lambda: loop.subprocess_exec(asyncio.SubprocessProtocol, "sleep", "100"),
        }

        def left():
            gc.collect()
            descriptors = set(os.listdir("/proc/self/fd"))
            with open(f"/proc/self/task/{os.getpid()}/children") as children:
                return len(descriptors), children.read()

        async def attempt(kind, rounds):
            """Whether it was cancelled."""
            task = asyncio.ensure_future(kinds[kind]())
            await asyncio.sleep(0)
            with contextlib.ExitStack() as stack:
                if kind == "sock_accept":
                    stack.enter_context(socket.create_connection(accepting.getsockname()))
                for _ in range(rounds):
                    await asyncio.sleep(0)
                task.cancel()
                try:
                    made = await task
                except asyncio.CancelledError:
                    return True
                (made[0] if type(made) is tuple else made).close()
                return False

        async def main():
            # What the loop makes when it first needs it.
            await attempt("connection", 100)
            await asyncio.sleep(0.01)
            for kind in kinds:
                before = left()
                for rounds in range(10):
                    with self.subTest(kind=kind, rounds=rounds):
                        await attempt(kind, rounds)
                        # What is closed takes its time.
                        for _ in range(1000):
                            if left() == before:
                                break
                            await asyncio.sleep(0.001)
                        self.assertEqual(left(), before)

        self.loop.run_until_complete(main())

    def test_an_abstract_name(self):
        async def main():
            name = f"\0evl-{os.getpid()}"

            async def serve(reader, writer):
                writer.write(await reader.read(10))
                writer.close()
            server = await asyncio.start_unix_server(serve, name)
            reader, writer = await asyncio.open_unix_connection(name)
            writer.write(b"hello")
            self.assertEqual(await reader.read(), b"hello")
            writer.close()
            server.close()
        self.loop.run_until_complete(main())

    def test_what_cannot_be_connected_or_bound(self):
        async def main():
            with self.assertRaises(UnicodeError):
                await self.loop.getaddrinfo("a" * 80, 80)
            sock = socket.socket()
            sock.close()
            with self.assertRaises(OSError):
                await self.loop.create_connection(asyncio.Protocol, sock=sock)
            with tempfile.NamedTemporaryFile() as file, self.assertRaisesRegex(OSError, "already in use"):
                await self.loop.create_unix_server(asyncio.Protocol, file.name)
            with socket.socket() as sock, self.assertRaisesRegex(OSError, r"Connect call failed \('127.0.0.1', 1\)"):
                sock.setblocking(False)
                await self.loop.sock_connect(sock, ("127.0.0.1", 1))
        self.loop.run_until_complete(main())

    def test_what_failures_are_called(self):
        async def main():
            for port in (65536, -1):
                with self.assertRaisesRegex(OverflowError, "connect.*port must be 0-65535"):
                    await self.loop.create_connection(asyncio.Protocol, "127.0.0.1", port)
                with self.assertRaisesRegex(OverflowError, "bind.*port must be 0-65535"):
                    await self.loop.create_server(asyncio.Protocol, "127.0.0.1", port)
                with self.assertRaisesRegex(OverflowError, "bind.*port must be 0-65535"):
                    await self.loop.create_datagram_endpoint(asyncio.DatagramProtocol, ("127.0.0.1", port))
            with self.assertRaises(FileNotFoundError) as raised:
                await self.loop.create_unix_connection(asyncio.Protocol, "/nothing/here")
            self.assertEqual(str(raised.exception), "[Errno 2] No such file or directory")
            here, there = socket.socketpair()
            here.setblocking(False)
            there.close()
            with here, self.assertRaises(BrokenPipeError) as raised:
                await self.loop.sock_sendall(here, b"x")
            self.assertEqual(str(raised.exception), "[Errno 32] Broken pipe")
            with self.assertRaisesRegex(OSError, r"bind on address \('192.0.2.1', 0\): cannot assign requested address"):
                await self.loop.create_server(asyncio.Protocol, "192.0.2.1", 0)
            with self.assertRaisesRegex(ValueError, "can not get address information"):
                await self.loop.create_datagram_endpoint(
                    asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0), remote_addr=("::1", 1))
            with tempfile.TemporaryFile() as file, self.assertRaisesRegex(ValueError, "pipes/sockets only"):
                await self.loop.connect_read_pipe(asyncio.Protocol, file)
        self.loop.run_until_complete(main())


if __name__ == "__main__":
    unittest.main()
