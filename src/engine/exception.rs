//! What happens when a callback fails: raising, the exception handler, and the default one.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::fmt::Write as _;
use std::ptr;

use super::callback::FreeArg;
use super::event_loop::{EventLoop, Owned};
use super::handle::Handle;
use super::{context, debug, thread};
use crate::error::{self, Error, Result};

/// What a callback has done that concerns those round it, too.
const KEPT: u32 = thread::FORKED | thread::BROKEN | thread::CONTEXT;

/// What a report without a message says.
const UNHANDLED: &CStr = c"Unhandled exception in event loop";

/// A failure that a callback has raised.
pub(crate) struct Raised {
    pub(crate) code: c_int,
    pub(crate) message: Option<CString>,
    pub(crate) object: FreeArg,
}

/// A failure as handlers are told of it.
pub struct Report {
    /// Negative.
    pub code: c_int,
    /// What happened.
    pub message: Option<CString>,
    /// The host's exception object, borrowed.
    pub object: *mut c_void,
    /// Whose callback failed, or NULL.
    pub handle: *const Handle,
    /// The future whose error it is, or NULL.
    pub future: *const (),
    /// Whose protocol failed, or what was lost, or NULL.
    pub transport: *const (),
    /// The datagram endpoint whose protocol failed, or NULL.
    pub datagram: *const (),
    /// Where it was scheduled (debug mode).
    pub traceback: Vec<usize>,
}

/// Hands a report to a handler of the host, in the form of the C surface.
pub type Deliver = unsafe fn(function: *const (), event_loop: *const EventLoop, report: &Report, arg: *mut c_void);

// SAFETY: a function and an arg that the host lets travel with the loop; only the loop's owner uses them.
unsafe impl Send for Handler {}
// SAFETY: as above.
unsafe impl Sync for Handler {}

/// The exception handler of a loop.
pub struct Handler {
    /// Knows the C type of `function`.
    pub deliver: Deliver,
    /// The host's function.
    pub function: *const (),
    /// What it is called with.
    pub arg: FreeArg,
}

/// `evl_raise`.
pub(crate) fn raise(code: c_int, message: Option<CString>, object: FreeArg) -> Result<c_int> {
    if code >= 0 {
        return Err(Error::INVALID);
    }
    let thread = thread::current();
    if !thread.in_callback.get() {
        return Err(Error::NOT_IN_CALLBACK);
    }
    let attention = thread.attention.get();
    if attention & thread::RAISED == 0 {
        let raised = Box::new(Raised { code, message, object });
        // SAFETY: only this thread touches it, and no reference to it is held.
        unsafe { **thread.raised.get() = Some(raised) };
        thread.attention.set(attention | thread::RAISED);
    }
    Ok(0)
}

/// `evl_raise_exit`.
pub(crate) fn raise_exit(code: c_int) -> Result<()> {
    let thread = thread::current();
    if !thread.in_callback.get() {
        return Err(Error::NOT_IN_CALLBACK);
    }
    let attention = thread.attention.get();
    if attention & thread::EXIT == 0 {
        thread.exit_code.set(code);
        thread.attention.set(attention | thread::EXIT);
    }
    Ok(())
}

/// What a callback left behind, set aside while another one runs inside of it.
pub(crate) struct Aside {
    attention: u32,
    raised: Option<Box<Raised>>,
    exit_code: c_int,
    in_callback: bool,
}

impl Aside {
    /// Starts with nothing raised, inside of a callback.
    pub(crate) fn begin() -> Aside {
        let thread = thread::current();
        Aside {
            attention: thread.attention.replace(0),
            // SAFETY: only this thread touches it, and no reference to it is held.
            raised: unsafe { (*thread.raised.get()).take() },
            exit_code: thread.exit_code.get(),
            in_callback: thread.in_callback.replace(true),
        }
    }

    /// Puts back what was there, after what came meanwhile was dealt with. Having forked, or set a variable, is not undone.
    pub(crate) fn end(self) {
        let thread = thread::current();
        let kept = thread.attention.get() & KEPT;
        thread.attention.set(self.attention | kept);
        // SAFETY: as above.
        unsafe { **thread.raised.get() = self.raised };
        thread.exit_code.set(self.exit_code);
        thread.in_callback.set(self.in_callback);
    }
}

/// Deals with what the callback that has just returned left behind: a failure goes to the handler, an exit and a fork end the run.
#[cold]
pub(crate) fn attend(lp: &Owned, handle: *const Handle) -> Result<()> {
    let thread = thread::current();
    let attention = thread.attention.replace(0);
    // SAFETY: only this thread touches it, and no reference to it is held.
    let raised = unsafe { (*thread.raised.get()).take() };
    if attention & thread::FORKED != 0 {
        return Err(Error::FORKED);
    }
    if attention & thread::BROKEN != 0 {
        return Err(Error::PANIC);
    }
    if attention & thread::EXIT != 0 {
        lp.set_exit_code(thread.exit_code.get());
        return Err(Error::EXIT);
    }
    let Some(raised) = raised else { return Ok(()) };
    // SAFETY: the caller's handle is alive.
    let traceback = unsafe { handle.as_ref() }.map_or(Vec::new(), Handle::traceback);
    let message = raised.message.or_else(|| Some(c"Exception in callback".to_owned()));
    call_handler(
        lp,
        &Report {
            code: raised.code,
            message,
            object: raised.object.pointer(),
            handle,
            future: ptr::null(),
            transport: ptr::null(),
            datagram: ptr::null(),
            traceback,
        },
    )
}

/// `loop.call_exception_handler`.
pub(crate) fn call_handler(lp: &Owned, report: &Report) -> Result<()> {
    let Some(handler) = lp.exception_handler() else {
        default_handler(lp, report);
        return Ok(());
    };
    let aside = Aside::begin();
    let slot = thread::current().slot.get();
    // SAFETY: the host gave function and arg together, and `deliver` with the function's type.
    unsafe { (handler.deliver)(handler.function, lp.pointer(), report, handler.arg.pointer()) };
    drop(handler);
    context::unwind(thread::current(), slot);
    let thread = thread::current();
    let attention = thread.attention.get();
    thread.attention.set(attention & KEPT);
    // SAFETY: only this thread touches it, and no reference to it is held.
    let failure = unsafe { (*thread.raised.get()).take() };
    let exit_code = thread.exit_code.get();
    aside.end();
    if attention & thread::FORKED != 0 {
        return Err(Error::FORKED);
    }
    if attention & thread::BROKEN != 0 {
        return Err(Error::PANIC);
    }
    if attention & thread::EXIT != 0 {
        lp.set_exit_code(exit_code);
        return Err(Error::EXIT);
    }
    if let Some(failure) = failure {
        let first = report.message.as_deref().unwrap_or(UNHANDLED).to_string_lossy();
        let what = failure.message.as_deref().unwrap_or(c"no message").to_string_lossy();
        let name = error::name(report.code).to_string_lossy();
        let message = format!("Unhandled error in exception handler: {what}\nwhile it handled: {first} ({name})");
        let code = failure.code;
        let (object, handle, traceback) = (failure.object.pointer(), report.handle, report.traceback.clone());
        default_handler(
            lp,
            &Report {
                code,
                message: CString::new(message).ok(),
                object,
                handle,
                future: report.future,
                transport: report.transport,
                datagram: report.datagram,
                traceback,
            },
        );
    }
    Ok(())
}

/// `loop.default_exception_handler`.
pub(crate) fn default_handler(lp: &Owned, report: &Report) {
    let mut text = report.message.as_deref().unwrap_or(UNHANDLED).to_string_lossy().into_owned();
    let name = error::name(report.code).to_string_lossy();
    let _ = write!(text, "\ncode: {} ({name})", report.code);
    // SAFETY: a report's handle is alive during the report.
    if let Some(handle) = unsafe { report.handle.as_ref() } {
        let _ = write!(text, "\nhandle: {}", handle.repr());
    }
    if !report.traceback.is_empty() {
        let _ = write!(text, "\nscheduled at (most recent call first):\n{}", debug::symbolise(&report.traceback));
    }
    lp.log(debug::ERROR, &text);
}

/// [`call_handler`] from inside of a callback of ours: an exit that the handler asks for ends the run when that callback returns.
pub(crate) fn tell(lp: &Owned, report: &Report) {
    if call_handler(lp, report) == Err(Error::EXIT) {
        let thread = thread::current();
        thread.exit_code.set(lp.event_loop().exit_code());
        thread.attention.set(thread.attention.get() | thread::EXIT);
    }
}

impl Report {
    /// A failure that evl itself found.
    pub(crate) fn new(error: Error, message: &str, handle: *const Handle) -> Report {
        // SAFETY: the caller's handle is alive.
        let traceback = unsafe { handle.as_ref() }.map_or(Vec::new(), Handle::traceback);
        Report {
            code: error.code(),
            message: CString::new(message).ok(),
            object: std::ptr::null_mut(),
            handle,
            future: ptr::null(),
            transport: ptr::null(),
            datagram: ptr::null(),
            traceback,
        }
    }

    /// A function of the host that has failed, and what it has said, which takes the place of a full stop.
    pub(crate) fn failed(code: c_int, what: &str, why: Option<&CStr>, object: *mut c_void) -> Report {
        let message = match why {
            Some(why) => format!("{}: {}", what.trim_end_matches('.'), why.to_string_lossy()),
            None => what.to_owned(),
        };
        Report { object, ..Report::new(Error::from_code(code), &message, ptr::null()) }
    }

    /// [`Report::failed`] with what was raised.
    pub(crate) fn of_raised(code: c_int, what: &str, raised: Option<&Raised>) -> Report {
        let why = raised.and_then(|raised| raised.message.as_deref());
        Report::failed(code, what, why, raised.map_or(ptr::null_mut(), |raised| raised.object.pointer()))
    }

    /// The message as C callers read it, never NULL.
    pub(crate) fn message_pointer(&self) -> *const c_char {
        self.message.as_deref().unwrap_or(UNHANDLED).as_ptr()
    }
}
