//! A loop's place in a host program: waiting by other means, hooks round a wait, what is registered.

use std::ffi::{c_int, c_void};

use super::event_loop::evl_loop;
use super::handle::{evl_callback, evl_free_fn, evl_handle};
use super::own;
use crate::engine::callback::FreeArg;
use crate::engine::debug;
use crate::error::Error;

/// What evl_loop_walk shows.
#[repr(C)]
#[derive(Clone, Copy)]
pub enum evl_walk_kind {
    /// A callback in the ready queue.
    EVL_WALK_READY = 0,
    /// A started timer.
    EVL_WALK_TIMER = 1,
    /// A reader; number is its descriptor.
    EVL_WALK_READER = 2,
    /// A writer; number is its descriptor.
    EVL_WALK_WRITER = 3,
    /// A signal handler; number is its signal.
    EVL_WALK_SIGNAL = 4,
}

/// Sees what evl_loop_walk finds: kind is one of evl_walk_kind, handle is borrowed and NULL for a callback that
/// was scheduled without asking for a handle. Return 0 to go on, anything else to stop the walk.
pub type evl_walk_fn =
    Option<unsafe extern "C-unwind" fn(handle: *mut evl_handle, kind: c_int, number: c_int, arg: *mut c_void) -> c_int>;

/// Prepares for a host that waits on evl_loop_fd by its own means: call it right before the host blocks.
///
/// Returns 1 when work is ready, so that the host must not block but call evl_loop_run_once(loop, 0); else 0,
/// and *deadline_ns (may be NULL) is the time of the next timer (by evl_loop_time; with very many timers it may
/// be earlier), or EVL_FOREVER. On the loop's thread, outside of its callbacks. Errors: EVL_ERUNNING, -EINVAL,
/// EVL_ECLOSED, EVL_EWRONGTHREAD, EVL_EFORKED, EVL_EPANIC.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_loop_prepare(event_loop: *mut evl_loop, deadline_ns: *mut i64) -> c_int {
    // SAFETY: a live loop or NULL; deadline_ns is writable or NULL.
    unsafe {
        own::on_loop(event_loop, |lp| {
            let (ready, deadline) = lp.prepare()?;
            own::put_optional(deadline_ns, deadline);
            Ok(c_int::from(ready))
        })
    }
}

/// The deadline of the next timer, or EVL_FOREVER: for programs that move a manual clock, also in wait hooks.
/// Exact; looks through all timers.
///
/// On the loop's thread. Errors: -EINVAL (NULL), EVL_ECLOSED, EVL_EWRONGTHREAD, EVL_EFORKED.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_loop_next_deadline(event_loop: *mut evl_loop, deadline_ns: *mut i64) -> c_int {
    // SAFETY: a live loop or NULL; deadline_ns is writable or NULL.
    unsafe { own::on_loop(event_loop, |lp| own::put(deadline_ns, lp.next_deadline())) }
}

/// Returns a descriptor that is readable when the loop has events: descriptors, signals, posts of other
/// threads; with EVL_LOOP_FD_DEADLINES also due timers. The loop owns it; only wait for it to be readable.
///
/// It changes when evl_loop_after_fork is called. On the loop's thread. Errors: -EINVAL, EVL_ECLOSED,
/// EVL_EWRONGTHREAD, EVL_EFORKED, -ENOSYS (this platform's poller has none).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_loop_fd(event_loop: *mut evl_loop) -> c_int {
    // SAFETY: a live loop or NULL, as documented.
    unsafe { own::on_loop(event_loop, |lp| lp.fd()) }
}

/// Sets functions that are called right before and right after the loop waits in the operating system, where a
/// language releases its lock. They are not called round a poll that does not wait.
///
/// before is called once for each wait. It may schedule, stop the loop, or advance a manual clock: then the
/// loop looks at its deadlines again before it waits. They are no callbacks: evl_raise answers
/// EVL_ENOTINCALLBACK. Either may be NULL. arg_free runs when the hooks are replaced or the loop is closed, or
/// when this function fails. On the loop's thread. Errors: -EINVAL, EVL_ECLOSED, EVL_EWRONGTHREAD, EVL_EFORKED.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_loop_set_wait_hooks(
    event_loop: *mut evl_loop,
    before: evl_callback,
    after: evl_callback,
    arg: *mut c_void,
    arg_free: evl_free_fn,
) -> c_int {
    let arg = FreeArg::new(arg, arg_free);
    // SAFETY: a live loop or NULL, as documented.
    unsafe {
        own::on_loop(event_loop, |lp| {
            lp.set_wait_hooks(before, after, arg);
            Ok(0)
        })
    }
}

/// Shows what is registered now: ready callbacks, timers in the order of their deadlines, readers and writers,
/// signal handlers.
///
/// visit may cancel what it is shown. Returns 0, or what visit returned to stop the walk. On the loop's thread.
/// Errors: -EINVAL (NULL loop or visit), EVL_ECLOSED, EVL_EWRONGTHREAD, EVL_EFORKED.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_loop_walk(
    event_loop: *mut evl_loop,
    visit: evl_walk_fn,
    arg: *mut c_void,
) -> c_int {
    // SAFETY: a live loop or NULL, as documented.
    unsafe { own::on_loop(event_loop, |lp| debug::walk(lp, visit.ok_or(Error::INVALID)?, arg)) }
}
