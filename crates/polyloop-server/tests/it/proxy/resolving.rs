//! Backends that are named: their addresses come, move, go, and fail.

use super::backend::Backend;
use super::dns::Dns;
use super::{backend_row, page, proxy, state_of};
use crate::harness::{Polyloop, assert_echo, eventually, http, read_all};
use rustix::process::Signal;
use std::collections::BTreeMap;
use std::io::{ErrorKind, Read};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

/// Addresses of this host, whatever it is.
const HOSTS: [[u8; 4]; 3] = [[127, 0, 0, 1], [127, 0, 0, 2], [127, 0, 0, 3]];

/// Backends that say their names, on one port of the first so many hosts; and that port.
fn named_on_one_port(names: &[&'static str]) -> (Vec<Backend>, u16) {
    loop {
        let first = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = first.local_addr().unwrap().port();
        let bind = |host: &[u8; 4]| TcpListener::bind((Ipv4Addr::from(*host), port)).ok();
        let others: Option<Vec<_>> = HOSTS[1..names.len()].iter().map(bind).collect();
        // Somebody else may be on that port of another host.
        if let Some(others) = others {
            let listeners = std::iter::once(first).chain(others);
            let backends = listeners.zip(names);
            let backends = backends.map(|(listener, name)| Backend::named_on(listener, name));
            return (backends.collect(), port);
        }
    }
}

/// A proxy to one target whose name this server knows.
fn proxy_by(dns: &Dns, to: &str, flags: &[&str]) -> Polyloop {
    let server = dns.addr();
    let all = [&["--dns", &server, "--balance", "round-robin"][..], flags].concat();
    proxy(&[to.to_owned()], &all)
}

/// What a new session hears, to the end.
fn hear(server: &Polyloop) -> String {
    String::from_utf8(read_all(&mut server.connect())).unwrap()
}

/// Who answers so many sessions, and how often.
fn hear_many(server: &Polyloop, sessions: usize) -> BTreeMap<String, usize> {
    let mut heard = BTreeMap::new();
    for _ in 0..sessions {
        *heard.entry(hear(server)).or_default() += 1;
    }
    heard
}

fn order(server: &Polyloop, backend: usize, what: &str) {
    let request = format!(
        "POST /backends/0/{backend}/{what} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    );
    let (status, _, body) = http(server.admin(), &request);
    assert_eq!(status, 200, "{body}");
}

#[test]
fn addresses_become_backends_of_their_own() {
    // Goal: with slots, each address has health and counts of its own, and an empty slot gets nobody. Method: two addresses and
    // four slots; equal shares; then an operator takes one out.
    let dns = Dns::start();
    let (_backends, port) = named_on_one_port(&["one", "two"]);
    dns.set_host("db.test", &HOSTS[..2], 60);
    let server = proxy_by(
        &dns,
        &format!("db.test:{port},slots=4,name=db"),
        &["--loops", "1"],
    );
    let states = [0, 1, 2, 3].map(|at| state_of(&server, at));
    assert_eq!(states, ["up", "up", "no-address", "no-address"]);
    let names = [0, 3].map(|at| backend_row(&server, at)["name"].clone());
    assert_eq!(names, ["db#1", "db#4"]);
    let heard = hear_many(&server, 10);
    assert_eq!(heard, [("one".to_owned(), 5), ("two".to_owned(), 5)].into());
    order(&server, 0, "drain");
    assert_eq!(hear_many(&server, 5), [("two".to_owned(), 5)].into());
    let name = page(&server)["groups"][0]["names"][0].clone();
    assert_eq!(
        (&name["name"], &name["addresses"]),
        (&"db.test".into(), &2.into())
    );
    assert_eq!(server.metric("polyloop_name_addresses"), 2);
    assert_eq!(server.metric("polyloop_name_failures_total"), 0);
    assert!(server.metric("polyloop_name_look_ups_total") > 0);
    server.end();
}

#[test]
fn sessions_follow_a_name_that_moves_and_stay_with_one_that_fails() {
    // Goal: a name is asked again when its TTL ends, and the last answer outlives failures. Method: an address that is replaced
    // after a TTL of one second; then a server that fails, twice at least; then a third address.
    let dns = Dns::start();
    let (_backends, port) = named_on_one_port(&["one", "two", "three"]);
    dns.set_host("db.test", &HOSTS[..1], 1);
    let server = proxy_by(&dns, &format!("db.test:{port}"), &[]);
    assert_eq!(hear(&server), "one");
    dns.set_host("db.test", &HOSTS[1..2], 1);
    eventually("sessions move", || hear(&server) == "two");
    dns.fail("db.test");
    eventually("look-ups fail", || {
        assert_eq!(hear(&server), "two");
        server.metric("polyloop_name_failures_total") >= 2
    });
    assert_eq!(state_of(&server, 0), "up");
    assert!(server.stderr().contains("its last addresses stay"));
    let error = page(&server)["groups"][0]["names"][0]["error"].clone();
    assert!(error.is_string(), "{error}");
    dns.mend("db.test");
    dns.set_host("db.test", &HOSTS[2..], 60);
    eventually("sessions move again", || hear(&server) == "three");
    server.end();
}

#[test]
fn records_of_a_service_bring_ports_weights_and_backups() {
    // Goal: SRV records are followed in all they say. Method: two ordinary ones with shares of 3 to 1 and a backup, each on a
    // port of its own; then the ordinary ones are taken out by hand; then the records are exchanged.
    let dns = Dns::start();
    let backends = ["heavy", "light", "spare"].map(Backend::named);
    let port = |at: usize| backends[at].addr().port();
    dns.set_host("db.test", &HOSTS[..1], 60);
    let records = [
        (10, 30_000, port(0), "db.test"),
        (10, 10_000, port(1), "db.test"),
        (20, 1, port(2), "db.test"),
    ];
    dns.set_service("_db._tcp.test", &records, 1);
    let server = proxy_by(&dns, "srv:_db._tcp.test", &["--loops", "1"]);
    let heard = hear_many(&server, 40);
    assert!((29..=31).contains(&heard["heavy"]), "{heard:?}");
    assert_eq!(heard.values().sum::<usize>(), 40);
    assert!(!heard.contains_key("spare"), "{heard:?}");
    let rows = page(&server)["groups"][0]["backends"].clone();
    let rows: Vec<_> = rows.as_array().unwrap().iter().collect();
    let up: Vec<_> = rows.iter().filter(|row| row["state"] == "up").collect();
    assert_eq!((rows.len(), up.len()), (8, 3));
    let ordinary = |row: &&&serde_json::Value| row["backup"] == false;
    assert_eq!(up.iter().filter(|row| ordinary(row)).count(), 2);
    for (at, row) in rows.iter().enumerate() {
        if row["state"] == "up" && row["backup"] == false {
            order(&server, at, "down");
        }
    }
    assert_eq!(hear_many(&server, 5), [("spare".to_owned(), 5)].into());
    dns.set_service("_db._tcp.test", &[(10, 0, port(2), "db.test")], 1);
    eventually("what was a backup is ordinary", || {
        let rows = page(&server)["groups"][0]["backends"].clone();
        let rows = rows.as_array().unwrap();
        let mut up = rows.iter().filter(|row| row["state"] == "up");
        up.all(|row| row["backup"] == false) && server.stderr().contains("has 1 addresses now")
    });
    assert_eq!(hear(&server), "spare");
    server.end();
}

#[test]
fn a_session_is_served_if_one_of_the_addresses_answers() {
    // Goal: an address where nobody listens costs nobody a session, and the backend nothing, with no retries at all; a check
    // sees it the same way. Method: three addresses of one backend, of which only the last is served.
    for flags in [
        &["--retries", "0"][..],
        &["--retries", "0", "--check", "connect"],
    ] {
        let dns = Dns::start();
        let (mut backends, port) = named_on_one_port(&["one", "two", "three"]);
        backends.iter_mut().take(2).for_each(Backend::kill);
        dns.set_host("db.test", &HOSTS, 60);
        let server = proxy_by(&dns, &format!("db.test:{port}"), flags);
        assert_eq!(hear_many(&server, 30), [("three".to_owned(), 30)].into());
        let row = backend_row(&server, 0);
        assert_eq!((&row["state"], &row["ejected"]), (&"up".into(), &0.into()));
        assert_eq!(row["went_down"], 0);
        assert!(row["connect_refused"].as_u64() > Some(0), "{row}");
        server.end();
    }
}

#[test]
fn a_backend_is_ejected_only_if_no_address_answers() {
    // Goal: failures count once for all addresses. Method: two addresses, nobody at either, beside an echo; after so many
    // sessions the backend is ejected, having been tried twice by each.
    let dns = Dns::start();
    let (mut backends, port) = named_on_one_port(&["one", "two"]);
    backends.iter_mut().for_each(Backend::kill);
    dns.set_host("db.test", &HOSTS[..2], 60);
    let stays = Backend::echo();
    let server_addr = dns.addr();
    let flags = [
        "--dns",
        &server_addr,
        "--eject",
        "3",
        "--eject-time",
        "1m",
        "--loops",
        "1",
    ];
    let server = proxy(&[format!("db.test:{port}"), stays.to()], &flags);
    eventually("it is ejected", || {
        assert_echo(&mut server.connect());
        state_of(&server, 0) == "ejected"
    });
    assert_eq!(backend_row(&server, 0)["connect_refused"], 6);
    server.end();
}

#[test]
fn a_name_that_cannot_be_found_at_the_start_is_told_and_served_later() {
    // Goal: a start does not depend on the DNS, and says what is missing. Method: a server that fails at first; a client is
    // reset; then it answers.
    let dns = Dns::start();
    let backend = Backend::echo();
    dns.fail("db.test");
    let port = backend.addr().port();
    let server = proxy_by(&dns, &format!("db.test:{port}"), &[]);
    eventually("it is told", || {
        let said = server.stderr();
        said.contains("name main/db.test:") && said.contains("it has no address yet")
    });
    assert_eq!(state_of(&server, 0), "no-address");
    let error = server.connect().read(&mut [0]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    dns.mend("db.test");
    dns.set_host("db.test", &HOSTS[..1], 60);
    eventually("it is found", || state_of(&server, 0) == "up");
    assert_echo(&mut server.connect());
    server.end();
}

#[test]
fn a_name_server_that_never_answers_delays_the_start_and_nothing_else() {
    // Goal: a start waits for names no longer than it says, and what is not known is left out until it is. Method: a server that
    // hears questions and is silent; serving is announced all the same; sessions go to the backend that has an address; with
    // that one taken out they are reset and counted; then the server speaks.
    let dns = Dns::start_mute();
    let (named, stays) = (Backend::named("named"), Backend::named("stays"));
    dns.set_host("db.test", &HOSTS[..1], 60);
    let server_addr = dns.addr();
    let to = [format!("db.test:{}", named.addr().port()), stays.to()];
    let mut server = proxy(&to, &["--dns", &server_addr]);
    assert_eq!(state_of(&server, 0), "no-address");
    assert_eq!(hear_many(&server, 20), [("stays".to_owned(), 20)].into());
    order(&server, 1, "down");
    for _ in 0..3 {
        let error = server.connect().read(&mut [0]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    }
    let refused = page(&server)["listeners"][0]["refused"].clone();
    let count = |reason: &str| refused[reason].as_u64().unwrap_or(0);
    assert_eq!(count("name_unknown") + count("no_backend"), 3, "{refused}");
    eventually("it is told", || {
        server.stderr().contains("it has no address yet")
    });
    dns.speak();
    eventually("it is found", || state_of(&server, 0) == "up");
    // At the start a look-up was under way, with sockets of its own.
    server.recount_descriptors();
    assert_eq!(hear_many(&server, 20), [("named".to_owned(), 20)].into());
    server.end();
}

#[test]
fn a_look_up_that_nobody_answers_is_given_up_at_the_end() {
    // Goal: who is told to end waits for no answer of the DNS. Method: SIGTERM as soon as a proxy serves whose name server is silent. (Whether everything came back is asked of a process that goes on, so not of this one.)
    let dns = Dns::start_mute();
    let mut server = proxy_by(&dns, "db.test:9", &[]);
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(0), "{}", server.stderr());
}

#[test]
fn a_name_of_the_hosts_file_needs_no_server() {
    // Goal: localhost works without DNS, whichever family the backend listens on. Method: a server nobody is at, and an echo on
    // one of localhost's addresses.
    let backend = Backend::echo();
    let SocketAddr::V4(addr) = backend.addr() else {
        panic!("it listens on IPv4");
    };
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap();
    let dns = nobody.local_addr().unwrap().to_string();
    let to = format!("localhost:{}", addr.port());
    let server = proxy(&[to], &["--dns", &dns, "--retries", "0"]);
    for _ in 0..10 {
        assert_echo(&mut server.connect());
    }
    server.end();
}
