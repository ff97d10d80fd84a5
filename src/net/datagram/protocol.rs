//! What datagram endpoints call (`asyncio.DatagramProtocol`).

use std::ffi::{c_int, c_void};
use std::ptr;

use super::Datagram;
use crate::engine::callback::FreeArg;
use crate::engine::context::Captured;

/// One datagram, in memory of whoever made this.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Message {
    /// Its bytes; may be NULL when there are none.
    pub data: *const c_void,
    /// How many.
    pub size: usize,
    /// Whom it is from, or for; NULL: not told.
    pub address: *const c_void,
    /// How many bytes the address has.
    pub address_size: u32,
    /// Always zero.
    pub reserved: u32,
}

impl Message {
    pub(super) const NONE: Message =
        Message { data: ptr::null(), size: 0, address: ptr::null(), address_size: 0, reserved: 0 };
}

/// Tells of an endpoint, and nothing else.
pub type TellFn = unsafe extern "C-unwind" fn(datagram: *mut Datagram, arg: *mut c_void);
/// Takes one datagram.
pub type ReceivedFn = unsafe extern "C-unwind" fn(
    datagram: *mut Datagram,
    data: *const c_void,
    size: usize,
    address: *const c_void,
    address_size: u32,
    arg: *mut c_void,
);
/// Takes several.
pub type BatchFn =
    unsafe extern "C-unwind" fn(datagram: *mut Datagram, messages: *const Message, count: usize, arg: *mut c_void);
/// Told a code.
pub type CodeFn = unsafe extern "C-unwind" fn(datagram: *mut Datagram, code: c_int, arg: *mut c_void);

/// The functions of a protocol (`asyncio.DatagramProtocol`); those that are not there are not called.
#[derive(Clone, Copy)]
#[allow(missing_docs, reason = "asyncio's names")]
pub struct Callbacks {
    pub connection_made: Option<TellFn>,
    pub datagram_received: Option<ReceivedFn>,
    pub datagrams_received: Option<BatchFn>,
    pub error_received: Option<CodeFn>,
    pub connection_lost: Option<CodeFn>,
    pub pause_writing: Option<TellFn>,
    pub resume_writing: Option<TellFn>,
}

/// What an endpoint is made for.
pub(crate) struct Client {
    pub(crate) callbacks: Callbacks,
    pub(crate) arg: FreeArg,
    pub(crate) context: Captured,
}
