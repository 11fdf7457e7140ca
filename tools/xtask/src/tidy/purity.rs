//! The core names no clock, thread, socket, file, environment or random source.
//!
//! Clippy's `disallowed-methods` (crates/polyloop-core/.clippy.toml) says the same with the compiler's knowledge of
//! types; this looks at paths as written, and so also sees imports, code behind a `cfg`, and the bodies of macros.
//! Tests of the core are held to it too: they pass time and seeds in like everybody else.

use super::finding::{Finding, Rule};
use super::source::{Path, RustFile};

const CORE_DIRECTORY: &str = "crates/polyloop-core/";

/// Finds what the core must not name. Empty for other crates.
pub(crate) fn check(file: &RustFile) -> Vec<Finding> {
    if !file.path.starts_with(CORE_DIRECTORY) {
        return Vec::new();
    }
    let banned = |path: &Path| {
        let what = what_is_banned(path)?;
        let text = format!("the core names {what} (`{}`)", path.segments.join("::"));
        Some(Finding::new(&file.path, path.line, Rule::CorePurity, text))
    };
    file.paths().iter().filter_map(banned).collect()
}

fn what_is_banned(path: &Path) -> Option<&'static str> {
    let socket = |name: &String| name == "*" || name.starts_with("Tcp") || name.starts_with("Udp");
    if path.contains(&["Instant", "now"]) || path.contains(&["SystemTime"]) {
        Some("a clock")
    } else if path.contains(&["thread", "sleep"]) {
        Some("a sleep")
    } else if path.starts_with(&["std", "thread"]) {
        Some("threads")
    } else if path.starts_with(&["std", "net"]) && path.segments.get(2).is_some_and(socket) {
        Some("sockets")
    } else if path.starts_with(&["std", "fs"]) {
        Some("files")
    } else if path.starts_with(&["std", "env"]) {
        Some("the environment")
    } else if path.contains(&["RandomState"]) {
        Some("a random source")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(path: &str, text: &str) -> Vec<Finding> {
        check(&RustFile::parse(path, text).unwrap())
    }

    /// Goal: each banned thing is found, imported or spelled out. Method: one line of each.
    #[test]
    fn the_world_is_kept_out() {
        for text in [
            "fn f() { let t = Instant::now(); }",
            "use std::time::{Duration, SystemTime};",
            "fn f() { thread::sleep(d); }",
            "use std::{fmt, thread};",
            "use std::net::{IpAddr, TcpStream};",
            "use std::net::*;",
            "fn f() { std::net::UdpSocket::bind(a); }",
            "use std::fs::File;",
            "fn f() { m!(std::env::var(\"X\")); }",
            "use std::collections::hash_map::RandomState;",
            "#[cfg(test)] mod t { use std::thread; }",
        ] {
            assert_eq!(
                judge("crates/polyloop-core/src/a.rs", text).len(),
                1,
                "{text}"
            );
        }
    }

    /// Goal: values that only describe the world are welcome. Method: addresses, durations, a word in a comment.
    #[test]
    fn values_are_let_in() {
        let text = "//! No Instant::now.\nuse std::net::{IpAddr, SocketAddr};\nuse std::time::{Duration, Instant};\n\
                    fn f(now: Instant) -> &'static str { \"std::fs\" }\n";
        assert_eq!(judge("crates/polyloop-core/src/a.rs", text), []);
        let edge = "fn f() { let t = Instant::now(); }";
        assert_eq!(judge("crates/polyloop/src/a.rs", edge), []);
    }
}
