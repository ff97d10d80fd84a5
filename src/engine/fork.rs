//! fork: a child notices it without asking, because the loops it inherits are marked before it runs.

use std::sync::Once;
use std::sync::atomic::Ordering;

use slab::Slab;

use super::event_loop::{CLOSED, EventLoop, FORKED, NOBODY, Owned};
use super::{context, handle, park, signals, thread};
use crate::error::{Error, Result};
use crate::lock::Lock;
use crate::policy;
use crate::process::{child, watcher};

struct Known(*const EventLoop);

// SAFETY: followed only under the lock, which a loop takes before its memory goes.
unsafe impl Send for Known {}

/// Every loop whose life has not ended.
static LOOPS: Lock<Slab<Known>> = Lock::new(Slab::new());

/// Has the C library tell of forks. Once a process.
pub(crate) fn notice_forks() {
    static ONCE: Once = Once::new();
    // SAFETY: the functions stay loaded: the library is never unloaded.
    ONCE.call_once(|| unsafe {
        libc::pthread_atfork(Some(prepare), Some(in_parent), Some(in_child));
    });
}

/// Returns the number to unregister by.
pub(crate) fn register(event_loop: *const EventLoop) -> usize {
    LOOPS.lock().insert(Known(event_loop))
}

pub(crate) fn unregister(number: usize) {
    LOOPS.lock().remove(number);
}

/// Takes every lock there is, so that the child finds none taken by a thread it does not have.
unsafe extern "C" fn prepare() {
    policy::lock_for_fork();
    watcher::lock_for_fork();
    child::lock_for_fork();
    signals::lock_for_fork();
    handle::lock_for_fork();
    context::lock_for_fork();
    park::lock_for_fork();
    let loops = LOOPS.lock();
    for (_, known) in loops.iter() {
        // SAFETY: a loop leaves the list, under this lock, before its memory goes.
        let event_loop = unsafe { &*known.0 };
        std::mem::forget(event_loop.shared_cells.lock());
        std::mem::forget(event_loop.extras.lock());
    }
    std::mem::forget(loops);
}

/// Gives back what `prepare` took.
///
/// # Safety
/// This thread ran `prepare`, or is its copy in the child.
unsafe fn unlock() {
    // SAFETY: by this function's contract the lock is this thread's.
    unsafe {
        for (_, known) in &*LOOPS.data_ptr() {
            let event_loop = &*known.0;
            event_loop.extras.force_unlock();
            event_loop.shared_cells.force_unlock();
        }
        LOOPS.force_unlock();
        park::unlock_after_fork();
        context::unlock_after_fork();
        handle::unlock_after_fork();
        signals::unlock_after_fork();
        child::unlock_after_fork();
        watcher::unlock_after_fork();
        policy::unlock_after_fork();
    }
}

unsafe extern "C" fn in_parent() {
    // SAFETY: the C library called `prepare` on this thread.
    unsafe { unlock() };
}

unsafe extern "C" fn in_child() {
    signals::detach_all();
    // SAFETY: `prepare` has taken the lock.
    unsafe { park::forget_all() };
    // SAFETY: the C library called `prepare` on the thread this is a copy of, so that the list is ours.
    for (_, known) in unsafe { &*LOOPS.data_ptr() } {
        // SAFETY: as in `prepare`.
        let event_loop = unsafe { &*known.0 };
        event_loop.inbox.detach();
        let owner = event_loop.owner.load(Ordering::Relaxed);
        if owner != CLOSED && owner != FORKED {
            event_loop.forked_owner.store(owner, Ordering::Relaxed);
            event_loop.owner.store(FORKED, Ordering::Relaxed);
            event_loop.running.store(false, Ordering::Relaxed);
        }
    }
    let here = thread::current();
    // A reference that `evl_set_running_loop` took stays with the child.
    here.running.set(std::ptr::null());
    if here.runs.replace(false) {
        here.attention.set(here.attention.get() | thread::FORKED);
    }
    // SAFETY: as above.
    unsafe { unlock() };
}

/// `evl_loop_after_fork`.
pub(crate) fn after_fork(event_loop: &EventLoop) -> Result<()> {
    match event_loop.owner.load(Ordering::Relaxed) {
        FORKED => {}
        CLOSED => return Err(Error::CLOSED),
        _ => return Ok(()),
    }
    let me = thread::pointer();
    let owner = event_loop.forked_owner.load(Ordering::Relaxed);
    if owner != NOBODY && owner != me {
        return Err(EventLoop::refusal(owner));
    }
    // SAFETY: the loop was this thread's or nobody's when it was forked, and no other thread of this process can use it.
    if unsafe { (*event_loop.state.get()).is_on_the_stack() } {
        return Err(Error::RUNNING);
    }
    if event_loop.owner.compare_exchange(FORKED, me, Ordering::Acquire, Ordering::Relaxed).is_err() {
        return Err(Error::WRONG_THREAD);
    }
    let lp = Owned::running(event_loop);
    lp.with(|state| state.thread = thread::current());
    let rebuilt = lp.rebuild_poller();
    if !event_loop.inbox.fall_asleep() {
        event_loop.inbox.wake();
    }
    event_loop.owner.store(if rebuilt.is_ok() { NOBODY } else { FORKED }, Ordering::Release);
    rebuilt
}
