//! Pipes: transports of FIFOs, sockets and character devices.

use std::ffi::{c_int, c_void};

use super::event_loop::evl_loop;
use super::handle::evl_free_fn;
use super::own;
use super::transport::{evl_protocol, evl_transport, read_protocol};
use crate::engine::callback::FreeArg;
use crate::net::pipe;

/// The body of both functions.
///
/// # Safety `event_loop` is NULL or a live loop; `protocol` begins with its size or is NULL; `out` is writable or NULL.
unsafe fn connect(
    event_loop: *mut evl_loop,
    fd: c_int,
    writes: bool,
    protocol: *const evl_protocol,
    arg: FreeArg,
    out: *mut *mut evl_transport,
) -> c_int {
    // SAFETY: by this function's contract.
    unsafe {
        own::on_loop(event_loop, |lp| {
            let transport = pipe::connect(lp, fd, writes, read_protocol(protocol, arg)?)?;
            if !out.is_null() {
                own::give(out, transport.into_raw());
            }
            Ok(0)
        })
    }
}

/// Reads from fd for a protocol: loop.connect_read_pipe. fd is a FIFO's or pipe's reading end, a socket, or a
/// character device such as a terminal; it is made non-blocking, and from success on it is the transport's, which
/// closes it.
///
/// connection_made is called in the next iteration, then data_received; at the end eof_received (whose answer
/// does not matter) and connection_lost(0). *out is your reference (out may be NULL: the loop keeps an open
/// transport). protocol is copied; arg_free runs after connection_lost, on close of the loop, or when this
/// function fails. On the loop's thread. Errors: -EINVAL (NULL loop or protocol; fd is none of these), -EBADF
/// (fd is not open), EVL_EBUSY (fd is watched already), EVL_EOPTIONS (the table), -ENOMEM, EVL_ECLOSED,
/// EVL_EWRONGTHREAD, EVL_EFORKED.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_loop_connect_read_pipe(
    event_loop: *mut evl_loop,
    fd: c_int,
    protocol: *const evl_protocol,
    arg: *mut c_void,
    arg_free: evl_free_fn,
    out: *mut *mut evl_transport,
) -> c_int {
    let arg = FreeArg::new(arg, arg_free);
    // SAFETY: as documented.
    unsafe { connect(event_loop, fd, false, protocol, arg, out) }
}

/// Writes to fd for a protocol: loop.connect_write_pipe. Of the protocol, connection_made, pause_writing,
/// resume_writing and connection_lost are called.
///
/// When whoever reads has gone, connection_lost follows, with -EPIPE when something was left to be written.
/// Writing never raises SIGPIPE. Everything else as evl_loop_connect_read_pipe.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_loop_connect_write_pipe(
    event_loop: *mut evl_loop,
    fd: c_int,
    protocol: *const evl_protocol,
    arg: *mut c_void,
    arg_free: evl_free_fn,
    out: *mut *mut evl_transport,
) -> c_int {
    let arg = FreeArg::new(arg, arg_free);
    // SAFETY: as documented.
    unsafe { connect(event_loop, fd, true, protocol, arg, out) }
}
