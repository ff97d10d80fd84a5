//! What could not be written at once: pieces of evl's own or of the host's memory, written in their order.

use std::collections::VecDeque;
use std::ffi::c_void;

use crate::engine::callback::FreeArg;

/// Pieces that one system call takes at most.
pub(crate) const MOST: usize = 64;
/// A copy grows up to this size, before another one is begun.
const COPY_SIZE: usize = 64 * 1024;

enum Piece {
    Copied(Vec<u8>),
    /// The host's, which wants it back by its arg.
    Given {
        data: *const u8,
        size: usize,
        _arg: FreeArg,
    },
}

impl Piece {
    fn bytes(&self) -> (*const u8, usize) {
        match self {
            Piece::Copied(bytes) => (bytes.as_ptr(), bytes.len()),
            Piece::Given { data, size, .. } => (*data, *size),
        }
    }
}

/// Bytes to be written.
#[derive(Default)]
pub(crate) struct WriteQueue {
    pieces: VecDeque<Piece>,
    /// Bytes of the first piece that are written already.
    written: usize,
    size: usize,
}

impl WriteQueue {
    pub(crate) const fn new() -> Self {
        WriteQueue { pieces: VecDeque::new(), written: 0, size: 0 }
    }

    /// Bytes that are not written yet.
    pub(crate) fn size(&self) -> usize {
        self.size
    }

    /// Copies bytes to the end. False: no memory.
    pub(crate) fn copy(&mut self, bytes: &[u8]) -> bool {
        if let Some(Piece::Copied(last)) = self.pieces.back_mut()
            && last.len() + bytes.len() <= COPY_SIZE
            && last.try_reserve(bytes.len()).is_ok()
        {
            last.extend_from_slice(bytes);
        } else {
            let mut copy = Vec::new();
            if copy.try_reserve(bytes.len()).is_err() || self.pieces.try_reserve(1).is_err() {
                return false;
            }
            copy.extend_from_slice(bytes);
            self.pieces.push_back(Piece::Copied(copy));
        }
        self.size += bytes.len();
        true
    }

    /// Puts memory of the host to the end, until it is written. Gives `arg` back when there is no memory.
    pub(crate) fn give(&mut self, data: *const u8, size: usize, arg: FreeArg) -> Result<(), FreeArg> {
        if self.pieces.try_reserve(1).is_err() {
            return Err(arg);
        }
        self.pieces.push_back(Piece::Given { data, size, _arg: arg });
        self.size += size;
        Ok(())
    }

    /// Copies what is the host's; its memory is given back when the result is dropped. None: no memory.
    pub(crate) fn copy_given(&mut self) -> Option<Vec<impl Drop + use<>>> {
        let mut old = Vec::new();
        for (at, piece) in self.pieces.iter_mut().enumerate() {
            let Piece::Given { data, size, .. } = *piece else { continue };
            let skip = if at == 0 { self.written } else { 0 };
            let mut copy = Vec::new();
            copy.try_reserve(size - skip).ok()?;
            // SAFETY: the host lets evl read so many bytes until it gives the memory back.
            copy.extend_from_slice(unsafe { std::slice::from_raw_parts(data.add(skip), size - skip) });
            self.written -= skip;
            if let Piece::Given { _arg, .. } = std::mem::replace(piece, Piece::Copied(copy)) {
                old.push(_arg);
            }
        }
        Some(old)
    }

    /// The first pieces, as a system call takes them: how many there are.
    pub(crate) fn fill(&self, pieces: &mut [libc::iovec; MOST]) -> usize {
        let mut skip = self.written;
        let mut count = 0;
        for (piece, place) in self.pieces.iter().zip(pieces) {
            let (data, size) = piece.bytes();
            // SAFETY: no more of a piece is skipped than it has.
            *place = libc::iovec { iov_base: unsafe { data.add(skip) } as *mut c_void, iov_len: size - skip };
            skip = 0;
            count += 1;
        }
        count
    }

    /// So many bytes are written. Returns a piece that is not needed any more, to be dropped where the host's code may run; to be
    /// called again with 0 until there is none.
    pub(crate) fn advance(&mut self, written: usize) -> Option<impl Drop + use<>> {
        self.written += written;
        self.size -= written;
        let (_, first) = self.pieces.front()?.bytes();
        if self.written < first {
            return None;
        }
        self.written -= first;
        match self.pieces.pop_front() {
            Some(Piece::Given { _arg, .. }) => Some(_arg),
            _ => Some(FreeArg::none()),
        }
    }
}
