//! Settings while flags and file are being laid over the defaults.
//!
//! The one idea: a draft always holds a complete set of values, which start as the defaults, and knows for each where
//! it came from. What depends on each other (a check and its times, a route and its group) is kept apart here, so that
//! the order in which it is written does not matter; [`check`](mod@super::check) puts it together.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::Range;
use std::time::Duration;

use polyloop_proxy::settings::{
    AcceptProxy, AccessLogSettings, BackendSettings, CheckKind, DrainClose, GlobalLimits,
    GroupSettings, HealthCheck, Keepalive, ListenerSettings, NamePattern, PassiveEjection, Target,
};

use super::origin::Origin;
use crate::args::ServeArgs;

/// One section: its values, and where each came from.
#[derive(Debug)]
pub(crate) struct Section<S> {
    /// The values.
    pub(crate) draft: S,
    /// Its header in the file.
    pub(crate) header: Option<Range<usize>>,
    origins: BTreeMap<&'static str, Origin>,
}

impl<S> Section<S> {
    pub(crate) fn new(draft: S, header: Option<Range<usize>>) -> Self {
        Self {
            draft,
            header,
            origins: BTreeMap::new(),
        }
    }

    /// Where a value came from.
    pub(crate) fn origin(&self, name: &str) -> &Origin {
        self.origins.get(name).unwrap_or(&Origin::Default)
    }

    /// Whether anybody gave this value.
    pub(crate) fn is_given(&self, name: &str) -> bool {
        self.origins.contains_key(name)
    }

    pub(crate) fn set_origin(&mut self, name: &'static str, origin: Origin) {
        self.origins.insert(name, origin);
    }
}

impl<S: Default> Default for Section<S> {
    fn default() -> Self {
        Self::new(S::default(), None)
    }
}

/// Everything.
#[derive(Debug, Default)]
pub(crate) struct Draft {
    /// `[server]` and `[limits]`: one draft, as they belong to the process.
    pub(crate) process: Section<Process>,
    /// `[[listener]]`.
    pub(crate) listeners: Vec<Section<ListenerDraft>>,
    /// `[[group]]`.
    pub(crate) groups: Vec<Section<GroupDraft>>,
}

/// What belongs to the process.
#[derive(Debug, Default)]
pub(crate) struct Process {
    /// What the library is told, as `echo` has it.
    pub(crate) args: ServeArgs,
    pub(crate) limits: GlobalLimits,
    pub(crate) access_log: AccessLogSettings,
    pub(crate) drain_close: DrainClose,
    /// Name servers; empty for the system's.
    pub(crate) dns: Vec<SocketAddr>,
}

/// One listener.
#[derive(Debug)]
pub(crate) struct ListenerDraft {
    /// What needs no more than its own value; `routing`, `accept_proxy` and `keepalive` are decided below.
    pub(crate) settings: ListenerSettings,
    pub(crate) accept_proxy: AcceptProxy,
    /// The group of what no route matches, by name; empty if not given.
    pub(crate) group: String,
    pub(crate) routes: Vec<Section<RouteDraft>>,
    pub(crate) keepalive_idle: Option<Duration>,
    pub(crate) keepalive: Keepalive,
}

impl Default for ListenerDraft {
    fn default() -> Self {
        let keepalive = Keepalive::default();
        Self {
            settings: ListenerSettings::default(),
            accept_proxy: AcceptProxy { from: Vec::new() },
            group: String::new(),
            routes: Vec::new(),
            keepalive_idle: Some(keepalive.idle),
            keepalive,
        }
    }
}

/// One route of a listener.
#[derive(Debug, Default)]
pub(crate) struct RouteDraft {
    pub(crate) sni: Vec<NamePattern>,
    pub(crate) alpn: Vec<String>,
    pub(crate) group: String,
}

/// One group.
#[derive(Debug)]
pub(crate) struct GroupDraft {
    /// What needs no more than its own value; `backends`, `health` and `passive` are decided below.
    pub(crate) settings: GroupSettings,
    pub(crate) backends: Vec<Section<BackendSettings>>,
    pub(crate) check: Check,
    pub(crate) check_send: Vec<u8>,
    pub(crate) check_expect: Vec<u8>,
    pub(crate) check_sni: Option<String>,
    /// The times and counts of a check; its kind is decided above.
    pub(crate) health: HealthCheck,
    pub(crate) eject_errors: Option<u32>,
    pub(crate) eject: PassiveEjection,
}

impl Default for GroupDraft {
    fn default() -> Self {
        let eject = PassiveEjection::default();
        Self {
            settings: GroupSettings::default(),
            backends: Vec::new(),
            check: Check::Off,
            check_send: Vec::new(),
            check_expect: Vec::new(),
            check_sni: None,
            health: HealthCheck::new(CheckKind::Connect),
            eject_errors: Some(eject.errors),
            eject,
        }
    }
}

/// Which check, if any.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Check {
    Off,
    Connect,
    Send,
    Tls,
}

/// A backend that is not yet one: its target is missing.
pub(crate) fn backend(header: Option<Range<usize>>) -> Section<BackendSettings> {
    Section::new(BackendSettings::new(String::new(), Target::Echo), header)
}
