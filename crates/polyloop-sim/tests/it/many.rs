//! Several loops: hand-overs, drain and stop of all of them.

use crate::{Echo, assert_at_rest, drain_client, server};
use polyloop::{Accepted, Capacities, Choice, CloseReason, Spread, Tuning, WhenFull};
use polyloop_core::spread::Chooser;
use polyloop_sim::{Client, Sim, World};
use std::time::Duration;

/// Loops that give away what they accept.
fn spreading(
    world: &World,
    loops: usize,
    capacities: Capacities,
) -> Sim<impl polyloop::Factory + use<>> {
    Sim::new(
        world,
        loops,
        &Tuning::default(),
        capacities,
        WhenFull::Wait,
        |_| |_: Accepted| Echo,
        move |at| Choice::Spread(Chooser::new(Spread::RoundRobin, at, loops, at as u64)),
    )
}

#[test]
fn a_full_inbox_keeps_the_connection_where_it_was_accepted() {
    // Goal: nobody is lost on the way. Method: an inbox of one place, 64 connections at one loop of four.
    let world = World::new(1);
    let capacities = Capacities {
        handed_max: 1,
        ..Capacities::default()
    };
    let mut sim = spreading(&world, 4, capacities);
    let only_first = sim.listeners()[..1].to_vec();
    let clients: Vec<Client> = (0..64).map(|_| world.connect(&only_first)).collect();
    for client in &clients {
        assert_eq!(client.send(b"hello"), 5);
        assert_eq!(drain_client(&mut sim, client), b"hello");
    }
    assert!(sim.sum(|numbers| numbers.hand_over_refused.value()) > 0);
    assert_eq!(sim.sum(|numbers| numbers.live.value()), 64);
    drop(clients);
    assert_at_rest(&mut sim, &world);
}

#[test]
fn a_drain_serves_those_who_wait_already() {
    // Goal: whoever the kernel has promised a connection gets one, on whichever loop, even if the one that it would be
    // handed to has ended. Method: 40 connect, to all loops or to one, and speak; the drain comes before the first turn, in
    // ten orders of the loops; they finish, and all loops end.
    for seed in 0..20 {
        let world = World::new(seed);
        let mut sim = spreading(&world, 4, Capacities::default());
        let listeners = sim.listeners()[..if seed < 10 { 4 } else { 1 }].to_vec();
        let clients: Vec<Client> = (0..40).map(|_| world.connect(&listeners)).collect();
        for client in &clients {
            assert_eq!(client.send(b"in time"), 7);
            client.finish();
        }
        sim.console().drain(world.now_ns() + 1_000_000_000);
        for client in &clients {
            assert_eq!(drain_client(&mut sim, client), b"in time", "seed {seed}");
            assert!(client.is_at_end());
        }
        assert!(
            sim.ends()
                .iter()
                .all(|end| end.is_some_and(|end| end.cut == 0)),
            "{:?}",
            sim.ends()
        );
        assert_at_rest(&mut sim, &world);
    }
}

#[test]
fn a_stop_cuts_everybody_and_counts_them() {
    // Goal: stop is at once, complete and counted. Method: 3 loops, 30 connections, some in mid-sentence.
    let world = World::new(3);
    let mut sim = server(&world, 3, &Tuning::default(), |_| |_: Accepted| Echo);
    let listeners = sim.listeners().to_vec();
    let clients: Vec<Client> = (0..30).map(|_| world.connect(&listeners)).collect();
    sim.settle();
    for client in clients.iter().step_by(2) {
        client.set_window(10);
        assert_eq!(client.send(&[7; 1000]), 1000);
    }
    sim.settle();
    sim.console().stop();
    sim.settle();
    let cut: usize = sim.ends().iter().flatten().map(|end| end.cut).sum();
    assert_eq!((cut, sim.ends().iter().flatten().count()), (30, 3));
    let stopped = CloseReason::Stopped.index();
    let closed: u64 = sim
        .console()
        .boards()
        .iter()
        .map(|board| board.closes[stopped].value())
        .sum();
    assert_eq!(closed, 30);
    assert_at_rest(&mut sim, &world);
}

#[test]
fn a_drain_deadline_counts_over_all_loops() {
    // Goal: what is left at the deadline is cut and counted. Method: 3 loops, 12 silent connections.
    let world = World::new(4);
    let mut sim = spreading(&world, 3, Capacities::default());
    let listeners = sim.listeners().to_vec();
    let clients: Vec<Client> = (0..12).map(|_| world.connect(&listeners)).collect();
    sim.settle();
    sim.console().drain(world.now_ns() + 1_000_000_000);
    sim.advance(Duration::from_millis(999));
    assert!(sim.ends().iter().all(Option::is_none));
    sim.advance(Duration::from_millis(1));
    let cut: usize = sim.ends().iter().flatten().map(|end| end.cut).sum();
    assert_eq!(cut, 12);
    drop(clients);
    assert_at_rest(&mut sim, &world);
}
