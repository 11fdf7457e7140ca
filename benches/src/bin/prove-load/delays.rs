//! A server with known delays: is the whole distribution right, and not one percentile by luck?
//!
//! Each message is echoed after a delay drawn from an exponential distribution with a mean of 20 ms. There are so many
//! connections that hardly a request waits for another on its own: each sends once in four seconds. What is measured is then
//! the law, shifted by what the loopback and both loops take (100 us shift the distribution function by 0.005 at most).
//!
//! The distance by Kolmogorov and Smirnov is the widest gap between the measured distribution function and the law's. Chance
//! alone keeps it below the bound that is told beside, 19 times in 20.

use anyhow::{Context, Result};
use polyloop_measure::ks;

use crate::claim::{Claim, duration};
use crate::rig::{Rig, measured};

/// See the module's documentation.
pub(crate) fn prove(rig: &Rig) -> Result<Vec<Claim>> {
    let seconds = rig.or_quick(30, 10);
    let server = rig.delay_echo(MEAN_MS)?;
    eprintln!("delays: {seconds} s at 1,000/s over 4,000 connections");
    let arguments =
        format!("--rate 1k/s --arrivals fixed --connections 4000 --duration {seconds}s");
    let run = rig.load(&server, &arguments)?;
    server.stop()?;

    let stage = measured(&run)?;
    let histogram = stage
        .latency
        .decoded()
        .context("the result has no histogram of latencies")?;
    let mean_ns = MEAN_MS * 1e6;
    let law = |ns: f64| 1.0 - (-ns.max(0.0) / mean_ns).exp();
    let distance = ks::distance_of_histogram(&histogram, law).context("there are no latencies")?;
    let by_chance = ks::bound(histogram.len(), 0.05).context("there are no latencies")?;
    let claim = Claim::judged(
        "delays: distance from the law (Kolmogorov-Smirnov)",
        format!(
            "{distance:.4} ({} samples; by chance up to {by_chance:.4})",
            histogram.len()
        ),
        format!("<= {DISTANCE_MAX}"),
        distance <= DISTANCE_MAX,
    );
    let mean = Claim::told(
        "delays: mean",
        format!(
            "{} of {}",
            duration(histogram.mean() / 1e3),
            duration(MEAN_MS * 1e3)
        ),
    );
    Ok(vec![claim.doubted_by(&run), mean])
}

/// Long beside what the loopback takes, short beside the four seconds between two requests of a connection.
const MEAN_MS: f64 = 20.0;

/// The goal.
const DISTANCE_MAX: f64 = 0.02;
