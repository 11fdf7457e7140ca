//! Slots: values in numbered places, each place with a generation.
//!
//! For connections, sessions and timers: something outside (the kernel's event, a message, a timer) holds a small
//! copyable [`Key`] and asks for the value later, when the value may be gone and its place taken by another. The one
//! idea: a key names place *and* generation, the generation changes at every removal, so a late key finds nothing
//! instead of a stranger.
//!
//! Places live in chunks of [`CHUNK_SLOTS`]. Growth adds a chunk and copies no value; a value stays at its address
//! until it is removed; memory beyond the values is at most one chunk that is partly empty. Free places are chained
//! through their own memory, last freed first, because that one is most likely still in the cache.
//!
//! Deliberately absent: shrinking (a server that held that many connections once will again), a key that owns its
//! value, and `Index` (a stale key is ordinary and must not panic).
//!
//! Invariants:
//! * `len` places below `index_end` are used, the others below it are on the free chain, none at or above it is used.
//! * A generation is never 0 and never `u32::MAX`.
//! * A key resolves to the value it was returned for, or to nothing, until its place was reused 2^32 - 2 times.

use std::fmt;
use std::num::NonZeroU32;

/// Highest index a slot can have: tokens keep two bits of the 32 for themselves.
pub const INDEX_MAX: u32 = (1 << 30) - 1;

/// Places in one chunk.
///
/// A power of two, so that the place inside a chunk is a mask that needs no bounds check. 1,024 keeps the memory that
/// may lie idle near 100 KiB for values of 100 bytes.
pub const CHUNK_SLOTS: u32 = 1 << CHUNK_SHIFT;

/// Names one value in one [`Slots`]: a place and the generation of what lives there.
///
/// `Option<Key>` is as small as `Key`: 8 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    index: u32,
    generation: NonZeroU32,
}

impl Key {
    /// Puts a key together again from what a token carried.
    ///
    /// Any two numbers are accepted, as they may come from outside; those that name nothing resolve to nothing. A
    /// generation of 0 is kept as `u32::MAX`: no slot ever has either.
    #[inline]
    #[must_use]
    pub const fn new(index: u32, generation: u32) -> Self {
        let generation = match NonZeroU32::new(generation) {
            Some(generation) => generation,
            None => GENERATION_NEVER,
        };
        Self { index, generation }
    }

    /// The place; at most [`INDEX_MAX`] for a key that came from [`Slots`].
    #[inline]
    #[must_use]
    pub const fn index(self) -> u32 {
        self.index
    }

    /// The generation of the place; neither 0 nor `u32::MAX` for a key that came from [`Slots`].
    #[inline]
    #[must_use]
    pub const fn generation(self) -> u32 {
        self.generation.get()
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.index, self.generation)
    }
}

/// Values in numbered places with generations. See the module page.
pub struct Slots<T> {
    chunks: Vec<Box<Chunk<T>>>,
    /// First place of the free chain, or `INDEX_NONE`.
    free_head: u32,
    /// One past the highest place ever used.
    index_end: u32,
    len: u32,
    count_max: u32,
}

impl<T> Slots<T> {
    /// Memory of one place, used or free: what budgets per connection count with.
    pub const SLOT_BYTES: usize = size_of::<Slot<T>>();

    /// Makes room for at most `count_max` values; nothing is allocated before the first insertion.
    ///
    /// A bound above `INDEX_MAX + 1` is taken as `INDEX_MAX + 1`; [`count_max`](Self::count_max) tells.
    #[must_use]
    pub const fn new(count_max: u32) -> Self {
        let count_max = if count_max > INDEX_MAX {
            INDEX_MAX + 1
        } else {
            count_max
        };
        Self {
            chunks: Vec::new(),
            free_head: INDEX_NONE,
            index_end: 0,
            len: 0,
            count_max,
        }
    }

    /// Puts a value into the place freed last, or into a fresh one.
    ///
    /// Allocates only when a chunk is used for the first time.
    ///
    /// # Errors
    ///
    /// The value comes back when `count_max` values are held.
    #[inline]
    pub fn insert(&mut self, value: T) -> Result<Key, T> {
        match self.vacancy() {
            Some(key) => {
                self.occupy(key, value);
                Ok(key)
            }
            None => Err(value),
        }
    }

    /// Like [`insert`](Self::insert), for a value that has to know its own key.
    ///
    /// Returns `None`, and does not call `make`, when `count_max` values are held. If `make` panics nothing changed.
    #[inline]
    pub fn insert_with(&mut self, make: impl FnOnce(Key) -> T) -> Option<Key> {
        let key = self.vacancy()?;
        let value = make(key);
        self.occupy(key, value);
        Some(key)
    }

    /// The value of `key`, unless it is gone.
    #[inline]
    #[must_use]
    pub fn get(&self, key: Key) -> Option<&T> {
        match self.slot(key.index)? {
            Slot::Used { generation, value } if *generation == key.generation => Some(value),
            _ => None,
        }
    }

    /// The value of `key` for changing, unless it is gone.
    #[inline]
    #[must_use]
    pub fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        match self.slot_mut(key.index)? {
            Slot::Used { generation, value } if *generation == key.generation => Some(value),
            _ => None,
        }
    }

    /// Takes the value of `key` out; from here on the key resolves to nothing.
    #[inline]
    pub fn remove(&mut self, key: Key) -> Option<T> {
        let next = self.free_head;
        let slot = self.slot_mut(key.index)?;
        match slot {
            Slot::Used { generation, .. } if *generation == key.generation => {}
            _ => return None,
        }
        let freed = Slot::Free {
            generation: generation_after(key.generation),
            next,
        };
        let Slot::Used { value, .. } = std::mem::replace(slot, freed) else {
            unreachable!("the slot was matched as used a few lines above");
        };
        self.free_head = key.index;
        self.len -= 1;
        Some(value)
    }

    /// The key of the value that lives at `index`, if one does.
    #[inline]
    #[must_use]
    pub fn key_at(&self, index: u32) -> Option<Key> {
        match self.slot(index)? {
            Slot::Used { generation, .. } => Some(Key {
                index,
                generation: *generation,
            }),
            Slot::Free { .. } => None,
        }
    }

    /// Values held now.
    #[inline]
    #[must_use]
    pub const fn len(&self) -> u32 {
        self.len
    }

    /// Whether no value is held.
    #[inline]
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether the next insertion would be refused.
    #[inline]
    #[must_use]
    pub const fn is_full(&self) -> bool {
        self.len == self.count_max
    }

    /// Values that may be held at once.
    #[inline]
    #[must_use]
    pub const fn count_max(&self) -> u32 {
        self.count_max
    }

    /// Places allocated; a multiple of [`CHUNK_SLOTS`], so it may exceed `count_max`.
    #[must_use]
    pub const fn capacity(&self) -> u32 {
        self.chunks.len() as u32 * CHUNK_SLOTS
    }

    /// One past the highest place ever used: the end of a walk by [`key_at`](Self::key_at).
    #[inline]
    #[must_use]
    pub const fn index_end(&self) -> u32 {
        self.index_end
    }

    /// Every value with its key, by rising index. Visits all places ever used, so it is for rare walks.
    pub fn iter(&self) -> impl Iterator<Item = (Key, &T)> {
        (0..self.index_end).filter_map(|index| match self.slot(index)? {
            Slot::Used { generation, value } => Some((
                Key {
                    index,
                    generation: *generation,
                },
                value,
            )),
            Slot::Free { .. } => None,
        })
    }

    /// Every key, by rising index. To change the set during a walk use [`key_at`](Self::key_at).
    pub fn keys(&self) -> impl Iterator<Item = Key> {
        self.iter().map(|(key, _)| key)
    }

    /// The value at `index` whatever its generation: for lists linked by index whose owner knows that the link is
    /// fresh.
    #[inline]
    pub(crate) fn get_at_mut(&mut self, index: u32) -> Option<&mut T> {
        match self.slot_mut(index)? {
            Slot::Used { value, .. } => Some(value),
            Slot::Free { .. } => None,
        }
    }

    /// The key that the next insertion will return.
    #[inline]
    fn vacancy(&self) -> Option<Key> {
        if self.is_full() {
            return None;
        }
        match self.slot(self.free_head) {
            Some(Slot::Free { generation, .. }) => Some(Key {
                index: self.free_head,
                generation: *generation,
            }),
            // The chain is empty, hence every place below `index_end` is used and the next one is below `count_max`.
            _ => Some(Key {
                index: self.index_end,
                generation: GENERATION_FIRST,
            }),
        }
    }

    /// Puts `value` where [`vacancy`](Self::vacancy) pointed.
    #[inline]
    fn occupy(&mut self, key: Key, value: T) {
        if key.index == self.index_end {
            if key.index == self.capacity() {
                self.chunks.push(new_chunk());
            }
            self.index_end += 1;
        }
        let used = Slot::Used {
            generation: key.generation,
            value,
        };
        let slot = &mut self.chunks[chunk_of(key.index)][place_of(key.index)];
        // A fresh place carries `INDEX_NONE`, which is what the head is when a fresh place is taken.
        if let Slot::Free { next, .. } = std::mem::replace(slot, used) {
            self.free_head = next;
        }
        self.len += 1;
    }

    #[inline]
    fn slot(&self, index: u32) -> Option<&Slot<T>> {
        Some(&self.chunks.get(chunk_of(index))?[place_of(index)])
    }

    #[inline]
    fn slot_mut(&mut self, index: u32) -> Option<&mut Slot<T>> {
        Some(&mut self.chunks.get_mut(chunk_of(index))?[place_of(index)])
    }
}

impl<T> fmt::Debug for Slots<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slots")
            .field("len", &self.len)
            .field("index_end", &self.index_end)
            .field("count_max", &self.count_max)
            .finish_non_exhaustive()
    }
}

/// One place.
///
/// Which variant it is costs nothing. Where `T` is aligned to 8 the compiler puts the mark beside the generation, into
/// bytes that alignment leaves over, so a look-up touches one cache line. Otherwise it marks `Free` by a value that
/// the used variant cannot have: a generation of 0, or an impossible value of a field of `T` when `T` offers more of
/// those. A test pins the sizes, as the language promises none of this.
enum Slot<T> {
    Used {
        generation: NonZeroU32,
        value: T,
    },
    Free {
        /// What the next value here will have.
        generation: NonZeroU32,
        next: u32,
    },
}

type Chunk<T> = [Slot<T>; CHUNK_SLOTS as usize];

fn new_chunk<T>() -> Box<Chunk<T>> {
    let free = || Slot::Free {
        generation: GENERATION_FIRST,
        next: INDEX_NONE,
    };
    let slots: Vec<Slot<T>> = std::iter::repeat_with(free)
        .take(CHUNK_SLOTS as usize)
        .collect();
    match slots.try_into() {
        Ok(chunk) => chunk,
        Err(_) => unreachable!("the iterator was cut to the length of a chunk"),
    }
}

#[inline]
const fn chunk_of(index: u32) -> usize {
    (index >> CHUNK_SHIFT) as usize
}

#[inline]
const fn place_of(index: u32) -> usize {
    (index & (CHUNK_SLOTS - 1)) as usize
}

/// The generation that follows, leaving out 0 and `u32::MAX`.
#[inline]
const fn generation_after(generation: NonZeroU32) -> NonZeroU32 {
    match generation.checked_add(1) {
        Some(next) if next.get() != GENERATION_NEVER.get() => next,
        _ => GENERATION_FIRST,
    }
}

const CHUNK_SHIFT: u32 = 10;
const GENERATION_FIRST: NonZeroU32 = NonZeroU32::MIN;
const GENERATION_NEVER: NonZeroU32 = NonZeroU32::MAX;

/// No place: beyond `INDEX_MAX`, so that no chunk has it.
const INDEX_NONE: u32 = u32::MAX;

#[cfg(test)]
mod tests;
