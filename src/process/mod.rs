//! Child processes: starting them, hearing of their end, and their pipes.

pub(crate) mod child;
pub(crate) mod communicate;
pub(crate) mod files;
pub(crate) mod fork;
pub(crate) mod pipes;
pub(crate) mod spawn;
pub mod subprocess;
pub mod watcher;

use crate::engine::event_loop::Owned;
use crate::engine::exception::{self, Raised, Report};

/// Tells the exception handler that a function of the host has failed.
fn tell(lp: &Owned, code: i32, what: &str, raised: Option<&Raised>) {
    exception::tell(lp, &Report::of_raised(code, &format!("{what}."), raised));
}
