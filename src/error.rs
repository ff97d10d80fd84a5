//! Codes: what failed, as a negative number, with a name and a sentence for each.

use std::ffi::{CStr, c_int};
use std::io;

use crate::engine::thread;

/// A failure: a negative code, as the C surface returns it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Error(c_int);

/// What engine functions return.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub(crate) const INVALID: Error = Error(-libc::EINVAL);
    pub(crate) const BAD_DESCRIPTOR: Error = Error(-libc::EBADF);
    pub(crate) const NO_MEMORY: Error = Error(-libc::ENOMEM);
    pub(crate) const NO_ENTRY: Error = Error(-libc::ENOENT);
    pub(crate) const INTERRUPTED: Error = Error(-libc::EINTR);
    pub(crate) const TIMED_OUT: Error = Error(-libc::ETIMEDOUT);
    pub(crate) const BROKEN_PIPE: Error = Error(-libc::EPIPE);
    pub(crate) const NOT_SUPPORTED: Error = Error(-libc::EOPNOTSUPP);
    pub(crate) const NO_PROCESS: Error = Error(-libc::ESRCH);
    pub(crate) const CLOSED: Error = Error(-20001);
    pub(crate) const WRONG_THREAD: Error = Error(-20002);
    pub(crate) const RUNNING: Error = Error(-20003);
    pub(crate) const NO_LOOP: Error = Error(-20004);
    pub(crate) const DONE: Error = Error(-20005);
    pub(crate) const CANCELLED: Error = Error(-20006);
    pub(crate) const NOT_IN_CALLBACK: Error = Error(-20007);
    pub(crate) const EXIT: Error = Error(-20008);
    pub(crate) const PANIC: Error = Error(-20009);
    pub(crate) const OPTIONS: Error = Error(-20010);
    pub(crate) const FORKED: Error = Error(-20011);
    pub(crate) const BUSY: Error = Error(-20012);
    pub(crate) const NOT_IMPLEMENTED: Error = Error(-20013);
    pub(crate) const NO_VALUE: Error = Error(-20014);
    pub(crate) const TOKEN: Error = Error(-20015);
    pub(crate) const ENTERED: Error = Error(-20016);
    pub(crate) const NOT_ENTERED: Error = Error(-20017);
    pub(crate) const CLOCK: Error = Error(-20018);
    pub(crate) const SIGNAL: Error = Error(-20019);
    pub(crate) const SCHEDULED: Error = Error(-20020);
    pub(crate) const INVALID_STATE: Error = Error(-20021);
    pub(crate) const STOPPED: Error = Error(-20022);
    pub(crate) const SHUT_DOWN: Error = Error(-20023);
    pub(crate) const INCOMPLETE: Error = Error(-20024);
    pub(crate) const OVERRUN: Error = Error(-20025);
    pub(crate) const NO_SENDFILE: Error = Error(-20026);
    pub(crate) const EAI_ADDRFAMILY: Error = Error(-20101);
    pub(crate) const EAI_AGAIN: Error = Error(-20102);
    pub(crate) const EAI_BADFLAGS: Error = Error(-20103);
    pub(crate) const EAI_FAIL: Error = Error(-20104);
    pub(crate) const EAI_FAMILY: Error = Error(-20105);
    pub(crate) const EAI_MEMORY: Error = Error(-20106);
    pub(crate) const EAI_NODATA: Error = Error(-20107);
    pub(crate) const EAI_NONAME: Error = Error(-20108);
    pub(crate) const EAI_OVERFLOW: Error = Error(-20109);
    pub(crate) const EAI_SERVICE: Error = Error(-20110);
    pub(crate) const EAI_SOCKTYPE: Error = Error(-20111);

    /// The failure with this code; a code that is not negative becomes -EINVAL.
    pub(crate) fn from_code(code: c_int) -> Self {
        if code < 0 { Error(code) } else { Error::INVALID }
    }

    /// The last system call's failure on this thread.
    pub(crate) fn last_os() -> Self {
        io::Error::last_os_error().into()
    }

    /// The code, always negative.
    pub fn code(self) -> c_int {
        self.0
    }

    /// Keeps a sentence for `evl_error_detail`.
    pub(crate) fn detail(self, text: impl FnOnce() -> String) -> Self {
        thread::set_detail(&text());
        self
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Error(error.raw_os_error().map_or(-libc::EIO, |errno| -errno))
    }
}

/// A sentence for a code.
pub(crate) fn describe(code: c_int) -> &'static CStr {
    lookup(code).map_or(c"unknown error", |(_, _, text)| text)
}

/// The name of a code.
pub(crate) fn name(code: c_int) -> &'static CStr {
    lookup(code).map_or(c"UNKNOWN", |(_, name, _)| name)
}

type Row = (c_int, &'static CStr, &'static CStr);

fn lookup(code: c_int) -> Option<&'static Row> {
    if code == 0 {
        return Some(&(0, c"EVL_OK", c"success"));
    }
    OWN.iter().find(|row| row.0 == code).or_else(|| SYSTEM.iter().find(|row| code == -row.0))
}

const OWN: &[Row] = &[
    (-20001, c"EVL_ECLOSED", c"the loop is closed"),
    (-20002, c"EVL_EWRONGTHREAD", c"the loop belongs to another thread"),
    (-20003, c"EVL_ERUNNING", c"a loop is running"),
    (-20004, c"EVL_ENOLOOP", c"no loop in this thread"),
    (-20005, c"EVL_EDONE", c"the one-shot handle has run"),
    (-20006, c"EVL_ECANCELLED", c"it was cancelled"),
    (-20007, c"EVL_ENOTINCALLBACK", c"not inside of a callback"),
    (-20008, c"EVL_EEXIT", c"a callback asked to exit"),
    (-20009, c"EVL_EPANIC", c"the library failed inside; the loop can only be closed"),
    (-20010, c"EVL_EOPTIONS", c"a sized struct has a wrong size or an unknown setting"),
    (-20011, c"EVL_EFORKED", c"the process was forked since the loop was made"),
    (-20012, c"EVL_EBUSY", c"somebody else uses it"),
    (-20013, c"EVL_ENOTIMPLEMENTED", c"the policy does not implement this"),
    (-20014, c"EVL_ENOVALUE", c"the context variable has no value"),
    (-20015, c"EVL_ETOKEN", c"the token was used, or belongs elsewhere"),
    (-20016, c"EVL_EENTERED", c"already entered"),
    (-20017, c"EVL_ENOTENTERED", c"not the current context"),
    (-20018, c"EVL_ECLOCK", c"the loop's clock is not manual"),
    (-20019, c"EVL_ESIGNAL", c"the signal cannot be caught"),
    (-20020, c"EVL_ESCHEDULED", c"the handle is scheduled already"),
    (-20021, c"EVL_EINVALIDSTATE", c"the future is in no state for this"),
    (-20022, c"EVL_ESTOPPED", c"the loop was stopped before the future was done"),
    (-20023, c"EVL_ESHUTDOWN", c"it was shut down"),
    (-20024, c"EVL_EINCOMPLETE", c"the stream ended before all was read"),
    (-20025, c"EVL_EOVERRUN", c"the stream's limit was reached before the separator"),
    (-20026, c"EVL_ENOSENDFILE", c"sendfile(2) cannot send this file to there"),
    (-20101, c"EVL_EAI_ADDRFAMILY", c"the host has no address of this family"),
    (-20102, c"EVL_EAI_AGAIN", c"the name cannot be looked up now"),
    (-20103, c"EVL_EAI_BADFLAGS", c"wrong flags of a look-up"),
    (-20104, c"EVL_EAI_FAIL", c"the name cannot be looked up"),
    (-20105, c"EVL_EAI_FAMILY", c"the address family is not supported"),
    (-20106, c"EVL_EAI_MEMORY", c"no memory for a look-up"),
    (-20107, c"EVL_EAI_NODATA", c"the host has no address"),
    (-20108, c"EVL_EAI_NONAME", c"the name or service is not known"),
    (-20109, c"EVL_EAI_OVERFLOW", c"a name is too long"),
    (-20110, c"EVL_EAI_SERVICE", c"the service is not available for this type of socket"),
    (-20111, c"EVL_EAI_SOCKTYPE", c"the type of socket is not supported"),
];

macro_rules! system {
    ($($name:ident $text:literal)*) => {
        &[$((libc::$name, match CStr::from_bytes_with_nul(concat!(stringify!($name), "\0").as_bytes()) {
            Ok(name) => name,
            Err(_) => panic!("a literal with one NUL, at its end"),
        }, $text)),*]
    };
}

const SYSTEM: &[Row] = system! {
    EPERM c"operation not permitted"
    ENOENT c"no such file, directory or entry"
    ESRCH c"no such process"
    EINTR c"interrupted system call"
    EIO c"input or output error"
    ENXIO c"no such device or address"
    E2BIG c"argument list too long"
    ENOEXEC c"exec format error"
    EBADF c"bad file descriptor"
    ECHILD c"no child processes"
    EAGAIN c"resource temporarily unavailable"
    ENOMEM c"cannot allocate memory"
    EACCES c"permission denied"
    EFAULT c"bad address"
    EBUSY c"device or resource busy"
    EEXIST c"file exists"
    EXDEV c"link across devices"
    ENODEV c"no such device"
    ENOTDIR c"not a directory"
    EISDIR c"is a directory"
    EINVAL c"invalid argument"
    ENFILE c"too many open files in the system"
    EMFILE c"too many open files"
    ENOTTY c"not a terminal"
    ETXTBSY c"text file busy"
    EFBIG c"file too large"
    ENOSPC c"no space left"
    ESPIPE c"illegal seek"
    EROFS c"read-only file system"
    EMLINK c"too many links"
    EPIPE c"broken pipe"
    EDOM c"argument out of domain"
    ERANGE c"result out of range"
    EDEADLK c"resource deadlock avoided"
    ENAMETOOLONG c"file name too long"
    ENOLCK c"no locks available"
    ENOSYS c"function not implemented"
    ENOTEMPTY c"directory not empty"
    ELOOP c"too many symbolic links"
    EPROTO c"protocol error"
    EOVERFLOW c"value too large"
    EILSEQ c"illegal byte sequence"
    ENOTSOCK c"not a socket"
    EDESTADDRREQ c"destination address required"
    EMSGSIZE c"message too long"
    EPROTOTYPE c"wrong protocol type for the socket"
    ENOPROTOOPT c"protocol not available"
    EPROTONOSUPPORT c"protocol not supported"
    EOPNOTSUPP c"operation not supported"
    EAFNOSUPPORT c"address family not supported"
    EADDRINUSE c"address already in use"
    EADDRNOTAVAIL c"cannot assign the address"
    ENETDOWN c"network is down"
    ENETUNREACH c"network is unreachable"
    ENETRESET c"network dropped the connection on reset"
    ECONNABORTED c"connection aborted"
    ECONNRESET c"connection reset by the peer"
    ENOBUFS c"no buffer space available"
    EISCONN c"already connected"
    ENOTCONN c"not connected"
    ESHUTDOWN c"the transport endpoint was shut down"
    ETIMEDOUT c"timed out"
    ECONNREFUSED c"connection refused"
    EHOSTDOWN c"host is down"
    EHOSTUNREACH c"no route to host"
    EALREADY c"operation already in progress"
    EINPROGRESS c"operation in progress"
    ESTALE c"stale file handle"
    EDQUOT c"disk quota exceeded"
    ECANCELED c"operation cancelled"
};
