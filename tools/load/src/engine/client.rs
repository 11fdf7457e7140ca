//! One connection of the load: when it sends, what it expects, what it records.
//!
//! ```text
//!            alarm: time to dial            the attempt stands
//!   Down ───────────────────────> Dialling ───────────────────> Up ──┐ alarm or answer: what is planned and due is sent
//!    ^                               │                          │ <──┘ while fewer than `pipeline` are outstanding
//!    └───────────────────────────────┴──────────────────────────┘
//!          refused, broken, finished, timed out: counted; dialled again after a pause
//! ```
//!
//! The one idea: what is planned is computed, not queued. A connection that has to wait keeps the time of its next request only;
//! when it may send again, requests whose time has passed go out with the times they were planned for.
//!
//! Invariant: each request that is planned within a stage is counted once as sent or as unsent, and each that is sent once as
//! completed or as unanswered, or is still outstanding. A request carries the stage that it was counted for, since orders change
//! while it is on its way.
//!
//! The probe's clients differ: they keep their own rate whatever the load's pace is, end no connection, are not slow, and
//! record nothing but their latency.

use super::Resident;
use super::orders::{Order, Pace, Phase};
use super::plan::Churn;
use super::shared::Shared;
use super::talk::{Fed, Talk, Wrong};
use super::wakes::Wakes;
use crate::plan::arrivals::Arrivals;
use crate::tally::{Fault, LONGEST_NS};
use polyloop::{Ctx, Room, Side, TimerKey};
use polyloop_sys::clock::monotonic_ns;
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;
use std::time::Duration;

/// What the clerk tells a client, and itself.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Note {
    /// A stage begins.
    Begin,
    /// A stage is over: what it still owes is counted.
    Settle(Order),
    /// Everything before this is recorded.
    HandOver,
}

/// A request on its way.
#[derive(Debug, Clone, Copy)]
struct Sent {
    planned_ns: u64,
    sent_ns: u64,
    /// The stage that counts it; 0 when none does.
    stage: u32,
    /// Whether it went out in the grace, by the order that held then: the end of a stage may move.
    is_late: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Link {
    /// To be dialled at this time, or for churn when a request is planned then or later.
    Down {
        dial_at_ns: u64,
    },
    /// Dialled.
    Dialling {
        since_ns: u64,
    },
    Up,
    /// Our FIN is out, the server's is waited for.
    Leaving {
        since_ns: u64,
    },
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Client {
    shared: Rc<Shared>,
    /// Its number among the connections of the run.
    index: u64,
    is_probe: bool,
    /// How its connections end, if they do not last.
    churn: Option<Churn>,
    link: Link,
    talk: Talk,
    arrivals: Arrivals,
    /// The stage that the arrivals were made for.
    planned_stage: u32,
    /// The stage that it has counted what it owes to.
    settled_stage: u32,
    sent: VecDeque<Sent>,
    /// Since when it could have sent.
    free_since_ns: u64,
    /// How much later a connection of churn was dialled than it could have been: a part of the lag of its first request.
    dial_lag_ns: u64,
    /// Whether bytes have come on this connection.
    has_heard: bool,
    wakes: Wakes,
    deadline: Option<TimerKey>,
    reading_again: Option<TimerKey>,
    /// What is written slowly: where it goes on, and the timer that says when. At its end this waits once more, as the last
    /// piece takes its time too.
    drip: Option<(usize, TimerKey)>,
    failures: u32,
}

impl Client {
    pub(crate) fn new(shared: Rc<Shared>, index: u64, is_probe: bool) -> Self {
        let plan = &shared.plan;
        let churn = plan.churn.filter(|_| !is_probe);
        let dial_at_ns = match churn {
            _ if is_probe => plan.dial_probe_at_ns(index),
            Some(_) => 0,
            None => plan.dial_at_ns(index),
        };
        let talk = Talk::new(plan, is_probe);
        Self {
            churn,
            link: Link::Down { dial_at_ns },
            talk,
            arrivals: plan.arrivals(index, is_probe, Order::SILENCE, 1.0),
            shared,
            index,
            is_probe,
            planned_stage: 0,
            settled_stage: 0,
            sent: VecDeque::new(),
            free_since_ns: 0,
            dial_lag_ns: 0,
            has_heard: false,
            wakes: Wakes::default(),
            deadline: None,
            reading_again: None,
            drip: None,
            failures: 0,
        }
    }

    pub(crate) fn on_open(&mut self, cx: &mut Ctx<'_, Resident>) {
        self.shared.clients.borrow_mut().push(cx.this());
        self.go_on(cx);
    }

    pub(crate) fn on_note(&mut self, cx: &mut Ctx<'_, Resident>, note: Note) {
        match note {
            Note::Begin => {
                let order = self.shared.order();
                if let Some(rate_per_s) = self.rate_of(order) {
                    let plan = &self.shared.plan;
                    self.arrivals = plan.arrivals(self.index, self.is_probe, order, rate_per_s);
                }
                self.planned_stage = order.stage;
                self.go_on(cx);
            }
            Note::Settle(order) => self.settle(order),
            Note::HandOver => {}
        }
    }

    pub(crate) fn on_alarm(&mut self, cx: &mut Ctx<'_, Resident>, at_ns: u64) {
        if self.wakes.is_ringing(at_ns) {
            self.go_on(cx);
        }
    }

    /// Does what is due now, and sees to it that somebody comes when the next thing is.
    fn go_on(&mut self, cx: &mut Ctx<'_, Resident>) {
        let now_ns = monotonic_ns();
        match self.link {
            Link::Down { dial_at_ns } => {
                let due_ns = if self.churn.is_none() {
                    dial_at_ns
                } else {
                    // A connection of churn is made for a request; while there is none, nothing is dialled.
                    let planned_ns = self.next_planned_ns(now_ns);
                    planned_ns.map_or(u64::MAX, |planned_ns| planned_ns.max(dial_at_ns))
                };
                if due_ns <= now_ns {
                    self.dial(cx, due_ns, now_ns);
                } else if due_ns < u64::MAX {
                    self.wake_at(cx, due_ns);
                }
            }
            Link::Up => self.send_due(cx, now_ns),
            Link::Dialling { .. } | Link::Leaving { .. } => {}
        }
    }

    /// Whether a connection of churn has sent all of its requests.
    fn has_asked_all(&self) -> bool {
        self.churn
            .is_some_and(|churn| self.talk.asked() >= churn.requests)
    }

    /// Whether the next request needs no planned time: its connection was planned, and it is not the first on it.
    fn is_follow_up(&self) -> bool {
        self.churn.is_some_and(|churn| churn.rate_is_of_connects) && self.talk.asked() > 0
    }

    /// The rate of the plan, if there is one: the probe keeps its own beside a load of any pace.
    const fn rate_of(&self, order: Order) -> Option<f64> {
        match order.pace {
            Pace::Open { rate_per_s } => Some(rate_per_s),
            Pace::Closed | Pace::Silent if self.is_probe => Some(0.0),
            Pace::Closed | Pace::Silent => None,
        }
    }

    /// When the next request is planned, if there is one in this stage.
    fn next_planned_ns(&self, now_ns: u64) -> Option<u64> {
        let order = self.shared.order();
        // Until the note has come that the stage begins, the arrivals are those of the last one.
        if order.phase == Phase::Closed || self.planned_stage != order.stage {
            return None;
        }
        let planned_ns = if self.is_follow_up() {
            now_ns.max(order.begins_ns)
        } else if self.rate_of(order).is_some() {
            self.arrivals.peek_ns()
        } else if order.pace == Pace::Closed {
            now_ns.max(order.begins_ns)
        } else {
            return None;
        };
        (planned_ns < order.ends_ns).then_some(planned_ns)
    }

    /// Whether its requests are of the stage that is being counted, and it has not settled that.
    fn counts(&self, sent: &Sent) -> bool {
        let stage = self.shared.order().stage;
        sent.stage == stage && self.settled_stage != stage
    }

    fn wake_at(&mut self, cx: &mut Ctx<'_, Resident>, at_ns: u64) {
        if self.wakes.needs(at_ns) && cx.set_alarm(at_ns) {
            self.wakes.set(at_ns);
        }
    }

    fn dial(&mut self, cx: &mut Ctx<'_, Resident>, due_ns: u64, now_ns: u64) {
        self.link = Link::Dialling { since_ns: now_ns };
        self.shared.record(|interval| interval.counts.connects += 1);
        self.dial_lag_ns = now_ns.saturating_sub(due_ns);
        let is_asked = cx.connect(self.shared.plan.dial(self.index));
        debug_assert!(is_asked, "a client that is down has no connection");
        self.arm_deadline(cx);
    }

    pub(crate) fn on_connected(&mut self, cx: &mut Ctx<'_, Resident>) {
        let Link::Dialling { since_ns } = self.link else {
            return;
        };
        let now_ns = monotonic_ns();
        self.link = Link::Up;
        self.failures = 0;
        self.shared.opened();
        self.shared.record(|interval| {
            interval.counts.connected += 1;
            interval
                .connect
                .saturating_record(now_ns.saturating_sub(since_ns).max(1));
        });
        self.free_since_ns = now_ns;
        self.send_due(cx, now_ns);
    }

    /// Sends what is planned and due, as long as there is room on the connection.
    fn send_due(&mut self, cx: &mut Ctx<'_, Resident>, now_ns: u64) {
        if self.link != Link::Up {
            return;
        }
        match self.talk {
            Talk::Up { chunk } | Talk::Flood { chunk } => {
                self.flood(cx, chunk, now_ns);
                return;
            }
            Talk::Down => return,
            Talk::Echo { .. } | Talk::Script { .. } => {}
        }
        let depth = self.shared.plan.pipeline;
        while self.drip.is_none() && self.sent.len() < depth && cx.room(Side::Back) == Room::Open {
            if self.has_asked_all() {
                break;
            }
            let Some(planned_ns) = self.next_planned_ns(now_ns) else {
                break;
            };
            if planned_ns > now_ns {
                self.wake_at(cx, planned_ns);
                break;
            }
            if !self.is_follow_up() {
                self.arrivals.advance();
            }
            self.send(cx, planned_ns, now_ns);
        }
    }

    fn send(&mut self, cx: &mut Ctx<'_, Resident>, planned_ns: u64, now_ns: u64) {
        let plan = &self.shared.plan;
        let bytes = self.talk.next_request(plan, self.index);
        let len = bytes.len() as u64;
        if self.write_rate().is_none() {
            // What the kernel does not take is kept by the loop; the room was looked at before.
            let _ = cx.write_to(Side::Back, bytes);
        } else {
            self.write_slowly(cx, 0);
        }
        let order = self.shared.order();
        let is_counted = order.counts(planned_ns);
        self.sent.push_back(Sent {
            planned_ns,
            sent_ns: now_ns,
            stage: if is_counted { order.stage } else { 0 },
            is_late: now_ns >= order.ends_ns,
        });
        self.shared
            .outstanding
            .set(self.shared.outstanding.get() + 1);
        if self.deadline.is_none() {
            self.arm_deadline(cx);
        }
        let mut own_lag_ns = now_ns.saturating_sub(planned_ns.max(self.free_since_ns));
        if self.churn.is_some() {
            own_lag_ns += std::mem::take(&mut self.dial_lag_ns);
        }
        if !is_counted || self.is_probe {
            return;
        }
        let is_late = now_ns >= order.ends_ns;
        self.shared.record(|interval| {
            interval.counts.offered += 1;
            interval.counts.sent += 1;
            interval.counts.sent_late += u64::from(is_late);
            interval.counts.bytes_out += len;
            interval
                .lag
                .saturating_record(now_ns.saturating_sub(planned_ns).max(1));
            interval.own_lag.saturating_record(own_lag_ns.max(1));
        });
    }

    fn write_rate(&self) -> Option<f64> {
        let rate = self.shared.plan.write_bytes_per_s;
        rate.filter(|_| !self.is_probe)
    }

    /// Writes a piece of a request, and comes back for the rest.
    fn write_slowly(&mut self, cx: &mut Ctx<'_, Resident>, from: usize) {
        let plan = &self.shared.plan;
        let bytes = self.talk.last_request(plan, self.index);
        let rate = self.write_rate().unwrap_or(f64::INFINITY);
        let until = bytes.len().min(from + piece_bytes(rate));
        let _ = cx.write_to(Side::Back, &bytes[from..until]);
        self.drip = cx
            .set_timer(time_of(until - from, rate))
            .map(|timer| (until, timer));
    }

    /// Goes on with what is written slowly.
    fn drip_on(&mut self, cx: &mut Ctx<'_, Resident>, from: usize) {
        self.drip = None;
        let now_ns = monotonic_ns();
        let plan = &self.shared.plan;
        if from < self.talk.last_request(plan, self.index).len() {
            self.write_slowly(cx, from);
        } else {
            self.free_since_ns = now_ns;
            self.send_due(cx, now_ns);
        }
    }

    /// Writes as long as the connection takes it, or a piece in its time.
    fn flood(&mut self, cx: &mut Ctx<'_, Resident>, chunk: usize, now_ns: u64) {
        let order = self.shared.order();
        if order.pace == Pace::Silent || now_ns >= order.ends_ns || order.phase == Phase::Closed {
            return;
        }
        if now_ns < order.begins_ns {
            self.wake_at(cx, order.begins_ns);
            return;
        }
        let mut bytes_out = 0;
        let pattern = &self.shared.plan.pattern;
        if let Some(rate) = self.write_rate() {
            if self.drip.is_none() && cx.room(Side::Back) == Room::Open {
                let piece = piece_bytes(rate).min(chunk);
                let _ = cx.write_to(Side::Back, pattern.slice(self.index, 0, piece));
                bytes_out = piece as u64;
                self.drip = cx.set_timer(time_of(piece, rate)).map(|timer| (0, timer));
            }
        } else {
            let bytes = pattern.slice(self.index, 0, chunk);
            while cx.room(Side::Back) == Room::Open {
                let _ = cx.write_to(Side::Back, bytes);
                bytes_out += chunk as u64;
            }
        }
        self.shared
            .record(|interval| interval.counts.bytes_out += bytes_out);
    }

    pub(crate) fn on_writable(&mut self, cx: &mut Ctx<'_, Resident>) {
        let now_ns = monotonic_ns();
        self.free_since_ns = now_ns;
        self.send_due(cx, now_ns);
    }

    pub(crate) fn on_data(&mut self, cx: &mut Ctx<'_, Resident>, mut bytes: &[u8]) {
        let now_ns = monotonic_ns();
        let len = bytes.len();
        self.has_heard = true;
        self.count_bytes_in(len, now_ns);
        while !bytes.is_empty() {
            let has_asked = !self.sent.is_empty();
            match self
                .talk
                .feed(&self.shared.plan, self.index, has_asked, bytes)
            {
                Fed::Answer { used } => {
                    bytes = &bytes[used..];
                    self.answered(now_ns);
                }
                Fed::More => bytes = &[],
                Fed::Wrong(wrong) => {
                    self.note_wrong(wrong, bytes);
                    self.fail(cx, Fault::Garbage, now_ns);
                    return;
                }
            }
        }
        if self.talk.is_last_answer() && !self.sent.is_empty() {
            // It will close the connection, and answer nothing that is on its way. It is well all the same, and dialled again at
            // once: a pause would be ours, and in the latency of what is planned meanwhile.
            self.shared.fault(Fault::Finished);
            self.give_up_sent(now_ns);
            self.begin_anew(cx, now_ns);
            return;
        }
        if self.sent.is_empty() && (self.has_asked_all() || self.talk.is_last_answer()) {
            self.leave(cx, now_ns);
            return;
        }
        self.slow_down(cx, len);
        self.send_due(cx, now_ns);
    }

    /// Keeps in words what is wrong with the first wrong answer: a number of them says nothing about the reason.
    fn note_wrong(&self, wrong: Wrong, bytes: &[u8]) {
        self.shared.record(|interval| {
            interval.first_wrong.get_or_insert_with(|| {
                let shown = bytes[..bytes.len().min(WRONG_SHOWN_BYTES)].escape_ascii();
                format!("{wrong}; what came: \"{shown}\"").into()
            });
        });
    }

    /// Of a stream what comes in the time of the stage counts, of answers all that come.
    fn count_bytes_in(&self, len: usize, now_ns: u64) {
        let is_counted = !self.talk.is_stream() || self.shared.order().counts(now_ns);
        if is_counted && !self.is_probe {
            self.shared
                .record(|interval| interval.counts.bytes_in += len as u64);
        }
    }

    fn answered(&mut self, now_ns: u64) {
        let Some(sent) = self.sent.pop_front() else {
            return;
        };
        let shared = &self.shared;
        shared
            .outstanding
            .set(shared.outstanding.get().saturating_sub(1));
        if self.sent.len() + 1 == shared.plan.pipeline {
            self.free_since_ns = now_ns;
        }
        if !self.counts(&sent) {
            return;
        }
        let latency_ns = now_ns.saturating_sub(sent.planned_ns).max(1);
        let is_probe = self.is_probe;
        let is_late = sent.is_late;
        shared.record(|interval| {
            if is_probe {
                interval.probe.saturating_record(latency_ns);
                interval.counts.probed += 1;
                return;
            }
            interval.counts.completed += 1;
            interval.counts.completed_late += u64::from(is_late);
            interval.latency.saturating_record(latency_ns);
            interval
                .uncorrected
                .saturating_record(now_ns.saturating_sub(sent.sent_ns).max(1));
        });
    }

    /// Reads no more until the bytes that have come were due at the rate that was asked for.
    fn slow_down(&mut self, cx: &mut Ctx<'_, Resident>, len: usize) {
        let Some(rate) = self.shared.plan.read_bytes_per_s else {
            return;
        };
        if self.is_probe {
            return;
        }
        self.reading_again = cx.set_timer(time_of(len, rate));
        if self.reading_again.is_some() {
            cx.pause(Side::Back);
        }
    }

    /// Ends a connection that has had its requests, or whose server has said that it will.
    fn leave(&mut self, cx: &mut Ctx<'_, Resident>, now_ns: u64) {
        self.shared.record(|interval| interval.counts.closed += 1);
        if self.churn.is_some_and(|churn| churn.resets) {
            self.begin_anew(cx, now_ns);
            return;
        }
        cx.finish(Side::Back);
        self.link = Link::Leaving { since_ns: now_ns };
        self.arm_deadline(cx);
    }

    /// The connection is over, as it should be: the next is made when it is wanted.
    fn begin_anew(&mut self, cx: &mut Ctx<'_, Resident>, now_ns: u64) {
        self.hang_up(cx, now_ns);
        self.go_on(cx);
    }

    pub(crate) fn on_finished(&mut self, cx: &mut Ctx<'_, Resident>) {
        let now_ns = monotonic_ns();
        match (self.link, &self.talk) {
            // Both halves are over: nothing is reset by this.
            (Link::Leaving { .. }, _) => self.begin_anew(cx, now_ns),
            // A stream from the server has an end. One without a beginning is a fault, or it would be dialled for ever.
            (_, Talk::Down | Talk::Flood { .. }) if self.has_heard => {
                self.shared.record(|interval| interval.counts.closed += 1);
                self.begin_anew(cx, now_ns);
            }
            _ => self.fail(cx, Fault::Finished, now_ns),
        }
    }

    pub(crate) fn on_connect_failed(&mut self, cx: &mut Ctx<'_, Resident>, error: &io::Error) {
        let errno = error.raw_os_error().unwrap_or(0);
        let fault = match self.link {
            Link::Dialling { .. } => Fault::Connect(errno),
            Link::Leaving { .. } => {
                self.begin_anew(cx, monotonic_ns());
                return;
            }
            Link::Up | Link::Down { .. } => Fault::Broken(errno),
        };
        self.fail(cx, fault, monotonic_ns());
    }

    pub(crate) fn on_timer(&mut self, cx: &mut Ctx<'_, Resident>, timer: TimerKey) {
        if let Some((from, due)) = self.drip
            && due == timer
        {
            self.drip_on(cx, from);
            return;
        }
        if self.reading_again == Some(timer) {
            self.reading_again = None;
            cx.resume(Side::Back);
            return;
        }
        self.deadline = None;
        let now_ns = monotonic_ns();
        let since_ns = match self.link {
            Link::Dialling { since_ns } | Link::Leaving { since_ns } => Some(since_ns),
            Link::Up => self.sent.front().map(|sent| sent.sent_ns),
            Link::Down { .. } => None,
        };
        let Some(since_ns) = since_ns else {
            return;
        };
        if now_ns.saturating_sub(since_ns) < self.shared.plan.timeout_ns {
            self.arm_deadline_for(cx, since_ns, now_ns);
            return;
        }
        let fault = match self.link {
            Link::Dialling { .. } => Fault::Connect(ETIMEDOUT),
            _ => Fault::Timeout,
        };
        self.fail(cx, fault, now_ns);
    }

    fn arm_deadline(&mut self, cx: &mut Ctx<'_, Resident>) {
        if self.deadline.is_none() {
            self.deadline = cx.set_timer(Duration::from_nanos(self.shared.plan.timeout_ns));
        }
    }

    fn arm_deadline_for(&mut self, cx: &mut Ctx<'_, Resident>, since_ns: u64, now_ns: u64) {
        let due_ns = since_ns.saturating_add(self.shared.plan.timeout_ns);
        self.deadline = cx.set_timer(Duration::from_nanos(due_ns.saturating_sub(now_ns).max(1)));
    }

    /// Something went wrong with the connection: it is counted, and another is made after a pause.
    fn fail(&mut self, cx: &mut Ctx<'_, Resident>, fault: Fault, now_ns: u64) {
        self.shared.fault(fault);
        self.give_up_sent(now_ns);
        self.failures = self.failures.saturating_add(1);
        let pause_ns = PAUSE_NS << (self.failures - 1).min(PAUSE_DOUBLINGS_MAX);
        self.hang_up(cx, now_ns + pause_ns);
        self.go_on(cx);
    }

    fn hang_up(&mut self, cx: &mut Ctx<'_, Resident>, dial_at_ns: u64) {
        if matches!(self.link, Link::Up | Link::Leaving { .. }) {
            self.shared.closed();
        }
        cx.disconnect();
        self.talk.begin_again();
        self.has_heard = false;
        if let Some((_, timer)) = self.drip.take() {
            cx.cancel_timer(timer);
        }
        if let Some(timer) = self.reading_again.take() {
            cx.cancel_timer(timer);
        }
        if let Some(timer) = self.deadline.take() {
            cx.cancel_timer(timer);
        }
        self.link = Link::Down { dial_at_ns };
    }

    /// Requests that nobody answers any more count, with the age they have reached.
    fn give_up_sent(&mut self, now_ns: u64) {
        while let Some(sent) = self.sent.pop_front() {
            let outstanding = &self.shared.outstanding;
            outstanding.set(outstanding.get().saturating_sub(1));
            if self.counts(&sent) {
                record_unanswered(&self.shared, self.is_probe, sent, now_ns);
            }
        }
    }

    /// The stage is over: what it still owes is counted with its age, which is the least that its latency can be.
    fn settle(&mut self, order: Order) {
        let now_ns = monotonic_ns();
        for sent in self.sent.iter().filter(|sent| self.counts(sent)) {
            record_unanswered(&self.shared, self.is_probe, *sent, now_ns);
        }
        self.settled_stage = order.stage;
        if self.rate_of(order).is_none() || self.planned_stage != order.stage {
            return;
        }
        let until_ns = order.ends_ns.min(now_ns);
        let requests = match self.churn {
            Some(churn) if churn.rate_is_of_connects => churn.requests,
            _ => 1,
        };
        let is_probe = self.is_probe;
        each_unsent(&mut self.arrivals, until_ns, |planned_ns, count| {
            let age_ns = (now_ns - planned_ns).clamp(1, LONGEST_NS);
            self.shared.record(|interval| {
                if is_probe {
                    interval.probe.saturating_record_n(age_ns, count);
                    return;
                }
                interval.counts.offered += count * requests;
                interval.counts.unsent += count * requests;
                interval
                    .latency
                    .saturating_record_n(age_ns, count * requests);
            });
        });
    }
}

fn record_unanswered(shared: &Shared, is_probe: bool, sent: Sent, now_ns: u64) {
    shared.record(|interval| {
        let planned = now_ns.saturating_sub(sent.planned_ns).max(1);
        if is_probe {
            interval.probe.saturating_record(planned);
            return;
        }
        interval.counts.unanswered += 1;
        interval.latency.saturating_record(planned);
        interval
            .uncorrected
            .saturating_record(now_ns.saturating_sub(sent.sent_ns).max(1));
    });
}

/// Takes what is planned before `until_ns` off the plan, one by one, or, where that would be too many, in groups that count from
/// the time of their first.
fn each_unsent(arrivals: &mut Arrivals, until_ns: u64, mut each: impl FnMut(u64, u64)) {
    let group = arrivals.count_until(until_ns) / UNSENT_STEPS_MAX;
    while arrivals.peek_ns() < until_ns {
        let planned_ns = arrivals.peek_ns();
        if group <= 1 {
            each(planned_ns, 1);
            arrivals.advance();
        } else {
            let count = group.min(arrivals.count_until(until_ns)).max(1);
            each(planned_ns, count);
            arrivals.advance_by(count);
        }
    }
}

/// Bytes of one write at this rate.
fn piece_bytes(rate: f64) -> usize {
    ((rate * DRIP_EVERY.as_secs_f64()) as usize).max(1)
}

/// How long so many bytes take at a rate.
fn time_of(bytes: usize, rate: f64) -> Duration {
    Duration::from_secs_f64(bytes as f64 / rate)
}

/// The first pause before a connection that failed is dialled again; it doubles with each failure, up to 6.4 s.
const PAUSE_NS: u64 = 100_000_000;
const PAUSE_DOUBLINGS_MAX: u32 = 6;

/// Requests of one connection that a stage left unsent, counted one by one; more are counted in so many groups, whose ages are
/// wrong by less than a ten-thousandth of the stage. At 50 ns each this is a millisecond for each connection: a rate far beyond
/// reach (`--rate 10M/s` for a minute leaves half a thousand million) must not keep the loop from ending the stage.
const UNSENT_STEPS_MAX: u64 = 1 << 14;

/// A slow sender writes so often, if its rate is a byte at least in that time.
const DRIP_EVERY: Duration = Duration::from_millis(20);

/// Enough for the first line of an HTTP response.
const WRONG_SHOWN_BYTES: usize = 40;

const ETIMEDOUT: i32 = 110;

#[cfg(test)]
mod tests;
