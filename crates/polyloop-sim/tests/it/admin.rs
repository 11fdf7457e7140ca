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
