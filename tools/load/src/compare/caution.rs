//! Whether results may be compared at all, and what to mistrust when they are.
//!
//! The one idea: a difference in how two results came about is told before the difference in what they say. Everything
//! is held against the first file of side A.

use std::collections::BTreeMap;

use serde_json::Value;

use super::samples::Values;
use super::{CompareError, Metric, Row, Sampling, Source, Strictness};
use crate::doubt::judge;
use crate::result::{Mode, Severity};

/// Refuses an open loop beside a closed one.
pub(super) fn refuse_modes(
    a: &[Source],
    b: &[Source],
    strictness: Strictness,
) -> Result<(), CompareError> {
    let name_of = |mode| {
        let mut all = a.iter().chain(b);
        all.find(|source| source.run.mode == mode)
            .map(|source| source.name.clone())
    };
    match (name_of(Mode::Open), name_of(Mode::Closed)) {
        (Some(open), Some(closed)) if strictness == Strictness::Refuse => {
            Err(CompareError::Modes { open, closed })
        }
        _ => Ok(()),
    }
}

/// The measured stages that all files have, in the order of the first.
pub(super) fn common_stages(a: &[Source], b: &[Source]) -> Result<Vec<String>, CompareError> {
    let names = |source: &Source| -> Vec<String> {
        source
            .run
            .measured()
            .map(|stage| stage.name.clone())
            .collect()
    };
    let first = a.first().map(names).unwrap_or_default();
    let common: Vec<String> = first
        .iter()
        .filter(|name| a.iter().chain(b).all(|source| names(source).contains(name)))
        .cloned()
        .collect();
    if !common.is_empty() {
        return Ok(common);
    }
    Err(CompareError::Stages {
        a: a.first()
            .map(|source| source.name.clone())
            .unwrap_or_default(),
        stages_a: first,
        b: b.first()
            .map(|source| source.name.clone())
            .unwrap_or_default(),
        stages_b: b.first().map(names).unwrap_or_default(),
    })
}

/// Every reason to mistrust a comparison that does not depend on its outcome.
pub(super) fn all(a: &[Source], b: &[Source], sampling: Sampling) -> Vec<String> {
    let mut cautions = Vec::new();
    if sampling == Sampling::Windows {
        cautions.push(
            "a side is a single run: what changes from run to run is in no interval; give several files on each side \
             (--a A1 A2 .. --b B1 B2 ..) for a verdict that covers it"
                .to_owned(),
        );
    }
    for source in a.iter().chain(b) {
        cautions.extend(of_file(source));
    }
    if let Some(first) = a.first() {
        for other in a.iter().chain(b).skip(1) {
            cautions.extend(differences(first, other));
        }
    }
    cautions
}

/// What a file says against itself.
fn of_file(source: &Source) -> Vec<String> {
    let mut cautions = Vec::new();
    if !source.run.is_complete {
        cautions.push(format!("{} was interrupted", source.name));
    }
    let codes: Vec<&str> = source
        .run
        .warnings
        .iter()
        .filter(|warning| warning.severity >= Severity::Warning)
        .map(|warning| warning.code.as_str())
        .collect();
    if !codes.is_empty() {
        cautions.push(format!(
            "{} doubts itself: {}",
            source.name,
            codes.join(", ")
        ));
    }
    cautions
}

/// How `other` came about differently.
fn differences(first: &Source, other: &Source) -> Vec<String> {
    let mut cautions = Vec::new();
    for (what, mine, others) in [
        ("setting", settings(first), settings(other)),
        ("machine", machine(first), machine(other)),
    ] {
        let names = mine
            .keys()
            .chain(others.keys().filter(|name| !mine.contains_key(*name)));
        let changed: Vec<String> = names
            .filter(|name| mine.get(*name) != others.get(*name))
            .map(|name| {
                let value = |side: &BTreeMap<String, String>| match side.get(name) {
                    None => "unset".to_owned(),
                    Some(value) if value.is_empty() => "unknown".to_owned(),
                    Some(value) => value.clone(),
                };
                format!("{name} {} -> {}", value(&mine), value(&others))
            })
            .collect();
        if !changed.is_empty() {
            let (first, other) = (&first.name, &other.name);
            cautions.push(format!(
                "another {what} ({first} -> {other}): {}",
                changed.join(", ")
            ));
        }
    }
    cautions
}

/// The settings that decide about figures, and the version.
fn settings(source: &Source) -> BTreeMap<String, String> {
    source
        .run
        .settings
        .iter()
        .filter(|setting| !OF_NO_ACCOUNT.contains(&setting.name.as_str()))
        .map(|setting| (setting.name.clone(), setting.value.clone()))
        .chain([("version".to_owned(), source.run.version.clone())])
        .collect()
}

/// The facts of the machine by name, those left out that change from minute to minute.
fn machine(source: &Source) -> BTreeMap<String, String> {
    let mut facts = BTreeMap::new();
    // A machine is always an object; anything else would have no facts.
    let Ok(Value::Object(fields)) = serde_json::to_value(&source.run.machine) else {
        return facts;
    };
    for (name, value) in fields {
        if !OF_THE_MINUTE.contains(&name.as_str()) && name != "settings" {
            facts.insert(name, plain(&value));
        }
    }
    for (name, value) in &source.run.machine.settings {
        facts.insert(name.clone(), value.clone());
    }
    facts
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// A metric whose whole stage says something else than its windows: a few events decide about it.
pub(super) fn single_events(stage: &str, row: &Row) -> Option<String> {
    let compared = row.compared?;
    let whole = row.b / row.a;
    let is_apart = whole < compared.low.min(compared.ratio) * 0.9
        || whole > compared.high.max(compared.ratio) * 1.1;
    is_apart.then(|| {
        format!(
            "{stage}, {}: B/A is {whole:.3} over all and {:.3} in a typical window, so that a few windows decide about \
             it; look at them, or compare several runs",
            row.metric.name(),
            compared.ratio
        )
    })
}

/// The first of several runs of a side that is unlike the others: often it ran colder than they did.
pub(super) fn first_run(
    stage: &str,
    metric: Metric,
    side: &[Source],
    values: &Values,
) -> Option<String> {
    let doubt = judge::first_run_outlier(&values.samples)?;
    let name = &side.first()?.name;
    Some(format!(
        "{stage}, {} of {name}: {}; {}",
        metric.name(),
        doubt.text(),
        doubt.advice()
    ))
}

/// Settings that say where results go, not what they are.
const OF_NO_ACCOUNT: [&str; 7] = ["json", "csv", "hlog", "hgrm", "live", "format", "seed"];

/// Facts that are never the same twice.
const OF_THE_MINUTE: [&str; 2] = ["load_average", "steal_share"];
