//! Who is let in: sessions at once and per second, of all, of a listener, of one source.
//!
//! The one idea: a limit that nobody asked for costs nothing; one that was asked for costs a short lock for each new session,
//! never for each event. Sources are spread over shards, so that loops seldom meet at one lock.
//!
//! What was passed is held in [`Passes`] and given back when the session ends; a refusal gives back whatever came before
//! it, so that who is refused by one limit does not use up another.
//!
//! Deliberately absent: access lists (they know no counts), and the process's cap of connections (the library's permits).

use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::limits::{
    Admission, Refill, SourceKey, SourceLimits, Sources, Ticket, TokenBucket, WhenFull,
};
use crate::settings::{ProxySettings, Rate};
use crate::termination::Cause;

/// Locks for the sources of one limit: more than loops that could meet there on most machines.
const SHARDS: usize = 64;

/// All limits on new sessions.
#[derive(Debug)]
pub(crate) struct Doors {
    all: Door,
    listeners: Box<[Door]>,
}

/// The limits of one scope.
#[derive(Debug)]
struct Door {
    live: AtomicU32,
    live_max: u32,
    rate: Option<Mutex<TokenBucket>>,
    sources: Option<Box<[Mutex<Sources>]>>,
    seed: u64,
}

/// What a session has passed, to be given back.
#[derive(Debug, Default)]
pub(crate) struct Passes {
    is_counted: bool,
    /// By the listener's sources, and by those of the process.
    tickets: [Option<Ticket>; 2],
    /// The shards that the tickets are from: whoever gives them back need not know the client any more.
    shards: [u8; 2],
}

impl Doors {
    pub(crate) fn new(settings: &ProxySettings, seed: u64) -> Self {
        let limits = &settings.limits;
        let table = |live_max: Option<u32>, rate: Option<Rate>| {
            (live_max.is_some() || rate.is_some()).then_some(SourceLimits {
                live_max,
                rate: rate.map(refill),
                entries_max: limits.sources_max.div_ceil(SHARDS as u32),
                when_full: WhenFull::Admit,
            })
        };
        let all = table(limits.source_connections_max, limits.source_rate);
        Self {
            all: Door::new(None, limits.rate, all, seed),
            listeners: settings
                .listeners
                .iter()
                .map(|listener| {
                    let own = table(listener.source_connections_max, listener.source_rate);
                    Door::new(listener.connections_max, listener.rate, own, seed)
                })
                .collect(),
        }
    }

    /// Sessions that a listener has.
    pub(crate) fn live(&self, listener: usize) -> u32 {
        self.listeners[listener].live.load(Relaxed)
    }

    /// A new session of a client, which has no address if it came through a unix socket.
    pub(crate) fn admit(
        &self,
        listener: usize,
        client: Option<IpAddr>,
        now_ns: u64,
    ) -> Result<Passes, Cause> {
        let own = &self.listeners[listener];
        let mut passes = Passes::default();
        if !own.count() {
            return Err(Cause::ListenerFull);
        }
        passes.is_counted = true;
        let source = client.map(SourceKey::new);
        let shard_of =
            |door: &Door| source.map_or(0, |source| source.shard(door.seed, SHARDS) as u8);
        passes.shards = [shard_of(own), shard_of(&self.all)];
        let admitted = own
            .admit_source(source, passes.shards[0], now_ns)
            .and_then(|ticket| {
                passes.tickets[0] = ticket;
                self.all.admit_source(source, passes.shards[1], now_ns)
            })
            .and_then(|ticket| {
                passes.tickets[1] = ticket;
                own.take_token(now_ns)
            })
            .and_then(|()| {
                self.all
                    .take_token(now_ns)
                    .inspect_err(|_| own.put_token_back())
            });
        match admitted {
            Ok(()) => Ok(passes),
            Err(cause) => {
                let Passes {
                    tickets, shards, ..
                } = passes;
                own.give_back(shards[0], tickets[0], Sources::withdraw);
                self.all.give_back(shards[1], tickets[1], Sources::withdraw);
                own.live.fetch_sub(1, Relaxed);
                Err(cause)
            }
        }
    }

    /// A session has ended. Nothing is given back twice.
    pub(crate) fn release(&self, listener: usize, passes: &mut Passes) {
        let Passes {
            is_counted,
            tickets,
            shards,
        } = std::mem::take(passes);
        let own = &self.listeners[listener];
        own.give_back(shards[0], tickets[0], Sources::release);
        self.all.give_back(shards[1], tickets[1], Sources::release);
        if is_counted {
            own.live.fetch_sub(1, Relaxed);
        }
    }
}

impl Door {
    fn new(
        live_max: Option<u32>,
        rate: Option<Rate>,
        sources: Option<SourceLimits>,
        seed: u64,
    ) -> Self {
        let table = |limits: SourceLimits| {
            (0..SHARDS)
                .map(|shard| Mutex::new(Sources::new(limits, seed ^ shard as u64)))
                .collect()
        };
        Self {
            live: AtomicU32::new(0),
            live_max: live_max.unwrap_or(u32::MAX),
            rate: rate.map(|rate| Mutex::new(TokenBucket::new(refill(rate)))),
            sources: sources.map(table),
            seed,
        }
    }

    fn count(&self) -> bool {
        self.live
            .try_update(Relaxed, Relaxed, |live| {
                (live < self.live_max).then_some(live + 1)
            })
            .is_ok()
    }

    fn take_token(&self, now_ns: u64) -> Result<(), Cause> {
        let has_token = self
            .rate
            .as_ref()
            .is_none_or(|bucket| lock(bucket).take(now_ns));
        if has_token {
            Ok(())
        } else {
            Err(Cause::RateExceeded)
        }
    }

    fn put_token_back(&self) {
        if let Some(bucket) = &self.rate {
            lock(bucket).put_back();
        }
    }

    fn admit_source(
        &self,
        source: Option<SourceKey>,
        shard: u8,
        now_ns: u64,
    ) -> Result<Option<Ticket>, Cause> {
        let (Some(shards), Some(source)) = (&self.sources, source) else {
            return Ok(None);
        };
        match lock(&shards[usize::from(shard)]).admit(source, now_ns) {
            Admission::Admitted(ticket) => Ok(Some(ticket)),
            Admission::Uncounted => Ok(None),
            Admission::TooMany | Admission::TableFull => Err(Cause::SourceFull),
            Admission::TooFast { .. } => Err(Cause::SourceRateExceeded),
        }
    }

    fn give_back(
        &self,
        shard: u8,
        ticket: Option<Ticket>,
        back: impl FnOnce(&mut Sources, Ticket),
    ) {
        if let (Some(shards), Some(ticket)) = (&self.sources, ticket) {
            back(&mut lock(&shards[usize::from(shard)]), ticket);
        }
    }
}

const fn refill(rate: Rate) -> Refill {
    Refill {
        per_second: rate.per_second,
        burst: rate.burst,
    }
}

fn lock<T>(value: &Mutex<T>) -> MutexGuard<'_, T> {
    // Whoever panicked with the lock has left whole values behind: each call ends with the table in order.
    value.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::ListenerSettings;

    #[test]
    fn who_is_refused_by_one_limit_uses_up_no_other() {
        // Goal: counts are exact whatever order limits refuse in. Method: every limit set, two sources, until each refuses;
        // then all leave.
        let mut settings = ProxySettings {
            listeners: vec![ListenerSettings {
                connections_max: Some(5),
                source_connections_max: Some(3),
                ..ListenerSettings::default()
            }],
            ..ProxySettings::default()
        };
        settings.limits.rate = Some(Rate {
            per_second: 1,
            burst: 4,
        });
        let doors = Doors::new(&settings, 7);
        let [one, other]: [Option<IpAddr>; 2] =
            ["192.0.2.1", "192.0.2.2"].map(|ip| ip.parse().ok());
        let mut passes: Vec<_> = (0..3).map(|_| doors.admit(0, one, 0)).collect();
        assert!(passes.iter().all(Result::is_ok));
        assert_eq!(doors.admit(0, one, 0).err(), Some(Cause::SourceFull));
        passes.push(doors.admit(0, other, 0));
        assert_eq!(doors.admit(0, other, 0).err(), Some(Cause::RateExceeded));
        assert_eq!(doors.live(0), 4);
        // A second later there is a token again, and it was not taken by those who were refused for another reason.
        passes.push(doors.admit(0, other, 1_000_000_000));
        assert_eq!(
            doors.admit(0, other, 9_000_000_000).err(),
            Some(Cause::ListenerFull)
        );
        for passed in &mut passes {
            match passed {
                Ok(passed) => doors.release(0, passed),
                Err(cause) => panic!("{cause:?}"),
            }
        }
        assert_eq!(doors.live(0), 0);
        assert!(doors.admit(0, one, 20_000_000_000).is_ok());
    }
}
