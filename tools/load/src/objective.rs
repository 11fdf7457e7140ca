//! What a rate has to hold to count as served: `p99<2ms,errors<0.1%`.
//!
//! The one idea: a request that was never answered took longer than any limit. It counts among the samples beyond every
//! quantile, so that a server cannot improve its figures by dropping what it finds hard.
//!
//! Deliberately absent: where the figures come from ([`Measured`] is filled by whoever ran the load), and what to do
//! about the verdict (`search`).
//!
//! Invariants: an [`Objective`] has at least one term, each can be met, and what it prints as it is read from again.
//! A verdict never rests on fewer samples than [`Figure::samples_needed`], save that a miss which is certain already
//! is told at once.

mod parse;
#[cfg(test)]
mod tests;
mod verdict;

use std::fmt;

pub use parse::ObjectiveError;
pub use verdict::{Measured, Miss, Shortage, Verdict};

/// Conditions that have to hold together. Read it with [`str::parse`].
#[derive(Debug, Clone, PartialEq)]
pub struct Objective {
    terms: Vec<Term>,
}

impl Objective {
    /// The conditions, as typed; at least one.
    #[must_use]
    pub fn terms(&self) -> &[Term] {
        &self.terms
    }

    /// How many requests it takes to judge all of them.
    #[must_use]
    pub fn samples_needed(&self) -> u64 {
        let needs = self.terms.iter().map(Term::samples_needed);
        needs.max().unwrap_or(1)
    }

    /// Judges what was measured. The worst miss decides, then the greatest lack of samples.
    #[must_use]
    pub fn is_met(&self, measured: &Measured<'_>) -> Verdict {
        let verdicts = self.terms.iter().map(|term| measured.judge(term));
        verdicts.fold(Verdict::Met, Verdict::worse)
    }
}

impl fmt::Display for Objective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, term) in self.terms.iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            write!(f, "{term}")?;
        }
        Ok(())
    }
}

/// One condition.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Term {
    /// What is looked at.
    pub figure: Figure,
    /// How it has to lie to the limit.
    pub relation: Relation,
    /// The limit: nanoseconds, or for [`Figure::Errors`] a share from 0 to 1.
    pub limit: f64,
}

impl Term {
    /// Whether a value of its figure is within the limit.
    #[must_use]
    pub fn holds(&self, value: f64) -> bool {
        match self.relation {
            Relation::Below => value < self.limit,
            Relation::AtMost => value <= self.limit,
        }
    }

    /// How many requests it takes to judge it.
    #[must_use]
    pub fn samples_needed(&self) -> u64 {
        match self.figure {
            // The rule of three: none in `n` says, 19 times in 20, that there are fewer than 3 in `n`.
            Figure::Errors if self.limit > 0.0 => (3.0 / self.limit).ceil() as u64,
            figure => figure.samples_needed(),
        }
    }
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (figure, relation) = (self.figure.name(), self.relation.sign());
        write!(f, "{figure}{relation}{}", self.figure.show(self.limit))
    }
}

/// What a condition looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Figure {
    /// Half of the requests took at most this long.
    P50,
    /// 90 of 100.
    P90,
    /// 99 of 100.
    P99,
    /// 999 of 1000.
    P99_9,
    /// 9999 of 10,000.
    P99_99,
    /// The longest.
    Max,
    /// The average of those that were answered.
    Mean,
    /// Faults, as a share of the requests sent.
    Errors,
}

impl Figure {
    /// All of them, in the order in which they are listed to an operator.
    pub const ALL: [Self; 8] = [
        Self::P50,
        Self::P90,
        Self::P99,
        Self::P99_9,
        Self::P99_99,
        Self::Max,
        Self::Mean,
        Self::Errors,
    ];

    /// As typed and printed.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::P50 => "p50",
            Self::P90 => "p90",
            Self::P99 => "p99",
            Self::P99_9 => "p99.9",
            Self::P99_99 => "p99.99",
            Self::Max => "max",
            Self::Mean => "mean",
            Self::Errors => "errors",
        }
    }

    /// The share of requests at or below it, where it is a quantile.
    #[must_use]
    pub const fn quantile(self) -> Option<f64> {
        match self {
            Self::P50 => Some(0.5),
            Self::P90 => Some(0.9),
            Self::P99 => Some(0.99),
            Self::P99_9 => Some(0.999),
            Self::P99_99 => Some(0.9999),
            Self::Max | Self::Mean | Self::Errors => None,
        }
    }

    /// How many requests it takes to tell it: for a quantile, 100 beyond it (see `polyloop_measure::quantile`).
    #[must_use]
    pub const fn samples_needed(self) -> u64 {
        match self {
            Self::P50 => 200,
            Self::P90 => 1_000,
            Self::P99 => 10_000,
            Self::P99_9 => 100_000,
            Self::P99_99 => 1_000_000,
            // The average moves by a tenth of the deviation when it is taken again.
            Self::Mean => 100,
            Self::Max | Self::Errors => 1,
        }
    }

    /// A value of it, exactly, as it would be typed.
    fn show(self, value: f64) -> String {
        match self {
            // A product with 100 is seldom exact: `0.1%` must not become `0.10000000000000001%`.
            Self::Errors => format!("{}%", (value * 1e8).round() / 1e6),
            _ => exact_duration(value as u64),
        }
    }
}

/// How a figure has to lie to its limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relation {
    /// `<`.
    Below,
    /// `<=`.
    AtMost,
}

impl Relation {
    /// As typed and printed.
    #[must_use]
    pub const fn sign(self) -> &'static str {
        match self {
            Self::Below => "<",
            Self::AtMost => "<=",
        }
    }
}

/// `2ms`, `1.2345s`, `250us`: every digit, since a limit that is printed is read again.
fn exact_duration(ns: u64) -> String {
    let (unit, unit_ns, digits) = match ns {
        0..1_000 => ("ns", 1, 0),
        1_000..1_000_000 => ("us", 1_000, 3),
        1_000_000..1_000_000_000 => ("ms", 1_000_000, 6),
        _ => ("s", 1_000_000_000, 9),
    };
    let (whole, rest) = (ns / unit_ns, ns % unit_ns);
    if rest == 0 {
        return format!("{whole}{unit}");
    }
    let rest = format!("{rest:0digits$}");
    format!("{whole}.{}{unit}", rest.trim_end_matches('0'))
}
