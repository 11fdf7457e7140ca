//! The Mann-Whitney U test: may two sets of samples come from the same distribution?
//!
//! The one idea: only the order of the samples counts, so nothing is assumed about the shape of their distribution, and
//! one wild sample weighs no more than any other at the end of the row.
//!
//! Sources: H. B. Mann and D. R. Whitney, *On a test of whether one of two random variables is stochastically larger
//! than the other*, Annals of Mathematical Statistics 18 (1947); the exact distribution by E. F. Harding's generating
//! function, Applied Statistics 33 (1984); `erfc` by 7.1.6 and 7.1.14 of Abramowitz and Stegun.
//!
//! Invariant: swapping the two sets changes nothing but `u`, which becomes the number of pairs less itself.

use std::f64::consts::{FRAC_1_SQRT_2, PI};

/// What the test says.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MannWhitney {
    /// Pairs in which the sample of the first set is the larger one; a tie counts half.
    pub u: f64,
    /// How likely two sets of one distribution are to differ at least this much, in either direction.
    pub p: f64,
    /// How `p` was found.
    pub method: Method,
}

/// How the likelihood was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// All orders were counted.
    Exact,
    /// By the normal law, corrected for ties and for the steps of `u`.
    Normal,
}

/// Tests `a` against `b`, on two sides: exactly where neither side has more than 50 samples and all are different, by
/// the normal approximation otherwise. `None` when a side is empty or a sample is not a number.
///
/// Samples have to be independent: in a row where neighbours resemble each other far too many pairs are called
/// different (see [`block_means`](crate::significance::block_means)).
#[must_use]
pub fn mann_whitney(a: &[f64], b: &[f64]) -> Option<MannWhitney> {
    if a.is_empty() || b.is_empty() || a.iter().chain(b).any(|sample| sample.is_nan()) {
        return None;
    }
    let ranked = Ranked::of(a, b);
    let pairs = a.len() as f64 * b.len() as f64;
    let u = ranked.sum_of_a - a.len() as f64 * (a.len() as f64 + 1.0) / 2.0;
    let is_small = a.len().max(b.len()) <= EXACT_MAX;
    let (p, method) = if is_small && ranked.ties == 0.0 {
        // Without ties `u` is a whole number.
        let least = u.min(pairs - u) as usize;
        (exact(a.len(), b.len(), least), Method::Exact)
    } else {
        let all = (a.len() + b.len()) as f64;
        let variance = pairs / 12.0 * (all + 1.0 - ranked.ties / (all * (all - 1.0)));
        (normal(u - pairs / 2.0, variance), Method::Normal)
    };
    Some(MannWhitney { u, p, method })
}

/// What the common order of both sets says.
struct Ranked {
    /// The ranks of the first set, from 1, added up; samples that tie share the mean of their ranks.
    sum_of_a: f64,
    /// The sum of `t^3 - t` over all groups of `t` samples that tie.
    ties: f64,
}

impl Ranked {
    fn of(a: &[f64], b: &[f64]) -> Self {
        let from = |samples: &[f64], is_a: bool| -> Vec<(f64, bool)> {
            samples.iter().map(|&sample| (sample, is_a)).collect()
        };
        let mut row = from(a, true);
        row.extend(from(b, false));
        row.sort_unstable_by(|left, right| left.0.total_cmp(&right.0));
        let (mut sum_of_a, mut ties, mut before) = (0.0, 0.0, 0.0);
        // Compared by `==`, so that both zeros tie.
        for group in row.chunk_by(|left, right| left.0 == right.0) {
            let size = group.len() as f64;
            let of_a = group.iter().filter(|(_, is_a)| *is_a).count();
            sum_of_a += of_a as f64 * (before + (size + 1.0) / 2.0);
            ties += size * size * size - size;
            before += size;
        }
        Self { sum_of_a, ties }
    }
}

/// The share of all orders of `m` and `n` different samples whose U is at most `least`, or as far from the middle on
/// the other side.
fn exact(m: usize, n: usize, least: usize) -> f64 {
    // The orders by their U are the coefficients of the product of (1 - x^(n+i)) / (1 - x^i) over i = 1..=m. After each
    // step they are counts of a smaller problem, so all fit: their sum at 50 and 50 is 10^29.
    let mut orders = vec![0_i128; m * n + 1];
    orders[0] = 1;
    for i in 1..=m {
        for u in (n + i..orders.len()).rev() {
            orders[u] -= orders[u - n - i];
        }
        for u in i..orders.len() {
            orders[u] += orders[u - i];
        }
    }
    let all: i128 = orders.iter().sum();
    let tail: i128 = orders.iter().take(least + 1).sum();
    (2.0 * tail as f64 / all as f64).min(1.0)
}

/// How likely the normal law is to stray at least this far from its middle.
fn normal(distance: f64, variance: f64) -> f64 {
    if variance <= 0.0 {
        return 1.0; // all samples tie
    }
    // U moves in steps of one; each step owns half of the way to its neighbours.
    let z = (distance.abs() - 0.5).max(0.0) / variance.sqrt();
    erfc(z * FRAC_1_SQRT_2).min(1.0)
}

/// The complementary error function of an `x` that is not negative.
fn erfc(x: f64) -> f64 {
    let bell = (-x * x).exp();
    if x < SERIES_MAX {
        let (mut term, mut sum) = (x, x);
        for n in 1..SERIES_TERMS {
            term *= 2.0 * x * x / f64::from(2 * n + 1);
            sum += term;
        }
        1.0 - 2.0 / PI.sqrt() * bell * sum
    } else {
        // The continued fraction, from the far end.
        let fraction = (1..=FRACTION_TERMS)
            .rev()
            .fold(x, |below, n| x + f64::from(n) / 2.0 / below);
        bell / PI.sqrt() / fraction
    }
}

/// As in benchstat; beyond it on both sides the approximation is good to the third decimal.
const EXACT_MAX: usize = 50;

/// Where the series begins to lose digits to `1 - erf` and the fraction has become quick.
const SERIES_MAX: f64 = 2.0;

/// At 2 the last terms are below 10^-17.
const SERIES_TERMS: u32 = 60;

/// At 2 the fraction has 12 digits by then.
const FRACTION_TERMS: u32 = 80;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::draws;
    use crate::stats::SplitMix64;

    #[test]
    fn small_samples_are_counted_exactly() {
        // Goal: the exact p of cases that can be counted by hand: of C(6,3) = 20 and C(8,4) = 70 orders, two are extreme.
        let three = mann_whitney(&[1.0, 2.0, 3.0], &[4.0, 5.0, 6.0]).unwrap();
        assert_eq!((three.u, three.p, three.method), (0.0, 0.1, Method::Exact));
        let four = mann_whitney(&[5.0, 6.0, 7.0, 8.0], &[1.0, 2.0, 3.0, 4.0]).unwrap();
        assert_eq!((four.u, four.p), (16.0, 2.0 / 70.0));
        // U = 1 is reached by one more order on either side.
        let one = mann_whitney(&[1.0, 2.0, 4.0], &[3.0, 5.0, 6.0]).unwrap();
        assert_eq!((one.u, one.p), (1.0, 0.2));
    }

    #[test]
    fn the_exact_distribution_is_that_of_all_orders() {
        // Goal: the generating function counts right; by listing every order of four and five samples.
        let mut counts = [0_u32; 21];
        for choice in 0_u32..1 << 9 {
            if choice.count_ones() == 4 {
                let ranks = (0..9).filter(|bit| choice >> bit & 1 == 1);
                counts[ranks.sum::<usize>() - 6] += 1;
            }
        }
        for least in 0..10 {
            let tail: u32 = counts[..=least].iter().sum();
            let p = exact(4, 5, least);
            assert!((p - 2.0 * f64::from(tail) / 126.0).abs() < 1e-12, "{least}");
        }
        assert_eq!(exact(50, 50, 1_250), 1.0);
    }

    #[test]
    fn the_approximation_agrees_with_the_count() {
        // Goal: both methods give the same p within a hundredth where both may be used; by every U of 10 and 10.
        for least in 0..50_u32 {
            let approximate = normal(50.0 - f64::from(least), 100.0 / 12.0 * 21.0);
            let counted = exact(10, 10, least as usize);
            assert!(
                (approximate - counted).abs() < 0.01,
                "{least}: {approximate} {counted}"
            );
        }
    }

    #[test]
    fn ties_are_corrected_for() {
        // Goal: midranks and the correction of the variance, by a case worked out by hand.
        let test = mann_whitney(&[1.0, 2.0, 2.0], &[2.0, 3.0, 3.0]).unwrap();
        assert_eq!((test.u, test.method), (1.0, Method::Normal));
        // Two pairs tie, so U = 1. Three twos and two threes give 24 + 6 = 30, a variance of 9/12 (7 - 30/30) = 4.5, and
        // z = (4.5 - 1 - 0.5) / sqrt 4.5.
        assert!((test.p - 0.157_299_207).abs() < 1e-8, "{}", test.p);
        let same = mann_whitney(&[7.0; 9], &[7.0; 4]).unwrap();
        assert_eq!((same.u, same.p), (18.0, 1.0));
        assert_eq!(mann_whitney(&[0.0], &[-0.0]).unwrap().p, 1.0);
    }

    #[test]
    fn odd_input_is_answered_without_panic() {
        // Goal: no input breaks the test; by none, one, endless and unknown samples, and sides of unlike size.
        assert_eq!(mann_whitney(&[], &[1.0]), None);
        assert_eq!(mann_whitney(&[1.0], &[f64::NAN]), None);
        assert_eq!(mann_whitney(&[1.0], &[2.0]).unwrap().p, 1.0);
        let wild = mann_whitney(&[f64::INFINITY; 3], &[f64::NEG_INFINITY, 0.0]).unwrap();
        assert_eq!(wild.u, 6.0);
        let many: Vec<f64> = (0..3_000).map(f64::from).collect();
        assert!((0.0..=1.0).contains(&mann_whitney(&many, &[-1.0]).unwrap().p));
    }

    #[test]
    fn sides_may_be_swapped() {
        // Goal: p does not know which set came first; by random sets of unlike size, with and without ties.
        let mut random = SplitMix64::new(5);
        for round in 0..200 {
            let mut set = |count: usize| -> Vec<f64> {
                (0..count)
                    .map(|_| {
                        if round % 2 == 0 {
                            draws::normal(&mut random)
                        } else {
                            random.below(5) as f64
                        }
                    })
                    .collect()
            };
            let (a, b) = (set(7), set(12));
            let (ab, ba) = (mann_whitney(&a, &b).unwrap(), mann_whitney(&b, &a).unwrap());
            assert_eq!((ab.p, ab.u), (ba.p, 84.0 - ba.u));
        }
    }

    #[test]
    fn the_error_function_is_right_on_both_sides_of_the_seam() {
        // Goal: twelve digits or so everywhere; by values of the tables.
        for (x, expected) in [
            (0.0, 1.0),
            (0.5, 0.479_500_122_186_953_5),
            (1.0, 0.157_299_207_050_285_13),
            (1.999_999, 0.004_677_755_648_07),
            (2.0, 0.004_677_734_981_047_266),
            (3.0, 2.209_049_699_858_544e-5),
            (5.0, 1.537_459_794_428_034_8e-12),
        ] {
            assert!((erfc(x) / expected - 1.0).abs() < 1e-9, "{x}: {}", erfc(x));
        }
    }
}
