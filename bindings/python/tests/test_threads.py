"""Other threads than the one that runs the loop, and the interpreter's lock."""

import asyncio
import socket
import subprocess
import sys
import threading
import time
import unittest

import evl
from support import LoopTest


class Threads(LoopTest):
    def test_other_threads_run_while_the_loop_waits(self):
        counter = 0
        done = threading.Event()

        def count():
            nonlocal counter
            while not done.is_set():
                counter += 1
        thread = threading.Thread(target=count)
        thread.start()
        self.loop.call_later(0.1, self.loop.stop)
        self.loop.run_forever()
        done.set()
        thread.join()
        self.assertGreater(counter, 1000)

    def test_call_soon_of_another_thread(self):
        for debug in (False, True):
            raised, got = [], []

            def other():
                try:
                    self.loop.call_soon(got.append, 1)
                except RuntimeError as error:
                    raised.append(error)
                self.loop.call_soon_threadsafe(self.loop.stop)
            self.loop.set_debug(debug)
            thread = threading.Thread(target=other)
            self.loop.call_soon(thread.start)
            self.loop.run_forever()
            thread.join()
            self.assertEqual(got, [] if debug else [1])
            self.assertEqual("Non-thread-safe" in "".join(map(str, raised)), debug)

    def in_another_thread(self, work):
        """Has work() called by another thread while the loop runs."""
        raised = []

        def other():
            try:
                work()
            except BaseException as error:
                raised.append(error)
            self.loop.call_soon_threadsafe(lambda: self.loop.call_later(0.03, self.loop.stop))
        thread = threading.Thread(target=other)
        self.loop.call_soon(thread.start)
        self.loop.run_forever()
        thread.join()
        return raised

    def test_timers_of_another_thread(self):
        self.loop.set_debug(False)
        got, early = [], self.loop.call_later(0.02, lambda: got.append("early"))

        def work():
            early.cancel()
            self.loop.call_later(0.01, got.append, "later")
            self.loop.call_at(self.loop.time() + 0.01, got.append, "at")
            handle = self.loop.call_later(0.01, got.append, "cancelled")
            handle.cancel()
            self.assertTrue(handle.cancelled() and early.cancelled())
        self.assertEqual(self.in_another_thread(work), [])
        self.assertEqual(sorted(got), ["at", "later"])
        self.loop.set_debug(True)
        (error,) = self.in_another_thread(lambda: self.loop.call_later(0.01, got.append, "debug"))
        self.assertIn("Non-thread-safe", str(error))

    def test_readers_and_transports_of_another_thread(self):
        here, there = socket.socketpair()
        a, b = socket.socketpair()
        got = []
        transport, _ = self.loop.run_until_complete(self.loop.create_connection(asyncio.Protocol, sock=a))

        def work():
            self.loop.add_reader(here, lambda: got.append(here.recv(10)))
            there.send(b"x")
            time.sleep(0.02)
            self.assertTrue(self.loop.remove_reader(here))
            self.assertFalse(self.loop.remove_reader(here))
            changed = bytearray(b"a")
            transport.write(changed)
            changed[:] = b"z"
            transport.write(b"b")
            transport.writelines([b"c", b"d"])
            transport.close()
        self.assertEqual(self.in_another_thread(work), [])
        self.assertEqual(got, [b"x"])
        self.assertEqual(b.recv(10), b"abcd")
        self.assertEqual(b.recv(10), b"")
        for sock in (here, there, b):
            sock.close()

    def test_a_loop_a_thread(self):
        results = []

        def work(number):
            async def main():
                reader, writer = await asyncio.open_connection(*address)
                writer.write(b"%d\n" % number)
                answer = await reader.readline()
                writer.close()
                return int(answer)
            results.append(evl.run(main()))

        async def serve(reader, writer):
            writer.write(await reader.readline())
            writer.close()

        async def main():
            nonlocal address
            server = await asyncio.start_server(serve, "127.0.0.1", 0)
            address = server.sockets[0].getsockname()
            threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                await asyncio.to_thread(thread.join)
            server.close()
        address = None
        self.loop.run_until_complete(main())
        self.assertEqual(sorted(results), list(range(8)))

    def test_stop_of_another_thread(self):
        threading.Timer(0.02, self.loop.stop).start()
        self.loop.run_forever()


    def test_threads_that_outlive_the_interpreter(self):
        program = (
            "import asyncio, evl, threading, time\n"
            "async def main(delay):\n    while True:\n        await asyncio.sleep(delay)\n"
            "def busy():\n    loop.call_soon(busy)\n    time.sleep(0)\n"
            "for delay in (0, 0.0005, 10):\n"
            "    threading.Thread(target=evl.run, args=(main(delay),), daemon=True).start()\n"
            "loop = evl.new_event_loop()\nloop.call_soon(busy)\n"
            "threading.Thread(target=loop.run_forever, daemon=True).start()\n"
            "time.sleep(0.05)\n")
        for _ in range(5):
            child = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30)
            self.assertEqual((child.returncode, child.stderr), (0, ""))


if __name__ == "__main__":
    unittest.main()
