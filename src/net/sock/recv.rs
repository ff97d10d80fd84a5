//! `sock_recv`, `sock_recv_into`, `sock_recvfrom`, `sock_recvfrom_into`.

use std::ffi::c_int;

use super::{Peer, call};
use crate::error::{Error, Result};
use crate::task::future::{Bytes, Numbered, Outcome, Shape};

/// What is received, and to where.
pub(crate) struct Recv {
    /// The caller's; NULL: bytes of ours.
    buffer: *mut u8,
    size: usize,
    wants_address: bool,
}

impl Recv {
    /// The result is bytes.
    pub(crate) fn bytes(size: usize, wants_address: bool) -> Recv {
        Recv { buffer: std::ptr::null_mut(), size, wants_address }
    }

    /// The result is how many bytes were written to the caller's buffer.
    pub(crate) fn into(buffer: *mut u8, size: usize, wants_address: bool) -> Result<Recv> {
        if buffer.is_null() {
            return Err(Error::INVALID);
        }
        Ok(Recv { buffer, size, wants_address })
    }

    pub(super) fn attempt(&mut self, fd: c_int) -> Result<Option<Outcome>> {
        let mut peer = Peer::new();
        if !self.buffer.is_null() {
            let count = receive(fd, self.buffer, self.size, self.wants_address.then_some(&mut peer))?;
            return Ok(count.map(|count| match self.wants_address {
                true => Outcome::object(Shape::Numbered, Numbered::count(count as i64, peer.bytes())),
                false => Outcome::number(count as i64),
            }));
        }
        // The memory is not kept while it waits.
        let mut data: Vec<u8> = Vec::new();
        data.try_reserve_exact(self.size).map_err(|_| Error::NO_MEMORY)?;
        let count = receive(fd, data.as_mut_ptr(), self.size, self.wants_address.then_some(&mut peer))?;
        let Some(count) = count else { return Ok(None) };
        // SAFETY: the kernel has written that many bytes, for which there is room.
        unsafe { data.set_len(count.min(self.size)) };
        if data.len() < self.size / 2 {
            data.shrink_to_fit();
        }
        let address = if self.wants_address { peer.bytes() } else { Vec::new() };
        Ok(Some(Outcome::object(Shape::Bytes, Bytes { data, address })))
    }
}

fn receive(fd: c_int, buffer: *mut u8, size: usize, peer: Option<&mut Peer>) -> Result<Option<usize>> {
    let (address, address_size) = peer.map_or((std::ptr::null_mut(), std::ptr::null_mut()), |peer| peer.pointers());
    // SAFETY: the buffer has `size` bytes of room: ours, or the caller's, who keeps it until the future is done.
    call(|| unsafe { libc::recvfrom(fd, buffer.cast(), size, libc::MSG_DONTWAIT, address, address_size) })
}
