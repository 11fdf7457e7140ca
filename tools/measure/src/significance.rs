//! Whether two sets of runs differ, or the noise of the machine explains what is seen.
//!
//! The one idea, benchstat's: a change is told only when the [test](crate::mann_whitney) finds chance an unlikely author
//! (p < 0.05), and is shown as `~` otherwise. How large it is, is another question: the ratio of the medians, with an
//! interval by the percentile bootstrap (B. Efron and R. Tibshirani, *An Introduction to the Bootstrap*, 1993, chapters
//! 13 and 16), for which both sides are drawn anew, each from itself.
//!
//! Here the sides are unpaired: runs of today against those of a result file. Where both were measured round by round,
//! [`stats::Ratio`](crate::stats::Ratio) is sharper, as what happened to a round falls out of its ratio.
//!
//! Not covered: samples that depend on their neighbours, such as the windows of one run. They are fewer than they look,
//! and far too many pairs of them are called different. [`block_means`] makes samples of them that are nearly
//! independent, if the blocks are long beside the memory of what was measured.
//!
//! Invariant: the same samples and the same seed give the same comparison, bit for bit.

use serde::{Deserialize, Serialize};

use crate::mann_whitney::mann_whitney;
use crate::stats::{RESAMPLES, SplitMix64, quantile, sorted};

/// How the samples of `b` compare with those of `a`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// The median of `b` over the median of `a`.
    pub ratio: f64,
    /// Lower end of the 95 % interval of the ratio.
    pub low: f64,
    /// Upper end of the interval.
    pub high: f64,
    /// How likely two sets of one distribution are to differ at least this much.
    pub p: f64,
    /// Whether `p` is below 0.05. The two sides need four samples each for that at the very least.
    pub is_significant: bool,
}

impl Comparison {
    /// What to tell a reader.
    #[must_use]
    pub fn difference(&self) -> Difference {
        if !self.is_significant {
            Difference::Noise
        } else if self.ratio < 1.0 {
            Difference::Lower
        } else if self.ratio > 1.0 {
            Difference::Higher
        } else {
            Difference::Shape
        }
    }
}

/// How `b` differs from `a`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Difference {
    /// Chance explains what is seen.
    Noise,
    /// The median of `b` is lower.
    Lower,
    /// The median of `b` is higher.
    Higher,
    /// They differ, and their medians do not.
    Shape,
}

impl Difference {
    /// One word, as printed; `~` for noise.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Noise => "~",
            Self::Lower => "lower",
            Self::Higher => "higher",
            Self::Shape => "shape",
        }
    }
}

/// Compares `b` with `a`, which were measured independently of each other.
///
/// `None` when there is no ratio to speak of: a side is empty, a sample of `a` is not a positive number, one of `b` is
/// negative or no number, or they lie so far apart that their ratio is none.
#[must_use]
pub fn compare(a: &[f64], b: &[f64], seed: u64) -> Option<Comparison> {
    let is_ratio_of_numbers = a.iter().all(|&sample| sample > 0.0 && sample.is_finite())
        && b.iter().all(|&sample| sample >= 0.0 && sample.is_finite());
    if !is_ratio_of_numbers {
        return None;
    }
    let ratio = quantile(&sorted(b), 0.5)? / quantile(&sorted(a), 0.5)?;
    let (low, high) = ratio_interval(a, b, seed)?;
    let p = mann_whitney(a, b)?.p;
    [ratio, low, high]
        .iter()
        .all(|end| end.is_finite())
        .then_some(Comparison {
            ratio,
            low,
            high,
            p,
            is_significant: p < LEVEL,
        })
}

/// The means of `blocks` stretches of consecutive samples, whose lengths differ by one at most: batch means, after
/// R. W. Conway, *Some tactical problems in digital simulation*, Management Science 10 (1963).
///
/// Every sample is in one block. There are no more blocks than samples, and none when `blocks` is zero.
#[must_use]
pub fn block_means(samples: &[f64], blocks: usize) -> Vec<f64> {
    let blocks = blocks.min(samples.len());
    let start = |block: usize| {
        // In wide numbers, as the product of two counts may not fit one; the quotient is a place in `samples`.
        (block as u128 * samples.len() as u128 / blocks.max(1) as u128) as usize
    };
    (0..blocks)
        .map(|block| &samples[start(block)..start(block + 1)])
        .map(|block| block.iter().sum::<f64>() / block.len() as f64)
        .collect()
}

/// Percentile bootstrap of the ratio of the medians.
fn ratio_interval(a: &[f64], b: &[f64], seed: u64) -> Option<(f64, f64)> {
    let mut random = SplitMix64::new(seed);
    let (mut scratch_a, mut scratch_b) = (a.to_vec(), b.to_vec());
    let mut ratios = Vec::with_capacity(RESAMPLES);
    for _ in 0..RESAMPLES {
        let median_a = resampled_median(a, &mut scratch_a, &mut random)?;
        let median_b = resampled_median(b, &mut scratch_b, &mut random)?;
        ratios.push(median_b / median_a);
    }
    ratios.sort_unstable_by(f64::total_cmp);
    Some((quantile(&ratios, 0.025)?, quantile(&ratios, 0.975)?))
}

fn resampled_median(samples: &[f64], scratch: &mut [f64], random: &mut SplitMix64) -> Option<f64> {
    if samples.is_empty() {
        return None;
    }
    for slot in &mut *scratch {
        *slot = samples[random.below(samples.len())];
    }
    scratch.sort_unstable_by(f64::total_cmp);
    quantile(scratch, 0.5)
}

/// One pair of equal sets in twenty is called different: what readers of benchstat are used to.
const LEVEL: f64 = 0.05;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::draws;

    type Draw = fn(&mut SplitMix64) -> f64;

    /// The most pairs of equal sets that may be called different: 5 %, and four deviations of such a count.
    fn false_alarms_max(pairs: usize) -> usize {
        let pairs = pairs as f64;
        (pairs * LEVEL + 4.0 * (pairs * LEVEL * (1.0 - LEVEL)).sqrt()) as usize
    }

    /// How many of `pairs` pairs of sets are called different.
    fn alarms(pairs: usize, mut sets: impl FnMut() -> (Vec<f64>, Vec<f64>)) -> usize {
        (0..pairs)
            .filter(|_| {
                let (a, b) = sets();
                mann_whitney(&a, &b).is_some_and(|test| test.p < LEVEL)
            })
            .count()
    }

    /// Samples that remember nine tenths of their neighbour.
    fn sluggish(random: &mut SplitMix64, count: usize) -> Vec<f64> {
        let mut level = draws::normal(random) / (1.0_f64 - 0.81).sqrt();
        let mut next = || {
            level = 0.9 * level + draws::normal(random);
            100.0 + level
        };
        (0..count).map(|_| next()).collect()
    }

    #[test]
    fn equal_sets_are_rarely_called_different() {
        // Goal: at most 5 % false alarms whatever the shape and the size; by A/A pairs of virtual data.
        let mut random = SplitMix64::new(11);
        let shapes: [(&str, Draw); 4] = [
            ("normal", |random| 100.0 + draws::normal(random)),
            ("log-normal", draws::log_normal),
            ("heavy-tailed", draws::pareto),
            ("quantized", |random| {
                (8.0 + 2.0 * draws::normal(random)).round()
            }),
        ];
        for (name, draw) in shapes {
            for (left, right) in [(5, 5), (10, 10), (8, 15), (60, 60)] {
                let mut set =
                    |count: usize| -> Vec<f64> { (0..count).map(|_| draw(&mut random)).collect() };
                let found = alarms(2_000, || (set(left), set(right)));
                assert!(
                    found <= false_alarms_max(2_000),
                    "{name} {left} {right}: {found}"
                );
            }
        }
    }

    #[test]
    fn a_change_of_three_percent_is_seen_in_ten_runs() {
        // Goal: the test is not silent either; by runs that vary by 2 %, of which four pairs in five must be told apart.
        let mut random = SplitMix64::new(12);
        let mut set = |centre: f64| -> Vec<f64> {
            (0..10)
                .map(|_| centre * (1.0 + 0.02 * draws::normal(&mut random)))
                .collect()
        };
        let found = alarms(1_000, || (set(100.0), set(103.0)));
        assert!(found > 800, "{found} of 1000");
    }

    #[test]
    fn neighbours_that_resemble_each_other_need_blocks() {
        // Goal: the known hole is real and its remedy works; by rows that remember, as they are and in blocks.
        let mut random = SplitMix64::new(13);
        let raw = alarms(300, || {
            (sluggish(&mut random, 100), sluggish(&mut random, 100))
        });
        assert!(raw > 90, "{raw} of 300");
        let mut random = SplitMix64::new(14);
        let mut blocks = || block_means(&sluggish(&mut random, 2_000), 10);
        let found = alarms(1_000, || (blocks(), blocks()));
        assert!(found <= false_alarms_max(1_000), "{found} of 1000");
    }

    #[test]
    fn a_comparison_tells_ratio_interval_and_verdict() {
        // Goal: each field and word, by sets that differ threefold, hardly, and in nothing.
        let a: Vec<f64> = (100..110).map(f64::from).collect();
        let thrice: Vec<f64> = a.iter().map(|x| x * 3.0).collect();
        let more = compare(&a, &thrice, 1).unwrap();
        assert_eq!((more.ratio, more.difference()), (3.0, Difference::Higher));
        assert!(
            more.low > 2.8 && more.high < 3.2 && more.p < 1e-4,
            "{more:?}"
        );
        assert_eq!(
            compare(&thrice, &a, 1).unwrap().difference(),
            Difference::Lower
        );
        let same = compare(&a, &a, 1).unwrap();
        assert_eq!((same.ratio, same.difference().as_str()), (1.0, "~"));
        let shape = Comparison {
            is_significant: true,
            ..same
        };
        assert_eq!(shape.difference(), Difference::Shape);
        assert_eq!(compare(&a, &thrice, 1), Some(more));
    }

    #[test]
    fn the_interval_covers_the_true_ratio_about_as_often_as_it_says() {
        // Goal: 95 % means 95 %; by 80 pairs of skewed sets whose true ratio is two.
        let mut random = SplitMix64::new(15);
        let mut set = |scale: f64| -> Vec<f64> {
            (0..12)
                .map(|_| scale * draws::log_normal(&mut random))
                .collect()
        };
        let covered = (0..80)
            .filter(|&seed| {
                let found = compare(&set(1.0), &set(2.0), seed).unwrap();
                found.low <= 2.0 && 2.0 <= found.high
            })
            .count();
        assert!((70..=80).contains(&covered), "{covered} of 80");
    }

    #[test]
    fn odd_input_is_no_comparison() {
        // Goal: no panic and nothing endless in a table; by sets without a ratio, and by the smallest that have one.
        assert_eq!(compare(&[], &[1.0], 1), None);
        assert_eq!(compare(&[1.0], &[], 1), None);
        assert_eq!(compare(&[0.0, 1.0], &[1.0], 1), None);
        assert_eq!(compare(&[1.0], &[f64::NAN], 1), None);
        assert_eq!(compare(&[f64::INFINITY], &[1.0], 1), None);
        assert_eq!(compare(&[1.0], &[-1.0], 1), None);
        assert_eq!(compare(&[f64::MIN_POSITIVE], &[f64::MAX], 1), None);
        let zero = compare(&[1.0], &[0.0], 1).unwrap();
        assert_eq!((zero.ratio, zero.is_significant), (0.0, false));
    }

    #[test]
    fn blocks_hold_every_sample_once() {
        // Goal: the split is complete, in order and even; by counts that do not divide, none, and too many.
        assert_eq!(block_means(&[1.0, 3.0, 5.0, 7.0, 9.0], 2), [2.0, 7.0]);
        assert_eq!(block_means(&[1.0, 2.0], 9), [1.0, 2.0]);
        assert_eq!(block_means(&[1.0, 2.0], 0), Vec::<f64>::new());
        assert_eq!(block_means(&[], 3), Vec::<f64>::new());
    }
}
