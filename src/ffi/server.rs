//! Servers (`asyncio.Server`, `loop.create_server`).

use std::ffi::{c_char, c_int, c_void};
use std::sync::Arc;

use super::event_loop::evl_loop;
use super::future::evl_future;
use super::guard::{guard, release};
use super::handle::evl_free_fn;
use super::transport::{evl_protocol, read_callbacks};
use super::{options, own};
use crate::engine::callback::{FreeArg, guarded};
use crate::engine::event_loop::Owned;
use crate::error::{Error, Result};
use crate::net::listen::{self, Listening};
use crate::net::protocol::Protocol;
use crate::net::serve::{self, Plan};
use crate::net::server::{Factory, Server};

/// Listening sockets and their connections, as asyncio.Server. Opaque; reference counted.
pub type evl_server = Server;

/// Makes the protocol of a new connection: asyncio's protocol_factory. Fills *protocol, whose size is set and whose
/// rest is zero, *arg, and *arg_free (which is NULL), and returns 0; or refuses the connection by a negative code. It
/// may call evl_raise. factory_arg is the pointer it was given with. The table is copied.
pub type evl_protocol_factory = Option<
    unsafe extern "C-unwind" fn(
        factory_arg: *mut c_void,
        protocol: *mut evl_protocol,
        arg: *mut *mut c_void,
        arg_free: *mut evl_free_fn,
    ) -> c_int,
>;

/// Flags of evl_server_options.
#[repr(C)]
#[derive(Clone, Copy)]
pub enum evl_server_flag {
    /// Several sockets, of other loops or processes, may be bound to the same port: reuse_port.
    EVL_SERVER_REUSE_PORT = 1,
    /// The address cannot be bound while connections of an earlier server are still ending: reuse_address=False.
    EVL_SERVER_NO_REUSE_ADDRESS = 2,
    /// Connections are taken only from evl_server_start_serving on: start_serving=False.
    EVL_SERVER_NOT_STARTED = 4,
}

/// How a server is made. Initialise with evl_server_options_init; a field that is zero has its default.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct evl_server_options {
    /// sizeof(evl_server_options) as the caller knows it.
    pub size: u32,
    /// evl_server_flag members, or'ed.
    pub flags: u32,
    /// AF_INET, AF_INET6; 0: either.
    pub family: c_int,
    /// How many connections may wait to be taken (more try again a second later); 0: 100.
    pub backlog: c_int,
    /// A name or numeric address whose addresses are bound; NULL or empty: every interface.
    pub host: *const c_char,
    /// More hosts, host_count of them; or NULL.
    pub hosts: *const *const c_char,
    /// How many.
    pub host_count: usize,
    /// A port in digits ("0" or NULL: one that is free), or a service's name.
    pub service: *const c_char,
}

type FactoryFn = unsafe extern "C-unwind" fn(
    factory_arg: *mut c_void,
    protocol: *mut evl_protocol,
    arg: *mut *mut c_void,
    arg_free: *mut evl_free_fn,
) -> c_int;

/// Has the host make a protocol.
///
/// # Safety Its function is a [`FactoryFn`] that the host gave together with its arg.
unsafe fn make(factory: &Factory) -> Result<Protocol> {
    let factory_arg = factory.arg.pointer();
    // SAFETY: all zeros is a table without entries; by this function's contract.
    unsafe {
        let function = std::mem::transmute::<*const (), FactoryFn>(factory.function);
        let mut table: evl_protocol = std::mem::zeroed();
        table.size = size_of::<evl_protocol>() as u32;
        let (mut arg, mut arg_free): (*mut c_void, evl_free_fn) = (std::ptr::null_mut(), None);
        let code = guarded(|| function(factory_arg, &raw mut table, &raw mut arg, &raw mut arg_free));
        let arg = FreeArg::new(arg, arg_free);
        if code < 0 {
            return Err(Error::from_code(code));
        }
        Ok(Protocol { callbacks: read_callbacks(&raw const table)?.shared_as(&factory.known), arg })
    }
}

/// What makes protocols by a function of the host.
fn factory_of(function: evl_protocol_factory, arg: FreeArg) -> Option<Factory> {
    function.map(|function| Factory::new(make, function as *const (), arg))
}

/// Reads what servers have in common.
///
/// # Safety `options` is NULL or begins with its size.
unsafe fn plan(
    lp: &Owned,
    options: *const evl_server_options,
    factory: Option<Factory>,
) -> Result<(evl_server_options, Plan)> {
    // SAFETY: by this function's contract.
    let given: evl_server_options = unsafe { options::read(options) }?;
    if given.flags & !7 != 0 || given.backlog < 0 {
        return Err(Error::OPTIONS);
    }
    let has = |flag: evl_server_flag| given.flags & flag as u32 != 0;
    let plan = Plan {
        factory: factory.ok_or(Error::INVALID)?,
        context: lp.capture(None),
        listening: Listening {
            reuse_address: !has(evl_server_flag::EVL_SERVER_NO_REUSE_ADDRESS),
            reuse_port: has(evl_server_flag::EVL_SERVER_REUSE_PORT),
        },
        backlog: if given.backlog == 0 { 100 } else { given.backlog },
        start: !has(evl_server_flag::EVL_SERVER_NOT_STARTED),
    };
    Ok((given, plan))
}

/// evl_loop_create_server with whatever makes its protocols.
///
/// # Safety `event_loop` is NULL or a live loop; `options` is NULL or begins with its size, and its strings are NULL or end with NUL;
/// `out` is NULL or writable.
pub(super) unsafe fn create(
    event_loop: *mut evl_loop,
    options: *const evl_server_options,
    factory: Option<Factory>,
    out: *mut *mut evl_future,
) -> c_int {
    // SAFETY: by this function's contract.
    unsafe {
        own::on_loop(event_loop, |lp| {
            let (given, plan) = plan(lp, options, factory)?;
            let mut hosts = Vec::new();
            if !given.host.is_null() {
                hosts.push(own::string(given.host));
            }
            if given.host_count > 0 {
                own::required(given.hosts.cast_mut())?;
            }
            for at in 0..given.host_count {
                hosts.push(own::string(*given.hosts.add(at)));
            }
            let service = own::string(given.service).unwrap_or_else(|| c"0".to_owned());
            own::give_future(out, serve::serve(lp, &hosts, &service, given.family, plan)?);
            Ok(0)
        })
    }
}

/// evl_loop_create_unix_server, likewise.
///
/// # Safety As [`create`]; `name` has so many bytes, or is NULL.
pub(super) unsafe fn create_unix(
    event_loop: *mut evl_loop,
    name: *const c_char,
    name_size: usize,
    options: *const evl_server_options,
    factory: Option<Factory>,
    out: *mut *mut evl_future,
) -> c_int {
    // SAFETY: by this function's contract.
    unsafe {
        own::on_loop(event_loop, |lp| {
            let (_, plan) = plan(lp, options, factory)?;
            own::give_future(out, serve::serve_unix(lp, own::bytes(name.cast(), name_size)?, plan)?);
            Ok(0)
        })
    }
}

/// evl_loop_create_server_from_socket, likewise.
///
/// # Safety As [`create`].
pub(super) unsafe fn create_from_socket(
    event_loop: *mut evl_loop,
    fd: c_int,
    options: *const evl_server_options,
    factory: Option<Factory>,
    out: *mut *mut evl_future,
) -> c_int {
    // SAFETY: by this function's contract.
    unsafe {
        own::on_loop(event_loop, |lp| {
            let (_, plan) = plan(lp, options, factory)?;
            own::give_future(out, serve::serve_socket(lp, fd, plan)?);
            Ok(0)
        })
    }
}

/// Fills options with the defaults. size is sizeof *options.
///
/// Any thread. Errors: -EINVAL (NULL), EVL_EOPTIONS (size is smaller than the size field itself, or larger than
/// this library knows).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_server_options_init(options: *mut evl_server_options, size: u32) -> c_int {
    // SAFETY: the caller passes size writable bytes, or NULL.
    guard(|| unsafe { options::init(options, size) })
}

/// Makes a TCP server: loop.create_server. Every address of every host is bound, but for those that this machine
/// does not have if there are others; each connection gets a protocol made by factory, and a transport with
/// TCP_NODELAY.
///
/// The future's result (evl_future_result) is the evl_server, the future's: take a reference by evl_server_ref. With
/// numeric hosts, or none, the future is done on return. While it serves, the loop keeps the server. options NULL: a
/// free port on every interface. factory_arg is passed to factory; arg_free runs when the server is gone, or when
/// this function fails. Accepting that fails for want of descriptors or memory is told to the exception handler, and
/// tried again a second later. out may be NULL. On the loop's thread. Errors: -EINVAL (NULL loop or factory),
/// EVL_EOPTIONS, EVL_ECLOSED, EVL_EWRONGTHREAD, EVL_EFORKED, and those of evl_loop_getaddrinfo; the future's are the
/// look-up's, and -EADDRINUSE, -EACCES and their like with a message.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_loop_create_server(
    event_loop: *mut evl_loop,
    options: *const evl_server_options,
    factory: evl_protocol_factory,
    factory_arg: *mut c_void,
    arg_free: evl_free_fn,
    out: *mut *mut evl_future,
) -> c_int {
    let factory = factory_of(factory, FreeArg::new(factory_arg, arg_free));
    // SAFETY: as documented.
    unsafe { create(event_loop, options, factory, out) }
}

/// Makes a server of a unix socket: loop.create_unix_server. name has name_size bytes: a path, or an abstract name,
/// which begins with a NUL byte (Linux). A socket's file that is left at the path is replaced, even one that another
/// server listens on; closing the server leaves its file there.
///
/// Of the options, flags and backlog count. Everything else as evl_loop_create_server; failures are this function's
/// codes, because nothing is looked up; -ENAMETOOLONG (or empty), -EINVAL (a path with a NUL inside).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_loop_create_unix_server(
    event_loop: *mut evl_loop,
    name: *const c_char,
    name_size: usize,
    options: *const evl_server_options,
    factory: evl_protocol_factory,
    factory_arg: *mut c_void,
    arg_free: evl_free_fn,
    out: *mut *mut evl_future,
) -> c_int {
    let factory = factory_of(factory, FreeArg::new(factory_arg, arg_free));
    // SAFETY: as documented.
    unsafe { create_unix(event_loop, name, name_size, options, factory, out) }
}

/// Makes a server of a stream socket that is bound: create_server with sock. fd is made non-blocking, and from
/// success on it is the server's, which closes it.
///
/// Everything else as evl_loop_create_unix_server; -EBADF, -ENOTSOCK, -EINVAL (no stream socket), EVL_EBUSY.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_loop_create_server_from_socket(
    event_loop: *mut evl_loop,
    fd: c_int,
    options: *const evl_server_options,
    factory: evl_protocol_factory,
    factory_arg: *mut c_void,
    arg_free: evl_free_fn,
    out: *mut *mut evl_future,
) -> c_int {
    let factory = factory_of(factory, FreeArg::new(factory_arg, arg_free));
    // SAFETY: as documented.
    unsafe { create_from_socket(event_loop, fd, options, factory, out) }
}

/// The body of a function that uses a server on its loop's thread.
///
/// # Safety `server` is NULL or a live server.
unsafe fn on_server(server: *mut evl_server, body: impl FnOnce(&Owned, &Arc<Server>) -> Result<c_int>) -> c_int {
    // SAFETY: by this function's contract; a server keeps its loop's memory.
    unsafe {
        let kept = own::clone_arc(server);
        let event_loop = kept.as_ref().map_or(std::ptr::null(), |server| server.event_loop());
        own::on_loop(event_loop.cast_mut(), |lp| body(lp, kept.as_ref().ok_or(Error::INVALID)?))
    }
}

/// Takes another reference and returns server. NULL gives NULL. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_server_ref(server: *mut evl_server) -> *mut evl_server {
    // SAFETY: a live server or NULL, as documented.
    unsafe { own::retain_arc(server) }
}

/// Gives a reference back; NULL is ignored. A server that serves goes on: the loop and its connections keep it. Any
/// thread.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_server_unref(server: *mut evl_server) {
    // SAFETY: the caller owns a reference and gives it up, or passes NULL.
    release(|| unsafe { own::release_arc(server) });
}

/// The loop of the server: Server.get_loop. Borrowed. NULL for NULL. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_server_get_loop(server: *const evl_server) -> *mut evl_loop {
    // SAFETY: a live server or NULL, as documented.
    unsafe { server.as_ref() }.map_or(std::ptr::null_mut(), |server| server.event_loop().cast_mut())
}

/// Begins to take connections: Server.start_serving. One that serves already goes on.
///
/// On the loop's thread. Errors: EVL_EINVALIDSTATE (closed), -EADDRINUSE and what else listening says, -EINVAL (NULL),
/// EVL_ECLOSED, EVL_EWRONGTHREAD, EVL_EFORKED.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_server_start_serving(server: *mut evl_server) -> c_int {
    // SAFETY: a live server or NULL, as documented.
    unsafe { on_server(server, |lp, server| server.start_serving(lp).map(|()| 0)) }
}

/// Whether connections are taken: 1 or 0. Server.is_serving. NULL gives 0. On the loop's thread.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_server_is_serving(server: *const evl_server) -> c_int {
    // SAFETY: a live server or NULL, as documented.
    super::guard::predicate(unsafe { server.as_ref() }, Server::is_serving)
}

/// A future that is done when it is cancelled, which closes the server, or when the server is closed, which cancels
/// it: Server.serve_forever. Connections are taken from here on.
///
/// out may be NULL; else *out is your reference. On the loop's thread. Errors: EVL_EINVALIDSTATE (closed, or served
/// forever already), and those of evl_server_start_serving.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_server_serve_forever(server: *mut evl_server, out: *mut *mut evl_future) -> c_int {
    // SAFETY: a live server or NULL; out is writable or NULL.
    unsafe {
        on_server(server, |lp, server| {
            own::give_future(out, server.serve_forever(lp)?);
            Ok(0)
        })
    }
}

/// Takes no more connections and closes the listening sockets: Server.close. Connections go on.
///
/// On the loop's thread. Errors: -EINVAL (NULL), EVL_ECLOSED, EVL_EWRONGTHREAD, EVL_EFORKED.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_server_close(server: *mut evl_server) -> c_int {
    // SAFETY: a live server or NULL, as documented.
    unsafe {
        on_server(server, |lp, server| {
            server.close(lp);
            Ok(0)
        })
    }
}

/// Closes the transports of all connections (evl_transport_close): Server.close_clients. Returns how many there are.
///
/// On the loop's thread. Errors as evl_server_close.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_server_close_clients(server: *mut evl_server) -> c_int {
    // SAFETY: a live server or NULL, as documented.
    unsafe { on_server(server, |lp, server| Ok(server.end_clients(lp, false))) }
}

/// Aborts the transports of all connections (evl_transport_abort): Server.abort_clients. Returns how many there are.
///
/// On the loop's thread. Errors as evl_server_close.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_server_abort_clients(server: *mut evl_server) -> c_int {
    // SAFETY: a live server or NULL, as documented.
    unsafe { on_server(server, |lp, server| Ok(server.end_clients(lp, true))) }
}

/// A future that is done when the server is closed and its connections are gone: Server.wait_closed.
///
/// out may be NULL; else *out is your reference. On the loop's thread. Errors as evl_server_close; -ENOMEM.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_server_wait_closed(server: *mut evl_server, out: *mut *mut evl_future) -> c_int {
    // SAFETY: a live server or NULL; out is writable or NULL.
    unsafe {
        on_server(server, |lp, server| {
            own::give_future(out, server.wait_closed(lp)?);
            Ok(0)
        })
    }
}

/// Writes the descriptors of the listening sockets, at most capacity of them, and returns how many there are:
/// Server.sockets. They stay the server's.
///
/// On the loop's thread. Errors: -EINVAL (NULL; fds NULL and capacity not 0), EVL_ECLOSED, EVL_EWRONGTHREAD,
/// EVL_EFORKED.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_server_sockets(server: *mut evl_server, fds: *mut c_int, capacity: usize) -> c_int {
    // SAFETY: a live server or NULL; fds has room for capacity numbers.
    unsafe { on_server(server, |_, server| own::fill_numbers(fds, capacity, &server.descriptors())) }
}

/// The port of the first listening socket that has one, in the machine's byte order: what "0" has become.
///
/// On the loop's thread. Errors: -EBADF (closed), -EAFNOSUPPORT (no TCP), -EINVAL (NULL), EVL_ECLOSED,
/// EVL_EWRONGTHREAD, EVL_EFORKED.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_server_port(server: *mut evl_server) -> c_int {
    // SAFETY: a live server or NULL, as documented.
    unsafe {
        on_server(server, |_, server| {
            let fds = server.descriptors();
            let first = fds.first().ok_or(Error::BAD_DESCRIPTOR)?;
            listen::port_of(&listen::local_address(*first)?)
        })
    }
}

/// Keeps a pointer of yours with the server; the one before is released first. data_free (may be NULL) runs when it
/// is replaced, with the server's last reference, or when this function fails.
///
/// On the loop's thread. Errors: -EINVAL (NULL), EVL_ECLOSED, EVL_EWRONGTHREAD, EVL_EFORKED.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_server_set_data(
    server: *mut evl_server,
    data: *mut c_void,
    data_free: evl_free_fn,
) -> c_int {
    let data = FreeArg::new(data, data_free);
    // SAFETY: a live server or NULL, as documented.
    unsafe {
        on_server(server, |_, server| {
            server.set_data(data);
            Ok(0)
        })
    }
}

/// The pointer kept by evl_server_set_data, or NULL. NULL gives NULL. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_server_get_data(server: *const evl_server) -> *mut c_void {
    // SAFETY: a live server or NULL, as documented.
    unsafe { server.as_ref() }.map_or(std::ptr::null_mut(), Server::data)
}
