"""A small layer on libevl.so: what a Python binding by ctypes needs of evl's C API.

Python callables travel through C as an integer key (the `void *arg`); one static trampoline calls them, and one static
`arg_free` releases them. An exception that leaves a callable is raised into evl by `evl_raise_object`, and the exception
handler gets the same object back.
"""

import ctypes
from ctypes import POINTER, byref, c_char_p, c_int, c_int64, c_size_t, c_uint32, c_uint64, c_void_p

FOREVER = 2**63 - 1

# Members of evl_error, as in the header.
ECLOSED = -20001
EWRONGTHREAD = -20002
ERUNNING = -20003
ENOLOOP = -20004
EDONE = -20005
ECANCELLED = -20006
ENOTINCALLBACK = -20007
EEXIT = -20008
ENOVALUE = -20014
ETOKEN = -20015
EENTERED = -20016
ENOTENTERED = -20017

LOOP_DEBUG = 1
LOOP_MANUAL_CLOCK = 2
LOG_ERROR = 2

# The code under which this layer raises Python exceptions: one of our own, which is not a member of evl_error.
EPYTHON = -30000


class LoopOptions(ctypes.Structure):
    """evl_loop_options"""

    _fields_ = [
        ("size", c_uint32),
        ("flags", c_uint32),
        ("start_time_ns", c_int64),
        ("slow_callback_duration_ns", c_int64),
        ("context_hooks", c_void_p),
        ("context_hooks_data", c_void_p),
    ]


class ExceptionInfo(ctypes.Structure):
    """evl_exception"""

    _fields_ = [
        ("size", c_uint32),
        ("code", c_int),
        ("message", c_char_p),
        ("object", c_void_p),
        ("handle", c_void_p),
        ("traceback", POINTER(c_void_p)),
        ("traceback_length", c_size_t),
    ]


class Metrics(ctypes.Structure):
    """evl_metrics"""

    _fields_ = [
        ("size", c_uint32),
        ("reserved", c_uint32),
        ("iterations", c_uint64),
        ("callbacks", c_uint64),
        ("polls", c_uint64),
        ("events", c_uint64),
        ("posts", c_uint64),
        ("ready", c_uint64),
        ("timers", c_uint64),
        ("watchers", c_uint64),
    ]


FreeFunction = ctypes.CFUNCTYPE(None, c_void_p)
Callback = ctypes.CFUNCTYPE(None, c_void_p)
ExceptionHandler = ctypes.CFUNCTYPE(None, c_void_p, POINTER(ExceptionInfo), c_void_p)
LogFunction = ctypes.CFUNCTYPE(None, c_int, c_char_p, c_void_p)

_TRIPLE = [Callback, c_void_p, FreeFunction]
_SCHEDULE = [*_TRIPLE, c_void_p, POINTER(c_void_p)]

# Function: (restype, argument types). Objects are plain `void *`.
_FUNCTIONS = {
    "evl_version": (c_char_p, []),
    "evl_strerror": (c_char_p, [c_int]),
    "evl_errname": (c_char_p, [c_int]),
    "evl_error_detail": (c_int, [c_char_p, c_size_t]),
    "evl_raise_object": (c_int, [c_int, c_char_p, c_void_p, FreeFunction]),
    "evl_raise_exit": (c_int, [c_int]),
    "evl_handle_cancel": (c_int, [c_void_p]),
    "evl_handle_cancelled": (c_int, [c_void_p]),
    "evl_handle_unref": (None, [c_void_p]),
    "evl_timer_cancel": (c_int, [c_void_p]),
    "evl_timer_cancelled": (c_int, [c_void_p]),
    "evl_timer_when": (c_int, [c_void_p, POINTER(c_int64)]),
    "evl_timer_as_handle": (c_void_p, [c_void_p]),
    "evl_timer_unref": (None, [c_void_p]),
    "evl_timer_scheduled": (c_int, [c_void_p]),
    "evl_context_var_new": (c_int, [c_char_p, c_void_p, FreeFunction, POINTER(c_void_p)]),
    "evl_context_var_unref": (None, [c_void_p]),
    "evl_context_var_get": (c_int, [c_void_p, POINTER(c_void_p)]),
    "evl_context_var_set": (c_int, [c_void_p, c_void_p, FreeFunction, POINTER(c_void_p)]),
    "evl_context_var_reset": (c_int, [c_void_p, c_void_p]),
    "evl_context_token_unref": (None, [c_void_p]),
    "evl_context_new": (c_int, [POINTER(c_void_p)]),
    "evl_context_copy_current": (c_int, [POINTER(c_void_p)]),
    "evl_context_run": (c_int, [c_void_p, Callback, c_void_p]),
    "evl_context_enter": (c_int, [c_void_p]),
    "evl_context_exit": (c_int, [c_void_p]),
    "evl_context_unref": (None, [c_void_p]),
    "evl_loop_options_init": (c_int, [POINTER(LoopOptions), c_uint32]),
    "evl_loop_new": (c_int, [POINTER(LoopOptions), POINTER(c_void_p)]),
    "evl_loop_unref": (None, [c_void_p]),
    "evl_loop_run_forever": (c_int, [c_void_p]),
    "evl_loop_run_once": (c_int, [c_void_p, c_int64]),
    "evl_loop_run_until_idle": (c_int, [c_void_p]),
    "evl_loop_stop": (c_int, [c_void_p]),
    "evl_loop_stop_threadsafe": (c_int, [c_void_p]),
    "evl_loop_close": (c_int, [c_void_p]),
    "evl_loop_is_running": (c_int, [c_void_p]),
    "evl_loop_is_closed": (c_int, [c_void_p]),
    "evl_loop_time": (c_int, [c_void_p, POINTER(c_int64)]),
    "evl_loop_advance": (c_int, [c_void_p, c_int64]),
    "evl_loop_exit_code": (c_int, [c_void_p, POINTER(c_int)]),
    "evl_loop_call_soon": (c_int, [c_void_p, *_SCHEDULE]),
    "evl_loop_call_soon_threadsafe": (c_int, [c_void_p, *_SCHEDULE]),
    "evl_loop_call_later": (c_int, [c_void_p, c_int64, *_SCHEDULE]),
    "evl_loop_call_at": (c_int, [c_void_p, c_int64, *_SCHEDULE]),
    "evl_loop_set_exception_handler": (c_int, [c_void_p, ExceptionHandler, c_void_p, FreeFunction]),
    "evl_loop_default_exception_handler": (c_int, [c_void_p, POINTER(ExceptionInfo)]),
    "evl_loop_call_exception_handler": (c_int, [c_void_p, POINTER(ExceptionInfo)]),
    "evl_loop_metrics": (c_int, [c_void_p, POINTER(Metrics)]),
    "evl_loop_set_wait_hooks": (c_int, [c_void_p, Callback, *_TRIPLE]),
    "evl_loop_set_log": (c_int, [c_void_p, LogFunction, c_void_p, FreeFunction]),
    "evl_loop_add_reader": (c_int, [c_void_p, c_int, *_SCHEDULE]),
    "evl_loop_add_writer": (c_int, [c_void_p, c_int, *_SCHEDULE]),
    "evl_loop_remove_reader": (c_int, [c_void_p, c_int]),
    "evl_loop_remove_writer": (c_int, [c_void_p, c_int]),
    "evl_loop_pause_reader": (c_int, [c_void_p, c_int]),
    "evl_loop_pause_writer": (c_int, [c_void_p, c_int]),
    "evl_loop_resume_reader": (c_int, [c_void_p, c_int]),
    "evl_loop_resume_writer": (c_int, [c_void_p, c_int]),
    "evl_get_running_loop": (c_int, [POINTER(c_void_p)]),
}


class EvlError(Exception):
    """A negative code that a function of evl returned."""

    def __init__(self, code, name):
        super().__init__(name)
        self.code = code
        self.name = name


class Library:
    """libevl.so with its functions declared, and the Python objects that are inside of it now."""

    def __init__(self, path):
        self.c = ctypes.CDLL(path)
        for name, (result, arguments) in _FUNCTIONS.items():
            function = getattr(self.c, name)
            function.restype = result
            function.argtypes = arguments
        self.violations = []  # Promises of the header that evl broke.
        self._objects = {}  # key: the Python object that C holds by it
        self._last_key = 0
        self._on_stack = []  # keys of the callbacks that run now
        self._handlers = 0  # exception handlers that run now
        self._finished = []  # keys of one-shot callbacks that have returned
        self._one_shot = set()
        # The only functions that C ever sees: they live as long as the library.
        self.trampoline = Callback(self._call)
        self.handler_trampoline = ExceptionHandler(self._handle)
        self.log_trampoline = LogFunction(self._log)
        self.free = FreeFunction(self._free)

    # -- Python objects on their way through C

    def keep(self, thing, one_shot=False):
        """Keeps an object alive until evl calls `free` with the key that is returned."""
        self._last_key += 1
        self._objects[self._last_key] = thing
        if one_shot:
            self._one_shot.add(self._last_key)
        return self._last_key

    def is_alive(self, key):
        """Whether evl still holds the object."""
        return key in self._objects

    def may_be_held(self, key):
        """Whether evl may hold a cancelled callback's arg: while it runs, and while its failure is handled."""
        return key in self._on_stack or self._handlers > 0

    def alive(self):
        """What evl has not released."""
        return list(self._objects.values())

    def object(self, key):
        """The object that evl holds by this key."""
        return self._objects[key]

    def release(self, key):
        """Takes an object back that evl never owned."""
        del self._objects[key]

    def _free(self, key):
        if key in self._on_stack:
            self.violations.append("arg_free ran while its callback is on the stack")
        if self._objects.pop(key, None) is None:
            self.violations.append("arg_free ran twice")
        self._one_shot.discard(key)

    def _enter(self, key):
        """Looks the object up before it is called, and looks whether one-shot callbacks before it were released."""
        self._finished = [done for done in self._finished if done in self._objects]
        if self._finished and not self._on_stack:
            self.violations.append("a callback's arg was not released before the next callback")
            self._finished.clear()
        self._on_stack.append(key)
        thing = self._objects.get(key)
        if thing is None:
            self.violations.append("a callback ran after its arg_free")
        return thing

    def _leave(self, key):
        self._on_stack.pop()
        if key in self._one_shot:
            self._finished.append(key)

    def _call(self, key):
        function = self._enter(key)
        try:
            if function is not None:
                function()
        except BaseException as exception:
            self._raise(exception)
        finally:
            self._leave(key)

    def _handle(self, _loop, info, key):
        # Not by _enter: a handler runs when the failing callback has returned, and before its arg need be released.
        function = self._objects.get(key)
        self._on_stack.append(key)
        self._handlers += 1
        try:
            if function is None:
                self.violations.append("an exception handler ran after its arg_free")
            else:
                function(info.contents)
        except BaseException as exception:
            self._raise(exception)
        finally:
            self._handlers -= 1
            self._on_stack.pop()

    def _log(self, level, message, key):
        function = self._objects.get(key)
        if function is None:
            self.violations.append("the log function ran after its arg_free")
        else:
            function(level, message.decode())

    def _raise(self, exception):
        """Raises a Python exception into evl, from inside of a callback."""
        try:
            if isinstance(exception, SystemExit):
                self.check(self.c.evl_raise_exit(exception.code))
            else:
                key = self.keep(exception)
                self.check(self.c.evl_raise_object(EPYTHON, str(exception).encode(), key, self.free))
        except EvlError as refusal:
            self.violations.append(f"{exception!r} could not be raised: {refusal.name}")

    # -- errors

    def check(self, result):
        """Returns what is not negative, and raises what is."""
        if result < 0:
            raise EvlError(result, self.c.evl_errname(result).decode())
        return result

    # -- outputs

    def output(self, function, *arguments, of=c_void_p):
        """Calls a function whose last parameter is an output, and returns the output."""
        out = of()
        self.check(function(*arguments, byref(out)))
        return out.value

    def schedule(self, function, *arguments, callback, context=None, one_shot=True, want_handle=True):
        """Calls one of the functions that take a callback; returns its key and its handle (None if not wanted)."""
        key = self.keep(callback, one_shot)
        out = c_void_p()
        self.check(
            function(*arguments, self.trampoline, key, self.free, context, byref(out) if want_handle else None)
        )
        return key, out.value

    def run_in_context(self, context, function):
        """Context.run: calls function in the context; what it raises arrives here."""
        raised = []

        def guarded():
            try:
                function()
            except BaseException as exception:
                raised.append(exception)

        key = self.keep(guarded)
        try:
            self.check(self.c.evl_context_run(context, self.trampoline, key))
        finally:
            self.release(key)
        if raised:
            raise raised[0]
