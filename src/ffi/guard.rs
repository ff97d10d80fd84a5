//! The panic boundary: nothing unwinds out of the library, and a failure becomes a code.

use std::ffi::c_int;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::engine::thread;
use crate::error::{Error, Result};

/// Runs the body of a function of the surface; its failure or panic becomes the code that is returned.
#[inline]
pub(crate) fn guard(body: impl FnOnce() -> Result<c_int>) -> c_int {
    // Whatever was being changed belongs to a loop, and loops are poisoned by whoever entered them.
    answer(catch_unwind(AssertUnwindSafe(body)).unwrap_or(Err(Error::PANIC)))
}

/// The code of a result.
#[inline]
pub(crate) fn answer(result: Result<c_int>) -> c_int {
    result.unwrap_or_else(failure)
}

#[cold]
#[inline(never)]
fn failure(error: Error) -> c_int {
    thread::settle_detail();
    error.code()
}

/// The answer of a predicate, which cannot fail; NULL answers 0.
#[inline]
pub(crate) fn predicate<T>(of: Option<T>, ask: impl FnOnce(T) -> bool) -> c_int {
    catch_unwind(AssertUnwindSafe(|| c_int::from(of.is_some_and(ask)))).unwrap_or(0)
}

/// Gives something back, which cannot fail.
#[inline]
pub(crate) fn release(body: impl FnOnce()) {
    // A panic on the way leaves a leak behind, which is the least harm.
    let _ = catch_unwind(AssertUnwindSafe(body));
}
