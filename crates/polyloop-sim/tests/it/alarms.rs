//! Alarms: exact, in order, and only for those who are there.

use crate::{assert_at_rest, server};
use polyloop::{Accepted, Ctx, Factory, Handler, Input, Tuning, Verdict};
use polyloop_sim::World;
use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

type Rung = Rc<RefCell<Vec<(u64, u64)>>>;

/// Sets an alarm for every 100,001 nanoseconds, the next when one rings; and ends after so many.
struct Pacer {
    left: usize,
    rung: Rung,
}

const EVERY_NS: u64 = 100_001;

impl Handler for Pacer {
    type Message = ();

    fn on_open(&mut self, cx: &mut Ctx<'_, Self>) -> Verdict {
        assert!(cx.set_alarm(cx.now_ns() + EVERY_NS));
        // The last of them rings when the session is gone.
        assert!(cx.set_alarm(cx.now_ns() + 1_000 * EVERY_NS));
        Verdict::Continue
    }

    fn on_alarm(&mut self, cx: &mut Ctx<'_, Self>, at_ns: u64) -> Verdict {
        self.rung.borrow_mut().push((at_ns, cx.now_ns()));
        self.left -= 1;
        if self.left == 0 {
            return Verdict::Close;
        }
        assert!(cx.set_alarm(at_ns + EVERY_NS));
        Verdict::Continue
    }

    fn on_data(&mut self, _: &mut Ctx<'_, Self>, _: &mut Input<'_>) -> Verdict {
        Verdict::Continue
    }
}

struct Pacers(Vec<Pacer>);

impl Factory for Pacers {
    type Handler = Pacer;

    fn make(&mut self, _: Accepted) -> Pacer {
        unreachable!("nobody connects")
    }

    fn residents(&mut self, _: usize) -> Vec<Pacer> {
        std::mem::take(&mut self.0)
    }
}

fn run(tuning: &Tuning) -> Vec<(u64, u64)> {
    let world = World::new(1);
    let rung = Rung::default();
    let mut sim = server(&world, 1, tuning, |_| {
        Pacers(vec![Pacer {
            left: 500,
            rung: Rc::clone(&rung),
        }])
    });
    sim.advance(Duration::from_secs(1));
    sim.console().stop();
    sim.settle();
    assert_at_rest(&mut sim, &world);
    rung.take()
}

#[test]
fn alarms_ring_at_their_nanosecond() {
    // Goal: where nothing else is to be done, an alarm rings exactly when it was set for, not at the next millisecond, and one
    // of a session that is gone rings for nobody. Method: 500 of them, each set by the one before.
    let rung = run(&Tuning::default());
    assert_eq!(rung.len(), 500);
    for (nth, (at_ns, now_ns)) in rung.iter().enumerate() {
        assert_eq!(at_ns, now_ns);
        assert_eq!(at_ns - rung[0].0, nth as u64 * EVERY_NS);
    }
}

#[test]
fn a_loop_that_is_up_early_waits_for_the_alarm() {
    // Goal: with a spin before them alarms ring as exactly, and not before. Method: the same.
    let tuning = Tuning {
        alarm_spin: Duration::from_micros(50),
        ..Tuning::default()
    };
    assert_eq!(run(&tuning), run(&Tuning::default()));
}

/// Answers what it hears a little later.
struct Late(Vec<u8>);

impl Handler for Late {
    type Message = ();

    fn on_data(&mut self, cx: &mut Ctx<'_, Self>, input: &mut Input<'_>) -> Verdict {
        self.0 = input.take_all().to_vec();
        assert!(cx.set_alarm(cx.now_ns() + EVERY_NS));
        Verdict::Continue
    }

    fn on_alarm(&mut self, cx: &mut Ctx<'_, Self>, _: u64) -> Verdict {
        let _ = cx.write(&self.0);
        Verdict::Continue
    }
}

#[test]
fn what_an_alarm_writes_goes_to_the_client() {
    // Goal: an alarm is about the session's own side, as a timer is, and what it writes leaves. Method: an echo that is late.
    let world = World::new(1);
    let mut sim = server(&world, 1, &Tuning::default(), |_| {
        |_: Accepted| Late(Vec::new())
    });
    let client = world.connect(sim.listeners());
    client.send(b"late");
    sim.settle();
    assert_eq!(client.receive(64), b"");
    sim.advance(Duration::from_nanos(EVERY_NS));
    assert_eq!(client.receive(64), b"late");
}
