//! The table of error numbers: the documentation's is the one that the code acts by, and its numbers are the system's.

use polyloop_core::errno::{self, markdown};

const BEGIN: &str = "<!-- errno:begin -->\n";
const END: &str = "<!-- errno:end -->";

#[test]
fn the_documented_table_is_the_one_in_force() {
    // Goal: docs/ERRORS.md never lies. Method: compare; `UPDATE_DOCS=1` writes it anew.
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/ERRORS.md");
    let text = std::fs::read_to_string(path).unwrap();
    let from = text.find(BEGIN).unwrap() + BEGIN.len();
    let to = text.find(END).unwrap();
    let wanted = format!("{}\n", markdown().trim_end());
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, format!("{}{wanted}{}", &text[..from], &text[to..])).unwrap();
        return;
    }
    assert!(
        text[from..to] == wanted,
        "docs/ERRORS.md is behind: UPDATE_DOCS=1 cargo test -p polyloop-sys --test errno"
    );
}

#[test]
fn the_numbers_are_the_systems() {
    // Goal: the core, which knows no system, has its numbers right. Method: each name that the core gives beside libc's.
    let system = [
        ("EACCES", libc::EACCES),
        ("EADDRINUSE", libc::EADDRINUSE),
        ("EADDRNOTAVAIL", libc::EADDRNOTAVAIL),
        ("EAFNOSUPPORT", libc::EAFNOSUPPORT),
        ("EAGAIN", libc::EAGAIN),
        ("EALREADY", libc::EALREADY),
        ("EBADF", libc::EBADF),
        ("ECONNABORTED", libc::ECONNABORTED),
        ("ECONNREFUSED", libc::ECONNREFUSED),
        ("ECONNRESET", libc::ECONNRESET),
        ("EDESTADDRREQ", libc::EDESTADDRREQ),
        ("EFAULT", libc::EFAULT),
        ("EHOSTDOWN", libc::EHOSTDOWN),
        ("EHOSTUNREACH", libc::EHOSTUNREACH),
        ("EINPROGRESS", libc::EINPROGRESS),
        ("EINTR", libc::EINTR),
        ("EINVAL", libc::EINVAL),
        ("EIO", libc::EIO),
        ("EISCONN", libc::EISCONN),
        ("EMFILE", libc::EMFILE),
        ("ENETDOWN", libc::ENETDOWN),
        ("ENETUNREACH", libc::ENETUNREACH),
        ("ENFILE", libc::ENFILE),
        ("ENOBUFS", libc::ENOBUFS),
        ("ENOENT", libc::ENOENT),
        ("ENOMEM", libc::ENOMEM),
        ("ENONET", libc::ENONET),
        ("ENOPROTOOPT", libc::ENOPROTOOPT),
        ("ENOTCONN", libc::ENOTCONN),
        ("ENOTSOCK", libc::ENOTSOCK),
        ("EOPNOTSUPP", libc::EOPNOTSUPP),
        ("EPERM", libc::EPERM),
        ("EPIPE", libc::EPIPE),
        ("EPROTO", libc::EPROTO),
        ("EPROTOTYPE", libc::EPROTOTYPE),
        ("ETIMEDOUT", libc::ETIMEDOUT),
    ];
    for (name, number) in system {
        // The core names a number; only the right number has the name.
        assert_eq!(errno::name(number), Some(name));
    }
}
