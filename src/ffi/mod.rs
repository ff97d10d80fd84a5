//! The C surface: one file a noun, no logic.
//!
//! Every function checks its pointers, enters the loop where it needs one, calls the engine and turns the answer into a
//! code. What they share is in [`guard`] (the panic boundary), [`own`] (who owns a pointer) and [`options`] (structs that
//! carry their size). The header is generated from these files in the order of `build.rs`.
#![allow(non_camel_case_types, reason = "types are spelled as C callers see them")]
#![allow(
    clippy::missing_safety_doc,
    reason = "what callers must keep to is told once, in the header's opening comment"
)]

pub mod child_watcher;
pub mod connection;
pub mod context;
pub mod datagram;
pub mod embed;
pub mod error;
pub mod event_loop;
pub mod exception;
pub mod executor;
pub mod future;
pub mod handle;
pub mod pipe;
pub mod policy;
pub mod process;
pub mod resolver;
pub mod run;
pub mod schedule;
pub mod server;
pub mod signal;
pub mod sock;
pub mod stream;
pub mod stream_read;
pub mod task;
pub mod task_group;
pub mod timer;
pub mod transport;
pub mod version;
pub mod wait;
pub mod watch;

pub(crate) mod guard;
pub(crate) mod options;
pub(crate) mod own;
