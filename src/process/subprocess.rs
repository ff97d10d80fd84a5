//! Subprocesses (`asyncio.SubprocessTransport`): a child with its pipes, and the protocol that is told of them.
//!
//! The loop keeps a process until its child has ended, its pipes are closed and connection_lost was called. The pipes are
//! transports whose protocol is the process, called in the process's context.

use std::cell::{Cell, UnsafeCell};
use std::ffi::{c_int, c_void};
use std::fmt::Write as _;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicPtr, AtomicU8, AtomicU32, Ordering};

use super::child::{self, Child};
use super::communicate::{Communicate, Wait};
use super::spawn::{self, Options};
use super::watcher::Watcher;
use crate::engine::callback::FreeArg;
use crate::engine::context::{Captured, Word};
use crate::engine::event_loop::{EventLoop, Owned};
use crate::engine::operations::{NOWHERE, Operation};
use crate::engine::{debug, inbox, lifetime, thread};
use crate::error::{Error, Result};
use crate::net::transport::{Transport, TransportRef};
use crate::task::operation::OperationRef;

/// Tells of a process, and nothing else.
pub type TellFn = unsafe extern "C-unwind" fn(process: *mut Process, arg: *mut c_void);
/// Takes what the child has written.
pub type DataFn =
    unsafe extern "C-unwind" fn(process: *mut Process, fd: c_int, data: *const c_void, size: usize, arg: *mut c_void);
/// Told that a pipe is closed.
pub type PipeLostFn = unsafe extern "C-unwind" fn(process: *mut Process, fd: c_int, code: c_int, arg: *mut c_void);
/// Told that all is over.
pub type LostFn = unsafe extern "C-unwind" fn(process: *mut Process, code: c_int, arg: *mut c_void);

/// The functions of a protocol; those that are not there are not called.
#[derive(Clone, Copy, Default)]
#[allow(missing_docs, reason = "asyncio's names")]
pub struct Callbacks {
    pub connection_made: Option<TellFn>,
    pub pipe_data_received: Option<DataFn>,
    pub pipe_connection_lost: Option<PipeLostFn>,
    pub process_exited: Option<TellFn>,
    pub connection_lost: Option<LostFn>,
    pub pause_writing: Option<TellFn>,
    pub resume_writing: Option<TellFn>,
}

/// `returncode` of a child that runs.
const RUNNING: i64 = i64::MAX;

/// `close` was called.
const CLOSED: u8 = 1;
/// connection_lost is on its way.
const FINISHING: u8 = 2;
/// There is a protocol: what comes by the pipes is read from the beginning.
pub(super) const HAS_PROTOCOL: u8 = 4;
/// All is over.
const OVER: u8 = 8;

/// A child process.
pub struct Process {
    event_loop: *const EventLoop,
    refs: AtomicU32,
    flags: AtomicU8,
    child: Arc<Child>,
    returncode: AtomicI64,
    /// What the child watcher has said, before the protocol is told.
    told: AtomicI64,
    place: Cell<u32>,
    /// The transports of its pipes: references.
    pub(super) pipes: [Cell<*const Transport>; 3],
    /// Those that are not closed.
    pub(super) open: Cell<u32>,
    pub(super) callbacks: Callbacks,
    arg: UnsafeCell<FreeArg>,
    pub(super) context: Cell<Word>,
    pub(super) waiters: UnsafeCell<Vec<OperationRef<Wait>>>,
    /// Who collects what the child writes.
    pub(super) collector: UnsafeCell<Option<OperationRef<Communicate>>>,
    data: AtomicPtr<c_void>,
    data_free: UnsafeCell<FreeArg>,
}

/// A counted reference to a process.
pub(crate) struct ProcessRef(*const Process);

// SAFETY: a process may be referred to from any thread.
unsafe impl Send for ProcessRef {}

impl ProcessRef {
    pub(crate) fn new(process: &Process) -> ProcessRef {
        process.retain();
        ProcessRef(process)
    }

    pub(crate) fn into_raw(self) -> *mut Process {
        let pointer = self.0.cast_mut();
        std::mem::forget(self);
        pointer
    }
}

impl std::ops::Deref for ProcessRef {
    type Target = Process;
    fn deref(&self) -> &Process {
        // SAFETY: the reference keeps it.
        unsafe { &*self.0 }
    }
}

impl Drop for ProcessRef {
    fn drop(&mut self) {
        // SAFETY: this owns the reference.
        unsafe { Process::release_ptr(self.0) };
    }
}

/// Gives up a reference.
///
/// # Safety
/// `process` is a reference that is given up.
unsafe extern "C-unwind" fn release(process: *mut c_void) {
    // SAFETY: by this function's contract.
    unsafe { Process::release_ptr(process.cast_const().cast()) };
}

/// The process that a callback of ours was given, and its loop.
///
/// # Safety
/// `arg` is a process, of which the callback has a reference.
pub(super) unsafe fn enter<'a>(arg: *mut c_void) -> Option<(&'a Process, Owned<'a>)> {
    // SAFETY: by this function's contract; a process keeps its loop's memory.
    unsafe {
        let process = &*arg.cast_const().cast::<Process>();
        Some((process, (*process.event_loop).enter().ok()?))
    }
}

/// Whether the host's function has left nothing that could be gone on with.
pub(super) fn is_broken() -> bool {
    thread::current().attention.get() & (thread::FORKED | thread::BROKEN) != 0
}

/// `loop.subprocess_exec`. No protocol: what the child writes is read when it is asked for.
///
/// # Safety
/// The pointers in `options` are as told there.
pub(crate) unsafe fn start(
    lp: &Owned,
    watcher: &Arc<Watcher>,
    options: &Options,
    callbacks: Option<Callbacks>,
    arg: FreeArg,
) -> Result<ProcessRef> {
    if !watcher.is_active() {
        return Err(Error::SHUT_DOWN.detail(|| "the child watcher is not active".into()));
    }
    lp.reserve(1)?;
    // SAFETY: by this function's contract.
    let spawned = unsafe { spawn::start(options) }?;
    let this = Process::create(lp, spawned.child, callbacks, arg, lp.capture(None));
    let begun = this.open_pipes(lp, spawned.pipes).and_then(|()| {
        watcher.add_child(lp, &this.child, ended, this.counted_arg())?;
        this.schedule(lp, begin)
    });
    if let Err(error) = begun {
        this.child.discard();
        for pipe in &this.pipes {
            // SAFETY: the process has a reference of it.
            if let Some(pipe) = unsafe { pipe.get().as_ref() } {
                pipe.discard(lp);
            }
        }
        this.finish();
        this.forget(lp);
        return Err(error);
    }
    if lp.event_loop().debug() {
        lp.log(debug::DEBUG, &format!("process created: pid {}", this.pid()));
    }
    Ok(this)
}

impl Process {
    fn create(lp: &Owned, child: Child, callbacks: Option<Callbacks>, arg: FreeArg, context: Captured) -> ProcessRef {
        lp.count_object();
        let this = ProcessRef(Box::into_raw(Box::new(Process {
            event_loop: lp.pointer(),
            refs: AtomicU32::new(1),
            flags: AtomicU8::new(if callbacks.is_some() { HAS_PROTOCOL } else { 0 }),
            child: Arc::new(child),
            returncode: AtomicI64::new(RUNNING),
            told: AtomicI64::new(RUNNING),
            place: Cell::new(NOWHERE),
            pipes: [const { Cell::new(ptr::null()) }; 3],
            open: Cell::new(0),
            callbacks: callbacks.unwrap_or_default(),
            arg: UnsafeCell::new(arg),
            context: Cell::new(context.into_word()),
            waiters: UnsafeCell::new(Vec::new()),
            collector: UnsafeCell::new(None),
            data: AtomicPtr::new(ptr::null_mut()),
            data_free: UnsafeCell::new(FreeArg::none()),
        })));
        this.retain();
        this.place.set(lp.begin(Operation { object: ptr::from_ref(&*this).cast(), abandon, is_task: false }));
        this
    }

    pub(super) fn has(&self, flag: u8) -> bool {
        self.flags.load(Ordering::Relaxed) & flag != 0
    }

    fn set(&self, flag: u8) {
        self.flags.fetch_or(flag, Ordering::Relaxed);
    }

    /// The loop, whose memory the process keeps.
    pub(crate) fn event_loop(&self) -> *const EventLoop {
        self.event_loop
    }

    pub(crate) fn pid(&self) -> c_int {
        self.child.pid()
    }

    /// `returncode`; None while the child runs.
    pub(crate) fn returncode(&self) -> Option<c_int> {
        match self.returncode.load(Ordering::Acquire) {
            RUNNING => None,
            code => Some(code as c_int),
        }
    }

    /// `transport.is_closing`.
    pub(crate) fn is_closing(&self) -> bool {
        self.has(CLOSED | OVER)
    }

    /// Whether connection_lost was called.
    pub(crate) fn is_over(&self) -> bool {
        self.has(OVER)
    }

    pub(crate) fn has_protocol(&self) -> bool {
        self.has(HAS_PROTOCOL)
    }

    /// `transport.get_pipe_transport`.
    pub(crate) fn pipe(&self, number: c_int) -> Option<&Transport> {
        let pipe = self.pipes.get(usize::try_from(number).ok()?)?;
        // SAFETY: the process has a reference of it.
        unsafe { pipe.get().as_ref() }
    }

    pub(crate) fn retain(&self) {
        self.refs.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn pointer(&self) -> *mut Process {
        ptr::from_ref(self).cast_mut()
    }

    /// What callbacks of ours are called with: a reference.
    pub(super) fn counted_arg(&self) -> FreeArg {
        self.retain();
        FreeArg::new(self.pointer().cast(), Some(release))
    }

    pub(super) fn arg(&self) -> *mut c_void {
        // SAFETY: changed by the loop's owner only, and not while it is used.
        unsafe { (*self.arg.get()).pointer() }
    }

    fn schedule(&self, lp: &Owned, function: unsafe extern "C-unwind" fn(*mut c_void)) -> Result<()> {
        self.retain();
        lp.call_internal(function, self.pointer().cast(), Some(release), Word::NONE)
    }

    /// Calls a function of the protocol. False: nothing of the process is to be touched any more.
    fn call(&self, lp: &Owned, name: &str, host: &mut dyn FnMut(*mut Process, *mut c_void)) -> bool {
        let (this, arg) = (self.pointer(), self.arg());
        let started = lp.stopwatch();
        // SAFETY: the word stays in the process, which the caller has a reference of.
        let called = unsafe { lp.call_host(self.context.as_ptr(), || host(this, arg)) };
        lp.report_slow(started, || format!("{name} of {}", self.repr()));
        if is_broken() {
            return false;
        }
        let (code, raised) = match called {
            Ok((_, None)) => return true,
            Ok((_, Some(raised))) => (raised.code, Some(raised)),
            Err(error) => (error.code(), None),
        };
        super::tell(lp, code, &format!("protocol.{name}() call failed"), raised.as_deref());
        true
    }

    /// The protocol is told that the child is started, and the pipes begin.
    fn begin(&self, lp: &Owned) {
        if let Some(made) = self.callbacks.connection_made {
            // SAFETY: the host gave the function with its arg.
            if !self.call(lp, "connection_made", &mut |this, arg| unsafe { made(this, arg) }) {
                return;
            }
        }
        for pipe in &self.pipes {
            // SAFETY: the process has a reference of it.
            if let Some(pipe) = unsafe { pipe.get().as_ref() } {
                pipe.start(lp);
            }
        }
    }

    /// `process_exited`, for those who wait, too.
    fn exited(&self, lp: &Owned) {
        let code = self.told.load(Ordering::Acquire);
        if self.returncode.swap(code, Ordering::AcqRel) != RUNNING || self.is_over() {
            return;
        }
        if let Some(exited) = self.callbacks.process_exited {
            // SAFETY: the host gave the function with its arg.
            if !self.call(lp, "process_exited", &mut |this, arg| unsafe { exited(this, arg) }) {
                return;
            }
        }
        self.end_waiters(lp, code);
        self.try_finish(lp);
    }

    /// connection_lost follows when the child has ended and all pipes are closed.
    pub(super) fn try_finish(&self, lp: &Owned) {
        if self.returncode().is_some() && self.open.get() == 0 && !self.has(FINISHING) {
            self.set(FINISHING);
            let _ = self.schedule(lp, deliver_lost);
        }
    }

    /// `transport.send_signal`.
    pub(crate) fn signal(&self, number: c_int) -> Result<()> {
        self.child.signal(number)
    }

    /// `transport.close`: the pipes are closed, and a child that runs is killed.
    pub(crate) fn close(&self, lp: &Owned) {
        if self.is_closing() {
            return;
        }
        self.set(CLOSED);
        for pipe in &self.pipes {
            // SAFETY: the process has a reference of it.
            if let Some(pipe) = unsafe { pipe.get().as_ref() } {
                TransportRef::new(pipe).close(lp);
            }
        }
        if self.returncode().is_none() && self.signal(libc::SIGKILL).is_ok() && lp.event_loop().debug() {
            lp.log(debug::WARNING, &format!("Close running child process: kill {}", self.repr()));
        }
    }

    /// Releases what the host gave.
    fn finish(&self) {
        self.set(OVER);
        // SAFETY: the owner's, or nobody's any more; dropped after all was taken out, because that calls the host.
        let gone = unsafe {
            (
                std::mem::replace(&mut *self.arg.get(), FreeArg::none()),
                std::mem::take(&mut *self.waiters.get()),
                (*self.collector.get()).take(),
            )
        };
        drop(gone);
        self.context.replace(Word::NONE).release();
    }

    /// The loop gives it up.
    fn forget(&self, lp: &Owned) {
        lp.end_operation(self.place.replace(NOWHERE));
        // SAFETY: the loop's reference; the caller has another one.
        unsafe { Process::release_ptr(self) };
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
        let mut text = String::from("<SubprocessTransport");
        if self.is_closing() {
            text.push_str(" closed");
        }
        let _ = write!(text, " pid={}", self.pid());
        let _ = match self.returncode() {
            Some(code) => write!(text, " returncode={code}"),
            None => write!(text, " running"),
        };
        text.push('>');
        text
    }

    /// Gives up one reference of a process that may be NULL.
    ///
    /// # Safety
    /// The caller owns the reference. No borrow of the loop's state is held.
    pub(crate) unsafe fn release_ptr(process: *const Process) {
        // SAFETY: the reference keeps it alive.
        let Some(this) = (unsafe { process.as_ref() }) else { return };
        if this.refs.fetch_sub(1, Ordering::AcqRel) != 1 {
            return;
        }
        let event_loop = this.event_loop;
        // SAFETY: nobody refers to it; its loop has given it up, so that nothing of it is the loop's but that it counts.
        unsafe {
            drop(Box::from_raw(process.cast_mut()));
            lifetime::release_memory(event_loop);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.finish();
        for pipe in &self.pipes {
            // SAFETY: the process's reference.
            unsafe { Transport::release_ptr(pipe.replace(ptr::null())) };
        }
    }
}

/// The first that the protocol is told.
unsafe extern "C-unwind" fn begin(arg: *mut c_void) {
    // SAFETY: the entry has a reference.
    if let Some((this, lp)) = unsafe { enter(arg) } {
        this.begin(&lp);
    }
}

/// The child watcher says that the child has ended; one of the host's may say so on any thread.
unsafe extern "C-unwind" fn ended(_: c_int, returncode: c_int, arg: *mut c_void) {
    // SAFETY: the watcher has a reference; a process keeps its loop's memory.
    let (this, event_loop) = unsafe {
        let this = &*arg.cast_const().cast::<Process>();
        (this, &*this.event_loop)
    };
    if this.told.compare_exchange(RUNNING, i64::from(returncode), Ordering::AcqRel, Ordering::Relaxed).is_err() {
        return;
    }
    // As asyncio: what was ready before comes before.
    if !event_loop.is_owned_here() {
        drop(inbox::send(event_loop, exited, this.counted_arg()));
    } else if let Ok(lp) = event_loop.enter() {
        let _ = this.schedule(&lp, exited);
    }
}

unsafe extern "C-unwind" fn exited(arg: *mut c_void) {
    // SAFETY: the entry has a reference.
    if let Some((this, lp)) = unsafe { enter(arg) } {
        this.exited(&lp);
    }
}

/// All is over: the last that the protocol is told.
unsafe extern "C-unwind" fn deliver_lost(arg: *mut c_void) {
    // SAFETY: the entry has a reference.
    let Some((this, lp)) = (unsafe { enter(arg) }) else { return };
    if let Some(lost) = this.callbacks.connection_lost {
        // SAFETY: the host gave the function with its arg.
        if !this.call(&lp, "connection_lost", &mut |process, arg| unsafe { lost(process, 0, arg) }) {
            return;
        }
    }
    this.set(OVER);
    this.end_collector(&lp);
    this.finish();
    this.forget(&lp);
}

/// The loop is closed: a child that runs is killed.
///
/// # Safety
/// `object` is a process, and a reference that is given up.
unsafe fn abandon(object: *const ()) {
    // SAFETY: by this function's contract.
    unsafe {
        let this = &*object.cast::<Process>();
        if this.returncode().is_none() {
            child::leave(&this.child);
        }
        this.finish();
        Process::release_ptr(this);
    }
}
