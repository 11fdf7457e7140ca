//! What does a proxy add to a latency, at half load? Requests by a plan, counted from their planned moments, with and
//! without a proxy on the way.
//!
//! Goals: p50 and p99.9 added by polyloop not above those added by the better of HAProxy and nginx.
//!
//! Half load is one rate for all: half of what the slowest proxy carries in a closed loop with the same sessions,
//! measured before the rounds, so that none is pushed beyond its half. Messages by a plan come one by one and cost the
//! clients more than in a closed loop; where half load would fill the core of the clients, the rate is lowered until it
//! does not, with a warning, as the queue before that core would hide what a proxy adds. What is *added* is the quantile with the proxy
//! less the quantile without it, of the same round. Quantiles do not add up as times do; the difference is what an
//! operator sees who puts a proxy in.

use std::time::Duration;

use anyhow::{Result, ensure};

use polyloop_benches::load::{Load, Pace, Stop, Window};
use polyloop_benches::measure::{self, Cell, Place};
use polyloop_benches::proxy::Proxy;
use polyloop_benches::report::Table;
use polyloop_benches::subject::Server;
use polyloop_benches::turns::Side;

use super::args::Latency;
use super::{
    ANCHORS, Asked, Pair, Reading, Stage, compare_to_better, echo_behind, median_text,
    readings_of_cells, values,
};
use crate::args::{Common, seconds};
use crate::session::{Session, or_nan};

/// Answers whether the result has warnings.
pub(crate) fn run(common: Common, question: Latency) -> Result<bool> {
    let backend = echo_behind(&question.seats)?;
    let mut session = Session::begin("proxy-latency", common, question.clone())?;
    let at = question.connections;
    let stage = Stage::set(
        &mut session,
        &question.subjects,
        backend,
        &question.seats,
        at,
    )?;
    let rate = match question.rate {
        Some(rate) => rate,
        None => {
            let half = half_load(&mut session, &stage)?;
            bearable(&mut session, &stage, half)?
        }
    };
    ensure!(rate > 0.0, "--rate {rate} sends nothing");
    for round in 0..session.common().rounds {
        for cell in measure_round(&session, &stage, round, rate)? {
            session.add_cell(cell)?;
        }
    }
    println!("offered: {rate:.0} requests per second over {at} sessions");
    conclude(session, &stage, rate)
}

/// Half of what the slowest carries.
fn half_load(session: &mut Session<Latency>, stage: &Stage) -> Result<f64> {
    let mut slowest = f64::INFINITY;
    for proxy in &stage.proxies {
        let pair = stage.start(proxy)?;
        let mut load = open(session, &pair.proxy)?;
        load.run(Window::closed(session.common().warmup()))?;
        let sample = load.run(Window::closed(seconds(CALIBRATION_SECONDS)))?;
        drop(load);
        pair.stop()?;
        let rate = sample.requests as f64 * 1e9 / sample.elapsed_ns.max(1) as f64;
        eprintln!(
            "{} carries {rate:.0} requests/s in a closed loop",
            proxy.kind.name()
        );
        session.report.facts.push(serde_json::json!({
            "proxy": proxy.kind.name(), "closed_loop_requests_per_second": rate,
        }));
        slowest = slowest.min(rate);
    }
    Ok(slowest / 2.0)
}

/// The rate, lowered until the core of the clients and the server behind has time to spare without a proxy.
fn bearable(session: &mut Session<Latency>, stage: &Stage, half: f64) -> Result<f64> {
    let mut rate = half;
    for _ in 0..RATES_MAX {
        let cell = measure_direct(session, stage, 0, rate, seconds(CALIBRATION_SECONDS))?;
        let busy = cell.load_cores + cell.server_cores;
        if busy <= LOAD_CORE_BUSY_MAX {
            break;
        }
        // What a request costs depends on the rate, so this comes near, and is tried again.
        rate *= (LOAD_CORE_BUSY_MAX / busy).min(0.95);
    }
    if rate < half {
        session.report.warnings.push(format!(
            "half load would be {half:.0} requests/s, which the core of the clients cannot bear; {rate:.0} were offered"
        ));
    }
    Ok(rate)
}

fn open(session: &Session<Latency>, server: &Server) -> Result<Load> {
    let question = &session.report.settings.question;
    session.open(
        server,
        question.connections,
        &[Some(question.seats.load_core)],
    )
}

/// The way without a proxy is one more subject of each round.
fn measure_round(
    session: &Session<Latency>,
    stage: &Stage,
    round: usize,
    rate: f64,
) -> Result<Vec<Cell>> {
    let direct = stage.start_backend()?;
    let cells = stage.with_all(round, |pairs| {
        load_them(session, &direct, pairs, round, rate)
    })?;
    direct.stop()?;
    Ok(cells)
}

fn load_them(
    session: &Session<Latency>,
    direct: &Server,
    pairs: &[(&Proxy, Pair)],
    round: usize,
    rate: f64,
) -> Result<Vec<Cell>> {
    let mut sides = vec![Side {
        subject: DIRECT,
        server: direct,
        backend: None,
        load: open(session, direct)?,
    }];
    for (proxy, pair) in pairs {
        sides.push(Side {
            subject: proxy.kind.name(),
            server: &pair.proxy,
            backend: Some(&pair.backend),
            load: open(session, &pair.proxy)?,
        });
    }
    let question = &session.report.settings.question;
    let slice = session.common().slice(question.connections).max(SLICE_MIN);
    let window = planned(rate, seconds(question.seconds));
    session.take_turns(&mut sides, window, slice, round)
}

/// A window without a proxy: the server is what otherwise stands behind.
fn measure_direct(
    session: &Session<Latency>,
    stage: &Stage,
    round: usize,
    rate: f64,
    length: Duration,
) -> Result<Cell> {
    let server = stage.start_backend()?;
    let mut load = open(session, &server)?;
    load.run(planned(rate, session.common().warmup()))?;
    let place = Place {
        subject: DIRECT,
        round,
        connections: session.report.settings.question.connections,
    };
    let cell = measure::window(&server, None, &mut load, planned(rate, length), place)?;
    drop(load);
    server.stop()?;
    Ok(cell)
}

fn planned(rate: f64, length: Duration) -> Window {
    Window {
        pace: Pace::Rate(rate),
        stop: Stop::After(length),
    }
}

fn conclude(mut session: Session<Latency>, stage: &Stage, rate: f64) -> Result<bool> {
    type Of = fn(&Cell) -> Option<f64>;
    let at = session.report.settings.question.connections;
    let quantiles: [(&str, Of, Option<f64>); 3] = [
        ("p50 added", |cell| cell.latency.p50_us, Some(GOAL)),
        ("p99 added", |cell| cell.latency.p99_us, None),
        ("p99.9 added", |cell| cell.latency.p999_us, Some(GOAL)),
    ];
    let mut table = Table::new(&["proxy", "p50 added us", "p99 added us", "p99.9 added us"]);
    let mut columns = Vec::new();
    for (what, of, goal) in quantiles {
        let readings = added(&readings_of_cells(&session, |cell| or_nan(of(cell))), at);
        let asked = Asked {
            what,
            ours: "polyloop",
            anchors: &ANCHORS,
            at,
            goal,
        };
        compare_to_better(&mut session, &readings, asked);
        columns.push(readings);
    }
    for proxy in &stage.proxies {
        let mut row = vec![proxy.kind.name().to_owned()];
        let texts = columns
            .iter()
            .map(|readings| median_text(readings, proxy.kind.name(), at, 1));
        row.extend(texts);
        table.row(row);
    }
    let enough = |cell: &Cell| cell.latency.p999_us.is_some();
    if !session.report.cells.iter().all(enough) {
        let warning = format!(
            "too few requests for p99.9: at {rate:.0} requests/s, --seconds should be {:.0} or more",
            (1e5 / rate).ceil()
        );
        session.report.warnings.push(warning);
    }
    session.print_medians();
    println!("\nmedians over the rounds of what was added to the way without a proxy\n\n{table}");
    session.end()
}

/// Each reading less that of the same round without a proxy.
fn added(readings: &[Reading], at: usize) -> Vec<Reading> {
    let direct = values(readings, DIRECT, at);
    let proxied = readings.iter().filter(|reading| reading.subject != DIRECT);
    proxied
        .map(|reading| Reading {
            value: reading.value - direct.get(reading.round).copied().unwrap_or(f64::NAN),
            ..reading.clone()
        })
        .collect()
}

/// Beyond this share of its core the clients wait for themselves.
const LOAD_CORE_BUSY_MAX: f64 = 0.7;

/// Each one comes nearer; after these the rate is what it is.
const RATES_MAX: usize = 6;

/// The way without a proxy.
const DIRECT: &str = "direct";

const GOAL: f64 = 1.0;

/// The first requests after a rest find cold caches: of a slice they are to be less than one in a thousand.
const SLICE_MIN: Duration = Duration::from_secs(1);

const CALIBRATION_SECONDS: f64 = 1.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_added_is_counted_within_a_round() {
        // Goal: a drift of the machine cancels, by two rounds of which the second is slower for everybody.
        let reading = |subject: &str, round, value| Reading {
            subject: subject.to_owned(),
            round,
            at: 1,
            value,
        };
        let readings = [
            reading(DIRECT, 0, 10.0),
            reading("nginx", 0, 15.0),
            reading("nginx", 1, 105.0),
            reading(DIRECT, 1, 100.0),
        ];
        assert_eq!(values(&added(&readings, 1), "nginx", 1), [5.0, 5.0]);
    }
}
