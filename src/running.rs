//! The running loop of a thread: `asyncio.events._get_running_loop` and `_set_running_loop`.
//!
//! The run functions set it themselves (`engine::run`), and a child process has none (`engine::fork`).

use crate::engine::event_loop::{EventLoop, LoopRef};
use crate::engine::thread;
use crate::error::{Error, Result};

/// The loop that runs on this thread.
pub(crate) fn get() -> Option<LoopRef> {
    let running = thread::current().running.get();
    // SAFETY: whoever put it there holds a reference until it is taken away, on this thread.
    unsafe { running.as_ref() }.map(LoopRef::new)
}

/// Says which loop runs on this thread. Keeps a reference.
pub(crate) fn set(event_loop: Option<&EventLoop>) -> Result<()> {
    let thread = thread::current();
    if thread.runs.get() {
        return Err(Error::RUNNING);
    }
    let new = event_loop.map_or(std::ptr::null(), |event_loop| LoopRef::new(event_loop).into_raw().cast_const());
    if !new.is_null() {
        thread::release_at_exit();
    }
    let old = thread.running.replace(new);
    if !old.is_null() {
        // SAFETY: an earlier call left a reference.
        drop(unsafe { LoopRef::from_raw(old.cast_mut()) });
    }
    Ok(())
}
