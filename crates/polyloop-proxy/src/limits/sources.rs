//! What each source uses: connections open now, and tokens for new ones.
//!
//! A source is an IPv4 address or an IPv6 /64, as one machine has all of that.
//!
//! ```text
//!   heads (hash) ──> entry ──> entry        chains by `next`
//!                      │ idle <──> idle     entries without connections, longest idle first
//! ```
//!
//! One idea: an entry is worth its memory while it says something that a new one would not. So
//! * one with connections stays, always: its count is what the limit rests on;
//! * one without, whose bucket is full again, says nothing, and is the first to be used for another source;
//! * if the table has reached its bound, the longest idle one goes, though its bucket was not full: a source may come
//!   by a new burst that way, at the price of as many other sources as the table has room for;
//! * if all have connections, a stated answer is given ([`WhenFull`]).
//!
//! Without a rate, an entry goes with its last connection, so there are no idle ones, and what only they need is not there.
//!
//! The table grows by an eighth, and is the only thing here that allocates: 62 times until a bound of 65,536. A source costs
//! 20 bytes, 44 with a rate, and an eighth (or 16 places) more at most: doubling would hold nearly twice as much when it has
//! just been done. The price is that each source is chained anew some eight times while the table grows, not once.
//! Every call takes constant time on average; nobody outside can choose colliding sources as long as they do not know the
//! seed, which is part of the hash; whoever makes a table gives it.

use std::net::IpAddr;
use std::num::NonZeroU32;

use super::bucket::{Level, Refill};
use crate::balance::random::{mix, scale_to};

/// What is counted as one source: the first 64 bits of an IPv6 address, or an IPv4 address in a part of IPv6 where nobody is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SourceKey(u64);

/// What one source may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SourceLimits {
    /// Connections open at once.
    pub live_max: Option<u32>,
    /// New connections over time.
    pub rate: Option<Refill>,
    /// Sources in the table; at least 1, and no more than fit 32 bits.
    pub entries_max: u32,
    /// What happens to a source that does not fit.
    pub when_full: WhenFull,
}

/// The answer to a new source when every entry of the table has connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WhenFull {
    /// It is admitted without being counted: whoever fills the table shuts nobody out, but the limits do not hold for
    /// those who come last. Other limits still do.
    #[default]
    Admit,
    /// It is refused.
    Refuse,
}

/// Whether a connection may be served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Admission {
    /// It may, and is counted until the ticket is given back.
    Admitted(Ticket),
    /// It may, and is not counted: the table is full. There is nothing to give back.
    Uncounted,
    /// The source has as many connections as it may.
    TooMany,
    /// The source makes new ones too fast; it may have another at this time.
    TooFast {
        /// Loop time.
        ready_at_ns: u64,
    },
    /// The table is full, and that is a reason to refuse.
    TableFull,
}

/// A counted connection. To be given back exactly once, to the table that it came from.
///
/// It is the place of its entry and one more, so that `Option<Ticket>` is as small as `Ticket`: sessions hold two.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
#[must_use]
pub struct Ticket(NonZeroU32);

/// The table of sources.
#[derive(Debug)]
pub struct Sources {
    limits: SourceLimits,
    seed: u64,
    entries: Vec<Entry>,
    /// One for each entry where there is a rate, none where there is not.
    budgets: Vec<Budget>,
    /// First entry of each chain; as many as entries.
    heads: Vec<u32>,
    /// Entries of no source, chained by `next`.
    free: u32,
    /// The longest idle and the last to become idle.
    idle_first: u32,
    idle_last: u32,
    /// Entries with connections.
    live_entries: u32,
    /// Entries of a source.
    used_entries: u32,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    key: SourceKey,
    live: u32,
    /// The next one of the chain, or of the free ones.
    next: u32,
}

/// What an entry has beside, if its source may make only so many connections over time.
#[derive(Debug, Clone, Copy)]
struct Budget {
    level: Level,
    /// Neighbours among the idle.
    idle_before: u32,
    idle_after: u32,
}

impl SourceKey {
    /// The source of an address. A mapped IPv4 address is that IPv4 address.
    #[must_use]
    pub fn new(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(v4) => Self(V4_PREFIX | u64::from(u32::from(v4))),
            // The upper half fits.
            IpAddr::V6(v6) => Self((u128::from(v6) >> 64) as u64),
        }
    }

    /// Which of `shards` tables counts this source. The seed should be the same for all callers.
    #[must_use]
    pub const fn shard(self, seed: u64, shards: usize) -> usize {
        // Below `shards`, so it fits. Another hash than that of the table, or each would use a part of its chains.
        scale_to(mix(self.hash(!seed)), shards as u64) as usize
    }

    const fn hash(self, seed: u64) -> u64 {
        mix(mix(self.0 ^ seed).wrapping_add(seed))
    }
}

impl Ticket {
    const fn new(at: u32) -> Self {
        Self(NonZeroU32::MIN.saturating_add(at))
    }

    const fn at(self) -> u32 {
        self.0.get() - 1
    }
}

impl Sources {
    /// An empty table.
    #[must_use]
    pub fn new(limits: SourceLimits, seed: u64) -> Self {
        let entries_max = limits.entries_max.clamp(1, NONE - 1);
        Self {
            limits: SourceLimits {
                entries_max,
                ..limits
            },
            seed,
            entries: Vec::new(),
            budgets: Vec::new(),
            heads: Vec::new(),
            free: NONE,
            idle_first: NONE,
            idle_last: NONE,
            live_entries: 0,
            used_entries: 0,
        }
    }

    /// A new connection from this source. A refusal counts for nothing.
    pub fn admit(&mut self, source: SourceKey, now_ns: u64) -> Admission {
        match self.find(source) {
            Some(at) => self.admit_again(at, now_ns),
            None => self.admit_new(source, now_ns),
        }
    }

    /// The connection has ended.
    pub fn release(&mut self, ticket: Ticket) {
        let at = ticket.at();
        let entry = &mut self.entries[at as usize];
        debug_assert!(entry.live > 0, "a ticket given back twice");
        entry.live = entry.live.saturating_sub(1);
        if entry.live == 0 {
            self.live_entries -= 1;
            if self.limits.rate.is_some() {
                self.idle_push(at);
            } else {
                self.remove(at);
            }
        }
    }

    /// The connection was not served after all, for a reason of its own: it counts for nothing.
    pub fn withdraw(&mut self, ticket: Ticket) {
        if let Some(rate) = &self.limits.rate {
            self.budgets[ticket.at() as usize].level.put_back(rate);
        }
        self.release(ticket);
    }

    /// Connections that this source has open.
    #[must_use]
    pub fn live(&self, source: SourceKey) -> u32 {
        self.find(source)
            .map_or(0, |at| self.entries[at as usize].live)
    }

    /// Sources that have connections open.
    #[must_use]
    pub const fn sources_live(&self) -> u32 {
        self.live_entries
    }

    /// Sources in the table.
    #[must_use]
    pub const fn sources(&self) -> u32 {
        self.used_entries
    }

    fn admit_again(&mut self, at: u32, now_ns: u64) -> Admission {
        let live = self.entries[at as usize].live;
        if self.limits.live_max.is_some_and(|max| live >= max) {
            return Admission::TooMany;
        }
        if let Some(rate) = &self.limits.rate {
            let level = &mut self.budgets[at as usize].level;
            if !level.take(rate, now_ns) {
                let ready_at_ns = level.ready_at_ns(rate, now_ns);
                return Admission::TooFast { ready_at_ns };
            }
        }
        if live == 0 {
            self.idle_remove(at);
            self.live_entries += 1;
        }
        self.entries[at as usize].live += 1;
        Admission::Admitted(Ticket::new(at))
    }

    fn admit_new(&mut self, source: SourceKey, now_ns: u64) -> Admission {
        if self.limits.live_max == Some(0) {
            return Admission::TooMany;
        }
        let mut level = self.limits.rate.map(|rate| Level::full(&rate, now_ns));
        if let (Some(level), Some(rate)) = (&mut level, &self.limits.rate)
            && !level.take(rate, now_ns)
        {
            let ready_at_ns = u64::MAX;
            return Admission::TooFast { ready_at_ns };
        }
        let Some(at) = self.find_room(now_ns) else {
            return match self.limits.when_full {
                WhenFull::Admit => Admission::Uncounted,
                WhenFull::Refuse => Admission::TableFull,
            };
        };
        if let Some(level) = level {
            self.budgets[at as usize].level = level;
        }
        self.entries[at as usize].key = source;
        self.entries[at as usize].live = 1;
        self.chain(at);
        self.used_entries += 1;
        self.live_entries += 1;
        Admission::Admitted(Ticket::new(at))
    }

    /// An entry of no source, in no chain.
    fn find_room(&mut self, now_ns: u64) -> Option<u32> {
        let oldest = self.budgets.get(self.idle_first as usize);
        if let (Some(oldest), Some(rate)) = (oldest, &self.limits.rate)
            && oldest.level.is_full(rate, now_ns)
        {
            self.forget_oldest();
        }
        if self.free == NONE && !self.grow() && self.idle_first != NONE {
            self.forget_oldest();
        }
        let at = self.free;
        self.free = self.entries.get(at as usize)?.next;
        Some(at)
    }

    /// Adds free entries, an eighth of what there are. Whether there are any now.
    fn grow(&mut self) -> bool {
        // At most `entries_max`, which fits.
        let before = self.entries.len() as u32;
        let more = (before / 8).max(GROWTH_MIN);
        let after = before.saturating_add(more).min(self.limits.entries_max);
        if after == before {
            return false;
        }
        let more = (after - before) as usize;
        self.entries.reserve_exact(more);
        for at in before..after {
            self.entries.push(Entry {
                key: NO_SOURCE,
                live: 0,
                next: self.free,
            });
            self.free = at;
        }
        if let Some(rate) = &self.limits.rate {
            self.budgets.reserve_exact(more);
            let budget = Budget {
                level: Level::full(rate, 0),
                idle_before: NONE,
                idle_after: NONE,
            };
            self.budgets.resize(after as usize, budget);
        }
        self.heads = vec![NONE; after as usize];
        // Growth comes only when no entry is free: all from before are some source's.
        for at in 0..before {
            self.chain(at);
        }
        true
    }

    /// Puts an entry of a source into its chain.
    fn chain(&mut self, at: u32) {
        let head = self.head(self.entries[at as usize].key);
        self.entries[at as usize].next = std::mem::replace(&mut self.heads[head], at);
    }

    fn forget_oldest(&mut self) {
        let at = self.idle_first;
        self.idle_remove(at);
        self.remove(at);
    }

    /// Takes an entry out of its chain, and makes it free.
    fn remove(&mut self, at: u32) {
        let Entry { key, next, .. } = self.entries[at as usize];
        let head = self.head(key);
        if self.heads[head] == at {
            self.heads[head] = next;
        } else {
            let mut before = self.heads[head] as usize;
            while self.entries[before].next != at {
                before = self.entries[before].next as usize;
            }
            self.entries[before].next = next;
        }
        self.entries[at as usize].next = self.free;
        self.free = at;
        self.used_entries -= 1;
    }

    fn idle_push(&mut self, at: u32) {
        let last = std::mem::replace(&mut self.idle_last, at);
        match self.budgets.get_mut(last as usize) {
            Some(last) => last.idle_after = at,
            None => self.idle_first = at,
        }
        let budget = &mut self.budgets[at as usize];
        (budget.idle_before, budget.idle_after) = (last, NONE);
    }

    fn idle_remove(&mut self, at: u32) {
        let Budget {
            idle_before: before,
            idle_after: after,
            ..
        } = self.budgets[at as usize];
        match self.budgets.get_mut(before as usize) {
            Some(before) => before.idle_after = after,
            None => self.idle_first = after,
        }
        match self.budgets.get_mut(after as usize) {
            Some(after) => after.idle_before = before,
            None => self.idle_last = before,
        }
    }

    fn find(&self, source: SourceKey) -> Option<u32> {
        if self.heads.is_empty() {
            return None;
        }
        let mut at = self.heads[self.head(source)];
        while let Some(entry) = self.entries.get(at as usize) {
            if entry.key == source {
                return Some(at);
            }
            at = entry.next;
        }
        None
    }

    /// The chain of a source. There must be chains.
    fn head(&self, source: SourceKey) -> usize {
        // Scaled to a length, so it fits.
        scale_to(source.hash(self.seed), self.heads.len() as u64) as usize
    }
}

/// No entry.
const NONE: u32 = u32::MAX;

/// Entries that are added at once at least.
const GROWTH_MIN: u32 = 16;

/// What stands for IPv4 among networks of IPv6: a part of the multicast addresses, from which nobody connects.
const V4_PREFIX: u64 = 0xffff_ffff << 32;

const NO_SOURCE: SourceKey = SourceKey(0);

/// For the test that holds the header to its word: without a rate, and what one adds.
#[cfg(test)]
pub(super) const SOURCE_BYTES: [usize; 2] =
    [size_of::<Entry>() + size_of::<u32>(), size_of::<Budget>()];
