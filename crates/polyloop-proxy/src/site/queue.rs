//! Who waits for a place at a backend below its cap, over all loops.
//!
//! ```text
//!   join ──> in line ──call_next──> called ──answered──> tries: takes a place and calls the next, or joins at the front
//!               └──leave──> gone
//! ```
//!
//! The one idea: first come, first served. While anybody is in line or has been called, newcomers join the line behind
//! them, even where a place is free: it is meant for who was called. Whoever is called either answers or leaves, and in
//! both cases sees to it that the turn does not end with it.
//!
//! No turn is lost: who gives a place back looks at the line after that, and who joins looks at the places after this, so
//! one of the two sees the other. What no event tells of (an ejection that ends by its date, a loop whose inbox was full)
//! is looked at once a second by those who wait ([`is_look_due`](Queue::is_look_due)).
//!
//! Deliberately absent: how a session on another loop is told, and deadlines.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Mutex, MutexGuard, PoisonError};

use polyloop::ConnRef;

/// The line of one group.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    waiting: AtomicUsize,
    /// Called, and not heard of since.
    called: AtomicUsize,
    line: Mutex<VecDeque<ConnRef>>,
    looked_ms: AtomicU64,
}

/// Where a session joins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Joins {
    /// It has waited before, or has been failed by a backend: nobody came earlier.
    AtFront,
    /// It is new, and waits only if fewer than so many do.
    AtEnd {
        /// How many may wait.
        max: usize,
    },
}

/// How often those who wait look for what nobody tells them.
pub(crate) const LOOK_INTERVAL_MS: u64 = 1000;

impl Queue {
    /// How many are in line.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(SeqCst)
    }

    /// Whether somebody came before who has no place yet.
    pub(crate) fn is_ahead_of_newcomers(&self) -> bool {
        self.waiting.load(SeqCst) > 0 || self.called.load(SeqCst) > 0
    }

    /// Puts a session in line; `false` if it is too long.
    #[must_use]
    pub(crate) fn join(&self, who: ConnRef, joins: Joins) -> bool {
        let mut line = self.lock();
        match joins {
            Joins::AtFront => line.push_front(who),
            Joins::AtEnd { max } if line.len() < max => line.push_back(who),
            Joins::AtEnd { .. } => return false,
        }
        self.waiting.fetch_add(1, SeqCst);
        true
    }

    /// Takes a session out of the line; whether it was there, and not called already.
    #[must_use]
    pub(crate) fn leave(&self, who: ConnRef) -> bool {
        let mut line = self.lock();
        let Some(at) = line.iter().position(|waiting| *waiting == who) else {
            return false;
        };
        line.remove(at);
        self.waiting.fetch_sub(1, SeqCst);
        true
    }

    /// Calls whoever is first, by `call`; if that fails it stays first.
    pub(crate) fn call_next(&self, call: impl FnOnce(ConnRef) -> bool) {
        if self.waiting.load(SeqCst) == 0 {
            return;
        }
        let next = {
            let mut line = self.lock();
            let Some(next) = line.pop_front() else {
                return;
            };
            // In this order, so that at no moment nobody is ahead of newcomers.
            self.called.fetch_add(1, SeqCst);
            self.waiting.fetch_sub(1, SeqCst);
            next
        };
        if !call(next) {
            let mut line = self.lock();
            line.push_front(next);
            self.waiting.fetch_add(1, SeqCst);
            self.called.fetch_sub(1, SeqCst);
        }
    }

    /// Somebody who was called has heard it, or has gone.
    pub(crate) fn answered(&self) {
        let before = self.called.fetch_sub(1, SeqCst);
        debug_assert!(before > 0, "more answers than calls");
    }

    /// Whether a second has gone by since somebody looked; then it is the caller who does.
    #[must_use]
    pub(crate) fn is_look_due(&self, now_ms: u64) -> bool {
        self.looked_ms
            .try_update(Relaxed, Relaxed, |looked_ms| {
                (now_ms >= looked_ms.saturating_add(LOOK_INTERVAL_MS)).then_some(now_ms)
            })
            .is_ok()
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<ConnRef>> {
        // Nothing in here panics with the lock held.
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
