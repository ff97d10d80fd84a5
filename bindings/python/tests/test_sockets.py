"""Operations on sockets, and readers and writers beside them."""

import asyncio
import gc
import socket
import unittest
import weakref

from support import LoopTest


class Sockets(LoopTest):
    def setUp(self):
        super().setUp()
        self.here, self.there = socket.socketpair()
        self.addCleanup(self.here.close)
        self.addCleanup(self.there.close)
        self.here.setblocking(False)

    def test_a_reader_removed_under_an_operation(self):
        async def main():
            receiving = asyncio.ensure_future(self.loop.sock_recv(self.here, 10))
            await asyncio.sleep(0)
            self.assertTrue(self.loop.remove_reader(self.here))
            self.assertFalse(self.loop.remove_reader(self.here))
            self.there.send(b"x")
            await asyncio.sleep(0.01)
            self.assertFalse(receiving.done())
            receiving.cancel()
            with self.assertRaises(asyncio.CancelledError):
                await receiving
            self.assertEqual(await self.loop.sock_recv(self.here, 10), b"x")
        self.loop.run_until_complete(main())

    def test_a_reader_instead_of_an_operation(self):
        async def main():
            called = asyncio.Event()
            receiving = asyncio.ensure_future(self.loop.sock_recv(self.here, 10))
            await asyncio.sleep(0)
            self.loop.add_reader(self.here, called.set)
            self.there.send(b"x")
            await called.wait()
            self.assertFalse(receiving.done())
            receiving.cancel()
            await asyncio.gather(receiving, return_exceptions=True)
            self.assertTrue(self.loop.remove_reader(self.here))
        self.loop.run_until_complete(main())

    def test_an_operation_beside_a_reader(self):
        async def main():
            # What is there already is received, and the reader stays.
            self.loop.add_reader(self.here, lambda: None)
            self.there.send(b"x")
            self.assertEqual(await self.loop.sock_recv(self.here, 10), b"x")
            self.assertTrue(self.loop.remove_reader(self.here))
            # What has to wait takes its place.
            self.loop.add_reader(self.here, lambda: None)
            self.loop.call_later(0.01, self.there.send, b"y")
            self.assertEqual(await self.loop.sock_recv(self.here, 10), b"y")
            self.assertFalse(self.loop.remove_reader(self.here))
            # So does a second operation.
            receiving = [asyncio.ensure_future(self.loop.sock_recv(self.here, 10)) for _ in range(2)]
            await asyncio.sleep(0)
            self.there.send(b"z")
            self.assertEqual(await receiving[1], b"z")
            self.assertFalse(receiving[0].done())
            receiving[0].cancel()
            await asyncio.gather(receiving[0], return_exceptions=True)
        self.loop.run_until_complete(main())

    def test_an_operation_beside_a_writer(self):
        async def main():
            self.loop.add_writer(self.here, lambda: None)
            await self.loop.sock_sendall(self.here, b"x")
            self.assertTrue(self.loop.remove_writer(self.here))
            self.assertEqual(self.there.recv(10), b"x")
            self.loop.add_writer(self.here, lambda: None)
            size = 10_000_000
            sending = asyncio.ensure_future(self.loop.sock_sendall(self.here, b"x" * size))
            self.there.setblocking(False)
            while size > 0:
                size -= len(await self.loop.sock_recv(self.there, 1 << 20))
            await sending
            self.assertFalse(self.loop.remove_writer(self.here))
        self.loop.run_until_complete(main())

    def test_a_reader_of_a_closed_socket(self):
        async def main():
            self.loop.add_reader(self.here, print)
            self.here.close()
            self.assertTrue(self.loop.remove_reader(self.here))
            with self.assertRaises(ValueError):
                self.loop.remove_reader(self.here)
        self.loop.run_until_complete(main())

    def test_no_cycle_through_an_exception(self):
        class Told:
            pass

        async def main():
            told = Told()
            gone.append(weakref.ref(told))
            try:
                await self.loop.create_connection(asyncio.Protocol, "127.0.0.1", 1)
            except OSError:
                pass
        gone = []
        gc.collect()
        gc.disable()
        try:
            self.loop.run_until_complete(main())
            self.assertIsNone(gone[0]())
        finally:
            gc.enable()

    def test_blocking_sockets(self):
        async def main():
            with socket.socket() as listening, socket.socket() as sock:
                listening.bind(("127.0.0.1", 0))
                listening.listen()
                await self.loop.sock_connect(sock, listening.getsockname())
                await self.loop.sock_sendall(sock, b"x")
                connection, _ = listening.accept()
                with connection:
                    self.assertEqual(connection.recv(10), b"x")
        self.loop.set_debug(False)
        self.loop.run_until_complete(main())


if __name__ == "__main__":
    unittest.main()
