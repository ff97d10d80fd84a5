from asyncio import AbstractEventLoop
from collections.abc import Coroutine
from typing import Any, TypeVar

from .loop import EventLoop as EventLoop
from .policy import EventLoopPolicy as EventLoopPolicy

_T = TypeVar("_T")

__version__: str
libevl_version: str

def new_event_loop() -> EventLoop: ...
def install() -> None: ...
def run(main: Coroutine[Any, Any, _T], *, debug: bool | None = ...) -> _T: ...
