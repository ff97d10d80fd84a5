//! Servers (`asyncio.Server`): listening sockets, the connections they have taken, and who waits for their end.

use std::cell::{Cell, RefCell, UnsafeCell};
use std::ffi::{c_int, c_void};
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicPtr, Ordering};

use super::accept;
use super::life;
use super::listen::{self, Socket};
use super::protocol::{Callbacks, Protocol};
use super::transport::TransportRef;
use crate::engine::callback::{Callback, FreeArg};
use crate::engine::context::{Captured, Word};
use crate::engine::event_loop::{EventLoop, Owned};
use crate::engine::handle::Handle;
use crate::engine::operations::{NOWHERE, Operation as Kept};
use crate::engine::schedule;
use crate::engine::watch::Direction;
use crate::error::{Error, Result};
use crate::task::future::{Future, FutureRef, Outcome};
use crate::task::operation::{Operation, OperationRef, Work};

/// Has the host make a protocol for a connection; knows the C type of the factory's function.
pub type MakeProtocol = unsafe fn(factory: &Factory) -> Result<Protocol>;

/// How a server makes protocols.
pub struct Factory {
    /// Knows the C type of `function`.
    pub make: MakeProtocol,
    /// The host's function.
    pub function: *const (),
    /// What it is called with.
    pub arg: FreeArg,
    /// The table of the protocol made last: most often that of the next one, too.
    pub known: RefCell<Option<Arc<Callbacks>>>,
}

impl Factory {
    /// A factory that has made nothing yet.
    pub fn new(make: MakeProtocol, function: *const (), arg: FreeArg) -> Factory {
        Factory { make, function, arg, known: RefCell::new(None) }
    }
}

/// A listening socket.
pub(super) struct Listener {
    pub(super) socket: Socket,
    /// Accepting has failed for want of something: it is tried again when this timer fires.
    pub(super) retry: Cell<*const Handle>,
    /// How many connections to take before the poller is asked whether there are more.
    pub(super) burst: Cell<c_int>,
    /// How often the loop had polled when connections were taken last.
    pub(super) taken_at: Cell<u64>,
}

/// A server. Used on its loop's thread, but for its references.
pub struct Server {
    /// Something of the loop's, which keeps its memory.
    anchor: FutureRef,
    pub(super) listeners: RefCell<Vec<Listener>>,
    pub(super) factory: Factory,
    /// The context in which connections are taken.
    pub(super) context: Cell<Word>,
    pub(super) backlog: c_int,
    serving: Cell<bool>,
    closed: Cell<bool>,
    connections: Cell<usize>,
    waiters: RefCell<Vec<OperationRef<WaitClosed>>>,
    forever: RefCell<Option<OperationRef<Forever>>>,
    /// Where it stands among what the loop has under way, while it serves.
    place: Cell<u32>,
    data: AtomicPtr<c_void>,
    data_free: UnsafeCell<FreeArg>,
}

// SAFETY: what is in cells is touched by the loop's owner only, or dropped with the last reference.
unsafe impl Send for Server {}
// SAFETY: as above.
unsafe impl Sync for Server {}

/// Waits until a server is closed and its connections are gone.
struct WaitClosed;

impl Work for WaitClosed {
    const NAME: &'static str = "wait_closed";
    fn cancel(_: &Owned, _: &Operation<Self>) -> bool {
        true
    }
}

/// Serves until it is cancelled.
struct Forever {
    server: Arc<Server>,
}

impl Work for Forever {
    const NAME: &'static str = "serve_forever";
    fn cancel(lp: &Owned, operation: &Operation<Self>) -> bool {
        if let Some(server) = operation.with(|work| work.server.clone()) {
            *server.forever.borrow_mut() = None;
            server.close(lp);
        }
        true
    }
}

impl Server {
    /// Makes a server of bound sockets. It does not listen yet.
    pub(crate) fn create(
        lp: &Owned,
        sockets: Vec<Socket>,
        backlog: c_int,
        factory: Factory,
        context: Captured,
    ) -> Arc<Server> {
        // SAFETY: the reference is new.
        let anchor = unsafe { FutureRef::from_raw(Future::create(lp)) };
        let listener = |socket| Listener {
            socket,
            retry: Cell::new(ptr::null()),
            burst: Cell::new(accept::TURN),
            taken_at: Cell::new(0),
        };
        let listeners = sockets.into_iter().map(listener).collect();
        Arc::new(Server {
            anchor,
            listeners: RefCell::new(listeners),
            factory,
            context: Cell::new(context.into_word()),
            backlog,
            serving: Cell::new(false),
            closed: Cell::new(false),
            connections: Cell::new(0),
            waiters: RefCell::new(Vec::new()),
            forever: RefCell::new(None),
            place: Cell::new(NOWHERE),
            data: AtomicPtr::new(ptr::null_mut()),
            data_free: UnsafeCell::new(FreeArg::none()),
        })
    }

    pub(crate) fn event_loop(&self) -> *const EventLoop {
        self.anchor.event_loop()
    }

    /// `Server.is_serving`.
    pub(crate) fn is_serving(&self) -> bool {
        self.serving.get()
    }

    /// `Server.start_serving`.
    pub(crate) fn start_serving(self: &Arc<Self>, lp: &Owned) -> Result<()> {
        if self.closed.get() {
            return Err(Error::INVALID_STATE.detail(|| "the server is closed".into()));
        }
        if self.serving.replace(true) {
            return Ok(());
        }
        let mut watched = 0;
        let begun = self.listeners.borrow().iter().enumerate().try_for_each(|(at, listener)| {
            listen::listen(listener.socket.fd(), self.backlog)
                .map_err(|error| error.detail(|| "listen failed".into()))?;
            self.watch(lp, at, listener)?;
            watched = at + 1;
            Ok(())
        });
        if let Err(error) = begun {
            self.serving.set(false);
            // The one that failed may be somebody else's.
            self.unwatch(lp, watched);
            return Err(error);
        }
        let object = Arc::into_raw(self.clone()).cast();
        self.place.set(lp.begin(Kept { object, abandon, is_task: false }));
        Ok(())
    }

    /// The sockets stay whose they were.
    pub(super) fn give_back_sockets(&self) {
        for listener in std::mem::take(&mut *self.listeners.borrow_mut()) {
            listener.socket.into_raw();
        }
    }

    /// Has connections be taken.
    fn watch(self: &Arc<Self>, lp: &Owned, at: usize, listener: &Listener) -> Result<()> {
        let arg = Box::into_raw(Box::new((self.clone(), at)));
        let arg = FreeArg::new(arg.cast(), Some(release));
        lp.watch_internal(listener.socket.fd(), Direction::Read, Callback { function: Some(accept::ready), arg })
    }

    /// Takes no more connections from the first `count` sockets.
    fn unwatch(&self, lp: &Owned, count: usize) {
        for listener in self.listeners.borrow().iter().take(count) {
            lp.unwatch_internal(listener.socket.fd(), Direction::Read);
            stop_timer(listener.retry.replace(ptr::null()));
        }
    }

    /// `Server.close`: takes no more connections; those there are go on.
    pub(crate) fn close(self: &Arc<Self>, lp: &Owned) {
        if self.closed.replace(true) {
            return;
        }
        // Whatever is released here may have been the last reference but the caller's.
        if self.serving.get() {
            self.unwatch(lp, usize::MAX);
        }
        drop(std::mem::take(&mut *self.listeners.borrow_mut()));
        if self.serving.replace(false) {
            lp.end_operation(self.place.replace(NOWHERE));
            // SAFETY: the loop's reference; the caller has another one.
            drop(unsafe { Arc::from_raw(Arc::as_ptr(self)) });
        }
        let forever = self.forever.borrow_mut().take();
        if let Some(forever) = forever {
            let _ = forever.end(lp, Outcome::cancelled(None));
        }
        self.consider_waking(lp);
    }

    /// A connection was made.
    pub(super) fn attach(&self) {
        self.connections.set(self.connections.get() + 1);
    }

    /// A connection is gone.
    pub(super) fn detach(&self, lp: &Owned) {
        self.connections.set(self.connections.get() - 1);
        self.consider_waking(lp);
    }

    /// Closes or aborts every connection: how many there are.
    pub(crate) fn end_clients(&self, lp: &Owned, abort: bool) -> c_int {
        let clients: Vec<TransportRef> = life::all(lp).filter(|client| ptr::eq(client.server(), self)).collect();
        for client in &clients {
            if abort { client.force_close(lp, 0) } else { client.close(lp) }
        }
        c_int::try_from(clients.len()).unwrap_or(c_int::MAX)
    }

    fn is_over(&self) -> bool {
        self.closed.get() && self.connections.get() == 0
    }

    fn consider_waking(&self, lp: &Owned) {
        if self.is_over() {
            let waiters = std::mem::take(&mut *self.waiters.borrow_mut());
            for waiter in waiters {
                let _ = waiter.end(lp, Outcome::nothing());
            }
        }
    }

    /// `Server.wait_closed`.
    pub(crate) fn wait_closed(&self, lp: &Owned) -> Result<FutureRef> {
        let operation = Operation::begin(lp, WaitClosed);
        let future = FutureRef::new(operation.future());
        if self.is_over() {
            operation.end(lp, Outcome::nothing())?;
        } else {
            let mut waiters = self.waiters.borrow_mut();
            // Those that were cancelled, or waited long enough, are not kept.
            let gone: Vec<_> = waiters.extract_if(.., |waiter| waiter.future().is_done()).collect();
            waiters.push(operation);
            drop((waiters, gone));
        }
        Ok(future)
    }

    /// `Server.serve_forever`.
    pub(crate) fn serve_forever(self: &Arc<Self>, lp: &Owned) -> Result<FutureRef> {
        if self.forever.borrow().is_some() {
            return Err(Error::INVALID_STATE.detail(|| "the server is already being served forever".into()));
        }
        self.start_serving(lp)?;
        let operation = Operation::begin(lp, Forever { server: self.clone() });
        let future = FutureRef::new(operation.future());
        *self.forever.borrow_mut() = Some(operation);
        Ok(future)
    }

    /// The descriptor of one of its sockets, while it serves.
    pub(super) fn listener(&self, at: usize) -> Option<c_int> {
        self.listeners.borrow().get(at).map(|listener| listener.socket.fd()).filter(|_| self.serving.get())
    }

    /// The descriptors of its sockets.
    pub(crate) fn descriptors(&self) -> Vec<c_int> {
        self.listeners.borrow().iter().map(|listener| listener.socket.fd()).collect()
    }

    /// Accepting has failed for want of something; it is tried again later.
    pub(super) fn pause(self: &Arc<Self>, lp: &Owned, at: usize, delay: i64) {
        let listeners = self.listeners.borrow();
        let Some(listener) = listeners.get(at) else { return };
        lp.unwatch_internal(listener.socket.fd(), Direction::Read);
        let arg = FreeArg::new(Box::into_raw(Box::new((self.clone(), at))).cast(), Some(release));
        let when = lp.time().saturating_add(delay);
        let timer = lp.call_at(when, Callback { function: Some(resume), arg }, Captured::new(Word::NONE), true);
        stop_timer(listener.retry.replace(timer.unwrap_or(ptr::null())));
    }

    /// Has connections be taken again, now or later.
    pub(super) fn watch_again(self: &Arc<Self>, lp: &Owned, at: usize) {
        let watched = match self.listeners.borrow().get(at).filter(|_| self.is_serving()) {
            Some(listener) => self.watch(lp, at, listener),
            None => return,
        };
        if let Err(error) = watched {
            self.pause(lp, at, accept::RETRY);
            accept::tell(lp, error.code(), "the listening socket cannot be watched", None);
        }
    }

    pub(crate) fn data(&self) -> *mut c_void {
        self.data.load(Ordering::Acquire)
    }

    pub(crate) fn set_data(&self, data: FreeArg) {
        self.data.store(data.pointer(), Ordering::Release);
        // SAFETY: the owner's; dropped after it was taken out, because that calls the host.
        let old = unsafe { std::mem::replace(&mut *self.data_free.get(), data) };
        drop(old);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        for listener in self.listeners.get_mut() {
            stop_timer(listener.retry.replace(ptr::null()));
        }
        self.context.replace(Word::NONE).release();
    }
}

fn stop_timer(timer: *const Handle) {
    // SAFETY: NULL, or a reference that is given up.
    unsafe {
        if let Some(handle) = timer.as_ref() {
            let _ = schedule::cancel(handle);
            Handle::release_ptr(timer);
        }
    }
}

/// The server and the listener that a callback of ours was given, and the loop.
///
/// # Safety
/// `arg` is what [`Server::watch`] or [`Server::pause`] made.
pub(super) unsafe fn enter<'a>(arg: *mut c_void) -> Option<(&'a Arc<Server>, usize, Owned<'a>)> {
    // SAFETY: by this function's contract; a server keeps its loop's memory.
    unsafe {
        let (server, at) = &*arg.cast_const().cast::<(Arc<Server>, usize)>();
        Some((server, *at, (*server.event_loop()).enter().ok()?))
    }
}

/// # Safety
/// As [`enter`]; `arg` is given up.
unsafe extern "C-unwind" fn release(arg: *mut c_void) {
    // SAFETY: by this function's contract.
    drop(unsafe { Box::from_raw(arg.cast::<(Arc<Server>, usize)>()) });
}

/// It is time to try again.
unsafe extern "C-unwind" fn resume(arg: *mut c_void) {
    // SAFETY: the timer has what `pause` made.
    let Some((server, at, lp)) = (unsafe { enter(arg) }) else { return };
    server.watch_again(&lp, at);
}

/// The loop is closed.
///
/// # Safety
/// `object` is a server, and a reference that is given up.
unsafe fn abandon(object: *const ()) {
    // SAFETY: by this function's contract.
    let server = unsafe { Arc::from_raw(object.cast::<Server>()) };
    server.closed.set(true);
    server.serving.set(false);
    let sockets = std::mem::take(&mut *server.listeners.borrow_mut());
    for listener in &sockets {
        stop_timer(listener.retry.replace(ptr::null()));
    }
    let waiters = std::mem::take(&mut *server.waiters.borrow_mut());
    let forever = server.forever.borrow_mut().take();
    drop((sockets, waiters, forever));
}
