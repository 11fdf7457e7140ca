//! When the requests of one connection are due.
//!
//! The one idea: a due time is worked out from the beginning and a count, not from the one before, so that rounding
//! never adds up: after a thousand million fixed arrivals the next is due to the nanosecond.
//!
//! A rate is for good: a stage with another one has arrivals of its own.
//!
//! Invariants: due times never go back; fixed and bursty arrivals draw nothing from the seed.

use std::fmt;
use std::str::FromStr;

use polyloop_measure::stats::{SplitMix64, mix};

/// How the requests of a connection lie in time. The mean rate is the same for all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArrivalKind {
    /// One after each interval.
    Fixed,
    /// Independent of each other: the gaps are exponentially distributed (a Poisson process).
    Exponential,
    /// Several at once, then nothing until the next burst is due.
    Bursty {
        /// Requests per burst; at least 1.
        size: u32,
    },
}

impl ArrivalKind {
    /// How many requests fall due at the same moment.
    const fn burst(self) -> u32 {
        match self {
            Self::Bursty { size } if size > 0 => size,
            Self::Fixed | Self::Exponential | Self::Bursty { .. } => 1,
        }
    }
}

/// The due times of one connection, in order. [`peek_ns`](Self::peek_ns) tells the next, [`advance`](Self::advance)
/// moves on.
#[derive(Debug, Clone)]
pub struct Arrivals {
    kind: ArrivalKind,
    random: SplitMix64,
    /// Mean time from one burst to the next; a burst of one where the kind is not bursty.
    gap_ns: f64,
    /// Where counting begins.
    base_ns: u64,
    /// From the base to burst 0, fractions included; for exponential arrivals to the next one.
    shift_ns: f64,
    /// Bursts since the base. Stays 0 for exponential arrivals.
    count: u64,
    /// Requests of the current burst that are already gone.
    of_burst: u32,
    next_ns: u64,
}

impl ArrivalKind {
    const FIXED: &str = "fixed";
    const EXPONENTIAL: &str = "exponential";
    const BURSTY: &str = "bursty:";
}

impl fmt::Display for ArrivalKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed => f.write_str(Self::FIXED),
            Self::Exponential => f.write_str(Self::EXPONENTIAL),
            Self::Bursty { size } => write!(f, "{}{size}", Self::BURSTY),
        }
    }
}

impl FromStr for ArrivalKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let size = text.strip_prefix(Self::BURSTY).map(str::parse);
        match (text, size) {
            (Self::FIXED, _) => Ok(Self::Fixed),
            (Self::EXPONENTIAL, _) => Ok(Self::Exponential),
            (_, Some(Ok(size))) if size > 0 => Ok(Self::Bursty { size }),
            (_, Some(_)) => Err("a burst has a number of requests, as in bursty:10".to_owned()),
            _ => Err("arrivals are exponential, fixed or bursty:N, as in bursty:10".to_owned()),
        }
    }
}

impl Arrivals {
    /// A connection that sends one request per `interval_ns` on average.
    ///
    /// The first is due at `first_ns`; exponential arrivals count their first gap from there. Intervals are held between
    /// a nanosecond and [`INTERVAL_NS_MAX`]; an infinite one, a rate of zero, is as good as never.
    #[must_use]
    pub fn new(kind: ArrivalKind, interval_ns: f64, first_ns: u64, seed: u64) -> Self {
        let gap_ns = gap_of(kind, interval_ns);
        let mut arrivals = Self {
            kind,
            random: SplitMix64::new(mix(seed)),
            gap_ns,
            base_ns: first_ns,
            shift_ns: 0.0,
            count: 0,
            of_burst: 0,
            next_ns: first_ns,
        };
        if kind == ArrivalKind::Exponential {
            arrivals.shift_ns = arrivals.draw_gap();
            arrivals.next_ns = arrivals.due_ns();
        }
        arrivals
    }

    /// Connection `index` of `connections` that together send one request per `interval_ns / connections`.
    ///
    /// Fixed and bursty arrivals get their phase, exponential ones a stream of their own and no phase, as chance spreads
    /// them already; so the rate of all of them together is right from `start_ns` on.
    #[must_use]
    pub fn of_connection(
        kind: ArrivalKind,
        interval_ns: f64,
        start_ns: u64,
        (index, connections): (u64, u64),
        seed: u64,
    ) -> Self {
        let phase = match kind {
            ArrivalKind::Exponential => 0,
            ArrivalKind::Fixed | ArrivalKind::Bursty { .. } => {
                phase_ns(index, connections, gap_of(kind, interval_ns))
            }
        };
        let seed = seed ^ mix(index.wrapping_add(1));
        Self::new(kind, interval_ns, start_ns.saturating_add(phase), seed)
    }

    /// When the next request is due. It may lie in the past.
    #[must_use]
    pub const fn peek_ns(&self) -> u64 {
        self.next_ns
    }

    /// Takes the next request off the plan.
    pub fn advance(&mut self) {
        self.of_burst += 1;
        if self.of_burst < self.kind.burst() {
            return;
        }
        self.of_burst = 0;
        if self.kind == ArrivalKind::Exponential {
            self.shift_ns += self.draw_gap();
        } else {
            self.count += 1;
        }
        self.next_ns = self.due_ns();
    }

    /// Takes so many requests off the plan at once. Exponential gaps are not drawn for it: they are their mean.
    ///
    /// For a plan that was missed by so much that counting each of its requests would take longer than the plan.
    pub fn advance_by(&mut self, requests: u64) {
        let burst = u64::from(self.kind.burst());
        let gone = u64::from(self.of_burst) + requests;
        let bursts = gone / burst;
        // Below the length of a burst, which is that wide.
        self.of_burst = (gone % burst) as u32;
        if bursts == 0 {
            return;
        }
        if self.kind == ArrivalKind::Exponential {
            self.shift_ns += self.gap_ns * bursts as f64;
        } else {
            self.count += bursts;
        }
        self.next_ns = self.due_ns();
    }

    /// How many requests are due before `until_ns`, about: by the mean interval of now.
    #[must_use]
    pub fn count_until(&self, until_ns: u64) -> u64 {
        let left_ns = until_ns.saturating_sub(self.next_ns) as f64;
        (left_ns * f64::from(self.kind.burst()) / self.gap_ns).ceil() as u64
    }

    /// Works out the next due time.
    fn due_ns(&self) -> u64 {
        let offset_ns = self.count as f64 * self.gap_ns + self.shift_ns;
        // A cast from a float stops at the largest number, which stands for never.
        self.base_ns.saturating_add(offset_ns.round() as u64)
    }

    fn draw_gap(&mut self) -> f64 {
        // In the middle of one of 2^53 equal cells, so that neither 0 (an infinite gap) nor 1 is ever drawn.
        let uniform = ((self.random.next_u64() >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
        -uniform.ln() * self.gap_ns
    }
}

/// Where in the interval connection `index` of `connections` begins.
///
/// All phases are different and equally far apart, and connections that follow each other are far from each other: a
/// loop that holds a few of them, or a ramp that has made the first thousand, is spread evenly too.
#[must_use]
pub fn phase_ns(index: u64, connections: u64, interval_ns: f64) -> u64 {
    let connections = connections.max(1);
    let place = u128::from(index) * u128::from(stride(connections)) % u128::from(connections);
    (place as f64 / connections as f64 * interval_ns) as u64
}

/// A number without a common factor with `count`, near the golden section of it, the ratio worst met by fractions.
fn stride(count: u64) -> u64 {
    let start = ((count as f64 * 0.618_033_988_749_895) as u64).max(1);
    // A prime above every factor of `count` is near; 1 has no factor in common with anything.
    (start..=count)
        .find(|&candidate| common_factor(candidate, count) == 1)
        .unwrap_or(1)
}

const fn common_factor(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// The time between bursts that keeps the mean rate.
fn gap_of(kind: ArrivalKind, interval_ns: f64) -> f64 {
    let interval_ns = if interval_ns.is_nan() {
        INTERVAL_NS_MAX
    } else {
        interval_ns.clamp(1.0, INTERVAL_NS_MAX)
    };
    interval_ns * f64::from(kind.burst())
}

/// The longest mean interval, 31 years: a rate of zero is told as this one.
pub const INTERVAL_NS_MAX: f64 = 1e18;

#[cfg(test)]
mod tests;
