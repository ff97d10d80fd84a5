"""Servers, also what became of them since Python 3.11."""

import asyncio
import gc
import os
import socket
import sys
import tempfile
import unittest
import weakref

import evl
from support import LoopTest


class Servers(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.path = os.path.join(directory.name, "socket")
        self.loop = evl.new_event_loop()
        self.addCleanup(self.loop.close)

    def serve(self, **options):
        return self.loop.run_until_complete(self.loop.create_unix_server(asyncio.Protocol, **options))

    def test_the_file_goes(self):
        for given in (self.path, os.fsencode(self.path)):
            server = self.serve(path=given, cleanup_socket=True)
            self.assertTrue(os.path.exists(self.path))
            server.close()
            self.assertFalse(os.path.exists(self.path))

    def test_the_file_of_a_socket_goes(self):
        sock = socket.socket(socket.AF_UNIX)
        sock.bind(self.path)
        self.serve(sock=sock, cleanup_socket=True).close()
        self.assertFalse(os.path.exists(self.path))

    def test_the_file_stays(self):
        self.serve(path=self.path, cleanup_socket=False).close()
        self.assertTrue(os.path.exists(self.path))
        self.serve(path=self.path).close()
        self.assertEqual(os.path.exists(self.path), sys.version_info < (3, 13))

    def test_a_file_that_is_gone_or_anothers(self):
        server = self.serve(path=self.path, cleanup_socket=True)
        os.unlink(self.path)
        other = socket.socket(socket.AF_UNIX)
        self.addCleanup(other.close)
        # As long as the first file's number is not used again.
        with open(self.path + ".first", "w"), open(self.path + ".second", "w"):
            other.bind(self.path)
        server.close()
        self.assertTrue(os.path.exists(self.path))
        os.unlink(self.path)
        server = self.serve(path=self.path, cleanup_socket=True)
        os.unlink(self.path)
        server.close()

    def test_abstract_names(self):
        self.serve(path="\0evl_%d" % os.getpid(), cleanup_socket=True).close()

    def test_keep_alive(self):
        async def main():
            got = self.loop.create_future()

            class Server(asyncio.Protocol):
                def connection_made(self, transport):
                    sock = transport.get_extra_info("socket")
                    got.set_result(sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE))

            server = await self.loop.create_server(Server, "127.0.0.1", 0, keep_alive=True)
            self.assertTrue(server.is_serving())
            with socket.create_connection(server.sockets[0].getsockname()):
                self.assertEqual(await got, 1)
            server.close()
        self.loop.run_until_complete(main())


class Serving(LoopTest):
    def test_a_server_that_nobody_refers_to(self):
        class Greeting(asyncio.Protocol):
            def connection_made(self, transport):
                transport.write(b"hello")
                transport.close()

        async def main():
            server = await self.loop.create_server(Greeting, "127.0.0.1", 0)
            address, gone = server.sockets[0].getsockname(), weakref.ref(server)
            del server
            gc.collect()
            reader, writer = await asyncio.open_connection(*address)
            self.assertEqual(await reader.read(), b"hello")
            writer.close()
            await writer.wait_closed()
            server = gone()
            server.close()
            await server.wait_closed()
            del server
            await asyncio.sleep(0.01)
            gc.collect()
            self.assertIsNone(gone())
        self.loop.run_until_complete(main())

    def test_a_server_of_no_hosts(self):
        async def main():
            server = await self.loop.create_server(asyncio.Protocol, [], 0)
            self.assertEqual(server.sockets, ())
            self.assertTrue(server.is_serving())
            server.close()
            await server.wait_closed()
            self.assertFalse(server.is_serving())
        self.loop.run_until_complete(main())

    def test_a_factory_of_a_server_that_fails(self):
        def factory():
            raise ValueError("of the factory")

        async def main():
            server = await self.loop.create_server(factory, "127.0.0.1", 0)
            for debug in (False, True):
                self.loop.set_debug(debug)
                _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
                await asyncio.sleep(0.02)
                writer.close()
                self.assertEqual(told, ["of the factory"] * debug)
            server.close()
        told = []
        self.loop.set_exception_handler(lambda loop, context: told.append(str(context["exception"])))
        self.loop.run_until_complete(main())


if __name__ == "__main__":
    unittest.main()
