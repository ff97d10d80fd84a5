//! What completes later: futures, tasks, and what is made of them.

pub(crate) mod combine;
pub mod future;
pub(crate) mod gather;
pub mod group;
pub(crate) mod operation;
pub(crate) mod remote;
pub mod runner;
#[allow(clippy::module_inception, reason = "asyncio's name for the thing")]
pub mod task;
