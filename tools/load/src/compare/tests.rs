//! Comparisons small enough to check by hand.

use super::*;
use crate::result::tests::small_run;
use crate::result::{Mode, Origin, Setting, Severity, StageResult, Warning, WindowRow};

fn source(name: &str, run: RunResult) -> Source {
    Source {
        name: name.to_owned(),
        run,
    }
}

/// A result whose median latency is `p50_us` over all, and whose other figures are those of the small run.
fn with_median(name: &str, p50_us: f64) -> Source {
    let mut run = small_run();
    run.stages[0].latency.p50_us = Some(p50_us);
    source(name, run)
}

fn side(medians: &[f64]) -> Vec<Source> {
    let name = |index: usize| format!("{index}.json");
    let of = |(index, &p50_us): (usize, &f64)| with_median(&name(index), p50_us);
    medians.iter().enumerate().map(of).collect()
}

fn refuse(a: &[Source], b: &[Source]) -> Result<Report, CompareError> {
    compare(a, b, Strictness::Refuse, 1)
}

fn row_of(report: &Report, metric: Metric) -> Row {
    let found = report.stages[0]
        .rows
        .iter()
        .find(|row| row.metric == metric);
    found.unwrap().clone()
}

#[test]
fn files_are_the_samples_where_there_are_several() {
    // Goal: a difference beyond the spread of the files is told, and one within it is not. Method: five files a side
    // with medians of 100 to 104 µs, against the double and against themselves.
    let a = side(&[100.0, 101.0, 102.0, 103.0, 104.0]);
    let b = side(&[200.0, 202.0, 204.0, 206.0, 208.0]);
    let report = refuse(&a, &b).unwrap();
    assert_eq!(report.sampling, Sampling::Files);
    let row = row_of(&report, Metric::P50);
    assert_eq!((row.a, row.b, row.samples), (102.0, 204.0, (5, 5)));
    assert_eq!(row.difference(), Some(Difference::Higher));
    assert_eq!(row.compared.unwrap().ratio, 2.0);
    assert_eq!(
        row_of(&report, Metric::Completed).difference(),
        Some(Difference::Noise)
    );
    assert!(report.cautions.is_empty(), "{:?}", report.cautions);
}

#[test]
fn the_table_of_a_comparison() {
    // Goal: aligned, with units, and `~` for noise. Method: the small run five times a side, one with another median.
    let a = side(&[100.0, 101.0, 102.0, 103.0, 104.0]);
    let b = side(&[200.0, 202.0, 204.0, 206.0, 208.0]);
    let told = refuse(&a, &b).unwrap().shown(Format::Text);
    assert_eq!(told, GOLDEN, "\n{told}");
}

/// A stage of `count` windows whose medians go up and down around `p50_us`.
fn windows_around(p50_us: f64, count: usize) -> StageResult {
    let mut stage = small_run().stages.remove(0);
    let window = stage.windows[0].clone();
    stage.latency.p50_us = Some(p50_us);
    stage.windows = (0..count)
        .map(|index| WindowRow {
            p50_us: Some(p50_us + [0.0, 1.0, 0.0, -1.0, 2.0][index % 5]),
            ..window.clone()
        })
        .collect();
    stage
}

fn single(name: &str, stage: StageResult) -> [Source; 1] {
    let mut run = small_run();
    run.stages = vec![stage];
    [source(name, run)]
}

#[test]
fn windows_are_the_samples_of_a_single_file() {
    // Goal: blocks of windows are tested, and the report says what that leaves out. Method: 20 windows a side, which
    // make ten blocks, with medians 3 % apart, and against themselves.
    let a = single("a.json", windows_around(100.0, 20));
    let b = single("b.json", windows_around(103.0, 20));
    let report = refuse(&a, &b).unwrap();
    assert_eq!(report.sampling, Sampling::Windows);
    let row = row_of(&report, Metric::P50);
    assert_eq!(row.samples, (10, 10));
    assert_eq!(row.difference(), Some(Difference::Higher));
    assert!(
        report.cautions[0].contains("a single run"),
        "{:?}",
        report.cautions
    );
    let same = refuse(&a, &a).unwrap();
    assert_eq!(
        row_of(&same, Metric::P50).difference(),
        Some(Difference::Noise)
    );
}

#[test]
fn too_few_windows_give_a_ratio_and_no_verdict() {
    // Goal: nothing is called noise that could not have been called anything else. Method: six windows, three blocks.
    let a = single("a.json", windows_around(100.0, 6));
    let b = single("b.json", windows_around(200.0, 6));
    let report = refuse(&a, &b).unwrap();
    let row = row_of(&report, Metric::P50);
    assert_eq!((row.a, row.b, row.difference()), (100.0, 200.0, None));
    let told = report.shown(Format::Text);
    assert!(
        told.contains("p50               100 µs    200 µs  2.000              -  -  -\n"),
        "{told}"
    );
}

#[test]
fn a_stall_that_windows_do_not_show_is_told() {
    // Goal: a typical window does not hide that the whole was decided by a few. Method: equal windows, and a whole
    // whose median is ten times as long.
    let a = single("a.json", windows_around(100.0, 20));
    let mut stage = windows_around(100.0, 20);
    stage.latency.p50_us = Some(1_000.0);
    let report = refuse(&a, &single("b.json", stage)).unwrap();
    let told = report.cautions.join("\n");
    assert!(
        told.contains("measure, p50: B/A is 10.000 over all and 1.000 in a typical window"),
        "{told}"
    );
}

#[test]
fn a_first_run_unlike_the_others_is_told() {
    // Goal: a cold first run is not hidden in a median. Method: five files a side, of which the first of B came to the double of the
    // others, and nothing else is unlike them.
    let a = side(&[100.0, 101.0, 102.0, 103.0, 104.0]);
    let b = side(&[204.0, 101.0, 102.0, 103.0, 102.0]);
    let report = refuse(&a, &b).unwrap();
    assert_eq!(report.cautions.len(), 1, "{:?}", report.cautions);
    let told = &report.cautions[0];
    assert!(
        told.starts_with("measure, p50 of 0.json: the first run came to 2.00 times"),
        "{told}"
    );
}

#[test]
fn loops_of_different_kinds_are_refused() {
    // Goal: latencies that mean different things are not divided, unless asked for. Method: one closed file.
    let a = side(&[100.0]);
    let mut b = side(&[100.0]);
    b[0].run.mode = Mode::Closed;
    b[0].name = "b.json".to_owned();
    let told = refuse(&a, &b).unwrap_err().to_string();
    assert!(
        told.starts_with("0.json is of an open loop and b.json of a closed one"),
        "{told}"
    );
    compare(&a, &b, Strictness::Force, 1).unwrap();
}

#[test]
fn what_differs_besides_the_figures_is_told() {
    // Goal: no reader takes a changed setting, machine or broken run for the program's merit. Method: one of each.
    let a = [source("a.json", small_run())];
    let mut run = small_run();
    run.settings[0].value = "30k/s".to_owned();
    run.settings
        .push(Setting::new("json", "b.json", Origin::Flag));
    run.settings.push(Setting::new("pipeline", 4, Origin::Flag));
    run.machine.kernel = "7.0".to_owned();
    run.machine.load_average = "9.0".to_owned();
    run.is_complete = false;
    run.warnings = vec![
        Warning::new("steal", Severity::Warning, String::new(), String::new()),
        Warning::new("short", Severity::Note, String::new(), String::new()),
    ];
    let report = refuse(&a, &[source("b.json", run)]).unwrap();
    assert_eq!(
        report.cautions[1..],
        [
            "b.json was interrupted",
            "b.json doubts itself: steal",
            "another setting (a.json -> b.json): rate 20k/s -> 30k/s, pipeline unset -> 4",
            "another machine (a.json -> b.json): kernel unknown -> 7.0",
        ]
    );
}

#[test]
fn results_without_a_common_stage_are_refused() {
    // Goal: an empty table is no answer. Method: stages of different names, and a run without any.
    let a = [source("a.json", small_run())];
    let mut run = small_run();
    run.stages[0].name = "other".to_owned();
    let told = refuse(&a, &[source("b.json", run.clone())])
        .unwrap_err()
        .to_string();
    assert!(
        told.ends_with("a.json has measure, b.json has other"),
        "{told}"
    );
    run.stages.clear();
    let told = refuse(&a, &[source("b.json", run)])
        .unwrap_err()
        .to_string();
    assert!(told.ends_with("b.json has none"), "{told}");
}

#[test]
fn files_are_taken_in_turn_or_by_side() {
    // Goal: A B A B and --a A A --b B B mean the same, and a file too many is refused. Method: each way of typing it.
    let files = |names: &[&str]| names.iter().map(PathBuf::from).collect::<Vec<_>>();
    let (a, b) = (files(&["1", "3"]), files(&["2", "4"]));
    let in_turn = CompareArgs {
        files: files(&["1", "2", "3", "4"]),
        ..CompareArgs::default()
    };
    assert_eq!(in_turn.sides().unwrap(), (a.clone(), b.clone()));
    let by_side = CompareArgs {
        a: a.clone(),
        b: b.clone(),
        ..CompareArgs::default()
    };
    assert_eq!(by_side.sides().unwrap(), (a, b));
    for odd in [&["1"][..], &["1", "2", "3"], &[]] {
        let args = CompareArgs {
            files: files(odd),
            ..CompareArgs::default()
        };
        assert!(
            matches!(args.sides(), Err(CompareError::Sides { .. })),
            "{odd:?}"
        );
    }
}

#[derive(Debug, clap::Parser)]
struct Typed {
    #[command(flatten)]
    compare: CompareArgs,
}

#[test]
fn the_command_line_takes_both_forms_and_no_mixture() {
    // Goal: the flags are consistent and say what they take. Method: clap's own checks, and each way of typing it.
    use clap::{CommandFactory as _, Parser as _};
    Typed::command().debug_assert();
    let typed = |words: &[&str]| Typed::try_parse_from([&["compare"], words].concat());
    assert_eq!(typed(&["1", "2"]).unwrap().compare.files.len(), 2);
    let by_side = typed(&["--a", "1", "3", "--b", "2", "4", "--force"])
        .unwrap()
        .compare;
    assert_eq!(
        (by_side.a.len(), by_side.b.len(), by_side.force),
        (2, 2, true)
    );
    typed(&["--a", "1"]).unwrap_err();
    typed(&["1", "--a", "1", "--b", "2"]).unwrap_err();
}

/// Ranks of five against five fall into one of 252 orders, and two are this far apart: p is 2 / 252. The interval goes
/// from 200 / 103 to 208 / 101.
const GOLDEN: &str = "\
measure                A         B    B/A   95 % interval      p  verdict
p50               102 µs    204 µs  2.000  1.942 .. 2.059  0.008  higher: worse
p99              2.00 ms   2.00 ms  1.000  1.000 .. 1.000  1.000  ~
mean              124 µs    124 µs  1.000  1.000 .. 1.000  1.000  ~
completed       19,999/s  19,999/s  1.000  1.000 .. 1.000  1.000  ~
server CPU/req   3.00 µs   3.00 µs  1.000  1.000 .. 1.000  1.000  ~
load CPU/req     2.50 µs   2.50 µs  1.000  1.000 .. 1.000  1.000  ~

A and B: medians over the files of a side, which are the samples of B/A, its interval and p
~: chance explains the difference (p >= 0.05; one equal pair in twenty falls below)   -: too few samples to say
";
