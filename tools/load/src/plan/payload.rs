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

    /// Whether `bytes` are those of a message from byte `at` on. More bytes than are left of it are not.
    #[must_use]
    pub fn matches(
        &self,
        connection: u64,
        number: u64,
        len: usize,
        at: usize,
        bytes: &[u8],
    ) -> bool {
        self.slice(connection, number, len)
            .get(at..)
            .is_some_and(|left| left.starts_with(bytes))
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

/// Checks the echo of one message after the other, however the bytes are split.
///
/// [`expect`](Self::expect) names the next message, [`feed`](Self::feed) takes what arrived.
#[derive(Debug, Clone, Copy)]
pub struct Check {
    number: u64,
    len: usize,
    at: usize,
}

/// What [`Check::feed`] made of the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Echo {
    /// All bytes belong to the message, and more are to come.
    Incomplete,
    /// The message is whole and right.
    Complete {
        /// How many of the bytes were its own; what follows belongs to the next one.
        consumed: usize,
    },
    /// Some byte is not what was sent.
    Wrong,
}

impl Check {
    /// Waits for message `number` of `len` bytes.
    #[must_use]
    pub const fn expect(number: u64, len: usize) -> Self {
        Self { number, len, at: 0 }
    }

    /// Looks at what arrived on `connection`.
    pub fn feed(&mut self, pattern: &Pattern, connection: u64, bytes: &[u8]) -> Echo {
        let own = &bytes[..bytes.len().min(self.len - self.at)];
        if !pattern.matches(connection, self.number, self.len, self.at, own) {
            return Echo::Wrong;
        }
        self.at += own.len();
        if self.at == self.len {
            Echo::Complete {
                consumed: own.len(),
            }
        } else {
            Echo::Incomplete
        }
    }

    /// Bytes of the message that are still to come.
    #[must_use]
    pub const fn left(&self) -> usize {
        self.len - self.at
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
    use proptest::prelude::*;

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
    fn borders_are_refused() {
        // Goal: no index out of bounds for what a peer sends. Method: too many bytes, too far on, and nothing.
        let pattern = Pattern::new(3, 8);
        let message = pattern.slice(1, 2, 8).to_vec();
        assert!(pattern.matches(1, 2, 8, 0, &message));
        assert!(pattern.matches(1, 2, 8, 8, &[]));
        assert!(!pattern.matches(1, 2, 7, 0, &message));
        assert!(!pattern.matches(1, 2, 8, 9, &[]));
        assert_eq!(pattern.len_max(), 8);
    }

    #[test]
    #[should_panic(expected = "longer than the pattern")]
    fn a_message_beyond_the_pattern_is_our_bug() {
        // Goal: no silent truncation. Method: one byte too many.
        let _ = Pattern::new(3, 8).slice(0, 0, 9);
    }

    /// What a broken echo may do to a stream of messages.
    #[derive(Debug, Clone)]
    enum Damage {
        Drop(usize),
        Double(usize),
        Flip(usize),
        Truncate(usize),
        Repeat,
        Swap,
    }

    fn damages() -> impl Strategy<Value = Damage> {
        prop_oneof![
            (0_usize..300).prop_map(Damage::Drop),
            (0_usize..300).prop_map(Damage::Double),
            (0_usize..300).prop_map(Damage::Flip),
            (1_usize..100).prop_map(Damage::Truncate),
            Just(Damage::Repeat),
            Just(Damage::Swap),
        ]
    }

    fn damaged(messages: &[&[u8]], damage: &Damage) -> Vec<u8> {
        let mut parts: Vec<Vec<u8>> = messages.iter().map(|message| message.to_vec()).collect();
        match damage {
            Damage::Truncate(by) => {
                let keep = parts[0].len().saturating_sub(*by);
                parts[0].truncate(keep);
            }
            Damage::Repeat => parts.insert(1, messages[0].to_vec()),
            Damage::Swap => parts.swap(0, 1),
            Damage::Drop(_) | Damage::Double(_) | Damage::Flip(_) => {}
        }
        let mut stream = parts.concat();
        match *damage {
            Damage::Drop(at) => drop(stream.remove(at)),
            Damage::Double(at) => stream.insert(at, stream[at]),
            Damage::Flip(at) => stream[at] ^= 1,
            Damage::Truncate(_) | Damage::Repeat | Damage::Swap => {}
        }
        stream
    }

    /// Feeds a stream in pieces; whether all messages came back whole.
    fn is_right(pattern: &Pattern, lens: &[usize], stream: &[u8], piece: usize) -> Option<bool> {
        let mut number = 0;
        let mut check = Check::expect(0, lens[0]);
        for mut bytes in stream.chunks(piece) {
            while !bytes.is_empty() {
                match check.feed(pattern, 9, bytes) {
                    Echo::Wrong => return Some(false),
                    Echo::Incomplete => break,
                    Echo::Complete { consumed } => {
                        bytes = &bytes[consumed..];
                        number += 1;
                        if number == lens.len() {
                            return Some(true);
                        }
                        check = Check::expect(number as u64, lens[number]);
                    }
                }
            }
        }
        None // Still waiting.
    }

    proptest! {
        #[test]
        fn an_echo_passes_and_a_damaged_one_does_not(
            seed: u64, lens in prop::collection::vec(100_usize..500, 4..8), damage in damages(), piece in 1_usize..700,
        ) {
            // Goal: right at any split, wrong when anything is lost, doubled, changed or out of order. Method: both.
            let pattern = Pattern::new(seed, 500);
            let messages: Vec<&[u8]> =
                (0..).zip(&lens).map(|(number, len)| pattern.slice(9, number, *len)).collect();
            let stream = messages.concat();
            prop_assert_eq!(is_right(&pattern, &lens, &stream, piece), Some(true));
            let stream = damaged(&messages, &damage);
            // A byte doubled or lost beside its equal changes nothing until the end, where the count tells.
            prop_assert_ne!(is_right(&pattern, &lens, &stream, piece), Some(true));
        }
    }
}
