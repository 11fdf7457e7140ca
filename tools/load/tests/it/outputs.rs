//! Files, full disks, `--strict`, `compare`.

use std::fs;
use std::io::BufRead;
use std::path::Path;

use hdrhistogram::serialization::Deserializer;
use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};
use polyloop_load::result::RunResult;

use base64::Engine as _;

use crate::harness::{SHORT, beside_others, directory, measured, path_in, run};
use crate::servers::{Served, echo, silent};

#[test]
fn every_file_can_be_read_and_says_the_same() {
    // Goal: JSON, CSV, hlog and hgrm of one run agree. Method: each is read by the rules of its format, and the samples are
    // counted.
    let _shared = beside_others();
    let served = Served::with(echo);
    let directory = directory("every_file_can_be_read_and_says_the_same");
    let path = |name: &str| path_in(&directory, name);
    let [json, csv, hlog, hgrm] = ["a.json", "a.csv", "a.hlog", "a.hgrm"].map(path);
    let mut args = vec![served.target.as_str(), "--interval", "100ms"];
    args.extend([
        "--json", &json, "--csv", &csv, "--hlog", &hlog, "--hgrm", &hgrm,
    ]);
    args.extend(SHORT);
    run(&args).exits(0).says(&[&json, &csv, &hlog, &hgrm]);

    let result = RunResult::read(Path::new(&json)).unwrap();
    assert!(result.is_complete);
    let completed = measured(&result).counts.completed;
    assert!(completed > 0);
    assert_eq!(rows_sum(&csv, "completed"), completed);
    assert_eq!(logged_latencies(&hlog), completed);
    let spectrum = fs::read_to_string(&hgrm).unwrap();
    let total = spectrum
        .lines()
        .rev()
        .find(|line| line.contains("Total count"));
    assert!(
        total.unwrap().contains(&completed.to_string()),
        "{spectrum}"
    );
    for setting in [
        "target",
        "connections",
        "rate",
        "seed",
        "timeout",
        "duration",
    ] {
        assert!(
            result.settings.iter().any(|it| it.name == setting),
            "{setting}"
        );
    }
}

/// The sum of a column of the measured stage; every row has a field for each column.
fn rows_sum(path: &str, column: &str) -> u64 {
    let text = fs::read_to_string(path).unwrap();
    let mut lines = text.lines();
    let names: Vec<&str> = lines.next().unwrap().split(',').collect();
    let index_of = |name: &str| names.iter().position(|it| *it == name).unwrap();
    let rows = lines.map(|line| line.split(',').collect::<Vec<&str>>());
    rows.inspect(|row| assert_eq!(row.len(), names.len(), "{row:?}"))
        .filter(|row| row[index_of("stage_name")] == "measure")
        .map(|row| row[index_of(column)].parse::<u64>().unwrap())
        .sum()
}

/// Samples of the corrected latency in a log, whose tags are told apart by name.
fn logged_latencies(path: &str) -> u64 {
    let bytes = fs::read(path).unwrap();
    let mut samples = 0;
    let mut tags = Vec::new();
    for entry in IntervalLogIterator::new(&bytes) {
        let LogEntry::Interval(entry) = entry.unwrap() else {
            continue;
        };
        let tag = entry.tag().map_or("", |tag| tag.as_str()).to_owned();
        let encoded = base64::engine::general_purpose::STANDARD.decode(entry.encoded_histogram());
        let encoded = encoded.unwrap();
        let histogram: hdrhistogram::Histogram<u64> = Deserializer::new()
            .deserialize(&mut encoded.as_slice())
            .unwrap();
        if tag == "latency" || tag.is_empty() {
            samples += histogram.len();
        }
        tags.push(tag);
    }
    assert!(samples > 0, "{tags:?}");
    samples
}

#[test]
fn a_full_disk_is_told_and_the_load_goes_on() {
    // Goal: what could not be written is named, the run ends as a measurement, and the exit code says that something is lost.
    // Method: the device that is always full.
    let _shared = beside_others();
    let served = Served::with(echo);
    for flag in ["--json", "--csv", "--hlog", "--hgrm"] {
        let mut args = vec![served.target.as_str(), flag, "/dev/full"];
        args.extend(SHORT);
        let ran = run(&args).exits(1);
        ran.says(&["/dev/full", "No space left", "output-lost", "completed"]);
    }
}

#[test]
fn a_file_that_cannot_be_opened_is_told_before_the_load() {
    // Goal: a typing error costs no run. Method: a directory that is not there; the server sees nobody.
    let _shared = beside_others();
    let served = Served::with(echo);
    for flag in ["--json", "--csv", "--hlog", "--hgrm"] {
        let mut args = vec![served.target.as_str(), flag, "/no/such/directory/file"];
        args.extend(SHORT);
        let ran = run(&args).exits(1);
        ran.says(&[flag, "/no/such/directory/file", "No such file"]);
    }
    run(&[&served.target, "--script", "/no/such/file"])
        .exits(2)
        .says(&["--script /no/such/file"]);
    assert_eq!(served.connections(), 0);
}

#[test]
fn one_file_for_two_outputs_is_refused() {
    // Goal: nothing overwrites another. Method: the same name twice.
    let _shared = beside_others();
    let directory = directory("one_file_for_two_outputs_is_refused");
    let path = path_in(&directory, "both");
    let args = ["127.0.0.1:1", "--json", &path, "--csv", &path];
    run(&args).exits(1).says(&["--json", "--csv", &path]);
}

#[test]
fn under_strict_a_doubt_is_an_error() {
    // Goal: exit code 4, and the result all the same. Method: a server that never answers is always doubted; without the flag it
    // is a measurement.
    let _shared = beside_others();
    let served = Served::with(silent);
    let mut args = vec![served.target.as_str(), "--grace", "0s"];
    args.extend(SHORT);
    run(&args).exits(0).says(&["(unanswered)"]);
    args.push("--strict");
    run(&args).exits(4).says(&["(unanswered)", "measure:"]);
}

#[test]
fn two_results_can_be_compared() {
    // Goal: compare reads what a run wrote. Method: two runs against the same echo, either order, and a file that is none.
    let _shared = beside_others();
    let served = Served::with(echo);
    let directory = directory("two_results_can_be_compared");
    let paths = ["a.json", "b.json"].map(|name| path_in(&directory, name));
    for path in &paths {
        let mut args = vec![served.target.as_str(), "--json", path];
        args.extend(SHORT);
        run(&args).exits(0);
    }
    let ran = run(&["compare", &paths[0], &paths[1]]).exits(0);
    ran.says(&["measure"]);
    let ran = run(&["compare", "--format", "json", &paths[0], &paths[1]]).exits(0);
    assert!(
        ran.out.starts_with('{') && ran.out.contains("\"measure\""),
        "{}",
        ran.out
    );
    run(&["compare", &paths[0]]).exits(2).says(&["two sides"]);
    let missing = path_in(&directory, "none.json");
    run(&["compare", &paths[0], &missing])
        .exits(2)
        .says(&[&missing]);
}

#[test]
fn the_view_says_how_it_goes() {
    // Goal: without a terminal there are plain lines on standard error, and the summary alone on standard output. Method: a run
    // with the default view.
    let _shared = beside_others();
    let served = Served::with(echo);
    let args = [
        served.target.as_str(),
        "--duration",
        "300ms",
        "--warm-up",
        "0s",
    ];
    let ran = run(&args).exits(0);
    assert!(
        ran.err.lines().any(|line| line.starts_with("measure done")),
        "{}",
        ran.err
    );
    assert!(
        ran.out
            .as_bytes()
            .lines()
            .next()
            .unwrap()
            .unwrap()
            .starts_with("polyloop-load")
    );
    assert!(!ran.err.contains('\u{1b}'), "{}", ran.err);
}
