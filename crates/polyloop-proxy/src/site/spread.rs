//! How times and sizes of one loop's sessions are spread over a few fixed steps, for histograms of Prometheus.
//!
//! The one idea: the steps are known before, so a value costs a short search and two stores of the loop that owns the
//! numbers, once or twice in a session's life; whoever reads adds loops up. A value that equals a bound is counted below
//! it, as `le` says, exactly.
//!
//! Deliberately absent: quantiles, which so few steps cannot tell; where they are wanted there is a
//! [`polyloop::hist::AtomicHistogram`] beside.

use polyloop::telemetry::Counter;

/// 100 µs to 10 s, in nanoseconds: from a backend on this host to one that is nearly given up.
pub const CONNECT_BOUNDS_NS: &[u64] = &[
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    10_000_000_000,
];

/// 1 ms to a day, in nanoseconds: tenfold up to 10 s, and then at the marks that people set timeouts to.
pub const LENGTH_BOUNDS_NS: &[u64] = &[
    1_000_000,
    10_000_000,
    100_000_000,
    1_000_000_000,
    10_000_000_000,
    60 * SECOND_NS,
    300 * SECOND_NS,
    1_800 * SECOND_NS,
    3_600 * SECOND_NS,
    6 * 3_600 * SECOND_NS,
    24 * 3_600 * SECOND_NS,
];

/// 64 B to 16 GiB in powers of four: from a ping to a disk image.
pub const BYTES_BOUNDS: &[u64] = &[
    1 << 6,
    1 << 8,
    1 << 10,
    1 << 12,
    1 << 14,
    1 << 16,
    1 << 18,
    1 << 20,
    1 << 22,
    1 << 24,
    1 << 26,
    1 << 28,
    1 << 30,
    1 << 32,
    1 << 34,
];

const SECOND_NS: u64 = 1_000_000_000;

/// The most bounds that there are, and one more for what is beyond the last.
const STEPS_MAX: usize = 17;

/// Counts of values by step, and their sum. One loop writes, anybody reads.
#[derive(Debug)]
pub struct Spread {
    bounds: &'static [u64],
    counts: [Counter; STEPS_MAX],
    sum: Counter,
}

impl Spread {
    /// Nothing yet, of steps that end at these bounds.
    #[must_use]
    pub fn new(bounds: &'static [u64]) -> Self {
        assert!(bounds.len() < STEPS_MAX, "room for every step");
        Self {
            bounds,
            counts: Default::default(),
            sum: Counter::default(),
        }
    }

    /// One more value. Only the owning loop calls it.
    pub fn record(&self, value: u64) {
        let step = self.bounds.partition_point(|bound| *bound < value);
        self.counts[step].add(1);
        self.sum.add(value);
    }

    /// Adds what was recorded here to `total`.
    pub fn add_to(&self, total: &mut SpreadTotal) {
        for (sum, count) in total.counts.iter_mut().zip(&self.counts) {
            *sum += count.value();
        }
        total.bounds = self.bounds;
        total.sum = total.sum.wrapping_add(self.sum.value());
    }
}

/// What several loops have recorded.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct SpreadTotal {
    bounds: &'static [u64],
    counts: [u64; STEPS_MAX],
    /// The sum of all values, exact. It may be ahead of the counts by what is being recorded.
    pub sum: u64,
}

impl SpreadTotal {
    /// The sum of these loops' numbers.
    #[must_use]
    pub fn of<'a>(parts: impl IntoIterator<Item = &'a Spread>) -> Self {
        let mut total = Self::default();
        parts.into_iter().for_each(|part| part.add_to(&mut total));
        total
    }

    /// Each bound, with how many values were not above it.
    pub fn cumulative(&self) -> impl Iterator<Item = (u64, u64)> {
        let counts = self.counts.iter().scan(0, |below, count| {
            *below += count;
            Some(*below)
        });
        self.bounds.iter().copied().zip(counts)
    }

    /// How many values there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_at_a_bound_are_not_above_it() {
        // Goal: cumulative counts mean what `le` says, whatever the value. Method: every bound, its neighbours and the
        // extremes, over two loops, beside a count by hand.
        for bounds in [CONNECT_BOUNDS_NS, LENGTH_BOUNDS_NS, BYTES_BOUNDS] {
            assert!(bounds.is_sorted());
            let parts = [Spread::new(bounds), Spread::new(bounds)];
            let mut values = vec![0, u64::MAX / 1000];
            values.extend(bounds.iter().flat_map(|&at| [at - 1, at, at + 1]));
            for (nth, value) in values.iter().enumerate() {
                parts[nth % 2].record(*value);
            }
            let total = SpreadTotal::of(&parts);
            for (bound, count) in total.cumulative() {
                let by_hand = values.iter().filter(|value| **value <= bound).count();
                assert_eq!(count, by_hand as u64, "{bound}");
            }
            assert_eq!(total.cumulative().count(), bounds.len());
            assert_eq!(total.count(), values.len() as u64);
            assert_eq!(total.sum, values.iter().sum::<u64>());
        }
    }
}
