"""What the tests of applications share: a test case on evl, servers in processes of their own, certificates.

script/test has pip install requirements.txt, and runs each test_*.py by itself. One that lacks a package or a server says so,
and exits with 77.
"""

import asyncio
import contextlib
import faulthandler
import functools
import gc
import importlib.util
import inspect
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
import unittest

import evl

HERE = os.path.dirname(os.path.abspath(__file__))


def need(*packages, **programs):
    """Ends the run, saying why, without one of the packages, or of the programs: what is missing when the value is false."""
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    missing += [name.replace("_", "-") for name, found in programs.items() if not found]
    if missing:
        print(f"{', '.join(missing)} not installed")
        sys.exit(77)


def main():
    unittest.main(module="__main__", verbosity=2)


# --- tests

class Test(unittest.TestCase):
    """Runs each async test_ function on a loop of evl's, at most `limit` seconds. What its exception handler hears fails it."""

    limit = 30

    def __init_subclass__(cls):
        for name, function in list(vars(cls).items()):
            if name.startswith("test_") and inspect.iscoroutinefunction(function):
                setattr(cls, name, _on_evl(function))

    def setUp(self):
        # For a loop that does not even come round to its timeout.
        faulthandler.dump_traceback_later(self.limit + 15, exit=True)
        self.addCleanup(faulthandler.cancel_dump_traceback_later)

    def directory(self):
        """A directory that goes with the test."""
        made = tempfile.TemporaryDirectory()
        self.addCleanup(made.cleanup)
        return made.name

    async def enter(self, manager):
        """Enters an asynchronous context manager, which is left when the test ends."""
        return await self.stack.enter_async_context(manager)

    def task(self, coroutine):
        """A task that is cancelled when the test ends."""
        task = asyncio.create_task(coroutine)
        self.stack.push_async_callback(_cancelled, task)
        return task


async def _cancelled(task):
    task.cancel()
    await asyncio.wait([task])


def assert_evl():
    """The running loop is evl's."""
    loop = asyncio.get_running_loop()
    assert type(loop) is evl.EventLoop, loop


def _on_evl(function):
    @functools.wraps(function)
    def run(self):
        unheard = []

        async def limited():
            assert_evl()
            asyncio.get_running_loop().set_exception_handler(lambda loop, context: unheard.append(context))
            async with asyncio.timeout(self.limit), contextlib.AsyncExitStack() as self.stack:
                try:
                    await function(self)
                except BaseException:
                    # Said now, too: what is left may not come to its end.
                    traceback.print_exc()
                    raise
            # Exceptions that nobody took are heard of when their future goes.
            gc.collect()

        evl.run(limited())
        self.assertEqual(unheard, [])

    return run


async def until(condition, seconds=10):
    """Asks again and again what cannot be waited for: a server's state."""
    async with asyncio.timeout(seconds):
        while not await condition():
            await asyncio.sleep(0.01)


# --- servers

class Child:
    """A program that ends with this one; its output is read as it comes."""

    def __init__(self, *command, user=None, env=None, cwd=None):
        # setpriv becomes the program.
        own = ["setpriv", "--pdeathsig", "KILL"]
        if user is not None:
            own += ["--reuid", user.pw_name, "--regid", str(user.pw_gid), "--init-groups"]
        self.process = subprocess.Popen(
            own + list(command), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=cwd,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **(env or {})})
        self.output = ""
        self._ended = False
        self._more = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        for line in self.process.stdout:
            with self._more:
                self.output += line
                self._more.notify_all()
        with self._more:
            self._ended = True
            self._more.notify_all()

    def wait_for(self, pattern, seconds=20):
        """Waits until the output matches; returns the match."""
        with self._more:
            self._more.wait_for(lambda: self._ended or re.search(pattern, self.output), seconds)
            found = re.search(pattern, self.output)
            if found is None:
                raise AssertionError(f"{self.process.args} did not say {pattern!r}, but:\n{self.output}")
            return found

    def stop(self, sig=signal.SIGTERM, seconds=15):
        """Sends a signal and waits for the end; returns how it ended."""
        if self.process.returncode is None:
            self.process.send_signal(sig)
        return self.wait(seconds)

    def wait(self, seconds=15):
        """Waits for the end; returns how it ended."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"{self.process.args} did not end, but said:\n{self.output}") from None
        finally:
            self._reader.join()
            self.process.stdout.close()

    def kill(self):
        """Ends it whatever it does, and its children; fine when it has ended."""
        if self.process.returncode is None:
            family = descendants(self.process.pid)
            self.process.kill()
            for pid in family:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self.wait()


def descendants(pid):
    """The children of a process, and theirs."""
    try:
        with open(f"/proc/{pid}/task/{pid}/children") as file:
            children = [int(child) for child in file.read().split()]
    except OSError:
        return []
    return children + [one for child in children for one in descendants(child)]


def free_port():
    """A port for a server that cannot say which one the system gave it."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def started(start):
    """Has start() choose a port and start a server on it: again, should somebody have taken it meanwhile."""
    for _ in range(3):
        try:
            return start()
        except AssertionError as error:
            failed = error
    raise failed


def postgres_programs():
    """The directory of PostgreSQL's programs, or None."""
    found = shutil.which("initdb")
    directory = "/usr/lib/postgresql"
    if os.path.isdir(directory):
        for version in sorted(os.listdir(directory), key=lambda name: [int(part) for part in re.findall(r"\d+", name)]):
            path = f"{directory}/{version}/bin/initdb"
            found = path if os.path.exists(path) else found
    return found and os.path.dirname(os.path.realpath(found))


def unprivileged():
    """The user that root runs PostgreSQL as."""
    try:
        return pwd.getpwnam("postgres")
    except KeyError:
        return pwd.getpwnam("nobody")


class PostgreSQL:
    """A server with a cluster of its own, in a directory that goes with it. Its superuser is "tester", without a password."""

    def __init__(self, certificates):
        self._made = tempfile.TemporaryDirectory()
        self.directory = self._made.name
        self._programs = postgres_programs()
        # PostgreSQL does not run as root.
        self._user = unprivileged() if os.geteuid() == 0 else None
        for kind in ("certificate", "key"):
            to = f"{self.directory}/{kind}"
            shutil.copyfile(getattr(certificates, kind), to)
            os.chmod(to, 0o600)
            self._own(to)
        self._own(self.directory)
        made = self._run(
            "initdb", "-D", "data", "-U", "tester", "-A", "trust", "-E", "UTF8", "--locale", "C", "--no-sync",
            "--no-instructions")
        if made.wait(60) != 0:
            raise AssertionError(made.output)
        started(self._start)

    def _own(self, path):
        if self._user is not None:
            os.chown(path, self._user.pw_uid, self._user.pw_gid)

    def _run(self, program, *arguments):
        return Child(f"{self._programs}/{program}", *arguments, user=self._user, cwd=self.directory)

    def _start(self):
        self.port = free_port()
        settings = {
            "port": self.port, "listen_addresses": "127.0.0.1", "unix_socket_directories": self.directory, "fsync": "off",
            "max_connections": "120", "shared_buffers": "32MB", "ssl": "on",
            "ssl_cert_file": f"{self.directory}/certificate", "ssl_key_file": f"{self.directory}/key",
        }
        options = [option for name, value in settings.items() for option in ("-c", f"{name}={value}")]
        self.child = self._run("postgres", "-D", "data", *options)
        self.child.wait_for("database system is ready to accept connections")

    def stop(self):
        """Ends the server, the fast way, and what it has left."""
        try:
            self.child.stop(signal.SIGINT)
        finally:
            self._made.cleanup()


# --- certificates

class Certificates:
    """A certificate for localhost, and contexts for both sides. Needs trustme."""

    def __init__(self, directory):
        import ssl

        import trustme

        authority = trustme.CA()
        issued = authority.issue_cert("localhost", "127.0.0.1")
        self.key, self.certificate, self.authority = (f"{directory}/{name}.pem" for name in ("key", "certificate", "authority"))
        issued.private_key_pem.write_to_path(self.key)
        for number, blob in enumerate(issued.cert_chain_pems):
            blob.write_to_path(self.certificate, append=number > 0)
        authority.cert_pem.write_to_path(self.authority)
        self.server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.server.load_cert_chain(self.certificate, self.key)
        self.client = ssl.create_default_context(cafile=self.authority)


# --- HTTP by hand


class PostgreSQLTest(Test):
    """Tests against a PostgreSQL of their own."""

    @classmethod
    def setUpClass(cls):
        made = tempfile.TemporaryDirectory()
        cls.addClassCleanup(made.cleanup)
        cls.certificates = Certificates(made.name)
        cls.server = PostgreSQL(cls.certificates)
        cls.addClassCleanup(cls.server.stop)


def http(address, request, timeout=20):
    """Sends one request to a host and port or a unix socket, and returns all that is answered."""
    with socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET) as sock:
        sock.settimeout(timeout)
        sock.connect(address)
        sock.sendall(request)
        return read_all(sock)


def read_all(sock):
    """What comes until the peer closes."""
    parts = []
    while part := sock.recv(65536):
        parts.append(part)
    return b"".join(parts)


def pattern(size, seed=0):
    """Bytes in which a piece that is lost, doubled or out of place shows."""
    import random

    return random.Random(seed).randbytes(size)
