"""Loops from their making to their end: closing, forks, the policy, interpreters."""

import asyncio
import gc
import importlib
import os
import socket
import sys
import threading
import unittest
import warnings

import evl


class Life(unittest.TestCase):
    def test_closed(self):
        loop = evl.new_event_loop()
        loop.close()
        loop.close()
        for call in (loop.call_soon, loop.call_soon_threadsafe):
            with self.assertRaisesRegex(RuntimeError, "closed"):
                call(print)
        with self.assertRaisesRegex(RuntimeError, "closed"):
            loop.call_later(1, print)
        with self.assertRaisesRegex(RuntimeError, "closed"):
            loop.run_forever()
        self.assertFalse(loop.remove_reader(0))
        loop.stop()

    def test_attributes_that_programs_look_at(self):
        async def main():
            return loop._thread_id
        loop = evl.new_event_loop()
        self.assertIs(loop._closed, False)
        self.assertIsNone(loop._thread_id)
        self.assertEqual(loop.run_until_complete(main()), threading.get_ident())
        self.assertIsNone(loop._thread_id)
        loop.set_debug(True)
        self.assertIs(loop._debug, True)
        loop.close()
        self.assertIs(loop._closed, True)

    def test_transports_of_a_closed_loop(self):
        loop = evl.new_event_loop()
        here, there = socket.socketpair()
        transport, _ = loop.run_until_complete(loop.create_unix_connection(asyncio.Protocol, sock=here))
        with self.assertWarnsRegex(ResourceWarning, "unclosed transport"):
            loop.close()
        transport.write(b"x")
        transport.close()
        transport.abort()
        self.assertIn("StreamTransport", repr(transport))
        self.assertEqual(here.fileno(), -1)
        self.assertEqual(there.recv(1), b"")
        there.close()

    def test_unclosed_transports(self):
        for closed in (False, True):
            loop = evl.new_event_loop()
            here, there = socket.socketpair()
            transports = [
                loop.run_until_complete(loop.create_unix_connection(asyncio.Protocol, sock=here))[0],
                loop.run_until_complete(loop.create_datagram_endpoint(asyncio.DatagramProtocol, ("127.0.0.1", 0)))[0]]
            if closed:
                transports[0].close()
                transports[1].close()
                loop.run_until_complete(asyncio.sleep(0.01))
            here = None
            with warnings.catch_warnings(record=True) as warned:
                warnings.simplefilter("always")
                loop.close()
                transports.clear()
                gc.collect()
            there.close()
            told = [warning for warning in warned if "unclosed transport" in str(warning.message)]
            self.assertEqual(len(told), 0 if closed else 2)

    def test_unclosed(self):
        loop = evl.new_event_loop()
        loop.run_until_complete(asyncio.sleep(0))
        with self.assertWarns(ResourceWarning):
            del loop
            gc.collect()

    def test_fork(self):
        async def main():
            await asyncio.sleep(0)
            return 7
        loop = evl.new_event_loop()

        async def parent():
            pid = os.fork()
            if pid == 0:
                status = 1
                try:
                    asyncio.events._set_running_loop(None)
                    status = evl.run(main())
                finally:
                    os._exit(status)
            return os.waitpid(pid, 0)[1]
        self.assertEqual(os.waitstatus_to_exitcode(loop.run_until_complete(parent())), 7)
        loop.close()

    def test_run(self):
        async def main():
            return type(asyncio.get_running_loop()), asyncio.get_running_loop().get_debug()
        self.assertEqual(evl.run(main(), debug=False), (evl.EventLoop, False))
        self.assertEqual(evl.run(main(), debug=True), (evl.EventLoop, True))

        async def inside():
            coroutine = main()
            try:
                evl.run(coroutine)
            finally:
                coroutine.close()
        with self.assertRaises(RuntimeError):
            evl.run(inside())

    def test_the_task_that_is_run_can_be_told(self):
        # By its callback, which is how anyio does it: threads that it makes last as long as that task.
        async def main():
            [(callback, _)] = asyncio.current_task()._callbacks
            return callback

        self.assertIs(evl.run(main()), asyncio.base_events._run_until_complete_cb)

    def test_one_interpreter(self):
        interpreters = importlib.import_module(
            "_interpreters" if sys.version_info >= (3, 13) else "_xxsubinterpreters")
        program = (
            f"import sys\nsys.path[:] = {sys.path!r}\n"
            "try:\n    import evl\nexcept ImportError as error:\n    sys.modules.pop('evl', None)\n"
            "else:\n    raise AssertionError\n")
        other = interpreters.create()
        try:
            failure = interpreters.run_string(other, program)
        finally:
            interpreters.destroy(other)
        self.assertIsNone(failure)

        async def main():
            reader, writer = await asyncio.open_connection(sock=here)
            writer.close()
            await writer.wait_closed()
            return 7
        here, there = socket.socketpair()
        with there:
            self.assertEqual(evl.run(main()), 7)

    def test_policy(self):
        evl.install()
        try:
            loop = asyncio.new_event_loop()
            self.assertIsInstance(loop, evl.EventLoop)
            loop.close()
        finally:
            asyncio.set_event_loop_policy(None)


if __name__ == "__main__":
    unittest.main()
