//! The loop: making, running, stopping, scheduling, and its place in a host program.

use std::ffi::{c_char, c_int, c_void};

use super::guard::{guard, predicate, release};
use super::handle::evl_free_fn;
use super::own;
use super::{context::evl_context_hooks, options};
use crate::engine::callback::FreeArg;
use crate::engine::event_loop::{EventLoop, Options};
use crate::engine::fork;
use crate::error::Error;

/// An event loop, as asyncio.AbstractEventLoop. Opaque; reference counted.
pub type evl_loop = EventLoop;

/// Flags of evl_loop_options.
#[repr(C)]
#[derive(Clone, Copy)]
pub enum evl_loop_flag {
    /// Start in debug mode, as evl_loop_set_debug does. The environment variable EVL_DEBUG=1 does it for every
    /// loop.
    EVL_LOOP_DEBUG = 1,
    /// The clock stands still unless evl_loop_advance moves it: for testing programs with timers. A wait is
    /// real then: a timer that is not due never ends it, and evl_loop_run_once's timeout is of real time. A
    /// test advances and calls evl_loop_run_until_idle, in turn.
    EVL_LOOP_MANUAL_CLOCK = 2,
    /// evl_loop_fd becomes readable when a timer is due, too (Linux).
    EVL_LOOP_FD_DEADLINES = 4,
}

/// Levels of the log callback.
#[repr(C)]
#[derive(Clone, Copy)]
pub enum evl_log_level {
    /// Told in debug mode only.
    EVL_LOG_DEBUG = 0,
    /// Something took too long, or was left open.
    EVL_LOG_WARNING = 1,
    /// A callback failed and no exception handler took it.
    EVL_LOG_ERROR = 2,
}

/// Takes reports of evl: level is one of evl_log_level, message is valid during the call. Called on the loop's
/// thread.
pub type evl_log_fn = Option<unsafe extern "C-unwind" fn(level: c_int, message: *const c_char, arg: *mut c_void)>;

/// Options of evl_loop_new. Initialise with evl_loop_options_init; a field that is zero has its default.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct evl_loop_options {
    /// The size of this struct as the caller knows it: sizeof(evl_loop_options).
    pub size: u32,
    /// evl_loop_flag members, or'ed.
    pub flags: u32,
    /// Where a manual clock starts, in nanoseconds.
    pub start_time_ns: i64,
    /// In debug mode, callbacks that take this long or longer are reported. Default 100 ms.
    pub slow_callback_duration_ns: i64,
    /// Hooks that carry a host language's context along with every callback, or NULL; the table is copied.
    pub context_hooks: *const evl_context_hooks,
    /// Passed to the context hooks. Must outlive the loop.
    pub context_hooks_data: *mut c_void,
}

/// Counters of a loop since it was made. See evl_loop_metrics.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct evl_metrics {
    /// sizeof(evl_metrics) as the caller knows it; set it before the call.
    pub size: u32,
    /// Always zero.
    pub reserved: u32,
    /// Iterations run.
    pub iterations: u64,
    /// Callbacks called.
    pub callbacks: u64,
    /// Times the operating system was asked for events.
    pub polls: u64,
    /// Descriptor events it gave.
    pub events: u64,
    /// Callbacks that came from other threads.
    pub posts: u64,
    /// Callbacks waiting in the ready queue now.
    pub ready: u64,
    /// Timers started now.
    pub timers: u64,
    /// Readers and writers registered now.
    pub watchers: u64,
}

/// Fills options with the defaults. size is sizeof *options.
///
/// Any thread. Errors: -EINVAL (NULL), EVL_EOPTIONS (size is smaller than the size field itself, or larger than
/// this library knows).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_loop_options_init(options: *mut evl_loop_options, size: u32) -> c_int {
    // SAFETY: the caller passes size writable bytes, or NULL.
    guard(|| unsafe { options::init(options, size) })
}

/// Makes a loop: asyncio.new_event_loop without a policy. options may be NULL.
///
/// *out is yours, to give back by evl_loop_unref; the last reference closes a loop that does not run. Nothing
/// is started: no thread, no signal handler. Any thread. Errors: -EINVAL (out is NULL), EVL_EOPTIONS, -ENOMEM,
/// and what the system says when it can make no poller (-EMFILE, -ENFILE).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_loop_new(options: *const evl_loop_options, out: *mut *mut evl_loop) -> c_int {
    // SAFETY: options is NULL or begins with its size; out is writable or NULL.
    guard(|| unsafe {
        own::required(out)?;
        let given: evl_loop_options = options::read(options)?;
        if given.flags & !7 != 0 || given.slow_callback_duration_ns < 0 {
            return Err(Error::OPTIONS);
        }
        let hooks = super::context::read_hooks(given.context_hooks, given.context_hooks_data)?;
        let made = EventLoop::create(&Options {
            debug: given.flags & evl_loop_flag::EVL_LOOP_DEBUG as u32 != 0,
            manual_clock: given.flags & evl_loop_flag::EVL_LOOP_MANUAL_CLOCK as u32 != 0,
            fd_deadlines: given.flags & evl_loop_flag::EVL_LOOP_FD_DEADLINES as u32 != 0,
            start_time: given.start_time_ns,
            slow_callback: given.slow_callback_duration_ns,
            hooks,
        })?;
        own::give(out, made.cast_mut());
        Ok(0)
    })
}

/// Takes another reference and returns event_loop. NULL gives NULL. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_loop_ref(event_loop: *mut evl_loop) -> *mut evl_loop {
    // SAFETY: a live loop or NULL, as documented.
    if let Some(l) = unsafe { event_loop.as_ref() } {
        l.retain();
    }
    event_loop
}

/// Gives a reference back; NULL is ignored. The last one closes the loop as evl_loop_close does; if the loop
/// runs, when it stops running. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_loop_unref(event_loop: *mut evl_loop) {
    // SAFETY: the caller owns a reference and gives it up, or passes NULL.
    release(|| unsafe { EventLoop::release_ptr(event_loop) });
}

/// Runs until evl_loop_stop: loop.run_forever.
///
/// Returns 0 when stopped. On any one thread, which the loop belongs to while it runs. Errors: EVL_EEXIT (a
/// callback called evl_raise_exit), EVL_ERUNNING (this loop runs, or this thread runs another), EVL_ECLOSED,
/// EVL_EWRONGTHREAD, EVL_EFORKED, EVL_EPANIC, -EINVAL (NULL), and system errors of the poller.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_loop_run_forever(event_loop: *mut evl_loop) -> c_int {
    // SAFETY: a live loop or NULL, as documented.
    unsafe { own::run(event_loop, |l| l.run_forever().map(|()| 0)) }
}

/// Runs one iteration: waits until something is ready, but not longer than timeout_ns, then runs exactly the
/// callbacks that are ready.
///
/// timeout_ns 0 does not wait; EVL_FOREVER waits without limit. Returns how many callbacks ran (at most
/// INT_MAX). A stop that was asked for before is used up by it, and makes it not wait. Threads and errors as
/// evl_loop_run_forever; -EINVAL also for a negative timeout.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_loop_run_once(event_loop: *mut evl_loop, timeout_ns: i64) -> c_int {
    // SAFETY: a live loop or NULL, as documented.
    unsafe { own::run(event_loop, |l| l.run_once(timeout_ns)) }
}

/// Runs iterations until nothing is ready and a poll without waiting finds nothing, or evl_loop_stop. Timers
/// that are not due and watchers that are not ready do not hold it.
///
/// Returns how many callbacks ran. Threads and errors as evl_loop_run_forever.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_loop_run_until_idle(event_loop: *mut evl_loop) -> c_int {
    // SAFETY: a live loop or NULL, as documented.
    unsafe { own::run(event_loop, EventLoop::run_until_idle) }
}

/// Stops the loop after the present iteration: loop.stop. Before a run, the next run does one iteration and
/// polls once.
///
/// On the loop's thread. Errors: -EINVAL, EVL_ECLOSED, EVL_EWRONGTHREAD, EVL_EFORKED.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_loop_stop(event_loop: *mut evl_loop) -> c_int {
    // SAFETY: a live loop or NULL, as documented.
    unsafe {
        own::on_loop(event_loop, |lp| {
            lp.stop();
            Ok(0)
        })
    }
}

/// evl_loop_stop from any thread: loop.call_soon_threadsafe(loop.stop). Wakes the loop.
///
/// Any thread. Errors: -EINVAL, EVL_ECLOSED, EVL_EFORKED.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_loop_stop_threadsafe(event_loop: *mut evl_loop) -> c_int {
    // SAFETY: a live loop or NULL, as documented.
    guard(|| unsafe { own::borrow(event_loop)?.stop_threadsafe().map(|()| 0) })
}

/// Closes the loop: loop.close. What is pending is abandoned: no callback runs, every arg is released, every
/// descriptor and signal let go.
///
/// Closing a closed loop does nothing and returns 0. References stay valid, and every other call answers
/// EVL_ECLOSED. From any thread while the loop does not run. Errors: EVL_ERUNNING (it runs, on whatever
/// thread), EVL_EWRONGTHREAD (another thread is inside of one of its functions), -EINVAL (NULL).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_loop_close(event_loop: *mut evl_loop) -> c_int {
    // SAFETY: a live loop or NULL, as documented.
    guard(|| unsafe { own::borrow(event_loop)?.close().map(|()| 0) })
}

/// Whether the loop is running: 1 or 0. loop.is_running. NULL gives 0. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_loop_is_running(event_loop: *const evl_loop) -> c_int {
    // SAFETY: a live loop or NULL, as documented.
    predicate(unsafe { event_loop.as_ref() }, EventLoop::is_running)
}

/// Whether the loop was closed: 1 or 0. loop.is_closed. NULL gives 0. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_loop_is_closed(event_loop: *const evl_loop) -> c_int {
    // SAFETY: a live loop or NULL, as documented.
    predicate(unsafe { event_loop.as_ref() }, EventLoop::is_closed)
}

/// Reads the loop's clock, in nanoseconds: loop.time. Monotonic; its zero is arbitrary (0 by default on a
/// manual clock).
///
/// Any thread. Errors: -EINVAL (NULL).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_loop_time(event_loop: *const evl_loop, time_ns: *mut i64) -> c_int {
    // SAFETY: a live loop or NULL; time_ns is writable or NULL.
    guard(|| unsafe { own::put(time_ns, own::borrow(event_loop)?.time()) })
}

/// The time of the present iteration, without reading the clock again; outside of an iteration, the clock.
///
/// On the loop's thread. Errors: -EINVAL, EVL_ECLOSED, EVL_EWRONGTHREAD, EVL_EFORKED.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_loop_now(event_loop: *mut evl_loop, time_ns: *mut i64) -> c_int {
    // SAFETY: a live loop or NULL; time_ns is writable or NULL.
    unsafe { own::on_loop(event_loop, |lp| own::put(time_ns, lp.now())) }
}

/// The clock's resolution in nanoseconds: asyncio's _clock_resolution. Any thread. Errors: -EINVAL (NULL).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_loop_clock_resolution(
    event_loop: *const evl_loop,
    resolution_ns: *mut i64,
) -> c_int {
    // SAFETY: a live loop or NULL; resolution_ns is writable or NULL.
    guard(|| unsafe { own::put(resolution_ns, own::borrow(event_loop)?.clock_resolution()) })
}

/// Moves a manual clock forward by delta_ns; beyond the end of time it stays there. Timers that become due fire
/// at the next run; nothing runs inside of this call.
///
/// On the loop's thread, also from callbacks and hooks. Errors: EVL_ECLOCK (the loop has a real clock), -EINVAL
/// (NULL; delta_ns is negative), EVL_ECLOSED, EVL_EWRONGTHREAD, EVL_EFORKED.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_loop_advance(event_loop: *mut evl_loop, delta_ns: i64) -> c_int {
    // SAFETY: a live loop or NULL, as documented.
    unsafe { own::on_loop(event_loop, |lp| lp.advance(delta_ns).map(|()| 0)) }
}

/// The code given to evl_raise_exit by the callback that ended the last run; 0 when that did not end with
/// EVL_EEXIT.
///
/// Any thread. Errors: -EINVAL (NULL).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_loop_exit_code(event_loop: *const evl_loop, exit_code: *mut c_int) -> c_int {
    // SAFETY: a live loop or NULL; exit_code is writable or NULL.
    guard(|| unsafe { own::put(exit_code, own::borrow(event_loop)?.exit_code()) })
}

/// Turns debug mode on (not 0) or off: loop.set_debug. It records where handles are made and reports slow
/// callbacks and loops that nobody closed.
///
/// On the loop's thread. Errors: -EINVAL, EVL_ECLOSED, EVL_EWRONGTHREAD, EVL_EFORKED.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_loop_set_debug(event_loop: *mut evl_loop, enabled: c_int) -> c_int {
    // SAFETY: a live loop or NULL, as documented.
    unsafe {
        own::on_loop(event_loop, |lp| {
            lp.set_debug(enabled != 0);
            Ok(0)
        })
    }
}

/// Whether debug mode is on: 1 or 0. loop.get_debug. NULL gives 0. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_loop_get_debug(event_loop: *const evl_loop) -> c_int {
    // SAFETY: a live loop or NULL, as documented.
    predicate(unsafe { event_loop.as_ref() }, EventLoop::debug)
}

/// Sets from how many nanoseconds on a callback is reported as slow in debug mode: loop.slow_callback_duration.
///
/// Any thread. Errors: -EINVAL (NULL, or negative).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_loop_set_slow_callback_duration(
    event_loop: *mut evl_loop,
    duration_ns: i64,
) -> c_int {
    // SAFETY: a live loop or NULL, as documented.
    guard(|| unsafe { own::borrow(event_loop)?.set_slow_callback(duration_ns).map(|()| 0) })
}

/// Reads the duration that evl_loop_set_slow_callback_duration sets. Any thread. Errors: -EINVAL (NULL).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_loop_get_slow_callback_duration(
    event_loop: *const evl_loop,
    duration_ns: *mut i64,
) -> c_int {
    // SAFETY: a live loop or NULL; duration_ns is writable or NULL.
    guard(|| unsafe { own::put(duration_ns, own::borrow(event_loop)?.slow_callback()) })
}

/// Runs the shutdown hooks, each once, last registered first, and then the loop until it is idle, so that what
/// they scheduled at once is done. Call it before evl_loop_close, which itself runs no callbacks.
///
/// Returns how many callbacks ran. Threads and errors as evl_loop_run_forever.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_loop_run_shutdown(event_loop: *mut evl_loop) -> c_int {
    // SAFETY: a live loop or NULL, as documented.
    unsafe { own::run(event_loop, EventLoop::run_shutdown) }
}

/// Fills metrics, whose size field is set. Counters never decrease.
///
/// On the loop's thread. Errors: -EINVAL, EVL_EOPTIONS, EVL_ECLOSED, EVL_EWRONGTHREAD, EVL_EFORKED.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_loop_metrics(event_loop: *mut evl_loop, metrics: *mut evl_metrics) -> c_int {
    // SAFETY: a live loop or NULL; metrics begins with its size.
    unsafe {
        own::on_loop(event_loop, |lp| {
            let found = lp.metrics();
            options::write(
                metrics,
                evl_metrics {
                    size: 0,
                    reserved: 0,
                    iterations: found.counters.iterations,
                    callbacks: found.counters.callbacks,
                    polls: found.counters.polls,
                    events: found.counters.events,
                    posts: found.counters.posts,
                    ready: found.ready,
                    timers: found.timers,
                    watchers: found.watchers,
                },
            )
        })
    }
}

/// Keeps a pointer of yours with the loop; the one before is released first. data_free (may be NULL) runs when
/// it is replaced, or when the loop's memory is freed, or when this function fails.
///
/// On the loop's thread. Errors: -EINVAL, EVL_ECLOSED, EVL_EWRONGTHREAD, EVL_EFORKED.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_loop_set_data(
    event_loop: *mut evl_loop,
    data: *mut c_void,
    data_free: evl_free_fn,
) -> c_int {
    let data = FreeArg::new(data, data_free);
    // SAFETY: a live loop or NULL, as documented.
    unsafe {
        own::on_loop(event_loop, |lp| {
            lp.set_data(data);
            Ok(0)
        })
    }
}

/// The pointer kept by evl_loop_set_data, or NULL. NULL gives NULL. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_loop_get_data(event_loop: *const evl_loop) -> *mut c_void {
    // SAFETY: a live loop or NULL, as documented.
    unsafe { event_loop.as_ref() }.map_or(std::ptr::null_mut(), EventLoop::data)
}

/// Sends the loop's reports (failures nobody handled, slow callbacks, debug) to log instead of stderr; NULL
/// restores stderr.
///
/// arg_free runs when it is replaced or the loop is closed, or when this function fails. On the loop's thread.
/// Errors: -EINVAL, EVL_ECLOSED, EVL_EWRONGTHREAD, EVL_EFORKED.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_loop_set_log(
    event_loop: *mut evl_loop,
    log: evl_log_fn,
    arg: *mut c_void,
    arg_free: evl_free_fn,
) -> c_int {
    let arg = FreeArg::new(arg, arg_free);
    // SAFETY: a live loop or NULL, as documented.
    unsafe {
        own::on_loop(event_loop, |lp| {
            lp.set_log(log, arg);
            Ok(0)
        })
    }
}

/// Makes the loop usable in a child process after fork: it gets a poller of its own, watching the same
/// descriptors, and is not running. What was scheduled stays scheduled.
///
/// Signal handlers stay the loop's: a signal that arrives in the child before this call, or before the loop is
/// closed there, is told afterwards. On any one thread of the child, outside of callbacks. A loop that was not
/// forked is left alone (0). Errors: -EINVAL, EVL_ECLOSED, EVL_ERUNNING (it runs), EVL_EWRONGTHREAD (another
/// thread of the parent was inside of the loop when it was forked: it can only be closed), and system errors of
/// the poller.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_loop_after_fork(event_loop: *mut evl_loop) -> c_int {
    // SAFETY: a live loop or NULL, as documented.
    guard(|| unsafe { fork::after_fork(own::borrow(event_loop)?).map(|()| 0) })
}
