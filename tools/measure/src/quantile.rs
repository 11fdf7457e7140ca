//! Which quantiles a histogram is able to tell.
//!
//! The one idea: a figure that rests on a handful of samples is an anecdote, and is not given. With 100 samples beyond
//! it, the 99.9th percentile of 100,000 lies between the 99.88th and the 99.92nd of what was sampled, 19 times in 20.

use hdrhistogram::Histogram;

/// The share `quantile` of a histogram, or `None` when fewer than 100 samples lie beyond it: such a figure would be
/// an anecdote.
#[must_use]
pub fn quantile_ns(histogram: &Histogram<u64>, quantile: f64) -> Option<u64> {
    let beyond = histogram.len() as f64 * (1.0 - quantile);
    // The product of a whole number and `1 - q` may fall short of 100 by a rounding error.
    (beyond >= 99.9999).then(|| histogram.value_at_quantile(quantile))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_needs_a_hundred_samples_beyond_it() {
        // Goal: no p99.9 out of a thousand samples; by the border cases.
        let mut samples = Histogram::<u64>::new_with_bounds(1, 1_000_000, 3).unwrap();
        samples.record_n(1_000, 99_999).unwrap();
        assert_eq!(quantile_ns(&samples, 0.999), None);
        samples.record(1_000).unwrap();
        assert_eq!(quantile_ns(&samples, 0.999), Some(1_000));
    }
}
