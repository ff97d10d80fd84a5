//! How a future ends: with a result, an error, or by being cancelled.

use std::ffi::{CString, c_int, c_void};
use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd};
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};

use super::future::{CANCELLED, FAILED, FINISHED, Future, FutureRef, release_future};
use crate::engine::callback::{self, CallFn, FreeArg};
use crate::error::{Error, Result};

/// What kind of thing a result is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum Shape {
    /// A pointer, of the host's or to an object of evl's.
    Pointer,
    /// A number, kept in the place of the pointer.
    Number,
    /// A pointer to [`Bytes`].
    Bytes,
    /// A pointer to a list of addresses.
    Addresses,
    /// A pointer to the names of an address.
    Names,
    /// A pointer to what a process has written.
    Output,
    /// A pointer to a [`Numbered`].
    Numbered,
    /// Whatever the future has that the pointer points to: this one has the same outcome.
    Same,
}

/// Bytes that an operation has read, and who sent them.
pub(crate) struct Bytes {
    pub(crate) data: Vec<u8>,
    pub(crate) address: Vec<u8>,
}

/// A number that comes with an address: a count of bytes and who sent them, or a connection's descriptor and its peer.
pub(crate) struct Numbered {
    number: i64,
    pub(super) address: Vec<u8>,
    /// The number is a descriptor that nobody has asked for yet.
    unclaimed: AtomicBool,
}

/// How a future ends.
pub(crate) struct Outcome {
    pub(super) status: u8,
    pub(super) shape: Shape,
    pub(super) code: c_int,
    pub(super) word: *mut c_void,
    pub(super) free: Option<CallFn>,
}

/// What an error has besides its code.
pub(super) struct Failure {
    pub(super) message: Option<CString>,
    pub(super) object: FreeArg,
    pub(super) partial: Option<Box<Partial>>,
}

/// What a read that has failed comes with: bytes that it has taken, or else how many may be taken. Of what was to be sent: how many bytes were.
pub(crate) struct Partial {
    pub(crate) data: Option<Vec<u8>>,
    pub(crate) size: usize,
}

impl Numbered {
    pub(crate) fn count(number: i64, address: Vec<u8>) -> Numbered {
        Numbered { number, address, unclaimed: AtomicBool::new(false) }
    }

    pub(crate) fn descriptor(descriptor: OwnedFd, address: Vec<u8>) -> Numbered {
        Numbered { number: i64::from(descriptor.into_raw_fd()), address, unclaimed: AtomicBool::new(true) }
    }

    /// A descriptor is the caller's from here on.
    pub(super) fn take(&self) -> i64 {
        self.unclaimed.store(false, Ordering::Relaxed);
        self.number
    }
}

impl Drop for Numbered {
    fn drop(&mut self) {
        if *self.unclaimed.get_mut() {
            // SAFETY: it came from an OwnedFd, and nobody was told of it.
            drop(unsafe { OwnedFd::from_raw_fd(self.number as c_int) });
        }
    }
}

impl Outcome {
    const fn with(status: u8, shape: Shape, code: c_int, word: *mut c_void, free: Option<CallFn>) -> Outcome {
        Outcome { status, shape, code, word, free }
    }

    /// Nothing but that it is done.
    pub(crate) fn nothing() -> Outcome {
        Outcome::with(FINISHED, Shape::Pointer, 0, ptr::null_mut(), None)
    }

    pub(crate) fn pointer(value: FreeArg) -> Outcome {
        let (word, free) = value.into_raw();
        Outcome::with(FINISHED, Shape::Pointer, 0, word, free)
    }

    pub(crate) fn number(value: i64) -> Outcome {
        Outcome::with(FINISHED, Shape::Number, 0, value as usize as *mut c_void, None)
    }

    /// An object of ours, which the accessor for `shape` knows.
    pub(crate) fn object<T>(shape: Shape, value: T) -> Outcome {
        Outcome::with(FINISHED, shape, 0, Box::into_raw(Box::new(value)).cast(), Some(free_box::<T>))
    }

    pub(crate) fn error(error: Error) -> Outcome {
        Outcome::with(FAILED, Shape::Pointer, error.code(), ptr::null_mut(), None)
    }

    pub(crate) fn failure(code: c_int, message: Option<CString>, object: FreeArg) -> Outcome {
        Outcome::failed(code, Failure { message, object, partial: None })
    }

    /// A read that has failed, but has got something.
    pub(crate) fn partial(error: Error, message: Option<CString>, partial: Partial) -> Outcome {
        Outcome::failed(error.code(), Failure { message, object: FreeArg::none(), partial: Some(Box::new(partial)) })
    }

    /// An outcome that tells, where it is no result, how much was done.
    pub(crate) fn with_progress(mut self, progress: impl FnOnce() -> Option<usize>) -> Outcome {
        if !matches!(self.status, FAILED | CANCELLED) || self.shape != Shape::Pointer {
            return self;
        }
        let Some(size) = progress() else { return self };
        if self.word.is_null() {
            let status = self.status;
            self = Outcome::failure(self.code, None, FreeArg::none());
            self.status = status;
        }
        // SAFETY: an error's word is its Failure, which is this outcome's.
        let failure = unsafe { &mut *self.word.cast::<Failure>() };
        failure.partial.get_or_insert_with(|| Box::new(Partial { data: None, size }));
        self
    }

    fn failed(code: c_int, failure: Failure) -> Outcome {
        let word = Box::into_raw(Box::new(failure));
        Outcome::with(FAILED, Shape::Pointer, code, word.cast(), Some(free_box::<Failure>))
    }

    /// [`Outcome::failure`] with a code of the host's.
    pub(crate) fn checked_failure(code: c_int, message: Option<CString>, object: FreeArg) -> Result<Outcome> {
        if code >= 0 || code == Error::CANCELLED.code() {
            return Err(Error::INVALID.detail(|| format!("{code} is no code of an error")));
        }
        Ok(Outcome::failure(code, message, object))
    }

    pub(crate) fn cancelled(message: Option<CString>) -> Outcome {
        let mut outcome = Outcome::failure(Error::CANCELLED.code(), message, FreeArg::none());
        outcome.status = CANCELLED;
        outcome
    }

    pub(crate) fn code_is(&self, error: Error) -> bool {
        self.code == error.code()
    }

    /// The outcome that another future has, which is done.
    pub(crate) fn same_as(other: &Future) -> Outcome {
        let (status, code) = (other.status(), other.code());
        // Not a chain, whose end would free it link by link on the stack.
        let origin = FutureRef::new(other.origin());
        Outcome::with(status, Shape::Same, code, origin.into_raw().cast(), Some(release_future))
    }
}

impl Drop for Outcome {
    fn drop(&mut self) {
        callback::release(self.word, self.free);
    }
}

pub(super) unsafe extern "C-unwind" fn free_box<T>(pointer: *mut c_void) {
    // SAFETY: made by `Box::into_raw` of this type, and given up once.
    drop(unsafe { Box::from_raw(pointer.cast::<T>()) });
}
