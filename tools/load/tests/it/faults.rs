//! Servers that misbehave: counted by kind, explained in the text, and the load goes on.

use crate::harness::{SHORT, beside_others, doubts, measure, run};
use crate::servers::{
    Served, echo_then_finish, finish, garbage, read_then_reset, silent, slow_echo,
};

#[test]
fn a_server_that_closes_is_counted_and_dialled_again() {
    // Goal: each end is a fault of its own and the connection comes back. Method: a server that closes after three answers.
    let _shared = beside_others();
    let served = Served::with(echo_then_finish);
    let (stage, result) = measure(&served.target, &["-c", "4", "--rate", "500/s"]);
    assert!(stage.counts.faults["finished"] >= 4, "{stage:?}");
    assert!(stage.counts.completed > 4, "{stage:?}");
    assert!(served.connections() > 4);
    assert!(doubts(&result, "faults"));
}

#[test]
fn garbage_is_counted() {
    // Goal: a wrong answer completes nothing. Method: a server that answers the right number of wrong bytes.
    let _shared = beside_others();
    let served = Served::with(garbage);
    let (stage, _) = measure(&served.target, &["-c", "4", "--rate", "500/s"]);
    assert_eq!(stage.counts.completed, 0, "{stage:?}");
    assert_eq!(stage.counts.unanswered, stage.counts.sent);
    assert_eq!(stage.counts.faults["garbage"], stage.counts.sent);
}

#[test]
fn a_server_that_never_answers_meets_a_deadline() {
    // Goal: the deadline is counted, and each request once. Method: a deadline below the duration, so that connections are made
    // anew and wait again.
    let _shared = beside_others();
    let served = Served::with(silent);
    let flags = ["-c", "4", "--rate", "500/s", "--timeout", "50ms"];
    let (stage, result) = measure(&served.target, &flags);
    assert_eq!(stage.counts.completed, 0, "{stage:?}");
    assert!(stage.counts.faults["timeout"] >= 4, "{stage:?}");
    assert!(stage.counts.unanswered >= 4, "{stage:?}");
    assert!(doubts(&result, "unanswered"));
    let mut args = vec![served.target.as_str(), "--timeout", "50ms"];
    args.extend(SHORT);
    let ran = run(&args).exits(0);
    ran.says(&[
        "unanswered",
        "timeout",
        "no whole answer came before the deadline",
    ]);
}

#[test]
fn answers_in_the_grace_count() {
    // Goal: what was sent within the stage and is answered soon after it is complete. Method: a server that takes 20 ms, so
    // that some are on their way at the end.
    let _shared = beside_others();
    let served = Served::with(slow_echo);
    let (stage, _) = measure(&served.target, &["-c", "32", "--rate", "500/s"]);
    assert_eq!(stage.counts.unanswered, 0, "{stage:?}");
    assert!(stage.counts.faults.is_empty(), "{stage:?}");
}

#[test]
fn a_server_that_resets_is_counted() {
    // Goal: resets are told by their errno. Method: a server that resets at the first byte.
    let _shared = beside_others();
    let served = Served::with(read_then_reset);
    let (stage, _) = measure(&served.target, &["-c", "4", "--rate", "500/s"]);
    assert_eq!(stage.counts.completed, 0, "{stage:?}");
    assert!(stage.counts.faults["broken ECONNRESET"] >= 4, "{stage:?}");
}

#[test]
fn a_server_that_closes_at_once_is_not_hammered() {
    // Goal: who is hung up on waits before it dials again, whatever it wants to say. Method: pauses of a tenth of a second and
    // more leave room for a few attempts of each connection in all the time there is.
    let _shared = beside_others();
    for flags in [&["-c", "4"] as &[&str], &["-c", "4", "--stream", "down"]] {
        let served = Served::with(finish);
        let mut args = vec![served.target.as_str(), "--format", "json"];
        args.extend(SHORT);
        args.extend(flags);
        let ran = run(&args);
        assert!(matches!(ran.code, Some(0 | 1)), "{ran:?}");
        assert!(
            ran.result()
                .stages
                .iter()
                .any(|stage| stage.counts.faults.contains_key("finished"))
        );
        assert!(served.connections() < 200, "{}", served.connections());
    }
}
