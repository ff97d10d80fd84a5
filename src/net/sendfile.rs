//! `loop.sendfile`: a file to the peer of a transport, behind what is queued there.
//!
//! sendfile(2) does it where it can. What it cannot do is read in pieces, each when the one before is written. While a file is sent,
//! nothing else is written, and nothing read.

use std::ffi::{CString, c_int, c_void};

use super::file::{Chunk, Kind, Part, is_refusal};
use super::sock::{self, tried};
use super::transport::{FILE_WAITS, FULL, LOSING, READS, SENDING, SOCKET, Transport, TransportRef};
use crate::engine::callback::{Callback, FreeArg};
use crate::engine::event_loop::Owned;
use crate::engine::watch::Direction;
use crate::error::{self, Error, Result};
use crate::task::combine::{entered, of, release};
use crate::task::future::{FutureRef, Outcome};
use crate::task::operation::{Operation, OperationRef, Work};

/// How many pieces are read before others have their turn.
const TURNS: u32 = 4;

/// A file on its way to a peer.
pub(super) struct Sending {
    transport: TransportRef,
    part: Part,
    kind: Kind,
    /// The kernel does it, as far as is known.
    native: bool,
    fallback: bool,
    /// Somebody has the future.
    wanted: bool,
    chunk: Chunk,
    /// The file is watched.
    watched: bool,
}

/// What is next.
enum Step {
    /// There was no room.
    Wait,
    /// There may be room for more, but others have their turn.
    Pause,
    /// The file has nothing yet.
    WaitForFile,
    Done(i64),
    /// The file has failed.
    Failed(Error),
    /// The connection has failed,
    Broken(Error),
    /// and that is dealt with.
    Lost,
}

impl Work for Sending {
    const NAME: &'static str = "sendfile";

    fn cancel(lp: &Owned, operation: &Operation<Self>) -> bool {
        if let Some(transport) = operation.with(|work| TransportRef::new(&work.transport)) {
            transport.stop_sending(lp);
        }
        true
    }

    fn progress(&self) -> Option<usize> {
        Some(self.part.sent() as usize)
    }
}

impl Transport {
    /// `loop.sendfile`. None when its future is not wanted.
    pub(crate) fn sendfile(&self, lp: &Owned, part: Part, fallback: bool, wanted: bool) -> Result<Option<FutureRef>> {
        if !std::ptr::eq(self.event_loop(), lp.pointer()) {
            return Err(Error::INVALID.detail(|| "the transport belongs to another loop".into()));
        }
        self.check_writes()?;
        let kind = part.kind()?;
        let native = kind == Kind::Regular && self.is_stream_socket();
        if !native && !fallback {
            let what = if kind == Kind::Regular { "to this kind of transport" } else { "from this kind of file" };
            return Err(Error::NO_SENDFILE.detail(|| format!("sendfile(2) does not send {what}")));
        }
        if kind == Kind::Stream && lp.is_watched(part.file(), Direction::Read) {
            return Err(Error::BUSY.detail(|| format!("descriptor {} is being waited for already", part.file())));
        }
        let operation = Operation::begin(
            lp,
            Sending {
                transport: TransportRef::new(self),
                part,
                kind,
                native,
                fallback,
                wanted,
                chunk: Chunk::default(),
                watched: false,
            },
        );
        self.change_writing(|writing| writing.sending = Some(OperationRef::new(&operation)));
        self.set(SENDING);
        if self.queue_size() == 0 && !self.has(FULL) {
            self.send_file(lp);
        }
        if self.has(SENDING) {
            self.update_interest(lp);
        }
        Ok(wanted.then(|| operation.into_future()))
    }

    fn is_stream_socket(&self) -> bool {
        // One that also reads has been looked at before it was made a transport.
        self.has(SOCKET) && (self.has(READS) || sock::kind_of(self.fd()) == Ok(libc::SOCK_STREAM))
    }

    fn sending(&self) -> Option<OperationRef<Sending>> {
        self.writing(|writing| writing.sending.as_deref().map(OperationRef::new)).flatten()
    }

    /// Sends what can be sent now. Nothing is queued, and the transport not lost.
    pub(super) fn send_file(&self, lp: &Owned) {
        let Some(operation) = self.sending() else { return };
        let mut step = operation.with(|work| work.send(self.fd())).unwrap_or(None);
        if step.is_none() {
            step = Some(self.send_pieces(lp, &operation));
        }
        let outcome = match step {
            Some(Step::WaitForFile) => match wait_for_file(lp, &operation) {
                Ok(()) => {
                    self.set(FILE_WAITS);
                    self.update_interest(lp);
                    return;
                }
                Err(error) => failure(error),
            },
            Some(Step::Done(sent)) => Outcome::number(sent),
            Some(Step::Broken(error)) => {
                self.fail(lp, error, "Fatal write error on socket transport");
                return;
            }
            Some(Step::Failed(error)) => failure(error),
            Some(Step::Wait | Step::Pause | Step::Lost) | None => return,
        };
        self.stop_sending(lp);
        let _ = operation.end(lp, outcome);
    }

    /// Reads and writes.
    fn send_pieces(&self, lp: &Owned, operation: &Operation<Sending>) -> Step {
        for _ in 0..TURNS {
            // Not under the borrow: a write that fails may call the host.
            let Some(mut chunk) = operation.with(|work| std::mem::take(&mut work.chunk)) else { return Step::Lost };
            if chunk.rest().is_empty() {
                match operation.with(|work| tried(|| work.part.read(work.kind, &mut chunk))) {
                    None => return Step::Lost,
                    Some(Ok(Some(true))) => {}
                    Some(Ok(Some(false))) => return Step::Done(operation.with(|work| work.part.sent()).unwrap_or(0)),
                    Some(Ok(None)) => return Step::WaitForFile,
                    Some(Err(error)) => return Step::Failed(error),
                }
            }
            let rest = chunk.rest();
            let piece = libc::iovec { iov_base: rest.as_ptr().cast_mut().cast(), iov_len: rest.len() };
            let Some(written) = self.write_now(lp, &[piece]) else { return Step::Lost };
            chunk.advance(written);
            let is_full = !chunk.rest().is_empty();
            let done = operation.with(|work| {
                work.chunk = chunk;
                (written > 0 && work.part.advance(written)).then(|| work.part.sent())
            });
            match done {
                None => return Step::Lost,
                Some(Some(sent)) => return Step::Done(sent),
                Some(None) if is_full => return Step::Wait,
                Some(None) => {}
            }
        }
        Step::Pause
    }

    /// The file is not sent any further; what waited for its end is done.
    fn stop_sending(&self, lp: &Owned) -> Option<OperationRef<Sending>> {
        let operation = self.writing(|writing| writing.sending.take()).flatten()?;
        unwatch_file(lp, &operation);
        self.clear(SENDING | FILE_WAITS);
        if !self.has(LOSING) {
            self.sending_ended(lp);
        }
        Some(operation)
    }

    /// The connection is lost: with it, what is sent of a file.
    pub(super) fn lose_sending(&self, lp: &Owned, code: c_int) {
        if !self.has(SENDING) {
            return;
        }
        let Some(operation) = self.stop_sending(lp) else { return };
        let wanted = operation.with(|work| work.wanted).unwrap_or(false);
        let error = if code == 0 { Error::from_code(-libc::ECONNABORTED) } else { Error::from_code(code) };
        let _ = operation.end(lp, failure(error));
        if !wanted {
            // connection_lost tells it.
            operation.future().mark_retrieved();
        }
    }
}

impl Sending {
    /// By sendfile(2). None: it is to be read and written.
    fn send(&mut self, fd: c_int) -> Option<Step> {
        if !self.native {
            return None;
        }
        match tried(|| self.part.send(fd)) {
            Ok(None) => Some(Step::Wait),
            Ok(Some(sent)) if self.part.advance(sent) => Some(Step::Done(self.part.sent())),
            Ok(Some(_)) => Some(Step::Pause),
            Err(error) if is_refusal(error) => {
                self.native = false;
                if self.fallback { None } else { Some(Step::Failed(Error::NO_SENDFILE)) }
            }
            Err(error) if is_of_connection(error) => Some(Step::Broken(error)),
            Err(error) => Some(Step::Failed(error)),
        }
    }
}

/// Has the file watched, until there is something.
fn wait_for_file(lp: &Owned, operation: &Operation<Sending>) -> Result<()> {
    let Some(file) = operation.with(|work| work.part.file()) else { return Ok(()) };
    let arg = FreeArg::new(OperationRef::new(operation).into_pointer(), Some(release::<Sending>));
    lp.watch_internal(file, Direction::Read, Callback { function: Some(file_ready), arg })?;
    operation.with(|work| work.watched = true);
    Ok(())
}

fn unwatch_file(lp: &Owned, operation: &Operation<Sending>) {
    let watched = operation.with(|work| std::mem::take(&mut work.watched).then(|| work.part.file())).flatten();
    if let Some(file) = watched
        && lp.is_watched_for(file, Direction::Read, operation.pointer())
    {
        lp.unwatch_internal(file, Direction::Read);
    }
}

/// There is something to be read from the file.
unsafe extern "C-unwind" fn file_ready(operation: *mut c_void) {
    // SAFETY: the watcher has a reference, which it gives up after this call.
    let operation = unsafe { of::<Sending>(operation) };
    let Some(lp) = entered(operation.future()) else { return };
    let Some(transport) = operation.with(|work| TransportRef::new(&work.transport)) else { return };
    unwatch_file(&lp, operation);
    transport.clear(FILE_WAITS);
    transport.send_file(&lp);
    if transport.has(SENDING) && !transport.has(FILE_WAITS) {
        transport.update_interest(&lp);
    }
}

fn failure(error: Error) -> Outcome {
    let sentence = format!("sendfile: {}", error::describe(error.code()).to_string_lossy());
    Outcome::failure(error.code(), CString::new(sentence).ok(), FreeArg::none())
}

/// Whether it is the connection that has failed, not the file.
fn is_of_connection(error: Error) -> bool {
    matches!(
        -error.code(),
        libc::EPIPE
            | libc::ECONNRESET
            | libc::ECONNABORTED
            | libc::ECONNREFUSED
            | libc::ETIMEDOUT
            | libc::ENOTCONN
            | libc::ENETDOWN
            | libc::ENETUNREACH
            | libc::ENETRESET
            | libc::EHOSTDOWN
            | libc::EHOSTUNREACH
            | libc::EPROTO
    )
}
