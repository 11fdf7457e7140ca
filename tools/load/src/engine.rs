//! The loops that carry the load, and the way in and out of them.
//!
//! ```text
//!   director ── orders ──> clerk of each loop ── notes ──> clients
//!       ^                        │
//!       └── intervals ───────────┘   (bounded; given back empty, to be filled again)
//! ```
//!
//! Each loop of the library has one clerk and its share of the clients, all residents: nothing here listens. The probe's clients
//! have the last loop for themselves, so that what they see is the server's lateness and not that of a busy generator.

pub(crate) mod clerk;
pub(crate) mod client;
pub mod orders;
pub mod plan;
pub(crate) mod shared;
pub(crate) mod talk;
mod wakes;

pub use orders::{Order, Orders, Pace, Phase};
pub use plan::{Churn, Plan, Workload};

use crate::tally::Interval;
use clerk::Clerk;
use client::{Client, Note};
use crossbeam_channel::{Receiver, Sender, bounded};
use polyloop::{
    Accepted, Ctx, Ended, Factory, Handler, Input, LoopInfo, Running, Server, ServerSettings,
    StartError, TimerKey, Verdict,
};
use polyloop_sys::clock::monotonic_ns;
use shared::Shared;
use std::io;
use std::rc::Rc;
use std::sync::Arc;

/// A running load.
#[derive(Debug)]
pub struct Engine {
    running: Running,
    orders: Arc<Orders>,
    intervals: Receiver<Interval>,
    recycle: Sender<Interval>,
}

/// Intervals that may wait for the collector, for each loop: when it is this far behind, loops add to the one they have.
const INTERVALS_PER_LOOP: usize = 16;

impl Engine {
    /// Starts the loops, which begin to connect. They send when they are ordered to.
    ///
    /// # Errors
    /// What keeps the library from starting: cores that are not there, no descriptors.
    pub fn start(plan: Arc<Plan>, mut settings: ServerSettings) -> Result<Self, StartError> {
        let loops = plan.loops + usize::from(plan.probe_connections > 0);
        let per_loop = plan.connections.div_ceil(plan.loops as u64) as usize;
        // A note for each client, and one more round of them.
        settings.messages_max = per_loop
            .max(plan.probe_connections as usize)
            .saturating_mul(2)
            .saturating_add(MESSAGES_SPARE);
        let (to_collector, intervals) = bounded(loops * INTERVALS_PER_LOOP);
        let (recycle, recycled) = bounded(loops * INTERVALS_PER_LOOP);
        let orders = Arc::new(Orders::new());
        let shared_orders = Arc::clone(&orders);
        let running = Server::with_factories(move |info: LoopInfo| Crew {
            plan: Arc::clone(&plan),
            orders: Arc::clone(&shared_orders),
            loop_index: info.index,
            to_collector: to_collector.clone(),
            recycled: recycled.clone(),
        })
        .settings(settings)
        .without_listeners()
        .start()?;
        Ok(Self {
            running,
            orders,
            intervals,
            recycle,
        })
    }

    /// What the loops are told.
    #[must_use]
    pub const fn orders(&self) -> &Arc<Orders> {
        &self.orders
    }

    /// What the loops recorded, as they hand it over.
    #[must_use]
    pub const fn intervals(&self) -> &Receiver<Interval> {
        &self.intervals
    }

    /// Gives an interval back that has been added up.
    pub fn recycle(&self, interval: Interval) {
        // With enough of them on their way one is dropped.
        let _ = self.recycle.try_send(interval);
    }

    /// Closes every connection and ends the loops.
    #[must_use]
    pub fn stop(self) -> Ended {
        self.running.stop();
        self.running.join()
    }
}

/// Messages besides those to clients.
const MESSAGES_SPARE: usize = 1024;

/// Makes the residents of one loop.
#[derive(Debug)]
struct Crew {
    plan: Arc<Plan>,
    orders: Arc<Orders>,
    loop_index: usize,
    to_collector: Sender<Interval>,
    recycled: Receiver<Interval>,
}

impl Factory for Crew {
    type Handler = Resident;

    fn make(&mut self, _: Accepted) -> Resident {
        unreachable!("a load generator listens to nobody")
    }

    fn residents(&mut self, loop_index: usize) -> Vec<Resident> {
        let plan = &self.plan;
        let shared = Rc::new(Shared::new(
            Arc::clone(plan),
            Arc::clone(&self.orders),
            self.loop_index,
            monotonic_ns(),
        ));
        let clerk = Clerk::new(
            Rc::clone(&shared),
            loop_index,
            self.to_collector.clone(),
            self.recycled.clone(),
        );
        let is_probe = loop_index >= plan.loops;
        let indices: Box<dyn Iterator<Item = u64>> = if is_probe {
            Box::new(plan.connections..plan.connections + plan.probe_connections)
        } else {
            Box::new((loop_index as u64..plan.connections).step_by(plan.loops))
        };
        let clients =
            indices.map(|index| Resident::Client(Client::new(Rc::clone(&shared), index, is_probe)));
        std::iter::once(Resident::Clerk(clerk))
            .chain(clients)
            .collect()
    }
}

/// Who lives on a loop.
#[derive(Debug)]
pub(crate) enum Resident {
    Clerk(Clerk),
    Client(Client),
}

impl Handler for Resident {
    type Message = Note;

    const NAMES: &'static [&'static str] = &["clerk", "client"];

    fn name_index(&self) -> usize {
        match self {
            Self::Clerk(_) => 0,
            Self::Client(_) => 1,
        }
    }

    fn on_open(&mut self, cx: &mut Ctx<'_, Self>) -> Verdict {
        match self {
            Self::Clerk(clerk) => clerk.arm(cx),
            Self::Client(client) => client.on_open(cx),
        }
        Verdict::Continue
    }

    fn on_alarm(&mut self, cx: &mut Ctx<'_, Self>, at_ns: u64) -> Verdict {
        match self {
            Self::Clerk(clerk) => clerk.on_alarm(cx),
            Self::Client(client) => client.on_alarm(cx, at_ns),
        }
        Verdict::Continue
    }

    fn on_message(&mut self, cx: &mut Ctx<'_, Self>, note: Note) -> Verdict {
        match (self, note) {
            (Self::Clerk(clerk), Note::HandOver) => clerk.hand_over(cx),
            (Self::Clerk(_), _) => {}
            (Self::Client(client), note) => client.on_note(cx, note),
        }
        Verdict::Continue
    }

    fn on_connected(&mut self, cx: &mut Ctx<'_, Self>) -> Verdict {
        if let Self::Client(client) = self {
            client.on_connected(cx);
        }
        Verdict::Continue
    }

    fn on_connect_failed(&mut self, cx: &mut Ctx<'_, Self>, error: io::Error) -> Verdict {
        if let Self::Client(client) = self {
            client.on_connect_failed(cx, &error);
        }
        Verdict::Continue
    }

    fn on_data(&mut self, cx: &mut Ctx<'_, Self>, input: &mut Input<'_>) -> Verdict {
        let bytes = input.take_all();
        if let Self::Client(client) = self {
            client.on_data(cx, bytes);
        }
        Verdict::Continue
    }

    fn on_writable(&mut self, cx: &mut Ctx<'_, Self>) -> Verdict {
        if let Self::Client(client) = self {
            client.on_writable(cx);
        }
        Verdict::Continue
    }

    fn on_finished(&mut self, cx: &mut Ctx<'_, Self>) -> Verdict {
        if let Self::Client(client) = self {
            client.on_finished(cx);
        }
        Verdict::Continue
    }

    fn on_timer(&mut self, cx: &mut Ctx<'_, Self>, timer: TimerKey) -> Verdict {
        if let Self::Client(client) = self {
            client.on_timer(cx, timer);
        }
        Verdict::Continue
    }
}
