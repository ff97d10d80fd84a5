//! Readers and writers of descriptors.
//!
//! The table knows, for every descriptor, who wants what, and what the kernel was told. Changes wait for the next poll, but adding
//! to a descriptor that nothing else is pending for asks the kernel at once, so that its error reaches the caller. A descriptor may be closed, and its
//! number used again, behind the loop's back: what is touched is always told anew, and a token carries the generation of
//! its registration, so that events of an old one are noticed. An old registration that cannot be deleted (a duplicate keeps it
//! alive) is left behind by making the poller anew.

use std::ffi::c_void;

use super::callback::Callback;
use super::context::{Captured, Word};
use super::event_loop::{Owned, State};
use super::exception::{self, Report};
use super::handle::{Handle, INTERNAL, PAUSED, REGISTERED, WATCH, WRITER};
use super::source::{self, REFUSED};
use crate::error::{self, Error, Result};
use crate::poller::{Event, Poller, READ, WRITE};

/// What a watcher waits for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Readable.
    Read,
    /// Writable.
    Write,
}

/// One descriptor. Its watchers are marked as registered, which keeps them.
#[derive(Clone, Copy)]
pub(super) struct Watched {
    reader: *const Handle,
    writer: *const Handle,
    generation: u32,
    /// What the kernel was told; 0: it does not know the descriptor.
    registered: u8,
    /// Whether that was told for the object that waits now: what was told before may have been of another file with the same number.
    is_sources: bool,
    /// Whether it stands in `changed`.
    pending: bool,
    /// An object waits for it (see `source`), which `reader` points to; and what for.
    is_source: bool,
    interest: u8,
}

const UNWATCHED: Watched = Watched {
    reader: std::ptr::null(),
    writer: std::ptr::null(),
    generation: 0,
    registered: 0,
    is_sources: false,
    pending: false,
    is_source: false,
    interest: 0,
};

impl Watched {
    fn slot(&mut self, direction: Direction) -> &mut *const Handle {
        match direction {
            Direction::Read => &mut self.reader,
            Direction::Write => &mut self.writer,
        }
    }

    /// Whether evl uses it: both ways, or (where the host has no watcher of its own) one of them.
    #[inline]
    fn is_taken(&self, direction: Direction) -> bool {
        let (own, other) = match direction {
            Direction::Read => (self.reader, self.writer),
            Direction::Write => (self.writer, self.reader),
        };
        let deciding = if own.is_null() { other } else { own };
        // SAFETY: what is no source is a watcher, which is kept by being registered.
        self.is_source || unsafe { deciding.as_ref() }.is_some_and(|watcher| watcher.has(INTERNAL))
    }

    /// What the watchers want now.
    fn wanted(&self) -> u8 {
        if self.is_source {
            return self.interest;
        }
        let wants = |watcher: *const Handle, bit| {
            // SAFETY: a watcher is kept by being registered.
            unsafe { watcher.as_ref() }.map_or(0, |watcher| if watcher.has(PAUSED) { 0 } else { bit })
        };
        wants(self.reader, READ) | wants(self.writer, WRITE)
    }
}

/// All descriptors of a loop, by their number.
pub(crate) struct Watch {
    table: Vec<Watched>,
    changed: Vec<i32>,
    watchers: usize,
    /// Descriptors the kernel knows.
    registered: usize,
    /// An event of an old registration came.
    haunted: bool,
    /// Why the kernel would not watch a descriptor, the last time.
    pub(super) refusal: Error,
}

impl Watch {
    pub(crate) const fn new() -> Self {
        Watch {
            table: Vec::new(),
            changed: Vec::new(),
            watchers: 0,
            registered: 0,
            haunted: false,
            refusal: Error::INVALID,
        }
    }

    /// How many watchers there are.
    pub(crate) fn len(&self) -> usize {
        self.watchers
    }

    /// Whether a poll could find anything.
    pub(crate) fn is_idle(&self) -> bool {
        self.registered == 0 && self.changed.is_empty()
    }

    pub(crate) fn has_changes(&self) -> bool {
        !self.changed.is_empty() || self.haunted
    }

    /// All watchers with their descriptors; the counts stay the table's.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (*const Handle, i32)> + '_ {
        (0..)
            .zip(&self.table)
            .filter(|(_, watched)| !watched.is_source)
            .flat_map(|(fd, watched)| [(watched.reader, fd), (watched.writer, fd)])
            .filter(|w| !w.0.is_null())
    }

    /// Makes sure that the table has a place for a descriptor.
    #[inline]
    pub(super) fn make_room(&mut self, fd: i32) -> Result<()> {
        if (fd as usize) < self.table.len() { Ok(()) } else { self.grow(fd) }
    }

    #[cold]
    fn grow(&mut self, fd: i32) -> Result<()> {
        // A number out of thin air must not make the table huge.
        // SAFETY: a plain system call.
        if unsafe { libc::fcntl(fd, libc::F_GETFD) } < 0 {
            return Err(Error::last_os());
        }
        let place = fd as usize;
        let more = (place + 1).next_power_of_two().max(16) - self.table.len();
        self.table.try_reserve_exact(more).map_err(|_| Error::NO_MEMORY)?;
        self.table.resize(place + 1, UNWATCHED);
        Ok(())
    }

    /// The object that waits for a descriptor, or NULL; and what for.
    pub(super) fn source(&self, fd: i32) -> (*const (), u8) {
        let watched =
            usize::try_from(fd).ok().and_then(|place| self.table.get(place)).filter(|watched| watched.is_source);
        watched.map_or((std::ptr::null(), 0), |watched| (watched.reader.cast(), watched.interest))
    }

    /// Makes `object` the one that waits for a descriptor nobody waits for; NULL: nobody does.
    pub(super) fn set_source(&mut self, fd: i32, object: *const ()) {
        let watched = &mut self.table[fd as usize];
        let was_source = watched.is_source;
        watched.reader = object.cast();
        watched.is_source = !object.is_null();
        watched.is_sources = false;
        watched.interest = 0;
        match (was_source, watched.is_source) {
            (false, true) => self.watchers += 1,
            (true, false) => self.watchers -= 1,
            _ => {}
        }
    }

    /// Changes what the object waits for.
    pub(super) fn set_interest(&mut self, fd: i32, interest: u8) {
        if self.table[fd as usize].interest != interest {
            self.table[fd as usize].interest = interest;
            self.note_change(fd);
        }
    }

    pub(super) fn is_registered(&self, fd: i32) -> bool {
        usize::try_from(fd).ok().and_then(|place| self.table.get(place)).is_some_and(|watched| watched.registered != 0)
    }

    /// The descriptor is about to be closed, which takes it from the kernel's list.
    pub(super) fn forget_registration(&mut self, fd: i32) {
        let watched = &mut self.table[fd as usize];
        if watched.registered != 0 {
            watched.registered = 0;
            self.registered -= 1;
        }
    }

    fn note_change(&mut self, fd: i32) {
        if !self.table[fd as usize].pending {
            self.table[fd as usize].pending = true;
            self.changed.push(fd);
        }
    }

    /// Tells the kernel what is wanted of one descriptor.
    fn tell(&mut self, poller: &mut Poller, fd: i32) -> Result<()> {
        let watched = &mut self.table[fd as usize];
        let wanted = watched.wanted();
        if wanted == 0 {
            if watched.registered != 0 {
                watched.registered = 0;
                self.registered -= 1;
                // It may be closed, or another one by now: then there is nothing to delete.
                let _ = poller.delete(fd);
            }
            return Ok(());
        }
        if watched.is_sources && watched.registered == wanted {
            // Its owner closes it, nobody else.
            return Ok(());
        }
        if watched.registered != 0 {
            match poller.modify(fd, token(fd, watched.generation), wanted) {
                Err(error) if error == Error::NO_ENTRY => {
                    watched.registered = 0;
                    self.registered -= 1;
                }
                Err(error) => return Err(error),
                Ok(()) => {
                    watched.registered = wanted;
                    watched.is_sources = watched.is_source;
                    return Ok(());
                }
            }
        }
        watched.generation = watched.generation.wrapping_add(1);
        poller.add(fd, token(fd, watched.generation), wanted)?;
        watched.registered = wanted;
        watched.is_sources = watched.is_source;
        self.registered += 1;
        Ok(())
    }

    /// The kernel refuses a descriptor: takes its watchers.
    fn give_up(&mut self, poller: &mut Poller, fd: i32) -> [*const Handle; 2] {
        let watched = &mut self.table[fd as usize];
        if watched.registered != 0 {
            watched.registered = 0;
            self.registered -= 1;
            let _ = poller.delete(fd);
        }
        if watched.is_source {
            // It stays where it is, and is not told to the kernel again until it wants something else.
            watched.interest = 0;
            return [std::ptr::null(); 2];
        }
        let taken = [watched.reader, watched.writer];
        (watched.reader, watched.writer) = (std::ptr::null(), std::ptr::null());
        self.watchers -= taken.iter().filter(|handle| !handle.is_null()).count();
        taken
    }

    /// Forgets what the kernel was told: the poller is new. Everything is told again at the next poll.
    pub(crate) fn start_over(&mut self) {
        self.haunted = false;
        self.registered = 0;
        for fd in 0..self.table.len() {
            self.table[fd].registered = 0;
            if self.table[fd].wanted() != 0 {
                self.note_change(fd as i32);
            }
        }
    }
}

#[cold]
fn busy(fd: i32) -> Error {
    Error::BUSY.detail(|| format!("descriptor {fd} is used by a transport or an operation"))
}

fn token(fd: i32, generation: u32) -> u64 {
    // The generation's highest bit stays clear, so that no token is one of the poller's own.
    u64::from(generation & 0x7fff_ffff) << 32 | u64::from(fd as u32)
}

/// Hands an event to the watchers of its descriptor: they become ready.
#[inline]
pub(crate) fn deliver(state: &mut State, event: Event) -> Result<()> {
    let fd = event.token as u32 as usize;
    let Some(watched) = state.watch.table.get(fd).copied() else { return Ok(()) };
    if watched.registered == 0 || token(fd as i32, watched.generation) != event.token {
        state.watch.haunted = true;
        return Ok(());
    }
    state.counters.events += 1;
    if watched.is_source {
        let ready = event.ready & watched.registered & watched.interest;
        return if ready == 0 { Ok(()) } else { source::wake(state, watched.reader.cast(), ready) };
    }
    for (watcher, bit) in [(watched.reader, READ), (watched.writer, WRITE)] {
        // SAFETY: a watcher is kept by being registered.
        let Some(handle) = (unsafe { watcher.as_ref() }) else { continue };
        if event.ready & watched.registered & bit != 0 && !handle.has(PAUSED) {
            state.enqueue(handle)?;
        }
    }
    Ok(())
}

impl Owned<'_> {
    /// `loop.add_reader`, `loop.add_writer`.
    pub(crate) fn watch(
        &self,
        fd: i32,
        direction: Direction,
        callback: Callback,
        context: Captured,
        want_handle: bool,
    ) -> Result<*const Handle> {
        self.add_watcher(fd, direction, callback, context, 0, want_handle)
    }

    /// Watches a descriptor for an operation or a transport. EVL_EBUSY when somebody watches it in that direction already.
    /// The callback is called without a context. When the kernel will not watch it any more, the watcher is taken, and the callback called
    /// once more: a system call tells why.
    pub(crate) fn watch_internal(&self, fd: i32, direction: Direction, callback: Callback) -> Result<()> {
        if self.is_watched(fd, direction) {
            return Err(Error::BUSY.detail(|| format!("descriptor {fd} is being waited for already")));
        }
        self.add_watcher(fd, direction, callback, Captured::new(Word::NONE), INTERNAL, false).map(|_| ())
    }

    /// Ends what [`Owned::watch_internal`] began; the callback's arg is released, after the callback if it is running.
    pub(crate) fn unwatch_internal(&self, fd: i32, direction: Direction) {
        let Ok(handle) = self.watcher(fd, direction) else { return };
        // SAFETY: a watcher is kept by being registered.
        if unsafe { handle.as_ref() }.is_some_and(|handle| handle.has(INTERNAL)) {
            self.take_watcher(fd, direction);
            self.retire(handle);
        }
    }

    /// Whether anybody watches the descriptor in that direction.
    pub(crate) fn is_watched(&self, fd: i32, direction: Direction) -> bool {
        if self.with(|state| !state.watch.source(fd).0.is_null()) {
            return true;
        }
        self.watcher(fd, direction).is_ok_and(|found| !found.is_null())
    }

    /// Whether what [`Owned::watch_internal`] began with this arg goes on.
    pub(crate) fn is_watched_for(&self, fd: i32, direction: Direction, arg: *mut c_void) -> bool {
        // SAFETY: a watcher is kept by being registered.
        let handle = self.watcher(fd, direction).ok().and_then(|found| unsafe { found.as_ref() });
        handle.is_some_and(|handle| handle.has(INTERNAL) && handle.arg() == arg)
    }

    /// Refuses a descriptor that is used by evl, but for a watcher of the host's own that is there.
    fn refuse_internal(&self, fd: i32, direction: Direction) -> Result<()> {
        let taken = self.with(|state| {
            let watched = usize::try_from(fd).ok().and_then(|place| state.watch.table.get(place));
            watched.is_some_and(|watched| watched.is_taken(direction))
        });
        if taken { Err(busy(fd)) } else { Ok(()) }
    }

    fn add_watcher(
        &self,
        fd: i32,
        direction: Direction,
        callback: Callback,
        context: Captured,
        internal: u16,
        want_handle: bool,
    ) -> Result<*const Handle> {
        if fd < 0 {
            return Err(Error::BAD_DESCRIPTOR.detail(|| format!("descriptor {fd} is negative")));
        }
        let flags = REGISTERED | WATCH | internal | if direction == Direction::Write { WRITER } else { 0 };
        let handle = self.new_cell(callback, context, flags, want_handle, i64::from(fd))?;
        let old = self.with(|state| -> Result<*const Handle> {
            let State { watch, poller, .. } = state;
            let place = fd as usize;
            watch.make_room(fd)?;
            let watched = &mut watch.table[place];
            if internal == 0 && watched.is_taken(direction) {
                return Err(Error::BUSY);
            }
            let old = std::mem::replace(watched.slot(direction), handle);
            if watched.pending {
                return Ok(old);
            }
            let poller = poller.as_mut().ok_or(Error::CLOSED)?;
            if let Err(error) = watch.tell(poller, fd) {
                *watch.table[place].slot(direction) = old;
                return Err(error);
            }
            Ok(old)
        });
        match old {
            Ok(old) if old.is_null() => self.with(|state| state.watch.watchers += 1),
            Ok(old) => self.retire(old),
            Err(error) => {
                self.discard(handle);
                if error == Error::BUSY {
                    return Err(busy(fd));
                }
                let what = if direction == Direction::Read { "add_reader" } else { "add_writer" };
                let why = error::describe(error.code()).to_string_lossy();
                return Err(error.detail(|| format!("{what}: descriptor {fd}: {why}")));
            }
        }
        Ok(if want_handle { handle } else { std::ptr::null() })
    }

    /// `loop.remove_reader`, `loop.remove_writer`: whether there was one.
    pub(crate) fn unwatch(&self, fd: i32, direction: Direction) -> Result<bool> {
        let place = usize::try_from(fd).map_err(|_| Error::BAD_DESCRIPTOR)?;
        let taken = self.with(|state| -> Result<*const Handle> {
            let Some(watched) = state.watch.table.get_mut(place) else { return Ok(std::ptr::null()) };
            if watched.is_taken(direction) {
                return Err(Error::BUSY);
            }
            let handle = std::mem::replace(watched.slot(direction), std::ptr::null());
            if !handle.is_null() {
                state.watch.watchers -= 1;
                state.watch.note_change(fd);
            }
            Ok(handle)
        });
        let handle = taken.map_err(|_| busy(fd))?;
        if handle.is_null() {
            return Ok(false);
        }
        self.retire(handle);
        Ok(true)
    }

    /// A watcher's handle is being cancelled: forgets it, if it is still the one.
    pub(crate) fn forget_watcher(&self, fd: i32, direction: Direction, handle: &Handle) {
        if self.watcher(fd, direction).is_ok_and(|found| std::ptr::eq(found, handle)) {
            self.take_watcher(fd, direction);
        }
        handle.clear(REGISTERED);
    }

    /// Stops or resumes the calls of a watcher.
    pub(crate) fn pause(&self, fd: i32, direction: Direction, paused: bool) -> Result<()> {
        self.refuse_internal(fd, direction)?;
        self.set_paused(fd, direction, paused)
    }

    fn set_paused(&self, fd: i32, direction: Direction, paused: bool) -> Result<()> {
        // SAFETY: a watcher is kept by being registered.
        let Some(handle) = (unsafe { self.watcher(fd, direction)?.as_ref() }) else { return Err(Error::NO_ENTRY) };
        if handle.has(PAUSED) != paused {
            if paused {
                handle.set(PAUSED);
            } else {
                handle.clear(PAUSED);
            }
            self.with(|state| state.watch.note_change(fd));
        }
        Ok(())
    }

    fn watcher(&self, fd: i32, direction: Direction) -> Result<*const Handle> {
        let place = usize::try_from(fd).map_err(|_| Error::BAD_DESCRIPTOR)?;
        Ok(self.with(|state| {
            let watched = state.watch.table.get_mut(place).filter(|watched| !watched.is_source);
            watched.map_or(std::ptr::null(), |watched| *watched.slot(direction))
        }))
    }

    fn take_watcher(&self, fd: i32, direction: Direction) {
        self.with(|state| {
            *state.watch.table[fd as usize].slot(direction) = std::ptr::null();
            state.watch.watchers -= 1;
            state.watch.note_change(fd);
        });
    }

    /// Tells the kernel what has changed since the last poll.
    pub(crate) fn flush_watch(&self) -> Result<()> {
        if self.with(|state| std::mem::take(&mut state.watch.haunted)) {
            self.rebuild_poller()?;
        }
        while let Some(fd) = self.with(|state| state.watch.changed.pop()) {
            let failed = self.with(|state| {
                let State { watch, poller, .. } = state;
                let poller = poller.as_mut()?;
                watch.table[fd as usize].pending = false;
                let error = watch.tell(poller, fd).err()?;
                let (object, interest) = watch.source(fd);
                let handles = watch.give_up(poller, fd);
                if !object.is_null() {
                    watch.refusal = error;
                    return source::wake(state, object, interest | REFUSED).err().map(|error| (error, handles));
                }
                Some((error, handles))
            });
            if let Some((error, handles)) = failed {
                self.tell_failure(fd, error, handles)?;
            }
        }
        Ok(())
    }

    /// Reports that a descriptor cannot be watched, and cancels its watchers, which were taken out of the table.
    fn tell_failure(&self, fd: i32, error: Error, handles: [*const Handle; 2]) -> Result<()> {
        let what = format!("descriptor {fd} cannot be watched any more");
        let mut result = Ok(());
        // SAFETY: they were held until now; the references keep them while the host's code runs.
        let handles = handles.map(|handle| unsafe { handle.as_ref() }.inspect(|handle| handle.retain()));
        for handle in handles.into_iter().flatten() {
            if handle.has(INTERNAL) {
                result = result.and(self.enqueue(handle));
                handle.clear(REGISTERED);
                // SAFETY: the reference taken above.
                unsafe { Handle::release_ptr(handle) };
                continue;
            }
            let told = exception::call_handler(self, &Report::new(error, &what, handle));
            self.retire(handle);
            result = result.and(told);
            // SAFETY: the reference taken above.
            unsafe { Handle::release_ptr(handle) };
        }
        result
    }

    /// Makes sure that other threads and signals can wake the poller.
    #[inline]
    pub(crate) fn ensure_waker(&self) -> Result<()> {
        let inbox = &self.event_loop().inbox;
        if inbox.lacks_waker() {
            let waker = self.with(|state| state.poller.as_mut().ok_or(Error::CLOSED)?.waker())?;
            inbox.set_waker(waker);
            if !inbox.is_empty() {
                inbox.wake();
            }
        }
        Ok(())
    }

    /// Has the poller start over, and everything be told to it again at the next poll.
    pub(crate) fn rebuild_poller(&self) -> Result<()> {
        let waker = self.with(|state| -> Result<_> {
            let poller = state.poller.as_mut().ok_or(Error::CLOSED)?;
            if let Err(error) = poller.renew() {
                // It is tried again; until then the one there goes on.
                state.watch.haunted = true;
                return Err(error);
            }
            state.watch.start_over();
            poller.waker()
        })?;
        self.event_loop().inbox.set_waker(waker);
        self.move_signal_waker(waker);
        // A wake-up that was on its way may have gone with the old poller.
        self.event_loop().inbox.wake();
        Ok(())
    }
}
