//! When requests are sent: open and closed loops, rates that cannot be reached, the search, the probe.

use crate::harness::{SHORT, beside_others, doubts, is_clean, measure, run};
use crate::servers::{Served, echo, garbage, silent, slow_echo};
use polyloop_load::result::{Mode, StageKind};

#[test]
fn an_open_loop_sends_what_is_planned() {
    // Goal: the plan decides what is sent, and the server sees exactly that. Method: fixed arrivals, whose number is known but
    // for the phase of each connection; the bytes that a server of another kind has counted.
    let _shared = beside_others();
    let served = Served::with(echo);
    let flags = [
        "--rate",
        "2k/s",
        "--arrivals",
        "fixed",
        "--connections",
        "16",
    ];
    let (stage, result) = measure(&served.target, &flags);
    is_clean(&stage);
    assert_eq!(result.mode, Mode::Open);
    assert_eq!(stage.rate_planned, Some(2_000.0));
    let sent = stage.counts.sent;
    assert!((600 - 16..=600 + 16).contains(&sent), "{sent}");
    assert_eq!(served.bytes(), sent * 64);
    assert_eq!(stage.counts.bytes_out, sent * 64);
    assert_eq!(stage.counts.bytes_in, sent * 64);
    assert_eq!(served.connections(), 16);
}

#[test]
fn every_kind_of_arrival_sends() {
    // Goal: each way to spread requests over time is accepted and reaches its rate. Method: what was offered, within what chance
    // allows (six standard deviations of 600 arrivals).
    let _shared = beside_others();
    let served = Served::with(echo);
    for arrivals in ["exponential", "fixed", "bursty:4"] {
        let flags = ["--rate", "2000", "--arrivals", arrivals, "-c", "8"];
        let (stage, _) = measure(&served.target, &flags);
        is_clean(&stage);
        let offered = stage.counts.offered;
        assert!((450..=750).contains(&offered), "{arrivals}: {offered}");
    }
}

#[test]
fn a_closed_loop_is_labelled_in_every_output() {
    // Goal: nobody takes a closed loop for an open one. Method: the text, and the JSON.
    let _shared = beside_others();
    let served = Served::with(echo);
    let mut args = vec![served.target.as_str(), "--closed", "-c", "4"];
    args.extend(SHORT);
    run(&args).exits(0).says(&["CLOSED LOOP"]);
    args.extend(["--format", "json"]);
    let ran = run(&args).exits(0);
    assert!(ran.out.contains("\"mode\": \"closed\""), "{}", ran.out);
    let stage = crate::harness::measured(&ran.result());
    is_clean(&stage);
    assert_eq!(stage.rate_planned, None);
}

#[test]
fn a_rate_beyond_reach_is_said_with_what_was_reached() {
    // Goal: what could not be sent is counted, doubted and told. Method: one connection to a server that takes 20 ms for an
    // answer, at 2,000 requests a second.
    let _shared = beside_others();
    let served = Served::with(slow_echo);
    let flags = ["--rate", "2k/s", "-c", "1"];
    let (stage, result) = measure(&served.target, &flags);
    assert!(stage.counts.unsent > stage.counts.sent, "{stage:?}");
    assert!(stage.counts.completed > 0);
    assert!(doubts(&result, "schedule-slipped"));
    // What is due goes on being sent in the grace, one each 20 ms; what was reached is what was sent in the 300 ms before.
    assert!(stage.counts.sent_late > 0, "{:?}", stage.counts);
    assert!(stage.counts.sent_in_time() <= 16, "{:?}", stage.counts);
    for reached in [stage.rates.sent, stage.rates.completed] {
        assert!(reached * stage.seconds < 16.5, "{:?}", stage.rates);
    }
    let mut args = vec![served.target.as_str(), "--rate", "2k/s", "-c", "1"];
    args.extend(SHORT);
    let ran = run(&args).exits(0);
    ran.says(&[
        "planned",
        "2,000/s",
        "never sent",
        "WARNING (schedule-slipped)",
    ]);
}

#[test]
fn a_warm_up_is_no_part_of_the_result() {
    // Goal: the stage that is measured begins when the other is over. Method: both stages' counts, and the server's bytes for
    // both together.
    let _shared = beside_others();
    let served = Served::with(echo);
    let args = [
        served.target.as_str(),
        "--format",
        "json",
        "--live",
        "off",
        "--duration",
        "300ms",
        "--warm-up",
        "200ms",
        "--rate",
        "1k/s",
    ];
    let result = run(&args).exits(0).result();
    let kinds: Vec<StageKind> = result.stages.iter().map(|stage| stage.kind).collect();
    assert_eq!(
        kinds,
        [StageKind::Ramp, StageKind::WarmUp, StageKind::Measure]
    );
    let sent: u64 = result.stages.iter().map(|stage| stage.counts.sent).sum();
    assert_eq!(served.bytes(), sent * 64);
    for stage in &result.stages[1..] {
        crate::harness::keeps_the_laws(stage);
        is_clean(stage);
    }
}

#[test]
fn a_warm_up_that_ends_early_keeps_its_plan() {
    // Goal: it ends when the pace is steady, and nothing is planned twice, or beyond its end, by moving it. Method: as many planned as
    // the rate and the time that it took ask for, to five deviations; and the verdict in the result.
    let _shared = beside_others();
    let served = Served::with(echo);
    let mut args = vec![served.target.as_str(), "--rate", "2k/s", "--format", "json"];
    args.extend(["--duration", "100ms", "--warm-up", "300ms", "--live", "off"]);
    args.extend(["--warm-up-max", "20s"]);
    let result = run(&args).exits(0).result();
    let warm_up = &result.stages[1];
    assert_eq!(warm_up.kind, StageKind::WarmUp);
    assert!(warm_up.settled.unwrap().is_steady, "{warm_up:?}");
    assert!(warm_up.seconds < 20.0, "{warm_up:?}");
    crate::harness::keeps_the_laws(warm_up);
    let expected = 2_000.0 * warm_up.seconds;
    let off = (warm_up.counts.offered as f64 - expected).abs();
    assert!(off < 5.0 * expected.sqrt(), "{warm_up:?}");
    let sent: u64 = result.stages.iter().map(|stage| stage.counts.sent).sum();
    assert_eq!(served.bytes(), sent * 64);
}

#[test]
fn a_warm_up_that_never_settles_is_a_doubt() {
    // Goal: it ends at the latest when it is told to, and the result says so. Method: a server that never answers; and the same for a
    // fixed time, where nothing is looked at.
    let _shared = beside_others();
    let served = Served::with(silent);
    let ran = |most: &str| {
        let mut args = vec![served.target.as_str(), "--rate", "100/s", "--grace", "0s"];
        args.extend(["--duration", "100ms", "--warm-up", "200ms", "--live", "off"]);
        args.extend(["--warm-up-max", most]);
        run(&args).exits(0)
    };
    ran("400ms").says(&["WARNING (never-steady)", "nothing had been done"]);
    let fixed = ran("200ms").out;
    assert!(!fixed.contains("never-steady"), "{fixed}");
}

#[test]
fn windows_lie_within_their_stage() {
    // Goal: rows of the time series are as long as they say, from the first on. Method: the least interval there is.
    let _shared = beside_others();
    let served = Served::with(echo);
    let (stage, _) = measure(&served.target, &["--interval", "100ms", "--rate", "1k/s"]);
    assert_eq!(stage.windows.len(), 3, "{:?}", stage.windows);
    for (index, window) in stage.windows.iter().enumerate() {
        assert!((window.seconds - 0.1).abs() < 1e-6, "{window:?}");
        assert!((window.t_s - index as f64 * 0.1).abs() < 1e-6, "{window:?}");
    }
}

#[test]
fn a_search_ends_at_the_highest_rate_that_was_allowed() {
    // Goal: the search ramps, stops where it is told to, verifies, and measures the spectrum. Method: a limit that an echo keeps
    // easily, and a low highest rate.
    let _shared = beside_others();
    let served = Served::with(echo);
    let mut args = vec![served.target.as_str(), "--find-max", "p50<2s"];
    args.extend(["--rate", "1k/s", "--max-rate", "2k/s", "--format", "json"]);
    args.extend(["--duration", "100ms", "--warm-up", "0s", "--live", "off"]);
    let result = run(&args).exits(0).result();
    let search = result.search.unwrap();
    assert_eq!(search.rate_found, Some(2_000.0), "{search:?}");
    assert!(search.verified, "{search:?}");
    let kinds = |kind| {
        result
            .stages
            .iter()
            .filter(|stage| stage.kind == kind)
            .count()
    };
    assert!(kinds(StageKind::Verify) >= 1);
    // On a host that is not quiet they are tried again.
    assert!(kinds(StageKind::Spectrum) >= 3);
}

#[test]
fn a_search_begins_at_the_rate_that_was_typed() {
    // Goal: --rate is not passed over. Method: a rate of which four times is the highest allowed, and one above that.
    let _shared = beside_others();
    let served = Served::with(echo);
    for (rate, tried) in [("500/s", &[500.0, 2_000.0] as &[f64]), ("9k/s", &[2_000.0])] {
        let mut args = vec![served.target.as_str(), "--find-max", "p50<2s"];
        args.extend(["--rate", rate, "--max-rate", "2k/s", "--format", "json"]);
        args.extend(["--duration", "100ms", "--warm-up", "0s", "--live", "off"]);
        let result = run(&args).exits(0).result();
        let trials = result.search.unwrap().trials;
        let mut ramp: Vec<f64> = trials.iter().map(|trial| trial.rate_planned).collect();
        // On a host that is not quiet they are tried again.
        ramp.dedup();
        assert!(ramp.starts_with(tried), "{rate}: {ramp:?}");
        let names: std::collections::BTreeSet<&str> = result
            .stages
            .iter()
            .map(|stage| stage.name.as_str())
            .collect();
        assert_eq!(names.len(), result.stages.len(), "names are unique");
    }
}

#[test]
fn a_search_ends_at_what_the_server_can() {
    // Goal: the search finds a limit that is not its own. Method: eight connections to a server that takes 20 ms for each answer, which
    // is 400 a second and no more; trials are so short that eight that wait at the end are worth a tenth.
    let _shared = beside_others();
    let served = Served::with(slow_echo);
    let mut args = vec![
        served.target.as_str(),
        "--find-max",
        "mean<100ms",
        "-c",
        "8",
    ];
    args.extend(["--rate", "200/s", "--format", "json", "--grace", "300ms"]);
    args.extend(["--duration", "200ms", "--warm-up", "0s", "--live", "off"]);
    let search = run(&args).exits(0).result().search.unwrap();
    assert!(
        search.trials.iter().any(|trial| !trial.passed),
        "{search:?}"
    );
    let limit = search.limited_by.as_deref().unwrap();
    assert!(!limit.contains("highest rate allowed"), "{search:?}");
    // On a host that is busy with other things it may find none.
    assert!(
        search.rate_found.is_none_or(|found| found < 450.0),
        "{search:?}"
    );
}

#[test]
fn awaiting_the_next_send_is_not_being_saturated() {
    // Goal: a loop that spins until the next send uses a whole processor and is not called busy. Method: a spin longer than any gap.
    let _shared = beside_others();
    let served = Served::with(echo);
    let flags = ["--rate", "1k/s", "--spin", "1s", "--loops", "1"];
    let (stage, result) = measure(&served.target, &flags);
    assert!(!doubts(&result, "generator-saturated"), "{stage:?}");
    assert!(
        stage.busiest_loop_share.is_some_and(|share| share > 0.0),
        "{stage:?}"
    );
}

#[test]
fn the_probe_does_not_wait_for_connections_that_churn_makes_later() {
    // Goal: the probe is there when the load begins, however many connections churn may make. Method: so many that dialling them
    // ahead would take longer than the run; each sample of the probe is a message that the server has seen.
    let _shared = beside_others();
    let served = Served::with(echo);
    let flags = ["--connect-rate", "200/s", "-c", "10000", "--probe", "200/s"];
    let (stage, _) = measure(&served.target, &flags);
    assert!(stage.probe.samples > 20, "{stage:?}");
    let all = stage.counts.sent + stage.probe.samples;
    assert_eq!(served.bytes(), all * 64, "{stage:?}");
}

#[test]
fn the_probe_is_beside_the_load_and_in_none_of_its_counts() {
    // Goal: the probe measures at its own rate beside every kind of load. Method: the echo's bytes are those of the load and of the
    // probe; the probe's samples are those of its rate and not of the load's.
    let _shared = beside_others();
    let few = 20..=110;
    for load in [
        &["--rate", "2k/s"] as &[&str],
        &["--closed", "-c", "4"],
        &["--idle"],
        &["--connect-rate", "200/s"],
    ] {
        let served = Served::with(echo);
        let mut flags = vec!["--probe", "200/s"];
        flags.extend(load);
        let (stage, _) = measure(&served.target, &flags);
        assert!(few.contains(&stage.probe.samples), "{load:?}: {stage:?}");
        assert_eq!(stage.counts.bytes_out, stage.counts.sent * 64);
        let all = stage.counts.sent + stage.probe.samples;
        assert_eq!(served.bytes(), all * 64, "{load:?}");
        assert!(stage.counts.faults.is_empty(), "{load:?}: {stage:?}");
    }
}

#[test]
fn the_probe_measures_beside_a_stream() {
    // Goal: a stream is where a probe is needed most. Method: an echo, a stream both ways, and the probe's samples; without a value
    // the probe takes its default rate.
    let _shared = beside_others();
    let served = Served::with(echo);
    let flags = ["--stream", "both", "-c", "2", "--probe"];
    let (stage, _) = measure(&served.target, &flags);
    assert!(stage.probe.samples > 0, "{stage:?}");
    assert!(
        stage.counts.bytes_in > 0 && stage.counts.faults.is_empty(),
        "{stage:?}"
    );
}

#[test]
fn what_the_probe_is_not_answered_counts_with_its_age() {
    // Goal: a server that answers nothing does not make the probe look good. Method: one that never answers, and one that answers
    // garbage, with an idle load.
    let _shared = beside_others();
    for served in [Served::with(silent), Served::with(garbage)] {
        let flags = [
            "--idle",
            "--probe",
            "200/s",
            "--timeout",
            "100ms",
            "--grace",
            "0s",
        ];
        let (stage, _) = measure(&served.target, &flags);
        assert!(stage.probe.samples > 20, "{stage:?}");
        assert_eq!((stage.counts.sent, stage.counts.unanswered), (0, 0));
    }
}
