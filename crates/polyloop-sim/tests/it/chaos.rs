//! A handler that does everything a handler may do, whenever the seed says so, and watches that it is treated as promised.
//!
//! What it may not do is lose bytes: it echoes what it takes, and leaves input only where it asks for it again.

use crate::sweep::{Talker, finish, sweep, talk, untimely_ends};
use crate::{assert_at_rest, server};
use polyloop::{
    Accepted, Class, CloseReason, ConnRef, Ctx, Handler, Input, JobId, PoolId, TimerKey, Tuning,
    Verdict,
};
use polyloop_sim::{Faults, Random, World};
use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

/// What the handlers of a run know of each other, and what they have found wrong.
#[derive(Debug)]
struct Shared {
    random: Random,
    /// Off for the end of a run: then everybody only echoes.
    is_on: bool,
    members: Vec<ConnRef>,
    sent: u64,
    jobs: u64,
    wrongs: Vec<String>,
}

#[derive(Debug, PartialEq, Eq)]
enum Stage {
    Made,
    Open,
    Finished,
    Over,
}

struct Chaos {
    shared: Rc<RefCell<Shared>>,
    stage: Stage,
    is_paused: bool,
    timers: Vec<(TimerKey, u64)>,
}

impl Chaos {
    fn once_in(&self, bound: usize) -> bool {
        let mut shared = self.shared.borrow_mut();
        shared.is_on && shared.random.once_in(bound)
    }

    fn below(&self, bound: usize) -> usize {
        self.shared.borrow_mut().random.below(bound)
    }

    fn expect(&self, holds: bool, what: &str) {
        if !holds {
            // A panic would be caught, and taken for one of the handler's own.
            self.shared
                .borrow_mut()
                .wrongs
                .push(format!("{what} ({:?})", self.stage));
        }
    }

    /// Does something that has nothing to do with the callback.
    fn stir(&mut self, cx: &mut Ctx<'_, Self>) {
        self.expect(
            matches!(self.stage, Stage::Open | Stage::Finished),
            "called when not open",
        );
        if self.once_in(8) {
            let to = self.below(self.shared.borrow().members.len().max(1));
            let to = self.shared.borrow().members.get(to).copied();
            if to.is_some_and(|to| cx.send(to, 1).is_ok()) {
                self.shared.borrow_mut().sent += 1;
            }
        }
        if self.once_in(8) && cx.offload(PoolId::CPU, || 2).is_ok() {
            self.shared.borrow_mut().jobs += 1;
        }
        if self.once_in(8) && self.timers.len() < 8 {
            self.set_timer(cx);
        }
        if self.once_in(8) && self.timers.len() > 1 {
            let (timer, _) = self.timers.swap_remove(1);
            self.expect(
                cx.cancel_timer(timer),
                "a timer that was set is there to be cancelled",
            );
        }
        if self.once_in(8) {
            let at_ns = cx.now_ns() + self.below(100_000_000) as u64;
            // Refused only where everybody has set many.
            let _ = cx.set_alarm(at_ns);
        }
        if self.once_in(16) {
            cx.set_class(Class::ALL[self.below(4)]);
        }
        if self.once_in(400) {
            // As a panic does, but without a word on the terminal.
            std::panic::resume_unwind(Box::new("chaos"));
        }
    }

    fn set_timer(&mut self, cx: &mut Ctx<'_, Self>) {
        let after = Duration::from_micros(self.below(100_000) as u64);
        match cx.set_timer(after) {
            Some(timer) => self
                .timers
                .push((timer, cx.now_ns() + after.as_nanos() as u64)),
            None => self.expect(false, "there is room for a timer"),
        }
    }

    fn some_end(&mut self) -> Option<Verdict> {
        let verdict = [Verdict::Drain, Verdict::Close, Verdict::Abort][self.below(3)];
        self.once_in(100).then_some(verdict)
    }

    /// Stops being read until a timer; the first of its timers is the one that resumes.
    fn pause(&mut self, cx: &mut Ctx<'_, Self>) -> Verdict {
        self.is_paused = true;
        if self.timers.is_empty() {
            self.set_timer(cx);
        }
        Verdict::Pause
    }
}

impl Handler for Chaos {
    type Message = u32;

    fn on_open(&mut self, cx: &mut Ctx<'_, Self>) -> Verdict {
        self.expect(self.stage == Stage::Made, "opened once");
        self.stage = Stage::Open;
        self.shared.borrow_mut().members.push(cx.this());
        self.stir(cx);
        if self.once_in(4) {
            self.pause(cx)
        } else {
            Verdict::Continue
        }
    }

    fn on_data(&mut self, cx: &mut Ctx<'_, Self>, input: &mut Input<'_>) -> Verdict {
        self.expect(self.stage == Stage::Open, "data only while open");
        self.expect(!self.is_paused, "no data in a pause");
        self.expect(!input.is_empty(), "data has bytes");
        self.stir(cx);
        let leaves = self.once_in(4);
        let count = if leaves {
            self.below(input.len())
        } else {
            input.len()
        };
        let _ = cx.write(input.take(count));
        if let Some(end) = self.some_end() {
            return end;
        }
        match (leaves, self.once_in(4)) {
            (_, true) => self.pause(cx),
            (true, false) => Verdict::Yield,
            (false, false) => Verdict::Continue,
        }
    }

    fn on_finished(&mut self, cx: &mut Ctx<'_, Self>) -> Verdict {
        self.expect(self.stage == Stage::Open, "finished once, while open");
        self.expect(!self.is_paused, "no FIN in a pause");
        self.stage = Stage::Finished;
        self.stir(cx);
        if self.once_in(2) {
            self.set_timer(cx);
            return Verdict::Continue;
        }
        Verdict::Drain
    }

    fn on_alarm(&mut self, cx: &mut Ctx<'_, Self>, at_ns: u64) -> Verdict {
        self.expect(cx.now_ns() >= at_ns, "not before its time");
        self.stir(cx);
        self.some_end().unwrap_or(Verdict::Continue)
    }

    fn on_timer(&mut self, cx: &mut Ctx<'_, Self>, timer: TimerKey) -> Verdict {
        let known = self.timers.iter().position(|(known, _)| *known == timer);
        self.expect(
            known.is_some(),
            "only timers that are set and not cancelled fire",
        );
        if let Some(at) = known {
            let (_, due_ns) = self.timers.swap_remove(at);
            self.expect(cx.now_ns() >= due_ns, "not before its time");
        }
        self.stir(cx);
        if self.stage == Stage::Finished && self.timers.is_empty() {
            return Verdict::Drain;
        }
        if std::mem::take(&mut self.is_paused) {
            let side = cx.side();
            cx.resume(side);
        }
        self.some_end().unwrap_or(Verdict::Continue)
    }

    fn on_message(&mut self, cx: &mut Ctx<'_, Self>, message: u32) -> Verdict {
        self.expect(message == 1, "messages are messages");
        self.stir(cx);
        if self.stage == Stage::Open && self.once_in(8) {
            self.pause(cx)
        } else {
            Verdict::Continue
        }
    }

    fn on_offload(&mut self, cx: &mut Ctx<'_, Self>, _: JobId, result: Option<u32>) -> Verdict {
        self.expect(result == Some(2), "results are results");
        self.stir(cx);
        self.some_end().unwrap_or(Verdict::Continue)
    }

    fn on_close(&mut self, _: CloseReason) {
        self.expect(self.stage != Stage::Over, "closed once");
        self.stage = Stage::Over;
    }
}

/// One run; returns its trace.
fn run(seed: u64) -> u64 {
    let mut random = Random::new(seed ^ 0xc4a0_5000);
    let faults = Faults::draw(&mut random);
    let world = World::with_faults(random.next(), faults);
    if random.below(2) == 0 {
        world.keep_alive();
    }
    let tuning = Tuning {
        read_bytes_max: 4096 << random.below(4),
        output_high_bytes: 1024 << random.below(6),
        events_max: 1 + random.below(64),
        inbox_max: 1 + random.below(16),
        timers_max: 1 + random.below(16),
        ..Tuning::default()
    };
    let shared = Rc::new(RefCell::new(Shared {
        random: Random::new(random.next()),
        is_on: true,
        members: Vec::new(),
        sent: 0,
        jobs: 0,
        wrongs: Vec::new(),
    }));
    let given = Rc::clone(&shared);
    let mut sim = server(&world, 1 + random.below(3), &tuning, move |_| {
        let shared = Rc::clone(&given);
        move |_: Accepted| Chaos {
            shared: Rc::clone(&shared),
            stage: Stage::Made,
            is_paused: false,
            timers: Vec::new(),
        }
    });
    let listeners = sim.listeners().to_vec();
    let mut talkers: Vec<Talker> = Vec::new();
    for _ in 0..150 {
        match random.below(8) {
            0..=1 if talkers.len() < 16 => {
                talkers.push(Talker::new(&world, &listeners, &mut random))
            }
            2 if !talkers.is_empty() => drop(talkers.swap_remove(random.below(talkers.len()))),
            3..=4 => sim.advance(Duration::from_millis(random.below(200) as u64)),
            5..=6 => drop(sim.settle()),
            _ => {}
        }
        for talker in &mut talkers {
            talk(talker, &mut random);
        }
    }
    world.calm();
    shared.borrow_mut().is_on = false;
    let cut_short = finish(&mut talkers, || sim.advance(Duration::from_millis(101)));
    let reasons = untimely_ends(&sim);
    assert!(
        cut_short <= reasons,
        "{cut_short} ends came too early, {reasons} for a reason"
    );
    sim.advance(Duration::from_secs(100));
    assert_at_rest(&mut sim, &world);
    let shared = shared.borrow();
    assert!(shared.wrongs.is_empty(), "{:?}", shared.wrongs);
    let told = sim.sum(|numbers| numbers.messages.value() + numbers.messages_stale.value());
    assert_eq!(shared.sent, told, "each message is delivered or counted");
    let ended = sim.sum(|numbers| numbers.offload_done.value() + numbers.offload_stale.value());
    assert_eq!(shared.jobs, ended, "each job comes back or is counted");
    world.trace()
}

#[test]
fn whatever_a_handler_does_it_is_treated_as_promised() {
    // Goal: the contract of `Handler`, callback by callback, under every mixture of verdicts, timers, messages, jobs and
    // faults. Method: seeded runs of a handler that checks its own treatment; the oracles of the sweep after each.
    sweep("whatever_a_handler", run);
}
