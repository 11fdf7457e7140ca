//! Tests of the proxy's own kinds of value.

use super::*;

/// Reads, shows, reads again; returns what was shown.
#[track_caller]
fn shown<C: Codec<Of: PartialEq + std::fmt::Debug>>(codec: &C, text: &str) -> String {
    let of = codec
        .read(&Value::text(text))
        .unwrap_or_else(|wrong| panic!("{text}: {}", wrong.why));
    let value = codec.show(&of).unwrap();
    assert_eq!(codec.read(&value).as_ref(), Ok(&of), "{text}");
    value.as_text("a text").unwrap().to_owned()
}

#[track_caller]
fn refused<C: Codec<Of: std::fmt::Debug>>(codec: &C, text: &str, advice: &str) {
    let why = codec.read(&Value::text(text)).unwrap_err().why;
    assert!(why.contains(advice), "{text:?}: {why}");
}

#[test]
fn rates_have_a_burst() {
    // Goal: per second, with room for a burst. Method: each form and each mistake.
    for (text, expected) in [
        ("100", "100/s"),
        ("1k/s", "1000/s"),
        ("1k/s, burst=5k", "1000/s,burst=5000"),
        ("10,burst=10", "10/s"),
    ] {
        assert_eq!(shown(&RateText, text), expected);
    }
    for (text, advice) in [
        ("0", "refuses everybody"),
        ("10/m", "per second, not per \"m\""),
        ("10,5", "burst=COUNT"),
        ("10,burst=0", "refuses everybody"),
        ("10,brust=5", "burst=COUNT"),
        ("x", "does not start with a number"),
        ("5G", "out of range"),
    ] {
        refused(&RateText, text, advice);
    }
}

#[test]
fn sources_are_addresses_with_ports() {
    // Goal: what may be bound, in both families. Method: each form and each mistake.
    for (text, expected) in [
        ("10.0.0.5", "10.0.0.5"),
        ("::ffff:10.0.0.5", "10.0.0.5"),
        ("10.0.0.5:20000-29999", "10.0.0.5:20000-29999"),
        ("fd00::5", "fd00::5"),
        ("[fd00::5]:1024-1024", "[fd00::5]:1024-1024"),
    ] {
        assert_eq!(shown(&SourceText, text), expected);
    }
    for (text, advice) in [
        ("eth0", "write 10.0.0.5"),
        ("0.0.0.0", "no address to connect from"),
        ("10.0.0.5:80", "range of ports"),
        ("10.0.0.5:0-80", "range of ports"),
        ("10.0.0.5:90-80", "write 80-90"),
        ("[10.0.0.5]:1-2", "write 10.0.0.5"),
        ("fd00::5:1-2", "[fd00::5]"),
    ] {
        refused(&SourceText, text, advice);
    }
}

#[test]
fn bytes_are_written_with_escapes() {
    // Goal: any byte can be sent and is shown again. Method: all of them, and each mistake.
    let all: Vec<u8> = (0..=255).collect();
    let value = Escaped.show(&all).unwrap();
    assert_eq!(Escaped.read(&value), Ok(all));
    assert_eq!(
        Escaped
            .read(&Value::text("PING\\r\\n\\t\\0\\\\\\x7F"))
            .unwrap(),
        b"PING\r\n\t\0\\\x7f"
    );
    assert_eq!(shown(&Escaped, "\u{e9}"), "\\xc3\\xa9");
    refused(&Escaped, "\\q", "\\q means nothing");
    refused(&Escaped, "\\x1", "no byte");
    refused(&Escaped, "\\x+1", "no byte");
    refused(&Escaped, "a\\", "lone \\");
    refused(&Escaped, &"x".repeat(1025), "at most 1024");
}

#[test]
fn headers_to_send_are_one_text() {
    // Goal: version, checksum and what is told. Method: each form and each mistake.
    for (text, expected) in [
        ("off", "off"),
        ("v1", "v1"),
        ("v2", "v2"),
        ("v2, authority ,crc32c", "v2,crc32c,authority"),
        (
            "v2,0xe5= a\\x2cb,alpn,unique-id",
            "v2,0xE5=\\x20a\\x2cb,alpn,unique-id",
        ),
        ("v2,0xE0=", "v2,0xE0="),
    ] {
        assert_eq!(shown(&SendProxyText, text), expected);
    }
    for (text, advice) in [
        ("v3", "none of off, v1, v2"),
        ("v1,crc32c", "write v2,crc32c"),
        ("off,alpn", "write v2,alpn"),
        ("v2,crc32", "did you mean \"crc32c\"?"),
        ("v2,zebra", "none of crc32c, authority"),
        ("v2,alpn,alpn", "twice"),
        ("v2,crc32c,crc32c", "twice"),
        ("v2,0xE0=a,0xE0=b", "twice"),
        ("v2,0x01=x", "give 0xE0 to 0xEF"),
        ("v2,E0=x", "give 0xE0 to 0xEF"),
        ("v2,0xE0=\\q", "means nothing"),
    ] {
        refused(&SendProxyText, text, advice);
    }
    refused(
        &SendProxyText,
        &format!("v2,0xE1={}", "x".repeat(1025)),
        "at most 1024",
    );
}

#[test]
fn names_are_what_a_hello_or_a_metric_can_hold() {
    // Goal: names that can match, and that need no escapes in metrics. Method: each kind, its mistakes.
    assert_eq!(shown(&SniText, "DB.Example.org."), "db.example.org");
    assert_eq!(shown(&SniText, "*.example.org"), "*.example.org");
    for (text, advice) in [
        ("10.0.0.1", "names only"),
        ("a.*.org", "*.example.org"),
        ("*", "*.example.org"),
        ("b\u{fc}ro.de", "xn--"),
        ("", "cannot be a server name"),
        ("a..b", "cannot be a server name"),
    ] {
        refused(&SniText, text, advice);
    }
    assert_eq!(shown(&ServerName, "A.org"), "a.org");
    refused(&ServerName, "*.a.org", "has a *");
    assert_eq!(shown(&AlpnText, "h2"), "h2");
    refused(&AlpnText, "", "no protocol");
    refused(&AlpnText, "a b", "no protocol");
    assert_eq!(shown(&NameText, "db1:5432"), "db1:5432");
    for text in ["", "a b", "a\"b", "a\nb", "\u{e9}"] {
        refused(&NameText, text, "is no name");
    }
    refused(&NameText, &"x".repeat(129), "1 to 128");
    assert_eq!(NameText.show(&String::new()), None);
}

#[test]
fn name_servers_are_addresses_with_the_port_of_the_dns_unless_told() {
    // Goal: each form that people type, and no name, which nobody could look up. Method: each form and each mistake.
    for (text, expected) in [
        ("10.0.0.2", "10.0.0.2"),
        ("10.0.0.2:53", "10.0.0.2"),
        ("10.0.0.2:5353", "10.0.0.2:5353"),
        ("fd00::2", "fd00::2"),
        ("[fd00::2]", "fd00::2"),
        ("[fd00::2]:5353", "[fd00::2]:5353"),
    ] {
        assert_eq!(shown(&ServerText, text), expected);
    }
    for text in ["dns.example.org", "0.0.0.0", "10.0.0.2:0", "", "10.0.0.2:x"] {
        refused(&ServerText, text, "as in \"10.0.0.2\"");
    }
}
