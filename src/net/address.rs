//! Socket addresses as people read them.

use std::ffi::{CStr, c_char, c_int, c_void};

unsafe extern "C" {
    fn inet_ntop(family: c_int, address: *const c_void, text: *mut c_char, size: libc::socklen_t) -> *const c_char;
}

/// The bytes of a `sockaddr` as text: "127.0.0.1:80", "[::1]:80", a path, "@name" of an abstract one.
pub(crate) fn describe(address: &[u8]) -> String {
    let Some(family) = address.first_chunk::<2>().map(|bytes| c_int::from(u16::from_ne_bytes(*bytes))) else {
        return "no address".into();
    };
    let port = address.get(2..4).map_or(0, |port| u16::from_be_bytes([port[0], port[1]]));
    match family {
        libc::AF_INET if address.len() >= 8 => format!("{}:{port}", numeric(family, &address[4..8])),
        libc::AF_INET6 if address.len() >= 24 => format!("[{}]:{port}", numeric(family, &address[8..24])),
        libc::AF_UNIX => match &address[2..] {
            [] => "an unnamed socket".into(),
            [0, name @ ..] => format!("@{}", String::from_utf8_lossy(name)),
            path => String::from_utf8_lossy(path.split(|&byte| byte == 0).next().unwrap_or(path)).into_owned(),
        },
        _ => format!("an address of family {family}"),
    }
}

/// The address in its usual numbers. `bytes` are as many as its family has.
fn numeric(family: c_int, bytes: &[u8]) -> String {
    let mut text = [0; 64];
    // SAFETY: the bytes are an address of that family; the text has room for the longest one.
    unsafe {
        if inet_ntop(family, bytes.as_ptr().cast(), text.as_mut_ptr(), text.len() as libc::socklen_t).is_null() {
            return "?".into();
        }
        CStr::from_ptr(text.as_ptr()).to_string_lossy().into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::describe;

    #[test]
    fn addresses_read_as_usual() {
        let family = |family: libc::c_int, rest: &[u8]| {
            let mut bytes = (family as u16).to_ne_bytes().to_vec();
            bytes.extend_from_slice(rest);
            describe(&bytes)
        };
        assert_eq!(family(libc::AF_INET, &[0, 80, 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]), "127.0.0.1:80");
        let mut v6 = [0; 26];
        (v6[1], v6[21]) = (53, 1);
        assert_eq!(family(libc::AF_INET6, &v6), "[::1]:53");
        assert_eq!(family(libc::AF_UNIX, b"/tmp/a\0\0"), "/tmp/a");
        assert_eq!(family(libc::AF_UNIX, b"\0name"), "@name");
        assert_eq!(family(libc::AF_UNIX, b""), "an unnamed socket");
        assert_eq!(family(libc::AF_INET, &[0, 80]), "an address of family 2");
        assert_eq!(describe(&[1]), "no address");
    }
}
