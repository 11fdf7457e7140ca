//! Levels of memory: who waits, who is read less, and that nobody is forgotten when the level falls.

use crate::{Echo, assert_at_rest, drain_client, echo_server, pattern, server};
use polyloop::{
    Accepted, Capacities, Choice, Ctx, Factory, Handler, Input, Level, Room, Tuning, Verdict,
    WhenFull,
};
use polyloop_sim::{Client, Sim, World};
use std::time::Duration;

/// Sends all of it, as the window and the server let it.
fn say<F: Factory>(sim: &mut Sim<F>, client: &Client, bytes: &[u8]) -> usize {
    let mut sent = 0;
    loop {
        let count = client.send(&bytes[sent..]);
        sim.settle();
        sent += count;
        if count == 0 || sent == bytes.len() {
            return sent;
        }
    }
}

fn kept<F: Factory>(sim: &Sim<F>) -> u64 {
    sim.sum(|numbers| numbers.kept_bytes.value())
}

#[test]
fn without_memory_newcomers_wait_and_come_in_when_there_is_some() {
    // Goal: at `stop` nobody new is let in, whoever is in goes on, and who waits is let in afterwards with no new SYN.
    // Method: two loops, levels up and down; the same level again changes nothing.
    let world = World::new(1);
    let mut sim = server(&world, 2, &Tuning::default(), |_| |_: Accepted| Echo);
    let inside: Vec<_> = (0..8).map(|_| world.connect(sim.listeners())).collect();
    sim.settle();
    assert!(sim.console().set_level(Level::Stop));
    assert!(!sim.console().set_level(Level::Stop));
    let waiting: Vec<_> = (0..8).map(|_| world.connect(sim.listeners())).collect();
    sim.advance(Duration::from_secs(10));
    assert_eq!(sim.sum(|numbers| numbers.live.value()), 8);
    assert_eq!(sim.sum(|numbers| numbers.paused.value()), 2);
    assert_eq!(sim.sum(|numbers| numbers.accept_paused.value()), 2);
    assert_eq!(
        sim.sum(|numbers| numbers.accept_paused_by_memory.value()),
        2
    );
    for client in &inside {
        assert_eq!(client.send(b"still here"), 10);
        assert_eq!(drain_client(&mut sim, client), b"still here");
    }
    assert!(sim.console().set_level(Level::Shrink));
    sim.settle();
    assert_eq!(sim.sum(|numbers| numbers.live.value()), 16);
    assert_eq!(sim.sum(|numbers| numbers.paused.value()), 0);
    assert_eq!(
        sim.sum(|numbers| numbers.accept_resumed_by_memory.value()),
        2
    );
    for client in &waiting {
        assert_eq!(client.send(b"in"), 2);
        assert_eq!(drain_client(&mut sim, client), b"in");
    }
    assert!(sim.console().set_level(Level::Normal));
    assert_eq!(sim.console().overload().changes(), 3);
    drop((inside, waiting));
    assert_at_rest(&mut sim, &world);
}

#[test]
fn a_full_loop_that_ran_out_of_memory_remembers_both() {
    // Goal: permits that come back do not open a loop without memory, and memory does not open a full one. Method: a cap of
    // two; three clients; every order of "one leaves" and "there is memory".
    for leaves_first in [false, true] {
        let world = World::new(2);
        let capacities = Capacities {
            connections_max: 2,
            ..Capacities::default()
        };
        let mut sim = Sim::new(
            &world,
            1,
            &Tuning::default(),
            capacities,
            WhenFull::Wait,
            |_| |_: Accepted| Echo,
            |_| Choice::Stay,
        );
        let mut clients: Vec<_> = (0..3).map(|_| world.connect(sim.listeners())).collect();
        sim.settle();
        sim.console().set_level(Level::Stop);
        sim.settle();
        let live = |sim: &Sim<_>| sim.sum(|numbers| numbers.live.value());
        if leaves_first {
            drop(clients.remove(0));
            sim.settle();
            assert_eq!(live(&sim), 1, "there is a permit, and no memory");
            sim.console().set_level(Level::Normal);
        } else {
            sim.console().set_level(Level::Normal);
            sim.settle();
            assert_eq!(live(&sim), 2, "there is memory, and no permit");
            drop(clients.remove(0));
        }
        sim.settle();
        assert_eq!(live(&sim), 2, "leaves first: {leaves_first}");
        clients.clear();
        assert_at_rest(&mut sim, &world);
    }
}

#[test]
fn a_slow_peer_is_read_less_under_pressure() {
    // Goal: what a peer that does not read can make us keep is a quarter of the watermark and a quarter of a read, and all of it
    // arrives in the end. Method: the same peer at each level.
    for (level, at_most) in [
        (Level::Normal, 128 << 10),
        (Level::Shrink, 32 << 10),
        (Level::Stop, 32 << 10),
    ] {
        let world = World::new(3);
        let mut sim = echo_server(&world, &Tuning::default());
        let client = world.connect(sim.listeners());
        sim.settle();
        sim.console().set_level(level);
        client.set_window(1000);
        let bytes = pattern(1_000_000);
        let mut sent = say(&mut sim, &client, &bytes);
        let held = kept(&sim);
        assert!(
            (16 << 10..=at_most).contains(&held),
            "{held} kept at {level:?}"
        );
        let mut got = drain_client(&mut sim, &client);
        while sent < bytes.len() {
            sent += say(&mut sim, &client, &bytes[sent..]);
            got.extend(drain_client(&mut sim, &client));
        }
        assert!(
            got == bytes,
            "{} of {} bytes, in order",
            got.len(),
            bytes.len()
        );
        drop(client);
        sim.console().set_level(Level::Normal);
        assert_at_rest(&mut sim, &world);
    }
}

/// Answers each byte with 1,000, and takes no more while its output is full.
struct Amplifier;

impl Handler for Amplifier {
    type Message = ();

    fn on_data(&mut self, cx: &mut Ctx<'_, Self>, input: &mut Input<'_>) -> Verdict {
        while !input.is_empty() && cx.room(cx.side()) == Room::Open {
            let byte = input.take(1)[0];
            let _ = cx.write(&[byte; 1000]);
        }
        Verdict::Continue
    }
}

#[test]
fn no_change_of_level_strands_anybody() {
    // Goal: output that is above one bound and below the other, when the bound changes, holds nobody for ever. Method: a peer
    // that is owed between 1 and 100 kB when the level rises or falls, then sends more, then reads; for an echo, and for a
    // handler that waits for room.
    for owed in [1, 9, 17, 20, 33, 40, 63, 70, 100] {
        for (before, after) in [
            (Level::Normal, Level::Shrink),
            (Level::Normal, Level::Stop),
            (Level::Stop, Level::Normal),
        ] {
            strand(owed, before, after, 1000, |_| |_: Accepted| Echo);
            strand(owed, before, after, 1, |_| |_: Accepted| Amplifier);
        }
    }
}

/// `each` bytes make a kilobyte of answer.
fn strand<F: Factory>(
    owed: usize,
    before: Level,
    after: Level,
    each: usize,
    factory: impl FnMut(usize) -> F,
) {
    let world = World::new(4);
    let mut sim = server(&world, 1, &Tuning::default(), factory);
    let client = world.connect(sim.listeners());
    client.set_window(1);
    sim.console().set_level(before);
    let mut sent = say(&mut sim, &client, &vec![7; owed * each]);
    sim.console().set_level(after);
    sim.settle();
    sent += say(&mut sim, &client, &vec![7; 50 * each]);
    client.set_window(100_000);
    let wanted = (owed + 50) * each;
    let mut got = drain_client(&mut sim, &client).len();
    while sent < wanted {
        let count = say(&mut sim, &client, &vec![7; wanted - sent]);
        assert!(count > 0, "{owed} kB owed, {before:?} to {after:?}: stuck");
        sent += count;
        got += drain_client(&mut sim, &client).len();
    }
    assert_eq!(got, (owed + 50) * 1000, "{before:?} to {after:?}");
    drop(client);
    sim.console().set_level(Level::Normal);
    assert_at_rest(&mut sim, &world);
}

#[test]
fn a_drain_without_memory_ends_as_usual() {
    // Goal: the level is no reason to stay or to let anybody in. Method: stop, drain, the client leaves; then the level falls.
    let world = World::new(5);
    let mut sim = echo_server(&world, &Tuning::default());
    let client = world.connect(sim.listeners());
    sim.settle();
    sim.console().set_level(Level::Stop);
    let late = world.connect(sim.listeners());
    sim.console().drain(u64::MAX);
    sim.settle();
    assert!(late.was_reset(), "it never came in");
    assert_eq!(sim.sum(|numbers| numbers.live.value()), 1);
    sim.console().set_level(Level::Normal);
    sim.settle();
    drop(client);
    sim.settle();
    assert!(sim.ends().iter().all(Option::is_some));
    assert_at_rest(&mut sim, &world);
}
