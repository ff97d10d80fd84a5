//! Reading from a stream (`StreamReader.read`, `readexactly`, `readuntil`, `readline`).
//!
//! One read may wait. What it needs stays in the stream until it is all there, so that a read that is cancelled loses nothing.

use std::borrow::Cow;
use std::ffi::CString;
use std::ptr;

use super::{EOF, PAUSED, Stream, StreamRef, buffer, done};
use crate::engine::callback::FreeArg;
use crate::engine::event_loop::Owned;
use crate::error::{Error, Result};
use crate::net::transport::READS;
use crate::task::future::{Bytes, FutureRef, Outcome, Shape};
use crate::task::operation::{Operation, OperationRef, Work};
use crate::task::outcome::Partial;

/// How much is wanted.
pub(crate) enum Amount {
    /// What there is, up to so many bytes.
    Most(usize),
    /// So many bytes.
    Exactly(usize),
    /// All up to the end of the stream.
    All,
    /// All up to a separator, with it.
    Until {
        separator: Cow<'static, [u8]>,
        /// A line: the last one may lack its separator, and one that is too long is dropped.
        line: bool,
        /// So far, there is none.
        searched: usize,
    },
}

/// What a read wants.
pub(crate) struct Want {
    pub(crate) amount: Amount,
    /// Memory of the host's, as large as the amount; NULL: the result is bytes.
    pub(crate) into: *mut u8,
    /// So much of it is filled, by what is not in the buffer therefore.
    pub(super) filled: usize,
}

/// A read that waits.
pub(crate) struct Read {
    stream: StreamRef,
    pub(super) want: Want,
}

impl Work for Read {
    const NAME: &'static str = "read";

    fn cancel(lp: &Owned, operation: &Operation<Self>) -> bool {
        if let Some(stream) = operation.with(|work| StreamRef::new(&work.stream)) {
            // What cannot be kept ends the connection.
            let _ = stream.end_direct(lp);
            drop(stream.reader.take());
            stream.consider_pausing(lp);
        }
        true
    }
}

/// What a read comes to.
enum Step {
    /// More is needed.
    Wait,
    /// So many bytes.
    Take(usize),
    /// The stream has ended before.
    Incomplete,
    /// The separator comes after more than the limit, or is not among so many bytes.
    Overrun { size: usize, found: bool },
}

/// A line's.
pub(crate) const NEWLINE: &[u8] = b"\n";

impl Want {
    pub(crate) fn bytes(amount: Amount) -> Want {
        Want { amount, into: ptr::null_mut(), filled: 0 }
    }

    /// `into` has room for the amount.
    pub(crate) fn into(amount: Amount, into: *mut u8) -> Want {
        Want { amount, into, filled: 0 }
    }

    pub(crate) fn until(separator: Cow<'static, [u8]>, line: bool) -> Want {
        Want::bytes(Amount::Until { separator, line, searched: 0 })
    }

    /// Nothing is wanted: there is nothing to wait for.
    fn is_nothing(&self) -> bool {
        matches!(self.amount, Amount::Most(0) | Amount::Exactly(0))
    }

    fn is_line(&self) -> bool {
        matches!(self.amount, Amount::Until { line: true, .. })
    }

    /// Looks at all that is there.
    fn look(&mut self, there: &[u8], eof: bool, limit: usize) -> Step {
        let size = there.len();
        match &mut self.amount {
            Amount::Most(most) if size > 0 || eof => Step::Take(size.min(*most)),
            Amount::Exactly(wanted) if size >= *wanted => Step::Take(*wanted),
            Amount::All if eof => Step::Take(size),
            Amount::Until { separator, line, searched } => {
                if size - *searched >= separator.len() {
                    if let Some(at) = find(&there[*searched..], separator) {
                        let at = *searched + at;
                        return match at > limit {
                            true => Step::Overrun { size: at, found: true },
                            false => Step::Take(at + separator.len()),
                        };
                    }
                    // The last bytes may be the beginning of one.
                    *searched = size + 1 - separator.len();
                    if *searched > limit {
                        return Step::Overrun { size: *searched, found: false };
                    }
                }
                match (eof, *line) {
                    (false, _) => Step::Wait,
                    (true, true) => Step::Take(size),
                    (true, false) => Step::Incomplete,
                }
            }
            Amount::Exactly(_) if eof => Step::Incomplete,
            _ => Step::Wait,
        }
    }

    /// Bytes that were read.
    fn outcome(&self, data: Option<Vec<u8>>) -> Outcome {
        match data {
            Some(data) => Outcome::object(Shape::Bytes, Bytes { data, address: Vec::new() }),
            None => Outcome::error(Error::NO_MEMORY),
        }
    }

    /// Bytes that go where the host wants them.
    fn outcome_into(&self, data: &[u8]) -> Outcome {
        // SAFETY: the host has given memory for all that was wanted, until the future is done.
        unsafe { ptr::copy_nonoverlapping(data.as_ptr(), self.into, data.len()) };
        Outcome::number(data.len() as i64)
    }
}

fn find(there: &[u8], separator: &[u8]) -> Option<usize> {
    // SAFETY: both have so many bytes.
    let found = unsafe {
        match separator {
            [byte] => libc::memchr(there.as_ptr().cast(), i32::from(*byte), there.len()),
            _ => libc::memmem(there.as_ptr().cast(), there.len(), separator.as_ptr().cast(), separator.len()),
        }
    };
    (!found.is_null()).then(|| found as usize - there.as_ptr() as usize)
}

impl Stream {
    /// Begins a read, which may be done at once.
    pub(crate) fn read(&self, lp: &Owned, mut want: Want) -> Result<FutureRef> {
        let transport = self.transport()?;
        if !transport.has(READS) {
            return Err(Error::NOT_SUPPORTED.detail(|| "the transport only writes".into()));
        }
        self.notice_other_protocol(lp);
        if let Some(failure) = self.failure() {
            return done(lp, failure);
        }
        if want.is_nothing() {
            return match want.into.is_null() {
                true => done(lp, want.outcome(buffer::copy(&[]))),
                false => done(lp, Outcome::number(0)),
            };
        }
        if self.is_being_read() {
            return Err(Error::BUSY.detail(|| "another read is waiting for data already".into()));
        }
        let step = want.look(self.buffer.borrow().view(), self.has(EOF), self.limit.get());
        if let Step::Wait = step {
            let operation = Operation::begin(lp, Read { stream: StreamRef::new(self), want });
            self.reader.set(Some(OperationRef::new(&operation)));
            self.begin_direct();
            // More is needed than is allowed to lie about.
            self.resume(lp);
            return Ok(operation.into_future());
        }
        let outcome = self.take(&want, step);
        self.consider_resuming(lp);
        done(lp, outcome)
    }

    /// Whether a read waits.
    pub(super) fn is_being_read(&self) -> bool {
        let reader = self.reader.take();
        let waits = reader.is_some();
        self.reader.set(reader);
        waits
    }

    /// Ends a read with what is in the buffer.
    fn take(&self, want: &Want, step: Step) -> Outcome {
        let mut buffer = self.buffer.borrow_mut();
        match step {
            Step::Wait => Outcome::nothing(),
            Step::Take(size) if want.into.is_null() => want.outcome(buffer.take(size)),
            Step::Take(size) => {
                let outcome = want.outcome_into(&buffer.view()[..size]);
                buffer.skip(size);
                outcome
            }
            Step::Incomplete => {
                let size = buffer.size();
                let Some(data) = buffer.take(size) else { return Outcome::error(Error::NO_MEMORY) };
                let message = match want.amount {
                    Amount::Exactly(wanted) => format!("{size} bytes read on a total of {wanted} expected bytes"),
                    _ => format!("{size} bytes read before the end, and no separator"),
                };
                Outcome::partial(Error::INCOMPLETE, CString::new(message).ok(), Partial { data: Some(data), size })
            }
            Step::Overrun { size, found } => {
                if want.is_line() {
                    let all = buffer.size();
                    buffer.skip(if found { size + NEWLINE.len() } else { all });
                }
                let message = match found {
                    true => c"Separator is found, but chunk is longer than limit",
                    false => c"Separator is not found, and chunk exceed the limit",
                };
                Outcome::partial(Error::OVERRUN, Some(message.into()), Partial { data: None, size })
            }
        }
    }

    /// More has come: for the read that waits, and the rest for the next one.
    pub(super) fn feed(&self, lp: &Owned, chunk: &[u8]) {
        let Some(reader) = self.reader.take() else {
            if !self.append(chunk) {
                self.give_up(lp);
            }
            self.consider_pausing(lp);
            return;
        };
        // What is wanted of this chunk alone need not be in the buffer.
        let direct = self.buffer.borrow().size() == 0;
        let mut kept = direct || self.append(chunk);
        let limit = self.limit.get();
        let outcome = reader.with(|Read { want, .. }| {
            let step = match direct {
                true => want.look(chunk, false, limit),
                false => want.look(self.buffer.borrow().view(), false, limit),
            };
            match step {
                Step::Wait => {
                    kept &= !direct || self.append(chunk);
                    None
                }
                Step::Take(size) if direct => {
                    let (data, rest) = chunk.split_at(size);
                    kept &= rest.is_empty() || self.append(rest);
                    Some(match want.into.is_null() {
                        true => {
                            let data = buffer::copy(data);
                            kept &= data.is_some();
                            want.outcome(data)
                        }
                        false => want.outcome_into(data),
                    })
                }
                step => {
                    kept &= !direct || self.append(chunk);
                    Some(self.take(want, step))
                }
            }
        });
        match outcome.flatten() {
            // A read that needs more is not stopped by the limit.
            None => self.reader.set(Some(reader)),
            Some(outcome) => {
                self.consider_pausing(lp);
                let _ = reader.end(lp, outcome);
            }
        }
        if !kept {
            self.give_up(lp);
        }
    }

    /// The peer sends no more.
    pub(super) fn feed_eof(&self, lp: &Owned) {
        self.set(EOF);
        let kept = self.end_direct(lp);
        let Some(reader) = self.reader.take() else { return };
        if !kept {
            let _ = reader.end(lp, Outcome::error(Error::NO_MEMORY));
            return;
        }
        let limit = self.limit.get();
        let outcome = reader.with(|Read { want, .. }| {
            let step = want.look(self.buffer.borrow().view(), true, limit);
            self.take(want, step)
        });
        if let Some(outcome) = outcome {
            let _ = reader.end(lp, outcome);
        }
    }

    /// False: no memory, and the connection is to be given up.
    pub(super) fn append(&self, bytes: &[u8]) -> bool {
        self.buffer.borrow_mut().append(bytes)
    }

    pub(super) fn give_up(&self, lp: &Owned) {
        if let Some(transport) = self.own_transport() {
            transport.force_close(lp, Error::NO_MEMORY.code());
        }
    }

    /// `StreamReader.at_eof`.
    pub(crate) fn at_eof(&self) -> bool {
        self.has(EOF) && self.buffer.borrow().size() == 0
    }

    /// The size from which on a separator is too far, and half of what may lie unread.
    pub(crate) fn limit(&self) -> usize {
        self.limit.get()
    }

    pub(crate) fn set_limit(&self, lp: &Owned, limit: usize) -> Result<()> {
        if limit == 0 {
            return Err(Error::INVALID.detail(|| "Limit cannot be <= 0".into()));
        }
        self.limit.set(limit);
        self.consider_resuming(lp);
        self.consider_pausing(lp);
        Ok(())
    }

    /// Lets the peer wait when too much lies unread.
    pub(super) fn consider_pausing(&self, lp: &Owned) {
        let most = self.limit.get().saturating_mul(2);
        if self.buffer.borrow().size() > most
            && !self.has(PAUSED)
            && !self.is_being_read()
            && let Some(transport) = self.own_transport()
            && transport.pause_reading(lp).is_ok()
        {
            self.set(PAUSED);
        }
    }

    fn consider_resuming(&self, lp: &Owned) {
        if self.buffer.borrow().size() <= self.limit.get() {
            self.resume(lp);
        }
    }

    fn resume(&self, lp: &Owned) {
        if self.has(PAUSED)
            && let Some(transport) = self.own_transport()
        {
            self.clear(PAUSED);
            let _ = transport.resume_reading(lp);
        }
    }

    /// What reads end with once the connection is lost for a reason.
    pub(super) fn failure(&self) -> Option<Outcome> {
        match self.code.get() {
            0 => None,
            code => Some(Outcome::failure(code, Some(c"Connection lost".into()), FreeArg::none())),
        }
    }
}
