//! The summary, letter for letter.

use std::path::Path;

use super::*;
use crate::result::tests::small_run;
use crate::result::{Mode, Trial};

#[test]
fn the_summary_of_a_plain_run() {
    // Goal: an operator finds everything, aligned and with units. Method: the small run, whose figures are known.
    let mut run = small_run();
    run.version = "1.2.3".to_owned();
    run.warnings = vec![
        Warning::new(
            "short",
            Severity::Note,
            "it was short".to_owned(),
            String::new(),
        ),
        Warning::new(
            "steal",
            Severity::Warning,
            "2 % was stolen".to_owned(),
            "run it again".to_owned(),
        ),
    ];
    let files = [("json", Path::new("out.json").to_owned())];
    let told = text(&run, &files);
    assert_eq!(told, GOLDEN, "\n{told}");
}

#[test]
fn a_closed_loop_and_an_interrupt_are_said_first() {
    // Goal: nobody takes such figures for what they are not. Method: the small run, closed and cut short.
    let mut run = small_run();
    run.mode = Mode::Closed;
    run.is_complete = false;
    run.stages[0].rate_planned = None;
    let told = text(&run, &[]);
    let lines: Vec<&str> = told.lines().collect();
    assert!(lines[1].starts_with("CLOSED LOOP: "), "{told}");
    assert!(lines[2].starts_with("INTERRUPTED"), "{told}");
    assert!(!told.contains("planned"), "{told}");
}

#[test]
fn a_search_is_told_with_its_trials() {
    // Goal: the rate found, whether it held, and each step. Method: a search of two trials.
    let trial = |rate_planned, passed, reason: Option<&str>| Trial {
        stage: 0,
        rate_planned,
        rate_completed: rate_planned - 1.0,
        value_us: Some(rate_planned / 10.0),
        passed,
        reason: reason.map(str::to_owned),
    };
    let told = search(&SearchResult {
        objective: "p99<2ms".to_owned(),
        rate_found: Some(10_000.0),
        limited_by: Some("the server's p99".to_owned()),
        verified: true,
        trials: vec![
            trial(10_000.0, true, None),
            trial(40_000.0, false, Some("p99 above 2ms")),
        ],
    });
    assert_eq!(
        told,
        "highest rate with p99<2ms: 10,000/s, verified\n\
         \u{20} limited by the server's p99\n\
         \u{20} planned/s  completed/s  objective  held\n\
         \u{20} 10,000           9,999    1.00 ms   yes\n\
         \u{20} 40,000          39,999    4.00 ms    no  p99 above 2ms\n"
    );
}

#[test]
fn several_stages_are_set_side_by_side() {
    // Goal: a spectrum is one table, not a page for each stage. Method: the small stage three times, two of a spectrum.
    let mut run = small_run();
    for name in ["half", "most"] {
        let mut stage = run.stages[0].clone();
        stage.name = name.to_owned();
        stage.kind = StageKind::Spectrum;
        run.stages.push(stage);
    }
    let told = text(&run, &[]);
    assert!(
        told.contains("stage    planned/s  completed/s     p50"),
        "{told}"
    );
    assert_eq!(told.matches("open at its end").count(), 1, "{told}");
}

const GOLDEN: &str = "\
polyloop-load 1.2.3, 2026-02-03T04:05:06Z: polyloop-load server:7000 --rate 20k/s
open loop: latency counts from the planned send

measure: 2.0 s, 100 connections open at its end
  planned     20,000/s
  offered     20,000/s  40,000
  sent        20,000/s  40,000    100 %
  completed   19,999/s  39,998  99.99 %
  unanswered                 2   0.01 %
  1.22 MiB/s out, 1.22 MiB/s in

           latency  uncorrected  send lag  own lag
  min       100 µs      90.0 µs   10.0 µs  1.00 µs
  mean      124 µs      90.0 µs   10.0 µs  1.00 µs
  p50       100 µs      90.0 µs   10.0 µs  1.00 µs
  p90       100 µs      90.0 µs   10.0 µs  1.00 µs
  p99      2.00 ms      90.0 µs   10.0 µs  1.00 µs
  p99.9          -            -         -        -
  p99.99         -            -         -        -
  max      2.00 ms      90.0 µs   10.0 µs  1.00 µs
  samples   39,998       39,998    40,000   40,000

  processor    used  per request
  load       0.10 s      2.50 µs
  server     0.12 s      3.00 µs
  machine 25 % busy, 0 % stolen

errors
  broken ECONNRESET  2  in measure  the server reset a connection that was in use

doubts
  WARNING (steal): 2 % was stolen
    run it again
  note (short): it was short

files
  json  out.json
";
