//! The cap, a system that has no descriptors left, and a process that has no memory left.

use crate::harness::{Addr, Polyloop, assert_echo, connect, eventually, get, is_closed};
use rustix::process::{Resource, Rlimit, Signal, getrlimit, prlimit};
use std::io::{Read, Write};
use std::net::TcpStream;

/// Lowers the limit of open files of a running server; its table stays as it is.
fn limit_descriptors(server: &Polyloop, limit: usize) {
    let maximum = getrlimit(Resource::Nofile).maximum;
    let lowered = Rlimit {
        current: Some(limit as u64),
        maximum,
    };
    prlimit(Some(server.process()), Resource::Nofile, lowered).unwrap();
}

/// Sends without waiting for the answer, which a connection in the backlog does not get yet.
fn send(stream: &mut TcpStream) {
    stream.write_all(b"are you there?").unwrap();
}

/// Which of the streams have their answer.
fn answered(streams: &[TcpStream]) -> usize {
    let is_answered = |stream: &&TcpStream| {
        stream.set_nonblocking(true).unwrap();
        let peeked = stream.peek(&mut [0; 14]);
        stream.set_nonblocking(false).unwrap();
        matches!(peeked, Ok(14))
    };
    streams.iter().filter(is_answered).count()
}

#[test]
fn without_descriptors_it_waits_without_spinning_and_goes_on_by_itself() {
    // Goal: EMFILE pauses accepting, costs no CPU, and ends when a descriptor frees, with no new SYN. Method: the
    // limit is lowered below what is in use; a dozen clients and an administrator wait; the share of a core that the loops
    // use is measured against the wall clock; then clients leave, one by one. Four loops, so that some starve together.
    for loops in ["1", "2", "4"] {
        let server = Polyloop::echo(&["--loops", loops]);
        let mut streams: Vec<_> = (0..20).map(|_| server.connect()).collect();
        streams.iter_mut().for_each(assert_echo);
        limit_descriptors(&server, server.count_descriptors() - 4);
        let mut waiting: Vec<_> = (0..12).map(|_| server.connect()).collect();
        waiting.iter_mut().for_each(send);
        let mut admin = connect(server.admin());
        admin.write_all(b"GET /healthz HTTP/1.0\r\n\r\n").unwrap();
        let share = server.loops_busy_share();
        assert!(share < 0.02, "{share} of a core while it waits");
        assert_eq!(answered(&waiting), 0, "there was no descriptor for them");
        streams.iter_mut().for_each(assert_echo);
        // Four of the 17 may have held a number above the limit, which nobody can use.
        streams.drain(..17);
        eventually("all who waited are served", || {
            answered(&waiting) == 12 && answered(std::slice::from_ref(&admin)) == 1
        });
        limit_descriptors(&server, 20_000);
        let metrics = server.metrics();
        assert!(metrics["polyloop_accept_exhausted_total"] > 0);
        assert!(metrics["polyloop_accept_paused_total"] > 0);
        // The safety timer alone would serve them as well, but late.
        assert!(metrics["polyloop_accept_resumed_by_release_total"] > 0);
        drop((streams, waiting, admin));
        server.end();
    }
}

#[test]
fn without_descriptors_it_goes_on_when_the_limit_is_raised() {
    // Goal: descriptors that come back from outside are noticed by the safety timer. Method: as above, but nobody
    // leaves: the limit is raised.
    let server = Polyloop::echo(&["--loops", "1"]);
    let mut streams: Vec<_> = (0..8).map(|_| server.connect()).collect();
    streams.iter_mut().for_each(assert_echo);
    limit_descriptors(&server, server.count_descriptors() - 4);
    let mut waiting = server.connect();
    send(&mut waiting);
    eventually("it says so", || {
        server.stderr().contains("accepting is paused")
    });
    limit_descriptors(&server, 20_000);
    eventually("it is served", || {
        answered(std::slice::from_ref(&waiting)) == 1
    });
    assert!(server.metric("polyloop_accept_resumed_by_timer_total") > 0);
    drop((streams, waiting));
    server.end();
}

#[test]
fn at_the_cap_the_next_one_waits() {
    // Goal: `--when-full wait` leaves clients in the backlog until there is room. Method: a cap of ten over two
    // loops; others come until each loop has seen that it is full, then five more; then the first ones leave.
    let server = Polyloop::echo(&["--loops", "2", "--max-connections", "10"]);
    let mut streams: Vec<_> = (0..10).map(|_| server.connect()).collect();
    streams.iter_mut().for_each(assert_echo);
    let full = server.count_descriptors();
    let mut waiting = Vec::new();
    // A loop pauses when it finds the first one whom it cannot let in; the kernel chooses whose that is.
    eventually("both loops are paused", || {
        waiting.push(server.connect());
        server.metric("polyloop_paused") == 2
    });
    eventually("who asked has left", || server.count_descriptors() == full);
    // The poll does not tell of a listener that is paused: whoever queues up does not wake the loops.
    server.rest_while(|| waiting.extend((0..5).map(|_| server.connect())));
    assert_eq!(answered(&waiting), 0);
    waiting.iter_mut().for_each(send);
    // The admin listener is not under the cap.
    assert_eq!(server.metric("polyloop_live"), 10);
    assert_eq!(get(server.admin(), "/healthz").0, 200);
    drop(streams);
    // Ten at a time: who has been served leaves.
    eventually("all are served", || {
        waiting.retain(|stream| answered(std::slice::from_ref(stream)) == 0);
        waiting.is_empty()
    });
    server.end();
}

#[test]
fn beyond_its_memory_it_lets_nobody_in_and_says_so() {
    // Goal: loops that sleep are told, newcomers wait and wake nobody, administrators get in and are told the level. Method: a
    // limit below what the program itself takes, over two loops, with nothing else to watch.
    let flags = [
        "--loops",
        "2",
        "--memory-max",
        "1MiB",
        "--stall-after",
        "off",
    ];
    let mut server = Polyloop::echo(&flags);
    eventually("both loops are paused", || {
        server.metric("polyloop_paused") == 2
    });
    assert_eq!(server.metric("polyloop_overload_level"), 2);
    assert_eq!(server.metric("polyloop_memory_max_bytes"), 1 << 20);
    assert!(server.metric("polyloop_memory_bytes") > 1 << 20);
    assert_eq!(server.metric("polyloop_overload_changes_total"), 1);
    assert_eq!(server.metric("polyloop_accept_paused_by_memory_total"), 2);
    assert_eq!(
        get(server.admin(), "/healthz"),
        (200, "ok, memory: stop\n".to_owned())
    );
    let page: serde_json::Value = serde_json::from_str(&get(server.admin(), "/loops").1).unwrap();
    assert_eq!(page["memory"]["level"], "stop");
    let mut waiting = Vec::new();
    server.rest_while(|| waiting.extend((0..5).map(|_| server.connect())));
    assert_eq!(answered(&waiting), 0);
    assert_eq!(server.metric("polyloop_live"), 0);
    let told = server.stderr();
    assert!(told.contains("nobody new is let in\n"), "{told}");
    assert!(told.contains("1MiB at most (--memory-max, of "), "{told}");
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(0), "{}", server.stderr());
}

#[test]
fn at_the_cap_the_next_one_is_refused() {
    // Goal: `--when-full refuse` closes the next one at once, and counts it. Method: a cap of ten, five more.
    let flags = [
        "--loops",
        "2",
        "--max-connections",
        "10",
        "--when-full",
        "refuse",
    ];
    let server = Polyloop::echo(&flags);
    let mut streams: Vec<_> = (0..10).map(|_| server.connect()).collect();
    streams.iter_mut().for_each(assert_echo);
    for _ in 0..5 {
        let stream = server.connect();
        eventually("it is refused", || is_closed(&stream));
    }
    streams.iter_mut().for_each(assert_echo);
    assert_eq!(server.metric("polyloop_refused_total"), 5);
    drop(streams);
    server.end();
}

#[test]
fn at_the_cap_the_longest_idle_makes_room() {
    // Goal: `--when-full evict-idle` lets the next one in for one that moves nothing. Method: a cap of ten on one
    // loop; five more, who try until the ten have been idle for a second; five of the first are closed, and no other.
    let flags = [
        "--loops",
        "1",
        "--max-connections",
        "10",
        "--when-full",
        "evict-idle",
    ];
    let server = Polyloop::echo(&flags);
    let mut streams: Vec<_> = (0..10).map(|_| server.connect()).collect();
    streams.iter_mut().for_each(assert_echo);
    assert_eq!(server.metric("polyloop_evicted_total"), 0, "ten fit");
    let mut others = Vec::new();
    eventually("five more are let in", || {
        let mut next = server.connect();
        if next.write_all(b"?").is_ok() && next.read_exact(&mut [0]).is_ok() {
            others.push(next);
        }
        others.len() == 5
    });
    eventually("five are closed", || {
        streams.iter().filter(|s| is_closed(s)).count() == 5
    });
    others.iter_mut().for_each(assert_echo);
    assert_eq!(server.metric("polyloop_evicted_total"), 5);
    assert_eq!(server.metric("polyloop_live"), 10);
    drop((streams, others));
    server.end();
}

#[test]
fn two_listeners_share_one_cap() {
    // Goal: the cap is the process's, whichever listener and loop a connection comes to. Method: 100 clients at two
    // listeners and two loops, with a cap of 20; the gauge is watched while they are served and leave.
    let server = Polyloop::echo(&[
        "--listen",
        "127.0.0.1:0",
        "--loops",
        "2",
        "--max-connections",
        "20",
    ]);
    // The flags of this test come after the admin's.
    let services = service_addrs(&server);
    let mut streams: Vec<_> = (0..100).map(|nth| connect(services[nth % 2])).collect();
    streams.iter_mut().for_each(send);
    let mut served = 0;
    eventually("everybody is served", || {
        let metrics = server.metrics();
        assert!(metrics["polyloop_live"] <= 20, "{metrics:?}");
        let before = streams.len();
        streams.retain(|stream| answered(std::slice::from_ref(stream)) == 0);
        served += before - streams.len();
        streams.is_empty()
    });
    assert_eq!(served, 100);
    server.end();
}

/// The addresses that echo.
fn service_addrs(server: &Polyloop) -> Vec<std::net::SocketAddr> {
    let addrs = server.addrs().iter().filter_map(|addr| match addr {
        Addr::Tcp(addr) => Some(*addr),
        Addr::Any(_) | Addr::Unix(_) => None,
    });
    addrs.filter(|addr| *addr != server.admin()).collect()
}
