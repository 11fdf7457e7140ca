//! What a histogram says, and the histogram itself.
//!
//! The one idea: a percentile that rests on fewer than 100 samples beyond it is an anecdote and is left out; whoever
//! wants it all the same finds the whole histogram beside it, in the compressed form (V2) that every HdrHistogram
//! library reads.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer, Serializer as _, V2DeflateSerializer};
use polyloop_measure::quantile::quantile_ns;
use serde::{Deserialize, Serialize};

use super::stage::rounded;

/// The percentiles of one histogram in microseconds, where it can tell them.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Quantiles {
    /// How many samples there were.
    pub samples: u64,
    /// The shortest.
    pub min_us: Option<f64>,
    /// The average.
    pub mean_us: Option<f64>,
    /// Half took at most this long.
    pub p50_us: Option<f64>,
    /// 90 of 100 took at most this long.
    pub p90_us: Option<f64>,
    /// 99 of 100.
    pub p99_us: Option<f64>,
    /// 999 of 1000.
    pub p99_9_us: Option<f64>,
    /// 9999 of 10,000.
    pub p99_99_us: Option<f64>,
    /// The longest.
    pub max_us: Option<f64>,
    /// The whole histogram in nanoseconds: HdrHistogram V2, deflated, in base64. Empty when there are no samples.
    pub histogram: String,
}

impl Quantiles {
    /// Reads what `histogram` (in nanoseconds) is able to tell.
    #[must_use]
    pub fn of(histogram: &Histogram<u64>) -> Self {
        if histogram.is_empty() {
            return Self::default();
        }
        let at = |quantile| quantile_ns(histogram, quantile).map(|ns| us(ns.min(histogram.max())));
        Self {
            samples: histogram.len(),
            min_us: Some(us(histogram.min())),
            mean_us: Some(rounded(histogram.mean() / 1e3, 3)),
            p50_us: at(0.5),
            p90_us: at(0.9),
            p99_us: at(0.99),
            p99_9_us: at(0.999),
            p99_99_us: at(0.9999),
            max_us: Some(us(histogram.max())),
            histogram: encoded(histogram),
        }
    }

    /// The histogram as it was, or `None` when there were no samples or the text is not one.
    #[must_use]
    pub fn decoded(&self) -> Option<Histogram<u64>> {
        let bytes = STANDARD.decode(&self.histogram).ok()?;
        Deserializer::new().deserialize(&mut &bytes[..]).ok()
    }
}

/// A quantile in microseconds, when at least `beyond` samples lie beyond it.
pub(crate) fn quantile_us(histogram: &Histogram<u64>, quantile: f64, beyond: f64) -> Option<f64> {
    // The product of a whole number and `1 - q` may fall short of a whole number by a rounding error.
    let enough = histogram.len() as f64 * (1.0 - quantile) >= beyond - 1e-4;
    enough.then(|| us(histogram.value_at_quantile(quantile).min(histogram.max())))
}

/// Nanoseconds as microseconds.
pub(super) fn us(ns: u64) -> f64 {
    rounded(ns as f64 / 1e3, 3)
}

fn encoded(histogram: &Histogram<u64>) -> String {
    let mut bytes = Vec::new();
    // Writing to memory does not fail; were it to, an empty text says that there is no histogram.
    match V2DeflateSerializer::new().serialize(histogram, &mut bytes) {
        Ok(_) => STANDARD.encode(bytes),
        Err(_) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tally::durations;

    #[test]
    fn percentiles_need_a_hundred_samples_beyond() {
        // Goal: what 1,000 samples cannot tell is not told. Method: 1,000 samples of 1 to 1,000 µs.
        let mut histogram = durations();
        for sample_us in 1..=1_000_u64 {
            histogram.record(sample_us * 1_000).unwrap();
        }
        let told = Quantiles::of(&histogram);
        assert_eq!(told.samples, 1_000);
        assert!((told.p50_us.unwrap() - 500.0).abs() < 1.0, "{told:?}");
        assert!((told.p90_us.unwrap() - 900.0).abs() < 1.0, "{told:?}");
        assert_eq!(
            (told.p99_us, told.p99_9_us, told.p99_99_us),
            (None, None, None)
        );
        assert!((told.mean_us.unwrap() - 500.5).abs() < 1.0, "{told:?}");
    }

    #[test]
    fn the_histogram_comes_back_whole() {
        // Goal: no count is lost on the way through the file. Method: samples over six decades, and none at all.
        let mut histogram = durations();
        for exponent in 0..6 {
            histogram.record_n(10_u64.pow(exponent + 3), 7).unwrap();
        }
        let told = Quantiles::of(&histogram);
        assert_eq!(told.decoded().unwrap(), histogram);
        assert_eq!(Quantiles::of(&durations()), Quantiles::default());
        assert_eq!(Quantiles::default().decoded(), None);
    }
}
