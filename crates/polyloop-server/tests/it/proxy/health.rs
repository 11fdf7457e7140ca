//! Checks, ejection, and operators who take a backend out.

use super::backend::Backend;
use super::{Records, backend_row, proxy, state_of};
use crate::harness::{Strace, assert_echo, eventually, eventually_is, finish, http, read_all};
use std::io::{ErrorKind, Read};

const CHECKS: [&str; 8] = [
    "--check",
    "connect",
    "--check-interval",
    "50ms",
    "--check-timeout",
    "50ms",
    "--rise",
    "2",
];

#[test]
fn a_hang_up_without_an_error_is_no_failure() {
    // Goal: some kernels tell of a hang-up while a connect succeeds, with SO_ERROR 0: nothing fails for it, neither a session nor
    // a check, of which one alone would take the backend down. Method: strace writes into what each poll of the loop returns:
    // readable, writable, both kinds of hang-up; sessions in a row and checks meanwhile; everything is served, nothing counted.
    let backend = Backend::echo();
    let records = Records::new("hang-up");
    let flags = [
        &CHECKS[..],
        &["--fall", "1", "--eject", "1", "--loops", "1"],
    ]
    .concat();
    let server = records.proxy(&[backend.to()], &flags);
    eventually("it is up", || state_of(&server, 0) == "up");
    let before = backend_row(&server, 0);
    // The first field of the first event, EPOLLIN | EPOLLOUT | EPOLLHUP | EPOLLRDHUP, whatever it was.
    let forged = "epoll_wait,epoll_pwait:poke_exit=@arg2=15200000";
    let Some(strace) = Strace::inject(server.loop_thread(0), forged) else {
        return;
    };
    let checks = backend.accepted();
    let mut sessions = 0;
    eventually("it has been checked some times", || {
        let mut stream = server.connect();
        assert_echo(&mut stream);
        finish(&stream);
        assert_eq!(read_all(&mut stream), b"");
        sessions += 1;
        sessions >= 50 && backend.accepted() >= checks + sessions + 10
    });
    drop(strace);
    let row = backend_row(&server, 0);
    assert_eq!((&row["state"], &row["ejected"]), (&"up".into(), &0.into()));
    for count in [
        "went_down",
        "connect_refused",
        "connect_local",
        "connect_timeouts",
        "resets",
    ] {
        assert_eq!(row[count], before[count], "{count}: {row}");
    }
    server.end();
    let states = records.states();
    assert_eq!(states, vec!["--"; sessions]);
}

#[test]
fn a_dead_backend_is_taken_out_and_brought_back() {
    // Goal: checks find what died and what lives again, and no client notices either. Method: two echoes, one killed, and
    // started again at its address; clients come all the time until the page says so, and every one is served.
    let (mut dies, stays) = (Backend::echo(), Backend::echo());
    let server = proxy(&[dies.to(), stays.to()], &CHECKS);
    eventually_is("both are up", &["up".to_owned(), "up".to_owned()], || {
        assert_echo(&mut server.connect());
        [state_of(&server, 0), state_of(&server, 1)]
    });
    let addr = dies.addr();
    dies.kill();
    eventually_is("it is down", &"checked-down".to_owned(), || {
        assert_echo(&mut server.connect());
        state_of(&server, 0)
    });
    let chosen = || backend_row(&server, 0)["chosen"].as_u64().unwrap();
    let before = chosen();
    for _ in 0..20 {
        assert_echo(&mut server.connect());
    }
    assert_eq!(chosen(), before, "nobody is sent there");
    let back = Backend::echo_at(addr);
    eventually_is("it is up again", &"up".to_owned(), || {
        assert_echo(&mut server.connect());
        state_of(&server, 0)
    });
    eventually("clients come to it", || {
        assert_echo(&mut server.connect());
        chosen() > before
    });
    assert!(back.accepted() > 0);
    eventually("it is told", || {
        let said = server.stderr();
        said.contains("is checked-down") && said.contains("is up")
    });
    server.end();
}

#[test]
fn a_check_of_words_finds_who_answers_otherwise() {
    // Goal: a server that accepts and answers wrong is down. Method: one that says what is expected, one that says
    // something else, and one that says nothing.
    let backends = [
        Backend::named("+PONG\r\n"),
        Backend::named("-LOADING\r\n"),
        Backend::silent(),
    ];
    let to = backends.each_ref().map(Backend::to);
    let checks = ["--check", "send", "--check-expect", "+PONG"];
    let flags = [&checks[..], &CHECKS[2..]].concat();
    let server = proxy(&to, &flags);
    let expected = ["up", "checked-down", "checked-down"].map(str::to_owned);
    eventually_is("as they answer", &expected, || {
        [0, 1, 2].map(|at| state_of(&server, at))
    });
    for _ in 0..20 {
        assert_eq!(read_all(&mut server.connect()), b"+PONG\r\n");
    }
    server.end();
}

#[test]
fn sessions_of_a_backend_that_goes_down_are_closed_where_asked() {
    // Goal: --on-down close ends what a dead backend's sessions would wait for. Method: a session at a backend that
    // listens no more but keeps its connections, as a machine without network does; the client gets a reset, the record
    // says DD.
    let records = Records::new("on-down");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let to = listener.local_addr().unwrap().to_string();
    let flags = [&CHECKS[..], &["--on-down", "close", "--loops", "1"]].concat();
    let server = records.proxy(&[to], &flags);
    let mut client = server.connect();
    std::io::Write::write_all(&mut client, b"x").unwrap();
    let session = loop {
        // Others are checks.
        let (mut stream, _) = listener.accept().unwrap();
        if stream.read(&mut [0]).is_ok_and(|count| count == 1) {
            break stream;
        }
    };
    drop(listener);
    let error = client.read(&mut [0]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    drop(session);
    server.end();
    assert_eq!(records.states(), ["DD"]);
}

#[test]
fn a_backend_that_refuses_is_ejected_without_checks() {
    // Goal: failures of sessions alone take a backend out for a while. Method: one echo and one that is gone; after five
    // failures in a row it is ejected and no longer tried, and all clients were served.
    let (mut gone, stays) = (Backend::echo(), Backend::echo());
    let flags = [
        "--eject",
        "5",
        "--eject-time",
        "1h",
        "--eject-time-max",
        "1h",
    ];
    let server = proxy(&[gone.to(), stays.to()], &flags);
    gone.kill();
    eventually_is("it is ejected", &"ejected".to_owned(), || {
        assert_echo(&mut server.connect());
        state_of(&server, 0)
    });
    let row = backend_row(&server, 0);
    assert_eq!(row["connect_refused"], 5, "{row}");
    for _ in 0..20 {
        assert_echo(&mut server.connect());
    }
    assert_eq!(backend_row(&server, 0)["connect_refused"], 5);
    server.end();
}

#[test]
fn an_operator_takes_a_backend_out_and_brings_it_back() {
    // Goal: drain and down stop new sessions and keep those that are; ready undoes it. Method: POST to the admin listener,
    // a session that stays, ten new ones each time.
    let backends = [Backend::echo(), Backend::echo()];
    let to = backends.each_ref().map(Backend::to);
    let server = proxy(&to, &["--balance", "least"]);
    let mut streams: Vec<_> = (0..2).map(|_| server.connect()).collect();
    streams.iter_mut().for_each(assert_echo);
    let order = |what: &str| {
        let request = format!(
            "POST /backends/0/0/{what} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        );
        let (status, _, body) = http(server.admin(), &request);
        assert_eq!(status, 200, "{body}");
    };
    for what in ["drain", "down"] {
        order(what);
        assert_eq!(state_of(&server, 0), what);
        for _ in 0..10 {
            assert_echo(&mut server.connect());
        }
        assert_eq!(backends[0].accepted(), 1, "{what}");
        streams.iter_mut().for_each(assert_echo);
    }
    order("ready");
    assert_eq!(state_of(&server, 0), "up");
    eventually("clients come to it", || {
        assert_echo(&mut server.connect());
        backends[0].accepted() > 1
    });
    drop(streams);
    server.end();
}
