//! `sock_sendfile`: by sendfile(2), or by reading and sending where the kernel cannot.

use std::ffi::c_int;

use super::{call, tried};
use crate::error::{Error, Result};
use crate::net::file::{Chunk, Kind, Part, is_refusal};
use crate::task::future::Outcome;

/// What is sent of a file.
pub(crate) struct SendFile {
    part: Part,
    /// What was read and not sent yet, where the kernel cannot send from the file.
    fallback: Option<Chunk>,
}

impl SendFile {
    pub(crate) fn new(part: Part) -> SendFile {
        SendFile { part, fallback: None }
    }

    /// Refuses what has no offsets, or where reading may block for ever.
    pub(super) fn check(&self) -> Result<()> {
        match self.part.kind() {
            Ok(Kind::Regular) => Ok(()),
            Err(error) if error == Error::BAD_DESCRIPTOR => Err(error),
            _ => Err(Error::INVALID.detail(|| "sendfile sends from regular files and block devices".into())),
        }
    }

    pub(super) fn sent(&self) -> usize {
        self.part.sent() as usize
    }

    pub(super) fn attempt(&mut self, fd: c_int) -> Result<Option<Outcome>> {
        if self.fallback.is_none() {
            match tried(|| self.part.send(fd)) {
                Ok(None) => return Ok(None),
                Ok(Some(sent)) => return Ok(self.advance(sent)),
                Err(error) if is_refusal(error) => self.fallback = Some(Chunk::default()),
                Err(error) => return Err(error),
            }
        }
        self.read_and_send(fd)
    }

    /// The outcome when that was all; `sent` is 0 at the file's end.
    fn advance(&mut self, sent: usize) -> Option<Outcome> {
        self.part.advance(sent).then(|| Outcome::number(self.part.sent()))
    }

    fn read_and_send(&mut self, fd: c_int) -> Result<Option<Outcome>> {
        let Some(chunk) = &mut self.fallback else { return Ok(None) };
        if chunk.rest().is_empty() && tried(|| self.part.read(Kind::Regular, chunk))? == Some(false) {
            return Ok(self.advance(0));
        }
        let rest = chunk.rest();
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        // SAFETY: the bytes are ours.
        let sent = call(|| unsafe { libc::send(fd, rest.as_ptr().cast(), rest.len(), flags) })?;
        let Some(sent) = sent else { return Ok(None) };
        chunk.advance(sent);
        Ok(if sent == 0 { None } else { self.advance(sent) })
    }
}
