//! Every byte, FIN and reset, copied and spliced, for clients that are not ours.

use super::backend::Backend;
use super::{Records, has, proxy, sh};
use crate::harness::{DEADLINE, Polyloop, eventually, finish, pattern, read_all, reset};
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;

/// When one end of a session finishes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Finishes {
    /// It speaks and finishes at once.
    First,
    /// It speaks once the other has finished, then finishes.
    Answering,
    /// It speaks at once, and finishes once the other has.
    Following,
}

use Finishes::{Answering, First, Following};

/// Speaks, listens and finishes in that order; what it heard.
fn converse(stream: &TcpStream, says: &[u8], finishes: Finishes) -> Vec<u8> {
    thread::scope(|scope| {
        let speak = || (&*stream).write_all(says).unwrap();
        let speaker = scope.spawn(move || match finishes {
            First => {
                speak();
                finish(stream);
            }
            Following => speak(),
            Answering => {}
        });
        let heard = read_all(&mut &*stream);
        speaker.join().unwrap();
        if finishes == Answering {
            speak();
        }
        if finishes != First {
            finish(stream);
        }
        heard
    })
}

/// A session whose both ends are the test's.
fn session(server: &Polyloop, listener: &TcpListener) -> (TcpStream, TcpStream) {
    let client = server.connect();
    let (backend, _) = listener.accept().unwrap();
    for stream in [&client, &backend] {
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_write_timeout(Some(DEADLINE)).unwrap();
    }
    (client, backend)
}

#[test]
fn half_close_in_every_order_keeps_every_byte() {
    // Goal: a FIN ends one direction, after its bytes, and the other goes on. Method: four orders of finishing and both
    // at once, with 1 B, 1 MiB and 8 MiB each way, copied and spliced; both ends compare every byte; the records have the
    // counts.
    let orders = [
        (First, Answering),
        (Answering, First),
        (First, Following),
        (Following, First),
        (First, First),
    ];
    let sizes = [1, 1 << 20, 8 << 20];
    for splice in ["off", "auto", "always"] {
        let records = Records::new("half-close");
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let to = listener.local_addr().unwrap().to_string();
        let server = records.proxy(&[to], &["--splice", splice]);
        let up = pattern(8 << 20);
        let down: Vec<u8> = up.iter().rev().copied().collect();
        for (clients, backends) in orders {
            for size in sizes {
                let (client, backend) = session(&server, &listener);
                let (up, down) = (&up[..size], &down[..size]);
                thread::scope(|scope| {
                    let heard = scope.spawn(move || converse(&backend, down, backends));
                    assert!(converse(&client, up, clients) == down, "{splice} {size}");
                    assert!(heard.join().unwrap() == up, "{splice} {size}");
                });
            }
        }
        server.end();
        let ends = records.read();
        assert_eq!(ends.len(), orders.len() * sizes.len());
        for record in ends {
            assert_eq!(record["state"], "--", "{record}");
            assert_eq!(
                record["bytes_up"], record["bytes_down"],
                "{splice} {record}"
            );
        }
    }
}

#[test]
fn clients_that_are_not_ours_get_every_byte_back() {
    // Goal: the proxy is one for everybody. Method: 20 MB through netcat and socat, compared by their checksums, an HTTP
    // download of 20 MB by curl, and Python in small pieces, with an echo or a file behind; copied and spliced.
    for splice in ["off", "auto", "always"] {
        let backend = Backend::echo();
        let server = proxy(&[backend.to()], &["--splice", splice]);
        let make = "head -c 20000000 /dev/urandom > $F";
        let file = std::env::temp_dir().join(format!("polyloop-it-proxied-{}", server.pid()));
        let file = file.display();
        let compare = |sender: &str| {
            format!(
                "F={file}; {make}; {sender} < $F > $F.got; cmp $F $F.got; same=$?; rm -f $F $F.got; exit $same"
            )
        };
        if has("nc") {
            sh(&server, &compare("nc -N 127.0.0.1 $PORT"));
        }
        if has("socat") {
            sh(&server, &compare("socat -t 30 - TCP:127.0.0.1:$PORT"));
        }
        if has("python3") {
            let script = r#"python3 -c '
import os, socket
s = socket.create_connection(("127.0.0.1", int(os.environ["PORT"])))
for at in range(2000):
    line = b"%d " % at * 40
    s.sendall(line)
    got = b""
    while len(got) < len(line):
        got += s.recv(4096)
    assert got == line, at
s.shutdown(socket.SHUT_WR)
assert s.recv(1) == b""
'"#;
            sh(&server, script);
        }
        server.end();
    }
}

#[test]
fn a_download_by_curl_is_whole() {
    // Goal: what ends with a FIN arrives whole. Method: an HTTP server without a length, so that the FIN is the end of
    // the file; curl through the proxy, byte count and sum compared, 20 downloads of 3 MB.
    if !(has("curl") && has("cksum")) {
        return;
    }
    let body = pattern(3_000_000);
    let file = std::env::temp_dir().join(format!("polyloop-it-body-{}", std::process::id()));
    std::fs::write(&file, &body).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = listener.local_addr().unwrap().to_string();
    let server = proxy(&[to], &[]);
    thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..20 {
                let (mut stream, _) = listener.accept().unwrap();
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    let mut byte = [0];
                    stream.read_exact(&mut byte).unwrap();
                    head.push(byte[0]);
                }
                stream.write_all(b"HTTP/1.0 200 OK\r\n\r\n").unwrap();
                stream.write_all(&body).unwrap();
            }
        });
        let download = format!(
            "for n in $(seq 20); do curl -sS http://127.0.0.1:$PORT/ | cmp - {} || exit 1; done",
            file.display()
        );
        sh(&server, &download);
    });
    std::fs::remove_file(&file).unwrap();
    server.end();
}

#[test]
fn a_reset_stays_a_reset() {
    // Goal: whoever breaks off is not made to look like who has finished, in either direction. Method: each end resets
    // after some bytes, copied and spliced; the other end must get ECONNRESET, and the record name who.
    for splice in ["off", "always"] {
        let records = Records::new("reset");
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let to = listener.local_addr().unwrap().to_string();
        let server = records.proxy(&[to], &["--splice", splice]);
        for resets_client in [true, false, true, false] {
            let (mut client, mut backend) = session(&server, &listener);
            client.write_all(b"hello").unwrap();
            backend.read_exact(&mut [0; 5]).unwrap();
            backend.write_all(b"hello").unwrap();
            client.read_exact(&mut [0; 5]).unwrap();
            let mut other = if resets_client {
                reset(client);
                backend
            } else {
                reset(backend);
                client
            };
            let error = other.read(&mut [0]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{splice}");
        }
        server.end();
        assert_eq!(records.states(), ["CD", "CD", "SD", "SD"], "{splice}");
    }
}

#[test]
fn a_reset_after_a_fin_leaves_nothing() {
    // Goal: a peer that finishes and then breaks off is gone, on both sides. Method: a FIN, then a reset, from each end
    // in turn, 2,000 times; the other end comes to its end as well, and each session has its record.
    let records = Records::new("reset-after-fin");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = listener.local_addr().unwrap().to_string();
    let server = records.proxy(&[to], &[]);
    for nth in 0..2_000 {
        let (client, backend) = session(&server, &listener);
        let (first, mut other) = if nth % 2 == 0 {
            (client, backend)
        } else {
            (backend, client)
        };
        finish(&first);
        assert_eq!(read_all(&mut other), b"");
        reset(first);
        // The reset is passed on, or found by writing.
        eventually("it has ended", || other.write_all(b"?").is_err());
    }
    server.end();
    assert_eq!(records.read().len(), 2_000);
}

#[test]
fn who_never_reads_holds_its_session_alone() {
    // Goal: a slow reader stops its own backend within the watermarks, and nobody else. Method: twenty clients that never
    // read from a backend that sends without end, until all are stuck; what is kept stays bounded; an echo goes on.
    let flood = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = flood.local_addr().unwrap().to_string();
    let server = proxy(&[to], &["--splice", "off", "--buffer-high", "64KiB"]);
    let clients: Vec<_> = (0..20).map(|_| server.connect()).collect();
    let mut stuck: Vec<_> = (0..20)
        .map(|_| {
            let (stream, _) = flood.accept().unwrap();
            stream.set_nonblocking(true).unwrap();
            stream
        })
        .collect();
    let block = vec![7; 64 * 1024];
    let mut rounds_stuck = 0;
    eventually("nobody takes any more", || {
        let mut sent = 0;
        for stream in &mut stuck {
            while let Ok(count) = stream.write(&block) {
                sent += count;
            }
        }
        rounds_stuck = if sent == 0 { rounds_stuck + 1 } else { 0 };
        rounds_stuck == 50
    });
    // A read that was under way may come on top of the watermark.
    let kept = server.metric("polyloop_kept_bytes");
    assert!(kept <= 20 * 2 * (64 + 64) * 1024, "{kept} bytes are kept");
    // The kernel asks now and then whether there is room, which may wake a loop.
    let share = server.loops_busy_share();
    assert!(share < 0.05, "{share} of a core while all are stuck");
    let mut next = server.connect();
    let (mut backend, _) = flood.accept().unwrap();
    next.write_all(b"still here").unwrap();
    let mut heard = [0; 10];
    backend.read_exact(&mut heard).unwrap();
    backend.write_all(&heard).unwrap();
    next.read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"still here");
    drop((clients, stuck, next, backend));
    server.end();
}
