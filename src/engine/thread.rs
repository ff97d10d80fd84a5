//! What a thread has: the loop it runs, its current context, what its callback raised, the detail of its last failure.
//!
//! A running loop keeps a pointer to the state of its thread, so that hot paths need no thread-local look-up.

use std::cell::{Cell, RefCell, UnsafeCell};
use std::mem::ManuallyDrop;
use std::sync::Weak;
use std::sync::atomic::{AtomicU64, Ordering};

use super::blocks::Sender;
use super::context::Word;
use super::event_loop::{EventLoop, LoopRef};
use super::exception::Raised;
use crate::policy::Policy;

/// The callback called `evl_raise`.
pub(crate) const RAISED: u32 = 1;
/// The callback called `evl_raise_exit`.
pub(crate) const EXIT: u32 = 2;
/// The callback forked, and this is the child.
pub(crate) const FORKED: u32 = 4;

/// evl failed inside of a function that the callback called.
pub(crate) const BROKEN: u32 = 16;
/// The callback set a variable or entered a context: what was current is to be put back.
pub(crate) const CONTEXT: u32 = 8;

const DETAIL_SIZE: usize = 256;

/// The state of one thread. Only its own thread touches it.
pub struct Thread {
    /// The loop that runs here, or NULL.
    pub(crate) running: Cell<*const EventLoop>,
    /// Whether evl itself runs it, rather than `evl_set_running_loop` having said so (which owns a reference).
    pub(crate) runs: Cell<bool>,
    /// The stack pointer of the run function, to notice one that was left by longjmp.
    pub(crate) run_frame: Cell<usize>,
    /// Where the current context is kept; NULL means in `base`.
    pub(crate) slot: Cell<*mut Word>,
    /// The thread's context outside of callbacks.
    base: UnsafeCell<Word>,
    /// Whether a raise has a callback to belong to.
    pub(crate) in_callback: Cell<bool>,
    /// RAISED, EXIT, FORKED: looked at after every callback.
    pub(crate) attention: Cell<u32>,
    /// What was raised, with RAISED.
    pub(crate) raised: UnsafeCell<ManuallyDrop<Option<Box<Raised>>>>,
    /// The exit code, with EXIT.
    pub(crate) exit_code: Cell<i32>,
    /// Nodes for posts to loops.
    pub(crate) sender: UnsafeCell<Sender>,
    detail: UnsafeCell<[u8; DETAIL_SIZE]>,
    detail_length: Cell<usize>,
    detail_is_new: Cell<bool>,
    key: Cell<u64>,
}

// Otherwise the storage would be gone when destructors of the thread, or exit handlers of the process, call evl.
const _: () = assert!(!std::mem::needs_drop::<Thread>());

thread_local! {
    // Has no destructor, so that it can be reached as long as the thread runs any code.
    static THREAD: Thread = const {
        Thread {
            running: Cell::new(std::ptr::null()),
            runs: Cell::new(false),
            run_frame: Cell::new(0),
            slot: Cell::new(std::ptr::null_mut()),
            base: UnsafeCell::new(Word::NONE),
            in_callback: Cell::new(false),
            attention: Cell::new(0),
            raised: UnsafeCell::new(ManuallyDrop::new(None)),
            exit_code: Cell::new(0),
            sender: UnsafeCell::new(Sender::new()),
            detail: UnsafeCell::new([0; DETAIL_SIZE]),
            detail_length: Cell::new(0),
            detail_is_new: Cell::new(false),
            key: Cell::new(0),
        }
    };
    static AT_EXIT: AtExit = const { AtExit { policies: RefCell::new(Vec::new()) } };
}

/// This thread's state. The reference is good as long as the thread lives; it never leaves it.
#[inline]
pub(crate) fn current() -> &'static Thread {
    // SAFETY: the storage lives until the thread ends, has no destructor, and `Thread` is not Sync, so that the reference stays here.
    THREAD.with(|thread| unsafe { &*std::ptr::from_ref(thread) })
}

impl Thread {
    /// The word that holds the current context.
    #[inline]
    pub(crate) fn context_slot(&self) -> *mut Word {
        let slot = self.slot.get();
        if slot.is_null() { self.base.get() } else { slot }
    }

    /// A number that no other thread of this process ever has.
    pub(crate) fn key(&self) -> u64 {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        if self.key.get() == 0 {
            self.key.set(NEXT.fetch_add(1, Ordering::Relaxed));
        }
        self.key.get()
    }
}

/// Runs when a thread ends: lets go of what it held.
struct AtExit {
    policies: RefCell<Vec<Weak<Policy>>>,
}

impl Drop for AtExit {
    fn drop(&mut self) {
        let thread = current();
        for policy in self.policies.take() {
            if let Some(policy) = policy.upgrade() {
                policy.forget_thread(thread.key());
            }
        }
        let running = thread.running.replace(std::ptr::null());
        if !running.is_null() && !thread.runs.get() {
            // SAFETY: `evl_set_running_loop` left a reference here.
            drop(unsafe { LoopRef::from_raw(running.cast_mut()) });
        }
        // SAFETY: only this thread touches its sender, and no post is under way.
        unsafe { (*thread.sender.get()).release() };
        // SAFETY: this thread alone touches its base word, and no context call is under way.
        unsafe { std::mem::replace(&mut *thread.base.get(), Word::NONE).release() };
    }
}

/// Makes sure that what this thread holds is let go when it ends.
pub(crate) fn release_at_exit() {
    // An error means that the thread is ending now; what it takes from here on is the host's leak.
    let _ = AT_EXIT.try_with(|_| ());
}

/// Has `policy` forget this thread's loop when the thread ends.
pub(crate) fn forget_at_exit(policy: Weak<Policy>) {
    let _ = AT_EXIT.try_with(|at_exit| at_exit.policies.borrow_mut().push(policy));
}

/// Keeps a sentence about the failure that is being returned.
pub(crate) fn set_detail(text: &str) {
    let thread = current();
    let mut length = text.len().min(DETAIL_SIZE);
    while !text.is_char_boundary(length) {
        length -= 1;
    }
    // SAFETY: only this thread touches it, and no reference to it is held here.
    unsafe { (&mut *thread.detail.get())[..length].copy_from_slice(&text.as_bytes()[..length]) };
    thread.detail_length.set(length);
    thread.detail_is_new.set(true);
}

/// A call failed: a sentence of an earlier failure must not be taken for this one's.
pub(crate) fn settle_detail() {
    let thread = current();
    if !thread.detail_is_new.replace(false) {
        thread.detail_length.set(0);
    }
}

/// The sentence about this thread's last failure.
pub(crate) fn with_detail<R>(f: impl FnOnce(&str) -> R) -> R {
    let thread = current();
    // SAFETY: only this thread touches it, and `f` sets no detail.
    let bytes = unsafe { &(&*thread.detail.get())[..thread.detail_length.get()] };
    f(std::str::from_utf8(bytes).unwrap_or(""))
}

/// A number that tells threads apart: the thread pointer, which is one register read.
#[inline(always)]
pub(crate) fn pointer() -> usize {
    let pointer: usize;
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    // SAFETY: on this platform fs:0 holds the thread control block's own address; it is only read.
    unsafe {
        std::arch::asm!("mov {}, fs:0", out(reg) pointer, options(nostack, preserves_flags, readonly, pure));
    }
    #[cfg(all(target_arch = "aarch64", target_os = "linux"))]
    // SAFETY: tpidr_el0 is the thread pointer and readable from user space.
    unsafe {
        std::arch::asm!("mrs {}, tpidr_el0", out(reg) pointer, options(nostack, preserves_flags, nomem, pure));
    }
    #[cfg(not(all(any(target_arch = "x86_64", target_arch = "aarch64"), target_os = "linux")))]
    {
        pointer = current() as *const Thread as usize;
    }
    pointer
}

/// Whether this is the thread that the process began with (or, after fork, the child's only one).
pub(crate) fn is_main() -> bool {
    #[cfg(target_os = "linux")]
    // SAFETY: plain system calls.
    unsafe {
        libc::syscall(libc::SYS_gettid) == libc::c_long::from(libc::getpid())
    }
    #[cfg(any(target_os = "macos", target_os = "freebsd", target_os = "openbsd", target_os = "netbsd"))]
    // SAFETY: a plain library call.
    unsafe {
        libc::pthread_main_np() != 0
    }
    #[cfg(not(any(
        target_os = "linux",
        target_os = "macos",
        target_os = "freebsd",
        target_os = "openbsd",
        target_os = "netbsd"
    )))]
    {
        std::thread::current().name() == Some("main")
    }
}
