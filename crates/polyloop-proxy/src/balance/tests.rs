//! Tests of [`super`]: every algorithm against plain models of what it promises, small worlds for turns and ties, and
//! the movement of keys counted.

use super::*;
use proptest::prelude::*;

fn plain(weights: &[u16]) -> Vec<Weight> {
    weights
        .iter()
        .zip(0_u64..)
        .map(|(&weight, index)| Weight {
            weight,
            backup: false,
            identity: identity(&format!("10.0.0.{index}:5432")),
        })
        .collect()
}

fn picker(algorithm: Algorithm, backends: &[Weight]) -> Picker {
    let mut picker = Picker::new(algorithm, 0, 1, 7);
    assert_eq!(picker.set_backends(backends), 0);
    picker
}

fn full_weight(weight: Weight) -> u32 {
    u32::from(weight.weight) * WEIGHT_SCALE
}

fn source(number: u32) -> Option<IpAddr> {
    Some(IpAddr::V4(number.into()))
}

/// Picks with everything usable and without load.
fn pick_idle(picker: &mut Picker, backends: &[Weight]) -> usize {
    let candidate = |index: usize| {
        Some(Candidate {
            live: 0,
            weight_now: full_weight(backends[index]),
        })
    };
    picker.pick(None, candidate, &Tried::new()).unwrap()
}

#[test]
fn names_read_back() {
    // Goal: the flag's names, both ways, and its error. Method: all of them.
    for algorithm in Algorithm::ALL {
        assert_eq!(algorithm.to_string().parse(), Ok(algorithm));
        let error = "random".parse::<Algorithm>().unwrap_err().to_string();
        assert!(error.contains("\"random\"") && error.contains(algorithm.name()));
    }
}

#[test]
fn nobody_gives_nobody() {
    // Goal: no backend, no choice, no panic. Method: an empty list, and one of weight 0 alone.
    for algorithm in Algorithm::ALL {
        for backends in [vec![], plain(&[0])] {
            let mut picker = picker(algorithm, &backends);
            let candidate = |_| {
                Some(Candidate {
                    live: 0,
                    weight_now: 256,
                })
            };
            assert_eq!(picker.pick(source(1), candidate, &Tried::new()), None);
        }
    }
}

#[test]
fn a_group_may_be_larger_than_the_limit() {
    // Goal: what is too much is left out and told. Method: more backends than that, each algorithm.
    for algorithm in Algorithm::ALL {
        let mut picker = Picker::new(algorithm, 0, 1, 7);
        assert_eq!(picker.set_backends(&plain(&[1; BACKENDS_MAX + 3])), 3);
        let candidate = |index| {
            assert!(index < BACKENDS_MAX);
            (index == BACKENDS_MAX - 1).then_some(Candidate {
                live: 0,
                weight_now: 256,
            })
        };
        let last = Some(BACKENDS_MAX - 1);
        assert_eq!(picker.pick(source(1), candidate, &Tried::new()), last);
    }
}

#[derive(Debug, Clone)]
struct World {
    backends: Vec<Weight>,
    states: Vec<Option<Candidate>>,
    tried: Vec<usize>,
}

fn worlds() -> impl Strategy<Value = World> {
    let backend = (0_u16..=256, any::<bool>(), any::<u64>());
    let state = prop::option::of((0_u64..50, 0_u32..=256));
    (
        prop::collection::vec((backend, state), 1..30),
        prop::collection::vec(0_usize..30, 0..4),
    )
        .prop_map(|(list, tried)| {
            let (backends, states) = list
                .into_iter()
                .map(|((weight, backup, identity), state)| {
                    let state = state.map(|(live, warmth)| Candidate {
                        live,
                        weight_now: u32::from(weight) * warmth,
                    });
                    (
                        Weight {
                            weight,
                            backup,
                            identity,
                        },
                        state,
                    )
                })
                .unzip();
            World {
                backends,
                states,
                tried,
            }
        })
}

proptest! {
    #[test]
    fn a_choice_is_allowed_and_made_if_there_is_one(world in worlds(), sources in prop::collection::vec(any::<u32>(), 20)) {
        // Goal: the invariants of the module. Method: random groups, states and tried sets; the model lists who may be
        // chosen.
        let mut tried = Tried::new();
        world.tried.iter().for_each(|&index| tried.insert(index));
        let may = |index: &usize| {
            world.states[*index].is_some_and(|state| state.weight_now > 0) && !tried.contains(*index)
        };
        let all: Vec<usize> = (0..world.backends.len()).filter(may).collect();
        let primaries: Vec<usize> =
            all.iter().copied().filter(|&index| !world.backends[index].backup).collect();
        let allowed = if primaries.is_empty() { &all } else { &primaries };
        for algorithm in Algorithm::ALL {
            let mut picker = picker(algorithm, &world.backends);
            for &number in &sources {
                let source = source(number).filter(|_| number % 2 == 0);
                let choice = picker.pick(source, |index| world.states[index], &tried);
                match choice {
                    None => prop_assert!(allowed.is_empty(), "{algorithm} missed {allowed:?}"),
                    Some(index) => prop_assert!(allowed.contains(&index), "{algorithm} {index}"),
                }
            }
        }
    }

    #[test]
    fn least_is_the_least(world in worlds()) {
        // Goal: nobody who may be used has less load for its weight. Method: fractions compared by a plain model.
        let mut picker = picker(Algorithm::Least, &world.backends);
        if let Some(choice) = picker.pick(None, |index| world.states[index], &Tried::new()) {
            let chosen = world.states[choice].unwrap();
            for (backend, state) in world.backends.iter().zip(&world.states) {
                if let Some(state) = state.filter(|state| state.weight_now > 0)
                    && backend.backup == world.backends[choice].backup
                {
                    let load = |of: Candidate| (of.live + 1) * 1_000_000_007;
                    prop_assert!(
                        load(chosen) * u64::from(state.weight_now)
                            <= load(state) * u64::from(chosen.weight_now)
                    );
                }
            }
        }
    }

    #[test]
    fn turns_are_exact_and_smooth(weights in prop::collection::vec(1_u16..=20, 1..20), cycles in 1_usize..4) {
        // Goal: in each cycle everyone has as many turns as its weight; in between, nobody is off its share by more
        // than the number of different weights. Method: all is counted.
        let backends = plain(&weights);
        let mut picker = picker(Algorithm::RoundRobin, &backends);
        let total: u64 = weights.iter().map(|&weight| u64::from(weight)).sum();
        let mut classes = weights.clone();
        classes.sort_unstable();
        classes.dedup();
        let mut turns = vec![0_u64; weights.len()];
        for taken in 1..=total * cycles as u64 {
            turns[pick_idle(&mut picker, &backends)] += 1;
            for (&turns, &weight) in turns.iter().zip(&weights) {
                let off = (turns * total).abs_diff(taken * u64::from(weight));
                prop_assert!(off <= total * (1 + classes.len() as u64), "{turns} of {taken}");
                if taken % total == 0 {
                    prop_assert_eq!(off, 0);
                }
            }
        }
    }
}

#[test]
fn turns_of_one_backend_are_apart() {
    // Goal: the picture in the module's header, and no bursts beside many small ones. Method: sequences written out.
    let backends = plain(&[3, 1, 1]);
    let mut picker_of = picker(Algorithm::RoundRobin, &backends);
    let drawn: Vec<usize> = (0..10)
        .map(|_| pick_idle(&mut picker_of, &backends))
        .collect();
    assert_eq!(drawn, [0, 1, 0, 2, 0, 0, 1, 0, 2, 0]);

    let mut weights = vec![1; 100];
    weights.push(100);
    let backends = plain(&weights);
    let mut picker = picker(Algorithm::RoundRobin, &backends);
    let drawn: Vec<usize> = (0..200)
        .map(|_| pick_idle(&mut picker, &backends))
        .collect();
    let is_heavy = |index: &usize| *index == 100;
    assert!(
        drawn
            .windows(4)
            .all(|four| (1..4).contains(&four.iter().filter(|index| is_heavy(index)).count()))
    );
}

#[test]
fn loops_start_at_different_backends() {
    // Goal: loops do not march in step, whatever the algorithm. Method: the first choices of four loops; for the random
    // one, that their sequences differ.
    let backends = plain(&[1; 8]);
    for algorithm in [Algorithm::RoundRobin, Algorithm::Least] {
        let firsts: Vec<usize> = (0..4)
            .map(|own| {
                let mut picker = Picker::new(algorithm, own, 4, 7);
                picker.set_backends(&backends);
                pick_idle(&mut picker, &backends)
            })
            .collect();
        assert_eq!(firsts, [0, 2, 4, 6], "{algorithm}");
    }
    let sequence = |own| -> Vec<usize> {
        let mut picker = Picker::new(Algorithm::TwoChoices, own, 4, 7);
        picker.set_backends(&backends);
        (0..20).map(|_| pick_idle(&mut picker, &backends)).collect()
    };
    assert_ne!(sequence(0), sequence(1));
}

#[test]
fn a_list_that_often_changes_favours_nobody() {
    // Goal: with a new list before every session, the first backend does not get them all; the same list changes
    // nothing. Method: 300 lists that differ in one identity, a choice from each; then the same list as often.
    let mut picker = Picker::new(Algorithm::RoundRobin, 0, 2, 7);
    let mut turns = [0; 4];
    for round in 0..300 {
        let mut backends = plain(&[1, 1, 1, 1]);
        backends[3].identity = round;
        picker.set_backends(&backends);
        turns[pick_idle(&mut picker, &backends)] += 1;
    }
    assert!(
        turns.iter().all(|turns| (70..=80).contains(turns)),
        "{turns:?}"
    );

    let backends = plain(&[5, 3, 1]);
    let mut undisturbed = self::picker(Algorithm::RoundRobin, &backends);
    let mut disturbed = undisturbed.clone();
    for _ in 0..300 {
        disturbed.set_backends(&backends);
        let choice = pick_idle(&mut disturbed, &backends);
        assert_eq!(choice, pick_idle(&mut undisturbed, &backends));
    }
}

#[test]
fn a_backend_that_is_back_does_not_catch_up() {
    // Goal: turns lost while away stay lost. Method: one of three is away for 1,000 choices; then its share is a third,
    // from the first choices on. The same after only the last of many was left, which is found by looking at everyone.
    for away_others in [1, 2] {
        let backends = plain(&[1, 256, 256]);
        let mut picker = picker(Algorithm::RoundRobin, &backends);
        let mut turns = [0; 3];
        for _ in 0..1000 {
            let candidate = |index: usize| {
                (index < 3 - away_others).then_some(Candidate {
                    live: 0,
                    weight_now: full_weight(backends[index]),
                })
            };
            turns[picker.pick(None, candidate, &Tried::new()).unwrap()] += 1;
        }
        assert_eq!(turns[2], 0);
        let mut turns = [0; 3];
        for taken in 1..=1026 {
            turns[pick_idle(&mut picker, &backends)] += 1;
            assert!(turns[2] * 2 <= taken + 4, "{away_others} {turns:?} {taken}");
        }
        assert!(
            turns[0] >= 1 && turns[1] >= 510 && turns[2] >= 510,
            "{turns:?}"
        );
    }
}

#[test]
fn dates_do_not_overflow() {
    // Goal: after more turns than fit a date, turns go on in order. Method: dates are put to a few cycles before
    // they would overflow.
    let members = members(&plain(&[1, 2, 3]), false);
    let mut turns = RoundRobin::new(&members, 0);
    turns.set_forward(u64::MAX - 3 * round_robin::CYCLE);
    let mut counts = [0; 3];
    for _ in 0..600 {
        let candidate = |index: u16| {
            Some(Candidate {
                live: 0,
                weight_now: full_weight(plain(&[1, 2, 3])[usize::from(index)]),
            })
        };
        counts[usize::from(turns.pick(&candidate).unwrap())] += 1;
    }
    assert_eq!(counts, [100, 200, 300]);
}

#[test]
fn equals_take_turns() {
    // Goal: of equally loaded backends none is favoured. Method: loads that never change, two of four the least.
    let backends = plain(&[1; 4]);
    let mut picker = picker(Algorithm::Least, &backends);
    let candidate = |index: usize| {
        Some(Candidate {
            live: [7, 3, 9, 3][index],
            weight_now: WEIGHT_SCALE,
        })
    };
    let drawn: Vec<usize> = (0..6)
        .filter_map(|_| picker.pick(None, candidate, &Tried::new()))
        .collect();
    assert_eq!(drawn, [1, 3, 1, 3, 1, 3]);
}

#[test]
fn loads_settle_by_weight() {
    // Goal: with long sessions, loads end up in the ratio of weights. Method: 6,000 sessions; least is exact to one,
    // two choices to a few of a hundred.
    let backends = plain(&[1, 2, 3, 2, 4]);
    for (algorithm, off_max) in [(Algorithm::Least, 1), (Algorithm::TwoChoices, 25)] {
        let mut picker = picker(algorithm, &backends);
        let mut live = [0_u64; 5];
        for _ in 0..6000 {
            let candidate = |index: usize| {
                Some(Candidate {
                    live: live[index],
                    weight_now: full_weight(backends[index]),
                })
            };
            live[picker.pick(None, candidate, &Tried::new()).unwrap()] += 1;
        }
        for (live, backend) in live.into_iter().zip(&backends) {
            let off = live.abs_diff(500 * u64::from(backend.weight));
            assert!(off <= off_max, "{algorithm}: {live} at {}", backend.weight);
        }
    }
}

#[test]
fn a_backend_that_warms_up_gets_less() {
    // Goal: each algorithm keeps to the weight of the moment. Method: one of four at an eighth of its weight; with long
    // sessions for those that know loads.
    let backends = plain(&[1; 4]);
    for algorithm in Algorithm::ALL {
        let mut picker = picker(algorithm, &backends);
        let mut live = [0_u64; 4];
        for number in 0..2500 {
            let candidate = |index: usize| {
                Some(Candidate {
                    live: live[index],
                    weight_now: if index == 2 { 32 } else { 256 },
                })
            };
            let choice = picker.pick(source(number), candidate, &Tried::new());
            live[choice.unwrap()] += 1;
        }
        // Three whole ones and an eighth: 100 of 2,500.
        assert!((70..=130).contains(&live[2]), "{algorithm}: {live:?}");
    }
}

const KEYS: u32 = 20_000;

fn map_keys(backends: &[Weight], candidate: impl Fn(usize) -> Option<Candidate>) -> Vec<u64> {
    let mut picker = picker(Algorithm::SourceHash, backends);
    (0..KEYS)
        .map(|number| {
            let index = picker.pick(source(number), &candidate, &Tried::new());
            backends[index.unwrap()].identity
        })
        .collect()
}

fn whole(_: usize) -> Option<Candidate> {
    Some(Candidate {
        live: 0,
        weight_now: u32::from(u16::MAX) * WEIGHT_SCALE,
    })
}

#[test]
fn keys_spread_by_weight() {
    // Goal: shares follow weights. Method: slots are counted exactly, keys within the noise of 20,000 draws.
    let weights = [1, 5, 50, 50, 256];
    let table = Maglev::build(&members(&plain(&weights), false));
    let mut slots = [0_u32; 5];
    for number in 0..2_000_000_u32 {
        let candidate = |index| whole(usize::from(index));
        let key = random::mix(u64::from(number));
        slots[usize::from(table.pick(key, &candidate).unwrap())] += 1;
    }
    for (drawn, weight) in slots.into_iter().zip(weights) {
        let share = 2_000_000 / 362 * u32::from(weight);
        assert!(drawn.abs_diff(share) < 600 + share / 50, "{slots:?}");
    }
    let backends = plain(&[1; 7]);
    let keys = map_keys(&backends, whole);
    for backend in &backends {
        let share = keys.iter().filter(|&&key| key == backend.identity).count() as u32;
        assert!(share.abs_diff(KEYS / 7) < KEYS / 7 / 10, "{share}");
    }
}

#[test]
fn few_keys_move_when_a_backend_leaves_for_good() {
    // Goal: of the keys of those that stay, at most 1 % of all move, whether the first, a middle or the last one leaves or
    // comes, at groups of 2 to 100. Method: counted before and after.
    for count in [2, 3, 5, 10, 100] {
        let before = plain(&vec![1; count]);
        let keys_before = map_keys(&before, whole);
        for gone in [0, count / 2, count - 1] {
            let mut after = before.clone();
            let leaver = after.remove(gone).identity;
            let keys_after = map_keys(&after, whole);
            let moved = keys_before
                .iter()
                .zip(&keys_after)
                .filter(|(before, after)| **before != leaver && before != after)
                .count();
            assert!(moved * 100 <= KEYS as usize, "{moved} of {count}");
        }
    }
}

#[test]
fn no_key_of_others_moves_while_a_backend_is_down() {
    // Goal: only its own keys move, to all others alike, and they come back. Method: one of ten down, then two, in any
    // order of the list.
    let backends = plain(&[1; 10]);
    let before = map_keys(&backends, whole);
    let mut turned = backends.clone();
    turned.reverse();
    assert_eq!(before, map_keys(&turned, whole));
    let without_3 = map_keys(&backends, |index| whole(index).filter(|_| index != 3));
    let down = backends[3].identity;
    let mut received = [0; 10];
    for (before, after) in before.iter().zip(&without_3) {
        assert!(*before == down || before == after);
        if *before == down {
            let index = backends
                .iter()
                .position(|backend| backend.identity == *after);
            received[index.unwrap()] += 1;
        }
    }
    let expected = KEYS / 10 / 9;
    for (index, received) in received.into_iter().enumerate() {
        let share = if index == 3 { 0 } else { expected };
        assert!(u32::abs_diff(received, share) < 60, "{received} to {index}");
    }
    let without_3_and_7 = map_keys(&backends, |index| {
        whole(index).filter(|_| index != 3 && index != 7)
    });
    let second_down = backends[7].identity;
    for (one, two) in without_3.iter().zip(&without_3_and_7) {
        assert!(*one == second_down || one == two);
    }
}

#[test]
fn loops_and_families_agree_on_a_source() {
    // Goal: one client is one backend on every loop, mapped or not, whatever the seed. Method: two pickers that differ
    // in everything but the backends; one with tables shared.
    let backends = plain(&[1, 2, 3]);
    let mut one = picker(Algorithm::SourceHash, &backends);
    let mut other = Picker::new(Algorithm::SourceHash, 2, 5, 99);
    other.set_source_table(&SourceTable::build(&backends));
    for number in 0..1000 {
        let mapped = source(number).map(|source| match source {
            IpAddr::V4(v4) => IpAddr::V6(v4.to_ipv6_mapped()),
            v6 @ IpAddr::V6(_) => v6,
        });
        let choice = one.pick(source(number), whole, &Tried::new());
        assert_eq!(choice, other.pick(mapped, whole, &Tried::new()));
    }
}
