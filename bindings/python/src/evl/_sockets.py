"""The sock_ methods of EventLoop, and look-ups."""

import errno
import functools
import os
import re
import socket
import stat
from asyncio import exceptions

from . import _evl
from .futures import Operation, finish

try:
    import ssl
except ImportError:
    # An interpreter may be built without it.
    ssl = None  # type: ignore[assignment]

_CHUNK = 256 * 1024
# What libevl says of an address that cannot be bound or connected to.
_FAILED = re.compile(r"(bind|connect) (\[.*\]|[^:]*):(\d+): ([^;]*)$", re.DOTALL)


@functools.lru_cache(typed=True)
def _name(value):
    """A host or a service as libevl takes it."""
    if isinstance(value, str):
        # Names that are not plain ones are encoded, or refused, as the socket module does it.
        if not value.isascii() or len(value) > 63 or ".." in value or value.startswith("."):
            return value.encode("idna").decode("ascii")
        return value
    if value is None:
        return value
    if isinstance(value, (bytes, bytearray)):
        return bytes(value).decode("ascii")
    return str(value)


@functools.lru_cache(typed=True)
def _host(value):
    """A host as libevl takes it."""
    if value is not None and not isinstance(value, (str, bytes, bytearray)):
        raise TypeError(f"a host must be a str, bytes, or None, not {type(value).__name__}")
    return _name(value)


def _check_file(sock, file, offset, count):
    if "b" not in getattr(file, "mode", "b"):
        raise ValueError("file should be opened in binary mode")
    if sock is not None and sock.type != socket.SOCK_STREAM:
        raise ValueError("only SOCK_STREAM type sockets are supported")
    if count is not None:
        if not isinstance(count, int):
            raise TypeError(f"count must be a positive integer (got {count!r})")
        if count <= 0:
            raise ValueError(f"count must be a positive integer (got {count!r})")
    if not isinstance(offset, int):
        raise TypeError(f"offset must be a non-negative integer (got {offset!r})")
    if offset < 0:
        raise ValueError(f"offset must be a non-negative integer (got {offset!r})")


def _regular_descriptor(file):
    """The descriptor of a file that the kernel can send by itself, or None."""
    try:
        fd = file.fileno()
        return fd if stat.S_ISREG(os.fstat(fd).st_mode) else None
    except (AttributeError, OSError, ValueError):
        return None


async def _finish_sending(started, file, offset):
    """Waits until a file is sent, and leaves it where that has come to: libevl does not move it."""
    if type(started) is not Operation:
        sent = started
    else:
        try:
            sent = await started
        except BaseException:
            if started.sent:
                file.seek(offset + started.sent)
            raise
        finally:
            # It keeps the exception, whose traceback has this frame.
            del started
    if sent:
        file.seek(offset + sent)
    return sent


def _reworded(error):
    """Has the error say what failed as asyncio says it, whose users look for the address in it."""
    found = _FAILED.match(error.strerror or "")
    if found:
        what, host, port, _ = found.groups()
        address = (host.strip("[]"), int(port))
        if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
            # Not the address is what is wrong.
            error.strerror = os.strerror(error.errno)
        elif what == "bind":
            why = os.strerror(error.errno).lower()
            error.strerror = f"error while attempting to bind on address {address!r}: {why}"
        else:
            error.strerror = f"Connect call failed {address!r}"
        error.args = (error.errno, error.strerror)
    elif (error.strerror or "").startswith("connect ") and ";" not in error.strerror:
        # Of a unix socket.
        error.strerror = os.strerror(error.errno)
        error.args = (error.errno, error.strerror)
    return error


def _check_port(port, call):
    """Has a port that is none fail as the socket module has it."""
    if isinstance(port, int) and not 0 <= port <= 65535:
        raise OverflowError(f"{call}(): port must be 0-65535.")


_ERRNOS = {os.strerror(number).lower(): number for number in errno.errorcode}


def _each_error(error):
    """The failures that an error tells of, each as an error of its own."""
    errors = []
    for text in (error.strerror or "").split("; "):
        found = _FAILED.match(text)
        if found:
            errors.append(_reworded(OSError(_ERRNOS.get(found[4].lower(), error.errno), text)))
    return errors or [error]


class Sockets:
    """Mixed into EventLoop."""

    def _check_socket(self, sock):
        if type(sock) is not socket.socket and ssl is not None and isinstance(sock, ssl.SSLSocket):
            raise TypeError("Socket cannot be of type SSLSocket")
        if self.get_debug() and sock.gettimeout() != 0:
            raise ValueError("the socket must be non-blocking")

    def _instead(self, sock, writer, at_once, start, *args):
        """Somebody waits for the descriptor already: as in asyncio, what can be done now is, and else this takes its place."""
        try:
            return at_once()
        except (BlockingIOError, InterruptedError):
            pass
        self._unwatch(sock.fileno(), writer)
        return start(sock.fileno(), *args)

    async def sock_recv(self, sock, nbytes):
        """Receives at most nbytes."""
        self._check_socket(sock)
        if nbytes < 0:
            raise ValueError("negative buffersize in recv")
        try:
            started = self._sock_recv(sock.fileno(), nbytes)
        except _evl.Busy:
            started = self._instead(sock, False, lambda: sock.recv(nbytes), self._sock_recv, nbytes)
        return await finish(started)

    async def sock_recv_into(self, sock, buf):
        """Receives into a buffer; returns how many bytes."""
        self._check_socket(sock)
        if not memoryview(buf).nbytes:
            return 0
        try:
            started = self._sock_recv_into(sock.fileno(), buf)
        except _evl.Busy:
            started = self._instead(sock, False, lambda: sock.recv_into(buf), self._sock_recv_into, buf)
        return await finish(started)

    async def sock_recvfrom(self, sock, bufsize):
        """Receives a datagram; returns it and its sender's address."""
        self._check_socket(sock)
        try:
            started = self._sock_recvfrom(sock.fileno(), bufsize)
        except _evl.Busy:
            started = self._instead(sock, False, lambda: sock.recvfrom(bufsize), self._sock_recvfrom, bufsize)
        return await finish(started)

    async def sock_recvfrom_into(self, sock, buf, nbytes=0):
        """Receives a datagram into a buffer; returns how many bytes and its sender's address."""
        self._check_socket(sock)
        try:
            started = self._sock_recvfrom_into(sock.fileno(), buf, nbytes)
        except _evl.Busy:
            started = self._instead(
                sock, False, lambda: sock.recvfrom_into(buf, nbytes), self._sock_recvfrom_into, buf, nbytes)
        return await finish(started)

    async def sock_sendall(self, sock, data):
        """Sends all of data."""
        self._check_socket(sock)
        try:
            started = self._sock_sendall(sock.fileno(), data)
        except _evl.Busy:
            try:
                sent = sock.send(data)
            except (BlockingIOError, InterruptedError):
                sent = 0
            data = memoryview(data).cast("B")[sent:]
            if not data:
                return
            self._unwatch(sock.fileno(), True)
            started = self._sock_sendall(sock.fileno(), data)
        return await finish(started)

    async def sock_sendto(self, sock, data, address):
        """Sends a datagram; returns how many bytes."""
        self._check_socket(sock)
        if sock.gettimeout() != 0:
            return sock.sendto(data, address)
        try:
            started = self._sock_sendto(sock.fileno(), data, address)
        except _evl.Busy:
            started = self._instead(sock, True, lambda: sock.sendto(data, address), self._sock_sendto, data, address)
        return await finish(started)

    async def sock_connect(self, sock, address):
        """Connects a socket."""
        self._check_socket(sock)
        if sock.family in (socket.AF_INET, socket.AF_INET6):
            host, port, *rest = address
            if not _is_numeric(sock.family, host) or isinstance(port, str):
                found = await self.getaddrinfo(host, port, family=sock.family, type=sock.type, proto=sock.proto)
                address = found[0][4]
        if sock.gettimeout() != 0:
            # Asyncio's blocks; it is refused in debug mode only.
            return sock.connect(address)
        try:
            try:
                started = self._sock_connect(sock.fileno(), address)
            except _evl.Busy:
                self._unwatch(sock.fileno(), True)
                started = self._sock_connect(sock.fileno(), address)
            return await finish(started)
        except OSError as error:
            raise _reworded(error)

    async def sock_accept(self, sock):
        """Accepts a connection; returns its socket and the peer's address."""
        self._check_socket(sock)
        try:
            started = self._sock_accept(sock.fileno())
        except _evl.Busy:
            started = self._instead(sock, False, lambda: _accepted(*sock.accept()), self._sock_accept)
        fd, address = await finish(started, lambda accepted: os.close(accepted[0]))
        connection = socket.socket(fileno=fd)
        connection.setblocking(False)
        return connection, address

    async def sock_sendfile(self, sock, file, offset=0, count=None, *, fallback=True):
        """Sends a file; returns how many bytes."""
        self._check_socket(sock)
        _check_file(sock, file, offset, count)
        fd = _regular_descriptor(file)
        if fd is None:
            if not fallback:
                raise exceptions.SendfileNotAvailableError(f"syscall sendfile is not available for {file!r}")
            return await self._send_by_reading(sock, file, offset, count)
        return await _finish_sending(self._sock_sendfile(sock.fileno(), fd, offset, count or 0), file, offset)

    async def _send_by_reading(self, sock, file, offset, count):
        if offset:
            file.seek(offset)
        size = _CHUNK if count is None else min(count, _CHUNK)
        buffer = bytearray(size)
        total = 0
        try:
            while count is None or total < count:
                view = memoryview(buffer)
                if count is not None:
                    view = view[:min(size, count - total)]
                read = await self.run_in_executor(None, file.readinto, view)
                if not read:
                    break
                await self.sock_sendall(sock, view[:read])
                total += read
            return total
        finally:
            if total > 0 and hasattr(file, "seek"):
                file.seek(offset + total)

    async def getaddrinfo(self, host, port, *, family=0, type=0, proto=0, flags=0):
        """socket.getaddrinfo, elsewhere."""
        found = await finish(self._getaddrinfo(_host(host), _name(port), family, type, proto, flags))
        return [
            (_member(socket.AddressFamily, entry[0]), _member(socket.SocketKind, entry[1]), *entry[2:]) for entry in found
        ]

    async def getnameinfo(self, sockaddr, flags=0):
        """socket.getnameinfo, elsewhere."""
        family = socket.AF_INET6 if len(sockaddr) > 2 or ":" in sockaddr[0] else socket.AF_INET
        return await finish(self._getnameinfo(family, tuple(sockaddr), flags))


def _accepted(connection, address):
    return connection.detach(), address


def _member(kind, value):
    try:
        return kind(value)
    except ValueError:
        return value


def _is_numeric(family, host):
    try:
        socket.inet_pton(family, host.partition("%")[0])
        return True
    except (OSError, TypeError, ValueError):
        return False
