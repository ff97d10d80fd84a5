//! The pipes of a child: transports whose protocol is the process.

use std::ffi::{c_int, c_void};
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd};
use std::ptr;

use super::subprocess::{HAS_PROTOCOL, Process, enter, is_broken};
use crate::engine::context::{Captured, Word};
use crate::engine::event_loop::Owned;
use crate::error::Result;
use crate::net::transport::{OF_PROCESS, READS, Transport, WRITES};
use crate::net::{pipe, protocol};

impl Process {
    /// Makes transports of this process's ends of the pipes.
    pub(super) fn open_pipes(&self, lp: &Owned, ends: [Option<OwnedFd>; 3]) -> Result<()> {
        let input = protocol::Callbacks {
            connection_lost: Some(pipe_lost),
            pause_writing: Some(pause_writing),
            resume_writing: Some(resume_writing),
            ..protocol::Callbacks::default()
        };
        let output = protocol::Callbacks {
            data_received: Some(pipe_data),
            connection_lost: Some(pipe_lost),
            ..protocol::Callbacks::default()
        };
        for (number, end) in ends.into_iter().enumerate() {
            let Some(end) = end else { continue };
            let (callbacks, direction) = if number == 0 { (input, WRITES) } else { (output, READS) };
            let protocol = protocol::Protocol { callbacks: callbacks.shared(), arg: self.counted_arg() };
            let none = Captured::new(Word::NONE);
            let transport = pipe::open(lp, end.as_raw_fd(), direction | OF_PROCESS, protocol, none)?;
            // From here on it is the transport's.
            let _ = end.into_raw_fd();
            transport.share_context(self.context.as_ptr());
            if number > 0 && !self.has(HAS_PROTOCOL) {
                transport.pause_reading(lp)?;
            }
            self.open.set(self.open.get() + 1);
            self.pipes[number].set(transport.into_raw());
        }
        Ok(())
    }

    /// Which of the child's descriptors a pipe is.
    fn number_of(&self, transport: *const Transport) -> c_int {
        (0..).zip(&self.pipes).find(|(_, pipe)| ptr::eq(pipe.get(), transport)).map_or(-1, |(number, _)| number)
    }
}

/// A pipe of the child brings something. The context is the process's already; a failure is the pipe's.
unsafe extern "C-unwind" fn pipe_data(transport: *mut Transport, data: *const c_void, size: usize, arg: *mut c_void) {
    // SAFETY: the pipe has a reference of the process; the bytes are there during the call.
    unsafe {
        let this = &*arg.cast_const().cast::<Process>();
        let number = this.number_of(transport);
        if !this.collect(number, std::slice::from_raw_parts(data.cast(), size))
            && let Some(received) = this.callbacks.pipe_data_received
        {
            received(this.pointer(), number, data, size, this.arg());
        }
    }
}

/// A pipe of the child is closed.
unsafe extern "C-unwind" fn pipe_lost(transport: *mut Transport, code: c_int, arg: *mut c_void) {
    // SAFETY: the pipe has a reference of the process.
    let Some((this, lp)) = (unsafe { enter(arg) }) else { return };
    this.note_lost(this.number_of(transport), code);
    if let Some(lost) = this.callbacks.pipe_connection_lost {
        // SAFETY: the host gave the function with its arg.
        unsafe { lost(this.pointer(), this.number_of(transport), code, this.arg()) };
        if is_broken() {
            return;
        }
    }
    this.open.set(this.open.get() - 1);
    this.try_finish(&lp);
}

unsafe extern "C-unwind" fn pause_writing(_: *mut Transport, arg: *mut c_void) {
    // SAFETY: as in `pipe_data`.
    unsafe {
        let this = &*arg.cast_const().cast::<Process>();
        if let Some(pause) = this.callbacks.pause_writing {
            pause(this.pointer(), this.arg());
        }
    }
}

unsafe extern "C-unwind" fn resume_writing(_: *mut Transport, arg: *mut c_void) {
    // SAFETY: as in `pipe_data`.
    unsafe {
        let this = &*arg.cast_const().cast::<Process>();
        if let Some(resume) = this.callbacks.resume_writing {
            resume(this.pointer(), this.arg());
        }
    }
}
