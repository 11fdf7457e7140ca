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
//! Without a rate, an entry goes with its last connection.
//!
//! The table grows by doubling, and is the only thing here that allocates: 13 times until a bound of 65,536.
//! Memory at the bound is at most 64 bytes for each source. Every call takes constant time on average; nobody outside can choose
//! colliding sources as long as they do not know the seed, which is part of the hash; whoever makes a table gives it.

use std::net::IpAddr;

use super::bucket::{Level, Refill};
use crate::balance::random::{GOLDEN_GAMMA, mix, scale_to};

/// What is counted as one source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SourceKey {
    /// The 32 bits of an IPv4 address, the first 64 of an IPv6 address.
    bits: u64,
    is_v4: bool,
}

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
    /// It may, and is not counted: the table is full. The ticket may be given back like others.
    Uncounted(Ticket),
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
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
#[must_use]
pub struct Ticket(u32);

/// The table of sources.
#[derive(Debug)]
pub struct Sources {
    limits: SourceLimits,
    seed: u64,
    entries: Vec<Entry>,
    /// First entry of each chain. A power of two, at least as many as entries.
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
    level: Level,
    live: u32,
    /// The next one of the chain, or of the free ones.
    next: u32,
    /// Neighbours among the idle.
    idle_before: u32,
    idle_after: u32,
}

impl SourceKey {
    /// The source of an address. A mapped IPv4 address is that IPv4 address.
    #[must_use]
    pub fn new(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(v4) => Self {
                bits: u64::from(u32::from(v4)),
                is_v4: true,
            },
            // The upper half fits.
            IpAddr::V6(v6) => Self {
                bits: (u128::from(v6) >> 64) as u64,
                is_v4: false,
            },
        }
    }

    /// Which of `shards` tables counts this source. The seed should be the same for all callers.
    #[must_use]
    pub const fn shard(self, seed: u64, shards: usize) -> usize {
        // Below `shards`, so it fits. Another hash than that of the table, or each would use a part of its chains.
        scale_to(mix(self.hash(!seed)), shards as u64) as usize
    }

    const fn hash(self, seed: u64) -> u64 {
        let family = if self.is_v4 { GOLDEN_GAMMA } else { 0 };
        mix(mix(self.bits ^ seed).wrapping_add(family ^ seed))
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
        let at = ticket.0;
        if at == NONE {
            return;
        }
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
        if let (Some(rate), Some(entry)) =
            (self.limits.rate, self.entries.get_mut(ticket.0 as usize))
        {
            entry.level.put_back(&rate);
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
        let SourceLimits { live_max, rate, .. } = self.limits;
        let entry = &mut self.entries[at as usize];
        if live_max.is_some_and(|max| entry.live >= max) {
            return Admission::TooMany;
        }
        if let Some(rate) = rate
            && !entry.level.take(&rate, now_ns)
        {
            let ready_at_ns = entry.level.ready_at_ns(&rate, now_ns);
            return Admission::TooFast { ready_at_ns };
        }
        if entry.live == 0 {
            self.idle_remove(at);
            self.live_entries += 1;
        }
        self.entries[at as usize].live += 1;
        Admission::Admitted(Ticket(at))
    }

    fn admit_new(&mut self, source: SourceKey, now_ns: u64) -> Admission {
        if self.limits.live_max == Some(0) {
            return Admission::TooMany;
        }
        let refill = self.limits.rate.unwrap_or(NO_RATE);
        let mut level = Level::full(&refill, now_ns);
        if self.limits.rate.is_some() && !level.take(&refill, now_ns) {
            let ready_at_ns = u64::MAX;
            return Admission::TooFast { ready_at_ns };
        }
        let Some(at) = self.find_room(now_ns) else {
            return match self.limits.when_full {
                WhenFull::Admit => Admission::Uncounted(Ticket(NONE)),
                WhenFull::Refuse => Admission::TableFull,
            };
        };
        let head = self.head(source);
        self.entries[at as usize] = Entry {
            key: source,
            level,
            live: 1,
            next: self.heads[head],
            idle_before: NONE,
            idle_after: NONE,
        };
        self.heads[head] = at;
        self.used_entries += 1;
        self.live_entries += 1;
        Admission::Admitted(Ticket(at))
    }

    /// An entry of no source, in no chain.
    fn find_room(&mut self, now_ns: u64) -> Option<u32> {
        let oldest = self.entries.get(self.idle_first as usize);
        let rate = self.limits.rate.unwrap_or(NO_RATE);
        if oldest.is_some_and(|oldest| oldest.level.is_full(&rate, now_ns)) {
            self.forget_oldest();
        }
        if self.free == NONE && !self.grow() && self.idle_first != NONE {
            self.forget_oldest();
        }
        let at = self.free;
        self.free = self.entries.get(at as usize)?.next;
        Some(at)
    }

    /// Adds free entries, as many as there are. Whether there are any now.
    fn grow(&mut self) -> bool {
        // At most `entries_max`, which fits.
        let before = self.entries.len() as u32;
        let after = before
            .saturating_mul(2)
            .clamp(ENTRIES_MIN, ENTRIES_MIN.max(self.limits.entries_max))
            .min(self.limits.entries_max);
        if after == before {
            return false;
        }
        self.entries.reserve_exact((after - before) as usize);
        for at in before..after {
            self.entries.push(Entry {
                key: NO_SOURCE,
                level: Level::full(&NO_RATE, 0),
                live: 0,
                next: self.free,
                idle_before: NONE,
                idle_after: NONE,
            });
            self.free = at;
        }
        self.heads = vec![NONE; (after as usize).next_power_of_two()];
        // Growth comes only when no entry is free: all from before are some source's.
        for at in 0..before {
            let head = self.head(self.entries[at as usize].key);
            self.entries[at as usize].next = self.heads[head];
            self.heads[head] = at;
        }
        true
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
        match self.entries.get_mut(last as usize) {
            Some(last) => last.idle_after = at,
            None => self.idle_first = at,
        }
        let entry = &mut self.entries[at as usize];
        (entry.idle_before, entry.idle_after) = (last, NONE);
    }

    fn idle_remove(&mut self, at: u32) {
        let Entry {
            idle_before: before,
            idle_after: after,
            ..
        } = self.entries[at as usize];
        match self.entries.get_mut(before as usize) {
            Some(before) => before.idle_after = after,
            None => self.idle_first = after,
        }
        match self.entries.get_mut(after as usize) {
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

/// The size of the first growth.
const ENTRIES_MIN: u32 = 16;

/// For entries that count connections only: full, whatever happens.
const NO_RATE: Refill = Refill {
    per_second: 0,
    burst: 0,
};

const NO_SOURCE: SourceKey = SourceKey {
    bits: 0,
    is_v4: false,
};

/// For the test that holds the header to its word.
#[cfg(test)]
pub(super) const ENTRY_BYTES: usize = size_of::<Entry>();
