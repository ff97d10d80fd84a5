//! The ready queue: a ring whose size is a power of two.

use std::alloc::{self, Layout};
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
    /// How many entries there can be, and the mask for their places; both kept, so that pushing needs fewer registers.
    capacity: usize,
    mask: usize,
    head: usize,
    tail: usize,
}

impl Ready {
    pub(crate) const fn new() -> Self {
        Ready { buffer: std::ptr::null_mut(), capacity: 0, mask: 0, head: 0, tail: 0 }
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.tail.wrapping_sub(self.head)
    }

    #[inline]
    pub(crate) fn is_full(&self) -> bool {
        self.len() == self.capacity
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
        if self.capacity - self.len() < more { self.grow(more) } else { Ok(()) }
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

    /// Makes room for `more` entries beyond those there are. What lies where it may stay is not copied.
    #[cold]
    fn grow(&mut self, more: usize) -> Result<()> {
        let (length, before) = (self.len(), self.capacity);
        let wanted =
            length.checked_add(more).and_then(usize::checked_next_power_of_two).ok_or(Error::NO_MEMORY)?.max(32);
        let layout = Layout::array::<Entry>(wanted).map_err(|_| Error::NO_MEMORY)?;
        // SAFETY: the layout's size is not zero; a buffer was allocated here, with its capacity's layout.
        let buffer: *mut Entry = unsafe {
            if self.buffer.is_null() {
                alloc::alloc(layout)
            } else {
                alloc::realloc(self.buffer.cast(), Self::layout(before), layout.size())
            }
        }
        .cast();
        if buffer.is_null() {
            return Err(Error::NO_MEMORY);
        }
        let head = self.head & self.mask;
        // SAFETY: what stood at the beginning because the end was reached moves behind that end: the buffer has twice the size
        // or more, and the two do not overlap.
        unsafe { buffer.add(before).copy_from_nonoverlapping(buffer, (head + length).saturating_sub(before)) };
        (self.buffer, self.capacity, self.mask) = (buffer, wanted, wanted - 1);
        (self.head, self.tail) = (head, head + length);
        Ok(())
    }

    fn layout(capacity: usize) -> Layout {
        // SAFETY: `grow` has made the same layout before.
        unsafe { Layout::array::<Entry>(capacity).unwrap_unchecked() }
    }
}

impl Drop for Ready {
    fn drop(&mut self) {
        if !self.buffer.is_null() {
            // SAFETY: allocated by `grow` with this layout; entries need no drop.
            unsafe { alloc::dealloc(self.buffer.cast(), Self::layout(self.capacity)) };
        }
    }
}
