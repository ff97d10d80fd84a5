//! A pool of threads, which are started one by one when a job finds none that is idle.
//!
//! At most one thread is *on watch*: it waits for the next job, looking for it for a short time before it sleeps, where that
//! pays. When it takes a job and more wait, it brings the next one to the watch, by waking or starting it. So a job costs its
//! sender no more than a push, unless nobody is on watch. Who comes to the watch and finds the others so quick that it would only be in
//! their way (more than a job in a microsecond) keeps out of it, and looks again every 50 microseconds.
//!
//! The lock is held for a few instructions and across fork, so that a child can give up what the pool holds; the threads are the parent's.

use std::ffi::{CString, c_int, c_void};
use std::mem::MaybeUninit;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Once, PoisonError};
use std::thread::Thread;
use std::time::Duration;

use parking_lot::lock_api::MutexGuard;
use slab::Slab;

use super::job::{Job, JobRef};
use crate::engine::clock;
use crate::engine::patience::{self, Patience};
use crate::error::{Error, Result};
use crate::lock::{Lock, Spin};

/// Who is on watch observes the others for so many nanoseconds.
const OBSERVED: i64 = 4_000;
/// So many jobs taken meanwhile are quick.
const QUICK: usize = 4;
/// How long who is on watch keeps out of it then.
const HELD_BACK: Duration = Duration::from_micros(50);

/// How a pool is made.
pub struct Options {
    /// 0: `min(32, processors + 4)`, as asyncio.
    pub max_threads: usize,
    /// What its threads' names begin with.
    pub name: CString,
    /// How long a thread looks for a job before it sleeps, in nanoseconds; 0: not at all.
    pub spin: i64,
}

impl Default for Options {
    fn default() -> Self {
        Options { max_threads: 0, name: c"evl".to_owned(), spin: patience::SHORT }
    }
}

/// A value that shares its cache line with no other.
#[repr(align(128))]
struct Apart<T>(T);

/// What a pool's owner and its threads share.
pub(crate) struct Core {
    options: Options,
    /// Jobs that no thread has seen, the last one first; or `closed()`. Senders touch nothing else while somebody is on watch.
    incoming: Apart<AtomicPtr<Job>>,
    /// Who is on watch: the address of a thread's [`Sleeper`], or one of the three below.
    watch: Apart<AtomicUsize>,
    queue: Apart<Lock<Queue>>,
    /// How many jobs were taken.
    taken: AtomicUsize,
    /// This process is a child of the one that has the threads.
    forked: AtomicBool,
    /// Held by whoever waits for the threads to end.
    joining: Mutex<()>,
    number: AtomicUsize,
}

/// Nobody is on watch: whoever sends a job brings somebody.
const NOBODY: usize = 0;
/// A thread that is being started.
const STARTING: usize = 1;
/// All threads there may be are running jobs, and look for the next one after that.
const ALL_BUSY: usize = 2;

// SAFETY: jobs in the queue are reached under its lock; the rest is atomic or immutable.
unsafe impl Sync for Core {}
// SAFETY: as above.
unsafe impl Send for Core {}

struct Queue {
    first: *const Job,
    last: *const Job,
    /// Who is on watch keeps out of it for a while, because others are quick.
    is_held_back: bool,
    /// Threads that sleep, the one that fell asleep last at the end.
    sleeping: Vec<Arc<Sleeper>>,
    /// How many threads there are, or are being started.
    count: usize,
    /// Those that have begun, and that nobody has joined.
    threads: Vec<libc::pthread_t>,
    is_shut: bool,
    /// Nobody will join the threads.
    is_abandoned: bool,
}

/// A thread that sleeps, or will.
struct Sleeper {
    thread: Thread,
    is_woken: AtomicBool,
}

/// A pool's owner. When it goes, what waits is still run, and the threads end after that.
pub(crate) struct Pool(Arc<Core>);

struct Known(*const Core);

// SAFETY: followed only under the lock, which a pool takes before its memory goes.
unsafe impl Send for Known {}

/// Every pool.
static POOLS: Lock<Slab<Known>> = Lock::new(Slab::new());

/// Who is to go on watch.
enum Next {
    Nobody,
    Woken(Arc<Sleeper>),
    Started,
}

/// What stands for a pool that takes no more jobs.
fn closed() -> *mut Job {
    ptr::without_provenance_mut(align_of::<Job>())
}

impl Pool {
    pub(crate) fn create(mut options: Options) -> Pool {
        notice_forks();
        if options.max_threads == 0 {
            options.max_threads = 32.min(patience::processors() + 4);
        }
        let queue = Queue {
            first: ptr::null(),
            last: ptr::null(),
            is_held_back: false,
            sleeping: Vec::new(),
            count: 0,
            threads: Vec::new(),
            is_shut: false,
            is_abandoned: false,
        };
        let core = Arc::new(Core {
            options,
            incoming: Apart(AtomicPtr::new(ptr::null_mut())),
            watch: Apart(AtomicUsize::new(NOBODY)),
            queue: Apart(Lock::new(queue)),
            taken: AtomicUsize::new(0),
            forked: AtomicBool::new(false),
            joining: Mutex::new(()),
            number: AtomicUsize::new(0),
        });
        core.number.store(POOLS.lock().insert(Known(Arc::as_ptr(&core))), Ordering::Relaxed);
        Pool(core)
    }

    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.0
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        let core = &self.0;
        if core.is_forked() {
            return;
        }
        core.shut(false);
        let threads = {
            let mut queue = core.queue.0.lock();
            queue.is_abandoned = true;
            std::mem::take(&mut queue.threads)
        };
        for thread in threads {
            // SAFETY: nobody has joined it, and nobody will.
            unsafe { libc::pthread_detach(thread) };
        }
    }
}

impl Core {
    pub(crate) fn is_forked(&self) -> bool {
        self.forked.load(Ordering::Relaxed)
    }

    /// Takes a job. On failure the reference is given back to the caller.
    ///
    /// # Safety
    /// The caller keeps the job's memory.
    pub(crate) unsafe fn submit(self: &Arc<Self>, job: JobRef) -> std::result::Result<(), (Error, JobRef)> {
        if self.is_forked() {
            return Err((Error::FORKED, job));
        }
        let mut head = self.incoming.0.load(Ordering::Relaxed);
        loop {
            if head == closed() {
                return Err((Error::SHUT_DOWN.detail(|| "the executor was shut down".into()), job));
            }
            job.next.set(head);
            match self.incoming.0.compare_exchange_weak(head, job.pointer(), Ordering::SeqCst, Ordering::Relaxed) {
                Ok(_) => break,
                Err(now) => head = now,
            }
        }
        let job = job.into_raw();
        // A thread that leaves the watch looks for jobs after it has said so.
        if self.watch.0.load(Ordering::SeqCst) != NOBODY {
            return Ok(());
        }
        let next = self.find_next(&mut self.queue.0.lock());
        self.bring(next).or_else(|error| {
            let mut queue = self.queue.0.lock();
            self.gather(&mut queue);
            // SAFETY: by this function's contract.
            let job = unsafe { &*job };
            // The threads that are there have to do.
            if queue.count > 0 || !job.is_queued.get() {
                return Ok(());
            }
            queue.unlink(job);
            // SAFETY: the queue's reference.
            Err((error, unsafe { JobRef::from_raw(job) }))
        })
    }

    fn has_incoming(&self) -> bool {
        !self.incoming.0.load(Ordering::SeqCst).is_null()
    }

    /// Moves what has come in to the queue.
    fn gather(&self, queue: &mut Queue) {
        if queue.is_shut || self.incoming.0.load(Ordering::Relaxed).is_null() {
            return;
        }
        queue.append(self.incoming.0.swap(ptr::null_mut(), Ordering::SeqCst));
    }

    /// Takes the first job.
    fn take(&self, queue: &mut Queue) -> Option<JobRef> {
        if queue.first.is_null() {
            self.gather(queue);
        }
        let first = queue.first;
        // SAFETY: the queue has a reference of each.
        queue.unlink(unsafe { first.as_ref() }?);
        self.taken.store(self.taken.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
        // SAFETY: the queue's reference.
        Some(unsafe { JobRef::from_raw(first) })
    }

    /// Nobody is on watch: chooses who will be, where jobs wait. [`Core::bring`] follows, without the lock.
    fn find_next(&self, queue: &mut Queue) -> Next {
        if self.watch.0.load(Ordering::Relaxed) != NOBODY
            || queue.is_shut
            || queue.first.is_null() && !self.has_incoming()
        {
            return Next::Nobody;
        }
        queue.is_held_back = false;
        if let Some(sleeper) = queue.sleeping.pop() {
            self.watch.0.store(sleeper.address(), Ordering::SeqCst);
            return Next::Woken(sleeper);
        }
        if queue.count == self.options.max_threads {
            self.watch.0.store(ALL_BUSY, Ordering::SeqCst);
            return Next::Nobody;
        }
        queue.count += 1;
        self.watch.0.store(STARTING, Ordering::SeqCst);
        Next::Started
    }

    fn bring(self: &Arc<Self>, next: Next) -> Result<()> {
        match next {
            Next::Nobody => {}
            Next::Woken(sleeper) => sleeper.wake(),
            Next::Started => {
                let given = Arc::into_raw(self.clone());
                // It puts itself into the list of threads.
                if let Err(error) = start_thread(work, given.cast_mut().cast()) {
                    self.queue.0.lock().count -= 1;
                    self.watch.0.store(NOBODY, Ordering::SeqCst);
                    // SAFETY: the thread that would have taken it over was not started.
                    drop(unsafe { Arc::from_raw(given) });
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Takes a job out of the queue; None: a thread has it.
    pub(crate) fn remove(&self, job: &Job) -> Option<JobRef> {
        let mut queue = self.queue.0.lock();
        self.gather(&mut queue);
        if !job.is_queued.get() {
            return None;
        }
        queue.unlink(job);
        // SAFETY: the queue's reference.
        Some(unsafe { JobRef::from_raw(job) })
    }

    /// Takes no more jobs, and has threads end when none are left; `discard`: what waits is not run.
    fn shut(&self, discard: bool) {
        let mut waiting = Vec::new();
        let sleeping = {
            let mut queue = self.queue.0.lock();
            if !std::mem::replace(&mut queue.is_shut, true) {
                queue.append(self.incoming.0.swap(closed(), Ordering::SeqCst));
            }
            while discard && let Some(job) = self.take(&mut queue) {
                waiting.push(job);
            }
            std::mem::take(&mut queue.sleeping)
        };
        for sleeper in sleeping {
            sleeper.wake();
        }
        for job in waiting {
            job.discard();
        }
    }

    /// `Executor.shutdown`.
    pub(crate) fn shut_down(&self, wait: bool, discard: bool) -> Result<()> {
        if self.is_forked() {
            return Err(Error::FORKED);
        }
        // SAFETY: a plain library call.
        let here = unsafe { libc::pthread_self() };
        // SAFETY: as above.
        if wait && self.queue.0.lock().threads.iter().any(|&thread| unsafe { libc::pthread_equal(thread, here) } != 0) {
            return Err(Error::from_code(-libc::EDEADLK).detail(|| "a job cannot wait for its own executor".into()));
        }
        self.shut(discard);
        if !wait {
            return Ok(());
        }
        let _joining = self.joining.lock().unwrap_or_else(PoisonError::into_inner);
        for thread in self.all_threads() {
            // SAFETY: under the lock above, nobody else joins it; it is detached only when the pool has no user any more.
            unsafe { libc::pthread_join(thread, ptr::null_mut()) };
        }
        let mut queue = self.queue.0.lock();
        queue.threads.clear();
        queue.count = 0;
        Ok(())
    }

    /// This thread is one of the pool's from here on.
    fn enlist(&self) {
        // SAFETY: a plain library call.
        let here = unsafe { libc::pthread_self() };
        let mut queue = self.queue.0.lock();
        if queue.is_abandoned {
            // SAFETY: nobody knows of it but itself.
            unsafe { libc::pthread_detach(here) };
        } else {
            queue.threads.push(here);
        }
    }

    /// The threads of a pool that was shut; one that is being started will soon be among them.
    fn all_threads(&self) -> Vec<libc::pthread_t> {
        loop {
            let queue = self.queue.0.lock();
            if queue.threads.len() == queue.count {
                return queue.threads.clone();
            }
            drop(queue);
            std::thread::yield_now();
        }
    }

    /// The next job for a thread, which waits for it; None: there will be none.
    fn next(self: &Arc<Self>, me: &Arc<Sleeper>, patience: &mut Patience) -> Option<JobRef> {
        let mut queue = self.queue.0.lock();
        loop {
            let on_watch = self.watch.0.load(Ordering::Relaxed) == me.address();
            if on_watch && self.others_are_quick(&mut queue) {
                queue.is_held_back = true;
                drop(queue);
                self.keep_out();
                queue = self.queue.0.lock();
                // Somebody who had nothing to do may have taken the watch over.
                if self.watch.0.load(Ordering::Relaxed) == me.address() {
                    queue.is_held_back = false;
                }
                continue;
            } else if let Some(job) = self.take(&mut queue) {
                if on_watch {
                    self.watch.0.store(NOBODY, Ordering::SeqCst);
                    let next = self.find_next(&mut queue);
                    drop(queue);
                    // Where no thread can be started, those that are there have to do.
                    let _ = self.bring(next);
                }
                return Some(job);
            }
            if queue.is_shut {
                if on_watch {
                    self.watch.0.store(NOBODY, Ordering::SeqCst);
                }
                return None;
            }
            if queue.first.is_null()
                && (matches!(self.watch.0.load(Ordering::Relaxed), NOBODY | ALL_BUSY) || queue.is_held_back)
            {
                self.watch.0.store(me.address(), Ordering::SeqCst);
                queue.is_held_back = false;
            }
            if self.watch.0.load(Ordering::Relaxed) == me.address() {
                drop(queue);
                patience.look(self.options.spin, || self.has_incoming());
                queue = self.queue.0.lock();
                // Whoever sends a job from here on brings somebody; what came before is seen.
                self.watch.0.store(NOBODY, Ordering::SeqCst);
                if self.has_incoming() || !queue.first.is_null() {
                    self.watch.0.store(me.address(), Ordering::SeqCst);
                    continue;
                }
            }
            queue.sleeping.push(me.clone());
            drop(queue);
            me.sleep();
            queue = self.queue.0.lock();
        }
    }

    /// Waits until the others are quick no more.
    fn keep_out(&self) {
        let (mut taken, mut since) = (self.taken.load(Ordering::Relaxed), clock::monotonic());
        loop {
            std::thread::park_timeout(HELD_BACK);
            let (now_taken, now) = (self.taken.load(Ordering::Relaxed), clock::monotonic());
            let quick = (now - since) / OBSERVED * QUICK as i64;
            if (now_taken.wrapping_sub(taken) as i64) < quick {
                return;
            }
            (taken, since) = (now_taken, now);
        }
    }

    /// Whether those who run jobs take so many that one more thread would only be in their way. Asked by who is on watch.
    fn others_are_quick(&self, queue: &mut MutexGuard<'_, Spin, Queue>) -> bool {
        let waits = !queue.first.is_null() || self.has_incoming();
        if !waits || queue.count < 2 + queue.sleeping.len() || patience::processors() < 2 || queue.is_shut {
            return false;
        }
        let before = self.taken.load(Ordering::Relaxed);
        MutexGuard::unlocked(queue, || patience::pass(OBSERVED));
        self.taken.load(Ordering::Relaxed).wrapping_sub(before) >= QUICK
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        POOLS.lock().remove(self.number.load(Ordering::Relaxed));
    }
}

impl Queue {
    /// Takes jobs over, of which the last one comes first.
    fn append(&mut self, newest: *mut Job) {
        let mut next: *const Job = ptr::null();
        let mut job: *const Job = newest;
        let before = self.last;
        if !job.is_null() {
            self.last = job;
        }
        // SAFETY: a reference of each is the queue's from here on; links are touched under the lock.
        unsafe {
            while let Some(this) = job.as_ref() {
                let older = this.next.replace(next);
                this.previous.set(if older.is_null() { before } else { older });
                this.is_queued.set(true);
                next = job;
                job = older;
            }
            match before.as_ref() {
                Some(before) if !next.is_null() => before.next.set(next),
                Some(_) => {}
                None => self.first = next,
            }
        }
    }

    fn unlink(&mut self, job: &Job) {
        let (next, previous) = (job.next.get(), job.previous.get());
        // SAFETY: the queue has a reference of each.
        unsafe {
            match previous.as_ref() {
                Some(previous) => previous.next.set(next),
                None => self.first = next,
            }
            match next.as_ref() {
                Some(next) => next.previous.set(previous),
                None => self.last = previous,
            }
        }
        job.is_queued.set(false);
    }
}

impl Sleeper {
    fn address(self: &Arc<Self>) -> usize {
        Arc::as_ptr(self) as usize
    }

    fn wake(&self) {
        self.is_woken.store(true, Ordering::Release);
        self.thread.unpark();
    }

    fn sleep(&self) {
        while !self.is_woken.swap(false, Ordering::Acquire) {
            std::thread::park();
        }
    }
}

/// What a thread of a pool does.
extern "C" fn work(core: *mut c_void) -> *mut c_void {
    // SAFETY: `start` gave the reference away.
    let core = unsafe { Arc::from_raw(core.cast_const().cast::<Core>()) };
    name_thread(&core.options.name);
    let me = Arc::new(Sleeper { thread: std::thread::current(), is_woken: AtomicBool::new(false) });
    core.enlist();
    // It was started to go on watch, and nobody else is meanwhile.
    core.watch.0.store(me.address(), Ordering::SeqCst);
    let mut patience = Patience::new();
    while let Some(job) = core.next(&me, &mut patience) {
        // A panic of ours leaves that job unfinished, which is the least harm. What the host's code throws is found here,
        // and ends the process on its way.
        let _ = catch_unwind(AssertUnwindSafe(|| job.run()));
    }
    ptr::null_mut()
}

fn name_thread(name: &CString) {
    #[cfg(target_os = "linux")]
    // SAFETY: the string ends with a NUL; what is too long is cut.
    unsafe {
        libc::prctl(libc::PR_SET_NAME, name.as_ptr());
    }
    #[cfg(not(target_os = "linux"))]
    let _ = name;
}

/// Starts a thread that blocks all signals. It is to be joined or detached.
pub(super) fn start_thread(
    function: extern "C" fn(*mut c_void) -> *mut c_void,
    arg: *mut c_void,
) -> Result<libc::pthread_t> {
    let mut thread = MaybeUninit::<libc::pthread_t>::uninit();
    let (mut all, mut before) = (MaybeUninit::<libc::sigset_t>::uninit(), MaybeUninit::<libc::sigset_t>::uninit());
    // SAFETY: sets are written before they are read; the new thread inherits the mask, which is put back here.
    unsafe {
        libc::sigfillset(all.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr());
        let error: c_int = libc::pthread_create(thread.as_mut_ptr(), ptr::null(), function, arg);
        libc::pthread_sigmask(libc::SIG_SETMASK, before.as_ptr(), ptr::null_mut());
        if error == 0 { Ok(thread.assume_init()) } else { Err(Error::from_code(-error)) }
    }
}

/// Has the C library tell of forks. Once a process.
fn notice_forks() {
    static ONCE: Once = Once::new();
    // SAFETY: the functions stay loaded: the library is never unloaded.
    ONCE.call_once(|| unsafe {
        libc::pthread_atfork(Some(prepare), Some(in_parent), Some(in_child));
    });
}

/// Takes every lock, so that the child finds none taken by a thread it does not have.
unsafe extern "C" fn prepare() {
    let pools = POOLS.lock();
    for (_, known) in pools.iter() {
        // SAFETY: a pool leaves the list, under this lock, before its memory goes.
        std::mem::forget(unsafe { &*known.0 }.queue.0.lock());
    }
    std::mem::forget(pools);
}

/// Gives back what `prepare` took, after `tell` was told each pool.
///
/// # Safety
/// This thread ran `prepare`, or is its copy in the child.
unsafe fn unlock(tell: impl Fn(&Core)) {
    // SAFETY: by this function's contract the locks are this thread's.
    unsafe {
        for (_, known) in &*POOLS.data_ptr() {
            let core = &*known.0;
            tell(core);
            core.queue.0.force_unlock();
        }
        POOLS.force_unlock();
    }
}

unsafe extern "C" fn in_parent() {
    // SAFETY: the C library called `prepare` on this thread.
    unsafe { unlock(|_| {}) };
}

unsafe extern "C" fn in_child() {
    // SAFETY: as above, on the thread this is a copy of.
    unsafe { unlock(|core| core.forked.store(true, Ordering::Relaxed)) };
}
