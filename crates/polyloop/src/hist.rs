//! Histograms that a loop can write to on its hot path and anybody can read.
//!
//! The one idea: the layout of an HDR histogram, fixed at compile time, with one atomic counter a bucket. The loop that
//! owns the histogram records with a plain load, add and store (no lock prefix, no allocation); a reader copies the
//! buckets into an `hdrhistogram::Histogram`, and merging, quantiles and export are that crate's.
//!
//! ```text
//!   value (ns)     0 .. 31   32 .. 63   64 .. 127   128 .. 255   ...   2^35 .. 2^36 - 1
//!   bucket width      1         1          2            4                   2^30
//! ```
//!
//! Each octave has 32 buckets, so a value is known to 1/32 of itself: at most 3.2 % with the rounding of the copy. A copy
//! reports the *highest* value of a bucket, never a better one than was seen. The one exception is quantile 0, the minimum:
//! `hdrhistogram` answers it with the lower edge of its own bucket, which may be a thousandth too low.
//!
//! Deliberately absent: resetting. Counters only grow, and a reader who wants an interval subtracts two readings; a reset
//! by a reader would lose what the owner writes meanwhile.
//!
//! Invariants: sum and maximum are exact, whatever the buckets lose. The count is the sum of the buckets, so a reading is
//! consistent in itself; the sum may be ahead of or behind it by the values recorded during the reading.

use std::fmt;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use hdrhistogram::Histogram;

/// The largest value that has a bucket of its own size, in nanoseconds: 68.7 seconds. Larger ones are counted with it.
pub const VALUE_MAX: u64 = (1 << VALUE_BITS) - 1;

/// A log-linear histogram of nanoseconds, 8 KiB, readable while it is written. See the module text.
///
/// One thread uses [`record`](Self::record), or any number [`record_shared`](Self::record_shared); mixing the two on
/// one histogram loses counts, though nothing worse.
#[repr(align(128))] // The owner's counters share no cache line, nor the pair fetched with it, with anybody else's.
pub struct AtomicHistogram {
    sum: AtomicU64,
    max: AtomicU64,
    buckets: [AtomicU64; BUCKETS],
}

impl AtomicHistogram {
    /// An empty histogram.
    pub const fn new() -> Self {
        Self {
            sum: AtomicU64::new(0),
            max: AtomicU64::new(0),
            buckets: [const { AtomicU64::new(0) }; BUCKETS],
        }
    }

    /// Records one value, in nanoseconds. For the one thread that owns the histogram.
    pub fn record(&self, value_ns: u64) {
        let bucket = &self.buckets[bucket_of(value_ns)];
        // Load and store instead of an atomic addition: there is one writer, and a locked instruction costs ten times both.
        bucket.store(bucket.load(Relaxed).wrapping_add(1), Relaxed);
        self.sum
            .store(self.sum.load(Relaxed).wrapping_add(value_ns), Relaxed);
        if value_ns > self.max.load(Relaxed) {
            self.max.store(value_ns, Relaxed);
        }
    }

    /// Records one value, in nanoseconds. For histograms with several writers.
    pub fn record_shared(&self, value_ns: u64) {
        self.buckets[bucket_of(value_ns)].fetch_add(1, Relaxed);
        self.sum.fetch_add(value_ns, Relaxed);
        // The maximum changes rarely: most writers only look.
        if value_ns > self.max.load(Relaxed) {
            self.max.fetch_max(value_ns, Relaxed);
        }
    }

    /// How many values were recorded. Adds up all buckets.
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(|bucket| bucket.load(Relaxed)).sum()
    }

    /// The sum of all recorded values in nanoseconds, exact; wraps after 584 years of them.
    pub fn sum(&self) -> u64 {
        self.sum.load(Relaxed)
    }

    /// The largest recorded value in nanoseconds, exact, even beyond [`VALUE_MAX`]; 0 when nothing was recorded.
    pub fn max(&self) -> u64 {
        self.max.load(Relaxed)
    }

    /// A copy for quantiles and export. Allocates about 230 KiB: see [`add_to`](Self::add_to) when there are many.
    pub fn snapshot(&self) -> Histogram<u64> {
        let mut copy = empty_snapshot();
        self.add_to(&mut copy);
        copy
    }

    /// Adds everything recorded here to `total`, made by [`empty_snapshot`]: one copy for all loops.
    ///
    /// A `total` with other bounds takes what it can and counts the rest at its edge.
    pub fn add_to(&self, total: &mut Histogram<u64>) {
        for (index, bucket) in self.buckets.iter().enumerate() {
            let count = bucket.load(Relaxed);
            if count > 0 {
                // Always the top of the bucket, whatever the maximum was: two readings are subtracted, and a bucket must not
                // move between them.
                total.saturating_record_n(highest_of(index), count);
            }
        }
    }

    /// Adds everything recorded in `other` to this histogram, which nobody else writes to meanwhile.
    pub fn merge(&self, other: &Self) {
        for (to, from) in self.buckets.iter().zip(&other.buckets) {
            to.fetch_add(from.load(Relaxed), Relaxed);
        }
        self.sum.fetch_add(other.sum(), Relaxed);
        self.max.fetch_max(other.max(), Relaxed);
    }
}

impl Default for AtomicHistogram {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for AtomicHistogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AtomicHistogram")
            .field("count", &self.count())
            .field("sum", &self.sum())
            .field("max", &self.max())
            .finish_non_exhaustive()
    }
}

/// An empty histogram with the bounds that [`AtomicHistogram::snapshot`] has.
pub fn empty_snapshot() -> Histogram<u64> {
    // Three digits: the copy rounds by a thousandth, which does not show beside our own 1/32.
    Histogram::new_with_bounds(1, VALUE_MAX, 3).expect("bounds that are constants and in order")
}

/// The bucket of a value. Up to 63 the value itself; above, 32 buckets an octave, numbered on.
fn bucket_of(value: u64) -> usize {
    let value = value.min(VALUE_MAX);
    // The shift that leaves a value of six bits, its top one set: 32 ..= 63. Small values are not shifted.
    let shift = (u64::BITS - value.leading_zeros()).saturating_sub(SUB_BITS + 1);
    // At most 30 * 32 + 63, the last bucket.
    (shift << SUB_BITS) as usize + (value >> shift) as usize
}

/// The smallest value of a bucket: the inverse of [`bucket_of`].
fn lowest_of(bucket: usize) -> u64 {
    let shift = shift_of(bucket);
    (bucket as u64 - (u64::from(shift) << SUB_BITS)) << shift
}

/// The largest value of a bucket.
fn highest_of(bucket: usize) -> u64 {
    lowest_of(bucket) + ((1 << shift_of(bucket)) - 1)
}

fn shift_of(bucket: usize) -> u32 {
    // The first two octaves are not shifted, each later one by one more than the one before.
    (bucket as u32 >> SUB_BITS).saturating_sub(1)
}

/// 32 buckets an octave.
const SUB_BITS: u32 = 5;
/// A minute and a little: a loop or a job that takes longer shows in the maximum, and is looked for by other means.
const VALUE_BITS: u32 = 36;
const BUCKETS: usize = ((VALUE_BITS - SUB_BITS + 1) as usize) << SUB_BITS;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn buckets_follow_each_other_without_gap() {
        // Goal: each value has one bucket, no wider than 1/32 of it. Method: walk all buckets, check both ends of each.
        let mut next = 0;
        for bucket in 0..BUCKETS {
            let (low, high) = (lowest_of(bucket), highest_of(bucket));
            assert_eq!(low, next, "bucket {bucket}");
            assert_eq!((bucket_of(low), bucket_of(high)), (bucket, bucket));
            assert!((high - low) * 32 <= low);
            next = high + 1;
        }
        assert_eq!(next, VALUE_MAX + 1);
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn readings_can_be_subtracted() {
        // Goal: an interval is the difference of two readings, whatever was recorded meanwhile. Method: a larger value in the
        // bucket that was the topmost.
        let hist = AtomicHistogram::new();
        hist.record(1_000_000);
        let before = hist.snapshot();
        for value in [1_000_000, 1_010_000, 5] {
            hist.record(value);
        }
        let mut between = hist.snapshot();
        assert_eq!(between.subtract(&before), Ok(()));
        assert_eq!(between.len(), 3);
        assert!(between.value_at_quantile(0.99) >= 1_000_000);
    }

    #[test]
    fn extremes_are_counted_and_kept() {
        // Goal: nothing is dropped at the ends. Method: zero, the limit, beyond it; sum and maximum stay exact.
        let hist = AtomicHistogram::new();
        assert_eq!((hist.count(), hist.sum(), hist.max()), (0, 0, 0));
        assert_eq!(hist.snapshot().value_at_quantile(0.5), 0);
        for value in [0, VALUE_MAX, VALUE_MAX + 1, 1 << 40] {
            hist.record(value);
        }
        assert_eq!((hist.count(), hist.max()), (4, 1 << 40));
        assert_eq!(hist.sum(), 2 * VALUE_MAX + 1 + (1 << 40));
        let copy = hist.snapshot();
        assert_eq!((copy.len(), copy.min()), (4, 0));
        assert!(copy.max() >= VALUE_MAX);
    }

    #[test]
    fn many_writers_lose_nothing() {
        // Goal: record_shared is exact under contention. Method: four threads on the same buckets, then the totals.
        let hist = AtomicHistogram::new();
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let hist = &hist;
                scope.spawn(move || (0..10_000).for_each(|n| hist.record_shared(n % 100 + thread)));
            }
        });
        assert_eq!((hist.count(), hist.max()), (40_000, 102));
        assert_eq!(hist.sum(), 4 * 100 * 4_950 + 10_000 * (1 + 2 + 3));
    }

    /// Values spread over all octaves, as times are.
    fn times() -> impl Strategy<Value = Vec<u64>> {
        let time = (0..VALUE_BITS).prop_flat_map(|bits| 0..(1u64 << (bits + 1)));
        prop::collection::vec(time, 1..300)
    }

    proptest! {
        #[test]
        fn quantiles_are_within_the_documented_error(values in times()) {
            // Goal: no quantile is lower than the truth, nor more than 3.2 % above it. Method: the sorted values are the
            // truth (quantile 0 is left out, see the module text); hdrhistogram with the same values checks that ranks are counted alike.
            let hist = AtomicHistogram::new();
            let mut reference = empty_snapshot();
            for &value in &values {
                hist.record(value);
                reference.saturating_record(value);
            }
            let copy = hist.snapshot();
            prop_assert_eq!(copy.len(), reference.len());
            prop_assert_eq!(hist.sum(), values.iter().sum::<u64>());
            prop_assert_eq!(hist.max(), *values.iter().max().unwrap());
            let mut sorted = values.clone();
            sorted.sort_unstable();
            for quantile in [0.001, 0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99, 0.999, 1.0] {
                let rank = (quantile * sorted.len() as f64).ceil().max(1.0) as usize;
                let truth = sorted[rank - 1] as f64;
                let told = copy.value_at_quantile(quantile) as f64;
                prop_assert!(told >= truth && told <= truth * 1.032, "{quantile}: {told} for {truth}");
                let same = reference.value_at_quantile(quantile) as f64;
                prop_assert!(told >= same && told <= same * 1.032, "{quantile}: {told}, reference {same}");
            }
        }

        #[test]
        fn merging_is_recording_together(left in times(), right in times()) {
            // Goal: per-loop histograms add up. Method: merge two, add two into one copy, and record everything in one.
            let parts = [left, right].map(|values| {
                let hist = AtomicHistogram::new();
                values.iter().for_each(|&value| hist.record(value));
                (hist, values)
            });
            let whole = AtomicHistogram::new();
            parts.iter().flat_map(|(_, values)| values).for_each(|&value| whole.record_shared(value));
            let merged = AtomicHistogram::default();
            let mut total = empty_snapshot();
            for (hist, _) in &parts {
                merged.merge(hist);
                hist.add_to(&mut total);
            }
            prop_assert_eq!(merged.snapshot(), whole.snapshot());
            prop_assert_eq!((merged.count(), merged.sum(), merged.max()), (whole.count(), whole.sum(), whole.max()));
            prop_assert_eq!(total.len(), whole.count());
        }
    }
}
