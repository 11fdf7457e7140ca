//! What passes for an echo, and what does not.

use super::*;
use crate::args::RunArgs;
use crate::settings::Settings;
use proptest::prelude::*;
use std::sync::Arc;

const CONNECTION: u64 = 9;

/// What a broken echo may do to a stream of messages.
#[derive(Debug, Clone)]
enum Damage {
    Drop(usize),
    Double(usize),
    Flip(usize),
    Truncate(usize),
    Repeat,
    Swap,
}

fn damages() -> impl Strategy<Value = Damage> {
    prop_oneof![
        (0_usize..300).prop_map(Damage::Drop),
        (0_usize..300).prop_map(Damage::Double),
        (0_usize..300).prop_map(Damage::Flip),
        (1_usize..100).prop_map(Damage::Truncate),
        Just(Damage::Repeat),
        Just(Damage::Swap),
    ]
}

fn damaged(messages: &[Vec<u8>], damage: &Damage) -> Vec<u8> {
    let mut parts = messages.to_vec();
    match damage {
        Damage::Truncate(by) => {
            let keep = parts[0].len().saturating_sub(*by);
            parts[0].truncate(keep);
        }
        Damage::Repeat => parts.insert(1, messages[0].clone()),
        Damage::Swap => parts.swap(0, 1),
        Damage::Drop(_) | Damage::Double(_) | Damage::Flip(_) => {}
    }
    let mut stream = parts.concat();
    match *damage {
        Damage::Drop(at) => drop(stream.remove(at)),
        Damage::Double(at) => stream.insert(at, stream[at]),
        Damage::Flip(at) => stream[at] ^= 1,
        Damage::Truncate(_) | Damage::Repeat | Damage::Swap => {}
    }
    stream
}

/// Feeds a stream in pieces; whether so many messages came back whole. `None` is still waiting.
fn is_right(
    plan: &Plan,
    talk: &mut Talk,
    messages: usize,
    stream: &[u8],
    piece: usize,
) -> Option<bool> {
    let mut answers = 0;
    for mut bytes in stream.chunks(piece) {
        while !bytes.is_empty() {
            match talk.feed(plan, CONNECTION, answers < messages, bytes) {
                Fed::Wrong(_) => return Some(false),
                Fed::More => break,
                Fed::Answer { used } => {
                    bytes = &bytes[used..];
                    answers += 1;
                }
            }
        }
    }
    (answers == messages).then_some(true)
}

fn plan_of(seed: u64) -> Arc<Plan> {
    let args = RunArgs {
        target: vec!["127.0.0.1:1".to_owned()],
        size: Some("100..500".parse().unwrap()),
        seed: Some(seed),
        ..RunArgs::default()
    };
    Settings::new(&args).unwrap().plan
}

/// Asks for so many messages, and says what each was.
fn ask(plan: &Plan, talk: &mut Talk, messages: usize) -> Vec<Vec<u8>> {
    (0..messages)
        .map(|_| talk.next_request(plan, CONNECTION).to_vec())
        .collect()
}

proptest! {
    #[test]
    fn an_echo_passes_and_a_damaged_one_does_not(
        seed: u64, messages in 4_usize..8, damage in damages(), piece in 1_usize..700,
    ) {
        // Goal: right at any split, wrong when anything is lost, doubled, changed or out of order. Method: both.
        let plan = plan_of(seed);
        let mut talk = Talk::new(&plan, false);
        let asked = ask(&plan, &mut talk, messages);
        let mut damaged_talk = Talk::new(&plan, false);
        ask(&plan, &mut damaged_talk, messages);
        prop_assert_eq!(is_right(&plan, &mut talk, messages, &asked.concat(), piece), Some(true));
        let stream = damaged(&asked, &damage);
        // A byte doubled or lost beside its equal changes nothing until the end, where the count tells.
        prop_assert_ne!(is_right(&plan, &mut damaged_talk, messages, &stream, piece), Some(true));
    }
}

#[test]
fn what_nobody_asked_for_is_wrong() {
    // Goal: a server that answers twice is caught at its first byte too many. Method: one message, its echo, and a byte.
    let plan = plan_of(1);
    let mut talk = Talk::new(&plan, false);
    let echo = ask(&plan, &mut talk, 1).concat();
    let fed = talk.feed(&plan, CONNECTION, true, &echo);
    assert_eq!(fed, Fed::Answer { used: echo.len() });
    let fed = talk.feed(&plan, CONNECTION, false, b"x");
    assert_eq!(fed, Fed::Wrong(Wrong::Unasked));
}
