//! Addresses and names: looking them up (`loop.getaddrinfo`, `loop.getnameinfo`), and addresses as text.

use std::ffi::{CStr, c_char, c_int, c_void};

use super::event_loop::evl_loop;
use super::future::evl_future;
use super::guard::guard;
use super::{options, own};
use crate::error::Error;
use crate::net::resolver::{self, Addresses, Hints, Names};
use crate::net::text;
use crate::task::future::Shape;

/// Addresses that evl_loop_getaddrinfo has found. Opaque; the future's.
pub type evl_addresses = Addresses;

/// What is wanted of addresses, with the system's own numbers: struct addrinfo's first fields. Zeros: anything.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct evl_address_hints {
    /// sizeof(evl_address_hints) as the caller knows it.
    pub size: u32,
    /// AF_INET, AF_INET6.
    pub family: c_int,
    /// SOCK_STREAM, SOCK_DGRAM.
    pub r#type: c_int,
    /// IPPROTO_TCP, IPPROTO_UDP.
    pub protocol: c_int,
    /// AI_PASSIVE, AI_CANONNAME and their like, or'ed.
    pub flags: c_int,
}

/// An address that was found. What it points to is the future's.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct evl_address_info {
    /// sizeof(evl_address_info) as the caller knows it.
    pub size: u32,
    /// AF_INET, AF_INET6.
    pub family: c_int,
    /// SOCK_STREAM, SOCK_DGRAM, SOCK_RAW.
    pub r#type: c_int,
    /// IPPROTO_TCP, IPPROTO_UDP, 0.
    pub protocol: c_int,
    /// A struct sockaddr of the family.
    pub address: *const c_void,
    /// How many bytes it has.
    pub address_size: u32,
    /// Always zero.
    pub reserved: u32,
    /// With AI_CANONNAME, of the first address: the host's official name. NULL otherwise.
    pub canonical_name: *const c_char,
}

/// Looks up the addresses of a host and a service: loop.getaddrinfo. host is a name or a numeric address, service a
/// name or a port in digits; one of them may be NULL. hints NULL: anything.
///
/// The future's result (evl_future_result) is an evl_addresses, valid as long as the future. A host in the usual
/// numbers with a service in digits, or none, is answered at once: the future is done on return. Anything else asks
/// the system on the default executor; a cancel or timeout ends the future at once, and a late answer is dropped.
/// The future's error is one of EVL_EAI_..., or a system error. out may be NULL. On the loop's thread. Errors:
/// -EINVAL (NULL loop), EVL_EOPTIONS (hints), EVL_ECLOSED, EVL_EWRONGTHREAD, EVL_EFORKED, and those of
/// evl_loop_run_in_executor.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_loop_getaddrinfo(
    event_loop: *mut evl_loop,
    host: *const c_char,
    service: *const c_char,
    hints: *const evl_address_hints,
    out: *mut *mut evl_future,
) -> c_int {
    // SAFETY: a live loop or NULL; strings or NULL; hints begin with their size or are NULL; out is writable or NULL.
    unsafe {
        own::on_loop(event_loop, |lp| {
            let given: evl_address_hints = options::read(hints)?;
            let evl_address_hints { family, r#type: kind, protocol, flags, .. } = given;
            let string = |text: *const c_char| (!text.is_null()).then(|| CStr::from_ptr(text));
            let hints = Hints { family, kind, protocol, flags };
            own::give_future(out, resolver::look_up(lp, string(host), string(service), hints)?);
            Ok(0)
        })
    }
}

/// How many addresses there are: at least 1. Any thread. Errors: -EINVAL (NULL).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_addresses_count(addresses: *const evl_addresses) -> c_int {
    // SAFETY: a future's result or NULL.
    guard(|| Ok(c_int::try_from(unsafe { own::borrow(addresses) }?.count()).unwrap_or(c_int::MAX)))
}

/// Describes the address at index, the first of which is 0 and the best one to try. out is a struct whose size is
/// set; what it points to is the future's.
///
/// Any thread. Errors: -EINVAL (NULL), -ENOENT (there are not so many), EVL_EOPTIONS (the struct's size).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_addresses_get(
    addresses: *const evl_addresses,
    index: usize,
    out: *mut evl_address_info,
) -> c_int {
    // SAFETY: a future's result or NULL; out begins with its size or is NULL.
    guard(|| unsafe {
        let found = own::borrow(addresses)?.get(index).ok_or(Error::NO_ENTRY)?;
        let info = evl_address_info {
            size: 0,
            family: found.address.family(),
            r#type: found.kind,
            protocol: found.protocol,
            address: found.address.pointer(),
            address_size: found.address.size(),
            reserved: 0,
            canonical_name: found.canonical_name.as_ref().map_or(std::ptr::null(), |name| name.as_ptr()),
        };
        options::write(out, info)
    })
}

/// Looks up the names of an address: loop.getnameinfo. address is a struct sockaddr of address_size bytes, which is
/// copied; flags are the system's NI_....
///
/// evl_future_result_names reads the result. With NI_NUMERICHOST and NI_NUMERICSERV it is answered at once;
/// otherwise, errors, cancelling and threads are as evl_loop_getaddrinfo's. Errors: -EINVAL also when address is
/// NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_loop_getnameinfo(
    event_loop: *mut evl_loop,
    address: *const c_void,
    address_size: u32,
    flags: c_int,
    out: *mut *mut evl_future,
) -> c_int {
    // SAFETY: a live loop or NULL; address has so many bytes or is NULL; out is writable or NULL.
    unsafe {
        own::on_loop(event_loop, |lp| {
            own::required(address.cast_mut())?;
            let bytes = std::slice::from_raw_parts(address.cast::<u8>(), address_size as usize);
            own::give_future(out, resolver::look_up_name(lp, bytes, flags)?);
            Ok(0)
        })
    }
}

/// evl_future_result of evl_loop_getnameinfo: the host's name and the service's, or their numbers. The strings are
/// the future's. host and service may be NULL.
///
/// Any thread. Errors as evl_future_result; -EINVAL also when the result is no names.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_future_result_names(
    future: *const evl_future,
    host: *mut *const c_char,
    service: *mut *const c_char,
) -> c_int {
    // SAFETY: a live future or NULL; host and service are writable or NULL; the word of this shape is a Names.
    guard(|| unsafe {
        let names = &*own::borrow(future)?.result(Shape::Names)?.cast::<Names>();
        own::put_optional(host, names.host.as_ptr());
        own::put_optional(service, names.service.as_ptr());
        Ok(0)
    })
}

/// Writes the struct sockaddr of a numeric address ("127.0.0.1", "::1", "fe80::1%eth0") and a port to buffer, and
/// returns its size.
///
/// Any thread. Errors: -EINVAL (NULL; text is no numeric address; no port), -ENOSPC (buffer has less than that;
/// sizeof(struct sockaddr_in6) is always enough).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_address_parse(
    text: *const c_char,
    port: c_int,
    buffer: *mut c_void,
    buffer_size: u32,
) -> c_int {
    // SAFETY: text is a string or NULL; buffer has so many writable bytes or is NULL.
    guard(|| unsafe {
        own::required(text.cast_mut())?;
        own::required(buffer)?;
        let address = text::parse(CStr::from_ptr(text), port)?;
        if buffer_size < address.size() {
            return Err(Error::from_code(-libc::ENOSPC));
        }
        std::ptr::copy_nonoverlapping(address.pointer().cast::<u8>(), buffer.cast::<u8>(), address.size() as usize);
        Ok(address.size() as c_int)
    })
}

/// Writes a struct sockaddr as text: the numbers of IPv4 and IPv6 (with a scope as a number), the path of a unix
/// socket ("@name" of an abstract one, nothing of an unnamed one). *port (port may be NULL) becomes the port, 0 of
/// a unix socket.
///
/// Fills buffer with at most size bytes including the NUL and returns the whole length without it. buffer may be
/// NULL when size is 0. Any thread. Errors: -EINVAL (NULL), -EAFNOSUPPORT (another family, or too few bytes).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_address_format(
    address: *const c_void,
    address_size: u32,
    buffer: *mut c_char,
    size: usize,
    port: *mut c_int,
) -> c_int {
    // SAFETY: address has so many bytes or is NULL; buffer has size writable bytes; port is writable or NULL.
    guard(|| unsafe {
        let (text, number) = text::format(address, address_size)?;
        let length = own::fill(buffer, size, &text)?;
        own::put_optional(port, number);
        Ok(length)
    })
}
