//! How to search.

/// How to search. [`SearchSettings::new`] fills in the defaults.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SearchSettings {
    /// Where to begin, in requests per second; at least 1.
    pub start_rate: f64,
    /// Where to stop at the latest; by default, and at most, a request per nanosecond.
    pub max_rate: Option<f64>,
    /// What the ramp multiplies the rate by: 1.1 to 100.
    pub factor: f64,
    /// How close, as a share, the rate found has to be to one that failed: 0.001 to 0.5.
    pub resolution: f64,
    /// How long a trial of the ramp or the bisection takes.
    pub trial_seconds: f64,
    /// How long the verification and each part of the spectrum take.
    pub verify_seconds: f64,
    /// Requests that it takes to judge the objective (`Objective::samples_needed`). Trials at low rates are made longer
    /// for their sake, up to ten times.
    pub samples_needed: u64,
}

impl SearchSettings {
    /// From `start_rate` by four, then to 2 %, with trials of 5 and a verification of 20 seconds.
    #[must_use]
    pub const fn new(start_rate: f64) -> Self {
        Self {
            start_rate,
            max_rate: None,
            factor: 4.0,
            resolution: 0.02,
            trial_seconds: 5.0,
            verify_seconds: 20.0,
            samples_needed: 0,
        }
    }

    /// The same with everything that is out of range, or no number, moved into it.
    pub(super) fn within_bounds(self) -> Self {
        let max_rate = within(self.max_rate.unwrap_or(RATE_MAX), RATE_MIN, RATE_MAX);
        let trial_seconds = within(self.trial_seconds, SECONDS_MIN, SECONDS_MAX);
        Self {
            start_rate: within(self.start_rate, RATE_MIN, max_rate),
            max_rate: Some(max_rate),
            factor: within(self.factor, 1.1, 100.0),
            resolution: within(self.resolution, 0.001, 0.5),
            trial_seconds,
            verify_seconds: within(self.verify_seconds, trial_seconds, SECONDS_MAX),
            samples_needed: self.samples_needed,
        }
    }

    pub(super) fn rate_max(&self) -> f64 {
        self.max_rate.unwrap_or(RATE_MAX)
    }

    /// As long as a trial, but not for ever: a queue that does not drain meanwhile belongs to a server that is stuck.
    pub(super) fn cool_down_seconds(&self) -> f64 {
        self.trial_seconds.min(COOL_DOWN_SECONDS_MAX)
    }

    /// The lowest rate at which a trial, however long it is made, can judge the objective.
    pub(super) fn rate_told_min(&self) -> f64 {
        let longest_seconds = self.trial_seconds * STRETCH_MAX;
        (self.samples_needed as f64 * SAMPLES_SPARE / longest_seconds).max(RATE_MIN)
    }

    /// `seconds`, or what it takes at this rate to judge the objective.
    pub(super) fn long_enough(&self, seconds: f64, rate_per_s: f64) -> f64 {
        let needed = self.samples_needed as f64 * SAMPLES_SPARE / rate_per_s;
        needed.clamp(seconds, seconds * STRETCH_MAX)
    }
}

fn within(value: f64, low: f64, high: f64) -> f64 {
    // `max` and `min` pass over what is no number, which `clamp` hands on.
    value.max(low).min(high)
}

/// Less than one request per second tells nothing within anybody's patience.
pub(super) const RATE_MIN: f64 = 1.0;

/// A request per nanosecond: a schedule in nanoseconds cannot tell more of them apart.
const RATE_MAX: f64 = 1e9;

/// Shorter than this, a trial is over before its connections have settled.
const SECONDS_MIN: f64 = 0.1;

/// A day.
const SECONDS_MAX: f64 = 86_400.0;

/// Long enough for a queue of some seconds to time out or drain.
const COOL_DOWN_SECONDS_MAX: f64 = 5.0;

/// A tenth more than needed: arrivals at random may be fewer than planned, and some of them fail.
const SAMPLES_SPARE: f64 = 1.1;

/// How much longer a trial may be made for the sake of its samples. Beyond it, the ramp passes over rates that are too
/// low to be judged.
const STRETCH_MAX: f64 = 10.0;
