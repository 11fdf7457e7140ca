//! `polyloop-load compare`: whether two sets of results differ, or the noise explains what is seen.
//!
//! ```text
//!   files ──> result::read ──> caution: may they be compared, what to mistrust
//!                    │
//!                    └───────> samples: per stage and metric ──> measure::significance ──> Report ──> text | JSON
//! ```
//!
//! The one idea: what was repeated is the sample. With several files on each side those are the files, and the verdict
//! covers whatever changes from run to run. With one file each only its windows are left, grouped into blocks as
//! neighbours resemble each other; such a verdict is about these two runs alone, and the report says so.
//!
//! Deliberately absent: a judgement on how large a difference matters.

mod caution;
mod samples;
mod text;

use std::path::PathBuf;

use clap::Args;
use polyloop_measure::significance::{self, Difference};
use serde::Serialize;
use thiserror::Error;

use crate::output::Format;
use crate::result::{ResultError, RunResult};
pub use samples::Metric;
use samples::Values;

/// What was typed after `compare`.
#[derive(Debug, Clone, Default, Args)]
pub struct CompareArgs {
    /// Result files in turn: A B, or A1 B1 A2 B2 and so on
    #[arg(value_name = "FILE", conflicts_with_all = ["a", "b"])]
    pub files: Vec<PathBuf>,
    /// Result files of side A
    #[arg(long = "a", value_name = "FILE", num_args = 1.., requires = "b")]
    pub a: Vec<PathBuf>,
    /// Result files of side B
    #[arg(long = "b", value_name = "FILE", num_args = 1.., requires = "a")]
    pub b: Vec<PathBuf>,
    /// Compare an open loop with a closed one all the same
    #[arg(long)]
    pub force: bool,
    /// What the resampling of the intervals is drawn from; the same seed gives the same intervals
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    pub seed: u64,
    /// What goes to standard output
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = Format::Text)]
    pub format: Format,
}

/// Why results are not compared.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CompareError {
    /// The files do not make two sides.
    #[error(
        "{count} result files do not make two sides; give A.json B.json, more such pairs, or --a FILES --b FILES"
    )]
    Sides {
        /// How many there were.
        count: usize,
    },
    /// One of them is no result.
    #[error(transparent)]
    File(#[from] ResultError),
    /// An open loop beside a closed one.
    #[error(
        "{open} is of an open loop and {closed} of a closed one: their latencies do not mean the same, as a closed loop \
         leaves out the time in which it could not send; --force compares them all the same"
    )]
    Modes {
        /// A file of an open loop.
        open: String,
        /// A file of a closed one.
        closed: String,
    },
    /// There is nothing to compare.
    #[error("no measured stage is in all files: {a} has {}, {b} has {}", listed(.stages_a), listed(.stages_b))]
    Stages {
        /// The first file of A.
        a: String,
        /// Its measured stages.
        stages_a: Vec<String>,
        /// The first file of B.
        b: String,
        /// Its measured stages.
        stages_b: Vec<String>,
    },
}

/// The outcome of a comparison.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// What was repeated.
    pub sampling: Sampling,
    /// Reasons to doubt the comparison.
    pub cautions: Vec<String>,
    /// Each stage that all files have.
    pub stages: Vec<StageReport>,
}

/// What the samples are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Sampling {
    /// One file on a side: blocks of its windows.
    Windows,
    /// Several files on each side.
    Files,
}

/// One stage in both sides.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StageReport {
    /// Its name.
    pub name: String,
    /// Each metric that both sides have.
    pub rows: Vec<Row>,
}

/// One metric in both sides.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// What is compared.
    pub metric: Metric,
    /// Over the whole stage; with several files the median of theirs.
    pub a: f64,
    /// The same of B.
    pub b: f64,
    /// How many samples there were of A and of B.
    pub samples: (usize, usize),
    /// The ratio of the medians of the samples, B over A, with its 95 % interval; none when there were too few samples.
    pub compared: Option<significance::Comparison>,
}

impl Row {
    /// What the test says; `None` when there were too few samples to ask it.
    #[must_use]
    pub fn difference(&self) -> Option<Difference> {
        self.compared.map(|compared| compared.difference())
    }
}

impl CompareArgs {
    /// Reads the files and compares them.
    ///
    /// # Errors
    /// [`CompareError`] when they cannot be read or must not be compared.
    pub fn run(&self) -> Result<Report, CompareError> {
        let (a, b) = self.sides()?;
        let read = |paths: Vec<PathBuf>| {
            let read = |path: PathBuf| {
                let run = RunResult::read(&path)?;
                Ok(Source {
                    name: path.display().to_string(),
                    run,
                })
            };
            paths
                .into_iter()
                .map(read)
                .collect::<Result<Vec<_>, ResultError>>()
        };
        compare(&read(a)?, &read(b)?, Strictness::of(self.force), self.seed)
    }

    fn sides(&self) -> Result<(Vec<PathBuf>, Vec<PathBuf>), CompareError> {
        if !self.a.is_empty() && !self.b.is_empty() {
            return Ok((self.a.clone(), self.b.clone()));
        }
        let count = self.files.len();
        if count < 2 || !count.is_multiple_of(2) {
            return Err(CompareError::Sides { count });
        }
        let every_second = |from: usize| self.files.iter().skip(from).step_by(2).cloned().collect();
        Ok((every_second(0), every_second(1)))
    }
}

/// Whether results that do not mean the same are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Strictness {
    Refuse,
    Force,
}

impl Strictness {
    fn of(force: bool) -> Self {
        if force { Self::Force } else { Self::Refuse }
    }
}

/// A result and the file it came from.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) name: String,
    pub(crate) run: RunResult,
}

/// Compares two sides, neither of which is empty.
pub(crate) fn compare(
    a: &[Source],
    b: &[Source],
    strictness: Strictness,
    seed: u64,
) -> Result<Report, CompareError> {
    caution::refuse_modes(a, b, strictness)?;
    let sampling = if a.len() > 1 && b.len() > 1 {
        Sampling::Files
    } else {
        Sampling::Windows
    };
    let mut cautions = caution::all(a, b, sampling);
    let mut stages = Vec::new();
    for name in caution::common_stages(a, b)? {
        let mut rows = Vec::new();
        for metric in Metric::ALL {
            let values = |side| Values::of(side, &name, metric, sampling);
            let (Some(of_a), Some(of_b)) = (values(a), values(b)) else {
                continue;
            };
            if sampling == Sampling::Files {
                let sides = [(a, &of_a), (b, &of_b)];
                let unlike = sides.map(|(side, of)| caution::first_run(&name, metric, side, of));
                cautions.extend(unlike.into_iter().flatten());
            }
            let row = row(metric, &of_a, &of_b, seed);
            cautions.extend(caution::single_events(&name, &row));
            rows.push(row);
        }
        stages.push(StageReport { name, rows });
    }
    Ok(Report {
        sampling,
        cautions,
        stages,
    })
}

fn row(metric: Metric, a: &Values, b: &Values, seed: u64) -> Row {
    let enough = a.samples.len() >= SAMPLES_MIN && b.samples.len() >= SAMPLES_MIN;
    let compared = enough
        .then(|| significance::compare(&a.samples, &b.samples, seed))
        .flatten();
    Row {
        metric,
        a: a.whole,
        b: b.whole,
        samples: (a.samples.len(), b.samples.len()),
        compared,
    }
}

impl Report {
    /// The report as it goes to stdout.
    #[must_use]
    pub fn shown(&self, format: Format) -> String {
        match format {
            Format::Text => text::text(self),
            // There is nothing in it that JSON could not hold.
            Format::Json => serde_json::to_string_pretty(self).unwrap_or_default() + "\n",
        }
    }
}

fn listed(names: &[String]) -> String {
    if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(", ")
    }
}

/// With fewer samples on a side the test never calls anything different, and an interval would be an ornament.
const SAMPLES_MIN: usize = 4;

#[cfg(test)]
mod tests;
