//! Version 2: a binary block of 16 bytes, addresses, and TLVs.
//!
//! The one idea: the announced length is the only authority on where the header ends. It is checked before anything
//! behind it is waited for, and from then on only the slice it cuts out is looked at.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{
    Command, HEADER_BYTES_MAX, Header, Parsed, PeerEndpoint, Reason, Tlvs, UNIX_NAME_BYTES,
    Version, starts_with,
};

/// What every block begins with.
pub(super) const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// The signature, version and command, family and transport, length.
pub(super) const FIXED_BYTES: usize = 16;

/// The high half of the thirteenth byte.
pub(super) const VERSION: u8 = 0x20;

/// Addresses of two IPv4 endpoints, of two IPv6 endpoints, of two unix sockets.
pub(super) const INET_BYTES: usize = 12;
pub(super) const INET6_BYTES: usize = 36;
pub(super) const UNIX_BYTES: usize = 2 * UNIX_NAME_BYTES;

/// The shape of what follows the fixed part.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Block {
    /// Nothing in it may be used: `LOCAL`, or a transport that says nothing of the shape.
    Skipped,
    /// No addresses: TLVs at once.
    Unspec,
    Inet,
    Inet6,
    Unix,
}

impl Block {
    const fn address_bytes(self) -> usize {
        match self {
            Self::Skipped | Self::Unspec => 0,
            Self::Inet => INET_BYTES,
            Self::Inet6 => INET6_BYTES,
            Self::Unix => UNIX_BYTES,
        }
    }
}

/// Reads a block. The first byte is known to be there.
pub(super) fn parse(bytes: &[u8]) -> Parsed<'_> {
    match starts_with(bytes, &SIGNATURE) {
        None => return Parsed::NeedMore,
        Some(false) => return Parsed::Bad(Reason::NotAHeader),
        Some(true) => {}
    }
    let (command, block, len) = match read_fixed(&bytes[SIGNATURE.len()..]) {
        Ok(Some(fixed)) => fixed,
        Ok(None) => return Parsed::NeedMore,
        Err(reason) => return Parsed::Bad(reason),
    };
    let Some(whole) = bytes.get(..len) else {
        return Parsed::NeedMore;
    };
    match read_block(command, block, whole) {
        Ok(header) => Parsed::Done { len, header },
        Err(reason) => Parsed::Bad(reason),
    }
}

/// Command, shape and length of the whole header from the four bytes behind the signature; each byte is judged as
/// soon as it is there.
fn read_fixed(rest: &[u8]) -> Result<Option<(Command, Block, usize)>, Reason> {
    let Some(&version_command) = rest.first() else {
        return Ok(None);
    };
    if version_command & 0xf0 != VERSION {
        return Err(Reason::UnknownVersion);
    }
    let command = match version_command & 0x0f {
        0 => Command::Local,
        1 => Command::Proxy,
        _ => return Err(Reason::UnknownCommand),
    };
    let Some(&family_transport) = rest.get(1) else {
        return Ok(None);
    };
    let block = match command {
        // The family is ignored, as the specification has it: even one that does not exist.
        Command::Local => Block::Skipped,
        Command::Proxy => read_shape(family_transport)?,
    };
    let Some(&[high, low]) = rest.get(2..4).and_then(|bytes| bytes.first_chunk()) else {
        return Ok(None);
    };
    let body_len = usize::from(u16::from_be_bytes([high, low]));
    if body_len > HEADER_BYTES_MAX - FIXED_BYTES {
        return Err(Reason::BlockTooLong);
    }
    if body_len < block.address_bytes() {
        return Err(Reason::AddressesCut);
    }
    Ok(Some((command, block, FIXED_BYTES + body_len)))
}

/// What the fourteenth byte says of a `PROXY` block.
fn read_shape(family_transport: u8) -> Result<Block, Reason> {
    let block = match family_transport >> 4 {
        0 => Block::Unspec,
        1 => Block::Inet,
        2 => Block::Inet6,
        3 => Block::Unix,
        _ => return Err(Reason::UnknownFamily),
    };
    match family_transport & 0x0f {
        0 if block == Block::Unspec => Ok(block),
        0 => Ok(Block::Skipped),
        1 => Ok(block),
        2 => Err(Reason::Datagram),
        _ => Err(Reason::UnknownTransport),
    }
}

/// Reads what follows the fixed part of `whole`, which is exactly the header.
fn read_block(command: Command, block: Block, whole: &[u8]) -> Result<Header<'_>, Reason> {
    let (addresses, rest) = whole[FIXED_BYTES..].split_at(block.address_bytes());
    let endpoints = match block {
        Block::Skipped | Block::Unspec => None,
        Block::Inet => Some(read_inet(addresses)),
        Block::Inet6 => Some(read_inet6(addresses)),
        Block::Unix => Some(read_unix(addresses)),
    };
    let tlvs = match block {
        Block::Skipped => Tlvs::EMPTY,
        // "Ignore address information" wins over a TLV that is cut: it may be an address of a kind unknown to us.
        Block::Unspec => match Tlvs::checked(whole, rest) {
            Err(Reason::TlvCut) => Tlvs::EMPTY,
            checked => checked?,
        },
        _ => Tlvs::checked(whole, rest)?,
    };
    Ok(Header {
        version: Version::Two,
        command,
        source: endpoints.map(|(source, _)| source),
        dest: endpoints.map(|(_, dest)| dest),
        tlvs,
    })
}

type Endpoints<'a> = (PeerEndpoint<'a>, PeerEndpoint<'a>);

fn read_inet(bytes: &[u8]) -> Endpoints<'_> {
    let ip = |at: usize| Ipv4Addr::from(array::<4>(bytes, at));
    (
        PeerEndpoint::Inet(SocketAddr::from((ip(0), port(bytes, 8)))),
        PeerEndpoint::Inet(SocketAddr::from((ip(4), port(bytes, 10)))),
    )
}

fn read_inet6(bytes: &[u8]) -> Endpoints<'_> {
    let ip = |at: usize| Ipv6Addr::from(array::<16>(bytes, at));
    (
        PeerEndpoint::Inet(SocketAddr::from((ip(0), port(bytes, 32)))),
        PeerEndpoint::Inet(SocketAddr::from((ip(16), port(bytes, 34)))),
    )
}

fn read_unix(bytes: &[u8]) -> Endpoints<'_> {
    let (source, dest) = bytes.split_at(UNIX_NAME_BYTES);
    (
        PeerEndpoint::Unix(unix_name(source)),
        PeerEndpoint::Unix(unix_name(dest)),
    )
}

/// A path ends before its first zero byte. An abstract name begins with one and has no end of its own, so the padding
/// is taken off; nothing but padding is a socket without a name.
fn unix_name(field: &[u8]) -> &[u8] {
    let end = if field.first() == Some(&0) {
        field
            .iter()
            .rposition(|byte| *byte != 0)
            .map_or(0, |last| last + 1)
    } else {
        field
            .iter()
            .position(|byte| *byte == 0)
            .unwrap_or(field.len())
    };
    &field[..end]
}

fn port(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes(array::<2>(bytes, at))
}

/// `N` bytes from `at` on. The caller's slice has the length that [`Block::address_bytes`] promises.
fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut copy = [0; N];
    copy.copy_from_slice(&bytes[at..at + N]);
    copy
}
