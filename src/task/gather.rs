//! Waiting for several futures (`asyncio.gather`, `asyncio.wait`).

use std::ffi::c_void;

use super::combine::{Alarm, check_loop, entered, follow, of};
use super::future::{DoneFn, Future, FutureRef, Outcome};
use super::operation::{Operation, Work};
use crate::engine::event_loop::Owned;
use crate::error::{Error, Result};

/// When a wait ends.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Until {
    /// All are done.
    All,
    /// One is.
    First,
    /// One has failed, or all are done.
    FirstError,
}

/// Copies references.
fn keep(lp: &Owned, futures: &[&Future]) -> Result<Vec<FutureRef>> {
    futures.iter().map(|future| check_loop(lp, future).map(|()| FutureRef::new(future))).collect()
}

/// Has `function` called for each; all or none.
fn follow_all<W: Work>(lp: &Owned, futures: &[&Future], operation: &Operation<W>, function: DoneFn) -> Result<()> {
    for future in futures {
        if let Err(error) = follow(lp, future, operation, function) {
            leave_all(futures.iter().copied(), operation, function);
            operation.discard(lp);
            return Err(error);
        }
    }
    Ok(())
}

fn leave_all<'a, W: Work>(futures: impl Iterator<Item = &'a Future>, operation: &Operation<W>, function: DoneFn) {
    for future in futures {
        future.remove_done_callback(function, operation.pointer());
    }
}

/// All of some futures.
struct Gather {
    children: Vec<FutureRef>,
    left: usize,
    errors_are_results: bool,
}

impl Work for Gather {
    const NAME: &'static str = "gather";

    /// `_GatheringFuture.cancel`: the children are cancelled, and it is done when they are.
    fn cancel(lp: &Owned, operation: &Operation<Self>) -> bool {
        let children =
            operation.with(|work| work.children.iter().map(|child| FutureRef::new(child)).collect::<Vec<_>>());
        let message = operation.future().ending_message();
        for child in children.unwrap_or_default() {
            let _ = child.cancel(lp, Error::CANCELLED, message.clone());
        }
        false
    }
}

unsafe extern "C-unwind" fn gathered(child: *mut Future, operation: *mut c_void) {
    // SAFETY: the callback has a reference to the operation, and the future is alive while its callbacks are called.
    let (operation, child) = unsafe { (of::<Gather>(operation), &*child) };
    let state = operation.with(|work| {
        work.left -= 1;
        (work.left, work.errors_are_results)
    });
    // An error is a result, or the outcome of them all, or comes when that has failed already.
    child.mark_retrieved();
    let Some((left, errors_are_results)) = state else { return };
    let Some(lp) = entered(operation.future()) else { return };
    // While it is being cancelled, it waits for all.
    if !errors_are_results && child.code() != 0 && !operation.future().is_ending() {
        let _ = operation.end(&lp, Outcome::same_as(child));
    } else if left == 0 {
        let _ = operation.end(&lp, Outcome::nothing());
    }
}

/// `asyncio.gather`.
pub(crate) fn gather(lp: &Owned, futures: &[&Future], errors_are_results: bool) -> Result<FutureRef> {
    let work = Gather { children: keep(lp, futures)?, left: futures.len(), errors_are_results };
    let operation = Operation::begin(lp, work);
    if futures.is_empty() {
        operation.end(lp, Outcome::nothing())?;
    } else {
        follow_all(lp, futures, &operation, gathered)?;
    }
    Ok(operation.into_future())
}

/// Some futures, until some of them are done.
struct Wait {
    futures: Vec<FutureRef>,
    left: usize,
    until: Until,
    alarm: Option<Alarm>,
}

impl Work for Wait {
    const NAME: &'static str = "wait";

    fn cancel(_: &Owned, operation: &Operation<Self>) -> bool {
        leave(operation);
        true
    }
}

/// Wants no more calls.
fn leave(operation: &Operation<Wait>) {
    let futures = operation.with(|work| work.futures.iter().map(|future| FutureRef::new(future)).collect::<Vec<_>>());
    if let Some(futures) = futures {
        leave_all(futures.iter().map(|future| &**future), operation, one_done);
    }
}

/// Ends with the number of those that are done.
fn tell(operation: &Operation<Wait>) {
    let done = operation.with(|work| work.futures.iter().filter(|future| future.is_done()).count());
    let (Some(done), Some(lp)) = (done, entered(operation.future())) else { return };
    leave(operation);
    let _ = operation.end(&lp, Outcome::number(done as i64));
}

unsafe extern "C-unwind" fn one_done(future: *mut Future, operation: *mut c_void) {
    // SAFETY: the callback has a reference to the operation, and the future is alive while its callbacks are called.
    let (operation, future) = unsafe { (of::<Wait>(operation), &*future) };
    let over = operation.with(|work| {
        work.left -= 1;
        work.left == 0
            || match work.until {
                Until::All => false,
                Until::First => true,
                Until::FirstError => future.has_failed(),
            }
    });
    if over == Some(true) {
        tell(operation);
    }
}

unsafe extern "C-unwind" fn out_of_time(operation: *mut c_void) {
    // SAFETY: the timer has a reference.
    tell(unsafe { of::<Wait>(operation) });
}

/// `asyncio.wait`. Ends with the number of those that are done; on timeout, too.
pub(crate) fn wait(lp: &Owned, futures: &[&Future], until: Until, timeout: i64) -> Result<FutureRef> {
    if futures.is_empty() {
        return Err(Error::INVALID.detail(|| "nothing to wait for".into()));
    }
    let left = futures.iter().filter(|future| !future.is_done()).count();
    let enough = left == 0
        || match until {
            Until::All => false,
            Until::First => left < futures.len(),
            Until::FirstError => futures.iter().any(|future| future.has_failed()),
        };
    let operation = Operation::begin(lp, Wait { futures: keep(lp, futures)?, left, until, alarm: None });
    if enough {
        tell(&operation);
        return Ok(operation.into_future());
    }
    let pending: Vec<&Future> = futures.iter().copied().filter(|future| !future.is_done()).collect();
    follow_all(lp, &pending, &operation, one_done)?;
    if timeout != i64::MAX {
        match Alarm::set(lp, lp.time().saturating_add(timeout.max(0)), &operation, out_of_time) {
            Ok(alarm) => operation.with(|work| work.alarm = Some(alarm)),
            Err(error) => {
                leave(&operation);
                operation.discard(lp);
                return Err(error);
            }
        };
    }
    Ok(operation.into_future())
}
