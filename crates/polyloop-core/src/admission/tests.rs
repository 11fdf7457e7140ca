//! Tests of [`super`]: every state with every input, played scenes, and random ones against the edge's view.

use super::*;
use crate::errno::{EMFILE, ENFILE};
use proptest::prelude::*;

const MS: u64 = 1_000_000;
const DISARMED: Decision = Decision::Pause { retry_at: None };

fn armed(retry_at: u64) -> Decision {
    Decision::Pause {
        retry_at: Some(retry_at),
    }
}

/// A gate with a cap of 100 in each of its states; the starved one retries at 100 ms.
fn in_state(name: &str) -> Admission {
    let mut gate = Admission::new(100);
    match name {
        "full" => assert_eq!(gate.handle_full(), DISARMED),
        "starved" => assert_eq!(gate.handle_exhausted(EMFILE, 0), armed(100 * MS)),
        "overloaded" => assert_eq!(gate.handle_overload(), DISARMED),
        "draining" => assert_eq!(gate.handle_drain(), DISARMED),
        _ => {}
    }
    gate
}

#[test]
fn every_state_answers_every_input() {
    // Goal: the whole transition table. Method: each input on each state; the expected decision and state after.
    use Decision::{Resume, StayOpen, StayPaused};
    type Input = fn(&mut Admission) -> Decision;
    let inputs: [(&str, Input); 9] = [
        ("full", Admission::handle_full),
        ("exhausted", |gate| gate.handle_exhausted(ENFILE, 50 * MS)),
        ("released to 91", |gate| gate.handle_released(91)),
        ("released to 90", |gate| gate.handle_released(90)),
        ("timer early", |gate| gate.handle_timer(99 * MS)),
        ("timer due", |gate| gate.handle_timer(100 * MS)),
        ("overload", Admission::handle_overload),
        ("relief", Admission::handle_relief),
        ("drain", Admission::handle_drain),
    ];
    let table = [
        (
            "open",
            [
                DISARMED,
                armed(150 * MS),
                StayOpen,
                StayOpen,
                StayOpen,
                StayOpen,
                DISARMED,
                StayOpen,
                DISARMED,
            ],
        ),
        (
            "full",
            [
                StayPaused, StayPaused, StayPaused, Resume, StayPaused, StayPaused, DISARMED,
                StayPaused, DISARMED,
            ],
        ),
        (
            "starved",
            [
                DISARMED,
                armed(150 * MS),
                Resume,
                Resume,
                armed(100 * MS),
                Resume,
                DISARMED,
                StayPaused,
                DISARMED,
            ],
        ),
        (
            "overloaded",
            [
                StayPaused, StayPaused, StayPaused, StayPaused, StayPaused, StayPaused, StayPaused,
                Resume, DISARMED,
            ],
        ),
        ("draining", [StayPaused; 9]),
    ];
    for (state, expected) in table {
        for ((input, apply), expected) in inputs.into_iter().zip(expected) {
            let mut gate = in_state(state);
            let decision = apply(&mut gate);
            assert_eq!(decision, expected, "{state}, {input}");
            let open_after = matches!(decision, Resume | StayOpen);
            assert_eq!(gate.is_open(), open_after, "{state}, {input}");
        }
    }
}

#[test]
fn a_full_loop_resumes_once_and_counts() {
    // Goal: stop at the cap, go on at 90 %, with no timer. Method: releases one by one.
    let mut gate = in_state("full");
    for in_use in (91..100).rev() {
        assert_eq!(gate.handle_released(in_use), Decision::StayPaused);
    }
    assert_eq!(gate.handle_released(90), Decision::Resume);
    assert_eq!(gate.handle_released(89), Decision::StayOpen);
    let counts = AdmissionCounts {
        full: 1,
        resumed_by_release: 1,
        ..AdmissionCounts::default()
    };
    assert_eq!(gate.counts(), counts);
}

#[test]
fn a_starved_loop_tries_ten_times_a_second() {
    // Goal: no spin while nothing is freed. Method: a virtual second in which every attempt fails.
    let mut gate = Admission::new(10);
    let mut retry_at = 0;
    let mut attempts = 0;
    while retry_at < 1000 * MS {
        attempts += 1;
        let Decision::Pause {
            retry_at: Some(next),
        } = gate.handle_exhausted(EMFILE, retry_at)
        else {
            panic!("not paused");
        };
        assert_eq!(
            gate.state(),
            State::Starved {
                errno: EMFILE,
                retry_at: next
            }
        );
        retry_at = next;
        assert_eq!(gate.handle_timer(retry_at), Decision::Resume);
    }
    assert_eq!(attempts, 10);
    assert_eq!(
        (gate.counts().starved, gate.counts().resumed_by_timer),
        (10, 10)
    );
    assert_eq!(
        gate.handle_exhausted(EMFILE, u64::MAX),
        armed(u64::MAX),
        "no overflow"
    );
}

#[test]
fn the_resume_mark_is_below_every_cap() {
    // Goal: 90 %, one below for tiny caps, never the cap. Method: a table and a sweep.
    for (cap, mark) in [
        (1, 0),
        (2, 1),
        (9, 8),
        (10, 9),
        (11, 9),
        (100, 90),
        (19_000, 17_100),
    ] {
        assert_eq!(resume_at(cap), mark);
    }
    for cap in (1..5000).chain([u64::MAX / 9, u64::MAX]) {
        assert_eq!(u128::from(resume_at(cap)), u128::from(cap) * 9 / 10);
        assert!(resume_at(cap) < cap);
    }
}

#[test]
fn policies_read_back() {
    // Goal: the flag's names, both ways, and its error. Method: all of them.
    for policy in WhenFull::ALL {
        assert_eq!(policy.to_string().parse(), Ok(policy));
    }
    let message = "drop".parse::<WhenFull>().unwrap_err().to_string();
    assert!(message.contains("\"drop\"") && message.contains("evict-idle"));
}

#[test]
fn the_budget_divides_what_is_left() {
    // Goal: the formula, its borders and its messages. Method: a table and whole messages.
    let budget = |limit_nofile, wanted| Budget {
        limit_nofile,
        open_now: 20,
        reserve: default_reserve(2),
        cost_per_connection: 2,
        wanted,
    };
    assert_eq!(default_reserve(2), 40);
    assert_eq!(budget(20_000, None).compute(), Ok(9970));
    assert_eq!(budget(20_000, Some(9970)).compute(), Ok(9970));
    assert_eq!(budget(20_000, Some(5)).compute(), Ok(5));
    assert_eq!(budget(62, None).compute(), Ok(1));
    assert_eq!(budget(u64::MAX, None).compute(), Ok((u64::MAX - 60) / 2));
    assert_eq!(
        budget(61, None).compute().unwrap_err().to_string(),
        "no connection fits under the descriptor limit (RLIMIT_NOFILE) of 61: 20 are open, 40 are kept in \
         reserve, a connection costs 2; raise the limit to 62 or more (ulimit -n, LimitNOFILE=)"
    );
    assert_eq!(
        budget(20_000, Some(10_000))
            .compute()
            .unwrap_err()
            .to_string(),
        "10000 connections do not fit under the descriptor limit (RLIMIT_NOFILE) of 20000: 20 are open, 40 \
         are kept in reserve, a connection costs 2; ask for 9970 or fewer, or raise the limit to 20060 or \
         more (ulimit -n, LimitNOFILE=)"
    );
    assert_eq!(
        budget(20_000, Some(0)).compute(),
        Err(AdmissionError::NoneWanted)
    );
}

proptest! {
    #[test]
    fn the_edge_never_loses_its_listener(
        inputs in proptest::collection::vec((0_u8..7, 0_u64..11, 0_u64..60), 1..200),
    ) {
        // Goal: registered exactly while open; a timer armed exactly while starved; a pause always has something that
        // ends it. Method: random inputs, carried out by a model of the edge.
        let mut gate = Admission::new(10);
        let (mut registered, mut timer, mut now) = (true, None, 0);
        for (input, in_use, gap) in inputs {
            now += gap * MS;
            let decision = match input {
                0 if registered => gate.handle_full(),
                1 if registered => gate.handle_exhausted(EMFILE, now),
                2 => gate.handle_released(in_use),
                3 => { timer = None; gate.handle_timer(now) }
                4 => gate.handle_overload(),
                5 => gate.handle_relief(),
                _ => continue,
            };
            match decision {
                Decision::Resume => { prop_assert!(!registered); registered = true; timer = None }
                Decision::Pause { retry_at } => { registered = false; timer = retry_at }
                Decision::StayOpen => prop_assert!(registered),
                Decision::StayPaused => prop_assert!(!registered),
            }
            prop_assert_eq!(registered, gate.is_open());
            prop_assert_eq!(timer.is_some(), matches!(gate.state(), State::Starved { .. }));
        }
    }
}
