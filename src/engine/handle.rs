//! Handles and timers: one cell of 56 bytes in a page of its loop.
//!
//! A cell lives while the host has references to it (`refs`), or while the loop holds it (the flags in [`HELD`]): the ready
//! queue, the timers, a descriptor, a signal, or because its callback is on the stack. The loop's hold is no reference, so
//! that the loop needs no atomic operation to take or to give it up. Therefore only the loop's owner frees cells: a last reference that
//! another thread gives up travels to the owner by the inbox (`lifetime::give_back`). On a closed loop nothing is held, and
//! the last reference frees, wherever it is given up.
//!
//! What only few handles have (a name, a traceback, an interval, weak references) stands in a table of the loop.

use std::cell::Cell;
use std::ffi::c_void;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU8, AtomicU16, AtomicU32, Ordering};

use super::arena::Page;
use super::callback::{self, CallFn};
use super::context::Word;
use super::debug;
use super::entry::Entry;
use super::event_loop::{EventLoop, Owned};
use super::lifetime;
use crate::lock::Lock;

/// Was cancelled.
pub(crate) const CANCELLED: u16 = 1;
/// Made by a `call_*` function: runs once.
pub(crate) const ONE_SHOT: u16 = 2;
/// One-shot, and has run.
pub(crate) const DONE: u16 = 4;
/// In the ready queue.
pub(crate) const QUEUED: u16 = 8;
/// Has a deadline.
pub(crate) const TIMER: u16 = 16;
/// Among the loop's timers.
pub(crate) const STARTED: u16 = 32;
/// Its callback is on the stack.
pub(crate) const RUNNING: u16 = 64;
/// A descriptor's reader or writer; the descriptor is kept as the deadline.
pub(crate) const WATCH: u16 = 128;
/// A writer.
pub(crate) const WRITER: u16 = 256;
/// A signal's handler; the signal is kept as the deadline.
pub(crate) const SIGNAL: u16 = 512;
/// A watcher that is paused.
pub(crate) const PAUSED: u16 = 1024;
/// A timer with an interval.
pub(crate) const PERIODIC: u16 = 2048;
/// A shutdown hook that has not run.
pub(crate) const HOOK: u16 = 4096;
/// On a watcher: it is evl's own, for an operation or a transport, and no host may touch it.
pub(crate) const INTERNAL: u16 = HOOK;
/// On a handle in the ready queue: it is evl's own, made in debug mode only, and no host may see it.
pub(crate) const OWN: u16 = WRITER;
/// The ready queue has an entry for it; without QUEUED, one to be skipped.
pub(crate) const IN_RING: u16 = 8192;
/// The loop's table of descriptors, signals or shutdown hooks has it.
pub(crate) const REGISTERED: u16 = 16384;
/// Made by another thread: its entry in the queue is a reference, because no thread but the owner can hold without one.
pub(crate) const COUNTED: u16 = 32768;
/// What keeps a cell without references.
pub(crate) const HELD: u16 = IN_RING | STARTED | RUNNING | REGISTERED;

/// A callback on its way: `asyncio.events.Handle`; with TIMER, `asyncio.events.TimerHandle`.
///
/// Cells and plain fields are touched only by the thread that owns the loop; atomics may be read by any.
#[repr(C)]
pub struct Handle {
    pub(crate) function: Cell<Option<CallFn>>,
    pub(crate) arg: Cell<*mut c_void>,
    pub(crate) context: Cell<Word>,
    pub(crate) free: Cell<Option<CallFn>>,
    /// The deadline of a timer; the number of a watcher or signal.
    pub(crate) deadline: AtomicI64,
    /// Ties are broken by it: the order in which deadlines were set.
    pub(crate) order: Cell<u32>,
    // From here on is what cancelling and giving back touch, in one cache line of most cells.
    /// References of the host.
    pub(crate) refs: AtomicU32,
    /// The key by which the timers know it; any other key for this cell is stale.
    pub(crate) key: Cell<u32>,
    flags: AtomicU16,
    /// Whether the loop's table has an entry for it.
    extra: AtomicBool,
    /// What there may be to release: ARG, CONTEXT.
    owes: AtomicU8,
}

/// There is an arg to release, and it was not released yet.
const ARG: u8 = 1;
/// Its context may be something.
const CONTEXT: u8 = 2;

/// What the host has to release of a handle that is gone.
pub(crate) struct Remains {
    arg: *mut c_void,
    free: Option<CallFn>,
    context: Word,
}

impl Remains {
    /// Calls the host, if there is anything. No borrow of a loop's state may be held.
    #[inline]
    pub(crate) fn release(self) {
        callback::release(self.arg, self.free);
        self.context.release();
    }
}

/// A handle with a deadline, as the C surface tells it from others.
#[repr(transparent)]
pub struct Timer(Handle);

/// What only few handles have.
#[derive(Default)]
pub(crate) struct Extra {
    pub(crate) name: Option<String>,
    pub(crate) traceback: Box<[usize]>,
    pub(crate) interval: i64,
    weak: Option<Arc<WeakTarget>>,
}

/// Followed, and cleared by its handle before that goes, under [`WEAK`].
struct WeakTarget(Cell<*const Handle>);

// SAFETY: touched only under the lock.
unsafe impl Send for WeakTarget {}
// SAFETY: as above.
unsafe impl Sync for WeakTarget {}

/// The lock of all weak references: one, so that fork can hold it. It is held for looking at a pointer and a count.
static WEAK: Lock<()> = Lock::new(());

/// Holds the lock across fork.
pub(crate) fn lock_for_fork() {
    std::mem::forget(WEAK.lock());
}

/// # Safety
/// Ends a `lock_for_fork` of this thread.
pub(crate) unsafe fn unlock_after_fork() {
    // SAFETY: by this function's contract.
    unsafe { WEAK.force_unlock() };
}

/// A reference that does not keep its handle alive: `weakref.ref(handle)`.
pub struct WeakHandle(Arc<WeakTarget>);

impl Handle {
    /// Makes a free cell a handle with `refs` references; `number` is its deadline, descriptor or signal.
    #[inline]
    #[allow(clippy::too_many_arguments, reason = "they are the cell's fields")]
    pub(crate) fn fill(
        &self,
        function: CallFn,
        arg: *mut c_void,
        free: Option<CallFn>,
        context: Word,
        flags: u16,
        refs: u32,
        number: i64,
    ) {
        self.function.set(Some(function));
        self.arg.set(arg);
        self.free.set(free);
        self.context.set(context);
        self.init(refs, flags, number);
        let arg = if free.is_some() { ARG } else { 0 };
        self.owes.store(arg | if context.is_none() { 0 } else { CONTEXT }, Ordering::Relaxed);
    }

    #[inline]
    pub(crate) fn init(&self, refs: u32, flags: u16, deadline: i64) {
        self.deadline.store(deadline, Ordering::Relaxed);
        self.order.set(0);
        self.key.set(0);
        self.flags.store(flags, Ordering::Relaxed);
        self.extra.store(false, Ordering::Relaxed);
        self.owes.store(0, Ordering::Relaxed);
        self.refs.store(refs, Ordering::Relaxed);
    }

    /// Whether somebody has it.
    pub(crate) fn is_alive(&self) -> bool {
        self.refs.load(Ordering::Acquire) > 0 || self.has(HELD)
    }

    #[inline]
    pub(crate) fn has(&self, flags: u16) -> bool {
        self.flags.load(Ordering::Relaxed) & flags != 0
    }

    /// The flags among `mask`.
    #[inline]
    pub(crate) fn among(&self, mask: u16) -> u16 {
        self.flags.load(Ordering::Relaxed) & mask
    }

    /// On the owner's thread only, which is what makes a load and a store enough.
    #[inline]
    pub(crate) fn set(&self, flags: u16) {
        self.flags.store(self.flags.load(Ordering::Relaxed) | flags, Ordering::Relaxed);
    }

    /// Clears some flags and sets others. On the owner's thread only.
    #[inline]
    pub(crate) fn change(&self, clear: u16, set: u16) {
        self.flags.store(self.flags.load(Ordering::Relaxed) & !clear | set, Ordering::Relaxed);
    }

    /// On the owner's thread only.
    #[inline]
    pub(crate) fn clear(&self, flags: u16) {
        self.flags.store(self.flags.load(Ordering::Relaxed) & !flags, Ordering::Relaxed);
    }

    /// `Handle.cancelled`.
    pub fn is_cancelled(&self) -> bool {
        self.has(CANCELLED)
    }

    /// `TimerHandle._scheduled`.
    pub fn is_timer_scheduled(&self) -> bool {
        self.has(STARTED)
    }

    /// The arg, which may be released already.
    pub fn arg(&self) -> *mut c_void {
        self.arg.get()
    }

    /// Whether it is a `TimerHandle`.
    pub fn is_timer(&self) -> bool {
        self.has(TIMER)
    }

    /// `TimerHandle.when`.
    #[inline]
    pub fn when(&self) -> i64 {
        self.deadline.load(Ordering::Relaxed)
    }

    /// Whether only its callback is left of it: a one-shot one that the host cannot reach.
    #[inline]
    pub(crate) fn is_plain(&self) -> bool {
        self.is_unreachable() && self.has(ONE_SHOT) && !self.has(CANCELLED | IN_RING)
    }

    /// Whether the host has no reference, and can get none.
    #[inline]
    pub(crate) fn is_unreachable(&self) -> bool {
        self.refs.load(Ordering::Acquire) == 0 && !self.extra.load(Ordering::Relaxed)
    }

    /// Its callback, which the entry takes over.
    #[inline]
    pub(crate) fn entry(&self) -> Entry {
        Entry {
            function: self.function.get(),
            arg: self.arg.get(),
            free: self.free.get(),
            context: self.context.replace(Word::NONE),
        }
    }

    #[inline]
    pub(crate) fn page(&self) -> &Page {
        // SAFETY: every Handle lies in a page, which lives as long as its cells; what others than the arena read of it never changes.
        unsafe { &*Page::of(std::ptr::from_ref(self).cast()) }
    }

    /// The loop this belongs to. Its memory outlives the handle.
    #[inline]
    pub fn event_loop(&self) -> *const EventLoop {
        self.page().event_loop
    }

    fn owner(&self) -> &EventLoop {
        // SAFETY: a loop's memory is kept by each of its handles.
        unsafe { &*self.event_loop() }
    }

    #[inline]
    pub(crate) fn retain(&self) {
        self.refs.fetch_add(1, Ordering::Relaxed);
    }

    /// Gives up one reference of a handle that may be NULL.
    ///
    /// # Safety
    /// The caller owns the reference. No borrow of the loop's state is held.
    #[inline]
    pub(crate) unsafe fn release_ptr(handle: *const Handle) {
        // SAFETY: the reference keeps it alive.
        let Some(cell) = (unsafe { handle.as_ref() }) else { return };
        let mut count = cell.refs.load(Ordering::Acquire);
        while count > 1 {
            match cell.refs.compare_exchange_weak(count, count - 1, Ordering::Release, Ordering::Acquire) {
                Ok(_) => return,
                Err(now) => count = now,
            }
        }
        // SAFETY: the caller's reference is the only one, but for what a weak reference may make.
        unsafe {
            if cell.owner().is_owned_here() {
                Handle::release_last(handle);
            } else {
                lifetime::give_back(cell.event_loop(), handle);
            }
        }
    }

    /// [`Handle::release_ptr`] where nothing but the cell's memory is left to give back; false: nothing was done.
    ///
    /// # Safety
    /// As [`Handle::release_ptr`].
    #[inline]
    pub(crate) unsafe fn release_fast(handle: *const Handle) -> bool {
        // SAFETY: the reference keeps it alive.
        let Some(cell) = (unsafe { handle.as_ref() }) else { return true };
        let last = cell.refs.load(Ordering::Acquire) == 1 && !cell.extra.load(Ordering::Acquire);
        if !last || !cell.owner().is_owned_here() {
            return false;
        }
        if !cell.has(HELD) {
            if !cell.is_bare() {
                return false;
            }
            // Neither the host nor the loop has it, and it has nothing of the host.
            Owned::running(cell.owner()).with(|state| state.free_own(handle));
            return true;
        }
        cell.refs.store(0, Ordering::Relaxed);
        true
    }

    /// Gives up a reference that was the only one, on the owner's thread.
    ///
    /// # Safety
    /// As [`Handle::release_ptr`]; this thread owns the loop.
    #[inline]
    pub(crate) unsafe fn release_last(handle: *const Handle) {
        // SAFETY: by this function's contract.
        if let Some(remains) = unsafe { Handle::dissolve_last(handle) } {
            remains.release();
        }
    }

    /// [`Handle::release_last`], but for what the host has to release.
    ///
    /// # Safety
    /// As [`Handle::release_last`].
    #[inline]
    pub(crate) unsafe fn dissolve_last(handle: *const Handle) -> Option<Remains> {
        // SAFETY: the reference keeps it alive.
        let cell = unsafe { &*handle };
        if !cell.extra.load(Ordering::Acquire) {
            // Nobody else can have one, nor make one.
            cell.refs.store(0, Ordering::Relaxed);
        } else if cell.refs.fetch_sub(1, Ordering::AcqRel) != 1 {
            return None;
        }
        if cell.has(HELD) {
            return None;
        }
        // SAFETY: neither the host nor the loop has it any more.
        unsafe { Handle::dissolve(handle, false) }
    }

    /// The loop has given up a hold: frees the cell if that was all that kept it.
    ///
    /// # Safety
    /// This thread owns the loop, and does not use the handle afterwards unless it has a reference.
    #[inline]
    pub(crate) unsafe fn settle(handle: *const Handle) {
        // SAFETY: a cell is freed by the owner only, which this thread is.
        let cell = unsafe { &*handle };
        if cell.refs.load(Ordering::Acquire) != 0 || cell.has(HELD) {
            return;
        }
        // Neither the host nor the loop has it any more.
        if cell.is_bare() {
            Owned::running(cell.owner()).with(|state| state.free_own(handle));
        } else {
            // SAFETY: as said.
            unsafe { Handle::destroy(handle, false) };
        }
    }

    /// Frees the cell, and what it has. `closed`: its loop is closed, and this is any thread.
    ///
    /// # Safety
    /// There is no reference and no hold; this thread found that out, and so no other one will.
    pub(crate) unsafe fn destroy(handle: *const Handle, closed: bool) {
        // SAFETY: by this function's contract.
        if let Some(remains) = unsafe { Handle::dissolve(handle, closed) } {
            remains.release();
        }
    }

    /// [`Handle::destroy`], but for what the host has to release: that is returned. None when a weak reference has
    /// brought the handle back meanwhile.
    ///
    /// # Safety
    /// As [`Handle::destroy`].
    #[inline]
    pub(crate) unsafe fn dissolve(handle: *const Handle, closed: bool) -> Option<Remains> {
        // SAFETY: nobody else frees it.
        let cell = unsafe { &*handle };
        if cell.extra.load(Ordering::Acquire) && !cell.drop_extra() {
            return None;
        }
        let free = cell.free.get().filter(|_| cell.owes_arg() && !cell.mark_released());
        let remains = Remains { arg: cell.arg.get(), free, context: cell.context.replace(Word::NONE) };
        // SAFETY: as above.
        unsafe { lifetime::free_cell(cell.event_loop(), handle, closed) };
        Some(remains)
    }

    /// Weak references answer NULL from here on; false when one of them was upgraded meanwhile.
    #[cold]
    fn drop_extra(&self) -> bool {
        let weak = self.with_extra(|extra| extra.and_then(|extra| extra.weak.clone()));
        if let Some(weak) = weak {
            let _lock = WEAK.lock();
            if self.refs.load(Ordering::Acquire) != 0 {
                return false;
            }
            weak.0.set(std::ptr::null());
        }
        // Dropped outside of the lock.
        let extra = self.owner().extras.lock().remove(&self.address());
        drop(extra);
        true
    }

    /// Releases arg, unless that was done. No borrow of the loop's state may be held. The host may give up the last
    /// reference meanwhile: whoever calls this and has none does not use the handle afterwards.
    #[inline]
    pub(crate) fn release_arg(&self) {
        if self.owes_arg() && !self.mark_released() {
            callback::release(self.arg.get(), self.free.get());
        }
    }

    /// Whether arg was released before. On a closed loop, several threads may ask at once.
    fn mark_released(&self) -> bool {
        if self.owner().is_owned_here() {
            let before = self.owes.load(Ordering::Relaxed);
            self.owes.store(before & !ARG, Ordering::Relaxed);
            before & ARG == 0
        } else {
            self.owes.fetch_and(!ARG, Ordering::AcqRel) & ARG == 0
        }
    }

    /// Whether nothing but its memory is left to give back, when nobody has it any more.
    #[inline]
    fn is_bare(&self) -> bool {
        self.owes.load(Ordering::Acquire) == 0 && !self.extra.load(Ordering::Acquire) && !self.page().shared
    }

    /// Whether there is an arg to release.
    #[inline]
    pub(crate) fn owes_arg(&self) -> bool {
        self.owes.load(Ordering::Relaxed) & ARG != 0
    }

    /// Its context was made something, or may have been.
    #[cold]
    pub(crate) fn note_context(&self) {
        self.owes.fetch_or(CONTEXT, Ordering::AcqRel);
    }

    fn address(&self) -> usize {
        std::ptr::from_ref(self) as usize
    }

    /// Looks at what only few handles have.
    pub(crate) fn with_extra<R>(&self, f: impl FnOnce(Option<&Extra>) -> R) -> R {
        if !self.extra.load(Ordering::Acquire) {
            return f(None);
        }
        f(self.owner().extras.lock().get(&self.address()))
    }

    /// Changes what only few handles have.
    pub(crate) fn change_extra<R>(&self, f: impl FnOnce(&mut Extra) -> R) -> R {
        let mut extras = self.owner().extras.lock();
        self.extra.store(true, Ordering::Release);
        f(extras.entry(self.address()).or_default())
    }

    pub(crate) fn set_name(&self, name: Option<&str>) {
        if name.is_some() || self.extra.load(Ordering::Acquire) {
            self.change_extra(|extra| extra.name = name.map(str::to_owned));
        }
    }

    /// The return addresses of the stack that made it (debug mode).
    pub(crate) fn traceback(&self) -> Vec<usize> {
        self.with_extra(|extra| extra.map_or(Vec::new(), |extra| extra.traceback.to_vec()))
    }

    pub(crate) fn traceback_text(&self) -> String {
        debug::symbolise(&self.traceback())
    }

    /// `Handle.__repr__`.
    pub(crate) fn repr(&self) -> String {
        let timer = self.has(TIMER);
        let mut text = String::from(if timer { "<TimerHandle" } else { "<Handle" });
        self.with_extra(|extra| {
            if let Some(name) = extra.and_then(|extra| extra.name.as_deref()) {
                let _ = write!(text, " {name}");
            }
        });
        if self.is_cancelled() {
            text.push_str(" cancelled");
        }
        if timer {
            let _ = write!(text, " when={}", self.when());
        }
        if self.has(WATCH | SIGNAL) {
            let kind = if self.has(SIGNAL) {
                "signal"
            } else if self.has(WRITER) {
                "writer"
            } else {
                "reader"
            };
            let _ = write!(text, " {kind}={}", self.when());
        }
        if let Some(function) = self.function.get() {
            let _ = write!(text, " callback={}", debug::function_name(function as usize));
        }
        let _ = write!(text, " at {:#x}>", self.address());
        text
    }

    /// `TimerHandle.__eq__`: cancelled ones have lost their callback there, and so do not differ by it.
    pub(crate) fn equals(&self, other: &Handle) -> bool {
        let same_callback = || {
            let address = |handle: &Handle| handle.function.get().map_or(0, |function| function as usize);
            address(self) == address(other) && self.arg.get() == other.arg.get()
        };
        self.when() == other.when()
            && self.is_cancelled() == other.is_cancelled()
            && (self.is_cancelled() || same_callback())
    }

    /// `TimerHandle.__hash__`.
    pub(crate) fn hash(&self) -> u64 {
        let mixed = (self.when() as u64 ^ 0x9e37_79b9_7f4a_7c15).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed ^ (mixed >> 31)
    }

    /// Makes a weak reference.
    pub(crate) fn downgrade(&self) -> WeakHandle {
        WeakHandle(
            self.change_extra(|extra| extra.weak.get_or_insert_with(|| Arc::new(WeakTarget(Cell::new(self)))).clone()),
        )
    }
}

impl WeakHandle {
    /// A new reference to the handle, or NULL when it is gone.
    pub(crate) fn upgrade(&self) -> *const Handle {
        let _lock = WEAK.lock();
        let target = self.0.0.get();
        // SAFETY: the handle clears this, under the lock, before its cell is freed.
        let Some(handle) = (unsafe { target.as_ref() }) else { return std::ptr::null() };
        let raise = |count| {
            // What an open loop holds can be had again; on a closed one, no references means that it is going.
            (count > 0 || !handle.owner().is_closed()).then_some(count + 1)
        };
        match handle.refs.fetch_update(Ordering::AcqRel, Ordering::Acquire, raise) {
            Ok(_) => target,
            Err(_) => std::ptr::null(),
        }
    }
}
