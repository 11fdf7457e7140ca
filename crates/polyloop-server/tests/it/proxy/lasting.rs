//! Very many idle sessions, drain, unix sockets, IPv6.

use super::backend::Backend;
use super::{Records, page, proxy};
use crate::harness::{
    Addr, BINARY, Polyloop, assert_echo, eventually, finish, is_closed, read_all, unix,
};
use rustix::process::{Resource, Signal, getrlimit};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::{fs, thread};

/// Sockets from `local` or to `remote` that have the kernel's keep-alive timer running.
fn kept_alive(local: u16, remote: u16) -> usize {
    let is_one = |line: &str| {
        let mut fields = line.split_whitespace().skip(1);
        let mut port = || {
            let (_, port) = fields.next()?.rsplit_once(':')?;
            u16::from_str_radix(port, 16).ok()
        };
        let is_ours = port()? == local || port()? == remote;
        // proc(5), /proc/net/tcp: state, queues, then the timer, of which 2 is keep-alive.
        let timer = fields.find(|field| field.len() == 11)?;
        Some(is_ours && timer.starts_with("02:"))
    };
    let table = fs::read_to_string("/proc/net/tcp").unwrap();
    table
        .lines()
        .filter(|line| is_one(line) == Some(true))
        .count()
}

#[test]
fn thousands_of_idle_sessions_hold_and_end() {
    // Goal: 8,000 sessions, two descriptors each, are there, cost nothing while they rest, work when used, and leave
    // nothing. Method: both ends are the test's; each client says its number, which each backend end sends back; then half
    // end by their clients and half by their backends. Fewer where fewer files may be open.
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let count = 8_000.min(usize::try_from(limit).unwrap_or(usize::MAX) / 2 - 500) as u32;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = listener.local_addr().unwrap();
    let server = proxy(&[to.to_string()], &[]);
    let (mut clients, mut backends) = (Vec::new(), Vec::new());
    for number in 0..count {
        let mut client = server.connect();
        client.write_all(&number.to_be_bytes()).unwrap();
        clients.push(client);
        backends.push(listener.accept().unwrap().0);
    }
    for backend in &mut backends {
        let mut number = [0; 4];
        backend.read_exact(&mut number).unwrap();
        backend.write_all(&number).unwrap();
    }
    for (number, client) in (0..count).zip(&mut clients) {
        let mut heard = [0; 4];
        client.read_exact(&mut heard).unwrap();
        assert_eq!(u32::from_be_bytes(heard), number);
    }
    eventually("all are there", || {
        server.metric("polyloop_proxy_live") == u64::from(count)
    });
    assert!(server.count_descriptors() >= 2 * count as usize);
    assert_eq!(server.metric("polyloop_kept_bytes"), 0);
    // A second after it began, each session has its sockets kept alive, and from then on nothing wakes the loops.
    eventually("all sockets are kept alive", || {
        kept_alive(server.addr().port(), to.port()) == 2 * count as usize
    });
    server.rest();
    clients.truncate(count as usize / 2);
    let closed = || server.metric("polyloop_proxy_live");
    drop(backends);
    drop(clients);
    eventually("all have ended", || closed() == 0);
    server.end();
}

#[test]
fn a_drain_waits_for_sessions() {
    // Goal: SIGTERM lets sessions end by themselves and refuses new ones. Method: a session that talks after the signal,
    // then finishes; the exit code is 0, and its record is written. (Whoever asks whether the listener is gone may still be
    // let in, and then has a record too.)
    let records = Records::new("drain");
    let backend = Backend::echo();
    let mut server = records.proxy(&[backend.to()], &["--drain", "1h"]);
    let mut stream = server.connect();
    let client = stream.local_addr().unwrap().to_string();
    assert_echo(&mut stream);
    server.signal(Signal::TERM);
    let addr = server.addr();
    eventually("nobody listens", || TcpStream::connect(addr).is_err());
    assert_echo(&mut stream);
    stream.write_all(b"last words").unwrap();
    finish(&stream);
    assert_eq!(read_all(&mut stream), b"last words");
    assert_eq!(server.wait().code(), Some(0), "{}", server.stderr());
    let records = records.read();
    let ours: Vec<_> = records.iter().filter(|r| r["client"] == client).collect();
    assert_eq!(ours.len(), 1, "{records:?}");
    assert_eq!(ours[0]["state"], "--", "{records:?}");
}

#[test]
fn the_drain_deadline_cuts_sessions() {
    // Goal: who is still there at the deadline is cut on both sides, and records and exit code say so. Method: three
    // sessions that stay.
    let records = Records::new("drain-deadline");
    let backend = Backend::echo();
    let mut server = records.proxy(&[backend.to()], &["--drain", "100ms"]);
    let mut streams: Vec<_> = (0..3).map(|_| server.connect()).collect();
    streams.iter_mut().for_each(assert_echo);
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(3), "{}", server.stderr());
    assert!(streams.iter().all(is_closed));
    assert_eq!(records.states(), ["KD"; 3]);
}

#[test]
fn a_spread_drain_ends_sessions_before_the_deadline() {
    // Goal: --drain-spread closes sessions one after the other in its window, politely. Method: thirty sessions that
    // would stay; each client reads a FIN and no reset, and the process ends with 0.
    let records = Records::new("drain-spread");
    let backend = Backend::echo();
    let mut server = records.proxy(&[backend.to()], &["--drain", "2s", "--drain-spread"]);
    let mut streams: Vec<_> = (0..30).map(|_| server.connect()).collect();
    streams.iter_mut().for_each(assert_echo);
    server.signal(Signal::TERM);
    thread::scope(|scope| {
        for stream in &mut streams {
            scope.spawn(|| {
                assert_eq!(read_all(stream), b"");
                finish(stream);
            });
        }
    });
    assert_eq!(server.wait().code(), Some(0), "{}", server.stderr());
    assert_eq!(records.states(), ["KD"; 30]);
}

/// A path for a socket of one test.
fn socket_path(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("polyloop-it-{name}-{}.sock", std::process::id()))
}

#[test]
fn unix_sockets_serve_on_both_sides() {
    // Goal: a unix socket is an address like any other, as listener and as backend. Method: clients of a unix socket and
    // of TCP before a backend on a unix socket, with half-close.
    let (front, back) = (socket_path("front"), socket_path("back"));
    let _ = std::fs::remove_file(&back);
    let listener = UnixListener::bind(&back).unwrap();
    let echo = thread::spawn(move || {
        for _ in 0..6 {
            let (mut stream, _) = listener.accept().unwrap();
            let bytes = read_all(&mut stream);
            stream.write_all(&bytes).unwrap();
        }
    });
    let mut command = Command::new(BINARY);
    command
        .args(["proxy", "--listen", "127.0.0.1:0", "--listen"])
        .arg(format!("unix:{}", front.display()))
        .args(["--admin", "127.0.0.1:0", "--loops", "2"])
        .args(["--accept", "acceptor", "--to"])
        .arg(format!("unix:{}", back.display()))
        .stderr(Stdio::piped());
    let server = Polyloop::run(command);
    assert_eq!(server.addrs()[1], Addr::Unix(front.clone()));
    for _ in 0..3 {
        let mut client = unix(&front);
        client.write_all(b"by path").unwrap();
        client.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(read_all(&mut client), b"by path");
        let mut client = server.connect();
        client.write_all(b"by port").unwrap();
        finish(&client);
        assert_eq!(read_all(&mut client), b"by port");
    }
    echo.join().unwrap();
    server.end();
    std::fs::remove_file(&back).unwrap();
}

#[test]
fn ipv6_serves_on_both_sides() {
    // Goal: IPv6 in front and behind, in brackets wherever it is written. Method: an echo at [::1] behind a listener at
    // [::1]; skipped where there is none.
    let Ok(listener) = TcpListener::bind("[::1]:0") else {
        eprintln!("skipped: this host has no IPv6");
        return;
    };
    let to = listener.local_addr().unwrap().to_string();
    let mut command = Command::new(BINARY);
    command
        .args(["proxy", "--listen", "[::1]:0", "--admin", "[::1]:0"])
        .args(["--loops", "2", "--send-proxy", "v1", "--to", &to])
        .stderr(Stdio::piped());
    let server = Polyloop::run(command);
    let mut client = server.connect();
    client.write_all(b"six").unwrap();
    finish(&client);
    let (mut backend, _) = listener.accept().unwrap();
    let heard = String::from_utf8(read_all(&mut backend)).unwrap();
    let (from, port) = (client.local_addr().unwrap().port(), server.addr().port());
    assert_eq!(heard, format!("PROXY TCP6 ::1 ::1 {from} {port}\r\nsix"));
    assert_eq!(page(&server)["groups"][0]["backends"][0]["name"], to);
    drop((client, backend));
    server.end();
}

#[test]
fn without_backends_it_shows_that_bytes_move() {
    // Goal: a newcomer without a backend sees an echo. Method: no --to; a client, with half-close.
    let server = Polyloop::proxy(&["--loops", "2"]);
    let mut stream = server.connect();
    assert_echo(&mut stream);
    finish(&stream);
    assert_eq!(read_all(&mut stream), b"");
    drop(stream);
    server.end();
}
