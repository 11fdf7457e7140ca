//! The same key to the same backend, with as few keys moved as possible when the backends change.
//!
//! One idea: D. E. Eisenbud and others, "Maglev: A Fast and Reliable Software Network Load Balancer" (NSDI 2016),
//! section 3.4. Every backend has an order of its own in which it would like the slots of a table; in turn, each takes
//! the first slot on its list that is still free, until the table is full. Everyone has the same number of slots to
//! within one, and without one of them the others would have taken nearly the same slots.
//!
//! What is added here:
//! * Orders, and the order of turns, follow from identities and not from places in a list, so that a list in another
//!   order is the same table.
//! * A backend of a smaller weight takes part in that share of the rounds.
//! * The table changes only with the configuration. While a backend cannot be used, each of *its* keys goes on to a
//!   second slot, a third and so on, by hashes of the key's own: they spread by weight, they come back when it does,
//!   and no other key moves at all.
//! * While a backend warms up, it has a growing share of its keys, always the same ones first.

use super::random::{GOLDEN_GAMMA, mix, scale_to};
use super::{Candidate, Member, WEIGHT_SCALE};

/// Slots of a table: a prime, as the paper asks, and the smaller of the two it measured. Two bytes each. One size for
/// any number of backends, as another size is another table. At 1,024 backends of equal weight each has 64 slots: 1.6 %
/// more or less for some. When one of 3, 10, 100 or 1,024 backends left for good, 0.03, 0.3, 0.7 and 0.9 % of all keys
/// moved beside its own.
const SLOTS: usize = 65_537;

/// Slots that are looked at for a key before everybody is. With half of a group down, one key in 65,536 gets there.
const PROBES_MAX: u64 = 16;

/// No backend's index.
const FREE: u16 = u16::MAX;

#[derive(Debug)]
pub(super) struct Maglev {
    members: Vec<Member>,
    /// Places in `members`. Empty where there is nothing to choose.
    slots: Vec<u16>,
}

impl Maglev {
    pub(super) fn build(members: &[Member]) -> Self {
        let mut members = members.to_vec();
        // The index decides between two of the same identity, which are alike to everybody else.
        members.sort_by_key(|member| (member.identity, member.index));
        let slots = if members.len() > 1 {
            fill(&members)
        } else {
            Vec::new()
        };
        Self { members, slots }
    }

    pub(super) fn members(&self) -> &[Member] {
        &self.members
    }

    pub(super) fn pick(&self, key: u64, usable: &impl Fn(u16) -> Option<Candidate>) -> Option<u16> {
        if self.slots.is_empty() {
            let only = self.members.first()?;
            return usable(only.index).map(|_| only.index);
        }
        let mut warming = None;
        for probe in 0..PROBES_MAX {
            let hash = mix(key.wrapping_add(GOLDEN_GAMMA.wrapping_mul(probe)));
            // Below SLOTS, so it fits.
            let slot = scale_to(hash, SLOTS as u64) as usize;
            let member = &self.members[usize::from(self.slots[slot])];
            if let Some(candidate) = usable(member.index) {
                if has_share(member, candidate, hash) {
                    return Some(member.index);
                }
                warming = warming.or(Some(member.index));
            }
        }
        warming.or_else(|| self.pick_of_all(key, usable))
    }

    /// Rendezvous hashing: everybody bids for the key, the highest bid wins. Without weights: hardly anybody is left.
    #[cold]
    fn pick_of_all(&self, key: u64, usable: &impl Fn(u16) -> Option<Candidate>) -> Option<u16> {
        self.members
            .iter()
            .filter(|member| usable(member.index).is_some())
            .max_by_key(|member| mix(key ^ mix(member.identity)))
            .map(|member| member.index)
    }
}

/// Whether a backend that may still be warming up takes this key. The slot was chosen by the upper bits of the hash;
/// the lower ones are as good as another hash.
#[inline]
fn has_share(member: &Member, candidate: Candidate, hash: u64) -> bool {
    let full = u64::from(member.weight) * u64::from(WEIGHT_SCALE);
    u64::from(candidate.weight_now) * (1 << 32) > (hash & 0xffff_ffff) * full
}

/// The order in which a backend would like the slots: each once, as the number of slots is prime.
struct Order {
    next: usize,
    skip: usize,
}

impl Order {
    fn new(identity: u64) -> Self {
        let first = mix(identity);
        let second = mix(first.wrapping_add(GOLDEN_GAMMA));
        Self {
            next: scale_to(first, SLOTS as u64) as usize,
            skip: 1 + scale_to(second, SLOTS as u64 - 1) as usize,
        }
    }

    /// Takes the next slot that is free. There must be one.
    fn take_free(&mut self, slots: &mut [u16], member: u16) {
        while slots[self.next] != FREE {
            self.advance();
        }
        slots[self.next] = member;
        self.advance();
    }

    fn advance(&mut self) {
        self.next += self.skip;
        if self.next >= SLOTS {
            self.next -= SLOTS;
        }
    }
}

fn fill(members: &[Member]) -> Vec<u16> {
    let mut slots = vec![FREE; SLOTS];
    let mut orders: Vec<Order> = members
        .iter()
        .map(|member| Order::new(member.identity))
        .collect();
    let heaviest = members
        .iter()
        .map(|member| u32::from(member.weight))
        .max()
        .unwrap_or(1);
    // Half a slot to begin with, so that the light ones do not all start in the same late round.
    let mut credits = vec![heaviest / 2; members.len()];
    let mut free = SLOTS;
    // The heaviest takes a slot in each round, so the rounds come to an end.
    while free > 0 {
        for ((order, credit), (member, place)) in orders
            .iter_mut()
            .zip(&mut credits)
            .zip(members.iter().zip(0..))
        {
            *credit += u32::from(member.weight);
            if *credit >= heaviest && free > 0 {
                *credit -= heaviest;
                order.take_free(&mut slots, place);
                free -= 1;
            }
        }
    }
    slots
}
