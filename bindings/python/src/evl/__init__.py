"""An event loop for asyncio, on libevl.

    import evl
    evl.run(main())

or, for programs that make their loop by asyncio's policy, evl.install().
"""

import asyncio as _asyncio

from .loop import EventLoop
from .policy import EventLoopPolicy
from ._evl import libevl_version

__all__ = ("EventLoop", "EventLoopPolicy", "install", "libevl_version", "new_event_loop", "run")
__version__ = "0.1.0"


def new_event_loop():
    """Makes an event loop."""
    return EventLoop()


def install():
    """Has asyncio make evl's loops from now on."""
    _asyncio.set_event_loop_policy(EventLoopPolicy())


def run(main, *, debug=None):
    """asyncio.run on an event loop of evl's."""
    if _asyncio.events._get_running_loop() is not None:
        raise RuntimeError("evl.run() cannot be called from a running event loop")
    with _asyncio.Runner(debug=debug, loop_factory=new_event_loop) as runner:
        return runner.run(main)
