//! Connecting to one of several addresses (`loop.create_connection`; happy eyeballs, RFC 8305).
//!
//! Attempts are begun one after the other: the next one when the one before has failed, or when it has taken longer than the delay
//! (if there is one). The first that is connected wins, and the others are given up.

use std::ffi::{CString, c_int, c_void};

use super::address;
use super::listen::{self, Socket};
use crate::engine::callback::{Callback, FreeArg};
use crate::engine::event_loop::Owned;
use crate::engine::watch::Direction;
use crate::error::{self, Error, Result};
use crate::task::combine::{Alarm, entered, of};
use crate::task::future::Outcome;
use crate::task::operation::{Operation, OperationRef, Work};

/// Where to connect to.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) family: c_int,
    pub(crate) kind: c_int,
    pub(crate) protocol: c_int,
    pub(crate) address: Vec<u8>,
}

/// What is done with the socket that is connected. It is told once; a failure is the operation's.
pub(crate) trait Connected: Work {
    /// The race of an operation, while it goes on.
    fn race(work: &mut Self) -> Option<&mut Race>;

    /// The first socket is connected.
    fn connected(lp: &Owned, operation: &Operation<Self>, socket: Socket) -> Result<()>;
}

/// An attempt that is under way.
struct Attempt {
    socket: Socket,
    target: usize,
}

/// Attempts to connect to several addresses.
pub(crate) struct Race {
    targets: Vec<Target>,
    /// Where the sockets are bound before; empty: nowhere.
    local: Vec<Target>,
    /// The next one to be tried.
    next: usize,
    delay: Option<i64>,
    attempts: Vec<Attempt>,
    alarm: Option<Alarm>,
    /// What went wrong so far.
    failures: Vec<(Error, String)>,
}

impl Race {
    pub(crate) fn new(targets: Vec<Target>, local: Vec<Target>, delay: Option<i64>) -> Race {
        Race { targets, local, next: 0, delay, attempts: Vec::new(), alarm: None, failures: Vec::new() }
    }

    /// What is told when all have failed: the code, if all have the same, else the first's; and a sentence that lists them.
    fn failure(&self) -> Outcome {
        let Some((first, _)) = self.failures.first() else { return Outcome::error(Error::NO_ENTRY) };
        let all: Vec<&str> = self.failures.iter().map(|(_, text)| text.as_str()).collect();
        let text = match all.as_slice() {
            [one] => (*one).to_owned(),
            all => format!("all {} addresses failed: {}", all.len(), all.join("; ")),
        };
        Outcome::failure(first.code(), CString::new(text.replace('\0', " ")).ok(), FreeArg::none())
    }

    fn note(&mut self, error: Error, text: String) {
        self.failures.push((error, text));
    }

    /// Begins to connect to the next address. None: there is no other. `Ok`: the descriptor, and whether it is connected already.
    fn begin_next(&mut self) -> Option<Result<(c_int, bool)>> {
        let target = self.targets.get(self.next)?.clone();
        self.next += 1;
        Some(match self.begin(&target) {
            Ok((socket, done)) => {
                let fd = socket.fd();
                self.attempts.push(Attempt { socket, target: self.next - 1 });
                Ok((fd, done))
            }
            Err((error, text)) => {
                self.note(error, text);
                Err(error)
            }
        })
    }

    fn begin(&self, target: &Target) -> std::result::Result<(Socket, bool), (Error, String)> {
        let told = |what: &str, address: &[u8], error: Error| (error, listen::sentence(what, address, error));
        let socket = Socket::new(target.family, target.kind, target.protocol)
            .map_err(|error| told("connect", &target.address, error))?;
        self.bind(&socket, target)?;
        loop {
            // SAFETY: the address has so many bytes.
            let result = unsafe {
                let size = target.address.len() as libc::socklen_t;
                libc::connect(socket.fd(), target.address.as_ptr().cast(), size)
            };
            if result == 0 {
                return Ok((socket, true));
            }
            match Error::last_os() {
                Error::INTERRUPTED => {}
                error if error.code() == -libc::EINPROGRESS => return Ok((socket, false)),
                error => return Err(told("connect", &target.address, error)),
            }
        }
    }

    /// Binds the socket to the first local address of its family that can be had.
    fn bind(&self, socket: &Socket, target: &Target) -> std::result::Result<(), (Error, String)> {
        if self.local.is_empty() {
            return Ok(());
        }
        let mut last = None;
        for local in self.local.iter().filter(|local| local.family == target.family) {
            match socket.bind(&local.address) {
                Ok(()) => return Ok(()),
                Err(error) => last = Some((error, listen::sentence("bind", &local.address, error))),
            }
        }
        Err(last.unwrap_or_else(|| {
            let text = format!("no local address of the family of {}", address::describe(&target.address));
            (Error::from_code(-libc::EADDRNOTAVAIL), text)
        }))
    }

    /// Takes an attempt out.
    fn take(&mut self, fd: c_int) -> Option<Attempt> {
        let at = self.attempts.iter().position(|attempt| attempt.socket.fd() == fd)?;
        Some(self.attempts.swap_remove(at))
    }
}

/// What the watcher of an attempt has.
struct Watcher<W: Connected> {
    operation: OperationRef<W>,
    fd: c_int,
}

/// Begins the race, or goes on with it after an attempt has failed.
pub(crate) fn go_on<W: Connected>(lp: &Owned, operation: &Operation<W>) -> Result<()> {
    loop {
        let begun = operation.with(|work| W::race(work).map(Race::begin_next)).flatten();
        match begun {
            // It is over, or does not go on yet.
            None => return Ok(()),
            Some(None) => return consider_failing(lp, operation),
            Some(Some(Err(_))) => {}
            Some(Some(Ok((fd, true)))) => return win(lp, operation, fd),
            Some(Some(Ok((fd, false)))) => match watch(lp, operation, fd) {
                Ok(()) => return set_alarm(lp, operation),
                Err(error) => note_failure(operation, fd, error),
            },
        }
    }
}

/// Waits for the end of an attempt.
fn watch<W: Connected>(lp: &Owned, operation: &Operation<W>, fd: c_int) -> Result<()> {
    let arg = Box::into_raw(Box::new(Watcher { operation: OperationRef::new(operation), fd }));
    let arg = FreeArg::new(arg.cast(), Some(release_watcher::<W>));
    lp.watch_internal(fd, Direction::Write, Callback { function: Some(attempt_ready::<W>), arg })
}

/// The next attempt does not wait for the present one for longer than the delay.
fn set_alarm<W: Connected>(lp: &Owned, operation: &Operation<W>) -> Result<()> {
    let delay = operation.with(|work| {
        let race = W::race(work)?;
        race.delay.filter(|_| race.next < race.targets.len())
    });
    let Some(Some(delay)) = delay else { return Ok(()) };
    let alarm = Alarm::set(lp, lp.time().saturating_add(delay), operation, delay_over::<W>)?;
    let old = operation.with(|work| W::race(work).and_then(|race| race.alarm.replace(alarm)));
    drop(old);
    Ok(())
}

/// Ends the operation when nothing is under way any more.
fn consider_failing<W: Connected>(lp: &Owned, operation: &Operation<W>) -> Result<()> {
    let failure =
        operation.with(|work| W::race(work).filter(|race| race.attempts.is_empty()).map(|race| race.failure()));
    match failure {
        Some(Some(outcome)) => operation.end(lp, outcome),
        _ => Ok(()),
    }
}

/// An attempt is connected: the others are given up.
fn win<W: Connected>(lp: &Owned, operation: &Operation<W>, fd: c_int) -> Result<()> {
    let winner = operation.with(|work| W::race(work).and_then(|race| race.take(fd))).flatten();
    give_up(lp, operation);
    match winner {
        Some(winner) => W::connected(lp, operation, winner.socket),
        None => Ok(()),
    }
}

/// Gives up what is under way: nothing more is told of it.
pub(crate) fn give_up<W: Connected>(lp: &Owned, operation: &Operation<W>) {
    let taken = operation.with(|work| {
        W::race(work).map(|race| {
            race.next = race.targets.len();
            (std::mem::take(&mut race.attempts), race.alarm.take())
        })
    });
    if let Some(Some((attempts, alarm))) = taken {
        for attempt in &attempts {
            lp.unwatch_internal(attempt.socket.fd(), Direction::Write);
        }
        drop((attempts, alarm));
    }
}

unsafe extern "C-unwind" fn release_watcher<W: Connected>(arg: *mut c_void) {
    // SAFETY: the watcher's, which is given up.
    drop(unsafe { Box::from_raw(arg.cast::<Watcher<W>>()) });
}

/// It is known how an attempt has ended.
unsafe extern "C-unwind" fn attempt_ready<W: Connected>(arg: *mut c_void) {
    // SAFETY: the watcher's, released after this.
    let watcher = unsafe { &*arg.cast_const().cast::<Watcher<W>>() };
    // The watcher goes before the operation may.
    let operation = OperationRef::new(&*watcher.operation);
    let fd = watcher.fd;
    let Some(lp) = entered(operation.future()) else { return };
    let mut outcome = super::sock::pending_error(fd);
    if lp.is_watched_for(fd, Direction::Write, arg) {
        lp.unwatch_internal(fd, Direction::Write);
    } else if outcome == Ok(0) && !super::sock::is_writable(fd) {
        // It is not known yet: the kernel would not watch it any more, and is asked anew.
        match watch(&lp, &operation, fd) {
            Ok(()) => return,
            Err(error) => outcome = Err(error),
        }
    }
    let result = match outcome {
        Ok(0) => win(&lp, &operation, fd),
        _ => {
            let error = outcome.map_or_else(|error| error, |errno| Error::from_code(-errno));
            note_failure(&operation, fd, error);
            go_on(&lp, &operation)
        }
    };
    if let Err(error) = result {
        give_up(&lp, &operation);
        let _ = operation.end(&lp, failure_of(error));
    }
}

/// An attempt has failed.
fn note_failure<W: Connected>(operation: &Operation<W>, fd: c_int, error: Error) {
    let failed = operation.with(|work| {
        let race = W::race(work)?;
        let attempt = race.take(fd)?;
        let address = race.targets.get(attempt.target).map_or(&[][..], |target| &target.address);
        let text = listen::sentence("connect", address, error);
        race.note(error, text);
        Some(attempt)
    });
    drop(failed);
}

/// The attempt takes too long to wait for.
unsafe extern "C-unwind" fn delay_over<W: Connected>(arg: *mut c_void) {
    // SAFETY: the timer has a reference.
    let operation = unsafe { of::<W>(arg) };
    let Some(lp) = entered(operation.future()) else { return };
    if let Err(error) = go_on(&lp, operation) {
        give_up(&lp, operation);
        let _ = operation.end(&lp, failure_of(error));
    }
}

/// A failure that is no attempt's.
pub(super) fn failure_of(error: Error) -> Outcome {
    let text = error::describe(error.code()).to_owned();
    Outcome::failure(error.code(), Some(text), FreeArg::none())
}

/// Addresses of the two families by turns, so many of the first family first (`_interleave_addrinfos`).
pub(crate) fn interleave(targets: Vec<Target>, first_count: usize) -> Vec<Target> {
    let mut families: Vec<(c_int, std::collections::VecDeque<Target>)> = Vec::new();
    for target in targets {
        match families.iter_mut().find(|(family, _)| *family == target.family) {
            Some((_, known)) => known.push_back(target),
            None => families.push((target.family, std::iter::once(target).collect())),
        }
    }
    let mut ordered = Vec::new();
    if let Some((_, first)) = families.first_mut() {
        let count = first_count.saturating_sub(1).min(first.len());
        ordered.extend(first.drain(..count));
    }
    while families.iter().any(|(_, left)| !left.is_empty()) {
        ordered.extend(families.iter_mut().filter_map(|(_, left)| left.pop_front()));
    }
    ordered
}
