//! The protocol through which a stream hears of its transport (`asyncio.StreamReaderProtocol`).

use std::ffi::{c_int, c_void};
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};

use super::{LOST, Stream, UNUSED};
use crate::engine::callback::{FreeArg, guarded};
use crate::engine::event_loop::{EventLoop, Owned};
use crate::error::Error;
use crate::net::protocol::{Callbacks, Protocol};
use crate::net::transport::{Transport, TransportRef};

/// What a stream's transport calls; `direct`: for what is received, it asks for memory.
pub(super) fn callbacks(direct: bool) -> Arc<Callbacks> {
    static TABLES: OnceLock<[Arc<Callbacks>; 2]> = OnceLock::new();
    let tables = TABLES.get_or_init(|| {
        let plain = Callbacks {
            connection_made: Some(connection_made),
            data_received: Some(data_received),
            eof_received: Some(eof_received),
            connection_lost: Some(connection_lost),
            resume_writing: Some(resume_writing),
            ..Callbacks::default()
        };
        let direct = Callbacks { get_buffer: Some(get_buffer), buffer_updated: Some(buffer_updated), ..plain };
        [plain.shared(), direct.shared()]
    });
    tables[usize::from(direct)].clone()
}

/// The protocol of a stream's transport, which keeps the stream.
pub(super) fn of(stream: Arc<Stream>) -> Protocol {
    let arg = FreeArg::new(Arc::into_raw(stream).cast_mut().cast(), Some(let_go));
    Protocol { callbacks: callbacks(false), arg }
}

/// The stream that a function of the protocol was called with, and the loop.
///
/// # Safety
/// `transport` is alive, and `arg` is what [`of`] gave it.
unsafe fn enter<'a>(transport: *mut Transport, arg: *mut c_void) -> Option<(&'a Stream, Owned<'a>)> {
    // SAFETY: by this function's contract; a transport keeps its loop's memory.
    unsafe { Some((&*arg.cast_const().cast::<Stream>(), (*(*transport).event_loop()).enter().ok()?)) }
}

unsafe extern "C-unwind" fn connection_made(transport: *mut Transport, arg: *mut c_void) {
    // SAFETY: called by the transport.
    let Some((stream, lp)) = (unsafe { enter(transport, arg) }) else { return };
    // One that was made a stream before its connection was made has it already.
    // SAFETY: as above.
    let _ = stream.transport.set(TransportRef::new(unsafe { &*transport }));
    if stream.users.load(Ordering::Relaxed) == 0 {
        // Whoever has opened it has given up meanwhile.
        stream.become_unused(&lp);
    }
    drop(lp);
    if let Some((function, arg)) = stream.connected.take() {
        let stream = std::ptr::from_ref(stream).cast_mut();
        // SAFETY: the host gave both together, and the server that has them is the transport's. The reference of whoever would use
        // the stream is given up: the host has taken another one, or does not use it.
        unsafe {
            guarded(|| function(stream, arg));
            Stream::release_ptr(stream);
        }
    }
}

unsafe extern "C-unwind" fn data_received(
    transport: *mut Transport,
    data: *const c_void,
    size: usize,
    arg: *mut c_void,
) {
    // SAFETY: called by the transport, with so many bytes.
    let (entered, chunk) = unsafe { (enter(transport, arg), std::slice::from_raw_parts(data.cast::<u8>(), size)) };
    if let Some((stream, lp)) = entered
        && !stream.has(UNUSED)
    {
        stream.feed(&lp, chunk);
    }
}

unsafe extern "C-unwind" fn get_buffer(
    transport: *mut Transport,
    _: usize,
    buffer: *mut *mut c_void,
    size: *mut usize,
    arg: *mut c_void,
) {
    // SAFETY: called by the transport, whose outputs are writable.
    if let Some((stream, _)) = unsafe { enter(transport, arg) } {
        let (at, room) = stream.room();
        // SAFETY: as above.
        unsafe {
            buffer.write(at.cast());
            size.write(room);
        }
    }
}

unsafe extern "C-unwind" fn buffer_updated(transport: *mut Transport, size: usize, arg: *mut c_void) {
    // SAFETY: called by the transport.
    if let Some((stream, lp)) = unsafe { enter(transport, arg) } {
        stream.filled(&lp, size);
    }
}

unsafe extern "C-unwind" fn eof_received(transport: *mut Transport, arg: *mut c_void) -> c_int {
    // SAFETY: called by the transport.
    if let Some((stream, lp)) = unsafe { enter(transport, arg) } {
        stream.feed_eof(&lp);
    }
    // What is to be written still is.
    1
}

unsafe extern "C-unwind" fn connection_lost(transport: *mut Transport, code: c_int, arg: *mut c_void) {
    // SAFETY: called by the transport.
    if let Some((stream, lp)) = unsafe { enter(transport, arg) } {
        stream.lost(&lp, code);
    }
}

unsafe extern "C-unwind" fn resume_writing(transport: *mut Transport, arg: *mut c_void) {
    // SAFETY: called by the transport.
    if let Some((stream, lp)) = unsafe { enter(transport, arg) } {
        stream.writable(&lp);
    }
}

/// The transport has no more use for the stream: the connection is lost, the loop is closed, or it has got another protocol.
///
/// # Safety
/// `arg` is what [`of`] made, and given up.
unsafe extern "C-unwind" fn let_go(arg: *mut c_void) {
    // SAFETY: by this function's contract.
    let stream = unsafe { Arc::from_raw(arg.cast_const().cast::<Stream>()) };
    if stream.connected.take().is_some() {
        // SAFETY: nobody was told of it: the reference for whoever would use it is still there.
        unsafe { Stream::release_ptr(Arc::as_ptr(&stream)) };
    }
    // SAFETY: the transport keeps its loop's memory.
    let event_loop = unsafe { stream.event_loop().as_ref() }.filter(|event_loop| event_loop.is_owned_here());
    if let Some(Ok(lp)) = event_loop.map(EventLoop::enter)
        && !stream.has(LOST)
    {
        stream.lost(&lp, Error::INVALID_STATE.code());
    }
}

impl Stream {
    /// Whether the transport has got another protocol is asked before anything is waited for.
    pub(super) fn notice_other_protocol(&self, lp: &Owned) {
        if !self.has(LOST) && self.own_transport().is_none() {
            self.lost(lp, Error::INVALID_STATE.code());
        }
    }

    /// Nothing more is heard of the transport; `code`: why, if that is a failure.
    fn lost(&self, lp: &Owned, code: c_int) {
        self.set(LOST);
        self.code.set(code);
        if !self.end_direct(lp) && code == 0 {
            self.code.set(Error::NO_MEMORY.code());
        }
        match self.failure() {
            None => self.feed_eof(lp),
            Some(failure) => {
                if let Some(reader) = self.reader.take() {
                    let _ = reader.end(lp, failure);
                }
            }
        }
        self.end_waiting(lp);
    }
}
