//! Operations: futures with what they work on behind them. The loop keeps each until it is done.
//!
//! What an operation works on (its [`Work`]) is dropped when its future is done, or abandoned with the loop: there the host's
//! buffers, args and descriptors are given back.

use std::cell::UnsafeCell;
use std::ops::Deref;

use super::done::FIRST;
use super::future::{Class, Future, FutureRef, Outcome};
use crate::engine::event_loop::Owned;
use crate::error::Result;

/// What an operation works on. Touched by the loop's owner only.
pub(crate) trait Work: Sized + 'static {
    /// What `repr` and reports call its future.
    const NAME: &'static str;

    /// Withdraws what is under way. True: nothing can touch the caller's things any more, so that the future is done now; false: the
    /// operation ends by itself later, by [`Future::end`]. May be called again while that is awaited.
    fn cancel(lp: &Owned, operation: &Operation<Self>) -> bool;

    /// How many bytes it has sent, where that is told when it fails or is cancelled.
    fn progress(&self) -> Option<usize> {
        None
    }
}

/// A future, and what it works on.
#[repr(C)]
pub(crate) struct Operation<W: Work> {
    future: Future,
    work: UnsafeCell<Option<W>>,
}

/// A counted reference to an operation.
pub(crate) struct OperationRef<W: Work>(*const Operation<W>);

// SAFETY: a future may be referred to from any thread; its work is touched by the loop's owner only, or dropped by whoever has
// the last reference, when it is nobody's.
unsafe impl<W: Work> Send for OperationRef<W> {}

impl<W: Work> Operation<W> {
    const CLASS: &'static Class = &Class {
        queued: FIRST,
        name: W::NAME,
        cancel: |lp, future| W::cancel(lp, Operation::<W>::of(future)),
        finish: |future| drop(Operation::<W>::of(future).take_work()),
        // SAFETY: by the contract of `free`: it was made by `begin`.
        free: |future| drop(unsafe { Box::from_raw(future.cast_mut().cast::<Operation<W>>()) }),
        progress: |future| Operation::<W>::of(future).with(|work| work.progress()).flatten(),
        is_plain: false,
    };

    /// Begins an operation, which the loop keeps until it is done.
    pub(crate) fn begin(lp: &Owned, work: W) -> OperationRef<W> {
        let made = Operation { future: Future::begin(lp, Self::CLASS), work: UnsafeCell::new(Some(work)) };
        let operation = OperationRef(Box::into_raw(Box::new(made)));
        operation.future.keep(lp, abandon::<W>, false);
        operation
    }

    /// The operation that a future of this class is part of.
    fn of(future: &Future) -> &Operation<W> {
        // SAFETY: the class belongs to operations with this work, of which the future is the first part.
        unsafe { &*std::ptr::from_ref(future).cast() }
    }

    /// Looks at what it works on, while it is under way. `f` calls no code of the host, and nothing that comes here again.
    pub(crate) fn with<R>(&self, f: impl FnOnce(&mut W) -> R) -> Option<R> {
        // SAFETY: the owner's only, and by the rule above no second borrow is made.
        unsafe { (*self.work.get()).as_mut().map(f) }
    }

    /// Takes what it works on, which may have the host's code run when dropped.
    pub(crate) fn take_work(&self) -> Option<W> {
        // SAFETY: as above.
        unsafe { (*self.work.get()).take() }
    }

    /// It is done, or ends as a cancel or timeout under way wants it.
    pub(crate) fn end(&self, lp: &Owned, outcome: Outcome) -> Result<()> {
        self.future.end(lp, outcome.with_progress(|| self.with(|work| work.progress()).flatten()))
    }

    /// It could not begin: the loop gives it up, unseen by anybody. The caller has the only other reference.
    pub(crate) fn discard(&self, lp: &Owned) {
        let work = self.take_work();
        self.future.discard(lp);
        drop(work);
    }

    pub(crate) fn future(&self) -> &Future {
        &self.future
    }

    /// What [`OperationRef::from_pointer`] takes.
    pub(crate) fn pointer(&self) -> *mut std::ffi::c_void {
        std::ptr::from_ref(self).cast_mut().cast()
    }
}

/// The loop is closed.
///
/// # Safety
/// `object` is an operation with this work, and a reference that is given up.
unsafe fn abandon<W: Work>(object: *const ()) {
    // SAFETY: by this function's contract.
    let operation = OperationRef::<W>(object.cast());
    operation.future.forget_callbacks();
    drop(operation.take_work());
}

impl<W: Work> OperationRef<W> {
    /// Another reference.
    pub(crate) fn new(operation: &Operation<W>) -> OperationRef<W> {
        operation.future.retain();
        OperationRef(operation)
    }

    /// Takes over the reference that [`OperationRef::into_pointer`] gave away.
    ///
    /// # Safety
    /// `pointer` came from there, for the same work, and is given up.
    pub(crate) unsafe fn from_pointer(pointer: *mut std::ffi::c_void) -> OperationRef<W> {
        OperationRef(pointer.cast_const().cast())
    }

    /// Gives the reference away.
    pub(crate) fn into_pointer(self) -> *mut std::ffi::c_void {
        let pointer = self.0.cast_mut().cast();
        std::mem::forget(self);
        pointer
    }

    pub(crate) fn into_future(self) -> FutureRef {
        let pointer = self.0.cast();
        std::mem::forget(self);
        // SAFETY: the reference was this one's, and the future is the first part.
        unsafe { FutureRef::from_raw(pointer) }
    }
}

impl<W: Work> Deref for OperationRef<W> {
    type Target = Operation<W>;
    fn deref(&self) -> &Operation<W> {
        // SAFETY: the reference keeps it.
        unsafe { &*self.0 }
    }
}

impl<W: Work> Drop for OperationRef<W> {
    fn drop(&mut self) {
        // SAFETY: this owns the reference.
        unsafe { Future::release_ptr(self.0.cast()) };
    }
}
