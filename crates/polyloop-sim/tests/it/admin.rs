//! Admin gates beside those of the service: neither may make the other deaf.

use crate::{Echo, assert_at_rest, drain_client};
use polyloop::{Accepted, Capacities, Factory, Tuning};
use polyloop_sim::{Sim, World};
use std::time::Duration;

/// An echo server of `loops` loops with room for `connections_max` and an admin gate, and what visitors connect to.
fn visited(
    world: &World,
    loops: usize,
    connections_max: u64,
) -> (Sim<impl Factory<Handler = Echo> + use<>>, [u32; 1]) {
    let capacities = Capacities {
        connections_max,
        ..Capacities::default()
    };
    let factory = |_| |_: Accepted| Echo;
    let tuning = Tuning::default();
    let (sim, admin) = Sim::with_admin(world, loops, &tuning, capacities, factory, 8);
    (sim, [admin])
}

#[test]
fn a_visitor_let_in_late_leaves_a_full_loop_waiting() {
    // Goal: an admin gate that was starved and goes on does not make a full loop forget that it waits for permits. Method: a
    // loop at its cap with one client waiting; a visitor finds no descriptor, and one when the timer has fired; then every
    // client leaves but the one that waits.
    let world = World::new(1);
    let (mut sim, admin) = visited(&world, 1, 10);
    world.set_descriptors_max(10);
    let clients: Vec<_> = (0..10).map(|_| world.connect(sim.listeners())).collect();
    let late = world.connect(sim.listeners());
    sim.settle();
    assert_eq!(sim.sum(|numbers| numbers.paused.value()), 1);
    let visitor = world.connect(&admin);
    sim.settle();
    assert_eq!(world.owned(), 10, "there is no descriptor for the visitor");
    world.set_descriptors_max(100);
    sim.advance(Duration::from_millis(101));
    assert_eq!(world.owned(), 11, "the timer let the visitor in");
    drop(clients);
    sim.settle();
    late.send(b"me too");
    assert_eq!(drain_client(&mut sim, &late), b"me too");
    drop((late, visitor));
    assert_at_rest(&mut sim, &world);
}

#[test]
fn a_release_tells_both_kinds_of_gate() {
    // Goal: one close of ours lets a waiting client in although the admin gate goes on first. Method: both kinds wait, a full
    // loop for permits, the admin gate for descriptors; half of the clients leave.
    let world = World::new(2);
    let (mut sim, admin) = visited(&world, 1, 10);
    world.set_descriptors_max(10);
    let mut clients: Vec<_> = (0..10).map(|_| world.connect(sim.listeners())).collect();
    let late = world.connect(sim.listeners());
    let visitor = world.connect(&admin);
    sim.settle();
    clients.truncate(5);
    sim.settle();
    assert_eq!(world.owned(), 7, "five, the one that waited, the visitor");
    drop((clients, late, visitor));
    assert_at_rest(&mut sim, &world);
}

#[test]
fn a_drain_lets_visitors_in_until_the_last_connection_has_ended() {
    // Goal: who asks how a drain goes has an answer as long as it goes, and holds it up in nothing. Method: two loops, a client on
    // the one without an admin gate; visitors before and during the drain, who do not leave.
    let world = World::new(3);
    let (mut sim, admin) = visited(&world, 2, 10);
    let listeners = sim.listeners().to_vec();
    let client = world.connect(&listeners[1..]);
    let early = world.connect(&admin);
    sim.settle();
    sim.console().drain(world.now_ns() + 60_000_000_000);
    sim.settle();
    assert!(world.connect(&listeners[..1]).was_reset());
    let late = world.connect(&admin);
    for visitor in [&early, &late] {
        visitor.send(b"how is it?");
        assert_eq!(drain_client(&mut sim, visitor), b"how is it?");
    }
    client.finish();
    sim.settle();
    assert!(sim.ends()[1].is_some() && sim.ends()[0].is_none());
    late.send(b"still there?");
    assert_eq!(drain_client(&mut sim, &late), b"still there?");
    sim.console().drained_elsewhere(0);
    sim.settle();
    assert_eq!(sim.ends()[0].map(|end| end.cut), Some(0));
    assert!(world.connect(&admin).was_reset());
    drop((client, early, late));
    assert_at_rest(&mut sim, &world);
}

#[test]
fn a_drain_of_visitors_alone_ends_at_its_deadline_or_when_told() {
    // Goal: visitors keep a loop with an admin gate turning while others drain, not beyond the deadline, and not for nothing: it
    // does not wake. Method: one loop of two that has drained, and is not told of the other.
    let world = World::new(4);
    let (mut sim, admin) = visited(&world, 1, 10);
    let visitor = world.connect(&admin);
    sim.settle();
    sim.console().drain(world.now_ns() + 60_000_000_000);
    sim.advance(Duration::from_secs(59));
    assert!(sim.ends()[0].is_none());
    let turns = sim.sum(|numbers| numbers.turns.value());
    assert!(turns < 20, "{turns} turns");
    sim.advance(Duration::from_secs(2));
    assert_eq!(sim.ends()[0].map(|end| end.cut), Some(0));
    drop(visitor);
    assert_at_rest(&mut sim, &world);
}

#[test]
fn a_refusal_that_is_over_at_once_pauses_nobody() {
    // Goal: a descriptor that came back between the refusal and the order to be told of such is not missed. Method: one accept
    // that is refused; the clock does not move, so that no timer helps.
    let world = World::new(5);
    let (mut sim, admin) = visited(&world, 1, 10);
    for listeners in [sim.listeners().to_vec(), admin.to_vec()] {
        world.refuse_accepts(1);
        let client = world.connect(&listeners);
        client.send(b"in");
        assert_eq!(drain_client(&mut sim, &client), b"in");
    }
    assert_eq!(sim.sum(|numbers| numbers.accept_paused.value()), 0);
    assert_at_rest(&mut sim, &world);
}
