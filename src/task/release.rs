//! What happens when nobody refers to a future any more.

use std::ptr;
use std::sync::atomic::Ordering;

use super::future::{Future, release_future};
use crate::engine::callback::FreeArg;
use crate::engine::event_loop::{EventLoop, Owned};
use crate::engine::exception::{self, Report};
use crate::engine::{inbox, lifetime, spare};
use crate::error::Error;

impl Future {
    /// Gives up one reference of a future that may be NULL.
    ///
    /// # Safety
    /// The caller owns the reference. No borrow of the loop's state is held.
    #[inline]
    pub(crate) unsafe fn release_ptr(future: *const Future) {
        // SAFETY: the reference keeps it alive.
        let Some(this) = (unsafe { future.as_ref() }) else { return };
        // Who finds one reference has the only one.
        if this.refs.load(Ordering::Acquire) != 1 && this.refs.fetch_sub(1, Ordering::AcqRel) != 1 {
            return;
        }
        // SAFETY: that was the last one.
        unsafe { Future::release_last(future) };
    }

    /// # Safety
    /// Nobody refers to it any more.
    #[inline]
    unsafe fn release_last(future: *const Future) {
        // SAFETY: by this function's contract.
        let this = unsafe { &*future };
        let event_loop = this.owner();
        if !event_loop.is_owned_here() || this.unretrieved.load(Ordering::Relaxed) {
            // SAFETY: as above.
            unsafe { Future::release_elsewhere(future) };
            return;
        }
        let lp = Owned::running(event_loop);
        if this.class.is_plain {
            // SAFETY: as above; plain futures are in memory that came from there.
            unsafe {
                ptr::drop_in_place(future.cast_mut());
                if !lp.with(|state| state.operations.spare.put(future.cast_mut())) {
                    spare::free(future.cast_mut());
                }
            }
        } else {
            // SAFETY: as above.
            unsafe { Future::destroy(future) };
        }
        lp.uncount_object();
    }

    /// [`Future::release_last`] when the loop is not this thread's, or there is an error to tell of.
    ///
    /// # Safety
    /// As there.
    #[cold]
    unsafe fn release_elsewhere(future: *const Future) {
        // SAFETY: by this function's contract.
        let this = unsafe { &*future };
        let event_loop: *const EventLoop = this.event_loop;
        let must_travel = if this.unretrieved.load(Ordering::Relaxed) {
            match this.owner().enter() {
                Ok(lp) => {
                    this.refs.store(1, Ordering::Relaxed);
                    if this.unretrieved.swap(false, Ordering::Relaxed) {
                        this.report(&lp);
                    }
                    drop(lp);
                    // The handler may have taken a reference.
                    if this.refs.fetch_sub(1, Ordering::AcqRel) != 1 {
                        return;
                    }
                    false
                }
                Err(error) => error == Error::WRONG_THREAD,
            }
        } else {
            // What a pending one has is for the thread that uses the loop to release.
            !this.is_done() && this.owner().is_used_elsewhere()
        };
        if must_travel {
            this.refs.store(1, Ordering::Relaxed);
            let arg = FreeArg::new(future.cast_mut().cast(), Some(release_future));
            if inbox::send_release(this.owner(), arg) {
                return;
            }
            this.refs.store(0, Ordering::Relaxed);
        }
        // A loop that nobody uses is not taken for this: whoever wants it would be refused meanwhile.
        // SAFETY: nobody refers to it, so that nothing of it is the loop's.
        unsafe {
            Future::destroy(future);
            lifetime::release_memory(event_loop);
        }
    }

    /// Tells the exception handler of an error that nobody has asked for.
    fn report(&self, lp: &Owned) {
        let what = format!("{} exception was never retrieved", self.class.name);
        let report = Report {
            future: ptr::from_ref(self).cast(),
            traceback: self.extra(|extra| extra.traceback.to_vec()).unwrap_or_default(),
            ..Report::failed(self.code.get(), &what, self.message().as_deref(), self.error_object())
        };
        if exception::call_handler(lp, &report) == Err(Error::EXIT) {
            // The callback that is running asks for it, if there is one.
            let _ = exception::raise_exit(lp.event_loop().exit_code());
        }
    }

    /// # Safety
    /// Nobody refers to it. What counted for the loop's memory is left to the caller.
    unsafe fn destroy(future: *const Future) {
        // SAFETY: by this function's contract, and the class made it.
        unsafe { ((*future).class.free)(future) };
    }
}
