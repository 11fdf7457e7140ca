//! How evenly do long connections fall on the loops? Read from the server's own count of live connections.
//!
//! Hashing cannot be even: what a perfect hash would give stands in the last row, simulated.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use polyloop_benches::load::{Pace, Stop, Window};
use polyloop_benches::report::Table;
use polyloop_benches::subject::Subject;
use polyloop_measure::stats::{Spread, hashed_imbalance, imbalance};

use crate::args::{Balance, Common};
use crate::session::{Session, polyloop_echo, rotated};

/// Answers whether the result has warnings.
pub(crate) fn run(common: Common, question: Balance) -> Result<bool> {
    let subjects = MODES
        .iter()
        .map(|(name, arguments, _)| {
            let arguments = format!("--loops {} {arguments}", question.loops);
            polyloop_echo(name, &common.polyloop, &arguments)
        })
        .collect::<Result<Vec<_>>>()?;
    let mut session = Session::begin("balance", common, question.clone())?;
    session.report.subjects.clone_from(&subjects);
    let mut ratios: Vec<Vec<f64>> = vec![Vec::new(); MODES.len()];
    for round in 0..session.common().rounds {
        for subject in rotated(&subjects, round) {
            let live = live_counts(&session, subject, question.connections)?;
            let ratio = imbalance(&live);
            eprintln!(
                "round {:>2}  {:<24} {live:?}  {ratio:.3}",
                round + 1,
                subject.name
            );
            session.report.facts.push(serde_json::json!({
                "subject": subject.name, "round": round, "live": live, "max_over_mean": ratio,
            }));
            session.report.write()?;
            let mode = MODES.iter().position(|(name, ..)| *name == subject.name);
            ratios[mode.context("a subject is one of the modes")?].push(ratio);
        }
    }
    print(&ratios, &question, session.common().seed);
    session.end()
}

/// Starts the server, opens the connections, and asks it where they are.
fn live_counts(
    session: &Session<Balance>,
    subject: &Subject,
    connections: usize,
) -> Result<Vec<usize>> {
    let admin = free_address()?;
    let mut subject = subject.clone();
    subject
        .arguments
        .extend(["--admin".to_owned(), admin.to_string()]);
    let server = subject.start()?;
    let mut load = session.open(&server, connections, &[None])?;
    // One answer on each connection: all have been accepted and adopted then.
    load.run(Window {
        pace: Pace::Closed,
        stop: Stop::Requests(connections as u64),
    })?;
    let start = Instant::now();
    let live = loop {
        let live = parse_live(&http_get(admin, "/loops")?)?;
        let total: usize = live.iter().sum();
        // The question itself may be counted as a connection.
        if (connections..=connections + 1).contains(&total) {
            break live;
        }
        ensure!(
            start.elapsed() < Duration::from_secs(5),
            "{}: the loops count {live:?}, which is not {connections} connections",
            subject.name
        );
        std::thread::sleep(Duration::from_millis(20));
    };
    drop(load);
    server.stop()?;
    Ok(live)
}

fn print(ratios: &[Vec<f64>], question: &Balance, seed: u64) {
    let mut table = Table::new(&[
        "max / mean of live connections",
        "median",
        "worst",
        "goal",
        "",
    ]);
    for ((name, _, goal), ratios) in MODES.iter().zip(ratios) {
        let Some(spread) = Spread::of(ratios) else {
            continue;
        };
        let worst = ratios.iter().copied().fold(0.0, f64::max);
        let verdict = |goal| if worst <= goal { "met" } else { "missed" };
        table.row(vec![
            (*name).to_owned(),
            format!("{:.3}", spread.median),
            format!("{worst:.3}"),
            goal.map_or(String::new(), |goal| format!("<= {goal}")),
            goal.map_or("", verdict).to_owned(),
        ]);
    }
    if question.connections > 0 && question.loops > 0 {
        let (median, high) = hashed_imbalance(question.connections, question.loops, seed);
        table.row(vec![
            "a perfect hash (worst: 95th percentile)".to_owned(),
            format!("{median:.3}"),
            format!("{high:.3}"),
        ]);
    }
    println!("\n{table}");
}

/// An address nobody listens on at the moment. Somebody may take it before the server does; the server says so then.
fn free_address() -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").context("no free port")?;
    Ok(listener.local_addr()?)
}

/// The body of the answer to one request.
fn http_get(addr: SocketAddr, path: &str) -> Result<String> {
    let mut stream = TcpStream::connect(addr)
        .with_context(|| format!("the admin address {addr} does not answer"))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n\r\n");
    // One write, so that a server that answers after its first read is not cut off.
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream
        .read_to_string(&mut answer)
        .with_context(|| format!("{path} of {addr}"))?;
    let (head, body) = answer.split_once("\r\n\r\n").context("no HTTP answer")?;
    let status = head.lines().next().unwrap_or_default();
    ensure!(status.contains(" 200"), "{path} of {addr}: {status}");
    Ok(body.to_owned())
}

/// The counts in `{"loops":[{"loop":0,"live":12}, …]}`, by loop.
fn parse_live(body: &str) -> Result<Vec<usize>> {
    let value: serde_json::Value = serde_json::from_str(body).context("/loops is no JSON")?;
    let loops = value["loops"]
        .as_array()
        .context("/loops has no array `loops`")?;
    loops
        .iter()
        .map(|entry| {
            let live = entry["live"]
                .as_u64()
                .context("a loop has no number `live`")?;
            Ok(usize::try_from(live)?)
        })
        .collect()
}

/// Name, flags, and the most that is wanted.
const MODES: [(&str, &str, Option<f64>); 5] = [
    ("reuseport", "--accept reuseport", None),
    (
        "reuseport, corrected",
        "--accept reuseport --correct-above 10%",
        None,
    ),
    (
        "acceptor, round-robin",
        "--accept acceptor --spread round-robin",
        None,
    ),
    ("acceptor, least", "--accept acceptor --spread least", None),
    (
        "acceptor, two-choices",
        "--accept acceptor --spread two-choices",
        Some(1.02),
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn live_counts_are_read_by_loop() {
        // Goal: other members do not matter and missing ones are told, by small documents.
        let body = r#"{"version":1,"loops":[{"loop":0,"live":3,"core":0},{"loop":1,"live":4}]}"#;
        assert_eq!(parse_live(body).unwrap(), [3, 4]);
        assert!(parse_live("{}").unwrap_err().to_string().contains("loops"));
        parse_live(r#"{"loops":[{"loop":0}]}"#).unwrap_err();
    }
}
