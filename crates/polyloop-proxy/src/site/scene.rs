//! A group at the moment of a choice: which of its backends may be used, and which only have no place.
//!
//! The one idea: everything that a choice has to agree on (the clock, the group's mode, whether backups may serve) is
//! found once, so that every backend is judged alike, by a choice and by who asks whether one would succeed.
//!
//! Backups serve when no other backend can, or when those that could have failed this very session; they do not take what
//! the others have no place for: a standby is not there to make a cap larger.
//!
//! Deliberately absent: choosing (the [`Picker`](crate::balance::Picker)'s), and taking places.

use std::sync::atomic::Ordering::Relaxed;

use super::{Group, Shares, Site};
use crate::balance::{Candidate, Tried};
use crate::health::{GroupMode, Published, State, group_mode};

/// See the module's documentation.
pub(super) struct Scene<'a> {
    group: &'a Group,
    shares: &'a Shares,
    tried: &'a Tried,
    mode: GroupMode,
    now_ms: u64,
    /// Whether a primary that this session may use has no place, so that backups wait with it.
    backups_wait: bool,
    /// Whether somebody else can be used while a backend is tried out.
    pub(super) has_others: bool,
}

/// What a backend has to offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Offer {
    /// A place.
    Usable(Candidate),
    /// No place now, but it may have one later.
    Full,
    /// Nothing.
    Unusable,
}

impl<'a> Scene<'a> {
    pub(super) fn new(
        site: &'a Site,
        group: usize,
        shares: &'a Shares,
        tried: &'a Tried,
        now_ms: u64,
    ) -> Self {
        let fails_open = site.settings.groups[group].fail_open;
        let group = &site.groups[group];
        let words = || {
            let weighted = shares.weights.iter().zip(&group.backends);
            weighted
                .filter(|(weight, _)| weight.weight > 0)
                .map(|(_, backend)| backend.published())
        };
        let mut scene = Self {
            group,
            shares,
            tried,
            mode: group_mode(words(), now_ms, fails_open),
            now_ms,
            backups_wait: false,
            has_others: words().any(|word| is_up(word, now_ms)),
        };
        if shares.weights.iter().any(|weight| weight.backup) {
            let primaries = (0..shares.weights.len()).filter(|&at| !shares.weights[at].backup);
            scene.backups_wait = primaries
                .map(|index| scene.offer(index))
                .any(|offer| offer == Offer::Full);
        }
        scene
    }

    pub(super) fn offer(&self, index: usize) -> Offer {
        let backend = &self.group.backends[index];
        let weight = self.shares.weights[index];
        let published = backend.published();
        let is_usable = weight.weight > 0
            && published.usable(self.now_ms, self.mode)
            && !self.tried.contains(index)
            && !(self.has_others && self.is_on_trial(index) && backend.is_tried_out.load(Relaxed));
        if !is_usable {
            return Offer::Unusable;
        }
        if backend.is_full() || weight.backup && self.backups_wait {
            return Offer::Full;
        }
        Offer::Usable(Candidate {
            live: backend.taken(),
            weight_now: published.weight_now(weight.weight, self.now_ms, self.group.slow_start_ms),
        })
    }

    /// Whether its ejection has just ended by its date, so that nobody knows yet whether it is well: one session at a time
    /// finds out.
    pub(super) fn is_on_trial(&self, index: usize) -> bool {
        self.group.backends[index]
            .published()
            .is_on_trial(self.now_ms)
    }
}

/// Whether it is known to be up.
const fn is_up(word: Published, now_ms: u64) -> bool {
    matches!(word.state(now_ms), State::Up) && !word.is_on_trial(now_ms)
}
