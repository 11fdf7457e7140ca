//! The source ports towards one backend, counted over all loops.
//!
//! The one idea: one counter ([`Ports`]) for each pair of a source address and an address of the backend, behind a lock that
//! is taken twice in the life of a session. A source that has no port left is passed over for the next one; when none has,
//! the connection is not begun, and the session is told why.
//!
//! Deliberately absent: clients' own addresses (`transparent`), as each brings ports of its own, and unix sockets.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::ports::{PortLevel, PortRange, Ports, Shortage};

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct SourcePorts {
    pairs: Mutex<Vec<Pair>>,
}

#[derive(Debug)]
struct Pair {
    source: Option<IpAddr>,
    to: SocketAddr,
    is_configured: bool,
    ports: Ports,
}

/// What a connection holds: the pair that its port is counted at. To be given back once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PortPass(u8);

impl PortPass {
    /// Nothing is held.
    pub(crate) const NONE: Self = Self(u8::MAX);
}

/// Pairs that are counted. A backend that has more of them, by a name that moves often, is connected to without counting.
const PAIRS_MAX: usize = u8::MAX as usize;

/// What became of asking for a port.
#[derive(Debug)]
pub(crate) struct Asked {
    /// What the connection holds; `None` if there is no port left.
    pub(crate) pass: Option<PortPass>,
    /// What the operator should know.
    pub(crate) news: Option<Shortage>,
}

impl SourcePorts {
    /// Counts a connection that is about to be made.
    pub(crate) fn take(
        &self,
        source: Option<IpAddr>,
        to: SocketAddr,
        range: PortRange,
        is_configured: bool,
        now_ms: u64,
    ) -> Asked {
        let mut pairs = self.lock();
        let known = pairs
            .iter()
            .position(|pair| pair.source == source && pair.to == to);
        let Some(at) = known.or_else(|| make_room(&mut pairs)) else {
            return Asked {
                pass: Some(PortPass::NONE),
                news: None,
            };
        };
        if known.is_none() {
            let pair = Pair {
                source,
                to,
                is_configured,
                ports: Ports::new(range),
            };
            if at == pairs.len() {
                pairs.push(pair);
            } else {
                pairs[at] = pair;
            }
        }
        let pair = &mut pairs[at];
        let is_free = pair.ports.take(now_ms);
        Asked {
            // At most PAIRS_MAX of them, so the place fits.
            pass: is_free.then_some(PortPass(at as u8)),
            news: pair.news(now_ms),
        }
    }

    /// A connection has ended, or was not made.
    pub(crate) fn release(&self, pass: PortPass, now_ms: u64) -> Option<Shortage> {
        let mut pairs = self.lock();
        let pair = pairs.get_mut(usize::from(pass.0))?;
        pair.ports.release();
        pair.news(now_ms)
    }

    /// The kernel found no port for a connection.
    pub(crate) fn exhausted(&self, pass: PortPass, now_ms: u64) -> Option<Shortage> {
        let mut pairs = self.lock();
        let pair = pairs.get_mut(usize::from(pass.0))?;
        pair.ports.handle_exhausted(now_ms);
        pair.news(now_ms)
    }

    /// All pairs that are in use, for pages and metrics.
    #[must_use]
    pub fn all(&self, now_ms: u64) -> Vec<Shortage> {
        self.lock().iter().map(|pair| pair.view(now_ms)).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Pair>> {
        // Nothing in here panics with the lock held.
        self.pairs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where a new pair goes: a place of its own, or that of one which nothing is connected through any more.
fn make_room(pairs: &mut [Pair]) -> Option<usize> {
    if pairs.len() < PAIRS_MAX {
        return Some(pairs.len());
    }
    pairs.iter().position(|pair| pair.ports.used() == 0)
}

impl Pair {
    fn view(&self, now_ms: u64) -> Shortage {
        Shortage {
            source: self.source,
            backend: self.to,
            level: self.ports.level(now_ms),
            used: self.ports.used(),
            range: self.ports.range(),
            is_configured: self.is_configured,
        }
    }

    fn news(&mut self, now_ms: u64) -> Option<Shortage> {
        let level: PortLevel = self.ports.poll_news(now_ms)?;
        Some(Shortage {
            level,
            ..self.view(now_ms)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_pair_is_counted_by_itself() {
        // Goal: a source that has run out does not close others, and what is given back can be taken. Method: two sources with
        // two ports each.
        let ports = SourcePorts::default();
        let range = PortRange::new(10, 11).unwrap();
        let to = SocketAddr::from(([10, 0, 0, 1], 5432));
        let sources = [[127, 0, 0, 2], [127, 0, 0, 3]].map(|ip| Some(IpAddr::from(ip)));
        let take = |source| ports.take(source, to, range, true, 0);
        let passes: Vec<_> = sources
            .iter()
            .flat_map(|&source| [take(source).pass, take(source).pass])
            .flatten()
            .collect();
        assert_eq!(passes.len(), 4);
        let asked = take(sources[0]);
        assert!(asked.pass.is_none());
        let told = ports.all(0);
        assert_eq!(
            (told.len(), told[0].used, told[0].level),
            (2, 2, PortLevel::Out)
        );
        // Half of two is ample.
        let news = ports.release(passes[0], 0).map(|news| news.level);
        assert_eq!(news, Some(PortLevel::Ample));
        assert!(take(sources[0]).pass.is_some());
        assert_eq!(ports.release(PortPass::NONE, 0), None);
    }

    #[test]
    fn a_name_that_moves_for_ever_fills_nothing() {
        // Goal: the table is bounded, and unused pairs make room. Method: a thousand addresses, one after the other, and then
        // as many that stay.
        let ports = SourcePorts::default();
        let range = PortRange::new(10, 11).unwrap();
        let take = |port| {
            ports.take(
                None,
                SocketAddr::from(([10, 0, 0, 1], port)),
                range,
                false,
                0,
            )
        };
        for port in 1..1000 {
            let pass = take(port).pass.unwrap();
            assert_ne!(pass, PortPass::NONE);
            ports.release(pass, 0);
        }
        for port in 1000..2000 {
            assert!(take(port).pass.is_some());
        }
        assert_eq!(ports.all(0).len(), PAIRS_MAX);
    }
}
