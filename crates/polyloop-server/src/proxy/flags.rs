//! The flags that only the proxy has, as `--help` tells them.
//!
//! The one idea: a flag is a setting of the file with two dashes before it. This table adds what a person needs: a
//! heading, the unit, the default with its reason.

use super::keys;
use super::value::{Value, Wrong};

/// Which section a flag writes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// `[server]` or `[limits]`.
    Process,
    /// The listener.
    Listener,
    /// The group.
    Group,
    /// The group's list of backends.
    Backends,
}

/// What stands after a flag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Takes {
    /// One value of this kind.
    One(&'static str),
    /// One value of this kind, each time.
    Many(&'static str),
    /// Nothing: it sets this.
    Nothing(bool),
}

/// One flag.
#[derive(Debug)]
pub(crate) struct Flag {
    /// Its name, without dashes.
    pub(crate) name: &'static str,
    /// The setting it stands for.
    pub(crate) key: &'static str,
    pub(crate) short: Option<char>,
    pub(crate) scope: Scope,
    pub(crate) takes: Takes,
    pub(crate) heading: &'static str,
    pub(crate) help: &'static str,
}

impl Flag {
    /// What the flags of the server that are a listener's here have in common.
    pub(crate) const fn of_listener() -> Self {
        flag("", Scope::Listener, Takes::Nothing(true), LISTENING, "")
    }

    /// The value of what was typed; a switch ignores it.
    pub(crate) fn value(&self, typed: Vec<String>) -> Value {
        match self.takes {
            Takes::Nothing(is_on) => Value::Switch(is_on),
            Takes::Many(_) => Value::List(typed.into_iter().map(Value::Text).collect()),
            Takes::One(_) => Value::Text(typed.into_iter().next_back().unwrap_or_default()),
        }
    }

    /// Whether a text can be meant.
    ///
    /// # Errors
    /// The reason and the way out.
    pub(crate) fn check(&self, text: &str) -> Result<(), String> {
        let value = self.value(vec![text.to_owned()]);
        let read = match self.scope {
            Scope::Process => keys::find(keys::SERVER, self.key)
                .or_else(|| keys::find(keys::LIMITS, self.key))
                .map(|key| key.try_read(&value)),
            Scope::Listener => keys::find(keys::LISTENER, self.key).map(|key| key.try_read(&value)),
            Scope::Group => keys::find(keys::GROUP, self.key).map(|key| key.try_read(&value)),
            Scope::Backends => {
                let read =
                    super::file::short_backend(&Value::text(text), &super::origin::Origin::Default);
                Some(read.map(drop).map_err(Wrong::new))
            }
        };
        // A test holds that each flag has its setting.
        read.unwrap_or(Ok(())).map_err(|wrong| wrong.why)
    }
}

const fn flag(
    name: &'static str,
    scope: Scope,
    takes: Takes,
    heading: &'static str,
    help: &'static str,
) -> Flag {
    Flag {
        name,
        key: name,
        short: None,
        scope,
        takes,
        heading,
        help,
    }
}

use Scope::{Backends, Group, Listener, Process};
use Takes::{Many, Nothing, One};

/// All of them, in the order of the help.
pub(crate) const FLAGS: &[Flag] = &[
    Flag {
        name: "to",
        key: "to",
        short: Some('t'),
        scope: Backends,
        takes: Many("BACKEND"),
        heading: BACKENDS,
        help: "Backend: db1:5432, 10.0.0.1:5432, [::1]:5432, unix:/run/db.sock, srv:_db._tcp.example.org; may be \
               repeated [default: an embedded echo, so that bytes are seen to move at once]\n\nMore about it after commas, as in \
               db1:5432,weight=3,backup,max=200,name=a: weight 0 to 256 (its share; 0 gets nothing new) [default: 1], backup \
               (used while no other can be), max (sessions open at once; more wait in the queue) [default: off], name (in \
               logs and metrics), slots (backends that a name's addresses are dealt to) [default: 1, for srv: 8]. Names are \
               looked up again when their TTL ends.",
    },
    flag(
        "dns",
        Process,
        Many("ADDR"),
        BACKENDS,
        "Name servers to ask for the addresses of backends, as in 10.0.0.2 or 10.0.0.2:5353; /etc/hosts comes first [default: \
         those of /etc/resolv.conf]",
    ),
    flag(
        "balance",
        Group,
        One("HOW"),
        BACKENDS,
        "How a backend is chosen: round-robin, least, two-choices, source-hash (the same source comes to \
         the same backend) [default: two-choices, nearly as even as least and without its herds]",
    ),
    flag(
        "retries",
        Group,
        One("COUNT"),
        BACKENDS,
        "Other backends tried when a connect fails, before any byte was sent [default: 2, a restart of one \
         and a fault of another]",
    ),
    flag(
        "queue",
        Group,
        One("COUNT"),
        BACKENDS,
        "Sessions of a group that wait, over all loops, while every backend is at its max; more are refused [default: 1024]",
    ),
    flag(
        "slow-start",
        Group,
        One("TIME|off"),
        BACKENDS,
        "Time over which a backend that came up grows to its full share [default: off, most need no warming]",
    ),
    flag(
        "source",
        Group,
        Many("ADDR"),
        BACKENDS,
        "Addresses to connect from, in turn: 10.0.0.5, 10.0.0.5:20000-29999 [default: the system's choice; \
         each address more is 28,000 connections more to one backend]",
    ),
    flag(
        "transparent",
        Group,
        Nothing(true),
        BACKENDS,
        "Connect from the client's own address: needs CAP_NET_ADMIN, and routes that bring the answers \
         back here",
    ),
    flag(
        "send-proxy",
        Group,
        One("VERSION"),
        BACKENDS,
        "Send a PROXY header to backends: v1, v2, or v2 with crc32c, authority, alpn, unique-id, 0xE0=TEXT \
         after commas [default: off, a backend that does not expect one takes it for data]",
    ),
    flag(
        "hold-ack",
        Group,
        Nothing(true),
        BACKENDS,
        "End the handshake with a backend with the client's first bytes if they are there, one packet less: the \
         default",
    ),
    Flag {
        key: "hold-ack",
        ..flag(
            "no-hold-ack",
            Group,
            Nothing(false),
            BACKENDS,
            "End the handshake with a backend at once: for backends behind a SYN proxy, where connections would \
             come 200 ms late",
        )
    },
    flag(
        "check",
        Group,
        One("HOW"),
        HEALTH,
        "Check backends: connect, send (bytes, with an answer), tls (a hello), off [default: off, a check \
         nobody asked for fills the backends' logs; ejection is on]",
    ),
    flag(
        "check-send",
        Group,
        One("TEXT"),
        HEALTH,
        "What a send check sends, as in 'PING\\r\\n' [default: nothing, for servers that speak first]",
    ),
    flag(
        "check-expect",
        Group,
        One("TEXT"),
        HEALTH,
        "What its answer begins with, as in '+PONG' [default: anything]",
    ),
    flag(
        "check-sni",
        Group,
        One("NAME"),
        HEALTH,
        "The server name in the hello of a tls check [default: none]",
    ),
    flag(
        "check-interval",
        Group,
        One("TIME"),
        HEALTH,
        "Time between checks of one backend [default: 2s]",
    ),
    flag(
        "check-jitter",
        Group,
        One("PERCENT"),
        HEALTH,
        "How far that time differs, so that checkers do not meet [default: 10%]",
    ),
    flag(
        "check-timeout",
        Group,
        One("TIME"),
        HEALTH,
        "Time for a check to succeed; at most the interval [default: 2s]",
    ),
    flag(
        "rise",
        Group,
        One("COUNT"),
        HEALTH,
        "Checks that succeed in a row until a backend is up [default: 2, one may be luck]",
    ),
    flag(
        "fall",
        Group,
        One("COUNT"),
        HEALTH,
        "Checks that fail in a row until a backend is down [default: 3, two may be lost packets]",
    ),
    flag(
        "eject",
        Group,
        One("COUNT|off"),
        HEALTH,
        "Connects or young sessions that fail in a row until a backend is left alone for a while [default: 5]",
    ),
    flag(
        "eject-time",
        Group,
        One("TIME"),
        HEALTH,
        "How long at first; each time twice as long [default: 10s, about a restart]",
    ),
    flag(
        "eject-time-max",
        Group,
        One("TIME"),
        HEALTH,
        "How long at most [default: 5m]",
    ),
    flag(
        "eject-share",
        Group,
        One("PERCENT"),
        HEALTH,
        "How much of a group may be ejected at once [default: 50%, if more fail it is hardly the backends' \
         fault]",
    ),
    flag(
        "fail-open",
        Group,
        Nothing(true),
        HEALTH,
        "When all backends are down, try them as if they were up: the default, as checks are wrong about \
         everything at once more often than everything fails",
    ),
    Flag {
        key: "fail-open",
        ..flag(
            "fail-closed",
            Group,
            Nothing(false),
            HEALTH,
            "When all backends are down, refuse",
        )
    },
    flag(
        "on-down",
        Group,
        One("WHAT"),
        HEALTH,
        "Sessions of a backend that goes down: keep, close [default: keep, a check may be wrong about a \
         session that works]",
    ),
    flag(
        "accept-proxy",
        Listener,
        Many("CIDR,.."),
        LISTENING,
        "Sources that begin with a PROXY header (v1 or v2), as in 10.0.0.0/8; it gives the client's address. \
         Others are served without one [default: none, a header is never guessed]",
    ),
    flag(
        "connect-when",
        Listener,
        One("WHEN"),
        LISTENING,
        "Connect to the backend at-once or with the client's first-bytes [default: at-once, in many \
         protocols the server speaks first]",
    ),
    flag(
        "connect-timeout",
        Listener,
        One("TIME"),
        TIMEOUTS,
        "For one attempt to connect to a backend [default: 5s, two lost packets]",
    ),
    flag(
        "half-close-timeout",
        Listener,
        One("TIME"),
        TIMEOUTS,
        "Without a byte once one side has finished [default: 30s, the other rarely has more to say]",
    ),
    flag(
        "first-byte-timeout",
        Listener,
        One("TIME|off"),
        TIMEOUTS,
        "For the client's first byte [default: off, in many protocols the server speaks first]",
    ),
    flag(
        "proxy-header-timeout",
        Listener,
        One("TIME"),
        TIMEOUTS,
        "For the PROXY header that --accept-proxy expects [default: 5s]",
    ),
    flag(
        "hello-timeout",
        Listener,
        One("TIME"),
        TIMEOUTS,
        "For the TLS hello that routes by name wait for [default: 10s]",
    ),
    flag(
        "queue-timeout",
        Listener,
        One("TIME"),
        TIMEOUTS,
        "In the queue of a group whose backends are all at their max [default: 10s]",
    ),
    flag(
        "lifetime",
        Listener,
        One("TIME|off"),
        TIMEOUTS,
        "Close a session after this long, however busy [default: off, only some protocols can be cut at \
         any moment]",
    ),
    flag(
        "lifetime-jitter",
        Listener,
        One("PERCENT"),
        TIMEOUTS,
        "How much shorter a lifetime may be, so that clients do not all come back at once [default: 10%]",
    ),
    flag(
        "keepalive",
        Listener,
        One("TIME|off"),
        TIMEOUTS,
        "Quiet time before TCP probes the peer, on both sides [default: 60s, NAT gateways forget after 4 \
         minutes]",
    ),
    flag(
        "keepalive-interval",
        Listener,
        One("TIME"),
        TIMEOUTS,
        "Time between probes [default: 15s]",
    ),
    flag(
        "keepalive-count",
        Listener,
        One("COUNT"),
        TIMEOUTS,
        "Probes without an answer until the peer is dead [default: 4]",
    ),
    flag(
        "user-timeout",
        Listener,
        One("TIME|off"),
        TIMEOUTS,
        "How long sent bytes may stay unacknowledged (TCP_USER_TIMEOUT) [default: off, it also cuts peers \
         that stop reading for this long, and takes the place of --keepalive-count]",
    ),
    flag(
        "drain-spread",
        Process,
        Nothing(true),
        TIMEOUTS,
        "Close sessions spread over the --drain window, instead of those that are left at its end",
    ),
    flag(
        "allow",
        Listener,
        Many("CIDR,.."),
        LIMITS,
        "Sources that may connect, as in 10.0.0.0/8; the longest prefix of --allow and --deny decides \
         [default: everybody]",
    ),
    flag(
        "deny",
        Listener,
        Many("CIDR,.."),
        LIMITS,
        "Sources that may not [default: nobody]",
    ),
    flag(
        "rate",
        Process,
        One("RATE|off"),
        LIMITS,
        "New connections per second, as in 1k/s or 1k/s,burst=5k [default: off]",
    ),
    flag(
        "source-connections",
        Process,
        One("COUNT|off"),
        LIMITS,
        "Connections open at once from one source (an IPv4 address, an IPv6 /64) [default: off, one \
         address may be a whole company]",
    ),
    flag(
        "source-rate",
        Process,
        One("RATE|off"),
        LIMITS,
        "New connections per second from one source [default: off, for the same reason]",
    ),
    flag(
        "sources-max",
        Process,
        One("COUNT"),
        LIMITS,
        "Sources counted at once, for each scope (a listener; the process) over all loops [default: 65536, about 4MiB]",
    ),
    flag(
        "bytes-per-second",
        Listener,
        One("SIZE|off"),
        LIMITS,
        "Bytes per second of one session, in each direction, as in 1MiB [default: off]",
    ),
    flag(
        "splice",
        Listener,
        One("WHEN"),
        RELAY,
        "Move bytes inside the kernel: auto (once a direction has proved to be bulk), off, always [default: \
         auto, small messages are faster without]",
    ),
    flag(
        "access-log",
        Process,
        One("off|stderr|PATH"),
        TELEMETRY,
        "Where a record of each session goes [default: off, a line per session is a cost to choose]",
    ),
    flag(
        "access-log-format",
        Process,
        One("FORMAT"),
        TELEMETRY,
        "How it is written: logfmt, json [default: logfmt, for people and programs]",
    ),
    flag(
        "access-log-sample",
        Process,
        One("COUNT"),
        TELEMETRY,
        "Keep one record of so many sessions that ended normally, and each of the others [default: 1, all of \
         them]",
    ),
];

const BACKENDS: &str = "Backends";
const HEALTH: &str = "Health of backends";
const LISTENING: &str = "Listening";
const TIMEOUTS: &str = "Timeouts";
const LIMITS: &str = "Limits";
const RELAY: &str = "Moving bytes";
const TELEMETRY: &str = "Telemetry";
