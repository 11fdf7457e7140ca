//! The rules of groups and their backends.

use std::collections::BTreeSet;
use std::net::IpAddr;

use polyloop_core::units::format_duration;
use polyloop_proxy::balance::BACKENDS_MAX;
use polyloop_proxy::proxy_protocol::HEADER_BYTES_MAX;
use polyloop_proxy::settings::{
    BackendSettings, CheckKind, GroupSettings, HealthCheck, ListenerSettings, PassiveEjection,
    ProxyTlv, SendProxy, Target,
};
use polyloop_sys::ListenAddr;

use super::super::draft::{Check, Draft, GroupDraft, Section};
use super::super::{keys, target};
use super::{Checker, place, told};

impl Checker<'_> {
    pub(super) fn groups(&mut self, sections: &[Section<GroupDraft>]) -> Vec<GroupSettings> {
        self.unique_names("group", sections, |draft| &draft.settings.name);
        sections.iter().map(|section| self.group(section)).collect()
    }

    fn group(&mut self, section: &Section<GroupDraft>) -> GroupSettings {
        let draft = &section.draft;
        self.backends(section);
        self.sources(section);
        self.header_room(section);
        GroupSettings {
            backends: self.slots(section),
            health: self.health(section),
            passive: self.passive(section),
            ..draft.settings.clone()
        }
    }

    /// The backends with a name each, and as many of them as their names have slots.
    fn slots(&mut self, section: &Section<GroupDraft>) -> Vec<BackendSettings> {
        let backends = &section.draft.backends;
        for backend in backends {
            let is_name = matches!(backend.draft.to, Target::Name { .. } | Target::Srv { .. });
            if !is_name && backend.draft.slots.is_some() {
                let message = "slots has no effect: this is one address, and one backend";
                self.diagnostics.warn(place(backend, "slots"), message);
            }
        }
        let expanded: Vec<_> = backends
            .iter()
            .flat_map(|backend| {
                let named = BackendSettings {
                    name: name(&backend.draft),
                    ..backend.draft.clone()
                };
                named.expanded()
            })
            .collect();
        if expanded.len() > BACKENDS_MAX {
            let message = format!(
                "the group has {} backends, counting the slots of names, and may have {BACKENDS_MAX}; split it, or give \
                 names fewer slots",
                expanded.len()
            );
            self.diagnostics.error(place(section, "to"), message);
        }
        expanded
    }

    fn backends(&mut self, section: &Section<GroupDraft>) {
        let backends = &section.draft.backends;
        if backends.is_empty() {
            if section.is_given("to") {
                return;
            }
            let message = "a group needs a backend; add to = \"HOST:PORT\", or a [[group.backend]]";
            self.diagnostics.error(section.header.clone(), message);
            return;
        }
        for (index, backend) in backends.iter().enumerate() {
            let name = name(&backend.draft);
            let Some(earlier) = backends[..index]
                .iter()
                .find(|other| self::name(&other.draft) == name)
            else {
                continue;
            };
            let at = self.line_of(place(earlier, "to"));
            let is_named = backend.is_given("name") || earlier.is_given("name");
            let way_out = if is_named {
                "give each backend its own name"
            } else {
                "a larger share is weight=2, another name is name=NAME"
            };
            let message = format!("the group has a backend {name:?} already{at}; {way_out}");
            let key = if backend.is_given("name") {
                "name"
            } else {
                "to"
            };
            self.diagnostics.error(place(backend, key), message);
        }
        if backends.iter().all(|backend| backend.draft.weight == 0) {
            let message =
                "every backend has weight 0, so nobody is served; give one of them a weight";
            self.diagnostics
                .error(place(&backends[0], "weight"), message);
        } else if backends.iter().all(|backend| backend.draft.backup) {
            let message =
                "every backend is a backup, so that none is; leave it out of the ordinary ones";
            self.diagnostics
                .warn(place(&backends[0], "backup"), message);
        }
        let no_max = backends
            .iter()
            .all(|backend| backend.draft.connections_max.is_none());
        self.moot(
            section,
            "queue",
            no_max,
            "no backend has a max, so nobody waits",
        );
    }

    /// That a PROXY header has room for everything it is to tell, whoever the client is.
    fn header_room(&mut self, section: &Section<GroupDraft>) {
        let Some(SendProxy::V2 { tlvs, checksum }) = &section.draft.settings.send_proxy else {
            return;
        };
        let longest = |tlv: &ProxyTlv| {
            HEADER_TLV_BYTES
                + match tlv {
                    ProxyTlv::Authority | ProxyTlv::Alpn => NAME_BYTES_MAX,
                    ProxyTlv::UniqueId => UNIQUE_ID_BYTES,
                    ProxyTlv::Custom { value, .. } => value.len(),
                }
        };
        let checksum = if *checksum { HEADER_TLV_BYTES + 4 } else { 0 };
        let bytes = HEADER_FIXED_BYTES + checksum + tlvs.iter().map(longest).sum::<usize>();
        if bytes > HEADER_BYTES_MAX {
            let message = format!(
                "{}: the header may get {bytes} bytes long, and backends read at most {HEADER_BYTES_MAX}; leave out a \
                 value, or shorten one",
                told(section, "send-proxy")
            );
            self.diagnostics
                .error(place(section, "send-proxy"), message);
        }
    }

    fn health(&mut self, section: &Section<GroupDraft>) -> Option<HealthCheck> {
        let draft = &section.draft;
        if draft.check == Check::Off {
            for name in CHECK_KEYS {
                self.moot(
                    section,
                    name,
                    true,
                    "check is off; check = \"connect\" would be the simplest",
                );
            }
        }
        for (name, needs, kind) in [
            ("check-send", Check::Send, "send"),
            ("check-expect", Check::Send, "send"),
            ("check-sni", Check::Tls, "tls"),
        ] {
            if draft.check != needs && draft.check != Check::Off && keys::departs(section, name) {
                let message = format!(
                    "{} belongs to another check; write check = {kind:?}, or leave it out",
                    told(section, name)
                );
                self.diagnostics
                    .error(section.origin(name).key_span(), message);
            }
        }
        let HealthCheck {
            interval, timeout, ..
        } = draft.health;
        if draft.check != Check::Off && timeout > interval {
            let key = if section.is_given("check-timeout") {
                "check-timeout"
            } else {
                "check-interval"
            };
            let message = format!(
                "a check may take {} and the next begins after {}; make check-timeout at most check-interval",
                format_duration(timeout),
                format_duration(interval)
            );
            self.diagnostics.error(place(section, key), message);
        }
        if draft.check == Check::Send
            && draft.check_send.is_empty()
            && draft.check_expect.is_empty()
        {
            let message = "a send check that sends nothing and expects nothing waits for any byte; give check-send or \
                           check-expect, or take check = \"connect\"";
            self.diagnostics.warn(place(section, "check"), message);
        }
        let kind = match draft.check {
            Check::Off => return None,
            Check::Connect => CheckKind::Connect,
            Check::Send => CheckKind::SendExpect {
                send: draft.check_send.clone(),
                expect: draft.check_expect.clone(),
            },
            Check::Tls => CheckKind::TlsHello {
                sni: draft.check_sni.clone(),
            },
        };
        Some(HealthCheck {
            kind,
            ..draft.health.clone()
        })
    }

    fn passive(&mut self, section: &Section<GroupDraft>) -> Option<PassiveEjection> {
        let draft = &section.draft;
        for name in ["eject-time", "eject-time-max", "eject-share"] {
            self.moot(section, name, draft.eject_errors.is_none(), "eject is off");
        }
        let PassiveEjection { base, max, .. } = draft.eject;
        if draft.eject_errors.is_some() && base > max {
            let message = format!(
                "{} is {} and {} is {}; the first ejection cannot be longer than the longest",
                told(section, "eject-time"),
                format_duration(base),
                told(section, "eject-time-max"),
                format_duration(max)
            );
            let key = if section.is_given("eject-time") {
                "eject-time"
            } else {
                "eject-time-max"
            };
            self.diagnostics.error(place(section, key), message);
        }
        draft.eject_errors.map(|errors| PassiveEjection {
            errors,
            ..draft.eject
        })
    }

    /// Where connections to backends come from.
    fn sources(&mut self, section: &Section<GroupDraft>) {
        let sources = &section.draft.settings.sources;
        let backends = &section.draft.backends;
        if section.draft.settings.transparent {
            if !sources.is_empty() {
                let message = "transparent connects from the client's address, and source from one of this host; leave \
                               out one of the two";
                self.diagnostics
                    .error(place(section, "transparent"), message);
            }
            for backend in backends.iter().filter(|backend| is_unix(&backend.draft)) {
                let message = "a unix socket knows no addresses, so that it cannot be connected to from the client's; \
                               leave out transparent, or put it into another group";
                self.diagnostics.error(place(backend, "to"), message);
            }
        }
        for (index, source) in sources.iter().enumerate() {
            let overlap = sources[..index].iter().find(|other| {
                let (a, b) = (
                    source.ports.unwrap_or(ALL_PORTS),
                    other.ports.unwrap_or(ALL_PORTS),
                );
                other.ip == source.ip && a.0 <= b.1 && b.0 <= a.1
            });
            if overlap.is_some() {
                let message = format!(
                    "source: {} is given twice with ports in common; give each once",
                    source.ip
                );
                self.diagnostics.error(place(section, "source"), message);
            }
        }
        for backend in backends {
            let Target::Addr(addr) = backend.draft.to else {
                continue;
            };
            let family = |ip: IpAddr| if ip.is_ipv4() { "IPv4" } else { "IPv6" };
            if !sources.is_empty()
                && !sources
                    .iter()
                    .any(|from| family(from.ip) == family(addr.ip()))
            {
                let message = format!(
                    "{addr} cannot be connected to from any source of the group, as none is {}; add one",
                    family(addr.ip())
                );
                self.diagnostics.error(place(backend, "to"), message);
            }
        }
    }

    /// Groups that nobody uses, and what their listeners cannot give them.
    pub(super) fn group_use(&mut self, draft: &Draft, listeners: &[ListenerSettings]) {
        for (index, section) in draft.groups.iter().enumerate() {
            let uses = |listener: &&ListenerSettings| {
                let routing = &listener.routing;
                routing.otherwise == Some(index)
                    || routing.routes.iter().any(|route| route.group == index)
            };
            let users: Vec<_> = listeners.iter().filter(uses).collect();
            if users.is_empty() && self.is_unresolved {
                continue;
            }
            if users.is_empty() {
                let name = &section.draft.settings.name;
                let message = format!("no listener sends anybody to the group {name:?}");
                self.diagnostics.warn(place(section, "name"), message);
                continue;
            }
            let Some(SendProxy::V2 { tlvs, .. }) = &section.draft.settings.send_proxy else {
                continue;
            };
            let from_hello = |tlv: &&ProxyTlv| matches!(tlv, ProxyTlv::Authority | ProxyTlv::Alpn);
            let reads_hello = users
                .iter()
                .any(|listener| !listener.routing.routes.is_empty());
            if tlvs.iter().any(|tlv| from_hello(&tlv)) && !reads_hello {
                let message = format!(
                    "{}: authority and alpn are known where a route reads the TLS hello, and no listener of this \
                     group has one",
                    told(section, "send-proxy")
                );
                self.diagnostics.warn(place(section, "send-proxy"), message);
            }
        }
    }

    /// That no backend is the proxy itself: each session would open the next, until nothing is left.
    pub(super) fn loops_to_itself(
        &mut self,
        sections: &[Section<GroupDraft>],
        listeners: &[ListenerSettings],
    ) {
        let served: BTreeSet<String> = listeners
            .iter()
            .flat_map(|listener| &listener.listen)
            .filter(|addr| addr.port() != Some(0))
            .flat_map(|addr| match addr {
                ListenAddr::Tcp(addr) => vec![addr.to_string()],
                ListenAddr::TcpAny(port) => vec![
                    format!("127.0.0.1:{port}"),
                    format!("[::1]:{port}"),
                    format!("localhost:{port}"),
                ],
                ListenAddr::Unix(path) => vec![format!("unix:{}", path.display())],
            })
            .collect();
        for backend in sections.iter().flat_map(|section| &section.draft.backends) {
            let to = target::show(&backend.draft.to);
            if served.contains(&to) {
                let message = format!(
                    "to: {to} is served by this proxy itself, so that each session would open the next; give the \
                     backend's own address"
                );
                self.diagnostics.error(place(backend, "to"), message);
            }
        }
    }
}

/// Its own name, or what it is.
fn name(backend: &BackendSettings) -> String {
    if backend.name.is_empty() {
        target::show(&backend.to)
    } else {
        backend.name.clone()
    }
}

fn is_unix(backend: &BackendSettings) -> bool {
    matches!(backend.to, Target::Unix(_))
}

/// What a check that is off makes moot.
const CHECK_KEYS: [&str; 8] = [
    "check-send",
    "check-expect",
    "check-sni",
    "check-interval",
    "check-jitter",
    "check-timeout",
    "rise",
    "fall",
];

const ALL_PORTS: (u16, u16) = (1, u16::MAX);

/// Signature, command and length, and the names of two unix sockets, the longest addresses there are.
const HEADER_FIXED_BYTES: usize = 16 + 216;
/// Kind and length of a value.
const HEADER_TLV_BYTES: usize = 3;
/// A server name or a protocol in a TLS hello.
const NAME_BYTES_MAX: usize = 255;
/// The name of a session: see `polyloop_proxy`'s `naming.rs`.
const UNIQUE_ID_BYTES: usize = 24;
