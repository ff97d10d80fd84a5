//! Scheduling callbacks: soon, later, at a time, again and again, from other threads, at shutdown.

use std::ffi::{c_int, c_void};

use super::context::evl_context;
use super::event_loop::evl_loop;
use super::handle::{evl_callback, evl_free_fn, evl_handle};
use super::own;
use super::timer::evl_timer;
use crate::engine::callback::Callback;
use crate::engine::inbox;

/// Schedules callback for the next iteration: loop.call_soon. Callbacks run in the order they were scheduled.
///
/// context NULL: the current context is captured. A context that is entered elsewhere when the callback is due:
/// it is not called, and the exception handler gets EVL_EENTERED. out may be NULL: then no handle is made,
/// which is the fastest way. Otherwise *out is your reference to a one-shot handle. arg_free runs exactly once,
/// after the call, on cancel, on close, or when this function fails. On the loop's thread. Errors: -EINVAL
/// (NULL loop or callback), EVL_ECLOSED, EVL_EWRONGTHREAD, EVL_EFORKED, EVL_EPANIC, -ENOMEM.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_loop_call_soon(
    event_loop: *mut evl_loop,
    callback: evl_callback,
    arg: *mut c_void,
    arg_free: evl_free_fn,
    context: *mut evl_context,
    out: *mut *mut evl_handle,
) -> c_int {
    // SAFETY: pointers are live objects or NULL, as documented.
    unsafe {
        let extras = context.addr() | out.addr() | arg_free.map_or(0, |free| free as *const () as usize);
        if extras == 0 && own::call_soon_fast(event_loop, callback, arg, None) {
            return 0;
        }
        call_soon_handle(event_loop, callback, arg, arg_free, context, out)
    }
}

/// evl_loop_call_soon when it takes more than storing two words. Apart, with the same parameters, so that the simple case
/// needs no stack.
///
/// # Safety Pointers are live objects or NULL; `out` is writable or NULL.
#[inline(never)]
unsafe extern "C-unwind" fn call_soon_handle(
    event_loop: *mut evl_loop,
    callback: evl_callback,
    arg: *mut c_void,
    arg_free: evl_free_fn,
    context: *mut evl_context,
    out: *mut *mut evl_handle,
) -> c_int {
    // SAFETY: by this function's contract.
    unsafe {
        let done = match (context.is_null(), out.is_null()) {
            (true, true) => own::call_soon_fast(event_loop, callback, arg, arg_free),
            (true, false) => own::call_soon_handle_fast(event_loop, callback, arg, arg_free, out),
            (false, _) => false,
        };
        if done {
            return 0;
        }
        call_soon(event_loop, Callback::new(callback, arg, arg_free), context, out)
    }
}

/// evl_loop_call_soon when it is not simple.
///
/// # Safety As [`call_soon_handle`].
#[inline(never)]
unsafe fn call_soon(
    event_loop: *mut evl_loop,
    callback: Callback,
    context: *mut evl_context,
    out: *mut *mut evl_handle,
) -> c_int {
    // SAFETY: by this function's contract.
    unsafe {
        own::register(event_loop, callback, context, |lp, cb, context| {
            own::hand_out(out, lp.call_soon(cb, context, !out.is_null())?);
            Ok(0)
        })
    }
}

/// evl_loop_call_soon from any thread: loop.call_soon_threadsafe. Wakes the loop if it sleeps.
///
/// The calling thread must have a reference of its own during the call (evl_loop_ref, one for each worker).
/// Callbacks of one thread keep their order. The context captured is the calling thread's. The handle, when
/// asked for, may be cancelled on the loop's thread only. arg_free may run on the thread that closes the loop.
/// Any thread. Errors: -EINVAL (NULL loop or callback), EVL_ECLOSED, EVL_EFORKED, EVL_EPANIC,
/// -ENOMEM.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_loop_call_soon_threadsafe(
    event_loop: *mut evl_loop,
    callback: evl_callback,
    arg: *mut c_void,
    arg_free: evl_free_fn,
    context: *mut evl_context,
    out: *mut *mut evl_handle,
) -> c_int {
    // SAFETY: pointers are live objects or NULL, as documented.
    unsafe {
        let extras = context.addr() | out.addr() | arg_free.map_or(0, |free| free as *const () as usize);
        if extras == 0 && own::post_fast(event_loop, callback, arg) {
            return 0;
        }
        post(event_loop, callback, arg, arg_free, context, out)
    }
}

/// evl_loop_call_soon_threadsafe when it takes more than sending two words.
///
/// # Safety As [`call_soon_handle`].
#[inline(never)]
unsafe extern "C-unwind" fn post(
    event_loop: *mut evl_loop,
    callback: evl_callback,
    arg: *mut c_void,
    arg_free: evl_free_fn,
    context: *mut evl_context,
    out: *mut *mut evl_handle,
) -> c_int {
    // SAFETY: by this function's contract.
    unsafe {
        own::register_threadsafe(event_loop, Callback::new(callback, arg, arg_free), context, |l, cb, context| {
            own::hand_out(out, inbox::post(l, cb, context, !out.is_null())?);
            Ok(0)
        })
    }
}

/// Schedules callback delay_ns nanoseconds from the clock's time now: loop.call_later. EVL_MS and EVL_SECONDS
/// convert.
///
/// A delay of zero or less is due at the next iteration, after what was scheduled soon before. Ownership,
/// context, out, thread and errors as evl_loop_call_soon.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_loop_call_later(
    event_loop: *mut evl_loop,
    delay_ns: i64,
    callback: evl_callback,
    arg: *mut c_void,
    arg_free: evl_free_fn,
    context: *mut evl_context,
    out: *mut *mut evl_timer,
) -> c_int {
    // SAFETY: pointers are live objects or NULL, as documented.
    unsafe {
        own::register(event_loop, Callback::new(callback, arg, arg_free), context, |lp, cb, context| {
            let when = lp.time().saturating_add(delay_ns);
            own::hand_out(out.cast(), lp.call_at(when, cb, context, !out.is_null())?);
            Ok(0)
        })
    }
}

/// Schedules callback for the time when_ns of the loop's clock: loop.call_at. A timer never fires early; equal
/// deadlines fire in the order they were made.
///
/// Ownership, context, out, thread and errors as evl_loop_call_soon.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_loop_call_at(
    event_loop: *mut evl_loop,
    when_ns: i64,
    callback: evl_callback,
    arg: *mut c_void,
    arg_free: evl_free_fn,
    context: *mut evl_context,
    out: *mut *mut evl_timer,
) -> c_int {
    // SAFETY: pointers are live objects or NULL, as documented.
    unsafe {
        if context.is_null() && own::call_at_fast(event_loop, when_ns, callback, arg, arg_free, out) {
            return 0;
        }
        call_at(event_loop, when_ns, Callback::new(callback, arg, arg_free), context, out)
    }
}

/// evl_loop_call_at when it is not simple.
///
/// # Safety As [`call_soon_handle`].
#[inline(never)]
unsafe fn call_at(
    event_loop: *mut evl_loop,
    when_ns: i64,
    callback: Callback,
    context: *mut evl_context,
    out: *mut *mut evl_timer,
) -> c_int {
    // SAFETY: by this function's contract.
    unsafe {
        own::register(event_loop, callback, context, |lp, cb, context| {
            own::hand_out(out.cast(), lp.call_at(when_ns, cb, context, !out.is_null())?);
            Ok(0)
        })
    }
}

/// Calls callback every interval_ns nanoseconds, first after one interval, until the timer is cancelled: beyond
/// asyncio.
///
/// The rate is fixed: ticks stand at multiples of the interval from the start, and ticks that were missed
/// become one. The callback may cancel its own timer. Ownership, context, out, thread and errors as
/// evl_loop_call_soon; -EINVAL also when interval_ns is not positive.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_loop_call_every(
    event_loop: *mut evl_loop,
    interval_ns: i64,
    callback: evl_callback,
    arg: *mut c_void,
    arg_free: evl_free_fn,
    context: *mut evl_context,
    out: *mut *mut evl_timer,
) -> c_int {
    // SAFETY: pointers are live objects or NULL, as documented.
    unsafe {
        own::register(event_loop, Callback::new(callback, arg, arg_free), context, |lp, cb, context| {
            own::hand_out(out.cast(), lp.call_every(interval_ns, cb, context, !out.is_null())?);
            Ok(0)
        })
    }
}

/// Registers callback to be called by evl_loop_run_shutdown, last registered first: what shutdown_asyncgens is
/// to asyncio.
///
/// Ownership, context, out, thread and errors as evl_loop_call_soon.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_loop_add_shutdown_hook(
    event_loop: *mut evl_loop,
    callback: evl_callback,
    arg: *mut c_void,
    arg_free: evl_free_fn,
    context: *mut evl_context,
    out: *mut *mut evl_handle,
) -> c_int {
    // SAFETY: pointers are live objects or NULL, as documented.
    unsafe {
        own::register(event_loop, Callback::new(callback, arg, arg_free), context, |lp, cb, context| {
            own::hand_out(out, lp.add_shutdown_hook(cb, context, !out.is_null())?);
            Ok(0)
        })
    }
}
