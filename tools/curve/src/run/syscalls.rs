//! How many system calls of the server a request takes.
//!
//! The one idea: a long load and a short one on as many connections begin and end alike, and what lies between the two
//! counts is requests alone: `(calls of the long - calls of the short) / (requests of the long - requests of the short)`.
//! So no window has to be cut out of a running load, and connecting is not billed to requests.
//!
//! perf counts without slowing anybody down and is taken where the system lets it. strace, where it is not, slows the
//! server so much that the load always waits for it: what it counts is the server at saturation.
//!
//! Deliberately absent: names of the calls (`polyloop-bench echo-syscalls` tells them), and any use of these loads for
//! other figures, as a traced server costs more.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use polyloop_measure::host;
use rustix::process::Signal;

use super::generator::Generator;
use super::server::Server;
use crate::points::Syscalls;

/// What counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tracer {
    /// `perf stat` of the tracepoint at which every call enters the kernel.
    Perf,
    /// `strace -c`.
    Strace,
}

impl Tracer {
    /// The best that works here; none where neither does.
    #[must_use]
    pub fn find() -> Option<Self> {
        let succeeds = |program: &str, arguments: &[&str]| {
            let mut command = Command::new(program);
            command.args(arguments).stdin(Stdio::null());
            let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
            status.is_ok_and(|status| status.success())
        };
        // Without its tracepoint perf fails at once, and where strace may not trace, it may not trace its own child.
        if succeeds("perf", &["stat", "-e", EVENT, "true"]) {
            Some(Self::Perf)
        } else {
            succeeds("strace", &["-c", "-f", "-o", "/dev/null", "true"]).then_some(Self::Strace)
        }
    }

    /// What tables call it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Perf => "perf",
            Self::Strace => "strace",
        }
    }

    /// Counts the calls that `server` makes per request of a load, which `load` makes of a duration.
    ///
    /// # Errors
    /// When the tracer fails, or the loads differ in no request.
    pub fn count<'a>(
        self,
        server: &mut Server,
        load: impl Fn(Duration) -> Generator<'a>,
    ) -> Result<Syscalls> {
        let short = self.counted(server, load(SHORT))?;
        let long = self.counted(server, load(LONG))?;
        Ok(Syscalls {
            per_request: difference(short, long)?,
            counted_by: self.name().to_owned(),
        })
    }

    fn counted(self, server: &mut Server, mut load: Generator<'_>) -> Result<Counted> {
        let report = load.dir.join(format!("{}.txt", self.name()));
        let pids = server.pids()?;
        let (requests, text) = match self {
            Self::Perf => {
                load.under = perf(&report, &pids);
                let requests = load.run(server)?.completed;
                (requests, fs::read_to_string(&report)?)
            }
            Self::Strace => {
                let strace = Strace::attach(&report, &pids)?;
                let requests = load.run(server)?.completed;
                (requests, strace.finish()?)
            }
        };
        let calls = match self {
            Self::Perf => perf_count(&text),
            Self::Strace => strace_count(&text),
        };
        let calls = calls.with_context(|| format!("{} said:\n{text}", self.name()))?;
        Ok(Counted { calls, requests })
    }
}

/// Of one load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Counted {
    calls: u64,
    requests: u64,
}

fn difference(short: Counted, long: Counted) -> Result<f64> {
    let requests = long.requests.saturating_sub(short.requests);
    ensure!(
        requests > 0,
        "a load of {} ms had no more requests than one of {} ms",
        LONG.as_millis(),
        SHORT.as_millis()
    );
    Ok(long.calls.saturating_sub(short.calls) as f64 / requests as f64)
}

/// The words before those of the program during whose life perf counts.
fn perf(report: &Path, pids: &[u32]) -> Vec<String> {
    let pids: Vec<String> = pids.iter().map(u32::to_string).collect();
    let report = report.display().to_string();
    let words = [
        "perf",
        "stat",
        "-x",
        ",",
        "-e",
        EVENT,
        "-o",
        &report,
        "-p",
        &pids.join(","),
        "--",
    ];
    words.map(str::to_owned).to_vec()
}

/// The count in `COUNT,UNIT,EVENT,...`.
fn perf_count(text: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.contains(EVENT))?;
    line.split(',').next()?.trim().parse().ok()
}

/// The calls in the last line of strace's table: share, seconds, microseconds a call, calls, errors if any, `total`. Where
/// nothing was called there is no table.
fn strace_count(text: &str) -> Option<u64> {
    if text.trim().is_empty() {
        return Some(0);
    }
    let line = text
        .lines()
        .find(|line| line.trim_end().ends_with(" total"))?;
    line.split_whitespace().nth(3)?.parse().ok()
}

/// A strace that counts the calls of all threads of some processes.
struct Strace {
    child: Child,
    report: PathBuf,
}

impl Strace {
    fn attach(report: &Path, pids: &[u32]) -> Result<Self> {
        let mut command = Command::new("strace");
        command.args(["-c", "-f", "-q", "-o"]).arg(report);
        for pid in pids {
            command.args(["-p", &pid.to_string()]);
        }
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("strace cannot be started")?;
        host::adopt_child(child.id());
        let mut strace = Self {
            child,
            report: report.to_owned(),
        };
        let start = Instant::now();
        while !pids.iter().all(|&pid| is_traced(pid)) {
            ensure!(
                strace.child.try_wait()?.is_none() && start.elapsed() < PATIENCE,
                "strace did not attach; may this user trace processes (kernel.yama.ptrace_scope)?"
            );
            thread::sleep(LOOK_EVERY);
        }
        Ok(strace)
    }

    /// Lets the server go and answers what was counted.
    fn finish(mut self) -> Result<String> {
        // An interrupt makes strace detach and write its table.
        host::send_signal(self.child.id(), Signal::INT)?;
        let start = Instant::now();
        while self.child.try_wait()?.is_none() {
            if start.elapsed() > PATIENCE {
                bail!("strace did not end within {} s", PATIENCE.as_secs());
            }
            thread::sleep(LOOK_EVERY);
        }
        fs::read_to_string(&self.report).context("strace left no table")
    }
}

impl Drop for Strace {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
        host::forget_child(self.child.id());
    }
}

/// Whether every thread of a process has a tracer.
fn is_traced(pid: u32) -> bool {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return false;
    };
    tasks.filter_map(Result::ok).all(|task| {
        // One that ended meanwhile has no status and needs no tracer.
        let status = fs::read_to_string(task.path().join("status")).unwrap_or_default();
        !status.lines().any(|line| line == "TracerPid:\t0")
    })
}

const EVENT: &str = "raw_syscalls:sys_enter";

/// Long enough for every connection to have had its turn.
const SHORT: Duration = Duration::from_millis(200);

/// The difference is a second of requests.
const LONG: Duration = Duration::from_millis(1_200);

const PATIENCE: Duration = Duration::from_secs(10);

const LOOK_EVERY: Duration = Duration::from_millis(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_tracers_write_is_read() {
        // Goal: the count, with and without errors, and what is no count; by texts that they wrote.
        let perf = "# started on Tue Dec  1\n\n29,,raw_syscalls:sys_enter,1287876,100.00,,\n";
        assert_eq!(perf_count(perf), Some(29));
        assert_eq!(
            perf_count("<not counted>,,raw_syscalls:sys_enter,0,0.00,,\n"),
            None
        );
        let table = |total: &str| {
            format!(
                "% time     seconds  usecs/call     calls    errors syscall\n\
                 ------ ----------- ----------- --------- --------- ----------------\n \
                 60.00    0.600000           1     10000           sendto\n\
                 ------ ----------- ----------- --------- --------- ----------------\n{total}\n"
            )
        };
        let with_errors = "100.00    1.000000           1     20100       100 total";
        assert_eq!(strace_count(&table(with_errors)), Some(20_100));
        let without = "100.00    1.000000           1     20000           total";
        assert_eq!(strace_count(&table(without)), Some(20_000));
        assert_eq!(strace_count("\n"), Some(0));
        assert_eq!(strace_count("strace: cannot attach"), None);
    }

    #[test]
    fn connecting_is_not_billed_to_requests() {
        // Goal: what both loads have falls out, and loads without requests are refused; by counts made for it.
        let counted = |requests, calls| Counted { calls, requests };
        let found = difference(counted(100, 6_000 + 200), counted(500, 6_000 + 1_000)).unwrap();
        assert_eq!(found, 2.0);
        assert!(difference(counted(100, 1), counted(100, 2)).is_err());
    }
}
