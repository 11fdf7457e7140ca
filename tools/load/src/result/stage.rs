//! One stage of a run, and the windows it was made of.
//!
//! The one idea: a stage is told twice, as a whole (exact, from merged histograms) and as a row of windows (one per
//! interval), so that a reader can see whether the whole was steady.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::fault::fault_key;
use super::quantiles::{Quantiles, quantile_us, us};
use crate::tally::{Counts, Interval};

/// Samples that have to lie beyond a percentile of one window. Fewer than for a result, as a window is one sample of
/// many: its percentile is looked at beside its neighbours', in a view, a plot or a block of windows, never alone.
pub const WINDOW_SAMPLES_BEYOND: f64 = 10.0;

/// What a stage is before anything happened in it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StageHead {
    /// Counted from 0, as in [`Interval::stage`].
    pub id: u32,
    /// Its name, unique within the run.
    pub name: String,
    /// What it is for.
    pub kind: StageKind,
    /// Requests per second planned; none in a closed loop.
    pub rate_planned: Option<f64>,
}

/// What a stage is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StageKind {
    /// Connections are made.
    Ramp,
    /// Load until figures are steady.
    WarmUp,
    /// The figures that were asked for.
    Measure,
    /// One rate of a search.
    Trial,
    /// Little or no load, so that a queue can drain.
    CoolDown,
    /// The rate that a search found, again and for longer.
    Verify,
    /// A share of the rate that a search found.
    Spectrum,
    /// A kind that a younger program knows.
    #[serde(other)]
    Other,
}

impl StageKind {
    /// Whether its figures are results.
    #[must_use]
    pub const fn is_measured(self) -> bool {
        matches!(self, Self::Measure | Self::Verify | Self::Spectrum)
    }
}

/// What went on beside the load, over one interval or a whole stage.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Beside {
    /// Processor time of the server, where it was asked for.
    pub server_cpu_ns: Option<u64>,
    /// The share of its time in which the busiest loop of the generator was at work; of a whole stage only.
    pub busiest_loop_share: Option<f64>,
    /// The share of all cores' time in which they did something.
    pub machine_busy_share: f64,
    /// The share of all cores' time that the hypervisor gave to others.
    pub machine_steal_share: f64,
    /// TCP segments that this network namespace sent again.
    pub retransmits: Option<u64>,
}

/// What a stage came to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StageResult {
    /// Counted from 0.
    pub id: u32,
    /// Its name.
    pub name: String,
    /// What it was for.
    pub kind: StageKind,
    /// Requests per second planned; none in a closed loop.
    pub rate_planned: Option<f64>,
    /// How long it took.
    pub seconds: f64,
    /// Connections open at its end.
    pub connections: u64,
    /// What happened.
    pub counts: CountsRow,
    /// What was wrong with the first answer that was counted as garbage.
    #[serde(default)]
    pub first_wrong: Option<String>,
    /// The same per second.
    pub rates: Rates,
    /// From the planned send to the whole answer.
    pub latency: Quantiles,
    /// From the actual send to the whole answer.
    pub uncorrected: Quantiles,
    /// From the planned send to the actual one.
    pub lag: Quantiles,
    /// The generator's own part of the lag.
    pub own_lag: Quantiles,
    /// Time to make a connection.
    pub connect: Quantiles,
    /// Latency of the probe's connections.
    pub probe: Quantiles,
    /// Processor time of the loops of the generator.
    pub load_cpu_s: f64,
    /// The share of its time in which the busiest of them was at work, waiting for the next send left out.
    #[serde(default)]
    pub busiest_loop_share: Option<f64>,
    /// Processor time of the server.
    pub server_cpu_s: Option<f64>,
    /// Processor time of the generator per answered request; none when nothing was answered.
    pub load_cpu_us_per_request: Option<f64>,
    /// Processor time of the server per answered request.
    pub server_cpu_us_per_request: Option<f64>,
    /// The share of all cores' time in which they did something.
    pub machine_busy_share: f64,
    /// The share of all cores' time that the hypervisor gave to others.
    pub machine_steal_share: f64,
    /// TCP segments that this network namespace sent again, other programs' included.
    #[serde(default)]
    pub retransmits: Option<u64>,
    /// Of a warm-up that was to go on until it is steady: whether it became so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settled: Option<Settled>,
    /// One row per interval.
    pub windows: Vec<WindowRow>,
}

/// What a warm-up came to.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Settled {
    /// Whether the last three windows had one pace.
    pub is_steady: bool,
    /// Standard deviation of their rates as a share of the mean; none when nothing was done in them.
    pub variation: Option<f64>,
}

impl StageResult {
    /// Sums a stage up: `total` is everything its loops recorded, merged; `beside` is over the same time.
    ///
    /// The connections open at the end are those of the last window, as merging in time keeps no count of them; without
    /// windows, what `total` says.
    #[must_use]
    pub fn of(head: StageHead, total: &Interval, beside: &Beside, windows: Vec<WindowRow>) -> Self {
        let seconds = seconds_of(total);
        let counts = CountsRow::of(&total.counts);
        let server_cpu_s = beside.server_cpu_ns.map(seconds_from_ns);
        // The processor time is that of the stage without its grace, and so are the requests that it is divided by.
        let completed = total.counts.completed_in_time();
        let per_request = |cpu_ns: u64| {
            (completed > 0).then(|| rounded(cpu_ns as f64 / 1e3 / completed as f64, 3))
        };
        Self {
            id: head.id,
            name: head.name,
            kind: head.kind,
            rate_planned: head.rate_planned,
            seconds,
            connections: windows.last().map_or(total.open, |last| last.connections),
            rates: Rates::of(&total.counts, seconds),
            latency: Quantiles::of(&total.latency),
            uncorrected: Quantiles::of(&total.uncorrected),
            lag: Quantiles::of(&total.lag),
            own_lag: Quantiles::of(&total.own_lag),
            connect: Quantiles::of(&total.connect),
            probe: Quantiles::of(&total.probe),
            load_cpu_s: seconds_from_ns(total.cpu_ns),
            busiest_loop_share: beside.busiest_loop_share.map(|share| rounded(share, 4)),
            server_cpu_s,
            load_cpu_us_per_request: per_request(total.cpu_ns),
            server_cpu_us_per_request: beside.server_cpu_ns.and_then(per_request),
            machine_busy_share: rounded(beside.machine_busy_share, 4),
            machine_steal_share: rounded(beside.machine_steal_share, 4),
            retransmits: beside.retransmits,
            counts,
            first_wrong: total.first_wrong.as_deref().map(str::to_owned),
            settled: None,
            windows,
        }
    }
}

/// [`Counts`] with the faults by name.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CountsRow {
    /// Requests whose planned time came.
    pub offered: u64,
    /// Requests sent.
    pub sent: u64,
    /// Requests answered, whole and right.
    pub completed: u64,
    /// Planned and never sent.
    pub unsent: u64,
    /// Sent and never answered.
    pub unanswered: u64,
    /// Of those sent, the ones that went out in the grace, overdue: the rates are without them.
    #[serde(default)]
    pub sent_late: u64,
    /// Of those answered, the ones that were sent late.
    #[serde(default)]
    pub completed_late: u64,
    /// Bytes written.
    pub bytes_out: u64,
    /// Bytes read.
    pub bytes_in: u64,
    /// Connections asked for.
    pub connects: u64,
    /// Connections made.
    pub connected: u64,
    /// Connections that ended as planned.
    pub closed: u64,
    /// What went wrong, by [`fault_key`].
    pub faults: BTreeMap<String, u64>,
}

impl CountsRow {
    /// Requests sent within the time of the stage.
    #[must_use]
    pub const fn sent_in_time(&self) -> u64 {
        self.sent.saturating_sub(self.sent_late)
    }

    /// Requests sent within the time of the stage, and answered whenever.
    #[must_use]
    pub const fn completed_in_time(&self) -> u64 {
        self.completed.saturating_sub(self.completed_late)
    }

    /// The counts as they stand in a file.
    #[must_use]
    pub fn of(counts: &Counts) -> Self {
        Self {
            offered: counts.offered,
            sent: counts.sent,
            completed: counts.completed,
            unsent: counts.unsent,
            unanswered: counts.unanswered,
            sent_late: counts.sent_late,
            completed_late: counts.completed_late,
            bytes_out: counts.bytes_out,
            bytes_in: counts.bytes_in,
            connects: counts.connects,
            connected: counts.connected,
            closed: counts.closed,
            faults: counts
                .faults
                .iter()
                .map(|(fault, count)| (fault_key(*fault), *count))
                .collect(),
        }
    }
}

/// Counts per second.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Rates {
    /// Requests whose planned time came.
    pub offered: f64,
    /// Requests sent.
    pub sent: f64,
    /// Requests answered.
    pub completed: f64,
    /// Bytes written.
    pub bytes_out: f64,
    /// Bytes read.
    pub bytes_in: f64,
}

impl Rates {
    /// What was reached within so many seconds; all zero when no time went by.
    ///
    /// A backlog that was sent in the grace is no part of it: with it, a rate beyond reach would look as if nearly reached.
    #[must_use]
    pub fn of(counts: &Counts, seconds: f64) -> Self {
        let per_second = |count: u64| {
            if seconds > 0.0 {
                rounded(count as f64 / seconds, 3)
            } else {
                0.0
            }
        };
        // Bytes are not told apart; those of late requests are taken to be as many as those of others.
        let part = |bytes: u64, late: u64, all: u64| {
            let share = late as f64 / all.max(1) as f64;
            (bytes as f64 * (1.0 - share)).round() as u64
        };
        let bytes_out = part(counts.bytes_out, counts.sent_late, counts.sent);
        let bytes_in = part(counts.bytes_in, counts.completed_late, counts.completed);
        Self {
            offered: per_second(counts.offered),
            sent: per_second(counts.sent_in_time()),
            completed: per_second(counts.completed_in_time()),
            bytes_out: per_second(bytes_out),
            bytes_in: per_second(bytes_in),
        }
    }
}

/// One interval of a stage, all loops together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WindowRow {
    /// Where it begins, in seconds from the stage's beginning.
    pub t_s: f64,
    /// How long it is.
    pub seconds: f64,
    /// Requests whose planned time came.
    pub offered: u64,
    /// Requests sent.
    pub sent: u64,
    /// Requests answered.
    pub completed: u64,
    /// Of those, the ones that were sent in the grace; only the last window has any.
    #[serde(default)]
    pub completed_late: u64,
    /// Average latency.
    pub mean_us: Option<f64>,
    /// Median latency, with [`WINDOW_SAMPLES_BEYOND`].
    pub p50_us: Option<f64>,
    /// 99th percentile of latency, with [`WINDOW_SAMPLES_BEYOND`].
    pub p99_us: Option<f64>,
    /// 99.9th percentile of latency, with [`WINDOW_SAMPLES_BEYOND`].
    pub p99_9_us: Option<f64>,
    /// The longest latency.
    pub max_us: Option<f64>,
    /// Connections open at its end.
    pub connections: u64,
    /// Faults of all kinds.
    pub faults: u64,
    /// Processor time of the loops of the generator.
    pub load_cpu_s: f64,
    /// Processor time of the server.
    pub server_cpu_s: Option<f64>,
    /// The share of all cores' time in which they did something.
    pub machine_busy_share: f64,
    /// The share of all cores' time that the hypervisor gave to others.
    pub machine_steal_share: f64,
}

impl WindowRow {
    /// Requests that were sent within the time of the stage, and answered.
    #[must_use]
    pub const fn completed_in_time(&self) -> u64 {
        self.completed.saturating_sub(self.completed_late)
    }

    /// Sums an interval up; `stage_from_ns` is where its stage began, on the same clock.
    #[must_use]
    pub fn of(interval: &Interval, beside: &Beside, stage_from_ns: u64) -> Self {
        let latency = &interval.latency;
        let at = |quantile| quantile_us(latency, quantile, WINDOW_SAMPLES_BEYOND);
        let any = !latency.is_empty();
        Self {
            t_s: seconds_from_ns(interval.from_ns.saturating_sub(stage_from_ns)),
            seconds: seconds_of(interval),
            offered: interval.counts.offered,
            sent: interval.counts.sent,
            completed: interval.counts.completed,
            completed_late: interval.counts.completed_late,
            mean_us: any.then(|| rounded(latency.mean() / 1e3, 3)),
            p50_us: at(0.5),
            p99_us: at(0.99),
            p99_9_us: at(0.999),
            max_us: any.then(|| us(latency.max())),
            connections: interval.open,
            faults: interval.counts.faults_total(),
            load_cpu_s: seconds_from_ns(interval.cpu_ns),
            server_cpu_s: beside.server_cpu_ns.map(seconds_from_ns),
            machine_busy_share: rounded(beside.machine_busy_share, 4),
            machine_steal_share: rounded(beside.machine_steal_share, 4),
        }
    }
}

/// The length of an interval in seconds.
pub(crate) fn seconds_of(interval: &Interval) -> f64 {
    seconds_from_ns(interval.until_ns.saturating_sub(interval.from_ns))
}

fn seconds_from_ns(ns: u64) -> f64 {
    rounded(ns as f64 / 1e9, 9)
}

/// Cut to so many decimals: more would be noise in a file that people read, and would not come back bit for bit.
/// What is no number becomes zero, as JSON has no word for it.
pub(super) fn rounded(value: f64, decimals: i32) -> f64 {
    if !value.is_finite() {
        return 0.0;
    }
    let scale = 10_f64.powi(decimals);
    (value * scale).round() / scale
}
