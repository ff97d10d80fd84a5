//! Where handles live: pages of cells, in which a cell finds its loop by its address.
//!
//! A page keeps a bit for each of its cells that is free, and the arena a stack of the pages with such cells. Cells are taken
//! page by page, in the order of their addresses, whatever the order in which they were freed: that suits the caches, and no
//! cell has to be read before the next one is known.
//!
//! A loop has an arena of its own, used only by the thread that owns the loop, and one under a lock for handles that other threads
//! make. Pages are given back with the loop's memory.

use std::cell::Cell;
use std::mem::{align_of, size_of};
use std::ptr;

use super::chunk::Chunk;
use super::event_loop::EventLoop;
use super::handle::Handle;
use crate::error::{Error, Result};

/// Bytes of a page.
pub(crate) const PAGE: usize = 4096;
const HEADER: usize = 64;
const CELL: usize = size_of::<Handle>();
/// Cells in a page, and one more number: that of the place where the header is.
const PLACES: usize = (PAGE - HEADER) / CELL + 1;
/// Bytes between the places where pages may have their header. If all had it at their start, all headers would compete for
/// the same few lines of the caches.
const SHIFT: usize = 8 * CELL;
/// A slot is a chunk's number and, in these low bits, a cell's place in the chunk, in units of UNIT bytes.
const PLACE_BITS: u32 = 18;
const UNIT: usize = 8;
/// How many pages before they are wanted their headers are asked for.
const AHEAD: usize = 4;

const _: () = assert!(PLACES > 64 && PLACES < 128 && size_of::<Page>() <= HEADER && align_of::<Handle>() <= UNIT);
const _: () = assert!(HEADER == CELL + UNIT && SHIFT.is_multiple_of(HEADER) && 7 * SHIFT + HEADER <= PAGE);
const _: () = assert!(Chunk::LARGEST * PAGE / UNIT <= 1 << PLACE_BITS);

/// The header of a page. It stands between two cells, at an offset that depends on the page's address. Cells before it begin
/// at multiples of their size, those behind it 8 bytes later, and a cell's number is its offset divided by the size.
pub struct Page {
    /// A bit for each cell that is free. This and `is_open` are touched only by the thread that may use the arena.
    free: [Cell<u64>; 2],
    pub(crate) event_loop: *const EventLoop,
    first_slot: u32,
    /// Whether it is of the arena under the lock.
    pub(crate) shared: bool,
    /// Whether the arena's stack of open pages has it.
    is_open: Cell<bool>,
}

impl Page {
    /// The header of the page that has this address in it.
    #[inline]
    pub(crate) fn of(address: *const u8) -> *const Page {
        let address = address as usize;
        ((address & !(PAGE - 1)) + address / PAGE % 8 * SHIFT) as *const Page
    }

    /// The slot of a cell, by which [`Arena::at`] finds it.
    #[inline]
    pub(crate) fn slot_of(cell: &Handle) -> u32 {
        let offset = ptr::from_ref(cell) as usize & (PAGE - 1);
        // Less than 2^9: a page's part of the place.
        cell.page().first_slot + (offset / UNIT) as u32
    }

    /// The bits of a page whose cells are all free.
    fn all_free(&self) -> [u64; 2] {
        let header = (ptr::from_ref(self) as usize & (PAGE - 1)) / CELL;
        [!(1 << header), (1 << (PLACES - 64)) - 1]
    }

    /// Whether no cell is free.
    #[inline]
    fn is_full(&self) -> bool {
        self.free[0].get() | self.free[1].get() == 0
    }

    /// Takes the first free cell of a page that is not full.
    #[inline]
    fn take(&self) -> *const Handle {
        let word = usize::from(self.free[0].get() == 0);
        let free = self.free[word].get();
        self.free[word].set(free & (free - 1));
        self.cell(word * 64 + free.trailing_zeros() as usize)
    }

    /// Marks a cell as free.
    #[inline]
    fn put(&self, cell: *const Handle) {
        let place = (cell as usize & (PAGE - 1)) / CELL;
        let word = &self.free[place / 64];
        word.set(word.get() | 1 << (place % 64));
    }

    /// The cell of a number.
    #[inline]
    fn cell(&self, place: usize) -> *const Handle {
        let header = ptr::from_ref(self) as usize;
        let offset = place * CELL;
        let behind = usize::from(offset > header & (PAGE - 1));
        ((header & !(PAGE - 1)) + offset + behind * UNIT) as *const Handle
    }

    /// The cells that are not free.
    fn taken(&self) -> impl Iterator<Item = *const Handle> {
        let all = self.all_free();
        let is_taken = move |&place: &usize| {
            let (word, bit) = (place / 64, 1 << (place % 64));
            all[word] & !self.free[word].get() & bit != 0
        };
        (0..PLACES).filter(is_taken).map(|place| self.cell(place))
    }
}

/// Cells of one loop.
pub(crate) struct Arena {
    event_loop: *const EventLoop,
    shared: bool,
    chunks: Vec<Chunk>,
    pages: usize,
    /// A free cell that its page does not know as one, or NULL: where handles come and go one at a time, it is always this one.
    at_hand: *const Handle,
    /// Every page that has free cells, and some that had; each once. Has room for all pages.
    open: Vec<*const Page>,
    /// Pages of the last chunk that are not in use yet.
    spare: usize,
}

// SAFETY: an arena is used by the thread that owns its loop, or under a lock.
unsafe impl Send for Arena {}

impl Arena {
    pub(crate) fn new(event_loop: *const EventLoop, shared: bool) -> Self {
        Arena { event_loop, shared, chunks: Vec::new(), pages: 0, at_hand: ptr::null(), open: Vec::new(), spare: 0 }
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
        if let Some(cell) = self.take_near() {
            return Some(cell);
        }
        let page = self.next_open()?;
        // SAFETY: pages live as long as the arena, which this thread may use.
        Some(unsafe { (*page).take() })
    }

    /// Takes a free cell that is near: the one that was put back last, or one of the same page as the last one.
    #[inline]
    pub(crate) fn take_near(&mut self) -> Option<*const Handle> {
        if !self.at_hand.is_null() {
            return Some(std::mem::replace(&mut self.at_hand, ptr::null()));
        }
        let page = *self.open.last()?;
        // SAFETY: pages live as long as the arena, which this thread may use.
        unsafe { if (*page).is_full() { None } else { Some((*page).take()) } }
    }

    /// The last of the open pages is full: drops it, and those before it that are. None when all are.
    #[inline(never)]
    fn next_open(&mut self) -> Option<*const Page> {
        loop {
            // SAFETY: as in `take_free`.
            unsafe { (*self.open.pop()?).is_open.set(false) };
            let page = *self.open.last()?;
            // Where few cells of each page are free, this is done for every cell that is taken.
            if let Some(at) = self.open.len().checked_sub(AHEAD) {
                prefetch_line(self.open[at].cast());
            }
            // SAFETY: as in `take_free`.
            if unsafe { !(*page).is_full() } {
                return Some(page);
            }
        }
    }

    /// Puts a cell back that nobody has any more.
    #[inline]
    pub(crate) fn put(&mut self, cell: *const Handle) {
        if self.at_hand.is_null() {
            self.at_hand = cell;
            return;
        }
        let page = Page::of(cell.cast());
        // SAFETY: pages live as long as the arena, which this thread may use.
        let header = unsafe { &*page };
        header.put(cell);
        if !header.is_open.replace(true) {
            debug_assert!(self.open.len() < self.open.capacity());
            // SAFETY: `grow` has made room for every page, and each is there once.
            unsafe {
                self.open.as_mut_ptr().add(self.open.len()).write(page);
                self.open.set_len(self.open.len() + 1);
            }
        }
    }

    /// The cell of a slot.
    #[inline]
    pub(crate) fn at(&self, slot: u32) -> *const Handle {
        let place = (slot & ((1 << PLACE_BITS) - 1)) as usize;
        // SAFETY: slots are made by `Page::slot_of` for cells of these chunks.
        unsafe { self.chunks.get_unchecked((slot >> PLACE_BITS) as usize).start().add(place * UNIT).cast() }
    }

    /// Asks for a cell and for what [`Arena::put`] touches.
    #[inline]
    pub(crate) fn prefetch(&self, slot: u32) {
        prefetch(self.at(slot));
        prefetch_line(Page::of(self.at(slot).cast()).cast());
    }

    /// Every cell that is in use.
    pub(crate) fn live(&self) -> Vec<*const Handle> {
        let last = self.chunks.len().wrapping_sub(1);
        let pages = self.chunks.iter().enumerate().flat_map(|(at, chunk)| {
            let used = chunk.pages() - if at == last { self.spare } else { 0 };
            (0..used).map(move |page| Page::of(chunk.start().wrapping_add(page * PAGE)))
        });
        // SAFETY: as in `take_free`; and a cell that is not free was filled when it was taken.
        unsafe {
            let cells = pages.flat_map(|page| (*page).taken()).filter(|&cell| cell != self.at_hand);
            cells.filter(|&cell| (*cell).is_alive()).collect()
        }
    }

    #[cold]
    fn grow(&mut self) -> Result<()> {
        // So that `put` never asks for memory.
        let room = self.pages + 1 - self.open.len();
        self.open.try_reserve(room).map_err(|_| Error::NO_MEMORY)?;
        if self.spare == 0 {
            if self.chunks.len() >= 1 << (u32::BITS - PLACE_BITS) {
                return Err(Error::NO_MEMORY);
            }
            self.chunks.try_reserve(1).map_err(|_| Error::NO_MEMORY)?;
            let pages = self.chunks.last().map_or(1, |chunk| (chunk.pages() * 2).min(Chunk::LARGEST));
            self.chunks.push(Chunk::new(pages).ok_or(Error::NO_MEMORY)?);
            self.spare = pages;
        }
        let Some(chunk) = self.chunks.last() else { return Err(Error::NO_MEMORY) };
        let offset = (chunk.pages() - self.spare) * PAGE;
        // Fits: the numbers of chunks and units are limited to its bits.
        let first_slot = (((self.chunks.len() - 1) << PLACE_BITS) | (offset / UNIT)) as u32;
        let page = Page::of(chunk.start().wrapping_add(offset));
        let header = Page {
            free: [Cell::new(0), Cell::new(0)],
            event_loop: self.event_loop,
            first_slot,
            shared: self.shared,
            is_open: Cell::new(true),
        };
        // SAFETY: the chunk has `pages` pages, of which the last `spare` are unused; a page has room for the header.
        unsafe {
            page.cast_mut().write(header);
            let [low, high] = (*page).all_free();
            (*page).free[0].set(low);
            (*page).free[1].set(high);
        }
        self.open.push(page);
        self.pages += 1;
        self.spare -= 1;
        Ok(())
    }
}

/// Asks for a cell, which may lie in two cache lines, to be brought near.
#[inline]
pub(crate) fn prefetch(cell: *const Handle) {
    prefetch_line(cell.cast());
    prefetch_line(cell.cast::<u8>().wrapping_add(CELL - 1));
}

/// Asks for a cache line. The address may be any.
#[inline]
pub(crate) fn prefetch_line(address: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint, for any address.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(address.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}
