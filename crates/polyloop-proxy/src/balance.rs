//! Which backend of a group a session goes to.
//!
//! ```text
//!   set_backends ─> primary tier ─┐  pick ─> the primary tier chooses among those that `candidate` offers;
//!                   backup tier  ─┘          if it finds none, the backup tier does
//! ```
//!
//! The one idea: a picker belongs to one loop and one group and keeps only its own position (turns, rotation, random
//! state). What changes under it (who is up, full, draining or warming up, and the load over all loops) is asked for
//! at the moment of the choice, of as few backends as the algorithm needs.
//!
//! | algorithm | asks | for |
//! |---|---|---|
//! | [`RoundRobin`](Algorithm::RoundRobin) | one, in logarithmic time | short connections; shares are exact |
//! | [`Least`](Algorithm::Least) | all | long connections to few backends |
//! | [`TwoChoices`](Algorithm::TwoChoices) | two | nearly as even as `Least`, at any number, and no herd |
//! | [`SourceHash`](Algorithm::SourceHash) | one | the same client on the same backend |
//!
//! Backends that may not be used cost further questions: a bounded number, then one look at each.
//!
//! Deliberately absent: health (who may be used), counting (who has how much), retries (the session's). No allocation
//! and no floating point in a choice.
//!
//! Invariants: a choice is never a backend that was tried, that `candidate` withholds, or whose weight is 0; a backup
//! is chosen only if no primary could be; if anything can be chosen, something is.

mod least;
mod maglev;
pub(crate) mod random;
mod round_robin;
#[cfg(test)]
mod tests;
mod tried;
mod two_choices;

use std::error::Error;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;

pub use tried::Tried;

use least::Least;
use maglev::Maglev;
use random::{SplitMix64, hash_address, hash_bytes};
use round_robin::RoundRobin;
use two_choices::TwoChoices;

/// Backends of a group that can be chosen from. More than this is a group nobody can look after.
pub const BACKENDS_MAX: usize = 1024;

/// What one unit of a configured weight counts in [`Candidate::weight_now`]. Weights are small numbers, 1 most of all,
/// and a backend that warms up needs steps below 1.
pub const WEIGHT_SCALE: u32 = 256;

/// How a backend is chosen for a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Algorithm {
    /// Each in turn, as often as its weight says, whatever its load. Turns of one backend are spread out.
    RoundRobin,
    /// The one with the least load for its weight. Asks all of them.
    Least,
    /// The less loaded of two drawn at random by weight.
    #[default]
    TwoChoices,
    /// The same source address goes to the same backend, in every loop and every process with the same backends.
    /// A session without an address (a Unix socket) goes where `Least` would send it.
    SourceHash,
}

/// A name that is no [`Algorithm`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct UnknownAlgorithm {
    /// The text as typed.
    pub text: String,
}

/// What is configured of one backend. A backend's index is its place in the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Weight {
    /// Its share beside the others of its tier; 0 gets nothing.
    pub weight: u16,
    /// Used only while no primary can be.
    pub backup: bool,
    /// What stays the same about the backend when the list around it changes: [`identity`] of its name or address.
    /// The source hash is made of these, so a backend keeps its clients wherever it stands in the list.
    pub identity: u64,
}

/// What a backend that may be used looks like at this moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// Sessions it has, over all loops, with those on their way to it.
    pub live: u64,
    /// Its configured weight times [`WEIGHT_SCALE`], or less while it warms up. 0 may not be used.
    pub weight_now: u32,
}

/// Chooses a backend for each session. One per loop and group.
#[derive(Debug, Clone)]
pub struct Picker {
    algorithm: Algorithm,
    loop_index: usize,
    loops: usize,
    random: SplitMix64,
    /// How often the tiers were built anew. Moves the start, so that a list that often changes does not favour the
    /// backends that turns start with.
    rebuilds: u64,
    configured: Vec<Weight>,
    primary: Tier,
    backup: Tier,
}

/// The tables of [`Algorithm::SourceHash`] for one list of backends. The same in every loop, so it can be built once and
/// shared. Building takes 0.3 ms for two backends and 2 ms for a thousand (on a 2-core test host): better not on a loop.
#[derive(Debug, Clone)]
pub struct SourceTable {
    configured: Vec<Weight>,
    primary: Arc<Maglev>,
    backup: Arc<Maglev>,
}

/// The identity of a backend that is known by this name or address.
#[must_use]
pub fn identity(name: &str) -> u64 {
    hash_bytes(name.as_bytes())
}

impl Picker {
    /// A picker on loop `loop_index` of `loops`, without backends yet. The seed may be the same for all loops.
    ///
    /// # Panics
    /// When `loop_index` is not below `loops`.
    #[must_use]
    pub fn new(algorithm: Algorithm, loop_index: usize, loops: usize, seed: u64) -> Self {
        assert!(loop_index < loops, "loop {loop_index} of {loops}");
        Self {
            algorithm,
            loop_index,
            loops,
            random: SplitMix64::new(random::mix(seed) ^ loop_index as u64),
            rebuilds: 0,
            configured: Vec::new(),
            primary: Tier::Empty,
            backup: Tier::Empty,
        }
    }

    /// Replaces the list of backends; the same list again changes nothing. Returns how many at its end are left out
    /// because there are more than [`BACKENDS_MAX`]: they get no sessions, and somebody should be told.
    ///
    /// This is for what is *configured*. That a backend is down, full or warming up is for `candidate` to say.
    ///
    /// With [`Algorithm::SourceHash`] this builds the tables here and now: see
    /// [`set_source_table`](Self::set_source_table).
    pub fn set_backends(&mut self, backends: &[Weight]) -> usize {
        let (backends, left_out) = split_at_max(backends);
        if backends != self.configured {
            if self.algorithm == Algorithm::SourceHash {
                self.set_source_table(&SourceTable::build(backends));
            } else {
                self.primary = self.build_tier(&members(backends, false));
                self.backup = self.build_tier(&members(backends, true));
                self.rebuilds += 1;
                backends.clone_into(&mut self.configured);
            }
        }
        left_out.len()
    }

    /// Like [`set_backends`](Self::set_backends) with the list that the table was built of, but cheap.
    ///
    /// # Panics
    /// When the algorithm is another one than [`Algorithm::SourceHash`].
    pub fn set_source_table(&mut self, table: &SourceTable) {
        assert_eq!(
            self.algorithm,
            Algorithm::SourceHash,
            "only the source hash has tables"
        );
        let tier = |table: &Arc<Maglev>| Tier::SourceHash {
            table: Arc::clone(table),
            // Sessions without an address start where this loop starts.
            least: Least::new(table.members(), self.loop_index, self.loops),
        };
        self.primary = tier(&table.primary);
        self.backup = tier(&table.backup);
        self.configured.clone_from(&table.configured);
    }

    /// The backend for a session from `source`, by index, or `None` if none can be used.
    ///
    /// `candidate` tells what a backend looks like, or `None` if it may not be used: down, ejected, full, draining. It
    /// may be asked about the same backend more than once, and only about indices below the list's length.
    #[inline]
    pub fn pick(
        &mut self,
        source: Option<IpAddr>,
        candidate: impl Fn(usize) -> Option<Candidate>,
        tried: &Tried,
    ) -> Option<usize> {
        let usable = |index: u16| {
            let index = usize::from(index);
            if tried.contains(index) {
                return None;
            }
            candidate(index).filter(|candidate| candidate.weight_now > 0)
        };
        let key = source.map(hash_address);
        self.primary
            .pick(key, &mut self.random, &usable)
            .or_else(|| self.backup.pick(key, &mut self.random, &usable))
            .map(usize::from)
    }

    /// The algorithm in use.
    #[must_use]
    pub const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    fn build_tier(&self, members: &[Member]) -> Tier {
        match self.algorithm {
            _ if members.is_empty() => Tier::Empty,
            Algorithm::RoundRobin => {
                let start = self.cycle_start();
                Tier::RoundRobin(RoundRobin::new(members, start))
            }
            Algorithm::Least => Tier::Least(Least::new(members, self.loop_index, self.loops)),
            Algorithm::TwoChoices => {
                Tier::TwoChoices(TwoChoices::new(members, self.loop_index, self.loops))
            }
            Algorithm::SourceHash => Tier::Empty, // `set_source_table` sets it.
        }
    }

    /// Where in the cycle of turns this loop starts: the loops evenly apart, all moved on a little at each rebuild.
    fn cycle_start(&self) -> u64 {
        let apart = round_robin::CYCLE as u128 * self.loop_index as u128 / self.loops as u128;
        // Multiples of the golden ratio's fraction fill the cycle evenly, however many there are.
        let moved = random::GOLDEN_GAMMA.wrapping_mul(self.rebuilds) >> 24;
        // The first is below CYCLE, the second below 2^40.
        (apart as u64 + moved) % round_robin::CYCLE
    }
}

impl SourceTable {
    /// Builds the tables for this list; what is past [`BACKENDS_MAX`] is left out.
    #[must_use]
    pub fn build(backends: &[Weight]) -> Self {
        let (backends, _) = split_at_max(backends);
        Self {
            configured: backends.to_vec(),
            primary: Arc::new(Maglev::build(&members(backends, false))),
            backup: Arc::new(Maglev::build(&members(backends, true))),
        }
    }
}

impl Algorithm {
    /// All of them, in the order of the documentation.
    pub const ALL: [Self; 4] = [
        Self::RoundRobin,
        Self::Least,
        Self::TwoChoices,
        Self::SourceHash,
    ];

    /// The name on the command line, in files and in metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::RoundRobin => "round-robin",
            Self::Least => "least",
            Self::TwoChoices => "two-choices",
            Self::SourceHash => "source-hash",
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Algorithm {
    type Err = UnknownAlgorithm;

    fn from_str(text: &str) -> Result<Self, UnknownAlgorithm> {
        Self::ALL
            .into_iter()
            .find(|algorithm| algorithm.name() == text)
            .ok_or_else(|| UnknownAlgorithm {
                text: text.to_owned(),
            })
    }
}

impl fmt::Display for UnknownAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?} is no way to choose a backend; write round-robin, least, two-choices or source-hash",
            self.text
        )
    }
}

impl Error for UnknownAlgorithm {}

impl Candidate {
    /// Whether it would be the less loaded for its weight after one more session. The session to come is counted, as
    /// otherwise all idle backends would be equal, the smallest with the largest.
    #[inline]
    fn is_less_loaded_than(self, other: Self) -> bool {
        // live / weight compared crosswise, in whole numbers.
        let own = (u128::from(self.live) + 1) * u128::from(other.weight_now);
        let others = (u128::from(other.live) + 1) * u128::from(self.weight_now);
        own < others
    }
}

/// A backend of a tier, with a weight above 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Member {
    index: u16,
    weight: u16,
    identity: u64,
}

/// The primaries or the backups, with the algorithm's state.
#[derive(Debug, Clone)]
enum Tier {
    Empty,
    RoundRobin(RoundRobin),
    Least(Least),
    TwoChoices(TwoChoices),
    SourceHash { table: Arc<Maglev>, least: Least },
}

impl Tier {
    #[inline]
    fn pick(
        &mut self,
        key: Option<u64>,
        random: &mut SplitMix64,
        usable: &impl Fn(u16) -> Option<Candidate>,
    ) -> Option<u16> {
        match self {
            Self::Empty => None,
            Self::RoundRobin(tier) => tier.pick(usable),
            Self::Least(tier) => tier.pick(usable),
            Self::TwoChoices(tier) => tier.pick(random, usable),
            Self::SourceHash { table, least } => match key {
                Some(key) => table.pick(key, usable),
                None => least.pick(usable),
            },
        }
    }
}

fn split_at_max(backends: &[Weight]) -> (&[Weight], &[Weight]) {
    backends.split_at(backends.len().min(BACKENDS_MAX))
}

fn members(backends: &[Weight], backup: bool) -> Vec<Member> {
    // An index is below BACKENDS_MAX, and so fits.
    (0_u16..)
        .zip(backends)
        .filter(|(_, backend)| backend.backup == backup && backend.weight > 0)
        .map(|(index, backend)| Member {
            index,
            weight: backend.weight,
            identity: backend.identity,
        })
        .collect()
}
