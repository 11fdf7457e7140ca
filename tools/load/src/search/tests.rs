//! The search against servers that are formulas.

use super::*;
use crate::objective::{Measured, Objective, Verdict};
use crate::tally::durations;
use polyloop_measure::stats::SplitMix64;
use world::World;

mod world;

fn settings(start_rate: f64) -> SearchSettings {
    SearchSettings {
        samples_needed: 10_000,
        ..SearchSettings::new(start_rate)
    }
}

/// Runs a search to its end; every trial that it asked for, cooling down included, and the result.
fn search(
    settings: SearchSettings,
    mut run: impl FnMut(&Trial) -> Outcome,
) -> (Vec<Trial>, SearchResult) {
    let mut search = Search::new(settings);
    let mut trials = Vec::new();
    while let Some(trial) = search.next() {
        assert!(trials.len() < 200, "no end: {trials:?}");
        let outcome = run(&trial);
        trials.push(trial);
        search.tell(outcome);
    }
    (trials, search.result())
}

fn kinds(trials: &[Trial]) -> String {
    let letters = trials.iter().map(|trial| match trial.kind {
        TrialKind::Ramp => 'r',
        TrialKind::Bisect => 'b',
        TrialKind::CoolDown => '-',
        TrialKind::Verify => 'V',
        TrialKind::Spectrum(_) => 's',
    });
    letters.collect()
}

fn outcome(verdict: Verdict) -> Outcome {
    Outcome {
        offered: 100_000,
        sent: 100_000,
        completed: 100_000,
        verdict,
        own_lag_p99_ns: Some(1_000),
        latency_p99_ns: Some(1_000_000),
        is_doubtful: false,
    }
}

/// Missed by a sample that took ten times the limit.
fn missed() -> Verdict {
    let mut latency = durations();
    latency.record_n(20_000_000, 10_000).unwrap();
    "p99<2ms".parse::<Objective>().unwrap().is_met(&Measured {
        latency: &latency,
        lost: 0,
        sent: 10_000,
        faults: 0,
    })
}

#[test]
fn the_knee_of_a_queue_is_found() {
    // Goal: within 2 % of the analytic rate, from start rates below and above it. Method: M/M/1, p99 < 2 ms.
    for start in [1_000.0, 5_000.0, 90_000.0, 3_000_000.0] {
        let mut world = World::new("p99<2ms", 100_000.0);
        let expected = world.rate_at(2e6);
        let (trials, result) = search(settings(start), |trial| world.run(trial));
        let found = result.rate_found.unwrap();
        assert!(found <= expected * 1.001, "{start}: {found} > {expected}");
        assert!(found >= expected / 1.021, "{start}: {found} < {expected}");
        assert_eq!(
            (result.limited_by, result.verified),
            (LimitedBy::Server, true)
        );
        let asked = kinds(&trials);
        assert!(asked.ends_with("-Vsss"), "{asked}");
        assert!(trials.len() < 32, "{asked}");
    }
}

#[test]
fn the_order_is_ramp_bisect_cool_down_verify_spectrum() {
    // Goal: the kinds, rates and lengths of all trials. Method: the sequence of one search, written out.
    let mut world = World::new("p99<2ms", 100_000.0);
    let (trials, result) = search(settings(10_000.0), |trial| world.run(trial));
    let asked = kinds(&trials);
    assert!(asked.starts_with("rrr-b"), "{asked}");
    let rates: Vec<f64> = trials[..3].iter().map(|trial| trial.rate_per_s).collect();
    assert_eq!(rates, [10_000.0, 40_000.0, 160_000.0]);
    let found = result.rate_found.unwrap();
    let last = &trials[trials.len() - 5..];
    assert_eq!(
        (last[0].kind, last[0].rate_per_s),
        (TrialKind::CoolDown, 0.0)
    );
    assert_eq!((last[1].rate_per_s, last[1].seconds), (found, 20.0));
    for (trial, share) in last[2..].iter().zip([0.1, 0.5, 0.9]) {
        assert_eq!(trial.kind, TrialKind::Spectrum(share));
        assert_eq!(trial.rate_per_s, found * share);
    }
    let reasons = result.trials.iter().filter_map(TrialRecord::reason);
    assert!(
        reasons
            .into_iter()
            .all(|reason| reason.contains("times the limit"))
    );
}

#[test]
fn noise_costs_accuracy_and_not_sense() {
    // Goal: a rate near the knee, verified. Method: latencies that scatter by half, 50 seeds.
    for seed in 0..50 {
        let mut world = World::new("p99<2ms", 100_000.0);
        world.noise = 0.5;
        world.random = SplitMix64::new(seed);
        let (low, high) = (world.rate_at(1.2e6), world.rate_at(4.5e6));
        let (_, result) = search(settings(2_000.0), |trial| world.run(trial));
        let found = result.rate_found.unwrap();
        assert!((low / 1.05..high).contains(&found), "seed {seed}: {found}");
        assert!(result.verified, "seed {seed}");
        for record in result.trials {
            let has_failed = matches!(record.judgement, Judgement::Failed(_));
            let is_spectrum = matches!(record.trial.kind, TrialKind::Spectrum(_));
            let is_above = record.trial.rate_per_s > found;
            assert!(
                !has_failed || is_spectrum || is_above,
                "seed {seed}: {record:?}"
            );
        }
    }
}

#[test]
fn an_objective_out_of_reach_is_never_met() {
    // Goal: an end, and no rate. Method: a floor above the limit; a server that answers nothing.
    let mut world = World::new("p99<2ms", 100_000.0);
    world.floor_ns = 5e6;
    let (trials, result) = search(settings(100_000.0), |trial| world.run(trial));
    assert_eq!(
        (result.rate_found, result.limited_by),
        (None, LimitedBy::NeverMet)
    );
    assert!(!result.verified);
    assert_eq!(kinds(&trials), "r-r-r-r-r-r"); // lower, nothing could be shown

    let objective: Objective = "p99<2ms".parse().unwrap();
    let silent = Outcome {
        completed: 0,
        latency_p99_ns: None,
        ..outcome(objective.is_met(&Measured {
            latency: &durations(),
            lost: 0,
            sent: 100_000,
            faults: 0,
        }))
    };
    let (_, result) = search(settings(1_000.0), |_| silent);
    assert_eq!(
        (result.rate_found, result.limited_by),
        (None, LimitedBy::NeverMet)
    );
}

#[test]
fn what_always_holds_is_limited_by_the_highest_rate() {
    // Goal: the allowed rate exactly, verified; an end where none is given. Method: a server without a limit.
    let allowed = SearchSettings {
        max_rate: Some(50_000.0),
        ..settings(1_000.0)
    };
    let (trials, result) = search(allowed, |_| outcome(Verdict::Met));
    assert_eq!(kinds(&trials), "rrrr-Vsss");
    assert_eq!(result.rate_found, Some(50_000.0));
    assert_eq!(
        (result.limited_by, result.verified),
        (LimitedBy::MaxRate, true)
    );
    let (_, result) = search(settings(1_000.0), |_| outcome(Verdict::Met));
    assert_eq!(
        (result.rate_found, result.limited_by),
        (Some(1e9), LimitedBy::MaxRate)
    );
}

#[test]
fn a_generator_that_slips_is_named() {
    // Goal: the server is not blamed. Method: a generator that sends 30,000 per second at most, and one always late.
    let mut world = World::new("p99<2ms", 1e6);
    world.sends = 30_000.0;
    let (_, result) = search(settings(1_000.0), |trial| world.run(trial));
    let found = result.rate_found.unwrap();
    assert!((29_400.0..30_400.0).contains(&found), "{found}");
    assert_eq!(
        (result.limited_by, result.verified),
        (LimitedBy::Generator, true)
    );

    let late = Outcome {
        own_lag_p99_ns: Some(500_000),
        ..outcome(missed())
    };
    let (_, result) = search(settings(1_000.0), |_| late);
    assert_eq!(
        (result.rate_found, result.limited_by),
        (None, LimitedBy::Generator)
    );
    let reason = result.trials[0].reason().unwrap();
    assert!(reason.contains("sent late"), "{reason}");
}

#[test]
fn what_connections_held_back_is_the_servers_doing() {
    // Goal: unsent requests of a punctual generator are not called its slip. Method: outcomes by hand.
    let short = Outcome {
        sent: 60_000,
        ..outcome(missed())
    };
    assert_eq!(short.judge(), Judgement::Failed(LimitedBy::Server));
    let unknown = Outcome {
        own_lag_p99_ns: None,
        ..short
    };
    assert_eq!(unknown.judge(), Judgement::Failed(LimitedBy::Generator));
    let met_late = Outcome {
        own_lag_p99_ns: Some(900_000),
        ..outcome(Verdict::Met)
    };
    assert_eq!(met_late.judge(), Judgement::Held);
}

#[test]
fn a_rate_that_does_not_last_is_stepped_down() {
    // Goal: 2 % less each time until it lasts, and an end when it never does. Method: a server that tires.
    let lasts_below = |limit: f64| {
        move |trial: &Trial| {
            let limit = if trial.kind == TrialKind::Verify {
                limit
            } else {
                50_000.0
            };
            outcome(if trial.rate_per_s < limit {
                Verdict::Met
            } else {
                missed()
            })
        }
    };
    for limit in (42_000..49_000).step_by(250).map(f64::from) {
        let (trials, result) = search(settings(1_000.0), lasts_below(limit));
        let found = result.rate_found.unwrap();
        assert!((limit * 0.979..limit).contains(&found), "{limit}: {found}");
        assert!(
            result.verified && kinds(&trials).contains("-V-V"),
            "{limit}"
        );
        let mut verifications = trials
            .iter()
            .filter(|trial| trial.kind == TrialKind::Verify);
        let last = verifications.next_back().unwrap();
        assert_eq!(
            last.rate_per_s, found,
            "{limit}: a rate that only a short trial held"
        );
    }

    let (trials, result) = search(settings(1_000.0), lasts_below(1.0));
    assert_eq!(kinds(&trials).matches('V').count(), 10);
    assert_eq!(
        result.rate_found,
        Some(32_000.0),
        "the highest that held below all that failed"
    );
    assert_eq!(
        (result.limited_by, result.verified),
        (LimitedBy::Server, false)
    );
}

#[test]
fn doubtful_trials_are_repeated_once() {
    // Goal: a disturbed failure does not count, and a host that is never quiet does not keep the search from ending.
    // Method: the first trial disturbed; then every one.
    let mut is_first = true;
    let (_, result) = search(settings(1_000.0), |trial| {
        let is_disturbed = std::mem::replace(&mut is_first, false);
        let is_fine = trial.rate_per_s < 50_000.0 && !is_disturbed;
        Outcome {
            is_doubtful: is_disturbed,
            ..outcome(if is_fine { Verdict::Met } else { missed() })
        }
    });
    assert!((49_000.0..50_000.0).contains(&result.rate_found.unwrap()));
    assert!(result.trials[0].is_repeated && !result.trials[1].is_repeated);
    assert!(
        result.trials[0]
            .reason()
            .unwrap()
            .ends_with("disturbed, tried again")
    );
    assert_eq!(result.trials[0].trial, result.trials[1].trial);

    let noisy = Outcome {
        is_doubtful: true,
        ..outcome(Verdict::Met)
    };
    let (_, result) = search(settings(1_000.0), |_| noisy);
    assert_eq!(result.rate_found, Some(1e9));
}

#[test]
fn rates_too_low_to_be_judged_are_passed_over() {
    // Goal: trials grow for the sake of samples, within bounds, and untold ones are neither held nor failed.
    // Method: p99.9 takes 100,000 samples; from 100 per second.
    let settings = SearchSettings {
        samples_needed: 100_000,
        ..SearchSettings::new(100.0)
    };
    let untold = "p99.9<2ms".parse::<Objective>().unwrap().is_met(&Measured {
        latency: &durations(),
        lost: 0,
        sent: 0,
        faults: 0,
    });
    let (trials, result) = search(settings, |trial| {
        let sent = (trial.rate_per_s * trial.seconds) as u64;
        let verdict = match trial.rate_per_s {
            _ if sent < 100_000 => untold,
            rate if rate < 7_000.0 => Verdict::Met,
            _ => missed(),
        };
        Outcome {
            offered: sent,
            sent,
            completed: sent,
            ..outcome(verdict)
        }
    });
    assert_eq!(trials[0].seconds, 50.0);
    assert_eq!(result.trials[0].judgement, Judgement::Untold);
    let found = result.rate_found.unwrap();
    assert!((6_800.0..7_000.0).contains(&found), "{found}");
    assert!(result.verified);
}

#[test]
fn the_ramp_down_ends_where_nothing_could_be_shown() {
    // Goal: no trials that take long and cannot hold. Method: p99 takes 10,000 samples, a trial takes 30 seconds at the
    // most, and every rate fails.
    let settings = SearchSettings {
        samples_needed: 10_000,
        trial_seconds: 3.0,
        ..SearchSettings::new(1_000.0)
    };
    let (trials, result) = search(settings, |_| outcome(missed()));
    let rates: Vec<u64> = trials
        .iter()
        .filter(|trial| trial.kind == TrialKind::Ramp)
        .map(|trial| trial.rate_per_s.round() as u64)
        .collect();
    assert_eq!(rates, [1_000, 367]);
    assert_eq!(result.limited_by, LimitedBy::NeverMet);
}

#[test]
fn what_cannot_be_judged_is_gone_up_from() {
    // Goal: a rate that holds is found between one that is too low to be judged and one that fails; below the middle of
    // the two nothing can be judged either.
    let untold = "p99<2ms".parse::<Objective>().unwrap().is_met(&Measured {
        latency: &durations(),
        lost: 0,
        sent: 0,
        faults: 0,
    });
    let settings = SearchSettings::new(100.0);
    let (_, result) = search(settings, |trial| match trial.rate_per_s {
        rate if rate < 250.0 => Outcome {
            offered: 1_000,
            sent: 1_000,
            completed: 1_000,
            ..outcome(untold)
        },
        rate if rate < 300.0 => outcome(Verdict::Met),
        _ => outcome(missed()),
    });
    let found = result.rate_found.unwrap_or_else(|| panic!("{result:?}"));
    assert!((290.0..300.0).contains(&found), "{found}");
}

#[test]
fn settings_out_of_range_do_no_harm() {
    // Goal: an end and no odd rates. Method: zero, endless and no numbers.
    for odd in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        let settings = SearchSettings {
            start_rate: odd,
            max_rate: Some(odd),
            factor: odd,
            resolution: odd,
            trial_seconds: odd,
            verify_seconds: odd,
            samples_needed: u64::MAX,
        };
        for verdict in [Verdict::Met, missed()] {
            let (trials, _) = search(settings, |_| outcome(verdict));
            let is_sane = |trial: &Trial| trial.rate_per_s.is_finite() && trial.seconds.is_finite();
            assert!(trials.iter().all(is_sane), "{trials:?}");
        }
    }
    let mut search = Search::new(settings(1.0));
    assert_eq!(search.result().rate_found, None);
    while search.next().is_some() {
        search.tell(outcome(missed()));
    }
    let before = search.result();
    search.tell(outcome(Verdict::Met));
    assert_eq!(search.result(), before);
}
