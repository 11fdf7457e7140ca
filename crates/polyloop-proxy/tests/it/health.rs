//! Checks, ejection, operators: who is given sessions, and who is not.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use polyloop::{Ctx, Handler, Input, Remote, Verdict};
use polyloop_proxy::balance::Algorithm;
use polyloop_proxy::health::{Manual, State};
use polyloop_proxy::settings::{CheckKind, HealthCheck, OnDown, PassiveEjection};
use polyloop_sim::World;

use crate::{Echo, NOBODY, Named, Proxy, address, backend, proxy, settings, settle};

/// Resets everybody who speaks.
struct Breaker;

impl Handler for Breaker {
    type Message = ();

    fn on_data(&mut self, _: &mut Ctx<'_, Self>, _: &mut Input<'_>) -> Verdict {
        Verdict::Abort
    }
}

fn state(world: &World, proxy: &Proxy, backend: usize) -> State {
    let now_ms = world.now_ns() / 1_000_000;
    proxy.site.groups[0].backends[backend]
        .published()
        .state(now_ms)
}

#[test]
fn a_dead_backend_is_found_out_and_gets_no_session() {
    // Goal: checks decide before a client has to. Method: one backend that lives and one that does not, over three loops; then
    // sessions, none of which may need a second try.
    let world = World::new(1);
    let mut back = backend(&world, || Echo);
    let mut settings = settings(&[NOBODY, back.listeners()[0]]);
    settings.groups[0].health = Some(HealthCheck::new(CheckKind::Connect));
    let mut front = proxy(&world, 3, settings);
    for _ in 0..30 {
        front.sim.advance(Duration::from_millis(100));
        settle(&mut front.sim, &mut back);
    }
    assert_eq!(state(&world, &front, 0), State::CheckedDown);
    assert_eq!(state(&world, &front, 1), State::Up);
    let clients: Vec<_> = (0..12)
        .map(|_| world.connect(front.sim.listeners()))
        .collect();
    settle(&mut front.sim, &mut back);
    let group = &front.site.groups[0];
    assert_eq!(group.backends[1].taken(), 12);
    let chosen: u64 = group.backends[0]
        .boards
        .iter()
        .map(|b| b.chosen.value())
        .sum();
    assert_eq!(chosen, 0);
    assert_eq!(group.backends[0].changes.down.load(Relaxed), 1);
    drop(clients);
    settle(&mut front.sim, &mut back);
    // Checks go on: the loops are at rest between two of them.
    front.sim.console().drain(world.now_ns());
    front.sim.settle();
    settle(&mut front.sim, &mut back);
    front.assert_at_rest(&world);
}

#[test]
fn an_answer_is_compared_as_far_as_it_is_expected() {
    // Goal: send/expect and TLS checks look at what comes. Method: backends that greet rightly, wrongly, not at all.
    for (kind, says, expected) in [
        (
            CheckKind::SendExpect {
                send: b"PING\r\n".to_vec(),
                expect: b"+PONG".to_vec(),
            },
            &b"+PONG\r\n"[..],
            State::Up,
        ),
        (
            CheckKind::SendExpect {
                send: Vec::new(),
                expect: b"220 ".to_vec(),
            },
            b"554 go away",
            State::CheckedDown,
        ),
        (
            CheckKind::SendExpect {
                send: Vec::new(),
                expect: b"220 ".to_vec(),
            },
            b"",
            State::CheckedDown,
        ),
        (
            CheckKind::TlsHello { sni: None },
            &[22, 3, 3, 0, 1, 2],
            State::Up,
        ),
        (
            CheckKind::TlsHello { sni: None },
            &[21, 3, 3, 0, 2, 2, 40],
            State::CheckedDown,
        ),
    ] {
        let world = World::new(2);
        let mut back = backend(&world, move || Named(says));
        let mut settings = settings(back.listeners());
        settings.groups[0].health = Some(HealthCheck::new(kind.clone()));
        let mut front = proxy(&world, 1, settings);
        for _ in 0..80 {
            front.sim.advance(Duration::from_millis(100));
            settle(&mut front.sim, &mut back);
        }
        assert_eq!(state(&world, &front, 0), expected, "{kind:?}");
        front.sim.console().drain(world.now_ns());
        settle(&mut front.sim, &mut back);
        front.assert_at_rest(&world);
    }
}

#[test]
fn a_backend_that_comes_back_is_used_again() {
    // Goal: rise brings it back. Method: a silent listener that never completes a connection, then one that does: here a
    // backend that is taken for dead because it resets every check, and then does not.
    let world = World::new(3);
    let silent = world.listen();
    world.silence(silent.id());
    let mut settings = settings(&[silent.id()]);
    let check = HealthCheck {
        timeout: Duration::from_millis(500),
        ..HealthCheck::new(CheckKind::Connect)
    };
    settings.groups[0].health = Some(check);
    let mut front = proxy(&world, 1, settings);
    front.sim.advance(Duration::from_secs(10));
    assert_eq!(state(&world, &front, 0), State::CheckedDown);
    world.speak(silent.id());
    front.sim.advance(Duration::from_secs(6));
    assert_eq!(state(&world, &front, 0), State::Up);
    assert_eq!(front.site.groups[0].backends[0].changes.up.load(Relaxed), 1);
}

#[test]
fn a_backend_that_fails_its_sessions_is_ejected_for_a_while() {
    // Goal: failures in a row eject, for longer each time, and at most a share of the group. Method: of two backends one resets
    // everybody before its first byte.
    let world = World::new(4);
    let mut good = backend(&world, || Echo);
    let mut bad = backend(&world, || Breaker);
    let mut settings = settings(&[bad.listeners()[0], good.listeners()[0]]);
    settings.groups[0].balance = Algorithm::RoundRobin;
    settings.groups[0].passive = Some(PassiveEjection {
        errors: 3,
        ..PassiveEjection::default()
    });
    let mut front = proxy(&world, 1, settings);
    let mut resets = 0;
    for _ in 0..40 {
        let client = world.connect(front.sim.listeners());
        client.send(b"hello");
        for _ in 0..3 {
            settle(&mut front.sim, &mut bad);
            settle(&mut front.sim, &mut good);
        }
        resets += u64::from(client.was_reset());
    }
    assert_eq!(resets, 3, "three failures, and then nobody is sent there");
    assert_eq!(state(&world, &front, 0), State::Ejected);
    front.sim.advance(Duration::from_secs(11));
    assert_eq!(
        state(&world, &front, 0),
        State::Up,
        "it is given another chance"
    );
    let client = world.connect(front.sim.listeners());
    let other = world.connect(front.sim.listeners());
    for client in [&client, &other] {
        client.send(b"hello");
    }
    for _ in 0..3 {
        settle(&mut front.sim, &mut bad);
        settle(&mut front.sim, &mut good);
    }
    assert_eq!(
        state(&world, &front, 0),
        State::Ejected,
        "and has not taken it"
    );
    drop((client, other));
    settle(&mut front.sim, &mut bad);
    settle(&mut front.sim, &mut good);
    front.assert_at_rest(&world);
}

#[test]
fn an_operator_takes_a_backend_out_and_its_sessions_stay() {
    // Goal: drain keeps what there is and sends nothing new. Method: two backends, sessions on both, one is drained.
    let world = World::new(5);
    let mut back = backend(&world, || Echo);
    let mut other = backend(&world, || Named(b"other"));
    let mut settings = settings(&[back.listeners()[0], other.listeners()[0]]);
    settings.groups[0].balance = Algorithm::RoundRobin;
    let mut front = proxy(&world, 1, settings);
    let clients: Vec<_> = (0..4)
        .map(|_| world.connect(front.sim.listeners()))
        .collect();
    settle(&mut front.sim, &mut back);
    settle(&mut front.sim, &mut other);
    let now_ms = world.now_ns() / 1_000_000;
    front.site.groups[0].backends[0]
        .judge(now_ms, |health| health.set_manual(now_ms, Manual::Drain));
    let more: Vec<_> = (0..4)
        .map(|_| world.connect(front.sim.listeners()))
        .collect();
    settle(&mut front.sim, &mut back);
    settle(&mut front.sim, &mut other);
    let taken = [0, 1].map(|at| front.site.groups[0].backends[at].taken());
    assert_eq!(taken, [2, 6]);
    drop((clients, more));
    settle(&mut front.sim, &mut back);
    settle(&mut front.sim, &mut other);
    front.assert_at_rest(&world);
}

#[test]
fn sessions_of_a_backend_that_goes_down_are_closed_if_so_told() {
    // Goal: `on-down close` resets them within a second, `keep` does not. Method: a session, an operator, both policies.
    for (on_down, is_cut) in [(OnDown::Close, true), (OnDown::Keep, false)] {
        let world = World::new(6);
        let mut back = backend(&world, || Named(b"in"));
        let mut settings = settings(back.listeners());
        settings.groups[0].on_down = on_down;
        let mut front = proxy(&world, 1, settings);
        let client = world.connect(front.sim.listeners());
        settle(&mut front.sim, &mut back);
        front.sim.advance(Duration::from_secs(5));
        assert!(!client.was_reset());
        let now_ms = world.now_ns() / 1_000_000;
        front.site.groups[0].backends[0]
            .judge(now_ms, |health| health.set_manual(now_ms, Manual::Down));
        front.sim.advance(Duration::from_millis(1_010));
        settle(&mut front.sim, &mut back);
        assert_eq!(client.was_reset(), is_cut, "{on_down:?}");
        let _ = client.receive(10);
        drop(client);
        settle(&mut front.sim, &mut back);
        assert_eq!(front.states(), [if is_cut { "DD" } else { "--" }]);
        front.assert_at_rest(&world);
    }
}

#[test]
fn a_backend_is_well_if_one_of_its_addresses_is() {
    // Goal: a check asks all addresses before it has failed, and none where there is none. Method: two dead ones and a living one;
    // then only dead ones; then none.
    let world = World::new(9);
    let mut back = backend(&world, || Echo);
    let mut settings = settings(&[NOBODY]);
    settings.groups[0].health = Some(HealthCheck::new(CheckKind::Connect));
    let mut front = proxy(&world, 1, settings);
    let place = |listener| Remote::Tcp(address(listener));
    let dead = vec![place(NOBODY), place(NOBODY + 1)];
    let living = [dead.clone(), vec![place(back.listeners()[0])]].concat();
    for (places, expected, changes) in [
        (living.clone(), State::Up, 0),
        (dead, State::CheckedDown, 1),
        (Vec::new(), State::CheckedDown, 1),
        (living, State::Up, 1),
    ] {
        front.site.groups[0].backends[0].set_places(places);
        for _ in 0..100 {
            front.sim.advance(Duration::from_millis(100));
            settle(&mut front.sim, &mut back);
        }
        assert_eq!(state(&world, &front, 0), expected);
        let down = &front.site.groups[0].backends[0].changes.down;
        assert_eq!(down.load(Relaxed), changes);
    }
    front.sim.console().drain(world.now_ns());
    front.sim.settle();
    settle(&mut front.sim, &mut back);
    front.assert_at_rest(&world);
}
