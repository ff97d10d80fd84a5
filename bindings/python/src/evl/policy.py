"""The policy that makes evl's loops."""

import asyncio

from .loop import EventLoop


class EventLoopPolicy(asyncio.DefaultEventLoopPolicy):
    """asyncio's default policy, with loops of evl's. Its child watchers are not used: the loops hear of children by themselves."""

    _loop_factory = EventLoop
