//! Memory for pages of cells.
//!
//! Large loops take it in pieces of a huge page, where the system has such: their many cells are found without missing the
//! address cache.

use std::alloc::{self, Layout};

use super::arena::PAGE;

/// Pages that lie side by side, aligned to a page, and zeroed at first.
pub(crate) struct Chunk {
    start: *mut u8,
    pages: usize,
}

impl Chunk {
    /// Pages of the largest chunk: a huge page.
    pub(crate) const LARGEST: usize = 512;

    /// None without memory.
    pub(crate) fn new(pages: usize) -> Option<Chunk> {
        let start = if pages == Self::LARGEST && cfg!(target_os = "linux") {
            map_huge(pages * PAGE)
        } else {
            // SAFETY: the layout's size is not zero.
            unsafe { alloc::alloc_zeroed(Self::layout(pages)) }
        };
        (!start.is_null()).then_some(Chunk { start, pages })
    }

    #[inline]
    pub(crate) fn start(&self) -> *mut u8 {
        self.start
    }

    pub(crate) fn pages(&self) -> usize {
        self.pages
    }

    fn layout(pages: usize) -> Layout {
        // SAFETY: PAGE is a power of two, and LARGEST pages are far from overflowing.
        unsafe { Layout::from_size_align_unchecked(pages * PAGE, PAGE) }
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        if self.pages == Self::LARGEST && cfg!(target_os = "linux") {
            // SAFETY: mapped by `new` with this size, and no cell is in use when a loop's memory goes.
            unsafe { libc::munmap(self.start.cast(), self.pages * PAGE) };
        } else {
            // SAFETY: allocated by `new` with this layout, and as above.
            unsafe { alloc::dealloc(self.start, Self::layout(self.pages)) };
        }
    }
}

/// Maps `size` bytes, a power of two, aligned to their size; NULL without memory.
fn map_huge(size: usize) -> *mut u8 {
    let (access, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: twice as much is mapped, of which what lies before and after the aligned part is given back; the
    // hint is about memory that is ours, and where it is not taken, nothing is different.
    unsafe {
        let mapped = libc::mmap(std::ptr::null_mut(), size * 2, access, kind, -1, 0);
        if mapped == libc::MAP_FAILED {
            return std::ptr::null_mut();
        }
        let mapped = mapped.cast::<u8>();
        let before = (mapped as usize).wrapping_neg() & (size - 1);
        let start = mapped.add(before);
        if before > 0 {
            libc::munmap(mapped.cast(), before);
        }
        libc::munmap(start.add(size).cast(), size - before);
        #[cfg(target_os = "linux")]
        libc::madvise(start.cast(), size, libc::MADV_HUGEPAGE);
        start
    }
}
