//! Running until something is done (`loop.run_until_complete`, `asyncio.run`).

use std::ffi::{c_int, c_void};

use super::executor;
use super::future::{Future, FutureRef};
use super::gather::gather;
use super::task::{self, StepFn, Task};
use crate::engine::callback::{Callback, FreeArg};
use crate::engine::context::{Captured, Word};
use crate::engine::debug;
use crate::engine::event_loop::{EventLoop, Owned};
use crate::engine::exception::{self, Report};
use crate::error::{Error, Result};
use crate::policy;

/// Stops the loop: the future that the run with this number is for is done. A run that ended before has left its call behind.
unsafe extern "C-unwind" fn stop(future: *mut Future, run: *mut c_void) {
    // SAFETY: it is alive while its callbacks are called.
    if let Some(lp) = super::combine::entered(unsafe { &*future })
        && lp.with(|state| state.operations.run) == run.addr()
    {
        lp.stop();
    }
}

/// `loop.run_until_complete`: 0, or what the future failed with.
pub(crate) fn run_until_complete(event_loop: &EventLoop, future: &Future) -> Result<c_int> {
    // One that the caller has borrowed from the loop may go when it is done.
    let future = FutureRef::new(future);
    run_until_done(event_loop, &future)?;
    future.check().map(|()| 0)
}

fn run_until_done(event_loop: &EventLoop, future: &Future) -> Result<()> {
    if event_loop.is_running() {
        return Err(Error::RUNNING);
    }
    let kept = FutureRef::new(future);
    let run: *mut c_void = {
        let lp = event_loop.enter()?;
        super::combine::check_loop(&lp, &kept)?;
        let number = lp.with(|state| {
            state.operations.run += 1;
            state.operations.run
        });
        let run = std::ptr::without_provenance_mut(number);
        kept.add_done_callback(&lp, stop, FreeArg::new(run, None), Captured::new(Word::NONE))?;
        run
    };
    let ran = event_loop.run_forever();
    if let Ok(lp) = event_loop.enter() {
        lp.with(|state| state.operations.run += 1);
        kept.remove_done_callback(stop, run);
    }
    ran?;
    if kept.is_done() { Ok(()) } else { Err(Error::STOPPED) }
}

/// How `evl_run` runs.
pub struct RunOptions {
    /// Debug mode.
    pub debug: bool,
    /// The first SIGINT cancels the main task; a second one ends the run.
    pub handle_sigint: bool,
}

/// What a SIGINT does.
struct Interrupt {
    task: FutureRef,
    count: u32,
}

unsafe extern "C-unwind" fn interrupted(arg: *mut c_void) {
    // SAFETY: the handler owns it, and only the loop's thread touches it.
    let interrupt = unsafe { &mut *arg.cast::<Interrupt>() };
    interrupt.count += 1;
    let Some(lp) = super::combine::entered(&interrupt.task) else { return };
    if interrupt.count == 1 {
        let _ = interrupt.task.cancel(&lp, Error::CANCELLED, None);
    } else {
        lp.stop();
    }
}

/// `asyncio.run`: 0, or what the main task failed with; -EINTR when SIGINT ended it.
pub(crate) fn run(step: StepFn, arg: FreeArg, options: &RunOptions) -> Result<c_int> {
    if crate::engine::thread::current().runs.get() {
        return Err(Error::RUNNING.detail(|| "evl_run cannot be called from a running loop".into()));
    }
    let policy = policy::current();
    let made = policy.new_loop()?;
    // SAFETY: the reference keeps it.
    let event_loop = unsafe { &*made.as_ptr() };
    let _ = policy.set_loop(Some(event_loop));
    let result = run_main(event_loop, step, arg, options);
    let exit_code = event_loop.exit_code();
    let ended = shut_down(event_loop);
    if result == Err(Error::EXIT)
        && let Ok(lp) = event_loop.enter()
    {
        // What the main run ended with, not the runs after it.
        lp.set_exit_code(exit_code);
    }
    let _ = policy.set_loop(None);
    let closed = event_loop.close();
    result.and_then(|code| ended.map(|()| code)).and_then(|code| closed.map(|()| code))
}

fn run_main(event_loop: &EventLoop, step: StepFn, arg: FreeArg, options: &RunOptions) -> Result<c_int> {
    let main = {
        let lp = event_loop.enter()?;
        if options.debug {
            lp.set_debug(true);
        }
        let context = lp.capture(None);
        // SAFETY: the reference is new; a task begins with its future.
        unsafe { FutureRef::from_raw(Task::create(&lp, step, arg, context)?.cast()) }
    };
    let mut interrupt = Interrupt { task: FutureRef::new(&main), count: 0 };
    if options.handle_sigint {
        let lp = event_loop.enter()?;
        let arg = FreeArg::new((&raw mut interrupt).cast(), None);
        let callback = Callback { function: Some(interrupted), arg };
        // Another loop's handler, or a host's own on another thread, stays in charge.
        let _ = lp.add_signal_handler(libc::SIGINT, callback, Captured::new(Word::NONE), false);
    }
    let ran = run_until_done(event_loop, &main);
    if options.handle_sigint
        && let Ok(lp) = event_loop.enter()
    {
        let _ = lp.remove_signal_handler(libc::SIGINT);
    }
    // It was written by the handler.
    let count = std::hint::black_box(&interrupt).count;
    match ran {
        Ok(()) if count > 0 && main.is_cancelled() => Err(Error::INTERRUPTED),
        Ok(()) => main.check().map(|()| 0),
        Err(Error::STOPPED) if count > 1 => Err(Error::INTERRUPTED),
        Err(error) => Err(error),
    }
}

/// How long the end of a run waits for jobs of the default executor (`asyncio.constants.THREAD_JOIN_TIMEOUT`).
const EXECUTOR_TIMEOUT: i64 = 300_000_000_000;

/// Cancels the tasks that are left, runs the shutdown hooks, ends the default executor.
fn shut_down(event_loop: &EventLoop) -> Result<()> {
    if event_loop.check_open().is_err() {
        return Ok(());
    }
    cancel_all_tasks(event_loop)?;
    event_loop.run_shutdown()?;
    let executor = {
        let lp = event_loop.enter()?;
        executor::shut_default_down(&lp, EXECUTOR_TIMEOUT)?
    };
    run_until_done(event_loop, &executor)?;
    if executor.has_failed() {
        // Without a thread that waits for the executor's, its jobs can be waited for.
        let in_time = executor.code() != Error::TIMED_OUT.code() && wait_for_jobs(event_loop)?;
        if in_time {
            return Ok(());
        }
        let lp = event_loop.enter()?;
        lp.log(debug::WARNING, "the default executor's jobs did not end in time; they are left to themselves");
        executor.mark_retrieved();
    }
    Ok(())
}

/// Runs the loop until no job is under way; false: that takes too long.
fn wait_for_jobs(event_loop: &EventLoop) -> Result<bool> {
    let end = event_loop.time().saturating_add(EXECUTOR_TIMEOUT);
    while event_loop.enter()?.with(|state| state.operations.jobs) > 0 {
        let left = end.saturating_sub(event_loop.time());
        if left <= 0 {
            return Ok(false);
        }
        event_loop.run_once(left)?;
    }
    Ok(true)
}

/// `asyncio.runners._cancel_all_tasks`.
fn cancel_all_tasks(event_loop: &EventLoop) -> Result<()> {
    let tasks: Vec<FutureRef> = {
        let lp = event_loop.enter()?;
        // SAFETY: the loop keeps a task that is not done.
        task::all(&lp).into_iter().map(|task| FutureRef::new(unsafe { (*task).future() })).collect()
    };
    if tasks.is_empty() {
        return Ok(());
    }
    let all = {
        let lp = event_loop.enter()?;
        for task in &tasks {
            task.cancel(&lp, Error::CANCELLED, None)?;
        }
        let futures: Vec<&Future> = tasks.iter().map(|task| &**task).collect();
        gather(&lp, &futures, true)?
    };
    run_until_done(event_loop, &all)?;
    let lp = event_loop.enter()?;
    for task in &tasks {
        if task.has_failed() {
            report(&lp, task)?;
        }
    }
    Ok(())
}

/// Tells the exception handler of a task that failed while it was being cancelled.
fn report(lp: &Owned, task: &Future) -> Result<()> {
    let mut report =
        Report::new(Error::from_code(task.code()), "unhandled error during evl_run() shutdown", std::ptr::null());
    report.future = std::ptr::from_ref(task).cast();
    report.object = task.error_object();
    exception::call_handler(lp, &report)
}
