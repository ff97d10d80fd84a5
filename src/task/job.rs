//! Jobs: a function on its way to a thread of an executor, and the future of what it returns.
//!
//! A job is one piece of memory, which begins with its future and is counted by it: the loop has a reference until the job is done, and
//! whoever is to run it has another one. One compare-and-swap decides between starting and withdrawing: what could be withdrawn is
//! never called, and what has started ends by itself, because it may touch its arg until it returns.
//!
//! Until it has started, a job's arg belongs to the loop's thread. From then on all of it belongs to the thread that runs it, until
//! that one sends it back to the loop; where the loop is closed by then, that thread releases what is left.

use std::cell::Cell;
use std::ffi::{CString, c_void};
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use super::future::{Class, Future, FutureRef, Outcome, release_future};
use super::pool::Core;
use crate::engine::callback::{self, CallFn, FreeArg, guarded};
use crate::engine::context::{self, Word};
use crate::engine::event_loop::{EventLoop, Owned};
use crate::engine::exception::Aside;
use crate::engine::inbox;
use crate::engine::thread::{self, Thread};
use crate::error::Error;

/// A function of the host that an executor runs.
pub type JobFn = unsafe extern "C-unwind" fn(arg: *mut c_void) -> *mut c_void;

/// Nobody has started it.
const WAITING: u8 = 0;
/// A thread is inside of it, or has been: what it leaves behind is on its way to the loop.
const STARTED: u8 = 1;
/// It was cancelled, or its loop closed, before anybody started it.
const WITHDRAWN: u8 = 2;
/// Its executor will not run it; the loop is being told.
const DISCARDED: u8 = 3;
/// It has returned, and what it returned is kept here.
const RETURNED: u8 = 4;

/// What is to be run.
#[derive(Clone, Copy)]
pub(crate) enum Call {
    /// A function of the host, and what releases its result.
    Host(JobFn, Option<CallFn>),
    /// A function of ours, which holds nothing of the caller's: a cancel need not wait for it.
    Own(OwnFn),
}

/// A job, in the hands of whoever is to run it.
///
/// What the thread that runs it touches lies together, because every cache line that two processors write costs more than the rest of it.
#[repr(C)]
pub struct Job {
    future: Future,
    /// The pool it waits in; None: with an executor of the host's.
    pool: Option<Arc<Core>>,
    arg_free: Cell<Option<CallFn>>,
    result_free: Option<CallFn>,
    call: Function,
    arg: *mut c_void,
    /// The future's loop.
    event_loop: *const EventLoop,
    /// What it returned, in state RETURNED.
    value: Cell<*mut c_void>,
    /// How else it has ended.
    outcome: Cell<Option<Box<Outcome>>>,
    state: AtomicU8,
    /// Its place in the pool's queue: touched under the pool's lock.
    pub(super) is_queued: Cell<bool>,
    pub(super) next: Cell<*const Job>,
    pub(super) previous: Cell<*const Job>,
}

/// What is called.
#[derive(Clone, Copy)]
enum Function {
    Host(JobFn),
    Own(OwnFn),
}

/// A function of ours.
pub(crate) type OwnFn = unsafe fn(arg: *mut c_void) -> Outcome;

/// A job of the host's.
pub(crate) static HOST_JOB: Class = class("Job");

/// What makes a kind of job.
pub(crate) const fn class(name: &'static str) -> Class {
    Class {
        queued: super::done::FIRST,
        name,
        cancel,
        finish,
        // SAFETY: by the contract of `free`: it was made by `Job::begin`.
        free: |future| drop(unsafe { Box::from_raw(future.cast_mut().cast::<Job>()) }),
        progress: |_| None,
        is_plain: false,
    }
}

/// A reference to a job, which whoever has it runs or gives up.
pub(crate) struct JobRef(*const Job);

// SAFETY: what may be touched by whom is told above.
unsafe impl Send for JobRef {}

impl JobRef {
    /// Takes a reference over that [`JobRef::into_raw`] gave away.
    ///
    /// # Safety
    /// `job` came from there, and is given up.
    pub(crate) unsafe fn from_raw(job: *const Job) -> JobRef {
        JobRef(job)
    }

    pub(super) fn pointer(&self) -> *mut Job {
        self.0.cast_mut()
    }

    pub(crate) fn into_raw(self) -> *mut Job {
        let job = self.0.cast_mut();
        std::mem::forget(self);
        job
    }

    /// Runs it, and tells its loop. False: it was withdrawn.
    pub(crate) fn run(self) -> bool {
        if !self.change(STARTED) {
            self.send_back();
            return false;
        }
        self.call_now();
        self.send();
        true
    }

    /// It will not be run: its future is cancelled.
    pub(crate) fn discard(self) {
        if self.change(DISCARDED) { self.send() } else { self.send_back() }
    }

    /// Tells the loop how it ended.
    fn send(self) {
        let job = self.into_raw();
        let arg = FreeArg::new(job.cast(), Some(release_future));
        // SAFETY: the reference keeps the job, which keeps its loop's memory.
        let event_loop: &EventLoop = unsafe { &*(*job).event_loop };
        if let Err((_, arg)) = inbox::send(event_loop, deliver, arg) {
            // The loop is closed: nobody wants the result any more.
            // SAFETY: as above; what a job is made of is this thread's now.
            unsafe { (*job).give_up() };
            drop(arg);
        }
    }

    /// Nothing is to be told. The reference is given up on the loop's thread, for others must not take the loop from it.
    fn send_back(self) {
        let arg = FreeArg::new(self.0.cast_mut().cast(), Some(release_future));
        // SAFETY: the reference keeps the job, which keeps its loop's memory.
        let event_loop: &EventLoop = unsafe { &*self.event_loop };
        if event_loop.is_owned_here() {
            let _ = arg.into_raw();
        } else if inbox::send_release(event_loop, arg) {
            std::mem::forget(self);
        }
    }
}

impl std::ops::Deref for JobRef {
    type Target = Job;
    fn deref(&self) -> &Job {
        // SAFETY: the reference keeps it.
        unsafe { &*self.0 }
    }
}

impl Drop for JobRef {
    fn drop(&mut self) {
        // SAFETY: this owns the reference, and the future is the first part.
        unsafe { Future::release_ptr(self.0.cast()) };
    }
}

impl Job {
    /// Begins a job, which the loop keeps until it is done. Two references: the future's user's, and of whoever is to run it.
    pub(crate) fn begin(
        lp: &Owned,
        class: &'static Class,
        call: Call,
        arg: FreeArg,
        pool: Option<Arc<Core>>,
    ) -> (FutureRef, JobRef) {
        let (arg, arg_free) = arg.into_raw();
        let (call, result_free) = match call {
            Call::Host(function, result_free) => (Function::Host(function), result_free),
            Call::Own(function) => (Function::Own(function), None),
        };
        let mut future = Future::begin(lp, class);
        // The user's, the loop's, and that of whoever is to run it.
        future.set_references(3);
        let job = Box::write(
            Box::new_uninit(),
            Job {
                future,
                pool,
                arg_free: Cell::new(arg_free),
                result_free,
                call,
                arg,
                event_loop: lp.pointer(),
                value: Cell::new(ptr::null_mut()),
                outcome: Cell::new(None),
                state: AtomicU8::new(WAITING),
                next: Cell::new(ptr::null()),
                previous: Cell::new(ptr::null()),
                is_queued: Cell::new(false),
            },
        );
        let job = Box::into_raw(job);
        // SAFETY: made just now.
        unsafe { (*job).future.keep_counted(lp, abandon, false) };
        lp.with(|state| state.operations.jobs += 1);
        // SAFETY: the references that were counted above.
        (unsafe { FutureRef::from_raw(job.cast()) }, JobRef(job))
    }

    /// The executor refused it, and has not kept it: ends it where nobody sees its future. False: it has been run.
    pub(crate) fn take_back(lp: &Owned, future: &FutureRef) -> bool {
        let job = Job::of(future);
        if !job.change(WITHDRAWN) {
            return false;
        }
        lp.with(|state| state.operations.jobs -= 1);
        // SAFETY: the reference that the executor was given, and has not kept.
        drop(unsafe { JobRef::from_raw(job) });
        let _ = future.complete(lp, Outcome::cancelled(None));
        true
    }

    fn of(future: &Future) -> &Job {
        // SAFETY: only jobs have the classes that lead here, and the future is the first part.
        unsafe { &*ptr::from_ref(future).cast() }
    }

    /// Decides what becomes of a job that nobody has started; false: that is decided.
    fn change(&self, state: u8) -> bool {
        self.state.compare_exchange(WAITING, state, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// Takes it out of its pool's queue, if it is still there.
    fn unqueue(&self) {
        if let Some(pool) = &self.pool
            && let Some(reference) = pool.remove(self)
        {
            drop(reference);
        }
    }

    /// Releases its arg, which is released once. May call the host.
    fn release_arg(&self) {
        callback::release(self.arg, self.arg_free.take());
    }

    /// How it has ended, which is told once.
    fn take_outcome(&self) -> Option<Outcome> {
        if self.state.load(Ordering::Acquire) == RETURNED {
            self.state.store(STARTED, Ordering::Relaxed);
            return Some(Outcome::pointer(FreeArg::new(self.value.get(), self.result_free)));
        }
        self.outcome.take().map(|outcome| *outcome)
    }

    /// Releases what it was made of. May call the host.
    fn give_up(&self) {
        self.release_arg();
        drop(self.take_outcome());
    }

    /// Calls the function, on the thread that runs the job.
    fn call_now(&self) {
        match self.call {
            Function::Own(function) => {
                // SAFETY: whoever began the job gave both together.
                let outcome = unsafe { function(self.arg) };
                self.outcome.set(Some(Box::new(outcome)));
            }
            Function::Host(function) => {
                // SAFETY: as above.
                let (value, failure) = unsafe { call_host(function, self.arg) };
                if failure.is_none() {
                    self.value.set(value);
                    self.state.store(RETURNED, Ordering::Release);
                    return;
                }
                self.outcome.set(failure);
                // NULL is what a job returns that has nothing to return.
                if !value.is_null() {
                    callback::release(value, self.result_free);
                }
            }
        }
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        self.give_up();
    }
}

/// Calls a job of the host's in a context of its own. Returns its result, and what it has raised.
///
/// # Safety
/// The host gave both together.
unsafe fn call_host(function: JobFn, arg: *mut c_void) -> (*mut c_void, Option<Box<Outcome>>) {
    let thread = thread::current();
    let aside = Aside::begin();
    let mut word = Word::NONE;
    let outside = thread.slot.replace(&raw mut word);
    // SAFETY: by this function's contract.
    let value = guarded(|| unsafe { function(arg) });
    let failure = if thread.attention.get() == 0 {
        None
    } else {
        // SAFETY: the word is where the job's context is kept.
        unsafe { context::leave(thread, &raw mut word) };
        what_was_raised(thread)
    };
    thread.slot.set(outside);
    aside.end();
    word.release();
    (value, failure)
}

/// Makes an outcome of what a job has raised.
#[cold]
fn what_was_raised(thread: &Thread) -> Option<Box<Outcome>> {
    let attention = thread.attention.get();
    thread.attention.set(attention & !thread::CONTEXT);
    // SAFETY: only this thread touches it, and no reference to it is held.
    let raised = unsafe { (*thread.raised.get()).take() };
    if attention & thread::EXIT != 0 {
        let message = CString::new(format!("exit code {}", thread.exit_code.get())).ok();
        return Some(Box::new(Outcome::failure(Error::EXIT.code(), message, FreeArg::none())));
    }
    let raised = *raised?;
    Some(Box::new(if raised.code == Error::CANCELLED.code() {
        Outcome::cancelled(raised.message)
    } else {
        Outcome::failure(raised.code, raised.message, raised.object)
    }))
}

/// On the loop's thread: the job has ended, or will not be run.
unsafe extern "C-unwind" fn deliver(job: *mut c_void) {
    // SAFETY: the entry has a reference.
    let job = unsafe { &*job.cast_const().cast::<Job>() };
    // SAFETY: a job keeps its loop's memory.
    let Ok(lp) = (unsafe { &*job.future.event_loop() }).enter() else { return };
    let outcome = job.take_outcome();
    if !job.future.is_done() {
        lp.with(|state| state.operations.jobs -= 1);
        let _ = job.future.end(&lp, outcome.unwrap_or_else(|| Outcome::cancelled(None)));
    }
}

/// Withdraws a job that has not started. One of ours may go on by itself.
fn cancel(lp: &Owned, future: &Future) -> bool {
    let job = Job::of(future);
    let withdrawn = job.change(WITHDRAWN);
    if withdrawn {
        job.unqueue();
    }
    let ends_now = withdrawn || matches!(job.call, Function::Own(_));
    if ends_now {
        lp.with(|state| state.operations.jobs -= 1);
    }
    ends_now
}

/// The future is done. The arg of a job of ours that is still running goes with the job.
fn finish(future: &Future) {
    let job = Job::of(future);
    if job.state.load(Ordering::Acquire) != STARTED || matches!(job.call, Function::Host(_)) {
        job.release_arg();
    }
}

/// The loop is closed. What runs goes on, and gives up what it has when it has returned.
///
/// # Safety
/// `object` is a job, and a reference that is given up.
unsafe fn abandon(object: *const ()) {
    // SAFETY: by this function's contract.
    let job = unsafe { JobRef::from_raw(object.cast()) };
    if job.change(WITHDRAWN) {
        job.unqueue();
        job.give_up();
    }
}
