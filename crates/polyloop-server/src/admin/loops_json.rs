//! Every number, as JSON, for scripts.
//!
//! The one idea: the names are those of the code, and nothing is scaled: nanoseconds stay nanoseconds, so that
//! scripts work with whole numbers. Only shares are fractions.

use std::sync::atomic::Ordering::Relaxed;

use polyloop::hist::AtomicHistogram;
use polyloop::offload::PoolStats;
use polyloop::telemetry::{Callback, LoopBoard};
use polyloop::{CloseReason, GateKind, Status};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use crate::process::Process;
use crate::quantiles::{QUANTILES, Reader, Reading};

/// Renders everything. It copies histograms and reads /proc: not for a loop.
pub(super) fn render(status: &Status) -> Vec<u8> {
    let mut reader = Reader::new();
    let document = Document::read(status, &mut reader);
    let mut bytes = serde_json::to_vec_pretty(&document)
        // Every key is a text and every float finite, which is all that serialising asks for.
        .unwrap_or_else(|error| format!("{{\"error\":\"{error}\"}}").into_bytes());
    bytes.push(b'\n');
    bytes
}

#[derive(Serialize)]
struct Document<'a> {
    version: &'static str,
    life: &'static str,
    uptime_ns: u64,
    process: ProcessView,
    permits: Permits,
    descriptors: Descriptors,
    memory: Memory,
    listeners: Vec<Listener<'a>>,
    totals: Named,
    closes: Named,
    loops: Vec<LoopView>,
    pools: Vec<PoolView<'a>>,
}

#[derive(Serialize)]
struct ProcessView {
    id: u32,
    cpu_seconds: Option<f64>,
    descriptors_open: Option<u64>,
    resident_bytes: Option<u64>,
}

#[derive(Serialize)]
struct Permits {
    in_use: u64,
    cap: u64,
    resumed: u64,
}

#[derive(Serialize)]
struct Descriptors {
    limit: u64,
    limit_hard: u64,
    open_at_start: u64,
    reserve: u64,
    cost_per_connection: u64,
}

/// Without a limit there are no figures.
#[derive(Serialize)]
struct Memory {
    level: &'static str,
    changes: u64,
    used_bytes: Option<u64>,
    max_bytes: Option<u64>,
}

#[derive(Serialize)]
struct Listener<'a> {
    index: usize,
    addr: &'a str,
    kind: &'static str,
}

#[derive(Serialize)]
struct LoopView {
    #[serde(rename = "loop")]
    index: usize,
    core: Option<usize>,
    thread: u32,
    stuck: bool,
    phase: &'static str,
    /// The handler's callback that is running, if any.
    callback: Option<&'static str>,
    handler: Option<&'static str>,
    load: u64,
    /// Of the time since the start.
    busy_share: f64,
    rings: u64,
    #[serde(flatten)]
    numbers: Named,
    closes: Named,
    turn_ns: Quantiles,
    handler_ns: Quantiles,
    inbox_wait_ns: Quantiles,
    poll_events: Quantiles,
}

#[derive(Serialize)]
struct PoolView<'a> {
    pool: &'a str,
    submitted: u64,
    refused: u64,
    done: u64,
    panicked: u64,
    dropped: u64,
    queued: u64,
    running: u64,
    wait_ns: Quantiles,
    run_ns: Quantiles,
}

/// Numbers with their names, in the order of the code.
struct Named(Vec<(&'static str, u64)>);

impl Serialize for Named {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

struct Quantiles(Reading);

impl Serialize for Quantiles {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(reading) = self;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("count", &reading.count)?;
        map.serialize_entry("sum", &reading.sum)?;
        map.serialize_entry("max", &reading.max)?;
        for (at, (_, name)) in QUANTILES.iter().enumerate() {
            let value = reading.values.map(|values| values[at]);
            map.serialize_entry(name, &value)?;
        }
        map.end()
    }
}

impl<'a> Document<'a> {
    fn read(status: &'a Status, reader: &mut Reader) -> Self {
        let process = Process::read();
        let facts = &status.descriptors;
        let loops: Vec<_> = (0..status.boards.len())
            .map(|index| LoopView::read(status, index, reader))
            .collect();
        Self {
            version: env!("CARGO_PKG_VERSION"),
            life: status.life().name(),
            uptime_ns: status.uptime_ns(),
            process: ProcessView {
                id: process.id,
                cpu_seconds: process.cpu_seconds,
                descriptors_open: process.descriptors_open,
                resident_bytes: process.resident_bytes,
            },
            permits: Permits {
                in_use: status.permits.in_use(),
                cap: status.permits.cap(),
                resumed: status.permits.resumed(),
            },
            descriptors: Descriptors {
                limit: facts.limit.soft,
                limit_hard: facts.limit.hard,
                open_at_start: facts.open_at_start,
                reserve: facts.reserve,
                cost_per_connection: facts.cost,
            },
            memory: Memory {
                level: status.overload.level().name(),
                changes: status.overload.changes(),
                used_bytes: status.memory.as_ref().map(|_| status.overload.used_bytes()),
                max_bytes: status.memory.as_ref().map(|facts| facts.max_bytes),
            },
            listeners: status.listeners.iter().map(listener).collect(),
            totals: total(loops.iter().map(|view| &view.numbers)),
            closes: total(loops.iter().map(|view| &view.closes)),
            loops,
            pools: pools(status, reader),
        }
    }
}

impl LoopView {
    fn read(status: &Status, index: usize, reader: &mut Reader) -> Self {
        let board: &LoopBoard = &status.boards[index];
        let beat = board.beat.sample();
        let is_called = beat.callback != 0;
        let handler = status.handler_names.get(usize::from(beat.name_index));
        let mut numbers = Vec::new();
        board
            .numbers
            .each(|name, _, _, value| numbers.push((name, value)));
        let closes = CloseReason::NAMES.into_iter().zip(&board.closes);
        let mut quantiles = |histogram: &AtomicHistogram| Quantiles(reader.read(histogram));
        Self {
            index,
            core: status.placement.loops[index],
            thread: board.thread_id.load(Relaxed),
            stuck: board.is_stuck(),
            phase: beat.phase.name(),
            callback: is_called.then(|| Callback::name_of(beat.callback)),
            handler: handler.copied().filter(|_| is_called),
            load: board.load(),
            busy_share: board.numbers.busy_ns.value() as f64 / status.uptime_ns().max(1) as f64,
            rings: status.rings(index),
            numbers: Named(numbers),
            closes: Named(closes.map(|(name, count)| (name, count.value())).collect()),
            turn_ns: quantiles(&board.turn_time),
            handler_ns: quantiles(&board.handler_time),
            inbox_wait_ns: quantiles(&board.inbox_wait),
            poll_events: quantiles(&board.poll_events),
        }
    }
}

/// The sums over all loops; of a maximum, the maximum.
fn total<'a>(mut loops: impl Iterator<Item = &'a Named>) -> Named {
    let mut total = loops.next().map_or_else(Vec::new, |first| first.0.clone());
    for numbers in loops {
        for ((name, sum), (_, value)) in total.iter_mut().zip(&numbers.0) {
            *sum = if name.ends_with("_max") {
                (*sum).max(*value)
            } else {
                sum.wrapping_add(*value)
            };
        }
    }
    Named(total)
}

fn listener(bound: &polyloop::BoundListener) -> Listener<'_> {
    Listener {
        index: bound.index,
        addr: &bound.addr,
        kind: match bound.kind {
            GateKind::Service => "service",
            GateKind::Admin { .. } => "admin",
        },
    }
}

fn pools<'a>(status: &'a Status, reader: &mut Reader) -> Vec<PoolView<'a>> {
    let mut views = Vec::new();
    for (id, pool) in status.pools.iter() {
        let stats: PoolStats = status.pools.stats(id);
        views.push(PoolView {
            pool,
            submitted: stats.submitted,
            refused: stats.refused,
            done: stats.done,
            panicked: stats.panicked,
            dropped: stats.dropped,
            queued: stats.queued,
            running: stats.running,
            wait_ns: Quantiles(reader.read(status.pools.queue_wait(id))),
            run_ns: Quantiles(reader.read(status.pools.run_time(id))),
        });
    }
    views
}
