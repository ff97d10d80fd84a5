//! Putting callbacks on their way, and taking them off it.

use std::ffi::c_void;
use std::sync::atomic::Ordering;

use super::callback::{CallFn, Callback};
use super::context::{self, Captured, Context, Word};
use super::debug;
use super::entry::{Entry, Slot};
use super::event_loop::{EventLoop, Owned, State};
use super::handle::{
    CANCELLED, DONE, HELD, HOOK, Handle, IN_RING, ONE_SHOT, OWN, PERIODIC, QUEUED, REGISTERED, RUNNING, SIGNAL,
    STARTED, TIMER, WATCH, WRITER,
};
use super::thread::{self, Thread};
use super::watch::Direction;
use crate::error::{Error, Result};

impl EventLoop {
    /// The context a callback is scheduled with: an explicit one, or what is current on this thread.
    pub(crate) fn capture(&self, explicit: Option<std::sync::Arc<Context>>) -> Captured {
        self.capture_on(thread::current(), explicit)
    }

    #[inline]
    fn capture_on(&self, thread: &Thread, explicit: Option<std::sync::Arc<Context>>) -> Captured {
        let word = explicit.map_or_else(|| context::capture_current(thread), Word::explicit);
        Captured::new(match self.hooks {
            Some(hooks) => word.with_hooks(hooks),
            None => word,
        })
    }

    /// `call_soon` when nothing but four words need to be stored; false when it is not so simple, and nothing was done.
    #[inline]
    pub(crate) fn call_soon_fast(&self, function: CallFn, arg: *mut c_void, free: Option<CallFn>) -> bool {
        self.is_owned_here()
            && Owned::running(self)
                .with(|state| !state.has_more_to_do() && state.ready.try_push_call(function, arg, free))
    }

    /// `call_soon` with a handle when it is as simple; NULL when it is not, and nothing was done.
    #[inline]
    pub(crate) fn call_soon_handle_fast(
        &self,
        function: CallFn,
        arg: *mut c_void,
        free: Option<CallFn>,
    ) -> *const Handle {
        if !self.is_owned_here() {
            return std::ptr::null();
        }
        Owned::running(self).with(|state| {
            if state.has_more_to_do() || state.ready.is_full() {
                return std::ptr::null();
            }
            let Some(cell) = state.cells.take_near() else { return std::ptr::null() };
            state.live_cells += 1;
            // SAFETY: a fresh cell is nobody else's.
            unsafe { (*cell).fill(function, arg, free, Word::NONE, ONE_SHOT | QUEUED | IN_RING, 1, 0) };
            state.ready.try_push(Slot::of(cell));
            cell
        })
    }

    /// `call_at` when it is as simple; None when it is not, and nothing was done. NULL for a handle that is not wanted.
    #[inline]
    pub(crate) fn call_at_fast(
        &self,
        when: i64,
        function: CallFn,
        arg: *mut c_void,
        free: Option<CallFn>,
        wanted: bool,
    ) -> Option<*const Handle> {
        if !self.is_owned_here() {
            return None;
        }
        Owned::running(self).with(|state| {
            if state.has_more_to_do() {
                return None;
            }
            let handle = state.cells.take_free()?;
            // SAFETY: a fresh cell is nobody else's.
            let cell = unsafe { &*handle };
            cell.fill(function, arg, free, Word::NONE, TIMER | ONE_SHOT | STARTED, u32::from(wanted), when);
            if state.timers.start(&state.cells, cell).is_err() {
                state.cells.put(handle);
                return None;
            }
            state.live_cells += 1;
            Some(if wanted { handle } else { std::ptr::null() })
        })
    }

    /// A handle made by a thread that need not own the loop.
    pub(crate) fn new_shared_handle(
        &self,
        callback: Callback,
        context: Captured,
        flags: u16,
        refs: u32,
    ) -> Result<*const Handle> {
        let function = callback.function.ok_or(Error::INVALID)?;
        let cell = self.shared_cells.lock().take()?;
        self.memory.fetch_add(1, Ordering::Relaxed);
        // SAFETY: a fresh cell is nobody else's.
        unsafe { (*cell).take_over(function, callback, context, flags, refs, 0) };
        self.trace(cell);
        Ok(cell)
    }

    /// Records the stack in debug mode.
    fn trace(&self, cell: *const Handle) {
        if self.debug() {
            let traceback = debug::capture_stack();
            // SAFETY: the cell was made just now.
            unsafe { (*cell).change_extra(|extra| extra.traceback = traceback) };
        }
    }
}

impl Handle {
    /// Makes a fresh cell a handle that has taken its callback over.
    #[inline]
    fn take_over(&self, function: CallFn, callback: Callback, context: Captured, flags: u16, refs: u32, number: i64) {
        let (arg, free) = callback.arg.into_raw();
        self.fill(function, arg, free, context.into_word(), flags, refs, number);
    }
}

impl Owned<'_> {
    /// [`EventLoop::capture`], on the loop's thread.
    #[inline]
    pub(crate) fn capture(&self, explicit: Option<std::sync::Arc<Context>>) -> Captured {
        let thread = self.with(|state| state.thread);
        // SAFETY: the owner's thread state is this thread's.
        self.event_loop().capture_on(unsafe { &*thread }, explicit)
    }

    /// Makes a handle; `wanted`: with a reference for the caller. `number` is its deadline, descriptor or signal. Its flags
    /// must say who holds it, or it must be wanted.
    #[inline]
    pub(crate) fn new_cell(
        &self,
        callback: Callback,
        context: Captured,
        flags: u16,
        wanted: bool,
        number: i64,
    ) -> Result<*const Handle> {
        let function = callback.function.ok_or(Error::INVALID)?;
        let cell = self.with(|state| -> Result<_> {
            let cell = state.cells.take()?;
            state.live_cells += 1;
            Ok(cell)
        })?;
        // SAFETY: a fresh cell is nobody else's.
        unsafe { (*cell).take_over(function, callback, context, flags, u32::from(wanted), number) };
        self.event_loop().trace(cell);
        Ok(cell)
    }

    /// Frees a handle that was made but could not be put where it belongs.
    pub(crate) fn discard(&self, cell: *const Handle) {
        // SAFETY: the caller made it, and nobody else knows it.
        unsafe {
            (*cell).clear(HELD);
            (*cell).refs.store(0, Ordering::Relaxed);
            Handle::destroy(cell, false);
        }
    }

    /// `loop.call_soon`. The reference of a handle that is wanted is the caller's.
    pub(crate) fn call_soon(&self, callback: Callback, context: Captured, wanted: bool) -> Result<*const Handle> {
        let function = callback.function.ok_or(Error::INVALID)?;
        self.with(|state| state.ready.reserve(1))?;
        if wanted || self.event_loop().debug() {
            let cell = self.new_cell(callback, context, ONE_SHOT | QUEUED | IN_RING, wanted, 0)?;
            self.with(|state| state.ready.push(Entry::of(cell)))?;
            return Ok(if wanted { cell } else { std::ptr::null() });
        }
        let (arg, free) = callback.arg.into_raw();
        let entry = Entry { function: Some(function), arg, free, context: context.into_word() };
        self.with(|state| state.ready.push(entry))?;
        Ok(std::ptr::null())
    }

    /// Makes room for `more` callbacks, so that scheduling them cannot fail but in debug mode.
    #[inline]
    pub(crate) fn reserve(&self, more: usize) -> Result<()> {
        self.with(|state| state.ready.reserve(more))
    }

    /// Schedules a function of ours; `free` follows it, or comes in its place when the loop is closed.
    #[inline]
    pub(crate) fn call_internal(
        &self,
        function: CallFn,
        arg: *mut c_void,
        free: Option<CallFn>,
        context: Word,
    ) -> Result<()> {
        if self.event_loop().debug() {
            let callback = Callback::new(Some(function), arg, free);
            self.reserve(1)?;
            let flags = ONE_SHOT | QUEUED | IN_RING | OWN;
            let cell = self.new_cell(callback, Captured::new(context), flags, false, 0)?;
            return self.with(|state| state.ready.push(Entry::of(cell)));
        }
        self.with(|state| state.ready.push(Entry { function: Some(function), arg, free, context }))
    }

    /// Schedules an object of ours, which takes over a reference to it, where there is room ([`Owned::reserve`]). Not in debug mode, where
    /// whatever is scheduled has a handle.
    ///
    /// # Safety
    /// As [`super::runnable::run`].
    #[inline]
    pub(crate) unsafe fn call_runnable(&self, object: *mut c_void, context: Word) -> Result<()> {
        let entry = Entry { function: Some(super::runnable::run), arg: object, free: None, context };
        self.with(|state| state.ready.push(entry))
    }

    /// `loop.call_at`.
    pub(crate) fn call_at(
        &self,
        when: i64,
        callback: Callback,
        context: Captured,
        wanted: bool,
    ) -> Result<*const Handle> {
        let cell = self.start_new(when, callback, context, TIMER | ONE_SHOT | STARTED, wanted)?;
        Ok(if wanted { cell } else { std::ptr::null() })
    }

    /// A timer with an interval.
    pub(crate) fn call_every(
        &self,
        interval: i64,
        callback: Callback,
        context: Captured,
        wanted: bool,
    ) -> Result<*const Handle> {
        if interval <= 0 {
            return Err(Error::INVALID);
        }
        let when = self.time().saturating_add(interval);
        let cell = self.start_new(when, callback, context, TIMER | PERIODIC | STARTED, wanted)?;
        // SAFETY: the timers hold it.
        unsafe { (*cell).change_extra(|extra| extra.interval = interval) };
        Ok(if wanted { cell } else { std::ptr::null() })
    }

    #[inline]
    fn start_new(
        &self,
        when: i64,
        callback: Callback,
        context: Captured,
        flags: u16,
        wanted: bool,
    ) -> Result<*const Handle> {
        let cell = self.new_cell(callback, context, flags, wanted, when)?;
        // SAFETY: it was made just now, with a hold.
        let started = self.with(|state| state.timers.start(&state.cells, unsafe { &*cell }));
        if let Err(error) = started {
            self.discard(cell);
            return Err(error);
        }
        Ok(cell)
    }

    /// `Handle(...)`.
    pub(crate) fn new_handle(&self, callback: Callback, context: Captured) -> Result<*mut Handle> {
        self.new_cell(callback, context, 0, true, 0).map(<*const Handle>::cast_mut)
    }

    /// `TimerHandle(...)`.
    pub(crate) fn new_timer(&self, when: i64, callback: Callback, context: Captured) -> Result<*mut Handle> {
        self.new_cell(callback, context, TIMER, true, when).map(<*const Handle>::cast_mut)
    }

    /// Registers a shutdown hook.
    pub(crate) fn add_shutdown_hook(
        &self,
        callback: Callback,
        context: Captured,
        wanted: bool,
    ) -> Result<*const Handle> {
        let cell = self.new_cell(callback, context, ONE_SHOT | HOOK | REGISTERED, wanted, 0)?;
        self.with(|state| state.shutdown_hooks.push(cell));
        Ok(if wanted { cell } else { std::ptr::null() })
    }

    /// Puts a handle into the ready queue.
    pub(crate) fn schedule(&self, handle: &Handle) -> Result<()> {
        if handle.has(TIMER | WATCH | SIGNAL | HOOK) {
            return Err(Error::INVALID);
        }
        check_usable(handle)?;
        if handle.has(QUEUED) {
            return Err(Error::SCHEDULED);
        }
        self.enqueue(handle)
    }

    /// Puts a handle into the ready queue.
    pub(crate) fn enqueue(&self, handle: &Handle) -> Result<()> {
        self.with(|state| state.enqueue(handle))
    }

    /// Starts a timer that is not started.
    pub(crate) fn schedule_timer(&self, timer: &Handle) -> Result<()> {
        check_usable(timer)?;
        if timer.has(STARTED | QUEUED) {
            return Err(Error::SCHEDULED);
        }
        self.start(timer)
    }

    fn start(&self, timer: &Handle) -> Result<()> {
        self.with(|state| state.timers.start(&state.cells, timer))?;
        timer.set(STARTED);
        Ok(())
    }

    /// Moves a timer, and starts it if need be.
    #[inline]
    pub(crate) fn reschedule_timer(&self, timer: &Handle, when: i64) -> Result<()> {
        check_usable(timer)?;
        // A call that is due already is withdrawn: the queue skips what does not say that it is in it.
        timer.clear(QUEUED);
        if timer.has(STARTED) {
            return self.with(|state| state.timers.restart(&state.cells, timer, when));
        }
        timer.deadline.store(when, Ordering::Relaxed);
        self.start(timer)
    }

    /// Arms a timer with an interval for its next tick; ticks that were missed become one.
    pub(crate) fn next_tick(&self, timer: &Handle) -> Result<()> {
        let interval = timer.with_extra(|extra| extra.map_or(0, |extra| extra.interval)).max(1);
        let late = self.now().saturating_sub(timer.when()).max(0);
        let when = timer.when().saturating_add((late / interval).saturating_add(1).saturating_mul(interval));
        timer.deadline.store(when, Ordering::Relaxed);
        self.start(timer)
    }

    /// Takes a handle out of the ready queue and the timers. The caller has a reference.
    #[inline]
    pub(crate) fn withdraw(&self, handle: &Handle) {
        if handle.has(STARTED) {
            self.with(|state| state.timers.stop(&state.cells, handle));
        }
        // The queue skips an entry whose handle does not say that it is queued.
        handle.clear(QUEUED | STARTED);
    }

    /// `Handle.cancel`. The caller has a reference, which the host's arg_free may give up: nothing follows it.
    #[inline]
    fn cancel(&self, handle: &Handle) {
        if handle.has(CANCELLED) {
            return;
        }
        handle.set(CANCELLED);
        if handle.has(SIGNAL | WATCH | HOOK) {
            self.forget_registered(handle);
        } else {
            self.withdraw(handle);
        }
        if !handle.has(RUNNING) {
            handle.release_arg();
        }
    }

    #[cold]
    fn forget_registered(&self, handle: &Handle) {
        let number = i32::try_from(handle.when()).unwrap_or(-1);
        if handle.has(HOOK) && !handle.has(WATCH) {
            self.with(|state| state.shutdown_hooks.retain(|&hook| !std::ptr::eq(hook, handle)));
            handle.clear(REGISTERED);
        } else if handle.has(SIGNAL) {
            self.forget_signal_handler(number, handle);
        } else {
            let direction = if handle.has(WRITER) { Direction::Write } else { Direction::Read };
            self.forget_watcher(number, direction, handle);
        }
        handle.clear(QUEUED);
    }

    /// Cancels a handle that was taken out of the table it was registered in.
    pub(crate) fn retire(&self, handle: *const Handle) {
        // SAFETY: it was held until now, and this thread owns the loop.
        let cell = unsafe { &*handle };
        if cell.is_unreachable() && !cell.has(RUNNING | IN_RING) {
            cell.change(HELD, CANCELLED);
            // SAFETY: neither the host nor the loop has it any more.
            unsafe { Handle::destroy(handle, false) };
            return;
        }
        // SAFETY: it was held until now, and this thread owns the loop; the reference keeps it while the host's code runs.
        unsafe {
            (*handle).retain();
            (*handle).clear(REGISTERED);
            self.cancel(&*handle);
            Handle::release_ptr(handle);
        }
    }
}

impl State {
    /// Whether scheduling has more to do than to store words: debug mode, hooks, or a context to capture.
    #[inline]
    fn has_more_to_do(&self) -> bool {
        // SAFETY: the owner's thread state is this thread's, and its context slot is valid.
        self.elaborate || !unsafe { *(*self.thread).context_slot() }.is_none()
    }

    /// Puts a handle into the ready queue, if it is not there.
    #[inline]
    pub(crate) fn enqueue(&mut self, handle: &Handle) -> Result<()> {
        if handle.has(QUEUED) {
            return Ok(());
        }
        self.ready.push(Entry::of(handle))?;
        if handle.has(IN_RING) {
            // An entry that was withdrawn is still there: the run before was ended by an exit. The new one stays.
            self.ready.forget(handle);
            self.ready.push(Entry::of(handle))?;
        }
        handle.set(QUEUED | IN_RING);
        Ok(())
    }
}

/// Refuses handles that will never run again.
#[inline]
fn check_usable(handle: &Handle) -> Result<()> {
    if handle.has(CANCELLED) {
        return Err(Error::CANCELLED);
    }
    if handle.has(DONE) || handle.has(ONE_SHOT) && handle.has(RUNNING) {
        return Err(Error::DONE);
    }
    Ok(())
}

/// [`cancel`] of a started timer whose arg needs no releasing; false: nothing was done.
#[inline]
pub(crate) fn cancel_timer_fast(timer: &Handle) -> bool {
    // SAFETY: a handle keeps its loop's memory.
    let event_loop = unsafe { &*timer.event_loop() };
    if !event_loop.is_owned_here() || timer.among(STARTED | CANCELLED | RUNNING) != STARTED || timer.owes_arg() {
        return false;
    }
    timer.change(STARTED | QUEUED, CANCELLED);
    Owned::running(event_loop).with(|state| state.timers.stop(&state.cells, timer));
    true
}

/// [`Owned::reschedule_timer`] of a started timer that is not moved to an earlier time; false: nothing was done.
#[inline]
pub(crate) fn reschedule_fast(timer: &Handle, when: i64) -> bool {
    // SAFETY: a handle keeps its loop's memory.
    let event_loop = unsafe { &*timer.event_loop() };
    event_loop.is_owned_here()
        && timer.among(STARTED | CANCELLED | RUNNING | QUEUED) == STARTED
        && Owned::running(event_loop).with(|state| state.timers.postpone(timer, when))
}

/// `Handle.cancel`, on an open or a closed loop.
pub(crate) fn cancel(handle: &Handle) -> Result<()> {
    // SAFETY: a handle keeps its loop's memory.
    match unsafe { &*handle.event_loop() }.enter() {
        Ok(lp) => lp.cancel(handle),
        Err(Error::CLOSED) => handle.set(CANCELLED),
        Err(error) => return Err(error),
    }
    Ok(())
}

/// `Handle._context`, made an object. Borrowed from the handle.
pub(crate) fn context_of(handle: &Handle) -> Result<*const Context> {
    // SAFETY: a handle keeps its loop's memory.
    let event_loop = unsafe { &*handle.event_loop() };
    let entered = event_loop.enter();
    // On a closed loop, several threads may ask at once.
    let _alone = match &entered {
        Ok(_) => None,
        Err(Error::CLOSED) => Some(event_loop.extras.lock()),
        Err(error) => return Err(*error),
    };
    // SAFETY: the loop is this thread's; or nobody's any more, and this thread has the lock.
    let object = unsafe { context::object_of(handle.context.as_ptr(), handle.has(RUNNING)) };
    handle.note_context();
    Ok(object)
}
