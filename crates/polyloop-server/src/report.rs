//! The line per interval, and the dump of everything.
//!
//! The one idea of the line: what a person looks at while something happens, as rates over the interval just past.
//! Two readings of the counters are subtracted; nothing is reset, so that reports, metrics and dumps never disturb
//! each other.
//!
//! ```text
//! live      accept/s  close/s  in/s      out/s     busy %   turn p99  turn max  budget  stalls
//! 19.94k    1.2k      1.19k    12.5MiB   12.5MiB   43 41    180us     2.1ms     12      0
//! ```

use std::fmt::Write as _;
use std::time::Duration;

use hdrhistogram::Histogram;
use polyloop::hist::empty_snapshot;
use polyloop::telemetry::LoopBoard;
use polyloop::{Life, Status};
use polyloop_core::units::{format_bytes, format_count, format_duration};

mod dump;

pub(crate) use dump::dump;

/// Makes the lines. It keeps the reading before.
#[derive(Debug)]
pub(crate) struct Reporter {
    lines: u64,
    before: Reading,
}

/// What the counters of all loops said at one moment.
#[derive(Debug)]
struct Reading {
    at_ns: u64,
    live: u64,
    accepted: u64,
    closed: u64,
    bytes_in: u64,
    bytes_out: u64,
    budgets: u64,
    stalls: u64,
    /// By loop.
    busy_ns: Vec<u64>,
    turns: Histogram<u64>,
}

/// The names of the columns are repeated after so many lines: one screen.
const HEADER_EVERY: u64 = 20;
/// With more loops than this, the busy column tells the least, the mean and the most busy.
const BUSY_SHOWN_MAX: usize = 8;

impl Reporter {
    /// Starts counting at zero: the first line covers the time since the start of the server.
    pub(crate) fn new() -> Self {
        Self {
            lines: 0,
            before: Reading {
                at_ns: 0,
                live: 0,
                accepted: 0,
                closed: 0,
                bytes_in: 0,
                bytes_out: 0,
                budgets: 0,
                stalls: 0,
                busy_ns: Vec::new(),
                turns: empty_snapshot(),
            },
        }
    }

    /// The line for the time since the last one, after the header when it is due.
    pub(crate) fn line(&mut self, status: &Status) -> String {
        let now = Reading::of(status);
        let before = std::mem::replace(&mut self.before, now);
        let busy_width = busy_width(status.boards.len());
        let mut text = String::new();
        if self.lines.is_multiple_of(HEADER_EVERY) {
            push_columns(&mut text, HEADER, busy_width);
        }
        self.lines += 1;
        push_columns(
            &mut text,
            self.before.since(&before).each_ref().map(String::as_str),
            busy_width,
        );
        if status.life() == Life::Draining {
            text.truncate(text.trim_end().len());
            text.push_str("  draining\n");
        }
        text
    }
}

impl Reading {
    fn of(status: &Status) -> Self {
        let sum = |pick: fn(&LoopBoard) -> u64| status.boards.iter().map(|board| pick(board)).sum();
        let mut turns = empty_snapshot();
        for board in status.boards.iter() {
            board.turn_time.add_to(&mut turns);
        }
        Self {
            at_ns: status.uptime_ns(),
            live: sum(|board| board.numbers.live.value()),
            accepted: sum(|board| board.numbers.accepted.value()),
            closed: sum(|board| board.closes.iter().map(|closes| closes.value()).sum()),
            bytes_in: sum(|board| board.numbers.bytes_in.value()),
            bytes_out: sum(|board| board.numbers.bytes_out.value()),
            budgets: sum(budgets_hit),
            stalls: sum(|board| board.numbers.stalls.value()),
            busy_ns: status
                .boards
                .iter()
                .map(|board| board.numbers.busy_ns.value())
                .collect(),
            turns,
        }
    }

    /// The columns for the time between an earlier reading and this one.
    fn since(&self, before: &Self) -> [String; COLUMNS] {
        let elapsed_ns = self.at_ns.saturating_sub(before.at_ns).max(1);
        let rate = |now: u64, before: u64| per_second(now.saturating_sub(before), elapsed_ns);
        let mut turns = self.turns.clone();
        // Both have the same bounds, and a bucket never shrinks.
        let _ = turns.subtract(&before.turns);
        let time = |ns: u64| format_duration(Duration::from_nanos(ns));
        [
            format_count(self.live),
            format_count(rate(self.accepted, before.accepted)),
            format_count(rate(self.closed, before.closed)),
            format_bytes(rate(self.bytes_in, before.bytes_in)),
            format_bytes(rate(self.bytes_out, before.bytes_out)),
            self.busy_since(before, elapsed_ns),
            time(turns.value_at_quantile(0.99)),
            time(turns.max()),
            format_count(self.budgets.saturating_sub(before.budgets)),
            format_count(self.stalls.saturating_sub(before.stalls)),
        ]
    }

    fn busy_since(&self, before: &Self, elapsed_ns: u64) -> String {
        let percents: Vec<u64> = self
            .busy_ns
            .iter()
            .enumerate()
            .map(|(index, now)| {
                let busy_ns = now.saturating_sub(before.busy_ns.get(index).copied().unwrap_or(0));
                // A turn that was longer than the interval is billed when it ends.
                (busy_ns.saturating_mul(100) / elapsed_ns).min(100)
            })
            .collect();
        if percents.len() <= BUSY_SHOWN_MAX {
            let texts: Vec<_> = percents.iter().map(ToString::to_string).collect();
            return texts.join(" ");
        }
        let least = percents.iter().min().copied().unwrap_or(0);
        let most = percents.iter().max().copied().unwrap_or(0);
        let mean = percents.iter().sum::<u64>() / percents.len() as u64;
        format!("{least}<{mean}<{most}")
    }
}

fn budgets_hit(board: &LoopBoard) -> u64 {
    let numbers = &board.numbers;
    [
        &numbers.budget_poll,
        &numbers.budget_control,
        &numbers.budget_inbox,
        &numbers.budget_timers,
        &numbers.budget_bytes,
        &numbers.budget_quota,
        &numbers.budget_accept,
        &numbers.budget_flush,
    ]
    .into_iter()
    .map(|budget| budget.value())
    .sum()
}

/// Events per second, rounded to the nearest.
fn per_second(count: u64, elapsed_ns: u64) -> u64 {
    let scaled = u128::from(count) * 1_000_000_000 + u128::from(elapsed_ns / 2);
    u64::try_from(scaled / u128::from(elapsed_ns.max(1))).unwrap_or(u64::MAX)
}

const fn busy_width(loops: usize) -> usize {
    match loops {
        0..=2 => 8,
        3..=BUSY_SHOWN_MAX => 4 * loops,
        _ => 13,
    }
}

fn push_columns(text: &mut String, columns: [&str; COLUMNS], busy_width: usize) {
    for (at, (column, width)) in columns.iter().zip(WIDTHS).enumerate() {
        let width = if at == BUSY { busy_width } else { width };
        // Writing to a string cannot fail.
        let _ = write!(text, "{column:<width$}");
    }
    text.truncate(text.trim_end().len());
    text.push('\n');
}

const COLUMNS: usize = 10;
const HEADER: [&str; COLUMNS] = [
    "live", "accept/s", "close/s", "in/s", "out/s", "busy %", "turn p99", "turn max", "budget",
    "stalls",
];
const WIDTHS: [usize; COLUMNS] = [9, 10, 9, 11, 11, 0, 10, 10, 8, 6];
const BUSY: usize = 5;

#[cfg(test)]
mod tests;
