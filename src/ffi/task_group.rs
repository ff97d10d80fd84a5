//! Task groups: tasks that are waited for together, and cancelled when one fails (`asyncio.TaskGroup`).

use std::ffi::{c_int, c_void};

use super::context::evl_context;
use super::event_loop::evl_loop;
use super::future::evl_future;
use super::guard::release;
use super::handle::evl_free_fn;
use super::own;
use super::task::{evl_step_fn, evl_task};
use crate::engine::callback::FreeArg;
use crate::error::Error;
use crate::task::group::Group;

/// Tasks that belong together, as asyncio.TaskGroup. Opaque; reference counted.
pub type evl_task_group = Group;

/// Makes a task group: asyncio.TaskGroup, entered. When one of its tasks fails, the others are cancelled, and so is
/// the task that made the group, unless it has joined it already: its step is told EVL_ECANCELLED, and is to
/// await evl_task_group_join, which tells the error.
///
/// *out is your reference. On the loop's thread. Errors: -EINVAL (NULL), EVL_ECLOSED, EVL_EWRONGTHREAD,
/// EVL_EFORKED, EVL_EPANIC.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_task_group_new(event_loop: *mut evl_loop, out: *mut *mut evl_task_group) -> c_int {
    // SAFETY: a live loop or NULL; out is writable or NULL.
    unsafe {
        own::on_loop(event_loop, |lp| {
            own::required(out)?;
            own::give_arc(out, Group::create(lp));
            Ok(0)
        })
    }
}

/// Takes another reference and returns group. NULL gives NULL. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_task_group_ref(group: *mut evl_task_group) -> *mut evl_task_group {
    // SAFETY: a live group or NULL, as documented.
    unsafe { own::retain_arc(group) }
}

/// Gives a reference back; NULL is ignored. Tasks that are not done go on. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_task_group_unref(group: *mut evl_task_group) {
    // SAFETY: the caller owns a reference and gives it up, or passes NULL.
    release(|| unsafe { own::release_arc(group) });
}

/// Makes a task that belongs to the group: TaskGroup.create_task. Step, context, out and ownership as
/// evl_task_new.
///
/// On the loop's thread. Errors as evl_task_new; EVL_ESHUTDOWN (a task of the group has failed, or the group was
/// joined and its tasks are done).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_task_group_create_task(
    group: *mut evl_task_group,
    step: evl_step_fn,
    arg: *mut c_void,
    arg_free: evl_free_fn,
    context: *mut evl_context,
    out: *mut *mut evl_task,
) -> c_int {
    let arg = FreeArg::new(arg, arg_free);
    // SAFETY: pointers are live objects or NULL, as documented.
    unsafe {
        own::on_group(group, |lp, group| {
            let step = step.ok_or(Error::INVALID)?;
            let context = lp.capture(own::clone_arc(context));
            own::give_task(out, group.create_task(lp, step, arg, context)?);
            Ok(0)
        })
    }
}

/// A future that is done when all tasks of the group are: leaving asyncio.TaskGroup. It fails with the code of the
/// first task that failed (being cancelled is no failure); evl_task_group_failed lists them all. Tasks may still
/// be added until then. Cancelling it cancels the tasks.
///
/// out may be NULL; else *out is your reference. Once for a group. On the loop's thread. Errors: -EINVAL (NULL),
/// EVL_EINVALIDSTATE (joined before), EVL_ECLOSED, EVL_EWRONGTHREAD, EVL_EFORKED, -ENOMEM.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_task_group_join(group: *mut evl_task_group, out: *mut *mut evl_future) -> c_int {
    // SAFETY: a live group or NULL; out is writable or NULL.
    unsafe {
        own::on_group(group, |lp, group| {
            own::give_future(out, group.join(lp)?);
            Ok(0)
        })
    }
}

/// Cancels the tasks of the group, and takes no more: for a task that made a group and fails itself, before it joins it.
///
/// On the loop's thread. Errors: -EINVAL (NULL), EVL_ECLOSED, EVL_EWRONGTHREAD, EVL_EFORKED.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_task_group_cancel(group: *mut evl_task_group) -> c_int {
    // SAFETY: a live group or NULL, as documented.
    unsafe {
        own::on_group(group, |lp, group| {
            group.abort(lp);
            Ok(0)
        })
    }
}

/// Writes the tasks that have failed, first first, at most capacity of them, and returns how many there are.
/// Borrowed from the group: evl_task_as_future of one tells its error.
///
/// On the loop's thread. Errors: -EINVAL (NULL group; tasks NULL and capacity not 0), EVL_ECLOSED,
/// EVL_EWRONGTHREAD, EVL_EFORKED.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_task_group_failed(
    group: *mut evl_task_group,
    tasks: *mut *mut evl_task,
    capacity: usize,
) -> c_int {
    // SAFETY: a live group or NULL; tasks has room for capacity pointers.
    unsafe { own::on_group(group, |_, group| own::fill_pointers(tasks, capacity, &group.failed())) }
}
