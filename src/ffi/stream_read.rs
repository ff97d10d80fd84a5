//! Reading from streams (`asyncio.StreamReader`).

use std::borrow::Cow;
use std::ffi::{c_int, c_void};

use super::future::evl_future;
use super::guard::predicate;
use super::own;
use super::stream::{evl_stream, on_stream};
use crate::error::{Error, Result};
use crate::net::stream::Stream;
use crate::net::stream::read::{Amount, NEWLINE, Want};

/// The body of each.
///
/// # Safety `stream` is NULL or a live stream; `out` is NULL or writable.
unsafe fn read(stream: *mut evl_stream, out: *mut *mut evl_future, want: impl FnOnce() -> Result<Want>) -> c_int {
    // SAFETY: by this function's contract.
    unsafe {
        on_stream(stream, |lp, stream| {
            own::give_future(out, stream.read(lp, want()?)?);
            Ok(0)
        })
    }
}

/// What goes into memory of the host's.
fn into(buffer: *mut c_void, size: usize, amount: impl FnOnce(usize) -> Amount) -> Result<Want> {
    if size > 0 {
        own::required(buffer)?;
    }
    let nowhere = std::ptr::dangling_mut();
    Ok(Want::into(amount(size), if buffer.is_null() { nowhere } else { buffer.cast() }))
}

/// Reads what there is, at most size bytes, and waits only when there is nothing: StreamReader.read. Negative: all up
/// to the end of the stream. The result is bytes (evl_future_result_bytes); none at the end, and for size 0.
///
/// As all that read from streams: the future is done on return when what is wanted has come already. One read may
/// wait, not more. One that is cancelled, or out of time (evl_future_set_timeout), leaves all in the stream for the
/// next one. The bytes have a NUL after them that does not count. Once the connection is lost for a reason
/// (evl_stream_get_error), reads fail with that, even when something lies unread. out may be NULL. On the loop's thread.
/// Errors: EVL_EBUSY (another read waits), -EOPNOTSUPP (the stream only writes), -EINVAL (NULL), EVL_ECLOSED,
/// EVL_EWRONGTHREAD, EVL_EFORKED, -ENOMEM.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_stream_read(
    stream: *mut evl_stream,
    size: i64,
    out: *mut *mut evl_future,
) -> c_int {
    let amount = usize::try_from(size).map_or(Amount::All, Amount::Most);
    // SAFETY: a live stream or NULL; out is writable or NULL.
    unsafe { read(stream, out, || Ok(Want::bytes(amount))) }
}

/// evl_stream_read into memory of yours, at most size bytes. The result is how many (evl_future_result_int); 0 at the
/// end, and for size 0.
///
/// buffer is evl's until the future is done. Everything else as evl_stream_read; -EINVAL also when buffer is NULL and
/// size not 0.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_stream_read_into(
    stream: *mut evl_stream,
    buffer: *mut c_void,
    size: usize,
    out: *mut *mut evl_future,
) -> c_int {
    // SAFETY: a live stream or NULL; buffer has size writable bytes; out is writable or NULL.
    unsafe { read(stream, out, || into(buffer, size, Amount::Most)) }
}

/// Reads size bytes, not less: StreamReader.readexactly. The result is bytes (evl_future_result_bytes).
///
/// When the stream ends before, the future fails with EVL_EINCOMPLETE, and evl_future_error_bytes has what there was;
/// at the very end that is nothing. size may be more than the stream's limit. Everything else as evl_stream_read.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_stream_read_exactly(
    stream: *mut evl_stream,
    size: usize,
    out: *mut *mut evl_future,
) -> c_int {
    // SAFETY: a live stream or NULL; out is writable or NULL.
    unsafe { read(stream, out, || Ok(Want::bytes(Amount::Exactly(size)))) }
}

/// evl_stream_read_exactly into memory of yours. The result is size (evl_future_result_int). When it is not all read,
/// the memory's content is undefined.
///
/// buffer is evl's until the future is done. Everything else as evl_stream_read_exactly; -EINVAL also when buffer is
/// NULL and size not 0.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_stream_read_exactly_into(
    stream: *mut evl_stream,
    buffer: *mut c_void,
    size: usize,
    out: *mut *mut evl_future,
) -> c_int {
    // SAFETY: a live stream or NULL; buffer has size writable bytes; out is writable or NULL.
    unsafe { read(stream, out, || into(buffer, size, Amount::Exactly)) }
}

/// Reads up to a separator of separator_size bytes, which is copied: StreamReader.readuntil. The result is bytes with
/// the separator at their end (evl_future_result_bytes).
///
/// When the stream ends before, the future fails with EVL_EINCOMPLETE, and evl_future_error_bytes has what there was.
/// When more than the stream's limit comes before the separator, it fails with EVL_EOVERRUN, all stays in the stream,
/// and evl_future_error_bytes tells how much can be read by evl_stream_read. Everything else as evl_stream_read;
/// -EINVAL also when separator is NULL or has no bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_stream_read_until(
    stream: *mut evl_stream,
    separator: *const c_void,
    separator_size: usize,
    out: *mut *mut evl_future,
) -> c_int {
    // SAFETY: a live stream or NULL; separator has so many bytes; out is writable or NULL.
    unsafe {
        read(stream, out, || {
            let separator = own::bytes(separator.cast(), separator_size)?;
            if separator.is_empty() {
                return Err(Error::INVALID.detail(|| "Separator should be at least one-byte string".into()));
            }
            Ok(Want::until(Cow::Owned(separator.to_vec()), false))
        })
    }
}

/// Reads a line: StreamReader.readline. The result is bytes with the newline at their end (evl_future_result_bytes);
/// the last line may have none, and at the end there are no bytes at all.
///
/// A line that is longer than the stream's limit fails with EVL_EOVERRUN, and as much of it as has come is dropped.
/// Everything else as evl_stream_read.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_stream_read_line(stream: *mut evl_stream, out: *mut *mut evl_future) -> c_int {
    // SAFETY: a live stream or NULL; out is writable or NULL.
    unsafe { read(stream, out, || Ok(Want::until(Cow::Borrowed(NEWLINE), true))) }
}

/// Whether the stream has ended, and all was read: 1 or 0. StreamReader.at_eof. NULL gives 0. On the loop's thread.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_stream_at_eof(stream: *const evl_stream) -> c_int {
    // SAFETY: a live stream or NULL, as documented.
    predicate(unsafe { stream.as_ref() }, Stream::at_eof)
}

/// Sets the limit of the stream, which is 64 KiB at first: how long a line may be, and what comes before a separator.
/// The peer has to wait while more than twice as much lies unread.
///
/// On the loop's thread. Errors: -EINVAL (NULL; 0), EVL_ECLOSED, EVL_EWRONGTHREAD, EVL_EFORKED.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_stream_set_limit(stream: *mut evl_stream, limit: usize) -> c_int {
    // SAFETY: a live stream or NULL, as documented.
    unsafe { on_stream(stream, |lp, stream| stream.set_limit(lp, limit).map(|()| 0)) }
}

/// The limit of the stream. NULL gives 0. On the loop's thread.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_stream_get_limit(stream: *const evl_stream) -> usize {
    // SAFETY: a live stream or NULL, as documented.
    unsafe { stream.as_ref() }.map_or(0, Stream::limit)
}
