//! `[[listener]]` and `[[listener.route]]`: where clients arrive.

use std::time::Duration;

use polyloop_proxy::settings::{ConnectWhen, Splice};
use polyloop_sys::ListenAddr;

use super::super::codec::{Choice, Codec, List, OrOff, Parsed, Percent, Size, Time, count, parsed};
use super::super::draft::{ListenerDraft, RouteDraft};
use super::super::texts::{AlpnText, NameText, RateText, SniText};
use super::{Key, key};
use crate::settings::{DEADLINE_MAX, OUTPUT_BYTES, TICK};
use polyloop_proxy::settings::Cidr;

/// `[[listener]]`.
pub(crate) const LISTENER: &[Key<ListenerDraft>] = &[
    key!("name", NameText, l => l.settings.name),
    key!("listen", LISTEN, l => l.settings.listen),
    key!("group", NameText, l => l.group, "sessions that no route matches are refused"),
    key!("accept-proxy", CIDRS, l => l.accept_proxy.from, "from nobody"),
    key!("allow", CIDRS, l => l.settings.allow, "everybody"),
    key!("deny", CIDRS, l => l.settings.deny, "nobody"),
    key!("max-connections", SOME, l => l.settings.connections_max),
    key!("rate", OrOff(RateText), l => l.settings.rate),
    key!("source-connections", SOME, l => l.settings.source_connections_max),
    key!("source-rate", OrOff(RateText), l => l.settings.source_rate),
    key!("connect-timeout", DEADLINE, l => l.settings.timeouts.connect),
    key!("idle-timeout", OrOff(DEADLINE), l => l.settings.timeouts.idle),
    key!("half-close-timeout", DEADLINE, l => l.settings.timeouts.half_close),
    key!("first-byte-timeout", OrOff(DEADLINE), l => l.settings.timeouts.first_byte),
    key!("proxy-header-timeout", DEADLINE, l => l.settings.timeouts.proxy_header),
    key!("hello-timeout", DEADLINE, l => l.settings.timeouts.hello),
    key!("queue-timeout", DEADLINE, l => l.settings.timeouts.queue),
    key!("lifetime", OrOff(DEADLINE), l => l.settings.timeouts.lifetime),
    key!("lifetime-jitter", Percent { max: 100 }, l => l.settings.timeouts.lifetime_jitter_percent),
    key!("bytes-per-second", OrOff(PACE), l => l.settings.bytes_per_second_max),
    key!("splice", SPLICE, l => l.settings.splice),
    key!("buffer-high", BUFFER, l => l.settings.buffer_high_bytes),
    key!("keepalive", OrOff(SECONDS), l => l.keepalive_idle),
    key!("keepalive-interval", SECONDS, l => l.keepalive.interval),
    key!("keepalive-count", count(1, KEEPALIVE_COUNT_MAX), l => l.keepalive.count),
    key!("user-timeout", OrOff(USER_TIMEOUT), l => l.settings.user_timeout),
    key!("connect-when", CONNECT_WHEN, l => l.settings.connect_when),
];

/// `[[listener.route]]`.
pub(crate) const ROUTE: &[Key<RouteDraft>] = &[
    key!("sni", SNI, r => r.sni, "every name, and none"),
    key!("alpn", ALPN, r => r.alpn, "every protocol, and none"),
    key!("group", NameText, r => r.group),
];

/// The listener's `listen` takes no commas, since a path may hold one.
const LISTEN: List<Parsed<ListenAddr>> = List {
    of: parsed("an address, as in \":5432\""),
    splits: false,
};
pub(super) const CIDRS: List<Parsed<Cidr>> = List {
    of: parsed("a range of addresses, as in \"10.0.0.0/8\""),
    splits: true,
};
const SNI: List<SniText> = List {
    of: SniText,
    splits: true,
};
const ALPN: List<AlpnText> = List {
    of: AlpnText,
    splits: true,
};
const SOME: OrOff<super::super::codec::Count<u32>> = OrOff(count(1, u32::MAX as u64));
const DEADLINE: Time = Time {
    min: TICK,
    max: DEADLINE_MAX,
    step: TICK,
};
/// The kernel counts these in whole seconds, of which it takes up to 32,767.
const SECONDS: Time = Time {
    min: Duration::from_secs(1),
    max: Duration::from_secs(32_767),
    step: Duration::from_secs(1),
};
const KEEPALIVE_COUNT_MAX: u64 = 127;
/// A signed number of milliseconds: 24 days.
const USER_TIMEOUT: Time = Time {
    min: Duration::from_millis(1),
    max: Duration::from_secs(24 * 86_400),
    step: TICK,
};
const BUFFER: Size = Size {
    min: OUTPUT_BYTES.0,
    max: OUTPUT_BYTES.1,
};
/// Below a packet per second nothing useful moves.
const PACE: Size = Size {
    min: 1024,
    max: 1 << 40,
};
const SPLICE: Choice<Splice> = Choice(&[
    ("auto", Splice::Auto),
    ("off", Splice::Off),
    ("always", Splice::Always),
]);
const CONNECT_WHEN: Choice<ConnectWhen> = Choice(&[
    ("at-once", ConnectWhen::AtOnce),
    ("first-bytes", ConnectWhen::FirstBytes),
]);
