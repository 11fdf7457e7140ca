//! Whether a run has settled: is the work done proportional to the time it took?
//!
//! The one idea, neper's (`coef.c`): follow the count of all requests over time. As long as the pace is the same the
//! points lie on a line through the first of them, and their correlation is 1; a pace that still changes bends the
//! line. What one window has too much and the next too little hardly moves it.
//!
//! It is a coarse test: over three windows a pace that grows by a tenth of the first from window to window still passes
//! it. "A stable graph doesn't prove anything": report the [`variation`] of the [`rates`] beside it. And it is too strict where
//! little is done: what comes at random, ten a window, never lies on a line. Windows whose counts are no further apart than
//! chance explains (Pearson's chi-squared test) are therefore as good as a line.

/// Requests done so far, at a moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    /// Seconds since any fixed moment.
    pub at_s: f64,
    /// Everything done since any fixed moment.
    pub count: u64,
}

/// The squared correlation of count and time since the first of `points`, from 0 to 1.
///
/// `None` when there are fewer than two windows, a clock that does not advance, a count that falls, or nothing done.
#[must_use]
pub fn linearity(points: &[Point]) -> Option<f64> {
    let (first, rest) = points.split_first()?;
    if rest.len() < 2 || !advances(points) {
        return None;
    }
    let (mut xx, mut xy, mut yy) = (0.0, 0.0, 0.0);
    for point in rest {
        let (x, y) = (point.at_s - first.at_s, (point.count - first.count) as f64);
        xx += x * x;
        xy += x * y;
        yy += y * y;
    }
    // Through the first point, as neper does it, and not through the mean of all.
    Some(xy * xy / (xx * yy)).filter(|share| share.is_finite())
}

/// Whether the last [`WINDOWS`] windows, between the last four of `points`, lie on a line, or as close to one as chance lets them.
/// Fewer windows do not tell, and neither do windows in which nothing was done.
#[must_use]
pub fn is_steady(points: &[Point]) -> bool {
    let Some(start) = points.len().checked_sub(WINDOWS + 1) else {
        return false;
    };
    let last = &points[start..];
    linearity(last).is_some_and(|linearity| linearity > LINEARITY_MIN || is_chance(last))
}

/// Whether independent arrivals at one rate would come this unevenly one time in twenty or more.
fn is_chance(points: &[Point]) -> bool {
    let (first, last) = (points[0], points[points.len() - 1]);
    if points[1].count == first.count {
        // A single late answer is chance by figures; what has only begun is not steady.
        return false;
    }
    let per_s = (last.count - first.count) as f64 / (last.at_s - first.at_s);
    let distance: f64 = points
        .windows(2)
        .map(|pair| {
            let expected = per_s * (pair[1].at_s - pair[0].at_s);
            ((pair[1].count - pair[0].count) as f64 - expected).powi(2) / expected
        })
        .sum();
    distance < CHI_SQUARED_MAX
}

/// The pace of each window, per second; empty when the clock does not advance or the count falls.
#[must_use]
pub fn rates(points: &[Point]) -> Vec<f64> {
    if !advances(points) {
        return Vec::new();
    }
    points
        .windows(2)
        .map(|pair| (pair[1].count - pair[0].count) as f64 / (pair[1].at_s - pair[0].at_s))
        .collect()
}

/// The coefficient of variation: the standard deviation of `samples` as a share of their mean.
///
/// `None` when there are fewer than two samples, one is not finite, or their mean is not positive.
#[must_use]
pub fn variation(samples: &[f64]) -> Option<f64> {
    let count = samples.len() as f64;
    let mean = samples.iter().sum::<f64>() / count;
    if samples.len() < 2 || mean <= 0.0 {
        return None;
    }
    let squares: f64 = samples.iter().map(|sample| (sample - mean).powi(2)).sum();
    Some((squares / (count - 1.0)).sqrt() / mean).filter(|share| share.is_finite())
}

fn advances(points: &[Point]) -> bool {
    points.windows(2).all(|pair| {
        let [earlier, later] = pair else { return false };
        later.at_s > earlier.at_s && later.count >= earlier.count
    })
}

/// The windows that [`is_steady`] looks at: enough to see a bend, few enough not to keep a run waiting.
pub const WINDOWS: usize = 3;

/// The rest is the share of the movement that a constant pace does not explain.
const LINEARITY_MIN: f64 = 0.999;

/// The 95th percentile of the chi-squared distribution with two degrees of freedom: three windows, one rate estimated.
const CHI_SQUARED_MAX: f64 = 5.991;

#[cfg(test)]
mod tests {
    use super::*;

    /// Points one second apart, with these counts in between.
    fn points(windows: &[u64]) -> Vec<Point> {
        let mut count = 1_000_000; // what was done before the first point is of no account
        let mut points = vec![Point { at_s: 7.0, count }];
        for (index, window) in windows.iter().enumerate() {
            count += window;
            points.push(Point {
                at_s: 8.0 + index as f64,
                count,
            });
        }
        points
    }

    #[test]
    fn a_constant_pace_is_a_line() {
        // Goal: exactly 1 for equal windows, also of unequal length; less for a bend worked out by hand.
        let even = points(&[500; 5]);
        assert!((linearity(&even).unwrap() - 1.0).abs() < 1e-12);
        let uneven = [even[0], even[1], even[4], even[5]];
        assert!((linearity(&uneven).unwrap() - 1.0).abs() < 1e-12);
        // Times 1 and 2, counts 1 and 3: (1 + 6)^2 / (5 * 10).
        assert!((linearity(&points(&[1, 2])).unwrap() - 0.98).abs() < 1e-12);
    }

    #[test]
    fn warming_up_is_not_steady_and_settling_is() {
        // Goal: the verdict looks at the last three windows only; by a ramp, its end, and too few windows.
        let ramp = [1_000, 2_000, 4_000, 8_000, 9_900, 10_000, 10_000];
        let verdicts: Vec<bool> = (1..=ramp.len())
            .map(|end| is_steady(&points(&ramp[..end])))
            .collect();
        assert_eq!(verdicts, [false, false, false, false, false, false, true]);
        assert!(!is_steady(&points(&[10_000, 10_000])));
    }

    #[test]
    fn the_test_is_as_coarse_as_its_header_says() {
        // Goal: a drift of a tenth per window passes, one of an eighth fails; by three windows each.
        assert!(is_steady(&points(&[1_000, 1_100, 1_200])));
        assert!(!is_steady(&points(&[1_000, 1_125, 1_250])));
    }

    #[test]
    fn what_chance_explains_is_steady() {
        // Goal: few arrivals are not called unsteady for coming one by one, and a trend in few is seen; by hand: 9, 16 and 11 around
        // 12 are (9 + 16 + 1) / 12 = 2.2 apart (limit 5.99); 6, 12 and 18 are (36 + 0 + 36) / 12 = 6.0.
        assert!(linearity(&points(&[9, 16, 11])).unwrap() < LINEARITY_MIN);
        assert!(is_steady(&points(&[9, 16, 11])));
        assert!(!is_steady(&points(&[6, 12, 18])));
        // 0, 0 and 1 are 2.0 apart, and just begun.
        assert!(!is_steady(&points(&[0, 0, 1])));
        assert!(is_steady(&points(&[1, 0, 1])));
    }

    #[test]
    fn variation_is_deviation_over_mean() {
        // Goal: the figure by a case worked out by hand, through the rates of windows.
        let rates = rates(&points(&[90, 100, 110]));
        assert_eq!(rates, [90.0, 100.0, 110.0]);
        assert!((variation(&rates).unwrap() - 0.1).abs() < 1e-12);
    }

    #[test]
    fn odd_input_is_not_steady() {
        // Goal: no panic and no verdict; by no points, no work, a clock that stands or is unknown, a count that falls.
        let at = |at_s: f64, count: u64| Point { at_s, count };
        assert_eq!((linearity(&[]), linearity(&points(&[5]))), (None, None));
        assert_eq!(linearity(&points(&[0, 0, 0])), None);
        for broken in [
            [at(0.0, 1), at(1.0, 2), at(1.0, 3), at(2.0, 4)],
            [at(0.0, 1), at(1.0, 2), at(f64::NAN, 3), at(2.0, 4)],
            [at(0.0, 9), at(1.0, 2), at(2.0, 3), at(3.0, 4)],
        ] {
            assert_eq!((linearity(&broken), is_steady(&broken)), (None, false));
            assert_eq!(rates(&broken), Vec::<f64>::new());
        }
        assert_eq!(
            (variation(&[]), variation(&[1.0]), variation(&[0.0; 3])),
            (None, None, None)
        );
        assert_eq!(variation(&[1.0, f64::NAN]), None);
        assert_eq!(variation(&[1.0, f64::INFINITY]), None);
    }
}
