//! What a loop counts.

use super::event_loop::Owned;

/// Numbers since the loop was made.
#[derive(Default, Clone, Copy)]
pub struct Counters {
    /// Iterations run.
    pub iterations: u64,
    /// Callbacks called.
    pub callbacks: u64,
    /// Times the system was asked for events.
    pub polls: u64,
    /// Descriptor events it gave.
    pub events: u64,
    /// Callbacks that came from other threads.
    pub posts: u64,
}

/// Numbers since the loop was made, and what there is now.
pub struct Metrics {
    /// Since the loop was made.
    pub counters: Counters,
    /// Callbacks that are ready.
    pub ready: u64,
    /// Started timers.
    pub timers: u64,
    /// Readers and writers.
    pub watchers: u64,
}

impl Owned<'_> {
    /// How often the system was asked for events.
    pub(crate) fn polls(&self) -> u64 {
        self.with(|state| state.counters.polls)
    }

    pub(crate) fn metrics(&self) -> Metrics {
        self.with(|state| Metrics {
            counters: state.counters,
            ready: state.ready.len() as u64,
            timers: state.timers.len() as u64,
            watchers: state.watch.len() as u64,
        })
    }
}
