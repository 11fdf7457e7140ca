//! How late does the generator send at half of its capacity?
//!
//! Its capacity is what one loop does in a closed loop against the same server over the same connections. At half of it, by
//! exponential arrivals, requests come in clusters, and those within one wait for each other: that is part of the lag, as a
//! server would notice it. There are so many connections that few requests find theirs busy; the generator's own part, which
//! leaves these out, is told beside.

use anyhow::{Context, Result};

use crate::claim::{Claim, duration};
use crate::rig::{Rig, measured};

/// See the module's documentation.
pub(crate) fn prove(rig: &Rig) -> Result<Vec<Claim>> {
    let (closed_s, open_s) = rig.or_quick((5, 20), (2, 6));
    let server = rig.echo()?;
    eprintln!("lag: {closed_s} s in a closed loop, {open_s} s at half of its rate");
    let closed = rig.load(
        &server,
        &format!("--closed --connections {CONNECTIONS} --duration {closed_s}s"),
    )?;
    let capacity = measured(&closed)?.rates.completed;
    let rate = (capacity / 2.0).floor();
    let arguments = format!(
        "--rate {rate} --arrivals exponential --connections {CONNECTIONS} --duration {open_s}s"
    );
    let open = rig.load(&server, &arguments)?;
    server.stop()?;

    let stage = measured(&open)?;
    let lag_us = stage
        .lag
        .p99_9_us
        .context("the p99.9 of the lag is not told: there were fewer than 100,000 requests sent")?;
    let claim = Claim::judged(
        "lag: send lag p99.9 at half of the capacity",
        format!("{} at {rate:.0}/s", duration(lag_us)),
        format!("<= {}", duration(LAG_MAX_US)),
        lag_us <= LAG_MAX_US,
    );
    let told = |us: Option<f64>| us.map_or_else(|| "not told".to_owned(), duration);
    let own = format!(
        "p50 {}, p99 {}, p99.9 {}",
        told(stage.own_lag.p50_us),
        told(stage.own_lag.p99_us),
        told(stage.own_lag.p99_9_us)
    );
    let cores = stage.load_cpu_s / stage.seconds;
    Ok(vec![
        claim.doubted_by(&open),
        Claim::told("lag: the generator's own part", own),
        Claim::told("lag: cores used by the generator", format!("{cores:.2}")),
    ])
}

/// Each sends a few dozen times a second, and is free again after a tenth of a millisecond.
const CONNECTIONS: u32 = 1_000;

/// The goal.
const LAG_MAX_US: f64 = 100.0;
