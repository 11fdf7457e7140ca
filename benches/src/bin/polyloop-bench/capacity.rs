//! What does a request cost a load generator? Beside wrk, which speaks HTTP, and beside the least that can drive an echo.
//!
//! All are closed loops on one thread and one core, against the same server on the other. What counts is the generator's own
//! processor time for each request, from its start to its end; the server only has to be quick enough for all alike.
//!
//! Goals: at most 1/1.3 of wrk's, at most that of the bare client.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use polyloop_load::result::RunResult;
use serde::Serialize;

use polyloop_benches::generator::{self, Spent, number_before};
use polyloop_benches::report::{Comparison, Table};
use polyloop_benches::subject::{Server, Subject};
use polyloop_measure::host;
use polyloop_measure::stats::{Ratio, Spread};

use crate::args::{Common, LoadCapacity};
use crate::session::{Session, polyloop_echo, rotated};

/// Who drives what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Driver {
    LoadEcho,
    BareEcho,
    LoadHttp,
    WrkHttp,
}

impl Driver {
    const fn name(self) -> &'static str {
        match self {
            Self::LoadEcho => "polyloop-load, echo",
            Self::BareEcho => "bare client, echo",
            Self::LoadHttp => "polyloop-load, HTTP",
            Self::WrkHttp => "wrk, HTTP",
        }
    }

    const fn is_http(self) -> bool {
        matches!(self, Self::LoadHttp | Self::WrkHttp)
    }
}

/// One run of one generator.
#[derive(Debug, Clone, Serialize)]
struct Driven {
    generator: &'static str,
    round: usize,
    requests: u64,
    seconds: f64,
    cpu_ns_per_request: f64,
    cores: f64,
}

/// Answers whether the result has warnings.
pub(crate) fn run(common: Common, question: LoadCapacity) -> Result<bool> {
    host::require_core(question.load_core)?;
    host::require_core(question.server_core)?;
    let mut drivers = vec![Driver::LoadEcho, Driver::BareEcho];
    let mut session = Session::begin("load-capacity", common, question.clone())?;
    if is_installed("wrk") {
        drivers.extend([Driver::LoadHttp, Driver::WrkHttp]);
    } else {
        let skipped = "wrk is not installed: there is nothing to compare with over HTTP";
        session.report.warnings.push(skipped.to_owned());
    }
    let core = question.server_core;
    let echo = polyloop_echo(
        "polyloop echo",
        &session.common().polyloop,
        &format!("--loops 1 --cores {core}"),
    )?;
    let http = Subject::anchor("bare HTTP", "bare-http", &format!("--core {core}"))?;
    let mut runs = Vec::new();
    for round in 0..session.common().rounds {
        for &driver in rotated(&drivers, round) {
            let subject = if driver.is_http() { &http } else { &echo };
            let server = subject.start()?;
            let run = drive(&session, &question, driver, &server, round)
                .with_context(|| format!("{}, round {}", driver.name(), round + 1))?;
            server.stop()?;
            eprintln!(
                "round {:>2}  {:<22} {:>8.0} ns/request  {:>7.0} requests/s  {:.2} cores",
                round + 1,
                run.generator,
                run.cpu_ns_per_request,
                run.requests as f64 / run.seconds,
                run.cores
            );
            session.report.facts.push(serde_json::to_value(&run)?);
            session.report.write()?;
            runs.push(run);
        }
    }
    conclude(session, &drivers, &runs)
}

fn drive(
    session: &Session<LoadCapacity>,
    question: &LoadCapacity,
    driver: Driver,
    server: &Server,
    round: usize,
) -> Result<Driven> {
    let (connections, seconds) = (question.connections, question.seconds);
    let addr = server.addr();
    let congestion = session.common().congestion().map(str::to_owned);
    let bytes = session.common().message_bytes;
    let load = |extra: String| {
        let congestion = congestion
            .as_ref()
            .map_or(String::new(), |name| format!("--congestion {name}"));
        format!(
            "{addr} --closed --connections {connections} --warm-up 0s --duration {seconds}s --loops 1 --live off \
             --format json {congestion} {extra}"
        )
    };
    let (program, arguments) = match driver {
        Driver::LoadEcho => (question.load.clone(), load(format!("--size {bytes}"))),
        Driver::LoadHttp => (question.load.clone(), load("--http /".to_owned())),
        Driver::WrkHttp => (
            PathBuf::from("wrk"),
            format!("-t1 -c{connections} -d{seconds}s http://{addr}/"),
        ),
        Driver::BareEcho => {
            let congestion = congestion
                .as_ref()
                .map_or(String::new(), |name| format!("--congestion {name}"));
            (
                Subject::anchor("bare client", "bare-client", "")?
                    .program()
                    .to_owned(),
                format!(
                    "{addr} --connections {connections} --seconds {seconds} --message-bytes {bytes} {congestion}"
                ),
            )
        }
    };
    let words: Vec<String> = arguments.split_whitespace().map(str::to_owned).collect();
    let spent = generator::run(&program, &words, Some(question.load_core))?;
    let requests = match driver {
        Driver::LoadEcho | Driver::LoadHttp => completed(&spent)?,
        Driver::BareEcho | Driver::WrkHttp => number_before(&spent.said, "requests")
            .with_context(|| format!("no requests in what it said: {}", spent.said))?,
    };
    Ok(Driven {
        generator: driver.name(),
        round,
        requests,
        seconds: spent.elapsed_ns as f64 / 1e9,
        cpu_ns_per_request: spent.cpu_ns as f64 / requests.max(1) as f64,
        cores: spent.cpu_ns as f64 / spent.elapsed_ns.max(1) as f64,
    })
}

/// Every request that it saw through, whatever the stage.
fn completed(spent: &Spent) -> Result<u64> {
    let run = RunResult::parse(&spent.said, "standard output".as_ref())?;
    Ok(run.stages.iter().map(|stage| stage.counts.completed).sum())
}

fn conclude(
    mut session: Session<LoadCapacity>,
    drivers: &[Driver],
    runs: &[Driven],
) -> Result<bool> {
    let values = |driver: Driver, of: fn(&Driven) -> f64| -> Vec<f64> {
        let mut of_driver: Vec<&Driven> = runs
            .iter()
            .filter(|run| run.generator == driver.name())
            .collect();
        of_driver.sort_by_key(|run| run.round);
        of_driver.into_iter().map(of).collect()
    };
    let mut table = Table::new(&["generator", "CPU ns/request", "requests/s", "cores"]);
    for &driver in drivers {
        let median = |of, digits: usize| {
            let spread = Spread::of(&values(driver, of));
            crate::session::number(spread.map(|spread| spread.median), digits)
        };
        table.row(vec![
            driver.name().to_owned(),
            median(|run| run.cpu_ns_per_request, 0),
            median(|run| run.requests as f64 / run.seconds, 0),
            median(|run| run.cores, 2),
        ]);
    }
    println!("\nmedians over the rounds\n\n{table}");
    for (ours, anchor, goal) in [
        (Driver::LoadHttp, Driver::WrkHttp, 1.0 / 1.3),
        (Driver::LoadEcho, Driver::BareEcho, 1.0),
    ] {
        let of = |run: &Driven| run.cpu_ns_per_request;
        let ratio = Ratio::of(
            &values(ours, of),
            &values(anchor, of),
            session.common().seed,
        );
        if let Some(ratio) = ratio {
            let name = format!(
                "generator CPU per request: {} / {}",
                ours.name(),
                anchor.name()
            );
            session
                .report
                .ratios
                .push(Comparison::new(name, ratio, Some(goal)));
        }
    }
    session.end()
}

fn is_installed(program: &str) -> bool {
    Command::new(program)
        .arg("-v")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok()
}
