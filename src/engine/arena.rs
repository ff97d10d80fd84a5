//! Where handles live: pages of cells, aligned so that a cell finds its loop by its address.
//!
//! A loop has an arena of its own, used only by the thread that owns the loop, and one under a lock for handles that other threads
//! make. Pages are given back with the loop's memory.

use std::alloc::{self, Layout};
use std::mem::{align_of, size_of};
use std::ptr;
use std::sync::atomic::Ordering;

use super::event_loop::EventLoop;
use super::handle::Handle;
use crate::error::{Error, Result};

const PAGE: usize = 4096;
const HEADER: usize = 64;
/// Cells in a page.
pub(crate) const CELLS: usize = (PAGE - HEADER) / size_of::<Handle>();
/// A slot is a page's number and a cell's place in it.
const CELL_BITS: u32 = 7;
/// Pages are allocated in chunks that double, up to this many: the size of a huge page. Chunks that lie side by side share
/// huge pages, so that the many cells of a large loop are found without missing the address cache.
const LARGEST_CHUNK: usize = 512;

const _: () = assert!(CELLS <= 1 << CELL_BITS && size_of::<Page>() <= HEADER && align_of::<Handle>() <= HEADER);

/// What a page begins with; its cells follow at HEADER.
pub struct Page {
    pub(crate) event_loop: *const EventLoop,
    first_slot: u32,
    /// Whether it is of the arena under the lock.
    pub(crate) shared: bool,
}

impl Page {
    /// The page a cell lies in.
    #[inline]
    pub(crate) fn of(cell: &Handle) -> &Page {
        // SAFETY: every Handle lies in a page of PAGE bytes aligned to PAGE, whose header never changes; the page lives as long as its cells.
        unsafe { &*((ptr::from_ref(cell) as usize & !(PAGE - 1)) as *const Page) }
    }

    /// The slot of a cell, by which [`Arena::at`] finds it.
    #[inline]
    pub(crate) fn slot_of(cell: &Handle) -> u32 {
        let offset = (ptr::from_ref(cell) as usize & (PAGE - 1)) - HEADER;
        // Less than 2^7, as asserted above.
        Page::of(cell).first_slot + (offset / size_of::<Handle>()) as u32
    }
}

/// Cells of one loop.
pub(crate) struct Arena {
    event_loop: *const EventLoop,
    shared: bool,
    pages: Vec<*mut u8>,
    chunks: Vec<(*mut u8, usize)>,
    free: *const Handle,
    /// Pages of the last chunk that are not in use yet.
    spare: usize,
}

// SAFETY: an arena is used by the thread that owns its loop, or under a lock.
unsafe impl Send for Arena {}

impl Arena {
    pub(crate) fn new(event_loop: *const EventLoop, shared: bool) -> Self {
        Arena { event_loop, shared, pages: Vec::new(), chunks: Vec::new(), free: ptr::null(), spare: 0 }
    }

    /// Takes a free cell, whose contents are for [`Handle::fill`] to set.
    #[inline]
    pub(crate) fn take(&mut self) -> Result<*const Handle> {
        loop {
            if let Some(cell) = self.take_free() {
                return Ok(cell);
            }
            self.grow()?;
        }
    }

    /// Takes a free cell, if there is one without asking for memory.
    #[inline]
    pub(crate) fn take_free(&mut self) -> Option<*const Handle> {
        let cell = self.free;
        if cell.is_null() {
            return None;
        }
        // SAFETY: a cell of the free list is a live, unused cell, and its deadline is the link.
        self.free = unsafe { (*cell).deadline.load(Ordering::Relaxed) } as usize as *const Handle;
        // The next one is wanted soon, and cells that were freed in no order lie far from each other.
        prefetch(self.free);
        Some(cell)
    }

    /// Puts a cell back that nobody has any more.
    #[inline]
    pub(crate) fn put(&mut self, cell: *const Handle) {
        // SAFETY: the caller gives the cell up.
        unsafe {
            (*cell).deadline.store(self.free as usize as i64, Ordering::Relaxed);
            // No key may find it, and no walk over what lives.
            (*cell).init_free();
        }
        self.free = cell;
    }

    /// The cell of a slot.
    #[inline]
    pub(crate) fn at(&self, slot: u32) -> *const Handle {
        let place = (slot & ((1 << CELL_BITS) - 1)) as usize;
        // SAFETY: slots are made by `Page::slot_of` for cells of these pages.
        unsafe { self.pages.get_unchecked((slot >> CELL_BITS) as usize).add(HEADER).cast::<Handle>().add(place) }
    }

    /// Every cell that is in use.
    pub(crate) fn live(&self) -> Vec<*const Handle> {
        let cells = self.pages.iter().flat_map(|page| {
            // SAFETY: the page has CELLS cells after its header.
            (0..CELLS).map(move |place| unsafe { page.add(HEADER).cast::<Handle>().cast_const().add(place) })
        });
        // SAFETY: every cell of a page was initialised by `grow`.
        cells.filter(|cell| unsafe { (**cell).is_alive() }).collect()
    }

    #[cold]
    fn grow(&mut self) -> Result<()> {
        if self.spare == 0 {
            let pages = self.chunks.last().map_or(1, |chunk| (chunk.1 * 2).min(LARGEST_CHUNK));
            // SAFETY: the layout's size is not zero.
            let chunk = unsafe { alloc::alloc(Self::layout(pages)) };
            if chunk.is_null() {
                return Err(Error::NO_MEMORY);
            }
            #[cfg(target_os = "linux")]
            if pages == LARGEST_CHUNK {
                // SAFETY: a hint about memory that is ours; where it is not taken, nothing is different.
                unsafe { libc::madvise(chunk.cast(), pages * PAGE, libc::MADV_HUGEPAGE) };
            }
            self.chunks.push((chunk, pages));
            self.spare = pages;
        }
        let Some(&(chunk, pages)) = self.chunks.last() else { return Err(Error::NO_MEMORY) };
        let first_slot = u32::try_from(self.pages.len() << CELL_BITS).map_err(|_| Error::NO_MEMORY)?;
        // SAFETY: the chunk has `pages` pages, of which the last `spare` are unused; a page has room for the header and CELLS cells.
        unsafe {
            let page = chunk.add((pages - self.spare) * PAGE);
            page.cast::<Page>().write(Page { event_loop: self.event_loop, first_slot, shared: self.shared });
            self.pages.push(page);
            self.spare -= 1;
            for place in (0..CELLS).rev() {
                let cell = page.add(HEADER).cast::<Handle>().add(place);
                cell.write_bytes(0, 1);
                self.put(cell);
            }
        }
        Ok(())
    }

    fn layout(pages: usize) -> Layout {
        // SAFETY: PAGE is a power of two, and LARGEST_CHUNK pages are far from overflowing.
        unsafe { Layout::from_size_align_unchecked(pages * PAGE, PAGE) }
    }
}

/// Asks for a cell, which may lie in two cache lines, to be brought near.
#[inline]
pub(crate) fn prefetch(cell: *const Handle) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: hints, for any address.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(cell.cast());
        _mm_prefetch::<_MM_HINT_T0>(cell.cast::<i8>().wrapping_add(size_of::<Handle>() - 1));
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = cell;
}

impl Drop for Arena {
    fn drop(&mut self) {
        for &(chunk, pages) in &self.chunks {
            // SAFETY: allocated by `grow` with this layout, and no cell is in use when a loop's memory goes.
            unsafe { alloc::dealloc(chunk, Self::layout(pages)) };
        }
    }
}
