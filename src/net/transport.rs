//! Transports (`asyncio.Transport`): what all of them share. One object serves pipes and streams; what it can do stands in its flags:
//! it reads (`read`), writes (`write`), or both.
//!
//! The loop keeps a transport until its protocol was told that the connection is lost; then the descriptor is closed, and what the host
//! gave is released (`life`). Nothing of the protocol is called re-entrantly but pause_writing, which tells whoever writes.

use std::cell::{Cell, UnsafeCell};
use std::ffi::{c_int, c_void};
use std::fmt::Write as _;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicPtr, AtomicU32, Ordering};

use super::listen;
use super::protocol::Callbacks;
use super::sendfile::Sending;
use super::server::Server;
use super::write_queue::WriteQueue;
use crate::engine::callback::FreeArg;
use crate::engine::context::Word;
use crate::engine::event_loop::{EventLoop, Owned};
use crate::engine::lifetime;
use crate::engine::runnable::Runnable;
use crate::engine::source::REFUSED;
use crate::error::Result;
use crate::poller::{READ, WRITE};
use crate::task::operation::OperationRef;

/// It can read.
pub(crate) const READS: u32 = 1;
/// It can write.
pub(crate) const WRITES: u32 = 2;
/// A socket: written with MSG_NOSIGNAL.
pub(crate) const SOCKET: u32 = 4;
/// A character device, which the kernel may be unable to watch: then it is always ready.
pub(crate) const DEVICE: u32 = 8;
/// A pipe of a child: its protocol is the process's.
pub(crate) const OF_PROCESS: u32 = 16;
/// The protocol was told that the connection is made, and reading has begun.
pub(crate) const STARTED: u32 = 32;
/// It is closing, or closed: `is_closing`.
pub(crate) const CLOSING: u32 = 64;
/// connection_lost is on its way.
pub(crate) const LOSING: u32 = 128;
/// The protocol is told no more, and the descriptor is closed.
pub(crate) const LOST: u32 = 256;
/// The protocol does not want to read.
pub(crate) const READING_PAUSED: u32 = 512;
/// The protocol was told to pause writing.
pub(crate) const WRITING_PAUSED: u32 = 1024;
/// It is to be told so by the ready queue.
pub(crate) const PAUSE_DUE: u32 = 2048;
/// The ready queue has a turn of reading for it: it is always ready.
pub(crate) const TURN_DUE: u32 = 4096;
/// It stands in the ready queue, because its descriptor is ready.
pub(super) const QUEUED: u32 = 8192;
/// What for: there is something to read,
pub(super) const READABLE: u32 = 16384;
/// or room to write.
pub(super) const WRITABLE: u32 = 32768;
/// The kernel will not watch the descriptor.
const REFUSAL: u32 = 1 << 20;
/// It only writes, and looks whether whoever reads has gone.
pub(super) const WATCHES_PEER: u32 = 1 << 16;
/// The peer sends no more, and the protocol has kept the transport open.
pub(crate) const READ_EOF: u32 = 1 << 17;
/// Nothing more is written after what is queued.
pub(super) const WRITE_EOF: u32 = 1 << 18;
/// A pipe's queue was written just now, which has most likely filled it: what is written more waits until the system says.
pub(super) const FULL: u32 = 1 << 19;
/// A file is being sent, behind what is queued.
pub(super) const SENDING: u32 = 1 << 21;
/// There is nothing to be read from that file yet.
pub(super) const FILE_WAITS: u32 = 1 << 22;

/// What waits to be written, and when the protocol is told of that.
pub(super) struct Writing {
    pub(super) queue: WriteQueue,
    pub(super) high: usize,
    pub(super) low: usize,
    /// The file that is being sent.
    pub(super) sending: Option<OperationRef<Sending>>,
}

/// The limits that a transport begins with.
pub(super) const LIMITS: (usize, usize) = (64 * 1024, 16 * 1024);

impl Default for Writing {
    fn default() -> Self {
        Writing { queue: WriteQueue::new(), high: LIMITS.0, low: LIMITS.1, sending: None }
    }
}

/// What only few transports have.
#[derive(Default)]
pub(super) struct Rare {
    /// Args of protocols that were replaced, to be released when no call of the protocol is on the stack.
    pub(super) retired: Vec<FreeArg>,
    data_free: Option<FreeArg>,
    /// Where the context is kept instead.
    pub(super) shared_context: Option<*mut Word>,
    /// The peer's address, once it was asked for.
    peer: Vec<u8>,
}

/// A transport. Small, because there may be many: what is not always needed is elsewhere.
#[repr(C)]
pub struct Transport {
    pub(super) kind: &'static Runnable,
    pub(super) event_loop: *const EventLoop,
    pub(super) refs: AtomicU32,
    pub(super) flags: AtomicU32,
    /// -1 once it is closed.
    pub(super) fd: AtomicI32,
    /// Where it stands among what the loop has under way.
    pub(super) place: Cell<u32>,
    pub(super) callbacks: UnsafeCell<Arc<Callbacks>>,
    pub(super) arg: UnsafeCell<FreeArg>,
    /// The context in which the protocol is called.
    pub(super) context: Cell<Word>,
    pub(super) writing: UnsafeCell<Option<Box<Writing>>>,
    pub(super) rare: UnsafeCell<Option<Box<Rare>>>,
    pub(super) server: UnsafeCell<Option<Arc<Server>>>,
    pub(super) data: AtomicPtr<c_void>,
    /// What connection_lost is told.
    pub(super) lost_code: Cell<c_int>,
    /// Calls of the protocol on the stack.
    pub(super) calls: Cell<u32>,
}

/// What the ready queue and the poller do with one.
pub(super) static KIND: Runnable = Runnable { run: turn_of, abandon: drop_entry, note };

/// Its descriptor is ready.
///
/// # Safety
/// `object` is a transport that the loop has.
unsafe fn note(object: *const (), ready: u8) -> bool {
    // SAFETY: by this function's contract.
    let this = unsafe { &*object.cast::<Transport>() };
    let readable = if ready & READ != 0 { READABLE } else { 0 };
    let writable = if ready & WRITE != 0 { WRITABLE } else { 0 };
    let refusal = if ready & REFUSED != 0 { REFUSAL } else { 0 };
    let was_queued = this.has(QUEUED);
    this.set(QUEUED | readable | writable | refusal);
    if !was_queued {
        this.retain();
    }
    !was_queued
}

/// Its turn has come.
///
/// # Safety
/// `object` is a transport, and a reference that is given up.
unsafe fn turn_of(object: *const ()) {
    // SAFETY: by this function's contract.
    let this = TransportRef(object.cast());
    let ready = this.flags.load(Ordering::Relaxed);
    this.clear(QUEUED | READABLE | WRITABLE | REFUSAL);
    // SAFETY: a transport keeps its loop's memory.
    let Ok(lp) = (unsafe { &*this.event_loop }).enter() else { return };
    if ready & READABLE != 0 {
        this.on_readable(&lp);
    }
    // After a fork the loop is not to be touched.
    if ready & WRITABLE != 0 && lp.event_loop().is_owned_here() {
        this.on_writable(&lp);
    }
    if ready & REFUSAL != 0 && lp.event_loop().is_owned_here() {
        this.on_refusal(&lp);
    }
}

/// The loop is closed before its turn has come.
///
/// # Safety
/// `object` is a transport, and a reference that is given up.
unsafe fn drop_entry(object: *const ()) {
    // SAFETY: by this function's contract.
    unsafe { Transport::release_ptr(object.cast()) };
}

/// A counted reference to a transport.
pub(crate) struct TransportRef(pub(super) *const Transport);

// SAFETY: a transport may be referred to from any thread.
unsafe impl Send for TransportRef {}

impl TransportRef {
    pub(crate) fn new(transport: &Transport) -> TransportRef {
        transport.retain();
        TransportRef(transport)
    }

    pub(crate) fn into_raw(self) -> *mut Transport {
        let pointer = self.0.cast_mut();
        std::mem::forget(self);
        pointer
    }
}

impl std::ops::Deref for TransportRef {
    type Target = Transport;
    fn deref(&self) -> &Transport {
        // SAFETY: the reference keeps it.
        unsafe { &*self.0 }
    }
}

impl Drop for TransportRef {
    fn drop(&mut self) {
        // SAFETY: this owns the reference.
        unsafe { Transport::release_ptr(self.0) };
    }
}

/// Gives up a reference.
///
/// # Safety
/// `transport` is a reference that is given up.
pub(crate) unsafe extern "C-unwind" fn release(transport: *mut c_void) {
    // SAFETY: by this function's contract.
    unsafe { Transport::release_ptr(transport.cast_const().cast()) };
}

/// The transport that a callback of ours was given, and its loop.
///
/// # Safety
/// `arg` is a transport, of which the callback has a reference.
pub(super) unsafe fn enter<'a>(arg: *mut c_void) -> Option<(&'a Transport, Owned<'a>)> {
    // SAFETY: by this function's contract; a transport keeps its loop's memory.
    unsafe {
        let transport = &*arg.cast_const().cast::<Transport>();
        Some((transport, (*transport.event_loop).enter().ok()?))
    }
}

impl Transport {
    /// The kernel will not watch the descriptor. A device is always ready then, and has its turns; anything else is closed.
    fn on_refusal(&self, lp: &Owned) {
        if self.has(LOSING) || self.wanted() == 0 {
            return;
        }
        let error = lp.refusal();
        if self.has(DEVICE) && error.code() == -libc::EPERM {
            self.schedule_turn(lp);
            return;
        }
        self.tell(lp, error.code(), "Fatal error: the transport's descriptor cannot be watched", None);
        self.force_close(lp, error.code());
    }

    /// Whether a device goes on having turns.
    pub(super) fn wants_turns(&self) -> bool {
        !self.has(LOSING) && self.wanted() != 0
    }

    /// Has the poller know what the transport waits for.
    pub(super) fn update_interest(&self, lp: &Owned) {
        lp.set_interest(self.fd(), if self.has(LOSING) { 0 } else { self.wanted() });
    }

    /// What it waits for.
    fn wanted(&self) -> u8 {
        let reads = self.is_reading() && self.has(STARTED) && !self.has(READ_EOF) || self.has(WATCHES_PEER);
        let writes = self.queue_size() > 0 || self.has(SENDING) && !self.has(FILE_WAITS);
        (u8::from(reads) * READ) | (u8::from(writes) * WRITE)
    }

    /// What waits to be written, if anything does. `f` calls no code of the host.
    pub(super) fn writing<R>(&self, f: impl FnOnce(&mut Writing) -> R) -> Option<R> {
        // SAFETY: the owner's; no borrow is held over another.
        unsafe { (*self.writing.get()).as_deref_mut().map(f) }
    }

    /// [`Transport::writing`], made if it is not there.
    pub(super) fn change_writing<R>(&self, f: impl FnOnce(&mut Writing) -> R) -> R {
        // SAFETY: as above.
        f(unsafe { (*self.writing.get()).get_or_insert_default() })
    }

    /// Takes what waits, with its limits if they are not what a transport begins with.
    pub(super) fn drop_writing(&self, always: bool) {
        let taken = if always || self.writing(|writing| (writing.high, writing.low) == LIMITS) == Some(true) {
            // SAFETY: as above; dropped when the borrow has ended, because that calls the host.
            unsafe { (*self.writing.get()).take() }
        } else {
            None
        };
        drop(taken);
    }

    pub(super) fn rare<R>(&self, f: impl FnOnce(&mut Rare) -> R) -> Option<R> {
        // SAFETY: the owner's; no borrow is held over another.
        unsafe { (*self.rare.get()).as_deref_mut().map(f) }
    }

    pub(super) fn change_rare<R>(&self, f: impl FnOnce(&mut Rare) -> R) -> R {
        // SAFETY: as above.
        f(unsafe { (*self.rare.get()).get_or_insert_default() })
    }

    #[inline]
    pub(crate) fn has(&self, flags: u32) -> bool {
        self.flags.load(Ordering::Relaxed) & flags != 0
    }

    #[inline]
    pub(super) fn set(&self, flags: u32) {
        // Only the loop's owner changes them.
        self.flags.store(self.flags.load(Ordering::Relaxed) | flags, Ordering::Relaxed);
    }

    #[inline]
    pub(super) fn clear(&self, flags: u32) {
        self.flags.store(self.flags.load(Ordering::Relaxed) & !flags, Ordering::Relaxed);
    }

    /// The loop, whose memory the transport keeps.
    pub(crate) fn event_loop(&self) -> *const EventLoop {
        self.event_loop
    }

    /// The descriptor; -1 once it is closed.
    pub(crate) fn fd(&self) -> c_int {
        self.fd.load(Ordering::Relaxed)
    }

    /// `transport.is_closing`.
    pub(crate) fn is_closing(&self) -> bool {
        self.has(CLOSING)
    }

    pub(crate) fn retain(&self) {
        self.refs.fetch_add(1, Ordering::Relaxed);
    }

    /// Schedules a function of ours, which has a reference.
    pub(super) fn schedule(&self, lp: &Owned, function: unsafe extern "C-unwind" fn(*mut c_void)) -> Result<()> {
        self.retain();
        let scheduled = lp.call_internal(function, self.pointer().cast(), Some(release), Word::NONE);
        if scheduled.is_err() && !lp.event_loop().debug() {
            // SAFETY: the reference taken above, which nobody has taken over.
            unsafe { Transport::release_ptr(self) };
        }
        scheduled
    }

    /// As callbacks of the host get it.
    pub(crate) fn pointer(&self) -> *mut Transport {
        ptr::from_ref(self).cast_mut()
    }

    /// The address its socket is bound to.
    pub(crate) fn local_address(&self) -> Result<Vec<u8>> {
        listen::local_address(self.fd())
    }

    /// The address of its peer, which is kept once it was asked for.
    pub(crate) fn peer_address(&self) -> Result<Vec<u8>> {
        if let Some(known) = self.rare(|rare| rare.peer.clone()).filter(|known| !known.is_empty()) {
            return Ok(known);
        }
        let found = listen::peer_address(self.fd())?;
        self.change_rare(|rare| rare.peer = found.clone());
        Ok(found)
    }

    /// The server that took the connection, if one did.
    pub(super) fn server(&self) -> *const Server {
        // SAFETY: the owner's.
        unsafe { (*self.server.get()).as_ref() }.map_or(ptr::null(), Arc::as_ptr)
    }

    pub(crate) fn data(&self) -> *mut c_void {
        self.data.load(Ordering::Acquire)
    }

    pub(crate) fn set_data(&self, data: FreeArg) {
        self.data.store(data.pointer(), Ordering::Release);
        let old = self.change_rare(|rare| rare.data_free.replace(data));
        drop(old);
    }

    /// `transport.__repr__`.
    pub(crate) fn repr(&self) -> String {
        let mut text = String::from(match (self.has(READS), self.has(WRITES)) {
            (true, false) => "<ReadPipeTransport",
            (false, true) => "<WritePipeTransport",
            _ => "<Transport",
        });
        if self.has(LOST) {
            text.push_str(" closed");
        } else if self.is_closing() {
            text.push_str(" closing");
        }
        let _ = write!(text, " fd={}", self.fd());
        if self.has(READS) {
            text.push_str(if self.is_reading() && self.has(STARTED) { " polling" } else { " idle" });
        }
        if self.has(WRITES) {
            text.push_str(if self.queue_size() > 0 || self.has(SENDING) { " polling" } else { " idle" });
            let _ = write!(text, " bufsize={}", self.queue_size());
        }
        text.push('>');
        text
    }

    /// Gives up one reference of a transport that may be NULL.
    ///
    /// # Safety
    /// The caller owns the reference. No borrow of the loop's state is held.
    pub(crate) unsafe fn release_ptr(transport: *const Transport) {
        // SAFETY: the reference keeps it alive.
        let Some(this) = (unsafe { transport.as_ref() }) else { return };
        if this.refs.fetch_sub(1, Ordering::AcqRel) != 1 {
            return;
        }
        let event_loop = this.event_loop;
        // SAFETY: nobody refers to it; its loop has given it up, so that nothing of it is the loop's but that it counts.
        unsafe {
            drop(Box::from_raw(transport.cast_mut()));
            lifetime::release_memory(event_loop);
        }
    }
}

impl Drop for Transport {
    fn drop(&mut self) {
        self.finish();
    }
}
