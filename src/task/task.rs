//! Tasks (`asyncio.Task`): a step function that is called again whenever the future it awaits is done.
//!
//! A task is a future whose outcome its steps make. While it is not done, the loop keeps it; therefore neither its entry in the
//! ready queue nor its callback at the future it awaits needs a reference.

use std::cell::{Cell, UnsafeCell};
use std::ffi::{CString, c_int, c_void};
use std::ptr;

use super::done::FIRST;
use super::future::{Class, Future, FutureRef, Outcome, release_future};
use crate::engine::callback::FreeArg;
use crate::engine::context::{Captured, Word};
use crate::engine::event_loop::Owned;
use crate::engine::thread;
use crate::error::{Error, Result};

/// Through so many tasks, each of which awaits the next one, a cancel goes at once.
const DEEPEST: u32 = 32;

/// A step of the host: gets how the awaited future ended, and writes the next one to await.
pub type StepFn =
    unsafe extern "C-unwind" fn(task: *mut Task, status: c_int, arg: *mut c_void, next: *mut *mut Future) -> c_int;

/// A task: `asyncio.Task`. Its future is its first part.
#[repr(C)]
pub struct Task {
    future: Future,
    step: StepFn,
    arg: UnsafeCell<FreeArg>,
    context: Cell<Word>,
    /// What it awaits, or awaited last.
    awaited: UnsafeCell<Option<FutureRef>>,
    /// It awaits something that is not done: `Task._fut_waiter`.
    waiting: Cell<bool>,
    /// What it awaits is being cancelled.
    passing: Cell<bool>,
    /// The next step is told of a cancel.
    must_cancel: Cell<bool>,
    /// The next step is told of this failure: what it wanted to await cannot be awaited.
    thrown: Cell<c_int>,
    /// `Task.cancelling`.
    cancels: Cell<c_int>,
    /// What it ends with.
    result: UnsafeCell<Option<Outcome>>,
    name: UnsafeCell<Option<CString>>,
    number: u64,
}

static TASK: Class = Class {
    queued: FIRST,
    name: "Task",
    cancel: |lp, future| Task::of(future).deliver_cancel(lp),
    finish: |future| Task::of(future).clear(),
    // SAFETY: by the contract of `free`: it was made by `Task::create`.
    free: |future| drop(unsafe { Box::from_raw(future.cast_mut().cast::<Task>()) }),
    progress: |_| None,
    is_plain: false,
};

impl Task {
    /// `Task(coro, loop=loop, context=context)`. The reference is the caller's.
    pub(crate) fn create(lp: &Owned, step: StepFn, arg: FreeArg, context: Captured) -> Result<*const Task> {
        lp.reserve(1)?;
        let number = lp.with(|state| {
            state.operations.tasks_made += 1;
            state.operations.tasks_made
        });
        let task = Box::into_raw(Box::new(Task {
            future: Future::begin(lp, &TASK),
            step,
            arg: UnsafeCell::new(arg),
            context: Cell::new(context.into_word()),
            awaited: UnsafeCell::new(None),
            waiting: Cell::new(false),
            passing: Cell::new(false),
            must_cancel: Cell::new(false),
            thrown: Cell::new(0),
            cancels: Cell::new(0),
            result: UnsafeCell::new(None),
            name: UnsafeCell::new(None),
            number,
        }));
        // SAFETY: it was made just now.
        let this = unsafe { &*task };
        this.future.keep(lp, abandon, true);
        this.schedule(lp)?;
        Ok(task)
    }

    fn of(future: &Future) -> &Task {
        // SAFETY: the class belongs to tasks, of which the future is the first part.
        unsafe { &*ptr::from_ref(future).cast() }
    }

    /// The future as a task, if it is one.
    pub(crate) fn from_future(future: &Future) -> Option<&Task> {
        future.is_of(&TASK).then(|| Task::of(future))
    }

    pub(crate) fn future(&self) -> &Future {
        &self.future
    }

    /// What it awaited last.
    pub(crate) fn awaited(&self) -> Option<&Future> {
        // SAFETY: changed by the owner only, between steps.
        unsafe { (*self.awaited.get()).as_deref() }
    }

    /// What the task ends with when its step awaits nothing more.
    pub(crate) fn set_result(&self, outcome: Outcome) -> Result<()> {
        if self.future.is_done() {
            return Err(Error::INVALID_STATE.detail(|| "the task is done already".into()));
        }
        // SAFETY: the owner's; what was there is dropped after.
        let old = unsafe { (*self.result.get()).replace(outcome) };
        drop(old);
        Ok(())
    }

    pub(crate) fn cancelling(&self) -> c_int {
        self.cancels.get()
    }

    /// `Task.uncancel`.
    pub(crate) fn uncancel(&self) -> c_int {
        self.cancels.set((self.cancels.get() - 1).max(0));
        self.cancels.get()
    }

    /// A cancel that no step was told of yet is taken back.
    pub(crate) fn forget_cancel(&self) {
        if self.cancels.get() == 0 {
            self.must_cancel.set(false);
        }
    }

    pub(crate) fn name(&self) -> CString {
        // SAFETY: the owner's.
        match unsafe { &*self.name.get() } {
            Some(name) => name.clone(),
            None => CString::new(format!("Task-{}", self.number)).unwrap_or_default(),
        }
    }

    pub(crate) fn set_name(&self, name: Option<CString>) {
        // SAFETY: the owner's.
        unsafe { *self.name.get() = name };
    }

    /// Puts its next step into the ready queue.
    #[inline]
    fn schedule(&self, lp: &Owned) -> Result<()> {
        lp.call_internal(run_step, ptr::from_ref(self).cast_mut().cast(), None, Word::NONE)
    }

    /// `Task.cancel`: false, because it is done only when its step says so.
    fn deliver_cancel(&self, lp: &Owned) -> bool {
        self.cancels.set(self.cancels.get().saturating_add(1));
        self.pass_cancel(lp);
        false
    }

    /// What it awaits is cancelled; when that cannot be, its next step is told.
    fn pass_cancel(&self, lp: &Owned) {
        if self.waiting.get()
            && let Some(awaited) = self.awaited()
        {
            let awaited = FutureRef::new(awaited);
            let this = ptr::from_ref(self).cast_mut().cast();
            let depth = lp.with(|state| state.operations.cancels);
            if self.passing.get() {
                // It awaits itself by way of others, which would never end.
                if awaited.remove_done_callback(wake_up, this) > 0 {
                    self.waiting.set(false);
                    let _ = self.schedule(lp);
                }
            } else if depth == DEEPEST {
                self.future.retain();
                let _ = lp.call_internal(pass_later, this, Some(release_future), Word::NONE);
                return;
            } else {
                self.passing.set(true);
                lp.with(|state| state.operations.cancels = depth + 1);
                let passed = awaited.cancel(lp, Error::CANCELLED, self.future.ending_message()).unwrap_or(false);
                lp.with(|state| state.operations.cancels = depth);
                self.passing.set(false);
                if passed {
                    return;
                }
            }
        }
        self.must_cancel.set(true);
    }

    /// How the step is told that what it awaited has ended.
    fn status(&self) -> c_int {
        if self.must_cancel.replace(false) {
            self.thrown.set(0);
            // An error that came together with the cancel gives way to it.
            if let Some(awaited) = self.awaited() {
                awaited.mark_retrieved();
            }
            return Error::CANCELLED.code();
        }
        match self.thrown.replace(0) {
            0 => self.awaited().map_or(0, Future::code),
            thrown => thrown,
        }
    }

    /// `Task.__step`.
    fn run(&self, lp: &Owned) {
        self.waiting.set(false);
        let status = self.status();
        let mut next: *mut Future = ptr::null_mut();
        let this = ptr::from_ref(self);
        let outside = lp.with(|state| std::mem::replace(&mut state.operations.current_task, this.cast()));
        // SAFETY: nobody writes it but this and the owner's functions.
        let arg = unsafe { (*self.arg.get()).pointer() };
        let started = lp.stopwatch();
        // SAFETY: the context stays in the task, which the loop keeps while it is not done. Step and arg were given together.
        let called =
            unsafe { lp.call_host(self.context.as_ptr(), || (self.step)(this.cast_mut(), status, arg, &raw mut next)) };
        lp.report_slow(started, || self.future.repr());
        lp.with(|state| state.operations.current_task = outside);
        // SAFETY: the step has given the reference away.
        let next = (!next.is_null()).then(|| unsafe { FutureRef::from_raw(next) });
        // In a forked child, the loop is not this thread's until it was renewed: the task is left as it is.
        if thread::current().attention.get() & (thread::FORKED | thread::BROKEN) != 0 {
            return;
        }
        let outcome = match called {
            Err(error) => Outcome::error(error),
            Ok((_, Some(raised))) if raised.code == Error::CANCELLED.code() => self.cancelled(raised.message),
            Ok((_, Some(raised))) => Outcome::failure(raised.code, raised.message, raised.object),
            Ok(_) if thread::current().attention.get() & thread::EXIT != 0 => Outcome::error(Error::EXIT),
            Ok((answer, None)) if answer < 0 => self.failed(answer, status),
            Ok((_, None)) => match next {
                Some(next) => return self.wait_for(lp, next),
                None if self.must_cancel.get() => self.cancelled(self.future.ending_message()),
                // SAFETY: the owner's.
                None => unsafe { (*self.result.get()).take() }.unwrap_or_else(Outcome::nothing),
            },
        };
        let exits = outcome.code_is(Error::EXIT);
        let kept = FutureRef::new(&self.future);
        if kept.complete(lp, outcome).is_ok() && exits {
            // The run function tells of it.
            kept.mark_retrieved();
        }
    }

    /// The step has answered a code: what the awaited future failed with is passed on as it is.
    fn failed(&self, answer: c_int, status: c_int) -> Outcome {
        if answer == Error::CANCELLED.code() && self.future.is_timed_out() {
            return Outcome::error(Error::TIMED_OUT);
        }
        if answer == status
            && let Some(awaited) = self.awaited()
            && awaited.is_done()
            && awaited.code() == answer
        {
            return Outcome::same_as(awaited);
        }
        if answer == Error::CANCELLED.code() {
            return Outcome::cancelled(self.future.ending_message());
        }
        Outcome::failure(answer, None, FreeArg::none())
    }

    fn cancelled(&self, message: Option<CString>) -> Outcome {
        if self.future.is_timed_out() { Outcome::error(Error::TIMED_OUT) } else { Outcome::cancelled(message) }
    }

    /// The step awaits `next`.
    fn wait_for(&self, lp: &Owned, next: FutureRef) {
        if !ptr::eq(next.event_loop(), self.future.event_loop()) || ptr::eq(&*next, &self.future) {
            // "Task got Future attached to a different loop", "Task cannot await on itself".
            self.thrown.set(Error::INVALID.code());
            let _ = self.schedule(lp);
            return;
        }
        // SAFETY: the owner's; what was there is dropped after.
        let old = unsafe { (*self.awaited.get()).replace(next) };
        drop(old);
        let Some(awaited) = self.awaited() else { return };
        if awaited.is_done() {
            let _ = self.schedule(lp);
            return;
        }
        let this = ptr::from_ref(self).cast_mut().cast();
        let added = awaited.add_done_callback(lp, wake_up, FreeArg::new(this, None), Captured::new(Word::NONE));
        self.waiting.set(added.is_ok());
        // Also when it was cancelled by what was released just now.
        if self.must_cancel.replace(false) {
            self.pass_cancel(lp);
        }
    }

    /// Gives up what a task that is done has no use for.
    fn clear(&self) {
        // SAFETY: the owner's, or nobody's any more; dropped after they were taken, because that calls the host.
        let (awaited, arg, result) = unsafe {
            let arg = std::mem::replace(&mut *self.arg.get(), FreeArg::none());
            ((*self.awaited.get()).take(), arg, (*self.result.get()).take())
        };
        drop((awaited, arg, result));
        self.context.replace(Word::NONE).release();
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.clear();
    }
}

/// The task's step is due.
unsafe extern "C-unwind" fn run_step(task: *mut c_void) {
    // SAFETY: the loop keeps a task that is not done, and one that is done has no step to come.
    let task = unsafe { &*task.cast::<Task>() };
    // SAFETY: a future keeps its loop's memory.
    if let Ok(lp) = unsafe { &*task.future.event_loop() }.enter() {
        task.run(&lp);
    }
}

/// A cancel of the task `arg` that had come through many others goes on.
unsafe extern "C-unwind" fn pass_later(task: *mut c_void) {
    // SAFETY: the entry has a reference.
    let task = unsafe { &*task.cast::<Task>() };
    if let Some(lp) = super::combine::entered(&task.future)
        && !task.future.is_done()
    {
        task.pass_cancel(&lp);
    }
}

/// What a task awaits is done: `Task.__wakeup`.
unsafe extern "C-unwind" fn wake_up(_: *mut Future, task: *mut c_void) {
    // SAFETY: as in `run_step`.
    unsafe { run_step(task) };
}

/// The loop is closed.
///
/// # Safety
/// `object` is a task, and a reference that is given up.
unsafe fn abandon(object: *const ()) {
    // SAFETY: by this function's contract.
    unsafe {
        let task = &*object.cast::<Task>();
        task.future.forget_callbacks();
        task.clear();
        Future::release_ptr(object.cast());
    }
}

/// `asyncio.current_task`: borrowed, or NULL.
pub(crate) fn current(lp: &Owned) -> *const Task {
    lp.with(|state| state.operations.current_task.cast())
}

/// `asyncio.all_tasks`: those that are not done, borrowed.
pub(crate) fn all(lp: &Owned) -> Vec<*const Task> {
    lp.with(|state| state.operations.tasks().map(<*const ()>::cast).collect())
}
