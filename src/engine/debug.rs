//! What debug mode tells: stacks, slow callbacks; and the walk over what is registered.

use std::ffi::{CStr, c_int, c_void};
use std::fmt::Write as _;

use super::callback::guarded;
use super::event_loop::Owned;
use super::handle::Handle;
use crate::error::Result;

/// Levels of the log callback.
pub(crate) const DEBUG: c_int = 0;
/// As above.
pub(crate) const WARNING: c_int = 1;
/// As above.
pub(crate) const ERROR: c_int = 2;

/// How many frames of a stack are kept.
const DEPTH: usize = 24;
/// Frames of evl itself at the top of a captured stack are found out by address; this many are looked at.
const LONGEST: usize = DEPTH + 16;

/// Whether `EVL_DEBUG` is set to something other than nothing or 0.
pub(crate) fn asked_for_by_environment() -> bool {
    // SAFETY: the name ends in NUL; the value is looked at at once. Rust's own function would take a lock that nobody else has: the
    // environment is the host's.
    unsafe {
        let value = libc::getenv(c"EVL_DEBUG".as_ptr());
        !value.is_null() && !matches!(CStr::from_ptr(value).to_bytes(), b"" | b"0")
    }
}

/// The return addresses of the present stack, innermost first, without evl's own frames at the top.
pub(crate) fn capture_stack() -> Box<[usize]> {
    struct Trace {
        addresses: [usize; LONGEST],
        length: usize,
    }
    extern "C" fn visit(context: *mut c_void, trace: *mut c_void) -> c_int {
        // SAFETY: the unwinder passes what it was given, and a context of its own.
        unsafe {
            let trace = &mut *trace.cast::<Trace>();
            if trace.length == LONGEST {
                return 5; // _URC_END_OF_STACK: stops the walk.
            }
            let address = _Unwind_GetIP(context);
            if address != 0 {
                trace.addresses[trace.length] = address;
                trace.length += 1;
            }
        }
        0
    }
    unsafe extern "C" {
        fn _Unwind_Backtrace(visit: extern "C" fn(*mut c_void, *mut c_void) -> c_int, argument: *mut c_void) -> c_int;
        fn _Unwind_GetIP(context: *mut c_void) -> usize;
    }
    let mut trace = Trace { addresses: [0; LONGEST], length: 0 };
    // SAFETY: the visitor writes into `trace` within its bounds.
    unsafe { _Unwind_Backtrace(visit, (&raw mut trace).cast()) };
    let stack = &trace.addresses[..trace.length];
    let own = module_of(capture_stack as fn() -> Box<[usize]> as usize);
    let first = stack.iter().position(|&address| module_of(address) != own).unwrap_or(0);
    stack[first..].iter().copied().take(DEPTH).collect()
}

/// Where the module that holds an address is loaded.
fn module_of(address: usize) -> usize {
    describe(address).map_or(0, |info| info.dli_fbase as usize)
}

fn describe(address: usize) -> Option<libc::Dl_info> {
    let mut info = std::mem::MaybeUninit::<libc::Dl_info>::zeroed();
    // SAFETY: any address may be asked for; zero is a valid Dl_info.
    unsafe { (libc::dladdr(address as *const c_void, info.as_mut_ptr()) != 0).then(|| info.assume_init()) }
}

fn text(pointer: *const libc::c_char) -> Option<String> {
    // SAFETY: dladdr's strings are NULL or valid as long as the module is loaded.
    (!pointer.is_null()).then(|| unsafe { CStr::from_ptr(pointer) }.to_string_lossy().into_owned())
}

/// A stack as text, a frame a line: "module(function+0x12) [0x7f...]".
pub(crate) fn symbolise(stack: &[usize]) -> String {
    let mut lines = String::new();
    for &address in stack {
        let info = describe(address);
        let module = info.and_then(|info| text(info.dli_fname)).unwrap_or_else(|| "?".into());
        let place = info.map_or(String::new(), |info| match text(info.dli_sname) {
            Some(name) => format!("{name}+{:#x}", address - info.dli_saddr as usize),
            None => format!("+{:#x}", address - info.dli_fbase as usize),
        });
        let _ = writeln!(lines, "  {module}({place}) [{address:#x}]");
    }
    lines
}

/// A function's name where the dynamic linker knows it, else its address.
pub(crate) fn function_name(address: usize) -> String {
    describe(address)
        .filter(|info| info.dli_saddr as usize == address)
        .and_then(|info| text(info.dli_sname))
        .unwrap_or_else(|| format!("{address:#x}"))
}

/// What `evl_loop_walk` calls.
pub type VisitFn = unsafe extern "C-unwind" fn(*mut Handle, c_int, c_int, *mut c_void) -> c_int;

/// Shows what is registered. The host may cancel what it is shown.
pub(crate) fn walk(lp: &Owned, visit: VisitFn, arg: *mut c_void) -> Result<c_int> {
    let found = lp.with(|state| {
        let mut found: Vec<(*const Handle, c_int, c_int)> = Vec::new();
        let queued = state.ready.iter().map(|entry| entry.handle().unwrap_or(std::ptr::null()));
        // SAFETY: an entry's handle is kept by being in the queue. One that was withdrawn does not count.
        let queued =
            queued.filter(|handle| unsafe { handle.as_ref() }.is_none_or(|handle| handle.has(super::handle::QUEUED)));
        // SAFETY: as above. What is evl's own is shown as a callback without a handle.
        let queued = queued.map(|handle| match unsafe { handle.as_ref() } {
            Some(own) if own.has(super::handle::OWN) && !own.has(super::handle::WATCH) => std::ptr::null(),
            _ => handle,
        });
        found.extend(queued.map(|handle| (handle, 0, 0)));
        found.extend(state.timers.sorted(&state.cells).into_iter().map(|handle| (handle, 1, 0)));
        // SAFETY: a watcher is kept by being registered.
        let watchers = state.watch.iter().filter(|(handle, _)| unsafe { !(**handle).has(super::handle::INTERNAL) });
        found.extend(watchers.map(|(handle, fd)| {
            // SAFETY: as above.
            let writer = unsafe { (*handle).has(super::handle::WRITER) };
            (handle, if writer { 3 } else { 2 }, fd)
        }));
        found.extend(state.signals.iter().map(|(handle, number)| (handle, 4, number)));
        for (handle, _, _) in &found {
            // SAFETY: it is held now, and this reference keeps it from here on.
            if let Some(handle) = unsafe { handle.as_ref() } {
                handle.retain();
            }
        }
        found
    });
    let mut answer = 0;
    for (handle, kind, number) in found {
        if answer == 0 {
            // SAFETY: the host's function; the handle is kept by the reference taken above.
            answer = guarded(|| unsafe { visit(handle.cast_mut(), kind, number, arg) });
        }
        // SAFETY: the reference taken above.
        unsafe { Handle::release_ptr(handle) };
    }
    Ok(answer)
}
