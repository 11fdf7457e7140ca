//! Results go through a file unchanged, and other files are told apart. Also the small run that other tests print.

use std::path::Path;

use super::*;
use crate::tally::{Fault, Interval};

/// A run small enough to check by hand: two windows of a second with 20,000 requests each, all of 100 µs but for 250 of
/// 2 ms in each window.
pub(crate) fn small_run() -> RunResult {
    let command = ["polyloop-load", "server:7000", "--rate", "20k/s"];
    let mut run = RunResult::new(
        Mode::Open,
        command.iter().map(|&word| word.to_owned()).collect(),
        "2026-02-03T04:05:06Z".to_owned(),
        Machine::default(),
    );
    run.seed = 7;
    run.settings = vec![
        Setting::new("rate", "20k/s", Origin::Flag),
        Setting::new("connections", 100, Origin::Default),
    ];
    run.stages = vec![small_stage()];
    run.is_complete = true;
    run
}

pub(crate) fn small_head() -> StageHead {
    StageHead {
        id: 1,
        name: "measure".to_owned(),
        kind: StageKind::Measure,
        rate_planned: Some(20_000.0),
    }
}

pub(crate) const SMALL_BESIDE: Beside = Beside {
    server_cpu_ns: Some(60_000_000),
    busiest_loop_share: None,
    machine_busy_share: 0.25,
    machine_steal_share: 0.0,
    retransmits: Some(0),
};

/// The second `number` of the small run.
pub(crate) fn small_interval(number: u64) -> Interval {
    let mut interval = Interval::new(1, 0, number * 1_000_000_000);
    interval.until_ns = interval.from_ns + 1_000_000_000;
    interval.open = 100;
    interval.cpu_ns = 50_000_000;
    interval.counts.offered = 20_000;
    interval.counts.sent = 20_000;
    interval.counts.completed = 19_999;
    interval.counts.unanswered = 1;
    interval.counts.bytes_out = 20_000 * 64;
    interval.counts.bytes_in = 19_999 * 64;
    interval.counts.fault(Fault::Broken(104));
    interval.latency.record_n(100_000, 19_749).unwrap();
    interval.latency.record_n(2_000_000, 250).unwrap();
    interval.uncorrected.record_n(90_000, 19_999).unwrap();
    interval.lag.record_n(10_000, 20_000).unwrap();
    interval.own_lag.record_n(1_000, 20_000).unwrap();
    interval
}

pub(crate) fn small_stage() -> StageResult {
    let windows =
        [5, 6].map(|second| WindowRow::of(&small_interval(second), &SMALL_BESIDE, 5_000_000_000));
    let mut total = small_interval(5);
    total.add(&small_interval(6));
    let beside = Beside {
        server_cpu_ns: Some(120_000_000),
        ..SMALL_BESIDE
    };
    StageResult::of(small_head(), &total, &beside, windows.to_vec())
}

fn parse(text: &str) -> Result<RunResult, ResultError> {
    RunResult::parse(text, Path::new("a.json"))
}

#[test]
fn a_result_comes_back_as_it_was() {
    // Goal: no figure changes on the way through a file. Method: a run with every optional part, written and read.
    let mut run = small_run();
    run.commit = Some("abc".to_owned());
    run.search = Some(SearchResult {
        objective: "p99<2ms".to_owned(),
        rate_found: Some(84_000.0),
        limited_by: Some("p99".to_owned()),
        verified: true,
        trials: vec![Trial {
            stage: 1,
            rate_planned: 20_000.0,
            rate_completed: 19_999.0,
            value_us: None,
            passed: false,
            reason: Some("sent too little".to_owned()),
        }],
    });
    run.warnings = vec![Warning::new(
        "steal",
        Severity::Warning,
        "a".to_owned(),
        "b".to_owned(),
    )];
    assert_eq!(parse(&run.to_json()).unwrap(), run);
}

#[test]
fn a_stage_is_summed_up() {
    // Goal: rates, shares per request and windows are what a hand calculation says. Method: the small stage.
    let stage = small_stage();
    assert_eq!(stage.seconds, 2.0);
    assert_eq!(
        (stage.rates.offered, stage.rates.completed),
        (20_000.0, 19_999.0)
    );
    assert_eq!(stage.connections, 100);
    assert_eq!(stage.counts.faults["broken ECONNRESET"], 2);
    // 100 ms and 120 ms over 39,998 requests.
    assert_eq!(stage.load_cpu_us_per_request, Some(2.5));
    assert_eq!(stage.server_cpu_us_per_request, Some(3.0));
    // 39,998 samples have 399 beyond the 99th percentile and 39 beyond the 99.9th.
    assert!(stage.latency.p99_us.is_some() && stage.latency.p99_9_us.is_none());
    assert_eq!(stage.windows[1].t_s, 1.0);
    // A window of 19,999 has 19.9 beyond the 99.9th, which is enough for a window.
    assert!(stage.windows[0].p99_9_us.is_some());
}

#[test]
fn fields_of_a_younger_program_are_left_alone() {
    // Goal: an added field or kind of stage does not make old readers fail. Method: both put into a written result.
    let text = small_run()
        .to_json()
        .replacen('{', "{ \"weather\": [1, 2],", 1)
        .replace("\"measure\"", "\"sleep\"");
    let run = parse(&text).unwrap();
    assert_eq!(run.stages[0].kind, StageKind::Other);
}

#[test]
fn other_files_are_refused_by_what_they_are() {
    // Goal: the message names the mistake that was made. Method: one file of each kind.
    let damaged = format!("{{\"format\": \"{FORMAT}\"}}");
    for (text, part) in [
        ("", "is not JSON"),
        ("{\"format\": \"polyloop-", "is not JSON"),
        ("[1]", "is no result of polyloop-load"),
        ("{}", "is no result of polyloop-load"),
        ("{\"format\": 3}", "is no result of polyloop-load"),
        ("{\"format\": \"other/1\"}", "is no result of polyloop-load"),
        (
            "{\"format\": \"polyloop-load/2\"}",
            "reads \"polyloop-load/1\"",
        ),
        (&damaged, "is a damaged result"),
    ] {
        let told = parse(text).unwrap_err().to_string();
        assert!(
            told.starts_with("a.json ") && told.contains(part),
            "{text}: {told}"
        );
    }
    let told = RunResult::read(Path::new("/nonexistent/a.json")).unwrap_err();
    assert!(told.to_string().contains("cannot be read"), "{told}");
}
