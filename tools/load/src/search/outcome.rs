//! What came of a trial, and what to make of it.
//!
//! The one idea: a trial fails for the server's reasons or for the generator's, and the two must not be mixed up. What
//! was planned and not sent is told apart by the generator's own lag: it is small where connections waited for the
//! server, and large where the generator did not keep up.

use super::{LimitedBy, Trial};
use crate::doubt::judge;
use crate::objective::Verdict;

/// What came of a trial.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Outcome {
    /// Requests whose planned time came.
    pub offered: u64,
    /// Requests sent.
    pub sent: u64,
    /// Requests answered.
    pub completed: u64,
    /// Whether the objective was met.
    pub verdict: Verdict,
    /// The generator's own part of the lag: 99 of 100 were sent this late at most, while their connection was free.
    pub own_lag_p99_ns: Option<u64>,
    /// The whole latency, likewise.
    pub latency_p99_ns: Option<u64>,
    /// Whether something beside server and generator disturbed it (steal, a neighbour), so that it is worth trying again.
    pub is_doubtful: bool,
}

impl Outcome {
    /// What to make of it.
    #[must_use]
    pub fn judge(&self) -> Judgement {
        let is_late = judge::late_sends(self.own_lag_p99_ns, self.latency_p99_ns).is_some();
        if judge::schedule_slipped(self.sent, self.offered).is_some() {
            let is_punctual = self.own_lag_p99_ns.is_some() && !is_late;
            return Judgement::Failed(match is_punctual {
                // Every connection that should have sent was waiting for an answer.
                true => LimitedBy::Server,
                false => LimitedBy::Generator,
            });
        }
        match self.verdict {
            // The lag is a part of the latency: what is met in spite of it would be met without. At low rates, where a
            // latency of some microseconds makes any lag a large part of it, this keeps the search going.
            Verdict::Met => Judgement::Held,
            Verdict::Missed(_) if is_late => Judgement::Failed(LimitedBy::Generator),
            Verdict::Missed(_) => Judgement::Failed(LimitedBy::Server),
            // Enough was sent to tell, had it been answered.
            Verdict::Unknown(shortage) if self.sent >= shortage.need => {
                Judgement::Failed(LimitedBy::Server)
            }
            Verdict::Unknown(_) => Judgement::Untold,
        }
    }
}

/// What to make of an outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Judgement {
    /// The objective held, and the generator kept to its plan.
    Held,
    /// It did not, for this reason.
    Failed(LimitedBy),
    /// Too few requests to tell.
    Untold,
}

/// A trial and what came of it.
#[derive(Debug, Clone, PartialEq)]
pub struct TrialRecord {
    /// What was tried.
    pub trial: Trial,
    /// What came of it.
    pub outcome: Outcome,
    /// What was made of it.
    pub judgement: Judgement,
    /// Whether it was doubtful and did not count, since it was tried again.
    pub is_repeated: bool,
}

impl TrialRecord {
    /// Why it did not hold or did not count, in words; none when it held.
    #[must_use]
    pub fn reason(&self) -> Option<String> {
        let outcome = &self.outcome;
        let slip = judge::schedule_slipped(outcome.sent, outcome.offered);
        let late = judge::late_sends(outcome.own_lag_p99_ns, outcome.latency_p99_ns);
        let reason = match self.judgement {
            Judgement::Held => None,
            Judgement::Untold => Some(outcome.verdict.to_string()),
            Judgement::Failed(limit) => Some(match (slip, late, limit) {
                (Some(slip), _, LimitedBy::Server) => {
                    format!("{}: the connections were waiting", slip.text())
                }
                (Some(slip), ..) => slip.text(),
                (None, Some(late), LimitedBy::Generator) => late.text(),
                (None, ..) => outcome.verdict.to_string(),
            }),
        };
        match (self.is_repeated, reason) {
            (false, reason) => reason,
            (true, None) => Some("disturbed, tried again".to_owned()),
            (true, Some(reason)) => Some(format!("{reason}; disturbed, tried again")),
        }
    }
}
