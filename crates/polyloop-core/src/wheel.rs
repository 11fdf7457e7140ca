//! Timer wheel: deadlines in milliseconds, armed and cancelled in constant time.
//!
//! One loop owns one wheel and tells it the time; the wheel reads no clock. The one idea: time is written in base 64.
//! A timer lives on the level of the highest digit in which its deadline differs from the wheel's time, in the slot of
//! that digit. When the time reaches such a slot, its timers move to lower levels (they *cascade*), until on level 0 a
//! slot is one single tick. A bitmap per level finds the next slot in use, so that a jump over 30 days costs as little
//! as a jump over one tick.
//!
//! ```text
//! level    0      1       2        3        4         5
//! slot     1 ms   64 ms   4.1 s    4.4 min  4.7 h     12.4 days
//! all      64 ms  4.1 s   4.4 min  4.7 h    12.4 days 2.2 years   (beyond: waits on level 5 and is placed again)
//! ```
//!
//! Promises:
//! * Never early: a timer fires at the first call whose `now` has reached its deadline, and not before.
//! * Order: by deadline, ties in the order of arming (re-arming counts as arming). Two exceptions for ties only: a
//!   deadline more than 2^36 - 2^30 ms ahead when armed, and a timer armed while a large cascade is unfinished.
//! * Bounded: one call cascades at most [`CASCADES_MAX`] timers; a timer cascades at most 5 times in its life, plus
//!   once in two years. When the bound is hit [`Wheel::next_wake`] is in the past, so the loop comes back.
//!
//! Deliberately absent: a sorted structure (exact next deadline, but a logarithmic arm), coarse ticks (rounding belongs
//! to who arms), and periodic timers (arm again when fired).
//!
//! Invariants: every deadline is at or after `elapsed`; the slot of the current digit is empty on each level above 0,
//! save the one level that is being cascaded; hence the lowest level in use holds the earliest timer.

use std::fmt;

use crate::slots::{Key, Slots};

/// Timers moved to a lower level by one call at most.
///
/// A move touches about three cache lines, so this is a pause near 50 us (estimated) when a million timers of one
/// moment cascade together, and far above what an ordinary turn sees.
pub const CASCADES_MAX: u32 = 1024;

/// Names one timer of one [`Wheel`]; resolves to nothing once the timer fired or was cancelled.
///
/// `Option<TimerKey>` is as small as `TimerKey`: 8 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TimerKey(Key);

impl TimerKey {
    /// The place of the timer: below `count_max` of its wheel, and reused.
    #[must_use]
    pub const fn index(self) -> u32 {
        self.0.index()
    }

    /// The generation of the place.
    #[must_use]
    pub const fn generation(self) -> u32 {
        self.0.generation()
    }
}

/// A timer wheel with millisecond ticks whose timers carry a `T` each. See the module page.
pub struct Wheel<T> {
    nodes: Slots<Node<T>>,
    /// One bit per slot of a level: its list is not empty.
    occupied: [u64; LEVELS],
    /// First timer of each slot's ring; meaningless where the bit is clear.
    heads: [u32; LEVELS * LEVEL_SLOTS],
    /// The caller's tick that is 0 inside.
    origin: u64,
    /// Ticks since `origin` that the wheel has worked off.
    elapsed: u64,
    /// The level whose current slot is being emptied, or 0.
    cascading: usize,
    cascades: u64,
}

impl<T> Wheel<T> {
    /// Memory of one timer, its value included: what budgets per connection count with.
    pub const TIMER_BYTES: usize = Slots::<Node<T>>::SLOT_BYTES;

    /// Makes a wheel that stands at tick `now` and holds at most `count_max` timers. Allocates no timer yet.
    #[must_use]
    pub const fn new(now: u64, count_max: u32) -> Self {
        Self {
            nodes: Slots::new(count_max),
            occupied: [0; LEVELS],
            heads: [0; LEVELS * LEVEL_SLOTS],
            origin: now,
            elapsed: 0,
            cascading: 0,
            cascades: 0,
        }
    }

    /// Arms a timer for the tick `deadline`.
    ///
    /// A deadline in the past, or now, fires at the next [`pop_due`](Self::pop_due). One beyond 2^48 ms (8,900 years)
    /// after the wheel was made is taken as that tick.
    ///
    /// # Errors
    ///
    /// The value comes back when `count_max` timers are armed.
    #[inline]
    pub fn arm(&mut self, deadline: u64, value: T) -> Result<TimerKey, T> {
        let mut node = Node {
            next: 0,
            prev: 0,
            deadline_low: 0,
            deadline_high: 0,
            position: 0,
            value,
        };
        let deadline = self.inner_tick(deadline);
        node.set_deadline(deadline);
        match self.nodes.insert(node) {
            Ok(key) => {
                self.link(key.index(), deadline);
                Ok(TimerKey(key))
            }
            Err(node) => Err(node.value),
        }
    }

    /// Takes a timer back before it fires; `None` when it fired or was cancelled already.
    #[inline]
    pub fn cancel(&mut self, timer: TimerKey) -> Option<T> {
        // Unlinking first: the neighbours are found through the node.
        self.nodes.get(timer.0)?;
        self.unlink(timer.0.index());
        self.nodes.remove(timer.0).map(|node| node.value)
    }

    /// Gives an armed timer another deadline, under the rules of [`arm`](Self::arm); `false` when it is gone.
    #[inline]
    #[must_use = "a timer that is gone was not armed again"]
    pub fn rearm(&mut self, timer: TimerKey, deadline: u64) -> bool {
        let deadline = self.inner_tick(deadline);
        let Some(node) = self.nodes.get_mut(timer.0) else {
            return false;
        };
        node.set_deadline(deadline);
        self.unlink(timer.0.index());
        self.link(timer.0.index(), deadline);
        true
    }

    /// The tick for which a timer is armed: the one asked for, or the wheel's time then if that was later.
    #[inline]
    #[must_use]
    pub fn deadline(&self, timer: TimerKey) -> Option<u64> {
        self.nodes
            .get(timer.0)
            .map(|node| self.origin.saturating_add(node.deadline()))
    }

    /// What an armed timer carries.
    #[inline]
    #[must_use]
    pub fn get(&self, timer: TimerKey) -> Option<&T> {
        self.nodes.get(timer.0).map(|node| &node.value)
    }

    /// What an armed timer carries, for changing.
    #[inline]
    #[must_use]
    pub fn get_mut(&mut self, timer: TimerKey) -> Option<&mut T> {
        self.nodes.get_mut(timer.0).map(|node| &mut node.value)
    }

    /// Takes the earliest timer that is due at `now`. The loop calls this once per turn and again until `None` or
    /// until its own budget is spent.
    ///
    /// `None`: nothing is due, or [`CASCADES_MAX`] was hit; then [`next_wake`](Self::next_wake) is at or before
    /// `now` and the next call goes on. A `now` before an earlier one is taken as the earlier one.
    #[inline]
    pub fn pop_due(&mut self, now: u64) -> Option<(TimerKey, T)> {
        let now = self.inner_tick(now);
        let mut budget = CASCADES_MAX;
        loop {
            if self.cascading != 0 && !self.cascade(&mut budget) {
                return None;
            }
            let Some(next) = self.next_slot() else {
                self.elapsed = now;
                return None;
            };
            if next.tick > now {
                // No slot starts in between, so every timer stays where the new time would put it.
                self.elapsed = now;
                return None;
            }
            self.elapsed = next.tick;
            if next.level == 0 {
                return self.pop_head(next.position());
            }
            self.cascading = next.level;
        }
    }

    /// The tick at which [`pop_due`](Self::pop_due) has something to do; `None` when no timer is armed.
    ///
    /// A lower bound of the earliest deadline, exact in the last 64 ms: it may be the start of a slot whose timers only
    /// move a level down, so a lone timer may cost up to 5 wake-ups that fire nothing. It is not after any deadline.
    #[inline]
    #[must_use]
    pub fn next_wake(&self) -> Option<u64> {
        let tick = if self.cascading != 0 && self.is_occupied(self.current_position(self.cascading))
        {
            self.elapsed
        } else {
            self.next_slot()?.tick
        };
        Some(self.origin.saturating_add(tick))
    }

    /// Timers armed now.
    #[inline]
    #[must_use]
    pub const fn len(&self) -> u32 {
        self.nodes.len()
    }

    /// Whether no timer is armed.
    #[inline]
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Timers that may be armed at once.
    #[must_use]
    pub const fn count_max(&self) -> u32 {
        self.nodes.count_max()
    }

    /// Moves of one timer to a lower level since the wheel was made: the price paid for O(1), and the proof that a
    /// wake-up which fired nothing was not idle.
    #[inline]
    #[must_use]
    pub const fn cascades(&self) -> u64 {
        self.cascades
    }

    /// The wheel's time as its offset from the tick it was made at, never backwards.
    #[inline]
    fn inner_tick(&self, tick: u64) -> u64 {
        tick.saturating_sub(self.origin)
            .min(TICK_MAX)
            .max(self.elapsed)
    }

    /// The next slot in use. Must not be asked while a cascade is unfinished.
    #[inline]
    fn next_slot(&self) -> Option<NextSlot> {
        for (level, occupied) in self.occupied.iter().enumerate() {
            if *occupied != 0 {
                let shift = level as u32 * LEVEL_BITS;
                let digits = self.elapsed >> shift;
                // Rotated so that bit 0 is the current slot, which for level 5 also takes care of the turn of the ring.
                let distance = occupied
                    .rotate_right(slot_of(digits) as u32)
                    .trailing_zeros();
                let digits = digits + u64::from(distance);
                return Some(NextSlot {
                    level,
                    slot: slot_of(digits),
                    tick: digits << shift,
                });
            }
        }
        None
    }

    /// Moves timers of the current slot on level `cascading` to where they belong now. Whether it got done.
    fn cascade(&mut self, budget: &mut u32) -> bool {
        let position = self.current_position(self.cascading);
        while self.is_occupied(position) {
            if *budget == 0 {
                return false;
            }
            *budget -= 1;
            self.cascades += 1;
            let index = self.heads[position];
            let deadline = self.node(index).deadline();
            self.unlink(index);
            // Never back into this slot: `place` gives the current digit to no level above 0.
            self.link(index, deadline);
        }
        self.cascading = 0;
        true
    }

    fn pop_head(&mut self, position: usize) -> Option<(TimerKey, T)> {
        let key = self.nodes.key_at(self.heads[position])?;
        self.unlink(key.index());
        self.nodes
            .remove(key)
            .map(|node| (TimerKey(key), node.value))
    }

    /// Appends a timer to the ring of the slot where `deadline` belongs.
    #[inline]
    fn link(&mut self, index: u32, deadline: u64) {
        let position = place(self.elapsed, deadline);
        let (next, prev) = if self.is_occupied(position) {
            let head = self.heads[position];
            let tail = std::mem::replace(&mut self.node(head).prev, index);
            self.node(tail).next = index;
            (head, tail)
        } else {
            self.heads[position] = index;
            self.occupied[position / LEVEL_SLOTS] |= 1 << (position % LEVEL_SLOTS);
            (index, index)
        };
        let node = self.node(index);
        node.next = next;
        node.prev = prev;
        node.position = position as u16;
    }

    /// Takes a timer out of its ring.
    #[inline]
    fn unlink(&mut self, index: u32) {
        let node = self.node(index);
        let (next, prev, position) = (node.next, node.prev, usize::from(node.position));
        if next == index {
            self.occupied[position / LEVEL_SLOTS] &= !(1 << (position % LEVEL_SLOTS));
            return;
        }
        self.node(next).prev = prev;
        self.node(prev).next = next;
        if self.heads[position] == index {
            self.heads[position] = next;
        }
    }

    /// A node that a ring names.
    #[inline]
    fn node(&mut self, index: u32) -> &mut Node<T> {
        match self.nodes.get_at_mut(index) {
            Some(node) => node,
            None => unreachable!(
                "rings link armed timers only: link and unlink go with insert and remove"
            ),
        }
    }

    #[inline]
    fn is_occupied(&self, position: usize) -> bool {
        self.occupied[position / LEVEL_SLOTS] & (1 << (position % LEVEL_SLOTS)) != 0
    }

    #[inline]
    const fn current_position(&self, level: usize) -> usize {
        level * LEVEL_SLOTS + slot_of(self.elapsed >> (level as u32 * LEVEL_BITS))
    }
}

impl<T> fmt::Debug for Wheel<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wheel")
            .field("len", &self.len())
            .field("next_wake", &self.next_wake())
            .field("cascades", &self.cascades)
            .finish_non_exhaustive()
    }
}

/// One armed timer: 16 bytes and its value, as there is one per connection.
struct Node<T> {
    /// Neighbours in the ring of the slot; a lone timer is its own neighbour.
    next: u32,
    prev: u32,
    /// Ticks after `origin`, in 48 bits.
    deadline_low: u32,
    deadline_high: u16,
    /// `level * LEVEL_SLOTS + slot`. Kept, as the wheel's time at linking is not.
    position: u16,
    value: T,
}

impl<T> Node<T> {
    #[inline]
    fn deadline(&self) -> u64 {
        u64::from(self.deadline_high) << 32 | u64::from(self.deadline_low)
    }

    #[inline]
    const fn set_deadline(&mut self, deadline: u64) {
        self.deadline_low = deadline as u32;
        self.deadline_high = (deadline >> 32) as u16;
    }
}

struct NextSlot {
    level: usize,
    slot: usize,
    /// Where the slot starts.
    tick: u64,
}

impl NextSlot {
    #[inline]
    const fn position(&self) -> usize {
        self.level * LEVEL_SLOTS + self.slot
    }
}

/// Where a timer belongs when the wheel stands at `elapsed`; `deadline` is not before that.
#[inline]
fn place(elapsed: u64, deadline: u64) -> usize {
    let highest_bit = ((elapsed ^ deadline) | (LEVEL_SLOTS as u64 - 1)).ilog2();
    let level = (highest_bit / LEVEL_BITS) as usize;
    if level < LEVEL_TOP {
        return level * LEVEL_SLOTS + slot_of(deadline >> (level as u32 * LEVEL_BITS));
    }
    // What lies beyond the top level waits in its last slot but the current one, and is placed again from there.
    let digits_max = (elapsed >> TOP_SHIFT) + LEVEL_SLOTS as u64 - 1;
    LEVEL_TOP * LEVEL_SLOTS + slot_of((deadline >> TOP_SHIFT).min(digits_max))
}

#[inline]
const fn slot_of(digits: u64) -> usize {
    (digits % LEVEL_SLOTS as u64) as usize
}

const LEVELS: usize = 6;
const LEVEL_TOP: usize = LEVELS - 1;
const LEVEL_BITS: u32 = 6;
const LEVEL_SLOTS: usize = 1 << LEVEL_BITS;
const TOP_SHIFT: u32 = LEVEL_TOP as u32 * LEVEL_BITS;

/// Highest tick after `origin`: what the 48 bits of a node hold.
const TICK_MAX: u64 = (1 << 48) - 1;

#[cfg(test)]
mod tests;
