//! Who owns a pointer: borrowed objects, outputs that give a reference away, strings, and callbacks that are taken over.

use std::any::Any;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use std::sync::Arc;

use super::context::evl_context;
use super::guard::{answer, guard};
use super::handle::{evl_callback, evl_free_fn};
use super::timer::evl_timer;
use crate::engine::callback::Callback;
use crate::engine::context::Captured;
use crate::engine::event_loop::{EventLoop, Owned};
use crate::engine::handle::Handle;
use crate::engine::inbox;
use crate::error::{Error, Result};
use crate::task::future::{Future, FutureRef};
use crate::task::group::Group;
use crate::task::task::Task;

/// An object the caller keeps alive during the call.
///
/// # Safety `pointer` is NULL or a live object.
#[inline]
pub(crate) unsafe fn borrow<'a, T>(pointer: *const T) -> Result<&'a T> {
    // SAFETY: by this function's contract.
    unsafe { pointer.as_ref() }.ok_or(Error::INVALID)
}

/// Refuses NULL where a pointer is needed.
#[inline]
pub(crate) fn required<T>(pointer: *mut T) -> Result<()> {
    if pointer.is_null() { Err(Error::INVALID) } else { Ok(()) }
}

/// Writes a result.
///
/// # Safety `out` is NULL (which is an error) or writable.
#[inline]
pub(crate) unsafe fn put<T>(out: *mut T, value: T) -> Result<c_int> {
    required(out)?;
    // SAFETY: by this function's contract.
    unsafe { out.write(value) };
    Ok(0)
}

/// Writes a result that the caller may not want.
///
/// # Safety `out` is NULL or writable.
pub(crate) unsafe fn put_optional<T>(out: *mut T, value: T) {
    if !out.is_null() {
        // SAFETY: by this function's contract.
        unsafe { out.write(value) };
    }
}

/// Gives a reference to the caller. `out` was found to be there by [`required`].
///
/// # Safety `out` is writable.
pub(crate) unsafe fn give<T>(out: *mut *mut T, reference: *mut T) {
    // SAFETY: by this function's contract.
    unsafe { out.write(reference) };
}

/// Gives a reference to a caller who may not want one, in which case none was made.
///
/// # Safety `out` is NULL or writable.
#[inline]
pub(crate) unsafe fn hand_out(out: *mut *mut Handle, reference: *const Handle) {
    // SAFETY: by this function's contract.
    unsafe { put_optional(out, reference.cast_mut()) };
}

/// As [`give`], of an object that is counted as an Arc.
///
/// # Safety `out` is writable.
pub(crate) unsafe fn give_arc<T>(out: *mut *mut T, object: Arc<T>) {
    // SAFETY: by this function's contract.
    unsafe { out.write(Arc::into_raw(object).cast_mut()) };
}

/// A reference of our own to an object of the caller's.
///
/// # Safety `pointer` is NULL or a live object given by [`give_arc`].
pub(crate) unsafe fn clone_arc<T>(pointer: *const T) -> Option<Arc<T>> {
    // SAFETY: by this function's contract; the count is raised before it is owned.
    (!pointer.is_null()).then(|| unsafe {
        Arc::increment_strong_count(pointer);
        Arc::from_raw(pointer)
    })
}

/// `_ref` of an object that is counted as an Arc.
///
/// # Safety As [`clone_arc`].
pub(crate) unsafe fn retain_arc<T>(pointer: *mut T) -> *mut T {
    // SAFETY: by this function's contract.
    std::mem::forget(unsafe { clone_arc(pointer) });
    pointer
}

/// `_unref` of an object that is counted as an Arc.
///
/// # Safety `pointer` is NULL or a reference the caller owns and gives up.
pub(crate) unsafe fn release_arc<T>(pointer: *mut T) {
    if !pointer.is_null() {
        // SAFETY: by this function's contract.
        drop(unsafe { Arc::from_raw(pointer) });
    }
}

/// As [`give`], of an object with one owner.
///
/// # Safety `out` is writable.
pub(crate) unsafe fn give_box<T>(out: *mut *mut T, object: T) {
    // SAFETY: by this function's contract.
    unsafe { out.write(Box::into_raw(Box::new(object))) };
}

/// Frees what [`give_box`] gave.
///
/// # Safety `pointer` is NULL or was given by [`give_box`] and is given up.
pub(crate) unsafe fn drop_box<T>(pointer: *mut T) {
    if !pointer.is_null() {
        // SAFETY: by this function's contract.
        drop(unsafe { Box::from_raw(pointer) });
    }
}

/// A string of the caller's, copied.
///
/// # Safety `pointer` is NULL or a NUL-terminated string.
pub(crate) unsafe fn string(pointer: *const c_char) -> Option<CString> {
    // SAFETY: by this function's contract.
    (!pointer.is_null()).then(|| unsafe { CStr::from_ptr(pointer) }.to_owned())
}

/// A `struct sockaddr` of the caller's, copied; NULL with size 0 is an empty one.
///
/// # Safety `pointer` is NULL or has `size` readable bytes.
pub(crate) unsafe fn address(pointer: *const c_void, size: u32) -> Result<Box<[u8]>> {
    if pointer.is_null() && size == 0 {
        return Ok(Box::default());
    }
    let sizes = size_of::<libc::sa_family_t>()..=size_of::<libc::sockaddr_storage>();
    if pointer.is_null() || !sizes.contains(&(size as usize)) {
        return Err(Error::INVALID);
    }
    // SAFETY: by this function's contract.
    Ok(unsafe { std::slice::from_raw_parts(pointer.cast::<u8>(), size as usize) }.into())
}

/// A string of the caller's; what is no UTF-8 is left out from there on.
///
/// # Safety `pointer` is NULL or a NUL-terminated string that lives as long as the result is used.
pub(crate) unsafe fn text<'a>(pointer: *const c_char) -> Option<&'a str> {
    if pointer.is_null() {
        return None;
    }
    // SAFETY: by this function's contract.
    let bytes = unsafe { CStr::from_ptr(pointer) }.to_bytes();
    let valid = std::str::from_utf8(bytes).map_or_else(|error| error.valid_up_to(), str::len);
    std::str::from_utf8(&bytes[..valid]).ok()
}

/// Copies a string out, cut where it does not fit, and returns its whole length.
///
/// # Safety `buffer` has `size` writable bytes, or is NULL.
pub(crate) unsafe fn fill(buffer: *mut c_char, size: usize, text: &str) -> Result<c_int> {
    if buffer.is_null() && size > 0 {
        return Err(Error::INVALID);
    }
    if size > 0 {
        let length = text.len().min(size - 1);
        // SAFETY: by this function's contract; one byte is left for the NUL.
        unsafe {
            ptr::copy_nonoverlapping(text.as_ptr(), buffer.cast(), length);
            buffer.add(length).write(0);
        }
    }
    Ok(c_int::try_from(text.len()).unwrap_or(c_int::MAX))
}

/// Bytes of the caller's.
///
/// # Safety `pointer` has `size` bytes as long as the result is used, or is NULL.
pub(crate) unsafe fn bytes<'a>(pointer: *const u8, size: usize) -> Result<&'a [u8]> {
    if pointer.is_null() {
        return if size == 0 { Ok(&[]) } else { Err(Error::INVALID) };
    }
    // No memory is as large.
    if isize::try_from(size).is_err() {
        return Err(Error::INVALID);
    }
    // SAFETY: by this function's contract.
    Ok(unsafe { std::slice::from_raw_parts(pointer, size) })
}

/// Copies bytes out, as many as fit, and returns how many there are.
///
/// # Safety `buffer` has `size` writable bytes, or is NULL.
pub(crate) unsafe fn fill_bytes(buffer: *mut c_void, size: usize, bytes: &[u8]) -> Result<c_int> {
    // SAFETY: by this function's contract.
    unsafe { fill_numbers(buffer.cast::<u8>(), size, bytes) }
}

/// Copies numbers out, as many as fit, and returns how many there are.
///
/// # Safety `out` has room for `capacity` numbers, or is NULL.
pub(crate) unsafe fn fill_numbers<T: Copy>(out: *mut T, capacity: usize, numbers: &[T]) -> Result<c_int> {
    if out.is_null() && capacity > 0 {
        return Err(Error::INVALID);
    }
    if capacity > 0 {
        // SAFETY: by this function's contract.
        unsafe { ptr::copy_nonoverlapping(numbers.as_ptr(), out, numbers.len().min(capacity)) };
    }
    Ok(c_int::try_from(numbers.len()).unwrap_or(c_int::MAX))
}

/// Copies addresses out, as many as fit, and returns how many there are.
///
/// # Safety `out` has room for `capacity` pointers, or is NULL.
pub(crate) unsafe fn fill_array(out: *mut *mut c_void, capacity: usize, addresses: &[usize]) -> Result<c_int> {
    let pointers: Vec<*const c_void> = addresses.iter().map(|&address| address as *const c_void).collect();
    // SAFETY: by this function's contract.
    unsafe { fill_pointers(out, capacity, &pointers) }
}

/// Copies pointers out, as many as fit, and returns how many there are.
///
/// # Safety `out` has room for `capacity` pointers, or is NULL.
pub(crate) unsafe fn fill_pointers<T>(out: *mut *mut T, capacity: usize, pointers: &[*const T]) -> Result<c_int> {
    if out.is_null() && capacity > 0 {
        return Err(Error::INVALID);
    }
    for (at, pointer) in pointers.iter().take(capacity).enumerate() {
        // SAFETY: by this function's contract.
        unsafe { out.add(at).write(pointer.cast_mut()) };
    }
    Ok(c_int::try_from(pointers.len()).unwrap_or(c_int::MAX))
}

/// The body of a function that uses a loop: enters it, and poisons it when the body panics.
///
/// # Safety `event_loop` is NULL or a live loop.
#[inline]
pub(crate) unsafe fn on_loop(event_loop: *mut EventLoop, body: impl FnOnce(&Owned) -> Result<c_int>) -> c_int {
    // SAFETY: by this function's contract.
    answer(unsafe { borrow(event_loop) }.and_then(|event_loop| entered(event_loop, body)))
}

#[inline]
fn entered(event_loop: &EventLoop, body: impl FnOnce(&Owned) -> Result<c_int>) -> Result<c_int> {
    let lp = event_loop.enter()?;
    catch_unwind(AssertUnwindSafe(|| body(&lp))).unwrap_or_else(|what| panicked(event_loop, what))
}

#[cold]
#[inline(never)]
fn panicked(event_loop: &EventLoop, what: Box<dyn Any + Send>) -> Result<c_int> {
    event_loop.poison();
    drop(what);
    Err(Error::PANIC)
}

/// The body of a run function. A panic poisons the loop where it runs.
///
/// # Safety `event_loop` is NULL or a live loop.
pub(crate) unsafe fn run(event_loop: *mut EventLoop, body: impl FnOnce(&EventLoop) -> Result<c_int>) -> c_int {
    // SAFETY: by this function's contract.
    guard(|| body(unsafe { borrow(event_loop) }?))
}

/// The body of a function that uses a handle, which needs its loop.
///
/// # Safety `handle` is NULL or a live handle.
#[inline]
pub(crate) unsafe fn on_handle(handle: *mut Handle, body: impl FnOnce(&Owned, &Handle) -> Result<c_int>) -> c_int {
    // SAFETY: by this function's contract; a handle keeps its loop's memory.
    let found = unsafe { borrow(handle).and_then(|handle| Ok((handle, borrow(handle.event_loop())?))) };
    answer(found.and_then(|(handle, event_loop)| entered(event_loop, |lp| body(lp, handle))))
}

/// The body of a function that uses a future on its loop's thread.
///
/// # Safety `future` is NULL or a live future.
#[inline]
pub(crate) unsafe fn on_future(future: *mut Future, body: impl FnOnce(&Owned, &Future) -> Result<c_int>) -> c_int {
    // SAFETY: by this function's contract; a future keeps its loop's memory.
    let found = unsafe { borrow(future).and_then(|future| Ok((future, borrow(future.event_loop())?))) };
    answer(found.and_then(|(future, event_loop)| entered(event_loop, |lp| body(lp, future))))
}

/// Gives a future to a caller who may not want it.
///
/// # Safety `out` is NULL or writable.
#[inline]
pub(crate) unsafe fn give_future(out: *mut *mut Future, future: FutureRef) {
    if !out.is_null() {
        // SAFETY: by this function's contract.
        unsafe { out.write(future.into_raw()) };
    }
}

/// [`on_future`] of a task.
///
/// # Safety `task` is NULL or a live task.
pub(crate) unsafe fn on_task(task: *mut Task, body: impl FnOnce(&Owned, &Task) -> Result<c_int>) -> c_int {
    // SAFETY: by this function's contract; a future keeps its loop's memory.
    let found = unsafe { borrow(task).and_then(|task| Ok((task, borrow(task.future().event_loop())?))) };
    answer(found.and_then(|(task, event_loop)| entered(event_loop, |lp| body(lp, task))))
}

/// The body of a function that uses a task group on its loop's thread.
///
/// # Safety `group` is NULL or a live group given by [`give_arc`].
pub(crate) unsafe fn on_group(group: *mut Group, body: impl FnOnce(&Owned, &Arc<Group>) -> Result<c_int>) -> c_int {
    // SAFETY: by this function's contract; a group keeps its loop's memory.
    unsafe {
        let Some(group) = clone_arc(group) else { return answer(Err(Error::INVALID)) };
        answer(borrow(group.event_loop()).and_then(|event_loop| entered(event_loop, |lp| body(lp, &group))))
    }
}

/// As [`give_future`], of a task.
///
/// # Safety `out` is NULL or writable; `task` is a reference that is given up.
pub(crate) unsafe fn give_task(out: *mut *mut Task, task: *const Task) {
    // SAFETY: by this function's contract; a task begins with its future.
    unsafe {
        if out.is_null() {
            Future::release_ptr(task.cast());
        } else {
            out.write(task.cast_mut());
        }
    }
}

/// Several objects the caller keeps alive during the call.
///
/// # Safety `pointers` has `count` live objects, or is NULL with none.
pub(crate) unsafe fn borrow_all<'a, T>(pointers: *const *mut T, count: usize) -> Result<Vec<&'a T>> {
    if count == 0 {
        return Ok(Vec::new());
    }
    if pointers.is_null() {
        return Err(Error::INVALID);
    }
    let mut found = Vec::new();
    found.try_reserve_exact(count).map_err(|_| Error::NO_MEMORY)?;
    for at in 0..count {
        // SAFETY: by this function's contract.
        found.push(unsafe { borrow(*pointers.add(at)) }?);
    }
    Ok(found)
}

/// A loop of the caller's, or (NULL) the one that runs on this thread, borrowed.
///
/// # Safety `event_loop` is NULL or a live loop.
pub(crate) unsafe fn or_running(event_loop: *mut EventLoop) -> *mut EventLoop {
    if event_loop.is_null() { crate::engine::thread::current().running.get().cast_mut() } else { event_loop }
}

/// The body of a function of a handle that does not need its loop to be open.
///
/// # Safety `handle` is NULL or a live handle.
pub(crate) unsafe fn with_handle(handle: *mut Handle, body: impl FnOnce(&Handle) -> Result<c_int>) -> c_int {
    // SAFETY: by this function's contract.
    guard(|| body(unsafe { borrow(handle) }?))
}

/// The body of a function that takes a callback over: the callback's arg is released when it fails.
///
/// # Safety `event_loop` is NULL or a live loop, `context` is NULL or a live context.
#[inline]
pub(crate) unsafe fn register(
    event_loop: *mut EventLoop,
    callback: Callback,
    context: *mut evl_context,
    body: impl FnOnce(&Owned, Callback, Captured) -> Result<c_int>,
) -> c_int {
    // SAFETY: by this function's contract.
    unsafe {
        on_loop(event_loop, move |lp| {
            if callback.function.is_none() {
                return Err(Error::INVALID);
            }
            let captured = lp.capture(clone_arc(context));
            body(lp, callback, captured)
        })
    }
}

/// [`register`] for any thread: the loop is not entered.
///
/// # Safety As [`register`].
pub(crate) unsafe fn register_threadsafe(
    event_loop: *mut EventLoop,
    callback: Callback,
    context: *mut evl_context,
    body: impl FnOnce(&EventLoop, Callback, Captured) -> Result<c_int>,
) -> c_int {
    guard(move || {
        // SAFETY: by this function's contract.
        let (event_loop, context) = unsafe { (borrow(event_loop)?, clone_arc(context)) };
        if callback.function.is_none() {
            return Err(Error::INVALID);
        }
        event_loop.check_open()?;
        let captured = event_loop.capture(context);
        body(event_loop, callback, captured)
    })
}

/// evl_loop_call_soon when it takes no more than storing four words; false: nothing was done.
///
/// # Safety `event_loop` is NULL or a live loop.
#[inline]
pub(crate) unsafe fn call_soon_fast(
    event_loop: *mut EventLoop,
    callback: evl_callback,
    arg: *mut c_void,
    arg_free: evl_free_fn,
) -> bool {
    // SAFETY: by this function's contract.
    let (Some(event_loop), Some(function)) = (unsafe { event_loop.as_ref() }, callback) else { return false };
    event_loop.call_soon_fast(function, arg, arg_free)
}

/// evl_loop_call_soon_threadsafe when it takes no more than sending two words; false: nothing was done.
///
/// # Safety As [`call_soon_fast`].
#[inline]
pub(crate) unsafe fn post_fast(event_loop: *mut EventLoop, callback: evl_callback, arg: *mut c_void) -> bool {
    // SAFETY: by this function's contract.
    let (Some(event_loop), Some(function)) = (unsafe { event_loop.as_ref() }, callback) else { return false };
    inbox::post_fast(event_loop, function, arg)
}

/// evl_loop_call_soon with a handle when it is as simple; false: nothing was done.
///
/// # Safety `event_loop` is NULL or a live loop; `out` is writable.
#[inline]
pub(crate) unsafe fn call_soon_handle_fast(
    event_loop: *mut EventLoop,
    callback: evl_callback,
    arg: *mut c_void,
    arg_free: evl_free_fn,
    out: *mut *mut Handle,
) -> bool {
    // SAFETY: by this function's contract.
    let (Some(event_loop), Some(function)) = (unsafe { event_loop.as_ref() }, callback) else { return false };
    let handle = event_loop.call_soon_handle_fast(function, arg, arg_free);
    if handle.is_null() {
        return false;
    }
    // SAFETY: by this function's contract.
    unsafe { out.write(handle.cast_mut()) };
    true
}

/// evl_loop_call_at when it is as simple; false: nothing was done.
///
/// # Safety `event_loop` is NULL or a live loop; `out` is NULL or writable.
#[inline]
pub(crate) unsafe fn call_at_fast(
    event_loop: *mut EventLoop,
    when: i64,
    callback: evl_callback,
    arg: *mut c_void,
    arg_free: evl_free_fn,
    out: *mut *mut evl_timer,
) -> bool {
    // SAFETY: by this function's contract.
    let (Some(event_loop), Some(function)) = (unsafe { event_loop.as_ref() }, callback) else { return false };
    let Some(timer) = event_loop.call_at_fast(when, function, arg, arg_free, !out.is_null()) else { return false };
    // SAFETY: by this function's contract.
    unsafe { hand_out(out.cast(), timer) };
    true
}
