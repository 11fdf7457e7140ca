//! The report as a person sees it: opened in headless Chromium at the width of a desk and of a phone, light and dark.
//!
//! ```text
//!   points made here ──> report.html ──> copy with looks.js at its end ──> in a frame of 1280 or 390 pixels ──> Chromium
//!                                                                 what it saw, as JSON in the page <── --dump-dom ──┘
//! ```
//!
//! The one idea: whether a page overflows, clips a word or cannot be read is for a browser to say, as only it knows how
//! wide a word is. Figures are read back from the tables of the same page. Without Chromium these tests skip themselves
//! and say so. With `KEEP_REPORTS=DIR` the pages stay there for a person to look at as well.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use polyloop_curve::points::{Doubt, FORMAT, Head, Measured, Outcome, Point};
use polyloop_curve::report;
use polyloop_load::result::Machine;
use polyloop_measure::host::Scratch;
use serde::Deserialize;

/// What the browser saw.
#[derive(Debug, Deserialize)]
struct Looks {
    width: u32,
    is_dark: bool,
    pictures: usize,
    /// Everything that is wrong with how it looks, in words.
    wrong: Vec<String>,
    /// Axis labels, each of which was found as a word in its picture.
    labels: Vec<String>,
    /// Cells by section: the head first.
    tables: BTreeMap<String, Vec<Vec<String>>>,
}

const WIDTHS: [u32; 2] = [1_280, 390];

fn browser() -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    let programs = ["chromium", "google-chrome", "chromium-browser"];
    let found = env::split_paths(&path)
        .flat_map(|dir| programs.map(|program| dir.join(program)))
        .find(|program| program.is_file());
    if found.is_none() {
        eprintln!("skipped: neither chromium nor google-chrome is installed");
    }
    found
}

/// Opens the report of `points` and tells what was seen.
fn look(browser: &Path, points: &[Point], width: u32, is_dark: bool) -> Looks {
    let scratch = Scratch::new().unwrap();
    let page = report::write(&head(), points, scratch.path()).unwrap();
    let script = format!("<script>{}</script></body>", include_str!("looks.js"));
    let text = fs::read_to_string(&page)
        .unwrap()
        .replace("</body>", &script);
    fs::write(&page, text).unwrap();
    // A window has a least width, a frame has none; and a frame has the colour scheme of its place.
    let scheme = if is_dark { "dark" } else { "light" };
    let frame = format!(
        "<!doctype html><body style=\"margin:0\"><iframe src=\"report.html\" width=\"{width}\" height=\"3000\" \
         style=\"border:0;color-scheme:{scheme}\"></iframe><script>addEventListener('message', event => {{ \
         document.body.innerHTML = '<script type=\"text/plain\">'; document.body.firstChild.textContent = event.data; \
         }});</script></body>"
    );
    let outer = scratch.path().join("frame.html");
    fs::write(&outer, frame).unwrap();
    // The bound only ends a hang.
    let output = Command::new("timeout")
        .args(["--kill-after=5", "120"])
        .arg(browser)
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--hide-scrollbars",
        ])
        .args([
            "--no-first-run",
            "--virtual-time-budget=10000",
            "--window-size=1400,3000",
        ])
        .arg(format!(
            "--user-data-dir={}",
            scratch.path().join("profile").display()
        ))
        .arg("--dump-dom")
        .arg(format!("file://{}", outer.display()))
        .output()
        .unwrap();
    let dom = String::from_utf8_lossy(&output.stdout);
    let seen = dom
        .split_once("<script type=\"text/plain\">")
        .and_then(|(_, rest)| rest.split_once("</script>"));
    let Some((seen, _)) = seen else {
        panic!(
            "{} no verdict in {dom}\n{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
    };
    serde_json::from_str(seen).unwrap_or_else(|error| panic!("{error}: {seen}"))
}

/// Looks at a report in each width and scheme, and answers what was seen last.
fn look_everywhere(points: &[Point]) -> Option<Looks> {
    let browser = browser()?;
    if let Some(directory) = env::var_os("KEEP_REPORTS") {
        let directory = Path::new(&directory).join(format!("{}-points", points.len()));
        fs::create_dir_all(&directory).unwrap();
        report::write(&head(), points, &directory).unwrap();
    }
    let mut last = None;
    for width in WIDTHS {
        for is_dark in [false, true] {
            let looks = look(&browser, points, width, is_dark);
            assert_eq!((looks.width, looks.is_dark), (width, is_dark));
            assert!(
                looks.wrong.is_empty(),
                "{width} dark={is_dark}: {:#?}",
                looks.wrong
            );
            assert!(looks.pictures > 0);
            for label in &looks.labels {
                assert!(has_unit(label), "the axis {label:?} has no unit");
            }
            last = Some(looks);
        }
    }
    last
}

/// A unit, or something that is counted, or a ratio that says of what.
fn has_unit(label: &str) -> bool {
    let units = [
        "us/request",
        ", us",
        "requests/s",
        ", %",
        ", bytes",
        "mean services",
        "planned",
    ];
    let counted = [
        "loops",
        "loops (SIMULATED)",
        "connections",
        "subject",
        "setup",
    ];
    let ratios = [" over ", "1 is ideal"];
    counted.contains(&label)
        || label.starts_with("loops of ")
        || units.iter().any(|unit| label.contains(unit))
        || ratios.iter().any(|ratio| label.contains(ratio))
}

pub(crate) fn head() -> Head {
    Head {
        format: FORMAT.to_owned(),
        version: "0.1.0".into(),
        commit: Some("0123456789abcdef0123456789abcdef01234567+changes".into()),
        started: "2026-01-01T00:00:00Z".into(),
        command: [
            "polyloop-curve",
            "run",
            "--sweep",
            "loops=1,2,4,8",
            "--sweep",
            "connections=16,256",
            "--out",
            "x",
        ]
        .map(str::to_owned)
        .to_vec(),
        seed: 1,
        machine: Machine {
            processor: "A Processor of Some Make 9999 64-Core Processor With a Long Name".into(),
            cores: 16,
            kernel: "6.18.0-0-cloud-amd64".into(),
            ..Machine::default()
        },
        subjects: vec![(
            "polyloop-echo".into(),
            "name = \"polyloop-echo\"\ncommand = \"polyloop echo\"\n".into(),
        )],
        left_out: vec!["redis: redis-server is not here".into()],
        ..Head::default()
    }
}

pub(crate) fn point(
    subject: &str,
    settings: &[(&str, String)],
    round: u32,
    measured: Measured,
) -> Point {
    let flags: Vec<String> = settings
        .iter()
        .map(|(axis, value)| format!("--{axis} {value}"))
        .collect();
    Point {
        subject: subject.into(),
        settings: settings
            .iter()
            .map(|(axis, value)| ((*axis).to_owned(), value.clone()))
            .collect(),
        round,
        started: "2026-01-01T00:00:00Z".into(),
        server_command: format!("taskset -c 0,1,2,3,4,5,6,7 {subject} --listen 127.0.0.1:9"),
        load_command: format!("taskset -c 8 polyloop-load 127.0.0.1:9 {}", flags.join(" ")),
        outcome: Outcome::Measured(Box::new(measured)),
    }
}

pub(crate) fn measured(server_us: f64, rate: f64) -> Measured {
    Measured {
        is_closed: true,
        rate,
        completed: 1_000_000,
        seconds: 3.0,
        connections: 256,
        server_us: Some(server_us),
        load_us: Some(2.5),
        machine_us: Some(server_us * 2.0 + 1.0),
        latency_us: vec![
            (0.0, 20.0),
            (0.5, 90.0),
            (0.9, 200.0),
            (0.99, 900.0),
            (0.999, 4_000.0),
            (0.9999, 11_000.0),
        ],
        memory_bytes: Some((4_000_000, 4_256_000)),
        imbalance: vec![1.01, 1.06, 1.02],
        loop_shares: vec![vec![0.99, 1.01, 1.06, 0.94]; 3],
        server_cores: vec![0, 1, 2, 3, 4, 5, 6, 7],
        load_cores: vec![8, 9, 10, 11],
        ..Measured::default()
    }
}

/// A sweep over loops, connections and sizes, in which one setup is doubted throughout.
fn sweep() -> Vec<Point> {
    let mut points = Vec::new();
    for round in 0..6_u32 {
        for loops in [1_u32, 2, 4, 8] {
            for connections in [16_u32, 256] {
                for (size, times) in [("64", 1.0), ("16KiB", 3.0)] {
                    let settings = [
                        ("loops", loops.to_string()),
                        ("connections", connections.to_string()),
                        ("size", size.to_owned()),
                    ];
                    let n = f64::from(loops);
                    let us = (5.0 + 0.1 * (n - 1.0)) * times + (f64::from(round % 3) - 1.0) * 0.25;
                    let mut figures =
                        measured(us, 150_000.0 * n / (1.0 + 0.04 * (n - 1.0)) / times);
                    if loops == 8 && connections == 16 {
                        figures.doubts.push(Doubt {
                            code: "generator-saturated".into(),
                            text: "its loops were busy".into(),
                            is_serious: true,
                        });
                    }
                    points.push(point("polyloop-echo", &settings, round, figures));
                }
            }
        }
    }
    points
}

/// Every subject there is beside each other, ways to spread, rates, and a subject that never started.
fn peers() -> Vec<Point> {
    let subjects = [
        "polyloop-echo",
        "bare-mio",
        "tokio-echo",
        "redis",
        "polyloop-proxy",
        "tokio-proxy",
        "haproxy",
        "nginx-stream",
    ];
    let mut points = Vec::new();
    for round in 0..6 {
        for (at, subject) in (0_u32..).zip(subjects) {
            for connections in [64_u32, 1_000] {
                let us = 4.0 + f64::from(at) + f64::from(connections) / 1e3;
                let settings = [
                    ("loops", "1".to_owned()),
                    ("connections", connections.to_string()),
                ];
                let mut figures = measured(us, 1e6 / us);
                figures.load_cores = vec![0, 1];
                points.push(point(subject, &settings, round, figures));
            }
        }
        for mode in [
            "reuseport",
            "corrected",
            "round-robin",
            "two-choices",
            "least",
        ] {
            for rate in [5_000_u32, 10_000, 20_000, 40_000] {
                let settings = [
                    ("loops", "2".to_owned()),
                    ("connections", "64".to_owned()),
                    ("mode", mode.to_owned()),
                    ("rate", format!("{}k", rate / 1_000)),
                ];
                let mut figures = measured(6.0, f64::from(rate));
                figures.is_closed = false;
                figures.rate_planned = Some(f64::from(rate));
                figures.latency_us = vec![
                    (0.5, 50.0),
                    (0.99, f64::from(rate).powi(2) / 1e5),
                    (0.999, f64::from(rate)),
                ];
                points.push(point("polyloop-echo", &settings, round, figures));
            }
        }
    }
    let mut failed = point(
        "tokio-echo",
        &[("loops", "9".to_owned())],
        0,
        Measured::default(),
    );
    failed.outcome = Outcome::Failed("it said:\nan address that is much too long for the width of a telephone: /tmp/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa".into());
    points.push(failed);
    points
}

/// The cell of the row that begins with `row`, under `column`.
fn cell<'a>(table: &'a [Vec<String>], row: &str, column: &str) -> &'a str {
    let at = table[0].iter().position(|name| name == column);
    let row = table.iter().find(|cells| cells[0] == row);
    &row.unwrap_or_else(|| panic!("no such row: {table:?}"))[at.unwrap()]
}

#[test]
fn a_sweep_is_readable_everywhere_and_its_tables_hold_the_points() {
    // Goal: nothing overflows, is clipped, covered or faint in either width and scheme, axes have units, and the tables
    // say what the points said. Method: Chromium looks at a sweep of loops, connections and sizes.
    let Some(looks) = look_everywhere(&sweep()) else {
        return;
    };
    for figure in [
        "throughput",
        "cost",
        "efficiency",
        "imbalance",
        "shares",
        "spectrum",
        "heat-map",
        "simulated",
    ] {
        assert!(looks.tables[figure].len() > 1, "{figure} has no table");
    }
    let cost = &looks.tables["cost"];
    let row = "polyloop-echo connections=256 loops=4 size=64";
    assert_eq!(cell(cost, row, "server us/request"), "5.3");
    assert_eq!(cell(cost, row, "machine us/request"), "11.6");
    assert_eq!(cell(cost, row, "bytes/connection"), "1000");
    let doubted = "polyloop-echo connections=16 loops=8 size=64";
    assert_eq!(cell(cost, doubted, "doubted"), "6/6");
    assert_eq!(cell(cost, row, "doubted"), "0/6");
    // One row for each setup, under a head: none is lost.
    assert_eq!(cost.len(), 1 + 4 * 2 * 2);
    assert!(
        looks
            .labels
            .iter()
            .any(|label| label == "server, us/request")
    );
}

#[test]
fn peers_and_rates_are_readable_everywhere() {
    // Goal: the same with as many names, lines and long words as a report has at most. Method: Chromium looks at all
    // subjects beside each other, five ways to spread at four rates, and a failure with a word that has no blank.
    let Some(looks) = look_everywhere(&peers()) else {
        return;
    };
    let peers = &looks.tables["peers"];
    assert_eq!(
        cell(
            peers,
            "haproxy connections=1000 loops=1",
            "server us/request"
        ),
        "11"
    );
    assert_eq!(
        cell(peers, "nginx-stream connections=64 loops=1", "requests/s"),
        "90.38k"
    );
    let tail = &looks.tables["hockey-stick"];
    let row = "polyloop-echo mode=least rate=20k";
    assert_eq!(cell(tail, row, "p99 us"), "4000");
    assert_eq!(cell(tail, row, "p50 us"), "50");
}
