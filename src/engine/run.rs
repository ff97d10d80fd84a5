//! Running: one iteration told step by step, and the functions that repeat it.
//!
//! An iteration (`asyncio.base_events.BaseEventLoop._run_once`):
//! 1. takes what other threads and signals have brought;
//! 2. polls, waiting only when nothing is ready; a poll is spared while callbacks are ready, but for no more than
//!    [`UNPOLLED_ITERATIONS`] or [`UNPOLLED_TIME`];
//! 3. moves the timers that are due to the ready queue;
//! 4. runs exactly the callbacks that are ready now: what they schedule is for the next iteration.

use std::ffi::c_int;
use std::ptr;

use super::callback::{self, guarded};
use super::context::{self, Frame, Word};
use super::event_loop::{EventLoop, LoopRef, NOBODY, Owned, POISONED, pointer_of};
use super::exception::{self, Aside, Report};
use super::handle::{
    CANCELLED, COUNTED, DONE, HOOK, Handle, IN_RING, ONE_SHOT, PAUSED, PERIODIC, QUEUED, REGISTERED, RUNNING, STARTED,
};
use super::inbox::Inbox;
use super::ready::Entry;
use super::thread::{self, Thread};
use super::{debug, lifetime, watch};
use crate::error::{Error, Result};
use std::sync::atomic::Ordering;

/// No limit of time.
const FOREVER: i64 = i64::MAX;
/// A ready descriptor waits for at most so many iterations.
const UNPOLLED_ITERATIONS: u32 = 64;
/// A ready descriptor waits for at most so many nanoseconds, plus the iteration that is running.
const UNPOLLED_TIME: i64 = 100_000;

impl EventLoop {
    /// `loop.run_forever`.
    pub(crate) fn run_forever(&self) -> Result<()> {
        self.run(|lp| {
            loop {
                lp.iterate(FOREVER)?;
                if lp.with(|state| state.stopping) {
                    return Ok(());
                }
            }
        })
    }

    /// One iteration that waits at most `timeout`. Returns how many callbacks ran.
    pub(crate) fn run_once(&self, timeout: i64) -> Result<c_int> {
        if timeout < 0 {
            return Err(Error::INVALID);
        }
        self.run(|lp| lp.iterate(timeout)).map(count)
    }

    /// Iterations until nothing is ready. Returns how many callbacks ran.
    pub(crate) fn run_until_idle(&self) -> Result<c_int> {
        self.run(|lp| lp.iterate_until_idle()).map(count)
    }

    /// The shutdown hooks, last registered first, and what they schedule at once. Returns how many callbacks ran.
    pub(crate) fn run_shutdown(&self) -> Result<c_int> {
        self.run(|lp| {
            loop {
                lp.with(|state| state.ready.reserve(1))?;
                let Some(hook) = lp.with(|state| state.shutdown_hooks.pop()) else { break };
                // SAFETY: it was kept by being registered, and is by being in the queue.
                let hook = unsafe { &*hook };
                lp.enqueue(hook)?;
                hook.clear(HOOK | REGISTERED);
            }
            lp.iterate_until_idle()
        })
        .map(count)
    }

    /// Makes this thread the owner, and the loop its running one, while `body` runs.
    fn run<R>(&self, body: impl FnOnce(&Owned) -> Result<R>) -> Result<R> {
        let me = thread::pointer();
        let thread = thread::current();
        let frame = stack_pointer();
        self.notice_longjmp(thread, frame)?;
        if !thread.running.get().is_null() || self.is_running() {
            return Err(Error::RUNNING);
        }
        if let Err(owner) = self.take_ownership() {
            return Err(if owner == me { Error::RUNNING } else { Self::refusal(owner) });
        }
        let slot = thread.slot.get();
        let scope = Scope { _life: LoopRef::new(self), lp: Owned::running(self), thread, slot, me };
        scope.begin(frame);
        let result = body(&scope.lp);
        if result.as_ref().err() != Some(&Error::EXIT) {
            // An exit out of `evl_handle_run` was that caller's.
            scope.lp.set_exit_code(0);
        }
        drop(scope);
        result
    }

    /// A run function that is marked as running, but whose frame is gone, was left by longjmp: its loop is in no state to be used.
    /// It is gone when this one's frame is no deeper.
    fn notice_longjmp(&self, thread: &Thread, frame: usize) -> Result<()> {
        let before = thread.run_frame.get();
        if !thread.runs.get() || frame < before || !is_on_this_stack(frame) || !is_on_this_stack(before) {
            return Ok(());
        }
        let left = thread.running.replace(ptr::null());
        thread.runs.set(false);
        thread.in_callback.set(false);
        thread.slot.set(ptr::null_mut());
        // SAFETY: the run function that was left held a reference, which nobody has given back.
        let left = unsafe { &*left };
        left.running.store(false, Ordering::Relaxed);
        left.owner.store(POISONED, Ordering::Release);
        eprintln!("evl: a callback was left by longjmp; its loop can only be closed");
        if ptr::eq(left, self) { Err(Error::PANIC) } else { Ok(()) }
    }
}

/// An address in the present frame.
#[inline(never)]
fn stack_pointer() -> usize {
    let marker = 0u8;
    ptr::from_ref(std::hint::black_box(&marker)) as usize
}

/// Whether an address lies in the stack that the system gave this thread, rather than in a coroutine's.
fn is_on_this_stack(address: usize) -> bool {
    #[cfg(target_os = "linux")]
    // SAFETY: the attributes are written by the first call, and destroyed after use.
    unsafe {
        let mut attributes = std::mem::MaybeUninit::<libc::pthread_attr_t>::zeroed();
        if libc::pthread_getattr_np(libc::pthread_self(), attributes.as_mut_ptr()) != 0 {
            return false;
        }
        let (mut start, mut size) = (ptr::null_mut(), 0);
        let known = libc::pthread_attr_getstack(attributes.as_ptr(), &raw mut start, &raw mut size) == 0;
        libc::pthread_attr_destroy(attributes.as_mut_ptr());
        known && (start as usize..start as usize + size).contains(&address)
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = address;
        false
    }
}

fn count(ran: usize) -> c_int {
    c_int::try_from(ran).unwrap_or(c_int::MAX)
}

/// The time between the beginning and the end of a run.
struct Scope<'a> {
    lp: Owned<'a>,
    thread: &'a Thread,
    /// The thread's context slot, which a panic leaves pointing at a frame that is gone.
    slot: *mut Word,
    me: usize,
    /// Dropped last: the run keeps the loop alive.
    _life: LoopRef,
}

impl Scope<'_> {
    fn begin(&self, frame: usize) {
        let event_loop = self.lp.event_loop();
        self.thread.running.set(event_loop);
        self.thread.runs.set(true);
        self.thread.run_frame.set(frame);
        self.thread.attention.set(0);
        event_loop.running.store(true, Ordering::Relaxed);
        event_loop.inbox.wake_up();
        self.lp.set_exit_code(0);
        self.lp.with(|state| {
            state.thread = self.thread;
            state.runs = 1;
            // The first iteration polls.
            state.unpolled = UNPOLLED_ITERATIONS;
            state.now_is_known = false;
        });
    }
}

impl Drop for Scope<'_> {
    fn drop(&mut self) {
        let event_loop = self.lp.event_loop();
        self.lp.with(|state| {
            state.runs = 0;
            state.stopping = false;
            state.now_is_known = false;
        });
        self.thread.in_callback.set(false);
        self.thread.slot.set(self.slot);
        let owner = event_loop.owner.load(Ordering::Relaxed);
        if owner != self.me && owner != POISONED {
            // Forked: there is nothing to give back. `in_child` has told the thread.
            return;
        }
        self.thread.running.set(ptr::null());
        self.thread.runs.set(false);
        event_loop.running.store(false, Ordering::Relaxed);
        // From here on a post wakes the descriptor that a host may be waiting on.
        if !event_loop.inbox.fall_asleep() {
            event_loop.inbox.wake();
        }
        let broken = owner == POISONED || std::thread::panicking();
        event_loop.owner.store(if broken { POISONED } else { NOBODY }, Ordering::Release);
    }
}

impl Owned<'_> {
    fn iterate_until_idle(&self) -> Result<usize> {
        let mut ran = 0;
        loop {
            // That nothing is ready is known only after a poll.
            self.with(|state| state.unpolled = UNPOLLED_ITERATIONS);
            let now = self.iterate(0)?;
            ran += now;
            if self.with(|state| state.stopping || now == 0 && state.ready.len() == 0) {
                return Ok(ran);
            }
        }
    }

    /// One iteration, as told above. Returns how many callbacks ran.
    fn iterate(&self, timeout: i64) -> Result<usize> {
        let (ready, unpolled) = self.with(|state| {
            state.counters.iterations += 1;
            state.now_is_known = false;
            state.unpolled += 1;
            (state.ready.len() > 0 || state.stopping, state.unpolled)
        });
        self.take_posts()?;
        self.take_signals()?;
        let ready = ready || self.is_busy();
        if !ready {
            self.wait(timeout)?;
        } else if self.poll_is_due(unpolled) {
            self.poll(0)?;
        }
        self.take_due()?;
        self.run_ready()
    }

    /// Whether descriptors have waited for long enough.
    #[inline]
    fn poll_is_due(&self, unpolled: u32) -> bool {
        let event_loop = self.event_loop();
        let (idle, polled_at) = self.with(|state| {
            let idle = state.watch.is_idle() && !state.watch.has_changes() && !state.embedded;
            (idle, state.polled_at)
        });
        if idle {
            return false;
        }
        unpolled > UNPOLLED_ITERATIONS
            || event_loop.clock.is_manual()
            || self.now().saturating_sub(polled_at) >= UNPOLLED_TIME
    }

    /// Whether there is a reason not to wait.
    fn is_busy(&self) -> bool {
        self.with(|state| state.ready.len() > 0 || state.stopping)
    }

    /// Takes what other threads have sent.
    #[inline]
    pub(crate) fn take_posts(&self) -> Result<()> {
        let inbox = &self.event_loop().inbox;
        if inbox.is_empty() {
            return Ok(());
        }
        self.take_all_posts(inbox)
    }

    fn take_all_posts(&self, inbox: &Inbox) -> Result<()> {
        let mut posted = inbox.take();
        loop {
            let Some(entry) = posted.next() else { return Ok(()) };
            if entry.function.is_some_and(|function| ptr::fn_addr_eq(function, lifetime::nothing as callback::CallFn)) {
                callback::release(entry.arg, entry.free);
                continue;
            }
            let pushed = self.with(|state| {
                state.counters.posts += 1;
                state.ready.push(entry)
            });
            if let Err(error) = pushed {
                // No memory: what was taken cannot be put back, and is released unrun.
                lifetime::release_posted(&entry);
                return Err(error);
            }
        }
    }

    /// Moves the timers that are due to the ready queue.
    #[inline]
    fn take_due(&self) -> Result<()> {
        if self.with(|state| state.timers.is_empty()) {
            return Ok(());
        }
        let now = self.now();
        self.with(|state| {
            loop {
                state.ready.reserve(1)?;
                let Some(timer) = state.timers.take_due(&state.cells, now)? else { return Ok(()) };
                // SAFETY: it was kept by being started, and is by being in the queue.
                let cell = unsafe { &*timer };
                if state.elaborate || !cell.is_plain() {
                    state.enqueue(cell)?;
                    cell.clear(STARTED);
                    continue;
                }
                // Nobody can ask for this one any more: its words are all that is needed.
                state.ready.push(cell.entry())?;
                state.cells.put(timer);
                state.live_cells -= 1;
            }
        })
    }

    /// How long the poller may wait before a timer is due; FOREVER without one.
    fn time_left(&self) -> i64 {
        match self.with(|state| state.timers.next(&state.cells)) {
            // Timers due by a clock that does not move by itself do not end a wait.
            None => FOREVER,
            Some(deadline) => {
                let left = deadline.saturating_sub(self.time()).max(0);
                if left > 0 && self.event_loop().clock.is_manual() { FOREVER } else { left }
            }
        }
    }

    /// Waits for something to do, at most `timeout`.
    fn wait(&self, timeout: i64) -> Result<()> {
        if self.event_loop().clock.is_manual() {
            self.poll(0)?;
        }
        // What this calls may schedule something, or stop the loop.
        self.flush_watch()?;
        if self.is_busy() {
            return Ok(());
        }
        let left = timeout.min(self.time_left());
        if left == 0 {
            if !self.event_loop().clock.is_manual() {
                self.poll(0)?;
            }
            return Ok(());
        }
        let (before, after, held) = self.with(|state| (state.before_wait, state.after_wait, state.wait_arg.clone()));
        let arg = pointer_of(held.as_ref());
        let left = match before {
            None => left,
            Some(before) => {
                // SAFETY: the host gave the function with its arg.
                unsafe { callback::call(before, arg) };
                // The hook may have moved a manual clock, scheduled something, or asked to stop.
                self.with(|state| state.now_is_known = false);
                timeout
            }
        };
        let polled = self.sleep(left);
        if let Some(after) = after {
            // SAFETY: as above.
            unsafe { callback::call(after, arg) };
        }
        polled?;
        self.take_posts()?;
        self.take_signals()
    }

    /// Polls, waiting at most `limit` nanoseconds of real time. A signal that is none of ours does not end the wait, nor does a
    /// wake-up whose reason is gone.
    fn sleep(&self, limit: i64) -> Result<()> {
        let inbox = &self.event_loop().inbox;
        let end = if limit == FOREVER { FOREVER } else { super::clock::monotonic().saturating_add(limit) };
        let mut left = limit;
        let result = loop {
            // The poller must be as it will be before the loop says that it sleeps: renewing it loses wake-ups.
            if let Err(error) = self.flush_watch().and_then(|()| self.ensure_waker()) {
                break Err(error);
            }
            let wait = if self.is_busy() { 0 } else { left.min(self.time_left()) };
            let quiet = inbox.fall_asleep() && !self.with(|state| state.signals.have_arrived());
            let polled = self.poll(if quiet { wait } else { 0 });
            let woken = !inbox.is_empty() || self.with(|state| state.signals.have_arrived());
            if polled.is_err() || wait == 0 || woken || self.is_busy() || self.time_left() == 0 {
                break polled;
            }
            left = if end == FOREVER { FOREVER } else { end.saturating_sub(super::clock::monotonic()) };
            if left <= 0 {
                break Ok(());
            }
        };
        inbox.wake_up();
        result
    }

    /// Asks the poller, waiting at most `timeout`, and makes the watchers of what is ready ready.
    fn poll(&self, timeout: i64) -> Result<()> {
        self.flush_watch()?;
        let idle = self.with(|state| state.watch.is_idle() && !state.embedded);
        if timeout == 0 && idle {
            return Ok(());
        }
        // Told what the host's failing handlers may have scheduled meanwhile.
        let timeout = if self.with(|state| state.ready.len() > 0) { 0 } else { timeout };
        self.with(|state| {
            state.counters.polls += 1;
            state.unpolled = 0;
            let Some(mut poller) = state.poller.take() else { return Err(Error::CLOSED) };
            let mut delivered = Ok(());
            let polled = poller.wait(if timeout == FOREVER { -1 } else { timeout }, |event| {
                if delivered.is_ok() {
                    delivered = watch::deliver(state, event);
                }
            });
            state.poller = Some(poller);
            state.now_is_known = false;
            delivered.and(polled)
        })?;
        if !self.with(|state| state.watch.is_idle()) {
            let now = self.now();
            self.with(|state| state.polled_at = now);
        }
        Ok(())
    }

    /// Runs what is ready now.
    fn run_ready(&self) -> Result<usize> {
        let thread = thread::current();
        let ready = self.with(|state| state.ready.len());
        if ready == 0 {
            return Ok(0);
        }
        let mut ran = 0;
        let mut result = Ok(());
        // Callbacks that were scheduled without a context run in this one, which stays empty unless they set a variable.
        // Everything else, such as the exception handler, runs in the context round the run function.
        let mut word = Word::NONE;
        let outside = thread.slot.get();
        thread.in_callback.set(true);
        for _ in 0..ready {
            let Some(entry) = self.with(|state| state.ready.pop()) else { break };
            match entry.function {
                Some(function) if entry.context.is_none() => {
                    ran += 1;
                    thread.slot.set(&raw mut word);
                    // SAFETY: the host gave both to be called together, once.
                    guarded(|| unsafe { function(entry.arg) });
                    if thread.attention.get() != 0 {
                        context::unwind(thread, &raw mut word);
                    }
                    thread.slot.set(outside);
                    if thread.attention.get() != 0 || entry.free.is_some() {
                        result = self.finish_entry(thread, &entry, &raw mut word);
                    }
                }
                Some(function) => {
                    ran += 1;
                    result = self.run_in_context(thread, function, entry);
                }
                None if entry.arg.is_null() => {}
                None => {
                    let (done, called) = self.run_queued(thread, entry.arg.cast_const().cast());
                    result = done;
                    ran += usize::from(called);
                }
            }
            if result.is_err() {
                break;
            }
        }
        thread.in_callback.set(false);
        self.with(|state| state.counters.callbacks += ran as u64);
        result.map(|()| ran)
    }

    /// What follows from how a callback without a handle and without a context of its own went.
    fn finish_entry(&self, thread: &Thread, entry: &Entry, word: *mut Word) -> Result<()> {
        let attention = thread.attention.get();
        let mut told = Ok(());
        if attention & thread::CONTEXT != 0 {
            thread.attention.set(attention & !thread::CONTEXT);
            // SAFETY: it is the caller's, and nothing but this thread's slot points to it.
            unsafe { std::mem::replace(&mut *word, Word::NONE) }.release();
        }
        if attention & !thread::CONTEXT != 0 {
            told = exception::attend(self, ptr::null());
        }
        callback::release(entry.arg, entry.free);
        told
    }

    /// Runs a callback that has a context, but no handle.
    fn run_in_context(&self, thread: &Thread, function: callback::CallFn, entry: Entry) -> Result<()> {
        let mut word = entry.context;
        // SAFETY: the word stays here until the frame is left.
        let entered = unsafe { Frame::enter(thread, &raw mut word) }.map(|frame| {
            // SAFETY: the host gave both to be called together, once.
            guarded(|| unsafe { function(entry.arg) });
            frame.leave();
        });
        let mut told = Ok(());
        if thread.attention.get() != 0 {
            told = exception::attend(self, ptr::null());
        }
        if let Err(error) = entered {
            let report = Report::new(error, "The context of a callback is in use", ptr::null());
            told = exception::call_handler(self, &report);
        }
        callback::release(entry.arg, entry.free);
        word.release();
        told
    }

    /// Runs a handle that was taken from the ready queue, and tells whether its callback was called.
    #[inline]
    fn run_queued(&self, thread: &Thread, handle: *const Handle) -> (Result<()>, bool) {
        // SAFETY: it was kept by being in the queue, and only this thread could free it.
        let cell = unsafe { &*handle };
        // What is not marked was withdrawn; it may have been cancelled or paused since the poll.
        let call = cell.has(QUEUED) && !cell.has(CANCELLED | PAUSED | DONE);
        let mut result = Ok(());
        if call {
            cell.change(QUEUED | IN_RING, RUNNING);
            result = self.call_handle(thread, cell);
        } else {
            cell.clear(QUEUED | IN_RING);
        }
        // SAFETY: the entry of a handle that another thread made is a reference; others were held.
        unsafe {
            if cell.has(COUNTED) {
                Handle::release_ptr(handle);
            } else {
                Handle::settle(handle);
            }
        }
        (result, call)
    }

    /// Calls the callback of a handle that is marked as running in its context, and does what follows from how it went.
    /// It is not marked as running afterwards; its caller settles whether it goes.
    #[inline]
    fn call_handle(&self, thread: &Thread, handle: &Handle) -> Result<()> {
        let Some(function) = handle.function.get() else { return Ok(()) };
        let at = handle.context.as_ptr();
        let mut told = Ok(());
        if handle.context.get().is_none() && !self.with(|state| state.elaborate) {
            let outside = thread.slot.replace(at);
            // SAFETY: the host gave both to be called together.
            guarded(|| unsafe { function(handle.arg.get()) });
            if thread.attention.get() != 0 {
                // SAFETY: the word stays in the cell, which is kept by running.
                unsafe { context::leave(thread, at) };
                thread.slot.set(outside);
                told = exception::attend(self, handle);
            }
            thread.slot.set(outside);
        } else {
            told = self.call_elaborately(thread, handle, function);
        }
        if handle.has(CANCELLED | PERIODIC) {
            told = told.and(self.go_on(handle));
        } else if handle.has(ONE_SHOT) {
            handle.set(DONE);
            handle.release_arg();
        }
        handle.clear(RUNNING);
        told
    }

    /// Calls a callback that has a context, or in debug mode.
    fn call_elaborately(&self, thread: &Thread, handle: &Handle, function: callback::CallFn) -> Result<()> {
        let started = self.event_loop().debug().then(super::clock::monotonic);
        // SAFETY: the word stays in the cell, which is kept by running.
        let entered = unsafe { Frame::enter(thread, handle.context.as_ptr()) }.map(|frame| {
            // SAFETY: the host gave both to be called together.
            guarded(|| unsafe { function(handle.arg.get()) });
            frame.leave();
        });
        let mut told = Ok(());
        if thread.attention.get() != 0 {
            told = exception::attend(self, handle);
        }
        if let Err(error) = entered {
            told = exception::call_handler(self, &Report::new(error, "The context of a callback is in use", handle));
        }
        if let Some(started) = started {
            self.report_slow(handle, super::clock::monotonic() - started);
        }
        told
    }

    /// What follows for a handle that was cancelled by its callback, or that has an interval.
    #[cold]
    fn go_on(&self, handle: &Handle) -> Result<()> {
        if handle.has(CANCELLED) {
            handle.release_arg();
            return Ok(());
        }
        if handle.has(STARTED) { Ok(()) } else { self.next_tick(handle) }
    }

    #[cold]
    fn report_slow(&self, handle: &Handle, took: i64) {
        if took >= self.event_loop().slow_callback() {
            let (seconds, rest) = (took / 1_000_000_000, took / 1_000_000 % 1000);
            self.log(debug::WARNING, &format!("Executing {} took {seconds}.{rest:03} seconds", handle.repr()));
        }
    }

    /// `Handle._run`: now, whatever the queue says.
    pub(crate) fn run_handle(&self, handle: &Handle) -> Result<()> {
        if handle.has(CANCELLED) {
            return Err(Error::CANCELLED);
        }
        if handle.has(RUNNING) {
            return Err(Error::ENTERED);
        }
        if handle.has(DONE) {
            return Err(Error::DONE);
        }
        handle.retain();
        handle.set(RUNNING);
        self.with(|state| state.calls += 1);
        let aside = Aside::begin();
        let result = self.call_handle(thread::current(), handle);
        aside.end();
        self.with(|state| state.calls -= 1);
        if handle.has(DONE) {
            self.withdraw(handle);
        }
        // SAFETY: the reference taken above.
        unsafe { Handle::release_ptr(handle) };
        result
    }

    /// When the next timer is due.
    pub(crate) fn next_deadline(&self) -> i64 {
        self.with(|state| state.timers.exact_next(&state.cells)).unwrap_or(FOREVER)
    }

    /// Gets ready for a host that waits on the poller's descriptor: whether something is ready, and when the next timer is due.
    pub(crate) fn prepare(&self) -> Result<(bool, i64)> {
        if self.with(|state| state.runs > 0) {
            return Err(Error::RUNNING);
        }
        self.flush_watch()?;
        let deadline = self.with(|state| state.timers.next(&state.cells));
        let due = deadline.is_some_and(|deadline| deadline <= self.time());
        let waiting = self.with(|state| state.ready.len() > 0 || state.stopping || state.signals.have_arrived());
        if self.event_loop().fd_deadlines && !self.event_loop().clock.is_manual() {
            self.with(|state| state.poller.as_mut().map_or(Ok(()), |poller| poller.set_deadline(deadline)))?;
        }
        let ready = due || waiting || !self.event_loop().inbox.is_empty();
        Ok((ready, deadline.unwrap_or(FOREVER)))
    }
}
