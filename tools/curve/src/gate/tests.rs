//! Tests of the gate.

use super::*;
use crate::points::tests::{head, point};
use crate::points::{Doubt, Outcome};
use polyloop_measure::host::Scratch;

/// A result in which our echo costs so many times what the bare loop does, round by round.
fn result(scratch: &Scratch, times: &[f64]) -> Points {
    let mut points = Points::open(scratch.path(), head()).unwrap();
    for (round, times) in (0..).zip(times) {
        for connections in ["64", "1000"] {
            for (subject, us) in [(SUBJECT, 5.0 * times), (BESIDE, 5.0)] {
                let settings = [("loops", "1"), ("connections", connections)];
                let mut point = point(subject, &settings, round);
                if let Outcome::Measured(measured) = &mut point.outcome {
                    // What happens to a round happens to both of its sides.
                    measured.server_us = Some(us * (1.0 + f64::from(round)));
                }
                points.add(point).unwrap();
            }
        }
    }
    points
}

fn baseline(low: f64, ratio: f64, high: f64) -> Baseline {
    let mut text = head_of_file();
    for connections in CONNECTIONS {
        let _ = write!(
            text,
            "[[point]]\nconnections = {connections}\nratio = {ratio}\nlow = {low}\nhigh = {high}\n"
        );
    }
    Baseline::parse(&text).unwrap()
}

fn head_of_file() -> String {
    format!("format = \"{FORMAT}\"\nsubject = \"{SUBJECT}\"\nbeside = \"{BESIDE}\"\n")
}

fn verdict_of(times: &[f64], baseline: &Baseline) -> Verdict {
    let scratch = Scratch::new().unwrap();
    verdict(&judge(&result(&scratch, times), baseline, LIMIT_PERCENT).unwrap())
}

fn around(centre: f64, spread: f64) -> Vec<f64> {
    (-5..=5)
        .map(|step| centre * (1.0 + spread * f64::from(step) / 5.0))
        .collect()
}

#[test]
fn a_loss_fails_and_the_same_again_passes() {
    // Goal: each verdict for what it stands for; by ratios made for it beside a sharp baseline.
    let sharp = baseline(0.998, 1.0, 1.002);
    for (centre, spread, expected) in [
        (1.0, 0.01, Verdict::Passed),
        (0.9, 0.01, Verdict::Passed),
        (1.02, 0.005, Verdict::Passed),
        (1.1, 0.01, Verdict::Failed),
        // Significantly more, by a median above the limit, though the interval reaches below the limit.
        (1.035, 0.02, Verdict::Failed),
        (1.02, 0.04, Verdict::Undecided),
        (1.05, 0.3, Verdict::Undecided),
    ] {
        let found = verdict_of(&around(centre, spread), &sharp);
        assert_eq!(found, expected, "{centre} {spread}");
    }
}

#[test]
fn a_vague_baseline_gives_no_sharp_verdict() {
    // Goal: the uncertainty of what was committed counts too; by the same 5 % more beside a sharp and a vague one.
    let now = around(1.05, 0.005);
    assert_eq!(
        verdict_of(&now, &baseline(0.99, 1.0, 1.01)),
        Verdict::Failed
    );
    assert_eq!(
        verdict_of(&now, &baseline(0.9, 1.0, 1.1)),
        Verdict::Undecided
    );
    let same = around(1.0, 0.005);
    assert_eq!(
        verdict_of(&same, &baseline(0.9, 1.0, 1.1)),
        Verdict::Undecided
    );
}

#[test]
fn the_interval_of_a_loss_is_that_of_both() {
    // Goal: equal distances add up in squares, each end with the other's opposite end; by a case worked out by hand.
    let now = Ratio {
        pairs: 9,
        median: 1.1,
        low: 1.1 / 1.03,
        high: 1.1 * 1.04,
    };
    let then = Entry {
        connections: 64,
        ratio: 1.0,
        low: 1.0 / 1.03,
        high: 1.04,
    };
    let loss = Loss::new(&now, &then);
    let both = 1.04_f64.ln().hypot(1.03_f64.ln()).exp();
    assert!((loss.times - 1.1).abs() < 1e-12);
    assert!(
        (loss.low - 1.1 / both).abs() < 1e-12 && (loss.high - 1.1 * both).abs() < 1e-12,
        "{loss:?}"
    );
}

#[test]
fn few_or_doubted_rounds_decide_nothing() {
    // Goal: five rounds and doubted ones are no evidence, whatever they say, and make no baseline; by a tenfold cost.
    let sharp = baseline(0.998, 1.0, 1.002);
    assert_eq!(verdict_of(&[10.0; 5], &sharp), Verdict::Undecided);
    assert_eq!(verdict_of(&[10.0; 6], &sharp), Verdict::Failed);
    let scratch = Scratch::new().unwrap();
    let mut points = result(&scratch, &[10.0; 6]);
    for point in points
        .all
        .iter_mut()
        .filter(|point| point.round > 0 && point.subject == BESIDE)
    {
        if let Outcome::Measured(measured) = &mut point.outcome {
            measured.doubts.push(Doubt {
                code: "steal".into(),
                text: String::new(),
                is_serious: true,
            });
        }
    }
    let rows = judge(&points, &sharp, LIMIT_PERCENT).unwrap();
    assert_eq!(
        (rows[0].now.unwrap().pairs, verdict(&rows)),
        (1, Verdict::Undecided)
    );
    let said = text(&rows, LIMIT_PERCENT);
    assert!(
        said.contains("takes 6 rounds") && said.ends_with("bench-gate: undecided\n"),
        "{said}"
    );
    assert!(matches!(
        update(&points),
        Err(GateError::TooVague { rounds: 1, .. })
    ));
}

#[test]
fn a_side_that_was_not_measured_is_an_error() {
    // Goal: a server that never started passes no gate; by a result without the bare loop, and one of other settings.
    let scratch = Scratch::new().unwrap();
    let mut points = result(&scratch, &[1.0; 6]);
    points.all.retain(|point| point.subject == SUBJECT);
    let error = judge(&points, &baseline(0.9, 1.0, 1.1), LIMIT_PERCENT).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("bare-mio connections=64 loops=1"),
        "{error}"
    );
    points.all.clear();
    assert!(update(&points).is_err());
}

#[test]
fn an_update_is_read_back_and_passes_itself() {
    // Goal: what is written is a baseline, in which nothing but ratios depends on the machine; by writing one.
    let scratch = Scratch::new().unwrap();
    let mut points = result(&scratch, &around(1.01, 0.005));
    points.head.machine.processor = "odd\nname = 1".into();
    let text = update(&points).unwrap();
    let written = Baseline::parse(&text).unwrap();
    assert_eq!(written.entries.len(), CONNECTIONS.len());
    assert_eq!(written.entries[0].ratio, 1.01);
    assert!(
        text.contains("kernel") && text.contains("# 11 rounds"),
        "{text}"
    );
    let rows = judge(&points, &written, LIMIT_PERCENT).unwrap();
    assert_eq!(
        verdict(&rows),
        Verdict::Passed,
        "{}",
        self::text(&rows, LIMIT_PERCENT)
    );
}

#[test]
fn a_wrong_baseline_is_told() {
    // Goal: each mistake is named, and the committed file has none; by a text each.
    let good = head_of_file()
        + "[[point]]\nconnections = 64\nratio = 1.0\nlow = 0.9\nhigh = 1.1\n\
           [[point]]\nconnections = 1000\nratio = 1.2\nlow = 0.9\nhigh = 1.3\n";
    Baseline::parse(&good).unwrap();
    for (from, to, what) in [
        ("polyloop-gate/1", "polyloop-gate/9", "polyloop-gate/9"),
        ("bare-mio", "redis", "beside"),
        ("connections = 1000", "connections = 64", "twice"),
        (
            "connections = 1000",
            "connections = 999",
            "1000 connections: it is missing",
        ),
        ("low = 0.9", "low = 1.05", "low <= ratio"),
        ("low = 0.9", "low = -1.0", "low <= ratio"),
        ("high = 1.3", "high = inf", "low <= ratio"),
        ("high = 1.3", "height = 1.3", "height"),
        ("ratio = 1.2", "ratio = ", "line 11"),
    ] {
        assert!(good.contains(from), "{from}");
        let error = Baseline::parse(&good.replacen(from, to, 1))
            .unwrap_err()
            .to_string();
        assert!(error.contains(what), "{to}: {error}");
    }
    let committed =
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../benches/baseline.toml");
    Baseline::parse(&std::fs::read_to_string(committed).unwrap()).unwrap();
}
