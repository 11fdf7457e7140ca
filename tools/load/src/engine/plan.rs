//! What every connection of a run needs to know, worked out before the first is made.

use super::orders::Order;
use crate::plan::arrivals::{ArrivalKind, Arrivals};
use crate::plan::payload::Pattern;
use crate::plan::script::Script;
use crate::plan::sizes::Sizes;
use crate::plan::sources::Sources;
use polyloop::{Dial, Remote};
use polyloop_measure::stats::{SplitMix64, mix};
use std::net::SocketAddr;
use std::sync::Arc;

/// See the module's documentation.
#[derive(Debug)]
pub struct Plan {
    /// Where connections go, in turn.
    pub to: Vec<Remote>,
    /// Where they come from, in turn; `None` leaves it to the system.
    pub sources: Option<Sources>,
    /// The congestion control of the connections.
    pub congestion: Option<Arc<str>>,
    /// Connections that carry the load.
    pub connections: u64,
    /// Connections of the probe, on a loop of their own.
    pub probe_connections: u64,
    /// Requests a second that the probe makes.
    pub probe_rate_per_s: f64,
    /// Loops that carry the load; the probe's is one more.
    pub loops: usize,
    /// When the first connection is dialled, on the monotonic clock.
    pub dial_from_ns: u64,
    /// Time between two dials.
    pub dial_every_ns: f64,
    /// What is said.
    pub workload: Workload,
    /// Connections that end after their requests.
    pub churn: Option<Churn>,
    /// How requests are spread over time.
    pub arrivals: ArrivalKind,
    /// Requests of one connection that may be on their way at once.
    pub pipeline: usize,
    /// Bytes a second that each connection reads; `None` is as they come.
    pub read_bytes_per_s: Option<f64>,
    /// Bytes a second that each connection writes; `None` is each request at once.
    pub write_bytes_per_s: Option<f64>,
    /// How long an answer, or a connection, is waited for.
    pub timeout_ns: u64,
    /// How often loops hand over what they recorded.
    pub interval_ns: u64,
    /// What messages are made of.
    pub pattern: Pattern,
    /// Where everything random begins.
    pub seed: u64,
}

/// What is said on a connection.
#[derive(Debug)]
pub enum Workload {
    /// Messages of these sizes, which come back.
    Echo {
        /// How long they are.
        sizes: Sizes,
    },
    /// Requests and responses.
    Script(Script),
    /// A stream to the server, written in pieces of this many bytes.
    Up {
        /// Bytes of one write.
        chunk: usize,
    },
    /// A stream from the server.
    Down,
    /// Both at once.
    Flood {
        /// Bytes of one write.
        chunk: usize,
    },
}

impl Workload {
    /// Whether it is bytes that count, and not requests.
    #[must_use]
    pub const fn is_stream(&self) -> bool {
        matches!(self, Self::Up { .. } | Self::Down | Self::Flood { .. })
    }
}

/// How connections that do not last end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Churn {
    /// Requests before the end.
    pub requests: u64,
    /// Whether the end is a reset instead of a FIN.
    pub resets: bool,
    /// Whether the rate of the load is one of connections, each with all of its requests, and not one of requests.
    pub rate_is_of_connects: bool,
}

impl Plan {
    /// Where and how connection `index` is made.
    #[must_use]
    pub fn dial(&self, index: u64) -> Dial {
        let to = self.to[(index % self.to.len() as u64) as usize].clone();
        let mut dial = Dial::to(to);
        if !matches!(dial.to, Remote::Unix(_)) {
            // Those that share a destination go through all sources, so that no pair of the two is used more than the others.
            let turn = index / self.to.len() as u64;
            dial.from = self
                .sources
                .as_ref()
                .map(|sources| SocketAddr::new(sources.nth(turn), 0));
            dial.congestion.clone_from(&self.congestion);
        }
        dial
    }

    /// When a connection of the probe is dialled for the first time: behind those of the load, if they are dialled ahead.
    #[must_use]
    pub fn dial_probe_at_ns(&self, index: u64) -> u64 {
        self.dial_at_ns(match self.churn {
            Some(_) => index.saturating_sub(self.connections),
            None => index,
        })
    }

    /// When connection `index` is dialled for the first time.
    #[must_use]
    pub fn dial_at_ns(&self, index: u64) -> u64 {
        self.dial_from_ns + (index as f64 * self.dial_every_ns) as u64
    }

    /// The length of message `number` of connection `index`: drawn anew whenever it is asked for, and always the same.
    #[must_use]
    pub fn message_len(&self, index: u64, number: u64) -> usize {
        match &self.workload {
            Workload::Echo { sizes } => match sizes.only() {
                Some(len) => len,
                None => {
                    let mut random = SplitMix64::new(mix(self.seed ^ mix(index)) ^ number);
                    sizes.sample(&mut random)
                }
            },
            Workload::Script(_) => 0,
            // Only the probe sends messages beside a stream.
            Workload::Up { .. } | Workload::Down | Workload::Flood { .. } => PROBE_BYTES,
        }
    }

    /// When connection `index` sends in a stage in which all connections together send `rate_per_s` requests a second.
    #[must_use]
    pub fn arrivals(&self, index: u64, is_probe: bool, order: Order, rate_per_s: f64) -> Arrivals {
        let (members, place, rate) = if is_probe {
            let place = index.saturating_sub(self.connections);
            (self.probe_connections, place, self.probe_rate_per_s)
        } else {
            (self.connections, index, rate_per_s)
        };
        let interval_ns = members.max(1) as f64 / rate.max(RATE_MIN) * 1e9;
        let seed = mix(self.seed ^ mix(u64::from(order.stage) << 1 | u64::from(is_probe)));
        let place = (place, members.max(1));
        Arrivals::of_connection(self.arrivals, interval_ns, order.begins_ns, place, seed)
    }
}

/// Messages of the probe beside a stream are as long as those of a load by default.
pub(crate) const PROBE_BYTES: usize = 64;

/// One request in eleven days: less is none.
const RATE_MIN: f64 = 1e-6;
