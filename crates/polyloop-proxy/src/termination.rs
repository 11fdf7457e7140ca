//! How a session ended: two letters as HAProxy's operators know them, and the reason in words.
//!
//! The one idea: the first letter says who ended it, the second in which phase, and both follow from one table of
//! causes. What the session itself decided ([`Cause`]) comes before what the library saw at the end
//! ([`CloseReason`]), because the record is to name the first event and not what that led to.
//!
//! | code | meaning |
//! |---|---|
//! | `--` | both sides finished, and everything was delivered |
//! | `CR` `CQ` `CC` `CD` `CL` | the client closed too early, reset the connection or no longer answers |
//! | `cR` | the client's PROXY header, TLS hello or first bytes did not come in time |
//! | `cQ` `cC` `cD` `cL` | the client was silent for too long, or did not finish its half in time |
//! | `SR` `SQ` `SC` `SD` `SL` | the backend closed too early, reset the connection or no longer answers; `SC` also: refused, not to be reached, none usable |
//! | `sC` | the backend did not take the connection in time |
//! | `sH` | the backend sent nothing in time after it was connected |
//! | `sQ` | no backend had a free slot in time |
//! | `sR` `sD` `sL` | the backend was silent for too long, or did not finish its half in time |
//! | `PR` | refused by an access list, a limit, a rate, or for its PROXY header or TLS hello |
//! | `PQ` | the queue for a backend's slot was full |
//! | `PC` `PD` `PL` | closed by the proxy: evicted for another connection, or its longest lifetime reached |
//! | `RC` | no source port, descriptor or memory was left to connect with |
//! | `RR` `RQ` `RD` `RL` | the system lacked something or failed |
//! | `DR` `DQ` `DC` `DD` `DL` | its backend went down, and the group closes sessions then |
//! | `KR` `KQ` `KC` `KD` `KL` | ended by an operator: drain, stop, or this one session |
//! | `IR` `IQ` `IC` `ID` `IL` | a bug of polyloop's own; please report it |
//!
//! Phases: `R` until it is known where to go (PROXY header, TLS hello, first bytes), `Q` in the queue for a backend's
//! slot, `C` connecting, `H` connected and waiting for the first byte under a timeout of its own, `D` data both ways,
//! `L` one side has finished and the last data go to the other.
//!
//! HAProxy's `L` and `U` as first letters (answered by the proxy itself; a backup left when the active server came
//! back) do not occur, as polyloop does neither; nor does its second letter `T` (tarpit).

use std::fmt;

use polyloop::{CloseReason, Side};
use polyloop_core::errno::{Blame, ConnectAction, IoAction, connect_action, write_action};
use polyloop_core::errno::{ECONNREFUSED, ETIMEDOUT};

#[cfg(test)]
mod tests;

/// One of the two connections of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Leg {
    /// The connection that was accepted.
    Client,
    /// The connection to the backend.
    Server,
}

impl From<Side> for Leg {
    fn from(side: Side) -> Self {
        match side {
            Side::Front => Self::Client,
            Side::Back => Self::Server,
        }
    }
}

/// Who ended a session: the first letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ender {
    /// Nobody: it was complete.
    Nobody,
    /// The client, by closing or resetting.
    Client,
    /// The backend, by closing, resetting or refusing.
    Server,
    /// A timeout spent waiting for the client.
    ClientTimeout,
    /// A timeout spent waiting for the backend.
    ServerTimeout,
    /// A rule or limit of the proxy.
    Proxy,
    /// A lack of resources on this host.
    Resource,
    /// The backend's going down.
    Down,
    /// An operator.
    Operator,
    /// A bug.
    Internal,
}

impl Ender {
    /// The letter.
    #[must_use]
    pub const fn letter(self) -> u8 {
        match self {
            Self::Nobody => b'-',
            Self::Client => b'C',
            Self::Server => b'S',
            Self::ClientTimeout => b'c',
            Self::ServerTimeout => b's',
            Self::Proxy => b'P',
            Self::Resource => b'R',
            Self::Down => b'D',
            Self::Operator => b'K',
            Self::Internal => b'I',
        }
    }
}

/// What a session was doing: the second letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Being let in, and asked for whatever says where to go: PROXY header, TLS hello, first bytes.
    Request,
    /// Waiting for a backend to have a free slot.
    Queue,
    /// Connecting to a backend.
    Connect,
    /// Passing data, both ways open.
    Data,
    /// One side has finished: passing the rest to the other, or waiting for it to finish as well.
    LastData,
}

impl Phase {
    /// Every phase, in their order.
    pub const ALL: [Self; 5] = [
        Self::Request,
        Self::Queue,
        Self::Connect,
        Self::Data,
        Self::LastData,
    ];

    /// The letter.
    #[must_use]
    pub const fn letter(self) -> u8 {
        match self {
            Self::Request => b'R',
            Self::Queue => b'Q',
            Self::Connect => b'C',
            Self::Data => b'D',
            Self::LastData => b'L',
        }
    }

    /// Its place in a row of words.
    const fn index(self) -> usize {
        self as usize
    }

    /// Whether a session that nobody broke off here is complete.
    const fn is_relaying(self) -> bool {
        matches!(self, Self::Data | Self::LastData)
    }
}

/// Why a session decided to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Cause {
    /// Both sides finished.
    Finished,
    /// An access list forbids the client's address.
    AccessDenied,
    /// The listener has as many connections as it may.
    ListenerFull,
    /// The client's address has as many connections as it may.
    SourceFull,
    /// More new connections per second than allowed.
    RateExceeded,
    /// More new connections per second from the client's address than allowed.
    SourceRateExceeded,
    /// The PROXY header was not whole in time.
    HeaderTimeout,
    /// The PROXY header was refused.
    HeaderRefused,
    /// The TLS hello was not whole in time.
    HelloTimeout,
    /// The TLS hello was refused.
    HelloRefused,
    /// TLS is required and something else came.
    NotTls,
    /// No backend group for what the client asks for.
    NoRoute,
    /// The first bytes of this side did not come in time.
    FirstByteTimeout(Leg),
    /// The queue for a backend's slot was full.
    QueueFull,
    /// No slot became free in time.
    QueueTimeout,
    /// No backend of the group was usable.
    NoBackend,
    /// The backend's name has no address.
    NameUnknown,
    /// The backend refused.
    ConnectRefused,
    /// The backend did not answer in time.
    ConnectTimeout,
    /// The network says that the backend cannot be reached.
    ConnectUnreachable,
    /// A rule on this host forbids connecting to the backend.
    ConnectForbidden,
    /// The backend's address does not fit the source address or this host.
    ConnectMisconfigured,
    /// No local port was left towards the backend.
    PortsExhausted,
    /// No descriptor or socket memory was left.
    ResourcesExhausted,
    /// No byte moved, and this side is the one that owed some.
    IdleTimeout(Leg),
    /// The other side has finished, and this one did not in time.
    HalfCloseTimeout(Leg),
    /// The longest lifetime was reached.
    LifetimeReached,
    /// The backend went down and its group closes sessions then.
    BackendDown,
    /// The backend is being drained.
    BackendDrained,
    /// The process is being drained.
    Drained,
    /// An operator ended this session.
    Killed,
}

impl Cause {
    /// Every cause, for tests and documentation.
    pub const ALL: [Self; 34] = [
        Self::Finished,
        Self::AccessDenied,
        Self::ListenerFull,
        Self::SourceFull,
        Self::RateExceeded,
        Self::SourceRateExceeded,
        Self::HeaderTimeout,
        Self::HeaderRefused,
        Self::HelloTimeout,
        Self::HelloRefused,
        Self::NotTls,
        Self::NoRoute,
        Self::FirstByteTimeout(Leg::Client),
        Self::FirstByteTimeout(Leg::Server),
        Self::QueueFull,
        Self::QueueTimeout,
        Self::NoBackend,
        Self::NameUnknown,
        Self::ConnectRefused,
        Self::ConnectTimeout,
        Self::ConnectUnreachable,
        Self::ConnectForbidden,
        Self::ConnectMisconfigured,
        Self::PortsExhausted,
        Self::ResourcesExhausted,
        Self::IdleTimeout(Leg::Client),
        Self::IdleTimeout(Leg::Server),
        Self::HalfCloseTimeout(Leg::Client),
        Self::HalfCloseTimeout(Leg::Server),
        Self::LifetimeReached,
        Self::BackendDown,
        Self::BackendDrained,
        Self::Drained,
        Self::Killed,
    ];

    /// The causes that refuse a session, as metrics call them.
    pub const REFUSALS: [&str; 23] = [
        "access_denied",
        "listener_full",
        "source_full",
        "rate_exceeded",
        "source_rate_exceeded",
        "header_timeout",
        "header_refused",
        "hello_timeout",
        "hello_refused",
        "not_tls",
        "no_route",
        "first_byte_timeout",
        "queue_full",
        "queue_timeout",
        "no_backend",
        "name_unknown",
        "connect_refused",
        "connect_timeout",
        "connect_unreachable",
        "connect_forbidden",
        "connect_misconfigured",
        "ports_exhausted",
        "resources_exhausted",
    ];

    /// Its place in [`REFUSALS`](Self::REFUSALS); `None` for what ends a session that was served.
    #[must_use]
    pub const fn refusal(self) -> Option<usize> {
        Some(match self {
            Self::AccessDenied => 0,
            Self::ListenerFull => 1,
            Self::SourceFull => 2,
            Self::RateExceeded => 3,
            Self::SourceRateExceeded => 4,
            Self::HeaderTimeout => 5,
            Self::HeaderRefused => 6,
            Self::HelloTimeout => 7,
            Self::HelloRefused => 8,
            Self::NotTls => 9,
            Self::NoRoute => 10,
            Self::FirstByteTimeout(_) => 11,
            Self::QueueFull => 12,
            Self::QueueTimeout => 13,
            Self::NoBackend => 14,
            Self::NameUnknown => 15,
            Self::ConnectRefused => 16,
            Self::ConnectTimeout => 17,
            Self::ConnectUnreachable => 18,
            Self::ConnectForbidden => 19,
            Self::ConnectMisconfigured => 20,
            Self::PortsExhausted => 21,
            Self::ResourcesExhausted => 22,
            Self::Finished
            | Self::IdleTimeout(_)
            | Self::HalfCloseTimeout(_)
            | Self::LifetimeReached
            | Self::BackendDown
            | Self::BackendDrained
            | Self::Drained
            | Self::Killed => return None,
        })
    }

    /// The cause behind the errno of a connect that failed for good.
    #[must_use]
    pub fn of_connect_errno(errno: i32) -> Self {
        match connect_action(errno) {
            ConnectAction::NoLocalPort => Self::PortsExhausted,
            ConnectAction::Exhausted => Self::ResourcesExhausted,
            ConnectAction::Forbidden => Self::ConnectForbidden,
            ConnectAction::Misconfigured => Self::ConnectMisconfigured,
            _ if errno == ETIMEDOUT => Self::ConnectTimeout,
            _ if errno == ECONNREFUSED => Self::ConnectRefused,
            _ => Self::ConnectUnreachable,
        }
    }
}

/// How a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Termination {
    /// Who and in which phase, two ASCII characters.
    pub code: [u8; 2],
    /// The same for people, without a full stop.
    pub words: &'static str,
}

impl Termination {
    /// Both sides finished, and everything was delivered.
    pub const NORMAL: Self = Self {
        code: *b"--",
        words: "both sides finished",
    };

    /// How a session ended that the library closed for `reason`, found on the connection `leg`, in `phase`.
    ///
    /// Where the library names no side, `leg` is the client's: the session is its.
    ///
    /// `cause` is what the session itself decided before, if it did; then `reason` and `leg` only say how that came
    /// out, and are not looked at.
    #[must_use]
    pub fn new(reason: CloseReason, leg: Leg, cause: Option<Cause>, phase: Phase) -> Self {
        match cause {
            Some(cause) => Self::of_cause(cause, phase),
            None => Self::of_close(reason, leg, phase),
        }
    }

    /// The code as text.
    #[must_use]
    pub fn code_str(&self) -> &str {
        // Both letters are ASCII, as all constructors take them from `letter` or literals.
        std::str::from_utf8(&self.code).unwrap_or("??")
    }

    /// Whether nobody broke the session off.
    #[must_use]
    pub fn is_normal(&self) -> bool {
        self.code == Self::NORMAL.code
    }

    /// How a session ended by its own decision.
    #[must_use]
    pub const fn of_cause(cause: Cause, phase: Phase) -> Self {
        match fixed(cause) {
            Some((code, words)) => Self { code: *code, words },
            None => phased(cause).at(phase),
        }
    }

    /// How a session ended that had not decided anything.
    fn of_close(reason: CloseReason, leg: Leg, phase: Phase) -> Self {
        match reason {
            CloseReason::PeerFinished | CloseReason::HandlerClosed if phase.is_relaying() => {
                Self::NORMAL
            }
            CloseReason::PeerFinished => by_leg(leg, &CLIENT_CLOSED, &SERVER_CLOSED).at(phase),
            CloseReason::PeerReset => by_leg(leg, &CLIENT_RESET, &SERVER_RESET).at(phase),
            CloseReason::PeerVanished => by_leg(leg, &CLIENT_VANISHED, &SERVER_VANISHED).at(phase),
            CloseReason::HandlerClosed | CloseReason::HandlerAborted => CLOSED_BY_PROXY.at(phase),
            CloseReason::IdleTimeout => Self::of_cause(Cause::IdleTimeout(leg), phase),
            CloseReason::LingerTimeout => Self::of_cause(Cause::HalfCloseTimeout(leg), phase),
            CloseReason::Evicted => EVICTED.at(phase),
            CloseReason::DrainDeadline => Self::of_cause(Cause::Drained, phase),
            CloseReason::Stopped => STOPPED.at(phase),
            CloseReason::ConnectFailed => Self::of_cause(Cause::ConnectUnreachable, phase),
            CloseReason::NotRegistered(_) => SYSTEM.at(phase),
            CloseReason::Os(errno) => of_errno(errno, leg).at(phase),
            CloseReason::HandlerPanicked
            | CloseReason::OutputOverflow
            | CloseReason::InputOverflow => BUG.at(phase),
            // A reason that the library gained and this table did not; a test counts them.
            _ => BUG.at(phase),
        }
    }
}

impl fmt::Display for Termination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.code_str(), self.words)
    }
}

/// What the loop's table of errno says of a connection that broke with one it had no own reason for.
fn of_errno(errno: i32, leg: Leg) -> &'static Row {
    match write_action(errno) {
        IoAction::Close(Blame::Reset) => by_leg(leg, &CLIENT_RESET, &SERVER_RESET),
        IoAction::Close(Blame::Vanished) => by_leg(leg, &CLIENT_VANISHED, &SERVER_VANISHED),
        IoAction::Close(Blame::OurBug) => &BUG,
        _ => &SYSTEM,
    }
}

const fn by_leg(leg: Leg, client: &'static Row, server: &'static Row) -> &'static Row {
    match leg {
        Leg::Client => client,
        Leg::Server => server,
    }
}

/// Causes that belong to one phase whatever the session believes to be in.
const fn fixed(cause: Cause) -> Option<(&'static [u8; 2], &'static str)> {
    Some(match cause {
        Cause::Finished => (&Termination::NORMAL.code, Termination::NORMAL.words),
        Cause::AccessDenied => (b"PR", "the client's address is not allowed"),
        Cause::ListenerFull => (b"PR", "the listener has as many connections as it may"),
        Cause::SourceFull => (
            b"PR",
            "the client's address has as many connections as it may",
        ),
        Cause::RateExceeded => (b"PR", "too many new connections per second"),
        Cause::SourceRateExceeded => (
            b"PR",
            "too many new connections per second from the client's address",
        ),
        Cause::HeaderTimeout => (b"cR", "the PROXY header did not come in time"),
        Cause::HeaderRefused => (b"PR", "the PROXY header was refused"),
        Cause::HelloTimeout => (b"cR", "the TLS hello did not come in time"),
        Cause::HelloRefused => (b"PR", "the TLS hello was refused"),
        Cause::NotTls => (b"PR", "the client does not speak TLS and has to"),
        Cause::NoRoute => (b"PR", "no backend group serves what the client asked for"),
        Cause::FirstByteTimeout(Leg::Client) => {
            (b"cR", "the client's first bytes did not come in time")
        }
        Cause::FirstByteTimeout(Leg::Server) => {
            (b"sH", "the backend's first bytes did not come in time")
        }
        Cause::QueueFull => (b"PQ", "all backends and their queue were full"),
        Cause::QueueTimeout => (b"sQ", "no backend had a free slot in time"),
        Cause::NoBackend => (b"SC", "no backend was usable"),
        Cause::NameUnknown => (b"SC", "the backend's name has no address"),
        Cause::ConnectRefused => (b"SC", "the backend refused the connection"),
        Cause::ConnectTimeout => (b"sC", "the backend did not take the connection in time"),
        Cause::ConnectUnreachable => (b"SC", "the backend could not be reached"),
        Cause::ConnectForbidden => (
            b"SC",
            "a rule on this host forbids connecting to the backend",
        ),
        Cause::ConnectMisconfigured => (
            b"SC",
            "the backend's address cannot be connected to from here",
        ),
        Cause::PortsExhausted => (b"RC", "no source port was left towards the backend"),
        Cause::ResourcesExhausted => (b"RC", "no descriptor or socket memory was left"),
        Cause::IdleTimeout(_)
        | Cause::HalfCloseTimeout(_)
        | Cause::LifetimeReached
        | Cause::BackendDown
        | Cause::BackendDrained
        | Cause::Drained
        | Cause::Killed => return None,
    })
}

/// The rows of the causes that may strike in any phase.
const fn phased(cause: Cause) -> &'static Row {
    match cause {
        Cause::IdleTimeout(leg) => by_leg(leg, &CLIENT_IDLE, &SERVER_IDLE),
        Cause::HalfCloseTimeout(leg) => by_leg(leg, &CLIENT_UNFINISHED, &SERVER_UNFINISHED),
        Cause::LifetimeReached => &LIFETIME,
        Cause::BackendDown => &BACKEND_DOWN,
        Cause::BackendDrained => &BACKEND_DRAINED,
        Cause::Drained => &DRAINED,
        Cause::Killed => &KILLED,
        // All others are `fixed`; a test asks every cause in every phase.
        _ => &BUG,
    }
}

/// One ender and reason in each phase.
struct Row {
    ender: Ender,
    words: [&'static str; Phase::ALL.len()],
}

impl Row {
    const fn at(&self, phase: Phase) -> Termination {
        Termination {
            code: [self.ender.letter(), phase.letter()],
            words: self.words[phase.index()],
        }
    }
}

/// Defines a [`Row`]: the reason with each phase behind it, put together at compile time, so that a record costs no
/// formatting.
macro_rules! rows {
    ($($name:ident = $ender:ident, $reason:literal;)+) => {
        $(const $name: Row = Row {
            ender: Ender::$ender,
            words: [
                concat!($reason, " before it was known where to go"),
                concat!($reason, " while waiting for a backend's free slot"),
                concat!($reason, " while connecting to the backend"),
                concat!($reason, " while passing data"),
                concat!($reason, " while passing the last data"),
            ],
        };)+
        #[cfg(test)]
        const ROWS: &[(&str, &Row)] = &[$(($reason, &$name)),+];
    };
}

rows! {
    CLIENT_CLOSED = Client, "the client closed the connection";
    CLIENT_RESET = Client, "the client reset the connection";
    CLIENT_VANISHED = Client, "the client no longer answered";
    CLIENT_IDLE = ClientTimeout, "the client was silent for too long";
    CLIENT_UNFINISHED = ClientTimeout, "the client did not finish its half in time";
    SERVER_CLOSED = Server, "the backend closed the connection";
    SERVER_RESET = Server, "the backend reset the connection";
    SERVER_VANISHED = Server, "the backend no longer answered";
    SERVER_IDLE = ServerTimeout, "the backend was silent for too long";
    SERVER_UNFINISHED = ServerTimeout, "the backend did not finish its half in time";
    CLOSED_BY_PROXY = Proxy, "the proxy closed the session";
    EVICTED = Proxy, "the session made room for another";
    LIFETIME = Proxy, "the session reached its longest lifetime";
    SYSTEM = Resource, "the system lacked something or failed";
    BACKEND_DOWN = Down, "the backend went down";
    BACKEND_DRAINED = Operator, "the backend was drained";
    DRAINED = Operator, "the process was drained";
    STOPPED = Operator, "the process was stopped";
    KILLED = Operator, "an operator ended the session";
    BUG = Internal, "a bug of polyloop's own ended the session";
}
