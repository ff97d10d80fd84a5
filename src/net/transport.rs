//! Transports (`asyncio.Transport`): what all of them share. One object serves pipes and streams; what it can do stands in its flags:
//! it reads (`read`), writes (`write`), or both.
//!
//! The loop keeps a transport until its protocol was told that the connection is lost; then the descriptor is closed, and what the host
//! gave is released. Nothing of the protocol is called re-entrantly but pause_writing, which tells whoever writes.

use std::cell::{Cell, UnsafeCell};
use std::ffi::{c_int, c_void};
use std::fmt::Write as _;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicPtr, AtomicU32, Ordering};

use super::listen;
use super::protocol::{self, Callbacks, Protocol};
use super::server::Server;
use super::write_queue::WriteQueue;
use crate::engine::callback::FreeArg;
use crate::engine::context::{Captured, Word};
use crate::engine::event_loop::{EventLoop, Owned};
use crate::engine::exception::Raised;
use crate::engine::operations::{NOWHERE, Operation};
use crate::engine::runnable::Runnable;
use crate::engine::source::REFUSED;
use crate::engine::{debug, lifetime, thread};
use crate::error::{Error, Result};
use crate::poller::{READ, WRITE};

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
pub(super) const READ_EOF: u32 = 1 << 17;
/// Nothing more is written after what is queued.
pub(super) const WRITE_EOF: u32 = 1 << 18;
/// A pipe's queue was written just now, which has most likely filled it: what is written more waits until the system says.
pub(super) const FULL: u32 = 1 << 19;

/// What waits to be written, and when the protocol is told of that.
pub(super) struct Writing {
    pub(super) queue: WriteQueue,
    pub(super) high: usize,
    pub(super) low: usize,
}

/// The limits that a transport begins with.
pub(super) const LIMITS: (usize, usize) = (64 * 1024, 16 * 1024);

impl Default for Writing {
    fn default() -> Self {
        Writing { queue: WriteQueue::new(), high: LIMITS.0, low: LIMITS.1 }
    }
}

/// What only few transports have.
#[derive(Default)]
struct Rare {
    /// Args of protocols that were replaced, to be released when no call of the protocol is on the stack.
    retired: Vec<FreeArg>,
    data_free: Option<FreeArg>,
    /// Where the context is kept instead.
    shared_context: Option<*mut Word>,
    /// The peer's address, once it was asked for.
    peer: Vec<u8>,
}

/// A transport. Small, because there may be many: what is not always needed is elsewhere.
#[repr(C)]
pub struct Transport {
    kind: &'static Runnable,
    event_loop: *const EventLoop,
    refs: AtomicU32,
    pub(super) flags: AtomicU32,
    /// -1 once it is closed.
    fd: AtomicI32,
    /// Where it stands among what the loop has under way.
    place: Cell<u32>,
    callbacks: UnsafeCell<Arc<Callbacks>>,
    arg: UnsafeCell<FreeArg>,
    /// The context in which the protocol is called.
    context: Cell<Word>,
    writing: UnsafeCell<Option<Box<Writing>>>,
    rare: UnsafeCell<Option<Box<Rare>>>,
    server: UnsafeCell<Option<Arc<Server>>>,
    data: AtomicPtr<c_void>,
    /// What connection_lost is told.
    lost_code: Cell<c_int>,
    /// Calls of the protocol on the stack.
    calls: Cell<u32>,
}

/// What the ready queue and the poller do with one.
static KIND: Runnable = Runnable { run: turn_of, abandon: drop_entry, note };

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
pub(crate) struct TransportRef(*const Transport);

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
    /// Takes a descriptor over. The loop keeps the transport until its connection is lost. On failure the descriptor stays the
    /// caller's.
    pub(crate) fn create(
        lp: &Owned,
        fd: c_int,
        flags: u32,
        protocol: Protocol,
        context: Captured,
        server: Option<&Arc<Server>>,
    ) -> Result<TransportRef> {
        let Protocol { callbacks, arg } = protocol;
        lp.count_object();
        let this = TransportRef(Box::into_raw(Box::new(Transport {
            kind: &KIND,
            event_loop: lp.pointer(),
            refs: AtomicU32::new(1),
            flags: AtomicU32::new(flags),
            fd: AtomicI32::new(-1),
            place: Cell::new(NOWHERE),
            callbacks: UnsafeCell::new(callbacks),
            arg: UnsafeCell::new(arg),
            context: Cell::new(context.into_word()),
            writing: UnsafeCell::new(None),
            rare: UnsafeCell::new(None),
            server: UnsafeCell::new(None),
            data: AtomicPtr::new(ptr::null_mut()),
            lost_code: Cell::new(0),
            calls: Cell::new(0),
        })));
        // SAFETY: it is removed before the descriptor is closed, which the loop's reference outlives.
        unsafe { lp.add_source(fd, ptr::from_ref(&*this).cast()) }?;
        this.fd.store(fd, Ordering::Relaxed);
        if let Some(server) = server {
            server.attach();
            // SAFETY: nobody else knows the transport.
            unsafe { *this.server.get() = Some(server.clone()) };
        }
        this.retain();
        this.place.set(lp.begin(Operation { object: ptr::from_ref(&*this).cast(), abandon, is_task: false }));
        Ok(this)
    }

    /// Makes a connected socket a transport, whose protocol is told by the loop's next iteration. On failure it stays the caller's.
    pub(crate) fn open(
        lp: &Owned,
        fd: c_int,
        protocol: Protocol,
        context: Captured,
        server: Option<&Arc<Server>>,
    ) -> Result<TransportRef> {
        lp.reserve(1)?;
        let this = Transport::create(lp, fd, READS | WRITES | SOCKET, protocol, context, server)?;
        this.schedule_start(lp)?;
        Ok(this)
    }

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
        let writes = self.queue_size() > 0;
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

    fn rare<R>(&self, f: impl FnOnce(&mut Rare) -> R) -> Option<R> {
        // SAFETY: the owner's; no borrow is held over another.
        unsafe { (*self.rare.get()).as_deref_mut().map(f) }
    }

    fn change_rare<R>(&self, f: impl FnOnce(&mut Rare) -> R) -> R {
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

    pub(super) fn callbacks(&self) -> &Callbacks {
        // SAFETY: replaced by the loop's owner only; what is taken out of it is copied before the host's code runs.
        unsafe { &*self.callbacks.get() }
    }

    pub(super) fn arg(&self) -> *mut c_void {
        // SAFETY: as above.
        unsafe { (*self.arg.get()).pointer() }
    }

    /// Calls a function of the protocol; `name` is asyncio's. None: nothing of the transport is to be touched any more, or the
    /// function failed, which the exception handler was told; a `fatal` failure closes the transport.
    pub(super) fn call(
        &self,
        lp: &Owned,
        name: &str,
        fatal: bool,
        host: &mut dyn FnMut(*mut Transport, *mut c_void) -> c_int,
    ) -> Option<c_int> {
        let (this, arg) = (self.pointer(), self.arg());
        self.calls.set(self.calls.get() + 1);
        // SAFETY: the word stays in the transport, which the caller has a reference of, or in the process of the protocol.
        let called = unsafe { lp.call_host(self.context_at(), || host(this, arg)) };
        self.called(lp, name, fatal, called)
    }

    /// [`Transport::call`] of what tells whoever writes to pause: from inside of a callback of the host's.
    pub(super) fn call_within(
        &self,
        lp: &Owned,
        name: &str,
        host: &mut dyn FnMut(*mut Transport, *mut c_void) -> c_int,
    ) -> Option<c_int> {
        let (this, arg) = (self.pointer(), self.arg());
        self.calls.set(self.calls.get() + 1);
        // SAFETY: as above.
        let called = unsafe { lp.call_host_within(self.context_at(), || host(this, arg)) };
        self.called(lp, name, false, called)
    }

    fn context_at(&self) -> *mut Word {
        self.rare(|rare| rare.shared_context).flatten().unwrap_or(self.context.as_ptr())
    }

    /// Has the protocol be called in the context kept at `at`, which outlives the protocol's arg.
    pub(crate) fn share_context(&self, at: *mut Word) {
        self.change_rare(|rare| rare.shared_context = Some(at));
    }

    /// What follows from how a call of the protocol went.
    fn called(
        &self,
        lp: &Owned,
        name: &str,
        fatal: bool,
        called: Result<(c_int, Option<Box<Raised>>)>,
    ) -> Option<c_int> {
        self.calls.set(self.calls.get() - 1);
        if thread::current().attention.get() & (thread::FORKED | thread::BROKEN) != 0 {
            return None;
        }
        let (code, raised) = match called {
            Ok((answer, None)) => {
                self.release_retired();
                return Some(answer);
            }
            Ok((_, Some(raised))) => (raised.code, Some(raised)),
            Err(error) => (error.code(), None),
        };
        let prefix = if fatal { "Fatal error: " } else { "" };
        let owner = if self.has(OF_PROCESS) { "pipe_" } else { "" };
        self.tell(lp, code, &format!("{prefix}protocol.{owner}{name}() call failed"), raised);
        self.release_retired();
        if fatal {
            self.force_close(lp, code);
        }
        None
    }

    /// Releases args of protocols that were replaced while they were being called.
    fn release_retired(&self) {
        if self.calls.get() == 0 {
            let retired = self.rare(|rare| std::mem::take(&mut rare.retired));
            drop(retired);
        }
    }

    /// Tells the exception handler of a failure.
    pub(super) fn tell(&self, lp: &Owned, code: c_int, what: &str, raised: Option<Box<Raised>>) {
        protocol::tell(lp, ptr::from_ref(self).cast(), code, what, raised);
    }

    /// A system call has failed for good: `_fatal_error`. What a peer or a terminal does by going away is told in debug mode only.
    pub(super) fn fail(&self, lp: &Owned, error: Error, what: &str) {
        if self.has(WRITES) || error.code() == -libc::EIO {
            if lp.event_loop().debug() {
                lp.log(debug::DEBUG, &format!("{}: {what}: {}", self.repr(), code_text(error)));
            }
        } else {
            self.tell(lp, error.code(), what, None);
        }
        self.force_close(lp, error.code());
    }

    /// [`Transport::start`] by the ready queue.
    pub(crate) fn schedule_start(&self, lp: &Owned) -> Result<()> {
        self.schedule(lp, super::pipe::start)
    }

    /// Closes a transport that no protocol is to be told of.
    pub(crate) fn discard(&self, lp: &Owned) {
        lp.remove_source(self.fd(), true);
        self.finish();
        self.forget(lp);
    }

    /// The loop gives it up.
    fn forget(&self, lp: &Owned) {
        lp.end_operation(self.place.replace(NOWHERE));
        // SAFETY: the loop's reference; the caller has another one.
        unsafe { Transport::release_ptr(self) };
    }

    /// The protocol is told that the connection is made, and reading begins. Called once, by the ready queue.
    pub(crate) fn start(&self, lp: &Owned) {
        if let Some(made) = self.callbacks().connection_made {
            let call = self.call(lp, "connection_made", true, &mut |this, arg| {
                // SAFETY: the host gave the function with its arg.
                unsafe { made(this, arg) };
                0
            });
            if call.is_none() {
                return;
            }
        }
        if self.has(LOST) {
            return;
        }
        self.set(STARTED | if self.has(READS | DEVICE) { 0 } else { WATCHES_PEER });
        self.update_interest(lp);
    }

    /// `transport.close`: what is queued is written first.
    pub(crate) fn close(&self, lp: &Owned) {
        if self.is_closing() {
            return;
        }
        self.set(CLOSING);
        if self.queue_size() == 0 {
            self.lose(lp, 0);
        } else {
            self.update_interest(lp);
        }
    }

    /// `transport.abort`: what is queued is dropped. 0: the host wants it.
    pub(crate) fn force_close(&self, lp: &Owned, code: c_int) {
        if self.has(LOSING) {
            return;
        }
        self.set(CLOSING);
        self.lose(lp, code);
        self.drop_writing(true);
    }

    /// connection_lost follows by the ready queue.
    pub(super) fn lose(&self, lp: &Owned, code: c_int) {
        if self.has(LOSING) {
            return;
        }
        self.set(CLOSING | LOSING);
        self.clear(PAUSE_DUE);
        self.lost_code.set(code);
        self.update_interest(lp);
        let _ = self.schedule(lp, deliver_lost);
    }

    /// `transport.set_protocol`. The arg of the one before is released when no call of it is on the stack.
    pub(crate) fn set_protocol(&self, protocol: Protocol) -> Result<()> {
        if self.has(LOST) {
            return Err(Error::INVALID_STATE.detail(|| "the transport is closed".into()));
        }
        let Protocol { callbacks, arg } = protocol;
        // SAFETY: the owner's; dropped after they were taken out, because that calls the host.
        let (old_table, old) = unsafe {
            (std::mem::replace(&mut *self.callbacks.get(), callbacks), std::mem::replace(&mut *self.arg.get(), arg))
        };
        drop(old_table);
        if self.calls.get() > 0 {
            self.change_rare(|rare| rare.retired.push(old));
        }
        Ok(())
    }

    /// Closes the descriptor and releases what the host gave.
    fn finish(&self) {
        self.set(CLOSING | LOSING | LOST);
        let fd = self.fd.swap(-1, Ordering::Relaxed);
        if fd >= 0 {
            // SAFETY: the descriptor is the transport's.
            unsafe { libc::close(fd) };
        }
        // SAFETY: the owner's, or nobody's any more; dropped after all was taken out, because that calls the host.
        let gone = unsafe {
            (
                std::mem::replace(&mut *self.callbacks.get(), Callbacks::default().shared()),
                std::mem::replace(&mut *self.arg.get(), FreeArg::none()),
                self.rare(|rare| std::mem::take(&mut rare.retired)),
                (*self.writing.get()).take(),
            )
        };
        drop(gone);
        self.context.replace(Word::NONE).release();
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
            text.push_str(if self.queue_size() > 0 { " polling" } else { " idle" });
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

fn code_text(error: Error) -> String {
    crate::error::describe(error.code()).to_string_lossy().into_owned()
}

/// The connection is lost: the last that the protocol is told.
unsafe extern "C-unwind" fn deliver_lost(arg: *mut c_void) {
    // SAFETY: the entry has a reference.
    let Some((this, lp)) = (unsafe { enter(arg) }) else { return };
    let code = this.lost_code.get();
    if let Some(lost) = this.callbacks().connection_lost {
        let call = this.call(&lp, "connection_lost", true, &mut |transport, arg| {
            // SAFETY: the host gave the function with its arg.
            unsafe { lost(transport, code, arg) };
            0
        });
        if call.is_none() && thread::current().attention.get() & (thread::FORKED | thread::BROKEN) != 0 {
            return;
        }
    }
    lp.remove_source(this.fd(), true);
    this.finish();
    // SAFETY: the owner's, and taken once.
    let server = unsafe { (*this.server.get()).take() };
    this.forget(&lp);
    if let Some(server) = server {
        server.detach(&lp);
    }
}

/// The loop's transports.
pub(super) fn all(lp: &Owned) -> impl Iterator<Item = TransportRef> + use<> {
    let found: Vec<TransportRef> = lp.with(|state| {
        // SAFETY: the loop has a reference of each.
        state.operations.of(abandon).map(|object| TransportRef::new(unsafe { &*object.cast() })).collect()
    });
    found.into_iter()
}

/// The loop is closed.
///
/// # Safety
/// `object` is a transport, and a reference that is given up.
unsafe fn abandon(object: *const ()) {
    // SAFETY: by this function's contract.
    unsafe {
        (*object.cast::<Transport>()).finish();
        Transport::release_ptr(object.cast());
    }
}
