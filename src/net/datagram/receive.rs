//! Receiving datagrams: as many as there are with one system call, into buffers that all endpoints of a loop share.

use std::ffi::{c_int, c_void};
use std::mem::MaybeUninit;
use std::ptr;

use super::{CLOSING, Datagram, Message, STARTED, TELL_DUE, UDP};
use crate::engine::event_loop::Owned;
use crate::engine::thread;
use crate::error::{Error, Result};
use crate::net::listen;
use crate::net::sock;

/// Datagrams that one system call takes at most.
const MOST: usize = 32;
/// How often a call that takes so many is followed by another one before others have their turn.
const TURNS: u32 = 4;
/// The largest of UDP, or what the kernel has joined (UDP_GRO).
const SMALL: usize = 64 * 1024;
/// asyncio's limit for others.
const LARGE: usize = 256 * 1024;
/// Neighbours do not begin at the same place of a page, which would have them fight for the same lines of the cache.
const SKEW: usize = 320;
/// Datagrams that the protocol is told of at once.
const TOLD: usize = 256;

/// What the kernel tells beside a datagram: into how large ones it is to be split.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
struct Control([u8; 64]);

/// Where datagrams are received.
struct Buffers {
    headers: [libc::mmsghdr; MOST],
    pieces: [libc::iovec; MOST],
    names: [libc::sockaddr_storage; MOST],
    controls: [Control; MOST],
    messages: [Message; TOLD],
    /// Bytes that one may have.
    room: usize,
    memory: Box<[MaybeUninit<u8>]>,
}

impl Buffers {
    /// None: no memory.
    fn new() -> Option<Box<Buffers>> {
        let mut memory = Vec::new();
        let size = MOST * (SMALL + SKEW);
        memory.try_reserve_exact(size).ok()?;
        // SAFETY: bytes that need not be initialised.
        unsafe { memory.set_len(size) };
        let mut made = Box::<Buffers>::new_uninit();
        // SAFETY: all zeros is valid for all parts but the memory, which is written.
        unsafe {
            let place = made.as_mut_ptr();
            ptr::write_bytes(place.cast::<u8>(), 0, size_of::<Buffers>());
            (&raw mut (*place).memory).write(memory.into_boxed_slice());
            let mut made = made.assume_init();
            made.lay_out(SMALL);
            Some(made)
        }
    }

    /// How many datagrams can be received at once.
    fn count(&self) -> usize {
        if self.room == SMALL { MOST } else { self.memory.len() / (self.room + SKEW) }
    }

    /// Divides the memory.
    fn lay_out(&mut self, room: usize) {
        self.room = room;
        for at in 0..self.count() {
            // SAFETY: there are so many parts.
            let begin = unsafe { self.memory.as_mut_ptr().add(at * (room + SKEW)) };
            self.pieces[at] = libc::iovec { iov_base: begin.cast(), iov_len: room };
            self.reset(at);
        }
    }

    /// What the kernel overwrites is as it was.
    fn reset(&mut self, at: usize) {
        let header = &mut self.headers[at].msg_hdr;
        header.msg_name = (&raw mut self.names[at]).cast();
        header.msg_namelen = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
        header.msg_iov = &raw mut self.pieces[at];
        header.msg_iovlen = 1;
        header.msg_control = (&raw mut self.controls[at]).cast();
        header.msg_controllen = size_of::<Control>() as _;
        header.msg_flags = 0;
    }

    /// Receives what there is: how many. They are there until the next call.
    fn receive(&mut self, fd: c_int) -> Result<usize> {
        let (headers, most) = (self.headers.as_mut_ptr(), self.count() as libc::c_uint);
        // SAFETY: so many headers are laid out.
        let count = unsafe { libc::recvmmsg(fd, headers, most, libc::MSG_DONTWAIT as _, ptr::null_mut()) };
        usize::try_from(count).map_err(|_| Error::last_os())
    }

    /// What was received: a message, and the size into which it is to be split.
    fn get(&self, at: usize) -> (Message, usize) {
        let received = &self.headers[at];
        let size = received.msg_len as usize;
        let named = received.msg_hdr.msg_namelen as usize;
        let address = if named > 0 { (&raw const self.names[at]).cast() } else { ptr::null() };
        let address_size = named.min(size_of::<libc::sockaddr_storage>()) as u32;
        let message = Message { data: self.pieces[at].iov_base, size, address, address_size, reserved: 0 };
        (message, joined(&received.msg_hdr).unwrap_or(size).clamp(1, size.max(1)))
    }
}

/// The size of the datagrams that the kernel has joined.
#[inline]
fn joined(header: &libc::msghdr) -> Option<usize> {
    if header.msg_controllen == 0 {
        return None;
    }
    // SAFETY: the kernel has filled as much of the control as the header says.
    unsafe {
        let first = libc::CMSG_FIRSTHDR(header).as_ref()?;
        if first.cmsg_level != libc::SOL_UDP || first.cmsg_type != libc::UDP_GRO {
            return None;
        }
        usize::try_from(libc::CMSG_DATA(first).cast::<c_int>().read_unaligned()).ok()
    }
}

/// Has the kernel join datagrams, if it is a UDP socket: whether it is.
pub(super) fn prepare(fd: c_int) -> bool {
    if sock::protocol_of(fd) != Ok(libc::IPPROTO_UDP) {
        return false;
    }
    // An old kernel need not know it.
    let _ = listen::set_option(fd, libc::SOL_UDP, libc::UDP_GRO, 1);
    true
}

impl Datagram {
    /// The descriptor is readable.
    pub(super) fn on_readable(&self, lp: &Owned) {
        if self.has(CLOSING) || !self.has(STARTED) {
            return;
        }
        let kept = lp.take_datagram_buffers().and_then(|any| any.downcast::<Buffers>().ok());
        let Some(mut buffers) = kept.or_else(Buffers::new) else {
            self.note_error(lp, Error::NO_MEMORY);
            return;
        };
        let room = if self.has(UDP) { SMALL } else { LARGE };
        if buffers.room != room {
            buffers.lay_out(room);
        }
        for _ in 0..TURNS {
            match self.receive(lp, &mut buffers) {
                // After a fork the loop is not to be touched.
                None => return,
                Some(false) => break,
                Some(true) => {}
            }
        }
        lp.put_datagram_buffers(buffers);
    }

    /// Whether there may be more. None: nothing is to be touched any more.
    fn receive(&self, lp: &Owned, buffers: &mut Buffers) -> Option<bool> {
        let count = match buffers.receive(self.fd()) {
            Ok(count) => count,
            Err(error) if matches!(-error.code(), libc::EAGAIN | libc::EINTR) => return Some(false),
            Err(error) => {
                self.note_error(lp, error);
                return Some(false);
            }
        };
        let delivered = match self.callbacks.get().datagrams_received {
            Some(_) => self.deliver_batch(lp, buffers, count),
            None => self.deliver(lp, buffers, count),
        };
        match delivered {
            Some(()) => self.send_collected(lp),
            None => self.forget_collected(),
        }
        for at in 0..count {
            buffers.reset(at);
        }
        delivered?;
        // An exit that was asked for comes first, and so do errors.
        let more = count == buffers.count() && !self.has(CLOSING | TELL_DUE);
        Some(more && thread::current().attention.get() == 0)
    }

    /// Tells the protocol of datagrams one by one, until it closes the endpoint.
    fn deliver(&self, lp: &Owned, buffers: &Buffers, count: usize) -> Option<()> {
        for at in 0..count {
            let (all, segment) = buffers.get(at);
            // One is answered at once.
            if count > 1 || segment < all.size {
                self.begin_collecting();
            }
            let mut from = 0;
            loop {
                let (data, size) = part(&all, from, segment);
                self.tell_one(lp, &Message { data, size, ..all })?;
                from += segment;
                if self.has(CLOSING) {
                    return Some(());
                }
                if from >= all.size {
                    break;
                }
            }
        }
        Some(())
    }

    /// Tells the protocol of many at once.
    fn deliver_batch(&self, lp: &Owned, buffers: &mut Buffers, count: usize) -> Option<()> {
        let mut waiting = 0;
        for at in 0..count {
            let (all, segment) = buffers.get(at);
            let mut from = 0;
            loop {
                let (data, size) = part(&all, from, segment);
                buffers.messages[waiting] = Message { data, size, ..all };
                waiting += 1;
                from += segment;
                if waiting == TOLD {
                    self.tell_batch(lp, &buffers.messages)?;
                    waiting = 0;
                    if self.has(CLOSING) {
                        return Some(());
                    }
                }
                if from >= all.size {
                    break;
                }
            }
        }
        if waiting > 0 { self.tell_batch(lp, &buffers.messages[..waiting]) } else { Some(()) }
    }

    /// Tells the protocol, which may be another one than before, of one datagram.
    fn tell_one(&self, lp: &Owned, message: &Message) -> Option<()> {
        let callbacks = self.callbacks.get();
        let Some(received) = callbacks.datagram_received.filter(|_| callbacks.datagrams_received.is_none()) else {
            return callbacks
                .datagrams_received
                .map_or(Some(()), |_| self.tell_batch(lp, std::slice::from_ref(message)));
        };
        self.call(lp, "datagram_received", false, &mut |this, arg| {
            // SAFETY: the host gave the function with its arg; bytes and address are there during the call.
            unsafe { received(this, message.data, message.size, message.address, message.address_size, arg) };
        })?;
        Some(())
    }

    fn tell_batch(&self, lp: &Owned, messages: &[Message]) -> Option<()> {
        let Some(received) = self.callbacks.get().datagrams_received else {
            for message in messages.iter().take_while(|_| !self.has(CLOSING)) {
                self.tell_one(lp, message)?;
            }
            return Some(());
        };
        self.call(lp, "datagrams_received", false, &mut |this, arg| {
            // SAFETY: the host gave the function with its arg; the messages are there during the call.
            unsafe { received(this, messages.as_ptr(), messages.len(), arg) };
        })?;
        Some(())
    }
}

/// One of the datagrams that the kernel has joined.
#[inline]
fn part(all: &Message, from: usize, segment: usize) -> (*const c_void, usize) {
    // SAFETY: no more is skipped than there is.
    (unsafe { all.data.cast::<u8>().add(from) }.cast(), segment.min(all.size - from))
}
