//! Alarms: deadlines to the nanosecond, for those few who pace something.
//!
//! The wheel's timers are cheap and count milliseconds, which is right for timeouts and wrong for a load that sends 50,000
//! times a second. An alarm costs a step through a heap, and, if the loop would sleep until then, a system call.
//!
//! The one idea: an alarm is a time and a session, nothing in the session itself, so that those who set none pay for none. It
//! cannot be taken back; a session that is gone is not there to be woken, and one that has changed its mind ignores it.
//!
//! Invariant: at most twice [`PER_SESSION`] alarms for each session that lives, and twice [`ROOM`] more; those of sessions that
//! are gone are thrown out once a turn when there are half as many.

use polyloop_core::slots::Key;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// See the module's documentation.
#[derive(Debug, Default)]
pub(crate) struct Alarms {
    /// The earliest on top. The key's parts make ties fall the same way on every run.
    heap: BinaryHeap<Reverse<(u64, u32, u32)>>,
    /// Sessions that live.
    live: usize,
}

/// One that is set, one that it took the place of, and two to spare.
const PER_SESSION: usize = 4;

/// A loop of few sessions need not count so closely.
const ROOM: usize = 64;

impl Alarms {
    /// When the earliest is due.
    #[inline]
    pub(crate) fn next_ns(&self) -> Option<u64> {
        self.heap.peek().map(|Reverse((at_ns, ..))| *at_ns)
    }

    /// From now on so many sessions live.
    pub(crate) const fn set_live(&mut self, live: usize) {
        self.live = live;
    }

    /// Sets one; `false` if there are too many.
    pub(crate) fn set(&mut self, at_ns: u64, key: Key) -> bool {
        if self.heap.len() >= self.max() * 2 {
            return false;
        }
        self.heap
            .push(Reverse((at_ns, key.index(), key.generation())));
        true
    }

    /// Throws out those of sessions that are gone, if there are so many that this is worth its while.
    pub(crate) fn sweep(&mut self, is_live: impl Fn(Key) -> bool) {
        if self.heap.len() > self.max() {
            self.heap
                .retain(|Reverse((_, index, generation))| is_live(Key::new(*index, *generation)));
        }
    }

    const fn max(&self) -> usize {
        self.live * PER_SESSION + ROOM
    }

    /// Takes the earliest if it is due.
    #[inline]
    pub(crate) fn pop_due(&mut self, now_ns: u64) -> Option<(u64, Key)> {
        let Reverse((at_ns, index, generation)) = *self.heap.peek()?;
        if at_ns > now_ns {
            return None;
        }
        self.heap.pop();
        Some((at_ns, Key::new(index, generation)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alarms_come_in_order_and_not_early() {
        // Goal: due alarms come by time, ties by place, none before its time. Method: set out of order.
        let mut alarms = Alarms::default();
        for (at_ns, index) in [(30, 1), (10, 2), (20, 3), (10, 1)] {
            assert!(alarms.set(at_ns, Key::new(index, 1)));
        }
        assert_eq!(alarms.next_ns(), Some(10));
        assert_eq!(alarms.pop_due(9), None);
        let due: Vec<_> = std::iter::from_fn(|| alarms.pop_due(25))
            .map(|(at_ns, key)| (at_ns, key.index()))
            .collect();
        assert_eq!(due, [(10, 1), (10, 2), (20, 3)]);
        assert_eq!(alarms.next_ns(), Some(30));
    }

    #[test]
    fn there_is_a_bound_and_the_gone_do_not_count() {
        // Goal: a session cannot fill memory with alarms, and sessions that are gone take no room from those that live.
        // Method: set until refused; then let all but one be gone.
        let mut alarms = Alarms::default();
        alarms.set_live(8);
        let key = |nth: u64| Key::new((nth % 8) as u32, 1);
        let taken = (0..10_000).take_while(|&nth| alarms.set(nth, key(nth)));
        assert_eq!(taken.count(), 2 * (8 * PER_SESSION + ROOM));
        alarms.sweep(|key| key.index() == 0);
        assert_eq!(alarms.heap.len(), 2 * (PER_SESSION + ROOM / 8));
        assert!(alarms.set(0, key(0)));
    }
}
