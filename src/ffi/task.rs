//! Tasks: a step function that is called again whenever what it awaits is done (`asyncio.Task`).

use std::ffi::{c_char, c_int, c_void};
use std::sync::Arc;

use super::context::evl_context;
use super::event_loop::evl_loop;
use super::future::evl_future;
use super::guard::{guard, release};
use super::handle::evl_free_fn;
use super::own;
use crate::engine::callback::{FreeArg, guarded};
use crate::engine::operations::TaskFactory;
use crate::error::Error;
use crate::task::future::{Future, Outcome};
use crate::task::task::{self, Task};

/// A future whose outcome a step function makes, as asyncio.Task. Opaque; reference counted.
pub type evl_task = Task;

/// A step of a task. Does what it can, then either awaits something: writes a reference to a future, which evl
/// takes over, to *next and returns 0; or ends: leaves *next alone and returns 0 (done, with the result given to
/// evl_task_set_result) or a negative code (failed; EVL_ECANCELLED: cancelled). A positive one counts as 0; with a
/// negative one, what *next refers to is given up.
///
/// It is called first in the iteration after the task was made, and again when what it awaited is done. status
/// tells how that ended: 0 (evl_task_get_awaited has the result), its error's code, or EVL_ECANCELLED (it or the
/// task was cancelled). "if (status < 0) return status;" passes it on, message and all, as an exception would
/// be. Functions that start an operation fit next: "return evl_sleep(loop, EVL_MS(10), next);". evl_raise in a
/// step fails the task with code and message. arg is the pointer the task was made with.
pub type evl_step_fn = Option<
    unsafe extern "C-unwind" fn(
        task: *mut evl_task,
        status: c_int,
        arg: *mut c_void,
        next: *mut *mut evl_future,
    ) -> c_int,
>;

/// Makes tasks in evl_loop_create_task's place: does what evl_task_new does, or returns a negative code. It owns
/// arg from the start. factory_arg is the pointer it was set with.
pub type evl_task_factory = Option<
    unsafe extern "C-unwind" fn(
        event_loop: *mut evl_loop,
        step: evl_step_fn,
        arg: *mut c_void,
        arg_free: evl_free_fn,
        context: *mut evl_context,
        factory_arg: *mut c_void,
        out: *mut *mut evl_task,
    ) -> c_int,
>;

/// Makes a task: asyncio.Task(coro, loop=loop, context=context). Its first step is called in the next iteration.
///
/// All steps run in one context: context, or (NULL) a copy of the current one. The loop keeps the task until it
/// is done. out may be NULL; else *out is your reference. arg_free runs exactly once: when the task is done, on
/// close, or when this function fails. On the loop's thread. Errors: -EINVAL (NULL loop or step), EVL_ECLOSED,
/// EVL_EWRONGTHREAD, EVL_EFORKED, EVL_EPANIC, -ENOMEM.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_task_new(
    event_loop: *mut evl_loop,
    step: evl_step_fn,
    arg: *mut c_void,
    arg_free: evl_free_fn,
    context: *mut evl_context,
    out: *mut *mut evl_task,
) -> c_int {
    let arg = FreeArg::new(arg, arg_free);
    // SAFETY: pointers are live objects or NULL, as documented.
    unsafe {
        own::on_loop(event_loop, |lp| {
            let step = step.ok_or(Error::INVALID)?;
            let context = lp.capture(own::clone_arc(context));
            own::give_task(out, Task::create(lp, step, arg, context)?);
            Ok(0)
        })
    }
}

/// Makes a task by the loop's task factory, if one is set, and by evl_task_new otherwise: loop.create_task.
///
/// Ownership, thread and errors as evl_task_new, and what the factory returns.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_loop_create_task(
    event_loop: *mut evl_loop,
    step: evl_step_fn,
    arg: *mut c_void,
    arg_free: evl_free_fn,
    context: *mut evl_context,
    out: *mut *mut evl_task,
) -> c_int {
    let mut found = None;
    // SAFETY: a live loop or NULL, as documented.
    let entered = unsafe {
        own::on_loop(event_loop, |lp| {
            found = lp.task_factory();
            Ok(0)
        })
    };
    let Some(factory) = found.filter(|_| entered == 0) else {
        // SAFETY: as documented; a loop that cannot be entered answers why.
        return unsafe { evl_task_new(event_loop, step, arg, arg_free, context, out) };
    };
    // SAFETY: set by evl_loop_set_task_factory with its arg, as a function of this type.
    unsafe {
        type Function = unsafe extern "C-unwind" fn(
            *mut evl_loop,
            evl_step_fn,
            *mut c_void,
            evl_free_fn,
            *mut evl_context,
            *mut c_void,
            *mut *mut evl_task,
        ) -> c_int;
        let function = std::mem::transmute::<*const (), Function>(factory.function);
        guarded(|| function(event_loop, step, arg, arg_free, context, factory.arg.pointer(), out))
    }
}

/// Sets what evl_loop_create_task makes tasks with: loop.set_task_factory. NULL restores evl_task_new.
///
/// arg_free runs when it is replaced or the loop closed, or when this function fails. On the loop's thread.
/// Errors: -EINVAL (NULL loop), EVL_ECLOSED, EVL_EWRONGTHREAD, EVL_EFORKED.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_loop_set_task_factory(
    event_loop: *mut evl_loop,
    factory: evl_task_factory,
    arg: *mut c_void,
    arg_free: evl_free_fn,
) -> c_int {
    let arg = FreeArg::new(arg, arg_free);
    // SAFETY: a live loop or NULL, as documented.
    unsafe {
        own::on_loop(event_loop, |lp| {
            let function = factory.map(|function| function as *const ());
            lp.set_task_factory(function.map(|function| Arc::new(TaskFactory { function, arg })));
            Ok(0)
        })
    }
}

/// Reads the task factory and its arg (either output may be NULL); *factory becomes NULL when none is set.
/// loop.get_task_factory.
///
/// On the loop's thread. Errors: -EINVAL (NULL loop), EVL_ECLOSED, EVL_EWRONGTHREAD, EVL_EFORKED.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_loop_get_task_factory(
    event_loop: *mut evl_loop,
    factory: *mut evl_task_factory,
    arg: *mut *mut c_void,
) -> c_int {
    // SAFETY: a live loop or NULL; outputs are writable or NULL; the function was set as one of this type.
    unsafe {
        own::on_loop(event_loop, |lp| {
            let found = lp.task_factory();
            let function = found.as_ref().map_or(std::ptr::null(), |found| found.function);
            own::put_optional(factory, std::mem::transmute::<*const (), evl_task_factory>(function));
            own::put_optional(arg, found.map_or(std::ptr::null_mut(), |found| found.arg.pointer()));
            Ok(0)
        })
    }
}

/// Takes another reference and returns task. NULL gives NULL. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_task_ref(task: *mut evl_task) -> *mut evl_task {
    // SAFETY: a live task or NULL, as documented.
    if let Some(t) = unsafe { task.as_ref() } {
        t.future().retain();
    }
    task
}

/// Gives a reference back; NULL is ignored. A task that is not done goes on. Errors that nobody has asked for are
/// told as evl_future_unref tells them. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_task_unref(task: *mut evl_task) {
    // SAFETY: the caller owns a reference and gives it up, or passes NULL; a task begins with its future.
    release(|| unsafe { Future::release_ptr(task.cast()) });
}

/// The task as a future: the same object, borrowed. NULL for NULL. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_task_as_future(task: *mut evl_task) -> *mut evl_future {
    task.cast()
}

/// The future as a task: the same object, borrowed; NULL when it is none, and for NULL. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_future_as_task(future: *mut evl_future) -> *mut evl_task {
    // SAFETY: a live future or NULL, as documented.
    let task = unsafe { future.as_ref() }.and_then(Task::from_future);
    task.map_or(std::ptr::null_mut(), |task| std::ptr::from_ref(task).cast_mut())
}

/// The loop the task belongs to. Borrowed. NULL for NULL. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_task_get_loop(task: *const evl_task) -> *mut evl_loop {
    // SAFETY: a live task or NULL, as documented.
    unsafe { task.as_ref() }.map_or(std::ptr::null_mut(), |t| t.future().event_loop().cast_mut())
}

/// What the task awaits, or (in a step) awaited last: borrowed, valid until the step returns. NULL when there is
/// none, and for NULL. On the loop's thread.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_task_get_awaited(task: *const evl_task) -> *mut evl_future {
    // SAFETY: a live task or NULL, as documented.
    let awaited = unsafe { task.as_ref() }.and_then(Task::awaited);
    awaited.map_or(std::ptr::null_mut(), |future| std::ptr::from_ref(future).cast_mut())
}

/// Sets what the task ends with when its step returns 0 and awaits nothing more; an earlier one is released.
///
/// value_free (may be NULL) releases value with the task, or when this function fails. On the loop's thread.
/// Errors: -EINVAL (NULL), EVL_EINVALIDSTATE (done), EVL_ECLOSED, EVL_EWRONGTHREAD, EVL_EFORKED.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_task_set_result(
    task: *mut evl_task,
    value: *mut c_void,
    value_free: evl_free_fn,
) -> c_int {
    let value = FreeArg::new(value, value_free);
    // SAFETY: a live task or NULL, as documented.
    unsafe { own::on_task(task, |_, task| task.set_result(Outcome::pointer(value)).map(|()| 0)) }
}

/// evl_task_set_result with a number, which evl_future_result_int reads.
///
/// On the loop's thread. Errors as evl_task_set_result.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_task_set_result_int(task: *mut evl_task, value: i64) -> c_int {
    // SAFETY: a live task or NULL, as documented.
    unsafe { own::on_task(task, |_, task| task.set_result(Outcome::number(value)).map(|()| 0)) }
}

/// Has the task's next step be told EVL_ECANCELLED: Task.cancel. What it awaits is cancelled. Returns 1, or 0
/// when the task is done already.
///
/// The step may clean up, await more, and go on: the task is cancelled only when a step returns EVL_ECANCELLED.
/// message (may be NULL) is copied. The same as evl_future_cancel of its future. On the loop's thread. Errors:
/// -EINVAL (NULL), EVL_ECLOSED, EVL_EWRONGTHREAD, EVL_EFORKED.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_task_cancel(task: *mut evl_task, message: *const c_char) -> c_int {
    // SAFETY: a task begins with its future.
    unsafe { super::future::evl_future_cancel(task.cast(), message) }
}

/// How many cancels the task has got and not taken back: Task.cancelling. On the loop's thread. Errors: -EINVAL
/// (NULL), EVL_ECLOSED, EVL_EWRONGTHREAD, EVL_EFORKED.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_task_cancelling(task: *mut evl_task) -> c_int {
    // SAFETY: a live task or NULL, as documented.
    unsafe { own::on_task(task, |_, task| Ok(task.cancelling())) }
}

/// Takes one cancel back: Task.uncancel. Returns how many are left. It changes the count only: a step that is to
/// be told of a cancel still is. On the loop's thread. Errors as evl_task_cancelling.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_task_uncancel(task: *mut evl_task) -> c_int {
    // SAFETY: a live task or NULL, as documented.
    unsafe { own::on_task(task, |_, task| Ok(task.uncancel())) }
}

/// Names the task: Task.set_name. name is copied; NULL restores "Task-" and its number.
///
/// On the loop's thread. Errors: -EINVAL (NULL task), EVL_ECLOSED, EVL_EWRONGTHREAD, EVL_EFORKED.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_task_set_name(task: *mut evl_task, name: *const c_char) -> c_int {
    // SAFETY: a live task or NULL; name is NULL or NUL-terminated.
    unsafe {
        own::on_task(task, |_, task| {
            task.set_name(own::string(name));
            Ok(0)
        })
    }
}

/// Writes the task's name: Task.get_name.
///
/// Fills buffer with at most size bytes including the NUL and returns the whole length without it. buffer may be
/// NULL when size is 0. On the loop's thread. Errors: -EINVAL (NULL task; buffer NULL and size not 0),
/// EVL_ECLOSED, EVL_EWRONGTHREAD, EVL_EFORKED.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_task_get_name(task: *mut evl_task, buffer: *mut c_char, size: usize) -> c_int {
    // SAFETY: a live task or NULL; buffer has size writable bytes.
    unsafe { own::on_task(task, |_, task| own::fill(buffer, size, &task.name().to_string_lossy())) }
}

/// The task whose step is being called: asyncio.current_task. Borrowed; NULL when there is none. event_loop NULL:
/// the loop that runs on this thread. On the loop's thread.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_current_task(event_loop: *mut evl_loop) -> *mut evl_task {
    let mut found = std::ptr::null_mut();
    // SAFETY: a live loop or NULL, as documented.
    unsafe {
        own::on_loop(own::or_running(event_loop), |lp| {
            found = task::current(lp).cast_mut();
            Ok(0)
        })
    };
    found
}

/// Writes the tasks of the loop that are not done, at most capacity of them, and returns how many there are:
/// asyncio.all_tasks. They are borrowed: a task stays valid until it is done.
///
/// event_loop NULL: the loop that runs on this thread. On the loop's thread. Errors: -EINVAL (no loop; tasks NULL
/// and capacity not 0), EVL_ECLOSED, EVL_EWRONGTHREAD, EVL_EFORKED.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_all_tasks(
    event_loop: *mut evl_loop,
    tasks: *mut *mut evl_task,
    capacity: usize,
) -> c_int {
    // SAFETY: a live loop or NULL; tasks has room for capacity pointers.
    unsafe { own::on_loop(own::or_running(event_loop), |lp| own::fill_pointers(tasks, capacity, &task::all(lp))) }
}

/// Runs the loop until the future is done: loop.run_until_complete. Returns 0 when it has a result, and otherwise
/// its error's code, or EVL_ECANCELLED; evl_future_result reads the result, evl_error_detail an error's message.
///
/// Threads and further errors as evl_loop_run_forever; EVL_ESTOPPED (the loop was stopped before), -EINVAL (NULL;
/// the future belongs to another loop).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_loop_run_until_complete(
    event_loop: *mut evl_loop,
    future: *mut evl_future,
) -> c_int {
    // SAFETY: a live loop or NULL, a live future or NULL.
    guard(|| unsafe { crate::task::runner::run_until_complete(own::borrow(event_loop)?, own::borrow(future)?) })
}
