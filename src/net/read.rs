//! The reading side of a transport.

use std::ffi::{c_int, c_void};
use std::ptr;

use super::transport::{
    CLOSING, READ_EOF, READING_PAUSED, READS, SENDING, SOCKET, STARTED, TURN_DUE, Transport, WATCHES_PEER, WRITES,
    enter,
};
use crate::engine::event_loop::Owned;
use crate::engine::thread;
use crate::error::{Error, Result};

/// How often a read of a socket that fills its buffer is followed by another one before others have their turn. A pipe has no more.
const TURNS: u32 = 4;

impl Transport {
    /// `transport.is_reading`.
    pub(crate) fn is_reading(&self) -> bool {
        self.has(READS) && !self.has(READING_PAUSED | CLOSING | READ_EOF | SENDING)
    }

    fn check_reads(&self) -> Result<()> {
        if self.has(READS) {
            return Ok(());
        }
        Err(Error::NOT_SUPPORTED.detail(|| "the transport only writes".into()))
    }

    /// `transport.pause_reading`.
    pub(crate) fn pause_reading(&self, lp: &Owned) -> Result<()> {
        self.check_reads()?;
        if !self.has(READING_PAUSED | CLOSING | READ_EOF) {
            self.set(READING_PAUSED);
            self.update_interest(lp);
        }
        Ok(())
    }

    /// `transport.resume_reading`.
    pub(crate) fn resume_reading(&self, lp: &Owned) -> Result<()> {
        self.check_reads()?;
        if self.has(READING_PAUSED) {
            self.clear(READING_PAUSED);
            self.update_interest(lp);
        }
        Ok(())
    }

    /// What is always ready is read, and written, by turns with everything else.
    pub(super) fn schedule_turn(&self, lp: &Owned) {
        if !self.has(TURN_DUE) {
            self.set(TURN_DUE);
            let _ = self.schedule(lp, turn);
        }
    }

    /// Reads what there is, but not for ever.
    fn read(&self, lp: &Owned) {
        for _ in 0..if self.has(SOCKET) { TURNS } else { 1 } {
            if !self.is_reading() || !self.has(STARTED) || !self.read_once(lp) {
                return;
            }
        }
    }

    /// The descriptor is readable.
    pub(super) fn on_readable(&self, lp: &Owned) {
        if self.has(WATCHES_PEER) {
            self.look_at_peer(lp);
            return;
        }
        if !self.is_reading() || !self.has(STARTED) {
            return;
        }
        self.read(lp);
    }

    /// Whether there may be more.
    fn read_once(&self, lp: &Owned) -> bool {
        let callbacks = self.callbacks();
        if let (Some(get), Some(updated)) = (callbacks.get_buffer, callbacks.buffer_updated) {
            let (arg, table) = (self.arg(), ptr::from_ref(callbacks));
            let (mut buffer, mut size): (*mut c_void, usize) = (ptr::null_mut(), 0);
            let got = self.call(lp, "get_buffer", true, &mut |this, arg| {
                // SAFETY: the host gave the function with its arg; the outputs are writable.
                unsafe { get(this, 64 * 1024, &raw mut buffer, &raw mut size, arg) };
                0
            });
            // The memory of a protocol that was replaced meanwhile is its own again.
            let replaced = self.arg() != arg || !ptr::eq(self.callbacks(), table);
            if got.is_none() || !self.is_reading() || replaced {
                return false;
            }
            if buffer.is_null() || size == 0 {
                self.tell(lp, Error::INVALID.code(), "get_buffer() returned an empty buffer", None);
                self.force_close(lp, Error::INVALID.code());
                return false;
            }
            // SAFETY: the host has given so many bytes to be written to.
            let Some(count) = self.received(lp, unsafe { self.receive(buffer.cast(), size) }) else { return false };
            let told = self.call(lp, "buffer_updated", true, &mut |this, arg| {
                // SAFETY: the host gave the function with its arg.
                unsafe { updated(this, count, arg) };
                0
            });
            return told.is_some() && count == size && thread::current().attention.get() == 0;
        }
        let received = callbacks.data_received;
        let mut buffer = lp.take_read_buffer();
        // SAFETY: the buffer has so many bytes.
        let result = unsafe { self.receive(buffer.0.as_mut_ptr().cast(), buffer.0.len()) };
        let mut more = false;
        if let Some(count) = self.received(lp, result) {
            more = count == buffer.0.len();
            if let Some(received) = received {
                let told = self.call(lp, "data_received", true, &mut |this, arg| {
                    // SAFETY: the host gave the function with its arg; the bytes are there during the call.
                    unsafe { received(this, buffer.0.as_ptr().cast(), count, arg) };
                    0
                });
                if told.is_none() {
                    // After a fork the loop is not to be touched.
                    return false;
                }
            }
        }
        lp.put_read_buffer(buffer);
        // An exit that was asked for comes first.
        more && thread::current().attention.get() == 0
    }

    /// # Safety
    /// The buffer has `size` bytes.
    unsafe fn receive(&self, buffer: *mut u8, size: usize) -> isize {
        // SAFETY: by this function's contract.
        unsafe {
            match self.has(SOCKET) {
                true => libc::recv(self.fd(), buffer.cast(), size, 0),
                false => libc::read(self.fd(), buffer.cast(), size),
            }
        }
    }

    /// What a read has answered: how many bytes, or None when it was something else, which was dealt with.
    fn received(&self, lp: &Owned, result: isize) -> Option<usize> {
        match result {
            1.. => Some(result as usize),
            0 => {
                self.ended(lp);
                None
            }
            _ => {
                let error = Error::last_os();
                if !matches!(-error.code(), libc::EAGAIN | libc::EINTR) {
                    self.fail(
                        lp,
                        error,
                        if self.has(WRITES) {
                            "Fatal read error on socket transport"
                        } else {
                            "Fatal read error on pipe transport"
                        },
                    );
                }
                None
            }
        }
    }

    /// The peer sends no more.
    fn ended(&self, lp: &Owned) {
        if self.has(WRITES) {
            self.set(READ_EOF);
            self.update_interest(lp);
            let answer = self.callbacks().eof_received.map_or(Some(0), |eof| {
                // SAFETY: the host gave the function with its arg.
                self.call(lp, "eof_received", true, &mut |this, arg| unsafe { eof(this, arg) })
            });
            if answer == Some(0) {
                self.close(lp);
            }
            return;
        }
        self.set(CLOSING);
        self.update_interest(lp);
        if let Some(eof) = self.callbacks().eof_received {
            // SAFETY: the host gave the function with its arg.
            let mut host = |this, arg| -> c_int { unsafe { eof(this, arg) } };
            // What it answers matters to those that also write.
            if self.call(lp, "eof_received", true, &mut host).is_none() {
                return;
            }
        }
        self.lose(lp, 0);
    }
}

/// It is the turn of a device that is always ready.
unsafe extern "C-unwind" fn turn(arg: *mut c_void) {
    // SAFETY: the entry has a reference.
    if let Some((this, lp)) = unsafe { enter(arg) } {
        this.clear(TURN_DUE);
        this.on_readable(&lp);
        // After a fork the loop is not to be touched.
        if lp.event_loop().is_owned_here() {
            this.on_writable(&lp);
        }
        if lp.event_loop().is_owned_here() && this.wants_turns() {
            this.schedule_turn(&lp);
        }
    }
}
