//! The numbers that only tell: what each loop has done for listeners and with backends.
//!
//! The one idea: a loop owns its board and writes it with plain stores; whoever reads adds boards up.

use std::sync::atomic::AtomicU64;

use polyloop::telemetry::Counter;

use super::spread::{BYTES_BOUNDS, CONNECT_BOUNDS_NS, LENGTH_BOUNDS_NS, Spread};
use crate::termination::Cause;

/// Declares counters of one loop with names and help texts, and what else its board has.
///
/// Boards of different loops stand side by side and are written for each message: the alignment keeps each, and the pair of
/// lines that is fetched with it, to its own core.
macro_rules! board {
    (
        $(#[$doc:meta])* $board:ident: $($name:ident: $help:literal,)*
        $(; $(#[$more_doc:meta])* $more:ident: $kind:ty = $empty:expr)*
    ) => {
        $(#[$doc])*
        #[derive(Debug)]
        #[repr(align(128))]
        pub struct $board {
            $(#[doc = $help] pub $name: Counter,)*
            $($(#[$more_doc])* pub $more: $kind,)*
        }

        impl $board {
            /// Every counter: name, help, value.
            pub fn each(&self, tell: &mut dyn FnMut(&'static str, &'static str, u64)) {
                $(tell(stringify!($name), $help, self.$name.value());)*
            }
        }

        impl Default for $board {
            fn default() -> Self {
                Self {
                    $($name: Counter::default(),)*
                    $($more: $empty,)*
                }
            }
        }
    };
}

board! {
    /// What one loop has done with one backend. Only that loop writes it.
    BackendBoard:
    bytes_up: "Bytes from clients to it.",
    bytes_down: "Bytes from it to clients.",
    chosen: "Times it was chosen.",
    connected: "Connections made to it.",
    connect_refused: "Connections that it refused, or that broke while they were made.",
    connect_timeouts: "Connections that were not made in time.",
    connect_local: "Connections that failed for want of a port, a descriptor or memory on this side.",
    retried: "Sessions that went to another backend after it had failed them.",
    ended: "Sessions that ended after they had its connection.",
    resets: "Sessions that it reset.",
    ;
    /// Nanoseconds from asking for a connection to having it.
    connect_spread: Spread = Spread::new(CONNECT_BOUNDS_NS)
    ;
    /// What the sessions were that had its connection.
    ended_spread: Ended = Ended::default()
}

board! {
    /// What one loop has done for one listener. Only that loop writes it.
    ListenerBoard:
    sessions: "Sessions begun.",
    queued: "Sessions that waited for a backend below its cap.",
    spliced: "Directions that were spliced.",
    ;
    /// Sessions refused, by [`Cause::REFUSALS`].
    refused: [Counter; Cause::REFUSALS.len()] = Default::default()
    ;
    /// What the sessions were that have ended, refused ones too.
    ended_spread: Ended = Ended::default()
}

/// How long sessions lasted and how much they moved.
#[derive(Debug)]
pub struct Ended {
    /// Nanoseconds from accept to the end.
    pub length: Spread,
    /// Bytes of a session from its client.
    pub bytes_up: Spread,
    /// Bytes of a session to its client.
    pub bytes_down: Spread,
}

impl Default for Ended {
    fn default() -> Self {
        Self {
            length: Spread::new(LENGTH_BOUNDS_NS),
            bytes_up: Spread::new(BYTES_BOUNDS),
            bytes_down: Spread::new(BYTES_BOUNDS),
        }
    }
}

impl Ended {
    /// One more session.
    pub(crate) fn record(&self, length_ns: u64, bytes_up: u64, bytes_down: u64) {
        self.length.record(length_ns);
        self.bytes_up.record(bytes_up);
        self.bytes_down.record(bytes_down);
    }
}

impl ListenerBoard {
    /// Sessions refused, all reasons together.
    #[must_use]
    pub fn refused_in_all(&self) -> u64 {
        self.refused.iter().map(Counter::value).sum()
    }

    /// Sessions refused for this cause; 0 for one that is no refusal.
    #[must_use]
    pub fn refused_for(&self, cause: Cause) -> u64 {
        cause.refusal().map_or(0, |at| self.refused[at].value())
    }
}

/// How often a backend's health changed.
#[derive(Debug, Default)]
pub struct Changes {
    /// To up.
    pub up: AtomicU64,
    /// To down, because checks failed.
    pub down: AtomicU64,
    /// To ejected, because sessions failed.
    pub ejected: AtomicU64,
    /// To draining or down, by an operator.
    pub by_operator: AtomicU64,
    /// To no address, because its name has none left for it.
    pub lost: AtomicU64,
}

/// Access records that are in no file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RecordsLost {
    /// There was no room in the queue to who writes.
    pub dropped: u64,
    /// The system did not take them.
    pub write_errors: u64,
}
