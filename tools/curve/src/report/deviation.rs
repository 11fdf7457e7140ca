//! How unevenly requests wait, by the way connections are spread.
//!
//! The one idea: a mean says nothing about who was unlucky. Under full load every way of spreading answers as many requests,
//! with the same mean wait; what sets them apart is how far the single waits lie from it.

use super::figures::{Made, chart, table};
use super::groups::{Group, label, varying};
use super::html::Figure;
use super::plot::{Look, Mark, Series};
use super::scale::{Scale, short};

/// The axis that this is about, and the value of it that the others are held against where it was measured.
const AXIS: &str = "mode";
const SHARED: &str = "shared-queue";

/// The deviation of each way.
pub(super) fn deviation(groups: &[Group<'_>]) -> Made {
    let varying = varying(groups);
    if !varying.contains(AXIS) {
        return Err(
            "latency deviation: no two points differ in mode; polyloop-curve study distribution sweeps it".to_owned(),
        );
    }
    let known: Vec<(&Group<'_>, Mark)> = groups
        .iter()
        .filter_map(|group| Some((group, group.value(|one| one.deviation_us)?)))
        .enumerate()
        .map(|(place, (group, value))| (group, value.at(place as f64)))
        .take(BARS_MAX)
        .collect();
    if known.is_empty() {
        return Err("latency deviation: no point has latencies".to_owned());
    }
    let names = known.iter().map(|(group, _)| {
        let name = label(&group.setup, &varying, &[]);
        let name = name.replace(&format!("{AXIS}="), "");
        name.split_once(' ')
            .map_or_else(|| name.clone(), |(_, rest)| rest.to_owned())
    });
    let names = names.collect();
    let mut says = vec![
        "The standard deviation of single latencies, median over rounds with its 95 % interval. With as many clients as ever \
         and every core busy, all ways of spreading have the same mean; a hash leaves requests behind others while a loop \
         elsewhere is free."
            .to_owned(),
    ];
    says.extend(beside_shared(groups));
    Ok(Figure {
        id: "deviation",
        title: "How unevenly requests wait".to_owned(),
        says,
        charts: vec![chart(
            "way to spread",
            Scale::Names(names),
            "deviation of latency, us",
            Scale::Linear,
            vec![Series {
                name: "deviation".to_owned(),
                color: 0,
                look: Look::Bar(60),
                marks: known.into_iter().map(|(_, mark)| mark).collect(),
            }],
        )],
        table: table(
            groups,
            &[
                ("deviation us", |one| one.deviation_us),
                ("mean us", |one| one.mean_us),
                ("p50 us", |one| one.latency_at(0.5)),
                ("p99 us", |one| one.latency_at(0.99)),
                ("longest us", |one| one.longest_us),
                ("requests/s", |one| Some(one.rate)),
            ],
        ),
    })
}

/// Each way's deviation over that of the shared queue which differs in nothing else.
fn beside_shared(groups: &[Group<'_>]) -> Vec<String> {
    let varying = varying(groups);
    let mode = |group: &Group<'_>| group.setup.settings.get(AXIS).cloned();
    let rest = |group: &Group<'_>| label(&group.setup, &varying, &[AXIS]);
    let deviation = |group: &Group<'_>| Some(group.value(|one| one.deviation_us)?.median);
    let mut says = Vec::new();
    for bound in groups
        .iter()
        .filter(|group| mode(group).as_deref() == Some(SHARED))
    {
        let Some(least) = deviation(bound).filter(|us| *us > 0.0) else {
            continue;
        };
        let times: Vec<String> = groups
            .iter()
            .filter(|group| rest(group) == rest(bound) && mode(group) != mode(bound))
            .filter_map(|group| {
                Some(format!(
                    "{} {}",
                    mode(group)?,
                    short(deviation(group)? / least)
                ))
            })
            .collect();
        if !times.is_empty() {
            says.push(format!(
                "Times the deviation of one queue for all ({}): {}.",
                rest(bound),
                times.join(", ")
            ));
        }
    }
    says
}

/// Bars and names that a phone has room for.
const BARS_MAX: usize = 16;
