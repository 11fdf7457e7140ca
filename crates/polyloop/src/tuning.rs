//! What can be tuned about one loop, with the defaults and where they come from.

use std::time::Duration;

/// The settings of one loop. Every bound has a counter that tells how often it was hit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tuning {
    /// The most events taken from one poll. 1,024 is what libuv and tokio use; fewer bounds the turn, more saves
    /// polls only above that many ready sockets per turn.
    pub events_max: usize,
    /// How long to poll without sleeping before the loop sleeps. Zero, since a loop that spins takes the core from
    /// whoever shares it; 20 to 100 microseconds buy latency on a core of its own.
    pub spin: Duration,
    /// Bytes read from one connection in one turn, and the size of the loop's read buffer. 64 KiB: one full read,
    /// as libuv does it; a connection with more waits for its next turn.
    pub read_bytes_max: usize,
    /// How long the ready phase may take before the loop looks at everything else again; looked at once in 64
    /// dispatches, or as often as slow ones ask for. 500 microseconds is Seastar's task quota.
    pub quota: Duration,
    /// Connections taken from one listener in one turn. Between HAProxy's 4 and Netty's 16, accepting too many at
    /// once delays those that are being served; what is left is taken in the next turn.
    pub accept_max: usize,
    /// Handed-over sockets, messages and results of jobs taken in one turn, so many of each: a flood of one kind must
    /// not keep the others waiting. gnet bounds its queue by 256 a round.
    pub inbox_max: usize,
    /// Timers fired in one turn.
    pub timers_max: usize,
    /// The loop is awake this long before an alarm ([`Ctx::set_alarm`](crate::Ctx::set_alarm)) and polls without sleeping until it
    /// is due: waking up takes a processor tens of microseconds. Zero, the default, wakes when it is due.
    pub alarm_spin: Duration,
    /// Output kept for one socket above which its source is no longer read: Netty's and Envoy's habit is 32 to
    /// 64 KiB. Reading goes on at half.
    pub output_high_bytes: usize,
    /// Output kept for one socket above which the session is closed: a handler that writes although it was told to
    /// stop. 16 MiB.
    pub output_max_bytes: usize,
    /// Pipes that the loop may have open, two descriptors each, for handlers that splice
    /// ([`Ctx::splice`](crate::Ctx::splice)). Only a session whose peer is slow holds one for longer than a call; all those
    /// together hold three quarters at most. 0: everything is copied.
    pub pipes_max: usize,
    /// Whether [`Accepted::local`](crate::Accepted::local) is asked for: one system call for each connection.
    pub asks_local_addr: bool,
    /// No byte moved for this long closes a session; `None` keeps it for ever. A peer that is owed output is given another such
    /// time, and one more whenever some of it has arrived in the last.
    pub idle_timeout: Option<Duration>,
    /// How long a session that is ending waits for its peer to finish, or to take some more of the rest.
    pub linger_timeout: Duration,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            events_max: 1024,
            spin: Duration::ZERO,
            read_bytes_max: 64 * 1024,
            quota: Duration::from_micros(500),
            accept_max: 16,
            inbox_max: 256,
            timers_max: 1024,
            alarm_spin: Duration::ZERO,
            output_high_bytes: 64 * 1024,
            output_max_bytes: 16 * 1024 * 1024,
            pipes_max: 0,
            asks_local_addr: false,
            idle_timeout: Some(Duration::from_secs(600)),
            linger_timeout: Duration::from_secs(30),
        }
    }
}

impl Tuning {
    /// The same settings with every bound at a value the loop can work with: no zero counts, a read buffer of at
    /// least one page, a hard bound that is not below the watermark.
    #[must_use]
    pub fn sane(mut self) -> Self {
        for bound in [
            &mut self.events_max,
            &mut self.accept_max,
            &mut self.inbox_max,
            &mut self.timers_max,
            &mut self.output_high_bytes,
        ] {
            *bound = (*bound).max(1);
        }
        self.read_bytes_max = self.read_bytes_max.clamp(4096, 16 * 1024 * 1024);
        self.output_max_bytes = self
            .output_max_bytes
            .max(self.output_high_bytes + self.read_bytes_max);
        self
    }
}
