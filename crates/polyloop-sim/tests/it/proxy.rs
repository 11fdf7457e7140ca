//! Sessions with two sockets: half-close in both orders, back-pressure across, connections that are never made.

use crate::{Echo, assert_at_rest, pattern, server};
use polyloop::{
    Accepted, CloseReason, Ctx, Factory, Handler, Input, PeerAddr, Room, Side, Tuning, Verdict,
};
use polyloop_sim::{Client, Sim, World};
use std::net::SocketAddr;
use std::time::Duration;

/// Passes bytes and FINs on, each direction by itself.
pub(crate) struct Relay {
    to: PeerAddr,
    finished: u32,
    splices: bool,
}

impl Relay {
    pub(crate) const fn new(to: PeerAddr) -> Self {
        Self {
            to,
            finished: 0,
            splices: false,
        }
    }

    /// One that splices both ways where it can, and copies where it cannot.
    pub(crate) const fn splicing(to: PeerAddr) -> Self {
        Self {
            splices: true,
            ..Self::new(to)
        }
    }
}

impl Handler for Relay {
    type Message = ();

    fn on_open(&mut self, cx: &mut Ctx<'_, Self>) -> Verdict {
        assert!(cx.connect(self.to));
        Verdict::Continue
    }

    fn on_connected(&mut self, cx: &mut Ctx<'_, Self>) -> Verdict {
        for side in Side::ALL {
            cx.splice(side, self.splices);
        }
        Verdict::Continue
    }

    fn on_data(&mut self, cx: &mut Ctx<'_, Self>, input: &mut Input<'_>) -> Verdict {
        let to = cx.side().other();
        let _ = cx.write_to(to, input.take_all());
        Verdict::Continue
    }

    fn on_spliced(&mut self, cx: &mut Ctx<'_, Self>, bytes: usize) -> Verdict {
        assert!(self.splices && bytes > 0);
        // Off for a while after an odd number, as a handler may that finds its traffic too small.
        let side = cx.side();
        cx.splice(side, bytes.is_multiple_of(2));
        cx.splice(side.other(), true);
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

/// Answers FIN with a few words: the half that finishes last has the last word.
struct Parting;

impl Handler for Parting {
    type Message = ();

    fn on_data(&mut self, _: &mut Ctx<'_, Self>, input: &mut Input<'_>) -> Verdict {
        input.take_all();
        Verdict::Continue
    }

    fn on_finished(&mut self, cx: &mut Ctx<'_, Self>) -> Verdict {
        let _ = cx.write(b"farewell");
        Verdict::Drain
    }
}

/// Says its words and finishes first.
struct Herald;

impl Handler for Herald {
    type Message = ();

    fn on_open(&mut self, cx: &mut Ctx<'_, Self>) -> Verdict {
        let _ = cx.write(b"hear ye");
        let side = cx.side();
        cx.finish(side);
        Verdict::Continue
    }

    fn on_data(&mut self, _: &mut Ctx<'_, Self>, input: &mut Input<'_>) -> Verdict {
        input.take_all();
        Verdict::Continue
    }
}

pub(crate) fn address(listener: u32) -> PeerAddr {
    PeerAddr::from(SocketAddr::from(([127, 0, 0, 1], listener as u16)))
}

fn relay(
    world: &World,
    to: PeerAddr,
    tuning: &Tuning,
) -> Sim<impl Factory<Handler = Relay> + use<>> {
    server(world, 1, tuning, move |_| move |_: Accepted| Relay::new(to))
}

/// Two servers in one world: each settles its own loops until neither has anything to do.
pub(crate) fn settle_both<A: Factory, B: Factory>(front: &mut Sim<A>, back: &mut Sim<B>) {
    while front.settle() + back.settle() > 0 {}
}

#[test]
fn the_client_finishes_first() {
    // Goal: FIN travels to the back, and the back's last words to the client. Method: a backend that speaks only after FIN.
    let world = World::new(1);
    let mut back = server(&world, 1, &Tuning::default(), |_| |_: Accepted| Parting);
    let mut front = relay(&world, address(back.listeners()[0]), &Tuning::default());
    let client = world.connect(front.listeners());
    assert_eq!(client.send(&pattern(1000)), 1000);
    client.finish();
    settle_both(&mut front, &mut back);
    assert_eq!(client.receive(usize::MAX), b"farewell");
    assert!(client.is_at_end() && !client.was_reset());
    assert_at_rest(&mut back, &world);
    assert_at_rest(&mut front, &world);
}

#[test]
fn the_backend_finishes_first() {
    // Goal: the backend's FIN travels to the client, who may go on speaking. Method: a backend that finishes at once.
    let world = World::new(2);
    let mut back = server(&world, 1, &Tuning::default(), |_| |_: Accepted| Herald);
    let mut front = relay(&world, address(back.listeners()[0]), &Tuning::default());
    let client = world.connect(front.listeners());
    settle_both(&mut front, &mut back);
    assert_eq!(client.receive(usize::MAX), b"hear ye");
    assert!(client.is_at_end() && !client.was_reset());
    for _ in 0..10 {
        assert_eq!(client.send(&pattern(5000)), 5000);
        settle_both(&mut front, &mut back);
    }
    assert_eq!(back.sum(|numbers| numbers.bytes_in.value()), 50_000);
    client.finish();
    settle_both(&mut front, &mut back);
    assert_at_rest(&mut back, &world);
    assert_at_rest(&mut front, &world);
}

#[test]
fn a_slow_client_stops_the_backend_and_not_the_memory() {
    // Goal: back-pressure crosses the session. Method: an echo behind the relay, a client that sends and does not read.
    let world = World::new(3);
    let tuning = Tuning {
        output_high_bytes: 8 * 1024,
        read_bytes_max: 4 * 1024,
        ..Tuning::default()
    };
    let mut back = server(&world, 1, &tuning, |_| |_: Accepted| Echo);
    let mut front = relay(&world, address(back.listeners()[0]), &tuning);
    let client = world.connect(front.listeners());
    client.set_window(500);
    let bytes = pattern(2_000_000);
    let mut sent = 0;
    loop {
        let count = client.send(&bytes[sent..]);
        settle_both(&mut front, &mut back);
        sent += count;
        let kept = front.sum(|numbers| numbers.kept_bytes.value());
        assert!(
            kept <= 2 * (8 + 4) * 1024,
            "{kept} bytes kept in two directions"
        );
        if count == 0 {
            break;
        }
    }
    assert!(sent < bytes.len());
    let mut got = Vec::new();
    while got.len() < bytes.len() {
        let before = got.len() + sent;
        sent += client.send(&bytes[sent..]);
        settle_both(&mut front, &mut back);
        got.extend(client.receive(usize::MAX));
        assert!(
            got.len() + sent > before,
            "stuck at {} of {sent}",
            got.len()
        );
    }
    assert!(got == bytes);
    drop(client);
    settle_both(&mut front, &mut back);
    assert_at_rest(&mut back, &world);
    assert_at_rest(&mut front, &world);
}

#[test]
fn a_reset_of_either_side_ends_the_session() {
    // Goal: a reset is no FIN: nothing waits for the other half. Method: the client resets; then, anew, the backend stops.
    let world = World::new(4);
    let mut back = server(&world, 1, &Tuning::default(), |_| |_: Accepted| Echo);
    let mut front = relay(&world, address(back.listeners()[0]), &Tuning::default());
    let clients: Vec<Client> = (0..2).map(|_| world.connect(front.listeners())).collect();
    settle_both(&mut front, &mut back);
    clients[0].reset();
    settle_both(&mut front, &mut back);
    assert_eq!(front.sum(|numbers| numbers.live.value()), 1);
    assert_eq!(back.sum(|numbers| numbers.live.value()), 1);
    assert_eq!(
        front.console().boards()[0].closes[CloseReason::PeerReset.index()].value(),
        1
    );
    back.console().stop();
    settle_both(&mut front, &mut back);
    assert!(clients[1].is_at_end() || clients[1].was_reset());
    drop(clients);
    settle_both(&mut front, &mut back);
    assert_at_rest(&mut front, &world);
}

#[test]
fn a_client_of_a_backend_that_never_answers_is_let_go() {
    // Goal: a connection that is never made holds nobody for ever. Method: a backend whose accept queue is never
    // answered (`World::silence`); the client leaves, or the idle deadline comes.
    for leaves in [true, false] {
        let world = World::new(5);
        let silent = world.listen();
        world.silence(silent.id());
        let mut front = relay(&world, address(silent.id()), &Tuning::default());
        let client = world.connect(front.listeners());
        assert_eq!(client.send(b"anybody there?"), 14);
        front.settle();
        assert_eq!(
            (world.owned(), front.sum(|numbers| numbers.live.value())),
            (2, 1)
        );
        if leaves {
            client.reset();
            front.settle();
        } else {
            front.advance(Duration::from_secs(602));
            assert!(client.is_at_end() || client.was_reset());
        }
        assert_at_rest(&mut front, &world);
    }
}

/// Speaks to its backend before there is one, and to its client once there is none.
struct Fallback {
    to: PeerAddr,
    greets_at_once: bool,
}

impl Handler for Fallback {
    type Message = ();

    fn on_open(&mut self, cx: &mut Ctx<'_, Self>) -> Verdict {
        assert_eq!(cx.write_to(Side::Back, b"nobody"), Room::Gone);
        assert!(cx.connect(self.to));
        if self.greets_at_once {
            assert_eq!(cx.write_to(Side::Back, &[1; 100]), Room::Full);
        } else {
            assert!(cx.send(cx.this(), ()).is_ok());
        }
        Verdict::Continue
    }

    fn on_message(&mut self, cx: &mut Ctx<'_, Self>, (): ()) -> Verdict {
        let _ = cx.write_to(Side::Back, &[1; 100]);
        Verdict::Continue
    }

    fn on_data(&mut self, cx: &mut Ctx<'_, Self>, input: &mut Input<'_>) -> Verdict {
        let _ = cx.write_to(Side::Front, input.take_all());
        Verdict::Continue
    }

    fn on_connect_failed(&mut self, _: &mut Ctx<'_, Self>, _: std::io::Error) -> Verdict {
        Verdict::Continue
    }
}

#[test]
fn what_is_written_before_the_backend_answers_holds_nobody_for_ever() {
    // Goal: output to a connection that is being made is kept, in the callback that asked for it as well; it holds the
    // client while it is full, and not once the attempt has failed. Method: a watermark of 64 bytes, 100 written; a backend
    // that echoes, and one that refuses.
    let tuning = Tuning {
        output_high_bytes: 64,
        ..Tuning::default()
    };
    for greets_at_once in [true, false] {
        let world = World::new(6);
        let mut back = server(&world, 1, &Tuning::default(), |_| |_: Accepted| Echo);
        for (to, answer) in [
            (address(back.listeners()[0]), &[1; 100][..]),
            (address(4999), b""),
        ] {
            let mut front = server(&world, 1, &tuning, move |_| {
                move |_: Accepted| Fallback { to, greets_at_once }
            });
            let client = world.connect(front.listeners());
            settle_both(&mut front, &mut back);
            assert_eq!(client.send(b"hello"), 5);
            settle_both(&mut front, &mut back);
            assert_eq!(client.receive(usize::MAX), [answer, b"hello"].concat());
            drop(client);
            settle_both(&mut front, &mut back);
            assert_at_rest(&mut front, &world);
        }
        assert_at_rest(&mut back, &world);
    }
}

#[test]
fn spliced_bytes_arrive_in_order_and_wait_in_a_pipe() {
    // Goal: what is spliced is every byte in order, a slow client holds the backend and no memory of ours, FIN comes last, and
    // without pipes bytes are copied. Method: a megabyte there and back through an echo, a client with a small window; pipes
    // for all, for one of several, for none.
    for pipes_max in [8, 1, 0] {
        let world = World::new(7);
        let tuning = Tuning {
            pipes_max,
            ..Tuning::default()
        };
        let mut back = server(&world, 1, &Tuning::default(), |_| |_: Accepted| Echo);
        let to = address(back.listeners()[0]);
        let mut front = server(&world, 1, &tuning, move |_| {
            move |_: Accepted| Relay::splicing(to)
        });
        let clients: Vec<Client> = (0..3).map(|_| world.connect(front.listeners())).collect();
        let bytes = pattern(1_000_001);
        let mut sent = [0; 3];
        let mut got = [const { Vec::new() }; 3];
        for client in &clients {
            client.set_window(5000);
        }
        while !clients.iter().all(Client::is_at_end) {
            for (at, client) in clients.iter().enumerate() {
                sent[at] += client.send(&bytes[sent[at]..]);
                if sent[at] == bytes.len() {
                    client.finish();
                }
            }
            settle_both(&mut front, &mut back);
            for (at, client) in clients.iter().enumerate() {
                got[at].extend(client.receive(usize::MAX));
                assert!(!client.was_reset());
            }
        }
        assert!(got.iter().all(|got| *got == bytes), "{pipes_max} pipes");
        let spliced = front.sum(|numbers| numbers.bytes_spliced.value());
        assert_eq!(spliced > 0, pipes_max > 0);
        assert_eq!(
            front.sum(|numbers| numbers.pipes_refused.value()) > 0,
            pipes_max < 8
        );
        assert!(world.pipes() <= pipes_max);
        drop(clients);
        settle_both(&mut front, &mut back);
        assert_at_rest(&mut back, &world);
        assert_at_rest(&mut front, &world);
        drop(front);
        assert_eq!(world.pipes(), 0);
    }
}

#[test]
fn a_pipe_that_holds_bytes_is_not_forgotten_by_a_reset() {
    // Goal: a session that ends while a pipe holds its bytes closes the pipe, and tells the client that this was not all. Method:
    // a client that does not read; then the backend resets.
    let world = World::new(8);
    let tuning = Tuning {
        pipes_max: 1,
        ..Tuning::default()
    };
    let mut back = server(&world, 1, &Tuning::default(), |_| |_: Accepted| Echo);
    let to = address(back.listeners()[0]);
    let mut front = server(&world, 1, &tuning, move |_| {
        move |_: Accepted| Relay::splicing(to)
    });
    let client = world.connect(front.listeners());
    client.set_window(10);
    settle_both(&mut front, &mut back);
    assert_eq!(client.send(&pattern(1000)), 1000);
    settle_both(&mut front, &mut back);
    assert_eq!(front.sum(|numbers| numbers.pipes.value()), 1);
    assert_eq!(front.sum(|numbers| numbers.kept_bytes.value()), 0);
    back.console().stop();
    settle_both(&mut front, &mut back);
    assert_eq!(client.receive(usize::MAX), pattern(1000)[..10]);
    client.reset();
    settle_both(&mut front, &mut back);
    assert_eq!(world.pipes(), 0);
    assert_at_rest(&mut front, &world);
}

/// Splices what its backend says, yields at each move, and gives the backend up when its client speaks.
struct Yielder {
    to: PeerAddr,
}

impl Handler for Yielder {
    type Message = ();

    fn on_open(&mut self, cx: &mut Ctx<'_, Self>) -> Verdict {
        assert!(cx.connect(self.to));
        let _ = cx.write_to(Side::Back, b"go");
        Verdict::Continue
    }

    fn on_connected(&mut self, cx: &mut Ctx<'_, Self>) -> Verdict {
        cx.splice(Side::Back, true);
        Verdict::Continue
    }

    fn on_data(&mut self, cx: &mut Ctx<'_, Self>, input: &mut Input<'_>) -> Verdict {
        input.take_all();
        if cx.side() == Side::Front {
            cx.disconnect();
        }
        Verdict::Continue
    }

    fn on_spliced(&mut self, _: &mut Ctx<'_, Self>, _: usize) -> Verdict {
        Verdict::Yield
    }
}

#[test]
fn to_yield_while_splicing_is_to_wait_for_more() {
    // Goal: a session that yields with nothing left does not keep its loop awake. Method: a handler that yields after a move; the
    // simulation fails a loop that turns without end.
    let world = World::new(9);
    let tuning = Tuning {
        pipes_max: 1,
        ..Tuning::default()
    };
    let mut back = server(&world, 1, &Tuning::default(), |_| |_: Accepted| Echo);
    let to = address(back.listeners()[0]);
    let mut front = server(&world, 1, &tuning, move |_| {
        move |_: Accepted| Yielder { to }
    });
    let client = world.connect(front.listeners());
    settle_both(&mut front, &mut back);
    assert_eq!(client.receive(100), b"go");
    assert_eq!(front.sum(|numbers| numbers.bytes_spliced.value()), 2);
    drop(client);
    settle_both(&mut front, &mut back);
    assert_at_rest(&mut front, &world);
    assert_at_rest(&mut back, &world);
}

#[test]
fn a_backend_that_is_given_up_takes_no_spliced_bytes_with_it() {
    // Goal: bytes that the handler was told of and the client never gets are the end of the session, with a reset. Method: a
    // client that takes one byte of two; the other one waits in a pipe when the handler disconnects.
    let world = World::new(10);
    let tuning = Tuning {
        pipes_max: 1,
        ..Tuning::default()
    };
    let mut back = server(&world, 1, &Tuning::default(), |_| |_: Accepted| Echo);
    let to = address(back.listeners()[0]);
    let mut front = server(&world, 1, &tuning, move |_| {
        move |_: Accepted| Yielder { to }
    });
    let client = world.connect(front.listeners());
    client.set_window(1);
    settle_both(&mut front, &mut back);
    assert_eq!(front.sum(|numbers| numbers.pipes.value()), 1);
    client.send(b"enough");
    settle_both(&mut front, &mut back);
    assert!(client.was_reset());
    let aborted = CloseReason::HandlerAborted.index();
    assert_eq!(front.console().boards()[0].closes[aborted].value(), 1);
    assert_eq!(world.pipes(), 0);
    drop(client);
    settle_both(&mut front, &mut back);
    assert_at_rest(&mut front, &world);
    assert_at_rest(&mut back, &world);
}

#[test]
fn clients_that_do_not_read_leave_pipes_to_those_that_do() {
    // Goal: peers that are stuck hold three quarters of the pipes at most; what they do not take beyond that is copied, and those
    // that keep up still splice. Method: ten clients that read nothing at four pipes, then one that reads.
    let world = World::new(11);
    let tuning = Tuning {
        pipes_max: 4,
        ..Tuning::default()
    };
    let mut back = server(&world, 1, &Tuning::default(), |_| |_: Accepted| Echo);
    let to = address(back.listeners()[0]);
    let mut front = server(&world, 1, &tuning, move |_| {
        move |_: Accepted| Relay::splicing(to)
    });
    let stuck: Vec<Client> = (0..10).map(|_| world.connect(front.listeners())).collect();
    settle_both(&mut front, &mut back);
    let bytes = pattern(1000);
    for client in &stuck {
        client.set_window(10);
        assert_eq!(client.send(&bytes), bytes.len());
        settle_both(&mut front, &mut back);
    }
    assert_eq!(world.pipes(), 4);
    assert!(front.sum(|numbers| numbers.pipes_refused.value()) > 0);
    let spliced = front.sum(|numbers| numbers.bytes_spliced.value());
    let quick = world.connect(front.listeners());
    settle_both(&mut front, &mut back);
    for _ in 0..10 {
        assert_eq!(quick.send(&bytes), bytes.len());
        settle_both(&mut front, &mut back);
        assert!(quick.receive(usize::MAX) == bytes);
    }
    let more = front.sum(|numbers| numbers.bytes_spliced.value()) - spliced;
    assert_eq!(more, 20 * bytes.len() as u64, "both ways, all of it");
    for client in &stuck {
        let mut got = Vec::new();
        while got.len() < bytes.len() {
            got.extend(client.receive(usize::MAX));
            settle_both(&mut front, &mut back);
        }
        assert!(got == bytes);
    }
    drop((quick, stuck));
    settle_both(&mut front, &mut back);
    assert_at_rest(&mut front, &world);
    assert_at_rest(&mut back, &world);
}
