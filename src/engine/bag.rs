//! What a slot of the wheel has: an unordered bag of short keys, in blocks of a pool. It grows without moving what is in it, and
//! without leaving much room unused.

use std::ptr;

use super::arena::prefetch_line;
use crate::error::{Error, Result};

/// A key without the part of the deadline that its slot tells.
#[derive(Clone, Copy)]
pub(crate) struct Short {
    /// The deadline's lower half.
    pub(crate) low: u32,
    pub(crate) order: u32,
    pub(crate) slot: u32,
}

/// Keys in a block, which takes a little less than four cache lines.
const KEYS: u32 = 20;
/// Blocks that are allocated together.
const TOGETHER: usize = 64;

struct Block {
    /// The block of the bag that was filled before; in the pool, the next free one.
    before: *mut Block,
    keys: [Short; KEYS as usize],
}

impl Block {
    /// # Safety
    /// `block` is a block.
    #[inline]
    unsafe fn keys(block: *mut Block) -> *mut Short {
        // SAFETY: by this function's contract.
        unsafe { (&raw mut (*block).keys).cast() }
    }
}

/// Blocks for the bags of a wheel. They are given back with the pool.
pub(crate) struct Pool {
    all: Vec<Vec<Block>>,
    free: *mut Block,
    /// Blocks of the last piece that were never used.
    fresh: usize,
}

impl Pool {
    pub(crate) const fn new() -> Pool {
        Pool { all: Vec::new(), free: ptr::null_mut(), fresh: 0 }
    }

    #[inline]
    fn take(&mut self) -> Result<*mut Block> {
        let block = self.free;
        if block.is_null() {
            return self.take_fresh();
        }
        // SAFETY: it is a block of the pool, which nobody else has.
        self.free = unsafe { (*block).before };
        Ok(block)
    }

    fn take_fresh(&mut self) -> Result<*mut Block> {
        if self.fresh == 0 {
            let mut piece = Vec::new();
            piece.try_reserve_exact(TOGETHER).map_err(|_| Error::NO_MEMORY)?;
            self.all.try_reserve(1).map_err(|_| Error::NO_MEMORY)?;
            self.all.push(piece);
            self.fresh = TOGETHER;
        }
        let piece = self.all.last_mut().ok_or(Error::NO_MEMORY)?;
        self.fresh -= 1;
        Ok(piece.as_mut_ptr().wrapping_add(TOGETHER - 1 - self.fresh))
    }

    /// # Safety
    /// The block is of this pool, and nobody has it any more.
    #[inline]
    unsafe fn put(&mut self, block: *mut Block) {
        // SAFETY: by this function's contract.
        unsafe { (&raw mut (*block).before).write(self.free) };
        self.free = block;
    }
}

/// The bag. A block it has is never empty, and all but the last are full. All its functions get the same pool.
pub(crate) struct Bag {
    last: *mut Block,
    /// How many keys the last block has; as if it were full, when there is none.
    used: u32,
}

impl Bag {
    pub(crate) const fn new() -> Bag {
        Bag { last: ptr::null_mut(), used: KEYS }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.last.is_null()
    }

    #[inline]
    pub(crate) fn push(&mut self, pool: &mut Pool, key: Short) -> Result<()> {
        if self.used == KEYS {
            let block = pool.take()?;
            // SAFETY: it is this bag's now.
            unsafe { (&raw mut (*block).before).write(self.last) };
            (self.last, self.used) = (block, 0);
        }
        // SAFETY: the last block has room.
        unsafe { Block::keys(self.last).add(self.used as usize).write(key) };
        self.used += 1;
        Ok(())
    }

    /// The keys that are taken next, the first of them last.
    #[inline]
    pub(crate) fn last(&self) -> &[Short] {
        let used = if self.is_empty() { 0 } else { self.used as usize };
        // SAFETY: the last block has so many keys, which stay while the bag is not changed.
        unsafe { keys_of(self.last, used) }
    }

    /// Takes any key.
    #[inline]
    pub(crate) fn pop(&mut self, pool: &mut Pool) -> Option<Short> {
        let key = *self.last().last()?;
        self.used -= 1;
        if self.used == 0 {
            self.drop_last(pool);
        }
        Some(key)
    }

    /// Gives the last block back.
    #[inline]
    fn drop_last(&mut self, pool: &mut Pool) {
        let block = self.last;
        // SAFETY: it was this bag's, and the bag does not know it any more.
        unsafe {
            self.last = (*block).before;
            pool.put(block);
            if !self.last.is_null() {
                // The block before that will be wanted when this one has been looked at.
                prefetch_all((*self.last).before);
            }
        }
        self.used = KEYS;
    }

    /// Takes all keys, some at a time.
    #[inline]
    pub(crate) fn empty(&mut self, pool: &mut Pool, mut f: impl FnMut(&[Short])) {
        while !self.is_empty() {
            f(self.last());
            self.drop_last(pool);
        }
    }

    /// The keys, some at a time.
    pub(crate) fn pieces(&self) -> impl Iterator<Item = &[Short]> {
        let (mut block, mut used) = (self.last, self.used);
        std::iter::from_fn(move || {
            if block.is_null() {
                return None;
            }
            // SAFETY: blocks stay while the bag is not changed; all but the last are full.
            unsafe {
                let keys = keys_of(block, used as usize);
                (block, used) = ((*block).before, KEYS);
                Some(keys)
            }
        })
    }

    pub(crate) fn len(&self) -> usize {
        self.pieces().map(<[Short]>::len).sum()
    }

    /// Drops the keys that are not to be kept. `soon` sees keys before `keep` does.
    pub(crate) fn retain(&mut self, pool: &mut Pool, soon: impl Fn(&[Short]), keep: impl Fn(&Short) -> bool) {
        let mut old = std::mem::replace(self, Bag::new());
        let mut kept = [const { Short { low: 0, order: 0, slot: 0 } }; KEYS as usize];
        soon(old.last());
        while !old.is_empty() {
            if let Some(next) = old.pieces().nth(1) {
                soon(next);
            }
            let mut count = 0;
            for key in old.last() {
                kept[count] = *key;
                count += usize::from(keep(key));
            }
            old.drop_last(pool);
            for &key in &kept[..count] {
                // Cannot fail: the pool was given a block just now.
                let _ = self.push(pool, key);
            }
        }
    }
}

#[inline]
fn prefetch_all(block: *const Block) {
    for line in 0..size_of::<Block>().div_ceil(64) {
        prefetch_line(block.cast::<u8>().wrapping_add(line * 64));
    }
}

/// # Safety
/// The block has so many keys, and stays as it is for the lifetime.
#[inline]
unsafe fn keys_of<'a>(block: *mut Block, used: usize) -> &'a [Short] {
    if used == 0 {
        return &[];
    }
    // SAFETY: by this function's contract.
    unsafe { std::slice::from_raw_parts(Block::keys(block), used) }
}
