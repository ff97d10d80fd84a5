"""What the C part uses of Python."""

import asyncio
import socket
import sys
from asyncio import format_helpers
from asyncio.log import logger

from . import _evl
from .transports import DatagramTransport, StreamTransport


class Operation(asyncio.Future):
    """A future that waits for one of evl's: cancelling it withdraws what is under way."""

    def __init__(self, loop, operation):
        super().__init__(loop=loop)
        self._operation = operation

    def cancel(self, msg=None):
        if not super().cancel(msg):
            return False
        self._operation.withdraw()
        return True


async def finish(started):
    """The result of what a function of the C part has begun."""
    if type(started) is not Operation:
        return started
    try:
        return await started
    finally:
        # It keeps the exception, whose traceback has this frame.
        del started


def _extract_stack():
    return format_helpers.extract_stack(sys._getframe(1))


def _log_slow(handle, duration):
    task = getattr(handle._callback, "__self__", None)
    what = repr(task) if isinstance(task, asyncio.Task) else repr(handle)
    logger.warning("Executing %s took %.3f seconds", what, duration)


def _resolve(address, family):
    found = socket.getaddrinfo(address[0], address[1], family=family)
    return found[0][4]


_evl.set_classes(
    future=Operation, stream=StreamTransport, datagram=DatagramTransport, gaierror=socket.gaierror,
    cancelled_error=asyncio.CancelledError, extract_stack=_extract_stack, log_slow=_log_slow, resolve=_resolve)
