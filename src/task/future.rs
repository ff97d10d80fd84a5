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

use crate::engine::callback::{self, CallFn, Callback, FreeArg, guarded};
use crate::engine::context::{Captured, Word};
use crate::engine::event_loop::{EventLoop, Owned};
use crate::engine::exception::{self, Report};
use crate::engine::handle::Handle;
use crate::engine::operations::{NOWHERE, Operation};
use crate::engine::{debug, inbox, lifetime, park, schedule};
use crate::error::{self, Error, Result};

/// What a future calls when it is done.
pub type DoneFn = unsafe extern "C-unwind" fn(future: *mut Future, arg: *mut c_void);

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

/// What kind of thing a result is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum Shape {
    /// A pointer, of the host's or to an object of evl's.
    Pointer,
    /// A number, kept in the place of the pointer.
    Number,
    /// A pointer to [`Bytes`].
    Bytes,
    /// A pointer to a list of addresses.
    Addresses,
    /// Whatever the future has that the pointer points to: this one has the same outcome.
    Same,
}

/// Bytes that an operation has read, and who sent them.
pub(crate) struct Bytes {
    pub(crate) data: Vec<u8>,
    pub(crate) address: Vec<u8>,
}

/// How a future ends.
pub(crate) struct Outcome {
    status: u8,
    shape: Shape,
    code: c_int,
    word: *mut c_void,
    free: Option<CallFn>,
}

/// What an error has besides its code.
struct Failure {
    message: Option<CString>,
    object: FreeArg,
}

/// What makes a kind of future.
pub(crate) struct Class {
    /// As `repr` and reports call it.
    pub(crate) name: &'static str,
    /// Withdraws what is under way. True: nothing can touch the caller's things any more, so that the future is done now.
    pub(crate) cancel: fn(&Owned, &Future) -> bool,
    /// The future is done: gives up what it was made of. May call the host.
    pub(crate) finish: fn(&Future),
    /// Frees the memory, of which the future is the first part.
    pub(crate) free: unsafe fn(*const Future),
    /// Whether the host may settle it.
    pub(crate) is_plain: bool,
}

/// A future that the host settles.
static PLAIN: Class = Class {
    name: "Future",
    cancel: |_, _| true,
    finish: |_| {},
    // SAFETY: by the contract of `free`: it was made by `Future::create`.
    free: |future| drop(unsafe { Box::from_raw(future.cast_mut()) }),
    is_plain: true,
};

/// A callback to call when it is done.
struct Done {
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

/// A reference to the timer that ends a future's time.
struct Timeout(*const Handle);

/// What only few futures have.
#[derive(Default)]
struct Extra {
    /// Why it is being cancelled.
    message: Option<CString>,
    /// The timeout that was set.
    timer: Option<Timeout>,
    data: Option<FreeArg>,
    traceback: Box<[usize]>,
    /// Callbacks after the first.
    more: Vec<Done>,
}

/// A future: `asyncio.Future`.
#[repr(C)]
pub struct Future {
    class: &'static Class,
    event_loop: *const EventLoop,
    refs: AtomicU32,
    /// One of the four, and AWAITED. What an outcome is made of is written before it.
    status: AtomicU8,
    shape: Cell<Shape>,
    /// An error that nobody has asked for.
    unretrieved: AtomicBool,
    /// The error's code.
    code: Cell<c_int>,
    /// Not 0: it is being cancelled, and will end with this code.
    ending: Cell<c_int>,
    /// Where it stands among what the loop has under way.
    place: Cell<u32>,
    /// The result; of an error, its [`Failure`] or NULL.
    word: Cell<*mut c_void>,
    free: Cell<Option<CallFn>>,
    /// The first callback; still there while it is in the ready queue.
    first: UnsafeCell<Option<Done>>,
    extra: UnsafeCell<Option<Box<Extra>>>,
    data: AtomicPtr<c_void>,
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

impl Outcome {
    const fn with(status: u8, shape: Shape, code: c_int, word: *mut c_void, free: Option<CallFn>) -> Outcome {
        Outcome { status, shape, code, word, free }
    }

    /// Nothing but that it is done.
    pub(crate) fn nothing() -> Outcome {
        Outcome::with(FINISHED, Shape::Pointer, 0, ptr::null_mut(), None)
    }

    pub(crate) fn pointer(value: FreeArg) -> Outcome {
        let (word, free) = value.into_raw();
        Outcome::with(FINISHED, Shape::Pointer, 0, word, free)
    }

    pub(crate) fn number(value: i64) -> Outcome {
        Outcome::with(FINISHED, Shape::Number, 0, value as usize as *mut c_void, None)
    }

    /// An object of ours, which the accessor for `shape` knows.
    pub(crate) fn object<T>(shape: Shape, value: T) -> Outcome {
        Outcome::with(FINISHED, shape, 0, Box::into_raw(Box::new(value)).cast(), Some(free_box::<T>))
    }

    pub(crate) fn error(error: Error) -> Outcome {
        Outcome::with(FAILED, Shape::Pointer, error.code(), ptr::null_mut(), None)
    }

    pub(crate) fn failure(code: c_int, message: Option<CString>, object: FreeArg) -> Outcome {
        let word = Box::into_raw(Box::new(Failure { message, object }));
        Outcome::with(FAILED, Shape::Pointer, code, word.cast(), Some(free_box::<Failure>))
    }

    /// [`Outcome::failure`] with a code of the host's.
    pub(crate) fn checked_failure(code: c_int, message: Option<CString>, object: FreeArg) -> Result<Outcome> {
        if code >= 0 || code == Error::CANCELLED.code() {
            return Err(Error::INVALID.detail(|| format!("{code} is no code of an error")));
        }
        Ok(Outcome::failure(code, message, object))
    }

    pub(crate) fn cancelled(message: Option<CString>) -> Outcome {
        let mut outcome = Outcome::failure(Error::CANCELLED.code(), message, FreeArg::none());
        outcome.status = CANCELLED;
        outcome
    }

    pub(crate) fn code_is(&self, error: Error) -> bool {
        self.code == error.code()
    }

    /// The outcome that another future has, which is done.
    pub(crate) fn same_as(other: FutureRef) -> Outcome {
        let status = other.status();
        other.mark_retrieved();
        Outcome::with(status, Shape::Same, other.code.get(), other.into_raw().cast(), Some(release_future))
    }
}

impl Drop for Outcome {
    fn drop(&mut self) {
        callback::release(self.word, self.free);
    }
}

unsafe extern "C-unwind" fn free_box<T>(pointer: *mut c_void) {
    // SAFETY: made by `Box::into_raw` of this type, and given up once.
    drop(unsafe { Box::from_raw(pointer.cast::<T>()) });
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
        Box::into_raw(Box::new(Future::begin(lp, &PLAIN)))
    }

    /// Has the loop keep it until it is done.
    pub(crate) fn keep(&self, lp: &Owned, abandon: unsafe fn(*const ()), is_task: bool) {
        self.retain();
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

    fn owner(&self) -> &EventLoop {
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
    fn origin(&self) -> &Future {
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
        Err(Error::INVALID.detail(|| format!("the future's result is of another kind: {shape:?}")))
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

    /// Somebody has asked for the error.
    #[inline]
    pub(crate) fn mark_retrieved(&self) {
        if self.unretrieved.load(Ordering::Relaxed) {
            self.unretrieved.store(false, Ordering::Relaxed);
        }
    }

    fn has_extra(&self) -> bool {
        // SAFETY: touched by the loop's owner only, or by whoever has the last reference; no borrow is held over another.
        unsafe { (*self.extra.get()).is_some() }
    }

    /// Looks at what only few futures have, if it has any of it. `f` calls no code of the host.
    fn extra<R>(&self, f: impl FnOnce(&mut Extra) -> R) -> Option<R> {
        // SAFETY: as above.
        unsafe { (*self.extra.get()).as_deref_mut().map(f) }
    }

    /// Changes what only few futures have. `f` calls no code of the host.
    fn change_extra<R>(&self, f: impl FnOnce(&mut Extra) -> R) -> R {
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
        if !self.is_timed_out() {
            self.ending.set(code.code());
        }
        if message.is_some() {
            self.change_extra(|extra| extra.message = message);
        }
        if (self.class.cancel)(lp, self) && !self.is_done() {
            self.complete(lp, self.ended())?;
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

    /// Puts the first callback into the ready queue, where it has a reference. There is room.
    #[inline]
    fn schedule_first(&self, lp: &Owned) -> Result<()> {
        self.retain();
        // SAFETY: the owner's; no borrow is held over another.
        let context = match unsafe { &mut *self.first.get() } {
            Some(done) => std::mem::replace(&mut done.context, Word::NONE),
            None => Word::NONE,
        };
        lp.call_internal(call_first, ptr::from_ref(self).cast_mut().cast(), Some(free_first), context)
    }

    #[cold]
    fn schedule_more(&self, lp: &Owned) -> Result<()> {
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

    /// Gives up one reference of a future that may be NULL.
    ///
    /// # Safety
    /// The caller owns the reference. No borrow of the loop's state is held.
    #[inline]
    pub(crate) unsafe fn release_ptr(future: *const Future) {
        // SAFETY: the reference keeps it alive.
        let Some(this) = (unsafe { future.as_ref() }) else { return };
        // Who finds one reference has the only one.
        if this.refs.load(Ordering::Acquire) != 1 && this.refs.fetch_sub(1, Ordering::AcqRel) != 1 {
            return;
        }
        // SAFETY: that was the last one.
        unsafe { Future::release_last(future) };
    }

    /// # Safety
    /// Nobody refers to it any more.
    #[inline]
    unsafe fn release_last(future: *const Future) {
        // SAFETY: by this function's contract.
        let this = unsafe { &*future };
        let event_loop = this.owner();
        if !event_loop.is_owned_here() || this.unretrieved.load(Ordering::Relaxed) {
            // SAFETY: as above.
            unsafe { Future::release_elsewhere(future) };
            return;
        }
        // SAFETY: as above.
        unsafe { Future::destroy(future) };
        Owned::running(event_loop).uncount_object();
    }

    /// [`Future::release_last`] when the loop is not this thread's, or there is an error to tell of.
    ///
    /// # Safety
    /// As there.
    #[cold]
    unsafe fn release_elsewhere(future: *const Future) {
        // SAFETY: by this function's contract.
        let this = unsafe { &*future };
        let event_loop: *const EventLoop = this.event_loop;
        let entered = this.owner().enter();
        match entered {
            Ok(lp) => {
                this.refs.store(1, Ordering::Relaxed);
                if this.unretrieved.swap(false, Ordering::Relaxed) {
                    this.report(&lp);
                }
                // The handler may have taken a reference.
                if this.refs.fetch_sub(1, Ordering::AcqRel) == 1 {
                    // SAFETY: nobody refers to it, and the loop's owner is this thread.
                    unsafe { Future::destroy(future) };
                    lp.uncount_object();
                }
            }
            Err(error) => {
                // What a pending one has is the loop's thread's to release.
                let must_travel = this.unretrieved.load(Ordering::Relaxed) || !this.is_done();
                if error == Error::WRONG_THREAD && must_travel {
                    this.refs.store(1, Ordering::Relaxed);
                    let arg = FreeArg::new(future.cast_mut().cast(), Some(release_future));
                    if inbox::send_release(this.owner(), arg) {
                        return;
                    }
                    this.refs.store(0, Ordering::Relaxed);
                }
                // SAFETY: nobody refers to it; the loop is closed, or the future is done and nothing of it is the loop's.
                unsafe {
                    Future::destroy(future);
                    lifetime::release_memory(event_loop);
                }
            }
        }
    }

    /// Tells the exception handler of an error that nobody has asked for.
    fn report(&self, lp: &Owned) {
        let what = self.message();
        let what = what.as_deref().map_or(String::new(), |what| format!(": {}", what.to_string_lossy()));
        let message = format!("{} exception was never retrieved{what}", self.class.name);
        let report = Report {
            code: self.code.get(),
            message: CString::new(message).ok(),
            object: self.error_object(),
            handle: ptr::null(),
            future: ptr::from_ref(self).cast(),
            traceback: self.extra(|extra| extra.traceback.to_vec()).unwrap_or_default(),
        };
        // A handler that asks to exit does so at the callback that is running, if there is one.
        let _ = exception::call_handler(lp, &report);
    }

    /// # Safety
    /// Nobody refers to it. What counted for the loop's memory is left to the caller.
    unsafe fn destroy(future: *const Future) {
        // SAFETY: by this function's contract, and the class made it.
        unsafe { ((*future).class.free)(future) };
    }
}

impl Drop for Future {
    fn drop(&mut self) {
        callback::release(self.word.get(), self.free.get());
    }
}

impl Timeout {
    fn stop(self) {
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
    // SAFETY: the host gave both together.
    guarded(|| unsafe { function(future, arg) });
}

/// The time that was set for the future `arg` has passed.
unsafe extern "C-unwind" fn time_out(arg: *mut c_void) {
    // SAFETY: the timer has a reference.
    let future = unsafe { &*arg.cast::<Future>() };
    if let Ok(lp) = future.owner().enter() {
        let _ = future.cancel(&lp, Error::TIMED_OUT, None);
    }
}
