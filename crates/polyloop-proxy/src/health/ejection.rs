//! Passive ejection: a backend whose sessions fail is left alone for a while.
//!
//! ```text
//!               `errors` failures in a row                   date                      failure
//!   trusted ───────────────────────────────> ejected ─────────────────> on probation ──────────> ejected, twice as long
//!      ^                                        │ success                    │ success
//!      └────────────────────────────────────────┴────────────────────────────┘
//! ```
//!
//! One idea: an ejection ends by date and not by proof, as only sessions can prove anything; so the first session after
//! it is the proof, and one failure is enough then. What a dead backend costs is one retried session per ejection, and
//! ejections grow.
//!
//! The next length is halved for each time as long as the last ejection that went by since the probation: trust comes
//! back as slowly as it went.
//!
//! Deliberately absent: rates of errors. A backend that fails one session in ten does better with them than without, but
//! to tell it from one that serves bad clients takes more than layer 4 knows.

use super::published::{Published, State};

/// When a backend is ejected, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EjectionPolicy {
    /// Failures in a row. 0 counts as 1.
    pub errors: u32,
    /// The first ejection.
    pub base_ms: u64,
    /// The longest; one that follows at once is twice as long as the one before.
    pub max_ms: u64,
}

/// Whether one more backend of this group may be ejected: if then at most `share_max_percent` of its backends are.
/// The group's only backend never is, unless all may be.
///
/// Only backends that have an address and that an operator has not taken out are counted: they are what the group has to
/// live on.
#[must_use]
pub fn may_eject(
    group: impl IntoIterator<Item = Published>,
    now_ms: u64,
    share_max_percent: u16,
) -> bool {
    let (mut ejected, mut in_service) = (0_u64, 0_u64);
    for backend in group {
        match backend.state(now_ms) {
            State::Ejected => {
                ejected += 1;
                in_service += 1;
            }
            State::Up | State::CheckedDown => in_service += 1,
            State::Drain | State::Down | State::NoAddress => {}
        }
    }
    (ejected + 1) * 100 <= in_service * u64::from(share_max_percent)
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Ejector {
    policy: EjectionPolicy,
    /// Failures in a row.
    failures: u32,
    /// Whether no session has succeeded since the last ejection.
    on_probation: bool,
    /// How long the last ejection was to be; 0 if there was none.
    length_ms: u64,
    /// When the last ejection ends or ended; 0 if there was none.
    until_ms: u64,
    /// When the probation ended.
    good_since_ms: u64,
}

impl Ejector {
    pub(super) const fn new(policy: EjectionPolicy) -> Self {
        Self {
            policy,
            failures: 0,
            on_probation: false,
            length_ms: 0,
            until_ms: 0,
            good_since_ms: 0,
        }
    }

    pub(super) fn ejected_until_ms(&self, now_ms: u64) -> Option<u64> {
        (now_ms < self.until_ms).then_some(self.until_ms)
    }

    pub(super) const fn last_end_ms(&self) -> u64 {
        self.until_ms
    }

    /// Whether a success would change anything.
    pub(super) const fn is_suspect(&self) -> bool {
        self.failures > 0 || self.on_probation
    }

    /// Whether an ejection begins. `may_eject` is asked only if it comes to that.
    pub(super) fn handle_failure(&mut self, now_ms: u64, may_eject: impl FnOnce() -> bool) -> bool {
        if self.ejected_until_ms(now_ms).is_some() {
            return false;
        }
        self.failures = self.failures.saturating_add(1);
        let is_enough = self.on_probation || self.failures >= self.policy.errors;
        let begins = is_enough && may_eject();
        if begins {
            self.length_ms = self.next_length_ms(now_ms);
            self.until_ms = now_ms.saturating_add(self.length_ms);
            self.on_probation = true;
            self.failures = 0;
        }
        begins
    }

    pub(super) fn handle_success(&mut self, now_ms: u64) {
        self.failures = 0;
        if self.on_probation {
            self.on_probation = false;
            self.until_ms = self.until_ms.min(now_ms);
            self.good_since_ms = now_ms;
        }
    }

    /// Forgets all but when the last ejection ended.
    pub(super) fn forgive(&mut self, now_ms: u64) {
        *self = Self {
            until_ms: self.until_ms.min(now_ms),
            ..Self::new(self.policy)
        };
    }

    fn next_length_ms(&self, now_ms: u64) -> u64 {
        let EjectionPolicy {
            base_ms, max_ms, ..
        } = self.policy;
        let mut length_ms = self.length_ms.saturating_mul(2).min(max_ms);
        if !self.on_probation {
            let good_ms = now_ms.saturating_sub(self.good_since_ms);
            // Without an ejection before there is nothing to halve.
            let halvings = good_ms.checked_div(self.length_ms).unwrap_or(0);
            let halvings = u32::try_from(halvings).unwrap_or(u32::MAX);
            length_ms = length_ms.checked_shr(halvings).unwrap_or(0);
        }
        length_ms.max(base_ms)
    }
}
