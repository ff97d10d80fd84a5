//! Futures: what is not there yet (`asyncio.Future`).

use std::ffi::{c_char, c_int, c_void};

use super::context::evl_context;
use super::event_loop::evl_loop;
use super::guard::{guard, predicate, release};
use super::handle::evl_free_fn;
use super::own;
use crate::engine::callback::FreeArg;
use crate::error::Error;
use crate::task::future::{Bytes, Future, FutureRef, Outcome, Shape};
use crate::task::remote;

/// What is not there yet, as asyncio.Future. Opaque; reference counted.
pub type evl_future = Future;

/// What a future calls when it is done. future is borrowed; arg is the pointer it was added with.
pub type evl_future_callback = Option<unsafe extern "C-unwind" fn(future: *mut evl_future, arg: *mut c_void)>;

/// Makes a future that you settle: loop.create_future.
///
/// *out is your reference (out must not be NULL). It keeps the loop's memory, not its life. On the loop's
/// thread. Errors: -EINVAL (NULL), EVL_ECLOSED, EVL_EWRONGTHREAD, EVL_EFORKED, EVL_EPANIC.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_future_new(event_loop: *mut evl_loop, out: *mut *mut evl_future) -> c_int {
    // SAFETY: a live loop or NULL; out is writable or NULL.
    unsafe {
        own::on_loop(event_loop, |lp| {
            own::required(out)?;
            own::give(out, Future::create(lp).cast_mut());
            Ok(0)
        })
    }
}

/// Takes another reference and returns future. NULL gives NULL. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_future_ref(future: *mut evl_future) -> *mut evl_future {
    // SAFETY: a live future or NULL, as documented.
    if let Some(f) = unsafe { future.as_ref() } {
        f.retain();
    }
    future
}

/// Gives a reference back; NULL is ignored. What is under way goes on without you. The last one frees the
/// future with its result; an error that nobody has asked for (evl_future_result, _error) is then told to the
/// exception handler, on the loop's thread. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_future_unref(future: *mut evl_future) {
    // SAFETY: the caller owns a reference and gives it up, or passes NULL.
    release(|| unsafe { Future::release_ptr(future) });
}

/// The loop the future belongs to: Future.get_loop. Borrowed. NULL for NULL. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_future_get_loop(future: *const evl_future) -> *mut evl_loop {
    // SAFETY: a live future or NULL, as documented.
    unsafe { future.as_ref() }.map_or(std::ptr::null_mut(), |f| f.event_loop().cast_mut())
}

/// Whether the future has a result or an error, or was cancelled: 1 or 0. Future.done. NULL gives 0. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_future_done(future: *const evl_future) -> c_int {
    // SAFETY: a live future or NULL, as documented.
    predicate(unsafe { future.as_ref() }, Future::is_done)
}

/// Whether the future was cancelled: 1 or 0. Future.cancelled. NULL gives 0. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_future_cancelled(future: *const evl_future) -> c_int {
    // SAFETY: a live future or NULL, as documented.
    predicate(unsafe { future.as_ref() }, Future::is_cancelled)
}

/// Reads the result: Future.result. Returns 0 and writes it to *value (value may be NULL, to ask only how it
/// ended), or returns the error's code, or EVL_ECANCELLED. The error's message becomes evl_error_detail.
///
/// The result stays the future's: it is valid as long as the future. Any thread. Errors of its own:
/// EVL_EINVALIDSTATE (not done), -EINVAL (NULL future; the result is a number or bytes, which
/// evl_future_result_int and evl_future_result_bytes read).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_future_result(future: *const evl_future, value: *mut *mut c_void) -> c_int {
    // SAFETY: a live future or NULL; value is writable or NULL.
    guard(|| unsafe {
        let future = own::borrow(future)?;
        if value.is_null() {
            return future.check().map(|()| 0);
        }
        own::put(value, future.result(Shape::Pointer)?)
    })
}

/// evl_future_result of an operation that results in a number: a count of bytes, a descriptor, a return code.
///
/// A descriptor (evl_loop_sock_accept) is yours once you have asked for it; one that nobody has asked for is
/// closed with the future. Any thread. Errors as evl_future_result; -EINVAL also when the result is no number, or
/// value is NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_future_result_int(future: *const evl_future, value: *mut i64) -> c_int {
    // SAFETY: a live future or NULL; value is writable or NULL.
    guard(|| unsafe {
        let future = own::borrow(future)?;
        own::required(value)?;
        own::put(value, future.number()?)
    })
}

/// evl_future_result of an operation that results in bytes. They stay the future's. size may be NULL.
///
/// Any thread. Errors as evl_future_result; -EINVAL also when the result is no bytes, or data is NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_future_result_bytes(
    future: *const evl_future,
    data: *mut *const c_void,
    size: *mut usize,
) -> c_int {
    // SAFETY: a live future or NULL; data and size are writable or NULL; the word of this shape is a Bytes.
    guard(|| unsafe {
        let bytes = &*own::borrow(future)?.result(Shape::Bytes)?.cast::<Bytes>();
        own::required(data)?;
        own::put_optional(size, bytes.data.len());
        own::put(data, bytes.data.as_ptr().cast())
    })
}

/// The address that a result came from: the sender's (evl_loop_sock_recvfrom, _recvfrom_into) or the peer's
/// (evl_loop_sock_accept), as a struct sockaddr. It stays the future's; *size becomes 0 when there is none. size
/// may be NULL.
///
/// Any thread. Errors as evl_future_result; -EINVAL also when the result has no address, or address is NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_future_result_address(
    future: *const evl_future,
    address: *mut *const c_void,
    size: *mut u32,
) -> c_int {
    // SAFETY: a live future or NULL; address and size are writable or NULL.
    guard(|| unsafe {
        let found = own::borrow(future)?.address()?;
        own::required(address)?;
        own::put_optional(size, found.len() as u32);
        own::put(address, found.as_ptr().cast())
    })
}

/// Reads the error: Future.exception. Returns 0 and writes the code, or 0 when there is a result instead, to
/// *code; EVL_ECANCELLED when the future was cancelled.
///
/// Any thread. Errors: EVL_EINVALIDSTATE (not done), EVL_ECANCELLED, -EINVAL (NULL).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_future_error(future: *const evl_future, code: *mut c_int) -> c_int {
    // SAFETY: a live future or NULL; code is writable or NULL.
    guard(|| unsafe {
        let future = own::borrow(future)?;
        own::required(code)?;
        own::put(code, future.error()?)
    })
}

/// Writes what the error says, or why the future was cancelled; nothing when there is no message.
///
/// Fills buffer with at most size bytes including the NUL and returns the whole length without it. buffer may
/// be NULL when size is 0. Any thread, once the future is done. Errors: -EINVAL (NULL future; buffer NULL and
/// size not 0).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_future_error_message(
    future: *const evl_future,
    buffer: *mut c_char,
    size: usize,
) -> c_int {
    // SAFETY: a live future or NULL; buffer has size writable bytes.
    guard(|| unsafe {
        let message = own::borrow(future)?.message().unwrap_or_default();
        own::fill(buffer, size, &message.to_string_lossy())
    })
}

/// The object given to evl_future_set_error_object or evl_raise_object: borrowed from the future. NULL when
/// there is none, and for NULL. Any thread, once the future is done.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_future_error_object(future: *const evl_future) -> *mut c_void {
    // SAFETY: a live future or NULL, as documented.
    unsafe { future.as_ref() }.map_or(std::ptr::null_mut(), Future::error_object)
}

/// The bytes that came with the error of a read: what had been read when the stream ended (EVL_EINCOMPLETE,
/// IncompleteReadError.partial). With EVL_EOVERRUN, *data becomes NULL and *size how many bytes can be read before
/// the separator is looked for again (LimitOverrunError.consumed). Of evl_loop_sendfile, evl_loop_sock_sendfile and
/// evl_loop_sock_sendall, whatever their error, and also when they were cancelled, *data becomes NULL and *size how many
/// bytes were sent; of what a transport sends, some may not have reached the peer.
///
/// They stay the future's. size may be NULL. Any thread. Errors: EVL_EINVALIDSTATE (not done), EVL_ECANCELLED,
/// -EINVAL (NULL; no error, or one that comes without).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_future_error_bytes(
    future: *const evl_future,
    data: *mut *const c_void,
    size: *mut usize,
) -> c_int {
    // SAFETY: a live future or NULL; data and size are writable or NULL.
    guard(|| unsafe {
        let partial = own::borrow(future)?.partial()?;
        own::required(data)?;
        own::put_optional(size, partial.size);
        own::put(data, partial.data.as_ref().map_or(std::ptr::null(), |data| data.as_ptr().cast()))
    })
}

/// Settles the future with a result: Future.set_result. Its callbacks are called in the next iteration.
///
/// value_free (may be NULL) releases value with the future, or when this function fails. On the loop's thread.
/// Errors: EVL_EINVALIDSTATE (done already), -EINVAL (NULL; an operation's or a task's future, which settles
/// itself), EVL_ECLOSED, EVL_EWRONGTHREAD, EVL_EFORKED, -ENOMEM.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_future_set_result(
    future: *mut evl_future,
    value: *mut c_void,
    value_free: evl_free_fn,
) -> c_int {
    let value = FreeArg::new(value, value_free);
    // SAFETY: a live future or NULL, as documented.
    unsafe { own::on_future(future, |lp, future| future.settle(lp, Outcome::pointer(value)).map(|()| 0)) }
}

/// Settles the future with an error: Future.set_exception. code is any negative number; message is copied and
/// may be NULL. EVL_ECANCELLED is no error here: evl_future_cancel cancels.
///
/// On the loop's thread. Errors as evl_future_set_result; -EINVAL also when code is not negative.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_future_set_error(
    future: *mut evl_future,
    code: c_int,
    message: *const c_char,
) -> c_int {
    // SAFETY: as documented.
    unsafe { evl_future_set_error_object(future, code, message, std::ptr::null_mut(), None) }
}

/// evl_future_set_error for bindings that carry an exception of their own: object goes with the code.
///
/// object_free (may be NULL) releases object with the future, or when this function fails. Thread and errors as
/// evl_future_set_error.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_future_set_error_object(
    future: *mut evl_future,
    code: c_int,
    message: *const c_char,
    object: *mut c_void,
    object_free: evl_free_fn,
) -> c_int {
    let object = FreeArg::new(object, object_free);
    // SAFETY: a live future or NULL; message is NULL or a NUL-terminated string.
    unsafe {
        own::on_future(future, |lp, future| {
            future.settle(lp, Outcome::checked_failure(code, own::string(message), object)?).map(|()| 0)
        })
    }
}

/// Cancels the future: Future.cancel. Returns 1 when it is or will be cancelled, 0 when it was done already.
///
/// What is under way is withdrawn as soon as it can be. The future is done (with EVL_ECANCELLED) when nothing
/// can touch what its operation was given any more: at once, or later. A task is told by its next step, and may
/// go on. message (may be NULL) is copied. On the loop's thread. Errors: -EINVAL (NULL), EVL_ECLOSED,
/// EVL_EWRONGTHREAD, EVL_EFORKED, -ENOMEM.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_future_cancel(future: *mut evl_future, message: *const c_char) -> c_int {
    // SAFETY: a live future or NULL; message is NULL or a NUL-terminated string.
    unsafe {
        own::on_future(future, |lp, future| {
            let kept = FutureRef::new(future);
            Ok(c_int::from(kept.cancel(lp, Error::CANCELLED, own::string(message))?))
        })
    }
}

/// evl_future_set_result from any thread. The result arrives with the loop's next iteration; a future that is
/// done by then is left alone, and value released.
///
/// The calling thread has a reference to the future during the call. value_free may run on the loop's thread, or
/// here when this function fails. Any thread. Errors: -EINVAL (NULL; an operation's or a task's future),
/// EVL_ECLOSED, EVL_EFORKED, -ENOMEM.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_future_set_result_threadsafe(
    future: *mut evl_future,
    value: *mut c_void,
    value_free: evl_free_fn,
) -> c_int {
    let value = FreeArg::new(value, value_free);
    // SAFETY: a live future or NULL, as documented.
    guard(|| unsafe { remote::settle(own::borrow(future)?, Outcome::pointer(value)).map(|()| 0) })
}

/// evl_future_set_error_object from any thread, as evl_future_set_result_threadsafe. object may be NULL.
///
/// Any thread. Errors as there; -EINVAL also when code is not negative.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_future_set_error_threadsafe(
    future: *mut evl_future,
    code: c_int,
    message: *const c_char,
    object: *mut c_void,
    object_free: evl_free_fn,
) -> c_int {
    let object = FreeArg::new(object, object_free);
    // SAFETY: a live future or NULL; message is NULL or a NUL-terminated string.
    guard(|| unsafe {
        let future = own::borrow(future)?;
        remote::settle(future, Outcome::checked_failure(code, own::string(message), object)?).map(|()| 0)
    })
}

/// evl_future_cancel from any thread: it arrives with the loop's next iteration. Returns 0.
///
/// Any thread. Errors: -EINVAL (NULL), EVL_ECLOSED, EVL_EFORKED, -ENOMEM.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_future_cancel_threadsafe(future: *mut evl_future, message: *const c_char) -> c_int {
    // SAFETY: a live future or NULL; message is NULL or a NUL-terminated string.
    guard(|| unsafe { remote::cancel(own::borrow(future)?, own::string(message)).map(|()| 0) })
}

/// Blocks the calling thread until the future is done, but not longer than timeout_ns: for threads that run no
/// loop. 0 does not wait; EVL_FOREVER waits without limit. Returns 0 when it is done, however it ended.
///
/// The calling thread has a reference to the future during the call. Any thread. Errors: -ETIMEDOUT, EVL_ECLOSED
/// (the loop was closed before it was done), EVL_EFORKED, EVL_EPANIC, EVL_ERUNNING (this thread runs a loop),
/// -EINVAL (NULL; negative timeout).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_future_wait(future: *mut evl_future, timeout_ns: i64) -> c_int {
    // SAFETY: a live future or NULL, as documented.
    guard(|| unsafe { own::borrow(future)?.wait(timeout_ns).map(|()| 0) })
}

/// Sets a limit of time: when timeout_ns nanoseconds have passed, the future is withdrawn as by
/// evl_future_cancel, and ends with -ETIMEDOUT. A later call replaces it; EVL_FOREVER takes it away.
///
/// A future that is done is left alone. One that nobody refers to is kept until then, and its -ETIMEDOUT told as an
/// error nobody asked for. On the loop's thread. Errors: -EINVAL (NULL), EVL_ECLOSED,
/// EVL_EWRONGTHREAD, EVL_EFORKED, -ENOMEM.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_future_set_timeout(future: *mut evl_future, timeout_ns: i64) -> c_int {
    // SAFETY: a live future or NULL, as documented.
    unsafe { own::on_future(future, |lp, future| future.set_timeout(lp, timeout_ns).map(|()| 0)) }
}

/// Has callback called when the future is done: Future.add_done_callback. It is called by the loop, in the
/// iteration after the future is done (the next one, if it is done already), once, in the order they were added.
///
/// context NULL: the current context is captured. arg_free runs exactly once: after the call, on removal, with
/// the future's last reference (when the loop is closed, an operation's or a task's future releases it then), or
/// when this function fails. On the loop's thread. Errors: -EINVAL
/// (NULL future or callback), EVL_ECLOSED, EVL_EWRONGTHREAD, EVL_EFORKED, -ENOMEM.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_future_add_done_callback(
    future: *mut evl_future,
    callback: evl_future_callback,
    arg: *mut c_void,
    arg_free: evl_free_fn,
    context: *mut evl_context,
) -> c_int {
    let arg = FreeArg::new(arg, arg_free);
    // SAFETY: a live future or NULL, a live context or NULL.
    unsafe {
        own::on_future(future, |lp, future| {
            let callback = callback.ok_or(Error::INVALID)?;
            let context = lp.capture(own::clone_arc(context));
            future.add_done_callback(lp, callback, arg, context).map(|()| 0)
        })
    }
}

/// Removes every callback that was added with this function and arg: Future.remove_done_callback. Returns how
/// many there were; none are found once the future is done.
///
/// On the loop's thread. Errors: -EINVAL (NULL), EVL_ECLOSED, EVL_EWRONGTHREAD, EVL_EFORKED.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_future_remove_done_callback(
    future: *mut evl_future,
    callback: evl_future_callback,
    arg: *mut c_void,
) -> c_int {
    // SAFETY: a live future or NULL, as documented.
    unsafe {
        own::on_future(future, |_, future| {
            let kept = FutureRef::new(future);
            Ok(kept.remove_done_callback(callback.ok_or(Error::INVALID)?, arg) as c_int)
        })
    }
}

/// Writes what the future is, such as "<Future pending at 0x55d0c0>". Future.__repr__.
///
/// Buffer rules and errors as evl_future_error_message. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_future_repr(future: *const evl_future, buffer: *mut c_char, size: usize) -> c_int {
    // SAFETY: a live future or NULL; buffer has size writable bytes.
    guard(|| unsafe { own::fill(buffer, size, &own::borrow(future)?.repr()) })
}

/// Keeps a pointer of yours with the future; the one before is released first. data_free (may be NULL) runs when
/// it is replaced, with the future's last reference, or when this function fails.
///
/// On the loop's thread. Errors: -EINVAL (NULL), EVL_ECLOSED, EVL_EWRONGTHREAD, EVL_EFORKED.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_future_set_data(
    future: *mut evl_future,
    data: *mut c_void,
    data_free: evl_free_fn,
) -> c_int {
    let data = FreeArg::new(data, data_free);
    // SAFETY: a live future or NULL, as documented.
    unsafe {
        own::on_future(future, |_, future| {
            future.set_data(data);
            Ok(0)
        })
    }
}

/// The pointer kept by evl_future_set_data, or NULL. NULL gives NULL. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_future_get_data(future: *const evl_future) -> *mut c_void {
    // SAFETY: a live future or NULL, as documented.
    unsafe { future.as_ref() }.map_or(std::ptr::null_mut(), Future::data)
}
