//! The PROXY protocol, in and out.

use super::backend::Backend;
use super::{Records, proxy};
use crate::harness::{DEADLINE, Polyloop, assert_echo, finish, read_all};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

const TRUSTED: [&str; 2] = ["--accept-proxy", "127.0.0.0/8"];

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// The block of version 2 for a client of IPv4, with one TLV that nobody needs.
fn v2() -> Vec<u8> {
    let mut block = SIGNATURE.to_vec();
    block.extend([0x21, 0x11, 0, 12 + 5]);
    block.extend([192, 0, 2, 7, 198, 51, 100, 1]);
    block.extend(51_234_u16.to_be_bytes());
    block.extend(443_u16.to_be_bytes());
    block.extend([0xe0, 0, 2, b'h', b'i']);
    block
}

const V1: &[u8] = b"PROXY TCP4 192.0.2.7 198.51.100.1 51234 443\r\n";

/// Sends pieces, each in a segment of its own, and asks for the payload back.
#[track_caller]
fn assert_served(server: &Polyloop, pieces: &[&[u8]]) {
    let mut stream = server.connect();
    for piece in pieces {
        stream.write_all(piece).unwrap();
    }
    assert_echo(&mut stream);
    finish(&stream);
    assert_eq!(read_all(&mut stream), b"");
}

#[test]
fn headers_say_who_the_client_is() {
    // Goal: versions 1 and 2 are read however they arrive, and nothing of them is payload. Method: whole, byte by byte,
    // and in one segment with the payload; the records name the client of the header, and the socket's.
    for header in [V1.to_vec(), v2()] {
        let records = Records::new("header-in");
        let backend = Backend::echo();
        let server = records.proxy(&[backend.to()], &TRUSTED);
        assert_served(&server, &[&header]);
        let bytes: Vec<&[u8]> = header.chunks(1).collect();
        assert_served(&server, &bytes);
        let mut fused = server.connect();
        fused
            .write_all(&[&header[..], b"payload"].concat())
            .unwrap();
        finish(&fused);
        assert_eq!(read_all(&mut fused), b"payload");
        drop(fused);
        server.end();
        let records = records.read();
        assert_eq!(records.len(), 3);
        for record in records {
            assert_eq!(record["state"], "--", "{record}");
            assert_eq!(record["source"], "192.0.2.7:51234", "{record}");
            let socket = record["client"].as_str().unwrap();
            assert!(socket.starts_with("127.0.0.1:"), "{record}");
        }
    }
}

#[test]
fn what_is_no_header_is_refused() {
    // Goal: where a header is expected, nothing else gets through. Method: malformed ones of both versions, each byte of
    // a good one spoiled, and none in time; a reset each time, no connection to the backend.
    let records = Records::new("header-bad");
    let backend = Backend::echo();
    let flags = [&TRUSTED[..], &["--proxy-header-timeout", "300ms"]].concat();
    let server = records.proxy(&[backend.to()], &flags);
    let mut bad: Vec<Vec<u8>> = vec![
        b"GET / HTTP/1.0\r\n\r\n".to_vec(),
        b"PROXY TCP4 192.0.2.7 198.51.100.1 51234 443\n and no return in the first 107 bytes, however long it is read, \
          which is the limit\r\n"
            .to_vec(),
        b"PROXY TCP4 192.0.2.256 198.51.100.1 51234 443\r\n".to_vec(),
        b"PROXY TCP4 192.0.2.7 198.51.100.1 051234 443\r\n".to_vec(),
        b"PROXY TCP4 192.0.2.7 198.51.100.1 51234 65536\r\n".to_vec(),
        b"PROXY TCP6 192.0.2.7 198.51.100.1 51234 443\r\n".to_vec(),
        b"PROXY  TCP4 192.0.2.7 198.51.100.1 51234 443\r\n".to_vec(),
        b"proxy TCP4 192.0.2.7 198.51.100.1 51234 443\r\n".to_vec(),
    ];
    bad.extend((0..SIGNATURE.len() + 1).map(|at| {
        let mut block = v2();
        block[at] ^= 0x40;
        block
    }));
    let count = bad.len();
    for bytes in bad {
        let mut stream = server.connect();
        stream.write_all(&bytes).unwrap();
        let error = stream.read(&mut [0]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    }
    let mut silent = server.connect();
    silent.write_all(b"PROXY TC").unwrap();
    let error = silent.read(&mut [0]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    assert_eq!(backend.accepted(), 0);
    server.end();
    let mut expected = vec!["PR"; count];
    expected.push("cR");
    assert_eq!(records.states(), expected);
}

#[test]
fn headers_of_strangers_are_payload() {
    // Goal: a header counts only from where it was said to come. Method: trust in other addresses; the header comes back
    // as any bytes, and the record has no source.
    let records = Records::new("header-stranger");
    let backend = Backend::echo();
    let server = records.proxy(&[backend.to()], &["--accept-proxy", "10.0.0.0/8"]);
    let mut stream = server.connect();
    stream.write_all(V1).unwrap();
    finish(&stream);
    assert_eq!(read_all(&mut stream), V1);
    drop(stream);
    server.end();
    assert!(records.read()[0].get("source").is_none());
}

/// The first bytes that reach a backend for one client, and that client's own address.
fn sent_header(flags: &[&str], client_says: &[u8]) -> (Vec<u8>, SocketAddr, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = listener.local_addr().unwrap().to_string();
    let server = proxy(&[to], flags);
    let mut client: TcpStream = server.connect();
    client.write_all(client_says).unwrap();
    finish(&client);
    let (mut backend, _) = listener.accept().unwrap();
    backend.set_read_timeout(Some(DEADLINE)).unwrap();
    let heard = read_all(&mut backend);
    let addrs = (client.local_addr().unwrap(), client.peer_addr().unwrap());
    drop((backend, client));
    server.end();
    (heard, addrs.0, addrs.1)
}

#[test]
fn backends_are_told_who_the_client_is() {
    // Goal: --send-proxy, both versions, before the first byte of payload. Method: what the backend reads is compared with
    // the header as the specification spells it, for the socket's addresses.
    let (heard, client, server) = sent_header(&["--send-proxy", "v1"], b"payload");
    let expected = format!(
        "PROXY TCP4 127.0.0.1 127.0.0.1 {} {}\r\npayload",
        client.port(),
        server.port()
    );
    assert_eq!(String::from_utf8(heard).unwrap(), expected);
    let (heard, client, server) = sent_header(&["--send-proxy", "v2"], b"payload");
    let mut expected = SIGNATURE.to_vec();
    expected.extend([0x21, 0x11, 0, 12, 127, 0, 0, 1, 127, 0, 0, 1]);
    expected.extend(client.port().to_be_bytes());
    expected.extend(server.port().to_be_bytes());
    expected.extend(b"payload");
    assert_eq!(heard, expected);
}

#[test]
fn a_header_is_passed_on_in_the_other_version() {
    // Goal: between two proxies the first client's address survives. Method: version 2 in, version 1 out, and back, fused
    // with payload.
    let flags = [&TRUSTED[..], &["--send-proxy", "v1"]].concat();
    let (heard, ..) = sent_header(&flags, &[&v2()[..], b"payload"].concat());
    assert_eq!(heard, [V1, b"payload"].concat());
    let flags = [&TRUSTED[..], &["--send-proxy", "v2,crc32c,0xE0=hi"]].concat();
    let (heard, ..) = sent_header(&flags, &[V1, b"payload"].concat());
    assert_eq!(&heard[12..14], [0x21, 0x11]);
    assert_eq!(&heard[16..28], &v2()[16..28]);
    let len = usize::from(u16::from_be_bytes([heard[14], heard[15]]));
    assert_eq!(len, 12 + 5 + 7);
    assert_eq!(&heard[16 + len..], b"payload");
}

#[test]
fn allow_and_deny_see_the_client_of_the_header() {
    // Goal: behind a load balancer the lists are about clients, not about the balancer. Method: the client of the header
    // is denied, and another is not.
    let records = Records::new("header-deny");
    let backend = Backend::echo();
    let flags = [&TRUSTED[..], &["--deny", "192.0.2.0/24"]].concat();
    let server = records.proxy(&[backend.to()], &flags);
    let mut denied = server.connect();
    denied.write_all(V1).unwrap();
    let error = denied.read(&mut [0]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    assert_served(
        &server,
        &[b"PROXY TCP4 203.0.113.7 198.51.100.1 51234 443\r\n"],
    );
    assert_served(&server, &[b"PROXY UNKNOWN\r\n"]);
    server.end();
    assert_eq!(records.states(), ["--", "--", "PR"]);
}
