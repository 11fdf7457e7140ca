//! `--print-config`: what is in force, and where each value came from, as a file that can be read again.
//!
//! The one idea: the lines follow from the tables of `keys`; there is nothing to print that is not a
//! setting, and no setting that is not printed. A value that nobody gave and that only the machine decides is a comment.

use std::fmt::Write as _;

use polyloop::{AcceptMode, ServerSettings};
use tracing_subscriber::filter::LevelFilter;

use super::diagnostic::Source;
use super::draft::{Process, Section};
use super::keys::{self, Key};
use super::origin::Origin;
use super::resolve::Effective;
use super::value::Value;
use crate::args::{AcceptArg, MemoryArg, PinArg, ServeArgs, TimeOrOff};

/// One setting in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Row {
    /// Its name.
    pub(crate) name: &'static str,
    /// Its value, as TOML; `None` if there is none.
    pub(crate) value: Option<String>,
    /// What it is where there is no value.
    pub(crate) unset: &'static str,
    /// Where it came from: `default`, `--flag` or `file:line`.
    pub(crate) origin: String,
}

/// Settings that belong together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Block {
    /// How the file begins it: `[server]`, `[[group.backend]]`.
    pub(crate) header: &'static str,
    /// Its settings, in the order of the documentation.
    pub(crate) rows: Vec<Row>,
}

/// The settings in force, as a file.
pub(crate) fn print(effective: &Effective) -> String {
    let mut text = String::from("# The settings in force, and where each came from.\n");
    for Block { header, rows } in blocks(effective) {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "\n{header}");
        for Row {
            name,
            value,
            unset,
            origin,
        } in rows
        {
            let _ = match value {
                Some(value) => {
                    let setting = format!("{name} = {value}");
                    writeln!(text, "{setting:<COMMENT_AT$} # {origin}")
                }
                None => {
                    let setting = format!("# {name} =");
                    writeln!(text, "{setting:<COMMENT_AT$} # {origin}: {unset}")
                }
            };
        }
    }
    text
}

/// The settings in force, block by block, in the order of the file.
pub(crate) fn blocks(effective: &Effective) -> Vec<Block> {
    let source = effective.source.as_ref();
    let draft = &effective.draft;
    let completed = Process {
        args: with_defaults(&draft.process.draft.args, &effective.server.server),
        limits: draft.process.draft.limits.clone(),
        access_log: draft.process.draft.access_log.clone(),
        drain_close: draft.process.draft.drain_close,
        dns: draft.process.draft.dns.clone(),
    };
    let process = |header, keys: &'static [Key<Process>]| Block {
        header,
        rows: rows(keys, &completed, &draft.process, source),
    };
    let mut blocks = vec![
        process("[server]", keys::SERVER),
        process("[limits]", keys::LIMITS),
    ];
    for listener in &draft.listeners {
        blocks.push(block("[[listener]]", keys::LISTENER, listener, source));
        let routes = listener.draft.routes.iter();
        blocks.extend(routes.map(|route| block("[[listener.route]]", keys::ROUTE, route, source)));
    }
    for group in &draft.groups {
        blocks.push(block("[[group]]", keys::GROUP, group, source));
        for backend in &group.draft.backends {
            blocks.push(block("[[group.backend]]", keys::BACKEND, backend, source));
        }
    }
    blocks
}

fn block<S>(
    header: &'static str,
    keys: &'static [Key<S>],
    section: &Section<S>,
    source: Option<&Source>,
) -> Block {
    Block {
        header,
        rows: rows(keys, &section.draft, section, source),
    }
}

fn rows<S>(
    keys: &'static [Key<S>],
    draft: &S,
    section: &Section<S>,
    source: Option<&Source>,
) -> Vec<Row> {
    keys.iter()
        .map(|key| Row {
            name: key.name,
            value: key.show(draft).as_ref().map(Value::to_toml),
            unset: key.unset,
            origin: origin(section.origin(key.name), source),
        })
        .collect()
}

fn origin(origin: &Origin, source: Option<&Source>) -> String {
    match (origin, source) {
        (Origin::Flag(flag), _) => format!("--{flag}"),
        (Origin::File { key, .. }, Some(source)) => source.line_of(key.start),
        (Origin::File { .. } | Origin::Default, _) => "default".to_owned(),
    }
}

/// What was typed, with the defaults that are the same on every machine.
fn with_defaults(args: &ServeArgs, server: &ServerSettings) -> ServeArgs {
    let tuning = &server.tuning;
    let is_acceptor = matches!(server.accept, AcceptMode::Acceptor(_));
    let pool = |index: usize| server.pools.get(index).map(|pool| pool.threads as u64);
    ServeArgs {
        pin: args.pin.or(Some(PinArg::Auto)),
        backlog: Some(u64::from(server.backlog)),
        accept: args.accept.or(Some(AcceptArg::Reuseport)),
        spread: match server.accept {
            AcceptMode::Acceptor(spread) if is_acceptor => Some(spread),
            _ => None,
        },
        spin: Some(tuning.spin),
        events_per_poll: Some(tuning.events_max as u64),
        read_budget: Some(tuning.read_bytes_max as u64),
        quota: Some(tuning.quota),
        accept_burst: Some(tuning.accept_max as u64),
        inbox_budget: Some(tuning.inbox_max as u64),
        linger: Some(tuning.linger_timeout),
        drain: Some(server.drain),
        offload_cpu: pool(0),
        offload_blocking: pool(1),
        stall_after: Some(TimeOrOff(server.stall_threshold)),
        log: args.log.or(Some(LevelFilter::INFO)),
        when_full: Some(server.when_full),
        memory_max: Some(MemoryArg(server.memory_max)),
        ..args.clone()
    }
}

/// Wide enough for most settings.
const COMMENT_AT: usize = 40;

#[cfg(test)]
mod tests;
