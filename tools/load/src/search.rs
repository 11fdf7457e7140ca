//! The search for the highest rate that meets an objective.
//!
//! The one idea: the search is a bracket. Below lies a rate that may be exceeded, above one that was too much, and why;
//! each trial moves one of them, and whatever moved the upper one last is what limits the result.
//!
//! ```text
//!            holds              fails                 closer than the resolution        holds
//!   Ramp x4 ───────> Ramp x4 ─────────> Bisect ... ───────────────────────────> Verify ───────> Spectrum 10, 50, 90 %
//!     │ the first fails            Verify fails: 2 % less, and again, up to VERIFY_TRIALS_MAX
//!     └───> Ramp /4, up to DESCENTS_MAX, and not below what a trial can judge
//! ```
//!
//! A CoolDown goes before the verification and after each trial that failed, so that a queue that one trial has built
//! up is not the next one's.
//!
//! Deliberately absent: clocks, load, printing. The driver asks [`Search::next`] what to do, does it, and says with
//! [`Search::tell`] what came of it, until there is nothing left to do. The search takes latency to rise with the rate;
//! where it does not, the verification says so.
//!
//! Invariants: it ends, whatever it is told (each kind of trial has a bound). A rate that failed, or one above it, is
//! never the rate found.

mod outcome;
mod settings;
#[cfg(test)]
mod tests;

use std::fmt;

pub use outcome::{Judgement, Outcome, TrialRecord};
pub use settings::SearchSettings;

/// A search under way.
#[derive(Debug, Clone)]
pub struct Search {
    settings: SearchSettings,
    step: Step,
    needs_cool_down: bool,
    /// How often the present step was tried in vain since its trial was doubtful.
    repeats: u32,
    /// No reason is known not to go beyond this rate.
    low: Option<f64>,
    /// This rate was too much, and why.
    high: Option<(f64, LimitedBy)>,
    /// This rate held for longer.
    verified: Option<f64>,
    trials: Vec<TrialRecord>,
}

impl Search {
    /// A search that has not begun. Settings out of range are moved to the end of it, see [`SearchSettings`].
    #[must_use]
    pub fn new(settings: SearchSettings) -> Self {
        let settings = settings.within_bounds();
        Self {
            step: Step::Ramp(settings.start_rate),
            settings,
            needs_cool_down: false,
            repeats: 0,
            low: None,
            high: None,
            verified: None,
            trials: Vec::new(),
        }
    }

    /// What to try now; the same until [`Search::tell`] is called. None when the search is over.
    #[must_use]
    pub fn next(&self) -> Option<Trial> {
        let settings = &self.settings;
        let (kind, rate_per_s) = match self.step {
            Step::Done => return None,
            _ if self.needs_cool_down => {
                return Some(Trial {
                    rate_per_s: 0.0,
                    seconds: settings.cool_down_seconds(),
                    kind: TrialKind::CoolDown,
                });
            }
            Step::Ramp(rate) => (TrialKind::Ramp, rate),
            Step::Bisect(rate) => (TrialKind::Bisect, rate),
            Step::Verify { rate, .. } => (TrialKind::Verify, rate),
            Step::Spectrum { found, index } => (
                TrialKind::Spectrum(SPECTRUM[index]),
                found * SPECTRUM[index],
            ),
        };
        let seconds = match kind {
            TrialKind::Ramp | TrialKind::Bisect => settings.trial_seconds,
            _ => settings.verify_seconds,
        };
        Some(Trial {
            rate_per_s,
            seconds: settings.long_enough(seconds, rate_per_s),
            kind,
        })
    }

    /// What came of the trial that [`Search::next`] named. Nothing happens when the search is over.
    pub fn tell(&mut self, outcome: Outcome) {
        let Some(trial) = self.next() else { return };
        if trial.kind == TrialKind::CoolDown {
            self.needs_cool_down = false;
            return;
        }
        let judgement = outcome.judge();
        self.needs_cool_down = matches!(judgement, Judgement::Failed(_));
        let is_repeated = outcome.is_doubtful && self.repeats < REPEATS_MAX;
        self.trials.push(TrialRecord {
            trial,
            outcome,
            judgement,
            is_repeated,
        });
        if is_repeated {
            self.repeats += 1;
            return;
        }
        self.repeats = 0;
        let rate = trial.rate_per_s;
        self.step = match self.step {
            Step::Ramp(_) => self.after_ramp(rate, judgement),
            Step::Bisect(_) => self.after_bisect(rate, judgement),
            Step::Verify { attempt, .. } => self.after_verify(rate, attempt, judgement),
            Step::Spectrum { found, index } if index + 1 < SPECTRUM.len() => Step::Spectrum {
                found,
                index: index + 1,
            },
            Step::Spectrum { .. } | Step::Done => Step::Done,
        };
    }

    /// What the search has come to so far; final once [`Search::next`] is none.
    #[must_use]
    pub fn result(&self) -> SearchResult {
        let rate_found = self.rate_found();
        let limited_by = match (rate_found, self.high) {
            // A generator that was late each time says nothing about the server.
            (_, Some((_, LimitedBy::Generator))) => LimitedBy::Generator,
            (None, _) => LimitedBy::NeverMet,
            (Some(_), Some((_, limit))) => limit,
            (Some(_), None) => LimitedBy::MaxRate,
        };
        SearchResult {
            rate_found,
            limited_by,
            verified: self.verified.is_some(),
            trials: self.trials.clone(),
        }
    }

    fn after_ramp(&mut self, rate: f64, judgement: Judgement) -> Step {
        let factor = self.settings.factor;
        if let Judgement::Failed(limit) = judgement {
            self.high = Some((rate, limit));
            return match self.low {
                Some(_) => self.narrow(),
                None if self.counted().count() > DESCENTS_MAX => Step::Done,
                // Lower, a trial could not show that the objective holds.
                None if rate <= self.settings.rate_told_min() => Step::Done,
                None => Step::Ramp((rate / factor).max(self.settings.rate_told_min())),
            };
        }
        self.low = Some(rate);
        match self.high {
            Some(_) => self.narrow(),
            None if rate >= self.settings.rate_max() => self.verify(),
            None => Step::Ramp((rate * factor).min(self.settings.rate_max())),
        }
    }

    fn after_bisect(&mut self, rate: f64, judgement: Judgement) -> Step {
        match judgement {
            Judgement::Held => self.low = Some(rate),
            Judgement::Failed(limit) => self.high = Some((rate, limit)),
            // Too few samples, which a lower rate would not have more of.
            Judgement::Untold if self.rate_found().is_none() => self.low = Some(rate),
            // Not shown to hold. What limits the search is still what failed above.
            Judgement::Untold => self.high = self.high.map(|(_, limit)| (rate, limit)),
        }
        self.narrow()
    }

    fn after_verify(&mut self, rate: f64, attempt: u32, judgement: Judgement) -> Step {
        match judgement {
            Judgement::Held => self.verified = Some(rate),
            // A lower rate would tell even less.
            Judgement::Untold => {}
            Judgement::Failed(limit) => {
                self.high = Some((rate, limit));
                if attempt < VERIFY_TRIALS_MAX {
                    return Step::Verify {
                        rate: rate * (1.0 - self.settings.resolution),
                        attempt: attempt + 1,
                    };
                }
            }
        }
        match self.rate_found() {
            Some(found) => {
                self.needs_cool_down |= self.verified.is_none();
                Step::Spectrum { found, index: 0 }
            }
            None => Step::Done,
        }
    }

    /// The next rate between the two ends, or the verification when they are close enough.
    fn narrow(&mut self) -> Step {
        match (self.low, self.high) {
            (Some(low), Some((high, _))) if high > low * (1.0 + self.settings.resolution) => {
                // Halfway on the scale on which the resolution is a length.
                Step::Bisect((low * high).sqrt())
            }
            _ => self.verify(),
        }
    }

    fn verify(&mut self) -> Step {
        let Some(rate) = self.rate_found() else {
            return Step::Done;
        };
        self.needs_cool_down = true;
        Step::Verify { rate, attempt: 1 }
    }

    /// The trials that were not tried again.
    fn counted(&self) -> impl Iterator<Item = &TrialRecord> {
        self.trials.iter().filter(|record| !record.is_repeated)
    }

    /// The rate that was verified, or else the highest that held and lies below each that failed.
    fn rate_found(&self) -> Option<f64> {
        if self.verified.is_some() {
            return self.verified; // a shorter trial may have held between this rate and the last one that failed
        }
        let too_much = self.high.map_or(f64::INFINITY, |(rate, _)| rate);
        let held = self.counted().filter(|record| {
            record.judgement == Judgement::Held
                && !matches!(record.trial.kind, TrialKind::Spectrum(_))
                && record.trial.rate_per_s < too_much
        });
        held.map(|record| record.trial.rate_per_s)
            .max_by(f64::total_cmp)
    }
}

/// Something to try.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Trial {
    /// Requests per second to plan; 0 is none at all.
    pub rate_per_s: f64,
    /// For how long.
    pub seconds: f64,
    /// What for.
    pub kind: TrialKind,
}

/// What a trial is for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum TrialKind {
    /// To find a rate that is too much.
    Ramp,
    /// To come closer to the highest rate that is not.
    Bisect,
    /// To let a queue drain.
    CoolDown,
    /// To see whether the rate found holds for longer.
    Verify,
    /// To see the latency at this share of the rate found.
    Spectrum(f64),
}

/// What a search came to.
#[derive(Debug, Clone, PartialEq)]
pub struct SearchResult {
    /// The rate that was verified, or else the highest that held with each that failed above it; none when no rate was
    /// shown to hold.
    pub rate_found: Option<f64>,
    /// What stood in the way of more.
    pub limited_by: LimitedBy,
    /// Whether it held for longer, too.
    pub verified: bool,
    /// Every trial in order, without those that only cool down.
    pub trials: Vec<TrialRecord>,
}

/// What stands in the way of a higher rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LimitedBy {
    /// The server misses the objective.
    Server,
    /// The generator cannot send more on time: the server's limit is not known.
    Generator,
    /// Nothing up to the highest rate that was allowed.
    MaxRate,
    /// The objective was not shown to hold at any rate.
    NeverMet,
}

impl fmt::Display for LimitedBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Server => "the server",
            Self::Generator => "the generator, not the server",
            Self::MaxRate => "the highest rate allowed, not the server",
            Self::NeverMet => "the objective, which held at no rate",
        })
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Step {
    Ramp(f64),
    Bisect(f64),
    Verify { rate: f64, attempt: u32 },
    Spectrum { found: f64, index: usize },
    Done,
}

/// A start rate that is this often four times too high was no guess.
const DESCENTS_MAX: usize = 6;

/// Together a fifth below the rate found: whatever fails there for longer was never near to holding.
const VERIFY_TRIALS_MAX: u32 = 10;

/// A trial that is doubtful again is believed: on a host that is never quiet the search would not end.
const REPEATS_MAX: u32 = 1;

/// Latency is told where it is idle, busy and nearly full, as FD.io's CSIT does: never at the limit alone.
const SPECTRUM: [f64; 3] = [0.1, 0.5, 0.9];
