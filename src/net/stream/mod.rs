//! Streams (`asyncio.StreamReader`, `StreamWriter`): a transport for those who would rather read than be called.
//!
//! A stream is what its transport's protocol is called with ([`protocol`]): it keeps what was received until it is [`read`], and knows
//! who [`wait`]s for room to write, or for the end. The transport has a reference to it, and it has one to the transport, until the
//! connection is lost. [`Stream::users`] counts the references of the host, and of operations under way: a stream that nobody uses any
//! more is closed.

mod buffer;
mod direct;
pub(crate) mod open;
mod protocol;
pub(crate) mod read;
pub(crate) mod wait;

use std::cell::{Cell, OnceCell, RefCell};
use std::ffi::{c_int, c_void};
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::transport::{Transport, TransportRef};
use crate::engine::callback::FreeArg;
use crate::engine::event_loop::{EventLoop, Owned};
use crate::engine::inbox;
use crate::error::{Error, Result};
use crate::task::future::{Future, FutureRef, Outcome};
use crate::task::operation::OperationRef;
use buffer::Buffer;
pub use open::ConnectedFn;
use read::Read;
use wait::Wait;

/// The peer sends no more.
const EOF: u32 = 1;
/// Reading was paused, because too much lies unread.
const PAUSED: u32 = 2;
/// The connection is lost, or the transport has got another protocol.
const LOST: u32 = 4;
/// Nobody uses the stream: what comes is dropped.
const UNUSED: u32 = 8;
/// What comes goes straight into the memory of the read that waits.
const DIRECT: u32 = 16;

/// `asyncio.streams._DEFAULT_LIMIT`.
const LIMIT: usize = 64 * 1024;

/// A stream. Used on its loop's thread, but for its references.
pub struct Stream {
    /// There from before the host gets to know the stream.
    transport: OnceCell<TransportRef>,
    /// References of the host, and of what is under way: together they have one of the Arc.
    users: AtomicUsize,
    flags: Cell<u32>,
    /// What the connection was lost by; 0: nothing, or it is not lost.
    code: Cell<c_int>,
    limit: Cell<usize>,
    buffer: RefCell<Buffer>,
    /// The read that waits.
    reader: Cell<Option<OperationRef<Read>>>,
    /// Who waits for room to write, or for the end.
    waiters: Cell<Vec<OperationRef<Wait>>>,
    /// What a server calls with it.
    connected: Cell<Option<(ConnectedFn, *mut c_void)>>,
}

// SAFETY: what is in cells is touched by the loop's owner only, or dropped with the last reference; the transport is set before others
// get to know the stream.
unsafe impl Send for Stream {}
// SAFETY: as above.
unsafe impl Sync for Stream {}

/// A reference of somebody who uses the stream.
pub(crate) struct StreamRef(*const Stream);

impl StreamRef {
    /// The caller has one, too.
    pub(crate) fn new(stream: &Stream) -> StreamRef {
        stream.retain();
        StreamRef(stream)
    }

    pub(crate) fn into_raw(self) -> *mut Stream {
        let pointer = self.0.cast_mut();
        std::mem::forget(self);
        pointer
    }

    /// Has the reference be given up with whatever is called with the stream.
    pub(crate) fn into_arg(self) -> FreeArg {
        FreeArg::new(self.into_raw().cast(), Some(release))
    }
}

impl std::ops::Deref for StreamRef {
    type Target = Stream;
    fn deref(&self) -> &Stream {
        // SAFETY: the reference keeps it.
        unsafe { &*self.0 }
    }
}

impl Drop for StreamRef {
    fn drop(&mut self) {
        // SAFETY: this owns the reference.
        unsafe { Stream::release_ptr(self.0) };
    }
}

/// Gives up a reference of somebody who uses the stream.
///
/// # Safety
/// `stream` is such a reference.
unsafe extern "C-unwind" fn release(stream: *mut c_void) {
    // SAFETY: by this function's contract.
    unsafe { Stream::release_ptr(stream.cast_const().cast()) };
}

/// A future that is done.
fn done(lp: &Owned, outcome: Outcome) -> Result<FutureRef> {
    // SAFETY: the reference is new.
    let future = unsafe { FutureRef::from_raw(Future::create(lp)) };
    future.complete(lp, outcome)?;
    Ok(future)
}

impl Stream {
    /// A stream that has no transport yet, and a reference for whoever will use it.
    fn create(connected: Option<(ConnectedFn, *mut c_void)>) -> (Arc<Stream>, StreamRef) {
        let stream = Arc::new(Stream {
            transport: OnceCell::new(),
            users: AtomicUsize::new(1),
            flags: Cell::new(0),
            code: Cell::new(0),
            limit: Cell::new(LIMIT),
            buffer: RefCell::default(),
            reader: Cell::new(None),
            waiters: Cell::default(),
            connected: Cell::new(connected),
        });
        let user = StreamRef(Arc::into_raw(stream.clone()));
        (stream, user)
    }

    fn has(&self, flags: u32) -> bool {
        self.flags.get() & flags != 0
    }

    fn set(&self, flags: u32) {
        self.flags.set(self.flags.get() | flags);
    }

    fn clear(&self, flags: u32) {
        self.flags.set(self.flags.get() & !flags);
    }

    /// Another reference of somebody who uses it; there is one.
    pub(crate) fn retain(&self) {
        self.users.fetch_add(1, Ordering::Relaxed);
    }

    /// The transport, which is there whenever the host can ask.
    pub(crate) fn transport(&self) -> Result<&Transport> {
        self.transport.get().map(|transport| &**transport).ok_or(Error::INVALID_STATE)
    }

    /// The transport, if the stream is what it calls. A protocol that has taken it over from inside of a call is not known of until that
    /// call returns.
    fn own_transport(&self) -> Option<&Transport> {
        let transport = self.transport().ok()?;
        (!self.has(LOST) && transport.calls_with(ptr::from_ref(self).cast())).then_some(transport)
    }

    /// The loop, whose memory the transport keeps.
    pub(crate) fn event_loop(&self) -> *const EventLoop {
        self.transport.get().map_or(ptr::null(), |transport| transport.event_loop())
    }

    /// What the connection was lost by.
    pub(crate) fn code(&self) -> c_int {
        self.code.get()
    }

    /// `StreamWriter.close`.
    pub(crate) fn close(&self, lp: &Owned) -> Result<()> {
        self.transport()?;
        if let Some(transport) = self.own_transport() {
            transport.close(lp);
        }
        Ok(())
    }

    /// Gives up the reference of somebody who uses a stream, which may be NULL. The last one closes it.
    ///
    /// # Safety
    /// The caller owns the reference. No borrow of the loop's state is held.
    pub(crate) unsafe fn release_ptr(stream: *const Stream) {
        // SAFETY: the reference keeps it alive.
        let Some(this) = (unsafe { stream.as_ref() }) else { return };
        if this.users.fetch_sub(1, Ordering::AcqRel) != 1 {
            return;
        }
        // SAFETY: the transport keeps its loop's memory.
        if let Some(event_loop) = unsafe { this.event_loop().as_ref() } {
            if !event_loop.is_owned_here() {
                // The loop's thread gives it up, unless the loop is closed.
                this.users.store(1, Ordering::Relaxed);
                if inbox::send_release(event_loop, FreeArg::new(stream.cast_mut().cast(), Some(release))) {
                    return;
                }
                this.users.store(0, Ordering::Relaxed);
            } else if let Ok(lp) = event_loop.enter() {
                this.become_unused(&lp);
            }
        }
        // SAFETY: what all users had together.
        drop(unsafe { Arc::from_raw(stream) });
    }

    /// The last who used it has gone.
    fn become_unused(&self, lp: &Owned) {
        self.set(UNUSED);
        *self.buffer.borrow_mut() = Buffer::default();
        let _ = self.close(lp);
    }
}
