//! Datagram endpoints (`asyncio.DatagramTransport`): what they are, and their lives. [`receive`] and [`send`] do the work.
//!
//! The loop keeps an endpoint until its protocol was told that the connection is lost, as it does with transports. Nothing of the
//! protocol is called re-entrantly but pause_writing.

mod backlog;
mod collect;
mod protocol;
mod receive;
mod send;

use std::cell::{Cell, UnsafeCell};
use std::ffi::{c_int, c_void};
use std::ptr;
use std::sync::atomic::{AtomicI32, AtomicPtr, AtomicU32, Ordering};

use super::listen;
use crate::engine::callback::FreeArg;
use crate::engine::context::Word;
use crate::engine::event_loop::{EventLoop, Owned};
use crate::engine::exception::Raised;
use crate::engine::operations::{NOWHERE, Operation};
use crate::engine::runnable::Runnable;
use crate::engine::source::REFUSED;
use crate::engine::{lifetime, thread};
use crate::error::{Error, Result};
use crate::poller::{READ, WRITE};
use backlog::Sending;
pub(crate) use protocol::Client;
pub use protocol::{BatchFn, Callbacks, Message};

/// A UDP socket: the kernel may split and join its datagrams.
const UDP: u32 = 1;
/// The socket is connected: addresses are not told to the kernel.
const CONNECTED: u32 = 2;
/// The protocol was told that the connection is made.
const STARTED: u32 = 4;
/// It is closing, or closed.
const CLOSING: u32 = 8;
/// connection_lost is on its way.
const LOSING: u32 = 16;
/// The protocol is told no more.
const LOST: u32 = 32;
/// The protocol was told to pause writing.
const WRITING_PAUSED: u32 = 64;
/// It is to be told so by the ready queue.
const PAUSE_DUE: u32 = 128;
/// It stands in the ready queue, because its descriptor is ready.
const QUEUED: u32 = 256;
const READABLE: u32 = 512;
const WRITABLE: u32 = 1024;
/// The kernel will not watch the descriptor.
const REFUSAL: u32 = 2048;
/// The ready queue is to tell the protocol of errors.
const TELL_DUE: u32 = 4096;
/// The protocol is being told of several datagrams: what it sends meanwhile is handed to the kernel together.
const COLLECTING: u32 = 8192;

/// A datagram endpoint.
#[repr(C)]
pub struct Datagram {
    kind: &'static Runnable,
    event_loop: *const EventLoop,
    refs: AtomicU32,
    flags: AtomicU32,
    /// -1 once it is closed.
    fd: AtomicI32,
    /// Where it stands among what the loop has under way.
    place: Cell<u32>,
    callbacks: Cell<Callbacks>,
    arg: UnsafeCell<FreeArg>,
    /// Calls of the protocol on the stack; and args of protocols that were replaced meanwhile, to be released when there is none.
    calls: Cell<u32>,
    retired: UnsafeCell<Vec<FreeArg>>,
    /// The context in which the protocol is called.
    context: Cell<Word>,
    /// Whom datagrams are for that name nobody; empty: they must.
    remote: Box<[u8]>,
    sending: UnsafeCell<Sending>,
    /// Datagrams of more bytes are not left to the kernel to be split.
    segment_limit: Cell<usize>,
    /// What connection_lost is told.
    lost_code: Cell<c_int>,
    data: AtomicPtr<c_void>,
    data_free: UnsafeCell<FreeArg>,
}

/// What the ready queue and the poller do with one.
static KIND: Runnable = Runnable { run: turn_of, abandon: drop_entry, note };

/// Its descriptor is ready.
///
/// # Safety
/// `object` is an endpoint that the loop has.
unsafe fn note(object: *const (), ready: u8) -> bool {
    // SAFETY: by this function's contract.
    let this = unsafe { &*object.cast::<Datagram>() };
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
/// `object` is an endpoint, and a reference that is given up.
unsafe fn turn_of(object: *const ()) {
    // SAFETY: by this function's contract.
    let this = DatagramRef(object.cast());
    let ready = this.flags.load(Ordering::Relaxed);
    this.clear(QUEUED | READABLE | WRITABLE | REFUSAL);
    // SAFETY: an endpoint keeps its loop's memory.
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
/// `object` is an endpoint, and a reference that is given up.
unsafe fn drop_entry(object: *const ()) {
    // SAFETY: by this function's contract.
    unsafe { Datagram::release_ptr(object.cast()) };
}

/// A counted reference to an endpoint.
pub(crate) struct DatagramRef(*const Datagram);

// SAFETY: an endpoint may be referred to from any thread.
unsafe impl Send for DatagramRef {}

impl DatagramRef {
    pub(crate) fn new(datagram: &Datagram) -> DatagramRef {
        datagram.retain();
        DatagramRef(datagram)
    }

    pub(crate) fn into_raw(self) -> *mut Datagram {
        let pointer = self.0.cast_mut();
        std::mem::forget(self);
        pointer
    }
}

impl std::ops::Deref for DatagramRef {
    type Target = Datagram;
    fn deref(&self) -> &Datagram {
        // SAFETY: the reference keeps it.
        unsafe { &*self.0 }
    }
}

impl Drop for DatagramRef {
    fn drop(&mut self) {
        // SAFETY: this owns the reference.
        unsafe { Datagram::release_ptr(self.0) };
    }
}

/// Gives up a reference.
///
/// # Safety
/// `datagram` is a reference that is given up.
pub(crate) unsafe extern "C-unwind" fn release(datagram: *mut c_void) {
    // SAFETY: by this function's contract.
    unsafe { Datagram::release_ptr(datagram.cast_const().cast()) };
}

/// The endpoint that a callback of ours was given, and its loop.
///
/// # Safety
/// `arg` is an endpoint, of which the callback has a reference.
unsafe fn enter<'a>(arg: *mut c_void) -> Option<(&'a Datagram, Owned<'a>)> {
    // SAFETY: by this function's contract; an endpoint keeps its loop's memory.
    unsafe {
        let datagram = &*arg.cast_const().cast::<Datagram>();
        Some((datagram, (*datagram.event_loop).enter().ok()?))
    }
}

impl Datagram {
    /// Takes a descriptor over, whose protocol is told by the loop's next iteration. `remote` is whom datagrams are for that name nobody.
    /// On failure the descriptor stays the caller's.
    pub(crate) fn open(lp: &Owned, fd: c_int, remote: &[u8], client: Client) -> Result<DatagramRef> {
        lp.reserve(1)?;
        let peer = match listen::peer_address(fd) {
            Err(error) if matches!(-error.code(), libc::ENOBUFS | libc::ENOMEM) => return Err(error),
            known => known.ok(),
        };
        let connected = if peer.is_some() { CONNECTED } else { 0 };
        let udp = if receive::prepare(fd) { UDP } else { 0 };
        lp.count_object();
        let this = DatagramRef(Box::into_raw(Box::new(Datagram {
            kind: &KIND,
            event_loop: lp.pointer(),
            refs: AtomicU32::new(1),
            flags: AtomicU32::new(connected | udp),
            fd: AtomicI32::new(-1),
            place: Cell::new(NOWHERE),
            callbacks: Cell::new(client.callbacks),
            arg: UnsafeCell::new(client.arg),
            calls: Cell::new(0),
            retired: UnsafeCell::new(Vec::new()),
            context: Cell::new(client.context.into_word()),
            remote: peer.map_or_else(|| remote.into(), Vec::into_boxed_slice),
            sending: UnsafeCell::new(Sending::new()),
            segment_limit: Cell::new(usize::from(u16::MAX)),
            lost_code: Cell::new(0),
            data: AtomicPtr::new(ptr::null_mut()),
            data_free: UnsafeCell::new(FreeArg::none()),
        })));
        // SAFETY: it is removed before the descriptor is closed, which the loop's reference outlives.
        unsafe { lp.add_source(fd, ptr::from_ref(&*this).cast()) }?;
        if let Err(error) = this.schedule(lp, start) {
            lp.remove_source(fd, false);
            return Err(error);
        }
        this.fd.store(fd, Ordering::Relaxed);
        this.retain();
        this.place.set(lp.begin(Operation { object: ptr::from_ref(&*this).cast(), abandon, is_task: false }));
        Ok(this)
    }

    #[inline]
    fn has(&self, flags: u32) -> bool {
        self.flags.load(Ordering::Relaxed) & flags != 0
    }

    #[inline]
    fn set(&self, flags: u32) {
        // Only the loop's owner changes them.
        self.flags.store(self.flags.load(Ordering::Relaxed) | flags, Ordering::Relaxed);
    }

    #[inline]
    fn clear(&self, flags: u32) {
        self.flags.store(self.flags.load(Ordering::Relaxed) & !flags, Ordering::Relaxed);
    }

    /// The loop, whose memory the endpoint keeps.
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

    /// What waits to be sent. `f` calls no code of the host.
    fn sending<R>(&self, f: impl FnOnce(&mut Sending) -> R) -> R {
        // SAFETY: the owner's; no borrow is held over another.
        f(unsafe { &mut *self.sending.get() })
    }

    /// Schedules a function of ours, which has a reference.
    fn schedule(&self, lp: &Owned, function: unsafe extern "C-unwind" fn(*mut c_void)) -> Result<()> {
        self.retain();
        let scheduled = lp.call_internal(function, ptr::from_ref(self).cast_mut().cast(), Some(release), Word::NONE);
        if scheduled.is_err() && !lp.event_loop().debug() {
            // SAFETY: the reference taken above, which nobody has taken over.
            unsafe { Datagram::release_ptr(self) };
        }
        scheduled
    }

    /// What the poller looks for.
    fn update_interest(&self, lp: &Owned) {
        let reads = self.has(STARTED) && !self.has(CLOSING);
        let writes = !self.has(LOSING) && !self.sending(|sending| sending.backlog.is_empty());
        lp.set_interest(self.fd(), (u8::from(reads) * READ) | (u8::from(writes) * WRITE));
    }

    /// Calls a function of the protocol; `name` is asyncio's. A code: it failed with that, which the exception handler was told; None:
    /// nothing of the endpoint is to be touched any more.
    fn call(
        &self,
        lp: &Owned,
        name: &str,
        within: bool,
        host: &mut dyn FnMut(*mut Datagram, *mut c_void),
    ) -> Option<c_int> {
        let this = ptr::from_ref(self).cast_mut();
        // SAFETY: the owner's; the arg is released when the protocol is told no more.
        let arg = unsafe { (*self.arg.get()).pointer() };
        let at = self.context.as_ptr();
        self.calls.set(self.calls.get() + 1);
        let started = lp.stopwatch();
        // SAFETY: the word stays in the endpoint, which the caller has a reference of.
        let called = unsafe {
            match within {
                false => lp.call_host(at, || host(this, arg)),
                true => lp.call_host_within(at, || host(this, arg)),
            }
        };
        lp.report_slow(started, || format!("{name} of {}", self.repr()));
        self.calls.set(self.calls.get() - 1);
        if thread::current().attention.get() & (thread::FORKED | thread::BROKEN) != 0 {
            return None;
        }
        if self.calls.get() == 0 {
            // SAFETY: the owner's; dropped after they were taken out, because that calls the host.
            drop(unsafe { std::mem::take(&mut *self.retired.get()) });
        }
        let (code, raised) = match called {
            Ok((_, None)) => return Some(0),
            Ok((_, Some(raised))) => (raised.code, Some(raised)),
            Err(error) => (error.code(), None),
        };
        let what = format!("protocol.{name}() of {} failed", self.repr());
        self.tell(lp, code, &what, raised);
        Some(code)
    }

    /// Tells the exception handler of a failure.
    fn tell(&self, lp: &Owned, code: c_int, what: &str, raised: Option<Box<Raised>>) {
        super::protocol::tell_of(lp, (ptr::null(), ptr::from_ref(self).cast()), code, what, raised);
    }

    /// `transport.set_protocol`. The arg of the one before is released when no call of it is on the stack.
    pub(crate) fn set_protocol(&self, callbacks: Callbacks, arg: FreeArg) -> Result<()> {
        if self.has(LOST) {
            return Err(Error::INVALID_STATE.detail(|| "the endpoint is closed".into()));
        }
        self.callbacks.set(callbacks);
        // SAFETY: the owner's; dropped after it was taken out, because that calls the host.
        let old = unsafe { std::mem::replace(&mut *self.arg.get(), arg) };
        if self.calls.get() > 0 {
            // SAFETY: as above.
            unsafe { (*self.retired.get()).push(old) };
        }
        Ok(())
    }

    /// The kernel will not watch the descriptor.
    fn on_refusal(&self, lp: &Owned) {
        if self.has(LOSING) {
            return;
        }
        let code = lp.refusal().code();
        let what = format!("Fatal error: the descriptor of {} cannot be watched", self.repr());
        self.tell(lp, code, &what, None);
        self.force_close(lp, code);
    }

    /// `transport.close`: what is queued is sent first.
    pub(crate) fn close(&self, lp: &Owned) {
        if self.is_closing() {
            return;
        }
        self.send_collected(lp);
        self.set(CLOSING);
        if self.sending(|sending| sending.backlog.is_empty()) {
            self.lose(lp, 0);
        } else {
            self.update_interest(lp);
        }
    }

    /// `transport.abort`: what is queued is dropped. 0: the host wants it.
    pub(crate) fn force_close(&self, lp: &Owned, code: c_int) {
        if !self.has(LOSING) {
            // These are as good as sent.
            self.send_collected(lp);
            self.sending(|sending| sending.backlog.clear());
            self.lose(lp, code);
        }
    }

    /// connection_lost follows by the ready queue.
    fn lose(&self, lp: &Owned, code: c_int) {
        if self.has(LOSING) {
            return;
        }
        self.set(CLOSING | LOSING);
        self.clear(PAUSE_DUE);
        self.lost_code.set(code);
        self.update_interest(lp);
        let _ = self.schedule(lp, deliver_lost);
    }

    /// Closes the descriptor and releases what the host gave.
    fn finish(&self) {
        self.set(CLOSING | LOSING | LOST);
        let fd = self.fd.swap(-1, Ordering::Relaxed);
        if fd >= 0 {
            // SAFETY: the descriptor is the endpoint's.
            unsafe { libc::close(fd) };
        }
        self.sending(|sending| sending.backlog.clear());
        // SAFETY: the owner's, or nobody's any more; dropped after it was taken out, because that calls the host.
        let gone = unsafe {
            (std::mem::replace(&mut *self.arg.get(), FreeArg::none()), std::mem::take(&mut *self.retired.get()))
        };
        drop(gone);
        self.context.replace(Word::NONE).release();
    }

    /// The address its socket is bound to.
    pub(crate) fn local_address(&self) -> Result<Vec<u8>> {
        listen::local_address(self.fd())
    }

    /// The address its socket is connected to.
    pub(crate) fn peer_address(&self) -> Result<&[u8]> {
        if self.has(CONNECTED) { Ok(&self.remote) } else { Err(Error::from_code(-libc::ENOTCONN)) }
    }

    pub(crate) fn data(&self) -> *mut c_void {
        self.data.load(Ordering::Acquire)
    }

    pub(crate) fn set_data(&self, data: FreeArg) {
        self.data.store(data.pointer(), Ordering::Release);
        // SAFETY: the owner's; dropped after it was taken out, because that calls the host.
        drop(unsafe { std::mem::replace(&mut *self.data_free.get(), data) });
    }

    /// `transport.__repr__`.
    pub(crate) fn repr(&self) -> String {
        let state = match (self.has(LOST), self.is_closing()) {
            (true, _) => " closed",
            (false, true) => " closing",
            _ => "",
        };
        format!("<Datagram{state} fd={} bufsize={}>", self.fd(), self.queue_size())
    }

    /// Gives up one reference of an endpoint that may be NULL.
    ///
    /// # Safety
    /// The caller owns the reference. No borrow of the loop's state is held.
    pub(crate) unsafe fn release_ptr(datagram: *const Datagram) {
        // SAFETY: the reference keeps it alive.
        let Some(this) = (unsafe { datagram.as_ref() }) else { return };
        if this.refs.fetch_sub(1, Ordering::AcqRel) != 1 {
            return;
        }
        let event_loop = this.event_loop;
        // SAFETY: nobody refers to it; its loop has given it up, so that nothing of it is the loop's but that it counts.
        unsafe {
            drop(Box::from_raw(datagram.cast_mut()));
            lifetime::release_memory(event_loop);
        }
    }
}

impl Drop for Datagram {
    fn drop(&mut self) {
        self.finish();
    }
}

/// The protocol is told that the connection is made, and receiving begins.
unsafe extern "C-unwind" fn start(arg: *mut c_void) {
    // SAFETY: the entry has a reference.
    let Some((this, lp)) = (unsafe { enter(arg) }) else { return };
    if let Some(made) = this.callbacks.get().connection_made {
        // SAFETY: the host gave the function with its arg.
        match this.call(&lp, "connection_made", false, &mut |this, arg| unsafe { made(this, arg) }) {
            // A forked child notes that it would wait, in case it goes on.
            None if thread::current().attention.get() & thread::BROKEN != 0 => return,
            None => {}
            // What could not even begin is of no use.
            Some(code) if code < 0 => this.force_close(&lp, code),
            Some(_) => {}
        }
    }
    if !this.has(LOST) {
        this.set(STARTED);
        this.update_interest(&lp);
    }
}

/// The connection is lost: the last that the protocol is told.
unsafe extern "C-unwind" fn deliver_lost(arg: *mut c_void) {
    // SAFETY: the entry has a reference.
    let Some((this, lp)) = (unsafe { enter(arg) }) else { return };
    let code = this.lost_code.get();
    if let Some(lost) = this.callbacks.get().connection_lost {
        // SAFETY: the host gave the function with its arg.
        let mut host = |this, arg| unsafe { lost(this, code, arg) };
        if this.call(&lp, "connection_lost", false, &mut host).is_none() {
            return;
        }
    }
    lp.remove_source(this.fd(), true);
    this.finish();
    lp.end_operation(this.place.replace(NOWHERE));
    // SAFETY: the loop's reference; the entry has another one.
    unsafe { Datagram::release_ptr(this) };
}

/// The loop is closed.
///
/// # Safety
/// `object` is an endpoint, and a reference that is given up.
unsafe fn abandon(object: *const ()) {
    // SAFETY: by this function's contract.
    unsafe {
        (*object.cast::<Datagram>()).finish();
        Datagram::release_ptr(object.cast());
    }
}
