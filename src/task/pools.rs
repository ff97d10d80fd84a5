//! Every pool there is, for fork: a child may give up what its pools hold, but has none of their threads.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Once};

use slab::Slab;

use super::pool::Core;
use crate::lock::Lock;

struct Known(*const Core);

// SAFETY: followed only under the lock, which a pool takes before its memory goes.
unsafe impl Send for Known {}

/// Every pool.
static POOLS: Lock<Slab<Known>> = Lock::new(Slab::new());

/// Returns the number to unregister by.
pub(super) fn register(core: &Arc<Core>) -> usize {
    POOLS.lock().insert(Known(Arc::as_ptr(core)))
}

pub(super) fn unregister(number: usize) {
    POOLS.lock().remove(number);
}

/// Has the C library tell of forks. Once a process.
pub(super) fn notice_forks() {
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
