//! Tests of [`super`]: lines read back, attempts to break out of them, bounds, and sampling.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::NonZeroU32;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::*;
use crate::termination::{Cause, Phase};

const FORMATS: [AccessLogFormat; 2] = [AccessLogFormat::Logfmt, AccessLogFormat::Json];

fn plain() -> Record<'static> {
    Record {
        start_unix_ms: 1_770_091_506_789,
        id: b"0003019c2188ea850000002a",
        duration_ms: 1042,
        listener: "db",
        client: peer("192.0.2.7:50432"),
        source: None,
        group: Some("main"),
        backend: Some("db1"),
        backend_address: Some(PeerEndpoint::Inet("10.0.0.1:5432".parse().unwrap())),
        termination: Termination::NORMAL,
        detail: None,
        queue_ms: None,
        connect_ms: Some(1),
        first_byte_ms: Some(3),
        bytes_up: 512,
        bytes_down: 20_480,
        retries: 0,
        loop_index: 3,
        sni: None,
        weight: 1,
    }
}

fn peer(text: &str) -> PeerAddr {
    PeerAddr::from(text.parse::<SocketAddr>().unwrap())
}

fn write(record: &Record<'_>, format: AccessLogFormat) -> String {
    let mut out = String::with_capacity(LINE_BYTES_MAX);
    let room = out.capacity();
    record.write(format, &mut out);
    assert_eq!(out.capacity(), room, "grown for {} bytes", out.len());
    out
}

/// The fields of a line, in order; numbers as their digits.
fn read(line: &str, format: AccessLogFormat) -> Vec<(String, String)> {
    let line = line.strip_suffix('\n').unwrap();
    match format {
        AccessLogFormat::Json => read_json(line),
        AccessLogFormat::Logfmt => read_logfmt(line),
    }
}

fn read_json(line: &str) -> Vec<(String, String)> {
    let object: BTreeMap<String, serde_json::Value> = serde_json::from_str(line).unwrap();
    // The map is sorted: put the keys back into the order of the text, where none occurs twice.
    let mut fields: Vec<_> = object.into_iter().collect();
    fields.sort_by_key(|(key, _)| line.find(&format!("\"{key}\":")).unwrap());
    let as_text = |value: serde_json::Value| match value {
        serde_json::Value::String(text) => text,
        serde_json::Value::Number(number) => number.to_string(),
        other => panic!("{other}"),
    };
    fields
        .into_iter()
        .map(|(key, value)| (key, as_text(value)))
        .collect()
}

fn read_logfmt(mut rest: &str) -> Vec<(String, String)> {
    let mut fields = Vec::new();
    while !rest.is_empty() {
        let (key, behind) = rest.split_once('=').unwrap();
        let value_len = match behind.strip_prefix('"') {
            None => behind.find(' ').unwrap_or(behind.len()),
            Some(quoted) => {
                let mut is_escaped = false;
                let closing = quoted.find(|character| {
                    let is_end = character == '"' && !is_escaped;
                    is_escaped = character == '\\' && !is_escaped;
                    is_end
                });
                closing.unwrap() + 2
            }
        };
        let (value, behind) = behind.split_at(value_len);
        let value = match value.starts_with('"') {
            true => serde_json::from_str(value).unwrap(),
            false => value.to_owned(),
        };
        assert!(
            key.bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte == b'_')
        );
        fields.push((key.to_owned(), value));
        rest = match behind.strip_prefix(' ') {
            Some(next) => next,
            None => behind,
        };
    }
    fields
}

/// What the fields of a record are to be, written down once more by hand.
fn expected(record: &Record<'_>) -> Vec<(String, String)> {
    let lossy = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let backend_address = record.backend_address.map(|address| match address {
        PeerEndpoint::Inet(addr) => PeerAddr::from(addr).to_string(),
        PeerEndpoint::Unix([0, name @ ..]) => format!("unix:@{}", lossy(name)),
        PeerEndpoint::Unix(name) => format!("unix:{}", lossy(name)),
    });
    let number = |value: u64| Some(value.to_string());
    let fields = [
        (
            "time",
            Some(time::Rfc3339(record.start_unix_ms).to_string()),
        ),
        ("id", Some(lossy(record.id))),
        ("listener", Some(record.listener.to_owned())),
        ("client", Some(record.client.to_string())),
        ("source", record.source.map(|source| source.to_string())),
        ("group", record.group.map(str::to_owned)),
        ("backend", record.backend.map(str::to_owned)),
        ("backend_address", backend_address),
        ("state", Some(record.termination.code_str().to_owned())),
        ("reason", Some(record.termination.words.to_owned())),
        ("detail", record.detail.map(str::to_owned)),
        ("duration_ms", number(record.duration_ms)),
        ("queue_ms", record.queue_ms.and_then(number)),
        ("connect_ms", record.connect_ms.and_then(number)),
        ("first_byte_ms", record.first_byte_ms.and_then(number)),
        ("bytes_up", number(record.bytes_up)),
        ("bytes_down", number(record.bytes_down)),
        ("retries", number(record.retries.into())),
        ("loop", number(record.loop_index.into())),
        ("sni", record.sni.map(lossy)),
        (
            "weight",
            number(record.weight.into()).filter(|_| record.weight > 1),
        ),
    ];
    fields
        .into_iter()
        .filter_map(|(key, value)| Some((key.to_owned(), value?)))
        .collect()
}

/// One line, and nothing in it that a terminal, a log or a reader would act on.
fn assert_harmless(line: &str) {
    assert_eq!(line.lines().count(), 1);
    assert_eq!(line.find('\n'), Some(line.len() - 1));
    for character in line.trim_end_matches('\n').chars() {
        let is_bidi = matches!(character, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        assert!(!character.is_control() && !is_bidi, "{character:?}");
        assert!(
            !matches!(character, '\u{2028}' | '\u{2029}'),
            "{character:?}"
        );
    }
}

#[test]
fn the_plain_line_in_both_formats() {
    // Goal: what an operator sees. Method: the whole text.
    assert_eq!(
        write(&plain(), AccessLogFormat::Logfmt),
        "time=2026-02-03T04:05:06.789Z id=0003019c2188ea850000002a listener=db client=192.0.2.7:50432 group=main backend=db1 \
         backend_address=10.0.0.1:5432 state=-- reason=\"both sides finished\" duration_ms=1042 connect_ms=1 \
         first_byte_ms=3 bytes_up=512 bytes_down=20480 retries=0 loop=3\n"
    );
    assert_eq!(
        write(&plain(), AccessLogFormat::Json),
        "{\"time\":\"2026-02-03T04:05:06.789Z\",\"id\":\"0003019c2188ea850000002a\",\"listener\":\"db\",\"client\":\"192.0.2.7:50432\",\
         \"group\":\"main\",\"backend\":\"db1\",\"backend_address\":\"10.0.0.1:5432\",\"state\":\"--\",\
         \"reason\":\"both sides finished\",\"duration_ms\":1042,\"connect_ms\":1,\"first_byte_ms\":3,\
         \"bytes_up\":512,\"bytes_down\":20480,\"retries\":0,\"loop\":3}\n"
    );
}

#[test]
fn every_hidden_character_is_escaped_and_comes_back() {
    // Goal: fault table row "log injection". Method: each character below U+3000 and of the tags, between two others.
    let all = ('\0'..='\u{3000}').chain([
        '\u{feff}',
        '\u{fffa}',
        '\u{e0001}',
        '\u{e007f}',
        '\u{1f600}',
    ]);
    for character in all {
        let sni = format!("a{character}b");
        let record = Record {
            sni: Some(sni.as_bytes()),
            ..plain()
        };
        for format in FORMATS {
            let line = write(&record, format);
            assert_harmless(&line);
            assert_eq!(read(&line, format), expected(&record), "{character:?}");
        }
    }
}

#[test]
fn nobody_breaks_out_of_a_field() {
    // Goal: a peer cannot forge a field, a line or colours. Method: texts made for it, in each text field.
    for attempt in [
        "x\ntime=2026-01-01T00:00:00Z listener=forged",
        "x\" state=-- reason=\"",
        "x\\",
        "\\\"",
        "x\",\"state\":\"--",
        "x state=--",
        "=",
        "",
        " ",
        "\u{1b}[2K\r",
        "\u{202e}drowssap",
        "\u{9b}31m",
        "\u{2028}x",
    ] {
        let record = Record {
            listener: attempt,
            group: Some(attempt),
            backend: Some(attempt),
            backend_address: Some(PeerEndpoint::Unix(attempt.as_bytes())),
            detail: Some(attempt),
            sni: Some(attempt.as_bytes()),
            ..plain()
        };
        for format in FORMATS {
            let line = write(&record, format);
            assert_harmless(&line);
            assert_eq!(read(&line, format), expected(&record), "{attempt:?}");
        }
    }
}

#[test]
fn the_longest_line_fits_its_bound() {
    // Goal: the bound that spares the buffer growing. Method: everything at its largest, all of it escaped.
    let text = "\u{1}".repeat(10_000);
    let peer = peer("[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535");
    let longest_words = Termination::of_cause(
        Cause::HalfCloseTimeout(crate::termination::Leg::Server),
        Phase::Queue,
    );
    let record = Record {
        start_unix_ms: u64::MAX,
        id: b"ffffffffffffffffffffffff",
        duration_ms: u64::MAX,
        listener: &text,
        client: peer,
        source: Some(peer),
        group: Some(&text),
        backend: Some(&text),
        backend_address: Some(PeerEndpoint::Unix(text.as_bytes())),
        termination: longest_words,
        detail: Some(&text),
        queue_ms: Some(u64::MAX),
        connect_ms: Some(u64::MAX),
        first_byte_ms: Some(u64::MAX),
        bytes_up: u64::MAX,
        bytes_down: u64::MAX,
        retries: u32::MAX,
        loop_index: u32::MAX,
        sni: Some(text.as_bytes()),
        weight: u32::MAX,
    };
    for format in FORMATS {
        let line = write(&record, format);
        assert!(line.len() > 6 * 6 * TEXT_BYTES_MAX && line.len() <= LINE_BYTES_MAX);
        let fields = read(&line, format);
        let sni = &fields.iter().find(|(key, _)| key == "sni").unwrap().1;
        assert_eq!(*sni, format!("{}…", "\u{1}".repeat(TEXT_BYTES_MAX)));
    }
}

#[test]
fn a_text_is_cut_between_characters() {
    // Goal: the bound makes no character of its own. Method: characters of three bytes across it, and a text that fits.
    for (text, expected) in [
        ("\u{20ac}".repeat(86), format!("{}…", "\u{20ac}".repeat(85))),
        ("a".repeat(256), "a".repeat(256)),
        ("a".repeat(257), format!("{}…", "a".repeat(256))),
    ] {
        let record = Record {
            sni: Some(text.as_bytes()),
            ..plain()
        };
        for format in FORMATS {
            let fields = read(&write(&record, format), format);
            assert_eq!(fields.last().unwrap().1, expected);
        }
    }
}

#[test]
fn lines_are_appended() {
    // Goal: one buffer for a batch. Method: two records behind what is there.
    for format in FORMATS {
        let mut out = String::from("before\n");
        plain().write(format, &mut out);
        plain().write(format, &mut out);
        assert_eq!(out.lines().count(), 3);
        assert!(out.starts_with("before\n"));
    }
}

fn endpoint() -> impl Strategy<Value = (Option<SocketAddr>, Vec<u8>)> {
    let inet = any::<([u8; 16], u16)>().prop_map(SocketAddr::from);
    (option::of(inet), vec(any::<u8>(), 0..108))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_record_is_one_line_and_reads_back(
        numbers in any::<([u64; 4], [u32; 3])>(),
        times in any::<[Option<u64>; 3]>(),
        listener in ".{0,60}",
        names in (option::of(".{0,60}"), option::of("[a-z0-9=\" \\\\]{0,20}"), option::of(".{0,60}")),
        (addr, path) in endpoint(),
        source in option::of(any::<([u8; 4], u16)>()),
        sni in option::of(vec(any::<u8>(), 0..250)),
        (cause, phase) in (0..Cause::ALL.len(), 0..Phase::ALL.len()),
    ) {
        // Goal: exactly one line, valid in its format, with the fields that were put in. Method: write and read.
        let ([start_unix_ms, duration_ms, bytes_up, bytes_down], [retries, loop_index, weight]) = numbers;
        let record = Record {
            start_unix_ms,
            id: b"0f",
            duration_ms,
            listener: &listener,
            client: addr.into(),
            source: source.map(|source| PeerAddr::from(SocketAddr::from(source))),
            group: names.0.as_deref(),
            backend: names.1.as_deref(),
            backend_address: Some(addr.map_or(PeerEndpoint::Unix(&path), PeerEndpoint::Inet)),
            termination: Termination::of_cause(Cause::ALL[cause], Phase::ALL[phase]),
            detail: names.2.as_deref(),
            queue_ms: times[0],
            connect_ms: times[1],
            first_byte_ms: times[2],
            bytes_up,
            bytes_down,
            retries,
            loop_index,
            sni: sni.as_deref(),
            weight,
        };
        for format in FORMATS {
            let line = write(&record, format);
            assert_harmless(&line);
            prop_assert_eq!(read(&line, format), expected(&record));
        }
    }

    #[test]
    fn one_in_n_is_kept_and_every_broken_session(
        every in 1u32..50,
        seed in any::<u64>(),
        broken in vec(any::<bool>(), 1..400),
    ) {
        // Goal: an exact share, the same for the same seed, nothing broken lost. Method: count over mixed sessions.
        let every = NonZeroU32::new(every).unwrap();
        let (mut sampler, mut twin) = (Sampler::new(every, seed), Sampler::new(every, seed));
        let mut kept = 0;
        let mut normal = 0;
        for is_broken in broken {
            let termination = match is_broken {
                true => Termination::of_cause(Cause::Killed, Phase::Data),
                false => Termination::NORMAL,
            };
            let answer = sampler.keep(&termination);
            prop_assert_eq!(answer, twin.keep(&termination));
            if is_broken {
                prop_assert_eq!(answer, Some(1));
            } else {
                prop_assert!(answer.is_none_or(|weight| weight == every.get()));
                normal += 1;
                kept += u32::from(answer.is_some());
                let runs = normal / every;
                prop_assert!((runs..=runs + 1).contains(&kept), "{} of {}", kept, normal);
            }
        }
    }
}

#[test]
fn seeds_keep_different_sessions() {
    // Goal: no client in step with the count is always or never seen. Method: the places kept, over seeds and runs.
    let every = NonZeroU32::new(10).unwrap();
    let mut places = [0; 10];
    for seed in 0..100 {
        let mut sampler = Sampler::new(every, seed);
        for index in 0..100 {
            if sampler.keep(&Termination::NORMAL).is_some() {
                places[index % 10] += 1;
            }
        }
    }
    assert_eq!(places.iter().sum::<u32>(), 1000);
    assert!(
        places.iter().all(|count| (50..150).contains(count)),
        "{places:?}"
    );
}
