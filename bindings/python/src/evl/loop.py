"""EventLoop: asyncio.AbstractEventLoop on a loop of evl's."""

import asyncio
import concurrent.futures
import inspect
import os
import signal
import sys
import threading
import traceback
import warnings
import weakref
from asyncio import constants, coroutines, events, format_helpers, futures, tasks
from asyncio.base_events import _run_until_complete_cb
from asyncio.log import logger

from . import _evl
from . import executor as executors
from ._network import Network
from ._sockets import Sockets
from ._subprocess import Subprocesses

__all__ = ("EventLoop",)


class EventLoop(Network, Sockets, Subprocesses, _evl.Loop, asyncio.AbstractEventLoop):
    """An event loop. One thread runs it; call_soon_threadsafe is for the others."""

    def __init__(self):
        self._task_factory = None
        self._exception_handler = None
        self._default_executor = None
        self._executor_shutdown_called = False
        self._asyncgens = weakref.WeakSet()
        self._asyncgens_shutdown_called = False
        # Those that are open: what serves stays, though nobody refers to it.
        self._servers = set()
        # By descriptor and direction: what was given to add_reader and add_writer, which can be removed when it is closed.
        self._watched = {}
        # Those that Python was told of.
        self._signals = set()
        self._wakeup = None
        self._origin_depth = None
        self.set_debug(coroutines._is_debug_mode())

    def __repr__(self):
        return f"<{type(self).__name__} running={self.is_running()} closed={self.is_closed()} debug={self.get_debug()}>"

    def __del__(self, _warn=warnings.warn):
        # Without that, it could not be made.
        if "_origin_depth" in self.__dict__ and not self.is_closed():
            _warn(f"unclosed event loop {self!r}", ResourceWarning, source=self)
            if not self.is_running():
                self.close()

    # --- running

    def _check_closed(self):
        if self._closed:
            raise RuntimeError("Event loop is closed")

    def _check_running(self):
        if self.is_running():
            raise RuntimeError("This event loop is already running")
        if events._get_running_loop() is not None:
            raise RuntimeError("Cannot run the event loop while another loop is running")

    def run_forever(self):
        """Runs until stop() is called."""
        self._check_closed()
        self._check_running()
        hooks = sys.get_asyncgen_hooks()
        previous_fd = self._wake_by_signals()
        self._track_origins(self.get_debug())
        try:
            sys.set_asyncgen_hooks(firstiter=self._asyncgen_begins, finalizer=self._asyncgen_ends)
            events._set_running_loop(self)
            self._run()
        finally:
            events._set_running_loop(None)
            self._track_origins(False)
            if previous_fd is not None:
                self._wake_no_more(previous_fd)
            sys.set_asyncgen_hooks(*hooks)

    def run_until_complete(self, future):
        """Runs until the future is done, and returns its result."""
        self._check_closed()
        self._check_running()
        own = not futures.isfuture(future)
        future = tasks.ensure_future(future, loop=self)
        if own:
            # What it raises is raised here; nobody needs to hear that it is pending, too.
            future._log_destroy_pending = False
        # asyncio's own: anyio knows the task that a loop is run for by it.
        future.add_done_callback(_run_until_complete_cb)
        try:
            self.run_forever()
        except BaseException:
            if own and future.done() and not future.cancelled():
                # Told already, as what ended the run.
                future.exception()
            raise
        finally:
            future.remove_done_callback(_run_until_complete_cb)
        if not future.done():
            raise RuntimeError("Event loop stopped before Future completed.")
        return future.result()

    def close(self):
        """Closes the loop. What is pending is abandoned."""
        if self.is_running():
            raise RuntimeError("Cannot close a running event loop")
        if self.is_closed():
            return
        if self.get_debug():
            logger.debug("Close %r", self)
        if threading.current_thread() is threading.main_thread() and not sys.is_finalizing():
            for sig in list(self._signals):
                self.remove_signal_handler(sig)
        for server in list(self._servers):
            server._forget()
        self._close()
        self._watched.clear()
        if self._wakeup is not None:
            for fd in self._wakeup:
                os.close(fd)
            self._wakeup = None
        self._executor_shutdown_called = True
        executor, self._default_executor = self._default_executor, None
        if executor is not None:
            executor.shutdown(wait=False)

    def _wake_by_signals(self):
        """Has signals that Python handles wake the loop. Returns the descriptor that had been set, or None."""
        if threading.get_ident() != threading.main_thread().ident:
            return None
        if self._wakeup is None:
            self._wakeup = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
            self._watch_wakeup(self._wakeup[0])
        try:
            previous_fd = signal.set_wakeup_fd(self._wakeup[1], warn_on_full_buffer=False)
        except ValueError:
            # The main thread of another interpreter.
            return None
        self._wake_too(previous_fd)
        return previous_fd

    def _wake_no_more(self, previous_fd):
        self._wake_too(-1)
        present_fd = signal.set_wakeup_fd(previous_fd)
        if present_fd != self._wakeup[1]:
            # Set by the program meanwhile.
            signal.set_wakeup_fd(present_fd)

    # --- debugging

    def set_debug(self, enabled):
        """Turns debug mode on or off."""
        self._set_debug(enabled)
        if self.is_running():
            self.call_soon_threadsafe(self._track_origins, enabled)

    def _track_origins(self, enabled):
        if bool(enabled) == (self._origin_depth is not None):
            return
        if enabled:
            self._origin_depth = sys.get_coroutine_origin_tracking_depth()
            sys.set_coroutine_origin_tracking_depth(constants.DEBUG_STACK_DEPTH)
        else:
            sys.set_coroutine_origin_tracking_depth(self._origin_depth)
            self._origin_depth = None

    def _check_callback(self, callback, method):
        if coroutines.iscoroutine(callback) or inspect.iscoroutinefunction(callback):
            raise TypeError(f"coroutines cannot be used with {method}()")
        if not callable(callback):
            raise TypeError(f"a callable object was expected by {method}(), got {callback!r}")

    # --- futures and tasks

    def create_task(self, coro, *, name=None, context=None, **kwargs):
        """Makes a task of a coroutine."""
        self._check_closed()
        if self._task_factory is None:
            task = tasks.Task(coro, loop=self, name=name, context=context, **kwargs)
            if task._source_traceback:
                # Whoever calls this has made it.
                del task._source_traceback[-1]
            return task
        if context is None:
            task = self._task_factory(self, coro, **kwargs)
        else:
            task = self._task_factory(self, coro, context=context, **kwargs)
        if name is not None and hasattr(task, "set_name"):
            task.set_name(name)
        return task

    def set_task_factory(self, factory):
        """Sets what create_task makes tasks with; None: asyncio.Task."""
        if factory is not None and not callable(factory):
            raise TypeError("task factory must be a callable or None")
        self._task_factory = factory

    def get_task_factory(self):
        """What set_task_factory has set, or None."""
        return self._task_factory

    # --- readers, writers, signals

    def _watch_object(self, fileobj, writer, callback, args):
        self._check_closed()
        fd = _descriptor(fileobj)
        if self._is_elsewhere():
            self.call_soon_threadsafe(self._watch, fd, writer, callback, args)
        else:
            self._watch(fd, writer, callback, args)
        self._watched[fd, writer] = fileobj

    def _is_elsewhere(self):
        """Whether another thread runs the loop. Asyncio's readers and writers bear that; here it does what is asked."""
        thread = self._thread_id
        return thread is not None and thread != threading.get_ident()

    def _unwatch_object(self, fileobj, writer):
        try:
            fd = _descriptor(fileobj)
        except ValueError:
            # Closed meanwhile.
            known = [key for key, watched in self._watched.items() if watched is fileobj and key[1] is writer]
            if not known:
                raise
            fd = known[0][0]
        known = self._watched.pop((fd, writer), None)
        if self._is_elsewhere():
            self.call_soon_threadsafe(self._unwatch, fd, writer)
            return known is not None
        return self._unwatch(fd, writer)

    def add_reader(self, fd, callback, *args):
        """Has callback(*args) called whenever fd is readable."""
        self._watch_object(fd, False, callback, args)

    def add_writer(self, fd, callback, *args):
        """Has callback(*args) called whenever fd is writable."""
        self._watch_object(fd, True, callback, args)

    def remove_reader(self, fd):
        """Removes the reader of fd; says whether there was one."""
        return self._unwatch_object(fd, False)

    def remove_writer(self, fd):
        """Removes the writer of fd; says whether there was one."""
        return self._unwatch_object(fd, True)

    def add_signal_handler(self, sig, callback, *args):
        """Has callback(*args) called in the loop when the process receives a signal."""
        if coroutines.iscoroutine(callback) or inspect.iscoroutinefunction(callback):
            raise TypeError("coroutines cannot be used with add_signal_handler()")
        _check_signal(sig)
        self._check_closed()
        self._handle_signal(sig, callback, args)
        if threading.current_thread() is threading.main_thread():
            # signal.getsignal is to show that the signal is handled. What the kernel calls is libevl's, above that.
            self._forget_signal(sig)
            signal.signal(sig, _handled_by_a_loop)
            self._handle_signal(sig, callback, args)
            self._signals.add(sig)

    def remove_signal_handler(self, sig):
        """Removes the handler of a signal; says whether there was one."""
        _check_signal(sig)
        if self.is_closed():
            return False
        found = self._forget_signal(sig)
        if sig in self._signals:
            self._signals.discard(sig)
            signal.signal(sig, signal.default_int_handler if sig == signal.SIGINT else signal.SIG_DFL)
        return found

    # --- executors

    def run_in_executor(self, executor, func, *args):
        """Has func(*args) called by an executor (None: the loop's pool of threads)."""
        self._check_closed()
        if self.get_debug():
            self._check_callback(func, "run_in_executor")
        if executor is None:
            if self._executor_shutdown_called:
                raise RuntimeError("Executor shutdown has been called")
            executor = self._default_executor
            if executor is None and self.is_running() and self._thread_id != threading.get_ident():
                # libevl's is used by the loop's own thread.
                executor = self._default_executor = concurrent.futures.ThreadPoolExecutor(thread_name_prefix="asyncio")
            if executor is None:
                executors.check()
                executors.loops.add(self)
                return self._submit(func, args)
        return futures.wrap_future(executor.submit(func, *args), loop=self)

    def set_default_executor(self, executor):
        """Sets the executor that None stands for."""
        if not isinstance(executor, concurrent.futures.ThreadPoolExecutor):
            raise TypeError("executor must be ThreadPoolExecutor instance")
        self._default_executor = executor

    async def shutdown_default_executor(self, timeout=None):
        """Waits until the threads of the default executor have ended, but not longer than timeout seconds."""
        self._executor_shutdown_called = True
        try:
            ending = self._shut_pool_down(timeout)
            if ending is not None:
                await ending
        except TimeoutError:
            _warn_of_threads(timeout)
        executor = self._default_executor
        if executor is None:
            return
        done = self.create_future()

        def shut_down():
            error = None
            try:
                executor.shutdown(wait=True)
            except Exception as raised:
                error = raised
            if not self.is_closed():
                try:
                    self.call_soon_threadsafe(_settle, done, error)
                except RuntimeError:
                    # Closed meanwhile.
                    pass

        thread = threading.Thread(target=shut_down)
        thread.start()
        try:
            await tasks.wait_for(done, timeout)
        except TimeoutError:
            _warn_of_threads(timeout)
            executor.shutdown(wait=False)
        else:
            thread.join()

    # --- asynchronous generators

    def _asyncgen_begins(self, generator):
        if self._asyncgens_shutdown_called:
            warnings.warn(
                f"asynchronous generator {generator!r} was scheduled after loop.shutdown_asyncgens() call",
                ResourceWarning, source=self)
        self._asyncgens.add(generator)

    def _asyncgen_ends(self, generator):
        self._asyncgens.discard(generator)
        if not self.is_closed():
            self.call_soon_threadsafe(self.create_task, generator.aclose())

    async def shutdown_asyncgens(self):
        """Closes all asynchronous generators that are not exhausted."""
        self._asyncgens_shutdown_called = True
        generators = list(self._asyncgens)
        self._asyncgens.clear()
        results = await tasks.gather(*[generator.aclose() for generator in generators], return_exceptions=True)
        for generator, result in zip(generators, results):
            if isinstance(result, Exception):
                self.call_exception_handler({
                    "message": f"an error occurred during closing of asynchronous generator {generator!r}",
                    "exception": result,
                    "asyncgen": generator,
                })

    # --- exceptions that nobody takes

    def get_exception_handler(self):
        """What set_exception_handler has set, or None."""
        return self._exception_handler

    def set_exception_handler(self, handler):
        """Sets what is told of exceptions that nobody takes: handler(loop, context)."""
        if handler is not None and not callable(handler):
            raise TypeError(f"A callable object or None is expected, got {handler!r}")
        self._exception_handler = handler

    def default_exception_handler(self, context):
        """Logs an exception that nobody has taken."""
        exception = context.get("exception")
        handle = self._current_handle
        if "source_traceback" not in context and handle is not None and handle._source_traceback:
            context["handle_traceback"] = handle._source_traceback
        lines = [context.get("message") or "Unhandled exception in event loop"]
        for key in sorted(context):
            if key in ("message", "exception"):
                continue
            value = context[key]
            if key == "source_traceback":
                text = "".join(traceback.format_list(value)).rstrip()
                lines.append(f"{key}: Object created at (most recent call last):\n{text}")
            elif key == "handle_traceback":
                text = "".join(traceback.format_list(value)).rstrip()
                lines.append(f"{key}: Handle created at (most recent call last):\n{text}")
            else:
                lines.append(f"{key}: {value!r}")
        info = False if exception is None else (type(exception), exception, exception.__traceback__)
        logger.error("\n".join(lines), exc_info=info)

    def call_exception_handler(self, context):
        """Tells the exception handler of an exception that nobody has taken."""
        handler = self._exception_handler
        failed = "Exception in default exception handler"
        if handler is not None:
            try:
                _in_its_context(context, handler, self)
                return
            except (SystemExit, KeyboardInterrupt):
                raise
            except BaseException as error:
                failed += " while handling an unexpected error in custom exception handler"
                context = {
                    "message": "Unhandled error in exception handler",
                    "exception": error,
                    "context": context,
                }
        try:
            self.default_exception_handler(context)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException:
            logger.error(failed, exc_info=True)


def _in_its_context(context, handler, loop):
    """Calls an exception handler; since Python 3.12 in the context of the task, future or handle that it is told of."""
    of = None
    if sys.version_info >= (3, 12):
        thing = context.get("task") or context.get("future") or context.get("handle")
        of = thing.get_context() if hasattr(thing, "get_context") else None
    if of is None:
        handler(loop, context)
    else:
        of.run(handler, loop, context)


def _warn_of_threads(timeout):
    warnings.warn(f"The threads of the executor have not ended within {timeout} seconds.", RuntimeWarning, stacklevel=3)


def _settle(future, error):
    if future.done():
        return
    if error is None:
        future.set_result(None)
    else:
        future.set_exception(error)


def _descriptor(fileobj):
    if isinstance(fileobj, int):
        fd = fileobj
    else:
        try:
            fd = int(fileobj.fileno())
        except (AttributeError, TypeError, ValueError):
            raise ValueError(f"Invalid file object: {fileobj!r}") from None
    if fd < 0:
        raise ValueError(f"Invalid file descriptor: {fd}")
    return fd


def _check_signal(sig):
    if not isinstance(sig, int):
        raise TypeError(f"sig must be an int, not {sig!r}")
    if sig not in signal.valid_signals():
        raise ValueError(f"invalid signal number {sig}")


def _handled_by_a_loop(number, frame):
    pass


def _describe(self, callback):
    return format_helpers._format_callback_source(callback, self._args or ())


_evl.Handle.__repr__ = events.Handle.__repr__
_evl.Handle._repr_info = events.Handle._repr_info
_evl.TimerHandle._repr_info = lambda self: _timer_info(self)
_evl.Handle._describe = _describe


def _timer_info(handle):
    info = events.Handle._repr_info(handle)
    info.insert(2 if handle._cancelled else 1, f"when={handle._when}")
    return info
