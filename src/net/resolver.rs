//! Looking up addresses and names (`loop.getaddrinfo`, `loop.getnameinfo`).
//!
//! What is a number already is answered at once, as the system would answer it; whatever is not quite plain goes to the system's own
//! functions, on the default executor. They hold nothing of the caller's, so that a cancel does not wait for them.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::ptr;

use super::text::{Address, parse_port};
use crate::engine::callback::FreeArg;
use crate::engine::event_loop::Owned;
use crate::error::{self, Error, Result};
use crate::task::executor::run_in_executor;
use crate::task::future::{Class, Future, FutureRef, Outcome, Shape};
use crate::task::job::{self, Call};

/// What is wanted of addresses; zeros: anything.
#[derive(Clone, Copy, Default)]
pub(crate) struct Hints {
    pub(crate) family: c_int,
    pub(crate) kind: c_int,
    pub(crate) protocol: c_int,
    pub(crate) flags: c_int,
}

/// One address that was found.
pub(crate) struct Found {
    pub(crate) kind: c_int,
    pub(crate) protocol: c_int,
    pub(crate) address: Address,
    pub(crate) canonical_name: Option<CString>,
}

/// Addresses that were found, the best first.
pub struct Addresses(Vec<Found>);

/// The names of an address.
pub(crate) struct Names {
    pub(crate) host: CString,
    pub(crate) service: CString,
}

impl Addresses {
    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn get(&self, index: usize) -> Option<&Found> {
        self.0.get(index)
    }
}

/// A question to the system.
struct Query {
    host: Option<CString>,
    service: Option<CString>,
    hints: Hints,
}

/// A question about an address, to the system.
struct Reverse {
    address: Box<[u8]>,
    flags: c_int,
}

static ADDRESSES: Class = job::class("getaddrinfo");
static NAMES: Class = job::class("getnameinfo");

/// `loop.getaddrinfo`.
pub(crate) fn look_up(lp: &Owned, host: Option<&CStr>, service: Option<&CStr>, hints: Hints) -> Result<FutureRef> {
    if let Some(outcome) = numeric(host, service, hints) {
        return done(lp, outcome);
    }
    let query = Query { host: host.map(CStr::to_owned), service: service.map(CStr::to_owned), hints };
    run_in_executor(lp, None, &ADDRESSES, Call::Own(ask), boxed(query))
}

/// [`look_up`] of what is to be bound or connected to: a port that is none is refused, where the system would take it modulo 65536.
pub(super) fn look_up_place(
    lp: &Owned,
    host: Option<&CStr>,
    service: Option<&CStr>,
    hints: Hints,
) -> Result<FutureRef> {
    let number = service.map(CStr::to_bytes).filter(|name| !name.is_empty() && name.iter().all(u8::is_ascii_digit));
    let port = number.map(|digits| {
        digits.iter().fold(0u32, |all, digit| all.saturating_mul(10).saturating_add(u32::from(digit - b'0')))
    });
    match (port, service) {
        (Some(port), Some(name)) if port > u32::from(u16::MAX) => {
            let why = CString::new(format!("{} is no port: they end at 65535", name.to_string_lossy())).ok();
            done(lp, Outcome::failure(Error::EAI_SERVICE.code(), why, FreeArg::none()))
        }
        _ => look_up(lp, host, service, hints),
    }
}

/// `loop.getnameinfo`. `address` is whatever the caller says is one.
pub(crate) fn look_up_name(lp: &Owned, address: &[u8], flags: c_int) -> Result<FutureRef> {
    let reverse = Reverse { address: address.into(), flags };
    let numeric = libc::NI_NUMERICHOST | libc::NI_NUMERICSERV;
    if flags & numeric == numeric {
        return done(lp, ask_for_names(&reverse));
    }
    run_in_executor(lp, None, &NAMES, Call::Own(ask_for_name), boxed(reverse))
}

/// A future that is done.
fn done(lp: &Owned, outcome: Outcome) -> Result<FutureRef> {
    // SAFETY: made just now, with one reference.
    let future = unsafe { FutureRef::from_raw(Future::create(lp)) };
    future.complete(lp, outcome)?;
    Ok(future)
}

fn boxed<T>(value: T) -> FreeArg {
    unsafe extern "C-unwind" fn free<T>(pointer: *mut c_void) {
        // SAFETY: made below, and given up once.
        drop(unsafe { Box::from_raw(pointer.cast::<T>()) });
    }
    FreeArg::new(Box::into_raw(Box::new(value)).cast(), Some(free::<T>))
}

/// The answer to a question about numbers; None: the system is to be asked.
fn numeric(host: Option<&CStr>, service: Option<&CStr>, hints: Hints) -> Option<Outcome> {
    let harmless = libc::AI_PASSIVE | libc::AI_NUMERICHOST | libc::AI_NUMERICSERV;
    if hints.flags & !harmless != 0 {
        return None;
    }
    let kinds: &[(c_int, c_int)] = match (hints.kind, hints.protocol) {
        // Other systems' libraries have other lists.
        (0, 0) if cfg!(all(target_os = "linux", target_env = "gnu")) => {
            &[(libc::SOCK_STREAM, libc::IPPROTO_TCP), (libc::SOCK_DGRAM, libc::IPPROTO_UDP), (libc::SOCK_RAW, 0)]
        }
        (libc::SOCK_STREAM, 0 | libc::IPPROTO_TCP) => &[(libc::SOCK_STREAM, libc::IPPROTO_TCP)],
        (libc::SOCK_DGRAM, 0 | libc::IPPROTO_UDP) => &[(libc::SOCK_DGRAM, libc::IPPROTO_UDP)],
        _ => return None,
    };
    let address = Address::parse(host?, service.map_or(Some(0), parse_port)?)?;
    match hints.family {
        libc::AF_UNSPEC => {}
        libc::AF_INET | libc::AF_INET6 if address.family() == hints.family => {}
        libc::AF_INET if address.is_mapped() => return None,
        libc::AF_INET | libc::AF_INET6 if cfg!(all(target_os = "linux", target_env = "gnu")) => {
            return Some(failure(Error::EAI_ADDRFAMILY, host));
        }
        _ => return None,
    }
    let list = kinds.iter().map(|&(kind, protocol)| Found { kind, protocol, address, canonical_name: None });
    Some(Outcome::object(Shape::Addresses, Addresses(list.collect())))
}

/// A failure, with what was asked for.
#[cold]
fn failure(error: Error, what: Option<&CStr>) -> Outcome {
    let text = error::describe(error.code()).to_string_lossy();
    let message = match what {
        Some(what) => format!("{}: {text}", what.to_string_lossy()),
        None => text.into_owned(),
    };
    Outcome::failure(error.code(), CString::new(message).ok(), FreeArg::none())
}

/// What getaddrinfo and getnameinfo answer, as a code of ours.
fn eai_error(answer: c_int) -> Error {
    match answer {
        libc::EAI_SYSTEM => Error::last_os(),
        libc::EAI_AGAIN => Error::EAI_AGAIN,
        libc::EAI_BADFLAGS => Error::EAI_BADFLAGS,
        libc::EAI_FAMILY => Error::EAI_FAMILY,
        libc::EAI_MEMORY => Error::EAI_MEMORY,
        libc::EAI_NONAME => Error::EAI_NONAME,
        libc::EAI_OVERFLOW => Error::EAI_OVERFLOW,
        libc::EAI_SERVICE => Error::EAI_SERVICE,
        libc::EAI_SOCKTYPE => Error::EAI_SOCKTYPE,
        #[cfg(target_os = "linux")]
        libc::EAI_NODATA => Error::EAI_NODATA,
        #[cfg(target_os = "linux")]
        EAI_ADDRFAMILY => Error::EAI_ADDRFAMILY,
        _ => Error::EAI_FAIL,
    }
}

/// Not in the libc crate.
#[cfg(target_os = "linux")]
const EAI_ADDRFAMILY: c_int = -9;

/// getaddrinfo, on a thread of the executor.
///
/// # Safety
/// `arg` is a Query.
unsafe fn ask(arg: *mut c_void) -> Outcome {
    // SAFETY: by this function's contract; it lives as long as the job.
    let query = unsafe { &*arg.cast::<Query>() };
    let pointer = |text: &Option<CString>| text.as_ref().map_or(ptr::null(), |text| text.as_ptr());
    // SAFETY: zeros are valid hints.
    let mut hints: libc::addrinfo = unsafe { std::mem::zeroed() };
    hints.ai_family = query.hints.family;
    hints.ai_socktype = query.hints.kind;
    hints.ai_protocol = query.hints.protocol;
    hints.ai_flags = query.hints.flags;
    let mut first = ptr::null_mut();
    // SAFETY: strings or NULL, and hints of ours.
    let answer =
        unsafe { libc::getaddrinfo(pointer(&query.host), pointer(&query.service), &raw const hints, &raw mut first) };
    if answer != 0 {
        return failure(eai_error(answer), query.host.as_deref().or(query.service.as_deref()));
    }
    let mut list = Vec::new();
    let mut at: *const libc::addrinfo = first;
    // SAFETY: the list is the system's until it is freed.
    unsafe {
        while let Some(info) = at.as_ref() {
            if let Some(address) = Address::read(info.ai_addr.cast(), info.ai_addrlen) {
                let name = info.ai_canonname;
                let canonical_name = (!name.is_null()).then(|| CStr::from_ptr(name).to_owned());
                let (kind, protocol) = (info.ai_socktype, info.ai_protocol);
                list.push(Found { kind, protocol, address, canonical_name });
            }
            at = info.ai_next;
        }
        libc::freeaddrinfo(first);
    }
    if list.is_empty() {
        // Success without an address of a family that is known: whoever asks takes the first one.
        return failure(Error::EAI_NODATA, query.host.as_deref().or(query.service.as_deref()));
    }
    Outcome::object(Shape::Addresses, Addresses(list))
}

/// getnameinfo, on a thread of the executor.
///
/// # Safety
/// `arg` is a Reverse.
unsafe fn ask_for_name(arg: *mut c_void) -> Outcome {
    // SAFETY: by this function's contract; it lives as long as the job.
    ask_for_names(unsafe { &*arg.cast::<Reverse>() })
}

fn ask_for_names(reverse: &Reverse) -> Outcome {
    const HOST_SIZE: usize = 1025;
    const SERVICE_SIZE: usize = 256;
    let (mut host, mut service) = ([0 as c_char; HOST_SIZE], [0 as c_char; SERVICE_SIZE]);
    // The system reads it as a sockaddr, which lies at a multiple of its own.
    // SAFETY: zeros are a valid address.
    let mut address: libc::sockaddr_storage = unsafe { std::mem::zeroed() };
    let size = reverse.address.len().min(size_of::<libc::sockaddr_storage>());
    // SAFETY: no more is copied than both have.
    unsafe { ptr::copy_nonoverlapping(reverse.address.as_ptr(), (&raw mut address).cast::<u8>(), size) };
    // SAFETY: an address of so many bytes, and room for so many characters of each name.
    let answer = unsafe {
        libc::getnameinfo(
            (&raw const address).cast(),
            size as libc::socklen_t,
            host.as_mut_ptr(),
            HOST_SIZE as libc::socklen_t,
            service.as_mut_ptr(),
            SERVICE_SIZE as libc::socklen_t,
            reverse.flags,
        )
    };
    if answer != 0 {
        return failure(eai_error(answer), None);
    }
    // SAFETY: both are strings now.
    let names = unsafe {
        Names { host: CStr::from_ptr(host.as_ptr()).to_owned(), service: CStr::from_ptr(service.as_ptr()).to_owned() }
    };
    Outcome::object(Shape::Names, names)
}
