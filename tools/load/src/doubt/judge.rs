//! Facts in, doubts out.
//!
//! The one idea: each threshold has a name and a reason, and is the same for the search, the summary and `--strict`.
//! A fact that is not known (`None`, no windows, no runs) raises no doubt.

use polyloop_measure::stats::Spread;
use polyloop_measure::steady;

use super::Doubt;
use crate::result::Settled;

/// From here on a loop is saturated. With nine tenths of its time used, what arrives at random waits for several
/// others on average, and to make up for a preemption takes ten times as long as it took. Processor time would not do:
/// a loop that awaits its next send without sleeping (`--spin`) uses all of it, and has time.
pub const LOOP_BUSY_SHARE_MAX: f64 = 0.90;

/// At least this share of what is planned has to be sent; Nighthawk demands the same before it believes a rate.
pub const SENT_SHARE_MIN: f64 = 0.99;

/// The generator's own delay may be this part of the latency: less than runs differ by, and more than a pinned loop
/// needs at half of its capacity.
pub const OWN_LAG_SHARE_MAX: f64 = 0.10;

/// Samples that have to lie beyond a percentile; see `polyloop_measure::quantile`.
pub const SAMPLES_BEYOND: u64 = 100;

/// Linux waits at least 200 ms for an acknowledgement (`TCP_RTO_MIN`) where nothing that is sent later asks for the lost segment.
const RETRANSMIT_SECONDS: f64 = 0.2;

/// As many late requests as there may be beyond a p99.9.
const HELD_UP_SHARE_MAX: f64 = 0.001;

/// More than a hundredth of the time given to others is as much as the differences that are looked for.
pub const STEAL_SHARE_MAX: f64 = 0.01;

/// How many median distances from the median make an outlier: ten standard deviations, were they normal. The
/// threshold of hyperfine.
pub const OUTLIER_DISTANCES: f64 = 14.826;

/// Closer than this to the median of the others no run is an outlier, however alike the others are.
pub const OUTLIER_SHARE_MIN: f64 = 0.05;

/// Other runs that it takes to call the first one unlike them.
pub const OUTLIER_OTHERS_MIN: usize = 3;

/// Rates of windows may vary by this share. A stage with more has a trend, a stall or a neighbour.
pub const WINDOW_VARIATION_MAX: f64 = 0.05;

/// Arrivals at random vary by themselves, by one over the root of their number per window; up to this many times as
/// much is their own.
pub const CHANCE_VARIATIONS: f64 = 3.0;

/// Windows that it takes to speak of variation.
pub const WINDOWS_MIN: usize = 5;

/// Congestion controls that pace by themselves, by how their names begin.
const PACED: [&str; 1] = ["bbr"];

/// Whether the busiest loop, which was at work for `busy_share` of its time, was too busy to be punctual.
#[must_use]
pub fn generator_saturated(busy_share: f64) -> Option<Doubt> {
    (busy_share > LOOP_BUSY_SHARE_MAX).then_some(Doubt::GeneratorSaturated { busy_share })
}

/// Whether less was sent than planned.
#[must_use]
pub fn schedule_slipped(sent: u64, offered: u64) -> Option<Doubt> {
    let is_short = (sent as f64) < offered as f64 * SENT_SHARE_MIN;
    is_short.then_some(Doubt::ScheduleSlipped { sent, offered })
}

/// Whether the generator's own delay is a part of the latency that matters.
#[must_use]
pub fn late_sends(own_lag_p99_ns: Option<u64>, latency_p99_ns: Option<u64>) -> Option<Doubt> {
    let (own_lag_p99_ns, latency_p99_ns) = (own_lag_p99_ns?, latency_p99_ns?);
    let is_late = own_lag_p99_ns as f64 > latency_p99_ns as f64 * OWN_LAG_SHARE_MAX;
    is_late.then_some(Doubt::LateSends {
        own_lag_p99_ns,
        latency_p99_ns,
    })
}

/// Whether connections are missing. `reasons` are fault keys and how often each was met.
#[must_use]
pub fn fewer_connections(asked: u64, open: u64, reasons: &[(String, u64)]) -> Option<Doubt> {
    (open < asked).then(|| Doubt::FewerConnections {
        asked,
        open,
        reasons: reasons.to_vec(),
    })
}

/// How many samples it takes to tell a quantile.
#[must_use]
pub fn samples_needed(quantile: f64) -> u64 {
    // `1 - 0.9999` is a little more than a ten-thousandth, and the quotient must not become one sample more.
    (SAMPLES_BEYOND as f64 / (1.0 - quantile) - 1e-4).ceil() as u64
}

/// Whether `have` samples do not tell one of `quantiles`: the lowest that they do not.
#[must_use]
pub fn too_few_samples(quantiles: &[f64], have: u64) -> Option<Doubt> {
    let untold = quantiles
        .iter()
        .copied()
        .filter(|&quantile| samples_needed(quantile) > have);
    let quantile = untold.min_by(f64::total_cmp)?;
    Some(Doubt::TooFewSamples {
        quantile,
        have,
        need: samples_needed(quantile),
    })
}

/// Whether the hypervisor gave too much of the machine's time to others.
#[must_use]
pub fn steal(share: f64) -> Option<Doubt> {
    (share > STEAL_SHARE_MAX).then_some(Doubt::Steal { share })
}

/// Whether lost segments hold up enough requests to be seen in a p99.9: `each_per_s` is what a connection sends.
#[must_use]
pub fn retransmits(count: u64, sent: u64, each_per_s: f64) -> Option<Doubt> {
    let held_up_by_one = (each_per_s * RETRANSMIT_SECONDS).max(1.0);
    let held_up = count as f64 * held_up_by_one;
    (sent > 0 && held_up > sent as f64 * HELD_UP_SHARE_MAX).then_some(Doubt::Retransmits { count })
}

/// Whether the first of several runs' figures is unlike the rest.
#[must_use]
pub fn first_run_outlier(runs: &[f64]) -> Option<Doubt> {
    let (first, others) = runs.split_first()?;
    if others.len() < OUTLIER_OTHERS_MIN {
        return None;
    }
    let spread = Spread::of(others)?;
    let distance = (first - spread.median).abs();
    let is_outlier = distance > spread.deviation * OUTLIER_DISTANCES
        && distance > spread.median.abs() * OUTLIER_SHARE_MIN;
    is_outlier.then(|| Doubt::FirstRunOutlier {
        ratio: first / spread.median,
    })
}

/// Whether the pace changed. `windows` are requests answered in each of a row of windows of the same length.
#[must_use]
pub fn unstable_windows(windows: &[u64]) -> Option<Doubt> {
    if windows.len() < WINDOWS_MIN {
        return None;
    }
    let windows: Vec<f64> = windows.iter().map(|&count| count as f64).collect();
    let variation = steady::variation(&windows)?;
    let mean = windows.iter().sum::<f64>() / windows.len() as f64;
    let allowed = WINDOW_VARIATION_MAX.max(CHANCE_VARIATIONS / mean.sqrt());
    (variation > allowed).then_some(Doubt::UnstableWindows { variation })
}

/// Whether a warm-up of so many seconds ended before the pace was steady.
#[must_use]
pub fn never_steady(settled: Settled, seconds: f64) -> Option<Doubt> {
    (!settled.is_steady).then_some(Doubt::NeverSteady {
        seconds,
        variation: settled.variation,
    })
}

/// Whether generator and server may run on the same cores, given where each may run.
#[must_use]
pub fn shared_cores(generator: &[usize], server: &[usize]) -> Option<Doubt> {
    let both = generator
        .iter()
        .copied()
        .filter(|core| server.contains(core));
    let mut cores: Vec<usize> = both.collect();
    cores.sort_unstable();
    cores.dedup();
    (!cores.is_empty()).then_some(Doubt::SharedCores { cores })
}

/// Whether the congestion control in use holds packets back to smooth them.
#[must_use]
pub fn paced_congestion(name: &str) -> Option<Doubt> {
    let is_paced = PACED.iter().any(|paced| name.starts_with(paced));
    is_paced.then(|| Doubt::PacedCongestion {
        name: name.to_owned(),
    })
}

/// Whether requests were sent that no answer came for.
#[must_use]
pub fn unanswered(count: u64) -> Option<Doubt> {
    (count > 0).then_some(Doubt::Unanswered { count })
}

/// Whether something went wrong. What a few are worth is for [`Doubt::severity`] to say.
#[must_use]
pub fn faults(total: u64, sent: u64) -> Option<Doubt> {
    (total > 0).then_some(Doubt::Faults { total, sent })
}
