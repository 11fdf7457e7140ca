//! How late does the generator send at half of its capacity?
//!
//! Its capacity is what one loop sends when it is asked, in an open loop, for all that it does in a closed one. At half of it,
//! by exponential arrivals, requests come in clusters, and those within one wait for each other: that is part of the lag, as
//! a server would notice it. There are so many connections that few requests find theirs busy; the generator's own part,
//! which leaves these out, is told beside.
//!
//! Where a thread that only looks at the clock is later than the goal at the same quantile ([`floor`]), no generator can meet
//! it, and the claim is undecided.

use std::time::Duration;

use anyhow::{Context, Result};

use crate::claim::{Claim, Verdict, duration};
use crate::floor;
use crate::rig::{Rig, measured};

/// See the module's documentation.
pub(crate) fn prove(rig: &Rig) -> Result<Vec<Claim>> {
    let (closed_s, open_s) = rig.or_quick((5, 20), (2, 6));
    eprintln!("lag: twice {closed_s} s for the capacity, {open_s} s at half of it");
    let watch = || floor::measure(rig.load_core, Duration::from_secs(closed_s), LAG_MAX_US);
    let before = watch()?;
    let server = rig.echo()?;
    let closed = rig.load(
        &server,
        &format!("--closed --connections {CONNECTIONS} --duration {closed_s}s"),
    )?;
    let most = measured(&closed)?.rates.completed.floor();
    let flooded = rig.load(
        &server,
        &format!("--rate {most} --connections {CONNECTIONS} --duration {closed_s}s"),
    )?;
    let capacity = measured(&flooded)?.rates.sent;
    let rate = (capacity / 2.0).floor();
    let arguments = format!(
        "--rate {rate} --arrivals exponential --connections {CONNECTIONS} --duration {open_s}s"
    );
    let open = rig.load(&server, &arguments)?;
    server.stop()?;
    let after = watch()?;
    let least = if after.p99_9_us < before.p99_9_us {
        after
    } else {
        before
    };

    let stage = measured(&open)?;
    let lag_us = stage
        .lag
        .p99_9_us
        .context("the p99.9 of the lag is not told: there were fewer than 100,000 requests sent")?;
    let mut claim = Claim::judged(
        "lag: send lag p99.9 at half of the capacity",
        format!("{} at {rate:.0}/s", duration(lag_us)),
        format!("<= {}", duration(LAG_MAX_US)),
        lag_us <= LAG_MAX_US,
    );
    if claim.verdict == Verdict::Fails && least.p99_9_us > LAG_MAX_US {
        claim.verdict = Verdict::Undecided;
    }
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
        Claim::told(
            "lag: at best, by the gaps of a thread that only reads the clock",
            format!(
                "p99.9 {}, {:.2} % later than {}",
                duration(least.p99_9_us),
                least.share_late * 1e2,
                duration(LAG_MAX_US)
            ),
        ),
        Claim::told("lag: cores used by the generator", format!("{cores:.2}")),
    ])
}

/// Each sends a few dozen times a second, and is free again after a tenth of a millisecond.
const CONNECTIONS: u32 = 1_000;

/// The goal.
const LAG_MAX_US: f64 = 100.0;
