//! What all handlers of a loop share: time, timers, kept bytes, the way to other loops and to the pools.
//!
//! The hub knows neither sockets nor the driver, so that a handler's context need not either: what must be done to
//! a socket is recorded here and done by the dispatcher when the callback has returned.

use crate::alarms::Alarms;
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

/// The timers that handlers have set, a list for each session that has some.
///
/// All lists are chained through one vector, as most have one or two members: a vector for each would cost an idle session
/// more than its timers do. A list is known by its first place, [`NO_TIMERS`] if it is empty.
///
/// The vector grows by an eighth: doubling would hold nearly twice what is needed when it has just been done.
#[derive(Debug)]
pub(crate) struct TimerLists {
    nodes: Vec<TimerNode>,
    free: u32,
}

#[derive(Debug, Clone, Copy)]
struct TimerNode {
    timer: TimerKey,
    next: u32,
}

impl Default for TimerLists {
    fn default() -> Self {
        Self {
            nodes: Vec::new(),
            free: NO_TIMERS,
        }
    }
}

impl TimerLists {
    fn iter(&self, list: u32) -> impl Iterator<Item = TimerKey> {
        // There is no node at the place that stands for none.
        std::iter::successors(self.nodes.get(list as usize), |node| {
            self.nodes.get(node.next as usize)
        })
        .map(|node| node.timer)
    }

    /// The list with one more in front.
    fn insert(&mut self, list: u32, timer: TimerKey) -> u32 {
        let node = TimerNode { timer, next: list };
        if self.free == NO_TIMERS {
            if self.nodes.len() == self.nodes.capacity() {
                let more = (self.nodes.len() / 8).max(TIMER_LISTS_GROWTH_MIN);
                self.nodes.reserve_exact(more);
            }
            self.nodes.push(node);
            // The wheel has as many timers at most, and counts them in as many bits.
            return (self.nodes.len() - 1) as u32;
        }
        let at = self.free;
        self.free = self.nodes[at as usize].next;
        self.nodes[at as usize] = node;
        at
    }

    fn remove(&mut self, list: &mut u32, timer: TimerKey) -> bool {
        let (mut before, mut at) = (NO_TIMERS, *list);
        while let Some(&node) = self.nodes.get(at as usize) {
            if node.timer == timer {
                match self.nodes.get_mut(before as usize) {
                    Some(before) => before.next = node.next,
                    None => *list = node.next,
                }
                self.nodes[at as usize].next = self.free;
                self.free = at;
                return true;
            }
            (before, at) = (at, node.next);
        }
        false
    }

    fn clear(&mut self, list: &mut u32) {
        while let Some(node) = self.nodes.get_mut(*list as usize) {
            let next = std::mem::replace(&mut node.next, self.free);
            self.free = std::mem::replace(list, next);
        }
    }
}

/// See the module's documentation.
pub(crate) struct Hub<H: Handler> {
    pub(crate) index: usize,
    pub(crate) now_ns: u64,
    pub(crate) wheel: Wheel<Key>,
    pub(crate) alarms: Alarms,
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
    /// Whether it will pass on what the front has said, as soon as that connection stands.
    pub(crate) forwards: bool,
    /// Whether it asked to close its back side first.
    pub(crate) disconnects: bool,
    pub(crate) jobs: u64,
    pub(crate) jobs_pending: u64,
    /// The handlers' timers, one list for each session that has ever set one.
    pub(crate) timers: TimerLists,
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
    /// Idle deadlines are lazy: activity is one store, and the timer looks at it when it fires. That of a young session comes
    /// when it has grown up, counted from here, if it is not due before.
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
        let mut tick = match millis {
            0 => u64::MAX,
            millis => self.now_ms() + 1 + u64::from(millis),
        };
        if state.flags.has(SessionFlags::YOUNG) && !is_ending {
            tick = tick.min((self.now_ms() + YOUNG_MS).next_multiple_of(YOUNG_STEP_MS));
        }
        if tick < u64::MAX {
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
        if self.timers.iter(state.timers).count() >= TIMERS_PER_SESSION_MAX {
            return None;
        }
        let tick = self.tick_after(after);
        let timer = self.wheel.arm(tick, key).ok()?;
        state.timers = self.timers.insert(state.timers, timer);
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
    pub(crate) fn forget_timer(&mut self, state: &mut SessionState, timer: TimerKey) -> bool {
        self.timers.remove(&mut state.timers, timer)
    }

    /// Cancels everything that a session which is closing has armed.
    pub(crate) fn cancel_all(&mut self, state: &mut SessionState) {
        if let Some(timer) = state.deadline.take() {
            self.wheel.cancel(timer);
        }
        for timer in self.timers.iter(state.timers) {
            self.wheel.cancel(timer);
        }
        self.timers.clear(&mut state.timers);
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

/// Places for handlers' timers that are added at once at least.
const TIMER_LISTS_GROWTH_MIN: usize = 64;

/// Nanoseconds in a tick.
pub(crate) const NS_PER_MS: u64 = 1_000_000;

/// How long a session is young, in milliseconds: the shortest idle time that a keep-alive can have.
const YOUNG_MS: u64 = 1000;

/// Sessions grow up together, so that a loop with many new ones wakes 31 times a second for it and not once for each; no more of
/// them at once, since each is up to five system calls.
const YOUNG_STEP_MS: u64 = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_timers_share_places_and_do_not_mix() {
        // Goal: whatever is inserted, removed and cleared, each list holds its own, and places are used again. Method: two lists
        // beside vectors, members removed at the front, in the middle and at the end.
        let mut wheel: Wheel<u32> = Wheel::new(0, 100);
        let keys: Vec<_> = (0..8).map(|nth| wheel.arm(10, nth).unwrap()).collect();
        let mut lists = TimerLists::default();
        let (mut left, mut right) = (NO_TIMERS, NO_TIMERS);
        for pair in keys.chunks(2) {
            left = lists.insert(left, pair[0]);
            right = lists.insert(right, pair[1]);
        }
        let held = |lists: &TimerLists, list| lists.iter(list).collect::<Vec<_>>();
        assert_eq!(held(&lists, left), [keys[6], keys[4], keys[2], keys[0]]);
        assert!(!lists.remove(&mut left, keys[1]), "it is in the other");
        for (key, rest) in [
            (keys[4], vec![keys[6], keys[2], keys[0]]),
            (keys[6], vec![keys[2], keys[0]]),
            (keys[0], vec![keys[2]]),
            (keys[2], vec![]),
        ] {
            assert!(lists.remove(&mut left, key));
            assert_eq!(held(&lists, left), rest);
        }
        assert_eq!(left, NO_TIMERS);
        assert_eq!(held(&lists, right), [keys[7], keys[5], keys[3], keys[1]]);
        lists.clear(&mut right);
        assert_eq!(right, NO_TIMERS);
        for key in &keys {
            left = lists.insert(left, *key);
        }
        assert_eq!((lists.nodes.len(), lists.iter(left).count()), (8, 8));
    }
}
