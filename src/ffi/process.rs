//! Child processes with their pipes (`asyncio.SubprocessTransport`, `SubprocessProtocol`).

use std::ffi::{CStr, c_char, c_int, c_void};

use super::event_loop::evl_loop;
use super::future::evl_future;
use super::guard::{guard, predicate, release};
use super::handle::evl_free_fn;
use super::transport::evl_transport;
use super::{options, own};
use crate::engine::callback::FreeArg;
use crate::engine::event_loop::Owned;
use crate::error::{Error, Result};
use crate::policy;
use crate::process::communicate::Output;
use crate::process::spawn::{self, Forked, Options, Stdio};
use crate::process::subprocess::{self, Callbacks, Process, ProcessRef};
use crate::task::future::Shape;

/// A child process with its pipes, as asyncio.SubprocessTransport. Opaque; reference counted.
pub type evl_process = Process;

/// What a child has as one of its standard descriptors.
#[repr(C)]
#[derive(Clone, Copy)]
pub enum evl_process_stdio {
    /// What this process has.
    EVL_PROCESS_INHERIT = 0,
    /// A pipe to this process: evl_process_get_pipe_transport.
    EVL_PROCESS_PIPE = 1,
    /// /dev/null.
    EVL_PROCESS_DEVNULL = 2,
    /// For stderr: what stdout is.
    EVL_PROCESS_STDOUT = 3,
    /// The descriptor in the _fd field, which stays yours.
    EVL_PROCESS_FD = 4,
}

/// Flags of evl_process_options.
#[repr(C)]
#[derive(Clone, Copy)]
pub enum evl_process_flag {
    /// The child begins a session of its own: setsid. Popen(start_new_session=True).
    EVL_PROCESS_NEW_SESSION = 1,
    /// The child begins a process group of its own. Popen(process_group=0).
    EVL_PROCESS_NEW_GROUP = 2,
    /// Descriptors above 2 are closed only where they are close-on-exec. Popen(close_fds=False).
    EVL_PROCESS_KEEP_FDS = 4,
    /// The child is the user in the uid field. Popen(user=).
    EVL_PROCESS_SET_UID = 8,
    /// The child's group is the one in the gid field. Popen(group=).
    EVL_PROCESS_SET_GID = 16,
    /// The child's supplementary groups are those in the groups field, of which there may be none. Popen(extra_groups=).
    EVL_PROCESS_SET_GROUPS = 32,
    /// The child's umask is the one in the umask field. Popen(umask=).
    EVL_PROCESS_SET_UMASK = 64,
}

const KNOWN_FLAGS: u32 = 127;

/// How a child is started: the arguments of subprocess.Popen. Initialise with evl_process_options_init; a field that
/// is zero has its default. Everything is used during the call only.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct evl_process_options {
    /// sizeof(evl_process_options) as the caller knows it.
    pub size: u32,
    /// evl_process_flag members, or'ed.
    pub flags: u32,
    /// The arguments, the first of them the program's name; ends with NULL. Not used by evl_loop_subprocess_shell.
    pub argv: *const *const c_char,
    /// What is executed instead of `argv[0]`; NULL: `argv[0]`. A name without a slash is looked for in the directories of
    /// the child's PATH.
    pub program: *const c_char,
    /// The environment, "NAME=value" each; ends with NULL. NULL: this process's.
    pub envp: *const *const c_char,
    /// The working directory; NULL: this process's.
    pub cwd: *const c_char,
    /// A member of evl_process_stdio.
    pub stdin_mode: c_int,
    /// With EVL_PROCESS_FD.
    pub stdin_fd: c_int,
    /// A member of evl_process_stdio.
    pub stdout_mode: c_int,
    /// With EVL_PROCESS_FD.
    pub stdout_fd: c_int,
    /// A member of evl_process_stdio.
    pub stderr_mode: c_int,
    /// With EVL_PROCESS_FD.
    pub stderr_fd: c_int,
    /// The process group to join, when it is positive.
    pub process_group: c_int,
    /// Always zero.
    pub reserved: u32,
    /// Descriptors that the child has, too, under the same numbers.
    pub pass_fds: *const c_int,
    /// How many they are.
    pub pass_fds_count: usize,
    /// With EVL_PROCESS_SET_GROUPS.
    pub groups: *const u32,
    /// How many they are.
    pub groups_count: usize,
    /// With EVL_PROCESS_SET_UID.
    pub uid: u32,
    /// With EVL_PROCESS_SET_GID.
    pub gid: u32,
    /// With EVL_PROCESS_SET_UMASK: at most 0777.
    pub umask: u32,
    /// How many bytes the pipes of EVL_PROCESS_PIPE hold, at least; 0: the system's default. Popen(pipesize=).
    pub pipe_size: c_int,
    /// Called in the child, when it is all that it is to be but still has this process's descriptors, and before the program is
    /// executed: Popen(preexec_fn=). 0, or a negative code: the program is not executed, and the function that was to start it
    /// fails with that code. NULL: nothing is called.
    ///
    /// The child is a fork of this process with the calling thread only: what other threads were doing stays undone, locks
    /// that they hold stay held. Call nothing but what signal handlers may call unless you know that it is safe after a fork.
    pub child_setup: Option<unsafe extern "C-unwind" fn(arg: *mut c_void) -> c_int>,
    /// Passed to child_setup.
    pub child_setup_arg: *mut c_void,
}

/// What a process calls: asyncio.SubprocessProtocol. An entry may be NULL: then that is not told, and what is
/// received is dropped.
///
/// All are called on the loop's thread, in the context that was current when the process was started. fd is 0, 1 or
/// 2: which of the child's descriptors. One that fails (evl_raise) is told to the exception handler; when that is
/// pipe_data_received, that pipe is closed, too.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct evl_process_protocol {
    /// sizeof(evl_process_protocol) as the caller knows it.
    pub size: u32,
    /// Always zero.
    pub reserved: u32,
    /// The first call, in the iteration after the process was started: process is borrowed.
    pub connection_made: Option<unsafe extern "C-unwind" fn(process: *mut evl_process, arg: *mut c_void)>,
    /// Takes what the child has written; data is valid during the call.
    pub pipe_data_received: Option<
        unsafe extern "C-unwind" fn(
            process: *mut evl_process,
            fd: c_int,
            data: *const c_void,
            size: usize,
            arg: *mut c_void,
        ),
    >,
    /// A pipe is closed: code is 0, or what failed.
    pub pipe_connection_lost:
        Option<unsafe extern "C-unwind" fn(process: *mut evl_process, fd: c_int, code: c_int, arg: *mut c_void)>,
    /// The child has ended; evl_process_get_returncode tells how. Pipes may still bring something.
    pub process_exited: Option<unsafe extern "C-unwind" fn(process: *mut evl_process, arg: *mut c_void)>,
    /// The last call, exactly once, when the child has ended and all pipes are closed. code is 0.
    pub connection_lost: Option<unsafe extern "C-unwind" fn(process: *mut evl_process, code: c_int, arg: *mut c_void)>,
    /// More than the high limit waits to be written to the child's stdin, as evl_protocol's.
    pub pause_writing: Option<unsafe extern "C-unwind" fn(process: *mut evl_process, arg: *mut c_void)>,
    /// No more than the low limit waits, after pause_writing.
    pub resume_writing: Option<unsafe extern "C-unwind" fn(process: *mut evl_process, arg: *mut c_void)>,
}

/// Fills options with defaults: zeros.
///
/// size is sizeof(evl_process_options). Any thread. Errors: -EINVAL (NULL), EVL_EOPTIONS (the size).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_process_options_init(options: *mut evl_process_options, size: u32) -> c_int {
    // SAFETY: options has size writable bytes or is NULL.
    guard(|| unsafe { options::init(options, size) })
}

fn stdio(mode: c_int, fd: c_int, is_error: bool) -> Result<Stdio> {
    match mode {
        0 => Ok(Stdio::Inherit),
        1 => Ok(Stdio::Pipe),
        2 => Ok(Stdio::Null),
        3 if is_error => Ok(Stdio::Stdout),
        4 => Ok(Stdio::Descriptor(fd)),
        _ => Err(Error::INVALID.detail(|| format!("{mode} is no mode of a standard descriptor"))),
    }
}

/// Starts a child. `shell`: its command, for which the arguments are made.
///
/// # Safety The pointers are as documented for the two functions below.
unsafe fn start(
    event_loop: *mut evl_loop,
    shell: Option<*const c_char>,
    options: *const evl_process_options,
    protocol: *const evl_process_protocol,
    arg: FreeArg,
    out: *mut *mut evl_process,
) -> c_int {
    // SAFETY: by this function's contract.
    unsafe {
        own::on_loop(event_loop, |lp| {
            let given: evl_process_options = options::read(options)?;
            if given.flags & !KNOWN_FLAGS != 0 || given.reserved != 0 {
                return Err(Error::OPTIONS);
            }
            let has = |flag: evl_process_flag| given.flags & flag as u32 != 0;
            let command = shell.unwrap_or(std::ptr::null());
            let shell_argv = [c"/bin/sh".as_ptr(), c"-c".as_ptr(), command, std::ptr::null()];
            let argv = if shell.is_some() { shell_argv.as_ptr() } else { given.argv };
            let has_command = shell.is_none_or(|command| !command.is_null());
            if spawn::is_empty(argv) || !has_command || given.pipe_size < 0 {
                return Err(Error::INVALID);
            }
            if has(evl_process_flag::EVL_PROCESS_SET_UMASK) && given.umask > 0o777 {
                return Err(Error::INVALID.detail(|| format!("{:o} is no umask", given.umask)));
            }
            let groups = list(given.groups, given.groups_count)?;
            let string = |pointer: *const c_char| (!pointer.is_null()).then(|| CStr::from_ptr(pointer));
            let forked = Forked {
                user: has(evl_process_flag::EVL_PROCESS_SET_UID).then_some(given.uid),
                group: has(evl_process_flag::EVL_PROCESS_SET_GID).then_some(given.gid),
                groups: has(evl_process_flag::EVL_PROCESS_SET_GROUPS).then_some(groups),
                umask: has(evl_process_flag::EVL_PROCESS_SET_UMASK).then_some(given.umask),
                setup: given.child_setup.map(|setup| (setup, given.child_setup_arg)),
            };
            let own_group = has(evl_process_flag::EVL_PROCESS_NEW_GROUP);
            let options = Options {
                program: string(given.program),
                argv,
                envp: given.envp,
                cwd: string(given.cwd),
                stdio: [
                    stdio(given.stdin_mode, given.stdin_fd, false)?,
                    stdio(given.stdout_mode, given.stdout_fd, false)?,
                    stdio(given.stderr_mode, given.stderr_fd, true)?,
                ],
                new_session: has(evl_process_flag::EVL_PROCESS_NEW_SESSION),
                group: if own_group { Some(0) } else { (given.process_group > 0).then_some(given.process_group) },
                keep_fds: has(evl_process_flag::EVL_PROCESS_KEEP_FDS),
                pass_fds: list(given.pass_fds, given.pass_fds_count)?,
                pipe_size: given.pipe_size,
                forked,
            };
            let callbacks = if protocol.is_null() { None } else { Some(callbacks_of(protocol)?) };
            let watcher = policy::current().get_child_watcher()?;
            let process = subprocess::start(lp, &watcher, &options, callbacks, arg)?;
            if !out.is_null() {
                own::give(out, process.into_raw());
            }
            Ok(0)
        })
    }
}

/// What a pointer and a count stand for.
///
/// # Safety `items` has so many, for as long as the list is used, or is NULL.
unsafe fn list<'a, T>(items: *const T, count: usize) -> Result<&'a [T]> {
    match count {
        0 => Ok(&[]),
        _ if items.is_null() => Err(Error::INVALID),
        // SAFETY: by this function's contract.
        _ => Ok(unsafe { std::slice::from_raw_parts(items, count) }),
    }
}

/// # Safety `protocol` begins with its size.
unsafe fn callbacks_of(protocol: *const evl_process_protocol) -> Result<Callbacks> {
    // SAFETY: by this function's contract.
    let table: evl_process_protocol = unsafe { options::read(protocol) }?;
    if table.reserved != 0 {
        return Err(Error::OPTIONS);
    }
    Ok(Callbacks {
        connection_made: table.connection_made,
        pipe_data_received: table.pipe_data_received,
        pipe_connection_lost: table.pipe_connection_lost,
        process_exited: table.process_exited,
        connection_lost: table.connection_lost,
        pause_writing: table.pause_writing,
        resume_writing: table.resume_writing,
    })
}

/// Starts a child: loop.subprocess_exec. It has default signal dispositions, an empty mask, and of this process's
/// descriptors those that options gives it. Its end is heard of by the policy's child watcher; SIGCHLD is not touched.
///
/// protocol is copied, and may be NULL: then what the child writes into pipes is read by evl_process_communicate
/// only. The loop keeps the process until connection_lost; one with pipes that nobody reads, until it is closed. *out
/// is your reference (out may be NULL). arg_free runs after connection_lost, on close of the loop (which kills a
/// child that runs), or when this function fails. On the loop's thread.
///
/// What keeps the program from being executed is this function's error, and no child is left: -ENOENT (no such
/// program or directory), -EACCES, -ENOEXEC, -E2BIG and what else execve, chdir, setpgid, setuid say, or what child_setup
/// returned; evl_error_detail names it.
/// Other errors: -EINVAL (NULL loop or options, no argv, an unknown mode), -EBADF (a descriptor that is not open),
/// -EMFILE, -ENFILE, -EAGAIN (no more processes), EVL_EOPTIONS, EVL_ESHUTDOWN (the child watcher is closed), EVL_ECLOSED,
/// EVL_EWRONGTHREAD, EVL_EFORKED.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_loop_subprocess_exec(
    event_loop: *mut evl_loop,
    options: *const evl_process_options,
    protocol: *const evl_process_protocol,
    arg: *mut c_void,
    arg_free: evl_free_fn,
    out: *mut *mut evl_process,
) -> c_int {
    let arg = FreeArg::new(arg, arg_free);
    // SAFETY: as documented.
    unsafe { start(event_loop, None, options, protocol, arg, out) }
}

/// Starts /bin/sh -c command: loop.subprocess_shell. options may be NULL; its argv is not used.
///
/// Everything else as evl_loop_subprocess_exec; -EINVAL also when command is NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_loop_subprocess_shell(
    event_loop: *mut evl_loop,
    command: *const c_char,
    options: *const evl_process_options,
    protocol: *const evl_process_protocol,
    arg: *mut c_void,
    arg_free: evl_free_fn,
    out: *mut *mut evl_process,
) -> c_int {
    let arg = FreeArg::new(arg, arg_free);
    // SAFETY: as documented.
    unsafe { start(event_loop, Some(command), options, protocol, arg, out) }
}

/// The body of a function that uses a process on its loop's thread. The reference keeps it while the host's code runs.
///
/// # Safety `process` is NULL or a live process.
unsafe fn on_process(process: *mut evl_process, body: impl FnOnce(&Owned, &Process) -> Result<c_int>) -> c_int {
    // SAFETY: by this function's contract; a process keeps its loop's memory.
    unsafe {
        let event_loop = process.as_ref().map_or(std::ptr::null(), |process| process.event_loop());
        own::on_loop(event_loop.cast_mut(), |lp| {
            let kept = ProcessRef::new(own::borrow(process)?);
            body(lp, &kept)
        })
    }
}

/// Takes another reference and returns process. NULL gives NULL. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_process_ref(process: *mut evl_process) -> *mut evl_process {
    // SAFETY: a live process or NULL, as documented.
    if let Some(p) = unsafe { process.as_ref() } {
        p.retain();
    }
    process
}

/// Gives a reference back; NULL is ignored. The child goes on without you. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_process_unref(process: *mut evl_process) {
    // SAFETY: the caller owns a reference and gives it up, or passes NULL.
    release(|| unsafe { Process::release_ptr(process) });
}

/// The loop the process belongs to. Borrowed. NULL for NULL. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_process_get_loop(process: *const evl_process) -> *mut evl_loop {
    // SAFETY: a live process or NULL, as documented.
    unsafe { process.as_ref() }.map_or(std::ptr::null_mut(), |p| p.event_loop().cast_mut())
}

/// The child's process number: transport.get_pid. Once it has ended, the number may be another process's. Any
/// thread. Errors: -EINVAL (NULL).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_process_get_pid(process: *const evl_process) -> c_int {
    // SAFETY: a live process or NULL, as documented.
    guard(|| Ok(unsafe { own::borrow(process)? }.pid()))
}

/// Writes how the child has ended to *returncode: transport.get_returncode. Its exit status, or the negative number
/// of the signal that killed it; 255 when somebody else has reaped it.
///
/// Any thread. Errors: EVL_EINVALIDSTATE (the loop has not heard of its end), -EINVAL (NULL).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_process_get_returncode(
    process: *const evl_process,
    returncode: *mut c_int,
) -> c_int {
    // SAFETY: a live process or NULL; returncode is writable or NULL.
    guard(|| unsafe {
        let process = own::borrow(process)?;
        own::required(returncode)?;
        own::put(returncode, process.returncode().ok_or(Error::INVALID_STATE)?)
    })
}

/// The transport of the pipe that is the child's descriptor fd (0, 1 or 2): transport.get_pipe_transport. Borrowed
/// from the process. NULL when that is no pipe, and for NULL. Any thread.
///
/// Write to the child by evl_transport_write on 0, and end its input by evl_transport_close. Its protocol is the
/// process's: leave it alone.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_process_get_pipe_transport(
    process: *const evl_process,
    fd: c_int,
) -> *mut evl_transport {
    // SAFETY: a live process or NULL, as documented.
    let pipe = unsafe { process.as_ref() }.and_then(|process| process.pipe(fd));
    pipe.map_or(std::ptr::null_mut(), |pipe| std::ptr::from_ref(pipe).cast_mut())
}

/// Sends the child a signal: transport.send_signal. No other process can be hit.
///
/// On the loop's thread. Errors: -ESRCH (the child has ended and was reaped), -EINVAL (NULL; no such signal),
/// -EPERM, EVL_ECLOSED, EVL_EWRONGTHREAD, EVL_EFORKED.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_process_send_signal(process: *mut evl_process, signal_number: c_int) -> c_int {
    // SAFETY: a live process or NULL, as documented.
    unsafe { on_process(process, |_, process| process.signal(signal_number).map(|()| 0)) }
}

/// Sends SIGTERM: transport.terminate. Thread and errors as evl_process_send_signal.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_process_terminate(process: *mut evl_process) -> c_int {
    // SAFETY: as documented.
    unsafe { evl_process_send_signal(process, libc::SIGTERM) }
}

/// Sends SIGKILL: transport.kill. Thread and errors as evl_process_send_signal.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_process_kill(process: *mut evl_process) -> c_int {
    // SAFETY: as documented.
    unsafe { evl_process_send_signal(process, libc::SIGKILL) }
}

/// Waits until the child has ended: Process.wait. The future's result is the returncode (evl_future_result_int).
/// Pipes may still bring something. Cancelling it leaves the child alone.
///
/// *out is your reference (out may be NULL). On the loop's thread. Errors: -EINVAL (NULL process), EVL_ECLOSED,
/// EVL_EWRONGTHREAD, EVL_EFORKED.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_process_wait(process: *mut evl_process, out: *mut *mut evl_future) -> c_int {
    // SAFETY: a live process or NULL; out is writable or NULL.
    unsafe {
        on_process(process, |lp, process| {
            own::give_future(out, process.wait(lp)?.into_future());
            Ok(0)
        })
    }
}

/// Writes input to the child, ends its input, and collects what it writes, until it has ended and its pipes are
/// closed: Process.communicate. evl_future_result_output reads what was collected; the protocol's
/// pipe_data_received is not called meanwhile. A child that does not read all of its input is no failure.
///
/// input stays as it is until the future is done; it may be NULL when size is 0. Cancelling leaves the child alone;
/// what was collected is lost. *out is your reference (out may be NULL). On the loop's thread. Errors: -EINVAL
/// (NULL process; input for a child whose stdin is no pipe), EVL_EINVALIDSTATE (it is under way already),
/// EVL_ECLOSED, EVL_EWRONGTHREAD, EVL_EFORKED. The future's errors: -ENOMEM, and what
/// reading the child's output or writing its input failed with (but for a child that does not read it).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_process_communicate(
    process: *mut evl_process,
    input: *const c_void,
    size: usize,
    out: *mut *mut evl_future,
) -> c_int {
    // SAFETY: a live process or NULL; input has size bytes; out is writable or NULL.
    unsafe {
        on_process(process, |lp, process| {
            if size > 0 {
                own::required(input.cast_mut())?;
            }
            own::give_future(out, process.communicate(lp, input, size)?.into_future());
            Ok(0)
        })
    }
}

/// Reads what evl_process_communicate has collected of the child's descriptor fd, 1 or 2. The bytes stay the
/// future's. size may be NULL.
///
/// Any thread. Errors as evl_future_result; -EINVAL also when the future is another one's, fd is neither, or data is
/// NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_future_result_output(
    future: *const evl_future,
    fd: c_int,
    data: *mut *const c_void,
    size: *mut usize,
) -> c_int {
    // SAFETY: a live future or NULL; data and size are writable or NULL; the word of this shape is an Output.
    guard(|| unsafe {
        let output = &*own::borrow(future)?.result(Shape::Output)?.cast::<Output>();
        own::required(data)?;
        let stream = match fd {
            1 | 2 => &output.streams[fd as usize - 1],
            _ => return Err(Error::INVALID),
        };
        own::put_optional(size, stream.len());
        own::put(data, stream.as_ptr().cast())
    })
}

/// Closes the pipes, and kills a child that runs: transport.close. process_exited and connection_lost follow.
///
/// On the loop's thread. Errors: -EINVAL (NULL), EVL_ECLOSED, EVL_EWRONGTHREAD, EVL_EFORKED.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_process_close(process: *mut evl_process) -> c_int {
    // SAFETY: a live process or NULL, as documented.
    unsafe {
        on_process(process, |lp, process| {
            process.close(lp);
            Ok(0)
        })
    }
}

/// Whether the process is closed, or all is over: 1 or 0. transport.is_closing. NULL gives 0. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_process_is_closing(process: *const evl_process) -> c_int {
    // SAFETY: a live process or NULL, as documented.
    predicate(unsafe { process.as_ref() }, Process::is_closing)
}

/// Writes what the process is, such as `<SubprocessTransport pid=4711 running>`. Buffer rules as evl_future_repr.
/// Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_process_repr(
    process: *const evl_process,
    buffer: *mut c_char,
    size: usize,
) -> c_int {
    // SAFETY: a live process or NULL; buffer has size writable bytes.
    guard(|| unsafe { own::fill(buffer, size, &own::borrow(process)?.repr()) })
}

/// Keeps a pointer of yours with the process; the one before is released first. data_free (may be NULL) runs when it
/// is replaced, with the process's last reference, or when this function fails.
///
/// On the loop's thread. Errors: -EINVAL (NULL), EVL_ECLOSED, EVL_EWRONGTHREAD, EVL_EFORKED.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_process_set_data(
    process: *mut evl_process,
    data: *mut c_void,
    data_free: evl_free_fn,
) -> c_int {
    let data = FreeArg::new(data, data_free);
    // SAFETY: a live process or NULL, as documented.
    unsafe {
        on_process(process, |_, process| {
            process.set_data(data);
            Ok(0)
        })
    }
}

/// The pointer kept by evl_process_set_data, or NULL. NULL gives NULL. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_process_get_data(process: *const evl_process) -> *mut c_void {
    // SAFETY: a live process or NULL, as documented.
    unsafe { process.as_ref() }.map_or(std::ptr::null_mut(), Process::data)
}
