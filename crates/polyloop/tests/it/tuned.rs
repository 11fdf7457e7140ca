//! Settings that a running loop must be seen to obey.

use crate::harness::{
    ANY_PORT, Echo, Holdings, alone, assert_echo, connect, eventually, eventually_is, settings_with,
};
use polyloop::{
    AcceptMode, Accepted, EndedBy, Life, Running, Server, ServerSettings, Spread, Tuning,
};
use std::time::Duration;

/// A loop that spins for so long never sleeps in a test; whatever it were to miss would stay missed.
const SPIN: Duration = Duration::from_secs(3600);

/// The loop that accepts, with another one that gets half of the connections through its inbox.
fn start(settings: ServerSettings) -> Running {
    let server = Server::new(|_: Accepted| Echo).listen(ANY_PORT).unwrap();
    server.settings(settings).start().unwrap()
}

/// Four connections on each of two loops, each with 25 echoes, one after the other.
fn converse(running: &Running) {
    let addr = running.status().listeners[0].addr.parse().unwrap();
    let mut streams: Vec<_> = (0..8).map(|_| connect(addr)).collect();
    for _ in 0..25 {
        streams.iter_mut().for_each(assert_echo);
    }
    let boards = &running.status().boards;
    let live: Vec<_> = boards.iter().map(|board| board.load()).collect();
    assert_eq!(live, [4, 4]);
}

/// How often each loop was ready to sleep.
fn slept(running: &Running) -> Vec<u64> {
    let boards = running.status().boards.iter();
    boards
        .map(|board| board.numbers.polls_slept.value())
        .collect()
}

/// Stops the server, which a loop that missed its orders would not survive.
fn end(running: Running, before: &Holdings) {
    running.stop();
    eventually("it ends", || running.status().life() == Life::Ended);
    let ended = running.join();
    assert_eq!((ended.by, ended.loops_failed), (EndedBy::Stop, Vec::new()));
    eventually_is("all is back", before, Holdings::now);
}

const ROUND_ROBIN: AcceptMode = AcceptMode::Acceptor(Spread::RoundRobin);

#[test]
fn a_loop_that_spins_never_sleeps_and_misses_nothing() {
    // Goal: `spin` is used, and nobody has to wake a loop that spins: sockets (of clients and handed over) and orders
    // are seen. Method: two loops that spin for an hour; 200 echoes; no sleep is counted; then the order to stop.
    let _alone = alone();
    let before = Holdings::now();
    let mut settings = settings_with(2, ROUND_ROBIN);
    settings.tuning.spin = SPIN;
    let running = start(settings);
    converse(&running);
    assert_eq!(slept(&running), [0, 0]);
    end(running, &before);
}

#[test]
fn a_loop_that_does_not_spin_sleeps() {
    // Goal: the count that the test above relies on counts. Method: the same without spinning.
    let _alone = alone();
    let before = Holdings::now();
    let running = start(settings_with(2, ROUND_ROBIN));
    converse(&running);
    assert!(slept(&running).iter().all(|&slept| slept > 0));
    end(running, &before);
}

#[test]
fn settings_for_a_core_reach_the_loop_that_is_pinned_to_it() {
    // Goal: `tuning_on_core` is what the loop of that core runs with, and no other. Method: two pinned loops, of which
    // each in turn spins for an hour: that one never sleeps, the other one does.
    let _alone = alone();
    let before = Holdings::now();
    let running = start(settings_with(2, ROUND_ROBIN));
    let cores = running.status().placement.loops.clone();
    end(running, &before);
    for spinning in 0..2 {
        let Some(core) = cores[spinning] else {
            eprintln!("skipped: two loops are not pinned here");
            return;
        };
        let mut settings = settings_with(2, ROUND_ROBIN);
        let tuning = Tuning {
            spin: SPIN,
            ..settings.tuning.clone()
        };
        settings.tuning_on_core.insert(core, tuning);
        let running = start(settings);
        converse(&running);
        let slept = slept(&running);
        assert_eq!(slept[spinning], 0);
        assert!(slept[1 - spinning] > 0);
        end(running, &before);
    }
}
