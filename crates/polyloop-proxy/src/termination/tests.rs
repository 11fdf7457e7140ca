//! Tests of [`super`]: every combination, and the table in the module's documentation.

use std::collections::BTreeSet;

use polyloop_core::errno::{
    EACCES, EADDRNOTAVAIL, EBADF, ECONNRESET, EHOSTUNREACH, EMFILE, ENOMEM,
};

use super::*;

/// Every reason the library has; the errnos stand for the four blames.
const REASONS: [CloseReason; 20] = [
    CloseReason::PeerFinished,
    CloseReason::PeerReset,
    CloseReason::PeerVanished,
    CloseReason::HandlerClosed,
    CloseReason::HandlerAborted,
    CloseReason::HandlerPanicked,
    CloseReason::IdleTimeout,
    CloseReason::LingerTimeout,
    CloseReason::Evicted,
    CloseReason::OutputOverflow,
    CloseReason::InputOverflow,
    CloseReason::DrainDeadline,
    CloseReason::Stopped,
    CloseReason::ConnectFailed,
    CloseReason::NotRegistered(ENOMEM),
    CloseReason::Os(ENOMEM),
    CloseReason::Os(EBADF),
    CloseReason::Os(ECONNRESET),
    CloseReason::Os(EHOSTUNREACH),
    CloseReason::Os(0),
];

const LEGS: [Leg; 2] = [Leg::Client, Leg::Server];

fn without_cause(reason: CloseReason, leg: Leg) -> String {
    let code = |phase| {
        Termination::new(reason, leg, None, phase)
            .code_str()
            .to_owned()
    };
    Phase::ALL.map(code).join(" ")
}

#[test]
fn each_close_reason_in_each_phase() {
    // Goal: the code names the event. Method: the whole table, client's connection and backend's.
    for (reason, client, server) in [
        (
            CloseReason::PeerFinished,
            "CR CQ CC -- --",
            "SR SQ SC -- --",
        ),
        (CloseReason::PeerReset, "CR CQ CC CD CL", "SR SQ SC SD SL"),
        (
            CloseReason::PeerVanished,
            "CR CQ CC CD CL",
            "SR SQ SC SD SL",
        ),
        (
            CloseReason::HandlerClosed,
            "PR PQ PC -- --",
            "PR PQ PC -- --",
        ),
        (
            CloseReason::HandlerAborted,
            "PR PQ PC PD PL",
            "PR PQ PC PD PL",
        ),
        (
            CloseReason::HandlerPanicked,
            "IR IQ IC ID IL",
            "IR IQ IC ID IL",
        ),
        (CloseReason::IdleTimeout, "cR cQ cC cD cL", "sR sQ sC sD sL"),
        (
            CloseReason::LingerTimeout,
            "cR cQ cC cD cL",
            "sR sQ sC sD sL",
        ),
        (CloseReason::Evicted, "PR PQ PC PD PL", "PR PQ PC PD PL"),
        (
            CloseReason::OutputOverflow,
            "IR IQ IC ID IL",
            "IR IQ IC ID IL",
        ),
        (
            CloseReason::InputOverflow,
            "IR IQ IC ID IL",
            "IR IQ IC ID IL",
        ),
        (
            CloseReason::DrainDeadline,
            "KR KQ KC KD KL",
            "KR KQ KC KD KL",
        ),
        (CloseReason::Stopped, "KR KQ KC KD KL", "KR KQ KC KD KL"),
        (
            CloseReason::ConnectFailed,
            "SC SC SC SC SC",
            "SC SC SC SC SC",
        ),
        (
            CloseReason::NotRegistered(ENOMEM),
            "RR RQ RC RD RL",
            "RR RQ RC RD RL",
        ),
        (CloseReason::Os(ENOMEM), "RR RQ RC RD RL", "RR RQ RC RD RL"),
        (CloseReason::Os(EBADF), "IR IQ IC ID IL", "IR IQ IC ID IL"),
        (
            CloseReason::Os(ECONNRESET),
            "CR CQ CC CD CL",
            "SR SQ SC SD SL",
        ),
        (
            CloseReason::Os(EHOSTUNREACH),
            "CR CQ CC CD CL",
            "SR SQ SC SD SL",
        ),
        (CloseReason::Os(0), "RR RQ RC RD RL", "RR RQ RC RD RL"),
    ] {
        assert!(REASONS.contains(&reason));
        assert_eq!(without_cause(reason, Leg::Client), client, "{reason:?}");
        assert_eq!(without_cause(reason, Leg::Server), server, "{reason:?}");
    }
}

#[test]
fn each_cause_in_each_phase() {
    // Goal: the code names the decision, and words that a person can act on. Method: the whole table.
    const PHASED: [(Cause, &str); 9] = [
        (Cause::IdleTimeout(Leg::Client), "c"),
        (Cause::IdleTimeout(Leg::Server), "s"),
        (Cause::HalfCloseTimeout(Leg::Client), "c"),
        (Cause::HalfCloseTimeout(Leg::Server), "s"),
        (Cause::LifetimeReached, "P"),
        (Cause::BackendDown, "D"),
        (Cause::BackendDrained, "K"),
        (Cause::Drained, "K"),
        (Cause::Killed, "K"),
    ];
    const FIXED: [(Cause, &str); 25] = [
        (Cause::Finished, "--"),
        (Cause::AccessDenied, "PR"),
        (Cause::ListenerFull, "PR"),
        (Cause::SourceFull, "PR"),
        (Cause::RateExceeded, "PR"),
        (Cause::SourceRateExceeded, "PR"),
        (Cause::HeaderTimeout, "cR"),
        (Cause::HeaderRefused, "PR"),
        (Cause::HelloTimeout, "cR"),
        (Cause::HelloRefused, "PR"),
        (Cause::NotTls, "PR"),
        (Cause::NoRoute, "PR"),
        (Cause::FirstByteTimeout(Leg::Client), "cR"),
        (Cause::FirstByteTimeout(Leg::Server), "sH"),
        (Cause::QueueFull, "PQ"),
        (Cause::QueueTimeout, "sQ"),
        (Cause::NoBackend, "SC"),
        (Cause::NameUnknown, "SC"),
        (Cause::ConnectRefused, "SC"),
        (Cause::ConnectTimeout, "sC"),
        (Cause::ConnectUnreachable, "SC"),
        (Cause::ConnectForbidden, "SC"),
        (Cause::ConnectMisconfigured, "SC"),
        (Cause::PortsExhausted, "RC"),
        (Cause::ResourcesExhausted, "RC"),
    ];
    assert_eq!(PHASED.len() + FIXED.len(), Cause::ALL.len());
    for cause in Cause::ALL {
        for phase in Phase::ALL {
            let found = Termination::of_cause(cause, phase);
            let expected = match PHASED.iter().find(|(listed, _)| *listed == cause) {
                Some((_, ender)) => format!("{ender}{}", char::from(phase.letter())),
                None => FIXED
                    .iter()
                    .find(|row| row.0 == cause)
                    .unwrap()
                    .1
                    .to_owned(),
            };
            assert_eq!(found.code_str(), expected, "{cause:?} in {phase:?}");
            assert!(!found.words.is_empty() && !found.words.ends_with('.'));
        }
    }
}

#[test]
fn the_first_event_is_named() {
    // Goal: what the session decided is not hidden by how the close came out. Method: each cause over each reason.
    for cause in Cause::ALL {
        for (reason, leg) in REASONS
            .iter()
            .flat_map(|reason| LEGS.map(|leg| (*reason, leg)))
        {
            for phase in Phase::ALL {
                let found = Termination::new(reason, leg, Some(cause), phase);
                assert_eq!(found, Termination::of_cause(cause, phase));
            }
        }
    }
}

#[test]
fn no_reason_of_the_library_is_forgotten() {
    // Goal: a new close reason must be given its letters. Method: the names tested here are all the names there are.
    let tested: BTreeSet<&str> = REASONS.iter().map(|reason| reason.name()).collect();
    assert_eq!(tested, CloseReason::NAMES.into_iter().collect());
}

#[test]
fn the_documentation_lists_exactly_the_codes_there_are() {
    // Goal: an operator finds each code in the table, and none that cannot occur. Method: all combinations against the
    // first column of the table in the source.
    let documented: BTreeSet<&str> = include_str!("../termination.rs")
        .lines()
        .filter_map(|line| line.strip_prefix("//! | `")?.split(" | ").next())
        .flat_map(|cell| cell.trim_end_matches('`').split("` `"))
        .collect();
    let causes = std::iter::once(None).chain(Cause::ALL.map(Some));
    let mut found = BTreeSet::new();
    for cause in causes {
        for (reason, leg) in REASONS
            .iter()
            .flat_map(|reason| LEGS.map(|leg| (*reason, leg)))
        {
            for phase in Phase::ALL {
                let termination = Termination::new(reason, leg, cause, phase);
                found.insert(termination.code_str().to_owned());
                assert_eq!(termination.is_normal(), termination.code == *b"--");
            }
        }
    }
    let found: BTreeSet<&str> = found.iter().map(String::as_str).collect();
    assert_eq!(documented, found);
}

#[test]
fn words_tell_rows_and_phases_apart() {
    // Goal: no two rows say the same, nor two phases of a row. Method: all of them in a set.
    let mut seen = BTreeSet::new();
    for (reason, row) in ROWS {
        for phase in Phase::ALL {
            let words = row.at(phase).words;
            assert!(words.starts_with(reason) && seen.insert(words), "{words}");
        }
    }
    assert_eq!(seen.len(), ROWS.len() * Phase::ALL.len());
    let shown = Termination::of_cause(Cause::Killed, Phase::Data).to_string();
    assert_eq!(
        shown,
        "KD (an operator ended the session while passing data)"
    );
}

#[test]
fn failed_connects_are_told_apart() {
    // Goal: what is the backend's fault and what is ours. Method: one errno of each kind.
    for (errno, cause) in [
        (ECONNREFUSED, Cause::ConnectRefused),
        (ETIMEDOUT, Cause::ConnectTimeout),
        (EHOSTUNREACH, Cause::ConnectUnreachable),
        (EADDRNOTAVAIL, Cause::PortsExhausted),
        (EMFILE, Cause::ResourcesExhausted),
        (EACCES, Cause::ConnectForbidden),
        (EBADF, Cause::ConnectMisconfigured),
        (0, Cause::ConnectUnreachable),
    ] {
        assert_eq!(Cause::of_connect_errno(errno), cause, "{errno}");
    }
}

#[test]
fn each_refusal_has_a_reason_of_its_own() {
    // Goal: metrics tell causes apart, and no reason is left without one. Method: every cause; the two sides of a late
    // first byte share theirs.
    let mut seen = BTreeSet::new();
    for cause in Cause::ALL {
        let is_shared = cause == Cause::FirstByteTimeout(Leg::Server);
        if let Some(at) = cause.refusal() {
            assert_eq!(seen.insert(at), !is_shared, "{cause:?}");
            let name: String = format!("{cause:?}")
                .replace("(Client)", "")
                .replace("(Server)", "");
            assert_eq!(Cause::REFUSALS[at].replace('_', ""), name.to_lowercase());
        }
    }
    assert_eq!(seen.len(), Cause::REFUSALS.len());
}
