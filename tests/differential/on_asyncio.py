"""The oracle: runs a program on CPython's own asyncio, with a clock that moves only when nothing else is to do."""

import asyncio
import contextvars
import heapq
import math
import selectors
from asyncio import events

from interpreter import Backend, Interpreter, ProgramError, Refused
from program import TICKS_PER_SECOND

# ContextVars are never freed, so all programs share these. Every program runs in an empty context of its own.
_VARIABLES = (contextvars.ContextVar("without default"), contextvars.ContextVar("with default", default=-1))


def run(program, sink=None):
    """The trace of the program."""
    return Interpreter(program, AsyncioBackend, sink).run()


class OrderedTimerHandle(asyncio.TimerHandle):
    """A timer that comes after the timers with an equal deadline that were made before it.

    asyncio leaves the order of equal deadlines to its heap, which is to say undefined. evl's rule is first in, first out,
    and this class makes it asyncio's.
    """

    __slots__ = ("_sequence",)

    def __lt__(self, other):
        return (self._when, self._sequence) < (other._when, other._sequence)


class VirtualSelector(selectors.EpollSelector):
    """Polls the real descriptors without waiting. Only when none is ready the loop's time passes."""

    def __init__(self):
        super().__init__()
        self.on_wait = None  # Called with the timeout instead of waiting.

    def select(self, timeout=None):
        found = super().select(0)
        if not found and timeout != 0:
            self.on_wait(timeout)
        return found


class VirtualLoop(asyncio.SelectorEventLoop):
    """asyncio's loop with a manual clock."""

    def __init__(self, start):
        self.clock = start / TICKS_PER_SECOND
        self.iteration = 0
        self.only_once = False
        self.record_default = None
        self.sequence = 0
        super().__init__(VirtualSelector())
        # All times are whole ticks: half a tick is less than any difference, and never lost in rounding.
        self._clock_resolution = 0.5 / TICKS_PER_SECOND

    def time(self):
        return self.clock

    def call_at(self, when, callback, *args, context=None):
        """BaseEventLoop.call_at with an ordered timer."""
        self._check_closed()
        timer = OrderedTimerHandle(when, callback, args, self, context)
        self.sequence += 1
        timer._sequence = self.sequence
        heapq.heappush(self._scheduled, timer)
        timer._scheduled = True
        return timer

    def _write_to_self(self):
        """Wakes nobody: a program has one thread.

        asyncio's wake-up is a callback of its own in the queue, which may be left there by SystemExit and then be all that
        the next iteration does.
        """

    def _add_callback(self, handle):
        """Appends a watcher that a poll found to the ready queue, but once.

        When SystemExit leaves watchers in the queue, asyncio's next poll appends them again and so calls them twice in one
        iteration, for what may be a single byte. evl promises a call in every iteration.
        """
        if not any(queued is handle for queued in self._ready):
            super()._add_callback(handle)

    def _run_once(self):
        self.iteration += 1
        self.forget_cancelled_timers()
        super()._run_once()
        if self.only_once:
            self.stop()

    def forget_cancelled_timers(self):
        """Takes cancelled timers out of the heap, as asyncio does itself when they are many.

        Otherwise they become ready when they are due, and an iteration may have nothing but them to do.
        """
        if self._timer_cancelled_count:
            self._timer_cancelled_count = 0
            for timer in self._scheduled:
                timer._scheduled = not timer.cancelled()
            self._scheduled = [timer for timer in self._scheduled if timer._scheduled]
            heapq.heapify(self._scheduled)

    def default_exception_handler(self, context):
        self.record_default(context)


class Watch:
    """A registered reader or writer. asyncio does not know pausing: this stays while asyncio's selector forgets it."""

    def __init__(self, side, descriptor):
        self.is_reader = side == "reader"
        self.descriptor = descriptor
        self.handle = None
        self.paused = False


def label(exception):
    """A failure in a word."""
    if isinstance(exception, ProgramError):
        return exception.label
    if isinstance(exception, RuntimeError) and "cannot enter context" in str(exception):
        return "entered"
    return repr(exception)


def refusing(function, *arguments, **options):
    """Calls a function of asyncio; RuntimeError becomes Refused with evl's word for it."""
    try:
        return function(*arguments, **options)
    except RuntimeError as error:
        text = str(error)
        if "is closed" in text:
            raise Refused("closed") from None
        if "running" in text:
            raise Refused("running") from None
        raise


class AsyncioBackend(Backend):
    """asyncio as the interpreter sees it."""

    def __init__(self, program, record):
        self.record = record
        self.loop = VirtualLoop(program.start)
        self.loop.set_debug(program.debug)
        self.loop.slow_callback_duration = math.inf
        self.loop.record_default = self.default_handler
        self.loop._selector.on_wait = self.wait
        self.limit = None  # The time at which run_once waits no longer, or None.
        self.until_idle = False
        self.calls = 0
        self.watches = {}  # (side, descriptor): Watch

    def outermost(self, function):
        contextvars.Context().run(function)

    def iteration(self):
        return self.loop.iteration

    # -- the clock

    def wait(self, timeout):
        """Stands for waiting in the operating system, for timeout seconds or (None) without limit."""
        loop = self.loop
        if self.until_idle:
            loop.stop()
            return
        if self.limit is not None:
            left = self.limit - loop.clock
            timeout = left if timeout is None else min(timeout, left)
        if timeout is None:
            self.record("idle", self.now())
            loop.stop()
        else:
            loop.clock += timeout

    def now(self):
        ticks = self.loop.clock * TICKS_PER_SECOND
        assert ticks == int(ticks)
        return int(ticks)

    def advance(self, ticks):
        self.loop.clock += ticks / TICKS_PER_SECOND

    # -- scheduling

    def counted(self, callback):
        """The callback, counted for the answer of run_once."""

        def run():
            self.calls += 1
            callback()

        return run

    def call_soon(self, callback, want_handle, context):
        handle = refusing(self.loop.call_soon, self.counted(callback), context=context)
        return handle if want_handle else None

    def call_soon_threadsafe(self, callback, want_handle, context):
        handle = refusing(self.loop.call_soon_threadsafe, self.counted(callback), context=context)
        return handle if want_handle else None

    def call_later(self, delay, callback, want_handle, context):
        delay /= TICKS_PER_SECOND
        handle = refusing(self.loop.call_later, delay, self.counted(callback), context=context)
        return handle if want_handle else None

    def call_at(self, when, callback, want_handle, context):
        handle = refusing(self.loop.call_at, when / TICKS_PER_SECOND, self.counted(callback), context=context)
        return handle if want_handle else None

    # -- descriptors

    def add_watch(self, side, descriptor, callback, want_handle):
        watch = Watch(side, descriptor)
        callback = self.counted(callback)

        def call():
            if not watch.paused:  # A call that is ready already is withheld.
                callback()

        add = self.loop._add_reader if watch.is_reader else self.loop._add_writer
        watch.handle = refusing(add, descriptor, call)
        old = self.watches.get((side, descriptor))
        if old is not None:
            old.handle.cancel()
        self.watches[side, descriptor] = watch
        return watch.handle if want_handle else None

    def remove_watch(self, side, descriptor):
        watch = self.watches.pop((side, descriptor), None)
        if watch is None:
            return False
        remove = self.loop.remove_reader if watch.is_reader else self.loop.remove_writer
        remove(descriptor)
        watch.handle.cancel()
        return True

    def pause_watch(self, side, descriptor):
        """Has the selector look elsewhere."""
        watch = self.existing(side, descriptor)
        if watch.paused:
            return
        watch.paused = True
        key = self.loop._selector.get_key(descriptor)
        events = key.events & ~(selectors.EVENT_READ if watch.is_reader else selectors.EVENT_WRITE)
        reader, writer = key.data
        if events:
            self.loop._selector.modify(descriptor, events, (None, writer) if watch.is_reader else (reader, None))
        else:
            self.loop._selector.unregister(descriptor)

    def resume_watch(self, side, descriptor):
        """Has the selector look again, for the same handle."""
        watch = self.existing(side, descriptor)
        if not watch.paused:
            return
        watch.paused = False
        selector = self.loop._selector
        key = selector.get_map().get(descriptor)
        events, (reader, writer) = (key.events, key.data) if key else (0, (None, None))
        events |= selectors.EVENT_READ if watch.is_reader else selectors.EVENT_WRITE
        data = (watch.handle, writer) if watch.is_reader else (reader, watch.handle)
        (selector.modify if key else selector.register)(descriptor, events, data)

    def existing(self, side, descriptor):
        """The watch that is registered."""
        try:
            return self.watches[side, descriptor]
        except KeyError:
            raise Refused("ENOENT") from None

    # -- handles

    def cancel(self, handle):
        for (side, descriptor), watch in list(self.watches.items()):
            if watch.handle is handle:
                self.remove_watch(side, descriptor)
        handle.cancel()

    def cancelled(self, handle):
        return handle.cancelled()

    def timer_state(self, handle):
        if not isinstance(handle, asyncio.TimerHandle):
            return None
        # A cancelled timer waits in asyncio's heap for its turn to be thrown away; that is no business of ours.
        return int(handle.when() * TICKS_PER_SECOND), handle._scheduled and not handle.cancelled()

    def forget(self, handle):
        pass

    # -- the loop

    def stop(self):
        self.loop.stop()

    def stop_threadsafe(self):
        refusing(self.loop.call_soon_threadsafe, self.counted(self.loop.stop))

    def run_forever(self):
        refusing(self.loop.run_forever)

    def run_once(self, timeout):
        """asyncio has no run_once; this is run_forever with a stop after the first iteration."""
        if self.loop.is_running():
            raise Refused("running")
        self.loop.only_once = True
        if timeout is not None:
            self.limit = self.loop.clock + timeout / TICKS_PER_SECOND
        return self.run_counting()

    def run_until_idle(self):
        """asyncio has no run_until_idle; this is run_forever with a stop in place of a wait."""
        self.until_idle = True
        return self.run_counting()

    def run_counting(self):
        """Runs the loop and returns how many callbacks ran."""
        self.calls = 0
        try:
            refusing(self.loop.run_forever)
        finally:
            self.loop.only_once = self.until_idle = False
            self.limit = None
        return self.calls

    def close(self):
        refusing(self.loop.close)

    def is_running(self):
        return self.loop.is_running()

    def is_current(self):
        return events._get_running_loop() is self.loop

    # -- failures

    def default_handler(self, context):
        """Writes down a failure that reached the default exception handler."""
        self.record("default handler", label(context["exception"]))
        if "context" in context:
            # The exception handler itself failed: asyncio tells what it was called for, too.
            self.record("default handler", label(context["context"]["exception"]))

    def set_handler(self, handler):
        if handler is None:
            self.loop.set_exception_handler(None)
            return

        def call(_loop, context):
            handler(label(context["exception"]), context.get("handle"))

        self.loop.set_exception_handler(call)

    def report(self, error):
        self.loop.call_exception_handler({"message": "reported", "exception": error})

    def report_default(self, error):
        self.loop.default_exception_handler({"message": "reported", "exception": error})

    # -- context variables

    def set_variable(self, variable, value):
        return _VARIABLES[variable].set(value)

    def get_variable(self, variable):
        try:
            return _VARIABLES[variable].get()
        except LookupError:
            raise Refused("no value") from None

    def reset_variable(self, variable, token):
        try:
            _VARIABLES[variable].reset(token)
        except (RuntimeError, ValueError):
            raise Refused("token") from None

    def forget_token(self, token):
        pass

    def copy_context(self):
        return contextvars.copy_context()

    def new_context(self):
        return contextvars.Context()

    def run_in_context(self, context, function):
        try:
            context.run(function)
        except RuntimeError as error:
            if "cannot enter context" not in str(error):
                raise
            raise Refused("entered") from None

    def forget_context(self, context):
        pass

    def finish(self):
        return []
