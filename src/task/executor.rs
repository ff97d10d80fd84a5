//! Executors (`concurrent.futures.Executor`): what runs jobs elsewhere. A pool of threads (`pool`), or functions of the host's.

use std::cell::Cell;
use std::ffi::{c_int, c_void};
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};

use super::future::{Class, FutureRef, Outcome};
use super::job::{Call, HOST_JOB, Job, JobRef};
use super::operation::{Operation, OperationRef, Work};
use super::pool::{self, Core, Pool};
use super::worker;
use crate::engine::callback::{FreeArg, guarded};
use crate::engine::event_loop::{EventLoop, Owned};
use crate::engine::inbox;
use crate::engine::operations::DefaultExecutor;
use crate::error::{Error, Result};

/// A function of the host that takes a job.
pub type SubmitFn = unsafe extern "C-unwind" fn(arg: *mut c_void, job: *mut Job) -> c_int;
/// A function of the host that shuts its executor down.
pub type ShutdownFn = unsafe extern "C-unwind" fn(arg: *mut c_void, wait: c_int, cancel: c_int);

/// An executor.
pub struct Executor {
    kind: Kind,
    data: AtomicPtr<c_void>,
    /// What releases `data`: a box, or NULL.
    data_free: AtomicPtr<FreeArg>,
}

enum Kind {
    /// `is_own`: a loop made it, for want of another one.
    Pool {
        pool: Pool,
        is_own: bool,
    },
    Host {
        submit: SubmitFn,
        shutdown: Option<ShutdownFn>,
        arg: FreeArg,
        is_shut: AtomicBool,
    },
}

impl Executor {
    fn create(kind: Kind) -> Arc<Executor> {
        Arc::new(Executor { kind, data: AtomicPtr::new(ptr::null_mut()), data_free: AtomicPtr::new(ptr::null_mut()) })
    }

    /// `concurrent.futures.ThreadPoolExecutor`.
    pub(crate) fn new_pool(options: pool::Options) -> Arc<Executor> {
        Executor::create(Kind::Pool { pool: Pool::create(options), is_own: false })
    }

    pub(crate) fn new_host(submit: SubmitFn, shutdown: Option<ShutdownFn>, arg: FreeArg) -> Arc<Executor> {
        Executor::create(Kind::Host { submit, shutdown, arg, is_shut: AtomicBool::new(false) })
    }

    /// `Executor.shutdown`.
    pub(crate) fn shut_down(&self, wait: bool, cancel: bool) -> Result<()> {
        match &self.kind {
            Kind::Pool { pool, .. } => pool.core().shut_down(wait, cancel),
            Kind::Host { shutdown, arg, is_shut, .. } => {
                is_shut.store(true, Ordering::Release);
                if let Some(shutdown) = shutdown {
                    // SAFETY: the host gave the function with its arg, to be called from any thread.
                    guarded(|| unsafe { shutdown(arg.pointer(), c_int::from(wait), c_int::from(cancel)) });
                }
                Ok(())
            }
        }
    }

    /// A pool that a loop made for itself, and whose threads are another process's.
    fn is_lost(&self) -> bool {
        matches!(&self.kind, Kind::Pool { pool, is_own: true } if pool.core().is_forked())
    }

    /// Whether there is nothing to wait for after [`Executor::shut_down`].
    fn has_ended_when_shut(&self) -> bool {
        matches!(&self.kind, Kind::Pool { pool, .. } if pool.core().has_no_threads())
    }

    pub(crate) fn data(&self) -> *mut c_void {
        self.data.load(Ordering::Acquire)
    }

    pub(crate) fn set_data(&self, data: FreeArg) {
        self.data.store(data.pointer(), Ordering::Release);
        release_data(self.data_free.swap(Box::into_raw(Box::new(data)), Ordering::AcqRel));
    }

    /// Has a job run. `arg` is released when the job has run, is withdrawn, or was refused.
    fn run(&self, lp: &Owned, class: &'static Class, call: Call, arg: FreeArg) -> Result<FutureRef> {
        match &self.kind {
            Kind::Pool { pool, .. } => run_on_pool(lp, pool.core(), class, call, arg),
            Kind::Host { submit, arg: host, is_shut, .. } => {
                if is_shut.load(Ordering::Acquire) {
                    return Err(Error::SHUT_DOWN.detail(|| "the executor was shut down".into()));
                }
                let (future, job) = Job::begin(lp, class, call, arg, None);
                // SAFETY: the host gave the function with its arg; it takes the job's reference over when it answers 0.
                let answer = guarded(|| unsafe { submit(host.pointer(), job.into_raw()) });
                // One that was run by then is no failure, whatever the answer says.
                if answer < 0 && Job::take_back(lp, &future) {
                    return Err(Error::from_code(answer));
                }
                Ok(future)
            }
        }
    }
}

impl Drop for Executor {
    fn drop(&mut self) {
        release_data(*self.data_free.get_mut());
    }
}

fn release_data(data: *mut FreeArg) {
    if !data.is_null() {
        // SAFETY: made by `set_data`, and taken out once.
        drop(unsafe { Box::from_raw(data) });
    }
}

fn run_on_pool(lp: &Owned, core: &Arc<Core>, class: &'static Class, call: Call, arg: FreeArg) -> Result<FutureRef> {
    let (future, job) = Job::begin(lp, class, call, arg, Some(core.clone()));
    // SAFETY: the future keeps the job.
    if let Err((error, job)) = unsafe { core.submit(job) } {
        std::mem::forget(job);
        Job::take_back(lp, &future);
        return Err(error);
    }
    Ok(future)
}

/// The pool of the loop's executor, where nothing but to take a job is to be done with it: no code of the host runs meanwhile.
fn own_pool<'a>(lp: &'a Owned) -> Option<&'a Arc<Core>> {
    let (executor, is_shut) = lp.with(|state| (state.operations.executor, state.operations.executor_is_shut));
    // SAFETY: the loop has a reference.
    match unsafe { &(*executor?.object.cast::<Executor>()).kind } {
        Kind::Pool { pool, .. } if !is_shut && !pool.core().is_forked() => Some(pool.core()),
        _ => None,
    }
}

/// `loop.run_in_executor`.
pub(crate) fn run_in_executor(
    lp: &Owned,
    executor: Option<&Executor>,
    class: &'static Class,
    call: Call,
    arg: FreeArg,
) -> Result<FutureRef> {
    match executor {
        Some(executor) => executor.run(lp, class, call, arg),
        // The loop's own reference may go while the host takes the job.
        None => {
            if let Some(core) = own_pool(lp) {
                return run_on_pool(lp, core, class, call, arg);
            }
            default_executor(lp)?.run(lp, class, call, arg)
        }
    }
}

/// [`run_in_executor`] of a function of the host's.
pub(crate) fn run_host_job(lp: &Owned, executor: Option<&Executor>, call: Call, arg: FreeArg) -> Result<FutureRef> {
    run_in_executor(lp, executor, &HOST_JOB, call, arg)
}

/// The loop's executor, if there is one already.
fn current(lp: &Owned) -> Option<Arc<Executor>> {
    let object = lp.with(|state| state.operations.executor)?.object.cast::<Executor>();
    // SAFETY: the loop has a reference, which came from an Arc.
    Some(unsafe {
        Arc::increment_strong_count(object);
        Arc::from_raw(object)
    })
}

/// The loop's executor, which is made when it is first asked for.
fn default_executor(lp: &Owned) -> Result<Arc<Executor>> {
    if lp.with(|state| state.operations.executor_is_shut) {
        return Err(Error::SHUT_DOWN.detail(|| "the default executor was shut down".into()));
    }
    if let Some(executor) = current(lp).filter(|executor| !executor.is_lost()) {
        return Ok(executor);
    }
    let pool = Pool::create(pool::Options::default());
    let made = Executor::create(Kind::Pool { pool, is_own: true });
    keep(lp, made.clone());
    Ok(made)
}

fn keep(lp: &Owned, executor: Arc<Executor>) {
    let new = DefaultExecutor { object: Arc::into_raw(executor).cast(), close };
    if let Some(old) = lp.with(|state| state.operations.executor.replace(new)) {
        // SAFETY: the loop's reference, which is given up. May call the host.
        drop(unsafe { Arc::from_raw(old.object.cast::<Executor>()) });
    }
}

/// The loop is closed.
///
/// # Safety
/// `object` is an executor, and a reference that is given up.
unsafe fn close(object: *const ()) {
    // SAFETY: by this function's contract.
    let executor = unsafe { Arc::from_raw(object.cast::<Executor>()) };
    let _ = executor.shut_down(false, false);
}

/// `loop.set_default_executor`.
pub(crate) fn set_default(lp: &Owned, executor: Arc<Executor>) {
    keep(lp, executor);
}

/// What `shutdown_default_executor` waits with: a thread that waits for the executor's.
struct Shutdown {
    thread: Cell<Option<libc::pthread_t>>,
}

/// What that thread is given.
struct Wait {
    executor: Arc<Executor>,
    operation: OperationRef<Shutdown>,
}

impl Work for Shutdown {
    const NAME: &'static str = "Shutdown";

    fn cancel(_: &Owned, _: &Operation<Self>) -> bool {
        // The thread goes on by itself.
        true
    }
}

impl Drop for Shutdown {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            // SAFETY: nobody has joined it.
            unsafe { libc::pthread_detach(thread) };
        }
    }
}

/// `loop.shutdown_default_executor`.
pub(crate) fn shut_default_down(lp: &Owned, timeout: i64) -> Result<FutureRef> {
    if timeout < 0 {
        return Err(Error::INVALID);
    }
    lp.with(|state| state.operations.executor_is_shut = true);
    let operation = Operation::begin(lp, Shutdown { thread: Cell::new(None) });
    let Some(executor) = current(lp).filter(|executor| !executor.is_lost()) else {
        operation.end(lp, Outcome::nothing())?;
        return Ok(operation.into_future());
    };
    if executor.has_ended_when_shut() {
        let ended = executor.shut_down(false, false).map_or_else(Outcome::error, |()| Outcome::nothing());
        operation.end(lp, ended)?;
        return Ok(operation.into_future());
    }
    let kept_executor = executor.clone();
    let kept = OperationRef::new(&operation);
    let wait = Box::into_raw(Box::new(Wait { executor, operation: kept }));
    match worker::start_thread(wait_for_end, wait.cast()) {
        Ok(thread) => {
            operation.with(|work| work.thread.set(Some(thread)));
            operation.future().set_timeout(lp, timeout)?;
        }
        Err(error) => {
            // SAFETY: the thread was not started.
            drop(unsafe { Box::from_raw(wait) });
            // Nobody can wait for it, but it takes no more jobs.
            let _ = kept_executor.shut_down(false, false);
            operation.end(lp, Outcome::error(error))?;
        }
    }
    Ok(operation.into_future())
}

/// What the thread does.
extern "C" fn wait_for_end(wait: *mut c_void) -> *mut c_void {
    // SAFETY: the thread was given it.
    let Wait { executor, operation } = *unsafe { Box::from_raw(wait.cast::<Wait>()) };
    // What the host's function throws is found here, and ends the process on its way.
    let shut = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| executor.shut_down(true, false)));
    drop((shut, executor));
    let event_loop: *const EventLoop = operation.future().event_loop();
    let arg = FreeArg::new(operation.into_pointer(), Some(release));
    // SAFETY: the operation keeps its loop's memory. A loop that is closed does not want to know.
    let _ = inbox::send(unsafe { &*event_loop }, has_ended, arg);
    ptr::null_mut()
}

unsafe extern "C-unwind" fn release(operation: *mut c_void) {
    // SAFETY: the message's reference, which is given up.
    drop(unsafe { OperationRef::<Shutdown>::from_pointer(operation) });
}

/// On the loop's thread: the executor's threads have ended, and the one that waited for them is about to.
unsafe extern "C-unwind" fn has_ended(operation: *mut c_void) {
    // SAFETY: the message has a reference, which is released after this.
    let operation = std::mem::ManuallyDrop::new(unsafe { OperationRef::<Shutdown>::from_pointer(operation) });
    // SAFETY: the operation keeps its loop's memory.
    let Ok(lp) = (unsafe { &*operation.future().event_loop() }).enter() else { return };
    if let Some(Some(thread)) = operation.with(|work| work.thread.take()) {
        // SAFETY: nobody else joins it.
        unsafe { libc::pthread_join(thread, ptr::null_mut()) };
    }
    let _ = operation.end(&lp, Outcome::nothing());
}

/// A job of an executor of the host's, in its hands.
pub(crate) fn job_from(job: *mut Job) -> Result<JobRef> {
    if job.is_null() {
        return Err(Error::INVALID);
    }
    // SAFETY: the host was given the reference, and gives it up.
    Ok(unsafe { JobRef::from_raw(job) })
}
