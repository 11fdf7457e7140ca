//! Connections over loops, listeners of each kind, the cap.

use crate::harness::{
    ANY_PORT, Echo, Site, alone, ask, assert_closed, assert_echo, connect, echo, eventually,
    finish, pattern, read_all, settings, settings_with,
};
use polyloop::{
    AcceptMode, Accepted, CloseReason, GateKind, Server, ServerSettings, Spread, WhenFull,
};
use polyloop_sys::cores;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::thread;

/// Live connections by loop.
fn live(site: &Site) -> Vec<u64> {
    let boards = site.status().boards.iter();
    boards.map(|board| board.numbers.live.value()).collect()
}

/// Opens connections one after the other, each only once the last one is counted, so that the loads that choices
/// depend on are known.
fn connect_in_turn(site: &Site, count: usize) -> Vec<TcpStream> {
    let mut streams = Vec::with_capacity(count);
    for nth in 1..=count {
        streams.push(site.connect());
        eventually("the connection is counted", || {
            site.sum(|numbers| numbers.opened.value()) == nth as u64
        });
    }
    streams
}

#[test]
fn two_choices_keep_two_loops_even() {
    // Goal: with one loop accepting and two choices the busiest of two loops has at most 1.02 of the mean of 512.
    // Method: exact counts, connections as fast as they come; then half of them leave and come again.
    let site = echo(settings_with(2, AcceptMode::Acceptor(Spread::TwoChoices)));
    let mut streams: Vec<_> = (0..512).map(|_| site.connect()).collect();
    for _ in 0..2 {
        streams.iter_mut().for_each(assert_echo);
        let live = live(&site);
        let busiest = *live.iter().max().unwrap();
        assert_eq!(live.iter().sum::<u64>(), 512);
        assert!(busiest * 100 <= 256 * 102, "{live:?}");
        // Those of one loop mostly: the chooser has something to mend.
        let mut nth = 0;
        streams.retain(|_| {
            nth += 1;
            nth % 4 != 0 || nth > 256
        });
        eventually("they have left", || {
            site.status().live() == streams.len() as u64
        });
        while streams.len() < 512 {
            streams.push(site.connect());
        }
    }
    streams.iter_mut().for_each(assert_echo);
    drop(streams);
    site.settle();
    let handed = site.sum(|numbers| numbers.handed_out.value());
    assert_eq!(handed, site.sum(|numbers| numbers.adopted.value()));
    site.end();
}

#[test]
fn every_spread_serves_and_keeps_its_promise() {
    // Goal: each way to spread does what its name says. Method: 64 connections in turn over two loops, exact counts.
    for spread in [Spread::RoundRobin, Spread::Least, Spread::SourceHash] {
        let site = echo(settings_with(2, AcceptMode::Acceptor(spread)));
        let mut streams = connect_in_turn(&site, 64);
        streams.iter_mut().for_each(assert_echo);
        let live = live(&site);
        match spread {
            // One source: all are on one loop.
            Spread::SourceHash => assert!(live.contains(&64), "{live:?}"),
            _ => assert_eq!(live, [32, 32], "{spread:?}"),
        }
        drop(streams);
        site.end();
    }
}

#[test]
fn reuseport_is_corrected_above_its_margin() {
    // Goal: a loop more than 10 % over the mean hands new connections on. Method: 256 connections in turn; of the first
    // few the kernel's hash gives one loop too many, so the counter of hand-overs must move.
    let accept = AcceptMode::Reuseport {
        correct_above_percent: Some(10),
    };
    let site = echo(settings_with(2, accept));
    let mut streams = connect_in_turn(&site, 256);
    streams.iter_mut().for_each(assert_echo);
    let live = live(&site);
    // A tenth over the mean, and the connection that crosses it.
    assert!(live.iter().all(|&live| live <= 128 + 12 + 1), "{live:?}");
    assert!(site.sum(|numbers| numbers.handed_out.value()) > 0);
    drop(streams);
    site.end();
}

#[test]
fn reuseport_cpu_serves_a_connection_on_the_core_it_came_in_on() {
    // Goal: the filter in the kernel names the loop of the receiving core. Method: a client pinned to each core in
    // turn; over loopback, packets arrive where they were sent.
    let site_cores = cores::allowed();
    if site_cores.len() < 2 || cores::quota() < site_cores.len() {
        eprintln!("skipped: loops are pinned only where there are two cores and no smaller quota");
        return;
    }
    let site = echo(settings_with(2, AcceptMode::ReuseportCpu));
    let mut streams = Vec::new();
    for (index, core) in site
        .status()
        .placement
        .loops
        .clone()
        .into_iter()
        .enumerate()
    {
        let addr = site.addr();
        let clients = thread::spawn(move || {
            cores::pin_current_thread(core.unwrap()).unwrap();
            let mut streams: Vec<_> = (0..16).map(|_| connect(addr)).collect();
            streams.iter_mut().for_each(assert_echo);
            streams
        });
        streams.extend(clients.join().unwrap());
        assert_eq!(live(&site)[index], 16, "core {core:?}");
    }
    drop(streams);
    site.end();
}

#[test]
fn a_unix_socket_is_served_and_its_file_removed() {
    // Goal: unix listeners serve as TCP ones do and leave no file behind. Method: half-close with 1 MiB over one, with
    // two loops, so that connections are handed over.
    let alone = alone();
    let path = std::env::temp_dir().join(format!("polyloop-it-{}.sock", std::process::id()));
    let server = Server::new(|_: Accepted| Echo);
    let server = server.listen(&format!("unix:{}", path.display())).unwrap();
    let acceptor = AcceptMode::Acceptor(Spread::RoundRobin);
    let site = Site::start_alone(&alone, server.settings(settings_with(2, acceptor)));
    let sent = pattern(1 << 20);
    for _ in 0..4 {
        let mut stream = UnixStream::connect(&path).unwrap();
        let mut writer = stream.try_clone().unwrap();
        let received = thread::scope(|scope| {
            scope.spawn(|| {
                writer.write_all(&sent).unwrap();
                writer.shutdown(std::net::Shutdown::Write).unwrap();
            });
            let mut received = Vec::new();
            std::io::Read::read_to_end(&mut stream, &mut received).unwrap();
            received
        });
        assert!(received == sent);
    }
    assert_eq!(site.sum(|numbers| numbers.adopted.value()), 2);
    site.end();
    assert!(!path.exists(), "the socket's file is still there");
}

/// A server with two listeners, two loops and a cap of eight.
fn capped(when_full: WhenFull) -> Site {
    let server = Server::new(|_: Accepted| Echo).listen(ANY_PORT).unwrap();
    let server = server.listen(ANY_PORT).unwrap();
    Site::start(server.settings(ServerSettings {
        connections_max: Some(CAP),
        when_full,
        ..settings(2)
    }))
}

const CAP: u64 = 8;

fn connect_to(site: &Site, listener: usize) -> TcpStream {
    connect(site.status().listeners[listener].addr.parse().unwrap())
}

#[test]
fn at_the_cap_the_others_wait_and_are_served_in_their_time() {
    // Goal: never more than the cap, over all listeners and loops, and nobody who waits is forgotten. Method: 200
    // clients, each finishing its half at once; every session holds its place until its client has read it all, and
    // clients read one after the other.
    let site = capped(WhenFull::Wait);
    let mut streams: Vec<_> = (0..200).map(|nth| connect_to(&site, nth % 2)).collect();
    eventually("the cap is reached", || site.status().live() == CAP);
    for stream in &mut streams {
        stream.write_all(b"once").unwrap();
    }
    // Which ones were let in is the kernel's affair; those answer and leave, and make room.
    let mut served = 0;
    for stream in &mut streams {
        stream.set_nonblocking(true).unwrap();
    }
    eventually("everybody is served", || {
        let live = site.status().live();
        assert!(live <= CAP, "{live} connections at a cap of {CAP}");
        assert!(site.status().permits.in_use() <= CAP);
        streams.retain_mut(|stream| {
            let mut answer = [0; 4];
            match std::io::Read::read(stream, &mut answer) {
                Ok(4) => {
                    assert_eq!(&answer, b"once");
                    served += 1;
                    false
                }
                Ok(count) => panic!("{count} bytes"),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => true,
                Err(error) => panic!("{error}"),
            }
        });
        streams.is_empty()
    });
    assert_eq!(served, 200);
    assert!(site.sum(|numbers| numbers.accept_paused.value()) > 0);
    site.settle();
    // Resumed because a connection of ours closed; the safety timer had nothing to mend.
    assert_eq!(
        site.sum(|numbers| numbers.accept_resumed_by_timer.value()),
        0
    );
    site.end();
}

#[test]
fn at_the_cap_the_others_are_refused_or_replace_the_idle() {
    // Goal: the two other policies: refused at once, or let in for one that is closed. Method: fill the cap, then one
    // more at each listener.
    let site = capped(WhenFull::Refuse);
    let mut streams: Vec<_> = (0..8).map(|nth| connect_to(&site, nth % 2)).collect();
    streams.iter_mut().for_each(assert_echo);
    for listener in [0, 1] {
        assert_closed(&mut connect_to(&site, listener));
    }
    assert_eq!(site.sum(|numbers| numbers.refused.value()), 2);
    streams.iter_mut().for_each(assert_echo);
    drop(streams);
    site.settle();
    assert_echo(&mut site.connect());
    site.end();

    let server = Server::new(|_: Accepted| Echo).listen(ANY_PORT).unwrap();
    let site = Site::start(server.settings(ServerSettings {
        connections_max: Some(CAP),
        when_full: WhenFull::EvictIdle,
        ..settings(1)
    }));
    let mut streams = connect_in_turn(&site, 8);
    streams.iter_mut().for_each(assert_echo);
    assert_eq!(site.closes(CloseReason::Evicted), 0, "eight fit");
    for evicted in 1..=4 {
        // Nobody who was busy a moment ago makes room: until the eight have been idle for a second, who comes is refused.
        eventually("there is somebody idle", || {
            let mut next = site.connect();
            let is_in = next.write_all(b"?").is_ok() && next.read_exact(&mut [0]).is_ok();
            if is_in {
                streams.push(next);
            }
            is_in
        });
        assert_eq!(site.closes(CloseReason::Evicted), evicted);
        assert_eq!(site.status().live(), CAP);
    }
    drop(streams);
    site.end();
}

#[test]
fn an_admin_gets_in_when_the_server_is_full() {
    // Goal: admin connections take no permit, have a bound of their own, and are not counted as live. Method: a cap of
    // two, both taken; admin listener with room for one.
    let admin = GateKind::Admin { connections_max: 1 };
    let server = Server::new(|_: Accepted| Echo).listen(ANY_PORT).unwrap();
    let server = server.listen_on(ANY_PORT.parse().unwrap(), admin);
    let site = Site::start(server.settings(ServerSettings {
        connections_max: Some(2),
        ..settings(2)
    }));
    let mut taken: Vec<_> = (0..2).map(|_| site.connect()).collect();
    taken.iter_mut().for_each(assert_echo);
    let waiting = site.connect();
    let mut stream = connect_to(&site, 1);
    assert_eq!(ask(&mut stream, b"metrics?"), b"metrics?");
    assert_closed(&mut connect_to(&site, 1));
    assert_eq!(site.status().live(), 2);
    finish(&stream);
    assert_eq!(read_all(&mut stream), b"");
    drop((taken, waiting, stream));
    site.end();
}
