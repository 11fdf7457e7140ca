//! The one resident of a loop that has no connection: it hands over what was recorded, and passes on orders.

use super::client::Note;
use super::orders::Phase;
use super::shared::Shared;
use crate::tally::Interval;
use crossbeam_channel::{Receiver, Sender, TrySendError};
use polyloop::Ctx;
use polyloop_sys::ThreadClock;
use polyloop_sys::clock::monotonic_ns;
use std::rc::Rc;

use super::Resident;

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Clerk {
    shared: Rc<Shared>,
    loop_index: usize,
    to_collector: Sender<Interval>,
    /// Intervals that the collector has emptied: their pages are there already, where new ones would be faulted in, a
    /// fifth of a millisecond in the middle of sending.
    recycled: Receiver<Interval>,
    clock: ThreadClock,
    cpu_ns: u64,
    busy_ns: u64,
    next_ns: u64,
    /// The clients are counting what they owe to the stage.
    is_settling: bool,
}

impl Clerk {
    pub(crate) fn new(
        shared: Rc<Shared>,
        loop_index: usize,
        to_collector: Sender<Interval>,
        recycled: Receiver<Interval>,
    ) -> Self {
        Self {
            shared,
            loop_index,
            to_collector,
            recycled,
            clock: ThreadClock::current(),
            cpu_ns: 0,
            busy_ns: 0,
            next_ns: 0,
            is_settling: false,
        }
    }

    /// Sets the next look; they are at multiples of the interval on every loop.
    pub(crate) fn arm(&mut self, cx: &mut Ctx<'_, Resident>) {
        let every_ns = self.shared.plan.interval_ns;
        self.next_ns = (monotonic_ns() / every_ns + 1) * every_ns;
        // This resident never has more than one.
        let _ = cx.set_alarm(self.next_ns);
    }

    pub(crate) fn on_alarm(&mut self, cx: &mut Ctx<'_, Resident>) {
        self.look(cx);
        self.arm(cx);
    }

    fn look(&mut self, cx: &mut Ctx<'_, Resident>) {
        let Some(order) = self.shared.news() else {
            if !self.is_settling {
                self.hand_over(cx);
            }
            return;
        };
        if order.phase == Phase::Closed {
            // Each client counts what it still owes to the stage, which is then handed over below its number.
            self.is_settling = true;
            self.tell_all(cx, Note::Settle(order));
            self.shared.obey(order);
            return;
        }
        self.hand_over(cx);
        let is_same_stage = order.stage == self.shared.order().stage;
        self.shared.obey(order);
        if is_same_stage {
            // Only its end has moved: the plans of the clients hold as far as it.
            return;
        }
        let stage = order.stage;
        self.shared.record(|interval| interval.stage = stage);
        self.tell_all(cx, Note::Begin);
    }

    fn tell_all(&self, cx: &mut Ctx<'_, Resident>, note: Note) {
        for &client in self.shared.clients.borrow().iter() {
            // Inboxes hold a note for each client, and one stage is told of after another.
            let _ = cx.send(client, note);
        }
        // Behind all of them, so that what they say is in the interval that it asks for.
        let _ = cx.send(cx.this(), Note::HandOver);
    }

    /// Gives the collector what was recorded since the last time. If it is behind, the interval goes on: nothing is lost.
    pub(crate) fn hand_over(&mut self, cx: &Ctx<'_, Resident>) {
        let now_ns = monotonic_ns();
        let cpu_ns = self.clock.cpu_time_ns().unwrap_or(self.cpu_ns);
        let used_ns = cpu_ns.saturating_sub(self.cpu_ns);
        let busy_ns = cx.boards()[self.loop_index].numbers.busy_ns.value();
        // A turn that lost its processor was not at work all the time that it took.
        let worked_ns = busy_ns.saturating_sub(self.busy_ns).min(used_ns);
        let stage = self.shared.order().stage;
        let mut next = self
            .recycled
            .try_recv()
            .unwrap_or_else(|_| Interval::new(stage, self.loop_index, now_ns));
        next.begin(stage, self.loop_index, now_ns);
        let mut full = self.shared.swap(next);
        full.until_ns = now_ns;
        full.cpu_ns += used_ns;
        full.busy_ns += worked_ns;
        full.open = self.shared.open.get();
        full.outstanding = self.shared.outstanding.get();
        // One that was kept, as the collector was behind, may be the last already.
        full.is_last |= std::mem::take(&mut self.is_settling);
        self.cpu_ns = cpu_ns;
        self.busy_ns = busy_ns;
        match self.to_collector.try_send(full) {
            Ok(()) | Err(TrySendError::Disconnected(_)) => {}
            Err(TrySendError::Full(kept)) => {
                self.shared.swap(kept);
            }
        }
    }
}
