//! The memory of posts: nodes, in blocks that a sending thread fills from first to last, and that are used again when all their nodes are
//! consumed.

use std::alloc::{self, Layout};
use std::cell::UnsafeCell;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use super::entry::Slot;
use super::thread;
use crate::error::{Error, Result};

/// What is sent: a slot, or the first of two that stand side by side.
pub(super) struct Node {
    pub(super) next: *mut Node,
    pub(super) block: *mut Block,
    pub(super) slot: Slot,
}

/// Nodes in a block: it takes a little less than a page.
const NODES: usize = 126;

/// Nodes of one sending thread, used from first to last.
pub(super) struct Block {
    /// Nodes that are not consumed yet, used or not.
    left: AtomicU32,
    nodes: [Node; NODES],
}

impl Block {
    fn new() -> Result<*mut Block> {
        // SAFETY: the layout's size is not zero; what is written is inside of it.
        unsafe {
            let block = alloc::alloc(Layout::new::<Block>()).cast::<Block>();
            if block.is_null() {
                return Err(Error::NO_MEMORY);
            }
            for i in 0..NODES {
                (*(&raw mut (*block).nodes).cast::<Node>().add(i)).block = block;
            }
            Ok(block)
        }
    }

    /// So many nodes of a block are not needed any more.
    ///
    /// # Safety
    /// They are part of the block, and were not consumed before.
    pub(super) unsafe fn consume(block: *mut Block, count: u32, spares: Option<&Spares>) {
        // SAFETY: the block is there until the last of its nodes is consumed; whoever does that has it alone.
        unsafe {
            if (*block).left.fetch_sub(count, Ordering::AcqRel) == count
                && !spares.is_some_and(|spares| spares.put(block))
            {
                Block::free(block);
            }
        }
    }

    /// # Safety
    /// Nobody uses it.
    unsafe fn free(block: *mut Block) {
        // SAFETY: made by `new` with the same layout.
        unsafe { alloc::dealloc(block.cast(), Layout::new::<Block>()) };
    }
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

    /// Takes so many nodes that stand side by side and are not in use. Only their slots, and the first one's `next`, are to be written.
    #[inline]
    pub(super) fn take(&mut self, count: usize, spares: &Spares) -> Result<*mut Node> {
        self.reserve(count, spares)?;
        // SAFETY: the block is there as long as one of its nodes is not consumed, and these were not even used.
        let node = unsafe { (&raw mut (*self.block).nodes).cast::<Node>().add(self.used) };
        self.used += count;
        Ok(node)
    }

    /// Makes sure that so many nodes can be taken next.
    #[inline]
    pub(super) fn reserve(&mut self, count: usize, spares: &Spares) -> Result<()> {
        if NODES - self.used < count { self.renew(spares) } else { Ok(()) }
    }

    /// The nodes that were taken last were not used.
    pub(super) fn put_back(&mut self, count: usize) {
        self.used -= count;
    }

    #[cold]
    fn renew(&mut self, spares: &Spares) -> Result<()> {
        let block = match spares.take() {
            Some(block) => block,
            None => Block::new()?,
        };
        self.release();
        // SAFETY: nobody else has it.
        unsafe { (&raw mut (*block).left).write(AtomicU32::new(NODES as u32)) };
        *self = Sender { block, used: 0 };
        thread::release_at_exit();
        Ok(())
    }

    /// What the thread has not used counts as consumed.
    pub(crate) fn release(&mut self) {
        let (block, unused) = (self.block, NODES - self.used);
        *self = Sender::new();
        if unused > 0 {
            // SAFETY: nobody else knows them.
            unsafe { Block::consume(block, unused as u32, None) };
        }
    }
}

/// Blocks that wait to be used again: so many, so that a thread that posts at length asks the C library for none.
pub(super) struct Spares {
    taken: AtomicBool,
    /// How many there are, and which.
    list: UnsafeCell<(usize, [*mut Block; SPARES])>,
}

const SPARES: usize = 16;

// SAFETY: the list is touched only by who has set `taken`.
unsafe impl Sync for Spares {}
// SAFETY: blocks are anybody's.
unsafe impl Send for Spares {}

impl Spares {
    pub(super) const fn new() -> Self {
        Spares { taken: AtomicBool::new(false), list: UnsafeCell::new((0, [ptr::null_mut(); SPARES])) }
    }

    /// Looks at the list, unless somebody else does now: it is not worth waiting for, and in a forked child that may be for ever.
    fn with<R>(&self, f: impl FnOnce(&mut usize, &mut [*mut Block; SPARES]) -> Option<R>) -> Option<R> {
        if self.taken.swap(true, Ordering::Acquire) {
            return None;
        }
        // SAFETY: `taken` was not set before.
        let (count, blocks) = unsafe { &mut *self.list.get() };
        let result = f(count, blocks);
        self.taken.store(false, Ordering::Release);
        result
    }

    fn take(&self) -> Option<*mut Block> {
        self.with(|count, blocks| {
            *count = count.checked_sub(1)?;
            blocks.get(*count).copied()
        })
    }

    /// False: there are enough.
    fn put(&self, block: *mut Block) -> bool {
        self.with(|count, blocks| {
            *blocks.get_mut(*count)? = block;
            *count += 1;
            Some(())
        })
        .is_some()
    }
}

impl Drop for Spares {
    fn drop(&mut self) {
        while let Some(block) = self.take() {
            // SAFETY: it was a spare one.
            unsafe { Block::free(block) };
        }
    }
}
