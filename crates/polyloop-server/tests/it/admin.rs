//! Metrics and JSON, and the limits of the port that serves them.

use crate::harness::{Polyloop, assert_echo, connect, eventually, get, http, is_closed};
use std::collections::BTreeSet;
use std::io::Write;

#[test]
fn metrics_are_prometheus_text() {
    // Goal: a scraper understands every line, and what was done is counted. Method: parse the text format: names,
    // labels, values, each series announced by TYPE and HELP, none twice; a hundred echoes in between.
    let server = Polyloop::echo(&["--loops", "2"]);
    let mut streams: Vec<_> = (0..10).map(|_| server.connect()).collect();
    for _ in 0..10 {
        streams.iter_mut().for_each(assert_echo);
    }
    let (status, head, body) = http(
        server.admin(),
        "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
    );
    assert_eq!(status, 200);
    assert!(
        head.to_lowercase().contains("content-type: text/plain"),
        "{head}"
    );
    let mut types = BTreeSet::new();
    let mut series = BTreeSet::new();
    for line in body.lines() {
        if let Some(rest) = line.strip_prefix("# ") {
            let mut words = rest.split(' ');
            match (words.next(), words.next(), words.next()) {
                (Some("TYPE"), Some(name), Some("counter" | "gauge" | "summary" | "histogram")) => {
                    assert!(types.insert(name.to_owned()), "announced twice: {line}");
                }
                (Some("HELP"), Some(_), Some(_)) => {}
                _ => panic!("{line}"),
            }
            continue;
        }
        let (name, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line}"));
        assert!(value.parse::<f64>().is_ok(), "{line}");
        assert!(series.insert(name.to_owned()), "told twice: {line}");
        let bare = name.split('{').next().unwrap();
        let base = ["_sum", "_count", "_bucket"].iter().find_map(|suffix| {
            bare.strip_suffix(suffix)
                .filter(|base| types.contains(*base))
        });
        assert!(
            types.contains(base.unwrap_or(bare)),
            "without a type: {line}"
        );
        // Names of our own, and those that every exporter has.
        let is_known = ["polyloop_", "process_"]
            .iter()
            .any(|prefix| bare.starts_with(prefix));
        assert!(is_known, "{line}");
    }
    let metrics = server.metrics();
    assert_eq!(metrics["polyloop_live"], 10);
    // Admin pages are read and written by the same loops; the echoes are in there somewhere.
    assert!(metrics["polyloop_bytes_in_total"] >= 1400);
    assert!(metrics["polyloop_bytes_out_total"] >= 1400);
    drop(streams);
    server.end();
}

#[test]
fn loops_are_json() {
    // Goal: /loops is JSON with one entry per loop. Method: parse it.
    let server = Polyloop::echo(&["--loops", "2"]);
    let (status, body) = get(server.admin(), "/loops");
    assert_eq!(status, 200);
    let value: serde_json::Value = serde_json::from_str(&body).unwrap();
    let loops = value.get("loops").unwrap_or(&value);
    assert_eq!(loops.as_array().map(Vec::len), Some(2), "{body}");
    server.end();
}

#[test]
fn other_methods_and_pages_are_answered_so() {
    // Goal: only what reads, only known pages, only names that a browser elsewhere cannot use. Method: 405 with Allow,
    // 404, 403 for a foreign Host, 400 for what is no HTTP.
    let server = Polyloop::echo(&[]);
    for method in ["POST", "PUT", "DELETE"] {
        let request =
            format!("{method} /metrics HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n");
        let (status, head, _) = http(server.admin(), &request);
        assert_eq!(status, 405, "{method}");
        assert!(head.to_lowercase().contains("allow: get"), "{head}");
    }
    assert_eq!(get(server.admin(), "/nowhere").0, 404);
    assert_eq!(get(server.admin(), "/healthz").0, 200);
    let foreign = "GET /metrics HTTP/1.1\r\nHost: attacker.example\r\n\r\n";
    assert_eq!(http(server.admin(), foreign).0, 403);
    let (status, ..) = http(server.admin(), "\u{1}\u{2}\r\n\r\n");
    assert_eq!(status, 400);
    server.end();
}

#[test]
fn requests_that_are_too_large_or_too_slow_end() {
    // Goal: an admin connection is bounded in bytes and in time. Method: a head that never ends is answered with 431,
    // and what follows it is not kept; a head that stops half-way is cut by its deadline.
    let server = Polyloop::echo(&[]);
    let mut large = connect(server.admin());
    large.write_all(b"GET /metrics HTTP/1.1\r\n").unwrap();
    let filler = "X-Filler: 0123456789abcdef\r\n".repeat(1000);
    for _ in 0..40 {
        // The server may have hung up, which is as good.
        let _ = large.write_all(filler.as_bytes());
    }
    let mut answer = [0; 12];
    std::io::Read::read_exact(&mut large, &mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 431");
    assert_eq!(server.metric("polyloop_kept_bytes"), 0);
    let mut slow = connect(server.admin());
    slow.write_all(b"GET /metrics HTTP/1.1\r\nHos").unwrap();
    assert_eq!(get(server.admin(), "/healthz").0, 200, "others are served");
    eventually("the slow one is cut", || {
        // An answer such as 408 is as good; then the end follows it.
        let mut answer = [0; 512];
        slow.set_nonblocking(true).unwrap();
        let got = std::io::Read::read(&mut slow, &mut answer);
        slow.set_nonblocking(false).unwrap();
        matches!(got, Ok(0)) || is_closed(&slow)
    });
    drop((large, slow));
    server.end();
}

#[test]
fn many_admins_are_bounded_and_harm_no_client() {
    // Goal: the admin port has a bound of its own. Method: 200 connections that ask nothing, of which 16 may stay; a
    // client is served, and once they have gone, so is an admin.
    let server = Polyloop::echo(&["--max-connections", "2"]);
    let admins: Vec<_> = (0..200).map(|_| connect(server.admin())).collect();
    let mut stream = server.connect();
    assert_echo(&mut stream);
    // Those who stay are told to hurry up after five seconds at the soonest, so that the count can be seen to hold.
    eventually("all but 16 are turned away", || {
        admins.iter().filter(|admin| is_closed(admin)).count() == 184
    });
    drop(admins);
    assert_echo(&mut stream);
    drop(stream);
    eventually("an admin gets in again", || {
        let mut probe = connect(server.admin());
        let asked = probe
            .write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        let mut answer = Vec::new();
        asked.is_ok()
            && std::io::Read::read_to_end(&mut probe, &mut answer).is_ok_and(|count| count > 0)
    });
    server.end();
}
