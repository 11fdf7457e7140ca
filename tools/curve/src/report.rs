//! The report of a result: one HTML file and each picture as a file of its own.
//!
//! ```text
//!   points ──> groups (rounds of a setup) ──> figures, latency ── data ──> plot (SVG) ─┐
//!                                                    └── tables and sentences ───────> html (one page)
//! ```
//!
//! The one idea: what to doubt comes first. Where generator and server shared cores, that is the first sentence and cost
//! is the first figure, as throughput says little then; a figure whose points are missing is replaced by the reason.
//!
//! Invariant: the page fetches nothing, and the same result gives the same page, byte for byte.

mod deviation;
pub mod figures;
pub mod groups;
pub mod html;
mod latency;
pub mod plot;
pub mod scale;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::points::{Head, Outcome, Point};
use crate::run::shell::typed;
use figures::Made;
use groups::{Group, groups};
use html::{Figure, Table, escaped, loud, page, paragraph, section, verbatim};

/// Writes `report.html` and the pictures into `directory`, and tells where.
///
/// # Errors
/// When a file cannot be written.
pub fn write(head: &Head, points: &[Point], directory: &Path) -> Result<PathBuf> {
    let (page, figures) = render(head, points);
    let put = |name: &str, text: &str| -> Result<PathBuf> {
        let path = directory.join(name);
        fs::write(&path, text).with_context(|| format!("{} cannot be written", path.display()))?;
        Ok(path)
    };
    for (name, svg) in figures.iter().flat_map(Figure::files) {
        put(&name, &svg)?;
    }
    put(FILE, &page)
}

/// The page, and the figures in it.
#[must_use]
pub fn render(head: &Head, points: &[Point]) -> (String, Vec<Figure>) {
    let groups = groups(points);
    let is_shared = groups
        .iter()
        .flat_map(Group::measured)
        .any(|one| one.shares_cores());
    let mut made: Vec<Made> = vec![
        figures::peers(&groups),
        figures::cost(&groups),
        figures::efficiency(&groups),
        deviation::deviation(&groups),
        latency::imbalance(&groups),
        latency::shares(&groups),
        latency::hockey_stick(&groups),
        latency::spectrum(&groups),
        latency::heat_map(&groups),
    ];
    let throughput = figures::throughput(&groups);
    made.insert(if is_shared { made.len() } else { 0 }, throughput);
    made.push(Ok(latency::simulated()));
    let (mut figures, mut left_out) = (Vec::new(), head.left_out.clone());
    for figure in made {
        match figure {
            Ok(figure) => figures.push(figure),
            Err(reason) => left_out.push(reason),
        }
    }
    let mut body = summary(head, points, &groups);
    if is_shared {
        body += &loud(
            "Generator and server share cores.",
            "Each takes time from the other, so throughput says what both can do together and latency holds the \
             generator's turns. Read processor time per request: it is billed to the server alone. Curves of throughput \
             need a machine with cores for both.",
        );
    }
    for figure in &figures {
        body += &figure.html();
    }
    body += &end(head, points, &groups, &left_out);
    (page("Scaling curves", &body), figures)
}

fn summary(head: &Head, points: &[Point], groups: &[Group<'_>]) -> String {
    let measured = points.iter().filter_map(Point::measured);
    let doubted = measured.clone().filter(|one| one.is_doubtful()).count();
    let (count, machine) = (measured.count(), &head.machine);
    let mut html = paragraph(&format!(
        "{count} points of {} setups, {doubted} doubted; begun {}, {} {}.",
        groups.len(),
        head.started,
        machine.processor,
        format_args!(
            "with {} cores for this process, kernel {}",
            machine.cores, machine.kernel
        ),
    ));
    html += &format!(
        "<p class=\"dim\">Marks are medians over rounds, strokes their 95 % intervals. A hollow mark, or a pale bar, has \
         no round that is not doubted: {}.</p>\n",
        escaped(&doubts(points))
    );
    if count == 0 {
        html += &loud(
            "Nothing was measured.",
            "What failed, and what it said, is below.",
        );
    }
    html
}

/// Each serious doubt with how many points have it.
fn doubts(points: &[Point]) -> String {
    let mut counts = std::collections::BTreeMap::<&str, usize>::new();
    for doubt in points
        .iter()
        .filter_map(Point::measured)
        .flat_map(|one| &one.doubts)
        .filter(|doubt| doubt.is_serious)
    {
        *counts.entry(&doubt.code).or_default() += 1;
    }
    let words: Vec<String> = counts
        .into_iter()
        .map(|(code, count)| format!("{code} ({count})"))
        .collect();
    if words.is_empty() {
        "there are none".to_owned()
    } else {
        words.join(", ")
    }
}

/// What is missing, the machine, and the commands.
fn end(head: &Head, points: &[Point], groups: &[Group<'_>], left_out: &[String]) -> String {
    let mut html = String::new();
    if !left_out.is_empty() {
        html += "<h2>Left out</h2>\n";
        html += &left_out
            .iter()
            .map(|reason| paragraph(reason))
            .collect::<String>();
    }
    // One that was measured by a later start is no gap any more.
    let is_gap = |failed: &&Point| {
        let is_same = |one: &Point| one.round == failed.round && one.setup() == failed.setup();
        !points
            .iter()
            .any(|one| one.measured().is_some() && is_same(one))
    };
    let failed: Vec<&Point> = points
        .iter()
        .filter(|one| one.measured().is_none())
        .filter(is_gap)
        .collect();
    if !failed.is_empty() {
        html += "<h2>Failed</h2>\n";
    }
    for point in failed {
        if let Outcome::Failed(reason) = &point.outcome {
            let title = format!("{} in round {}", point.setup(), point.round);
            html += &verbatim(&title, &format!("{}\n\n{reason}", point.server_command));
        }
    }
    html += &section("Machine", &machine(head));
    html += "<h2>Commands</h2>\n";
    html += &paragraph("All of it again, or the rest of it after an interrupt:");
    let commands: Vec<String> = std::iter::once(&head.command)
        .chain(&head.later)
        .map(|words| typed(words))
        .collect();
    html += &format!("<pre>{}</pre>\n", escaped(&commands.join("\n")));
    html += &paragraph(&format!(
        "Seed {}, commit {}, version {}.",
        head.seed,
        head.commit.as_deref().unwrap_or("unknown"),
        head.version
    ));
    for group in groups {
        if let Some(point) = group.points.first() {
            let commands = format!("{}\n{}", point.server_command, point.load_command);
            html += &verbatim(&group.setup.to_string(), &commands);
        }
    }
    for (name, text) in &head.subjects {
        html += &verbatim(&format!("{name}.toml"), text);
    }
    html
}

fn machine(head: &Head) -> Table {
    let machine = &head.machine;
    let mut table = Table::new(&["fact", "value"]);
    let quota = machine
        .quota_cores
        .map_or_else(|| "none".to_owned(), |cores| cores.to_string());
    let mut rows = vec![
        ("processor", machine.processor.clone()),
        ("cores", machine.cores.to_string()),
        ("quota, cores", quota),
        ("governor", machine.governor.clone()),
        ("clock source", machine.clocksource.clone()),
        ("memory, MiB", (machine.memory_kib / 1024).to_string()),
        ("kernel", machine.kernel.clone()),
        ("open files", machine.open_files_max.to_string()),
        ("load average before", machine.load_average.clone()),
    ];
    for (name, value) in &machine.settings {
        rows.push((name, value.clone()));
    }
    table.rows = rows
        .into_iter()
        .map(|(name, value)| vec![name.to_owned(), value])
        .collect();
    table
}

/// The page within a result's directory.
pub const FILE: &str = "report.html";

#[cfg(test)]
mod tests;
