//! Watching the use of memory, and telling the loops how much is left.
//!
//! Which limit counts is found out once, at the start; the watchdog's thread reads the use. What a reading means is decided
//! by [`Shedder`]; see there for the levels, and [`Level`] for what loops do about them.
//!
//! Deliberately absent: closing sessions. What they are worth is not known here.

use super::{MemoryMax, StartError};
use crate::driver::mio::MioDriver;
use crate::overload::Overload;
use crate::wiring::Console;
use polyloop_core::overload::{Level, Shedder, is_near};
use polyloop_core::units::format_bytes;
use polyloop_sys::memory::{MemoryGauge, release_free_pages, tightest_group};
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// What memory the server may use, and how that came about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryFacts {
    /// Bytes that may be in use.
    pub max_bytes: u64,
    /// The control group whose use counts; `None` counts what of the process is resident.
    pub group: Option<PathBuf>,
    /// Whether the limit is that of the group; if not, it is the setting.
    pub is_of_group: bool,
}

/// A limit, and what reads the use.
#[derive(Debug)]
pub(super) struct MemoryLimit {
    pub(super) facts: MemoryFacts,
    gauge: MemoryGauge,
}

impl MemoryLimit {
    /// What the setting comes to on this machine; `None` watches nothing.
    pub(super) fn find(wanted: MemoryMax) -> Result<Option<Self>, StartError> {
        let wanted = match wanted {
            MemoryMax::Off => return Ok(None),
            MemoryMax::Auto => None,
            MemoryMax::Bytes(bytes) => Some(bytes),
        };
        let Some(group) = tightest_group() else {
            return wanted.map(Self::of_process).transpose();
        };
        let limit_bytes = group.limit_bytes();
        let max_bytes = wanted.unwrap_or(limit_bytes).min(limit_bytes);
        Ok(Some(Self {
            facts: MemoryFacts {
                max_bytes,
                group: Some(group.path().to_owned()),
                is_of_group: wanted != Some(max_bytes),
            },
            gauge: MemoryGauge::of_group(group),
        }))
    }

    fn of_process(max_bytes: u64) -> Result<Self, StartError> {
        let gauge = MemoryGauge::of_process().map_err(|source| StartError::Os {
            what: "opening /proc/self/statm, which tells how much memory is in use".to_owned(),
            source,
        })?;
        let facts = MemoryFacts {
            max_bytes,
            group: None,
            is_of_group: false,
        };
        Ok(Self { facts, gauge })
    }
}

/// Reads the use at each look that is due. Belongs to the watchdog's thread.
pub(super) struct MemoryWatch<M> {
    limit: MemoryLimit,
    console: Arc<Console<MioDriver, M>>,
    shedder: Shedder,
    /// When the next look is due, and when free pages may be given back again.
    due_ns: u64,
    release_at_ns: u64,
    /// Whether the use could not be read.
    is_blind: bool,
}

impl<M: Send + 'static> MemoryWatch<M> {
    pub(super) fn new(limit: MemoryLimit, console: Arc<Console<MioDriver, M>>) -> Self {
        Self {
            limit,
            console,
            shedder: Shedder::default(),
            due_ns: 0,
            release_at_ns: 0,
            is_blind: false,
        }
    }

    /// Reads the use, if that is due, and tells the loops of another level. Returns how long to the next look.
    pub(super) fn look(&mut self, now_ns: u64) -> Duration {
        if now_ns >= self.due_ns {
            let every_ns = match self.limit.gauge.used_bytes() {
                Ok(used_bytes) => self.take(used_bytes, now_ns),
                Err(error) => self.go_blind(&error, now_ns),
            };
            self.due_ns = now_ns.saturating_add(every_ns);
        }
        Duration::from_nanos(self.due_ns - now_ns)
    }

    /// Takes a reading; returns the time to the next.
    fn take(&mut self, used_bytes: u64, now_ns: u64) -> u64 {
        self.is_blind = false;
        let max_bytes = self.limit.facts.max_bytes;
        self.overload().set_used_bytes(used_bytes);
        if let Some(level) = self.shedder.observe(used_bytes, max_bytes, now_ns) {
            self.console.set_level(level);
            let news = News {
                level,
                used_bytes,
                max_bytes,
            };
            if level.is_pressed() {
                tracing::warn!("{news}");
            } else {
                tracing::info!("{news}");
            }
        }
        if self.shedder.level().is_pressed() && now_ns >= self.release_at_ns {
            // What loops have freed stays in the use until the allocator lets go of it, and the level would stay as well.
            release_free_pages();
            self.release_at_ns = now_ns.saturating_add(RELEASE_EVERY_NS);
        }
        if is_near(used_bytes, max_bytes) {
            NEAR_EVERY_NS
        } else {
            EVERY_NS
        }
    }

    /// Without readings nothing is shed: a server that nobody can see into must not stay closed for ever.
    fn go_blind(&mut self, error: &io::Error, now_ns: u64) -> u64 {
        if !std::mem::replace(&mut self.is_blind, true) {
            tracing::warn!("the use of memory cannot be read ({error}): nothing is shed");
        }
        if self.shedder.observe(0, u64::MAX, now_ns).is_some() {
            self.console.set_level(Level::Normal);
        }
        EVERY_NS
    }

    fn overload(&self) -> &Overload {
        self.console.overload()
    }
}

/// A change of level in words.
struct News {
    level: Level,
    used_bytes: u64,
    max_bytes: u64,
}

impl fmt::Display for News {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = u128::from(self.used_bytes) * 100 / u128::from(self.max_bytes.max(1));
        let what = match self.level {
            Level::Normal => "nothing is shed any more",
            Level::Shrink => "slow peers are waited for earlier",
            Level::Stop => "nobody new is let in",
        };
        write!(
            f,
            "memory: {} of {} in use ({percent}%), {what}",
            format_bytes(self.used_bytes),
            format_bytes(self.max_bytes),
        )
    }
}

/// Use is read so often: 8 microseconds, ten times a second.
const EVERY_NS: u64 = 100_000_000;

/// And so often near the limit ([`is_near`]): a quarter of 96 MiB cannot be filled in this time.
const NEAR_EVERY_NS: u64 = 10_000_000;

/// Free pages are given back so often, as all threads that allocate may have to wait for it.
const RELEASE_EVERY_NS: u64 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_told_with_its_figures() {
        // Goal: the line says how much of what, and what follows. Method: one of each.
        let told = |level, used_bytes| {
            let max_bytes = 96 << 20;
            News {
                level,
                used_bytes,
                max_bytes,
            }
            .to_string()
        };
        assert_eq!(
            told(Level::Stop, 92 << 20),
            "memory: 92MiB of 96MiB in use (95%), nobody new is let in"
        );
        let text = told(Level::Shrink, 89 << 20);
        assert!(
            text.ends_with("(92%), slow peers are waited for earlier"),
            "{text}"
        );
        let text = told(Level::Normal, 48 << 20);
        assert!(text.ends_with("(50%), nothing is shed any more"), "{text}");
    }

    #[test]
    fn what_is_switched_off_watches_nothing() {
        // Goal: off is off, and a size counts wherever the test runs. Method: both.
        assert!(MemoryLimit::find(MemoryMax::Off).unwrap().is_none());
        let found = MemoryLimit::find(MemoryMax::Bytes(1 << 20))
            .unwrap()
            .unwrap();
        assert_eq!(found.facts.max_bytes, 1 << 20);
        assert!(!found.facts.is_of_group);
        assert!(found.gauge.used_bytes().unwrap() > 0);
    }
}
