//! One event loop: the Reactor's dispatcher.
//!
//! [`Dispatcher::turn`] is one turn, and lists its phases; each has a bound, and a counter that tells how often the
//! bound was hit. What a phase leaves over keeps the next poll from sleeping.
//!
//! ```text
//!          +-> poll -> control -> inbox -> timers -> ready -> accept -> flush -+
//!          |   sleeps only when nothing is left over                           |
//!          +-------------------------------------------------------------------+
//!
//!   event: poll says "readable" -> the leg's flags remember the edge -> run queue, by class
//!   ready: pop a session -> read into the loop's buffer -> on_data -> what it wrote goes out -> verdict
//! ```
//!
//! The edge is told once. It is noted in the leg's flags first and acted on later, at the loop's own pace: a session
//! that stops on purpose (budget, back-pressure, pause) keeps its unread edge there.
//!
//! Deliberately absent: system calls (the [`Driver`]), threads (the [`Server`](crate::Server)), and any decision
//! that can be made without a socket (`polyloop-core`).

mod accept;
mod callback;
mod close;
mod pressure;
mod ready;
pub(crate) mod session;
mod splice;
mod tail;
mod write;

use crate::alarms::Alarms;
use crate::blocks::Blocks;
use crate::control::{Control, LoopEnd};
use crate::driver::{Driver, Event, Ready};
use crate::handler::{Factory, Handler};
use crate::hub::{Hub, Mail, NS_PER_MS, TimerLists};
use crate::jobs::Finished;
use crate::outbox::Outbox;
use crate::telemetry::{Callback, LoopBoard, Phase};
use crate::token::{Side, Target};
use crate::tuning::Tuning;
use crate::wiring::{Handed, Post, Seat};
use accept::{Acceptor, AcceptorOf};
use polyloop_core::overload::Level;
use polyloop_core::runqueue::RunQueue;
use polyloop_core::slots::{INDEX_MAX, Key, Slots};
use polyloop_core::stride::Stride;
use polyloop_core::wheel::Wheel;
use pressure::Allowance;
use session::{LegFlags, Session, SessionFlags};
use splice::Pipes;
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tail::Deliveries;

pub use accept::{Choice, Gate, GateKind, Spreading};

/// The message type of a factory's handlers.
pub(crate) type MessageOf<F> = <<F as Factory>::Handler as Handler>::Message;

/// One loop. See the module's documentation.
pub struct Dispatcher<D: Driver, F: Factory> {
    driver: D,
    factory: F,
    tuning: Tuning,
    allowance: Allowance,
    board: Arc<LoopBoard>,
    sessions: Slots<Session<D::Stream, D::Pipe, F::Handler>>,
    /// Of which listeners the connections are kept alive.
    kept_alive: Arc<[bool]>,
    /// Sessions that the loop made for itself.
    residents: usize,
    pipes: Pipes<D::Pipe>,
    hub: Hub<F::Handler>,
    runqueue: RunQueue,
    events: Vec<Event>,
    read_buffer: Box<[u8]>,
    /// Sessions that wrote outside of the ready phase.
    flush_list: Vec<Key>,
    /// The list that the flush phase is working on; see there.
    flush_list_done: Vec<Key>,
    /// Connections that could not even be started; told in the next turn.
    connect_failures: VecDeque<(Key, io::Error)>,
    deliveries: Deliveries,
    acceptor: AcceptorOf<D, F>,
    post: Post<D, MessageOf<F>>,
    life: Life,
    /// Whether this turn has changed anything; a turn that slept, woke and changed nothing is a bug.
    progress: bool,
    /// Whether output waits for the flush phase instead of going out when a callback returns.
    defers_output: bool,
    dispatches: u32,
    /// When the ready phase looks at the clock.
    stride: Stride,
    /// When the last poll returned and when it was entered, for the busy share.
    turn_started_ns: u64,
}

impl<D: Driver, F: Factory> fmt::Debug for Dispatcher<D, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dispatcher")
            .field("index", &self.hub.index)
            .field("live", &self.sessions.len())
            .field("life", &self.life)
            .finish_non_exhaustive()
    }
}

/// How far away the next alarm is.
enum Alarm {
    /// So near that the loop does not sleep.
    Near,
    /// The loop sleeps until then, or, if `is_early`, until shortly before.
    Far { is_early: bool },
}

/// What the loop is living towards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    Serving,
    /// No new connections but those of administrators; what is left at the deadline is closed. `told` is the next slot whose
    /// session has not been told yet, `is_last` says that all other loops have ended.
    Draining {
        deadline_ns: u64,
        told: u32,
        is_last: bool,
    },
    Ended(LoopEnd),
}

/// Whether a turn was the last one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// There is more to do, now or later.
    Next,
    /// The loop was told to stop, or has drained; it holds nothing any more.
    Ended(LoopEnd),
}

impl<D: Driver, F: Factory> Dispatcher<D, F> {
    /// A loop on its seat among its peers. Gates are what it accepts through.
    ///
    /// # Errors
    /// A listener cannot be taken into the poll.
    pub fn new(
        mut driver: D,
        factory: F,
        tuning: Tuning,
        seat: Seat<D, MessageOf<F>>,
        gates: Vec<Gate<D::Listener>>,
        spreading: Spreading,
    ) -> io::Result<Self> {
        let tuning = tuning.sane();
        let now_ns = driver.now();
        let hub = hub_of(&seat, &tuning, now_ns);
        let Seat {
            index,
            links,
            boards,
            post,
            kept_alive,
            ..
        } = seat;
        let board = Arc::clone(&boards[index]);
        let mut acceptor = Acceptor::new(index, links, boards, spreading, gates);
        acceptor.resume_all(&mut driver)?;
        let mut dispatcher = Self {
            driver,
            factory,
            board,
            sessions: Slots::new(INDEX_MAX),
            kept_alive,
            residents: 0,
            pipes: Pipes::new(tuning.pipes_max),
            hub,
            runqueue: RunQueue::new(),
            events: Vec::with_capacity(tuning.events_max),
            read_buffer: vec![0; tuning.read_bytes_max].into_boxed_slice(),
            flush_list: Vec::with_capacity(tuning.inbox_max),
            flush_list_done: Vec::with_capacity(tuning.inbox_max),
            connect_failures: VecDeque::new(),
            deliveries: Deliveries::default(),
            acceptor,
            post,
            life: Life::Serving,
            progress: false,
            defers_output: false,
            dispatches: 0,
            stride: Stride::default(),
            turn_started_ns: now_ns,
            allowance: Allowance::new(&tuning, Level::Normal),
            tuning,
        };
        dispatcher.open_residents();
        Ok(dispatcher)
    }

    /// Turns until the loop has ended.
    ///
    /// # Errors
    /// Only what makes the poll itself useless.
    pub fn run(&mut self) -> io::Result<LoopEnd> {
        loop {
            if let Turn::Ended(end) = self.turn()? {
                return Ok(end);
            }
        }
    }

    /// One turn.
    ///
    /// # Errors
    /// Only what makes the poll itself useless.
    pub fn turn(&mut self) -> io::Result<Turn> {
        let slept = self.phase_poll()?;
        self.phase_control();
        if let Life::Ended(end) = self.life {
            // What came meanwhile is not for a loop that has closed everything.
            self.end_turn(slept);
            return Ok(Turn::Ended(end));
        }
        self.phase_inbox();
        self.phase_timers();
        self.phase_ready();
        self.phase_accept();
        self.phase_flush();
        self.end_turn(slept);
        Ok(Turn::Next)
    }

    /// Connections that live on this loop.
    #[must_use]
    pub fn live(&self) -> usize {
        self.sessions.len() as usize
    }

    /// What this loop publishes.
    #[must_use]
    pub const fn board(&self) -> &Arc<LoopBoard> {
        &self.board
    }

    /// The driver, for tests that look behind the seam.
    pub const fn driver_mut(&mut self) -> &mut D {
        &mut self.driver
    }

    /// When the loop wants its next turn even if nothing happens, on the driver's clock: 0 is at once, since something was
    /// left over; `None` is never. For those who turn a loop themselves.
    #[must_use]
    pub fn next_wake_ns(&self) -> Option<u64> {
        if self.has_leftovers() {
            Some(0)
        } else {
            self.next_deadline_ns()
        }
    }

    /// Whether a poll now would not sleep.
    fn has_leftovers(&self) -> bool {
        !self.runqueue.is_empty()
            || !self.flush_list.is_empty()
            || !self.connect_failures.is_empty()
            || self.acceptor.has_ready_gate()
            || self.post.has_work()
            || self.owes_drain_step()
    }

    /// A loop that drains has sessions to tell of it, or none left and is to end.
    fn owes_drain_step(&self) -> bool {
        match self.life {
            Life::Draining { told, .. } => told < self.sessions.index_end() || self.has_drained(),
            Life::Serving | Life::Ended(_) => false,
        }
    }

    /// Waits for the driver, and notes what it says. Returns whether the wait was allowed to sleep.
    fn phase_poll(&mut self) -> io::Result<bool> {
        let entered_ns = self.driver.now();
        let busy_ns = entered_ns.saturating_sub(self.turn_started_ns);
        let numbers = &self.board.numbers;
        if numbers.turns.value() > 0 {
            numbers.busy_ns.add(busy_ns);
            self.board.turn_time.record(busy_ns);
            if busy_ns > numbers.turn_ns_max.value() {
                numbers.turn_ns_max.set(busy_ns);
            }
        }
        self.board.beat.phase(Phase::Poll);
        self.events.clear();
        let slept = self.poll_driver(entered_ns)?;
        self.turn_started_ns = self.driver.now();
        self.hub.now_ns = self.turn_started_ns;
        self.progress = false;
        self.board.beat.turn();
        let numbers = &self.board.numbers;
        numbers
            .slept_ns
            .add(self.turn_started_ns.saturating_sub(entered_ns));
        numbers.turns.add(1);
        numbers.events.add(self.events.len() as u64);
        if !self.events.is_empty() {
            self.board.poll_events.record(self.events.len() as u64);
        }
        if self.events.len() >= self.tuning.events_max {
            self.board.numbers.budget_poll.add(1);
        }
        self.note_events();
        Ok(slept)
    }

    fn poll_driver(&mut self, entered_ns: u64) -> io::Result<bool> {
        if self.has_leftovers() {
            self.poll_once(Some(Duration::ZERO))?;
            return Ok(false);
        }
        let wake_ns = self.next_deadline_ns();
        let is_early = match self.hub.alarms.next_ns() {
            // A deadline rounded to whole milliseconds may hide an alarm: whichever is earlier.
            Some(alarm_ns) => match self.prepare_for_alarm(alarm_ns, entered_ns) {
                Alarm::Near => {
                    self.poll_once(Some(Duration::ZERO))?;
                    return Ok(false);
                }
                Alarm::Far { is_early } => is_early,
            },
            None => false,
        };
        if !self.tuning.spin.is_zero() && self.spin(entered_ns, wake_ns)? {
            return Ok(false);
        }
        let post = &self.post;
        if !post.bell().try_sleep(|| post.has_work()) {
            self.poll_once(Some(Duration::ZERO))?;
            return Ok(false);
        }
        let now_ns = if self.tuning.spin.is_zero() {
            entered_ns
        } else {
            self.driver.now()
        };
        let timeout = wake_ns.map(|wake_ns| Duration::from_nanos(wake_ns.saturating_sub(now_ns)));
        self.board.numbers.polls_slept.add(1);
        let polled = self.poll_once(timeout);
        self.post.bell().awake();
        // Up before the alarm on purpose: that such a turn finds nothing to do is no fault.
        Ok(polled? && !is_early)
    }

    /// Sees to it that the loop is awake when the next alarm is due.
    fn prepare_for_alarm(&mut self, alarm_ns: u64, now_ns: u64) -> Alarm {
        let spin_ns = u64::try_from(self.tuning.alarm_spin.as_nanos()).unwrap_or(u64::MAX);
        let awake_ns = alarm_ns.saturating_sub(spin_ns);
        if awake_ns <= now_ns {
            return Alarm::Near;
        }
        // Without an exact clock it rings up to a millisecond late, as the timeout of the poll does.
        let _ = self.driver.wake_at(awake_ns);
        Alarm::Far {
            is_early: spin_ns > 0,
        }
    }

    /// One wait of the driver. Returns whether it came to its end: one that a signal spoilt is no sleep, and the turn after it,
    /// which computes anew how long to wait, no turn for nothing.
    fn poll_once(&mut self, timeout: Option<Duration>) -> io::Result<bool> {
        let max = self.tuning.events_max;
        match self.driver.poll(timeout, max, &mut self.events) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Polls without sleeping for the spin time; whether something came.
    fn spin(&mut self, entered_ns: u64, wake_ns: Option<u64>) -> io::Result<bool> {
        let spin_ns = self.tuning.spin.as_nanos() as u64;
        let until_ns = wake_ns
            .unwrap_or(u64::MAX)
            .min(entered_ns.saturating_add(spin_ns));
        loop {
            self.poll_once(Some(Duration::ZERO))?;
            if !self.events.is_empty() || self.post.has_work() {
                return Ok(true);
            }
            if self.driver.now() >= until_ns {
                return Ok(false);
            }
            std::hint::spin_loop();
        }
    }

    /// When the loop must be awake at the latest.
    fn next_deadline_ns(&self) -> Option<u64> {
        let timer = self
            .hub
            .wheel
            .next_wake()
            .map(|tick| tick.saturating_mul(NS_PER_MS));
        let drain = match self.life {
            Life::Draining { deadline_ns, .. } => Some(deadline_ns),
            Life::Serving | Life::Ended(_) => None,
        };
        let accept = self.acceptor.retry_at_ns();
        let alarm = self.hub.alarms.next_ns();
        [timer, drain, accept, alarm].into_iter().flatten().min()
    }

    /// Remembers the edges that the poll told, and queues whoever has work now.
    fn note_events(&mut self) {
        for at in 0..self.events.len() {
            let Event { token, ready } = self.events[at];
            match token.target() {
                Some(Target::Session(key, side)) => self.note_ready(key, side, ready),
                Some(Target::Listener(gate)) => {
                    self.progress |= self.acceptor.note_ready(gate);
                }
                Some(Target::Waker) => {
                    // Who rang may have been served by the turn before, which woke for another reason.
                    self.progress = true;
                    self.board.numbers.wakeups.add(1);
                }
                None => self.board.numbers.events_stale.add(1),
            }
        }
    }

    #[inline]
    fn note_ready(&mut self, key: Key, side: Side, ready: Ready) {
        let Some(session) = self.sessions.get_mut(key) else {
            self.board.numbers.events_stale.add(1);
            return;
        };
        let Some(leg) = session.leg_mut(side) else {
            self.board.numbers.events_stale.add(1);
            return;
        };
        let before = leg.flags;
        if ready.has(Ready::READABLE) {
            leg.flags.set(LegFlags::READABLE);
        }
        if ready.has(Ready::WRITABLE) {
            leg.flags.set(LegFlags::WRITABLE);
        }
        if ready.has(Ready::READ_CLOSED) {
            leg.flags.set(LegFlags::FIN_HINT.with(LegFlags::READABLE));
        }
        if ready.has(Ready::URGENT) {
            leg.flags.set(
                LegFlags::URGENT
                    .with(LegFlags::FIN_HINT)
                    .with(LegFlags::READABLE),
            );
        }
        if ready.has(Ready::ERROR.with(Ready::HUNG_UP)) {
            leg.flags.set(
                LegFlags::TROUBLED
                    .with(LegFlags::FIN_HINT)
                    .with(LegFlags::READABLE),
            );
        }
        // An edge that is acted upon has to prove itself below. What is no idle turn either: news that is kept for later;
        // room to write, which the kernel tells along with everything else; and more input for a socket that is not being
        // read, which an edge-triggered poll reports segment by segment until the peer's window is full.
        let is_stopped = leg.flags.has(LegFlags::PAUSED.with(LegFlags::HELD));
        self.board.numbers.events_held.add(u64::from(is_stopped));
        self.progress |= is_stopped || leg.flags != before || ready.has(Ready::WRITABLE);
        self.queue_if_due(key);
    }

    /// Puts a session into the run queue if it has work and is not there yet.
    #[inline]
    fn queue_if_due(&mut self, key: Key) {
        if let Some(session) = self.sessions.get_mut(key)
            && !session.state.flags.has(SessionFlags::QUEUED)
            && session.has_work()
        {
            session.state.flags.set(SessionFlags::QUEUED);
            self.runqueue.push(session.state.class, key);
        }
    }

    /// The level of memory, and all orders from the control thread, before everything else.
    fn phase_control(&mut self) {
        self.board.beat.phase(Phase::Control);
        // First: a drain accepts once more, and not without memory.
        if let Some(level) = self.post.take_level() {
            self.obey_level(level);
        }
        while let Some(order) = self.post.next_control() {
            self.progress = true;
            self.obey(order);
        }
        match self.life {
            Life::Draining {
                deadline_ns, told, ..
            } => self.drain_step(deadline_ns, told),
            Life::Serving | Life::Ended(_) => {}
        }
    }

    fn obey(&mut self, order: Control<D::Listener>) {
        match order {
            Control::Drain { deadline_ns } => {
                if self.life == Life::Serving {
                    self.accept_last();
                    self.acceptor.close_services(&mut self.driver);
                    self.life = Life::Draining {
                        deadline_ns,
                        told: 0,
                        is_last: false,
                    };
                }
            }
            Control::DrainedElsewhere => {
                if let Life::Draining { is_last, .. } = &mut self.life {
                    *is_last = true;
                }
            }
            Control::Stop => {
                self.acceptor.close_all(&mut self.driver);
                let cut = self.close_all(crate::CloseReason::Stopped);
                self.life = Life::Ended(LoopEnd { cut });
            }
            Control::Signal(signal) => {
                self.each_session(|this, key| this.tell_signal(key, signal));
            }
            Control::Rescue { of, gates } => {
                self.acceptor.rescue(&mut self.driver, of, gates);
            }
            Control::RescueEnd { of } => self.acceptor.end_rescue(&mut self.driver, of),
        }
    }

    /// Tells some more sessions that the server drains; ends the loop when none is left or time is over.
    fn drain_step(&mut self, deadline_ns: u64, told: u32) {
        let end = self.sessions.index_end();
        let upto = told.saturating_add(TOLD_PER_TURN_MAX).min(end);
        for index in told..upto {
            if let Some(key) = self.sessions.key_at(index) {
                self.tell_drain(key);
            }
        }
        if let Life::Draining { told, .. } = &mut self.life {
            *told = upto;
        }
        self.progress |= upto > told;
        if upto < end {
            self.board.numbers.budget_control.add(1);
        }
        if self.has_drained() && self.has_last_handed() {
            // Taken in the next turn.
        } else if self.has_drained() {
            self.end_gates();
            self.close_all(crate::CloseReason::Stopped);
            self.life = Life::Ended(LoopEnd { cut: 0 });
        } else if self.hub.now_ns >= deadline_ns {
            self.progress = true;
            self.end_gates();
            let cut = self.close_all(crate::CloseReason::DrainDeadline);
            self.life = Life::Ended(LoopEnd { cut });
        }
    }

    /// Whether nothing is left of the drain: no connection of the service here, and visitors, who do not hold it up, have no
    /// other loop to ask about.
    fn has_drained(&self) -> bool {
        let Life::Draining { is_last, .. } = self.life else {
            return false;
        };
        let is_let_go = is_last || !self.acceptor.has_gates();
        is_let_go && self.sessions.len() as usize == self.residents + self.acceptor.admin_live
    }

    fn end_gates(&mut self) {
        self.acceptor.close_all(&mut self.driver);
    }

    /// Whether sockets of other loops still wait for this one, which is about to end and takes no more of them.
    fn has_last_handed(&self) -> bool {
        self.post.refuse_handed();
        self.post.has_handed()
    }

    fn each_session(&mut self, mut act: impl FnMut(&mut Self, Key)) {
        for index in 0..self.sessions.index_end() {
            if let Some(key) = self.sessions.key_at(index) {
                act(self, key);
            }
        }
    }

    /// Sockets from other loops, messages, finished jobs; a bounded number of each.
    fn phase_inbox(&mut self) {
        self.board.beat.phase(Phase::Inbox);
        self.defers_output = true;
        let max = self.tuning.inbox_max;
        let mut taken = 0;
        let mut is_over_budget = false;
        // A bound for each kind: a flood of one must not keep the others waiting.
        for take in [Self::take_handed, Self::take_mail, Self::take_result] {
            let before = taken;
            while taken - before < max && take(self) {
                taken += 1;
            }
            is_over_budget |= taken - before >= max;
        }
        let told = self.tell_connect_failures(max);
        is_over_budget |= told >= max;
        self.progress |= taken + told > 0;
        if is_over_budget {
            self.board.numbers.budget_inbox.add(1);
        }
        if self.post.take_permit_news() {
            self.progress = true;
            self.resume_after_release();
        }
    }

    fn take_handed(&mut self) -> bool {
        let Some(Handed {
            stream,
            peer,
            listener,
            sent_ns,
        }) = self.post.next_handed()
        else {
            return false;
        };
        self.board
            .inbox_wait
            .record(self.hub.now_ns.saturating_sub(sent_ns));
        self.board.numbers.adopted.add(1);
        self.open(stream, peer, listener);
        if let Life::Draining { told, .. } = &mut self.life {
            // It may have a slot whose last session has been told already.
            *told = 0;
        }
        // After `open`, so that the sum of live and charged never says less than there is.
        self.board
            .charged
            .fetch_sub(1, std::sync::atomic::Ordering::Relaxed);
        true
    }

    fn take_mail(&mut self) -> bool {
        let Some(Mail {
            to,
            sent_ns,
            message,
        }) = self.post.next_mail()
        else {
            return false;
        };
        if sent_ns > 0 {
            self.board
                .inbox_wait
                .record(self.hub.now_ns.saturating_sub(sent_ns));
        }
        let is_known = self.call(to, Side::Front, Callback::Message, |handler, cx| {
            handler.on_message(cx, message)
        });
        let numbers = &self.board.numbers;
        if is_known {
            &numbers.messages
        } else {
            &numbers.messages_stale
        }
        .add(1);
        true
    }

    fn take_result(&mut self) -> bool {
        let Some(Finished { to, job, result }) = self.post.next_result() else {
            return false;
        };
        self.hub.jobs_pending -= 1;
        let is_known = self.call(to, Side::Front, Callback::Offload, |handler, cx| {
            handler.on_offload(cx, job, result)
        });
        let numbers = &self.board.numbers;
        if is_known {
            &numbers.offload_done
        } else {
            &numbers.offload_stale
        }
        .add(1);
        true
    }

    /// Deadlines that are due.
    fn phase_timers(&mut self) {
        self.board.beat.phase(Phase::Timers);
        let mut fired = self.ring_alarms();
        self.defers_output = true;
        let now_ms = self.hub.now_ms();
        let cascades = self.hub.wheel.cascades();
        while fired < self.tuning.timers_max {
            let Some((timer, key)) = self.hub.wheel.pop_due(now_ms) else {
                break;
            };
            fired += 1;
            self.fire(key, timer);
        }
        self.board.numbers.timers_fired.add(fired as u64);
        // Moving timers down the wheel is what the wheel asked to be woken for.
        self.progress |= fired > 0 || self.hub.wheel.cascades() != cascades;
        if fired >= self.tuning.timers_max {
            self.board.numbers.budget_timers.add(1);
        }
        self.defers_output = false;
    }

    /// Rings the alarms that are due; returns how many. What their sessions write leaves at once: they were set for a time.
    fn ring_alarms(&mut self) -> usize {
        self.defers_output = false;
        self.hub
            .alarms
            .sweep(|key| self.sessions.get(key).is_some());
        let mut rung = 0;
        while rung < self.tuning.timers_max
            && let Some((at_ns, key)) = self.hub.alarms.pop_due(self.hub.now_ns)
        {
            rung += 1;
            self.call(key, Side::Front, Callback::Alarm, |handler, cx| {
                handler.on_alarm(cx, at_ns)
            });
        }
        rung
    }

    /// Counts, and publishes the gauges.
    fn end_turn(&mut self, slept: bool) {
        let numbers = &self.board.numbers;
        if slept && !self.progress {
            numbers.turns_idle.add(1);
        }
        numbers.timers.set(self.hub.wheel.len() as u64);
        numbers.pipes.set(self.pipes.open() as u64);
        numbers.kept_bytes.set(self.hub.blocks.kept_bytes() as u64);
        numbers.kept_blocks.set(self.hub.blocks.used() as u64);
        numbers.offload_pending.set(self.hub.jobs_pending);
        let refused = self.hub.mailer.refused(self.hub.index);
        numbers.messages_refused.set(refused);
        // Scratch space of one large answer is not kept for ever.
        self.hub.outbox.finish();
        self.board.beat.phase(Phase::Poll);
    }
}

/// What the handlers of a loop that begins at `now_ns` will share.
fn hub_of<D: Driver, H: Handler>(
    seat: &Seat<D, H::Message>,
    tuning: &Tuning,
    now_ns: u64,
) -> Hub<H> {
    Hub {
        index: seat.index,
        now_ns,
        wheel: Wheel::new(now_ns / NS_PER_MS, TIMERS_MAX),
        alarms: Alarms::default(),
        blocks: Blocks::new(),
        outbox: Outbox::new(),
        output_high_bytes: tuning.output_high_bytes,
        linger_ms: crate::ctx::millis_of(tuning.linger_timeout),
        mailer: seat.links.mailer(),
        boards: Arc::clone(&seat.boards),
        board: Arc::clone(&seat.boards[seat.index]),
        offload: Arc::clone(&seat.offload),
        results: seat.post.results_sender(),
        jobs_pending_max: seat.post.results_max() as u64,
        connect: None,
        forwards: false,
        disconnects: false,
        jobs: 0,
        jobs_pending: 0,
        timers: TimerLists::default(),
    }
}

/// The most timers a loop arms at once.
const TIMERS_MAX: u32 = u32::MAX - 1;

/// Sessions that are told of a drain in one turn.
const TOLD_PER_TURN_MAX: u32 = 4096;
