"""Carries out a program on an event loop, and writes down what happens.

The same interpreter serves both sides; what it asks of an event loop is in class Backend. The trace is a list of tuples.
Two descriptors that are ready in one iteration have no defined order, so the interpreter knows what is in every pipe and
skips operations that would make a second descriptor ready. It decides by the program alone, thus equally on both sides.
"""

import functools
import os
import socket


class ProgramError(Exception):
    """What a failing callback raises."""

    def __init__(self, number):
        super().__init__(f"program error {number}")
        self.label = f"error {number}"


class Refused(Exception):
    """The event loop answered an operation with an error; reason is the same word on both sides."""

    def __init__(self, reason):
        super().__init__(reason)
        self.reason = reason


class Backend:
    """What the interpreter asks of an event loop. Time is in ticks; callables take no argument.

    Functions that schedule return a handle, or None when no handle is wanted. The backend itself reports
    `default handler` events, when a failure reached the default exception handler, and `idle` ones, when nothing will ever
    happen any more and it stops the loop.
    """

    def __init__(self, program, record):
        raise NotImplementedError

    def outermost(self, function):
        """Calls function in an empty context."""

    def iteration(self):
        """The number of the present iteration of the loop."""

    def now(self): ...
    def advance(self, ticks): ...
    def call_soon(self, callback, want_handle, context): ...
    def call_soon_threadsafe(self, callback, want_handle, context): ...
    def call_later(self, delay, callback, want_handle, context): ...
    def call_at(self, when, callback, want_handle, context): ...
    def add_watch(self, side, descriptor, callback, want_handle): ...

    # side is "reader" or "writer"
    def remove_watch(self, side, descriptor): ...
    def pause_watch(self, side, descriptor): ...
    def resume_watch(self, side, descriptor): ...
    def cancel(self, handle): ...
    def cancelled(self, handle): ...

    def timer_state(self, handle):
        """(when, whether it waits for its deadline), or None for a handle that is not a timer's."""

    def forget(self, handle):
        """Gives the handle back."""

    def stop(self): ...
    def stop_threadsafe(self): ...

    def run_forever(self):
        """Returns None; raises SystemExit."""

    def run_once(self, timeout):
        """Runs one iteration; returns how many callbacks ran."""

    def run_until_idle(self): ...
    def close(self): ...
    def is_running(self): ...
    def is_current(self): ...

    def set_handler(self, handler):
        """handler(label of the failure, handle that failed), or None for the default handler."""

    def report(self, error):
        """Calls the exception handler."""

    def report_default(self, error):
        """Calls the default exception handler."""

    def set_variable(self, variable, value):
        """Returns a token."""

    def get_variable(self, variable): ...
    def reset_variable(self, variable, token): ...
    def forget_token(self, token): ...
    def copy_context(self): ...
    def new_context(self): ...
    def run_in_context(self, context, function): ...
    def forget_context(self, context): ...

    def finish(self):
        """Releases everything after close; returns what the loop did wrong, as texts."""


class Watch:
    """A reader or writer as the interpreter believes it to be."""

    def __init__(self):
        self.active = True


class Channel:
    """A pipe, or a socket and its peer: `near` is the reading end or the socket, `far` the writing end or the peer."""

    def __init__(self, kind):
        self.kind = kind
        self.watches = {"reader": None, "writer": None}
        self.data = 0
        self.full = False
        self.near_open = self.far_open = True
        if kind == "pipe":
            self.near, self.far = os.pipe()
        else:
            self.near, self.far = (end.detach() for end in socket.socketpair())
        os.set_blocking(self.near, False)
        os.set_blocking(self.far, False)

    def descriptor(self, side):
        """The end that is watched by this side, or None when it is closed."""
        if side == "writer" and self.kind == "pipe":
            return self.far if self.far_open else None
        return self.near if self.near_open else None

    def ready(self):
        """The descriptors that a poll would find."""
        found = set()
        reader, writer = self.watches["reader"], self.watches["writer"]
        if reader and reader.active and (self.data or not self.far_open):
            found.add(self.near)
        if writer and writer.active and (not self.full or not self.near_open):
            found.add(self.descriptor("writer"))
        return found

    def close(self):
        """Closes both ends."""
        if self.near_open:
            os.close(self.near)
        if self.far_open:
            os.close(self.far)
        self.near_open = self.far_open = False


class Slot:
    """A handle in a variable of the program."""

    def __init__(self, name, handle, watch=None):
        self.name = name
        self.handle = handle
        self.watch = watch


class Interpreter:
    """One run of a program."""

    def __init__(self, program, make_backend, sink=None):
        self.program = program
        self.trace = []
        self.sink = sink
        self.fuel = program.fuel
        self.bursts = 2
        self.slots = {}
        self.contexts = {}
        self.tokens = {}
        self.channels = [Channel(kind) for kind in program.channels]
        self.last_iteration = None
        self.handlers = 0  # exception handlers that run
        self.current = []  # slots of the callbacks that run
        self.backend = make_backend(program, self.record)

    def record(self, *event):
        """Writes an event into the trace."""
        self.trace.append(event)
        if self.sink:
            self.sink(event)

    # -- running

    def run(self):
        """Runs the whole program and returns the trace."""
        self.backend.outermost(self.main)
        for channel in self.channels:
            channel.close()
        return self.trace

    def main(self):
        """What happens outside of the loop."""
        for operation in self.program.main:
            if self.fuel <= 0:
                break
            try:
                self.perform(operation)
            except ProgramError as error:
                self.record("main caught", error.label)
            except SystemExit as error:
                self.record("main caught", f"exit {error.code}")
        self.record("end", self.backend.now())
        self.after_close()

    def after_close(self):
        """Closes the loop, looks what is left, and lets everything go."""
        self.backend.close()
        channel = Channel("pipe")
        for operation in (
            lambda: self.backend.call_soon(self.never, False, None),
            lambda: self.backend.call_soon_threadsafe(self.never, True, None),
            lambda: self.backend.call_later(1, self.never, True, None),
            lambda: self.backend.call_at(1, self.never, False, None),
            lambda: self.backend.add_watch("reader", channel.near, self.never, True),
            self.backend.run_forever,
            self.backend.close,
        ):
            try:
                operation()
                self.record("after close", "accepted")
            except Refused as refusal:
                self.record("after close", refusal.reason)
        channel.close()
        for name, slot in sorted(self.slots.items()):
            self.record("at last", name, "cancelled" if self.backend.cancelled(slot.handle) else "not cancelled")
            self.backend.cancel(slot.handle)
            self.backend.forget(slot.handle)
        for token in self.tokens.values():
            self.backend.forget_token(token)
        for context in self.contexts.values():
            self.backend.forget_context(context)
        for violation in self.backend.finish():
            self.record("violation", violation)

    def never(self):
        """A callback that must not run."""
        self.record("ran on a closed loop")

    def execute(self, body):
        """Carries out a body."""
        for operation in self.program.bodies[body]:
            self.perform(operation)

    def perform(self, operation):
        """Carries out an operation."""
        name, *arguments = operation
        try:
            getattr(self, "do_" + name)(*arguments)
        except Refused as refusal:
            self.record(name, "refused", refusal.reason)

    def burn(self):
        """Uses fuel up; False when none is left: then the loop is stopped."""
        self.fuel -= 1
        if self.fuel < 0:
            self.record("out of fuel")
            self.backend.stop()
            return False
        return True

    def callback(self, kind, name, body, first=None, channel=None):
        """A callable for the loop, and the function that tells it which handle it has."""
        own = [None]

        def run():
            iteration = self.backend.iteration()
            batch = "same batch" if iteration == self.last_iteration else "new batch"
            self.last_iteration = iteration
            self.record(kind, f"slot {name}", f"body {body}", f"time {self.backend.now()}", batch)
            if not self.burn():
                return
            self.current.append(own[0])
            try:
                if first == "remove":
                    self.perform(("remove_" + kind, channel))
                elif first is not None:
                    self.perform((first, channel))
                self.execute(body)
            finally:
                self.current.pop()

        def owner(slot):
            own[0] = slot

        return run, owner

    def store(self, name, handle, owner, watch=None):
        """Puts a handle into a slot, in place of the one that was there."""
        if name is None:
            return
        self.do_forget(name)
        slot = Slot(name, handle, watch)
        self.slots[name] = slot
        owner(slot)

    def finished_run(self, result=None):
        """Writes down that the loop has returned."""
        self.record("returned", result, f"time {self.backend.now()}")
        self.last_iteration = None

    # -- scheduling

    def schedule(self, kind, name, body, context, function, *arguments):
        """What soon, threadsafe, later and at have in common."""
        run, owner = self.callback(kind, name, body)
        handle = function(*arguments, run, name is not None, self.contexts.get(context))
        self.store(name, handle, owner)

    def do_soon(self, name, body, context):
        self.schedule("soon", name, body, context, self.backend.call_soon)

    def do_threadsafe(self, name, body, context):
        self.schedule("threadsafe", name, body, context, self.backend.call_soon_threadsafe)

    def do_later(self, name, body, context, delay):
        self.schedule("later", name, body, context, self.backend.call_later, delay)

    def do_at(self, name, body, context, when):
        self.schedule("at", name, body, context, self.backend.call_at, when)

    def do_burst(self, count, spread, keep_every):
        """Starts many timers and cancels most of them; some of the others start another one, not far away."""
        if self.bursts == 0:
            return
        self.bursts -= 1

        def tick(number):
            self.record("burst", number, f"time {self.backend.now()}")
            if number % 3 == 0:
                again = functools.partial(self.record, "burst", number, "again")
                self.backend.call_later(number * 104729 % min(spread, 40), again, False, None)

        handles = []
        for number in range(count):
            delay = number * 7919 % spread
            handles.append(self.backend.call_later(delay, functools.partial(tick, number), True, None))
        for number, handle in enumerate(handles):
            if number % keep_every:
                self.backend.cancel(handle)
            self.backend.forget(handle)

    # -- handles

    def do_cancel(self, name):
        if name in self.slots:
            self.cancel(self.slots[name])

    def do_cancel_self(self):
        if self.current and self.current[-1] is not None and self.slots.get(self.current[-1].name) is self.current[-1]:
            self.cancel(self.current[-1])

    def cancel(self, slot):
        """Cancels a handle, which removes the watch that it may belong to."""
        for channel in self.channels:
            for side, watch in channel.watches.items():
                if watch is not None and watch is slot.watch:
                    channel.watches[side] = None
        self.backend.cancel(slot.handle)
        self.record("cancel", slot.name, "cancelled" if self.backend.cancelled(slot.handle) else "not cancelled")

    def do_cancelled(self, name):
        if name in self.slots:
            answer = self.backend.cancelled(self.slots[name].handle)
            self.record("cancelled", name, "yes" if answer else "no")

    def do_timer_state(self, name):
        if name in self.slots:
            self.record("timer state", name, self.backend.timer_state(self.slots[name].handle))

    def do_forget(self, name):
        slot = self.slots.pop(name, None)
        if slot is not None:
            self.backend.forget(slot.handle)

    # -- the loop

    def do_stop(self):
        self.record("stop")
        self.backend.stop()

    def do_stop_threadsafe(self):
        self.record("stop threadsafe")
        self.backend.stop_threadsafe()

    def do_advance(self, ticks):
        self.backend.advance(ticks)
        self.record("advance", f"time {self.backend.now()}")

    def do_state(self):
        self.record("running" if self.backend.is_running() else "not running",
                    "current" if self.backend.is_current() else "not current")  # fmt: skip

    def do_run(self):
        self.record("run")
        self.run_by(self.backend.run_forever)

    def do_run_once(self, timeout):
        self.record("run once", timeout)
        self.run_by(lambda: self.backend.run_once(timeout))

    def do_run_until_idle(self):
        self.record("run until idle")
        self.run_by(self.backend.run_until_idle)

    def run_by(self, function):
        """Runs the loop and writes down how it ended.

        Not from an exception handler that is called while the loop does not run: asyncio allows that, evl answers
        EVL_ERUNNING, because the call of the handler uses the loop.
        """
        if self.handlers and not self.backend.is_running():
            return
        try:
            result = function()
        except SystemExit as error:
            result = f"exit {error.code}"
        self.finished_run(result)

    def do_close_while_running(self):
        if self.backend.is_running():
            self.backend.close()

    # -- failures

    def do_raise(self, number):
        raise ProgramError(number)

    def do_exit(self, code):
        raise SystemExit(code)

    def do_set_handler(self, body):
        if body is None:
            self.backend.set_handler(None)
            return

        def handler(label, handle):
            name = next((name for name, slot in self.slots.items() if handle is not None and slot.handle is handle), None)
            self.record("handler", f"body {body}", label, f"slot {name}")
            if not self.burn():
                return
            self.handlers += 1
            try:
                self.execute(body)
            finally:
                self.handlers -= 1

        self.backend.set_handler(handler)

    def do_report(self, number):
        self.record("report", number)
        self.backend.report(ProgramError(number))

    def do_report_default(self, number):
        self.record("report to the default handler", number)
        self.backend.report_default(ProgramError(number))

    # -- context variables

    def do_set(self, variable, value, name):
        token = self.backend.set_variable(variable, value)
        if name is None:
            self.backend.forget_token(token)
        else:
            if name in self.tokens:
                self.backend.forget_token(self.tokens[name])
            self.tokens[name] = token

    def do_get(self, variable):
        self.record("variable", variable, self.backend.get_variable(variable))

    def do_reset(self, variable, name):
        if name in self.tokens:
            self.backend.reset_variable(variable, self.tokens[name])
            self.record("reset", variable)

    def do_copy_context(self, name):
        self.store_context(name, self.backend.copy_context())

    def do_new_context(self, name):
        self.store_context(name, self.backend.new_context())

    def store_context(self, name, context):
        """Puts a context into its slot; None is the current context, which operations know without a slot."""
        if name is None:
            self.backend.forget_context(context)
            return
        if name in self.contexts:
            self.backend.forget_context(self.contexts[name])
        self.contexts[name] = context

    def do_within(self, name, body):
        if name not in self.contexts:
            return

        def run():
            if self.burn():
                self.execute(body)

        self.record("within", name)
        self.backend.run_in_context(self.contexts[name], run)
        self.record("left", name)

    # -- descriptors

    def crowded(self):
        """Whether more than one descriptor is ready."""
        return len(set().union(*(channel.ready() for channel in self.channels))) > 1

    def changed(self, target, attribute, value):
        """Sets what the interpreter believes, unless it would make a second descriptor ready: then answers False."""
        old = target[attribute] if isinstance(target, dict) else getattr(target, attribute)
        assign(target, attribute, value)
        if self.crowded():
            assign(target, attribute, old)
            self.record("skipped")
            return False
        return True

    def do_reader(self, number, name, body, first):
        self.watch("reader", number, name, body, first)

    def do_writer(self, number, name, body, first):
        self.watch("writer", number, name, body, first)

    def watch(self, side, number, name, body, first):
        """Adds a reader or a writer."""
        channel = self.channels[number]
        descriptor = channel.descriptor(side)
        watch = Watch()
        if descriptor is None or not self.changed(channel.watches, side, watch):
            return
        run, owner = self.callback(side, name, body, first, number)
        handle = self.backend.add_watch(side, descriptor, run, name is not None)
        self.store(name, handle, owner, watch)

    def do_remove_reader(self, number):
        self.remove("reader", self.channels[number])

    def do_remove_writer(self, number):
        self.remove("writer", self.channels[number])

    def remove(self, side, channel):
        """Removes a reader or a writer, which need not be there."""
        descriptor = channel.descriptor(side)
        if descriptor is not None:
            channel.watches[side] = None
            answer = self.backend.remove_watch(side, descriptor)
            self.record("remove", side, "removed" if answer else "none")

    def do_pause_reader(self, number):
        self.pause("reader", self.channels[number])

    def do_pause_writer(self, number):
        self.pause("writer", self.channels[number])

    def pause(self, side, channel):
        """Pauses a reader or a writer, which need not be there."""
        if channel.descriptor(side) is not None:
            if channel.watches[side]:
                channel.watches[side].active = False
            self.backend.pause_watch(side, channel.descriptor(side))
            self.record("pause", side)

    def do_resume_reader(self, number):
        self.resume("reader", self.channels[number])

    def do_resume_writer(self, number):
        self.resume("writer", self.channels[number])

    def resume(self, side, channel):
        """Resumes a reader or a writer, which need not be there."""
        if channel.descriptor(side) is not None:
            if channel.watches[side] is None or self.changed(channel.watches[side], "active", True):
                self.backend.resume_watch(side, channel.descriptor(side))
                self.record("resume", side)

    def do_write(self, number):
        channel = self.channels[number]
        if not channel.far_open or (not channel.full and not self.changed(channel, "data", channel.data + 1)):
            return
        try:
            os.write(channel.far, b"x")
            self.record("write", number)
        except OSError as error:
            self.record("write", number, os.strerror(error.errno))

    def do_read(self, number):
        if self.channels[number].full:
            self.do_drain(number)
        else:
            self.take(number, 1)

    def do_drain(self, number):
        self.take(number, 1 << 20)

    def take(self, number, size):
        """Reads from a channel what is there, up to size bytes."""
        channel = self.channels[number]
        if not channel.near_open:
            return
        was_full, channel.full = channel.full, False
        if self.crowded():
            channel.full = was_full
            self.record("skipped")
            return
        try:
            got = len(os.read(channel.near, size))
            channel.data -= got
            self.record("read", number, got if got < 2 else "many")
        except OSError as error:
            self.record("read", number, os.strerror(error.errno))

    def do_fill(self, number):
        """Fills a pipe, so that it is not writable."""
        channel = self.channels[number]
        if channel.kind != "pipe" or not channel.far_open or not channel.near_open or channel.full:
            return
        # Full or not: what counts is that the reader has data.
        if not self.changed(channel, "data", channel.data + 1):
            return
        channel.data -= 1
        channel.full = True
        try:
            while True:
                channel.data += os.write(channel.far, b"x" * 65536)
        except BlockingIOError:
            self.record("fill", number)

    def do_close_read_end(self, number):
        channel = self.channels[number]
        if channel.kind == "pipe" and channel.near_open and channel.watches["reader"] is None:
            if self.changed(channel, "near_open", False):
                os.close(channel.near)
                self.record("close read end", number)

    def do_close_write_end(self, number):
        channel = self.channels[number]
        if channel.far_open and (channel.kind == "socket" or channel.watches["writer"] is None):
            if self.changed(channel, "far_open", False):
                os.close(channel.far)
                self.record("close write end", number)

    def do_renew(self, number):
        """Closes a channel and opens another one, which mostly gets the same descriptors."""
        channel = self.channels[number]
        self.remove("reader", channel)
        self.remove("writer", channel)
        channel.close()
        self.channels[number] = Channel(channel.kind)
        self.record("renew", number)


def assign(target, attribute, value):
    """Sets an item of a dictionary or an attribute of an object."""
    if isinstance(target, dict):
        target[attribute] = value
    else:
        setattr(target, attribute, value)
