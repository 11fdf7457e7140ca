//! A TOML file, laid over the defaults.
//!
//! The one idea: the file is walked beside the tables of `keys`; whatever is not in them, or not as they
//! say, becomes a diagnostic at its place, and the walk goes on. What contradicts something else is left to
//! [`check`](mod@super::check).
//!
//! Deliberately absent: includes, variables, and any second spelling of a setting.

use std::fs::File;
use std::io::{self, Read as _};
use std::ops::Range;
use std::path::Path;

use polyloop_proxy::settings::BackendSettings;
use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::diagnostic::{Diagnostics, Source};
use super::draft::{Draft, GroupDraft, ListenerDraft, RouteDraft, Section, backend};
use super::keys::{self, Key};
use super::origin::Origin;
use super::suggest;
use super::target;
use super::value::{Value, Wrong};

/// Reads the file.
///
/// # Errors
/// It cannot be read, is too large, or is no text. The message names it.
pub(crate) fn load(path: &Path) -> Result<Source, String> {
    let read = || -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        File::open(path)?
            .take(FILE_BYTES_MAX + 1)
            .read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let name = path.display();
    let bytes = read().map_err(|error| format!("{name}: {error}; give the path of a TOML file"))?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(format!(
            "{name}: more than 1 MiB; that is no file of settings"
        ));
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let line = error.as_bytes()[..valid]
            .iter()
            .filter(|&&byte| byte == b'\n')
            .count()
            + 1;
        format!("{name}:{line}: not UTF-8, which TOML has to be")
    })?;
    Ok(Source {
        path: path.to_owned(),
        text,
    })
}

/// Lays a file over the defaults. Whatever is wrong is told to `diagnostics`, the rest is taken.
pub(crate) fn read(source: &Source, diagnostics: &mut Diagnostics) -> Draft {
    let (table, errors) = DeTable::parse_recoverable(&source.text);
    for error in errors {
        diagnostics.error(error.span(), sentence(error.message()));
    }
    let mut reader = Reader { diagnostics };
    reader.document(table.get_ref())
}

/// The parser's words on one line.
fn sentence(message: &str) -> String {
    message
        .lines()
        .map(str::trim)
        .collect::<Vec<_>>()
        .join(", ")
}

type Entries<'a, 'i> = &'a DeTable<'i>;
type Entry<'a, 'i> = (&'a Spanned<DeString<'i>>, &'a Spanned<DeValue<'i>>);

struct Reader<'a> {
    diagnostics: &'a mut Diagnostics,
}

impl Reader<'_> {
    fn document(&mut self, table: Entries<'_, '_>) -> Draft {
        let mut draft = Draft::default();
        for (key, value) in table {
            match key.get_ref().as_ref() {
                "server" => self.process(keys::SERVER, "[server]", &mut draft, (key, value)),
                "limits" => self.process(keys::LIMITS, "[limits]", &mut draft, (key, value)),
                "listener" => {
                    for (header, table) in self.tables("listener", (key, value)) {
                        draft.listeners.push(self.listener(header, table));
                    }
                }
                "group" => {
                    for (header, table) in self.tables("group", (key, value)) {
                        draft.groups.push(self.group(header, table));
                    }
                }
                other => self.unknown_section(other, key.span()),
            }
        }
        draft
    }

    fn process(
        &mut self,
        keys: &'static [Key<super::draft::Process>],
        what: &str,
        draft: &mut Draft,
        (key, value): Entry<'_, '_>,
    ) {
        let DeValue::Table(table) = value.get_ref() else {
            let message = format!("{what} is one table of settings; begin it with the line {what}");
            self.diagnostics.error(Some(key.span()), message);
            return;
        };
        for entry in table {
            self.setting(keys, what, &[], &mut draft.process, entry);
        }
    }

    fn listener(&mut self, header: Range<usize>, table: Entries<'_, '_>) -> Section<ListenerDraft> {
        let mut section = Section::new(ListenerDraft::default(), Some(header));
        for entry @ (key, _) in table {
            if key.get_ref() == "route" {
                for (header, table) in self.tables("listener.route", entry) {
                    let mut route = Section::new(RouteDraft::default(), Some(header));
                    for entry in table {
                        self.setting(keys::ROUTE, "a route", &[], &mut route, entry);
                    }
                    section.draft.routes.push(route);
                }
                continue;
            }
            self.setting(
                keys::LISTENER,
                "a listener",
                &["route"],
                &mut section,
                entry,
            );
        }
        section
    }

    fn group(&mut self, header: Range<usize>, table: Entries<'_, '_>) -> Section<GroupDraft> {
        let mut section = Section::new(GroupDraft::default(), Some(header));
        for entry @ (key, value) in table {
            match key.get_ref().as_ref() {
                "to" => {
                    section.set_origin("to", origin(entry));
                    let backends = self.short_backends(key.span(), value);
                    section.draft.backends.extend(backends);
                }
                "backend" => {
                    section.set_origin("to", origin(entry));
                    for (header, table) in self.tables("group.backend", entry) {
                        let backend = self.backend(header, table);
                        section.draft.backends.push(backend);
                    }
                }
                _ => self.setting(
                    keys::GROUP,
                    "a group",
                    &["to", "backend"],
                    &mut section,
                    entry,
                ),
            }
        }
        section
    }

    fn backend(
        &mut self,
        header: Range<usize>,
        table: Entries<'_, '_>,
    ) -> Section<BackendSettings> {
        let mut section = backend(Some(header.clone()));
        let has_target = table.keys().any(|key| key.get_ref() == "to");
        for entry in table {
            self.setting(keys::BACKEND, "a backend", &[], &mut section, entry);
        }
        if !has_target {
            let message = "a backend needs to = \"HOST:PORT\", which says where it is";
            self.diagnostics.error(Some(header), message);
        }
        section
    }

    /// `to = ["db1:5432,weight=3", "db2:5432"]`: the short form of backends.
    fn short_backends(
        &mut self,
        key: Range<usize>,
        value: &Spanned<DeValue<'_>>,
    ) -> Vec<Section<BackendSettings>> {
        let mut backends = Vec::new();
        for (item, span) in items(value) {
            let origin = Origin::File {
                key: key.clone(),
                value: span.clone(),
            };
            match short_backend(&item, &origin) {
                Ok(backend) => backends.push(backend),
                Err(why) => self.diagnostics.error(Some(span), format!("to: {why}")),
            }
        }
        backends
    }

    /// One setting of a section; `others` are what it may hold besides.
    fn setting<S>(
        &mut self,
        keys: &'static [Key<S>],
        what: &str,
        others: &[&str],
        section: &mut Section<S>,
        (key, value): Entry<'_, '_>,
    ) {
        let name = key.get_ref().as_ref();
        let Some(found) = keys::find(keys, name) else {
            let names = keys
                .iter()
                .map(|key| key.name)
                .chain(others.iter().copied());
            let message = unknown_setting(name, what, names);
            self.diagnostics.error(Some(key.span()), message);
            return;
        };
        let read = found.read(section, &understood(value.get_ref()), origin((key, value)));
        if let Err(Wrong { item, why }) = read {
            let span = item.and_then(|item| items(value).into_iter().nth(item));
            let span = span.map_or_else(|| value.span(), |(_, span)| span);
            self.diagnostics.error(Some(span), format!("{name}: {why}"));
        }
    }

    fn unknown_section(&mut self, name: &str, span: Range<usize>) {
        let sections = ["server", "limits", "listener", "group"];
        let message = if let Some(section) = section_of(name) {
            format!("{name:?} stands before any section; it belongs into {section}")
        } else if let Some(near) = suggest::nearest(name, sections) {
            format!("{name:?} is no section; did you mean {}?", header(near))
        } else if let Some((near, section)) = near_elsewhere(name) {
            format!("{name:?} is no section; did you mean {near:?}, which belongs into {section}?")
        } else {
            let all = sections.map(header).join(", ");
            format!("{name:?} is no section; there are {all}")
        };
        self.diagnostics.error(Some(span), message);
    }

    /// The tables of `[[name]]`, or of a list of inline tables.
    fn tables<'a, 'i>(
        &mut self,
        name: &str,
        (key, value): Entry<'a, 'i>,
    ) -> Vec<(Range<usize>, Entries<'a, 'i>)> {
        let short = name.rsplit('.').next().unwrap_or(name);
        let mut tables = Vec::new();
        let list = match value.get_ref() {
            DeValue::Array(list) => list,
            DeValue::Table(_) => {
                let message =
                    format!("there may be several; begin each with [[{name}]], in double brackets");
                self.diagnostics.error(Some(key.span()), message);
                return tables;
            }
            _ => {
                let message =
                    format!("{short:?} is no single value; begin each with the line [[{name}]]");
                self.diagnostics.error(Some(key.span()), message);
                return tables;
            }
        };
        for item in list.iter() {
            match item.get_ref() {
                DeValue::Table(table) => tables.push((item.span(), table)),
                _ => {
                    let message = format!("this is no table; begin each with the line [[{name}]]");
                    self.diagnostics.error(Some(item.span()), message);
                }
            }
        }
        tables
    }
}

/// Reads a backend on one line, as `--to` and `to = [...]` have it.
///
/// # Errors
/// The reason and the way out.
pub(crate) fn short_backend(
    value: &Value,
    origin: &Origin,
) -> Result<Section<BackendSettings>, String> {
    let text = value
        .as_text("a backend, as in \"db1:5432\" or \"db1:5432,weight=3,backup\"")
        .map_err(|wrong| wrong.why)?;
    let line = target::split_line(text);
    let mut section = backend(origin.key_span());
    let names: Vec<_> = keys::BACKEND
        .iter()
        .map(|key| key.name)
        .filter(|&name| name != "to")
        .collect();
    let to = [("to", Some(line.to))];
    for (name, value) in to.into_iter().chain(line.options) {
        let is_target = name == "to" && !section.is_given("to");
        let Some(key) = keys::find(keys::BACKEND, name).filter(|_| is_target || name != "to")
        else {
            return Err(target::unknown_option(name, &names));
        };
        if section.is_given(key.name) {
            return Err(format!("{name} is given twice in {text:?}"));
        }
        let value = match (value, name) {
            (None, "backup") => Value::Switch(true),
            (None, _) => return Err(format!("{name} needs a value, as in {name}=3")),
            (Some("true"), "backup") => Value::Switch(true),
            (Some("false"), "backup") => Value::Switch(false),
            (Some(value), _) => Value::text(value),
        };
        let read = key.read(&mut section, &value, origin.clone());
        read.map_err(|wrong| {
            if is_target {
                wrong.why
            } else {
                format!("{name}: {}", wrong.why)
            }
        })?;
    }
    Ok(section)
}

fn unknown_setting<'a>(
    name: &str,
    what: &str,
    names: impl Iterator<Item = &'a str> + Clone,
) -> String {
    if (what, name) == ("a backend", "max-connections") {
        return format!("{name:?} is no setting of {what}; did you mean \"max\"?");
    }
    // A name that exists is meant, only elsewhere.
    if let Some(section) = section_of(name) {
        return format!("{name:?} is no setting of {what}; it belongs into {section}");
    }
    if let Some(near) = suggest::nearest(name, names.clone()) {
        return format!("{name:?} is no setting of {what}; did you mean {near:?}?");
    }
    if let Some((near, section)) = near_elsewhere(name) {
        return format!(
            "{name:?} is no setting of {what}; did you mean {near:?}, which belongs into {section}?"
        );
    }
    let all: Vec<_> = names.collect();
    format!(
        "{name:?} is no setting of {what}; there are {}",
        all.join(", ")
    )
}

/// A name like this one, and where it belongs.
fn near_elsewhere(name: &str) -> Option<(&'static str, &'static str)> {
    fn names<S>(keys: &'static [Key<S>]) -> impl Iterator<Item = &'static str> {
        keys.iter().map(|key| key.name)
    }
    let all = names(keys::SERVER)
        .chain(names(keys::LIMITS))
        .chain(names(keys::LISTENER))
        .chain(names(keys::GROUP));
    let near = suggest::nearest(name, all)?;
    section_of(near).map(|section| (near, section))
}

fn origin((key, value): Entry<'_, '_>) -> Origin {
    Origin::File {
        key: key.span(),
        value: value.span(),
    }
}

/// Where a setting belongs that stands in the wrong section.
fn section_of(name: &str) -> Option<&'static str> {
    let holds = |found: bool, section| found.then_some(section);
    holds(keys::find(keys::SERVER, name).is_some(), "[server]")
        .or_else(|| holds(keys::find(keys::LIMITS, name).is_some(), "[limits]"))
        .or_else(|| holds(keys::find(keys::LISTENER, name).is_some(), "a [[listener]]"))
        .or_else(|| {
            holds(
                keys::find(keys::GROUP, name).is_some() || name == "to",
                "a [[group]]",
            )
        })
        .or_else(|| {
            holds(
                keys::find(keys::ROUTE, name).is_some(),
                "a [[listener.route]]",
            )
        })
        .or_else(|| {
            holds(
                keys::find(keys::BACKEND, name).is_some(),
                "a [[group.backend]]",
            )
        })
}

fn header(section: &str) -> String {
    match section {
        "listener" | "group" => format!("[[{section}]]"),
        other => format!("[{other}]"),
    }
}

/// The items of a list with their places; a single value is a list of one.
fn items(value: &Spanned<DeValue<'_>>) -> Vec<(Value, Range<usize>)> {
    match value.get_ref() {
        DeValue::Array(list) => {
            let item = |item: &Spanned<DeValue<'_>>| (understood(item.get_ref()), item.span());
            list.iter().map(item).collect()
        }
        single => vec![(understood(single), value.span())],
    }
}

fn understood(value: &DeValue<'_>) -> Value {
    match value {
        DeValue::String(text) => Value::text(text),
        DeValue::Integer(number) => match number.radix() {
            10 => Value::Integer(number.as_str().to_owned()),
            radix => match u64::from_str_radix(number.as_str(), radix) {
                Ok(number) => Value::integer(number),
                Err(_) => Value::Integer(number.to_string()),
            },
        },
        DeValue::Float(_) => Value::Other("a fraction"),
        DeValue::Boolean(is_on) => Value::Switch(*is_on),
        DeValue::Datetime(_) => Value::Other("a date"),
        DeValue::Array(list) => {
            Value::List(list.iter().map(|item| understood(item.get_ref())).collect())
        }
        DeValue::Table(_) => Value::Other("a table"),
    }
}

/// The largest file that is read: ten thousand backends fit.
const FILE_BYTES_MAX: u64 = 1 << 20;

#[cfg(test)]
mod tests;
