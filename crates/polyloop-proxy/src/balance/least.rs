//! The least loaded for its weight, ties in rotation.
//!
//! Deliberately absent: an order kept up to date. Loads change with every session on every loop; keeping them sorted
//! would cost each of those more than asking everybody costs the one that chooses.

use super::{Candidate, Member};

#[derive(Debug, Clone)]
pub(super) struct Least {
    members: Vec<u16>,
    /// Where the next look starts: after the last choice, so that equals take turns.
    next: usize,
}

impl Least {
    /// Loops start apart, or all of them would send their first session to the same backend.
    pub(super) fn new(members: &[Member], loop_index: usize, loops: usize) -> Self {
        Self {
            members: members.iter().map(|member| member.index).collect(),
            next: members.len() * loop_index / loops,
        }
    }

    #[inline]
    pub(super) fn pick(&mut self, usable: &impl Fn(u16) -> Option<Candidate>) -> Option<u16> {
        let mut best: Option<(usize, Candidate)> = None;
        for place in (self.next..self.members.len()).chain(0..self.next) {
            let Some(candidate) = usable(self.members[place]) else {
                continue;
            };
            if best.is_none_or(|(_, best)| candidate.is_less_loaded_than(best)) {
                best = Some((place, candidate));
            }
        }
        let (place, _) = best?;
        self.next = (place + 1) % self.members.len();
        Some(self.members[place])
    }
}
