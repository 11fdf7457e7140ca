//! Tests of whole reports.

use super::*;
use crate::points::Syscalls;
use crate::points::tests::{head, point};
use polyloop_measure::host::Scratch;

/// A sweep with everything in it.
fn rich() -> Vec<Point> {
    let mut points = Vec::new();
    for round in 0..6 {
        for subject in ["ours", "theirs"] {
            for loops in ["1", "2", "4", "8"] {
                for (connections, size) in
                    [("16", "64"), ("256", "64"), ("16", "1KiB"), ("256", "1KiB")]
                {
                    let settings = [
                        ("loops", loops),
                        ("connections", connections),
                        ("size", size),
                    ];
                    points.push(point(subject, &settings, round));
                }
            }
        }
    }
    points
}

fn ids(figures: &[Figure]) -> Vec<&'static str> {
    figures.iter().map(|figure| figure.id).collect()
}

#[test]
fn a_rich_sweep_has_all_figures_with_tables() {
    // Goal: each figure that its axes allow is there with a picture and a table, and the models are told; by a sweep of
    // points that follow Amdahl's law.
    let (page, figures) = render(&head(), &rich());
    let all = [
        "throughput",
        "peers",
        "cost",
        "efficiency",
        "imbalance",
        "shares",
        "spectrum",
        "heat-map",
        "simulated",
    ];
    assert_eq!(ids(&figures), all);
    for figure in &figures {
        assert!(
            !figure.charts.is_empty() && !figure.table.rows.is_empty(),
            "{}",
            figure.id
        );
        assert!(page.contains(&format!("id=\"{}\"", figure.id)));
    }
    assert!(page.contains("Amdahl with lambda"), "no model");
    assert!(
        page.contains("load and latency: no two points"),
        "what is missing is not told"
    );
    assert!(!page.contains("share cores") && page.contains("SIMULATED"));
    assert!(page.contains("srv &lt;x&gt;") && !page.contains("NaN") && !page.contains("inf "));
    assert_eq!(render(&head(), &rich()).0, page);
}

#[test]
fn shared_cores_are_the_first_thing_said() {
    // Goal: the note is loud and throughput comes after cost; by the same points on the same cores.
    let mut points = rich();
    for point in &mut points {
        if let Outcome::Measured(measured) = &mut point.outcome {
            measured.load_cores = vec![0];
        }
    }
    let (page, figures) = render(&head(), &points);
    let place = |id| ids(&figures).iter().position(|known| *known == id);
    assert!(page.contains("Generator and server share cores."));
    assert!(place("throughput") > place("cost"));
    assert!(page.contains("no fit: the generator shares") && !page.contains("lambda"));
}

#[test]
fn two_loop_counts_give_an_efficiency_and_no_model() {
    // Goal: a model that the points cannot tell is refused in words; by loops 1 and 2.
    let mut points = Vec::new();
    for round in 0..6 {
        points.push(point("ours", &[("loops", "1")], round));
        points.push(point("ours", &[("loops", "2")], round));
    }
    let (page, figures) = render(&head(), &points);
    assert!(page.contains("no fit of Amdahl") && page.contains("2 different counts"));
    let efficiency = figures
        .iter()
        .find(|figure| figure.id == "efficiency")
        .unwrap();
    assert_eq!(efficiency.table.rows[0][2], "0.980");
}

#[test]
fn a_sweep_that_failed_is_reported_too() {
    // Goal: what the server said is in the page, nothing panics on no points at all; by one failure, and by nothing.
    let mut failed = point("ours", &[], 0);
    failed.outcome = Outcome::Failed("it said: <no such address>".into());
    let (page, _) = render(&head(), &[failed]);
    assert!(page.contains("&lt;no such address&gt;") && page.contains("Nothing was measured."));
    let (page, figures) = render(&head(), &[]);
    assert_eq!(ids(&figures), ["simulated"]);
    assert!(page.contains("Left out"));
}

#[test]
fn a_failure_that_was_mended_is_no_failure_of_the_report() {
    // Goal: a point that a later start measured is not among the failed, one that nobody measured is; and the commands
    // of both starts stand there as they can be typed. By a failure of each kind.
    let mut mended = point("ours", &[], 0);
    mended.outcome = Outcome::Failed("out of luck".into());
    let mut failed = point("ours", &[], 1);
    failed.outcome = Outcome::Failed("out of order".into());
    let mut head = head();
    head.later = vec![
        ["polyloop-curve", "--load-flags", "--pipeline 4"]
            .map(str::to_owned)
            .to_vec(),
    ];
    let (page, _) = render(&head, &[mended, failed, point("ours", &[], 0)]);
    assert!(!page.contains("out of luck") && page.contains("out of order"));
    assert!(page.contains("polyloop-curve --load-flags '--pipeline 4'"));
}

#[test]
fn rates_make_a_hockey_stick_with_a_knee() {
    // Goal: the knee is the last rate before latency takes off; by latencies made for it.
    let mut points = Vec::new();
    for (rate, p99) in [
        ("1000", 100.0),
        ("2000", 120.0),
        ("4000", 250.0),
        ("8000", 9_000.0),
    ] {
        let mut point = point("ours", &[("rate", rate)], 0);
        if let Outcome::Measured(measured) = &mut point.outcome {
            measured.rate = rate.parse().unwrap();
            measured.rate_planned = Some(measured.rate);
            measured.latency_us = vec![(0.5, 50.0), (0.99, p99)];
        }
        points.push(point);
    }
    let (page, figures) = render(&head(), &points);
    assert!(ids(&figures).contains(&"hockey-stick"));
    assert!(page.contains("the knee is after 4000/s"), "{page}");
}

#[test]
fn ways_to_spread_are_held_against_one_queue() {
    // Goal: a bar and a row for each way, and how many times the shared queue's deviation; by deviations made for it, one
    // setup of which has no shared queue.
    let mut points = Vec::new();
    for (mode, connections, deviation) in [
        ("shared-queue", "200", 500.0),
        ("reuseport", "200", 8_000.0),
        ("least", "200", 750.0),
        ("least", "20", 70.0),
    ] {
        let mut point = point("ours", &[("mode", mode), ("connections", connections)], 0);
        if let Outcome::Measured(measured) = &mut point.outcome {
            measured.deviation_us = Some(deviation);
        }
        points.push(point);
    }
    let (page, figures) = render(&head(), &points);
    let figure = figures.iter().find(|figure| figure.id == "deviation");
    assert_eq!(figure.unwrap().table.rows.len(), 4);
    let words = page.find("Times the deviation of one queue for all (ours connections=200): ");
    let words = &page[words.unwrap()..];
    let words = &words[..words.find("</p>").unwrap()];
    assert!(
        words.contains("reuseport 16") && words.contains("least 1.5"),
        "{words}"
    );
    assert_eq!(words.matches("least").count(), 1, "{words}");
}

#[test]
fn every_way_to_spread_has_its_tail_drawn() {
    // Goal: with more lines than can be told apart each keeps its p99, and knees at one rate are one word; and where
    // lines are left out it is said. By five and by nine ways that take off at the same rate.
    let sweep = |modes: u32| -> Vec<Point> {
        let mut points = Vec::new();
        for mode in 0..modes {
            for (rate, p99) in [("1000", 100.0), ("2000", 120.0), ("4000", 9_000.0)] {
                let settings = [("rate", rate), ("mode", &*format!("m{mode}"))];
                let mut point = point("ours", &settings, 0);
                if let Outcome::Measured(measured) = &mut point.outcome {
                    measured.latency_us = vec![(0.5, 50.0), (0.99, p99), (0.999, 2.0 * p99)];
                }
                points.push(point);
            }
        }
        points
    };
    let (page, figures) = render(&head(), &sweep(5));
    let chart = &figures
        .iter()
        .find(|figure| figure.id == "hockey-stick")
        .unwrap()
        .charts[0];
    let names: Vec<&str> = chart
        .series
        .iter()
        .map(|series| series.name.as_str())
        .collect();
    assert_eq!(
        names,
        [0, 1, 2, 3, 4].map(|mode| format!("ours mode=m{mode} p99"))
    );
    assert_eq!(chart.markers, [(2000.0, "knee".to_owned())]);
    // The spectrum has a line for each of fifteen points.
    assert!(page.contains("8 of 15 lines") && !page.contains("of 5 lines"));
    assert!(
        render(&head(), &sweep(9))
            .0
            .contains("8 of 9 lines are drawn")
    );
}

#[test]
fn each_loop_has_a_bar_for_each_second() {
    // Goal: who did how much when can be seen and read; by a round of two loops and two seconds.
    let (_, figures) = render(&head(), &[point("ours", &[("loops", "2")], 0)]);
    let shares = figures.iter().find(|figure| figure.id == "shares").unwrap();
    let bars: Vec<Vec<f64>> = shares.charts[0]
        .series
        .iter()
        .map(|second| second.marks.iter().map(|mark| mark.y).collect())
        .collect();
    assert_eq!(bars, [[0.9, 1.1], [1.05, 0.95]]);
    assert_eq!(
        shares.table.rows[1],
        ["ours", "2", "1", "1.05", "2", "0.95"]
    );
}

#[test]
fn cost_is_drawn_against_what_was_swept() {
    // Goal: a sweep of sizes alone, or of loops, has its cost drawn too, and system calls and memory in the table; by one
    // of each.
    for (axis, values, label) in [
        ("size", ["64", "1KiB"], "size, bytes"),
        ("loops", ["1", "2"], "loops"),
    ] {
        let mut points = values.map(|value| point("ours", &[(axis, value)], 0));
        if let Outcome::Measured(measured) = &mut points[0].outcome {
            measured.syscalls = Some(Syscalls {
                per_request: 2.02,
                counted_by: "perf".into(),
            });
        }
        let (_, figures) = render(&head(), &points);
        let cost = figures.iter().find(|figure| figure.id == "cost").unwrap();
        assert_eq!(cost.charts[0].x.label, label);
        let cell = |row: usize, column: &str| {
            let at = cost
                .table
                .head
                .iter()
                .position(|name| name == column)
                .unwrap();
            cost.table.rows[row][at].as_str()
        };
        assert_eq!(cell(0, "system calls/request"), "2.02");
        assert_eq!(cell(1, "system calls/request"), "-");
        assert_eq!(cell(1, "bytes/connection"), "1000");
    }
}

#[test]
fn the_files_are_written() {
    // Goal: a page and a picture each, in the directory; and a directory that is not there is told.
    let scratch = Scratch::new().unwrap();
    let path = write(&head(), &rich(), scratch.path()).unwrap();
    assert!(
        fs::read_to_string(&path)
            .unwrap()
            .starts_with("<!doctype html>")
    );
    for name in ["throughput.svg", "cost-2.svg", "simulated-2.svg"] {
        let svg = fs::read_to_string(scratch.path().join(name)).unwrap();
        assert!(
            svg.starts_with("<svg style=\"background:#ffffff\" "),
            "{svg}"
        );
    }
    assert!(write(&head(), &[], &scratch.path().join("none")).is_err());
}
