//! How near memory is to its end, and what is shed then.
//!
//! One idea: everybody acts on a *level*, which is a state and not an order. Whoever misses a change and sees the next
//! one has missed nothing.
//!
//! ```text
//!             92 %                95 %
//!   Normal ---------> Shrink ---------> Stop        upwards at once
//!          <---------        <---------
//!             90 %                93 %              downwards after a second on the level
//! ```
//!
//! Deliberately absent: where the figures come from, and who is told. Times are nanoseconds of one monotonic clock.

#[cfg(test)]
mod tests;

/// From this share of the limit on, what is cached goes back and slow peers are waited for earlier. Envoy's recommended
/// overload manager begins `shrink_heap` here.
pub const SHRINK_AT_PERCENT: u64 = 92;

/// From this share on nobody new is let in: Envoy's `stop_accepting_connections`.
pub const STOP_AT_PERCENT: u64 = 95;

/// A level is left so far below where it is entered. One read buffer more or less must not switch listeners off and on.
pub const LEAVE_BELOW_PERCENT: u64 = 2;

/// A level is not left within this time after it was entered: with memory that swings between the marks the log has two
/// lines in this time, and the listeners two changes.
pub const STAY_NS: u64 = 1_000_000_000;

/// Above this share use is looked at often: what is left can be filled between two ordinary looks.
pub const NEAR_PERCENT: u64 = 75;

/// What is kept for a slow peer under pressure is not cut below this: smaller reads would cost more turns than memory.
pub const PRESSED_BYTES_MIN: usize = 16 * 1024;

/// How near the end is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
#[repr(u8)]
pub enum Level {
    /// There is memory.
    #[default]
    Normal = 0,
    /// What can be done without goes back, and slow peers hold up their sources earlier.
    Shrink = 1,
    /// And nobody new is let in.
    Stop = 2,
}

impl Level {
    /// All levels, by their number.
    pub const ALL: [Self; 3] = [Self::Normal, Self::Shrink, Self::Stop];

    /// The name in logs and pages.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Shrink => "shrink",
            Self::Stop => "stop",
        }
    }

    /// The level with this number; one beyond the last is the last.
    #[must_use]
    #[inline]
    pub const fn from_index(index: u8) -> Self {
        match index {
            0 => Self::Normal,
            1 => Self::Shrink,
            _ => Self::Stop,
        }
    }

    /// Whether anything is shed.
    #[must_use]
    #[inline]
    pub const fn is_pressed(self) -> bool {
        !matches!(self, Self::Normal)
    }

    /// The level that follows this one with so much in use. Use beyond the limit is possible, as the limit may be ours.
    #[must_use]
    pub fn next(self, used_bytes: u64, max_bytes: u64) -> Self {
        let at_percent = |level| match level {
            Self::Normal => 0,
            Self::Shrink => SHRINK_AT_PERCENT,
            Self::Stop => STOP_AT_PERCENT,
        };
        let holds = |level: Self| {
            let is_entered = self >= level;
            let mark =
                at_percent(level).saturating_sub(u64::from(is_entered) * LEAVE_BELOW_PERCENT);
            is_share(used_bytes, max_bytes, mark)
        };
        if holds(Self::Stop) {
            Self::Stop
        } else if holds(Self::Shrink) {
            Self::Shrink
        } else {
            Self::Normal
        }
    }

    /// How much may wait for a slow peer before its source is no longer read, where `configured` is allowed without
    /// pressure: a quarter of it, but for what is small anyway.
    #[must_use]
    pub fn output_high_bytes(self, configured: usize) -> usize {
        if self.is_pressed() {
            (configured / 4).max(PRESSED_BYTES_MIN).min(configured)
        } else {
            configured
        }
    }
}

/// Whether so much is in use that it has to be looked at often.
#[must_use]
pub fn is_near(used_bytes: u64, max_bytes: u64) -> bool {
    is_share(used_bytes, max_bytes, NEAR_PERCENT)
}

/// Whether `used` is `percent` of `max` or more.
fn is_share(used: u64, max: u64, percent: u64) -> bool {
    u128::from(used) * 100 >= u128::from(max) * u128::from(percent)
}

/// Follows the use of memory. Each reading goes to [`observe`](Self::observe).
#[derive(Debug, Clone, Default)]
pub struct Shedder {
    level: Level,
    /// When the level was entered.
    since_ns: u64,
}

impl Shedder {
    /// The level.
    #[must_use]
    pub const fn level(&self) -> Level {
        self.level
    }

    /// Takes a reading; returns the level if it has changed.
    pub fn observe(&mut self, used_bytes: u64, max_bytes: u64, now_ns: u64) -> Option<Level> {
        let next = self.level.next(used_bytes, max_bytes);
        let may_leave = now_ns.saturating_sub(self.since_ns) >= STAY_NS;
        if next == self.level || next < self.level && !may_leave {
            return None;
        }
        self.level = next;
        self.since_ns = now_ns;
        Some(next)
    }
}
