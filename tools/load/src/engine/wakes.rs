//! Which alarms of a client are set.
//!
//! The one idea: an alarm cannot be taken back, and a loop has room for a few of each session only. So those that are set are
//! remembered: the next one, and the one behind it. A client that is dialled again and again while its next request is an hour away
//! needs an alarm for each pause, and one for the request, not one more for it after each pause.
//!
//! Whoever wants to be woken later than the next alarm sets none: it is woken early and asks again.

/// See the module's documentation.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wakes {
    next_ns: u64,
    later_ns: u64,
}

impl Default for Wakes {
    fn default() -> Self {
        Self {
            next_ns: u64::MAX,
            later_ns: u64::MAX,
        }
    }
}

impl Wakes {
    /// Whether an alarm has to be set for this time. If it is, [`set`](Self::set) says so.
    #[inline]
    pub(crate) const fn needs(&self, at_ns: u64) -> bool {
        at_ns < self.next_ns
    }

    /// An alarm was set.
    #[inline]
    pub(crate) const fn set(&mut self, at_ns: u64) {
        // Of three the farthest is forgotten, and ignored when it rings.
        if self.next_ns < self.later_ns {
            self.later_ns = self.next_ns;
        }
        self.next_ns = at_ns;
    }

    /// An alarm rings: whether it is the one that was waited for.
    #[inline]
    pub(crate) const fn is_ringing(&mut self, at_ns: u64) -> bool {
        if at_ns == self.next_ns {
            self.next_ns = self.later_ns;
            self.later_ns = u64::MAX;
            return true;
        }
        if at_ns == self.later_ns {
            self.later_ns = u64::MAX;
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cmp::Reverse;
    use std::collections::BinaryHeap;

    /// The alarms of a loop with one client.
    #[derive(Default)]
    struct Clock {
        wakes: Wakes,
        heap: BinaryHeap<Reverse<u64>>,
        most: usize,
    }

    impl Clock {
        fn wake_at(&mut self, at_ns: u64) {
            if self.wakes.needs(at_ns) {
                self.heap.push(Reverse(at_ns));
                self.wakes.set(at_ns);
            }
            self.most = self.most.max(self.heap.len());
        }

        /// Rings until the client is woken, and says when that is.
        fn ring(&mut self) -> u64 {
            while let Some(Reverse(at_ns)) = self.heap.pop() {
                if self.wakes.is_ringing(at_ns) {
                    return at_ns;
                }
            }
            panic!("nobody wakes the client");
        }
    }

    #[test]
    fn a_client_that_is_dialled_for_ever_needs_two_alarms() {
        // Goal: a server that hangs up at once does not use up the loop's alarms, which would leave the client asleep for good.
        // Method: a thousand dials, a pause before each, with a request planned far behind all of them.
        let mut clock = Clock::default();
        let planned_ns = 1_000_000;
        for dial in 1..=1_000 {
            // Connected: the request is waited for. Hung up on: the next dial is.
            clock.wake_at(planned_ns);
            clock.wake_at(dial * 100);
            assert_eq!(clock.ring(), dial * 100);
        }
        clock.wake_at(planned_ns);
        assert_eq!(clock.ring(), planned_ns);
        assert_eq!(clock.most, 2);
    }

    #[test]
    fn no_wish_to_be_woken_is_lost() {
        // Goal: whatever is wished for in whatever order, the client is woken at that time at the latest, if it asks again when it is
        // woken early. Method: pseudo-random wishes, of which the earliest that is still to come is tracked.
        let mut random = polyloop_measure::stats::SplitMix64::new(3);
        let mut clock = Clock::default();
        let mut now_ns = 0;
        for _ in 0..10_000 {
            let wish_ns = now_ns + 1 + random.below(50) as u64;
            for _ in 0..random.below(3) {
                clock.wake_at(now_ns + 1 + random.below(200) as u64);
            }
            clock.wake_at(wish_ns);
            loop {
                now_ns = clock.ring();
                assert!(now_ns <= wish_ns);
                if now_ns == wish_ns {
                    break;
                }
                clock.wake_at(wish_ns);
            }
            assert!(clock.heap.len() < 1_000, "{}", clock.heap.len());
        }
    }
}
