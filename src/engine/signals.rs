//! Signals: a handler that only notes the signal and wakes the loop that owns it.
//!
//! One loop owns a signal, process-wide. What the C handler touches is a table of atomics; who owns what stands under a lock that the C handler
//! never takes.

use std::ffi::c_int;
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, Ordering};

use super::callback::Callback;
use super::context::Captured;
use super::event_loop::{EventLoop, Owned};
use super::handle::{Handle, REGISTERED, SIGNAL};
use crate::error::{Error, Result};
use crate::lock::Lock;
use crate::poller;

/// One more than the highest signal.
const COUNT: usize = 65;

struct Noted {
    /// What wakes the owner, or -1.
    waker: AtomicI32,
    arrived: AtomicBool,
}

/// What the C handler touches.
static NOTED: [Noted; COUNT] = [const { Noted { waker: AtomicI32::new(-1), arrived: AtomicBool::new(false) } }; COUNT];
/// Signals that arrived, a bit each (signal 1 is bit 0).
static ARRIVED: AtomicU64 = AtomicU64::new(0);
/// How many C handlers are running now.
static INSIDE: AtomicU32 = AtomicU32::new(0);

struct Owner {
    event_loop: *const EventLoop,
    /// The action that was there before.
    previous: libc::sigaction,
}

// SAFETY: the pointer is only compared.
unsafe impl Send for Owner {}

static OWNERS: Lock<[Option<Owner>; COUNT]> = Lock::new([const { None }; COUNT]);

/// The handlers of a loop.
pub(crate) struct Signals {
    /// Each is marked as registered, which keeps it.
    handlers: Vec<(c_int, *const Handle)>,
    mask: u64,
}

impl Signals {
    pub(crate) const fn new() -> Self {
        Signals { handlers: Vec::new(), mask: 0 }
    }

    /// Whether one of the loop's signals has arrived.
    #[inline]
    pub(crate) fn have_arrived(&self) -> bool {
        self.mask != 0 && ARRIVED.load(Ordering::SeqCst) & self.mask != 0
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (*const Handle, c_int)> + '_ {
        self.handlers.iter().map(|&(number, handle)| (handle, number))
    }

    fn take(&mut self, number: c_int) -> Option<*const Handle> {
        let at = self.handlers.iter().position(|handler| handler.0 == number)?;
        self.mask &= !bit(number);
        Some(self.handlers.swap_remove(at).1)
    }
}

fn bit(number: c_int) -> u64 {
    1 << (number - 1)
}

/// Runs in the interrupted thread: nothing but atomics and a write.
extern "C" fn on_signal(number: c_int) {
    // SAFETY: errno belongs to this thread, and is put back.
    let saved = unsafe { *errno() };
    INSIDE.fetch_add(1, Ordering::SeqCst);
    if let Some(noted) = NOTED.get(number as usize) {
        ARRIVED.fetch_or(bit(number), Ordering::SeqCst);
        if !noted.arrived.swap(true, Ordering::SeqCst) {
            let waker = noted.waker.load(Ordering::SeqCst);
            if waker >= 0 {
                poller::wake(waker);
            }
        }
    }
    INSIDE.fetch_sub(1, Ordering::SeqCst);
    // SAFETY: as above.
    unsafe { *errno() = saved };
}

unsafe fn errno() -> *mut c_int {
    #[cfg(any(target_os = "linux", target_os = "emscripten"))]
    // SAFETY: a plain library call.
    unsafe {
        libc::__errno_location()
    }
    #[cfg(not(any(target_os = "linux", target_os = "emscripten")))]
    // SAFETY: a plain library call.
    unsafe {
        libc::__error()
    }
}

/// Changes what wakes a signal's owner, and waits until no C handler can be using the one before.
fn set_waker(number: c_int, waker: c_int) {
    NOTED[number as usize].waker.store(waker, Ordering::SeqCst);
    // A handler interrupts its thread, so that none can be waiting for this one.
    while INSIDE.load(Ordering::SeqCst) != 0 {
        std::thread::yield_now();
    }
}

fn check(number: c_int) -> Result<()> {
    if number < 1 || number as usize >= COUNT {
        return Err(Error::INVALID.detail(|| format!("there is no signal {number}")));
    }
    // A fault is met again when its handler returns, before any loop could run.
    const UNCAUGHT: [c_int; 6] =
        [libc::SIGKILL, libc::SIGSTOP, libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE, libc::SIGILL];
    if UNCAUGHT.contains(&number) {
        return Err(Error::SIGNAL.detail(|| format!("signal {number} cannot be caught")));
    }
    Ok(())
}

/// Installs the C handler and returns the action before.
fn install(number: c_int) -> Result<libc::sigaction> {
    let mut previous = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: zero is a valid sigaction; the pointers are to ours. A failing call means that the signal cannot be handled.
    unsafe {
        let mut action: libc::sigaction = MaybeUninit::zeroed().assume_init();
        action.sa_sigaction = on_signal as extern "C" fn(c_int) as usize;
        action.sa_flags = libc::SA_RESTART | libc::SA_ONSTACK;
        libc::sigfillset(&raw mut action.sa_mask);
        if libc::sigaction(number, &raw const action, previous.as_mut_ptr()) < 0 {
            return Err(Error::last_os().detail(|| format!("signal {number} cannot be handled")));
        }
        Ok(previous.assume_init())
    }
}

/// Puts the action before back, unless somebody has installed another since.
fn restore(number: c_int, previous: &libc::sigaction) {
    // SAFETY: zero is a valid sigaction; the pointers are to live ones.
    unsafe {
        let mut now: libc::sigaction = MaybeUninit::zeroed().assume_init();
        if libc::sigaction(number, ptr::null(), &raw mut now) == 0
            && now.sa_sigaction == on_signal as extern "C" fn(c_int) as usize
        {
            libc::sigaction(number, previous, ptr::null_mut());
        }
    }
}

/// Lets a signal go.
fn disown(number: c_int) {
    let mut owners = OWNERS.lock();
    if let Some(owner) = owners[number as usize].take() {
        restore(number, &owner.previous);
    }
    set_waker(number, -1);
    ARRIVED.fetch_and(!bit(number), Ordering::SeqCst);
    NOTED[number as usize].arrived.store(false, Ordering::SeqCst);
}

/// Lets all signals of a loop that is being closed go; their handlers stay for the loop to release.
pub(crate) fn release_all(lp: &Owned) {
    let numbers: Vec<c_int> = lp.with(|state| state.signals.iter().map(|(_, number)| number).collect());
    for number in numbers {
        disown(number);
    }
}

/// In a child process: its signals must not wake the parent's loops.
pub(crate) fn detach_all() {
    for noted in &NOTED {
        noted.waker.store(-1, Ordering::SeqCst);
        noted.arrived.store(false, Ordering::SeqCst);
    }
    // What arrived before is the parent's.
    ARRIVED.store(0, Ordering::SeqCst);
    // Handlers that were running in threads of the parent are not running here.
    INSIDE.store(0, Ordering::SeqCst);
}

/// Holds the lock across fork.
pub(crate) fn lock_for_fork() {
    std::mem::forget(OWNERS.lock());
}

/// # Safety
/// Ends a `lock_for_fork` of this thread.
pub(crate) unsafe fn unlock_after_fork() {
    // SAFETY: by this function's contract.
    unsafe { OWNERS.force_unlock() };
}

impl Owned<'_> {
    /// `loop.add_signal_handler`.
    pub(crate) fn add_signal_handler(
        &self,
        number: c_int,
        callback: Callback,
        context: Captured,
        want_handle: bool,
    ) -> Result<*const Handle> {
        check(number)?;
        self.ensure_waker()?;
        let handle = self.new_cell(callback, context, SIGNAL | REGISTERED, want_handle, i64::from(number))?;
        if let Err(error) = self.own_signal(number) {
            self.discard(handle);
            return Err(error);
        }
        let old = self.with(|state| {
            let old = state.signals.take(number);
            state.signals.handlers.push((number, handle));
            state.signals.mask |= bit(number);
            old
        });
        if let Some(old) = old {
            self.retire(old);
        }
        Ok(if want_handle { handle } else { ptr::null() })
    }

    fn own_signal(&self, number: c_int) -> Result<()> {
        let mut owners = OWNERS.lock();
        match &owners[number as usize] {
            Some(owner) if ptr::eq(owner.event_loop, self.pointer()) => return Ok(()),
            Some(_) => return Err(Error::BUSY.detail(|| format!("another loop handles signal {number}"))),
            None => {}
        }
        let waker = self.with(|state| state.poller.as_mut().ok_or(Error::CLOSED)?.waker())?;
        set_waker(number, waker);
        let previous = install(number)?;
        owners[number as usize] = Some(Owner { event_loop: self.pointer(), previous });
        Ok(())
    }

    /// `loop.remove_signal_handler`: whether there was one.
    pub(crate) fn remove_signal_handler(&self, number: c_int) -> Result<bool> {
        if number < 1 || number as usize >= COUNT {
            return Err(Error::INVALID.detail(|| format!("there is no signal {number}")));
        }
        let Some(handle) = self.with(|state| state.signals.take(number)) else { return Ok(false) };
        disown(number);
        self.retire(handle);
        Ok(true)
    }

    /// A handler is being cancelled: lets the signal go, if it is still the one.
    pub(crate) fn forget_signal_handler(&self, number: c_int, handle: &Handle) {
        let found = self.with(|state| state.signals.iter().any(|(known, _)| ptr::eq(known, handle)));
        if found {
            self.with(|state| state.signals.take(number));
            disown(number);
        }
        handle.clear(REGISTERED);
    }

    /// Makes the handlers of signals that have arrived ready.
    pub(crate) fn take_signals(&self) -> Result<()> {
        if !self.with(|state| state.signals.have_arrived()) {
            return Ok(());
        }
        for number in 1..COUNT as c_int {
            let found = self.with(|state| state.signals.iter().find(|&(_, known)| known == number));
            let Some((handle, _)) = found else { continue };
            if ARRIVED.fetch_and(!bit(number), Ordering::SeqCst) & bit(number) == 0 {
                continue;
            }
            NOTED[number as usize].arrived.store(false, Ordering::SeqCst);
            // SAFETY: it is kept by being registered.
            self.enqueue(unsafe { &*handle })?;
        }
        Ok(())
    }

    /// The poller's wake-up is another one now.
    pub(crate) fn move_signal_waker(&self, waker: c_int) {
        let numbers: Vec<c_int> = self.with(|state| state.signals.iter().map(|(_, number)| number).collect());
        for number in numbers {
            set_waker(number, waker);
        }
    }
}
