//! Child watchers: who hears that a child has ended.

use std::ffi::{c_int, c_void};

use super::event_loop::evl_loop;
use super::guard::{guard, predicate, release};
use super::handle::evl_free_fn;
use super::{options, own};
use crate::engine::callback::FreeArg;
use crate::error::{Error, Result};
use crate::process::watcher::{Table, Watcher};

/// Who hears that a child has ended, as asyncio.AbstractChildWatcher. Opaque; reference counted.
pub type evl_child_watcher = Watcher;

/// Told that a child has ended: returncode is its exit status, the negative number of the signal that killed it, or
/// 255 when somebody else has reaped it.
pub type evl_child_callback = Option<unsafe extern "C-unwind" fn(pid: c_int, returncode: c_int, arg: *mut c_void)>;

/// The functions of a child watcher of your own. watcher_arg is the arg of evl_child_watcher_new. They are called on
/// the thread that asks, with no lock held. A NULL entry answers EVL_ENOTIMPLEMENTED; without is_active it is
/// active until it is closed.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct evl_child_watcher_vtable {
    /// sizeof(evl_child_watcher_vtable) as the caller knows it.
    pub size: u32,
    /// Always zero.
    pub reserved: u32,
    /// Takes callback, arg and arg_free over, also when it fails, and answers 0 or a code. When the child has ended,
    /// callback(pid, returncode, arg) is to be called once, and then arg_free(arg), unless it is NULL. evl's own
    /// callbacks, those of subprocesses, may be called on any thread.
    pub add_child_handler: Option<
        unsafe extern "C-unwind" fn(
            watcher_arg: *mut c_void,
            event_loop: *mut evl_loop,
            pid: c_int,
            callback: evl_child_callback,
            arg: *mut c_void,
            arg_free: evl_free_fn,
        ) -> c_int,
    >,
    /// Answers 1 when there was a handler, 0 when not, or a code.
    pub remove_child_handler: Option<unsafe extern "C-unwind" fn(watcher_arg: *mut c_void, pid: c_int) -> c_int>,
    /// Answers 1 when children can be watched.
    pub is_active: Option<unsafe extern "C-unwind" fn(watcher_arg: *mut c_void) -> c_int>,
    /// Answers 0 or a code.
    pub close: Option<unsafe extern "C-unwind" fn(watcher_arg: *mut c_void) -> c_int>,
}

/// Makes a child watcher that waits on descriptors of children: asyncio.PidfdChildWatcher. Where the system has
/// none, or does not permit them, it starts a thread a child, and says so in debug mode.
///
/// *out is yours. Any thread. Errors: -EINVAL (NULL).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_child_watcher_new_pidfd(out: *mut *mut evl_child_watcher) -> c_int {
    // SAFETY: out is writable or NULL.
    guard(|| unsafe {
        own::required(out)?;
        own::give_arc(out, Watcher::new_pidfd());
        Ok(0)
    })
}

/// Makes a child watcher that starts a thread a child: asyncio.ThreadedChildWatcher.
///
/// *out is yours. Any thread. Errors: -EINVAL (NULL).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_child_watcher_new_threaded(out: *mut *mut evl_child_watcher) -> c_int {
    // SAFETY: out is writable or NULL.
    guard(|| unsafe {
        own::required(out)?;
        own::give_arc(out, Watcher::new_threaded());
        Ok(0)
    })
}

/// Makes a child watcher out of functions of yours; the table is copied. arg is passed to them.
///
/// arg_free runs with the watcher's last reference, or when this function fails. *out is yours. Any thread.
/// Errors: -EINVAL (NULL vtable or out), EVL_EOPTIONS (the table's size).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_child_watcher_new(
    vtable: *const evl_child_watcher_vtable,
    arg: *mut c_void,
    arg_free: evl_free_fn,
    out: *mut *mut evl_child_watcher,
) -> c_int {
    let arg = FreeArg::new(arg, arg_free);
    // SAFETY: vtable begins with its size or is NULL; out is writable or NULL.
    guard(|| unsafe {
        own::required(out)?;
        own::required(vtable.cast_mut())?;
        let table: evl_child_watcher_vtable = options::read(vtable)?;
        if table.reserved != 0 {
            return Err(Error::OPTIONS);
        }
        let evl_child_watcher_vtable { add_child_handler, remove_child_handler, is_active, close, .. } = table;
        let table = Table { add_child_handler, remove_child_handler, is_active, close };
        own::give_arc(out, Watcher::new_custom(table, arg));
        Ok(0)
    })
}

/// Takes another reference and returns watcher. NULL gives NULL. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_child_watcher_ref(watcher: *mut evl_child_watcher) -> *mut evl_child_watcher {
    // SAFETY: a live watcher or NULL, as documented.
    unsafe { own::retain_arc(watcher) }
}

/// Gives a reference back; NULL is ignored. Children that are being watched go on being watched. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_child_watcher_unref(watcher: *mut evl_child_watcher) {
    // SAFETY: the caller owns a reference and gives it up, or passes NULL.
    release(|| unsafe { own::release_arc(watcher) });
}

/// A reference of our own.
///
/// # Safety `watcher` is NULL or live.
unsafe fn held(watcher: *mut evl_child_watcher) -> Result<std::sync::Arc<Watcher>> {
    // SAFETY: by this function's contract.
    unsafe { own::clone_arc(watcher) }.ok_or(Error::INVALID)
}

/// Has callback called when the child pid, of this process, has ended: add_child_handler. It is called by the loop,
/// in the context that is current now, once. A callback that the child had before is replaced.
///
/// Nobody else may reap the child; SIGCHLD is not touched, and may not be ignored by you. arg_free runs after the
/// call, on removal or replacement, on close of the loop, or when this function fails. On the loop's thread.
/// Errors: -EINVAL (NULL watcher, loop or callback; pid is not positive), EVL_ESHUTDOWN (the watcher is closed),
/// EVL_EBUSY (another loop waits for the child), -EAGAIN (no thread can be started), EVL_ENOTIMPLEMENTED,
/// EVL_ECLOSED, EVL_EWRONGTHREAD, EVL_EFORKED.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_child_watcher_add_child_handler(
    watcher: *mut evl_child_watcher,
    event_loop: *mut evl_loop,
    pid: c_int,
    callback: evl_child_callback,
    arg: *mut c_void,
    arg_free: evl_free_fn,
) -> c_int {
    let arg = FreeArg::new(arg, arg_free);
    // SAFETY: a live watcher or NULL, a live loop or NULL.
    unsafe {
        own::on_loop(event_loop, |lp| {
            let watcher = held(watcher)?;
            let callback = callback.ok_or(Error::INVALID)?;
            watcher.add(lp, pid, callback, arg, lp.capture(None)).map(|()| 0)
        })
    }
}

/// Takes the callback of a child away: remove_child_handler. Returns 1, or 0 when there was none. A thread that waits
/// for the child goes on, and reaps it.
///
/// On the thread of the callback's loop. Errors: -EINVAL (NULL), EVL_EWRONGTHREAD, EVL_EFORKED,
/// EVL_ENOTIMPLEMENTED.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_child_watcher_remove_child_handler(
    watcher: *mut evl_child_watcher,
    pid: c_int,
) -> c_int {
    // SAFETY: a live watcher or NULL, as documented.
    guard(|| unsafe { held(watcher)?.remove(pid).map(c_int::from) })
}

/// Whether children can be watched: 1, or 0 when it is closed. is_active. NULL gives 0. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_child_watcher_is_active(watcher: *const evl_child_watcher) -> c_int {
    // SAFETY: a live watcher or NULL, as documented.
    predicate(unsafe { watcher.as_ref() }, Watcher::is_active)
}

/// Takes no more children. Those that are being watched go on being watched.
///
/// Any thread. Errors: -EINVAL (NULL), what the table returns.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_child_watcher_close(watcher: *mut evl_child_watcher) -> c_int {
    // SAFETY: a live watcher or NULL, as documented.
    guard(|| unsafe { held(watcher)?.close().map(|()| 0) })
}
