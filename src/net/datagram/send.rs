//! Sending datagrams: at once what the kernel has room for, the rest queued; and the flow control that goes with it.

use std::ffi::{c_int, c_void};
use std::mem::MaybeUninit;

use super::{
    CLOSING, COLLECTING, CONNECTED, Datagram, LOSING, LOST, Message, PAUSE_DUE, TELL_DUE, UDP, WRITING_PAUSED, enter,
};
use crate::engine::event_loop::Owned;
use crate::error::{Error, Result};

/// Groups of datagrams that one system call takes at most.
const GROUPS: usize = 32;
/// Datagrams of all of them.
const PIECES: usize = 256;
/// Datagrams that the kernel splits a group into, at most, and their bytes.
const SEGMENTS: usize = 64;
const SEGMENTS_SIZE: usize = 65_000;
/// Errors that wait to be told; further ones are told by these.
const ERRORS: usize = 64;

const FLAGS: c_int = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;

/// Tells the kernel into how large datagrams a group is to be split.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
struct Control([u8; 24]);

/// What one system call sends.
struct Outgoing {
    headers: [MaybeUninit<libc::mmsghdr>; GROUPS],
    pieces: [MaybeUninit<libc::iovec>; PIECES],
    controls: [MaybeUninit<Control>; GROUPS],
    /// Datagrams of each group.
    counts: [u8; GROUPS],
}

/// Whether two socket addresses are the same.
fn same(one: &[u8], other: &[u8]) -> bool {
    let is_v4 = one.first_chunk().is_some_and(|family| u16::from_ne_bytes(*family) == libc::AF_INET as u16);
    // What pads the address of an internet socket tells nothing.
    let known = if is_v4 { one.len().min(8) } else { one.len() };
    one.len() == other.len() && one[..known] == other[..known]
}

impl Message {
    /// # Safety
    /// The address is readable as long as the result is used.
    unsafe fn address<'a>(&self) -> &'a [u8] {
        if self.address.is_null() {
            return &[];
        }
        // SAFETY: by this function's contract.
        unsafe { std::slice::from_raw_parts(self.address.cast(), self.address_size as usize) }
    }
}

impl Datagram {
    /// `transport.get_write_buffer_size`. What is collected counts as sent.
    pub(crate) fn queue_size(&self) -> usize {
        if self.has(COLLECTING) { 0 } else { self.sending(|sending| sending.backlog.size()) }
    }

    /// Refuses what cannot be sent from here.
    ///
    /// # Safety
    /// The message's address is readable.
    unsafe fn check(&self, message: &Message) -> Result<()> {
        let sizes = size_of::<libc::sa_family_t>()..=size_of::<libc::sockaddr_storage>();
        let has_address = !message.address.is_null();
        if message.data.is_null() && message.size > 0
            || has_address != (message.address_size > 0)
            || has_address && !sizes.contains(&(message.address_size as usize))
        {
            return Err(Error::INVALID);
        }
        if !has_address && self.remote.is_empty() && !self.has(CONNECTED) {
            return Err(Error::from_code(-libc::EDESTADDRREQ)
                .detail(|| "the endpoint has no remote address: each datagram needs one".into()));
        }
        // SAFETY: by this function's contract.
        if has_address && !self.remote.is_empty() && !same(&self.remote, unsafe { message.address() }) {
            return Err(Error::INVALID.detail(|| "the address must be the endpoint's remote one, or none".into()));
        }
        Ok(())
    }

    /// Whom a message is for, as the kernel is told.
    fn destination(&self, message: &Message) -> (*const c_void, u32) {
        if self.has(CONNECTED) {
            (std::ptr::null(), 0)
        } else if message.address.is_null() {
            (self.remote.as_ptr().cast(), self.remote.len() as u32)
        } else {
            (message.address, message.address_size)
        }
    }

    /// `transport.sendto`, of many. What cannot be sent now is copied.
    ///
    /// # Safety
    /// Data and addresses of the messages are readable.
    pub(crate) unsafe fn send(&self, lp: &Owned, messages: &[Message]) -> Result<()> {
        if self.is_closing() {
            return Err(Error::BROKEN_PIPE.detail(|| "the endpoint is closing".into()));
        }
        for message in messages {
            // SAFETY: by this function's contract.
            unsafe { self.check(message) }?;
        }
        if self.has(COLLECTING) {
            // SAFETY: by this function's contract.
            if unsafe { self.collect(messages) } {
                return Ok(());
            }
            self.send_collected(lp);
        }
        let sent = if self.sending(|sending| sending.backlog.is_empty()) { self.transmit(lp, messages) } else { 0 };
        let rest = &messages[sent..];
        if rest.is_empty() {
            return Ok(());
        }
        let was_empty = self.sending(|sending| sending.backlog.is_empty());
        for message in rest {
            // SAFETY: by this function's contract.
            if !self.sending(|sending| unsafe { sending.backlog.push(message) }) {
                // Datagrams may be lost, and these are.
                self.note_error(lp, Error::NO_MEMORY);
                break;
            }
        }
        if was_empty {
            self.update_interest(lp);
        }
        self.consider_pausing(lp);
        Ok(())
    }

    /// Hands messages to the kernel: how many are done with, which are fewer when it has no room.
    fn transmit(&self, lp: &Owned, messages: &[Message]) -> usize {
        let (mut done, mut refused) = (0, false);
        while done < messages.len() {
            let rest = &messages[done..];
            let result = match rest {
                [one] => self.send_one(one),
                _ => self.send_some(rest),
            };
            let (error, first) = match result {
                Ok(count) => {
                    done += count;
                    refused = false;
                    continue;
                }
                Err(failed) => failed,
            };
            match -error.code() {
                libc::EINTR => {}
                libc::EAGAIN => break,
                // Not for the kernel to split: these are too large, or the device cannot.
                libc::EINVAL | libc::EMSGSIZE | libc::EIO | libc::EOPNOTSUPP if first > 1 => {
                    let device = matches!(-error.code(), libc::EIO | libc::EOPNOTSUPP);
                    self.segment_limit.set(if device { 0 } else { rest[0].size - 1 });
                }
                // That one sent before has found nobody: this one was not tried.
                libc::ECONNREFUSED if self.has(UDP) && !refused => {
                    self.note_error(lp, error);
                    refused = true;
                }
                _ => {
                    self.note_error(lp, error);
                    done += first;
                }
            }
        }
        done
    }

    fn send_one(&self, message: &Message) -> std::result::Result<usize, (Error, usize)> {
        let (address, size) = self.destination(message);
        // SAFETY: data and address are readable.
        let sent = unsafe {
            libc::sendto(self.fd(), message.data, message.size, FLAGS, address.cast(), size as libc::socklen_t)
        };
        if sent < 0 { Err((Error::last_os(), 1)) } else { Ok(1) }
    }

    /// Sends as many as one system call can: how many. On failure: why, and how many the first group has.
    fn send_some(&self, messages: &[Message]) -> std::result::Result<usize, (Error, usize)> {
        let mut outgoing = Outgoing {
            headers: [const { MaybeUninit::uninit() }; GROUPS],
            pieces: [const { MaybeUninit::uninit() }; PIECES],
            controls: [const { MaybeUninit::uninit() }; GROUPS],
            counts: [0; GROUPS],
        };
        let (mut groups, mut pieces) = (0, 0);
        let mut left = messages;
        while groups < GROUPS && pieces < PIECES && !left.is_empty() {
            let count = self.group(&left[..left.len().min(PIECES - pieces)]);
            for (place, message) in outgoing.pieces[pieces..].iter_mut().zip(&left[..count]) {
                place.write(libc::iovec { iov_base: message.data.cast_mut(), iov_len: message.size });
            }
            let (address, address_size) = self.destination(&left[0]);
            // SAFETY: all zeros is a message without anything.
            let mut header = unsafe { MaybeUninit::<libc::mmsghdr>::zeroed().assume_init() };
            header.msg_hdr.msg_name = address.cast_mut();
            header.msg_hdr.msg_namelen = address_size;
            header.msg_hdr.msg_iov = outgoing.pieces[pieces].as_mut_ptr();
            header.msg_hdr.msg_iovlen = count as _;
            if count > 1 {
                let control = outgoing.controls[groups].write(Control([0; 24]));
                header.msg_hdr.msg_control = (&raw mut *control).cast();
                header.msg_hdr.msg_controllen = size_of::<Control>() as _;
                // SAFETY: the control has room for one header and its number.
                unsafe {
                    let first = libc::CMSG_FIRSTHDR(&raw const header.msg_hdr);
                    (*first).cmsg_level = libc::SOL_UDP;
                    (*first).cmsg_type = libc::UDP_SEGMENT;
                    (*first).cmsg_len = libc::CMSG_LEN(size_of::<u16>() as u32) as _;
                    libc::CMSG_DATA(first).cast::<u16>().write_unaligned(left[0].size as u16);
                }
            }
            outgoing.headers[groups].write(header);
            outgoing.counts[groups] = count as u8;
            groups += 1;
            pieces += count;
            left = &left[count..];
        }
        // The pieces are borrowed anew here, after the last of them was written.
        let mut piece = outgoing.pieces.as_mut_ptr().cast::<libc::iovec>();
        for (header, &count) in outgoing.headers.iter_mut().zip(&outgoing.counts[..groups]) {
            // SAFETY: as many headers and pieces were written.
            unsafe {
                header.assume_init_mut().msg_hdr.msg_iov = piece;
                piece = piece.add(usize::from(count));
            }
        }
        let headers = outgoing.headers.as_mut_ptr().cast::<libc::mmsghdr>();
        // SAFETY: so many headers were written; what they name is readable.
        let sent = unsafe { libc::sendmmsg(self.fd(), headers, groups as libc::c_uint, FLAGS as _) };
        match usize::try_from(sent) {
            Ok(sent) => Ok(outgoing.counts[..sent].iter().map(|&count| usize::from(count)).sum()),
            Err(_) => Err((Error::last_os(), usize::from(outgoing.counts[0]))),
        }
    }

    /// How many of the first messages the kernel can make of one: of one size, but for the last, and for the same peer.
    fn group(&self, messages: &[Message]) -> usize {
        let first = &messages[0];
        if !self.has(UDP) || first.size == 0 || first.size > self.segment_limit.get() {
            return 1;
        }
        let most = messages.len().min(SEGMENTS).min(SEGMENTS_SIZE / first.size);
        let mut count = 1;
        while count < most {
            let next = &messages[count];
            // SAFETY: addresses are readable while messages are sent.
            let is_for_same = self.has(CONNECTED)
                || next.address == first.address && next.address_size == first.address_size
                || unsafe { next.address() == first.address() };
            if next.size > first.size || next.size == 0 || !is_for_same {
                break;
            }
            count += 1;
            if next.size < first.size {
                break;
            }
        }
        count
    }

    /// The descriptor is writable.
    pub(super) fn on_writable(&self, lp: &Owned) {
        if self.has(LOSING) {
            return;
        }
        self.send_backlog(lp);
        if self.consider_resuming(lp).is_none() || self.has(LOSING) {
            return;
        }
        self.update_interest(lp);
        if self.is_closing() && self.sending(|sending| sending.backlog.is_empty()) {
            self.lose(lp, 0);
        }
    }

    /// Hands what waits to the kernel, as far as it has room.
    pub(super) fn send_backlog(&self, lp: &Owned) {
        loop {
            let mut messages = [Message::NONE; SEGMENTS];
            let count = self.sending(|sending| sending.backlog.fill(&mut messages));
            // No code of the host runs meanwhile, so that what waits stays where it is.
            let done = self.transmit(lp, &messages[..count]);
            self.sending(|sending| sending.backlog.advance(done));
            if done < count || count < messages.len() {
                break;
            }
        }
    }

    /// error_received follows by the ready queue.
    pub(super) fn note_error(&self, lp: &Owned, error: Error) {
        self.sending(|sending| {
            if sending.errors.len() < ERRORS {
                sending.errors.push(error.code());
            }
        });
        if !self.has(TELL_DUE) && self.schedule(lp, tell_errors).is_ok() {
            self.set(TELL_DUE);
        }
    }

    /// Tells the protocol to pause when there is too much.
    pub(super) fn consider_pausing(&self, lp: &Owned) {
        if self.has(WRITING_PAUSED | PAUSE_DUE | LOSING)
            || self.sending(|sending| sending.backlog.size() <= sending.high)
        {
            return;
        }
        if lp.is_calling() {
            self.tell_to_pause(lp);
        } else if self.schedule(lp, pause_due).is_ok() {
            // The host's callbacks are called while the loop runs.
            self.set(PAUSE_DUE);
        }
    }

    fn tell_to_pause(&self, lp: &Owned) {
        self.set(WRITING_PAUSED);
        if let Some(pause) = self.callbacks.get().pause_writing {
            // SAFETY: the host gave the function with its arg.
            let _ = self.call(lp, "pause_writing", true, &mut |this, arg| unsafe { pause(this, arg) });
        }
    }

    /// None: nothing is to be touched any more.
    fn consider_resuming(&self, lp: &Owned) -> Option<()> {
        if self.sending(|sending| sending.backlog.size() > sending.low) {
            return Some(());
        }
        self.clear(PAUSE_DUE);
        if self.has(WRITING_PAUSED) {
            self.clear(WRITING_PAUSED);
            if let Some(resume) = self.callbacks.get().resume_writing {
                // SAFETY: the host gave the function with its arg.
                self.call(lp, "resume_writing", false, &mut |this, arg| unsafe { resume(this, arg) })?;
            }
        }
        Some(())
    }

    /// `transport.set_write_buffer_limits`.
    pub(crate) fn set_limits(&self, lp: &Owned, high: usize, low: usize) -> Result<()> {
        if low > high {
            return Err(Error::INVALID.detail(|| format!("high ({high}) must be >= low ({low})")));
        }
        self.send_collected(lp);
        self.sending(|sending| (sending.high, sending.low) = (high, low));
        self.consider_pausing(lp);
        Ok(())
    }

    /// `transport.get_write_buffer_limits`: high and low.
    pub(crate) fn limits(&self) -> (usize, usize) {
        self.sending(|sending| (sending.high, sending.low))
    }
}

/// The protocol is told of errors.
unsafe extern "C-unwind" fn tell_errors(arg: *mut c_void) {
    // SAFETY: the entry has a reference.
    let Some((this, lp)) = (unsafe { enter(arg) }) else { return };
    this.clear(TELL_DUE);
    let errors = this.sending(|sending| std::mem::take(&mut sending.errors));
    for code in errors {
        if this.has(LOST) {
            return;
        }
        let Some(received) = this.callbacks.get().error_received else { continue };
        // SAFETY: the host gave the function with its arg.
        let mut host = |this, arg| unsafe { received(this, code, arg) };
        if this.call(&lp, "error_received", false, &mut host).is_none() {
            return;
        }
    }
}

/// A pause that was due when no callback could be called.
unsafe extern "C-unwind" fn pause_due(arg: *mut c_void) {
    // SAFETY: the entry has a reference.
    let Some((this, lp)) = (unsafe { enter(arg) }) else { return };
    if this.has(PAUSE_DUE) {
        this.clear(PAUSE_DUE);
        if !this.has(CLOSING | WRITING_PAUSED) && this.sending(|sending| sending.backlog.size() > sending.high) {
            this.tell_to_pause(&lp);
        }
    }
}
