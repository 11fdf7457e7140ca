//! Short ways for tests to go from flags and a text to settings, or to what is wrong with them.

use clap::Parser;

use super::args::ProxyArgs;
use super::diagnostic::Source;
use super::resolve::{Effective, Refusal, with_source};
use crate::args::{Cli, Command};

/// Flags as typed; words are split at spaces.
pub(super) fn try_args(flags: &str) -> Result<ProxyArgs, clap::Error> {
    let words = ["polyloop", "proxy"]
        .into_iter()
        .chain(flags.split_whitespace());
    let Cli { command } = Cli::try_parse_from(words)?;
    match command {
        Command::Proxy(args) => Ok(*args),
        other => panic!("{other:?} is no proxy"),
    }
}

pub(super) fn args(flags: &str) -> ProxyArgs {
    try_args(flags).unwrap_or_else(|error| panic!("{flags}: {error}"))
}

/// Flags over a file of this text, `x.toml`; an empty text is no file.
pub(super) fn try_resolve(flags: &str, text: &str) -> Result<Effective, Refusal> {
    let source = (!text.is_empty()).then(|| Source {
        path: "x.toml".into(),
        text: text.to_owned(),
    });
    with_source(args(flags), source)
}

pub(super) fn resolve(flags: &str, text: &str) -> Effective {
    try_resolve(flags, text).unwrap_or_else(|refusal| panic!("{flags}\n{text}\n{}", refusal.report))
}

/// The messages, one a line, without the lines of the file.
pub(super) fn messages(flags: &str, text: &str) -> Vec<String> {
    let report = match try_resolve(flags, text) {
        Ok(effective) => effective.warnings,
        Err(refusal) => refusal.report,
    };
    let is_message = |line: &&str| !line.starts_with(' ');
    report
        .lines()
        .filter(is_message)
        .map(str::to_owned)
        .collect()
}
