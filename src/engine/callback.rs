//! A C callback as raw words, and the rule that its argument is released exactly once.

use std::ffi::c_void;
use std::mem;

use super::{context, thread};

/// A function of the host, called with its argument.
pub type CallFn = unsafe extern "C-unwind" fn(arg: *mut c_void);

/// A callback that nobody has taken over yet: dropping it releases the argument.
pub struct Callback {
    /// NULL where the host passed none, which is an error for most takers.
    pub function: Option<CallFn>,
    /// What the function is called with.
    pub arg: FreeArg,
}

impl Callback {
    /// Takes a triple from the host.
    pub fn new(function: Option<CallFn>, arg: *mut c_void, free: Option<CallFn>) -> Self {
        Callback { function, arg: FreeArg::new(arg, free) }
    }
}

/// A pointer of the host with the function that releases it; dropping this releases it.
pub struct FreeArg {
    pointer: *mut c_void,
    free: Option<CallFn>,
}

// SAFETY: the header tells hosts that arg_free may run on the thread that drops the last reference.
unsafe impl Send for FreeArg {}
// SAFETY: it is immutable, and the pointer is only handed out.
unsafe impl Sync for FreeArg {}

impl FreeArg {
    /// Takes a pointer over from the host.
    pub fn new(pointer: *mut c_void, free: Option<CallFn>) -> Self {
        FreeArg { pointer, free }
    }

    /// Nothing to release.
    pub fn none() -> Self {
        FreeArg { pointer: std::ptr::null_mut(), free: None }
    }

    /// The pointer, which stays owned by this.
    pub fn pointer(&self) -> *mut c_void {
        self.pointer
    }

    /// The words, for storing: whoever has them releases them by [`release`].
    pub(crate) fn into_raw(self) -> (*mut c_void, Option<CallFn>) {
        let words = (self.pointer, self.free);
        mem::forget(self);
        words
    }
}

impl Drop for FreeArg {
    fn drop(&mut self) {
        release(self.pointer, self.free);
    }
}

/// Releases an argument. No borrow of any loop's state may be held: the host's function may call evl.
#[inline]
pub(crate) fn release(arg: *mut c_void, free: Option<CallFn>) {
    if let Some(free) = free {
        release_now(arg, free);
    }
}

#[inline(never)]
fn release_now(arg: *mut c_void, free: CallFn) {
    let thread = thread::current();
    // A raise in here belongs to no callback.
    let inside = thread.in_callback.replace(false);
    let slot = thread.slot.get();
    // SAFETY: the host gave the pair to be called once, and whoever calls this gives its right to it up.
    unsafe { call(free, arg) };
    context::unwind(thread, slot);
    thread.in_callback.set(inside);
}

/// Calls into the host. Whatever unwinds out of it, other than a panic of ours, ends the process with a message: the frames between
/// are not the host's to unwind.
///
/// # Safety
/// `function` and `arg` were given by the host to be called together.
#[inline]
pub(crate) unsafe fn call(function: CallFn, arg: *mut c_void) {
    // SAFETY: by this function's contract.
    guarded(|| unsafe { function(arg) });
}

/// Calls into the host, as [`call`] does.
#[inline]
pub(crate) fn guarded<R>(host: impl FnOnce() -> R) -> R {
    let guard = Unwinding;
    let result = host();
    mem::forget(guard);
    result
}

/// Dropped only while unwinding out of the host's code.
struct Unwinding;

impl Drop for Unwinding {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            abort_unwinding();
        }
    }
}

#[cold]
fn abort_unwinding() {
    const TEXT: &[u8] =
        b"evl: a C++ exception or pthread_exit left a callback; callbacks must not unwind into evl. Aborting.\n";
    // SAFETY: plain system calls on a static buffer; nothing may be allocated here.
    unsafe {
        libc::write(2, TEXT.as_ptr().cast(), TEXT.len());
        libc::abort()
    }
}
