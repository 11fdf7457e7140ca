//! Runs the trials that [`search`](crate::search) asks for.

use std::time::Duration;

use anyhow::Result;

use crate::director::{Director, Staged};
use crate::engine::Pace;
use crate::objective::{Measured, Objective};
use crate::result::{SearchResult, StageKind, Trial};
use crate::search::{Judgement, Outcome, Search, SearchSettings, TrialKind};
use crate::settings::FindMax;

/// Searches, and leaves what was found in the run.
pub(crate) fn hunt(director: &mut Director, find: &FindMax) -> Result<()> {
    let trial_seconds = director.settings.duration.as_secs_f64();
    let mut search = Search::new(SearchSettings {
        max_rate: find.max_rate,
        trial_seconds,
        verify_seconds: trial_seconds * VERIFY_FACTOR,
        samples_needed: find.objective.samples_needed(),
        ..SearchSettings::new(find.start_rate)
    });
    director.warm_up(Pace::Open {
        rate_per_s: find.start_rate,
    })?;
    let mut trials = Vec::new();
    while let Some(trial) = search.next() {
        if director.is_interrupted() {
            break;
        }
        let (mut name, kind) = named(trial.kind, trials.len());
        if director.run.stages.iter().any(|stage| stage.name == name) {
            // It was disturbed the first time.
            name += "-again";
        }
        let pace = if trial.rate_per_s > 0.0 {
            Pace::Open {
                rate_per_s: trial.rate_per_s,
            }
        } else {
            Pace::Silent
        };
        let duration = Duration::from_secs_f64(trial.seconds);
        let staged = director.stage(&name, kind, pace, duration)?;
        if director.is_interrupted() {
            // Cut short, it says nothing about its rate.
            break;
        }
        let outcome = outcome_of(&staged, &find.objective);
        if trial.rate_per_s > 0.0 {
            director.say(&format!(
                "{:>10.0}/s  {}",
                trial.rate_per_s, outcome.verdict
            ));
            trials.push(Trial {
                stage: staged.result.id,
                rate_planned: trial.rate_per_s,
                rate_completed: staged.result.rates.completed,
                value_us: value_us(&staged, &find.objective),
                passed: outcome.judge() == Judgement::Held,
                reason: match outcome.judge() {
                    Judgement::Held => None,
                    Judgement::Failed(limit) => Some(format!("{} ({limit})", outcome.verdict)),
                    Judgement::Untold => Some(outcome.verdict.to_string()),
                },
            });
        }
        search.tell(outcome);
    }
    let found = search.result();
    director.run.search = Some(SearchResult {
        objective: find.objective.to_string(),
        rate_found: found.rate_found,
        limited_by: (!director.is_interrupted()).then(|| found.limited_by.to_string()),
        verified: found.verified,
        trials,
    });
    Ok(())
}

fn named(kind: TrialKind, nth: usize) -> (String, StageKind) {
    match kind {
        TrialKind::Ramp | TrialKind::Bisect => (format!("trial-{}", nth + 1), StageKind::Trial),
        TrialKind::CoolDown => (format!("cool-down-{}", nth + 1), StageKind::CoolDown),
        TrialKind::Verify => (format!("verify-{}", nth + 1), StageKind::Verify),
        TrialKind::Spectrum(share) => (
            format!("spectrum-{:.0}%", share * 100.0),
            StageKind::Spectrum,
        ),
    }
}

fn outcome_of(staged: &Staged, objective: &Objective) -> Outcome {
    let counts = &staged.total.counts;
    let ns = |us: Option<f64>| us.map(|us| (us * 1e3) as u64);
    Outcome {
        offered: counts.offered,
        // What went out in the grace was not sent at the rate that is tried.
        sent: counts.sent_in_time(),
        completed: counts.completed_in_time(),
        verdict: objective.is_met(&Measured {
            latency: &staged.total.latency,
            // They are in the histogram with the age they had, which is less than what their latency would have been.
            lost: 0,
            sent: counts.sent,
            faults: counts.faults_total(),
        }),
        own_lag_p99_ns: ns(staged.result.own_lag.p99_us),
        latency_p99_ns: ns(staged.result.latency.p99_us),
        is_doubtful: staged.result.machine_steal_share > crate::doubt::judge::STEAL_SHARE_MAX,
    }
}

/// The figure of the first condition.
fn value_us(staged: &Staged, objective: &Objective) -> Option<f64> {
    let figure = objective.terms().first()?.figure;
    let latency = &staged.result.latency;
    match figure.quantile() {
        Some(_) => match figure.name() {
            "p50" => latency.p50_us,
            "p90" => latency.p90_us,
            "p99" => latency.p99_us,
            "p99.9" => latency.p99_9_us,
            _ => latency.p99_99_us,
        },
        None if figure.name() == "mean" => latency.mean_us,
        None if figure.name() == "max" => latency.max_us,
        None => None,
    }
}

/// A rate is believed when it has held for this many trials' time.
const VERIFY_FACTOR: f64 = 3.0;
