//! Codes, their names, and how a callback reports a failure.

use std::ffi::{c_char, c_int, c_void};

use super::guard::guard;
use super::handle::evl_free_fn;
use super::own;
use crate::engine::callback::FreeArg;
use crate::engine::{exception, thread};
use crate::error::{self, Error};

/// evl's own error codes. A system error is the negated errno; every code here is below -20000.
#[repr(C)]
#[derive(Clone, Copy)]
pub enum evl_error {
    /// The loop is closed.
    EVL_ECLOSED = -20001,
    /// The loop belongs to another thread, which runs it or is inside one of its functions.
    EVL_EWRONGTHREAD = -20002,
    /// The loop is running, or this thread already runs another loop.
    EVL_ERUNNING = -20003,
    /// No loop: none is running on this thread, or the policy has none for it.
    EVL_ENOLOOP = -20004,
    /// The handle came from a call_* function and has run: it is one-shot.
    EVL_EDONE = -20005,
    /// It was cancelled: a handle, a future, a task.
    EVL_ECANCELLED = -20006,
    /// evl_raise and its like were called outside of a callback.
    EVL_ENOTINCALLBACK = -20007,
    /// A callback asked the program to exit (evl_raise_exit); see evl_loop_exit_code.
    EVL_EEXIT = -20008,
    /// A Rust panic was stopped at the surface of the library. The loop it happened in can only be closed.
    EVL_EPANIC = -20009,
    /// A sized struct has a wrong size, or sets a field or flag this version does not know.
    EVL_EOPTIONS = -20010,
    /// The process was forked since the loop was made: call evl_loop_after_fork.
    EVL_EFORKED = -20011,
    /// Somebody else uses it: a signal that another loop handles, a descriptor that an operation or a transport
    /// waits for.
    EVL_EBUSY = -20012,
    /// The policy does not implement this operation.
    EVL_ENOTIMPLEMENTED = -20013,
    /// The context variable has no value here, and no default.
    EVL_ENOVALUE = -20014,
    /// The token was used already, or belongs to another variable or context.
    EVL_ETOKEN = -20015,
    /// The context is entered already.
    EVL_EENTERED = -20016,
    /// The context is not the current one of this thread.
    EVL_ENOTENTERED = -20017,
    /// The loop's clock is not a manual one.
    EVL_ECLOCK = -20018,
    /// The signal cannot be caught.
    EVL_ESIGNAL = -20019,
    /// The handle is scheduled already.
    EVL_ESCHEDULED = -20020,
    /// The future is in no state for this: it has no result yet, or has one already.
    EVL_EINVALIDSTATE = -20021,
    /// The loop was stopped before the future it ran for was done.
    EVL_ESTOPPED = -20022,
    /// It was shut down: an executor, a task group.
    EVL_ESHUTDOWN = -20023,
    /// The stream ended before all that was to be read: asyncio.IncompleteReadError. evl_future_error_bytes has what
    /// was there.
    EVL_EINCOMPLETE = -20024,
    /// What was read up to a separator is longer than the stream's limit: asyncio.LimitOverrunError.
    EVL_EOVERRUN = -20025,
    /// sendfile(2) cannot send this file, or not to there: asyncio.SendfileNotAvailableError.
    EVL_ENOSENDFILE = -20026,
    /// getaddrinfo, getnameinfo: the host has no address of this family.
    EVL_EAI_ADDRFAMILY = -20101,
    /// getaddrinfo, getnameinfo: the name server does not answer now: try again.
    EVL_EAI_AGAIN = -20102,
    /// getaddrinfo, getnameinfo: the flags make no sense.
    EVL_EAI_BADFLAGS = -20103,
    /// getaddrinfo, getnameinfo: the name server failed for good.
    EVL_EAI_FAIL = -20104,
    /// getaddrinfo, getnameinfo: the address family is not supported.
    EVL_EAI_FAMILY = -20105,
    /// getaddrinfo, getnameinfo: there was no memory.
    EVL_EAI_MEMORY = -20106,
    /// getaddrinfo, getnameinfo: the host exists, but has no address.
    EVL_EAI_NODATA = -20107,
    /// getaddrinfo, getnameinfo: the host or the service is not known.
    EVL_EAI_NONAME = -20108,
    /// getaddrinfo, getnameinfo: a name is too long.
    EVL_EAI_OVERFLOW = -20109,
    /// getaddrinfo, getnameinfo: the service is not available for this type of socket.
    EVL_EAI_SERVICE = -20110,
    /// getaddrinfo, getnameinfo: the type of socket is not supported.
    EVL_EAI_SOCKTYPE = -20111,
}

/// Describes a code: "the loop is closed", "permission denied".
///
/// Returns a static string, also for 0 and for codes it does not know. Never NULL. Any thread.
#[unsafe(no_mangle)]
pub extern "C-unwind" fn evl_strerror(code: c_int) -> *const c_char {
    error::describe(code).as_ptr()
}

/// Names a code: "EVL_ECLOSED", "EACCES".
///
/// Returns a static string, "EVL_OK" for 0, "UNKNOWN" for codes it does not know. Never NULL. Any thread.
#[unsafe(no_mangle)]
pub extern "C-unwind" fn evl_errname(code: c_int) -> *const c_char {
    error::name(code).as_ptr()
}

/// Writes more about this thread's last failure in evl, such as "add_reader: descriptor 7: operation not
/// permitted".
///
/// Fills buffer with at most size bytes including the final NUL and returns the whole length without it (0:
/// nothing is known), so that a return >= size means it was cut. buffer may be NULL when size is 0. The code
/// alone is always enough to act on. Success does not clear it. Any thread. Errors: -EINVAL (buffer is NULL,
/// size is not 0).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_error_detail(buffer: *mut c_char, size: usize) -> c_int {
    // SAFETY: the caller passes size writable bytes, or NULL.
    guard(|| thread::with_detail(|text| unsafe { own::fill(buffer, size, text) }))
}

/// Reports a failure from inside a callback, as an exception raised by it: after the callback has returned, the
/// loop calls its exception handler with this code and message.
///
/// The first raise in a callback wins, later ones are ignored (and return 0). code is any negative number: an
/// errno negated, one of evl's (-20001 to -20999 are evl's), or your own. message is copied and may be NULL.
/// Called on the thread that runs the callback. Exception handlers count as callbacks; arg_free functions, wait
/// hooks and the log do not. Errors: EVL_ENOTINCALLBACK (no callback is running on this thread), -EINVAL (code
/// is not negative).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_raise(code: c_int, message: *const c_char) -> c_int {
    guard(|| {
        // SAFETY: message is NULL or a NUL-terminated string, as documented.
        let message = unsafe { own::string(message) };
        exception::raise(code, message, FreeArg::none())
    })
}

/// evl_raise for bindings that carry an exception object of their own. object reaches the exception handler in
/// evl_exception.object.
///
/// object_free (may be NULL) runs exactly once, when evl will not use object again: after the exception handler
/// has returned, or at once when this raise is not the first or fails. Errors: as evl_raise.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_raise_object(
    code: c_int,
    message: *const c_char,
    object: *mut c_void,
    object_free: evl_free_fn,
) -> c_int {
    guard(|| {
        let object = FreeArg::new(object, object_free);
        // SAFETY: message is NULL or a NUL-terminated string, as documented.
        let message = unsafe { own::string(message) };
        exception::raise(code, message, object)
    })
}

/// Asks the program to end, as SystemExit does in asyncio: the run function returns EVL_EEXIT as soon as this
/// callback has returned. What is queued stays queued, and the loop can be run again.
///
/// exit_code is handed out by evl_loop_exit_code. It wins over an evl_raise in the same callback; of two exits
/// the first wins. Called on the thread that runs the callback. Errors: EVL_ENOTINCALLBACK.
#[unsafe(no_mangle)]
pub extern "C-unwind" fn evl_raise_exit(exit_code: c_int) -> c_int {
    guard(|| exception::raise_exit(exit_code).map(|()| 0))
}

impl From<evl_error> for Error {
    fn from(code: evl_error) -> Self {
        Error::from_code(code as c_int)
    }
}
