//! Tests of the report line and of the dump.

use polyloop::{Running, Server, ServerSettings};
use polyloop_core::placement::Wish;

use super::*;
use crate::echo::Conns;

fn server(loops: usize) -> Running {
    let settings = ServerSettings {
        wish: Wish {
            loops: Some(loops),
            ..Wish::default()
        },
        ..ServerSettings::default()
    };
    Server::with_factories(|_| Conns {
        admin_listener: None,
    })
    .listen("127.0.0.1:0")
    .unwrap()
    .settings(settings)
    .start()
    .unwrap()
}

fn reading(at_ns: u64, live: u64, accepted: u64, bytes: u64, busy_ns: &[u64]) -> Reading {
    Reading {
        at_ns,
        live,
        accepted,
        closed: accepted - live,
        bytes_in: bytes,
        bytes_out: bytes / 2,
        budgets: accepted / 10,
        stalls: 1,
        busy_ns: busy_ns.to_vec(),
        turns: empty_snapshot(),
    }
}

#[test]
fn a_line_tells_rates_of_its_interval() {
    // Goal: differences over time, not totals. Method: two readings, two seconds apart.
    let before = reading(1_000_000_000, 10, 100, 1 << 20, &[0, 500_000_000]);
    let mut now = reading(
        3_000_000_000,
        30,
        1100,
        5 << 20,
        &[500_000_000, 2_500_000_000],
    );
    now.turns.record(1_000).unwrap();
    now.turns.record(3_000_000).unwrap();
    let columns = now.since(&before);
    assert_eq!(columns[..6], ["30", "500", "490", "2MiB", "1MiB", "25 100"]);
    assert!(
        columns[7].starts_with("3.0") || columns[7] == "3ms",
        "{}",
        columns[7]
    );
    assert_eq!(columns[8..], ["100", "0"]);
}

#[test]
fn many_loops_are_summed_up() {
    // Goal: the line stays a line. Method: nine loops.
    let busy: Vec<u64> = (1..=9).map(|index| index * 100_000_000).collect();
    let columns = reading(1_000_000_000, 0, 0, 0, &busy).since(&reading(0, 0, 0, 0, &[]));
    assert_eq!(columns[BUSY], "10<50<90");
    assert!("10<50<90".len() < busy_width(9));
}

#[test]
fn odd_intervals_make_no_odd_lines() {
    // Goal: neither a zero interval nor a counter read twice divides by zero or wraps. Method: the same reading twice.
    let columns = reading(5, 1, 2, 3, &[4]).since(&reading(5, 1, 2, 3, &[4]));
    assert_eq!(columns[..6], ["1", "0", "0", "0B", "0B", "0"]);
    assert_eq!(per_second(u64::MAX, 1), u64::MAX);
}

#[test]
fn the_header_comes_once_a_screen() {
    // Goal: a person who looks at any screen sees what the columns are. Method: lines of a real server.
    let running = server(2);
    let mut reporter = Reporter::new();
    let texts: Vec<_> = (0..=HEADER_EVERY)
        .map(|_| reporter.line(running.status()))
        .collect();
    running.stop();
    let _ = running.join();
    for (at, text) in texts.iter().enumerate() {
        let has_header = (at as u64).is_multiple_of(HEADER_EVERY);
        assert_eq!(text.starts_with("live"), has_header, "{at}: {text}");
        assert_eq!(text.lines().count(), if has_header { 2 } else { 1 });
        assert!(text.ends_with('\n'));
    }
}

#[test]
fn columns_stand_below_their_names() {
    // Goal: the widest usual values do not run into each other. Method: one line of such values.
    let wide = [
        "999.9k", "999.9k", "999.9k", "1023KiB", "1023KiB", "100 100", "999.9us", "999.9ms",
        "999.9k", "9",
    ];
    let mut text = String::new();
    push_columns(&mut text, HEADER, busy_width(2));
    push_columns(&mut text, wide, busy_width(2));
    let (header, line) = text.split_once('\n').unwrap();
    for (name, value) in HEADER.iter().zip(wide) {
        let at = header.find(name).unwrap();
        assert!(line[at..].starts_with(value), "{name}\n{text}");
        assert!(at == 0 || line.as_bytes()[at - 1] == b' ', "{name}\n{text}");
    }
}

#[test]
fn a_dump_leaves_nothing_out() {
    // Goal: every number, every reason, every loop, every pool. Method: names from the library's own lists.
    let running = server(2);
    let text = dump(running.status(), 3);
    running.stop();
    let _ = running.join();
    let has_row = |name: &str| {
        text.lines()
            .any(|line| line.split_whitespace().next() == Some(name))
    };
    polyloop::telemetry::Numbers::default().each(|name, _, _, _| assert!(has_row(name), "{name}"));
    for name in polyloop::CloseReason::NAMES {
        assert!(text.contains(&format!("closed {name} ")), "{name}");
    }
    for fragment in [
        "2 connections",
        "loop 1: ",
        "loop 0 turn",
        "loop 1 events per poll",
        "pool cpu: ",
        "pool blocking wait",
        "log lines dropped 3",
        "--- end of dump ---",
    ] {
        let fragment = fragment.replace("2 connections", "0 connections");
        assert!(text.contains(&fragment), "{fragment}\n{text}");
    }
}
