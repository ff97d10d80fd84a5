//! `sock_accept`.

use std::ffi::c_int;
use std::os::fd::{FromRawFd, OwnedFd};

use super::{Peer, call};
use crate::error::{Error, Result};
use crate::task::future::{Numbered, Outcome, Shape};

pub(super) fn attempt(fd: c_int) -> Result<Option<Outcome>> {
    let mut peer = Peer::new();
    let flags = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    loop {
        let (address, size) = peer.pointers();
        // SAFETY: the address has room for any.
        match call(|| unsafe { libc::accept4(fd, address, size, flags) as isize }) {
            Ok(None) => return Ok(None),
            Ok(Some(connection)) => {
                // SAFETY: the descriptor is new and nobody else's.
                let connection = unsafe { OwnedFd::from_raw_fd(connection as c_int) };
                return Ok(Some(Outcome::object(Shape::Numbered, Numbered::descriptor(connection, peer.bytes()))));
            }
            // It went before it was accepted; there may be others.
            Err(error) if error == Error::from_code(-libc::ECONNABORTED) => {}
            Err(error) => return Err(error),
        }
    }
}
