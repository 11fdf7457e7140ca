//! `[[group]]` and `[[group.backend]]`: where clients are sent.

use polyloop_proxy::settings::defaults::{SLOTS_MAX, WEIGHT_MAX};
use polyloop_proxy::settings::{Algorithm, BackendSettings, OnDown, Target};

use super::super::codec::{Choice, Codec, Count, List, Maybe, OrOff, Percent, Switch, Time, count};
use super::super::draft::{Check, GroupDraft};
use super::super::target;
use super::super::texts::{Escaped, NameText, SendProxyText, ServerName, SourceText};
use super::super::value::{Value, Wrong};
use super::{Key, key};
use crate::settings::{DEADLINE_MAX, TICK};

/// `[[group]]`. Its backends are a list of their own: `to`, or `[[group.backend]]`.
pub(crate) const GROUP: &[Key<GroupDraft>] = &[
    key!("name", NameText, g => g.settings.name),
    key!("balance", BALANCE, g => g.settings.balance),
    key!("retries", count(0, RETRIES_MAX), g => g.settings.retries),
    key!("queue", count(0, QUEUE_MAX), g => g.settings.queue_max),
    key!("check", CHECK, g => g.check),
    key!("check-send", Escaped, g => g.check_send),
    key!("check-expect", Escaped, g => g.check_expect),
    key!("check-sni", Maybe(ServerName), g => g.check_sni, "none is sent"),
    key!("check-interval", TIME, g => g.health.interval),
    key!("check-jitter", Percent { max: 100 }, g => g.health.jitter_percent),
    key!("check-timeout", TIME, g => g.health.timeout),
    key!("rise", SOME, g => g.health.rise),
    key!("fall", SOME, g => g.health.fall),
    key!("eject", OrOff(SOME), g => g.eject_errors),
    key!("eject-time", TIME, g => g.eject.base),
    key!("eject-time-max", TIME, g => g.eject.max),
    key!("eject-share", Percent { max: 100 }, g => g.eject.share_max_percent),
    key!("fail-open", Switch, g => g.settings.fail_open),
    key!("on-down", ON_DOWN, g => g.settings.on_down),
    key!("slow-start", OrOff(TIME), g => g.settings.slow_start),
    key!("send-proxy", SendProxyText, g => g.settings.send_proxy),
    key!("hold-ack", Switch, g => g.settings.hold_ack),
    key!("source", SOURCES, g => g.settings.sources, "the system chooses"),
    key!("transparent", Switch, g => g.settings.transparent),
];

/// `[[group.backend]]`.
pub(crate) const BACKEND: &[Key<BackendSettings>] = &[
    key!("to", TargetText, b => b.to),
    key!("name", NameText, b => b.name, "its target"),
    key!("weight", count(0, WEIGHT_MAX as u64), b => b.weight),
    key!("backup", Switch, b => b.backup),
    key!("max", OrOff(SESSIONS), b => b.connections_max),
    key!("slots", Maybe(SLOTS), b => b.slots, "one for a host, 8 for a service (srv:)"),
];

/// Where a backend is.
struct TargetText;

impl Codec for TargetText {
    type Of = Target;

    fn read(&self, value: &Value) -> Result<Target, Wrong> {
        let text = value.as_text("an address or a name, as in \"db1:5432\"")?;
        target::parse(text).map_err(Wrong::new)
    }

    fn show(&self, of: &Target) -> Option<Value> {
        Some(Value::Text(target::show(of)))
    }
}

const BALANCE: Choice<Algorithm> = Choice(&[
    ("round-robin", Algorithm::RoundRobin),
    ("least", Algorithm::Least),
    ("two-choices", Algorithm::TwoChoices),
    ("source-hash", Algorithm::SourceHash),
]);
const CHECK: Choice<Check> = Choice(&[
    ("off", Check::Off),
    ("connect", Check::Connect),
    ("send", Check::Send),
    ("tls", Check::Tls),
]);
const ON_DOWN: Choice<OnDown> = Choice(&[("keep", OnDown::Keep), ("close", OnDown::Close)]);
const SOURCES: List<SourceText> = List {
    of: SourceText,
    splits: true,
};
const TIME: Time = Time {
    min: TICK,
    max: DEADLINE_MAX,
    step: TICK,
};
const SOME: Count<u32> = count(1, 1000);
/// More than the largest service needs, and few enough that several such names fit into a group.
const SLOTS: Count<u16> = count(1, SLOTS_MAX as u64);
const SESSIONS: Count<u32> = count(1, u32::MAX as u64);
/// Each attempt may take the whole connect timeout: more than this outlasts every client.
const RETRIES_MAX: u64 = 64;
/// Each that waits holds a descriptor.
const QUEUE_MAX: u64 = 1 << 20;
