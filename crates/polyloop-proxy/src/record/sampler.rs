//! Which sessions get a record.
//!
//! The one idea: one session out of each run of N is kept, at a place in the run that the seed draws. The share is
//! exact, and a client that comes in step with the count is neither always nor never seen.

use std::num::NonZeroU32;

use crate::balance::random::SplitMix64;
use crate::termination::Termination;

/// Keeps one session in N that ended normally, and every one that did not. One per loop.
#[derive(Debug, Clone)]
pub struct Sampler {
    every: NonZeroU32,
    random: SplitMix64,
    /// Sessions seen of the run under way.
    seen: u32,
    /// The one of the run to keep, from 0.
    kept: u32,
}

impl Sampler {
    /// Keeps one in `every`; the same seed keeps the same ones. Give each loop a seed of its own, or the loops keep in
    /// step.
    #[must_use]
    pub const fn new(every: NonZeroU32, seed: u64) -> Self {
        let mut sampler = Self {
            every,
            random: SplitMix64::new(seed),
            seen: 0,
            kept: 0,
        };
        sampler.draw();
        sampler
    }

    /// Whether a session that ended so gets a record, and how many sessions the record stands for.
    ///
    /// Sessions that were broken off all get one, stand for themselves, and do not count in the runs.
    pub fn keep(&mut self, termination: &Termination) -> Option<u32> {
        if !termination.is_normal() {
            return Some(1);
        }
        let is_kept = self.seen == self.kept;
        self.seen += 1;
        if self.seen == self.every.get() {
            self.seen = 0;
            self.draw();
        }
        is_kept.then_some(self.every.get())
    }

    /// The place in the next run.
    const fn draw(&mut self) {
        // Below `every`, so it fits.
        self.kept = self.random.below(self.every.get() as u64) as u32;
    }
}
