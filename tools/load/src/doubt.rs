//! Reasons not to believe a result, each with its figures and the way out.
//!
//! The one idea: a figure without its doubts is a claim. Whoever measures states facts, the functions in [`judge`] turn
//! facts into doubts by thresholds that are written down there with their reasons, and a [`Doubt`] knows how to tell an
//! operator what is wrong and what to do about it.
//!
//! Deliberately absent: gathering the facts, printing, and what `--strict` makes of it.
//!
//! Invariant: a [`Doubt::code`] is what scripts look for, and never changes.

pub mod judge;
#[cfg(test)]
mod tests;
mod words;

use crate::result::{Severity, Warning};

/// One reason to doubt a result.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Doubt {
    /// A loop of the generator had hardly a moment left.
    GeneratorSaturated {
        /// The share of its time in which the busiest loop was at work.
        busy_share: f64,
    },
    /// Less was sent than planned.
    ScheduleSlipped {
        /// Requests sent.
        sent: u64,
        /// Requests whose planned time came.
        offered: u64,
    },
    /// The generator's own delay is a part of the latency that matters.
    LateSends {
        /// From the planned send to the actual one, where the connection was free: 99 of 100 took at most this long.
        own_lag_p99_ns: u64,
        /// The same of the whole latency.
        latency_p99_ns: u64,
    },
    /// Some connections were not made.
    FewerConnections {
        /// Connections asked for.
        asked: u64,
        /// Connections open.
        open: u64,
        /// What was in the way, as fault keys (`connect EMFILE`), and how often.
        reasons: Vec<(String, u64)>,
    },
    /// A percentile that was asked for is not told.
    TooFewSamples {
        /// Which one, from 0 to 1.
        quantile: f64,
        /// Samples there were.
        have: u64,
        /// Samples it takes.
        need: u64,
    },
    /// The hypervisor gave the machine's time to others.
    Steal {
        /// The share of all cores' time.
        share: f64,
    },
    /// Segments were lost and sent again.
    Retransmits {
        /// How many.
        count: u64,
    },
    /// The first of several runs is unlike the others.
    FirstRunOutlier {
        /// How many times the median of the others it came to.
        ratio: f64,
    },
    /// The pace changed from window to window.
    UnstableWindows {
        /// Standard deviation of the windows' rates as a share of their mean.
        variation: f64,
    },
    /// The pace still changed when the warm-up had taken as long as it may.
    NeverSteady {
        /// How long that was, in seconds.
        seconds: f64,
        /// Standard deviation of the last windows' rates as a share of their mean; none when nothing was answered.
        variation: Option<f64>,
    },
    /// Generator and server may run on the same cores.
    SharedCores {
        /// Which ones.
        cores: Vec<usize>,
    },
    /// The congestion control holds packets back to smooth them.
    PacedCongestion {
        /// Its name: `bbr`.
        name: String,
    },
    /// Requests were sent that no answer came for.
    Unanswered {
        /// How many.
        count: u64,
    },
    /// Connections or requests went wrong.
    Faults {
        /// How many times.
        total: u64,
        /// Requests sent.
        sent: u64,
    },
    /// Someone ended the run before its time.
    Interrupted,
    /// A file could not be written to its end.
    OutputLost {
        /// Which one.
        path: String,
        /// The system's words.
        reason: String,
    },
}

impl Doubt {
    /// Short and stable, for scripts.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::GeneratorSaturated { .. } => "generator-saturated",
            Self::ScheduleSlipped { .. } => "schedule-slipped",
            Self::LateSends { .. } => "late-sends",
            Self::FewerConnections { .. } => "fewer-connections",
            Self::TooFewSamples { .. } => "too-few-samples",
            Self::Steal { .. } => "steal",
            Self::Retransmits { .. } => "retransmits",
            Self::FirstRunOutlier { .. } => "first-run-outlier",
            Self::UnstableWindows { .. } => "unstable-windows",
            Self::NeverSteady { .. } => "never-steady",
            Self::SharedCores { .. } => "shared-cores",
            Self::PacedCongestion { .. } => "paced-congestion",
            Self::Unanswered { .. } => "unanswered",
            Self::Faults { .. } => "faults",
            Self::Interrupted => "interrupted",
            Self::OutputLost { .. } => "output-lost",
        }
    }

    /// How bad it is.
    #[must_use]
    pub fn severity(&self) -> Severity {
        match self {
            // The percentile is left out, which is right and no error; the other figures stand.
            Self::TooFewSamples { .. } => Severity::Note,
            // Where there is one machine there is no choice, and the figures say how it was.
            Self::SharedCores { .. } => Severity::Note,
            Self::Faults { total, sent } if *total as f64 <= *sent as f64 * FAULT_SHARE_NOTE => {
                Severity::Note
            }
            Self::OutputLost { .. } => Severity::Error,
            _ => Severity::Warning,
        }
    }
}

impl From<&Doubt> for Warning {
    fn from(doubt: &Doubt) -> Self {
        Self::new(doubt.code(), doubt.severity(), doubt.text(), doubt.advice())
    }
}

/// Up to one in a thousand, faults hardly move the throughput, and a p99 not at all.
const FAULT_SHARE_NOTE: f64 = 0.001;
