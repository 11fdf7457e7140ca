//! Whether an objective was met.

use std::fmt;

use hdrhistogram::Histogram;

use super::{Figure, Term};
use crate::output::units;

/// What a rate came to.
#[derive(Debug, Clone, Copy)]
pub struct Measured<'a> {
    /// From the planned send to the whole answer, in nanoseconds.
    pub latency: &'a Histogram<u64>,
    /// Requests that no answer will come for: timed out, broken off, or planned and never sent. Not those that were
    /// merely under way when the stage ended.
    pub lost: u64,
    /// Requests sent.
    pub sent: u64,
    /// What went wrong.
    pub faults: u64,
}

impl Measured<'_> {
    /// Judges one condition.
    pub(super) fn judge(&self, term: &Term) -> Verdict {
        let have = match term.figure {
            Figure::Errors => self.sent,
            Figure::Mean => self.latency.len(),
            _ => self.latency.len() + self.lost,
        };
        let need = term.samples_needed();
        if have >= need {
            let value = self.value(term.figure);
            return match term.holds(value) {
                true => Verdict::Met,
                false => Verdict::Missed(Miss { term: *term, value }),
            };
        }
        match self.at_least(term.figure) {
            Some(value) if !term.holds(value) => Verdict::Missed(Miss { term: *term, value }),
            _ => Verdict::Unknown(Shortage {
                figure: term.figure,
                have,
                need,
            }),
        }
    }

    fn value(&self, figure: Figure) -> f64 {
        match (figure.quantile(), figure) {
            (Some(quantile), _) => self.quantile_ns(quantile),
            (None, Figure::Mean) => self.latency.mean(),
            (None, Figure::Errors) => self.error_share(),
            (None, _) => self.quantile_ns(1.0),
        }
    }

    /// What the figure is at least, where there are too few samples to tell it: a further one cannot make a quantile
    /// smaller than one below it that can be told, nor take a fault back.
    fn at_least(&self, figure: Figure) -> Option<f64> {
        let samples = (self.latency.len() + self.lost) as f64;
        let told = 1.0 - SAMPLES_BEYOND / samples;
        match figure.quantile() {
            Some(quantile) => (told > 0.0).then(|| self.quantile_ns(told.min(quantile))),
            // One fault in a handful is an accident; several are a share.
            None => {
                (figure == Figure::Errors && self.faults >= FAULTS_TOLD).then(|| self.error_share())
            }
        }
    }

    /// A quantile of all requests, of which the lost ones took for ever.
    fn quantile_ns(&self, quantile: f64) -> f64 {
        let answered = self.latency.len() as f64;
        let share = quantile * (answered + self.lost as f64) / answered;
        // The quotient may exceed 1 by a rounding error when nothing was lost.
        if answered > 0.0 && share <= 1.0 + 1e-12 {
            let ns = self.latency.value_at_quantile(share.min(1.0));
            ns.min(self.latency.max()) as f64
        } else {
            f64::INFINITY
        }
    }

    fn error_share(&self) -> f64 {
        // Connections that could not be made are faults without a request.
        match self.sent.max(self.faults) {
            0 => 0.0,
            all => self.faults as f64 / all as f64,
        }
    }
}

/// Whether an objective was met.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Verdict {
    /// Every condition holds.
    Met,
    /// One does not; of several, the one missed by most.
    Missed(Miss),
    /// None is known to be missed, and one cannot be told.
    Unknown(Shortage),
}

impl Verdict {
    /// Of two conditions' verdicts, the one that stands for both.
    pub(super) fn worse(self, other: Self) -> Self {
        match (self, other) {
            (Self::Missed(one), Self::Missed(two)) if two.excess() > one.excess() => other,
            (Self::Missed(_), _) => self,
            (_, Self::Missed(_)) => other,
            (Self::Unknown(one), Self::Unknown(two)) if two.need > one.need => other,
            (Self::Unknown(_), _) => self,
            (Self::Met, _) => other,
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Met => f.write_str("met"),
            Self::Missed(miss) => write!(f, "{miss}"),
            Self::Unknown(shortage) => write!(f, "{shortage}"),
        }
    }
}

/// A condition that does not hold.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Miss {
    /// Which one.
    pub term: Term,
    /// What it came to, in the limit's unit; infinite when requests beyond the quantile were never answered. Where
    /// there were too few samples to tell, what it is at least.
    pub value: f64,
}

impl Miss {
    /// By how much: how many times the limit it came to. Infinite for a limit of zero.
    #[must_use]
    pub fn excess(&self) -> f64 {
        self.value / self.term.limit
    }
}

impl fmt::Display for Miss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.term.figure.name();
        match self.term.figure {
            Figure::Errors => write!(f, "{name} were {}", units::percent(self.value))?,
            _ if self.value.is_infinite() => return write!(f, "{name} was never answered"),
            _ => write!(f, "{name} was {}", units::duration_us(self.value / 1e3))?,
        }
        match self.excess() {
            excess if excess.is_finite() => write!(f, ", {excess:.2} times the limit"),
            _ => Ok(()),
        }
    }
}

/// Samples that a figure lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shortage {
    /// Which one.
    pub figure: Figure,
    /// How many there were.
    pub have: u64,
    /// How many it takes.
    pub need: u64,
}

impl fmt::Display for Shortage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (have, need) = (units::count(self.have), units::count(self.need));
        write!(
            f,
            "{} takes {need} samples, and there were {have}",
            self.figure.name()
        )
    }
}

/// As in `polyloop_measure::quantile`.
const SAMPLES_BEYOND: f64 = 100.0;

/// Faults that are a share of the requests even where there are too few requests to show that there are none.
const FAULTS_TOLD: u64 = 3;
