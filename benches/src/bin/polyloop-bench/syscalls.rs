//! How many system calls does an echo make? Counted by strace, over a window of known requests.
//!
//! strace makes every call of the server many times slower, so the load always waits for the server: this counts what
//! happens at saturation, where one poll finds many events. It says nothing about time.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::Signal;
use serde::Serialize;

use polyloop_benches::load::Window;
use polyloop_benches::report::Table;
use polyloop_benches::subject::Server;
use polyloop_measure::host;

use crate::args::{Common, EchoSyscalls, seconds};
use crate::session::{Session, one_thread};

/// One line of strace's summary.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Call {
    name: String,
    calls: u64,
    errors: u64,
}

/// Answers whether the result has warnings.
pub(crate) fn run(common: Common, question: EchoSyscalls) -> Result<bool> {
    host::require_core(question.load_core)?;
    if Command::new("strace")
        .arg("-V")
        .stdout(Stdio::null())
        .status()
        .is_err()
    {
        println!("skipped: strace is not installed");
        return Ok(true);
    }
    let subjects = question
        .subjects
        .iter()
        .map(|&kind| one_thread(kind, &common.polyloop, Some(question.server_core)))
        .collect::<Result<Vec<_>>>()?;
    let mut session = Session::begin("echo-syscalls", common, question.clone())?;
    session.report.subjects.clone_from(&subjects);
    let mut table = Table::new(&[
        "server",
        "connections",
        "requests",
        "calls/request",
        "by name",
    ]);
    for &connections in &question.connections {
        for subject in &subjects {
            let server = subject.start()?;
            let mut load = session.open(&server, connections, &[Some(question.load_core)])?;
            load.run(Window::closed(session.common().warmup()))?;
            let trace = Trace::attach(&server)?;
            let sample = load.run(Window::closed(seconds(question.seconds)))?;
            let calls = trace.finish()?;
            drop(load);
            server.stop()?;
            let requests = sample.requests as f64;
            let per_request = calls.iter().map(|call| call.calls).sum::<u64>() as f64 / requests;
            table.row(vec![
                subject.name.clone(),
                connections.to_string(),
                sample.requests.to_string(),
                format!("{per_request:.3}{}", verdict(&subject.name, per_request)),
                by_name(&calls, requests),
            ]);
            session.report.facts.push(serde_json::json!({
                "subject": subject.name, "connections": connections, "requests": sample.requests,
                "calls_per_request": per_request, "calls": calls,
            }));
            session.report.write()?;
        }
    }
    println!("{table}");
    session.end()
}

fn verdict(subject: &str, per_request: f64) -> &'static str {
    match (subject, per_request <= GOAL) {
        ("polyloop", true) => " (goal 2.1 met)",
        ("polyloop", false) => " (goal 2.1 missed)",
        _ => "",
    }
}

/// The calls that make a difference in the second digit.
fn by_name(calls: &[Call], requests: f64) -> String {
    let share = |call: &Call| call.calls as f64 / requests;
    let shown = calls.iter().filter(|call| share(call) >= 0.005);
    let texts: Vec<String> = shown
        .map(|call| match call.errors {
            0 => format!("{} {:.3}", call.name, share(call)),
            errors => {
                let failed = errors as f64 / requests;
                format!("{} {:.3} ({failed:.3} failed)", call.name, share(call))
            }
        })
        .collect();
    texts.join(", ")
}

/// A strace that counts the calls of all threads of a server.
struct Trace {
    strace: Child,
    summary: PathBuf,
}

impl Trace {
    fn attach(server: &Server) -> Result<Self> {
        let summary = std::env::temp_dir().join(format!("polyloop-bench-{}.strace", server.pid()));
        let strace = Command::new("strace")
            .args(["-c", "-f", "-q", "-o"])
            .arg(&summary)
            .args(["-p", &server.pid().to_string()])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("strace cannot be started")?;
        let mut trace = Self { strace, summary };
        let start = Instant::now();
        while !traced(server.pid())? {
            ensure!(
                trace.strace.try_wait()?.is_none() && start.elapsed() < PATIENCE,
                "strace did not attach; may this user trace processes (kernel.yama.ptrace_scope)?"
            );
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(trace)
    }

    /// Detaches and reads the summary.
    fn finish(mut self) -> Result<Vec<Call>> {
        // An interrupt makes strace detach and write its summary.
        host::send_signal(self.strace.id(), Signal::INT)?;
        let start = Instant::now();
        while self.strace.try_wait()?.is_none() {
            if start.elapsed() > PATIENCE {
                bail!("strace did not end within {} s", PATIENCE.as_secs());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let text = fs::read_to_string(&self.summary).context("strace left no summary")?;
        let calls = parse(&text);
        ensure!(
            !calls.is_empty(),
            "strace's summary cannot be understood:\n{text}"
        );
        Ok(calls)
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        // Both fail when it has ended, and the file may never have been made.
        drop(self.strace.kill());
        drop(self.strace.wait());
        drop(fs::remove_file(&self.summary));
    }
}

/// Whether every thread of the process has a tracer.
fn traced(pid: u32) -> Result<bool> {
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let status = fs::read_to_string(task?.path().join("status"))?;
        if status.lines().any(|line| line == "TracerPid:\t0") {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Reads the table of `strace -c`: share, seconds, microseconds per call, calls, errors if any, name.
fn parse(text: &str) -> Vec<Call> {
    text.lines()
        .filter_map(|line| {
            let columns: Vec<&str> = line.split_whitespace().collect();
            let (calls, errors, name) = match columns[..] {
                [_, _, _, calls, name] => (calls, "0", name),
                [_, _, _, calls, errors, name] => (calls, errors, name),
                _ => return None,
            };
            (name != "total").then_some(())?;
            Some(Call {
                name: name.to_owned(),
                calls: calls.parse().ok()?,
                errors: errors.parse().ok()?,
            })
        })
        .collect()
}

const GOAL: f64 = 2.1;

const PATIENCE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_is_read_with_and_without_errors() {
        // Goal: header, rule and total are left out and the column of errors may be empty; by a real table.
        let text = "\
% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 60.00    0.600000           1     10000           sendto
 40.00    0.400000           1     10100       100 recvfrom
------ ----------- ----------- --------- --------- ----------------
100.00    1.000000           1     20100       100 total
";
        let call = |name: &str, calls, errors| Call {
            name: name.into(),
            calls,
            errors,
        };
        assert_eq!(
            parse(text),
            [call("sendto", 10_000, 0), call("recvfrom", 10_100, 100)]
        );
        assert_eq!(
            by_name(&parse(text), 10_000.0),
            "sendto 1.000, recvfrom 1.010 (0.010 failed)"
        );
    }
}
