//! Memory of objects that come and go often, kept for the next one of the same layout.

use std::alloc::{self, Layout};

/// How many pieces are kept.
const MOST: usize = 64;

/// Pieces of memory of one layout.
pub(crate) struct Spare {
    pieces: Vec<*mut u8>,
    layout: Option<Layout>,
}

impl Spare {
    pub(crate) const fn new() -> Self {
        Spare { pieces: Vec::new(), layout: None }
    }

    /// A piece for a `T`, from what is kept or from the allocator.
    #[inline]
    pub(crate) fn take<T>(&mut self) -> *mut T {
        if self.layout == Some(Layout::new::<T>())
            && let Some(piece) = self.pieces.pop()
        {
            return piece.cast();
        }
        allocate::<T>()
    }

    /// Keeps a piece that [`Spare::take`] gave. False: it is not kept, and stays the caller's.
    #[inline]
    pub(crate) fn put<T>(&mut self, piece: *mut T) -> bool {
        if self.pieces.len() == MOST || self.layout.is_some_and(|layout| layout != Layout::new::<T>()) {
            return false;
        }
        self.layout = Some(Layout::new::<T>());
        self.pieces.push(piece.cast());
        true
    }
}

/// Memory for a `T`, which has a size.
fn allocate<T>() -> *mut T {
    let layout = Layout::new::<T>();
    const { assert!(size_of::<T>() != 0) };
    // SAFETY: the layout's size is not zero.
    let piece = unsafe { alloc::alloc(layout) };
    if piece.is_null() {
        alloc::handle_alloc_error(layout);
    }
    piece.cast()
}

/// Gives a piece back to the allocator.
///
/// # Safety
/// It came from [`Spare::take`] for the same type, and nobody uses it.
pub(crate) unsafe fn free<T>(piece: *mut T) {
    // SAFETY: by this function's contract.
    unsafe { alloc::dealloc(piece.cast(), Layout::new::<T>()) };
}

impl Drop for Spare {
    fn drop(&mut self) {
        if let Some(layout) = self.layout {
            for piece in self.pieces.drain(..) {
                // SAFETY: each was allocated with this layout, and nobody uses it.
                unsafe { alloc::dealloc(piece, layout) };
            }
        }
    }
}
