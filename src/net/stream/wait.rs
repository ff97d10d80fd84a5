//! Waiting for room to write (`StreamWriter.drain`) and for the end (`StreamWriter.wait_closed`).

use std::ffi::c_void;

use super::{LOST, Stream, StreamRef, done};
use crate::engine::callback::FreeArg;
use crate::engine::context::Word;
use crate::engine::event_loop::Owned;
use crate::error::Result;
use crate::net::transport::{PAUSE_DUE, WRITING_PAUSED};
use crate::task::combine::{entered, of, release};
use crate::task::future::{FutureRef, Outcome};
use crate::task::operation::{Operation, OperationRef, Work};

/// What is waited for.
#[derive(Clone, Copy, PartialEq)]
enum For {
    /// Room to write.
    Room,
    /// The same, of a transport of which more is known only when the ready queue comes to it.
    Turn,
    /// The end of the connection.
    End,
}

/// Waits for something of a stream.
pub(crate) struct Wait {
    stream: StreamRef,
    what: For,
}

impl Work for Wait {
    const NAME: &'static str = "drain";

    fn cancel(_: &Owned, operation: &Operation<Self>) -> bool {
        if let Some(stream) = operation.with(|work| StreamRef::new(&work.stream)) {
            let mut waiters = stream.waiters.take();
            let at = waiters.iter().position(|waiter| std::ptr::eq(&**waiter, operation));
            let gone = at.map(|at| waiters.remove(at));
            stream.waiters.set(waiters);
            drop(gone);
        }
        true
    }
}

impl Stream {
    fn wait(&self, lp: &Owned, what: For) -> OperationRef<Wait> {
        let operation = Operation::begin(lp, Wait { stream: StreamRef::new(self), what });
        let mut waiters = self.waiters.take();
        waiters.push(OperationRef::new(&operation));
        self.waiters.set(waiters);
        operation
    }

    /// Takes those who wait for that.
    fn waiting(&self, what: For) -> Vec<OperationRef<Wait>> {
        let (taken, rest) =
            self.waiters.take().into_iter().partition(|waiter| waiter.with(|work| work.what == what) == Some(true));
        self.waiters.set(rest);
        taken
    }

    /// `StreamWriter.drain`.
    pub(crate) fn drain(&self, lp: &Owned) -> Result<FutureRef> {
        let transport = self.transport()?;
        self.notice_other_protocol(lp);
        if let Some(failure) = self.failure() {
            return done(lp, failure);
        }
        if self.has(LOST) {
            return done(lp, self.lost_outcome());
        }
        if transport.is_closing() || transport.has(PAUSE_DUE) {
            // Whoever writes and drains in a loop must hear that the connection is lost.
            lp.reserve(1)?;
            let operation = self.wait(lp, For::Turn);
            let arg = OperationRef::new(&operation).into_pointer();
            lp.call_internal(turn, arg, Some(release::<Wait>), Word::NONE)?;
            return Ok(operation.into_future());
        }
        if !transport.has(WRITING_PAUSED) {
            return done(lp, Outcome::nothing());
        }
        Ok(self.wait(lp, For::Room).into_future())
    }

    /// `StreamWriter.wait_closed`.
    pub(crate) fn wait_closed(&self, lp: &Owned) -> Result<FutureRef> {
        self.notice_other_protocol(lp);
        if self.has(LOST) {
            return done(lp, self.failure().unwrap_or_else(Outcome::nothing));
        }
        Ok(self.wait(lp, For::End).into_future())
    }

    /// Writing after the end.
    fn lost_outcome(&self) -> Outcome {
        let lost = || Outcome::failure(-libc::ECONNRESET, Some(c"Connection lost".into()), FreeArg::none());
        self.failure().unwrap_or_else(lost)
    }

    /// There is room again.
    pub(super) fn writable(&self, lp: &Owned) {
        for waiter in self.waiting(For::Room) {
            let _ = waiter.end(lp, Outcome::nothing());
        }
    }

    /// The connection is lost: `StreamReaderProtocol.connection_lost`, then `FlowControlMixin.connection_lost`.
    pub(super) fn end_waiting(&self, lp: &Owned) {
        for waiter in self.waiting(For::End).into_iter().chain(self.waiting(For::Room)) {
            let _ = waiter.end(lp, self.failure().unwrap_or_else(Outcome::nothing));
        }
    }
}

/// The ready queue has come to a drain.
unsafe extern "C-unwind" fn turn(operation: *mut c_void) {
    // SAFETY: the entry has a reference.
    let operation = unsafe { of::<Wait>(operation) };
    let Some(lp) = entered(operation.future()) else { return };
    let Some(stream) = operation.with(|work| StreamRef::new(&work.stream)) else { return };
    let outcome = match stream.transport() {
        _ if stream.has(LOST) => stream.lost_outcome(),
        Ok(transport) if transport.has(WRITING_PAUSED) => {
            operation.with(|work| work.what = For::Room);
            return;
        }
        _ => Outcome::nothing(),
    };
    Wait::cancel(&lp, operation);
    let _ = operation.end(&lp, outcome);
}
