//! The TOML text of a subject, with the place of each mistake.

use std::collections::BTreeMap;

use serde::Deserialize;
use toml::Spanned;

use super::template::{PLACES, Template};
use super::{Bill, Choice, Ready, Subject};

/// A mistake.
#[derive(Debug)]
pub(super) struct Wrong {
    /// Offset in the text.
    pub(super) at: usize,
    /// What is wrong.
    pub(super) what: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Raw {
    name: Spanned<String>,
    about: String,
    command: Spanned<String>,
    #[serde(default)]
    ready: Ready,
    #[serde(default)]
    bill: Bill,
    #[serde(default)]
    needs: Vec<String>,
    upstream: Option<Spanned<String>>,
    loops_max: Option<Spanned<usize>>,
    #[serde(default)]
    ends_with: Vec<i32>,
    #[serde(default)]
    load: Vec<String>,
    #[serde(default)]
    files: BTreeMap<String, Spanned<String>>,
    #[serde(default)]
    option: BTreeMap<String, Spanned<RawChoice>>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum RawChoice {
    Any(String),
    Named(BTreeMap<String, String>),
}

pub(super) fn parse(text: &str) -> Result<Subject, Wrong> {
    let raw: Raw = toml::from_str(text).map_err(|error| Wrong {
        at: error.span().map_or(0, |span| span.start),
        what: error.message().to_owned(),
    })?;
    check_name(&raw.name)?;
    let command = template(&raw.command, text)?;
    if command.first_word().is_empty() {
        return Err(wrong(&raw.command, "the command is empty"));
    }
    if !text.contains("{port}") {
        return Err(wrong(
            &raw.command,
            "no {port}: the server has to be told where to listen",
        ));
    }
    if let Some(loops) = raw.loops_max.as_ref().filter(|loops| *loops.get_ref() == 0) {
        return Err(wrong(loops, "a server has at least one loop"));
    }
    let mut files = BTreeMap::new();
    for (name, file) in &raw.files {
        if name.is_empty() || name.contains('/') {
            return Err(wrong(
                file,
                "a file's name is a name within {dir}, not a path",
            ));
        }
        files.insert(name.clone(), template(file, text)?);
    }
    let subject = Subject {
        name: raw.name.into_inner(),
        about: raw.about,
        command,
        ready: raw.ready,
        bill: raw.bill,
        needs: raw.needs,
        upstream: raw
            .upstream
            .as_ref()
            .map(|upstream| upstream.get_ref().clone()),
        loops_max: raw.loops_max.map(Spanned::into_inner),
        ends_with: raw.ends_with,
        load: raw.load,
        files,
        options: choices(raw.option)?,
        text: text.to_owned(),
    };
    match (&raw.upstream, subject.is_proxy()) {
        (None, true) => Err(wrong(
            &raw.command,
            "{upstream} is used; say which subject it is: upstream = \"bare-mio\"",
        )),
        (Some(upstream), false) => Err(wrong(upstream, "{upstream} stands nowhere")),
        _ => Ok(subject),
    }
}

fn check_name(name: &Spanned<String>) -> Result<(), Wrong> {
    let text = name.get_ref();
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if text.is_empty() || !text.bytes().all(is_plain) {
        return Err(wrong(
            name,
            "a name has letters, digits, - _ and . only: files are called by it",
        ));
    }
    Ok(())
}

fn choices(raw: BTreeMap<String, Spanned<RawChoice>>) -> Result<BTreeMap<String, Choice>, Wrong> {
    let mut choices = BTreeMap::new();
    for (name, choice) in raw {
        let at = choice.span().start;
        let choice = match choice.into_inner() {
            RawChoice::Any(text) if text.contains("{value}") => Choice::Any(text),
            RawChoice::Any(_) => {
                return Err(Wrong {
                    at,
                    what: format!("option {name} has no {{value}}: every value would be the same"),
                });
            }
            RawChoice::Named(texts) => Choice::Named(texts),
        };
        choices.insert(name, choice);
    }
    Ok(choices)
}

fn template(text: &Spanned<String>, whole: &str) -> Result<Template, Wrong> {
    Template::new(text.get_ref()).map_err(|(_, name)| {
        let place = format!("{{{name}}}");
        // Escapes move offsets within a string, so the place is looked for in the file, from where the string begins.
        let start = text.span().start;
        let at = whole.get(start..).and_then(|rest| rest.find(&place));
        Wrong {
            at: start + at.unwrap_or(0),
            what: format!(
                "unknown place {place}; there are {{{}}}",
                PLACES.join("} {")
            ),
        }
    })
}

fn wrong<T>(place: &Spanned<T>, what: &str) -> Wrong {
    Wrong {
        at: place.span().start,
        what: what.to_owned(),
    }
}
