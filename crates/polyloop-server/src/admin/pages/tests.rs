//! Tests of the admin pages, as a visitor sees them.

use polyloop::{Running, Server};

use super::*;
use crate::admin::request::{HostRule, Parsed, parse};
use crate::echo::Conns;
use crate::logging::Log;
use std::sync::Arc;

fn server() -> (Running, Site) {
    let running = Server::with_factories(|_| Conns {
        admin_listener: None,
    })
    .listen("127.0.0.1:0")
    .unwrap()
    .start()
    .unwrap();
    let log = Log::to(std::io::sink());
    let site = Site {
        proxy: None,
        status: Arc::clone(running.status()),
        dropped: log.talk().dropped().clone(),
        host_rule: HostRule::AddressOnly,
        has_renderers: true,
    };
    (running, site)
}

fn requests(texts: &[&str]) -> Vec<Request> {
    let request = |text: &&str| match parse(text.as_bytes(), HostRule::AddressOnly) {
        Parsed::Complete { request, .. } => request,
        Parsed::Partial => panic!("{text}"),
    };
    texts.iter().map(request).collect()
}

/// Splits what a client would receive into codes and bodies.
fn split(mut bytes: &[u8], is_head: bool) -> Vec<(u16, String)> {
    let mut answers = Vec::new();
    while !bytes.is_empty() {
        let mut fields = [httparse::EMPTY_HEADER; 16];
        let mut head = httparse::Response::new(&mut fields);
        let at = head.parse(bytes).unwrap().unwrap();
        let field = head
            .headers
            .iter()
            .find(|field| field.name == "Content-Length")
            .unwrap();
        let len: usize = std::str::from_utf8(field.value).unwrap().parse().unwrap();
        let len = if is_head { 0 } else { len };
        let body = String::from_utf8(bytes[at..at + len].to_vec()).unwrap();
        answers.push((head.code.unwrap(), body));
        bytes = &bytes[at + len..];
    }
    answers
}

#[test]
fn each_page_has_its_answer() {
    // Goal: code and content of every page and every refusal. Method: a batch each against a real server's status.
    let (running, site) = server();
    let one = |text: &str| {
        split(
            &answer(&requests(&[text]), &site).bytes,
            text.starts_with("HEAD"),
        )
        .remove(0)
    };
    let get = |path: &str| one(&format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
    let (code, body) = get("/metrics");
    assert_eq!(code, 200);
    assert!(body.contains("polyloop_turns_total{loop=\"0\"}"));
    let (code, body) = get("/loops");
    let json: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!((code, &json["life"]), (200, &"serving".into()));
    assert!(get("/").1.contains("/healthz"));
    assert_eq!(get("/healthz"), (200, "ok\n".to_owned()));
    assert_eq!(get("/nothing").0, 404);
    assert_eq!(one("POST / HTTP/1.1\r\nHost: localhost\r\n\r\n").0, 405);
    assert_eq!(one("GET / HTTP/1.1\r\nHost: example.org\r\n\r\n").0, 403);
    assert_eq!(one("GET / HTTP/1.1\r\n\r\n").0, 400);
    assert_eq!(one("GET / HTTP/3.0\r\n\r\n").0, 505);
    assert_eq!(
        one("GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\n").0,
        400
    );
    assert_eq!(
        one("HEAD /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"),
        (200, String::new())
    );
    running.stop();
    let _ = running.join();
    assert_eq!(get("/healthz"), (503, "ended\n".to_owned()));
}

#[test]
fn a_batch_is_answered_in_order_and_ends_where_it_says() {
    // Goal: pipelined answers do not mix, and nothing follows a close. Method: three requests, the second closes.
    let (running, site) = server();
    let keep = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let close = "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let kept = answer(&requests(&[keep, keep]), &site);
    assert_eq!(
        (split(&kept.bytes, false).len(), kept.after),
        (2, After::KeepAlive)
    );
    let closed = answer(&requests(&[keep, close, keep]), &site);
    assert_eq!(
        (split(&closed.bytes, false).len(), closed.after),
        (2, After::Drain)
    );
    running.stop();
    let _ = running.join();
}

#[test]
fn answers_without_a_page_are_whole() {
    // Goal: also the answers for bad days parse, and end the connection. Method: all three, the first both ways: who
    // is told to ask again would ask in vain where there never is a thread.
    let (running, site) = server();
    let without = Site {
        has_renderers: false,
        dropped: site.dropped.clone(),
        status: Arc::clone(&site.status),
        proxy: None,
        ..site
    };
    let text = |answer: &Answer| String::from_utf8(answer.bytes.clone()).unwrap();
    assert!(text(&busy(&[], &site)).contains("Retry-After: 1"));
    let never = text(&busy(&[], &without));
    assert!(never.contains("--offload-blocking 1 or more"), "{never}");
    assert!(!never.contains("Retry-After"), "{never}");
    for (answer, code, after) in [
        (busy(&[], &site), 503, After::Drain),
        (busy(&[], &without), 503, After::Drain),
        (failed(), 500, After::Drain),
        (too_slow(), 408, After::Close),
    ] {
        let answers = split(&answer.bytes, false);
        assert_eq!(
            (answers.len(), answers[0].0, answer.after),
            (1, code, after)
        );
    }
    running.stop();
    let _ = running.join();
}

#[test]
fn the_json_has_every_number_once() {
    // Goal: loops carry all numbers of the library, and the totals their sums. Method: names from the library's list.
    let (running, site) = server();
    running.status().boards[0].turn_time.record(5);
    let json: serde_json::Value =
        serde_json::from_slice(&loops_json::render(&site.status)).unwrap();
    running.stop();
    let _ = running.join();
    let first = json["loops"][0].as_object().unwrap();
    polyloop::telemetry::Numbers::default().each(|name, _, _, _| {
        assert!(first[name].is_u64(), "{name}");
        assert!(json["totals"][name].is_u64(), "{name}");
    });
    for name in [
        "loop",
        "core",
        "load",
        "busy_share",
        "stuck",
        "phase",
        "rings",
        "closes",
        "turn_ns",
    ] {
        assert!(first.contains_key(name), "{name}");
    }
    assert!(json["closes"]["peer_reset"].is_u64());
    assert!(json["permits"]["cap"].as_u64().unwrap() > 0);
    assert!(
        json["listeners"][0]["addr"]
            .as_str()
            .unwrap()
            .starts_with("127.0.0.1:")
    );
    assert_eq!(json["pools"][1]["pool"], "blocking");
    assert!(first["turn_ns"]["0.5"].is_u64());
}
