//! What the questions about the proxy share: who is there, a stage for each, and the comparison with the better anchor.
//!
//! The one idea: a goal is a ratio to the *better* of HAProxy and nginx, so which one that is follows from the run: the
//! one with the lower median over all rounds. Ratios are still taken within a round. Choosing the lower of two in each
//! round would set our measurement against their luck.
//!
//! ```text
//!      core 1                core 0              core 1
//!   clients (this process) ── proxy ── server behind it (a process of its own)
//! ```
//!
//! Each process has its own limit of descriptors: with 20,000, a proxy holds 8,000 sessions (16,000 sockets), and the
//! clients and the server behind hold 8,000 each.
//!
//! An anchor that is not installed is left out with a message and a warning in the result; its goals cannot be judged
//! then. Polyloop itself has to be there.

pub(crate) mod args;
pub(crate) mod bulk;
pub(crate) mod connect;
pub(crate) mod cost;
pub(crate) mod latency;
pub(crate) mod memory;
pub(crate) mod never_readers;

use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;

use polyloop_benches::measure::Cell;
use polyloop_benches::proxy::{Post, Proxy};
use polyloop_benches::report::Comparison;
use polyloop_benches::subject::{Server, Subject};
use polyloop_measure::host::{self, Scratch};
use polyloop_measure::stats::{Ratio, Spread};

use crate::session::{Session, number, rotated};
use args::{Seats, Way};

/// Proxies, and what they stand before.
pub(crate) struct Stage {
    pub(crate) proxies: Vec<Proxy>,
    backend: Subject,
    seats: Seats,
    sessions_max: usize,
    scratch: Scratch,
}

/// A proxy that serves, with the server behind it.
pub(crate) struct Pair {
    pub(crate) proxy: Server,
    pub(crate) backend: Server,
}

impl Stage {
    /// Looks for the proxies, and notes in the result what they are and how they will be told what to do.
    pub(crate) fn set<Q: Serialize>(
        session: &mut Session<Q>,
        ways: &[Way],
        backend: Subject,
        seats: &Seats,
        sessions: usize,
    ) -> Result<Self> {
        host::require_core(seats.proxy_core)?;
        host::require_core(seats.load_core)?;
        let mut proxies: Vec<Proxy> = Vec::new();
        for way in ways {
            let kind = way.kind();
            if proxies.iter().any(|proxy| proxy.kind == kind) {
                continue; // named twice
            }
            match Proxy::find(kind, &session.common().polyloop) {
                Ok(proxy) => proxies.push(proxy),
                Err(error) if kind.is_ours() => {
                    return Err(error.context(
                        "build it with `cargo build --release`, or name it with --polyloop",
                    ));
                }
                Err(error) => {
                    let warning = format!("{} is left out: {error:#}", kind.name());
                    eprintln!("{warning}");
                    session.report.warnings.push(warning);
                }
            }
        }
        ensure!(!proxies.is_empty(), "there is no proxy to measure");
        let stage = Self {
            proxies,
            backend,
            seats: seats.clone(),
            // Room for the connection that asks whether a proxy serves, and for those that are closing.
            sessions_max: sessions + SESSIONS_SPARE,
            scratch: Scratch::new()?,
        };
        stage.note(session)?;
        Ok(stage)
    }

    fn note<Q: Serialize>(&self, session: &mut Session<Q>) -> Result<()> {
        session.report.subjects = vec![self.backend.clone()];
        let nowhere = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
        for proxy in &self.proxies {
            session.report.facts.push(serde_json::json!({
                "proxy": proxy.kind.name(),
                "version": proxy.version,
                "told": proxy.told(self.post(nowhere)),
            }));
        }
        session.report.write()
    }

    /// Starts the server behind and the proxy before it.
    pub(crate) fn start(&self, proxy: &Proxy) -> Result<Pair> {
        let backend = self.backend.start()?;
        let proxy = proxy
            .start(self.post(backend.addr()))
            .with_context(|| proxy.kind.name())?;
        Ok(Pair { proxy, backend })
    }

    /// Starts all of them, in the order of this round, for `measure`, and ends them after it. An error names those that have ended.
    pub(crate) fn with_all<T>(
        &self,
        round: usize,
        measure: impl FnOnce(&[(&Proxy, Pair)]) -> Result<T>,
    ) -> Result<T> {
        let mut pairs: Vec<(&Proxy, Pair)> = rotated(&self.proxies, round)
            .map(|proxy| Ok((proxy, self.start(proxy)?)))
            .collect::<Result<_>>()?;
        let mut measured = measure(&pairs);
        for (_, pair) in &mut pairs {
            measured = pair.explain(measured);
        }
        let measured = measured?;
        for (_, pair) in pairs {
            pair.stop()?;
        }
        Ok(measured)
    }

    /// Starts the server behind alone.
    pub(crate) fn start_backend(&self) -> Result<Server> {
        self.backend.start()
    }

    fn post(&self, backend: std::net::SocketAddr) -> Post<'_> {
        Post {
            scratch: &self.scratch,
            backend,
            core: self.seats.proxy_core,
            sessions_max: self.sessions_max,
        }
    }
}

impl Pair {
    /// What went wrong, and whether it is because one of the two has ended.
    pub(crate) fn explain<T>(&mut self, outcome: Result<T>) -> Result<T> {
        outcome.map_err(|error| {
            let both = [&mut self.backend, &mut self.proxy];
            let ended = both
                .into_iter()
                .find_map(|server| server.require_alive().err());
            match ended {
                Some(ended) => error.context(format!("{ended:#}")),
                None => error,
            }
        })
    }

    /// Ends both; one that ended before, or ends badly, is an error.
    pub(crate) fn stop(self) -> Result<()> {
        self.proxy.stop()?;
        self.backend.stop()
    }
}

/// One figure of one round.
#[derive(Debug, Clone)]
pub(crate) struct Reading {
    pub(crate) subject: String,
    pub(crate) round: usize,
    /// Connections or streams.
    pub(crate) at: usize,
    pub(crate) value: f64,
}

/// What is asked of a figure.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked<'a> {
    /// What the figure is.
    pub(crate) what: &'a str,
    /// Which of ours.
    pub(crate) ours: &'a str,
    /// The anchors, the better of which is meant.
    pub(crate) anchors: &'a [&'a str],
    pub(crate) at: usize,
    /// At most this times the better anchor.
    pub(crate) goal: Option<f64>,
}

/// Sets ours against each anchor, round by round, and the goal against the better one.
pub(crate) fn compare_to_better<Q: Serialize>(
    session: &mut Session<Q>,
    readings: &[Reading],
    asked: Asked<'_>,
) {
    let ours = values(readings, asked.ours, asked.at);
    let Some(better) = better(readings, asked.anchors, asked.at) else {
        return;
    };
    let seed = session.common().seed;
    for &anchor in asked.anchors {
        let theirs = values(readings, anchor, asked.at);
        if theirs.len() != ours.len() {
            continue;
        }
        let Some(ratio) = Ratio::of(&ours, &theirs, seed) else {
            continue;
        };
        let is_better = anchor == better;
        let mut name = format!("{}, {}: {} / {anchor}", asked.what, asked.at, asked.ours);
        if is_better && asked.anchors.len() > 1 {
            name += " (the better)";
        }
        let goal = asked.goal.filter(|_| is_better);
        session
            .report
            .ratios
            .push(Comparison::new(name, ratio, goal));
    }
    let missing = asked
        .anchors
        .iter()
        .any(|&anchor| values(readings, anchor, asked.at).is_empty());
    if missing && asked.goal.is_some() {
        session.report.warnings.push(format!(
            "{}, {}: the goal is about the better of {}, and not all were measured",
            asked.what,
            asked.at,
            asked.anchors.join(" and ")
        ));
    }
}

/// One figure of each window of load.
pub(crate) fn readings_of_cells<Q: Serialize>(
    session: &Session<Q>,
    of: impl Fn(&Cell) -> f64,
) -> Vec<Reading> {
    let reading = |cell: &Cell| Reading {
        subject: cell.subject.clone(),
        round: cell.round,
        at: cell.connections,
        value: of(cell),
    };
    session.report.cells.iter().map(reading).collect()
}

/// The anchor with the lowest median.
fn better<'a>(readings: &[Reading], anchors: &[&'a str], at: usize) -> Option<&'a str> {
    let median =
        |anchor: &str| Spread::of(&values(readings, anchor, at)).map(|spread| spread.median);
    let known = anchors
        .iter()
        .filter_map(|&anchor| Some((anchor, median(anchor)?)));
    known
        .min_by(|(_, left), (_, right)| left.total_cmp(right))
        .map(|(anchor, _)| anchor)
}

/// Values of one subject in the order of the rounds.
pub(crate) fn values(readings: &[Reading], subject: &str, at: usize) -> Vec<f64> {
    let mut chosen: Vec<&Reading> = readings
        .iter()
        .filter(|reading| reading.subject == subject && reading.at == at)
        .collect();
    chosen.sort_by_key(|reading| reading.round);
    chosen.into_iter().map(|reading| reading.value).collect()
}

/// The median over the rounds, as printed.
pub(crate) fn median_text(readings: &[Reading], subject: &str, at: usize, digits: usize) -> String {
    let spread = Spread::of(&values(readings, subject, at));
    number(spread.map(|spread| spread.median), digits)
}

/// The bare echo on the core of the load.
pub(crate) fn echo_behind(seats: &Seats) -> Result<Subject> {
    Subject::anchor(
        "backend",
        "bare-mio",
        &format!("--core {}", seats.load_core),
    )
}

/// Waits until the server behind holds `count` sessions: a proxy answers a client before it has reached anybody.
pub(crate) fn wait_for_sessions(backend: &Server, open_before: usize, count: usize) -> Result<()> {
    let start = std::time::Instant::now();
    loop {
        let open = open_files(backend)?.saturating_sub(open_before);
        if open >= count {
            return Ok(());
        }
        if start.elapsed() > SESSIONS_PATIENCE {
            bail!("only {open} of {count} sessions reached the server behind the proxy");
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

/// Descriptors of a server.
pub(crate) fn open_files(server: &Server) -> Result<usize> {
    let path = format!("/proc/{}/fd", server.pid());
    Ok(std::fs::read_dir(&path)
        .with_context(|| path.clone())?
        .count())
}

/// The anchors of most goals.
pub(crate) const ANCHORS: [&str; 2] = ["haproxy", "nginx"];

const SESSIONS_SPARE: usize = 200;

const SESSIONS_PATIENCE: std::time::Duration = std::time::Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(subject: &str, round: usize, value: f64) -> Reading {
        Reading {
            subject: subject.to_owned(),
            round,
            at: 64,
            value,
        }
    }

    #[test]
    fn the_better_anchor_is_better_in_the_median() {
        // Goal: one lucky round makes no anchor the better one, and one that is missing takes no part; by hand.
        let readings = [
            reading("haproxy", 1, 5.0),
            reading("haproxy", 0, 5.0),
            reading("haproxy", 2, 5.0),
            reading("nginx", 0, 1.0),
            reading("nginx", 1, 6.0),
            reading("nginx", 2, 6.0),
        ];
        assert_eq!(better(&readings, &ANCHORS, 64), Some("haproxy"));
        assert_eq!(better(&readings, &["nginx", "absent"], 64), Some("nginx"));
        assert_eq!(better(&readings, &ANCHORS, 65), None);
        assert_eq!(values(&readings, "nginx", 64), [1.0, 6.0, 6.0]);
    }
}
