//! Timers beyond the near future: a hierarchical wheel of unsorted slots.
//!
//! A slot of level 0 spans [`SPAN`] nanoseconds, one of the next level 256 times as much, and so on. The wheel has only deadlines at or after its
//! horizon; a key stands at the level of the highest digit in which its deadline differs from the horizon. The horizon
//! moves to the first slot in use, when that slot has begun: a slot of level 0 is handed out, a higher one is spread over the levels
//! below.

use super::timers::Key;
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
/// A slot with more keys than this is not searched for its first deadline.
const SEARCHED: usize = 256;

struct Level {
    slots: [Vec<Key>; SLOTS],
    used: [u64; SLOTS / 64],
}

impl Level {
    const fn new() -> Self {
        Level { slots: [const { Vec::new() }; SLOTS], used: [0; SLOTS / 64] }
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
}

/// The wheel. It has no keys before its horizon.
pub(crate) struct Wheel {
    levels: Box<[Level; LEVELS]>,
    horizon: u64,
    length: usize,
    /// No key is before this, where it is known.
    bound: Option<u64>,
}

/// What the horizon has moved to.
pub(crate) enum Advance {
    /// Nothing has begun.
    Nothing,
    /// A slot of a higher level, which was spread.
    Spread,
    /// A slot of level 0, whose keys were handed out, in no order.
    Slot,
}

impl Wheel {
    /// An empty wheel that takes keys from about `time` on.
    pub(crate) fn new(time: u64) -> Self {
        let levels = Box::new([const { Level::new() }; LEVELS]);
        Wheel { levels, horizon: time & !(SPAN - 1), length: 0, bound: None }
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
        let slot = &mut slots[digit];
        if slot.len() == slot.capacity() {
            // Grows by a quarter: what is in no use counts more here than what is copied.
            slot.try_reserve_exact((slot.len() / 4).max(4)).map_err(|_| Error::NO_MEMORY)?;
        }
        slot.push(key);
        used[digit / 64] |= 1 << (digit % 64);
        self.length += 1;
        self.bound = self.bound.map(|bound| bound.min(deadline));
        Ok(())
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
            let bits = SPAN_BITS + DIGIT_BITS * level as u32;
            let above = self.horizon.checked_shr(bits + DIGIT_BITS).unwrap_or(0);
            let start = above.checked_shl(bits + DIGIT_BITS).unwrap_or(0) | (digit as u64) << bits;
            Some((level, digit, start))
        })
    }

    /// A time that no key is before; None when there are none.
    pub(crate) fn bound(&mut self) -> Option<u64> {
        let (level, digit, start) = self.first()?;
        if self.bound.is_none() {
            let slot = &self.levels[level].slots[digit];
            // A slot that was just reached may hide earlier keys below.
            let reached = level > 0 && start <= self.horizon;
            let least =
                if reached || slot.len() > SEARCHED { None } else { slot.iter().map(|key| key.deadline()).min() };
            self.bound = Some(least.unwrap_or(start));
        }
        self.bound
    }

    /// Moves the horizon to the first slot in use, if that has begun by `now`. `out` is empty, and gets the keys of a slot
    /// of level 0.
    pub(crate) fn advance(&mut self, now: u64, out: &mut Vec<Key>) -> Result<Advance> {
        let Some((level, digit, start)) = self.first().filter(|&(_, _, start)| start <= now) else {
            return Ok(Advance::Nothing);
        };
        self.bound = None;
        let Level { slots, used } = &mut self.levels[level];
        used[digit / 64] &= !(1 << (digit % 64));
        if level == 0 {
            std::mem::swap(&mut slots[digit], out);
            self.length -= out.len();
            self.horizon = start.saturating_add(SPAN);
            return Ok(Advance::Slot);
        }
        let keys = std::mem::take(&mut slots[digit]);
        self.length -= keys.len();
        self.horizon = self.horizon.max(start);
        for (at, &key) in keys.iter().enumerate() {
            if let Err(error) = self.insert(key) {
                // What was not placed stays where it is, to be tried again.
                let Level { slots, used } = &mut self.levels[level];
                slots[digit] = keys[at..].to_vec();
                used[digit / 64] |= 1 << (digit % 64);
                self.length += keys.len() - at;
                return Err(error);
            }
        }
        Ok(Advance::Spread)
    }

    /// All keys, in no order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Key> {
        self.levels.iter().flat_map(|level| level.slots.iter().flatten())
    }

    /// Drops the keys that are not to be kept.
    pub(crate) fn retain(&mut self, mut keep: impl FnMut(&Key) -> bool) {
        self.length = 0;
        self.bound = None;
        for Level { slots, used } in self.levels.iter_mut() {
            for (digit, slot) in slots.iter_mut().enumerate().filter(|(_, slot)| slot.capacity() > 0) {
                slot.retain(&mut keep);
                slot.shrink_to(slot.len() * 2);
                self.length += slot.len();
                if slot.is_empty() {
                    used[digit / 64] &= !(1 << (digit % 64));
                }
            }
        }
    }
}

/// A time's digit at a level.
#[inline]
fn digit(time: u64, level: usize) -> usize {
    (time >> (SPAN_BITS + DIGIT_BITS * level as u32)) as usize & (SLOTS - 1)
}
