//! The exception handler of a loop.

use std::ffi::{c_char, c_int, c_void};

use super::datagram::evl_datagram;
use super::event_loop::evl_loop;
use super::future::evl_future;
use super::handle::{evl_free_fn, evl_handle};
use super::transport::evl_transport;
use super::{options, own};
use crate::engine::callback::{FreeArg, guarded};
use crate::engine::event_loop::EventLoop;
use crate::engine::exception::{self, Handler, Report};
use crate::error::{Error, Result};

/// What an exception handler is told: asyncio's context dictionary. Valid during the call.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct evl_exception {
    /// sizeof(evl_exception) as the maker of this struct knows it.
    pub size: u32,
    /// The code of the failure, negative.
    pub code: c_int,
    /// What happened: the message of evl_raise, or evl's own. Never NULL when evl reports.
    pub message: *const c_char,
    /// The object given to evl_raise_object, or NULL. It stays evl's; it is released after the handler returns.
    pub object: *mut c_void,
    /// The handle whose callback failed; NULL for a callback that was scheduled without asking for a handle,
    /// and when none failed. Borrowed.
    pub handle: *mut evl_handle,
    /// Return addresses of the stack that scheduled the callback (debug mode), or NULL.
    pub traceback: *const *mut c_void,
    /// How many there are.
    pub traceback_length: usize,
    /// The future whose error nobody has asked for, or NULL. Borrowed.
    pub future: *mut evl_future,
    /// The transport that failed, or whose protocol did, or NULL. Borrowed.
    pub transport: *mut evl_transport,
    /// The datagram endpoint that failed, or whose protocol did, or NULL. Borrowed.
    pub datagram: *mut evl_datagram,
}

/// Takes failures of callbacks. One that itself fails (evl_raise) falls back to the default handler.
pub type evl_exception_handler =
    Option<unsafe extern "C-unwind" fn(event_loop: *mut evl_loop, exception: *const evl_exception, arg: *mut c_void)>;

type HandlerFn =
    unsafe extern "C-unwind" fn(event_loop: *mut evl_loop, exception: *const evl_exception, arg: *mut c_void);

/// Calls an exception handler of the host.
///
/// # Safety `function` is a [`HandlerFn`] that the host gave together with `arg`.
unsafe fn deliver(function: *const (), event_loop: *const EventLoop, report: &Report, arg: *mut c_void) {
    let traceback: Vec<*mut c_void> = report.traceback.iter().map(|&address| address as *mut c_void).collect();
    let exception = evl_exception {
        size: size_of::<evl_exception>() as u32,
        code: report.code,
        message: report.message_pointer(),
        object: report.object,
        handle: report.handle.cast_mut(),
        traceback: if traceback.is_empty() { std::ptr::null() } else { traceback.as_ptr() },
        traceback_length: traceback.len(),
        future: report.future.cast_mut().cast(),
        transport: report.transport.cast_mut().cast(),
        datagram: report.datagram.cast_mut().cast(),
    };
    // SAFETY: by this function's contract; the struct is valid during the call.
    unsafe {
        let function = std::mem::transmute::<*const (), HandlerFn>(function);
        guarded(|| function(event_loop.cast_mut(), &raw const exception, arg));
    }
}

/// Reads a failure that the host describes.
///
/// # Safety `exception` is NULL or begins with its size.
unsafe fn report(exception: *const evl_exception) -> Result<Report> {
    // SAFETY: by this function's contract; what it points to is valid during the call.
    unsafe {
        own::required(exception.cast_mut())?;
        let given: evl_exception = options::read(exception)?;
        if given.code >= 0 {
            return Err(Error::INVALID);
        }
        let traceback = if given.traceback.is_null() {
            Vec::new()
        } else {
            std::slice::from_raw_parts(given.traceback, given.traceback_length).iter().map(|&a| a as usize).collect()
        };
        Ok(Report {
            code: given.code,
            message: own::string(given.message),
            object: given.object,
            handle: given.handle,
            future: given.future.cast_const().cast(),
            transport: given.transport.cast_const().cast(),
            datagram: given.datagram.cast_const().cast(),
            traceback,
        })
    }
}

/// Sets the function that is told of failing callbacks: loop.set_exception_handler. NULL restores the default,
/// which logs.
///
/// arg_free runs when the handler is replaced or the loop closed, or when this function fails. On the loop's
/// thread. Errors: -EINVAL, EVL_ECLOSED, EVL_EWRONGTHREAD, EVL_EFORKED.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_loop_set_exception_handler(
    event_loop: *mut evl_loop,
    handler: evl_exception_handler,
    arg: *mut c_void,
    arg_free: evl_free_fn,
) -> c_int {
    let arg = FreeArg::new(arg, arg_free);
    // SAFETY: a live loop or NULL, as documented.
    unsafe {
        own::on_loop(event_loop, |lp| {
            let function = handler.map(|function| function as *const ());
            lp.set_exception_handler(function.map(|function| Handler { deliver, function, arg }));
            Ok(0)
        })
    }
}

/// Reads the exception handler and its arg (either output may be NULL); *handler becomes NULL when the default
/// is in place. loop.get_exception_handler.
///
/// On the loop's thread. Errors: -EINVAL, EVL_ECLOSED, EVL_EWRONGTHREAD, EVL_EFORKED.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_loop_get_exception_handler(
    event_loop: *mut evl_loop,
    handler: *mut evl_exception_handler,
    arg: *mut *mut c_void,
) -> c_int {
    // SAFETY: a live loop or NULL; outputs are writable or NULL.
    unsafe {
        own::on_loop(event_loop, |lp| {
            let found = lp.exception_handler();
            let function = found.as_ref().map(|found| std::mem::transmute::<*const (), HandlerFn>(found.function));
            own::put_optional(handler, function);
            own::put_optional(arg, found.map_or(std::ptr::null_mut(), |found| found.arg.pointer()));
            Ok(0)
        })
    }
}

/// The default exception handler: logs the failure, the handle, and where it was made.
/// loop.default_exception_handler.
///
/// exception begins with its size. On the loop's thread. Errors: -EINVAL (NULL), EVL_EOPTIONS, EVL_ECLOSED,
/// EVL_EWRONGTHREAD, EVL_EFORKED.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_loop_default_exception_handler(
    event_loop: *mut evl_loop,
    exception: *const evl_exception,
) -> c_int {
    // SAFETY: a live loop or NULL; exception begins with its size.
    unsafe {
        own::on_loop(event_loop, |lp| {
            exception::default_handler(lp, &report(exception)?);
            Ok(0)
        })
    }
}

/// Reports a failure as if a callback had: calls the exception handler, or the default one.
/// loop.call_exception_handler.
///
/// exception begins with its size; its code is negative; message NULL means "Unhandled exception in event
/// loop". Thread and errors as evl_loop_default_exception_handler; EVL_EEXIT when the handler called
/// evl_raise_exit.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_loop_call_exception_handler(
    event_loop: *mut evl_loop,
    exception: *const evl_exception,
) -> c_int {
    // SAFETY: a live loop or NULL; exception begins with its size.
    unsafe { own::on_loop(event_loop, |lp| exception::call_handler(lp, &report(exception)?).map(|()| 0)) }
}
