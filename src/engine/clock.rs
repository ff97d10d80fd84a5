//! The clock of a loop: the system's monotonic one, or one that moves only when told.

use std::sync::atomic::{AtomicI64, Ordering};

/// Nanoseconds that never go back.
pub(crate) struct Clock {
    manual: Option<AtomicI64>,
}

impl Clock {
    pub(crate) fn new(manual_start: Option<i64>) -> Self {
        Clock { manual: manual_start.map(AtomicI64::new) }
    }

    pub(crate) fn is_manual(&self) -> bool {
        self.manual.is_some()
    }

    #[inline]
    pub(crate) fn read(&self) -> i64 {
        match &self.manual {
            None => monotonic(),
            Some(time) => time.load(Ordering::Relaxed),
        }
    }

    /// Moves a manual clock; whether it is one. Called by the loop's owner only.
    pub(crate) fn advance(&self, delta: i64) -> bool {
        let Some(time) = &self.manual else { return false };
        time.store(time.load(Ordering::Relaxed).saturating_add(delta), Ordering::Relaxed);
        true
    }

    pub(crate) fn resolution(&self) -> i64 {
        if self.is_manual() {
            return 1;
        }
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 1 };
        // SAFETY: the pointer is to a timespec of ours.
        unsafe { libc::clock_getres(libc::CLOCK_MONOTONIC, &raw mut time) };
        nanoseconds(&time)
    }
}

/// The system's monotonic clock.
#[inline]
pub(crate) fn monotonic() -> i64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a timespec of ours; this clock exists everywhere evl builds.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    nanoseconds(&time)
}

#[allow(clippy::useless_conversion, reason = "the fields are narrower on 32-bit systems")]
fn nanoseconds(time: &libc::timespec) -> i64 {
    i64::from(time.tv_sec) * 1_000_000_000 + i64::from(time.tv_nsec)
}
