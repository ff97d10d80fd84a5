"""The policy that makes evl's loops."""

import asyncio.events

from .loop import EventLoop


class EventLoopPolicy(asyncio.events.BaseDefaultEventLoopPolicy):
    """asyncio's default policy, with loops of evl's. Child watchers are not needed: the loops hear of children by themselves."""

    _loop_factory = EventLoop
