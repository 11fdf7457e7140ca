//! Tests of [`super`]: the properties that hold for any bytes, what is written, and (in `vectors`) the specification's
//! rules one by one.

use std::net::{Ipv6Addr, SocketAddr};

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

mod vectors;

/// The answer to every prefix of `bytes`, checked to be `NeedMore` up to some length and one and the same answer from
/// there on; returns that length (one beyond the end if there is no answer) and the last answer.
fn settle(bytes: &[u8]) -> (usize, Parsed<'_>) {
    let last = parse(bytes);
    let mut settled_at = bytes.len() + 1;
    for len in (0..=bytes.len()).rev() {
        let answer = parse(&bytes[..len]);
        if answer == Parsed::NeedMore {
            break;
        }
        assert_eq!(answer, last, "another answer to {len} of {bytes:02x?}");
        settled_at = len;
    }
    for len in 0..settled_at.min(bytes.len()) {
        assert_eq!(
            parse(&bytes[..len]),
            Parsed::NeedMore,
            "{len} of {bytes:02x?}"
        );
    }
    (settled_at, last)
}

fn inet() -> impl Strategy<Value = SocketAddr> {
    let v4 = any::<([u8; 4], u16)>().prop_map(SocketAddr::from);
    let v6 = any::<([u8; 16], u16)>().prop_map(SocketAddr::from);
    let mapped = any::<([u8; 4], u16)>().prop_map(|(ip, port)| {
        SocketAddr::from((std::net::Ipv4Addr::from(ip).to_ipv6_mapped(), port))
    });
    prop_oneof![v4, v6, mapped]
}

/// What `addr` is after it was written beside `other`.
fn as_written(addr: SocketAddr, other: SocketAddr) -> SocketAddr {
    let is_v4 = addr.ip().to_canonical().is_ipv4() && other.ip().to_canonical().is_ipv4();
    let ip = match addr.ip().to_canonical() {
        IpAddr::V4(ip) if !is_v4 => IpAddr::V6(ip.to_ipv6_mapped()),
        ip => ip,
    };
    SocketAddr::new(ip, addr.port())
}

/// The beginnings of headers, so that random bytes get past the first checks.
fn almost_a_header() -> impl Strategy<Value = Vec<u8>> {
    let starts: Vec<&[u8]> = vec![
        b"",
        b"PROXY ",
        b"PROXY TCP4 ",
        b"PROXY TCP6 ::",
        b"PROXY UNKNOWN",
        b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2",
        b"\r\n\r\n\0\r\nQUIT\n",
        b"\r\n\r\n\0\r\nQUIT\n\x20",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x00\0\x14",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x18\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x20\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x20\0",
    ];
    let text = proptest::sample::select(b"0123456789.: \r\nafPROXYTC46UNKW".to_vec());
    let tail = prop_oneof![
        vec(any::<u8>(), 0..64),
        vec(text, 0..120),
        vec(0u8..6, 0..64)
    ];
    (proptest::sample::select(starts), tail).prop_map(|(start, tail)| [start, &tail].concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_get_one_answer_however_they_are_cut(bytes in almost_a_header()) {
        // Goal: no panic, and no answer that more bytes change. Method: every prefix of headers gone wrong.
        let (settled_at, answer) = settle(&bytes);
        if let Parsed::Done { len, header } = answer {
            prop_assert_eq!(settled_at, len);
            prop_assert_eq!(header.source.is_some(), header.dest.is_some());
            prop_assert!(header.tlvs.count() <= len / 3);
        }
    }

    #[test]
    fn a_line_is_read_back(source in inet(), dest in inet(), payload in vec(any::<u8>(), 0..8)) {
        // Goal: version 1 loses nothing. Method: write, fuse with payload, cut everywhere, read.
        let mut out = [0; V1_BYTES_MAX];
        let len = write_v1(&mut out, source.into(), dest.into());
        let fused = [&out[..len], &payload].concat();
        let (settled_at, answer) = settle(&fused);
        prop_assert_eq!(settled_at, len);
        let Parsed::Done { len: read_len, header } = answer else { panic!("{answer:?}") };
        prop_assert_eq!(read_len, len);
        prop_assert_eq!(header.source, Some(as_written(source, dest).into()));
        prop_assert_eq!(header.dest, Some(as_written(dest, source).into()));
        prop_assert_eq!((header.version, header.command), (Version::One, Command::Proxy));
    }

    #[test]
    fn a_block_is_read_back(
        source in inet(),
        dest in inet(),
        fields in vec((prop_oneof![Just(kind::ALPN), Just(kind::NOOP), Just(kind::UNIQUE_ID), 0xe0u8..=0xff], vec(any::<u8>(), 0..80)), 0..6),
        is_checked in any::<bool>(),
        payload in vec(any::<u8>(), 0..8),
    ) {
        // Goal: version 2 loses nothing, fields included. Method: write, fuse with payload, cut everywhere, read.
        let tlvs: Vec<Tlv<'_>> = fields.iter().map(|(kind, value)| Tlv { kind: *kind, value }).collect();
        let checksum = if is_checked { Checksum::Append } else { Checksum::Omit };
        let mut out = [0; HEADER_BYTES_MAX];
        let len = write_v2(&mut out, source.into(), dest.into(), &tlvs, checksum).unwrap();
        let fused = [&out[..len], &payload].concat();
        let (settled_at, answer) = settle(&fused);
        prop_assert_eq!(settled_at, len);
        let Parsed::Done { header, .. } = answer else { panic!("{answer:?}") };
        prop_assert_eq!(header.source, Some(as_written(source, dest).into()));
        prop_assert_eq!(header.dest, Some(as_written(dest, source).into()));
        let read: Vec<Tlv<'_>> = header.tlvs.filter(|tlv| tlv.kind != kind::CRC32C).collect();
        prop_assert_eq!(read, tlvs);
        prop_assert_eq!(header.tlvs.value_of(kind::CRC32C).is_some(), is_checked);
    }

    #[test]
    fn a_checksum_notices_any_one_flipped_bit(bit in 0usize..8 * 40, source in any::<([u8; 4], u16)>()) {
        // Goal: a damaged header is never believed. Method: flip each bit of a checked header with a unique id.
        let mut out = [0; 64];
        let tlvs = [Tlv { kind: kind::UNIQUE_ID, value: b"abc" }];
        let source = PeerEndpoint::Inet(source.into());
        let len = write_v2(&mut out, source, source, &tlvs, Checksum::Append).unwrap();
        prop_assume!(bit < 8 * len);
        out[bit / 8] ^= 1 << (bit % 8);
        let Parsed::Done { header, .. } = parse(&out[..len]) else { return Ok(()) };
        // What is left are bits that hide the checksum itself: its type, or a command or transport that skips the block.
        prop_assert_eq!(header.tlvs.value_of(kind::CRC32C), None);
        prop_assert!([12, 13, 34].contains(&(bit / 8)), "byte {}", bit / 8);
    }
}

#[test]
fn the_longest_lines_fit() {
    // Goal: `write_v1` never runs out of room. Method: the longest line of each family, beside the documented lengths.
    let v4 = PeerEndpoint::Inet("255.255.255.255:65535".parse().unwrap());
    let v6 = PeerEndpoint::Inet(SocketAddr::from((Ipv6Addr::from([0xff; 16]), 65535)));
    let mut out = [0; V1_BYTES_MAX];
    assert_eq!(write_v1(&mut out, v4, v4), 56);
    assert_eq!(write_v1(&mut out, v6, v6), 104);
    assert_eq!(write_v1(&mut out, PeerEndpoint::Unix(b"x"), v6), 15);
    assert_eq!(&out[..15], b"PROXY UNKNOWN\r\n");
}

#[test]
fn families_are_chosen_as_stated() {
    // Goal: the table in the module's doc. Method: each pair of kinds, as text.
    let line = |source: &str, dest: &str| {
        let mut out = [0; V1_BYTES_MAX];
        let ends = [source, dest].map(|end| PeerEndpoint::Inet(end.parse().unwrap()));
        let len = write_v1(&mut out, ends[0], ends[1]);
        String::from_utf8(out[..len].to_vec()).unwrap()
    };
    for (source, dest, expected) in [
        (
            "192.168.0.1:56324",
            "192.168.0.11:443",
            "PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n",
        ),
        (
            "[::ffff:1.2.3.4]:1",
            "[::ffff:5.6.7.8]:2",
            "PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n",
        ),
        (
            "[::ffff:1.2.3.4]:1",
            "5.6.7.8:2",
            "PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n",
        ),
        (
            "1.2.3.4:1",
            "[2001:db8::1]:2",
            "PROXY TCP6 ::ffff:102:304 2001:db8::1 1 2\r\n",
        ),
        ("[::]:0", "[::1]:65535", "PROXY TCP6 :: ::1 0 65535\r\n"),
    ] {
        assert_eq!(line(source, dest), expected);
    }
}

#[test]
fn unix_names_come_back() {
    // Goal: paths, abstract names and no name survive. Method: write and read each, and the longest of each.
    for name in [
        &b""[..],
        b"/run/db.sock",
        b"\0abstract\0x",
        &[b'a'; UNIX_NAME_BYTES],
    ] {
        let mut out = [0; HEADER_BYTES_MAX];
        let [source, dest] = [name, b"/d"].map(PeerEndpoint::Unix);
        let len = write_v2(&mut out, source, dest, &[], Checksum::Append).unwrap();
        let (_, Parsed::Done { header, .. }) = settle(&out[..len]) else {
            panic!()
        };
        assert_eq!((header.source, header.dest), (Some(source), Some(dest)));
        assert_eq!(source.peer_addr(), PeerAddr::Unix);
        assert_eq!(source.ip(), None);
    }
    let too_long = PeerEndpoint::Unix(&[b'a'; UNIX_NAME_BYTES + 1]);
    let answer = write_v2(&mut [0; 400], too_long, too_long, &[], Checksum::Omit);
    assert_eq!(answer, Err(WriteError::NameTooLong));
}

#[test]
fn a_unix_client_of_an_ip_backend_is_unspec_and_keeps_its_fields() {
    // Goal: no address is invented for the pair that has no family. Method: write and read it with an authority.
    let mut out = [0; 64];
    let inet = PeerEndpoint::Inet("1.2.3.4:5".parse().unwrap());
    let tlvs = [Tlv {
        kind: kind::AUTHORITY,
        value: b"db.example",
    }];
    let from = PeerEndpoint::from(PeerAddr::Unix);
    let len = write_v2(&mut out, from, inet, &tlvs, Checksum::Append).unwrap();
    let (_, Parsed::Done { header, .. }) = settle(&out[..len]) else {
        panic!()
    };
    assert_eq!((header.command, header.source), (Command::Proxy, None));
    assert_eq!(header.tlvs.authority(), Some("db.example"));
}

#[test]
fn what_cannot_be_written_is_refused() {
    // Goal: no half header, none that a receiver refuses. Method: every way to ask for one.
    let end = PeerEndpoint::Inet("1.2.3.4:5".parse().unwrap());
    let write = |room: usize, tlvs: &[Tlv<'_>], checksum| {
        write_v2(&mut vec![0; room], end, end, tlvs, checksum)
    };
    assert_eq!(write(28, &[], Checksum::Omit), Ok(28));
    assert_eq!(write(34, &[], Checksum::Append), Err(WriteError::TooLong));
    assert_eq!(write(35, &[], Checksum::Append), Ok(35));
    for room in 0..28 {
        assert_eq!(write(room, &[], Checksum::Omit), Err(WriteError::TooLong));
    }
    let noop = |len: usize| vec![0; len];
    for (len, expected) in [
        (HEADER_BYTES_MAX - 31, Ok(HEADER_BYTES_MAX)),
        (HEADER_BYTES_MAX - 30, Err(WriteError::TooLong)),
        (70_000, Err(WriteError::TooLong)),
    ] {
        let value = noop(len);
        let tlvs = [Tlv {
            kind: kind::NOOP,
            value: &value,
        }];
        assert_eq!(write(100_000, &tlvs, Checksum::Omit), expected);
    }
    for (kind, value) in [
        (kind::CRC32C, &[0; 4][..]),
        (kind::UNIQUE_ID, &[0; UNIQUE_ID_BYTES_MAX + 1]),
        (kind::AUTHORITY, b"\xff"),
        (kind::AUTHORITY, &[b'a'; AUTHORITY_BYTES_MAX + 1]),
        (kind::SSL, &[0; 4]),
    ] {
        let answer = write(2048, &[Tlv { kind, value }], Checksum::Omit);
        assert_eq!(answer, Err(WriteError::BadTlv { kind }));
    }
}

#[test]
fn the_local_header_is_the_shortest() {
    // Goal: health checks announce themselves. Method: write it, read it.
    let mut out = [0; 16];
    assert_eq!(write_v2_local(&mut out), 16);
    let (settled_at, Parsed::Done { len, header }) = settle(&out) else {
        panic!()
    };
    assert_eq!((settled_at, len), (16, 16));
    assert_eq!(
        (header.command, header.source, header.tlvs),
        (Command::Local, None, Tlvs::EMPTY)
    );
}

#[test]
fn what_tls_the_client_used_can_be_read() {
    // Goal: the second level of fields. Method: a full SSL field, and the flags one by one.
    let inner = b"\x21\0\x07TLSv1.3\x23\0\x03abc\x22\0\x06client";
    let value = |client: u8, verify: u8| [&[client, 0, 0, 0, verify][..], inner].concat();
    for (client, verify, is_tls, is_verified) in [
        (0x01, 0, true, false),
        (0x03, 0, true, true),
        (0x05, 0, true, true),
        (0x07, 1, true, false),
        (0x00, 0, false, false),
    ] {
        let value = value(client, verify);
        let tlvs = [Tlv {
            kind: kind::SSL,
            value: &value,
        }];
        let mut out = [0; 128];
        let end = PeerEndpoint::Inet("[::1]:5".parse().unwrap());
        let len = write_v2(&mut out, end, end, &tlvs, Checksum::Append).unwrap();
        let Parsed::Done { header, .. } = parse(&out[..len]) else {
            panic!()
        };
        let ssl = header.tlvs.ssl().unwrap();
        assert_eq!(
            (ssl.is_tls(), ssl.is_certificate_verified()),
            (is_tls, is_verified)
        );
        assert_eq!(
            ssl.fields.value_of(kind::SSL_VERSION),
            Some(&b"TLSv1.3"[..])
        );
        assert_eq!(ssl.fields.value_of(kind::SSL_CN), Some(&b"client"[..]));
        assert_eq!(ssl.fields.count(), 3);
    }
}

#[test]
fn every_reason_has_a_name_and_words() {
    // Goal: counters and logs can tell reasons apart. Method: all of them, pairwise.
    for (index, reason) in Reason::ALL.iter().enumerate() {
        assert!(!reason.name().is_empty() && !reason.words().is_empty());
        for other in &Reason::ALL[..index] {
            assert_ne!(reason.name(), other.name());
            assert_ne!(reason.words(), other.words());
        }
        assert_eq!(reason.to_string(), reason.words());
    }
}
