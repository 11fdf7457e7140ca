//! Medians, pairwise ratios and how far to trust them.
//!
//! The one idea: two programs are compared round by round, so that whatever the machine did to a round it did to both
//! sides of the division; the median of those ratios is the result, and a bootstrap over the rounds is its interval.
//! Ratios are never averaged: the mean of `a/b` and the mean of `b/a` can both exceed one.
//!
//! Deliberately absent: outlier removal. A round that looks odd is marked by whoever measured it and stays in.
//!
//! Invariant: the same samples and the same seed give the same interval, bit for bit.

use serde::{Deserialize, Serialize};

/// A small seeded generator (SplitMix64), for resampling and for message contents; not for secrets.
#[derive(Debug, Clone)]
pub struct SplitMix64 {
    state: u64,
}

impl SplitMix64 {
    /// A generator that will repeat itself for the same `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(GOLDEN);
        mix(self.state)
    }

    /// A number below `bound`, with a bias of at most `bound / 2^64`.
    ///
    /// # Panics
    /// When `bound` is zero.
    pub fn below(&mut self, bound: usize) -> usize {
        assert!(bound > 0, "there is no number below zero");
        let wide = u128::from(self.next_u64()) * bound as u128;
        (wide >> 64) as usize
    }
}

/// Spreads every input bit over the whole word.
#[must_use]
pub fn mix(word: u64) -> u64 {
    let word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    word ^ (word >> 31)
}

/// The middle and the spread of a set of samples.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// How many samples there were.
    pub samples: usize,
    /// Half of the samples are at or below.
    pub median: f64,
    /// A quarter of the samples are at or below.
    pub quartile_low: f64,
    /// Three quarters of the samples are at or below.
    pub quartile_high: f64,
    /// The median distance from the median.
    pub deviation: f64,
}

impl Spread {
    /// Describes `samples`, or `None` when there are none or one of them is not a number: the median of those that
    /// happened to be measured would be the median of a selection.
    #[must_use]
    pub fn of(samples: &[f64]) -> Option<Self> {
        if samples.iter().any(|sample| sample.is_nan()) {
            return None;
        }
        let sorted = sorted(samples);
        let median = quantile(&sorted, 0.5)?;
        let distances: Vec<f64> = sorted.iter().map(|x| (x - median).abs()).collect();
        Some(Self {
            samples: sorted.len(),
            median,
            quartile_low: quantile(&sorted, 0.25)?,
            quartile_high: quantile(&sorted, 0.75)?,
            deviation: quantile(&self::sorted(&distances), 0.5)?,
        })
    }

    /// The interquartile range as a share of the median.
    #[must_use]
    pub fn relative(&self) -> f64 {
        (self.quartile_high - self.quartile_low) / self.median
    }
}

/// The median of pairwise ratios with a 95 % interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Ratio {
    /// How many pairs were divided.
    pub pairs: usize,
    /// The median of the ratios.
    pub median: f64,
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end of the interval.
    pub high: f64,
}

impl Ratio {
    /// Divides `numerators` by `denominators` pair by pair, or `None` when no pair has a usable denominator.
    ///
    /// # Panics
    /// When the slices differ in length: the caller lost the pairing.
    #[must_use]
    pub fn of(numerators: &[f64], denominators: &[f64], seed: u64) -> Option<Self> {
        assert_eq!(
            numerators.len(),
            denominators.len(),
            "a ratio is taken within a round, so both sides have the same rounds"
        );
        let ratios: Vec<f64> = numerators
            .iter()
            .zip(denominators)
            .map(|(numerator, denominator)| numerator / denominator)
            .filter(|ratio| ratio.is_finite())
            .collect();
        let median = quantile(&sorted(&ratios), 0.5)?;
        let (low, high) = median_interval(&ratios, seed)?;
        Some(Self {
            pairs: ratios.len(),
            median,
            low,
            high,
        })
    }

    /// Whether the ratio is known to be at most `goal`.
    #[must_use]
    pub fn judge(&self, goal: f64) -> Verdict {
        if self.pairs < PAIRS_TO_JUDGE {
            Verdict::Undecided
        } else if self.high <= goal {
            Verdict::Met
        } else if self.low > goal {
            Verdict::Missed
        } else {
            Verdict::Undecided
        }
    }
}

/// What an interval says about a goal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// The whole interval is within the goal.
    Met,
    /// The whole interval is beyond the goal.
    Missed,
    /// The goal lies inside the interval, or there are too few rounds to say.
    Undecided,
}

impl Verdict {
    /// One word, as printed.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Met => "met",
            Self::Missed => "missed",
            Self::Undecided => "undecided",
        }
    }
}

/// The largest bin over the mean bin when `balls` fall into `bins` at random: what a perfect hash would give.
///
/// Answers the median and the 95th percentile over seeded trials.
///
/// # Panics
/// When `balls` or `bins` is zero.
#[must_use]
pub fn hashed_imbalance(balls: usize, bins: usize, seed: u64) -> (f64, f64) {
    assert!(balls > 0 && bins > 0, "nothing to balance");
    let mut random = SplitMix64::new(seed);
    let mut worst = Vec::with_capacity(TRIALS);
    let mut counts = vec![0_usize; bins];
    for _ in 0..TRIALS {
        counts.fill(0);
        for _ in 0..balls {
            counts[random.below(bins)] += 1;
        }
        worst.push(imbalance(&counts));
    }
    let worst = sorted(&worst);
    // `TRIALS` is not zero, so both quantiles exist.
    (
        quantile(&worst, 0.5).unwrap_or(f64::NAN),
        quantile(&worst, 0.95).unwrap_or(f64::NAN),
    )
}

/// The largest count over the mean count; 1 is perfect, the number of counts is the worst.
#[must_use]
pub fn imbalance(counts: &[usize]) -> f64 {
    let total: usize = counts.iter().sum();
    let max = counts.iter().copied().max().unwrap_or(0);
    max as f64 * counts.len() as f64 / total as f64
}

/// Percentile bootstrap of the median: resample the rounds, take the median of each resample, cut 2.5 % off both ends.
fn median_interval(samples: &[f64], seed: u64) -> Option<(f64, f64)> {
    if samples.is_empty() {
        return None;
    }
    let mut random = SplitMix64::new(seed);
    let mut resample = vec![0.0; samples.len()];
    let mut medians = Vec::with_capacity(RESAMPLES);
    for _ in 0..RESAMPLES {
        for slot in &mut resample {
            *slot = samples[random.below(samples.len())];
        }
        resample.sort_unstable_by(f64::total_cmp);
        medians.push(quantile(&resample, 0.5)?);
    }
    medians.sort_unstable_by(f64::total_cmp);
    Some((quantile(&medians, 0.025)?, quantile(&medians, 0.975)?))
}

/// A sorted copy.
pub(crate) fn sorted(samples: &[f64]) -> Vec<f64> {
    let mut sorted = samples.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    sorted
}

/// Linear interpolation between the two nearest ranks of sorted samples.
pub(crate) fn quantile(sorted: &[f64], share: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    let rank = share * last as f64;
    let below = rank.floor() as usize;
    let above = rank.ceil() as usize;
    let weight = rank - rank.floor();
    Some(sorted[below] * (1.0 - weight) + sorted[above] * weight)
}

const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// More resamples move the ends of the interval by less than the third digit that is printed.
pub(crate) const RESAMPLES: usize = 10_000;

/// Enough for two digits of a 95th percentile.
const TRIALS: usize = 4_000;

/// With fewer rounds the bootstrap cannot reach 95 %: five samples already leave out the extremes 6 % of the time.
const PAIRS_TO_JUDGE: usize = 6;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_is_read_off_sorted_ranks() {
        // Goal: median, quartiles and deviation of an unsorted set, by a case worked out by hand.
        let spread = Spread::of(&[5.0, 1.0, 4.0, 2.0, 3.0]).unwrap();
        assert_eq!(spread.median, 3.0);
        assert_eq!((spread.quartile_low, spread.quartile_high), (2.0, 4.0));
        assert_eq!(spread.deviation, 1.0);
        assert_eq!(Spread::of(&[]), None);
        assert_eq!(Spread::of(&[1.0, f64::NAN]), None);
        assert_eq!(Spread::of(&[1.0, 2.0]).unwrap().median, 1.5);
    }

    #[test]
    fn ratios_are_paired_within_a_round() {
        // Goal: a drift common to both sides cancels; by rounds that differ tenfold with a constant ratio.
        let base = [1.0, 10.0, 2.0, 7.0, 30.0, 4.0];
        let twice: Vec<f64> = base.iter().map(|x| x * 2.0).collect();
        let ratio = Ratio::of(&twice, &base, 1).unwrap();
        assert_eq!((ratio.median, ratio.low, ratio.high), (2.0, 2.0, 2.0));
    }

    #[test]
    fn an_interval_contains_its_median_and_repeats_itself() {
        // Goal: the interval brackets the median and depends on the seed alone; over many seeds.
        let mut random = SplitMix64::new(7);
        for seed in 0..20 {
            let left: Vec<f64> = (0..10).map(|_| 1.0 + random.below(100) as f64).collect();
            let right: Vec<f64> = (0..10).map(|_| 1.0 + random.below(100) as f64).collect();
            let ratio = Ratio::of(&left, &right, seed).unwrap();
            assert!(ratio.low <= ratio.median && ratio.median <= ratio.high);
            assert_eq!(Ratio::of(&left, &right, seed), Some(ratio));
        }
    }

    #[test]
    fn the_interval_covers_the_true_median_about_as_often_as_it_says() {
        // Goal: 95 % means 95 %; by 400 experiments of 15 rounds with a known median ratio of one.
        let mut random = SplitMix64::new(42);
        let covered = (0..400)
            .filter(|&seed| {
                let ratios: Vec<f64> = (0..15)
                    .map(|_| 0.5 + random.below(1_000_001) as f64 / 1e6)
                    .collect();
                let ratio = Ratio::of(&ratios, &[1.0; 15], seed).unwrap();
                ratio.low <= 1.0 && 1.0 <= ratio.high
            })
            .count();
        assert!((360..=396).contains(&covered), "{covered} of 400");
    }

    #[test]
    fn a_goal_inside_the_interval_stays_undecided() {
        // Goal: all three verdicts and the refusal of too few rounds, by hand-made intervals.
        let ratio = |pairs, low, high| Ratio {
            pairs,
            median: (low + high) / 2.0,
            low,
            high,
        };
        assert_eq!(ratio(10, 0.9, 1.0).judge(1.0), Verdict::Met);
        assert_eq!(ratio(10, 1.01, 1.1).judge(1.0), Verdict::Missed);
        assert_eq!(ratio(10, 0.9, 1.1).judge(1.0), Verdict::Undecided);
        assert_eq!(ratio(5, 0.1, 0.2).judge(1.0), Verdict::Undecided);
    }

    #[test]
    fn a_zero_denominator_is_no_ratio() {
        // Goal: nothing infinite reaches a table, by an empty round on the right side.
        assert_eq!(Ratio::of(&[1.0, 4.0], &[0.0, 2.0], 1).unwrap().pairs, 1);
        assert_eq!(Ratio::of(&[1.0], &[0.0], 1), None);
    }

    #[test]
    fn hashing_is_as_uneven_as_theory_says() {
        // Goal: the simulated median agrees with the half-normal law of two bins, by 512 balls.
        let (median, high) = hashed_imbalance(512, 2, 3);
        assert!((1.02..1.04).contains(&median), "{median}");
        assert!((1.07..1.11).contains(&high), "{high}");
        assert_eq!(imbalance(&[256, 256]), 1.0);
        assert_eq!(imbalance(&[512, 0]), 2.0);
    }
}
