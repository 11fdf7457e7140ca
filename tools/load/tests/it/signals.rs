//! Interrupts: what was measured is written; a second one ends at once.

use std::io::Write;
use std::path::Path;
use std::process::Stdio;

use polyloop_load::result::RunResult;
use rustix::process::Signal;

use crate::harness::{
    Ran, beside_others, command, directory, eventually, keeps_the_laws, kill, measured, path_in,
};
use crate::servers::{Served, echo};

/// A run that does not end by itself.
fn endless<'a>(target: &'a str, json: &'a str) -> Vec<&'a str> {
    let flags = [
        target,
        "--duration",
        "1h",
        "--warm-up",
        "0s",
        "--live",
        "off",
    ];
    let mut args = flags.to_vec();
    args.extend(["--json", json]);
    args
}

#[test]
fn an_interrupt_loses_nothing() {
    // Goal: exit code 3, a whole file that says it is no whole run, and counts that add up. Method: the signal once the server has
    // been asked something, of each kind.
    let _shared = beside_others();
    let directory = directory("an_interrupt_loses_nothing");
    for (signal, name) in [(Signal::INT, "int.json"), (Signal::TERM, "term.json")] {
        let served = Served::with(echo);
        let json = path_in(&directory, name);
        let mut args = endless(&served.target, &json);
        args.extend(["--rate", "2k/s", "--arrivals", "fixed", "-c", "16"]);
        let child = command(&args).spawn().unwrap();
        eventually("requests are made", || served.bytes() > 100 * 64);
        kill(child.id(), signal);
        let ran = Ran::of(child).exits(3);
        ran.says(&["INTERRUPTED"]);
        let result = RunResult::read(Path::new(&json)).unwrap();
        assert!(!result.is_complete);
        let stage = measured(&result);
        keeps_the_laws(&stage);
        assert!(stage.counts.completed >= 100, "{:?}", stage.counts);
        assert!(stage.seconds < 3_600.0);
        // The stage is as long as requests were sent in it, so that the rate is the planned one.
        let planned = stage.seconds * 2_000.0;
        assert!(stage.counts.offered as f64 <= planned + 16.0, "{stage:?}");
    }
}

#[test]
fn a_trial_that_is_cut_short_is_no_trial() {
    // Goal: a search that is interrupted claims no rate that it has not tried to the end. Method: a first trial of an hour.
    let _shared = beside_others();
    let served = Served::with(echo);
    let directory = directory("a_trial_that_is_cut_short_is_no_trial");
    let json = path_in(&directory, "a.json");
    let mut args = endless(&served.target, &json);
    args.extend(["--find-max", "p50<2s", "--rate", "2k/s"]);
    let child = command(&args).spawn().unwrap();
    eventually("requests are made", || served.bytes() > 400 * 64);
    kill(child.id(), Signal::INT);
    Ran::of(child)
        .exits(3)
        .says(&["the search did not get to its end"]);
    let search = RunResult::read(Path::new(&json)).unwrap().search.unwrap();
    assert_eq!((search.rate_found, search.trials.len()), (None, 0));
}

#[test]
fn an_interrupt_while_connections_are_made_ends_the_run() {
    // Goal: the ramp is interrupted as a stage is. Method: connections so slow to come that there are never enough.
    let _shared = beside_others();
    let served = Served::with(echo);
    let directory = directory("an_interrupt_while_connections_are_made_ends_the_run");
    let json = path_in(&directory, "a.json");
    let mut args = endless(&served.target, &json);
    args.extend(["--ramp-rate", "10/s", "-c", "1000"]);
    let child = command(&args).spawn().unwrap();
    eventually("a connection is made", || served.connections() > 0);
    kill(child.id(), Signal::INT);
    Ran::of(child).exits(3);
    assert!(!RunResult::read(Path::new(&json)).unwrap().is_complete);
}

#[test]
fn a_second_interrupt_ends_at_once() {
    // Goal: who cannot wait need not. Method: standard output is a pipe that is full, so that the run that was interrupted cannot end
    // by itself: its file is whole by then.
    let _shared = beside_others();
    let served = Served::with(echo);
    let directory = directory("a_second_interrupt_ends_at_once");
    let json = path_in(&directory, "a.json");
    let (unread, mut full) = std::io::pipe().unwrap();
    let blocking = full.try_clone().unwrap();
    rustix::io::ioctl_fionbio(&full, true).unwrap();
    while full.write(&[0; 4096]).is_ok() {}
    rustix::io::ioctl_fionbio(&full, false).unwrap();
    let mut child = command(&endless(&served.target, &json))
        .stdout(Stdio::from(blocking))
        .spawn()
        .unwrap();
    eventually("requests are made", || served.bytes() > 0);
    kill(child.id(), Signal::INT);
    eventually("the result is written", || {
        let result = RunResult::read(Path::new(&json));
        result.is_ok_and(|result| result.warnings.iter().any(|it| it.code == "interrupted"))
    });
    assert_eq!(child.try_wait().unwrap(), None, "it waits for its reader");
    kill(child.id(), Signal::INT);
    Ran::of(child).exits(3);
    drop(unread);
}
