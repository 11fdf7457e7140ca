//! `[server]` and `[limits]`: what belongs to the process.
//!
//! Most of it is what `echo` takes too. Those are kept as typed, ranges and all, since
//! [`settings`](crate::settings) judges them for both.

use polyloop_core::admission::WhenFull;
use polyloop_core::cores::{CoreList, OnCore};
use polyloop_core::spread::Spread;
use polyloop_proxy::settings::{AccessLogFormat, AccessLogTo, DrainClose};
use polyloop_sys::ListenAddr;

use super::super::codec::{
    Choice, Codec, Count, List, Maybe, OrOff, Parsed, Percent, ServerTimeOrOff, Size, Switch, Time,
    count, parsed,
};
use super::super::draft::Process;
use super::super::texts::{RateText, ServerText};
use super::super::value::{Value, Wrong};
use super::{Key, key};
use crate::args::{AcceptArg, LEVELS, MemoryArg, PinArg};
use std::time::Duration;

/// `[server]`.
pub(crate) const SERVER: &[Key<Process>] = &[
    key!("loops", NUMBER, p => p.args.loops, "one per core that the affinity mask and the cgroup quota grant"),
    key!("cores", CORES, p => p.args.cores, "those of the affinity mask, physical cores first"),
    key!("pin", Maybe(PIN), p => p.args.pin),
    key!("on-core", ON_CORE, p => p.args.on_core, "all loops alike"),
    key!("backlog", NUMBER, p => p.args.backlog),
    key!("accept", Maybe(ACCEPT), p => p.args.accept),
    key!("spread", SPREAD, p => p.args.spread, "two-choices where accept is \"acceptor\""),
    key!("correct-above", Maybe(Percent { max: u16::MAX }), p => p.args.correct_above, "never"),
    key!("spin", TIME, p => p.args.spin),
    key!("events-per-poll", NUMBER, p => p.args.events_per_poll),
    key!("read-budget", SIZE, p => p.args.read_budget),
    key!("quota", TIME, p => p.args.quota),
    key!("accept-burst", NUMBER, p => p.args.accept_burst),
    key!("inbox-budget", NUMBER, p => p.args.inbox_budget),
    key!("linger", TIME, p => p.args.linger),
    key!("drain", TIME, p => p.args.drain),
    Key {
        name: "drain-spread",
        unset: "",
        read: |p, value| {
            p.drain_close = match Switch.read(value)? {
                true => DrainClose::Spread,
                false => DrainClose::AtDeadline,
            };
            Ok(())
        },
        show: |p| Some(Value::Switch(p.drain_close == DrainClose::Spread)),
    },
    key!("offload-cpu", NUMBER, p => p.args.offload_cpu),
    key!("offload-blocking", NUMBER, p => p.args.offload_blocking),
    key!("dns", SERVERS, p => p.dns, "those of /etc/resolv.conf"),
    key!("admin", ADDR, p => p.args.admin, "nowhere"),
    key!("admin-public", Switch, p => p.args.admin_public),
    key!("report", TIME, p => p.args.report, "never"),
    key!("stall-after", Maybe(ServerTimeOrOff), p => p.args.stall_after),
    key!("no-rescue", Switch, p => p.args.no_rescue),
    key!("log", Maybe(Choice(&LEVELS)), p => p.args.log),
    key!("access-log", AccessLogText, p => p.access_log.to),
    key!("access-log-format", FORMAT, p => p.access_log.format),
    key!("access-log-sample", count(1, u32::MAX as u64), p => p.access_log.sample_every),
];

/// `[limits]`.
pub(crate) const LIMITS: &[Key<Process>] = &[
    key!("max-connections", NUMBER, p => p.args.max_connections, "all that fit under the limit of open files"),
    key!("reserve", NUMBER, p => p.args.reserve, "32, and 4 per loop"),
    key!("when-full", WHEN_FULL, p => p.args.when_full),
    key!("memory-max", Maybe(MEMORY), p => p.args.memory_max),
    key!("rate", OrOff(RateText), p => p.limits.rate),
    key!("source-connections", OrOff(count(1, u32::MAX as u64)), p => p.limits.source_connections_max),
    key!("source-rate", OrOff(RateText), p => p.limits.source_rate),
    key!("sources-max", count(1, SOURCES_MAX), p => p.limits.sources_max),
];

/// Where access records go: `off`, `stderr` or a path.
struct AccessLogText;

impl Codec for AccessLogText {
    type Of = AccessLogTo;

    fn read(&self, value: &Value) -> Result<AccessLogTo, Wrong> {
        match value.as_text("off, stderr or a path")? {
            "off" => Ok(AccessLogTo::Off),
            "stderr" => Ok(AccessLogTo::Stderr),
            path if path.is_empty() || path.contains('\0') => Err(Wrong::new(format!(
                "{path:?} is no path; write off, stderr or a path, as in /var/log/polyloop.log"
            ))),
            // A bare word is rather a mistake than a file in whatever directory this is.
            word if !word.contains(['/', '.']) => Err(Wrong::new(format!(
                "{word:?} is neither off nor stderr; a file in this directory is written ./{word}"
            ))),
            path => Ok(AccessLogTo::File(path.into())),
        }
    }

    fn show(&self, of: &AccessLogTo) -> Option<Value> {
        Some(Value::Text(match of {
            AccessLogTo::Off => "off".to_owned(),
            AccessLogTo::Stderr => "stderr".to_owned(),
            AccessLogTo::File(path) => path.display().to_string(),
        }))
    }
}

const NUMBER: Maybe<Count<u64>> = Maybe(count(0, u64::MAX));
const SIZE: Maybe<Size> = Maybe(Size {
    min: 0,
    max: u64::MAX,
});
const TIME: Maybe<Time> = Maybe(Time {
    min: Duration::ZERO,
    max: Duration::MAX,
    step: Duration::from_nanos(1),
});
const CORES: Maybe<Parsed<CoreList>> =
    Maybe(parsed("a list of cores in one text, as in \"0,2,4-7\""));
const ON_CORE: List<Parsed<OnCore>> = List {
    of: parsed("a core with its settings, as in \"2:spin=100us\""),
    splits: false,
};
const SPREAD: Maybe<Parsed<Spread>> =
    Maybe(parsed("round-robin, least, two-choices or source-hash"));
const WHEN_FULL: Maybe<Parsed<WhenFull>> = Maybe(parsed("wait, refuse or evict-idle"));
const ADDR: Maybe<Parsed<ListenAddr>> = Maybe(parsed("an address, as in \"127.0.0.1:9000\""));
const SERVERS: List<ServerText> = List {
    of: ServerText,
    splits: true,
};
const MEMORY: Parsed<MemoryArg> = parsed("a size, auto or off, as in \"512MiB\"");
const PIN: Choice<PinArg> = Choice(&[
    ("auto", PinArg::Auto),
    ("always", PinArg::Always),
    ("never", PinArg::Never),
]);
const ACCEPT: Choice<AcceptArg> = Choice(&[
    ("reuseport", AcceptArg::Reuseport),
    ("reuseport-cpu", AcceptArg::ReuseportCpu),
    ("acceptor", AcceptArg::Acceptor),
]);
const FORMAT: Choice<AccessLogFormat> = Choice(&[
    ("logfmt", AccessLogFormat::Logfmt),
    ("json", AccessLogFormat::Json),
]);
/// A table of sources above this is memory that a flood of addresses can take: 256 MiB a scope.
const SOURCES_MAX: u64 = 1 << 22;
