//! Listening sockets: made, bound, and told what asyncio tells them.

use std::ffi::c_int;
use std::mem::MaybeUninit;

use super::address;
use crate::error::{self, Error, Result};

/// A socket of ours, closed when it is dropped.
pub(crate) struct Socket(c_int);

impl Socket {
    /// Makes a non-blocking one that no child inherits.
    pub(crate) fn new(family: c_int, kind: c_int, protocol: c_int) -> Result<Socket> {
        // SAFETY: a plain system call.
        let fd = unsafe { libc::socket(family, kind | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC, protocol) };
        if fd < 0 { Err(Error::last_os()) } else { Ok(Socket(fd)) }
    }

    /// Takes over a descriptor.
    pub(crate) fn from_raw(fd: c_int) -> Socket {
        Socket(fd)
    }

    pub(crate) fn fd(&self) -> c_int {
        self.0
    }

    /// Gives the descriptor away.
    pub(crate) fn into_raw(self) -> c_int {
        let fd = self.0;
        std::mem::forget(self);
        fd
    }

    pub(crate) fn set_option(&self, level: c_int, option: c_int, value: c_int) -> Result<()> {
        set_option(self.0, level, option, value)
    }

    pub(crate) fn bind(&self, address: &[u8]) -> Result<()> {
        // SAFETY: the address has so many bytes.
        let result = unsafe { libc::bind(self.0, address.as_ptr().cast(), address.len() as libc::socklen_t) };
        if result < 0 { Err(failed("bind", address)) } else { Ok(()) }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // SAFETY: the descriptor is ours.
        unsafe { libc::close(self.0) };
    }
}

/// The last system call's failure, with a sentence: "bind 127.0.0.1:80: permission denied".
pub(crate) fn failed(what: &str, address: &[u8]) -> Error {
    let error = Error::last_os();
    error.detail(|| sentence(what, address, error))
}

/// What failed, where, and why.
pub(crate) fn sentence(what: &str, address: &[u8], error: Error) -> String {
    format!("{what} {}: {}", address::describe(address), error::describe(error.code()).to_string_lossy())
}

pub(crate) fn set_option(fd: c_int, level: c_int, option: c_int, value: c_int) -> Result<()> {
    // SAFETY: the value is as large as told.
    let result = unsafe {
        libc::setsockopt(fd, level, option, (&raw const value).cast(), size_of::<c_int>() as libc::socklen_t)
    };
    if result < 0 { Err(Error::last_os()) } else { Ok(()) }
}

/// Makes a descriptor of the host's non-blocking.
pub(crate) fn set_nonblocking(fd: c_int) -> Result<()> {
    // SAFETY: plain system calls.
    unsafe {
        let flags = libc::fcntl(fd, libc::F_GETFL);
        if flags < 0 || flags & libc::O_NONBLOCK == 0 && libc::fcntl(fd, libc::F_SETFL, flags | libc::O_NONBLOCK) < 0 {
            return Err(Error::last_os());
        }
    }
    Ok(())
}

/// Which address a call of the kernel asks for.
type AddressCall = unsafe extern "C" fn(c_int, *mut libc::sockaddr, *mut libc::socklen_t) -> c_int;

fn address_of(fd: c_int, call: AddressCall) -> Result<Vec<u8>> {
    let mut storage = MaybeUninit::<libc::sockaddr_storage>::zeroed();
    let mut size = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
    // SAFETY: the storage has room for what the kernel is told it has.
    if unsafe { call(fd, storage.as_mut_ptr().cast(), &raw mut size) } < 0 {
        return Err(Error::last_os());
    }
    let size = (size as usize).min(size_of::<libc::sockaddr_storage>());
    // SAFETY: the storage is zeroed, and has more bytes than that.
    Ok(unsafe { std::slice::from_raw_parts(storage.as_ptr().cast::<u8>(), size) }.to_vec())
}

/// The address a socket is bound to.
pub(crate) fn local_address(fd: c_int) -> Result<Vec<u8>> {
    address_of(fd, libc::getsockname)
}

/// The address of its peer.
pub(crate) fn peer_address(fd: c_int) -> Result<Vec<u8>> {
    address_of(fd, libc::getpeername)
}

/// The port of an internet address, in the machine's order.
pub(crate) fn port_of(address: &[u8]) -> Result<c_int> {
    let family = address.first_chunk().map(|family| c_int::from(libc::sa_family_t::from_ne_bytes(*family)));
    match (family, address.get(2..4)) {
        (Some(libc::AF_INET | libc::AF_INET6), Some(port)) => Ok(c_int::from(u16::from_be_bytes([port[0], port[1]]))),
        _ => Err(Error::from_code(-libc::EAFNOSUPPORT)),
    }
}

/// What a listening socket is made with.
pub(crate) struct Listening {
    /// Bound again while connections of an earlier server are still ending.
    pub(crate) reuse_address: bool,
    /// Bound by several sockets, among which the kernel spreads connections.
    pub(crate) reuse_port: bool,
}

/// Makes a socket and binds it; it does not listen yet.
pub(crate) fn bind(family: c_int, protocol: c_int, address: &[u8], options: &Listening) -> Result<Socket> {
    let socket = Socket::new(family, libc::SOCK_STREAM, protocol)?;
    if options.reuse_address && family != libc::AF_UNIX {
        socket.set_option(libc::SOL_SOCKET, libc::SO_REUSEADDR, 1)?;
    }
    if options.reuse_port {
        socket.set_option(libc::SOL_SOCKET, libc::SO_REUSEPORT, 1)?;
    }
    if family == libc::AF_INET6 {
        // The other family has a socket of its own.
        let _ = socket.set_option(libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, 1);
    }
    socket.bind(address)?;
    Ok(socket)
}

/// Begins to take connections, or changes how many may wait.
pub(crate) fn listen(fd: c_int, backlog: c_int) -> Result<()> {
    // Connections inherit it, which spares a system call for each.
    let _ = set_option(fd, libc::IPPROTO_TCP, libc::TCP_NODELAY, 1);
    // SAFETY: a plain system call.
    if unsafe { libc::listen(fd, backlog) } < 0 { Err(Error::last_os()) } else { Ok(()) }
}

/// Removes the file of a unix socket that nobody listens on any more, so that its path can be bound.
pub(crate) fn remove_stale(path: &std::ffi::CStr) {
    let mut status = MaybeUninit::<libc::stat>::zeroed();
    // SAFETY: the path is a string; the buffer is a stat's, and read once filled.
    unsafe {
        if libc::stat(path.as_ptr(), status.as_mut_ptr()) == 0
            && status.assume_init().st_mode & libc::S_IFMT == libc::S_IFSOCK
        {
            libc::unlink(path.as_ptr());
        }
    }
}
