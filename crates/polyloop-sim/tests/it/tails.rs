//! Slow readers: a deadline cuts nobody off who still takes what it is owed, and everybody who does not.

use crate::proxy::{Relay, address, settle_both};
use crate::{assert_at_rest, pattern, server};
use polyloop::{Accepted, CloseReason, Ctx, Factory, Handler, Input, Tuning, Verdict};
use polyloop_sim::{Client, Sim, World};
use std::time::Duration;

/// The deadline of these tests; their clients read a little less than once in it.
const DEADLINE: Duration = Duration::from_secs(30);

fn tuning() -> Tuning {
    Tuning {
        idle_timeout: Some(DEADLINE),
        linger_timeout: DEADLINE,
        pipes_max: 8,
        ..Tuning::default()
    }
}

/// Says so many bytes and finishes; what it hears it drops.
struct Teller(usize);

impl Handler for Teller {
    type Message = ();

    fn on_open(&mut self, cx: &mut Ctx<'_, Self>) -> Verdict {
        let _ = cx.write(&pattern(self.0));
        let side = cx.side();
        cx.finish(side);
        Verdict::Continue
    }

    fn on_data(&mut self, _: &mut Ctx<'_, Self>, input: &mut Input<'_>) -> Verdict {
        input.take_all();
        Verdict::Continue
    }
}

/// Says so many bytes and drains.
struct Leaver(usize);

impl Handler for Leaver {
    type Message = ();

    fn on_open(&mut self, cx: &mut Ctx<'_, Self>) -> Verdict {
        let _ = cx.write(&pattern(self.0));
        Verdict::Drain
    }

    fn on_data(&mut self, _: &mut Ctx<'_, Self>, _: &mut Input<'_>) -> Verdict {
        unreachable!("it has drained")
    }
}

/// A client with room for 3,000 bytes, of which the server hears when 2,000 are free.
fn slow_client(world: &World, listeners: &[u32]) -> Client {
    let client = world.connect(listeners);
    client.set_window(3000);
    client.set_edge_room(2000);
    client
}

/// Reads 50 bytes now and then, until so many have come.
fn read_slowly<F: Factory>(sim: &mut Sim<F>, client: &Client, bytes: usize) -> Vec<u8> {
    let mut got = Vec::new();
    while got.len() < bytes {
        sim.advance(DEADLINE - Duration::from_secs(1));
        let some = client.receive(50);
        assert!(
            !some.is_empty() && !client.was_reset(),
            "after {}",
            got.len()
        );
        got.extend(some);
    }
    got
}

fn closes<F: Factory>(sim: &Sim<F>, reason: CloseReason) -> u64 {
    sim.console().boards()[0].closes[reason.index()].value()
}

#[test]
fn a_slow_client_gets_all_of_an_answer_that_is_complete() {
    // Goal: a backend that has finished is no reason to cut its client off. Method: an answer that waits here, in a pipe or in
    // blocks, and in the kernel; a client that reads 50 bytes in a little less than each idle timeout, and is heard of after
    // 2,000. When it has read everything, and the FIN too, and says nothing, its time is over.
    for splices in [false, true] {
        for count in [2500, 10_000] {
            let world = World::new(1);
            let mut back = server(&world, 1, &Tuning::default(), move |_| {
                move |_: Accepted| Teller(count)
            });
            let to = address(back.listeners()[0]);
            let mut front = server(&world, 1, &tuning(), move |_| {
                move |_: Accepted| {
                    if splices {
                        Relay::splicing(to)
                    } else {
                        Relay::new(to)
                    }
                }
            });
            let client = slow_client(&world, front.listeners());
            settle_both(&mut front, &mut back);
            let got = read_slowly(&mut front, &client, count);
            assert!(got == pattern(count));
            assert!(client.is_at_end());
            front.advance(DEADLINE * 3);
            assert_eq!(closes(&front, CloseReason::IdleTimeout), 1);
            drop(client);
            settle_both(&mut front, &mut back);
            assert_at_rest(&mut front, &world);
            assert_at_rest(&mut back, &world);
        }
    }
}

#[test]
fn a_client_that_takes_nothing_for_a_whole_deadline_is_cut_off() {
    // Goal: the second chance is for those who use it. Method: a client that reads for a while, then no more; it is there one
    // deadline later, and gone after two, with a reset.
    let world = World::new(2);
    let mut sim = server(&world, 1, &tuning(), |_| |_: Accepted| Teller(10_000));
    let client = slow_client(&world, sim.listeners());
    sim.settle();
    read_slowly(&mut sim, &client, 1000);
    sim.advance(DEADLINE);
    assert_eq!(closes(&sim, CloseReason::IdleTimeout), 0);
    sim.advance(DEADLINE * 2);
    assert_eq!(closes(&sim, CloseReason::IdleTimeout), 1);
    assert!(client.was_reset());
    drop(client);
    assert_at_rest(&mut sim, &world);
}

#[test]
fn a_session_that_ends_waits_for_a_slow_reader_and_not_for_a_dead_one() {
    // Goal: the linger deadline is as patient as the idle one. Method: handlers that drain with more to say than fits; one
    // client reads slowly to the end, another one never: that one is cut at its first deadline, since what it was owed was known
    // when the session began to end.
    let world = World::new(3);
    let mut sim = server(&world, 1, &tuning(), |_| |_: Accepted| Leaver(10_000));
    let dead = slow_client(&world, sim.listeners());
    sim.advance(DEADLINE + Duration::from_millis(2));
    assert!(dead.was_reset());
    assert_eq!(closes(&sim, CloseReason::LingerTimeout), 1);
    let slow = slow_client(&world, sim.listeners());
    sim.settle();
    let got = read_slowly(&mut sim, &slow, 10_000);
    assert!(got == pattern(10_000) && slow.is_at_end());
    let cut = closes(&sim, CloseReason::LingerTimeout);
    slow.finish();
    sim.settle();
    assert_eq!(closes(&sim, CloseReason::LingerTimeout), cut);
    drop((slow, dead));
    assert_at_rest(&mut sim, &world);
}
