//! Run queue: the sockets that have work, by class, served in weighted rounds.
//!
//! A socket comes here when an edge was told and not yet answered to the end, or when its handler stopped on purpose.
//! Two ideas. A *turn* serves what was queued when it began, so a socket that queues itself again cannot keep the loop
//! from its timers and its inbox. A *round* serves each class up to its [weight](Class::weight), so a flood in one
//! class slows the others by a known factor and starves none. Rounds go on across turns: a turn that is cut short by
//! its budget resumes the round where it stood, else the last class would wait for ever behind short turns.
//!
//! The weights have the shape that HAProxy documents for its scheduler (about half for the urgent, most of the rest
//! for the ordinary, a small share for bulk, never more than one heavy at once). Ours differ in the middle: a relay's
//! ordinary sockets are many and cheap, while one bulk socket spends a whole byte budget when served, so 60 : 4
//! instead of 48 : 16. One full round is 129 sockets.
//!
//! Deliberately absent: looking for an entry (the caller keeps a "queued" mark with the socket and queues it once) and
//! taking one out (the key of a closed socket is stale and resolves to nothing). With that mark the queue holds at
//! most one entry per socket, which is its bound. No clock: the time quota of a turn is the caller's, who stops asking.
//!
//! Invariants: `in_turn[c] <= rings[c].len()`; first in, first out inside a class; an entry at position `p` of a class
//! with weight `w` is served within `p / w + 2` rounds.

use std::collections::VecDeque;

use crate::slots::Key;

/// How a socket shares the loop with others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    /// Little work that others wait for: control, admin, health checks.
    Urgent,
    /// Ordinary connections.
    #[default]
    Normal,
    /// Streams that would fill any budget.
    Bulk,
    /// Long computations in one callback.
    Heavy,
}

impl Class {
    /// Every class, in the order in which a round serves them.
    pub const ALL: [Self; Self::COUNT] = [Self::Urgent, Self::Normal, Self::Bulk, Self::Heavy];

    /// Number of classes.
    pub const COUNT: usize = 4;

    /// The name in settings and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Urgent => "urgent",
            Self::Normal => "normal",
            Self::Bulk => "bulk",
            Self::Heavy => "heavy",
        }
    }

    /// Position in [`Class::ALL`], for tables by class.
    #[inline]
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// Sockets of this class that one round serves at most, while other classes have work.
    #[inline]
    #[must_use]
    pub const fn weight(self) -> u32 {
        WEIGHTS[self.index()]
    }
}

/// Sockets with work. See the module page.
///
/// Call [`begin_turn`](Self::begin_turn), then [`next`](Self::next) until `None` or until the budget is spent; push at
/// any time.
#[derive(Debug)]
pub struct RunQueue {
    rings: [VecDeque<Key>; Class::COUNT],
    /// Entries at the front of each ring that belong to this turn.
    in_turn: [usize; Class::COUNT],
    /// What `in_turn` holds in the classes other than normal; 0 selects the short way.
    in_turn_special: usize,
    /// What is left to each class of the current round.
    credit: [u32; Class::COUNT],
}

impl RunQueue {
    /// An empty queue; allocates at the first push.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            rings: [const { VecDeque::new() }; Class::COUNT],
            in_turn: [0; Class::COUNT],
            in_turn_special: 0,
            credit: WEIGHTS,
        }
    }

    /// Queues a socket behind the others of its class, for the next turn.
    #[inline]
    pub fn push(&mut self, class: Class, key: Key) {
        self.rings[class.index()].push_back(key);
    }

    /// Fixes which entries belong to this turn: all that are queued now, leftovers of the last turn first.
    #[inline]
    pub fn begin_turn(&mut self) {
        for (in_turn, ring) in self.in_turn.iter_mut().zip(&self.rings) {
            *in_turn = ring.len();
        }
        self.in_turn_special = self.in_turn.iter().sum::<usize>() - self.in_turn[NORMAL];
    }

    /// Takes the next entry of this turn; `None` when the turn has none left.
    #[inline]
    #[expect(
        clippy::should_implement_trait,
        reason = "an iterator would borrow the queue while handlers push to it"
    )]
    pub fn next(&mut self) -> Option<Key> {
        if self.in_turn_special != 0 {
            return self.next_by_weight();
        }
        // With one class there is nobody to be fair to: no credit is charged.
        self.in_turn[NORMAL] = self.in_turn[NORMAL].checked_sub(1)?;
        self.rings[NORMAL].pop_front()
    }

    /// Entries that this turn has not served yet.
    #[inline]
    #[must_use]
    pub const fn left_in_turn(&self) -> usize {
        self.in_turn_special + self.in_turn[NORMAL]
    }

    /// Entries queued, of this turn and the next.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.rings.iter().map(VecDeque::len).sum()
    }

    /// Whether nothing is queued.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rings.iter().all(VecDeque::is_empty)
    }

    /// Entries of one class queued, of this turn and the next.
    #[inline]
    #[must_use]
    pub fn len_of(&self, class: Class) -> usize {
        self.rings[class.index()].len()
    }

    /// Serves the first class that has both work in this turn and credit in this round.
    fn next_by_weight(&mut self) -> Option<Key> {
        let class = match self.class_with_credit() {
            Some(class) => class,
            None => {
                // Whoever has work has spent its share: a new round. Unspent shares lapse, or a class that was idle
                // for long could hold up the others for as long.
                self.credit = WEIGHTS;
                self.class_with_credit()?
            }
        };
        self.credit[class] -= 1;
        self.in_turn[class] -= 1;
        if class != NORMAL {
            self.in_turn_special -= 1;
        }
        self.rings[class].pop_front()
    }

    #[inline]
    fn class_with_credit(&self) -> Option<usize> {
        (0..Class::COUNT).find(|&class| self.in_turn[class] != 0 && self.credit[class] != 0)
    }
}

impl Default for RunQueue {
    fn default() -> Self {
        Self::new()
    }
}

const NORMAL: usize = Class::Normal.index();
const WEIGHTS: [u32; Class::COUNT] = [64, 60, 4, 1];

#[cfg(test)]
mod tests;
