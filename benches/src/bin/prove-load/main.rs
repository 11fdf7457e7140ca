//! `prove-load`: whether `polyloop-load` tells the truth, found out on the real clock. `cargo xtask prove-load` builds
//! what it needs and runs it.
//!
//! The one idea: the generator is put before servers whose latency is known beforehand, and before itself.
//!
//! ```text
//!   stop     a server that is stopped for 1.4 s              p99 against what arithmetic says
//!   delays   a server whose delays are drawn from a law      the whole distribution against the law
//!   lag      a server that is quick                          how late the generator sends at half of its capacity
//!   pairs    the same server, again and again                how often `compare` sees a difference where there is none
//! ```
//!
//! Everything is measured by the binary as a user starts it, and read from the file that it writes.
//!
//! Exit code 0: every claim holds. 1: one fails, or something could not be measured. 2: wrong usage.

mod claim;
mod delays;
mod floor;
mod lag;
mod pairs;
mod rig;
mod stop;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};
use polyloop_benches::report::Table;
use polyloop_measure::host::{self, Congestion};

use claim::{Claim, Verdict};
use rig::Rig;

/// Proves that polyloop-load tells the truth, on this machine, now.
#[derive(Parser, Debug)]
#[command(name = "prove-load")]
struct Args {
    /// Shorter, to see that it works: some claims are then told and not judged.
    #[arg(long)]
    quick: bool,
    /// Prove this only; may be given several times.
    #[arg(long, value_enum)]
    only: Vec<Part>,
    /// Directory of the release binaries.
    #[arg(long, default_value = "target/release")]
    binaries: PathBuf,
    /// Core of the generator.
    #[arg(long, default_value_t = 0)]
    load_core: usize,
    /// Core of the server.
    #[arg(long, default_value_t = 1)]
    server_core: usize,
    /// Congestion control for the run; `host` keeps what the host has.
    #[arg(long, default_value = "cubic")]
    congestion: String,
}

/// Measures one part.
type Prove = fn(&Rig) -> Result<Vec<Claim>>;

#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Stop,
    Delays,
    Lag,
    Pairs,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("prove-load: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Answers whether no claim failed.
fn run(args: &Args) -> Result<bool> {
    host::clean_up_on_signals()?;
    host::raise_open_files()?;
    let wanted = (args.congestion != "host").then_some(args.congestion.as_str());
    let congestion = Congestion::set(wanted);
    let rig = Rig::new(args, wanted)?;
    let mut claims = Vec::new();
    let parts: [(Part, Prove); 4] = [
        (Part::Stop, stop::prove),
        (Part::Delays, delays::prove),
        (Part::Lag, lag::prove),
        (Part::Pairs, pairs::prove),
    ];
    for (part, prove) in parts {
        if args.only.is_empty() || args.only.contains(&part) {
            claims.extend(prove(&rig).with_context(|| format!("{part:?}").to_lowercase())?);
        }
    }
    println!("{}", table(&claims));
    println!("congestion control: {}", congestion.told());
    Ok(claims.iter().all(|claim| claim.verdict != Verdict::Fails))
}

fn table(claims: &[Claim]) -> Table {
    let mut table = Table::new(&["claim", "measured", "goal", "verdict", "doubts"]);
    for claim in claims {
        table.row(vec![
            claim.name.clone(),
            claim.measured.clone(),
            claim.goal.clone(),
            claim.verdict.as_str().to_owned(),
            claim.doubts.clone(),
        ]);
    }
    table
}
