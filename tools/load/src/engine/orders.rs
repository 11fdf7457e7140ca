//! What the director tells the loops: which stage it is, how fast, until when.
//!
//! The one idea: an order is published whole, behind a number that only grows. The clerk of a loop compares the number ten times a
//! second and copies the order when it has changed; no request ever takes the lock.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// What a loop is to do.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Order {
    /// Number of the stage; intervals carry it.
    pub stage: u32,
    /// The first planned time of the stage may be this, on the monotonic clock.
    pub begins_ns: u64,
    /// No request is planned at this time or later.
    pub ends_ns: u64,
    /// How fast.
    pub pace: Pace,
    /// Where in its life the stage is.
    pub phase: Phase,
}

/// How fast requests are planned.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Pace {
    /// So many a second over all connections of the run.
    Open {
        /// Requests a second.
        rate_per_s: f64,
    },
    /// The next as soon as the last is answered.
    Closed,
    /// None.
    Silent,
}

/// Where a stage stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Requests are planned, sent and recorded.
    Runs,
    /// It is over: what was planned and not sent, or sent and not answered, is counted with the age it has now.
    Closed,
}

/// The order that is in force, for all loops.
#[derive(Debug)]
pub struct Orders {
    number: AtomicU64,
    order: Mutex<Order>,
}

impl Orders {
    /// Silence.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            number: AtomicU64::new(1),
            order: Mutex::new(Order::SILENCE),
        }
    }

    /// From now on this one holds.
    pub fn give(&self, order: Order) {
        let mut held = self.order.lock().unwrap_or_else(PoisonError::into_inner);
        *held = order;
        self.number.fetch_add(1, Ordering::Release);
    }

    /// The order, if it is not the one that `known` stands for.
    #[must_use]
    pub fn news(&self, known: u64) -> Option<(u64, Order)> {
        if self.number.load(Ordering::Acquire) == known {
            return None;
        }
        let held = self.order.lock().unwrap_or_else(PoisonError::into_inner);
        Some((self.number.load(Ordering::Acquire), *held))
    }
}

impl Default for Orders {
    fn default() -> Self {
        Self::new()
    }
}

impl Order {
    /// Nothing is sent, nothing recorded.
    pub const SILENCE: Self = Self {
        stage: 0,
        begins_ns: 0,
        ends_ns: 0,
        pace: Pace::Silent,
        phase: Phase::Runs,
    };

    /// Whether a request planned for `planned_ns` belongs to this stage, and the stage still counts.
    #[must_use]
    #[inline]
    pub fn counts(&self, planned_ns: u64) -> bool {
        self.phase == Phase::Runs && (self.begins_ns..self.ends_ns).contains(&planned_ns)
    }
}
