//! `sock_sendall`, `sock_sendto`.

use std::ffi::c_int;

use super::call;
use crate::error::{Error, Result};
use crate::task::future::Outcome;

/// What is sent, and to whom.
pub(crate) struct Send {
    data: *const u8,
    size: usize,
    sent: usize,
    /// Empty: whom the socket is connected to.
    address: Box<[u8]>,
    /// Done when all is sent; otherwise after one call, with what that sent as its result.
    all: bool,
}

impl Send {
    pub(crate) fn all(data: *const u8, size: usize) -> Result<Send> {
        Send::new(data, size, Box::default(), true)
    }

    pub(crate) fn to(data: *const u8, size: usize, address: Box<[u8]>) -> Result<Send> {
        Send::new(data, size, address, false)
    }

    fn new(data: *const u8, size: usize, address: Box<[u8]>, all: bool) -> Result<Send> {
        if data.is_null() && size > 0 {
            return Err(Error::INVALID);
        }
        Ok(Send { data, size, sent: 0, address, all })
    }

    pub(super) fn address(&self) -> &[u8] {
        &self.address
    }

    /// How much of all was sent.
    pub(super) fn progress(&self) -> Option<usize> {
        self.all.then_some(self.sent)
    }

    pub(super) fn attempt(&mut self, fd: c_int) -> Result<Option<Outcome>> {
        let address = if self.address.is_empty() { std::ptr::null() } else { self.address.as_ptr() };
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        let (rest, left) = (self.data.wrapping_add(self.sent), self.size - self.sent);
        let address_size = self.address.len() as libc::socklen_t;
        // SAFETY: the data is the caller's, who keeps it until the future is done; the address is ours.
        let sent = call(|| unsafe { libc::sendto(fd, rest.cast(), left, flags, address.cast(), address_size) })?;
        let Some(sent) = sent else { return Ok(None) };
        if !self.all {
            return Ok(Some(Outcome::number(sent as i64)));
        }
        self.sent += sent.min(left);
        Ok((self.sent == self.size).then(Outcome::nothing))
    }
}
