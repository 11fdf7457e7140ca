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
//! completed or as unanswered, or is still outstanding.

use super::Resident;
use super::orders::{Order, Pace};
use super::shared::Shared;
use super::talk::{Fed, Talk};
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
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Link {
    /// To be dialled at this time; `u64::MAX` when a request says so.
    Down {
        dial_at_ns: u64,
    },
    /// Dialled, for a request planned at a time, if it is one of churn.
    Dialling {
        since_ns: u64,
    },
    Up,
    /// Our FIN is out, the server's is waited for.
    Leaving,
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Client {
    shared: Rc<Shared>,
    /// Its number among the connections of the run.
    index: u64,
    is_probe: bool,
    link: Link,
    talk: Talk,
    arrivals: Arrivals,
    sent: VecDeque<Sent>,
    /// Since when it could have sent.
    free_since_ns: u64,
    /// The alarm that counts; others are ignored.
    alarm_ns: u64,
    deadline: Option<TimerKey>,
    reading_again: Option<TimerKey>,
    /// The rest of a request that is written slowly: where it goes on, and the timer that says when.
    drip: Option<(usize, TimerKey)>,
    failures: u32,
}

impl Client {
    pub(crate) fn new(shared: Rc<Shared>, index: u64, is_probe: bool) -> Self {
        let plan = &shared.plan;
        let dial_at_ns = if plan.churn.is_some() {
            u64::MAX
        } else {
            plan.dial_at_ns(index)
        };
        let talk = Talk::new(plan);
        Self {
            link: Link::Down { dial_at_ns },
            talk,
            arrivals: plan.arrivals(index, is_probe, Order::SILENCE, 1.0),
            shared,
            index,
            is_probe,
            sent: VecDeque::new(),
            free_since_ns: 0,
            alarm_ns: u64::MAX,
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
                if let Pace::Open { rate_per_s } = order.pace {
                    self.arrivals =
                        self.shared
                            .plan
                            .arrivals(self.index, self.is_probe, order, rate_per_s);
                }
                self.go_on(cx);
            }
            Note::Settle(order) => self.settle(order),
            Note::HandOver => {}
        }
    }

    pub(crate) fn on_alarm(&mut self, cx: &mut Ctx<'_, Resident>, at_ns: u64) {
        if at_ns == self.alarm_ns {
            self.alarm_ns = u64::MAX;
            self.go_on(cx);
        }
    }

    /// Does what is due now, and sees to it that somebody comes when the next thing is.
    fn go_on(&mut self, cx: &mut Ctx<'_, Resident>) {
        let now_ns = monotonic_ns();
        match self.link {
            Link::Down { dial_at_ns } => {
                let due_ns = match self.next_planned_ns(now_ns) {
                    Some(planned_ns) if self.churns() => {
                        planned_ns.max(dial_at_ns_or_now(dial_at_ns))
                    }
                    _ => dial_at_ns,
                };
                if due_ns <= now_ns {
                    self.dial(cx, now_ns);
                } else if due_ns < u64::MAX {
                    self.wake_at(cx, due_ns);
                }
            }
            Link::Up => self.send_due(cx, now_ns),
            Link::Dialling { .. } | Link::Leaving => {}
        }
    }

    const fn churns(&self) -> bool {
        self.talk.churns()
    }

    /// Whether a connection of churn has sent all of its requests.
    fn has_asked_all(&self) -> bool {
        let churn = self.shared.plan.churn;
        churn.is_some_and(|churn| self.talk.asked() >= churn.requests)
    }

    /// When the next request is planned, if there is one in this stage.
    fn next_planned_ns(&self, now_ns: u64) -> Option<u64> {
        let order = self.shared.order();
        let planned_ns = match order.pace {
            Pace::Open { .. } => self.arrivals.peek_ns(),
            Pace::Closed => now_ns.max(order.begins_ns),
            Pace::Silent => return None,
        };
        (planned_ns < order.ends_ns).then_some(planned_ns)
    }

    fn wake_at(&mut self, cx: &mut Ctx<'_, Resident>, at_ns: u64) {
        if self.alarm_ns != at_ns && cx.set_alarm(at_ns) {
            self.alarm_ns = at_ns;
        }
    }

    fn dial(&mut self, cx: &mut Ctx<'_, Resident>, now_ns: u64) {
        self.link = Link::Dialling { since_ns: now_ns };
        self.shared.record(|interval| interval.counts.connects += 1);
        self.free_since_ns = now_ns;
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
        if !self.churns() {
            self.free_since_ns = now_ns;
        }
        self.send_due(cx, now_ns);
    }

    /// Sends what is planned and due, as long as there is room on the connection.
    fn send_due(&mut self, cx: &mut Ctx<'_, Resident>, now_ns: u64) {
        if let Talk::Up { chunk } | Talk::Flood { chunk } = self.talk {
            self.flood(cx, chunk);
            return;
        }
        if matches!(self.talk, Talk::Down) {
            return;
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
            self.arrivals.advance();
            self.send(cx, planned_ns, now_ns);
        }
    }

    fn send(&mut self, cx: &mut Ctx<'_, Resident>, planned_ns: u64, now_ns: u64) {
        let plan = &self.shared.plan;
        let bytes = self.talk.next_request(plan, self.index);
        let len = bytes.len() as u64;
        if plan.write_bytes_per_s.is_none() {
            // What the kernel does not take is kept by the loop; the room was looked at before.
            let _ = cx.write_to(Side::Back, bytes);
        } else {
            self.write_slowly(cx, 0);
        }
        self.sent.push_back(Sent {
            planned_ns,
            sent_ns: now_ns,
        });
        self.shared
            .outstanding
            .set(self.shared.outstanding.get() + 1);
        if self.deadline.is_none() {
            self.arm_deadline(cx);
        }
        if !self.shared.order().counts(planned_ns) {
            return;
        }
        let free_ns = planned_ns.max(self.free_since_ns);
        self.shared.record(|interval| {
            interval.counts.offered += 1;
            interval.counts.sent += 1;
            interval.counts.bytes_out += len;
            interval
                .lag
                .saturating_record(now_ns.saturating_sub(planned_ns).max(1));
            interval
                .own_lag
                .saturating_record(now_ns.saturating_sub(free_ns).max(1));
        });
    }

    /// Writes a piece of a request, and comes back for the rest.
    fn write_slowly(&mut self, cx: &mut Ctx<'_, Resident>, from: usize) {
        let plan = &self.shared.plan;
        let bytes = self.talk.last_request(plan, self.index);
        let rate = plan.write_bytes_per_s.unwrap_or(f64::INFINITY);
        let piece = ((rate * DRIP_EVERY.as_secs_f64()) as usize).max(1);
        let until = bytes.len().min(from + piece);
        let _ = cx.write_to(Side::Back, &bytes[from..until]);
        let after = Duration::from_secs_f64((until - from) as f64 / rate);
        self.drip = (until < bytes.len())
            .then(|| cx.set_timer(after))
            .flatten()
            .map(|timer| (until, timer));
    }

    /// Writes as long as the connection takes it.
    fn flood(&mut self, cx: &mut Ctx<'_, Resident>, chunk: usize) {
        let order = self.shared.order();
        if order.pace == Pace::Silent {
            return;
        }
        let mut bytes_out = 0;
        let bytes = self.shared.plan.pattern.slice(self.index, 0, chunk);
        while cx.room(Side::Back) == Room::Open {
            let _ = cx.write_to(Side::Back, bytes);
            bytes_out += chunk as u64;
        }
        self.shared
            .record(|interval| interval.counts.bytes_out += bytes_out);
    }

    pub(crate) fn on_writable(&mut self, cx: &mut Ctx<'_, Resident>) {
        self.send_due(cx, monotonic_ns());
    }

    pub(crate) fn on_data(&mut self, cx: &mut Ctx<'_, Resident>, mut bytes: &[u8]) {
        let now_ns = monotonic_ns();
        let len = bytes.len();
        self.shared
            .record(|interval| interval.counts.bytes_in += len as u64);
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
                Fed::Wrong => {
                    self.fail(cx, Fault::Garbage, now_ns);
                    return;
                }
            }
        }
        if self.sent.is_empty() && self.has_asked_all() {
            self.leave(cx);
            return;
        }
        self.slow_down(cx, len);
        self.send_due(cx, now_ns);
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
        if !shared.order().counts(sent.planned_ns) {
            return;
        }
        let latency_ns = now_ns.saturating_sub(sent.planned_ns).max(1);
        let is_probe = self.is_probe;
        shared.record(|interval| {
            if is_probe {
                interval.probe.saturating_record(latency_ns);
                interval.counts.probed += 1;
                return;
            }
            interval.counts.completed += 1;
            interval.latency.saturating_record(latency_ns);
            interval
                .uncorrected
                .saturating_record(now_ns.saturating_sub(sent.sent_ns).max(1));
        });
    }

    /// Reads no more until the bytes that have come were due at the rate that was asked for.
    fn slow_down(&mut self, cx: &mut Ctx<'_, Resident>, len: usize) {
        let Some(read_rate) = self.shared.plan.read_bytes_per_s else {
            return;
        };
        let after = Duration::from_secs_f64(len as f64 / read_rate);
        self.reading_again = cx.set_timer(after);
        if self.reading_again.is_some() {
            cx.pause(Side::Back);
        }
    }

    /// Ends a connection that has had its requests.
    fn leave(&mut self, cx: &mut Ctx<'_, Resident>) {
        self.shared.record(|interval| interval.counts.closed += 1);
        if self.shared.plan.churn.is_some_and(|churn| churn.resets) {
            self.hang_up(cx, u64::MAX);
            self.go_on(cx);
        } else {
            cx.finish(Side::Back);
            self.link = Link::Leaving;
        }
    }

    pub(crate) fn on_finished(&mut self, cx: &mut Ctx<'_, Resident>) {
        if self.link == Link::Leaving {
            // Both halves are over: nothing is reset by this.
            self.hang_up(cx, u64::MAX);
            self.go_on(cx);
        } else if self.talk.is_stream() {
            self.hang_up(cx, monotonic_ns());
            self.go_on(cx);
        } else {
            self.fail(cx, Fault::Finished, monotonic_ns());
        }
    }

    pub(crate) fn on_connect_failed(&mut self, cx: &mut Ctx<'_, Resident>, error: &io::Error) {
        let errno = error.raw_os_error().unwrap_or(0);
        let fault = match self.link {
            Link::Dialling { .. } => Fault::Connect(errno),
            Link::Leaving => {
                self.hang_up(cx, u64::MAX);
                self.go_on(cx);
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
            self.write_slowly(cx, from);
            self.send_due(cx, monotonic_ns());
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
            Link::Dialling { since_ns } => Some(since_ns),
            Link::Up => self.sent.front().map(|sent| sent.sent_ns),
            Link::Leaving => Some(0),
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
        self.give_up_sent(self.shared.order(), now_ns);
        self.failures = self.failures.saturating_add(1);
        let pause_ns = PAUSE_NS << (self.failures - 1).min(PAUSE_DOUBLINGS_MAX);
        self.hang_up(cx, now_ns + pause_ns);
        self.go_on(cx);
    }

    fn hang_up(&mut self, cx: &mut Ctx<'_, Resident>, dial_at_ns: u64) {
        if matches!(self.link, Link::Up | Link::Leaving) {
            self.shared.closed();
        }
        cx.disconnect();
        self.talk.begin_again();
        self.alarm_ns = u64::MAX;
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
    fn give_up_sent(&mut self, order: Order, now_ns: u64) {
        let shared = &self.shared;
        for sent in self.sent.drain(..) {
            shared
                .outstanding
                .set(shared.outstanding.get().saturating_sub(1));
            if (order.begins_ns..order.ends_ns).contains(&sent.planned_ns) {
                record_unanswered(shared, self.is_probe, sent, now_ns);
            }
        }
    }

    /// The stage is over: what it still owes is counted with its age, which is the least that its latency can be.
    fn settle(&mut self, order: Order) {
        let now_ns = monotonic_ns();
        for sent in &self.sent {
            if (order.begins_ns..order.ends_ns).contains(&sent.planned_ns) {
                record_unanswered(&self.shared, self.is_probe, *sent, now_ns);
            }
        }
        if !matches!(order.pace, Pace::Open { .. }) {
            return;
        }
        let until_ns = order.ends_ns.min(now_ns);
        for _ in 0..UNSENT_MAX {
            let planned_ns = self.arrivals.peek_ns();
            if planned_ns >= until_ns {
                break;
            }
            self.arrivals.advance();
            let age_ns = (now_ns - planned_ns).clamp(1, LONGEST_NS);
            self.shared.record(|interval| {
                interval.counts.offered += 1;
                interval.counts.unsent += 1;
                interval.latency.saturating_record(age_ns);
            });
        }
    }
}

fn record_unanswered(shared: &Shared, is_probe: bool, sent: Sent, now_ns: u64) {
    shared.record(|interval| {
        interval.counts.unanswered += 1;
        let planned = now_ns.saturating_sub(sent.planned_ns).max(1);
        if is_probe {
            interval.probe.saturating_record(planned);
            return;
        }
        interval.latency.saturating_record(planned);
        interval
            .uncorrected
            .saturating_record(now_ns.saturating_sub(sent.sent_ns).max(1));
    });
}

const fn dial_at_ns_or_now(dial_at_ns: u64) -> u64 {
    if dial_at_ns == u64::MAX {
        0
    } else {
        dial_at_ns
    }
}

/// The first pause before a connection that failed is dialled again; it doubles with each failure, up to 6.4 s.
const PAUSE_NS: u64 = 100_000_000;
const PAUSE_DOUBLINGS_MAX: u32 = 6;

/// Requests of one connection that a stage left unsent and that are counted one by one; a plan that leaves more than a million
/// has long said what there is to say.
const UNSENT_MAX: usize = 1 << 20;

/// A slow sender writes so often, if its rate is a byte at least in that time.
const DRIP_EVERY: Duration = Duration::from_millis(20);

const ETIMEDOUT: i32 = 110;
