//! One point: a setup, a round, and what came of it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::sweep::Setup;

/// One line of the file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// The subject's name.
    pub subject: String,
    /// Values by axis.
    pub settings: BTreeMap<String, String>,
    /// Which repetition, from 0.
    pub round: u32,
    /// When it began: RFC 3339, UTC.
    pub started: String,
    /// How the server was started.
    pub server_command: String,
    /// How the generator was started.
    pub load_command: String,
    /// What came of it.
    pub outcome: Outcome,
}

/// What came of a point.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Figures.
    Measured(Box<Measured>),
    /// None, for this reason, with what the programs said.
    Failed(String),
}

/// The figures of a point. What is not known is absent.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Measured {
    /// Whether sends waited for answers.
    pub is_closed: bool,
    /// Requests per second planned.
    pub rate_planned: Option<f64>,
    /// Requests answered per second.
    pub rate: f64,
    /// Requests answered.
    pub completed: u64,
    /// Bytes both ways per second.
    pub bytes_per_s: f64,
    /// Requests that went wrong.
    pub faults: u64,
    /// How long it was measured.
    pub seconds: f64,
    /// Connections open at the end.
    pub connections: u64,
    /// Processor time of the server per request.
    pub server_us: Option<f64>,
    /// Processor time of the generator per request.
    pub load_us: Option<f64>,
    /// Busy time of the whole machine per request.
    pub machine_us: Option<f64>,
    /// System calls of the server, where they were counted: in the first round.
    pub syscalls: Option<Syscalls>,
    /// Quantile and latency in microseconds, as far as samples allow.
    pub latency_us: Vec<(f64, f64)>,
    /// Mean of the latencies in microseconds.
    pub mean_us: Option<f64>,
    /// Their standard deviation in microseconds.
    pub deviation_us: Option<f64>,
    /// The longest, in microseconds.
    pub longest_us: Option<f64>,
    /// Resident memory of the server before the load, and under it.
    pub memory_bytes: Option<(u64, u64)>,
    /// Processor time of each thread of the server, busiest first.
    pub threads: Vec<ThreadTime>,
    /// Largest over mean share of the busiest threads, one for each loop, over time.
    pub imbalance: Vec<f64>,
    /// Second by second, what each of these threads used over their mean, in the order of their numbers.
    pub loop_shares: Vec<Vec<f64>>,
    /// Cores of the server.
    pub server_cores: Vec<usize>,
    /// Cores of the generator.
    pub load_cores: Vec<usize>,
    /// Why not to believe it.
    pub doubts: Vec<Doubt>,
}

/// System calls of the server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Syscalls {
    /// For each request, connecting left out.
    pub per_request: f64,
    /// The tracer's name.
    pub counted_by: String,
}

/// What a thread used.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ThreadTime {
    /// Its name.
    pub name: String,
    /// Processor time in seconds.
    pub cpu_s: f64,
}

/// A reason to doubt a point.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Doubt {
    /// Short and stable.
    pub code: String,
    /// In words.
    pub text: String,
    /// Whether it is serious enough to draw the point hollow and to leave it out of models.
    pub is_serious: bool,
}

impl Point {
    /// What was measured.
    #[must_use]
    pub fn setup(&self) -> Setup {
        Setup {
            subject: self.subject.clone(),
            settings: self.settings.clone(),
        }
    }

    /// The figures, where there are any.
    #[must_use]
    pub fn measured(&self) -> Option<&Measured> {
        match &self.outcome {
            Outcome::Measured(measured) => Some(measured),
            Outcome::Failed(_) => None,
        }
    }

    /// A value as a number.
    #[must_use]
    pub fn number(&self, axis: &str) -> Option<f64> {
        let text = self.settings.get(axis)?;
        let text = text.trim_end_matches("/s");
        text.parse().ok().or_else(|| {
            let count = polyloop_core::units::parse_count(text)
                .or_else(|_| polyloop_core::units::parse_bytes(text));
            count.ok().map(|count| count as f64)
        })
    }
}

impl Measured {
    /// Whether a doubt is serious.
    #[must_use]
    pub fn is_doubtful(&self) -> bool {
        self.doubts.iter().any(|doubt| doubt.is_serious)
    }

    /// Whether server and generator shared a core.
    #[must_use]
    pub fn shares_cores(&self) -> bool {
        let shared = |core| self.load_cores.contains(core);
        self.server_cores.iter().any(shared)
    }

    /// The latency at a quantile, where it is known.
    #[must_use]
    pub fn latency_at(&self, quantile: f64) -> Option<f64> {
        let near = |(at, _): &&(f64, f64)| (at - quantile).abs() < 1e-9;
        self.latency_us.iter().find(near).map(|(_, us)| *us)
    }

    /// System calls of the server per request.
    #[must_use]
    pub fn syscalls_per_request(&self) -> Option<f64> {
        self.syscalls.as_ref().map(|counted| counted.per_request)
    }

    /// Memory that the connections added, for each.
    #[must_use]
    pub fn memory_per_connection(&self) -> Option<f64> {
        let (before, under) = self.memory_bytes?;
        (self.connections > 0)
            .then(|| under.saturating_sub(before) as f64 / self.connections as f64)
    }
}
