//! The life of a transport: it is made, its protocol is told that there is a connection, and in the end that it is lost; and how a protocol
//! is called.

use std::cell::{Cell, UnsafeCell};
use std::ffi::{c_int, c_void};
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicPtr, AtomicU32, Ordering};

use super::protocol::{self, Callbacks, Protocol};
use super::server::Server;
use super::transport::{
    CLOSING, DEVICE, KIND, LOSING, LOST, OF_PROCESS, PAUSE_DUE, READS, SENDING, SOCKET, STARTED, Transport,
    TransportRef, WATCHES_PEER, WRITES, enter,
};
use crate::engine::callback::FreeArg;
use crate::engine::context::{Captured, Word};
use crate::engine::event_loop::Owned;
use crate::engine::exception::Raised;
use crate::engine::operations::{NOWHERE, Operation};
use crate::engine::{debug, thread};
use crate::error::{Error, Result};
use crate::poller::READ;

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
        if lp.is_registered(fd) {
            // The connection's end was waited for until now: to wait for what it will want then is one call, to stop and begin again two.
            lp.set_interest(fd, READ);
        }
        Ok(this)
    }

    pub(super) fn callbacks(&self) -> &Callbacks {
        if self.has(LOST) {
            return &protocol::NOTHING;
        }
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
        let started = lp.stopwatch();
        // SAFETY: the word stays in the transport, which the caller has a reference of, or in the process of the protocol.
        let called = unsafe { lp.call_host(self.context_at(), || host(this, arg)) };
        lp.report_slow(started, || format!("{name} of {}", self.repr()));
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
        let started = lp.stopwatch();
        // SAFETY: as above.
        let called = unsafe { lp.call_host_within(self.context_at(), || host(this, arg)) };
        lp.report_slow(started, || format!("{name} of {}", self.repr()));
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
            // A forked child notes what it would wait for, in case it goes on.
            if call.is_none() && thread::current().attention.get() & thread::BROKEN != 0 {
                return;
            }
        }
        if self.has(LOST) {
            return;
        }
        self.set(STARTED | if self.has(READS | DEVICE) { 0 } else { WATCHES_PEER });
        self.update_interest(lp);
    }

    /// `transport.close`: what is queued is written first, and so is a file that is being sent.
    pub(crate) fn close(&self, lp: &Owned) {
        if self.is_closing() {
            return;
        }
        self.set(CLOSING);
        if self.queue_size() == 0 && !self.has(SENDING) {
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
        self.lose_sending(lp, code);
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

    /// Whether this is what the protocol is called with.
    pub(crate) fn calls_with(&self, arg: *const c_void) -> bool {
        ptr::eq(self.arg(), arg)
    }

    /// The protocol goes on with other functions.
    pub(crate) fn change_callbacks(&self, callbacks: Arc<Callbacks>) {
        // SAFETY: the owner's; whoever calls one of them has copied it.
        drop(unsafe { std::mem::replace(&mut *self.callbacks.get(), callbacks) });
    }

    /// Closes the descriptor and releases what the host gave.
    pub(super) fn finish(&self) {
        self.set(CLOSING | LOSING | LOST);
        let fd = self.fd.swap(-1, Ordering::Relaxed);
        if fd >= 0 {
            // SAFETY: the descriptor is the transport's.
            unsafe { libc::close(fd) };
        }
        // SAFETY: the owner's, or nobody's any more; dropped after all was taken out, because that calls the host.
        let gone = unsafe {
            (
                std::mem::replace(&mut *self.arg.get(), FreeArg::none()),
                self.rare(|rare| std::mem::take(&mut rare.retired)),
                (*self.writing.get()).take(),
            )
        };
        drop(gone);
        self.context.replace(Word::NONE).release();
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
