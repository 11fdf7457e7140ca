//! The backends of a proxy as JSON, and what an operator does to them.
//!
//! A backend is named by its place in the settings, `GROUP/BACKEND`, both counted from 0: names may hold anything.

use std::sync::atomic::Ordering::Relaxed;

use polyloop::Remote;
use polyloop::hist::AtomicHistogram;
use polyloop_proxy::balance::Weight;
use polyloop_proxy::health::{Manual, Outcome, State};
use polyloop_proxy::names::Name;
use polyloop_proxy::ports::Shortage;
use polyloop_proxy::settings::{BackendSettings, GroupSettings};
use polyloop_proxy::site::{Backend, BackendBoard, Group, SESSION_TICK_NS, Site};
use polyloop_proxy::termination::Cause;
use polyloop_sys::clock::monotonic_ns;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::quantiles::{QUANTILES, Reader};

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
    /// Sessions that wait for a backend below its cap, and how many may.
    waiting: usize,
    waiting_max: u32,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    names: Vec<NameView<'a>>,
    backends: Vec<BackendView<'a>>,
}

/// A name that is looked up, and the backends that it stands for.
#[derive(Serialize)]
struct NameView<'a> {
    name: &'a str,
    /// The first of its backends and how many they are.
    at: String,
    slots: usize,
    addresses: usize,
    look_ups: u64,
    failures: u64,
    /// How long ago it was answered, in milliseconds.
    answered_ms_ago: Option<u64>,
    /// How long the last answer holds, or how long a failed look-up waits for the next.
    again_in_ms: u64,
    /// Why the last look-up failed.
    error: Option<String>,
}

#[derive(Serialize)]
struct BackendView<'a> {
    /// What `/backends/...` names it by.
    at: String,
    name: &'a str,
    state: &'static str,
    /// What an operator wants of it.
    manual: &'static str,
    /// How long it will still be left alone, in seconds.
    ejected_for_s: Option<f64>,
    last_check: Option<CheckView>,
    connect_ms: Option<TimesView>,
    session_ms: Option<TimesView>,
    addresses: Vec<String>,
    /// Source ports towards it, by source and address, as far as any were taken.
    ports: Vec<PortsView>,
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

#[derive(Serialize)]
struct CheckView {
    result: &'static str,
    ago_s: f64,
}

/// Quantiles since the start, at most 3.2 % above the truth.
#[derive(Serialize)]
struct TimesView {
    p50: f64,
    p99: f64,
    max: f64,
}

impl TimesView {
    /// Of a histogram that counts in `unit_ns`; `None` before its first value.
    fn read(reader: &mut Reader, histogram: &AtomicHistogram, unit_ns: u64) -> Option<Self> {
        let reading = reader.read(histogram);
        let values = reading.values?;
        let millis = |value: u64| value as f64 * unit_ns as f64 / 1e6;
        let at = |quantile: &str| {
            let place = QUANTILES.iter().position(|(_, name)| *name == quantile);
            place.map_or(0.0, |place| millis(values[place]))
        };
        Some(Self {
            p50: at("0.5"),
            p99: at("0.99"),
            max: millis(reading.max),
        })
    }
}

/// Source ports towards one address of a backend.
#[derive(Serialize)]
struct PortsView {
    /// The address connected from; null where the system chooses.
    from: Option<String>,
    to: String,
    used: u32,
    capacity: u32,
    level: &'static str,
}

impl PortsView {
    fn of(ports: &Shortage) -> Self {
        Self {
            from: ports.source.map(|source| source.to_string()),
            to: ports.backend.to_string(),
            used: ports.used,
            capacity: ports.range.capacity(),
            level: ports.level.name(),
        }
    }
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
    let mut reader = Reader::new();
    let groups = groups.map(|(at, (settings, group))| GroupView {
        name: &settings.name,
        balance: settings.balance.name(),
        waiting: group.waiting(),
        waiting_max: settings.queue_max,
        names: names_of(site, at, now_ms),
        backends: backends_of(at, settings, group, now_ms, &mut reader),
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

fn backends_of<'a>(
    group_at: usize,
    settings: &'a GroupSettings,
    group: &Group,
    now_ms: u64,
    reader: &mut Reader,
) -> Vec<BackendView<'a>> {
    let shares = group.shares();
    let backends = settings.backends.iter().zip(&group.backends);
    backends
        .zip(&shares.weights)
        .enumerate()
        .map(|(at, ((settings, backend), share))| {
            let at = format!("{group_at}/{at}");
            view(at, settings, backend, *share, now_ms, reader)
        })
        .collect()
}

fn view<'a>(
    at: String,
    settings: &'a BackendSettings,
    backend: &Backend,
    share: Weight,
    now_ms: u64,
    reader: &mut Reader,
) -> BackendView<'a> {
    let (manual, ejected_until_ms) = backend.wanted(now_ms);
    let seconds = |ms: u64| ms as f64 / 1e3;
    BackendView {
        at,
        name: &settings.name,
        state: backend.published().state(now_ms).name(),
        manual: match manual {
            Manual::Ready => "ready",
            Manual::Drain => "drain",
            Manual::Down => "down",
        },
        ejected_for_s: ejected_until_ms.map(|until_ms| seconds(until_ms.saturating_sub(now_ms))),
        last_check: backend.last_check().map(|(at_ms, outcome)| CheckView {
            result: match outcome {
                Outcome::Passed => "passed",
                Outcome::Failed => "failed",
            },
            ago_s: seconds(now_ms.saturating_sub(at_ms)),
        }),
        connect_ms: TimesView::read(reader, &backend.connect_time, 1),
        session_ms: TimesView::read(reader, &backend.session_time, SESSION_TICK_NS),
        addresses: backend.places().iter().map(address).collect(),
        ports: backend
            .ports
            .all(now_ms)
            .iter()
            .map(PortsView::of)
            .collect(),
        weight: share.weight,
        backup: share.backup,
        live: backend.taken(),
        max: settings.connections_max,
        went_up: backend.changes.up.load(Relaxed),
        went_down: backend.changes.down.load(Relaxed),
        ejected: backend.changes.ejected.load(Relaxed),
        counters: counters(backend),
    }
}

fn names_of(site: &Site, group: usize, now_ms: u64) -> Vec<NameView<'_>> {
    let names = site.names.iter().filter(|name| name.group == group);
    names.map(|name| name_view(site, name, now_ms)).collect()
}

fn name_view<'a>(site: &Site, name: &'a Name, now_ms: u64) -> NameView<'a> {
    let answered_ms = name.answered_ms.load(Relaxed);
    NameView {
        name: name.text(),
        at: format!("{}/{}", name.group, name.first),
        slots: name.slots,
        addresses: name.addresses(site),
        look_ups: name.look_ups.load(Relaxed),
        failures: name.failures.load(Relaxed),
        answered_ms_ago: (answered_ms > 0).then(|| now_ms.saturating_sub(answered_ms)),
        again_in_ms: u64::try_from(name.again_in().as_millis()).unwrap_or(u64::MAX),
        error: name.error(),
    }
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
    use polyloop_proxy::settings::{PassiveEjection, ProxySettings, Target};

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

    #[test]
    fn what_is_known_of_a_backend_is_told() {
        // Goal: who looks here sees the operator's word apart from the state, how long an ejection lasts, and how long things
        // take. Method: a backend that is ejected and drained by hand, with times recorded.
        let to = Target::Addr(([127, 0, 0, 1], 9).into());
        let settings = ProxySettings {
            groups: vec![GroupSettings {
                name: "db".to_owned(),
                backends: vec![BackendSettings::new("one".to_owned(), to)],
                passive: Some(PassiveEjection {
                    errors: 1,
                    share_max_percent: 100,
                    ..PassiveEjection::default()
                }),
                ..GroupSettings::default()
            }],
            ..ProxySettings::default()
        };
        let site = Site::new(settings, 1);
        let read = || -> Value { serde_json::from_slice(&render(&site)).unwrap() };
        let before = read()["groups"][0]["backends"][0].clone();
        for key in ["ejected_for_s", "last_check", "connect_ms", "session_ms"] {
            assert_eq!(before[key], Value::Null, "{key}");
        }
        let backend = &site.groups[0].backends[0];
        let now_ms = now_ms();
        backend.judge(now_ms, |health| health.handle_failure(now_ms, || true));
        backend.judge(now_ms, |health| health.set_manual(now_ms, Manual::Drain));
        (0..100).for_each(|_| backend.connect_time.record_shared(2_000_000));
        backend.session_time.record_shared(36_000_000);
        let row = read()["groups"][0]["backends"][0].clone();
        assert_eq!(
            (&row["manual"], &row["state"]),
            (&"drain".into(), &"drain".into())
        );
        assert!(row["ejected_for_s"].as_f64().unwrap() > 0.0, "{row}");
        assert_eq!(row["connect_ms"]["p99"], 2.0);
        assert_eq!(row["session_ms"]["max"], 3_600_000.0);
    }
}
