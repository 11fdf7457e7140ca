//! Tests of [`super`]: exact times and laws of chance.

use super::*;
use proptest::prelude::*;

/// Bursts of three.
const THREES: ArrivalKind = ArrivalKind::Bursty { size: 3 };

fn take(arrivals: &mut Arrivals, count: usize) -> Vec<u64> {
    let mut due = Vec::new();
    for _ in 0..count {
        due.push(arrivals.peek_ns());
        arrivals.advance();
    }
    due
}

/// Takes what is due until then, and says how much it was.
fn take_until(arrivals: &mut Arrivals, until_ns: u64) -> u64 {
    let mut count = 0;
    while arrivals.peek_ns() <= until_ns {
        arrivals.advance();
        count += 1;
    }
    count
}

#[test]
fn fixed_arrivals_do_not_drift() {
    // Goal: the arrival after 1e9 others is on time. Method: jump there, with an interval that no float holds exactly.
    let mut arrivals = Arrivals::new(ArrivalKind::Fixed, 1e6 / 3.0, 1_000, 0);
    assert_eq!(take(&mut arrivals, 4), [1_000, 334_333, 667_667, 1_001_000]);
    arrivals.count = 999_999_999;
    arrivals.advance();
    assert_eq!(arrivals.peek_ns(), 1_000 + 1_000_000_000 * 1_000_000 / 3);
}

#[test]
fn bursts_come_at_once_and_keep_the_mean() {
    // Goal: as many requests as without bursts. Method: the first eight, by hand.
    let mut arrivals = Arrivals::new(THREES, 100.0, 50, 0);
    assert_eq!(
        take(&mut arrivals, 8),
        [50, 50, 50, 350, 350, 350, 650, 650]
    );
}

#[test]
fn exponential_gaps_follow_their_law() {
    // Goal: mean, spread and tail of a Poisson process. Method: 200,000 gaps against the known figures.
    let mut arrivals = Arrivals::new(ArrivalKind::Exponential, 10_000.0, 0, 7);
    let due = take(&mut arrivals, 200_001);
    let gaps: Vec<f64> = due.windows(2).map(|w| (w[1] - w[0]) as f64).collect();
    let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
    let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
    assert!((mean / 10_000.0 - 1.0).abs() < 0.01, "mean {mean}");
    let spread = variance.sqrt() / mean;
    assert!((spread - 1.0).abs() < 0.01, "spread {spread}");
    let long = gaps.iter().filter(|gap| **gap > 30_000.0).count() as f64 / gaps.len() as f64;
    assert!(
        (long - (-3.0_f64).exp()).abs() < 0.002,
        "beyond three means: {long}"
    );
}

#[test]
fn connections_together_hold_the_rate_from_the_start() {
    // Goal: no ramp and no wave at the start. Method: 1,000 connections, arrivals counted per tenth of an interval.
    for (kind, tolerance) in [(ArrivalKind::Fixed, 0), (ArrivalKind::Exponential, 50)] {
        let mut tenths = [0_u64; 20];
        for index in 0..1_000 {
            let mut arrivals = Arrivals::of_connection(kind, 1e9, 5_000, (index, 1_000), 3);
            for (tenth, count) in (1..).zip(&mut tenths) {
                *count += take_until(&mut arrivals, 4_999 + tenth * 100_000_000);
            }
        }
        for count in tenths {
            assert!(count.abs_diff(100) <= tolerance, "{kind:?}: {tenths:?}");
        }
    }
}

#[test]
fn phases_are_even_and_neighbours_are_apart() {
    // Goal: any run of connections is spread. Method: all phases of several counts, and the first ten of each.
    for connections in [1_u64, 2, 3, 10, 97, 1_000, 4_096, 30_030] {
        let interval = connections as f64 * 1_000.0;
        let mut phases: Vec<u64> = (0..connections)
            .map(|index| phase_ns(index, connections, interval))
            .collect();
        let first = &mut phases.clone()[..connections.min(10) as usize];
        first.sort_unstable();
        let widest = first.windows(2).map(|w| w[1] - w[0]).max().unwrap_or(0);
        assert!(widest as f64 <= interval * 0.5, "{connections}: {first:?}");
        phases.sort_unstable();
        for (place, phase) in (0..).zip(&phases) {
            let even = place * 1_000;
            assert!(
                phase.abs_diff(even) <= 1,
                "{connections}: {phase} is not {even}"
            );
        }
    }
    assert_eq!(phase_ns(0, 0, 5.0), 0);
}

#[test]
fn a_rate_of_zero_is_never() {
    // Goal: no panic and no flood at the borders. Method: infinite, zero and undefined intervals.
    let mut arrivals = Arrivals::new(ArrivalKind::Fixed, f64::INFINITY, 10, 0);
    arrivals.advance();
    assert!(arrivals.peek_ns() > 1_u64 << 59);
    let mut never = Arrivals::new(THREES, f64::NAN, u64::MAX - 1, 0);
    assert_eq!(take(&mut never, 4)[3], u64::MAX);
    let mut fastest = Arrivals::new(ArrivalKind::Fixed, 0.0, 0, 0);
    assert_eq!(take(&mut fastest, 3), [0, 1, 2]);
}

fn kinds() -> impl Strategy<Value = ArrivalKind> {
    prop_oneof![
        Just(ArrivalKind::Fixed),
        Just(ArrivalKind::Exponential),
        (0_u32..50).prop_map(|size| ArrivalKind::Bursty { size }),
    ]
}

proptest! {
    #[test]
    fn the_mean_rate_holds(kind in kinds(), interval in 1.0..1e7_f64, first in 0_u64..1 << 40, seed: u64) {
        // Goal: every kind sends what was asked for. Method: 20,000 arrivals; chance may be five deviations off.
        let mut arrivals = Arrivals::new(kind, interval, first, seed);
        let due = take(&mut arrivals, 20_000);
        prop_assert!(due.windows(2).all(|w| w[0] <= w[1]));
        let span = (arrivals.peek_ns() - first) as f64;
        let burst = f64::from(kind.burst()) / 20_000.0;
        let tolerance = if kind == ArrivalKind::Exponential { 0.04 } else { burst };
        prop_assert!((span / (20_000.0 * interval) - 1.0).abs() <= tolerance + 1e-3, "{span}");
    }
}

#[test]
fn taking_many_at_once_is_taking_each() {
    // Goal: the plan goes on at the right time behind what was taken at once. Method: fixed and bursty arrivals, taken by one and
    // by many; exponential ones, which take their mean.
    for kind in [ArrivalKind::Fixed, ArrivalKind::Bursty { size: 3 }] {
        let mut one = Arrivals::new(kind, 100.0, 5, 1);
        let mut many = one.clone();
        for step in 0..50_u64 {
            for _ in 0..step {
                one.advance();
            }
            many.advance_by(step);
            assert_eq!(one.peek_ns(), many.peek_ns(), "{kind} {step}");
        }
    }
    let mut exponential = Arrivals::new(ArrivalKind::Exponential, 100.0, 0, 1);
    let before = exponential.peek_ns();
    exponential.advance_by(1_000);
    assert_eq!(exponential.peek_ns(), before + 100_000);
}
