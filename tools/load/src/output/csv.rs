//! The time series: one row per interval.
//!
//! The one idea: a column's name carries its unit, and an empty field stands for what cannot be known. Counts are of
//! the interval, not running totals; percentiles are those that a window is able to tell.
//!
//! Invariant: columns are only ever added, at the end.

use std::fmt::Write as _;
use std::time::Duration;

use crate::result::{Beside, StageHead, WINDOW_SAMPLES_BEYOND, fault_key};
use crate::tally::Interval;
use hdrhistogram::Histogram;

/// Names of the columns, in the order of [`row`].
const COLUMNS: [&str; 41] = [
    "time_s",
    "stage",
    "stage_name",
    "interval_s",
    "planned_per_s",
    "offered",
    "sent",
    "completed",
    "unsent",
    "unanswered",
    "bytes_out",
    "bytes_in",
    "connects",
    "connected",
    "closed",
    "connections_open",
    "faults",
    "latency_mean_us",
    "latency_p50_us",
    "latency_p90_us",
    "latency_p99_us",
    "latency_p99.9_us",
    "latency_max_us",
    "uncorrected_p50_us",
    "uncorrected_p99_us",
    "uncorrected_max_us",
    "lag_p50_us",
    "lag_p99_us",
    "lag_max_us",
    "own_lag_p99_us",
    "connect_p50_us",
    "connect_p99_us",
    "probe_p50_us",
    "probe_p99_us",
    "load_cpu_s",
    "server_cpu_s",
    "machine_busy_share",
    "machine_steal_share",
    "fault_kinds",
    "sent_late",
    "completed_late",
];

/// The header line.
pub(super) fn header() -> String {
    COLUMNS.join(",") + "\n"
}

/// The row of an interval that began `at` after the output was opened.
pub(super) fn row(
    at: Duration,
    stage: Option<&StageHead>,
    interval: &Interval,
    beside: &Beside,
) -> String {
    let mut row = Row(String::with_capacity(400));
    let seconds = Duration::from_nanos(interval.until_ns.saturating_sub(interval.from_ns));
    let counts = &interval.counts;
    row.number(format_args!("{:.6}", at.as_secs_f64()));
    row.number(format_args!("{}", interval.stage));
    row.text(stage.map_or("", |stage| &stage.name));
    row.number(format_args!("{:.6}", seconds.as_secs_f64()));
    row.maybe(stage.and_then(|stage| stage.rate_planned));
    for count in [
        counts.offered,
        counts.sent,
        counts.completed,
        counts.unsent,
        counts.unanswered,
        counts.bytes_out,
        counts.bytes_in,
        counts.connects,
        counts.connected,
        counts.closed,
        interval.open,
        counts.faults_total(),
    ] {
        row.number(format_args!("{count}"));
    }
    let latency = &interval.latency;
    row.maybe((!latency.is_empty()).then(|| latency.mean() / 1e3));
    row.quantiles(latency, &[0.5, 0.9, 0.99, 0.999]);
    row.longest(latency);
    for histogram in [&interval.uncorrected, &interval.lag] {
        row.quantiles(histogram, &[0.5, 0.99]);
        row.longest(histogram);
    }
    row.quantiles(&interval.own_lag, &[0.99]);
    row.quantiles(&interval.connect, &[0.5, 0.99]);
    row.quantiles(&interval.probe, &[0.5, 0.99]);
    row.number(format_args!("{:.6}", interval.cpu_ns as f64 / 1e9));
    row.cpu(beside.server_cpu_ns);
    row.number(format_args!("{:.4}", beside.machine_busy_share));
    row.number(format_args!("{:.4}", beside.machine_steal_share));
    let kinds: Vec<String> = counts
        .faults
        .iter()
        .map(|(fault, count)| format!("{} {count}", fault_key(*fault)))
        .collect();
    row.text(&kinds.join("; "));
    for count in [counts.sent_late, counts.completed_late] {
        row.number(format_args!("{count}"));
    }
    row.0.push('\n');
    row.0
}

/// Fields separated by commas.
struct Row(String);

impl Row {
    fn number(&mut self, field: std::fmt::Arguments<'_>) {
        self.separate();
        // Writing to a `String` does not fail.
        let _ = self.0.write_fmt(field);
    }

    fn maybe(&mut self, value: Option<f64>) {
        match value {
            Some(value) => self.number(format_args!("{value:.3}")),
            None => self.number(format_args!("")),
        }
    }

    fn cpu(&mut self, ns: Option<u64>) {
        match ns {
            Some(ns) => self.number(format_args!("{:.6}", ns as f64 / 1e9)),
            None => self.number(format_args!("")),
        }
    }

    fn quantiles(&mut self, histogram: &Histogram<u64>, quantiles: &[f64]) {
        for &quantile in quantiles {
            self.maybe(crate::result::quantile_us(
                histogram,
                quantile,
                WINDOW_SAMPLES_BEYOND,
            ));
        }
    }

    fn longest(&mut self, histogram: &Histogram<u64>) {
        self.maybe((!histogram.is_empty()).then(|| histogram.max() as f64 / 1e3));
    }

    /// A text in quotes where it holds what would be read as a separator.
    fn text(&mut self, text: &str) {
        if text.contains([',', '"', '\n', '\r']) {
            let quoted = text.replace('"', "\"\"");
            self.number(format_args!("\"{quoted}\""));
        } else {
            self.number(format_args!("{text}"));
        }
    }

    fn separate(&mut self) {
        if !self.0.is_empty() {
            self.0.push(',');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::tests::{SMALL_BESIDE, small_head, small_interval};

    #[test]
    fn a_row_has_a_field_for_each_column() {
        // Goal: columns and fields agree. Method: the small interval, whose figures are known, by name of the column.
        let row = row(
            Duration::from_millis(1_500),
            Some(&small_head()),
            &small_interval(5),
            &SMALL_BESIDE,
        );
        let fields: Vec<&str> = row.trim_end().split(',').collect();
        assert_eq!(fields.len(), COLUMNS.len(), "{row}");
        let field = |name: &str| fields[COLUMNS.iter().position(|&column| column == name).unwrap()];
        for (name, value) in [
            ("time_s", "1.500000"),
            ("stage_name", "measure"),
            ("planned_per_s", "20000.000"),
            ("completed", "19999"),
            ("connections_open", "100"),
            ("faults", "1"),
            ("lag_p99_us", "10.007"),
            ("connect_p50_us", ""),
            ("load_cpu_s", "0.050000"),
            ("server_cpu_s", "0.060000"),
            ("machine_busy_share", "0.2500"),
            ("fault_kinds", "broken ECONNRESET 1"),
        ] {
            assert_eq!(field(name), value, "{name}");
        }
    }

    #[test]
    fn texts_cannot_break_a_row() {
        // Goal: a stage's name is one field, whatever it holds. Method: a name of separators and quotes.
        let mut row = Row("1".to_owned());
        row.text("a,\"b\"");
        assert_eq!(row.0, "1,\"a,\"\"b\"\"\"");
    }
}
