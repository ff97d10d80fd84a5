//! Making servers (`loop.create_server`, `create_unix_server`): hosts are looked up, sockets bound, and connections taken.

use std::ffi::{CString, c_int, c_void};
use std::sync::Arc;

use super::connect::Target;
use super::listen::{self, Listening, Socket};
use super::resolver::{self, Hints};
use super::server::{Factory, Server};
use super::stream::{targets_of, unix_address};
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

/// `loop.create_server`: of every address of every host; no hosts: of every interface.
pub(crate) fn serve(
    lp: &Owned,
    hosts: &[Option<CString>],
    service: &CString,
    family: c_int,
    plan: Plan,
) -> Result<FutureRef> {
    let everywhere = [None];
    let hosts = if hosts.is_empty() { &everywhere[..] } else { hosts };
    let hints = || Hints { family, kind: libc::SOCK_STREAM, protocol: 0, flags: libc::AI_PASSIVE };
    let mut lookups = Vec::new();
    for host in hosts {
        lookups.push(resolver::look_up(lp, host.as_deref(), Some(service), hints())?);
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
    let mut sockets = Vec::new();
    for target in targets {
        match listen::bind(target.family, target.protocol, &target.address, listening) {
            Ok(socket) => sockets.push(socket),
            // The system has no such family, whatever the resolver says.
            Err(error) if error.code() == -libc::EAFNOSUPPORT && targets.len() > 1 => {}
            Err(error) => {
                let text = listen::sentence("bind", &target.address, error);
                return Err((error, CString::new(text).ok()));
            }
        }
    }
    if sockets.is_empty() { Err((Error::from_code(-libc::EAFNOSUPPORT), None)) } else { Ok(sockets) }
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
    let server = make(lp, vec![Socket::from_raw(fd)], plan)?;
    done(lp, server)
}
