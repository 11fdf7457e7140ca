//! What each error number of accept, read, write and connect makes a loop do: the one table.
//!
//! One idea: the loop, the tests and `docs/ERRORS.md` walk the same rows ([`markdown`] renders them), so that the
//! documentation cannot drift from the code. `EAGAIN` comes first where it is the everyday answer: the search then
//! ends after one comparison.
//!
//! Each operation has its own set of actions, because what can be done differs. An unknown number gets the documented
//! default, which is always bounded: a pause, or the end of one connection.
//!
//! Deliberately absent: `std::io::ErrorKind`, which folds numbers together that need different actions (`EMFILE` and
//! `ENFILE` have no kind of their own). The numbers are those of Linux on x86-64 and aarch64.

use std::fmt::Write as _;

#[cfg(test)]
mod tests;

/// What an error number means for one operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row<A> {
    /// The number.
    pub errno: i32,
    /// Its name in C.
    pub name: &'static str,
    /// What the loop does.
    pub action: A,
    /// The reason, for the documentation.
    pub why: &'static str,
}

/// What to do after a failed accept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AcceptAction {
    /// The backlog is empty: wait for the next edge.
    Done,
    /// Nothing happened: make the same call again.
    Retry,
    /// One waiting connection was lost: count it and accept the next. After [`SKIPS_IN_A_ROW_MAX`] of them without a
    /// connection between, treat it as [`Pause`](Self::Pause): a filter that forbids every accept must not spin.
    Skip,
    /// Nothing can be accepted now: take the listener out of the poll and come back when a descriptor of ours closes
    /// or the safety timer fires (see [`crate::admission`]).
    Pause,
    /// The descriptor is no listening socket: our bug. Close the listener and end the loop's service loudly.
    Broken,
}

/// What to do after a failed read or write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IoAction {
    /// Nothing more for now: wait for the next edge.
    Done,
    /// Nothing happened: make the same call again.
    Retry,
    /// The connection is over.
    Close(Blame),
}

/// Who ended a connection that a read or a write found dead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blame {
    /// The peer reset it, or is not there to take what is written.
    Reset,
    /// The peer stopped answering, or the way to it broke.
    Vanished,
    /// The operating system lacked something or failed.
    System,
    /// The call was wrong: our bug. Counted apart, asserted in debug builds.
    OurBug,
}

/// What to do after connect, or after its result has been read from the socket (`SO_ERROR`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectAction {
    /// Under way: wait for the socket to become writable, then read its `SO_ERROR`.
    Pending,
    /// It is connected.
    Connected,
    /// This address does not answer or refuses: try another, and count it against this one.
    TryAnother,
    /// No local port (or unix backlog) is free for this pair of addresses: not the target's fault; try another target
    /// or wait for one to be released.
    NoLocalPort,
    /// Descriptors or memory ran out: not the target's fault; stop accepting as for [`AcceptAction::Pause`].
    Exhausted,
    /// A local rule forbids it: trying again does not help; tell the operator.
    Forbidden,
    /// The address or the socket does not fit the call: a configuration mistake or our bug; tell the operator.
    Misconfigured,
}

/// After this many [`AcceptAction::Skip`] in a row the listener is paused.
pub const SKIPS_IN_A_ROW_MAX: u32 = 64;

/// What an accept that failed with an unknown number does: it is retried ten times a second, and never spins.
pub const ACCEPT_DEFAULT: AcceptAction = AcceptAction::Pause;

/// What a read or a write that failed with an unknown number does: the connection's state is not known any more.
pub const IO_DEFAULT: IoAction = IoAction::Close(Blame::System);

/// What a connect that failed with an unknown number does.
pub const CONNECT_DEFAULT: ConnectAction = ConnectAction::TryAnother;

/// The action for a failed accept; [`ACCEPT_DEFAULT`] for a number without a row.
#[must_use]
#[inline]
pub fn accept_action(errno: i32) -> AcceptAction {
    find(ACCEPT, errno, ACCEPT_DEFAULT)
}

/// The action for a failed read; [`IO_DEFAULT`] for a number without a row.
#[must_use]
#[inline]
pub fn read_action(errno: i32) -> IoAction {
    find(READ, errno, IO_DEFAULT)
}

/// The action for a failed write; [`IO_DEFAULT`] for a number without a row.
#[must_use]
#[inline]
pub fn write_action(errno: i32) -> IoAction {
    find(WRITE, errno, IO_DEFAULT)
}

/// The action for a connect or its result; [`CONNECT_DEFAULT`] for a number without a row. `SO_ERROR` of 0 is no error
/// and is not looked up: the socket is connected.
#[must_use]
#[inline]
pub fn connect_action(errno: i32) -> ConnectAction {
    find(CONNECT, errno, CONNECT_DEFAULT)
}

/// The name of a number in any of the tables, for messages.
#[must_use]
pub fn name(errno: i32) -> Option<&'static str> {
    let accept = ACCEPT.iter().map(|row| (row.errno, row.name));
    let io = READ.iter().chain(WRITE).map(|row| (row.errno, row.name));
    let connect = CONNECT.iter().map(|row| (row.errno, row.name));
    accept
        .chain(io)
        .chain(connect)
        .find(|row| row.0 == errno)
        .map(|row| row.1)
}

/// All tables as Markdown. `docs/ERRORS.md` contains exactly this text.
#[must_use]
pub fn markdown() -> String {
    let mut text = String::new();
    render(
        &mut text,
        "accept",
        ACCEPT,
        AcceptAction::name,
        ACCEPT_DEFAULT,
    );
    render(&mut text, "read", READ, IoAction::name, IO_DEFAULT);
    render(&mut text, "write", WRITE, IoAction::name, IO_DEFAULT);
    render(
        &mut text,
        "connect",
        CONNECT,
        ConnectAction::name,
        CONNECT_DEFAULT,
    );
    text
}

impl AcceptAction {
    /// The name in the documentation and in metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Retry => "retry",
            Self::Skip => "skip",
            Self::Pause => "pause",
            Self::Broken => "broken",
        }
    }
}

impl IoAction {
    /// The name in the documentation and in metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Retry => "retry",
            Self::Close(Blame::Reset) => "close (reset)",
            Self::Close(Blame::Vanished) => "close (vanished)",
            Self::Close(Blame::System) => "close (system)",
            Self::Close(Blame::OurBug) => "close (our bug)",
        }
    }
}

impl ConnectAction {
    /// The name in the documentation and in metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Connected => "connected",
            Self::TryAnother => "try another",
            Self::NoLocalPort => "no local port",
            Self::Exhausted => "exhausted",
            Self::Forbidden => "forbidden",
            Self::Misconfigured => "misconfigured",
        }
    }
}

#[inline]
fn find<A: Copy>(rows: &[Row<A>], errno: i32, default: A) -> A {
    rows.iter()
        .find(|row| row.errno == errno)
        .map_or(default, |row| row.action)
}

fn render<A: Copy>(
    text: &mut String,
    operation: &str,
    rows: &[Row<A>],
    name: fn(A) -> &'static str,
    default: A,
) {
    let gap = if text.is_empty() { "" } else { "\n" };
    // Writing to a String cannot fail.
    let _ = writeln!(
        text,
        "{gap}## {operation}\n\n| error | number | action | why |\n|---|---|---|---|"
    );
    for row in rows {
        let action = name(row.action);
        let _ = writeln!(
            text,
            "| {} | {} | {action} | {} |",
            row.name, row.errno, row.why
        );
    }
    let _ = writeln!(
        text,
        "| any other | | {} | no row: the bounded answer |",
        name(default)
    );
}

/// Builds rows whose names are those of the constants, so that the two cannot differ.
macro_rules! rows {
    ($($errno:ident => $action:expr, $why:literal;)+) => {
        &[$(Row { errno: $errno, name: stringify!($errno), action: $action, why: $why }),+]
    };
}

/// The rows of accept.
pub const ACCEPT: &[Row<AcceptAction>] = {
    use AcceptAction::{Broken, Done, Pause, Retry, Skip};
    rows! {
        EAGAIN => Done, "the backlog is empty";
        EINTR => Retry, "a signal came first";
        ECONNABORTED => Skip, "the peer gave up while it waited";
        EPROTO => Skip, "an error of the new connection, handed on by Linux";
        ENETDOWN => Skip, "an error of the new connection, handed on by Linux";
        ENOPROTOOPT => Skip, "an error of the new connection, handed on by Linux";
        EHOSTDOWN => Skip, "an error of the new connection, handed on by Linux";
        ENONET => Skip, "an error of the new connection, handed on by Linux";
        EHOSTUNREACH => Skip, "an error of the new connection, handed on by Linux";
        EOPNOTSUPP => Skip, "an error of the new connection, handed on by Linux";
        ENETUNREACH => Skip, "an error of the new connection, handed on by Linux";
        ETIMEDOUT => Skip, "an error of the new connection, handed on by Linux";
        EPERM => Skip, "a firewall rule forbids this connection";
        EMFILE => Pause, "this process has no descriptor left; the connection stays in the backlog";
        ENFILE => Pause, "the system has no descriptor left; the connection stays in the backlog";
        ENOBUFS => Pause, "no socket memory";
        ENOMEM => Pause, "no socket memory";
        EINVAL => Pause, "the socket does not listen: somebody who shares it shut it down, and may listen again";
        EBADF => Broken, "no descriptor of ours";
        ENOTSOCK => Broken, "no socket";
        EFAULT => Broken, "a wrong pointer";
    }
};

/// The rows of read.
pub const READ: &[Row<IoAction>] = {
    use Blame::{OurBug, Reset, System, Vanished};
    use IoAction::{Close, Done, Retry};
    rows! {
        EAGAIN => Done, "all that came has been read";
        EINTR => Retry, "a signal came first";
        ECONNRESET => Close(Reset), "the peer sent a reset";
        EPIPE => Close(Reset), "the peer is gone";
        ECONNREFUSED => Close(Reset), "the peer refused the connection after all";
        ETIMEDOUT => Close(Vanished), "keepalive or retransmission got no answer";
        EHOSTUNREACH => Close(Vanished), "the network says that the host cannot be reached";
        ENETUNREACH => Close(Vanished), "the network says that it cannot be reached";
        ENOBUFS => Close(System), "no memory; an edge that was spent does not come back, so waiting could be for ever";
        ENOMEM => Close(System), "no memory; an edge that was spent does not come back, so waiting could be for ever";
        EIO => Close(System), "the system failed below the socket";
        ENOTCONN => Close(OurBug), "read before the connection was made";
        EBADF => Close(OurBug), "no descriptor of ours";
        ENOTSOCK => Close(OurBug), "no socket";
        EINVAL => Close(OurBug), "a wrong argument";
        EFAULT => Close(OurBug), "a wrong pointer";
    }
};

/// The rows of write.
pub const WRITE: &[Row<IoAction>] = {
    use Blame::{OurBug, Reset, System, Vanished};
    use IoAction::{Close, Done, Retry};
    rows! {
        EAGAIN => Done, "the socket's buffer is full";
        EINTR => Retry, "a signal came first";
        EPIPE => Close(Reset), "the peer is gone, or our half was shut down";
        ECONNRESET => Close(Reset), "the peer sent a reset";
        ECONNREFUSED => Close(Reset), "the peer refused the connection after all";
        ETIMEDOUT => Close(Vanished), "retransmission got no answer";
        EHOSTUNREACH => Close(Vanished), "the network says that the host cannot be reached";
        ENETUNREACH => Close(Vanished), "the network says that it cannot be reached";
        ENETDOWN => Close(Vanished), "the local interface is down";
        ENOBUFS => Close(System), "no memory; a full buffer would have been EAGAIN, so no edge will follow";
        ENOMEM => Close(System), "no memory; a full buffer would have been EAGAIN, so no edge will follow";
        EACCES => Close(System), "a local rule forbids sending";
        EPERM => Close(System), "a firewall rule forbids sending";
        EIO => Close(System), "the system failed below the socket";
        ENOTCONN => Close(OurBug), "write before the connection was made";
        EDESTADDRREQ => Close(OurBug), "write before the connection was made";
        EBADF => Close(OurBug), "no descriptor of ours";
        ENOTSOCK => Close(OurBug), "no socket";
        EINVAL => Close(OurBug), "a wrong argument";
        EFAULT => Close(OurBug), "a wrong pointer";
    }
};

/// The rows of connect, and of the `SO_ERROR` that tells how it ended.
pub const CONNECT: &[Row<ConnectAction>] = {
    use ConnectAction::{
        Connected, Exhausted, Forbidden, Misconfigured, NoLocalPort, Pending, TryAnother,
    };
    rows! {
        EINPROGRESS => Pending, "the everyday answer of a socket that does not block";
        EINTR => Pending, "a signal came, and the connection goes on being made";
        EALREADY => Pending, "the connection is being made already";
        EISCONN => Connected, "a second call after the connection was made";
        ECONNREFUSED => TryAnother, "nobody listens there";
        ECONNRESET => TryAnother, "the target reset the connection at once";
        ETIMEDOUT => TryAnother, "the target does not answer";
        ENETUNREACH => TryAnother, "no route to the network";
        EHOSTUNREACH => TryAnother, "no route to the host";
        EHOSTDOWN => TryAnother, "the host does not answer on its network";
        ENETDOWN => TryAnother, "the interface is down";
        ENOENT => TryAnother, "there is no such unix socket (yet)";
        EADDRNOTAVAIL => NoLocalPort, "every local port to this target is in use";
        EADDRINUSE => NoLocalPort, "the chosen local address is in use";
        EAGAIN => NoLocalPort, "no local port, or the backlog of a unix socket is full";
        EMFILE => Exhausted, "this process has no descriptor left";
        ENFILE => Exhausted, "the system has no descriptor left";
        ENOBUFS => Exhausted, "no socket memory";
        ENOMEM => Exhausted, "no socket memory";
        EACCES => Forbidden, "a local rule or the mode of a unix socket forbids it";
        EPERM => Forbidden, "a firewall rule forbids it";
        EAFNOSUPPORT => Misconfigured, "the address is of another family, or the family is not in this kernel";
        EPROTOTYPE => Misconfigured, "the unix socket is of another type";
        EINVAL => Misconfigured, "the address cannot be connected to";
        EBADF => Misconfigured, "no descriptor of ours";
        ENOTSOCK => Misconfigured, "no socket";
        EFAULT => Misconfigured, "a wrong pointer";
    }
};

/// Defines the numbers with their usual text as documentation.
macro_rules! numbers {
    ($($name:ident = $number:literal $text:literal;)+) => {
        $(#[doc = $text] pub const $name: i32 = $number;)+
    };
}

numbers! {
    EPERM = 1 "Operation not permitted.";
    ENOENT = 2 "No such file or directory.";
    EINTR = 4 "Interrupted system call.";
    EIO = 5 "Input/output error.";
    EBADF = 9 "Bad file descriptor.";
    EAGAIN = 11 "Resource temporarily unavailable; `EWOULDBLOCK` is the same number.";
    ENOMEM = 12 "Cannot allocate memory.";
    EACCES = 13 "Permission denied.";
    EFAULT = 14 "Bad address.";
    EINVAL = 22 "Invalid argument.";
    ENFILE = 23 "Too many open files in system.";
    EMFILE = 24 "Too many open files.";
    EPIPE = 32 "Broken pipe.";
    ENONET = 64 "Machine is not on the network.";
    EPROTO = 71 "Protocol error.";
    ENOTSOCK = 88 "Socket operation on non-socket.";
    EDESTADDRREQ = 89 "Destination address required.";
    EPROTOTYPE = 91 "Protocol wrong type for socket.";
    ENOPROTOOPT = 92 "Protocol not available.";
    EOPNOTSUPP = 95 "Operation not supported.";
    EAFNOSUPPORT = 97 "Address family not supported by protocol.";
    EADDRINUSE = 98 "Address already in use.";
    EADDRNOTAVAIL = 99 "Cannot assign requested address.";
    ENETDOWN = 100 "Network is down.";
    ENETUNREACH = 101 "Network is unreachable.";
    ECONNABORTED = 103 "Software caused connection abort.";
    ECONNRESET = 104 "Connection reset by peer.";
    ENOBUFS = 105 "No buffer space available.";
    EISCONN = 106 "Transport endpoint is already connected.";
    ENOTCONN = 107 "Transport endpoint is not connected.";
    ETIMEDOUT = 110 "Connection timed out.";
    ECONNREFUSED = 111 "Connection refused.";
    EHOSTDOWN = 112 "Host is down.";
    EHOSTUNREACH = 113 "No route to host.";
    EALREADY = 114 "Operation already in progress.";
    EINPROGRESS = 115 "Operation now in progress.";
}
