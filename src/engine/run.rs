//! Running: the functions that repeat iterations (`iteration`), and what a thread is while they do.

use std::ffi::c_int;
use std::ptr;
use std::sync::atomic::Ordering;

use super::context::Word;
use super::event_loop::{EventLoop, LoopRef, NOBODY, Owned, POISONED};
use super::handle::{HOOK, REGISTERED};
use super::iteration::{FOREVER, UNPOLLED_ITERATIONS};
use super::thread::{self, Thread};
use crate::error::{Error, Result};

impl EventLoop {
    /// `loop.run_forever`.
    pub(crate) fn run_forever(&self) -> Result<()> {
        self.run(|lp| {
            loop {
                lp.iterate(FOREVER)?;
                if lp.with(|state| state.stopping) {
                    return Ok(());
                }
            }
        })
    }

    /// One iteration that waits at most `timeout`. Returns how many callbacks ran.
    pub(crate) fn run_once(&self, timeout: i64) -> Result<c_int> {
        if timeout < 0 {
            return Err(Error::INVALID);
        }
        self.run(|lp| lp.iterate(timeout)).map(count)
    }

    /// Iterations until nothing is ready. Returns how many callbacks ran.
    pub(crate) fn run_until_idle(&self) -> Result<c_int> {
        self.run(|lp| lp.iterate_until_idle()).map(count)
    }

    /// The shutdown hooks, last registered first, and what they schedule at once. Returns how many callbacks ran.
    pub(crate) fn run_shutdown(&self) -> Result<c_int> {
        self.run(|lp| {
            loop {
                lp.with(|state| state.ready.reserve(1))?;
                let Some(hook) = lp.with(|state| state.shutdown_hooks.pop()) else { break };
                // SAFETY: it was kept by being registered, and is by being in the queue.
                let hook = unsafe { &*hook };
                lp.enqueue(hook)?;
                hook.clear(HOOK | REGISTERED);
            }
            lp.iterate_until_idle()
        })
        .map(count)
    }

    /// Makes this thread the owner, and the loop its running one, while `body` runs.
    fn run<R>(&self, body: impl FnOnce(&Owned) -> Result<R>) -> Result<R> {
        let me = thread::pointer();
        let thread = thread::current();
        let frame = stack_pointer();
        self.notice_longjmp(thread, frame)?;
        if !thread.running.get().is_null() || self.is_running() {
            return Err(Error::RUNNING);
        }
        if let Err(owner) = self.take_ownership() {
            return Err(if owner == me { Error::RUNNING } else { Self::refusal(owner) });
        }
        let slot = thread.slot.get();
        let scope = Scope { _life: LoopRef::new(self), lp: Owned::running(self), thread, slot, me };
        scope.begin(frame);
        let result = body(&scope.lp);
        if result.as_ref().err() != Some(&Error::EXIT) {
            // An exit out of `evl_handle_run` was that caller's.
            scope.lp.set_exit_code(0);
        }
        drop(scope);
        result
    }

    /// A run function that is marked as running, but whose frame is gone, was left by longjmp: its loop is in no state to be used.
    /// It is gone when this one's frame is no deeper.
    fn notice_longjmp(&self, thread: &Thread, frame: usize) -> Result<()> {
        let before = thread.run_frame.get();
        if !thread.runs.get() || frame < before || !is_on_this_stack(frame) || !is_on_this_stack(before) {
            return Ok(());
        }
        let left = thread.running.replace(ptr::null());
        thread.runs.set(false);
        thread.in_callback.set(false);
        thread.slot.set(ptr::null_mut());
        // SAFETY: the run function that was left held a reference, which nobody has given back.
        let left = unsafe { &*left };
        left.running.store(false, Ordering::Relaxed);
        left.owner.store(POISONED, Ordering::Release);
        eprintln!("evl: a callback was left by longjmp; its loop can only be closed");
        if ptr::eq(left, self) { Err(Error::PANIC) } else { Ok(()) }
    }
}

/// An address in the present frame.
#[inline(never)]
fn stack_pointer() -> usize {
    let marker = 0u8;
    ptr::from_ref(std::hint::black_box(&marker)) as usize
}

/// Whether an address lies in the stack that the system gave this thread, rather than in a coroutine's.
fn is_on_this_stack(address: usize) -> bool {
    #[cfg(target_os = "linux")]
    // SAFETY: the attributes are written by the first call, and destroyed after use.
    unsafe {
        let mut attributes = std::mem::MaybeUninit::<libc::pthread_attr_t>::zeroed();
        if libc::pthread_getattr_np(libc::pthread_self(), attributes.as_mut_ptr()) != 0 {
            return false;
        }
        let (mut start, mut size) = (ptr::null_mut(), 0);
        let known = libc::pthread_attr_getstack(attributes.as_ptr(), &raw mut start, &raw mut size) == 0;
        libc::pthread_attr_destroy(attributes.as_mut_ptr());
        known && (start as usize..start as usize + size).contains(&address)
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = address;
        false
    }
}

fn count(ran: usize) -> c_int {
    c_int::try_from(ran).unwrap_or(c_int::MAX)
}

/// The time between the beginning and the end of a run.
struct Scope<'a> {
    lp: Owned<'a>,
    thread: &'a Thread,
    /// The thread's context slot, which a panic leaves pointing at a frame that is gone.
    slot: *mut Word,
    me: usize,
    /// Dropped last: the run keeps the loop alive.
    _life: LoopRef,
}

impl Scope<'_> {
    fn begin(&self, frame: usize) {
        let event_loop = self.lp.event_loop();
        self.thread.running.set(event_loop);
        self.thread.runs.set(true);
        self.thread.run_frame.set(frame);
        self.thread.attention.set(0);
        event_loop.running.store(true, Ordering::Relaxed);
        event_loop.inbox.wake_up();
        self.lp.set_exit_code(0);
        self.lp.with(|state| {
            state.thread = self.thread;
            state.runs = 1;
            // The first iteration polls.
            state.unpolled = UNPOLLED_ITERATIONS;
            state.now_is_known = false;
        });
    }
}

impl Drop for Scope<'_> {
    fn drop(&mut self) {
        let event_loop = self.lp.event_loop();
        self.lp.with(|state| {
            state.runs = 0;
            state.stopping = false;
            state.now_is_known = false;
        });
        self.thread.in_callback.set(false);
        self.thread.slot.set(self.slot);
        let owner = event_loop.owner.load(Ordering::Relaxed);
        if owner != self.me && owner != POISONED {
            // Forked: there is nothing to give back. `in_child` has told the thread.
            return;
        }
        self.thread.running.set(ptr::null());
        self.thread.runs.set(false);
        event_loop.running.store(false, Ordering::Relaxed);
        // From here on a post wakes the descriptor that a host may be waiting on.
        if !event_loop.inbox.fall_asleep() {
            event_loop.inbox.wake();
        }
        let broken = owner == POISONED || std::thread::panicking();
        event_loop.owner.store(if broken { POISONED } else { NOBODY }, Ordering::Release);
    }
}
