//! Protocols (`asyncio.Protocol`, `BufferedProtocol`): what a transport calls.

use std::cell::RefCell;
use std::ffi::{c_int, c_void};
use std::ptr;
use std::sync::{Arc, Once, Weak};

use super::transport::Transport;
use crate::engine::callback::FreeArg;
use crate::engine::event_loop::Owned;
use crate::engine::exception::{self, Raised, Report};
use crate::lock::Lock;

/// Tells of a transport, and nothing else.
pub type TellFn = unsafe extern "C-unwind" fn(transport: *mut Transport, arg: *mut c_void);
/// Takes what was read.
pub type DataFn =
    unsafe extern "C-unwind" fn(transport: *mut Transport, data: *const c_void, size: usize, arg: *mut c_void);
/// Told that the peer sends no more; true keeps the transport open.
pub type EofFn = unsafe extern "C-unwind" fn(transport: *mut Transport, arg: *mut c_void) -> c_int;
/// Told why the transport is closed; 0: it was closed in an orderly way.
pub type LostFn = unsafe extern "C-unwind" fn(transport: *mut Transport, code: c_int, arg: *mut c_void);
/// Hands out memory to read into.
pub type GetBufferFn = unsafe extern "C-unwind" fn(
    transport: *mut Transport,
    size_hint: usize,
    buffer: *mut *mut c_void,
    size: *mut usize,
    arg: *mut c_void,
);
/// Told how much was read into that memory.
pub type BufferFn = unsafe extern "C-unwind" fn(transport: *mut Transport, size: usize, arg: *mut c_void);

/// The functions of a protocol; those that are not there are not called.
#[derive(Clone, Copy, Default, PartialEq)]
#[allow(unpredictable_function_pointer_comparisons, reason = "tables that differ by chance are kept twice")]
#[allow(missing_docs, reason = "asyncio's names")]
pub struct Callbacks {
    pub connection_made: Option<TellFn>,
    pub data_received: Option<DataFn>,
    pub eof_received: Option<EofFn>,
    pub connection_lost: Option<LostFn>,
    pub pause_writing: Option<TellFn>,
    pub resume_writing: Option<TellFn>,
    pub get_buffer: Option<GetBufferFn>,
    pub buffer_updated: Option<BufferFn>,
}

/// What a transport calls that is lost.
pub(super) static NOTHING: Callbacks = Callbacks {
    connection_made: None,
    data_received: None,
    eof_received: None,
    connection_lost: None,
    pause_writing: None,
    resume_writing: None,
    get_buffer: None,
    buffer_updated: None,
};

/// A protocol that a transport has.
pub struct Protocol {
    /// What is called.
    pub callbacks: Arc<Callbacks>,
    /// What it is called with.
    pub arg: FreeArg,
}

/// The tables that transports have. Many share one, so that a transport need not hold its own.
static TABLES: Lock<Vec<Weak<Callbacks>>> = Lock::new(Vec::new());

/// Has fork hold the lock. Once a process.
fn notice_forks() {
    unsafe extern "C" fn prepare() {
        std::mem::forget(TABLES.lock());
    }
    unsafe extern "C" fn after() {
        // SAFETY: the C library called `prepare` on this thread, or the one this is a copy of.
        unsafe { TABLES.force_unlock() };
    }
    static ONCE: Once = Once::new();
    // SAFETY: the functions stay loaded: the library is never unloaded.
    ONCE.call_once(|| unsafe {
        libc::pthread_atfork(Some(prepare), Some(after), Some(after));
    });
}

impl Callbacks {
    /// The one copy of a table, which may be the `known` one: that is found without a lock.
    pub fn shared_as(self, known: &RefCell<Option<Arc<Callbacks>>>) -> Arc<Callbacks> {
        let mut known = known.borrow_mut();
        match &*known {
            Some(known) if **known == self => known.clone(),
            _ => known.insert(self.shared()).clone(),
        }
    }

    /// The one copy of a table.
    pub fn shared(self) -> Arc<Callbacks> {
        notice_forks();
        let mut tables = TABLES.lock();
        if let Some(known) = tables.iter().filter_map(Weak::upgrade).find(|known| **known == self) {
            return known;
        }
        // Those that nobody has any more go when there is a new one.
        tables.retain(|known| known.strong_count() > 0);
        let made = Arc::new(self);
        tables.push(Arc::downgrade(&made));
        made
    }
}

/// Tells the exception handler of a failure. `transport` is whose it is, or NULL.
pub(super) fn tell(lp: &Owned, transport: *const (), code: c_int, what: &str, raised: Option<Box<Raised>>) {
    tell_of(lp, (transport, ptr::null()), code, what, raised);
}

/// [`tell`] of a transport or a datagram endpoint.
pub(super) fn tell_of(
    lp: &Owned,
    (transport, datagram): (*const (), *const ()),
    code: c_int,
    what: &str,
    raised: Option<Box<Raised>>,
) {
    let report = Report { transport, datagram, ..Report::of_raised(code, &format!("{what}."), raised.as_deref()) };
    exception::tell(lp, &report);
}
