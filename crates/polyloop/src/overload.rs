//! The level of memory, for all threads to read.
//!
//! One thread writes it ([`Console::set_level`](crate::Console::set_level)): the server's watchdog, or a test. Loops read the level
//! wherever they look for work, and act on it when it is not the one they acted on last. The figures beside it are for
//! people.

use polyloop_core::overload::Level;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct Overload {
    level: AtomicU8,
    changes: AtomicU64,
    used_bytes: AtomicU64,
}

impl Overload {
    /// The level. Relaxed: it orders nothing, and whoever misses a change sees it at the next look.
    #[must_use]
    #[inline]
    pub fn level(&self) -> Level {
        Level::from_index(self.level.load(Relaxed))
    }

    /// How often the level has changed.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.changes.load(Relaxed)
    }

    /// Bytes in use, as they were read last; 0 where nobody reads them.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        self.used_bytes.load(Relaxed)
    }

    /// Publishes a level; whether it is another than before.
    pub(crate) fn set_level(&self, level: Level) -> bool {
        let is_new = self.level.swap(level as u8, Relaxed) != level as u8;
        self.changes.fetch_add(u64::from(is_new), Relaxed);
        is_new
    }

    pub(crate) fn set_used_bytes(&self, used_bytes: u64) {
        self.used_bytes.store(used_bytes, Relaxed);
    }
}
