//! Timers: which of the started ones is due next.
//!
//! A 4-ary heap of keys {deadline, order, slot}. Cancelling and moving leave the old key behind; it is stale, because the cell does not know it any
//! more, and is dropped when it comes up or when stale keys are the majority. Moving a deadline later leaves even the key: when it comes up
//! early, it is placed again.

use std::sync::atomic::Ordering;

use super::arena::{Arena, Page};
use super::handle::Handle;
use crate::error::{Error, Result};

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    deadline: i64,
    order: u32,
    slot: u32,
}

/// The started timers of a loop. Each is held by one count, which the caller manages.
pub(crate) struct Timers {
    heap: Vec<Key>,
    stale: usize,
    next_order: u32,
}

impl Timers {
    pub(crate) const fn new() -> Self {
        Timers { heap: Vec::new(), stale: 0, next_order: 1 }
    }

    /// How many are started.
    pub(crate) fn len(&self) -> usize {
        self.heap.len() - self.stale
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }

    /// Starts a timer that is not started, for its cell's deadline.
    #[inline]
    pub(crate) fn start(&mut self, cells: &Arena, cell: &Handle) -> Result<()> {
        self.heap.try_reserve(1).map_err(|_| Error::NO_MEMORY)?;
        let order = self.take_order(cells);
        cell.order.set(order);
        cell.key.set(order);
        self.push(Key { deadline: cell.when(), order, slot: Page::slot_of(cell) });
        Ok(())
    }

    /// Forgets a started timer.
    #[inline]
    pub(crate) fn stop(&mut self, cells: &Arena, cell: &Handle) {
        cell.key.set(0);
        self.stale += 1;
        if self.stale > 64 && self.stale > self.heap.len() / 2 {
            self.sweep(cells);
        }
    }

    /// Moves a started timer. A deadline that is not earlier is only noted.
    #[inline]
    pub(crate) fn restart(&mut self, cells: &Arena, cell: &Handle, deadline: i64) -> Result<()> {
        if deadline >= cell.when() {
            let order = self.take_order(cells);
            cell.order.set(order);
            cell.deadline.store(deadline, Ordering::Relaxed);
            return Ok(());
        }
        self.heap.try_reserve(1).map_err(|_| Error::NO_MEMORY)?;
        self.stop(cells, cell);
        cell.deadline.store(deadline, Ordering::Relaxed);
        self.start(cells, cell)
    }

    /// The deadline of the next timer.
    #[inline]
    pub(crate) fn next(&mut self, cells: &Arena) -> Option<i64> {
        self.settle(cells).map(|key| key.deadline)
    }

    /// Takes the next timer that is due at `now`; it is no longer started.
    #[inline]
    pub(crate) fn take_due(&mut self, cells: &Arena, now: i64) -> Option<*const Handle> {
        let key = self.settle(cells).filter(|key| key.deadline <= now)?;
        self.pop();
        let cell = cells.at(key.slot);
        // SAFETY: a settled key's cell is a started timer.
        unsafe { (*cell).key.set(0) };
        Some(cell)
    }

    /// All started timers in the order they would fire.
    pub(crate) fn sorted(&self, cells: &Arena) -> Vec<*const Handle> {
        let mut keys: Vec<Key> = self.heap.iter().filter_map(|key| current(cells, key)).collect();
        keys.sort_unstable();
        keys.iter().map(|key| cells.at(key.slot)).collect()
    }

    /// Brings the first key up to date: drops stale ones, places moved ones again.
    #[inline]
    fn settle(&mut self, cells: &Arena) -> Option<Key> {
        loop {
            let key = *self.heap.first()?;
            match current(cells, &key) {
                Some(now) if now == key => return Some(key),
                Some(now) => {
                    // SAFETY: the key is current, so that its cell is a started timer.
                    unsafe { (*cells.at(key.slot)).key.set(now.order) };
                    self.sift_down(0, now);
                }
                None => {
                    self.pop();
                    self.stale -= 1;
                }
            }
        }
    }

    fn take_order(&mut self, cells: &Arena) -> u32 {
        if self.next_order == u32::MAX {
            self.renumber(cells);
        }
        let order = self.next_order;
        self.next_order += 1;
        order
    }

    /// Orders are used up: gives the started timers new ones, in the same order.
    #[cold]
    fn renumber(&mut self, cells: &Arena) {
        let cells_in_order = self.sorted(cells);
        self.heap.clear();
        self.stale = 0;
        self.next_order = 1;
        for cell in cells_in_order {
            // SAFETY: `sorted` gives started timers.
            let cell = unsafe { &*cell };
            cell.order.set(self.next_order);
            cell.key.set(self.next_order);
            // Ascending keys are a heap as they are.
            self.heap.push(Key { deadline: cell.when(), order: self.next_order, slot: Page::slot_of(cell) });
            self.next_order += 1;
        }
    }

    /// Drops every stale key.
    #[cold]
    fn sweep(&mut self, cells: &Arena) {
        self.heap.retain(|key| current(cells, key).is_some());
        self.stale = 0;
        for at in (0..self.heap.len().div_ceil(4)).rev() {
            let key = self.heap[at];
            self.sift_down(at, key);
        }
        self.heap.shrink_to(self.heap.len() * 4);
    }

    fn push(&mut self, key: Key) {
        let mut at = self.heap.len();
        self.heap.push(key);
        while at > 0 {
            let parent = (at - 1) / 4;
            if self.heap[parent] <= key {
                break;
            }
            self.heap[at] = self.heap[parent];
            at = parent;
        }
        self.heap[at] = key;
    }

    fn pop(&mut self) {
        if let Some(last) = self.heap.pop()
            && !self.heap.is_empty()
        {
            self.sift_down(0, last);
        }
    }

    /// Places `key` at `at` or below.
    fn sift_down(&mut self, mut at: usize, key: Key) {
        let length = self.heap.len();
        loop {
            let first = at * 4 + 1;
            if first >= length {
                break;
            }
            let mut least = first;
            for child in first + 1..(first + 4).min(length) {
                if self.heap[child] < self.heap[least] {
                    least = child;
                }
            }
            if key <= self.heap[least] {
                break;
            }
            self.heap[at] = self.heap[least];
            at = least;
        }
        self.heap[at] = key;
    }
}

/// The key that stands for a key's timer now; None when the key is stale.
#[inline]
fn current(cells: &Arena, key: &Key) -> Option<Key> {
    // SAFETY: cells stay in place as long as the loop's memory; a freed one has another key.
    let cell = unsafe { &*cells.at(key.slot) };
    if cell.key.get() != key.order {
        return None;
    }
    Some(Key { deadline: cell.when(), order: cell.order.get(), slot: key.slot })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::handle::TIMER;

    /// Orders are used up after four thousand million starts; then the order of what is started must stay.
    #[test]
    fn renumbering_keeps_the_order_and_drops_stale_keys() {
        let mut cells = Arena::new(std::ptr::null(), false);
        let mut timers = Timers::new();
        timers.next_order = u32::MAX - 50;
        let handles: Vec<&Handle> = (0..100)
            .map(|i| {
                // SAFETY: the arena outlives the references, and nobody else has its cells.
                let cell = unsafe { &*cells.take().expect("memory") };
                cell.init(1, TIMER, i64::from(i) % 3);
                timers.start(&cells, cell).expect("memory");
                cell
            })
            .collect();
        handles.iter().step_by(7).for_each(|cell| timers.stop(&cells, cell));
        timers.restart(&cells, handles[1], 2).expect("memory");
        assert!(timers.next_order < 200, "the orders began anew");
        let mut expected: Vec<usize> = (0..100).filter(|i| i % 7 != 0 && *i != 1).collect();
        expected.sort_by_key(|i| i % 3);
        expected.push(1);
        let fired: Vec<usize> = std::iter::from_fn(|| timers.take_due(&cells, 2))
            .map(|cell| handles.iter().position(|handle| std::ptr::eq(*handle, cell)).expect("one of ours"))
            .collect();
        assert_eq!(fired, expected);
        assert_eq!(timers.len(), 0);
    }
}
