//! How long a loop lives: references of hosts keep its life, handles keep its memory.
//!
//! The last reference closes the loop. Handles of a closed loop may still be held, and find their loop by address, so that its memory
//! stays until the last of them is gone. To keep counting cheap, cells of the loop's own arena are counted by a plain number
//! in the state while the loop lives; `memory` stands far above zero (BIAS) until life ends and that number is added.

use std::ffi::c_void;
use std::sync::atomic::Ordering;

use super::debug;
use super::entry::Entry;
use super::event_loop::{BRIEF, CLOSED, EventLoop, FORKED, LoopRef, NOBODY, Owned, POISONED};
use super::handle::{COUNTED, HELD, Handle, QUEUED};
use super::{runnable, thread};
use crate::error::{Error, Result};

/// What `memory` stands at while the loop lives.
pub(crate) const BIAS: isize = 1 << 48;

impl EventLoop {
    /// Another reference of a host.
    pub fn retain(&self) {
        if self.life.fetch_add(1, Ordering::Relaxed) == 0 {
            // Life has ended, and the host got here by a handle: the reference keeps the memory, as handles do.
            self.memory.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Gives up one reference of a host; NULL is ignored.
    ///
    /// # Safety
    /// The caller owns the reference. No borrow of the loop's state is held.
    pub unsafe fn release_ptr(this: *const EventLoop) {
        // SAFETY: the reference keeps it alive.
        let Some(event_loop) = (unsafe { this.as_ref() }) else { return };
        if event_loop.life.fetch_sub(1, Ordering::AcqRel) != 1 {
            return;
        }
        if event_loop.ended.swap(true, Ordering::AcqRel) {
            // SAFETY: the reference counted for the memory, as `retain` tells.
            unsafe { release_memory(this) };
            return;
        }
        if event_loop.is_owned_here() {
            // This thread is inside of a function of the loop, which ends its life when it returns.
            Owned::running(event_loop).with(|state| state.orphaned = true);
            return;
        }
        // SAFETY: that was the last reference.
        unsafe { end(this) };
    }

    /// `loop.close`.
    pub(crate) fn close(&self) -> Result<()> {
        // The host's arg_free may give up the last reference.
        let _life = LoopRef::new(self);
        self.shut()
    }

    fn shut(&self) -> Result<()> {
        let me = thread::pointer();
        loop {
            let owner = self.owner.load(Ordering::Relaxed);
            match owner {
                CLOSED => return Ok(()),
                NOBODY | FORKED | POISONED => {
                    if owner == POISONED && self.is_running() {
                        return Err(Error::RUNNING);
                    }
                    if owner == FORKED && !self.was_forked_whole()? {
                        // Another thread of the parent was inside of it: what it holds cannot be trusted, and is left alone
                        // for ever.
                        self.memory.fetch_add(1, Ordering::Relaxed);
                        self.closed.store(true, Ordering::Release);
                        self.owner.store(CLOSED, Ordering::Release);
                        return Ok(());
                    }
                    if self.owner.compare_exchange(owner, me, Ordering::Acquire, Ordering::Relaxed).is_ok() {
                        break;
                    }
                }
                _ if owner & BRIEF != 0 => std::thread::yield_now(),
                _ if owner == me || self.is_running() => return Err(Error::RUNNING),
                _ => return Err(Self::refusal(owner)),
            }
        }
        self.abandon(&Owned::running(self));
        Ok(())
    }

    /// Whether a forked loop's state is as some function left it. A run function of it on this stack refuses.
    fn was_forked_whole(&self) -> Result<bool> {
        let owner = self.forked_owner.load(Ordering::Relaxed);
        if owner != NOBODY && owner != thread::pointer() {
            return Ok(false);
        }
        // SAFETY: nobody but this thread was inside of it, and this process has no other thread that knows it.
        if unsafe { (*self.state.get()).is_on_the_stack() } { Err(Error::RUNNING) } else { Ok(true) }
    }

    /// Takes everything out of the loop, marks it closed, and then releases what it had.
    fn abandon(&self, lp: &Owned) {
        super::signals::release_all(lp);
        self.inbox.set_waker(-1);
        let (ready, operations, hooks, log, exception) = lp.with(|state| {
            state.thread = thread::current();
            state.stopping = false;
            state.timers = super::timers::Timers::new();
            state.watch = super::watch::Watch::new();
            state.signals = super::signals::Signals::new();
            state.shutdown_hooks = Vec::new();
            state.poller = None;
            (state.read_buffer, state.datagram_buffers) = (None, None);
            (state.before_wait, state.after_wait, state.log) = (None, None, None);
            let ready = std::mem::replace(&mut state.ready, super::ready::Ready::new());
            let operations = (state.operations.drain(), state.operations.executor.take());
            let hooks = (state.wait_arg.take(), state.operations.task_factory.take());
            (ready, operations, hooks, state.log_arg.take(), state.exception.take())
        });
        let live = lp.with(|state| state.cells.live());
        for handle in &live {
            // SAFETY: only the owner frees cells, which this thread is. From here on they are kept by this reference.
            unsafe {
                (**handle).retain();
                (**handle).clear(HELD | QUEUED);
            }
        }
        self.closed.store(true, Ordering::Release);
        self.owner.store(CLOSED, Ordering::Release);
        // Only now: who finds the inbox closed must find the loop closed, too.
        let posted = self.inbox.close();
        super::park::notify_closed(self);
        // From here on the host's code may run: the loop answers EVL_ECLOSED.
        let (operations, executor) = operations;
        for operation in operations {
            // SAFETY: it was the loop's, and is given up once.
            unsafe { (operation.abandon)(operation.object) };
        }
        if let Some(executor) = executor {
            // SAFETY: as above.
            unsafe { (executor.close)(executor.object) };
        }
        for entry in ready.iter().chain(posted) {
            release_posted(&entry);
        }
        for handle in live {
            // SAFETY: the reference taken above.
            unsafe {
                (*handle).release_arg();
                Handle::release_ptr(handle);
            }
        }
        drop((hooks, log, exception));
    }
}

/// Releases an entry of a closed loop. Handles of the loop's own are released with all that live.
pub(crate) fn release_posted(entry: &Entry) {
    let Some(handle) = entry.handle() else {
        // SAFETY: the entry owns what its arg refers to.
        unsafe { runnable::abandon(entry) };
        super::callback::release(entry.arg, entry.free);
        entry.context.release();
        return;
    };
    // SAFETY: the entry of a handle that another thread made is a reference.
    unsafe {
        if (*handle).has(COUNTED) {
            (*handle).clear(QUEUED);
            (*handle).release_arg();
            Handle::release_ptr(handle);
        }
    }
}

/// Ends a loop's life.
///
/// # Safety
/// The last reference is gone, and this thread is not inside of the loop.
pub(crate) unsafe fn end(this: *const EventLoop) {
    // SAFETY: `memory` is above zero until the end of this function.
    let event_loop = unsafe { &*this };
    if !event_loop.is_closed() {
        if event_loop.debug()
            && let Ok(lp) = event_loop.enter()
        {
            lp.log(debug::WARNING, "the last reference to an open loop is gone; closing it");
        }
        if event_loop.shut().is_err() {
            // Somebody uses it without a reference. Leaking is the least harm.
            return;
        }
    }
    super::fork::unregister(event_loop.registered.load(Ordering::Relaxed));
    // SAFETY: a closed loop has no owner, and nobody refers to it: the state is ours.
    let live = unsafe { (*event_loop.state.get()).live_cells };
    let before = event_loop.memory.fetch_add(live - BIAS, Ordering::AcqRel);
    if before + live - BIAS == 0 {
        // SAFETY: no handle is left.
        unsafe { free_memory(this) };
    }
}

/// # Safety
/// Life has ended and no handle is left.
unsafe fn free_memory(this: *const EventLoop) {
    // SAFETY: made by `Box::new` in `create`, and by this function's contract nobody knows it any more.
    drop(unsafe { Box::from_raw(this.cast_mut()) });
}

impl Owned<'_> {
    /// Something that keeps the loop's memory was made.
    #[inline]
    pub(crate) fn count_object(&self) {
        self.with(|state| state.live_cells += 1);
    }

    /// What [`Owned::count_object`] counted is gone. Where the loop is not this thread's, that is [`release_memory`].
    #[inline]
    pub(crate) fn uncount_object(&self) {
        self.with(|state| state.live_cells -= 1);
    }
}

/// Frees a cell. The loop's memory may go with it. `closed`: the loop is, and this is any thread.
///
/// # Safety
/// Nobody refers to the cell. No borrow of the loop's state is held.
#[inline]
pub(crate) unsafe fn free_cell(this: *const EventLoop, cell: *const Handle, closed: bool) {
    // SAFETY: the cell keeps the loop's memory.
    let event_loop = unsafe { &*this };
    if !closed {
        // SAFETY: as above, the cell's page is there.
        if unsafe { (*cell).page().shared } {
            event_loop.shared_cells.lock().put(cell);
        } else {
            Owned::running(event_loop).with(|state| state.free_own(cell));
            return;
        }
    }
    // SAFETY: the cell counted.
    unsafe { release_memory(this) };
}

/// How often a thread looks whether it can have the loop, before it leaves a reference to whoever has.
const PATIENCE: u32 = 1000;

/// Gives up the last reference of a handle on a thread that does not own the loop. While the loop runs, it travels to the
/// owner, in a post whose release is what gives it up.
///
/// # Safety
/// The caller owns the reference.
#[cold]
pub(crate) unsafe fn give_back(this: *const EventLoop, handle: *const Handle) {
    // SAFETY: the handle keeps the loop's memory.
    let event_loop = unsafe { &*this };
    let mut patience = PATIENCE;
    while patience > 0 {
        let owner = event_loop.owner.load(Ordering::Relaxed);
        if owner == NOBODY {
            let me = thread::pointer() | BRIEF;
            if event_loop.owner.compare_exchange(NOBODY, me, Ordering::Acquire, Ordering::Relaxed).is_ok() {
                // SAFETY: the loop is this thread's for the moment.
                let remains = unsafe { Handle::dissolve_last(handle) };
                event_loop.owner.store(NOBODY, Ordering::Release);
                // The host's code runs when others can have the loop again.
                if let Some(remains) = remains {
                    remains.release();
                }
                return;
            }
            continue;
        }
        if owner & BRIEF == 0 {
            if owner <= POISONED || event_loop.is_running() {
                break;
            }
            // A thread that is inside of one function only will soon be out of it, unless the host's code keeps it there.
            patience -= 1;
        }
        std::thread::yield_now();
    }
    if event_loop.owner.load(Ordering::Acquire) == CLOSED {
        // SAFETY: the caller's reference; a closed loop holds nothing.
        unsafe { release_of_closed(handle) };
        return;
    }
    let entry = Entry {
        function: Some(nothing),
        arg: handle.cast_mut().cast(),
        free: Some(release_handle),
        context: super::context::Word::NONE,
    };
    if event_loop.inbox.push(entry).is_err() {
        // Closed meanwhile, or out of memory, which leaks. SAFETY: the caller's reference.
        unsafe {
            if event_loop.is_closed() {
                release_of_closed(handle);
            }
        }
    }
}

/// Gives up a reference of a handle whose loop is closed.
///
/// # Safety
/// The caller owns the reference.
unsafe fn release_of_closed(handle: *const Handle) {
    // SAFETY: by this function's contract; nothing but references keeps a handle of a closed loop.
    unsafe {
        if (*handle).refs.fetch_sub(1, Ordering::AcqRel) == 1 {
            Handle::destroy(handle, true);
        }
    }
}

/// The callback of a post that only brings a reference back.
pub(crate) unsafe extern "C-unwind" fn nothing(_: *mut c_void) {}

unsafe extern "C-unwind" fn release_handle(handle: *mut c_void) {
    // SAFETY: the post owned the reference.
    unsafe { Handle::release_ptr(handle.cast_const().cast()) };
}

/// Takes one off `memory`.
///
/// # Safety
/// The caller's count is among it, and is given up.
pub(crate) unsafe fn release_memory(this: *const EventLoop) {
    // SAFETY: the count keeps it.
    if unsafe { (*this).memory.fetch_sub(1, Ordering::AcqRel) } == 1 {
        // SAFETY: the count stands at zero only after life has ended, and when no handle is left.
        unsafe { free_memory(this) };
    }
}
