//! Stream connections (`loop.create_connection`, `create_unix_connection`, `connect_accepted_socket`): a host is looked up, one of
//! its addresses connected to, and the socket becomes a transport.

use std::ffi::{CString, c_int, c_void};

use super::connect::{self, Connected, Race, Target};
use super::listen::{self, Socket};
use super::protocol::Protocol;
use super::resolver::{self, Addresses, Hints};
use super::transport::{self, Transport, TransportRef};
use crate::engine::callback::FreeArg;
use crate::engine::context::{Captured, Word};
use crate::engine::event_loop::Owned;
use crate::error::{Error, Result};
use crate::task::combine::{entered, follow, of, release};
use crate::task::future::{Future, FutureRef, Outcome, Shape};
use crate::task::operation::{Operation, OperationRef, Work};

/// Where to connect to, and how.
pub(crate) struct Wanted {
    pub(crate) host: CString,
    pub(crate) service: CString,
    pub(crate) local_host: Option<CString>,
    pub(crate) local_service: Option<CString>,
    pub(crate) family: c_int,
    pub(crate) flags: c_int,
    /// How long an attempt is waited for before the next one is begun beside it; None: until it has failed.
    pub(crate) delay: Option<i64>,
    /// So many addresses of the first family first, then by turns; 0: in the resolver's order.
    pub(crate) interleave: usize,
}

/// What a connection is made for.
pub(crate) struct Client {
    pub(crate) protocol: Protocol,
    pub(crate) context: Captured,
    /// What the future's result is, if not the transport.
    pub(crate) result: Option<FreeArg>,
}

enum Stage {
    /// The host is being looked up, and perhaps the local one.
    Resolving {
        remote: FutureRef,
        local: Option<FutureRef>,
        delay: Option<i64>,
        interleave: usize,
    },
    Racing(Race),
    /// The protocol is about to be told.
    Made(TransportRef),
}

/// A connection on its way.
pub(crate) struct Connecting {
    client: Option<Client>,
    result: Option<FreeArg>,
    stage: Stage,
}

impl Work for Connecting {
    const NAME: &'static str = "create_connection";

    fn cancel(lp: &Owned, operation: &Operation<Self>) -> bool {
        connect::give_up(lp, operation);
        let held = operation.with(|work| match &work.stage {
            Stage::Resolving { remote, local, .. } => {
                (Some(FutureRef::new(remote)), local.as_deref().map(FutureRef::new), None)
            }
            Stage::Racing(_) => (None, None, None),
            Stage::Made(transport) => (None, None, Some(TransportRef::new(transport))),
        });
        let Some((remote, local, transport)) = held else { return true };
        for future in [remote, local].into_iter().flatten() {
            let _ = future.cancel(lp, Error::CANCELLED, None);
        }
        if let Some(transport) = transport {
            transport.force_close(lp, 0);
        }
        true
    }
}

impl Connected for Connecting {
    fn race(work: &mut Self) -> Option<&mut Race> {
        match &mut work.stage {
            Stage::Racing(race) => Some(race),
            _ => None,
        }
    }

    fn connected(lp: &Owned, operation: &Operation<Self>, socket: Socket) -> Result<()> {
        let Some(client) = operation.with(|work| work.client.take()).flatten() else { return Ok(()) };
        let made = open(lp, socket, client).map_err(|(error, fd)| {
            drop(Socket::from_raw(fd));
            error
        })?;
        operation.with(|work| work.stage = Stage::Made(made));
        settle_soon(lp, operation)
    }
}

/// Makes a connected socket a transport; on failure it is given back.
fn open(lp: &Owned, socket: Socket, client: Client) -> std::result::Result<TransportRef, (Error, c_int)> {
    // Small writes are not held back (`_set_nodelay`); what is no TCP refuses, and does not need it.
    let _ = socket.set_option(libc::IPPROTO_TCP, libc::TCP_NODELAY, 1);
    let fd = socket.into_raw();
    Transport::open(lp, fd, client.protocol, client.context, None).map_err(|error| (error, fd))
}

/// The future is done when the protocol was told.
fn settle_soon(lp: &Owned, operation: &Operation<Connecting>) -> Result<()> {
    lp.reserve(1)?;
    let arg = OperationRef::new(operation).into_pointer();
    lp.call_internal(settle, arg, Some(release::<Connecting>), Word::NONE)
}

unsafe extern "C-unwind" fn settle(operation: *mut c_void) {
    // SAFETY: the entry has a reference.
    let operation = unsafe { of::<Connecting>(operation) };
    let Some(lp) = entered(operation.future()) else { return };
    let made = operation.with(|work| match &work.stage {
        Stage::Made(transport) => Some((TransportRef::new(transport), work.result.take())),
        _ => None,
    });
    if let Some(Some((transport, result))) = made {
        let value = result.unwrap_or_else(|| FreeArg::new(transport.into_raw().cast(), Some(transport::release)));
        let _ = operation.end(&lp, Outcome::pointer(value));
    }
}

/// `loop.create_connection`.
pub(crate) fn connect(lp: &Owned, wanted: Wanted, mut client: Client) -> Result<FutureRef> {
    let hints = Hints { family: wanted.family, kind: libc::SOCK_STREAM, protocol: 0, flags: wanted.flags };
    let remote = resolver::look_up_place(lp, Some(&wanted.host), Some(&wanted.service), hints)?;
    let local = match (&wanted.local_host, &wanted.local_service) {
        (None, None) => None,
        (host, service) => {
            let hints = Hints { family: wanted.family, kind: libc::SOCK_STREAM, protocol: 0, flags: libc::AI_PASSIVE };
            Some(resolver::look_up_place(lp, host.as_deref(), service.as_deref(), hints)?)
        }
    };
    let lookups: Vec<FutureRef> =
        [Some(&remote), local.as_ref()].into_iter().flatten().map(|f| FutureRef::new(f)).collect();
    let stage = Stage::Resolving { remote, local, delay: wanted.delay, interleave: wanted.interleave };
    let result = client.result.take();
    let operation = Operation::begin(lp, Connecting { client: Some(client), result, stage });
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
    let operation = unsafe { of::<Connecting>(operation) };
    if let Some(lp) = entered(operation.future()) {
        resolved(&lp, operation);
    }
}

/// A look-up is done: when it was the last one, the race begins.
fn resolved(lp: &Owned, operation: &Operation<Connecting>) {
    let found = operation.with(|work| match &work.stage {
        Stage::Resolving { remote, local, delay, interleave } => {
            Some((FutureRef::new(remote), local.as_deref().map(FutureRef::new), *delay, *interleave))
        }
        _ => None,
    });
    let Some(Some((remote, local, delay, interleave))) = found else { return };
    let all = [Some(&remote), local.as_ref()];
    if !all.into_iter().flatten().all(|future| future.is_done()) {
        return;
    }
    let failed = all.into_iter().flatten().find(|future| future.check().is_err());
    let result = match failed {
        Some(failed) => operation.end(lp, Outcome::same_as(failed)),
        None => {
            let mut targets = targets_of(&remote);
            if interleave > 0 {
                targets = connect::interleave(targets, interleave);
            }
            let race = Race::new(targets, local.as_deref().map_or(Vec::new(), targets_of), delay);
            operation.with(|work| work.stage = Stage::Racing(race));
            connect::go_on(lp, operation)
        }
    };
    if let Err(error) = result {
        connect::give_up(lp, operation);
        let _ = operation.end(lp, connect::failure_of(error));
    }
}

/// The addresses that a look-up has found.
pub(super) fn targets_of(future: &Future) -> Vec<Target> {
    let Ok(list) = future.result(Shape::Addresses) else { return Vec::new() };
    // SAFETY: the result of that shape is such a list, and valid as long as the future.
    let list = unsafe { &*list.cast_const().cast::<Addresses>() };
    let all = (0..list.count()).filter_map(|at| list.get(at));
    all.map(|found| {
        // SAFETY: an address has so many bytes.
        let bytes =
            unsafe { std::slice::from_raw_parts(found.address.pointer().cast::<u8>(), found.address.size() as usize) };
        let (family, kind, protocol) = (found.address.family(), found.kind, found.protocol);
        Target { family, kind, protocol, address: bytes.to_vec() }
    })
    .collect()
}

/// `loop.create_unix_connection`.
pub(crate) fn connect_unix(lp: &Owned, address: Vec<u8>, mut client: Client) -> Result<FutureRef> {
    let target = Target { family: libc::AF_UNIX, kind: libc::SOCK_STREAM, protocol: 0, address };
    let stage = Stage::Racing(Race::new(vec![target], Vec::new(), None));
    let result = client.result.take();
    let operation = Operation::begin(lp, Connecting { client: Some(client), result, stage });
    if let Err(error) = connect::go_on(lp, &operation) {
        connect::give_up(lp, &operation);
        operation.end(lp, connect::failure_of(error))?;
    }
    Ok(operation.into_future())
}

/// `loop.connect_accepted_socket`, and `create_connection` of a socket: on failure the descriptor stays the caller's.
pub(crate) fn adopt(lp: &Owned, fd: c_int, mut client: Client) -> Result<FutureRef> {
    check_stream(fd)?;
    listen::set_nonblocking(fd)?;
    lp.reserve(2)?;
    let result = client.result.take();
    let made = open(lp, Socket::from_raw(fd), client).map_err(|(error, _)| error)?;
    let operation = Operation::begin(lp, Connecting { client: None, result, stage: Stage::Made(made) });
    settle_soon(lp, &operation)?;
    Ok(operation.into_future())
}

fn check_stream(fd: c_int) -> Result<()> {
    if super::sock::kind_of(fd)? == libc::SOCK_STREAM {
        return Ok(());
    }
    Err(Error::INVALID.detail(|| format!("descriptor {fd} is no stream socket")))
}

/// The address of a unix socket: a path, or an abstract name, which begins with a NUL.
pub(crate) fn unix_address(name: &[u8]) -> Result<Vec<u8>> {
    // SAFETY: zeros are a valid address.
    let mut address: libc::sockaddr_un = unsafe { std::mem::zeroed() };
    let abstract_name = name.first() == Some(&0);
    if !abstract_name && name.contains(&0) {
        return Err(Error::INVALID.detail(|| "a unix socket's path has no NUL inside".into()));
    }
    let most = address.sun_path.len() - usize::from(!abstract_name);
    if name.is_empty() || name.len() > most {
        return Err(
            Error::from_code(-libc::ENAMETOOLONG).detail(|| format!("a unix socket's name has 1 to {most} bytes"))
        );
    }
    address.sun_family = libc::AF_UNIX as libc::sa_family_t;
    for (place, &byte) in address.sun_path.iter_mut().zip(name) {
        *place = byte as libc::c_char;
    }
    let size = std::mem::offset_of!(libc::sockaddr_un, sun_path) + name.len() + usize::from(!abstract_name);
    // SAFETY: the address is as large at least.
    Ok(unsafe { std::slice::from_raw_parts((&raw const address).cast::<u8>(), size) }.to_vec())
}
