//! Policies and the current loop (`asyncio.events`: `get_event_loop` and its like).

use std::ffi::{c_int, c_void};

use super::child_watcher::evl_child_watcher;
use super::event_loop::evl_loop;
use super::guard::{guard, release};
use super::handle::evl_free_fn;
use super::{options, own};
use crate::engine::callback::FreeArg;
use crate::error::Error;
use crate::policy::{self, Policy};
use crate::running;

/// Decides which loop a thread has, as asyncio.AbstractEventLoopPolicy. Opaque; reference counted.
pub type evl_policy = Policy;

/// Makes a loop: writes a reference that evl takes over to *out and returns 0, or returns a negative code.
pub type evl_loop_factory = Option<unsafe extern "C-unwind" fn(arg: *mut c_void, out: *mut *mut evl_loop) -> c_int>;

/// The functions of a policy of your own. A NULL entry answers EVL_ENOTIMPLEMENTED. They are called on the
/// thread that asks, with no lock held.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct evl_policy_vtable {
    /// sizeof(evl_policy_vtable) as the caller knows it.
    pub size: u32,
    /// Always zero.
    pub reserved: u32,
    /// AbstractEventLoopPolicy.get_event_loop: writes a reference, which the asker owns, to *out and returns 0,
    /// or returns a code.
    pub get_loop: evl_loop_factory,
    /// AbstractEventLoopPolicy.set_event_loop: event_loop is borrowed, and may be NULL.
    pub set_loop: Option<unsafe extern "C-unwind" fn(arg: *mut c_void, event_loop: *mut evl_loop) -> c_int>,
    /// AbstractEventLoopPolicy.new_event_loop: writes a reference, which the asker owns, to *out and returns 0,
    /// or returns a code.
    pub new_loop: evl_loop_factory,
    /// AbstractEventLoopPolicy.get_child_watcher: writes a reference, which the asker owns, to *out and returns 0,
    /// or returns a code.
    pub get_child_watcher:
        Option<unsafe extern "C-unwind" fn(arg: *mut c_void, out: *mut *mut evl_child_watcher) -> c_int>,
    /// AbstractEventLoopPolicy.set_child_watcher: watcher is borrowed, and may be NULL.
    pub set_child_watcher:
        Option<unsafe extern "C-unwind" fn(arg: *mut c_void, watcher: *mut evl_child_watcher) -> c_int>,
}

/// Makes a default policy: a loop per thread, made by factory (NULL: evl_loop_new with default options).
/// asyncio.DefaultEventLoopPolicy with a _loop_factory.
///
/// arg is passed to factory; arg_free runs with the policy's last reference, or when this function fails. *out
/// is yours. Any thread. Errors: -EINVAL (out is NULL), EVL_EPANIC.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_policy_new_default(
    factory: evl_loop_factory,
    arg: *mut c_void,
    arg_free: evl_free_fn,
    out: *mut *mut evl_policy,
) -> c_int {
    let arg = FreeArg::new(arg, arg_free);
    // SAFETY: out is writable or NULL.
    guard(|| unsafe {
        own::required(out)?;
        own::give_arc(out, Policy::new_default(factory, arg));
        Ok(0)
    })
}

/// Makes a policy out of functions of yours; the table is copied. arg is passed to them.
///
/// arg_free runs with the policy's last reference, or when this function fails. *out is yours. Any thread.
/// Errors: -EINVAL (NULL vtable or out), EVL_EOPTIONS (the table's size), EVL_EPANIC.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_policy_new(
    vtable: *const evl_policy_vtable,
    arg: *mut c_void,
    arg_free: evl_free_fn,
    out: *mut *mut evl_policy,
) -> c_int {
    let arg = FreeArg::new(arg, arg_free);
    // SAFETY: vtable begins with its size or is NULL; out is writable or NULL.
    guard(|| unsafe {
        own::required(out)?;
        own::required(vtable.cast_mut())?;
        let table: evl_policy_vtable = options::read(vtable)?;
        if table.reserved != 0 {
            return Err(Error::OPTIONS);
        }
        let evl_policy_vtable { get_loop, set_loop, new_loop, get_child_watcher, set_child_watcher, .. } = table;
        let table = policy::Table { get_loop, set_loop, new_loop, get_child_watcher, set_child_watcher };
        own::give_arc(out, Policy::new_custom(table, arg));
        Ok(0)
    })
}

/// Takes another reference and returns policy. NULL gives NULL. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_policy_ref(policy: *mut evl_policy) -> *mut evl_policy {
    // SAFETY: a live policy or NULL, as documented.
    unsafe { own::retain_arc(policy) }
}

/// Gives a reference back; NULL is ignored. The last one releases the loops the policy keeps. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_policy_unref(policy: *mut evl_policy) {
    // SAFETY: the caller owns a reference and gives it up, or passes NULL.
    release(|| unsafe { own::release_arc(policy) });
}

/// The policy's loop of this thread: AbstractEventLoopPolicy.get_event_loop. *out is a reference of yours.
///
/// A default policy makes a loop only on the main thread, and only if evl_policy_set_loop was never called
/// there (with NULL counts as called). Any thread. Errors: EVL_ENOLOOP, -EINVAL (NULL), EVL_ENOTIMPLEMENTED,
/// what the factory or table returns (EVL_ENOLOOP when it returns 0 without a loop).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_policy_get_loop(policy: *mut evl_policy, out: *mut *mut evl_loop) -> c_int {
    // SAFETY: a live policy or NULL; out is writable or NULL.
    guard(|| unsafe {
        let policy = own::borrow(policy)?;
        own::required(out)?;
        own::give(out, policy.get_loop()?.into_raw());
        Ok(0)
    })
}

/// Makes event_loop (NULL: none) the policy's loop of this thread: AbstractEventLoopPolicy.set_event_loop. The
/// policy takes a reference of its own, and gives it back when the loop is replaced, the thread ends or the
/// policy goes.
///
/// Any thread. Errors: -EINVAL (NULL policy), EVL_ENOTIMPLEMENTED, what the table returns.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_policy_set_loop(policy: *mut evl_policy, event_loop: *mut evl_loop) -> c_int {
    // SAFETY: a live policy or NULL, a live loop or NULL.
    guard(|| unsafe { own::borrow(policy)?.set_loop(event_loop.as_ref()).map(|()| 0) })
}

/// Makes a loop as the policy makes them: AbstractEventLoopPolicy.new_event_loop. *out is yours; the thread's
/// loop is not touched.
///
/// Any thread. Errors: -EINVAL (NULL), EVL_ENOTIMPLEMENTED, what the factory or table returns.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_policy_new_loop(policy: *mut evl_policy, out: *mut *mut evl_loop) -> c_int {
    // SAFETY: a live policy or NULL; out is writable or NULL.
    guard(|| unsafe {
        let policy = own::borrow(policy)?;
        own::required(out)?;
        own::give(out, policy.new_loop()?.into_raw());
        Ok(0)
    })
}

/// The policy's child watcher: AbstractEventLoopPolicy.get_child_watcher. *out is a reference of yours. A default
/// policy makes one on pidfds when first asked.
///
/// Any thread. Errors: -EINVAL (NULL), EVL_ENOTIMPLEMENTED, what the table returns.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_policy_get_child_watcher(
    policy: *mut evl_policy,
    out: *mut *mut evl_child_watcher,
) -> c_int {
    // SAFETY: a live policy or NULL; out is writable or NULL.
    guard(|| unsafe {
        let policy = own::borrow(policy)?;
        own::required(out)?;
        own::give_arc(out, policy.get_child_watcher()?);
        Ok(0)
    })
}

/// Makes watcher the policy's: AbstractEventLoopPolicy.set_child_watcher. The policy takes a reference of its own.
/// NULL: a default policy makes a new one on the next use. Children that are being watched stay with the watcher
/// they have.
///
/// Any thread. Errors: -EINVAL (NULL policy), EVL_ENOTIMPLEMENTED, what the table returns.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_policy_set_child_watcher(
    policy: *mut evl_policy,
    watcher: *mut evl_child_watcher,
) -> c_int {
    // SAFETY: a live policy or NULL, a live watcher or NULL.
    guard(|| unsafe { own::borrow(policy)?.set_child_watcher(own::clone_arc(watcher)).map(|()| 0) })
}

/// Keeps a pointer of yours with the policy; the one before is released first. data_free (may be NULL) runs
/// when it is replaced, with the policy's last reference, or when this function fails. Any thread. Errors:
/// -EINVAL (NULL policy).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_policy_set_data(
    policy: *mut evl_policy,
    data: *mut c_void,
    data_free: evl_free_fn,
) -> c_int {
    let data = FreeArg::new(data, data_free);
    // SAFETY: a live policy or NULL, as documented.
    guard(|| unsafe {
        own::borrow(policy)?.set_data(data);
        Ok(0)
    })
}

/// The pointer kept by evl_policy_set_data, or NULL. NULL gives NULL. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_policy_get_data(policy: *const evl_policy) -> *mut c_void {
    // SAFETY: a live policy or NULL, as documented.
    unsafe { policy.as_ref() }.map_or(std::ptr::null_mut(), Policy::data)
}

/// The process's policy: asyncio.get_event_loop_policy. Made on first use. *out is a reference of yours.
///
/// Any thread. Errors: -EINVAL (NULL).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_get_policy(out: *mut *mut evl_policy) -> c_int {
    // SAFETY: out is writable or NULL.
    guard(|| unsafe {
        own::required(out)?;
        own::give_arc(out, policy::current());
        Ok(0)
    })
}

/// Sets the process's policy, for all threads: asyncio.set_event_loop_policy. evl takes a reference of its own.
/// NULL restores a new default policy on the next use.
///
/// Any thread. Returns 0.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_set_policy(policy: *mut evl_policy) -> c_int {
    // SAFETY: a live policy or NULL, as documented.
    guard(|| unsafe {
        policy::set_current(own::clone_arc(policy));
        Ok(0)
    })
}

/// The loop that runs on this thread: asyncio.get_running_loop. *out is a reference of yours.
///
/// Any thread. Errors: EVL_ENOLOOP (none runs; so in a child process after fork), -EINVAL (NULL).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_get_running_loop(out: *mut *mut evl_loop) -> c_int {
    // SAFETY: out is writable or NULL.
    guard(|| unsafe {
        own::required(out)?;
        own::give(out, running::get().ok_or(Error::NO_LOOP)?.into_raw());
        Ok(0)
    })
}

/// For bindings: says which loop runs on this thread (NULL: none), as asyncio._set_running_loop. The run
/// functions do this themselves. A reference is taken until it is replaced.
///
/// Any thread. Errors: EVL_ERUNNING (evl itself runs a loop on this thread now).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_set_running_loop(event_loop: *mut evl_loop) -> c_int {
    // SAFETY: a live loop or NULL, as documented.
    guard(|| unsafe { running::set(event_loop.as_ref()).map(|()| 0) })
}

/// The running loop of this thread, or else the policy's: asyncio.get_event_loop. *out is a reference of yours.
///
/// A default policy makes a loop on the main thread only: other threads set one first. Any thread. Errors: as
/// evl_policy_get_loop.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_get_loop(out: *mut *mut evl_loop) -> c_int {
    // SAFETY: out is writable or NULL.
    guard(|| unsafe {
        own::required(out)?;
        let found = match running::get() {
            Some(running) => running,
            None => policy::current().get_loop()?,
        };
        own::give(out, found.into_raw());
        Ok(0)
    })
}

/// evl_policy_set_loop of the process's policy: asyncio.set_event_loop.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_set_loop(event_loop: *mut evl_loop) -> c_int {
    // SAFETY: a live loop or NULL, as documented.
    guard(|| unsafe { policy::current().set_loop(event_loop.as_ref()).map(|()| 0) })
}

/// evl_policy_new_loop of the process's policy: asyncio.new_event_loop.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_new_loop(out: *mut *mut evl_loop) -> c_int {
    // SAFETY: out is writable or NULL.
    guard(|| unsafe {
        own::required(out)?;
        own::give(out, policy::current().new_loop()?.into_raw());
        Ok(0)
    })
}

/// evl_policy_get_child_watcher of the process's policy: asyncio.get_child_watcher.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_get_child_watcher(out: *mut *mut evl_child_watcher) -> c_int {
    // SAFETY: out is writable or NULL.
    guard(|| unsafe {
        own::required(out)?;
        own::give_arc(out, policy::current().get_child_watcher()?);
        Ok(0)
    })
}

/// evl_policy_set_child_watcher of the process's policy: asyncio.set_child_watcher.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_set_child_watcher(watcher: *mut evl_child_watcher) -> c_int {
    // SAFETY: a live watcher or NULL, as documented.
    guard(|| unsafe { policy::current().set_child_watcher(own::clone_arc(watcher)).map(|()| 0) })
}
