"""Runs a program on libevl with a manual clock."""

import ctypes
import re

import evl
from interpreter import Backend, Interpreter, ProgramError, Refused
from program import TICK_NS

_WORDS = {
    evl.ECLOSED: "closed",
    evl.ERUNNING: "running",
    evl.EENTERED: "entered",
    evl.ENOVALUE: "no value",
    evl.ETOKEN: "token",
}


def run(library, program, sink=None):
    """The trace of the program, with what evl did wrong besides at its end."""
    return Interpreter(program, lambda program, record: EvlBackend(library, program, record), sink).run()


class Handle:
    """A reference to an evl_handle or evl_timer, and the key of the callback it was made with."""

    def __init__(self, key, pointer, timer=None):
        self.key = key
        self.pointer = pointer
        self.timer = timer


class EvlBackend(Backend):
    """libevl as the interpreter sees it."""

    def __init__(self, library, program, record):
        self.evl = library
        self.c = library.c
        self.record = record
        options = evl.LoopOptions()
        library.check(self.c.evl_loop_options_init(options, ctypes.sizeof(options)))
        options.flags = evl.LOOP_MANUAL_CLOCK | (evl.LOOP_DEBUG if program.debug else 0)
        options.start_time_ns = program.start * TICK_NS
        options.slow_callback_duration_ns = evl.FOREVER
        self.loop = library.output(self.c.evl_loop_new, options)
        self.deadlines = {}  # key of a timer's callback: its deadline
        self.limit = None  # The time at which run_once waits no longer, or None.
        self.metrics = evl.Metrics(size=ctypes.sizeof(evl.Metrics))
        self.handles = {}  # pointer: Handle, for those that the interpreter has
        library.check(
            self.c.evl_loop_set_wait_hooks(
                self.loop, library.trampoline, evl.Callback(), library.keep(self.before_wait), library.free
            )
        )
        library.check(
            self.c.evl_loop_set_log(self.loop, library.log_trampoline, library.keep(self.log), library.free)
        )
        self.variables = [
            library.output(self.c.evl_context_var_new, b"without default", None, evl.FreeFunction()),
            library.output(self.c.evl_context_var_new, b"with default", library.keep(-1), library.free),
        ]

    def outermost(self, function):
        context = self.new_context()
        self.evl.check(self.c.evl_context_enter(context))
        function()
        self.evl.check(self.c.evl_context_exit(context))
        self.forget_context(context)
        alive = self.evl.alive()
        if alive:
            self.record("violation", f"evl still holds {alive}")

    def check(self, result):
        """Returns what is not negative; errors become SystemExit, or Refused with the word that both sides use."""
        if result >= 0:
            return result
        if result == evl.EEXIT:
            raise SystemExit(self.evl.output(self.c.evl_loop_exit_code, self.loop, of=ctypes.c_int))
        raise Refused(_WORDS.get(result) or self.c.evl_errname(result).decode())

    def output(self, function, *arguments, of=ctypes.c_void_p):
        """Calls a function whose last parameter is an output."""
        try:
            return self.evl.output(function, *arguments, of=of)
        except evl.EvlError as error:
            self.check(error.code)

    def iteration(self):
        self.evl.check(self.c.evl_loop_metrics(self.loop, self.metrics))
        return self.metrics.iterations

    # -- the clock

    def before_wait(self):
        """evl is about to wait: moves the clock to where the wait would end, or stops the loop if that is never."""
        until = [when for key, when in self.deadlines.items() if self.evl.is_alive(key)]
        if self.limit is not None:
            until.append(self.limit)
        now = self.time()
        if until and min(until) > now:
            self.check(self.c.evl_loop_advance(self.loop, min(until) - now))
            return
        if until:
            self.record("violation", "evl waits although a timer is due, or did not release a timer's arg")
        self.record("idle", now // TICK_NS)
        self.check(self.c.evl_loop_stop(self.loop))

    def time(self):
        """The clock in nanoseconds."""
        return self.output(self.c.evl_loop_time, self.loop, of=ctypes.c_int64)

    def now(self):
        now = self.time()
        assert now % TICK_NS == 0
        return now // TICK_NS

    def advance(self, ticks):
        self.check(self.c.evl_loop_advance(self.loop, ticks * TICK_NS))

    # -- scheduling

    def schedule(self, function, *arguments, callback, want_handle, context=None, one_shot=True):
        """Calls a function that takes a callback; returns its key and its output."""
        try:
            return self.evl.schedule(
                function,
                self.loop,
                *arguments,
                callback=callback,
                context=context,
                one_shot=one_shot,
                want_handle=want_handle,
            )
        except evl.EvlError as error:
            self.check(error.code)

    def handle(self, key, pointer, timer=None):
        """Makes the interpreter's handle, if it wanted one."""
        if pointer is None:
            return None
        handle = Handle(key, pointer, timer)
        self.handles[pointer] = handle
        return handle

    def call_soon(self, callback, want_handle, context):
        return self.handle(
            *self.schedule(self.c.evl_loop_call_soon, callback=callback, want_handle=want_handle, context=context)
        )

    def call_soon_threadsafe(self, callback, want_handle, context):
        function = self.c.evl_loop_call_soon_threadsafe
        return self.handle(*self.schedule(function, callback=callback, want_handle=want_handle, context=context))

    def call_later(self, delay, callback, want_handle, context):
        when = self.time() + delay * TICK_NS
        return self.timer(when, self.c.evl_loop_call_later, delay * TICK_NS, callback, want_handle, context)

    def call_at(self, when, callback, want_handle, context):
        when *= TICK_NS
        return self.timer(when, self.c.evl_loop_call_at, when, callback, want_handle, context)

    def timer(self, when, function, argument, callback, want_handle, context):
        """Starts a timer and remembers its deadline."""
        key, timer = self.schedule(function, argument, callback=callback, want_handle=want_handle, context=context)
        if len(self.deadlines) > 256:
            self.deadlines = {key: when for key, when in self.deadlines.items() if self.evl.is_alive(key)}
        self.deadlines[key] = when
        return self.handle(key, self.c.evl_timer_as_handle(timer), timer)

    # -- descriptors

    def add_watch(self, side, descriptor, callback, want_handle):
        function = self.c.evl_loop_add_reader if side == "reader" else self.c.evl_loop_add_writer
        return self.handle(
            *self.schedule(function, descriptor, callback=callback, want_handle=want_handle, one_shot=False)
        )

    def remove_watch(self, side, descriptor):
        function = self.c.evl_loop_remove_reader if side == "reader" else self.c.evl_loop_remove_writer
        return bool(self.check(function(self.loop, descriptor)))

    def pause_watch(self, side, descriptor):
        function = self.c.evl_loop_pause_reader if side == "reader" else self.c.evl_loop_pause_writer
        self.check(function(self.loop, descriptor))

    def resume_watch(self, side, descriptor):
        function = self.c.evl_loop_resume_reader if side == "reader" else self.c.evl_loop_resume_writer
        self.check(function(self.loop, descriptor))

    # -- handles

    def cancel(self, handle):
        if handle.timer is not None:
            self.check(self.c.evl_timer_cancel(handle.timer))
        else:
            self.check(self.c.evl_handle_cancel(handle.pointer))
        if self.evl.is_alive(handle.key) and not self.evl.may_be_held(handle.key):
            self.record("violation", "a cancelled handle's arg was not released")

    def cancelled(self, handle):
        return bool(self.c.evl_handle_cancelled(handle.pointer))

    def timer_state(self, handle):
        if handle.timer is None:
            return None
        when = self.output(self.c.evl_timer_when, handle.timer, of=ctypes.c_int64)
        waits = self.c.evl_timer_scheduled(handle.timer) and not self.c.evl_timer_cancelled(handle.timer)
        return when // TICK_NS, bool(waits)

    def forget(self, handle):
        del self.handles[handle.pointer]
        if handle.timer is not None:
            self.c.evl_timer_unref(handle.timer)
        else:
            self.c.evl_handle_unref(handle.pointer)

    # -- the loop

    def stop(self):
        self.check(self.c.evl_loop_stop(self.loop))

    def stop_threadsafe(self):
        self.check(self.c.evl_loop_stop_threadsafe(self.loop))

    def run_forever(self):
        self.check(self.c.evl_loop_run_forever(self.loop))

    def run_once(self, timeout):
        if self.is_running():  # No limit must be set then: the refusal is asked for all the same.
            return self.check(self.c.evl_loop_run_once(self.loop, 0))
        if timeout is not None:
            timeout *= TICK_NS
            self.limit = self.time() + timeout
        try:
            return self.check(self.c.evl_loop_run_once(self.loop, evl.FOREVER if timeout is None else timeout))
        finally:
            self.limit = None

    def run_until_idle(self):
        return self.check(self.c.evl_loop_run_until_idle(self.loop))

    def close(self):
        self.check(self.c.evl_loop_close(self.loop))

    def is_running(self):
        return bool(self.c.evl_loop_is_running(self.loop))

    def is_current(self):
        current = ctypes.c_void_p()
        result = self.c.evl_get_running_loop(current)
        if result == evl.ENOLOOP:
            return False
        self.evl.check(result)
        self.c.evl_loop_unref(current)
        return current.value == self.loop

    # -- failures

    def label(self, info):
        """What an exception handler was told, in a word."""
        if info.object is None:
            return _WORDS.get(info.code) or self.c.evl_errname(info.code).decode()
        exception = self.evl.object(info.object)
        if isinstance(exception, ProgramError):
            if info.code != evl.EPYTHON or info.message.decode() != str(exception):
                self.record("violation", f"handler got code {info.code}, message {info.message} with {exception}")
            return exception.label
        return repr(exception)

    def log(self, level, message):
        """Writes down a failure that reached the default exception handler."""
        if level != evl.LOG_ERROR:
            return
        labels = [f"error {number}" for number in re.findall(r"program error (\d+)", message)]
        if self.c.evl_strerror(evl.EENTERED).decode() in message or "EVL_EENTERED" in message:
            labels.append("entered")
        # Of a failing handler evl tells its failure and the one it was called for, in one report or two.
        for label in labels or [message]:
            self.record("default handler", label)

    def set_handler(self, handler):
        if handler is None:
            none = evl.ExceptionHandler()
            self.check(self.c.evl_loop_set_exception_handler(self.loop, none, None, evl.FreeFunction()))
            return

        def call(info):
            handler(self.label(info), self.handles.get(info.handle))

        key = self.evl.keep(call)
        self.check(
            self.c.evl_loop_set_exception_handler(self.loop, self.evl.handler_trampoline, key, self.evl.free)
        )

    def report(self, error):
        self.give(self.c.evl_loop_call_exception_handler, error)

    def report_default(self, error):
        self.give(self.c.evl_loop_default_exception_handler, error)

    def give(self, function, error):
        """Gives an error to an exception handler; the object stays ours."""
        key = self.evl.keep(error)
        info = evl.ExceptionInfo(
            size=ctypes.sizeof(evl.ExceptionInfo), code=evl.EPYTHON, message=str(error).encode(), object=key
        )
        try:
            self.check(function(self.loop, info))
        finally:
            self.evl.release(key)

    # -- context variables

    def set_variable(self, variable, value):
        key = self.evl.keep(value)
        return self.output(self.c.evl_context_var_set, self.variables[variable], key, self.evl.free)

    def get_variable(self, variable):
        return self.evl.object(self.output(self.c.evl_context_var_get, self.variables[variable]))

    def reset_variable(self, variable, token):
        self.check(self.c.evl_context_var_reset(self.variables[variable], token))

    def forget_token(self, token):
        self.c.evl_context_token_unref(token)

    def copy_context(self):
        return self.output(self.c.evl_context_copy_current)

    def new_context(self):
        return self.output(self.c.evl_context_new)

    def run_in_context(self, context, function):
        try:
            self.evl.run_in_context(context, function)
        except evl.EvlError as error:
            self.check(error.code)

    def forget_context(self, context):
        self.c.evl_context_unref(context)

    def finish(self):
        callbacks = [thing for thing in self.evl.alive() if callable(thing)]
        if callbacks:
            yield f"close did not release {len(callbacks)} callbacks"
        self.c.evl_loop_unref(self.loop)
        for variable in self.variables:
            self.c.evl_context_var_unref(variable)
        yield from self.evl.violations
        self.evl.violations.clear()
