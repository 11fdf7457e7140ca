//! Deals addresses to slots so that who stays, stays.
//!
//! The rules, in this order:
//! 1. A card that was dealt before keeps its slot.
//! 2. A new one takes the first free slot; ordinary ones before backups.
//! 3. Where none is free it sits beside others of its kind, at the slot with the fewest. An ordinary one that finds only
//!    backups takes the last slot from them; a backup that finds only ordinary ones is left out.
//! 4. Whoever sits beside others moves to a slot that has become free.
//!
//! Deliberately absent: what an address is good for, and what happens at a slot.

use std::collections::BTreeMap;
use std::net::SocketAddr;

/// What is dealt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Card {
    /// What it is known by from answer to answer.
    pub(super) key: String,
    /// Where that is.
    pub(super) addrs: Vec<SocketAddr>,
    /// Its share beside others; for addresses alike.
    pub(super) weight: u16,
    /// Whether it is a backup.
    pub(super) backup: bool,
}

impl Card {
    /// An address that is known by itself.
    pub(super) fn of_address(addr: SocketAddr) -> Self {
        Self {
            key: addr.to_string(),
            addrs: vec![addr],
            weight: 1,
            backup: false,
        }
    }
}

/// Who sits where.
#[derive(Debug)]
pub(super) struct Dealer {
    slots: Vec<Vec<Card>>,
}

impl Dealer {
    pub(super) fn new(slots: usize) -> Self {
        Self {
            slots: vec![Vec::new(); slots],
        }
    }

    /// The cards of each slot; of one kind, ordinary or backups.
    pub(super) fn slots(&self) -> &[Vec<Card>] {
        &self.slots
    }

    /// The addresses that a card has now.
    pub(super) fn addrs_of(&self, key: &str) -> Vec<SocketAddr> {
        let mut cards = self.slots.iter().flatten();
        let found = cards.find(|card| card.key == key);
        found.map_or_else(Vec::new, |card| card.addrs.clone())
    }

    /// Deals these cards instead of those before; how many are left out.
    pub(super) fn deal(&mut self, cards: Vec<Card>) -> usize {
        // By key; of one that comes twice, the ordinary one.
        let mut new: BTreeMap<String, Card> = BTreeMap::new();
        for card in cards {
            match new.get(&card.key) {
                Some(known) if !known.backup || card.backup => {}
                _ => {
                    new.insert(card.key.clone(), card);
                }
            }
        }
        for slot in &mut self.slots {
            let held = std::mem::take(slot);
            slot.extend(held.iter().filter_map(|card| new.remove(&card.key)));
            // Priorities may have changed: those that are not of the first one's kind are dealt anew.
            let is_backup = slot.first().is_some_and(|card| card.backup);
            let strangers = slot.extract_if(.., |card| card.backup != is_backup);
            new.extend(strangers.map(|card| (card.key.clone(), card)));
        }
        let mut left_out = new.len().saturating_sub(CARDS_MAX);
        let (backups, ordinary): (Vec<_>, Vec<_>) = new
            .into_values()
            .take(CARDS_MAX)
            .partition(|card| card.backup);
        for card in ordinary.into_iter().chain(backups) {
            left_out += self.seat(card);
        }
        self.spread();
        left_out
    }

    /// Gives a card a slot; how many were left out for it.
    fn seat(&mut self, card: Card) -> usize {
        if let Some(free) = self.slots.iter_mut().find(|slot| slot.is_empty()) {
            free.push(card);
            return 0;
        }
        let is_alike = |slot: &&mut Vec<Card>| slot.iter().all(|held| held.backup == card.backup);
        let fewest = self.slots.iter_mut().filter(is_alike);
        if let Some(slot) = fewest.min_by_key(|slot| slot.len()) {
            slot.push(card);
            return 0;
        }
        match self.slots.last_mut() {
            Some(last) if !card.backup => std::mem::replace(last, vec![card]).len(),
            _ => 1,
        }
    }

    fn spread(&mut self) {
        while let Some(free) = self.slots.iter().position(Vec::is_empty) {
            let fullest = self.slots.iter_mut().max_by_key(|slot| slot.len());
            match fullest.filter(|slot| slot.len() > 1).and_then(Vec::pop) {
                Some(card) => self.slots[free].push(card),
                None => return,
            }
        }
    }
}

/// New cards in one answer. More are no addresses of one service but somebody's mistake.
const CARDS_MAX: usize = 256;
