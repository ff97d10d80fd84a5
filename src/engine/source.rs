//! Objects of evl's own that wait for a descriptor, both ways, without a handle: transports and servers.
//!
//! An object is in the loop's table from [`Owned::add_source`] until [`Owned::remove_source`], and must be there as long; in between it
//! tells what it waits for. When the descriptor is ready, the object notes that, and runs when its turn in the ready queue has come
//! (`runnable`). When the kernel will not watch the descriptor, the object is told that it is ready, and of the refusal; it waits for nothing then.

use super::entry::Entry;
use super::event_loop::{Owned, State};
use super::runnable;
use crate::engine::context::Word;
use crate::error::{Error, Result};

/// Beside READ and WRITE: the kernel will not watch the descriptor.
pub(crate) const REFUSED: u8 = 4;

/// Has an object note that its descriptor is ready, and puts it into the ready queue if it is not there.
pub(super) fn wake(state: &mut State, object: *const (), ready: u8) -> Result<()> {
    state.ready.reserve(1)?;
    // SAFETY: the object is there as long as it is in the table.
    if unsafe { runnable::note(object, ready) } {
        let arg = object.cast_mut().cast();
        state.ready.push(Entry { function: Some(runnable::run), arg, free: None, context: Word::NONE })?;
    }
    Ok(())
}

impl Owned<'_> {
    /// Has an object wait for a descriptor; for nothing, at first. EVL_EBUSY when anybody waits for it already.
    ///
    /// # Safety
    /// The object begins with its [`runnable::Runnable`], and stays where it is until it is removed or the loop closed.
    pub(crate) unsafe fn add_source(&self, fd: i32, object: *const ()) -> Result<()> {
        if fd < 0 {
            return Err(Error::BAD_DESCRIPTOR);
        }
        let busy = [super::watch::Direction::Read, super::watch::Direction::Write];
        if busy.into_iter().any(|direction| self.is_watched(fd, direction)) {
            return Err(Error::BUSY.detail(|| format!("descriptor {fd} is being waited for already")));
        }
        self.with(|state| {
            state.watch.make_room(fd)?;
            state.watch.set_source(fd, object);
            Ok(())
        })
    }

    /// What the object at a descriptor waits for (READ, WRITE). The kernel is told before the next poll.
    pub(crate) fn set_interest(&self, fd: i32, interest: u8) {
        self.with(|state| {
            if !state.watch.source(fd).0.is_null() {
                state.watch.set_interest(fd, interest);
            }
        });
    }

    /// Whether the kernel watches a descriptor already, for somebody who waits for it no more.
    pub(crate) fn is_registered(&self, fd: i32) -> bool {
        self.with(|state| state.watch.is_registered(fd))
    }

    /// Why the kernel would not watch a descriptor, the last time it did not.
    pub(crate) fn refusal(&self) -> Error {
        self.with(|state| state.watch.refusal)
    }

    /// The object waits no more. `closing`: the descriptor is about to be closed, so that the kernel need not be told.
    pub(crate) fn remove_source(&self, fd: i32, closing: bool) {
        self.with(|state| {
            if !state.watch.source(fd).0.is_null() {
                state.watch.set_interest(fd, 0);
                state.watch.set_source(fd, std::ptr::null());
                if closing {
                    state.watch.forget_registration(fd);
                }
            }
        });
    }
}
