//! Gigabytes through one session, every byte compared as it comes.
//!
//! Both ends know what the other sends: a tape that begins again after a length that no buffer divides, so that a lost,
//! doubled or swapped stretch shows at once, at the cost of a comparison.

use super::Records;
use crate::harness::{DEADLINE, eventually, finish, pattern};
use rustix::net::sockopt::set_socket_recv_buffer_size;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

/// What is sent, again and again.
struct Tape {
    /// Twice, so that every stretch of a chunk lies in one piece.
    bytes: Vec<u8>,
}

const PERIOD: usize = (1 << 20) + 4_099;
const CHUNK: usize = 256 << 10;
const GIB: u64 = 1 << 30;

impl Tape {
    fn new() -> Self {
        let once = pattern(PERIOD);
        Self {
            bytes: [&once[..], &once].concat(),
        }
    }

    fn at(&self, position: u64, count: usize) -> &[u8] {
        let start = (position % PERIOD as u64) as usize;
        &self.bytes[start..start + count]
    }

    fn send(&self, mut stream: &TcpStream, total: u64) {
        let mut sent = 0;
        while sent < total {
            let count = (total - sent).min(CHUNK as u64) as usize;
            stream.write_all(self.at(sent, count)).unwrap();
            sent += count as u64;
        }
        finish(stream);
    }

    /// Reads to the end, which must come after exactly so many bytes.
    fn hear(&self, mut stream: &TcpStream, total: u64) {
        let mut buffer = vec![0; CHUNK];
        let mut heard = 0;
        loop {
            let count = stream.read(&mut buffer).unwrap();
            if count == 0 {
                break;
            }
            let expected = self.at(heard, count);
            assert!(&buffer[..count] == expected, "other bytes after {heard}");
            heard += count as u64;
        }
        assert_eq!(heard, total);
    }
}

/// A session in which the client sends so many bytes and finishes, then the backend.
fn exchange(splice: &str, up: u64, down: u64) {
    let records = Records::new("bulk");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = listener.local_addr().unwrap().to_string();
    let server = records.proxy(&[to], &["--splice", splice]);
    let tape = Tape::new();
    let client = server.connect();
    let (backend, _) = listener.accept().unwrap();
    backend.set_read_timeout(Some(DEADLINE)).unwrap();
    backend.set_write_timeout(Some(DEADLINE)).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            tape.hear(&backend, up);
            tape.send(&backend, down);
        });
        tape.send(&client, up);
        tape.hear(&client, down);
    });
    drop((client, backend));
    server.end();
    let record = &records.read()[0];
    assert_eq!(record["state"], "--", "{splice} {record}");
    assert_eq!(record["bytes_up"], up, "{splice}");
    assert_eq!(record["bytes_down"], down, "{splice}");
}

#[test]
fn a_gibibyte_each_way_is_whole() {
    // Goal: counters, buffers and ends hold beyond what fits anywhere. Method: 1 GiB up, a FIN, then 1 GiB down and a FIN;
    // copied, and spliced once it has proved to be bulk.
    for splice in ["auto", "off"] {
        exchange(splice, GIB, GIB);
    }
}

/// A reader that stops where it is told to, and how far both ends have come.
#[derive(Default)]
struct Progress {
    sent: AtomicU64,
    heard: AtomicU64,
    /// The reader goes on to here.
    allowed: AtomicU64,
}

impl Tape {
    /// Sends to the end, and tells how far it is.
    fn send_telling(&self, mut stream: &TcpStream, total: u64, progress: &Progress) {
        let mut sent = 0;
        while sent < total {
            let max = (total - sent).min(CHUNK as u64) as usize;
            sent += stream.write(self.at(sent, max)).unwrap() as u64;
            progress.sent.store(sent, Ordering::SeqCst);
        }
        finish(stream);
    }

    /// Reads to the end, no further than is allowed.
    fn hear_as_allowed(&self, mut stream: &TcpStream, total: u64, progress: &Progress) {
        let mut buffer = vec![0; CHUNK];
        let mut heard = 0;
        loop {
            let allowed = || progress.allowed.load(Ordering::SeqCst);
            eventually("the reader may go on", || allowed() > heard);
            let max = (allowed() - heard).min(CHUNK as u64) as usize;
            let count = stream.read(&mut buffer[..max]).unwrap();
            if count == 0 {
                break;
            }
            let expected = self.at(heard, count);
            assert!(&buffer[..count] == expected, "other bytes after {heard}");
            heard += count as u64;
            progress.heard.store(heard, Ordering::SeqCst);
        }
        assert_eq!(heard, total);
    }
}

/// What may be added to the proxy's memory by one session of any length.
const GROWTH_MAX: u64 = 8 << 20;

/// What one side may have unsent: the watermark, and what one turn reads on top of it.
const KEPT_MAX: u64 = 2 * (64 + 64) * 1024;

#[test]
fn two_gibibytes_before_a_reader_who_stops_are_whole_and_need_no_memory() {
    // Goal: what lies in a pipe is neither lost nor forgotten at the FIN, however much of it the kernel took (a pipe may
    // hold more than it says, as segments are moved whole), and the proxy's memory does not depend on how much went through or
    // is stuck. Method: 2 GiB and an odd count of bytes, spliced from the first byte on and copied, down after one byte up; the
    // reader stops half way until nothing moves, and before the end until the sender has finished, with bytes in every buffer on
    // the way; memory is looked at all the time.
    for splice in ["always", "off"] {
        stream_to_one_who_stops(splice, 2 * GIB + 4_097);
    }
}

fn stream_to_one_who_stops(splice: &str, total: u64) {
    let records = Records::new("stops");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = listener.local_addr().unwrap().to_string();
    let server = records.proxy(&[to], &["--splice", splice]);
    let at_rest = server.metric("process_resident_memory_bytes");
    let (tape, progress) = (Tape::new(), Progress::default());
    let client = server.connect();
    // Less room on this side than on the other, so that what is left before the end reaches beyond it.
    set_socket_recv_buffer_size(&client, CHUNK).unwrap();
    let (backend, _) = listener.accept().unwrap();
    backend.set_read_timeout(Some(DEADLINE)).unwrap();
    backend.set_write_timeout(Some(DEADLINE)).unwrap();
    let look = || {
        let metrics = server.metrics();
        let kept = metrics["polyloop_kept_bytes"];
        assert!(kept <= KEPT_MAX, "{splice}: {kept} bytes are kept");
        let resident = metrics["process_resident_memory_bytes"];
        let grown = resident.saturating_sub(at_rest);
        assert!(grown <= GROWTH_MAX, "{splice}: {grown} bytes more");
    };
    let await_heard = |position: u64| {
        progress.allowed.store(position, Ordering::SeqCst);
        eventually("it is heard", || {
            look();
            progress.heard.load(Ordering::SeqCst) == position
        });
    };
    (&client).write_all(b"?").unwrap();
    (&backend).read_exact(&mut [0]).unwrap();
    thread::scope(|scope| {
        let sender = scope.spawn(|| tape.send_telling(&backend, total, &progress));
        scope.spawn(|| tape.hear_as_allowed(&client, total, &progress));
        await_heard(GIB);
        let on_the_way = await_standstill(&progress, look);
        await_heard(total - on_the_way * 5 / 8);
        eventually("the sender has finished", || {
            look();
            sender.is_finished()
        });
        await_heard(total);
        progress.allowed.store(u64::MAX, Ordering::SeqCst);
        finish(&client);
    });
    drop((client, backend));
    server.end();
    let record = &records.read()[0];
    assert_eq!(record["state"], "--", "{splice} {record}");
    assert_eq!(record["bytes_down"], total, "{splice}");
}

/// Waits until nothing has moved for some looks; how much is sent and not heard.
fn await_standstill(progress: &Progress, look: impl Fn()) -> u64 {
    let (mut before, mut looks) = (0, 0);
    eventually("nothing moves", || {
        look();
        let sent = progress.sent.load(Ordering::SeqCst);
        looks = if sent == before { looks + 1 } else { 0 };
        before = sent;
        looks == 50
    });
    before - progress.heard.load(Ordering::SeqCst)
}
