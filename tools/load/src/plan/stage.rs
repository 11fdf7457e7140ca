//! The stages of a run: which load, for how long, and what its figures are good for.
//!
//! The one idea: only what comes after the connections stand and the server is warm is a result. What comes before is
//! measured in the same way and thrown away, so that nothing changes at the moment that counts.

use std::fmt;

/// One stage of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Stage {
    /// Counted from 0 through the run.
    pub id: u32,
    /// Its name in outputs, unique within the run.
    pub name: String,
    /// What it is for.
    pub kind: StageKind,
    /// Requests per second of all connections together; none in a closed loop.
    pub rate_per_s: Option<f64>,
    /// How long it lasts. A ramp ends earlier when all connections stand.
    pub seconds: f64,
}

/// What a stage is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StageKind {
    /// Connections are made.
    Ramp,
    /// Load until figures are steady.
    WarmUp,
    /// The figures that were asked for.
    Measure,
    /// One rate of a search.
    Trial,
    /// Little load, so that queues drain.
    CoolDown,
    /// The rate that a search found, again and for longer.
    Verify,
    /// A share of the rate that a search found.
    Spectrum,
}

impl StageKind {
    /// The name in files and messages.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ramp => "ramp",
            Self::WarmUp => "warm-up",
            Self::Measure => "measure",
            Self::Trial => "trial",
            Self::CoolDown => "cool-down",
            Self::Verify => "verify",
            Self::Spectrum => "spectrum",
        }
    }

    /// Whether its figures are results.
    #[must_use]
    pub const fn is_measured(self) -> bool {
        matches!(self, Self::Measure | Self::Verify | Self::Spectrum)
    }
}

impl fmt::Display for StageKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A run without a search.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PlainRun {
    /// Requests per second of all connections together; none in a closed loop.
    pub rate_per_s: Option<f64>,
    /// The longest that making the connections may take.
    pub ramp_s: f64,
    /// How long to load before measuring; 0 for not at all.
    pub warm_up_s: f64,
    /// How long to measure.
    pub measure_s: f64,
}

/// The stages of a run without a search, in order.
#[must_use]
pub fn stages(run: &PlainRun) -> Vec<Stage> {
    let planned = [
        (StageKind::Ramp, Some(0.0), run.ramp_s),
        (StageKind::WarmUp, run.rate_per_s, run.warm_up_s),
        (StageKind::Measure, run.rate_per_s, run.measure_s),
    ];
    let mut stages = Vec::new();
    for (kind, rate_per_s, seconds) in planned {
        // There are always connections to make, and a run that measures nothing still says so.
        if seconds > 0.0 || kind != StageKind::WarmUp {
            stages.push(Stage {
                id: stages.len() as u32,
                name: kind.name().to_owned(),
                kind,
                rate_per_s,
                seconds,
            });
        }
    }
    stages
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_run_ramps_warms_up_and_measures() {
        // Goal: order, rates and names. Method: with a warm-up, and a closed loop without one.
        let mut run = PlainRun {
            rate_per_s: Some(50e3),
            ramp_s: 10.0,
            warm_up_s: 3.0,
            measure_s: 30.0,
        };
        let told: Vec<_> = stages(&run)
            .into_iter()
            .map(|stage| (stage.id, stage.name, stage.rate_per_s, stage.seconds))
            .collect();
        assert_eq!(
            told,
            [
                (0, "ramp".to_owned(), Some(0.0), 10.0),
                (1, "warm-up".to_owned(), Some(50e3), 3.0),
                (2, "measure".to_owned(), Some(50e3), 30.0),
            ]
        );
        (run.rate_per_s, run.warm_up_s) = (None, 0.0);
        let kinds: Vec<_> = stages(&run)
            .iter()
            .map(|stage| (stage.id, stage.kind))
            .collect();
        assert_eq!(kinds, [(0, StageKind::Ramp), (1, StageKind::Measure)]);
        assert!(StageKind::Measure.is_measured() && !StageKind::Trial.is_measured());
        assert_eq!(StageKind::CoolDown.to_string(), "cool-down");
    }
}
