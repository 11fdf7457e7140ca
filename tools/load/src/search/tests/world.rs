//! A simulated server and generator, so that what a search finds can be held against what theory says.

use polyloop_measure::stats::SplitMix64;

use super::super::{Outcome, Trial};
use crate::objective::{Measured, Objective};
use crate::tally::durations;

/// A server with one queue (M/M/1) behind a generator; latencies are exponential, or grow with the queue.
pub(super) struct World {
    objective: Objective,
    /// Requests per second that the server answers at most.
    capacity: f64,
    /// What every request takes besides.
    pub(super) floor_ns: f64,
    /// Requests per second that the generator sends at most.
    pub(super) sends: f64,
    /// How much latencies scatter from trial to trial, as a share.
    pub(super) noise: f64,
    pub(super) random: SplitMix64,
}

impl World {
    pub(super) fn new(objective: &str, capacity: f64) -> Self {
        Self {
            objective: objective.parse().unwrap(),
            capacity,
            floor_ns: 20_000.0,
            sends: f64::INFINITY,
            noise: 0.0,
            random: SplitMix64::new(1),
        }
    }

    pub(super) fn run(&mut self, trial: &Trial) -> Outcome {
        let offered = (trial.rate_per_s * trial.seconds).floor();
        let rate = trial.rate_per_s.min(self.sends);
        let sent = (rate * trial.seconds).floor();
        let scatter = 1.0 + self.noise * (2.0 * self.draw() - 1.0);
        let samples = sent.min(20_000.0) as u64;
        let mut latency = durations();
        for index in 0..samples {
            let share = (index as f64 + 0.5) / samples as f64;
            let queued_s = if rate < self.capacity {
                -(1.0 - share).ln() / (self.capacity - rate)
            } else {
                share * trial.seconds * (rate / self.capacity - 1.0)
            };
            let ns = self.floor_ns + queued_s * 1e9 * scatter;
            latency.saturating_record(ns as u64);
        }
        let own_lag_s = trial.seconds * (trial.rate_per_s / rate - 1.0);
        let own_lag_ns = 2_000 + (own_lag_s * 1e9) as u64;
        let measured = Measured {
            latency: &latency,
            lost: 0,
            sent: samples,
            faults: 0,
        };
        Outcome {
            offered: offered as u64,
            sent: sent as u64,
            completed: sent as u64,
            verdict: self.objective.is_met(&measured),
            own_lag_p99_ns: Some(own_lag_ns),
            latency_p99_ns: Some(latency.value_at_quantile(0.99) + own_lag_ns),
            is_doubtful: false,
        }
    }

    /// From 0 to 1.
    fn draw(&mut self) -> f64 {
        (self.random.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// The rate at which the 99th percentile of the queue reaches a limit.
    pub(super) fn rate_at(&self, limit_ns: f64) -> f64 {
        self.capacity - 100_f64.ln() / ((limit_ns - self.floor_ns) / 1e9)
    }
}
