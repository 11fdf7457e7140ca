//! Virtual data for tests: draws from distributions whose truth is known.

use std::f64::consts::TAU;

use crate::stats::SplitMix64;

/// Strictly between 0 and 1.
pub(crate) fn uniform(random: &mut SplitMix64) -> f64 {
    ((random.next_u64() >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
}

/// Mean 0, deviation 1; by Box and Muller.
pub(crate) fn normal(random: &mut SplitMix64) -> f64 {
    let radius = (-2.0 * uniform(random).ln()).sqrt();
    radius * (TAU * uniform(random)).cos()
}

/// Mean 1.
pub(crate) fn exponential(random: &mut SplitMix64) -> f64 {
    -uniform(random).ln()
}

/// Median 1; skewed as latencies are.
pub(crate) fn log_normal(random: &mut SplitMix64) -> f64 {
    normal(random).exp()
}

/// At least 1, with a tail so heavy that the variance is infinite.
pub(crate) fn pareto(random: &mut SplitMix64) -> f64 {
    uniform(random).powf(-1.0 / 1.1)
}
