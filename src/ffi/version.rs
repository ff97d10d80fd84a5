//! Which evl this is.

use std::ffi::{c_char, c_uint};

const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), "\0");

/// The version of the library that runs, such as "0.1.0": compare with the header's EVL_VERSION. A static
/// string. Any thread.
#[unsafe(no_mangle)]
pub extern "C-unwind" fn evl_version() -> *const c_char {
    VERSION.as_ptr().cast()
}

/// The version of the library's binary interface, which the number in its soname is: compare with the header's
/// EVL_ABI_VERSION. Any thread.
#[unsafe(no_mangle)]
pub extern "C-unwind" fn evl_abi_version() -> c_uint {
    0
}
