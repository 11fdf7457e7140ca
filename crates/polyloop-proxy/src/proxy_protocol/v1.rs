//! Version 1: one line of text.
//!
//! The one idea: keyword first, then the end of the line, then the fields; each step looks only at bytes behind those
//! the step before has settled, so the first offence in the stream is the one reported, however it was cut up.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{
    Command, Header, Parsed, PeerEndpoint, Reason, Tlvs, V1_BYTES_MAX, Version, starts_with,
};

const PREFIX: &[u8] = b"PROXY ";

/// What the word behind [`PREFIX`] announces.
#[derive(Clone, Copy)]
enum Protocol {
    Tcp4,
    Tcp6,
    Unknown,
}

/// Reads a line. The first byte is known to be there.
pub(super) fn parse(bytes: &[u8]) -> Parsed<'_> {
    match starts_with(bytes, PREFIX) {
        None => return Parsed::NeedMore,
        Some(false) => return Parsed::Bad(Reason::NotAHeader),
        Some(true) => {}
    }
    let (protocol, word_end) = match read_protocol(&bytes[PREFIX.len()..]) {
        Ok(Some((protocol, word_len))) => (protocol, PREFIX.len() + word_len),
        Ok(None) => return Parsed::NeedMore,
        Err(reason) => return Parsed::Bad(reason),
    };
    let line_end = match find_line_end(bytes, word_end) {
        Ok(Some(line_end)) => line_end,
        Ok(None) => return Parsed::NeedMore,
        Err(reason) => return Parsed::Bad(reason),
    };
    let endpoints = match protocol {
        Protocol::Unknown => Ok(None),
        Protocol::Tcp4 => read_endpoints(&bytes[word_end + 1..line_end], read_v4).map(Some),
        Protocol::Tcp6 => read_endpoints(&bytes[word_end + 1..line_end], read_v6).map(Some),
    };
    match endpoints {
        Ok(endpoints) => Parsed::Done {
            len: line_end + LINE_END.len(),
            header: Header {
                version: Version::One,
                command: Command::Proxy,
                source: endpoints.map(|(source, _)| PeerEndpoint::Inet(source)),
                dest: endpoints.map(|(_, dest)| PeerEndpoint::Inet(dest)),
                tlvs: Tlvs::EMPTY,
            },
        },
        Err(reason) => Parsed::Bad(reason),
    }
}

const LINE_END: &[u8] = b"\r\n";

/// The protocol word and its length, once the byte behind it is there too: a space, or for `UNKNOWN` also the CR.
fn read_protocol(rest: &[u8]) -> Result<Option<(Protocol, usize)>, Reason> {
    const WORDS: [(&[u8], Protocol); 3] = [
        (b"TCP4 ", Protocol::Tcp4),
        (b"TCP6 ", Protocol::Tcp6),
        (b"UNKNOWN", Protocol::Unknown),
    ];
    let mut is_possible = false;
    for (word, protocol) in WORDS {
        match (starts_with(rest, word), protocol) {
            (None, _) => is_possible = true,
            (Some(false), _) => {}
            (Some(true), Protocol::Unknown) => match rest.get(word.len()) {
                None => is_possible = true,
                Some(b' ' | b'\r') => return Ok(Some((protocol, word.len()))),
                Some(_) => {}
            },
            (Some(true), _) => return Ok(Some((protocol, word.len() - 1))),
        }
    }
    if is_possible {
        Ok(None)
    } else {
        Err(Reason::UnknownProtocol)
    }
}

/// Where the CR of the line's CRLF is, looking from `from` on.
fn find_line_end(bytes: &[u8], from: usize) -> Result<Option<usize>, Reason> {
    let line = &bytes[..bytes.len().min(V1_BYTES_MAX)];
    let is_full = line.len() == V1_BYTES_MAX;
    let first = line[from..]
        .iter()
        .position(|byte| matches!(byte, b'\r' | b'\n'));
    let Some(at) = first.map(|offset| from + offset) else {
        return if is_full {
            Err(Reason::LineTooLong)
        } else {
            Ok(None)
        };
    };
    match (line[at], line.get(at + 1)) {
        (b'\r', Some(b'\n')) => Ok(Some(at)),
        (b'\r', None) if is_full => Err(Reason::LineTooLong),
        (b'\r', None) => Ok(None),
        _ => Err(Reason::LoneLineEnd),
    }
}

/// `source dest source-port dest-port`, one space between.
fn read_endpoints<A: Into<std::net::IpAddr>>(
    fields: &[u8],
    read_address: impl Fn(&str) -> Option<A>,
) -> Result<(SocketAddr, SocketAddr), Reason> {
    // Whatever is not ASCII is in no address and no port, and no field is missing for its sake.
    let fields = std::str::from_utf8(fields).map_err(|_| Reason::Fields)?;
    let mut parts = fields.split(' ');
    let mut next = || parts.next().filter(|part| !part.is_empty());
    let (Some(source), Some(dest), Some(source_port), Some(dest_port)) =
        (next(), next(), next(), next())
    else {
        return Err(Reason::Fields);
    };
    if parts.next().is_some() {
        return Err(Reason::Fields);
    }
    let source = read_address(source).ok_or(Reason::Address)?;
    let dest = read_address(dest).ok_or(Reason::Address)?;
    let source_port = read_port(source_port).ok_or(Reason::Port)?;
    let dest_port = read_port(dest_port).ok_or(Reason::Port)?;
    Ok((
        SocketAddr::new(source.into(), source_port),
        SocketAddr::new(dest.into(), dest_port),
    ))
}

/// The standard library takes four decimal numbers without leading zeros and nothing else: what is asked for here.
fn read_v4(text: &str) -> Option<Ipv4Addr> {
    text.parse().ok()
}

/// The standard library takes no zone and no brackets, and a `::` for at least one group: what is asked for here.
fn read_v6(text: &str) -> Option<Ipv6Addr> {
    text.parse().ok()
}

/// `u16::from_str` would also take a plus sign and leading zeros.
fn read_port(text: &str) -> Option<u16> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit())
        && (text.len() == 1 || !text.starts_with('0'));
    if is_plain { text.parse().ok() } else { None }
}
