//! The backends a session has tried already.
//!
//! One idea: a session tries few, so a short list in 32 bytes serves better than a bit for each of a group's thousand.

/// Backends that must not be chosen again for this session: the last [`Tried::CAPACITY`] that were noted.
///
/// A session that tries more than that may be sent to one of the first again; how often it tries is bounded elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tried {
    indices: [u16; Self::CAPACITY],
    /// How many were noted in all; the next one replaces the oldest.
    noted: u16,
}

impl Tried {
    /// How many are remembered.
    pub const CAPACITY: usize = 15;

    /// None yet.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            indices: [0; Self::CAPACITY],
            noted: 0,
        }
    }

    /// Notes a backend, by index. One that is noted already, or no index of a backend, changes nothing.
    pub fn insert(&mut self, index: usize) {
        let Ok(short) = u16::try_from(index) else {
            return;
        };
        if self.contains(index) {
            return;
        }
        self.indices[usize::from(self.noted) % Self::CAPACITY] = short;
        // Far past any number of retries; if it got there, the list would merely be taken for full.
        self.noted = self.noted.checked_add(1).unwrap_or(Self::CAPACITY as u16);
    }

    /// Whether this backend is among those remembered.
    #[inline]
    #[must_use]
    pub fn contains(&self, index: usize) -> bool {
        self.indices[..self.len()]
            .iter()
            .any(|&tried| usize::from(tried) == index)
    }

    /// How many are remembered.
    #[inline]
    #[must_use]
    pub const fn len(&self) -> usize {
        let noted = self.noted as usize;
        if noted < Self::CAPACITY {
            noted
        } else {
            Self::CAPACITY
        }
    }

    /// Whether none was tried.
    #[inline]
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.noted == 0
    }

    /// Forgets all.
    pub const fn clear(&mut self) {
        self.noted = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remembers_the_last_ones() {
        // Goal: what was noted is found, up to the capacity, then the oldest goes. Method: more than fit.
        let mut tried = Tried::new();
        assert!(tried.is_empty() && !tried.contains(0));
        for index in 0..20 {
            tried.insert(index * 50);
            tried.insert(index * 50);
            for back in 0..Tried::CAPACITY.min(index + 1) {
                assert!(tried.contains((index - back) * 50));
            }
        }
        assert!(!tried.contains(4 * 50) && tried.contains(5 * 50));
        assert_eq!(tried.len(), Tried::CAPACITY);
        tried.clear();
        tried.insert(1 << 16);
        assert!(tried.is_empty() && !tried.contains(1 << 16));
        assert_eq!(size_of::<Tried>(), 32);
    }
}
