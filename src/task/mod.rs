//! What completes later: futures, tasks, and what is made of them.

pub(crate) mod combine;
pub(crate) mod done;
pub mod executor;
pub mod future;
pub(crate) mod gather;
pub mod group;
pub mod job;
pub(crate) mod operation;
pub(crate) mod outcome;
pub(crate) mod pool;
mod pools;
mod release;
pub(crate) mod remote;
pub mod runner;
#[allow(clippy::module_inception, reason = "asyncio's name for the thing")]
pub mod task;
mod timeout;
mod waiting;
pub(crate) mod worker;
