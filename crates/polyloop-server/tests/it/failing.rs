//! Loops that die or hang while they serve.

use crate::harness::{BINARY, Polyloop, Strace, assert_echo, eventually_is, get};
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A server of two loops with 20 connections in use, and a unix socket, whose file has to go at the end.
fn start() -> (Polyloop, Vec<TcpStream>, PathBuf) {
    let path = std::env::temp_dir().join(format!("polyloop-it-dies-{}.sock", std::process::id()));
    let mut command = Command::new(BINARY);
    command
        .args([
            "echo",
            "--listen",
            "127.0.0.1:0",
            "--loops",
            "2",
            "--listen",
        ])
        .arg(format!("unix:{}", path.display()))
        .args(["--admin", "127.0.0.1:0"])
        .stderr(Stdio::piped());
    let server = Polyloop::run(command);
    let mut streams: Vec<_> = (0..20).map(|_| server.connect()).collect();
    streams.iter_mut().for_each(assert_echo);
    (server, streams, path)
}

/// The loop is named, all connections are counted as cut, the code is 1, and nothing stays behind.
#[track_caller]
fn assert_died(
    mut server: Polyloop,
    streams: &mut [TcpStream],
    late: usize,
    path: &Path,
    why: &str,
) {
    assert_eq!(server.wait().code(), Some(1), "{}", server.stderr());
    let line = server.last_line();
    let (cut, rest) = line
        .strip_prefix("stopped: a loop died, ")
        .and_then(|rest| rest.split_once(" connections cut; "))
        .unwrap_or_else(|| panic!("{line}"));
    // Those who came late may have got in at the other loop.
    let cut: usize = cut.parse().unwrap();
    assert!(
        (streams.len()..=streams.len() + late).contains(&cut),
        "{line}"
    );
    assert!(rest.starts_with(why), "{line}");
    let told = server.stderr();
    assert!(told.contains(": this is a bug; the process ends"), "{told}");
    for stream in streams {
        // What was answered before may still be there.
        match stream.read_to_end(&mut Vec::new()) {
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
        }
    }
    assert!(!path.exists(), "the socket's file is still there");
}

#[test]
fn a_loop_whose_listener_is_none_any_more_ends_the_process() {
    // Goal: a loop that dies of a panic is reported, the others are stopped, and the process ends with 1 rather than
    // serve on with a deaf listener. Method: strace has its accepts fail as if the descriptor were none.
    let (server, mut streams, path) = start();
    let Some(_strace) = Strace::inject(server.loop_thread(1), "accept4:error=EBADF") else {
        return;
    };
    // The kernel spreads by a hash: some of those who come now come to that loop.
    let late: Vec<_> = (0..32).map(|_| TcpStream::connect(server.addr())).collect();
    assert_died(
        server,
        &mut streams,
        late.len(),
        &path,
        "loop 1 panicked: a listener is none: ",
    );
    drop(late);
}

#[test]
fn a_loop_whose_poll_fails_ends_the_process() {
    // Goal: the same for a loop that cannot poll. Method: strace makes its polls fail.
    let (server, mut streams, path) = start();
    let Some(_strace) = Strace::inject(server.loop_thread(1), "epoll_wait:error=EBADF") else {
        return;
    };
    // Whoever is on that loop wakes it.
    streams
        .iter_mut()
        .for_each(|stream| stream.write_all(b"?").unwrap());
    assert_died(
        server,
        &mut streams,
        0,
        &path,
        "loop 1 failed: Bad file descriptor",
    );
}

#[test]
fn health_is_told_while_the_loop_of_the_admin_listener_is_stuck() {
    // Goal: /healthz turns to 503 while a loop is stuck, also when that loop is the one with the admin listener, and
    // back to 200. Method: strace holds each loop in turn in the call that reads a request.
    let server = Polyloop::echo(&["--loops", "2"]);
    for index in 0..2 {
        let mut streams: Vec<_> = (0..32).map(|_| server.connect()).collect();
        streams.iter_mut().for_each(assert_echo);
        assert_eq!(get(server.admin(), "/healthz").0, 200);
        let what = "recvfrom:delay_enter=1000000000";
        let Some(strace) = Strace::inject(server.loop_thread(index), what) else {
            return server.end();
        };
        streams
            .iter_mut()
            .for_each(|stream| stream.write_all(b"?").unwrap());
        let stuck = (503, "1 of 2 loops stuck\n".to_owned());
        eventually_is("it is told", &stuck, || get(server.admin(), "/healthz"));
        drop(strace);
        let well = (200, "ok\n".to_owned());
        eventually_is("it is well again", &well, || {
            get(server.admin(), "/healthz")
        });
        let told = server.stderr();
        let report = told
            .lines()
            .rfind(|line| line.contains("is stuck: "))
            .unwrap();
        assert!(report.contains(&format!("loop {index} ")), "{report}");
    }
    server.end();
}
