//! Small servers of the test's process: a thread for each connection, which does one thing.
//!
//! They know nothing of polyloop, so that they are another's word on what was sent.

use std::collections::BTreeSet;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use polyloop_sys::Stream;

/// What a server has seen.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) connections: AtomicU64,
    pub(crate) bytes: AtomicU64,
    /// Connections that ended with a FIN, or with a reset.
    pub(crate) finished: AtomicU64,
    pub(crate) reset: AtomicU64,
    pub(crate) sources: Mutex<BTreeSet<IpAddr>>,
    is_over: AtomicBool,
}

/// A server until it is dropped.
pub(crate) struct Served {
    pub(crate) seen: Arc<Seen>,
    pub(crate) target: String,
}

impl Served {
    /// Serves each connection with `behave`.
    pub(crate) fn with(behave: impl Fn(TcpStream, &Seen) + Send + Sync + 'static) -> Self {
        Self::on("127.0.0.1:0", behave)
    }

    pub(crate) fn on(
        addr: &str,
        behave: impl Fn(TcpStream, &Seen) + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(addr).unwrap();
        let target = listener.local_addr().unwrap().to_string();
        let seen = Arc::new(Seen::default());
        let (shared, behave) = (Arc::clone(&seen), Arc::new(behave));
        thread::spawn(move || {
            for stream in listener.incoming() {
                if shared.is_over.load(Relaxed) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                shared.connections.fetch_add(1, Relaxed);
                if let Ok(peer) = stream.peer_addr() {
                    shared.sources.lock().unwrap().insert(peer.ip());
                }
                let (shared, behave) = (Arc::clone(&shared), Arc::clone(&behave));
                thread::spawn(move || behave(stream, &shared));
            }
        });
        Self { seen, target }
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.seen.bytes.load(Relaxed)
    }

    pub(crate) fn connections(&self) -> u64 {
        self.seen.connections.load(Relaxed)
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.seen.is_over.store(true, Relaxed);
        // Wakes the listener up.
        let _ = TcpStream::connect(&self.target);
    }
}

impl Seen {
    /// Reads; `None` is the end of the connection, which is noted.
    pub(crate) fn read<'b>(
        &self,
        stream: &mut impl Read,
        buffer: &'b mut [u8],
    ) -> Option<&'b [u8]> {
        match stream.read(buffer) {
            Ok(0) => {
                self.finished.fetch_add(1, Relaxed);
                None
            }
            Ok(count) => {
                self.bytes.fetch_add(count as u64, Relaxed);
                Some(&buffer[..count])
            }
            Err(error) => {
                if error.kind() == ErrorKind::ConnectionReset {
                    self.reset.fetch_add(1, Relaxed);
                }
                None
            }
        }
    }
}

const BUFFER_BYTES: usize = 64 * 1024;

/// Every byte comes back.
pub(crate) fn echo(mut stream: impl Read + Write, seen: &Seen) {
    let mut buffer = vec![0; BUFFER_BYTES];
    while let Some(bytes) = seen.read(&mut stream, &mut buffer) {
        if stream.write_all(bytes).is_err() {
            return;
        }
    }
}

/// An echo on a path; it serves until the process ends.
pub(crate) fn echo_on_path(path: &Path) {
    let listener = UnixListener::bind(path).unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || echo(stream, &Seen::default()));
        }
    });
}

/// Every byte comes back after a while.
pub(crate) fn slow_echo(mut stream: TcpStream, seen: &Seen) {
    let mut buffer = vec![0; BUFFER_BYTES];
    while let Some(bytes) = seen.read(&mut stream, &mut buffer) {
        thread::park_timeout(Duration::from_millis(20));
        if stream.write_all(bytes).is_err() {
            return;
        }
    }
}

/// Reads, and never answers.
pub(crate) fn silent(mut stream: TcpStream, seen: &Seen) {
    let mut buffer = vec![0; BUFFER_BYTES];
    while seen.read(&mut stream, &mut buffer).is_some() {}
}

/// Answers as much as was sent, all of it wrong.
pub(crate) fn garbage(mut stream: TcpStream, seen: &Seen) {
    let mut buffer = vec![0; BUFFER_BYTES];
    while let Some(bytes) = seen.read(&mut stream, &mut buffer) {
        let wrong: Vec<u8> = bytes.iter().map(|byte| !byte).collect();
        if stream.write_all(&wrong).is_err() {
            return;
        }
    }
}

/// Answers some reads, and then closes in good order.
pub(crate) fn echo_then_finish(mut stream: TcpStream, seen: &Seen) {
    let mut buffer = vec![0; BUFFER_BYTES];
    for _ in 0..3 {
        let Some(bytes) = seen.read(&mut stream, &mut buffer) else {
            return;
        };
        if stream.write_all(bytes).is_err() {
            return;
        }
    }
}

/// Answers one read, and resets.
pub(crate) fn echo_then_reset(mut stream: TcpStream, seen: &Seen) {
    let mut buffer = vec![0; BUFFER_BYTES];
    if let Some(bytes) = seen.read(&mut stream, &mut buffer) {
        let _ = stream.write_all(bytes);
    }
    reset(stream);
}

/// Reads one request, and resets.
pub(crate) fn read_then_reset(mut stream: TcpStream, seen: &Seen) {
    let mut buffer = vec![0; BUFFER_BYTES];
    let _ = seen.read(&mut stream, &mut buffer);
    reset(stream);
}

fn reset(stream: TcpStream) {
    Stream::from(OwnedFd::from(stream))
        .set_abort_on_close()
        .unwrap();
}

/// Closes at once.
pub(crate) fn finish(_: TcpStream, _: &Seen) {}

/// Sends for ever, and reads nothing.
pub(crate) fn source(mut stream: TcpStream, _: &Seen) {
    let bytes = vec![b'x'; BUFFER_BYTES];
    while stream.write_all(&bytes).is_ok() {}
}

/// Sends a megabyte, and finishes.
pub(crate) fn finite_source(mut stream: TcpStream, _: &Seen) {
    let _ = stream.write_all(&vec![b'x'; 1 << 20]);
}

/// `+PONG` to each `PING`, `:1` to everything else, a line each.
pub(crate) fn redis_like(mut stream: TcpStream, seen: &Seen) {
    let mut input = Vec::new();
    let mut buffer = vec![0; BUFFER_BYTES];
    while let Some(bytes) = seen.read(&mut stream, &mut buffer) {
        input.extend_from_slice(bytes);
        while let Some(end) = input.windows(2).position(|pair| pair == b"\r\n") {
            let line: Vec<u8> = input.drain(..end + 2).collect();
            let answer: &[u8] = if line == b"PING\r\n" {
                b"+PONG\r\n"
            } else {
                b":1\r\n"
            };
            if stream.write_all(answer).is_err() {
                return;
            }
        }
    }
}

/// Answers GET requests; after `requests_max` of them it says that it will close, and closes.
pub(crate) fn http(requests_max: usize) -> impl Fn(TcpStream, &Seen) + Send + Sync + 'static {
    move |mut stream, seen| {
        let mut input = Vec::new();
        let mut buffer = vec![0; BUFFER_BYTES];
        let mut left = requests_max;
        while let Some(bytes) = seen.read(&mut stream, &mut buffer) {
            input.extend_from_slice(bytes);
            while let Some(end) = input.windows(4).position(|four| four == b"\r\n\r\n") {
                let head: Vec<u8> = input.drain(..end + 4).collect();
                assert!(head.starts_with(b"GET /page HTTP/1.1\r\n"));
                left -= 1;
                let close = if left == 0 {
                    "Connection: close\r\n"
                } else {
                    ""
                };
                let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n{close}\r\nhello");
                if stream.write_all(answer.as_bytes()).is_err() || left == 0 {
                    return;
                }
            }
        }
    }
}
