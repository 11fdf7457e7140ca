//! Load generators as programs: started, waited for, billed.
//!
//! The one idea: what is compared is a program from its beginning to its end, whoever wrote it: the requests it says that it
//! made, over all the processor time it took. The bill is read when it has ended and before it is buried, as its processor
//! clock stands until then; starting and ending are on it, a few milliseconds in seconds.
//!
//! Deliberately absent: what a generator says about latency.

use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use polyloop_measure::host;
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

use crate::subject::spawn_on;

/// What a generator left behind.
#[derive(Debug, Clone)]
pub struct Spent {
    /// What it printed on its standard output.
    pub said: String,
    /// Processor time of all of its threads, in nanoseconds.
    pub cpu_ns: u64,
    /// From its start to its end, in nanoseconds.
    pub elapsed_ns: u64,
}

/// Runs a generator on one core to its end.
///
/// # Errors
/// When it cannot be started or fails.
pub fn run(program: &Path, arguments: &[String], core: Option<usize>) -> Result<Spent> {
    let start = Instant::now();
    let mut command = Command::new(program);
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    let mut child = spawn_on(core, &mut command)?;
    host::adopt_child(child.id());
    let mut said = String::new();
    let stdout = child.stdout.as_mut().context("stdout is piped")?;
    stdout.read_to_string(&mut said)?;
    let ended = waitid(
        WaitId::Pid(Pid::from_child(&child)),
        WaitIdOptions::EXITED | WaitIdOptions::NOWAIT,
    );
    let elapsed_ns = start.elapsed().as_nanos() as u64;
    let cpu_ns = polyloop_sys::clock::process_cpu_ns(child.id());
    host::forget_child(child.id());
    let status = child.wait()?;
    ended?;
    ensure!(status.success(), "{}: {status}", program.display());
    Ok(Spent {
        said,
        cpu_ns: cpu_ns.with_context(|| format!("the bill of {}", program.display()))?,
        elapsed_ns,
    })
}

/// The number before `word` in what a generator printed, as in `1234 requests in 3.00s`.
#[must_use]
pub fn number_before(said: &str, word: &str) -> Option<u64> {
    let words: Vec<&str> = said.split_whitespace().collect();
    let at = words.iter().position(|&other| other == word)?;
    words.get(at.checked_sub(1)?)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generator_is_billed_after_its_end() {
        // Goal: the bill of a program that has ended holds its work; by a shell that counts, and one that fails.
        let shell = |script: &str| run(Path::new("/bin/sh"), &["-c".into(), script.into()], None);
        let script =
            "i=0; while [ $i -lt 50000 ]; do i=$((i+1)); done; echo $i requests in no time";
        let spent = shell(script).unwrap();
        assert_eq!(number_before(&spent.said, "requests"), Some(50_000));
        assert!(spent.cpu_ns > 1_000_000, "{spent:?}");
        assert!(spent.cpu_ns <= 2 * spent.elapsed_ns, "{spent:?}");
        shell("exit 3").unwrap_err();
    }

    #[test]
    fn a_number_is_found_before_its_word() {
        // Goal: what wrk prints is read; by its line, and by texts without one.
        let said = "  2 threads\n  93812 requests in 3.00s, 4.5MB read\nRequests/sec: 1\n";
        assert_eq!(number_before(said, "requests"), Some(93_812));
        assert_eq!(number_before("requests", "requests"), None);
        assert_eq!(number_before("no requests", "requests"), None);
    }
}
