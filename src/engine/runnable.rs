//! Objects of evl's own that stand in the ready queue, and wait for descriptors, themselves: what is to be done with one, its first
//! word tells.

use std::ffi::c_void;
use std::ptr;

use super::callback::CallFn;
use super::entry::Entry;

/// What is done with an object when its turn comes, or when it is not run.
pub(crate) struct Runnable {
    /// Runs it. The entry's reference is given up.
    pub(crate) run: unsafe fn(*const ()),
    /// Gives the entry's reference up.
    pub(crate) abandon: unsafe fn(*const ()),
    /// Its descriptor is ready (READ, WRITE). Notes that, and tells whether it is to be put into the ready queue, for which a reference was
    /// taken then. Calls no code of the host, and does not touch the loop.
    pub(crate) note: unsafe fn(*const (), u8) -> bool,
}

/// The function of an entry whose arg is such an object.
///
/// # Safety
/// `object` is one whose first word is a `&'static` to something that begins with a [`Runnable`], and a reference that is given up.
#[inline(never)]
pub(crate) unsafe extern "C-unwind" fn run(object: *mut c_void) {
    // SAFETY: by this function's contract.
    unsafe { ((*object.cast::<&'static Runnable>()).run)(object.cast()) };
}

/// An entry is not run: gives up the reference it has, if it is one of an object.
///
/// # Safety
/// As [`run`], when that is the entry's function.
pub(crate) unsafe fn abandon(entry: &Entry) {
    if entry.function.is_some_and(|function| ptr::fn_addr_eq(function, run as CallFn)) {
        // SAFETY: by this function's contract.
        unsafe { ((*entry.arg.cast::<&'static Runnable>()).abandon)(entry.arg.cast()) };
    }
}

/// Notes that the object's descriptor is ready.
///
/// # Safety
/// `object` is as [`run`] has it, and alive.
pub(crate) unsafe fn note(object: *const (), ready: u8) -> bool {
    // SAFETY: by this function's contract.
    unsafe { ((*object.cast::<&'static Runnable>()).note)(object, ready) }
}
