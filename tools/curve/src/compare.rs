//! Two results side by side: what differs, and what is noise.
//!
//! The one idea: points of the same setup are compared with each other and by cost, which is steadier than any rate. A
//! difference is told only where a test finds chance an unlikely author (`polyloop_measure::significance`), and with
//! five setups in a hundred called different by chance alone, their number is told beside that.
//!
//! Deliberately absent: any attempt to make results of two machines alike. Where the machines differ it is said, and
//! what to do with that is the reader's.

use std::fmt::Write as _;

use polyloop_measure::significance::{Comparison, Difference, compare};

use crate::points::{Measured, Points};
use crate::report::groups::{Group, groups, label, varying};
use crate::sweep::Setup;

/// What came of a comparison.
#[derive(Debug, Clone, PartialEq)]
pub struct Compared {
    /// A row for each setup that is in both.
    pub rows: Vec<Row>,
    /// What is in one only, or differs between the machines.
    pub remarks: Vec<String>,
}

/// One setup.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Which.
    pub name: String,
    /// Processor time of the server per request, new over old; none where too little is known.
    pub cost: Option<Comparison>,
    /// The same of the rate.
    pub rate: Option<Comparison>,
}

impl Compared {
    /// Compares `new` with `old`. Doubtful points are left out on both sides.
    #[must_use]
    pub fn new(old: &Points, new: &Points) -> Self {
        let (before, after) = (groups(&old.all), groups(&new.all));
        let varying = varying(&after);
        let mut remarks = machines(old, new);
        let mut rows = Vec::new();
        for group in &after {
            let Some(other) = find(&before, &group.setup) else {
                remarks.push(format!("{} is in the newer one only", group.setup));
                continue;
            };
            let of = |figure: fn(&Measured) -> Option<f64>| {
                compare(&values(other, figure), &values(group, figure), SEED)
            };
            rows.push(Row {
                name: label(&group.setup, &varying, &[]),
                cost: of(|one| one.server_us),
                rate: of(|one| Some(one.rate)),
            });
        }
        let gone = before
            .iter()
            .filter(|group| find(&after, &group.setup).is_none());
        remarks.extend(gone.map(|group| format!("{} is in the older one only", group.setup)));
        Self { rows, remarks }
    }

    /// Setups that cost significantly more, by more than so many percent.
    #[must_use]
    pub fn worse(&self, percent: f64) -> Vec<&Row> {
        let is_worse = |row: &&Row| {
            let limit = 1.0 + percent / 100.0;
            row.cost
                .is_some_and(|cost| cost.is_significant && cost.ratio > limit)
        };
        self.rows.iter().filter(is_worse).collect()
    }

    /// As a table of text.
    #[must_use]
    pub fn text(&self) -> String {
        let width = self.rows.iter().map(|row| row.name.chars().count()).max();
        let width = width.unwrap_or(0);
        let mut text = format!(
            "{:width$}  {:<32}  {:<32}\n",
            "", "server time/request, new/old", "rate, new/old"
        );
        for row in &self.rows {
            let _ = writeln!(
                text,
                "{:width$}  {:<32}  {:<32}",
                row.name,
                cell(row.cost),
                cell(row.rate)
            );
        }
        let told = self.rows.iter().filter_map(|row| row.cost);
        let different = told.clone().filter(|cost| cost.is_significant).count();
        let _ = writeln!(
            text,
            "\n{different} of {} setups differ in cost; about one in twenty does by chance. ~ is noise.",
            told.count()
        );
        for remark in &self.remarks {
            let _ = writeln!(text, "note: {remark}");
        }
        text
    }
}

fn find<'g, 'p>(groups: &'g [Group<'p>], setup: &Setup) -> Option<&'g Group<'p>> {
    groups.iter().find(|group| group.setup == *setup)
}

fn values(group: &Group<'_>, figure: fn(&Measured) -> Option<f64>) -> Vec<f64> {
    let good = group.measured().filter(|one| !one.is_doubtful());
    good.filter_map(figure).collect()
}

fn cell(of: Option<Comparison>) -> String {
    of.map_or_else(
        || "too few undoubted points".to_owned(),
        |of| {
            let word = match of.difference() {
                Difference::Noise => "~",
                other => other.as_str(),
            };
            format!("{:.3} ({:.3} to {:.3}) {word}", of.ratio, of.low, of.high)
        },
    )
}

fn machines(old: &Points, new: &Points) -> Vec<String> {
    let (before, after) = (&old.head.machine, &new.head.machine);
    let facts = [
        ("processor", &before.processor, &after.processor),
        ("kernel", &before.kernel, &after.kernel),
    ];
    let differ = facts.into_iter().filter(|(_, old, new)| old != new);
    let mut remarks: Vec<String> = differ
        .map(|(what, old, new)| {
            format!("another {what}, {old:?} and {new:?}: ratios may be the machines'")
        })
        .collect();
    for (name, value) in &new.head.how {
        let before = old.head.how.iter().find(|(known, _)| known == name);
        if let Some((_, before)) = before.filter(|(_, before)| before != value) {
            remarks.push(format!(
                "another {name}, {before:?} and {value:?}: ratios may be the measurements'"
            ));
        }
    }
    remarks
}

const SEED: u64 = 1;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::points::Outcome;
    use crate::points::tests::{head, point};
    use polyloop_measure::host::Scratch;

    /// A result whose points cost so many times what they would.
    fn result(scratch: &Scratch, name: &str, times: f64, loops: &[&str]) -> Points {
        let mut points = Points::open(&scratch.path().join(name), head()).unwrap();
        for round in 0..6 {
            for loops in loops {
                let mut point = point("a", &[("loops", loops)], round);
                if let Outcome::Measured(measured) = &mut point.outcome {
                    let wobble = 1.0 + f64::from(round) * 1e-4;
                    measured.server_us = measured.server_us.map(|us| us * times * wobble);
                }
                points.add(point).unwrap();
            }
        }
        points
    }

    #[test]
    fn a_loss_is_told_and_noise_is_not() {
        // Goal: 10 % more is significant and fails at 3 %, the same again is noise; by results made for it.
        let scratch = Scratch::new().unwrap();
        let old = result(&scratch, "old", 1.0, &["1", "2"]);
        let worse = Compared::new(&old, &result(&scratch, "worse", 1.1, &["1", "2"]));
        assert_eq!(worse.worse(3.0).len(), 2);
        assert!(worse.worse(12.0).is_empty());
        assert!(worse.text().contains("higher") && worse.text().contains("2 of 2"));
        let same = Compared::new(&old, &result(&scratch, "same", 1.0, &["1", "2"]));
        assert!(same.worse(0.0).is_empty());
        assert!(same.text().contains('~') && same.text().contains("0 of 2"));
    }

    #[test]
    fn what_is_in_one_only_is_told() {
        // Goal: nothing is compared with nothing; by results with different loops, and another machine.
        let scratch = Scratch::new().unwrap();
        let old = result(&scratch, "old", 1.0, &["1", "2"]);
        let mut new = result(&scratch, "new", 1.0, &["1", "4"]);
        new.head.machine.processor = "another".into();
        new.head.how[0].1 = "9s".into();
        let compared = Compared::new(&old, &new);
        assert_eq!((compared.rows.len(), compared.remarks.len()), (1, 4));
        assert!(
            compared
                .text()
                .contains("another duration, \"3s\" and \"9s\"")
        );
        assert!(
            compared
                .text()
                .contains("note: a loops=2 is in the older one only")
        );
    }
}
