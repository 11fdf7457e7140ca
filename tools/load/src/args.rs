//! The command line as it was typed. What it means is worked out in [`settings`](crate::settings).
#![allow(
    rustdoc::broken_intra_doc_links,
    reason = "the comments of flags are help texts, where [::1] is an address"
)]

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};
use polyloop_core::cores::CoreList;
use polyloop_core::units::{parse_bytes, parse_count, parse_duration};

use crate::compare::CompareArgs;
use crate::objective::Objective;
use crate::output::{Format, Live};
use crate::plan::arrivals::ArrivalKind;
use crate::plan::sizes::Sizes;
use crate::plan::sources::Sources;

/// What was typed.
#[derive(Debug, Parser)]
#[command(
    name = "polyloop-load",
    version,
    about = "Loads a TCP server by plan, and counts latency from the planned send",
    after_help = EXAMPLES,
    args_conflicts_with_subcommands = true,
    arg_required_else_help = true
)]
pub struct Cli {
    /// Something else than a load.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// The load.
    #[command(flatten)]
    pub run: RunArgs,
}

/// What else can be done.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Compare result files: ratios with a 95 % interval, ~ where the difference is noise
    Compare(CompareArgs),
}

/// The flags of a load.
#[derive(Debug, Clone, Default, Args)]
pub struct RunArgs {
    /// The server: HOST:PORT, [::1]:PORT or unix:/PATH; several are used in turn
    #[arg(value_name = "TARGET")]
    pub target: Vec<String>,

    /// Requests a second over all connections, sent by plan whether or not answers come, as in 50k/s [default: 1000/s; with
    /// --idle none]
    #[arg(long, short = 'r', value_name = "RATE", value_parser = parse_rate, help_heading = "Pace")]
    pub rate: Option<f64>,
    /// Closed loop: each connection sends again when its answer has come. Finds the maximum; its latency leaves out the time that
    /// a stopped server stops the load
    #[arg(long, conflicts_with_all = ["rate", "find_max"], help_heading = "Pace")]
    pub closed: bool,
    /// How planned sends are spread over time: exponential, fixed, bursty:N (N at once) [default: exponential, as independent
    /// users come]
    #[arg(long, value_name = "KIND", help_heading = "Pace")]
    pub arrivals: Option<ArrivalKind>,
    /// Search for the highest rate at which this holds, as in 'p99<2ms' or 'p99.9<10ms,errors<0.1%'; --rate is where it begins
    #[arg(long, value_name = "OBJECTIVE", help_heading = "Pace")]
    pub find_max: Option<Objective>,
    /// The search goes no further than this rate [default: until the generator cannot]
    #[arg(long, value_name = "RATE", value_parser = parse_rate, requires = "find_max", help_heading = "Pace")]
    pub max_rate: Option<f64>,
    /// How long to measure; with --find-max, one trial [default: 10s; 3s]
    #[arg(long, short = 'd', value_name = "TIME", value_parser = parse_duration, help_heading = "Pace")]
    pub duration: Option<Duration>,
    /// Load before measuring begins: so long at least, and until the pace no longer changes; 0s for none [default: 2s]
    #[arg(long, value_name = "TIME", value_parser = parse_duration, help_heading = "Pace")]
    pub warm_up: Option<Duration>,
    /// So long at most, and then with a doubt; the same as --warm-up for a fixed time [default: five times --warm-up]
    #[arg(long, value_name = "TIME", value_parser = parse_duration, help_heading = "Pace")]
    pub warm_up_max: Option<Duration>,
    /// How long answers are waited for when a stage is over, and what is overdue still goes out; what is missing then counts with its
    /// age [default: 2s]
    #[arg(long, value_name = "TIME", value_parser = parse_duration, help_heading = "Pace")]
    pub grace: Option<Duration>,

    /// Connections, as in 64 or 19k [default: 64]
    #[arg(long, short = 'c', value_name = "COUNT", value_parser = parse_count, help_heading = "Connections")]
    pub connections: Option<u64>,
    /// Connections made a second while they are built up [default: 10000/s]
    #[arg(long, value_name = "RATE", value_parser = parse_rate, help_heading = "Connections")]
    pub ramp_rate: Option<f64>,
    /// Addresses to come from, used in turn: 127.1.0.0/16, 127.0.0.2-127.0.0.9, a list. One address has 64,000 ports towards each
    /// target; use more beyond 25,000 connections [default: the system's choice; beyond 10,000
    /// connections to 127.0.0.1, as many of 127.0.0.1, 127.0.0.2 and so on as that takes]
    #[arg(long, value_name = "ADDRS", help_heading = "Connections")]
    pub sources: Option<Sources>,
    /// An answer, or a connection, that takes longer is given up, counted, and the connection made anew [default: 10s]
    #[arg(long, value_name = "TIME", value_parser = parse_duration, help_heading = "Connections")]
    pub timeout: Option<Duration>,
    /// The congestion control of the generator's sockets, as in cubic; bbr paces even on loopback [default: the system's]
    #[arg(long, value_name = "NAME", help_heading = "Connections")]
    pub congestion: Option<String>,

    /// Message sizes: 64, 1KiB, 64..1400 (even), exp:512 (exponential, mean 512), 64:90,16KiB:10 (weighted); each is expected back
    /// as it was sent and compared byte for byte [default: 64]
    #[arg(long, value_name = "SIZES", help_heading = "Workload")]
    pub size: Option<Sizes>,
    /// Requests of one connection that may be on their way at once [default: 1]
    #[arg(long, value_name = "COUNT", value_parser = parse_count, help_heading = "Workload")]
    pub pipeline: Option<u64>,
    /// A stream instead of messages, as fast as the peer takes it: up (to the server), down (from it), both
    #[arg(long, value_name = "WAY", conflicts_with_all = ["rate", "size", "pipeline", "script", "send", "http", "find_max"], help_heading = "Workload")]
    pub stream: Option<Way>,
    /// Connections that hold still; with --rate they trickle
    #[arg(long, conflicts_with_all = ["stream", "closed", "find_max"], help_heading = "Workload")]
    pub idle: bool,
    /// A file of requests and responses: lines of send "PING\r\n", expect "+PONG\r\n", expect-bytes N, expect-until "\r\n",
    /// expect-http
    #[arg(long, value_name = "FILE", conflicts_with_all = ["size", "send", "http"], help_heading = "Workload")]
    pub script: Option<PathBuf>,
    /// One request, as in 'PING\r\n'
    #[arg(long, value_name = "TEXT", requires = "expect", conflicts_with_all = ["size", "http"], help_heading = "Workload")]
    pub send: Option<String>,
    /// Its answer, as in '+PONG\r\n'
    #[arg(
        long,
        value_name = "TEXT",
        requires = "send",
        help_heading = "Workload"
    )]
    pub expect: Option<String>,
    /// HTTP/1.1 GET requests of this path
    #[arg(
        long,
        value_name = "PATH",
        conflicts_with = "size",
        help_heading = "Workload"
    )]
    pub http: Option<String>,
    /// Churn: so many connections a second, each with --requests-per-connection requests; latency counts from the planned connect
    #[arg(long, value_name = "RATE", value_parser = parse_rate, conflicts_with_all = ["rate", "stream", "idle", "find_max"], help_heading = "Workload")]
    pub connect_rate: Option<f64>,
    /// Requests of a connection of churn [default: 1]
    #[arg(long, value_name = "COUNT", value_parser = parse_count, conflicts_with_all = ["stream", "idle"], help_heading = "Workload")]
    pub requests_per_connection: Option<u64>,
    /// How a connection of churn ends [default: fin, as well-behaved clients do]
    #[arg(long, value_name = "HOW", conflicts_with_all = ["stream", "idle"], help_heading = "Workload")]
    pub close: Option<CloseArg>,
    /// Slow reader: bytes a second that each connection reads, as in 1KiB
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes, help_heading = "Workload")]
    pub read_rate: Option<u64>,
    /// Slow sender: bytes a second that each connection writes
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes, help_heading = "Workload")]
    pub write_rate: Option<u64>,

    /// A latency probe beside the load: so many requests a second on a loop and connections of its own; beside a --stream it sends
    /// messages, which the server has to echo [default with no value: 1 % of the load, at least 100/s]
    #[arg(long, value_name = "RATE", value_parser = parse_rate, num_args = 0..=1, default_missing_value = "0", help_heading = "Instrument")]
    pub probe: Option<f64>,
    /// Loops that carry the load [default: one for each second core, so that the server has the other half]
    #[arg(long, value_name = "COUNT", value_parser = parse_count, help_heading = "Instrument")]
    pub loops: Option<u64>,
    /// Cores for the loops, as in 0,2,4-7 [default: not pinned]
    #[arg(long, value_name = "LIST", help_heading = "Instrument")]
    pub cores: Option<CoreList>,
    /// How long before a planned send a loop stops sleeping: waking up takes a processor some ten microseconds [default: 50us]
    #[arg(long, value_name = "TIME", value_parser = parse_duration, help_heading = "Instrument")]
    pub spin: Option<Duration>,
    /// The server's process, or processes, whose processor time is told beside the load
    #[arg(
        long,
        value_name = "PID",
        value_delimiter = ',',
        help_heading = "Instrument"
    )]
    pub server_pid: Vec<u32>,
    /// Whether loops share the process's table of descriptors, which RLIMIT_NOFILE bounds: auto, shared, private (each loop has one
    /// of its own, and room for as many connections) [default: auto, private when one is not enough]
    #[arg(long, value_name = "WHICH", value_enum, help_heading = "Instrument")]
    pub fd_tables: Option<TablesArg>,
    /// Where everything random begins [default: 1, so that two runs are the same load]
    #[arg(long, value_name = "NUMBER", help_heading = "Instrument")]
    pub seed: Option<u64>,

    /// The whole result, rewritten after each stage
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub json: Option<PathBuf>,
    /// One row an interval
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub csv: Option<PathBuf>,
    /// Histograms of each interval, for HdrHistogram's tools
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub hlog: Option<PathBuf>,
    /// The spectrum of percentiles
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub hgrm: Option<PathBuf>,
    /// What goes to standard output at the end [default: text]
    #[arg(long, value_name = "FORMAT", value_enum, help_heading = "Output")]
    pub format: Option<Format>,
    /// The view while it runs, on standard error [default: auto, lines when that is no terminal]
    #[arg(long, value_name = "WHEN", value_enum, help_heading = "Output")]
    pub live: Option<Live>,
    /// How often a row is written and the view renewed [default: 1s]
    #[arg(long, value_name = "TIME", value_parser = parse_duration, help_heading = "Output")]
    pub interval: Option<Duration>,
    /// A reason to doubt the result is an error: exit code 4
    #[arg(long, action = ArgAction::SetTrue, help_heading = "Output")]
    pub strict: bool,
}

/// Whose the tables of descriptors are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum TablesArg {
    /// Private when one table is not enough.
    Auto,
    /// One for the process.
    Shared,
    /// One for each loop.
    Private,
}

/// Which way a stream goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Way {
    /// To the server.
    Up,
    /// From the server.
    Down,
    /// Both ways, what comes back dropped.
    Both,
}

/// How a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum CloseArg {
    /// FIN, and the server's is waited for.
    Fin,
    /// A reset: leaves no TIME_WAIT behind.
    Reset,
}

/// A rate: `50k/s`, `50k`, `0.5/s`.
fn parse_rate(text: &str) -> Result<f64, String> {
    let number = text
        .trim()
        .strip_suffix("/s")
        .unwrap_or_else(|| text.trim());
    if let Ok(rate) = number.parse::<f64>()
        && rate.is_finite()
        && rate >= 0.0
    {
        return Ok(rate);
    }
    parse_count(number)
        .map(|count| count as f64)
        .map_err(|error| format!("{error}; a rate is a number a second, as in 50k/s"))
}

const EXAMPLES: &str = "\
Examples:
  polyloop-load 127.0.0.1:7000 --rate 20k/s --connections 256 --duration 30s
  polyloop-load 127.0.0.1:7000 --closed --connections 64
  polyloop-load 127.0.0.1:7000 --find-max 'p99<2ms' --json found.json
  polyloop-load 127.0.0.1:6379 --send 'PING\\r\\n' --expect '+PONG\\r\\n' --rate 10k/s
  polyloop-load 127.0.0.1:8080 --http / --rate 5k/s
  polyloop-load 127.0.0.1:7000 --connections 19k --idle --duration 1m
  polyloop-load compare before.json after.json

Exit codes: 0 measured, 1 could not run (nobody answered, a file could not be opened or written), 2 wrong usage,
3 interrupted (what was measured is written), 4 doubtful under --strict.";

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        // Goal: no flag clashes with another. Method: clap's own check.
        Cli::command().debug_assert();
    }

    #[test]
    fn rates_are_read() {
        // Goal: each way to write a rate, and what is none.
        assert_eq!(parse_rate("50k/s"), Ok(50_000.0));
        assert_eq!(parse_rate("0.5/s"), Ok(0.5));
        assert_eq!(parse_rate("200"), Ok(200.0));
        for wrong in ["fast", "-1", "nan", "", "5/m"] {
            assert!(parse_rate(wrong).is_err(), "{wrong}");
        }
    }
}
