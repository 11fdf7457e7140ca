//! What a handler wrote during one callback, before it goes to the kernel.
//!
//! Bytes that lie in the loop's read buffer are only remembered by their place there, so that an echo or a proxy
//! sends them without a copy; everything else is gathered in one scratch buffer, so that many small writes become
//! one system call.

use crate::token::Side;
use std::io::IoSlice;

/// Where a run of written bytes lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Run {
    /// In the read buffer, from..to.
    Input(usize, usize),
    /// In the scratch buffer, from..to.
    Scratch(usize, usize),
}

/// The output of one callback; reused for every callback of a loop.
#[derive(Debug)]
pub(crate) struct Outbox {
    scratch: Vec<u8>,
    runs: [Vec<Run>; 2],
    bytes: [usize; 2],
    /// Address and length of the input that the callback was given.
    input: (usize, usize),
}

/// Scratch space that is kept from callback to callback.
const SCRATCH_KEPT_BYTES: usize = 64 * 1024;

impl Outbox {
    pub(crate) fn new() -> Self {
        Self {
            scratch: Vec::with_capacity(SCRATCH_KEPT_BYTES),
            runs: [Vec::with_capacity(16), Vec::with_capacity(16)],
            bytes: [0; 2],
            input: (0, 0),
        }
    }

    /// Empties it for the next callback, which is given `input`.
    #[inline]
    pub(crate) fn begin(&mut self, input: &[u8]) {
        self.scratch.clear();
        for runs in &mut self.runs {
            runs.clear();
        }
        self.bytes = [0; 2];
        self.input = (input.as_ptr() as usize, input.len());
    }

    /// Takes `bytes` for `side`.
    #[inline]
    pub(crate) fn write(&mut self, side: Side, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let runs = &mut self.runs[side.index()];
        self.bytes[side.index()] += bytes.len();
        // Only addresses are compared, nothing is read through them: a slice within the input is the input.
        let offset = (bytes.as_ptr() as usize).wrapping_sub(self.input.0);
        let run = if offset < self.input.1 && offset + bytes.len() <= self.input.1 {
            Run::Input(offset, offset + bytes.len())
        } else {
            let from = self.scratch.len();
            self.scratch.extend_from_slice(bytes);
            Run::Scratch(from, self.scratch.len())
        };
        match (runs.last_mut(), run) {
            (Some(Run::Input(_, end)), Run::Input(from, to)) if *end == from => *end = to,
            (Some(Run::Scratch(_, end)), Run::Scratch(from, to)) if *end == from => *end = to,
            _ => runs.push(run),
        }
    }

    /// Drops what was written to `side` in this callback.
    pub(crate) fn forget(&mut self, side: Side) {
        self.runs[side.index()].clear();
        self.bytes[side.index()] = 0;
    }

    /// Bytes written to `side` in this callback.
    #[inline]
    pub(crate) const fn len(&self, side: Side) -> usize {
        self.bytes[side.index()]
    }

    /// The bytes of `side`, if they lie in one piece.
    #[inline]
    pub(crate) fn whole<'a>(&'a self, side: Side, input: &'a [u8]) -> Option<&'a [u8]> {
        match self.runs[side.index()].as_slice() {
            [run] => Some(self.resolve(*run, input)),
            _ => None,
        }
    }

    /// The first slices of `side`, as many as fit; returns how many.
    pub(crate) fn slices<'a>(
        &'a self,
        side: Side,
        input: &'a [u8],
        slices: &mut [IoSlice<'a>],
    ) -> usize {
        let runs = &self.runs[side.index()];
        let count = runs.len().min(slices.len());
        for (slice, run) in slices.iter_mut().zip(runs) {
            *slice = IoSlice::new(self.resolve(*run, input));
        }
        count
    }

    /// Gives `keep` every piece of `side` after the first `skip` bytes.
    pub(crate) fn each_after(
        &self,
        side: Side,
        input: &[u8],
        mut skip: usize,
        mut keep: impl FnMut(&[u8]),
    ) {
        for run in &self.runs[side.index()] {
            let piece = self.resolve(*run, input);
            let skipped = skip.min(piece.len());
            skip -= skipped;
            if skipped < piece.len() {
                keep(&piece[skipped..]);
            }
        }
    }

    /// Forgets everything and gives back scratch space beyond the usual.
    pub(crate) fn finish(&mut self) {
        self.begin(&[]);
        if self.scratch.capacity() > SCRATCH_KEPT_BYTES {
            self.scratch.shrink_to(SCRATCH_KEPT_BYTES);
        }
    }

    #[inline]
    fn resolve<'a>(&'a self, run: Run, input: &'a [u8]) -> &'a [u8] {
        match run {
            Run::Input(from, to) => &input[from..to],
            Run::Scratch(from, to) => &self.scratch[from..to],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn input_is_not_copied_and_order_is_kept() {
        // Goal: the bytes come out in the order written, those of the input from where they lie. Method: mix both.
        let input = b"0123456789".to_vec();
        let mut outbox = Outbox::new();
        outbox.begin(&input);
        outbox.write(Side::Front, &input[..4]);
        outbox.write(Side::Front, &input[4..6]);
        assert_eq!(outbox.whole(Side::Front, &input), Some(&input[..6]));
        assert!(outbox.scratch.is_empty());
        outbox.write(Side::Front, b"ab");
        outbox.write(Side::Front, b"cd");
        outbox.write(Side::Back, &input[9..]);
        outbox.write(Side::Front, &input[8..]);
        let mut all = Vec::new();
        outbox.each_after(Side::Front, &input, 0, |piece| all.extend_from_slice(piece));
        assert_eq!(all, b"012345abcd89");
        let mut rest = Vec::new();
        outbox.each_after(Side::Front, &input, 7, |piece| {
            rest.extend_from_slice(piece)
        });
        assert_eq!(rest, b"bcd89");
        assert_eq!((outbox.len(Side::Front), outbox.len(Side::Back)), (12, 1));
        let mut slices = [IoSlice::new(&[]); 2];
        assert_eq!(outbox.slices(Side::Front, &input, &mut slices), 2);
        outbox.begin(&[]);
        assert_eq!(outbox.len(Side::Front), 0);
        assert_eq!(outbox.whole(Side::Front, &[]), None);
    }

    #[test]
    fn a_slice_that_ends_beyond_the_input_is_copied() {
        // Goal: a neighbouring buffer is never taken for the input. Method: one allocation, the input its first half.
        let buffer = b"abcdefgh".to_vec();
        let mut outbox = Outbox::new();
        outbox.begin(&buffer[..4]);
        outbox.write(Side::Front, &buffer[2..6]);
        assert_eq!(outbox.scratch, b"cdef");
    }
}
