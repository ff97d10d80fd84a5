//! The ready queue: a ring of slots whose size is a power of two.

use std::alloc::{self, Layout};
use std::ffi::c_void;

use super::arena::prefetch_line;
use super::callback::CallFn;
use super::entry::{Entry, SLOTS, Slot};
use super::handle::Handle;
use crate::error::{Error, Result};

/// The queue. Positions count up for ever and wrap; a place in the buffer is a position's low bits.
pub(crate) struct Ready {
    buffer: *mut Slot,
    /// How many slots there can be, and the mask for their places; both kept, so that pushing needs fewer registers.
    capacity: usize,
    mask: usize,
    head: usize,
    tail: usize,
    /// How many slots are the second ones of their entries.
    seconds: usize,
}

impl Ready {
    pub(crate) const fn new() -> Self {
        Ready { buffer: std::ptr::null_mut(), capacity: 0, mask: 0, head: 0, tail: 0, seconds: 0 }
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.tail == self.head
    }

    /// How many entries there are.
    pub(crate) fn len(&self) -> usize {
        self.slots() - self.seconds
    }

    /// How many slots they take.
    #[inline]
    pub(crate) fn slots(&self) -> usize {
        self.tail.wrapping_sub(self.head)
    }

    /// Whether there is no room for one slot more.
    #[inline]
    pub(crate) fn is_full(&self) -> bool {
        self.slots() == self.capacity
    }

    /// Appends where there is room.
    #[inline]
    fn put(&mut self, slot: Slot) {
        // SAFETY: the place is inside of the buffer and not in use.
        unsafe { self.buffer.add(self.tail & self.mask).write(slot) };
        self.tail = self.tail.wrapping_add(1);
    }

    /// Appends when there is room.
    #[inline]
    pub(crate) fn try_push(&mut self, slot: Slot) -> bool {
        let fits = !self.is_full();
        if fits {
            self.put(slot);
        }
        fits
    }

    /// Appends a callback that may have something to release, when there is room.
    #[inline]
    pub(crate) fn try_push_call(&mut self, function: CallFn, arg: *mut c_void, free: Option<CallFn>) -> bool {
        let entry = Entry { function: Some(function), arg, free, context: super::context::Word::NONE };
        if let Some(slot) = entry.short() {
            return self.try_push(slot);
        }
        let fits = self.capacity - self.slots() >= SLOTS;
        if fits {
            self.put_long(&entry);
        }
        fits
    }

    #[inline]
    fn put_long(&mut self, entry: &Entry) {
        let (first, second) = entry.long();
        self.put(first);
        self.put(second);
        self.seconds += 1;
    }

    /// Appends.
    #[inline]
    pub(crate) fn push(&mut self, entry: Entry) -> Result<()> {
        self.reserve(1)?;
        match entry.short() {
            Some(slot) => self.put(slot),
            None => self.put_long(&entry),
        }
        Ok(())
    }

    /// Makes room for `more` entries, so that as many pushes cannot fail.
    #[inline]
    pub(crate) fn reserve(&mut self, more: usize) -> Result<()> {
        let more = more.saturating_mul(SLOTS);
        if self.capacity - self.slots() < more { self.grow(more) } else { Ok(()) }
    }

    /// Takes the first slot. There must be one.
    ///
    /// # Safety
    /// `slots` is not 0.
    #[inline]
    pub(crate) unsafe fn take(&mut self) -> Slot {
        debug_assert!(!self.is_empty());
        // SAFETY: the place is inside of the buffer and was written by a push.
        let slot = unsafe { self.buffer.add(self.head & self.mask).read() };
        self.head = self.head.wrapping_add(1);
        slot
    }

    /// The entry that a slot just taken begins; takes the rest of it.
    ///
    /// # Safety
    /// `first` is what `take` gave last, as the first slot of an entry.
    #[inline]
    pub(crate) unsafe fn complete(&mut self, first: Slot) -> Entry {
        // SAFETY: an entry's second slot follows its first one.
        unsafe {
            first.entry(|| {
                self.seconds -= 1;
                self.take()
            })
        }
    }

    /// The slot at a position between head and tail.
    fn at(&self, position: usize) -> *mut Slot {
        // SAFETY: the place is inside of the buffer.
        unsafe { self.buffer.add(position & self.mask) }
    }

    /// Asks for the memory of handles that will be taken in a while, and of what their callbacks are called with: where many timers are
    /// due in another order than they were made in, most of it lies far apart.
    #[inline]
    pub(crate) fn look_ahead(&self) {
        const FAR: usize = 12;
        const NEAR: usize = 6;
        // Second slots do not tell that they are.
        if self.slots() <= FAR || self.seconds > 0 {
            return;
        }
        // SAFETY: both positions are before the tail, where slots were written by a push; a handle in the queue is kept by that.
        unsafe {
            if let Some(far) = (*self.at(self.head.wrapping_add(FAR))).handle() {
                prefetch_line(far.cast());
                prefetch_line(far.cast::<u8>().wrapping_add(size_of::<Handle>() - 1));
            }
            if let Some(near) = (*self.at(self.head.wrapping_add(NEAR))).handle()
                && !near.is_null()
            {
                let arg = (*near).arg.get().cast::<u8>();
                prefetch_line(arg);
                prefetch_line(arg.wrapping_add(64));
            }
        }
    }

    /// Empties the entry of a handle that was withdrawn.
    #[cold]
    pub(crate) fn forget(&mut self, handle: *const Handle) {
        let mut position = self.head;
        while position != self.tail {
            let slot = self.at(position);
            // SAFETY: it was written by a push.
            unsafe {
                if (*slot).handle() == Some(handle) {
                    *slot = Slot::of(std::ptr::null());
                }
                position = position.wrapping_add(1 + usize::from((*slot).is_long()));
            }
        }
    }

    /// The entries in their order, but for empty ones.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Entry> + '_ {
        let mut position = self.head;
        let entries = std::iter::from_fn(move || {
            if position == self.tail {
                return None;
            }
            // SAFETY: the slots were written by a push, the second one of an entry behind its first.
            let entry = unsafe {
                let first = *self.at(position);
                first.entry(|| {
                    position = position.wrapping_add(1);
                    *self.at(position)
                })
            };
            position = position.wrapping_add(1);
            Some(entry)
        });
        entries.filter(|entry| entry.handle().is_none_or(|handle| !handle.is_null()))
    }

    /// Makes room for `more` slots beyond those there are. What lies where it may stay is not copied.
    #[cold]
    fn grow(&mut self, more: usize) -> Result<()> {
        let (length, before) = (self.slots(), self.capacity);
        let wanted =
            length.checked_add(more).and_then(usize::checked_next_power_of_two).ok_or(Error::NO_MEMORY)?.max(64);
        let layout = Layout::array::<Slot>(wanted).map_err(|_| Error::NO_MEMORY)?;
        // SAFETY: the layout's size is not zero; a buffer was allocated here, with its capacity's layout.
        let buffer: *mut Slot = unsafe {
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
        unsafe { Layout::array::<Slot>(capacity).unwrap_unchecked() }
    }
}

impl Drop for Ready {
    fn drop(&mut self) {
        if !self.buffer.is_null() {
            // SAFETY: allocated by `grow` with this layout; slots need no drop.
            unsafe { alloc::dealloc(self.buffer.cast(), Self::layout(self.capacity)) };
        }
    }
}
