//! Who is let in, how many, and who waits.

use super::backend::Backend;
use super::{Records, has, page, proxy, sh};
use crate::harness::{Polyloop, assert_echo, eventually, finish, pattern, read_all};
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;

/// A client that is refused gets a reset, and no byte.
#[track_caller]
fn assert_reset(mut stream: TcpStream) {
    let error = stream.read(&mut [0]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

/// A counter of the one listener.
#[track_caller]
fn counted(server: &Polyloop, name: &str) -> u64 {
    page(server)["listeners"][0][name].as_u64().unwrap()
}

/// How many sessions the only listener has refused for a reason.
#[track_caller]
fn refused_for(server: &Polyloop, reason: &str) -> u64 {
    let listener = page(server)["listeners"][0].clone();
    listener["refused"][reason].as_u64().unwrap()
}

#[test]
fn the_longest_prefix_decides_who_may_come() {
    // Goal: --allow and --deny. Method: netcat from several addresses of loopback, under lists that nest; who is refused
    // gets nothing and never reaches the backend.
    if !has("nc") {
        return;
    }
    let records = Records::new("access");
    let backend = Backend::echo();
    let flags = ["--deny", "127.0.0.0/8", "--allow", "127.0.1.0/24"];
    let flags = [&flags[..], &["--deny", "127.0.1.7"]].concat();
    let server = records.proxy(&[backend.to()], &flags);
    let ask = |from: &str| {
        let script = format!("printf hi | nc -N -s {from} 127.0.0.1 $PORT || true");
        sh(&server, &script)
    };
    assert_eq!(ask("127.0.0.1"), "");
    assert_eq!(ask("127.0.1.1"), "hi");
    assert_eq!(ask("127.0.1.7"), "");
    assert_eq!(ask("127.0.1.8"), "hi");
    assert_eq!(backend.accepted(), 2);
    assert_eq!(refused_for(&server, "access_denied"), 2);
    server.end();
    assert_eq!(records.states(), ["--", "--", "PR", "PR"]);
}

#[test]
fn who_comes_too_late_waits_for_a_place() {
    // Goal: a backend's max holds, those above it wait in turn, and a place that frees is taken at once. Method: a max of
    // one over two loops; ten clients that come while the place is taken; each is served once those before have left.
    let records = Records::new("queue");
    let backend = Backend::echo();
    let to = format!("{},max=1", backend.to());
    let server = records.proxy(&[to], &["--queue-timeout", "1h"]);
    let mut first = server.connect();
    assert_echo(&mut first);
    let mut waiting: Vec<_> = (0..10).map(|_| server.connect()).collect();
    for stream in &mut waiting {
        stream.write_all(b"me").unwrap();
    }
    eventually("all wait", || counted(&server, "queued") == 10);
    assert_eq!(page(&server)["groups"][0]["waiting"], 10);
    server.rest();
    assert_eq!(backend.accepted(), 1);
    // The place is given back at the end of a session.
    drop(first);
    eventually("all are served, one at a time", || {
        let row = &page(&server)["groups"][0]["backends"][0];
        assert!(row["live"].as_u64().unwrap() <= 1, "{row}");
        waiting.retain(|stream| {
            stream.set_nonblocking(true).unwrap();
            !matches!(stream.peek(&mut [0; 2]), Ok(2))
        });
        waiting.is_empty()
    });
    assert_eq!(backend.accepted(), 11);
    server.end();
    assert_eq!(records.read().len(), 11);
}

#[test]
fn who_waits_too_long_is_refused() {
    // Goal: --queue-timeout and --queue bound the queue. Method: a max of one that is taken; a client who waits for 100
    // ms gets a reset and sQ; without a queue it is PQ; a client that gives up in the queue leaves it.
    let records = Records::new("queue-timeout");
    let backend = Backend::echo();
    let to = format!("{},max=1", backend.to());
    let server = records.proxy(std::slice::from_ref(&to), &["--queue-timeout", "100ms"]);
    let mut first = server.connect();
    assert_echo(&mut first);
    assert_reset(server.connect());
    assert_eq!(refused_for(&server, "queue_timeout"), 1);
    drop(first);
    server.end();
    assert_eq!(records.states(), ["--", "sQ"]);

    let records = Records::new("queue-off");
    let server = records.proxy(std::slice::from_ref(&to), &["--queue", "0"]);
    let mut first = server.connect();
    assert_echo(&mut first);
    assert_reset(server.connect());
    drop(first);
    server.end();
    assert_eq!(records.states(), ["--", "PQ"]);
}

#[test]
fn who_gives_up_waiting_leaves_the_queue() {
    // Goal: a place is never kept for somebody who has gone. Method: a max of one that is taken; five clients queue up
    // and reset; a sixth queues up; when the place frees, the sixth gets it.
    let backend = Backend::echo();
    let to = format!("{},max=1", backend.to());
    let server = proxy(&[to], &["--queue-timeout", "1h"]);
    let mut first = server.connect();
    assert_echo(&mut first);
    let gone: Vec<_> = (0..5).map(|_| server.connect()).collect();
    eventually("they wait", || counted(&server, "queued") == 5);
    gone.into_iter().for_each(crate::harness::reset);
    let mut last = server.connect();
    last.write_all(b"are you there?").unwrap();
    eventually("one waits", || page(&server)["groups"][0]["waiting"] == 1);
    drop(first);
    let mut answer = [0; 14];
    last.read_exact(&mut answer).unwrap();
    drop(last);
    server.end();
}

#[test]
fn limits_by_listener_and_source_refuse_with_a_reason() {
    // Goal: what is over a limit is reset, counted, and its record says which limit. Method: one limit at a time, three
    // sessions allowed; the fourth is refused; where the limit is of open sessions, the next fits once one has left.
    let limits = [
        (["--source-connections", "3"], "source_full"),
        (["--rate", "1/s,burst=3"], "rate_exceeded"),
        (["--source-rate", "1/s,burst=3"], "source_rate_exceeded"),
    ];
    for (flags, reason) in limits {
        let counts_open = reason == "source_full";
        let records = Records::new("limits");
        let backend = Backend::echo();
        let server = records.proxy(&[backend.to()], &flags);
        let mut streams: Vec<_> = (0..3).map(|_| server.connect()).collect();
        streams.iter_mut().for_each(assert_echo);
        // A rate lets one more in each second: under ten at once most are refused however slow the machine.
        let more: Vec<_> = (0..10).map(|_| server.connect()).collect();
        let refused = more
            .into_iter()
            .filter_map(|mut stream| {
                let is_refused = stream.write_all(b"?").is_err() || stream.read(&mut [0]).is_err();
                is_refused.then_some(())
            })
            .count();
        assert!(refused > 0, "{flags:?}");
        assert_eq!(refused_for(&server, reason), refused as u64, "{flags:?}");
        if counts_open {
            assert_eq!(refused, 10, "{flags:?}");
            streams.truncate(2);
            eventually("there is room again", || {
                let mut next = server.connect();
                next.write_all(b"?").is_ok() && next.read(&mut [0]).is_ok()
            });
        }
        drop(streams);
        server.end();
        let states = records.states();
        assert!(states.iter().filter(|state| *state == "PR").count() >= refused);
    }
}

#[test]
fn a_byte_rate_delays_and_loses_nothing() {
    // Goal: --bytes-per-second holds a session back and keeps its bytes, copied and spliced. Method: 300 kB through a rate
    // of 1 MB a second, both ways, with a half-close.
    for splice in ["off", "always"] {
        let backend = Backend::echo();
        let flags = ["--bytes-per-second", "1MB", "--splice", splice];
        let server = proxy(&[backend.to()], &flags);
        let bytes = pattern(300_000);
        let mut stream = server.connect();
        stream.write_all(&bytes).unwrap();
        finish(&stream);
        assert!(read_all(&mut stream) == bytes, "{splice}");
        drop(stream);
        server.end();
    }
}
