//! Linux: level-triggered registrations on the epoll instance of a `mio::Poll`, and waits with nanoseconds.
//!
//! mio registers edge-triggered only and rounds timeouts up to milliseconds, so that this asks the kernel itself.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

use super::{DEADLINE, Event, READ, WAKE, WRITE};
use crate::error::{Error, Result};

const BATCH: usize = 256;

/// From here on, in nanoseconds, whole milliseconds are waited first: that call is cheaper, and mostly something else ends the wait.
const COARSE: i64 = 20_000_000;

/// One epoll instance with its wake-up.
pub(crate) struct Poller {
    poll: mio::Poll,
    /// Made when first asked for: a loop that never waits needs none.
    waker: Option<OwnedFd>,
    /// One that others may be using yet.
    retired: Option<OwnedFd>,
    /// A timer descriptor that makes the poller's own descriptor readable at a deadline; made when first asked for.
    deadline: Option<OwnedFd>,
}

impl Poller {
    pub(crate) fn new() -> Result<Self> {
        Ok(Poller { poll: mio::Poll::new()?, waker: None, retired: None, deadline: None })
    }

    /// Starts over with nothing registered, sharing nothing with what was before (which another process may still use). The
    /// descriptors keep their numbers, so that a host goes on waiting on the same one.
    pub(crate) fn renew(&mut self) -> Result<()> {
        // All that may fail comes before what was there is given up.
        let poll = mio::Poll::new()?;
        let waker = match &self.waker {
            Some(_) => Some(new_waker()?),
            None => None,
        };
        if let Some(waker) = &waker {
            add_waker(&poll, waker.as_raw_fd())?;
        }
        replace(&poll, &self.poll)?;
        self.deadline = None;
        if let (Some(new), Some(old)) = (waker, &self.waker)
            && replace(&new, old).is_err()
        {
            // The number is another one then, which `waker` tells.
            self.retired = self.waker.replace(new);
        }
        Ok(())
    }

    /// Readable when there are events.
    pub(crate) fn fd(&self) -> Option<RawFd> {
        Some(self.poll.as_raw_fd())
    }

    /// What to write eight bytes to, from a signal handler or another thread.
    pub(crate) fn waker(&mut self) -> Result<RawFd> {
        if let Some(waker) = &self.waker {
            return Ok(waker.as_raw_fd());
        }
        let waker = new_waker()?;
        add_waker(&self.poll, waker.as_raw_fd())?;
        Ok(self.waker.insert(waker).as_raw_fd())
    }

    pub(crate) fn add(&self, fd: RawFd, token: u64, interest: u8) -> Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd, token, bits(interest))
    }

    /// -ENOENT when the descriptor is another one than the one that was added.
    pub(crate) fn modify(&self, fd: RawFd, token: u64, interest: u8) -> Result<()> {
        self.control(libc::EPOLL_CTL_MOD, fd, token, bits(interest))
    }

    pub(crate) fn delete(&self, fd: RawFd) -> Result<()> {
        self.control(libc::EPOLL_CTL_DEL, fd, 0, 0)
    }

    /// Waits for events, at most `timeout` nanoseconds (negative: for ever), and hands each to `found`.
    /// A signal ends the wait, and so may the time being nearly over.
    pub(crate) fn wait(&mut self, timeout: i64, mut found: impl FnMut(Event)) -> Result<()> {
        // Clearing it would cost more than the rest of this function.
        let mut events = [const { MaybeUninit::<libc::epoll_event>::uninit() }; BATCH];
        let count = match self.wait_raw(&mut events, timeout) {
            Ok(count) => count,
            Err(error) if error.raw_os_error() == Some(libc::EINTR) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        for event in &events[..count] {
            // SAFETY: the kernel has written so many.
            let libc::epoll_event { events: bits, u64: token } = unsafe { event.assume_init_read() };
            match token {
                WAKE => {}
                DEADLINE => self.drain_deadline(),
                _ => {
                    // As asyncio: whatever is no mere writability wakes the reader, and the other way round.
                    let read = if bits & !(libc::EPOLLOUT as u32) != 0 { READ } else { 0 };
                    let write = if bits & !(libc::EPOLLIN as u32) != 0 { WRITE } else { 0 };
                    found(Event { token, ready: read | write });
                }
            }
        }
        Ok(())
    }

    fn wait_raw(&self, events: &mut [MaybeUninit<libc::epoll_event>; BATCH], timeout: i64) -> io::Result<usize> {
        static NO_PWAIT2: AtomicBool = AtomicBool::new(false);
        let epoll = self.poll.as_raw_fd();
        let room = BATCH as libc::c_int;
        if (1..COARSE).contains(&timeout) && !NO_PWAIT2.load(Ordering::Relaxed) {
            let limit = libc::timespec {
                tv_sec: (timeout / 1_000_000_000) as libc::time_t,
                tv_nsec: (timeout % 1_000_000_000) as libc::c_long,
            };
            // SAFETY: the buffer has room for BATCH events; no signal mask is passed.
            let count = unsafe {
                libc::syscall(
                    libc::SYS_epoll_pwait2,
                    epoll,
                    events.as_mut_ptr(),
                    room,
                    &raw const limit,
                    std::ptr::null::<libc::sigset_t>(),
                    8usize,
                )
            };
            if count >= 0 {
                return Ok(count as usize);
            }
            let error = io::Error::last_os_error();
            // Kernels before 5.11, and sandboxes that do not know the call.
            if !matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM)) {
                return Err(error);
            }
            NO_PWAIT2.store(true, Ordering::Relaxed);
        }
        let milliseconds = match timeout {
            ..0 => -1,
            // Rounded up: waking early would only mean waiting again.
            0..COARSE => (timeout + 999_999) / 1_000_000,
            // Rounded down, and the last of it is waited for again.
            COARSE.. => timeout / 1_000_000,
        };
        let milliseconds = libc::c_int::try_from(milliseconds).unwrap_or(libc::c_int::MAX);
        // SAFETY: the buffer has room for BATCH events.
        let count = unsafe { libc::epoll_wait(epoll, events.as_mut_ptr().cast(), room, milliseconds) };
        if count < 0 { Err(io::Error::last_os_error()) } else { Ok(count as usize) }
    }

    /// Makes the poller's descriptor readable at a time of the monotonic clock; None: not by time.
    pub(crate) fn set_deadline(&mut self, deadline: Option<i64>) -> Result<()> {
        if self.deadline.is_none() {
            if deadline.is_none() {
                return Ok(());
            }
            // SAFETY: a plain system call; the descriptor is owned from here on.
            let timer = unsafe {
                let fd = libc::timerfd_create(libc::CLOCK_MONOTONIC, libc::TFD_CLOEXEC | libc::TFD_NONBLOCK);
                if fd < 0 {
                    return Err(Error::last_os());
                }
                OwnedFd::from_raw_fd(fd)
            };
            self.control(libc::EPOLL_CTL_ADD, timer.as_raw_fd(), DEADLINE, libc::EPOLLIN as u32)?;
            self.deadline = Some(timer);
        }
        let Some(timer) = &self.deadline else { return Ok(()) };
        // A time of zero would disarm it: the past is one nanosecond after the beginning.
        let at = deadline.map_or(0, |time| time.max(1));
        let zero = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        let value = libc::timespec { tv_sec: at / 1_000_000_000, tv_nsec: at % 1_000_000_000 };
        let setting = libc::itimerspec { it_interval: zero, it_value: value };
        // SAFETY: the pointer is to a setting of ours.
        let result = unsafe {
            libc::timerfd_settime(timer.as_raw_fd(), libc::TFD_TIMER_ABSTIME, &raw const setting, std::ptr::null_mut())
        };
        if result < 0 { Err(Error::last_os()) } else { Ok(()) }
    }

    fn drain_deadline(&self) {
        if let Some(timer) = &self.deadline {
            let mut count = 0u64;
            // SAFETY: reads eight bytes into eight bytes of ours. Nothing to read is fine.
            unsafe { libc::read(timer.as_raw_fd(), (&raw mut count).cast(), 8) };
        }
    }

    fn control(&self, operation: libc::c_int, fd: RawFd, token: u64, events: u32) -> Result<()> {
        control(&self.poll, operation, fd, token, events)
    }
}

fn add_waker(poll: &mio::Poll, waker: RawFd) -> Result<()> {
    // Edge-triggered, so that nobody needs to read it.
    control(poll, libc::EPOLL_CTL_ADD, waker, WAKE, (libc::EPOLLIN | libc::EPOLLET) as u32)
}

fn control(poll: &mio::Poll, operation: libc::c_int, fd: RawFd, token: u64, events: u32) -> Result<()> {
    let mut event = libc::epoll_event { events, u64: token };
    // SAFETY: the pointer is to an event of ours.
    let result = unsafe { libc::epoll_ctl(poll.as_raw_fd(), operation, fd, &raw mut event) };
    if result < 0 { Err(Error::last_os()) } else { Ok(()) }
}

fn new_waker() -> Result<OwnedFd> {
    // SAFETY: a plain system call.
    let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
    if fd < 0 {
        return Err(Error::last_os());
    }
    // SAFETY: the descriptor is new and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Makes the number of `old` stand for what `new` is.
fn replace(new: &impl AsRawFd, old: &impl AsRawFd) -> Result<()> {
    // SAFETY: both are open; the number stays owned by `old`.
    let result = unsafe { libc::dup3(new.as_raw_fd(), old.as_raw_fd(), libc::O_CLOEXEC) };
    if result < 0 { Err(Error::last_os()) } else { Ok(()) }
}

fn bits(interest: u8) -> u32 {
    let read = if interest & READ != 0 { libc::EPOLLIN } else { 0 };
    let write = if interest & WRITE != 0 { libc::EPOLLOUT } else { 0 };
    (read | write) as u32
}

/// Wakes a poller by its descriptor. Async-signal-safe.
pub(crate) fn wake(waker: RawFd) {
    let one = 1u64;
    // SAFETY: writes eight bytes of ours; a full counter means that it is awake already.
    while unsafe { libc::write(waker, (&raw const one).cast(), 8) } < 0 && Error::last_os() == Error::INTERRUPTED {}
}
