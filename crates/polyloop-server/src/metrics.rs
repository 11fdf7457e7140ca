//! Every number, in the text format of Prometheus (version 0.0.4).
//!
//! The one idea: a family is opened once, with its help and type, and then gets its samples, loop by loop; the type
//! [`Family`] makes another order impossible. Nothing is aggregated: sums are the reader's.
//!
//! A counter of a loop that is called `accepted` in code and documentation is `polyloop_accepted_total` here, with the
//! label `loop`. Times of loops and pools are summaries in seconds; a maximum since the start is quantile 1. What a proxy
//! tells of its sessions are histograms with few steps, since those can be added up over processes.

use std::fmt::{self, Write as _};
use std::sync::atomic::Ordering::Relaxed;
use std::time::{SystemTime, UNIX_EPOCH};

use polyloop::hist::AtomicHistogram;
use polyloop::offload::PoolStats;
use polyloop::telemetry::{Kind, LoopBoard};
use polyloop::{CloseReason, GateKind, Life, Status};

use polyloop_proxy::health::State;
use polyloop_proxy::names::Name;
use polyloop_proxy::ports::Shortage;
use polyloop_proxy::site::{
    Backend, BackendBoard, Ended, ListenerBoard, Site, Spread, SpreadTotal,
};
use polyloop_proxy::termination::Cause;

use crate::process::Process;
use crate::quantiles::{QUANTILES, Reader};

/// The content type of the format.
pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Renders everything. It copies histograms and reads /proc: not for a loop.
pub(crate) fn render(status: &Status, log_lines_dropped: u64) -> String {
    let mut page = Page::default();
    server(&mut page, status, log_lines_dropped);
    process(&mut page, status);
    loops(&mut page, status);
    closes(&mut page, status);
    let mut reader = Reader::new();
    loop_summaries(&mut page, status, &mut reader);
    pools(&mut page, status, &mut reader);
    page.text
}

/// Renders what a proxy knows of its listeners and backends: sums over the loops, since a series for each loop and backend
/// would be too many.
pub(crate) fn render_proxy(site: &Site) -> String {
    let mut page = Page::default();
    let now_ms = polyloop_sys::clock::monotonic_ns() / 1_000_000;
    proxy_listeners(&mut page, site);
    let lost = site.records_lost();
    let help = "Access records that found no room in the queue to the thread that writes the file.";
    page.family("proxy_access_log_dropped", Type::Counter, help)
        .sample(&[], lost.dropped);
    let help = "Access records that the system did not take.";
    page.family("proxy_access_log_write_errors", Type::Counter, help)
        .sample(&[], lost.write_errors);
    proxy_backends(&mut page, site, now_ms);
    proxy_names(&mut page, site, now_ms);
    page.text
}

fn proxy_listeners(page: &mut Page, site: &Site) {
    let names = || {
        site.settings
            .listeners
            .iter()
            .map(|settings| &settings.name)
    };
    let mut live = page.family("proxy_live", Type::Gauge, "Sessions of a listener.");
    for (at, name) in names().enumerate() {
        live.sample(&[("listener", name)], site.live(at));
    }
    let Some(first) = site.listeners.first().and_then(|l| l.boards.first()) else {
        return;
    };
    let mut families = Vec::new();
    first.each(&mut |name, help, _| families.push((name, help)));
    for (nth, (name, help)) in families.into_iter().enumerate() {
        let mut family = page.family(&format!("proxy_{name}"), Type::Counter, help);
        for (listener, settings_name) in site.listeners.iter().zip(names()) {
            let sum = sum_of(&listener.boards, nth, ListenerBoard::each);
            family.sample(&[("listener", settings_name)], sum);
        }
    }
    let help = "Sessions refused, by why.";
    let mut refused = page.family("proxy_refused", Type::Counter, help);
    for (listener, name) in site.listeners.iter().zip(names()) {
        for (at, reason) in Cause::REFUSALS.iter().enumerate() {
            let boards = listener.boards.iter();
            let sum: u64 = boards.map(|board| board.refused[at].value()).sum();
            refused.sample(&[("listener", name), ("reason", reason)], sum);
        }
    }
    for spread in &SESSION_SPREADS {
        let name = format!("proxy_{}", spread.name);
        let mut family = page.family(&name, Type::Histogram, spread.help);
        for (listener, name) in site.listeners.iter().zip(names()) {
            let boards = listener.boards.iter();
            let total = SpreadTotal::of(boards.map(|board| (spread.of)(&board.ended_spread)));
            family.histogram(&[("listener", name)], &total, spread.unit);
        }
    }
}

/// What is told of how sessions were, for listeners and for backends.
struct SessionSpread {
    name: &'static str,
    help: &'static str,
    of: fn(&Ended) -> &Spread,
    unit: f64,
}

const SESSION_SPREADS: [SessionSpread; 3] = [
    SessionSpread {
        name: "session_seconds",
        help: "From accept to the end of a session.",
        of: |ended| &ended.length,
        unit: NS,
    },
    SessionSpread {
        name: "session_bytes_up",
        help: "Bytes of a session from its client.",
        of: |ended| &ended.bytes_up,
        unit: 1.0,
    },
    SessionSpread {
        name: "session_bytes_down",
        help: "Bytes of a session to its client.",
        of: |ended| &ended.bytes_down,
        unit: 1.0,
    },
];

/// Source ports towards each address of each backend, as far as any were taken.
fn proxy_ports(page: &mut Page, site: &Site, now_ms: u64) {
    type Of = fn(&Shortage) -> u32;
    let numbers: [(&str, &str, Of); 2] = [
        (
            "backend_ports_used",
            "Source ports in use towards a backend.",
            |ports| ports.used,
        ),
        (
            "backend_ports_capacity",
            "Source ports there are towards a backend.",
            |ports| ports.range.capacity(),
        ),
    ];
    for (name, help, number) in numbers {
        let mut family = page.family(name, Type::Gauge, help);
        for (group, backend_name, backend) in backends_of(site) {
            for ports in backend.ports.all(now_ms) {
                let from = ports.source.map_or(String::new(), |from| from.to_string());
                let labels: Labels<'_> = &[
                    ("group", group),
                    ("backend", backend_name),
                    ("from", &from),
                    ("to", &ports.backend),
                ];
                family.sample(labels, number(&ports));
            }
        }
    }
}

fn proxy_backends(page: &mut Page, site: &Site, now_ms: u64) {
    let all = || backends_of(site);
    let mut live = page.family("backend_live", Type::Gauge, "Sessions at a backend.");
    for (group, name, backend) in all() {
        live.sample(&[("group", group), ("backend", name)], backend.taken());
    }
    let mut states = page.family(
        "backend_state",
        Type::Gauge,
        "1 for what a backend is, else 0.",
    );
    for (group, name, backend) in all() {
        let is = backend.published().state(now_ms);
        for state in State::ALL {
            let labels: Labels<'_> = &[
                ("group", group),
                ("backend", name),
                ("state", &state.name()),
            ];
            states.sample(labels, u8::from(state == is));
        }
    }
    let mut ejected = page.family(
        "backend_ejected",
        Type::Counter,
        "Times a backend was ejected.",
    );
    for (group, name, backend) in all() {
        let count = backend
            .changes
            .ejected
            .load(std::sync::atomic::Ordering::Relaxed);
        ejected.sample(&[("group", group), ("backend", name)], count);
    }
    proxy_ports(page, site, now_ms);
    let Some(first) = all()
        .next()
        .and_then(|(_, _, backend)| backend.boards.first())
    else {
        return;
    };
    let mut families = Vec::new();
    first.each(&mut |name, help, _| families.push((name, help)));
    for (nth, (name, help)) in families.into_iter().enumerate() {
        let mut family = page.family(&format!("backend_{name}"), Type::Counter, help);
        for (group, backend_name, backend) in all() {
            let sum = sum_of(&backend.boards, nth, BackendBoard::each);
            family.sample(&[("group", group), ("backend", backend_name)], sum);
        }
    }
    backend_times(page, site);
}

/// Names of backends that are looked up.
fn proxy_names(page: &mut Page, site: &Site, now_ms: u64) {
    if site.names.is_empty() {
        return;
    }
    let mut family = |name, kind, help, value: &dyn Fn(&Name) -> f64| {
        let mut family = page.family(name, kind, help);
        for name in &site.names {
            let group = &site.settings.groups[name.group].name;
            family.sample(&[("group", group), ("name", &name.text())], value(name));
        }
    };
    let help = "Look-ups of a name that have ended.";
    family("name_look_ups", Type::Counter, help, &|name| {
        name.look_ups.load(Relaxed) as f64
    });
    let help = "Look-ups of a name that failed; its last addresses stay.";
    family("name_failures", Type::Counter, help, &|name| {
        name.failures.load(Relaxed) as f64
    });
    let help = "Addresses of a name, over all its backends.";
    family("name_addresses", Type::Gauge, help, &|name| {
        name.addresses(site) as f64
    });
    let help = "When a name was last answered, in seconds since 1970; 0 if it never was.";
    let wall = SystemTime::now().duration_since(UNIX_EPOCH);
    let wall_ms = wall.map_or(0, |wall| {
        u64::try_from(wall.as_millis()).unwrap_or(u64::MAX)
    });
    family(
        "name_answered_seconds",
        Type::Gauge,
        help,
        &|name| match name.answered_ms.load(Relaxed) {
            0 => 0.0,
            answered_ms => wall_ms.saturating_sub(now_ms.saturating_sub(answered_ms)) as f64 / 1e3,
        },
    );
}

/// Every backend with the names of its group and its own.
fn backends_of(site: &Site) -> impl Iterator<Item = (&String, &String, &Backend)> {
    let groups = site.settings.groups.iter().zip(&site.groups);
    groups.flat_map(|(settings, group)| {
        let backends = settings.backends.iter().zip(&group.backends);
        backends.map(|(backend, state)| (&settings.name, &backend.name, state))
    })
}

fn backend_times(page: &mut Page, site: &Site) {
    let all = || backends_of(site);
    let mut connects = page.family(
        "backend_connect_seconds",
        Type::Histogram,
        "From asking for a connection to having it.",
    );
    for (group, name, backend) in all() {
        let total = SpreadTotal::of(backend.boards.iter().map(|board| &board.connect_spread));
        connects.histogram(&[("group", group), ("backend", name)], &total, NS);
    }
    for spread in &SESSION_SPREADS {
        let name = format!("backend_{}", spread.name);
        let mut family = page.family(&name, Type::Histogram, spread.help);
        for (group, name, backend) in all() {
            let boards = backend.boards.iter();
            let total = SpreadTotal::of(boards.map(|board| (spread.of)(&board.ended_spread)));
            family.histogram(&[("group", group), ("backend", name)], &total, spread.unit);
        }
    }
}

/// The sum over loops of the `nth` counter of their boards.
fn sum_of<B>(
    boards: &[B],
    nth: usize,
    each: fn(&B, &mut dyn FnMut(&'static str, &'static str, u64)),
) -> u64 {
    let value = |board: &B| {
        let mut values = Vec::new();
        each(board, &mut |_, _, value| values.push(value));
        values.get(nth).copied().unwrap_or(0)
    };
    boards.iter().map(value).sum()
}

fn server(page: &mut Page, status: &Status, log_lines_dropped: u64) {
    page.family("build_info", Type::Gauge, "1, with the version as a label.")
        .sample(&[("version", &env!("CARGO_PKG_VERSION"))], 1);
    let mut life = page.family(
        "life",
        Type::Gauge,
        "1 for where the server stands, else 0.",
    );
    for at in [Life::Starting, Life::Serving, Life::Draining, Life::Ended] {
        life.sample(&[("state", &at.name())], u8::from(status.life() == at));
    }
    page.family("uptime_seconds", Type::Gauge, "Seconds since the start.")
        .sample(&[], seconds(status.uptime_ns()));
    page.family("loops", Type::Gauge, "Number of loops.")
        .sample(&[], status.boards.len());
    let mut listeners = page.family("listener_info", Type::Gauge, "1 for each listener.");
    for listener in &status.listeners {
        let kind = match listener.kind {
            GateKind::Service => "service",
            GateKind::Admin { .. } => "admin",
        };
        let labels: Labels<'_> = &[
            ("listener", &listener.index),
            ("addr", &listener.addr),
            ("kind", &kind),
        ];
        listeners.sample(labels, 1);
    }
    page.family("permits_in_use", Type::Gauge, "Connection permits in use.")
        .sample(&[], status.permits.in_use());
    page.family(
        "permits_cap",
        Type::Gauge,
        "Connections that may be open at once.",
    )
    .sample(&[], status.permits.cap());
    page.family(
        "permits_resumed",
        Type::Counter,
        "Times a loop that waited for a permit was told to go on.",
    )
    .sample(&[], status.permits.resumed());
    page.family(
        "descriptors_reserved",
        Type::Gauge,
        "Descriptors that are not for connections.",
    )
    .sample(&[], status.descriptors.reserve);
    memory(page, status);
    page.family(
        "log_lines_dropped",
        Type::Counter,
        "Lines for standard error that it did not take.",
    )
    .sample(&[], log_lines_dropped);
}

/// Memory and what is shed for want of it. The figures stand there only if somebody reads them.
fn memory(page: &mut Page, status: &Status) {
    if let Some(facts) = &status.memory {
        let help = "Memory in use, of what polyloop_memory_max_bytes bounds.";
        page.family("memory_bytes", Type::Gauge, help)
            .sample(&[], status.overload.used_bytes());
        let help = "Memory that may be in use.";
        page.family("memory_max_bytes", Type::Gauge, help)
            .sample(&[], facts.max_bytes);
    }
    let help = "0: nothing is shed; 1: slow peers are waited for earlier; 2: nobody new is let in.";
    page.family("overload_level", Type::Gauge, help)
        .sample(&[], status.overload.level() as u8);
    let help = "Times that level changed.";
    page.family("overload_changes", Type::Counter, help)
        .sample(&[], status.overload.changes());
}

/// The names that Prometheus clients in all languages use, so that common dashboards work.
fn process(page: &mut Page, status: &Status) {
    let process = Process::read();
    let mut single = |name, kind, help, value: Option<f64>| {
        if let Some(value) = value {
            page.foreign_family(name, kind, help).sample(&[], value);
        }
    };
    let help = "Processor time of all threads, in seconds.";
    single(
        "process_cpu_seconds",
        Type::Counter,
        help,
        process.cpu_seconds,
    );
    let help = "Open descriptors.";
    let open = process.descriptors_open.map(|count| count as f64);
    single("process_open_fds", Type::Gauge, help, open);
    let help = "Limit of open descriptors.";
    let limit = status.descriptors.limit.soft as f64;
    single("process_max_fds", Type::Gauge, help, Some(limit));
    let help = "Memory in use.";
    let resident = process.resident_bytes.map(|bytes| bytes as f64);
    single("process_resident_memory_bytes", Type::Gauge, help, resident);
    let help = "Start of the process, in seconds since 1970.";
    let started = process.started_unix_seconds;
    single(
        "process_start_time_seconds",
        Type::Gauge,
        help,
        Some(started),
    );
}

fn loops(page: &mut Page, status: &Status) {
    let numbers: Vec<Vec<u64>> = status.boards.iter().map(|board| values(board)).collect();
    let mut at = 0;
    status.boards[0].numbers.each(|name, kind, help, _| {
        let kind = match kind {
            Kind::Counter => Type::Counter,
            Kind::Gauge => Type::Gauge,
        };
        let mut family = page.family(name, kind, help);
        for (index, numbers) in numbers.iter().enumerate() {
            family.sample(&[("loop", &index)], numbers[at]);
        }
        at += 1;
    });
    let mut each = |name, kind, help, value: &dyn Fn(usize, &LoopBoard) -> u64| {
        let mut family = page.family(name, kind, help);
        for (index, board) in status.boards.iter().enumerate() {
            family.sample(&[("loop", &index)], value(index, board));
        }
    };
    let help = "Live connections and those on their way: what spreading compares.";
    each("load", Type::Gauge, help, &|_, board| board.load());
    let help = "1 while the watchdog holds the loop to be stuck.";
    each("stuck", Type::Gauge, help, &|_, board| {
        u64::from(board.is_stuck())
    });
    let help = "Wake-ups that others sent.";
    each("rings", Type::Counter, help, &|index, _| {
        status.rings(index)
    });
    let help = "1, with the core (- if not pinned) and the thread as labels.";
    let mut info = page.family("loop_info", Type::Gauge, help);
    for (index, core) in status.placement.loops.iter().enumerate() {
        let core = core.map_or_else(|| "-".to_owned(), |core| core.to_string());
        let thread = status.boards[index]
            .thread_id
            .load(std::sync::atomic::Ordering::Relaxed);
        info.sample(&[("loop", &index), ("core", &core), ("thread", &thread)], 1);
    }
}

/// The plain numbers of a loop, in the order of [`Numbers::each`](polyloop::telemetry::Numbers::each).
fn values(board: &LoopBoard) -> Vec<u64> {
    let mut values = Vec::new();
    board.numbers.each(|_, _, _, value| values.push(value));
    values
}

fn closes(page: &mut Page, status: &Status) {
    let help = "Closed connections, by reason and by who caused it.";
    let mut family = page.family("closed", Type::Counter, help);
    for (index, board) in status.boards.iter().enumerate() {
        for (reason, count) in board.closes.iter().enumerate() {
            let name = CloseReason::NAMES[reason];
            let initiator = CloseReason::initiator_of(reason).name();
            let labels: Labels<'_> = &[
                ("loop", &index),
                ("reason", &name),
                ("initiator", &initiator),
            ];
            family.sample(labels, count.value());
        }
    }
}

fn loop_summaries(page: &mut Page, status: &Status, reader: &mut Reader) {
    type Pick = fn(&LoopBoard) -> &AtomicHistogram;
    let families: [(&str, &str, f64, Pick); 4] = [
        (
            "turn_seconds",
            "A whole turn without its poll.",
            NS,
            |board| &board.turn_time,
        ),
        (
            "handler_seconds",
            "One dispatch, one in 64 is timed.",
            NS,
            |board| &board.handler_time,
        ),
        (
            "inbox_wait_seconds",
            "From hand-over or sending to taking.",
            NS,
            |board| &board.inbox_wait,
        ),
        ("poll_events", "Events per poll.", 1.0, |board| {
            &board.poll_events
        }),
    ];
    for (name, help, unit, pick) in families {
        let mut family = page.family(name, Type::Summary, help);
        for (index, board) in status.boards.iter().enumerate() {
            family.summary(("loop", &index), pick(board), unit, reader);
        }
    }
}

fn pools(page: &mut Page, status: &Status, reader: &mut Reader) {
    type Pick = fn(&PoolStats) -> u64;
    let families: [(&str, Type, &str, Pick); 7] = [
        (
            "pool_submitted",
            Type::Counter,
            "Jobs taken by a pool.",
            |stats| stats.submitted,
        ),
        (
            "pool_refused",
            Type::Counter,
            "Jobs given back because the pool was full.",
            |stats| stats.refused,
        ),
        (
            "pool_done",
            Type::Counter,
            "Jobs that ran to their end.",
            |stats| stats.done,
        ),
        (
            "pool_panicked",
            Type::Counter,
            "Jobs that panicked.",
            |stats| stats.panicked,
        ),
        (
            "pool_dropped",
            Type::Counter,
            "Jobs dropped unrun by the end.",
            |stats| stats.dropped,
        ),
        (
            "pool_queued",
            Type::Gauge,
            "Jobs waiting for a thread.",
            |stats| stats.queued,
        ),
        ("pool_running", Type::Gauge, "Jobs running.", |stats| {
            stats.running
        }),
    ];
    for (name, kind, help, pick) in families {
        let mut family = page.family(name, kind, help);
        for (id, pool) in status.pools.iter() {
            family.sample(&[("pool", &pool)], pick(&status.pools.stats(id)));
        }
    }
    let mut family = page.family(
        "pool_wait_seconds",
        Type::Summary,
        "How long jobs waited for a thread.",
    );
    for (id, pool) in status.pools.iter() {
        family.summary(("pool", &pool), status.pools.queue_wait(id), NS, reader);
    }
    let mut family = page.family("pool_run_seconds", Type::Summary, "How long jobs ran.");
    for (id, pool) in status.pools.iter() {
        family.summary(("pool", &pool), status.pools.run_time(id), NS, reader);
    }
}

fn seconds(ns: u64) -> f64 {
    ns as f64 / NS
}

/// Nanoseconds in a second. Divided by, not multiplied with its inverse: that keeps the decimals as they are.
const NS: f64 = 1e9;

/// The page as far as it is written.
#[derive(Debug, Default)]
struct Page {
    text: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Type {
    Counter,
    Gauge,
    Summary,
    Histogram,
}

/// Names and values.
type Labels<'a> = &'a [(&'a str, &'a dyn fmt::Display)];

/// One family, while it gets its samples.
struct Family<'a> {
    text: &'a mut String,
    name: String,
}

impl Page {
    /// Opens a family of ours: its name gets our prefix, and a counter its suffix.
    fn family(&mut self, name: &str, kind: Type, help: &str) -> Family<'_> {
        self.foreign_family(&format!("polyloop_{name}"), kind, help)
    }

    fn foreign_family(&mut self, name: &str, kind: Type, help: &str) -> Family<'_> {
        let (suffix, kind) = match kind {
            Type::Counter => ("_total", "counter"),
            Type::Gauge => ("", "gauge"),
            Type::Summary => ("", "summary"),
            Type::Histogram => ("", "histogram"),
        };
        let name = format!("{name}{suffix}");
        // Writing to a string cannot fail, here and below.
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        let text = &mut self.text;
        Family { text, name }
    }
}

impl Family<'_> {
    fn sample(&mut self, labels: Labels<'_>, value: impl fmt::Display) {
        self.write("", labels, &value);
    }

    fn summary(
        &mut self,
        label: (&str, &dyn fmt::Display),
        histogram: &AtomicHistogram,
        unit: f64,
        reader: &mut Reader,
    ) {
        let reading = reader.read(histogram);
        for (at, (_, quantile)) in QUANTILES.iter().enumerate() {
            // The format's way to say that there is none yet.
            let value = reading
                .values
                .map_or(f64::NAN, |values| values[at] as f64 / unit);
            self.write("", &[label, ("quantile", quantile)], &value);
        }
        self.write("_sum", &[label], &(reading.sum as f64 / unit));
        self.write("_count", &[label], &reading.count);
    }

    /// Times and sizes of several loops, in `unit`.
    fn histogram(&mut self, labels: Labels<'_>, total: &SpreadTotal, unit: f64) {
        for (bound, count) in total.cumulative() {
            let bound = bound as f64 / unit;
            let labels = [labels, &[("le", &bound)]].concat();
            self.write("_bucket", &labels, &count);
        }
        // Of the same reading as the buckets, so that the last of them and the count are equal, as the format wants.
        let count = total.count();
        let labels_of_all = [labels, &[("le", &"+Inf")]].concat();
        self.write("_bucket", &labels_of_all, &count);
        self.write("_sum", labels, &(total.sum as f64 / unit));
        self.write("_count", labels, &count);
    }

    fn write(&mut self, suffix: &str, labels: Labels<'_>, value: &dyn fmt::Display) {
        self.text.push_str(&self.name);
        self.text.push_str(suffix);
        for (at, (name, value)) in labels.iter().enumerate() {
            self.text.push(if at == 0 { '{' } else { ',' });
            let _ = write!(self.text, "{name}=\"{}\"", Escaped(*value));
        }
        if !labels.is_empty() {
            self.text.push('}');
        }
        let _ = writeln!(self.text, " {value}");
    }
}

/// A label's value: a unix socket's path may hold anything.
struct Escaped<'a>(&'a dyn fmt::Display);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.to_string().chars() {
            match c {
                '\\' => f.write_str("\\\\")?,
                '"' => f.write_str("\\\"")?,
                '\n' => f.write_str("\\n")?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
