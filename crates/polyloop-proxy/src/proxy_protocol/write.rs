//! The header we send to a backend.
//!
//! The one idea: a header is written whole into the caller's buffer or not at all, so that it leaves in one segment.
//!
//! Which family is written:
//!
//! * Mapped IPv4 addresses become IPv4 first: a client of a dual-stack listener is an IPv4 client to the backend.
//! * If then one end is IPv4 and the other IPv6, both are written as IPv6, the IPv4 end mapped (`::ffff:a.b.c.d`).
//! * Two unix sockets are `AF_UNIX` in version 2. Version 1 has no word for them, nor either version one for a unix
//!   socket facing an IP address: `UNKNOWN`, `UNSPEC`, and the backend takes our own address for the client's.
//!
//! IPv6 in version 1 is written in hexadecimal groups throughout, also where it maps IPv4: the specification knows no
//! other form.

use std::io::{Cursor, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::tlv::{CRC32C_BYTES, TLV_HEAD_BYTES, Tlv, check_value, checksum_at, kind};
use super::v2::{FIXED_BYTES, SIGNATURE, VERSION};
use super::{HEADER_BYTES_MAX, PeerEndpoint, UNIX_NAME_BYTES, V1_BYTES_MAX};

/// Whether a version 2 header carries its CRC32C.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Checksum {
    /// It does, as the last field.
    Append,
    /// It does not.
    Omit,
}

/// Why a header was not written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// The buffer is too small, or the header would be longer than [`HEADER_BYTES_MAX`].
    #[error(
        "the PROXY header does not fit; send fewer or shorter TLVs, 2048 bytes are the most in all"
    )]
    TooLong,
    /// A TLV that a receiver would have to refuse.
    #[error("the value of TLV {kind:#04x} breaks the rules of its type; leave it out")]
    BadTlv {
        /// Its type.
        kind: u8,
    },
    /// The name of a unix socket is longer than its field of 108 bytes.
    #[error("the unix socket's name is longer than 108 bytes")]
    NameTooLong,
}

/// Both ends in one family.
enum Pair<'a> {
    V4([(Ipv4Addr, u16); 2]),
    V6([(Ipv6Addr, u16); 2]),
    Unix([&'a [u8]; 2]),
    Unspec,
}

impl<'a> Pair<'a> {
    fn of(source: PeerEndpoint<'a>, dest: PeerEndpoint<'a>) -> Self {
        match (source, dest) {
            (PeerEndpoint::Inet(source), PeerEndpoint::Inet(dest)) => Self::of_inet(source, dest),
            (PeerEndpoint::Unix(source), PeerEndpoint::Unix(dest)) => Self::Unix([source, dest]),
            _ => Self::Unspec,
        }
    }

    fn of_inet(source: SocketAddr, dest: SocketAddr) -> Self {
        let ports = [source.port(), dest.port()];
        match (source.ip().to_canonical(), dest.ip().to_canonical()) {
            (IpAddr::V4(source), IpAddr::V4(dest)) => {
                Self::V4([(source, ports[0]), (dest, ports[1])])
            }
            (source, dest) => Self::V6([(as_v6(source), ports[0]), (as_v6(dest), ports[1])]),
        }
    }

    /// The fourteenth byte of version 2.
    const fn family_transport(&self) -> u8 {
        match self {
            Self::Unspec => 0x00,
            Self::V4(_) => 0x11,
            Self::V6(_) => 0x21,
            Self::Unix(_) => 0x31,
        }
    }
}

const fn as_v6(ip: IpAddr) -> Ipv6Addr {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    }
}

/// Writes a line of version 1 for a connection from `source` to `dest` and returns its length.
pub fn write_v1(
    out: &mut [u8; V1_BYTES_MAX],
    source: PeerEndpoint<'_>,
    dest: PeerEndpoint<'_>,
) -> usize {
    let mut line = Cursor::new(&mut out[..]);
    // No line is longer than `V1_BYTES_MAX`, so no write fails; a test writes the longest there are.
    let _ = match Pair::of(source, dest) {
        Pair::V4([(source, source_port), (dest, dest_port)]) => {
            write!(
                line,
                "PROXY TCP4 {source} {dest} {source_port} {dest_port}\r\n"
            )
        }
        Pair::V6([(source, source_port), (dest, dest_port)]) => {
            let (source, dest) = (Groups(source), Groups(dest));
            write!(
                line,
                "PROXY TCP6 {source} {dest} {source_port} {dest_port}\r\n"
            )
        }
        Pair::Unix(_) | Pair::Unspec => line.write_all(b"PROXY UNKNOWN\r\n"),
    };
    line.position() as usize
}

/// Writes a block of version 2 for a connection from `source` to `dest`, with `tlvs` and perhaps a checksum behind
/// them, and returns its length. A buffer of [`HEADER_BYTES_MAX`] is always large enough.
///
/// # Errors
/// When it does not fit, or when one of `tlvs` is of a kind that our own [`parse`](super::parse) would refuse (a
/// [`kind::CRC32C`] among them: that is what `checksum` is for). `out` is then to be thrown away.
pub fn write_v2(
    out: &mut [u8],
    source: PeerEndpoint<'_>,
    dest: PeerEndpoint<'_>,
    tlvs: &[Tlv<'_>],
    checksum: Checksum,
) -> Result<usize, WriteError> {
    let pair = Pair::of(source, dest);
    let mut block = Block::new(out);
    block.put(&SIGNATURE)?;
    block.put(&[VERSION | 0x1, pair.family_transport(), 0, 0])?;
    match pair {
        Pair::V4(ends) => block.put_ends(ends.map(|(ip, port)| (ip.octets(), port)))?,
        Pair::V6(ends) => block.put_ends(ends.map(|(ip, port)| (ip.octets(), port)))?,
        Pair::Unix(names) => names.iter().try_for_each(|name| block.put_name(name))?,
        Pair::Unspec => {}
    }
    for tlv in tlvs {
        if tlv.kind == kind::CRC32C || check_value(*tlv).is_err() {
            return Err(WriteError::BadTlv { kind: tlv.kind });
        }
        block.put_tlv(*tlv)?;
    }
    let checksum_place = match checksum {
        Checksum::Omit => None,
        Checksum::Append => Some(block.put_tlv(Tlv {
            kind: kind::CRC32C,
            value: &[0; CRC32C_BYTES],
        })?),
    };
    Ok(block.finish(checksum_place))
}

/// Writes the header of a connection that is our own, such as a health check: version 2, `LOCAL`, nothing behind it.
/// Returns its length.
pub fn write_v2_local(out: &mut [u8; FIXED_BYTES]) -> usize {
    out[..SIGNATURE.len()].copy_from_slice(&SIGNATURE);
    out[SIGNATURE.len()..].copy_from_slice(&[VERSION, 0, 0, 0]);
    FIXED_BYTES
}

/// A block in the making; never longer than [`HEADER_BYTES_MAX`].
struct Block<'b> {
    out: &'b mut [u8],
    len: usize,
}

impl<'b> Block<'b> {
    fn new(out: &'b mut [u8]) -> Self {
        let room = out.len().min(HEADER_BYTES_MAX);
        Self {
            out: &mut out[..room],
            len: 0,
        }
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), WriteError> {
        let end = self.len + bytes.len();
        let place = self.out.get_mut(self.len..end);
        place.ok_or(WriteError::TooLong)?.copy_from_slice(bytes);
        self.len = end;
        Ok(())
    }

    fn put_ends<const N: usize>(&mut self, ends: [([u8; N], u16); 2]) -> Result<(), WriteError> {
        ends.iter().try_for_each(|(ip, _)| self.put(ip))?;
        ends.iter()
            .try_for_each(|(_, port)| self.put(&port.to_be_bytes()))
    }

    fn put_name(&mut self, name: &[u8]) -> Result<(), WriteError> {
        let mut field = [0; UNIX_NAME_BYTES];
        let place = field.get_mut(..name.len());
        place.ok_or(WriteError::NameTooLong)?.copy_from_slice(name);
        self.put(&field)
    }

    /// Returns where the value begins.
    fn put_tlv(&mut self, tlv: Tlv<'_>) -> Result<usize, WriteError> {
        let value_len = u16::try_from(tlv.value.len()).map_err(|_| WriteError::TooLong)?;
        let [high, low] = value_len.to_be_bytes();
        self.put(&[tlv.kind, high, low])?;
        self.put(tlv.value)?;
        debug_assert!(self.len >= FIXED_BYTES + TLV_HEAD_BYTES + tlv.value.len());
        Ok(self.len - tlv.value.len())
    }

    /// Fills in what could only be known at the end.
    fn finish(self, checksum_place: Option<usize>) -> usize {
        let whole = &mut self.out[..self.len];
        // At most `HEADER_BYTES_MAX`, far below what sixteen bits hold.
        let body_len = (whole.len() - FIXED_BYTES) as u16;
        whole[FIXED_BYTES - 2..FIXED_BYTES].copy_from_slice(&body_len.to_be_bytes());
        if let Some(at) = checksum_place {
            let checksum = checksum_at(whole, at);
            whole[at..at + CRC32C_BYTES].copy_from_slice(&checksum.to_be_bytes());
        }
        self.len
    }
}

/// An IPv6 address that is never shown with dotted quads at its end.
struct Groups(Ipv6Addr);

impl std::fmt::Display for Groups {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0.to_ipv4_mapped() {
            Some(ip) => {
                let [a, b, c, d] = ip.octets();
                let [high, low] = [[a, b], [c, d]].map(u16::from_be_bytes);
                write!(f, "::ffff:{high:x}:{low:x}")
            }
            None => write!(f, "{}", self.0),
        }
    }
}
