//! Making datagram endpoints (`loop.create_datagram_endpoint`): addresses are looked up, a socket is bound and connected, and becomes
//! an endpoint.

use std::ffi::{CStr, CString, c_int, c_void};

use super::connect::Target;
use super::connection::targets_of;
use super::datagram::{self, Client, Datagram, DatagramRef};
use super::listen::{self, Socket};
use super::resolver::{self, Hints};
use crate::engine::callback::FreeArg;
use crate::engine::context::Word;
use crate::engine::event_loop::Owned;
use crate::error::{Error, Result};
use crate::task::combine::{entered, follow, of, release};
use crate::task::future::{Future, FutureRef, Outcome};
use crate::task::operation::{Operation, OperationRef, Work};

/// A host and a service; neither: no address.
pub(crate) type Name = (Option<CString>, Option<CString>);

/// How the socket is made.
#[derive(Clone, Copy)]
pub(crate) struct Manner {
    pub(crate) family: c_int,
    pub(crate) protocol: c_int,
    pub(crate) reuse_port: bool,
    pub(crate) broadcast: bool,
}

/// A socket that may be made.
struct Candidate {
    family: c_int,
    protocol: c_int,
    local: Option<Vec<u8>>,
    remote: Option<Vec<u8>>,
}

enum Stage {
    Resolving {
        local: Option<FutureRef>,
        remote: Option<FutureRef>,
    },
    /// The protocol is about to be told.
    Made(DatagramRef),
}

/// An endpoint on its way.
pub(crate) struct Opening {
    client: Option<Client>,
    manner: Manner,
    stage: Stage,
}

impl Work for Opening {
    const NAME: &'static str = "create_datagram_endpoint";

    fn cancel(lp: &Owned, operation: &Operation<Self>) -> bool {
        let held = operation.with(|work| match &work.stage {
            Stage::Resolving { local, remote } => {
                (local.as_deref().map(FutureRef::new), remote.as_deref().map(FutureRef::new), None)
            }
            Stage::Made(datagram) => (None, None, Some(DatagramRef::new(datagram))),
        });
        let Some((local, remote, made)) = held else { return true };
        for future in [local, remote].into_iter().flatten() {
            let _ = future.cancel(lp, Error::CANCELLED, None);
        }
        if let Some(made) = made {
            made.force_close(lp, 0);
        }
        true
    }
}

/// `loop.create_datagram_endpoint`.
pub(crate) fn create(
    lp: &Owned,
    local: &Name,
    remote: &Name,
    lookup_flags: c_int,
    manner: Manner,
    client: Client,
) -> Result<FutureRef> {
    let look_up = |name: &Name, flags: c_int| {
        if name.0.is_none() && name.1.is_none() {
            return Ok(None);
        }
        let (family, protocol) = (manner.family, manner.protocol);
        let hints = Hints { family, kind: libc::SOCK_DGRAM, protocol, flags: lookup_flags | flags };
        let host = name.0.as_deref().filter(|host| !host.is_empty());
        resolver::look_up_place(lp, host, name.1.as_deref().or(Some(c"0")), hints).map(Some)
    };
    let local = look_up(local, libc::AI_PASSIVE)?;
    let remote = look_up(remote, 0)?;
    if local.is_none() && remote.is_none() && manner.family == 0 {
        return Err(Error::INVALID.detail(|| "unexpected address family".into()));
    }
    let lookups: Vec<FutureRef> = [&local, &remote].into_iter().flatten().map(|f| FutureRef::new(f)).collect();
    let stage = Stage::Resolving { local, remote };
    let operation = Operation::begin(lp, Opening { client: Some(client), manner, stage });
    if lookups.iter().all(|future| future.is_done()) {
        resolved(lp, &operation);
    } else {
        for future in &lookups {
            follow(lp, future, &operation, looked_up)?;
        }
    }
    Ok(operation.into_future())
}

unsafe extern "C-unwind" fn looked_up(_: *mut Future, operation: *mut c_void) {
    // SAFETY: the callback has a reference.
    let operation = unsafe { of::<Opening>(operation) };
    if let Some(lp) = entered(operation.future()) {
        resolved(&lp, operation);
    }
}

/// A look-up is done: when it was the last one, the socket is made.
fn resolved(lp: &Owned, operation: &Operation<Opening>) {
    let found = operation.with(|work| match &work.stage {
        Stage::Resolving { local, remote } => {
            Some((local.as_deref().map(FutureRef::new), remote.as_deref().map(FutureRef::new), work.manner))
        }
        Stage::Made(_) => None,
    });
    let Some(Some((local, remote, manner))) = found else { return };
    if [&local, &remote].into_iter().flatten().any(|future| !future.is_done()) {
        return;
    }
    let failed = [&local, &remote].into_iter().flatten().find(|future| future.check().is_err());
    let result = match failed {
        Some(failed) => operation.end(lp, Outcome::same_as(failed)),
        None => {
            let targets = |future: &Option<FutureRef>| future.as_deref().map(targets_of);
            let candidates = candidates(targets(&local), targets(&remote), manner);
            match open_first(&candidates, manner) {
                Ok((socket, remote)) => make(lp, operation, socket, remote),
                Err((error, text)) => {
                    operation.end(lp, Outcome::failure(error.code(), CString::new(text).ok(), FreeArg::none()))
                }
            }
        }
    };
    if let Err(error) = result {
        let _ = operation.end(lp, Outcome::error(error));
    }
}

/// What may be tried, in the order of what was found: each has all the addresses that were asked for.
fn candidates(local: Option<Vec<Target>>, remote: Option<Vec<Target>>, manner: Manner) -> Vec<Candidate> {
    let mut all: Vec<Candidate> = Vec::new();
    let wanted = (local.is_some(), remote.is_some());
    if wanted == (false, false) {
        all.push(Candidate { family: manner.family, protocol: manner.protocol, local: None, remote: None });
    }
    for (is_local, targets) in [(true, local), (false, remote)] {
        for target in targets.unwrap_or_default() {
            let known = all.iter().position(|c| (c.family, c.protocol) == (target.family, target.protocol));
            let at = known.unwrap_or_else(|| {
                let (family, protocol) = (target.family, target.protocol);
                all.push(Candidate { family, protocol, local: None, remote: None });
                all.len() - 1
            });
            let place = if is_local { &mut all[at].local } else { &mut all[at].remote };
            place.get_or_insert(target.address);
        }
    }
    all.retain(|c| (c.local.is_some() || !wanted.0) && (c.remote.is_some() || !wanted.1));
    all
}

type Failure = (Error, String);

/// Makes the first socket that can be made; and whom its datagrams are for. Else the first failure.
fn open_first(candidates: &[Candidate], manner: Manner) -> std::result::Result<(Socket, Vec<u8>), Failure> {
    let mut first = None;
    for candidate in candidates {
        match open_socket(candidate, manner) {
            Ok(socket) => return Ok((socket, candidate.remote.clone().unwrap_or_default())),
            Err(failure) => first = first.or(Some(failure)),
        }
    }
    Err(first.unwrap_or_else(|| (Error::from_code(-libc::EADDRNOTAVAIL), "can not get address information".into())))
}

fn open_socket(candidate: &Candidate, manner: Manner) -> std::result::Result<Socket, Failure> {
    let plain = |what: &str, error: Error| {
        (error, format!("{what}: {}", crate::error::describe(error.code()).to_string_lossy()))
    };
    let socket = Socket::new(candidate.family, libc::SOCK_DGRAM, candidate.protocol).map_err(|e| plain("socket", e))?;
    for (wanted, option, name) in [
        (manner.reuse_port, libc::SO_REUSEPORT, "SO_REUSEPORT"),
        (manner.broadcast, libc::SO_BROADCAST, "SO_BROADCAST"),
    ] {
        if wanted {
            socket.set_option(libc::SOL_SOCKET, option, 1).map_err(|error| plain(name, error))?;
        }
    }
    if let Some(local) = &candidate.local {
        socket.bind(local).map_err(|error| (error, listen::sentence("bind", local, error)))?;
    }
    // Answers to a broadcast come from others.
    if let (Some(remote), false) = (&candidate.remote, manner.broadcast) {
        connect(&socket, remote).map_err(|error| (error, listen::sentence("connect", remote, error)))?;
    }
    Ok(socket)
}

/// Nothing is waited for: only the address is noted.
fn connect(socket: &Socket, address: &[u8]) -> Result<()> {
    loop {
        // SAFETY: the address has so many bytes.
        let result = unsafe { libc::connect(socket.fd(), address.as_ptr().cast(), address.len() as libc::socklen_t) };
        if result == 0 {
            return Ok(());
        }
        let error = Error::last_os();
        if error != Error::INTERRUPTED {
            return Err(error);
        }
    }
}

/// Makes a socket an endpoint. The future is done when the protocol was told.
fn make(lp: &Owned, operation: &Operation<Opening>, socket: Socket, remote: Vec<u8>) -> Result<()> {
    let Some(client) = operation.with(|work| work.client.take()).flatten() else { return Ok(()) };
    lp.reserve(2)?;
    let made = Datagram::open(lp, socket.fd(), &remote, client)?;
    let _ = socket.into_raw();
    settle_soon(lp, operation, made)
}

fn settle_soon(lp: &Owned, operation: &Operation<Opening>, made: DatagramRef) -> Result<()> {
    operation.with(|work| work.stage = Stage::Made(made));
    let arg = OperationRef::new(operation).into_pointer();
    lp.call_internal(settle, arg, Some(release::<Opening>), Word::NONE)
}

unsafe extern "C-unwind" fn settle(operation: *mut c_void) {
    // SAFETY: the callback has a reference.
    let operation = unsafe { of::<Opening>(operation) };
    let Some(lp) = entered(operation.future()) else { return };
    let made = operation.with(|work| match &work.stage {
        Stage::Made(made) => Some(DatagramRef::new(made)),
        Stage::Resolving { .. } => None,
    });
    if let Some(Some(made)) = made {
        let value = FreeArg::new(made.into_raw().cast(), Some(datagram::release));
        let _ = operation.end(&lp, Outcome::pointer(value));
    }
}

/// `create_datagram_endpoint` of unix addresses; an empty one: none.
pub(crate) fn create_unix(lp: &Owned, local: Vec<u8>, remote: Vec<u8>, client: Client) -> Result<FutureRef> {
    let manner = Manner { family: libc::AF_UNIX, protocol: 0, reuse_port: false, broadcast: false };
    let path =
        local.get(std::mem::offset_of!(libc::sockaddr_un, sun_path)..).and_then(|p| CStr::from_bytes_until_nul(p).ok());
    // An abstract name begins with a NUL.
    if let Some(path) = path.filter(|path| !path.is_empty()) {
        listen::remove_stale(path);
    }
    let given = |address: Vec<u8>| (!address.is_empty()).then_some(address);
    let candidate = Candidate { family: libc::AF_UNIX, protocol: 0, local: given(local), remote: given(remote) };
    let (socket, remote) = open_first(&[candidate], manner).map_err(|(error, text)| error.detail(|| text))?;
    finish(lp, socket.into_raw(), &remote, manner, client).map_err(|(error, fd)| {
        drop(Socket::from_raw(fd));
        error
    })
}

/// `create_datagram_endpoint` of a socket: on failure the descriptor stays the caller's.
pub(crate) fn adopt(lp: &Owned, fd: c_int, client: Client) -> Result<FutureRef> {
    if super::sock::kind_of(fd)? != libc::SOCK_DGRAM {
        return Err(Error::INVALID.detail(|| format!("descriptor {fd} is no datagram socket")));
    }
    listen::set_nonblocking(fd)?;
    let manner = Manner { family: 0, protocol: 0, reuse_port: false, broadcast: false };
    finish(lp, fd, &[], manner, client).map_err(|(error, _)| error)
}

/// Makes a socket that is there an endpoint; on failure it is given back.
fn finish(
    lp: &Owned,
    fd: c_int,
    remote: &[u8],
    manner: Manner,
    client: Client,
) -> std::result::Result<FutureRef, (Error, c_int)> {
    let made = lp.reserve(2).and_then(|()| Datagram::open(lp, fd, remote, client)).map_err(|error| (error, fd))?;
    let stage = Stage::Made(DatagramRef::new(&made));
    let operation = Operation::begin(lp, Opening { client: None, manner, stage });
    // There is room for it: the descriptor is the endpoint's.
    let _ = settle_soon(lp, &operation, made);
    Ok(operation.into_future())
}
