//! The rules of listeners and their routes.

use std::collections::BTreeMap;

use polyloop_core::units::format_bytes;
use polyloop_proxy::settings::{
    AcceptProxy, Keepalive, ListenerSettings, NamePattern, Route, Routing,
};

use super::super::draft::{ListenerDraft, RouteDraft, Section};
use super::super::suggest;
use super::{Checker, place, told};

type Groups<'a> = BTreeMap<&'a str, usize>;

impl Checker<'_> {
    pub(super) fn listeners(
        &mut self,
        sections: &[Section<ListenerDraft>],
        groups: &Groups<'_>,
    ) -> Vec<ListenerSettings> {
        self.unique_names("listener", sections, |draft| &draft.settings.name);
        self.addresses(sections);
        self.watermarks(sections);
        sections
            .iter()
            .map(|section| self.listener(section, groups))
            .collect()
    }

    fn listener(
        &mut self,
        section: &Section<ListenerDraft>,
        groups: &Groups<'_>,
    ) -> ListenerSettings {
        let draft = &section.draft;
        if draft.settings.listen.is_empty() && !section.is_given("listen") {
            let message = "a listener needs listen = \":5432\", or any other address of this host";
            self.diagnostics.error(section.header.clone(), message);
        }
        self.ranges(section);
        self.times(section);
        let keepalive = draft.keepalive_idle.map(|idle| Keepalive {
            idle,
            ..draft.keepalive
        });
        let from = &draft.accept_proxy.from;
        ListenerSettings {
            routing: self.routing(section, groups),
            accept_proxy: (!from.is_empty()).then(|| AcceptProxy { from: from.clone() }),
            keepalive,
            ..draft.settings.clone()
        }
    }

    /// That what a loop knows once is the same for all of its listeners.
    fn watermarks(&mut self, sections: &[Section<ListenerDraft>]) {
        let Some((first, others)) = sections.split_first() else {
            return;
        };
        let high = |section: &Section<ListenerDraft>| section.draft.settings.buffer_high_bytes;
        for section in others.iter().filter(|section| high(section) != high(first)) {
            let message = format!(
                "buffer-high is {} here and {} of {:?}, and loops have one for all listeners; give each the same",
                format_bytes(high(section)),
                format_bytes(high(first)),
                first.draft.settings.name
            );
            let at = if section.is_given("buffer-high") {
                place(section, "buffer-high")
            } else {
                place(first, "buffer-high")
            };
            self.diagnostics.error(at, message);
        }
    }

    /// That no address is served twice.
    fn addresses(&mut self, sections: &[Section<ListenerDraft>]) {
        let mut seen: Vec<(&polyloop_sys::ListenAddr, &Section<ListenerDraft>)> = Vec::new();
        for section in sections {
            for addr in &section.draft.settings.listen {
                let earlier = seen.iter().find(|(other, _)| *other == addr);
                // Port 0 is another port each time.
                if let Some((_, earlier)) = earlier.filter(|_| addr.port() != Some(0)) {
                    let at = if std::ptr::eq(*earlier, section) {
                        String::new()
                    } else {
                        let at = self.line_of(place(earlier, "listen"));
                        format!(", first by {:?}{at}", earlier.draft.settings.name)
                    };
                    let message =
                        format!("listen: {addr} is served twice{at}; give each address once");
                    self.diagnostics.error(place(section, "listen"), message);
                }
                seen.push((addr, section));
            }
        }
    }

    fn ranges(&mut self, section: &Section<ListenerDraft>) {
        let (allow, deny) = (&section.draft.settings.allow, &section.draft.settings.deny);
        for range in allow.iter().filter(|range| deny.contains(range)) {
            let message = format!(
                "{range} is in both allow and deny, so nobody can say which is meant; leave it out of one, or give a \
                 longer prefix"
            );
            self.diagnostics.error(place(section, "deny"), message);
        }
        let from = &section.draft.accept_proxy.from;
        for (name, list) in [("allow", allow), ("deny", deny), ("accept-proxy", from)] {
            for (index, range) in list.iter().enumerate() {
                if list[..index].contains(range) {
                    let message = format!("{}: {range} is given twice", told(section, name));
                    self.diagnostics.warn(place(section, name), message);
                }
            }
        }
        // Whoever may send a header may claim any address.
        if let Some(all) = from.iter().find(|range| range.to_string().ends_with("/0")) {
            let message = format!(
                "{}: {all} lets everybody who connects claim any address, past allow, deny and the limits per source; \
                 give the addresses of your load balancers",
                told(section, "accept-proxy")
            );
            self.diagnostics
                .warn(place(section, "accept-proxy"), message);
        }
    }

    /// Times that have no effect, or contradict each other.
    fn times(&mut self, section: &Section<ListenerDraft>) {
        let draft = &section.draft;
        let timeouts = &draft.settings.timeouts;
        let no_keepalive = draft.keepalive_idle.is_none();
        for (name, is_moot, because) in [
            (
                "lifetime-jitter",
                timeouts.lifetime.is_none(),
                "lifetime is off",
            ),
            ("keepalive-interval", no_keepalive, "keepalive is off"),
            ("keepalive-count", no_keepalive, "keepalive is off"),
            (
                "keepalive-count",
                draft.settings.user_timeout.is_some(),
                "user-timeout takes its place",
            ),
            (
                "proxy-header-timeout",
                draft.accept_proxy.from.is_empty(),
                "accept-proxy names nobody",
            ),
            (
                "hello-timeout",
                draft.routes.is_empty(),
                "no route reads a TLS hello",
            ),
        ] {
            self.moot(section, name, is_moot, because);
        }
        if let Some(idle) = timeouts.idle.filter(|&idle| idle < timeouts.half_close)
            && (section.is_given("half-close-timeout") || section.is_given("idle-timeout"))
        {
            let message = format!(
                "{} is longer than {} ({}): a session that is half closed is kept longer than an open one",
                told(section, "half-close-timeout"),
                told(section, "idle-timeout"),
                polyloop_core::units::format_duration(idle)
            );
            let name = if section.is_given("half-close-timeout") {
                "half-close-timeout"
            } else {
                "idle-timeout"
            };
            self.diagnostics.warn(place(section, name), message);
        }
    }

    fn routing(&mut self, section: &Section<ListenerDraft>, groups: &Groups<'_>) -> Routing {
        let draft = &section.draft;
        let otherwise = if draft.group.is_empty() {
            // With routes, what they do not match is refused.
            if draft.routes.is_empty() {
                self.is_unresolved = true;
                let names: Vec<_> = groups.keys().copied().collect();
                let message = format!(
                    "which group serves this listener? add group = \"...\", one of {}",
                    names.join(", ")
                );
                self.diagnostics.error(section.header.clone(), message);
            }
            None
        } else {
            self.group_of(section, &draft.group, groups)
        };
        let mut routes: Vec<(Route, &Section<RouteDraft>)> = Vec::new();
        for route in &draft.routes {
            let group = if route.draft.group.is_empty() {
                self.is_unresolved = true;
                let message = "a route needs group = \"...\", which serves what it matches";
                self.diagnostics.error(route.header.clone(), message);
                None
            } else {
                self.group_of(route, &route.draft.group, groups)
            };
            let RouteDraft { sni, alpn, .. } = &route.draft;
            if sni.is_empty() && alpn.is_empty() {
                let message = "a route without sni and alpn matches everything; give one of them, or make its group \
                               that of the listener";
                self.diagnostics.error(route.header.clone(), message);
            }
            let made = Route {
                sni: sni.clone(),
                alpn: alpn.clone(),
                group: group.unwrap_or(usize::MAX),
            };
            self.shadowed(&made, route, &routes);
            routes.push((made, route));
        }
        Routing {
            routes: routes.into_iter().map(|(route, _)| route).collect(),
            otherwise,
        }
    }

    /// That an earlier route takes what this one names.
    fn shadowed(
        &mut self,
        route: &Route,
        section: &Section<RouteDraft>,
        earlier: &[(Route, &Section<RouteDraft>)],
    ) {
        for (other, at) in earlier {
            let takes_alpn = other.alpn.is_empty()
                || (!route.alpn.is_empty()
                    && route.alpn.iter().all(|alpn| other.alpn.contains(alpn)));
            for name in &route.sni {
                let takes_name = other.sni.iter().any(|taken| match (taken, name) {
                    (taken, name) if taken == name => true,
                    (taken, NamePattern::Exact(name)) => taken.matches(name),
                    (NamePattern::Below(_), NamePattern::Below(below)) => taken.matches(below),
                    _ => false,
                });
                if takes_name && takes_alpn {
                    let at = self.line_of(at.header.clone());
                    let name = match name {
                        NamePattern::Exact(name) => name.clone(),
                        NamePattern::Below(name) => format!("*.{name}"),
                    };
                    let message = format!(
                        "sni: {name} never comes here, as an earlier route takes it{at}; put the narrower route first"
                    );
                    self.diagnostics.error(place(section, "sni"), message);
                }
            }
        }
    }

    fn group_of<S>(
        &mut self,
        section: &Section<S>,
        name: &str,
        groups: &Groups<'_>,
    ) -> Option<usize> {
        let found = groups.get(name).copied();
        if found.is_none() {
            self.is_unresolved = true;
            let hint = suggest::hint(name, groups.keys().copied());
            let names: Vec<_> = groups
                .keys()
                .copied()
                .filter(|name| !name.is_empty())
                .collect();
            let way_out = match (hint.as_str(), names.as_slice()) {
                ("", []) => format!("; define it with [[group]] and name = {name:?}"),
                ("", names) => format!("; there are {}", names.join(", ")),
                (hint, _) => hint.to_owned(),
            };
            let message = format!("group: there is no group {name:?}{way_out}");
            self.diagnostics.error(place(section, "group"), message);
        }
        found
    }
}
