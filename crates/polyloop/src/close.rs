//! Why a session ended, and who caused it.
//!
//! A close is a value, not an error: the loop goes on. Each reason knows its [`Initiator`], because "who hung up"
//! is the first question at three in the morning, and each has its own counter.

use std::fmt;

/// Who caused a close.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Initiator {
    /// The other end of one of the session's sockets.
    Peer,
    /// The handler, or a limit of this process.
    Us,
    /// The operating system: a lack of resources, or a network that reported an error.
    OperatingSystem,
    /// A person or a supervisor: drain, stop.
    Operator,
}

impl Initiator {
    /// The name in logs and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Peer => "peer",
            Self::Us => "us",
            Self::OperatingSystem => "os",
            Self::Operator => "operator",
        }
    }
}

/// Why a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CloseReason {
    /// The peer sent FIN, and everything owed to it had been written.
    PeerFinished,
    /// The peer reset the connection.
    PeerReset,
    /// The peer no longer answers: keepalive or user timeout (`ETIMEDOUT`).
    PeerVanished,
    /// The handler answered [`Verdict::Close`](crate::Verdict::Close) or [`Verdict::Drain`](crate::Verdict::Drain).
    HandlerClosed,
    /// The handler answered [`Verdict::Abort`](crate::Verdict::Abort).
    HandlerAborted,
    /// The handler panicked; this session paid for it, no other.
    HandlerPanicked,
    /// No byte moved for the idle timeout; and where output was on its way to a peer, none of it arrived in another one.
    IdleTimeout,
    /// The session was ending, and in a whole linger timeout the peer neither took any of the rest nor finished its own half.
    LingerTimeout,
    /// Closed to make room: `--when-full evict-idle`.
    Evicted,
    /// The handler wrote on although its output was full.
    OutputOverflow,
    /// The handler left more input unconsumed than one read buffer holds.
    InputOverflow,
    /// Still open when the drain's deadline came.
    DrainDeadline,
    /// The process was told to stop at once.
    Stopped,
    /// A connection that the handler asked for could not be made, and the handler gave up.
    ConnectFailed,
    /// The kernel could not take the socket into the poll; the errno is in the variant.
    NotRegistered(i32),
    /// Any other errno from a socket.
    Os(i32),
}

impl CloseReason {
    /// How many kinds of reason there are; [`index`](Self::index) is below it.
    pub const COUNT: usize = 16;

    /// The names of all kinds, by [`index`](Self::index).
    pub const NAMES: [&'static str; Self::COUNT] = [
        "peer_finished",
        "peer_reset",
        "peer_vanished",
        "handler_closed",
        "handler_aborted",
        "handler_panicked",
        "idle_timeout",
        "linger_timeout",
        "evicted",
        "output_overflow",
        "input_overflow",
        "drain_deadline",
        "stopped",
        "connect_failed",
        "not_registered",
        "os_error",
    ];

    /// The kind's place in [`NAMES`](Self::NAMES), for counters.
    #[must_use]
    pub const fn index(self) -> usize {
        match self {
            Self::PeerFinished => 0,
            Self::PeerReset => 1,
            Self::PeerVanished => 2,
            Self::HandlerClosed => 3,
            Self::HandlerAborted => 4,
            Self::HandlerPanicked => 5,
            Self::IdleTimeout => 6,
            Self::LingerTimeout => 7,
            Self::Evicted => 8,
            Self::OutputOverflow => 9,
            Self::InputOverflow => 10,
            Self::DrainDeadline => 11,
            Self::Stopped => 12,
            Self::ConnectFailed => 13,
            Self::NotRegistered(_) => 14,
            Self::Os(_) => 15,
        }
    }

    /// The name in logs and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        Self::NAMES[self.index()]
    }

    /// Who caused a close of the kind with this [`index`](Self::index).
    ///
    /// # Panics
    /// When `index` is not below [`COUNT`](Self::COUNT).
    #[must_use]
    pub const fn initiator_of(index: usize) -> Initiator {
        assert!(index < Self::COUNT);
        match index {
            0..=2 | 7 => Initiator::Peer,
            11 | 12 => Initiator::Operator,
            13..=15 => Initiator::OperatingSystem,
            _ => Initiator::Us,
        }
    }

    /// Who caused it.
    #[must_use]
    pub const fn initiator(self) -> Initiator {
        Self::initiator_of(self.index())
    }

    /// The errno behind it, where there is one.
    #[must_use]
    pub const fn errno(self) -> Option<i32> {
        match self {
            Self::NotRegistered(errno) | Self::Os(errno) => Some(errno),
            _ => None,
        }
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (by {})", self.name(), self.initiator().name())?;
        if let Some(errno) = self.errno() {
            write!(f, ": {}", std::io::Error::from_raw_os_error(errno))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_names_and_initiators_agree() {
        // Goal: no counter is billed to the wrong reason. Method: the few whose order matters, by name.
        assert_eq!(CloseReason::PeerReset.name(), "peer_reset");
        assert_eq!(CloseReason::Os(104).name(), "os_error");
        assert_eq!(CloseReason::Stopped.initiator(), Initiator::Operator);
        assert_eq!(CloseReason::LingerTimeout.initiator(), Initiator::Peer);
        assert_eq!(CloseReason::Evicted.initiator(), Initiator::Us);
        assert_eq!(
            CloseReason::ConnectFailed.initiator(),
            Initiator::OperatingSystem
        );
        assert!(CloseReason::Os(111).to_string().contains("refused"));
        assert!(CloseReason::NAMES.iter().all(|name| !name.is_empty()));
    }
}
