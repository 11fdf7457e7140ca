//! Tests of [`super`]: texts, errors with their place, and answers at any split of the bytes.

use super::*;
use proptest::prelude::*;

fn script(text: &str) -> Script {
    Script::parse(text).unwrap_or_else(|error| panic!("{error}"))
}

/// Feeds a stream in pieces; the ends of the answers, and what went wrong.
fn follow(script: &Script, stream: &[u8], pieces: &[usize]) -> (Vec<usize>, Option<WrongAnswer>) {
    let (mut matcher, mut ends, mut at) = (Matcher::new(), Vec::new(), 0);
    let mut pieces = pieces.iter().cycle();
    while at < stream.len() {
        let until = stream.len().min(at + pieces.next().unwrap());
        while at < until {
            let fed = matcher.feed(script, &stream[at..until]);
            at += fed.consumed;
            match fed.progress {
                Progress::Complete => ends.push(at),
                Progress::Incomplete => assert_eq!(at, until, "bytes left over"),
                Progress::Wrong(wrong) => return (ends, Some(wrong)),
            }
            assert_eq!(matcher.is_between_answers(), ends.last() == Some(&at));
        }
    }
    (ends, None)
}

#[test]
fn a_script_is_a_cycle_of_exchanges() {
    // Goal: the example of the module works. Method: its text, requests and answers in order.
    let script = script(
        "# comment\n\n  send \"PING\\r\\n\"  # why\nexpect \"+PONG\\r\\n\"\nsend \"GET\"\nsend \" x\\r\\n\"\n\
         expect-until \"\\r\\n\"\nexpect-bytes 3\n",
    );
    assert_eq!(script.len(), 2);
    assert!(!script.is_empty());
    assert_eq!(script.request(0), b"PING\r\n");
    assert_eq!(script.request(3), b"GET x\r\n");
    assert_eq!(script.request_len_max(), 7);
    let (ends, wrong) = follow(&script, b"+PONG\r\nany\r\r\nabc+PONG\r\n", &[1]);
    assert_eq!((ends, wrong), (vec![7, 16, 23], None));
}

#[test]
fn escapes_stand_for_bytes() {
    // Goal: every byte can be written. Method: one of each escape, and a letter that is no ASCII.
    let script = script("send \"\\r\\n\\t\\0\\x00\\xfF\\\"\\\\é#\"\nexpect-bytes 1");
    assert_eq!(script.request(0), b"\r\n\t\0\0\xff\"\\\xc3\xa9#");
}

#[test]
fn errors_point_at_their_place() {
    // Goal: a person finds and mends it from the message alone. Method: a text, its line, column and a part each.
    let long = format!("send \"{}\\q\"", "x".repeat(200));
    for (text, line, column, part) in [
        ("", 0, 0, "there is no step"),
        ("# only\n", 0, 0, "there is no step"),
        (
            "  sent \"x\"",
            1,
            3,
            "`sent` is no step; the steps are send, expect,",
        ),
        ("send", 1, 5, "needs a text in double quotes"),
        ("send PING", 1, 6, "needs a text in double quotes"),
        ("send \"PING", 1, 6, "no closing quote"),
        ("send \"PING\\", 1, 6, "no closing quote"),
        ("send \"\"", 1, 6, "the text is empty"),
        ("send \"a\\q\"", 1, 8, "`\\q` stands for nothing"),
        ("send \"é\\xg0\"", 1, 8, "two hexadecimal digits"),
        ("send \"\\xé\"", 1, 7, "two hexadecimal digits"),
        ("send \"a\" \"b\"", 1, 10, "a line of its own"),
        ("\n\texpect \"x\"", 2, 2, "put a send before it"),
        ("send \"x\"\nexpect-bytes 0", 2, 14, "from 1 to 16MiB"),
        ("send \"x\"\nexpect-bytes", 2, 13, "from 1 to 16MiB"),
        ("send \"x\"\nexpect-http 99", 2, 13, "a class (2xx)"),
        ("send \"x\"\nexpect-http any 1", 2, 17, "a line of its own"),
        (
            "send \"x\"\nexpect-bytes 16MiB\nexpect \"x\"",
            3,
            1,
            "several exchanges",
        ),
        (
            "send \"x\"\nexpect \"y\"\n send \"z\"\n# end",
            3,
            2,
            "expects no answer",
        ),
        (long.as_str(), 1, 207, "stands for nothing"),
    ] {
        let error = Script::parse(text).unwrap_err();
        assert_eq!(
            (error.line, error.column),
            (line, column),
            "{text}: {error}"
        );
        assert!(error.to_string().contains(part), "{text}: {error}");
        assert!(error.text.chars().count() <= 100);
    }
    let shown = Script::parse("x\n").unwrap_err().to_string();
    assert!(shown.ends_with("\n  x\n  ^"), "{shown}");
    let caret = Script::parse(&long).unwrap_err().to_string();
    assert_eq!(
        caret.lines().last().map(|line| line.find('^')),
        Some(Some(2 + 60))
    );
    assert_eq!(
        Script::parse(&"#".repeat(SCRIPT_BYTES_MAX + 1))
            .unwrap_err()
            .fault,
        ScriptFault::TooLong
    );
}

#[test]
fn wrong_bytes_are_told_by_their_place() {
    // Goal: the reason names where. Method: a difference in a second part, fed byte by byte.
    let script = script("send \"x\"\nexpect-bytes 3\nexpect \"abc\"");
    assert_eq!(
        follow(&script, b"xyzabd", &[1]).1,
        Some(WrongAnswer::Differs { at: 5 })
    );
    assert_eq!(
        follow(&script, b"xyzabd", &[6]).1,
        Some(WrongAnswer::Differs { at: 5 })
    );
}

#[test]
fn answers_are_bounded() {
    // Goal: a peer that never ends its answer is stopped. Method: an endless stream into each open end.
    let until = script("send \"x\"\nexpect-until \"\\n\"");
    let endless = vec![b'a'; ANSWER_BYTES_MAX + 1];
    assert_eq!(
        follow(&until, &endless, &[1 << 16]).1,
        Some(WrongAnswer::TooLong)
    );
    let http = Script::http_get("h", "/").unwrap();
    let head = [
        b"HTTP/1.1 200 OK\r\nx: ".as_slice(),
        &endless[..HEAD_BYTES_MAX],
    ]
    .concat();
    let wrong = follow(&http, &head, &[1_000]).1;
    assert_eq!(wrong, Some(WrongAnswer::Http(HttpFault::HeadTooLong)));
    let chunk = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;".to_vec();
    let wrong = follow(&http, &[chunk, endless].concat(), &[1_000]).1;
    assert_eq!(wrong, Some(WrongAnswer::Http(HttpFault::HeadTooLong)));
}

/// Responses that are right, and whether a request with `GET` ends where they end.
const RESPONSES: [&str; 9] = [
    "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
    "HTTP/1.1 204 No Content\r\n\r\n",
    "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
    "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\nContent-Length: 9\r\n\r\n3\r\nabc\r\n0A;x=\"y\"\r\n0123456789\r\n0\r\n\r\n",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n1 \r\nx\r\n000\r\nTrailer: a\r\nOther: b\r\n\r\n",
    "\r\n\r\nHTTP/1.1 301 Moved\nContent-Length: 2\nContent-Length: 2\n\nab",
    "HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 1\r\n\r\n\n",
];

/// Pieces of responses, to be put together in any order.
const DEBRIS: [&str; 14] = [
    "HTTP/1.1 200 OK\r\n",
    "HTTP/1.",
    "Content-Length: 3\r\n",
    "Content-Length: 0\n",
    "Transfer-Encoding: chunked\r\n",
    "Connection: close\r\n",
    "\r\n",
    "\n",
    "\r",
    "abc",
    "3\r\n",
    "0\r\n",
    ";",
    " ",
];

#[test]
fn bad_responses_are_told_apart() {
    // Goal: each fault has its own name. Method: a response and its fault each, whole and byte by byte.
    let http = script("send \"x\"\nexpect-http");
    let many = format!(
        "HTTP/1.1 200 OK\r\n{}\r\n",
        "a: b\r\n".repeat(HEAD_FIELDS_MAX + 1)
    );
    for (text, fault) in [
        ("-ERR unknown command\r\n", HttpFault::NotHttp),
        ("HTTP/2 200\r\n", HttpFault::NotHttp),
        (
            "HTTP/1.1 abc\r\n\r\n",
            HttpFault::Head(httparse::Error::Status),
        ),
        (
            many.as_str(),
            HttpFault::Head(httparse::Error::TooManyHeaders),
        ),
        ("HTTP/1.1 200 OK\r\n\r\n", HttpFault::NoLength),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
            HttpFault::NoLength,
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
            HttpFault::BadLength,
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 1, 2\r\n\r\n",
            HttpFault::BadLength,
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\n",
            HttpFault::BadLength,
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 16777217\r\n\r\n",
            HttpFault::BodyTooLong,
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff",
            HttpFault::BodyTooLong,
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\r\n",
            HttpFault::BadChunk,
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n",
            HttpFault::BadChunk,
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n;x\r\n",
            HttpFault::BadChunk,
        ),
        (
            "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n",
            HttpFault::Status {
                got: 503,
                wanted: StatusRule::BelowErrors,
            },
        ),
    ] {
        for piece in [1, 3, 10_000] {
            let wrong = follow(&http, text.as_bytes(), &[piece]).1;
            assert_eq!(wrong, Some(WrongAnswer::Http(fault)), "{text:?} by {piece}");
        }
    }
}

#[test]
fn a_status_may_be_asked_for() {
    // Goal: error pages can be measured on purpose. Method: rules against three statuses.
    for (rule, accepted) in [
        ("", [true, false, false]),
        ("any", [true, true, true]),
        ("2xx", [true, false, false]),
        ("404", [false, true, false]),
        ("5xx # comment", [false, false, true]),
    ] {
        let http = script(&format!("send \"x\"\nexpect-http {rule}"));
        for (status, is_right) in [200, 404, 500].into_iter().zip(accepted) {
            let text = format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n");
            assert_eq!(
                follow(&http, text.as_bytes(), &[9]).1.is_none(),
                is_right,
                "{rule} {status}"
            );
        }
    }
}

#[test]
fn head_has_no_body_and_close_is_told() {
    // Goal: HEAD ends with its head; a server's announced end is no fault. Method: one response each.
    let head = script("send \"HEAD / HTTP/1.1\\r\\n\\r\\n\"\nexpect-http");
    let text = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n";
    assert_eq!(follow(&head, text, &[4]), (vec![text.len()], None));
    let get = Script::http_get("example.org", "/a?b").unwrap();
    assert!(
        get.request(0)
            .starts_with(b"GET /a?b HTTP/1.1\r\nHost: example.org\r\n")
    );
    for (fields, is_last) in [
        ("1.1 200 OK\r\nConnection: x, Close", true),
        ("1.1 200 OK\r\nConnection: keep-alive", false),
        ("1.0 200 OK\r\nX: y", true),
        ("1.0 200 OK\r\nConnection: keep-alive", false),
    ] {
        let mut matcher = Matcher::new();
        let text = format!("HTTP/{fields}\r\nContent-Length: 0\r\n\r\n");
        let fed = matcher.feed(&get, text.as_bytes());
        assert_eq!(
            (fed.consumed, fed.progress),
            (text.len(), Progress::Complete)
        );
        assert_eq!(matcher.is_last_answer(), is_last, "{fields}");
    }
}

#[test]
fn shortcuts_refuse_what_they_cannot_do() {
    // Goal: no request is smuggled in through a path. Method: what would break the first line, and empty texts.
    for (host, path) in [
        ("", "/"),
        ("a b", "/"),
        ("a", ""),
        ("a", "x"),
        ("a", "/ HTTP/1.0\r\nX: y"),
        ("a\n", "/"),
    ] {
        assert_eq!(
            Script::http_get(host, path),
            Err(ScriptFault::NotAUrl),
            "{host:?} {path:?}"
        );
    }
    assert_eq!(Script::ping_pong(b"", b"x"), Err(ScriptFault::EmptyString));
    assert_eq!(Script::ping_pong(b"x", b""), Err(ScriptFault::EmptyString));
    let pong = Script::ping_pong(b"PING\r\n", b"+PONG\r\n").unwrap();
    assert_eq!(pong, script("send \"PING\\r\\n\"\nexpect \"+PONG\\r\\n\""));
}

proptest! {
    #[test]
    fn responses_end_at_any_split(
        order in prop::collection::vec(0..RESPONSES.len(), 1..6), pieces in prop::collection::vec(1_usize..40, 1..20),
    ) {
        // Goal: where the bytes are cut does not matter. Method: responses in a row, cut anywhere.
        let http = script("send \"GET\"\nexpect-http");
        let stream: String = order.iter().map(|index| RESPONSES[*index]).collect();
        let mut ends = Vec::new();
        for index in &order {
            ends.push(ends.last().unwrap_or(&0) + RESPONSES[*index].len());
        }
        for pieces in [pieces.as_slice(), &[1], &[10_000]] {
            prop_assert_eq!(follow(&http, stream.as_bytes(), pieces), (ends.clone(), None));
        }
    }

    #[test]
    fn a_mark_is_found_where_a_plain_search_finds_it(
        mark in prop::collection::vec(0_u8..2, 1..6), stream in prop::collection::vec(0_u8..2, 0..60), piece in 1_usize..9,
    ) {
        // Goal: marks that overlap themselves are not missed. Method: against a search from every place.
        let script = Script::of_one(vec![1], Expect::Until(Mark::new(mark.clone())));
        let mut ends = Vec::new();
        let mut from = 0;
        while let Some(at) = stream[from..].windows(mark.len()).position(|window| window == mark) {
            from += at + mark.len();
            ends.push(from);
        }
        prop_assert_eq!(follow(&script, &stream, &[piece]), (ends, None));
    }

    #[test]
    fn any_bytes_are_read_the_same_at_any_split(
        parts in prop::collection::vec(prop::sample::select(DEBRIS.as_slice()), 0..12), piece in 1_usize..9,
    ) {
        // Goal: nothing that a peer sends panics or is judged by its split. Method: debris of responses.
        let http = script("send \"x\"\nexpect-http any");
        let stream = parts.concat();
        let whole = follow(&http, stream.as_bytes(), &[10_000]);
        prop_assert_eq!(follow(&http, stream.as_bytes(), &[piece]), whole);
    }

    #[test]
    fn any_text_is_read_or_refused(text in "((send|expect|expect-until|expect-bytes|expect-http) ?[\"\\\\xr0é# 9\n]{0,9}){0,5}") {
        // Goal: no script panics, and every error can be shown. Method: debris of scripts.
        if let Err(error) = Script::parse(&text) {
            prop_assert!(!error.to_string().is_empty());
        }
    }
}
