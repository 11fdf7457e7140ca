//! Which backend: retries, silent backends, caps and queues, groups that fail open, weights and backups.

use std::time::Duration;

use polyloop::Remote;
use polyloop_proxy::balance::Algorithm;
use polyloop_proxy::health::Manual;
use polyloop_proxy::ports::PortLevel;
use polyloop_proxy::settings::{PassiveEjection, SourceAddr};
use polyloop_proxy::termination::Cause;
use polyloop_sim::{Client, World};

use crate::{Echo, NOBODY, Named, address, backend, drain, proxy, settings, settle};

#[test]
fn a_refused_session_goes_to_another_backend_with_what_it_has_said() {
    // Goal: nobody notices a dead backend, and no early byte is lost. Method: two dead, one alive, in turn; clients that
    // speak at once.
    let world = World::new(1);
    let mut back = backend(&world, || Echo);
    let mut settings = settings(&[NOBODY, back.listeners()[0], NOBODY + 1]);
    settings.groups[0].balance = Algorithm::RoundRobin;
    let mut front = proxy(&world, 1, settings);
    let clients: Vec<_> = (0..9)
        .map(|_| world.connect(front.sim.listeners()))
        .collect();
    for client in &clients {
        client.send(b"early");
        assert_eq!(drain(&mut front.sim, &mut back, client), b"early");
    }
    let boards: Vec<_> = front.site.groups[0]
        .backends
        .iter()
        .map(|backend| &backend.boards[0])
        .collect();
    assert_eq!(boards[1].connected.value(), 9);
    assert!(boards[0].connect_refused.value() > 0 && boards[2].connect_refused.value() > 0);
    assert_eq!(front.site.groups[0].backends[1].taken(), 9);
    drop(clients);
    settle(&mut front.sim, &mut back);
    front.assert_at_rest(&world);
}

#[test]
fn when_every_try_has_failed_the_client_is_reset() {
    // Goal: tries are bounded, and a client is not told that an empty answer was all. Method: four dead backends, two
    // retries; then no retries.
    for (retries, tries) in [(2, 3), (0, 1)] {
        let world = World::new(2);
        let mut settings = settings(&[NOBODY, NOBODY + 1, NOBODY + 2, NOBODY + 3]);
        settings.groups[0].retries = retries;
        let mut front = proxy(&world, 1, settings);
        let client = world.connect(front.sim.listeners());
        client.send(b"anybody?");
        front.sim.settle();
        assert!(client.was_reset());
        let backends = front.site.groups[0].backends.iter();
        let refused: u64 = backends.map(|b| b.boards[0].connect_refused.value()).sum();
        assert_eq!(refused, tries);
        assert_eq!(front.states(), ["SC"]);
        assert_eq!(front.site.listeners[0].boards[0].refused_in_all(), 1);
        front.assert_at_rest(&world);
    }
}

#[test]
fn a_silent_backend_is_given_up_for_another() {
    // Goal: the connect timeout holds, and the next backend is tried. Method: one that never answers and one that does.
    let world = World::new(3);
    let silent = world.listen();
    world.silence(silent.id());
    let mut back = backend(&world, || Named(b"here"));
    let mut settings = settings(&[silent.id(), back.listeners()[0]]);
    settings.groups[0].balance = Algorithm::RoundRobin;
    let mut front = proxy(&world, 1, settings);
    let clients: Vec<_> = (0..4)
        .map(|_| world.connect(front.sim.listeners()))
        .collect();
    front.sim.advance(Duration::from_millis(4_990));
    settle(&mut front.sim, &mut back);
    let served = |clients: &[Client]| clients.iter().filter(|c| !c.receive(10).is_empty()).count();
    assert_eq!(served(&clients), 2);
    front.sim.advance(Duration::from_millis(20));
    settle(&mut front.sim, &mut back);
    assert_eq!(served(&clients), 2);
    let silent = &front.site.groups[0].backends[0];
    assert_eq!(silent.boards[0].connect_timeouts.value(), 2);
    assert_eq!(silent.taken(), 0);
    drop(clients);
    settle(&mut front.sim, &mut back);
    front.assert_at_rest(&world);
}

#[test]
fn at_its_cap_a_backend_lets_others_wait_in_turn() {
    // Goal: a cap is never exceeded over all loops, who waits is served first come first served, and leaving the queue is
    // possible. Method: a cap of two over three loops, six clients; some leave.
    for loops in [1, 3] {
        let world = World::new(4);
        let mut back = backend(&world, || Named(b"you are in"));
        let mut settings = settings(back.listeners());
        settings.groups[0].backends[0].connections_max = Some(2);
        let mut front = proxy(&world, loops, settings);
        let mut clients = Vec::new();
        for _ in 0..6 {
            clients.push(world.connect(front.sim.listeners()));
            settle(&mut front.sim, &mut back);
        }
        let backend = &front.site.groups[0].backends[0];
        assert_eq!((backend.taken(), front.site.groups[0].waiting()), (2, 4));
        // The third gives up; then the first leaves.
        clients.remove(2).reset();
        settle(&mut front.sim, &mut back);
        assert_eq!(front.site.groups[0].waiting(), 3);
        drop(clients.remove(0));
        settle(&mut front.sim, &mut back);
        assert_eq!(front.site.groups[0].backends[0].taken(), 2);
        let heard: Vec<_> = clients.iter().map(|c| !c.receive(100).is_empty()).collect();
        assert_eq!(heard, [true, true, false, false], "{loops} loops");
        drop(clients);
        settle(&mut front.sim, &mut back);
        front.assert_at_rest(&world);
    }
}

#[test]
fn the_queue_has_a_bound_and_a_deadline() {
    // Goal: nobody waits for ever, and only so many wait. Method: a cap of one, a queue of two, five clients, ten seconds.
    let world = World::new(5);
    let mut back = backend(&world, || Echo);
    let mut settings = settings(back.listeners());
    settings.groups[0].backends[0].connections_max = Some(1);
    settings.groups[0].queue_max = 2;
    let mut front = proxy(&world, 1, settings);
    let clients: Vec<_> = (0..5)
        .map(|_| world.connect(front.sim.listeners()))
        .collect();
    settle(&mut front.sim, &mut back);
    assert_eq!(front.states(), ["PQ", "PQ"]);
    front.sim.advance(Duration::from_millis(10_010));
    assert_eq!(front.states(), ["sQ", "sQ"]);
    assert_eq!(
        clients.iter().filter(|client| client.was_reset()).count(),
        4
    );
    let board = &front.site.listeners[0].boards[0];
    assert_eq!(board.refused_for(Cause::QueueFull), 2);
    assert_eq!(board.refused_for(Cause::QueueTimeout), 2);
    drop(clients);
    settle(&mut front.sim, &mut back);
    front.assert_at_rest(&world);
}

#[test]
fn a_place_that_is_free_is_never_left_while_somebody_waits() {
    // Goal: a queue moves on whoever leaves it and however: by timeout, by reset, by being served. Method: a cap of one, clients
    // that come, leave and give up at random over two loops; in the end everybody who stayed was served.
    for seed in 0..50 {
        let world = World::new(seed);
        let mut random = polyloop_sim::Random::new(seed);
        let mut back = backend(&world, || Named(b"in"));
        let mut settings = settings(back.listeners());
        settings.groups[0].backends[0].connections_max = Some(1);
        let mut front = proxy(&world, 2, settings);
        let mut clients: Vec<Client> = Vec::new();
        for _ in 0..100 {
            match random.below(4) {
                0 | 1 if clients.len() < 8 => clients.push(world.connect(front.sim.listeners())),
                2 if !clients.is_empty() => {
                    let gone = clients.remove(random.below(clients.len()));
                    if random.once_in(2) {
                        gone.reset();
                    }
                }
                _ => settle(&mut front.sim, &mut back),
            }
            if random.once_in(3) {
                settle(&mut front.sim, &mut back);
            }
        }
        settle(&mut front.sim, &mut back);
        while !clients.is_empty() {
            let served = clients
                .iter()
                .position(|client| !client.receive(10).is_empty());
            // Whoever was served before has had its word read already.
            let at = served.unwrap_or(0);
            drop(clients.remove(at));
            settle(&mut front.sim, &mut back);
            let backend = &front.site.groups[0].backends[0];
            let expected = u64::from(!clients.is_empty());
            assert_eq!(backend.taken(), expected, "seed {seed}");
        }
        front.assert_at_rest(&world);
    }
}

#[test]
fn a_group_fails_open_only_if_it_is_told_to_and_never_to_who_was_taken_out() {
    // Goal: standing decides. Method: all backends down, then out, with both policies.
    for (fail_open, standing, is_served) in [
        (true, "up", true),
        (true, "ejected", true),
        (false, "ejected", false),
        (true, "down", false),
    ] {
        let world = World::new(6);
        let mut back = backend(&world, || Named(b"in"));
        let mut settings = settings(back.listeners());
        settings.groups[0].fail_open = fail_open;
        let ejects = PassiveEjection {
            errors: 1,
            share_max_percent: 100,
            ..PassiveEjection::default()
        };
        settings.groups[0].passive = Some(ejects);
        let mut front = proxy(&world, 1, settings);
        let now_ms = world.now_ns() / 1_000_000;
        front.site.groups[0].backends[0].judge(now_ms, |health| match standing {
            "ejected" => health.handle_failure(now_ms, || true),
            "down" => health.set_manual(now_ms, Manual::Down),
            _ => None,
        });
        let client = world.connect(front.sim.listeners());
        settle(&mut front.sim, &mut back);
        assert_eq!(
            client.receive(10) == b"in",
            is_served,
            "{fail_open} {standing:?}"
        );
        assert_eq!(client.was_reset(), !is_served);
        drop(client);
        settle(&mut front.sim, &mut back);
        front.assert_at_rest(&world);
    }
}

#[test]
fn a_backup_serves_only_while_no_other_can() {
    // Goal: backups are a tier of their own. Method: the primary is taken down and comes back.
    let world = World::new(7);
    let mut back = backend(&world, || Echo);
    let mut spare = backend(&world, || Named(b"spare"));
    let mut settings = settings(&[back.listeners()[0], spare.listeners()[0]]);
    settings.groups[0].backends[1].backup = true;
    let mut front = proxy(&world, 1, settings);
    let mut heard = Vec::new();
    for manual in [Manual::Ready, Manual::Drain, Manual::Ready] {
        let now_ms = world.now_ns() / 1_000_000;
        front.site.groups[0].backends[0].judge(now_ms, |health| health.set_manual(now_ms, manual));
        let client = world.connect(front.sim.listeners());
        settle(&mut front.sim, &mut back);
        settle(&mut front.sim, &mut spare);
        heard.push(client.receive(10));
        drop(client);
        settle(&mut front.sim, &mut back);
        settle(&mut front.sim, &mut spare);
    }
    assert_eq!(heard, [&b""[..], b"spare", b""]);
    front.assert_at_rest(&world);
}

#[test]
fn every_address_of_a_backend_is_tried_before_it_has_failed() {
    // Goal: one dead or silent address costs nobody a session, and the backend no reputation. Method: a backend with three
    // addresses, of which one answers, no retries, ejection at the first failure; then none that answers.
    let world = World::new(8);
    let silent = world.listen();
    world.silence(silent.id());
    let mut back = backend(&world, || Named(b"in"));
    let mut settings = settings(&[NOBODY]);
    settings.groups[0].retries = 0;
    settings.groups[0].fail_open = false;
    settings.groups[0].passive = Some(PassiveEjection {
        errors: 1,
        share_max_percent: 100,
        ..PassiveEjection::default()
    });
    let mut front = proxy(&world, 1, settings);
    let place = |listener| Remote::Tcp(address(listener));
    let backend = |front: &crate::Proxy| front.site.groups[0].backends[0].boards[0].chosen.value();
    let places = vec![
        place(NOBODY),
        place(silent.id()),
        place(back.listeners()[0]),
    ];
    front.site.groups[0].backends[0].set_places(places);
    let clients: Vec<_> = (0..6)
        .map(|_| world.connect(front.sim.listeners()))
        .collect();
    settle(&mut front.sim, &mut back);
    front.sim.advance(Duration::from_millis(5_010));
    settle(&mut front.sim, &mut back);
    for client in &clients {
        assert_eq!(client.receive(10), b"in");
    }
    assert_eq!(backend(&front), 6);
    let subject = &front.site.groups[0].backends[0];
    let board = &subject.boards[0];
    assert_eq!(
        (
            board.connect_refused.value(),
            board.connect_timeouts.value()
        ),
        (2, 4)
    );
    assert_eq!(
        subject
            .changes
            .ejected
            .load(std::sync::atomic::Ordering::Relaxed),
        0
    );
    subject.set_places(vec![place(NOBODY), place(NOBODY + 1)]);
    let client = world.connect(front.sim.listeners());
    settle(&mut front.sim, &mut back);
    assert!(client.was_reset());
    let subject = &front.site.groups[0].backends[0];
    assert_eq!(subject.boards[0].connect_refused.value(), 4);
    assert_eq!(
        subject
            .changes
            .ejected
            .load(std::sync::atomic::Ordering::Relaxed),
        1
    );
    drop(clients);
    drop(client);
    settle(&mut front.sim, &mut back);
    front.assert_at_rest(&world);
}

#[test]
fn a_connection_without_a_source_port_is_not_begun() {
    // Goal: running out of source ports is told, refused cleanly, and over when a session ends; another source address helps.
    // Method: two source addresses with two ports each, five clients; one leaves and one comes.
    let world = World::new(20);
    let mut back = backend(&world, || Echo);
    let mut settings = settings(back.listeners());
    settings.groups[0].sources = [2, 3]
        .map(|last| SourceAddr {
            ip: [127, 0, 0, last].into(),
            ports: Some((5001, 5002)),
        })
        .to_vec();
    let mut front = proxy(&world, 1, settings);
    let told = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let tell = std::sync::Arc::clone(&told);
    front
        .site
        .set_port_teller(move |_, _, news| tell.lock().unwrap().push(news.level));
    let mut clients: Vec<_> = (0..5)
        .map(|_| world.connect(front.sim.listeners()))
        .collect();
    settle(&mut front.sim, &mut back);
    assert_eq!(front.states(), ["RC"]);
    let subject = &front.site.groups[0].backends[0];
    assert_eq!(subject.boards[0].connect_local.value(), 1);
    let used: Vec<_> = subject
        .ports
        .all(0)
        .iter()
        .map(|p| (p.used, p.level))
        .collect();
    assert_eq!(used, [(2, PortLevel::Out); 2]);
    assert_eq!(*told.lock().unwrap(), [PortLevel::Out; 2]);
    clients.retain(|client| !client.was_reset());
    drop(clients.pop());
    settle(&mut front.sim, &mut back);
    clients.push(world.connect(front.sim.listeners()));
    for client in &clients {
        client.send(b"hello");
        assert_eq!(drain(&mut front.sim, &mut back, client), b"hello");
    }
    drop(clients);
    settle(&mut front.sim, &mut back);
    let subject = &front.site.groups[0].backends[0];
    assert!(subject.ports.all(0).iter().all(|ports| ports.used == 0));
    assert_eq!(told.lock().unwrap().last(), Some(&PortLevel::Ample));
    front.assert_at_rest(&world);
}
