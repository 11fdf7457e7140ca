//! Bytes per second of one session and direction.
//!
//! One idea: reading first and waiting after. What was moved is owed as time; reading goes on once no more is owed than a
//! burst. So a read may be as large as buffers allow, and the rate is right over time to the byte.

/// A rate, and the burst that goes with it: a tenth of a second, but at least 64 KiB, as less than a read of the loop's
/// buffer would cost a wake-up for each piece of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ByteRate {
    per_second: u64,
    burst_ns: u64,
}

/// What one direction of a session owes. Nothing to begin with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pace {
    /// When everything moved so far would be through at exactly the rate.
    through_at_ns: u64,
    /// What that date was cut by, in bytes times 10^9 / rate: below the rate.
    remainder: u64,
}

impl ByteRate {
    /// So many bytes per second; 0 counts as 1.
    #[must_use]
    pub fn new(bytes_per_second: u64) -> Self {
        let per_second = bytes_per_second.max(1);
        let burst = (per_second / BURSTS_PER_SECOND).max(BURST_BYTES_MIN);
        Self {
            per_second,
            burst_ns: saturate(u128::from(burst) * SECOND_NS / u128::from(per_second)),
        }
    }

    /// Bytes that may be moved at once after a quiet time.
    #[must_use]
    pub fn burst_bytes(&self) -> u64 {
        (self.per_second / BURSTS_PER_SECOND).max(BURST_BYTES_MIN)
    }
}

impl Pace {
    /// Bytes were moved. Returns when reading may go on: at once if that is not after `now_ns`.
    #[must_use]
    pub fn handle_moved(&mut self, rate: &ByteRate, bytes: u64, now_ns: u64) -> u64 {
        if self.through_at_ns < now_ns {
            // Time in which nothing was moved is not saved up; the burst is what is given for it.
            (self.through_at_ns, self.remainder) = (now_ns, 0);
        }
        let per_second = u128::from(rate.per_second);
        // 2^64 times 2^30, plus 2^64.
        let owed = u128::from(bytes) * SECOND_NS + u128::from(self.remainder);
        self.through_at_ns = self
            .through_at_ns
            .saturating_add(saturate(owed / per_second));
        self.remainder = saturate(owed % per_second);
        self.resume_at_ns(rate)
    }

    /// When reading may go on.
    #[must_use]
    pub const fn resume_at_ns(&self, rate: &ByteRate) -> u64 {
        self.through_at_ns.saturating_sub(rate.burst_ns)
    }

    /// How many bytes may be moved at `now_ns` without owing more than a burst: a bound for the next read.
    #[must_use]
    pub fn room_bytes(&self, rate: &ByteRate, now_ns: u64) -> u64 {
        let owed_ns = self.through_at_ns.saturating_sub(now_ns);
        let free_ns = rate.burst_ns.saturating_sub(owed_ns);
        saturate(u128::from(free_ns) * u128::from(rate.per_second) / SECOND_NS)
    }
}

fn saturate(value: u128) -> u64 {
    u64::try_from(value).unwrap_or(u64::MAX)
}

const SECOND_NS: u128 = 1_000_000_000;
const BURSTS_PER_SECOND: u64 = 10;
const BURST_BYTES_MIN: u64 = 64 * 1024;
