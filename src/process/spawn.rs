//! Starting a child by `posix_spawn`, with what Python's `subprocess.Popen` gives it: default signals, an empty mask, and no
//! descriptors but those it is to have.
//!
//! Nothing the child inherits depends on what other threads do meanwhile: all ends of pipes are close-on-exec here, and the child
//! closes what it was not given, whoever opened it.

use std::ffi::{CStr, CString, c_char, c_int};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr;

use super::child::{self, Child};
use crate::error::{self, Error, Result};

/// What a child has as its standard input, output or error.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stdio {
    /// What this process has.
    Inherit,
    /// A pipe whose other end is this process's.
    Pipe,
    /// /dev/null.
    Null,
    /// For the error: what the output is.
    Stdout,
    /// A descriptor of this process.
    Descriptor(c_int),
}

/// How a child is started. Pointers are the host's, and valid during the call.
pub(crate) struct Options<'a> {
    /// What is executed; None: the first argument.
    pub(crate) program: Option<&'a CStr>,
    /// Ends with NULL.
    pub(crate) argv: *const *const c_char,
    /// Ends with NULL; NULL: this process's.
    pub(crate) envp: *const *const c_char,
    pub(crate) cwd: Option<&'a CStr>,
    pub(crate) stdio: [Stdio; 3],
    pub(crate) new_session: bool,
    /// 0: a group of its own.
    pub(crate) group: Option<c_int>,
    /// Whether descriptors above 2 are left as they are.
    pub(crate) keep_fds: bool,
    pub(crate) pass_fds: &'a [c_int],
}

/// A child, and this process's ends of its pipes.
pub(crate) struct Spawned {
    pub(crate) child: Child,
    pub(crate) pipes: [Option<OwnedFd>; 3],
}

unsafe extern "C" {
    static environ: *const *const c_char;
}

/// Starts a child. What keeps it from being executed is this function's failure.
///
/// # Safety
/// The pointers in `options` are as told there.
pub(crate) unsafe fn start(options: &Options) -> Result<Spawned> {
    child::sweep();
    // SAFETY: by this function's contract; the first argument was found to be there.
    let program = options.program.unwrap_or_else(|| unsafe { CStr::from_ptr(*options.argv) });
    let mut files = Files::new()?;
    let (mut pipes, mut sources) = ([None, None, None], [None, None, None]);
    for (number, stdio) in options.stdio.into_iter().enumerate() {
        sources[number] = match stdio {
            Stdio::Inherit => None,
            Stdio::Pipe => {
                let (reader, writer) = pipe()?;
                let (ours, theirs) = if number == 0 { (writer, reader) } else { (reader, writer) };
                pipes[number] = Some(ours);
                Some(files.keep(theirs, number as c_int)?)
            }
            Stdio::Null => Some(files.keep(open(c"/dev/null", libc::O_RDWR)?, number as c_int)?),
            Stdio::Stdout => Some(sources[1].unwrap_or(1)),
            Stdio::Descriptor(fd) if fd < 0 => return Err(Error::BAD_DESCRIPTOR.detail(|| format!("descriptor {fd}"))),
            Stdio::Descriptor(fd) => Some(files.lend(fd, number as c_int)?),
        };
    }
    if let Some(cwd) = options.cwd {
        let directory = open(cwd, libc::O_PATH | libc::O_DIRECTORY)
            .map_err(|error| error.detail(|| format!("directory {}: {}", cwd.to_string_lossy(), why(error))))?;
        files.change_directory(directory)?;
    }
    for (number, source) in (0..).zip(sources) {
        if let Some(source) = source {
            files.duplicate(source, number)?;
        }
    }
    files.close_others(options)?;
    let attributes = Attributes::new(options)?;
    // SAFETY: by this function's contract; `environ` is only read.
    let pid = unsafe {
        let envp = if options.envp.is_null() { environ } else { options.envp };
        search(program, envp, options.cwd, &mut |path| {
            let mut pid = 0;
            let (argv, envp) = (options.argv.cast(), envp.cast());
            let failure = libc::posix_spawn(
                &raw mut pid,
                path.as_ptr(),
                &raw const files.actions,
                &raw const attributes.0,
                argv,
                envp,
            );
            if failure == 0 { Ok(pid) } else { Err(Error::from_code(-failure)) }
        })
    }
    .map_err(|error| error.detail(|| format!("cannot start {}: {}", program.to_string_lossy(), why(error))))?;
    Ok(Spawned { child: Child::new(pid), pipes })
}

fn why(error: Error) -> std::borrow::Cow<'static, str> {
    error::describe(error.code()).to_string_lossy()
}

/// Tries what the program's name may mean, as Python does: itself when it has a slash, else a file of that name in each directory of
/// the child's PATH.
///
/// # Safety
/// `envp` is a list of strings that ends with NULL, or NULL.
unsafe fn search(
    program: &CStr,
    envp: *const *const c_char,
    cwd: Option<&CStr>,
    start: &mut dyn FnMut(&CStr) -> Result<c_int>,
) -> Result<c_int> {
    let name = program.to_bytes();
    if name.contains(&b'/') || name.is_empty() {
        return start(program);
    }
    // SAFETY: by this function's contract.
    let path = unsafe { path_of(envp) };
    let mut result = Err(Error::NO_ENTRY);
    for directory in path.split(|&byte| byte == b':') {
        let mut candidate = directory.to_vec();
        if !directory.is_empty() {
            candidate.push(b'/');
        }
        candidate.extend_from_slice(name);
        let Ok(candidate) = CString::new(candidate) else { continue };
        let failure = match check_executable(&candidate, cwd) {
            Ok(()) => match start(&candidate) {
                Err(error) if is_of_this_file(error) => error,
                result => return result,
            },
            Err(error) => error,
        };
        // That one was found, but may not be executed, says more than that another one is not there.
        if failure.code() == -libc::EACCES {
            result = Err(failure);
        }
    }
    result
}

/// Whether another file of that name may be better.
fn is_of_this_file(error: Error) -> bool {
    matches!(-error.code(), libc::ENOENT | libc::ENOTDIR | libc::EACCES)
}

/// Whether it is worth a try: looking is cheaper than a child.
fn check_executable(candidate: &CStr, cwd: Option<&CStr>) -> Result<()> {
    let path = match cwd {
        // The child looks from where it will be.
        Some(cwd) if candidate.to_bytes()[0] != b'/' => {
            CString::new([cwd.to_bytes(), b"/", candidate.to_bytes()].concat()).map_err(|_| Error::INVALID)?
        }
        _ => candidate.to_owned(),
    };
    // SAFETY: a path that ends with NUL.
    if unsafe { libc::faccessat(libc::AT_FDCWD, path.as_ptr(), libc::X_OK, libc::AT_EACCESS) } < 0 {
        return Err(Error::last_os());
    }
    Ok(())
}

/// The value of PATH.
///
/// # Safety
/// `envp` is a list of strings that ends with NULL, or NULL.
unsafe fn path_of<'a>(envp: *const *const c_char) -> &'a [u8] {
    let mut at = envp;
    // SAFETY: by this function's contract.
    unsafe {
        while !at.is_null() && !(*at).is_null() {
            if let Some(path) = CStr::from_ptr(*at).to_bytes().strip_prefix(b"PATH=") {
                return path;
            }
            at = at.add(1);
        }
    }
    b"/bin:/usr/bin"
}

fn pipe() -> Result<(OwnedFd, OwnedFd)> {
    let mut fds = [0; 2];
    // SAFETY: there is room for two descriptors, which are new, and nobody else's.
    unsafe {
        if libc::pipe2(fds.as_mut_ptr(), libc::O_CLOEXEC) < 0 {
            return Err(Error::last_os());
        }
        Ok((OwnedFd::from_raw_fd(fds[0]), OwnedFd::from_raw_fd(fds[1])))
    }
}

fn open(path: &CStr, flags: c_int) -> Result<OwnedFd> {
    // SAFETY: a path that ends with NUL; the descriptor is new, and nobody else's.
    unsafe {
        let fd = libc::open(path.as_ptr(), flags | libc::O_CLOEXEC);
        if fd < 0 { Err(Error::last_os()) } else { Ok(OwnedFd::from_raw_fd(fd)) }
    }
}

/// What the child does with descriptors before it is executed, and what stays open here until then.
struct Files {
    actions: libc::posix_spawn_file_actions_t,
    open: Vec<OwnedFd>,
}

fn check(failure: c_int) -> Result<()> {
    if failure == 0 { Ok(()) } else { Err(Error::from_code(-failure)) }
}

impl Files {
    fn new() -> Result<Files> {
        let mut actions = MaybeUninit::zeroed();
        // SAFETY: it is initialised by the call.
        unsafe {
            check(libc::posix_spawn_file_actions_init(actions.as_mut_ptr()))?;
            Ok(Files { actions: actions.assume_init(), open: Vec::new() })
        }
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
        // SAFETY: the descriptor is new, and nobody else's.
        unsafe {
            let copy = libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 3);
            if copy < 0 {
                return Err(Error::last_os());
            }
            self.open.push(OwnedFd::from_raw_fd(copy));
            Ok(copy)
        }
    }

    fn change_directory(&mut self, directory: OwnedFd) -> Result<()> {
        // SAFETY: the actions are initialised; the descriptor is open until the child has started.
        check(unsafe { libc::posix_spawn_file_actions_addfchdir_np(&raw mut self.actions, directory.as_raw_fd()) })?;
        self.open.push(directory);
        Ok(())
    }

    /// The same number twice makes the child keep it.
    fn duplicate(&mut self, source: c_int, target: c_int) -> Result<()> {
        // SAFETY: the actions are initialised.
        check(unsafe { libc::posix_spawn_file_actions_adddup2(&raw mut self.actions, source, target) })
    }

    /// Closes all but the standard ones and those to be passed on.
    fn close_others(&mut self, options: &Options) -> Result<()> {
        let mut kept: Vec<c_int> = options.pass_fds.iter().copied().filter(|fd| !(0..=2).contains(fd)).collect();
        kept.sort_unstable();
        kept.dedup();
        let mut next = 3;
        for fd in kept {
            if !options.keep_fds {
                for unwanted in next..fd {
                    // SAFETY: the actions are initialised. What is not open is passed over by the child.
                    check(unsafe { libc::posix_spawn_file_actions_addclose(&raw mut self.actions, unwanted) })?;
                }
            }
            self.duplicate(fd, fd)?;
            next = fd + 1;
        }
        if options.keep_fds {
            return Ok(());
        }
        // SAFETY: as above.
        check(unsafe { libc::posix_spawn_file_actions_addclosefrom_np(&raw mut self.actions, next) })
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        // SAFETY: they are initialised, and used no more.
        unsafe { libc::posix_spawn_file_actions_destroy(&raw mut self.actions) };
    }
}

/// What else the child does.
struct Attributes(libc::posix_spawnattr_t);

impl Attributes {
    fn new(options: &Options) -> Result<Attributes> {
        let mut attributes = MaybeUninit::zeroed();
        // SAFETY: they are initialised by the first call; sets are filled before they are used.
        unsafe {
            check(libc::posix_spawnattr_init(attributes.as_mut_ptr()))?;
            let mut this = Attributes(attributes.assume_init());
            let mut signals = MaybeUninit::<libc::sigset_t>::zeroed();
            libc::sigfillset(signals.as_mut_ptr());
            check(libc::posix_spawnattr_setsigdefault(&raw mut this.0, signals.as_ptr()))?;
            libc::sigemptyset(signals.as_mut_ptr());
            check(libc::posix_spawnattr_setsigmask(&raw mut this.0, signals.as_ptr()))?;
            let mut flags = libc::POSIX_SPAWN_SETSIGDEF | libc::POSIX_SPAWN_SETSIGMASK;
            if options.new_session {
                flags |= c_int::from(libc::POSIX_SPAWN_SETSID);
            }
            if let Some(group) = options.group {
                check(libc::posix_spawnattr_setpgroup(&raw mut this.0, group))?;
                flags |= libc::POSIX_SPAWN_SETPGROUP;
            }
            check(libc::posix_spawnattr_setflags(&raw mut this.0, flags as _))?;
            Ok(this)
        }
    }
}

impl Drop for Attributes {
    fn drop(&mut self) {
        // SAFETY: they are initialised, and used no more.
        unsafe { libc::posix_spawnattr_destroy(&raw mut self.0) };
    }
}

/// Whether a list has anything before its NULL.
///
/// # Safety
/// `list` is NULL or ends with NULL.
pub(crate) unsafe fn is_empty(list: *const *const c_char) -> bool {
    // SAFETY: by this function's contract.
    list.is_null() || ptr::eq(unsafe { *list }, ptr::null())
}
