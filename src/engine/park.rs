//! Threads that wait for something a loop does.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::event_loop::EventLoop;
use crate::error::{Error, Result};
use crate::lock::Lock;

/// A thread that waits.
struct Waiter {
    event_loop: usize,
    /// The address of what it waits for.
    key: usize,
    parker: Arc<Parker>,
}

/// Wakes one thread.
struct Parker {
    woken: Mutex<bool>,
    wake: Condvar,
}

/// Whoever waits: one lock, so that fork can hold it.
static WAITERS: Lock<Vec<Waiter>> = Lock::new(Vec::new());

/// Holds the lock across fork.
pub(crate) fn lock_for_fork() {
    std::mem::forget(WAITERS.lock());
}

/// # Safety
/// Ends a `lock_for_fork` of this thread.
pub(crate) unsafe fn unlock_after_fork() {
    // SAFETY: by this function's contract.
    unsafe { WAITERS.force_unlock() };
}

/// In a child process: nobody waits. A thread of the parent may have held its own lock.
///
/// # Safety
/// The lock is held by [`lock_for_fork`].
pub(crate) unsafe fn forget_all() {
    // SAFETY: by this function's contract the list is ours. What a thread waits at is that thread's, too, which is gone.
    unsafe { (*WAITERS.data_ptr()).drain(..).for_each(std::mem::forget) };
}

impl Parker {
    fn wake(&self) {
        *self.woken.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.wake.notify_one();
    }

    /// Whether it was woken before `end`.
    fn sleep(&self, end: Option<Instant>) -> bool {
        let mut woken = self.woken.lock().unwrap_or_else(PoisonError::into_inner);
        while !*woken {
            woken = match end {
                None => self.wake.wait(woken).unwrap_or_else(PoisonError::into_inner),
                Some(end) => {
                    let left = end.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return false;
                    }
                    self.wake.wait_timeout(woken, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
        true
    }
}

/// Waits until `done` answers true, which it is asked at first, and after [`notify`] with this key. -ETIMEDOUT when
/// that takes longer than `timeout` nanoseconds; EVL_ECLOSED when the loop is closed, EVL_EFORKED in a child process.
pub(crate) fn wait(event_loop: &EventLoop, key: usize, timeout: i64, mut done: impl FnMut() -> bool) -> Result<()> {
    let end = match u64::try_from(timeout) {
        Ok(timeout) if timeout < i64::MAX as u64 => Instant::now().checked_add(Duration::from_nanos(timeout)),
        Ok(_) => None,
        Err(_) => return Err(Error::INVALID),
    };
    let parker = Arc::new(Parker { woken: Mutex::new(false), wake: Condvar::new() });
    let address = std::ptr::from_ref(event_loop) as usize;
    WAITERS.lock().push(Waiter { event_loop: address, key, parker: parker.clone() });
    let result = loop {
        if done() {
            break Ok(());
        }
        // Nobody will settle anything there.
        if let Err(error) = event_loop.check_open() {
            break Err(error);
        }
        if !parker.sleep(end) {
            break if done() { Ok(()) } else { Err(Error::TIMED_OUT) };
        }
        *parker.woken.lock().unwrap_or_else(PoisonError::into_inner) = false;
    };
    let gone = {
        let mut waiters = WAITERS.lock();
        let at = waiters.iter().position(|waiter| Arc::ptr_eq(&waiter.parker, &parker));
        at.map(|at| waiters.swap_remove(at))
    };
    drop(gone);
    result
}

/// Wakes those who wait for `key`.
pub(crate) fn notify(key: usize) {
    wake(|waiter| waiter.key == key);
}

/// The loop is closed: nobody waits for it any more.
pub(crate) fn notify_closed(event_loop: &EventLoop) {
    let address = std::ptr::from_ref(event_loop) as usize;
    wake(|waiter| waiter.event_loop == address);
}

fn wake(wanted: impl Fn(&Waiter) -> bool) {
    let parkers: Vec<Arc<Parker>> =
        WAITERS.lock().iter().filter(|waiter| wanted(waiter)).map(|waiter| waiter.parker.clone()).collect();
    for parker in parkers {
        parker.wake();
    }
}
