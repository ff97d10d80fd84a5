//! The threads of a pool: what each does between jobs, and who of them keeps watch.

use std::ffi::{CString, c_int, c_void};
use std::mem::MaybeUninit;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::Thread;
use std::time::Duration;

use parking_lot::lock_api::MutexGuard;

use super::job::JobRef;
use super::pool::{ALL_BUSY, Core, NOBODY, Queue};
use crate::engine::clock;
use crate::engine::patience::{self, Patience};
use crate::error::{Error, Result};
use crate::lock::Spin;

/// Who is on watch observes the others for so many nanoseconds.
const OBSERVED: i64 = 4_000;
/// So many jobs taken meanwhile are quick.
const QUICK: usize = 4;
/// How long who is on watch keeps out of it then.
const HELD_BACK: Duration = Duration::from_micros(50);

/// A thread that sleeps, or will.
pub(super) struct Sleeper {
    thread: Thread,
    is_woken: AtomicBool,
}

impl Sleeper {
    pub(super) fn address(self: &Arc<Self>) -> usize {
        Arc::as_ptr(self) as usize
    }

    pub(super) fn wake(&self) {
        self.is_woken.store(true, Ordering::Release);
        self.thread.unpark();
    }

    fn sleep(&self) {
        while !self.is_woken.swap(false, Ordering::Acquire) {
            std::thread::park();
        }
    }
}

impl Core {
    /// This thread is one of the pool's from here on.
    fn enlist(&self) {
        // SAFETY: a plain library call.
        let here = unsafe { libc::pthread_self() };
        let mut queue = self.queue.0.lock();
        if queue.is_abandoned {
            // SAFETY: nobody knows of it but itself.
            unsafe { libc::pthread_detach(here) };
        } else {
            queue.threads.push(here);
        }
    }

    /// The next job for a thread, which waits for it; None: there will be none.
    fn next(self: &Arc<Self>, me: &Arc<Sleeper>, patience: &mut Patience) -> Option<JobRef> {
        let mut queue = self.queue.0.lock();
        loop {
            let on_watch = self.watch.0.load(Ordering::Relaxed) == me.address();
            if on_watch && self.others_are_quick(&mut queue) {
                queue.is_held_back = true;
                drop(queue);
                self.keep_out();
                queue = self.queue.0.lock();
                // Somebody who had nothing to do may have taken the watch over.
                if self.watch.0.load(Ordering::Relaxed) == me.address() {
                    queue.is_held_back = false;
                }
                continue;
            } else if let Some(job) = self.take(&mut queue) {
                if on_watch {
                    self.watch.0.store(NOBODY, Ordering::SeqCst);
                    let next = self.find_next(&mut queue);
                    drop(queue);
                    // Where no thread can be started, those that are there have to do.
                    let _ = self.bring(next);
                }
                return Some(job);
            }
            if queue.is_shut {
                if on_watch {
                    self.watch.0.store(NOBODY, Ordering::SeqCst);
                }
                return None;
            }
            if queue.waiting.is_empty()
                && (matches!(self.watch.0.load(Ordering::Relaxed), NOBODY | ALL_BUSY) || queue.is_held_back)
            {
                self.watch.0.store(me.address(), Ordering::SeqCst);
                queue.is_held_back = false;
            }
            if self.watch.0.load(Ordering::Relaxed) == me.address() {
                drop(queue);
                patience.look(self.options.spin, || self.has_incoming());
                queue = self.queue.0.lock();
                // Whoever sends a job from here on brings somebody; what came before is seen.
                self.watch.0.store(NOBODY, Ordering::SeqCst);
                if self.has_incoming() || !queue.waiting.is_empty() {
                    self.watch.0.store(me.address(), Ordering::SeqCst);
                    continue;
                }
            }
            queue.sleeping.push(me.clone());
            drop(queue);
            me.sleep();
            queue = self.queue.0.lock();
        }
    }

    /// Waits until the others are quick no more.
    fn keep_out(&self) {
        let (mut taken, mut since) = (self.taken.load(Ordering::Relaxed), clock::monotonic());
        loop {
            std::thread::park_timeout(HELD_BACK);
            let (now_taken, now) = (self.taken.load(Ordering::Relaxed), clock::monotonic());
            let quick = (now - since) / OBSERVED * QUICK as i64;
            if (now_taken.wrapping_sub(taken) as i64) < quick {
                return;
            }
            (taken, since) = (now_taken, now);
        }
    }

    /// Whether those who run jobs take so many that one more thread would only be in their way. Asked by who is on watch.
    fn others_are_quick(&self, queue: &mut MutexGuard<'_, Spin, Queue>) -> bool {
        let waits = !queue.waiting.is_empty() || self.has_incoming();
        if !waits || queue.count < 2 + queue.sleeping.len() || patience::processors() < 2 || queue.is_shut {
            return false;
        }
        let before = self.taken.load(Ordering::Relaxed);
        MutexGuard::unlocked(queue, || patience::pass(OBSERVED));
        self.taken.load(Ordering::Relaxed).wrapping_sub(before) >= QUICK
    }
}

/// What a thread of a pool does.
pub(super) extern "C" fn work(core: *mut c_void) -> *mut c_void {
    // SAFETY: `start` gave the reference away.
    let core = unsafe { Arc::from_raw(core.cast_const().cast::<Core>()) };
    name_thread(&core.options.name);
    let me = Arc::new(Sleeper { thread: std::thread::current(), is_woken: AtomicBool::new(false) });
    core.enlist();
    // It was started to go on watch, and nobody else is meanwhile.
    core.watch.0.store(me.address(), Ordering::SeqCst);
    let mut patience = Patience::new();
    while let Some(job) = core.next(&me, &mut patience) {
        // A panic of ours leaves that job unfinished, which is the least harm. What the host's code throws is found here,
        // and ends the process on its way.
        let _ = catch_unwind(AssertUnwindSafe(|| job.run()));
    }
    ptr::null_mut()
}

fn name_thread(name: &CString) {
    #[cfg(target_os = "linux")]
    // SAFETY: the string ends with a NUL; what is too long is cut.
    unsafe {
        libc::prctl(libc::PR_SET_NAME, name.as_ptr());
    }
    #[cfg(not(target_os = "linux"))]
    let _ = name;
}

/// Starts a thread that blocks all signals. It is to be joined or detached.
pub(super) fn start_thread(
    function: extern "C" fn(*mut c_void) -> *mut c_void,
    arg: *mut c_void,
) -> Result<libc::pthread_t> {
    let mut thread = MaybeUninit::<libc::pthread_t>::uninit();
    let (mut all, mut before) = (MaybeUninit::<libc::sigset_t>::uninit(), MaybeUninit::<libc::sigset_t>::uninit());
    // SAFETY: sets are written before they are read; the new thread inherits the mask, which is put back here.
    unsafe {
        libc::sigfillset(all.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr());
        let error: c_int = libc::pthread_create(thread.as_mut_ptr(), ptr::null(), function, arg);
        libc::pthread_sigmask(libc::SIG_SETMASK, before.as_ptr(), ptr::null_mut());
        if error == 0 { Ok(thread.assume_init()) } else { Err(Error::from_code(-error)) }
    }
}
