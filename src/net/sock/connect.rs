//! `sock_connect`.

use std::ffi::c_int;

use super::socket_option;
use crate::error::{Error, Result};
use crate::task::future::Outcome;

/// Whom to connect to.
pub(crate) struct Connect {
    address: Box<[u8]>,
    /// The kernel is at it.
    began: bool,
}

impl Connect {
    pub(crate) fn new(address: Box<[u8]>) -> Result<Connect> {
        if address.is_empty() {
            return Err(Error::INVALID);
        }
        Ok(Connect { address, began: false })
    }

    pub(super) fn address(&self) -> &[u8] {
        &self.address
    }

    pub(super) fn attempt(&mut self, fd: c_int) -> Result<Option<Outcome>> {
        if self.began {
            return match socket_option(fd, libc::SO_ERROR)? {
                0 => Ok(Some(Outcome::nothing())),
                error => Err(Error::from_code(-error)),
            };
        }
        loop {
            // SAFETY: the address is ours.
            let result =
                unsafe { libc::connect(fd, self.address.as_ptr().cast(), self.address.len() as libc::socklen_t) };
            if result == 0 {
                return Ok(Some(Outcome::nothing()));
            }
            let error = Error::last_os();
            match -error.code() {
                libc::EINTR => {}
                libc::EINPROGRESS | libc::EALREADY => {
                    self.began = true;
                    return Ok(None);
                }
                // EAGAIN among them: a full backlog of a unix socket, of whose end the kernel does not tell.
                _ => return Err(error),
            }
        }
    }
}
