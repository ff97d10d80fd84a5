//! A limit of time on a future.

use std::ffi::c_void;
use std::ptr;

use super::future::{Future, release_future};
use super::task::Task;
use crate::engine::callback::{Callback, FreeArg};
use crate::engine::context::{Captured, Word};
use crate::engine::event_loop::Owned;
use crate::engine::handle::Handle;
use crate::engine::schedule;
use crate::error::{Error, Result};

/// A reference to the timer that ends a future's time.
pub(super) struct Timeout(*const Handle);

impl Timeout {
    pub(super) fn stop(self) {
        // SAFETY: the reference is ours.
        let _ = schedule::cancel(unsafe { &*self.0 });
    }
}

impl Drop for Timeout {
    fn drop(&mut self) {
        // SAFETY: the reference is ours, and given up.
        unsafe { Handle::release_ptr(self.0) };
    }
}

impl Future {
    /// Sets a time after which it is withdrawn and fails with -ETIMEDOUT; FOREVER: none.
    pub(crate) fn set_timeout(&self, lp: &Owned, timeout: i64) -> Result<()> {
        if self.is_done() {
            return Ok(());
        }
        if timeout == i64::MAX {
            if let Some(timer) = self.extra(|extra| extra.timer.take()).flatten() {
                timer.stop();
            }
            return Ok(());
        }
        self.retain();
        let arg = FreeArg::new(ptr::from_ref(self).cast_mut().cast(), Some(release_future));
        let when = lp.time().saturating_add(timeout);
        let timer = lp.call_at(when, Callback { function: Some(time_out), arg }, Captured::new(Word::NONE), true)?;
        if let Some(old) = self.change_extra(|extra| extra.timer.replace(Timeout(timer))) {
            old.stop();
        }
        Ok(())
    }
}

/// The time that was set for the future `arg` has passed.
unsafe extern "C-unwind" fn time_out(arg: *mut c_void) {
    // SAFETY: the timer has a reference.
    let future = unsafe { &*arg.cast::<Future>() };
    // What is being withdrawn already ends as whoever wanted that was promised; but a task may have gone on.
    if future.is_ending() && Task::from_future(future).is_none() {
        return;
    }
    if let Ok(lp) = future.owner().enter() {
        let _ = future.cancel(&lp, Error::TIMED_OUT, None);
    }
}
