//! Whether a backend may be used: what checks say, what sessions meet, and what the operator wants.
//!
//! ```text
//!   handle_check    ─> rise and fall      ─┐
//!   handle_failure  ─> passive ejection   ─┼─> Health ─> published() ─> one word, read by every loop:
//!   handle_success  ─┘                     │                           usable? how much of its weight?
//!   set_manual      ─> ready, drain, down ─┤
//!   set_placed      ─> has it an address? ─┘
//! ```
//!
//! The one idea: one [`Health`] per backend and process decides, and what it decides fits a word that any thread can
//! read ([`Published`]). The word holds dates instead of what follows from them, so an ejection ends and a slow start
//! goes on for every reader without anybody writing.
//!
//! The stronger word wins: an operator's `down` or `drain` before a want of addresses, that before a failed check, and that
//! before an ejection. A check
//! that passes does not end an ejection: that a backend accepts connections says little about the sessions that fail.
//!
//! When nothing can be used, an explicit policy decides ([`group_mode`]): to try those that are only thought to be down,
//! as checks are wrong about everything at once more often than everything fails at once, or to refuse. What an operator
//! took out is never tried.
//!
//! Deliberately absent: doing checks, timers, locks, and what becomes of the sessions of a backend that goes down.
//!
//! Invariants: no more than one change in `rise` or `fall` checks; an ejection always ends; time that seems to run
//! backwards (loops read their clocks at different moments) changes nothing.

mod check;
mod ejection;
mod published;
#[cfg(test)]
mod tests;

pub use check::{Hysteresis, Initial, Outcome, Schedule};
pub use ejection::{EjectionPolicy, may_eject};
pub use published::{GroupMode, Published, State, group_mode};

use check::Checked;
use ejection::Ejector;

/// What an operator wants of a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Manual {
    /// Use it if it is well.
    #[default]
    Ready,
    /// No new sessions; those it has go on.
    Drain,
    /// Not to be used.
    Down,
}

/// What an answer about its name means to a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placing {
    /// It has addresses with the first answer of all: it is as warm as everything else at the start.
    First,
    /// It is somewhere else: who was ejected is not who is there now.
    Moved,
    /// Some of its addresses are still the same.
    Stays,
    /// It has none.
    Gone,
}

/// A change of state, to be told and counted. Each begins where the one before ended. From ejected to ejected is an
/// ejection after one whose end nobody noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// What it was.
    pub from: State,
    /// What it is now.
    pub to: State,
}

/// How the health of a backend is judged. `None` switches a source of judgement off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HealthPolicy {
    /// For the results of active checks.
    pub checks: Option<Hysteresis>,
    /// For what sessions meet.
    pub ejection: Option<EjectionPolicy>,
}

/// The health of one backend. One per process; its owner publishes [`published`](Self::published) after each call that
/// may have changed it.
///
/// Calling order: any. `now_ms` is loop time, the same clock for all callers.
#[derive(Debug, Clone)]
pub struct Health {
    manual: Manual,
    /// Whether it has an address. A name may have none for it.
    is_placed: bool,
    checked: Option<Checked>,
    ejector: Option<Ejector>,
    /// Since when it has been up, where its slow start begins; 0 for from the beginning, and warm.
    up_since_ms: u64,
    /// What was last told as a [`Change`].
    told: State,
}

impl Health {
    /// The health of a backend nothing is known of yet. It has its full weight at once: when the process starts, all
    /// backends are equally cold to it.
    #[must_use]
    pub fn new(policy: &HealthPolicy) -> Self {
        let checked = policy.checks.map(Checked::new);
        let mut health = Self {
            manual: Manual::Ready,
            is_placed: true,
            checked,
            ejector: policy.ejection.map(Ejector::new),
            up_since_ms: 0,
            told: State::Up,
        };
        health.told = health.state(0);
        health
    }

    /// A check has ended. Without active checks, nothing happens.
    pub fn handle_check(&mut self, now_ms: u64, outcome: Outcome) -> Option<Change> {
        if let Some(checked) = &mut self.checked {
            checked.handle(outcome);
        }
        self.settle(now_ms)
    }

    /// A session could not be connected, or was reset before its first byte. `may_eject` is asked whether the group
    /// can spare the backend at this moment: see [`may_eject`]. If it cannot, the next failure asks again.
    ///
    /// While it is ejected, failures of sessions that were on their way count for nothing.
    pub fn handle_failure(
        &mut self,
        now_ms: u64,
        may_eject: impl FnOnce() -> bool,
    ) -> Option<Change> {
        let is_ejected_anew = self
            .ejector
            .as_mut()
            .is_some_and(|ejector| ejector.handle_failure(now_ms, may_eject));
        let change = self.settle(now_ms);
        if change.is_none() && is_ejected_anew && self.told == State::Ejected {
            let (from, to) = (State::Ejected, State::Ejected);
            return Some(Change { from, to });
        }
        change
    }

    /// A session got its first byte from the backend. Ends a run of failures, and an ejection: what was tried nevertheless
    /// has proved it wrong.
    ///
    /// To be called for a backend that is published as [`suspect`](Published::suspect), and not needed for others.
    pub fn handle_success(&mut self, now_ms: u64) -> Option<Change> {
        if let Some(ejector) = &mut self.ejector {
            ejector.handle_success(now_ms);
        }
        self.settle(now_ms)
    }

    /// The operator decides. `Ready` also ends an ejection: whoever says so has mended the backend.
    pub fn set_manual(&mut self, now_ms: u64, manual: Manual) -> Option<Change> {
        self.manual = manual;
        if manual == Manual::Ready
            && let Some(ejector) = &mut self.ejector
        {
            ejector.forgive(now_ms);
        }
        self.settle(now_ms)
    }

    /// Its addresses are others, or none. What checks say stands until the next.
    pub fn set_placed(&mut self, now_ms: u64, placing: Placing) -> Option<Change> {
        self.is_placed = placing != Placing::Gone;
        if let (Placing::Moved, Some(ejector)) = (placing, &mut self.ejector) {
            ejector.forgive(now_ms);
        }
        let change = self.settle(now_ms);
        if placing == Placing::First {
            self.up_since_ms = 0;
        }
        change
    }

    /// The health of a backend whose addresses are to be looked up.
    #[must_use]
    pub fn without_address(policy: &HealthPolicy) -> Self {
        let mut health = Self::new(policy);
        health.is_placed = false;
        health.told = health.state(0);
        health
    }

    /// An ejection may have ended: to be called at [`ejected_until_ms`](Self::ejected_until_ms), so that the end is told.
    /// Readers of the published word need no call.
    pub fn handle_timer(&mut self, now_ms: u64) -> Option<Change> {
        self.settle(now_ms)
    }

    /// When the ejection ends that is in force at `now_ms`.
    #[must_use]
    pub fn ejected_until_ms(&self, now_ms: u64) -> Option<u64> {
        self.ejector.as_ref()?.ejected_until_ms(now_ms)
    }

    /// What the operator wants.
    #[must_use]
    pub const fn manual(&self) -> Manual {
        self.manual
    }

    /// What it is.
    #[must_use]
    pub fn state(&self, now_ms: u64) -> State {
        let is_up = self.checked.as_ref().is_none_or(Checked::is_up);
        match self.manual {
            Manual::Down => State::Down,
            Manual::Drain => State::Drain,
            Manual::Ready if !self.is_placed => State::NoAddress,
            Manual::Ready if !is_up => State::CheckedDown,
            Manual::Ready if self.ejected_until_ms(now_ms).is_some() => State::Ejected,
            Manual::Ready => State::Up,
        }
    }

    /// What the loops need to know.
    #[must_use]
    pub fn published(&self, now_ms: u64) -> Published {
        let state = self.state(now_ms);
        let date_ms = match (state, self.ejected_until_ms(now_ms)) {
            (State::Ejected, Some(until_ms)) => until_ms,
            // An ejection that has ended unseen is where the slow start begins.
            (State::Up, _) if self.told == State::Ejected => self.ejection_end_ms(),
            _ => self.up_since_ms,
        };
        let suspect = self.ejector.as_ref().is_some_and(Ejector::is_suspect);
        Published::new(state, suspect, date_ms)
    }

    /// Compares the state with what was told last.
    fn settle(&mut self, now_ms: u64) -> Option<Change> {
        let (from, to) = (self.told, self.state(now_ms));
        if from == to {
            return None;
        }
        if to == State::Up {
            self.up_since_ms = match from {
                // Up since the ejection ended, whenever that was noticed. From a success on, if that ended it.
                State::Ejected => self.ejection_end_ms().min(now_ms),
                // After a drain too: as a rule it was for a restart.
                State::Up | State::CheckedDown | State::Drain | State::Down | State::NoAddress => {
                    now_ms
                }
            };
        }
        self.told = to;
        Some(Change { from, to })
    }

    fn ejection_end_ms(&self) -> u64 {
        self.ejector.as_ref().map_or(0, Ejector::last_end_ms)
    }
}
