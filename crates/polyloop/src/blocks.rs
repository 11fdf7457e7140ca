//! Kept bytes: what could not be written, and input that a handler left.
//!
//! Buffers belong to the loop. A connection owns nothing but the index of a chain's first block, four bytes, and
//! [`Chain::EMPTY`] while it owes nothing; blocks come from one pool per loop and go back to it. The pool keeps a
//! few free blocks and gives the rest back to the allocator, so that a burst does not stay in memory for ever.

use std::io::IoSlice;

/// Bytes in one block. One page: large enough that a full watermark (64 KiB) is one vectored write of 16 slices,
/// small enough that a session which is a few bytes behind does not hold much.
pub(crate) const BLOCK_BYTES: usize = 4096;

/// How many free blocks the pool keeps (1 MiB).
const FREE_KEPT: usize = 256;

/// A queue of kept bytes, by the index of its first block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Chain(u32);

impl Chain {
    /// Nothing kept.
    pub(crate) const EMPTY: Self = Self(NONE);

    #[inline]
    pub(crate) const fn is_empty(self) -> bool {
        self.0 == NONE
    }
}

const NONE: u32 = u32::MAX;

#[derive(Debug)]
struct Block {
    bytes: Option<Box<[u8; BLOCK_BYTES]>>,
    next: u32,
    start: u16,
    end: u16,
    /// Of the first block of a chain only: the last block, and the bytes in the whole chain.
    tail: u32,
    total: usize,
}

/// One loop's blocks.
#[derive(Debug)]
pub(crate) struct Blocks {
    blocks: Vec<Block>,
    /// In no chain, memory at hand: at most `free_kept`.
    free: Vec<u32>,
    /// [`FREE_KEPT`], or none while memory is short.
    free_kept: usize,
    /// In no chain, memory given back.
    bare: Vec<u32>,
    kept_bytes: usize,
}

impl Blocks {
    pub(crate) const fn new() -> Self {
        Self {
            blocks: Vec::new(),
            free: Vec::new(),
            free_kept: FREE_KEPT,
            bare: Vec::new(),
            kept_bytes: 0,
        }
    }

    /// Bytes in all chains.
    pub(crate) const fn kept_bytes(&self) -> usize {
        self.kept_bytes
    }

    /// Blocks in all chains.
    pub(crate) const fn used(&self) -> usize {
        self.blocks.len() - self.free.len() - self.bare.len()
    }

    /// Bytes in `chain`.
    #[inline]
    pub(crate) fn len(&self, chain: Chain) -> usize {
        if chain.is_empty() {
            0
        } else {
            self.blocks[chain.0 as usize].total
        }
    }

    /// Adds `bytes` at the end of `chain`.
    pub(crate) fn append(&mut self, chain: &mut Chain, mut bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        if chain.is_empty() {
            let first = self.take_block();
            self.blocks[first as usize].tail = first;
            *chain = Chain(first);
        }
        let head = chain.0 as usize;
        self.blocks[head].total += bytes.len();
        self.kept_bytes += bytes.len();
        while !bytes.is_empty() {
            let tail = self.blocks[head].tail as usize;
            let block = &mut self.blocks[tail];
            let end = usize::from(block.end);
            let count = bytes.len().min(BLOCK_BYTES - end);
            if let Some(memory) = &mut block.bytes {
                memory[end..end + count].copy_from_slice(&bytes[..count]);
            }
            block.end += count as u16;
            bytes = &bytes[count..];
            if !bytes.is_empty() {
                let next = self.take_block();
                self.blocks[tail].next = next;
                self.blocks[head].tail = next;
            }
        }
    }

    /// The first slices of `chain`, as many as fit into `slices`; returns how many.
    pub(crate) fn slices<'a>(&'a self, chain: Chain, slices: &mut [IoSlice<'a>]) -> usize {
        let mut at = chain.0;
        let mut count = 0;
        while at != NONE && count < slices.len() {
            let block = &self.blocks[at as usize];
            if let Some(memory) = &block.bytes {
                slices[count] =
                    IoSlice::new(&memory[usize::from(block.start)..usize::from(block.end)]);
                count += 1;
            }
            at = block.next;
        }
        count
    }

    /// Drops the first `count` bytes of `chain`, which has at least that many.
    pub(crate) fn consume(&mut self, chain: &mut Chain, mut count: usize) {
        debug_assert!(count <= self.len(*chain));
        while count > 0 && !chain.is_empty() {
            let head = chain.0 as usize;
            let block = &mut self.blocks[head];
            let held = usize::from(block.end - block.start);
            let taken = count.min(held);
            block.start += taken as u16;
            block.total -= taken;
            self.kept_bytes -= taken;
            count -= taken;
            if taken == held {
                let (next, tail, total) = (block.next, block.tail, block.total);
                self.give_block(chain.0);
                *chain = Chain(next);
                if next != NONE {
                    self.blocks[next as usize].tail = tail;
                    self.blocks[next as usize].total = total;
                }
            }
        }
    }

    /// Copies the whole chain to the start of `buffer` and drops it; returns its length.
    ///
    /// The caller has made sure that it fits.
    pub(crate) fn take_into(&mut self, chain: &mut Chain, buffer: &mut [u8]) -> usize {
        let mut filled = 0;
        let mut at = chain.0;
        while at != NONE {
            let block = &self.blocks[at as usize];
            if let Some(memory) = &block.bytes {
                let held = &memory[usize::from(block.start)..usize::from(block.end)];
                buffer[filled..filled + held.len()].copy_from_slice(held);
                filled += held.len();
            }
            at = block.next;
        }
        self.drop_chain(chain);
        filled
    }

    /// Gives all blocks of `chain` back.
    pub(crate) fn drop_chain(&mut self, chain: &mut Chain) {
        self.consume(chain, self.len(*chain));
    }

    /// Gives the memory of free blocks back, and with it the habit of keeping some, until [`keep_free`](Self::keep_free).
    pub(crate) fn release_free(&mut self) {
        self.free_kept = 0;
        for index in self.free.drain(..) {
            self.blocks[index as usize].bytes = None;
            self.bare.push(index);
        }
    }

    /// Keeps free blocks at hand again.
    pub(crate) const fn keep_free(&mut self) {
        self.free_kept = FREE_KEPT;
    }

    fn take_block(&mut self) -> u32 {
        let index = self
            .free
            .pop()
            .or_else(|| self.bare.pop())
            .unwrap_or_else(|| {
                self.blocks.push(Block {
                    bytes: None,
                    next: NONE,
                    start: 0,
                    end: 0,
                    tail: NONE,
                    total: 0,
                });
                (self.blocks.len() - 1) as u32
            });
        let block = &mut self.blocks[index as usize];
        block
            .bytes
            .get_or_insert_with(|| Box::new([0; BLOCK_BYTES]));
        (block.next, block.start, block.end, block.tail, block.total) = (NONE, 0, 0, NONE, 0);
        index
    }

    fn give_block(&mut self, index: u32) {
        if self.free.len() < self.free_kept {
            self.free.push(index);
        } else {
            self.blocks[index as usize].bytes = None;
            self.bare.push(index);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_all(blocks: &Blocks, chain: Chain) -> Vec<u8> {
        let mut slices = [IoSlice::new(&[]); 64];
        let count = blocks.slices(chain, &mut slices);
        slices[..count]
            .iter()
            .flat_map(|slice| slice.to_vec())
            .collect()
    }

    #[test]
    fn a_chain_is_a_queue_of_bytes() {
        // Goal: no byte lost, doubled or moved, no block leaked. Method: appends and consumes of awkward sizes on
        // three chains at once, against a VecDeque each.
        let mut blocks = Blocks::new();
        let mut chains = [Chain::EMPTY; 3];
        let mut models = [const { std::collections::VecDeque::<u8>::new() }; 3];
        let mut seed = 7u32;
        for step in 0..20_000u32 {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let which = (seed >> 8) as usize % 3;
            let size = (seed >> 12) as usize % 9_000;
            if (seed >> 30) & 1 == 0 && models[which].len() < 100_000 {
                let bytes: Vec<u8> = (0..size).map(|i| (i as u32 ^ step) as u8).collect();
                blocks.append(&mut chains[which], &bytes);
                models[which].extend(&bytes);
            } else {
                let count = size.min(models[which].len());
                blocks.consume(&mut chains[which], count);
                models[which].drain(..count);
            }
            assert_eq!(blocks.len(chains[which]), models[which].len());
            if step % 97 == 0 {
                assert_eq!(
                    read_all(&blocks, chains[which]),
                    models[which].iter().copied().collect::<Vec<_>>()
                );
            }
        }
        let total: usize = models.iter().map(std::collections::VecDeque::len).sum();
        assert_eq!(blocks.kept_bytes(), total);
        for chain in &mut chains {
            blocks.drop_chain(chain);
            assert!(chain.is_empty());
        }
        assert_eq!((blocks.used(), blocks.kept_bytes()), (0, 0));
        assert!(blocks.free.len() <= FREE_KEPT);
    }

    #[test]
    fn under_pressure_no_free_block_is_kept() {
        // Goal: what is not used goes back, what is used stays whole. Method: two chains, one dropped before and one after.
        let held = |blocks: &Blocks| blocks.blocks.iter().filter(|b| b.bytes.is_some()).count();
        let mut blocks = Blocks::new();
        let (mut kept, mut first, mut second) = (Chain::EMPTY, Chain::EMPTY, Chain::EMPTY);
        blocks.append(&mut kept, &[7; 5000]);
        blocks.append(&mut first, &[8; 9000]);
        blocks.append(&mut second, &[9; 9000]);
        blocks.drop_chain(&mut first);
        assert_eq!((held(&blocks), blocks.free.len()), (8, 3));
        blocks.release_free();
        assert_eq!(held(&blocks), 5);
        blocks.drop_chain(&mut second);
        assert_eq!((held(&blocks), blocks.used()), (2, 2));
        assert_eq!(read_all(&blocks, kept), [7; 5000]);
        blocks.keep_free();
        blocks.append(&mut first, &[1]);
        assert_eq!(blocks.used(), 3);
        blocks.drop_chain(&mut first);
        assert_eq!((held(&blocks), blocks.used()), (3, 2));
    }

    #[test]
    fn taking_into_a_buffer_empties_the_chain() {
        // Goal: retained input comes back in order. Method: one chain of three blocks.
        let mut blocks = Blocks::new();
        let mut chain = Chain::EMPTY;
        let bytes: Vec<u8> = (0..10_000u32).map(|i| i as u8).collect();
        blocks.append(&mut chain, &bytes);
        blocks.consume(&mut chain, 5);
        let mut buffer = vec![0; 16_384];
        assert_eq!(blocks.take_into(&mut chain, &mut buffer), 9_995);
        assert_eq!(buffer[..9_995], bytes[5..]);
        assert!(chain.is_empty() && blocks.used() == 0);
    }
}
