//! Link arguments of the shared library, and (feature `header`) the C header.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("linux") {
        println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libevl.so.0");
        // A callback may still run in a thread of the host while it unloads the library.
        println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");
    }
    #[cfg(feature = "header")]
    header::generate();
}

#[cfg(feature = "header")]
mod header {
    use std::path::{Path, PathBuf};
    use std::{env, fs};

    /// The files of the C surface, in the order in which the header shows them.
    const SOURCES: &[&str] = &[
        "version",
        "error",
        "handle",
        "timer",
        "context",
        "event_loop",
        "schedule",
        "exception",
        "watch",
        "signal",
        "future",
        "task",
        "wait",
        "task_group",
        "run",
        "sock",
        "executor",
        "transport",
        "pipe",
        "connection",
        "server",
        "stream",
        "stream_read",
        "datagram",
        "resolver",
        "child_watcher",
        "process",
        "embed",
        "policy",
    ];

    /// Writes OUT_DIR/evl.h, and a copy to $EVL_HEADER_OUT when that is set.
    pub fn generate() {
        let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
        println!("cargo:rerun-if-changed=cbindgen.toml");
        println!("cargo:rerun-if-changed=src/ffi");
        println!("cargo:rerun-if-env-changed=EVL_HEADER_OUT");
        let mut config = cbindgen::Config::from_file(root.join("cbindgen.toml")).expect("cbindgen.toml is valid");
        let preamble = fs::read_to_string(root.join("src/ffi/preamble.h")).expect("the preamble is there");
        config.after_includes = Some(format!("\n{}\n{preamble}", versions()));
        let mut builder = cbindgen::Builder::new().with_config(config);
        for name in SOURCES {
            builder = builder.with_src(root.join(format!("src/ffi/{name}.rs")));
        }
        let mut header = Vec::new();
        builder.generate().expect("the C surface can be told in C").write(&mut header);
        let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it")).join("evl.h");
        write_if_different(&out, &header);
        if let Some(copy) = env::var_os("EVL_HEADER_OUT") {
            write_if_different(Path::new(&copy), &header);
        }
    }

    fn versions() -> String {
        let part = |name: &str| env::var(format!("CARGO_PKG_VERSION_{name}")).expect("cargo sets it");
        format!(
            "/* The version of this header, and of the binary interface it describes. */\n\
             #define EVL_VERSION \"{}\"\n#define EVL_VERSION_MAJOR {}\n#define EVL_VERSION_MINOR {}\n\
             #define EVL_VERSION_PATCH {}\n#define EVL_ABI_VERSION 0\n",
            env::var("CARGO_PKG_VERSION").expect("cargo sets it"),
            part("MAJOR"),
            part("MINOR"),
            part("PATCH"),
        )
    }

    fn write_if_different(path: &Path, text: &[u8]) {
        if fs::read(path).is_ok_and(|old| old == text) {
            return;
        }
        fs::write(path, text).expect("the header can be written");
    }
}
