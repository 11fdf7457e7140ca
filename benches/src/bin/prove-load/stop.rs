//! A server that is stopped: does the generator count the time in which nothing was answered?
//!
//! Of requests planned evenly over a stage of T, those planned at u after the beginning of a stop of D are answered when it
//! ends, D - u later; the others take next to nothing. The share of requests with a latency above x is therefore
//! (D - x) / T, and the quantile q, for (1 - q) T < D,
//!
//! ```text
//!   x(q) = D - (1 - q) T        p99 of 20 s with a stop of 1.4 s: 1.4 s - 0.2 s = 1.2 s
//! ```
//!
//! Left out is the drain: the backlog of D x rate requests is served at the server's own pace, so that a request planned at u
//! waits for the u x rate before it, and x(q) grows by (1 - q) T x rate / capacity. At 1,000/s, and with a capacity of
//! 50,000/s or more, that is 4 ms in 1.2 s at most, 0.3 %. Exponential arrivals leave the number of requests in those 0.2 s
//! to chance, with a deviation of 14 in 200: 14 ms, 1.2 %. Both lie well within the 5 % that are claimed.
//!
//! A generator that counts from the actual send loses all of this: each of its 64 connections had one request on its way,
//! and 64 of 20,000 are below the 99th percentile. That figure is told beside.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use polyloop_benches::subject::Server;
use polyloop_measure::host;
use rustix::process::Signal;

use crate::claim::{Claim, duration};
use crate::rig::{Rig, Run, measured};

/// See the module's documentation.
pub(crate) fn prove(rig: &Rig) -> Result<Vec<Claim>> {
    let seconds = rig.or_quick(20, 12);
    let server = rig.echo()?;
    let csv = rig.file("stop.csv");
    let arguments = format!(
        "--rate 1k/s --arrivals exponential --connections 64 --duration {seconds}s --interval 1s --csv {}",
        csv.display()
    );
    eprintln!("stop: {seconds} s at 1,000/s, and a stop of 1.4 s in the middle");
    let mut run = rig.begin(&server, &arguments, &rig.file("stop.json"))?;
    wait_for_first_row(&csv, &mut run)?;
    let until_middle = Duration::from_secs_f64(f64::from(seconds) / 2.0 - 1.0) - STOP / 2;
    thread::sleep(until_middle);
    let stopped = stop_for(&server, STOP)?;
    let run = run.end()?;
    server.stop()?;

    let stage = measured(&run)?;
    let expected_us = quantile_us(stopped.as_secs_f64(), stage.seconds, 0.99);
    let found_us = stage.latency.p99_us.context("the p99 is not told")?;
    let error = (found_us / expected_us - 1.0).abs();
    let claim = Claim::judged(
        "stop: p99 with the server stopped in the middle",
        format!(
            "{} of {} ({:.2} % off; stopped for {:.1} ms)",
            duration(found_us),
            duration(expected_us),
            error * 1e2,
            stopped.as_secs_f64() * 1e3
        ),
        format!("<= {:.0} % off", ERROR_MAX * 1e2),
        error <= ERROR_MAX,
    );
    let uncorrected = stage
        .uncorrected
        .p99_us
        .map_or_else(|| "not told".to_owned(), duration);
    Ok(vec![
        claim.doubted_by(&run),
        Claim::told("stop: p99 counted from the actual send", uncorrected),
    ])
}

/// What arithmetic says, in microseconds.
fn quantile_us(stopped_s: f64, stage_s: f64, quantile: f64) -> f64 {
    (stopped_s - (1.0 - quantile) * stage_s) * 1e6
}

/// Waits until the first second of the measured stage is over.
fn wait_for_first_row(csv: &Path, run: &mut Run) -> Result<()> {
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        let rows = fs::read_to_string(csv).unwrap_or_default();
        let is_measured = |row: &str| row.split(',').nth(STAGE_NAME_COLUMN) == Some("measure");
        if rows.lines().any(is_measured) {
            return Ok(());
        }
        run.require_alive()?;
        thread::sleep(Duration::from_millis(5));
    }
    bail!("no row of the measured stage within {PATIENCE:?}")
}

/// Stops the server, and answers for how long it was.
fn stop_for(server: &Server, length: Duration) -> Result<Duration> {
    let pid = server.pid();
    host::send_signal(pid, Signal::STOP)?;
    let start = Instant::now();
    while !is_stopped(pid)? {
        if start.elapsed() > Duration::from_secs(1) {
            bail!("the server does not stop");
        }
        thread::yield_now();
    }
    thread::sleep(length.saturating_sub(start.elapsed()));
    let stopped = start.elapsed();
    host::send_signal(pid, Signal::CONT)?;
    Ok(stopped)
}

fn is_stopped(pid: u32) -> Result<bool> {
    let stat = host::read_process(pid, "stat")?;
    // The name in parentheses may hold anything; the state follows the last of them.
    let state = stat.rsplit_once(')').map(|(_, rest)| rest.trim_start());
    Ok(state.is_some_and(|state| state.starts_with('T')))
}

/// Long enough to matter to a p99 of 20 s, short enough that nobody's deadline passes.
const STOP: Duration = Duration::from_millis(1_400);

/// The goal.
const ERROR_MAX: f64 = 0.05;

const STAGE_NAME_COLUMN: usize = 2;

const PATIENCE: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_quantile_is_that_of_the_requests_themselves() {
        // Goal: the formula; by laying a million requests evenly over 20 s and sorting what they would take.
        let (stopped_s, stage_s, count) = (1.4, 20.0, 1_000_000);
        let mut latencies: Vec<f64> = (0..count)
            .map(|index| stage_s * f64::from(index) / f64::from(count))
            .map(|planned_s| (9.0 + stopped_s - planned_s).clamp(0.0, stopped_s))
            .zip((0..count).map(|index| stage_s * f64::from(index) / f64::from(count) >= 9.0))
            .map(|(latency_s, is_late_enough)| if is_late_enough { latency_s } else { 0.0 })
            .collect();
        latencies.sort_unstable_by(f64::total_cmp);
        let found_us = latencies[990_000] * 1e6;
        assert!((found_us - quantile_us(stopped_s, stage_s, 0.99)).abs() < 100.0);
    }
}
