//! What may go wrong, with odds that the seed draws.

/// A small generator of random numbers: SplitMix64 by Steele, Lea and Flood (OOPSLA 2014).
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// A generator that starts at `seed`.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`, which is not 0. The bias of the remainder does not matter to a test.
    pub const fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    /// True once in `bound` times.
    pub const fn once_in(&mut self, bound: usize) -> bool {
        self.below(bound) == 0
    }
}

/// The classes of fault that are on. Each is drawn with one chance in four, and fires one time in four: rare
/// combinations come up, and so do runs without most of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Faults {
    /// Calls fail with `EINTR`.
    pub interrupts: bool,
    /// Sockets without news are reported readable.
    pub spurious_events: bool,
    /// Sockets that are gone are reported readable.
    pub stale_events: bool,
    /// Edges are told a poll later than others that came after them.
    pub late_events: bool,
    /// Loops that have something to do come to it late: others go first, or time passes.
    pub stalls: bool,
    /// The network loses connections: `ETIMEDOUT` here, a reset there.
    pub losses: bool,
    /// Reads bring less than has arrived; the rest is an edge of its own.
    pub short_reads: bool,
    /// Writes are taken in pieces, or not at all, although there is room.
    pub short_writes: bool,
    /// Accepts fail with `ECONNABORTED`, `EMFILE`, `ENFILE`, `ENOBUFS` or `ENOMEM`.
    pub accept_errors: bool,
    /// Sockets cannot be taken into the poll (`ENOSPC`).
    pub register_errors: bool,
    /// Pipes cannot be opened (`EMFILE`).
    pub pipe_errors: bool,
}

impl Faults {
    /// The faults of one seed.
    pub const fn draw(random: &mut Random) -> Self {
        Self {
            interrupts: random.once_in(4),
            spurious_events: random.once_in(4),
            stale_events: random.once_in(4),
            late_events: random.once_in(4),
            stalls: random.once_in(4),
            losses: random.once_in(4),
            short_reads: random.once_in(4),
            short_writes: random.once_in(4),
            accept_errors: random.once_in(4),
            register_errors: random.once_in(4),
            pipe_errors: random.once_in(4),
        }
    }
}
