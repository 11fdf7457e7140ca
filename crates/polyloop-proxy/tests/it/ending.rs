//! Ends that somebody else decides: drains, lifetimes, backends that go down, clients that do not speak.

use std::time::Duration;

use polyloop::{CloseReason, Ctx, Handler, Input, Tuning, Verdict};
use polyloop_proxy::health::{Manual, Outcome, State};
use polyloop_proxy::settings::{
    CheckKind, DrainClose, HealthCheck, OnDown, PassiveEjection, ProxySettings, Splice,
};
use polyloop_sim::World;

use crate::{Echo, Named, Proxy, backend, drain, proxy, proxy_tuned, settings, settle};

/// Sends without end, and takes nothing.
struct Flood;

impl Handler for Flood {
    type Message = ();

    fn on_open(&mut self, cx: &mut Ctx<'_, Self>) -> Verdict {
        self.on_writable(cx)
    }

    fn on_data(&mut self, cx: &mut Ctx<'_, Self>, input: &mut Input<'_>) -> Verdict {
        input.take_all();
        self.on_writable(cx)
    }

    fn on_writable(&mut self, cx: &mut Ctx<'_, Self>) -> Verdict {
        let _ = cx.write(&[7; 1000]);
        Verdict::Continue
    }
}

#[test]
fn a_spread_drain_spreads() {
    // Goal: clients of a server that drains do not all come back at the same moment. Method: 400 quiet sessions on two loops
    // and a window of 100 seconds; no tenth of the first eighty seconds has much more or much less than its share.
    let world = World::new(1);
    let mut back = backend(&world, || Echo);
    let mut settings = settings(back.listeners());
    settings.drain_close = DrainClose::Spread;
    let mut front = proxy(&world, 2, settings);
    front.site.set_drain_window(Duration::from_secs(100));
    let clients: Vec<_> = (0..400)
        .map(|_| world.connect(front.sim.listeners()))
        .collect();
    settle(&mut front.sim, &mut back);
    let until_ns = world.now_ns() + 100_000_000_000;
    front.sim.console().drain(until_ns);
    front.sim.settle();
    let mut ended = 0;
    for _ in 0..10 {
        front.sim.advance(Duration::from_secs(8));
        clients
            .iter()
            .filter(|client| client.is_at_end())
            .for_each(|client| client.finish());
        settle(&mut front.sim, &mut back);
        let states = front.states().len();
        assert!((15..=80).contains(&states), "{states} in a tenth");
        ended += states;
    }
    front.sim.advance(Duration::from_secs(1));
    clients.iter().for_each(|client| client.finish());
    settle(&mut front.sim, &mut back);
    assert_eq!(ended + front.states().len(), 400);
    drop(clients);
    front.assert_at_rest(&world);
}

#[test]
fn a_lifetime_waits_for_a_quiet_moment_and_not_for_ever() {
    // Goal: an end that the proxy decides never makes a part look like the whole. Method: a backend that sends without end:
    // its client is reset, soon after the lifetime; a quiet session gets a FIN.
    for is_busy in [true, false] {
        let world = World::new(2);
        let mut back = backend(&world, || Flood);
        let mut quiet = backend(&world, || Echo);
        let to = if is_busy {
            back.listeners()[0]
        } else {
            quiet.listeners()[0]
        };
        let mut settings = settings(&[to]);
        settings.listeners[0].timeouts.lifetime = Some(Duration::from_secs(20));
        settings.listeners[0].timeouts.lifetime_jitter_percent = 0;
        let mut front = proxy(&world, 1, settings);
        let client = world.connect(front.sim.listeners());
        for _ in 0..260 {
            settle(&mut front.sim, &mut back);
            settle(&mut front.sim, &mut quiet);
            let _ = client.receive(usize::MAX);
            if is_busy {
                // Asks for more.
                client.send(b"x");
            }
            front.sim.advance(Duration::from_millis(100));
        }
        assert_eq!(client.was_reset(), is_busy);
        client.finish();
        settle(&mut front.sim, &mut back);
        settle(&mut front.sim, &mut quiet);
        assert_eq!(front.states(), ["PD"]);
        drop(client);
        settle(&mut front.sim, &mut back);
        settle(&mut front.sim, &mut quiet);
        front.assert_at_rest(&world);
    }
}

fn checked(listener: u32) -> ProxySettings {
    let mut settings = settings(&[listener]);
    let group = &mut settings.groups[0];
    group.on_down = OnDown::Close;
    group.health = Some(HealthCheck {
        interval: Duration::from_secs(3600),
        ..HealthCheck::new(CheckKind::Connect)
    });
    settings
}

fn check(front: &Proxy, world: &World, outcome: Outcome) {
    let now_ms = world.now_ns() / 1_000_000;
    for _ in 0..3 {
        front.site.groups[0].backends[0]
            .judge(now_ms, |health| health.handle_check(now_ms, outcome));
    }
}

#[test]
fn sessions_of_a_group_that_fails_open_are_not_closed_for_the_reason_they_were_let_in() {
    // Goal: on-down close ends sessions whose backend goes down, and not those that were given it although it was down.
    // Method: a session before, one after the checks fail; then the backend comes up and goes down again.
    let world = World::new(3);
    let mut back = backend(&world, || Echo);
    let mut front = proxy(&world, 1, checked(back.listeners()[0]));
    check(&front, &world, Outcome::Passed);
    let before = world.connect(front.sim.listeners());
    settle(&mut front.sim, &mut back);
    front.sim.advance(Duration::from_secs(3));
    check(&front, &world, Outcome::Failed);
    let after = world.connect(front.sim.listeners());
    settle(&mut front.sim, &mut back);
    front.sim.advance(Duration::from_secs(5));
    assert!(before.was_reset() && !after.was_reset());
    assert_eq!(front.states(), ["DD"]);
    after.send(b"still here");
    assert_eq!(drain(&mut front.sim, &mut back, &after), b"still here");
    check(&front, &world, Outcome::Passed);
    front.sim.advance(Duration::from_secs(3));
    check(&front, &world, Outcome::Failed);
    front.sim.advance(Duration::from_secs(3));
    assert!(after.was_reset());
    drop((before, after));
    settle(&mut front.sim, &mut back);
}

#[test]
fn an_operators_down_ends_every_session_where_asked() {
    // Goal: who takes a backend out by hand means all of its sessions. Method: one let in while the checks failed.
    let world = World::new(4);
    let mut back = backend(&world, || Echo);
    let mut front = proxy(&world, 1, checked(back.listeners()[0]));
    check(&front, &world, Outcome::Failed);
    let client = world.connect(front.sim.listeners());
    settle(&mut front.sim, &mut back);
    let now_ms = world.now_ns() / 1_000_000;
    front.site.groups[0].backends[0]
        .judge(now_ms, |health| health.set_manual(now_ms, Manual::Down));
    front.sim.advance(Duration::from_secs(2));
    assert!(client.was_reset());
    assert_eq!(front.states(), ["DD"]);
}

#[test]
fn a_backend_that_is_drained_by_hand_is_left_over_the_window() {
    // Goal: an operator's drain of one backend empties it without a storm, and can be taken back. Method: 200 sessions at one
    // of two backends and some at the other, a window of 100 seconds; halfway the operator says ready, then drain again.
    let world = World::new(7);
    let mut back = backend(&world, || Echo);
    let mut other = backend(&world, || Echo);
    let mut settings = settings(&[back.listeners()[0], other.listeners()[0]]);
    settings.drain_close = DrainClose::Spread;
    let mut front = proxy(&world, 2, settings);
    front.site.set_drain_window(Duration::from_secs(100));
    let clients: Vec<_> = (0..400)
        .map(|_| world.connect(front.sim.listeners()))
        .collect();
    settle(&mut front.sim, &mut back);
    settle(&mut front.sim, &mut other);
    let taken = |front: &Proxy| [0, 1].map(|at| front.site.groups[0].backends[at].taken());
    let [drained, kept] = taken(&front);
    assert!(drained > 100 && drained + kept == 400);
    let set = |front: &Proxy, manual| {
        let now_ms = world.now_ns() / 1_000_000;
        front.site.groups[0].backends[0].judge(now_ms, |health| health.set_manual(now_ms, manual));
    };
    set(&front, Manual::Drain);
    let mut pass = |front: &mut Proxy, seconds| {
        front.sim.advance(Duration::from_secs(seconds));
        for client in clients.iter().filter(|client| client.is_at_end()) {
            client.finish();
        }
        settle(&mut front.sim, &mut back);
        settle(&mut front.sim, &mut other);
        taken(front)
    };
    let [left, _] = pass(&mut front, 40);
    assert!(
        (drained / 4..drained * 3 / 4).contains(&left),
        "{left} of {drained}"
    );
    set(&front, Manual::Ready);
    pass(&mut front, 3);
    let [stays, _] = taken(&front);
    assert_eq!(pass(&mut front, 100), [stays, kept], "it was taken back");
    set(&front, Manual::Drain);
    assert_eq!(pass(&mut front, 85), [0, kept]);
    assert!(front.states().iter().all(|state| state == "KD"));
    drop(clients);
    settle(&mut front.sim, &mut back);
    settle(&mut front.sim, &mut other);
    front.assert_at_rest(&world);
}

#[test]
fn what_is_spliced_proves_a_backend_well_too() {
    // Goal: failures count in a row only, whatever way bytes take. Method: all but one of the failures that eject, a session
    // that gets its answer, the last failure; copied and spliced.
    for splice in [Splice::Off, Splice::Always] {
        let world = World::new(5);
        let mut back = backend(&world, || Named(b"well"));
        let mut settings = settings(back.listeners());
        settings.listeners[0].splice = splice;
        settings.groups[0].passive = Some(PassiveEjection {
            share_max_percent: 100,
            ..PassiveEjection::default()
        });
        let errors = PassiveEjection::default().errors;
        let tuning = Tuning {
            pipes_max: 4,
            ..Tuning::default()
        };
        let mut front = proxy_tuned(&world, 1, settings, &tuning);
        let fail = |front: &Proxy| {
            let now_ms = world.now_ns() / 1_000_000;
            front.site.groups[0].backends[0]
                .judge(now_ms, |health| health.handle_failure(now_ms, || true));
        };
        (1..errors).for_each(|_| fail(&front));
        let client = world.connect(front.sim.listeners());
        assert_eq!(drain(&mut front.sim, &mut back, &client), b"well");
        fail(&front);
        let now_ms = world.now_ns() / 1_000_000;
        let state = front.site.groups[0].backends[0].published().state(now_ms);
        assert_eq!(state, State::Up, "{splice:?}");
        drop(client);
        settle(&mut front.sim, &mut back);
        front.assert_at_rest(&world);
    }
}

#[test]
fn the_first_byte_is_the_clients_and_its_time_runs_from_accept() {
    // Goal: a banner of the server says nothing about the client, and who finishes without a word has said so. Method: a
    // server that speaks first; one client is silent, one finishes, one speaks.
    let world = World::new(6);
    let mut back = backend(&world, || Named(b"220 ready"));
    let mut settings = settings(back.listeners());
    settings.listeners[0].timeouts.first_byte = Some(Duration::from_secs(10));
    settings.listeners[0].timeouts.half_close = Duration::from_secs(600);
    let mut front = proxy(&world, 1, settings);
    let clients: Vec<_> = (0..3)
        .map(|_| world.connect(front.sim.listeners()))
        .collect();
    settle(&mut front.sim, &mut back);
    clients[1].send(b"EHLO");
    settle(&mut front.sim, &mut back);
    front.sim.advance(Duration::from_millis(9_900));
    assert_eq!(front.sim.sum(|numbers| numbers.live.value()), 3);
    clients[2].finish();
    front.sim.advance(Duration::from_millis(200));
    assert_eq!(front.closes(CloseReason::HandlerAborted), 1);
    assert!(clients[0].was_reset() && !clients[1].was_reset() && !clients[2].was_reset());
    let states = front.states();
    assert_eq!(states.len(), 1);
    assert!(states[0].starts_with('c'), "{states:?}");
    drop(clients);
    settle(&mut front.sim, &mut back);
    back.advance(Duration::from_secs(1000));
    settle(&mut front.sim, &mut back);
    front.assert_at_rest(&world);
}
