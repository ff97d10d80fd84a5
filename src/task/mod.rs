//! What completes later: futures, tasks, and what is made of them.

pub mod future;
pub(crate) mod operation;
pub(crate) mod remote;
#[allow(clippy::module_inception, reason = "asyncio's name for the thing")]
pub mod task;
