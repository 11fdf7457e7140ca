//! Which bytes a message has, and whether they came back.
//!
//! The one idea: all messages are windows into one pseudo-random pattern, so that neither sending nor checking makes or
//! keeps a byte. Where a window begins follows from the connection and the number of the message:
//!
//! ```text
//!   pattern   |<------------------ SPAN -------------------->|<---- longest message ---->|
//!   message n of c      [=======]      begins at home(c) + n x STEP, modulo SPAN
//!   message n + 1 of c                      [====]
//! ```
//!
//! Invariant: bytes STEP apart, round the SPAN, differ; so the first bytes of consecutive messages of a connection always
//! differ, and a repeated, swapped or left-out message shows at its first byte. A lost or doubled byte shows as soon as
//! the pattern does not happen to repeat: with odds of 255 in 256 at each byte.

use polyloop_measure::stats::{SplitMix64, mix};

/// The bytes of all messages of a run.
pub struct Pattern {
    bytes: Box<[u8]>,
    seed: u64,
    len_max: usize,
}

impl Pattern {
    /// A pattern for messages of up to `len_max` bytes. It takes that many bytes of memory and 64 KiB more, once per
    /// process.
    #[must_use]
    pub fn new(seed: u64, len_max: usize) -> Self {
        let mut random = SplitMix64::new(seed);
        let mut bytes = vec![0; SPAN + len_max].into_boxed_slice();
        for chunk in bytes.chunks_mut(8) {
            let word = random.next_u64().to_le_bytes();
            chunk.copy_from_slice(&word[..chunk.len()]);
        }
        make_neighbours_differ(&mut bytes[..SPAN]);
        Self {
            bytes,
            seed,
            len_max,
        }
    }

    /// The longest message there can be.
    #[must_use]
    pub const fn len_max(&self) -> usize {
        self.len_max
    }

    /// Message `number` of `connection`, `len` bytes of it.
    ///
    /// # Panics
    /// When `len` is more than the pattern was made for.
    #[must_use]
    pub fn slice(&self, connection: u64, number: u64, len: usize) -> &[u8] {
        assert!(
            len <= self.len_max,
            "a message longer than the pattern was made for"
        );
        let home = mix(connection ^ self.seed);
        let offset = home.wrapping_add(number.wrapping_mul(STEP)) as usize % SPAN;
        &self.bytes[offset..offset + len]
    }
}

impl std::fmt::Debug for Pattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pattern")
            .field("seed", &self.seed)
            .field("len_max", &self.len_max)
            .finish_non_exhaustive()
    }
}

/// Changes bytes until each differs from the one `STEP` further round.
fn make_neighbours_differ(ring: &mut [u8]) {
    // The step is odd and the span a power of two, so that stepping visits every place once.
    let mut place = 0;
    for _ in 0..ring.len() {
        let before = ring[place];
        let next = (place + STEP as usize) % ring.len();
        let after = ring[(next + STEP as usize) % ring.len()];
        if ring[next] == before {
            // Of three values one is neither neighbour's.
            let free = (1..=2).map(|add| before.wrapping_add(add));
            ring[next] = free
                .into_iter()
                .find(|byte| *byte != after)
                .unwrap_or(before);
        }
        place = next;
    }
}

/// How many different beginnings there are: enough that two connections seldom share one, few enough to stay in a
/// core's second cache.
const SPAN: usize = 1 << 16;

/// From one message's beginning to the next one's: odd, and near the golden section of the span, so that neighbours in
/// time are far apart in the pattern.
const STEP: u64 = 40_503;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn consecutive_messages_differ_in_their_first_byte() {
        // Goal: a repeated or left-out message cannot pass, not even of one byte. Method: twice round the span.
        for seed in 0..4 {
            let pattern = Pattern::new(seed, 1);
            for number in 0..2 * SPAN as u64 {
                let (this, next) = (pattern.slice(7, number, 1), pattern.slice(7, number + 1, 1));
                assert_ne!(this, next, "seed {seed}, message {number}");
            }
        }
    }

    #[test]
    fn connections_begin_at_different_places() {
        // Goal: an answer to somebody else is noticed. Method: first messages of 200 connections, all different.
        let pattern = Pattern::new(1, 64);
        let mut firsts: Vec<&[u8]> = (0..200).map(|c| pattern.slice(c, 0, 64)).collect();
        firsts.sort_unstable();
        firsts.dedup();
        assert!(firsts.len() >= 199, "{}", firsts.len());
    }

    #[test]
    #[should_panic(expected = "longer than the pattern")]
    fn a_message_beyond_the_pattern_is_our_bug() {
        // Goal: no silent truncation. Method: one byte too many.
        let _ = Pattern::new(3, 8).slice(0, 0, 9);
    }
}
