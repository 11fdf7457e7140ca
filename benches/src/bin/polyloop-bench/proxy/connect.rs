//! What does a connection cost in a proxy? Connect, one message, its answer, close; again and again.
//!
//! Goal, processor time of the proxy per connection: at most 0.9 times the better of HAProxy and nginx.

use std::time::Duration;

use anyhow::{Context, Result};
use serde::Serialize;

use polyloop_benches::churn::Churn;
use polyloop_benches::measure::{Meter, Metered, doubts};
use polyloop_benches::proxy::Proxy;
use polyloop_benches::report::Table;
use polyloop_benches::turns::{REST, in_turn, parts};
use polyloop_measure::bill::ProcessBill;

use super::args::Connect;
use super::{ANCHORS, Asked, Pair, Reading, Stage, compare_to_better, echo_behind, median_text};
use crate::args::{Common, seconds};
use crate::idle::settle;
use crate::session::Session;

/// One window of connections that come and go.
#[derive(Debug, Clone, Serialize)]
struct Churned {
    subject: String,
    round: usize,
    connections: u64,
    seconds: f64,
    connections_per_second: f64,
    proxy_cpu_ns: f64,
    machine_cpu_ns: f64,
    proxy_cores: f64,
    backend_cores: f64,
    load_cores: f64,
    other_cores: f64,
    steal_share: f64,
    doubts: Vec<String>,
}

/// Answers whether the result has warnings.
pub(crate) fn run(common: Common, question: Connect) -> Result<bool> {
    let backend = echo_behind(&question.seats)?;
    let mut session = Session::begin("proxy-connect", common, question.clone())?;
    // Sessions that are closing count until they are closed.
    let sessions = 2 * question.at_once + 1_000;
    let stage = Stage::set(
        &mut session,
        &question.subjects,
        backend,
        &question.seats,
        sessions,
    )?;
    let mut windows = Vec::new();
    for round in 0..session.common().rounds {
        let measured = stage.with_all(round, |pairs| load_them(&session, pairs, round));
        for window in measured.with_context(|| format!("round {}", round + 1))? {
            eprintln!(
                "round {:>2}  {:<14} {:>8.0} ns/connection  {:>6.0} connections/s  {}",
                round + 1,
                window.subject,
                window.proxy_cpu_ns,
                window.connections_per_second,
                window.doubts.join(", ")
            );
            session.report.facts.push(serde_json::to_value(&window)?);
            session.report.write()?;
            windows.push(window);
        }
    }
    conclude(session, &stage, &windows)
}

fn conclude(mut session: Session<Connect>, stage: &Stage, windows: &[Churned]) -> Result<bool> {
    let at = session.report.settings.question.at_once;
    let readings = |of: fn(&Churned) -> f64| -> Vec<Reading> {
        let reading = |window: &Churned| Reading {
            subject: window.subject.clone(),
            round: window.round,
            at,
            value: of(window),
        };
        windows.iter().map(reading).collect()
    };
    let asked = |what, goal| Asked {
        what,
        ours: "polyloop",
        anchors: &ANCHORS,
        at,
        goal,
    };
    let cpu = readings(|window| window.proxy_cpu_ns);
    let machine = readings(|window| window.machine_cpu_ns);
    compare_to_better(
        &mut session,
        &cpu,
        asked("proxy CPU per connection", Some(GOAL)),
    );
    compare_to_better(
        &mut session,
        &machine,
        asked("machine per connection", None),
    );
    let mut table = Table::new(&[
        "proxy",
        "CPU ns/connection",
        "machine ns",
        "proxy cores",
        "connections/s",
    ]);
    for proxy in &stage.proxies {
        let name = proxy.kind.name();
        let median = |of, digits| median_text(&readings(of), name, at, digits);
        table.row(vec![
            name.to_owned(),
            median(|window| window.proxy_cpu_ns, 0),
            median(|window| window.machine_cpu_ns, 0),
            median(|window| window.proxy_cores, 2),
            median(|window| window.connections_per_second, 0),
        ]);
    }
    println!("\nmedians over the rounds\n\n{table}");
    session.warn_of_doubts(windows.iter().map(|window| window.doubts.as_slice()));
    session.end()
}

/// A proxy in a round, its clients, and what was used in its slices.
struct Side<'a> {
    name: &'static str,
    pair: &'a Pair,
    churn: Churn,
    connections: u64,
    elapsed: Duration,
    own_cpu_ns: u64,
    /// When the clients had seen the end of all sessions.
    at_end: Option<Metered>,
    /// When the proxy had closed them too.
    at_rest: Option<Metered>,
}

fn load_them(
    session: &Session<Connect>,
    pairs: &[(&Proxy, Pair)],
    round: usize,
) -> Result<Vec<Churned>> {
    let question = &session.report.settings.question;
    let mut sides = Vec::new();
    for (proxy, pair) in pairs {
        let churn = Churn {
            target: pair.proxy.addr(),
            congestion: session.common().congestion().map(str::to_owned),
            message_bytes: session.common().message_bytes,
            at_once: question.at_once,
            core: Some(question.seats.load_core),
        };
        let name = proxy.kind.name();
        let warm = churn.run(session.common().warmup());
        warm.with_context(|| format!("{name}, before the window"))?;
        settle(&pair.proxy)?;
        sides.push(Side {
            name,
            pair,
            churn,
            connections: 0,
            elapsed: Duration::ZERO,
            own_cpu_ns: 0,
            at_end: None,
            at_rest: None,
        });
    }
    let slices = parts(
        seconds(question.seconds),
        session.common().slice(question.at_once),
    );
    in_turn(sides.len(), &slices, |at, slice| sides[at].load(slice))?;
    let windows = sides.iter().filter_map(|side| side.window(round));
    Ok(windows.collect())
}

impl Side<'_> {
    fn load(&mut self, length: Duration) -> Result<()> {
        let own_before = ProcessBill::read(std::process::id())?;
        let meter = Meter::start(&self.pair.proxy, Some(&self.pair.backend))?;
        let (connections, elapsed) = self.churn.run(length).context(self.name)?;
        let at_end = meter.peek()?;
        let own = ProcessBill::read(std::process::id())?.since(own_before);
        // The last sessions close their descriptors after the clients have seen the end.
        std::thread::sleep(REST);
        add(&mut self.at_rest, meter.stop()?);
        add(&mut self.at_end, at_end);
        self.connections += connections;
        self.elapsed += elapsed;
        self.own_cpu_ns += own.cpu_ns;
        Ok(())
    }

    /// What the slices come to; nothing without any.
    fn window(&self, round: usize) -> Option<Churned> {
        let (at_end, at_rest) = (self.at_end?, self.at_rest?);
        let elapsed_ns = self.elapsed.as_nanos() as u64;
        let (count, length_ns) = (self.connections.max(1) as f64, elapsed_ns.max(1) as f64);
        let other_cores = at_end.other_cores(self.own_cpu_ns, elapsed_ns);
        let steal_share = at_end.machine.steal_share();
        Some(Churned {
            subject: self.name.to_owned(),
            round,
            connections: self.connections,
            seconds: self.elapsed.as_secs_f64(),
            connections_per_second: count * 1e9 / length_ns,
            proxy_cpu_ns: at_rest.server.cpu_ns as f64 / count,
            machine_cpu_ns: at_end.machine.busy_ns() as f64 / count,
            proxy_cores: at_rest.server.cpu_ns as f64 / length_ns,
            backend_cores: at_rest.backend_cpu_ns as f64 / length_ns,
            load_cores: self.own_cpu_ns as f64 / length_ns,
            other_cores,
            steal_share,
            doubts: doubts(steal_share, other_cores),
        })
    }
}

fn add(sum: &mut Option<Metered>, used: Metered) {
    match sum {
        None => *sum = Some(used),
        Some(sum) => sum.add(used),
    }
}

/// At most this many times the better anchor.
const GOAL: f64 = 0.9;
