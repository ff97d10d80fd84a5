"""Connections, servers, datagram endpoints and pipes of EventLoop."""

import asyncio
import collections.abc
import errno
import os
import socket
import stat
import sys
from asyncio import constants, exceptions, sslproto

from . import _evl
from ._sockets import _check_file, _check_port, _each_error, _finish_sending, _host, _name, _regular_descriptor, _reworded
from .futures import close, close_connection, finish
from .server import Nowhere, Server

try:
    import ssl as ssl_module
except ImportError:
    # An interpreter may be built without it.
    ssl_module = None  # type: ignore[assignment]

_CHUNK = 16 * 1024
# Whether a unix server removes its file.
_CLEANS_UP = sys.version_info >= (3, 13)

# evl_server_flag and evl_datagram_flag
_REUSE_PORT, _NO_REUSE_ADDRESS, _NOT_STARTED = 1, 2, 4
_BROADCAST = 2


def _check_timeouts(ssl, ssl_handshake_timeout, ssl_shutdown_timeout):
    if ssl:
        return
    if ssl_handshake_timeout is not None:
        raise ValueError("ssl_handshake_timeout is only meaningful with ssl")
    if ssl_shutdown_timeout is not None:
        raise ValueError("ssl_shutdown_timeout is only meaningful with ssl")


def _check_stream(sock):
    if ssl_module is not None and isinstance(sock, ssl_module.SSLSocket):
        raise TypeError("Socket cannot be of type SSLSocket")
    if sock.type != socket.SOCK_STREAM:
        raise ValueError(f"A Stream Socket was expected, got {sock!r}")


def _unix_name(path):
    path = os.fspath(path)
    return os.fsencode(path) if isinstance(path, str) else bytes(path)


class Network:
    """Mixed into EventLoop."""

    # --- connections

    async def _secure(self, connect, arguments, protocol_factory, ssl, server_hostname, handshake_timeout, shutdown_timeout):
        """Has connect(factory, *arguments) connect, and waits until TLS has shaken hands."""
        waiter = self.create_future()
        factory = _SecuredFactory(
            self, protocol_factory, None if ssl is True else ssl, waiter, server_hostname,
            dict(ssl_handshake_timeout=handshake_timeout, ssl_shutdown_timeout=shutdown_timeout))
        await finish(connect(factory, *arguments), close_connection)
        protocol, secure = factory.protocol, factory.made._app_transport
        factory.made = None
        try:
            await waiter
        except BaseException:
            secure.close()
            raise
        return secure, protocol

    async def create_connection(
            self, protocol_factory, host=None, port=None, *, ssl=None, family=0, proto=0, flags=0, sock=None,
            local_addr=None, server_hostname=None, ssl_handshake_timeout=None, ssl_shutdown_timeout=None,
            happy_eyeballs_delay=None, interleave=None, all_errors=False):
        """Connects to a host; returns a transport and its protocol."""
        if server_hostname is not None and not ssl:
            raise ValueError("server_hostname is only meaningful with ssl")
        if server_hostname is None and ssl:
            if not host:
                raise ValueError("You must set server_hostname when using ssl without a host")
            server_hostname = host
        if ssl_handshake_timeout is not None or ssl_shutdown_timeout is not None:
            _check_timeouts(ssl, ssl_handshake_timeout, ssl_shutdown_timeout)
        if sock is not None:
            if host is not None or port is not None:
                raise ValueError("host/port and sock can not be specified at the same time")
            _check_stream(sock)
            sock.setblocking(False)
            connect, arguments = self._connect_socket, (sock,)
        else:
            if host is None and port is None:
                raise ValueError("host and port was not specified and no sock specified")
            local_host = local_port = None
            if local_addr is not None:
                local_host, local_port = local_addr
                _check_port(local_port, "bind")
                local_host, local_port = _host(local_host), _name(local_port)
            _check_port(port, "connect")
            if interleave is None:
                interleave = 0 if happy_eyeballs_delay is None else 1
            connect, arguments = self._connect, (
                "localhost" if host is None else _host(host), _name(port or 0), local_host, local_port, family, flags, interleave,
                happy_eyeballs_delay or 0)
        try:
            if ssl:
                return await self._secure(
                    connect, arguments, protocol_factory, ssl, server_hostname, ssl_handshake_timeout, ssl_shutdown_timeout)
            return await finish(connect(protocol_factory, *arguments), close_connection)
        except OSError as error:
            if all_errors and sock is None:
                raise ExceptionGroup("create_connection failed", _each_error(error)) from None
            raise _reworded(error)

    async def create_unix_connection(
            self, protocol_factory, path=None, *, ssl=None, sock=None, server_hostname=None, ssl_handshake_timeout=None,
            ssl_shutdown_timeout=None):
        """Connects to a unix socket; returns a transport and its protocol."""
        assert server_hostname is None or isinstance(server_hostname, str)
        if ssl:
            if server_hostname is None:
                raise ValueError("you have to pass server_hostname when using ssl")
        elif server_hostname is not None:
            raise ValueError("server_hostname is only meaningful with ssl")
        _check_timeouts(ssl, ssl_handshake_timeout, ssl_shutdown_timeout)
        if path is not None:
            if sock is not None:
                raise ValueError("path and sock can not be specified at the same time")
            connect, arguments = self._connect_unix, (_unix_name(path),)
        else:
            if sock is None:
                raise ValueError("no path and sock were specified")
            if sock.family != socket.AF_UNIX or sock.type != socket.SOCK_STREAM:
                raise ValueError(f"A UNIX Domain Stream Socket was expected, got {sock!r}")
            sock.setblocking(False)
            connect, arguments = self._connect_socket, (sock,)
        try:
            if ssl:
                return await self._secure(
                    connect, arguments, protocol_factory, ssl, server_hostname, ssl_handshake_timeout, ssl_shutdown_timeout)
            return await finish(connect(protocol_factory, *arguments), close_connection)
        except OSError as error:
            raise _reworded(error)

    async def connect_accepted_socket(
            self, protocol_factory, sock, *, ssl=None, ssl_handshake_timeout=None, ssl_shutdown_timeout=None):
        """Makes a connected socket a transport, on the server's side."""
        if sock.type != socket.SOCK_STREAM:
            raise ValueError(f"A Stream Socket was expected, got {sock!r}")
        _check_timeouts(ssl, ssl_handshake_timeout, ssl_shutdown_timeout)
        _check_stream(sock)
        sock.setblocking(False)
        if not ssl:
            return await finish(self._connect_socket(protocol_factory, sock), close_connection)
        waiter = self.create_future()
        protocol = protocol_factory()
        tls = sslproto.SSLProtocol(
            self, protocol, ssl, waiter, server_side=True, ssl_handshake_timeout=ssl_handshake_timeout,
            ssl_shutdown_timeout=ssl_shutdown_timeout)
        await finish(self._connect_socket(lambda: tls, sock), close_connection)
        try:
            await waiter
        except BaseException:
            tls._app_transport.close()
            raise
        return tls._app_transport, protocol

    async def start_tls(
            self, transport, protocol, sslcontext, *, server_side=False, server_hostname=None, ssl_handshake_timeout=None,
            ssl_shutdown_timeout=None):
        """Begins TLS on a connection; returns the transport to use from now on."""
        if ssl_module is None:
            raise RuntimeError("Python ssl module is not available")
        if not isinstance(sslcontext, ssl_module.SSLContext):
            raise TypeError(f"sslcontext is expected to be an instance of ssl.SSLContext, got {sslcontext!r}")
        if not isinstance(transport, (_evl.StreamTransport, sslproto._SSLProtocolTransport)) or (
                isinstance(transport, _evl.StreamTransport) and not transport.can_write_eof()):
            raise TypeError(f"transport {transport!r} is not supported by start_tls()")
        waiter = self.create_future()
        tls = sslproto.SSLProtocol(
            self, protocol, sslcontext, waiter, server_side, server_hostname, call_connection_made=False,
            ssl_handshake_timeout=ssl_handshake_timeout, ssl_shutdown_timeout=ssl_shutdown_timeout)
        # What comes must not be read before the handshake has begun.
        transport.pause_reading()
        transport.set_protocol(tls)
        made = self.call_soon(tls.connection_made, transport)
        resumed = self.call_soon(transport.resume_reading)
        try:
            await waiter
        except BaseException:
            transport.close()
            made.cancel()
            resumed.cancel()
            raise
        return tls._app_transport

    # --- servers

    def _serving(self, protocol_factory, ssl, ssl_handshake_timeout, ssl_shutdown_timeout):
        """The factory of what a server's connections get."""
        if not ssl:
            return protocol_factory

        def factory():
            waiter = None
            if self.get_debug():
                waiter = self.create_future()
                waiter.add_done_callback(self._secured)
            return sslproto.SSLProtocol(
                self, protocol_factory(), ssl, waiter, server_side=True, ssl_handshake_timeout=ssl_handshake_timeout,
                ssl_shutdown_timeout=ssl_shutdown_timeout)

        return factory

    def _secured(self, waiter):
        """In debug mode: tells of a connection that did not come to shaking hands."""
        if not waiter.cancelled() and waiter.exception() is not None:
            self.call_exception_handler({
                "message": "Error on transport creation for incoming connection",
                "exception": waiter.exception(),
            })

    async def create_server(
            self, protocol_factory, host=None, port=None, *, family=socket.AF_UNSPEC, flags=socket.AI_PASSIVE, sock=None,
            backlog=100, ssl=None, reuse_address=None, reuse_port=None, keep_alive=None, ssl_handshake_timeout=None,
            ssl_shutdown_timeout=None, start_serving=True):
        """Makes a TCP server."""
        if isinstance(ssl, bool):
            raise TypeError("ssl argument must be an SSLContext or None")
        _check_timeouts(ssl, ssl_handshake_timeout, ssl_shutdown_timeout)
        factory = self._serving(protocol_factory, ssl, ssl_handshake_timeout, ssl_shutdown_timeout)
        options = 0 if start_serving else _NOT_STARTED
        if sock is not None:
            if host is not None or port is not None:
                raise ValueError("host/port and sock can not be specified at the same time")
            _check_stream(sock)
            return await self._serve_given(factory, sock, options, backlog)
        if host is None and port is None:
            raise ValueError("Neither host/port nor sock were specified")
        _check_port(port, "bind")
        if reuse_port:
            options |= _REUSE_PORT
        if reuse_address is False:
            options |= _NO_REUSE_ADDRESS
        if host is None or host == "":
            hosts = None
        elif isinstance(host, (str, bytes)) or not isinstance(host, collections.abc.Iterable):
            hosts = [_host(host)]
        else:
            hosts = [_host(name) for name in host]
            if not hosts:
                # Nothing is not everything.
                return Server(self, Nowhere(start_serving))
        try:
            # What connections inherit is set before any is taken.
            server = await self._served(
                self._serve(factory, hosts, _name(port or 0), family, options | (_NOT_STARTED if keep_alive else 0), backlog))
        except OSError as error:
            raise _reworded(error)
        if keep_alive:
            server._keep_alive()
            if start_serving:
                server._begin()
        return server

    async def _served(self, started, sockets=None):
        core = await finish(started, lambda core: Server(self, core, sockets).close())
        return Server(self, core, sockets)

    async def _serve_given(self, factory, sock, options, backlog):
        sock.setblocking(False)
        return await self._served(self._serve_socket(factory, sock.fileno(), options, backlog), [sock])

    async def create_unix_server(
            self, protocol_factory, path=None, *, sock=None, backlog=100, ssl=None, ssl_handshake_timeout=None,
            ssl_shutdown_timeout=None, start_serving=True, cleanup_socket=_CLEANS_UP):
        """Makes a server of a unix socket. With cleanup_socket, as of Python 3.13 by itself, its file goes when it is closed."""
        if isinstance(ssl, bool):
            raise TypeError("ssl argument must be an SSLContext or None")
        _check_timeouts(ssl, ssl_handshake_timeout, ssl_shutdown_timeout)
        factory = self._serving(protocol_factory, ssl, ssl_handshake_timeout, ssl_shutdown_timeout)
        options = 0 if start_serving else _NOT_STARTED
        if path is not None:
            if sock is not None:
                raise ValueError("path and sock can not be specified at the same time")
            try:
                server = await self._served(self._serve_unix(factory, _unix_name(path), options, backlog))
            except OSError as error:
                if error.errno == errno.EADDRINUSE:
                    raise OSError(errno.EADDRINUSE, f"Address {os.fspath(path)!r} is already in use") from None
                raise
        else:
            if sock is None:
                raise ValueError("path was not specified, and no sock specified")
            if sock.family != socket.AF_UNIX or sock.type != socket.SOCK_STREAM:
                raise ValueError(f"A UNIX Domain Stream Socket was expected, got {sock!r}")
            server = await self._serve_given(factory, sock, options, backlog)
        if cleanup_socket:
            server._clean_up()
        return server

    # --- datagrams

    async def create_datagram_endpoint(
            self, protocol_factory, local_addr=None, remote_addr=None, *, family=0, proto=0, flags=0, reuse_port=None,
            allow_broadcast=None, sock=None):
        """Makes a datagram endpoint; returns a transport and its protocol."""
        factory = _Factory(protocol_factory)
        if sock is not None:
            if sock.type == socket.SOCK_STREAM:
                raise ValueError(f"A UDP Socket was expected, got {sock!r}")
            given = dict(local_addr=local_addr, remote_addr=remote_addr, family=family, proto=proto, flags=flags,
                         reuse_port=reuse_port, allow_broadcast=allow_broadcast)
            problems = ", ".join(f"{name}={value}" for name, value in given.items() if value)
            if problems:
                raise ValueError(f"socket modifier keyword arguments can not be used when sock is specified. ({problems})")
            sock.setblocking(False)
            transport = await finish(self._datagram_socket(factory, sock), close)
        elif family == getattr(socket, "AF_UNIX", None) and family:
            for address in (local_addr, remote_addr):
                if address is not None and not isinstance(address, (str, bytes, os.PathLike)):
                    raise TypeError("string is expected")
            transport = await finish(self._datagram_unix(
                factory, None if local_addr is None else _unix_name(local_addr),
                None if remote_addr is None else _unix_name(remote_addr)), close)
        else:
            if not (local_addr or remote_addr) and family == 0:
                raise ValueError("unexpected address family")
            for address in (local_addr, remote_addr):
                if address is not None and not (isinstance(address, tuple) and len(address) == 2):
                    raise TypeError("2-tuple is expected")
            options = (_REUSE_PORT if reuse_port else 0) | (_BROADCAST if allow_broadcast else 0)
            local_host, local_port = local_addr or (None, None)
            remote_host, remote_port = remote_addr or (None, None)
            _check_port(local_port, "bind")
            _check_port(remote_port, "connect")
            try:
                transport = await finish(self._datagram(
                    factory, family, proto, options, _host(local_host), _name(local_port), _host(remote_host),
                    _name(remote_port), flags), close)
            except OSError as error:
                if error.strerror == "can not get address information":
                    raise ValueError(error.strerror) from None
                if error.errno is not None and error.errno > 0:
                    error.strerror = os.strerror(error.errno)
                    error.args = (error.errno, error.strerror)
                raise
        return transport, factory.protocol

    # --- pipes

    async def connect_read_pipe(self, protocol_factory, pipe):
        """Reads from a pipe; returns a transport and its protocol."""
        return await self._pipe(protocol_factory, pipe, False)

    async def connect_write_pipe(self, protocol_factory, pipe):
        """Writes to a pipe; returns a transport and its protocol."""
        return await self._pipe(protocol_factory, pipe, True)

    async def _pipe(self, protocol_factory, pipe, writer):
        mode = os.fstat(pipe.fileno()).st_mode
        if not (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or stat.S_ISCHR(mode)):
            raise ValueError("Pipe transport is only for pipes, sockets and character devices" if writer else
                             "Pipe transport is for pipes/sockets only.")
        protocol = protocol_factory()
        # The object closes its own descriptor, at the end.
        fd = os.dup(pipe.fileno())
        try:
            transport = self._connect_pipe(protocol, fd, writer, pipe)
        except BaseException:
            os.close(fd)
            raise
        transport._extra["pipe"] = pipe
        # connection_made is called by the next iteration.
        made = self.create_future()
        self.call_soon(_settle, made)
        try:
            await made
        except BaseException:
            transport.close()
            raise
        return transport, protocol

    # --- files

    async def sendfile(self, transport, file, offset=0, count=None, *, fallback=True):
        """Sends a file by a transport; returns how many bytes."""
        if transport.is_closing():
            raise RuntimeError("Transport is closing")
        mode = getattr(transport, "_sendfile_compatible", constants._SendfileMode.UNSUPPORTED)
        if mode is constants._SendfileMode.UNSUPPORTED:
            raise RuntimeError(f"sendfile is not supported for transport {transport!r}")
        if mode is constants._SendfileMode.TRY_NATIVE:
            _check_file(None, file, offset, count)
            try:
                return await self._sendfile_native(transport, file, offset, count)
            except exceptions.SendfileNotAvailableError:
                if not fallback:
                    raise
        if not fallback:
            raise RuntimeError(f"fallback is disabled and native sendfile is not supported for transport {transport!r}")
        _check_file(None, file, offset, count)
        return await self._sendfile_by_writing(transport, file, offset, count)

    async def _sendfile_native(self, transport, file, offset, count):
        fd = _regular_descriptor(file)
        started = None if fd is None else self._send_file(transport, fd, offset, count or 0)
        if started is None:
            raise exceptions.SendfileNotAvailableError(f"syscall sendfile is not available for {file!r} and {transport!r}")
        return await _finish_sending(started, file, offset)

    async def _sendfile_by_writing(self, transport, file, offset, count):
        if hasattr(file, "seek"):
            file.seek(offset)
        flow = _Flow(self, transport)
        total = 0
        try:
            while count is None or total < count:
                size = _CHUNK if count is None else min(count - total, _CHUNK)
                data = await self.run_in_executor(None, file.read, size)
                if not data:
                    break
                await flow.drain()
                transport.write(data)
                total += len(data)
            return total
        finally:
            if total > 0 and hasattr(file, "seek"):
                file.seek(offset + total)
            await flow.restore()


class _Factory:
    """Makes a protocol by another factory, and keeps it: a transport that connection_made closes has none in the end."""

    __slots__ = ("factory", "protocol")

    def __init__(self, factory):
        self.factory = factory

    def __call__(self):
        self.protocol = self.factory()
        return self.protocol


class _SecuredFactory:
    """Makes protocols that do TLS for those of another factory; keeps the last of them."""

    def __init__(self, loop, factory, context, waiter, server_hostname, options):
        self.arguments = (loop, factory, context, waiter, server_hostname, options)
        self.protocol = self.made = None

    def __call__(self):
        (loop, factory, context, waiter, server_hostname, options), self.arguments = self.arguments, None
        self.protocol = factory()
        self.made = sslproto.SSLProtocol(
            loop, self.protocol, context, waiter, server_side=False, server_hostname=server_hostname, **options)
        return self.made


def _settle(future):
    if not future.done():
        future.set_result(None)


class _Flow(asyncio.Protocol):
    """A transport's protocol while a file is being written to it."""

    def __init__(self, loop, transport):
        self._loop = loop
        self._transport = transport
        self._protocol = transport.get_protocol()
        self._resume_reading = transport.is_reading()
        self._waiter = None
        self._paused = False
        self._lost = None
        transport.pause_reading()
        transport.set_protocol(self)

    async def drain(self):
        if self._lost is not None or self._transport.is_closing():
            raise self._lost if isinstance(self._lost, Exception) else ConnectionError("Connection closed by peer")
        if self._paused:
            self._waiter = self._loop.create_future()
            await self._waiter

    def connection_made(self, transport):
        raise RuntimeError("Invalid state: connection should have been established already.")

    def connection_lost(self, exc):
        self._lost = exc if exc is not None else ConnectionError("Connection is closed by peer")
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(self._lost)
        self._protocol.connection_lost(exc)

    def pause_writing(self):
        self._paused = True

    def resume_writing(self):
        self._paused = False
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
        self._waiter = None

    def data_received(self, data):
        raise RuntimeError("Invalid state: reading should be paused")

    def eof_received(self):
        raise RuntimeError("Invalid state: reading should be paused")

    async def restore(self):
        self._transport.set_protocol(self._protocol)
        if self._resume_reading:
            self._transport.resume_reading()
        if self._waiter is not None:
            self._waiter.cancel()
        if self._paused:
            self._protocol.pause_writing()
