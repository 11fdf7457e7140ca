//! Sessions that a loop makes for itself, and connections that a handler gives up.

use crate::proxy::{address, settle_both};
use crate::{Echo, assert_at_rest, server};
use polyloop::{
    Accepted, CloseReason, Ctx, Factory, Handler, Input, PeerAddr, Room, Side, TimerKey, Tuning,
    Verdict,
};
use polyloop_sim::World;
use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

type Log = Rc<RefCell<Vec<&'static str>>>;

/// Asks a backend for an echo again and again; or, for a connection, echoes.
enum Node {
    Checker { to: PeerAddr, log: Log },
    Served(Echo),
}

impl Handler for Node {
    type Message = ();

    fn on_open(&mut self, cx: &mut Ctx<'_, Self>) -> Verdict {
        if let Self::Checker { to, .. } = self {
            assert_eq!(cx.write_to(Side::Front, b"nobody"), Room::Gone);
            assert!(cx.connect(*to));
        }
        Verdict::Continue
    }

    fn on_connected(&mut self, cx: &mut Ctx<'_, Self>) -> Verdict {
        if let Self::Checker { log, .. } = self {
            log.borrow_mut().push("connected");
            let _ = cx.write(b"ping");
        }
        Verdict::Continue
    }

    fn on_data(&mut self, cx: &mut Ctx<'_, Self>, input: &mut Input<'_>) -> Verdict {
        match self {
            Self::Checker { log, .. } => {
                assert_eq!((cx.side(), input.take_all()), (Side::Back, &b"ping"[..]));
                log.borrow_mut().push("answered");
                cx.disconnect();
                assert!(cx.set_timer(Duration::from_secs(1)).is_some());
            }
            Self::Served(_) => {
                let _ = cx.write(input.take_all());
            }
        }
        Verdict::Continue
    }

    fn on_timer(&mut self, cx: &mut Ctx<'_, Self>, _: TimerKey) -> Verdict {
        if let Self::Checker { to, .. } = self {
            assert!(cx.connect(*to));
        }
        Verdict::Continue
    }

    fn on_connect_failed(&mut self, cx: &mut Ctx<'_, Self>, error: std::io::Error) -> Verdict {
        if let Self::Checker { log, .. } = self {
            let is_reset = error.kind() == std::io::ErrorKind::ConnectionReset;
            log.borrow_mut()
                .push(if is_reset { "reset" } else { "refused" });
            assert!(cx.set_timer(Duration::from_secs(1)).is_some());
        }
        Verdict::Continue
    }

    fn on_close(&mut self, reason: CloseReason) {
        if let Self::Checker { log, .. } = self {
            assert_eq!(reason, CloseReason::Stopped);
            log.borrow_mut().push("closed");
        }
    }
}

struct Site {
    checks: Vec<PeerAddr>,
    log: Log,
}

impl Factory for Site {
    type Handler = Node;

    fn make(&mut self, _: Accepted) -> Node {
        Node::Served(Echo)
    }

    fn residents(&mut self, loop_index: usize) -> Vec<Node> {
        assert_eq!(loop_index, 0);
        let log = &self.log;
        let checks = self.checks.drain(..);
        checks
            .map(|to| Node::Checker {
                to,
                log: Rc::clone(log),
            })
            .collect()
    }
}

fn site(world: &World, to: PeerAddr, log: &Log) -> polyloop_sim::Sim<Site> {
    server(world, 1, &Tuning::default(), |_| Site {
        checks: vec![to],
        log: Rc::clone(log),
    })
}

#[test]
fn a_resident_works_without_a_connection_and_does_not_hold_up_a_drain() {
    // Goal: a resident connects, disconnects and connects again by its timer; it is no live connection, takes no permit and
    // closes with the drain, not before the last client. Method: three checks of an echo, one client, a drain.
    let world = World::new(1);
    let log = Log::default();
    let mut back = server(&world, 1, &Tuning::default(), |_| |_: Accepted| Echo);
    let mut front = site(&world, address(back.listeners()[0]), &log);
    settle_both(&mut front, &mut back);
    for _ in 0..2 {
        front.advance(Duration::from_secs(1));
        settle_both(&mut front, &mut back);
    }
    assert_eq!(*log.borrow(), ["connected", "answered"].repeat(3));
    assert_eq!(world.owned(), 0, "it is between two checks");
    assert_eq!(front.sum(|numbers| numbers.live.value()), 0);
    assert_eq!(front.console().permits().in_use(), 0);
    let client = world.connect(front.listeners());
    front.settle();
    front.console().drain(world.now_ns() + 60_000_000_000);
    front.advance(Duration::from_secs(10));
    settle_both(&mut front, &mut back);
    assert!(front.ends()[0].is_none(), "the client is still there");
    client.finish();
    settle_both(&mut front, &mut back);
    assert_eq!(front.ends()[0].map(|end| end.cut), Some(0));
    assert_eq!(log.borrow().last(), Some(&"closed"));
    drop(client);
    settle_both(&mut front, &mut back);
    assert_at_rest(&mut front, &world);
    assert_at_rest(&mut back, &world);
}

#[test]
fn a_resident_outlives_its_connections() {
    // Goal: a refused connection and one that breaks are told, and the resident goes on. Method: nobody listens; then a backend
    // that answers nobody, and stops.
    let world = World::new(2);
    let log = Log::default();
    let mut alone = site(&world, address(4999), &log);
    alone.advance(Duration::from_secs(2));
    assert_eq!(*log.borrow(), ["refused"; 3]);
    alone.console().stop();
    alone.settle();
    assert_eq!(alone.ends()[0].map(|end| end.cut), Some(0));
    assert_at_rest(&mut alone, &world);

    log.borrow_mut().clear();
    struct Mute;
    impl Handler for Mute {
        type Message = ();
        fn on_data(&mut self, _: &mut Ctx<'_, Self>, _: &mut Input<'_>) -> Verdict {
            Verdict::Abort
        }
    }
    let mut back = server(&world, 1, &Tuning::default(), |_| |_: Accepted| Mute);
    let mut front = site(&world, address(back.listeners()[0]), &log);
    settle_both(&mut front, &mut back);
    front.advance(Duration::from_secs(1));
    settle_both(&mut front, &mut back);
    assert_eq!(*log.borrow(), ["connected", "reset"].repeat(2));
    front.console().stop();
    settle_both(&mut front, &mut back);
    assert_at_rest(&mut front, &world);
    assert_at_rest(&mut back, &world);
}

/// Gives a silent backend up after a while, and takes another at once.
struct Impatient {
    silent: PeerAddr,
    live: PeerAddr,
}

impl Handler for Impatient {
    type Message = ();

    fn on_open(&mut self, cx: &mut Ctx<'_, Self>) -> Verdict {
        assert!(cx.connect(self.silent));
        assert_eq!(cx.write_to(Side::Back, b"lost"), Room::Open);
        assert!(cx.set_timer(Duration::from_secs(5)).is_some());
        Verdict::Continue
    }

    fn on_data(&mut self, cx: &mut Ctx<'_, Self>, input: &mut Input<'_>) -> Verdict {
        let to = cx.side().other();
        let _ = cx.write_to(to, input.take_all());
        Verdict::Continue
    }

    fn on_timer(&mut self, cx: &mut Ctx<'_, Self>, _: TimerKey) -> Verdict {
        assert!(!cx.connect(self.live), "there is one under way");
        cx.disconnect();
        assert!(cx.connect(self.live));
        let _ = cx.write_to(Side::Back, b"hello");
        Verdict::Continue
    }

    fn on_connect_failed(&mut self, _: &mut Ctx<'_, Self>, _: std::io::Error) -> Verdict {
        panic!("nothing about the first attempt is told any more");
    }
}

#[test]
fn a_silent_backend_can_be_given_up_for_another() {
    // Goal: disconnect ends an attempt without a word, drops what was written to it, and a new one may begin in the same
    // callback. Method: a backend that never answers, a timer, and one that does.
    let world = World::new(3);
    let nobody = world.listen();
    world.silence(nobody.id());
    let mut back = server(&world, 1, &Tuning::default(), |_| |_: Accepted| Echo);
    let (silent, live) = (address(nobody.id()), address(back.listeners()[0]));
    let mut front = server(&world, 1, &Tuning::default(), move |_| {
        move |_: Accepted| Impatient { silent, live }
    });
    let client = world.connect(front.listeners());
    front.advance(Duration::from_secs(4));
    assert_eq!(world.owned(), 2);
    front.advance(Duration::from_secs(1));
    settle_both(&mut front, &mut back);
    assert_eq!(client.receive(usize::MAX), b"hello");
    assert_eq!(front.sum(|numbers| numbers.handler_panics.value()), 0);
    drop(client);
    settle_both(&mut front, &mut back);
    assert_at_rest(&mut front, &world);
    assert_at_rest(&mut back, &world);
}
