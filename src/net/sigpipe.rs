//! System calls that know no MSG_NOSIGNAL.

use std::mem::MaybeUninit;
use std::ptr;

use crate::error::{Error, Result};

/// Has a system call, which would write `size` bytes, made with SIGPIPE blocked in this thread, and takes the one that comes: also when
/// something was written before the peer was found to be gone.
pub(super) fn masked(size: usize, system_call: impl FnOnce() -> isize) -> Result<usize> {
    let mut sigpipe = MaybeUninit::<libc::sigset_t>::zeroed();
    let mut before = MaybeUninit::<libc::sigset_t>::zeroed();
    // SAFETY: sets are initialised before use. One that is pending already is whoever's who blocks it.
    unsafe {
        libc::sigemptyset(sigpipe.as_mut_ptr());
        libc::sigaddset(sigpipe.as_mut_ptr(), libc::SIGPIPE);
        libc::pthread_sigmask(libc::SIG_BLOCK, sigpipe.as_ptr(), before.as_mut_ptr());
        let was_blocked = libc::sigismember(before.as_ptr(), libc::SIGPIPE) == 1;
        let mut pending = MaybeUninit::<libc::sigset_t>::zeroed();
        let was_pending = was_blocked
            && libc::sigpending(pending.as_mut_ptr()) == 0
            && libc::sigismember(pending.as_ptr(), libc::SIGPIPE) == 1;
        let result = usize::try_from(system_call()).map_err(|_| Error::last_os());
        if result != Ok(size) && !was_pending {
            let at_once = libc::timespec { tv_sec: 0, tv_nsec: 0 };
            while libc::sigtimedwait(sigpipe.as_ptr(), ptr::null_mut(), &raw const at_once) < 0
                && Error::last_os().code() == -libc::EINTR
            {}
        }
        libc::pthread_sigmask(libc::SIG_SETMASK, before.as_ptr(), ptr::null_mut());
        result
    }
}
