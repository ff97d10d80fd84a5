//! The loop: what is ready, what is due, what is watched, and one iteration over it all.

pub(crate) mod arena;
pub mod callback;
pub(crate) mod clock;
pub mod context;
pub(crate) mod debug;
pub mod event_loop;
pub(crate) mod exception;
pub(crate) mod fork;
pub mod handle;
pub(crate) mod inbox;
pub(crate) mod invoke;
pub(crate) mod iteration;
pub(crate) mod lifetime;
pub(crate) mod metrics;
pub(crate) mod operations;
pub(crate) mod park;
pub(crate) mod ready;
pub(crate) mod run;
pub(crate) mod runnable;
pub(crate) mod schedule;
pub(crate) mod signals;
pub(crate) mod spare;
pub(crate) mod thread;
pub(crate) mod timers;
pub(crate) mod watch;
pub(crate) mod wheel;
