//! The backends of a proxy as JSON, and what an operator does to them.
//!
//! A backend is named by its place in the settings, `GROUP/BACKEND`, both counted from 0: names may hold anything.

use std::sync::atomic::Ordering::Relaxed;

use polyloop::Remote;
use polyloop_proxy::health::{Manual, State};
use polyloop_proxy::site::{Backend, BackendBoard, Site};
use polyloop_proxy::termination::Cause;
use polyloop_sys::clock::monotonic_ns;
use serde::Serialize;
use serde_json::{Map, Value};

/// What an operator wants of a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Order {
    pub(super) group: u16,
    pub(super) backend: u16,
    pub(super) manual: Manual,
}

impl Order {
    /// From what follows `/backends/` in a path: `0/1/drain`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('/');
        let (group, backend) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        let manual = match parts.next()? {
            "ready" => Manual::Ready,
            "drain" => Manual::Drain,
            "down" => Manual::Down,
            _ => return None,
        };
        parts.next().is_none().then_some(Self {
            group,
            backend,
            manual,
        })
    }

    /// Does it; `None` if there is no such backend, or else what it is now.
    pub(super) fn obey(self, site: &Site) -> Option<State> {
        let (group, at) = (usize::from(self.group), usize::from(self.backend));
        let backend = site.groups.get(group)?.backends.get(at)?;
        let now_ms = now_ms();
        let change = backend.judge(now_ms, |health| health.set_manual(now_ms, self.manual));
        site.tell(group, at, change);
        Some(backend.published().state(now_ms))
    }
}

#[derive(Serialize)]
struct Document<'a> {
    listeners: Vec<ListenerView<'a>>,
    groups: Vec<GroupView<'a>>,
}

#[derive(Serialize)]
struct ListenerView<'a> {
    name: &'a str,
    live: u32,
    #[serde(flatten)]
    counters: Map<String, Value>,
    /// By reason; those that have not occurred too.
    refused: Map<String, Value>,
}

#[derive(Serialize)]
struct GroupView<'a> {
    name: &'a str,
    balance: &'static str,
    waiting: usize,
    backends: Vec<BackendView<'a>>,
}

#[derive(Serialize)]
struct BackendView<'a> {
    /// What `/backends/...` names it by.
    at: String,
    name: &'a str,
    state: &'static str,
    addresses: Vec<String>,
    weight: u16,
    backup: bool,
    live: u64,
    max: Option<u32>,
    went_up: u64,
    went_down: u64,
    ejected: u64,
    #[serde(flatten)]
    counters: Map<String, Value>,
}

/// Renders everything that is known of backends and listeners.
pub(super) fn render(site: &Site) -> Vec<u8> {
    let now_ms = now_ms();
    let listeners = site.settings.listeners.iter().zip(&site.listeners);
    let listeners = listeners.enumerate().map(|(at, (settings, listener))| {
        let (mut counters, mut refused) = (Map::new(), Map::new());
        for board in &listener.boards {
            board.each(&mut |name, _, value| add(&mut counters, name, value));
            for (reason, count) in Cause::REFUSALS.iter().zip(&board.refused) {
                add(&mut refused, reason, count.value());
            }
        }
        ListenerView {
            name: &settings.name,
            live: site.live(at),
            counters,
            refused,
        }
    });
    let groups = site.settings.groups.iter().zip(&site.groups).enumerate();
    let groups = groups.map(|(group_at, (settings, group))| GroupView {
        name: &settings.name,
        balance: settings.balance.name(),
        waiting: group.waiting(),
        backends: settings
            .backends
            .iter()
            .zip(&group.backends)
            .enumerate()
            .map(|(at, (settings, backend))| BackendView {
                at: format!("{group_at}/{at}"),
                name: &settings.name,
                state: backend.published().state(now_ms).name(),
                addresses: backend.places().iter().map(address).collect(),
                weight: settings.weight,
                backup: settings.backup,
                live: backend.taken(),
                max: settings.connections_max,
                went_up: backend.changes.up.load(Relaxed),
                went_down: backend.changes.down.load(Relaxed),
                ejected: backend.changes.ejected.load(Relaxed),
                counters: counters(backend),
            })
            .collect(),
    });
    let document = Document {
        listeners: listeners.collect(),
        groups: groups.collect(),
    };
    let mut bytes = serde_json::to_vec_pretty(&document)
        // Every key is a text, which is all that serialising asks for.
        .unwrap_or_else(|error| format!("{{\"error\":\"{error}\"}}").into_bytes());
    bytes.push(b'\n');
    bytes
}

/// A backend's counters, added up over the loops.
fn counters(backend: &Backend) -> Map<String, Value> {
    let mut sums = Map::new();
    for board in &backend.boards {
        BackendBoard::each(board, &mut |name, _, value| add(&mut sums, name, value));
    }
    sums
}

fn add(sums: &mut Map<String, Value>, name: &str, value: u64) {
    let before = sums.get(name).and_then(Value::as_u64).unwrap_or(0);
    sums.insert(name.to_owned(), Value::from(before.saturating_add(value)));
}

fn address(place: &Remote) -> String {
    match place {
        Remote::Tcp(addr) => addr.to_string(),
        Remote::Unix(path) => format!("unix:{}", path.display()),
    }
}

fn now_ms() -> u64 {
    monotonic_ns() / 1_000_000
}

#[cfg(test)]
mod tests {
    use super::*;
    use polyloop_proxy::settings::{BackendSettings, GroupSettings, ProxySettings, Target};

    #[test]
    fn orders_are_exact_and_do_what_they_say() {
        // Goal: an operator's word reaches the right backend, and nothing else is an order. Method: good and bad paths.
        for text in [
            "",
            "0",
            "0/0",
            "0/0/up",
            "0/0/drain/",
            "0/-1/drain",
            "x/0/down",
            "0/70000/down",
        ] {
            assert_eq!(Order::parse(text), None, "{text}");
        }
        let to = Target::Addr(([127, 0, 0, 1], 9).into());
        let settings = ProxySettings {
            groups: vec![GroupSettings {
                name: "db".to_owned(),
                backends: vec![BackendSettings::new("one".to_owned(), to)],
                ..GroupSettings::default()
            }],
            ..ProxySettings::default()
        };
        let site = Site::new(settings, 2);
        let order = |text| Order::parse(text).and_then(|order| order.obey(&site));
        assert_eq!(order("0/0/drain"), Some(State::Drain));
        let page: Value = serde_json::from_slice(&render(&site)).unwrap();
        let backend = &page["groups"][0]["backends"][0];
        assert_eq!(backend["state"], State::Drain.name());
        assert_eq!(
            (&backend["at"], &backend["live"]),
            (&"0/0".into(), &0.into())
        );
        assert_eq!(backend["chosen"], 0);
        assert_eq!(order("0/0/ready"), Some(State::Up));
        assert_eq!(order("0/1/ready"), None);
        assert_eq!(order("1/0/ready"), None);
    }
}
