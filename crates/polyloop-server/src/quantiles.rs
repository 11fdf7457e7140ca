//! The figures that are told of a histogram, the same everywhere.

use hdrhistogram::Histogram;
use polyloop::hist::{AtomicHistogram, empty_snapshot};

/// The quantiles that are told: the usual, and the slow ones that people complain about.
pub(crate) const QUANTILES: [(f64, &str); 5] = [
    (0.5, "0.5"),
    (0.9, "0.9"),
    (0.99, "0.99"),
    (0.999, "0.999"),
    (1.0, "1"),
];

/// One reading of a histogram, in its own unit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reading {
    pub(crate) count: u64,
    pub(crate) sum: u64,
    pub(crate) max: u64,
    /// The values of [`QUANTILES`]; `None` before the first value.
    pub(crate) values: Option<[u64; QUANTILES.len()]>,
}

/// Reads histograms one after the other through one copy, since a copy is 230 KiB.
#[derive(Debug)]
pub(crate) struct Reader {
    copy: Histogram<u64>,
}

impl Reader {
    pub(crate) fn new() -> Self {
        Self {
            copy: empty_snapshot(),
        }
    }

    pub(crate) fn read(&mut self, histogram: &AtomicHistogram) -> Reading {
        self.copy.reset();
        histogram.add_to(&mut self.copy);
        let count = self.copy.len();
        let max = histogram.max();
        Reading {
            // Of the copy, so that count and quantiles belong together while the owner writes on.
            count,
            sum: histogram.sum(),
            max,
            // The copy tells the top of a bucket, which may be beyond the largest value there was.
            values: (count > 0)
                .then(|| QUANTILES.map(|(q, _)| self.copy.value_at_quantile(q).min(max))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readings_do_not_mix() {
        // Goal: one copy serves many histograms. Method: an empty one between two different ones.
        let (low, empty, high) = (
            AtomicHistogram::new(),
            AtomicHistogram::new(),
            AtomicHistogram::new(),
        );
        (1..=10).for_each(|value| low.record(value));
        high.record(1_000_000);
        let mut reader = Reader::new();
        let first = reader.read(&low);
        assert_eq!((first.count, first.sum, first.max), (10, 55, 10));
        assert_eq!(first.values, Some([5, 9, 10, 10, 10]));
        let none = reader.read(&empty);
        assert_eq!((none.count, none.values), (0, None));
        assert_eq!(reader.read(&high).count, 1);
    }
}
