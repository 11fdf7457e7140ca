//! What a run found out, as it lies in a file.
//!
//! The one idea: the file is complete. It says what was asked (every setting and where it came from), on what machine,
//! what came of it stage by stage, window by window, and why not to believe it; the histograms are in it whole, so that
//! whoever reads it later is not held to the percentiles that were chosen here.
//!
//! Nothing in here measures, prints or writes: `output` does the latter two. A reader takes fields it does not know for
//! those of a younger program of the same format and leaves them alone; another format is refused ([`ResultError`]).
//!
//! Invariant: a figure that cannot be known is `null`, never a zero or a guess. Durations are microseconds where the
//! name ends in `_us` and seconds where it ends in `_s`; `rates` are per second.

mod fault;
mod quantiles;
mod read;
mod stage;
mod time;

use serde::{Deserialize, Serialize};

pub use fault::{explain_fault, fault_key};
pub use polyloop_measure::machine::Machine;
pub use quantiles::Quantiles;
pub(crate) use quantiles::quantile_us;
pub use read::ResultError;
pub use stage::{
    Beside, CountsRow, Rates, Settled, StageHead, StageKind, StageResult, WINDOW_SAMPLES_BEYOND,
    WindowRow,
};
pub use time::rfc3339;

/// Stands first in every result file.
pub const FORMAT: &str = "polyloop-load/1";

/// Everything about one run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunResult {
    /// [`FORMAT`].
    pub format: String,
    /// Version of the program.
    pub version: String,
    /// Commit it was built or started from, where known.
    pub commit: Option<String>,
    /// When it began: RFC 3339, UTC.
    pub started: String,
    /// What was typed.
    pub command: Vec<String>,
    /// Whether sends were planned or waited for answers.
    pub mode: Mode,
    /// Every setting in effect.
    pub settings: Vec<Setting>,
    /// The machine it ran on.
    pub machine: Machine,
    /// What every random choice came from.
    pub seed: u64,
    /// What happened, in order.
    pub stages: Vec<StageResult>,
    /// The search for the highest rate, where one was asked for.
    pub search: Option<SearchResult>,
    /// Reasons to doubt it.
    pub warnings: Vec<Warning>,
    /// False while it runs, and for good when it was interrupted.
    pub is_complete: bool,
}

impl RunResult {
    /// A run that has not begun: no stages, no warnings, nothing found.
    #[must_use]
    pub fn new(mode: Mode, command: Vec<String>, started: String, machine: Machine) -> Self {
        Self {
            format: FORMAT.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            commit: None,
            started,
            command,
            mode,
            settings: Vec::new(),
            machine,
            seed: 0,
            stages: Vec::new(),
            search: None,
            warnings: Vec::new(),
            is_complete: false,
        }
    }

    /// The stages whose figures are results: not ramps, warm-ups or trials of a search.
    pub fn measured(&self) -> impl Iterator<Item = &StageResult> {
        self.stages.iter().filter(|stage| stage.kind.is_measured())
    }

    /// The file's text: indented JSON with a line's end.
    #[must_use]
    pub fn to_json(&self) -> String {
        // Only maps with keys that are no text, or a `Serialize` that fails, could make this fail; there is neither.
        let text = serde_json::to_string_pretty(self).unwrap_or_default();
        debug_assert!(!text.is_empty(), "a result can always be written");
        text + "\n"
    }
}

/// How sends come about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// By plan: latency counts from the planned send.
    Open,
    /// After each answer: a slow server slows the load, and its latency is not told.
    Closed,
}

impl Mode {
    /// The mode in plain words, as every output labels it.
    #[must_use]
    pub const fn in_words(self) -> &'static str {
        match self {
            Self::Open => "open loop: latency counts from the planned send",
            Self::Closed => {
                "CLOSED LOOP: each connection waits for its answer before it sends again, so a server that stops also \
                 stops the load, and latency leaves that time out"
            }
        }
    }
}

/// One setting in effect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setting {
    /// Its name, as the long flag without dashes.
    pub name: String,
    /// Its value, as it would be typed.
    pub value: String,
    /// Where it came from.
    pub origin: Origin,
}

impl Setting {
    /// A setting that was typed or not.
    #[must_use]
    pub fn new(name: &str, value: impl ToString, origin: Origin) -> Self {
        Self {
            name: name.to_owned(),
            value: value.to_string(),
            origin,
        }
    }
}

/// Where a setting came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// Nobody asked for it.
    Default,
    /// The command line.
    Flag,
}

/// What a search for the highest rate came to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SearchResult {
    /// What was to hold, as typed: `p99<2ms`.
    pub objective: String,
    /// The highest rate per second at which it held; none when it never did.
    pub rate_found: Option<f64>,
    /// What stood in the way of more.
    pub limited_by: Option<String>,
    /// Whether it held again, for longer, at the rate found.
    pub verified: bool,
    /// Every rate tried, in order.
    pub trials: Vec<Trial>,
}

/// One rate tried by a search.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    /// The stage it was tried in.
    pub stage: u32,
    /// Requests per second asked for.
    pub rate_planned: f64,
    /// Requests per second answered.
    pub rate_completed: f64,
    /// The objective's figure in microseconds, where it could be told.
    pub value_us: Option<f64>,
    /// Whether the objective held.
    pub passed: bool,
    /// Why not, or why it was stopped early.
    pub reason: Option<String>,
}

/// One reason to doubt a result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Warning {
    /// Short and stable, for scripts: `schedule-slipped`.
    pub code: String,
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong, with figures.
    pub text: String,
    /// What to do about it.
    pub advice: String,
}

impl Warning {
    /// A reason to doubt.
    #[must_use]
    pub fn new(code: &str, severity: Severity, text: String, advice: String) -> Self {
        Self {
            code: code.to_owned(),
            severity,
            text,
            advice,
        }
    }
}

/// How bad a warning is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing; the figures stand.
    Note,
    /// Some figure may be wrong.
    Warning,
    /// The figures mean something else than was asked for, or are lost.
    Error,
}

#[cfg(test)]
pub(crate) mod tests;
