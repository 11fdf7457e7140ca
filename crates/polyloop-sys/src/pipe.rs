//! A pipe for moving bytes from one socket to another without copying them through this process.
//!
//! `splice(2)` hands pages from a socket's queue to the pipe and from the pipe to the other socket. The pipe counts what is
//! in it, since nothing else can tell: its capacity is in pages, not bytes, and a page may hold much more than 4 KiB after
//! receive offload (sozu found 121,829 bytes in a pipe of 65,536), so nothing here relies on a size.
//!
//! Deliberately absent: deciding when splicing pays.

use std::io;
use std::os::fd::OwnedFd;

use rustix::pipe::{PipeFlags, SpliceFlags};

use crate::stream::Stream;

/// A pipe, and the number of bytes in it.
#[derive(Debug)]
pub struct Pipe {
    reader: OwnedFd,
    writer: OwnedFd,
    held_bytes: usize,
}

impl Pipe {
    /// Opens a pipe, two descriptors, and asks for room for `capacity_bytes`; the kernel rounds up to a power of two of
    /// pages, and where it refuses (`fs.pipe-max-size`, `fs.pipe-user-pages-soft`) the pipe keeps its default of 64 KiB.
    ///
    /// # Errors
    /// Out of descriptors or memory.
    pub fn open(capacity_bytes: usize) -> io::Result<Self> {
        let (reader, writer) = rustix::pipe::pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC)?;
        // A smaller pipe moves the same bytes with more calls.
        let _ = rustix::pipe::fcntl_setpipe_size(&writer, capacity_bytes);
        Ok(Self {
            reader,
            writer,
            held_bytes: 0,
        })
    }

    /// Bytes in the pipe.
    #[must_use]
    #[inline]
    pub const fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// Moves at most `max` bytes from `stream` into the pipe, once. `Ok(0)` is the peer's FIN.
    ///
    /// # Errors
    /// As splice(2): `WouldBlock` when the socket has nothing, *or* the pipe has no room: ask with an empty pipe.
    #[inline]
    pub fn fill_from(&mut self, stream: &Stream, max: usize) -> io::Result<usize> {
        let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
        let count = rustix::pipe::splice(stream, None, &self.writer, None, max, flags)?;
        self.held_bytes += count;
        Ok(count)
    }

    /// Moves what the pipe holds into `stream`, once, as much as it takes. `more` says that more will follow soon, so that
    /// the kernel may wait with a segment that is not full.
    ///
    /// # Errors
    /// As splice(2): `WouldBlock` when the socket has no room.
    #[inline]
    pub fn drain_to(&mut self, stream: &Stream, more: bool) -> io::Result<usize> {
        let mut flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
        flags.set(SpliceFlags::MORE, more);
        let count = rustix::pipe::splice(&self.reader, None, stream, None, self.held_bytes, flags)?;
        self.held_bytes -= count.min(self.held_bytes);
        Ok(count)
    }

    /// Takes bytes out by copying them, once, as many as fit into `buffer`, or as there are.
    ///
    /// # Errors
    /// As read(2): `WouldBlock` when the pipe is empty.
    pub fn read_into(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = rustix::io::read(&self.reader, buffer)?;
        self.held_bytes -= count.min(self.held_bytes);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_pass_through_in_order_and_are_counted() {
        // Goal: what goes in comes out, and the count is that of the bytes inside. Method: two socket pairs and a pipe between
        // them, until the far end has everything; then a FIN, and nothing.
        let (source, entry) = Stream::pair().unwrap();
        let (exit, sink) = Stream::pair().unwrap();
        let mut pipe = Pipe::open(1 << 20).unwrap();
        let sent: Vec<u8> = (0..300_000u32).map(|at| (at % 251) as u8).collect();
        let (mut pushed, mut got) = (0, Vec::new());
        while got.len() < sent.len() {
            if let Ok(count) = source.send(&sent[pushed..]) {
                pushed += count;
            }
            if pipe.held_bytes() == 0 {
                let filled = pipe.fill_from(&entry, 1 << 20).unwrap_or(0);
                assert_eq!(pipe.held_bytes(), filled);
            }
            let _ = pipe.drain_to(&exit, false);
            let mut buffer = [0; 65_536];
            if let Ok(count) = sink.recv(&mut buffer) {
                got.extend_from_slice(&buffer[..count]);
            }
        }
        assert!(got == sent);
        assert_eq!(pipe.held_bytes(), 0);
        let empty = pipe.fill_from(&entry, 1).unwrap_err();
        assert_eq!(empty.kind(), io::ErrorKind::WouldBlock);
        source.shutdown_write().unwrap();
        assert_eq!(pipe.fill_from(&entry, 1).unwrap(), 0);
    }
}
