//! What a connection that a handler makes costs: the handshake's last ACK, keep-alive, errors and FINs that are asked for.

use crate::proxy::{Relay, address};
use crate::{Echo, assert_at_rest, server};
use polyloop::{
    Accepted, Ctx, Dial, Factory, Handler, Input, KeepAlive, KeepAliveNumbers, PeerAddr, Side,
    Tuning, Verdict,
};
use polyloop_sim::{Sim, World};
use std::time::Duration;

/// Connects at once, says `greeting` to the back meanwhile, and passes on what comes; asks for a keep-alive.
#[derive(Clone, Copy)]
struct Forwarder {
    to: PeerAddr,
    greeting: &'static [u8],
    forwards: bool,
    keep_alive: Option<KeepAlive>,
}

impl Handler for Forwarder {
    type Message = ();

    fn on_open(&mut self, cx: &mut Ctx<'_, Self>) -> Verdict {
        let mut dial = Dial::from(self.to);
        dial.vigilance.keep_alive = self.keep_alive;
        let is_asked = if self.forwards {
            cx.connect_to_forward(dial)
        } else {
            cx.connect(dial)
        };
        assert!(is_asked);
        let _ = cx.write_to(Side::Back, self.greeting);
        cx.pause(Side::Front);
        Verdict::Continue
    }

    fn on_connected(&mut self, cx: &mut Ctx<'_, Self>) -> Verdict {
        cx.resume(Side::Front);
        Verdict::Continue
    }

    fn on_data(&mut self, cx: &mut Ctx<'_, Self>, input: &mut Input<'_>) -> Verdict {
        let to = cx.side().other();
        let _ = cx.write_to(to, input.take_all());
        Verdict::Continue
    }

    fn on_finished(&mut self, cx: &mut Ctx<'_, Self>) -> Verdict {
        let to = cx.side().other();
        cx.finish(to);
        Verdict::Drain
    }

    fn on_connect_failed(&mut self, _: &mut Ctx<'_, Self>, error: std::io::Error) -> Verdict {
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
        Verdict::Close
    }
}

/// A server of one loop whose sessions are all like `session`.
fn forwarder(
    world: &World,
    tuning: &Tuning,
    session: Forwarder,
) -> Sim<impl Factory<Handler = Forwarder> + use<>> {
    server(world, 1, tuning, move |_| move |_: Accepted| session)
}

const KEEP_ALIVE: KeepAlive = KeepAlive {
    idle: Duration::from_secs(60),
    interval: Duration::from_secs(15),
    count: 4,
};

#[test]
fn the_handshake_waits_for_bytes_that_are_in_hand_and_for_no_others() {
    // Goal: the last ACK is held where something will be sent at once, and nowhere else, or a peer that speaks first would
    // wait. Method: a client that has spoken and one that has not, a handler that forwards and one that does not say so, and
    // one that writes by itself.
    for (speaks, forwards, greeting, held) in [
        (true, true, &b""[..], 1),
        (false, true, b"", 0),
        (true, false, b"", 0),
        (false, false, b"hello", 1),
    ] {
        let world = World::new(21);
        let mut backend = server(&world, 1, &Tuning::default(), |_| |_: Accepted| Echo);
        let to = address(backend.listeners()[0]);
        let mut proxy = forwarder(
            &world,
            &Tuning::default(),
            Forwarder {
                to,
                greeting,
                forwards,
                keep_alive: None,
            },
        );
        let client = world.connect(proxy.listeners());
        if speaks {
            client.send(b"first");
        }
        proxy.settle();
        assert_eq!(world.acks_held(), held, "{speaks} {forwards} {greeting:?}");
        backend.settle();
        proxy.settle();
        let said = if speaks { &b"first"[..] } else { greeting };
        assert_eq!(client.receive(usize::MAX), said);
        drop(client);
        proxy.settle();
        backend.settle();
        assert_at_rest(&mut proxy, &world);
    }
}

#[test]
fn what_waited_for_a_connection_goes_out_with_its_news() {
    // Goal: no poll between the news that a connection stands and the bytes that wait for it. Method: a client that spoke
    // first; the loop is turned as long as it has work: accept and connect, then everything else.
    let world = World::new(22);
    let mut backend = server(&world, 1, &Tuning::default(), |_| |_: Accepted| Echo);
    let to = address(backend.listeners()[0]);
    let mut proxy = forwarder(
        &world,
        &Tuning::default(),
        Forwarder {
            to,
            greeting: b"",
            forwards: true,
            keep_alive: None,
        },
    );
    let client = world.connect(proxy.listeners());
    client.send(b"first");
    assert_eq!(proxy.settle(), 2);
    assert_eq!(proxy.sum(|numbers| numbers.bytes_out.value()), 5);
    backend.settle();
    assert_eq!(backend.sum(|numbers| numbers.bytes_in.value()), 5);
}

#[test]
fn only_who_lives_for_a_second_is_kept_alive() {
    // Goal: a short session asks nothing of the kernel, a longer one once for each socket, with the numbers it was given; and
    // an idle deadline is none the later for it. Method: two sessions, one of which ends before its second is over.
    let world = World::new(23);
    let mut backend = server(&world, 1, &Tuning::default(), |_| |_: Accepted| Echo);
    let to = address(backend.listeners()[0]);
    world.keep_alive();
    let tuning = Tuning {
        idle_timeout: Some(Duration::from_secs(5)),
        ..Tuning::default()
    };
    let mut proxy = forwarder(
        &world,
        &tuning,
        Forwarder {
            to,
            greeting: b"",
            forwards: true,
            keep_alive: Some(KEEP_ALIVE),
        },
    );
    let short = world.connect(proxy.listeners());
    let long = world.connect(proxy.listeners());
    proxy.settle();
    proxy.advance(Duration::from_millis(900));
    drop(short);
    proxy.settle();
    backend.settle();
    proxy.settle();
    assert_eq!(world.kept_alive(), []);
    proxy.advance(Duration::from_millis(400));
    let numbers: KeepAliveNumbers = KEEP_ALIVE.try_into().unwrap();
    let kept_alive = world.kept_alive();
    let [(front, None), (back, Some(given))] = kept_alive[..] else {
        panic!("{kept_alive:?}");
    };
    // The front is the older one.
    assert!(front < back && given == numbers);
    assert_eq!(world.kept_from_start(), 0);
    proxy.advance(Duration::from_millis(3_600));
    assert!(!long.is_at_end() && proxy.sum(|numbers| numbers.live.value()) == 1);
    proxy.advance(Duration::from_millis(200));
    assert_eq!(proxy.sum(|numbers| numbers.live.value()), 0);
    assert_eq!(world.kept_alive().len(), 2);
    backend.settle();
    assert_at_rest(&mut proxy, &world);
}

#[test]
fn a_keep_alive_that_the_kernel_would_refuse_is_told_at_once() {
    // Goal: numbers out of range fail the connection, although they would be set later. Method: 0 s, 40,000 s, 200 questions.
    for (idle, count) in [(0, 4), (40_000, 4), (60, 200)] {
        let world = World::new(24);
        world.keep_alive();
        let to = address(4999);
        let mut proxy = forwarder(
            &world,
            &Tuning::default(),
            Forwarder {
                to,
                greeting: b"",
                forwards: true,
                keep_alive: Some(KeepAlive {
                    idle: Duration::from_secs(idle),
                    count,
                    ..KEEP_ALIVE
                }),
            },
        );
        let client = world.connect(proxy.listeners());
        proxy.settle();
        assert!(client.is_at_end());
        assert_at_rest(&mut proxy, &world);
    }
}

#[test]
fn a_back_behind_a_front_that_is_not_kept_alive_is_so_from_the_start() {
    // Goal: no deadline of a session is moved for the keep-alive of its back. Method: a listener without one.
    let world = World::new(25);
    let mut backend = server(&world, 1, &Tuning::default(), |_| |_: Accepted| Echo);
    let to = address(backend.listeners()[0]);
    let mut proxy = forwarder(
        &world,
        &Tuning::default(),
        Forwarder {
            to,
            greeting: b"",
            forwards: true,
            keep_alive: Some(KEEP_ALIVE),
        },
    );
    let client = world.connect(proxy.listeners());
    proxy.settle();
    proxy.advance(Duration::from_secs(2));
    assert_eq!((world.kept_from_start(), world.kept_alive().len()), (1, 0));
    drop(client);
    proxy.settle();
    backend.settle();
    assert_at_rest(&mut proxy, &world);
}

#[test]
fn a_session_that_goes_well_asks_the_system_no_more_than_it_must() {
    // Goal: no error is asked for where none was told, and the one FIN that goes ahead of a close is that of the half that
    // finished first. Method: a client that says something, hears it, finishes, and hears the end.
    let world = World::new(26);
    let mut backend = server(&world, 1, &Tuning::default(), |_| |_: Accepted| Echo);
    let to = address(backend.listeners()[0]);
    let mut proxy = server(&world, 1, &Tuning::default(), move |_| {
        move |_: Accepted| Relay::new(to)
    });
    let client = world.connect(proxy.listeners());
    client.send(b"first");
    let mut settle = || while proxy.settle() + backend.settle() > 0 {};
    settle();
    assert_eq!(client.receive(usize::MAX), b"first");
    client.finish();
    settle();
    assert!(client.is_at_end() && !client.was_reset());
    assert_eq!((world.shutdowns(), world.errors_taken()), (1, 0));
    assert_at_rest(&mut proxy, &world);
}
