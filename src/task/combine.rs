//! Futures made of time and of other futures (`asyncio.sleep`, `wait_for`, `shield`).

use std::ffi::c_void;

use super::future::{Future, FutureRef, Outcome};
use super::operation::{Operation, OperationRef, Work};
use crate::engine::callback::{Callback, FreeArg};
use crate::engine::context::{Captured, Word};
use crate::engine::event_loop::Owned;
use crate::engine::handle::Handle;
use crate::engine::schedule;
use crate::error::{Error, Result};

/// A timer of an operation; dropping it cancels it.
pub(crate) struct Alarm(*const Handle);

impl Alarm {
    /// Has `ring` called with the operation at the time `when`.
    pub(crate) fn set<W: Work>(
        lp: &Owned,
        when: i64,
        operation: &Operation<W>,
        ring: unsafe extern "C-unwind" fn(*mut c_void),
    ) -> Result<Alarm> {
        let arg = FreeArg::new(OperationRef::new(operation).into_pointer(), Some(release::<W>));
        let callback = Callback { function: Some(ring), arg };
        Ok(Alarm(lp.call_at(when, callback, Captured::new(Word::NONE), true)?))
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        // SAFETY: the reference is ours, and given up after the cancel.
        unsafe {
            let _ = schedule::cancel(&*self.0);
            Handle::release_ptr(self.0);
        }
    }
}

/// Gives up the reference that a callback of an operation has.
///
/// # Safety
/// `operation` is such a reference, for operations with this work.
pub(crate) unsafe extern "C-unwind" fn release<W: Work>(operation: *mut c_void) {
    // SAFETY: by this function's contract.
    drop(unsafe { OperationRef::<W>::from_pointer(operation) });
}

/// The operation that a callback of ours has a reference of.
///
/// # Safety
/// `operation` is such a reference, for operations with this work, and the result is not used after the callback.
pub(crate) unsafe fn of<'a, W: Work>(operation: *mut c_void) -> &'a Operation<W> {
    // SAFETY: by this function's contract.
    unsafe { &*operation.cast_const().cast() }
}

/// Has `function` called with the operation when `future` is done.
pub(crate) fn follow<W: Work>(
    lp: &Owned,
    future: &Future,
    operation: &Operation<W>,
    function: super::future::DoneFn,
) -> Result<()> {
    let arg = FreeArg::new(OperationRef::new(operation).into_pointer(), Some(release::<W>));
    future.add_done_callback(lp, function, arg, Captured::new(Word::NONE))
}

/// The loop of an operation, entered: callbacks of ours run on its thread.
pub(crate) fn entered(future: &Future) -> Option<Owned<'_>> {
    // SAFETY: a future keeps its loop's memory.
    unsafe { &*future.event_loop() }.enter().ok()
}

/// Refuses a future of another loop.
pub(crate) fn check_loop(lp: &Owned, future: &Future) -> Result<()> {
    if std::ptr::eq(future.event_loop(), lp.pointer()) {
        return Ok(());
    }
    Err(Error::INVALID.detail(|| "the future belongs to another loop".into()))
}

/// A future that is done after some time.
struct Sleep {
    _alarm: Option<Alarm>,
}

impl Work for Sleep {
    const NAME: &'static str = "sleep";
    fn cancel(_: &Owned, _: &Operation<Self>) -> bool {
        true
    }
}

unsafe extern "C-unwind" fn wake(operation: *mut c_void) {
    // SAFETY: the timer has a reference.
    let operation = unsafe { of::<Sleep>(operation) };
    if let Some(lp) = entered(operation.future()) {
        let _ = operation.end(&lp, Outcome::nothing());
    }
}

/// `asyncio.sleep`. A delay that is not positive is over at once.
pub(crate) fn sleep(lp: &Owned, delay: i64) -> Result<FutureRef> {
    let operation = Operation::begin(lp, Sleep { _alarm: None });
    if delay <= 0 {
        operation.end(lp, Outcome::nothing())?;
    } else if delay != i64::MAX {
        match Alarm::set(lp, lp.time().saturating_add(delay), &operation, wake) {
            Ok(alarm) => operation.with(|work| work._alarm = Some(alarm)),
            Err(error) => {
                operation.discard(lp);
                return Err(error);
            }
        };
    }
    Ok(operation.into_future())
}

/// Waits for another future, for so long.
struct WaitFor {
    future: FutureRef,
    alarm: Option<Alarm>,
    out_of_time: bool,
}

impl Work for WaitFor {
    const NAME: &'static str = "wait_for";
    fn cancel(lp: &Owned, operation: &Operation<Self>) -> bool {
        // It is done when what it waits for is.
        cancel_waited(lp, operation, operation.future().ending_message())
    }
}

/// Cancels what is waited for. True: it is done, and nothing will tell of it any more.
fn cancel_waited(lp: &Owned, operation: &Operation<WaitFor>, message: Option<std::ffi::CString>) -> bool {
    let Some(future) = operation.with(|work| FutureRef::new(&work.future)) else { return true };
    let _ = future.cancel(lp, Error::CANCELLED, message);
    false
}

unsafe extern "C-unwind" fn time_is_out(operation: *mut c_void) {
    // SAFETY: the timer has a reference.
    let operation = unsafe { of::<WaitFor>(operation) };
    if let Some(lp) = entered(operation.future()) {
        operation.with(|work| work.out_of_time = true);
        cancel_waited(&lp, operation, None);
    }
}

unsafe extern "C-unwind" fn waited(future: *mut Future, operation: *mut c_void) {
    // SAFETY: the callback has a reference to the operation, and the future is alive while its callbacks are called.
    let (operation, future) = unsafe { (of::<WaitFor>(operation), &*future) };
    if let Some(lp) = entered(operation.future()) {
        let out_of_time = operation.with(|work| work.out_of_time).unwrap_or(false);
        let outcome = if out_of_time && future.is_cancelled() {
            Outcome::error(Error::TIMED_OUT)
        } else {
            Outcome::same_as(future)
        };
        let _ = operation.end(&lp, outcome);
    }
}

/// `asyncio.wait_for`.
pub(crate) fn wait_for(lp: &Owned, future: &Future, timeout: i64) -> Result<FutureRef> {
    check_loop(lp, future)?;
    let work = WaitFor { future: FutureRef::new(future), alarm: None, out_of_time: false };
    let operation = Operation::begin(lp, work);
    if future.is_done() {
        operation.end(lp, Outcome::same_as(future))?;
        return Ok(operation.into_future());
    }
    let begun = follow(lp, future, &operation, waited).and_then(|()| match timeout {
        i64::MAX => Ok(None),
        // One that has no time is cancelled in its place among what is scheduled.
        _ => Alarm::set(lp, lp.time().saturating_add(timeout.max(0)), &operation, time_is_out).map(Some),
    });
    match begun {
        Ok(alarm) => operation.with(|work| work.alarm = alarm),
        Err(error) => {
            future.remove_done_callback(waited, operation.pointer());
            operation.discard(lp);
            return Err(error);
        }
    };
    Ok(operation.into_future())
}

/// Follows another future, and keeps cancels from it.
struct Shield {
    inner: FutureRef,
}

impl Work for Shield {
    const NAME: &'static str = "shield";
    fn cancel(_: &Owned, operation: &Operation<Self>) -> bool {
        // It goes on alone: from here on an error of it is told as if it had not been shielded.
        if let Some(inner) = operation.with(|work| FutureRef::new(&work.inner)) {
            inner.remove_done_callback(shielded, operation.pointer());
        }
        true
    }
}

unsafe extern "C-unwind" fn shielded(inner: *mut Future, operation: *mut c_void) {
    // SAFETY: the callback has a reference to the operation, and the future is alive while its callbacks are called.
    let (operation, inner) = unsafe { (of::<Shield>(operation), &*inner) };
    // When the outer one was cancelled, nobody else will ask for the error.
    inner.mark_retrieved();
    if let Some(lp) = entered(operation.future()) {
        let _ = operation.end(&lp, Outcome::same_as(inner));
    }
}

/// `asyncio.shield`.
pub(crate) fn shield(lp: &Owned, inner: &Future) -> Result<FutureRef> {
    check_loop(lp, inner)?;
    if inner.is_done() {
        return Ok(FutureRef::new(inner));
    }
    let operation = Operation::begin(lp, Shield { inner: FutureRef::new(inner) });
    let followed =
        operation.with(|work| FutureRef::new(&work.inner)).map(|inner| follow(lp, &inner, &operation, shielded));
    if let Some(Err(error)) = followed {
        operation.discard(lp);
        return Err(error);
    }
    Ok(operation.into_future())
}
