//! Every default of the proxy, with its reason, in one place.
//!
//! The one idea: whatever can wait for ever or grow without bound has a limit that is on unless it is switched off, and
//! each number is one that somebody else has already had to choose. Whoever changes one finds here what it was for.

use std::time::Duration;

/// Time for a backend to answer a connect. A lost SYN is repeated after 1 s and 3 s: this outlasts two losses.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Time without a byte in either direction. Pools keep database connections idle for many minutes; without any limit,
/// peers that vanished stay for ever.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(3600);
/// Time without a byte once one side has finished. The other side rarely has more to say, and some never finish.
pub const HALF_CLOSE_TIMEOUT: Duration = Duration::from_secs(30);
/// Time for a complete PROXY header. It is the first thing a load balancer sends: one lost packet, repeated twice.
pub const PROXY_HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// Time for a complete TLS hello. Sent by the client itself, over whatever network it has.
pub const HELLO_TIMEOUT: Duration = Duration::from_secs(10);
/// Time in the queue of a group whose backends are all at their cap. Most clients give up about then.
pub const QUEUE_TIMEOUT: Duration = Duration::from_secs(10);
/// How far lifetimes differ from each other: enough that sessions opened at once do not all come back at once.
pub const LIFETIME_JITTER_PERCENT: u16 = 10;

/// Bytes kept per direction above which the sender is no longer read: one full read of the loop's buffer.
pub const BUFFER_HIGH_BYTES: u64 = 64 * 1024;

/// Quiet time before the first keepalive probe: below 4 minutes, the shortest idle limit of common NAT gateways.
pub const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
/// Time between keepalive probes.
pub const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
/// Probes without an answer after which the peer is dead: with the above, two minutes after it vanished.
pub const KEEPALIVE_COUNT: u32 = 4;

/// Other backends tried after the first, before any byte was sent: a restart of one and a fault of another.
pub const RETRIES: u32 = 2;
/// Sessions waiting per group and loop: each holds a descriptor and its client's patience.
pub const QUEUE_MAX: u32 = 1024;
/// An ordinary backend; others are counted in multiples of it.
pub const WEIGHT: u16 = 1;
/// The largest weight: finer shares than 1 to 256 are not noticed.
pub const WEIGHT_MAX: u16 = 256;

/// Backends that a host's name stands for: one, whose addresses are taken in turn, as most names are one machine's.
pub const SLOTS: u16 = 1;
/// Backends that a service's name stands for: a cluster of a few machines, and room for the next ones.
pub const SLOTS_SRV: u16 = 8;
/// The most of them. A name with more addresses has several at a slot.
pub const SLOTS_MAX: u16 = 64;
/// The shortest time from one look-up of a name to the next, whatever its TTL: a TTL of 0 asks for one with every session.
pub const TTL_MIN: Duration = Duration::from_secs(1);
/// The longest: a name that moves early is followed within minutes even where somebody wrote a day.
pub const TTL_MAX: Duration = Duration::from_secs(300);
/// Time to the next look-up after one has failed; it doubles with each that fails.
pub const LOOK_UP_RETRY: Duration = Duration::from_secs(1);
/// And the longest of these: what comes back is seen within half a minute.
pub const LOOK_UP_RETRY_MAX: Duration = Duration::from_secs(30);

/// Time between active checks of a backend: an outage is known after rise or fall times this.
pub const CHECK_INTERVAL: Duration = Duration::from_secs(2);
/// How far check times differ, so that many checkers do not meet at one backend.
pub const CHECK_JITTER_PERCENT: u16 = 10;
/// Time for a check to succeed: within the interval, so that checks never overlap.
pub const CHECK_TIMEOUT: Duration = Duration::from_secs(2);
/// Successes in a row until a backend is up: one may be luck.
pub const RISE: u32 = 2;
/// Failures in a row until a backend is down: one or two may be a lost packet.
pub const FALL: u32 = 3;

/// Failed connects or early resets in a row that eject a backend: more than a burst of bad luck.
pub const EJECT_ERRORS: u32 = 5;
/// The first ejection's length: about a restart.
pub const EJECT_TIME: Duration = Duration::from_secs(10);
/// The longest ejection; each doubles the one before.
pub const EJECT_TIME_MAX: Duration = Duration::from_secs(300);
/// The share of a group that may be ejected at once. If more fail, it is hardly the backends' fault.
pub const EJECT_SHARE_MAX_PERCENT: u16 = 50;

/// Source addresses counted at once, by a listener or by the process, over all loops: 2.8 MiB at 44 bytes each. They are
/// spread over 64 shards, each with its part of the bound.
pub const SOURCES_MAX: u32 = 65_536;

/// One access record for each session; 10 would keep every tenth.
pub const ACCESS_LOG_SAMPLE: u32 = 1;
