//! Everything the proxy is told: plain data, complete, and the only input of its sessions.
//!
//! ```text
//!   ProxySettings
//!     listeners: where clients arrive, who may, how long anything may take     -> a group, or a group by SNI and ALPN
//!     groups:    backends, how one is chosen, how their health is known
//!     limits:    what holds for the process;   access_log;   drain_close
//! ```
//!
//! The one idea: a field's type cannot hold what cannot be meant as far as a type can say it; what several fields can
//! contradict each other in is refused by whoever fills them in (the binary reads flags and files). An `Option` that is
//! `None` means "no such limit", never "not decided". The `Default` of each type is the default of the proxy, its
//! numbers stand with their reasons in [`defaults`].
//!
//! Deliberately absent: text (parsing and printing belong to the binary), facts of the machine, and what the library
//! itself is told (loops, cores, descriptors, the drain's window).

pub mod defaults;
mod group;
mod listener;

use std::net::SocketAddr;
use std::path::PathBuf;

pub use crate::balance::Algorithm;
pub use crate::cidr::Cidr;

pub use group::{
    BackendSettings, CheckKind, GroupSettings, HealthCheck, OnDown, PassiveEjection, ProxyTlv,
    SendProxy, SourceAddr, Target,
};
pub use listener::{
    AcceptProxy, ConnectWhen, Keepalive, ListenerSettings, NamePattern, Rate, Route, Routing,
    Splice, Timeouts,
};

/// Everything the proxy is told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProxySettings {
    /// Where clients arrive; never empty once resolved. Names are unique.
    pub listeners: Vec<ListenerSettings>,
    /// Where they are sent. [`Routing`] holds indices into this; names are unique.
    pub groups: Vec<GroupSettings>,
    /// What holds for all listeners together.
    pub limits: GlobalLimits,
    /// What is told of each session.
    pub access_log: AccessLogSettings,
    /// How the sessions that are left are closed while draining.
    pub drain_close: DrainClose,
    /// Name servers that are asked for the addresses of backends; if empty, those of the system.
    pub dns: Vec<SocketAddr>,
}

/// Limits of the process. The number of connections open at once is the library's (`ServerSettings::connections_max`),
/// as it follows from the limit of descriptors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GlobalLimits {
    /// New connections per second over all listeners. Default `None`: a loop that is behind accepts less by itself.
    pub rate: Option<Rate>,
    /// Connections open at once from one source (an IPv4 address, an IPv6 /64), over all listeners. Default `None`: one
    /// address may be a whole company behind NAT, or the load balancer in front.
    pub source_connections_max: Option<u32>,
    /// New connections per second from one source. Default `None`, for the same reason.
    pub source_rate: Option<Rate>,
    /// Sources counted at once in each scope (a listener; the process), over all loops; idle ones make room for new
    /// ones. Default [`defaults::SOURCES_MAX`].
    pub sources_max: u32,
}

impl Default for GlobalLimits {
    fn default() -> Self {
        Self {
            rate: None,
            source_connections_max: None,
            source_rate: None,
            sources_max: defaults::SOURCES_MAX,
        }
    }
}

/// What is told of each session when it has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessLogSettings {
    /// Where records go. Default [`AccessLogTo::Off`]: a line per session is a cost to choose.
    pub to: AccessLogTo,
    /// How they are written. Default [`AccessLogFormat::Logfmt`], which people and programs can read.
    pub format: AccessLogFormat,
    /// Of sessions that ended normally, one record is kept out of so many; of others, each. At least 1. Default [`defaults::ACCESS_LOG_SAMPLE`].
    pub sample_every: u32,
}

impl Default for AccessLogSettings {
    fn default() -> Self {
        Self {
            to: AccessLogTo::Off,
            format: AccessLogFormat::Logfmt,
            sample_every: defaults::ACCESS_LOG_SAMPLE,
        }
    }
}

/// Where access records go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccessLogTo {
    /// Nowhere.
    Off,
    /// To standard error, between the other messages.
    Stderr,
    /// To the end of this file.
    File(PathBuf),
}

/// How an access record is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccessLogFormat {
    /// `key=value` pairs on a line.
    Logfmt,
    /// One JSON object on a line.
    Json,
}

/// How sessions are closed while the server drains.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum DrainClose {
    /// Those that are left at the deadline, at the deadline. Leaves every session as much time as there is.
    #[default]
    AtDeadline,
    /// Spread over the drain's window, so that clients do not all come back at the same moment.
    Spread,
}

#[cfg(test)]
mod tests;
