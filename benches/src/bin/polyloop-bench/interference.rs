//! Does trouble on one connection reach the others? Two questions of one shape.
//!
//! Some connections are probed by a plan, their latency counted from the planned moment; one more connection makes
//! trouble. Each round measures the probes with and without it, and divides.
//!
//! The servers are examples made for this. Messages have a fixed size and their first byte is a command; the answer has
//! the same size and the same first byte:
//!
//! | command | the server |
//! |---|---|
//! | `L` | puts the number of the connection's loop, as a byte, into byte 1 of the answer |
//! | `B` | blocks the connection's loop for 200 ms, then answers |
//! | `H` | hashes a large buffer on an offload pool, then answers |
//! | `h` | hashes the same buffer in the handler, then answers |
//! | any other | echoes |

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;

use polyloop_benches::load::{Load, Pace, Stop, Window, fill};
use polyloop_benches::measure::{self, Cell, Place};
use polyloop_benches::subject::{Server, Subject};
use polyloop_measure::host;

use crate::args::{Common, Offload, Probe, Stall, seconds};
use crate::session::{Session, or_nan, rotated};

/// A way to run a round: its name, and the command that makes trouble.
type Variant = (&'static str, Option<u8>);

/// Where probes and trouble have to be.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Seats {
    /// Anywhere; the server has one loop.
    Any,
    /// The probes on loop 1, the trouble on loop 0.
    Apart,
}

/// Answers whether the result has warnings.
pub(crate) fn run_stall(common: Common, question: Stall) -> Result<bool> {
    let arguments = format!(
        "--listen 127.0.0.1:0 --loops 2 --cores {}",
        question.server_cores
    );
    let server = example("stall_echo", &question.server, &arguments)?;
    let probe = question.probe.clone();
    let mut session = Session::begin("stall", common, question)?;
    let variants = [("quiet", None), ("blocked", Some(b'B'))];
    measure_variants(&mut session, &server, &probe, Seats::Apart, &variants)?;
    let pair = ("blocked", "quiet");
    let p999 = |cell: &Cell| or_nan(cell.latency.p999_us);
    session.compare("p99.9", pair, probe.connections, p999, Some(1.2));
    session.compare("p99", pair, probe.connections, p99, None);
    finish(session)
}

/// Answers whether the result has warnings.
pub(crate) fn run_offload(common: Common, question: Offload) -> Result<bool> {
    let arguments = format!(
        "--listen 127.0.0.1:0 --loops 1 --cores {}",
        question.server_cores
    );
    let server = example("offload_hash", &question.server, &arguments)?;
    let probe = question.probe.clone();
    let mut session = Session::begin("offload", common, question)?;
    let variants = [
        ("quiet", None),
        ("offloaded", Some(b'H')),
        ("inline", Some(b'h')),
    ];
    measure_variants(&mut session, &server, &probe, Seats::Any, &variants)?;
    session.compare(
        "p99",
        ("offloaded", "quiet"),
        probe.connections,
        p99,
        Some(1.2),
    );
    session.compare("p99", ("inline", "quiet"), probe.connections, p99, None);
    finish(session)
}

fn p99(cell: &Cell) -> f64 {
    or_nan(cell.latency.p99_us)
}

fn finish<Q: Serialize>(mut session: Session<Q>) -> Result<bool> {
    if session
        .report
        .cells
        .iter()
        .any(|cell| cell.latency.p999_us.is_none())
    {
        let warning =
            "too few requests for p99.9: --rate times --seconds should be 100,000 or more";
        session.report.warnings.push(warning.to_owned());
    }
    session.print_medians();
    session.end()
}

fn example(name: &str, program: &Path, arguments: &str) -> Result<Subject> {
    ensure!(
        program.is_file(),
        "{} is not there; build it with `cargo build --release -p polyloop --examples`",
        program.display()
    );
    Ok(Subject::new(name, program.to_owned(), arguments))
}

fn measure_variants<Q: Serialize>(
    session: &mut Session<Q>,
    subject: &Subject,
    probe: &Probe,
    seats: Seats,
    variants: &[Variant],
) -> Result<()> {
    host::require_core(probe.load_core)?;
    session.report.subjects = vec![subject.clone()];
    for round in 0..session.common().rounds {
        for &variant in rotated(variants, round) {
            let server = subject.start()?;
            measure_one(session, &server, probe, seats, variant, round)?;
            server.stop()?;
        }
    }
    Ok(())
}

fn measure_one<Q: Serialize>(
    session: &mut Session<Q>,
    server: &Server,
    probe: &Probe,
    seats: Seats,
    (name, command): Variant,
    round: usize,
) -> Result<()> {
    let (trouble, probes) = take_seats(session, server, probe.connections, seats)?;
    let message_bytes = session.common().message_bytes;
    let mut load = Load::new(probes, message_bytes, &[Some(probe.load_core)])?;
    load.run(Window::closed(session.common().warmup()))?;
    let window = Window {
        pace: Pace::Rate(probe.rate),
        stop: Stop::After(seconds(probe.seconds)),
    };
    let place = Place {
        subject: name,
        round,
        connections: probe.connections,
    };
    let Some(command) = command else {
        let cell = measure::window(server, None, &mut load, window, place)?;
        return session.add_cell(cell);
    };
    let over = AtomicBool::new(false);
    let pause = Duration::from_millis(probe.pause_ms);
    let (cell, took) = thread::scope(|scope| {
        let over = &over;
        let maker = scope.spawn(move || make_trouble(trouble, message_bytes, command, pause, over));
        let cell = measure::window(server, None, &mut load, window, place);
        over.store(true, Ordering::Relaxed);
        let took = maker.join();
        (cell, took)
    });
    let Ok(took) = took else {
        bail!("the troublemaker panicked");
    };
    let took = took?;
    session.report.facts.push(serde_json::json!({
        "subject": name, "round": round, "trouble_ms": took,
    }));
    session.add_cell(cell?)
}

/// Opens one connection for trouble and the probes, each on its loop.
fn take_seats<Q: Serialize>(
    session: &Session<Q>,
    server: &Server,
    count: usize,
    seats: Seats,
) -> Result<(TcpStream, Vec<TcpStream>)> {
    let open = |count| session.connect(server, count).open();
    if seats == Seats::Any {
        let mut streams = open(count + 1)?;
        let trouble = streams.pop().context("one more was opened")?;
        return Ok((trouble, streams));
    }
    let mut trouble = None;
    let mut probes = Vec::with_capacity(count);
    // Half of them land on each loop under any fair spreading; ten times as many leave no doubt.
    for stream in open(1)?.into_iter().chain(open(10 * count + 20)?) {
        let answer = ask(&stream, session.common().message_bytes, b'L', 0)?;
        match answer.get(1) {
            Some(0) if trouble.is_none() => trouble = Some(stream),
            Some(1) if probes.len() < count => probes.push(stream),
            Some(0 | 1) => {}
            other => bail!("the answer to `L` names loop {other:?} of two"),
        }
    }
    ensure!(
        probes.len() == count,
        "loop 1 got only {} connections",
        probes.len()
    );
    Ok((trouble.context("loop 0 got no connection")?, probes))
}

/// Sends `command` again and again until it is over. Answers how long each took, in milliseconds.
fn make_trouble(
    stream: TcpStream,
    message_bytes: usize,
    command: u8,
    pause: Duration,
    over: &AtomicBool,
) -> Result<Vec<f64>> {
    let mut took = Vec::new();
    while !over.load(Ordering::Relaxed) {
        let start = Instant::now();
        ask(&stream, message_bytes, command, took.len() as u64)?;
        took.push(start.elapsed().as_secs_f64() * 1e3);
        thread::sleep(pause);
    }
    Ok(took)
}

/// Sends one message and waits for its answer.
fn ask(mut stream: &TcpStream, bytes: usize, command: u8, sequence: u64) -> Result<Vec<u8>> {
    let mut message = vec![0; bytes];
    fill(&mut message, command, u32::MAX, sequence);
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    stream.write_all(&message)?;
    stream
        .read_exact(&mut message)
        .context("no answer to a command")?;
    ensure!(
        message[0] == command,
        "the answer to a command begins otherwise"
    );
    Ok(message)
}
