"""Transports: what is not in the C part of them."""

import asyncio.trsock
import socket
from asyncio import constants
from asyncio.log import logger

from . import _evl

__all__ = ("DatagramTransport", "StreamTransport")


def _closed_socket(name, kind):
    """A socket that is closed, of the family of an address."""
    if isinstance(name, tuple):
        family = socket.AF_INET if len(name) == 2 else socket.AF_INET6
    else:
        family = socket.AF_UNIX
    with socket.socket(family, kind) as sock:
        return asyncio.trsock.TransportSocket(sock)


def socket_info(transport, kind=socket.SOCK_STREAM):
    """The socket of a transport, for get_extra_info: its descriptor is evl's, which closes it."""
    if transport._lost:
        return _closed_socket(transport.get_extra_info("sockname"), kind)
    if transport._socket is None:
        fd = transport._fileno()
        if fd < 0:
            return None
        try:
            transport._socket = socket.socket(fileno=fd)
        except OSError:
            # A pipe.
            return None
    return None if transport._socket is None else asyncio.trsock.TransportSocket(transport._socket)


class StreamTransport(_evl.StreamTransport):
    """A connection, or one end of a pipe."""

    _sendfile_compatible = constants._SendfileMode.TRY_NATIVE

    def _write_is_ignored(self):
        logger.warning("socket.send() raised exception.")


class DatagramTransport(_evl.DatagramTransport):
    """A socket for datagrams."""

    _sendfile_compatible = constants._SendfileMode.UNSUPPORTED

    def get_extra_info(self, name, default=None):
        """'socket', 'sockname', 'peername'."""
        extra = self._extra
        if name == "socket" and name not in extra and "sockname" in extra:
            found = socket_info(self, socket.SOCK_DGRAM)
            if found is not None:
                extra[name] = found
        return extra.get(name, default)
