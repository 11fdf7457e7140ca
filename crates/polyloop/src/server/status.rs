//! What a running server can be asked, from any thread and at any time.

use super::MemoryFacts;
use crate::dispatcher::GateKind;
use crate::offload::OffloadPools;
use crate::overload::Overload;
use crate::permits::Permits;
use crate::telemetry::LoopBoard;
use polyloop_core::placement::Placement;
use polyloop_sys::clock::monotonic_ns;
use polyloop_sys::descriptors::DescriptorLimit;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

/// A listener as it was opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BoundListener {
    /// Its address, with the port that the system chose where none was named.
    pub addr: String,
    /// Its place among the server's listeners.
    pub index: usize,
    /// What it is for.
    pub kind: GateKind,
}

/// How the cap on connections came about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DescriptorFacts {
    /// The limit of the process.
    pub limit: DescriptorLimit,
    /// Descriptors that were open when the cap was computed: polls, wakers and listeners among them.
    pub open_at_start: u64,
    /// Descriptors that are not for connections.
    pub reserve: u64,
    /// Descriptors that one connection needs.
    pub cost: u64,
    /// Connections that may be open at once.
    pub connections_max: u64,
}

/// Where the server stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Life {
    /// Not all loops serve yet.
    Starting = 0,
    /// It serves.
    Serving = 1,
    /// It accepts no more.
    Draining = 2,
    /// All loops have ended.
    Ended = 3,
}

impl Life {
    /// The name in logs and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Serving => "serving",
            Self::Draining => "draining",
            Self::Ended => "ended",
        }
    }
}

/// See the module's documentation. Whoever keeps it after the end keeps one descriptor for each loop, its waker.
#[derive(Debug)]
pub struct Status {
    /// What each loop publishes.
    pub boards: Arc<[Arc<LoopBoard>]>,
    /// The connection permits.
    pub permits: Arc<Permits>,
    /// The offload pools.
    pub pools: Arc<OffloadPools>,
    /// Loops and cores, and why.
    pub placement: Placement,
    /// How the cap on connections came about.
    pub descriptors: DescriptorFacts,
    /// How much memory may be used; `None` if nobody watches it.
    pub memory: Option<MemoryFacts>,
    /// The level of memory.
    pub overload: Arc<Overload>,
    /// The listeners.
    pub listeners: Vec<BoundListener>,
    /// The names of the handlers, by their index.
    pub handler_names: &'static [&'static str],
    /// When the server was started, on the monotonic clock.
    pub started_ns: u64,
    pub(crate) bells: Vec<Arc<crate::bell::Bell>>,
    pub(crate) life: AtomicU8,
}

impl Status {
    /// Where the server stands.
    #[must_use]
    pub fn life(&self) -> Life {
        match self.life.load(Ordering::Relaxed) {
            0 => Life::Starting,
            1 => Life::Serving,
            2 => Life::Draining,
            _ => Life::Ended,
        }
    }

    pub(crate) fn set_life(&self, life: Life) {
        self.life.store(life as u8, Ordering::Relaxed);
    }

    /// Nanoseconds since the start.
    #[must_use]
    pub fn uptime_ns(&self) -> u64 {
        monotonic_ns().saturating_sub(self.started_ns)
    }

    /// Wake-ups that others sent to a loop.
    ///
    /// # Panics
    /// When there is no such loop.
    #[must_use]
    pub fn rings(&self, loop_index: usize) -> u64 {
        self.bells[loop_index].sent()
    }

    /// Connections that live on all loops.
    #[must_use]
    pub fn live(&self) -> u64 {
        self.boards
            .iter()
            .map(|board| board.numbers.live.value())
            .sum()
    }

    /// Loops that the watchdog holds to be stuck.
    #[must_use]
    pub fn stuck(&self) -> usize {
        self.boards.iter().filter(|board| board.is_stuck()).count()
    }
}
