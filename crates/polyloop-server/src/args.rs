//! The command line as it was typed.
//!
//! The one idea: each value is parsed into a type that cannot be wrong by itself, and stays an `Option`, so that
//! [`settings`](crate::settings) can tell what was typed from what is a default. Nothing here is checked against
//! another flag, and nothing touches the machine.
//!
//! The help text is part of the program: it gives each default with its reason.
#![allow(
    rustdoc::broken_intra_doc_links,
    reason = "the comments of flags are help texts, where [::1] is an address"
)]

use std::fmt;
use std::time::Duration;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};
use polyloop::MemoryMax;
use polyloop_core::admission::WhenFull;
use polyloop_core::cores::{CoreList, OnCore};
use polyloop_core::placement::Pin;
use polyloop_core::spread::Spread;
use polyloop_core::units::{
    UnitError, format_bytes, parse_bytes, parse_count, parse_duration, parse_percent,
};
use polyloop_sys::ListenAddr;
use tracing_subscriber::filter::LevelFilter;

use crate::proxy::args::{self as proxy, CheckArgs, ProxyArgs};

/// What was typed.
#[derive(Debug, Parser)]
#[command(
    name = "polyloop",
    version,
    about = "Serves TCP with one pinned event loop per core, nothing shared between them",
    after_help = EXIT_CODES,
    arg_required_else_help = true
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to serve.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serve an echo: every byte comes back on the connection it came from
    #[command(after_help = EXAMPLES, allow_negative_numbers = true)]
    Echo(Box<ServeArgs>),
    /// Stand in front of servers: what clients send goes to one of them, and back
    #[command(after_help = proxy::EXAMPLES, allow_negative_numbers = true)]
    Proxy(Box<ProxyArgs>),
    /// Check a file of settings for the proxy, without serving
    #[command(after_help = proxy::CHECK_CODES)]
    Check(CheckArgs),
}

/// The flags of a server.
#[derive(Debug, Default, Clone, Args)]
pub(crate) struct ServeArgs {
    /// Addresses to serve: 127.0.0.1:7000, [::1]:7000, :7000 (everybody), unix:/run/echo.sock [default:
    /// 127.0.0.1:7000, this host only, so that nothing is exposed by accident]
    ///
    /// May be repeated. Port 0 lets the system choose; the line "listening on ADDR" on standard output tells which.
    #[arg(long, value_name = "ADDR", num_args = 1.., help_heading = "Listening")]
    pub(crate) listen: Vec<ListenAddr>,

    /// Connections that the kernel keeps per listener until they are accepted [default: 4096, the usual
    /// net.core.somaxconn, which bounds it]
    #[arg(long, value_name = "COUNT", value_parser = parse_count, help_heading = "Listening")]
    pub(crate) backlog: Option<u64>,

    /// Number of loops [default: one per core that the affinity mask and the cgroup quota grant; more only takes
    /// turns on the same cores]
    #[arg(long, value_name = "COUNT", value_parser = parse_count, help_heading = "Loops and cores")]
    pub(crate) loops: Option<u64>,

    /// Cores for the loops, in order, as in 0,2,4-7 [default: those of the affinity mask, physical cores first]
    #[arg(long, value_name = "LIST", help_heading = "Loops and cores")]
    pub(crate) cores: Option<CoreList>,

    /// Whether loops are pinned to cores [default: auto, which pins unless the quota is smaller than the mask or
    /// loops outnumber cores]
    #[arg(long, value_name = "WHEN", help_heading = "Loops and cores")]
    pub(crate) pin: Option<PinArg>,

    /// Settings for the loops on one core, as in 2:spin=100us,events=256; may be repeated
    ///
    /// Keys, with the flag each stands for: spin (--spin), events (--events-per-poll), read-bytes (--read-budget),
    /// quota (--quota), accept-burst (--accept-burst), inbox (--inbox-budget), output-high (--buffer-high), idle
    /// (--idle-timeout).
    #[arg(
        long,
        value_name = "CORE:KEY=VALUE,..",
        help_heading = "Loops and cores"
    )]
    pub(crate) on_core: Vec<OnCore>,

    /// How connections come to the loops [default: reuseport, which needs no hand-over]
    #[arg(long, value_name = "MODE", help_heading = "Spreading connections")]
    pub(crate) accept: Option<AcceptArg>,

    /// How the acceptor spreads: round-robin, least, two-choices, source-hash [default: two-choices, nearly as even
    /// as least and with three reads however many loops there are]
    #[arg(long, value_name = "HOW", help_heading = "Spreading connections")]
    pub(crate) spread: Option<Spread>,

    /// With reuseport: a loop this much over the mean hands new connections to the least loaded, as in 10%
    /// [default: never, the hash is even enough for short connections]
    #[arg(long, value_name = "PERCENT", value_parser = parse_percent, help_heading = "Spreading connections")]
    pub(crate) correct_above: Option<u16>,

    /// Connections open at once, as in 10k [default: all that fit under the limit of open files]
    #[arg(long, value_name = "COUNT", value_parser = parse_count, help_heading = "Limits")]
    pub(crate) max_connections: Option<u64>,

    /// Descriptors kept free for everything that is not a connection [default: 32, and 4 per loop]
    #[arg(long, value_name = "COUNT", value_parser = parse_count, help_heading = "Limits")]
    pub(crate) reserve: Option<u64>,

    /// What happens to connections beyond the limit: wait (in the backlog), refuse (close at once), evict-idle (close
    /// the longest idle instead) [default: wait, which loses nobody]
    #[arg(long, value_name = "POLICY", help_heading = "Limits")]
    pub(crate) when_full: Option<WhenFull>,

    /// Memory that may be in use before load is shed, as in 512MiB, auto (the limit of the control group), or off
    /// [default: auto, which does nothing where there is no such limit]
    ///
    /// From 92% on slow peers hold up their sources earlier, from 95% on nobody new is let in until there is room
    /// again; who comes meanwhile waits in the backlog. In a control group with a limit its whole use counts, elsewhere
    /// the resident memory of the process.
    #[arg(long, value_name = "SIZE|auto|off", help_heading = "Limits")]
    pub(crate) memory_max: Option<MemoryArg>,

    /// Output kept for a connection above which it is no longer read; reading goes on at half [default: 64KiB]
    #[arg(long, value_name = "SIZE", value_parser = parse_bytes, help_heading = "Limits")]
    pub(crate) buffer_high: Option<u64>,

    /// Poll this long before sleeping, as in 50us [default: 0, since a spinning loop takes the core from whoever
    /// shares it; 20us to 100us buy latency on a core of its own]
    #[arg(long, value_name = "TIME", value_parser = parse_duration, help_heading = "One turn of a loop")]
    pub(crate) spin: Option<Duration>,

    /// Events taken from one poll at most [default: 1024]
    #[arg(long, value_name = "COUNT", value_parser = parse_count, help_heading = "One turn of a loop")]
    pub(crate) events_per_poll: Option<u64>,

    /// Bytes read from one connection per turn, and the loop's read buffer [default: 64KiB, one full read]
    #[arg(long, value_name = "SIZE", value_parser = parse_bytes, help_heading = "One turn of a loop")]
    pub(crate) read_budget: Option<u64>,

    /// Time for ready connections before the loop looks at everything else [default: 500us]
    #[arg(long, value_name = "TIME", value_parser = parse_duration, help_heading = "One turn of a loop")]
    pub(crate) quota: Option<Duration>,

    /// Connections accepted from one listener per turn [default: 16, more would delay those being served]
    #[arg(long, value_name = "COUNT", value_parser = parse_count, help_heading = "One turn of a loop")]
    pub(crate) accept_burst: Option<u64>,

    /// Handed-over sockets, messages and job results taken per turn, so many of each [default: 256]
    #[arg(long, value_name = "COUNT", value_parser = parse_count, help_heading = "One turn of a loop")]
    pub(crate) inbox_budget: Option<u64>,

    /// Close a connection on which no byte moved for this long, or off [default: 10m, so that peers that vanished
    /// do not stay for ever]
    #[arg(long, value_name = "TIME|off", help_heading = "Timeouts")]
    pub(crate) idle_timeout: Option<TimeOrOff>,

    /// How long a connection that is ending waits for its peer to take the rest [default: 30s]
    #[arg(long, value_name = "TIME", value_parser = parse_duration, help_heading = "Timeouts")]
    pub(crate) linger: Option<Duration>,

    /// How long SIGTERM or SIGINT waits for connections to end by themselves; a second signal stops at once
    /// [default: 30s, within the patience of most supervisors]
    #[arg(long, value_name = "TIME", value_parser = parse_duration, help_heading = "Timeouts")]
    pub(crate) drain: Option<Duration>,

    /// Threads for jobs that compute; 0 refuses them all [default: 1, as the loops have the cores already]
    #[arg(long, value_name = "COUNT", value_parser = parse_count, help_heading = "Work off the loops")]
    pub(crate) offload_cpu: Option<u64>,

    /// Threads for jobs that wait, the admin pages among them; 0 refuses them all [default: 4]
    #[arg(long, value_name = "COUNT", value_parser = parse_count, help_heading = "Work off the loops")]
    pub(crate) offload_blocking: Option<u64>,

    /// Serve /metrics (Prometheus), /loops (JSON) and /healthz here: 127.0.0.1:9000 or unix:/run/polyloop.sock
    /// [default: nowhere]
    #[arg(long, value_name = "ADDR", help_heading = "Telemetry")]
    pub(crate) admin: Option<ListenAddr>,

    /// Allow an --admin address that other hosts can reach: nobody is asked for a password there
    #[arg(long, help_heading = "Telemetry")]
    pub(crate) admin_public: bool,

    /// Print a line of rates to standard error once an interval, as in 1s [default: never]
    #[arg(long, value_name = "TIME", value_parser = parse_duration, help_heading = "Telemetry")]
    pub(crate) report: Option<Duration>,

    /// Report a loop that has not turned for this long, or off [default: 100ms]
    #[arg(long, value_name = "TIME|off", help_heading = "Telemetry")]
    pub(crate) stall_after: Option<TimeOrOff>,

    /// Leave the listeners of a stuck loop alone, instead of letting a healthy loop accept from them
    #[arg(long, action = ArgAction::SetTrue, help_heading = "Telemetry")]
    pub(crate) no_rescue: bool,

    /// Least severe messages told: off, error, warn, info, debug, trace [default: info]
    #[arg(long, value_name = "LEVEL", value_parser = parse_level, help_heading = "Telemetry")]
    pub(crate) log: Option<LevelFilter>,
}

/// Whether loops are pinned, as typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum PinArg {
    /// Pin unless the quota is smaller than the mask or loops outnumber cores
    Auto,
    /// Pin whatever the quota says
    Always,
    /// Leave the loops to the scheduler
    Never,
}

impl From<PinArg> for Pin {
    fn from(pin: PinArg) -> Self {
        match pin {
            PinArg::Auto => Self::Auto,
            PinArg::Always => Self::Always,
            PinArg::Never => Self::Never,
        }
    }
}

/// How connections come to the loops, as typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum AcceptArg {
    /// Every loop listens, the kernel spreads by a hash of the addresses: best for short connections
    Reuseport,
    /// Every loop listens, a filter picks the loop of the core a connection arrived on: best when the network card
    /// spreads its queues over the cores
    ReuseportCpu,
    /// Loop 0 listens and hands connections over: best for few, long or uneven connections
    Acceptor,
}

/// A time that can be switched off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TimeOrOff(pub(crate) Option<Duration>);

impl std::str::FromStr for TimeOrOff {
    type Err = TimeOrOffError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "off" {
            return Ok(Self(None));
        }
        parse_duration(text)
            .map(|time| Self(Some(time)))
            .map_err(TimeOrOffError)
    }
}

/// A text that is neither a time nor `off`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}, or off")]
pub(crate) struct TimeOrOffError(UnitError);

/// A limit of memory, as typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MemoryArg(pub(crate) MemoryMax);

impl std::str::FromStr for MemoryArg {
    type Err = MemoryArgError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "auto" => Ok(Self(MemoryMax::Auto)),
            "off" => Ok(Self(MemoryMax::Off)),
            size => parse_bytes(size)
                .map(|bytes| Self(MemoryMax::Bytes(bytes)))
                .map_err(MemoryArgError),
        }
    }
}

impl fmt::Display for MemoryArg {
    /// Exactly: what is printed is read as the same.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            MemoryMax::Auto => f.write_str("auto"),
            MemoryMax::Off => f.write_str("off"),
            MemoryMax::Bytes(bytes) => {
                let short = format_bytes(bytes);
                if parse_bytes(&short) == Ok(bytes) {
                    f.write_str(&short)
                } else {
                    write!(f, "{bytes}")
                }
            }
        }
    }
}

/// A text that is neither a size nor one of the two words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}, or auto, or off")]
pub(crate) struct MemoryArgError(UnitError);

fn parse_level(text: &str) -> Result<LevelFilter, String> {
    // The type's own parser takes numbers and the empty text too, which nobody means.
    LEVELS
        .iter()
        .find(|(name, _)| *name == text)
        .map(|(_, level)| *level)
        .ok_or_else(|| {
            format!("{text:?} is no level; write off, error, warn, info, debug or trace")
        })
}

pub(crate) const LEVELS: [(&str, LevelFilter); 6] = [
    ("off", LevelFilter::OFF),
    ("error", LevelFilter::ERROR),
    ("warn", LevelFilter::WARN),
    ("info", LevelFilter::INFO),
    ("debug", LevelFilter::DEBUG),
    ("trace", LevelFilter::TRACE),
];

const EXIT_CODES: &str = "\
Exit codes:
  0  every connection ended by itself
  1  the server could not start, or a loop died
  2  the command line is wrong
  3  connections were cut: at the drain's deadline, or by a second signal";

const EXAMPLES: &str = "\
Examples:
  polyloop echo
          serve this host on port 7000, one loop per core
  polyloop echo --listen :7000 --admin 127.0.0.1:9000 --report 1s
          serve everybody; metrics for this host; a line of rates per second
  polyloop echo --accept acceptor --spread least --max-connections 10k --when-full refuse
          few and long connections, spread evenly, politely refused beyond 10,000
  polyloop echo --cores 0,2,4-7 --on-core 2:spin=100us,events=256
          one loop on each named core, and one of them tuned for latency

Sizes: 4096, 64k, 64KiB. Times: 50us, 100ms, 30s, 10m. Counts: 512, 10k.

Signals:
  SIGTERM, SIGINT  accept no more, wait for connections until --drain, then close; a second one stops at once
  SIGUSR1          print every counter to standard error

Exit codes:
  0  every connection ended by itself
  1  the server could not start, or a loop died
  2  the command line is wrong
  3  connections were cut: at the drain's deadline, or by a second signal";

#[cfg(test)]
mod tests;
