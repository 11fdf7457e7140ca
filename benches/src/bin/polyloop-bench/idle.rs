//! What do idle connections hold, and what do they use?
//!
//! Resident memory is what the system sees: allocator slack, page rounding and stacks included, kernel memory not. It
//! bounds the claim about our own heap from above; the exact count is a test with a counting allocator.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde::Serialize;

use polyloop_benches::load::{Pace, Stop, Window};
use polyloop_benches::report::Table;
use polyloop_benches::subject::{Server, Subject};
use polyloop_measure::bill::{ProcessBill, resident_bytes};

use crate::args::{Common, Idle, seconds};
use crate::session::{Session, one_thread};

#[derive(Debug, Serialize)]
struct Rest {
    subject: String,
    connections: usize,
    /// Resident bytes per connection before any of them said a word, and after each had one answer.
    silent_bytes: f64,
    answered_bytes: f64,
    /// At rest, over the time watched.
    watched_seconds: f64,
    cpu_ns: u64,
    sleeps: u64,
}

/// Answers whether the result has warnings.
pub(crate) fn run(common: Common, question: Idle) -> Result<bool> {
    let subjects = question
        .subjects
        .iter()
        // polyloop runs as it does by default, on all its cores; memory per connection does not depend on it.
        .map(|&kind| one_thread(kind, &common.polyloop, None))
        .collect::<Result<Vec<_>>>()?;
    let mut session = Session::begin("idle", common, question.clone())?;
    session.report.subjects.clone_from(&subjects);
    let mut table = Table::new(&[
        "server",
        "connections",
        "bytes each, silent",
        "after one answer",
        "CPU us at rest",
        "wake-ups at rest",
    ]);
    for subject in &subjects {
        let rest = watch(&session, subject, &question)?;
        table.row(vec![
            rest.subject.clone(),
            rest.connections.to_string(),
            format!("{:.0}", rest.silent_bytes),
            format!("{:.0}", rest.answered_bytes),
            format!("{:.1}", rest.cpu_ns as f64 / 1e3),
            rest.sleeps.to_string(),
        ]);
        if rest.subject == "polyloop" && rest.sleeps > 0 {
            session.report.warnings.push(format!(
                "polyloop woke up {} times in {} s without work",
                rest.sleeps, rest.watched_seconds
            ));
        }
        session.report.facts.push(serde_json::to_value(&rest)?);
        session.report.write()?;
    }
    println!("watched at rest for {} s\n\n{table}", question.seconds);
    session.end()
}

fn watch(session: &Session<Idle>, subject: &Subject, question: &Idle) -> Result<Rest> {
    let server = subject.start()?;
    let count = question.connections;
    settle(&server)?;
    let resident_empty = resident_bytes(server.pid())?;
    let mut load = session
        .open(&server, count, &[None])
        .with_context(|| subject.name.clone())?;
    settle(&server)?;
    let resident_silent = resident_bytes(server.pid())?;

    let before = ProcessBill::read(server.pid())?;
    let start = Instant::now();
    std::thread::sleep(seconds(question.seconds));
    let bill = ProcessBill::read(server.pid())?.since(before);
    let watched_seconds = start.elapsed().as_secs_f64();

    // Every connection answers: none of them was only waiting in the backlog.
    load.run(Window {
        pace: Pace::Closed,
        stop: Stop::Requests(count as u64),
    })?;
    settle(&server)?;
    let resident_answered = resident_bytes(server.pid())?;
    drop(load);
    server.stop()?;
    let each = |resident: u64| (resident as f64 - resident_empty as f64) / count as f64;
    Ok(Rest {
        subject: subject.name.clone(),
        connections: count,
        silent_bytes: each(resident_silent),
        answered_bytes: each(resident_answered),
        watched_seconds,
        cpu_ns: bill.cpu_ns,
        sleeps: bill.switches_voluntary,
    })
}

/// Waits until the server has used next to no processor time for a while: one that looks after itself now and then is
/// at rest all the same. One that never rests is watched as it is.
pub(crate) fn settle(server: &Server) -> Result<()> {
    let start = Instant::now();
    let mut before = server.bill()?;
    while start.elapsed() < SETTLE_MAX {
        std::thread::sleep(SETTLED_AFTER);
        let now = server.bill()?;
        if now.since(before).cpu_ns < REST_NS_MAX {
            return Ok(());
        }
        before = now;
    }
    Ok(())
}

const SETTLED_AFTER: Duration = Duration::from_millis(200);

/// Half a percent of a core: far above a look at the clock ten times per second, far below any work.
const REST_NS_MAX: u64 = 1_000_000;

const SETTLE_MAX: Duration = Duration::from_secs(5);
