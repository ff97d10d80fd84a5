"""What is evl's own: threads, signals, exits, the interpreter's lock, contexts, processes."""

import asyncio
import contextlib
import contextvars
import gc
import importlib
import logging
import os
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import unittest
import warnings
import weakref

import evl

# A shell's background jobs ignore it; tests are about it.
signal.signal(signal.SIGINT, signal.default_int_handler)


class LoopTest(unittest.TestCase):
    def setUp(self):
        self.loop = evl.new_event_loop()
        self.addCleanup(self.loop.close)

    def run_once(self):
        self.loop.call_soon(self.loop.stop)
        self.loop.run_forever()


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
        self.assertIn("test_evl.py", repr(handle))
        with self.assertLogs("asyncio", logging.WARNING) as logs:
            self.run_once()
        self.assertIn("took", logs.output[0])

        async def coroutine():
            pass
        with self.assertRaises(TypeError):
            self.loop.call_soon(coroutine)


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

    def test_a_factory_that_fails(self):
        def factory():
            raise ValueError("of the factory")

        async def main():
            server = await self.loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
            with self.assertRaisesRegex(ValueError, "of the factory"):
                await self.loop.create_connection(factory, *server.sockets[0].getsockname())
            server.close()
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

    def test_addresses_of_datagrams(self):
        class Noting(asyncio.DatagramProtocol):
            def error_received(self, exc):
                errors.append(exc)

            def datagram_received(self, data, address):
                got.append(data)

        async def main():
            there, _ = await self.loop.create_datagram_endpoint(Noting, local_addr=("127.0.0.1", 0))
            address = there.get_extra_info("sockname")
            here, _ = await self.loop.create_datagram_endpoint(Noting, remote_addr=address)
            here.sendto(b"a", address)
            # It is not looked up whether this is the same.
            with self.assertRaisesRegex(ValueError, r"Invalid address: must be None or \('127.0.0.1', "):
                here.sendto(b"b", ("localhost", address[1]))
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            sock.setblocking(False)
            sock.connect(address)
            given, _ = await self.loop.create_datagram_endpoint(Noting, sock=sock)
            given.sendto(b"c", ("127.0.0.1", 1))
            while len(got) < 2:
                await asyncio.sleep(0.001)
            self.assertEqual(got, [b"a", b"c"])
            there.sendto(b"d", ("a name that is none", 1))
            self.assertIsInstance(errors.pop(), OSError)
            with self.assertRaisesRegex(TypeError, "not 'str'"):
                there.sendto("d", address)
            for transport in (here, there, given):
                transport.close()
            await asyncio.sleep(0)
        got, errors = [], []
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

    def test_a_server_of_no_hosts(self):
        async def main():
            server = await self.loop.create_server(asyncio.Protocol, [], 0)
            self.assertEqual(server.sockets, ())
            self.assertTrue(server.is_serving())
            server.close()
            await server.wait_closed()
            self.assertFalse(server.is_serving())
        self.loop.run_until_complete(main())

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

    def test_unix_datagrams(self):
        class Noting(asyncio.DatagramProtocol):
            def datagram_received(self, data, address):
                got.append((data, address))

        async def main():
            with tempfile.TemporaryDirectory() as directory:
                here, _ = await self.loop.create_datagram_endpoint(Noting, local_addr=f"{directory}/a", family=socket.AF_UNIX)
                there, _ = await self.loop.create_datagram_endpoint(
                    Noting, local_addr=f"{directory}/b", remote_addr=f"{directory}/a", family=socket.AF_UNIX)
                there.sendto(b"hello")
                while not got:
                    await asyncio.sleep(0.001)
                self.assertEqual(got, [(b"hello", f"{directory}/b")])
                here.close()
                there.close()
                await asyncio.sleep(0)
        got = []
        self.loop.run_until_complete(main())


if __name__ == "__main__":
    unittest.main()
