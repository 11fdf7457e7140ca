//! Tests of levels and of their pace.

use super::*;

const MAX: u64 = 1000;

#[test]
fn a_level_is_left_lower_than_it_is_entered() {
    // Goal: the marks, and the gap below them. Method: from each level, use just below and at each mark.
    use Level::{Normal, Shrink, Stop};
    for (from, used, to) in [
        (Normal, 0, Normal),
        (Normal, 919, Normal),
        (Normal, 920, Shrink),
        (Normal, 949, Shrink),
        (Normal, 950, Stop),
        (Normal, 5000, Stop),
        (Shrink, 950, Stop),
        (Shrink, 949, Shrink),
        (Shrink, 900, Shrink),
        (Shrink, 899, Normal),
        (Stop, 930, Stop),
        (Stop, 929, Shrink),
        (Stop, 900, Shrink),
        (Stop, 899, Normal),
    ] {
        assert_eq!(from.next(used, MAX), to, "{from:?} with {used}");
    }
}

#[test]
fn more_use_never_lowers_the_level_and_levels_are_stable() {
    // Goal: no use makes levels swing by itself, and none is odd. Method: every use of a small limit, from every level.
    for from in Level::ALL {
        let mut last = Level::Normal;
        for used in 0..=2 * MAX {
            let level = from.next(used, MAX);
            assert!(level >= last, "{from:?} with {used}");
            assert_eq!(level.next(used, MAX), level, "{from:?} with {used}");
            last = level;
        }
    }
    assert_eq!(Level::Normal.next(u64::MAX, u64::MAX), Level::Stop);
    assert_eq!(Level::Stop.next(0, u64::MAX), Level::Normal);
}

#[test]
fn levels_have_names_and_numbers() {
    // Goal: what is published as a number is read back. Method: all of them, and one that there is not.
    for (index, level) in Level::ALL.into_iter().enumerate() {
        assert_eq!(level as usize, index);
        assert_eq!(Level::from_index(index as u8), level);
    }
    assert_eq!(Level::from_index(7), Level::Stop);
    assert_eq!(Level::ALL.map(Level::name), ["normal", "shrink", "stop"]);
    assert_eq!(Level::ALL.map(Level::is_pressed), [false, true, true]);
}

#[test]
fn slow_peers_get_a_quarter_but_not_nothing() {
    // Goal: the watermark under pressure, and that it never grows by it. Method: a table.
    for (configured, pressed) in [
        (1 << 20, 256 << 10),
        (64 << 10, 16 << 10),
        (40_000, 16 << 10),
        (16 << 10, 16 << 10),
        (1000, 1000),
        (1, 1),
    ] {
        assert_eq!(Level::Shrink.output_high_bytes(configured), pressed);
        assert_eq!(Level::Stop.output_high_bytes(configured), pressed);
        assert_eq!(Level::Normal.output_high_bytes(configured), configured);
    }
}

#[test]
fn it_rises_at_once_and_falls_at_its_leisure() {
    // Goal: two changes a second at most, and none upwards is late. Method: use that swings wildly, told every 10 ms.
    let mut shedder = Shedder::default();
    let step = STAY_NS / 100;
    assert_eq!(shedder.observe(960, MAX, 0), Some(Level::Stop));
    assert_eq!(shedder.observe(100, MAX, STAY_NS - 1), None);
    assert_eq!(shedder.level(), Level::Stop);
    assert_eq!(shedder.observe(100, MAX, STAY_NS), Some(Level::Normal));
    assert_eq!(shedder.observe(930, MAX, STAY_NS), Some(Level::Shrink));
    assert_eq!(shedder.observe(960, MAX, STAY_NS), Some(Level::Stop));
    let mut shedder = Shedder::default();
    let mut changes = 0;
    for nth in 0..1000 {
        let used = if nth % 2 == 0 { 990 } else { 10 };
        changes += u32::from(shedder.observe(used, MAX, nth * step).is_some());
    }
    assert!((18..=20).contains(&changes), "{changes} in ten seconds");
    // A clock that goes back is no reason to leave.
    assert_eq!(shedder.observe(990, MAX, 1), None);
    assert_eq!(shedder.level(), Level::Stop);
}

#[test]
fn nearness_is_told_before_the_first_level() {
    // Goal: the last quarter is watched closely. Method: the mark.
    assert!(!is_near(749, MAX));
    assert!(is_near(750, MAX));
}
