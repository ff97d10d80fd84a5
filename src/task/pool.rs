//! A pool of threads, which are started one by one when a job finds none that is idle.
//!
//! At most one thread is *on watch*: it waits for the next job, looking for it for a short time before it sleeps, where that
//! pays. When it takes a job and more wait, it brings the next one to the watch, by waking or starting it. So a job costs its
//! sender no more than a push, unless nobody is on watch. Who comes to the watch and finds the others so quick that it would only be in
//! their way (more than a job in a microsecond) keeps out of it, and looks again every 50 microseconds.
//!
//! The lock is held for a few instructions and across fork, so that a child can give up what the pool holds; the threads are the parent's.

use std::ffi::CString;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::job::{Job, JobRef};
use super::pools;
use super::waiting::Waiting;
use super::worker::{self, Sleeper};
use crate::engine::patience;
use crate::error::{Error, Result};
use crate::lock::Lock;

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
pub(super) struct Apart<T>(pub(super) T);

/// What a pool's owner and its threads share.
pub(crate) struct Core {
    pub(super) options: Options,
    /// Jobs that no thread has seen, the last one first; or `closed()`. Senders touch nothing else while somebody is on watch.
    pub(super) incoming: Apart<AtomicPtr<Job>>,
    /// Who is on watch: the address of a thread's [`Sleeper`], or one of the three below.
    pub(super) watch: Apart<AtomicUsize>,
    pub(super) queue: Apart<Lock<Queue>>,
    /// How many jobs were taken.
    pub(super) taken: AtomicUsize,
    /// This process is a child of the one that has the threads.
    pub(super) forked: AtomicBool,
    /// Held by whoever waits for the threads to end.
    pub(super) joining: Mutex<()>,
    pub(super) number: AtomicUsize,
}

/// Nobody is on watch: whoever sends a job brings somebody.
pub(super) const NOBODY: usize = 0;
/// A thread that is being started.
pub(super) const STARTING: usize = 1;
/// All threads there may be are running jobs, and look for the next one after that.
pub(super) const ALL_BUSY: usize = 2;

// SAFETY: jobs in the queue are reached under its lock; the rest is atomic or immutable.
unsafe impl Sync for Core {}
// SAFETY: as above.
unsafe impl Send for Core {}

/// What is under the pool's lock.
pub(super) struct Queue {
    pub(super) waiting: Waiting,
    /// Who is on watch keeps out of it for a while, because others are quick.
    pub(super) is_held_back: bool,
    /// Threads that sleep, the one that fell asleep last at the end.
    pub(super) sleeping: Vec<Arc<Sleeper>>,
    /// How many threads there are, or are being started.
    pub(super) count: usize,
    /// Those that have begun, and that nobody has joined.
    pub(super) threads: Vec<libc::pthread_t>,
    pub(super) is_shut: bool,
    /// Nobody will join the threads.
    pub(super) is_abandoned: bool,
}

/// A pool's owner. When it goes, what waits is still run, and the threads end after that.
pub(crate) struct Pool(Arc<Core>);

/// Who is to go on watch.
pub(super) enum Next {
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
        pools::notice_forks();
        if options.max_threads == 0 {
            options.max_threads = 32.min(patience::processors() + 4);
        }
        let queue = Queue {
            waiting: Waiting::new(),
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
        core.number.store(pools::register(&core), Ordering::Relaxed);
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

    /// Nobody needs to wait for its threads: none was started, or they are another process's.
    pub(crate) fn has_no_threads(&self) -> bool {
        self.is_forked() || self.queue.0.lock().count == 0
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
            queue.waiting.unlink(job);
            // SAFETY: the queue's reference.
            Err((error, unsafe { JobRef::from_raw(job) }))
        })
    }

    pub(super) fn has_incoming(&self) -> bool {
        !self.incoming.0.load(Ordering::SeqCst).is_null()
    }

    /// Moves what has come in to the queue.
    fn gather(&self, queue: &mut Queue) {
        if queue.is_shut || self.incoming.0.load(Ordering::Relaxed).is_null() {
            return;
        }
        queue.waiting.append(self.incoming.0.swap(ptr::null_mut(), Ordering::SeqCst));
    }

    /// Takes the first job.
    pub(super) fn take(&self, queue: &mut Queue) -> Option<JobRef> {
        if queue.waiting.is_empty() {
            self.gather(queue);
        }
        let first = queue.waiting.first();
        // SAFETY: the queue has a reference of each.
        queue.waiting.unlink(unsafe { first.as_ref() }?);
        self.taken.store(self.taken.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
        // SAFETY: the queue's reference.
        Some(unsafe { JobRef::from_raw(first) })
    }

    /// Nobody is on watch: chooses who will be, where jobs wait. [`Core::bring`] follows, without the lock.
    pub(super) fn find_next(&self, queue: &mut Queue) -> Next {
        if self.watch.0.load(Ordering::Relaxed) != NOBODY
            || queue.is_shut
            || queue.waiting.is_empty() && !self.has_incoming()
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

    pub(super) fn bring(self: &Arc<Self>, next: Next) -> Result<()> {
        match next {
            Next::Nobody => {}
            Next::Woken(sleeper) => sleeper.wake(),
            Next::Started => {
                let given = Arc::into_raw(self.clone());
                // It puts itself into the list of threads.
                if let Err(error) = worker::start_thread(worker::work, given.cast_mut().cast()) {
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
        queue.waiting.unlink(job);
        // SAFETY: the queue's reference.
        Some(unsafe { JobRef::from_raw(job) })
    }

    /// Takes no more jobs, and has threads end when none are left; `discard`: what waits is not run.
    fn shut(&self, discard: bool) {
        let mut waiting = Vec::new();
        let sleeping = {
            let mut queue = self.queue.0.lock();
            if !std::mem::replace(&mut queue.is_shut, true) {
                queue.waiting.append(self.incoming.0.swap(closed(), Ordering::SeqCst));
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
}

impl Drop for Core {
    fn drop(&mut self) {
        pools::unregister(self.number.load(Ordering::Relaxed));
    }
}
