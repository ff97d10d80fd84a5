//! Socket addresses as people read them.

use std::ffi::c_int;

use super::text;

/// The bytes of a `sockaddr` as text: "127.0.0.1:80", `[::1]:80`, a path, "@name" of an abstract one.
pub(crate) fn describe(address: &[u8]) -> String {
    let Some(family) = address.first_chunk::<2>().map(|bytes| c_int::from(u16::from_ne_bytes(*bytes))) else {
        return "no address".into();
    };
    // SAFETY: a slice has its bytes.
    let Ok((text, port)) = (unsafe { text::format(address.as_ptr().cast(), address.len() as u32) }) else {
        return format!("an address of family {family}");
    };
    match family {
        libc::AF_INET => format!("{text}:{port}"),
        libc::AF_INET6 => format!("[{text}]:{port}"),
        _ if text.is_empty() => "an unnamed socket".into(),
        _ => text,
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
