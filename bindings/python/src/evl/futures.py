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

    # What is done with a result that nobody takes any more.
    _dispose = None

    def __init__(self, loop, operation):
        super().__init__(loop=loop)
        self._operation = operation

    def cancel(self, msg=None):
        if not super().cancel(msg):
            return False
        self._operation.withdraw()
        return True

    def _too_late(self, result):
        """It was cancelled when there was a result already, which has not been told yet."""
        if self._dispose is not None:
            self._dispose(result)


async def finish(started, dispose=None):
    """The result of what a function of the C part has begun. dispose: what is done with it when it comes, but whoever waits is
    cancelled, so that nobody else ever hears of it."""
    if type(started) is not Operation:
        return started
    if dispose is None:
        return await started
    started._dispose = dispose
    try:
        return await started
    except BaseException:
        if not started.cancel() and not started.cancelled() and started.exception() is None:
            dispose(started.result())
        raise


def close(thing):
    """Disposes of a transport."""
    thing.close()


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
