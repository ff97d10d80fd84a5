//! Starting a child with what Python's `subprocess.Popen` gives it: default signals, an empty mask, and no descriptors but those it is to
//! have. By `posix_spawn`, which copies nothing of this process, or by fork (`fork`) where that cannot do what is wanted.
//!
//! Nothing the child inherits depends on what other threads do meanwhile: all ends of pipes are close-on-exec here, and the child
//! closes what it was not given, whoever opened it.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::ptr;

use super::child::{self, Child};
use super::files::Files;
use super::fork;
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
    /// Of pipes, in bytes; 0: the system's.
    pub(crate) pipe_size: c_int,
    /// What only a fork can do.
    pub(crate) forked: Forked<'a>,
}

/// What the host has run in the child: 0, or a negative code, which is why the child does not start.
pub(crate) type SetupFn = unsafe extern "C-unwind" fn(arg: *mut c_void) -> c_int;

/// What a child does before it is executed that `posix_spawn` cannot do.
#[derive(Default)]
pub(crate) struct Forked<'a> {
    pub(crate) user: Option<u32>,
    pub(crate) group: Option<u32>,
    pub(crate) groups: Option<&'a [u32]>,
    pub(crate) umask: Option<u32>,
    pub(crate) setup: Option<(SetupFn, *mut c_void)>,
}

impl Forked<'_> {
    fn is_wanted(&self) -> bool {
        self.user.is_some()
            || self.group.is_some()
            || self.groups.is_some()
            || self.umask.is_some()
            || self.setup.is_some()
    }
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
    let (files, pipes) = Files::new(options)?;
    // SAFETY: by this function's contract; `environ` is only read.
    let pid = unsafe {
        let envp = if options.envp.is_null() { environ } else { options.envp };
        if options.forked.is_wanted() {
            fork::start(options, &files, &candidates(program, envp), envp)
        } else {
            let (actions, attributes) = (Actions::new(&files)?, Attributes::new(options)?);
            search(&candidates(program, envp), options.cwd, &mut |path| {
                let mut pid = 0;
                let (argv, envp) = (options.argv.cast(), envp.cast());
                let failure = libc::posix_spawn(
                    &raw mut pid,
                    path.as_ptr(),
                    &raw const actions.0,
                    &raw const attributes.0,
                    argv,
                    envp,
                );
                if failure == 0 { Ok(pid) } else { Err(Error::from_code(-failure)) }
            })
        }
    }
    .map_err(|error| error.detail(|| format!("cannot start {}: {}", program.to_string_lossy(), why(error))))?;
    Ok(Spawned { child: Child::new(pid), pipes })
}

fn why(error: Error) -> std::borrow::Cow<'static, str> {
    error::describe(error.code()).to_string_lossy()
}

/// What the program's name may mean, as Python does it: itself when it has a slash, else a file of that name in each directory of the child's
/// PATH.
///
/// # Safety
/// `envp` is a list of strings that ends with NULL, or NULL.
unsafe fn candidates(program: &CStr, envp: *const *const c_char) -> Vec<CString> {
    let name = program.to_bytes();
    if name.contains(&b'/') || name.is_empty() {
        return vec![program.to_owned()];
    }
    // SAFETY: by this function's contract.
    let path = unsafe { path_of(envp) };
    let in_directory = |directory: &[u8]| {
        let slash: &[u8] = if directory.is_empty() { b"" } else { b"/" };
        CString::new([directory, slash, name].concat()).ok()
    };
    path.split(|&byte| byte == b':').filter_map(in_directory).collect()
}

/// Tries one after the other.
fn search(candidates: &[CString], cwd: Option<&CStr>, start: &mut dyn FnMut(&CStr) -> Result<c_int>) -> Result<c_int> {
    if let [only] = candidates {
        return start(only);
    }
    let mut result = Err(Error::NO_ENTRY);
    for candidate in candidates {
        let failure = match check_executable(candidate, cwd) {
            Ok(()) => match start(candidate) {
                Err(error) if is_of_this_file(-error.code()) => error,
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
pub(super) fn is_of_this_file(errno: c_int) -> bool {
    matches!(errno, libc::ENOENT | libc::ENOTDIR | libc::EACCES)
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

fn check(failure: c_int) -> Result<()> {
    if failure == 0 { Ok(()) } else { Err(Error::from_code(-failure)) }
}

/// What the child does with descriptors, for `posix_spawn`.
struct Actions(libc::posix_spawn_file_actions_t);

impl Actions {
    fn new(files: &Files) -> Result<Actions> {
        let mut actions = MaybeUninit::zeroed();
        // SAFETY: they are initialised by the first call. What is not open is passed over by the child.
        unsafe {
            check(libc::posix_spawn_file_actions_init(actions.as_mut_ptr()))?;
            let mut this = Actions(actions.assume_init());
            let actions = &raw mut this.0;
            if let Some(directory) = files.directory {
                check(libc::posix_spawn_file_actions_addfchdir_np(actions, directory))?;
            }
            for &(source, target) in &files.duplicates {
                check(libc::posix_spawn_file_actions_adddup2(actions, source, target))?;
            }
            if let Some(kept) = &files.kept {
                let mut next = 3;
                for &fd in kept {
                    for unwanted in next..fd {
                        check(libc::posix_spawn_file_actions_addclose(actions, unwanted))?;
                    }
                    next = fd + 1;
                }
                check(libc::posix_spawn_file_actions_addclosefrom_np(actions, next))?;
            }
            Ok(this)
        }
    }
}

impl Drop for Actions {
    fn drop(&mut self) {
        // SAFETY: they are initialised, and used no more.
        unsafe { libc::posix_spawn_file_actions_destroy(&raw mut self.0) };
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
