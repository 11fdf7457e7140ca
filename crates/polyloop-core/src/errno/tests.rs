//! Tests of [`super`]: the tables as a whole, the rows that outages were made of, and the rendering.

use super::*;
use std::io::{Error, ErrorKind};

fn check_table<A: Copy + PartialEq + std::fmt::Debug>(rows: &[Row<A>], look_up: fn(i32) -> A) {
    for (index, row) in rows.iter().enumerate() {
        assert_eq!(look_up(row.errno), row.action, "{}", row.name);
        assert!(
            rows[..index]
                .iter()
                .all(|earlier| earlier.errno != row.errno),
            "{} twice",
            row.name
        );
        assert!(
            !row.why.is_empty() && !row.why.contains('|'),
            "{}",
            row.name
        );
    }
}

#[test]
fn each_table_is_what_its_function_answers() {
    // Goal: no row is shadowed, none breaks the rendering. Method: walk all rows.
    check_table(ACCEPT, accept_action);
    check_table(READ, read_action);
    check_table(WRITE, write_action);
    check_table(CONNECT, connect_action);
}

#[test]
fn everyday_answers_are_found_first() {
    // Goal: the drained socket costs one comparison. Method: the first rows.
    assert_eq!(
        [ACCEPT[0].errno, READ[0].errno, WRITE[0].errno],
        [EAGAIN; 3]
    );
    assert_eq!(CONNECT[0].errno, EINPROGRESS);
}

#[test]
fn numbers_are_those_of_this_system() {
    // Goal: no number is mistyped. Method: the standard library's kinds, and the system's texts for the others.
    for (errno, kind) in [
        (EPERM, ErrorKind::PermissionDenied),
        (ENOENT, ErrorKind::NotFound),
        (EINTR, ErrorKind::Interrupted),
        (EAGAIN, ErrorKind::WouldBlock),
        (ENOMEM, ErrorKind::OutOfMemory),
        (EACCES, ErrorKind::PermissionDenied),
        (EINVAL, ErrorKind::InvalidInput),
        (EPIPE, ErrorKind::BrokenPipe),
        (EADDRINUSE, ErrorKind::AddrInUse),
        (EADDRNOTAVAIL, ErrorKind::AddrNotAvailable),
        (ENETDOWN, ErrorKind::NetworkDown),
        (ENETUNREACH, ErrorKind::NetworkUnreachable),
        (ECONNABORTED, ErrorKind::ConnectionAborted),
        (ECONNRESET, ErrorKind::ConnectionReset),
        (ENOTCONN, ErrorKind::NotConnected),
        (ETIMEDOUT, ErrorKind::TimedOut),
        (ECONNREFUSED, ErrorKind::ConnectionRefused),
        (EHOSTUNREACH, ErrorKind::HostUnreachable),
    ] {
        assert_eq!(Error::from_raw_os_error(errno).kind(), kind, "{errno}");
    }
    for (errno, text) in [
        (EIO, "Input/output error"),
        (EBADF, "Bad file descriptor"),
        (EFAULT, "Bad address"),
        (ENFILE, "Too many open files in system"),
        (EMFILE, "Too many open files"),
        (ENONET, "Machine is not on the network"),
        (EPROTO, "Protocol error"),
        (ENOTSOCK, "Socket operation on non-socket"),
        (EDESTADDRREQ, "Destination address required"),
        (EPROTOTYPE, "Protocol wrong type for socket"),
        (ENOPROTOOPT, "Protocol not available"),
        (EAFNOSUPPORT, "Address family not supported by protocol"),
        (ENOBUFS, "No buffer space available"),
        (EISCONN, "Transport endpoint is already connected"),
        (EHOSTDOWN, "Host is down"),
        (EALREADY, "Operation already in progress"),
        (EINPROGRESS, "Operation now in progress"),
    ] {
        let message = Error::from_raw_os_error(errno).to_string();
        assert_eq!(message, format!("{text} (os error {errno})"));
    }
    assert!(
        Error::from_raw_os_error(EOPNOTSUPP)
            .to_string()
            .contains("not supported")
    );
}

#[test]
fn running_out_pauses_and_a_lost_connection_does_not() {
    // Goal: the rows that outages were made of. Method: by name.
    for errno in [EMFILE, ENFILE, ENOBUFS, ENOMEM, EINVAL] {
        assert_eq!(accept_action(errno), AcceptAction::Pause);
    }
    for errno in [ECONNABORTED, EPROTO, ENETDOWN, EHOSTUNREACH, EPERM] {
        assert_eq!(accept_action(errno), AcceptAction::Skip);
    }
    assert_eq!(connect_action(EADDRNOTAVAIL), ConnectAction::NoLocalPort);
    assert_eq!(
        connect_action(EINTR),
        ConnectAction::Pending,
        "calling again would say EALREADY"
    );
}

#[test]
fn unknown_numbers_get_a_bounded_answer() {
    // Goal: no number at all can spin or panic. Method: every number outside the tables, and the extremes.
    for errno in (-5..300)
        .chain([i32::MIN, i32::MAX])
        .filter(|errno| name(*errno).is_none())
    {
        assert_eq!(accept_action(errno), AcceptAction::Pause);
        assert_eq!(read_action(errno), IoAction::Close(Blame::System));
        assert_eq!(write_action(errno), IoAction::Close(Blame::System));
        assert_eq!(connect_action(errno), ConnectAction::TryAnother);
    }
    assert_eq!(
        (name(EMFILE), name(ENOENT), name(0)),
        (Some("EMFILE"), Some("ENOENT"), None)
    );
}

#[test]
fn the_rendering_has_every_row() {
    // Goal: the documentation is the table. Method: count lines and look at one.
    let text = markdown();
    let rows = ACCEPT.len() + READ.len() + WRITE.len() + CONNECT.len();
    let lines = text.lines().filter(|line| line.starts_with("| E")).count();
    assert_eq!(lines, rows);
    assert_eq!(
        text.lines()
            .filter(|line| line.starts_with("| any other"))
            .count(),
        4
    );
    assert!(
        text.starts_with("## accept\n\n| error | number | action | why |\n|---|---|---|---|\n")
    );
    assert!(text.contains("\n| EAGAIN | 11 | done | the backlog is empty |\n"));
    assert!(text.ends_with("|\n") && !text.contains("\n\n\n"));
}
