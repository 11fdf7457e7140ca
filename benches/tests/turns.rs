//! Servers that take turns in one round.

#![expect(
    clippy::unwrap_used,
    reason = "these are helpers of tests, where a panic is the report"
)]

use std::time::Duration;

use polyloop_benches::load::{Connect, Load, Pace, Stop, Window};
use polyloop_benches::subject::{Server, Subject};
use polyloop_benches::turns::{Side, Turns, take};

fn start(name: &str, program: &str) -> Server {
    Subject::new(name, program.into(), "--listen 127.0.0.1:0")
        .start()
        .unwrap()
}

fn side<'a>(
    subject: &'a str,
    server: &'a Server,
    connections: usize,
    message_bytes: usize,
) -> Side<'a> {
    let connect = Connect {
        target: server.addr(),
        count: connections,
        congestion: None,
        per_second: None,
    };
    Side {
        subject,
        server,
        backend: None,
        load: Load::open(&connect, message_bytes, &[None]).unwrap(),
    }
}

#[test]
fn each_server_has_its_own_slices_and_its_own_bill() {
    // Goal: a cell for each, of all of its slices, whose cost is that server's. Method: a rate, which makes the number of requests
    // known: four slices of 50 requests; small messages for one server and large ones for the other, so that their bills differ, and
    // each cell beside what its server used from before the round to after it: no more, and most of it.
    let servers = [
        start("a", env!("CARGO_BIN_EXE_bare-mio")),
        start("b", env!("CARGO_BIN_EXE_tokio-echo")),
    ];
    let mut sides = [
        side("a", &servers[0], 4, 1),
        side("b", &servers[1], 4, 64 * 1024),
    ];
    let bills = || {
        servers
            .each_ref()
            .map(|server| server.bill().unwrap().cpu_ns)
    };
    let before = bills();
    let turns = Turns {
        window: Window {
            pace: Pace::Rate(5_000.0),
            stop: Stop::After(Duration::from_millis(40)),
        },
        slice: Duration::from_millis(10),
        round: 3,
    };
    let cells = take(turns, &mut sides).unwrap();
    let after = bills();
    let names: Vec<&str> = cells.iter().map(|cell| cell.subject.as_str()).collect();
    assert_eq!(names, ["a", "b"]);
    for (at, cell) in cells.iter().enumerate() {
        assert_eq!((cell.round, cell.connections, cell.requests), (3, 4, 200));
        let used = (after[at] - before[at]) as f64;
        let billed = cell.server_cpu_ns * cell.requests as f64;
        assert!(billed <= used * 1.000_1, "{billed} of {used}: {cell:?}");
        assert!(billed > used * 0.5, "{billed} of {used}: {cell:?}");
    }
    drop(sides);
    for server in servers {
        server.stop().unwrap();
    }
}

#[test]
fn a_server_that_is_gone_is_named() {
    // Goal: no cell of a server that died, and its name in the error. Method: one of two ends before the round.
    let alive = start("alive", env!("CARGO_BIN_EXE_bare-mio"));
    let dead = start("dead", env!("CARGO_BIN_EXE_bare-mio"));
    let mut sides = [side("alive", &alive, 1, 64), side("dead", &dead, 1, 64)];
    let dead = dead.pid();
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(dead.cast_signed()).unwrap(),
        rustix::process::Signal::KILL,
    )
    .unwrap();
    let turns = Turns {
        window: Window::closed(Duration::from_millis(1)),
        slice: Duration::from_millis(1),
        round: 0,
    };
    let error = format!("{:#}", take(turns, &mut sides).unwrap_err());
    assert!(
        error.contains("dead") || error.contains(&dead.to_string()),
        "{error}"
    );
}
