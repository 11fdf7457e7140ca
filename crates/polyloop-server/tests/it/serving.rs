//! Every byte, for clients that are not ours, and for very many of ours.

use crate::harness::{Polyloop, assert_echo, eventually, finish, get, pattern, read_all, reset};
use rustix::process::{Resource, getrlimit};
use std::fs::{self, File};
use std::io::Write;
use std::process::{Command, Stdio};

/// Whether a program is here; a test that needs it says so and passes if not.
fn has(program: &str) -> bool {
    let found = Command::new("sh")
        .args(["-c", &format!("command -v {program}")])
        .stdout(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if !found {
        eprintln!("skipped: there is no {program}");
    }
    found
}

/// Runs a shell command that is given the port as `$PORT`; its output.
#[track_caller]
fn sh(server: &Polyloop, script: &str) -> String {
    let output = Command::new("timeout")
        .args(["30", "sh", "-c", script])
        .env("PORT", server.addr().port().to_string())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(output.status.success(), "{script}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn clients_that_are_not_ours_are_served() {
    // Goal: the echo is one for everybody. Method: netcat, socat and Python, each with its own ways to end a
    // connection; skipped one by one where they are missing.
    let server = Polyloop::echo(&[]);
    if has("nc") {
        let answer = sh(&server, "printf 'from netcat' | nc -N 127.0.0.1 $PORT");
        assert_eq!(answer, "from netcat");
    }
    if has("socat") {
        let script = "printf 'from socat' | socat -t 30 - TCP:127.0.0.1:$PORT";
        assert_eq!(sh(&server, script), "from socat");
    }
    if has("python3") {
        let script = r#"python3 -c '
import os, socket
s = socket.create_connection(("127.0.0.1", int(os.environ["PORT"])))
for line in (b"one ", b"two ", b"three"):
    s.sendall(line)
s.shutdown(socket.SHUT_WR)
print(b"".join(iter(lambda: s.recv(4096), b"")).decode())
'"#;
        assert_eq!(sh(&server, script).trim(), "one two three");
    }
    server.end();
}

#[test]
fn fifty_megabytes_come_back_after_a_half_close() {
    // Goal: a client that sends its FIN gets every byte of a large transfer. Method: 50 MB through netcat, which
    // finishes its half at the end of its input; compared byte by byte.
    if !has("nc") {
        return;
    }
    let server = Polyloop::echo(&[]);
    let dir = std::env::temp_dir();
    let sent_path = dir.join(format!("polyloop-it-{}.sent", server.pid()));
    let got_path = dir.join(format!("polyloop-it-{}.got", server.pid()));
    let sent = pattern(50_000_000);
    fs::write(&sent_path, &sent).unwrap();
    let status = Command::new("timeout")
        .args(["60", "nc", "-N", "127.0.0.1"])
        .arg(server.addr().port().to_string())
        .stdin(File::open(&sent_path).unwrap())
        .stdout(File::create(&got_path).unwrap())
        .status()
        .unwrap();
    let got = fs::read(&got_path).unwrap();
    for path in [sent_path, got_path] {
        fs::remove_file(path).unwrap();
    }
    assert!(status.success());
    assert_eq!(got.len(), sent.len());
    assert!(got == sent, "bytes differ");
    server.end();
}

#[test]
fn a_thousand_transfers_at_once_keep_their_bytes_apart() {
    // Goal: connections do not see each other's bytes. Method: 100 at a time, ten times, each with bytes of its own,
    // with half-close, over two loops.
    let server = Polyloop::echo(&["--loops", "2"]);
    let all = pattern(200_000);
    for _ in 0..10 {
        let streams: Vec<_> = (0..100)
            .map(|nth| {
                let mut stream = server.connect();
                stream
                    .write_all(&all[nth * 100..nth * 100 + 10_000])
                    .unwrap();
                finish(&stream);
                stream
            })
            .collect();
        for (nth, mut stream) in streams.into_iter().enumerate() {
            assert!(read_all(&mut stream) == all[nth * 100..nth * 100 + 10_000]);
        }
    }
    server.end();
}

#[test]
fn ten_thousand_resets_leave_nothing() {
    // Goal: connections that are reset at once cost nothing that stays. Method: 10,000 in batches of 500, half of
    // them with a byte sent, while one client is served.
    let server = Polyloop::echo(&["--loops", "2"]);
    let mut other = server.connect();
    for _ in 0..20 {
        let streams: Vec<_> = (0..500).map(|_| server.connect()).collect();
        for (nth, mut stream) in streams.into_iter().enumerate() {
            if nth % 2 == 0 {
                // It may be reset by the time the byte would leave; that is the point.
                let _ = stream.write_all(b"x");
            }
            reset(stream);
        }
        assert_echo(&mut other);
    }
    drop(other);
    server.end();
}

#[test]
fn nineteen_thousand_connections_fit_with_default_flags() {
    // Goal: 19,000 connections on one process under a limit of 20,000, all served, all given back. Method: open them
    // all, one echo each, twice; close them. The client is this process, under the same limit.
    let limit = getrlimit(Resource::Nofile);
    let hard = limit.maximum.unwrap_or(u64::MAX);
    if hard < 20_000 {
        eprintln!("skipped: the hard limit of open files is {hard}");
        return;
    }
    rustix::process::setrlimit(
        Resource::Nofile,
        rustix::process::Rlimit {
            current: limit.maximum,
            ..limit
        },
    )
    .unwrap();
    let server = Polyloop::echo(&[]);
    let mut streams: Vec<_> = (0..19_000).map(|_| server.connect()).collect();
    for _ in 0..2 {
        streams.iter_mut().for_each(assert_echo);
    }
    eventually("all are counted", || {
        server.metric("polyloop_live") == 19_000
    });
    server.rest();
    drop(streams);
    server.end();
}

/// How often each loop was ready to sleep, as `/loops` tells it.
#[track_caller]
fn polls_slept(server: &Polyloop) -> Vec<u64> {
    let (status, body) = get(server.admin(), "/loops");
    assert_eq!(status, 200);
    let value: serde_json::Value = serde_json::from_str(&body).unwrap();
    let loops = value["loops"].as_array().unwrap();
    let slept = loops
        .iter()
        .map(|of| find_number(of, "polls_slept").unwrap());
    slept.collect()
}

/// The first number of this name, however deep.
fn find_number(value: &serde_json::Value, name: &str) -> Option<u64> {
    let object = value.as_object()?;
    let here = object.get(name).and_then(serde_json::Value::as_u64);
    here.or_else(|| object.values().find_map(|inner| find_number(inner, name)))
}

#[test]
fn settings_for_a_core_are_those_of_its_loop_alone() {
    // Goal: `--on-core` reaches the loop that is pinned to that core, and `--spin` all of them. Method: connections dealt
    // out in turn, one echo after the other; a loop that spins for a second between two of them hardly ever sleeps.
    let cores = polyloop_sys::cores::allowed();
    let [first, second, ..] = cores[..] else {
        eprintln!("skipped: there is one core only");
        return;
    };
    let both = format!("{first},{second}");
    let on_second = format!("{second}:spin=1s");
    let deal = [
        "--cores",
        &both,
        "--accept",
        "acceptor",
        "--spread",
        "round-robin",
    ];
    for (flags, spins) in [
        (&["--on-core", &on_second][..], [false, true]),
        (&["--spin", "1s"], [true, true]),
        (&[], [false, false]),
    ] {
        let server = Polyloop::echo(&[&deal[..], flags].concat());
        let mut streams: Vec<_> = (0..4).map(|_| server.connect()).collect();
        streams.iter_mut().for_each(assert_echo);
        let before = polls_slept(&server);
        for _ in 0..100 {
            streams.iter_mut().for_each(assert_echo);
        }
        let slept: Vec<_> = polls_slept(&server)
            .iter()
            .zip(before)
            .map(|(after, before)| after - before)
            .collect();
        // 200 echoes each. Those who ask come by loop 0, and an echo may come before a loop has gone to sleep.
        let seen: Vec<_> = slept.iter().map(|&count| count < 20).collect();
        assert_eq!(seen, spins, "{flags:?}: {slept:?}");
        drop(streams);
        server.end();
    }
}
