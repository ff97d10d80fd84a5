//! The ready queue: a ring whose size is a power of two.

use std::ffi::c_void;

use super::callback::CallFn;
use super::context::Word;
use super::handle::Handle;
use crate::error::{Error, Result};

/// A callback that is ready: either its four words, or (without a function) a handle as `arg`.
#[derive(Clone, Copy)]
pub(crate) struct Entry {
    pub(crate) function: Option<CallFn>,
    pub(crate) arg: *mut c_void,
    pub(crate) free: Option<CallFn>,
    pub(crate) context: Word,
}

impl Entry {
    /// An entry that holds one count of `handle`.
    #[inline]
    pub(crate) fn of(handle: *const Handle) -> Entry {
        Entry { function: None, arg: handle.cast_mut().cast(), free: None, context: Word::NONE }
    }

    /// The handle, where this is one.
    #[inline]
    pub(crate) fn handle(&self) -> Option<*const Handle> {
        if self.function.is_none() { Some(self.arg.cast_const().cast()) } else { None }
    }
}

/// The queue. Positions count up for ever and wrap; a place in the buffer is a position's low bits.
pub(crate) struct Ready {
    buffer: *mut Entry,
    mask: usize,
    head: usize,
    tail: usize,
}

impl Ready {
    pub(crate) const fn new() -> Self {
        // An empty buffer counts as full: head + 0 == tail.
        Ready { buffer: std::ptr::null_mut(), mask: usize::MAX, head: 0, tail: 0 }
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.tail.wrapping_sub(self.head)
    }

    fn capacity(&self) -> usize {
        self.mask.wrapping_add(1)
    }

    #[inline]
    pub(crate) fn is_full(&self) -> bool {
        self.len() == self.capacity()
    }

    /// Appends when there is room.
    #[inline]
    pub(crate) fn try_push(&mut self, entry: Entry) -> bool {
        if self.is_full() {
            return false;
        }
        // SAFETY: the place is inside of the buffer and not in use.
        unsafe { self.buffer.add(self.tail & self.mask).write(entry) };
        self.tail = self.tail.wrapping_add(1);
        true
    }

    /// Appends.
    #[inline]
    pub(crate) fn push(&mut self, entry: Entry) -> Result<()> {
        if self.try_push(entry) {
            return Ok(());
        }
        self.grow(1)?;
        self.try_push(entry);
        Ok(())
    }

    /// Makes room for `more` entries, so that as many pushes cannot fail.
    #[inline]
    pub(crate) fn reserve(&mut self, more: usize) -> Result<()> {
        if self.capacity() - self.len() < more { self.grow(more) } else { Ok(()) }
    }

    #[inline]
    pub(crate) fn pop(&mut self) -> Option<Entry> {
        if self.head == self.tail {
            return None;
        }
        // SAFETY: the place is inside of the buffer and was written by a push.
        let entry = unsafe { self.buffer.add(self.head & self.mask).read() };
        self.head = self.head.wrapping_add(1);
        Some(entry)
    }

    /// Empties the entry of a handle that was withdrawn.
    #[cold]
    pub(crate) fn forget(&mut self, handle: *const Handle) {
        for i in 0..self.len() {
            // SAFETY: the place is inside of the buffer and was written by a push.
            let entry = unsafe { &mut *self.buffer.add(self.head.wrapping_add(i) & self.mask) };
            if entry.handle() == Some(handle) {
                *entry = Entry::of(std::ptr::null());
            }
        }
    }

    /// The entries in their order, but for empty ones.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Entry> + '_ {
        // SAFETY: as in `pop`.
        let entries = (0..self.len()).map(|i| unsafe { self.buffer.add(self.head.wrapping_add(i) & self.mask).read() });
        entries.filter(|entry| entry.handle().is_none_or(|handle| !handle.is_null()))
    }

    #[cold]
    fn grow(&mut self, more: usize) -> Result<()> {
        let length = self.len();
        let wanted =
            length.checked_add(more).and_then(usize::checked_next_power_of_two).ok_or(Error::NO_MEMORY)?.max(32);
        let mut buffer: Vec<Entry> = Vec::new();
        buffer.try_reserve_exact(wanted).map_err(|_| Error::NO_MEMORY)?;
        buffer.extend(self.iter());
        let length = buffer.len();
        let buffer = std::mem::ManuallyDrop::new(buffer).as_mut_ptr();
        // The old buffer is freed by the drop of what is replaced.
        *self = Ready { buffer, mask: wanted - 1, head: 0, tail: length };
        Ok(())
    }
}

impl Drop for Ready {
    fn drop(&mut self) {
        if !self.buffer.is_null() {
            // SAFETY: made by `grow` as a Vec of exactly this capacity; entries need no drop.
            drop(unsafe { Vec::from_raw_parts(self.buffer, 0, self.capacity()) });
        }
    }
}
