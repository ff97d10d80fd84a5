//! How streams come to be: connections, servers, transports that are there already; and tasks that serve them.

use std::ffi::c_void;
use std::ptr;

use super::{EOF, PAUSED, Stream, StreamRef, protocol};
use crate::engine::callback::FreeArg;
use crate::engine::context::{Captured, Word};
use crate::engine::event_loop::Owned;
use crate::engine::exception::{self, Report};
use crate::error::{Error, Result};
use crate::net::connection::Client;
use crate::net::protocol::Protocol;
use crate::net::server::Factory;
use crate::net::transport::{OF_PROCESS, READ_EOF, READING_PAUSED, Transport, TransportRef};
use crate::task::future::Future;

/// Told of a connection that a server has taken (`client_connected_cb`).
pub type ConnectedFn = unsafe extern "C-unwind" fn(stream: *mut Stream, arg: *mut c_void);

/// What a connection is made for whose future results in a stream.
pub(crate) fn client(lp: &Owned) -> Client {
    let (stream, user) = Stream::create(None);
    Client { protocol: protocol::of(stream), context: lp.capture(None), result: Some(user.into_arg()) }
}

/// How a server makes streams.
pub(crate) fn factory(connected: ConnectedFn, arg: FreeArg) -> Factory {
    /// # Safety
    /// Its function is a [`ConnectedFn`] that the host gave together with its arg.
    unsafe fn make(factory: &Factory) -> Result<Protocol> {
        let arg = factory.arg.pointer();
        // SAFETY: by this function's contract.
        let connected = unsafe { std::mem::transmute::<*const (), ConnectedFn>(factory.function) };
        let (stream, user) = Stream::create(Some((connected, arg)));
        // Given up when the host was told of the stream, or cannot be any more.
        user.into_raw();
        Ok(protocol::of(stream))
    }
    Factory::new(make, connected as *const (), arg)
}

/// Has a transport that is there be read and written as a stream.
pub(crate) fn adopt(transport: &Transport) -> Result<StreamRef> {
    if transport.has(OF_PROCESS) {
        return Err(Error::NOT_SUPPORTED.detail(|| "the protocol of this pipe is its process's".into()));
    }
    let (stream, user) = Stream::create(None);
    transport.set_protocol(protocol::of(stream))?;
    let _ = user.transport.set(TransportRef::new(transport));
    if transport.has(READING_PAUSED) {
        user.set(PAUSED);
    }
    if transport.has(READ_EOF) {
        user.set(EOF);
    }
    Ok(user)
}

impl Stream {
    /// A task that serves the stream, keeps it; if it fails, that is told, and the connection closed.
    pub(crate) fn follow_task(&self, lp: &Owned, task: &Future) -> Result<()> {
        task.add_done_callback(lp, task_is_done, StreamRef::new(self).into_arg(), Captured::new(Word::NONE))
    }
}

unsafe extern "C-unwind" fn task_is_done(task: *mut Future, stream: *mut c_void) {
    // SAFETY: the callback has a reference to the stream, and the task is alive while its callbacks are called.
    let (task, stream) = unsafe { (&*task, &*stream.cast_const().cast::<Stream>()) };
    let Some(lp) = crate::task::combine::entered(task) else { return };
    let code = task.code();
    if code == 0 {
        return;
    }
    let _ = stream.close(&lp);
    if task.is_cancelled() || code == Error::EXIT.code() {
        return;
    }
    let what = "Unhandled exception in client_connected_cb";
    let report = Report {
        future: ptr::from_ref(task).cast(),
        transport: stream.transport().map_or(ptr::null(), |transport| ptr::from_ref(transport).cast()),
        ..Report::failed(code, what, task.message().as_deref(), task.error_object())
    };
    exception::tell(&lp, &report);
}
