//! Deadlines, timers, drain, stop, panics, the cap.

use crate::{Echo, assert_at_rest, drain_client, echo_server, server};
use polyloop::{
    Accepted, Capacities, Choice, CloseReason, Ctx, Handler, Input, LoopEnd, TimerKey, Tuning,
    Verdict, WhenFull,
};
use polyloop_sim::{Sim, World};
use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

const fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

#[test]
fn idle_deadlines_are_lazy_and_exact() {
    // Goal: activity is one store, and still the deadline is never early and at most a tick late. Method: a client
    // that speaks every 40 of 50 ms lives; when it stops, it is closed after 50 and before 52 ms.
    let world = World::new(1);
    let tuning = Tuning {
        idle_timeout: Some(ms(50)),
        ..Tuning::default()
    };
    let mut sim = echo_server(&world, &tuning);
    let client = world.connect(sim.listeners());
    for _ in 0..10 {
        assert_eq!(client.send(b"x"), 1);
        sim.advance(ms(40));
        assert_eq!(client.receive(9), b"x");
    }
    assert!(!client.is_at_end());
    sim.advance(ms(10));
    assert!(!client.is_at_end(), "not before its time");
    sim.advance(ms(2));
    assert!(client.is_at_end());
    assert_eq!(
        sim.console().boards()[0].closes[CloseReason::IdleTimeout.index()].value(),
        1
    );
    assert_at_rest(&mut sim, &world);
}

#[test]
fn a_peer_that_never_finishes_is_let_go() {
    // Goal: a session that drains has a deadline. Method: the handler drains, the peer stays silent.
    struct Bye;
    impl Handler for Bye {
        type Message = ();
        fn on_data(&mut self, _: &mut Ctx<'_, Self>, _: &mut Input<'_>) -> Verdict {
            Verdict::Drain
        }
    }
    let world = World::new(2);
    let tuning = Tuning {
        linger_timeout: ms(100),
        ..Tuning::default()
    };
    let mut sim = server(&world, 1, &tuning, |_| |_: Accepted| Bye);
    let client = world.connect(sim.listeners());
    assert_eq!(client.send(b"hello"), 5);
    sim.advance(ms(99));
    assert!(client.is_at_end(), "FIN came at once");
    assert_eq!(world.owned(), 1, "and the peer's is waited for");
    assert_eq!(client.send(b"more"), 4);
    sim.advance(ms(3));
    assert_eq!(
        sim.console().boards()[0].closes[CloseReason::LingerTimeout.index()].value(),
        1
    );
    assert_at_rest(&mut sim, &world);
}

/// Sets three timers, cancels one of them, and notes when which fires.
struct Timers {
    log: Rc<RefCell<Vec<(u64, TimerKey)>>>,
    cancelled: Option<TimerKey>,
}

impl Handler for Timers {
    type Message = ();

    fn on_open(&mut self, cx: &mut Ctx<'_, Self>) -> Verdict {
        for after in [5, 70, 5000] {
            assert!(cx.set_timer(ms(after)).is_some());
        }
        self.cancelled = cx.set_timer(ms(60));
        Verdict::Continue
    }

    fn on_data(&mut self, cx: &mut Ctx<'_, Self>, input: &mut Input<'_>) -> Verdict {
        input.take_all();
        if let Some(timer) = self.cancelled.take() {
            assert!(cx.cancel_timer(timer));
            assert!(!cx.cancel_timer(timer), "twice is once");
        }
        Verdict::Continue
    }

    fn on_timer(&mut self, cx: &mut Ctx<'_, Self>, timer: TimerKey) -> Verdict {
        self.log.borrow_mut().push((cx.now_ns(), timer));
        Verdict::Continue
    }
}

#[test]
fn timers_fire_once_never_early_and_never_after_a_cancel() {
    // Goal: timers as promised. Method: the virtual clock is the measure.
    let world = World::new(3);
    let log = Rc::new(RefCell::new(Vec::new()));
    let shared = Rc::clone(&log);
    let mut sim = server(&world, 1, &Tuning::default(), move |_| {
        let log = Rc::clone(&shared);
        move |_: Accepted| Timers {
            log: Rc::clone(&log),
            cancelled: None,
        }
    });
    let client = world.connect(sim.listeners());
    sim.settle();
    let start = world.now_ns();
    assert_eq!(client.send(b"cancel"), 6);
    sim.advance(ms(10_000));
    let fired: Vec<_> = log.borrow().iter().map(|(at, _)| at - start).collect();
    assert_eq!(fired.len(), 3, "{fired:?}");
    for (at, wanted) in fired.iter().zip([5, 70, 5000]) {
        let wanted = wanted * 1_000_000;
        assert!(
            (wanted..wanted + 2_000_000).contains(at),
            "{at} for {wanted}"
        );
    }
    drop(client);
    assert_at_rest(&mut sim, &world);
}

#[test]
fn a_drain_lets_conversations_end_and_cuts_the_rest() {
    // Goal: drain as documented. Method: three clients; one ends by itself, two are there at the deadline.
    let world = World::new(4);
    let mut sim = echo_server(&world, &Tuning::default());
    let clients: Vec<_> = (0..3).map(|_| world.connect(sim.listeners())).collect();
    sim.settle();
    let late_listeners = sim.listeners().to_vec();
    sim.console().drain(world.now_ns() + 1_000_000_000);
    sim.settle();
    assert!(
        world.connect(&late_listeners).was_reset(),
        "nobody listens any more"
    );
    assert_eq!(clients[0].send(b"still served"), 12);
    assert_eq!(drain_client(&mut sim, &clients[0]), b"still served");
    clients[0].finish();
    sim.advance(ms(999));
    assert_eq!(sim.ends(), [None]);
    sim.advance(ms(2));
    assert_eq!(sim.ends(), [Some(LoopEnd { cut: 2 })]);
    assert!(clients[1].is_at_end());
    assert_eq!(world.owned(), 0);
    assert_eq!(sim.console().permits().in_use(), 0);
}

#[test]
fn a_panic_costs_one_connection() {
    // Goal: the others never notice. Method: a handler that panics on one byte.
    struct Fragile;
    impl Handler for Fragile {
        type Message = ();
        fn on_data(&mut self, cx: &mut Ctx<'_, Self>, input: &mut Input<'_>) -> Verdict {
            let bytes = input.take_all();
            let _ = cx.write(bytes);
            assert!(!bytes.contains(&b'!'), "a bug");
            Verdict::Continue
        }
    }
    let world = World::new(5);
    let mut sim = server(&world, 1, &Tuning::default(), |_| |_: Accepted| Fragile);
    let clients: Vec<_> = (0..10).map(|_| world.connect(sim.listeners())).collect();
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    for (at, client) in clients.iter().enumerate() {
        client.send(if at == 4 { b"no!" } else { b"yes" });
    }
    sim.settle();
    std::panic::set_hook(hook);
    for (at, client) in clients.iter().enumerate() {
        let got = drain_client(&mut sim, client);
        assert_eq!(got, if at == 4 { &b""[..] } else { b"yes" });
        assert_eq!(client.was_reset(), at == 4, "what it got is not everything");
    }
    assert_eq!(sim.sum(|numbers| numbers.handler_panics.value()), 1);
    assert_eq!(
        sim.console().boards()[0].closes[CloseReason::HandlerPanicked.index()].value(),
        1
    );
    drop(clients);
    assert_at_rest(&mut sim, &world);
}

fn capped(
    world: &World,
    when_full: WhenFull,
) -> Sim<impl polyloop::Factory<Handler = Echo> + use<>> {
    let capacities = Capacities {
        connections_max: 10,
        ..Capacities::default()
    };
    Sim::new(
        world,
        1,
        &Tuning::default(),
        capacities,
        when_full,
        |_| |_: Accepted| Echo,
        |_| Choice::Stay,
    )
}

#[test]
fn at_the_cap_the_others_wait_and_come_in_without_a_new_syn() {
    // Goal: wait means wait, and a release alone lets them in. Method: 15 clients at a cap of 10; one leaves, which
    // is 90 %.
    let world = World::new(6);
    let mut sim = capped(&world, WhenFull::Wait);
    let mut clients: Vec<_> = (0..15).map(|_| world.connect(sim.listeners())).collect();
    sim.settle();
    assert_eq!(sim.sum(|numbers| numbers.live.value()), 10);
    assert_eq!(sim.sum(|numbers| numbers.paused.value()), 1);
    for left in (0..5).rev() {
        drop(clients.remove(0));
        sim.settle();
        assert_eq!(
            sim.sum(|numbers| numbers.live.value()),
            10,
            "{left} still wait"
        );
    }
    for client in &clients {
        assert_eq!(client.send(b"in"), 2);
        assert_eq!(drain_client(&mut sim, client), b"in");
    }
    clients.clear();
    assert_at_rest(&mut sim, &world);
}

#[test]
fn at_the_cap_the_others_are_refused_or_replace_the_idle() {
    // Goal: the other two policies; nobody is evicted who was busy within the last second. Method: 10 clients at a cap of
    // 10, nine of them busy after a while, then one more.
    for (when_full, idle_ms, refused, evicted) in [
        (WhenFull::Refuse, 5000, 1, 0),
        (WhenFull::EvictIdle, 999, 1, 0),
        (WhenFull::EvictIdle, 1000, 0, 1),
    ] {
        let world = World::new(7);
        let mut sim = capped(&world, when_full);
        let clients: Vec<_> = (0..10).map(|_| world.connect(sim.listeners())).collect();
        sim.settle();
        sim.advance(ms(idle_ms));
        for client in &clients[1..] {
            client.send(b"busy");
        }
        sim.settle();
        let last = world.connect(sim.listeners());
        last.send(b"x");
        sim.settle();
        assert_eq!(sim.sum(|numbers| numbers.refused.value()), refused);
        assert_eq!(sim.sum(|numbers| numbers.evicted.value()), evicted);
        assert_eq!(sim.sum(|numbers| numbers.live.value()), 10);
        assert_eq!(
            clients[0].is_at_end(),
            evicted == 1,
            "the idle one made room"
        );
        drop((clients, last));
        assert_at_rest(&mut sim, &world);
    }
}

#[test]
fn without_descriptors_nobody_is_stranded() {
    // Goal: after EMFILE a waiting connection comes in when one of ours closes, with no new SYN, and otherwise by the
    // safety timer. Method: a limit of 3; five clients; then one leaves; then the limit is raised from outside.
    let world = World::new(8);
    world.set_descriptors_max(3);
    let mut sim = echo_server(&world, &Tuning::default());
    let mut clients: Vec<_> = (0..5).map(|_| world.connect(sim.listeners())).collect();
    sim.settle();
    assert_eq!(
        (world.owned(), sim.sum(|numbers| numbers.paused.value())),
        (3, 1)
    );
    drop(clients.remove(0));
    sim.settle();
    assert_eq!(world.owned(), 3, "the fourth came in at once");
    let turns = sim.sum(|numbers| numbers.turns.value());
    sim.advance(ms(1000));
    let spent = sim.sum(|numbers| numbers.turns.value()) - turns;
    assert!(spent <= 30, "{spent} turns in a second without descriptors");
    world.set_descriptors_max(9);
    sim.advance(ms(101));
    assert_eq!(world.owned(), 4, "the timer let the fifth in");
    clients.clear();
    assert_at_rest(&mut sim, &world);
}
