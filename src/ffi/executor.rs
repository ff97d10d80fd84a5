//! Executors: jobs that run elsewhere (`concurrent.futures.Executor`, `loop.run_in_executor`).

use std::ffi::{c_char, c_int, c_void};

use super::event_loop::evl_loop;
use super::future::evl_future;
use super::guard::{guard, release};
use super::handle::evl_free_fn;
use super::{options, own};
use crate::engine::callback::FreeArg;
use crate::error::Error;
use crate::task::executor::{self, Executor};
use crate::task::job::{Call, Job};
use crate::task::pool;

/// Runs jobs elsewhere, as concurrent.futures.Executor. Opaque; reference counted.
pub type evl_executor = Executor;
/// A job in the hands of an executor of the host's. Opaque; given up by evl_job_run or evl_job_discard.
pub type evl_job = Job;

/// What an executor runs. Returns the future's result. It may call evl_raise, evl_raise_object; no loop runs on
/// this thread.
pub type evl_job_fn = Option<unsafe extern "C-unwind" fn(arg: *mut c_void) -> *mut c_void>;

/// How evl_executor_shutdown shuts down.
#[repr(C)]
#[derive(Clone, Copy)]
pub enum evl_shutdown_flag {
    /// Blocks until what waits has run and the threads have ended (wait=True).
    EVL_SHUTDOWN_WAIT = 1,
    /// What waits is not run: its futures are cancelled (cancel_futures=True).
    EVL_SHUTDOWN_CANCEL = 2,
}

/// How a pool of threads is made.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct evl_pool_options {
    /// sizeof(evl_pool_options) as the caller knows it.
    pub size: u32,
    /// How many threads there may be; 0: as many as the process may use processors and 4 more, at most 32.
    pub max_threads: u32,
    /// What its threads are called, where the system has names for them (NULL: "evl").
    pub thread_name: *const c_char,
    /// How long a thread without a job looks for the next one before it sleeps, as long as that pays: being woken
    /// takes longer than most jobs. 0: 25 microseconds; negative: not at all. On one processor nobody looks.
    pub spin_ns: i64,
}

/// The functions of an executor of your own. They are called with no lock held.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct evl_executor_vtable {
    /// sizeof(evl_executor_vtable) as the caller knows it.
    pub size: u32,
    /// Always zero.
    pub reserved: u32,
    /// Executor.submit: takes job, has evl_job_run called for it on any thread (also this one, at once), and
    /// returns 0. A negative code refuses it: job is evl's again, and evl_loop_run_in_executor returns the code.
    /// Called on the thread of the loop whose job it is. Must not be NULL.
    pub submit: Option<unsafe extern "C-unwind" fn(arg: *mut c_void, job: *mut evl_job) -> c_int>,
    /// Executor.shutdown: wait tells to block until no job is left, cancel to discard those that have not
    /// started. May be called more than once, from any thread. May be NULL.
    pub shutdown: Option<unsafe extern "C-unwind" fn(arg: *mut c_void, wait: c_int, cancel: c_int)>,
}

/// Fills options with the defaults. size is sizeof(evl_pool_options) as the caller knows it.
///
/// Any thread. Errors: -EINVAL (NULL), EVL_EOPTIONS (a size that this version does not know).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_pool_options_init(options: *mut evl_pool_options, size: u32) -> c_int {
    // SAFETY: options has size writable bytes or is NULL; zeros are a valid struct.
    guard(|| unsafe { options::init(options, size) })
}

/// Makes an executor that is a pool of threads: concurrent.futures.ThreadPoolExecutor. options NULL: the
/// defaults.
///
/// A thread is started when a job finds none that is idle; its signals are all blocked. *out is yours (out must
/// not be NULL). When the last reference goes, what waits is still run, and the threads end after that; no call
/// waits for them but evl_executor_shutdown. Any thread. Errors: -EINVAL (out is NULL), EVL_EOPTIONS.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_executor_new_pool(
    options: *const evl_pool_options,
    out: *mut *mut evl_executor,
) -> c_int {
    // SAFETY: options begins with its size or is NULL; its name is a string or NULL; out is writable or NULL.
    guard(|| unsafe {
        own::required(out)?;
        let given: evl_pool_options = options::read(options)?;
        let mut wanted = pool::Options { max_threads: given.max_threads as usize, ..pool::Options::default() };
        if let Some(name) = own::string(given.thread_name) {
            wanted.name = name;
        }
        if given.spin_ns != 0 {
            wanted.spin = given.spin_ns.max(0);
        }
        own::give_arc(out, Executor::new_pool(wanted));
        Ok(0)
    })
}

/// Makes an executor out of functions of yours; the table is copied. arg is passed to them.
///
/// arg_free runs with the executor's last reference, or when this function fails. *out is yours. Any thread.
/// Errors: -EINVAL (NULL vtable, submit or out), EVL_EOPTIONS (the table's size).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_executor_new(
    vtable: *const evl_executor_vtable,
    arg: *mut c_void,
    arg_free: evl_free_fn,
    out: *mut *mut evl_executor,
) -> c_int {
    let arg = FreeArg::new(arg, arg_free);
    // SAFETY: vtable begins with its size or is NULL; out is writable or NULL.
    guard(|| unsafe {
        own::required(out)?;
        own::required(vtable.cast_mut())?;
        let table: evl_executor_vtable = options::read(vtable)?;
        if table.reserved != 0 {
            return Err(Error::OPTIONS);
        }
        own::give_arc(out, Executor::new_host(table.submit.ok_or(Error::INVALID)?, table.shutdown, arg));
        Ok(0)
    })
}

/// Takes another reference and returns executor. NULL gives NULL. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_executor_ref(executor: *mut evl_executor) -> *mut evl_executor {
    // SAFETY: a live executor or NULL, as documented.
    unsafe { own::retain_arc(executor) }
}

/// Gives a reference back; NULL is ignored. It waits for nothing. Any thread, also in a job.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_executor_unref(executor: *mut evl_executor) {
    // SAFETY: the caller owns a reference and gives it up, or passes NULL.
    release(|| unsafe { own::release_arc(executor) });
}

/// Keeps a pointer of yours with the executor; the one before is released first. data_free (may be NULL) runs
/// when it is replaced, with the last reference, or when this function fails.
///
/// Any thread, one at a time. Errors: -EINVAL (NULL).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_executor_set_data(
    executor: *mut evl_executor,
    data: *mut c_void,
    data_free: evl_free_fn,
) -> c_int {
    let data = FreeArg::new(data, data_free);
    // SAFETY: a live executor or NULL, as documented.
    guard(|| unsafe {
        own::borrow(executor)?.set_data(data);
        Ok(0)
    })
}

/// The pointer kept by evl_executor_set_data, or NULL. NULL gives NULL. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_executor_get_data(executor: *const evl_executor) -> *mut c_void {
    // SAFETY: a live executor or NULL, as documented.
    unsafe { executor.as_ref() }.map_or(std::ptr::null_mut(), Executor::data)
}

/// Has the executor take no more jobs: Executor.shutdown. flags are of evl_shutdown_flag; without any, what waits
/// is still run, and this returns at once. May be called again, with other flags.
///
/// Jobs that it waits for must not need the thread that waits. Any thread. Errors: -EINVAL (NULL), EVL_EOPTIONS
/// (unknown flags), -EDEADLK (a job of a pool waits for its own pool), EVL_EFORKED (the pool's threads are
/// another process's).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_executor_shutdown(executor: *mut evl_executor, flags: u32) -> c_int {
    let (wait, cancel) = (evl_shutdown_flag::EVL_SHUTDOWN_WAIT as u32, evl_shutdown_flag::EVL_SHUTDOWN_CANCEL as u32);
    // SAFETY: a live executor or NULL, as documented.
    guard(|| unsafe {
        if flags & !(wait | cancel) != 0 {
            return Err(Error::OPTIONS);
        }
        own::borrow(executor)?.shut_down(flags & wait != 0, flags & cancel != 0).map(|()| 0)
    })
}

/// Runs a job that was given to an executor of yours, on this thread, and gives it up. Returns 1, or 0 when it
/// was cancelled, or its loop closed, and is not run any more.
///
/// Exactly one of evl_job_run and evl_job_discard is called, once, for every job. Any thread. Errors: -EINVAL
/// (NULL).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_job_run(job: *mut evl_job) -> c_int {
    guard(|| Ok(c_int::from(executor::job_from(job)?.run())))
}

/// Gives a job up that will not be run: its future is cancelled. NULL is ignored. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_job_discard(job: *mut evl_job) {
    release(|| {
        if let Ok(job) = executor::job_from(job) {
            job.discard();
        }
    });
}

/// Has job(arg) called on a thread of executor: loop.run_in_executor. executor NULL: the loop's default one, a
/// pool that is made when it is first needed.
///
/// What job returns is the future's result, which result_free (may be NULL) releases with the future. evl_raise
/// in the job fails the future (EVL_ECANCELLED: cancels it), evl_raise_exit fails it with EVL_EEXIT; the result
/// is released then. Context variables are not carried along. A job that has not started is withdrawn by
/// evl_future_cancel at once; one that runs cannot be: the future is done when it has returned. arg_free
/// (may be NULL) runs when the job has returned or is withdrawn, on the loop's thread, or on the job's when the
/// loop is closed by then, or when this function fails. out may be NULL.
///
/// Closing the loop withdraws what has not started, and waits for nothing; a job that runs should not hold what
/// goes with the loop. While jobs are under way, a loop with nothing to do looks for results for up to 25
/// microseconds before it sleeps, as long as that pays. On the loop's thread. Errors: -EINVAL (NULL loop or job),
/// EVL_ESHUTDOWN (the executor, or the default one), what an executor's submit returns, -EAGAIN (no thread could
/// be started, and there is none), EVL_ECLOSED, EVL_EWRONGTHREAD, EVL_EFORKED (the loop, or the executor's threads,
/// are another process's).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_loop_run_in_executor(
    event_loop: *mut evl_loop,
    executor: *mut evl_executor,
    job: evl_job_fn,
    arg: *mut c_void,
    arg_free: evl_free_fn,
    result_free: evl_free_fn,
    out: *mut *mut evl_future,
) -> c_int {
    let arg = FreeArg::new(arg, arg_free);
    // SAFETY: a live loop or NULL, a live executor or NULL; out is writable or NULL.
    unsafe {
        own::on_loop(event_loop, |lp| {
            let call = Call::Host(job.ok_or(Error::INVALID)?, result_free);
            own::give_future(out, executor::run_host_job(lp, executor.as_ref(), call, arg)?);
            Ok(0)
        })
    }
}

/// Makes executor the loop's default one: loop.set_default_executor. The loop takes a reference of its own, and
/// shuts the executor down, without waiting, when it is closed.
///
/// The one before is not shut down. On the loop's thread. Errors: -EINVAL (NULL), EVL_ECLOSED, EVL_EWRONGTHREAD,
/// EVL_EFORKED.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_loop_set_default_executor(
    event_loop: *mut evl_loop,
    executor: *mut evl_executor,
) -> c_int {
    // SAFETY: a live loop or NULL, a live executor or NULL.
    unsafe {
        own::on_loop(event_loop, |lp| {
            executor::set_default(lp, own::clone_arc(executor).ok_or(Error::INVALID)?);
            Ok(0)
        })
    }
}

/// Shuts the default executor down: loop.shutdown_default_executor. From now on it takes no jobs (EVL_ESHUTDOWN);
/// what waits is still run. The future is done when all its threads have ended; it fails with -ETIMEDOUT when
/// that takes longer than timeout_ns, and they go on by themselves.
///
/// A thread waits for them meanwhile. out may be NULL. On the loop's thread. Errors: -EINVAL (NULL loop; negative
/// timeout), EVL_ECLOSED, EVL_EWRONGTHREAD, EVL_EFORKED.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_loop_shutdown_default_executor(
    event_loop: *mut evl_loop,
    timeout_ns: i64,
    out: *mut *mut evl_future,
) -> c_int {
    // SAFETY: a live loop or NULL; out is writable or NULL.
    unsafe {
        own::on_loop(event_loop, |lp| {
            own::give_future(out, executor::shut_default_down(lp, timeout_ns)?);
            Ok(0)
        })
    }
}
