//! Readers and writers: callbacks on a descriptor's readiness.

use std::ffi::{c_int, c_void};

use super::context::evl_context;
use super::event_loop::evl_loop;
use super::handle::{evl_callback, evl_free_fn, evl_handle};
use super::own;
use crate::engine::callback::Callback;
use crate::engine::watch::Direction;

/// Calls callback whenever fd is readable, at its end, or broken: loop.add_reader. Level-triggered: it is
/// called in every iteration until the descriptor is read empty.
///
/// A reader that fd had before is replaced: its handle is cancelled. Remove it before closing fd. context NULL:
/// the current context is captured, and is the same for every call. out may be NULL; else *out is your
/// reference to a handle, whose cancel removes the reader, too. On the loop's thread. Errors: -EINVAL (NULL
/// loop or callback), -EBADF (negative or closed fd), EVL_EBUSY (an operation or a transport uses fd), -EPERM
/// (a regular file or directory: always ready, cannot be watched), EVL_ECLOSED, EVL_EWRONGTHREAD, EVL_EFORKED,
/// EVL_EPANIC, -ENOMEM, -ENOSPC. On an error, a reader that was there before stays. Where fd's watchers were
/// changed in this iteration already, the kernel is asked at the next poll, and its error goes to the exception
/// handler, and fd's watchers are cancelled.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_loop_add_reader(
    event_loop: *mut evl_loop,
    fd: c_int,
    callback: evl_callback,
    arg: *mut c_void,
    arg_free: evl_free_fn,
    context: *mut evl_context,
    out: *mut *mut evl_handle,
) -> c_int {
    // SAFETY: pointers are live objects or NULL, as documented.
    unsafe {
        own::register(event_loop, Callback::new(callback, arg, arg_free), context, |lp, cb, context| {
            own::hand_out(out, lp.watch(fd, Direction::Read, cb, context, !out.is_null())?);
            Ok(0)
        })
    }
}

/// Calls callback whenever fd is writable or broken: loop.add_writer. Rules and errors as evl_loop_add_reader.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_loop_add_writer(
    event_loop: *mut evl_loop,
    fd: c_int,
    callback: evl_callback,
    arg: *mut c_void,
    arg_free: evl_free_fn,
    context: *mut evl_context,
    out: *mut *mut evl_handle,
) -> c_int {
    // SAFETY: pointers are live objects or NULL, as documented.
    unsafe {
        own::register(event_loop, Callback::new(callback, arg, arg_free), context, |lp, cb, context| {
            own::hand_out(out, lp.watch(fd, Direction::Write, cb, context, !out.is_null())?);
            Ok(0)
        })
    }
}

/// Removes fd's reader and cancels its handle: loop.remove_reader. Returns 1, or 0 when there was none. The
/// descriptor may be closed already.
///
/// On the loop's thread. Errors: -EINVAL (NULL), -EBADF (negative fd), EVL_EBUSY (fd has no reader of yours,
/// and an operation or a transport uses it), EVL_ECLOSED, EVL_EWRONGTHREAD, EVL_EFORKED.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_loop_remove_reader(event_loop: *mut evl_loop, fd: c_int) -> c_int {
    // SAFETY: a live loop or NULL, as documented.
    unsafe { own::on_loop(event_loop, |lp| lp.unwatch(fd, Direction::Read).map(c_int::from)) }
}

/// Removes fd's writer and cancels its handle: loop.remove_writer. Rules and errors as evl_loop_remove_reader.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_loop_remove_writer(event_loop: *mut evl_loop, fd: c_int) -> c_int {
    // SAFETY: a live loop or NULL, as documented.
    unsafe { own::on_loop(event_loop, |lp| lp.unwatch(fd, Direction::Write).map(c_int::from)) }
}

/// Stops calling fd's reader, and keeps it registered. Pausing twice is pausing once. A call that is ready
/// already is withheld, too.
///
/// On the loop's thread. Errors: -ENOENT (fd has no reader), -EINVAL (NULL), -EBADF (negative fd), EVL_EBUSY
/// (as evl_loop_remove_reader), EVL_ECLOSED, EVL_EWRONGTHREAD, EVL_EFORKED.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_loop_pause_reader(event_loop: *mut evl_loop, fd: c_int) -> c_int {
    // SAFETY: a live loop or NULL, as documented.
    unsafe { own::on_loop(event_loop, |lp| lp.pause(fd, Direction::Read, true).map(|()| 0)) }
}

/// Calls fd's reader again after evl_loop_pause_reader; what is readable now counts. Errors as
/// evl_loop_pause_reader.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_loop_resume_reader(event_loop: *mut evl_loop, fd: c_int) -> c_int {
    // SAFETY: a live loop or NULL, as documented.
    unsafe { own::on_loop(event_loop, |lp| lp.pause(fd, Direction::Read, false).map(|()| 0)) }
}

/// Stops calling fd's writer, and keeps it registered. Rules and errors as evl_loop_pause_reader.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_loop_pause_writer(event_loop: *mut evl_loop, fd: c_int) -> c_int {
    // SAFETY: a live loop or NULL, as documented.
    unsafe { own::on_loop(event_loop, |lp| lp.pause(fd, Direction::Write, true).map(|()| 0)) }
}

/// Calls fd's writer again after evl_loop_pause_writer. Errors as evl_loop_pause_reader.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_loop_resume_writer(event_loop: *mut evl_loop, fd: c_int) -> c_int {
    // SAFETY: a live loop or NULL, as documented.
    unsafe { own::on_loop(event_loop, |lp| lp.pause(fd, Direction::Write, false).map(|()| 0)) }
}
