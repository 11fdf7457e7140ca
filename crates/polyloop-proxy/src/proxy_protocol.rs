//! The PROXY protocol, versions 1 and 2: who the client is, as told by the proxy in front of us, and told on to the
//! backend behind us.
//!
//! The one idea: [`parse`] is a pure function of the bytes received so far, and decides at the first byte that leaves
//! no choice. What it says of a prefix it says of every longer one, so the answer does not depend on how the network
//! cut the header up, nor on payload that came fused with it. Asking again from the start with each segment is cheap
//! because the header is bounded: [`V1_BYTES_MAX`] for a line, [`HEADER_BYTES_MAX`] for a block.
//!
//! ```text
//!   parse(bytes so far) -> NeedMore            read on, within the header's deadline
//!                       -> Done { len, .. }    drop `len` bytes; what follows is payload
//!                       -> Bad(reason)         close; nothing of it may be used
//! ```
//!
//! Deliberately absent: guessing. Whether a header must be there is the listener's setting; whoever asks [`parse`] has
//! decided that one is required, and bytes of any other kind are [`Reason::NotAHeader`]. Absent as well is the question
//! who may send one: that is an access list, asked about the real peer before a byte is read.
//!
//! Where the specification leaves a choice:
//!
//! * Version 1 accepts an IPv6 address that ends in dotted quads (`::ffff:1.2.3.4`), because `inet_ntop` writes mapped
//!   addresses so and senders use it; we write hexadecimal groups alone. `UNKNOWN` ends with a space or the line, and
//!   what follows it is ignored, except that a lone CR or LF stays an error.
//! * Version 2 reads a `LOCAL` block as a length to skip: neither its family nor its TLVs are looked at. A `PROXY` block
//!   for datagrams is refused, as a stream listener cannot have been asked for one. The transport `UNSPEC` says nothing
//!   of the block's shape, which is skipped. The family `UNSPEC` has no addresses, so its TLVs begin at once; should
//!   the block not be a row of TLVs, it is ignored as a whole.
//! * A value longer than 2032 bytes after the fixed part is refused: no known sender writes more than a few hundred.
//! * TLVs are checked where they are read: each inside the header, the second level inside the first, at most one
//!   checksum, of four bytes, and right; an authority in UTF-8 of at most 255 bytes; a unique id of at most 128.
//!
//! Invariants: no allocation, no recursion, no byte behind the header is looked at.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use polyloop_sys::PeerAddr;

mod crc32c;
mod tlv;
mod v1;
mod v2;
mod write;

#[cfg(test)]
mod tests;

pub use tlv::{AUTHORITY_BYTES_MAX, Ssl, Tlv, Tlvs, UNIQUE_ID_BYTES_MAX, kind};
pub use write::{Checksum, WriteError, write_v1, write_v2, write_v2_local};

/// The longest line of version 1, with its CRLF.
pub const V1_BYTES_MAX: usize = 107;

/// The longest block of version 2 that is accepted or written, fixed part and TLVs together.
///
/// The format allows 65,551. Everything a sender may say of one connection fits many times into this, and the bound
/// keeps what an unfinished header can pin down to one small piece of memory.
pub const HEADER_BYTES_MAX: usize = 2048;

/// What the bytes so far are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed<'a> {
    /// The beginning of a header: read on.
    NeedMore,
    /// A whole and valid header.
    Done {
        /// Its length in bytes; the payload begins there.
        len: usize,
        /// What it says.
        header: Header<'a>,
    },
    /// Not a header, whatever may follow: the connection must be closed.
    Bad(Reason),
}

/// Which of the two formats a header has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Version {
    /// A line of text.
    One,
    /// A binary block.
    Two,
}

/// On whose behalf the connection was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Command {
    /// The sender's own, a health check for instance: the socket's real endpoints are the truth.
    Local,
    /// Somebody else's: the header's endpoints are the truth, where it has any.
    Proxy,
}

/// What a header says. It borrows the bytes it was read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header<'a> {
    /// The format it came in.
    pub version: Version,
    /// On whose behalf the connection was made.
    pub command: Command,
    /// The client. `None`: use the socket's own peer (`LOCAL`, `UNKNOWN`, `UNSPEC`).
    pub source: Option<PeerEndpoint<'a>>,
    /// Where the client meant to go. `None` exactly when `source` is.
    pub dest: Option<PeerEndpoint<'a>>,
    /// What else version 2 carries; empty in version 1.
    pub tlvs: Tlvs<'a>,
}

/// One end of a connection as a header names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PeerEndpoint<'a> {
    /// An address and a port, as they were written: a mapped IPv4 address stays mapped here.
    Inet(SocketAddr),
    /// The name of a unix socket: a path, an abstract name with its leading zero byte, or empty for an unnamed one.
    /// At most [`UNIX_NAME_BYTES`].
    Unix(&'a [u8]),
}

/// The room for the name of a unix socket in a version 2 block.
pub const UNIX_NAME_BYTES: usize = 108;

impl PeerEndpoint<'_> {
    /// The form in which a session keeps it; the name of a unix socket is not part of that.
    #[must_use]
    pub fn peer_addr(&self) -> PeerAddr {
        match *self {
            Self::Inet(addr) => PeerAddr::from(addr),
            Self::Unix(_) => PeerAddr::Unix,
        }
    }

    /// The address for access rules and hashes, a mapped one turned back into IPv4; `None` for a unix socket.
    #[must_use]
    pub fn ip(&self) -> Option<IpAddr> {
        self.peer_addr().ip()
    }
}

impl From<PeerAddr> for PeerEndpoint<'_> {
    fn from(addr: PeerAddr) -> Self {
        addr.socket_addr().map_or(Self::Unix(b""), Self::Inet)
    }
}

impl From<SocketAddr> for PeerEndpoint<'_> {
    fn from(addr: SocketAddr) -> Self {
        Self::Inet(addr)
    }
}

/// Why bytes are no header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// They begin neither like version 1 nor like version 2.
    NotAHeader,
    /// Version 1: neither `TCP4`, `TCP6` nor `UNKNOWN`.
    UnknownProtocol,
    /// Version 1: no CRLF within [`V1_BYTES_MAX`] bytes.
    LineTooLong,
    /// Version 1: a CR or an LF on its own.
    LoneLineEnd,
    /// Version 1: not exactly four fields with one space between.
    Fields,
    /// Version 1: an address that is not of the announced family, or not in its canonical form.
    Address,
    /// Version 1: a port that is not a plain decimal number of 0 to 65535.
    Port,
    /// Version 2: another version behind the signature.
    UnknownVersion,
    /// Version 2: a command that is neither `LOCAL` nor `PROXY`.
    UnknownCommand,
    /// Version 2: an address family that the protocol does not have.
    UnknownFamily,
    /// Version 2: a transport that the protocol does not have.
    UnknownTransport,
    /// Version 2: a datagram's header on a stream.
    Datagram,
    /// Version 2: longer than [`HEADER_BYTES_MAX`].
    BlockTooLong,
    /// Version 2: too short for the addresses it announces.
    AddressesCut,
    /// Version 2: a TLV that reaches beyond what holds it, or the rest of one.
    TlvCut,
    /// Version 2: a TLV whose value breaks the rules of its type.
    TlvValue,
    /// Version 2: more than one checksum.
    ChecksumTwice,
    /// Version 2: the checksum is wrong.
    Checksum,
}

impl Reason {
    /// Every reason, for counters and documentation.
    pub const ALL: [Self; 18] = [
        Self::NotAHeader,
        Self::UnknownProtocol,
        Self::LineTooLong,
        Self::LoneLineEnd,
        Self::Fields,
        Self::Address,
        Self::Port,
        Self::UnknownVersion,
        Self::UnknownCommand,
        Self::UnknownFamily,
        Self::UnknownTransport,
        Self::Datagram,
        Self::BlockTooLong,
        Self::AddressesCut,
        Self::TlvCut,
        Self::TlvValue,
        Self::ChecksumTwice,
        Self::Checksum,
    ];

    /// The name in metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NotAHeader => "not_a_header",
            Self::UnknownProtocol => "unknown_protocol",
            Self::LineTooLong => "line_too_long",
            Self::LoneLineEnd => "lone_line_end",
            Self::Fields => "fields",
            Self::Address => "address",
            Self::Port => "port",
            Self::UnknownVersion => "unknown_version",
            Self::UnknownCommand => "unknown_command",
            Self::UnknownFamily => "unknown_family",
            Self::UnknownTransport => "unknown_transport",
            Self::Datagram => "datagram",
            Self::BlockTooLong => "block_too_long",
            Self::AddressesCut => "addresses_cut",
            Self::TlvCut => "tlv_cut",
            Self::TlvValue => "tlv_value",
            Self::ChecksumTwice => "checksum_twice",
            Self::Checksum => "checksum",
        }
    }

    /// The reason in words, for a log.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::NotAHeader => "the connection did not begin with a PROXY header",
            Self::UnknownProtocol => "PROXY v1: neither TCP4, TCP6 nor UNKNOWN",
            Self::LineTooLong => "PROXY v1: no CRLF within 107 bytes",
            Self::LoneLineEnd => "PROXY v1: a CR or LF on its own",
            Self::Fields => "PROXY v1: not four fields with one space between",
            Self::Address => "PROXY v1: an address that is not of the announced family",
            Self::Port => "PROXY v1: a port that is not a plain number up to 65535",
            Self::UnknownVersion => "PROXY v2: unknown version",
            Self::UnknownCommand => "PROXY v2: neither LOCAL nor PROXY",
            Self::UnknownFamily => "PROXY v2: unknown address family",
            Self::UnknownTransport => "PROXY v2: unknown transport",
            Self::Datagram => "PROXY v2: a datagram's header on a stream",
            Self::BlockTooLong => "PROXY v2: longer than 2048 bytes",
            Self::AddressesCut => "PROXY v2: too short for its addresses",
            Self::TlvCut => "PROXY v2: a TLV reaches beyond the header",
            Self::TlvValue => "PROXY v2: a TLV's value breaks the rules of its type",
            Self::ChecksumTwice => "PROXY v2: more than one checksum",
            Self::Checksum => "PROXY v2: wrong checksum",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.words())
    }
}

/// Reads the header that must stand at the beginning of `bytes`, which are all the bytes received so far.
///
/// Call it again with more bytes after [`Parsed::NeedMore`]; it is never answered to [`HEADER_BYTES_MAX`] bytes or
/// more.
#[must_use]
pub fn parse(bytes: &[u8]) -> Parsed<'_> {
    match bytes.first() {
        None => Parsed::NeedMore,
        Some(b'P') => v1::parse(bytes),
        Some(b'\r') => v2::parse(bytes),
        Some(_) => Parsed::Bad(Reason::NotAHeader),
    }
}

/// Whether `bytes`, as far as they go, are the beginning of `expected`; `None` when they end before it does.
fn starts_with(bytes: &[u8], expected: &[u8]) -> Option<bool> {
    let common = bytes.len().min(expected.len());
    if bytes[..common] != expected[..common] {
        Some(false)
    } else {
        (common == expected.len()).then_some(true)
    }
}
