//! What a stream has received and nobody has read yet.

/// Bytes in their order. Those that were read are dropped when it pays, so that many small reads of one chunk cost what they read.
#[derive(Default)]
pub(super) struct Buffer {
    bytes: Vec<u8>,
    /// So many of them were read.
    start: usize,
}

/// Bytes with a NUL after them that does not count; None: no memory.
pub(super) fn copy(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut copy = Vec::new();
    copy.try_reserve_exact(bytes.len() + 1).ok()?;
    copy.extend_from_slice(bytes);
    end_with_nul(copy)
}

/// Writes a NUL behind the bytes.
fn end_with_nul(mut bytes: Vec<u8>) -> Option<Vec<u8>> {
    bytes.try_reserve_exact(1).ok()?;
    bytes.spare_capacity_mut()[0].write(0);
    Some(bytes)
}

impl Buffer {
    pub(super) fn size(&self) -> usize {
        self.bytes.len() - self.start
    }

    pub(super) fn view(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    /// Puts bytes to the end. False: no memory.
    pub(super) fn append(&mut self, bytes: &[u8]) -> bool {
        // What was read is as much as what is left, at least: each byte is moved once for one that was read.
        if self.start > 0 && self.start >= self.size() {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
        // One more: for a NUL.
        if self.bytes.try_reserve(bytes.len() + 1).is_err() {
            return false;
        }
        self.bytes.extend_from_slice(bytes);
        true
    }

    /// Takes the first bytes out, with a NUL after them that does not count. None: no memory, and nothing was taken.
    pub(super) fn take(&mut self, size: usize) -> Option<Vec<u8>> {
        if self.start == 0 && size == self.bytes.len() && size > 0 {
            self.bytes.try_reserve_exact(1).ok()?;
            return end_with_nul(std::mem::take(&mut self.bytes));
        }
        let taken = copy(&self.view()[..size])?;
        self.skip(size);
        Some(taken)
    }

    /// Drops the first bytes. Nothing is kept for an empty buffer: most streams wait most of the time.
    pub(super) fn skip(&mut self, size: usize) {
        self.start += size;
        if self.start == self.bytes.len() {
            *self = Buffer::default();
        }
    }
}
