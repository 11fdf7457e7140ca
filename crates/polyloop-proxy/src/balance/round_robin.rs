//! Each backend in turn, as often as its weight says, its turns as far apart as they can be.
//!
//! ```text
//!   one cycle   |---------------------------------------------|
//!   weight 3    |       x              x              x       |   turns a third of a cycle apart
//!   weight 1    |           y                                 |   two of weight 1: half a cycle apart
//!   weight 1    |                                 z           |   ->  x y x z x
//! ```
//!
//! One idea: every backend has a date for its next turn, the earliest is next, and after a turn the date moves on by a
//! cycle divided by the weight. The dates of backends with equal weights start evenly spread over their step, so each
//! class of weights is as smooth as it can be, and their sum nearly so. In a cycle each backend has exactly as many
//! turns as its weight.
//!
//! A backend that may not be used loses its turn, so it has no arrears to catch up with when it is back. Weights below
//! the configured one (slow start) just make longer steps.
//!
//! The cost: logarithmic in the number of backends, for a heap. Working out who is behind by most is linear; a table of
//! the whole cycle is constant, but cannot follow a slow start.

use super::{Candidate, Member, WEIGHT_SCALE};

/// The length of a cycle in units of dates. Steps are cut to whole units: after 2^23 cycles a backend of weight 256 may
/// be a turn behind.
pub(super) const CYCLE: u64 = 1 << 40;

/// Past this, dates are set back. Far below overflow: the longest step is 2^48.
const DATE_MAX: u64 = 1 << 62;

#[derive(Debug, Clone)]
pub(super) struct RoundRobin {
    /// A heap by date, the earliest first.
    turns: Vec<Turn>,
    /// The date of the last turn that was taken.
    now: u64,
}

/// Ordered by date, and by place in the list if dates are equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Turn {
    due: u64,
    index: u16,
    weight: u16,
}

impl RoundRobin {
    /// Turns from the date `start` (below [`CYCLE`]) on.
    pub(super) fn new(members: &[Member], start: u64) -> Self {
        let mut by_weight = members.to_vec();
        by_weight.sort_by_key(|member| member.weight);
        let mut turns: Vec<Turn> = by_weight
            .chunk_by(|one, other| one.weight == other.weight)
            .flat_map(|class| {
                let size = class.len() as u64;
                class.iter().zip(0..).map(move |(member, place): (_, u64)| {
                    let step = step(full(member.weight));
                    let first = step * (2 * place + 1) / (2 * size);
                    Turn {
                        due: first + start.saturating_sub(first).div_ceil(step) * step,
                        index: member.index,
                        weight: member.weight,
                    }
                })
            })
            .collect();
        // A sorted list is a heap.
        turns.sort_unstable();
        Self { turns, now: start }
    }

    #[inline]
    pub(super) fn pick(&mut self, usable: &impl Fn(u16) -> Option<Candidate>) -> Option<u16> {
        if self.turns.first()?.due > DATE_MAX {
            self.set_back();
        }
        for _ in 0..self.turns.len() {
            let turn = self.turns[0];
            if let Some(candidate) = usable(turn.index) {
                return Some(self.take(0, candidate.weight_now));
            }
            self.advance(0, full(turn.weight));
        }
        // As many turns were lost as there are backends, perhaps the same few again and again: look at everyone.
        let (_, place, weight_now) = self
            .turns
            .iter()
            .zip(0..)
            .filter_map(|(turn, place)| Some((turn, place, usable(turn.index)?.weight_now)))
            .min()?;
        Some(self.take(place, weight_now))
    }

    fn take(&mut self, place: usize, weight_now: u32) -> u16 {
        let turn = self.turns[place];
        self.now = self.now.max(turn.due);
        self.advance(place, weight_now);
        turn.index
    }

    /// Moves the turn at `place` on by a step, and down the heap to where it belongs.
    fn advance(&mut self, place: usize, weight_now: u32) {
        let mut turn = self.turns[place];
        // Never into the past: turns that were due while nobody asked for them are not caught up with.
        turn.due = (turn.due + step(weight_now)).max(self.now);
        let mut place = place;
        loop {
            let (left, right) = (2 * place + 1, 2 * place + 2);
            if left >= self.turns.len() {
                break;
            }
            let right_is_first = right < self.turns.len() && self.turns[right] < self.turns[left];
            let child = if right_is_first { right } else { left };
            if turn <= self.turns[child] {
                break;
            }
            self.turns[place] = self.turns[child];
            place = child;
        }
        self.turns[place] = turn;
    }

    #[cold]
    fn set_back(&mut self) {
        let by = self.turns[0].due.min(self.now);
        self.now -= by;
        for turn in &mut self.turns {
            turn.due -= turn.due.min(by);
        }
    }

    #[cfg(test)]
    pub(super) fn set_forward(&mut self, by: u64) {
        self.now += by;
        for turn in &mut self.turns {
            turn.due += by;
        }
    }
}

fn full(weight: u16) -> u32 {
    u32::from(weight) * WEIGHT_SCALE
}

/// From one turn to the next. The weight is above 0.
#[inline]
fn step(weight_now: u32) -> u64 {
    CYCLE * u64::from(WEIGHT_SCALE) / u64::from(weight_now.max(1))
}
