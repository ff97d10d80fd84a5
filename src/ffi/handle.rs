//! Handles: a callback on its way (`asyncio.events.Handle`).

use std::ffi::{c_char, c_int, c_void};

use super::context::evl_context;
use super::event_loop::evl_loop;
use super::guard::{guard, predicate, release};
use super::own;
use super::timer::evl_timer;
use crate::engine::callback::Callback;
use crate::engine::handle::{Handle, WeakHandle};
use crate::engine::schedule;

/// A callback on its way, as asyncio.Handle. Opaque; reference counted.
pub type evl_handle = Handle;
/// A reference to a handle that does not keep it alive.
pub type evl_weak_handle = WeakHandle;

/// What the loop calls. arg is the pointer it was registered with.
pub type evl_callback = Option<unsafe extern "C-unwind" fn(arg: *mut c_void)>;
/// Releases an arg, exactly once, when evl will not use it again. May be called by the thread that drops the
/// last reference.
pub type evl_free_fn = Option<unsafe extern "C-unwind" fn(arg: *mut c_void)>;

/// Makes a handle that is not scheduled yet: asyncio.events.Handle(callback, args, loop, context).
///
/// It can be scheduled again and again until it is cancelled. context NULL: the current context is captured. On
/// success *out is your reference (out must not be NULL). arg_free runs exactly once: on cancel, on close, or
/// with the last reference, and also when this function fails. On the loop's thread. Errors: -EINVAL (NULL
/// loop, callback or out), EVL_ECLOSED, EVL_EWRONGTHREAD, EVL_EFORKED, EVL_EPANIC, -ENOMEM.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_handle_new(
    event_loop: *mut evl_loop,
    callback: evl_callback,
    arg: *mut c_void,
    arg_free: evl_free_fn,
    context: *mut evl_context,
    out: *mut *mut evl_handle,
) -> c_int {
    // SAFETY: pointers are live objects or NULL, as documented.
    unsafe {
        own::register(event_loop, Callback::new(callback, arg, arg_free), context, |lp, cb, context| {
            own::required(out)?;
            own::give(out, lp.new_handle(cb, context)?);
            Ok(0)
        })
    }
}

/// Puts the handle at the end of the ready queue, as loop.call_soon does with a new one.
///
/// On the loop's thread. Errors: EVL_ESCHEDULED (it is in the queue already), EVL_ECANCELLED, EVL_EDONE (made
/// by a call_* function and has run), -EINVAL (NULL; or it belongs to a timer, descriptor or signal, which
/// schedule it themselves), EVL_ECLOSED, EVL_EWRONGTHREAD, EVL_EFORKED, EVL_EPANIC.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_handle_schedule(handle: *mut evl_handle) -> c_int {
    // SAFETY: a live handle or NULL, as documented.
    unsafe { own::on_handle(handle, |lp, handle| lp.schedule(handle).map(|()| 0)) }
}

/// Cancels the callback: it will not run again, and its arg is released (after the present call, when it is
/// running). asyncio.events.Handle.cancel; the handle of a timer is cancelled as evl_timer_cancel does.
///
/// A call that is ready in this iteration is withheld, too. Cancelling again does nothing and returns 0;
/// cancelling after the callback has run, or on a closed loop, only marks the handle as cancelled, as in
/// asyncio. On the loop's thread. Errors: -EINVAL (NULL), EVL_EWRONGTHREAD, EVL_EFORKED.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_handle_cancel(handle: *mut evl_handle) -> c_int {
    // SAFETY: a live handle or NULL, as documented.
    unsafe { own::with_handle(handle, |handle| schedule::cancel(handle).map(|()| 0)) }
}

/// Whether the handle was cancelled: 1 or 0. asyncio.events.Handle.cancelled. NULL gives 0. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_handle_cancelled(handle: *const evl_handle) -> c_int {
    // SAFETY: a live handle or NULL, as documented.
    predicate(unsafe { handle.as_ref() }, Handle::is_cancelled)
}

/// Sets a name for repr and reports. name is copied; NULL removes it.
///
/// On the loop's thread. Errors: -EINVAL (NULL handle), EVL_ECLOSED, EVL_EWRONGTHREAD, EVL_EFORKED.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_handle_set_name(handle: *mut evl_handle, name: *const c_char) -> c_int {
    // SAFETY: a live handle or NULL; name is NULL or NUL-terminated.
    unsafe {
        own::on_handle(handle, |_, handle| {
            handle.set_name(own::text(name));
            Ok(0)
        })
    }
}

/// Writes what the handle is, such as "<Handle tick at 0x55d0c0 cancelled>". asyncio.events.Handle.__repr__.
///
/// Fills buffer with at most size bytes including the NUL and returns the whole length without it. buffer may
/// be NULL when size is 0. Any thread. Errors: -EINVAL (NULL handle; buffer NULL and size not 0).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_handle_repr(handle: *const evl_handle, buffer: *mut c_char, size: usize) -> c_int {
    // SAFETY: a live handle or NULL; buffer has size writable bytes.
    guard(|| unsafe { own::fill(buffer, size, &own::borrow(handle)?.repr()) })
}

/// Copies the return addresses of the stack that made the handle, innermost first: recorded in debug mode only.
///
/// Writes at most capacity addresses and returns how many there are (0: none were recorded). Any thread.
/// Errors: -EINVAL (NULL handle; addresses NULL and capacity not 0).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_handle_traceback(
    handle: *const evl_handle,
    addresses: *mut *mut c_void,
    capacity: usize,
) -> c_int {
    // SAFETY: a live handle or NULL; addresses has room for capacity pointers.
    guard(|| unsafe { own::fill_array(addresses, capacity, &own::borrow(handle)?.traceback()) })
}

/// Writes the stack that made the handle as text, a frame a line, symbolised now. Nothing when none was
/// recorded.
///
/// Buffer rules and errors as evl_handle_repr. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_handle_traceback_text(
    handle: *const evl_handle,
    buffer: *mut c_char,
    size: usize,
) -> c_int {
    // SAFETY: a live handle or NULL; buffer has size writable bytes.
    guard(|| unsafe { own::fill(buffer, size, &own::borrow(handle)?.traceback_text()) })
}

/// The loop the handle belongs to: borrowed, do not unref it. asyncio.events.Handle._loop. NULL for NULL. Any
/// thread.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_handle_get_loop(handle: *const evl_handle) -> *mut evl_loop {
    // SAFETY: a live handle or NULL, as documented.
    unsafe { handle.as_ref() }.map_or(std::ptr::null_mut(), |h| h.event_loop().cast_mut())
}

/// The arg of the callback: borrowed, and not to be used once it was released. NULL for NULL. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_handle_get_arg(handle: *const evl_handle) -> *mut c_void {
    // SAFETY: a live handle or NULL, as documented.
    unsafe { handle.as_ref() }.map_or(std::ptr::null_mut(), Handle::arg)
}

/// The handle as a timer: the same object, borrowed; NULL when it is none, and for NULL. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_handle_as_timer(handle: *mut evl_handle) -> *mut evl_timer {
    // SAFETY: a live handle or NULL, as documented.
    let timer = unsafe { handle.as_ref() }.is_some_and(Handle::is_timer);
    if timer { handle.cast() } else { std::ptr::null_mut() }
}

/// The context the callback runs in: borrowed, and valid as long as the handle. asyncio.events.Handle._context.
///
/// NULL for NULL, on the wrong thread, or when memory is short. On the loop's thread.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_handle_get_context(handle: *mut evl_handle) -> *mut evl_context {
    let mut found = std::ptr::null_mut();
    // SAFETY: a live handle or NULL, as documented.
    unsafe {
        own::with_handle(handle, |handle| {
            found = schedule::context_of(handle)?.cast_mut();
            Ok(0)
        })
    };
    found
}

/// Takes another reference and returns handle. NULL gives NULL. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_handle_ref(handle: *mut evl_handle) -> *mut evl_handle {
    // SAFETY: a live handle or NULL, as documented.
    if let Some(h) = unsafe { handle.as_ref() } {
        h.retain();
    }
    handle
}

/// Gives a reference back; NULL is ignored. What is scheduled stays scheduled. The last reference of a handle
/// that is not scheduled frees it and releases its arg. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_handle_unref(handle: *mut evl_handle) {
    // SAFETY: the caller owns a reference and gives it up, or passes NULL.
    if !unsafe { Handle::release_fast(handle) } {
        // SAFETY: as above.
        release(|| unsafe { Handle::release_ptr(handle) });
    }
}

/// Makes a weak reference to the handle: it does not keep it alive (weakref.ref(handle)).
///
/// *out is yours, to give back by evl_weak_handle_free. Any thread. Errors: -EINVAL (NULL).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_handle_weak(handle: *mut evl_handle, out: *mut *mut evl_weak_handle) -> c_int {
    // SAFETY: a live handle or NULL; out is writable or NULL.
    guard(|| unsafe {
        let handle = own::borrow(handle)?;
        own::required(out)?;
        own::give_box(out, handle.downgrade());
        Ok(0)
    })
}

/// Returns a new reference to the handle, yours to unref, or NULL when it is gone. NULL gives NULL. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_weak_handle_upgrade(weak: *const evl_weak_handle) -> *mut evl_handle {
    // SAFETY: a live weak reference or NULL, as documented.
    unsafe { weak.as_ref() }.map_or(std::ptr::null_mut(), |w| w.upgrade().cast_mut())
}

/// Frees a weak reference; NULL is ignored. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_weak_handle_free(weak: *mut evl_weak_handle) {
    // SAFETY: the caller owns the weak reference, made by give_box, or passes NULL.
    release(|| unsafe { own::drop_box(weak) });
}

/// For bindings: runs the callback now, in its context, whether it is scheduled or not; a failure goes to the
/// exception handler. asyncio.events.Handle._run.
///
/// A one-shot handle is done afterwards. On the loop's thread. Errors: -EINVAL (NULL), EVL_ECANCELLED,
/// EVL_EDONE, EVL_EENTERED (it is running now), EVL_EEXIT (the callback called evl_raise_exit), EVL_ECLOSED,
/// EVL_EWRONGTHREAD, EVL_EFORKED, EVL_EPANIC.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_handle_run(handle: *mut evl_handle) -> c_int {
    // SAFETY: a live handle or NULL, as documented.
    unsafe { own::on_handle(handle, |lp, handle| lp.run_handle(handle).map(|()| 0)) }
}
