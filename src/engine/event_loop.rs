//! The loop object: who may use it, and what it is made of.
//!
//! A loop belongs to the thread whose number stands in `owner`: the thread that runs it, or one that is inside of one of its functions.
//! [`EventLoop::enter`] proves that this thread is the one; the [`Owned`] it gives is the only way to the [`State`].

use std::cell::UnsafeCell;
use std::collections::HashMap;
use std::ffi::{CString, c_char, c_int, c_void};
use std::hash::BuildHasherDefault;
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicI64, AtomicIsize, AtomicPtr, AtomicUsize, Ordering};

use super::arena::Arena;
use super::callback::{CallFn, FreeArg, guarded};
use super::clock::Clock;
use super::context::AddressHasher;
use super::exception::Handler;
use super::handle::{Extra, Handle};
use super::inbox::{self, Inbox};
use super::metrics::Counters;
use super::operations::Operations;
use super::ready::Ready;
use super::signals::Signals;
use super::thread::{self, Thread};
use super::timers::Timers;
use super::watch::Watch;
use super::{debug, lifetime};
use crate::error::{Error, Result};
use crate::lock::Lock;
use crate::poller::Poller;

/// `owner` of a loop that nobody uses at the moment.
pub(crate) const NOBODY: usize = 0;
/// `owner` of a closed loop. No thread has these numbers: they are addresses.
pub(crate) const CLOSED: usize = 2;
/// `owner` of a loop in a child process that was not told of the fork.
pub(crate) const FORKED: usize = 4;
/// `owner` of a loop in which evl failed.
pub(crate) const POISONED: usize = 6;

/// Set in `owner` beside a thread's number (an even one): it is giving a handle back, calls no code of the host meanwhile, and will
/// soon be done. Others wait for it.
pub(crate) const BRIEF: usize = 1;

/// What a loop is made with.
pub struct Options {
    /// Start in debug mode.
    pub debug: bool,
    /// The clock moves only when told.
    pub manual_clock: bool,
    /// The poller's descriptor tells of deadlines, too.
    pub fd_deadlines: bool,
    /// Where a manual clock starts.
    pub start_time: i64,
    /// What counts as slow in debug mode; 0: the default.
    pub slow_callback: i64,
    /// How a host carries its context along.
    pub hooks: Option<Hooks>,
}

/// Functions of a host that carry its notion of context along with every callback.
#[derive(Clone, Copy)]
pub struct Hooks {
    /// Called when something is scheduled.
    pub capture: unsafe extern "C-unwind" fn(*mut c_void) -> *mut c_void,
    /// Called before a callback.
    pub enter: Option<unsafe extern "C-unwind" fn(*mut c_void, *mut c_void)>,
    /// Called after a callback.
    pub leave: Option<unsafe extern "C-unwind" fn(*mut c_void, *mut c_void)>,
    /// Called when what was captured is not needed any more.
    pub release: Option<unsafe extern "C-unwind" fn(*mut c_void, *mut c_void)>,
    /// The first argument of each.
    pub data: *mut c_void,
}

/// A function of the host that takes evl's reports.
pub type LogFn = unsafe extern "C-unwind" fn(level: c_int, message: *const c_char, arg: *mut c_void);

/// An event loop: `asyncio.AbstractEventLoop`.
pub struct EventLoop {
    pub(super) owner: AtomicUsize,
    pub(super) state: UnsafeCell<State>,
    pub(super) inbox: Inbox,
    /// What only few handles have, by their address.
    pub(super) extras: Lock<HashMap<usize, Extra, BuildHasherDefault<AddressHasher>>>,
    /// Handles that other threads make.
    pub(super) shared_cells: Lock<Arena>,
    /// References of hosts: the last one closes the loop.
    pub(super) life: AtomicUsize,
    /// The last reference went once.
    pub(super) ended: AtomicBool,
    /// What keeps the memory once life has ended: handles. See `lifetime`.
    pub(super) memory: AtomicIsize,
    pub(super) running: AtomicBool,
    pub(super) closed: AtomicBool,
    debug: AtomicBool,
    exit_code: AtomicI32,
    slow_callback: AtomicI64,
    pub(super) clock: Clock,
    pub(super) hooks: Option<Hooks>,
    pub(super) fd_deadlines: bool,
    data: AtomicPtr<c_void>,
    /// Who owned the loop when the process was forked.
    pub(super) forked_owner: AtomicUsize,
    /// Its number in the list of all loops.
    pub(super) registered: AtomicUsize,
}

// SAFETY: everything but `state` is atomic or locked; `state` is reached only through `Owned`, by one thread at a time; hooks are
// documented to be called from any thread that schedules.
unsafe impl Sync for EventLoop {}
// SAFETY: as above.
unsafe impl Send for EventLoop {}

/// What transports read into, whole pages of it.
#[repr(align(4096))]
pub(crate) struct ReadBuffer(pub(crate) [MaybeUninit<u8>; 64 * 1024]);

impl ReadBuffer {
    fn new() -> Box<ReadBuffer> {
        // SAFETY: bytes that need not be initialised.
        unsafe { Box::<ReadBuffer>::new_uninit().assume_init() }
    }
}

/// What only the owner touches.
pub(crate) struct State {
    /// The owner's thread.
    pub(super) thread: *const Thread,
    /// Debug mode or hooks: scheduling does more than pushing four words.
    pub(super) elaborate: bool,
    pub(super) ready: Ready,
    pub(super) timers: Timers,
    pub(super) cells: Arena,
    /// What keeps the loop's memory, made and not freed by the owner: cells taken from `cells`, futures.
    pub(super) live_cells: isize,
    pub(super) watch: Watch,
    pub(super) signals: Signals,
    pub(crate) operations: Operations,
    /// None once closed.
    pub(super) poller: Option<Poller>,
    pub(super) stopping: bool,
    /// The last reference went while this thread was inside of the loop.
    pub(super) orphaned: bool,
    /// How many run functions of this loop are on the stack: 0 or 1.
    pub(super) runs: u32,
    /// How many handles are being run by `evl_handle_run`.
    pub(super) calls: u32,
    pub(super) now: i64,
    pub(super) now_is_known: bool,
    /// A host waits on the poller's descriptor.
    pub(super) embedded: bool,
    pub(super) counters: Counters,
    /// Iterations since the last poll, and when that was.
    pub(super) unpolled: u32,
    pub(super) polled_at: i64,
    /// When a slow callback was told of last.
    pub(super) slow_told_at: i64,
    pub(super) before_wait: Option<CallFn>,
    pub(super) after_wait: Option<CallFn>,
    // These are shared with the call that is under way: it may replace them, and its arg is released after it.
    pub(super) wait_arg: Option<Arc<FreeArg>>,
    pub(super) exception: Option<Arc<Handler>>,
    pub(super) log: Option<LogFn>,
    pub(super) log_arg: Option<Arc<FreeArg>>,
    pub(super) shutdown_hooks: Vec<*const Handle>,
    pub(super) data: FreeArg,
    /// What transports read into; made when first needed, and not there while it is in use.
    pub(super) read_buffer: Option<Box<ReadBuffer>>,
    /// What datagram endpoints receive into; likewise.
    pub(super) datagram_buffers: Option<Box<dyn std::any::Any>>,
}

impl State {
    /// Frees a cell of the loop's own arena, which nobody has any more.
    #[inline]
    pub(super) fn free_own(&mut self, cell: *const Handle) {
        self.cells.put(cell);
        self.live_cells -= 1;
    }

    /// Whether a callback of this loop may be on the stack.
    pub(super) fn is_on_the_stack(&self) -> bool {
        self.runs + self.calls > 0
    }
}

/// The right to use a loop: this thread owns it. Given back on drop when the call took it.
pub(crate) struct Owned<'a> {
    event_loop: &'a EventLoop,
    claimed: bool,
}

impl EventLoop {
    /// Makes a loop with one reference.
    pub fn create(options: &Options) -> Result<*const EventLoop> {
        super::fork::notice_forks();
        let poller = Poller::new()?;
        let debug = options.debug || debug::asked_for_by_environment();
        let state = State {
            thread: ptr::null(),
            elaborate: debug || options.hooks.is_some(),
            ready: Ready::new(),
            timers: Timers::new(),
            cells: Arena::new(ptr::null(), false),
            live_cells: 0,
            watch: Watch::new(),
            signals: Signals::new(),
            operations: Operations::new(),
            stopping: false,
            orphaned: false,
            runs: 0,
            calls: 0,
            now: 0,
            now_is_known: false,
            embedded: false,
            counters: Counters::default(),
            unpolled: 0,
            polled_at: 0,
            slow_told_at: i64::MIN,
            before_wait: None,
            after_wait: None,
            wait_arg: None,
            exception: None,
            log: None,
            log_arg: None,
            shutdown_hooks: Vec::new(),
            data: FreeArg::none(),
            read_buffer: None,
            datagram_buffers: None,
            poller: None,
        };
        let made = Box::into_raw(Box::new(EventLoop {
            owner: AtomicUsize::new(NOBODY),
            inbox: Inbox::new(),
            state: UnsafeCell::new(State { poller: Some(poller), ..state }),
            extras: Lock::new(HashMap::default()),
            shared_cells: Lock::new(Arena::new(ptr::null(), true)),
            life: AtomicUsize::new(1),
            ended: AtomicBool::new(false),
            memory: AtomicIsize::new(lifetime::BIAS),
            running: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            debug: AtomicBool::new(debug),
            exit_code: AtomicI32::new(0),
            slow_callback: AtomicI64::new(match options.slow_callback {
                0 => 100_000_000,
                given => given,
            }),
            clock: Clock::new(options.manual_clock.then_some(options.start_time)),
            hooks: options.hooks,
            fd_deadlines: options.fd_deadlines,
            data: AtomicPtr::new(ptr::null_mut()),
            forked_owner: AtomicUsize::new(NOBODY),
            registered: AtomicUsize::new(0),
        }));
        // SAFETY: nobody else knows the loop yet; cells find it by this address, where it stays.
        unsafe {
            (*(*made).state.get()).cells = Arena::new(made, false);
            *(*made).shared_cells.lock() = Arena::new(made, true);
        }
        let number = super::fork::register(made);
        // SAFETY: as above.
        unsafe { (*made).registered.store(number, Ordering::Relaxed) };
        Ok(made)
    }

    /// Proves that this thread may use the loop.
    #[inline]
    pub(crate) fn enter(&self) -> Result<Owned<'_>> {
        if self.is_owned_here() { Ok(Owned { event_loop: self, claimed: false }) } else { self.claim() }
    }

    #[inline]
    pub(crate) fn is_owned_here(&self) -> bool {
        self.owner.load(Ordering::Relaxed) == thread::pointer()
    }

    /// Whether another thread runs the loop, or is inside of one of its functions.
    pub(crate) fn is_used_elsewhere(&self) -> bool {
        let owner = self.owner.load(Ordering::Relaxed);
        !matches!(owner, NOBODY | CLOSED | FORKED | POISONED) && owner & BRIEF == 0 && owner != thread::pointer()
    }

    /// Takes a loop that nobody uses for one call.
    #[inline(never)]
    fn claim(&self) -> Result<Owned<'_>> {
        let owned = self.try_claim().map_err(Self::refusal)?;
        // What was posted before this call stands before what it schedules.
        owned.take_posts()?;
        Ok(owned)
    }

    /// Takes a loop that nobody uses, or tells what stands in `owner`.
    pub(crate) fn try_claim(&self) -> std::result::Result<Owned<'_>, usize> {
        self.take_ownership()?;
        let owned = Owned { event_loop: self, claimed: true };
        owned.with(|state| state.thread = thread::current());
        Ok(owned)
    }

    /// Makes this thread the owner of a loop that nobody uses, or tells what stands in `owner`.
    pub(crate) fn take_ownership(&self) -> std::result::Result<(), usize> {
        loop {
            match self.owner.compare_exchange(NOBODY, thread::pointer(), Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => return Ok(()),
                Err(owner) if owner & BRIEF != 0 => std::thread::yield_now(),
                Err(owner) => return Err(owner),
            }
        }
    }

    /// Why a loop with this owner cannot be used.
    #[cold]
    pub(crate) fn refusal(owner: usize) -> Error {
        match owner {
            CLOSED => Error::CLOSED,
            FORKED => Error::FORKED,
            POISONED => Error::PANIC,
            _ => Error::WRONG_THREAD.detail(|| "another thread is running or using this loop".into()),
        }
    }

    /// Refuses a loop that nobody can use any more; any thread may ask.
    pub(crate) fn check_open(&self) -> Result<()> {
        match self.owner.load(Ordering::Relaxed) {
            owner @ (CLOSED | FORKED | POISONED) => Err(Self::refusal(owner)),
            _ => Ok(()),
        }
    }

    /// evl failed inside: the loop can only be closed.
    pub(crate) fn poison(&self) {
        if self.is_owned_here() {
            self.owner.store(POISONED, Ordering::Release);
            // A run function that is on the stack ends when the callback that brought us here returns.
            let thread = thread::current();
            thread.attention.set(thread.attention.get() | thread::BROKEN);
        }
    }

    /// `loop.is_running`.
    pub fn is_running(&self) -> bool {
        self.running.load(Ordering::Relaxed)
    }

    /// `loop.is_closed`.
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    /// `loop.get_debug`.
    #[inline]
    pub fn debug(&self) -> bool {
        self.debug.load(Ordering::Relaxed)
    }

    /// `loop.time`.
    #[inline]
    pub fn time(&self) -> i64 {
        self.clock.read()
    }

    pub(crate) fn clock_resolution(&self) -> i64 {
        self.clock.resolution()
    }

    pub(crate) fn exit_code(&self) -> c_int {
        self.exit_code.load(Ordering::Relaxed)
    }

    pub(crate) fn slow_callback(&self) -> i64 {
        self.slow_callback.load(Ordering::Relaxed)
    }

    pub(crate) fn set_slow_callback(&self, duration: i64) -> Result<()> {
        if duration < 0 {
            return Err(Error::INVALID);
        }
        self.slow_callback.store(duration, Ordering::Relaxed);
        Ok(())
    }

    pub(crate) fn data(&self) -> *mut c_void {
        self.data.load(Ordering::Acquire)
    }

    /// `loop.call_soon_threadsafe(loop.stop)`.
    pub(crate) fn stop_threadsafe(&self) -> Result<()> {
        unsafe extern "C-unwind" fn stop(arg: *mut c_void) {
            // SAFETY: arg is the loop that runs this, on its thread, with no borrow of its state.
            unsafe { (*(*arg.cast::<EventLoop>()).state.get()).stopping = true };
        }
        inbox::post_internal(self, stop)
    }
}

impl<'a> Owned<'a> {
    /// The right of a thread that has made itself the owner.
    pub(crate) fn running(event_loop: &'a EventLoop) -> Owned<'a> {
        Owned { event_loop, claimed: false }
    }

    /// Reaches the state. `f` calls no code of the host, and nothing that comes here again.
    #[inline]
    pub(crate) fn with<R>(&self, f: impl FnOnce(&mut State) -> R) -> R {
        // SAFETY: this thread owns the loop, and no second borrow is made while `f` runs, by the rule above.
        f(unsafe { &mut *self.event_loop.state.get() })
    }

    #[inline]
    pub(crate) fn event_loop(&self) -> &'a EventLoop {
        self.event_loop
    }

    pub(crate) fn pointer(&self) -> *const EventLoop {
        self.event_loop
    }

    /// `loop.stop`.
    pub(crate) fn stop(&self) {
        self.with(|state| state.stopping = true);
    }

    pub(crate) fn time(&self) -> i64 {
        self.event_loop.clock.read()
    }

    /// The time of the present iteration.
    pub(crate) fn now(&self) -> i64 {
        let (now, known) = self.with(|state| (state.now, state.now_is_known && state.runs > 0));
        if known {
            return now;
        }
        let now = self.time();
        self.with(|state| {
            state.now = now;
            state.now_is_known = true;
        });
        now
    }

    pub(crate) fn advance(&self, delta: i64) -> Result<()> {
        if delta < 0 {
            return Err(Error::INVALID);
        }
        // The time of the present iteration stays what it was when the iteration began.
        self.now();
        if self.event_loop.clock.advance(delta) { Ok(()) } else { Err(Error::CLOCK) }
    }

    pub(crate) fn set_debug(&self, enabled: bool) {
        self.event_loop.debug.store(enabled, Ordering::Relaxed);
        self.with(|state| state.elaborate = enabled || self.event_loop.hooks.is_some());
    }

    pub(crate) fn set_exit_code(&self, code: c_int) {
        self.event_loop.exit_code.store(code, Ordering::Relaxed);
    }

    pub(crate) fn set_exception_handler(&self, handler: Option<Handler>) {
        // What was there is dropped outside of the borrow: its arg is released by the host.
        drop(self.with(|state| std::mem::replace(&mut state.exception, handler.map(Arc::new))));
    }

    pub(crate) fn exception_handler(&self) -> Option<Arc<Handler>> {
        self.with(|state| state.exception.clone())
    }

    pub(crate) fn set_wait_hooks(&self, before: Option<CallFn>, after: Option<CallFn>, arg: FreeArg) {
        drop(self.with(|state| {
            (state.before_wait, state.after_wait) = (before, after);
            state.wait_arg.replace(Arc::new(arg))
        }));
    }

    pub(crate) fn set_log(&self, log: Option<LogFn>, arg: FreeArg) {
        drop(self.with(|state| {
            state.log = log;
            state.log_arg.replace(Arc::new(arg))
        }));
    }

    pub(crate) fn set_data(&self, data: FreeArg) {
        self.event_loop.data.store(data.pointer(), Ordering::Release);
        drop(self.with(|state| std::mem::replace(&mut state.data, data)));
    }

    /// Tells the host, or stderr.
    pub(crate) fn log(&self, level: c_int, text: &str) {
        let (log, arg) = self.with(|state| (state.log, state.log_arg.clone()));
        let Some(log) = log else {
            eprintln!("evl: {text}");
            return;
        };
        let text = CString::new(text.replace('\0', " ")).unwrap_or_default();
        // A raise in there belongs to no callback.
        let thread = thread::current();
        let inside = thread.in_callback.replace(false);
        // SAFETY: the host gave both together; the text is valid during the call.
        guarded(|| unsafe { log(level, text.as_ptr(), pointer_of(arg.as_ref())) });
        thread.in_callback.set(inside);
    }

    /// The buffer that all transports of the loop read into; to be put back.
    pub(crate) fn take_read_buffer(&self) -> Box<ReadBuffer> {
        self.with(|state| state.read_buffer.take()).unwrap_or_else(ReadBuffer::new)
    }

    pub(crate) fn put_read_buffer(&self, buffer: Box<ReadBuffer>) {
        self.with(|state| state.read_buffer = Some(buffer));
    }

    /// What all datagram endpoints of the loop receive into, once one has put it there.
    pub(crate) fn take_datagram_buffers(&self) -> Option<Box<dyn std::any::Any>> {
        self.with(|state| state.datagram_buffers.take())
    }

    pub(crate) fn put_datagram_buffers(&self, buffers: Box<dyn std::any::Any>) {
        self.with(|state| state.datagram_buffers = Some(buffers));
    }

    /// Whether callbacks of this loop are being called now.
    pub(crate) fn is_calling(&self) -> bool {
        self.with(|state| state.is_on_the_stack())
    }

    /// The descriptor a host may wait on.
    pub(crate) fn fd(&self) -> Result<c_int> {
        self.ensure_waker()?;
        self.with(|state| {
            state.embedded = true;
            state.poller.as_ref().and_then(Poller::fd).ok_or(Error::from_code(-libc::ENOSYS))
        })
    }
}

/// What a function of the host is called with; NULL when there is nothing.
pub(crate) fn pointer_of(arg: Option<&Arc<FreeArg>>) -> *mut c_void {
    arg.map_or(ptr::null_mut(), |arg| arg.pointer())
}

impl Drop for Owned<'_> {
    #[inline]
    fn drop(&mut self) {
        if self.claimed {
            self.give_back();
        }
    }
}

impl Owned<'_> {
    /// Ends a call that took the loop.
    #[inline(never)]
    fn give_back(&self) {
        // A fork or a failure inside of the call has put something else into `owner`.
        if self.event_loop.is_owned_here() {
            let orphaned = self.with(|state| std::mem::take(&mut state.orphaned));
            let this: *const EventLoop = self.event_loop;
            self.event_loop.owner.store(NOBODY, Ordering::Release);
            if orphaned {
                // SAFETY: the last reference went during this call, on this thread, so that nobody else can use the loop.
                unsafe { lifetime::end(this) };
            }
        }
    }
}

/// A counted reference to a loop.
pub struct LoopRef(*const EventLoop);

// SAFETY: a loop may be referred to from any thread.
unsafe impl Send for LoopRef {}

impl LoopRef {
    /// Takes over a reference.
    ///
    /// # Safety
    /// The caller owns one reference and gives it up.
    pub unsafe fn from_raw(event_loop: *mut EventLoop) -> LoopRef {
        LoopRef(event_loop)
    }

    /// Makes another reference.
    pub fn new(event_loop: &EventLoop) -> LoopRef {
        event_loop.retain();
        LoopRef(event_loop)
    }

    /// The loop, as long as this reference is there.
    pub fn as_ptr(&self) -> *const EventLoop {
        self.0
    }

    /// Hands the reference out.
    pub fn into_raw(self) -> *mut EventLoop {
        let pointer = self.0.cast_mut();
        std::mem::forget(self);
        pointer
    }
}

impl Clone for LoopRef {
    fn clone(&self) -> Self {
        // SAFETY: the reference keeps it alive.
        LoopRef::new(unsafe { &*self.0 })
    }
}

impl Drop for LoopRef {
    fn drop(&mut self) {
        // SAFETY: this owns the reference.
        unsafe { EventLoop::release_ptr(self.0) };
    }
}
