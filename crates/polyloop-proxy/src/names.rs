//! Backends that are named: what an answer about their name means to them, and when to ask again.
//!
//! ```text
//!   answer ─> cards: an address, or a record of a service with its addresses
//!               │  Dealer: who stays keeps its slot, new ones take free slots, or sit beside others
//!               v
//!   slots    db#1   db#2   db#3   db#4        each a backend with health, counts and caps of its own
//! ```
//!
//! The one idea: slots are backends of the settings, as many from the start to the end, so that nothing that counts or chooses
//! has to know of names. Only who is where changes, and a slot where nobody is cannot be chosen.
//!
//! A look-up that fails changes nothing: the last answer is better than none. So does an answer without a single address.
//!
//! Deliberately absent: looking up, threads, clocks. Whoever looks up brings the answer and is told when to bring the next.

mod dealer;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use polyloop::Remote;

use crate::balance::Weight;
use crate::health::Placing;
use crate::settings::defaults::{LOOK_UP_RETRY, LOOK_UP_RETRY_MAX, TTL_MAX, TTL_MIN, WEIGHT_MAX};
use crate::settings::{ProxySettings, Target};
use crate::site::Site;

use dealer::{Card, Dealer};

/// What was found, and for how long that holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// What.
    pub found: Found,
    /// How long.
    pub ttl: Duration,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// The addresses of a host, of both families.
    Addresses(Vec<IpAddr>),
    /// The records of a service.
    Records(Vec<Record>),
}

/// A record of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The host.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Those with the lowest number are ordinary backends, the others are backups.
    pub priority: u16,
    /// Its share beside others of its priority.
    pub weight: u16,
    /// The host's addresses; if there are none, nobody knows them at the moment.
    pub addrs: Vec<IpAddr>,
}

/// A name that is looked up again and again, and the backends that it stands for.
#[derive(Debug)]
pub struct Name {
    /// The group.
    pub group: usize,
    /// The first of its backends.
    pub first: usize,
    /// How many they are.
    pub slots: usize,
    /// What is looked up.
    pub target: Target,
    /// Look-ups that have ended.
    pub look_ups: AtomicU64,
    /// Those of them that failed.
    pub failures: AtomicU64,
    /// When it was last answered, in milliseconds of loop time; 0 for never.
    pub answered_ms: AtomicU64,
    known: Mutex<Known>,
}

/// What is known of a name.
#[derive(Debug)]
struct Known {
    dealer: Dealer,
    /// Failures since the last answer.
    failed_in_a_row: u32,
    /// The last of them.
    error: Option<String>,
    again_in: Duration,
}

/// What came of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// When to look again.
    pub again_in: Duration,
    /// What a person should be told.
    pub news: News,
}

/// What a person should be told of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// As before.
    Nothing,
    /// Its backends have other addresses now.
    Moved {
        /// How many addresses, over all slots.
        addrs: usize,
        /// Addresses or records that found no slot.
        left_out: usize,
    },
    /// There was none; what was known before stays.
    Failed {
        /// Why.
        error: String,
        /// Whether anything was known before.
        is_known: bool,
    },
}

impl Name {
    /// All names of the settings.
    #[must_use]
    pub fn all(settings: &ProxySettings) -> Box<[Self]> {
        let groups = settings.groups.iter().enumerate();
        let names = groups.flat_map(|(group, settings)| {
            let backends = settings.backends.iter().enumerate();
            backends.filter_map(move |(first, backend)| match backend.to {
                Target::Name { .. } | Target::Srv { .. } if backend.slot == 0 => {
                    let slots = usize::from(backend.slots.unwrap_or(1));
                    Some(Self::new(group, first, slots, backend.to.clone()))
                }
                _ => None,
            })
        });
        names.collect()
    }

    fn new(group: usize, first: usize, slots: usize, target: Target) -> Self {
        Self {
            group,
            first,
            slots,
            target,
            look_ups: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            answered_ms: AtomicU64::new(0),
            known: Mutex::new(Known {
                dealer: Dealer::new(slots),
                failed_in_a_row: 0,
                error: None,
                again_in: LOOK_UP_RETRY,
            }),
        }
    }

    /// What is looked up, as text.
    #[must_use]
    pub fn text(&self) -> &str {
        match &self.target {
            Target::Name { host, .. } => host,
            Target::Srv { name } => name,
            Target::Addr(_) | Target::Unix(_) | Target::Echo => "",
        }
    }

    /// How many addresses its backends have.
    #[must_use]
    pub fn addresses(&self, site: &Site) -> usize {
        let backends = &site.groups[self.group].backends[self.first..self.first + self.slots];
        backends.iter().map(|backend| backend.places().len()).sum()
    }

    /// Why the last look-up failed, if it did.
    #[must_use]
    pub fn error(&self) -> Option<String> {
        self.lock().error.clone()
    }

    /// How long the last answer holds, or how long a failed look-up waits for the next.
    #[must_use]
    pub fn again_in(&self) -> Duration {
        self.lock().again_in
    }

    /// Whether a look-up has ended, well or not.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.look_ups.load(Relaxed) > 0
    }

    /// Takes what came of a look-up at `now_ms`, and deals the addresses to the backends. It may build tables: not for a loop.
    pub fn handle_answer(
        &self,
        site: &Site,
        answer: Result<Answer, String>,
        now_ms: u64,
    ) -> Outcome {
        let mut known = self.lock();
        let outcome = match answer.and_then(|answer| {
            let cards = self.cards(&answer.found, &known.dealer)?;
            Ok((cards, answer.ttl))
        }) {
            Ok((cards, ttl)) => self.answered(site, &mut known, cards, ttl, now_ms),
            Err(error) => self.failed(&mut known, error),
        };
        known.again_in = outcome.again_in;
        drop(known);
        self.look_ups.fetch_add(1, Relaxed);
        outcome
    }

    fn failed(&self, known: &mut Known, error: String) -> Outcome {
        self.failures.fetch_add(1, Relaxed);
        known.failed_in_a_row = known.failed_in_a_row.saturating_add(1);
        known.error = Some(error.clone());
        let is_known = self.answered_ms.load(Relaxed) > 0;
        Outcome {
            again_in: retry_after(known.failed_in_a_row),
            news: News::Failed { error, is_known },
        }
    }

    fn answered(
        &self,
        site: &Site,
        known: &mut Known,
        cards: Vec<Card>,
        ttl: Duration,
        now_ms: u64,
    ) -> Outcome {
        (known.failed_in_a_row, known.error) = (0, None);
        let left_out = known.dealer.deal(cards);
        // Loop time 0 is "never".
        let is_first = self.answered_ms.swap(now_ms.max(1), Relaxed) == 0;
        let has_shares = matches!(self.target, Target::Srv { .. });
        if has_shares {
            let settings = &site.settings.groups[self.group].backends[self.first];
            let (weight, backup) = (settings.weight, settings.backup);
            site.groups[self.group].set_shares(|shares| {
                let shares = &mut shares[self.first..self.first + self.slots];
                for (share, slot) in shares.iter_mut().zip(known.dealer.slots()) {
                    share_of(slot, share, backup);
                    // The settings can still say: nothing new.
                    share.weight = share.weight.min(weight.saturating_mul(WEIGHT_MAX));
                }
            });
        }
        let mut is_moved = false;
        for (at, slot) in known.dealer.slots().iter().enumerate() {
            let places = slot.iter().flat_map(|card| card.addrs.iter().copied());
            let places = places.map(Remote::Tcp).collect();
            is_moved |= site.place_backend(self.group, self.first + at, places, is_first, now_ms);
        }
        let addrs = known.dealer.slots().iter().flatten();
        let addrs = addrs.map(|card| card.addrs.len()).sum();
        Outcome {
            again_in: clamped(ttl),
            news: if is_moved {
                News::Moved { addrs, left_out }
            } else {
                News::Nothing
            },
        }
    }

    /// What there is to deal. Hosts of records whose addresses nobody knows at the moment keep those they had.
    fn cards(&self, found: &Found, dealer: &Dealer) -> Result<Vec<Card>, String> {
        let cards: Vec<Card> = match (found, &self.target) {
            (Found::Addresses(addrs), Target::Name { port, .. }) => addrs
                .iter()
                .map(|ip| Card::of_address(SocketAddr::new(*ip, *port)))
                .collect(),
            (Found::Records(records), _) => of_records(records, dealer),
            (Found::Addresses(_), _) => Vec::new(),
        };
        if cards.is_empty() {
            return Err("the answer has no address".to_owned());
        }
        Ok(cards)
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        // Nothing in here panics with the lock held.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Site {
    /// Moves a backend to the places that its name has for it; whether that changes anything.
    fn place_backend(
        &self,
        group: usize,
        backend: usize,
        places: Vec<Remote>,
        is_first: bool,
        now_ms: u64,
    ) -> bool {
        let subject = &self.groups[group].backends[backend];
        let before = subject.places();
        if before == places {
            return false;
        }
        let placing = if places.is_empty() {
            Placing::Gone
        } else if is_first {
            Placing::First
        } else if places.iter().any(|place| before.contains(place)) {
            Placing::Stays
        } else {
            Placing::Moved
        };
        subject.set_places(places);
        let change = subject.judge(now_ms, |health| health.set_placed(now_ms, placing));
        // That a name was found at the start is told as such.
        if placing != Placing::First {
            self.tell(group, backend, change);
        }
        true
    }
}

/// Records as cards: the lowest priority number is ordinary, weights are brought to ours.
fn of_records(records: &[Record], dealer: &Dealer) -> Vec<Card> {
    let Some(best) = records.iter().map(|record| record.priority).min() else {
        return Vec::new();
    };
    let mut heaviest: BTreeMap<bool, u16> = BTreeMap::new();
    for record in records {
        let most = heaviest.entry(record.priority > best).or_default();
        *most = (*most).max(record.weight);
    }
    let card = |record: &Record| {
        let backup = record.priority > best;
        let key = format!("{}:{}", record.host.to_ascii_lowercase(), record.port);
        let mut addrs: Vec<_> = record
            .addrs
            .iter()
            .map(|ip| SocketAddr::new(*ip, record.port))
            .collect();
        addrs.sort_unstable();
        addrs.dedup();
        if addrs.is_empty() {
            addrs = dealer.addrs_of(&key);
        }
        let most = heaviest.get(&backup).copied().unwrap_or_default();
        (!addrs.is_empty()).then(|| Card {
            key,
            addrs,
            weight: scaled(record.weight, most),
            backup,
        })
    };
    records.iter().filter_map(card).collect()
}

/// A record's weight as one of ours. 0 beside others means "hardly ever" (RFC 2782), and among its like nothing at all.
fn scaled(weight: u16, heaviest: u16) -> u16 {
    if heaviest <= WEIGHT_MAX {
        return weight.max(1);
    }
    let scaled = u32::from(weight) * u32::from(WEIGHT_MAX) / u32::from(heaviest);
    // At most WEIGHT_MAX.
    (scaled as u16).max(1)
}

/// What a slot gets. One that is empty now keeps what it had, so that nobody's table changes for it.
fn share_of(slot: &[Card], share: &mut Weight, is_backup: bool) {
    if let Some(first) = slot.first() {
        let sum = slot.iter().map(|card| u32::from(card.weight)).sum::<u32>();
        // At most WEIGHT_MAX.
        share.weight = sum.min(u32::from(WEIGHT_MAX)) as u16;
        share.backup = first.backup || is_backup;
    }
}

/// When to look again for an answer with this TTL.
fn clamped(ttl: Duration) -> Duration {
    ttl.clamp(TTL_MIN, TTL_MAX)
}

/// When to look again after so many failures in a row.
fn retry_after(failures: u32) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    LOOK_UP_RETRY
        .saturating_mul(1 << doublings)
        .min(LOOK_UP_RETRY_MAX)
}
