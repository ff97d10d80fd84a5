//! The writing side of a transport: written at once what can be, the rest queued; and the flow control that goes with it.

use std::ffi::{c_int, c_void};
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};

use super::transport::{
    CLOSING, DEVICE, FILE_WAITS, FULL, LIMITS, LOSING, PAUSE_DUE, READS, SENDING, SOCKET, Transport, WATCHES_PEER,
    WRITE_EOF, WRITES, WRITING_PAUSED, enter,
};
use super::write_queue::MOST;
use super::{sigpipe, sock};
use crate::engine::callback::FreeArg;
use crate::engine::event_loop::Owned;
use crate::error::{Error, Result};

/// Not yet known by libc's bindings: no SIGPIPE from this write. Since Linux 6.18.
const RWF_NOSIGNAL: isize = 0x100;

impl Transport {
    pub(super) fn check_writes(&self) -> Result<()> {
        self.check_open(self.is_closing())
    }

    /// A socket that is closing takes more while something waits, as asyncio's does: TLS writes its end then.
    fn check_writes_more(&self) -> Result<()> {
        self.check_open(if self.has(SOCKET) { self.has(LOSING) } else { self.is_closing() })
    }

    fn check_open(&self, closing: bool) -> Result<()> {
        if !self.has(WRITES) {
            return Err(Error::NOT_SUPPORTED.detail(|| "the transport only reads".into()));
        }
        if closing {
            return Err(Error::BROKEN_PIPE.detail(|| "the transport is closing".into()));
        }
        if self.has(WRITE_EOF) {
            return Err(Error::INVALID_STATE.detail(|| "nothing can be written after write_eof".into()));
        }
        if self.has(SENDING) {
            return Err(Error::BUSY.detail(|| "unable to write; sendfile is in progress".into()));
        }
        Ok(())
    }

    /// `transport.get_write_buffer_size`.
    pub(crate) fn queue_size(&self) -> usize {
        self.writing(|writing| writing.queue.size()).unwrap_or(0)
    }

    /// `transport.write`, `writelines`: what cannot be written now is copied.
    pub(crate) fn write(&self, lp: &Owned, pieces: &[libc::iovec]) -> Result<()> {
        self.check_writes_more()?;
        let mut skip = 0;
        if self.queue_size() == 0 && !self.has(FULL) {
            for some in pieces.chunks(MOST) {
                let all = some.iter().fold(0usize, |sum, piece| sum.saturating_add(piece.iov_len));
                if all == 0 {
                    continue;
                }
                let Some(written) = self.write_now(lp, some) else { return Ok(()) };
                skip += written;
                if written < all {
                    break;
                }
            }
        }
        let before = self.queue_size();
        for piece in pieces {
            let skipped = skip.min(piece.iov_len);
            skip -= skipped;
            if skipped == piece.iov_len {
                continue;
            }
            // SAFETY: the host has given so many bytes to be read from.
            let rest = unsafe {
                std::slice::from_raw_parts(piece.iov_base.cast::<u8>().add(skipped), piece.iov_len - skipped)
            };
            if !self.change_writing(|writing| writing.queue.copy(rest)) {
                // A part may be on its way: what follows it must not be left out.
                self.force_close(lp, Error::NO_MEMORY.code());
                return Err(Error::NO_MEMORY);
            }
        }
        self.queued(lp, before);
        Ok(())
    }

    /// `transport.write` of memory that the host lends until it is written.
    pub(crate) fn write_owned(&self, lp: &Owned, data: *const c_void, size: usize, arg: FreeArg) -> Result<()> {
        self.check_writes_more()?;
        let mut written = 0;
        if self.queue_size() == 0 && size > 0 && !self.has(FULL) {
            let all = libc::iovec { iov_base: data.cast_mut(), iov_len: size };
            let Some(count) = self.write_now(lp, &[all]) else { return Ok(()) };
            written = count;
        }
        if written == size {
            return Ok(());
        }
        let before = self.queue_size();
        // SAFETY: so many bytes were given, and not all of them are written.
        let rest = unsafe { data.cast::<u8>().add(written) };
        let given = self.change_writing(|writing| writing.queue.give(rest, size - written, arg));
        if let Err(arg) = given {
            self.force_close(lp, Error::NO_MEMORY.code());
            drop(arg);
            return Err(Error::NO_MEMORY);
        }
        self.queued(lp, before);
        Ok(())
    }

    /// Something may have been put into the queue.
    fn queued(&self, lp: &Owned, before: usize) {
        if self.queue_size() == before {
            return;
        }
        if before == 0 {
            self.update_interest(lp);
        }
        if !self.has(LOSING) {
            self.consider_pausing(lp);
        }
    }

    /// Writes what can be written now: how much that is. None: it failed, and the transport is closing.
    pub(super) fn write_now(&self, lp: &Owned, pieces: &[libc::iovec]) -> Option<usize> {
        let result = if self.has(SOCKET) {
            send(self.fd(), pieces)
        } else if self.has(DEVICE) {
            // SAFETY: the pieces are readable.
            check(unsafe { libc::writev(self.fd(), pieces.as_ptr(), pieces.len() as c_int) })
        } else {
            write_pipe(self.fd(), pieces)
        };
        match result {
            Ok(count) => Some(count),
            Err(error) if error.code() == -libc::EINTR => self.write_now(lp, pieces),
            Err(error) if error.code() == -libc::EAGAIN => Some(0),
            Err(error) => {
                self.fail(
                    lp,
                    error,
                    if self.has(READS) {
                        "Fatal write error on socket transport"
                    } else {
                        "Fatal write error on pipe transport"
                    },
                );
                None
            }
        }
    }

    /// Writes the queue as far as it can be written.
    fn flush(&self, lp: &Owned) {
        let mut pieces = [libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 }; MOST];
        let count = self.writing(|writing| writing.queue.fill(&mut pieces)).unwrap_or(0);
        if count > 0 {
            let Some(written) = self.write_now(lp, &pieces[..count]) else { return };
            // What is not needed any more is dropped when the borrow has ended.
            let mut done = self.writing(|writing| writing.queue.advance(written)).flatten();
            while done.is_some() {
                drop(done);
                done = self.writing(|writing| writing.queue.advance(0)).flatten();
            }
        }
        if self.has(LOSING) {
            return;
        }
        if self.queue_size() == 0 && self.has(WRITE_EOF) && !self.has(SENDING) {
            self.end_writing();
        }
        if !self.has(SOCKET) {
            self.set(FULL);
        }
        self.consider_resuming(lp);
        self.clear(FULL);
        // The protocol may have written more, or closed it; after a fork the loop is not to be touched.
        if self.queue_size() > 0 || self.has(LOSING) || !lp.event_loop().is_owned_here() {
            return;
        }
        if self.has(SENDING) {
            self.send_file(lp);
        } else {
            self.all_written(lp);
        }
    }

    /// Nothing is queued any more.
    fn all_written(&self, lp: &Owned) {
        self.update_interest(lp);
        self.drop_writing(false);
        if self.is_closing() {
            self.lose(lp, 0);
        }
    }

    /// A file is not being sent any more.
    pub(super) fn sending_ended(&self, lp: &Owned) {
        if self.queue_size() > 0 {
            self.update_interest(lp);
            return;
        }
        if self.has(WRITE_EOF) {
            self.end_writing();
        }
        self.all_written(lp);
    }

    /// Tells the protocol to pause when there is too much.
    fn consider_pausing(&self, lp: &Owned) {
        if self.queue_size() <= self.high_and_low().0 || self.has(WRITING_PAUSED | PAUSE_DUE) {
            return;
        }
        if lp.is_calling() {
            self.tell_to_pause(lp);
        } else {
            // The host's callbacks are called while the loop runs.
            self.set(PAUSE_DUE);
            let _ = self.schedule(lp, pause_due);
        }
    }

    fn tell_to_pause(&self, lp: &Owned) {
        self.set(WRITING_PAUSED);
        if let Some(pause) = self.callbacks().pause_writing {
            let _ = self.call_within(lp, "pause_writing", &mut |this, arg| {
                // SAFETY: the host gave the function with its arg.
                unsafe { pause(this, arg) };
                0
            });
        }
    }

    fn consider_resuming(&self, lp: &Owned) {
        if self.queue_size() > self.high_and_low().1 {
            return;
        }
        self.clear(PAUSE_DUE);
        if !self.has(WRITING_PAUSED) {
            return;
        }
        self.clear(WRITING_PAUSED);
        if let Some(resume) = self.callbacks().resume_writing {
            let _ = self.call(lp, "resume_writing", false, &mut |this, arg| {
                // SAFETY: the host gave the function with its arg.
                unsafe { resume(this, arg) };
                0
            });
        }
    }

    /// `transport.set_write_buffer_limits`.
    pub(crate) fn set_limits(&self, lp: &Owned, high: usize, low: usize) -> Result<()> {
        if !self.has(WRITES) {
            return Err(Error::NOT_SUPPORTED.detail(|| "the transport only reads".into()));
        }
        if low > high {
            return Err(Error::INVALID.detail(|| format!("high ({high}) must be >= low ({low})")));
        }
        self.change_writing(|writing| (writing.high, writing.low) = (high, low));
        if !self.has(LOSING) {
            self.consider_pausing(lp);
        }
        Ok(())
    }

    /// `transport.get_write_buffer_limits`: high and low.
    pub(crate) fn limits(&self) -> Result<(usize, usize)> {
        if !self.has(WRITES) {
            return Err(Error::NOT_SUPPORTED.detail(|| "the transport only reads".into()));
        }
        Ok(self.high_and_low())
    }

    fn high_and_low(&self) -> (usize, usize) {
        self.writing(|writing| (writing.high, writing.low)).unwrap_or(LIMITS)
    }

    /// `transport.write_eof`: a pipe is closed by it, when its queue is written; a stream says that nothing more follows.
    pub(crate) fn write_eof(&self, lp: &Owned) -> Result<()> {
        if !self.has(WRITES) {
            return Err(Error::NOT_SUPPORTED.detail(|| "the transport only reads".into()));
        }
        if !self.has(READS) {
            self.close(lp);
        } else if !self.has(CLOSING | WRITE_EOF) {
            self.set(WRITE_EOF);
            if self.queue_size() == 0 && !self.has(SENDING) {
                self.end_writing();
            }
        }
        Ok(())
    }

    fn end_writing(&self) {
        // SAFETY: a plain system call. A peer that has gone is noticed by reading.
        unsafe { libc::shutdown(self.fd(), libc::SHUT_WR) };
    }

    /// `transport.can_write_eof`.
    pub(crate) fn can_write_eof(&self) -> bool {
        self.has(WRITES)
    }

    /// Has evl own all that is queued: the host's memory is not touched any more.
    pub(crate) fn copy_queue(&self) -> Result<()> {
        // The host's code runs when the borrow has ended.
        let given = self.writing(|writing| writing.queue.copy_given());
        given.is_none_or(|given| given.map(drop).is_some()).then_some(()).ok_or(Error::NO_MEMORY)
    }

    /// The descriptor is writable.
    pub(super) fn on_writable(&self, lp: &Owned) {
        if self.has(LOSING) {
            return;
        }
        if self.queue_size() > 0 {
            self.flush(lp);
        } else if self.has(SENDING) && !self.has(FILE_WAITS) {
            self.send_file(lp);
        }
    }

    /// Something has happened at the other end of a transport that only writes.
    pub(super) fn look_at_peer(&self, lp: &Owned) {
        if self.has(LOSING) {
            return;
        }
        if !sock::is_ready(self.fd(), libc::POLLRDHUP) {
            // The other end of a socket sends, or the pipe was opened for reading, too: that is not for us, and would be told for
            // ever.
            self.clear(WATCHES_PEER);
            self.update_interest(lp);
            return;
        }
        self.force_close(lp, if self.queue_size() > 0 || self.has(SENDING) { Error::BROKEN_PIPE.code() } else { 0 });
    }
}

/// A pause that was due when no callback could be called.
unsafe extern "C-unwind" fn pause_due(arg: *mut c_void) {
    // SAFETY: the entry has a reference.
    let Some((this, lp)) = (unsafe { enter(arg) }) else { return };
    if this.has(PAUSE_DUE) {
        this.clear(PAUSE_DUE);
        if this.queue_size() > this.high_and_low().0 && !this.has(CLOSING | WRITING_PAUSED) {
            this.tell_to_pause(&lp);
        }
    }
}

fn check(result: isize) -> Result<usize> {
    usize::try_from(result).map_err(|_| Error::last_os())
}

fn send(fd: c_int, pieces: &[libc::iovec]) -> Result<usize> {
    if let [one] = pieces {
        // SAFETY: the piece is readable.
        return check(unsafe { libc::send(fd, one.iov_base, one.iov_len, libc::MSG_NOSIGNAL) });
    }
    // SAFETY: all zeros is a message without an address; the pieces are readable.
    unsafe {
        let mut message = MaybeUninit::<libc::msghdr>::zeroed().assume_init();
        message.msg_iov = pieces.as_ptr().cast_mut();
        message.msg_iovlen = pieces.len() as _;
        check(libc::sendmsg(fd, &raw const message, libc::MSG_NOSIGNAL))
    }
}

/// Writes to a pipe without a SIGPIPE.
fn write_pipe(fd: c_int, pieces: &[libc::iovec]) -> Result<usize> {
    static MUST_MASK: AtomicBool = AtomicBool::new(false);
    if !MUST_MASK.load(Ordering::Relaxed) {
        // SAFETY: the pieces are readable; the offset means "where it is".
        let result = unsafe {
            let (pieces, count) = (pieces.as_ptr(), pieces.len());
            libc::syscall(libc::SYS_pwritev2, fd as isize, pieces, count, -1isize, -1isize, RWF_NOSIGNAL)
        };
        match check(result as isize) {
            Err(error) if matches!(-error.code(), libc::EOPNOTSUPP | libc::ENOSYS | libc::EINVAL | libc::EPERM) => {
                MUST_MASK.store(true, Ordering::Relaxed);
            }
            result => return result,
        }
    }
    let size = pieces.iter().fold(0usize, |sum, piece| sum.saturating_add(piece.iov_len));
    // SAFETY: the pieces are readable.
    sigpipe::masked(size, || unsafe { libc::writev(fd, pieces.as_ptr(), pieces.len() as c_int) })
}
