//! The generator: started, watched together with the server, and its result file turned into figures.
//!
//! The one idea: while it runs, the server's threads are looked at once a second from outside, so that evenness is known
//! for servers that cannot tell it themselves. Only the time in which the generator measured counts: from its end back.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{io, thread};

use anyhow::{Context, Result, bail};
use hdrhistogram::Histogram;
use polyloop_load::result::{RunResult, Severity, StageResult};
use polyloop_measure::host;
use polyloop_measure::quantile::quantile_ns;

use super::server::{Server, spawn_on};
use crate::points::{Doubt, Measured, ThreadTime};

/// How to start the generator.
#[derive(Debug)]
pub struct Generator<'a> {
    /// Its binary.
    pub program: &'a Path,
    /// A program that starts it, with its words; nothing for none.
    pub under: Vec<String>,
    /// Everything it is told.
    pub words: Vec<String>,
    /// Its cores.
    pub cores: &'a [usize],
    /// Its result and what it says go here.
    pub dir: &'a Path,
    /// Loops of the server, for evenness.
    pub loops: usize,
    /// How long it measures.
    pub duration: Duration,
    /// How long it may take in all.
    pub patience: Duration,
}

impl Generator<'_> {
    /// Runs it against `server`.
    ///
    /// # Errors
    /// When it cannot run, or the server dies meanwhile; with what they said.
    pub fn run(&self, server: &mut Server) -> Result<Measured> {
        let json = self.dir.join("load.json");
        let said = self.dir.join("load.txt");
        let billed = server.pids()?;
        let pids: Vec<String> = billed.iter().map(u32::to_string).collect();
        let memory_before = server.memory_bytes();
        let mut command = match self.under.split_first() {
            None => Command::new(self.program),
            Some((first, rest)) => {
                let mut command = Command::new(first);
                command.args(rest).arg(self.program);
                command
            }
        };
        command
            .args(&self.words)
            .arg("--server-pid")
            .arg(pids.join(","))
            .arg("--json")
            .arg(&json)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&said)?);
        let child = spawn_on(&mut command, self.cores)
            .with_context(|| format!("{} cannot be started", self.program.display()))?;
        let mut load = Load(child);
        host::adopt_child(load.0.id());
        let mut watch = Watch::default();
        let start = Instant::now();
        let status = loop {
            if let Some(status) = load.0.try_wait()? {
                break status;
            }
            server.require_alive()?;
            watch.look(server);
            if start.elapsed() > self.patience {
                bail!(
                    "the generator did not end within {} s",
                    self.patience.as_secs()
                );
            }
            thread::sleep(LOOK_EVERY);
        };
        server.require_alive()?;
        if !status.success() {
            let words = fs::read_to_string(&said).unwrap_or_default();
            bail!(
                "the generator failed: {status}; it said:\n{}",
                last_lines(&words)
            );
        }
        let result = RunResult::read(&json)?;
        let stage = result
            .measured()
            .last()
            .filter(|_| result.is_complete)
            .context("the generator measured nothing")?;
        let mut measured = figures(&result, stage)?;
        if server.pids()? != billed {
            measured.doubts.push(Doubt {
                code: "processes-changed".to_owned(),
                text: "the server's processes are not those that were billed".to_owned(),
                is_serious: true,
            });
        }
        measured.memory_bytes = memory_before.zip(watch.memory_bytes);
        watch.tell(self.duration, self.loops, &mut measured);
        Ok(measured)
    }
}

/// The generator's process; dropping it kills it.
struct Load(Child);

impl Drop for Load {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
        host::forget_child(self.0.id());
    }
}

/// Takes the figures out of a result.
fn figures(result: &RunResult, stage: &StageResult) -> Result<Measured> {
    let completed = stage.counts.completed;
    if completed == 0 && stage.counts.bytes_in + stage.counts.bytes_out == 0 {
        bail!("nothing was answered: {:?}", stage.counts.faults);
    }
    // The processor time is that of the stage without its grace.
    let in_time = stage.counts.completed_in_time();
    let per_request = |seconds: f64| (in_time > 0).then(|| seconds * 1e6 / in_time as f64);
    let busy_s = stage.machine_busy_share * machine_cores()? as f64 * stage.seconds;
    let doubts = result.warnings.iter().map(|warning| Doubt {
        code: warning.code.clone(),
        text: warning.text.clone(),
        is_serious: warning.severity >= Severity::Warning,
    });
    let latency = stage.latency.decoded().filter(|all| !all.is_empty());
    let of_latency =
        |figure: fn(&Histogram<u64>) -> f64| latency.as_ref().map(|all| figure(all) / 1e3);
    Ok(Measured {
        is_closed: result.mode == polyloop_load::result::Mode::Closed,
        rate_planned: stage.rate_planned,
        rate: stage.rates.completed,
        completed,
        bytes_per_s: stage.rates.bytes_in + stage.rates.bytes_out,
        faults: stage.counts.faults.values().sum(),
        seconds: stage.seconds,
        connections: stage.connections,
        server_us: stage.server_cpu_s.and_then(per_request),
        load_us: per_request(stage.load_cpu_s),
        machine_us: per_request(busy_s),
        latency_us: latency.as_ref().map(spectrum).unwrap_or_default(),
        mean_us: of_latency(Histogram::mean),
        deviation_us: of_latency(Histogram::stdev),
        longest_us: of_latency(|all| all.max() as f64),
        doubts: doubts.collect(),
        ..Measured::default()
    })
}

/// Latency at each quantile that enough samples lie beyond.
fn spectrum(histogram: &Histogram<u64>) -> Vec<(f64, f64)> {
    let at = |quantile: f64| {
        let ns = quantile_ns(histogram, quantile)?.min(histogram.max());
        Some((quantile, ns as f64 / 1e3))
    };
    QUANTILES.into_iter().filter_map(at).collect()
}

/// All cores of the machine: its busy time is told as a share of theirs, whatever this process may use.
fn machine_cores() -> Result<usize> {
    let text = fs::read_to_string("/proc/stat").context("/proc/stat")?;
    let is_core = |line: &&str| {
        line.strip_prefix("cpu")
            .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    };
    Ok(text.lines().filter(is_core).count().max(1))
}

/// Ticks of each thread by its number, with its name.
type Threads = BTreeMap<u32, (String, u64)>;

/// What was seen of the server.
#[derive(Default)]
struct Watch {
    looks: Vec<(Instant, Threads)>,
    memory_bytes: Option<u64>,
}

impl Watch {
    fn look(&mut self, server: &Server) {
        let is_due = self
            .looks
            .last()
            .is_none_or(|(at, _)| at.elapsed() >= WINDOW);
        if is_due {
            self.looks.push((Instant::now(), server.threads()));
            self.memory_bytes = server.memory_bytes().max(self.memory_bytes);
        }
    }

    /// Adds what was seen in the last `duration` to the figures.
    fn tell(&self, duration: Duration, loops: usize, measured: &mut Measured) {
        let late = |(at, _): &&(Instant, Threads)| at.elapsed() <= duration + WINDOW;
        let looks: Vec<&(Instant, Threads)> = self.looks.iter().filter(late).collect();
        for pair in looks.windows(2) {
            if let [(_, earlier), (_, later)] = pair {
                let ticks: Vec<u64> = used(earlier, later).into_iter().map(|(_, t)| t).collect();
                measured.imbalance.extend(imbalance(&ticks, loops));
            }
        }
        if let [(_, first), .., (_, last)] = looks[..] {
            let loops_seen = busiest(first, last, loops);
            let windows = looks.windows(2).filter_map(|pair| match pair {
                [(_, earlier), (_, later)] => shares(earlier, later, &loops_seen),
                _ => None,
            });
            measured.loop_shares = windows.take(WINDOWS_MAX).collect();
            let per_second = rustix::param::clock_ticks_per_second().max(1) as f64;
            measured.threads = used(first, last)
                .into_iter()
                .filter(|(_, ticks)| *ticks > 0)
                .take(THREADS_MAX)
                .map(|(name, ticks)| ThreadTime {
                    name,
                    cpu_s: ticks as f64 / per_second,
                })
                .collect();
        }
    }
}

/// What each thread used between two looks, busiest first.
fn used(earlier: &Threads, later: &Threads) -> Vec<(String, u64)> {
    let mut used: Vec<(String, u64)> = later
        .iter()
        .map(|(number, (name, ticks))| {
            let before = earlier.get(number).map_or(0, |(_, ticks)| *ticks);
            (name.clone(), ticks.saturating_sub(before))
        })
        .collect();
    used.sort_by_key(|(_, ticks)| std::cmp::Reverse(*ticks));
    used
}

/// The numbers of the busiest threads, one for each loop, in order; none for one loop.
fn busiest(first: &Threads, last: &Threads, loops: usize) -> Vec<u32> {
    if loops < 2 {
        return Vec::new();
    }
    let mut numbers: Vec<u32> = last.keys().copied().collect();
    numbers.sort_by_key(|number| std::cmp::Reverse(ticks_between(first, last, *number)));
    numbers.truncate(loops);
    numbers.sort_unstable();
    numbers
}

/// What each of these threads used over their mean; none for too few ticks to tell.
fn shares(earlier: &Threads, later: &Threads, numbers: &[u32]) -> Option<Vec<f64>> {
    let ticks: Vec<u64> = numbers
        .iter()
        .map(|number| ticks_between(earlier, later, *number))
        .collect();
    let total: u64 = ticks.iter().sum();
    let over_mean = |ticks: &u64| *ticks as f64 * numbers.len() as f64 / total as f64;
    (total >= TICKS_MIN).then(|| ticks.iter().map(over_mean).collect())
}

fn ticks_between(earlier: &Threads, later: &Threads, number: u32) -> u64 {
    let of = |threads: &Threads| threads.get(&number).map_or(0, |(_, ticks)| *ticks);
    of(later).saturating_sub(of(earlier))
}

/// Largest over mean of the busiest threads, one for each loop; none for one loop, or too few ticks to tell.
fn imbalance(ticks: &[u64], loops: usize) -> Option<f64> {
    let loops_seen = ticks.get(..loops.min(ticks.len()))?;
    let total: u64 = loops_seen.iter().sum();
    let most = loops_seen.iter().copied().max()?;
    (loops > 1 && total >= TICKS_MIN).then(|| most as f64 * loops as f64 / total as f64)
}

fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(12)..].join("\n")
}

/// Whether a failure to start is a port that somebody was faster to take.
pub(crate) fn is_free(port: u16) -> io::Result<()> {
    std::net::TcpListener::bind(("127.0.0.1", port)).map(drop)
}

const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A tick is 10 ms, so that a second tells a loop's share to a percent.
const WINDOW: Duration = Duration::from_secs(1);

/// Below this a share is made of single ticks.
const TICKS_MIN: u64 = 20;

/// Seconds of which the shares of loops are kept.
const WINDOWS_MAX: usize = 60;

/// Loops of any machine, and some more.
const THREADS_MAX: usize = 256;

/// Dense enough for a line, up to one in a hundred thousand.
const QUANTILES: [f64; 15] = [
    0.0, 0.25, 0.5, 0.75, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999, 0.9995, 0.9999, 0.99995,
    0.99999,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn evenness_is_that_of_the_loops() {
        // Goal: helpers beside the loops do not count, a missing loop does, and few ticks tell nothing; by examples.
        assert_eq!(imbalance(&[60, 40, 1, 1], 2), Some(1.2));
        assert_eq!(imbalance(&[100], 2), Some(2.0));
        assert_eq!(imbalance(&[5, 5], 2), None);
        assert_eq!(imbalance(&[100, 90], 1), None);
        assert_eq!(imbalance(&[], 2), None);
    }

    #[test]
    fn threads_are_followed_by_their_number() {
        // Goal: differences by thread, new ones from zero, busiest first; by two hand-made looks.
        let look = |threads: &[(u32, u64)]| -> Threads {
            threads
                .iter()
                .map(|(n, t)| (*n, (format!("t{n}"), *t)))
                .collect()
        };
        let used = used(
            &look(&[(1, 10), (2, 5)]),
            &look(&[(1, 12), (2, 50), (3, 7)]),
        );
        let expected = [("t2", 45), ("t3", 7), ("t1", 2)].map(|(n, t)| (n.to_owned(), t));
        assert_eq!(used, expected);
    }

    #[test]
    fn each_loop_is_followed_through_the_seconds() {
        // Goal: loops keep their place from second to second, helpers are left out, and few ticks tell nothing; by three
        // hand-made looks at two loops and a helper.
        let look = |one: u64, helper: u64, two: u64| -> Threads {
            [(1, one), (2, helper), (3, two)]
                .map(|(number, ticks)| (number, (String::new(), ticks)))
                .into()
        };
        let looks = [
            look(0, 0, 0),
            look(30, 1, 10),
            look(31, 2, 12),
            look(41, 3, 42),
        ];
        let loops = busiest(&looks[0], &looks[3], 2);
        assert_eq!(loops, [1, 3]);
        let of = |second: usize| shares(&looks[second], &looks[second + 1], &loops);
        assert_eq!(of(0), Some(vec![1.5, 0.5]));
        assert_eq!((of(1), of(2)), (None, Some(vec![0.5, 1.5])));
        assert!(busiest(&looks[0], &looks[3], 1).is_empty());
    }

    #[test]
    fn cores_of_the_machine_are_counted() {
        // Goal: at least those that this process may use.
        assert!(machine_cores().unwrap() >= polyloop_sys::cores::allowed().len());
    }
}
