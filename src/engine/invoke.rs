//! Calling callbacks: each in its context, and what follows from how it went.

use std::ffi::c_void;
use std::ptr;

use super::callback::{self, guarded};
use super::context::{self, Frame, Word};
use super::entry::{Entry, Slot};
use super::event_loop::Owned;
use super::exception::{self, Aside, Report};
use super::handle::{CANCELLED, COUNTED, DONE, Handle, IN_RING, ONE_SHOT, PAUSED, PERIODIC, QUEUED, RUNNING, STARTED};
use super::thread::{self, Thread};
use super::{clock, debug, runnable};
use crate::error::{Error, Result};

impl Owned<'_> {
    /// Runs what is ready now.
    #[inline(never)]
    pub(super) fn run_ready(&self) -> Result<usize> {
        let mut left = self.with(|state| state.ready.slots());
        if left == 0 {
            return Ok(0);
        }
        let thread = thread::current();
        let mut ran = 0;
        let mut result = Ok(());
        // Callbacks that were scheduled without a context run in this one, which stays empty unless they set a variable.
        // Everything else, such as the exception handler, runs in the context round the run function.
        let mut word = Word::NONE;
        let outside = thread.slot.get();
        thread.in_callback.set(true);
        thread.slot.set(&raw mut word);
        while left > 0 {
            // SAFETY: so many slots were there, and nobody else takes them out while the loop runs.
            let slot = self.with(|state| unsafe { state.ready.take() });
            left -= 1;
            if let Some((function, arg)) = slot.callback() {
                ran += 1;
                // SAFETY: the host gave both to be called together, once.
                guarded(|| unsafe { function(arg) });
                if thread.attention.get() == 0 {
                    continue;
                }
                result = self.attend_to(thread, function, arg, outside, &raw mut word);
            } else {
                left -= usize::from(slot.is_long());
                let (done, called) = self.run_other(thread, slot, outside, &raw mut word);
                result = done;
                ran += usize::from(called);
            }
            thread.slot.set(&raw mut word);
            if result.is_err() {
                break;
            }
        }
        thread.slot.set(outside);
        thread.in_callback.set(false);
        self.with(|state| state.counters.callbacks += ran as u64);
        result.map(|()| ran)
    }

    /// Calls a function of the host from inside of a callback of ours, in the context kept at `at`. What it raises is the caller's to
    /// deal with; an exit or a fork are dealt with when the callback of ours returns. EVL_EENTERED: the context is in use.
    ///
    /// # Safety
    /// `at` stays where it is, and is touched only through the thread's slot meanwhile.
    #[inline]
    pub(crate) unsafe fn call_host<R>(
        &self,
        at: *mut Word,
        host: impl FnOnce() -> R,
    ) -> Result<(R, Option<Box<exception::Raised>>)> {
        let thread = thread::current();
        // SAFETY: by this function's contract.
        let answer = if unsafe { (*at).is_none() } {
            let outside = thread.slot.replace(at);
            let answer = guarded(host);
            if thread.attention.get() != 0 {
                // SAFETY: as above.
                unsafe { context::leave(thread, at) };
            }
            thread.slot.set(outside);
            answer
        } else {
            // SAFETY: as above.
            let frame = unsafe { Frame::enter(thread, at) }?;
            let answer = guarded(host);
            frame.leave();
            answer
        };
        let attention = thread.attention.get();
        if attention == 0 {
            return Ok((answer, None));
        }
        // The context is the caller's to keep.
        thread.attention.set(attention & !(thread::RAISED | thread::CONTEXT));
        // SAFETY: only this thread touches it, and no reference to it is held.
        Ok((answer, unsafe { (*thread.raised.get()).take() }))
    }

    /// [`Owned::call_host`] where a callback of the host may be on the stack, which goes on after this one: what that one has raised
    /// is kept for it, and a context that is current already is not entered again.
    ///
    /// # Safety
    /// As there.
    pub(crate) unsafe fn call_host_within<R>(
        &self,
        at: *mut Word,
        host: impl FnOnce() -> R,
    ) -> Result<(R, Option<Box<exception::Raised>>)> {
        let thread = thread::current();
        let aside = Aside::begin();
        // SAFETY: by this function's contract.
        let result = if thread.slot.get() == unsafe { context::slot_of(at) } {
            let answer = guarded(host);
            let attention = thread.attention.get();
            thread.attention.set(attention & !thread::RAISED);
            // SAFETY: only this thread touches it, and no reference to it is held.
            Ok((answer, unsafe { (*thread.raised.get()).take() }))
        } else {
            // SAFETY: by this function's contract.
            unsafe { self.call_host(at, host) }
        };
        let exit = (thread.attention.get() & thread::EXIT != 0).then(|| thread.exit_code.get());
        aside.end();
        if let Some(code) = exit {
            thread.exit_code.set(code);
            thread.attention.set(thread.attention.get() | thread::EXIT);
        }
        result
    }

    /// A callback without anything else raised something, or changed the context.
    #[cold]
    #[inline(never)]
    fn attend_to(
        &self,
        thread: &Thread,
        function: callback::CallFn,
        arg: *mut c_void,
        outside: *mut Word,
        word: *mut Word,
    ) -> Result<()> {
        context::unwind(thread, word);
        thread.slot.set(outside);
        let entry = Entry { function: Some(function), arg, free: None, context: Word::NONE };
        self.finish_entry(thread, &entry, word)
    }

    /// Runs an entry that has a handle, a context, or something to release, and tells whether its callback was called. `outside` is the
    /// context slot round the run function, `word` what callbacks without a context run in.
    #[inline(never)]
    fn run_other(&self, thread: &Thread, first: Slot, outside: *mut Word, word: *mut Word) -> (Result<()>, bool) {
        // SAFETY: the slot was taken just now.
        let entry = self.with(|state| unsafe { state.ready.complete(first) });
        match entry.function {
            Some(function) if entry.context.is_none() => {
                // SAFETY: the host gave both to be called together, once.
                guarded(|| unsafe { function(entry.arg) });
                if thread.attention.get() != 0 {
                    context::unwind(thread, word);
                }
                thread.slot.set(outside);
                (self.finish_entry(thread, &entry, word), true)
            }
            Some(function) => {
                thread.slot.set(outside);
                (self.run_in_context(thread, function, entry), true)
            }
            None if entry.arg.is_null() => (Ok(()), false),
            None => {
                thread.slot.set(outside);
                self.with(|state| state.ready.look_ahead());
                self.run_queued(thread, entry.arg.cast_const().cast())
            }
        }
    }

    /// What follows from how a callback without a handle and without a context of its own went.
    fn finish_entry(&self, thread: &Thread, entry: &Entry, word: *mut Word) -> Result<()> {
        let attention = thread.attention.get();
        let mut told = Ok(());
        if attention & thread::CONTEXT != 0 {
            thread.attention.set(attention & !thread::CONTEXT);
            // SAFETY: it is the caller's, and nothing but this thread's slot points to it.
            unsafe { std::mem::replace(&mut *word, Word::NONE) }.release();
        }
        if attention & !thread::CONTEXT != 0 {
            told = exception::attend(self, ptr::null());
        }
        callback::release(entry.arg, entry.free);
        told
    }

    /// Runs a callback that has a context, but no handle.
    fn run_in_context(&self, thread: &Thread, function: callback::CallFn, entry: Entry) -> Result<()> {
        let mut word = entry.context;
        // SAFETY: the word stays here until the frame is left.
        let entered = unsafe { Frame::enter(thread, &raw mut word) }.map(|frame| {
            // SAFETY: the host gave both to be called together, once.
            guarded(|| unsafe { function(entry.arg) });
            frame.leave();
        });
        let mut told = Ok(());
        if thread.attention.get() != 0 {
            told = exception::attend(self, ptr::null());
        }
        if let Err(error) = entered {
            let report = Report::new(error, "The context of a callback is in use", ptr::null());
            told = exception::call_handler(self, &report);
            // SAFETY: it was not run, and the entry owns its arg.
            unsafe { runnable::abandon(&entry) };
        }
        callback::release(entry.arg, entry.free);
        word.release();
        told
    }

    /// Runs a handle that was taken from the ready queue, and tells whether its callback was called.
    #[inline]
    fn run_queued(&self, thread: &Thread, handle: *const Handle) -> (Result<()>, bool) {
        // SAFETY: it was kept by being in the queue, and only this thread could free it.
        let cell = unsafe { &*handle };
        // What is not marked was withdrawn; it may have been cancelled or paused since the poll.
        let call = cell.has(QUEUED) && !cell.has(CANCELLED | PAUSED | DONE);
        let mut result = Ok(());
        if call {
            cell.change(QUEUED | IN_RING, RUNNING);
            result = self.call_handle(thread, cell);
        } else {
            cell.clear(QUEUED | IN_RING);
        }
        // SAFETY: the entry of a handle that another thread made is a reference; others were held.
        unsafe {
            if cell.has(COUNTED) {
                Handle::release_ptr(handle);
            } else {
                Handle::settle(handle);
            }
        }
        (result, call)
    }

    /// Calls the callback of a handle that is marked as running in its context, and does what follows from how it went.
    /// It is not marked as running afterwards; its caller settles whether it goes.
    #[inline(always)]
    fn call_handle(&self, thread: &Thread, handle: &Handle) -> Result<()> {
        let Some(function) = handle.function.get() else { return Ok(()) };
        let at = handle.context.as_ptr();
        let mut told = Ok(());
        if handle.context.get().is_none() && !self.with(|state| state.elaborate) {
            let outside = thread.slot.replace(at);
            // SAFETY: the host gave both to be called together.
            guarded(|| unsafe { function(handle.arg.get()) });
            if thread.attention.get() != 0 {
                // SAFETY: the word stays in the cell, which is kept by running.
                unsafe { context::leave(thread, at) };
                thread.slot.set(outside);
                told = exception::attend(self, handle);
            }
            thread.slot.set(outside);
        } else {
            told = self.call_elaborately(thread, handle, function);
        }
        if !handle.context.get().is_none() {
            handle.note_context();
        }
        if handle.has(CANCELLED | PERIODIC) {
            told = told.and(self.go_on(handle));
        } else if handle.has(ONE_SHOT) {
            if !handle.owes_arg() {
                handle.change(RUNNING, DONE);
                return told;
            }
            handle.set(DONE);
            handle.release_arg();
        }
        handle.clear(RUNNING);
        told
    }

    /// Calls a callback that has a context, or in debug mode.
    fn call_elaborately(&self, thread: &Thread, handle: &Handle, function: callback::CallFn) -> Result<()> {
        let started = self.stopwatch();
        // SAFETY: the word stays in the cell, which is kept by running.
        let entered = unsafe { Frame::enter(thread, handle.context.as_ptr()) }.map(|frame| {
            // SAFETY: the host gave both to be called together.
            guarded(|| unsafe { function(handle.arg.get()) });
            frame.leave();
        });
        let mut told = Ok(());
        if thread.attention.get() != 0 {
            told = exception::attend(self, handle);
        }
        if let Err(error) = entered {
            told = exception::call_handler(self, &Report::new(error, "The context of a callback is in use", handle));
        }
        self.report_slow(started, || handle.repr());
        told
    }

    /// What follows for a handle that was cancelled by its callback, or that has an interval.
    #[cold]
    fn go_on(&self, handle: &Handle) -> Result<()> {
        if handle.has(CANCELLED) {
            handle.release_arg();
            return Ok(());
        }
        if handle.has(STARTED) { Ok(()) } else { self.next_tick(handle) }
    }

    /// When a callback of the host's begins, in debug mode: for [`Owned::report_slow`].
    #[inline]
    pub(crate) fn stopwatch(&self) -> Option<i64> {
        self.event_loop().debug().then(clock::monotonic)
    }

    /// A callback has returned: the log is told when it was slow. Of callbacks inside of each other, the innermost is told of, which has
    /// the best name.
    #[inline]
    pub(crate) fn report_slow(&self, started: Option<i64>, what: impl FnOnce() -> String) {
        if let Some(started) = started {
            self.consider_slow(started, what);
        }
    }

    #[cold]
    fn consider_slow(&self, started: i64, what: impl FnOnce() -> String) {
        let now = clock::monotonic();
        let took = now - started;
        // After a fork the loop is not to be touched.
        if took < self.event_loop().slow_callback() || !self.event_loop().is_owned_here() {
            return;
        }
        let told_at = self.with(|state| std::mem::replace(&mut state.slow_told_at, now));
        if told_at < started {
            let (seconds, rest) = (took / 1_000_000_000, took / 1_000_000 % 1000);
            self.log(debug::WARNING, &format!("Executing {} took {seconds}.{rest:03} seconds", what()));
        }
    }

    /// `Handle._run`: now, whatever the queue says.
    pub(crate) fn run_handle(&self, handle: &Handle) -> Result<()> {
        if handle.has(CANCELLED) {
            return Err(Error::CANCELLED);
        }
        if handle.has(RUNNING) {
            return Err(Error::ENTERED);
        }
        if handle.has(DONE) {
            return Err(Error::DONE);
        }
        handle.retain();
        handle.set(RUNNING);
        self.with(|state| state.calls += 1);
        let aside = Aside::begin();
        let result = self.call_handle(thread::current(), handle);
        aside.end();
        self.with(|state| state.calls -= 1);
        if handle.has(DONE) {
            self.withdraw(handle);
        }
        // SAFETY: the reference taken above.
        unsafe { Handle::release_ptr(handle) };
        result
    }
}
