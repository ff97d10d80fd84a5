//! Child watchers (`asyncio.PidfdChildWatcher`, `ThreadedChildWatcher`): who hears that a child has ended, without SIGCHLD.
//!
//! A handler belongs to a loop, which keeps it until it was called. A thread that waits for a child has a reference, too,
//! and outlives the loop if it must; what it has heard travels by the loop's inbox.

use std::cell::{Cell, UnsafeCell};
use std::ffi::{c_int, c_void};
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use super::child::{Child, End, UNKNOWN_CODE};
use crate::engine::callback::{Callback, FreeArg, guarded};
use crate::engine::context::{Captured, Word};
use crate::engine::event_loop::{EventLoop, Owned};
use crate::engine::operations::{NOWHERE, Operation};
use crate::engine::watch::Direction;
use crate::engine::{debug, inbox, lifetime, thread};
use crate::error::{Error, Result};
use crate::lock::Lock;

/// Told that a child has ended.
pub type ChildFn = unsafe extern "C-unwind" fn(pid: c_int, returncode: c_int, arg: *mut c_void);

/// The functions of a watcher of the host's.
#[derive(Clone, Copy)]
#[allow(missing_docs, reason = "asyncio's names")]
pub struct Table {
    pub add_child_handler: Option<
        unsafe extern "C-unwind" fn(
            watcher_arg: *mut c_void,
            event_loop: *mut EventLoop,
            pid: c_int,
            callback: Option<ChildFn>,
            arg: *mut c_void,
            arg_free: Option<unsafe extern "C-unwind" fn(*mut c_void)>,
        ) -> c_int,
    >,
    pub remove_child_handler: Option<unsafe extern "C-unwind" fn(watcher_arg: *mut c_void, pid: c_int) -> c_int>,
    pub is_active: Option<unsafe extern "C-unwind" fn(watcher_arg: *mut c_void) -> c_int>,
    pub close: Option<unsafe extern "C-unwind" fn(watcher_arg: *mut c_void) -> c_int>,
}

enum Kind {
    Pidfd,
    Threaded,
    Custom(Table, FreeArg),
}

/// A child watcher.
pub struct Watcher {
    kind: Kind,
    closed: AtomicBool,
}

/// Who wants to hear of a child's end.
struct Handler {
    event_loop: *const EventLoop,
    watcher: Arc<Watcher>,
    child: Arc<Child>,
    callback: ChildFn,
    /// These belong to the loop's owner.
    arg: UnsafeCell<FreeArg>,
    context: Cell<Word>,
    place: Cell<u32>,
    gone: Cell<bool>,
    thread: UnsafeCell<Option<JoinHandle<()>>>,
}

// SAFETY: what is not immutable is touched by the loop's owner only; when the last reference goes, it was taken out.
unsafe impl Send for Handler {}
// SAFETY: as above.
unsafe impl Sync for Handler {}

/// A handler that may be asked for by its child's number.
struct Known {
    watcher: usize,
    pid: c_int,
    handler: Arc<Handler>,
}

/// All of them: one lock, which fork can hold.
static HANDLERS: Lock<Vec<Known>> = Lock::new(Vec::new());

/// Holds the lock across fork.
pub(crate) fn lock_for_fork() {
    std::mem::forget(HANDLERS.lock());
}

/// # Safety
/// Ends a `lock_for_fork` of this thread.
pub(crate) unsafe fn unlock_after_fork() {
    // SAFETY: by this function's contract.
    unsafe { HANDLERS.force_unlock() };
}

impl Watcher {
    /// Waits on descriptors of children, or by a thread where the system has none.
    pub(crate) fn new_pidfd() -> Arc<Watcher> {
        Arc::new(Watcher { kind: Kind::Pidfd, closed: AtomicBool::new(false) })
    }

    /// Waits by a thread a child.
    pub(crate) fn new_threaded() -> Arc<Watcher> {
        Arc::new(Watcher { kind: Kind::Threaded, closed: AtomicBool::new(false) })
    }

    /// What the host's functions do.
    pub(crate) fn new_custom(table: Table, arg: FreeArg) -> Arc<Watcher> {
        Arc::new(Watcher { kind: Kind::Custom(table, arg), closed: AtomicBool::new(false) })
    }

    /// `is_active`.
    pub(crate) fn is_active(&self) -> bool {
        match &self.kind {
            // SAFETY: the host gave the function with its arg.
            Kind::Custom(Table { is_active: Some(ask), .. }, arg) => guarded(|| unsafe { ask(arg.pointer()) }) > 0,
            _ => !self.closed.load(Ordering::Relaxed),
        }
    }

    /// `close`: no more handlers are taken; those there are will be called.
    pub(crate) fn close(&self) -> Result<()> {
        self.closed.store(true, Ordering::Relaxed);
        if let Kind::Custom(Table { close: Some(close), .. }, arg) = &self.kind {
            // SAFETY: the host gave the function with its arg.
            answer(guarded(|| unsafe { close(arg.pointer()) }))?;
        }
        Ok(())
    }

    /// `add_child_handler`. One that the child had before is replaced.
    pub(crate) fn add(
        self: &Arc<Self>,
        lp: &Owned,
        pid: c_int,
        callback: ChildFn,
        arg: FreeArg,
        context: Captured,
    ) -> Result<()> {
        if pid <= 0 {
            return Err(Error::INVALID.detail(|| format!("{pid} is no child's number")));
        }
        if let Kind::Custom(table, watcher) = &self.kind {
            let add = table.add_child_handler.ok_or(Error::NOT_IMPLEMENTED)?;
            let (arg, free) = arg.into_raw();
            let event_loop = lp.pointer().cast_mut();
            // SAFETY: the host gave the function with its arg; it takes the callback over.
            let code = guarded(|| unsafe { add(watcher.pointer(), event_loop, pid, Some(callback), arg, free) });
            return answer(code).map(|_| ());
        }
        let old = self.find(pid);
        if let Some(old) = &old {
            if !ptr::eq(old.event_loop, lp.pointer()) {
                return Err(Error::BUSY.detail(|| format!("another loop waits for child {pid}")));
            }
            old.retire(lp);
        }
        let child = old.map_or_else(|| Arc::new(Child::new(pid)), |old| old.child.clone());
        self.watch(lp, child, callback, arg, context)
    }

    /// [`Watcher::add`] for a child that evl has started.
    pub(crate) fn add_child(
        self: &Arc<Self>,
        lp: &Owned,
        child: &Arc<Child>,
        callback: ChildFn,
        arg: FreeArg,
    ) -> Result<()> {
        let context = Captured::new(Word::NONE);
        match self.kind {
            Kind::Custom(..) => self.add(lp, child.pid(), callback, arg, context),
            _ => self.watch(lp, child.clone(), callback, arg, context),
        }
    }

    fn watch(
        self: &Arc<Self>,
        lp: &Owned,
        child: Arc<Child>,
        callback: ChildFn,
        arg: FreeArg,
        context: Captured,
    ) -> Result<()> {
        if self.closed.load(Ordering::Relaxed) {
            return Err(Error::SHUT_DOWN.detail(|| "the child watcher is closed".into()));
        }
        let pid = child.pid();
        lp.count_object();
        let handler = Arc::new(Handler {
            event_loop: lp.pointer(),
            watcher: self.clone(),
            child,
            callback,
            arg: UnsafeCell::new(arg),
            context: Cell::new(context.into_word()),
            place: Cell::new(NOWHERE),
            gone: Cell::new(false),
            thread: UnsafeCell::new(None),
        });
        let object = Arc::into_raw(handler.clone()).cast();
        handler.place.set(lp.begin(Operation { object, abandon, is_task: false }));
        HANDLERS.lock().push(Known { watcher: self.address(), pid, handler: handler.clone() });
        let begun = handler.begin(lp);
        if begun.is_err() {
            handler.retire(lp);
        }
        begun
    }

    /// `remove_child_handler`: whether there was one.
    pub(crate) fn remove(&self, pid: c_int) -> Result<bool> {
        if let Kind::Custom(table, arg) = &self.kind {
            let remove = table.remove_child_handler.ok_or(Error::NOT_IMPLEMENTED)?;
            // SAFETY: the host gave the function with its arg.
            return Ok(answer(guarded(|| unsafe { remove(arg.pointer(), pid) }))? > 0);
        }
        let Some(handler) = self.find(pid) else { return Ok(false) };
        // SAFETY: a handler keeps its loop's memory.
        handler.retire(&unsafe { &*handler.event_loop }.enter()?);
        Ok(true)
    }

    fn address(&self) -> usize {
        ptr::from_ref(self) as usize
    }

    /// The handler of a child.
    fn find(&self, pid: c_int) -> Option<Arc<Handler>> {
        let handlers = HANDLERS.lock();
        let known = handlers.iter().find(|known| known.watcher == self.address() && known.pid == pid)?;
        Some(known.handler.clone())
    }
}

fn answer(code: c_int) -> Result<c_int> {
    if code < 0 { Err(Error::from_code(code)) } else { Ok(code) }
}

impl Handler {
    /// Begins waiting.
    fn begin(self: &Arc<Self>, lp: &Owned) -> Result<()> {
        if matches!(self.watcher.kind, Kind::Threaded) {
            return self.begin_thread();
        }
        if let Some(pidfd) = self.child.pidfd() {
            let arg = Arc::into_raw(self.clone()).cast_mut().cast();
            let callback = Callback::new(Some(readable), arg, Some(release));
            if lp.watch_internal(pidfd, Direction::Read, callback).is_ok() {
                return Ok(());
            }
        }
        if lp.event_loop().debug() {
            lp.log(debug::DEBUG, &format!("no pidfd can be had: a thread waits for child {}", self.child.pid()));
        }
        self.begin_thread()
    }

    /// Has a thread wait.
    fn begin_thread(self: &Arc<Self>) -> Result<()> {
        let handler = self.clone();
        let waiting = start_thread(move || {
            handler.child.wait();
            handler.child.reap();
            let arg = FreeArg::new(Arc::into_raw(handler.clone()).cast_mut().cast(), Some(release));
            // SAFETY: the handler keeps its loop's memory. On a closed loop nobody wants to hear of it.
            drop(inbox::send(unsafe { &*handler.event_loop }, ended, arg));
        })?;
        // SAFETY: the owner's.
        unsafe { *self.thread.get() = Some(waiting) };
        Ok(())
    }

    /// The child has ended: calls the callback, once.
    fn finish(&self, lp: &Owned, end: End) {
        if self.gone.replace(true) {
            return;
        }
        self.withdraw(lp);
        let pid = self.child.pid();
        let code = match end {
            End::Code(code) => code,
            End::Unknown => {
                let text = format!("Unknown child process pid {pid}, will report returncode {UNKNOWN_CODE}");
                lp.log(debug::WARNING, &text);
                UNKNOWN_CODE
            }
        };
        // SAFETY: the owner's; it is dropped after the call.
        let arg = unsafe { (*self.arg.get()).pointer() };
        let started = lp.stopwatch();
        // SAFETY: the word stays in the handler; the host gave the callback with its arg.
        let called = unsafe { lp.call_host(self.context.as_ptr(), || (self.callback)(pid, code, arg)) };
        lp.report_slow(started, || format!("the callback of child {pid}"));
        if thread::current().attention.get() & (thread::FORKED | thread::BROKEN) != 0 {
            return;
        }
        match called {
            Ok((_, Some(raised))) => {
                super::tell(lp, raised.code, "Exception in callback of a child watcher", Some(&raised))
            }
            Err(error) => super::tell(lp, error.code(), "The context of a callback is in use", None),
            Ok(_) => {}
        }
        self.give_up(lp);
    }

    /// It is not wanted any more.
    fn retire(&self, lp: &Owned) {
        if !self.gone.replace(true) {
            self.withdraw(lp);
            self.give_up(lp);
        }
    }

    /// Nobody finds it any more.
    fn withdraw(&self, lp: &Owned) {
        self.forget();
        if let (Kind::Pidfd, Some(pidfd)) = (&self.watcher.kind, self.child.pidfd()) {
            lp.unwatch_internal(pidfd, Direction::Read);
        }
    }

    fn forget(&self) {
        let known = {
            let mut handlers = HANDLERS.lock();
            let at = handlers.iter().position(|known| ptr::eq(&*known.handler, self));
            at.map(|at| handlers.swap_remove(at))
        };
        drop(known);
    }

    /// The loop gives it up.
    fn give_up(&self, lp: &Owned) {
        self.clear();
        let place = self.place.replace(NOWHERE);
        if place != NOWHERE {
            lp.end_operation(place);
            // SAFETY: the loop's reference; the caller has another one.
            unsafe { Arc::decrement_strong_count(self) };
        }
    }

    /// Releases what is the host's.
    fn clear(&self) {
        // SAFETY: the owner's, or nobody's any more; dropped after it was taken out, because that calls the host.
        let arg = unsafe { std::mem::replace(&mut *self.arg.get(), FreeArg::none()) };
        drop(arg);
        self.context.replace(Word::NONE).release();
    }
}

impl Drop for Handler {
    fn drop(&mut self) {
        // SAFETY: it counted for its loop's memory; nothing follows that needs it.
        unsafe { lifetime::release_memory(self.event_loop) };
    }
}

/// The loop is closed.
///
/// # Safety
/// `object` is a handler, and a reference that is given up.
unsafe fn abandon(object: *const ()) {
    // SAFETY: by this function's contract.
    let handler = unsafe { Arc::from_raw(object.cast::<Handler>()) };
    handler.gone.set(true);
    handler.forget();
    handler.clear();
    // SAFETY: the owner's. The thread goes on by itself; in a forked child there is none.
    if let Some(waiting) = unsafe { (*handler.thread.get()).take() }
        && !handler.child.is_ours()
    {
        std::mem::forget(waiting);
    }
}

/// Gives up a reference.
///
/// # Safety
/// `handler` is a reference that is given up.
unsafe extern "C-unwind" fn release(handler: *mut c_void) {
    // SAFETY: by this function's contract.
    drop(unsafe { Arc::from_raw(handler.cast_const().cast::<Handler>()) });
}

/// The pidfd is readable.
unsafe extern "C-unwind" fn readable(arg: *mut c_void) {
    // SAFETY: the watcher has a reference; a handler keeps its loop's memory.
    unsafe {
        let handler = &*arg.cast_const().cast::<Handler>();
        let Ok(lp) = (*handler.event_loop).enter() else { return };
        if let Some(end) = handler.child.reap() {
            handler.finish(&lp, end);
        } else if handler.child.pidfd().is_some_and(|pidfd| !lp.is_watched(pidfd, Direction::Read)) {
            // The kernel cannot watch it.
            Arc::increment_strong_count(handler);
            if Arc::from_raw(handler).begin_thread().is_err() {
                handler.finish(&lp, End::Unknown);
            }
        }
    }
}

/// A thread has reaped the child.
unsafe extern "C-unwind" fn ended(arg: *mut c_void) {
    // SAFETY: as above.
    unsafe {
        let handler = &*arg.cast_const().cast::<Handler>();
        // The thread ends where it has sent this.
        if let Some(waiting) = (*handler.thread.get()).take() {
            let _ = waiting.join();
        }
        if let Ok(lp) = (*handler.event_loop).enter() {
            handler.finish(&lp, handler.child.reap().unwrap_or(End::Unknown));
        }
    }
}

/// Starts a thread that no signal of the host's reaches.
fn start_thread(body: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>> {
    let mut all = MaybeUninit::<libc::sigset_t>::zeroed();
    let mut before = MaybeUninit::<libc::sigset_t>::zeroed();
    // SAFETY: the set is filled before it is used; a new thread has the mask of its maker.
    unsafe {
        libc::sigfillset(all.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr());
    }
    let started = std::thread::Builder::new().name("evl-child".into()).stack_size(128 * 1024).spawn(body);
    // SAFETY: the mask was filled in above.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, before.as_ptr(), ptr::null_mut()) };
    Ok(started?)
}
