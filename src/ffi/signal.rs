//! Signal handlers.

use std::ffi::{c_int, c_void};

use super::context::evl_context;
use super::event_loop::evl_loop;
use super::handle::{evl_callback, evl_free_fn, evl_handle};
use super::own;
use crate::engine::callback::Callback;

/// Calls callback in the loop when the process receives signal_number: loop.add_signal_handler. Signals that
/// arrive in quick succession may be told once.
///
/// One loop owns a signal; a handler it had before is replaced and its handle cancelled. A signal that arrives
/// while the loop does not run is delivered when it runs. The action is installed with SA_RESTART. Any thread
/// may register that may use the loop. Ownership, context, out as evl_loop_add_reader. Errors: -EINVAL (NULL
/// loop or callback, no such signal), EVL_ESIGNAL (SIGKILL and SIGSTOP cannot be caught; SIGSEGV, SIGBUS,
/// SIGFPE and SIGILL tell of a fault that a loop cannot handle), EVL_EBUSY (another loop owns it), EVL_ECLOSED,
/// EVL_EWRONGTHREAD, EVL_EFORKED, EVL_EPANIC.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_loop_add_signal_handler(
    event_loop: *mut evl_loop,
    signal_number: c_int,
    callback: evl_callback,
    arg: *mut c_void,
    arg_free: evl_free_fn,
    context: *mut evl_context,
    out: *mut *mut evl_handle,
) -> c_int {
    // SAFETY: pointers are live objects or NULL, as documented.
    unsafe {
        own::register(event_loop, Callback::new(callback, arg, arg_free), context, |lp, cb, context| {
            own::hand_out(out, lp.add_signal_handler(signal_number, cb, context, !out.is_null())?);
            Ok(0)
        })
    }
}

/// Removes the handler and restores the action that was there before, unless somebody has installed another
/// since: loop.remove_signal_handler. Returns 1, or 0 when there was none.
///
/// On the loop's thread. Errors: -EINVAL (NULL, no such signal), EVL_ECLOSED, EVL_EWRONGTHREAD, EVL_EFORKED.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_loop_remove_signal_handler(
    event_loop: *mut evl_loop,
    signal_number: c_int,
) -> c_int {
    // SAFETY: a live loop or NULL, as documented.
    unsafe { own::on_loop(event_loop, |lp| lp.remove_signal_handler(signal_number).map(c_int::from)) }
}
