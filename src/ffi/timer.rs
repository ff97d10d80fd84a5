//! Timer handles (`asyncio.events.TimerHandle`).

use std::ffi::{c_int, c_void};

use super::context::evl_context;
use super::event_loop::evl_loop;
use super::guard::{guard, predicate, release};
use super::handle::{evl_callback, evl_free_fn, evl_handle};
use super::own;
use crate::engine::callback::Callback;
use crate::engine::handle::{Handle, Timer};
use crate::engine::schedule;

/// A callback with a deadline, as asyncio.TimerHandle. Every timer is a handle: see evl_timer_as_handle.
/// Opaque; reference counted.
pub type evl_timer = Timer;

/// Makes a timer for the deadline when_ns (nanoseconds of the loop's clock) that is not started yet:
/// asyncio.events.TimerHandle(when, callback, args, loop, context).
///
/// It can be started again after it fired, by evl_timer_reschedule or evl_timer_schedule, until it is
/// cancelled. Ownership, context, thread and errors as evl_handle_new.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_timer_new(
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
        own::register(event_loop, Callback::new(callback, arg, arg_free), context, |lp, cb, context| {
            own::required(out)?;
            own::give(out.cast(), lp.new_timer(when_ns, cb, context)?);
            Ok(0)
        })
    }
}

/// Starts the timer for its deadline.
///
/// A deadline in the past is due at once. On the loop's thread. Errors: EVL_ESCHEDULED (it is started),
/// EVL_ECANCELLED, EVL_EDONE (made by call_later or call_at, and has fired), -EINVAL (NULL), EVL_ECLOSED,
/// EVL_EWRONGTHREAD, EVL_EFORKED, EVL_EPANIC, -ENOMEM.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_timer_schedule(timer: *mut evl_timer) -> c_int {
    // SAFETY: a live timer or NULL, as documented.
    unsafe { own::on_handle(timer.cast(), |lp, timer| lp.schedule_timer(timer).map(|()| 0)) }
}

/// Moves the timer to another deadline and starts it if it is not started. Allocates nothing for a timer that
/// is started, and moving a deadline later, as idle timeouts do, is little more than a store.
///
/// when_ns is a time, not a delay: an idle timeout adds its delay to evl_loop_now. Equal deadlines still fire
/// in the order they were set. It may be called by the timer's own callback, unless the timer is one-shot, that
/// is, made by call_later or call_at: EVL_EDONE then and afterwards; evl_timer_new makes one that can be
/// started again. For a timer made by call_every, the next tick moves and the interval stays. On the loop's
/// thread. Errors: EVL_ECANCELLED, EVL_EDONE, -EINVAL (NULL), EVL_ECLOSED, EVL_EWRONGTHREAD, EVL_EFORKED,
/// EVL_EPANIC, -ENOMEM.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_timer_reschedule(timer: *mut evl_timer, when_ns: i64) -> c_int {
    // SAFETY: a live timer or NULL, as documented.
    unsafe {
        if timer.cast::<Handle>().as_ref().is_some_and(|timer| schedule::reschedule_fast(timer, when_ns)) {
            return 0;
        }
        own::on_handle(timer.cast(), |lp, timer| lp.reschedule_timer(timer, when_ns).map(|()| 0))
    }
}

/// Cancels the timer and tells its loop, which forgets it: asyncio.events.TimerHandle.cancel. Rules and errors
/// as evl_handle_cancel.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_timer_cancel(timer: *mut evl_timer) -> c_int {
    // SAFETY: a live timer or NULL, as documented.
    unsafe {
        if timer.cast::<Handle>().as_ref().is_some_and(schedule::cancel_timer_fast) {
            return 0;
        }
        own::with_handle(timer.cast(), |timer| schedule::cancel(timer).map(|()| 0))
    }
}

/// Whether the timer was cancelled: 1 or 0. NULL gives 0. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_timer_cancelled(timer: *const evl_timer) -> c_int {
    // SAFETY: a live timer or NULL, as documented.
    predicate(unsafe { timer.cast::<Handle>().as_ref() }, Handle::is_cancelled)
}

/// The timer's deadline, in nanoseconds of the loop's clock: asyncio.TimerHandle.when.
///
/// Any thread. Errors: -EINVAL (NULL).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_timer_when(timer: *const evl_timer, when_ns: *mut i64) -> c_int {
    // SAFETY: a live timer or NULL; when_ns is writable or NULL.
    guard(|| unsafe { own::put(when_ns, own::borrow(timer.cast::<Handle>())?.when()) })
}

/// The timer as a handle: the same object, borrowed. NULL for NULL. Any thread.
#[unsafe(no_mangle)]
pub extern "C-unwind" fn evl_timer_as_handle(timer: *mut evl_timer) -> *mut evl_handle {
    timer.cast()
}

/// Takes another reference and returns timer. NULL gives NULL. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_timer_ref(timer: *mut evl_timer) -> *mut evl_timer {
    // SAFETY: a live timer or NULL, as documented.
    if let Some(t) = unsafe { timer.cast::<Handle>().as_ref() } {
        t.retain();
    }
    timer
}

/// Gives a reference back; NULL is ignored. A started timer stays started. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_timer_unref(timer: *mut evl_timer) {
    // SAFETY: the caller owns a reference and gives it up, or passes NULL.
    if !unsafe { Handle::release_fast(timer.cast()) } {
        // SAFETY: as above.
        release(|| unsafe { Handle::release_ptr(timer.cast()) });
    }
}

/// For bindings: whether the timer is started and has not fired: 1 or 0. asyncio.TimerHandle._scheduled. NULL
/// gives 0. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_timer_scheduled(timer: *const evl_timer) -> c_int {
    // SAFETY: a live timer or NULL, as documented.
    predicate(unsafe { timer.cast::<Handle>().as_ref() }, Handle::is_timer_scheduled)
}

/// For bindings: *order becomes -1, 0 or 1 as a's deadline is before, at or after b's.
/// asyncio.TimerHandle.__lt__ and its like.
///
/// Any thread. Errors: -EINVAL (NULL).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_timer_compare(
    a: *const evl_timer,
    b: *const evl_timer,
    order: *mut c_int,
) -> c_int {
    // SAFETY: live timers or NULL; order is writable or NULL.
    guard(|| unsafe {
        let (a, b) = (own::borrow(a.cast::<Handle>())?, own::borrow(b.cast::<Handle>())?);
        own::put(order, a.when().cmp(&b.when()) as c_int)
    })
}

/// For bindings: 1 when both have the same deadline, callback, arg and cancelled state, else 0.
/// asyncio.TimerHandle.__eq__.
///
/// NULL equals nothing. On the loop's thread (or while the loop does not run).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_timer_equal(a: *const evl_timer, b: *const evl_timer) -> c_int {
    // SAFETY: live timers or NULL, as documented.
    let (a, b) = unsafe { (a.cast::<Handle>().as_ref(), b.cast::<Handle>().as_ref()) };
    predicate(a.zip(b), |(a, b)| a.equals(b))
}

/// For bindings: a hash of the deadline, equal for timers that evl_timer_equal finds equal.
/// asyncio.TimerHandle.__hash__.
///
/// Any thread. Errors: -EINVAL (NULL).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_timer_hash(timer: *const evl_timer, hash: *mut u64) -> c_int {
    // SAFETY: a live timer or NULL; hash is writable or NULL.
    guard(|| unsafe { own::put(hash, own::borrow(timer.cast::<Handle>())?.hash()) })
}
