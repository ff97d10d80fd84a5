//! evl: an event loop with asyncio's semantics behind a C ABI.
//!
//! The crate is used through its C header; this is the map of its inside. Dependencies point down only:
//!
//! | layer | what it is |
//! |---|---|
//! | [`ffi`] | the C surface, one file a noun; no logic |
//! | [`net`] | transports and their protocols, operations on sockets, addresses |
//! | [`task`] | what completes later: futures, tasks, the executor |
//! | [`process`] | child processes and who hears of their end |
//! | `policy`, `running` | which loop a thread has, and which one runs on it |
//! | [`engine`] | the loop: handles, the ready queue, timers, descriptors, signals, other threads, contexts, failures |
//! | `poller` | what the engine asks the operating system |
//!
//! One iteration of a loop is told step by step in `engine/iteration.rs`. Who may touch what is told in `engine/event_loop.rs`
//! (a loop belongs to one thread at a time, and [`engine::event_loop::EventLoop`]'s state is reached only by proof of that)
//! and `engine/lifetime.rs` (references keep a loop alive, handles keep its memory).

pub mod engine;
mod error;
pub mod ffi;
mod lock;
pub mod net;
mod policy;
mod poller;
pub mod process;
mod running;
pub mod task;
