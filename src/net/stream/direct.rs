//! Large reads into memory of the host's: the transport receives straight into it.
//!
//! What is in there is not in the stream's buffer, and goes back when the read does not come to its end.

use super::read::{Amount, Read};
use super::{DIRECT, Stream, protocol};
use crate::engine::event_loop::Owned;
use crate::task::future::Outcome;

/// For less, asking for memory costs more than a copy.
const WORTH_IT: usize = 4096;

impl Stream {
    /// Looks at what the read that waits wants.
    fn with_reader<R>(&self, f: impl FnOnce(&mut Read) -> R) -> Option<R> {
        let reader = self.reader.take()?;
        let answer = reader.with(f);
        self.reader.set(Some(reader));
        answer
    }

    /// A read begins to wait: it may have what comes received into its memory.
    pub(super) fn begin_direct(&self) {
        let begun = self.with_reader(|Read { want, .. }| {
            let (Amount::Most(size) | Amount::Exactly(size)) = want.amount else { return false };
            if want.into.is_null() || size < WORTH_IT {
                return false;
            }
            let mut buffer = self.buffer.borrow_mut();
            let there = buffer.view();
            want.filled = there.len();
            // SAFETY: the host has given so much memory, and less than that is there: else the read would not wait.
            unsafe { std::ptr::copy_nonoverlapping(there.as_ptr(), want.into, there.len()) };
            buffer.skip(want.filled);
            true
        });
        if begun == Some(true) {
            self.set(DIRECT);
            self.choose_callbacks(true);
        }
    }

    fn choose_callbacks(&self, direct: bool) {
        if let Some(transport) = self.own_transport() {
            transport.change_callbacks(protocol::callbacks(direct));
        }
    }

    /// Where the transport receives to.
    pub(super) fn room(&self) -> (*mut u8, usize) {
        let room = self.with_reader(|Read { want, .. }| match want.amount {
            // SAFETY: the host has given so much memory, and what is filled is a part of it.
            Amount::Most(size) | Amount::Exactly(size) => (unsafe { want.into.add(want.filled) }, size - want.filled),
            _ => (std::ptr::null_mut(), 0),
        });
        room.unwrap_or((std::ptr::null_mut(), 0))
    }

    /// So much was received there.
    pub(super) fn filled(&self, lp: &Owned, size: usize) {
        let all = self.with_reader(|Read { want, .. }| {
            want.filled += size;
            let over = !matches!(want.amount, Amount::Exactly(wanted) if wanted > want.filled);
            over.then_some(want.filled)
        });
        let Some(Some(count)) = all else { return };
        self.clear(DIRECT);
        self.choose_callbacks(false);
        if let Some(reader) = self.reader.take() {
            let _ = reader.end(lp, Outcome::number(count as i64));
        }
    }

    /// What comes goes into the buffer again, and so does what was received: the read may not get the rest. False: no memory, and what
    /// was received is lost.
    pub(super) fn end_direct(&self, lp: &Owned) -> bool {
        if !self.has(DIRECT) {
            return true;
        }
        self.clear(DIRECT);
        self.choose_callbacks(false);
        let kept = self.with_reader(|Read { want, .. }| {
            // SAFETY: so much of the host's memory is filled.
            let there = unsafe { std::slice::from_raw_parts(want.into, std::mem::take(&mut want.filled)) };
            there.is_empty() || self.append(there)
        });
        if kept == Some(false) {
            self.give_up(lp);
        }
        kept != Some(false)
    }
}
