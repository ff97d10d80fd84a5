"""Transports and their protocols."""

import asyncio
import contextvars
import socket
import unittest

from support import LoopTest


class Transports(LoopTest):
    def test_a_failing_protocol(self):
        told, lost = [], []
        self.loop.set_exception_handler(lambda loop, context: told.append(context))

        class Failing(asyncio.Protocol):
            def data_received(self, data):
                raise ValueError("of data")

            def connection_lost(self, exc):
                lost.append(exc)

        async def main():
            here, there = socket.socketpair()
            transport, protocol = await self.loop.create_unix_connection(Failing, sock=here)
            there.send(b"x")
            while not lost:
                await asyncio.sleep(0.001)
            self.assertIs(told[0]["transport"], transport)
            self.assertIs(told[0]["protocol"], protocol)
            there.close()
        self.loop.run_until_complete(main())
        self.assertEqual(told[0]["message"], "Fatal error: protocol.data_received() call failed.")
        self.assertIs(told[0]["exception"], lost[0])

    def test_what_is_written_later_is_kept(self):
        class Sink(asyncio.Protocol):
            pass

        async def main():
            here, there = socket.socketpair()
            there.setblocking(False)
            transport, _ = await self.loop.create_unix_connection(Sink, sock=here)
            changed = bytearray(b"a" * 1_000_000)
            transport.write(changed)
            changed[:] = b"b" * 1_000_000
            transport.write(b"c" * 1_000_000)
            transport.writelines([b"d" * 500_000, memoryview(b"e" * 500_000)])
            self.assertGreater(transport.get_write_buffer_size(), 0)
            transport.close()
            got = bytearray()
            while data := await self.loop.sock_recv(there, 1 << 20):
                got += data
            there.close()
            self.assertEqual(bytes(got), b"a" * 1_000_000 + b"c" * 1_000_000 + b"d" * 500_000 + b"e" * 500_000)
        self.loop.run_until_complete(main())

    def test_the_context_of_a_connection(self):
        variable = contextvars.ContextVar("variable")
        got = []

        class Noting(asyncio.Protocol):
            def connection_made(self, transport):
                got.append(variable.get())
                variable.set("made")

            def data_received(self, data):
                got.append(variable.get())

        async def main():
            variable.set("main")
            here, there = socket.socketpair()
            transport, _ = await self.loop.create_unix_connection(Noting, sock=here)
            variable.set("later")
            there.send(b"x")
            await asyncio.sleep(0.02)
            transport.close()
            there.close()
        self.loop.run_until_complete(main())
        self.assertEqual(got, ["main", "made"])

    def test_a_factory_that_fails(self):
        def factory():
            raise ValueError("of the factory")

        async def main():
            server = await self.loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
            with self.assertRaisesRegex(ValueError, "of the factory"):
                await self.loop.create_connection(factory, *server.sockets[0].getsockname())
            server.close()
        self.loop.run_until_complete(main())

    def test_a_buffered_protocol_by_its_methods(self):
        class Buffered(asyncio.BaseProtocol):
            def __init__(self):
                self.buffer = bytearray(4)

            def get_buffer(self, hint):
                return self.buffer

            def buffer_updated(self, size):
                got.append(bytes(self.buffer[:size]))

        async def main():
            here, there = socket.socketpair()
            transport, _ = await self.loop.create_unix_connection(Buffered, sock=here)
            there.send(b"abcdef")
            while b"".join(got) != b"abcdef":
                await asyncio.sleep(0)
            transport.close()
            there.close()
        got = []
        self.loop.run_until_complete(main())
        self.assertEqual(got, [b"abcd", b"ef"])


if __name__ == "__main__":
    unittest.main()
