//! Who is read when: pauses, full outputs, input that is left, classes.

use crate::{assert_at_rest, drain_client, pattern, server};
use polyloop::{Accepted, Class, Ctx, Handler, Input, Room, Side, TimerKey, Tuning, Verdict};
use polyloop_sim::{Client, World};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

const PAUSE: Duration = Duration::from_millis(10);

/// Echoes one line at a time, and lets others first after each.
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
}

#[test]
fn a_handler_that_yields_gets_the_rest_before_the_fin() {
    // Goal: a FIN does not overtake input that was left by a yield. Method: three lines and FIN at once.
    let world = World::new(1);
    let mut sim = server(&world, 1, &Tuning::default(), |_| |_: Accepted| Lines);
    let client = world.connect(sim.listeners());
    assert_eq!(client.send(b"one\ntwo\nthree\n"), 14);
    client.finish();
    let got = drain_client(&mut sim, &client);
    assert_eq!(String::from_utf8_lossy(&got), "one\ntwo\nthree\n");
    assert!(client.is_at_end());
    assert_at_rest(&mut sim, &world);
}

/// Echoes 10 bytes, then is paused for 10 ms.
struct Sipper;

impl Handler for Sipper {
    type Message = ();

    fn on_data(&mut self, cx: &mut Ctx<'_, Self>, input: &mut Input<'_>) -> Verdict {
        let _ = cx.write(input.take(10));
        assert!(cx.set_timer(PAUSE).is_some());
        Verdict::Pause
    }

    fn on_timer(&mut self, cx: &mut Ctx<'_, Self>, _: polyloop::TimerKey) -> Verdict {
        let side = cx.side();
        cx.resume(side);
        Verdict::Continue
    }
}

#[test]
fn a_handler_that_pauses_gets_the_rest_in_its_own_time() {
    // Goal: a pause stops the handler being called and loses nothing, nor does a FIN behind it. Method: 95 bytes, 10
    // every 10 ms, once without and once with FIN at once.
    for finishes_early in [false, true] {
        let world = World::new(2);
        let mut sim = server(&world, 1, &Tuning::default(), |_| |_: Accepted| Sipper);
        let client = world.connect(sim.listeners());
        assert_eq!(client.send(&pattern(95)), 95);
        if finishes_early {
            client.finish();
        }
        let mut got = Vec::new();
        for sip in 1..=10 {
            sim.settle();
            got.extend(client.receive(usize::MAX));
            assert_eq!(got.len(), 95.min(10 * sip), "FIN early: {finishes_early}");
            sim.advance(PAUSE);
        }
        assert_eq!(got, pattern(95));
        assert_eq!(client.is_at_end(), finishes_early);
        drop(client);
        assert_at_rest(&mut sim, &world);
    }
}

/// Answers each byte with 1,000, and takes no more while its output is full.
struct Amplifier;

impl Handler for Amplifier {
    type Message = ();

    fn on_data(&mut self, cx: &mut Ctx<'_, Self>, input: &mut Input<'_>) -> Verdict {
        while !input.is_empty() && cx.room(cx.side()) == Room::Open {
            let byte = input.take(1)[0];
            let _ = cx.write(&[byte; 1000]);
        }
        Verdict::Continue
    }
}

#[test]
fn input_that_was_left_for_a_full_output_comes_again_when_there_is_room() {
    // Goal: a handler that stops at `Room::Full` is called again with what it left, without new input. Method: 1,000
    // bytes that become a million, to a peer that reads little by little; FIN at the end, or at once.
    for finishes_early in [false, true] {
        let world = World::new(3);
        let mut sim = server(&world, 1, &Tuning::default(), |_| |_: Accepted| Amplifier);
        let client = world.connect(sim.listeners());
        assert_eq!(client.send(&pattern(1000)), 1000);
        if finishes_early {
            client.finish();
        }
        sim.settle();
        assert!(sim.sum(|numbers| numbers.kept_bytes.value()) <= 64 * 1024 + 2000);
        let got = drain_client(&mut sim, &client);
        assert_eq!(got.len(), 1_000_000, "FIN early: {finishes_early}");
        assert!(
            got.chunks(1000)
                .zip(pattern(1000))
                .all(|(chunk, byte)| chunk == [byte; 1000])
        );
        drop(client);
        assert_at_rest(&mut sim, &world);
    }
}

/// Speaks first, a million bytes, as fast as it is told that there is room.
struct Fountain {
    left: usize,
}

impl Fountain {
    fn pour(&mut self, cx: &mut Ctx<'_, Self>) -> Verdict {
        while self.left > 0 {
            self.left -= 1000;
            if cx.write(&[9; 1000]) == Room::Full {
                return Verdict::Continue;
            }
        }
        Verdict::Close
    }
}

impl Handler for Fountain {
    type Message = ();

    fn on_open(&mut self, cx: &mut Ctx<'_, Self>) -> Verdict {
        self.pour(cx)
    }

    fn on_data(&mut self, _: &mut Ctx<'_, Self>, input: &mut Input<'_>) -> Verdict {
        input.take_all();
        Verdict::Continue
    }

    fn on_writable(&mut self, cx: &mut Ctx<'_, Self>) -> Verdict {
        self.pour(cx)
    }
}

#[test]
fn a_handler_that_produces_by_itself_is_told_of_room() {
    // Goal: who was told `Full` is told of room, whether the kernel took everything at once or nothing. Method: a
    // million bytes to peers with windows of 1,000 bytes, 64 KiB, and more than all of it.
    for window in [1000, 65_536, 10_000_000] {
        let world = World::new(5);
        let mut sim = server(&world, 1, &Tuning::default(), |_| {
            |_: Accepted| Fountain { left: 1_000_000 }
        });
        let client = world.connect(sim.listeners());
        client.set_window(window);
        let got = drain_client(&mut sim, &client);
        assert_eq!(got.len(), 1_000_000, "window of {window} bytes");
        assert!(client.is_at_end());
        assert_at_rest(&mut sim, &world);
    }
}

/// Notes in which order sessions of several classes are served.
struct Classed {
    class: Class,
    log: Rc<RefCell<Vec<Class>>>,
}

impl Handler for Classed {
    type Message = ();

    fn class(&self) -> Class {
        self.class
    }

    fn on_data(&mut self, cx: &mut Ctx<'_, Self>, input: &mut Input<'_>) -> Verdict {
        self.log.borrow_mut().push(self.class);
        let _ = cx.write(input.take_all());
        Verdict::Continue
    }
}

#[test]
fn urgent_sessions_come_first_and_nobody_starves() {
    // Goal: within a turn classes are served by weight. Method: 100 sessions of each class, all with work in the same
    // turn; the order of service is compared with the weights.
    let world = World::new(4);
    let log: Rc<RefCell<Vec<Class>>> = Rc::default();
    let shared = Rc::clone(&log);
    let mut sim = server(&world, 1, &Tuning::default(), move |_| {
        let log = Rc::clone(&shared);
        let mut made = 0;
        move |_: Accepted| {
            made += 1;
            Classed {
                class: Class::ALL[made % 4],
                log: Rc::clone(&log),
            }
        }
    });
    let clients: Vec<Client> = (0..400).map(|_| world.connect(sim.listeners())).collect();
    sim.settle();
    for client in &clients {
        assert_eq!(client.send(b"x"), 1);
    }
    sim.settle();
    let log = log.borrow();
    assert_eq!(log.len(), 400);
    let place = |class: Class| {
        let places = log.iter().enumerate().filter(|(_, seen)| **seen == class);
        places.map(|(at, _)| at).sum::<usize>() / 100
    };
    let means: Vec<_> = Class::ALL.into_iter().map(place).collect();
    assert!(
        means.is_sorted(),
        "mean place of urgent, normal, bulk, heavy: {means:?}"
    );
    assert_ne!(means[0], means[3], "{means:?}");
    let first_heavy = log
        .iter()
        .position(|class| *class == Class::ALL[3])
        .unwrap();
    let last_urgent = log
        .iter()
        .rposition(|class| *class == Class::ALL[0])
        .unwrap();
    assert!(
        first_heavy < last_urgent,
        "even the heavy are served before all of the urgent"
    );
    drop(clients);
    assert_at_rest(&mut sim, &world);
}

/// Leaves its first input for a timer, with a verdict, and echoes from then on.
struct Leaver {
    verdict: Verdict,
    has_left: bool,
    batch_ends: Rc<Cell<u32>>,
}

impl Handler for Leaver {
    type Message = ();

    fn on_data(&mut self, cx: &mut Ctx<'_, Self>, input: &mut Input<'_>) -> Verdict {
        if !std::mem::replace(&mut self.has_left, true) {
            assert!(cx.set_timer(Duration::from_millis(5)).is_some());
            return self.verdict;
        }
        let _ = cx.write(input.take_all());
        Verdict::Continue
    }

    fn on_batch_end(&mut self, _: &mut Ctx<'_, Self>) -> Verdict {
        assert!(self.has_left, "the first batch did not end with `Continue`");
        self.batch_ends.set(self.batch_ends.get() + 1);
        Verdict::Continue
    }

    fn on_timer(&mut self, cx: &mut Ctx<'_, Self>, _: TimerKey) -> Verdict {
        cx.resume(Side::Front);
        Verdict::Continue
    }
}

#[test]
fn a_full_read_buffer_may_be_left_for_later() {
    // Goal: a handler that leaves as much as one read buffer holds gets it again before the bound of kept input closes the
    // session. Method: less than a buffer, exactly one, and more, left with `Pause` and with `Yield`.
    for verdict in [Verdict::Pause, Verdict::Yield] {
        for len in [4095, 4096, 8000] {
            let world = World::new(1);
            let tuning = Tuning {
                read_bytes_max: 4096,
                ..Tuning::default()
            };
            let batch_ends = Rc::new(Cell::new(0));
            let shared = Rc::clone(&batch_ends);
            let mut sim = server(&world, 1, &tuning, move |_| {
                let batch_ends = Rc::clone(&shared);
                move |_: Accepted| Leaver {
                    verdict,
                    has_left: false,
                    batch_ends: Rc::clone(&batch_ends),
                }
            });
            let client = world.connect(sim.listeners());
            assert_eq!(client.send(&pattern(len)), len);
            sim.settle();
            sim.advance(Duration::from_millis(20));
            assert!(
                drain_client(&mut sim, &client) == pattern(len),
                "{verdict:?} {len}"
            );
            assert!(batch_ends.get() > 0);
            drop(client);
            assert_at_rest(&mut sim, &world);
        }
    }
}
