//! Context variables, as contextvars has them: persistent maps, so that a copy costs a reference.
//!
//! Whatever has a context keeps it in a [`Word`]: nothing, a snapshot of a map (what scheduling captures), or a
//! [`Context`] object. A callback runs with its thread's slot pointing at the word it was scheduled with; setting a variable
//! replaces the snapshot in that word, or the map in that object. An object is made only when somebody asks for one.

use std::cell::{Cell, UnsafeCell};
use std::ffi::{CString, c_void};
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::callback::{self, CallFn, FreeArg, guarded};
use super::event_loop::Hooks;
use super::thread::{self, Thread};
use crate::error::{Error, Result};
use crate::lock::Lock;

/// A context variable: `contextvars.ContextVar`.
pub struct Var {
    name: CString,
    default: FreeArg,
}

// SAFETY: immutable; the default is the host's pointer, which is only handed out.
unsafe impl Sync for Var {}

/// A value with the right to release it: when no map and no token has it.
struct Value(FreeArg);

// SAFETY: immutable; the pointer is the host's and only handed out.
unsafe impl Sync for Value {}

#[derive(Clone)]
struct Key(Arc<Var>);

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}
impl Eq for Key {}
impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_usize(Arc::as_ptr(&self.0) as usize);
    }
}

/// Spreads addresses: hosts cannot choose them, so that no stronger hash is needed.
#[derive(Default, Clone)]
pub(crate) struct AddressHasher(u64);

impl Hasher for AddressHasher {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_usize(usize::from(byte));
        }
    }
    fn write_usize(&mut self, value: usize) {
        let mixed = (self.0 ^ value as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = mixed ^ (mixed >> 29);
    }
}

type Map = rpds::HashTrieMap<Key, Arc<Value>, archery::ArcTK, BuildHasherDefault<AddressHasher>>;

/// A mapping of variables to values: `contextvars.Context`.
pub struct Context {
    /// Written only by the thread that has entered it, under [`MAPS`]; that thread reads it without.
    map: UnsafeCell<Option<Arc<Map>>>,
    entered: AtomicBool,
    /// While entered by [`enter`]: the slot before, and the word the thread's slot points at. Touched by that thread only.
    previous: Cell<*mut Word>,
    own: Cell<Word>,
}

/// The lock of all contexts' maps: one, so that fork can hold it. It is held for copying or replacing a pointer.
static MAPS: Lock<()> = Lock::new(());

/// Holds the lock across fork.
pub(crate) fn lock_for_fork() {
    std::mem::forget(MAPS.lock());
}

/// # Safety
/// Ends a `lock_for_fork` of this thread.
pub(crate) unsafe fn unlock_after_fork() {
    // SAFETY: by this function's contract.
    unsafe { MAPS.force_unlock() };
}

// SAFETY: `map` is locked or read by its only writer, and the cells are touched only by the thread that has set `entered`.
unsafe impl Sync for Context {}
// SAFETY: as above; nothing in it belongs to one thread while it is not entered.
unsafe impl Send for Context {}

/// What a set undoes by: `contextvars.Token`.
pub struct Token {
    var: Arc<Var>,
    old: Option<Arc<Value>>,
    context: Arc<Context>,
    used: AtomicBool,
}

/// A context as loops keep it: one word, owned by whoever holds it. Not dropped by itself: see [`Word::release`].
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub struct Word(usize);

const TAG: usize = 3;
const OBJECT: usize = 0;
const SNAPSHOT: usize = 1;
const HOSTED: usize = 2;

/// A word together with what a host's hooks captured.
struct Hosted {
    word: Word,
    captured: *mut c_void,
    hooks: Hooks,
}

impl Word {
    /// No variables, which is what most programs have.
    pub const NONE: Word = Word(0);

    #[inline]
    fn tag(self) -> usize {
        self.0 & TAG
    }

    #[inline]
    pub(crate) fn is_none(self) -> bool {
        self.0 == 0
    }

    fn object(context: Arc<Context>) -> Word {
        Word(Arc::into_raw(context) as usize)
    }

    fn snapshot(map: Arc<Map>) -> Word {
        Word(Arc::into_raw(map) as usize | SNAPSHOT)
    }

    fn as_object(&self) -> Option<&Context> {
        // SAFETY: an object word owns (or, in `Context::own`, is part of) a live Context.
        (self.tag() == OBJECT && self.0 != 0).then(|| unsafe { &*(self.0 as *const Context) })
    }

    fn as_hosted(&self) -> Option<*mut Hosted> {
        (self.tag() == HOSTED).then_some((self.0 & !TAG) as *mut Hosted)
    }

    /// The map, where there is one, without touching its count.
    fn map(&self) -> Option<&Map> {
        if self.is_none() {
            return None;
        }
        match self.tag() {
            // SAFETY: a snapshot word owns a count of a live map.
            SNAPSHOT => Some(unsafe { &*((self.0 & !TAG) as *const Map) }),
            // SAFETY: the slot's object is entered by this thread, which alone writes the map.
            OBJECT => self.as_object().and_then(|context| unsafe { (*context.map.get()).as_deref() }),
            // SAFETY: a hosted word owns its box.
            _ => self.as_hosted().and_then(|hosted| unsafe { (*hosted).word.map() }),
        }
    }

    fn shared_map(self) -> Option<Arc<Map>> {
        self.map().map(|map| {
            // SAFETY: every map lives in an Arc; the count is raised before a second owner is made.
            unsafe {
                Arc::increment_strong_count(map);
                Arc::from_raw(map)
            }
        })
    }

    /// A snapshot of what `self` is now.
    #[inline]
    pub(crate) fn capture(self) -> Word {
        if self.is_none() { Word::NONE } else { self.capture_some() }
    }

    #[inline(never)]
    fn capture_some(self) -> Word {
        self.shared_map().map_or(Word::NONE, Word::snapshot)
    }

    /// A word that refers to an object of the host's choice.
    pub(crate) fn explicit(context: Arc<Context>) -> Word {
        Word::object(context)
    }

    /// Adds what the hooks capture now.
    pub(crate) fn with_hooks(self, hooks: Hooks) -> Word {
        // SAFETY: the host gave the function with its data when it made the loop.
        let captured = guarded(|| unsafe { (hooks.capture)(hooks.data) });
        Word(Box::into_raw(Box::new(Hosted { word: self, captured, hooks })) as usize | HOSTED)
    }

    /// Gives up what the word owns. No borrow of a loop's state may be held: values are released by the host's functions.
    #[inline]
    pub(crate) fn release(self) {
        if !self.is_none() {
            self.release_some();
        }
    }

    #[inline(never)]
    fn release_some(self) {
        match self.tag() {
            // SAFETY: the word owned one count, which goes with it.
            SNAPSHOT => drop(unsafe { Arc::from_raw((self.0 & !TAG) as *const Map) }),
            // SAFETY: as above.
            OBJECT => drop(unsafe { Arc::from_raw(self.0 as *const Context) }),
            _ => {
                // SAFETY: the word owned the box.
                let hosted = unsafe { Box::from_raw((self.0 & !TAG) as *mut Hosted) };
                if let Some(release) = hosted.hooks.release {
                    // SAFETY: what capture returned goes back once.
                    guarded(|| unsafe { release(hosted.hooks.data, hosted.captured) });
                }
                hosted.word.release();
            }
        }
    }
}

/// A word that is released when nobody takes it over.
pub struct Captured(Word);

impl Captured {
    pub(crate) fn new(word: Word) -> Self {
        Captured(word)
    }

    pub(crate) fn into_word(self) -> Word {
        let word = self.0;
        std::mem::forget(self);
        word
    }
}

impl Drop for Captured {
    fn drop(&mut self) {
        self.0.release();
    }
}

/// A callback's stay in its context: from [`Frame::enter`] until [`Frame::leave`].
pub(crate) struct Frame<'a> {
    thread: &'a Thread,
    slot: *mut Word,
    previous: *mut Word,
    hosted: Option<*mut Hosted>,
}

impl<'a> Frame<'a> {
    /// Makes the context kept at `at` the thread's current one.
    ///
    /// # Safety
    /// `at` stays where it is until [`Frame::leave`], and is touched only through the thread's slot meanwhile.
    pub(crate) unsafe fn enter(thread: &'a Thread, at: *mut Word) -> Result<Frame<'a>> {
        let mut slot = at;
        // SAFETY: by this function's contract.
        let hosted = unsafe { (*at).as_hosted() };
        if let Some(hosted) = hosted {
            // SAFETY: the word owns the box.
            slot = unsafe { &raw mut (*hosted).word };
        }
        // SAFETY: as above.
        if let Some(context) = unsafe { (*slot).as_object() } {
            context.claim()?;
        }
        if let Some(hosted) = hosted {
            // SAFETY: as above; the hook gets what capture returned.
            unsafe {
                if let Some(enter) = (*hosted).hooks.enter {
                    guarded(|| enter((*hosted).hooks.data, (*hosted).captured));
                }
            }
        }
        Ok(Frame { thread, slot, previous: thread.slot.replace(slot), hosted })
    }

    /// Goes back to the context before, leaving what the callback entered and did not leave.
    pub(crate) fn leave(self) {
        // SAFETY: `enter`'s contract keeps the word and what it owns in place.
        unsafe { leave(self.thread, self.slot) };
        self.thread.slot.set(self.previous);
        // SAFETY: `enter`'s contract keeps the word and what it owns in place.
        unsafe {
            if let Some(hosted) = self.hosted
                && let Some(leave) = (*hosted).hooks.leave
            {
                guarded(|| leave((*hosted).hooks.data, (*hosted).captured));
            }
        }
        std::mem::forget(self);
    }
}

/// Only when a panic passes: the slot must not go on pointing into a frame that is gone.
impl Drop for Frame<'_> {
    fn drop(&mut self) {
        self.thread.slot.set(self.previous);
    }
}

/// What the thread's slot is while a callback whose context is kept at `at` runs.
///
/// # Safety
/// `at` is where a callback's context is kept.
pub(crate) unsafe fn slot_of(at: *mut Word) -> *mut Word {
    // SAFETY: by this function's contract; the word owns the box.
    unsafe { (*at).as_hosted().map_or(at, |hosted| &raw mut (*hosted).word) }
}

/// Ends a callback's stay in the context kept at `at`: leaves what the callback entered, and frees the object for others to enter.
///
/// # Safety
/// `at` is where the callback's context is kept.
pub(crate) unsafe fn leave(thread: &Thread, at: *mut Word) {
    unwind(thread, at);
    // SAFETY: by this function's contract.
    if let Some(context) = unsafe { (*at).as_object() } {
        context.entered.store(false, Ordering::Release);
    }
}

/// Leaves contexts until the thread's slot is `until`.
pub(crate) fn unwind(thread: &Thread, until: *mut Word) {
    while thread.slot.get() != until {
        // SAFETY: a slot other than a callback's own is the `own` word of a context entered by `enter`.
        let Some(context) = unsafe { thread.slot.get().as_ref() }.and_then(Word::as_object) else { break };
        context.pop(thread);
    }
}

impl Context {
    fn with_map(map: Option<Arc<Map>>) -> Arc<Context> {
        Arc::new(Context {
            map: UnsafeCell::new(map),
            entered: AtomicBool::new(false),
            previous: Cell::new(ptr::null_mut()),
            own: Cell::new(Word::NONE),
        })
    }

    pub(crate) fn empty() -> Arc<Context> {
        Context::with_map(None)
    }

    pub(crate) fn copy(&self) -> Arc<Context> {
        Context::with_map(self.shared_map())
    }

    fn shared_map(&self) -> Option<Arc<Map>> {
        let _lock = MAPS.lock();
        // SAFETY: under the lock.
        unsafe { (*self.map.get()).clone() }
    }

    pub(crate) fn get(&self, var: &Var) -> Option<*mut c_void> {
        self.shared_map().as_deref().and_then(|map| find(map, var)).map(|value| value.0.pointer())
    }

    pub(crate) fn len(&self) -> usize {
        self.shared_map().as_deref().map_or(0, Map::size)
    }

    fn claim(&self) -> Result<()> {
        if self.entered.swap(true, Ordering::Acquire) { Err(Error::ENTERED) } else { Ok(()) }
    }

    /// Leaves a context entered by [`enter`], and gives up the reference that holds.
    fn pop(&self, thread: &Thread) {
        thread.slot.set(self.previous.replace(ptr::null_mut()));
        let held = self.own.replace(Word::NONE);
        self.entered.store(false, Ordering::Release);
        held.release();
    }
}

fn find<'a>(map: &'a Map, var: &Var) -> Option<&'a Arc<Value>> {
    // A key is found by its address; the borrowed Arc is not dropped, so that its count stays.
    // SAFETY: every Var lives in an Arc.
    let key = std::mem::ManuallyDrop::new(Key(unsafe { Arc::from_raw(var) }));
    map.get(&*key)
}

impl Var {
    pub(crate) fn create(name: Option<&str>, default: FreeArg) -> Arc<Var> {
        Arc::new(Var { name: CString::new(name.unwrap_or("")).unwrap_or_default(), default })
    }

    pub(crate) fn name(&self) -> &str {
        self.name.to_str().unwrap_or("")
    }
}

impl Token {
    pub(crate) fn var(&self) -> *const Var {
        Arc::as_ptr(&self.var)
    }

    pub(crate) fn old_value(&self) -> Option<*mut c_void> {
        self.old.as_ref().map(|value| value.0.pointer())
    }
}

/// `ContextVar.get` in the current context.
pub(crate) fn get(var: &Var) -> Result<*mut c_void> {
    let slot = thread::current().context_slot();
    // SAFETY: the slot is valid, and only this thread changes it.
    if let Some(value) = unsafe { (*slot).map() }.and_then(|map| find(map, var)) {
        return Ok(value.0.pointer());
    }
    let default = var.default.pointer();
    if default.is_null() { Err(Error::NO_VALUE) } else { Ok(default) }
}

/// `ContextVar.set` in the current context.
pub(crate) fn set(var: &Arc<Var>, value: FreeArg, want_token: bool) -> Result<Option<Arc<Token>>> {
    let thread = thread::current();
    let slot = thread.context_slot();
    let value = Arc::new(Value(value));
    // A token belongs to a context, which must then be an object.
    // SAFETY: the slot is valid, and only this thread changes it.
    let context = want_token.then(|| unsafe { materialise(thread, slot) });
    // SAFETY: as above.
    let old_map = unsafe { (*slot).shared_map() };
    let old = old_map.as_deref().and_then(|map| find(map, var)).cloned();
    let map = old_map.as_deref().map_or_else(
        || Map::new_with_hasher_and_ptr_kind(BuildHasherDefault::default()).insert(Key(var.clone()), value.clone()),
        |map| map.insert(Key(var.clone()), value.clone()),
    );
    // SAFETY: as above.
    unsafe { replace_map(thread, slot, Some(map)) };
    Ok(context.map(|context| Arc::new(Token { var: var.clone(), old, context, used: AtomicBool::new(false) })))
}

/// `ContextVar.reset`.
pub(crate) fn reset(var: &Arc<Var>, token: &Token) -> Result<()> {
    let thread = thread::current();
    let slot = thread.context_slot();
    // SAFETY: the slot is valid, and only this thread changes it.
    let here = unsafe { (*slot).as_object() }.is_some_and(|context| ptr::eq(context, Arc::as_ptr(&token.context)));
    if !here || !Arc::ptr_eq(var, &token.var) || token.used.swap(true, Ordering::Relaxed) {
        return Err(Error::TOKEN);
    }
    // SAFETY: as above.
    let Some(map) = (unsafe { (*slot).shared_map() }) else { return Ok(()) };
    let map = match &token.old {
        Some(old) => map.insert(Key(var.clone()), old.clone()),
        None => map.remove(&Key(var.clone())),
    };
    // SAFETY: as above.
    unsafe { replace_map(thread, slot, (!map.is_empty()).then_some(map)) };
    Ok(())
}

/// Puts a map in place of the one in `slot`. The old one is released last, when everything is in place: the host may look.
///
/// # Safety
/// `slot` is this thread's context slot.
unsafe fn replace_map(thread: &Thread, slot: *mut Word, map: Option<Map>) {
    let map = map.map(Arc::new);
    thread.attention.set(thread.attention.get() | thread::CONTEXT);
    // SAFETY: by this function's contract the word is this thread's to change.
    let old = unsafe {
        if let Some(context) = (*slot).as_object() {
            let lock = MAPS.lock();
            let old = std::mem::replace(&mut *context.map.get(), map);
            drop(lock);
            old.map_or(Word::NONE, Word::snapshot)
        } else {
            std::mem::replace(&mut *slot, map.map_or(Word::NONE, Word::snapshot))
        }
    };
    if thread.slot.get().is_null() {
        thread::release_at_exit();
    }
    old.release();
}

/// Makes the context kept at `word` an object, and returns it.
///
/// # Safety
/// The caller may change the word; it is no hosted one.
unsafe fn materialise(thread: &Thread, word: *mut Word) -> Arc<Context> {
    // SAFETY: by this function's contract.
    unsafe {
        if let Some(context) = (*word).as_object() {
            Arc::increment_strong_count(context);
            return Arc::from_raw(context);
        }
        let context = Context::with_map((*word).shared_map());
        if thread.context_slot() == word {
            context.entered.store(true, Ordering::Relaxed);
        }
        let old = std::mem::replace(&mut *word, Word::object(context.clone()));
        thread.attention.set(thread.attention.get() | thread::CONTEXT);
        if thread.slot.get().is_null() {
            thread::release_at_exit();
        }
        old.release();
        context
    }
}

/// The object of a handle's context: made where there was a snapshot. Borrowed from the word. `in_use`: the handle's callback is
/// on the stack, in this context.
///
/// # Safety
/// `word` belongs to a handle of a loop that this thread owns.
pub(crate) unsafe fn object_of(word: *mut Word, in_use: bool) -> *const Context {
    // SAFETY: by this function's contract.
    unsafe {
        let inner = (*word).as_hosted().map_or(word, |hosted| &raw mut (*hosted).word);
        let fresh = (*inner).as_object().is_none();
        let context = materialise(thread::current(), inner);
        if fresh && in_use {
            context.entered.store(true, Ordering::Relaxed);
        }
        Arc::as_ptr(&context)
    }
}

/// `contextvars.copy_context`.
pub(crate) fn copy_current() -> Arc<Context> {
    // SAFETY: the slot is valid, and only this thread changes it.
    Context::with_map(unsafe { (*thread::current().context_slot()).shared_map() })
}

/// A snapshot of this thread's current context.
pub(crate) fn capture_current(thread: &Thread) -> Word {
    // SAFETY: the slot is valid, and only this thread changes it.
    unsafe { (*thread.context_slot()).capture() }
}

/// `PyContext_Enter`.
pub(crate) fn enter(context: &Arc<Context>) -> Result<()> {
    context.claim()?;
    let thread = thread::current();
    context.own.set(Word::object(context.clone()));
    thread.attention.set(thread.attention.get() | thread::CONTEXT);
    context.previous.set(thread.slot.replace(context.own.as_ptr()));
    Ok(())
}

/// `PyContext_Exit`.
pub(crate) fn exit(context: &Context) -> Result<()> {
    let thread = thread::current();
    if thread.slot.get() != context.own.as_ptr() {
        return Err(Error::NOT_ENTERED);
    }
    context.pop(thread);
    Ok(())
}

/// `Context.run`.
pub(crate) fn run(context: &Context, function: CallFn, arg: *mut c_void) -> Result<()> {
    // SAFETY: every Context lives in an Arc.
    let context = unsafe {
        Arc::increment_strong_count(context);
        Arc::from_raw(context)
    };
    enter(&context)?;
    // SAFETY: the host passed both to be called together, now.
    unsafe { callback::call(function, arg) };
    let thread = thread::current();
    unwind(thread, context.own.as_ptr());
    exit(&context)
}
