//! Futures (`asyncio.Future`): an outcome that is not there yet, and who wants to be called when it is.
//!
//! A future belongs to its loop: the loop's owner settles it and adds callbacks. Once it is done, what it holds never
//! changes, and any thread may read it. Whatever completes later is a future with more behind it: its [`Class`] says how it is
//! withdrawn and freed (`operation`, `task`).

use std::cell::{Cell, UnsafeCell};
use std::ffi::{CString, c_int, c_void};
use std::fmt::Write as _;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU8, AtomicU32, Ordering};

pub(crate) use super::done::DoneFn;
use super::done::{Done, FIRST};
pub(crate) use super::outcome::{Bytes, Numbered, Outcome, Shape};
use super::outcome::{Failure, Partial};
use super::task::Task;
use super::timeout::Timeout;
use crate::engine::callback::{self, CallFn, FreeArg};
use crate::engine::event_loop::{EventLoop, Owned};
use crate::engine::operations::{NOWHERE, Operation};
use crate::engine::runnable::Runnable;
use crate::engine::{debug, park, spare};
use crate::error::{self, Error, Result};

/// Not done.
pub(crate) const PENDING: u8 = 0;
/// Done, with a result.
pub(crate) const FINISHED: u8 = 1;
/// Done, with an error.
pub(crate) const FAILED: u8 = 2;
/// Done by being cancelled.
pub(crate) const CANCELLED: u8 = 3;
const STATUS: u8 = 3;
/// In `status`, too: a thread waits for it.
const AWAITED: u8 = 4;

/// What makes a kind of future.
#[repr(C)]
pub(crate) struct Class {
    /// What the ready queue does with it.
    pub(crate) queued: Runnable,
    /// As `repr` and reports call it.
    pub(crate) name: &'static str,
    /// Withdraws what is under way. True: nothing can touch the caller's things any more, so that the future is done now.
    pub(crate) cancel: fn(&Owned, &Future) -> bool,
    /// The future is done: gives up what it was made of. May call the host.
    pub(crate) finish: fn(&Future),
    /// Frees the memory, of which the future is the first part.
    pub(crate) free: unsafe fn(*const Future),
    /// How many bytes an operation that is under way has sent.
    pub(crate) progress: fn(&Future) -> Option<usize>,
    /// Whether the host may settle it.
    pub(crate) is_plain: bool,
}

/// A future that the host settles.
static PLAIN: Class = Class {
    queued: FIRST,
    name: "Future",
    cancel: |_, _| true,
    finish: |_| {},
    free: |future| {
        // SAFETY: by the contract of `free`: it was made by `Future::create`.
        unsafe {
            ptr::drop_in_place(future.cast_mut());
            spare::free(future.cast_mut());
        }
    },
    progress: |_| None,
    is_plain: true,
};

/// What only few futures have.
#[derive(Default)]
pub(super) struct Extra {
    /// Why it is being cancelled.
    pub(super) message: Option<CString>,
    /// The timeout that was set.
    pub(super) timer: Option<Timeout>,
    pub(super) data: Option<FreeArg>,
    pub(super) traceback: Box<[usize]>,
    /// Callbacks after the first.
    pub(super) more: Vec<Done>,
}

/// A future: `asyncio.Future`.
#[repr(C)]
pub struct Future {
    pub(super) class: &'static Class,
    pub(super) event_loop: *const EventLoop,
    pub(super) refs: AtomicU32,
    /// One of the four, and AWAITED. What an outcome is made of is written before it.
    pub(super) status: AtomicU8,
    pub(super) shape: Cell<Shape>,
    /// An error that nobody has asked for.
    pub(super) unretrieved: AtomicBool,
    /// The error's code.
    pub(super) code: Cell<c_int>,
    /// Not 0: it is being cancelled, and will end with this code.
    pub(super) ending: Cell<c_int>,
    /// Where it stands among what the loop has under way.
    pub(super) place: Cell<u32>,
    /// The result; of an error, its [`Failure`] or NULL.
    pub(super) word: Cell<*mut c_void>,
    pub(super) free: Cell<Option<CallFn>>,
    /// The first callback; still there while it is in the ready queue.
    pub(super) first: UnsafeCell<Option<Done>>,
    pub(super) extra: UnsafeCell<Option<Box<Extra>>>,
    pub(super) data: AtomicPtr<c_void>,
}

/// A counted reference to a future.
pub(crate) struct FutureRef(*const Future);

// SAFETY: a future may be referred to from any thread.
unsafe impl Send for FutureRef {}

impl FutureRef {
    pub(crate) fn new(future: &Future) -> FutureRef {
        future.retain();
        FutureRef(future)
    }

    /// Takes over a reference.
    ///
    /// # Safety
    /// The caller owns one reference and gives it up.
    pub(crate) unsafe fn from_raw(future: *const Future) -> FutureRef {
        FutureRef(future)
    }

    pub(crate) fn into_raw(self) -> *mut Future {
        let pointer = self.0.cast_mut();
        std::mem::forget(self);
        pointer
    }
}

impl std::ops::Deref for FutureRef {
    type Target = Future;
    fn deref(&self) -> &Future {
        // SAFETY: the reference keeps it.
        unsafe { &*self.0 }
    }
}

impl Drop for FutureRef {
    fn drop(&mut self) {
        // SAFETY: this owns the reference.
        unsafe { Future::release_ptr(self.0) };
    }
}

/// Gives up a reference.
///
/// # Safety
/// `future` is a reference that is given up.
pub(crate) unsafe extern "C-unwind" fn release_future(future: *mut c_void) {
    // SAFETY: by this function's contract.
    unsafe { Future::release_ptr(future.cast_const().cast()) };
}

impl Future {
    /// What a future of a class begins with: one reference, pending. The memory it becomes part of counts for the loop.
    #[inline]
    pub(crate) fn begin(lp: &Owned, class: &'static Class) -> Future {
        lp.count_object();
        let extra =
            lp.event_loop().debug().then(|| Box::new(Extra { traceback: debug::capture_stack(), ..Extra::default() }));
        Future {
            class,
            event_loop: lp.pointer(),
            refs: AtomicU32::new(1),
            status: AtomicU8::new(PENDING),
            shape: Cell::new(Shape::Pointer),
            unretrieved: AtomicBool::new(false),
            code: Cell::new(0),
            ending: Cell::new(0),
            place: Cell::new(NOWHERE),
            word: Cell::new(ptr::null_mut()),
            free: Cell::new(None),
            first: UnsafeCell::new(None),
            extra: UnsafeCell::new(extra),
            data: AtomicPtr::new(ptr::null_mut()),
        }
    }

    /// `loop.create_future`. The reference is the caller's.
    #[inline]
    pub(crate) fn create(lp: &Owned) -> *const Future {
        let made: *mut Future = lp.with(|state| state.operations.spare.take());
        // SAFETY: it is memory for a future, and nobody else's.
        unsafe { made.write(Future::begin(lp, &PLAIN)) };
        made
    }

    /// Has the loop keep it until it is done.
    pub(crate) fn keep(&self, lp: &Owned, abandon: unsafe fn(*const ()), is_task: bool) {
        self.retain();
        self.keep_counted(lp, abandon, is_task);
    }

    /// As many references as somebody who has just made it wants: nobody else knows it.
    pub(crate) fn set_references(&mut self, count: u32) {
        *self.refs.get_mut() = count;
    }

    /// [`Future::keep`], with a reference that is counted already.
    pub(crate) fn keep_counted(&self, lp: &Owned, abandon: unsafe fn(*const ()), is_task: bool) {
        self.place.set(lp.begin(Operation { object: ptr::from_ref(self).cast(), abandon, is_task }));
    }

    /// Undoes [`Future::keep`].
    pub(crate) fn discard(&self, lp: &Owned) {
        let place = self.place.replace(NOWHERE);
        if place != NOWHERE {
            lp.end_operation(place);
            // SAFETY: the loop's reference.
            unsafe { Future::release_ptr(self) };
        }
    }

    pub(crate) fn class(&self) -> &'static Class {
        self.class
    }

    pub(crate) fn is_of(&self, class: &'static Class) -> bool {
        ptr::eq(self.class, class)
    }

    /// The loop, whose memory the future keeps.
    pub(crate) fn event_loop(&self) -> *const EventLoop {
        self.event_loop
    }

    pub(super) fn owner(&self) -> &EventLoop {
        // SAFETY: the future keeps its loop's memory.
        unsafe { &*self.event_loop }
    }

    #[inline]
    pub(crate) fn status(&self) -> u8 {
        self.status.load(Ordering::Acquire) & STATUS
    }

    /// `Future.done`.
    #[inline]
    pub(crate) fn is_done(&self) -> bool {
        self.status() != PENDING
    }

    /// `Future.cancelled`.
    pub(crate) fn is_cancelled(&self) -> bool {
        self.status() == CANCELLED
    }

    /// Whether it is done with an error; being cancelled is none.
    pub(crate) fn has_failed(&self) -> bool {
        self.status() == FAILED
    }

    /// Whether a cancel or a timeout is under way.
    pub(crate) fn is_ending(&self) -> bool {
        self.ending.get() != 0
    }

    #[inline]
    pub(crate) fn retain(&self) {
        self.refs.fetch_add(1, Ordering::Relaxed);
    }

    /// The one whose outcome this is.
    pub(super) fn origin(&self) -> &Future {
        let mut future = self;
        while future.is_done() && future.shape.get() == Shape::Same {
            // SAFETY: such a future holds a reference to the other one.
            future = unsafe { &*future.word.get().cast::<Future>() };
        }
        future
    }

    /// 0, or why there is no result: the error's code, EVL_ECANCELLED, EVL_EINVALIDSTATE.
    pub(crate) fn check(&self) -> Result<()> {
        match self.status() {
            FINISHED => Ok(()),
            PENDING => Err(Error::INVALID_STATE.detail(|| "the future is not done".into())),
            _ => {
                self.mark_retrieved();
                let error = Error::from_code(self.code.get());
                Err(match self.failure().and_then(|failure| failure.message.as_deref()) {
                    Some(message) => error.detail(|| message.to_string_lossy().into_owned()),
                    None => error,
                })
            }
        }
    }

    /// `Future.result`: what it is, and its word. `expected`: which kind the caller can use.
    pub(crate) fn result(&self, expected: Shape) -> Result<*mut c_void> {
        self.check()?;
        let origin = self.origin();
        let shape = origin.shape.get();
        if shape == expected || expected == Shape::Pointer && shape == Shape::Addresses {
            return Ok(origin.word.get());
        }
        Err(Self::of_another_kind(shape))
    }

    fn of_another_kind(shape: Shape) -> Error {
        Error::INVALID.detail(|| format!("the future's result is of another kind: {shape:?}"))
    }

    /// [`Future::result`] that is a number.
    pub(crate) fn number(&self) -> Result<i64> {
        self.check()?;
        let origin = self.origin();
        match origin.shape.get() {
            Shape::Number => Ok(origin.word.get() as usize as i64),
            // SAFETY: the word of this shape.
            Shape::Numbered => Ok(unsafe { &*origin.word.get().cast::<Numbered>() }.take()),
            shape => Err(Self::of_another_kind(shape)),
        }
    }

    /// The address that a result came with.
    pub(crate) fn address(&self) -> Result<&[u8]> {
        self.check()?;
        let origin = self.origin();
        match origin.shape.get() {
            // SAFETY: the word of this shape, which stays while the future does.
            Shape::Bytes => Ok(&unsafe { &*origin.word.get().cast::<Bytes>() }.address),
            // SAFETY: as above.
            Shape::Numbered => Ok(&unsafe { &*origin.word.get().cast::<Numbered>() }.address),
            shape => Err(Self::of_another_kind(shape)),
        }
    }

    /// `Future.exception`: 0 when there is none.
    pub(crate) fn error(&self) -> Result<c_int> {
        match self.status() {
            PENDING => Err(Error::INVALID_STATE.detail(|| "the future is not done".into())),
            CANCELLED => Err(Error::CANCELLED),
            FINISHED => Ok(0),
            _ => {
                self.mark_retrieved();
                Ok(self.code.get())
            }
        }
    }

    /// How it ended, as a code: 0, the error's or EVL_ECANCELLED. It is done. Counts as asking for the error.
    pub(crate) fn code(&self) -> c_int {
        self.mark_retrieved();
        self.code.get()
    }

    fn failure(&self) -> Option<&Failure> {
        let origin = self.origin();
        match origin.status() {
            // SAFETY: an error's word is NULL or its Failure.
            FAILED | CANCELLED => unsafe { origin.word.get().cast::<Failure>().as_ref() },
            _ => None,
        }
    }

    /// What an error says, or why it was cancelled.
    pub(crate) fn message(&self) -> Option<CString> {
        self.failure().and_then(|failure| failure.message.clone())
    }

    /// The host's object that goes with an error, or NULL.
    pub(crate) fn error_object(&self) -> *mut c_void {
        self.failure().map_or(ptr::null_mut(), |failure| failure.object.pointer())
    }

    /// What a read or a sending that has failed comes with.
    pub(crate) fn partial(&self) -> Result<&Partial> {
        if let Some(partial) = self.failure().and_then(|failure| failure.partial.as_deref()) {
            return Ok(partial);
        }
        self.error()?;
        Err(Error::INVALID.detail(|| "the future has no error that comes with bytes".into()))
    }

    /// Somebody has asked for the error.
    #[inline]
    pub(crate) fn mark_retrieved(&self) {
        if self.unretrieved.load(Ordering::Relaxed) {
            self.unretrieved.store(false, Ordering::Relaxed);
        }
    }

    pub(super) fn has_extra(&self) -> bool {
        // SAFETY: touched by the loop's owner only, or by whoever has the last reference; no borrow is held over another.
        unsafe { (*self.extra.get()).is_some() }
    }

    /// Looks at what only few futures have, if it has any of it. `f` calls no code of the host.
    pub(super) fn extra<R>(&self, f: impl FnOnce(&mut Extra) -> R) -> Option<R> {
        // SAFETY: as above.
        unsafe { (*self.extra.get()).as_deref_mut().map(f) }
    }

    /// Changes what only few futures have. `f` calls no code of the host.
    pub(super) fn change_extra<R>(&self, f: impl FnOnce(&mut Extra) -> R) -> R {
        // SAFETY: as above.
        f(unsafe { (*self.extra.get()).get_or_insert_default() })
    }

    /// `Future.set_result`, `set_exception`, by the host.
    pub(crate) fn settle(&self, lp: &Owned, outcome: Outcome) -> Result<()> {
        if !self.class.is_plain {
            return Err(Error::INVALID.detail(|| format!("{} is not settled by its user", self.class.name)));
        }
        if self.is_done() {
            return Err(Error::INVALID_STATE.detail(|| "the future is done already".into()));
        }
        self.complete(lp, outcome)
    }

    /// It is done. The caller has a reference, and the future was pending. On failure (no memory) it still is.
    #[inline]
    pub(crate) fn complete(&self, lp: &Owned, outcome: Outcome) -> Result<()> {
        // SAFETY: the owner's, and no borrow is held over another.
        let first = unsafe { (*self.first.get()).as_ref() };
        let more = self.extra(|extra| extra.more.len()).unwrap_or(0);
        lp.reserve(usize::from(first.is_some()) + more)?;
        let Outcome { status, shape, code, word, free } = outcome;
        std::mem::forget(outcome);
        self.shape.set(shape);
        self.code.set(code);
        self.word.set(word);
        self.free.set(free);
        if status == FAILED {
            self.unretrieved.store(true, Ordering::Relaxed);
        }
        if self.status.swap(status, Ordering::AcqRel) & AWAITED != 0 {
            park::notify(ptr::from_ref(self) as usize);
        }
        if first.is_some() {
            self.schedule_first(lp)?;
        }
        if self.has_extra() {
            self.schedule_more(lp)?;
        }
        (self.class.finish)(self);
        self.discard(lp);
        Ok(())
    }

    /// Ends an operation: with `outcome`, unless a cancel or a timeout is under way.
    pub(crate) fn end(&self, lp: &Owned, outcome: Outcome) -> Result<()> {
        if self.is_done() {
            return Ok(());
        }
        match self.ending.get() {
            0 => self.complete(lp, outcome),
            _ => self.complete(lp, self.ended()),
        }
    }

    /// How it ends that was cancelled, or was out of time.
    fn ended(&self) -> Outcome {
        let message = self.extra(|extra| extra.message.take()).flatten();
        match self.ending.get() {
            code if code == Error::CANCELLED.code() || code == 0 => Outcome::cancelled(message),
            code => Outcome::failure(code, message, FreeArg::none()),
        }
    }

    /// `Future.cancel`: false when it is done already. `code` is what it ends with. The caller has a reference.
    pub(crate) fn cancel(&self, lp: &Owned, code: Error, message: Option<CString>) -> Result<bool> {
        if self.is_done() {
            return Ok(false);
        }
        self.ending.set(code.code());
        // Each cancel of a task is told to it; an operation is withdrawn by the first.
        if message.is_some() || self.has_extra() && Task::from_future(self).is_some() {
            self.change_extra(|extra| extra.message = message);
        }
        if (self.class.cancel)(lp, self) && !self.is_done() {
            self.complete(lp, self.ended().with_progress(|| (self.class.progress)(self)))?;
        }
        Ok(true)
    }

    /// Why it is being cancelled.
    pub(crate) fn ending_message(&self) -> Option<CString> {
        self.extra(|extra| extra.message.clone()).flatten()
    }

    /// Whether it is being withdrawn because its time has passed.
    pub(crate) fn is_timed_out(&self) -> bool {
        self.ending.get() == Error::TIMED_OUT.code()
    }

    /// `Future.__repr__`.
    pub(crate) fn repr(&self) -> String {
        let mut text = format!("<{}", self.class.name);
        match self.status() {
            PENDING => text.push_str(" pending"),
            FINISHED => text.push_str(" finished"),
            CANCELLED => text.push_str(" cancelled"),
            _ => {
                let name = error::name(self.code.get()).to_string_lossy();
                let _ = write!(text, " finished error={name}");
            }
        }
        let _ = write!(text, " at {:#x}>", ptr::from_ref(self) as usize);
        text
    }

    pub(crate) fn data(&self) -> *mut c_void {
        self.data.load(Ordering::Acquire)
    }

    pub(crate) fn set_data(&self, data: FreeArg) {
        self.data.store(data.pointer(), Ordering::Release);
        let old = self.change_extra(|extra| extra.data.replace(data));
        drop(old);
    }

    /// Blocks this thread, which runs no loop, until it is done.
    pub(crate) fn wait(&self, timeout: i64) -> Result<()> {
        if crate::engine::thread::current().runs.get() {
            return Err(Error::RUNNING.detail(|| "a thread that runs a loop cannot wait for a future".into()));
        }
        park::wait(self.owner(), ptr::from_ref(self) as usize, timeout, || {
            self.status.fetch_or(AWAITED, Ordering::AcqRel) & STATUS != PENDING
        })
    }
}

impl Drop for Future {
    fn drop(&mut self) {
        callback::release(self.word.get(), self.free.get());
    }
}
