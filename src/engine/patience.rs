//! Looking again for a short time before sleeping: sleeping and being woken takes longer than most jobs do.
//!
//! It is done only while it pays: who looked in vain four times in a row sleeps at once, and tries again at every sixteenth time. Where
//! the process may use one processor only, nothing can come while somebody looks, and nobody does.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::clock;

/// How long somebody looks, in nanoseconds, when nothing else is asked for: about what a wake-up across processors takes.
pub(crate) const SHORT: i64 = 25_000;
/// How often somebody looks in vain before sleeping at once.
const LUCK: u8 = 4;
/// Every so many times that somebody would sleep at once, it is tried again.
const TRIES: u8 = 16;
/// Looks between two readings of the clock.
const LOOKS: u32 = 32;

/// What somebody who may look knows of how it went before.
pub(crate) struct Patience {
    luck: u8,
    tries: u8,
}

impl Patience {
    pub(crate) const fn new() -> Self {
        Patience { luck: LUCK, tries: 0 }
    }

    /// Looks whether it is `ready`, for at most `limit` nanoseconds. False: it was not, or looking does not pay.
    pub(crate) fn look(&mut self, limit: i64, mut ready: impl FnMut() -> bool) -> bool {
        if limit <= 0 || processors() < 2 {
            return false;
        }
        if self.luck == 0 {
            self.tries = (self.tries + 1) % TRIES;
            if self.tries != 0 {
                return false;
            }
        }
        let end = clock::monotonic().saturating_add(limit);
        loop {
            for _ in 0..LOOKS {
                if ready() {
                    self.luck = LUCK;
                    return true;
                }
                std::hint::spin_loop();
            }
            if clock::monotonic() >= end {
                self.luck = self.luck.saturating_sub(1);
                return false;
            }
        }
    }
}

/// Lets so many nanoseconds pass.
pub(crate) fn pass(time: i64) {
    let end = clock::monotonic().saturating_add(time);
    while clock::monotonic() < end {
        std::hint::spin_loop();
    }
}

/// How many processors this process might use when it was first asked.
pub(crate) fn processors() -> usize {
    static FOUND: AtomicUsize = AtomicUsize::new(0);
    let mut found = FOUND.load(Ordering::Relaxed);
    if found == 0 {
        found = count_processors().max(1);
        FOUND.store(found, Ordering::Relaxed);
    }
    found
}

#[cfg(target_os = "linux")]
fn count_processors() -> usize {
    let mut set = std::mem::MaybeUninit::<libc::cpu_set_t>::zeroed();
    // SAFETY: the set is written by the call before it is read; zeros are a valid one.
    unsafe {
        if libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), set.as_mut_ptr()) == 0 {
            return libc::CPU_COUNT(set.assume_init_ref()) as usize;
        }
    }
    online_processors()
}

#[cfg(not(target_os = "linux"))]
fn count_processors() -> usize {
    online_processors()
}

fn online_processors() -> usize {
    // SAFETY: a plain library call.
    usize::try_from(unsafe { libc::sysconf(libc::_SC_NPROCESSORS_ONLN) }).unwrap_or(1)
}
