//! Datagram endpoints (`asyncio.DatagramTransport`, `asyncio.DatagramProtocol`, `loop.create_datagram_endpoint`).

use std::ffi::{c_char, c_int, c_void};

use super::event_loop::evl_loop;
use super::future::evl_future;
use super::guard::{guard, predicate, release};
use super::handle::evl_free_fn;
use super::{options, own};
use crate::engine::callback::FreeArg;
use crate::engine::event_loop::Owned;
use crate::error::{Error, Result};
use crate::net::connection::unix_address;
use crate::net::datagram::{self, Callbacks, Client, Datagram, DatagramRef, Message};
use crate::net::endpoint::{self, Manner};

/// A socket that sends and receives datagrams for a protocol, as asyncio.DatagramTransport. Opaque; reference counted.
pub type evl_datagram = Datagram;

/// One datagram.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct evl_datagram_message {
    /// Its bytes; may be NULL when size is 0.
    pub data: *const c_void,
    /// How many bytes.
    pub size: usize,
    /// A struct sockaddr: whom it is from, or for. NULL: a sender without an address; the endpoint's remote address.
    pub address: *const c_void,
    /// How many bytes the address has; 0 with NULL.
    pub address_size: u32,
    /// Always zero.
    pub reserved: u32,
}

/// What an endpoint calls: asyncio.DatagramProtocol. An entry may be NULL: then that is not told, and what is
/// received is dropped.
///
/// All are called on the loop's thread, in the context that was current when the endpoint was asked for, with the arg
/// that was given with the table. Any function of the endpoint may be called from inside of each. One that fails
/// (evl_raise) is told to the exception handler, and the endpoint goes on; but connection_made: then it is aborted
/// with that code.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct evl_datagram_protocol {
    /// sizeof(evl_datagram_protocol) as the caller knows it.
    pub size: u32,
    /// Always zero.
    pub reserved: u32,
    /// The first call: datagram is borrowed.
    pub connection_made: Option<unsafe extern "C-unwind" fn(datagram: *mut evl_datagram, arg: *mut c_void)>,
    /// Takes a datagram, and the struct sockaddr of its sender (NULL with 0: one without an address); both are valid
    /// during the call.
    pub datagram_received: Option<
        unsafe extern "C-unwind" fn(
            datagram: *mut evl_datagram,
            data: *const c_void,
            size: usize,
            address: *const c_void,
            address_size: u32,
            arg: *mut c_void,
        ),
    >,
    /// Takes count datagrams, all that came together, valid during the call. Where it is given, datagram_received
    /// is not called.
    pub datagrams_received: Option<
        unsafe extern "C-unwind" fn(
            datagram: *mut evl_datagram,
            messages: *const evl_datagram_message,
            count: usize,
            arg: *mut c_void,
        ),
    >,
    /// Sending or receiving has failed by code, such as -ECONNREFUSED or -EMSGSIZE. The endpoint goes on. Called by
    /// the ready queue; of errors that come together no more than 64 are told.
    pub error_received: Option<unsafe extern "C-unwind" fn(datagram: *mut evl_datagram, code: c_int, arg: *mut c_void)>,
    /// The last call, exactly once: code is 0 when the endpoint was closed, else what failed. The descriptor is closed
    /// after it.
    pub connection_lost:
        Option<unsafe extern "C-unwind" fn(datagram: *mut evl_datagram, code: c_int, arg: *mut c_void)>,
    /// More than the high limit waits to be sent. Called before the function that sent returns (while the loop does not
    /// run: by its next iteration).
    pub pause_writing: Option<unsafe extern "C-unwind" fn(datagram: *mut evl_datagram, arg: *mut c_void)>,
    /// No more than the low limit waits, after pause_writing.
    pub resume_writing: Option<unsafe extern "C-unwind" fn(datagram: *mut evl_datagram, arg: *mut c_void)>,
}

/// Flags of evl_datagram_options.
#[repr(C)]
#[derive(Clone, Copy)]
pub enum evl_datagram_flag {
    /// Several sockets, of other loops or processes, may be bound to the same port: reuse_port.
    EVL_DATAGRAM_REUSE_PORT = 1,
    /// Datagrams may be sent to broadcast addresses: allow_broadcast. The socket is not connected to the remote
    /// address then, so that it hears whoever answers.
    EVL_DATAGRAM_BROADCAST = 2,
}

/// How an endpoint is made. Initialise with evl_datagram_options_init; a field that is zero has its default.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct evl_datagram_options {
    /// sizeof(evl_datagram_options) as the caller knows it.
    pub size: u32,
    /// evl_datagram_flag members, or'ed.
    pub flags: u32,
    /// AF_INET, AF_INET6; 0: either. Must be given when there is neither a local nor a remote address.
    pub family: c_int,
    /// IPPROTO_UDP, ...; 0: the family's.
    pub protocol: c_int,
    /// A name or numeric address that the socket is bound to. "", or NULL with a local_service: every interface.
    pub local_host: *const c_char,
    /// A port in digits ("0": one that is free), or a service's name. NULL with a local_host: one that is free.
    pub local_service: *const c_char,
    /// A name or numeric address that the socket is connected to. "", or NULL with a remote_service: this machine.
    pub remote_host: *const c_char,
    /// Its port.
    pub remote_service: *const c_char,
    /// AI_... flags of the look-ups, or'ed.
    pub lookup_flags: c_int,
    /// Always zero.
    pub reserved: u32,
}

/// Takes a protocol over from the host.
///
/// # Safety `protocol` is NULL or begins with its size.
unsafe fn client(lp: &Owned, protocol: *const evl_datagram_protocol, arg: FreeArg) -> Result<Client> {
    // SAFETY: by this function's contract.
    Ok(Client { callbacks: unsafe { read_callbacks(protocol) }?, arg, context: lp.capture(None) })
}

/// Reads a table of the host's.
///
/// # Safety `protocol` is NULL or begins with its size.
unsafe fn read_callbacks(protocol: *const evl_datagram_protocol) -> Result<Callbacks> {
    type Ours = datagram::BatchFn;
    type Hosts = unsafe extern "C-unwind" fn(*mut evl_datagram, *const evl_datagram_message, usize, *mut c_void);
    own::required(protocol.cast_mut())?;
    // SAFETY: by this function's contract.
    let table: evl_datagram_protocol = unsafe { options::read(protocol) }?;
    if table.reserved != 0 {
        return Err(Error::OPTIONS);
    }
    Ok(Callbacks {
        connection_made: table.connection_made,
        datagram_received: table.datagram_received,
        // SAFETY: the two structs have the same members.
        datagrams_received: table.datagrams_received.map(|f| unsafe { std::mem::transmute::<Hosts, Ours>(f) }),
        error_received: table.error_received,
        connection_lost: table.connection_lost,
        pause_writing: table.pause_writing,
        resume_writing: table.resume_writing,
    })
}

/// The body of a function that uses an endpoint on its loop's thread. The reference keeps it while the host's code runs.
///
/// # Safety `datagram` is NULL or a live endpoint.
unsafe fn on_datagram(datagram: *mut evl_datagram, body: impl FnOnce(&Owned, &Datagram) -> Result<c_int>) -> c_int {
    // SAFETY: by this function's contract; an endpoint keeps its loop's memory.
    unsafe {
        let event_loop = datagram.as_ref().map_or(std::ptr::null(), |datagram| datagram.event_loop());
        own::on_loop(event_loop.cast_mut(), |lp| {
            let kept = DatagramRef::new(own::borrow(datagram)?);
            body(lp, &kept)
        })
    }
}

/// Fills options with the defaults. size is sizeof *options.
///
/// Any thread. Errors: -EINVAL (NULL), EVL_EOPTIONS (size is smaller than the size field itself, or larger than
/// this library knows).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_datagram_options_init(options: *mut evl_datagram_options, size: u32) -> c_int {
    // SAFETY: the caller passes size writable bytes, or NULL.
    guard(|| unsafe { options::init(options, size) })
}

/// Makes a datagram endpoint: loop.create_datagram_endpoint. Hosts are looked up, and the first addresses that the
/// socket can be bound and connected to are taken.
///
/// The future's result (evl_future_result) is the evl_datagram, the future's: take a reference by evl_datagram_ref. It
/// is done when connection_made was called. It fails with the look-up's error, or with that of the first address.
/// Cancelling it, or its timeout, closes the endpoint. protocol is copied; arg_free runs after connection_lost, when
/// nothing could be made, on close of the loop, or when this function fails. out may be NULL. On the loop's thread.
/// Errors: -EINVAL (NULL loop, options or protocol; no address and no family), EVL_EOPTIONS, EVL_ECLOSED,
/// EVL_EWRONGTHREAD, EVL_EFORKED, and those of evl_loop_getaddrinfo.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_loop_create_datagram_endpoint(
    event_loop: *mut evl_loop,
    options: *const evl_datagram_options,
    protocol: *const evl_datagram_protocol,
    arg: *mut c_void,
    arg_free: evl_free_fn,
    out: *mut *mut evl_future,
) -> c_int {
    let arg = FreeArg::new(arg, arg_free);
    // SAFETY: a live loop or NULL; options and protocol begin with their size or are NULL; strings are NULL or end with
    // NUL; out is writable or NULL.
    unsafe {
        own::on_loop(event_loop, |lp| {
            own::required(options.cast_mut())?;
            let given: evl_datagram_options = options::read(options)?;
            if given.flags & !3 != 0 || given.reserved != 0 {
                return Err(Error::OPTIONS);
            }
            let has = |flag: evl_datagram_flag| given.flags & flag as u32 != 0;
            let manner = Manner {
                family: given.family,
                protocol: given.protocol,
                reuse_port: has(evl_datagram_flag::EVL_DATAGRAM_REUSE_PORT),
                broadcast: has(evl_datagram_flag::EVL_DATAGRAM_BROADCAST),
            };
            let local = (own::string(given.local_host), own::string(given.local_service));
            let remote = (own::string(given.remote_host), own::string(given.remote_service));
            let client = client(lp, protocol, arg)?;
            own::give_future(out, endpoint::create(lp, &local, &remote, given.lookup_flags, manner, client)?);
            Ok(0)
        })
    }
}

/// Makes a datagram endpoint of unix sockets: loop.create_datagram_endpoint with AF_UNIX. local has local_size bytes,
/// what the socket is bound to: a path, whose socket of an earlier program is removed, or an abstract name, which
/// begins with a NUL byte (Linux); NULL with 0: not bound. remote is what it is connected to, likewise.
///
/// Everything else as evl_loop_create_datagram_endpoint; -ENAMETOOLONG, and those of bind and connect.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_loop_create_unix_datagram_endpoint(
    event_loop: *mut evl_loop,
    local: *const c_char,
    local_size: usize,
    remote: *const c_char,
    remote_size: usize,
    protocol: *const evl_datagram_protocol,
    arg: *mut c_void,
    arg_free: evl_free_fn,
    out: *mut *mut evl_future,
) -> c_int {
    let arg = FreeArg::new(arg, arg_free);
    // SAFETY: a live loop or NULL; names have their bytes; protocol begins with its size or is NULL; out is writable or
    // NULL.
    unsafe {
        own::on_loop(event_loop, |lp| {
            let address = |name: *const c_char, size: usize| match own::bytes(name.cast(), size)? {
                [] => Ok(Vec::new()),
                name => unix_address(name),
            };
            let (local, remote) = (address(local, local_size)?, address(remote, remote_size)?);
            let client = client(lp, protocol, arg)?;
            own::give_future(out, endpoint::create_unix(lp, local, remote, client)?);
            Ok(0)
        })
    }
}

/// Makes a datagram socket an endpoint: loop.create_datagram_endpoint with sock. fd is made non-blocking, and from
/// success on it is the endpoint's, which closes it. If it is connected, that is the remote address.
///
/// Everything else as evl_loop_create_datagram_endpoint; -EBADF, -ENOTSOCK, -EINVAL (no datagram socket), EVL_EBUSY (fd
/// is watched already).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_loop_create_datagram_endpoint_fd(
    event_loop: *mut evl_loop,
    fd: c_int,
    protocol: *const evl_datagram_protocol,
    arg: *mut c_void,
    arg_free: evl_free_fn,
    out: *mut *mut evl_future,
) -> c_int {
    let arg = FreeArg::new(arg, arg_free);
    // SAFETY: a live loop or NULL; protocol begins with its size or is NULL; out is writable or NULL.
    unsafe {
        own::on_loop(event_loop, |lp| {
            let client = client(lp, protocol, arg)?;
            own::give_future(out, endpoint::adopt(lp, fd, client)?);
            Ok(0)
        })
    }
}

/// Takes another reference and returns datagram. NULL gives NULL. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_datagram_ref(datagram: *mut evl_datagram) -> *mut evl_datagram {
    // SAFETY: a live endpoint or NULL, as documented.
    if let Some(d) = unsafe { datagram.as_ref() } {
        d.retain();
    }
    datagram
}

/// Gives a reference back; NULL is ignored. An open endpoint goes on without you: the loop keeps it until
/// connection_lost was called. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_datagram_unref(datagram: *mut evl_datagram) {
    // SAFETY: the caller owns a reference and gives it up, or passes NULL.
    release(|| unsafe { Datagram::release_ptr(datagram) });
}

/// The loop the endpoint belongs to. Borrowed. NULL for NULL. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_datagram_get_loop(datagram: *const evl_datagram) -> *mut evl_loop {
    // SAFETY: a live endpoint or NULL, as documented.
    unsafe { datagram.as_ref() }.map_or(std::ptr::null_mut(), |d| d.event_loop().cast_mut())
}

/// Sends size bytes: transport.sendto. address is a struct sockaddr of address_size bytes; NULL with 0: the remote
/// address. If the kernel has no room, bytes and address are copied, and sent when it has. size 0 sends an empty
/// datagram, as newer versions of asyncio do. What datagram_received sends is copied, too, when several datagrams
/// have come at once: it is handed to the kernel, as evl_datagram_send_batch does, once the last was told.
///
/// A datagram that cannot be sent is lost, and error_received tells why. On the loop's thread. Errors: -EPIPE (the
/// endpoint is closing), -EDESTADDRREQ (no address, and no remote one), -EINVAL (NULL; an address of a wrong size;
/// one that is not the remote one), EVL_ECLOSED, EVL_EWRONGTHREAD, EVL_EFORKED.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_datagram_sendto(
    datagram: *mut evl_datagram,
    data: *const c_void,
    size: usize,
    address: *const c_void,
    address_size: u32,
) -> c_int {
    let message = Message { data, size, address, address_size, reserved: 0 };
    // SAFETY: a live endpoint or NULL; data and address have their bytes.
    unsafe { on_datagram(datagram, |lp, datagram| datagram.send(lp, &[message]).map(|()| 0)) }
}

/// evl_datagram_sendto of count datagrams, in their order, with as few system calls as can be: neighbours of one size
/// and for one address are handed to the kernel as one (UDP_SEGMENT), where it can do that.
///
/// What is wrong with one is an error for all: none is sent. messages may be NULL when count is 0. Thread and errors as
/// evl_datagram_sendto.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_datagram_send_batch(
    datagram: *mut evl_datagram,
    messages: *const evl_datagram_message,
    count: usize,
) -> c_int {
    // SAFETY: a live endpoint or NULL; messages has count entries, whose data and addresses have their bytes. The two
    // structs have the same members.
    unsafe {
        on_datagram(datagram, |lp, datagram| {
            if count == 0 {
                return Ok(0);
            }
            own::required(messages.cast_mut())?;
            datagram.send(lp, std::slice::from_raw_parts(messages.cast::<Message>(), count)).map(|()| 0)
        })
    }
}

/// Closes the endpoint: transport.close. Nothing is received any more; what is queued is sent, and then
/// connection_lost(0) follows by the ready queue, and the descriptor is closed. Closing twice is closing once.
///
/// On the loop's thread. Errors: -EINVAL (NULL), EVL_ECLOSED, EVL_EWRONGTHREAD, EVL_EFORKED.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_datagram_close(datagram: *mut evl_datagram) -> c_int {
    // SAFETY: a live endpoint or NULL, as documented.
    unsafe {
        on_datagram(datagram, |lp, datagram| {
            datagram.close(lp);
            Ok(0)
        })
    }
}

/// Closes the endpoint without sending what is queued: transport.abort. connection_lost(0) follows by the ready
/// queue. Thread and errors as evl_datagram_close.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_datagram_abort(datagram: *mut evl_datagram) -> c_int {
    // SAFETY: a live endpoint or NULL, as documented.
    unsafe {
        on_datagram(datagram, |lp, datagram| {
            datagram.force_close(lp, 0);
            Ok(0)
        })
    }
}

/// Whether the endpoint is closing or closed: 1 or 0. transport.is_closing. NULL gives 0. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_datagram_is_closing(datagram: *const evl_datagram) -> c_int {
    // SAFETY: a live endpoint or NULL, as documented.
    predicate(unsafe { datagram.as_ref() }, Datagram::is_closing)
}

/// Sets when the protocol is told to pause and to resume writing: transport.set_write_buffer_limits. Negative is
/// the default: of high four times low, or 64 KiB when both are; of low a quarter of high.
///
/// On the loop's thread. Errors: -EINVAL (NULL; low above high), EVL_ECLOSED, EVL_EWRONGTHREAD, EVL_EFORKED.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_datagram_set_write_buffer_limits(
    datagram: *mut evl_datagram,
    high: i64,
    low: i64,
) -> c_int {
    // SAFETY: a live endpoint or NULL, as documented.
    unsafe {
        on_datagram(datagram, |lp, datagram| {
            let (high, low) = super::transport::limits(high, low);
            datagram.set_limits(lp, high, low).map(|()| 0)
        })
    }
}

/// Reads the limits (either output may be NULL): transport.get_write_buffer_limits. Thread and errors as
/// evl_datagram_set_write_buffer_limits.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_datagram_get_write_buffer_limits(
    datagram: *mut evl_datagram,
    high: *mut usize,
    low: *mut usize,
) -> c_int {
    // SAFETY: a live endpoint or NULL; outputs are writable or NULL.
    unsafe {
        on_datagram(datagram, |_, datagram| {
            let limits = datagram.limits();
            own::put_optional(high, limits.0);
            own::put_optional(low, limits.1);
            Ok(0)
        })
    }
}

/// Writes how many bytes wait to be sent to *size (an empty datagram counts as one):
/// transport.get_write_buffer_size.
///
/// On the loop's thread. Errors: -EINVAL (NULL), EVL_ECLOSED, EVL_EWRONGTHREAD, EVL_EFORKED.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_datagram_get_write_buffer_size(
    datagram: *mut evl_datagram,
    size: *mut usize,
) -> c_int {
    // SAFETY: a live endpoint or NULL; size is writable or NULL.
    unsafe { on_datagram(datagram, |_, datagram| own::put(size, datagram.queue_size())) }
}

/// Has another protocol be called from now on, in the context of the first: transport.set_protocol. The table is
/// copied. connection_made is not called again.
///
/// The arg of the one before is released when none of its functions is on the stack; this arg after connection_lost,
/// or when this function fails. On the loop's thread. Errors: EVL_EINVALIDSTATE (connection_lost was called), -EINVAL
/// (NULL), EVL_EOPTIONS, EVL_ECLOSED, EVL_EWRONGTHREAD, EVL_EFORKED.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_datagram_set_protocol(
    datagram: *mut evl_datagram,
    protocol: *const evl_datagram_protocol,
    arg: *mut c_void,
    arg_free: evl_free_fn,
) -> c_int {
    let arg = FreeArg::new(arg, arg_free);
    // SAFETY: a live endpoint or NULL; protocol begins with its size or is NULL.
    unsafe { on_datagram(datagram, |_, datagram| datagram.set_protocol(read_callbacks(protocol)?, arg).map(|()| 0)) }
}

/// The descriptor, which stays the endpoint's. transport.get_extra_info('socket').
///
/// Any thread. Errors: -EBADF (closed), -EINVAL (NULL).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_datagram_get_fd(datagram: *const evl_datagram) -> c_int {
    // SAFETY: a live endpoint or NULL, as documented.
    guard(|| match unsafe { own::borrow(datagram)? }.fd() {
        closed if closed < 0 => Err(Error::BAD_DESCRIPTOR),
        fd => Ok(fd),
    })
}

/// Writes the address the socket is bound to, a struct sockaddr, and returns how many bytes it has (more than size: it
/// was cut). transport.get_extra_info('sockname'). evl_address_format makes it text.
///
/// Any thread, while the endpoint is open. Errors: -EBADF (closed), -EINVAL (NULL; buffer NULL and size not 0).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_datagram_get_sockname(
    datagram: *const evl_datagram,
    buffer: *mut c_void,
    size: u32,
) -> c_int {
    // SAFETY: a live endpoint or NULL; buffer has size writable bytes.
    guard(|| unsafe { own::fill_bytes(buffer, size as usize, &own::borrow(datagram)?.local_address()?) })
}

/// Writes the address the socket is connected to, as evl_datagram_get_sockname: get_extra_info('peername'). It is known
/// as long as the endpoint is there.
///
/// Any thread. Errors: -ENOTCONN (not connected), -EINVAL (NULL; buffer NULL and size not 0).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_datagram_get_peername(
    datagram: *const evl_datagram,
    buffer: *mut c_void,
    size: u32,
) -> c_int {
    // SAFETY: a live endpoint or NULL; buffer has size writable bytes.
    guard(|| unsafe { own::fill_bytes(buffer, size as usize, own::borrow(datagram)?.peer_address()?) })
}

/// Writes what the endpoint is, such as `<Datagram fd=5 bufsize=0>`. Buffer rules as evl_future_repr.
///
/// On the loop's thread. Errors: -EINVAL (NULL datagram; buffer NULL and size not 0), EVL_ECLOSED, EVL_EWRONGTHREAD,
/// EVL_EFORKED.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_datagram_repr(
    datagram: *mut evl_datagram,
    buffer: *mut c_char,
    size: usize,
) -> c_int {
    // SAFETY: a live endpoint or NULL; buffer has size writable bytes.
    unsafe { on_datagram(datagram, |_, datagram| own::fill(buffer, size, &datagram.repr())) }
}

/// Keeps a pointer of yours with the endpoint; the one before is released first. data_free (may be NULL) runs when
/// it is replaced, with the endpoint's last reference, or when this function fails.
///
/// On the loop's thread. Errors: -EINVAL (NULL), EVL_ECLOSED, EVL_EWRONGTHREAD, EVL_EFORKED.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_datagram_set_data(
    datagram: *mut evl_datagram,
    data: *mut c_void,
    data_free: evl_free_fn,
) -> c_int {
    let data = FreeArg::new(data, data_free);
    // SAFETY: a live endpoint or NULL, as documented.
    unsafe {
        on_datagram(datagram, |_, datagram| {
            datagram.set_data(data);
            Ok(0)
        })
    }
}

/// The pointer kept by evl_datagram_set_data, or NULL. NULL gives NULL. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_datagram_get_data(datagram: *const evl_datagram) -> *mut c_void {
    // SAFETY: a live endpoint or NULL, as documented.
    unsafe { datagram.as_ref() }.map_or(std::ptr::null_mut(), Datagram::data)
}
