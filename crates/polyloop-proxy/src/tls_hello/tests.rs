//! Tests of [`super`]: real hellos in every cut, made-up ones in every fault.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

mod hellos;

/// An answer that borrows nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Owned {
    NeedMore,
    Hello {
        sni: Option<String>,
        alpn: Vec<Vec<u8>>,
        is_encrypted: bool,
    },
    NotTls,
    Bad(Reason),
}

fn owned(read: HelloRead<'_>) -> Owned {
    match read {
        HelloRead::NeedMore => Owned::NeedMore,
        HelloRead::NotTls => Owned::NotTls,
        HelloRead::Bad(reason) => Owned::Bad(reason),
        HelloRead::Hello(hello) => Owned::Hello {
            sni: hello.sni.map(|name| name.as_str().to_owned()),
            alpn: hello.alpn.map(<[u8]>::to_vec).collect(),
            is_encrypted: hello.is_encrypted,
        },
    }
}

fn hello(sni: Option<&str>, alpn: &[&[u8]]) -> Owned {
    Owned::Hello {
        sni: sni.map(str::to_owned),
        alpn: alpn.iter().map(|protocol| protocol.to_vec()).collect(),
        is_encrypted: false,
    }
}

fn read_once(wire: &[u8]) -> Owned {
    owned(HelloReader::new().read(wire, &mut Vec::new()))
}

/// Gives a reader `wire` in steps of these sizes over and over, then all of it; the first answer and the bytes it took,
/// after checking that a fresh reader says the same of them and, at the end, of everything.
fn read_in_steps(wire: &[u8], steps: &[usize]) -> (usize, Owned) {
    let mut reader = HelloReader::new();
    let mut scratch = Vec::new();
    let mut len = 0;
    for step in steps.iter().cycle() {
        len = wire.len().min(len + step.max(&1));
        let answer = owned(reader.read(&wire[..len], &mut scratch));
        assert_eq!(answer, read_once(&wire[..len]));
        assert!(scratch.capacity() <= WIRE_BYTES_MAX);
        if answer != Owned::NeedMore {
            assert_eq!(
                answer,
                read_once(wire),
                "more bytes changed the answer to {len}"
            );
            return (len, answer);
        }
        if len == wire.len() {
            break;
        }
    }
    (len, Owned::NeedMore)
}

/// `message` in records of `size` bytes each.
fn in_records(message: &[u8], size: usize) -> Vec<u8> {
    let mut wire = Vec::new();
    for part in message.chunks(size) {
        wire.extend_from_slice(&[22, 3, 1]);
        wire.extend_from_slice(&(part.len() as u16).to_be_bytes());
        wire.extend_from_slice(part);
    }
    wire
}

fn list8(bytes: &[u8]) -> Vec<u8> {
    [&[bytes.len() as u8], bytes].concat()
}

fn list16(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u16).to_be_bytes()[..], bytes].concat()
}

fn extension(kind: u16, value: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &list16(value)].concat()
}

fn sni(name: &[u8]) -> Vec<u8> {
    extension(0, &list16(&[&[0], &list16(name)[..]].concat()))
}

fn alpn(protocols: &[&[u8]]) -> Vec<u8> {
    let list: Vec<u8> = protocols
        .iter()
        .flat_map(|protocol| list8(protocol))
        .collect();
    extension(16, &list16(&list))
}

/// A message of this body, with its head.
fn message(body: &[u8]) -> Vec<u8> {
    let len = (body.len() as u32).to_be_bytes();
    [&[1, len[1], len[2], len[3]], body].concat()
}

/// A body up to its extensions.
fn body_start() -> Vec<u8> {
    let ciphers = [0x0a, 0x0a, 0x13, 0x01];
    [
        &[3, 3][..],
        &[7; 32],
        &list8(&[9; 32]),
        &list16(&ciphers),
        &list8(&[0]),
    ]
    .concat()
}

fn message_with(extensions: &[Vec<u8>]) -> Vec<u8> {
    message(&[body_start(), list16(&extensions.concat())].concat())
}

#[test]
fn real_hellos_are_read_in_any_steps() {
    // Goal: what clients send is understood. Method: hellos of three clients, whole, byte by byte, in odd steps.
    let mut openssl = hellos::bytes(hellos::OPENSSL_13);
    openssl.extend([0; 230]);
    for (wire, expected) in [
        (
            openssl,
            hello(Some("Db1.Example.COM"), &[b"h2", b"http/1.1"]),
        ),
        (
            hellos::bytes(hellos::NODE_13),
            hello(Some("node.example"), &[b"h2"]),
        ),
        (
            hellos::bytes(hellos::POSTGRES_12),
            hello(Some("pg.internal.example"), &[b"postgresql"]),
        ),
        (hellos::bytes(hellos::NAMELESS_12), hello(None, &[])),
    ] {
        for steps in [&[wire.len()][..], &[1], &[3, 7, 50]] {
            assert_eq!(read_in_steps(&wire, steps), (wire.len(), expected.clone()));
        }
        for len in 0..wire.len() {
            assert_eq!(read_once(&wire[..len]), Owned::NeedMore);
        }
        let fused = [&wire[..], b"\x14\x03\x03\0\x01\x01 early data"].concat();
        assert_eq!(read_once(&fused), expected);
        // The same message over several records, down to one byte in each.
        for size in [1, 2, 3, 64, 100] {
            let records = in_records(&wire[RECORD_HEAD_BYTES..], size);
            for steps in [&[records.len()][..], &[1], &[3, 7, 50]] {
                assert_eq!(
                    read_in_steps(&records, steps),
                    (records.len(), expected.clone())
                );
            }
        }
    }
}

#[test]
fn a_hello_in_one_record_is_not_copied() {
    // Goal: the usual client costs no copy. Method: see whether the buffer was touched, also when it holds leftovers.
    let wire = hellos::bytes(hellos::NODE_13);
    let mut scratch = Vec::new();
    assert!(matches!(
        HelloReader::new().read(&wire, &mut scratch),
        HelloRead::Hello(_)
    ));
    assert_eq!(scratch.capacity(), 0);
    scratch.extend_from_slice(b"of another connection");
    let records = in_records(&wire[RECORD_HEAD_BYTES..], 10);
    let answer = owned(HelloReader::new().read(&records, &mut scratch));
    assert_eq!(answer, read_once(&wire));
    assert_eq!(scratch, wire[RECORD_HEAD_BYTES..]);
}

#[test]
fn a_byte_in_each_record_is_counted_once() {
    // Goal: a slow client costs time in proportion to its bytes. Method: the reader stands where the last record began.
    let wire = in_records(&message_with(&[sni(b"a.example")]), 1);
    let mut reader = HelloReader::new();
    for len in 0..wire.len() {
        assert_eq!(
            reader.read(&wire[..len], &mut Vec::new()),
            HelloRead::NeedMore
        );
        assert!(len - usize::from(reader.record_at) < RECORD_HEAD_BYTES + 1);
    }
    // A caller that gives less than before gets no answer, and no panic.
    assert_eq!(reader.read(&[], &mut Vec::new()), HelloRead::NeedMore);
    assert_eq!(size_of::<HelloReader>(), 4);
}

#[test]
fn other_protocols_are_told_apart_at_once() {
    // Goal: plain clients of a TLS port get the listener's answer, not a timeout. Method: how they begin.
    for start in [
        &b"GET / HTTP/1.1\r\n"[..],
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\0\0\0\x08\x04\xd2\x16\x2f",
        b"\x80\x2e\x01\x03\x01",
        b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2\r\n",
        b"\x15\x03\x01\0\x02\x01\0",
        b"\x17\x03\x03\0\x02\x01\0",
    ] {
        assert_eq!(read_in_steps(start, &[1]), (1, Owned::NotTls));
    }
    assert_eq!(read_in_steps(b"\x16\x02\0\0", &[1]), (2, Owned::NotTls));
    assert_eq!(read_once(b""), Owned::NeedMore);
}

#[test]
fn odd_but_legal_hellos_pass() {
    // Goal: nothing is refused that a server accepts. Method: each oddity with a name behind it.
    let name = || sni(b"a.example");
    let grease = || extension(0x0a0a, b"");
    let expected = hello(Some("a.example"), &[]);
    for (what, extensions, expected) in [
        ("the name alone", vec![name()], expected.clone()),
        (
            "GREASE around",
            vec![grease(), name(), extension(0xfafa, b"\0")],
            expected.clone(),
        ),
        (
            "GREASE twice",
            vec![grease(), grease(), name()],
            expected.clone(),
        ),
        (
            "an unknown kind of name before",
            vec![extension(0, &list16(b"\x07\0\x02xy\0\0\x09a.example"))],
            expected.clone(),
        ),
        (
            "only an unknown kind of name",
            vec![extension(0, &list16(b"\x07\0\x02xy"))],
            hello(None, &[]),
        ),
        (
            "GREASE among the protocols",
            vec![alpn(&[b"\x0a\x0a", b"h2"])],
            hello(None, &[b"\x0a\x0a", b"h2"]),
        ),
        ("no extension in the list", vec![], hello(None, &[])),
        (
            "an extension of 10 KiB",
            vec![extension(51, &[1; 10_240]), name()],
            expected,
        ),
    ] {
        assert_eq!(
            read_once(&in_records(&message_with(&extensions), 16_384)),
            expected,
            "{what}"
        );
    }
    assert_eq!(
        read_once(&in_records(&message(&body_start()), 500)),
        hello(None, &[])
    );
    let mut early_version = in_records(&message_with(&[]), 500);
    early_version[2] = 0;
    assert_eq!(read_once(&early_version), hello(None, &[]));
}

#[test]
fn an_encrypted_hello_is_noted() {
    // Goal: the log can say that the name is the outer one. Method: the extension, with and without a name.
    let inner = extension(0xfe0d, &[0; 100]);
    let wire = in_records(&message_with(&[inner, sni(b"outer.example")]), 500);
    let mut scratch = Vec::new();
    let HelloRead::Hello(found) = HelloReader::new().read(&wire, &mut scratch) else {
        panic!()
    };
    assert!(found.is_encrypted);
    assert_eq!(found.sni.unwrap(), "OUTER.example");
    assert!(!found.alpn.offers(b"h2"));
}

#[test]
fn protocols_are_matched_byte_for_byte() {
    // Goal: routing by ALPN. Method: a list with near misses.
    let wire = in_records(&message_with(&[alpn(&[b"h2", b"http/1.1"])]), 500);
    let mut scratch = Vec::new();
    let HelloRead::Hello(found) = HelloReader::new().read(&wire, &mut scratch) else {
        panic!()
    };
    assert!(found.alpn.offers(b"h2") && found.alpn.offers(b"http/1.1"));
    assert!(!found.alpn.offers(b"H2") && !found.alpn.offers(b"h") && !found.alpn.is_empty());
}

#[test]
fn broken_messages_are_refused() {
    // Goal: each rule of the format. Method: one broken message per row.
    use Reason::{HostName, Malformed, NotAHello, Twice};
    let name = || sni(b"a.example");
    let start = body_start();
    let with = |extensions: &[Vec<u8>]| message_with(extensions);
    let mut server_hello = with(&[]);
    server_hello[0] = 2;
    let mut version = with(&[]);
    version[4] = 2;
    let random = [&[3, 3][..], &[7; 32]].concat();
    let tail = |session: &[u8], ciphers: &[u8], compressions: &[u8]| {
        message(
            &[
                &random[..],
                &list8(session),
                &list16(ciphers),
                &list8(compressions),
            ]
            .concat(),
        )
    };
    for (what, message, reason) in [
        ("a server's hello", server_hello, NotAHello),
        ("another major version", version, Malformed),
        ("an empty body", message(b""), Malformed),
        (
            "a body that ends in the random bytes",
            message(&random[..20]),
            Malformed,
        ),
        (
            "a session of 33 bytes",
            tail(&[0; 33], &[0; 2], &[0]),
            Malformed,
        ),
        ("no ciphers", tail(b"", b"", &[0]), Malformed),
        ("half a cipher", tail(b"", &[0; 3], &[0]), Malformed),
        ("no compression", tail(b"", &[0; 2], b""), Malformed),
        (
            "one byte behind",
            message(&[&start[..], &[0]].concat()),
            Malformed,
        ),
        (
            "bytes behind the extensions",
            message(&[&start[..], &[0, 0, 0]].concat()),
            Malformed,
        ),
        (
            "extensions longer than the message",
            message(&[&start[..], &[0, 9, 0, 0]].concat()),
            Malformed,
        ),
        (
            "half an extension",
            message(&[start.clone(), list16(&[0, 23, 0])].concat()),
            Malformed,
        ),
        (
            "an extension longer than the list",
            message(&[start.clone(), list16(&[0, 23, 0, 1])].concat()),
            Malformed,
        ),
        (
            "an empty name extension, as servers send it",
            with(&[extension(0, b"")]),
            Malformed,
        ),
        (
            "an empty list of names",
            with(&[extension(0, &list16(b""))]),
            Malformed,
        ),
        (
            "a byte behind the list of names",
            with(&[extension(0, &[list16(b"\0\0\x01a"), vec![0]].concat())]),
            Malformed,
        ),
        (
            "a name longer than the list",
            with(&[extension(0, &list16(b"\0\0\x02a"))]),
            Malformed,
        ),
        ("an empty name", with(&[sni(b"")]), HostName),
        (
            "a name with a zero byte",
            with(&[sni(b"good.example\0.evil.example")]),
            HostName,
        ),
        (
            "a name with a final dot",
            with(&[sni(b"a.example.")]),
            HostName,
        ),
        (
            "a name beyond ASCII",
            with(&[sni("b\u{fc}cher.example".as_bytes())]),
            HostName,
        ),
        ("a name with a line end", with(&[sni(b"a\nb")]), HostName),
        (
            "a name of 254 bytes",
            with(&[sni(&[&b"a.".repeat(126)[..], b"bb"].concat())]),
            HostName,
        ),
        (
            "two names in a list",
            with(&[extension(0, &list16(b"\0\0\x01a\0\0\x01b"))]),
            Twice,
        ),
        ("two lists of names", with(&[name(), name()]), Twice),
        (
            "two lists of protocols",
            with(&[alpn(&[b"h2"]), alpn(&[b"h2"])]),
            Twice,
        ),
        (
            "two encrypted hellos",
            with(&[extension(0xfe0d, b""), extension(0xfe0d, b"")]),
            Twice,
        ),
        ("an empty list of protocols", with(&[alpn(&[])]), Malformed),
        ("an empty protocol", with(&[alpn(&[b"h2", b""])]), Malformed),
        (
            "a protocol longer than the list",
            with(&[extension(16, &list16(b"\x03h2"))]),
            Malformed,
        ),
        (
            "a byte behind the protocols",
            with(&[extension(16, &[list16(b"\x02h2"), vec![0]].concat())]),
            Malformed,
        ),
    ] {
        for size in [7, 16_384] {
            let wire = in_records(&message, size);
            assert_eq!(read_in_steps(&wire, &[1]).1, Owned::Bad(reason), "{what}");
        }
    }
}

#[test]
fn broken_records_are_refused_where_they_break() {
    // Goal: nothing is waited for that cannot come. Method: the record's head, and a second record of every fault.
    use Reason::{NotAHello, RecordLength, RecordType, TooLong};
    let message = message_with(&[sni(b"a.example")]);
    let first = in_records(&message[..20], 20);
    let then = |bytes: &[u8]| [&first[..], bytes].concat();
    for (what, wire, settled_at, reason) in [
        (
            "empty record",
            b"\x16\x03\x01\0\0".to_vec(),
            5,
            RecordLength,
        ),
        (
            "record too long",
            b"\x16\x03\x01\x40\x01".to_vec(),
            5,
            RecordLength,
        ),
        (
            "not a hello",
            b"\x16\x03\x01\0\x04\x02".to_vec(),
            6,
            NotAHello,
        ),
        (
            "message too long",
            b"\x16\x03\x01\x40\0\x01\0\x3f\xf8".to_vec(),
            9,
            TooLong,
        ),
        (
            "message far too long",
            b"\x16\x03\x01\x40\0\x01\xff\xff\xff".to_vec(),
            9,
            TooLong,
        ),
        (
            "an alert between",
            then(b"\x15\x03\x01\0\x02\x01\0"),
            26,
            RecordType,
        ),
        (
            "another major version between",
            then(b"\x16\x02\x01\0\x02\x01\0"),
            27,
            RecordType,
        ),
        (
            "an empty record between",
            then(b"\x16\x03\x01\0\0"),
            30,
            RecordLength,
        ),
        (
            "a record too long between",
            then(b"\x16\x03\x01\xff\xff"),
            30,
            RecordLength,
        ),
    ] {
        assert_eq!(
            read_in_steps(&wire, &[1]),
            (settled_at, Owned::Bad(reason)),
            "{what}"
        );
    }
}

#[test]
fn the_bound_is_met_exactly() {
    // Goal: 16 KiB in all, records' heads included. Method: the longest that passes and one byte more, both ways.
    let padded = |wire_bytes: usize| {
        let empty = message_with(&[extension(21, b"")]).len();
        message_with(&[extension(
            21,
            &vec![0; wire_bytes - RECORD_HEAD_BYTES - empty],
        )])
    };
    let longest = in_records(&padded(WIRE_BYTES_MAX), 16_384);
    assert_eq!(longest.len(), WIRE_BYTES_MAX);
    assert_eq!(read_once(&longest), hello(None, &[]));
    assert_eq!(read_once(&longest[..WIRE_BYTES_MAX - 1]), Owned::NeedMore);
    let over = in_records(&padded(WIRE_BYTES_MAX + 1), 16_384);
    assert_eq!(read_in_steps(&over, &[1]), (9, Owned::Bad(Reason::TooLong)));
    // Over small records the heads count too: 2730 records of one byte fit, and a little.
    let spread = in_records(&padded(2_736 + RECORD_HEAD_BYTES), 1);
    assert_eq!(
        read_in_steps(&spread, &[997]).1,
        Owned::Bad(Reason::TooLong)
    );
    let spread = in_records(&padded(2_730 + RECORD_HEAD_BYTES), 1);
    assert_eq!(read_in_steps(&spread, &[997]).1, hello(None, &[]));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn damaged_hellos_get_one_answer_however_they_are_cut(
        (at, byte) in (0usize..400, any::<u8>()),
        cut in 0usize..500,
        size in 1usize..500,
        steps in vec(1usize..90, 1..6),
    ) {
        // Goal: no panic, and no answer that the cuts change. Method: one byte of a real hello, its end, and the
        // records around it at random.
        let mut message = hellos::bytes(hellos::NODE_13)[RECORD_HEAD_BYTES..].to_vec();
        let at = at % message.len();
        message[at] = byte;
        let mut wire = in_records(&message, size);
        wire.truncate(wire.len().min(cut + 200));
        read_in_steps(&wire, &steps);
        let place = (at * 7) % wire.len();
        wire[place] = byte;
        read_in_steps(&wire, &steps);
    }

    #[test]
    fn any_bytes_are_survived(bytes in vec(any::<u8>(), 0..300), steps in vec(1usize..90, 1..6)) {
        // Goal: no panic. Method: noise, and noise behind the heads of a record and a message.
        read_in_steps(&bytes, &steps);
        let message = message(&bytes);
        read_in_steps(&in_records(&message, 300), &steps);
        read_in_steps(&in_records(&[&message[..], &bytes].concat(), 5), &steps);
        let extensions = self::message(&[body_start(), list16(&bytes)].concat());
        read_in_steps(&in_records(&extensions, 77), &steps);
    }
}

#[test]
fn every_reason_has_a_name_and_words() {
    // Goal: counters and logs can tell reasons apart. Method: all of them, pairwise.
    for (index, reason) in Reason::ALL.iter().enumerate() {
        for other in &Reason::ALL[..index] {
            assert_ne!(reason.name(), other.name());
            assert_ne!(reason.words(), other.words());
        }
        assert_eq!(reason.to_string(), reason.words());
    }
}
