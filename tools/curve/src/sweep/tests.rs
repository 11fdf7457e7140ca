//! Tests of sweeps.

use super::*;
use crate::subject::tests::plain as subject;

fn axis(text: &str) -> Axis {
    text.parse().unwrap()
}

#[test]
fn axes_are_lists_and_ranges() {
    // Goal: each way to write values, and the ends of ranges; by examples.
    for (text, values) in [
        ("loops=1,2,4", "1 2 4"),
        ("connections=64..500", "64 128 256 500"),
        ("connections=1k..4k", "1000 2000 4000"),
        ("size=64..64KiB*32", "64 2048 65536"),
        ("loops=1..4+1", "1 2 3 4"),
        ("loops=1, 2..8", "1 2 4 8"),
        ("accept=reuseport,acceptor", "reuseport acceptor"),
        ("connections=7..7", "7"),
    ] {
        assert_eq!(axis(text).values.join(" "), values, "{text}");
    }
    for wrong in [
        "loops",
        "loops=",
        "loops=0",
        "loops=x",
        "loops=2,2",
        "loops=4..2",
        "connections=0..4",
        "connections=1..9*1",
        "connections=1..9+0",
        "connections=1..100k+1",
        "loops=1,,2",
    ] {
        assert!(wrong.parse::<Axis>().is_err(), "{wrong}");
    }
}

#[test]
fn a_subject_has_the_axes_that_it_knows() {
    // Goal: the cross product, without repeats for unknown axes; limits and unknown values are left out and told.
    let (mut ours, mut bare) = (subject("ours"), subject("bare"));
    ours.options.insert(
        "mode".into(),
        crate::subject::Choice::Named([("fair".to_owned(), "-f".to_owned())].into()),
    );
    bare.loops_max = Some(1);
    let axes = [axis("loops=1,2"), axis("mode=fair,odd"), axis("size=64")];
    let (setups, left_out) = setups(&[ours, bare], &axes).unwrap();
    let names: Vec<String> = setups.iter().map(Setup::to_string).collect();
    assert_eq!(
        names,
        [
            "ours loops=1 mode=fair size=64",
            "ours loops=2 mode=fair size=64",
            "bare loops=1 size=64"
        ]
    );
    assert_eq!(left_out.len(), 3, "{left_out:?}");
    assert_eq!(setups[1].loops(), 2);
}

#[test]
fn sweeps_that_cannot_be_are_refused() {
    // Goal: an axis twice, one nobody knows, and one product too large; by one of each.
    let subjects = [subject("x")];
    let error = |axes: &[Axis]| setups(&subjects, axes).unwrap_err();
    assert_eq!(
        error(&[axis("loops=1"), axis("loops=2")]),
        SweepError::Twice("loops".into())
    );
    assert!(
        error(&[axis("colour=red")])
            .to_string()
            .contains("connections")
    );
    let wide = [
        axis("loops=1..64+1"),
        axis("connections=1..64+1"),
        axis("pipeline=1,2"),
    ];
    assert_eq!(error(&wide), SweepError::TooMany(64 * 64 * 2));
}

#[test]
fn each_round_has_all_points_in_an_order_of_its_own() {
    // Goal: a permutation each round, the same for the same seed; by sorting, and by comparing rounds and seeds.
    let first = order(20, 0, 1);
    let mut sorted = first.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, (0..20).collect::<Vec<_>>());
    assert_eq!(order(20, 0, 1), first);
    assert_ne!(order(20, 1, 1), first);
    assert_ne!(order(20, 0, 2), first);
    assert_eq!(order(0, 0, 1), Vec::<usize>::new());
}
