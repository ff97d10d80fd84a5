//! The lock of whatever fork must hold.
//!
//! A child process has only the thread that forked. A lock that fork held is that thread's, and the child gives it back; but a lock that
//! lets others sleep keeps them in a table with locks of its own, which may be taken by a thread the child does not have.
//! So this one has nothing behind it: who waits tries again. It is held for a few instructions, never over the host's code.

use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::lock_api;

/// A value under a lock that fork can hold.
pub(crate) type Lock<T> = lock_api::Mutex<Spin, T>;

/// Whether it is taken.
pub(crate) struct Spin(AtomicBool);

// SAFETY: `lock` and a successful `try_lock` swap false for true, which no other thread can do until `unlock`.
unsafe impl lock_api::RawMutex for Spin {
    #[allow(clippy::declare_interior_mutable_const, reason = "the trait wants it")]
    const INIT: Spin = Spin(AtomicBool::new(false));

    type GuardMarker = lock_api::GuardNoSend;

    #[inline]
    fn lock(&self) {
        while !self.try_lock() {
            while self.0.load(Ordering::Relaxed) {
                std::thread::yield_now();
            }
        }
    }

    #[inline]
    fn try_lock(&self) -> bool {
        !self.0.swap(true, Ordering::Acquire)
    }

    #[inline]
    unsafe fn unlock(&self) {
        self.0.store(false, Ordering::Release);
    }
}
