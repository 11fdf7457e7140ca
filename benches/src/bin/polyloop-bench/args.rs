//! What was typed. The structures are also the `settings` of a result file, so every default is in it.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};
use serde::Serialize;

use polyloop_benches::gate::LIMIT_PERCENT;
use polyloop_benches::turns::slice_for;

use crate::proxy::args as proxy;

/// Benchmarks of polyloop: ratios to anchors, measured in one interleaved run.
#[derive(Parser)]
#[command(name = "polyloop-bench")]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(subcommand)]
    pub(crate) question: Question,
}

#[derive(clap::Args, Debug, Clone, Serialize)]
pub(crate) struct Common {
    /// The polyloop binary to measure.
    #[arg(long, global = true, default_value = "target/release/polyloop")]
    pub(crate) polyloop: PathBuf,
    /// Directory for the JSON result.
    #[arg(long, global = true, default_value = "target/bench")]
    pub(crate) out: PathBuf,
    /// Rounds; in each, every subject has its turn. Fewer than 6 decide nothing.
    #[arg(long, global = true, default_value_t = 10)]
    pub(crate) rounds: usize,
    /// Load before each measured window, in seconds.
    #[arg(long, global = true, default_value_t = 0.5)]
    pub(crate) warmup_seconds: f64,
    /// How long a server is loaded at a time where servers take turns, in seconds [default: 0.1, or 0.15 ms for each
    /// connection where that is more].
    #[arg(long, global = true)]
    pub(crate) slice_seconds: Option<f64>,
    /// Size of a message and its answer.
    #[arg(long, global = true, default_value_t = 64)]
    pub(crate) message_bytes: usize,
    /// Congestion control for the run; `host` keeps what the host has.
    #[arg(long, global = true, default_value = "cubic")]
    pub(crate) congestion: String,
    /// Connections opened per second; as fast as possible without it.
    #[arg(long, global = true)]
    pub(crate) connect_rate: Option<u32>,
    /// Seed of the bootstrap.
    #[arg(long, global = true, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Exit with code 3 when the result has warnings.
    #[arg(long, global = true)]
    pub(crate) strict: bool,
}

impl Common {
    pub(crate) fn warmup(&self) -> Duration {
        seconds(self.warmup_seconds)
    }

    pub(crate) fn slice(&self, connections: usize) -> Duration {
        self.slice_seconds
            .map_or_else(|| slice_for(connections), seconds)
    }

    /// `None` keeps the host's.
    pub(crate) fn congestion(&self) -> Option<&str> {
        (self.congestion != "host").then_some(&self.congestion)
    }
}

#[derive(Subcommand)]
pub(crate) enum Question {
    /// What does an echo cost beside a bare mio loop and tokio?
    EchoCost(EchoCost),
    /// Does an echo cost more beside the bare loop than the committed baseline says?
    ///
    /// Exit code 4 for a significant loss of more than the limit; undecided is 0, and 3 under `--strict`.
    Gate(Gate),
    /// How many system calls does an echo make at saturation?
    EchoSyscalls(EchoSyscalls),
    /// What does a second loop cost per request?
    Loops(Loops),
    /// How evenly do long connections fall on the loops?
    Balance(Balance),
    /// Does a handler that blocks one loop reach connections on another?
    Stall(Stall),
    /// Does work on the offload pool reach other connections of its loop?
    Offload(Offload),
    /// What do idle connections hold and use?
    Idle(Idle),
    /// What does a request cost the load generator beside wrk and a bare client?
    LoadCapacity(LoadCapacity),
    /// What does a request cost in the proxy beside HAProxy and nginx?
    ProxyCost(proxy::Cost),
    /// What does a gigabyte cost in the proxy, with and without splice?
    ProxyBulk(proxy::Bulk),
    /// What does a connection with one request cost in the proxy?
    ProxyConnect(proxy::Connect),
    /// What does an idle session hold in the proxy?
    ProxyMemory(proxy::Memory),
    /// What do clients hold that never read, and what do others notice?
    ProxyNeverReaders(proxy::NeverReaders),
    /// What does the proxy add to a latency at half load?
    ProxyLatency(proxy::Latency),
}

#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kind {
    /// The hand-written mio loop.
    BareMio,
    /// The tokio echo server, current-thread unless said otherwise.
    Tokio,
    /// The binary given by `--polyloop`.
    Polyloop,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::BareMio => "bare-mio",
            Self::Tokio => "tokio",
            Self::Polyloop => "polyloop",
        }
    }
}

#[derive(clap::Args, Debug, Clone, Serialize)]
pub(crate) struct EchoCost {
    /// Servers to compare.
    #[arg(long, value_delimiter = ',', default_value = "bare-mio,tokio,polyloop")]
    pub(crate) subjects: Vec<Kind>,
    /// Numbers of connections.
    #[arg(long, value_delimiter = ',', default_value = "64,1000")]
    pub(crate) connections: Vec<usize>,
    /// Length of a window.
    #[arg(long, default_value_t = 2.0)]
    pub(crate) seconds: f64,
    /// Core of the server.
    #[arg(long, default_value_t = 0)]
    pub(crate) server_core: usize,
    /// Core of the load.
    #[arg(long, default_value_t = 1)]
    pub(crate) load_core: usize,
}

#[derive(clap::Args, Debug, Clone)]
pub(crate) struct Gate {
    /// A result of `echo-cost` to judge; without it, it is measured.
    pub(crate) result: Option<PathBuf>,
    /// The file of the committed ratios.
    #[arg(long, default_value = "benches/baseline.toml")]
    pub(crate) baseline: PathBuf,
    /// A significant loss of more than so many percent fails.
    #[arg(long, value_name = "PERCENT", default_value_t = LIMIT_PERCENT, value_parser = percent)]
    pub(crate) limit: f64,
    /// Write the baseline anew, and judge nothing.
    #[arg(long)]
    pub(crate) update: bool,
    /// Length of a window.
    #[arg(long, default_value_t = 4.0)]
    pub(crate) seconds: f64,
    /// Core of the server.
    #[arg(long, default_value_t = 0)]
    pub(crate) server_core: usize,
    /// Core of the load.
    #[arg(long, default_value_t = 1)]
    pub(crate) load_core: usize,
}

/// A share of a hundred, above none.
fn percent(text: &str) -> Result<f64, String> {
    match text.trim_end_matches('%').parse::<f64>() {
        Ok(value) if value.is_finite() && value >= 0.0 => Ok(value),
        _ => Err("a percentage is a number, as in 3".to_owned()),
    }
}

#[derive(clap::Args, Debug, Clone, Serialize)]
pub(crate) struct EchoSyscalls {
    /// Servers to count.
    #[arg(long, value_delimiter = ',', default_value = "bare-mio,tokio,polyloop")]
    pub(crate) subjects: Vec<Kind>,
    /// Numbers of connections.
    #[arg(long, value_delimiter = ',', default_value = "64,1000")]
    pub(crate) connections: Vec<usize>,
    /// Length of the window under strace.
    #[arg(long, default_value_t = 2.0)]
    pub(crate) seconds: f64,
    /// Core of the server.
    #[arg(long, default_value_t = 0)]
    pub(crate) server_core: usize,
    /// Core of the load.
    #[arg(long, default_value_t = 1)]
    pub(crate) load_core: usize,
}

#[derive(clap::Args, Debug, Clone, Serialize)]
pub(crate) struct LoadCapacity {
    /// The load generator to measure.
    #[arg(long, default_value = "target/release/polyloop-load")]
    pub(crate) load: PathBuf,
    /// Connections of each generator.
    #[arg(long, default_value_t = 64)]
    pub(crate) connections: usize,
    /// Length of a run in whole seconds.
    #[arg(long, default_value_t = 3)]
    pub(crate) seconds: u64,
    /// Core of the generator.
    #[arg(long, default_value_t = 0)]
    pub(crate) load_core: usize,
    /// Core of the server.
    #[arg(long, default_value_t = 1)]
    pub(crate) server_core: usize,
}

#[derive(clap::Args, Debug, Clone, Serialize)]
pub(crate) struct Loops {
    /// Servers to compare with themselves on two threads.
    #[arg(long, value_delimiter = ',', default_value = "polyloop,tokio")]
    pub(crate) subjects: Vec<Kind>,
    /// Numbers of connections.
    #[arg(long, value_delimiter = ',', default_value = "64,1000")]
    pub(crate) connections: Vec<usize>,
    /// Length of a window.
    #[arg(long, default_value_t = 2.0)]
    pub(crate) seconds: f64,
    /// Cores of the loops; one loop takes the first.
    #[arg(long, value_delimiter = ',', default_value = "0,1")]
    pub(crate) server_cores: Vec<usize>,
    /// Cores of the load, one thread each, the same for one loop and for two; they are shared with the loops.
    #[arg(long, value_delimiter = ',', default_value = "0,1")]
    pub(crate) load_cores: Vec<usize>,
    /// Let the threads of the load go where the scheduler puts them.
    #[arg(long)]
    pub(crate) load_unpinned: bool,
}

#[derive(clap::Args, Debug, Clone, Serialize)]
pub(crate) struct Balance {
    /// Long connections.
    #[arg(long, default_value_t = 512)]
    pub(crate) connections: usize,
    /// Loops of the server.
    #[arg(long, default_value_t = 2)]
    pub(crate) loops: usize,
}

#[derive(clap::Args, Debug, Clone, Serialize)]
pub(crate) struct Probe {
    /// Connections that are measured.
    #[arg(long, default_value_t = 32)]
    pub(crate) connections: usize,
    /// Requests per second over all of them, by plan.
    #[arg(long, default_value_t = 20_000.0)]
    pub(crate) rate: f64,
    /// Length of a window; p99.9 needs 100,000 requests.
    #[arg(long, default_value_t = 6.0)]
    pub(crate) seconds: f64,
    /// Pause of the disturbing connection between two of its requests, in milliseconds.
    #[arg(long, default_value_t = 200)]
    pub(crate) pause_ms: u64,
    /// Core of the load.
    #[arg(long, default_value_t = 1)]
    pub(crate) load_core: usize,
}

#[derive(clap::Args, Debug, Clone, Serialize)]
pub(crate) struct Stall {
    /// The server whose handler blocks.
    #[arg(long, default_value = "target/release/examples/stall_echo")]
    pub(crate) server: PathBuf,
    /// Cores of its two loops.
    #[arg(long, default_value = "0,1")]
    pub(crate) server_cores: String,
    #[command(flatten)]
    pub(crate) probe: Probe,
}

#[derive(clap::Args, Debug, Clone, Serialize)]
pub(crate) struct Offload {
    /// The server that hashes.
    #[arg(long, default_value = "target/release/examples/offload_hash")]
    pub(crate) server: PathBuf,
    /// Core of its one loop.
    #[arg(long, default_value = "0")]
    pub(crate) server_cores: String,
    #[command(flatten)]
    pub(crate) probe: Probe,
}

#[derive(clap::Args, Debug, Clone, Serialize)]
pub(crate) struct Idle {
    /// Servers to look at.
    #[arg(long, value_delimiter = ',', default_value = "bare-mio,tokio,polyloop")]
    pub(crate) subjects: Vec<Kind>,
    /// Idle connections.
    #[arg(long, default_value_t = 19_000)]
    pub(crate) connections: usize,
    /// How long the server is watched at rest.
    #[arg(long, default_value_t = 2.0)]
    pub(crate) seconds: f64,
}

/// A length that was typed; what cannot be a length is none.
pub(crate) fn seconds(typed: f64) -> Duration {
    Duration::try_from_secs_f64(typed).unwrap_or(Duration::ZERO)
}
