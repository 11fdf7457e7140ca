//! Streams that know what they carry: as many bytes as go through, every one checked at the other end.
//!
//! The one idea: a stream repeats a pattern that begins at a place of its own, and its length is a prime. So a byte
//! lost, doubled or meant for another stream shifts what follows, and is found by comparing with memory that fits a
//! cache, which costs the receiver a fraction of what the copy out of the kernel costs.
//!
//! ```text
//!   source:  number of the stream (8 bytes) ── pattern … ── end of stream
//!   sink:                                                    └── bytes received, place of the first wrong one (16 bytes)
//! ```
//!
//! The sink's verdict comes back through the proxy after the end of the stream, so a proxy that cuts a half-closed
//! session fails here too. A shift by a whole pattern is found by the count.
//!
//! Deliberately absent: congestion, pacing and both directions at once.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use polyloop_measure::stats::SplitMix64;

use crate::load::pin;

/// What streams are made of.
#[derive(Debug, Clone)]
pub struct Pattern {
    /// The pattern, and its beginning again, so that a chunk at any place is one slice.
    bytes: Vec<u8>,
}

impl Default for Pattern {
    fn default() -> Self {
        Self::new()
    }
}

impl Pattern {
    /// The pattern; always the same.
    #[must_use]
    pub fn new() -> Self {
        let mut random = SplitMix64::new(PERIOD_BYTES as u64);
        let mut bytes: Vec<u8> = (0..PERIOD_BYTES).map(|_| random.next_u64() as u8).collect();
        bytes.extend_from_within(..CHUNK_BYTES);
        Self { bytes }
    }

    /// `length` bytes of stream `number` after its first `sent`.
    ///
    /// # Panics
    /// When `length` exceeds [`CHUNK_BYTES`].
    #[must_use]
    pub fn slice(&self, number: u64, sent: u64, length: usize) -> &[u8] {
        let period = PERIOD_BYTES as u64;
        let start = ((number % period) * STEP_BYTES + sent % period) % period;
        &self.bytes[start as usize..start as usize + length]
    }
}

/// Sends `bytes` on each stream, one thread each, and waits for the verdicts. Answers the time from the first byte to
/// the last verdict.
///
/// # Errors
/// When a byte is lost, doubled or changed, a stream is cut, or nothing moves for 10 s.
pub fn pour(streams: Vec<TcpStream>, bytes: u64, core: Option<usize>) -> Result<Duration> {
    let pattern = Pattern::new();
    let start = Instant::now();
    thread::scope(|scope| {
        let threads: Vec<_> = (0_u64..)
            .zip(streams)
            .map(|(number, stream)| {
                let pattern = &pattern;
                scope.spawn(move || {
                    pin(core)?;
                    pour_one(stream, number, bytes, pattern)
                        .with_context(|| format!("stream {number}"))
                })
            })
            .collect();
        for thread in threads {
            match thread.join() {
                Ok(outcome) => outcome?,
                Err(_) => bail!("a source panicked"),
            }
        }
        Ok(start.elapsed())
    })
}

fn pour_one(mut stream: TcpStream, number: u64, bytes: u64, pattern: &Pattern) -> Result<()> {
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(&number.to_le_bytes())?;
    let mut sent = 0;
    while sent < bytes {
        let length = (bytes - sent).min(CHUNK_BYTES as u64) as usize;
        match stream.write(pattern.slice(number, sent, length)) {
            Ok(0) => bail!("nothing was taken after {sent} bytes"),
            Ok(count) => sent += count as u64,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error).with_context(|| format!("after {sent} bytes")),
        }
    }
    stream.shutdown(Shutdown::Write)?;
    let mut verdict = [0; 16];
    stream
        .read_exact(&mut verdict)
        .context("the verdict of the sink did not come back")?;
    let (count, wrong) = verdict.split_at(8);
    let number_of = |half: &[u8]| {
        half.iter()
            .rev()
            .fold(0, |sum, &byte| sum << 8 | u64::from(byte))
    };
    let (received, wrong_at) = (number_of(count), number_of(wrong));
    ensure!(
        wrong_at == NOTHING_WRONG,
        "byte {wrong_at} arrived as another than was sent"
    );
    ensure!(
        received == sent,
        "{sent} bytes were sent and {received} arrived"
    );
    ensure!(
        stream.read(&mut verdict)? == 0,
        "something came after the sink had ended the stream"
    );
    Ok(())
}

/// Takes one stream to its end and answers what arrived. A wrong byte is no error here: it is in the verdict, and the
/// source says what it means.
///
/// # Errors
/// When the stream is cut.
pub fn drain(mut stream: TcpStream, pattern: &Pattern) -> Result<()> {
    let mut number = [0; 8];
    stream
        .read_exact(&mut number)
        .context("no number of a stream")?;
    let number = u64::from_le_bytes(number);
    let mut buffer = vec![0; CHUNK_BYTES];
    let mut received = 0_u64;
    let mut wrong_at = NOTHING_WRONG;
    loop {
        let count = match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(error).with_context(|| format!("after {received} bytes")),
        };
        let expected = pattern.slice(number, received, count);
        if wrong_at == NOTHING_WRONG && buffer[..count] != *expected {
            let first = buffer
                .iter()
                .zip(expected)
                .position(|(is, should)| is != should);
            wrong_at = received + first.unwrap_or(0) as u64;
        }
        received += count as u64;
    }
    let verdict = [received.to_le_bytes(), wrong_at.to_le_bytes()].concat();
    stream
        .write_all(&verdict)
        .context("the verdict cannot be sent")?;
    Ok(())
}

/// Most that is written or read at once; what iperf3 takes.
pub const CHUNK_BYTES: usize = 128 * 1024;

/// A prime beside 256 KiB: with the chunk and the copy in the sink it fits a second-level cache.
const PERIOD_BYTES: usize = 262_147;

/// Where streams begin, one after the other, in the pattern.
const STEP_BYTES: u64 = 65_537;

const NOTHING_WRONG: u64 = u64::MAX;

const PATIENCE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    type Fault = Box<dyn Fn(&mut Vec<u8>, usize) + Send + Sync>;

    /// A sink behind something that may change what passes: `meddle` gets each piece and how much passed before.
    fn pour_through(meddle: impl Fn(&mut Vec<u8>, usize) + Send + Sync) -> Result<Duration> {
        let sink = TcpListener::bind("127.0.0.1:0").unwrap();
        let front = TcpListener::bind("127.0.0.1:0").unwrap();
        let source = TcpStream::connect(front.local_addr().unwrap()).unwrap();
        let (mut from, _) = front.accept().unwrap();
        let mut to = TcpStream::connect(sink.local_addr().unwrap()).unwrap();
        let (end, _) = sink.accept().unwrap();
        thread::scope(|scope| {
            let meddle = &meddle;
            scope.spawn(move || drain(end, &Pattern::new()));
            scope.spawn(move || {
                let mut passed = 0;
                let mut buffer = vec![0; 10_000];
                loop {
                    let count = from.read(&mut buffer).unwrap();
                    if count == 0 {
                        break;
                    }
                    let mut piece = buffer[..count].to_vec();
                    meddle(&mut piece, passed);
                    to.write_all(&piece).unwrap();
                    passed += count;
                }
                to.shutdown(Shutdown::Write).unwrap();
                let mut verdict = Vec::new();
                to.read_to_end(&mut verdict).unwrap();
                from.write_all(&verdict).unwrap();
            });
            pour(vec![source], 600_000, None)
        })
    }

    #[test]
    fn whole_streams_pass() {
        // Goal: an honest way is none to complain about, past the end of the pattern; by a relay that changes nothing.
        pour_through(|_, _| {}).unwrap();
    }

    #[test]
    fn every_fault_is_loud() {
        // Goal: a byte changed, lost or doubled, and a piece of a whole period lost, are each an error; by meddling.
        let once = |passed: usize, piece: &[u8]| (passed..passed + piece.len()).contains(&300_000);
        let faults: [Fault; 4] = [
            Box::new(move |piece, passed| {
                if once(passed, piece) {
                    piece[0] ^= 1;
                }
            }),
            Box::new(move |piece, passed| {
                if once(passed, piece) {
                    piece.remove(0);
                }
            }),
            Box::new(move |piece, passed| {
                if once(passed, piece) {
                    piece.insert(0, piece[0]);
                }
            }),
            Box::new(|piece, passed| {
                let end = passed + piece.len();
                let cut = |at: usize| at.clamp(passed, end) - passed;
                piece.drain(cut(100_008)..cut(100_008 + PERIOD_BYTES));
            }),
        ];
        for (index, fault) in faults.into_iter().enumerate() {
            assert!(pour_through(fault).is_err(), "fault {index}");
        }
    }

    #[test]
    fn streams_begin_at_different_places() {
        // Goal: bytes of one stream are wrong on another, by the first bytes of a hundred streams.
        let pattern = Pattern::new();
        let starts: std::collections::BTreeSet<&[u8]> = (0..100)
            .map(|number| pattern.slice(number, 0, 32))
            .collect();
        assert_eq!(starts.len(), 100);
    }
}
