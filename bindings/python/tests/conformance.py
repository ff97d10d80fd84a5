"""CPython's own tests of event loops, run with evl's.

    conformance.py [--verbose] [--loop evl|asyncio|uvloop] [--jobs N] [name]...

Every test has a process and a time limit of its own; a line a class says how many passed. Names choose classes or tests by
a part of their names. Tests that are expected to fail are in expected_failures.txt beside this; anything else that fails
is an error, and so is, with the whole list, a test of it that passes.
"""

import argparse
import asyncio
import faulthandler
import importlib
import io
import logging
import os
import pathlib
import select
import signal
import sys
import tempfile
import time
import traceback
import unittest

LIMIT = 60
EXPECTED = pathlib.Path(__file__).with_name("expected_failures.txt")

# Mixins whose tests take the loop from a method: module, mixin, method.
LOOP_CLASSES = [
    ("test_events", "EventLoopTestsMixin", "create_event_loop"),
    ("test_events", "SubprocessTestsMixin", "create_event_loop"),
    ("test_sock_lowlevel", "BaseSockTestsMixin", "create_event_loop"),
    ("test_sendfile", "SendfileTestsBase", "create_event_loop"),
    ("test_server", "SelectorStartServerTests", "new_loop"),
    ("test_buffered_proto", "BaseTestBufferedProtocol", "new_loop"),
    ("test_sslproto", "BaseStartTLS", "new_loop"),
    ("test_subprocess", "SubprocessMixin", None),
    ("test_unix_events", "TestFunctional", None),
]
# Modules whose tests make their loops by the policy.
POLICY_MODULES = [
    "test_locks", "test_queues", "test_taskgroups", "test_timeouts", "test_waitfor", "test_threads", "test_futures2",
    "test_streams", "test_ssl", "test_runners", "test_context", "test_pep492",
]


def factory_of(name):
    if name == "asyncio":
        return asyncio.new_event_loop, None
    module = importlib.import_module(name)
    return module.new_event_loop, module.EventLoopPolicy


def load(module):
    return importlib.import_module(f"test.test_asyncio.{module}")


def loop_class(module, mixin, method, factory):
    """A test case of a mixin that uses the factory."""
    loaded = load(module)
    utils = importlib.import_module("test.test_asyncio.utils")
    base = getattr(loaded, mixin)
    body = {"__module__": base.__module__}
    if method is not None:
        body[method] = lambda self: factory()
    bases = (base,)
    if not issubclass(base, unittest.TestCase):
        bases += (unittest.TestCase,) if method == "new_loop" else (utils.TestCase,)
    if mixin in ("SubprocessTestsMixin", "SubprocessMixin"):
        def set_up(self):
            super(made, self).setUp()
            self.loop = factory()
            self.set_event_loop(self.loop)
        body["setUp"] = set_up
    made = type(mixin, bases, body)
    return made


def collect(loop_name):
    """Pairs of a class's name and its tests, which are pairs of a name and a function that makes the test."""
    factory, _ = factory_of(loop_name)
    groups = []
    for module, mixin, method in LOOP_CLASSES:
        case = loop_class(module, mixin, method, factory)
        groups.append((f"{module}.{mixin}", [
            (name, lambda case=case, name=name: case(name)) for name in unittest.TestLoader().getTestCaseNames(case)]))
    for module in POLICY_MODULES:
        try:
            loaded = load(module)
        except unittest.SkipTest as skip:
            print(f"{module}: skipped: {skip}")
            continue
        tests = []
        for suite in unittest.TestLoader().loadTestsFromModule(loaded):
            for test in suite:
                tests.append((f"{type(test).__name__}.{test._testMethodName}", lambda test=test: test))
        groups.append((module, tests))
    return groups


def run_test(make, policy):
    """Runs one test in this process; returns "ok", "skip" or "fail"."""
    faulthandler.enable()
    logging.basicConfig(level=logging.WARNING)
    if policy is not None:
        asyncio.set_event_loop_policy(policy())
    with tempfile.TemporaryDirectory() as directory:
        # Tests leave files where they run.
        os.chdir(directory)
        suite = unittest.TestSuite([make()])
        result = unittest.TextTestRunner(verbosity=2, stream=sys.stderr, warnings="default").run(suite)
        os.chdir("/")
    if result.skipped:
        return "skip"
    return "ok" if result.wasSuccessful() and result.testsRun else "fail"


class Job:
    """A test that runs in a child."""

    def __init__(self, group, name, make, policy):
        self.group, self.name = group, name
        self.began = time.monotonic()
        self.output = bytearray()
        self.reader, writer = os.pipe()
        self.status, status_writer = os.pipe()
        sys.stdout.flush()
        self.pid = os.fork()
        if self.pid == 0:
            self.in_child(make, policy, writer, status_writer)
        os.close(writer)
        os.close(status_writer)

    def in_child(self, make, policy, writer, status_writer):
        answer = "fail"
        try:
            os.setsid()
            null = os.open(os.devnull, os.O_RDONLY)
            os.dup2(null, 0)
            os.dup2(writer, 1)
            os.dup2(writer, 2)
            os.close(writer)
            sys.stdout = sys.stderr = io.TextIOWrapper(io.FileIO(2, "w", closefd=False), line_buffering=True, write_through=True)
            answer = run_test(make, policy)
        except BaseException:
            traceback.print_exc()
        finally:
            os.write(status_writer, answer.encode())
            os._exit(0)

    def finish(self, timed_out=False):
        """Kills what is left of it and says how it ended."""
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        try:
            os.kill(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        os.waitpid(self.pid, 0)
        answer = os.read(self.status, 16).decode()
        os.close(self.status)
        os.close(self.reader)
        return "timeout" if timed_out else answer or "crash"


def run_all(work, jobs, report):
    """Runs (group, name, make, policy) tuples, so many at a time."""
    running = {}
    work = list(reversed(work))
    while work or running:
        while work and len(running) < jobs:
            job = Job(*work.pop())
            running[job.status] = job
        descriptors = list(running) + [job.reader for job in running.values()]
        ready, _, _ = select.select(descriptors, [], [], 0.5)
        for job in list(running.values()):
            if job.reader in ready:
                job.output += os.read(job.reader, 65536)
            ended = job.status in ready
            timed_out = time.monotonic() - job.began > LIMIT
            if ended or timed_out:
                os.set_blocking(job.reader, False)
                try:
                    while chunk := os.read(job.reader, 65536):
                        job.output += chunk
                except BlockingIOError:
                    pass
                del running[job.status]
                report(job, job.finish(timed_out and not ended))


def read_expected():
    expected = {}
    if EXPECTED.exists():
        for line in EXPECTED.read_text().splitlines():
            name, _, reason = line.partition(" ")
            if name and not name.startswith("#"):
                expected[name] = reason.strip()
    return expected


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*")
    parser.add_argument("--verbose", "-v", action="store_true")
    parser.add_argument("--loop", default="evl")
    parser.add_argument("--jobs", type=int, default=(os.cpu_count() or 1) + 2)
    options = parser.parse_args()
    # A shell's background jobs ignore it; tests are about it.
    signal.signal(signal.SIGINT, signal.default_int_handler)

    _, policy = factory_of(options.loop)
    groups = collect(options.loop)
    expected = read_expected() if options.loop == "evl" else {}
    work = []
    for group, tests in groups:
        for name, make in tests:
            full = f"{group}.{name}"
            if not options.names or any(part in full for part in options.names):
                work.append((group, name, make, policy))
    outcomes = {}
    bad = []

    def report(job, outcome):
        full = f"{job.group}.{job.name}"
        outcomes[full] = outcome
        failed = outcome not in ("ok", "skip")
        if failed and full not in expected:
            bad.append(f"{outcome}: {full}")
        elif outcome == "ok" and full in expected:
            bad.append(f"passes, though expected to fail: {full}")
        if options.verbose or (failed and full not in expected):
            print(f"{outcome:8} {full} ({time.monotonic() - job.began:.1f} s)", flush=True)
        if failed and (options.verbose or full not in expected):
            print("    | " + job.output.decode(errors="replace").rstrip().replace("\n", "\n    | "), flush=True)

    run_all(work, options.jobs, report)
    passed = total = 0
    for group, tests in groups:
        of_group = [outcomes[f"{group}.{name}"] for name, _ in tests if f"{group}.{name}" in outcomes]
        if not of_group:
            continue
        good = of_group.count("ok")
        skipped = of_group.count("skip")
        passed += good
        total += len(of_group) - skipped
        print(f"{group}: {good}/{len(of_group) - skipped} passed" + (f", {skipped} skipped" if skipped else ""))
    for line in bad:
        print(line)
    print(f"conformance: {passed} of {total} passed, {len(bad)} unexpected")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
