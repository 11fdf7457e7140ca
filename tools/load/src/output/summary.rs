//! What an operator reads at the end.
//!
//! The one idea: the order of the questions. How was it measured, what was asked and what came of it, how long did it
//! take, what went wrong, what did it cost, why not to believe it, and where the rest lies. A part with nothing to say
//! is left out; a figure that cannot be told is a dash.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use super::table::Table;
use super::units::{bytes, count, duration_us, or_dash, percent, rate, seconds};
use crate::result::{
    Quantiles, RunResult, SearchResult, Severity, StageKind, StageResult, Warning, explain_fault,
};

/// The summary of a run; `files` are the flags and what they wrote.
pub(crate) fn text(run: &RunResult, files: &[(&'static str, PathBuf)]) -> String {
    let mut parts = vec![head(run)];
    parts.extend(run.search.as_ref().map(search));
    let measured: Vec<&StageResult> = run.measured().collect();
    if measured.len() > 1 {
        parts.push(overview(&measured));
    }
    let details = measured
        .iter()
        .filter(|stage| stage.kind != StageKind::Spectrum);
    parts.extend(details.map(|stage| detail(stage)));
    parts.push(connections(run));
    parts.push(faults(run));
    parts.push(doubts(&run.warnings));
    parts.push(written(files));
    parts.retain(|part| !part.is_empty());
    parts.join("\n")
}

fn head(run: &RunResult) -> String {
    let mut text = format!(
        "polyloop-load {}, {}: {}\n",
        run.version,
        run.started,
        run.command.join(" ")
    );
    text += run.mode.in_words();
    text.push('\n');
    if !run.is_complete {
        text += "INTERRUPTED: the figures cover what ran until then\n";
    }
    if run.measured().next().is_none() {
        text += "no stage was measured to its end\n";
    }
    text
}

fn search(search: &SearchResult) -> String {
    let found = match search.rate_found {
        Some(found) if search.verified => format!("{}/s, verified", rate(found)),
        Some(found) => format!("{}/s, NOT verified", rate(found)),
        None if search.limited_by.is_none() => "the search did not get to its end".to_owned(),
        None => "no rate at which it holds".to_owned(),
    };
    let mut text = format!("highest rate with {}: {found}\n", search.objective);
    if let Some(limit) = &search.limited_by {
        let _ = writeln!(text, "  limited by {limit}");
    }
    let mut table = Table::new(2).left(4);
    table.row(["planned/s", "completed/s", "objective", "held", ""]);
    for trial in &search.trials {
        table.row([
            rate(trial.rate_planned),
            rate(trial.rate_completed),
            or_dash(trial.value_us, duration_us),
            if trial.passed { "yes" } else { "no" }.to_owned(),
            trial.reason.clone().unwrap_or_default(),
        ]);
    }
    if !search.trials.is_empty() {
        text += &table.text();
    }
    text
}

/// A row for each stage, where there are several.
fn overview(stages: &[&StageResult]) -> String {
    let mut table = Table::new(0);
    table.row([
        "stage",
        "planned/s",
        "completed/s",
        "p50",
        "p99",
        "p99.9",
        "max",
        "load CPU/req",
        "server CPU/req",
    ]);
    for stage in stages {
        table.row([
            stage.name.clone(),
            or_dash(stage.rate_planned, rate),
            rate(stage.rates.completed),
            or_dash(stage.latency.p50_us, duration_us),
            or_dash(stage.latency.p99_us, duration_us),
            or_dash(stage.latency.p99_9_us, duration_us),
            or_dash(stage.latency.max_us, duration_us),
            or_dash(stage.load_cpu_us_per_request, duration_us),
            or_dash(stage.server_cpu_us_per_request, duration_us),
        ]);
    }
    table.text()
}

fn detail(stage: &StageResult) -> String {
    let mut text = format!(
        "{}: {}, {} connections open at its end\n",
        stage.name,
        seconds(stage.seconds),
        count(stage.connections)
    );
    text += &reached(stage);
    text.push('\n');
    text += &percentiles(stage);
    text.push('\n');
    text += &cost(stage);
    text
}

/// What was asked and what came of it.
fn reached(stage: &StageResult) -> String {
    let counts = &stage.counts;
    let rates = &stage.rates;
    let of_offered =
        |number: u64| (counts.offered > 0).then(|| number as f64 / counts.offered as f64);
    let mut table = Table::new(2);
    if let Some(planned) = stage.rate_planned {
        table.row(["planned".to_owned(), format!("{}/s", rate(planned))]);
    }
    let mut row = |name: &str, number: u64, per_second: Option<f64>, share: Option<f64>| {
        let per_second = per_second.map_or_else(String::new, |it| format!("{}/s", rate(it)));
        let share = share.map_or_else(String::new, percent);
        table.row([name.to_owned(), per_second, count(number), share]);
    };
    row("offered", counts.offered, Some(rates.offered), None);
    row(
        "sent",
        counts.sent,
        Some(rates.sent),
        of_offered(counts.sent),
    );
    row(
        "completed",
        counts.completed,
        Some(rates.completed),
        of_offered(counts.completed),
    );
    if counts.sent_late > 0 {
        row(
            "sent late",
            counts.sent_late,
            None,
            of_offered(counts.sent_late),
        );
    }
    if counts.unsent > 0 {
        row("never sent", counts.unsent, None, of_offered(counts.unsent));
    }
    if counts.unanswered > 0 {
        row(
            "unanswered",
            counts.unanswered,
            None,
            of_offered(counts.unanswered),
        );
    }
    let mut text = table.text();
    let _ = writeln!(
        text,
        "  {}/s out, {}/s in",
        bytes(rates.bytes_out),
        bytes(rates.bytes_in)
    );
    text
}

/// All series that have samples, side by side.
fn percentiles(stage: &StageResult) -> String {
    let series: Vec<(&str, &Quantiles)> = [
        ("latency", &stage.latency),
        ("uncorrected", &stage.uncorrected),
        ("send lag", &stage.lag),
        ("own lag", &stage.own_lag),
        ("connect", &stage.connect),
        ("probe", &stage.probe),
    ]
    .into_iter()
    .filter(|(_, quantiles)| quantiles.samples > 0)
    .collect();
    if series.is_empty() {
        return "  nothing was answered\n".to_owned();
    }
    let mut table = Table::new(2);
    let row = |name: &str, cell: &dyn Fn(&Quantiles) -> String| {
        let mut cells = vec![name.to_owned()];
        cells.extend(series.iter().map(|(_, quantiles)| cell(quantiles)));
        cells
    };
    let mut names = vec![String::new()];
    names.extend(series.iter().map(|(name, _)| (*name).to_owned()));
    table.row(names);
    for (name, pick) in LEVELS {
        table.row(row(name, &|quantiles| {
            or_dash(pick(quantiles), duration_us)
        }));
    }
    table.row(row("samples", &|quantiles| count(quantiles.samples)));
    table.text()
}

fn cost(stage: &StageResult) -> String {
    let mut table = Table::new(2);
    table.row(["processor", "used", "per request"]);
    let mut row = |name: &str, used_s: f64, per_request: Option<f64>| {
        table.row([
            name.to_owned(),
            format!("{used_s:.2} s"),
            or_dash(per_request, duration_us),
        ]);
    };
    row("load", stage.load_cpu_s, stage.load_cpu_us_per_request);
    if let Some(used_s) = stage.server_cpu_s {
        row("server", used_s, stage.server_cpu_us_per_request);
    }
    let mut text = table.text();
    let _ = writeln!(
        text,
        "  machine {} busy, {} stolen",
        percent(stage.machine_busy_share),
        percent(stage.machine_steal_share)
    );
    if let Some(share) = stage.busiest_loop_share {
        let _ = writeln!(text, "  busiest loop {} at work", percent(share));
    }
    text
}

/// How connections were made outside of the measured stages, which tell of their own.
fn connections(run: &RunResult) -> String {
    let mut table = Table::new(2);
    table.row(["connections", "asked", "made", "p50", "p99", "max"]);
    let ramps = run
        .stages
        .iter()
        .filter(|stage| !stage.kind.is_measured() && stage.counts.connects > 0);
    let mut any = false;
    for stage in ramps {
        any = true;
        table.row([
            stage.name.clone(),
            count(stage.counts.connects),
            count(stage.counts.connected),
            or_dash(stage.connect.p50_us, duration_us),
            or_dash(stage.connect.p99_us, duration_us),
            or_dash(stage.connect.max_us, duration_us),
        ]);
    }
    if any { table.text() } else { String::new() }
}

/// Every fault of the run, the frequent ones first.
fn faults(run: &RunResult) -> String {
    let mut totals: BTreeMap<&str, (u64, Vec<&str>)> = BTreeMap::new();
    for stage in &run.stages {
        for (key, count) in &stage.counts.faults {
            let (total, stages) = totals.entry(key).or_default();
            *total += count;
            stages.push(&stage.name);
        }
    }
    if totals.is_empty() {
        return String::new();
    }
    let mut totals: Vec<_> = totals.into_iter().collect();
    totals.sort_by_key(|(_, (total, _))| std::cmp::Reverse(*total));
    let mut table = Table::new(2).left(2).left(3);
    for (key, (total, stages)) in totals {
        let place = format!("in {}", stages.join(", "));
        table.row([key.to_owned(), count(total), place, explain_fault(key)]);
    }
    let mut text = format!("errors\n{}", table.text());
    for stage in &run.stages {
        if let Some(wrong) = &stage.first_wrong {
            let _ = writeln!(text, "  first wrong answer in {}: {wrong}", stage.name);
        }
    }
    text
}

/// The reasons not to believe it, the worst first.
fn doubts(warnings: &[Warning]) -> String {
    if warnings.is_empty() {
        return String::new();
    }
    let mut sorted: Vec<&Warning> = warnings.iter().collect();
    sorted.sort_by_key(|warning| std::cmp::Reverse(warning.severity));
    let mut text = "doubts\n".to_owned();
    for warning in sorted {
        let severity = match warning.severity {
            Severity::Note => "note",
            Severity::Warning => "WARNING",
            Severity::Error => "ERROR",
        };
        let _ = writeln!(text, "  {severity} ({}): {}", warning.code, warning.text);
        if !warning.advice.is_empty() {
            let _ = writeln!(text, "    {}", warning.advice);
        }
    }
    text
}

fn written(files: &[(&'static str, PathBuf)]) -> String {
    let mut table = Table::new(2).left(1);
    for (flag, path) in files {
        table.row([(*flag).to_owned(), path.display().to_string()]);
    }
    match files {
        [] => String::new(),
        _ => format!("files\n{}", table.text()),
    }
}

/// A row's name and its figure.
type Level = (&'static str, fn(&Quantiles) -> Option<f64>);

/// The rows of the table of percentiles.
const LEVELS: [Level; 8] = [
    ("min", |it| it.min_us),
    ("mean", |it| it.mean_us),
    ("p50", |it| it.p50_us),
    ("p90", |it| it.p90_us),
    ("p99", |it| it.p99_us),
    ("p99.9", |it| it.p99_9_us),
    ("p99.99", |it| it.p99_99_us),
    ("max", |it| it.max_us),
];

#[cfg(test)]
mod tests;
