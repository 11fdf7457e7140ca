//! What a run leaves behind: tables for a person and one JSON file for everything else.
//!
//! The one idea: the file is complete. It holds every setting, the machine, the commit and each single window, and it
//! is written again after every step, so a run that is interrupted leaves the rounds it finished.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use polyloop_measure::host::{self, Machine};
use polyloop_measure::stats::{Ratio, Verdict};
use serde::Serialize;

use crate::measure::Cell;

/// The content of a result file.
#[derive(Debug, Serialize)]
pub struct Report<S: Serialize> {
    /// Name of the benchmark.
    pub benchmark: &'static str,
    /// When it began, in seconds since 1970.
    pub started_s: u64,
    /// The commit of the working tree it was started in.
    pub commit: Option<String>,
    /// The machine.
    pub machine: Machine,
    /// Congestion control in force.
    pub congestion: String,
    /// Every setting, defaults included.
    pub settings: S,
    /// How the subjects were started.
    pub subjects: Vec<crate::subject::Subject>,
    /// Every window.
    pub cells: Vec<Cell>,
    /// Figures that are not windows of load, one object each.
    pub facts: Vec<serde_json::Value>,
    /// The ratios, with what was asked of them.
    pub ratios: Vec<Comparison>,
    /// Reasons to doubt the result as a whole.
    pub warnings: Vec<String>,
    #[serde(skip)]
    path: PathBuf,
}

/// One ratio of the result.
#[derive(Debug, Clone, Serialize)]
pub struct Comparison {
    /// What was divided by what.
    pub name: String,
    /// The median ratio and its interval.
    pub ratio: Ratio,
    /// At most this is wanted.
    pub goal: Option<f64>,
    /// What the interval says about the goal.
    pub verdict: Option<Verdict>,
}

impl Comparison {
    /// Judges `ratio` against `goal`, if there is one.
    #[must_use]
    pub fn new(name: String, ratio: Ratio, goal: Option<f64>) -> Self {
        Self {
            name,
            ratio,
            goal,
            verdict: goal.map(|goal| ratio.judge(goal)),
        }
    }
}

impl<S: Serialize> Report<S> {
    /// An empty report that will be written to `directory`.
    ///
    /// # Errors
    /// When the directory cannot be made.
    pub fn new(benchmark: &'static str, directory: &Path, settings: S) -> Result<Self> {
        fs::create_dir_all(directory)
            .with_context(|| format!("{} cannot be made", directory.display()))?;
        let started_s = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs());
        Ok(Self {
            benchmark,
            started_s,
            commit: host::commit(),
            machine: Machine::read(),
            congestion: String::new(),
            settings,
            subjects: Vec::new(),
            cells: Vec::new(),
            facts: Vec::new(),
            ratios: Vec::new(),
            warnings: Vec::new(),
            path: directory.join(format!("{benchmark}-{started_s}.json")),
        })
    }

    /// Writes what is known so far; the file is replaced as a whole.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self) -> Result<()> {
        let text = serde_json::to_string_pretty(self)?;
        let partial = self.path.with_extension("json.part");
        fs::write(&partial, text + "\n")
            .and_then(|()| fs::rename(&partial, &self.path))
            .with_context(|| format!("{} cannot be written", self.path.display()))
    }

    /// Where the file is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Values of the windows of one subject at `connections`, in the order of their rounds.
    #[must_use]
    pub fn values(&self, subject: &str, connections: usize, of: fn(&Cell) -> f64) -> Vec<f64> {
        let mut cells: Vec<&Cell> = self
            .cells
            .iter()
            .filter(|cell| cell.subject == subject && cell.connections == connections)
            .collect();
        cells.sort_by_key(|cell| cell.round);
        cells.into_iter().map(of).collect()
    }

    /// Adds a warning about the doubtful windows, if there are any.
    pub fn warn_of_doubtful_cells(&mut self) {
        let doubtful: Vec<&Cell> = self.cells.iter().filter(|c| !c.doubts.is_empty()).collect();
        let Some(first) = doubtful.first() else {
            return;
        };
        let warning = format!(
            "{} of {} windows are doubtful (first: {}, round {}: {}); repeat on a quiet machine",
            doubtful.len(),
            self.cells.len(),
            first.subject,
            first.round + 1,
            first.doubts.join(", ")
        );
        self.warnings.push(warning);
    }

    /// Prints the ratios, the warnings and the path of the file.
    pub fn print_end(&self) {
        if !self.ratios.is_empty() {
            let mut table = Table::new(&["ratio", "median", "95 % interval", "pairs", "goal", ""]);
            for comparison in &self.ratios {
                table.row(ratio_row(comparison));
            }
            println!("\n{table}");
        }
        println!("congestion control: {}", self.congestion);
        println!("result: {}", self.path.display());
        for warning in &self.warnings {
            eprintln!("warning: {warning}");
        }
    }
}

fn ratio_row(comparison: &Comparison) -> Vec<String> {
    let ratio = &comparison.ratio;
    vec![
        comparison.name.clone(),
        format!("{:.3}", ratio.median),
        format!("{:.3} .. {:.3}", ratio.low, ratio.high),
        ratio.pairs.to_string(),
        comparison
            .goal
            .map_or(String::new(), |goal| format!("<= {goal}")),
        comparison.verdict.map_or("", Verdict::as_str).to_owned(),
    ]
}

/// Columns of text: the first to the left, the others to the right.
#[derive(Debug, Clone)]
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these headings.
    #[must_use]
    pub fn new(headings: &[&str]) -> Self {
        Self {
            rows: vec![headings.iter().map(|&heading| heading.to_owned()).collect()],
        }
    }

    /// Adds a row; missing columns stay empty.
    pub fn row(&mut self, columns: Vec<String>) {
        self.rows.push(columns);
    }
}

impl std::fmt::Display for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|text| text.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        for row in &self.rows {
            let mut line = String::new();
            for (column, text) in row.iter().enumerate() {
                let width = widths[column];
                if column == 0 {
                    line += &format!("{text:<width$}");
                } else {
                    line += &format!("  {text:>width$}");
                }
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        // Goal: the widest cell of a column sets its width, the first column is left-aligned; by a small table.
        let mut table = Table::new(&["name", "ns"]);
        table.row(vec!["a".into(), "1234".into()]);
        table.row(vec!["longer".into(), "5".into()]);
        assert_eq!(
            table.to_string(),
            "name      ns\na       1234\nlonger     5\n"
        );
    }

    #[test]
    fn a_ratio_is_printed_with_its_verdict() {
        // Goal: interval, goal and verdict stand in one row, by a ratio that meets its goal.
        let ratio = Ratio {
            pairs: 10,
            median: 0.987,
            low: 0.97,
            high: 1.0,
        };
        let row = ratio_row(&Comparison::new("a / b".into(), ratio, Some(1.05)));
        assert_eq!(
            row,
            ["a / b", "0.987", "0.970 .. 1.000", "10", "<= 1.05", "met"]
        );
    }
}
