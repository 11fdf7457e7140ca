//! The anchors echo: every byte, also when the peer is slow, and until it has finished.
//!
//! An anchor that cheats would make every ratio to it worthless, so all are held to the same tests; the proxy with an
//! anchor behind it that echoes.

#![expect(
    clippy::unwrap_used,
    reason = "these are helpers of tests, where a panic is the report"
)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};

use polyloop_measure::host::send_signal;
use rustix::process::Signal;

struct Anchor {
    child: Child,
    addr: SocketAddr,
    /// What answers behind a proxy.
    _behind: Option<Box<Self>>,
}

impl Anchor {
    fn start(program: &str, arguments: &[&str]) -> Self {
        let mut child = Command::new(program)
            .args(["--listen", "127.0.0.1:0"])
            .args(arguments)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let addr = line.trim().strip_prefix("listening on ").unwrap();
        let addr = addr.parse().unwrap();
        Self {
            child,
            addr,
            _behind: None,
        }
    }

    fn start_proxy(threads: &str) -> Self {
        let behind = Self::start(env!("CARGO_BIN_EXE_bare-mio"), &[]);
        let to = behind.addr.to_string();
        let program = env!("CARGO_BIN_EXE_tokio-proxy");
        let mut proxy = Self::start(program, &["--to", &to, "--threads", threads]);
        proxy._behind = Some(Box::new(behind));
        proxy
    }

    fn connect(&self) -> TcpStream {
        TcpStream::connect(self.addr).unwrap()
    }
}

impl Drop for Anchor {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn anchors() -> Vec<Anchor> {
    let tokio = env!("CARGO_BIN_EXE_tokio-echo");
    vec![
        Anchor::start(env!("CARGO_BIN_EXE_bare-mio"), &[]),
        Anchor::start(tokio, &[]),
        Anchor::start(tokio, &["--threads", "2"]),
        Anchor::start_proxy("1"),
        Anchor::start_proxy("2"),
    ]
}

#[test]
fn small_messages_come_back_on_many_connections() {
    // Goal: answers belong to their connection, by 50 connections that all send before any reads.
    for anchor in anchors() {
        let mut streams: Vec<TcpStream> = (0..50).map(|_| anchor.connect()).collect();
        for (index, stream) in streams.iter_mut().enumerate() {
            stream.write_all(&[index as u8; 64]).unwrap();
        }
        for (index, stream) in streams.iter_mut().enumerate() {
            let mut answer = [0; 64];
            stream.read_exact(&mut answer).unwrap();
            assert_eq!(answer, [index as u8; 64]);
        }
    }
}

#[test]
fn a_flood_comes_back_whole_and_ends_with_the_peer() {
    // Goal: partial writes and the half-close after them; by 32 MiB, more than all buffers on the way, sent by one
    // thread while another reads to the end.
    let flood: Vec<u8> = (0..32_u32 << 20).map(|n| (n ^ (n >> 8)) as u8).collect();
    for anchor in anchors() {
        let mut stream = anchor.connect();
        let mut writer = stream.try_clone().unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                writer.write_all(&flood).unwrap();
                writer.shutdown(Shutdown::Write).unwrap();
            });
            let mut answer = Vec::with_capacity(flood.len());
            stream.read_to_end(&mut answer).unwrap();
            assert!(answer == flood, "{} bytes of {}", answer.len(), flood.len());
        });
    }
}

#[test]
fn a_client_that_does_not_read_holds_up_nobody() {
    // Goal: unsent bytes of one connection leave the others alone; by filling one until the kernel takes no more.
    for anchor in anchors() {
        let mut stuck = anchor.connect();
        stuck.set_nonblocking(true).unwrap();
        let chunk = [7; 64 * 1024];
        // Bounded by the buffers of four sockets; the second refusal in a row proves nothing, and need not.
        while stuck.write(&chunk).is_ok() {}
        let mut other = anchor.connect();
        other.write_all(b"still here").unwrap();
        let mut answer = [0; 10];
        other.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"still here");
    }
}

#[test]
fn sigterm_ends_an_anchor() {
    // Goal: the end is the one the runner expects, by the status after the signal.
    for mut anchor in anchors() {
        let _open = anchor.connect();
        send_signal(anchor.child.id(), Signal::TERM).unwrap();
        let status = anchor.child.wait().unwrap();
        assert_eq!(status.signal(), Some(Signal::TERM.as_raw()));
    }
}
