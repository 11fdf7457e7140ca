//! What a step to more loops costs, and how even the loops are loaded, beside what theory says.
//!
//! The one idea: processor time per request of one loop over that of N is an efficiency that a generator on the same
//! cores cannot spoil; throughput of N over N times that of one is what people expect to see, and is only right where
//! the generator has cores of its own. Both are told, from rounds that were measured interleaved: ratios within a round.

use std::collections::BTreeMap;

use polyloop_measure::stats::{Ratio, Spread, hashed_imbalance};

use crate::points::{Measured, Point};
use crate::sweep::LOOPS;

/// Efficiency of one count of loops.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Step {
    /// How many loops.
    pub loops: usize,
    /// Cost of one loop over the cost of so many; 1 is ideal.
    pub by_cost: Option<Ratio>,
    /// Throughput of so many over that many times the throughput of one; 1 is ideal.
    pub by_rate: Option<Ratio>,
}

/// The steps from one loop among points that differ in their loops only. Doubtful points are left out.
#[must_use]
pub fn steps(points: &[&Point], seed: u64) -> Vec<Step> {
    let mut by_loops: BTreeMap<usize, BTreeMap<u32, &Measured>> = BTreeMap::new();
    for point in points {
        let loops = point.settings.get(LOOPS).and_then(|text| text.parse().ok());
        if let (Some(loops), Some(measured)) = (loops, point.measured())
            && !measured.is_doubtful()
        {
            by_loops
                .entry(loops)
                .or_default()
                .insert(point.round, measured);
        }
    }
    let Some(one) = by_loops.remove(&1) else {
        return Vec::new();
    };
    let step = |(loops, many): (usize, BTreeMap<u32, &Measured>)| {
        let pairs: Vec<(&Measured, &Measured)> = many
            .iter()
            .filter_map(|(round, measured)| Some((*one.get(round)?, *measured)))
            .collect();
        let cost = |of: &Measured| of.server_us.unwrap_or(f64::NAN);
        let ratio = |top: Vec<f64>, bottom: Vec<f64>| Ratio::of(&top, &bottom, seed);
        Step {
            loops,
            by_cost: ratio(
                pairs.iter().map(|(one, _)| cost(one)).collect(),
                pairs.iter().map(|(_, many)| cost(many)).collect(),
            ),
            by_rate: ratio(
                pairs.iter().map(|(_, many)| many.rate).collect(),
                pairs
                    .iter()
                    .map(|(one, _)| one.rate * loops as f64)
                    .collect(),
            ),
        }
    };
    by_loops.into_iter().map(step).collect()
}

/// How uneven the loops of a setup were, beside what hashing alone would give.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Evenness {
    /// Largest over mean, measured: the median over all moments of all rounds.
    pub measured: f64,
    /// The worst moment.
    pub worst: f64,
    /// The median of balls thrown into bins.
    pub hashed: f64,
    /// Their 95th percentile.
    pub hashed_high: f64,
}

/// The evenness of points of one setup; none for one loop, or where nothing was seen.
#[must_use]
pub fn evenness(points: &[&Measured], loops: usize, seed: u64) -> Option<Evenness> {
    let moments: Vec<f64> = points
        .iter()
        .flat_map(|point| point.imbalance.clone())
        .collect();
    let connections = points.iter().map(|point| point.connections).max()?;
    let spread = Spread::of(&moments)?;
    if loops < 2 || connections == 0 {
        return None;
    }
    let balls = usize::try_from(connections)
        .unwrap_or(BALLS_MAX)
        .min(BALLS_MAX);
    let (hashed, hashed_high) = hashed_imbalance(balls, loops, seed);
    Some(Evenness {
        measured: spread.median,
        worst: moments.iter().copied().fold(1.0, f64::max),
        hashed,
        hashed_high,
    })
}

/// Beyond this many connections hashing is even to the third digit, and throwing them takes long.
const BALLS_MAX: usize = 100_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::points::tests::point;

    #[test]
    fn a_step_is_a_ratio_within_the_rounds() {
        // Goal: both efficiencies by points that follow a law; a missing round is no pair.
        let mut points = Vec::new();
        for round in 0..7 {
            for loops in ["1", "2", "4"] {
                if (loops, round) != ("4", 6) {
                    points.push(point("a", &[("loops", loops)], round));
                }
            }
        }
        let points: Vec<&Point> = points.iter().collect();
        let steps = steps(&points, 1);
        assert_eq!(steps.len(), 2);
        let two = steps[0].by_cost.unwrap();
        assert_eq!((steps[0].loops, two.pairs), (2, 7));
        assert!((two.median - 1.0 / 1.02).abs() < 1e-9, "{two:?}");
        assert!((steps[1].by_rate.unwrap().median - 1.0 / 1.06).abs() < 1e-9);
        assert_eq!(steps[1].by_cost.unwrap().pairs, 6);
    }

    #[test]
    fn without_one_loop_there_is_no_step() {
        // Goal: nothing is divided by nothing; by points of two loops, and by a doubtful one.
        let two = point("a", &[("loops", "2")], 0);
        assert_eq!(steps(&[&two], 1), []);
        let mut one = point("a", &[("loops", "1")], 0);
        if let crate::points::Outcome::Measured(measured) = &mut one.outcome {
            measured.doubts.push(crate::points::Doubt {
                code: "steal".into(),
                text: String::new(),
                is_serious: true,
            });
        }
        assert_eq!(steps(&[&one, &two], 1), []);
    }

    #[test]
    fn evenness_stands_beside_balls_in_bins() {
        // Goal: median and worst of what was seen, and theory for the same numbers; one loop has none.
        let point = point("a", &[("loops", "2")], 0);
        let even = evenness(&[point.measured().unwrap()], 2, 1).unwrap();
        assert_eq!((even.measured, even.worst), (1.05, 1.1));
        assert!(even.hashed > 1.05 && even.hashed_high > even.hashed);
        assert_eq!(evenness(&[point.measured().unwrap()], 1, 1), None);
        assert_eq!(evenness(&[], 2, 1), None);
    }
}
