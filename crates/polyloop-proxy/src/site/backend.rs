//! One backend as all loops see it: where it is, how many sessions it has, what is known of its health, what was counted.
//!
//! The one idea: what every session changes is one number (`taken`), and what every choice reads is that and one word
//! (`published`); everything else is behind locks that are taken once a session, or once a check.
//!
//! Deliberately absent: choosing among backends, and what their health follows from ([`health`](crate::health)).
//!
//! Invariant: places are given back as often as they were taken.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use polyloop::Remote;
use polyloop::hist::AtomicHistogram;

use super::{BackendBoard, Changes, SourcePorts};
use crate::health::{Change, Health, HealthPolicy, Manual, Outcome, Published, State};
use crate::settings::{BackendSettings, Target};

/// A backend, as all loops see it.
pub struct Backend {
    /// Where it is now.
    place: RwLock<Vec<Remote>>,
    /// Sessions that have a place, or are on their way to one.
    taken: AtomicU64,
    taken_max: u64,
    /// Whether a session tries it out after an ejection.
    pub(super) is_tried_out: AtomicBool,
    /// What is known of it; changed rarely, by checks, failures and operators.
    health: Mutex<Health>,
    /// The same as a word that every choice reads: [`Published`].
    published: AtomicU64,
    /// When a check ended last, in milliseconds of loop time, twice, and one more if it passed; 0 before the first.
    last_check: AtomicU64,
    /// How often its health changed, to what.
    pub changes: Changes,
    /// The source ports towards it.
    pub ports: SourcePorts,
    /// By loop.
    pub boards: Box<[BackendBoard]>,
    /// Nanoseconds from asking for a connection to having it, for quantiles.
    pub connect_time: AtomicHistogram,
    /// From accept to the end, in [`SESSION_TICK_NS`].
    pub session_time: AtomicHistogram,
}

/// The unit of [`Backend::session_time`]: a histogram of nanoseconds ends after a minute, one of these after 79 days.
pub const SESSION_TICK_NS: u64 = 100_000;

impl Backend {
    pub(super) fn new(settings: &BackendSettings, policy: &HealthPolicy, loops: usize) -> Self {
        let place = match &settings.to {
            Target::Addr(addr) => vec![Remote::Tcp(*addr)],
            Target::Unix(path) => vec![Remote::Unix(Arc::from(path.as_path()))],
            Target::Name { .. } | Target::Srv { .. } | Target::Echo => Vec::new(),
        };
        let health = match &settings.to {
            Target::Name { .. } | Target::Srv { .. } => Health::without_address(policy),
            Target::Addr(_) | Target::Unix(_) | Target::Echo => Health::new(policy),
        };
        Self {
            place: RwLock::new(place),
            taken: AtomicU64::new(0),
            taken_max: settings.connections_max.map_or(u64::MAX, u64::from),
            is_tried_out: AtomicBool::new(false),
            published: AtomicU64::new(health.published(0).pack()),
            health: Mutex::new(health),
            last_check: AtomicU64::new(0),
            changes: Changes::default(),
            ports: SourcePorts::default(),
            boards: (0..loops).map(|_| BackendBoard::default()).collect(),
            connect_time: AtomicHistogram::new(),
            session_time: AtomicHistogram::new(),
        }
    }

    /// Sessions that have a place here.
    #[must_use]
    pub fn taken(&self) -> u64 {
        self.taken.load(Relaxed)
    }

    /// What is known of its health.
    #[must_use]
    pub fn published(&self) -> Published {
        Published::unpack(self.published.load(Relaxed))
    }

    /// What an operator wants of it, and until when it is ejected, if it is at `now_ms`.
    #[must_use]
    pub fn wanted(&self, now_ms: u64) -> (Manual, Option<u64>) {
        let health = self.health.lock().unwrap_or_else(PoisonError::into_inner);
        (health.manual(), health.ejected_until_ms(now_ms))
    }

    /// A check of it has ended.
    pub(crate) fn note_check(&self, now_ms: u64, outcome: Outcome) {
        let word = now_ms << 1 | u64::from(outcome == Outcome::Passed);
        self.last_check.store(word, Relaxed);
    }

    /// When a check of it ended last, in milliseconds of loop time, and how.
    #[must_use]
    pub fn last_check(&self) -> Option<(u64, Outcome)> {
        let word = self.last_check.load(Relaxed);
        let outcome = if word & 1 == 1 {
            Outcome::Passed
        } else {
            Outcome::Failed
        };
        (word != 0).then_some((word >> 1, outcome))
    }

    /// Lets `act` judge its health at `now_ms`, and publishes what came of it. Returns the change of state, if there was one.
    pub fn judge(
        &self,
        now_ms: u64,
        act: impl FnOnce(&mut Health) -> Option<Change>,
    ) -> Option<Change> {
        let mut health = self.health.lock().unwrap_or_else(PoisonError::into_inner);
        let change = act(&mut health);
        self.published
            .store(health.published(now_ms).pack(), Relaxed);
        if let Some(change) = change {
            let counter = match change.to {
                State::Up => &self.changes.up,
                State::CheckedDown => &self.changes.down,
                State::Ejected => &self.changes.ejected,
                State::Drain | State::Down => &self.changes.by_operator,
                State::NoAddress => &self.changes.lost,
            };
            counter.fetch_add(1, Relaxed);
        }
        change
    }

    /// Where it is, now; empty while its name has no addresses.
    #[must_use]
    pub fn places(&self) -> Vec<Remote> {
        self.place
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Moves it.
    pub fn set_places(&self, places: Vec<Remote>) {
        *self.place.write().unwrap_or_else(PoisonError::into_inner) = places;
    }

    /// One of its places, another for each number that follows, and how many others there are.
    pub(super) fn place(&self, nth: usize) -> Option<(Remote, u16)> {
        let places = self.place.read().unwrap_or_else(PoisonError::into_inner);
        let others = places.len().checked_sub(1)?;
        let others = u16::try_from(others).unwrap_or(u16::MAX);
        Some((places[nth % places.len()].clone(), others))
    }

    /// Takes a place, if one is free.
    #[must_use]
    pub(super) fn take(&self) -> bool {
        if self.taken_max == u64::MAX {
            self.taken.fetch_add(1, SeqCst);
            return true;
        }
        self.taken
            .try_update(SeqCst, SeqCst, |taken| {
                (taken < self.taken_max).then_some(taken + 1)
            })
            .is_ok()
    }

    /// Sequentially consistent, as whoever joins a queue looks at this after that: see [`Queue`].
    pub(super) fn is_full(&self) -> bool {
        self.taken.load(SeqCst) >= self.taken_max
    }

    /// The session that tried it out has got through, or has gone.
    pub(crate) fn end_trial(&self) {
        self.is_tried_out.store(false, SeqCst);
    }

    pub(super) fn give_back(&self) {
        let before = self.taken.fetch_sub(1, SeqCst);
        assert!(before > 0, "more places given back than were taken");
    }
}

impl fmt::Debug for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Backend")
            .field("taken", &self.taken())
            .field("published", &self.published())
            .finish_non_exhaustive()
    }
}
