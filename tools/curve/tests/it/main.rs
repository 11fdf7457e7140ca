//! The program as a user starts it, with scripts in place of servers and of the generator.
//!
//! The generator's script copies a result that a test wrote, so that what comes out is known and nothing waits for a
//! machine: these tests are about sweeps, files and exit codes. Figures are tested beside the code that makes them.
//!
//! `browser` looks at reports in Chromium.
#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests stand outside of test functions"
)]

mod browser;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::UNIX_EPOCH;

use polyloop_curve::points::Points;
use polyloop_curve::run::syscalls::Tracer;
use polyloop_load::result::{
    CountsRow, Machine, Mode, Quantiles, Rates, RunResult, StageKind, StageResult, rfc3339,
};
use polyloop_measure::host::{Scratch, send_signal};
use rustix::process::Signal;

/// A place with a generator that answers 1,000 requests a second, and a server that says it listens.
struct Place {
    scratch: Scratch,
}

impl Place {
    fn new() -> Self {
        let place = Self {
            scratch: Scratch::new().unwrap(),
        };
        fs::write(place.path("result.json"), result().to_json()).unwrap();
        // The last two arguments are `--json FILE`.
        let copy = format!(
            "#!/bin/sh\nfor last; do :; done\ncp {} \"$last\"\n",
            place.path("result.json").display()
        );
        place.script("load", &copy);
        place.subject("good", "echo listening on x; exec sleep 600");
        place.subject("bad", "echo no such address >&2; exit 1");
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    fn script(&self, name: &str, text: &str) {
        use std::os::unix::fs::PermissionsExt;
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn subject(&self, name: &str, script: &str) {
        let text = format!(
            "name = \"{name}\"\nabout = \"x\"\ncommand = \"/bin/sh {{dir}}/run {{port}}\"\nready = \"says\"\n\
             needs = [\"sh\"]\n[files]\nrun = '''\n{script}\n'''\n"
        );
        fs::write(self.path(&format!("{name}.toml")), text).unwrap();
    }

    fn curve(&self, line: &str) -> Output {
        Command::new(env!("CARGO_BIN_EXE_polyloop-curve"))
            .args(line.split_whitespace())
            .current_dir(self.scratch.path())
            .output()
            .unwrap()
    }

    fn sweep(&self, line: &str) -> Output {
        let rounds = if line.contains("--rounds") {
            ""
        } else {
            "--rounds 2"
        };
        self.curve(&format!(
            "run --load ./load --congestion host --duration 10ms --syscalls off --out out {rounds} {line}"
        ))
    }
}

fn result() -> RunResult {
    let mut run = RunResult::new(
        Mode::Closed,
        vec!["load".into()],
        rfc3339(UNIX_EPOCH),
        Machine::default(),
    );
    run.is_complete = true;
    run.stages.push(StageResult {
        id: 0,
        name: "measure".into(),
        kind: StageKind::Measure,
        rate_planned: None,
        seconds: 1.0,
        connections: 4,
        counts: CountsRow {
            completed: 1_000,
            bytes_in: 64_000,
            ..CountsRow::default()
        },
        first_wrong: None,
        rates: Rates {
            completed: 1_000.0,
            ..Rates::default()
        },
        latency: Quantiles::default(),
        uncorrected: Quantiles::default(),
        lag: Quantiles::default(),
        own_lag: Quantiles::default(),
        connect: Quantiles::default(),
        probe: Quantiles::default(),
        load_cpu_s: 0.004,
        busiest_loop_share: None,
        server_cpu_s: Some(0.005),
        load_cpu_us_per_request: Some(4.0),
        server_cpu_us_per_request: Some(5.0),
        machine_busy_share: 0.5,
        machine_steal_share: 0.0,
        retransmits: None,
        settled: None,
        windows: Vec::new(),
    });
    run
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.clone(), output.stderr.clone()].concat()).into_owned()
}

fn page(place: &Place) -> String {
    fs::read_to_string(place.path("out/report.html")).unwrap()
}

fn lines(path: &Path) -> usize {
    fs::read_to_string(path).unwrap().lines().count()
}

#[test]
fn a_server_that_does_not_start_is_quoted_and_the_sweep_goes_on() {
    // Goal: the good subject is measured, the bad one told with its words, code 3; by one of each.
    let place = Place::new();
    let output = place.sweep("-s good.toml -s bad.toml --sweep connections=4,8");
    let said = said(&output);
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(
        said.contains("no such address") && said.contains("4 measured"),
        "{said}"
    );
    let page = page(&place);
    assert!(page.contains("no such address") && page.contains("4 points of 2 setups"));
    assert_eq!(lines(&place.path("out/points.jsonl")), 1 + 8);
}

#[test]
fn a_server_that_dies_meanwhile_is_quoted() {
    // Goal: its words reach the result; by a server that dies while a slow generator runs.
    let place = Place::new();
    place.script("load", "#!/bin/sh\nexec sleep 600\n");
    place.subject(
        "dies",
        "echo listening on x; sleep 0.5; echo out of luck >&2; exit 9",
    );
    let output = place.sweep("-s dies.toml --rounds 1");
    let said = said(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("out of luck") && said.contains("exit status: 9"),
        "{said}"
    );
}

#[test]
fn what_is_there_is_not_measured_again() {
    // Goal: a second start measures what the first did not, and another file is left alone; by three starts.
    let place = Place::new();
    assert!(
        place
            .sweep("-s good.toml --rounds 2 --sweep connections=4")
            .status
            .success()
    );
    let output = place.sweep("-s good.toml --sweep connections=4,8");
    assert!(
        said(&output).contains("2 measured, 2 were there"),
        "{}",
        said(&output)
    );
    fs::write(place.path("out/points.jsonl"), "something else\n").unwrap();
    let output = place.sweep("-s good.toml");
    assert_eq!(output.status.code(), Some(1));
    assert!(
        said(&output).contains("no result of polyloop-curve"),
        "{}",
        said(&output)
    );
    assert_eq!(lines(&place.path("out/points.jsonl")), 1);
}

#[test]
fn the_tables_of_the_report_can_be_read() {
    // Goal: figures of the generator's result stand in the page's tables; by reading a row of one.
    let place = Place::new();
    let output = place.sweep("-s good.toml --sweep connections=4,8 --sweep loops=1");
    assert!(output.status.success(), "{}", said(&output));
    let page = page(&place);
    let cost = page.split("id=\"cost\"").nth(1).unwrap();
    let row = cost
        .split("<tr>")
        .find(|row| row.contains("connections=8"))
        .unwrap();
    let cells: Vec<&str> = row
        .split("<td>")
        .skip(1)
        .map(|cell| cell.split('<').next().unwrap())
        .collect();
    assert_eq!(
        &cells[..5],
        ["good connections=8", "2", "0/2", "5", "5 to 5"]
    );
    assert_eq!(page.matches("<svg").count(), page.matches("</svg>").count());
}

#[test]
fn wrong_usage_is_told_before_anything_starts() {
    // Goal: code 2 and the reason; by an unknown axis, an unknown subject, a core that is not there, no generator.
    let place = Place::new();
    for (line, what) in [
        ("-s good.toml --sweep colour=red", "colour"),
        ("-s nobody", "nobody"),
        ("-s good.toml --server-cores 4000", "core 4000"),
        ("-s good.toml --sweep loops=2..1", "loops"),
    ] {
        let output = place.sweep(line);
        assert_eq!(output.status.code(), Some(2), "{line}: {}", said(&output));
        assert!(said(&output).contains(what), "{line}: {}", said(&output));
    }
    assert!(!place.path("out").exists());
}

#[test]
fn points_that_were_measured_otherwise_are_not_mixed() {
    // Goal: a start with another duration is refused with the reason and measures nothing; by two starts.
    let place = Place::new();
    assert!(place.sweep("-s good.toml").status.success());
    let line =
        "run --load ./load --congestion host --duration 20ms --syscalls off --out out --rounds 3";
    let output = place.curve(&format!("{line} -s good.toml"));
    assert_eq!(output.status.code(), Some(1));
    assert!(
        said(&output).contains("another duration"),
        "{}",
        said(&output)
    );
    assert_eq!(lines(&place.path("out/points.jsonl")), 1 + 2);
}

#[test]
fn fewer_cores_than_loops_is_said_and_doubted() {
    // Goal: the sweep says it before it starts, and no such point is taken for good; by more loops than machines have.
    let place = Place::new();
    let output = place.sweep("-s good.toml --rounds 1 --sweep loops=1,60000");
    let said = said(&output);
    assert!(output.status.success(), "{said}");
    assert!(
        said.contains("FEWER CORES THAN LOOPS") && said.contains("loops-outnumber-cores"),
        "{said}"
    );
    let points = Points::read(&place.path("out")).unwrap();
    for point in &points.all {
        let is_doubted = point.measured().unwrap().is_doubtful();
        assert_eq!(is_doubted, point.settings["loops"] == "60000");
    }
}

#[test]
fn an_interrupted_sweep_loses_the_point_it_was_at() {
    // Goal: an interrupt ends the program with code 130, and the same command measures the rest. Method: a generator that
    // is quick once, and then tells the test by a pipe that it runs and does not end.
    let place = Place::new();
    assert!(
        Command::new("mkfifo")
            .arg(place.path("pipe"))
            .status()
            .unwrap()
            .success()
    );
    place.script(
        "load",
        "#!/bin/sh\nfor last; do :; done\nif mkdir once 2>/dev/null; then cp result.json \"$last\"; exit; fi\n\
         echo here > pipe; exec sleep 600\n",
    );
    let line = "run --load ./load --congestion host --duration 10ms --syscalls off --out out --rounds 2 -s good.toml";
    let mut sweep = Command::new(env!("CARGO_BIN_EXE_polyloop-curve"))
        .args(line.split_whitespace())
        .current_dir(place.scratch.path())
        .spawn()
        .unwrap();
    // The bound only ends a hang.
    let told = Command::new("timeout")
        .args(["60", "cat", "pipe"])
        .current_dir(place.scratch.path())
        .output()
        .unwrap();
    assert_eq!(said(&told), "here\n");
    send_signal(sweep.id(), Signal::INT).unwrap();
    assert_eq!(sweep.wait().unwrap().code(), Some(130));
    assert_eq!(lines(&place.path("out/points.jsonl")), 1 + 1);
    place.script(
        "load",
        "#!/bin/sh\nfor last; do :; done\ncp result.json \"$last\"\n",
    );
    let output = place.curve(line);
    assert!(
        said(&output).contains("1 measured, 1 were there, 0 failed"),
        "{}",
        said(&output)
    );
}

#[test]
fn system_calls_are_those_of_requests_alone() {
    // Goal: calls per request without those of the beginning, in the first round alone. Method: a shell that reads a line
    // byte by byte and answers with one write, and a generator with as many requests as its duration says, and fifty
    // before them that it does not tell.
    if Tracer::find().is_none() {
        eprintln!("skipped: neither perf nor strace may count here");
        return;
    }
    let place = Place::new();
    place.subject(
        "counted",
        "mkfifo {dir}/to {dir}/from; exec 0<>{dir}/to 4<>{dir}/from; echo listening on x; exec 1>&4\n\
         while read x; do echo ok; done",
    );
    place.script(
        "load",
        "#!/bin/sh\nfor last; do :; done\ndir=$(dirname \"$last\")\n\
         case \"$*\" in *\" 200ms \"*) n=100;; *) n=300;; esac\n\
         exec 5>\"$dir/to\" 6<\"$dir/from\"; i=-50\n\
         while [ $i -lt $n ]; do echo ab >&5; read y <&6; i=$((i+1)); done\n\
         sed \"s/\\\"completed\\\": 1000,/\\\"completed\\\": $n,/\" result.json > \"$last\"\n",
    );
    let flags = "--load ./load --congestion host --duration 10ms --rounds 2 --out out";
    let output = place.curve(&format!("run -s counted.toml {flags}"));
    assert!(output.status.success(), "{}", said(&output));
    let points = Points::read(&place.path("out")).unwrap();
    let counted: Vec<Option<f64>> = points
        .all
        .iter()
        .map(|point| point.measured().unwrap().syscalls_per_request())
        .collect();
    let first = counted[0].unwrap_or_else(|| panic!("{points:?}"));
    // Three reads and a write of the usual shell; another may need a few more, and as many each time.
    assert!(
        (2.0..=12.0).contains(&first) && first.fract() == 0.0,
        "{first}"
    );
    assert_eq!(counted[1], None);
}

#[test]
fn two_results_are_compared() {
    // Goal: the same twice is noise, code 0 also under a limit; a result that is not there is told. By one sweep.
    let place = Place::new();
    assert!(place.sweep("-s good.toml --rounds 6").status.success());
    let output = place.curve("compare out out --fail-above 3");
    assert!(
        output.status.success() && said(&output).contains('~'),
        "{}",
        said(&output)
    );
    assert_eq!(place.curve("compare out none").status.code(), Some(1));
    assert!(place.curve("report out").status.success());
}
