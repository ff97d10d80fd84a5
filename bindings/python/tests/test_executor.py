"""run_in_executor by libevl's threads: what a job sees, what becomes of it, and the interpreter's end."""

import asyncio
import concurrent.futures
import gc
import os
import signal
import subprocess
import sys
import textwrap
import threading
import traceback
import unittest
import weakref

import evl

# A shell's background jobs ignore it; tests are about it.
signal.signal(signal.SIGINT, signal.default_int_handler)


def run_script(text, *arguments, **options):
    return subprocess.run(
        [sys.executable, "-X", "dev", "-c", textwrap.dedent(text), *arguments], capture_output=True, text=True, timeout=60, **options)


class ExecutorTest(unittest.TestCase):
    def setUp(self):
        self.loop = evl.new_event_loop()
        self.addCleanup(self.loop.close)

    def run_job(self, function, *args):
        return self.loop.run_until_complete(self.loop.run_in_executor(None, function, *args))


class Jobs(ExecutorTest):
    def test_results(self):
        self.assertEqual(self.run_job(lambda *args: args), ())
        self.assertEqual(self.run_job(lambda *args: args, 1), (1,))
        self.assertEqual(self.run_job(lambda *args: args, 1, 2), (1, 2))
        self.assertIsInstance(self.loop.run_in_executor(None, int), asyncio.Future)

    def test_errors(self):
        def fail():
            raise ValueError("of the job")
        try:
            self.run_job(fail)
        except ValueError as error:
            self.assertEqual(str(error), "of the job")
            self.assertIn("fail", [frame.name for frame in traceback.extract_tb(error.__traceback__)])
        else:
            self.fail("nothing was raised")

        async def main():
            try:
                await self.loop.run_in_executor(None, sys.exit, 3)
            except SystemExit as error:
                return error.code
        self.assertEqual(self.loop.run_until_complete(main()), 3)

    def test_errors_that_a_future_cannot_have(self):
        with self.assertRaises(RuntimeError) as raised:
            self.run_job(next, iter(()))
        self.assertIsInstance(raised.exception.__cause__, StopIteration)

        def cancelled():
            raise concurrent.futures.CancelledError
        with self.assertRaises(asyncio.CancelledError):
            self.run_job(cancelled)

    def test_what_is_no_job(self):
        with self.assertRaises(TypeError):
            self.run_job(None)
        self.loop.set_debug(True)
        with self.assertRaises(TypeError):
            self.loop.run_in_executor(None, None)

    def test_many(self):
        async def main():
            return await asyncio.gather(*[self.loop.run_in_executor(None, pow, index, 2) for index in range(2000)])
        self.assertEqual(self.loop.run_until_complete(main()), [index * index for index in range(2000)])

    def test_nothing_is_kept(self):
        class Thing:
            pass
        argument, result = Thing(), Thing()
        references = weakref.ref(argument), weakref.ref(result)

        def job(given, found=[result]):
            return found.pop()
        got = self.run_job(job, argument)
        self.assertIs(got, result)
        del argument, result, got, job
        gc.collect()
        self.assertEqual([reference() for reference in references], [None, None])

    def test_another_executor(self):
        with concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="given") as executor:
            self.loop.set_default_executor(executor)
            self.assertTrue(self.run_job(lambda: threading.current_thread().name).startswith("given"))
        with self.assertRaises(TypeError):
            self.loop.set_default_executor(object())


class Threads(ExecutorTest):
    def test_names_and_identities(self):
        name, ident, known = self.run_job(
            lambda: (threading.current_thread().name, threading.get_ident(), threading.current_thread() in threading.enumerate()))
        self.assertRegex(name, r"^asyncio_\d+$")
        self.assertNotEqual(ident, threading.get_ident())
        self.assertTrue(known)

    def test_what_a_thread_has_stays(self):
        local = threading.local()

        def count():
            local.calls = getattr(local, "calls", 0) + 1
            return local.calls
        self.assertEqual([self.run_job(count) for _ in range(5)][-1], 5)

    def test_threads_end_with_the_loop(self):
        local = threading.local()

        class Thing:
            pass

        def keep():
            local.thing = Thing()
            return weakref.ref(local.thing), threading.get_ident()
        thing, ident = self.run_job(keep)
        self.assertIsNotNone(thing())
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.assertIsNone(thing())
        self.assertNotIn(ident, threading._active)

    def test_signals_are_not_blocked(self):
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        self.assertEqual(self.run_job(signal.pthread_sigmask, signal.SIG_BLOCK, ()), mask)

    def test_traced(self):
        seen = []
        threading.setprofile(lambda *args: seen.append(threading.get_ident()))
        try:
            ident = self.run_job(threading.get_ident)
        finally:
            threading.setprofile(None)
        self.assertIn(ident, seen)

    def test_jobs_run_beside_each_other(self):
        barrier = threading.Barrier(4)

        async def main():
            await asyncio.gather(*[self.loop.run_in_executor(None, barrier.wait, 20) for _ in range(4)])
        self.loop.run_until_complete(main())


class Ends(ExecutorTest):
    def test_cancel(self):
        begun, go_on, ran = threading.Event(), threading.Event(), []

        def wait():
            begun.set()
            go_on.wait(20)
            ran.append("first")

        async def main():
            workers = [self.loop.run_in_executor(None, wait) for _ in range(min(32, (os.cpu_count() or 1) + 4))]
            waiting = self.loop.run_in_executor(None, ran.append, "never")
            begun.wait(20)
            self.assertTrue(waiting.cancel())
            self.assertTrue(workers[0].cancel())
            with self.assertRaises(asyncio.CancelledError):
                await workers[0]
            go_on.set()
            await asyncio.gather(*workers[1:])
            with self.assertRaises(asyncio.CancelledError):
                await waiting
        self.loop.run_until_complete(main())
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.assertEqual(set(ran), {"first"})

    def test_shutdown(self):
        done = []
        for index in range(100):
            self.loop.run_in_executor(None, done.append, index)
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.assertEqual(sorted(done), list(range(100)))
        with self.assertRaisesRegex(RuntimeError, "Executor shutdown has been called"):
            self.loop.run_in_executor(None, int)

    def test_shutdown_that_takes_too_long(self):
        go_on = threading.Event()
        self.loop.run_in_executor(None, go_on.wait, 20)
        with self.assertWarnsRegex(RuntimeWarning, "have not ended within 0.01 seconds"):
            self.loop.run_until_complete(self.loop.shutdown_default_executor(0.01))
        go_on.set()

    def test_a_loop_that_is_closed_meanwhile(self):
        begun, go_on, ended = threading.Event(), threading.Event(), threading.Event()

        def job():
            begun.set()
            go_on.wait(20)
            ended.set()
        self.loop.run_in_executor(None, job)
        begun.wait(20)
        self.loop.close()
        go_on.set()
        self.assertTrue(ended.wait(20))
        with self.assertRaisesRegex(RuntimeError, "closed"):
            self.loop.run_in_executor(None, int)

    def test_threads_that_end_with_what_is_theirs(self):
        ran = run_script("""
            import asyncio, evl, threading
            local = threading.local()
            gone = []
            class Thing:
                def __del__(self):
                    # Needs the thread's own state.
                    loop = evl.new_event_loop()
                    loop.call_soon(loop.stop)
                    loop.run_forever()
                    loop.close()
                    gone.append(1)
            def job():
                local.thing = Thing()
            async def main():
                loop = asyncio.get_running_loop()
                await asyncio.gather(*[loop.run_in_executor(None, job) for _ in range(4)])
            for _ in range(3):
                gone.clear()
                evl.run(main())
                assert len(gone) == 4, gone
            print("ended")
        """)
        self.assertEqual((ran.stdout, ran.returncode), ("ended\n", 0), ran.stderr)

    def test_the_interpreter_waits(self):
        ran = run_script("""
            import evl, os, threading, time
            loop = evl.new_event_loop()
            def job():
                time.sleep(0.1)
                # In one piece, of three threads.
                os.write(1, b"ran to its end\\n")
            for _ in range(3):
                loop.run_in_executor(None, job)
        """)
        self.assertEqual((ran.stdout, ran.returncode), ("ran to its end\n" * 3, 0), ran.stderr)

    def test_the_interpreter_ends_beside_a_job_that_does_not(self):
        ran = run_script("""
            import evl, os, signal, sys, threading
            loop = evl.new_event_loop()
            begun = threading.Event()
            def job():
                begun.set()
                while True:
                    sum(range(1000))
            loop.run_in_executor(None, job)
            begun.wait()
            threading.Timer(0.2, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
            print("at the end", flush=True)
        """)
        self.assertEqual(ran.stdout, "at the end\n")
        self.assertIn("KeyboardInterrupt", ran.stderr)
        self.assertNotIn("pthread_exit", ran.stderr)
        self.assertNotEqual(ran.returncode, -signal.SIGABRT)

    def test_fork(self):
        ran = run_script("""
            import asyncio, evl, os, sys
            async def main():
                loop = asyncio.get_running_loop()
                return await loop.run_in_executor(None, os.getpid)
            assert evl.run(main()) == os.getpid()
            loop = evl.new_event_loop()
            loop.run_until_complete(loop.run_in_executor(None, int))
            pid = os.fork()
            if pid == 0:
                assert evl.run(main()) == os.getpid()
                sys.exit(7)
            print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
            loop.close()
        """)
        self.assertEqual((ran.stdout, ran.returncode), ("7\n", 0), ran.stderr)


if __name__ == "__main__":
    unittest.main()
