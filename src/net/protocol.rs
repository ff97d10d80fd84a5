//! Protocols (`asyncio.Protocol`, `BufferedProtocol`): what a transport calls.

use std::ffi::{c_int, c_void};

use super::transport::Transport;
use crate::engine::callback::FreeArg;

/// Tells of a transport, and nothing else.
pub type TellFn = unsafe extern "C-unwind" fn(transport: *mut Transport, arg: *mut c_void);
/// Takes what was read.
pub type DataFn =
    unsafe extern "C-unwind" fn(transport: *mut Transport, data: *const c_void, size: usize, arg: *mut c_void);
/// Told that the peer sends no more; true keeps the transport open.
pub type EofFn = unsafe extern "C-unwind" fn(transport: *mut Transport, arg: *mut c_void) -> c_int;
/// Told why the transport is closed; 0: it was closed in an orderly way.
pub type LostFn = unsafe extern "C-unwind" fn(transport: *mut Transport, code: c_int, arg: *mut c_void);
/// Hands out memory to read into.
pub type GetBufferFn = unsafe extern "C-unwind" fn(
    transport: *mut Transport,
    size_hint: usize,
    buffer: *mut *mut c_void,
    size: *mut usize,
    arg: *mut c_void,
);
/// Told how much was read into that memory.
pub type BufferFn = unsafe extern "C-unwind" fn(transport: *mut Transport, size: usize, arg: *mut c_void);

/// The functions of a protocol; those that are not there are not called.
#[derive(Clone, Copy, Default)]
#[allow(missing_docs, reason = "asyncio's names")]
pub struct Callbacks {
    pub connection_made: Option<TellFn>,
    pub data_received: Option<DataFn>,
    pub eof_received: Option<EofFn>,
    pub connection_lost: Option<LostFn>,
    pub pause_writing: Option<TellFn>,
    pub resume_writing: Option<TellFn>,
    pub get_buffer: Option<GetBufferFn>,
    pub buffer_updated: Option<BufferFn>,
}

/// A protocol that a transport has.
pub struct Protocol {
    /// What is called.
    pub callbacks: Callbacks,
    /// What it is called with.
    pub arg: FreeArg,
}
