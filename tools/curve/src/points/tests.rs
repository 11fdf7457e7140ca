//! Tests of results on disk.

use super::*;
use polyloop_measure::host::Scratch;

/// A head for tests.
pub(crate) fn head() -> Head {
    Head {
        format: FORMAT.to_owned(),
        version: "0".into(),
        commit: Some("abc".into()),
        started: "2026-01-01T00:00:00Z".into(),
        command: vec!["polyloop-curve".into()],
        seed: 1,
        machine: Machine::default(),
        subjects: vec![("a".into(), "text".into())],
        how: vec![("duration".into(), "3s".into())],
        ..Head::default()
    }
}

/// A point of `subject` with figures that follow from `loops` and `round`.
pub(crate) fn point(subject: &str, settings: &[(&str, &str)], round: u32) -> Point {
    let settings: std::collections::BTreeMap<String, String> = settings
        .iter()
        .map(|(axis, value)| ((*axis).to_owned(), (*value).to_owned()))
        .collect();
    let loops: f64 = settings
        .get("loops")
        .map_or(1.0, |text| text.parse().unwrap());
    let noise = 1.0 + f64::from(round % 3) * 0.002;
    Point {
        subject: subject.into(),
        settings,
        round,
        started: "2026-01-01T00:00:00Z".into(),
        server_command: "srv <x>".into(),
        load_command: "load".into(),
        outcome: Outcome::Measured(Box::new(Measured {
            is_closed: true,
            rate: 100_000.0 * loops / (1.0 + 0.02 * (loops - 1.0)) * noise,
            completed: 100_000,
            seconds: 1.0,
            connections: 64,
            server_us: Some(5.0 * (1.0 + 0.02 * (loops - 1.0)) * noise),
            machine_us: Some(11.0 * noise),
            latency_us: vec![(0.5, 100.0), (0.9, 200.0), (0.99, 900.0)],
            imbalance: vec![1.0, 1.1, 1.05],
            loop_shares: vec![vec![0.9, 1.1], vec![1.05, 0.95]],
            memory_bytes: Some((1_000_000, 1_064_000)),
            server_cores: vec![0],
            load_cores: vec![1],
            ..Measured::default()
        })),
    }
}

#[test]
fn a_sweep_goes_on_where_it_stopped() {
    // Goal: points are kept, a cut last line is dropped, and what is there is not measured again; by a file cut short.
    let scratch = Scratch::new().unwrap();
    let mut points = Points::open(scratch.path(), head()).unwrap();
    let (first, second) = (
        point("a", &[("loops", "1")], 0),
        point("a", &[("loops", "2")], 0),
    );
    points.add(first.clone()).unwrap();
    points.add(second.clone()).unwrap();
    let path = scratch.path().join(FILE);
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, &text[..text.len() - 20]).unwrap();
    let mut points = Points::open(scratch.path(), head()).unwrap();
    assert_eq!(points.all, std::slice::from_ref(&first));
    assert!(points.has(&first.setup(), 0) && !points.has(&first.setup(), 1));
    assert!(!points.has(&second.setup(), 0));
    points.add(second.clone()).unwrap();
    let again = Points::read(scratch.path()).unwrap();
    assert_eq!(again.all, [first, second]);
}

#[test]
fn a_point_that_failed_is_tried_again() {
    // Goal: a failure is kept for the report and is no measurement; by one.
    let scratch = Scratch::new().unwrap();
    let mut points = Points::open(scratch.path(), head()).unwrap();
    let mut failed = point("a", &[], 0);
    failed.outcome = Outcome::Failed("no such address".into());
    points.add(failed.clone()).unwrap();
    assert!(!points.has(&failed.setup(), 0));
    assert_eq!(Points::read(scratch.path()).unwrap().all, [failed]);
}

#[test]
fn foreign_and_old_files_are_refused() {
    // Goal: each kind of wrong file is told as what it is, and is left alone; by one of each.
    let scratch = Scratch::new().unwrap();
    let path = scratch.path().join(FILE);
    let whole = serde_json::to_string(&head()).unwrap();
    for (text, what) in [
        ("hello\n".to_owned(), "no result of polyloop-curve"),
        (
            "{\"format\":\"polyloop-load/1\"}\n".to_owned(),
            "no result of polyloop-curve",
        ),
        (
            "{\"format\":\"polyloop-curve/0\"}\n".to_owned(),
            "polyloop-curve/0",
        ),
        (format!("{whole}\n{{\"subject\":1}}\n"), "points.jsonl:2"),
        (whole.replace("abc", "def") + "\n", "another commit"),
        (
            whole.replace("\"text\"", "\"other\"") + "\n",
            "text of the subject a",
        ),
        (whole.replace("3s", "1s") + "\n", "another duration"),
        (
            whole.replace("\"seed\":1", "\"seed\":2") + "\n",
            "another seed",
        ),
    ] {
        fs::write(&path, &text).unwrap();
        let error = Points::open(scratch.path(), head())
            .unwrap_err()
            .to_string();
        assert!(error.contains(what), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
    }
    assert!(Points::read(&scratch.path().join("none")).is_err());
}

#[test]
fn a_sweep_that_grows_tells_all_its_commands_and_subjects() {
    // Goal: whoever reads the result finds every command, subject and gap of it, once, and every point; by a second
    // start with more, the same again, and a cut line between.
    let scratch = Scratch::new().unwrap();
    let mut points = Points::open(scratch.path(), head()).unwrap();
    let first = point("a", &[("loops", "1")], 0);
    points.add(first.clone()).unwrap();
    let path = scratch.path().join(FILE);
    let cut = fs::read_to_string(&path).unwrap() + "{\"subject\":";
    fs::write(&path, cut).unwrap();
    let mut more = head();
    more.command.push("--sweep".into());
    more.subjects.push(("b".into(), "text of b".into()));
    more.left_out.push("c: it is not here".into());
    for _ in 0..2 {
        Points::open(scratch.path(), more.clone()).unwrap();
    }
    let read = Points::read(scratch.path()).unwrap();
    assert_eq!(read.all, [first]);
    assert_eq!(read.head.command, head().command);
    assert_eq!(read.head.later, [more.command]);
    assert_eq!(
        (read.head.subjects, read.head.left_out),
        (more.subjects, more.left_out)
    );
}

#[test]
fn a_first_line_that_was_cut_is_written_again() {
    // Goal: an interrupt at the very beginning locks nobody out; by half a first line.
    let scratch = Scratch::new().unwrap();
    fs::write(
        scratch.path().join(FILE),
        "{\"format\":\"polyloop-curve/1\",\"ver",
    )
    .unwrap();
    Points::open(scratch.path(), head()).unwrap();
    assert_eq!(Points::read(scratch.path()).unwrap().head, head());
}

#[test]
fn figures_are_derived_from_what_was_measured() {
    // Goal: numbers of axes, shared cores and memory per connection; by hand-made points.
    let point = point(
        "a",
        &[("size", "1KiB"), ("rate", "20k/s"), ("accept", "x")],
        0,
    );
    assert_eq!(point.number("size"), Some(1024.0));
    assert_eq!(point.number("rate"), Some(20_000.0));
    assert_eq!((point.number("accept"), point.number("none")), (None, None));
    let mut measured = point.measured().unwrap().clone();
    assert_eq!(measured.memory_per_connection(), Some(1_000.0));
    assert_eq!(measured.latency_at(0.99), Some(900.0));
    assert!(!measured.shares_cores());
    measured.load_cores = vec![0, 1];
    assert!(measured.shares_cores());
}
