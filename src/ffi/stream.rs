//! Streams (`asyncio.StreamReader`, `asyncio.StreamWriter`): how they are opened, and writing to them.

use std::ffi::{c_char, c_int, c_void};

use super::connection::{self, evl_connect_options};
use super::event_loop::evl_loop;
use super::future::evl_future;
use super::guard::{guard, predicate, release};
use super::handle::evl_free_fn;
use super::own;
use super::server::{self, evl_server_options};
use super::task::{evl_loop_create_task, evl_step_fn, evl_task};
use super::transport::{evl_buffer, evl_transport, evl_transport_writelines, on_transport};
use crate::engine::callback::FreeArg;
use crate::engine::event_loop::Owned;
use crate::error::{Error, Result};
use crate::net::server::Factory;
use crate::net::stream::{ConnectedFn, Stream, StreamRef, open};
use crate::net::transport::Transport;

/// A connection that is read from and written to when you want to, as asyncio.StreamReader and StreamWriter in one.
/// Opaque; reference counted.
pub type evl_stream = Stream;

/// Told of a connection that a server has taken: asyncio's client_connected_cb. stream is borrowed: take a reference
/// by evl_stream_ref, begin an operation, or make a task by evl_stream_create_task, else it is closed when this
/// returns. evl_raise aborts it. arg is the pointer the server was made with.
pub type evl_connected_fn = Option<unsafe extern "C-unwind" fn(stream: *mut evl_stream, arg: *mut c_void)>;

/// Connects to a host: asyncio.open_connection. Options, what the future fails with, and how it is cancelled, as
/// evl_loop_create_connection.
///
/// The future's result (evl_future_result) is the evl_stream, the future's: take a reference by evl_stream_ref. out
/// may be NULL, which closes the stream once it is open. On the loop's thread. Errors as evl_loop_create_connection.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_open_connection(
    event_loop: *mut evl_loop,
    options: *const evl_connect_options,
    out: *mut *mut evl_future,
) -> c_int {
    // SAFETY: a live loop or NULL; options begin with their size or are NULL; strings are NULL or end with NUL; out is
    // writable or NULL.
    unsafe {
        own::on_loop(event_loop, |lp| {
            let wanted = connection::wanted(options)?;
            own::give_future(out, crate::net::connection::connect(lp, wanted, open::client(lp))?);
            Ok(0)
        })
    }
}

/// Connects to a unix socket: asyncio.open_unix_connection. name as evl_loop_create_unix_connection; everything else
/// as evl_open_connection.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_open_unix_connection(
    event_loop: *mut evl_loop,
    name: *const c_char,
    name_size: usize,
    out: *mut *mut evl_future,
) -> c_int {
    // SAFETY: a live loop or NULL; name has so many bytes; out is writable or NULL.
    unsafe {
        own::on_loop(event_loop, |lp| {
            let address = crate::net::connection::unix_address(own::bytes(name.cast(), name_size)?)?;
            own::give_future(out, crate::net::connection::connect_unix(lp, address, open::client(lp))?);
            Ok(0)
        })
    }
}

/// Makes a connected stream socket a stream: asyncio.open_connection with sock. fd is made non-blocking, and from
/// success on it is the stream's, which closes it.
///
/// Errors as evl_loop_connect_accepted_socket; everything else as evl_open_connection.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_open_connection_from_socket(
    event_loop: *mut evl_loop,
    fd: c_int,
    out: *mut *mut evl_future,
) -> c_int {
    // SAFETY: a live loop or NULL; out is writable or NULL.
    unsafe {
        own::on_loop(event_loop, |lp| {
            own::give_future(out, crate::net::connection::adopt(lp, fd, open::client(lp))?);
            Ok(0)
        })
    }
}

/// What makes streams for a server.
fn factory(connected: evl_connected_fn, arg: FreeArg) -> Option<Factory> {
    connected.map(|connected: ConnectedFn| open::factory(connected, arg))
}

/// Makes a TCP server whose connections are streams: asyncio.start_server. connected is called for each.
///
/// Everything else as evl_loop_create_server, with arg in the place of factory_arg.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_start_server(
    event_loop: *mut evl_loop,
    options: *const evl_server_options,
    connected: evl_connected_fn,
    arg: *mut c_void,
    arg_free: evl_free_fn,
    out: *mut *mut evl_future,
) -> c_int {
    let factory = factory(connected, FreeArg::new(arg, arg_free));
    // SAFETY: as documented.
    unsafe { server::create(event_loop, options, factory, out) }
}

/// Makes a server of a unix socket whose connections are streams: asyncio.start_unix_server. connected is called for
/// each.
///
/// Everything else as evl_loop_create_unix_server, with arg in the place of factory_arg.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_start_unix_server(
    event_loop: *mut evl_loop,
    name: *const c_char,
    name_size: usize,
    options: *const evl_server_options,
    connected: evl_connected_fn,
    arg: *mut c_void,
    arg_free: evl_free_fn,
    out: *mut *mut evl_future,
) -> c_int {
    let factory = factory(connected, FreeArg::new(arg, arg_free));
    // SAFETY: as documented.
    unsafe { server::create_unix(event_loop, name, name_size, options, factory, out) }
}

/// Makes a server of a stream socket that is bound, whose connections are streams: asyncio.start_server with sock.
/// connected is called for each.
///
/// Everything else as evl_loop_create_server_from_socket, with arg in the place of factory_arg.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_start_server_from_socket(
    event_loop: *mut evl_loop,
    fd: c_int,
    options: *const evl_server_options,
    connected: evl_connected_fn,
    arg: *mut c_void,
    arg_free: evl_free_fn,
    out: *mut *mut evl_future,
) -> c_int {
    let factory = factory(connected, FreeArg::new(arg, arg_free));
    // SAFETY: as documented.
    unsafe { server::create_from_socket(event_loop, fd, options, factory, out) }
}

/// Makes a stream of a transport that is open: one of evl_loop_create_connection, a server's, a pipe's (standard
/// input, say). The stream becomes its protocol, as by evl_transport_set_protocol.
///
/// *out is your reference. A transport that only writes gives a stream that cannot be read, and one that only reads
/// gives one that cannot be written. On the loop's thread. Errors: EVL_EINVALIDSTATE (connection_lost was called),
/// -EOPNOTSUPP (a pipe of a process), -EINVAL (NULL), EVL_ECLOSED, EVL_EWRONGTHREAD, EVL_EFORKED.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_stream_from_transport(
    transport: *mut evl_transport,
    out: *mut *mut evl_stream,
) -> c_int {
    // SAFETY: a live transport or NULL; out is writable or NULL.
    unsafe {
        on_transport(transport, |_, transport| {
            own::required(out)?;
            own::give(out, open::adopt(transport)?.into_raw());
            Ok(0)
        })
    }
}

/// The body of a function that uses a stream on its loop's thread. The reference keeps it while the host's code runs.
///
/// # Safety `stream` is NULL or a live stream.
pub(super) unsafe fn on_stream(stream: *mut evl_stream, body: impl FnOnce(&Owned, &Stream) -> Result<c_int>) -> c_int {
    // SAFETY: by this function's contract; a stream keeps its loop's memory.
    unsafe {
        let event_loop = stream.as_ref().map_or(std::ptr::null(), Stream::event_loop);
        own::on_loop(event_loop.cast_mut(), |lp| {
            let kept = StreamRef::new(own::borrow(stream)?);
            body(lp, &kept)
        })
    }
}

/// Takes another reference and returns stream. NULL gives NULL. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_stream_ref(stream: *mut evl_stream) -> *mut evl_stream {
    // SAFETY: a live stream or NULL, as documented.
    if let Some(stream) = unsafe { stream.as_ref() } {
        stream.retain();
    }
    stream
}

/// Gives a reference back; NULL is ignored. The last one closes the stream, as evl_stream_close does. Operations that
/// are under way, futures whose result it is, and tasks of evl_stream_create_task have references, too. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_stream_unref(stream: *mut evl_stream) {
    // SAFETY: the caller owns a reference and gives it up, or passes NULL.
    release(|| unsafe { Stream::release_ptr(stream) });
}

/// The loop of the stream. Borrowed. NULL for NULL. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_stream_get_loop(stream: *const evl_stream) -> *mut evl_loop {
    // SAFETY: a live stream or NULL, as documented.
    unsafe { stream.as_ref() }.map_or(std::ptr::null_mut(), |stream| stream.event_loop().cast_mut())
}

/// The transport beneath: StreamWriter.transport. Borrowed: valid as long as the stream. It tells addresses and
/// descriptor, has a pointer of yours (evl_transport_set_data), sets limits of writing, takes memory of yours
/// (evl_transport_write_owned), and can be aborted. NULL for NULL. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_stream_get_transport(stream: *const evl_stream) -> *mut evl_transport {
    // SAFETY: a live stream or NULL, as documented.
    let transport = unsafe { stream.as_ref() }.and_then(|stream| stream.transport().ok());
    transport.map_or(std::ptr::null_mut(), |transport| std::ptr::from_ref(transport).cast_mut())
}

/// Makes a task that serves the stream (evl_loop_create_task): a client_connected_cb that is a coroutine. The stream
/// stays valid until the task is done.
///
/// When the task fails, the exception handler is told, and the stream closed; also when it is cancelled. When it is
/// done, the reference it had is given back: a stream that nobody else uses is closed. out may be NULL; else *out is
/// your reference. arg_free runs exactly once: when the task is done, on close, or when this function fails. On the
/// loop's thread. Errors: -EINVAL (NULL stream or step), EVL_ECLOSED, EVL_EWRONGTHREAD, EVL_EFORKED, -ENOMEM.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_stream_create_task(
    stream: *mut evl_stream,
    step: evl_step_fn,
    arg: *mut c_void,
    arg_free: evl_free_fn,
    out: *mut *mut evl_task,
) -> c_int {
    // SAFETY: a live stream or NULL; out is writable or NULL. The task is a reference, and begins with its future.
    unsafe {
        let mut task: *mut evl_task = std::ptr::null_mut();
        let event_loop = evl_stream_get_loop(stream);
        let code = evl_loop_create_task(event_loop, step, arg, arg_free, std::ptr::null_mut(), &raw mut task);
        if code < 0 {
            return code;
        }
        let code = on_stream(stream, |lp, stream| {
            stream.follow_task(lp, own::borrow(task)?.future())?;
            own::give_task(out, task);
            Ok(0)
        });
        if code < 0 {
            super::task::evl_task_unref(task);
        }
        code
    }
}

/// The body of a function that has to do with the writing side.
///
/// # Safety As [`on_stream`].
unsafe fn on_writer(stream: *mut evl_stream, body: impl FnOnce(&Owned, &Transport) -> Result<c_int>) -> c_int {
    // SAFETY: by this function's contract.
    unsafe { on_stream(stream, |lp, stream| body(lp, stream.transport()?)) }
}

/// Writes size bytes: StreamWriter.write. Never waits: what the system does not take is copied, and
/// evl_stream_drain tells when there is room again.
///
/// Thread and errors as evl_transport_write.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_stream_write(stream: *mut evl_stream, data: *const c_void, size: usize) -> c_int {
    let buffer = evl_buffer { data, size };
    // SAFETY: as documented.
    unsafe { evl_stream_writelines(stream, &raw const buffer, 1) }
}

/// Writes the bytes of count buffers, in their order: StreamWriter.writelines. Everything else as evl_stream_write.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_stream_writelines(
    stream: *mut evl_stream,
    buffers: *const evl_buffer,
    count: usize,
) -> c_int {
    // SAFETY: as documented; the transport's function finds out what is wrong with a stream that has none.
    unsafe { evl_transport_writelines(evl_stream_get_transport(stream), buffers, count) }
}

/// Writes no more, and goes on reading: StreamWriter.write_eof. What is queued is written first.
///
/// Thread and errors as evl_transport_write_eof.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_stream_write_eof(stream: *mut evl_stream) -> c_int {
    // SAFETY: a live stream or NULL, as documented.
    unsafe { on_writer(stream, |lp, transport| transport.write_eof(lp).map(|()| 0)) }
}

/// Whether evl_stream_write_eof can be used: 1 or 0. StreamWriter.can_write_eof. NULL gives 0. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_stream_can_write_eof(stream: *const evl_stream) -> c_int {
    // SAFETY: a live stream or NULL, as documented.
    predicate(unsafe { stream.as_ref() }.and_then(|stream| stream.transport().ok()), Transport::can_write_eof)
}

/// A future that is done when there is room to write: StreamWriter.drain. It is done on return unless more than the
/// transport's high limit waits to be written; then when no more than the low one does.
///
/// "evl_stream_write(stream, line, size); return evl_stream_drain(stream, next);" keeps a task from filling the memory
/// for a peer that does not read. It fails with what the connection was lost by, or -ECONNRESET when it was closed.
/// Many may drain at once. out may be NULL. On the loop's thread. Errors: -EINVAL (NULL), EVL_ECLOSED,
/// EVL_EWRONGTHREAD, EVL_EFORKED, -ENOMEM.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_stream_drain(stream: *mut evl_stream, out: *mut *mut evl_future) -> c_int {
    // SAFETY: a live stream or NULL; out is writable or NULL.
    unsafe {
        on_stream(stream, |lp, stream| {
            own::give_future(out, stream.drain(lp)?);
            Ok(0)
        })
    }
}

/// Closes the stream: StreamWriter.close. What is queued is written first; nothing more is read. A read that waits is
/// ended as by the end of the stream.
///
/// On the loop's thread. Errors: -EINVAL (NULL), EVL_ECLOSED, EVL_EWRONGTHREAD, EVL_EFORKED.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_stream_close(stream: *mut evl_stream) -> c_int {
    // SAFETY: a live stream or NULL, as documented.
    unsafe { on_stream(stream, |lp, stream| stream.close(lp).map(|()| 0)) }
}

/// Whether the stream is closing or closed: 1 or 0. StreamWriter.is_closing. NULL gives 0. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_stream_is_closing(stream: *const evl_stream) -> c_int {
    // SAFETY: a live stream or NULL, as documented.
    predicate(unsafe { stream.as_ref() }.and_then(|stream| stream.transport().ok()), Transport::is_closing)
}

/// A future that is done when the connection is closed: StreamWriter.wait_closed. It fails with what the connection
/// was lost by, if that was a failure.
///
/// It does not close: see evl_stream_close. out may be NULL. Thread and errors as evl_stream_drain.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_stream_wait_closed(stream: *mut evl_stream, out: *mut *mut evl_future) -> c_int {
    // SAFETY: a live stream or NULL; out is writable or NULL.
    unsafe {
        on_stream(stream, |lp, stream| {
            own::give_future(out, stream.wait_closed(lp)?);
            Ok(0)
        })
    }
}

/// What the connection was lost by: a negative code, or 0: it is not lost, or was closed in an orderly way.
/// StreamReader.exception.
///
/// On the loop's thread. Errors: -EINVAL (NULL).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_stream_get_error(stream: *const evl_stream) -> c_int {
    // SAFETY: a live stream or NULL, as documented.
    guard(|| unsafe { stream.as_ref() }.map(Stream::code).ok_or(Error::INVALID))
}
