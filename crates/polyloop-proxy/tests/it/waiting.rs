//! Queues for a place: nobody is overtaken, and nobody is forgotten.

use std::time::Duration;

use polyloop_proxy::health::{Manual, State};
use polyloop_sim::{Client, World};

use crate::{Echo, NOBODY, Named, Proxy, backend, proxy, settings, settle};

fn served(clients: &[Client]) -> Vec<bool> {
    clients.iter().map(|c| !c.receive(10).is_empty()).collect()
}

fn set(front: &Proxy, world: &World, backend: usize, manual: Manual) {
    let now_ms = world.now_ns() / 1_000_000;
    let subject = &front.site.groups[0].backends[backend];
    let change = subject.judge(now_ms, |health| health.set_manual(now_ms, manual));
    front.site.tell(0, backend, change);
}

#[test]
fn a_newcomer_does_not_take_the_place_of_who_waits() {
    // Goal: first come, first served, also when a place becomes free in the very turn in which somebody new arrives.
    // Method: one place; one in it, one waiting; the first leaves and a third comes before any loop turns. On one loop, and
    // on three with seeds that change their order.
    for seed in 0..20 {
        let world = World::new(seed);
        let mut back = backend(&world, || Named(b"in"));
        let mut settings = settings(back.listeners());
        settings.groups[0].backends[0].connections_max = Some(1);
        let mut front = proxy(&world, 1 + seed as usize % 3, settings);
        let mut clients = Vec::new();
        for _ in 0..2 {
            clients.push(world.connect(front.sim.listeners()));
            settle(&mut front.sim, &mut back);
        }
        assert_eq!(served(&clients), [true, false]);
        for _ in 0..5 {
            drop(clients.remove(0));
            clients.push(world.connect(front.sim.listeners()));
            settle(&mut front.sim, &mut back);
            assert_eq!(served(&clients), [true, false], "seed {seed}");
        }
        drop(clients);
        settle(&mut front.sim, &mut back);
        front.assert_at_rest(&world);
    }
}

#[test]
fn who_waits_is_called_when_a_backend_can_be_used_again() {
    // Goal: a place is a place, whoever brings it. Method: one backend at its cap, another taken out; five wait; the operator
    // brings the other back, which has room for three of them.
    let world = World::new(1);
    let mut back = backend(&world, || Named(b"in"));
    let mut other = backend(&world, || Named(b"in"));
    let mut settings = settings(&[back.listeners()[0], other.listeners()[0]]);
    settings.groups[0].backends[0].connections_max = Some(1);
    settings.groups[0].backends[1].connections_max = Some(3);
    let mut front = proxy(&world, 2, settings);
    set(&front, &world, 1, Manual::Down);
    let mut clients = Vec::new();
    for _ in 0..6 {
        clients.push(world.connect(front.sim.listeners()));
        settle(&mut front.sim, &mut back);
    }
    assert_eq!(front.site.groups[0].waiting(), 5);
    set(&front, &world, 1, Manual::Ready);
    settle(&mut front.sim, &mut other);
    settle(&mut front.sim, &mut back);
    assert_eq!(served(&clients), [true, true, true, true, false, false]);
    drop(clients);
    settle(&mut front.sim, &mut other);
    settle(&mut front.sim, &mut back);
    front.assert_at_rest(&world);
}

#[test]
fn who_waits_looks_for_what_nobody_tells() {
    // Goal: an ejection ends by its date alone, and whoever waits is served soon after. Method: the only backend is ejected
    // while one session has its only place; that leaves, another waits; the date passes.
    let world = World::new(2);
    let mut back = backend(&world, || Named(b"in"));
    let mut settings = settings(back.listeners());
    settings.groups[0].fail_open = false;
    settings.groups[0].backends[0].connections_max = Some(1);
    settings.listeners[0].timeouts.queue = Duration::from_secs(60);
    let mut front = proxy(&world, 1, settings);
    let mut clients = Vec::new();
    for _ in 0..2 {
        clients.push(world.connect(front.sim.listeners()));
        settle(&mut front.sim, &mut back);
    }
    let now_ms = world.now_ns() / 1_000_000;
    let subject = &front.site.groups[0].backends[0];
    for _ in 0..5 {
        subject.judge(now_ms, |health| health.handle_failure(now_ms, || true));
    }
    assert_eq!(subject.published().state(now_ms), State::Ejected);
    drop(clients.remove(0));
    settle(&mut front.sim, &mut back);
    assert_eq!(front.site.groups[0].waiting(), 1, "nobody may use it yet");
    for _ in 0..40 {
        front.sim.advance(Duration::from_secs(1));
        settle(&mut front.sim, &mut back);
    }
    assert_eq!(served(&clients), [true]);
    drop(clients);
    settle(&mut front.sim, &mut back);
    front.assert_at_rest(&world);
}

#[test]
fn a_standby_does_not_make_a_cap_larger() {
    // Goal: who finds the primary full waits; a backup serves when the primary fails. Method: a primary with one place and a
    // backup; then a primary where nobody listens.
    let world = World::new(3);
    let mut back = backend(&world, || Named(b"in"));
    let mut spare = backend(&world, || Named(b"spare"));
    for primary in [back.listeners()[0], NOBODY] {
        let mut settings = settings(&[primary, spare.listeners()[0]]);
        settings.groups[0].backends[0].connections_max = Some(1);
        settings.groups[0].backends[1].backup = true;
        let mut front = proxy(&world, 1, settings);
        let mut clients = Vec::new();
        for _ in 0..2 {
            clients.push(world.connect(front.sim.listeners()));
            settle(&mut front.sim, &mut back);
            settle(&mut front.sim, &mut spare);
        }
        let heard: Vec<_> = clients.iter().map(|client| client.receive(10)).collect();
        let expected = if primary == NOBODY {
            [&b"spare"[..], b"spare"]
        } else {
            [&b"in"[..], b""]
        };
        assert_eq!(heard, expected);
        drop(clients);
        settle(&mut front.sim, &mut back);
        settle(&mut front.sim, &mut spare);
        front.assert_at_rest(&world);
    }
}

#[test]
fn a_backend_without_weight_does_not_keep_a_group_closed() {
    // Goal: failing open asks those that could be given sessions. Method: one with a weight that is down, one without that is
    // up.
    let world = World::new(4);
    let mut back = backend(&world, || Echo);
    let mut settings = settings(&[back.listeners()[0], NOBODY]);
    settings.groups[0].backends[1].weight = 0;
    let mut front = proxy(&world, 1, settings);
    let now_ms = world.now_ns() / 1_000_000;
    for _ in 0..5 {
        front.site.groups[0].backends[0]
            .judge(now_ms, |health| health.handle_failure(now_ms, || true));
    }
    let client = world.connect(front.sim.listeners());
    client.send(b"anybody?");
    settle(&mut front.sim, &mut back);
    assert_eq!(client.receive(10), b"anybody?");
    drop(client);
    settle(&mut front.sim, &mut back);
    front.assert_at_rest(&world);
}

#[test]
fn one_session_at_a_time_tries_an_ejected_backend_out() {
    // Goal: what a backend that has become silent costs is one session for each ejection, not all that come until its connect
    // times out. Method: a silent backend whose ejection has ended, and one that works; eight clients at once.
    let world = World::new(5);
    let silent = world.listen();
    world.silence(silent.id());
    let mut back = backend(&world, || Named(b"in"));
    let settings = settings(&[silent.id(), back.listeners()[0]]);
    let mut front = proxy(&world, 2, settings);
    let now_ms = world.now_ns() / 1_000_000;
    for _ in 0..5 {
        front.site.groups[0].backends[0]
            .judge(now_ms, |health| health.handle_failure(now_ms, || true));
    }
    front.sim.advance(Duration::from_secs(3600));
    let clients: Vec<_> = (0..16)
        .map(|_| world.connect(front.sim.listeners()))
        .collect();
    settle(&mut front.sim, &mut back);
    let count = |served: &[bool]| served.iter().filter(|served| **served).count();
    assert_eq!(front.site.groups[0].backends[0].taken(), 1);
    assert_eq!(count(&served(&clients)), 15);
    front.sim.advance(Duration::from_secs(6));
    settle(&mut front.sim, &mut back);
    assert_eq!(count(&served(&clients)), 1, "the one that tried it out");
    drop(clients);
    settle(&mut front.sim, &mut back);
    front.assert_at_rest(&world);
}
