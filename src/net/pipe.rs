//! Pipes (`loop.connect_read_pipe`, `loop.connect_write_pipe`): FIFOs, sockets and character devices that are read from or written to.

use std::ffi::{c_int, c_void};
use std::mem::MaybeUninit;

use super::listen::set_nonblocking;
use super::protocol::Protocol;
use super::transport::{self, DEVICE, READS, SOCKET, Transport, TransportRef, WRITES};
use crate::engine::context::Captured;
use crate::engine::event_loop::Owned;
use crate::error::{Error, Result};

/// What kind of descriptor it is, as flags of a transport. One that no pipe transport can have is refused.
fn kind_of(fd: c_int) -> Result<u32> {
    let mut status = MaybeUninit::<libc::stat>::zeroed();
    // SAFETY: the buffer is a stat's.
    if unsafe { libc::fstat(fd, status.as_mut_ptr()) } < 0 {
        return Err(Error::last_os().detail(|| format!("descriptor {fd} is not open")));
    }
    // SAFETY: fstat has filled it.
    match unsafe { status.assume_init() }.st_mode & libc::S_IFMT {
        libc::S_IFIFO => Ok(0),
        libc::S_IFSOCK => Ok(SOCKET),
        libc::S_IFCHR => Ok(DEVICE),
        _ => Err(Error::INVALID.detail(|| "Pipe transport is for pipes/sockets only.".into())),
    }
}

/// Takes a descriptor over; on failure it stays the caller's. `direction`: READS or WRITES, with flags of the transport's.
/// [`Transport::start`] is to follow.
pub(crate) fn open(
    lp: &Owned,
    fd: c_int,
    direction: u32,
    protocol: Protocol,
    context: Captured,
) -> Result<TransportRef> {
    let kind = kind_of(fd)?;
    set_nonblocking(fd)?;
    Transport::create(lp, fd, direction | kind, protocol, context, None)
}

/// `loop.connect_read_pipe`, `loop.connect_write_pipe`: the protocol is told by the loop's next iteration.
pub(crate) fn connect(lp: &Owned, fd: c_int, writes: bool, protocol: Protocol) -> Result<TransportRef> {
    let direction = if writes { WRITES } else { READS };
    lp.reserve(1)?;
    let this = open(lp, fd, direction, protocol, lp.capture(None))?;
    this.schedule_start(lp)?;
    Ok(this)
}

/// The first that the protocol is told.
pub(super) unsafe extern "C-unwind" fn start(arg: *mut c_void) {
    // SAFETY: the entry has a reference.
    if let Some((this, lp)) = unsafe { transport::enter(arg) } {
        this.start(&lp);
    }
}
