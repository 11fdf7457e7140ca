//! The same against itself: how often does `polyloop-load compare` see a difference where there is none?
//!
//! A pair is two sets of four short runs each, against the same server with the same flags, in turn: A B A B A B A B. The
//! verdicts are those of the library behind `polyloop-load compare`. With four runs a side its test calls 2 in 70 pairs of
//! equals different (2.9 %), as the smallest p that the ranks of four and four can have is below 0.05 and the next is not.
//!
//! That, too, is chance: of 100 pairs of equals, more than 5 are called different one time in fourteen for any one metric.
//! A single failure at 6 or 7 is a reason to run it again, not more.

use std::path::PathBuf;

use anyhow::{Context, Result};
use polyloop_benches::subject::Server;
use polyloop_load::compare::{CompareArgs, Metric};
use polyloop_measure::significance::Difference;

use crate::claim::{Claim, Verdict};
use crate::rig::Rig;

/// How a metric fared.
#[derive(Debug, Clone, Copy, Default)]
struct Count {
    /// Pairs that could tell it.
    told: usize,
    /// Pairs that were called different.
    different: usize,
}

/// See the module's documentation.
pub(crate) fn prove(rig: &Rig) -> Result<Vec<Claim>> {
    let pairs = rig.or_quick(PAIRS_TO_JUDGE, 10);
    let server = rig.echo()?;
    // What a new process is slower by would be on one side only.
    rig.load(&server, "--rate 40k/s --connections 64 --duration 1s")?;
    let mut counts = [Count::default(); METRICS.len()];
    for pair in 0..pairs {
        measure(rig, &server, pair, &mut counts).with_context(|| format!("pair {}", pair + 1))?;
        if (pair + 1) % 10 == 0 {
            eprintln!("pairs: {} of {pairs}", pair + 1);
        }
    }
    server.stop()?;
    let claims = METRICS.into_iter().zip(counts);
    Ok(claims.map(|(metric, count)| claim(metric, count)).collect())
}

fn claim(metric: Metric, count: Count) -> Claim {
    let allowed = (count.told as f64 * SHARE_MAX).floor() as usize;
    let mut claim = Claim::judged(
        &format!("pairs: equals called different, {}", metric.name()),
        format!("{} of {}", count.different, count.told),
        format!("<= {:.0} %", SHARE_MAX * 1e2),
        count.different <= allowed,
    );
    if count.told < PAIRS_TO_JUDGE {
        claim.verdict = Verdict::Told;
    }
    claim
}

fn measure(rig: &Rig, server: &Server, pair: usize, counts: &mut [Count]) -> Result<()> {
    let (mut a, mut b) = (Vec::new(), Vec::new());
    for index in 0..RUNS_PER_SIDE {
        for (name, side) in [("a", &mut a), ("b", &mut b)] {
            let json: PathBuf = rig.file(&format!("{name}{index}.json"));
            rig.begin(server, LOAD, &json)?.end()?;
            side.push(json);
        }
    }
    let compare = CompareArgs {
        a,
        b,
        seed: pair as u64,
        ..CompareArgs::default()
    };
    let report = compare.run()?;
    let stage = report.stages.first().context("no stage was compared")?;
    for (metric, count) in METRICS.into_iter().zip(counts) {
        let row = stage.rows.iter().find(|row| row.metric == metric);
        if let Some(difference) = row.and_then(|row| row.difference()) {
            count.told += 1;
            count.different += usize::from(difference != Difference::Noise);
        }
    }
    Ok(())
}

const METRICS: [Metric; 4] = [Metric::P50, Metric::P99, Metric::Mean, Metric::ServerCpu];

/// The shortest runs that tell a p99, which takes 10,000 answers: 800 of them have to end within some eight minutes.
const LOAD: &str = "--rate 40k/s --connections 64 --warm-up 0s --duration 300ms --interval 300ms";

/// The fewest with which the test calls anything different.
const RUNS_PER_SIDE: usize = 4;

/// The goal: at most this share of so many pairs.
const SHARE_MAX: f64 = 0.05;
const PAIRS_TO_JUDGE: usize = 100;
