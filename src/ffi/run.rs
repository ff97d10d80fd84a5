//! Running a main task from beginning to end (`asyncio.run`).

use std::ffi::{c_int, c_void};

use super::guard::guard;
use super::handle::evl_free_fn;
use super::options;
use super::task::evl_step_fn;
use crate::engine::callback::FreeArg;
use crate::error::Error;
use crate::task::runner::{self, RunOptions};

/// Flags of evl_run_options.
#[repr(C)]
#[derive(Clone, Copy)]
pub enum evl_run_flag {
    /// Run the loop in debug mode.
    EVL_RUN_DEBUG = 1,
    /// The first SIGINT (Ctrl-C) cancels the main task; a second one ends the run without waiting for it. evl_run
    /// then returns -EINTR.
    EVL_RUN_SIGINT = 2,
}

/// Options of evl_run. Initialise with evl_run_options_init; a field that is zero has its default.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct evl_run_options {
    /// sizeof(evl_run_options) as the caller knows it.
    pub size: u32,
    /// evl_run_flag members, or'ed.
    pub flags: u32,
}

/// Fills options with the defaults. size is sizeof *options.
///
/// Any thread. Errors: -EINVAL (NULL), EVL_EOPTIONS (size is smaller than the size field itself, or larger than
/// this library knows).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_run_options_init(options: *mut evl_run_options, size: u32) -> c_int {
    // SAFETY: the caller passes size writable bytes, or NULL.
    guard(|| unsafe { options::init(options, size) })
}

/// Runs a main task from beginning to end: asyncio.run. Makes a loop by the policy and sets it as this thread's,
/// runs the task that step makes, then cancels the tasks that are left and waits for them, runs the shutdown
/// hooks, ends the default executor (waiting up to five minutes for its jobs), and closes the loop.
///
/// Returns 0 when the main task has ended well, and otherwise its error's code (evl_error_detail has its message), EVL_ECANCELLED, or -EINTR (see
/// EVL_RUN_SIGINT). The step finds its loop by evl_task_get_loop. options may be NULL. arg_free runs exactly once,
/// when the task is done or when this function fails. On a thread that runs no loop. Errors of its own: -EINVAL
/// (NULL step), EVL_EOPTIONS, EVL_ERUNNING (a loop runs on this thread), EVL_EEXIT (a callback called
/// evl_raise_exit: who has referred to the loop reads evl_loop_exit_code), and what the policy and the poller say.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_run(
    step: evl_step_fn,
    arg: *mut c_void,
    arg_free: evl_free_fn,
    options: *const evl_run_options,
) -> c_int {
    let arg = FreeArg::new(arg, arg_free);
    guard(|| {
        let step = step.ok_or(Error::INVALID)?;
        // SAFETY: options is NULL or begins with its size.
        let given: evl_run_options = unsafe { options::read(options) }?;
        if given.flags & !3 != 0 {
            return Err(Error::OPTIONS);
        }
        let has = |flag: evl_run_flag| given.flags & flag as u32 != 0;
        let options =
            RunOptions { debug: has(evl_run_flag::EVL_RUN_DEBUG), handle_sigint: has(evl_run_flag::EVL_RUN_SIGINT) };
        runner::run(step, arg, &options)
    })
}
