//! Alarms by the kernel's clock, on loops without listeners.

use crate::harness::{alone, eventually_is};
use polyloop::{
    Accepted, Ctx, Factory, Handler, Input, Server, ServerSettings, StartError, Tuning, Verdict,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Alarms 0.3 ms apart, so that whole milliseconds would be late for two of three.
const EVERY_NS: u64 = 300_000;

#[derive(Default)]
struct Seen {
    rung: AtomicU64,
    early: AtomicU64,
    within_a_millisecond: AtomicU64,
}

struct Pacer(Arc<Seen>);

impl Handler for Pacer {
    type Message = ();

    fn on_open(&mut self, cx: &mut Ctx<'_, Self>) -> Verdict {
        assert!(cx.set_alarm(cx.now_ns() + EVERY_NS));
        Verdict::Continue
    }

    fn on_alarm(&mut self, cx: &mut Ctx<'_, Self>, at_ns: u64) -> Verdict {
        let late_ns = cx.now_ns().checked_sub(at_ns);
        self.0.rung.fetch_add(1, Relaxed);
        self.0
            .early
            .fetch_add(u64::from(late_ns.is_none()), Relaxed);
        let is_exact = late_ns.is_some_and(|late_ns| late_ns < 1_000_000 - EVERY_NS);
        self.0
            .within_a_millisecond
            .fetch_add(u64::from(is_exact), Relaxed);
        if self.0.rung.load(Relaxed) < RINGS {
            assert!(cx.set_alarm(cx.now_ns() + EVERY_NS));
        }
        Verdict::Continue
    }

    fn on_data(&mut self, _: &mut Ctx<'_, Self>, _: &mut Input<'_>) -> Verdict {
        Verdict::Continue
    }
}

const RINGS: u64 = 300;

struct Pacers(Arc<Seen>);

impl Factory for Pacers {
    type Handler = Pacer;

    fn make(&mut self, _: Accepted) -> Pacer {
        Pacer(Arc::clone(&self.0))
    }

    fn residents(&mut self, _: usize) -> Vec<Pacer> {
        vec![Pacer(Arc::clone(&self.0))]
    }
}

#[test]
fn alarms_ring_between_the_milliseconds() {
    // Goal: a loop that sleeps wakes for an alarm, never before it, and mostly not a millisecond later, which is what the poll's
    // own timeout would do; and a server of residents alone starts, rests and ends. Method: 300 alarms one after another, with
    // and without a spin; a busy machine may make some late, not half of them.
    let _alone = alone();
    for spin_us in [0, 100] {
        let seen = Arc::new(Seen::default());
        let shared = Arc::clone(&seen);
        let settings = ServerSettings {
            tuning: Tuning {
                alarm_spin: Duration::from_micros(spin_us),
                ..Tuning::default()
            },
            ..ServerSettings::default()
        };
        let running = Server::with_factories(move |info: polyloop::LoopInfo| {
            let rings = if info.index == 0 {
                Arc::clone(&shared)
            } else {
                Arc::new(Seen {
                    rung: AtomicU64::new(RINGS),
                    ..Seen::default()
                })
            };
            Pacers(rings)
        })
        .settings(settings)
        .without_listeners()
        .start()
        .unwrap();
        eventually_is("all alarms rang", &RINGS, || seen.rung.load(Relaxed));
        assert_eq!(seen.early.load(Relaxed), 0);
        let exact = seen.within_a_millisecond.load(Relaxed);
        assert!(exact > RINGS / 2, "{exact} of {RINGS}");
        running.stop();
        assert_eq!(running.join().cut, 0);
    }
}

#[test]
fn loops_with_tables_of_their_own_are_told_of_orders() {
    // Goal: wakers work across tables, and nothing of a loop's own table is left in the process's. Method: residents ring and
    // rest, the loops are told to stop, descriptors are counted before and after (a poll for each loop stays behind in the
    // process's table, as documented); and a listener is refused.
    let _alone = alone();
    let before = polyloop_sys::descriptors::count_open().unwrap();
    let seen = Arc::new(Seen::default());
    let shared = Arc::clone(&seen);
    let settings = || ServerSettings {
        tables: polyloop::DescriptorTables::Private,
        ..ServerSettings::default()
    };
    let running = Server::with_factories(move |_| Pacers(Arc::clone(&shared)))
        .settings(settings())
        .without_listeners()
        .start()
        .unwrap();
    let loops = running.status().boards.len() as u64;
    eventually_is("alarms rang", &true, || seen.rung.load(Relaxed) >= RINGS);
    running.stop();
    assert_eq!(running.join().cut, 0);
    drop(seen);
    let after = polyloop_sys::descriptors::count_open().unwrap();
    assert!(after <= before + loops, "{before} before, {after} after");

    let listening = Server::with_factories(|_| Pacers(Arc::default()))
        .settings(settings())
        .listen("127.0.0.1:0")
        .unwrap()
        .start();
    assert!(matches!(listening, Err(StartError::TablesPrivate)));
}

#[test]
fn without_listeners_has_to_be_said() {
    // Goal: a server that listens to nobody by mistake does not start.
    let _alone = alone();
    let started = Server::with_factories(|_| Pacers(Arc::default())).start();
    assert!(matches!(started, Err(StartError::NoListener)));
}
