//! What a load is, worked out from what was typed: every default filled in, every contradiction refused.
//!
//! Each setting is written down with its origin ([`Setting`]), since a result without its settings is a rumour.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use polyloop::server::ServerSettings;
use polyloop::{DescriptorTables, MemoryMax, Remote, Tuning};
use polyloop_core::placement::{Pin, Wish};
use polyloop_core::units::{format_count, format_duration};
use polyloop_measure::bill::ProcessBill;
use polyloop_sys::clock::monotonic_ns;
use polyloop_sys::descriptors;
use rustix::net::{AddressFamily, SocketType};

use crate::args::{CloseArg, RunArgs, TablesArg, Way};
use crate::engine::plan::PROBE_BYTES;
use crate::engine::{Churn, Pace, Plan, Workload};
use crate::objective::Objective;
use crate::output::{Format, Live, OutputSettings};
use crate::plan::arrivals::ArrivalKind;
use crate::plan::payload::Pattern;
use crate::plan::script::Script;
use crate::plan::sizes::Sizes;
use crate::plan::sources::Sources;
use crate::result::{Mode, Origin, Setting};

/// A load that can be run.
#[derive(Debug)]
pub struct Settings {
    /// What each connection does.
    pub plan: Arc<Plan>,
    /// What the loops are made with.
    pub server: ServerSettings,
    /// How fast.
    pub pace: Pace,
    /// Open or closed.
    pub mode: Mode,
    /// What to search for.
    pub find_max: Option<FindMax>,
    /// Before measuring, at least.
    pub warm_up: Duration,
    /// At most, while the pace still changes.
    pub warm_up_max: Duration,
    /// How long to measure, or a trial takes.
    pub duration: Duration,
    /// How long answers are waited for at the end of a stage.
    pub grace: Duration,
    /// How often a row is written.
    pub interval: Duration,
    /// The server's processes.
    pub server_pids: Vec<u32>,
    /// Whether a doubt is an error.
    pub is_strict: bool,
    /// Files and views.
    pub output: OutputSettings,
    /// All of it, for the result.
    pub list: Vec<Setting>,
}

/// A search that was asked for.
#[derive(Debug, Clone)]
pub struct FindMax {
    /// What has to hold.
    pub objective: Objective,
    /// Where the search begins.
    pub start_rate: f64,
    /// Where it ends.
    pub max_rate: Option<f64>,
}

/// Why a load cannot be run as it was asked for. The text names the thing, the reason and the way out.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct SettingsError(String);

fn refused<T>(text: impl Into<String>) -> Result<T, SettingsError> {
    Err(SettingsError(text.into()))
}

impl Settings {
    /// Works it out.
    ///
    /// # Errors
    /// A contradiction, a value out of its range, a target that cannot be found, a script that cannot be read, more connections
    /// than the system allows.
    pub fn new(args: &RunArgs) -> Result<Self, SettingsError> {
        let mut notes = Notes::default();
        let to = targets(&args.target)?;
        notes.typed("target", args.target.join(","));
        refuse_strange_names(args)?;
        let workload = workload(args, &mut notes)?;
        let (pace, mode) = pace(args, &mut notes);
        let find_max = find_max(args, &mut notes);
        let timing = Timing::new(args, &mut notes)?;
        let crowd = Crowd::new(args, &to, pace, &mut notes)?;
        let (tables, spin) = (crowd.tables, timing.spin);
        let plan = plan(args, to, workload, crowd, &timing, &mut notes);
        let server = ServerSettings {
            tables,
            ..server_settings(args, &plan, spin, &mut notes)
        };
        Ok(Self {
            plan: Arc::new(plan),
            server,
            pace,
            mode,
            find_max,
            warm_up: timing.warm_up,
            warm_up_max: timing.warm_up_max,
            duration: timing.duration,
            grace: timing.grace,
            interval: timing.interval,
            server_pids: args.server_pid.clone(),
            is_strict: args.strict,
            output: OutputSettings {
                json: args.json.clone(),
                csv: args.csv.clone(),
                hlog: args.hlog.clone(),
                hgrm: args.hgrm.clone(),
                live: args.live.unwrap_or(Live::Auto),
                format: args.format.unwrap_or(Format::Text),
            },
            list: notes.0,
        })
    }
}

/// How long everything takes.
struct Timing {
    warm_up: Duration,
    warm_up_max: Duration,
    duration: Duration,
    grace: Duration,
    interval: Duration,
    timeout: Duration,
    spin: Duration,
}

impl Timing {
    fn new(args: &RunArgs, notes: &mut Notes) -> Result<Self, SettingsError> {
        let seconds = Duration::from_secs;
        let duration_default = seconds(if args.find_max.is_some() { 3 } else { 10 });
        let warm_up = notes.time("warm-up", args.warm_up, seconds(2));
        let warm_up_max = warm_up.saturating_mul(WARM_UP_FACTOR);
        let timing = Self {
            warm_up,
            warm_up_max: notes.time("warm-up-max", args.warm_up_max, warm_up_max),
            duration: notes.time("duration", args.duration, duration_default),
            grace: notes.time("grace", args.grace, seconds(2)),
            interval: notes.time("interval", args.interval, seconds(1)),
            timeout: notes.time("timeout", args.timeout, seconds(10)),
            spin: notes.time("spin", args.spin, Duration::from_micros(50)),
        };
        if timing.interval < INTERVAL_MIN {
            return refused(format!(
                "--interval {}: a row is a tenth of a second at least; ask for {} or longer",
                format_duration(timing.interval),
                format_duration(INTERVAL_MIN)
            ));
        }
        if timing.warm_up_max < timing.warm_up {
            return refused(format!(
                "--warm-up-max {}: it takes {} at least (--warm-up); ask for as long or longer, or for a shorter --warm-up",
                format_duration(timing.warm_up_max),
                format_duration(timing.warm_up)
            ));
        }
        if timing.duration.is_zero() {
            return refused("--duration 0s: there is nothing to measure; ask for some seconds");
        }
        Ok(timing)
    }
}

/// How many connections, from where, and what carries them.
struct Crowd {
    connections: u64,
    probe_connections: u64,
    probe_rate_per_s: f64,
    loops: usize,
    tables: DescriptorTables,
    sources: Option<Sources>,
}

impl Crowd {
    fn new(
        args: &RunArgs,
        to: &[Remote],
        pace: Pace,
        notes: &mut Notes,
    ) -> Result<Self, SettingsError> {
        let connections = notes.or("connections", args.connections, 64);
        if connections == 0 {
            return refused("--connections 0: there is nothing to load with; ask for one at least");
        }
        let loops = notes.or("loops", args.loops, default_loops()).max(1) as usize;
        let probe_connections = if args.probe.is_some() {
            (connections / 100).clamp(1, PROBE_CONNECTIONS_MAX)
        } else {
            0
        };
        let probe_rate_per_s = args.probe.map_or(0.0, |asked| probe_rate_of(asked, pace));
        notes.maybe("probe", args.probe.map(|_| format!("{probe_rate_per_s}/s")));
        let tables = tables(args, connections + probe_connections, loops, notes)?;
        let typed = args.sources.clone();
        let is_typed = typed.is_some();
        let sources = typed.or_else(|| sources_on_loopback(to, connections));
        if let Some(sources) = &sources {
            notes.push("sources", sources, is_typed);
        }
        if let Some(sources) = &sources {
            let mut targets = to.iter().zip(&args.target);
            if let Some((_, stranger)) = targets.find(|(to, _)| !shares_family(sources, to)) {
                let family = if sources.is_ipv4() { "IPv4" } else { "IPv6" };
                return refused(format!(
                    "--sources {sources}: these are addresses of {family}, from which {stranger} cannot be reached; give \
                     sources of the target's family, or leave the flag out"
                ));
            }
            sources
                .enough_for(connections, to.len() as u64)
                .map_err(|shortage| SettingsError(format!("--sources: {shortage}")))?;
        }
        Ok(Self {
            connections,
            probe_connections,
            probe_rate_per_s,
            loops,
            tables,
            sources,
        })
    }
}

fn find_max(args: &RunArgs, notes: &mut Notes) -> Option<FindMax> {
    let objective = args.find_max.clone()?;
    notes.typed("find-max", &objective);
    // What is planned first; the search finds its way up or down from there.
    let start_rate = args.rate.unwrap_or(RATE_DEFAULT);
    notes.push("rate", &format!("{start_rate}/s"), args.rate.is_some());
    notes.maybe("max-rate", args.max_rate.map(|rate| format!("{rate}/s")));
    Some(FindMax {
        objective,
        start_rate,
        max_rate: args.max_rate,
    })
}

fn plan(
    args: &RunArgs,
    to: Vec<Remote>,
    workload: Workload,
    crowd: Crowd,
    timing: &Timing,
    notes: &mut Notes,
) -> Plan {
    let churn = churn(args, notes);
    let pipeline = notes.or("pipeline", args.pipeline, 1).max(1) as usize;
    notes.maybe("congestion", args.congestion.clone());
    notes.maybe("read-rate", args.read_rate.map(|rate| rate.to_string()));
    notes.maybe("write-rate", args.write_rate.map(|rate| rate.to_string()));
    let ramp_rate = notes
        .or("ramp-rate", args.ramp_rate, RAMP_RATE_DEFAULT)
        .max(1.0);
    let arrivals = args.arrivals.unwrap_or(ArrivalKind::Exponential);
    notes.push("arrivals", &arrivals, args.arrivals.is_some());
    let seed = notes.or("seed", args.seed, 1);
    let pattern = Pattern::new(seed, workload_bytes_max(&workload));
    Plan {
        to,
        sources: crowd.sources,
        congestion: args.congestion.as_deref().map(Arc::from),
        connections: crowd.connections,
        probe_connections: crowd.probe_connections,
        probe_rate_per_s: crowd.probe_rate_per_s,
        loops: crowd.loops,
        dial_from_ns: monotonic_ns(),
        dial_every_ns: 1e9 / ramp_rate,
        workload,
        churn,
        arrivals,
        pipeline,
        read_bytes_per_s: args.read_rate.map(|rate| rate.max(1) as f64),
        write_bytes_per_s: args.write_rate.map(|rate| rate.max(1) as f64),
        timeout_ns: (timing.timeout.as_nanos() as u64).max(NS_PER_MS),
        interval_ns: HAND_OVER_NS,
        pattern,
        seed,
    }
}

/// The settings as they are worked out.
#[derive(Debug, Default)]
struct Notes(Vec<Setting>);

impl Notes {
    fn push(&mut self, name: &str, value: &impl ToString, is_typed: bool) {
        let origin = if is_typed {
            Origin::Flag
        } else {
            Origin::Default
        };
        self.0.push(Setting::new(name, value.to_string(), origin));
    }

    fn typed(&mut self, name: &str, value: impl ToString) {
        self.push(name, &value, true);
    }

    fn maybe(&mut self, name: &str, value: Option<String>) {
        if let Some(value) = value {
            self.push(name, &value, true);
        }
    }

    fn or<T: ToString + Copy>(&mut self, name: &str, typed: Option<T>, default: T) -> T {
        let value = typed.unwrap_or(default);
        self.push(name, &value, typed.is_some());
        value
    }

    fn time(&mut self, name: &str, typed: Option<Duration>, default: Duration) -> Duration {
        let value = typed.unwrap_or(default);
        self.push(name, &format_duration(value), typed.is_some());
        value
    }
}

/// Names that the kernel has to know: a slip is told now, not as a figure that is missing in the result, or as an error of every
/// connection.
fn refuse_strange_names(args: &RunArgs) -> Result<(), SettingsError> {
    for &pid in &args.server_pid {
        ProcessBill::read(pid).map_err(|error| {
            SettingsError(format!(
                "--server-pid {pid}: {error:#}; name a process that runs on this host (pgrep finds it), or leave the flag out"
            ))
        })?;
    }
    if let Some(name) = &args.congestion {
        try_congestion(name).map_err(|error| {
            let known = fs::read_to_string(CONGESTIONS).unwrap_or_default();
            SettingsError(format!(
                "--congestion {name}: {error}; this kernel has {}, and others after modprobe tcp_NAME",
                known.trim()
            ))
        })?;
    }
    Ok(())
}

/// Asks for a congestion control as a connection would.
fn try_congestion(name: &str) -> io::Result<()> {
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None)?;
    rustix::net::sockopt::set_tcp_congestion(&socket, name)?;
    Ok(())
}

fn targets(texts: &[String]) -> Result<Vec<Remote>, SettingsError> {
    if texts.is_empty() {
        return refused("there is no target: name the server, as in polyloop-load 127.0.0.1:7000");
    }
    let mut remotes = Vec::new();
    for text in texts {
        if let Some(path) = text.strip_prefix("unix:") {
            remotes.push(Remote::Unix(Arc::from(Path::new(path))));
            continue;
        }
        let first: Option<SocketAddr> = match text.to_socket_addrs() {
            Ok(mut found) => found.next(),
            Err(error) => {
                return refused(format!(
                    "target {text}: {error}; write HOST:PORT, as in 127.0.0.1:7000 or [::1]:7000, or unix:/PATH"
                ));
            }
        };
        match first {
            Some(addr) => remotes.push(Remote::Tcp(addr)),
            None => return refused(format!("target {text}: the name has no address")),
        }
    }
    Ok(remotes)
}

fn workload(args: &RunArgs, notes: &mut Notes) -> Result<Workload, SettingsError> {
    if let Some(way) = args.stream {
        let chunk = STREAM_CHUNK_BYTES;
        notes.typed("stream", format!("{way:?}").to_lowercase());
        return Ok(match way {
            Way::Up => Workload::Up { chunk },
            Way::Down => Workload::Down,
            Way::Both => Workload::Flood { chunk },
        });
    }
    if let Some(path) = &args.script {
        notes.typed("script", path.display());
        let text = fs::read_to_string(path).map_err(|error| {
            SettingsError(format!(
                "--script {}: {error}; name a file of send and expect lines",
                path.display()
            ))
        })?;
        return Script::parse(&text)
            .map(Workload::Script)
            .map_err(|error| SettingsError(format!("--script {}: {error}", path.display())));
    }
    if let (Some(send), Some(expect)) = (&args.send, &args.expect) {
        notes.typed("send", send);
        notes.typed("expect", expect);
        // Escapes are those of a script, so that a shell's quoting is enough.
        let text = format!("send \"{}\"\nexpect \"{}\"\n", quoted(send), quoted(expect));
        return Script::parse(&text)
            .map(Workload::Script)
            .map_err(|error| SettingsError(format!("--send, --expect: {error}")));
    }
    if let Some(path) = &args.http {
        notes.typed("http", path);
        let target = args.target.first();
        // A path is no name of a host, and servers refuse it.
        let host = target.filter(|target| !target.starts_with("unix:"));
        let host = host.map_or("localhost", String::as_str);
        return Script::http_get(host, path)
            .map(Workload::Script)
            .map_err(|fault| SettingsError(format!("--http {path}: {fault}")));
    }
    let sizes = match &args.size {
        Some(sizes) => sizes.clone(),
        None => Sizes::fixed(64),
    };
    notes.push("size", &sizes, args.size.is_some());
    Ok(Workload::Echo { sizes })
}

/// A text as it stands between the quotes of a script: quotes and ends of lines that a shell has let through are escaped, those
/// that are already stay so.
fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len());
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '"' => quoted.push_str("\\\""),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\\' => {
                quoted.push('\\');
                quoted.extend(letters.next());
            }
            other => quoted.push(other),
        }
    }
    quoted
}

fn workload_bytes_max(workload: &Workload) -> usize {
    match workload {
        Workload::Echo { sizes } => sizes.max(),
        Workload::Up { chunk } | Workload::Flood { chunk } => *chunk,
        Workload::Down => PROBE_BYTES,
        Workload::Script(_) => 1,
    }
}

fn pace(args: &RunArgs, notes: &mut Notes) -> (Pace, Mode) {
    if args.closed || args.stream.is_some() {
        notes.push("closed", &true, args.closed);
        return (Pace::Closed, Mode::Closed);
    }
    if let Some(rate_per_s) = args.connect_rate {
        notes.typed("connect-rate", format!("{rate_per_s}/s"));
        return (Pace::Open { rate_per_s }, Mode::Open);
    }
    if args.find_max.is_some() {
        return (Pace::Silent, Mode::Open);
    }
    let default = if args.idle { 0.0 } else { RATE_DEFAULT };
    let rate_per_s = args.rate.unwrap_or(default);
    notes.push("rate", &format!("{rate_per_s}/s"), args.rate.is_some());
    if args.idle {
        notes.typed("idle", true);
    }
    if rate_per_s > 0.0 {
        (Pace::Open { rate_per_s }, Mode::Open)
    } else {
        (Pace::Silent, Mode::Open)
    }
}

fn churn(args: &RunArgs, notes: &mut Notes) -> Option<Churn> {
    let is_asked = args.connect_rate.is_some()
        || args.requests_per_connection.is_some()
        || args.close.is_some();
    is_asked.then(|| {
        let requests = notes.or("requests-per-connection", args.requests_per_connection, 1);
        let resets = args.close == Some(CloseArg::Reset);
        let how = if resets { "reset" } else { "fin" };
        notes.push("close", &how, args.close.is_some());
        Churn {
            requests: requests.max(1),
            resets,
            rate_is_of_connects: args.connect_rate.is_some() && !args.closed,
        }
    })
}

fn probe_rate_of(asked: f64, pace: Pace) -> f64 {
    if asked > 0.0 {
        return asked;
    }
    match pace {
        Pace::Open { rate_per_s } => (rate_per_s * PROBE_SHARE).max(PROBE_RATE_MIN),
        Pace::Closed | Pace::Silent => PROBE_RATE_MIN,
    }
}

fn server_settings(
    args: &RunArgs,
    plan: &Plan,
    spin: Duration,
    notes: &mut Notes,
) -> ServerSettings {
    let loops = plan.loops + usize::from(plan.probe_connections > 0);
    notes.maybe("cores", args.cores.as_ref().map(ToString::to_string));
    let mut tuning = Tuning {
        idle_timeout: None,
        alarm_spin: spin,
        // A long batch would make the sends that are due meanwhile late.
        quota: Duration::from_micros(100),
        timers_max: ALARMS_PER_TURN,
        inbox_max: INBOX_PER_TURN,
        ..Tuning::default()
    };
    if let Some(rate) = plan.read_bytes_per_s {
        // A slow reader that took 64 KiB at once would be a fast one that sleeps.
        tuning.read_bytes_max = ((rate / 10.0) as usize).clamp(4096, tuning.read_bytes_max);
    }
    // A message is written whole when there is room for a part of it.
    let largest = tuning.output_high_bytes + plan.pattern.len_max();
    tuning.output_max_bytes = tuning.output_max_bytes.max(largest);
    ServerSettings {
        wish: Wish {
            loops: Some(loops),
            cores: args.cores.clone(),
            pin: if args.cores.is_some() {
                Pin::Auto
            } else {
                Pin::Never
            },
        },
        tuning,
        // Connections of residents take no permits.
        connections_max: Some(1),
        stall_threshold: None,
        // An instrument that reads less under pressure would measure itself.
        memory_max: MemoryMax::Off,
        rescue: false,
        ..ServerSettings::default()
    }
}

/// Whether a target can be reached from the sources at all; that of a unix socket is not asked for one.
fn shares_family(sources: &Sources, remote: &Remote) -> bool {
    match remote {
        Remote::Tcp(addr) => addr.is_ipv4() == sources.is_ipv4(),
        Remote::Unix(_) => true,
    }
}

/// Sources of its own for a load on this host that one address has no quick ports for. Half of the local ports are looked
/// through for each connection before the other half is, by turns: with the first half in use a connect takes milliseconds.
fn sources_on_loopback(to: &[Remote], connections: u64) -> Option<Sources> {
    let is_loopback = |remote: &Remote| matches!(remote, Remote::Tcp(SocketAddr::V4(addr)) if addr.ip().is_loopback());
    let each = connections.div_ceil(to.len().max(1) as u64);
    let addresses = each.div_ceil(QUICK_PORTS);
    if addresses < 2 || !to.iter().all(is_loopback) {
        return None;
    }
    let last = u32::from(Ipv4Addr::LOCALHOST) + u32::try_from(addresses - 1).ok()?;
    let range = format!("{}-{}", Ipv4Addr::LOCALHOST, Ipv4Addr::from(last));
    range.parse().ok()
}

/// Of the 28,232 local ports that Linux has by default, less than half.
const QUICK_PORTS: u64 = 10_000;

/// Which tables hold the descriptors. More connections than they have room for: said before the first is made.
fn tables(
    args: &RunArgs,
    connections: u64,
    loops: usize,
    notes: &mut Notes,
) -> Result<DescriptorTables, SettingsError> {
    let limit = descriptors::raise_limit()
        .map_err(|error| SettingsError(format!("raising RLIMIT_NOFILE: {error}")))?;
    let room = limit.soft.saturating_sub(DESCRIPTORS_RESERVED);
    let asked = args.fd_tables.unwrap_or(TablesArg::Auto);
    let is_private = match asked {
        TablesArg::Auto => connections > room && loops > 1,
        TablesArg::Private => true,
        TablesArg::Shared => false,
    };
    let name = if is_private { "private" } else { "shared" };
    notes.push("fd-tables", &name, args.fd_tables.is_some());
    let room_of_all = room * if is_private { loops as u64 } else { 1 };
    if connections <= room_of_all {
        return Ok(if is_private {
            DescriptorTables::Private
        } else {
            DescriptorTables::Shared
        });
    }
    let loops_needed = connections.div_ceil(room.max(1));
    let plural = if loops == 1 { "" } else { "s" };
    refused(format!(
        "--connections {}: there is room for {} ({name} tables of descriptors, {loops} loop{plural}; RLIMIT_NOFILE is {}, of which \
         {DESCRIPTORS_RESERVED} are kept for files and polls). With --loops {loops_needed} each loop has a table of its own and \
         that suffices; or raise the hard limit (ulimit -Hn, LimitNOFILE=), or ask for fewer",
        format_count(connections),
        format_count(room_of_all),
        limit.soft,
    ))
}

/// Where the kernel lists what it can be asked for.
const CONGESTIONS: &str = "/proc/sys/net/ipv4/tcp_available_congestion_control";

fn default_loops() -> u64 {
    (polyloop_measure::host::cores() as u64 / 2).max(1)
}

/// A warm-up that is not steady after so many times the least that it takes is not waited for.
const WARM_UP_FACTOR: u32 = 5;

/// Few enough to see what a request costs a server that rests, and not to disturb one that works.
const RATE_DEFAULT: f64 = 1_000.0;

/// A server with the usual backlog of 4,096 accepts these without dropping a SYN.
const RAMP_RATE_DEFAULT: f64 = 10_000.0;

/// mutilate's and lancet's habit: a hundredth of the load.
const PROBE_SHARE: f64 = 0.01;
const PROBE_RATE_MIN: f64 = 100.0;
const PROBE_CONNECTIONS_MAX: u64 = 64;

/// Files, polls, wakers, the terminal.
const DESCRIPTORS_RESERVED: u64 = 64;

/// Loops hand over what they recorded so often; rows are made of several.
const HAND_OVER_NS: u64 = 100_000_000;
const INTERVAL_MIN: Duration = Duration::from_nanos(HAND_OVER_NS);

/// A read follows after so many sends at the latest: answers must not wait for a long row of sends that are due.
const ALARMS_PER_TURN: usize = 64;
const INBOX_PER_TURN: usize = 1024;

const STREAM_CHUNK_BYTES: usize = 64 * 1024;
const NS_PER_MS: u64 = 1_000_000;

#[cfg(test)]
mod tests;
