//! How many more connections can be made to one backend.
//!
//! A connection is told from others by its two addresses and two ports. From one source address to one backend only the
//! source port is left to differ, so there are as many connections as ports in the range: 28,232 by default on Linux.
//! Past that, connects fail (`EADDRNOTAVAIL`), and shortly before it the kernel searches long for a free port.
//!
//! One idea: count, so that running out is seen before it comes, and a connect that must fail is not begun. Where the
//! count is too low (ports of connections closed by us wait in `TIME_WAIT`, other programs use the same range), the
//! kernel's word is believed for a second.
//!
//! Deliberately absent: choosing a port (the kernel's `IP_LOCAL_PORT_RANGE` and `IP_BIND_ADDRESS_NO_PORT` do it better),
//! reading `ip_local_port_range`, and backends on Unix sockets, which need no ports.
//!
//! Invariants: `used` is at most the capacity; each warning is given once until ports are ample again.

use std::error::Error;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use polyloop_core::units::format_count;

/// First and last port, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PortRange {
    first: u16,
    last: u16,
}

/// Two ports that are no range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortRangeError {
    /// The first port.
    pub first: u16,
    /// The last port.
    pub last: u16,
}

/// How many source ports are left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum PortLevel {
    /// Enough.
    Ample,
    /// [`WARN_PERCENT`] or more are in use.
    Low,
    /// None.
    Out,
}

/// The source ports from one address to one backend, counted. One per process, group's source address and backend.
#[derive(Debug, Clone)]
pub struct Ports {
    range: PortRange,
    used: u32,
    /// What was last told.
    told: PortLevel,
    /// Until when the kernel is believed that there are none.
    out_until_ms: u64,
}

/// What is to be told about source ports: everything but the names of the listener and the group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shortage {
    /// The address connected from; `None` if the system chooses.
    pub source: Option<IpAddr>,
    /// The backend.
    pub backend: SocketAddr,
    /// How bad it is.
    pub level: PortLevel,
    /// Ports in use.
    pub used: u32,
    /// The range they are from.
    pub range: PortRange,
    /// Whether the range is a setting of the proxy, and not the system's.
    pub is_configured: bool,
}

impl PortRange {
    /// What Linux connects from unless told otherwise (`net.ipv4.ip_local_port_range`).
    pub const LINUX_DEFAULT: Self = Self {
        first: 32_768,
        last: 60_999,
    };

    /// From `first` to `last`.
    ///
    /// # Errors
    /// [`PortRangeError`] if `first` is 0, which is no port, or above `last`.
    pub const fn new(first: u16, last: u16) -> Result<Self, PortRangeError> {
        if first == 0 || first > last {
            return Err(PortRangeError { first, last });
        }
        Ok(Self { first, last })
    }

    /// The first port.
    #[must_use]
    pub const fn first(self) -> u16 {
        self.first
    }

    /// The last port.
    #[must_use]
    pub const fn last(self) -> u16 {
        self.last
    }

    /// How many ports there are.
    #[must_use]
    pub const fn capacity(self) -> u32 {
        self.last as u32 - self.first as u32 + 1
    }
}

impl Ports {
    /// All ports of the range, none of them in use: the configured range, or the system's.
    #[must_use]
    pub const fn new(range: PortRange) -> Self {
        Self {
            range,
            used: 0,
            told: PortLevel::Ample,
            out_until_ms: 0,
        }
    }

    /// Counts a connection about to be made. `false`: there is no port for it, and it must not be tried.
    #[must_use]
    pub fn take(&mut self, now_ms: u64) -> bool {
        let is_free = self.level(now_ms) != PortLevel::Out;
        self.used += u32::from(is_free);
        is_free
    }

    /// A connection that was counted has ended, or was not made.
    pub fn release(&mut self) {
        debug_assert!(self.used > 0, "a port given back twice");
        self.used = self.used.saturating_sub(1);
    }

    /// The kernel found no port for a connection that was counted. It is counted no more, and for a second none is tried.
    pub fn handle_exhausted(&mut self, now_ms: u64) {
        self.release();
        self.out_until_ms = self.out_until_ms.max(now_ms.saturating_add(BELIEVED_MS));
    }

    /// How many are left.
    #[must_use]
    pub fn level(&self, now_ms: u64) -> PortLevel {
        if self.used >= self.capacity() || now_ms < self.out_until_ms {
            PortLevel::Out
        } else if self.used_percent() >= WARN_PERCENT {
            PortLevel::Low
        } else {
            PortLevel::Ample
        }
    }

    /// The level, if it is to be told now: when it gets worse than what was told, and once it is ample again, which it is
    /// told to be only at [`CALM_PERCENT`] or less, so that nothing is told over and over.
    pub fn poll_news(&mut self, now_ms: u64) -> Option<PortLevel> {
        let level = self.level(now_ms);
        let is_worse = level > self.told;
        let is_calm = level == PortLevel::Ample && self.used_percent() <= CALM_PERCENT;
        let is_over = is_calm && self.told != PortLevel::Ample;
        if is_worse || is_over {
            self.told = level;
            return Some(level);
        }
        None
    }

    /// Ports in use.
    #[must_use]
    pub const fn used(&self) -> u32 {
        self.used
    }

    /// Ports there are.
    #[must_use]
    pub const fn capacity(&self) -> u32 {
        self.range.capacity()
    }

    /// The range.
    #[must_use]
    pub const fn range(&self) -> PortRange {
        self.range
    }

    const fn used_percent(&self) -> u32 {
        // At most 65,535 times 100.
        self.used * 100 / self.capacity()
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

impl fmt::Display for PortRangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { first, last } = self;
        write!(
            f,
            "{first}-{last} is no range of ports; write the first and the last one, 1 to 65535, as in 20000-60000"
        )
    }
}

impl Error for PortRangeError {}

impl PortLevel {
    /// The name in logs, metrics and the admin pages.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ample => "ample",
            Self::Low => "low",
            Self::Out => "out",
        }
    }
}

impl fmt::Display for Shortage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "source ports towards {}", self.backend)?;
        if let Some(source) = self.source {
            write!(f, " from {source}")?;
        }
        f.write_str(match self.level {
            PortLevel::Ample => " are ample again",
            PortLevel::Low => " run low",
            PortLevel::Out => " have run out, no session is sent there",
        })?;
        let (used, capacity) = (self.used, self.range.capacity());
        write!(
            f,
            ": {} of {} ({}) in use",
            format_count(used.into()),
            format_count(capacity.into()),
            self.range
        )?;
        match (self.level, self.is_configured) {
            (PortLevel::Ample, _) => Ok(()),
            (_, true) => f.write_str("; add a source address, or widen its range of ports"),
            (_, false) => {
                f.write_str("; add source addresses, or widen net.ipv4.ip_local_port_range")
            }
        }
    }
}

/// Ports in use at which a warning is due. From the default range, 2,800 connections are left then.
pub const WARN_PERCENT: u32 = 90;

/// Ports in use at which a warning is called off.
pub const CALM_PERCENT: u32 = 80;

/// How long the kernel is believed: a port that waits in `TIME_WAIT` may be used again after a second
/// (`tcp_tw_reuse`), and sessions should not have to wait longer than that for one to be there.
const BELIEVED_MS: u64 = 1000;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ports(first: u16, last: u16) -> Ports {
        Ports::new(PortRange::new(first, last).unwrap())
    }

    #[test]
    fn ranges_are_ranges() {
        // Goal: capacities, and what is no range. Method: the ends.
        assert_eq!(PortRange::new(32_768, 60_999).unwrap().capacity(), 28_232);
        assert_eq!(PortRange::new(1, 65_535).unwrap().capacity(), 65_535);
        assert_eq!(PortRange::new(7, 7).unwrap().capacity(), 1);
        for (first, last) in [(0, 10), (11, 10)] {
            let message = PortRange::new(first, last).unwrap_err().to_string();
            assert!(message.starts_with(&format!("{first}-{last} is no range")));
        }
    }

    #[test]
    fn running_out_is_told_once_and_refused() {
        // Goal: a warning, a refusal, and the end of the alarm, each once. Method: a hundred ports up and down, with
        // wavering at each threshold.
        let mut ports = ports(40_000, 40_099);
        let mut told = Vec::new();
        for number in 1..=150 {
            assert_eq!(ports.take(0), number <= 100);
            told.extend(ports.poll_news(0).map(|level| (ports.used(), level)));
            if number == 95 {
                for _ in 0..10 {
                    ports.release();
                }
                assert_eq!(ports.poll_news(0), None);
                assert!((0..10).all(|_| ports.take(0)));
            }
        }
        for _ in 0..100 {
            ports.release();
            told.extend(ports.poll_news(0).map(|level| (ports.used(), level)));
        }
        let expected = [
            (90, PortLevel::Low),
            (100, PortLevel::Out),
            (80, PortLevel::Ample),
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn the_kernel_is_believed_for_a_second() {
        // Goal: after a failed connect none is tried for a second, then they are, and it is told. Method: the dates.
        let mut ports = ports(40_000, 40_099);
        assert!(ports.take(5000));
        ports.handle_exhausted(5000);
        assert_eq!(ports.used(), 0);
        assert_eq!(ports.poll_news(5000), Some(PortLevel::Out));
        assert!(!ports.take(5999) && ports.take(6000));
        assert_eq!(ports.poll_news(6000), Some(PortLevel::Ample));
        assert_eq!(ports.poll_news(6000), None);
    }

    #[test]
    fn a_shortage_names_thing_reason_and_way_out() {
        // Goal: the messages. Method: written out.
        let mut shortage = Shortage {
            source: None,
            backend: "10.0.0.1:5432".parse().unwrap(),
            level: PortLevel::Low,
            used: 25_409,
            range: PortRange::new(32_768, 60_999).unwrap(),
            is_configured: false,
        };
        assert_eq!(
            shortage.to_string(),
            "source ports towards 10.0.0.1:5432 run low: 25.4k of 28.23k (32768-60999) in use; add source addresses, \
             or widen net.ipv4.ip_local_port_range"
        );
        shortage.level = PortLevel::Out;
        shortage.source = Some("10.0.0.9".parse().unwrap());
        shortage.is_configured = true;
        let message = shortage.to_string();
        assert!(
            message.contains("from 10.0.0.9 have run out") && message.ends_with("range of ports")
        );
        shortage.level = PortLevel::Ample;
        assert!(shortage.to_string().ends_with("in use"));
        assert_eq!(PortLevel::Low.name(), "low");
    }

    proptest! {
        #[test]
        fn the_count_is_the_count(capacity in 1_u16..50, steps in prop::collection::vec(0_u8..8, 0..300)) {
            // Goal: never more than the capacity, none refused below it unless the kernel said so, news never repeat.
            // Method: a plain count.
            let mut ports = ports(100, 99 + capacity);
            let (mut used, mut now_ms, mut out_until_ms, mut told) = (0, 0, 0, PortLevel::Ample);
            for step in steps {
                match step {
                    0..4 => {
                        let is_free = used < u32::from(capacity) && now_ms >= out_until_ms;
                        prop_assert_eq!(ports.take(now_ms), is_free);
                        used += u32::from(is_free);
                    }
                    4..6 if used > 0 => {
                        ports.release();
                        used -= 1;
                    }
                    6 if used > 0 => {
                        ports.handle_exhausted(now_ms);
                        (used, out_until_ms) = (used - 1, now_ms + 1000);
                    }
                    _ => now_ms += 400,
                }
                prop_assert_eq!(ports.used(), used);
                if let Some(news) = ports.poll_news(now_ms) {
                    prop_assert_ne!(news, told);
                    told = news;
                }
                prop_assert!(told >= ports.level(now_ms));
            }
        }
    }
}
