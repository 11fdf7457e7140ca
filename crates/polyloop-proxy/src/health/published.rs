//! The word about a backend that all loops read, and what follows from the words of a group.
//!
//! ```text
//!   63                                                    4  3     0
//!   | date in ms: of the ejection's end, or the slow start's | s | state |      s: suspect
//! ```
//!
//! One idea: dates instead of what follows from them. The word 0 is a backend nothing is known against.

use crate::balance::WEIGHT_SCALE;

/// What a backend is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// In use.
    Up,
    /// Active checks fail.
    CheckedDown,
    /// Its sessions failed; it is left alone until a date.
    Ejected,
    /// The operator wants no new sessions on it.
    Drain,
    /// The operator took it out.
    Down,
    /// Its name has no address for it, so there is nobody to be well or not.
    NoAddress,
}

/// What the loops need to know about a backend. [`pack`](Self::pack) makes a word of it for an atomic; plain stores and
/// loads will do, as nothing else hangs on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Published {
    state: State,
    /// Whether a success would be news: a session that has one need only tell if this is set.
    pub suspect: bool,
    /// When the ejection ends; or since when it is up, 0 for long ago.
    date_ms: u64,
}

/// How a group deals with what it knows of its backends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupMode {
    /// Those that are up are used.
    Normal,
    /// None is up: all are tried that no operator took out.
    FailOpen,
    /// None is up, and none may be tried.
    Closed,
}

/// The mode of a group with these backends (those with a weight, backups too). Full ones count like others: sessions
/// wait for them, or are refused, but do not go to a backend that is down.
#[must_use]
pub fn group_mode(
    group: impl IntoIterator<Item = Published>,
    now_ms: u64,
    fail_open: bool,
) -> GroupMode {
    let mut mode = GroupMode::Closed;
    for backend in group {
        match backend.state(now_ms) {
            State::Up => return GroupMode::Normal,
            State::CheckedDown | State::Ejected if fail_open => mode = GroupMode::FailOpen,
            State::CheckedDown | State::Ejected | State::Drain | State::Down | State::NoAddress => {
            }
        }
    }
    mode
}

impl Published {
    pub(super) fn new(state: State, suspect: bool, date_ms: u64) -> Self {
        Self {
            state,
            suspect,
            date_ms: date_ms.min(DATE_MS_MAX),
        }
    }

    /// What it is at this moment: an ejection whose date has come is over.
    #[inline]
    #[must_use]
    pub const fn state(&self, now_ms: u64) -> State {
        match self.state {
            State::Ejected if now_ms >= self.date_ms => State::Up,
            state => state,
        }
    }

    /// Whether an ejection has ended by its date, and nobody has shown since that it was over rightly.
    #[inline]
    #[must_use]
    pub const fn is_on_trial(&self, now_ms: u64) -> bool {
        matches!(self.state, State::Ejected) && now_ms >= self.date_ms
    }

    /// Whether it may get a session.
    #[inline]
    #[must_use]
    pub const fn usable(&self, now_ms: u64, mode: GroupMode) -> bool {
        match (mode, self.state(now_ms)) {
            (GroupMode::Normal | GroupMode::FailOpen, State::Up)
            | (GroupMode::FailOpen, State::CheckedDown | State::Ejected) => true,
            (GroupMode::Normal, State::CheckedDown | State::Ejected)
            | (
                GroupMode::Normal | GroupMode::FailOpen,
                State::Drain | State::Down | State::NoAddress,
            )
            | (GroupMode::Closed, _) => false,
        }
    }

    /// Its weight for a [`Candidate`](crate::balance::Candidate): a tenth of the configured one when it comes up, growing
    /// evenly to all of it over `slow_start_ms`. 0 ms is no slow start. One that is not up, but tried nevertheless, has
    /// all of its weight.
    #[must_use]
    pub fn weight_now(&self, weight: u16, now_ms: u64, slow_start_ms: u64) -> u32 {
        let full = u32::from(weight) * WEIGHT_SCALE;
        let up_for_ms = now_ms.saturating_sub(self.date_ms);
        let is_warm = self.date_ms == 0 || up_for_ms >= slow_start_ms;
        if is_warm || self.state(now_ms) != State::Up {
            return full;
        }
        // A backend at nothing would get no session to warm up with.
        let start = full.div_ceil(10);
        // `up_for_ms` is below `slow_start_ms`, so the share is below the whole and fits.
        let grown = u128::from(full - start) * u128::from(up_for_ms) / u128::from(slow_start_ms);
        start + grown as u32
    }

    /// The word.
    #[inline]
    #[must_use]
    pub const fn pack(self) -> u64 {
        let state = match self.state {
            State::Up => 0,
            State::CheckedDown => 1,
            State::Ejected => 2,
            State::Drain => 3,
            State::Down => 4,
            State::NoAddress => 5,
        };
        self.date_ms << DATE_SHIFT | (self.suspect as u64) << SUSPECT_SHIFT | state
    }

    /// What a word means. One that nobody packed is of a backend that is not to be used.
    #[inline]
    #[must_use]
    pub const fn unpack(word: u64) -> Self {
        let state = match word & STATE_MASK {
            0 => State::Up,
            1 => State::CheckedDown,
            2 => State::Ejected,
            3 => State::Drain,
            5 => State::NoAddress,
            _ => State::Down,
        };
        Self {
            state,
            suspect: word >> SUSPECT_SHIFT & 1 == 1,
            date_ms: word >> DATE_SHIFT,
        }
    }
}

impl State {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Up,
        Self::CheckedDown,
        Self::Ejected,
        Self::Drain,
        Self::Down,
        Self::NoAddress,
    ];

    /// The name in logs, metrics and the admin pages.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::CheckedDown => "checked-down",
            Self::Ejected => "ejected",
            Self::Drain => "drain",
            Self::Down => "down",
            Self::NoAddress => "no-address",
        }
    }
}

const STATE_MASK: u64 = 0b111;
const SUSPECT_SHIFT: u32 = 3;
const DATE_SHIFT: u32 = 4;

/// 36 million years.
const DATE_MS_MAX: u64 = u64::MAX >> DATE_SHIFT;
