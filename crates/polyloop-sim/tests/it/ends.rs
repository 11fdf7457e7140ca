//! How sessions end, as their peers see it: FIN where that was all, a reset where it was not, and panics wherever a user's
//! code runs.

use crate::proxy::{Relay, address, settle_both};
use crate::{Echo, assert_at_rest, drain_client, server};
use polyloop::{
    Accepted, Class, CloseReason, ConnRef, Ctx, Handler, Input, PeerAddr, Room, Side, Tuning,
    Verdict,
};
use polyloop_sim::{Client, World};
use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

/// Says some words, and does with its connection what the first byte says.
struct Speaker;

impl Handler for Speaker {
    type Message = ();

    fn on_data(&mut self, cx: &mut Ctx<'_, Self>, input: &mut Input<'_>) -> Verdict {
        let order = input.take_all()[0];
        let _ = cx.write(&[b'x'; 100]);
        match order {
            b'a' => Verdict::Abort,
            b'f' => {
                let side = cx.side();
                cx.finish(side);
                Verdict::Continue
            }
            b'p' => panic!("in mid-sentence"),
            _ => Verdict::Continue,
        }
    }
}

/// Runs `act` with the panics that it means to cause kept out of the output.
fn quietly<T>(act: impl FnOnce() -> T) -> T {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let done = act();
    std::panic::set_hook(hook);
    done
}

#[test]
fn a_backends_reset_reaches_the_client_as_a_reset() {
    // Goal: no client takes a part for the whole. Method: a backend that speaks and resets, behind a relay; and one that
    // speaks, finishes and resets after that: then what the client got was whole.
    for (orders, is_reset) in [(&b"sa"[..], true), (&b"fa"[..], false)] {
        let world = World::new(1);
        let mut back = server(&world, 1, &Tuning::default(), |_| |_: Accepted| Speaker);
        let to = address(back.listeners()[0]);
        let mut front = server(&world, 1, &Tuning::default(), move |_| {
            move |_: Accepted| Relay::new(to)
        });
        let client = world.connect(front.listeners());
        for order in orders {
            client.send(&[*order]);
            settle_both(&mut front, &mut back);
        }
        let closes = &front.console().boards()[0].closes;
        assert_eq!(closes[CloseReason::PeerReset.index()].value(), 1);
        assert_eq!(client.was_reset(), is_reset, "{orders:?}");
        assert_eq!(
            !is_reset,
            client.receive(1000) == [b'x'; 100] && client.is_at_end()
        );
        drop(client);
        settle_both(&mut front, &mut back);
        assert_at_rest(&mut front, &world);
        assert_at_rest(&mut back, &world);
    }
}

#[test]
fn output_that_is_dropped_is_never_followed_by_a_fin() {
    // Goal: a FIN says "that was all". Method: a client that takes ten bytes of a hundred, and every way to end its
    // session from outside; and one that takes everything.
    for (window, is_reset) in [(10, true), (1000, false)] {
        for way in ["stop", "drain", "idle"] {
            let world = World::new(2);
            let mut sim = server(&world, 1, &Tuning::default(), |_| |_: Accepted| Speaker);
            let client = world.connect(sim.listeners());
            client.set_window(window);
            client.send(b"s");
            sim.settle();
            match way {
                "stop" => sim.console().stop(),
                "drain" => sim.console().drain(world.now_ns() + 1),
                _ => {}
            }
            sim.settle();
            // Who still has output is given a second deadline, to show that it takes some of it.
            sim.advance(Duration::from_secs(1300));
            assert_eq!(client.was_reset(), is_reset, "{way}");
            assert!(!client.is_at_end(), "{way}: bytes wait to be read");
            drop(client);
            assert_at_rest(&mut sim, &world);
        }
    }
}

#[test]
fn a_panic_in_mid_sentence_is_a_reset() {
    // Goal: what a handler said before it broke is not taken for its answer. Method: it writes, and panics.
    let world = World::new(3);
    let mut sim = server(&world, 1, &Tuning::default(), |_| |_: Accepted| Speaker);
    let client = world.connect(sim.listeners());
    client.send(b"s");
    assert_eq!(drain_client(&mut sim, &client).len(), 100);
    client.send(b"p");
    quietly(|| sim.settle());
    assert!(client.was_reset());
    drop(client);
    assert_at_rest(&mut sim, &world);
}

/// Where a [`Mine`] panics.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Spot {
    Class,
    NameAtOpen,
    NameAtData,
    NameAtClose,
    Drop,
    MessageDrop,
}

/// A handler with a panic where none is expected.
struct Mine {
    spot: Option<Spot>,
    asked: Cell<u32>,
    dead: Rc<Cell<Option<ConnRef>>>,
}

/// Panics when it is dropped.
struct Charge(bool);

impl Drop for Charge {
    fn drop(&mut self) {
        assert!(!self.0, "the drop of a message");
    }
}

impl Drop for Mine {
    fn drop(&mut self) {
        assert!(
            self.spot != Some(Spot::Drop) || std::thread::panicking(),
            "the drop of a handler"
        );
    }
}

impl Handler for Mine {
    type Message = Charge;

    fn class(&self) -> Class {
        assert!(self.spot != Some(Spot::Class), "class");
        Class::Normal
    }

    fn name_index(&self) -> usize {
        self.asked.set(self.asked.get() + 1);
        let at = match self.spot {
            Some(Spot::NameAtOpen) => 1,
            Some(Spot::NameAtData) => 2,
            Some(Spot::NameAtClose) => 4,
            _ => u32::MAX,
        };
        assert!(self.asked.get() != at, "name_index");
        0
    }

    fn on_open(&mut self, cx: &mut Ctx<'_, Self>) -> Verdict {
        if self.spot == Some(Spot::MessageDrop) {
            let dead = self.dead.get().expect("a session came before");
            assert!(cx.send(dead, Charge(true)).is_ok());
        } else {
            self.dead.set(Some(cx.this()));
        }
        Verdict::Continue
    }

    fn on_data(&mut self, cx: &mut Ctx<'_, Self>, input: &mut Input<'_>) -> Verdict {
        let _ = cx.write(input.take_all());
        Verdict::Continue
    }
}

#[test]
fn a_panic_anywhere_in_a_users_code_costs_its_session_alone() {
    // Goal: the loop outlives a panic in every method that it calls besides the callbacks, and in every `Drop`. Method: a
    // session with a panic in each, after a quiet one that is gone and beside one that is not.
    let spots = [
        Spot::Class,
        Spot::NameAtOpen,
        Spot::NameAtData,
        Spot::NameAtClose,
        Spot::Drop,
        Spot::MessageDrop,
    ];
    for spot in spots {
        let world = World::new(4);
        let dead = Rc::new(Cell::new(None));
        let mut opened = 0;
        let mut sim = server(&world, 1, &Tuning::default(), move |_| {
            let dead = Rc::clone(&dead);
            move |_: Accepted| {
                opened += 1;
                Mine {
                    spot: (opened == 3).then_some(spot),
                    asked: Cell::new(0),
                    dead: Rc::clone(&dead),
                }
            }
        });
        let beside = world.connect(sim.listeners());
        sim.settle();
        drop(world.connect(sim.listeners()));
        sim.settle();
        let client = world.connect(sim.listeners());
        client.send(b"?");
        client.finish();
        quietly(|| sim.settle());
        let panics = sim.sum(|numbers| numbers.handler_panics.value());
        assert_eq!(panics, 1, "{spot:?}");
        assert_eq!(beside.send(b"still there?"), 12);
        assert_eq!(drain_client(&mut sim, &beside), b"still there?", "{spot:?}");
        drop((beside, client));
        assert_at_rest(&mut sim, &world);
    }
}

/// Asks for one backend and, from a timer, at once for another.
struct Hasty {
    dead: PeerAddr,
    live: PeerAddr,
    log: Rc<std::cell::RefCell<Vec<&'static str>>>,
}

impl Handler for Hasty {
    type Message = ();

    fn on_open(&mut self, cx: &mut Ctx<'_, Self>) -> Verdict {
        assert!(cx.connect(self.dead));
        Verdict::Continue
    }

    fn on_data(&mut self, cx: &mut Ctx<'_, Self>, input: &mut Input<'_>) -> Verdict {
        input.take_all();
        let asked = cx.connect(self.live);
        self.log
            .borrow_mut()
            .push(if asked { "asked" } else { "not yet" });
        Verdict::Continue
    }

    fn on_connected(&mut self, _: &mut Ctx<'_, Self>) -> Verdict {
        self.log.borrow_mut().push("connected");
        Verdict::Continue
    }

    fn on_connect_failed(&mut self, cx: &mut Ctx<'_, Self>, _: std::io::Error) -> Verdict {
        self.log.borrow_mut().push("failed");
        assert!(cx.connect(self.live), "now there is no back side");
        Verdict::Continue
    }
}

#[test]
fn a_failure_is_told_before_another_connection_may_be_asked_for() {
    // Goal: `on_connect_failed` is about the connection that failed. Method: the first attempt fails at once and is told a
    // turn later; the client's byte asks for a second connection in between.
    let world = World::new(5);
    let mut back = server(&world, 1, &Tuning::default(), |_| |_: Accepted| Echo);
    let (dead, live) = (address(4999), address(back.listeners()[0]));
    let log = Rc::new(std::cell::RefCell::new(Vec::new()));
    let shared = Rc::clone(&log);
    let mut front = server(&world, 1, &Tuning::default(), move |_| {
        let log = Rc::clone(&shared);
        move |_: Accepted| Hasty {
            dead,
            live,
            log: Rc::clone(&log),
        }
    });
    let clients: Vec<Client> = (0..8).map(|_| world.connect(front.listeners())).collect();
    for client in &clients {
        client.send(b"!");
    }
    settle_both(&mut front, &mut back);
    let log = log.borrow();
    let count = |what| log.iter().filter(|&&said| said == what).count();
    assert_eq!((count("failed"), count("connected")), (8, 8), "{log:?}");
    assert_eq!(count("asked"), 0, "{log:?}");
    assert!(count("not yet") > 0, "nobody asked in between: {log:?}");
    drop(clients);
    settle_both(&mut front, &mut back);
    assert_at_rest(&mut front, &world);
    assert_at_rest(&mut back, &world);
}

/// Passes on the first of its client's words, and leaves the rest; passes on all that comes back, and the FIN.
struct Hoarder {
    to: PeerAddr,
    has_passed: bool,
    finished: u32,
}

impl Handler for Hoarder {
    type Message = ();

    fn on_open(&mut self, cx: &mut Ctx<'_, Self>) -> Verdict {
        assert!(cx.connect(self.to));
        Verdict::Continue
    }

    fn on_data(&mut self, cx: &mut Ctx<'_, Self>, input: &mut Input<'_>) -> Verdict {
        let to = cx.side().other();
        if cx.side() == Side::Back || !std::mem::replace(&mut self.has_passed, true) {
            let _ = cx.write_to(to, input.take_all());
        }
        Verdict::Continue
    }

    fn on_finished(&mut self, cx: &mut Ctx<'_, Self>) -> Verdict {
        let to = cx.side().other();
        cx.finish(to);
        self.finished += 1;
        if self.finished == 2 {
            Verdict::Drain
        } else {
            Verdict::Continue
        }
    }
}

#[test]
fn a_relay_that_is_cut_says_so_to_its_client() {
    // Goal: who cuts a session of two sockets does not let half an answer pass for a whole one. Method: a client that got half,
    // and one that got all and a FIN; then stop, the drain's deadline, an eviction, a client that sends more than is taken.
    for way in ["stop", "drain", "evict", "overflow"] {
        for (order, is_reset) in [(b's', true), (b'f', false)] {
            let world = World::new(9);
            let mut back = server(&world, 1, &Tuning::default(), |_| |_: Accepted| Speaker);
            let to = address(back.listeners()[0]);
            let capacities = polyloop::Capacities {
                connections_max: 1,
                ..polyloop::Capacities::default()
            };
            let tuning = Tuning {
                read_bytes_max: 4096,
                ..Tuning::default()
            };
            let mut front = polyloop_sim::Sim::new(
                &world,
                1,
                &tuning,
                capacities,
                polyloop::WhenFull::EvictIdle,
                move |_| {
                    move |_: Accepted| Hoarder {
                        to,
                        has_passed: false,
                        finished: 0,
                    }
                },
                |_| polyloop::Choice::Stay,
            );
            let client = world.connect(front.listeners());
            client.send(&[order]);
            settle_both(&mut front, &mut back);
            assert_eq!(client.receive(1000), [b'x'; 100]);
            let late = match way {
                "stop" => {
                    front.console().stop();
                    None
                }
                "drain" => {
                    front.console().drain(world.now_ns());
                    None
                }
                "evict" => {
                    front.advance(Duration::from_secs(2));
                    Some(world.connect(front.listeners()))
                }
                _ => {
                    // Exactly what one buffer holds, so that nothing is left unread, which alone would be a reset; and an end
                    // that there is no room to look for.
                    for _ in 0..2 {
                        client.send(&[0; 2048]);
                        front.settle();
                    }
                    client.finish();
                    None
                }
            };
            settle_both(&mut front, &mut back);
            assert_eq!(
                front.sum(|numbers| numbers.live.value()),
                u64::from(late.is_some())
            );
            assert_eq!(
                client.was_reset(),
                is_reset,
                "{way} after {}",
                char::from(order)
            );
            assert_eq!(client.is_at_end(), !is_reset);
            drop((client, late));
            settle_both(&mut front, &mut back);
            assert_at_rest(&mut front, &world);
            assert_at_rest(&mut back, &world);
        }
    }
}

/// Leaves what it is given and stops reading.
struct Sleeper;

impl Handler for Sleeper {
    type Message = ();

    fn on_data(&mut self, _: &mut Ctx<'_, Self>, _: &mut Input<'_>) -> Verdict {
        Verdict::Pause
    }
}

#[test]
fn a_reset_behind_data_is_noticed_in_a_pause() {
    // Goal: a session whose peer is gone gives its permit back although its handler does not read. Method: data and a reset in
    // one event; the handler pauses at the data.
    let world = World::new(10);
    let mut sim = server(&world, 1, &Tuning::default(), |_| |_: Accepted| Sleeper);
    let client = world.connect(sim.listeners());
    sim.settle();
    client.send(b"words");
    client.break_off();
    sim.settle();
    assert_eq!(sim.sum(|numbers| numbers.live.value()), 0);
    assert_eq!(sim.console().permits().in_use(), 0);
    drop(client);
    assert_at_rest(&mut sim, &world);
}

/// The way to a session.
type Itself = (polyloop::Mailer<()>, ConnRef);

/// Sends itself a message when it ends.
struct Echoing {
    mailer: Rc<std::cell::RefCell<Option<Itself>>>,
}

impl Handler for Echoing {
    type Message = ();

    fn on_open(&mut self, cx: &mut Ctx<'_, Self>) -> Verdict {
        *self.mailer.borrow_mut() = Some((cx.mailer(), cx.this()));
        Verdict::Continue
    }

    fn on_data(&mut self, _: &mut Ctx<'_, Self>, _: &mut Input<'_>) -> Verdict {
        Verdict::Continue
    }

    fn on_close(&mut self, _: CloseReason) {
        let mailer = self.mailer.borrow();
        let (mailer, to) = mailer.as_ref().expect("it has opened");
        assert!(mailer.send(*to, ()).is_ok());
    }
}

#[test]
fn a_loop_that_has_ended_takes_nothing_more() {
    // Goal: between the order to stop and the last turn's end nothing is taken that would never be given back. Method: a message
    // that is sent while everything closes; it lies in the inbox, and is not looked at.
    let world = World::new(11);
    let mailer = Rc::default();
    let shared = Rc::clone(&mailer);
    let mut sim = server(&world, 1, &Tuning::default(), move |_| {
        let mailer = Rc::clone(&shared);
        move |_: Accepted| Echoing {
            mailer: Rc::clone(&mailer),
        }
    });
    let client = world.connect(sim.listeners());
    sim.settle();
    sim.console().stop();
    sim.settle();
    assert_eq!(sim.ends()[0].map(|end| end.cut), Some(1));
    assert_eq!(sim.sum(|numbers| numbers.messages_stale.value()), 0);
    drop(client);
    assert_at_rest(&mut sim, &world);
}

/// Asks for one backend, is refused, and gives it up for another before it is told.
struct Fickle {
    dead: PeerAddr,
    live: PeerAddr,
    log: Rc<std::cell::RefCell<Vec<&'static str>>>,
}

impl Handler for Fickle {
    type Message = ();

    fn on_data(&mut self, _: &mut Ctx<'_, Self>, input: &mut Input<'_>) -> Verdict {
        input.take_all();
        Verdict::Continue
    }

    fn on_open(&mut self, cx: &mut Ctx<'_, Self>) -> Verdict {
        assert!(cx.connect(self.dead));
        assert!(cx.send(cx.this(), ()).is_ok());
        Verdict::Continue
    }

    fn on_message(&mut self, cx: &mut Ctx<'_, Self>, (): ()) -> Verdict {
        if cx.room(Side::Back) == Room::Gone {
            // It has failed: messages of a turn come before the news of failures.
            assert!(!cx.connect(self.live), "the failure is still to be told");
            cx.disconnect();
            assert!(cx.connect(self.live));
        } else {
            assert!(cx.send(cx.this(), ()).is_ok());
        }
        Verdict::Continue
    }

    fn on_connected(&mut self, _: &mut Ctx<'_, Self>) -> Verdict {
        self.log.borrow_mut().push("connected");
        Verdict::Continue
    }

    fn on_connect_failed(&mut self, _: &mut Ctx<'_, Self>, _: std::io::Error) -> Verdict {
        self.log.borrow_mut().push("failed");
        Verdict::Close
    }
}

#[test]
fn a_failure_of_a_connection_that_was_given_up_is_not_told() {
    // Goal: after `disconnect` nothing comes of the connection that was given up, and another may be asked for. Method: a
    // connection that is refused; a message in each turn, one of which comes between that and its news.
    let world = World::new(12);
    let mut back = server(&world, 1, &Tuning::default(), |_| |_: Accepted| Echo);
    let (dead, live) = (address(4999), address(back.listeners()[0]));
    let log = Rc::new(std::cell::RefCell::new(Vec::new()));
    let shared = Rc::clone(&log);
    let mut front = server(&world, 1, &Tuning::default(), move |_| {
        let log = Rc::clone(&shared);
        move |_: Accepted| Fickle {
            dead,
            live,
            log: Rc::clone(&log),
        }
    });
    let client = world.connect(front.listeners());
    settle_both(&mut front, &mut back);
    assert_eq!(*log.borrow(), ["connected"]);
    drop(client);
    settle_both(&mut front, &mut back);
    assert_at_rest(&mut front, &world);
    assert_at_rest(&mut back, &world);
}
