//! What is measured, and in which order.
//!
//! The one idea: each point of the cross product is measured once a round, and each round has an order of its own,
//! drawn from the seed: what drifts on the machine falls on all points alike, and can be drawn again.
//!
//! An axis is `name=values`: a list (`loops=1,2,4`) or a range that doubles (`connections=64..16k`, its end included),
//! multiplies (`1..1000*10`) or steps (`1..8+1`).
//!
//! Deliberately absent: what a value means. Loops and cores are the runner's, the generator's axes are flags of it, and
//! all others are options of a subject.
//!
//! Invariant: two points differ in their subject or a setting; a subject is not measured twice because of an axis that
//! it does not know.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use polyloop_core::units::{parse_bytes, parse_count};
use polyloop_measure::stats::SplitMix64;
use thiserror::Error;

use crate::subject::Subject;

/// The axis that says how many loops a server has.
pub const LOOPS: &str = "loops";

/// Axes that are flags of the generator.
pub const LOAD_AXES: [&str; 9] = [
    "connections",
    "size",
    "rate",
    "pipeline",
    "arrivals",
    "stream",
    "connect-rate",
    "requests-per-connection",
    "close",
];

/// One thing that varies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Axis {
    /// Its name.
    pub name: String,
    /// Its values, in order.
    pub values: Vec<String>,
}

/// Why a text is no axis, or axes are no sweep.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SweepError {
    /// There is no `name=`.
    #[error("{text:?} is no axis; write NAME=VALUES, as in loops=1,2,4 or connections=64..16k")]
    NoName {
        /// As typed.
        text: String,
    },
    /// A value or an end of a range is wrong.
    #[error("axis {axis}: {what}")]
    Values {
        /// The axis.
        axis: String,
        /// What is wrong, and what would be right.
        what: String,
    },
    /// The same axis twice.
    #[error("axis {0} is given twice; write all of its values in one")]
    Twice(String),
    /// No subject knows it.
    #[error("no subject knows the axis {axis}; known are {known}")]
    Unknown {
        /// The axis.
        axis: String,
        /// What there is.
        known: String,
    },
    /// More than a person would wait for.
    #[error("{0} points a round are more than {POINTS_MAX}; leave values out")]
    TooMany(usize),
}

/// A subject with a value for each axis that it knows.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Setup {
    /// The subject's name.
    pub subject: String,
    /// Values by axis.
    pub settings: BTreeMap<String, String>,
}

impl Setup {
    /// How many loops; one when nobody said.
    #[must_use]
    pub fn loops(&self) -> usize {
        let loops = self.settings.get(LOOPS);
        loops.and_then(|text| text.parse().ok()).unwrap_or(1)
    }
}

impl fmt::Display for Setup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.subject)?;
        for (axis, value) in &self.settings {
            write!(f, " {axis}={value}")?;
        }
        Ok(())
    }
}

impl FromStr for Axis {
    type Err = SweepError;

    fn from_str(text: &str) -> Result<Self, SweepError> {
        let Some((name, list)) = text.split_once('=') else {
            return Err(SweepError::NoName {
                text: text.to_owned(),
            });
        };
        let name = name.trim();
        let wrong = |what: String| SweepError::Values {
            axis: name.to_owned(),
            what,
        };
        let mut values: Vec<String> = Vec::new();
        for part in list.split(',').map(str::trim) {
            let more = match part.split_once("..") {
                Some((from, to)) => range(from, to).map_err(&wrong)?,
                None => vec![plain(name, part).map_err(&wrong)?],
            };
            for value in more {
                if values.contains(&value) {
                    return Err(wrong(format!("{value} is there twice")));
                }
                values.push(value);
            }
        }
        if values.len() > VALUES_MAX {
            return Err(wrong(format!(
                "{} values are more than {VALUES_MAX}",
                values.len()
            )));
        }
        if name == LOOPS && values.iter().any(|value| value == "0") {
            return Err(wrong("a server has at least one loop".to_owned()));
        }
        Ok(Self {
            name: name.to_owned(),
            values,
        })
    }
}

/// All setups: the cross product of the axes that each subject knows. Those a subject cannot have (more loops than it
/// ever has, a value its option does not name) are told as the second part.
///
/// # Errors
/// When an axis is there twice or known to nobody, or there are too many points.
pub fn setups(
    subjects: &[Subject],
    axes: &[Axis],
) -> Result<(Vec<Setup>, Vec<String>), SweepError> {
    for (at, axis) in axes.iter().enumerate() {
        if axes[..at].iter().any(|other| other.name == axis.name) {
            return Err(SweepError::Twice(axis.name.clone()));
        }
        if !subjects.iter().any(|subject| knows(subject, &axis.name)) {
            return Err(SweepError::Unknown {
                axis: axis.name.clone(),
                known: known(subjects),
            });
        }
    }
    let (mut all, mut left_out) = (Vec::new(), Vec::new());
    for subject in subjects {
        let mine: Vec<&Axis> = axes
            .iter()
            .filter(|axis| knows(subject, &axis.name))
            .collect();
        let count = mine
            .iter()
            .map(|axis| axis.values.len())
            .fold(1_usize, usize::saturating_mul);
        if all.len().saturating_add(count) > POINTS_MAX {
            return Err(SweepError::TooMany(all.len().saturating_add(count)));
        }
        for setup in product(&subject.name, &mine) {
            match cannot(subject, &setup) {
                None => all.push(setup),
                Some(reason) => left_out.push(format!("{setup}: {reason}")),
            }
        }
    }
    Ok((all, left_out))
}

/// The order of a round: indices of setups, shuffled by Fisher and Yates.
#[must_use]
pub fn order(setups: usize, round: u32, seed: u64) -> Vec<usize> {
    let mut random = SplitMix64::new(seed ^ u64::from(round).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    let mut order: Vec<usize> = (0..setups).collect();
    for at in (1..setups).rev() {
        order.swap(at, random.below(at + 1));
    }
    order
}

fn knows(subject: &Subject, axis: &str) -> bool {
    axis == LOOPS || LOAD_AXES.contains(&axis) || subject.options.contains_key(axis)
}

fn known(subjects: &[Subject]) -> String {
    let options = subjects.iter().flat_map(|subject| subject.options.keys());
    let mut names: Vec<&str> = [LOOPS]
        .into_iter()
        .chain(LOAD_AXES)
        .chain(options.map(String::as_str))
        .collect();
    let mut seen = std::collections::BTreeSet::new();
    names.retain(|name| seen.insert(*name));
    names.join(", ")
}

fn product(subject: &str, axes: &[&Axis]) -> Vec<Setup> {
    let mut rows = vec![BTreeMap::new()];
    for axis in axes {
        rows = rows
            .into_iter()
            .flat_map(|row: BTreeMap<String, String>| {
                axis.values.iter().map(move |value| {
                    let mut row = row.clone();
                    row.insert(axis.name.clone(), value.clone());
                    row
                })
            })
            .collect();
    }
    rows.into_iter()
        .map(|settings| Setup {
            subject: subject.to_owned(),
            settings,
        })
        .collect()
}

fn cannot(subject: &Subject, setup: &Setup) -> Option<String> {
    if let Some(most) = subject.loops_max.filter(|&most| setup.loops() > most) {
        return Some(format!("it has at most {most} loop(s)"));
    }
    setup.settings.iter().find_map(|(axis, value)| {
        let choice = subject.options.get(axis)?;
        choice
            .words(value)
            .is_none()
            .then(|| format!("its option {axis} has no value {value}"))
    })
}

/// Numbers of axes that are counts are written out, so that 1k and 1000 are one value.
fn plain(axis: &str, text: &str) -> Result<String, String> {
    if text.is_empty() {
        return Err("a value is empty".to_owned());
    }
    if axis == LOOPS || axis == "connections" || axis == "pipeline" {
        return parse_count(text)
            .map(|count| count.to_string())
            .map_err(|error| error.to_string());
    }
    Ok(text.to_owned())
}

fn range(from: &str, to: &str) -> Result<Vec<String>, String> {
    let number = |text: &str| {
        parse_count(text.trim())
            .or_else(|_| parse_bytes(text.trim()))
            .map_err(|error| error.to_string())
    };
    let (to, step) = match to.find(['*', '+']) {
        Some(at) => (&to[..at], Some((&to[at..=at], number(&to[at + 1..])?))),
        None => (to, None),
    };
    let (from, to) = (number(from)?, number(to)?);
    let grows: Box<dyn Fn(u64) -> u64> = match step {
        None => Box::new(|value| value.saturating_mul(2)),
        Some(("*", by)) if by > 1 => Box::new(move |value| value.saturating_mul(by)),
        Some(("+", by)) if by > 0 => Box::new(move |value| value.saturating_add(by)),
        Some((sign, by)) => return Err(format!("{sign}{by} leads nowhere")),
    };
    if from == 0 || from > to {
        return Err(format!("{from}..{to} is no range: 0 < from <= to"));
    }
    let mut values = Vec::new();
    let mut value = from;
    while value < to {
        if values.len() > VALUES_MAX {
            return Err(format!("{from}..{to} has more than {VALUES_MAX} values"));
        }
        values.push(value.to_string());
        value = grows(value);
    }
    values.push(to.to_string());
    Ok(values)
}

/// A curve with more points than this says nothing more.
const VALUES_MAX: usize = 64;

/// At ten seconds each this is half a day a round.
pub const POINTS_MAX: usize = 4_096;

#[cfg(test)]
mod tests;
