//! What other threads send: callbacks for the loop, and the wake-up that goes with them.
//!
//! A push and a wake-up cannot miss each other: the sender pushes, then looks whether the loop sleeps; the loop says that it sleeps, then looks whether
//! something was pushed. Outside of a run the loop counts as asleep, because a host may be waiting on its descriptor.

use std::sync::atomic::{AtomicBool, AtomicI32, AtomicUsize, Ordering, fence};

use parking_lot::Mutex;

use super::callback::Callback;
use super::context::Captured;
use super::event_loop::EventLoop;
use super::handle::{COUNTED, Handle, ONE_SHOT, QUEUED};
use super::ready::Entry;
use crate::error::{Error, Result};
use crate::poller;

/// Entries from other threads, in the order they came.
pub(crate) struct Inbox {
    entries: Mutex<Vec<Entry>>,
    count: AtomicUsize,
    closed: AtomicBool,
    sleeping: AtomicBool,
    waker: AtomicI32,
}

// SAFETY: an entry's words are the host's, which lets them travel to the loop's thread by posting them.
unsafe impl Send for Inbox {}
// SAFETY: the entries are under a lock.
unsafe impl Sync for Inbox {}

impl Inbox {
    pub(crate) fn new(waker: i32) -> Self {
        Inbox {
            entries: Mutex::new(Vec::new()),
            count: AtomicUsize::new(0),
            closed: AtomicBool::new(false),
            sleeping: AtomicBool::new(true),
            waker: AtomicI32::new(waker),
        }
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.count.load(Ordering::Acquire) == 0
    }

    pub(super) fn push(&self, entry: Entry) -> Result<()> {
        let mut entries = self.entries.lock();
        if self.closed.load(Ordering::Relaxed) {
            return Err(Error::CLOSED);
        }
        entries.try_reserve(1).map_err(|_| Error::NO_MEMORY)?;
        entries.push(entry);
        self.count.store(entries.len(), Ordering::Release);
        fence(Ordering::SeqCst);
        if self.sleeping.load(Ordering::Relaxed) && self.sleeping.swap(false, Ordering::Relaxed) {
            // Under the lock, so that the loop cannot close the descriptor meanwhile.
            poller::wake(self.waker.load(Ordering::Relaxed));
        }
        Ok(())
    }

    /// Takes everything that came.
    pub(crate) fn take(&self) -> Vec<Entry> {
        let mut entries = self.entries.lock();
        self.count.store(0, Ordering::Relaxed);
        std::mem::take(&mut *entries)
    }

    /// Puts what could not be queued back in front.
    pub(crate) fn put_back(&self, mut taken: Vec<Entry>) {
        let mut entries = self.entries.lock();
        taken.append(&mut entries);
        *entries = taken;
        self.count.store(entries.len(), Ordering::Release);
    }

    /// The loop is about to sleep: whether it may, because nothing has come.
    pub(crate) fn fall_asleep(&self) -> bool {
        self.sleeping.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        self.is_empty()
    }

    pub(crate) fn wake_up(&self) {
        self.sleeping.store(false, Ordering::Relaxed);
    }

    /// Wakes the loop's poller, whatever the loop does.
    pub(crate) fn wake(&self) {
        poller::wake(self.waker.load(Ordering::Relaxed));
    }

    /// The poller is another one now.
    pub(crate) fn set_waker(&self, waker: i32) {
        let _nobody_wakes_the_old_one = self.entries.lock();
        self.waker.store(waker, Ordering::Relaxed);
    }

    /// Refuses what comes from now on, and hands out what came.
    pub(crate) fn close(&self) -> Vec<Entry> {
        let mut entries = self.entries.lock();
        self.closed.store(true, Ordering::Relaxed);
        self.count.store(0, Ordering::Relaxed);
        std::mem::take(&mut *entries)
    }

    /// Holds the lock across fork, so that the child does not find it taken.
    pub(crate) fn lock_for_fork(&self) {
        std::mem::forget(self.entries.lock());
    }

    /// # Safety
    /// Ends a `lock_for_fork` of this thread.
    pub(crate) unsafe fn unlock_after_fork(&self) {
        // SAFETY: by this function's contract.
        unsafe { self.entries.force_unlock() };
    }
}

/// `loop.call_soon_threadsafe`. On the loop's own thread it keeps its place among the callbacks scheduled there.
pub(crate) fn post(
    event_loop: &EventLoop,
    callback: Callback,
    context: Captured,
    want_handle: bool,
) -> Result<*const Handle> {
    if event_loop.is_owned_here() {
        return event_loop.enter()?.call_soon(callback, context, want_handle);
    }
    event_loop.check_open()?;
    let function = callback.function.ok_or(Error::INVALID)?;
    if !want_handle && !event_loop.debug() {
        // The words stay owned by their guards until the push has succeeded.
        let (arg, free) = callback.arg.into_raw();
        let word = context.into_word();
        let entry = Entry { function: Some(function), arg, free, context: word };
        if let Err(error) = event_loop.inbox.push(entry) {
            word.release();
            super::callback::release(arg, free);
            return Err(error);
        }
        return Ok(std::ptr::null());
    }
    // One reference is the entry's.
    let flags = ONE_SHOT | QUEUED | COUNTED;
    let handle = event_loop.new_shared_handle(callback, context, flags, 1 + u32::from(want_handle))?;
    if let Err(error) = event_loop.inbox.push(Entry::of(handle)) {
        // SAFETY: both references were made here.
        unsafe {
            if want_handle {
                Handle::release_ptr(handle);
            }
            Handle::release_ptr(handle);
        }
        return Err(error);
    }
    Ok(if want_handle { handle } else { std::ptr::null() })
}

/// Runs a function of ours on the loop's thread, in its place among posts. `arg` must not need releasing.
pub(crate) fn post_internal(event_loop: &EventLoop, function: super::callback::CallFn) -> Result<()> {
    event_loop.check_open()?;
    let arg = std::ptr::from_ref(event_loop).cast_mut().cast();
    let entry = Entry { function: Some(function), arg, free: None, context: super::context::Word::NONE };
    if event_loop.is_owned_here() {
        return event_loop.enter()?.with(|state| state.ready.push(entry));
    }
    event_loop.inbox.push(entry)
}
