//! The 64 bits that the poll gives back with an event.
//!
//! A token names a session by slot index *and* generation, and which of its sockets the event is for, so that an
//! event for a session that is gone resolves to nothing even when its slot has been taken again in the same batch.
//! Pointers are never put into tokens: a late event may be wrong, but it can never be wild.
//!
//! ```text
//!  63            32 31 30 29             0
//! +----------------+-----+----------------+
//! |   generation   |kind |     index      |
//! +----------------+-----+----------------+
//!   kind 0: front socket, 1: back socket, 2: part of the loop itself
//! ```

use polyloop_core::slots::Key;

/// Which of a session's sockets is meant.
///
/// Most sessions own one socket, [`Side::Front`], the one that was accepted. A session that has called
/// [`Ctx::connect`](crate::Ctx::connect) owns a second one, [`Side::Back`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Side {
    /// The socket that was accepted.
    Front,
    /// The socket that the handler connected.
    Back,
}

impl Side {
    /// Both sides, front first.
    pub const ALL: [Self; 2] = [Self::Front, Self::Back];

    /// The other socket of the session.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Front => Self::Back,
            Self::Back => Self::Front,
        }
    }

    /// 0 for the front, 1 for the back.
    #[must_use]
    pub const fn index(self) -> usize {
        match self {
            Self::Front => 0,
            Self::Back => 1,
        }
    }
}

/// What an event of the poll is about; see the module's drawing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Token(u64);

/// A [`Token`], taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// A socket of a session.
    Session(Key, Side),
    /// The listener with this index in the loop's list.
    Listener(u32),
    /// The loop's waker.
    Waker,
}

impl Token {
    /// The token of the loop's waker.
    pub const WAKER: Self = Self(KIND_LOOP | INDEX_MASK);

    /// The token of a session's socket.
    #[must_use]
    pub const fn session(key: Key, side: Side) -> Self {
        let kind = match side {
            Side::Front => KIND_FRONT,
            Side::Back => KIND_BACK,
        };
        Self((key.generation() as u64) << 32 | kind | key.index() as u64 & INDEX_MASK)
    }

    /// The token of the listener with this index; `index` is below 2^30 - 1.
    #[must_use]
    pub const fn listener(index: u32) -> Self {
        Self(KIND_LOOP | index as u64 & INDEX_MASK)
    }

    /// Takes the token apart. `None` for a bit pattern that no constructor makes.
    #[must_use]
    #[inline]
    pub const fn target(self) -> Option<Target> {
        let index = (self.0 & INDEX_MASK) as u32;
        let key = Key::new(index, (self.0 >> 32) as u32);
        match self.0 & KIND_MASK {
            KIND_FRONT => Some(Target::Session(key, Side::Front)),
            KIND_BACK => Some(Target::Session(key, Side::Back)),
            KIND_LOOP if index as u64 == INDEX_MASK => Some(Target::Waker),
            KIND_LOOP => Some(Target::Listener(index)),
            _ => None,
        }
    }

    /// The raw bits, as given to the poll.
    #[must_use]
    pub const fn to_bits(self) -> u64 {
        self.0
    }

    /// A token from raw bits, as given back by the poll.
    #[must_use]
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }
}

const INDEX_MASK: u64 = (1 << 30) - 1;
const KIND_MASK: u64 = 0b11 << 30;
const KIND_FRONT: u64 = 0;
const KIND_BACK: u64 = 0b01 << 30;
const KIND_LOOP: u64 = 0b10 << 30;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_survives_the_round_trip() {
        // Goal: no constructor's token is read as another's. Method: extremes of each field, both ways.
        for index in [0, 1, 77, (1 << 30) - 2] {
            for generation in [1, 2, u32::MAX] {
                for side in Side::ALL {
                    let key = Key::new(index, generation);
                    let token = Token::from_bits(Token::session(key, side).to_bits());
                    assert_eq!(token.target(), Some(Target::Session(key, side)));
                }
            }
            assert_eq!(
                Token::listener(index).target(),
                Some(Target::Listener(index))
            );
        }
        assert_eq!(Token::WAKER.target(), Some(Target::Waker));
        assert_eq!(Token::from_bits(0b11 << 30).target(), None);
    }
}
