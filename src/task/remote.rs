//! Settling and cancelling futures from other threads: what they say travels to the loop's thread.

use std::ffi::{CString, c_void};

use super::future::{Future, FutureRef, Outcome};
use crate::engine::callback::FreeArg;
use crate::engine::event_loop::EventLoop;
use crate::engine::inbox;
use crate::error::{Error, Result};

/// What is to be done.
enum What {
    Settle(Outcome),
    Cancel(Option<CString>),
}

/// A future, and what is to be done to it.
struct Message {
    future: FutureRef,
    what: Option<What>,
}

/// `loop.call_soon_threadsafe(future.set_result, …)`. One that is done when it arrives is left alone.
pub(crate) fn settle(future: &Future, outcome: Outcome) -> Result<()> {
    if !future.class().is_plain {
        return Err(Error::INVALID.detail(|| format!("{} is not settled by its user", future.class().name)));
    }
    send(future, What::Settle(outcome))
}

/// `loop.call_soon_threadsafe(future.cancel)`.
pub(crate) fn cancel(future: &Future, message: Option<CString>) -> Result<()> {
    send(future, What::Cancel(message))
}

fn send(future: &Future, what: What) -> Result<()> {
    let message = Box::new(Message { future: FutureRef::new(future), what: Some(what) });
    let arg = FreeArg::new(Box::into_raw(message).cast(), Some(free));
    // SAFETY: a future keeps its loop's memory.
    let event_loop: &EventLoop = unsafe { &*future.event_loop() };
    inbox::send(event_loop, deliver, arg).map_err(|(error, _)| error)
}

unsafe extern "C-unwind" fn free(message: *mut c_void) {
    // SAFETY: made by `send`, and given up once.
    drop(unsafe { Box::from_raw(message.cast::<Message>()) });
}

unsafe extern "C-unwind" fn deliver(message: *mut c_void) {
    // SAFETY: made by `send`; freed after this.
    let message = unsafe { &mut *message.cast::<Message>() };
    // SAFETY: a future keeps its loop's memory.
    let Ok(lp) = (unsafe { &*message.future.event_loop() }).enter() else { return };
    let _ = match message.what.take() {
        Some(What::Settle(outcome)) if !message.future.is_done() => message.future.settle(&lp, outcome),
        Some(What::Cancel(text)) => message.future.cancel(&lp, Error::CANCELLED, text).map(|_| ()),
        _ => Ok(()),
    };
}
