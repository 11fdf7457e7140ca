//! What do 8,000 clients cost that never read, while the server behind sends without end? Memory of the proxy, and what a
//! client among them notices who does read.
//!
//! Goals: resident memory per such session at most what the watermarks allow (64 KiB unsent, plus one read of 64 KiB, plus
//! 4 KiB for everything else); the p99 of a fast client among them less than 2 times what it is alone.
//!
//! Alone and among them are two windows with one process, right after each other, in turn first (a round begins with
//! the other one than the round before), so that their ratio is that of one memory layout and one moment. The window begins when
//! nothing moves any more: all are stuck. While they fill up, the server behind is busy with them, and a latency would be
//! its. And it begins when the kernel is quiet too: a sender whose peer has closed its window asks again after 0.2 s, and then after twice
//! as long each time (RFC 9293, 3.8.6.1), all 16,000 at about the same moments. Each is a burst of some ten milliseconds, whatever proxy
//! there is; 13 s after the last byte (0.2 + 0.4 + .. + 6.4 = 12.6) the next one is as far away.
//!
//! What the kernel holds for the sockets is in no process's memory; the clients and the server behind have little room
//! (`polyloop_benches::flood`), and the total of the host is among the facts, with a warning when it is under pressure: then the
//! kernel decides who waits.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::Serialize;

use polyloop_benches::flood::{TcpMemory, ask_for_flood, open_mute};
use polyloop_benches::load::{Load, Pace, Stop, Window};
use polyloop_benches::measure::{self, Cell, Place};
use polyloop_benches::proxy::Proxy;
use polyloop_benches::report::{Comparison, Table};
use polyloop_benches::subject::{Server, Subject};
use polyloop_measure::stats::Ratio;

use super::args::NeverReaders;
use super::{Pair, Reading, Stage, median_text, open_files, values, wait_for_sessions};
use crate::args::{Common, seconds};
use crate::idle::settle;
use crate::session::{Session, or_nan, rotated};

#[derive(Debug, Clone, Serialize)]
struct Held {
    subject: String,
    round: usize,
    sessions: usize,
    /// Resident bytes of all its processes before the first session, and with all of them stuck.
    empty_bytes: u64,
    stuck_bytes: u64,
    each_bytes: f64,
    /// What the kernel holds for all TCP sockets of the host, stuck.
    kernel_bytes: u64,
}

/// Answers whether the result has warnings.
pub(crate) fn run(common: Common, question: NeverReaders) -> Result<bool> {
    let arguments = format!("--core {}", question.seats.load_core);
    let backend = Subject::anchor("backend", "flood", &arguments)?;
    let mut session = Session::begin("proxy-never-readers", common, question.clone())?;
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
            let mut pair = stage.start(proxy)?;
            let held = measure_one(&mut session, &pair, proxy, round);
            let held = pair
                .explain(held)
                .with_context(|| format!("{}, round {}", proxy.kind.name(), round + 1))?;
            pair.stop()?;
            eprintln!(
                "round {:>2}  {:<14} {:>6} sessions  {:>8.0} bytes each, {:>5} MiB in all, {:>5} MiB in the kernel",
                round + 1,
                held.subject,
                held.sessions,
                held.each_bytes,
                (held.stuck_bytes - held.empty_bytes.min(held.stuck_bytes)) >> 20,
                held.kernel_bytes >> 20,
            );
            session.report.facts.push(serde_json::to_value(&held)?);
            session.report.write()?;
            all.push(held);
        }
    }
    conclude(session, &stage, &all)
}

fn measure_one(
    session: &mut Session<NeverReaders>,
    pair: &Pair,
    proxy: &Proxy,
    round: usize,
) -> Result<Held> {
    let question = session.report.settings.question.clone();
    settle(&pair.proxy)?;
    let empty_bytes = pair.proxy.resident_bytes()?;
    let core = Some(question.seats.load_core);
    let mut fast = session.open(&pair.proxy, question.fast, &[core])?;
    let is_alone_first = round.is_multiple_of(2);
    if is_alone_first {
        watch(session, pair, &mut fast, &alone(proxy), round)?;
    }
    let mute = fill(pair, question.connections)?;
    let kernel = TcpMemory::read()?;
    let stuck_bytes = pair.proxy.resident_bytes()?;
    std::thread::sleep(seconds(question.quiet_seconds));
    watch(session, pair, &mut fast, &among(proxy), round)?;
    drop(mute);
    if !is_alone_first {
        await_rest(pair)?;
        watch(session, pair, &mut fast, &alone(proxy), round)?;
    }
    if kernel.is_under_pressure() {
        session.report.warnings.push(format!(
            "{}, round {}: the kernel was short of memory for sockets (net.ipv4.tcp_mem), so it decided who waits",
            proxy.kind.name(),
            round + 1
        ));
    }
    Ok(Held {
        subject: proxy.kind.name().to_owned(),
        round,
        sessions: question.connections,
        empty_bytes,
        stuck_bytes,
        each_bytes: (stuck_bytes as f64 - empty_bytes as f64) / question.connections as f64,
        kernel_bytes: kernel.used_bytes,
    })
}

fn alone(proxy: &Proxy) -> String {
    format!("{}, alone", proxy.kind.name())
}

fn among(proxy: &Proxy) -> String {
    format!("{}, among", proxy.kind.name())
}

/// One window of the fast client.
fn watch(
    session: &mut Session<NeverReaders>,
    pair: &Pair,
    fast: &mut Load,
    subject: &str,
    round: usize,
) -> Result<()> {
    let question = &session.report.settings.question;
    let planned = |length| Window {
        pace: Pace::Rate(question.rate),
        stop: Stop::After(length),
    };
    fast.run(planned(session.common().warmup()))?;
    let window = planned(seconds(question.seconds));
    let place = Place {
        subject,
        round,
        connections: question.fast,
    };
    let cell = measure::window(&pair.proxy, Some(&pair.backend), fast, window, place)?;
    session.add_cell(cell)
}

/// Clients who never read, all of them stuck.
fn fill(pair: &Pair, count: usize) -> Result<Vec<TcpStream>> {
    let open_before = open_files(&pair.backend)?;
    let mute = open_mute(pair.proxy.addr(), count)?;
    wait_for_sessions(&pair.backend, open_before, count)?;
    ask_for_flood(&mute)?;
    await_rest(pair)?;
    Ok(mute)
}

/// Waits until neither the proxy nor the server behind has anything to do.
fn await_rest(pair: &Pair) -> Result<()> {
    let start = Instant::now();
    let used = |server: &Server| Ok::<_, anyhow::Error>(server.bill()?.cpu_ns);
    loop {
        let before = used(&pair.proxy)? + used(&pair.backend)?;
        std::thread::sleep(REST_WATCHED);
        if used(&pair.proxy)? + used(&pair.backend)? - before < REST_NS_MAX {
            return Ok(());
        }
        if start.elapsed() > REST_PATIENCE {
            bail!("bytes still move after {REST_PATIENCE:?}, although nobody reads");
        }
    }
}

fn conclude(mut session: Session<NeverReaders>, stage: &Stage, all: &[Held]) -> Result<bool> {
    let question = session.report.settings.question.clone();
    let (at, seed) = (question.connections, session.common().seed);
    let readings = |of: fn(&Held) -> f64| -> Vec<Reading> {
        let reading = |held: &Held| Reading {
            subject: held.subject.clone(),
            round: held.round,
            at,
            value: of(held),
        };
        all.iter().map(reading).collect()
    };
    let each = readings(|held| held.each_bytes);
    for proxy in &stage.proxies {
        let is_ours = proxy.kind.is_ours();
        let (among, alone) = (among(proxy), alone(proxy));
        let pair = (among.as_str(), alone.as_str());
        let p99 = |cell: &Cell| or_nan(cell.latency.p99_us);
        session.compare("p99", pair, question.fast, p99, is_ours.then_some(GOAL_P99));
        let held = values(&each, proxy.kind.name(), at);
        let allowed = vec![ALLOWED_BYTES; held.len()];
        if let Some(ratio) = Ratio::of(&held, &allowed, seed).filter(|_| is_ours) {
            let name = format!(
                "resident per stuck session, {at}: {} / {ALLOWED_BYTES} bytes",
                proxy.kind.name()
            );
            let comparison = Comparison::new(name, ratio, Some(1.0));
            session.report.ratios.push(comparison);
        }
    }
    let enough = |cell: &Cell| cell.latency.p99_us.is_some();
    if !session.report.cells.iter().all(enough) {
        let warning = "too few requests for p99: --rate times --seconds should be 10,000 or more";
        session.report.warnings.push(warning.to_owned());
    }
    session.print_medians();
    let mut table = Table::new(&[
        "proxy",
        "stuck sessions",
        "bytes each",
        "MiB in all",
        "kernel MiB",
    ]);
    for proxy in &stage.proxies {
        let median = |of| median_text(&readings(of), proxy.kind.name(), at, 0);
        table.row(vec![
            proxy.kind.name().to_owned(),
            at.to_string(),
            median(|held| held.each_bytes),
            median(|held| (held.stuck_bytes as f64 - held.empty_bytes as f64) / MIB),
            median(|held| held.kernel_bytes as f64 / MIB),
        ]);
    }
    println!("\nmedians over the rounds\n\n{table}");
    session.end()
}

/// What a session may hold: the watermark, one read on top of it, and the session.
const ALLOWED_BYTES: f64 = ((64 + 64 + 4) * 1024) as f64;

const GOAL_P99: f64 = 2.0;

const MIB: f64 = (1 << 20) as f64;

const REST_WATCHED: Duration = Duration::from_millis(200);

/// Half a percent of a core.
const REST_NS_MAX: u64 = 1_000_000;

const REST_PATIENCE: Duration = Duration::from_secs(60);
