//! One child: signals that reach nobody else, and its end, which only one can reap.
//!
//! A number that was reaped may be another process's by now. So whoever reaps and whoever signals do it under the child's lock, or by
//! its pidfd.

use std::ffi::c_int;
use std::mem::MaybeUninit;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::lock::Lock;

/// A child process.
pub(crate) struct Child {
    pid: c_int,
    /// Whose child it is: a process that was forked off since has no part in it.
    parent: c_int,
    /// -1: there is none.
    pidfd: c_int,
    end: Lock<Option<End>>,
}

/// How a child has ended.
#[derive(Clone, Copy)]
pub(crate) enum End {
    /// An exit status, or the negative number of a signal.
    Code(c_int),
    /// Somebody else has reaped it.
    Unknown,
}

/// What is told of a child that somebody else has reaped.
pub(crate) const UNKNOWN_CODE: c_int = 255;

impl Child {
    /// The child of this process with that number, which nobody has reaped yet.
    pub(crate) fn new(pid: c_int) -> Child {
        // SAFETY: plain system calls.
        let (pidfd, parent) = unsafe { (libc::syscall(libc::SYS_pidfd_open, pid, 0) as c_int, libc::getpid()) };
        Child { pid, parent, pidfd, end: Lock::new(None) }
    }

    pub(crate) fn pid(&self) -> c_int {
        self.pid
    }

    /// Readable once the child has ended.
    pub(crate) fn pidfd(&self) -> Option<c_int> {
        (self.pidfd >= 0).then_some(self.pidfd)
    }

    /// Whether this process is the parent.
    pub(crate) fn is_ours(&self) -> bool {
        // SAFETY: a plain system call.
        self.parent == unsafe { libc::getpid() }
    }

    /// Sends a signal. -ESRCH once the child was reaped.
    pub(crate) fn signal(&self, number: c_int) -> Result<()> {
        let end = self.end.lock();
        if end.is_some() || !self.is_ours() {
            return Err(Error::NO_PROCESS);
        }
        // SAFETY: plain system calls. Without a pidfd, nobody but this library's users could have reaped the number.
        let sent = unsafe {
            match self.pidfd() {
                Some(pidfd) => libc::syscall(libc::SYS_pidfd_send_signal, pidfd, number, 0usize, 0usize) as c_int,
                None => libc::kill(self.pid, number),
            }
        };
        drop(end);
        if sent < 0 { Err(Error::last_os()) } else { Ok(()) }
    }

    /// Reaps the child if it has ended.
    pub(crate) fn reap(&self) -> Option<End> {
        let mut end = self.end.lock();
        if end.is_none() {
            *end = wait(self.pid, libc::WNOHANG);
        }
        *end
    }

    /// Waits until the child has ended, without reaping it.
    pub(crate) fn wait(&self) {
        let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
        let options = libc::WEXITED | libc::WNOWAIT;
        // SAFETY: the buffer is a siginfo's.
        while unsafe { libc::waitid(libc::P_PID, self.pid as libc::id_t, info.as_mut_ptr(), options) } < 0
            && Error::last_os().code() == -libc::EINTR
        {}
    }

    /// Kills a child whose start came to nothing, and waits for its end, which is near.
    pub(crate) fn discard(&self) {
        let _ = self.signal(libc::SIGKILL);
        let mut end = self.end.lock();
        if end.is_none() {
            *end = wait(self.pid, 0);
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if self.pidfd >= 0 {
            // SAFETY: the descriptor is the child's.
            unsafe { libc::close(self.pidfd) };
        }
    }
}

fn wait(pid: c_int, options: c_int) -> Option<End> {
    let mut status = 0;
    loop {
        // SAFETY: status is writable.
        match unsafe { libc::waitpid(pid, &raw mut status, options) } {
            0 => return None,
            found if found > 0 && libc::WIFSIGNALED(status) => return Some(End::Code(-libc::WTERMSIG(status))),
            found if found > 0 => return Some(End::Code(libc::WEXITSTATUS(status))),
            _ if Error::last_os().code() == -libc::EINTR => {}
            _ => return Some(End::Unknown),
        }
    }
}

/// Children that were killed when their loop was closed, and had not ended then.
static ORPHANS: Lock<Vec<Arc<Child>>> = Lock::new(Vec::new());

/// Holds the lock across fork.
pub(crate) fn lock_for_fork() {
    std::mem::forget(ORPHANS.lock());
}

/// # Safety
/// Ends a `lock_for_fork` of this thread.
pub(crate) unsafe fn unlock_after_fork() {
    // SAFETY: by this function's contract.
    unsafe { ORPHANS.force_unlock() };
}

/// Kills a child that nobody waits for any more. It is reaped now, or when another one is started or left.
pub(crate) fn leave(child: &Arc<Child>) {
    if !child.is_ours() {
        return;
    }
    if child.signal(libc::SIGKILL).is_ok() && child.reap().is_none() {
        ORPHANS.lock().push(child.clone());
    }
    sweep();
}

/// Reaps the orphans that have ended.
pub(crate) fn sweep() {
    let orphans = std::mem::take(&mut *ORPHANS.lock());
    if orphans.is_empty() {
        return;
    }
    let (left, gone): (Vec<_>, Vec<_>) =
        orphans.into_iter().partition(|child| child.is_ours() && child.reap().is_none());
    drop(gone);
    ORPHANS.lock().extend(left);
}
