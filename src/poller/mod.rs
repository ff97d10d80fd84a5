//! What the engine asks of a poller: level-triggered interest in descriptors, a wake-up from anywhere, a wait in nanoseconds.

#[cfg(all(target_os = "linux", not(feature = "portable-poller")))]
mod epoll;
#[cfg(all(target_os = "linux", not(feature = "portable-poller")))]
pub(crate) use epoll::{Poller, wake};

#[cfg(not(all(target_os = "linux", not(feature = "portable-poller"))))]
mod mio;
#[cfg(not(all(target_os = "linux", not(feature = "portable-poller"))))]
pub(crate) use self::mio::{Poller, wake};

/// Readable, at its end, or broken.
pub(crate) const READ: u8 = 1;
/// Writable, or broken.
pub(crate) const WRITE: u8 = 2;

/// A descriptor is ready.
#[derive(Clone, Copy)]
pub(crate) struct Event {
    /// What the descriptor was registered with.
    pub(crate) token: u64,
    /// READ and WRITE, or'ed.
    pub(crate) ready: u8,
}

/// The token of the wake-up, which no descriptor has.
const WAKE: u64 = u64::MAX;
/// The token of the deadline timer.
#[cfg(all(target_os = "linux", not(feature = "portable-poller")))]
const DEADLINE: u64 = u64::MAX - 1;
