//! What does an idle session hold in a proxy? Resident memory per session, before and after it carried a message.
//!
//! Goal: at most 384 bytes of our memory per idle session. That is a count of our heap, made by a test with a counting
//! allocator; resident memory is what the system sees, with page rounding and the allocator's slack, and bounds it from
//! above. Kernel memory (sockets) is in neither.
//!
//! What a proxy sets aside at its start for sessions to come (nginx: all of its connections) is in the empty column, not
//! in that of a session.

use anyhow::{Context, Result};
use serde::Serialize;

use polyloop_benches::load::{Pace, Stop, Window};
use polyloop_benches::proxy::Proxy;
use polyloop_benches::report::{Comparison, Table};
use polyloop_measure::stats::Ratio;

use super::args::Memory;
use super::{
    ANCHORS, Asked, Pair, Reading, Stage, compare_to_better, echo_behind, median_text, open_files,
    values, wait_for_sessions,
};
use crate::args::Common;
use crate::idle::settle;
use crate::session::{Session, rotated};

#[derive(Debug, Clone, Serialize)]
struct Held {
    subject: String,
    round: usize,
    sessions: usize,
    /// Resident bytes of all its processes before the first session.
    empty_bytes: u64,
    /// Resident bytes per session before any said a word, and after each had one answer.
    silent_bytes: f64,
    answered_bytes: f64,
}

/// Answers whether the result has warnings.
pub(crate) fn run(common: Common, question: Memory) -> Result<bool> {
    let backend = echo_behind(&question.seats)?;
    let mut session = Session::begin("proxy-memory", common, question.clone())?;
    let stage = Stage::set(
        &mut session,
        &question.subjects,
        backend,
        &question.seats,
        question.connections,
    )?;
    let mut all = Vec::new();
    for round in 0..session.common().rounds {
        for proxy in rotated(&stage.proxies, round) {
            let held = measure_one(&session, &stage, proxy, round)
                .with_context(|| format!("{}, round {}", proxy.kind.name(), round + 1))?;
            eprintln!(
                "round {:>2}  {:<14} {:>6} sessions  {:>6.0} bytes each, {:>6.0} after one answer",
                round + 1,
                held.subject,
                held.sessions,
                held.silent_bytes,
                held.answered_bytes
            );
            session.report.facts.push(serde_json::to_value(&held)?);
            session.report.write()?;
            all.push(held);
        }
    }
    conclude(session, &stage, &all)
}

fn measure_one(
    session: &Session<Memory>,
    stage: &Stage,
    proxy: &Proxy,
    round: usize,
) -> Result<Held> {
    let mut pair = stage.start(proxy)?;
    let held = hold(session, &pair, proxy, round);
    let held = pair.explain(held)?;
    pair.stop()?;
    Ok(held)
}

fn hold(session: &Session<Memory>, pair: &Pair, proxy: &Proxy, round: usize) -> Result<Held> {
    let question = &session.report.settings.question;
    let count = question.connections;
    settle(&pair.proxy)?;
    let open_before = open_files(&pair.backend)?;
    let empty_bytes = pair.proxy.resident_bytes()?;
    let mut load = session.open(&pair.proxy, count, &[Some(question.seats.load_core)])?;
    wait_for_sessions(&pair.backend, open_before, count)?;
    settle(&pair.proxy)?;
    let silent = pair.proxy.resident_bytes()?;
    load.run(Window {
        pace: Pace::Closed,
        stop: Stop::Requests(count as u64),
    })?;
    settle(&pair.proxy)?;
    let answered = pair.proxy.resident_bytes()?;
    let each = |resident: u64| (resident as f64 - empty_bytes as f64) / count as f64;
    Ok(Held {
        subject: proxy.kind.name().to_owned(),
        round,
        sessions: count,
        empty_bytes,
        silent_bytes: each(silent),
        answered_bytes: each(answered),
    })
}

fn conclude(mut session: Session<Memory>, stage: &Stage, all: &[Held]) -> Result<bool> {
    let at = session.report.settings.question.connections;
    let readings = |of: fn(&Held) -> f64| -> Vec<Reading> {
        let reading = |held: &Held| Reading {
            subject: held.subject.clone(),
            round: held.round,
            at,
            value: of(held),
        };
        all.iter().map(reading).collect()
    };
    let answered = readings(|held| held.answered_bytes);
    let ours = values(&answered, "polyloop", at);
    let goal = vec![GOAL_BYTES; ours.len()];
    if let Some(ratio) = Ratio::of(&ours, &goal, session.common().seed) {
        let name = format!("resident per idle session, {at}: polyloop / {GOAL_BYTES} bytes");
        session
            .report
            .ratios
            .push(Comparison::new(name, ratio, Some(1.0)));
    }
    let asked = Asked {
        what: "resident per idle session",
        ours: "polyloop",
        anchors: &ANCHORS,
        at,
        goal: None,
    };
    compare_to_better(&mut session, &answered, asked);
    let mut table = Table::new(&[
        "proxy",
        "sessions",
        "bytes each, silent",
        "after one answer",
        "empty KiB",
    ]);
    for proxy in &stage.proxies {
        let median = |of| median_text(&readings(of), proxy.kind.name(), at, 0);
        table.row(vec![
            proxy.kind.name().to_owned(),
            at.to_string(),
            median(|held| held.silent_bytes),
            median(|held| held.answered_bytes),
            median(|held| held.empty_bytes as f64 / 1024.0),
        ]);
    }
    println!("\nmedians over the rounds\n\n{table}");
    session.end()
}

/// Our memory per idle session, at most.
const GOAL_BYTES: f64 = 384.0;
