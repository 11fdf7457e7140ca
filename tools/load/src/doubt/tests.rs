//! Each doubt by a case worked out by hand.

use std::collections::BTreeSet;

use super::*;
use crate::result::Settled;

fn every_doubt() -> Vec<Doubt> {
    vec![
        Doubt::GeneratorSaturated { busy_share: 0.97 },
        Doubt::ScheduleSlipped {
            sent: 9_000,
            offered: 10_000,
        },
        Doubt::LateSends {
            own_lag_p99_ns: 300_000,
            latency_p99_ns: 1_200_000,
        },
        Doubt::FewerConnections {
            asked: 20_000,
            open: 19_000,
            reasons: vec![("connect EMFILE".to_owned(), 1_000)],
        },
        Doubt::TooFewSamples {
            quantile: 0.999,
            have: 50_000,
            need: 100_000,
        },
        Doubt::Steal { share: 0.034 },
        Doubt::FirstRunOutlier { ratio: 1.7 },
        Doubt::UnstableWindows { variation: 0.21 },
        Doubt::SharedCores { cores: vec![0, 1] },
        Doubt::PacedCongestion {
            name: "bbr".to_owned(),
        },
        Doubt::Unanswered { count: 12 },
        Doubt::Faults {
            total: 7,
            sent: 700,
        },
        Doubt::Interrupted,
        Doubt::OutputLost {
            path: "run.json".to_owned(),
            reason: "no space left on device".to_owned(),
        },
        Doubt::Retransmits { count: 12 },
        Doubt::NeverSteady {
            seconds: 10.0,
            variation: Some(0.21),
        },
    ]
}

#[test]
fn every_doubt_has_a_code_figures_and_a_way_out() {
    // Goal: no doubt without words, no code twice, none with odd letters. Method: one of each, as it is printed.
    let doubts = every_doubt();
    let codes: BTreeSet<&str> = doubts.iter().map(Doubt::code).collect();
    assert_eq!(codes.len(), doubts.len());
    for doubt in &doubts {
        let warning = Warning::from(doubt);
        let is_kebab = |letter: char| letter.is_ascii_lowercase() || letter == '-';
        assert!(warning.code.chars().all(is_kebab), "{}", warning.code);
        assert!(
            warning.text.len() > 15 && warning.advice.len() > 15,
            "{warning:?}"
        );
    }
    let texts: Vec<String> = doubts.iter().map(Doubt::text).collect();
    assert_eq!(
        texts[1],
        "9,000 of 10,000 planned requests were sent (90 %)"
    );
    assert_eq!(
        texts[2],
        "the generator sent late: p99 300 µs, where the p99 of the latency is 1.20 ms"
    );
    assert_eq!(
        texts[3],
        "19,000 of 20,000 connections were open: connect EMFILE (1,000)"
    );
    assert!(doubts[3].advice().contains("ulimit -n"));
    assert_eq!(
        texts[4],
        "p99.9 is not told: it takes 100,000 samples, and there were 50,000"
    );
    assert_eq!(texts[8], "generator and server may both run on core 0, 1");
    assert_eq!(texts[11], "7 faults in 700 requests sent (1.0 %)");
    assert_eq!(
        texts[15],
        "when the warm-up had taken 10.0 s, the rate still varied by 21 %"
    );
}

#[test]
fn severity_follows_the_damage() {
    // Goal: notes leave the figures standing. Method: both sides of where a few faults become many, and the extremes.
    let faults = |total| Doubt::Faults {
        total,
        sent: 10_000,
    };
    assert_eq!(faults(10).severity(), Severity::Note);
    assert_eq!(faults(11).severity(), Severity::Warning);
    assert_eq!(
        Doubt::Faults { total: 1, sent: 0 }.severity(),
        Severity::Warning
    );
    assert_eq!(every_doubt()[4].severity(), Severity::Note);
    assert_eq!(every_doubt()[13].severity(), Severity::Error);
}

#[test]
fn each_threshold_lies_where_it_says() {
    // Goal: no doubt at the threshold, one beyond it. Method: both sides of each, and facts that are not known.
    assert_eq!(judge::generator_saturated(0.90), None);
    assert!(judge::generator_saturated(0.91).is_some());
    assert_eq!(judge::schedule_slipped(990, 1_000), None);
    assert!(judge::schedule_slipped(989, 1_000).is_some());
    assert_eq!(judge::schedule_slipped(0, 0), None);
    assert_eq!(judge::late_sends(Some(100), Some(1_000)), None);
    assert!(judge::late_sends(Some(101), Some(1_000)).is_some());
    assert_eq!(judge::late_sends(None, Some(1_000)), None);
    assert_eq!(judge::late_sends(Some(101), None), None);
    let settled = |is_steady| Settled {
        is_steady,
        variation: None,
    };
    assert_eq!(judge::never_steady(settled(true), 2.0), None);
    let silent = judge::never_steady(settled(false), 2.0).unwrap().text();
    assert!(
        silent.ends_with("nothing had been done for three windows"),
        "{silent}"
    );
    assert_eq!(judge::steal(0.01), None);
    assert!(judge::steal(0.011).is_some());
    // A connection that sends fifty times a second has ten requests held up by one loss.
    assert_eq!(judge::retransmits(100, 1_000_000, 50.0), None);
    assert!(judge::retransmits(101, 1_000_000, 50.0).is_some());
    assert_eq!(judge::retransmits(10, 10_000, 0.1), None);
    assert!(judge::retransmits(11, 10_000, 0.1).is_some());
    assert_eq!(judge::retransmits(5, 0, 0.0), None);
    assert_eq!(judge::fewer_connections(10, 10, &[]), None);
    assert!(judge::fewer_connections(10, 9, &[]).is_some());
    assert_eq!(judge::unanswered(0), None);
    assert!(judge::unanswered(1).is_some());
    assert_eq!(judge::faults(0, 10), None);
    assert!(judge::faults(1, 0).is_some());
}

#[test]
fn a_percentile_needs_a_hundred_samples_beyond_it() {
    // Goal: the same border as the histograms', for round and odd quantiles. Method: both sides of each border.
    let needs = [0.5, 0.9, 0.99, 0.999, 0.9999].map(judge::samples_needed);
    assert_eq!(needs, [200, 1_000, 10_000, 100_000, 1_000_000]);
    assert_eq!(judge::samples_needed(0.75), 400);
    assert_eq!(judge::too_few_samples(&[0.5, 0.99], 10_000), None);
    assert_eq!(judge::too_few_samples(&[], 0), None);
    let doubt = judge::too_few_samples(&[0.999, 0.99, 0.5], 9_999);
    let expected = Doubt::TooFewSamples {
        quantile: 0.99,
        have: 9_999,
        need: 10_000,
    };
    assert_eq!(doubt, Some(expected));
}

#[test]
fn a_first_run_unlike_the_others_is_told() {
    // Goal: a cold start is seen, ordinary scatter is not. Method: runs by hand, alike, scattered and too few.
    assert!(judge::first_run_outlier(&[2.0, 1.0, 1.01, 0.99, 1.0]).is_some());
    assert!(judge::first_run_outlier(&[0.5, 1.0, 1.0, 1.0]).is_some());
    assert_eq!(judge::first_run_outlier(&[1.04, 1.0, 1.0, 1.0]), None);
    assert_eq!(judge::first_run_outlier(&[1.3, 0.8, 1.0, 1.2, 1.1]), None);
    assert_eq!(judge::first_run_outlier(&[2.0, 1.0, 1.0]), None);
    assert_eq!(judge::first_run_outlier(&[]), None);
}

#[test]
fn windows_may_vary_by_chance() {
    // Goal: a stall is told, arrivals at random are not. Method: many requests with a stall; few with their own scatter.
    let doubt = judge::unstable_windows(&[1_000, 1_000, 1_000, 400, 1_000, 1_000]);
    assert!(matches!(doubt, Some(Doubt::UnstableWindows { variation }) if variation > 0.2));
    assert_eq!(judge::unstable_windows(&[9, 12, 10, 7, 13, 9]), None);
    assert_eq!(
        judge::unstable_windows(&[1_000, 1_010, 990, 1_020, 980]),
        None
    );
    assert_eq!(
        judge::unstable_windows(&[1_000, 1, 1_000, 1]),
        None,
        "too few"
    );
    assert_eq!(judge::unstable_windows(&[0; 8]), None);
}

#[test]
fn cores_and_congestion_are_looked_up() {
    // Goal: only what both may use, and only what paces. Method: sets that overlap or do not; names.
    let shared = judge::shared_cores(&[3, 1, 1, 2], &[1, 3, 5]);
    assert_eq!(shared, Some(Doubt::SharedCores { cores: vec![1, 3] }));
    assert_eq!(judge::shared_cores(&[0], &[1]), None);
    assert_eq!(judge::paced_congestion("cubic"), None);
    assert!(judge::paced_congestion("bbr").is_some());
    assert!(judge::paced_congestion("bbr2").is_some());
}
