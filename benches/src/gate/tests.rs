//! Tests of the gate.

use super::*;
use crate::measure::Latency;

/// A result in which our echo costs so many times what the bare loop does, round by round.
fn result(times: &[f64]) -> Measured {
    let mut cells = Vec::new();
    for (round, times) in times.iter().enumerate() {
        for connections in CONNECTIONS {
            for (subject, ns) in [(SUBJECT, 5e3 * times), (BESIDE, 5e3)] {
                // What happens to a round happens to both of its sides.
                let ns = ns * (1.0 + round as f64);
                cells.push(cell(subject, round, connections, ns));
            }
        }
    }
    Measured {
        benchmark: BENCHMARK.to_owned(),
        started_s: 0,
        commit: None,
        machine: Machine::default(),
        cells,
        settings: Settings {
            message_bytes: MESSAGE_BYTES,
        },
        warnings: Vec::new(),
    }
}

fn cell(subject: &str, round: usize, connections: usize, server_cpu_ns: f64) -> Cell {
    let none = Latency {
        p50_us: None,
        p99_us: None,
        p999_us: None,
        max_us: None,
    };
    Cell {
        subject: subject.to_owned(),
        round,
        connections,
        requests: 1,
        seconds: 1.0,
        requests_per_second: 1.0,
        server_cpu_ns,
        machine_cpu_ns: 0.0,
        load_cpu_ns: 0.0,
        server_cores: 1.0,
        load_cores: 1.0,
        backend_cores: 0.0,
        other_cores: 0.0,
        sleeps: 0.0,
        forced_switches: 0.0,
        steal_share: 0.0,
        latency: none,
        lag: none,
        doubts: Vec::new(),
    }
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
    verdict(&judge(&result(times), baseline, LIMIT_PERCENT).unwrap())
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
    let mut measured = result(&[10.0; 6]);
    for cell in &mut measured.cells {
        if cell.round > 0 && cell.subject == BESIDE {
            cell.doubts.push("steal".to_owned());
        }
    }
    let rows = judge(&measured, &sharp, LIMIT_PERCENT).unwrap();
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
        update(&measured),
        Err(GateError::TooVague { rounds: 1, .. })
    ));
}

#[test]
fn a_side_that_was_not_measured_is_an_error() {
    // Goal: a server that never started passes no gate; by a result without the bare loop, and an empty one.
    let mut measured = result(&[1.0; 6]);
    measured.cells.retain(|cell| cell.subject == SUBJECT);
    let error = judge(&measured, &baseline(0.9, 1.0, 1.1), LIMIT_PERCENT).unwrap_err();
    let words = "`bare-mio` at 64 connections";
    assert!(error.to_string().contains(words), "{error}");
    measured.cells.clear();
    assert!(update(&measured).is_err());
}

#[test]
fn an_update_is_read_back_and_passes_itself() {
    // Goal: what is written is a baseline, in which nothing but ratios depends on the machine; by writing one.
    let mut measured = result(&around(1.01, 0.005));
    measured.machine.processor = "odd\nname = 1".into();
    let text = update(&measured).unwrap();
    let written = Baseline::parse(&text).unwrap();
    assert_eq!(written.entries.len(), CONNECTIONS.len());
    assert_eq!(written.entries[0].ratio, 1.01);
    assert!(
        text.contains("kernel") && text.contains("# 11 rounds"),
        "{text}"
    );
    let rows = judge(&measured, &written, LIMIT_PERCENT).unwrap();
    assert_eq!(
        verdict(&rows),
        Verdict::Passed,
        "{}",
        self::text(&rows, LIMIT_PERCENT)
    );
}

#[test]
fn a_baseline_that_would_not_pass_itself_is_refused() {
    // Goal: no baseline by which an unchanged program comes out undecided; by the same ratios, spread more widely.
    update(&result(&around(1.0, 0.005))).unwrap();
    let wide = update(&result(&around(1.0, 0.2))).unwrap_err();
    assert!(matches!(wide, GateError::TooWide { .. }), "{wide}");
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
    let committed = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("baseline.toml");
    Baseline::parse(&std::fs::read_to_string(committed).unwrap()).unwrap();
}
