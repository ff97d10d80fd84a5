//! Connections (`loop.create_connection` and its siblings), and what their transports have beside others.

use std::ffi::{c_char, c_int, c_void};

use super::event_loop::evl_loop;
use super::future::evl_future;
use super::guard::guard;
use super::handle::evl_free_fn;
use super::transport::{evl_protocol, evl_transport, read_protocol};
use super::{options, own};
use crate::engine::callback::FreeArg;
use crate::engine::event_loop::Owned;
use crate::error::{Error, Result};
use crate::net::connection::{self, Client, Wanted};
use crate::net::file::Part;
use crate::net::transport::TransportRef;

/// Where evl_loop_create_connection connects to, and how. Initialise with evl_connect_options_init; a field that
/// is zero has its default.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct evl_connect_options {
    /// sizeof(evl_connect_options) as the caller knows it.
    pub size: u32,
    /// AF_INET, AF_INET6; 0: either.
    pub family: c_int,
    /// A name or a numeric address.
    pub host: *const c_char,
    /// A port in digits, or a service's name.
    pub service: *const c_char,
    /// Where the socket is bound before: a name or a numeric address, or NULL.
    pub local_host: *const c_char,
    /// The local port in digits, or NULL.
    pub local_service: *const c_char,
    /// AI_... flags of the look-up, or'ed.
    pub flags: c_int,
    /// Addresses are tried by turns of their families, after so many of the first one; 0: 1 with a
    /// happy_eyeballs_delay_ns, else the resolver's order.
    pub interleave: c_int,
    /// How long an attempt is waited for before the next address is tried beside it (RFC 8305 says 250 ms); 0: until
    /// it has failed.
    pub happy_eyeballs_delay_ns: i64,
}

/// Fills options with the defaults. size is sizeof *options.
///
/// Any thread. Errors: -EINVAL (NULL), EVL_EOPTIONS (size is smaller than the size field itself, or larger than
/// this library knows).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_connect_options_init(options: *mut evl_connect_options, size: u32) -> c_int {
    // SAFETY: the caller passes size writable bytes, or NULL.
    guard(|| unsafe { options::init(options, size) })
}

/// Where to connect to.
///
/// # Safety `options` is NULL or begins with its size, and its strings are NULL or end with NUL.
pub(super) unsafe fn wanted(options: *const evl_connect_options) -> Result<Wanted> {
    own::required(options.cast_mut())?;
    // SAFETY: by this function's contract.
    unsafe {
        let given: evl_connect_options = options::read(options)?;
        let delay = (given.happy_eyeballs_delay_ns > 0).then_some(given.happy_eyeballs_delay_ns);
        if given.interleave < 0 || given.happy_eyeballs_delay_ns < 0 {
            return Err(Error::OPTIONS.detail(|| "interleave and happy_eyeballs_delay_ns are not negative".into()));
        }
        Ok(Wanted {
            host: own::string(given.host).ok_or(Error::INVALID)?,
            service: own::string(given.service).ok_or(Error::INVALID)?,
            local_host: own::string(given.local_host),
            local_service: own::string(given.local_service),
            family: given.family,
            flags: given.flags,
            delay,
            interleave: if given.interleave == 0 && delay.is_some() { 1 } else { given.interleave as usize },
        })
    }
}

/// What a connection is made for.
///
/// # Safety `protocol` is NULL or begins with its size.
unsafe fn client(lp: &Owned, protocol: *const evl_protocol, arg: FreeArg) -> Result<Client> {
    // SAFETY: by this function's contract.
    Ok(Client { protocol: unsafe { read_protocol(protocol, arg) }?, context: lp.capture(None), result: None })
}

/// Connects to a host for a protocol: loop.create_connection. The host is looked up, its addresses are tried, and
/// the first that answers becomes a transport.
///
/// The future's result (evl_future_result) is the evl_transport, the future's: take a reference by
/// evl_transport_ref. It is done when connection_made was called. It fails with the look-up's error, or with that of
/// the first address, and a message that lists them all. Cancelling it, or its timeout, gives up what is under way.
/// TCP_NODELAY is set. protocol is copied; arg_free runs after connection_lost, when nothing could be connected, on
/// close of the loop, or when this function fails. out may be NULL. On the loop's thread. Errors: -EINVAL (NULL loop,
/// options, host, service or protocol), EVL_EOPTIONS, EVL_ECLOSED, EVL_EWRONGTHREAD, EVL_EFORKED, and those of
/// evl_loop_getaddrinfo.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_loop_create_connection(
    event_loop: *mut evl_loop,
    options: *const evl_connect_options,
    protocol: *const evl_protocol,
    arg: *mut c_void,
    arg_free: evl_free_fn,
    out: *mut *mut evl_future,
) -> c_int {
    let arg = FreeArg::new(arg, arg_free);
    // SAFETY: a live loop or NULL; options and protocol begin with their size or are NULL; strings are NULL or end with
    // NUL; out is writable or NULL.
    unsafe {
        own::on_loop(event_loop, |lp| {
            let wanted = wanted(options)?;
            let client = client(lp, protocol, arg)?;
            own::give_future(out, connection::connect(lp, wanted, client)?);
            Ok(0)
        })
    }
}

/// Connects to a unix socket for a protocol: loop.create_unix_connection. name has name_size bytes: a path, or an
/// abstract name, which begins with a NUL byte (Linux).
///
/// Everything else as evl_loop_create_connection; -ENAMETOOLONG (or empty), -EINVAL (a path with a NUL inside).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_loop_create_unix_connection(
    event_loop: *mut evl_loop,
    name: *const c_char,
    name_size: usize,
    protocol: *const evl_protocol,
    arg: *mut c_void,
    arg_free: evl_free_fn,
    out: *mut *mut evl_future,
) -> c_int {
    let arg = FreeArg::new(arg, arg_free);
    // SAFETY: a live loop or NULL; name has so many bytes; protocol begins with its size or is NULL; out is writable or NULL.
    unsafe {
        own::on_loop(event_loop, |lp| {
            let address = connection::unix_address(own::bytes(name.cast(), name_size)?)?;
            let client = client(lp, protocol, arg)?;
            own::give_future(out, connection::connect_unix(lp, address, client)?);
            Ok(0)
        })
    }
}

/// Makes a connected stream socket a transport: loop.connect_accepted_socket, and create_connection with sock. fd is
/// made non-blocking, and from success on it is the transport's, which closes it.
///
/// The future is done when connection_made was called. Everything else as evl_loop_create_connection; -EBADF,
/// -ENOTSOCK, -EINVAL (no stream socket), EVL_EBUSY (fd is watched already).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_loop_connect_accepted_socket(
    event_loop: *mut evl_loop,
    fd: c_int,
    protocol: *const evl_protocol,
    arg: *mut c_void,
    arg_free: evl_free_fn,
    out: *mut *mut evl_future,
) -> c_int {
    let arg = FreeArg::new(arg, arg_free);
    // SAFETY: a live loop or NULL; protocol begins with its size or is NULL; out is writable or NULL.
    unsafe {
        own::on_loop(event_loop, |lp| {
            let client = client(lp, protocol, arg)?;
            own::give_future(out, connection::adopt(lp, fd, client)?);
            Ok(0)
        })
    }
}

/// Sends count bytes of the file file_fd, from offset on, or up to its end if that comes first, to the transport's
/// peer, behind what is queued: loop.sendfile. count 0: up to its end. The result is how many bytes were sent
/// (evl_future_result_int).
///
/// A regular file or a block device goes to a stream socket by sendfile(2). Anything else (a pipe, a socket, a
/// device as the file; a transport that is no socket; what the kernel refuses) is read in the loop's thread, a piece
/// whenever there is room for it, and a file that has nothing yet is waited for; with fallback 0 that is
/// EVL_ENOSENDFILE, of the call or of the future. The file must stay open until the future is done. Its own
/// position is neither used nor moved (asyncio moves it), unless it has no others, where offset must be 0.
///
/// Until the future is done, nothing is read (evl_transport_pause_reading and _resume_reading count from then on; the
/// next read may come before the future's callbacks: pause before this call where it must not), and
/// writing is EVL_EBUSY, as is a second sendfile. evl_transport_close and _write_eof wait for the file's end. A cancel
/// ends it where it is; the transport goes on. When the connection is lost, the future fails with the code that
/// connection_lost is told, or with -ECONNABORTED where that is 0. What fails of the file leaves the transport open.
/// SIGPIPE is never raised. How much was sent of what has failed or was cancelled is not told.
///
/// *out is your reference to the future, which may be done already; out may be NULL. On the loop's thread. Errors of
/// the call, which then has sent nothing: -EPIPE (the transport is closing), EVL_EINVALIDSTATE (after write_eof),
/// EVL_EBUSY (a file is being sent; file_fd has a reader), EVL_ENOSENDFILE, -EOPNOTSUPP (the transport only reads),
/// -EBADF, -EISDIR, -ESPIPE, -EINVAL (NULL; offset or count negative; a transport of another loop), EVL_ECLOSED,
/// EVL_EWRONGTHREAD, EVL_EFORKED.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_loop_sendfile(
    event_loop: *mut evl_loop,
    transport: *mut evl_transport,
    file_fd: c_int,
    offset: i64,
    count: i64,
    fallback: c_int,
    out: *mut *mut evl_future,
) -> c_int {
    // SAFETY: a live loop and transport, or NULL; out is writable or NULL.
    unsafe {
        own::on_loop(event_loop, |lp| {
            let transport = TransportRef::new(own::borrow(transport)?);
            let part = Part::new(file_fd, offset, count)?;
            if let Some(future) = transport.sendfile(lp, part, fallback != 0, !out.is_null())? {
                own::give_future(out, future);
            }
            Ok(0)
        })
    }
}

/// Writes the address the transport's socket is bound to, a struct sockaddr, and returns how many bytes it has (more
/// than size: it was cut). transport.get_extra_info('sockname'). evl_address_format makes it text.
///
/// Any thread, while the transport is open. Errors: -EBADF (closed), -ENOTSOCK, -EINVAL (NULL; buffer NULL and size
/// not 0).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_transport_get_sockname(
    transport: *const evl_transport,
    buffer: *mut c_void,
    size: u32,
) -> c_int {
    // SAFETY: a live transport or NULL; buffer has size writable bytes.
    guard(|| unsafe { own::fill_bytes(buffer, size as usize, &own::borrow(transport)?.local_address()?) })
}

/// Writes the address of the transport's peer, as evl_transport_get_sockname: get_extra_info('peername'). Once asked
/// for, it is known as long as the transport is there.
///
/// On the loop's thread. Errors: -ENOTCONN (the peer had gone before), -EBADF, -ENOTSOCK, -EINVAL (NULL; buffer NULL
/// and size not 0), EVL_ECLOSED, EVL_EWRONGTHREAD, EVL_EFORKED.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_transport_get_peername(
    transport: *mut evl_transport,
    buffer: *mut c_void,
    size: u32,
) -> c_int {
    // SAFETY: a live transport or NULL; buffer has size writable bytes.
    unsafe {
        super::transport::on_transport(transport, |_, transport| {
            own::fill_bytes(buffer, size as usize, &transport.peer_address()?)
        })
    }
}
