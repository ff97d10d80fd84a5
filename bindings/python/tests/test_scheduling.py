"""What is scheduled: order, arguments, times, handles, contexts, failures."""

import contextvars
import logging
import os
import signal
import time
import unittest
import weakref

from support import LoopTest


class Scheduling(LoopTest):
    def test_order(self):
        got = []
        self.loop.call_soon(got.append, 1)
        self.loop.call_soon_threadsafe(got.append, 2)
        self.loop.call_soon(got.append, 3)
        self.run_once()
        self.assertEqual(got, [1, 2, 3])

    def test_arguments(self):
        got = []
        self.loop.call_soon(lambda *args: got.append(args))
        self.loop.call_soon(lambda *args: got.append(args), 1)
        self.loop.call_soon(lambda *args: got.append(args), 1, 2, 3)
        self.loop.call_later(0, lambda *args: got.append(args), 4, 5)
        self.run_once()
        self.run_once()
        self.assertEqual(got, [(), (1,), (1, 2, 3), (4, 5)])

    def test_bad_arguments(self):
        with self.assertRaises(TypeError):
            self.loop.call_soon()
        with self.assertRaises(TypeError):
            self.loop.call_later(1)
        with self.assertRaises(TypeError):
            self.loop.call_later(None, print)
        with self.assertRaises(TypeError):
            self.loop.call_at("1", print)
        with self.assertRaises(TypeError):
            self.loop.call_soon(print, unknown=1)
        with self.assertRaises(ValueError):
            self.loop.call_later(float("nan"), print)

    def test_times_beyond_the_clock(self):
        handles = [self.loop.call_later(delay, print) for delay in (1e30, float("inf"))]
        handles.append(self.loop.call_at(1e300, print))
        self.run_once()
        for handle in handles:
            self.assertFalse(handle.cancelled())
            handle.cancel()
        got = []
        self.loop.call_later(-1e30, got.append, 1)
        self.run_once()
        self.run_once()
        self.assertEqual(got, [1])

    def test_cancel(self):
        got = []
        handle = self.loop.call_soon(got.append, 1)
        timer = self.loop.call_later(0, got.append, 1)
        self.assertIn("append", repr(timer))
        for one in (handle, timer):
            one.cancel()
            one.cancel()
            self.assertTrue(one.cancelled())
            self.assertIn("cancelled", repr(one))
        self.run_once()
        self.assertEqual(got, [])

    def test_timer_handles(self):
        now = self.loop.time()
        early, late = self.loop.call_at(now + 10, print), self.loop.call_at(now + 20, print)
        self.assertEqual(early.when(), now + 10)
        self.assertLess(early, late)
        self.assertEqual(early, early)
        self.assertNotEqual(early, late)
        self.assertEqual(hash(early), hash(now + 10))
        self.assertTrue(early._scheduled)

    def test_contexts(self):
        variable = contextvars.ContextVar("variable", default=0)
        got = []

        def callback():
            got.append(variable.get())
            variable.set(100)
        variable.set(1)
        self.loop.call_soon(callback)
        given = contextvars.copy_context()
        given.run(variable.set, 2)
        self.loop.call_soon(callback, context=given)
        self.loop.call_later(0, callback, context=given)
        variable.set(3)
        self.run_once()
        self.run_once()
        self.assertEqual(got, [1, 2, 100])
        self.assertEqual(variable.get(), 3)

    def test_the_context_of_a_handle_that_is_called_again(self):
        variable = contextvars.ContextVar("variable", default=0)
        got = []

        def call(again):
            variable.set(variable.get() + 1)
            got.append(variable.get())
            if len(got) == 3:
                self.loop.stop()
            else:
                again()

        reader, writer = os.pipe()

        def read():
            os.read(reader, 1)
            call(lambda: os.write(writer, b"x"))

        self.loop.add_reader(reader, read)
        os.write(writer, b"x")
        self.loop.run_forever()
        self.assertEqual(got, [1, 2, 3])
        self.loop.remove_reader(reader)
        os.close(reader)
        os.close(writer)

        got.clear()
        self.loop.add_signal_handler(signal.SIGUSR1, call, lambda: os.kill(os.getpid(), signal.SIGUSR1))
        os.kill(os.getpid(), signal.SIGUSR1)
        self.loop.run_forever()
        self.assertEqual(got, [1, 2, 3])
        self.loop.remove_signal_handler(signal.SIGUSR1)

        got.clear()
        handle = self.loop.call_soon(lambda: (call(int), got.append(handle._context[variable])))
        handle._run()
        self.assertEqual(got, [1, 1])
        self.run_once()
        self.assertEqual(got[2:], [2, 2])
        # Nothing of that is left for others.
        self.loop.call_soon(lambda: got.append(variable.get()))
        self.run_once()
        self.assertEqual(got[4:], [0])

    def test_what_a_handle_refers_to_goes(self):
        class Owner:
            def method(self):
                pass
        for run in (True, False):
            owner = Owner()
            owner.handle = self.loop.call_soon(owner.method)
            owner.timer = self.loop.call_later(0, owner.method)
            gone = weakref.ref(owner)
            del owner
            if run:
                self.run_once()
                self.run_once()
            else:
                self.loop.close()
            self.assertIsNone(gone())

    def test_failures(self):
        told = []
        self.loop.set_exception_handler(lambda loop, context: told.append(context))
        handle = self.loop.call_soon(lambda: 1 / 0)
        self.run_once()
        self.assertIsInstance(told[0]["exception"], ZeroDivisionError)
        self.assertIn("lambda", told[0]["message"])
        self.assertIs(told[0]["handle"], handle)

    def test_debug(self):
        self.loop.set_debug(True)
        self.loop.slow_callback_duration = 0.01
        handle = self.loop.call_soon(time.sleep, 0.02)
        self.assertIn(os.path.basename(__file__), repr(handle))
        with self.assertLogs("asyncio", logging.WARNING) as logs:
            self.run_once()
        self.assertIn("took", logs.output[0])

        async def coroutine():
            pass
        with self.assertRaises(TypeError):
            self.loop.call_soon(coroutine)


if __name__ == "__main__":
    unittest.main()
