//! Drain, stop, dump, and all of them in a storm.

use crate::harness::{Polyloop, assert_echo, eventually, finish, is_closed, read_all};
use rustix::process::Signal;
use std::io::Write;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

#[test]
fn a_drain_waits_for_conversations_and_exits_with_0() {
    // Goal: SIGTERM stops accepting, lets connections end by themselves, and the exit code says that nobody was cut.
    // Method: one client goes on talking after the signal, then leaves.
    for signal in [Signal::TERM, Signal::INT] {
        let mut server = Polyloop::echo(&["--drain", "1h", "--loops", "2"]);
        let mut stream = server.connect();
        assert_echo(&mut stream);
        server.signal(signal);
        let addr = server.addr();
        eventually("nobody listens", || TcpStream::connect(addr).is_err());
        assert_echo(&mut stream);
        stream.write_all(b"last words").unwrap();
        finish(&stream);
        assert_eq!(read_all(&mut stream), b"last words");
        assert_eq!(server.wait().code(), Some(0), "{}", server.stderr());
        let line = server.last_line();
        assert!(line.starts_with("stopped: drained in "), "{line}");
        assert!(line.ends_with(", 0 connections cut"), "{line}");
    }
}

#[test]
fn the_drain_deadline_cuts_and_exits_with_3() {
    // Goal: who is still there at the deadline is cut, and the exit code and the last line say so. Method: three
    // clients that stay.
    let mut server = Polyloop::echo(&["--drain", "100ms", "--loops", "2"]);
    let mut streams: Vec<_> = (0..3).map(|_| server.connect()).collect();
    streams.iter_mut().for_each(assert_echo);
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(3), "{}", server.stderr());
    assert!(streams.iter().all(is_closed));
    assert_eq!(
        server.last_line(),
        "stopped: 3 connections cut at the drain deadline (100ms)"
    );
}

#[test]
fn a_second_signal_stops_at_once() {
    // Goal: two signals end it whatever the drain. Method: a drain of an hour, clients that stay, all four pairs.
    for first in [Signal::TERM, Signal::INT] {
        for second in [Signal::TERM, Signal::INT] {
            let mut server = Polyloop::echo(&["--drain", "1h", "--loops", "2"]);
            let mut streams: Vec<_> = (0..3).map(|_| server.connect()).collect();
            streams.iter_mut().for_each(assert_echo);
            server.signal(first);
            let addr = server.addr();
            // Signals of one kind are merged until they are taken, so the second waits for the first's effect.
            eventually("it drains", || TcpStream::connect(addr).is_err());
            streams.iter_mut().for_each(assert_echo);
            server.signal(second);
            assert_eq!(server.wait().code(), Some(3), "{}", server.stderr());
            let line = server.last_line();
            let begin = "stopped: 3 connections cut by a second signal, ";
            assert!(line.starts_with(begin), "{line}");
        }
    }
}

#[test]
fn a_storm_of_signals_harms_nobody_and_ends_it_once() {
    // Goal: dumps during load lose no byte, signals that mean nothing are nothing, and the end comes exactly once.
    // Method: a thousand SIGUSR1 among SIGCHLD, SIGWINCH and SIGPIPE while clients echo; then SIGTERM.
    let mut server = Polyloop::echo(&["--loops", "2"]);
    let mut streams: Vec<_> = (0..8).map(|_| server.connect()).collect();
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let is_over = &is_over;
        let clients = streams.iter_mut().map(|stream| {
            scope.spawn(move || {
                let mut echoes = 0;
                while !is_over.load(Ordering::Relaxed) || echoes < 100 {
                    assert_echo(stream);
                    echoes += 1;
                }
            })
        });
        let clients: Vec<_> = clients.collect();
        for _ in 0..1000 {
            for signal in [Signal::USR1, Signal::CHILD, Signal::WINCH, Signal::PIPE] {
                server.signal(signal);
            }
        }
        is_over.store(true, Ordering::Relaxed);
        clients
            .into_iter()
            .for_each(|client| client.join().unwrap());
    });
    eventually("a dump was written", || {
        server.stderr().contains("accepted")
    });
    drop(streams);
    server.settle();
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(0), "{}", server.stderr());
    let line = server.last_line();
    assert!(line.starts_with("stopped: drained in "), "{line}");
    assert!(line.ends_with(", 0 connections cut"), "{line}");
    let ends = server.stderr().matches("stopped: ").count();
    assert_eq!(ends, 1, "{}", server.stderr());
}

#[test]
fn a_process_that_was_stopped_goes_on_where_it_was() {
    // Goal: SIGSTOP and SIGCONT lose nothing; who connected meanwhile is served. Method: stop it, send and connect,
    // let it go on.
    let server = Polyloop::echo(&["--loops", "2"]);
    let mut stream = server.connect();
    assert_echo(&mut stream);
    server.signal(Signal::STOP);
    let mut streams: Vec<_> = (0..50).map(|_| server.connect()).collect();
    streams.push(stream);
    for stream in &mut streams {
        stream.write_all(b"while you slept").unwrap();
        finish(stream);
    }
    server.signal(Signal::CONT);
    for stream in &mut streams {
        assert_eq!(read_all(stream), b"while you slept");
    }
    drop(streams);
    server.end();
}
