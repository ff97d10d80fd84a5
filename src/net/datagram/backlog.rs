//! Datagrams that the kernel had no room for: copies, one after the other in one piece of memory.

use std::ffi::c_int;

use super::Message;

/// What stands before a datagram's address and its bytes.
#[derive(Clone, Copy)]
struct Header {
    size: usize,
    address_size: u32,
}

const HEADER: usize = size_of::<Header>();
/// Memory that has become this large is given back when nothing waits.
const KEPT: usize = 256 * 1024;
/// Addresses and headers begin where this divides.
const ALIGNMENT: usize = 8;

/// Datagrams in their order.
pub(super) struct Backlog {
    memory: Vec<u8>,
    /// Where the first one begins.
    begin: usize,
    /// Bytes of all; an empty one counts as one.
    size: usize,
}

/// What an endpoint has to send, and when its protocol is told of that.
pub(super) struct Sending {
    pub(super) backlog: Backlog,
    pub(super) high: usize,
    pub(super) low: usize,
    /// What the protocol is to be told.
    pub(super) errors: Vec<c_int>,
}

impl Sending {
    pub(super) const fn new() -> Self {
        let (high, low) = crate::net::transport::LIMITS;
        let backlog = Backlog { memory: Vec::new(), begin: 0, size: 0 };
        Sending { backlog, high, low, errors: Vec::new() }
    }
}

fn room(header: Header) -> Option<usize> {
    HEADER.checked_add(header.address_size as usize)?.checked_add(header.size)?.checked_next_multiple_of(ALIGNMENT)
}

impl Backlog {
    pub(super) fn is_empty(&self) -> bool {
        self.begin == self.memory.len()
    }

    pub(super) fn size(&self) -> usize {
        self.size
    }

    pub(super) fn clear(&mut self) {
        (self.begin, self.size) = (0, 0);
        self.memory = Vec::new();
    }

    /// Copies one to the end. False: no memory.
    ///
    /// # Safety
    /// The message's data and address are readable.
    pub(super) unsafe fn push(&mut self, message: &Message) -> bool {
        let header = Header { size: message.size, address_size: message.address_size };
        let Some(room) = room(header) else { return false };
        if self.begin > self.memory.len() / 2 {
            self.memory.drain(..self.begin);
            self.begin = 0;
        }
        if self.memory.try_reserve(room).is_err() {
            return false;
        }
        let at = self.memory.len();
        // SAFETY: there is room for all; by this function's contract.
        unsafe {
            let place = self.memory.as_mut_ptr().add(at);
            place.write_bytes(0, room);
            place.cast::<Header>().write_unaligned(header);
            let address = place.add(HEADER);
            if header.address_size > 0 {
                address.copy_from_nonoverlapping(message.address.cast(), header.address_size as usize);
            }
            if header.size > 0 {
                address.add(header.address_size as usize).copy_from_nonoverlapping(message.data.cast(), header.size);
            }
            self.memory.set_len(at + room);
        }
        self.size += header.size.max(1);
        true
    }

    fn header(&self, at: usize) -> Header {
        // SAFETY: one stands wherever a datagram begins.
        unsafe { self.memory.as_ptr().add(at).cast::<Header>().read_unaligned() }
    }

    /// The first ones, valid until something is changed: how many there are.
    pub(super) fn fill(&self, messages: &mut [Message]) -> usize {
        let (mut at, mut count) = (self.begin, 0);
        for place in messages {
            if at == self.memory.len() {
                break;
            }
            let header = self.header(at);
            // SAFETY: address and bytes follow the header.
            let address = unsafe { self.memory.as_ptr().add(at + HEADER) };
            *place = Message {
                // SAFETY: as above.
                data: unsafe { address.add(header.address_size as usize) }.cast(),
                size: header.size,
                address: if header.address_size > 0 { address.cast() } else { std::ptr::null() },
                address_size: header.address_size,
                reserved: 0,
            };
            at += room(header).unwrap_or(0);
            count += 1;
        }
        count
    }

    /// So many are done with.
    pub(super) fn advance(&mut self, count: usize) {
        for _ in 0..count {
            let header = self.header(self.begin);
            self.begin += room(header).unwrap_or(0);
            self.size -= header.size.max(1);
        }
        if self.is_empty() {
            self.begin = 0;
            self.memory.clear();
            self.memory.shrink_to(KEPT);
        }
    }
}
