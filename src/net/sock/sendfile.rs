//! `sock_sendfile`: by sendfile(2), or by reading and sending where the kernel cannot.

use std::ffi::c_int;
use std::mem::MaybeUninit;

use super::call;
use crate::error::{Error, Result};
use crate::task::future::Outcome;

/// How much one call sends at most, so that one file does not hold everything else up.
const BLOCK: usize = 1 << 20;
/// How much is read at once where the kernel does not do it.
const CHUNK: usize = 1 << 16;

/// What is sent of a file.
pub(crate) struct SendFile {
    file: c_int,
    offset: i64,
    /// How many bytes; None: up to the file's end.
    count: Option<i64>,
    sent: i64,
    /// What was read and not sent yet, where the kernel cannot send from the file.
    fallback: Option<Chunk>,
}

struct Chunk {
    data: Vec<u8>,
    sent: usize,
}

impl SendFile {
    /// `count` 0: up to the file's end.
    pub(crate) fn new(file: c_int, offset: i64, count: i64) -> Result<SendFile> {
        if offset < 0 || count < 0 || offset.checked_add(count).is_none() {
            return Err(Error::INVALID.detail(|| "offset and count must not be negative".into()));
        }
        Ok(SendFile { file, offset, count: (count > 0).then_some(count), sent: 0, fallback: None })
    }

    /// Refuses what has no offsets, or where reading may block for ever.
    pub(super) fn check(&self) -> Result<()> {
        let mut status = MaybeUninit::<libc::stat>::uninit();
        // SAFETY: the kernel fills it when it answers 0.
        let mode = unsafe {
            if libc::fstat(self.file, status.as_mut_ptr()) < 0 {
                return Err(Error::last_os());
            }
            status.assume_init().st_mode
        };
        if !matches!(mode & libc::S_IFMT, libc::S_IFREG | libc::S_IFBLK) {
            return Err(Error::INVALID.detail(|| "sendfile sends from regular files and block devices".into()));
        }
        Ok(())
    }

    /// How much is to be sent by one call.
    fn next_size(&self) -> usize {
        let left = self.count.map_or(i64::MAX, |count| count - self.sent);
        usize::try_from(left).unwrap_or(usize::MAX).min(BLOCK)
    }

    pub(super) fn attempt(&mut self, fd: c_int) -> Result<Option<Outcome>> {
        if self.fallback.is_none() {
            match call(|| quietly(fd, self.file, self.offset + self.sent, self.next_size())) {
                Ok(None) => return Ok(None),
                Ok(Some(sent)) => return Ok(self.advance(sent)),
                Err(error) if is_not_for_this_file(error) => {
                    self.fallback = Some(Chunk { data: Vec::new(), sent: 0 });
                }
                Err(error) => return Err(error),
            }
        }
        self.read_and_send(fd)
    }

    /// The outcome when that was all; `sent` is 0 at the file's end.
    fn advance(&mut self, sent: usize) -> Option<Outcome> {
        self.sent += sent as i64;
        let complete = sent == 0 || self.count.is_some_and(|count| self.sent >= count);
        complete.then(|| Outcome::number(self.sent))
    }

    fn read_and_send(&mut self, fd: c_int) -> Result<Option<Outcome>> {
        let (file, at, size) = (self.file, self.offset + self.sent, self.next_size().min(CHUNK));
        let Some(chunk) = &mut self.fallback else { return Ok(None) };
        if chunk.sent == chunk.data.len() {
            chunk.data.clear();
            chunk.sent = 0;
            chunk.data.try_reserve_exact(size).map_err(|_| Error::NO_MEMORY)?;
            let room = chunk.data.as_mut_ptr();
            // SAFETY: there is room for so many bytes.
            let read = call(|| unsafe { libc::pread(file, room.cast(), size, at) })?.unwrap_or(0);
            // SAFETY: the kernel has written them.
            unsafe { chunk.data.set_len(read.min(size)) };
            if read == 0 {
                return Ok(self.advance(0));
            }
        }
        let rest = &chunk.data[chunk.sent..];
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        // SAFETY: the bytes are ours.
        let sent = call(|| unsafe { libc::send(fd, rest.as_ptr().cast(), rest.len(), flags) })?;
        let Some(sent) = sent else { return Ok(None) };
        chunk.sent += sent.min(rest.len());
        Ok(if sent == 0 { None } else { self.advance(sent) })
    }
}

/// Whether the kernel says that it cannot send from such a file, or to such a socket.
fn is_not_for_this_file(error: Error) -> bool {
    matches!(-error.code(), libc::EINVAL | libc::ENOSYS | libc::EOPNOTSUPP | libc::EOVERFLOW)
}

/// sendfile(2), which knows no MSG_NOSIGNAL: the SIGPIPE it may raise in this thread is taken back.
fn quietly(fd: c_int, file: c_int, offset: i64, count: usize) -> isize {
    // SAFETY: the sets are filled by the C library before they are read; plain system calls otherwise.
    unsafe {
        let (mut pipe, mut pending, mut mask) = (MaybeUninit::uninit(), MaybeUninit::uninit(), MaybeUninit::uninit());
        libc::sigemptyset(pipe.as_mut_ptr());
        libc::sigaddset(pipe.as_mut_ptr(), libc::SIGPIPE);
        libc::sigemptyset(pending.as_mut_ptr());
        libc::sigpending(pending.as_mut_ptr());
        let was_pending = libc::sigismember(pending.as_ptr(), libc::SIGPIPE) == 1;
        libc::pthread_sigmask(libc::SIG_BLOCK, pipe.as_ptr(), mask.as_mut_ptr());
        let mut at = offset;
        let sent = libc::sendfile(fd, file, &raw mut at, count);
        let error = *libc::__errno_location();
        if sent < 0 && error == libc::EPIPE && !was_pending {
            let now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
            while libc::sigtimedwait(pipe.as_ptr(), std::ptr::null_mut(), &raw const now) < 0
                && *libc::__errno_location() == libc::EINTR
            {}
        }
        libc::pthread_sigmask(libc::SIG_SETMASK, mask.as_ptr(), std::ptr::null_mut());
        *libc::__errno_location() = error;
        sent
    }
}
