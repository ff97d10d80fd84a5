//! Policies: which loop a thread has (`asyncio.events.BaseDefaultEventLoopPolicy`, `AbstractEventLoopPolicy`).

use std::cell::UnsafeCell;
use std::ffi::{c_int, c_void};
use std::sync::atomic::{AtomicPtr, Ordering};
use std::sync::{Arc, Weak};

use crate::engine::callback::{FreeArg, guarded};
use crate::engine::event_loop::{EventLoop, LoopRef, Options};
use crate::engine::{fork, thread};
use crate::error::{Error, Result};
use crate::lock::Lock;
use crate::process::watcher::Watcher;

/// A function of the host that hands out a loop.
pub type LoopFn = unsafe extern "C-unwind" fn(arg: *mut c_void, out: *mut *mut EventLoop) -> c_int;
/// A function of the host that takes a loop.
pub type TakeFn = unsafe extern "C-unwind" fn(arg: *mut c_void, event_loop: *mut EventLoop) -> c_int;
/// A function of the host that hands out a child watcher.
pub type WatcherFn = unsafe extern "C-unwind" fn(arg: *mut c_void, out: *mut *mut Watcher) -> c_int;
/// A function of the host that takes a child watcher.
pub type TakeWatcherFn = unsafe extern "C-unwind" fn(arg: *mut c_void, watcher: *mut Watcher) -> c_int;

/// What a policy of the host's consists of.
#[derive(Clone, Copy)]
#[allow(missing_docs, reason = "asyncio's names")]
pub struct Table {
    pub get_loop: Option<LoopFn>,
    pub set_loop: Option<TakeFn>,
    pub new_loop: Option<LoopFn>,
    pub get_child_watcher: Option<WatcherFn>,
    pub set_child_watcher: Option<TakeWatcherFn>,
}

/// A policy.
pub struct Policy {
    kind: Kind,
    arg: FreeArg,
    data: AtomicPtr<c_void>,
    /// Under the lock of [`LOCALS`], which fork holds.
    data_free: UnsafeCell<FreeArg>,
    /// Of a default policy; under the same lock. None: one on pidfds on the next use.
    watcher: UnsafeCell<Option<Arc<Watcher>>>,
}

// SAFETY: the host's functions are documented to be called from any thread; everything else is atomic or locked.
unsafe impl Sync for Policy {}

enum Kind {
    Default { factory: Option<LoopFn>, this: Weak<Policy> },
    Custom(Table),
}

/// What a default policy knows of a thread.
#[derive(Default)]
struct Local {
    event_loop: Option<LoopRef>,
    /// `set_loop` was called, with NULL or not.
    set_called: bool,
}

/// What all default policies know of all threads, by policy and thread: one lock, which fork can hold.
static LOCALS: Lock<Vec<((usize, u64), Local)>> = Lock::new(Vec::new());

/// The process's policy; None: a default one on the next use.
static CURRENT: Lock<Option<Arc<Policy>>> = Lock::new(None);

/// The process's policy.
pub(crate) fn current() -> Arc<Policy> {
    fork::notice_forks();
    CURRENT.lock().get_or_insert_with(|| Policy::new_default(None, FreeArg::none())).clone()
}

/// Sets the process's policy; None: a new default one on the next use.
pub(crate) fn set_current(policy: Option<Arc<Policy>>) {
    let old = std::mem::replace(&mut *CURRENT.lock(), policy);
    // Outside of the lock: it may release loops, and call the host.
    drop(old);
}

/// Holds the locks across fork.
pub(crate) fn lock_for_fork() {
    std::mem::forget(CURRENT.lock());
    std::mem::forget(LOCALS.lock());
}

/// # Safety
/// Ends a `lock_for_fork` of this thread.
pub(crate) unsafe fn unlock_after_fork() {
    // SAFETY: by this function's contract.
    unsafe {
        LOCALS.force_unlock();
        CURRENT.force_unlock();
    }
}

impl Policy {
    /// A loop per thread, made by `factory` or else by evl.
    pub(crate) fn new_default(factory: Option<LoopFn>, arg: FreeArg) -> Arc<Policy> {
        Arc::new_cyclic(|this| Policy::new(Kind::Default { factory, this: this.clone() }, arg))
    }

    /// What the host's functions say.
    pub(crate) fn new_custom(table: Table, arg: FreeArg) -> Arc<Policy> {
        Arc::new(Policy::new(Kind::Custom(table), arg))
    }

    fn new(kind: Kind, arg: FreeArg) -> Policy {
        let (data, data_free) = (AtomicPtr::new(std::ptr::null_mut()), UnsafeCell::new(FreeArg::none()));
        Policy { kind, arg, data, data_free, watcher: UnsafeCell::new(None) }
    }

    /// `get_event_loop`.
    pub(crate) fn get_loop(&self) -> Result<LoopRef> {
        if let Kind::Custom(table) = self.kind {
            return self.ask(table.get_loop);
        }
        let (event_loop, set_called) = self.local(|local| (local.event_loop.clone(), local.set_called));
        match event_loop {
            Some(event_loop) => Ok(event_loop),
            None if !set_called && thread::is_main() => {
                let made = self.new_loop()?;
                self.keep(Some(made.clone()));
                Ok(made)
            }
            None => Err(Error::NO_LOOP.detail(|| "this thread has no event loop; set one by evl_set_loop".into())),
        }
    }

    /// `set_event_loop`.
    pub(crate) fn set_loop(&self, event_loop: Option<&EventLoop>) -> Result<()> {
        match self.kind {
            Kind::Default { .. } => {
                self.keep(event_loop.map(LoopRef::new));
                Ok(())
            }
            Kind::Custom(table) => {
                let set = table.set_loop.ok_or(Error::NOT_IMPLEMENTED)?;
                let pointer =
                    event_loop.map_or(std::ptr::null_mut(), |event_loop| std::ptr::from_ref(event_loop).cast_mut());
                // SAFETY: the host gave the function with its arg.
                let code = guarded(|| unsafe { set(self.arg.pointer(), pointer) });
                if code < 0 { Err(Error::from_code(code)) } else { Ok(()) }
            }
        }
    }

    /// `new_event_loop`.
    pub(crate) fn new_loop(&self) -> Result<LoopRef> {
        match self.kind {
            Kind::Default { factory: None, .. } => {
                let options = Options {
                    debug: false,
                    manual_clock: false,
                    fd_deadlines: false,
                    start_time: 0,
                    slow_callback: 0,
                    hooks: None,
                };
                let made = EventLoop::create(&options)?;
                // SAFETY: the reference is new, and nobody else's.
                Ok(unsafe { LoopRef::from_raw(made.cast_mut()) })
            }
            Kind::Default { factory, .. } => self.ask(factory),
            Kind::Custom(table) => self.ask(table.new_loop),
        }
    }

    /// `get_child_watcher`.
    pub(crate) fn get_child_watcher(&self) -> Result<Arc<Watcher>> {
        let Kind::Custom(table) = self.kind else {
            let _lock = LOCALS.lock();
            // SAFETY: under its lock.
            return Ok(unsafe { (*self.watcher.get()).get_or_insert_with(Watcher::new_pidfd).clone() });
        };
        let get = table.get_child_watcher.ok_or(Error::NOT_IMPLEMENTED)?;
        let mut found = std::ptr::null_mut();
        // SAFETY: the host gave the function with its arg; it writes a reference, which is taken over.
        let code = guarded(|| unsafe { get(self.arg.pointer(), &raw mut found) });
        if code < 0 {
            return Err(Error::from_code(code));
        }
        if found.is_null() {
            return Err(Error::NOT_IMPLEMENTED.detail(|| "the policy's function handed out no child watcher".into()));
        }
        // SAFETY: as above.
        Ok(unsafe { Arc::from_raw(found) })
    }

    /// `set_child_watcher`; None: a new one on the next use.
    pub(crate) fn set_child_watcher(&self, watcher: Option<Arc<Watcher>>) -> Result<()> {
        let Kind::Custom(table) = self.kind else {
            let old = {
                let _lock = LOCALS.lock();
                // SAFETY: under its lock.
                unsafe { std::mem::replace(&mut *self.watcher.get(), watcher) }
            };
            // Outside of the lock: it may call the host.
            drop(old);
            return Ok(());
        };
        let set = table.set_child_watcher.ok_or(Error::NOT_IMPLEMENTED)?;
        let pointer = watcher.as_ref().map_or(std::ptr::null_mut(), |watcher| Arc::as_ptr(watcher).cast_mut());
        // SAFETY: the host gave the function with its arg; it borrows the watcher.
        let code = guarded(|| unsafe { set(self.arg.pointer(), pointer) });
        if code < 0 { Err(Error::from_code(code)) } else { Ok(()) }
    }

    /// Lets go of the loop of a thread that has ended.
    pub(crate) fn forget_thread(&self, key: u64) {
        let gone = take(&mut LOCALS.lock(), |known| *known == (self.address(), key));
        // Outside of the lock: it may release the loop, and call the host.
        drop(gone);
    }

    /// Keeps a pointer of the host.
    pub(crate) fn set_data(&self, data: FreeArg) {
        let old = {
            let _lock = LOCALS.lock();
            self.data.store(data.pointer(), Ordering::Release);
            // SAFETY: under its lock.
            unsafe { std::mem::replace(&mut *self.data_free.get(), data) }
        };
        drop(old);
    }

    /// The pointer of the host.
    pub(crate) fn data(&self) -> *mut c_void {
        self.data.load(Ordering::Acquire)
    }

    /// Has the host hand out a loop.
    fn ask(&self, function: Option<LoopFn>) -> Result<LoopRef> {
        let function = function.ok_or(Error::NOT_IMPLEMENTED)?;
        let mut found = std::ptr::null_mut();
        // SAFETY: the host gave the function with its arg; it writes a reference, which is taken over.
        let code = guarded(|| unsafe { function(self.arg.pointer(), &raw mut found) });
        if code < 0 {
            return Err(Error::from_code(code));
        }
        if found.is_null() {
            return Err(Error::NO_LOOP.detail(|| "the policy's function handed out no loop".into()));
        }
        // SAFETY: as above.
        Ok(unsafe { LoopRef::from_raw(found) })
    }

    fn address(&self) -> usize {
        std::ptr::from_ref(self) as usize
    }

    /// Makes a loop this thread's.
    fn keep(&self, event_loop: Option<LoopRef>) {
        let old = self.local(|local| {
            local.set_called = true;
            std::mem::replace(&mut local.event_loop, event_loop)
        });
        // Outside of the lock: it may be the last reference.
        drop(old);
    }

    /// Looks at what is known of this thread.
    fn local<R>(&self, f: impl FnOnce(&mut Local) -> R) -> R {
        let key = (self.address(), thread::current().key());
        let mut locals = LOCALS.lock();
        let at = locals.iter().position(|(known, _)| *known == key).unwrap_or_else(|| {
            if let Kind::Default { this, .. } = &self.kind {
                thread::forget_at_exit(this.clone());
            }
            locals.push((key, Local::default()));
            locals.len() - 1
        });
        f(&mut locals[at].1)
    }
}

/// Takes one entry out.
fn take(locals: &mut Vec<((usize, u64), Local)>, which: impl Fn(&(usize, u64)) -> bool) -> Option<Local> {
    let at = locals.iter().position(|(known, _)| which(known))?;
    Some(locals.swap_remove(at).1)
}

impl Drop for Policy {
    fn drop(&mut self) {
        let address = self.address();
        let mut locals = LOCALS.lock();
        let gone: Vec<Local> = std::iter::from_fn(|| take(&mut locals, |known| known.0 == address)).collect();
        drop(locals);
        // Outside of the lock: it may release loops, and call the host.
        drop(gone);
    }
}
