//! Tests of [`super`]: tables for the rules, and random histories for what must hold in all of them.

use super::*;
use proptest::prelude::*;

const CHECKS: Hysteresis = Hysteresis {
    rise: 2,
    fall: 3,
    initial: Initial::FirstCheck,
};

const EJECTION: EjectionPolicy = EjectionPolicy {
    errors: 5,
    base_ms: 10_000,
    max_ms: 300_000,
};

fn health(checks: Option<Hysteresis>, ejection: Option<EjectionPolicy>) -> Health {
    Health::new(&HealthPolicy { checks, ejection })
}

fn spare() -> bool {
    true
}

fn states_after(health: &mut Health, checks: &str) -> String {
    let letter = |state| match state {
        State::Up => 'U',
        State::CheckedDown => 'D',
        _ => '?',
    };
    checks
        .chars()
        .map(|check| {
            let outcome = if check == '+' {
                Outcome::Passed
            } else {
                Outcome::Failed
            };
            let before = health.state(0);
            let change = health.handle_check(0, outcome);
            let to = health.state(0);
            let expected = (before != to).then_some(Change { from: before, to });
            assert_eq!(change, expected);
            letter(to)
        })
        .collect()
}

#[test]
fn rise_and_fall_need_results_in_a_row() {
    // Goal: the hysteresis and each beginning. Method: sequences of checks written out, with the states after them.
    for (initial, checks, states) in [
        (Initial::Up, "---+-+--+---", "UUDDDDDDDDDD"),
        (Initial::Up, "--+--+---++", "UUUUUUUUDDU"),
        (Initial::Down, "+-++-", "DDDUU"),
        (Initial::FirstCheck, "-+-++", "DDDDU"),
        (Initial::FirstCheck, "+---", "UUUD"),
    ] {
        let mut health = health(Some(Hysteresis { initial, ..CHECKS }), None);
        assert_eq!(states_after(&mut health, checks), states, "{initial:?}");
    }
    // Zeros count as ones.
    let zeros = Hysteresis {
        rise: 0,
        fall: 0,
        initial: Initial::Up,
    };
    assert_eq!(states_after(&mut health(Some(zeros), None), "-+-+"), "DUDU");
    // Without checks, their results change nothing.
    assert_eq!(states_after(&mut health(None, None), "----"), "UUUU");
}

#[test]
fn failures_in_a_row_eject_and_each_time_for_longer() {
    // Goal: thresholds, probation, doubling and its limit. Method: a backend that fails whenever it is asked.
    let mut health = health(None, Some(EJECTION));
    for _ in 0..4 {
        assert_eq!(health.handle_failure(1000, spare), None);
    }
    assert!(health.published(1000).suspect);
    assert_eq!(health.handle_success(1000), None);
    assert!(!health.published(1000).suspect);
    for _ in 0..4 {
        assert_eq!(health.handle_failure(1000, spare), None);
    }
    let mut now_ms = 1000;
    let mut change = health.handle_failure(now_ms, spare);
    for length_s in [10, 20, 40, 80, 160, 300, 300, 300] {
        let (from, to) = (State::Up, State::Ejected);
        assert_eq!(change, Some(Change { from, to }));
        let until_ms = now_ms + length_s * 1000;
        assert_eq!(health.ejected_until_ms(now_ms), Some(until_ms));
        // What was on its way fails too, and counts for nothing.
        assert_eq!(health.handle_failure(until_ms - 1, spare), None);
        assert_eq!(
            health.published(until_ms - 1).state(until_ms - 1),
            State::Ejected
        );
        assert_eq!(health.published(now_ms).state(until_ms), State::Up);
        let (from, to) = (State::Ejected, State::Up);
        assert_eq!(health.handle_timer(until_ms), Some(Change { from, to }));
        now_ms = until_ms + 50;
        // On probation: one failure is enough.
        change = health.handle_failure(now_ms, spare);
    }
}

#[test]
fn an_ejection_after_one_whose_end_nobody_noticed_is_told() {
    // Goal: no ejection goes untold. Method: no call between the end of the first and the failure after it.
    let mut health = health(None, Some(EJECTION));
    for _ in 0..5 {
        health.handle_failure(1000, spare);
    }
    let change = health.handle_failure(11_000, spare);
    let (from, to) = (State::Ejected, State::Ejected);
    assert_eq!(change, Some(Change { from, to }));
    assert_eq!(health.handle_failure(11_000, spare), None);
}

#[test]
fn trust_comes_back_with_time() {
    // Goal: after a success, lengths shrink by a half for each good time as long as the last one; five failures are
    // needed again. Method: three ejections, then good times of different lengths before the fourth.
    for (good_s, next_s) in [
        (0, 80),
        (39, 80),
        (40, 40),
        (80, 20),
        (120, 10),
        (100_000_000, 10),
    ] {
        let mut health = health(None, Some(EJECTION));
        for _ in 0..5 {
            health.handle_failure(0, spare);
        }
        health.handle_failure(10_000, spare);
        health.handle_failure(30_000, spare);
        assert_eq!(health.ejected_until_ms(30_000), Some(70_000));
        health.handle_success(75_000);
        let now_ms = 75_000 + good_s * 1000;
        for _ in 0..4 {
            health.handle_failure(now_ms, spare);
        }
        assert_eq!(health.ejected_until_ms(now_ms), None);
        health.handle_failure(now_ms, spare);
        let until_ms = now_ms + next_s * 1000;
        assert_eq!(health.ejected_until_ms(now_ms), Some(until_ms), "{good_s}");
    }
}

#[test]
fn a_success_or_the_operator_ends_an_ejection() {
    // Goal: what was tried nevertheless and works is up; `ready` forgives all; both start slowly. Method: each on an
    // ejected backend, then failures again.
    for by_operator in [false, true] {
        let mut health = health(None, Some(EJECTION));
        for _ in 0..5 {
            health.handle_failure(1000, spare);
        }
        let change = if by_operator {
            health.set_manual(2000, Manual::Ready)
        } else {
            health.handle_success(2000)
        };
        let (from, to) = (State::Ejected, State::Up);
        assert_eq!(change, Some(Change { from, to }));
        let published = health.published(2000);
        assert_eq!(published.weight_now(10, 2000, 1000), 256);
        assert_eq!(published.weight_now(10, 3000, 1000), 2560);
        for _ in 0..5 {
            health.handle_failure(4000, spare);
        }
        let length_ms = if by_operator { 10_000 } else { 20_000 };
        assert_eq!(health.ejected_until_ms(4000), Some(4000 + length_ms));
    }
}

#[test]
fn the_group_decides_who_can_be_spared() {
    // Goal: at most the share is ejected, counted without those an operator took out; who was not spared is ejected
    // with the next failure after there is room. Method: groups that fail all over.
    for (backends, percent, ejected_max) in [
        (1, 50, 0),
        (1, 100, 1),
        (2, 50, 1),
        (3, 50, 1),
        (4, 50, 2),
        (10, 10, 1),
        (10, 0, 0),
    ] {
        let mut group = vec![health(None, Some(EJECTION)); backends + 2];
        group[0].set_manual(0, Manual::Drain);
        group[1].set_manual(0, Manual::Down);
        for round in 0..6 {
            for index in 2..group.len() {
                let words: Vec<u64> = group
                    .iter()
                    .map(|health| health.published(round).pack())
                    .collect();
                let read = words.iter().map(|&word| Published::unpack(word));
                group[index].handle_failure(round, || may_eject(read, round, percent));
            }
        }
        let ejected = group
            .iter()
            .filter(|health| health.state(6) == State::Ejected)
            .count();
        assert_eq!(ejected, ejected_max, "{backends} {percent}");
    }
    let mut health = health(None, Some(EJECTION));
    for _ in 0..9 {
        assert_eq!(health.handle_failure(0, || false), None);
    }
    assert!(health.handle_failure(0, spare).is_some());
}

#[test]
fn the_stronger_word_wins() {
    // Goal: operator before checks before ejection, and each comes back to light when a stronger one goes. Method: all
    // three against a backend, taken away one by one.
    let mut health = health(Some(CHECKS), Some(EJECTION));
    for _ in 0..5 {
        health.handle_failure(1000, spare);
    }
    assert_eq!(health.state(1000), State::Ejected);
    health.handle_check(1000, Outcome::Failed);
    assert_eq!(health.state(1000), State::CheckedDown);
    health.set_manual(1000, Manual::Drain);
    assert_eq!(health.state(1000), State::Drain);
    health.set_manual(1000, Manual::Down);
    assert_eq!(
        (health.state(1000), health.manual()),
        (State::Down, Manual::Down)
    );
    health.set_manual(1000, Manual::Ready);
    assert_eq!(health.state(1000), State::CheckedDown);
    health.handle_check(1000, Outcome::Passed);
    let change = health.handle_check(1500, Outcome::Passed);
    // `ready` forgave the ejection.
    let (from, to) = (State::CheckedDown, State::Up);
    assert_eq!(change, Some(Change { from, to }));
    for _ in 0..5 {
        health.handle_failure(2000, spare);
    }
    // A check that passes leaves it ejected.
    assert_eq!(health.handle_check(2000, Outcome::Passed), None);
    assert_eq!(health.state(2000), State::Ejected);
}

#[test]
fn slow_start_grows_from_a_tenth() {
    // Goal: weights while warming up; none at the start of the process. Method: a backend from its first check, then
    // down and up again; an ejection that ends unseen.
    let mut health = health(Some(CHECKS), Some(EJECTION));
    assert_eq!(health.published(5).weight_now(1, 5, 10_000), 256);
    states_after(&mut health, "----");
    let down = health.published(10_000);
    assert_eq!(down.weight_now(1, 10_000, 10_000), 256);
    health.handle_check(20_000, Outcome::Passed);
    health.handle_check(20_000, Outcome::Passed);
    let up = health.published(20_000);
    for (after_ms, weight_now) in [(0, 26), (1, 26), (5000, 141), (9999, 255), (10_000, 256)] {
        assert_eq!(up.weight_now(1, 20_000 + after_ms, 10_000), weight_now);
    }
    assert_eq!(up.weight_now(256, 20_000, 10_000), 6554);
    assert_eq!(up.weight_now(0, 20_000, 10_000), 0);
    assert_eq!(up.weight_now(1, 20_000, 0), 256);
    // A clock that is a little behind.
    assert_eq!(up.weight_now(1, 19_999, 10_000), 26);

    for _ in 0..5 {
        health.handle_failure(50_000, spare);
    }
    let ejected = health.published(50_000);
    for word in [ejected, health.published(65_000)] {
        assert_eq!(word.state(65_000), State::Up);
        assert_eq!(word.weight_now(1, 65_000, 10_000), 141);
    }
    health.handle_timer(66_000);
    assert_eq!(health.published(66_000).weight_now(1, 65_000, 10_000), 141);
}

#[test]
fn a_group_fails_open_only_if_told_and_never_to_those_taken_out() {
    // Goal: the policy for when none is up. Method: a table of groups by letters: U, c(hecked), e(jected), d(rain),
    // D(own), n(o address).
    let backend = |letter| {
        let state = match letter {
            'U' => State::Up,
            'c' => State::CheckedDown,
            'e' => State::Ejected,
            'd' => State::Drain,
            'n' => State::NoAddress,
            _ => State::Down,
        };
        Published::new(state, false, if state == State::Ejected { 2000 } else { 0 })
    };
    for (group, open, closed, usable_open) in [
        ("Uced", GroupMode::Normal, GroupMode::Normal, "U"),
        ("cedD", GroupMode::FailOpen, GroupMode::Closed, "ce"),
        ("dDn", GroupMode::Closed, GroupMode::Closed, ""),
        ("Un", GroupMode::Normal, GroupMode::Normal, "U"),
        ("ne", GroupMode::FailOpen, GroupMode::Closed, "e"),
        ("", GroupMode::Closed, GroupMode::Closed, ""),
        ("e", GroupMode::FailOpen, GroupMode::Closed, "e"),
    ] {
        let words = || group.chars().map(backend);
        assert_eq!(group_mode(words(), 1000, true), open, "{group}");
        assert_eq!(group_mode(words(), 1000, false), closed, "{group}");
        let usable: String = group
            .chars()
            .filter(|&letter| backend(letter).usable(1000, open))
            .collect();
        assert_eq!(usable, usable_open);
        assert!(words().all(|word| !word.usable(1000, GroupMode::Closed)));
    }
    // The ejection is over.
    assert_eq!(
        group_mode("ce".chars().map(backend), 2000, true),
        GroupMode::Normal
    );
}

#[test]
fn words_say_what_was_packed() {
    // Goal: the word 0 is a fresh backend, and no word is unreadable. Method: the ends of each field.
    let fresh = health(None, None).published(0);
    assert_eq!((fresh.pack(), fresh), (0, Published::unpack(0)));
    for low in 0..16 {
        for word in [low, low | (u64::MAX << 4)] {
            let published = Published::unpack(word);
            if low & 7 < 6 {
                assert_eq!(published.pack(), word);
            } else {
                assert_eq!(published.state(u64::MAX), State::Down);
            }
        }
    }
    assert_eq!(
        Published::new(State::Up, false, u64::MAX).pack() >> 4,
        u64::MAX >> 4
    );
    let mut names: Vec<_> = State::ALL.map(State::name).to_vec();
    names.dedup();
    assert_eq!(names.len(), 6);
}

#[test]
fn checks_neither_meet_nor_pile_up() {
    // Goal: dates within the jitter, spread over it, and always ahead. Method: a thousand seeds, and odd intervals.
    let schedule = Schedule {
        interval_ms: 2000,
        jitter_percent: 10,
    };
    let waits: Vec<u64> = (0..1000)
        .map(|seed| schedule.next_check_at(50_000, seed) - 50_000)
        .collect();
    assert!(waits.iter().all(|wait| (1800..=2200).contains(wait)));
    let mean = waits.iter().sum::<u64>() / 1000;
    assert!((1985..=2015).contains(&mean), "{mean}");
    let firsts: Vec<u64> = (0..1000)
        .map(|seed| schedule.first_check_at(7, seed))
        .collect();
    assert!(firsts.iter().all(|first| (7..2007).contains(first)));
    assert!(
        firsts
            .iter()
            .filter(|&&first| first < 1007)
            .count()
            .abs_diff(500)
            < 60
    );
    // One backend's waits differ from each other.
    let mut now_ms = 0;
    let waits: Vec<u64> = (0..10)
        .map(|_| {
            let before = now_ms;
            now_ms = schedule.next_check_at(before, 3);
            now_ms - before
        })
        .collect();
    assert!(
        waits.windows(2).any(|two| two[0].abs_diff(two[1]) > 50),
        "{waits:?}"
    );
    for (interval_ms, jitter_percent) in [(0, 0), (0, 100), (1, 100), (5, 500), (u64::MAX, 100)] {
        let schedule = Schedule {
            interval_ms,
            jitter_percent,
        };
        for seed in 0..100 {
            assert!(schedule.next_check_at(9, seed) > 9);
            assert!(schedule.first_check_at(9, seed) >= 9);
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Check(bool),
    Failure(bool),
    Success,
    Manual(u8),
    Timer,
    Wait(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => any::<bool>().prop_map(Step::Check),
        6 => any::<bool>().prop_map(Step::Failure),
        2 => Just(Step::Success),
        1 => (0_u8..3).prop_map(Step::Manual),
        1 => Just(Step::Timer),
        3 => (0_u64..40_000).prop_map(Step::Wait),
    ];
    prop::collection::vec(step, 0..200)
}

proptest! {
    #[test]
    fn transitions_by_checks_are_at_least_rise_or_fall_apart(
        checks in prop::collection::vec(any::<bool>(), 0..200), rise in 1_u32..5, fall in 1_u32..5,
    ) {
        // Goal: flapping is bounded, and the state is what a look back says. Method: a model that searches the history
        // for the last run that was long enough.
        let hysteresis = Hysteresis { rise, fall, initial: Initial::Up };
        let mut health = health(Some(hysteresis), None);
        let mut model_is_up = true;
        let mut last_change: Option<usize> = None;
        for (number, &passed) in checks.iter().enumerate() {
            let outcome = if passed { Outcome::Passed } else { Outcome::Failed };
            let change = health.handle_check(0, outcome);
            let run = checks[..=number].iter().rev().take_while(|&&check| check == passed).count();
            if run >= (if passed { rise } else { fall }) as usize {
                model_is_up = passed;
            }
            prop_assert_eq!(health.state(0) == State::Up, model_is_up);
            if let Some(Change { to, .. }) = change {
                let apart = number - last_change.unwrap_or(0);
                let needed = if to == State::Up { rise } else { fall } as usize;
                prop_assert!(last_change.is_none() || apart >= needed);
                last_change = Some(number);
            }
        }
    }

    #[test]
    fn words_and_changes_agree_in_any_history(steps in steps()) {
        // Goal: changes link up, what is published is the state, ejections end by themselves and are refused when the
        // group cannot spare the backend. Method: random histories, checked after each step.
        let mut health = health(Some(CHECKS), Some(EJECTION));
        let (mut now_ms, mut told) = (1, State::Up);
        for step in steps {
            let change = match step {
                Step::Check(true) => health.handle_check(now_ms, Outcome::Passed),
                Step::Check(false) => health.handle_check(now_ms, Outcome::Failed),
                Step::Failure(may_eject) => {
                    let change = health.handle_failure(now_ms, || may_eject);
                    prop_assert!(may_eject || change.is_none_or(|change| change.to != State::Ejected));
                    change
                }
                Step::Success => health.handle_success(now_ms),
                Step::Manual(0) => health.set_manual(now_ms, Manual::Ready),
                Step::Manual(1) => health.set_manual(now_ms, Manual::Drain),
                Step::Manual(_) => health.set_manual(now_ms, Manual::Down),
                Step::Timer => health.handle_timer(now_ms),
                Step::Wait(ms) => {
                    now_ms += ms;
                    None
                }
            };
            if let Some(Change { from, to }) = change {
                prop_assert_eq!(from, told);
                prop_assert!(from != to || (to == State::Ejected && matches!(step, Step::Failure(true))));
                told = to;
            }
            let published = health.published(now_ms);
            prop_assert_eq!(Published::unpack(published.pack()), published);
            prop_assert_eq!(published.state(now_ms), health.state(now_ms));
            if let Some(until_ms) = health.ejected_until_ms(now_ms) {
                prop_assert!(until_ms > now_ms && until_ms - now_ms <= EJECTION.max_ms);
                prop_assert_ne!(published.state(until_ms), State::Ejected);
            }
            let weight_now = published.weight_now(3, now_ms, 10_000);
            prop_assert!((77..=768).contains(&weight_now));
        }
    }
}
