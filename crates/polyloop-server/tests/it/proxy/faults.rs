//! Bad days at the doors: storms of resets, one source that takes everything, forged fields, backends that flap.

use super::backend::{Backend, Process};
use super::foreign::Directory;
use super::{Records, backend_row, has, page, proxy, sh, state_of};
use crate::harness::{
    self, Addr, BINARY, DEADLINE, Polyloop, assert_echo, eventually, finish, read_all, reset,
    run_to_end,
};
use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
use rustix::process::geteuid;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::{fs, thread};

/// A client that comes from an address of its own choice. Who is refused may be so before he knows that he is connected.
fn connect_from(source: [u8; 4], addr: SocketAddr) -> io::Result<TcpStream> {
    let fd = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    bind(&fd, &SocketAddr::new(IpAddr::from(source), 0)).unwrap();
    connect(&fd, &addr)?;
    let stream = TcpStream::from(fd);
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.set_write_timeout(Some(DEADLINE)).unwrap();
    Ok(stream)
}

#[test]
fn a_storm_of_resets_leaves_nothing() {
    // Goal: clients that connect and break off at once, thousands of them, cost nothing afterwards, and nobody else their
    // session. Method: 10,000 of them by four threads, at every moment of a session's beginning, while one session talks;
    // the counts agree.
    let backend = Process::echo();
    let server = proxy(&[backend.to()], &[]);
    let addr = server.addr();
    let mut stays = server.connect();
    thread::scope(|scope| {
        let storm: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    for nth in 0..2_500 {
                        let mut stream = harness::connect(addr);
                        if nth % 4 == 0 {
                            stream.write_all(b"?").unwrap();
                        }
                        reset(stream);
                    }
                })
            })
            .collect();
        while storm.iter().any(|thread| !thread.is_finished()) {
            assert_echo(&mut stays);
        }
    });
    assert_echo(&mut stays);
    drop(stays);
    eventually("all have ended", || {
        server.metric("polyloop_proxy_live") == 0
    });
    let sessions = page(&server)["listeners"][0]["sessions"].as_u64().unwrap();
    // Whom the kernel took back before he was accepted was never a session.
    assert!((1..=10_001).contains(&sessions), "{sessions}");
    server.end();
}

#[test]
fn sockets_that_the_system_destroys_end_their_sessions() {
    // Goal: sockets that are aborted under the proxy, on either side, end their sessions at once. Method: 200 sessions that
    // have talked, again and again; `ss -K` destroys the proxy's sockets to their clients, then those to the backend; all
    // clients find out, and new ones are served.
    if !(geteuid().is_root() && has("ss")) {
        return;
    }
    let backend = Process::echo();
    let server = proxy(&[backend.to()], &[]);
    let (_, port) = backend
        .to()
        .rsplit_once(':')
        .map(|(host, port)| (host.to_owned(), port.to_owned()))
        .unwrap();
    let sides = [
        format!("sport = :{}", server.addr().port()),
        format!("dport = :{port}"),
    ];
    for side in sides {
        let mut streams: Vec<_> = (0..200).map(|_| server.connect()).collect();
        streams.iter_mut().for_each(assert_echo);
        let killed = sh(&server, &format!("ss -HtnK state established '( {side} )'"));
        if killed.is_empty() {
            eprintln!("skipped: this kernel destroys no sockets");
            break;
        }
        for stream in &mut streams {
            let mut rest = Vec::new();
            // A reset, mostly; what counts is that it ends.
            let _ = stream.read_to_end(&mut rest);
            assert!(rest.is_empty(), "{side}");
        }
        assert_echo(&mut server.connect());
    }
    server.end();
}

#[test]
fn one_source_that_takes_everything_leaves_the_others_theirs() {
    // Goal: --source-connections holds an abuser to his share, whatever he tries. Method: one address of loopback opens
    // sessions as fast as it can from two threads, while fifty others come ten times each; every one of theirs is served;
    // the abuser never holds more than his share.
    let backend = Process::echo();
    let server = proxy(&[backend.to()], &["--source-connections", "20"]);
    let addr = server.addr();
    let (is_over, attempts) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut held = Vec::new();
                while !is_over.load(Ordering::SeqCst) {
                    held.extend(connect_from([127, 6, 6, 6], addr));
                    attempts.fetch_add(1, Ordering::SeqCst);
                    if held.len() == 100 {
                        // Those that were refused are dead; those within the share are kept for the most part.
                        held.drain(20..);
                    }
                }
            });
        }
        eventually("the abuser is at it", || {
            attempts.load(Ordering::SeqCst) > 200
        });
        for _ in 0..10 {
            for good in 1..=50 {
                let mut stream = connect_from([127, 0, 1, good], server.addr()).unwrap();
                assert_echo(&mut stream);
            }
            let live = server.metric("polyloop_proxy_live");
            assert!(live <= 20 + 50, "{live} sessions");
        }
        is_over.store(true, Ordering::SeqCst);
    });
    let refused = &page(&server)["listeners"][0]["refused"]["source_full"];
    assert!(refused.as_u64().unwrap() > 100, "{refused}");
    server.end();
}

#[test]
fn short_sessions_do_not_use_up_the_ports_of_two_sources() {
    // Goal: what is left in TIME_WAIT towards one backend is no bar to those who come next. Method: 6,000 sessions whose
    // clients finish first, so that the proxy's end waits, over two source addresses; not one fails, both were used.
    let backend = Backend::noting_sources();
    let to = [backend.to()];
    let records = Records::new("short");
    let server = records.proxy(&to, &["--source", "127.0.3.1", "--source", "127.0.3.2"]);
    let addr = server.addr();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..1_500 {
                    let mut stream = harness::connect(addr);
                    finish(&stream);
                    let source = read_all(&mut stream);
                    assert!(source.starts_with(b"127.0.3."), "{source:?}");
                }
            });
        }
    });
    let row = backend_row(&server, 0);
    assert_eq!(row["connected"], 6_000, "{row}");
    assert_eq!(row["connect_local"], 0, "{row}");
    server.end();
    assert!(records.states().iter().all(|state| state == "--"));
}

#[test]
fn flapping_checks_change_nothing_and_long_ones_change_it_once() {
    // Goal: rise and fall keep a backend that flaps where it is. Method: a server that answers checks by a plan and counts
    // them: well, then well and ill in turn forty times (no change), then ill and well in runs of six, four times (one
    // change each).
    const TURNS: usize = 40;
    const RUN: usize = 6;
    let asked = Arc::new(AtomicUsize::new(0));
    let counts = Arc::clone(&asked);
    let backend = Backend::answering(move || {
        let nth = counts.fetch_add(1, Ordering::SeqCst);
        let is_well = match nth.checked_sub(RUN) {
            None => true,
            Some(turn) if turn < TURNS => turn % 2 == 1,
            Some(turn) => ((turn - TURNS) / RUN) % 2 == 1,
        };
        if is_well { "+PONG\r\n" } else { "-LOADING\r\n" }
    });
    let checks = "--check send --check-expect +PONG --check-interval 100ms --check-timeout 100ms --rise 2 --fall 3";
    let flags: Vec<_> = checks.split(' ').collect();
    let server = proxy(&[backend.to()], &flags);
    let await_checks = |count| {
        eventually("it is checked", || asked.load(Ordering::SeqCst) > count);
    };
    let changes = || {
        let row = backend_row(&server, 0);
        ["went_up", "went_down"].map(|name| row[name].as_u64().unwrap())
    };
    await_checks(RUN);
    assert_eq!(state_of(&server, 0), "up");
    let before = changes();
    await_checks(RUN + TURNS - 1);
    assert_eq!(changes(), before, "after {TURNS} turns");
    await_checks(RUN + TURNS + 4 * RUN);
    assert_eq!(changes(), before.map(|count| count + 2), "after four runs");
    server.end();
}

#[test]
fn addresses_of_ipv4_in_ipv6_are_addresses_of_ipv4() {
    // Goal: no list is passed by in the other spelling. Method: a listener of both families, where IPv4 clients appear as
    // mapped; a PROXY header that spells its client so; lists that are written so; and a prefix that would mean
    // everybody, which is no list at all.
    let backend = Backend::echo();
    let served = |flags: &[&str], header: &str| {
        let mut command = Command::new(BINARY);
        command
            .args([
                "proxy",
                "--listen",
                ":0",
                "--admin",
                "127.0.0.1:0",
                "--loops",
                "2",
            ])
            .args(["--to", &backend.to()])
            .args(flags)
            .stderr(Stdio::piped());
        let server = Polyloop::run(command);
        let Addr::Any(port) = server.addrs()[0] else {
            panic!("{:?}", server.addrs());
        };
        let is_served =
            connect_from([127, 0, 0, 9], ([127, 0, 0, 1], port).into()).is_ok_and(|mut client| {
                let mut answer = [0; 2];
                client.write_all(format!("{header}hi").as_bytes()).is_ok()
                    && client.read_exact(&mut answer).is_ok()
            });
        server.end();
        is_served
    };
    assert!(served(&[], ""));
    assert!(!served(&["--deny", "127.0.0.9"], ""));
    assert!(!served(&["--deny", "::ffff:127.0.0.9"], ""));
    assert!(!served(&["--deny", "::ffff:127.0.0.0/104"], ""));
    assert!(served(
        &["--deny", "0.0.0.0/0", "--allow", "::ffff:127.0.0.9"],
        ""
    ));
    let header = "PROXY TCP6 ::ffff:192.0.2.7 ::1 51234 443\r\n";
    let trusted = ["--accept-proxy", "::ffff:127.0.0.0/104"];
    assert!(served(&trusted, header));
    let deny = [&trusted[..], &["--deny", "192.0.2.0/24"]].concat();
    assert!(!served(&deny, header));
    let (code, _, stderr) = run_to_end(["proxy", "--allow", "::ffff:10.0.0.0/8"]);
    assert_eq!(code, 2, "{stderr}");
    assert!(stderr.contains("::ffff:10.0.0.0/8"), "{stderr}");
}

/// Words of somebody who would like to write records himself.
const FORGED: [&str; 7] = [
    "a\n{\"state\":\"--\"}",
    "a\r\ntime=0 state=--",
    "a\",\"state\":\"--",
    "a\u{1b}[2J\u{1b}[31m",
    "a\u{2028}\u{2029}\u{85}b\u{7f}",
    "\u{202e}gpj.exe\u{2066}",
    "a\\\" \\ state=-- \0",
];

/// A TLS hello that asks for a name, which need not be one.
fn hello(name: &[u8]) -> Vec<u8> {
    let sized = |bytes: &[u8]| [&(bytes.len() as u16).to_be_bytes()[..], bytes].concat();
    let names = sized(&[&[0][..], &sized(name)].concat());
    let extensions = sized(&[&[0, 0][..], &sized(&names)].concat());
    let body = [
        &[3, 3][..],
        &[7; 32],
        &[0, 0, 2, 0x13, 0x01, 1, 0],
        &extensions,
    ]
    .concat();
    let message = [&[1, 0][..], &sized(&body)].concat();
    [&[22, 3, 1][..], &sized(&message)].concat()
}

/// A PROXY block of version 2 whose fields say something.
fn block(says: &[u8]) -> Vec<u8> {
    let field = |kind: u8| [&[kind][..], &(says.len() as u16).to_be_bytes(), says].concat();
    let fields = [field(1), field(2), field(5), field(0xe0)].concat();
    let addresses = [192, 0, 2, 7, 198, 51, 100, 1, 0xc8, 0x22, 1, 0xbb];
    let len = (addresses.len() + fields.len()) as u16;
    let head = [0x21, 0x11, len.to_be_bytes()[0], len.to_be_bytes()[1]];
    [&b"\r\n\r\n\0\r\nQUIT\n"[..], &head, &addresses, &fields].concat()
}

#[test]
fn what_a_client_says_forges_no_record() {
    // Goal: one session, one line, whatever stands in the fields that a client controls. Method: names in PROXY headers of
    // both versions and in TLS hellos, with line ends, quotes, escapes of terminals and marks that turn text around; in
    // JSON every line is one record and no more, in logfmt every line begins as one and holds nothing that is invisible.
    for format in ["json", "logfmt"] {
        let records = Records::new("forged");
        let backend = Backend::echo();
        let directory = Directory::new("forged");
        let config = format!(
            "[[listener]]\nname = \"door\"\nlisten = \"127.0.0.1:0\"\ngroup = \"main\"\naccept-proxy = \"127.0.0.0/8\"\n\
             [[listener.route]]\nsni = \"*.test\"\ngroup = \"main\"\n[[group]]\nname = \"main\"\nto = [\"{}\"]\n",
            backend.to()
        );
        let file = directory.write("proxy.toml", config);
        let log = records.path.to_str().unwrap();
        let server = Polyloop::proxy(&[
            "--loops",
            "2",
            "--config",
            file.to_str().unwrap(),
            "--access-log",
            log,
            "--access-log-format",
            format,
        ]);
        let mut sessions = 0;
        for says in FORGED {
            let bytes = says.as_bytes();
            let plain = b"PROXY UNKNOWN\r\n";
            let dotted = [bytes, b".test"].concat();
            let attempts = [
                [&block(bytes)[..], b"hello, no TLS"].concat(),
                [&block(bytes)[..], &hello(&dotted)].concat(),
                [&plain[..], &hello(bytes)].concat(),
                [&plain[..], &hello(&dotted)].concat(),
                [b"PROXY UNKNOWN ", bytes, b"\r\n"].concat(),
                [b"PROXY TCP4 ", bytes, b" 1.2.3.4 1 2\r\n"].concat(),
                [&[0xff, 0xfe][..], bytes].concat(),
            ];
            for attempt in attempts {
                let mut stream = server.connect();
                stream.write_all(&attempt).unwrap();
                // Served or refused, maybe already, it ends.
                let _ = stream.shutdown(Shutdown::Write);
                let _ = stream.read_to_end(&mut Vec::new());
                sessions += 1;
            }
        }
        server.end();
        let text = fs::read_to_string(&records.path).unwrap();
        assert_eq!(text.lines().count(), sessions, "{text}");
        let is_plain =
            |c: char| c == '\n' || (' '..='~').contains(&c) || c == '\u{fffd}' || c == '…';
        assert!(text.chars().all(is_plain), "{text:?}");
        if format == "json" {
            assert!(
                records
                    .read()
                    .iter()
                    .all(|record| record["listener"] == "door")
            );
        } else {
            assert!(
                text.lines().all(|line| line.starts_with("time=2")),
                "{text}"
            );
        }
    }
}
