//! Tests of reading an admin request: whole, in pieces, and wrong.

use super::*;

fn request_of(text: &str) -> Request {
    match parse(text.as_bytes(), HostRule::AddressOnly) {
        Parsed::Complete { request, len } => {
            assert!(len <= text.len());
            request
        }
        Parsed::Partial => panic!("incomplete: {text:?}"),
    }
}

fn asked(text: &str) -> Asked {
    request_of(text).asked
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1:9000\r\n\r\n")
}

#[test]
fn pages_are_found_by_their_path() {
    // Goal: each page has one path, with or without a query, in both forms of a target. Method: a table.
    for (path, page) in [
        ("/", Asked::Index),
        ("/metrics", Asked::Metrics),
        ("/metrics?x=1", Asked::Metrics),
        ("http://127.0.0.1:9000/loops", Asked::Loops),
        ("http://127.0.0.1:9000", Asked::Index),
        ("/healthz", Asked::Health),
        ("/Metrics", Asked::Refused(Refusal::Path)),
        ("/metrics/", Asked::Refused(Refusal::Path)),
        ("/../etc/passwd", Asked::Refused(Refusal::Path)),
        ("*", Asked::Refused(Refusal::Malformed)),
    ] {
        assert_eq!(asked(&get(path)), page, "{path}");
    }
}

#[test]
fn a_request_split_at_any_byte_is_the_same_request() {
    // Goal: no state between reads, no early answer. Method: every prefix is partial, the whole is complete, and what
    // follows it does not matter.
    let text =
        "HEAD /loops HTTP/1.1\r\nHost: [::1]:9000\r\nUser-Agent: x\r\nConnection: close\r\n\r\n";
    for end in 0..text.len() {
        let parsed = parse(&text.as_bytes()[..end], HostRule::AddressOnly);
        assert_eq!(parsed, Parsed::Partial, "{end}");
    }
    let whole = Parsed::Complete {
        request: Request {
            asked: Asked::Loops,
            is_head: true,
            after: After::Drain,
        },
        len: text.len(),
    };
    for tail in ["", "G", "GET / HTTP/1.1\r\n\r\n", "\0\u{ff}"] {
        let bytes = format!("{text}{tail}");
        assert_eq!(parse(bytes.as_bytes(), HostRule::AddressOnly), whole);
    }
}

#[test]
fn the_size_is_bounded_whatever_the_pieces() {
    // Goal: a head of the bound is taken, one byte more is refused, also when the end has not come yet. Method: pad.
    let padded = |len: usize| {
        let start = "GET / HTTP/1.1\r\nHost: localhost\r\nX: ";
        format!("{start}{}\r\n\r\n", "a".repeat(len - start.len() - 4))
    };
    assert_eq!(asked(&padded(REQUEST_BYTES_MAX)), Asked::Index);
    let too_large = padded(REQUEST_BYTES_MAX + 1);
    assert_eq!(asked(&too_large), Asked::Refused(Refusal::TooLarge));
    assert_eq!(
        asked(&too_large[..REQUEST_BYTES_MAX]),
        Asked::Refused(Refusal::TooLarge)
    );
    let partial = parse(
        &too_large.as_bytes()[..REQUEST_BYTES_MAX - 1],
        HostRule::Any,
    );
    assert_eq!(partial, Parsed::Partial);
    let fields = "X: y\r\n".repeat(FIELDS_MAX);
    let many = format!("GET / HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n");
    assert_eq!(asked(&many), Asked::Refused(Refusal::TooLarge));
}

#[test]
fn methods_versions_and_bodies_are_told_apart() {
    // Goal: each refusal has its own answer, and ends the connection. Method: a table.
    for (text, refusal) in [
        (
            "POST /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n",
            Refusal::Method,
        ),
        (
            "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nabc",
            Refusal::Method,
        ),
        (
            "GET / HTTP/2.0\r\nHost: localhost\r\n\r\n",
            Refusal::Version,
        ),
        (
            "GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nabc",
            Refusal::Body,
        ),
        (
            "GET / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            Refusal::Body,
        ),
        ("GET / HTTP/1.1\r\n\r\n", Refusal::Malformed),
        (
            "GET / HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n",
            Refusal::Malformed,
        ),
        (
            "GET / HTTP/1.1\r\nHost : localhost\r\n\r\n",
            Refusal::Malformed,
        ),
        ("\u{16}\u{3}\u{1}\u{2}\u{0}", Refusal::Malformed),
        ("hello\r\n\r\n", Refusal::Malformed),
        ("this is no HTTP\r\n\r\n", Refusal::Malformed),
    ] {
        let request = request_of(text);
        assert_eq!(request.asked, Asked::Refused(refusal), "{text:?}");
        assert_eq!(request.after, After::Drain, "{text:?}");
    }
    assert_eq!(
        asked("GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n"),
        Asked::Index
    );
    assert_eq!(asked("GET / HTTP/1.0\r\n\r\n"), Asked::Index);
}

#[test]
fn a_name_is_no_host_for_loopback() {
    // Goal: DNS rebinding gets nothing. Method: addresses pass, names do not, unless any is allowed.
    let with = |host: &str| format!("GET /metrics HTTP/1.1\r\nHost: {host}\r\n\r\n");
    for host in [
        "127.0.0.1",
        "127.0.0.1:9000",
        "[::1]",
        "[::1]:9000",
        "localhost",
        "LOCALHOST:1",
        "10.0.0.1",
        " 127.0.0.1 ",
    ] {
        assert_eq!(asked(&with(host)), Asked::Metrics, "{host}");
    }
    for host in [
        "example.org",
        "localhost.example.org",
        "127.0.0.1.example.org",
        "127.0.0.1:x",
        "[::1",
        "[x]",
        "::1",
        "",
    ] {
        assert_eq!(asked(&with(host)), Asked::Refused(Refusal::Host), "{host}");
        let any = parse(with(host).as_bytes(), HostRule::Any);
        assert!(matches!(any, Parsed::Complete { request, .. } if request.asked == Asked::Metrics));
    }
}

#[test]
fn connections_are_kept_as_the_versions_say() {
    // Goal: HTTP/1.1 keeps unless told otherwise, HTTP/1.0 the other way round. Method: a table.
    let after = |version: &str, fields: &str| {
        request_of(&format!(
            "GET / HTTP/{version}\r\nHost: localhost\r\n{fields}\r\n"
        ))
        .after
    };
    assert_eq!(after("1.1", ""), After::KeepAlive);
    assert_eq!(after("1.1", "Connection: x, Close\r\n"), After::Drain);
    assert_eq!(after("1.0", ""), After::Drain);
    assert_eq!(after("1.0", "Connection: Keep-Alive\r\n"), After::KeepAlive);
    assert_eq!(
        after("1.1", "Connection: keep-alive\r\nConnection: close\r\n"),
        After::Drain
    );
}

#[test]
fn pipelined_requests_follow_each_other() {
    // Goal: the length of a request leads exactly to the next. Method: three in one buffer.
    let text = format!("{}{}{}", get("/"), get("/loops"), get("/nothing"));
    let (mut rest, mut seen) = (text.as_bytes(), Vec::new());
    while let Parsed::Complete { request, len } = parse(rest, HostRule::AddressOnly) {
        seen.push(request.asked);
        rest = &rest[len..];
    }
    assert_eq!(
        seen,
        [Asked::Index, Asked::Loops, Asked::Refused(Refusal::Path)]
    );
    assert!(rest.is_empty());
}
