//! What was typed for the questions about the proxy.

use clap::ValueEnum;
use serde::Serialize;

use polyloop_benches::proxy::Kind;

/// Who takes part, and where everybody sits.
#[derive(clap::Args, Debug, Clone, Serialize)]
pub(crate) struct Seats {
    /// Core of the proxy.
    #[arg(long, default_value_t = 0)]
    pub(crate) proxy_core: usize,
    /// Core of the server behind it and of the clients.
    #[arg(long, default_value_t = 1)]
    pub(crate) load_core: usize,
}

/// A way to move bytes. `Kind` cannot be typed itself, as the library does not know the command line.
#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Way {
    /// The binary given by `--polyloop`, as it comes: splice once bulk.
    Polyloop,
    /// The same with `--splice off`.
    PolyloopCopy,
    /// HAProxy, `mode tcp`, as it comes: copies.
    Haproxy,
    /// HAProxy with `option splice-auto`.
    HaproxySplice,
    /// The stream module of nginx: copies.
    Nginx,
}

impl Way {
    pub(crate) fn kind(self) -> Kind {
        match self {
            Self::Polyloop => Kind::Polyloop,
            Self::PolyloopCopy => Kind::PolyloopCopy,
            Self::Haproxy => Kind::Haproxy,
            Self::HaproxySplice => Kind::HaproxySplice,
            Self::Nginx => Kind::Nginx,
        }
    }
}

#[derive(clap::Args, Debug, Clone, Serialize)]
pub(crate) struct Cost {
    /// Proxies to compare.
    #[arg(long, value_delimiter = ',', default_value = "polyloop,haproxy,nginx")]
    pub(crate) subjects: Vec<Way>,
    /// Numbers of sessions.
    #[arg(long, value_delimiter = ',', default_value = "64,1000,8000")]
    pub(crate) connections: Vec<usize>,
    /// Length of a window.
    #[arg(long, default_value_t = 2.0)]
    pub(crate) seconds: f64,
    #[command(flatten)]
    pub(crate) seats: Seats,
}

/// Where the bytes come from.
#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Source {
    /// Our own source and sink, which check every byte.
    Checked,
    /// The program iperf3 at both ends, which counts bytes.
    Iperf3,
}

#[derive(clap::Args, Debug, Clone, Serialize)]
pub(crate) struct Bulk {
    /// Proxies to compare.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "polyloop,polyloop-copy,haproxy,haproxy-splice,nginx"
    )]
    pub(crate) subjects: Vec<Way>,
    /// Numbers of streams.
    #[arg(long, value_delimiter = ',', default_value = "1,16")]
    pub(crate) streams: Vec<usize>,
    /// Gigabytes (10^9) of a window, over all streams.
    #[arg(long, default_value_t = 4.0)]
    pub(crate) gigabytes: f64,
    /// Where the bytes come from and go.
    #[arg(long, value_enum, default_value = "checked")]
    pub(crate) source: Source,
    #[command(flatten)]
    pub(crate) seats: Seats,
}

#[derive(clap::Args, Debug, Clone, Serialize)]
pub(crate) struct Connect {
    /// Proxies to compare.
    #[arg(long, value_delimiter = ',', default_value = "polyloop,haproxy,nginx")]
    pub(crate) subjects: Vec<Way>,
    /// Sessions under way at once.
    #[arg(long, default_value_t = 32)]
    pub(crate) at_once: usize,
    /// Length of a window.
    #[arg(long, default_value_t = 2.0)]
    pub(crate) seconds: f64,
    #[command(flatten)]
    pub(crate) seats: Seats,
}

#[derive(clap::Args, Debug, Clone, Serialize)]
pub(crate) struct Memory {
    /// Proxies to look at.
    #[arg(long, value_delimiter = ',', default_value = "polyloop,haproxy,nginx")]
    pub(crate) subjects: Vec<Way>,
    /// Idle sessions.
    #[arg(long, default_value_t = 5_000)]
    pub(crate) connections: usize,
    #[command(flatten)]
    pub(crate) seats: Seats,
}

#[derive(clap::Args, Debug, Clone, Serialize)]
pub(crate) struct NeverReaders {
    /// Proxies to look at.
    #[arg(long, value_delimiter = ',', default_value = "polyloop,haproxy,nginx")]
    pub(crate) subjects: Vec<Way>,
    /// Clients that never read.
    #[arg(long, default_value_t = 8_000)]
    pub(crate) connections: usize,
    /// Connections of the client who does.
    #[arg(long, default_value_t = 1)]
    pub(crate) fast: usize,
    /// Its requests per second, by plan.
    #[arg(long, default_value_t = 2_000.0)]
    pub(crate) rate: f64,
    /// Length of each of its two windows; p99 needs 10,000 requests.
    #[arg(long, default_value_t = 6.0)]
    pub(crate) seconds: f64,
    /// Wait so long when nothing moves any more, in seconds: until the kernel has asked for the closed windows six times.
    #[arg(long, default_value_t = 13.0)]
    pub(crate) quiet_seconds: f64,
    #[command(flatten)]
    pub(crate) seats: Seats,
}

#[derive(clap::Args, Debug, Clone, Serialize)]
pub(crate) struct Latency {
    /// Proxies to compare; the way without one is always measured.
    #[arg(long, value_delimiter = ',', default_value = "polyloop,haproxy,nginx")]
    pub(crate) subjects: Vec<Way>,
    /// Sessions.
    #[arg(long, default_value_t = 64)]
    pub(crate) connections: usize,
    /// Requests per second, the same for all; without it, half of what the slowest proxy carries in a closed loop
    /// before the rounds, or less where the clients cannot send as much.
    #[arg(long)]
    pub(crate) rate: Option<f64>,
    /// Length of a window; p99.9 needs 100,000 requests.
    #[arg(long, default_value_t = 6.0)]
    pub(crate) seconds: f64,
    #[command(flatten)]
    pub(crate) seats: Seats,
}
