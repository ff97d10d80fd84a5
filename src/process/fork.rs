//! Starting a child by fork: where it is to be another user's, to have another umask, or to run a function of the host's before it is executed.
//!
//! Between fork and exec the child calls nothing but the kernel, and the host's function: another thread may have held any lock. What it
//! needs is made before. It tells by a pipe that closes when it is executed why it could not be.

use std::ffi::{CString, c_char, c_int};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};
use std::ptr;

use super::files::{self, Files};
use super::spawn::{Options, is_of_this_file};
use crate::engine::callback::guarded;
use crate::error::{Error, Result};

/// The kernel's number of the last signal.
const LAST_SIGNAL: c_int = 64;

/// Starts the first of `candidates` that can be executed.
///
/// # Safety
/// The pointers in `options` are as told there; `envp` is a list of strings that ends with NULL, or NULL.
pub(super) unsafe fn start(
    options: &Options,
    files: &Files,
    candidates: &[CString],
    envp: *const *const c_char,
) -> Result<c_int> {
    let (reader, writer) = files::pipe(0)?;
    // Its number must be none of those that the child gives to other descriptors.
    let writer = if writer.as_raw_fd() > 2 { writer } else { files::above_standard(writer.as_raw_fd())? };
    let report = writer.as_raw_fd();
    let kept = files.kept.as_ref().map(|kept| {
        let mut all = [kept.as_slice(), &[report]].concat();
        all.sort_unstable();
        all
    });
    // No handler of this process runs in the child.
    // SAFETY: sets are filled before they are used. The child does what is told at `in_child`, and ends there.
    let pid = unsafe {
        let (mut all, mut before) = (MaybeUninit::uninit(), MaybeUninit::uninit());
        libc::sigfillset(all.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr());
        let pid = libc::fork();
        if pid == 0 {
            let code = in_child(options, files, kept.as_deref(), candidates, envp);
            libc::write(report, (&raw const code).cast(), size_of::<c_int>());
            libc::_exit(127);
        }
        let failure = Error::last_os();
        libc::pthread_sigmask(libc::SIG_SETMASK, before.as_ptr(), ptr::null_mut());
        if pid < 0 {
            return Err(failure);
        }
        pid
    };
    drop(writer);
    match told(&reader) {
        None => Ok(pid),
        Some(code) => {
            // SAFETY: a plain system call; the child has ended, or is about to, and is nobody else's.
            while unsafe { libc::waitpid(pid, ptr::null_mut(), 0) } < 0 && Error::last_os() == Error::INTERRUPTED {}
            Err(Error::from_code(code))
        }
    }
}

/// What the child has told; None: it is executed.
fn told(reader: &OwnedFd) -> Option<c_int> {
    let mut code: c_int = 0;
    loop {
        // SAFETY: reads as many bytes as there is room for.
        let count = unsafe { libc::read(reader.as_raw_fd(), (&raw mut code).cast(), size_of::<c_int>()) };
        if count < 0 && Error::last_os() == Error::INTERRUPTED {
            continue;
        }
        // Four bytes come at once.
        return (count == size_of::<c_int>() as isize).then_some(code);
    }
}

fn check(result: c_int) -> std::result::Result<(), c_int> {
    if result < 0 { Err(Error::last_os().code()) } else { Ok(()) }
}

/// Becomes what `options` say, in the order of `subprocess`, and is executed. Returns why not. `kept` is what stays open above 2, in order;
/// None: everything.
///
/// # Safety
/// In a forked child, as [`start`].
unsafe fn in_child(
    options: &Options,
    files: &Files,
    kept: Option<&[c_int]>,
    candidates: &[CString],
    envp: *const *const c_char,
) -> c_int {
    // SAFETY: by this function's contract; nothing is called but the kernel, and the host's function.
    let prepared = unsafe {
        prepare(options, files).and_then(|()| match options.forked.setup {
            Some((setup, arg)) => Some(guarded(|| setup(arg))).filter(|&code| code < 0).map_or(Ok(()), Err),
            None => Ok(()),
        })
    };
    if let Err(code) = prepared {
        return code;
    }
    if let Some(kept) = kept {
        // SAFETY: as above.
        unsafe { close_others(kept) };
    }
    let mut failure = -libc::ENOENT;
    for candidate in candidates {
        // SAFETY: as above.
        unsafe { libc::execve(candidate.as_ptr(), options.argv.cast(), envp.cast()) };
        let code = Error::last_os().code();
        if !is_of_this_file(-code) {
            return code;
        }
        // That one was found, but may not be executed, says more than that another one is not there.
        if code == -libc::EACCES || candidates.len() == 1 {
            failure = code;
        }
    }
    failure
}

/// # Safety
/// As [`in_child`].
unsafe fn prepare(options: &Options, files: &Files) -> std::result::Result<(), c_int> {
    let forked = &options.forked;
    // SAFETY: by that contract: nothing is called but the kernel. The system calls that change who the process is are made without the
    // C library, which would change other threads, too; there are none.
    unsafe {
        if let Some(directory) = files.directory {
            check(libc::fchdir(directory))?;
        }
        for &(source, target) in &files.duplicates {
            check(if source == target { libc::fcntl(target, libc::F_SETFD, 0) } else { libc::dup2(source, target) })?;
        }
        if let Some(umask) = forked.umask {
            libc::umask(umask as libc::mode_t);
        }
        let mut default = MaybeUninit::<libc::sigaction>::zeroed().assume_init();
        default.sa_sigaction = libc::SIG_DFL;
        for signal in 1..=LAST_SIGNAL {
            // Those that cannot be changed are as they should be.
            libc::sigaction(signal, &raw const default, ptr::null_mut());
        }
        let mut none = MaybeUninit::uninit();
        libc::sigemptyset(none.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, none.as_ptr(), ptr::null_mut());
        if options.new_session {
            check(libc::setsid())?;
        }
        if let Some(group) = options.group {
            check(libc::setpgid(0, group))?;
        }
        if let Some(groups) = forked.groups {
            check(libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) as c_int)?;
        }
        if let Some(group) = forked.group {
            check(libc::syscall(libc::SYS_setresgid, group, group, group) as c_int)?;
        }
        if let Some(user) = forked.user {
            check(libc::syscall(libc::SYS_setresuid, user, user, user) as c_int)?;
        }
    }
    Ok(())
}

/// Closes what the child is not to have.
///
/// # Safety
/// As [`in_child`].
unsafe fn close_others(kept: &[c_int]) {
    let mut next = 3;
    // SAFETY: nobody else in the child has descriptors.
    unsafe {
        for &fd in kept {
            close_range(next, fd - 1);
            next = fd + 1;
        }
        close_range(next, c_int::MAX);
    }
}

/// Closes descriptors from `first` to `last`.
///
/// # Safety
/// They are nobody's.
unsafe fn close_range(first: c_int, last: c_int) {
    if first > last {
        return;
    }
    // SAFETY: by this function's contract. Kernels before 5.9 have them closed one by one.
    unsafe {
        if libc::syscall(libc::SYS_close_range, first, last, 0) == 0 {
            return;
        }
        let mut limit = MaybeUninit::<libc::rlimit>::zeroed().assume_init();
        libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit);
        let end = c_int::try_from(limit.rlim_cur).unwrap_or(1 << 20).min(1 << 20);
        for fd in first..=last.min(end) {
            libc::close(fd);
        }
    }
}
