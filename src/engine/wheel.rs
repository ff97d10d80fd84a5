//! Timers beyond the near future: a hierarchical wheel of unsorted slots.
//!
//! A slot of level 0 spans [`SPAN`] nanoseconds, one of the next level 256 times as much, and so on. The wheel has only deadlines at or after its
//! horizon; a key stands at the level of the highest digit in which its deadline differs from the horizon. The horizon
//! moves to the first slot in use, when that slot has begun: a slot of level 0 is handed out, a higher one is spread over the levels
//! below.
//!
//! A slot keeps only the lower half of the deadlines. Up to level [`EXACT`], its place tells the rest; beyond, the cells do.

use super::arena::{Arena, prefetch};
use super::bag::{Bag, Pool, Short};
use super::timers::{Key, deadline_of};
use crate::error::{Error, Result};

/// Nanoseconds of a slot of level 0, as a power of two.
const SPAN_BITS: u32 = 16;
/// Slots of a level, as a power of two.
const DIGIT_BITS: u32 = 8;
const SLOTS: usize = 1 << DIGIT_BITS;
/// Together with the span, the digits cover 64 bits.
const LEVELS: usize = 6;
/// The span of a slot of level 0.
const SPAN: u64 = 1 << SPAN_BITS;
/// A slot of this level spans as much as the lower half of a deadline can tell.
const EXACT: usize = 2;
/// A slot with more keys than this is not searched for its first deadline.
const SEARCHED: usize = 256;
/// How many keys before they are looked at cells are asked for.
const AHEAD: usize = 8;

const _: () = assert!(SPAN_BITS + DIGIT_BITS * EXACT as u32 == u32::BITS);

struct Level {
    slots: [Bag; SLOTS],
    used: [u64; SLOTS / 64],
}

impl Level {
    const fn new() -> Self {
        Level { slots: [const { Bag::new() }; SLOTS], used: [0; SLOTS / 64] }
    }

    fn is_used(&self, digit: usize) -> bool {
        self.used[digit / 64] >> (digit % 64) & 1 != 0
    }

    /// The first slot in use, from `digit` on.
    fn first(&self, digit: usize) -> Option<usize> {
        let mut word = digit / 64;
        let mut bits = self.used[word] & (u64::MAX << (digit % 64));
        while bits == 0 {
            word += 1;
            bits = *self.used.get(word)?;
        }
        Some(word * 64 + bits.trailing_zeros() as usize)
    }

    /// Takes all keys of a slot.
    fn take(&mut self, digit: usize) -> Bag {
        self.used[digit / 64] &= !(1 << (digit % 64));
        std::mem::replace(&mut self.slots[digit], Bag::new())
    }

    fn put_back(&mut self, digit: usize, keys: Bag) {
        self.slots[digit] = keys;
        self.used[digit / 64] |= 1 << (digit % 64);
    }
}

/// The wheel. It has no keys before its horizon.
pub(crate) struct Wheel {
    levels: Box<[Level; LEVELS]>,
    pool: Pool,
    horizon: u64,
    length: usize,
    /// No key is before this, where it is known.
    bound: Option<u64>,
}

/// What the horizon has moved to.
pub(crate) enum Advance {
    /// Nothing has begun.
    Nothing,
    /// A slot of a higher level, which was spread; so many stale keys were dropped.
    Spread(usize),
    /// A slot of level 0, whose keys were handed out, in no order.
    Slot,
}

impl Wheel {
    /// An empty wheel that takes keys from about `time` on.
    pub(crate) fn new(time: u64) -> Self {
        let levels = Box::new([const { Level::new() }; LEVELS]);
        Wheel { levels, pool: Pool::new(), horizon: time & !(SPAN - 1), length: 0, bound: None }
    }

    pub(crate) fn len(&self) -> usize {
        self.length
    }

    #[inline]
    pub(crate) fn horizon(&self) -> u64 {
        self.horizon
    }

    /// Adds a key at or after the horizon.
    #[inline]
    pub(crate) fn insert(&mut self, key: Key) -> Result<()> {
        let deadline = key.deadline();
        let digits = (deadline ^ self.horizon) >> SPAN_BITS;
        let level = if digits == 0 { 0 } else { ((63 - digits.leading_zeros()) / DIGIT_BITS) as usize };
        let digit = digit(deadline, level);
        let Level { slots, used } = &mut self.levels[level];
        slots[digit].push(&mut self.pool, key.short())?;
        used[digit / 64] |= 1 << (digit % 64);
        self.length += 1;
        self.bound = self.bound.map(|bound| bound.min(deadline));
        Ok(())
    }

    /// When a slot that is not over begins.
    fn start(&self, level: usize, digit: usize) -> u64 {
        let bits = SPAN_BITS + DIGIT_BITS * level as u32;
        let above = self.horizon.checked_shr(bits + DIGIT_BITS).unwrap_or(0);
        above.checked_shl(bits + DIGIT_BITS).unwrap_or(0) | (digit as u64) << bits
    }

    /// The first slot in use: level, digit, and when it begins.
    fn first(&self) -> Option<(usize, usize, u64)> {
        if self.length == 0 {
            return None;
        }
        // A higher slot that the horizon has just reached comes before what was put below it since.
        let reached = |&level: &usize| self.levels[level].is_used(digit(self.horizon, level));
        let levels = (1..LEVELS).rev().filter(reached).chain(0..LEVELS);
        levels.into_iter().find_map(|level| {
            let digit = self.levels[level].first(digit(self.horizon, level))?;
            Some((level, digit, self.start(level, digit)))
        })
    }

    /// A time that no key is before; None when there are none.
    pub(crate) fn bound(&mut self) -> Option<u64> {
        let (level, digit, start) = self.first()?;
        if self.bound.is_none() {
            // A slot that was just reached may hide earlier keys below.
            let reached = level > 0 && start <= self.horizon;
            let exact = !reached && level <= EXACT;
            let slot = &self.levels[level].slots[digit];
            let keys = || slot.pieces().flatten().map(|&key| Key::whole(start, key).deadline());
            let least = if exact && keys().nth(SEARCHED).is_none() { keys().min() } else { None };
            self.bound = Some(least.unwrap_or(start));
        }
        self.bound
    }

    /// Moves the horizon to the first slot in use, if that has begun by `now`. `out` is empty, and gets the keys of a slot
    /// of level 0.
    pub(crate) fn advance(&mut self, cells: &Arena, now: u64, out: &mut Vec<Key>) -> Result<Advance> {
        let Some((level, digit, start)) = self.first().filter(|&(_, _, start)| start <= now) else {
            return Ok(Advance::Nothing);
        };
        if level == 0 {
            let length = self.levels[0].slots[digit].len();
            out.try_reserve(length).map_err(|_| Error::NO_MEMORY)?;
            let mut keys = self.levels[0].take(digit);
            keys.empty(&mut self.pool, |keys| out.extend(keys.iter().map(|&key| Key::whole(start, key))));
            self.length -= out.len();
            self.horizon = start.saturating_add(SPAN);
            self.bound = None;
            return Ok(Advance::Slot);
        }
        self.bound = None;
        self.horizon = self.horizon.max(start);
        let mut keys = self.levels[level].take(digit);
        let mut dropped = 0;
        while let [others @ .., key] = keys.last() {
            let key = *key;
            if level > EXACT
                && let Some(soon) = others.len().checked_sub(AHEAD)
            {
                prefetch(cells.at(others[soon].slot));
            }
            match whole_at(cells, level, start, key) {
                None => dropped += 1,
                Some(key) => {
                    if let Err(error) = self.insert(key) {
                        // What was not placed stays where it is, to be tried again.
                        self.levels[level].put_back(digit, keys);
                        return if dropped > 0 { Ok(Advance::Spread(dropped)) } else { Err(error) };
                    }
                }
            }
            self.length -= 1;
            keys.pop(&mut self.pool);
        }
        Ok(Advance::Spread(dropped))
    }

    /// Shows `f` all keys, in no order, but for some of those that are stale.
    pub(crate) fn each(&self, cells: &Arena, f: &mut dyn FnMut(Key) -> Result<()>) -> Result<()> {
        for (level, Level { slots, .. }) in self.levels.iter().enumerate() {
            for (digit, slot) in slots.iter().enumerate() {
                let start = self.start(level, digit);
                for &key in slot.pieces().flatten() {
                    whole_at(cells, level, start, key).map_or(Ok(()), &mut *f)?;
                }
            }
        }
        Ok(())
    }

    /// Drops the keys that are not to be kept. `soon` sees keys before `keep` does.
    pub(crate) fn retain(&mut self, soon: impl Fn(&[Short]), keep: impl Fn(&Short) -> bool) {
        self.length = 0;
        self.bound = None;
        for Level { slots, used } in self.levels.iter_mut() {
            for (digit, slot) in slots.iter_mut().enumerate().filter(|(_, slot)| !slot.is_empty()) {
                slot.retain(&mut self.pool, &soon, &keep);
                self.length += slot.len();
                if slot.is_empty() {
                    used[digit / 64] &= !(1 << (digit % 64));
                }
            }
        }
    }
}

/// The whole of a key in a slot that begins at `start`; None when it is stale and nobody knows its deadline.
#[inline]
fn whole_at(cells: &Arena, level: usize, start: u64, key: Short) -> Option<Key> {
    if level <= EXACT {
        return Some(Key::whole(start, key));
    }
    // Not before the deadline that the key was made for: moving a timer to an earlier one makes another key.
    deadline_of(cells, key)
        .map(|deadline| Key::whole(deadline & !u64::from(u32::MAX), Short { low: deadline as u32, ..key }))
}

/// A time's digit at a level.
#[inline]
fn digit(time: u64, level: usize) -> usize {
    (time >> (SPAN_BITS + DIGIT_BITS * level as u32)) as usize & (SLOTS - 1)
}
