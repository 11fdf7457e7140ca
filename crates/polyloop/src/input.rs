//! The bytes a handler is given.

/// Bytes that have arrived and were not taken yet, in one slice.
///
/// They live in the loop's read buffer. A slice of them that goes straight to [`Ctx::write`](crate::Ctx::write) is
/// sent from there, without a copy.
#[derive(Debug)]
pub struct Input<'a> {
    bytes: &'a [u8],
    taken: usize,
    is_last: bool,
}

impl<'a> Input<'a> {
    pub(crate) const fn new(bytes: &'a [u8], is_last: bool) -> Self {
        Self {
            bytes,
            taken: 0,
            is_last,
        }
    }

    /// What has not been taken yet, without taking it.
    #[must_use]
    pub fn bytes(&self) -> &'a [u8] {
        &self.bytes[self.taken..]
    }

    /// How many bytes have not been taken yet.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.bytes.len() - self.taken
    }

    /// Whether everything has been taken.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether this is all that can be had in this turn.
    #[must_use]
    pub const fn is_last(&self) -> bool {
        self.is_last
    }

    /// Takes everything.
    pub fn take_all(&mut self) -> &'a [u8] {
        self.take(self.len())
    }

    /// Takes the first `count` bytes, or all if there are fewer.
    pub fn take(&mut self, count: usize) -> &'a [u8] {
        let end = self.taken + count.min(self.len());
        let taken = &self.bytes[self.taken..end];
        self.taken = end;
        taken
    }

    /// Takes up to and including the first `end` byte; `None`, and nothing is taken, while there is none.
    pub fn take_through(&mut self, end: u8) -> Option<&'a [u8]> {
        let at = self.bytes().iter().position(|&byte| byte == end)?;
        Some(self.take(at + 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn taking_leaves_the_rest() {
        // Goal: framing never loses a byte. Method: take by line, by count and beyond the end.
        let mut input = Input::new(b"ab\ncdef", true);
        assert_eq!(input.take_through(b'\n'), Some(&b"ab\n"[..]));
        assert_eq!(input.take_through(b'\n'), None);
        assert_eq!(input.take(2), b"cd");
        assert_eq!(input.bytes(), b"ef");
        assert_eq!(input.take(99), b"ef");
        assert!(input.is_empty() && input.take_all().is_empty());
    }
}
