//! The rules of the specification, one row each: bytes, and what must be made of them.

use super::*;

/// What a row expects.
enum Expected {
    /// A whole header with these endpoints; no prefix of it is one.
    Ends(&'static str, &'static str),
    /// A whole header that says: use the socket's own endpoints.
    Real,
    /// The beginning of a header.
    More,
    /// Refused.
    Bad(Reason),
}

use Expected::{Bad, Ends, More, Real};

struct Row {
    what: &'static str,
    bytes: Vec<u8>,
    expected: Expected,
}

fn row(what: &'static str, bytes: impl AsRef<[u8]>, expected: Expected) -> Row {
    let bytes = bytes.as_ref().to_vec();
    Row {
        what,
        bytes,
        expected,
    }
}

/// A block of version 2 with the true length of `body`.
fn block(version_command: u8, family_transport: u8, body: &[u8]) -> Vec<u8> {
    let len = (body.len() as u16).to_be_bytes();
    let fixed = [version_command, family_transport, len[0], len[1]];
    [&b"\r\n\r\n\0\r\nQUIT\n"[..], &fixed, body].concat()
}

/// 192.168.0.1:56324 to 192.168.0.11:443.
const V4: [u8; 12] = [192, 168, 0, 1, 192, 168, 0, 11, 0xdc, 0x04, 0x01, 0xbb];

fn v4_with(fields: &[u8]) -> Vec<u8> {
    block(0x21, 0x11, &[&V4, fields].concat())
}

fn v6_body() -> Vec<u8> {
    let ip = |text: &str| text.parse::<Ipv6Addr>().unwrap().octets();
    let ports = [0xdc, 0x04, 0x01, 0xbb];
    [&ip("2001:db8::1")[..], &ip("2001:db8::2"), &ports].concat()
}

fn field(kind: u8, value: &[u8]) -> Vec<u8> {
    let len = (value.len() as u16).to_be_bytes();
    [&[kind, len[0], len[1]], value].concat()
}

fn lines() -> Vec<Row> {
    let ends = || Ends("192.168.0.1:56324", "192.168.0.11:443");
    let filler = |len: usize| format!("PROXY UNKNOWN {}\r\n", "x".repeat(len - 16));
    vec![
        row(
            "the specification's example",
            "PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n",
            ends(),
        ),
        row(
            "longest TCP4",
            "PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n",
            Ends("255.255.255.255:65535", "255.255.255.255:65535"),
        ),
        row(
            "shortest TCP4",
            "PROXY TCP4 0.0.0.0 0.0.0.0 0 0\r\n",
            Ends("0.0.0.0:0", "0.0.0.0:0"),
        ),
        row(
            "longest TCP6",
            "PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n",
            Ends(
                "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535",
                "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535",
            ),
        ),
        row(
            "shortest TCP6",
            "PROXY TCP6 :: :: 0 0\r\n",
            Ends("[::]:0", "[::]:0"),
        ),
        row(
            "TCP6 in upper case, zeros within groups",
            "PROXY TCP6 2001:0DB8:0000::00A1 ::1 1 2\r\n",
            Ends("[2001:db8::a1]:1", "[::1]:2"),
        ),
        row(
            "TCP6 with mapped dotted quads",
            "PROXY TCP6 ::ffff:1.2.3.4 ::1 1 2\r\n",
            Ends("[::ffff:1.2.3.4]:1", "[::1]:2"),
        ),
        row("UNKNOWN, short", "PROXY UNKNOWN\r\n", Real),
        row("UNKNOWN, space alone", "PROXY UNKNOWN \r\n", Real),
        row(
            "UNKNOWN with addresses",
            "PROXY UNKNOWN ffff:f::f:ffff ffff:f::f:ffff 65535 65535\r\n",
            Real,
        ),
        row(
            "UNKNOWN with nonsense",
            b"PROXY UNKNOWN \0\xff  what is this\r\n",
            Real,
        ),
        row("UNKNOWN of 107 bytes", filler(107), Real),
        row(
            "UNKNOWN of 108 bytes",
            filler(108),
            Bad(Reason::LineTooLong),
        ),
        row(
            "UNKNOWN whose CR is the 107th byte",
            &filler(108).as_bytes()[..107],
            Bad(Reason::LineTooLong),
        ),
        row("nothing yet", "", More),
        row("the first byte", "P", More),
        row("the keyword alone", "PROXY", More),
        row(
            "no CRLF yet",
            "PROXY TCP4 192.168.0.1 192.168.0.11 56324 443",
            More,
        ),
        row(
            "no LF yet",
            "PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r",
            More,
        ),
        row(
            "never a CRLF",
            format!("PROXY TCP4 1.2.3.4 {}", "1".repeat(120)),
            Bad(Reason::LineTooLong),
        ),
        row(
            "LF alone at the end",
            "PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\n",
            Bad(Reason::LoneLineEnd),
        ),
        row(
            "CR alone at the end",
            "PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\rGET",
            Bad(Reason::LoneLineEnd),
        ),
        row(
            "LF CR",
            "PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\n\r",
            Bad(Reason::LoneLineEnd),
        ),
        row(
            "CR CR LF",
            "PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\r\n",
            Bad(Reason::LoneLineEnd),
        ),
        row(
            "LF inside UNKNOWN",
            "PROXY UNKNOWN a\nb\r\n",
            Bad(Reason::LoneLineEnd),
        ),
        row(
            "CR inside UNKNOWN",
            "PROXY UNKNOWN a\rb\r\n",
            Bad(Reason::LoneLineEnd),
        ),
        row(
            "UNKNOWN and LF alone",
            "PROXY UNKNOWN\n",
            Bad(Reason::UnknownProtocol),
        ),
        row(
            "UNKNOWN run on",
            "PROXY UNKNOWNS\r\n",
            Bad(Reason::UnknownProtocol),
        ),
        row(
            "keyword in lower case",
            "proxy TCP4 192.168.0.1 192.168.0.11 56324 443\r\n",
            Bad(Reason::NotAHeader),
        ),
        row(
            "protocol in lower case",
            "PROXY tcp4 192.168.0.1 192.168.0.11 56324 443\r\n",
            Bad(Reason::UnknownProtocol),
        ),
        row(
            "UDP4",
            "PROXY UDP4 192.168.0.1 192.168.0.11 56324 443\r\n",
            Bad(Reason::UnknownProtocol),
        ),
        row(
            "TCP5",
            "PROXY TCP5 192.168.0.1 192.168.0.11 56324 443\r\n",
            Bad(Reason::UnknownProtocol),
        ),
        row(
            "TCP4 and nothing",
            "PROXY TCP4\r\n",
            Bad(Reason::UnknownProtocol),
        ),
        row("no protocol", "PROXY \r\n", Bad(Reason::UnknownProtocol)),
        row("keyword and CRLF", "PROXY\r\n", Bad(Reason::NotAHeader)),
        row(
            "a space before",
            " PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n",
            Bad(Reason::NotAHeader),
        ),
        row(
            "a tab behind the keyword",
            "PROXY\tTCP4 192.168.0.1 192.168.0.11 56324 443\r\n",
            Bad(Reason::NotAHeader),
        ),
        row(
            "two spaces behind the keyword",
            "PROXY  TCP4 192.168.0.1 192.168.0.11 56324 443\r\n",
            Bad(Reason::UnknownProtocol),
        ),
        row(
            "two spaces behind the protocol",
            "PROXY TCP4  192.168.0.1 192.168.0.11 56324 443\r\n",
            Bad(Reason::Fields),
        ),
        row(
            "two spaces between addresses",
            "PROXY TCP4 192.168.0.1  192.168.0.11 56324 443\r\n",
            Bad(Reason::Fields),
        ),
        row(
            "two spaces between ports",
            "PROXY TCP4 192.168.0.1 192.168.0.11 56324  443\r\n",
            Bad(Reason::Fields),
        ),
        row(
            "a space at the end",
            "PROXY TCP4 192.168.0.1 192.168.0.11 56324 443 \r\n",
            Bad(Reason::Fields),
        ),
        row(
            "a fifth field",
            "PROXY TCP4 192.168.0.1 192.168.0.11 56324 443 x\r\n",
            Bad(Reason::Fields),
        ),
        row(
            "a port missing",
            "PROXY TCP4 192.168.0.1 192.168.0.11 56324\r\n",
            Bad(Reason::Fields),
        ),
        row("fields missing", "PROXY TCP4 \r\n", Bad(Reason::Fields)),
        row(
            "a tab between",
            "PROXY TCP4 192.168.0.1\t192.168.0.11 56324 443\r\n",
            Bad(Reason::Fields),
        ),
        row(
            "bytes beyond ASCII",
            b"PROXY TCP4 192.168.0.1 192.168.0.11 56324 44\xb3\r\n",
            Bad(Reason::Fields),
        ),
        row(
            "three numbers",
            "PROXY TCP4 192.168.1 192.168.0.11 56324 443\r\n",
            Bad(Reason::Address),
        ),
        row(
            "five numbers",
            "PROXY TCP4 192.168.0.1.1 192.168.0.11 56324 443\r\n",
            Bad(Reason::Address),
        ),
        row(
            "a number over 255",
            "PROXY TCP4 192.168.0.256 192.168.0.11 56324 443\r\n",
            Bad(Reason::Address),
        ),
        row(
            "a leading zero",
            "PROXY TCP4 192.168.0.01 192.168.0.11 56324 443\r\n",
            Bad(Reason::Address),
        ),
        row(
            "two zeros",
            "PROXY TCP4 192.168.00.1 192.168.0.11 56324 443\r\n",
            Bad(Reason::Address),
        ),
        row(
            "hexadecimal",
            "PROXY TCP4 0xc0.168.0.1 192.168.0.11 56324 443\r\n",
            Bad(Reason::Address),
        ),
        row(
            "two dots",
            "PROXY TCP4 192..0.1 192.168.0.11 56324 443\r\n",
            Bad(Reason::Address),
        ),
        row(
            "a negative number",
            "PROXY TCP4 192.168.0.-1 192.168.0.11 56324 443\r\n",
            Bad(Reason::Address),
        ),
        row(
            "a zero byte in an address",
            b"PROXY TCP4 192.168.0.1\0 192.168.0.11 56324 443\r\n",
            Bad(Reason::Address),
        ),
        row(
            "IPv6 under TCP4",
            "PROXY TCP4 ::1 ::1 56324 443\r\n",
            Bad(Reason::Address),
        ),
        row(
            "IPv4 under TCP6",
            "PROXY TCP6 192.168.0.1 192.168.0.11 56324 443\r\n",
            Bad(Reason::Address),
        ),
        row(
            "families mixed",
            "PROXY TCP6 ::1 192.168.0.11 56324 443\r\n",
            Bad(Reason::Address),
        ),
        row(
            "two double colons",
            "PROXY TCP6 1::2::3 ::1 56324 443\r\n",
            Bad(Reason::Address),
        ),
        row(
            "seven groups",
            "PROXY TCP6 1:2:3:4:5:6:7 ::1 56324 443\r\n",
            Bad(Reason::Address),
        ),
        row(
            "nine groups",
            "PROXY TCP6 1:2:3:4:5:6:7:8:9 ::1 56324 443\r\n",
            Bad(Reason::Address),
        ),
        row(
            "eight groups and a double colon",
            "PROXY TCP6 1:2:3:4::5:6:7:8 ::1 56324 443\r\n",
            Bad(Reason::Address),
        ),
        row(
            "five digits",
            "PROXY TCP6 00001::1 ::1 56324 443\r\n",
            Bad(Reason::Address),
        ),
        row(
            "a zone",
            "PROXY TCP6 fe80::1%eth0 ::1 56324 443\r\n",
            Bad(Reason::Address),
        ),
        row(
            "brackets",
            "PROXY TCP6 [::1] ::1 56324 443\r\n",
            Bad(Reason::Address),
        ),
        row(
            "a host name",
            "PROXY TCP4 localhost 192.168.0.11 56324 443\r\n",
            Bad(Reason::Address),
        ),
        row(
            "port over 65535",
            "PROXY TCP4 192.168.0.1 192.168.0.11 65536 443\r\n",
            Bad(Reason::Port),
        ),
        row(
            "a far larger port",
            "PROXY TCP4 192.168.0.1 192.168.0.11 4294967297 443\r\n",
            Bad(Reason::Port),
        ),
        row(
            "port with a leading zero",
            "PROXY TCP4 192.168.0.1 192.168.0.11 56324 0443\r\n",
            Bad(Reason::Port),
        ),
        row(
            "port 00",
            "PROXY TCP4 192.168.0.1 192.168.0.11 00 443\r\n",
            Bad(Reason::Port),
        ),
        row(
            "port with a plus",
            "PROXY TCP4 192.168.0.1 192.168.0.11 +5632 443\r\n",
            Bad(Reason::Port),
        ),
        row(
            "port with a minus",
            "PROXY TCP4 192.168.0.1 192.168.0.11 -1 443\r\n",
            Bad(Reason::Port),
        ),
        row(
            "port in hexadecimal",
            "PROXY TCP4 192.168.0.1 192.168.0.11 56324 0x1bb\r\n",
            Bad(Reason::Port),
        ),
        row("HTTP", "GET / HTTP/1.1\r\n\r\n", Bad(Reason::NotAHeader)),
        row(
            "HTTP that begins alike",
            "PROPFIND / HTTP/1.1\r\n\r\n",
            Bad(Reason::NotAHeader),
        ),
        row("TLS", b"\x16\x03\x01\x02\0\x01", Bad(Reason::NotAHeader)),
        row("SSH", "SSH-2.0-OpenSSH_9.2\r\n", Bad(Reason::NotAHeader)),
        row(
            "line behind a line's CRLF",
            "\r\nPROXY TCP4 1.2.3.4 1.2.3.4 1 2\r\n",
            Bad(Reason::NotAHeader),
        ),
    ]
}

fn blocks() -> Vec<Row> {
    let ends = || Ends("192.168.0.1:56324", "192.168.0.11:443");
    let v6_ends = || Ends("[2001:db8::1]:56324", "[2001:db8::2]:443");
    let whole = block(0x21, 0x11, &V4);
    let mut wrong_signature = whole.clone();
    wrong_signature[11] = b'\r';
    let mut announced = whole.clone();
    announced[15] = 13;
    let mut over_the_bound = whole.clone();
    over_the_bound[14..16].copy_from_slice(&2033u16.to_be_bytes());
    let mut largest = whole.clone();
    largest[14..16].copy_from_slice(&[0xff, 0xff]);
    vec![
        row("TCP over IPv4", &whole, ends()),
        row("TCP over IPv6", block(0x21, 0x21, &v6_body()), v6_ends()),
        row("LOCAL, empty", block(0x20, 0x00, b""), Real),
        row("LOCAL with an address", block(0x20, 0x11, &V4), Real),
        row(
            "LOCAL with an address cut short",
            block(0x20, 0x11, &V4[..5]),
            Real,
        ),
        row(
            "LOCAL of a family that does not exist",
            block(0x20, 0xff, b"abc"),
            Real,
        ),
        row(
            "LOCAL with a TLV cut short",
            block(0x20, 0x00, b"\x03\0\x09"),
            Real,
        ),
        row(
            "LOCAL with a wrong checksum",
            block(0x20, 0x00, &field(3, b"abcd")),
            Real,
        ),
        row("UNSPEC, empty", block(0x21, 0x00, b""), Real),
        row(
            "UNSPEC with bytes unknown to us",
            block(0x21, 0x00, &[0xff; 40]),
            Real,
        ),
        row(
            "UNSPEC with a wrong checksum",
            block(0x21, 0x00, &field(3, b"abcd")),
            Bad(Reason::Checksum),
        ),
        row("UNSPEC over STREAM", block(0x21, 0x01, b""), Real),
        row("IPv4 over UNSPEC", block(0x21, 0x10, &V4), Real),
        row("IPv6 over UNSPEC, short", block(0x21, 0x20, b"x"), Real),
        row(
            "UDP over IPv4",
            block(0x21, 0x12, &V4),
            Bad(Reason::Datagram),
        ),
        row(
            "UDP over IPv6",
            block(0x21, 0x22, &v6_body()),
            Bad(Reason::Datagram),
        ),
        row(
            "unix datagram",
            block(0x21, 0x32, &[0; 216]),
            Bad(Reason::Datagram),
        ),
        row(
            "UNSPEC over DGRAM",
            block(0x21, 0x02, b""),
            Bad(Reason::Datagram),
        ),
        row(
            "an unknown transport",
            block(0x21, 0x13, &V4),
            Bad(Reason::UnknownTransport),
        ),
        row(
            "the last transport",
            block(0x21, 0x1f, &V4),
            Bad(Reason::UnknownTransport),
        ),
        row(
            "an unknown family",
            block(0x21, 0x41, &V4),
            Bad(Reason::UnknownFamily),
        ),
        row(
            "the last family",
            block(0x21, 0xf1, &V4),
            Bad(Reason::UnknownFamily),
        ),
        row(
            "an unknown command",
            block(0x22, 0x11, &V4),
            Bad(Reason::UnknownCommand),
        ),
        row(
            "the last command",
            block(0x2f, 0x11, &V4),
            Bad(Reason::UnknownCommand),
        ),
        row(
            "version 1 in binary",
            block(0x11, 0x11, &V4),
            Bad(Reason::UnknownVersion),
        ),
        row(
            "version 3",
            block(0x31, 0x11, &V4),
            Bad(Reason::UnknownVersion),
        ),
        row(
            "version 0",
            block(0x01, 0x11, &V4),
            Bad(Reason::UnknownVersion),
        ),
        row(
            "the signature's last byte wrong",
            wrong_signature,
            Bad(Reason::NotAHeader),
        ),
        row(
            "CR and something else",
            "\rGET / HTTP/1.1",
            Bad(Reason::NotAHeader),
        ),
        row("signature alone", &whole[..12], More),
        row("fifteen bytes", &whole[..15], More),
        row("address not there yet", &whole[..27], More),
        row("one byte announced, not sent", announced, More),
        row(
            "IPv4 with 11 bytes",
            block(0x21, 0x11, &V4[..11]),
            Bad(Reason::AddressesCut),
        ),
        row(
            "IPv4 with none",
            block(0x21, 0x11, b""),
            Bad(Reason::AddressesCut),
        ),
        row(
            "IPv6 with the length of IPv4",
            block(0x21, 0x21, &V4),
            Bad(Reason::AddressesCut),
        ),
        row(
            "IPv6 with 35 bytes",
            block(0x21, 0x21, &v6_body()[..35]),
            Bad(Reason::AddressesCut),
        ),
        row(
            "unix with 215 bytes",
            block(0x21, 0x31, &[0; 215]),
            Bad(Reason::AddressesCut),
        ),
        row(
            "2033 bytes announced",
            over_the_bound,
            Bad(Reason::BlockTooLong),
        ),
        row("65535 bytes announced", largest, Bad(Reason::BlockTooLong)),
        row(
            "LOCAL of 2033 bytes",
            block(0x20, 0, &[0; 2033]),
            Bad(Reason::BlockTooLong),
        ),
        row("LOCAL of 2032 bytes", block(0x20, 0, &[0; 2032]), Real),
        row(
            "2048 bytes in all",
            v4_with(&field(kind::NOOP, &[0; 2017])),
            ends(),
        ),
    ]
}

fn fields() -> Vec<Row> {
    let ends = || Ends("192.168.0.1:56324", "192.168.0.11:443");
    let cut = || Bad(Reason::TlvCut);
    let value = || Bad(Reason::TlvValue);
    // Computed by an independent implementation over the 35 bytes with zeros in the place of the checksum.
    let right = v4_with(&field(kind::CRC32C, &CHECKSUM.to_be_bytes()));
    let twice = v4_with(&[field(kind::CRC32C, &[0; 4]), field(kind::CRC32C, &[0; 4])].concat());
    vec![
        row("right checksum", &right, ends()),
        row(
            "wrong checksum",
            v4_with(&field(kind::CRC32C, b"abcd")),
            Bad(Reason::Checksum),
        ),
        row(
            "checksum of zero",
            v4_with(&field(kind::CRC32C, &[0; 4])),
            Bad(Reason::Checksum),
        ),
        row(
            "checksum in the other byte order",
            v4_with(&field(kind::CRC32C, &CHECKSUM.to_le_bytes())),
            Bad(Reason::Checksum),
        ),
        row(
            "checksum of three bytes",
            v4_with(&field(kind::CRC32C, b"abc")),
            value(),
        ),
        row(
            "checksum of five bytes",
            v4_with(&field(kind::CRC32C, b"abcde")),
            value(),
        ),
        row("two checksums", twice, Bad(Reason::ChecksumTwice)),
        row("empty NOOP", v4_with(&field(kind::NOOP, b"")), ends()),
        row(
            "NOOP with bytes",
            v4_with(&field(kind::NOOP, b"whatever")),
            ends(),
        ),
        row("ALPN", v4_with(&field(kind::ALPN, b"h2")), ends()),
        row("a private type", v4_with(&field(0xe0, b"x")), ends()),
        row("an unregistered type", v4_with(&field(0x99, b"x")), ends()),
        row("one byte of a TLV", v4_with(&[kind::NOOP]), cut()),
        row("two bytes of a TLV", v4_with(&[kind::NOOP, 0]), cut()),
        row(
            "a TLV one byte longer than the header",
            v4_with(&[kind::NOOP, 0, 2, 0]),
            cut(),
        ),
        row(
            "a TLV reaching far into the payload",
            v4_with(&[kind::UNIQUE_ID, 0xff, 0xff]),
            cut(),
        ),
        row(
            "a cut TLV behind a whole one",
            v4_with(&[&field(kind::NOOP, b"abc")[..], &[1]].concat()),
            cut(),
        ),
        row(
            "authority",
            v4_with(&field(kind::AUTHORITY, b"db.example")),
            ends(),
        ),
        row(
            "authority of 255 bytes",
            v4_with(&field(kind::AUTHORITY, &[b'a'; 255])),
            ends(),
        ),
        row(
            "authority of 256 bytes",
            v4_with(&field(kind::AUTHORITY, &[b'a'; 256])),
            value(),
        ),
        row(
            "authority that is no UTF-8",
            v4_with(&field(kind::AUTHORITY, b"\xc3(")),
            value(),
        ),
        row(
            "unique id of 128 bytes",
            v4_with(&field(kind::UNIQUE_ID, &[0xff; 128])),
            ends(),
        ),
        row(
            "unique id of 129 bytes",
            v4_with(&field(kind::UNIQUE_ID, &[0xff; 129])),
            value(),
        ),
        row(
            "SSL without fields",
            v4_with(&field(kind::SSL, &[1, 0, 0, 0, 0])),
            ends(),
        ),
        row(
            "SSL with a field",
            v4_with(&field(kind::SSL, b"\x01\0\0\0\0\x21\0\x03TLS")),
            ends(),
        ),
        row(
            "SSL of four bytes",
            v4_with(&field(kind::SSL, &[1, 0, 0, 0])),
            value(),
        ),
        row(
            "SSL with a field cut",
            v4_with(&field(kind::SSL, b"\x01\0\0\0\0\x21\0\x04TLS")),
            value(),
        ),
        row(
            "SSL whose field reaches into the next TLV",
            v4_with(
                &[
                    field(kind::SSL, b"\x01\0\0\0\0\x21\0\x05TLS"),
                    field(4, b"ab"),
                ]
                .concat(),
            ),
            value(),
        ),
    ]
}

/// The checksum of [`V4`] as TCP over IPv4 with nothing but the checksum behind it.
const CHECKSUM: u32 = 0x1c1a_e9c6;

#[test]
fn the_table_holds_however_it_is_cut_or_fused() {
    // Goal: fault table row "PROXY malformed". Method: each row whole, in every prefix, and with payload behind it.
    let rows: Vec<Row> = [lines(), blocks(), fields()]
        .into_iter()
        .flatten()
        .collect();
    assert!(rows.len() >= 60);
    for Row {
        what,
        bytes,
        expected,
    } in &rows
    {
        let (settled_at, answer) = settle(bytes);
        let fused = [&bytes[..], b"\r\nPROXY \x03\0\x04payload\r\n"].concat();
        match (expected, answer) {
            (Ends(source, dest), Parsed::Done { len, header }) => {
                assert_eq!((len, settled_at), (bytes.len(), bytes.len()), "{what}");
                let inet = |text: &str| Some(PeerEndpoint::Inet(text.parse().unwrap()));
                assert_eq!(header.command, Command::Proxy, "{what}");
                assert_eq!(
                    (header.source, header.dest),
                    (inet(source), inet(dest)),
                    "{what}"
                );
                assert_eq!(settle(&fused), (len, answer), "{what}, fused");
            }
            (Real, Parsed::Done { len, header }) => {
                assert_eq!((len, settled_at), (bytes.len(), bytes.len()), "{what}");
                assert_eq!((header.source, header.dest), (None, None), "{what}");
                assert_eq!(settle(&fused), (len, answer), "{what}, fused");
            }
            (More, Parsed::NeedMore) => assert_eq!(settled_at, bytes.len() + 1, "{what}"),
            (Bad(reason), Parsed::Bad(found)) => {
                assert_eq!(found, *reason, "{what}");
                assert_eq!(settle(&fused), (settled_at, answer), "{what}, fused");
            }
            (_, answer) => panic!("{what}: {answer:?}"),
        }
    }
}

#[test]
fn the_table_is_written_down_for_others() {
    // Goal: other programs can be asked about the same bytes. Method: `vectors.txt` is this table, one line a row; with
    // UPDATE_DOCS=1 it is written anew.
    let rows = [lines(), blocks(), fields()].into_iter().flatten();
    let line = |row: Row| {
        let verdict = match row.expected {
            Ends(..) | Real => "take",
            More => "wait",
            Bad(_) => "refuse",
        };
        let hex: String = row.bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{verdict}|{hex}|{}\n", row.what)
    };
    let text: String = rows.map(line).collect();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/src/proxy_protocol/tests/vectors.txt"
        );
        std::fs::write(path, &text).unwrap();
        return;
    }
    assert!(
        text == include_str!("vectors.txt"),
        "another table: UPDATE_DOCS=1 writes it anew"
    );
}
