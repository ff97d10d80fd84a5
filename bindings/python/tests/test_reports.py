"""What is told of failures: to exception handlers, in debug mode, and by exceptions."""

import asyncio
import logging
import os
import resource
import socket
import ssl
import sys
import threading
import unittest

import evl


class ReportTest(unittest.TestCase):
    def setUp(self):
        self.loop = evl.new_event_loop()
        self.addCleanup(self.loop.close)

    def run_main(self, coro):
        return self.loop.run_until_complete(asyncio.wait_for(coro, 20))


class Handlers(ReportTest):
    def test_the_exception_is_being_handled(self):
        seen = []
        self.loop.set_exception_handler(lambda loop, context: seen.append((sys.exc_info()[1], context["exception"])))

        def fail():
            raise ValueError("told")

        class Failing(asyncio.Protocol):
            def connection_made(self, transport):
                raise ValueError("of connection_made")

            def data_received(self, data):
                raise ValueError("of data_received")

        async def main():
            self.loop.call_soon(fail)
            self.loop.call_later(0, fail)
            ours, theirs = socket.socketpair()
            with theirs:
                await self.loop.create_connection(Failing, sock=ours)
                theirs.send(b"x")
                while len(seen) < 4:
                    await asyncio.sleep(0)
        self.run_main(main())
        self.assertEqual(len(seen), 4)
        for handled, told in seen:
            self.assertIs(handled, told)
        self.assertIsNone(sys.exc_info()[1])

    def test_a_handler_that_fails(self):
        def handler(loop, context):
            raise KeyError("of the handler")
        self.loop.set_exception_handler(handler)
        self.loop.call_soon(lambda: 1 / 0)
        self.loop.call_soon(self.loop.stop)
        with self.assertLogs("asyncio", logging.ERROR) as logs:
            self.loop.run_forever()
        self.assertIn("ZeroDivisionError", logs.output[0])
        self.assertIn("KeyError", logs.output[0])


class Debugging(ReportTest):
    def setUp(self):
        super().setUp()
        self.loop.set_debug(True)

    def test_where_a_task_was_made(self):
        async def nothing():
            pass

        async def main():
            task = self.loop.create_task(nothing())
            await task
            return task._source_traceback[-1]
        self.assertEqual(self.run_main(main()).filename, __file__)

    def test_where_a_handle_was_made(self):
        def callback():
            self.loop.call_exception_handler({"message": "hello"})
        self.loop.call_soon(callback)
        self.loop.call_soon(self.loop.stop)
        with self.assertLogs("asyncio", logging.ERROR) as logs:
            self.loop.run_forever()
        self.assertIn("handle_traceback: Handle created at (most recent call last):", logs.output[0])
        self.assertIn("test_where_a_handle_was_made", logs.output[0])

    def test_failed_handshakes(self):
        told = []
        self.loop.set_exception_handler(lambda loop, context: told.append(context))

        async def main():
            server = await self.loop.create_server(
                asyncio.Protocol, "127.0.0.1", 0, ssl=ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.write(b"this is no handshake\r\n\r\n")
            await reader.read()
            writer.close()
            while not told:
                await asyncio.sleep(0)
            server.close()
        self.run_main(main())
        self.assertEqual(told[0]["message"], "Error on transport creation for incoming connection")
        self.assertIsInstance(told[0]["exception"], ssl.SSLError)


class Errors(ReportTest):
    def test_what_is_no_host(self):
        for wrong in (0, 8080, True, 1.5, [5]):
            with self.assertRaises(TypeError, msg=wrong):
                self.run_main(self.loop.create_server(asyncio.Protocol, wrong, 0))
        for wrong in (0, 5.5):
            with self.assertRaises(TypeError, msg=wrong):
                self.run_main(self.loop.create_connection(asyncio.Protocol, wrong, 1))
            with self.assertRaises(TypeError, msg=wrong):
                self.run_main(self.loop.getaddrinfo(wrong, 1))

    def test_local_addresses(self):
        async def main():
            server = await self.loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
            for local in (("127.0.0.2", 0), ("127.0.0.2", "0"), (b"127.0.0.2", None)):
                transport, _ = await self.loop.create_connection(
                    asyncio.Protocol, *server.sockets[0].getsockname(), local_addr=local)
                self.assertEqual(transport.get_extra_info("sockname")[0], "127.0.0.2")
                transport.close()
            server.close()
        self.run_main(main())

    def test_all_errors(self):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
            with self.assertRaises(ExceptionGroup) as raised:
                self.run_main(self.loop.create_connection(asyncio.Protocol, "127.0.0.1", port, all_errors=True))
            [error] = raised.exception.exceptions
            self.assertIsInstance(error, ConnectionRefusedError)
            self.assertIn(str(port), str(error))
            with self.assertRaises(ConnectionRefusedError):
                self.run_main(self.loop.create_connection(asyncio.Protocol, "127.0.0.1", port))

    def test_no_more_descriptors(self):
        async def main():
            server = await self.loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
            limits = resource.getrlimit(resource.RLIMIT_NOFILE)
            kept = []
            try:
                resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 20, limits[1]))
                try:
                    while True:
                        kept.append(os.dup(0))
                except OSError:
                    pass
                with self.assertRaisesRegex(OSError, "Too many open files"):
                    await self.loop.create_connection(asyncio.Protocol, *server.sockets[0].getsockname())
            finally:
                for fd in kept:
                    os.close(fd)
                resource.setrlimit(resource.RLIMIT_NOFILE, limits)
            server.close()
        self.run_main(main())

    def test_sizes(self):
        one, two = socket.socketpair()
        with one, two:
            one.setblocking(False)
            with self.assertRaisesRegex(ValueError, "negative buffersize in recv"):
                self.run_main(self.loop.sock_recv(one, -1))
            self.assertEqual(self.run_main(self.loop.sock_recv_into(one, bytearray())), 0)

    def test_sockets_do_not_block(self):
        async def main():
            ours, theirs = socket.socketpair()
            with theirs:
                transport, _ = await self.loop.create_connection(asyncio.Protocol, sock=ours)
                self.assertFalse(ours.getblocking())
                transport.close()
        self.run_main(main())

    def test_from_another_thread(self):
        async def main():
            timer = self.loop.call_later(0, self.fail)
            results = []

            def foreign():
                timer.cancel()
                results.append(self.loop.run_in_executor(None, threading.get_ident))
            thread = threading.Thread(target=foreign)
            thread.start()
            thread.join()
            self.assertTrue(timer.cancelled())
            self.assertIsInstance(await results[0], int)
            self.assertIsInstance(await self.loop.run_in_executor(None, threading.get_ident), int)
        self.run_main(main())
        self.loop.run_until_complete(self.loop.shutdown_default_executor())


if __name__ == "__main__":
    unittest.main()
