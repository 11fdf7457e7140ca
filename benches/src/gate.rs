//! The gate: whether a request costs more beside the bare loop than the committed baseline says.
//!
//! ```text
//!   cells  ──> per round: our cost / cost of the bare loop ──> ratio, 95 % interval ─┐
//!   benches/baseline.toml ──────────────────────────────────> ratio, 95 % interval ─┴─> loss ──> verdict
//! ```
//!
//! The one idea: a cost belongs to its machine, a ratio to the bare loop in the same round mostly to the program; so only
//! ratios are committed. Both sides of the comparison were measured and have an interval, and the loss has that of both:
//! a vague baseline makes a vague verdict, and no false one.
//!
//! A verdict is *failed* for a significant loss (its interval lies above none at all) of more than the limit, *passed*
//! where the interval rules such a loss out, and *undecided* between the two, or with too few rounds that are not
//! doubted. Undecided is no failure: a noisy host must not stop a change, but it is said.
//!
//! Deliberately absent: measuring, which is that of `polyloop-bench echo-cost`.
//!
//! Invariant: the same cells and the same baseline give the same verdict.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use polyloop_load::result::rfc3339;
use polyloop_measure::machine::Machine;
use polyloop_measure::stats::Ratio;
use serde::Deserialize;
use thiserror::Error;

use crate::measure::Cell;

/// Whose cost is watched.
pub const SUBJECT: &str = "polyloop";

/// What it is divided by: the bare loop.
pub const BESIDE: &str = "bare-mio";

/// At how many connections: few, where each wake-up brings little, and many.
pub const CONNECTIONS: [usize; 2] = [64, 1_000];

/// A loss of more than so much fails.
pub const LIMIT_PERCENT: f64 = 3.0;

/// A ratio with its 95 % interval, as the baseline holds it.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Connections of the point.
    pub connections: usize,
    /// Cost of [`SUBJECT`] over that of [`BESIDE`].
    pub ratio: f64,
    /// Lower end of its interval.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// The committed ratios.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Baseline {
    format: String,
    subject: String,
    beside: String,
    /// One for each of [`CONNECTIONS`].
    #[serde(rename = "point", default)]
    pub entries: Vec<Entry>,
}

/// Why a text is no baseline, or a result cannot be held against one.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum GateError {
    /// It is no TOML, or has other keys.
    #[error("not a baseline: {0}")]
    Syntax(#[from] Box<toml::de::Error>),
    /// It is no result of a benchmark.
    #[error("not a result: {0}")]
    Result(#[from] Box<serde_json::Error>),
    /// Its messages are not those of the baseline.
    #[error("the messages had {0} bytes, and those of the baseline {MESSAGE_BYTES}")]
    Size(usize),
    /// It is of another kind.
    #[error("{what} is {found:?} and has to be {wanted:?}")]
    Other {
        /// Which key.
        what: &'static str,
        /// Its value.
        found: String,
        /// What this version reads.
        wanted: &'static str,
    },
    /// A ratio is none, or lies outside of its interval.
    #[error("{connections} connections: {what}")]
    Entry {
        /// Which point.
        connections: usize,
        /// What is wrong.
        what: &'static str,
    },
    /// A side was not measured at all.
    #[error(
        "`{subject}` at {connections} connections is not in the result; `polyloop-bench gate` without a result measures it"
    )]
    NotMeasured {
        /// Which side.
        subject: &'static str,
        /// Which point.
        connections: usize,
    },
    /// A baseline would be made of noise.
    #[error(
        "{connections} connections: {rounds} rounds are not doubted, and a baseline takes {ROUNDS_MIN}: measure more, on a quieter host"
    )]
    TooVague {
        /// Which point.
        connections: usize,
        /// How many rounds there are.
        rounds: usize,
    },
    /// A baseline against which the very same figures would not pass.
    #[error(
        "{connections} connections: {low:.4} to {high:.4} is too wide to tell a loss of {LIMIT_PERCENT} %: take more --rounds"
    )]
    TooWide {
        /// Which point.
        connections: usize,
        /// Lower end of the interval.
        low: f64,
        /// Upper end.
        high: f64,
    },
}

impl Baseline {
    /// Reads the text of the file.
    ///
    /// # Errors
    /// When it is no baseline of this gate, with what is wrong.
    pub fn parse(text: &str) -> Result<Self, GateError> {
        let baseline: Self = toml::from_str(text).map_err(Box::new)?;
        for (what, found, wanted) in [
            ("format", &baseline.format, FORMAT),
            ("subject", &baseline.subject, SUBJECT),
            ("beside", &baseline.beside, BESIDE),
        ] {
            if found != wanted {
                let found = found.clone();
                return Err(GateError::Other {
                    what,
                    found,
                    wanted,
                });
            }
        }
        for (at, entry) in baseline.entries.iter().enumerate() {
            let is_interval = 0.0 < entry.low
                && entry.low <= entry.ratio
                && entry.ratio <= entry.high
                && entry.high.is_finite();
            let before = &baseline.entries[..at];
            let what = if !is_interval {
                "0 < low <= ratio <= high does not hold"
            } else if before
                .iter()
                .any(|other| other.connections == entry.connections)
            {
                "it is there twice"
            } else {
                continue;
            };
            let connections = entry.connections;
            return Err(GateError::Entry { connections, what });
        }
        for connections in CONNECTIONS {
            if !baseline
                .entries
                .iter()
                .any(|entry| entry.connections == connections)
            {
                let what = "it is missing; write the file anew with --update";
                return Err(GateError::Entry { connections, what });
            }
        }
        Ok(baseline)
    }

    fn of(&self, connections: usize) -> Option<Entry> {
        let mut entries = self.entries.iter();
        entries
            .find(|entry| entry.connections == connections)
            .copied()
    }
}

/// What came of one point.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Row {
    /// Connections.
    pub connections: usize,
    /// The ratio now; none when every round is doubted.
    pub now: Option<Ratio>,
    /// What it was.
    pub baseline: Entry,
    /// Now over then, with the interval of both; none without a ratio now.
    pub loss: Option<Loss>,
    /// What that means.
    pub verdict: Verdict,
}

/// How many times as much as before a request costs, beside the bare loop.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Loss {
    /// 1 is no change.
    pub times: f64,
    /// Lower end of the 95 % interval.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// What a loss means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// A loss of more than the limit is ruled out.
    Passed,
    /// Such a loss is neither shown nor ruled out.
    Undecided,
    /// There is a significant loss of more than the limit.
    Failed,
}

impl Verdict {
    /// One word, as printed.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Passed => "pass",
            Self::Undecided => "undecided",
            Self::Failed => "FAIL",
        }
    }
}

impl Loss {
    /// Divides two measured ratios. The intervals are taken as independent, and their ends as distances of logarithms,
    /// which add up in squares: what is exact for log-normal errors, and cautious about none.
    #[must_use]
    pub fn new(now: &Ratio, then: &Entry) -> Self {
        let distance = |far: f64, near: f64| (far / near).ln();
        let times = now.median / then.ratio;
        let down = distance(now.median, now.low).hypot(distance(then.high, then.ratio));
        let up = distance(now.high, now.median).hypot(distance(then.ratio, then.low));
        Self {
            times,
            low: times * (-down).exp(),
            high: times * up.exp(),
        }
    }

    /// What it means where so many times as much is the limit.
    #[must_use]
    pub fn judge(&self, limit: f64) -> Verdict {
        if self.times > limit && self.low > 1.0 {
            Verdict::Failed
        } else if self.high <= limit {
            Verdict::Passed
        } else {
            Verdict::Undecided
        }
    }
}

/// A result of `echo-cost`, as far as a gate is concerned.
#[derive(Debug, Clone, Deserialize)]
pub struct Measured {
    /// Which benchmark it is of.
    pub benchmark: String,
    /// When it began, in seconds since 1970.
    pub started_s: u64,
    /// Of which source.
    pub commit: Option<String>,
    /// Where.
    pub machine: Machine,
    /// Its windows.
    pub cells: Vec<Cell>,
    /// How it was measured.
    pub settings: Settings,
    /// What it doubts of itself.
    pub warnings: Vec<String>,
}

/// The settings that have to be those of the baseline: other sizes of messages have other ratios.
#[derive(Debug, Clone, Copy, Deserialize)]
pub struct Settings {
    /// Bytes of a message and its answer.
    pub message_bytes: usize,
}

impl Measured {
    /// Reads the text of a result file.
    ///
    /// # Errors
    /// When it is no result, or one of another question.
    pub fn parse(text: &str) -> Result<Self, GateError> {
        let measured: Self = serde_json::from_str(text).map_err(Box::new)?;
        if measured.benchmark != BENCHMARK {
            return Err(GateError::Other {
                what: "benchmark",
                found: measured.benchmark,
                wanted: BENCHMARK,
            });
        }
        let message_bytes = measured.settings.message_bytes;
        if message_bytes != MESSAGE_BYTES {
            return Err(GateError::Size(message_bytes));
        }
        Ok(measured)
    }
}

/// Holds a result against the baseline.
///
/// # Errors
/// When a side was not measured at all.
pub fn judge(
    measured: &Measured,
    baseline: &Baseline,
    limit_percent: f64,
) -> Result<Vec<Row>, GateError> {
    let mut rows = Vec::new();
    for connections in CONNECTIONS {
        let now = ratio(&measured.cells, connections)?;
        let Some(then) = baseline.of(connections) else {
            continue; // `parse` has seen all of them
        };
        let loss = now.as_ref().map(|now| Loss::new(now, &then));
        let verdict = match (&now, &loss) {
            (Some(now), Some(loss)) if now.pairs >= ROUNDS_MIN => {
                loss.judge(1.0 + limit_percent / 100.0)
            }
            _ => Verdict::Undecided,
        };
        rows.push(Row {
            connections,
            now,
            baseline: then,
            loss,
            verdict,
        });
    }
    Ok(rows)
}

/// The worst verdict of all.
#[must_use]
pub fn verdict(rows: &[Row]) -> Verdict {
    rows.iter()
        .map(|row| row.verdict)
        .max()
        .unwrap_or(Verdict::Undecided)
}

/// The figures behind the verdict, for a person.
#[must_use]
pub fn text(rows: &[Row], limit_percent: f64) -> String {
    let mut text = format!(
        "server CPU per request, {SUBJECT} / {BESIDE}; a loss of more than {limit_percent} % fails\n"
    );
    for row in rows {
        let (connections, then) = (row.connections, row.baseline);
        let _ = write!(text, "{connections:>5} connections: ");
        match (row.now, row.loss) {
            (Some(now), Some(loss)) => {
                let percent = |times: f64| (times - 1.0) * 100.0;
                let _ = write!(
                    text,
                    "{:.3} ({:.3} to {:.3}) in {} rounds, baseline {:.3} ({:.3} to {:.3}); loss {:+.1} % ({:+.1} to {:+.1}): {}",
                    now.median,
                    now.low,
                    now.high,
                    now.pairs,
                    then.ratio,
                    then.low,
                    then.high,
                    percent(loss.times),
                    percent(loss.low),
                    percent(loss.high),
                    row.verdict.as_str(),
                );
                if now.pairs < ROUNDS_MIN {
                    let _ = write!(
                        text,
                        ", as it takes {ROUNDS_MIN} rounds that are not doubted"
                    );
                }
            }
            _ => text += "undecided, as every round is doubted",
        }
        text.push('\n');
    }
    let _ = writeln!(text, "bench-gate: {}", verdict(rows).as_str());
    text
}

/// A baseline of this result, as the text of its file.
///
/// # Errors
/// When a side was not measured, in too few rounds that are not doubted, or too vaguely to pass against itself.
pub fn update(measured: &Measured) -> Result<String, GateError> {
    let started = SystemTime::UNIX_EPOCH + Duration::from_secs(measured.started_s);
    let mut text = format!(
        "{ABOUT}#\n# Measured {} at commit {}, on {}, kernel {}.\n\nformat = \"{FORMAT}\"\nsubject = \"{SUBJECT}\"\nbeside = \"{BESIDE}\"\n",
        rfc3339(started),
        plain(measured.commit.as_deref().unwrap_or("unknown")),
        plain(&measured.machine.processor),
        plain(&measured.machine.kernel),
    );
    for connections in CONNECTIONS {
        let ratio = ratio(&measured.cells, connections)?;
        let rounds = ratio.map_or(0, |ratio| ratio.pairs);
        let Some(ratio) = ratio.filter(|ratio| ratio.pairs >= ROUNDS_MIN) else {
            return Err(GateError::TooVague {
                connections,
                rounds,
            });
        };
        let entry = Entry {
            connections,
            ratio: ratio.median,
            low: ratio.low,
            high: ratio.high,
        };
        if Loss::new(&ratio, &entry).judge(1.0 + LIMIT_PERCENT / 100.0) != Verdict::Passed {
            let Ratio { low, high, .. } = ratio;
            return Err(GateError::TooWide {
                connections,
                low,
                high,
            });
        }
        let _ = write!(
            text,
            "\n[[point]] # {rounds} rounds\nconnections = {connections}\nratio = {:.4}\nlow = {:.4}\nhigh = {:.4}\n",
            ratio.median, ratio.low, ratio.high
        );
    }
    Ok(text)
}

/// Facts of a machine stand in a comment, so they must end with their line.
fn plain(fact: &str) -> String {
    fact.replace(char::is_control, " ")
}

/// Cost over cost in each round in which neither is doubted; none when there is no such round.
fn ratio(cells: &[Cell], connections: usize) -> Result<Option<Ratio>, GateError> {
    let (ours, bare) = (
        side(cells, SUBJECT, connections)?,
        side(cells, BESIDE, connections)?,
    );
    let pairs = ours
        .iter()
        .filter_map(|(round, ours)| Some((*ours, *bare.get(round)?)));
    let (top, bottom): (Vec<f64>, Vec<f64>) = pairs.unzip();
    Ok(Ratio::of(&top, &bottom, SEED))
}

/// Cost by round, where it is not doubted.
fn side(
    cells: &[Cell],
    subject: &'static str,
    connections: usize,
) -> Result<BTreeMap<usize, f64>, GateError> {
    let is_its = |cell: &&Cell| cell.subject == subject && cell.connections == connections;
    if !cells.iter().any(|cell| is_its(&cell)) {
        return Err(GateError::NotMeasured {
            subject,
            connections,
        });
    }
    let good = cells
        .iter()
        .filter(is_its)
        .filter(|cell| cell.doubts.is_empty());
    Ok(good.map(|cell| (cell.round, cell.server_cpu_ns)).collect())
}

/// The question whose result a gate judges.
pub const BENCHMARK: &str = "echo-cost";

/// Bytes of a message.
const MESSAGE_BYTES: usize = 64;

const FORMAT: &str = "polyloop-gate/1";

/// With fewer rounds the interval of a median cannot reach 95 %.
const ROUNDS_MIN: usize = 6;

const SEED: u64 = 1;

const ABOUT: &str = "\
# What a request costs beside the bare loop: server CPU per request of the one over that of the other, within a round,
# median and 95 % interval. `cargo xtask bench-gate` holds a new measurement against it; with `--update` it writes this
# file anew. Ratios only: a cost belongs to its machine.
";

#[cfg(test)]
mod tests;
