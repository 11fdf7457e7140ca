//! What several settings can contradict each other in, and what they come to when they do not.
//!
//! The one idea: a draft is complete, so each rule looks at values alone and needs to know of a value's origin only to
//! point at it. All rules run, so that all mistakes are told at once; the settings that come out are used only if there
//! was no error.
//!
//! A *warning* is for what can be meant and rarely is: a value that has no effect, a group that nobody uses.

mod backends;
mod clients;

use std::collections::BTreeMap;
use std::ops::Range;

use polyloop_proxy::settings::{AccessLogTo, GlobalLimits, ListenerSettings, ProxySettings};

use super::diagnostic::{Diagnostics, Source};
use super::draft::{Draft, Section};
use super::keys::{self, Table};
use super::origin::Origin;

/// Checks a draft, and makes settings of it.
pub(crate) fn check(
    draft: &Draft,
    source: Option<&Source>,
    diagnostics: &mut Diagnostics,
) -> ProxySettings {
    let groups: BTreeMap<&str, usize> = names(draft.groups.iter().map(|g| &g.draft.settings.name));
    let mut checker = Checker {
        source,
        diagnostics,
        is_unresolved: false,
    };
    let listeners = checker.listeners(&draft.listeners, &groups);
    let settings = checker.groups(&draft.groups);
    checker.group_use(draft, &listeners);
    checker.loops_to_itself(&draft.groups, &listeners);
    let process = &draft.process;
    let is_off = process.draft.access_log.to == AccessLogTo::Off;
    for name in ["access-log-format", "access-log-sample"] {
        checker.moot(process, name, is_off, "access-log is off");
    }
    let is_counted = |limits: &GlobalLimits| {
        limits.source_connections_max.is_some() || limits.source_rate.is_some()
    };
    let per_listener =
        |l: &ListenerSettings| l.source_connections_max.is_some() || l.source_rate.is_some();
    let uncounted = !is_counted(&process.draft.limits) && !listeners.iter().any(per_listener);
    checker.moot(
        process,
        "sources-max",
        uncounted,
        "no source-connections and no source-rate is set",
    );
    ProxySettings {
        listeners,
        groups: settings,
        limits: process.draft.limits.clone(),
        access_log: process.draft.access_log.clone(),
        drain_close: process.draft.drain_close,
        dns: process.draft.dns.clone(),
    }
}

/// The place of each name; of one that is given twice, the first.
fn names<'a>(names: impl Iterator<Item = &'a String>) -> BTreeMap<&'a str, usize> {
    let mut places = BTreeMap::new();
    for (index, name) in names.enumerate() {
        places.entry(name.as_str()).or_insert(index);
    }
    places
}

/// The rules, and where what they find is told.
struct Checker<'a> {
    source: Option<&'a Source>,
    diagnostics: &'a mut Diagnostics,
    /// Whether a listener's group is not known, so that nobody can say which groups are used.
    is_unresolved: bool,
}

impl Checker<'_> {
    /// Warns that a value was given and changes nothing. What is the default anyway surprises nobody.
    fn moot<S: Table>(
        &mut self,
        section: &Section<S>,
        name: &'static str,
        is_moot: bool,
        because: &str,
    ) {
        if is_moot && keys::departs(section, name) {
            let message = format!("{} has no effect: {because}", told(section, name));
            self.diagnostics
                .warn(section.origin(name).key_span(), message);
        }
    }

    /// That several sections of a kind all have names, and no two the same.
    fn unique_names<S>(&mut self, kind: &str, sections: &[Section<S>], name: fn(&S) -> &String) {
        let mut first: BTreeMap<&str, &Section<S>> = BTreeMap::new();
        for section in sections {
            let name = name(&section.draft).as_str();
            if name.is_empty() {
                let count = sections.len();
                let message =
                    format!("there are {count} {kind}s, so each needs a name; add name = \"...\"");
                self.diagnostics.error(section.header.clone(), message);
            } else if let Some(earlier) = first.get(name) {
                let at = self.line_of(place(earlier, "name"));
                let message =
                    format!("there is a {kind} {name:?} already{at}; give each its own name");
                self.diagnostics.error(place(section, "name"), message);
            } else {
                first.insert(name, section);
            }
        }
    }

    /// ` (path:line)`, or nothing where there is no file.
    fn line_of(&self, span: Option<Range<usize>>) -> String {
        match (self.source, span) {
            (Some(source), Some(span)) => format!(" ({})", source.line_of(span.start)),
            _ => String::new(),
        }
    }
}

/// What to point at: the value, or the section's header.
fn place<S>(section: &Section<S>, name: &str) -> Option<Range<usize>> {
    section
        .origin(name)
        .value_span()
        .or_else(|| section.header.clone())
}

/// A setting as whoever gave it wrote it.
fn told<S>(section: &Section<S>, name: &str) -> String {
    match section.origin(name) {
        Origin::Flag(flag) => format!("--{flag}"),
        Origin::Default | Origin::File { .. } => name.to_owned(),
    }
}

#[cfg(test)]
mod tests;
