//! Bytes: whole, halves, resets, slow readers, budgets.

use crate::{Echo, assert_at_rest, drain_client, echo_server, pattern, server};
use polyloop::{Accepted, Choice, CloseReason, Ctx, Handler, Input, Spread, Tuning, Verdict};
use polyloop_core::spread::Chooser;
use polyloop_sim::{Sim, World};

#[test]
fn many_clients_on_many_loops_get_their_bytes() {
    // Goal: every way to spread echoes exactly. Method: 4 loops, 200 clients, each with bytes of its own.
    let choices: [fn(usize) -> Choice; 3] = [
        |_| Choice::Stay,
        |at| Choice::Correct {
            above_percent: 10,
            chooser: Chooser::new(Spread::Least, at, 4, at as u64),
        },
        |at| Choice::Spread(Chooser::new(Spread::TwoChoices, at, 4, at as u64)),
    ];
    for (nth, choice) in choices.into_iter().enumerate() {
        let world = World::new(nth as u64);
        let mut sim = Sim::new(
            &world,
            4,
            &Tuning::default(),
            polyloop::Capacities::default(),
            polyloop::WhenFull::Wait,
            |_| |_: Accepted| Echo,
            choice,
        );
        let listeners = sim.listeners().to_vec();
        let clients: Vec<_> = (0..200).map(|_| world.connect(&listeners)).collect();
        for (at, client) in clients.iter().enumerate() {
            assert_eq!(client.send(&pattern(at + 1)), at + 1);
        }
        for (at, client) in clients.iter().enumerate() {
            assert_eq!(drain_client(&mut sim, client), pattern(at + 1));
        }
        let handed = sim.sum(|numbers| numbers.handed_out.value());
        assert_eq!(handed, sim.sum(|numbers| numbers.adopted.value()));
        assert_eq!(handed > 0, nth > 0, "only the last two hand over");
        drop(clients);
        assert_at_rest(&mut sim, &world);
    }
}

#[test]
fn a_client_that_finishes_gets_every_byte_and_one_fin() {
    // Goal: half-close is no reset. Method: more than the windows hold, FIN at once, read slowly afterwards.
    let world = World::new(1);
    let mut sim = echo_server(&world, &Tuning::default());
    let client = world.connect(sim.listeners());
    let bytes = pattern(300_000);
    let (mut sent, mut got) = (0, Vec::new());
    while sent < bytes.len() {
        sent += client.send(&bytes[sent..]);
        sim.settle();
        got.extend(client.receive(10_000));
    }
    client.finish();
    got.extend(drain_client(&mut sim, &client));
    assert_eq!(got, bytes);
    assert!(client.is_at_end() && !client.was_reset());
    assert_eq!(
        sim.console().boards()[0].closes[CloseReason::PeerFinished.index()].value(),
        1
    );
    assert_at_rest(&mut sim, &world);
}

#[test]
fn a_slow_reader_is_bounded_and_goes_on() {
    // Goal: memory is bounded by the watermark and one read, and nothing is lost. Method: a peer that sends on and on
    // and does not read; then it reads everything.
    let world = World::new(2);
    let tuning = Tuning {
        output_high_bytes: 16 * 1024,
        read_bytes_max: 8 * 1024,
        ..Tuning::default()
    };
    let mut sim = echo_server(&world, &tuning);
    let client = world.connect(sim.listeners());
    client.set_window(1000);
    let bytes = pattern(1_000_000);
    let mut sent = 0;
    loop {
        let count = client.send(&bytes[sent..]);
        sim.settle();
        sent += count;
        let kept = sim.sum(|numbers| numbers.kept_bytes.value());
        assert!(kept <= 16 * 1024 + 8 * 1024, "{kept} bytes kept");
        if count == 0 {
            break;
        }
    }
    assert!(sent < bytes.len(), "the peer was stopped");
    assert_eq!(sim.sum(|numbers| numbers.reads_held.value()), 1);
    let mut got = drain_client(&mut sim, &client);
    while sent < bytes.len() {
        sent += client.send(&bytes[sent..]);
        got.extend(drain_client(&mut sim, &client));
    }
    assert!(
        got == bytes,
        "{} of {} bytes, in order",
        got.len(),
        bytes.len()
    );
    drop(client);
    assert_at_rest(&mut sim, &world);
}

#[test]
fn a_reset_frees_what_waited() {
    // Goal: a reset mid-write ends the session and nothing else. Method: output waits, then the peer resets.
    let world = World::new(3);
    let mut sim = echo_server(&world, &Tuning::default());
    let (client, other) = (
        world.connect(sim.listeners()),
        world.connect(sim.listeners()),
    );
    client.set_window(10);
    assert_eq!(client.send(&pattern(5000)), 5000);
    sim.settle();
    assert!(sim.sum(|numbers| numbers.kept_bytes.value()) > 0);
    client.reset();
    sim.settle();
    assert_eq!(sim.sum(|numbers| numbers.kept_bytes.value()), 0);
    assert_eq!(
        sim.console().boards()[0].closes[CloseReason::PeerReset.index()].value(),
        1
    );
    assert_eq!(other.send(b"still here"), 10);
    assert_eq!(drain_client(&mut sim, &other), b"still here");
    drop((client, other));
    assert_at_rest(&mut sim, &world);
}

#[test]
fn a_flood_gets_its_bytes_of_a_turn_and_no_more() {
    // Goal: one connection cannot hold the loop. Method: a small budget; the flood's connection uses it up turn by
    // turn, counted, and another is answered meanwhile.
    let world = World::new(4);
    let tuning = Tuning {
        read_bytes_max: 4096,
        ..Tuning::default()
    };
    let mut sim = echo_server(&world, &tuning);
    let (flood, other) = (
        world.connect(sim.listeners()),
        world.connect(sim.listeners()),
    );
    assert_eq!(flood.send(&pattern(40_960)), 40_960);
    assert_eq!(other.send(b"small"), 5);
    assert_eq!(drain_client(&mut sim, &other), b"small");
    assert_eq!(
        sim.sum(|numbers| numbers.budget_bytes.value()),
        10,
        "ten turns of 4096 bytes"
    );
    assert_eq!(drain_client(&mut sim, &flood), pattern(40_960));
    drop((flood, other));
    assert_at_rest(&mut sim, &world);
}

/// Takes one line at a time, and says when a batch has ended.
struct Lines;

impl Handler for Lines {
    type Message = ();

    fn on_data(&mut self, cx: &mut Ctx<'_, Self>, input: &mut Input<'_>) -> Verdict {
        match input.take_through(b'\n') {
            Some(line) => {
                let _ = cx.write(line);
                Verdict::Yield
            }
            None => Verdict::Continue,
        }
    }

    fn on_batch_end(&mut self, cx: &mut Ctx<'_, Self>) -> Verdict {
        let _ = cx.write(b".");
        Verdict::Continue
    }
}

#[test]
fn what_a_handler_leaves_comes_again() {
    // Goal: yield and retained input lose nothing. Method: three lines and a half in one piece, then the rest; a line
    // a turn, and the end of the batch told when there is no line left.
    let world = World::new(5);
    let mut sim = server(&world, 1, &Tuning::default(), |_| |_: Accepted| Lines);
    let client = world.connect(sim.listeners());
    assert_eq!(client.send(b"one\ntwo\nthree\nfo"), 16);
    assert_eq!(drain_client(&mut sim, &client), b"one\ntwo\nthree\n.");
    assert_eq!(client.send(b"ur\n"), 3);
    client.finish();
    assert_eq!(drain_client(&mut sim, &client), b"four\n");
    assert!(client.is_at_end());
    assert_at_rest(&mut sim, &world);
}
