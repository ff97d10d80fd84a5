//! Everywhere else: mio, whose edge-triggered registrations are renewed after each event, so that they act level-triggered.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};

use super::{Event, READ, WAKE, WRITE};
use crate::error::{Error, Result};

/// A mio poll with a socket pair as its wake-up: unlike mio's Waker it can be used in a signal handler.
pub(crate) struct Poller {
    poll: Poll,
    events: Events,
    wake_read: UnixStream,
    wake_write: UnixStream,
    registered: HashMap<RawFd, (u64, u8)>,
    by_token: HashMap<usize, RawFd>,
}

impl Poller {
    pub(crate) fn new() -> Result<Self> {
        let poll = Poll::new()?;
        let (wake_read, wake_write) = UnixStream::pair()?;
        wake_read.set_nonblocking(true)?;
        wake_write.set_nonblocking(true)?;
        let token = Token(WAKE as usize);
        poll.registry().register(&mut SourceFd(&wake_read.as_raw_fd()), token, Interest::READABLE)?;
        let (registered, by_token) = (HashMap::new(), HashMap::new());
        Ok(Poller { poll, events: Events::with_capacity(256), wake_read, wake_write, registered, by_token })
    }

    /// Starts over with nothing registered, sharing nothing with what was before. The descriptors are others.
    pub(crate) fn renew(&mut self) -> Result<()> {
        *self = Poller::new()?;
        Ok(())
    }

    pub(crate) fn fd(&self) -> Option<RawFd> {
        Some(self.poll.as_raw_fd())
    }

    pub(crate) fn waker(&mut self) -> Result<RawFd> {
        Ok(self.wake_write.as_raw_fd())
    }

    pub(crate) fn add(&mut self, fd: RawFd, token: u64, interest: u8) -> Result<()> {
        self.poll.registry().register(&mut SourceFd(&fd), Token(token as usize), flags(interest))?;
        self.note(fd, token, interest);
        Ok(())
    }

    pub(crate) fn modify(&mut self, fd: RawFd, token: u64, interest: u8) -> Result<()> {
        self.poll.registry().reregister(&mut SourceFd(&fd), Token(token as usize), flags(interest))?;
        self.note(fd, token, interest);
        Ok(())
    }

    pub(crate) fn delete(&mut self, fd: RawFd) -> Result<()> {
        if let Some((token, _)) = self.registered.remove(&fd) {
            self.by_token.remove(&(token as usize));
        }
        Ok(self.poll.registry().deregister(&mut SourceFd(&fd))?)
    }

    fn note(&mut self, fd: RawFd, token: u64, interest: u8) {
        if let Some((old, _)) = self.registered.insert(fd, (token, interest)) {
            self.by_token.remove(&(old as usize));
        }
        self.by_token.insert(token as usize, fd);
    }

    pub(crate) fn wait(&mut self, timeout: i64, mut found: impl FnMut(Event)) -> Result<()> {
        let limit = u64::try_from(timeout).ok().map(Duration::from_nanos);
        match self.poll.poll(&mut self.events, limit) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            result => result?,
        }
        for event in &self.events {
            let token = event.token().0;
            if token == WAKE as usize {
                let mut buffer = [0u8; 256];
                while io::Read::read(&mut &self.wake_read, &mut buffer).is_ok_and(|count| count > 0) {}
                continue;
            }
            let broken = event.is_error() || event.is_read_closed() || event.is_write_closed();
            let read = if event.is_readable() || broken { READ } else { 0 };
            let write = if event.is_writable() || broken { WRITE } else { 0 };
            if let Some(&fd) = self.by_token.get(&token) {
                let (token, interest) = self.registered[&fd];
                // Renewed, so that what stays ready is told again; a descriptor that is gone will not be.
                let _ = self.poll.registry().reregister(&mut SourceFd(&fd), Token(token as usize), flags(interest));
                found(Event { token, ready: read | write });
            }
        }
        Ok(())
    }

    /// Not to be had by this poller.
    pub(crate) fn set_deadline(&mut self, _deadline: Option<i64>) -> Result<()> {
        Err(Error::from_code(-libc::ENOSYS))
    }
}

fn flags(interest: u8) -> Interest {
    match interest {
        READ => Interest::READABLE,
        WRITE => Interest::WRITABLE,
        _ => Interest::READABLE | Interest::WRITABLE,
    }
}

/// Wakes a poller by its descriptor. Async-signal-safe.
pub(crate) fn wake(waker: RawFd) {
    // SAFETY: writes one byte of ours; a full socket means that it is awake already.
    unsafe { libc::write(waker, [1u8].as_ptr().cast(), 1) };
}
