//! What the ready queue and the inbox hold: a callback's four words, packed into one slot of two words or, where there is something to release
//! or a context, into two slots.
//!
//! A first slot tells by its function what it is: without one, a handle; with the highest bit set, which no function's address has where
//! addresses are of 64 bits, the first of two. Where addresses are shorter, every callback takes two.

use std::ffi::c_void;
use std::mem;

use super::callback::CallFn;
use super::context::Word;
use super::handle::Handle;

/// A callback that is ready: either its four words, or (without a function) a handle as `arg`.
#[derive(Clone, Copy)]
pub(crate) struct Entry {
    pub(crate) function: Option<CallFn>,
    pub(crate) arg: *mut c_void,
    pub(crate) free: Option<CallFn>,
    pub(crate) context: Word,
}

/// One of the one or two pieces that an entry is kept in.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Slot {
    function: *const (),
    arg: *mut c_void,
}

/// What a second slot holds.
#[repr(C)]
struct Rest {
    free: Option<CallFn>,
    context: Word,
}

const _: () = assert!(size_of::<Rest>() == size_of::<Slot>() && align_of::<Rest>() == align_of::<Slot>());

/// Marks a function in the first of two slots.
const LONG: usize = if cfg!(target_pointer_width = "64") { 1usize.rotate_right(1) } else { 0 };

/// How many slots an entry takes at most.
pub(crate) const SLOTS: usize = 2;

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

    /// The entry in one slot, if it fits there.
    #[inline]
    pub(crate) fn short(&self) -> Option<Slot> {
        match self.function {
            None => Some(Slot::of(self.arg.cast_const().cast())),
            Some(function) if LONG != 0 && self.free.is_none() && self.context.is_none() => {
                Some(Slot::new(function, self.arg))
            }
            Some(_) => None,
        }
    }

    /// The entry in two slots, which it must have a function for.
    #[inline]
    pub(crate) fn long(&self) -> (Slot, Slot) {
        let function = self.function.map_or(std::ptr::null(), |function| function as *const ());
        let first = Slot { function: function.map_addr(|address| address | LONG), arg: self.arg };
        let rest = Rest { free: self.free, context: self.context };
        // SAFETY: both are two words, and any words are a slot.
        (first, unsafe { mem::transmute::<Rest, Slot>(rest) })
    }
}

impl Slot {
    /// A function without anything to release or a context. Only where addresses leave room for the mark: see [`Entry::short`].
    #[inline]
    pub(crate) fn new(function: CallFn, arg: *mut c_void) -> Slot {
        Slot { function: function as *const (), arg }
    }

    /// One count of `handle`; NULL: nothing.
    #[inline]
    pub(crate) fn of(handle: *const Handle) -> Slot {
        Slot { function: std::ptr::null(), arg: handle.cast_mut().cast() }
    }

    /// The function of a callback that takes one slot, and its argument.
    #[inline]
    pub(crate) fn callback(self) -> Option<(CallFn, *mut c_void)> {
        if LONG == 0 || self.function.addr().cast_signed() <= 0 {
            return None;
        }
        // SAFETY: neither NULL nor marked, it is a function as it came.
        Some((unsafe { mem::transmute::<*const (), CallFn>(self.function) }, self.arg))
    }

    /// Whether a second slot follows.
    #[inline]
    pub(crate) fn is_long(self) -> bool {
        if LONG == 0 { !self.function.is_null() } else { self.function.addr().cast_signed() < 0 }
    }

    /// The handle, where this is one.
    #[inline]
    pub(crate) fn handle(self) -> Option<*const Handle> {
        if self.function.is_null() { Some(self.arg.cast_const().cast()) } else { None }
    }

    /// The entry that this slot holds.
    ///
    /// # Safety
    /// It is no second slot; `rest` gives the one that follows, when there is one.
    #[inline]
    pub(crate) unsafe fn entry(self, rest: impl FnOnce() -> Slot) -> Entry {
        if !self.is_long() {
            let callback = self.callback();
            return Entry { function: callback.map(|(f, _)| f), arg: self.arg, free: None, context: Word::NONE };
        }
        // SAFETY: by this function's contract both came from `Entry::long`, and neither the function nor what `Rest` has was changed
        // but for the mark.
        unsafe {
            let function =
                mem::transmute::<*const (), Option<CallFn>>(self.function.map_addr(|address| address & !LONG));
            let Rest { free, context } = mem::transmute::<Slot, Rest>(rest());
            Entry { function, arg: self.arg, free, context }
        }
    }
}
