//! Gigabytes through one session, every byte compared as it comes.
//!
//! Both ends know what the other sends: a tape that begins again after a length that no buffer divides, so that a lost,
//! doubled or swapped stretch shows at once, at the cost of a comparison.

use super::Records;
use crate::harness::{DEADLINE, finish, pattern};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
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

#[test]
fn two_gibibytes_through_pipes_are_whole() {
    // Goal: what lies in a pipe is neither lost nor forgotten at the FIN, however much of it the kernel took (a pipe may
    // hold more than it says, as segments are moved whole). Method: 2 GiB and an odd count of bytes, spliced from the first
    // byte on, down after one byte up.
    exchange("always", 1, 2 * GIB + 4_097);
}
