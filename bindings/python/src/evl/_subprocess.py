"""Children of EventLoop."""

import asyncio
import os
import signal
import subprocess
import threading

from .futures import finish

# evl_process_stdio
_INHERIT, _PIPE, _DEVNULL, _STDOUT, _FD = range(5)
# evl_process_flag
_NEW_SESSION, _NEW_GROUP, _KEEP_FDS, _SET_UID, _SET_GID, _SET_GROUPS, _SET_UMASK = 1, 2, 4, 8, 16, 32, 64


def _stdio(value):
    """subprocess's way of saying what a descriptor is, as libevl's."""
    if value is None:
        return _INHERIT, 0
    if value == subprocess.PIPE:
        return _PIPE, 0
    if value == subprocess.DEVNULL:
        return _DEVNULL, 0
    if value == subprocess.STDOUT:
        return _STDOUT, 0
    return _FD, value if isinstance(value, int) else value.fileno()


def _encoded(value):
    return os.fsencode(value)


def _path(value):
    value = os.fsencode(value)
    if b"\0" in value:
        raise ValueError("embedded null byte")
    return value


def _variable(name, value):
    name = os.fsencode(name)
    if b"=" in name:
        raise ValueError("illegal environment variable name")
    return name + b"=" + os.fsencode(value)


def _user(given):
    """The number of a user that is given as such, or by name."""
    if isinstance(given, str):
        import pwd
        return pwd.getpwnam(given).pw_uid
    return _number(given, "User")


def _group(given):
    if isinstance(given, str):
        import grp
        return grp.getgrnam(given).gr_gid
    return _number(given, "Group")


def _number(given, what):
    if not isinstance(given, int):
        raise TypeError(f"{what} must be a string or an integer, not {type(given)}")
    if given < 0:
        raise ValueError(f"{what} ID cannot be negative, got {given}")
    # The highest number means that nothing is to be changed.
    if given >= 2**32 - 1:
        raise OverflowError(f"{what} ID is too large: {given}")
    return given


def _identity(user, group, extra_groups, umask):
    """Who the child is to be: flags, and their fields."""
    flags = 0
    if user is not None:
        flags |= _SET_UID
        user = _user(user)
    if group is not None:
        flags |= _SET_GID
        group = _group(group)
    if extra_groups is not None:
        if isinstance(extra_groups, str):
            raise TypeError("Groups must be a list, not a string")
        flags |= _SET_GROUPS
        extra_groups = [_group(member) for member in extra_groups]
    if umask >= 0:
        flags |= _SET_UMASK
        # As umask(2) does.
        umask &= 0o777
    return flags, (user or 0, group or 0, extra_groups or [], max(umask, 0))


class Subprocesses:
    """Mixed into EventLoop."""

    async def subprocess_shell(
            self, protocol_factory, cmd, *, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            universal_newlines=False, shell=True, bufsize=0, encoding=None, errors=None, text=None, executable=None,
            **kwargs):
        """Runs a shell's command line; returns a transport and its protocol."""
        if not isinstance(cmd, (bytes, str)):
            raise ValueError("cmd must be a string")
        if not shell:
            raise ValueError("shell must be True")
        _check_streams(universal_newlines, bufsize, encoding, errors, text)
        argv = [executable or "/bin/sh", "-c", cmd]
        return await self._spawn(protocol_factory, argv, executable, stdin, stdout, stderr, **kwargs)

    async def subprocess_exec(
            self, protocol_factory, program, *args, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            universal_newlines=False, shell=False, bufsize=0, encoding=None, errors=None, text=None, executable=None,
            **kwargs):
        """Runs a program; returns a transport and its protocol."""
        if shell:
            raise ValueError("shell must be False")
        _check_streams(universal_newlines, bufsize, encoding, errors, text)
        return await self._spawn(protocol_factory, [program, *args], executable, stdin, stdout, stderr, **kwargs)

    async def _spawn(
            self, protocol_factory, argv, executable, stdin, stdout, stderr, *, cwd=None, env=None, close_fds=True,
            pass_fds=(), start_new_session=False, process_group=None, restore_signals=True, preexec_fn=None,
            startupinfo=None, creationflags=0, user=None, group=None, extra_groups=None, umask=-1, pipesize=-1):
        if startupinfo is not None:
            raise ValueError("startupinfo is only supported on Windows platforms")
        if creationflags:
            raise ValueError("creationflags is only supported on Windows platforms")
        if preexec_fn is not None and not callable(preexec_fn):
            raise TypeError(f"preexec_fn must be callable, not {preexec_fn!r}")
        flags = 0 if close_fds or pass_fds else _KEEP_FDS
        if start_new_session:
            flags |= _NEW_SESSION
        if process_group == 0:
            flags |= _NEW_GROUP
        pass_fds = [int(fd) for fd in pass_fds]
        if any(not 0 <= fd < 2**31 for fd in pass_fds):
            raise ValueError("bad value(s) in pass_fds")
        more, identity = _identity(user, group, extra_groups, umask)
        protocol = protocol_factory()
        transport = SubprocessTransport(self, protocol)
        transport._process = self._start(
            transport, [_encoded(argument) for argument in argv], None if executable is None else _path(executable),
            None if env is None else [_variable(*item) for item in env.items()], None if cwd is None else _path(cwd), flags | more,
            (_stdio(stdin), _stdio(stdout), _stdio(stderr)), process_group or 0, pass_fds, identity, max(pipesize, 0),
            preexec_fn)
        try:
            await transport._made
        except BaseException:
            transport.close()
            await transport._wait()
            raise
        return transport, protocol


def _check_streams(universal_newlines, bufsize, encoding, errors, text):
    if universal_newlines:
        raise ValueError("universal_newlines must be False")
    if bufsize != 0:
        raise ValueError("bufsize must be 0")
    if text:
        raise ValueError("text must be False")
    if encoding is not None:
        raise ValueError("encoding must be None")
    if errors is not None:
        raise ValueError("errors must be None")


def _popen(pid, returncode):
    """A subprocess.Popen of a child that was started without it."""
    popen = subprocess.Popen.__new__(subprocess.Popen)
    popen.pid = pid
    popen.returncode = returncode
    popen.args = ()
    popen.stdin = popen.stdout = popen.stderr = None
    popen._waitpid_lock = threading.Lock()
    popen._child_created = True
    popen._sigint_wait_secs = 0.25
    return popen


class SubprocessTransport(asyncio.SubprocessTransport):
    """A child process."""

    def __init__(self, loop, protocol):
        super().__init__()
        self._loop = loop
        self._protocol = protocol
        self._process = None
        self._pipes = {}
        self._made = loop.create_future()
        self._finished = False
        self._extra = {}
        self._popen = None

    def __repr__(self):
        info = [type(self).__name__]
        if self._process is not None:
            info.append(f"pid={self.get_pid()}")
            returncode = self.get_returncode()
            info.append("running" if returncode is None else f"returncode={returncode}")
        return f"<{' '.join(info)}>"

    # --- what the extension calls

    def _on_made(self):
        for fd in range(3):
            pipe = self._process.pipe(fd)
            if pipe is not None:
                self._pipes[fd] = pipe
        try:
            self._protocol.connection_made(self)
        finally:
            if not self._made.done():
                self._made.set_result(None)

    def _on_data(self, fd, data):
        self._protocol.pipe_data_received(fd, data)

    def _on_pipe_lost(self, fd, exc):
        self._protocol.pipe_connection_lost(fd, exc)

    def _on_exited(self):
        if self._popen is not None and self._popen.returncode is None:
            self._popen.returncode = self.get_returncode()
        self._protocol.process_exited()

    def _on_lost(self, exc):
        try:
            self._protocol.connection_lost(exc)
        finally:
            self._finished = True
            self._pipes.clear()

    def _on_pause(self):
        self._protocol.pause_writing()

    def _on_resume(self):
        self._protocol.resume_writing()

    # --- asyncio.SubprocessTransport

    def get_extra_info(self, name, default=None):
        """'subprocess': the child as a subprocess.Popen, which did not start it, but can be asked and send signals."""
        if name == "subprocess" and self._process is not None:
            if self._popen is None:
                self._popen = _popen(self.get_pid(), self.get_returncode())
            return self._popen
        return default

    def get_pid(self):
        """The child's number."""
        return self._process.pid()

    def get_returncode(self):
        """How the child has ended, or None."""
        return self._process.returncode()

    def get_pipe_transport(self, fd):
        """The transport of the child's descriptor 0, 1 or 2, or None."""
        return self._pipes.get(fd)

    def set_protocol(self, protocol):
        """Has another protocol be called."""
        self._protocol = protocol

    def get_protocol(self):
        """The protocol."""
        return self._protocol

    def is_closing(self):
        """Whether the transport was closed."""
        return self._process.is_closing()

    def close(self):
        """Closes the pipes, and kills a child that runs."""
        if self._process is None:
            return
        if self._popen is not None and self.get_returncode() is None and self._popen.poll() is None:
            self._popen.kill()
        self._process.close()

    def _check_child(self):
        if self._finished:
            raise ProcessLookupError()

    def send_signal(self, signal):
        """Sends the child a signal."""
        self._check_child()
        self._process.send_signal(signal)

    def terminate(self):
        """Sends the child SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self):
        """Sends the child SIGKILL."""
        self.send_signal(signal.SIGKILL)

    async def _wait(self):
        returncode = self.get_returncode()
        return await finish(self._process.wait()) if returncode is None else returncode
