//! Tests of [`super`]: played scenes in virtual milliseconds, and properties over random ones.

use super::*;
use proptest::prelude::*;

const MS: u64 = 1_000_000;

fn at_work(turn: u64, dispatch: u64) -> Sample {
    Sample {
        turn,
        phase: 4,
        dispatch,
        idle: false,
    }
}

fn detector() -> StallDetector {
    StallDetector::new(2, THRESHOLD_DEFAULT)
}

/// Observes loop 0 every 10 ms from `from` until before `to` and collects the reports with their times in ms.
fn watch(detector: &mut StallDetector, from: u64, to: u64, sample: Sample) -> Vec<(u64, Report)> {
    (from..to)
        .step_by(10)
        .filter_map(|ms| {
            detector
                .observe(0, ms * MS, sample)
                .map(|report| (ms, report))
        })
        .collect()
}

#[test]
fn a_stuck_loop_is_reported_at_doubling_ages_and_recovers() {
    // Goal: reports at 100, 200, 400 and 800 ms while stuck, then the end. Method: one stall of a second.
    let mut detector = detector();
    let reports = watch(&mut detector, 0, 1000, at_work(7, 3));
    let ages: Vec<u64> = reports.iter().map(|(ms, _)| *ms).collect();
    assert_eq!(ages, [100, 200, 400, 800]);
    let expected = Stuck {
        sample: at_work(7, 3),
        since: 0,
        dispatch_since: 0,
        stuck_for: Duration::from_millis(400),
        count: 3,
        suppressed: 0,
    };
    assert_eq!(reports[2].1, Report::Stuck(expected));
    assert!(detector.is_stuck(0) && !detector.is_stuck(1));
    let end = detector.observe(0, 1000 * MS, at_work(8, 3));
    let stuck_for = Duration::from_secs(1);
    assert_eq!(
        end,
        Some(Report::Recovered {
            since: 0,
            stuck_for,
            count: 4
        })
    );
    assert!(!detector.is_stuck(0));
    assert_eq!((detector.stalls(0), detector.stalls(1)), (1, 0));
}

#[test]
fn idle_and_turning_loops_are_left_alone() {
    // Goal: no report without a stall, and none blames time spent idle. Method: a long wait, many turns, work right
    // after a wait with the same turn number.
    let mut detector = detector();
    let idle = Sample {
        idle: true,
        ..at_work(1, 0)
    };
    assert_eq!(watch(&mut detector, 0, 5000, idle), []);
    assert_eq!(watch(&mut detector, 5000, 5090, at_work(1, 0)), []);
    for turn in 2..200 {
        let start = 5000 + turn * 90;
        assert_eq!(
            watch(&mut detector, start, start + 90, at_work(turn, 0)),
            []
        );
    }
    assert_eq!(detector.stalls(0), 0);
    let stuck = watch(&mut detector, 90_000, 90_110, at_work(500, 0));
    assert_eq!(stuck.len(), 1);
    let end = detector.observe(
        0,
        90_110 * MS,
        Sample {
            idle: true,
            ..at_work(500, 0)
        },
    );
    assert!(
        matches!(end, Some(Report::Recovered { .. })),
        "going idle ends a stall"
    );
}

#[test]
fn one_long_dispatch_is_told_from_many() {
    // Goal: `dispatch_since` tells which it was. Method: a dispatch that changes 60 ms into the turn.
    let mut detector = detector();
    assert_eq!(watch(&mut detector, 0, 60, at_work(1, 10)), []);
    let reports = watch(&mut detector, 60, 110, at_work(1, 11));
    let [(100, Report::Stuck(stuck))] = reports[..] else {
        panic!("{reports:?}")
    };
    assert_eq!((stuck.since, stuck.dispatch_since), (0, 60 * MS));
}

#[test]
fn reports_are_limited_and_the_rest_is_counted() {
    // Goal: five reports a minute, the next one says how many were left out, untold stalls end untold. Method: a
    // stall of 110 ms every 200 ms for 70 seconds.
    let mut detector = detector();
    let mut stuck = Vec::new();
    let mut recovered = 0;
    for turn in 0..350 {
        let start = turn * 200;
        for (ms, report) in watch(&mut detector, start, start + 110, at_work(turn * 2, 0)) {
            match report {
                Report::Stuck(report) => stuck.push((ms, report.suppressed)),
                Report::Recovered { .. } => panic!("told at the wrong place"),
            }
        }
        recovered += watch(
            &mut detector,
            start + 110,
            start + 120,
            at_work(turn * 2 + 1, 0),
        )
        .len();
    }
    assert_eq!(
        stuck[..5],
        [(100, 0), (300, 0), (500, 0), (700, 0), (900, 0)]
    );
    assert_eq!(stuck[5..7], [(60_100, 295), (60_300, 0)]);
    assert_eq!((stuck.len(), recovered), (10, 10));
    assert_eq!(detector.stalls(0), 350);
}

#[test]
fn a_late_watchdog_and_odd_clocks_are_survived() {
    // Goal: one report for several missed doublings; no overflow, no panic. Method: jumps of the clock, a zero threshold.
    let mut detector = detector();
    assert_eq!(detector.observe(0, 50 * MS, at_work(1, 0)), None);
    assert!(detector.observe(0, 900 * MS, at_work(1, 0)).is_some());
    assert_eq!(
        detector.observe(0, 1600 * MS, at_work(1, 0)),
        None,
        "next at 1600 ms of age"
    );
    assert_eq!(detector.observe(0, 0, at_work(1, 0)), None);
    assert!(detector.observe(0, u64::MAX, at_work(1, 0)).is_some());
    let mut zero = StallDetector::new(1, Duration::ZERO);
    assert_eq!(zero.observe(0, 0, at_work(1, 0)), None);
    assert_eq!(zero.observe(0, 0, at_work(1, 0)), None);
    assert!(zero.observe(0, 1, at_work(1, 0)).is_some());
}

proptest! {
    #[test]
    fn reports_are_true_and_few(
        steps in proptest::collection::vec((1_u64..80, 0_u8..8, any::<bool>()), 1..400),
    ) {
        // Goal: never a report below the threshold, never more than five in 60 s, each Recovered after a Stuck.
        // Method: random sampling intervals, turns and waits, checked against a plain model.
        let mut detector = detector();
        let (mut now, mut turn, mut since) = (0, 0, None);
        let mut told_at: Vec<u64> = Vec::new();
        let mut told = false;
        for (gap, advance, idle) in steps {
            now += gap * MS;
            let idle = idle && advance == 0;
            let advanced = advance == 0;
            turn += u64::from(advanced);
            if idle { since = None } else if advanced || since.is_none() { since = Some(now) }
            match detector.observe(0, now, Sample { turn, phase: 0, dispatch: 0, idle }) {
                Some(Report::Stuck(stuck)) => {
                    prop_assert_eq!(Some(stuck.since), since);
                    prop_assert!(now - stuck.since >= 100 * MS);
                    told_at.push(now);
                    let recent = told_at.iter().filter(|at| now - **at < 60_000 * MS).count();
                    prop_assert!(recent <= REPORTS_PER_MINUTE);
                    told = true;
                }
                Some(Report::Recovered { .. }) => prop_assert!(std::mem::take(&mut told)),
                None => prop_assert!(!(told && advanced), "an end was not told"),
            }
        }
    }
}
