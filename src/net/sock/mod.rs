//! `loop.sock_*`: operations on sockets by their descriptors.
//!
//! Each tries its system call at once. Where the kernel says "not now", the descriptor is watched, and the call tried again
//! whenever it is ready, until it has gone through. While it is watched, nobody else may watch it in that direction.

mod accept;
mod connect;
mod recv;
mod send;
mod sendfile;

use std::ffi::{CString, c_int, c_void};

pub(crate) use connect::Connect;
pub(crate) use recv::Recv;
pub(crate) use send::Send;
pub(crate) use sendfile::SendFile;

use crate::engine::callback::{Callback, FreeArg};
use crate::engine::event_loop::{EventLoop, Owned};
use crate::engine::watch::Direction;
use crate::error::{self, Error, Result};
use crate::net::address;
use crate::task::future::{FutureRef, Outcome};
use crate::task::operation::{Operation, OperationRef, Work};

/// What is done to the socket. One type for all, so that the machinery is there once.
pub(crate) enum Action {
    /// `sock_recv` and its siblings.
    Recv(Recv),
    /// `sock_sendall`, `sock_sendto`.
    Send(Send),
    /// `sock_connect`.
    Connect(Connect),
    /// `sock_accept`.
    Accept,
    /// `sock_sendfile`.
    SendFile(SendFile),
}

/// An operation on a socket.
pub(crate) struct Sock {
    fd: c_int,
    action: Action,
}

impl Action {
    fn direction(&self) -> Direction {
        match self {
            Action::Recv(_) | Action::Accept => Direction::Read,
            Action::Send(_) | Action::Connect(_) | Action::SendFile(_) => Direction::Write,
        }
    }

    /// What a failure's message begins with.
    fn describe(&self) -> String {
        match self {
            Action::Recv(_) => "recv".into(),
            Action::Send(send) => match send.address() {
                [] => "send".into(),
                address => format!("sendto {}", address::describe(address)),
            },
            Action::Connect(connect) => format!("connect {}", address::describe(connect.address())),
            Action::Accept => "accept".into(),
            Action::SendFile(_) => "sendfile".into(),
        }
    }
}

impl Sock {
    /// Tries once: the outcome, None when it is to be tried again once the descriptor is ready, or what the kernel refused it with.
    fn attempt(&mut self) -> Result<Option<Outcome>> {
        match &mut self.action {
            Action::Recv(recv) => recv.attempt(self.fd),
            Action::Send(send) => send.attempt(self.fd),
            Action::Connect(connect) => connect.attempt(self.fd),
            Action::Accept => accept::attempt(self.fd),
            Action::SendFile(sendfile) => sendfile.attempt(self.fd),
        }
    }

    /// Refuses, before anything is tried, what would block the loop or cannot be.
    fn check(&self) -> Result<()> {
        match &self.action {
            Action::Recv(_) | Action::Send(_) => Ok(()),
            Action::Connect(_) | Action::Accept => require_nonblocking(self.fd),
            Action::SendFile(sendfile) => {
                if kind_of(self.fd)? != libc::SOCK_STREAM {
                    return Err(Error::INVALID.detail(|| "sendfile sends to stream sockets".into()));
                }
                require_nonblocking(self.fd)?;
                sendfile.check()
            }
        }
    }

    fn sentence(&self, error: Error) -> String {
        format!("{}: {}", self.action.describe(), error::describe(error.code()).to_string_lossy())
    }

    fn failure(&self, error: Error) -> Outcome {
        let message = CString::new(self.sentence(error).replace('\0', " "));
        Outcome::failure(error.code(), message.ok(), FreeArg::none())
    }

    fn outcome(&self, result: Result<Outcome>) -> Outcome {
        result.unwrap_or_else(|error| self.failure(error))
    }
}

impl Work for Sock {
    const NAME: &'static str = "SocketOperation";

    fn cancel(lp: &Owned, operation: &Operation<Self>) -> bool {
        unwatch(lp, operation);
        true
    }

    fn progress(&self) -> Option<usize> {
        match &self.action {
            Action::Send(send) => send.progress(),
            Action::SendFile(sendfile) => Some(sendfile.sent()),
            _ => None,
        }
    }
}

/// Begins an operation on `fd`. None when its future is not wanted.
pub(crate) fn start(lp: &Owned, fd: c_int, action: Action, wanted: bool) -> Result<Option<FutureRef>> {
    let mut sock = Sock { fd, action };
    if lp.is_watched(fd, sock.action.direction()) {
        return Err(Error::BUSY.detail(|| format!("descriptor {fd} is being waited for already")));
    }
    sock.check()?;
    let outcome = match sock.attempt() {
        Ok(None) => return wait(lp, sock, wanted),
        Ok(Some(_)) if !wanted => return Ok(None),
        Ok(Some(outcome)) => outcome,
        Err(error) if is_about_the_call(error) => return Err(error.detail(|| sock.sentence(error))),
        Err(error) => sock.failure(error),
    };
    let operation = Operation::begin(lp, sock);
    operation.end(lp, outcome)?;
    Ok(wanted.then(|| operation.into_future()))
}

/// Whether a system call that was tried at once has refused what it was given, not failed at what it does.
fn is_about_the_call(error: Error) -> bool {
    matches!(
        -error.code(),
        libc::EBADF
            | libc::ENOTSOCK
            | libc::EINVAL
            | libc::EFAULT
            | libc::EOPNOTSUPP
            | libc::EAFNOSUPPORT
            | libc::ENOMEM
    )
}

/// Has the descriptor watched, until it is ready.
fn wait(lp: &Owned, sock: Sock, wanted: bool) -> Result<Option<FutureRef>> {
    let operation = Operation::begin(lp, sock);
    if let Err(error) = watch(lp, &operation) {
        operation.end(lp, Outcome::cancelled(None))?;
        return Err(error);
    }
    Ok(wanted.then(|| operation.into_future()))
}

fn watch(lp: &Owned, operation: &Operation<Sock>) -> Result<()> {
    let Some((fd, direction)) = target(operation) else { return Ok(()) };
    let arg = FreeArg::new(OperationRef::new(operation).into_pointer(), Some(release));
    lp.watch_internal(fd, direction, Callback { function: Some(ready), arg })
}

fn unwatch(lp: &Owned, operation: &Operation<Sock>) {
    if let Some((fd, direction)) = target(operation)
        && lp.is_watched_for(fd, direction, operation.pointer())
    {
        lp.unwatch_internal(fd, direction);
    }
}

fn target(operation: &Operation<Sock>) -> Option<(c_int, Direction)> {
    operation.with(|sock| (sock.fd, sock.action.direction()))
}

unsafe extern "C-unwind" fn release(operation: *mut c_void) {
    // SAFETY: the watcher had the reference, and gives it up.
    drop(unsafe { OperationRef::<Sock>::from_pointer(operation) });
}

/// The descriptor is ready, or will not be watched any more.
unsafe extern "C-unwind" fn ready(operation: *mut c_void) {
    // SAFETY: the watcher has a reference, which it gives up after this call.
    let operation = unsafe { &*operation.cast_const().cast::<Operation<Sock>>() };
    // SAFETY: an operation keeps its loop's memory.
    let event_loop: &EventLoop = unsafe { &*operation.future().event_loop() };
    let Ok(lp) = event_loop.enter() else { return };
    let watched = target(operation).is_none_or(|(fd, way)| lp.is_watched_for(fd, way, operation.pointer()));
    let tried = operation.with(|sock| {
        let result = match sock.action {
            // The kernel has no error to tell of, but has not said that it is over.
            Action::Connect(_) if !watched && !is_writable(sock.fd) => Ok(None),
            _ => sock.attempt(),
        };
        result.transpose().map(|result| sock.outcome(result))
    });
    let outcome = match tried {
        // It is done.
        None => return,
        Some(Some(outcome)) => outcome,
        Some(None) => {
            if watched {
                return;
            }
            // The kernel would not watch it any more: it is asked anew.
            let Err(error) = watch(&lp, operation) else { return };
            Outcome::error(error)
        }
    };
    unwatch(&lp, operation);
    // Without memory for its callbacks it stays pending, as every future does.
    let _ = operation.end(&lp, outcome);
}

fn require_nonblocking(fd: c_int) -> Result<()> {
    // SAFETY: a plain system call.
    let flags = unsafe { libc::fcntl(fd, libc::F_GETFL) };
    if flags < 0 {
        return Err(Error::last_os());
    }
    if flags & libc::O_NONBLOCK == 0 {
        return Err(Error::INVALID.detail(|| "the socket must be non-blocking".into()));
    }
    Ok(())
}

/// SOCK_STREAM, SOCK_DGRAM or another.
pub(super) fn kind_of(fd: c_int) -> Result<c_int> {
    socket_option(fd, libc::SO_TYPE)
}

/// Its protocol: IPPROTO_UDP, ...
pub(super) fn protocol_of(fd: c_int) -> Result<c_int> {
    socket_option(fd, libc::SO_PROTOCOL)
}

/// What the kernel has noted as the socket's error, which is forgotten then: an errno, or 0.
pub(super) fn pending_error(fd: c_int) -> Result<c_int> {
    socket_option(fd, libc::SO_ERROR)
}

/// Whether the socket is ready to be written to, or has failed: the end of an attempt to connect it.
pub(super) fn is_writable(fd: c_int) -> bool {
    is_ready(fd, libc::POLLOUT)
}

/// Whether a descriptor is ready for that, or has failed, without waiting. A signal that comes meanwhile is no answer.
pub(super) fn is_ready(fd: c_int, events: i16) -> bool {
    loop {
        let mut look = libc::pollfd { fd, events, revents: 0 };
        // SAFETY: one descriptor to look at.
        let count = unsafe { libc::poll(&raw mut look, 1, 0) };
        if count >= 0 || Error::last_os() != Error::INTERRUPTED {
            return count > 0;
        }
    }
}

/// An option of the socket's that is a number.
fn socket_option(fd: c_int, option: c_int) -> Result<c_int> {
    let mut value: c_int = 0;
    let mut size = size_of::<c_int>() as libc::socklen_t;
    // SAFETY: the value has room for what the kernel is told it has.
    let result = unsafe { libc::getsockopt(fd, libc::SOL_SOCKET, option, (&raw mut value).cast(), &raw mut size) };
    if result < 0 { Err(Error::last_os()) } else { Ok(value) }
}

/// Calls the kernel until no signal interrupts it: a count, or None when it would have to wait.
fn call(mut system_call: impl FnMut() -> isize) -> Result<Option<usize>> {
    tried(|| usize::try_from(system_call()).map_err(|_| Error::last_os()))
}

/// Tries until no signal interrupts it: None when it would have to wait.
pub(super) fn tried<R>(mut attempt: impl FnMut() -> Result<R>) -> Result<Option<R>> {
    loop {
        match attempt() {
            Ok(result) => return Ok(Some(result)),
            Err(error) if error == Error::INTERRUPTED => {}
            Err(error) if error.code() == -libc::EAGAIN => return Ok(None),
            Err(error) => return Err(error),
        }
    }
}

/// Room for the address of a peer.
struct Peer {
    storage: libc::sockaddr_storage,
    size: libc::socklen_t,
}

impl Peer {
    fn new() -> Peer {
        // SAFETY: an address is plain bytes, for which zero is a value.
        Peer { storage: unsafe { std::mem::zeroed() }, size: size_of::<libc::sockaddr_storage>() as libc::socklen_t }
    }

    fn pointers(&mut self) -> (*mut libc::sockaddr, *mut libc::socklen_t) {
        (std::ptr::from_mut(&mut self.storage).cast(), &raw mut self.size)
    }

    fn bytes(&self) -> Vec<u8> {
        let size = (self.size as usize).min(size_of::<libc::sockaddr_storage>());
        // SAFETY: the storage has that many bytes, all of them written.
        unsafe { std::slice::from_raw_parts((&raw const self.storage).cast::<u8>(), size) }.to_vec()
    }
}
