//! Child processes: starting them, hearing of their end, and their pipes.

pub(crate) mod child;
pub(crate) mod communicate;
pub(crate) mod pipes;
pub(crate) mod spawn;
pub mod subprocess;
pub mod watcher;

use std::ffi::CString;
use std::ptr;

use crate::engine::event_loop::Owned;
use crate::engine::exception::{self, Raised, Report};

/// Tells the exception handler that a function of the host has failed.
fn tell(lp: &Owned, code: i32, what: &str, raised: Option<&Raised>) {
    let message = match raised.and_then(|raised| raised.message.as_deref()) {
        Some(why) => format!("{what}: {}", why.to_string_lossy()),
        None => format!("{what}."),
    };
    let report = Report {
        code,
        message: CString::new(message).ok(),
        object: raised.map_or(ptr::null_mut(), |raised| raised.object.pointer()),
        handle: ptr::null(),
        future: ptr::null(),
        transport: ptr::null(),
        datagram: ptr::null(),
        traceback: Vec::new(),
    };
    exception::tell(lp, &report);
}
