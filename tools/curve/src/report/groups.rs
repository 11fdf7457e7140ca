//! Points put together: the rounds of a setup, and the setups of a line.

use std::collections::{BTreeMap, BTreeSet};

use super::plot::{Look, Mark, Series};
use crate::points::{Measured, Point};
use crate::sweep::Setup;

/// The rounds of one setup that gave figures.
#[derive(Debug)]
pub struct Group<'a> {
    /// What was measured.
    pub setup: Setup,
    /// Its points.
    pub points: Vec<&'a Point>,
}

/// A figure of a group.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Value {
    /// The median over the rounds.
    pub median: f64,
    /// Lower end of its 95 % interval.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// Only doubtful rounds had it.
    pub is_hollow: bool,
}

/// The groups of all points, in the order of their setups.
#[must_use]
pub fn groups(points: &[Point]) -> Vec<Group<'_>> {
    let mut by_setup: BTreeMap<Setup, Vec<&Point>> = BTreeMap::new();
    for point in points.iter().filter(|point| point.measured().is_some()) {
        by_setup.entry(point.setup()).or_default().push(point);
    }
    let mut groups: Vec<Group<'_>> = by_setup
        .into_iter()
        .map(|(setup, points)| Group { setup, points })
        .collect();
    // Values in the order of numbers where they are some: 64 before 1000.
    groups.sort_by(|a, b| {
        let key = |group: &Group<'_>| -> Vec<f64> {
            let axes = group.setup.settings.keys();
            axes.map(|axis| group.number(axis).unwrap_or(0.0)).collect()
        };
        let numbers = key(a)
            .into_iter()
            .zip(key(b))
            .map(|(a, b)| a.total_cmp(&b))
            .find(|order| order.is_ne());
        a.setup
            .subject
            .cmp(&b.setup.subject)
            .then(numbers.unwrap_or(std::cmp::Ordering::Equal))
            .then(a.setup.cmp(&b.setup))
    });
    groups
}

impl Group<'_> {
    /// The figures of its rounds.
    pub fn measured(&self) -> impl Iterator<Item = &Measured> {
        self.points.iter().filter_map(|point| point.measured())
    }

    /// A figure over the rounds that are not doubted, or over all where none is left.
    #[must_use]
    pub fn value(&self, figure: impl Fn(&Measured) -> Option<f64>) -> Option<Value> {
        let of = |doubtful: bool| -> Vec<f64> {
            self.measured()
                .filter(|measured| measured.is_doubtful() == doubtful)
                .filter_map(&figure)
                .collect()
        };
        let good = of(false);
        let (values, is_hollow) = if good.is_empty() {
            (of(true), true)
        } else {
            (good, false)
        };
        let (median, low, high) = median(values)?;
        Some(Value {
            median,
            low,
            high,
            is_hollow,
        })
    }

    /// A value of the setup as a number.
    #[must_use]
    pub fn number(&self, axis: &str) -> Option<f64> {
        self.points.first()?.number(axis)
    }

    /// How many rounds are doubted, of how many.
    #[must_use]
    pub fn doubted(&self) -> String {
        let doubted = self.measured().filter(|one| one.is_doubtful()).count();
        format!("{doubted}/{}", self.points.len())
    }
}

impl Value {
    /// As a mark at `x`.
    #[must_use]
    pub fn at(self, x: f64) -> Mark {
        Mark {
            x,
            y: self.median,
            low: self.low,
            high: self.high,
            is_hollow: self.is_hollow,
        }
    }
}

/// The median with its 95 % interval by order statistics, which assumes nothing about the law of the values: the
/// ranks between which the median lies, as each value is on either side of it with equal odds. Fewer than six values
/// cannot reach 95 %, and give their whole range.
fn median(mut values: Vec<f64>) -> Option<(f64, f64, f64)> {
    values.retain(|value| value.is_finite());
    values.sort_unstable_by(f64::total_cmp);
    let count = values.len();
    if count == 0 {
        return None;
    }
    let middle = f64::midpoint(values[(count - 1) / 2], values[count / 2]);
    // The odds that no more than so many of the values lie beyond, as of a coin.
    let mut odds = 0.5_f64.powf(count as f64);
    let (mut total, mut cut) = (odds, 0);
    for beyond in 1..count / 2 {
        odds *= (count - beyond + 1) as f64 / beyond as f64;
        total += odds;
        if total > 0.025 {
            break;
        }
        cut = beyond;
    }
    Some((middle, values[cut], values[count - 1 - cut]))
}

/// Axes that have more than one value.
#[must_use]
pub fn varying(groups: &[Group<'_>]) -> BTreeSet<String> {
    let mut values: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for group in groups {
        for (axis, value) in &group.setup.settings {
            values.entry(axis).or_default().insert(value);
        }
    }
    values
        .into_iter()
        .filter(|(_, values)| values.len() > 1)
        .map(|(axis, _)| axis.to_owned())
        .collect()
}

/// What a legend calls a setup: its subject, and the values that vary beside those in `without`.
#[must_use]
pub fn label(setup: &Setup, varying: &BTreeSet<String>, without: &[&str]) -> String {
    let mut label = setup.subject.clone();
    for (axis, value) in &setup.settings {
        if varying.contains(axis) && !without.contains(&axis.as_str()) {
            label += &format!(" {axis}={value}");
        }
    }
    label
}

/// The lines along `axis`: groups that differ in nothing else, with their names. Single points come last, so that they
/// take no line's place where not all are drawn.
#[must_use]
pub fn lines<'g, 'p>(groups: &'g [Group<'p>], axis: &str) -> Vec<(String, Vec<&'g Group<'p>>)> {
    let varying = varying(groups);
    let mut lines: Vec<(String, Vec<&Group<'_>>)> = Vec::new();
    for group in groups.iter().filter(|group| group.number(axis).is_some()) {
        let name = label(&group.setup, &varying, &[axis]);
        match lines.iter_mut().find(|(known, _)| *known == name) {
            Some((_, line)) => line.push(group),
            None => lines.push((name, vec![group])),
        }
    }
    lines.sort_by_key(|(_, line)| line.len() < 2);
    lines
}

/// The lines as series of a figure along `axis`.
#[must_use]
pub fn series(
    groups: &[Group<'_>],
    axis: &str,
    figure: impl Fn(&Measured) -> Option<f64>,
) -> Vec<Series> {
    let line = |(color, (name, line)): (usize, (String, Vec<&Group<'_>>))| Series {
        name,
        color,
        look: Look::Line,
        marks: line
            .iter()
            .filter_map(|group| Some(group.value(&figure)?.at(group.number(axis)?)))
            .collect(),
    };
    let lines = lines(groups, axis).into_iter().enumerate().map(line);
    lines
        .filter(|series| !series.marks.is_empty())
        .take(SERIES_MAX)
        .collect()
}

/// More lines than this cannot be told apart; the table under the picture has all.
pub const SERIES_MAX: usize = 8;

/// Intervals of a report can be drawn again.
pub const SEED: u64 = 1;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::points::tests::point;
    use crate::points::{Doubt, Outcome};

    #[test]
    fn rounds_and_lines_are_put_together() {
        // Goal: a group for each setup in the order of numbers, a line for each subject; by points of two subjects.
        let mut points = Vec::new();
        for round in 0..3 {
            for connections in ["1000", "64"] {
                points.push(point(
                    "a",
                    &[("connections", connections), ("size", "64")],
                    round,
                ));
                points.push(point(
                    "b",
                    &[("connections", connections), ("size", "64")],
                    round,
                ));
            }
        }
        let groups = groups(&points);
        assert_eq!(groups.len(), 4);
        assert_eq!(groups[0].setup.settings["connections"], "64");
        let lines = lines(&groups, "connections");
        let names: Vec<&str> = lines.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!((names, lines[0].1.len()), (vec!["a", "b"], 2));
        let series = series(&groups, "connections", |measured| measured.server_us);
        assert_eq!((series[0].marks.len(), series[0].marks[1].x), (2, 1000.0));
    }

    #[test]
    fn single_points_take_no_lines_place() {
        // Goal: a line is drawn though many single points come before it by name; by nine points and a line.
        let mut points: Vec<Point> = (0..9)
            .map(|number| point(&format!("a{number}"), &[("loops", "1")], 0))
            .collect();
        points.push(point("z", &[("loops", "1")], 0));
        points.push(point("z", &[("loops", "2")], 0));
        let groups = groups(&points);
        let series = series(&groups, "loops", |measured| measured.server_us);
        assert_eq!((series[0].name.as_str(), series[0].marks.len()), ("z", 2));
        assert_eq!(series.len(), SERIES_MAX);
    }

    #[test]
    fn a_median_has_the_interval_of_its_ranks() {
        // Goal: the known ranks: all of 6 to 8 values, the 2nd and 8th of 9, the 2nd and 9th of 10, the 6th and 15th of 20.
        let of = |count: u32| median((1..=count).rev().map(f64::from).collect()).unwrap();
        assert_eq!(of(1), (1.0, 1.0, 1.0));
        assert_eq!(of(6), (3.5, 1.0, 6.0));
        assert_eq!(of(8), (4.5, 1.0, 8.0));
        assert_eq!(of(9), (5.0, 2.0, 8.0));
        assert_eq!(of(10), (5.5, 2.0, 9.0));
        assert_eq!(of(20), (10.5, 6.0, 15.0));
        assert_eq!(median(vec![f64::NAN]), None);
    }

    #[test]
    fn doubtful_rounds_count_only_where_there_are_no_others() {
        // Goal: the median leaves them out, and is hollow where it cannot; by three rounds, then all of them doubted.
        let mut points: Vec<Point> = (0..3)
            .map(|round| point("a", &[("loops", "1")], round))
            .collect();
        let doubt = |point: &mut Point| {
            if let Outcome::Measured(measured) = &mut point.outcome {
                measured.rate = 1.0;
                measured.doubts.push(Doubt {
                    code: "steal".into(),
                    text: String::new(),
                    is_serious: true,
                });
            }
        };
        doubt(&mut points[0]);
        let value = groups(&points)[0].value(|one| Some(one.rate)).unwrap();
        assert!(value.median > 1.0 && !value.is_hollow);
        points.iter_mut().for_each(doubt);
        let all = groups(&points);
        let value = all[0].value(|one| Some(one.rate)).unwrap();
        assert!(value.median == 1.0 && value.is_hollow);
        assert_eq!(all[0].doubted(), "3/3");
    }
}
