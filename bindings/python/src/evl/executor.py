"""What threads of libevl's pools are in Python, and the interpreter's end."""

import itertools
import os
import sys
import threading
import weakref

from . import _evl

_numbers = itertools.count()
# Loops that have had a pool.
loops: "weakref.WeakSet[object]" = weakref.WeakSet()
_ending = False


def _begin_thread():
    threading.current_thread().name = f"asyncio_{next(_numbers)}"
    if trace := threading.gettrace():
        sys.settrace(trace)
    if profile := threading.getprofile():
        sys.setprofile(profile)


def _end_thread():
    # As of Python 3.13 threading does that by itself.
    with threading._active_limbo_lock:
        threading._active.pop(threading.get_ident(), None)


def check():
    """Raises where there can be no more jobs."""
    if _ending:
        raise RuntimeError("cannot schedule new futures after interpreter shutdown")


def _at_exit():
    """As concurrent.futures does: what waits is run, and nothing is left running."""
    global _ending
    _ending = True
    for loop in list(loops):
        loop._leave_pool()
    _evl.join_threads()


_evl.set_thread_functions(_begin_thread, _end_thread)
# Private; concurrent.futures does the same.
threading._register_atexit(_at_exit)  # type: ignore[attr-defined]
os.register_at_fork(after_in_child=_evl.forget_threads)
