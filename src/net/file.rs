//! What is sent of a file: by sendfile(2), or by reading it where the kernel cannot do that.

use std::ffi::c_int;
use std::mem::MaybeUninit;

use super::{sigpipe, sock};
use crate::error::{Error, Result};

/// How much one call sends at most, so that one file does not hold everything else up.
const BLOCK: usize = 1 << 20;
/// How much is read at once where the kernel does not do it.
const CHUNK: usize = 1 << 16;

/// A part of a file.
pub(crate) struct Part {
    file: c_int,
    offset: i64,
    /// How many bytes; None: up to the file's end.
    count: Option<i64>,
    sent: i64,
}

/// What kind of file it is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A regular file or a block device.
    Regular,
    /// Another one that has offsets.
    Seekable,
    /// A pipe, a socket, a terminal: it is read in its order, and may have to be waited for.
    Stream,
}

/// What was read of a file and is not sent yet.
#[derive(Default)]
pub(super) struct Chunk {
    data: Vec<u8>,
    sent: usize,
}

impl Part {
    /// `count` 0: up to the file's end.
    pub(crate) fn new(file: c_int, offset: i64, count: i64) -> Result<Part> {
        if offset < 0 || count < 0 || offset.checked_add(count).is_none() {
            return Err(Error::INVALID.detail(|| "offset and count must not be negative".into()));
        }
        Ok(Part { file, offset, count: (count > 0).then_some(count), sent: 0 })
    }

    pub(super) fn kind(&self) -> Result<Kind> {
        let mut status = MaybeUninit::<libc::stat>::uninit();
        // SAFETY: the kernel fills it when it answers 0.
        let mode = unsafe {
            if libc::fstat(self.file, status.as_mut_ptr()) < 0 {
                return Err(Error::last_os());
            }
            status.assume_init().st_mode
        };
        match mode & libc::S_IFMT {
            libc::S_IFREG | libc::S_IFBLK => Ok(Kind::Regular),
            libc::S_IFDIR => Err(Error::from_code(-libc::EISDIR)),
            // What would be waited for must be readable.
            // SAFETY: a plain system call.
            _ if unsafe { libc::fcntl(self.file, libc::F_GETFL) } & libc::O_ACCMODE == libc::O_WRONLY => {
                Err(Error::BAD_DESCRIPTOR)
            }
            // SAFETY: a plain system call, which moves nothing.
            _ if unsafe { libc::lseek(self.file, 0, libc::SEEK_CUR) } >= 0 => Ok(Kind::Seekable),
            _ if self.offset > 0 => Err(Error::from_code(-libc::ESPIPE)),
            _ => Ok(Kind::Stream),
        }
    }

    pub(super) fn file(&self) -> c_int {
        self.file
    }

    /// How many bytes were sent.
    pub(super) fn sent(&self) -> i64 {
        self.sent
    }

    /// How much is to be sent by one call.
    fn next_size(&self) -> usize {
        let left = self.count.map_or(i64::MAX, |count| count - self.sent);
        usize::try_from(left).unwrap_or(usize::MAX).min(BLOCK)
    }

    /// So many bytes more were sent; 0: the file has ended. Whether that was all.
    pub(super) fn advance(&mut self, sent: usize) -> bool {
        self.sent += sent as i64;
        sent == 0 || self.count.is_some_and(|count| self.sent >= count)
    }

    /// sendfile(2), which knows no MSG_NOSIGNAL.
    pub(super) fn send(&self, fd: c_int) -> Result<usize> {
        let mut at = self.offset + self.sent;
        let size = self.next_size();
        // SAFETY: a plain system call.
        sigpipe::masked(size, || unsafe { libc::sendfile(fd, self.file, &raw mut at, size) })
    }

    /// Reads what is to be sent next: false at the file's end. -EAGAIN: there is nothing yet.
    pub(super) fn read(&self, kind: Kind, chunk: &mut Chunk) -> Result<bool> {
        let (size, at) = (self.next_size().min(CHUNK), self.offset + self.sent);
        chunk.data.clear();
        chunk.sent = 0;
        if kind == Kind::Stream && !sock::is_ready(self.file, libc::POLLIN) {
            return Err(Error::from_code(-libc::EAGAIN));
        }
        chunk.data.try_reserve_exact(size).map_err(|_| Error::NO_MEMORY)?;
        let room = chunk.data.as_mut_ptr().cast();
        // SAFETY: there is room for so many bytes.
        let read = unsafe {
            if kind == Kind::Stream {
                libc::read(self.file, room, size)
            } else {
                libc::pread(self.file, room, size, at)
            }
        };
        let read = usize::try_from(read).map_err(|_| Error::last_os())?;
        // SAFETY: the kernel has written them.
        unsafe { chunk.data.set_len(read.min(size)) };
        Ok(read > 0)
    }
}

impl Chunk {
    pub(super) fn rest(&self) -> &[u8] {
        &self.data[self.sent..]
    }

    pub(super) fn advance(&mut self, sent: usize) {
        self.sent += sent.min(self.data.len() - self.sent);
    }
}

/// Whether the kernel says that it cannot send from such a file, or to such a descriptor.
pub(super) fn is_refusal(error: Error) -> bool {
    matches!(-error.code(), libc::EINVAL | libc::ENOSYS | libc::EOPNOTSUPP | libc::EOVERFLOW)
}
