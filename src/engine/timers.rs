//! Timers: which of the started ones is due next.
//!
//! Keys {deadline, order, cell} are kept in a heap while there are few. When there are many, the heap has only those before the horizon of a
//! wheel, which has the others; what the wheel hands out as it turns is sorted into `turn`. The next timer is the first
//! of heap and turn.
//!
//! Cancelling and moving leave the old key behind; it is stale, because the cell does not know it any more, and is dropped when it
//! comes up or when three keys in four are stale. Moving a deadline later leaves even the key: when it comes up early, it is placed
//! again.

use std::cell::Cell;
use std::mem::offset_of;
use std::sync::atomic::Ordering;

use super::arena::{Arena, Page, prefetch_line};
use super::bag::Short;
use super::handle::Handle;
use super::wheel::{Advance, Wheel};
use crate::error::{Error, Result};

/// How many keys a heap alone is best for.
const FEW: usize = 1024;

/// How many timers before they are taken their cells are asked for.
const AHEAD: usize = 16;

/// Deadline, order and slot, from the highest bits down: comparing keys is comparing numbers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key(u128);

impl Key {
    #[inline]
    fn new(deadline: i64, order: u32, slot: u32) -> Key {
        Key(u128::from(unsigned(deadline)) << 64 | u128::from(order) << 32 | u128::from(slot))
    }

    /// The key that was shortened in a slot that begins at `start`.
    #[inline]
    pub(crate) fn whole(start: u64, short: Short) -> Key {
        let deadline = start & !u64::from(u32::MAX) | u64::from(short.low);
        Key(u128::from(deadline) << 64 | u128::from(short.order) << 32 | u128::from(short.slot))
    }

    #[inline]
    pub(crate) fn short(self) -> Short {
        Short { low: self.deadline() as u32, order: self.order(), slot: self.slot() }
    }

    /// The deadline as an unsigned number that compares in the same way.
    #[inline]
    pub(crate) fn deadline(self) -> u64 {
        (self.0 >> 64) as u64
    }

    #[inline]
    fn order(self) -> u32 {
        (self.0 >> 32) as u32
    }

    #[inline]
    fn slot(self) -> u32 {
        self.0 as u32
    }
}

#[inline]
fn unsigned(deadline: i64) -> u64 {
    deadline as u64 ^ 1 << 63
}

#[inline]
fn signed(deadline: u64) -> i64 {
    (deadline ^ 1 << 63) as i64
}

/// The started timers of a loop.
pub(crate) struct Timers {
    /// All keys, or those before the wheel's horizon.
    heap: Vec<Key>,
    /// What the wheel has handed out, last first.
    turn: Vec<Key>,
    wheel: Option<Box<Wheel>>,
    stale: usize,
    /// With more stale keys than this, it is time to see whether they are too many.
    patience: usize,
    next_order: u32,
}

impl Timers {
    pub(crate) const fn new() -> Self {
        Timers { heap: Vec::new(), turn: Vec::new(), wheel: None, stale: 0, patience: 64, next_order: 1 }
    }

    fn keys(&self) -> usize {
        self.heap.len() + self.turn.len() + self.wheel.as_ref().map_or(0, |wheel| wheel.len())
    }

    /// How many are started.
    pub(crate) fn len(&self) -> usize {
        self.keys() - self.stale
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.heap.is_empty() && self.turn.is_empty() && self.wheel.is_none()
    }

    /// Starts a timer that is not started, for its cell's deadline.
    #[inline]
    pub(crate) fn start(&mut self, cells: &Arena, cell: &Handle) -> Result<()> {
        let order = self.take_order(cells);
        self.place(cells, Key::new(cell.when(), order, Page::slot_of(cell)))?;
        cell.order.set(order);
        cell.key.set(order);
        Ok(())
    }

    /// Forgets a started timer.
    #[inline]
    pub(crate) fn stop(&mut self, cells: &Arena, cell: &Handle) {
        cell.key.set(0);
        self.note_stale(cells);
    }

    #[inline]
    fn note_stale(&mut self, cells: &Arena) {
        self.stale += 1;
        if self.stale > self.patience {
            self.consider_sweep(cells);
        }
    }

    /// Looking through all keys is dear: they are mostly stale when it is done.
    #[cold]
    fn consider_sweep(&mut self, cells: &Arena) {
        if self.stale > self.keys() / 4 * 3 {
            self.sweep(cells);
        }
        self.patience = (self.keys() / 4 * 3).max(64);
    }

    /// [`Timers::restart`] when it is no more than noting a deadline; false: nothing was done.
    #[inline]
    pub(crate) fn postpone(&mut self, cell: &Handle, deadline: i64) -> bool {
        if deadline < cell.when() || self.next_order == u32::MAX {
            return false;
        }
        cell.order.set(self.next_order);
        self.next_order += 1;
        cell.deadline.store(deadline, Ordering::Relaxed);
        true
    }

    /// Moves a started timer. A deadline that is not earlier is only noted.
    #[inline]
    pub(crate) fn restart(&mut self, cells: &Arena, cell: &Handle, deadline: i64) -> Result<()> {
        if self.postpone(cell, deadline) {
            return Ok(());
        }
        let order = self.take_order(cells);
        if deadline < cell.when() {
            self.place(cells, Key::new(deadline, order, Page::slot_of(cell)))?;
            cell.key.set(order);
            cell.order.set(order);
            cell.deadline.store(deadline, Ordering::Relaxed);
            self.note_stale(cells);
            return Ok(());
        }
        cell.order.set(order);
        cell.deadline.store(deadline, Ordering::Relaxed);
        Ok(())
    }

    /// When the next timer is due. With many timers, it may be told too early a time, but never too late.
    #[inline]
    pub(crate) fn next(&mut self, cells: &Arena) -> Option<i64> {
        match self.first(cells) {
            Some(key) => Some(signed(key.deadline())),
            None => self.wheel.as_mut()?.bound().map(signed),
        }
    }

    /// When the next timer is due, exactly. Looks through all of them.
    pub(crate) fn exact_next(&self, cells: &Arena) -> Option<i64> {
        let mut first: Option<u64> = None;
        self.each(cells, &mut |key| {
            if let Some(deadline) = deadline_of(cells, key.short()) {
                first = Some(first.map_or(deadline, |first| first.min(deadline)));
            }
            Ok(())
        })
        .ok()?;
        first.map(signed)
    }

    /// Shows `f` all keys, but for some stale ones.
    #[inline(never)]
    fn each(&self, cells: &Arena, f: &mut dyn FnMut(Key) -> Result<()>) -> Result<()> {
        for &key in self.heap.iter().chain(&self.turn) {
            f(key)?;
        }
        self.wheel.as_ref().map_or(Ok(()), |wheel| wheel.each(cells, f))
    }

    /// Takes the next timer that is due at `now`; it is no longer started.
    #[inline]
    pub(crate) fn take_due(&mut self, cells: &Arena, now: i64) -> Result<Option<*const Handle>> {
        let now = unsigned(now);
        loop {
            let Some(key) = self.first(cells) else {
                if self.turn_wheel(cells, now)? {
                    continue;
                }
                return Ok(None);
            };
            if key.deadline() > now {
                return Ok(None);
            }
            self.remove_first(cells, key);
            let cell = cells.at(key.slot());
            // SAFETY: a settled key's cell is a started timer.
            unsafe { (*cell).key.set(0) };
            return Ok(Some(cell));
        }
    }

    /// All started timers in the order they would fire.
    pub(crate) fn sorted(&self, cells: &Arena) -> Vec<*const Handle> {
        let mut keys = Vec::new();
        let _ = self.each(cells, &mut |key| {
            keys.extend(current(cells, key));
            Ok(())
        });
        sort(&mut keys);
        keys.iter().rev().map(|key| cells.at(key.slot())).collect()
    }

    /// Puts a key where it belongs.
    #[inline]
    fn place(&mut self, cells: &Arena, key: Key) -> Result<()> {
        match &mut self.wheel {
            Some(wheel) if key.deadline() >= wheel.horizon() => wheel.insert(key),
            _ => {
                if self.heap.len() == self.heap.capacity() {
                    self.heap.try_reserve(1).map_err(|_| Error::NO_MEMORY)?;
                }
                push(&mut self.heap, key);
                let far = self.wheel.as_ref().map_or(0, |wheel| wheel.len());
                if self.heap.len() > FEW.max(far / 4) {
                    // Without memory for a wheel, the heap does.
                    let _ = self.spill(cells);
                }
                Ok(())
            }
        }
    }

    /// There are many: moves them to a wheel that begins with the first. A wheel that begins too late is replaced.
    #[cold]
    fn spill(&mut self, cells: &Arena) -> Result<()> {
        let first = self.turn.last().map_or(self.heap[0], |&turn| turn.min(self.heap[0]));
        let mut wheel = Box::new(Wheel::new(first.deadline()));
        self.each(cells, &mut |key| wheel.insert(key))?;
        // Those that nobody knows any more are gone.
        self.stale -= self.keys() - wheel.len();
        self.turn.clear();
        self.heap.clear();
        self.heap.shrink_to(FEW * 2);
        self.wheel = Some(wheel);
        Ok(())
    }

    /// Heap and turn are empty: takes what the wheel has for the time until `now`. False when there is nothing.
    fn turn_wheel(&mut self, cells: &Arena, now: u64) -> Result<bool> {
        let Some(wheel) = &mut self.wheel else { return Ok(false) };
        if wheel.len() == 0 {
            self.wheel = None;
            return Ok(false);
        }
        match wheel.advance(cells, now, &mut self.turn)? {
            Advance::Nothing => return Ok(false),
            Advance::Spread(dropped) => self.stale -= dropped,
            Advance::Slot => {
                sort(&mut self.turn);
                // They are about to be looked at, far from each other.
                self.turn.iter().rev().take(AHEAD).for_each(|key| cells.prefetch(key.slot()));
            }
        }
        Ok(true)
    }

    /// The first key of heap and turn, brought up to date: stale ones are dropped, moved ones placed again.
    #[inline]
    fn first(&mut self, cells: &Arena) -> Option<Key> {
        loop {
            let key = match (self.turn.last(), self.heap.first()) {
                (Some(&turn), Some(&heap)) => turn.min(heap),
                (Some(&key), None) | (None, Some(&key)) => key,
                (None, None) => return None,
            };
            match current(cells, key) {
                Some(now) if now == key => return Some(key),
                Some(now) => {
                    self.remove_first(cells, key);
                    if self.place(cells, now).is_err() {
                        // No memory: it stays where it was, to be placed again later.
                        push(&mut self.heap, key);
                        return None;
                    }
                    // SAFETY: the key is current, so that its cell is a started timer.
                    unsafe { (*cells.at(key.slot())).key.set(now.order()) };
                }
                None => {
                    self.remove_first(cells, key);
                    self.stale -= 1;
                }
            }
        }
    }

    /// Removes what [`Timers::first`] has found.
    #[inline]
    fn remove_first(&mut self, cells: &Arena, key: Key) {
        if self.turn.last() == Some(&key) {
            self.turn.pop();
            if let Some(at) = self.turn.len().checked_sub(AHEAD) {
                cells.prefetch(self.turn[at].slot());
            }
        } else {
            pop(&mut self.heap);
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
        let sorted = self.sorted(cells);
        (self.turn, self.wheel, self.stale, self.next_order) = (Vec::new(), None, 0, 1);
        self.heap.clear();
        for cell in sorted {
            // SAFETY: `sorted` gives started timers.
            let cell = unsafe { &*cell };
            cell.order.set(self.next_order);
            cell.key.set(self.next_order);
            // Ascending keys are a heap as they are. The wheel comes back with the next start.
            self.heap.push(Key::new(cell.when(), self.next_order, Page::slot_of(cell)));
            self.next_order += 1;
        }
    }

    /// Drops every stale key.
    #[cold]
    fn sweep(&mut self, cells: &Arena) {
        self.heap.retain(|&key| current(cells, key).is_some());
        self.turn.retain(|&key| current(cells, key).is_some());
        if let Some(wheel) = &mut self.wheel {
            let soon = |keys: &[Short]| keys.iter().for_each(|key| prefetch_line(key_of(cells, key.slot).cast()));
            // SAFETY: as in `current`.
            wheel.retain(soon, |key| unsafe { (*key_of(cells, key.slot)).get() == key.order });
        }
        self.stale = 0;
        for at in (0..self.heap.len().div_ceil(4)).rev() {
            let key = self.heap[at];
            sift_down(&mut self.heap, at, key);
        }
        self.heap.shrink_to(self.heap.len() * 4);
    }
}

/// Sorts, the first to fire last. Apart, so that there is one sort in the library.
#[inline(never)]
fn sort(keys: &mut [Key]) {
    keys.sort_unstable_by_key(|&key| std::cmp::Reverse(key));
}

/// Where a cell says which key it knows.
#[inline]
fn key_of(cells: &Arena, slot: u32) -> *const Cell<u32> {
    cells.at(slot).cast::<u8>().wrapping_add(offset_of!(Handle, key)).cast()
}

/// The deadline of a key's timer now; None when the key is stale.
#[inline]
pub(crate) fn deadline_of(cells: &Arena, key: Short) -> Option<u64> {
    // SAFETY: as in `current`.
    let cell = unsafe { &*cells.at(key.slot) };
    (cell.key.get() == key.order).then(|| unsigned(cell.when()))
}

/// The key that stands for a key's timer now; None when the key is stale.
#[inline]
fn current(cells: &Arena, key: Key) -> Option<Key> {
    // SAFETY: cells stay in place as long as the loop's memory; a freed one has another key.
    let cell = unsafe { &*cells.at(key.slot()) };
    (cell.key.get() == key.order()).then(|| Key::new(cell.when(), cell.order.get(), key.slot()))
}

/// Adds a key to a 4-ary heap.
fn push(heap: &mut Vec<Key>, key: Key) {
    let mut at = heap.len();
    heap.push(key);
    while at > 0 {
        let parent = (at - 1) / 4;
        if heap[parent] <= key {
            break;
        }
        heap[at] = heap[parent];
        at = parent;
    }
    heap[at] = key;
}

/// Removes the first key of a 4-ary heap.
fn pop(heap: &mut Vec<Key>) {
    if let Some(last) = heap.pop()
        && !heap.is_empty()
    {
        sift_down(heap, 0, last);
    }
}

/// Places `key` at `at` or below.
fn sift_down(heap: &mut [Key], mut at: usize, key: Key) {
    loop {
        let first = at * 4 + 1;
        if first >= heap.len() {
            break;
        }
        let mut least = first;
        for child in first + 1..(first + 4).min(heap.len()) {
            if heap[child] < heap[least] {
                least = child;
            }
        }
        if key <= heap[least] {
            break;
        }
        heap[at] = heap[least];
        at = least;
    }
    heap[at] = key;
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
        let fired: Vec<usize> = std::iter::from_fn(|| timers.take_due(&cells, 2).expect("memory"))
            .map(|cell| handles.iter().position(|handle| std::ptr::eq(*handle, cell)).expect("one of ours"))
            .collect();
        assert_eq!(fired, expected);
        assert_eq!(timers.len(), 0);
    }
}
