//! Active checks: when the next one is, and when their results count.
//!
//! One idea: one result says little, so a backend changes its state only after several results in a row that
//! contradict it; a single one the other way starts the count again.

use crate::balance::random::{GOLDEN_GAMMA, mix, scale_to};

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// As it should.
    Passed,
    /// In any other way, or not in time.
    Failed,
}

/// What a backend is before its first check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Initial {
    /// Up until the first check, which decides alone: it serves at once, and is out soon if it should not have been.
    #[default]
    FirstCheck,
    /// Up: it takes `fall` failures to go down.
    Up,
    /// Down: it takes `rise` successes to go up.
    Down,
}

/// How many results in a row change the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hysteresis {
    /// Successes until it is up. 0 counts as 1.
    pub rise: u32,
    /// Failures until it is down. 0 counts as 1.
    pub fall: u32,
    /// What it is before the first one.
    pub initial: Initial,
}

/// When checks are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Schedule {
    /// From one to the next.
    pub interval_ms: u64,
    /// Each interval is shorter or longer by up to this share of it; above 100 counts as 100.
    pub jitter_percent: u16,
}

impl Schedule {
    /// When the first check is: within one interval from `now_ms`, so that those of many backends do not meet.
    #[must_use]
    pub const fn first_check_at(&self, now_ms: u64, seed: u64) -> u64 {
        now_ms.saturating_add(scale_to(mix(seed), self.interval_ms))
    }

    /// When the next check is, counted from `now_ms`, the planned time of the one before. The same seed serves for all
    /// checks of a backend: the date goes into the draw.
    #[must_use]
    pub fn next_check_at(&self, now_ms: u64, seed: u64) -> u64 {
        let percent = u128::from(self.jitter_percent.min(100));
        // A share of at most all of it, so it fits.
        let spread_ms = (u128::from(self.interval_ms) * percent / 100) as u64;
        let draw = mix(seed ^ now_ms.wrapping_mul(GOLDEN_GAMMA));
        let jitter_ms = scale_to(draw, spread_ms.saturating_mul(2).saturating_add(1));
        // At least 1 ms, or an interval of 0 would be a loop without end.
        let wait_ms = (self.interval_ms - spread_ms).saturating_add(jitter_ms);
        now_ms.saturating_add(wait_ms.max(1))
    }
}

/// The state that follows from the results.
#[derive(Debug, Clone, Copy)]
pub(super) struct Checked {
    hysteresis: Hysteresis,
    is_up: bool,
    /// Whether the next result decides alone.
    is_open: bool,
    /// Results in a row that contradict the state.
    against: u32,
}

impl Checked {
    pub(super) fn new(hysteresis: Hysteresis) -> Self {
        Self {
            hysteresis,
            is_up: hysteresis.initial != Initial::Down,
            is_open: hysteresis.initial == Initial::FirstCheck,
            against: 0,
        }
    }

    pub(super) const fn is_up(&self) -> bool {
        self.is_up
    }

    pub(super) fn handle(&mut self, outcome: Outcome) {
        let passed = outcome == Outcome::Passed;
        let decides_alone = std::mem::replace(&mut self.is_open, false);
        if passed == self.is_up {
            self.against = 0;
            return;
        }
        self.against += 1;
        let needed = if passed {
            self.hysteresis.rise
        } else {
            self.hysteresis.fall
        };
        if decides_alone || self.against >= needed {
            self.is_up = passed;
            self.against = 0;
        }
    }
}
