//! Where clients are sent: backends, how one is chosen, how their health is known, how they are connected to.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::Algorithm;
use super::defaults;

/// One group of backends that can take each other's place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupSettings {
    /// Its name in logs, metrics and the admin pages.
    pub name: String,
    /// The backends; never empty once resolved. Names are unique within the group.
    pub backends: Vec<BackendSettings>,
    /// How one is chosen. Default [`Algorithm::TwoChoices`]: nearly as even as least, and no herd after a change.
    pub balance: Algorithm,
    /// Other backends tried after the first, before any byte was sent. Default [`defaults::RETRIES`].
    pub retries: u32,
    /// Active checks. Default `None`: a check nobody asked for fills the backends' logs.
    pub health: Option<HealthCheck>,
    /// Ejection of backends whose sessions fail. On by default.
    pub passive: Option<PassiveEjection>,
    /// When all are down: `true` tries all of them as if they were up, `false` refuses. Default `true`: checks are
    /// wrong about everything at once more often than everything fails at once.
    pub fail_open: bool,
    /// What happens to the sessions of a backend that goes down. Default [`OnDown::Keep`].
    pub on_down: OnDown,
    /// Time over which a backend that came up grows to its full weight. Default `None`.
    pub slow_start: Option<Duration>,
    /// The PROXY header sent to backends. Default `None`.
    pub send_proxy: Option<SendProxy>,
    /// The ACK that ends the handshake with a backend waits for the first bytes where they are in hand: one packet less. Default
    /// `true`. `false` is for backends behind a SYN proxy, which announces no window at first: there it would come 200 ms late;
    /// and for those that answer it with a reset, so that another can be tried.
    pub hold_ack: bool,
    /// Addresses to connect from, in turn; those of the backend's family. If empty, the system chooses.
    pub sources: Vec<SourceAddr>,
    /// Connect from the client's own address (`IP_TRANSPARENT`). Default `false`: it needs `CAP_NET_ADMIN`, and routes
    /// that bring the answers back here. Excludes `sources`.
    pub transparent: bool,
    /// Sessions waiting while all backends are at their cap, over all loops; more are refused. 0 lets nobody wait. Default
    /// [`defaults::QUEUE_MAX`].
    pub queue_max: u32,
}

impl Default for GroupSettings {
    fn default() -> Self {
        Self {
            name: String::new(),
            backends: Vec::new(),
            balance: Algorithm::TwoChoices,
            retries: defaults::RETRIES,
            health: None,
            passive: Some(PassiveEjection::default()),
            fail_open: true,
            on_down: OnDown::Keep,
            slow_start: None,
            send_proxy: None,
            hold_ack: true,
            sources: Vec::new(),
            transparent: false,
            queue_max: defaults::QUEUE_MAX,
        }
    }
}

/// One backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackendSettings {
    /// Its name in logs, metrics and the admin pages; by default its target as it was written.
    pub name: String,
    /// Where it is.
    pub to: Target,
    /// Its share, 0 to [`defaults::WEIGHT_MAX`]; 0 gets no new sessions. Default [`defaults::WEIGHT`].
    pub weight: u16,
    /// Used while no other backend of the group is up, and by sessions that those have failed; not for want of a place there.
    pub backup: bool,
    /// Sessions open at once, over all loops. Default `None`.
    pub connections_max: Option<u32>,
    /// How many backends the addresses of its name are dealt to; `None` is [`defaults::SLOTS`], or [`defaults::SLOTS_SRV`]
    /// for a service name. Once [`expanded`](Self::expanded), `None` is one.
    pub slots: Option<u16>,
    /// Which of them this is.
    pub slot: u16,
}

impl BackendSettings {
    /// An ordinary backend at this place.
    #[must_use]
    pub fn new(name: String, to: Target) -> Self {
        Self {
            name,
            to,
            weight: defaults::WEIGHT,
            backup: false,
            connections_max: None,
            slots: None,
            slot: 0,
        }
    }

    /// The backends that this one stands for: one, or as many as its name has slots, with `#1` and so on after its name.
    #[must_use]
    pub fn expanded(&self) -> Vec<Self> {
        let slots = match self.to {
            Target::Name { .. } => self.slots.unwrap_or(defaults::SLOTS),
            Target::Srv { .. } => self.slots.unwrap_or(defaults::SLOTS_SRV),
            Target::Addr(_) | Target::Unix(_) | Target::Echo => 1,
        };
        let slot = |slot: u16| Self {
            name: if slots > 1 {
                format!("{}#{}", self.name, slot + 1)
            } else {
                self.name.clone()
            },
            slots: Some(slots),
            slot,
            ..self.clone()
        };
        (0..slots).map(slot).collect()
    }
}

/// Where a backend is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Target {
    /// An address.
    Addr(SocketAddr),
    /// A unix socket.
    Unix(PathBuf),
    /// A name, looked up again on its TTL; its addresses (A, AAAA) are dealt to as many backends as it has slots.
    Name {
        /// The name, as written.
        host: String,
        /// The port of each of its addresses; never 0.
        port: u16,
    },
    /// A service name, looked up again on its TTL; each SRV record of the lowest priority is a backend of its own, with
    /// the record's port and weight, those of other priorities are backups; as far as there are slots for them.
    Srv {
        /// The name, as in `_db._tcp.example.org`.
        name: String,
    },
    /// The embedded echo: what is served when no backend is given, so that bytes can be seen to move.
    Echo,
}

/// Active checks of each backend, once per process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthCheck {
    /// What is done.
    pub kind: CheckKind,
    /// Time from one check to the next. Default [`defaults::CHECK_INTERVAL`].
    pub interval: Duration,
    /// Each interval is shorter or longer by up to this share. Default [`defaults::CHECK_JITTER_PERCENT`].
    pub jitter_percent: u16,
    /// Time for the whole check; at most the interval. Default [`defaults::CHECK_TIMEOUT`].
    pub timeout: Duration,
    /// Successes in a row until a backend is up; at least 1. Default [`defaults::RISE`].
    pub rise: u32,
    /// Failures in a row until a backend is down; at least 1. Default [`defaults::FALL`].
    pub fall: u32,
}

impl HealthCheck {
    /// A check of this kind with the default times and counts.
    #[must_use]
    pub fn new(kind: CheckKind) -> Self {
        Self {
            kind,
            interval: defaults::CHECK_INTERVAL,
            jitter_percent: defaults::CHECK_JITTER_PERCENT,
            timeout: defaults::CHECK_TIMEOUT,
            rise: defaults::RISE,
            fall: defaults::FALL,
        }
    }
}

/// What a check does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CheckKind {
    /// Connects, and closes.
    Connect,
    /// Connects, sends, and reads until the answer begins with what is expected.
    SendExpect {
        /// What is sent; may be empty where the server speaks first.
        send: Vec<u8>,
        /// What the answer must begin with; empty accepts any byte.
        expect: Vec<u8>,
    },
    /// Connects, sends a TLS hello, and reads until a TLS server hello begins.
    TlsHello {
        /// The server name in the hello; `None` sends none.
        sni: Option<String>,
    },
}

/// Ejection of a backend whose sessions fail: connects refused or timed out, resets before the first byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PassiveEjection {
    /// Failures in a row that eject; at least 1. Default [`defaults::EJECT_ERRORS`].
    pub errors: u32,
    /// Length of the first ejection; each further one is twice as long. Default [`defaults::EJECT_TIME`].
    pub base: Duration,
    /// Length of the longest. Default [`defaults::EJECT_TIME_MAX`].
    pub max: Duration,
    /// The share of the group's backends that may be ejected at once. Default [`defaults::EJECT_SHARE_MAX_PERCENT`].
    pub share_max_percent: u16,
}

impl Default for PassiveEjection {
    fn default() -> Self {
        Self {
            errors: defaults::EJECT_ERRORS,
            base: defaults::EJECT_TIME,
            max: defaults::EJECT_TIME_MAX,
            share_max_percent: defaults::EJECT_SHARE_MAX_PERCENT,
        }
    }
}

/// What happens to the sessions of a backend that goes down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnDown {
    /// They go on: a check may be wrong about a session that works.
    Keep,
    /// They are closed, so that clients connect again and land elsewhere.
    Close,
}

/// The PROXY header sent to backends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SendProxy {
    /// The line of text.
    V1,
    /// The binary header.
    V2 {
        /// What it tells beside the addresses, in this order.
        tlvs: Vec<ProxyTlv>,
        /// Whether it carries a CRC32C of itself.
        checksum: bool,
    },
}

/// What a PROXY v2 header tells beside the addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProxyTlv {
    /// `PP2_TYPE_AUTHORITY`: the server name of the client's hello, where it was read.
    Authority,
    /// `PP2_TYPE_ALPN`: the first protocol of the client's hello, where it was read.
    Alpn,
    /// `PP2_TYPE_UNIQUE_ID`: the session's name, 24 hexadecimal digits, the same as `id` in its access record.
    UniqueId,
    /// A type of one's own, 0xE0 to 0xEF, with a fixed value.
    Custom {
        /// The type.
        kind: u8,
        /// The value, at most 1024 bytes.
        value: Vec<u8>,
    },
}

/// An address to connect from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SourceAddr {
    /// The address; one of this host's.
    pub ip: IpAddr,
    /// First and last port; `None` leaves the port to the system (`ip_local_port_range`).
    pub ports: Option<(u16, u16)>,
}
