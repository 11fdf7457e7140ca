//! What all handlers of a loop share: time, timers, kept bytes, the way to other loops and to the pools.
//!
//! The hub knows neither sockets nor the driver, so that a handler's context need not either: what must be done to
//! a socket is recorded here and done by the dispatcher when the callback has returned.

use crate::blocks::Blocks;
use crate::ctx::{ConnRef, PoolFull, SendError, TIMERS_PER_SESSION_MAX};
use crate::dispatcher::session::{NO_TIMERS, SessionFlags, SessionState};
use crate::handler::Handler;
use crate::inbox::Sender;
use crate::jobs::{Finished, JobReturn, Offload};
use crate::offload::{JobId, PoolId};
use crate::outbox::Outbox;
use crate::telemetry::LoopBoard;
use polyloop_core::slots::Key;
use polyloop_core::wheel::{TimerKey, Wheel};
use polyloop_sys::dial::Dial;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// A message on its way to a session of a loop.
#[derive(Debug)]
pub(crate) struct Mail<M> {
    pub(crate) to: Key,
    /// Loop time of sending, for the wait histogram; 0 when it came from outside the loops.
    pub(crate) sent_ns: u64,
    pub(crate) message: M,
}

/// Sends messages to the connections of a server, from any thread. A handler gets it from
/// [`Ctx::mailer`](crate::Ctx::mailer) and may give it away.
pub struct Mailer<M> {
    senders: Arc<[Sender<Mail<M>>]>,
}

impl<M> Clone for Mailer<M> {
    fn clone(&self) -> Self {
        Self {
            senders: Arc::clone(&self.senders),
        }
    }
}

impl<M> fmt::Debug for Mailer<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mailer")
            .field("loops", &self.senders.len())
            .finish()
    }
}

impl<M: Send> Mailer<M> {
    /// A mailer over the loops' inboxes, in the loops' order.
    pub(crate) fn new(senders: Vec<Sender<Mail<M>>>) -> Self {
        Self {
            senders: senders.into(),
        }
    }

    /// How many loops there are.
    pub(crate) fn loops(&self) -> usize {
        self.senders.len()
    }

    /// Sends a message to a connection, wherever it lives. One for a connection that is gone is dropped and counted there.
    ///
    /// # Errors
    /// That loop's inbox is full (counted as `messages_refused` of that loop), or the loop has ended.
    pub fn send(&self, to: ConnRef, message: M) -> Result<(), SendError<M>> {
        self.post(to, 0, message)
    }

    /// Messages that found an inbox full, by all senders, within and without the loops.
    pub(crate) fn refused(&self, loop_index: usize) -> u64 {
        self.senders[loop_index].refused()
    }

    fn post(&self, to: ConnRef, sent_ns: u64, message: M) -> Result<(), SendError<M>> {
        let Some(sender) = self.senders.get(to.loop_index as usize) else {
            return Err(SendError::Closed(message));
        };
        let mail = Mail {
            to: to.key,
            sent_ns,
            message,
        };
        match sender.send(mail) {
            // Dropped messages owe nothing to anybody.
            Ok(_) => Ok(()),
            Err(crate::inbox::SendError::Full(mail)) => Err(SendError::Full(mail.message)),
            Err(crate::inbox::SendError::Closed(mail)) => Err(SendError::Closed(mail.message)),
        }
    }
}

/// See the module's documentation.
pub(crate) struct Hub<H: Handler> {
    pub(crate) index: usize,
    pub(crate) now_ns: u64,
    pub(crate) wheel: Wheel<Key>,
    pub(crate) blocks: Blocks,
    pub(crate) outbox: Outbox,
    pub(crate) output_high_bytes: usize,
    pub(crate) linger_ms: u32,
    pub(crate) mailer: Mailer<H::Message>,
    pub(crate) boards: Arc<[Arc<LoopBoard>]>,
    pub(crate) board: Arc<LoopBoard>,
    pub(crate) offload: Arc<dyn Offload>,
    pub(crate) results: Sender<Finished<H::Message>>,
    /// Results that the loop's inbox has room for: as many jobs may be on their way at once.
    pub(crate) jobs_pending_max: u64,
    /// Where the handler of this callback asked to connect to.
    pub(crate) connect: Option<Dial>,
    /// Whether it asked to close its back side first.
    pub(crate) disconnects: bool,
    pub(crate) jobs: u64,
    pub(crate) jobs_pending: u64,
    /// The handlers' timers, one list for each session that has ever set one.
    pub(crate) timer_lists: Vec<Vec<TimerKey>>,
    pub(crate) timer_lists_free: Vec<u32>,
}

impl<H: Handler> fmt::Debug for Hub<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub")
            .field("index", &self.index)
            .field("now_ns", &self.now_ns)
            .finish_non_exhaustive()
    }
}

impl<H: Handler> Hub<H> {
    /// The wheel's tick that has begun: whole milliseconds, rounded down.
    #[inline]
    pub(crate) const fn now_ms(&self) -> u64 {
        self.now_ns / NS_PER_MS
    }

    /// The first tick at which `after` has passed: rounded up, so that nothing fires early.
    fn tick_after(&self, after: Duration) -> u64 {
        let after_ns = u64::try_from(after.as_nanos()).unwrap_or(u64::MAX);
        self.now_ns.saturating_add(after_ns).div_ceil(NS_PER_MS)
    }

    /// Arms, moves or cancels a session's own deadline: idle, or linger once it is ending.
    ///
    /// Idle deadlines are lazy: activity is one store, and the timer looks at it when it fires.
    pub(crate) fn arm_deadline(&mut self, key: Key, state: &mut SessionState) {
        let is_ending = state.flags.has(SessionFlags::ENDING);
        let millis = if is_ending {
            self.linger_ms
        } else {
            state.idle_ms
        };
        if let Some(timer) = state.deadline.take() {
            self.wheel.cancel(timer);
        }
        if millis > 0 {
            let tick = self.now_ms() + 1 + u64::from(millis);
            // The wheel is as large as the slots allow; without a timer the session still ends by itself.
            state.deadline = self.wheel.arm(tick, key).ok();
        }
    }

    pub(crate) fn set_timer(
        &mut self,
        key: Key,
        state: &mut SessionState,
        after: Duration,
    ) -> Option<TimerKey> {
        if state.timers == NO_TIMERS {
            state.timers = self.timer_lists_free.pop().unwrap_or_else(|| {
                self.timer_lists.push(Vec::new());
                (self.timer_lists.len() - 1) as u32
            });
        }
        let tick = self.tick_after(after);
        let list = &mut self.timer_lists[state.timers as usize];
        if list.len() >= TIMERS_PER_SESSION_MAX {
            return None;
        }
        let timer = self.wheel.arm(tick, key).ok()?;
        if list.capacity() == 0 {
            // Most set one or two, and four times as many would be the least that a list grows to.
            list.reserve_exact(2);
        }
        list.push(timer);
        Some(timer)
    }

    /// Cancels a timer of a session; whether it was there.
    pub(crate) fn cancel_timer(&mut self, state: &mut SessionState, timer: TimerKey) -> bool {
        let is_known = self.forget_timer(state, timer);
        if is_known {
            self.wheel.cancel(timer);
        }
        is_known
    }

    /// Takes a timer out of its session's list; whether it was there.
    ///
    /// An empty list goes to whoever sets a timer next: sessions that had one for a moment only are many, and idle ones
    /// would hold a list each.
    pub(crate) fn forget_timer(&mut self, state: &mut SessionState, timer: TimerKey) -> bool {
        // There is none at the index that stands for no list.
        let Some(list) = self.timer_lists.get_mut(state.timers as usize) else {
            return false;
        };
        let Some(at) = list.iter().position(|&known| known == timer) else {
            return false;
        };
        list.swap_remove(at);
        if list.is_empty() {
            self.timer_lists_free.push(state.timers);
            state.timers = NO_TIMERS;
        }
        true
    }

    /// Cancels everything that a session which is closing has armed.
    pub(crate) fn cancel_all(&mut self, state: &mut SessionState) {
        if let Some(timer) = state.deadline.take() {
            self.wheel.cancel(timer);
        }
        if state.timers != NO_TIMERS {
            for timer in self.timer_lists[state.timers as usize].drain(..) {
                self.wheel.cancel(timer);
            }
            self.timer_lists_free.push(state.timers);
            state.timers = NO_TIMERS;
        }
    }

    pub(crate) fn send(
        &self,
        to: ConnRef,
        message: H::Message,
    ) -> Result<(), SendError<H::Message>> {
        self.mailer.post(to, self.now_ns, message)
    }

    pub(crate) fn offload(
        &mut self,
        to: Key,
        pool: PoolId,
        job: impl FnOnce() -> H::Message + Send + 'static,
    ) -> Result<JobId, PoolFull> {
        if self.jobs_pending >= self.jobs_pending_max {
            // Pools may be faster than this loop takes results: one more might find no room, and be lost.
            self.board.numbers.offload_refused.add(1);
            return Err(PoolFull);
        }
        let id = JobId(self.jobs);
        let mut result = JobReturn::new(self.results.clone(), to, id);
        let submitted = self.offload.submit(pool, Box::new(move || result.run(job)));
        if submitted.is_err() {
            self.board.numbers.offload_refused.add(1);
            return Err(PoolFull);
        }
        self.jobs += 1;
        self.jobs_pending += 1;
        self.board.numbers.offloaded.add(1);
        Ok(id)
    }
}

/// Nanoseconds in a tick.
pub(crate) const NS_PER_MS: u64 = 1_000_000;
