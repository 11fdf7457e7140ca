//! From flags and file to what is in force.
//!
//! ```text
//!   defaults <- file <- flags -> complete -> check -> Effective { server settings, proxy settings, draft with origins }
//! ```
//!
//! The one idea: all of it goes through one draft, so that a flag, a line of the file and a default can be asked alike
//! where they came from; whatever is wrong is collected on the way and told at the end, all at once.

use polyloop_proxy::settings::{ProxySettings, Target};
use polyloop_sys::ListenAddr;

use super::args::ProxyArgs;
use super::check;
use super::diagnostic::{Diagnostics, Source};
use super::draft::{Draft, GroupDraft, ListenerDraft, Process, Section};
use super::file;
use super::flags::{FLAGS, Flag, Scope};
use super::keys::{self, Key};
use super::origin::Origin;
use super::value::Value;
use crate::args::ServeArgs;
use crate::settings::{self, LISTEN_DEFAULT, Settings};

/// What is in force.
#[derive(Debug)]
pub(crate) struct Effective {
    /// What the server is told. `listen` holds the addresses of all listeners, in their order.
    pub(crate) server: Settings,
    /// What the proxy is told.
    pub(crate) proxy: ProxySettings,
    /// The same with where each value came from.
    pub(crate) draft: Draft,
    /// The file, if there was one.
    pub(crate) source: Option<Source>,
    /// What can be meant and rarely is, as text; may be empty.
    pub(crate) warnings: String,
    /// How many of them.
    pub(crate) warnings_count: usize,
}

/// Why nothing can be in force.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// Each mistake with its place, all of them.
    pub(crate) report: String,
    pub(crate) errors: usize,
    pub(crate) warnings: usize,
}

/// Lays flags over the file over the defaults, and checks all of it.
///
/// # Errors
/// Everything that cannot be meant.
pub(crate) fn resolve(args: ProxyArgs) -> Result<Effective, Refusal> {
    let source = args.config.as_deref().map(file::load).transpose();
    let source = source.map_err(|why| Refusal {
        report: format!("error: {why}\n"),
        errors: 1,
        warnings: 0,
    })?;
    with_source(args, source)
}

/// The same for a file that has been read.
///
/// # Errors
/// Everything that cannot be meant.
pub(crate) fn with_source(args: ProxyArgs, source: Option<Source>) -> Result<Effective, Refusal> {
    let mut diagnostics = Diagnostics::default();
    let read = source
        .as_ref()
        .map(|source| file::read(source, &mut diagnostics));
    let mut draft = read.unwrap_or_default();
    lay_flags(&mut draft, args, source.as_ref(), &mut diagnostics);
    complete(&mut draft);
    let proxy = check::check(&draft, source.as_ref(), &mut diagnostics);
    let server = server(&draft, &proxy, &mut diagnostics);
    let report = diagnostics.render(source.as_ref());
    match server {
        Some(server) if diagnostics.errors() == 0 => Ok(Effective {
            server,
            proxy,
            draft,
            source,
            warnings: report,
            warnings_count: diagnostics.warnings(),
        }),
        _ => Err(Refusal {
            report,
            errors: diagnostics.errors(),
            warnings: diagnostics.warnings(),
        }),
    }
}

/// Lays what was typed over the draft.
fn lay_flags(
    draft: &mut Draft,
    args: ProxyArgs,
    source: Option<&Source>,
    diagnostics: &mut Diagnostics,
) {
    for (index, value) in args.given {
        let flag = &FLAGS[index];
        lay_flag(draft, flag, &value, source, diagnostics);
    }
    let mut args = args.serve;
    // Three of the server's flags are a listener's here.
    let listen: Vec<_> = args.listen.drain(..).map(Value::text).collect();
    let listen = (!listen.is_empty()).then_some(Value::List(listen));
    let idle = args.idle_timeout.take().map(|time| match time.0 {
        None => Value::text("off"),
        Some(time) => Value::Text(format!("{}ns", time.as_nanos())),
    });
    let buffer = args.buffer_high.take().map(Value::integer);
    for (name, value) in [
        ("listen", listen),
        ("idle-timeout", idle),
        ("buffer-high", buffer),
    ] {
        let Some(value) = value else { continue };
        let flag = Flag {
            name,
            key: name,
            ..Flag::of_listener()
        };
        lay_flag(draft, &flag, &value, source, diagnostics);
    }
    // What was typed is shown and read like a line of the file, so that both mean the same.
    let typed = Process {
        args,
        ..Process::default()
    };
    let untyped = Process::default();
    for key in keys::SERVER.iter().chain(keys::LIMITS) {
        let value = key.show(&typed);
        if let Some(value) = value.filter(|_| key.show(&typed) != key.show(&untyped)) {
            read_flag(key, key.name, &mut draft.process, &value, diagnostics);
        }
    }
}

fn lay_flag(
    draft: &mut Draft,
    flag: &Flag,
    value: &Value,
    source: Option<&Source>,
    diagnostics: &mut Diagnostics,
) {
    match flag.scope {
        Scope::Process => {
            let key =
                keys::find(keys::SERVER, flag.key).or_else(|| keys::find(keys::LIMITS, flag.key));
            if let Some(key) = key {
                read_flag(key, flag.name, &mut draft.process, value, diagnostics);
            }
        }
        Scope::Listener => {
            let name = |draft: &ListenerDraft| draft.settings.name.clone();
            let only = only(
                &mut draft.listeners,
                ("listener", name),
                flag,
                source,
                diagnostics,
            );
            if let (Some(section), Some(key)) = (only, keys::find(keys::LISTENER, flag.key)) {
                read_flag(key, flag.name, section, value, diagnostics);
            }
        }
        Scope::Group | Scope::Backends => {
            let name = |draft: &GroupDraft| draft.settings.name.clone();
            let Some(section) = only(
                &mut draft.groups,
                ("group", name),
                flag,
                source,
                diagnostics,
            ) else {
                return;
            };
            if flag.scope == Scope::Backends {
                lay_backends(section, flag.name, value, diagnostics);
            } else if let Some(key) = keys::find(keys::GROUP, flag.key) {
                read_flag(key, flag.name, section, value, diagnostics);
            }
        }
    }
}

/// `--to` takes the place of all backends of the file.
fn lay_backends(
    section: &mut Section<GroupDraft>,
    flag: &'static str,
    value: &Value,
    diagnostics: &mut Diagnostics,
) {
    section.draft.backends.clear();
    for item in value.items() {
        match file::short_backend(item, &Origin::Flag(flag)) {
            Ok(backend) => section.draft.backends.push(backend),
            Err(why) => diagnostics.error(None, format!("--{flag}: {why}")),
        }
    }
}

fn read_flag<S>(
    key: &Key<S>,
    flag: &'static str,
    section: &mut Section<S>,
    value: &Value,
    diagnostics: &mut Diagnostics,
) {
    if let Err(wrong) = key.read(section, value, Origin::Flag(flag)) {
        diagnostics.error(None, format!("--{flag}: {}", wrong.why));
    }
}

/// The only section of its kind, made if there is none; told if there are several.
fn only<'a, S: Default>(
    sections: &'a mut Vec<Section<S>>,
    (kind, name): (&str, fn(&S) -> String),
    flag: &Flag,
    source: Option<&Source>,
    diagnostics: &mut Diagnostics,
) -> Option<&'a mut Section<S>> {
    if sections.is_empty() {
        sections.push(Section::default());
    }
    if sections.len() > 1 {
        let place = |section: &Section<S>| {
            let line = source.zip(section.header.clone());
            let line = line.map_or_else(String::new, |(source, span)| {
                format!(" (line {})", source.place(span.start).0)
            });
            format!("{}{line}", name(&section.draft))
        };
        let places: Vec<_> = sections.iter().map(place).collect();
        let path = source.map_or_else(String::new, |source| source.path.display().to_string());
        let key = flag.key;
        diagnostics.error(
            None,
            format!(
                "--{} is about one {kind}, and {path} defines {}: {}; set {key} there, in the [[{kind}]] that is meant",
                flag.name,
                sections.len(),
                places.join(", ")
            ),
        );
        return None;
    }
    sections.first_mut()
}

/// Fills in what follows from nobody having said anything.
fn complete(draft: &mut Draft) {
    let names_a_group = |listener: &Section<ListenerDraft>| {
        listener.is_given("group") || !listener.draft.routes.is_empty()
    };
    // A group that is named and not defined is a mistake, and no wish for the echo.
    if draft.groups.is_empty() && !draft.listeners.iter().any(names_a_group) {
        draft.groups.push(Section::default());
    }
    if draft.listeners.is_empty() {
        draft.listeners.push(Section::default());
    }
    if let [group] = draft.groups.as_mut_slice() {
        let is_ours = group.header.is_none();
        let group = &mut group.draft;
        if group.settings.name.is_empty() {
            group.settings.name = NAME_DEFAULT.to_owned();
        }
        if is_ours && group.backends.is_empty() {
            let mut echo = super::draft::backend(None);
            echo.draft.to = Target::Echo;
            group.backends.push(echo);
        }
    }
    if let [listener] = draft.listeners.as_mut_slice() {
        let is_ours = listener.header.is_none();
        let settings = &mut listener.draft.settings;
        if settings.name.is_empty() {
            settings.name = NAME_DEFAULT.to_owned();
        }
        if is_ours && settings.listen.is_empty() {
            settings.listen.push(ListenAddr::Tcp(LISTEN_DEFAULT));
        }
    }
    if let [group] = draft.groups.as_slice() {
        let name = &group.draft.settings.name;
        let is_open = |listener: &&mut Section<ListenerDraft>| {
            listener.draft.group.is_empty() && listener.draft.routes.is_empty()
        };
        for listener in draft.listeners.iter_mut().filter(is_open) {
            listener.draft.group.clone_from(name);
        }
    }
}

/// Judges what the server is told, as for `echo`: all of it, though each judgement finds one mistake.
fn server(draft: &Draft, proxy: &ProxySettings, diagnostics: &mut Diagnostics) -> Option<Settings> {
    let mut left_out: Vec<&str> = Vec::new();
    let mut listen: Vec<ListenAddr> = Vec::new();
    for addr in proxy.listeners.iter().flat_map(|listener| &listener.listen) {
        // That one is served twice has been told already.
        if !listen.contains(addr) || addr.port() == Some(0) {
            listen.push(addr.clone());
        }
    }
    per_core(draft, diagnostics);
    loop {
        let args = ServeArgs {
            listen: listen.clone(),
            ..args_without(draft, &left_out)
        };
        let error = match settings::resolve(args) {
            Ok(mut settings) => {
                settings.server.connection_cost = DESCRIPTORS_PER_SESSION;
                return Some(settings);
            }
            Err(error) => error.to_string(),
        };
        let culprit =
            flags_in(&error).find(|name| draft.process.is_given(name) && !left_out.contains(name));
        let origin = culprit.map(|name| draft.process.origin(name));
        let span = origin.and_then(Origin::value_span);
        // In a file, a setting has no dashes.
        let message = if span.is_some() {
            error.replace("--", "")
        } else {
            error.clone()
        };
        diagnostics.error(span, message);
        left_out.push(
            keys::find(keys::SERVER, culprit?)
                .or_else(|| keys::find(keys::LIMITS, culprit?))?
                .name,
        );
    }
}

/// Overrides of a core for what is a listener's here.
fn per_core(draft: &Draft, diagnostics: &mut Diagnostics) {
    let process = &draft.process;
    let keys = process
        .draft
        .args
        .on_core
        .iter()
        .flat_map(|core| &core.settings);
    for (key, _) in keys.filter(|(key, _)| key == "idle" || key == "output-high") {
        let flag = if key == "idle" {
            "idle-timeout"
        } else {
            "buffer-high"
        };
        let message = format!(
            "on-core: {key} does not differ by core in a proxy; set {flag} of the listener"
        );
        diagnostics.error(process.origin("on-core").value_span(), message);
    }
}

/// What was typed or written for the server, without some of it.
fn args_without(draft: &Draft, left_out: &[&str]) -> ServeArgs {
    let mut section: Section<Process> = Section::default();
    for key in keys::SERVER.iter().chain(keys::LIMITS) {
        let value = key.show(&draft.process.draft);
        if let Some(value) = value.filter(|_| !left_out.contains(&key.name)) {
            // What was read once is read again.
            let _ = key.read(&mut section, &value, Origin::Default);
        }
    }
    section.draft.args
}

/// The flags that a message names, without dashes.
fn flags_in(message: &str) -> impl Iterator<Item = &str> {
    message.split_whitespace().filter_map(|word| {
        let name = word.trim_start_matches('(').strip_prefix("--")?;
        let is_other = |c: char| !(c.is_ascii_lowercase() || c == '-');
        name.split(is_other).next()
    })
}

/// The name of the only listener, and of the only group.
const NAME_DEFAULT: &str = "main";
/// The client's socket and the backend's. Pipes come out of the reserve of their pool.
const DESCRIPTORS_PER_SESSION: u64 = 2;

#[cfg(test)]
mod tests;
