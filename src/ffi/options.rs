//! Structs that begin with their size, so that programs and libraries of different age understand each other.

use std::ffi::c_int;
use std::mem::MaybeUninit;
use std::ptr;

use crate::error::{Error, Result};

/// Fills the first `size` bytes: the size, and zeros for the defaults.
///
/// # Safety `options` is NULL or has `size` writable bytes; all-zero bytes are a valid `T`, which begins with a
/// u32 size.
pub(crate) unsafe fn init<T>(options: *mut T, size: u32) -> Result<c_int> {
    if options.is_null() {
        return Err(Error::INVALID);
    }
    if (size as usize) < size_of::<u32>() || size as usize > size_of::<T>() {
        return Err(Error::OPTIONS);
    }
    // SAFETY: by this function's contract.
    unsafe {
        options.cast::<u8>().write_bytes(0, size as usize);
        options.cast::<u32>().write_unaligned(size);
    }
    Ok(0)
}

/// Reads a struct of the caller's size: what it lacks is zero, what it has beyond `T` must be. NULL gives all
/// zeros.
///
/// # Safety `given` is NULL or begins with its size, and has that many bytes; all-zero bytes are a valid `T`.
pub(crate) unsafe fn read<T: Copy>(given: *const T) -> Result<T> {
    let mut value = MaybeUninit::<T>::zeroed();
    if !given.is_null() {
        // SAFETY: by this function's contract; no more is copied than both have.
        unsafe {
            let size = given.cast::<u32>().read_unaligned() as usize;
            if size < size_of::<u32>() || size > 4096 {
                return Err(Error::OPTIONS.detail(|| format!("a struct says that it has {size} bytes")));
            }
            let known = size.min(size_of::<T>());
            ptr::copy_nonoverlapping(given.cast::<u8>(), value.as_mut_ptr().cast::<u8>(), known);
            if (known..size).any(|at| given.cast::<u8>().add(at).read() != 0) {
                return Err(Error::OPTIONS.detail(|| "a struct sets a field that this library does not know".into()));
            }
        }
    }
    // SAFETY: zeros, with bytes of the caller's T over them.
    Ok(unsafe { value.assume_init() })
}

/// Fills a struct of the caller's size, and keeps that size; what the caller has beyond `T` becomes zero.
///
/// # Safety `out` is NULL or begins with its size, and has that many writable bytes; `T` begins with a u32
/// size.
pub(crate) unsafe fn write<T: Copy>(out: *mut T, value: T) -> Result<c_int> {
    if out.is_null() {
        return Err(Error::INVALID);
    }
    // SAFETY: by this function's contract; no more is written than both have.
    unsafe {
        let size = out.cast::<u32>().read_unaligned();
        let bytes = size as usize;
        if bytes < size_of::<u32>() || bytes > 4096 {
            return Err(Error::OPTIONS);
        }
        let known = bytes.min(size_of::<T>());
        ptr::copy_nonoverlapping((&raw const value).cast::<u8>(), out.cast::<u8>(), known);
        out.cast::<u8>().add(known).write_bytes(0, bytes - known);
        out.cast::<u32>().write_unaligned(size);
    }
    Ok(0)
}
