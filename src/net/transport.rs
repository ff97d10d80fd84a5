//! Transports (`asyncio.Transport`): what all of them share. One object serves pipes and streams; what it can do stands in its flags:
//! it reads (`read`), writes (`write`), or both.
//!
//! The loop keeps a transport until its protocol was told that the connection is lost; then the descriptor is closed, and what the host
//! gave is released. Nothing of the protocol is called re-entrantly but pause_writing, which tells whoever writes.

use std::cell::{Cell, UnsafeCell};
use std::ffi::{CString, c_int, c_void};
use std::fmt::Write as _;
use std::ptr;
use std::sync::atomic::{AtomicI32, AtomicPtr, AtomicU16, AtomicU32, Ordering};

use super::protocol::{Callbacks, Protocol};
use super::write_queue::WriteQueue;
use crate::engine::callback::{Callback, FreeArg};
use crate::engine::context::{Captured, Word};
use crate::engine::event_loop::{EventLoop, Owned};
use crate::engine::exception::{self, Raised, Report};
use crate::engine::operations::{NOWHERE, Operation};
use crate::engine::watch::Direction;
use crate::engine::{debug, lifetime, thread};
use crate::error::{Error, Result};

/// It can read.
pub(crate) const READS: u16 = 1;
/// It can write.
pub(crate) const WRITES: u16 = 2;
/// A socket: written with MSG_NOSIGNAL.
pub(crate) const SOCKET: u16 = 4;
/// A character device, which the kernel may be unable to watch: then it is always ready.
pub(crate) const DEVICE: u16 = 8;
/// A pipe of a child: its protocol is the process's.
pub(crate) const OF_PROCESS: u16 = 16;
/// The protocol was told that the connection is made, and reading has begun.
pub(crate) const STARTED: u16 = 32;
/// It is closing, or closed: `is_closing`.
pub(crate) const CLOSING: u16 = 64;
/// connection_lost is on its way.
pub(crate) const LOSING: u16 = 128;
/// The protocol is told no more, and the descriptor is closed.
pub(crate) const LOST: u16 = 256;
/// The protocol does not want to read.
pub(crate) const READING_PAUSED: u16 = 512;
/// The protocol was told to pause writing.
pub(crate) const WRITING_PAUSED: u16 = 1024;
/// It is to be told so by the ready queue.
pub(crate) const PAUSE_DUE: u16 = 2048;
/// The ready queue has a turn of reading for it: it is always ready.
pub(crate) const TURN_DUE: u16 = 4096;
/// A pipe's queue was written just now, which has most likely filled it: what is written more waits until the system says.
pub(crate) const FULL: u16 = 8192;

/// A transport.
pub struct Transport {
    event_loop: *const EventLoop,
    refs: AtomicU32,
    pub(super) flags: AtomicU16,
    /// -1 once it is closed.
    fd: AtomicI32,
    /// Where it stands among what the loop has under way.
    place: Cell<u32>,
    /// What connection_lost is told.
    lost_code: Cell<c_int>,
    protocol: UnsafeCell<Protocol>,
    /// The context in which the protocol is called.
    context: Cell<Word>,
    /// Where that is kept instead; NULL: it is the transport's own.
    shared_context: Cell<*mut Word>,
    /// Calls of the protocol on the stack, and what is to be released when there is none.
    calls: Cell<u32>,
    retired: UnsafeCell<Vec<FreeArg>>,
    pub(super) queue: UnsafeCell<WriteQueue>,
    pub(super) high: Cell<usize>,
    pub(super) low: Cell<usize>,
    data: AtomicPtr<c_void>,
    data_free: UnsafeCell<FreeArg>,
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
pub(super) unsafe extern "C-unwind" fn release(transport: *mut c_void) {
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
    /// Takes a descriptor over. The loop keeps the transport until its connection is lost.
    pub(crate) fn create(lp: &Owned, fd: c_int, flags: u16, protocol: Protocol, context: Captured) -> TransportRef {
        lp.count_object();
        let this = TransportRef(Box::into_raw(Box::new(Transport {
            event_loop: lp.pointer(),
            refs: AtomicU32::new(1),
            flags: AtomicU16::new(flags),
            fd: AtomicI32::new(fd),
            place: Cell::new(NOWHERE),
            lost_code: Cell::new(0),
            protocol: UnsafeCell::new(protocol),
            context: Cell::new(context.into_word()),
            shared_context: Cell::new(ptr::null_mut()),
            calls: Cell::new(0),
            retired: UnsafeCell::new(Vec::new()),
            queue: UnsafeCell::new(WriteQueue::new()),
            high: Cell::new(64 * 1024),
            low: Cell::new(16 * 1024),
            data: AtomicPtr::new(ptr::null_mut()),
            data_free: UnsafeCell::new(FreeArg::none()),
        })));
        this.retain();
        this.place.set(lp.begin(Operation { object: ptr::from_ref(&*this).cast(), abandon, is_task: false }));
        this
    }

    #[inline]
    pub(crate) fn has(&self, flags: u16) -> bool {
        self.flags.load(Ordering::Relaxed) & flags != 0
    }

    #[inline]
    pub(super) fn set(&self, flags: u16) {
        // Only the loop's owner changes them.
        self.flags.store(self.flags.load(Ordering::Relaxed) | flags, Ordering::Relaxed);
    }

    #[inline]
    pub(super) fn clear(&self, flags: u16) {
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

    /// A callback of ours that has a reference.
    pub(super) fn callback(&self, function: unsafe extern "C-unwind" fn(*mut c_void)) -> Callback {
        self.retain();
        Callback::new(Some(function), self.pointer().cast(), Some(release))
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
        unsafe { &(*self.protocol.get()).callbacks }
    }

    pub(super) fn arg(&self) -> *mut c_void {
        // SAFETY: as above.
        unsafe { (*self.protocol.get()).arg.pointer() }
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
        let shared = self.shared_context.get();
        if shared.is_null() { self.context.as_ptr() } else { shared }
    }

    /// Has the protocol be called in the context kept at `at`, which outlives the protocol's arg.
    pub(crate) fn share_context(&self, at: *mut Word) {
        self.shared_context.set(at);
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
        // SAFETY: the owner's; taken out before the host's code runs.
        let retired = unsafe { &mut *self.retired.get() };
        if self.calls.get() == 0 && !retired.is_empty() {
            drop(std::mem::take(retired));
        }
    }

    /// Tells the exception handler of a failure.
    pub(super) fn tell(&self, lp: &Owned, code: c_int, what: &str, raised: Option<Box<Raised>>) {
        let why = raised.as_ref().and_then(|raised| raised.message.as_deref());
        let message = match why {
            Some(why) => format!("{what}: {}", why.to_string_lossy()),
            None => format!("{what}."),
        };
        let report = Report {
            code,
            message: CString::new(message).ok(),
            object: raised.as_ref().map_or(ptr::null_mut(), |raised| raised.object.pointer()),
            handle: ptr::null(),
            future: ptr::null(),
            transport: ptr::from_ref(self).cast(),
            traceback: Vec::new(),
        };
        exception::tell(lp, &report);
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

    /// Gives up a transport that nobody knows yet; the descriptor stays its maker's.
    pub(crate) fn disown(&self, lp: &Owned) {
        self.unwatch(lp);
        self.fd.store(-1, Ordering::Relaxed);
        self.finish();
        self.forget(lp);
    }

    /// Closes a transport that no protocol is to be told of.
    pub(crate) fn discard(&self, lp: &Owned) {
        self.unwatch(lp);
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
        self.set(STARTED);
        if self.has(READS) {
            self.begin_reading(lp);
        } else {
            self.watch_peer(lp, true);
        }
    }

    /// `transport.close`: what is queued is written first.
    pub(crate) fn close(&self, lp: &Owned) {
        if self.is_closing() {
            return;
        }
        self.set(CLOSING);
        if self.has(READS) {
            self.stop_reading(lp);
        }
        if self.queue_size() == 0 {
            self.lose(lp, 0);
        }
    }

    /// `transport.abort`: what is queued is dropped. 0: the host wants it.
    pub(crate) fn force_close(&self, lp: &Owned, code: c_int) {
        if self.has(LOSING) {
            return;
        }
        self.set(CLOSING);
        // SAFETY: the owner's; taken out before the host's code runs.
        let dropped = unsafe { std::mem::replace(&mut *self.queue.get(), WriteQueue::new()) };
        self.lose(lp, code);
        drop(dropped);
    }

    /// connection_lost follows by the ready queue.
    pub(super) fn lose(&self, lp: &Owned, code: c_int) {
        if self.has(LOSING) {
            return;
        }
        self.set(CLOSING | LOSING);
        self.clear(PAUSE_DUE);
        self.lost_code.set(code);
        self.unwatch(lp);
        let _ = self.schedule(lp, deliver_lost);
    }

    /// Has the kernel watch the descriptor, also when it has refused to before. False: it cannot; that closes the transport, unless it is a
    /// device, which is always ready then.
    pub(super) fn watch(
        &self,
        lp: &Owned,
        direction: Direction,
        function: unsafe extern "C-unwind" fn(*mut c_void),
    ) -> bool {
        if lp.is_watched(self.fd(), direction) {
            lp.pause_internal(self.fd(), direction, false);
            return true;
        }
        match lp.watch_internal(self.fd(), direction, self.callback(function)) {
            Ok(()) => true,
            Err(error) if self.has(DEVICE) && error.code() == -libc::EPERM => false,
            Err(error) => {
                self.tell(lp, error.code(), "Fatal error: the transport's descriptor cannot be watched", None);
                self.force_close(lp, error.code());
                false
            }
        }
    }

    fn unwatch(&self, lp: &Owned) {
        lp.unwatch_internal(self.fd(), Direction::Read);
        lp.unwatch_internal(self.fd(), Direction::Write);
    }

    /// `transport.set_protocol`. The arg of the one before is released when no call of it is on the stack.
    pub(crate) fn set_protocol(&self, protocol: Protocol) -> Result<()> {
        if self.has(LOST) {
            return Err(Error::INVALID_STATE.detail(|| "the transport is closed".into()));
        }
        // SAFETY: the owner's; dropped after it was taken out, because that calls the host.
        let old = unsafe { std::mem::replace(&mut *self.protocol.get(), protocol) };
        if self.calls.get() > 0 {
            // SAFETY: as above.
            unsafe { (*self.retired.get()).push(old.arg) };
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
            let none = Protocol { callbacks: Callbacks::default(), arg: FreeArg::none() };
            (
                std::mem::replace(&mut *self.protocol.get(), none),
                std::mem::take(&mut *self.retired.get()),
                std::mem::replace(&mut *self.queue.get(), WriteQueue::new()),
            )
        };
        drop(gone);
        self.context.replace(Word::NONE).release();
    }

    pub(crate) fn data(&self) -> *mut c_void {
        self.data.load(Ordering::Acquire)
    }

    pub(crate) fn set_data(&self, data: FreeArg) {
        self.data.store(data.pointer(), Ordering::Release);
        // SAFETY: the owner's; dropped after it was taken out, because that calls the host.
        let old = unsafe { std::mem::replace(&mut *self.data_free.get(), data) };
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
    this.finish();
    this.forget(&lp);
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
