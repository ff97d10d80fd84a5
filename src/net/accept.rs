//! Taking connections (`asyncio.selector_events._accept_connection`).

use std::ffi::{c_int, c_void};
use std::ptr;
use std::sync::Arc;

use super::listen::Socket;
use super::server::{self, Server};
use super::transport::Transport;
use crate::engine::event_loop::Owned;
use crate::engine::exception::{self, Raised, Report};
use crate::engine::thread;
use crate::engine::watch::Direction;
use crate::error::{Error, Result};

/// How long nothing is accepted after that has failed, for want of descriptors or memory or because the socket is broken
/// (`ACCEPT_RETRY_DELAY`).
pub(super) const RETRY: i64 = 1_000_000_000;
/// So many connections are taken before others have their turn.
pub(super) const TURN: c_int = 128;

/// A listening socket is readable.
pub(super) unsafe extern "C-unwind" fn ready(arg: *mut c_void) {
    // SAFETY: the watcher has what `Server::watch` made.
    let Some((server, at, lp)) = (unsafe { server::enter(arg) }) else { return };
    if take(server, &lp, at) && server.listener(at).is_some_and(|fd| !lp.is_watched_for(fd, Direction::Read, arg)) {
        // The kernel would not watch the socket any more: it is asked anew.
        server.watch_again(&lp, at);
    }
}

/// How many connections to take now: as many as came the last time, since to look for one more than there are costs as much as another
/// one; when the next poll told at once that there were more, twice as many.
fn plan(server: &Server, lp: &Owned, at: usize) -> c_int {
    let most = server.backlog.clamp(1, TURN);
    let polls = lp.polls();
    let listeners = server.listeners.borrow();
    let Some(listener) = listeners.get(at) else { return most };
    let again = listener.taken_at.replace(polls) + 1 == polls;
    let burst = listener.burst.get().saturating_mul(if again { 2 } else { 1 }).min(most);
    listener.burst.set(burst);
    burst
}

/// Takes the connections there are. False: nothing is to be done any more, or not now.
fn take(server: &Arc<Server>, lp: &Owned, at: usize) -> bool {
    for taken in 0..plan(server, lp, at) {
        let Some(fd) = server.listener(at) else { return false };
        match accept(fd) {
            Ok(Some(socket)) => {
                // Whoever waits for the end of a server that its factory closes waits for this one, too.
                server.attach();
                if !welcome(server, lp, socket) {
                    return false;
                }
                server.detach(lp);
            }
            Ok(None) => {
                if let Some(listener) = server.listeners.borrow().get(at) {
                    listener.burst.set(taken.max(1));
                }
                break;
            }
            Err(error) => {
                server.pause(lp, at, RETRY);
                let wanting = matches!(-error.code(), libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM);
                tell(
                    lp,
                    error.code(),
                    if wanting { "socket.accept() out of system resource" } else { "socket.accept() failed" },
                    None,
                );
                return false;
            }
        }
        // An exit that was asked for comes first.
        if thread::current().attention.get() != 0 {
            break;
        }
    }
    true
}

/// Takes one connection; None: there is none. A failure lasts: what the socket waits for is there already.
fn accept(fd: c_int) -> Result<Option<Socket>> {
    loop {
        // SAFETY: a plain system call; the address is not asked for.
        let accepted =
            unsafe { libc::accept4(fd, ptr::null_mut(), ptr::null_mut(), libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC) };
        if accepted >= 0 {
            return Ok(Some(Socket::from_raw(accepted)));
        }
        let error = Error::last_os();
        match -error.code() {
            libc::EINTR => {}
            // The connection is gone, or its network failed, or a firewall refused it, before it was taken.
            libc::EAGAIN
            | libc::ECONNABORTED
            | libc::EPERM
            | libc::EPROTO
            | libc::ETIMEDOUT
            | libc::ENETDOWN
            | libc::ENOPROTOOPT
            | libc::EHOSTDOWN
            | libc::ENONET
            | libc::EHOSTUNREACH
            | libc::EOPNOTSUPP
            | libc::ENETUNREACH => return Ok(None),
            _ => return Err(error),
        }
    }
}

/// Makes a connection a transport. False: the loop is not to be touched any more.
fn welcome(server: &Arc<Server>, lp: &Owned, socket: Socket) -> bool {
    let factory = &server.factory;
    let started = lp.stopwatch();
    // SAFETY: the context stays in the server, which the watcher keeps; the host gave function and arg together.
    let called = unsafe { lp.call_host(server.context.as_ptr(), || ((factory.make)(factory), lp.capture(None))) };
    lp.report_slow(started, || "the factory of a server's protocols".into());
    if thread::current().attention.get() & (thread::FORKED | thread::BROKEN) != 0 {
        return false;
    }
    const WHAT: &str = "Error on transport creation for incoming connection";
    match called {
        Ok(((Ok(protocol), context), None)) => {
            match Transport::open(lp, socket.fd(), protocol, context, Some(server)) {
                // It is the transport's now.
                Ok(_) => _ = socket.into_raw(),
                Err(error) => tell(lp, error.code(), WHAT, None),
            }
        }
        Ok((_, Some(raised))) => tell(lp, raised.code, WHAT, Some(raised)),
        Ok(((Err(error), _), None)) | Err(error) => tell(lp, error.code(), WHAT, None),
    }
    true
}

pub(super) fn tell(lp: &Owned, code: c_int, what: &str, raised: Option<Box<Raised>>) {
    let report = Report::of_raised(code, what, raised.as_deref());
    exception::tell(lp, &report);
}
