//! The figures that are compared, and the samples of each.
//!
//! The one idea: a metric is a pair of readings, of a whole stage and of one window, so that both kinds of samples come
//! from the same list.

use polyloop_measure::significance::block_means;
use polyloop_measure::stats::Spread;
use serde::Serialize;

use super::{Sampling, Source};
use crate::result::{StageResult, WindowRow};

/// What is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Metric {
    /// Average latency.
    Mean,
    /// Median latency.
    P50,
    /// 99th percentile of latency.
    P99,
    /// 99.9th percentile of latency.
    #[serde(rename = "p99.9")]
    P99_9,
    /// Requests answered per second.
    Completed,
    /// Processor time of the server per request.
    ServerCpu,
    /// Processor time of the generator per request.
    LoadCpu,
}

impl Metric {
    /// In the order of the table.
    pub const ALL: [Self; 7] = [
        Self::P50,
        Self::P99,
        Self::P99_9,
        Self::Mean,
        Self::Completed,
        Self::ServerCpu,
        Self::LoadCpu,
    ];

    /// As printed.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Mean => "mean",
            Self::P50 => "p50",
            Self::P99 => "p99",
            Self::P99_9 => "p99.9",
            Self::Completed => "completed",
            Self::ServerCpu => "server CPU/req",
            Self::LoadCpu => "load CPU/req",
        }
    }

    /// Whether more of it is better.
    #[must_use]
    pub const fn more_is_better(self) -> bool {
        matches!(self, Self::Completed)
    }

    /// Its figure over a whole stage.
    fn of_stage(self, stage: &StageResult) -> Option<f64> {
        match self {
            Self::Mean => stage.latency.mean_us,
            Self::P50 => stage.latency.p50_us,
            Self::P99 => stage.latency.p99_us,
            Self::P99_9 => stage.latency.p99_9_us,
            Self::Completed => Some(stage.rates.completed),
            Self::ServerCpu => stage.server_cpu_us_per_request,
            Self::LoadCpu => stage.load_cpu_us_per_request,
        }
    }

    /// Its figure in one window.
    fn of_window(self, window: &WindowRow) -> Option<f64> {
        let completed = window.completed_in_time();
        let per_request = |cpu_s: f64| (completed > 0).then(|| cpu_s * 1e6 / completed as f64);
        match self {
            Self::Mean => window.mean_us,
            Self::P50 => window.p50_us,
            Self::P99 => window.p99_us,
            Self::P99_9 => window.p99_9_us,
            Self::Completed => (window.seconds > 0.0).then(|| completed as f64 / window.seconds),
            Self::ServerCpu => window.server_cpu_s.and_then(per_request),
            Self::LoadCpu => per_request(window.load_cpu_s),
        }
    }
}

/// A metric of one side.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Values {
    /// Over the whole stage; with several files the median of theirs.
    pub(super) whole: f64,
    /// What is tested.
    pub(super) samples: Vec<f64>,
}

impl Values {
    /// `None` when a file of the side cannot tell the metric.
    pub(super) fn of(
        side: &[Source],
        stage: &str,
        metric: Metric,
        sampling: Sampling,
    ) -> Option<Self> {
        let stages = side
            .iter()
            .map(|source| source.run.measured().find(|it| it.name == stage))
            .collect::<Option<Vec<_>>>()?;
        let wholes = stages
            .iter()
            .map(|stage| metric.of_stage(stage))
            .collect::<Option<Vec<_>>>()?;
        let samples = match sampling {
            Sampling::Files => wholes.clone(),
            Sampling::Windows => stages
                .iter()
                .flat_map(|stage| blocks(stage, metric))
                .collect(),
        };
        Some(Self {
            whole: Spread::of(&wholes)?.median,
            samples,
        })
    }
}

/// The windows of a stage in blocks; empty when some cannot tell the metric, as the others would be a selection.
fn blocks(stage: &StageResult, metric: Metric) -> Vec<f64> {
    let mut windows = &stage.windows[..];
    // The last window may be a short remnant of the stage.
    if let [rest @ .., last] = windows
        && rest
            .first()
            .is_some_and(|first| last.seconds < first.seconds / 2.0)
    {
        windows = rest;
    }
    let values: Option<Vec<f64>> = windows
        .iter()
        .map(|window| metric.of_window(window))
        .collect();
    let values = values.unwrap_or_default();
    block_means(
        &values,
        (values.len() / WINDOWS_PER_BLOCK_MIN).min(BLOCKS_MAX),
    )
}

/// A window resembles the next one, and with windows of a second hardly the one after it.
const WINDOWS_PER_BLOCK_MIN: usize = 2;

/// More blocks would be shorter, and alike again; ten are enough for the test.
const BLOCKS_MAX: usize = 10;
