"""What the C part uses of Python."""

import asyncio
import concurrent.futures
import socket
import sys
from asyncio import format_helpers
from asyncio.log import logger

from . import _evl
from .transports import DatagramTransport, StreamTransport, socket_info

Operation = _evl.Operation


async def finish(started, dispose=None):
    """The result of what a function of the C part has begun. dispose: what is done with it when it comes, but whoever waits is
    cancelled, so that nobody else ever hears of it."""
    if type(started) is not Operation:
        return started
    if dispose is not None:
        started.dispose = dispose
    try:
        return await started
    except BaseException:
        if dispose is not None and not started.cancel() and not started.cancelled() and started.exception() is None:
            dispose(started.result())
        raise
    finally:
        # It keeps the exception, whose traceback has this frame.
        del started


def close(thing):
    """Disposes of a transport."""
    thing.close()


def close_connection(made):
    """Disposes of a transport with its protocol."""
    made[0].close()


def _convert_error(error):
    """What a future fails with whose function has raised error in another thread."""
    if isinstance(error, StopIteration):
        made = RuntimeError("StopIteration interacts badly with generators and cannot be raised into a Future")
        made.__cause__ = error
        return made
    if type(error) in (concurrent.futures.CancelledError, concurrent.futures.InvalidStateError):
        made = getattr(asyncio, type(error).__name__)(*error.args)
        return made.with_traceback(error.__traceback__)
    return error


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
    stream=StreamTransport, datagram=DatagramTransport, gaierror=socket.gaierror,
    cancelled_error=asyncio.CancelledError, convert_error=_convert_error, extract_stack=_extract_stack,
    socket_info=socket_info, log_slow=_log_slow, resolve=_resolve)
