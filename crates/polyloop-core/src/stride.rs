//! After how many dispatches to look at the clock.
//!
//! One idea: a clock read costs as much as a small part of a quick handler and nothing beside a slow one. How many dispatches
//! fit into the quota is known from those before: so many may pass unlooked. Quick handlers are looked at once in
//! [`STRIDE_MAX`] dispatches, slow ones after each, and a turn overshoots its quota by about one dispatch.
//!
//! ```text
//!   begin(turn's start) ── pass() … pass() ── true: look(now) ── time left? ── more passes
//! ```
//!
//! The stride falls at once and grows twofold a look, as one quick batch says little about the next. Handlers that turn slow
//! from one turn to the next are found out after at most a stride of them.
//!
//! Invariant: the stride is from 1 to [`STRIDE_MAX`].

#[cfg(test)]
mod tests;

/// The clock is read once in at least so many dispatches: some 25 ns each become half a nanosecond for a dispatch.
pub const STRIDE_MAX: u32 = 64;

/// Tells when to look at the clock.
#[derive(Debug, Clone)]
pub struct Stride {
    /// Dispatches from one look to the next.
    length: u32,
    /// Dispatches until the next look.
    left: u32,
    /// Dispatches since `from_ns`.
    passed: u32,
    /// The last look, or the start of the turn.
    from_ns: u64,
}

impl Default for Stride {
    fn default() -> Self {
        Self {
            length: STRIDE_MAX,
            left: STRIDE_MAX,
            passed: 0,
            from_ns: 0,
        }
    }
}

impl Stride {
    /// A turn begins: the time between turns is not that of dispatches.
    pub const fn begin(&mut self, now_ns: u64) {
        self.from_ns = now_ns;
        self.passed = 0;
    }

    /// After a dispatch: whether to read the clock now, and tell [`Self::look`].
    pub const fn pass(&mut self) -> bool {
        self.passed = self.passed.saturating_add(1);
        self.left = self.left.saturating_sub(1);
        self.left == 0
    }

    /// The clock was read: sets how many dispatches may pass before the next look, by how many of those before fit into
    /// `quota_ns`.
    pub fn look(&mut self, now_ns: u64, quota_ns: u64) {
        let spent_ns = now_ns.saturating_sub(self.from_ns).max(1);
        let fit = quota_ns.saturating_mul(u64::from(self.passed.max(1))) / spent_ns;
        let most = (self.length * 2).min(STRIDE_MAX);
        self.length = u32::try_from(fit).unwrap_or(most).clamp(1, most);
        self.left = self.length;
        self.begin(now_ns);
    }
}
