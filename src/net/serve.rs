//! Making servers (`loop.create_server`, `create_unix_server`): hosts are looked up, sockets bound, and connections taken.

use std::ffi::{CStr, CString, c_int, c_void};
use std::sync::Arc;

use super::connect::Target;
use super::connection::{targets_of, unix_address};
use super::listen::{self, Listening, Socket};
use super::resolver::{self, Hints};
use super::server::{Factory, Server};
use crate::engine::callback::FreeArg;
use crate::engine::context::Captured;
use crate::engine::event_loop::Owned;
use crate::error::{Error, Result};
use crate::task::combine::{entered, follow, of};
use crate::task::future::{Future, FutureRef, Outcome};
use crate::task::operation::{Operation, Work};

/// What a server is made of.
pub(crate) struct Plan {
    pub(crate) factory: Factory,
    pub(crate) context: Captured,
    pub(crate) listening: Listening,
    pub(crate) backlog: c_int,
    pub(crate) start: bool,
}

/// A server whose hosts are being looked up.
struct Serving {
    plan: Option<Plan>,
    lookups: Vec<FutureRef>,
}

impl Work for Serving {
    const NAME: &'static str = "create_server";

    fn cancel(lp: &Owned, operation: &Operation<Self>) -> bool {
        let lookups = operation.with(|work| std::mem::take(&mut work.lookups)).unwrap_or_default();
        for lookup in lookups {
            let _ = lookup.cancel(lp, Error::CANCELLED, None);
        }
        true
    }
}

/// Every interface, which the system need not be asked for.
const EVERYWHERE: [&CStr; 2] = [c"0.0.0.0", c"::"];

/// `loop.create_server`: of every address of every host; no hosts: of every interface.
pub(crate) fn serve(
    lp: &Owned,
    hosts: &[Option<CString>],
    service: &CString,
    family: c_int,
    plan: Plan,
) -> Result<FutureRef> {
    let hints = || Hints { family, kind: libc::SOCK_STREAM, protocol: 0, flags: libc::AI_PASSIVE };
    let everywhere = match family {
        libc::AF_INET => &EVERYWHERE[..1],
        libc::AF_INET6 => &EVERYWHERE[1..],
        _ => &EVERYWHERE,
    };
    let mut lookups = Vec::new();
    let mut look_up = |host: &CStr| -> Result<()> {
        lookups.push(resolver::look_up_place(lp, Some(host), Some(service), hints())?);
        Ok(())
    };
    for host in if hosts.is_empty() { &[None] } else { hosts } {
        match host.as_deref().filter(|host| !host.is_empty()) {
            Some(host) => look_up(host)?,
            None => everywhere.iter().try_for_each(|host| look_up(host))?,
        }
    }
    let watched: Vec<FutureRef> = lookups.iter().map(|future| FutureRef::new(future)).collect();
    let operation = Operation::begin(lp, Serving { plan: Some(plan), lookups });
    if watched.iter().all(|future| future.is_done()) {
        resolved(lp, &operation);
    } else {
        for future in &watched {
            follow(lp, future, &operation, looked_up)?;
        }
    }
    Ok(operation.into_future())
}

unsafe extern "C-unwind" fn looked_up(_: *mut Future, operation: *mut c_void) {
    // SAFETY: the callback has a reference.
    let operation = unsafe { of::<Serving>(operation) };
    if let Some(lp) = entered(operation.future()) {
        resolved(&lp, operation);
    }
}

/// A look-up is done: when it was the last one, the server is made.
fn resolved(lp: &Owned, operation: &Operation<Serving>) {
    let done = operation.with(|work| work.lookups.iter().all(|future| future.is_done()));
    if done != Some(true) {
        return;
    }
    let lookups = operation.with(|work| std::mem::take(&mut work.lookups)).unwrap_or_default();
    if let Some(failed) = lookups.iter().find(|future| future.check().is_err()) {
        let _ = operation.end(lp, Outcome::same_as(failed));
        return;
    }
    let mut targets: Vec<Target> = Vec::new();
    for target in lookups.iter().flat_map(|future| targets_of(future)) {
        // A host that is named twice is bound once.
        if !targets.iter().any(|known| known.address == target.address) {
            targets.push(target);
        }
    }
    let Some(plan) = operation.with(|work| work.plan.take()).flatten() else { return };
    let sockets = bind_all(&targets, &plan.listening);
    let outcome = sockets.and_then(|sockets| make(lp, sockets, plan).map_err(|error| (error, None)));
    let _ = operation.end(
        lp,
        outcome.map_or_else(|(error, text)| Outcome::failure(error.code(), text, FreeArg::none()), outcome_of),
    );
}

/// A failure with its sentence.
type Failed = (Error, Option<CString>);

fn bind_all(targets: &[Target], listening: &Listening) -> std::result::Result<Vec<Socket>, Failed> {
    let (mut sockets, mut missing) = (Vec::new(), None);
    for target in targets {
        match listen::bind(target.family, target.protocol, &target.address, listening) {
            Ok(socket) => sockets.push(socket),
            Err(error) => {
                let failed = (error, CString::new(listen::sentence("bind", &target.address, error)).ok());
                // The system has no such family or address, whatever the resolver says: the others do.
                if !matches!(-error.code(), libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL) {
                    return Err(failed);
                }
                missing = missing.or(Some(failed));
            }
        }
    }
    match missing {
        Some(failed) if sockets.is_empty() => Err(failed),
        _ => Ok(sockets),
    }
}

fn make(lp: &Owned, sockets: Vec<Socket>, plan: Plan) -> Result<Arc<Server>> {
    let server = Server::create(lp, sockets, plan.backlog, plan.factory, plan.context);
    if plan.start {
        server.start_serving(lp)?;
    }
    Ok(server)
}

fn outcome_of(server: Arc<Server>) -> Outcome {
    Outcome::pointer(FreeArg::new(Arc::into_raw(server).cast_mut().cast(), Some(release)))
}

unsafe extern "C-unwind" fn release(server: *mut c_void) {
    // SAFETY: the outcome's reference.
    drop(unsafe { Arc::from_raw(server.cast_const().cast::<Server>()) });
}

/// A server of sockets that are there already: the future is done.
fn done(lp: &Owned, server: Arc<Server>) -> Result<FutureRef> {
    let operation = Operation::begin(lp, Serving { plan: None, lookups: Vec::new() });
    operation.end(lp, outcome_of(server))?;
    Ok(operation.into_future())
}

/// `loop.create_unix_server`. A socket's file that nobody listens at is replaced.
pub(crate) fn serve_unix(lp: &Owned, name: &[u8], plan: Plan) -> Result<FutureRef> {
    let address = unix_address(name)?;
    if name.first() != Some(&0)
        && let Ok(path) = CString::new(name)
    {
        listen::remove_stale(&path);
    }
    let socket = listen::bind(libc::AF_UNIX, 0, &address, &plan.listening)?;
    done(lp, make(lp, vec![socket], plan)?)
}

/// `loop.create_server` of a socket that is bound. On failure it stays the caller's.
pub(crate) fn serve_socket(lp: &Owned, fd: c_int, plan: Plan) -> Result<FutureRef> {
    if super::sock::kind_of(fd)? != libc::SOCK_STREAM {
        return Err(Error::INVALID.detail(|| format!("descriptor {fd} is no stream socket")));
    }
    listen::set_nonblocking(fd)?;
    let server = Server::create(lp, vec![Socket::from_raw(fd)], plan.backlog, plan.factory, plan.context);
    if plan.start
        && let Err(error) = server.start_serving(lp)
    {
        server.give_back_sockets();
        return Err(error);
    }
    done(lp, server)
}
