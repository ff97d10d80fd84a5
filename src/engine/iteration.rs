//! One iteration of a loop, told step by step (`asyncio.base_events.BaseEventLoop._run_once`):
//!
//! 1. takes what other threads and signals have brought;
//! 2. polls, waiting only when nothing is ready; a poll is spared while callbacks are ready, but for no more than
//!    [`UNPOLLED_ITERATIONS`] or [`UNPOLLED_TIME`];
//! 3. moves the timers that are due to the ready queue;
//! 4. runs exactly the callbacks that are ready now (`invoke`): what they schedule is for the next iteration.

use std::ptr;

use super::callback;
use super::entry::Entry;
use super::event_loop::{Owned, pointer_of};
use super::handle::STARTED;
use super::inbox::Inbox;
use super::{clock, lifetime, patience, watch};
use crate::error::{Error, Result};

/// No limit of time.
pub(super) const FOREVER: i64 = i64::MAX;
/// A ready descriptor waits for at most so many iterations.
pub(super) const UNPOLLED_ITERATIONS: u32 = 64;
/// A ready descriptor waits for at most so many nanoseconds, plus the iteration that is running.
const UNPOLLED_TIME: i64 = 100_000;
/// Where no descriptor is left for what wakes the poller, it looks by itself every so many nanoseconds.
const DEAF_WAIT: i64 = 10_000_000;

impl Owned<'_> {
    /// Iterations until nothing is ready. Returns how many callbacks ran.
    pub(super) fn iterate_until_idle(&self) -> Result<usize> {
        let mut ran = 0;
        loop {
            // That nothing is ready is known only after a poll.
            self.with(|state| state.unpolled = UNPOLLED_ITERATIONS);
            let now = self.iterate(0)?;
            ran += now;
            if self.with(|state| state.stopping || now == 0 && state.ready.is_empty()) {
                return Ok(ran);
            }
        }
    }

    /// One iteration, as told above. Returns how many callbacks ran.
    pub(super) fn iterate(&self, timeout: i64) -> Result<usize> {
        let (ready, unpolled) = self.with(|state| {
            state.counters.iterations += 1;
            state.now_is_known = false;
            state.unpolled += 1;
            (!state.ready.is_empty() || state.stopping, state.unpolled)
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
        self.with(|state| !state.ready.is_empty() || state.stopping)
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
        while let Some((first, second)) = posted.next_slots() {
            if second.is_none() && self.with(|state| state.ready.try_push(first)) {
                self.with(|state| state.counters.posts += 1);
            } else {
                // SAFETY: the two belong together.
                self.take_post(unsafe { first.entry(|| second.unwrap_or(first)) })?;
            }
        }
        Ok(())
    }

    #[inline(never)]
    fn take_post(&self, entry: Entry) -> Result<()> {
        if entry.function.is_some_and(|function| ptr::fn_addr_eq(function, lifetime::nothing as callback::CallFn)) {
            callback::release(entry.arg, entry.free);
            return Ok(());
        }
        let pushed = self.with(|state| {
            state.counters.posts += 1;
            state.ready.push(entry)
        });
        if pushed.is_err() {
            // No memory: what was taken cannot be put back, and is released unrun.
            lifetime::release_posted(&entry);
        }
        pushed
    }

    /// Moves the timers that are due to the ready queue.
    #[inline]
    fn take_due(&self) -> Result<()> {
        if self.with(|state| state.timers.is_empty()) { Ok(()) } else { self.move_due() }
    }

    #[inline(never)]
    fn move_due(&self) -> Result<()> {
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
                state.free_own(timer);
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
        if timeout.min(self.time_left()) == 0 {
            if !self.event_loop().clock.is_manual() {
                self.poll(0)?;
            }
            return Ok(());
        }
        let (before, after, held) = self.with(|state| (state.before_wait, state.after_wait, state.wait_arg.clone()));
        let arg = pointer_of(held.as_ref());
        if let Some(before) = before {
            // SAFETY: the host gave the function with its arg.
            unsafe { callback::call(before, arg) };
            // The hook may have moved a manual clock, scheduled something, or asked to stop.
            self.with(|state| state.now_is_known = false);
        }
        let polled = self.sleep(timeout);
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
        if self.with(|state| state.operations.jobs > 0) && self.look_for_results(limit) {
            // Descriptors must not wait for ever while results come one after the other.
            let unpolled = self.with(|state| state.unpolled);
            return if self.poll_is_due(unpolled) { self.poll(0) } else { Ok(()) };
        }
        let end = if limit == FOREVER { FOREVER } else { clock::monotonic().saturating_add(limit) };
        let mut left = limit;
        let result = loop {
            // The poller must be as it will be before the loop says that it sleeps: renewing it loses wake-ups.
            let deaf = match self.flush_watch().and_then(|()| self.ensure_waker()) {
                Ok(()) => false,
                Err(error) if [-libc::EMFILE, -libc::ENFILE].contains(&error.code()) => true,
                Err(error) => break Err(error),
            };
            let wait = if self.is_busy() { 0 } else { left.min(self.time_left()) };
            let wait = if deaf { wait.min(DEAF_WAIT) } else { wait };
            let quiet = inbox.fall_asleep() && !self.with(|state| state.signals.have_arrived());
            let polled = self.poll(if quiet { wait } else { 0 });
            let woken = !inbox.is_empty() || self.with(|state| state.signals.have_arrived());
            if polled.is_err() || wait == 0 || woken || self.is_busy() || self.time_left() == 0 {
                break polled;
            }
            left = if end == FOREVER { FOREVER } else { end.saturating_sub(clock::monotonic()) };
            if left <= 0 {
                break Ok(());
            }
        };
        inbox.wake_up();
        result
    }

    /// Jobs are with executors: looks for their results for a short time, which is faster than to be woken. Descriptors, timers and
    /// signals wait for no longer than that. Whether something was sent.
    #[cold]
    fn look_for_results(&self, limit: i64) -> bool {
        let inbox = &self.event_loop().inbox;
        let limit = limit.min(self.time_left()).min(patience::SHORT);
        self.with(|state| state.operations.patience.look(limit, || !inbox.is_empty()))
    }

    /// Asks the poller, waiting at most `timeout`, and makes the watchers of what is ready ready.
    fn poll(&self, timeout: i64) -> Result<()> {
        self.flush_watch()?;
        let idle = self.with(|state| state.watch.is_idle() && !state.embedded);
        if timeout == 0 && idle {
            return Ok(());
        }
        // Told what the host's failing handlers may have scheduled meanwhile.
        let timeout = if self.with(|state| !state.ready.is_empty()) { 0 } else { timeout };
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
        let waiting = self.with(|state| !state.ready.is_empty() || state.stopping || state.signals.have_arrived());
        if self.event_loop().fd_deadlines && !self.event_loop().clock.is_manual() {
            self.with(|state| state.poller.as_mut().map_or(Ok(()), |poller| poller.set_deadline(deadline)))?;
        }
        let ready = due || waiting || !self.event_loop().inbox.is_empty();
        Ok((ready, deadline.unwrap_or(FOREVER)))
    }
}
