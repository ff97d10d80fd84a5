//! Callbacks of a future that is done (`Future.add_done_callback`): called by the loop, each in its context.

use std::ffi::c_void;
use std::ptr;

use super::future::Future;
use super::outcome::free_box;
use crate::engine::callback::{self, CallFn, FreeArg, guarded};
use crate::engine::context::{Captured, Word};
use crate::engine::event_loop::Owned;
use crate::engine::runnable::Runnable;
use crate::error::Result;

/// What a future calls when it is done.
pub type DoneFn = unsafe extern "C-unwind" fn(future: *mut Future, arg: *mut c_void);

/// A callback to call when it is done.
pub(super) struct Done {
    function: DoneFn,
    arg: *mut c_void,
    free: Option<CallFn>,
    context: Word,
}

/// A callback that is not the first: a piece of memory of its own while it is in the ready queue.
struct Later {
    future: *const Future,
    done: Done,
}

impl Future {
    /// `Future.add_done_callback`.
    #[inline]
    pub(crate) fn add_done_callback(
        &self,
        lp: &Owned,
        function: DoneFn,
        arg: FreeArg,
        context: Captured,
    ) -> Result<()> {
        if self.is_done() {
            lp.reserve(1)?;
        }
        let (arg, free) = arg.into_raw();
        let done = Done { function, arg, free, context: context.into_word() };
        // SAFETY: the owner's; no borrow is held over another.
        let first = unsafe { &mut *self.first.get() };
        if !self.is_done() {
            if first.is_none() {
                *first = Some(done);
            } else {
                self.change_extra(|extra| extra.more.push(done));
            }
            return Ok(());
        }
        if first.is_none() {
            *first = Some(done);
            return self.schedule_first(lp);
        }
        self.schedule_later(lp, done)
    }

    /// `Future.remove_done_callback`: how many were removed.
    pub(crate) fn remove_done_callback(&self, function: DoneFn, arg: *mut c_void) -> usize {
        if self.is_done() {
            return 0;
        }
        let mut kept = Vec::new();
        let mut removed = Vec::new();
        // SAFETY: the owner's; no borrow is held over another.
        let first = unsafe { (*self.first.get()).take() };
        let more = self.extra(|extra| std::mem::take(&mut extra.more)).unwrap_or_default();
        for done in first.into_iter().chain(more) {
            let wanted = ptr::fn_addr_eq(done.function, function) && done.arg == arg;
            if wanted { removed.push(done) } else { kept.push(done) }
        }
        let mut kept = kept.into_iter();
        // SAFETY: as above.
        unsafe { *self.first.get() = kept.next() };
        if kept.len() > 0 {
            self.change_extra(|extra| extra.more = kept.collect());
        }
        let count = removed.len();
        // The host's code comes last.
        drop(removed);
        count
    }

    /// The loop is closed: nobody will be called any more.
    pub(super) fn forget_callbacks(&self) {
        // SAFETY: this is the thread that closes the loop, and nobody else touches a future that is not done.
        let first = unsafe { (*self.first.get()).take() };
        let rest = self.extra(|extra| (extra.timer.take(), std::mem::take(&mut extra.more)));
        drop((first, rest));
    }

    /// Puts the first callback into the ready queue, where it has a reference. There is room.
    #[inline]
    pub(super) fn schedule_first(&self, lp: &Owned) -> Result<()> {
        self.retain();
        // SAFETY: the owner's; no borrow is held over another.
        let context = match unsafe { &mut *self.first.get() } {
            Some(done) => std::mem::replace(&mut done.context, Word::NONE),
            None => Word::NONE,
        };
        if !lp.event_loop().debug() {
            // SAFETY: a future begins with its class, and that with how it is run; the reference was taken above.
            return unsafe { lp.call_runnable(ptr::from_ref(self).cast_mut().cast(), context) };
        }
        lp.call_internal(time_first, ptr::from_ref(self).cast_mut().cast(), Some(free_first), context)
    }

    #[cold]
    pub(super) fn schedule_more(&self, lp: &Owned) -> Result<()> {
        let taken = self.extra(|extra| (extra.timer.take(), std::mem::take(&mut extra.more)));
        let Some((timer, more)) = taken else { return Ok(()) };
        for done in more {
            self.schedule_later(lp, done)?;
        }
        if let Some(timer) = timer {
            timer.stop();
        }
        Ok(())
    }

    #[cold]
    fn schedule_later(&self, lp: &Owned, mut done: Done) -> Result<()> {
        self.retain();
        let context = std::mem::replace(&mut done.context, Word::NONE);
        let later = Box::into_raw(Box::new(Later { future: self, done }));
        lp.call_internal(call_later, later.cast(), Some(free_box::<Later>), context)
    }
}

impl Drop for Done {
    fn drop(&mut self) {
        callback::release(self.arg, self.free);
        self.context.release();
    }
}

impl Drop for Later {
    fn drop(&mut self) {
        // SAFETY: the entry of the ready queue had a reference.
        unsafe { Future::release_ptr(self.future) };
    }
}

/// Calls the first callback of the future `arg`.
unsafe extern "C-unwind" fn call_first(arg: *mut c_void) {
    let future = arg.cast::<Future>();
    // SAFETY: the entry has a reference; the callback stays in its place until it was called. No borrow is held during the call.
    unsafe {
        if let Some((function, arg)) = (*(*future).first.get()).as_ref().map(|done| (done.function, done.arg)) {
            guarded(|| function(future, arg));
        }
    }
}

/// [`call_first`] in debug mode.
unsafe extern "C-unwind" fn time_first(future: *mut c_void) {
    // SAFETY: as there.
    unsafe { timed(future.cast(), || call_first(future)) };
}

/// Calls a callback of a future; if it is slow, that is told.
///
/// # Safety
/// The caller has a reference of the future.
unsafe fn timed(future: *mut Future, call: impl FnOnce()) {
    // SAFETY: a future keeps its loop's memory.
    let owned = unsafe { &*(*future).event_loop() }.enter().ok();
    let started = owned.as_ref().and_then(Owned::stopwatch);
    call();
    if let Some(lp) = owned {
        // SAFETY: by this function's contract.
        lp.report_slow(started, || unsafe { (*future).repr() });
    }
}

/// What the ready queue does with a future: calls its first callback.
pub(super) const FIRST: Runnable = Runnable {
    run: |future| {
        let future = future.cast::<Future>().cast_mut();
        // SAFETY: as in `call_first` and `free_first`, which this is in one.
        unsafe {
            call_first(future.cast());
            free_first(future.cast());
        }
    },
    // SAFETY: the entry's reference.
    abandon: |future| unsafe { free_first(future.cast_mut().cast()) },
    note: |_, _| false,
};

/// Follows [`call_first`], or comes in its place when the loop is closed.
unsafe extern "C-unwind" fn free_first(arg: *mut c_void) {
    let future = arg.cast_const().cast::<Future>();
    // SAFETY: the entry's reference is given up; the callback is taken out before the host's code runs.
    unsafe {
        let done = (*(*future).first.get()).take();
        drop(done);
        Future::release_ptr(future);
    }
}

/// Calls a callback that is not the first.
unsafe extern "C-unwind" fn call_later(arg: *mut c_void) {
    // SAFETY: the entry owns it until it is freed.
    let (future, function, arg) = unsafe {
        let later = &*arg.cast::<Later>();
        (later.future.cast_mut(), later.done.function, later.done.arg)
    };
    // SAFETY: the host gave both together; the entry has a reference of the future.
    unsafe { timed(future, || guarded(|| function(future, arg))) };
}
