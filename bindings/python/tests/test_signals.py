"""Signals, and exceptions that end the run."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import unittest

import evl
from support import LoopTest

# A shell's background jobs ignore it; tests are about it.
signal.signal(signal.SIGINT, signal.default_int_handler)


class Exits(LoopTest):
    def test_exceptions_that_end_the_run(self):
        for exception in (KeyboardInterrupt, SystemExit):
            def leave():
                raise exception("now")
            got = []
            self.loop.call_soon(leave)
            self.loop.call_soon(got.append, 1)
            with self.assertRaises(exception):
                self.loop.run_forever()
            self.assertEqual(got, [])
            self.assertFalse(self.loop.is_running())
            self.run_once()
            self.assertEqual(got, [1])

    def test_from_a_protocol(self):
        class Leaving(asyncio.Protocol):
            def data_received(self, data):
                sys.exit(3)

        async def main():
            here, there = socket.socketpair()
            await self.loop.create_unix_connection(Leaving, sock=here)
            there.send(b"x")
            there.close()
            await asyncio.sleep(10)
        with self.assertRaises(SystemExit) as raised:
            self.loop.run_until_complete(main())
        self.assertEqual(raised.exception.code, 3)

    def interrupted(self, program):
        """Runs a program in a child, and interrupts it when it says that it is ready."""
        child = subprocess.Popen([sys.executable, "-c", "import asyncio, evl, signal, sys, time\n" + program], stdout=subprocess.PIPE,
                                 stderr=subprocess.PIPE, text=True)
        self.assertEqual(child.stdout.readline(), "ready\n")
        time.sleep(0.05)
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=20)
        return child.returncode, out, err

    def test_interrupt_of_a_loop_that_waits(self):
        status, out, _ = self.interrupted(
            "loop = evl.new_event_loop()\nprint('ready', flush=True)\n"
            "try:\n    loop.run_forever()\nexcept KeyboardInterrupt:\n    print('interrupted', loop.is_running())")
        self.assertEqual((status, out), (0, "interrupted False\n"))

    def test_interrupt_of_a_loop_that_is_busy(self):
        status, out, _ = self.interrupted(
            "loop = evl.new_event_loop()\n"
            "def again(): loop.call_soon(again)\nagain()\nprint('ready', flush=True)\n"
            "try:\n    loop.run_forever()\nexcept KeyboardInterrupt:\n    print('interrupted')")
        self.assertEqual((status, out), (0, "interrupted\n"))

    def test_interrupt_of_run(self):
        status, out, err = self.interrupted(
            "async def main():\n    print('ready', flush=True)\n    try:\n        await asyncio.sleep(100)\n"
            "    except asyncio.CancelledError:\n        print('cancelled')\n        raise\n"
            "evl.run(main())")
        self.assertEqual((status, out), (-signal.SIGINT, "cancelled\n"))
        self.assertIn("KeyboardInterrupt", err)


class Signals(LoopTest):
    def test_handlers_of_the_loop_and_of_python(self):
        got = []
        before = signal.signal(signal.SIGUSR2, lambda *args: got.append("python"))
        self.addCleanup(signal.signal, signal.SIGUSR2, before)
        self.loop.add_signal_handler(signal.SIGUSR1, got.append, "loop")
        self.loop.call_soon(os.kill, os.getpid(), signal.SIGUSR1)
        self.loop.call_later(0.05, self.loop.stop)
        threading.Timer(0.01, os.kill, (os.getpid(), signal.SIGUSR2)).start()
        self.loop.run_forever()
        self.assertEqual(sorted(got), ["loop", "python"])
        self.assertTrue(self.loop.remove_signal_handler(signal.SIGUSR1))
        self.assertFalse(self.loop.remove_signal_handler(signal.SIGUSR1))

    def test_getsignal_shows_handlers(self):
        for number, default in ((signal.SIGUSR1, signal.SIG_DFL), (signal.SIGINT, signal.default_int_handler)):
            for end in (lambda: self.assertTrue(loop.remove_signal_handler(number)), lambda: loop.close()):
                loop = evl.new_event_loop()
                self.assertEqual(signal.getsignal(number), default)
                for _ in range(2):
                    got = []
                    loop.add_signal_handler(number, got.append, 1)
                    self.assertTrue(callable(signal.getsignal(number)))
                    self.assertNotEqual(signal.getsignal(number), default)
                    loop.call_soon(os.kill, os.getpid(), number)
                    loop.call_later(0.02, loop.stop)
                    loop.run_forever()
                    self.assertEqual(got, [1])
                end()
                self.assertEqual(signal.getsignal(number), default)
                loop.close()
        with self.assertRaises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(1)

    def test_a_handler_of_python_that_raises(self):
        def handler(number, frame):
            raise KeyboardInterrupt
        before = signal.signal(signal.SIGUSR2, handler)
        self.addCleanup(signal.signal, signal.SIGUSR2, before)
        threading.Timer(0.01, os.kill, (os.getpid(), signal.SIGUSR2)).start()
        with self.assertRaises(KeyboardInterrupt):
            self.loop.run_forever()

    def test_any_exception_of_a_handler_of_python_ends_the_run(self):
        class Own(Exception):
            pass

        def handler(number, frame):
            raise Own
        before = signal.signal(signal.SIGUSR2, handler)
        self.addCleanup(signal.signal, signal.SIGUSR2, before)
        threading.Timer(0.01, os.kill, (os.getpid(), signal.SIGUSR2)).start()
        with self.assertRaises(Own):
            self.loop.run_until_complete(asyncio.sleep(10))
        self.assertFalse(self.loop.is_running())
        self.run_once()

    def test_the_wakeup_descriptor_of_the_program(self):
        before = signal.signal(signal.SIGUSR2, lambda *args: None)
        self.addCleanup(signal.signal, signal.SIGUSR2, before)
        here, there = socket.socketpair()
        there.setblocking(False)
        for inside in (False, True):
            def begin():
                if inside:
                    signal.set_wakeup_fd(there.fileno())
                os.kill(os.getpid(), signal.SIGUSR2)
            if not inside:
                signal.set_wakeup_fd(there.fileno())
            self.loop.add_reader(here, self.loop.stop)
            self.loop.call_soon(begin)
            try:
                self.loop.run_forever()
                self.assertEqual(here.recv(10), bytes([signal.SIGUSR2]))
            finally:
                self.assertEqual(signal.set_wakeup_fd(-1), there.fileno())
        here.close()
        there.close()

    def test_the_wakeup_descriptor_is_put_back(self):
        here, there = socket.socketpair()
        there.setblocking(False)
        signal.set_wakeup_fd(there.fileno())
        try:
            self.run_once()
        finally:
            self.assertEqual(signal.set_wakeup_fd(-1), there.fileno())
            here.close()
            there.close()


if __name__ == "__main__":
    unittest.main()
