//! What passes between the two sockets of a session, as numbers: who has finished, how much has gone each way, and
//! whether a direction is worth splicing.
//!
//! ```text
//!   client --up--> proxy --up--> backend        each direction: open -> finished
//!   client <-down- proxy <-down- backend        each direction: copied <-> spliced
//! ```
//!
//! The library keeps the order of bytes and FIN, holds a source whose sink is full, and turns a reset into a reset; what
//! is left to decide is here, and knows no socket. Splicing costs two system calls a move and one to find the end, so it
//! pays for streams alone: a direction is spliced once it has proved to be bulk (many large reads in a row, half a megabyte
//! in all) and copied again when it goes quiet (several small moves in a row). The crossover is between 64 and 128 KiB a
//! message for others who measured it (Go's `io.Copy`), and a stream of large reads is past it.
//!
//! Deliberately absent: timeouts, limits, records.

use polyloop::Side;

use crate::settings::Splice;

/// Bytes in large reads in a row that make a direction bulk.
pub const BULK_AFTER_BYTES: u32 = 512 * 1024;

/// A read or move of at least so many bytes is a large one.
pub const LARGE_BYTES: usize = 16 * 1024;

/// Small moves in a row after which a spliced direction is quiet.
pub const QUIET_AFTER: u8 = 8;

/// What to do about splicing a direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Advice {
    /// Go on as before.
    Keep,
    /// Splice from now on.
    Splice,
    /// Copy from now on.
    Copy,
}

/// What follows from one side's FIN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterFin {
    /// The other side is told, and may go on speaking.
    HalfClosed,
    /// Both have finished: what is still on its way is delivered, and that is all.
    Over,
}

/// One direction, by the side that it comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Direction {
    bytes: u64,
    /// Bytes in large reads in a row.
    run_bytes: u32,
    /// Small moves in a row.
    small: u8,
    is_spliced: bool,
    is_finished: bool,
}

/// Both directions. Feed it what the library tells; it answers what to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Relay {
    directions: [Direction; 2],
}

impl Relay {
    /// Nothing has passed yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// `bytes` were copied from `from`. Says whether that direction is worth splicing now.
    #[inline]
    pub fn handle_copied(&mut self, from: Side, bytes: usize, policy: Splice) -> Advice {
        let direction = &mut self.directions[from.index()];
        direction.bytes += bytes as u64;
        if policy != Splice::Auto {
            return Advice::Keep;
        }
        if bytes < LARGE_BYTES {
            direction.run_bytes = 0;
            return Advice::Keep;
        }
        direction.run_bytes = direction
            .run_bytes
            .saturating_add(u32::try_from(bytes).unwrap_or(u32::MAX));
        if direction.is_spliced || direction.run_bytes < BULK_AFTER_BYTES {
            return Advice::Keep;
        }
        direction.is_spliced = true;
        direction.small = 0;
        Advice::Splice
    }

    /// `bytes` were spliced from `from` in one turn. Says whether that still pays.
    pub fn handle_spliced(&mut self, from: Side, bytes: usize, policy: Splice) -> Advice {
        let direction = &mut self.directions[from.index()];
        direction.bytes += bytes as u64;
        if policy != Splice::Auto || bytes >= LARGE_BYTES {
            direction.small = 0;
            return Advice::Keep;
        }
        direction.small = direction.small.saturating_add(1);
        if direction.small < QUIET_AFTER {
            return Advice::Keep;
        }
        *direction = Direction {
            run_bytes: 0,
            small: 0,
            is_spliced: false,
            ..*direction
        };
        Advice::Copy
    }

    /// The peer of `from` has finished.
    pub fn handle_finished(&mut self, from: Side) -> AfterFin {
        self.directions[from.index()].is_finished = true;
        if self.has_finished(from.other()) {
            AfterFin::Over
        } else {
            AfterFin::HalfClosed
        }
    }

    /// Whether the peer of `from` has finished.
    #[must_use]
    pub const fn has_finished(&self, from: Side) -> bool {
        self.directions[from.index()].is_finished
    }

    /// Bytes that came from `from`.
    #[must_use]
    pub const fn bytes(&self, from: Side) -> u64 {
        self.directions[from.index()].bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_half_finishes_alone() {
        // Goal: the order of the two FINs does not matter, and the second ends the session. Method: both orders.
        for first in Side::ALL {
            let mut relay = Relay::new();
            assert_eq!(relay.handle_finished(first), AfterFin::HalfClosed);
            assert!(relay.has_finished(first) && !relay.has_finished(first.other()));
            assert_eq!(relay.handle_finished(first.other()), AfterFin::Over);
        }
    }

    #[test]
    fn a_stream_is_spliced_once_it_has_proved_to_be_one() {
        // Goal: small messages never splice, however many; a stream does after half a megabyte, once, and in its own
        // direction alone. Method: feed sizes.
        let mut relay = Relay::new();
        for _ in 0..1000 {
            let advice = relay.handle_copied(Side::Front, 1000, Splice::Auto);
            assert_eq!(advice, Advice::Keep);
        }
        let advices: Vec<_> = (0..20)
            .map(|_| relay.handle_copied(Side::Back, 65_536, Splice::Auto))
            .collect();
        let at = advices.iter().position(|advice| *advice == Advice::Splice);
        assert_eq!(at, Some(7), "{advices:?}");
        assert_eq!(advices.iter().filter(|a| **a == Advice::Splice).count(), 1);
        assert_eq!(relay.bytes(Side::Back), 20 * 65_536);
        assert_eq!(relay.bytes(Side::Front), 1_000_000);
    }

    #[test]
    fn one_small_read_begins_the_count_anew() {
        // Goal: a request of a few large reads is no stream. Method: a small one every sixth.
        let mut relay = Relay::new();
        for nth in 0..1000 {
            let bytes = if nth % 6 == 0 { 10 } else { 65_536 };
            let advice = relay.handle_copied(Side::Front, bytes, Splice::Auto);
            assert_eq!(advice, Advice::Keep, "{nth}");
        }
    }

    #[test]
    fn a_stream_that_goes_quiet_is_copied_again_and_may_come_back() {
        // Goal: splicing ends after several small moves in a row, not after one, and can begin again. Method: feed moves.
        let mut relay = Relay::new();
        let stream = |relay: &mut Relay| {
            (0..8)
                .map(|_| relay.handle_copied(Side::Back, 65_536, Splice::Auto))
                .any(|advice| advice == Advice::Splice)
        };
        assert!(stream(&mut relay));
        for nth in 0..100 {
            let bytes = if nth % 7 == 0 { 100_000 } else { 100 };
            let advice = relay.handle_spliced(Side::Back, bytes, Splice::Auto);
            assert_eq!(advice, Advice::Keep);
        }
        let mut advice =
            (0..QUIET_AFTER).map(|_| relay.handle_spliced(Side::Back, 100, Splice::Auto));
        assert!(advice.any(|advice| advice == Advice::Copy));
        assert!(stream(&mut relay));
    }

    #[test]
    fn a_fixed_policy_is_never_changed() {
        // Goal: `off` and `always` mean what they say. Method: traffic that would change `auto`.
        for policy in [Splice::Off, Splice::Always] {
            let mut relay = Relay::new();
            for _ in 0..100 {
                assert_eq!(
                    relay.handle_copied(Side::Front, 65_536, policy),
                    Advice::Keep
                );
                assert_eq!(relay.handle_spliced(Side::Back, 1, policy), Advice::Keep);
            }
        }
    }
}
