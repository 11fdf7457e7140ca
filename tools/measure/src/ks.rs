//! The Kolmogorov-Smirnov distance: how far what was measured lies from what is known to be true.
//!
//! The one idea: a generator is put before a server whose delays are drawn from a known law, and the largest gap between
//! the two distribution functions is the generator's error, in shares of all samples. [`bound`] says which gap chance
//! alone explains.
//!
//! Sources: A. Kolmogorov, *Sulla determinazione empirica di una legge di distribuzione* (1933); the bound by A.
//! Dvoretzky, J. Kiefer and J. Wolfowitz (1956) with P. Massart's constant, *The tight constant in the
//! Dvoretzky-Kiefer-Wolfowitz inequality*, Annals of Probability 18 (1990).
//!
//! A law may have steps, such as a delay that is always the same: both sides of each step are compared.

use hdrhistogram::Histogram;

use crate::stats::sorted;

/// The distance of `samples` from the law whose share at or below `x` is `cdf(x)`, from 0 to 1.
///
/// `None` when there are no samples, one is not a number, or `cdf` answers with something that is no share.
#[must_use]
pub fn distance(samples: &[f64], cdf: impl Fn(f64) -> f64) -> Option<f64> {
    if samples.iter().any(|sample| sample.is_nan()) {
        return None;
    }
    let sorted = sorted(samples);
    let groups = sorted
        .chunk_by(|left, right| left == right)
        .map(|group| (group[0], group[0], group.len() as u64));
    widest_gap(groups, samples.len() as u64, cdf)
}

/// The distance of a histogram from the law whose share at or below `x` is `cdf(x)`, in the histogram's own unit.
///
/// Where its values lay within a bucket the histogram does not know. They are compared at the borders of the buckets
/// only, so the answer is too small by at most the largest share that the law gives to one bucket: with three
/// significant digits, a thousandth of the value.
///
/// `None` when it is empty or `cdf` answers with something that is no share.
#[must_use]
pub fn distance_of_histogram(histogram: &Histogram<u64>, cdf: impl Fn(f64) -> f64) -> Option<f64> {
    let buckets = histogram.iter_recorded().map(|bucket| {
        let value = bucket.value_iterated_to();
        let low = histogram.lowest_equivalent(value) as f64;
        // The bucket ends where the next one begins.
        let high = histogram.highest_equivalent(value) as f64 + 1.0;
        (low, high.next_down(), bucket.count_at_value())
    });
    widest_gap(buckets, histogram.len(), cdf)
}

/// The distance that `count` samples of the law itself exceed with a likelihood of `level` at most.
///
/// `None` when there are no samples or `level` is not between 0 and 1.
#[must_use]
pub fn bound(count: u64, level: f64) -> Option<f64> {
    let is_sound = count > 0 && level > 0.0 && level < 1.0;
    is_sound.then(|| ((2.0 / level).ln() / (2.0 * count as f64)).sqrt().min(1.0))
}

/// Walks up stretches of `(first value, last value, samples within)` and compares before and after each.
fn widest_gap(
    stretches: impl Iterator<Item = (f64, f64, u64)>,
    total: u64,
    cdf: impl Fn(f64) -> f64,
) -> Option<f64> {
    let share = |x: f64| Some(cdf(x)).filter(|share| (0.0..=1.0).contains(share));
    let mut widest = None;
    let mut seen = 0_u64;
    for (first, last, samples) in stretches {
        // What lies below a step belongs to the value before it.
        let before = (share(first.next_down())? - seen as f64 / total as f64).abs();
        seen += samples;
        let after = (share(last)? - seen as f64 / total as f64).abs();
        widest = Some(before.max(after).max(widest.unwrap_or(0.0)));
    }
    widest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::draws;
    use crate::stats::SplitMix64;

    fn uniform(x: f64) -> f64 {
        x.clamp(0.0, 1.0)
    }

    fn histogram() -> Histogram<u64> {
        Histogram::new_with_bounds(1, 60_000_000_000, 3).unwrap()
    }

    #[test]
    fn the_widest_gap_is_found_on_either_side_of_a_sample() {
        // Goal: the distance itself, by cases worked out by hand: above the law, below it, and with a tie.
        let cases: [(&[f64], f64); 5] = [
            (&[0.5], 0.5),
            (&[0.1, 0.2], 0.8),
            (&[0.9, 0.75], 0.75),
            (&[0.25, 0.25, 0.75, 0.75], 0.25),
            (&[7.0], 1.0),
        ];
        for (samples, expected) in cases {
            let found = distance(samples, uniform).unwrap();
            assert!((found - expected).abs() < 1e-12, "{samples:?}: {found}");
        }
    }

    #[test]
    fn a_law_with_a_step_is_no_error() {
        // Goal: a constant delay measured without error has distance 0; by samples and by a histogram at a border of
        // a bucket and within one.
        for value in [1_000_u64, 4_097, 1_000_003] {
            let step = |x: f64| f64::from(u8::from(x >= value as f64));
            assert_eq!(distance(&[value as f64; 5], step), Some(0.0));
            let mut samples = histogram();
            samples.record_n(value, 5).unwrap();
            assert_eq!(distance_of_histogram(&samples, step), Some(0.0), "{value}");
            samples.record_n(10, 5).unwrap();
            assert_eq!(distance_of_histogram(&samples, step), Some(0.5), "{value}");
        }
    }

    #[test]
    fn samples_of_the_law_keep_the_bound_and_others_do_not() {
        // Goal: the bound at 5 % is broken by the law's own samples in 5 % of the trials at most, and by a law that is
        // off by a tenth always; by exponential delays.
        let law = |x: f64| 1.0 - (-x.max(0.0)).exp();
        let mut random = SplitMix64::new(21);
        let limit = bound(2_000, 0.05).unwrap();
        let mut broken = 0;
        for _ in 0..300 {
            let samples: Vec<f64> = (0..2_000)
                .map(|_| draws::exponential(&mut random))
                .collect();
            broken += usize::from(distance(&samples, law).unwrap() > limit);
            let slow: Vec<f64> = samples.iter().map(|x| x * 1.2).collect();
            assert!(distance(&slow, law).unwrap() > limit);
        }
        assert!(broken <= 30, "{broken} of 300"); // 15, and four deviations
    }

    #[test]
    fn a_histogram_hides_no_more_than_a_bucket() {
        // Goal: samples and their histogram agree within the law's largest share of a bucket; by exponential delays
        // of a mean of 50 us.
        let law = |ns: f64| 1.0 - (-ns.max(0.0) / 50e3).exp();
        let mut random = SplitMix64::new(22);
        let mut rounded = histogram();
        let samples: Vec<f64> = (0..20_000)
            .map(|_| (draws::exponential(&mut random) * 50e3).floor())
            .collect();
        for &sample in &samples {
            rounded.record(sample as u64).unwrap();
        }
        let exact = distance(&samples, law).unwrap();
        let seen = distance_of_histogram(&rounded, law).unwrap();
        assert!((exact - seen).abs() < 1e-3, "{exact} {seen}");
        assert!(seen <= bound(20_000, 0.01).unwrap());
    }

    #[test]
    fn odd_input_is_no_distance() {
        // Goal: no panic and no made-up figure; by no samples, no number, and functions that are no law.
        assert_eq!(distance(&[], uniform), None);
        assert_eq!(distance(&[0.5, f64::NAN], uniform), None);
        assert_eq!(distance(&[0.5], |_| f64::NAN), None);
        assert_eq!(distance(&[0.5], |_| 2.0), None);
        assert_eq!(
            distance(&[f64::NEG_INFINITY, f64::INFINITY], uniform),
            Some(0.5)
        );
        assert_eq!(distance_of_histogram(&histogram(), uniform), None);
        assert_eq!(
            (bound(0, 0.05), bound(10, 0.0), bound(10, f64::NAN)),
            (None, None, None)
        );
        assert_eq!(bound(1, 1e-9), Some(1.0));
    }
}
