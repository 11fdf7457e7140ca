//! What all questions share: subjects, interleaved rounds, the summary and the end.
//!
//! The one idea: a round starts each subject afresh, in an order that rotates from round to round, and then loads them in short
//! turns, so that neither the luck of one process's memory layout nor the place in the round nor the hour belongs to a subject.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde::Serialize;

use polyloop_benches::load::{Connect, Load, Stop, Window};
use polyloop_benches::measure::Cell;
use polyloop_benches::report::{Comparison, Report, Table};
use polyloop_benches::subject::{Server, Subject};
use polyloop_benches::turns::{self, Side, Turns};
use polyloop_measure::host::{self, Congestion};
use polyloop_measure::stats::{Ratio, Spread};

use crate::args::{Common, Kind};

/// Settings of a result file: what all questions share, and the question's own.
#[derive(Debug, Serialize)]
pub(crate) struct Settings<Q> {
    #[serde(flatten)]
    pub(crate) common: Common,
    #[serde(flatten)]
    pub(crate) question: Q,
}

/// One run of one question.
pub(crate) struct Session<Q: Serialize> {
    pub(crate) report: Report<Settings<Q>>,
    congestion: Congestion,
}

impl<Q: Serialize> Session<Q> {
    pub(crate) fn begin(name: &'static str, common: Common, question: Q) -> Result<Self> {
        ensure!(common.rounds > 0, "--rounds 0 measures nothing");
        ensure!(common.message_bytes > 0, "--message-bytes 0 sends nothing");
        let out = common.out.clone();
        let wanted = common.congestion().map(str::to_owned);
        let mut report = Report::new(name, &out, Settings { common, question })?;
        let congestion = Congestion::set(wanted.as_deref());
        report.congestion = congestion.told().to_owned();
        Ok(Self { report, congestion })
    }

    pub(crate) fn common(&self) -> &Common {
        &self.report.settings.common
    }

    /// Opens `count` connections to `server` for a load with one thread per entry of `cores`.
    pub(crate) fn open(
        &self,
        server: &Server,
        count: usize,
        cores: &[Option<usize>],
    ) -> Result<Load> {
        let connect = self.connect(server, count);
        Load::open(&connect, self.common().message_bytes, cores)
    }

    pub(crate) fn connect(&self, server: &Server, count: usize) -> Connect {
        Connect {
            target: server.addr(),
            count,
            congestion: self.common().congestion().map(str::to_owned),
            per_second: self.common().connect_rate,
        }
    }

    /// Measures closed-loop windows of all subjects, round after round.
    pub(crate) fn measure_rounds(
        &mut self,
        subjects: &[Subject],
        connections: usize,
        length: Duration,
        cores: &[Option<usize>],
    ) -> Result<()> {
        let slice = self.common().slice(connections);
        for round in 0..self.common().rounds {
            let started: Vec<(&Subject, Server)> = rotated(subjects, round)
                .map(|subject| Ok((subject, subject.start()?)))
                .collect::<Result<_>>()?;
            let mut sides = Vec::new();
            for (subject, server) in &started {
                sides.push(Side {
                    subject: &subject.name,
                    server,
                    backend: None,
                    load: self.open(server, connections, cores)?,
                });
            }
            let cells = self.take_turns(&mut sides, Window::closed(length), slice, round)?;
            drop(sides);
            for (_, server) in started {
                server.stop()?;
            }
            for cell in cells {
                self.add_cell(cell)?;
            }
        }
        Ok(())
    }

    /// Warms each side up, and then loads them in turn.
    pub(crate) fn take_turns(
        &self,
        sides: &mut [Side<'_>],
        window: Window,
        slice: Duration,
        round: usize,
    ) -> Result<Vec<Cell>> {
        for side in &mut *sides {
            side.load.run(Window {
                stop: Stop::After(self.common().warmup()),
                ..window
            })?;
        }
        let turns = Turns {
            window,
            slice,
            round,
        };
        turns::take(turns, sides)
    }

    /// Notes a window and writes the file.
    pub(crate) fn add_cell(&mut self, cell: Cell) -> Result<()> {
        eprintln!(
            "round {:>2}  {:<24} {:>6} connections  {:>8.0} ns/request  {:>7.0} requests/s  {}",
            cell.round + 1,
            cell.subject,
            cell.connections,
            cell.server_cpu_ns,
            cell.requests_per_second,
            cell.doubts.join(", ")
        );
        self.report.cells.push(cell);
        self.report.write()
    }

    /// Divides `of` of one subject by that of another, round by round, and judges the result. Subjects that were not
    /// measured give no ratio.
    pub(crate) fn compare(
        &mut self,
        what: &str,
        (numerator, denominator): (&str, &str),
        connections: usize,
        of: fn(&Cell) -> f64,
        goal: Option<f64>,
    ) {
        let above = self.report.values(numerator, connections, of);
        let below = self.report.values(denominator, connections, of);
        if above.len() != below.len() {
            return;
        }
        if let Some(ratio) = Ratio::of(&above, &below, self.common().seed) {
            let name = format!("{what}, {connections}: {numerator} / {denominator}");
            self.report.ratios.push(Comparison::new(name, ratio, goal));
        }
    }

    /// Prints one row of medians per subject and number of connections.
    pub(crate) fn print_medians(&self) {
        let mut table = Table::new(&[
            "server",
            "connections",
            "CPU ns/request",
            "spread %",
            "machine ns/request",
            "server cores",
            "load cores",
            "requests/s",
            "p50 us",
            "p99 us",
            "p99.9 us",
        ]);
        let mut seen: Vec<(&str, usize)> = Vec::new();
        for cell in &self.report.cells {
            let key = (cell.subject.as_str(), cell.connections);
            if seen.contains(&key) {
                continue;
            }
            seen.push(key);
            let spread = |of| Spread::of(&self.report.values(key.0, key.1, of));
            let median = |of, digits: usize| number(spread(of).map(|spread| spread.median), digits);
            let cpu = spread(|cell| cell.server_cpu_ns);
            table.row(vec![
                key.0.to_owned(),
                key.1.to_string(),
                number(cpu.map(|spread| spread.median), 0),
                number(cpu.map(|spread| spread.relative() * 1e2), 1),
                median(|cell| cell.machine_cpu_ns, 0),
                median(|cell| cell.server_cores, 2),
                median(|cell| cell.load_cores, 2),
                median(|cell| cell.requests_per_second, 0),
                median(|cell| or_nan(cell.latency.p50_us), 1),
                median(|cell| or_nan(cell.latency.p99_us), 1),
                median(|cell| or_nan(cell.latency.p999_us), 1),
            ]);
        }
        println!("\nmedians over the rounds; spread is the interquartile range\n\n{table}");
    }

    /// Adds a warning when windows that are not windows of messages are doubtful; each gives its reasons.
    pub(crate) fn warn_of_doubts<'a>(&mut self, windows: impl Iterator<Item = &'a [String]>) {
        let windows: Vec<&[String]> = windows.collect();
        let doubtful = windows.iter().filter(|doubts| !doubts.is_empty());
        if let Some(first) = doubtful.clone().next() {
            self.report.warnings.push(format!(
                "{} of {} windows are doubtful (first: {}); repeat on a quiet machine",
                doubtful.count(),
                windows.len(),
                first.join(", ")
            ));
        }
    }

    /// Prints the end and writes the file. Answers whether there are warnings.
    pub(crate) fn end(mut self) -> Result<bool> {
        self.report.warn_of_doubtful_cells();
        self.report.write()?;
        self.report.print_end();
        drop(self.congestion);
        Ok(!self.report.warnings.is_empty())
    }
}

/// How a kind of server is started on one thread of `core`; unpinned without it.
pub(crate) fn one_thread(kind: Kind, polyloop: &Path, core: Option<usize>) -> Result<Subject> {
    if let Some(core) = core {
        host::require_core(core)?;
    }
    let pinned = |flag: &str| core.map_or(String::new(), |core| format!("{flag} {core}"));
    match kind {
        Kind::BareMio => Subject::anchor(kind.name(), "bare-mio", &pinned("--core")),
        Kind::Tokio => Subject::anchor(kind.name(), "tokio-echo", &pinned("--core")),
        Kind::Polyloop => {
            let arguments = format!("--loops 1 {}", pinned("--cores"));
            polyloop_echo(kind.name(), polyloop, &arguments)
        }
    }
}

/// The echo server of polyloop.
pub(crate) fn polyloop_echo(name: &str, program: &Path, arguments: &str) -> Result<Subject> {
    ensure!(
        program.is_file(),
        "{} is not there; build it with `cargo build --release`, name it with --polyloop, or leave it out with \
         --subjects",
        program.display()
    );
    let arguments = format!("echo --listen 127.0.0.1:0 {arguments}");
    Ok(Subject::new(name, program.to_owned(), &arguments))
}

/// The subjects of a round: in order, each round beginning one further on.
pub(crate) fn rotated<T>(subjects: &[T], round: usize) -> impl Iterator<Item = &T> {
    let first = round % subjects.len().max(1);
    subjects.iter().cycle().skip(first).take(subjects.len())
}

/// What is missing takes part in no median: a ratio or spread with it is not a number, and is printed as a dash.
pub(crate) fn or_nan(value: Option<f64>) -> f64 {
    value.unwrap_or(f64::NAN)
}

/// A value as printed; a dash for what is none.
pub(crate) fn number(value: Option<f64>, digits: usize) -> String {
    match value {
        Some(value) if value.is_finite() => format!("{value:.digits$}"),
        _ => "-".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_subject_has_every_place_in_turn() {
        // Goal: rounds are permutations that rotate, by three subjects over four rounds.
        let subjects = ['a', 'b', 'c'];
        let rounds: Vec<String> = (0..4)
            .map(|round| rotated(&subjects, round).collect())
            .collect();
        assert_eq!(rounds, ["abc", "bca", "cab", "abc"]);
        assert_eq!(rotated(&[0_u8; 0], 3).count(), 0);
    }
}
