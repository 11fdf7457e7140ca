//! Backends that die, hang, refuse or say nothing.

use super::backend::{Backend, Process};
use super::{Records, backend_row, page, proxy};
use crate::harness::{DEADLINE, Polyloop, assert_echo, eventually, read_all};
use rustix::process::Signal;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

/// An address where nobody listens.
fn closed_addr() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}

/// Sends one line after the other and reads each back, until told to end or until the session breaks; counts them, and
/// says how it ended.
fn stream_until(
    mut stream: TcpStream,
    is_over: &AtomicBool,
    rounds: &AtomicUsize,
) -> Result<(), ErrorKind> {
    let mut heard = [0; 512];
    let said = [b'x'; 512];
    while !is_over.load(Ordering::SeqCst) {
        stream.write_all(&said).map_err(|error| error.kind())?;
        stream
            .read_exact(&mut heard)
            .map_err(|error| error.kind())?;
        assert_eq!(heard, said);
        rounds.fetch_add(1, Ordering::SeqCst);
    }
    Ok(())
}

/// Lets a hundred sessions stream, does something meanwhile (given how far each has come), and says how many broke. All
/// must have been served before and those that are left after it.
#[track_caller]
fn while_streaming(server: &Polyloop, act: impl FnOnce(&[AtomicUsize])) -> usize {
    let is_over = AtomicBool::new(false);
    let rounds: Vec<_> = (0..100).map(|_| AtomicUsize::new(0)).collect();
    let all_moved = |threads: &[thread::ScopedJoinHandle<'_, Result<(), ErrorKind>>]| {
        let before: Vec<_> = rounds.iter().map(|r| r.load(Ordering::SeqCst)).collect();
        eventually("every session that is left moves", || {
            let pairs = rounds.iter().zip(&before).zip(threads);
            pairs.into_iter().all(|((now, then), thread)| {
                now.load(Ordering::SeqCst) > *then + 2 || thread.is_finished()
            })
        });
    };
    thread::scope(|scope| {
        let threads: Vec<_> = rounds
            .iter()
            .map(|rounds| {
                let stream = server.connect();
                let is_over = &is_over;
                scope.spawn(move || stream_until(stream, is_over, rounds))
            })
            .collect();
        all_moved(&threads);
        assert!(threads.iter().all(|thread| !thread.is_finished()));
        act(&rounds);
        all_moved(&threads);
        is_over.store(true, Ordering::SeqCst);
        let ends = threads.into_iter().map(|thread| thread.join().unwrap());
        ends.filter(|end| end.is_err()).count()
    })
}

#[test]
fn a_backend_that_is_killed_takes_its_own_sessions_alone() {
    // Goal: sessions of a dead backend end at once, the others go on, and new clients notice nothing. Method: 100 sessions
    // stream over two backends in turn; one drops its listener and resets; then 40 new clients are all served, by the
    // other.
    let records = Records::new("killed");
    let (mut dies, stays) = (Backend::echo(), Backend::echo());
    let server = records.proxy(&[dies.to(), stays.to()], &["--balance", "least"]);
    let broken = while_streaming(&server, |_| {
        assert_eq!((dies.accepted(), stays.accepted()), (50, 50));
        dies.kill();
        for _ in 0..40 {
            assert_echo(&mut server.connect());
        }
    });
    assert_eq!(broken, 50);
    assert_eq!(stays.accepted(), 50 + 40);
    let row = backend_row(&server, 0);
    assert!(row["connect_refused"].as_u64().unwrap() > 0, "{row}");
    assert_eq!(row["resets"], 50, "{row}");
    server.end();
    let states = records.states();
    assert_eq!(states.iter().filter(|state| *state == "SD").count(), 50);
    assert_eq!(states.len(), 140);
}

#[test]
fn processes_that_are_killed_and_come_back_cost_nobody_else() {
    // Goal: the same with the kernel as the one who ends the sockets. Method: 100 sessions over two echo processes;
    // SIGKILL for one while they stream; then new clients.
    let (dies, stays) = (Process::echo(), Process::echo());
    let server = proxy(&[dies.to(), stays.to()], &["--balance", "least"]);
    let broken = while_streaming(&server, |_| dies.signal(Signal::KILL));
    assert_eq!(broken, 50);
    for _ in 0..40 {
        assert_echo(&mut server.connect());
    }
    server.end();
}

#[test]
fn a_backend_that_is_stopped_stalls_its_own_sessions_alone() {
    // Goal: SIGSTOP of a backend neither ends nor slows the sessions of others, and its own go on after SIGCONT. Method:
    // one session at each of two processes; the first is stopped while it owes an answer, the second talks on.
    let (stalls, stays) = (Process::echo(), Process::echo());
    let server = proxy(
        &[stalls.to(), stays.to()],
        &["--balance", "round-robin", "--loops", "1"],
    );
    let mut streams: Vec<_> = (0..2).map(|_| server.connect()).collect();
    streams.iter_mut().for_each(assert_echo);
    stalls.signal(Signal::STOP);
    for stream in &mut streams {
        stream.write_all(b"and now?").unwrap();
    }
    let mut answer = [0; 8];
    let mut answered = Vec::new();
    eventually("one answers", || {
        answered = (0..2)
            .filter(|&at| {
                streams[at].set_nonblocking(true).unwrap();
                let is_there = streams[at].peek(&mut answer).is_ok();
                streams[at].set_nonblocking(false).unwrap();
                is_there
            })
            .collect();
        !answered.is_empty()
    });
    let [running] = answered[..] else {
        panic!("the stopped one answers: {answered:?}");
    };
    streams[running].read_exact(&mut answer).unwrap();
    for _ in 0..100 {
        assert_echo(&mut streams[running]);
    }
    stalls.signal(Signal::CONT);
    streams[1 - running].read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"and now?");
    streams.iter_mut().for_each(assert_echo);
    drop(streams);
    server.end();
}

#[test]
fn a_backend_that_is_stopped_breaks_none_of_a_hundred_streams() {
    // Goal: the same among many. Method: 100 sessions over two echo processes; one is stopped while they stream; exactly
    // those of the other go on, far; then all go on, and none has broken.
    let (stalls, stays) = (Process::echo(), Process::echo());
    let server = proxy(&[stalls.to(), stays.to()], &["--balance", "least"]);
    let broken = while_streaming(&server, |rounds| {
        let count = || rounds.iter().map(|r| r.load(Ordering::SeqCst));
        stalls.signal(Signal::STOP);
        let before: Vec<_> = count().collect();
        // An answer may have been on its way.
        let moved = || {
            count()
                .zip(&before)
                .filter(|(now, then)| *now > **then + 20)
        };
        eventually("half of them go on", || moved().count() >= 50);
        assert_eq!(moved().count(), 50);
        stalls.signal(Signal::CONT);
    });
    assert_eq!(broken, 0);
    server.end();
}

#[test]
fn a_backend_that_says_nothing_is_left_when_time_is_up() {
    // Goal: a session whose backend accepts and is silent ends by the idle timeout, and the record says whose silence it
    // was. Method: clients that ask and clients that do not, an idle timeout of 200 ms.
    let records = Records::new("silent");
    let backend = Backend::silent();
    let server = records.proxy(&[backend.to()], &["--idle-timeout", "200ms"]);
    let mut clients: Vec<_> = (0..10).map(|_| server.connect()).collect();
    for client in &mut clients[..5] {
        client.write_all(b"hello?").unwrap();
    }
    for mut client in clients {
        // A FIN or a reset: it ends.
        let mut bytes = Vec::new();
        let _ = client.read_to_end(&mut bytes);
        assert!(bytes.is_empty());
    }
    server.end();
    let states = records.states();
    assert_eq!(states.len(), 10);
    for state in states {
        assert!(state == "sD" || state == "cD", "{state}");
    }
}

#[test]
fn a_half_that_is_not_finished_is_cut_when_time_is_up() {
    // Goal: a session with one FIN does not stay for ever. Method: clients that finish before a silent backend that does
    // not, a half-close timeout of 200 ms; the record says L.
    let records = Records::new("half-closed");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = listener.local_addr().unwrap().to_string();
    let server = records.proxy(&[to], &["--half-close-timeout", "200ms"]);
    for _ in 0..5 {
        let mut client = server.connect();
        let (mut backend, _) = listener.accept().unwrap();
        client.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(read_all(&mut backend), b"");
        let mut bytes = Vec::new();
        let _ = client.read_to_end(&mut bytes);
        assert!(bytes.is_empty());
    }
    server.end();
    for record in records.read() {
        let state = record["state"].as_str().unwrap();
        assert!(state == "sL" || state == "cL", "{record}");
    }
}

#[test]
fn who_is_refused_by_one_backend_is_served_by_another() {
    // Goal: a connect that fails is tried elsewhere, and the client never knows. Method: two addresses without a listener
    // and one echo; 50 clients in a row; retries are counted in the records.
    let records = Records::new("refused");
    let stays = Backend::echo();
    let backends = [
        closed_addr().to_string(),
        closed_addr().to_string(),
        stays.to(),
    ];
    let server = records.proxy(&backends, &["--balance", "round-robin"]);
    for _ in 0..50 {
        assert_echo(&mut server.connect());
    }
    assert_eq!(stays.accepted(), 50);
    server.end();
    let records = records.read();
    assert_eq!(records.len(), 50);
    assert!(records.iter().all(|record| record["state"] == "--"));
    assert!(records.iter().any(|record| record["retries"] != 0));
    let last = backends[2].as_str();
    assert!(records.iter().all(|record| record["backend"] == last));
}

#[test]
fn when_no_backend_is_left_the_client_is_reset() {
    // Goal: a session that nobody serves is no empty answer. Method: two addresses without a listener; every client gets
    // a reset, the records say SC, and one backend that appears at such an address serves without a restart.
    let records = Records::new("none-left");
    let closed = [closed_addr(), closed_addr()];
    let backends = closed.map(|addr| addr.to_string());
    let server = records.proxy(&backends, &["--eject", "off"]);
    for _ in 0..20 {
        let error = server.connect().read(&mut [0]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    }
    let back = Backend::echo_at(closed[1]);
    for _ in 0..5 {
        assert_echo(&mut server.connect());
    }
    assert_eq!(back.accepted(), 5);
    let listener = &page(&server)["listeners"][0];
    assert_eq!(listener["refused"]["connect_refused"], 20, "{listener}");
    server.end();
    let mut expected = vec!["--"; 5];
    expected.extend(["SC"; 20]);
    assert_eq!(records.states(), expected);
}

#[test]
fn a_connect_without_an_answer_is_tried_elsewhere() {
    // Goal: a backend whose queue is full takes no session longer than the connect timeout. Method: a listener whose
    // backlog is full, so that the kernel drops what comes; an echo beside it; ten clients; then the full one alone.
    let full = TcpListener::bind("127.0.0.1:0").unwrap();
    rustix::net::listen(&full, 0).unwrap();
    let addr = full.local_addr().unwrap();
    let fill: Vec<_> = (0..4)
        .map(|_| {
            let none = std::time::Duration::from_millis(50);
            TcpStream::connect_timeout(&addr, none)
        })
        .collect();
    assert!(fill.iter().any(Result::is_err), "the backlog is not full");
    let records = Records::new("no-answer");
    let stays = Backend::echo();
    let flags = ["--connect-timeout", "100ms", "--balance", "round-robin"];
    let server = records.proxy(&[addr.to_string(), stays.to()], &flags);
    for _ in 0..10 {
        assert_echo(&mut server.connect());
    }
    let row = backend_row(&server, 0);
    assert!(row["connect_timeouts"].as_u64().unwrap() > 0, "{row}");
    server.end();
    assert_eq!(records.states(), ["--"; 10]);

    let records = Records::new("no-answer-alone");
    let server = records.proxy(&[addr.to_string()], &flags[..2]);
    let mut client = server.connect();
    client.set_read_timeout(Some(DEADLINE)).unwrap();
    let error = client.read(&mut [0]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    server.end();
    assert_eq!(records.states(), ["sC"]);
}
