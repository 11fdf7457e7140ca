//! When a warm-up is over: not after a time, but when the pace no longer changes.
//!
//! ```text
//!   begins ── window ── window ── window ── window ── .. ── ends
//!     │                             ↑ look    ↑ look          ↑ at the latest, steady or not
//!     └───── the least it takes ────┘
//! ```
//!
//! The one idea: what was done so far is noted at the end of each window, a third of the least time that a warm-up takes; when the last
//! three windows lie on a line ([`polyloop_measure::steady`]), it may end. It ends at the latest after a time that is set, and a run
//! that got no further says so.
//!
//! Pure: it is told times and counts, and answers. Invariant: [`next_look_ns`](WarmUp::next_look_ns) grows with each look.

use std::time::Duration;

use polyloop_measure::steady::{self, Point};

use crate::result::Settled;

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct WarmUp {
    window_ns: u64,
    look_ns: u64,
    points: Vec<Point>,
    settled: Settled,
}

impl WarmUp {
    /// A warm-up that begins at `begins_ns` and takes `least_ns`, in windows of whole `interval_ns`.
    pub(crate) fn new(begins_ns: u64, least_ns: u64, interval_ns: u64) -> Self {
        let window_ns = (least_ns / steady::WINDOWS as u64)
            .next_multiple_of(interval_ns)
            .max(interval_ns);
        Self {
            window_ns,
            look_ns: begins_ns + window_ns,
            points: vec![Point {
                at_s: begins_ns as f64 / 1e9,
                count: 0,
            }],
            settled: Settled {
                is_steady: false,
                variation: None,
            },
        }
    }

    /// The least time in which it can be told to be over.
    pub(crate) const fn least(&self) -> Duration {
        Duration::from_nanos(self.window_ns * steady::WINDOWS as u64)
    }

    /// When to look next.
    pub(crate) const fn next_look_ns(&self) -> u64 {
        self.look_ns
    }

    /// `count` was done until `at_ns`, which is about the time to look: whether that is enough.
    pub(crate) fn look(&mut self, at_ns: u64, count: u64) -> bool {
        self.look_ns += self.window_ns;
        let at_s = at_ns as f64 / 1e9;
        if self.points.last().is_some_and(|last| last.at_s >= at_s) {
            // The loops have told nothing since the last look, being late themselves.
            return false;
        }
        self.points.push(Point { at_s, count });
        let start = self.points.len().saturating_sub(steady::WINDOWS + 1);
        self.settled = Settled {
            is_steady: steady::is_steady(&self.points),
            variation: steady::variation(&steady::rates(&self.points[start..])),
        };
        self.settled.is_steady
    }

    /// What the last look came to.
    pub(crate) const fn settled(&self) -> Settled {
        self.settled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TENTH_NS: u64 = 100_000_000;

    /// Looks at the end of each window, which had these counts; which of them was enough.
    fn looks(warm_up: &mut WarmUp, windows: &[u64]) -> Vec<bool> {
        let mut count = 0;
        let look = |window: &u64| {
            count += window;
            let at_ns = warm_up.next_look_ns();
            warm_up.look(at_ns, count)
        };
        windows.iter().map(look).collect()
    }

    #[test]
    fn it_is_over_when_three_windows_are_alike() {
        // Goal: a pace that grows keeps it going, and one that no longer does ends it. Method: a server that gets twice as fast twice.
        let mut warm_up = WarmUp::new(7 * TENTH_NS, 20 * TENTH_NS, TENTH_NS);
        let windows = [2_500, 5_000, 10_000, 10_050, 9_990];
        assert_eq!(
            looks(&mut warm_up, &windows),
            [false, false, false, false, true]
        );
        let settled = warm_up.settled();
        assert!(settled.is_steady);
        assert!(settled.variation.unwrap() < 0.01, "{settled:?}");
    }

    #[test]
    fn one_that_never_settles_says_by_how_much() {
        // Goal: the figure of the doubt. Method: a pace that doubles with each window: 2, 4 and 8 deviate by 3.06 around 4.67.
        let mut warm_up = WarmUp::new(0, 3 * TENTH_NS, TENTH_NS);
        let windows: Vec<u64> = (0..20).map(|doublings| 1_000 << doublings).collect();
        assert!(!looks(&mut warm_up, &windows).contains(&true));
        let variation = warm_up.settled().variation.unwrap();
        assert!((variation - 0.655).abs() < 0.001, "{variation}");
    }

    #[test]
    fn windows_are_a_third_of_the_least_time_in_whole_tenths() {
        // Goal: three windows fill the least time, and none is shorter than what loops hand over at once.
        for (least_ns, window_ns) in [
            (20 * TENTH_NS, 7 * TENTH_NS),
            (3 * TENTH_NS, TENTH_NS),
            (1, TENTH_NS),
        ] {
            let warm_up = WarmUp::new(5, least_ns, TENTH_NS);
            assert_eq!(warm_up.next_look_ns(), 5 + window_ns);
        }
    }

    #[test]
    fn a_look_at_nothing_new_says_nothing() {
        // Goal: loops that hand over late do not spoil the windows. Method: the same moment told twice, in the middle of a steady pace.
        let mut warm_up = WarmUp::new(0, 3 * TENTH_NS, TENTH_NS);
        let mut look = |tenth: u64| warm_up.look(tenth * TENTH_NS, tenth * 1_000);
        assert_eq!([1, 2, 2, 3].map(&mut look), [false, false, false, true]);
    }

    #[test]
    fn a_silent_server_is_never_steady() {
        // Goal: no end by having nothing to compare. Method: no answer at all.
        let mut warm_up = WarmUp::new(0, 3 * TENTH_NS, TENTH_NS);
        assert!(!looks(&mut warm_up, &[0; 9]).contains(&true));
        assert_eq!(warm_up.settled().variation, None);
    }
}
