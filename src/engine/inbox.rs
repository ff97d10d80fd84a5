//! What other threads send: callbacks for the loop, and the wake-up that goes with them.
//!
//! A stack to which senders push by one compare-and-swap, and which the loop takes as a whole and turns round, so that what one thread
//! sends keeps its order. Senders take their nodes from a block of their own; a block whose nodes are all consumed is used again
//! (`blocks`).
//!
//! A push and a wake-up cannot miss each other: the sender pushes, then looks whether the loop sleeps; the loop says that it
//! sleeps, then looks whether something was pushed. These four are sequentially consistent. Outside of a run the loop counts as asleep,
//! because a host may be waiting on its descriptor.

use std::ffi::c_void;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, AtomicU32, Ordering};

use super::blocks::{Block, Node, Sender, Spares};
use super::callback::{CallFn, Callback, FreeArg};
use super::context::Captured;
use super::entry::{Entry, SLOTS, Slot};
use super::event_loop::EventLoop;
use super::handle::{COUNTED, Handle, ONE_SHOT, QUEUED};
use super::thread;
use crate::error::{Error, Result};
use crate::poller;

/// A value that shares its cache line with no other, because many threads write it.
#[repr(align(128))]
struct Apart<T>(T);

/// Entries from other threads.
pub(crate) struct Inbox {
    /// What was pushed last, or `closed()`.
    head: Apart<AtomicPtr<Node>>,
    sleeping: Apart<AtomicBool>,
    /// What wakes the loop's poller, or -1.
    waker: AtomicI32,
    /// How many threads are using `waker` now.
    waking: AtomicU32,
    spares: Spares,
}

// SAFETY: an entry's words are the host's, which lets them travel to the loop's thread by posting them.
unsafe impl Send for Inbox {}
// SAFETY: it is made of atomics; nodes are reached by whoever took them off the stack.
unsafe impl Sync for Inbox {}

/// What stands for an inbox that takes no more.
fn closed() -> *mut Node {
    ptr::without_provenance_mut(align_of::<Node>())
}

impl Inbox {
    pub(crate) fn new() -> Self {
        Inbox {
            head: Apart(AtomicPtr::new(ptr::null_mut())),
            sleeping: Apart(AtomicBool::new(true)),
            waker: AtomicI32::new(-1),
            waking: AtomicU32::new(0),
            spares: Spares::new(),
        }
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        let head = self.head.0.load(Ordering::SeqCst);
        head.is_null() || head == closed()
    }

    /// Pushes, and wakes the loop if it sleeps. EVL_ECLOSED when it takes no more.
    pub(super) fn push(&self, entry: Entry) -> Result<()> {
        let sender = thread::current().sender.get();
        // SAFETY: only this thread touches its sender, and nothing here comes back to it; the nodes are this thread's until they are
        // pushed.
        unsafe {
            let Some(slot) = entry.short() else {
                let node = (*sender).take(2, &self.spares)?;
                ((*node).slot, (*node.add(1)).slot) = entry.long();
                return self.push_node(node).inspect_err(|_| (*sender).put_back(2));
            };
            self.push_short(&mut *sender, slot)
        }
    }

    /// Makes sure that this thread's next push does not fail for want of memory.
    fn reserve(&self) -> Result<()> {
        let sender = thread::current().sender.get();
        // SAFETY: only this thread touches its sender, and nothing here comes back to it.
        unsafe { (*sender).reserve(SLOTS, &self.spares) }
    }

    #[inline]
    fn push_short(&self, sender: &mut Sender, slot: Slot) -> Result<()> {
        let node = sender.take(1, &self.spares)?;
        // SAFETY: the node is this thread's until it is pushed.
        unsafe { (*node).slot = slot };
        let pushed = self.push_node(node);
        if pushed.is_err() {
            sender.put_back(1);
        }
        pushed
    }

    #[inline(always)]
    fn push_node(&self, node: *mut Node) -> Result<()> {
        let mut head = self.head.0.load(Ordering::Relaxed);
        loop {
            if head == closed() {
                return Err(Error::CLOSED);
            }
            // SAFETY: the node is this thread's until it is pushed.
            unsafe { (*node).next = head };
            match self.head.0.compare_exchange_weak(head, node, Ordering::SeqCst, Ordering::Relaxed) {
                Ok(_) => break,
                Err(now) => head = now,
            }
        }
        if self.sleeping.0.load(Ordering::SeqCst) {
            self.wake_sleeper();
        }
        Ok(())
    }

    #[cold]
    fn wake_sleeper(&self) {
        if self.sleeping.0.swap(false, Ordering::SeqCst) {
            self.wake();
        }
    }

    /// Wakes the loop's poller, whatever the loop does.
    pub(crate) fn wake(&self) {
        self.waking.fetch_add(1, Ordering::SeqCst);
        let waker = self.waker.load(Ordering::SeqCst);
        if waker >= 0 {
            poller::wake(waker);
        }
        self.waking.fetch_sub(1, Ordering::SeqCst);
    }

    /// Whether there is nothing yet that wakes the poller.
    pub(crate) fn lacks_waker(&self) -> bool {
        self.waker.load(Ordering::Relaxed) < 0
    }

    /// Changes what wakes the poller (-1: nothing), and waits until nobody is using the one before.
    pub(crate) fn set_waker(&self, waker: i32) {
        self.waker.store(waker, Ordering::SeqCst);
        while self.waking.load(Ordering::SeqCst) != 0 {
            std::thread::yield_now();
        }
    }

    /// In a child process: what wakes the loop is the parent's, and threads that were waking it are not here.
    pub(crate) fn detach(&self) {
        self.waker.store(-1, Ordering::SeqCst);
        self.waking.store(0, Ordering::SeqCst);
    }

    /// Takes everything that came, in its order.
    pub(crate) fn take(&self) -> Posted<'_> {
        Posted::turned_round(self, self.head.0.swap(ptr::null_mut(), Ordering::SeqCst))
    }

    /// Refuses what comes from now on, and hands out what came.
    pub(crate) fn close(&self) -> Posted<'_> {
        Posted::turned_round(self, self.head.0.swap(closed(), Ordering::SeqCst))
    }

    /// The loop is about to sleep: whether it may, because nothing has come.
    pub(crate) fn fall_asleep(&self) -> bool {
        self.sleeping.0.store(true, Ordering::SeqCst);
        self.is_empty()
    }

    pub(crate) fn wake_up(&self) {
        self.sleeping.0.store(false, Ordering::SeqCst);
    }
}

/// Entries that were taken, first come first.
pub(crate) struct Posted<'a> {
    spares: &'a Spares,
    next: *mut Node,
    /// The block of the nodes that were consumed last, and how many they were: told in one go.
    block: *mut Block,
    count: u32,
}

impl<'a> Posted<'a> {
    fn turned_round(inbox: &'a Inbox, mut node: *mut Node) -> Posted<'a> {
        let mut turned = ptr::null_mut();
        if node == closed() {
            node = ptr::null_mut();
        }
        while !node.is_null() {
            // SAFETY: the nodes were taken off the stack, and are this thread's.
            let next = unsafe { std::mem::replace(&mut (*node).next, turned) };
            turned = node;
            node = next;
        }
        Posted { spares: &inbox.spares, next: turned, block: ptr::null_mut(), count: 0 }
    }

    /// The next entry's first slot, and its second one if it has one.
    #[inline]
    pub(super) fn next_slots(&mut self) -> Option<(Slot, Option<Slot>)> {
        let node = self.next;
        if node.is_null() {
            return None;
        }
        // SAFETY: the node is this thread's, and its block is there until it counts as consumed. A second slot is in the node behind it.
        unsafe {
            let Node { next, block, slot } = node.read();
            if block != self.block {
                self.settle();
                self.block = block;
            }
            self.next = next;
            self.count += 1;
            if !slot.is_long() {
                return Some((slot, None));
            }
            self.count += 1;
            Some((slot, Some((*node.add(1)).slot)))
        }
    }

    fn settle(&mut self) {
        if self.count > 0 {
            // SAFETY: these nodes were taken, and are looked at no more.
            unsafe { Block::consume(self.block, self.count, Some(self.spares)) };
            self.count = 0;
        }
    }
}

impl Iterator for Posted<'_> {
    type Item = Entry;

    fn next(&mut self) -> Option<Entry> {
        let (first, second) = self.next_slots()?;
        // SAFETY: what was pushed together.
        Some(unsafe { first.entry(|| second.unwrap_or(first)) })
    }
}

impl Drop for Posted<'_> {
    fn drop(&mut self) {
        // What is left was not wanted: it is released.
        for entry in self.by_ref() {
            super::lifetime::release_posted(&entry);
        }
        self.settle();
    }
}

/// `call_soon_threadsafe` when nothing but two words need to be sent; false when it is not so simple, and nothing was done.
#[inline]
pub(crate) fn post_fast(event_loop: &EventLoop, function: CallFn, arg: *mut c_void) -> bool {
    if event_loop.is_owned_here()
        || event_loop.check_open().is_err()
        || event_loop.debug()
        || event_loop.hooks.is_some()
    {
        return false;
    }
    let thread = thread::current();
    // SAFETY: the thread's slot is valid; only this thread touches its sender, and nothing here comes back to it.
    unsafe {
        let short = Entry { function: Some(function), arg, free: None, context: *thread.context_slot() }.short();
        short.is_some_and(|slot| event_loop.inbox.push_short(&mut *thread.sender.get(), slot).is_ok())
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
    // First: a handle that cannot be sent could not be given back to the loop either.
    event_loop.inbox.reserve()?;
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

/// Calls a function of ours on the loop's thread, in its place among posts; `arg` is released after that, or when the loop is
/// closed. A failure gives it back to the caller.
pub(crate) fn send(
    event_loop: &EventLoop,
    function: CallFn,
    arg: FreeArg,
) -> std::result::Result<(), (Error, FreeArg)> {
    if let Err(error) = event_loop.check_open() {
        return Err((error, arg));
    }
    let (pointer, free) = arg.into_raw();
    let entry = Entry { function: Some(function), arg: pointer, free, context: super::context::Word::NONE };
    event_loop.inbox.push(entry).map_err(|error| (error, FreeArg::new(pointer, free)))
}

/// Has the loop's thread release something. False: it cannot, and nothing was done.
pub(crate) fn send_release(event_loop: &EventLoop, arg: FreeArg) -> bool {
    match send(event_loop, super::lifetime::nothing, arg) {
        Ok(()) => true,
        Err((_, arg)) => {
            let _ = arg.into_raw();
            false
        }
    }
}

/// Runs a function of ours on the loop's thread, in its place among posts. `arg` must not need releasing.
pub(crate) fn post_internal(event_loop: &EventLoop, function: CallFn) -> Result<()> {
    event_loop.check_open()?;
    let arg = std::ptr::from_ref(event_loop).cast_mut().cast();
    let entry = Entry { function: Some(function), arg, free: None, context: super::context::Word::NONE };
    if event_loop.is_owned_here() {
        return event_loop.enter()?.with(|state| state.ready.push(entry));
    }
    event_loop.inbox.push(entry)
}
