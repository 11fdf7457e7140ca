//! Every counter, as a person reads it: what SIGUSR1 prints.
//!
//! The one idea: it is the page that is looked at when nothing else works any more, so it leaves nothing out and needs
//! no connection, no pool and no loop.

use std::fmt::Write as _;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use polyloop::hist::AtomicHistogram;
use polyloop::telemetry::{Callback, LoopBoard};
use polyloop::{CloseReason, Status};
use polyloop_core::units::{format_bytes, format_duration};

use crate::process::Process;
use crate::quantiles::{QUANTILES, Reader, Reading};

/// Everything there is, in lines.
pub(crate) fn dump(status: &Status, log_lines_dropped: u64) -> String {
    let mut text = String::with_capacity(16 * 1024);
    server(&mut text, status, log_lines_dropped);
    loops(&mut text, status);
    numbers(&mut text, status);
    let mut reader = Reader::new();
    times(&mut text, status, &mut reader);
    pools(&mut text, status, &mut reader);
    text.push_str("--- end of dump ---\n");
    text
}

// Writing to a string cannot fail, here and below.

fn server(text: &mut String, status: &Status, log_lines_dropped: u64) {
    let process = Process::read();
    let _ = writeln!(
        text,
        "--- polyloop {}, process {}, {} for {}, {} connections ---",
        env!("CARGO_PKG_VERSION"),
        process.id,
        status.life().name(),
        format_duration(Duration::from_nanos(status.uptime_ns())),
        status.live(),
    );
    let told = |value: Option<String>| value.unwrap_or_else(|| "?".to_owned());
    let _ = writeln!(
        text,
        "permits {} of {} in use, resumed {}; descriptors {} of {} open; CPU {} s; memory {}{}; log lines dropped {}",
        status.permits.in_use(),
        status.permits.cap(),
        status.permits.resumed(),
        told(process.descriptors_open.map(|open| open.to_string())),
        status.descriptors.limit.soft,
        told(process.cpu_seconds.map(|seconds| format!("{seconds:.2}"))),
        told(process.resident_bytes.map(format_bytes)),
        shedding(status),
        log_lines_dropped,
    );
}

/// What the level of memory is, where it is watched.
fn shedding(status: &Status) -> String {
    let Some(facts) = &status.memory else {
        return String::new();
    };
    format!(
        " ({} of {}, level {}, {} changes)",
        format_bytes(status.overload.used_bytes()),
        format_bytes(facts.max_bytes),
        status.overload.level().name(),
        status.overload.changes(),
    )
}

fn loops(text: &mut String, status: &Status) {
    for (index, board) in status.boards.iter().enumerate() {
        let core = status.placement.loops[index]
            .map_or_else(|| "not pinned".to_owned(), |core| format!("core {core}"));
        let beat = board.beat.sample();
        let _ = write!(
            text,
            "loop {index}: {core}, thread {}, turn {}, {} phase",
            board.thread_id.load(Relaxed),
            beat.turn,
            beat.phase.name(),
        );
        if beat.callback != 0 {
            let name = status.handler_names.get(usize::from(beat.name_index));
            let callback = Callback::name_of(beat.callback);
            let _ = write!(text, ", in {callback} of {}", name.unwrap_or(&"?"));
        }
        let _ = writeln!(
            text,
            "{}, load {}, rings {}",
            if board.is_stuck() { ", STUCK" } else { "" },
            board.load(),
            status.rings(index),
        );
    }
}

/// One row for each number: all loops together, then loop by loop.
fn numbers(text: &mut String, status: &Status) {
    let by_loop: Vec<Vec<u64>> = status.boards.iter().map(|board| values(board)).collect();
    let mut names = Vec::new();
    status.boards[0]
        .numbers
        .each(|name, _, _, _| names.push(name.to_owned()));
    names.extend(CloseReason::NAMES.iter().enumerate().map(|(reason, name)| {
        format!(
            "closed {name} (by {})",
            CloseReason::initiator_of(reason).name()
        )
    }));
    row(
        text,
        "",
        "all loops",
        (0..by_loop.len()).map(|index| format!("loop {index}")),
    );
    for (at, name) in names.iter().enumerate() {
        let column = || by_loop.iter().map(|values| values[at]);
        let all = if name.ends_with("_max") {
            column().max().unwrap_or(0)
        } else {
            column().sum()
        };
        row(
            text,
            name,
            &all.to_string(),
            column().map(|value| value.to_string()),
        );
    }
}

/// The plain numbers of a loop and then its closes, in the order of the names above.
fn values(board: &LoopBoard) -> Vec<u64> {
    let mut values = Vec::new();
    board.numbers.each(|_, _, _, value| values.push(value));
    values.extend(board.closes.iter().map(|closes| closes.value()));
    values
}

fn row(text: &mut String, name: &str, all: &str, by_loop: impl Iterator<Item = String>) {
    let _ = write!(text, "{name:<40}{all:>16}");
    for value in by_loop {
        let _ = write!(text, "{value:>16}");
    }
    text.push('\n');
}

fn times(text: &mut String, status: &Status, reader: &mut Reader) {
    for (index, board) in status.boards.iter().enumerate() {
        let mut tell = |name: &str, histogram: &AtomicHistogram, format: fn(u64) -> String| {
            histogram_row(
                text,
                &format!("loop {index} {name}"),
                reader.read(histogram),
                format,
            );
        };
        tell("turn", &board.turn_time, time);
        tell("handler", &board.handler_time, time);
        tell("inbox wait", &board.inbox_wait, time);
        tell("events per poll", &board.poll_events, |count| {
            count.to_string()
        });
    }
}

fn pools(text: &mut String, status: &Status, reader: &mut Reader) {
    for (id, pool) in status.pools.iter() {
        let stats = status.pools.stats(id);
        let _ = writeln!(
            text,
            "pool {pool}: submitted {}, refused {}, done {}, panicked {}, dropped {}, queued {}, running {}",
            stats.submitted,
            stats.refused,
            stats.done,
            stats.panicked,
            stats.dropped,
            stats.queued,
            stats.running,
        );
        let wait = reader.read(status.pools.queue_wait(id));
        histogram_row(text, &format!("pool {pool} wait"), wait, time);
        let run = reader.read(status.pools.run_time(id));
        histogram_row(text, &format!("pool {pool} run"), run, time);
    }
}

fn histogram_row(text: &mut String, name: &str, reading: Reading, format: fn(u64) -> String) {
    let _ = write!(text, "{name:<40}{:>16}", reading.count);
    for (at, (_, quantile)) in QUANTILES.iter().enumerate() {
        let value = reading
            .values
            .map_or_else(|| "-".to_owned(), |values| format(values[at]));
        let _ = write!(text, "  {quantile}: {value}");
    }
    text.push('\n');
}

fn time(ns: u64) -> String {
    format_duration(Duration::from_nanos(ns))
}
