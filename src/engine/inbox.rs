//! What other threads send: callbacks for the loop, and the wake-up that goes with them.
//!
//! A stack to which senders push by one compare-and-swap, and which the loop takes as a whole and turns round, so that what one thread
//! sends keeps its order. Senders take their nodes from a block of their own; a block is freed when all its nodes are consumed.
//!
//! A push and a wake-up cannot miss each other: the sender pushes, then looks whether the loop sleeps; the loop says that it
//! sleeps, then looks whether something was pushed. These four are sequentially consistent. Outside of a run the loop counts as asleep,
//! because a host may be waiting on its descriptor.

use std::alloc::{self, Layout};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, AtomicU32, Ordering};

use super::callback::{Callback, FreeArg};
use super::context::Captured;
use super::event_loop::EventLoop;
use super::handle::{COUNTED, Handle, ONE_SHOT, QUEUED};
use super::ready::Entry;
use super::thread;
use crate::error::{Error, Result};
use crate::poller;

/// Nodes in a block.
const NODES: usize = 84;

/// What is sent.
struct Node {
    next: *mut Node,
    block: *mut Block,
    entry: Entry,
}

/// Nodes of one sending thread, used from first to last.
struct Block {
    /// Nodes that are not consumed yet, used or not.
    left: AtomicU32,
    nodes: [Node; NODES],
}

/// A thread's block, and how many of its nodes are used.
pub(crate) struct Sender {
    block: *mut Block,
    used: usize,
}

impl Sender {
    pub(crate) const fn new() -> Self {
        Sender { block: ptr::null_mut(), used: NODES }
    }

    /// Takes a node that is not in use.
    #[inline]
    fn take(&mut self) -> Result<*mut Node> {
        if self.used == NODES {
            self.renew()?;
        }
        // SAFETY: the block is there as long as one of its nodes is not consumed, and this one was not even used.
        let node = unsafe { (&raw mut (*self.block).nodes).cast::<Node>().add(self.used) };
        self.used += 1;
        Ok(node)
    }

    /// The node that was taken last was not used.
    fn put_back(&mut self) {
        self.used -= 1;
    }

    #[cold]
    fn renew(&mut self) -> Result<()> {
        // SAFETY: the layout's size is not zero; every node is written before it is read.
        unsafe {
            let block = alloc::alloc(Layout::new::<Block>()).cast::<Block>();
            if block.is_null() {
                return Err(Error::NO_MEMORY);
            }
            (&raw mut (*block).left).write(AtomicU32::new(NODES as u32));
            *self = Sender { block, used: 0 };
        }
        thread::release_at_exit();
        Ok(())
    }

    /// The thread ends: what it has not used counts as consumed.
    pub(crate) fn release(&mut self) {
        let (block, unused) = (self.block, NODES - self.used);
        *self = Sender::new();
        if unused > 0 {
            consumed(block, unused as u32);
        }
    }
}

/// So many nodes of a block are not needed any more.
fn consumed(block: *mut Block, count: u32) {
    // SAFETY: the block is freed by whoever consumes the last of its nodes, which these are part of.
    unsafe {
        if (*block).left.fetch_sub(count, Ordering::AcqRel) == count {
            alloc::dealloc(block.cast(), Layout::new::<Block>());
        }
    }
}

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
        }
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        let head = self.head.0.load(Ordering::SeqCst);
        head.is_null() || head == closed()
    }

    /// Pushes, and wakes the loop if it sleeps. EVL_ECLOSED when it takes no more.
    #[inline]
    pub(super) fn push(&self, entry: Entry) -> Result<()> {
        let sender = &thread::current().sender;
        // SAFETY: only this thread touches its sender, and nothing here comes back to it.
        let sender = unsafe { &mut *sender.get() };
        let node = sender.take()?;
        let mut head = self.head.0.load(Ordering::Relaxed);
        loop {
            if head == closed() {
                sender.put_back();
                return Err(Error::CLOSED);
            }
            // SAFETY: the node is this thread's until it is pushed.
            unsafe { node.write(Node { next: head, block: sender.block, entry }) };
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
    pub(crate) fn take(&self) -> Posted {
        Posted::turned_round(self.head.0.swap(ptr::null_mut(), Ordering::SeqCst))
    }

    /// Refuses what comes from now on, and hands out what came.
    pub(crate) fn close(&self) -> Posted {
        Posted::turned_round(self.head.0.swap(closed(), Ordering::SeqCst))
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
pub(crate) struct Posted {
    next: *mut Node,
    /// The block of the nodes that were consumed last, and how many they were: told in one go.
    block: *mut Block,
    count: u32,
}

impl Posted {
    fn turned_round(mut node: *mut Node) -> Posted {
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
        Posted { next: turned, block: ptr::null_mut(), count: 0 }
    }

    fn settle(&mut self) {
        if self.count > 0 {
            consumed(self.block, self.count);
            self.count = 0;
        }
    }
}

impl Iterator for Posted {
    type Item = Entry;

    #[inline]
    fn next(&mut self) -> Option<Entry> {
        if self.next.is_null() {
            return None;
        }
        // SAFETY: the node is this thread's, and its block is there until it counts as consumed.
        let Node { next, block, entry } = unsafe { self.next.read() };
        if block != self.block {
            self.settle();
            self.block = block;
        }
        self.count += 1;
        self.next = next;
        Some(entry)
    }
}

impl Drop for Posted {
    fn drop(&mut self) {
        // What is left was not wanted: it is released.
        for entry in self.by_ref() {
            super::lifetime::release_posted(&entry);
        }
        self.settle();
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

/// Calls a function of ours on the loop's thread, in its place among posts; `arg` is released after that, or when the loop is
/// closed. A failure gives it back to the caller.
pub(crate) fn send(
    event_loop: &EventLoop,
    function: super::callback::CallFn,
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
pub(crate) fn post_internal(event_loop: &EventLoop, function: super::callback::CallFn) -> Result<()> {
    event_loop.check_open()?;
    let arg = std::ptr::from_ref(event_loop).cast_mut().cast();
    let entry = Entry { function: Some(function), arg, free: None, context: super::context::Word::NONE };
    if event_loop.is_owned_here() {
        return event_loop.enter()?.with(|state| state.ready.push(entry));
    }
    event_loop.inbox.push(entry)
}
