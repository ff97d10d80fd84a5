//! The descriptors that a child is to have: decided here, and carried out in the child by whoever starts it.

use std::ffi::{CStr, c_int};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use super::spawn::{Options, Stdio};
use crate::error::{self, Error, Result};

/// What the child does with descriptors before it is executed, in this order: change directory, duplicate, and close what it is not given.
pub(super) struct Files {
    pub(super) directory: Option<c_int>,
    /// Sources and targets; the same number twice makes the child keep it.
    pub(super) duplicates: Vec<(c_int, c_int)>,
    /// What stays open above 2, in order; None: everything that is not close-on-exec.
    pub(super) kept: Option<Vec<c_int>>,
    /// What stays open here until the child has started.
    open: Vec<OwnedFd>,
}

impl Files {
    /// What `options` say, and this process's ends of the pipes.
    pub(super) fn new(options: &Options) -> Result<(Files, [Option<OwnedFd>; 3])> {
        let mut kept: Vec<c_int> = options.pass_fds.iter().copied().filter(|fd| !(0..=2).contains(fd)).collect();
        kept.sort_unstable();
        kept.dedup();
        // Looked at before anything is opened here: what is, must not be passed on because it has got such a number.
        for &fd in &kept {
            // SAFETY: a plain system call.
            if unsafe { libc::fcntl(fd, libc::F_GETFD) } < 0 {
                return Err(Error::last_os().detail(|| format!("descriptor {fd}")));
            }
        }
        let mut this = Files { directory: None, duplicates: Vec::new(), kept: None, open: Vec::new() };
        let (mut pipes, mut sources) = ([None, None, None], [None, None, None]);
        for (number, stdio) in options.stdio.into_iter().enumerate() {
            sources[number] = match stdio {
                Stdio::Inherit => None,
                Stdio::Pipe => {
                    let (reader, writer) = pipe(options.pipe_size)?;
                    let (ours, theirs) = if number == 0 { (writer, reader) } else { (reader, writer) };
                    pipes[number] = Some(ours);
                    Some(this.keep(theirs, number as c_int)?)
                }
                Stdio::Null => Some(this.keep(open(c"/dev/null", libc::O_RDWR)?, number as c_int)?),
                Stdio::Stdout => Some(sources[1].unwrap_or(1)),
                Stdio::Descriptor(fd) if fd < 0 => {
                    return Err(Error::BAD_DESCRIPTOR.detail(|| format!("descriptor {fd}")));
                }
                Stdio::Descriptor(fd) => Some(this.lend(fd, number as c_int)?),
            };
        }
        if let Some(cwd) = options.cwd {
            let directory = open(cwd, libc::O_PATH | libc::O_DIRECTORY).map_err(|error| {
                let why = error::describe(error.code()).to_string_lossy();
                error.detail(|| format!("directory {}: {why}", cwd.to_string_lossy()))
            })?;
            this.directory = Some(this.keep(directory, -1)?);
        }
        for (number, source) in (0..).zip(sources) {
            if let Some(source) = source {
                this.duplicates.push((source, number));
            }
        }
        this.duplicates.extend(kept.iter().map(|&fd| (fd, fd)));
        if !options.keep_fds {
            this.kept = Some(kept);
        }
        Ok((this, pipes))
    }

    /// Keeps a descriptor until the child has it as `target`, under a number that no other target overwrites.
    fn keep(&mut self, fd: OwnedFd, target: c_int) -> Result<c_int> {
        let number = self.lend(fd.as_raw_fd(), target)?;
        self.open.push(fd);
        Ok(number)
    }

    /// As [`Files::keep`], of a descriptor that is somebody else's.
    fn lend(&mut self, fd: c_int, target: c_int) -> Result<c_int> {
        if fd > 2 || fd == target {
            return Ok(fd);
        }
        let copy = above_standard(fd)?;
        let number = copy.as_raw_fd();
        self.open.push(copy);
        Ok(number)
    }
}

/// A copy of a descriptor, above the standard ones, which nobody inherits.
pub(super) fn above_standard(fd: c_int) -> Result<OwnedFd> {
    // SAFETY: a plain system call; the descriptor is new, and nobody else's.
    unsafe {
        let copy = libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 3);
        if copy < 0 { Err(Error::last_os()) } else { Ok(OwnedFd::from_raw_fd(copy)) }
    }
}

/// A pipe whose ends nobody inherits; of a size, if that is positive.
pub(super) fn pipe(size: c_int) -> Result<(OwnedFd, OwnedFd)> {
    let mut fds = [0; 2];
    // SAFETY: there is room for two descriptors, which are new, and nobody else's.
    let (reader, writer) = unsafe {
        if libc::pipe2(fds.as_mut_ptr(), libc::O_CLOEXEC) < 0 {
            return Err(Error::last_os());
        }
        (OwnedFd::from_raw_fd(fds[0]), OwnedFd::from_raw_fd(fds[1]))
    };
    // SAFETY: a plain system call.
    if size > 0 && unsafe { libc::fcntl(writer.as_raw_fd(), libc::F_SETPIPE_SZ, size) } < 0 {
        return Err(Error::last_os().detail(|| format!("a pipe of {size} bytes")));
    }
    Ok((reader, writer))
}

fn open(path: &CStr, flags: c_int) -> Result<OwnedFd> {
    // SAFETY: a path that ends with NUL; the descriptor is new, and nobody else's.
    unsafe {
        let fd = libc::open(path.as_ptr(), flags | libc::O_CLOEXEC);
        if fd < 0 { Err(Error::last_os()) } else { Ok(OwnedFd::from_raw_fd(fd)) }
    }
}
