//! Tests of when the clock is looked at.

use super::*;

const QUOTA_NS: u64 = 500_000;

/// Dispatches of `each_ns` in one turn without end, and the passes at which the clock was looked at.
fn looks(stride: &mut Stride, each_ns: u64, dispatches: u64) -> Vec<u64> {
    stride.begin(0);
    (1..=dispatches)
        .filter(|nth| {
            let looks = stride.pass();
            if looks {
                stride.look(nth * each_ns, QUOTA_NS);
            }
            looks
        })
        .collect()
}

#[test]
fn quick_dispatches_are_looked_at_once_in_64() {
    // Goal: the clock is rarely read where 64 fit into the quota. Method: dispatches of 5 us.
    assert_eq!(
        looks(&mut Stride::default(), 5_000, 256),
        [64, 128, 192, 256]
    );
}

#[test]
fn slow_dispatches_are_looked_at_one_by_one_from_the_first_look_on() {
    // Goal: a turn of slow handlers overshoots by one of them, not by 64. Method: dispatches of 1 ms.
    let all = looks(&mut Stride::default(), 1_000_000, 70);
    assert_eq!(all, [64, 65, 66, 67, 68, 69, 70]);
}

#[test]
fn what_fits_into_the_quota_passes_unlooked() {
    // Goal: between the two the stride is what fits. Method: dispatches of 50 us, ten to a quota.
    assert_eq!(looks(&mut Stride::default(), 50_000, 94), [64, 74, 84, 94]);
}

#[test]
fn the_stride_grows_twofold() {
    // Goal: a few quick ones after slow ones do not leave the next slow ones unlooked. Method: slow, then quick.
    let mut stride = Stride::default();
    looks(&mut stride, 1_000_000, 64);
    assert_eq!(looks(&mut stride, 100, 130), [1, 3, 7, 15, 31, 63, 127]);
}

#[test]
fn time_between_turns_does_not_count() {
    // Goal: a loop that sleeps between single dispatches keeps its stride. Method: a turn a second, one quick dispatch each.
    let mut stride = Stride::default();
    let mut count = 0;
    for turn in 0..640_u64 {
        let start_ns = turn * 1_000_000_000;
        stride.begin(start_ns);
        if stride.pass() {
            count += 1;
            stride.look(start_ns + 5_000, QUOTA_NS);
        }
    }
    assert_eq!(count, 10);
}

#[test]
fn a_quota_of_nothing_and_a_clock_that_stands_are_taken() {
    // Goal: no division by zero, and a stride of at least one. Method: the ends of both.
    let mut stride = Stride::default();
    stride.begin(7);
    stride.look(7, 0);
    assert!(stride.pass());
    stride.look(0, u64::MAX);
    assert!(!stride.pass() && stride.pass());
}
