//! Tokens that come at a steady rate, up to a burst.
//!
//! Invariant: in any span of `t` seconds at most `burst + t * per_second` tokens are given, whatever the clock does.

/// How tokens come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refill {
    /// How many in a second. 0: none ever come.
    pub per_second: u32,
    /// How many there are after a quiet time. 0: none can be had.
    pub burst: u32,
}

/// A bucket of tokens; full to begin with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenBucket {
    refill: Refill,
    level: Level,
}

/// What is in a bucket, apart from how it is refilled: a table of buckets keeps that once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Level {
    /// Billionths of tokens.
    parts: u64,
    /// When that many were there.
    at_ns: u64,
}

impl TokenBucket {
    /// A full bucket.
    #[must_use]
    pub const fn new(refill: Refill) -> Self {
        Self {
            refill,
            level: Level::full(&refill, 0),
        }
    }

    /// Takes a token, if there is one.
    #[must_use]
    pub fn take(&mut self, now_ns: u64) -> bool {
        self.level.take(&self.refill, now_ns)
    }

    /// Puts a token back that was not used after all.
    pub fn put_back(&mut self) {
        self.level.put_back(&self.refill);
    }

    /// The time of the next token: not after `now_ns` if there is one now, `u64::MAX` if there never will be.
    #[must_use]
    pub fn ready_at_ns(&self, now_ns: u64) -> u64 {
        self.level.ready_at_ns(&self.refill, now_ns)
    }
}

impl Level {
    pub(super) const fn full(refill: &Refill, now_ns: u64) -> Self {
        Self {
            parts: capacity(refill),
            at_ns: now_ns,
        }
    }

    pub(super) fn take(&mut self, refill: &Refill, now_ns: u64) -> bool {
        self.bring_up_to(refill, now_ns);
        match self.parts.checked_sub(TOKEN) {
            Some(rest) => {
                self.parts = rest;
                true
            }
            None => false,
        }
    }

    pub(super) fn put_back(&mut self, refill: &Refill) {
        self.parts = (self.parts + TOKEN).min(capacity(refill));
    }

    /// Whether it is as good as a new one at `now_ns`.
    pub(super) fn is_full(&self, refill: &Refill, now_ns: u64) -> bool {
        self.parts_at(refill, now_ns) == capacity(refill)
    }

    pub(super) fn ready_at_ns(&self, refill: &Refill, now_ns: u64) -> u64 {
        let missing = TOKEN.saturating_sub(self.parts_at(refill, now_ns));
        if missing == 0 {
            return now_ns;
        }
        if refill.per_second == 0 || refill.burst == 0 {
            return u64::MAX;
        }
        let from_ns = now_ns.max(self.at_ns);
        from_ns.saturating_add(missing.div_ceil(u64::from(refill.per_second)))
    }

    fn bring_up_to(&mut self, refill: &Refill, now_ns: u64) {
        self.parts = self.parts_at(refill, now_ns);
        self.at_ns = self.at_ns.max(now_ns);
    }

    fn parts_at(&self, refill: &Refill, now_ns: u64) -> u64 {
        let passed_ns = now_ns.saturating_sub(self.at_ns);
        // Each nanosecond brings `per_second` billionths. What saturates is far above any capacity.
        let brought = passed_ns.saturating_mul(u64::from(refill.per_second));
        self.parts.saturating_add(brought).min(capacity(refill))
    }
}

/// In billionths; 2^32 tokens of 10^9 fit.
const fn capacity(refill: &Refill) -> u64 {
    refill.burst as u64 * TOKEN
}

/// One token in billionths.
const TOKEN: u64 = 1_000_000_000;
