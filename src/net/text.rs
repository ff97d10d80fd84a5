//! Socket addresses as numbers, and as the text of these numbers.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::mem::size_of;

use crate::error::{Error, Result};

unsafe extern "C" {
    fn inet_pton(family: c_int, text: *const c_char, address: *mut c_void) -> c_int;
    fn inet_ntop(family: c_int, address: *const c_void, text: *mut c_char, size: libc::socklen_t) -> *const c_char;
}

/// Room for the text of any address, with a scope.
const TEXT_SIZE: usize = 46 + 1 + 16;

/// A socket address of the internet: IPv4 or IPv6.
#[derive(Clone, Copy)]
pub(crate) struct Address {
    bytes: Bytes,
    size: u32,
}

/// As the system lays it out.
#[derive(Clone, Copy)]
#[repr(C)]
union Bytes {
    v4: libc::sockaddr_in,
    v6: libc::sockaddr_in6,
}

impl Address {
    fn v4(host: u32, port: u16) -> Address {
        // SAFETY: zeros are a valid address.
        let mut v4: libc::sockaddr_in = unsafe { std::mem::zeroed() };
        v4.sin_family = libc::AF_INET as libc::sa_family_t;
        v4.sin_port = port.to_be();
        v4.sin_addr.s_addr = host;
        // SAFETY: as above: all of it is initialised, whichever is used.
        let mut bytes: Bytes = unsafe { std::mem::zeroed() };
        bytes.v4 = v4;
        Address { bytes, size: size_of::<libc::sockaddr_in>() as u32 }
    }

    fn v6(host: libc::in6_addr, port: u16, scope: u32) -> Address {
        // SAFETY: zeros are a valid address.
        let mut v6: libc::sockaddr_in6 = unsafe { std::mem::zeroed() };
        v6.sin6_family = libc::AF_INET6 as libc::sa_family_t;
        v6.sin6_port = port.to_be();
        v6.sin6_addr = host;
        v6.sin6_scope_id = scope;
        Address { bytes: Bytes { v6 }, size: size_of::<libc::sockaddr_in6>() as u32 }
    }

    /// What the text says: the usual four numbers of IPv4, or IPv6, with a scope where it is local to a link. None: something else.
    pub(crate) fn parse(host: &CStr, port: u16) -> Option<Address> {
        let bytes = host.to_bytes();
        if !bytes.contains(&b':') {
            let mut v4 = 0u32;
            // SAFETY: a string, and room for four bytes.
            let found = unsafe { inet_pton(libc::AF_INET, host.as_ptr(), (&raw mut v4).cast()) };
            return (found == 1).then(|| Address::v4(v4, port));
        }
        // SAFETY: zeros are a valid address.
        let mut v6: libc::in6_addr = unsafe { std::mem::zeroed() };
        let Some(at) = bytes.iter().position(|&byte| byte == b'%') else {
            // SAFETY: a string, and room for sixteen bytes.
            let found = unsafe { inet_pton(libc::AF_INET6, host.as_ptr(), (&raw mut v6).cast()) };
            return (found == 1).then(|| Address::v6(v6, port, 0));
        };
        let mut text = [0u8; TEXT_SIZE];
        text.get_mut(..at)?.copy_from_slice(&bytes[..at]);
        text.get(at)?;
        // SAFETY: the text ends with a NUL; room for sixteen bytes.
        if unsafe { inet_pton(libc::AF_INET6, text.as_ptr().cast(), (&raw mut v6).cast()) } != 1 {
            return None;
        }
        let scope = CStr::from_bytes_with_nul(&host.to_bytes_with_nul()[at + 1..]).ok()?;
        Some(Address::v6(v6, port, parse_scope(scope, &v6.s6_addr)?))
    }

    pub(crate) fn family(&self) -> c_int {
        // SAFETY: both begin with the family.
        c_int::from(unsafe { self.bytes.v4.sin_family })
    }

    /// An IPv4 address in the form of an IPv6 one.
    pub(crate) fn is_mapped(&self) -> bool {
        // SAFETY: the family tells which it is.
        self.family() == libc::AF_INET6
            && unsafe { self.bytes.v6.sin6_addr.s6_addr }.starts_with(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff])
    }

    pub(crate) fn pointer(&self) -> *const c_void {
        (&raw const self.bytes).cast()
    }

    pub(crate) fn size(&self) -> u32 {
        self.size
    }

    /// Copies what the system wrote; None: it is of another family.
    ///
    /// # Safety
    /// `pointer` has `size` readable bytes, or is NULL.
    pub(crate) unsafe fn read(pointer: *const c_void, size: u32) -> Option<Address> {
        // SAFETY: zeros are a valid address.
        let mut bytes: Bytes = unsafe { std::mem::zeroed() };
        if pointer.is_null() || (size as usize) < size_of::<libc::sa_family_t>() {
            return None;
        }
        let known = (size as usize).min(size_of::<Bytes>());
        // SAFETY: by this function's contract; no more is copied than both have.
        unsafe { std::ptr::copy_nonoverlapping(pointer.cast::<u8>(), (&raw mut bytes).cast::<u8>(), known) };
        let read = Address { bytes, size };
        let least = match read.family() {
            libc::AF_INET => size_of::<libc::sockaddr_in>(),
            libc::AF_INET6 => size_of::<libc::sockaddr_in6>(),
            _ => return None,
        };
        (known >= least).then_some(Address { bytes, size: least as u32 })
    }

    pub(crate) fn port(&self) -> u16 {
        // SAFETY: both have the port in the same place.
        u16::from_be(unsafe { self.bytes.v4.sin_port })
    }

    /// The numbers as text, with the scope as a number.
    pub(crate) fn text(&self) -> String {
        let mut text = [0 as c_char; TEXT_SIZE];
        // SAFETY: the family tells which it is; the text has room for the longest one and its NUL.
        let (mut text, scope) = unsafe {
            let scope = if self.family() == libc::AF_INET { 0 } else { self.bytes.v6.sin6_scope_id };
            let numbers: *const c_void = match self.family() {
                libc::AF_INET => (&raw const self.bytes.v4.sin_addr).cast(),
                _ => (&raw const self.bytes.v6.sin6_addr).cast(),
            };
            inet_ntop(self.family(), numbers, text.as_mut_ptr(), TEXT_SIZE as libc::socklen_t);
            (CStr::from_ptr(text.as_ptr()).to_string_lossy().into_owned(), scope)
        };
        if scope != 0 {
            text.push('%');
            text.push_str(&scope.to_string());
        }
        text
    }
}

/// A scope as a number, or of an address local to a link as the name of an interface.
fn parse_scope(text: &CStr, address: &[u8; 16]) -> Option<u32> {
    let is_local = address[0] == 0xfe && address[1] & 0xc0 == 0x80 || address[0] == 0xff && address[1] & 0x0f == 2;
    if is_local {
        // SAFETY: a string.
        let found = unsafe { libc::if_nametoindex(text.as_ptr()) };
        if found != 0 {
            return Some(found);
        }
    }
    let digits = text.to_str().ok()?;
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok()
}

/// A service that is a number of a port; None: a name, or too large.
pub(crate) fn parse_port(service: &CStr) -> Option<u16> {
    let digits = service.to_bytes();
    if digits.is_empty() || digits.len() > 5 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number = digits.iter().fold(0u32, |number, digit| number * 10 + u32::from(digit - b'0'));
    u16::try_from(number).ok()
}

/// `evl_address_parse`.
pub(crate) fn parse(host: &CStr, port: c_int) -> Result<Address> {
    let port = u16::try_from(port).map_err(|_| Error::INVALID.detail(|| format!("{port} is no port")))?;
    Address::parse(host, port)
        .ok_or_else(|| Error::INVALID.detail(|| format!("{} is no numeric address", host.to_string_lossy())))
}

/// `evl_address_format`: the text, and the port.
///
/// # Safety
/// `pointer` has `size` readable bytes, or is NULL.
pub(crate) unsafe fn format(pointer: *const c_void, size: u32) -> Result<(String, c_int)> {
    // SAFETY: by this function's contract.
    if let Some(address) = unsafe { Address::read(pointer, size) } {
        return Ok((address.text(), c_int::from(address.port())));
    }
    if pointer.is_null() {
        return Err(Error::INVALID);
    }
    let family_size = size_of::<libc::sa_family_t>();
    // SAFETY: by this function's contract.
    let bytes = unsafe { std::slice::from_raw_parts(pointer.cast::<u8>(), size as usize) };
    let family = bytes.first_chunk().map(|family| libc::sa_family_t::from_ne_bytes(*family));
    if family != Some(libc::AF_UNIX as libc::sa_family_t) {
        return Err(Error::from_code(-libc::EAFNOSUPPORT));
    }
    let text = match &bytes[family_size..] {
        [] => String::new(),
        [0, name @ ..] => format!("@{}", String::from_utf8_lossy(name)),
        path => String::from_utf8_lossy(path.split(|&byte| byte == 0).next().unwrap_or(path)).into_owned(),
    };
    Ok((text, 0))
}
