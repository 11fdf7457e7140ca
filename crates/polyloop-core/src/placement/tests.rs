//! Tests of [`super`]: machines as tables, and every small world of quota, mask and wish.

use super::*;

/// A machine with `packages` of `physical` cores, two threads each, numbered as Linux does: all first threads, then
/// all second ones.
fn machine(packages: usize, physical: usize) -> Facts {
    let cores = packages * physical;
    let topology = (0..cores * 2)
        .map(|core| CoreFacts {
            core,
            package: core % cores / physical,
            physical: core % cores % physical,
        })
        .collect();
    Facts {
        allowed: (0..cores * 2).collect(),
        quota: None,
        topology,
    }
}

fn cores(text: &str) -> Option<CoreList> {
    Some(text.parse().unwrap())
}

fn pinned(placement: &Placement) -> Vec<usize> {
    placement.loops.iter().map(|core| core.unwrap()).collect()
}

#[test]
fn physical_cores_come_first_and_packages_are_packed() {
    // Goal: rule 2. Method: two packages of two cores with two threads, all loops and a few.
    let facts = machine(2, 2);
    let all = place(&facts, &Wish::default()).unwrap();
    assert_eq!(pinned(&all), [0, 1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(
        all.reason,
        Reason::Pinned {
            cores: 8,
            allowed: 8
        }
    );
    assert!(!all.oversubscribed);

    let few = place(
        &facts,
        &Wish {
            loops: Some(3),
            ..Wish::default()
        },
    )
    .unwrap();
    assert_eq!(pinned(&few), [0, 1, 2]);
    assert_eq!(
        few.reason.to_string(),
        "pinned to 3 of 8 allowed cores, physical cores first"
    );
}

#[test]
fn neighbouring_threads_are_told_apart() {
    // Goal: rule 2 where siblings have neighbouring numbers, as in many virtual machines. Method: pairs 0-1, 2-3
    // on interleaved packages.
    let topology = (0..8)
        .map(|core| CoreFacts {
            core,
            package: core / 2 % 2,
            physical: core / 4,
        })
        .collect();
    let facts = Facts {
        allowed: (0..8).rev().collect(),
        quota: None,
        topology,
    };
    assert_eq!(
        pinned(&place(&facts, &Wish::default()).unwrap()),
        [0, 4, 2, 6, 1, 5, 3, 7]
    );
}

#[test]
fn a_mask_of_second_threads_and_unknown_cores_works() {
    // Goal: the rank counts inside the mask, and missing facts are survived. Method: second threads only, plus one
    // core that the topology does not know.
    let mut facts = machine(1, 2);
    facts.allowed = vec![9, 3, 2, 3];
    assert_eq!(pinned(&place(&facts, &Wish::default()).unwrap()), [2, 3, 9]);
}

#[test]
fn a_small_quota_means_fewer_loops_and_no_pinning() {
    // Goal: rules 1 and 3. Method: quota below, at and above the mask, and zero.
    let mut facts = machine(1, 2);
    for (quota, loops, is_pinned) in [
        (0, 1, false),
        (1, 1, false),
        (3, 3, false),
        (4, 4, true),
        (9, 4, true),
    ] {
        facts.quota = Some(quota);
        let placement = place(&facts, &Wish::default()).unwrap();
        assert_eq!(
            (placement.loops.len(), placement.is_pinned()),
            (loops, is_pinned),
            "{quota}"
        );
        assert!(!placement.oversubscribed);
    }
    facts.quota = Some(2);
    let placement = place(&facts, &Wish::default()).unwrap();
    assert_eq!(
        placement.reason.to_string(),
        "not pinned: the cgroup quota grants 2 of 4 allowed cores"
    );
    let forced = place(
        &facts,
        &Wish {
            pin: Pin::Always,
            ..Wish::default()
        },
    )
    .unwrap();
    assert_eq!(pinned(&forced), [0, 1]);
    assert_eq!(
        forced.reason,
        Reason::AlwaysPinned {
            cores: 2,
            allowed: 4
        }
    );
}

#[test]
fn named_cores_are_taken_as_named() {
    // Goal: rule 4 and 5 for named cores. Method: order, a quota, fewer and more loops.
    let mut facts = machine(1, 4);
    facts.quota = Some(2);
    let wish = Wish {
        cores: cores("6,0-1"),
        ..Wish::default()
    };
    let placement = place(&facts, &wish).unwrap();
    assert_eq!(pinned(&placement), [6, 0, 1]);
    assert!(placement.oversubscribed, "three loops on a quota of two");

    facts.quota = None;
    assert!(!place(&facts, &wish).unwrap().oversubscribed);
    let two = place(
        &facts,
        &Wish {
            loops: Some(2),
            ..wish.clone()
        },
    )
    .unwrap();
    assert_eq!(pinned(&two), [6, 0]);
    assert_eq!(two.reason, Reason::NamedCores { cores: 2 });
    let five = place(
        &facts,
        &Wish {
            loops: Some(5),
            ..wish
        },
    )
    .unwrap();
    assert_eq!(pinned(&five), [6, 0, 1, 6, 0]);
    assert!(five.oversubscribed);
}

#[test]
fn more_loops_than_cores_are_left_to_the_scheduler() {
    // Goal: rule 5. Method: five loops on four cores, by each way to pin.
    let facts = machine(1, 2);
    let wish = |pin| Wish {
        loops: Some(5),
        pin,
        ..Wish::default()
    };
    let auto = place(&facts, &wish(Pin::Auto)).unwrap();
    assert_eq!(auto.loops, [None; 5]);
    assert_eq!(
        auto.reason,
        Reason::MoreLoopsThanCores {
            loops: 5,
            allowed: 4
        }
    );
    assert!(auto.oversubscribed);
    let always = place(&facts, &wish(Pin::Always)).unwrap();
    assert_eq!(pinned(&always), [0, 1, 2, 3, 0]);
    let never = place(
        &facts,
        &Wish {
            pin: Pin::Never,
            ..Wish::default()
        },
    )
    .unwrap();
    assert_eq!(
        (never.loops, never.reason),
        (vec![None; 4], Reason::NeverPinned)
    );
}

#[test]
fn impossible_wishes_say_why() {
    // Goal: each error names the fact and the way out. Method: a table of message fragments.
    let facts = Facts {
        allowed: vec![5, 0, 1, 2],
        ..Facts::default()
    };
    let with = |loops, cores, pin| Wish { loops, cores, pin };
    for (wish, fragments) in [
        (
            with(Some(0), None, Pin::Auto),
            ["0 loops", "leave the number out"],
        ),
        (
            with(Some(1025), None, Pin::Auto),
            ["1025 loops are more than 1024", "fewer"],
        ),
        (
            with(None, cores("1,3"), Pin::Auto),
            ["core 3 is not", "(0-2,5)"],
        ),
        (
            with(None, cores("1"), Pin::Never),
            ["pinning is forbidden", "leave out"],
        ),
    ] {
        let message = place(&facts, &wish).unwrap_err().to_string();
        for fragment in fragments {
            assert!(message.contains(fragment), "{message}");
        }
    }
    let none = place(&Facts::default(), &Wish::default()).unwrap_err();
    assert_eq!(none, PlacementError::NoCores);
}

#[test]
fn every_small_world_keeps_the_invariants() {
    // Goal: whatever the facts and the wish, a placement is sound. Method: all masks of six cores of a machine with
    // three cores of two threads, all quotas, numbers of loops and ways to pin.
    let whole = machine(1, 3);
    let pins = [Pin::Auto, Pin::Always, Pin::Never];
    for mask in 1_usize..64 {
        let allowed: Vec<usize> = (0..6).filter(|core| mask >> core & 1 == 1).collect();
        for quota in [None, Some(1), Some(2), Some(6)] {
            let facts = Facts {
                allowed: allowed.clone(),
                quota,
                ..whole.clone()
            };
            for loops in [None, Some(1), Some(2), Some(5), Some(7)] {
                for pin in pins {
                    let wish = Wish {
                        loops,
                        cores: None,
                        pin,
                    };
                    check_sound(&facts, &wish, &place(&facts, &wish).unwrap());
                }
            }
        }
    }
}

fn check_sound(facts: &Facts, wish: &Wish, placement: &Placement) {
    let allowed = facts.allowed.len();
    let granted = facts.quota.unwrap_or(allowed).min(allowed);
    let loops = placement.loops.len();
    assert_eq!(loops, wish.loops.unwrap_or(granted));
    assert_eq!(placement.oversubscribed, loops > granted);
    let cores: Vec<usize> = placement.loops.iter().flatten().copied().collect();
    assert!(cores.is_empty() || cores.len() == loops, "all or none");
    assert_eq!(!cores.is_empty(), placement.is_pinned());
    assert!(cores.iter().all(|core| facts.allowed.contains(core)));
    let distinct = |list: &[usize]| {
        let mut list = list.to_vec();
        list.sort_unstable();
        list.dedup();
        list.len()
    };
    if placement.is_pinned() {
        assert_eq!(
            distinct(&cores),
            loops.min(allowed),
            "no core twice while another is free"
        );
        let physical =
            |list: &[usize]| distinct(&list.iter().map(|core| core % 3).collect::<Vec<_>>());
        assert_eq!(
            physical(&cores),
            physical(&facts.allowed).min(loops),
            "physical cores first"
        );
    }
}
