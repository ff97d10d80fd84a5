//! Futures made of time and of other futures (`asyncio.sleep`, `gather`, `wait`, `wait_for`, `shield`).

use std::ffi::c_int;

use super::event_loop::evl_loop;
use super::future::evl_future;
use super::own;
use crate::error::Error;
use crate::task::combine;
use crate::task::future::Future;
use crate::task::gather::{self, Until};

/// When evl_wait ends.
#[repr(C)]
#[derive(Clone, Copy)]
pub enum evl_wait_until {
    /// When all are done: asyncio.ALL_COMPLETED.
    EVL_ALL_COMPLETED = 0,
    /// When one is done: asyncio.FIRST_COMPLETED.
    EVL_FIRST_COMPLETED = 1,
    /// When one has failed (being cancelled is no failure), or all are done: asyncio.FIRST_EXCEPTION.
    EVL_FIRST_ERROR = 2,
}

/// A future that is done after delay_ns nanoseconds: asyncio.sleep. With a delay of zero or less it is done
/// already: a task that awaits it lets others run. EVL_FOREVER: never, until it is cancelled.
///
/// out may be NULL; else *out is your reference. On the loop's thread. Errors: -EINVAL (NULL loop), EVL_ECLOSED,
/// EVL_EWRONGTHREAD, EVL_EFORKED, EVL_EPANIC, -ENOMEM.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_sleep(
    event_loop: *mut evl_loop,
    delay_ns: i64,
    out: *mut *mut evl_future,
) -> c_int {
    // SAFETY: a live loop or NULL; out is writable or NULL.
    unsafe {
        own::on_loop(event_loop, |lp| {
            own::give_future(out, combine::sleep(lp, delay_ns)?);
            Ok(0)
        })
    }
}

/// A future that is done when all count futures are: asyncio.gather. With errors_are_results 0 it ends as the
/// first one that fails or is cancelled, while the others go on; otherwise it ends with a result in any case.
/// Their results are read from the futures themselves; they are borrowed, and referred to until the end.
///
/// Cancelling it cancels them, and it is done when they are. No futures: done at once. out may be NULL; else *out
/// is your reference. On the loop's thread. Errors: -EINVAL (NULL loop or future; a future of another loop),
/// EVL_ECLOSED, EVL_EWRONGTHREAD, EVL_EFORKED, -ENOMEM.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_gather(
    event_loop: *mut evl_loop,
    futures: *const *mut evl_future,
    count: usize,
    errors_are_results: c_int,
    out: *mut *mut evl_future,
) -> c_int {
    // SAFETY: a live loop or NULL; futures has count live futures; out is writable or NULL.
    unsafe {
        own::on_loop(event_loop, |lp| {
            let futures: Vec<&Future> = own::borrow_all(futures, count)?;
            own::give_future(out, gather::gather(lp, &futures, errors_are_results != 0)?);
            Ok(0)
        })
    }
}

/// A future that is done when as many of count futures are done as until says (an evl_wait_until), or when
/// timeout_ns has passed: asyncio.wait. Its result is the number of those that are done, in either case; which
/// ones, evl_future_done tells. They are borrowed, and referred to until the end.
///
/// Cancelling it leaves them alone. EVL_FOREVER: no timeout. out may be NULL; else *out is your reference. On the
/// loop's thread. Errors: -EINVAL (NULL loop or future; no futures; a future of another loop; no such until),
/// EVL_ECLOSED, EVL_EWRONGTHREAD, EVL_EFORKED, -ENOMEM.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_wait(
    event_loop: *mut evl_loop,
    futures: *const *mut evl_future,
    count: usize,
    until: c_int,
    timeout_ns: i64,
    out: *mut *mut evl_future,
) -> c_int {
    // SAFETY: a live loop or NULL; futures has count live futures; out is writable or NULL.
    unsafe {
        own::on_loop(event_loop, |lp| {
            let until = match until {
                0 => Until::All,
                1 => Until::First,
                2 => Until::FirstError,
                _ => return Err(Error::INVALID),
            };
            let futures: Vec<&Future> = own::borrow_all(futures, count)?;
            own::give_future(out, gather::wait(lp, &futures, until, timeout_ns)?);
            Ok(0)
        })
    }
}

/// A future that ends as the given one does, or, when that is not done after timeout_ns, cancels it and fails with
/// -ETIMEDOUT once it is done: asyncio.wait_for. Cancelling it cancels the given one. EVL_FOREVER: no limit.
///
/// evl_future_set_timeout does the same without a second future. out may be NULL; else *out is your reference. On
/// the loop's thread. Errors: -EINVAL (NULL), EVL_ECLOSED, EVL_EWRONGTHREAD, EVL_EFORKED, -ENOMEM.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_wait_for(
    future: *mut evl_future,
    timeout_ns: i64,
    out: *mut *mut evl_future,
) -> c_int {
    // SAFETY: a live future or NULL; out is writable or NULL.
    unsafe {
        own::on_future(future, |lp, future| {
            own::give_future(out, combine::wait_for(lp, future, timeout_ns)?);
            Ok(0)
        })
    }
}

/// A future that ends as the given one does, but whose cancelling leaves that one alone: asyncio.shield. When the
/// given one is done, it is that one.
///
/// out may be NULL; else *out is your reference. On the loop's thread. Errors: -EINVAL (NULL), EVL_ECLOSED,
/// EVL_EWRONGTHREAD, EVL_EFORKED, -ENOMEM.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_shield(future: *mut evl_future, out: *mut *mut evl_future) -> c_int {
    // SAFETY: a live future or NULL; out is writable or NULL.
    unsafe {
        own::on_future(future, |lp, future| {
            own::give_future(out, combine::shield(lp, future)?);
            Ok(0)
        })
    }
}
