//! Where clients arrive: addresses, who may come, which group serves them, and how long anything may take.

use std::time::Duration;

use polyloop_sys::ListenAddr;

use super::Cidr;
use super::defaults;

/// One listener: addresses that share all settings and counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenerSettings {
    /// Its name in logs, metrics and the admin pages.
    pub name: String,
    /// Where it listens; never empty once resolved.
    pub listen: Vec<ListenAddr>,
    /// Which group serves a session.
    pub routing: Routing,
    /// Whether a PROXY header comes first, and from whom. Default `None`: a header is never guessed.
    pub accept_proxy: Option<AcceptProxy>,
    /// If not empty, only these sources may connect. Judged by the address in the PROXY header, where one is accepted.
    /// The longest prefix in either list decides.
    pub allow: Vec<Cidr>,
    /// These sources may not connect.
    pub deny: Vec<Cidr>,
    /// Sessions open at once. Default `None`: the process has a limit already.
    pub connections_max: Option<u32>,
    /// New sessions per second. Default `None`.
    pub rate: Option<Rate>,
    /// Sessions open at once from one source (an IPv4 address, an IPv6 /64), on this listener. Default `None`.
    pub source_connections_max: Option<u32>,
    /// New sessions per second from one source, on this listener. Default `None`.
    pub source_rate: Option<Rate>,
    /// How long anything may take.
    pub timeouts: Timeouts,
    /// Bytes per second of one session, in each direction. Default `None`.
    pub bytes_per_second_max: Option<u64>,
    /// Whether bytes are moved inside the kernel. Default [`Splice::Auto`].
    pub splice: Splice,
    /// Bytes kept per direction above which the sender is no longer read; it is read again at half. Default
    /// [`defaults::BUFFER_HIGH_BYTES`].
    pub buffer_high_bytes: u64,
    /// Probes on quiet connections, on both sides. On by default.
    pub keepalive: Option<Keepalive>,
    /// Time that sent bytes may stay unacknowledged, or the peer's window closed, on both sides (`TCP_USER_TIMEOUT`).
    /// Default `None`: a peer that just does not read for a while would be cut by it, and it replaces
    /// [`Keepalive::count`]. Whole milliseconds.
    pub user_timeout: Option<Duration>,
    /// When the backend is connected to. Default [`ConnectWhen::AtOnce`].
    pub connect_when: ConnectWhen,
}

impl Default for ListenerSettings {
    fn default() -> Self {
        Self {
            name: String::new(),
            listen: Vec::new(),
            routing: Routing::default(),
            accept_proxy: None,
            allow: Vec::new(),
            deny: Vec::new(),
            connections_max: None,
            rate: None,
            source_connections_max: None,
            source_rate: None,
            timeouts: Timeouts::default(),
            bytes_per_second_max: None,
            splice: Splice::Auto,
            buffer_high_bytes: defaults::BUFFER_HIGH_BYTES,
            keepalive: Some(Keepalive::default()),
            user_timeout: None,
            connect_when: ConnectWhen::AtOnce,
        }
    }
}

/// How long anything may take. Whole milliseconds, at most 49 days. `None` is no limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timeouts {
    /// For one attempt to connect to a backend. Default [`defaults::CONNECT_TIMEOUT`].
    pub connect: Duration,
    /// Without a byte in either direction. Default [`defaults::IDLE_TIMEOUT`].
    pub idle: Option<Duration>,
    /// Without a byte, once one side has finished: instead of `idle`. Default [`defaults::HALF_CLOSE_TIMEOUT`].
    pub half_close: Duration,
    /// From accept (after a PROXY header) to the client's first byte. Default `None`: in many protocols the server
    /// speaks first.
    pub first_byte: Option<Duration>,
    /// From accept to the end of the PROXY header. Default [`defaults::PROXY_HEADER_TIMEOUT`].
    pub proxy_header: Duration,
    /// From the first byte due to the end of the TLS hello, where the routing reads it. Default
    /// [`defaults::HELLO_TIMEOUT`].
    pub hello: Duration,
    /// In the queue while all backends are at their cap. Default [`defaults::QUEUE_TIMEOUT`].
    pub queue: Duration,
    /// From accept to the end, however busy. Default `None`: only some protocols can be cut at any moment.
    pub lifetime: Option<Duration>,
    /// Each lifetime is shorter by a share of its own, up to this one. Default [`defaults::LIFETIME_JITTER_PERCENT`].
    pub lifetime_jitter_percent: u16,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: defaults::CONNECT_TIMEOUT,
            idle: Some(defaults::IDLE_TIMEOUT),
            half_close: defaults::HALF_CLOSE_TIMEOUT,
            first_byte: None,
            proxy_header: defaults::PROXY_HEADER_TIMEOUT,
            hello: defaults::HELLO_TIMEOUT,
            queue: defaults::QUEUE_TIMEOUT,
            lifetime: None,
            lifetime_jitter_percent: defaults::LIFETIME_JITTER_PERCENT,
        }
    }
}

/// Which group serves a session.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Routing {
    /// Tried in order, the first that matches decides. If empty, no TLS hello is waited for.
    pub routes: Vec<Route>,
    /// The group (an index) of sessions that no route matches, among them those that are not TLS. `None` refuses them.
    pub otherwise: Option<usize>,
}

/// Sessions with one of these names, and one of these protocols, go to this group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Server names (SNI). If empty, every name matches, and none.
    pub sni: Vec<NamePattern>,
    /// Protocols (ALPN), one of which the client must offer. If empty, every offer matches, and none.
    pub alpn: Vec<String>,
    /// The group, by index.
    pub group: usize,
}

/// A server name, or all names below one. Lower case; compared without regard to case.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum NamePattern {
    /// `db.example.org`.
    Exact(String),
    /// `*.example.org`, kept as `example.org`: any name with at least one label before it, but not it itself.
    Below(String),
}

impl NamePattern {
    /// Whether a server name is meant.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        match self {
            Self::Exact(exact) => name.eq_ignore_ascii_case(exact),
            Self::Below(suffix) => {
                let (name, suffix) = (name.as_bytes(), suffix.as_bytes());
                // At least one byte of a label, and the dot.
                let Some(start) = name.len().checked_sub(suffix.len()).filter(|&at| at >= 2) else {
                    return false;
                };
                name[start - 1] == b'.' && name[start..].eq_ignore_ascii_case(suffix)
            }
        }
    }
}

/// A PROXY header is read from these addresses, and nothing else from them is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcceptProxy {
    /// Who must send a header; never empty. What comes from others is served as it is, without one. A listener on a
    /// unix socket takes a header from everybody who can open the socket if this is not empty.
    pub from: Vec<Cidr>,
}

/// New connections over time, with room for a burst.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// How many per second; at least 1.
    pub per_second: u32,
    /// How many at once after a quiet time; at least 1. Default: as many as come in a second.
    pub burst: u32,
}

/// Whether bytes are moved inside the kernel, through a pipe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Splice {
    /// Once a direction has proved to be bulk, and not while it is quiet: a pipe costs two descriptors, and small
    /// messages are faster without.
    Auto,
    /// Never.
    Off,
    /// From the first byte on. For measurements, and for sessions that are all bulk.
    Always,
}

/// Probes on quiet connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keepalive {
    /// Quiet time before the first probe, in whole seconds. Default [`defaults::KEEPALIVE_IDLE`].
    pub idle: Duration,
    /// Time between probes, in whole seconds. Default [`defaults::KEEPALIVE_INTERVAL`].
    pub interval: Duration,
    /// Probes without an answer after which the peer is dead. Default [`defaults::KEEPALIVE_COUNT`].
    pub count: u32,
}

impl Default for Keepalive {
    fn default() -> Self {
        Self {
            idle: defaults::KEEPALIVE_IDLE,
            interval: defaults::KEEPALIVE_INTERVAL,
            count: defaults::KEEPALIVE_COUNT,
        }
    }
}

/// When the backend is connected to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectWhen {
    /// As soon as the group is known: works for every protocol, also where the server speaks first.
    AtOnce,
    /// With the client's first byte: spares the backends clients that only connect. Never for protocols in which the
    /// server speaks first.
    FirstBytes,
}
