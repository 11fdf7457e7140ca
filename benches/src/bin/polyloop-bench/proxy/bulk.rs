//! What does a gigabyte cost in a proxy? Streams as fast as they go, in one direction, by one and by several.
//!
//! Goals, processor time of the proxy per gigabyte: with splice (as polyloop comes) at most 0.45 times the better of
//! HAProxy and nginx, without splice at most 0.8 times. The anchors of both goals are HAProxy and nginx as they come,
//! which copy. HAProxy with `option splice-auto` is measured beside them and compared without a goal: mode for mode.
//!
//! `--source checked` (the default) checks every byte; `--source iperf3` lets iperf3 send and count, for those who want
//! a generator that is not ours.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;

use polyloop_benches::bulk::pour;
use polyloop_benches::load::Connect;
use polyloop_benches::measure::{Meter, doubts};
use polyloop_benches::proxy::{Proxy, free_address};
use polyloop_benches::report::Table;
use polyloop_benches::subject::{Ready, Subject};
use polyloop_measure::bill::ProcessBill;

use super::args::{Bulk, Source};
use super::{ANCHORS, Asked, Pair, Reading, Stage, compare_to_better, median_text};
use crate::args::Common;
use crate::idle::settle;
use crate::session::{Session, rotated};

/// One window of bulk.
#[derive(Debug, Clone, Serialize)]
struct Poured {
    subject: String,
    round: usize,
    streams: usize,
    bytes: u64,
    seconds: f64,
    gigabits_per_second: f64,
    proxy_cpu_ms_per_gigabyte: f64,
    machine_cpu_ms_per_gigabyte: f64,
    proxy_cores: f64,
    backend_cores: f64,
    other_cores: f64,
    steal_share: f64,
    doubts: Vec<String>,
}

/// Answers whether the result has warnings.
pub(crate) fn run(common: Common, question: Bulk) -> Result<bool> {
    ensure!(
        question.gigabytes > 0.0 && !question.streams.contains(&0),
        "--gigabytes and --streams have to be more than 0"
    );
    let backend = sink(&question)?;
    let mut session = Session::begin("proxy-bulk", common, question.clone())?;
    let sessions = question.streams.iter().copied().max().unwrap_or(0);
    let stage = Stage::set(
        &mut session,
        &question.subjects,
        backend,
        &question.seats,
        sessions,
    )?;
    let mut windows = Vec::new();
    for &streams in &question.streams {
        for round in 0..session.common().rounds {
            for proxy in rotated(&stage.proxies, round) {
                let window = measure_one(&session, &stage, proxy, round, streams)
                    .with_context(|| format!("{}, round {}", proxy.kind.name(), round + 1))?;
                eprintln!(
                    "round {:>2}  {:<14} {:>3} streams  {:>6.1} ms/GB  {:>5.1} Gbit/s  {}",
                    round + 1,
                    window.subject,
                    streams,
                    window.proxy_cpu_ms_per_gigabyte,
                    window.gigabits_per_second,
                    window.doubts.join(", ")
                );
                session.report.facts.push(serde_json::to_value(&window)?);
                session.report.write()?;
                windows.push(window);
            }
        }
    }
    conclude(session, &stage, &windows)
}

/// What stands behind the proxies.
fn sink(question: &Bulk) -> Result<Subject> {
    let core = question.seats.load_core;
    match question.source {
        Source::Checked => Subject::anchor("sink", "bulk-sink", &format!("--core {core}")),
        Source::Iperf3 => {
            let listen = free_address()?;
            let arguments = format!("--server --bind 127.0.0.1 --port {}", listen.port());
            let mut subject = Subject::new("iperf3", PathBuf::from("iperf3"), &arguments);
            subject.core = Some(core);
            subject.ready = Ready::Takes(listen);
            subject.ends_with = Some(1);
            Ok(subject)
        }
    }
}

fn measure_one(
    session: &Session<Bulk>,
    stage: &Stage,
    proxy: &Proxy,
    round: usize,
    streams: usize,
) -> Result<Poured> {
    let bytes = session.report.settings.question.gigabytes * 1e9;
    let mut pair = stage.start(proxy)?;
    // The same streams, shorter: buffers, pipes and windows are as large as they get.
    let warm = send(
        session,
        &pair,
        streams,
        (bytes * WARMUP_SHARE) as u64,
        Part::Warmup,
    );
    pair.explain(warm.context("before the window"))?;
    settle(&pair.proxy)?;
    let own_before = ProcessBill::read(std::process::id())?;
    let meter = Meter::start(&pair.proxy, Some(&pair.backend))?;
    let sent = send(session, &pair, streams, bytes as u64, Part::Window);
    let metered = meter.stop();
    let (sent, metered) = (pair.explain(sent)?, metered?);
    let own = ProcessBill::read(std::process::id())?.since(own_before);
    pair.stop()?;
    let elapsed_ns = sent.elapsed.as_nanos() as u64;
    let (gigabytes, length_ns) = (sent.bytes as f64 / 1e9, elapsed_ns.max(1) as f64);
    let other_cores = metered.other_cores(own.cpu_ns + sent.cpu_ns, elapsed_ns);
    let steal_share = metered.machine.steal_share();
    Ok(Poured {
        subject: proxy.kind.name().to_owned(),
        round,
        streams,
        bytes: sent.bytes,
        seconds: length_ns / 1e9,
        gigabits_per_second: gigabytes * 8e9 / length_ns,
        proxy_cpu_ms_per_gigabyte: metered.server.cpu_ns as f64 / 1e6 / gigabytes,
        machine_cpu_ms_per_gigabyte: metered.machine.busy_ns() as f64 / 1e6 / gigabytes,
        proxy_cores: metered.server.cpu_ns as f64 / length_ns,
        backend_cores: metered.backend_cpu_ns as f64 / length_ns,
        other_cores,
        steal_share,
        doubts: doubts(steal_share, other_cores),
    })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Warmup,
    Window,
}

struct Sent {
    bytes: u64,
    elapsed: Duration,
    /// Processor time of a generator that is not this process.
    cpu_ns: u64,
}

fn send(
    session: &Session<Bulk>,
    pair: &Pair,
    streams: usize,
    bytes: u64,
    part: Part,
) -> Result<Sent> {
    let question = &session.report.settings.question;
    if question.source == Source::Iperf3 {
        return send_by_iperf3(session, pair, streams, bytes, part);
    }
    let core = Some(question.seats.load_core);
    let each = bytes.div_ceil(streams as u64);
    let open: Connect = session.connect(&pair.proxy, streams);
    let elapsed = pour(open.open()?, each, core)?;
    Ok(Sent {
        bytes: each * streams as u64,
        elapsed,
        cpu_ns: 0,
    })
}

fn send_by_iperf3(
    session: &Session<Bulk>,
    pair: &Pair,
    streams: usize,
    bytes: u64,
    part: Part,
) -> Result<Sent> {
    let question = &session.report.settings.question;
    let each = bytes.div_ceil(streams as u64);
    let mut iperf3 = Command::new("iperf3");
    iperf3.args(["--json", "--client", "127.0.0.1", "--port"]);
    iperf3.arg(pair.proxy.addr().port().to_string());
    iperf3.args([
        "--parallel",
        &streams.to_string(),
        "--bytes",
        &bytes.to_string(),
    ]);
    iperf3.args(["--affinity", &question.seats.load_core.to_string()]);
    if let Some(congestion) = session.common().congestion() {
        iperf3.args(["--congestion", congestion]);
    }
    let said = ask_iperf3(&mut iperf3, part)?;
    let end = &said["end"];
    let figure = |of: &serde_json::Value| of.as_f64().context("a figure of iperf3 is missing");
    let received = figure(&end["sum_received"]["bytes"])?;
    let sent = figure(&end["sum_sent"]["bytes"])?;
    // The client stops the clock of the server while the last bytes are on their way.
    let on_the_way_max = (streams * ON_THE_WAY_BYTES_MAX) as f64;
    ensure!(
        received <= sent && sent - received <= on_the_way_max && sent >= each as f64,
        "iperf3 sent {sent} bytes and received {received}"
    );
    let elapsed_s = figure(&end["sum_received"]["seconds"])?;
    let busy_share = figure(&end["cpu_utilization_percent"]["host_total"])? / 1e2;
    Ok(Sent {
        bytes: received as u64,
        elapsed: Duration::from_secs_f64(elapsed_s),
        cpu_ns: (busy_share * elapsed_s * 1e9) as u64,
    })
}

/// Runs iperf3 and answers what it says. Its server takes one client at a time: it is busy until the end of the last one,
/// or of the connection that asked whether the proxy serves, has come through the proxy. It says so, or, while it waits
/// for the last one's first words, closes; before the window that is no fault of the proxy, within it it is one.
fn ask_iperf3(iperf3: &mut Command, part: Part) -> Result<serde_json::Value> {
    for _ in 0..BUSY_TRIES {
        let output = iperf3.output().context("iperf3 is not there")?;
        let said: serde_json::Value =
            serde_json::from_slice(&output.stdout).context("iperf3 says no JSON")?;
        match said["error"].as_str() {
            None if output.status.success() => return Ok(said),
            Some(error) if error.contains("busy") => std::thread::sleep(BUSY_PAUSE),
            Some(error) if part == Part::Warmup && error.contains("control") => {
                std::thread::sleep(BUSY_PAUSE);
            }
            error => bail!(
                "iperf3: {}: {}",
                output.status,
                error.unwrap_or("no reason")
            ),
        }
    }
    bail!("the server of iperf3 stays busy")
}

fn conclude(mut session: Session<Bulk>, stage: &Stage, windows: &[Poured]) -> Result<bool> {
    let readings = |of: fn(&Poured) -> f64| -> Vec<Reading> {
        let reading = |window: &Poured| Reading {
            subject: window.subject.clone(),
            round: window.round,
            at: window.streams,
            value: of(window),
        };
        windows.iter().map(reading).collect()
    };
    let cpu = readings(|window| window.proxy_cpu_ms_per_gigabyte);
    let streams = session.report.settings.question.streams.clone();
    for &at in &streams {
        let comparisons: [(&str, &[&str], Option<f64>); 4] = [
            ("polyloop", &ANCHORS, Some(GOAL_SPLICE)),
            ("polyloop", &["haproxy-splice"], None),
            ("polyloop-copy", &ANCHORS, Some(GOAL_COPY)),
            ("polyloop", &["polyloop-copy"], None),
        ];
        for (ours, anchors, goal) in comparisons {
            let what = "proxy CPU per GB, streams";
            let asked = Asked {
                what,
                ours,
                anchors,
                at,
                goal,
            };
            compare_to_better(&mut session, &cpu, asked);
        }
    }
    let mut table = Table::new(&[
        "proxy",
        "streams",
        "CPU ms/GB",
        "machine ms/GB",
        "proxy cores",
        "Gbit/s",
    ]);
    for &at in &streams {
        for proxy in &stage.proxies {
            let median = |of, digits| median_text(&readings(of), proxy.kind.name(), at, digits);
            table.row(vec![
                proxy.kind.name().to_owned(),
                at.to_string(),
                median(|window| window.proxy_cpu_ms_per_gigabyte, 1),
                median(|window| window.machine_cpu_ms_per_gigabyte, 1),
                median(|window| window.proxy_cores, 2),
                median(|window| window.gigabits_per_second, 1),
            ]);
        }
    }
    println!("\nmedians over the rounds\n\n{table}");
    session.warn_of_doubts(windows.iter().map(|window| window.doubts.as_slice()));
    session.end()
}

/// At most this many times the better anchor, as polyloop comes, and without splice.
const GOAL_SPLICE: f64 = 0.45;
const GOAL_COPY: f64 = 0.8;

/// Sent before the window, as a share of it.
const WARMUP_SHARE: f64 = 0.1;

/// What the buffers of both sides of a proxy hold at most, by the kernel's defaults for one stream.
const ON_THE_WAY_BYTES_MAX: usize = 32 << 20;

const BUSY_TRIES: usize = 20;

const BUSY_PAUSE: Duration = Duration::from_millis(50);
