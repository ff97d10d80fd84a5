//! Transports and protocols (`asyncio.Transport`, `asyncio.Protocol`).

use std::ffi::{c_char, c_int, c_void};

use super::event_loop::evl_loop;
use super::guard::{predicate, release};
use super::handle::evl_free_fn;
use super::{options, own};
use crate::engine::callback::FreeArg;
use crate::engine::event_loop::Owned;
use crate::error::{Error, Result};
use crate::net::protocol::{Callbacks, Protocol};
use crate::net::transport::{Transport, TransportRef};

/// A descriptor that is read from and written to for a protocol, as asyncio.Transport. Opaque; reference counted.
pub type evl_transport = Transport;

/// Memory to be written.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct evl_buffer {
    /// Its beginning; may be NULL when size is 0.
    pub data: *const c_void,
    /// How many bytes.
    pub size: usize,
}

/// What a transport calls: asyncio.Protocol, or with get_buffer and buffer_updated asyncio.BufferedProtocol. An
/// entry may be NULL: then that is not told, and what is received is dropped.
///
/// All are called on the loop's thread, in the context that was current when the transport was made, with the arg
/// that was given with the table. Any function of the transport may be called from inside of each. One that fails
/// (evl_raise) is told to the exception handler; but for pause_writing and resume_writing, the transport is then
/// aborted with that code.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct evl_protocol {
    /// sizeof(evl_protocol) as the caller knows it.
    pub size: u32,
    /// Always zero.
    pub reserved: u32,
    /// The first call, in the iteration after the transport was made: transport is borrowed.
    pub connection_made: Option<unsafe extern "C-unwind" fn(transport: *mut evl_transport, arg: *mut c_void)>,
    /// Takes what was read; data is valid during the call.
    pub data_received: Option<
        unsafe extern "C-unwind" fn(transport: *mut evl_transport, data: *const c_void, size: usize, arg: *mut c_void),
    >,
    /// The peer sends no more. Answers 1 to keep a transport open that also writes; else it is closed.
    pub eof_received: Option<unsafe extern "C-unwind" fn(transport: *mut evl_transport, arg: *mut c_void) -> c_int>,
    /// The last call, exactly once: code is 0 when the transport was closed or the peer went, else what failed. The
    /// descriptor is closed after it.
    pub connection_lost:
        Option<unsafe extern "C-unwind" fn(transport: *mut evl_transport, code: c_int, arg: *mut c_void)>,
    /// More than the high limit waits to be written. Called before the function that wrote returns (while the loop
    /// does not run: by its next iteration).
    pub pause_writing: Option<unsafe extern "C-unwind" fn(transport: *mut evl_transport, arg: *mut c_void)>,
    /// No more than the low limit waits, after pause_writing.
    pub resume_writing: Option<unsafe extern "C-unwind" fn(transport: *mut evl_transport, arg: *mut c_void)>,
    /// Writes memory to read into to *buffer and *size, which must not be 0; size_hint is what would be good. It is
    /// used until buffer_updated is called, or nothing was there to be read.
    pub get_buffer: Option<
        unsafe extern "C-unwind" fn(
            transport: *mut evl_transport,
            size_hint: usize,
            buffer: *mut *mut c_void,
            size: *mut usize,
            arg: *mut c_void,
        ),
    >,
    /// So many bytes were read into the memory of get_buffer. Both or none of the two are given; with them,
    /// data_received is not called.
    pub buffer_updated:
        Option<unsafe extern "C-unwind" fn(transport: *mut evl_transport, size: usize, arg: *mut c_void)>,
}

/// Takes a protocol over from the host.
///
/// # Safety `protocol` is NULL or begins with its size.
pub(crate) unsafe fn read_protocol(protocol: *const evl_protocol, arg: FreeArg) -> Result<Protocol> {
    // SAFETY: by this function's contract.
    Ok(Protocol { callbacks: unsafe { read_callbacks(protocol) }?.shared(), arg })
}

/// The functions of a protocol.
///
/// # Safety As [`read_protocol`].
pub(super) unsafe fn read_callbacks(protocol: *const evl_protocol) -> Result<Callbacks> {
    own::required(protocol.cast_mut())?;
    // SAFETY: by this function's contract.
    let table: evl_protocol = unsafe { options::read(protocol) }?;
    if table.reserved != 0 || table.get_buffer.is_some() != table.buffer_updated.is_some() {
        return Err(Error::OPTIONS);
    }
    Ok(Callbacks {
        connection_made: table.connection_made,
        data_received: table.data_received,
        eof_received: table.eof_received,
        connection_lost: table.connection_lost,
        pause_writing: table.pause_writing,
        resume_writing: table.resume_writing,
        get_buffer: table.get_buffer,
        buffer_updated: table.buffer_updated,
    })
}

/// The body of a function that uses a transport on its loop's thread. The reference keeps it while the host's code runs.
///
/// # Safety `transport` is NULL or a live transport.
pub(super) unsafe fn on_transport(
    transport: *mut evl_transport,
    body: impl FnOnce(&Owned, &Transport) -> Result<c_int>,
) -> c_int {
    // SAFETY: by this function's contract; a transport keeps its loop's memory.
    unsafe {
        let event_loop = transport.as_ref().map_or(std::ptr::null(), |transport| transport.event_loop());
        own::on_loop(event_loop.cast_mut(), |lp| {
            let kept = TransportRef::new(own::borrow(transport)?);
            body(lp, &kept)
        })
    }
}

/// The limits that are meant: negative is the default.
pub(super) fn limits(high: i64, low: i64) -> (usize, usize) {
    let given = |limit: i64| usize::try_from(limit).ok();
    let high = given(high).unwrap_or_else(|| given(low).map_or(64 * 1024, |low| low.saturating_mul(4)));
    (high, given(low).unwrap_or(high / 4))
}

/// Takes another reference and returns transport. NULL gives NULL. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_transport_ref(transport: *mut evl_transport) -> *mut evl_transport {
    // SAFETY: a live transport or NULL, as documented.
    if let Some(t) = unsafe { transport.as_ref() } {
        t.retain();
    }
    transport
}

/// Gives a reference back; NULL is ignored. An open transport goes on without you: the loop keeps it until
/// connection_lost was called. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_transport_unref(transport: *mut evl_transport) {
    // SAFETY: the caller owns a reference and gives it up, or passes NULL.
    release(|| unsafe { Transport::release_ptr(transport) });
}

/// The loop the transport belongs to. Borrowed. NULL for NULL. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_transport_get_loop(transport: *const evl_transport) -> *mut evl_loop {
    // SAFETY: a live transport or NULL, as documented.
    unsafe { transport.as_ref() }.map_or(std::ptr::null_mut(), |t| t.event_loop().cast_mut())
}

/// Closes the transport: transport.close. Nothing is read any more; what is queued is written, and a file that is being
/// sent (evl_loop_sendfile) to its end; then connection_lost(0) follows by the ready queue, and the descriptor is
/// closed. Closing twice is closing once.
///
/// On the loop's thread. Errors: -EINVAL (NULL), EVL_ECLOSED, EVL_EWRONGTHREAD, EVL_EFORKED.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_transport_close(transport: *mut evl_transport) -> c_int {
    // SAFETY: a live transport or NULL, as documented.
    unsafe {
        on_transport(transport, |lp, transport| {
            transport.close(lp);
            Ok(0)
        })
    }
}

/// Closes the transport without writing what is queued: transport.abort. connection_lost(0) follows by the ready
/// queue. Thread and errors as evl_transport_close.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_transport_abort(transport: *mut evl_transport) -> c_int {
    // SAFETY: a live transport or NULL, as documented.
    unsafe {
        on_transport(transport, |lp, transport| {
            transport.force_close(lp, 0);
            Ok(0)
        })
    }
}

/// Whether the transport is closing or closed: 1 or 0. transport.is_closing. NULL gives 0. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_transport_is_closing(transport: *const evl_transport) -> c_int {
    // SAFETY: a live transport or NULL, as documented.
    predicate(unsafe { transport.as_ref() }, Transport::is_closing)
}

/// Calls data_received no more, until evl_transport_resume_reading: transport.pause_reading. Pausing twice, or a
/// transport that is closing, does nothing.
///
/// On the loop's thread. Errors: -EOPNOTSUPP (the transport only writes), -EINVAL (NULL), EVL_ECLOSED,
/// EVL_EWRONGTHREAD, EVL_EFORKED.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_transport_pause_reading(transport: *mut evl_transport) -> c_int {
    // SAFETY: a live transport or NULL, as documented.
    unsafe { on_transport(transport, |lp, transport| transport.pause_reading(lp).map(|()| 0)) }
}

/// Undoes evl_transport_pause_reading: transport.resume_reading. Thread and errors as there.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_transport_resume_reading(transport: *mut evl_transport) -> c_int {
    // SAFETY: a live transport or NULL, as documented.
    unsafe { on_transport(transport, |lp, transport| transport.resume_reading(lp).map(|()| 0)) }
}

/// Whether the transport reads: 1, or 0 when it is paused, closing, sending a file, or only writes.
/// transport.is_reading. NULL gives 0. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_transport_is_reading(transport: *const evl_transport) -> c_int {
    // SAFETY: a live transport or NULL, as documented.
    predicate(unsafe { transport.as_ref() }, Transport::is_reading)
}

/// Writes size bytes: transport.write. What can be written is written now; the rest is copied, and written when
/// that is possible. size 0 does nothing.
///
/// A write that fails closes the transport: connection_lost tells why. A socket that is closing takes more as long as
/// something waits to be written. On the loop's thread. Errors: -EPIPE (the transport is closing: nothing is
/// written), EVL_EBUSY (a file is being sent: nothing is written), EVL_EINVALIDSTATE (after write_eof), -EOPNOTSUPP
/// (it only reads), -EINVAL (NULL), -ENOMEM (the transport is aborted), EVL_ECLOSED, EVL_EWRONGTHREAD, EVL_EFORKED.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_transport_write(
    transport: *mut evl_transport,
    data: *const c_void,
    size: usize,
) -> c_int {
    let buffer = evl_buffer { data, size };
    // SAFETY: as documented.
    unsafe { evl_transport_writelines(transport, &raw const buffer, 1) }
}

/// Writes the bytes of count buffers, in their order: transport.writelines, but gathered by the system. Rules,
/// thread and errors as evl_transport_write; buffers may be NULL when count is 0.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_transport_writelines(
    transport: *mut evl_transport,
    buffers: *const evl_buffer,
    count: usize,
) -> c_int {
    // SAFETY: a live transport or NULL; buffers has count entries, each with its bytes.
    unsafe {
        on_transport(transport, |lp, transport| {
            if count > 0 {
                own::required(buffers.cast_mut())?;
            }
            let given = if count > 0 { std::slice::from_raw_parts(buffers, count) } else { &[] };
            if given.iter().any(|buffer| buffer.data.is_null() && buffer.size > 0) {
                return Err(Error::INVALID);
            }
            // The two structs are the same, by POSIX's order of an iovec's members.
            transport.write(lp, std::slice::from_raw_parts(given.as_ptr().cast::<libc::iovec>(), count)).map(|()| 0)
        })
    }
}

/// evl_transport_write without a copy: the bytes must stay as they are until arg_free(arg) is called, which happens
/// exactly once, when they are written or dropped: before this function returns, when all was written at once or
/// it fails; by the loop later; or when the transport or the loop is closed.
///
/// Thread and errors as evl_transport_write.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_transport_write_owned(
    transport: *mut evl_transport,
    data: *const c_void,
    size: usize,
    arg: *mut c_void,
    arg_free: evl_free_fn,
) -> c_int {
    let arg = FreeArg::new(arg, arg_free);
    // SAFETY: a live transport or NULL; data has size bytes until arg is released.
    unsafe {
        on_transport(transport, |lp, transport| {
            if size > 0 {
                own::required(data.cast_mut())?;
            }
            transport.write_owned(lp, data, size, arg).map(|()| 0)
        })
    }
}

/// Writes no more: transport.write_eof. What is queued is written first. A stream then tells its peer, and goes on
/// reading; a pipe is closed by it, as by evl_transport_close. Writing afterwards is EVL_EINVALIDSTATE.
///
/// On the loop's thread. Errors: -EOPNOTSUPP (evl_transport_can_write_eof says 0), -EINVAL (NULL), EVL_ECLOSED,
/// EVL_EWRONGTHREAD, EVL_EFORKED.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_transport_write_eof(transport: *mut evl_transport) -> c_int {
    // SAFETY: a live transport or NULL, as documented.
    unsafe { on_transport(transport, |lp, transport| transport.write_eof(lp).map(|()| 0)) }
}

/// Whether evl_transport_write_eof can be used: 1 or 0. transport.can_write_eof. NULL gives 0. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_transport_can_write_eof(transport: *const evl_transport) -> c_int {
    // SAFETY: a live transport or NULL, as documented.
    predicate(unsafe { transport.as_ref() }, Transport::can_write_eof)
}

/// Sets when the protocol is told to pause and to resume writing: transport.set_write_buffer_limits. Negative is
/// the default: of high four times low, or 64 KiB when both are; of low a quarter of high.
///
/// On the loop's thread. Errors: -EINVAL (NULL; low above high), -EOPNOTSUPP (the transport only reads),
/// EVL_ECLOSED, EVL_EWRONGTHREAD, EVL_EFORKED.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_transport_set_write_buffer_limits(
    transport: *mut evl_transport,
    high: i64,
    low: i64,
) -> c_int {
    // SAFETY: a live transport or NULL, as documented.
    unsafe {
        on_transport(transport, |lp, transport| {
            let (high, low) = limits(high, low);
            transport.set_limits(lp, high, low).map(|()| 0)
        })
    }
}

/// Reads the limits (either output may be NULL): transport.get_write_buffer_limits. Thread and errors as
/// evl_transport_set_write_buffer_limits.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_transport_get_write_buffer_limits(
    transport: *mut evl_transport,
    high: *mut usize,
    low: *mut usize,
) -> c_int {
    // SAFETY: a live transport or NULL; outputs are writable or NULL.
    unsafe {
        on_transport(transport, |_, transport| {
            let limits = transport.limits()?;
            own::put_optional(high, limits.0);
            own::put_optional(low, limits.1);
            Ok(0)
        })
    }
}

/// Writes how many bytes wait to be written to *size: transport.get_write_buffer_size.
///
/// On the loop's thread. Errors: -EINVAL (NULL), EVL_ECLOSED, EVL_EWRONGTHREAD, EVL_EFORKED.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_transport_get_write_buffer_size(
    transport: *mut evl_transport,
    size: *mut usize,
) -> c_int {
    // SAFETY: a live transport or NULL; size is writable or NULL.
    unsafe { on_transport(transport, |_, transport| own::put(size, transport.queue_size())) }
}

/// Has another protocol be called from now on: transport.set_protocol. The table is copied. connection_made is
/// not called again.
///
/// The arg of the one before is released when none of its functions is on the stack; this arg after
/// connection_lost, or when this function fails. On the loop's thread. Errors: EVL_EINVALIDSTATE (connection_lost
/// was called), -EINVAL (NULL), EVL_EOPTIONS, EVL_ECLOSED, EVL_EWRONGTHREAD, EVL_EFORKED.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_transport_set_protocol(
    transport: *mut evl_transport,
    protocol: *const evl_protocol,
    arg: *mut c_void,
    arg_free: evl_free_fn,
) -> c_int {
    let arg = FreeArg::new(arg, arg_free);
    // SAFETY: a live transport or NULL; protocol begins with its size or is NULL.
    unsafe { on_transport(transport, |_, transport| transport.set_protocol(read_protocol(protocol, arg)?).map(|()| 0)) }
}

/// The descriptor, which stays the transport's; -EBADF when it is closed. transport.get_extra_info('pipe').
///
/// Any thread. Errors: -EBADF, -EINVAL (NULL).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_transport_get_fd(transport: *const evl_transport) -> c_int {
    // SAFETY: a live transport or NULL, as documented.
    super::guard::guard(|| match unsafe { own::borrow(transport)? }.fd() {
        closed if closed < 0 => Err(Error::BAD_DESCRIPTOR),
        fd => Ok(fd),
    })
}

/// Writes what the transport is, such as `<ReadPipeTransport fd=5 polling>`. Buffer rules as evl_future_repr.
///
/// On the loop's thread. Errors: -EINVAL (NULL transport; buffer NULL and size not 0), EVL_ECLOSED,
/// EVL_EWRONGTHREAD, EVL_EFORKED.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_transport_repr(
    transport: *mut evl_transport,
    buffer: *mut c_char,
    size: usize,
) -> c_int {
    // SAFETY: a live transport or NULL; buffer has size writable bytes.
    unsafe { on_transport(transport, |_, transport| own::fill(buffer, size, &transport.repr())) }
}

/// Keeps a pointer of yours with the transport; the one before is released first. data_free (may be NULL) runs when
/// it is replaced, with the transport's last reference, or when this function fails.
///
/// On the loop's thread. Errors: -EINVAL (NULL), EVL_ECLOSED, EVL_EWRONGTHREAD, EVL_EFORKED.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_transport_set_data(
    transport: *mut evl_transport,
    data: *mut c_void,
    data_free: evl_free_fn,
) -> c_int {
    let data = FreeArg::new(data, data_free);
    // SAFETY: a live transport or NULL, as documented.
    unsafe {
        on_transport(transport, |_, transport| {
            transport.set_data(data);
            Ok(0)
        })
    }
}

/// The pointer kept by evl_transport_set_data, or NULL. NULL gives NULL. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_transport_get_data(transport: *const evl_transport) -> *mut c_void {
    // SAFETY: a live transport or NULL, as documented.
    unsafe { transport.as_ref() }.map_or(std::ptr::null_mut(), Transport::data)
}
