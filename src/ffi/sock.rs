//! Operations on sockets by their descriptors (`loop.sock_*`).

use std::ffi::{c_int, c_void};

use super::event_loop::evl_loop;
use super::future::evl_future;
use super::own;
use crate::error::Result;
use crate::net::file::Part;
use crate::net::sock::{self, Action, Connect, Recv, Send, SendFile};

/// Receives at most size bytes: loop.sock_recv. The result is bytes (evl_future_result_bytes); none at the
/// stream's end.
///
/// As all of the evl_loop_sock_ functions: the system call is tried at once, and again whenever fd is ready,
/// until it has gone through. fd may be blocking where nothing else is said; the loop never blocks. One
/// operation may wait to read from fd and one to write, not more. *out is your reference to the future, which
/// may be done already; out may be NULL. Cancel what waits on a descriptor before you close it: evl cannot see
/// that. A cancelled operation is done at once. What goes wrong is the future's error, with a message such as
/// "recv: connection reset by the peer". On the loop's thread. Errors of the call, which then has done nothing:
/// -EBADF, -ENOTSOCK, -EINVAL (NULL, and what the kernel refuses), -EOPNOTSUPP, -EAFNOSUPPORT, -EFAULT,
/// EVL_EBUSY (fd has a reader, or is waited for already), -ENOMEM, -ENOSPC, EVL_ECLOSED, EVL_EWRONGTHREAD,
/// EVL_EFORKED, EVL_EPANIC.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_loop_sock_recv(
    event_loop: *mut evl_loop,
    fd: c_int,
    size: usize,
    out: *mut *mut evl_future,
) -> c_int {
    // SAFETY: a live loop or NULL; out is writable or NULL.
    unsafe { start(event_loop, fd, out, || Ok(Action::Recv(Recv::bytes(size, false)))) }
}

/// Receives at most size bytes into buffer: loop.sock_recv_into. The result is how many
/// (evl_future_result_int); 0 at the stream's end.
///
/// buffer is evl's until the future is done. Rules and errors as evl_loop_sock_recv; -EINVAL also when buffer
/// is NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_loop_sock_recv_into(
    event_loop: *mut evl_loop,
    fd: c_int,
    buffer: *mut c_void,
    size: usize,
    out: *mut *mut evl_future,
) -> c_int {
    // SAFETY: a live loop or NULL; out is writable or NULL.
    unsafe { start(event_loop, fd, out, || Ok(Action::Recv(Recv::into(buffer.cast(), size, false)?))) }
}

/// Receives a datagram of at most size bytes (more are lost): loop.sock_recvfrom. The result is bytes
/// (evl_future_result_bytes) and who sent them (evl_future_result_address).
///
/// Rules and errors as evl_loop_sock_recv.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_loop_sock_recvfrom(
    event_loop: *mut evl_loop,
    fd: c_int,
    size: usize,
    out: *mut *mut evl_future,
) -> c_int {
    // SAFETY: a live loop or NULL; out is writable or NULL.
    unsafe { start(event_loop, fd, out, || Ok(Action::Recv(Recv::bytes(size, true)))) }
}

/// Receives a datagram into buffer: loop.sock_recvfrom_into. The result is how many bytes
/// (evl_future_result_int) and who sent them (evl_future_result_address).
///
/// Rules and errors as evl_loop_sock_recv_into.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_loop_sock_recvfrom_into(
    event_loop: *mut evl_loop,
    fd: c_int,
    buffer: *mut c_void,
    size: usize,
    out: *mut *mut evl_future,
) -> c_int {
    // SAFETY: a live loop or NULL; out is writable or NULL.
    unsafe { start(event_loop, fd, out, || Ok(Action::Recv(Recv::into(buffer.cast(), size, true)?))) }
}

/// Sends all of data: loop.sock_sendall. The future is done, with the result NULL, when the kernel has taken
/// everything. After an error or a cancel nobody can tell how much of it was sent.
///
/// data is evl's until the future is done; it may be NULL when size is 0. A peer that is gone is -EPIPE, never
/// SIGPIPE. Rules and errors as evl_loop_sock_recv; EVL_EBUSY when fd has a writer.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_loop_sock_sendall(
    event_loop: *mut evl_loop,
    fd: c_int,
    data: *const c_void,
    size: usize,
    out: *mut *mut evl_future,
) -> c_int {
    // SAFETY: a live loop or NULL; out is writable or NULL.
    unsafe { start(event_loop, fd, out, || Ok(Action::Send(Send::all(data.cast(), size)?))) }
}

/// Sends a datagram: loop.sock_sendto. The result is how many bytes were sent (evl_future_result_int).
///
/// address is a struct sockaddr, and copied; NULL with size 0 sends to whom fd is connected to. Ownership,
/// rules and errors as evl_loop_sock_sendall.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_loop_sock_sendto(
    event_loop: *mut evl_loop,
    fd: c_int,
    data: *const c_void,
    size: usize,
    address: *const c_void,
    address_size: u32,
    out: *mut *mut evl_future,
) -> c_int {
    // SAFETY: a live loop or NULL; address has address_size bytes; out is writable or NULL.
    unsafe {
        start(event_loop, fd, out, || {
            let to = own::address(address, address_size)?;
            Ok(Action::Send(Send::to(data.cast(), size, to)?))
        })
    }
}

/// Connects: loop.sock_connect. The result is NULL. An error's message is such as "connect 127.0.0.1:80:
/// connection refused".
///
/// fd must be non-blocking. address is a struct sockaddr, not a name, and copied. After a cancel the kernel may
/// go on connecting: close fd. A unix socket whose listener is full fails with -EAGAIN. Rules and errors as
/// evl_loop_sock_recv; EVL_EBUSY when fd has a writer, -EINVAL also when fd is blocking or address NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_loop_sock_connect(
    event_loop: *mut evl_loop,
    fd: c_int,
    address: *const c_void,
    address_size: u32,
    out: *mut *mut evl_future,
) -> c_int {
    // SAFETY: a live loop or NULL; address has address_size bytes; out is writable or NULL.
    unsafe {
        start(event_loop, fd, out, || {
            let to = own::address(address, address_size)?;
            Ok(Action::Connect(Connect::new(to)?))
        })
    }
}

/// Accepts a connection: loop.sock_accept. The result is its descriptor (evl_future_result_int), non-blocking
/// and close-on-exec, and the peer's address (evl_future_result_address).
///
/// fd must be listening and non-blocking. The descriptor is the future's until somebody asks for it by
/// evl_future_result_int, and is that caller's to close from then on; one that nobody asks for is closed with
/// the future, and out NULL closes it at once. Rules and errors as evl_loop_sock_recv; -EINVAL also when fd is
/// blocking or does not listen.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_loop_sock_accept(
    event_loop: *mut evl_loop,
    fd: c_int,
    out: *mut *mut evl_future,
) -> c_int {
    // SAFETY: a live loop or NULL; out is writable or NULL.
    unsafe { start(event_loop, fd, out, || Ok(Action::Accept)) }
}

/// Sends count bytes of the file file_fd, from offset on, or up to its end if that comes first:
/// loop.sock_sendfile. count 0: up to its end. The result is how many bytes were sent (evl_future_result_int).
///
/// The file is a regular one or a block device; it must stay open until the future is done, and its own
/// position is neither used nor moved. It is sent by sendfile(2); where the kernel cannot do that for the file,
/// it is read in the loop's thread and sent. fd must be non-blocking. Rules and errors as
/// evl_loop_sock_sendall; -EINVAL also when fd is blocking or no stream socket, offset or count negative, or
/// file_fd another kind of file.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_loop_sock_sendfile(
    event_loop: *mut evl_loop,
    fd: c_int,
    file_fd: c_int,
    offset: i64,
    count: i64,
    out: *mut *mut evl_future,
) -> c_int {
    // SAFETY: a live loop or NULL; out is writable or NULL.
    unsafe { start(event_loop, fd, out, || Ok(Action::SendFile(SendFile::new(Part::new(file_fd, offset, count)?)))) }
}

/// The body of each.
///
/// # Safety `event_loop` is NULL or a live loop; `out` is NULL or writable.
unsafe fn start(
    event_loop: *mut evl_loop,
    fd: c_int,
    out: *mut *mut evl_future,
    action: impl FnOnce() -> Result<Action>,
) -> c_int {
    // SAFETY: by this function's contract.
    unsafe {
        own::on_loop(event_loop, |lp| {
            if let Some(future) = sock::start(lp, fd, action()?, !out.is_null())? {
                own::give_future(out, future);
            }
            Ok(0)
        })
    }
}
