//! The type-length-value fields behind the addresses of a version 2 header.
//!
//! The one idea: [`Tlvs::checked`] walks everything once, within the slice that the header's length cut out; whoever
//! holds a [`Tlvs`] afterwards iterates over fields known to be whole, without an error to handle.

use super::Reason;
use super::crc32c::Crc32c;

/// The registered types.
pub mod kind {
    /// The application protocol agreed on, as in TLS.
    pub const ALPN: u8 = 0x01;
    /// The host name the client asked for: the SNI, where there was TLS.
    pub const AUTHORITY: u8 = 0x02;
    /// CRC32C of the whole header, its own four bytes taken as zero.
    pub const CRC32C: u8 = 0x03;
    /// Padding.
    pub const NOOP: u8 = 0x04;
    /// A name for the connection, the same along a chain of proxies.
    pub const UNIQUE_ID: u8 = 0x05;
    /// What the sender knows of the client's TLS; has fields of its own inside.
    pub const SSL: u8 = 0x20;
    /// Inside [`SSL`]: the version of TLS, as text.
    pub const SSL_VERSION: u8 = 0x21;
    /// Inside [`SSL`]: the common name in the client's certificate.
    pub const SSL_CN: u8 = 0x22;
    /// Inside [`SSL`]: the cipher's name.
    pub const SSL_CIPHER: u8 = 0x23;
    /// Inside [`SSL`]: how the sender's certificate was signed.
    pub const SSL_SIG_ALG: u8 = 0x24;
    /// Inside [`SSL`]: the key of the sender's certificate.
    pub const SSL_KEY_ALG: u8 = 0x25;
    /// The network namespace of the connection.
    pub const NETNS: u8 = 0x30;
}

/// The longest authority: no host name is longer.
pub const AUTHORITY_BYTES_MAX: usize = 255;

/// The longest unique id, by the specification.
pub const UNIQUE_ID_BYTES_MAX: usize = 128;

/// Type and length.
pub(super) const TLV_HEAD_BYTES: usize = 3;

/// Flags and verdict in front of the fields inside [`kind::SSL`].
const SSL_HEAD_BYTES: usize = 5;

pub(super) const CRC32C_BYTES: usize = 4;

/// One field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tlv<'a> {
    /// Its type, one of [`kind`] or a private one.
    pub kind: u8,
    /// Its value.
    pub value: &'a [u8],
}

/// The fields of a header, all known to be whole; an iterator over them, in the order in which they stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tlvs<'a> {
    rest: &'a [u8],
}

impl<'a> Tlvs<'a> {
    /// No fields.
    pub const EMPTY: Self = Self { rest: &[] };

    /// Walks `fields`, which are the end of the header `whole`, and verifies the checksum if there is one.
    pub(super) fn checked(whole: &[u8], fields: &'a [u8]) -> Result<Self, Reason> {
        let fields_at = whole.len() - fields.len();
        let mut rest = fields;
        let mut checksum_at = None;
        while !rest.is_empty() {
            let (tlv, behind) = split_tlv(rest).ok_or(Reason::TlvCut)?;
            check_value(tlv)?;
            if tlv.kind == kind::CRC32C {
                let at = fields_at + (fields.len() - rest.len()) + TLV_HEAD_BYTES;
                if checksum_at.replace(at).is_some() {
                    return Err(Reason::ChecksumTwice);
                }
            }
            rest = behind;
        }
        if checksum_at.is_some_and(|at| !is_checksum_right(whole, at)) {
            return Err(Reason::Checksum);
        }
        Ok(Self { rest: fields })
    }

    /// The first field of this type.
    #[must_use]
    pub fn value_of(mut self, kind: u8) -> Option<&'a [u8]> {
        self.find(|tlv| tlv.kind == kind).map(|tlv| tlv.value)
    }

    /// The application protocol.
    #[must_use]
    pub fn alpn(self) -> Option<&'a [u8]> {
        self.value_of(kind::ALPN)
    }

    /// The host name the client asked for. It is text, but a peer's: escape it before it is shown.
    #[must_use]
    pub fn authority(self) -> Option<&'a str> {
        self.value_of(kind::AUTHORITY)
            .and_then(|value| std::str::from_utf8(value).ok())
    }

    /// The connection's name, any bytes.
    #[must_use]
    pub fn unique_id(self) -> Option<&'a [u8]> {
        self.value_of(kind::UNIQUE_ID)
    }

    /// What the sender knows of the client's TLS.
    #[must_use]
    pub fn ssl(self) -> Option<Ssl<'a>> {
        self.value_of(kind::SSL).and_then(Ssl::read)
    }

    /// Whether there are no fields left.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }
}

impl<'a> Iterator for Tlvs<'a> {
    type Item = Tlv<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        let (tlv, behind) = split_tlv(self.rest)?;
        self.rest = behind;
        Some(tlv)
    }
}

/// What a sender says of the TLS between the client and itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ssl<'a> {
    client: u8,
    verify: u32,
    /// The fields inside: version, cipher, common name and so on.
    pub fields: Tlvs<'a>,
}

impl<'a> Ssl<'a> {
    const CLIENT_SSL: u8 = 0x01;
    const CLIENT_CERT_CONN: u8 = 0x02;
    const CLIENT_CERT_SESS: u8 = 0x04;

    /// `None` when the value is too short or one of the fields inside is cut.
    fn read(value: &'a [u8]) -> Option<Self> {
        let (&[client, v0, v1, v2, v3], inner) = value.split_first_chunk::<SSL_HEAD_BYTES>()?;
        let mut rest = inner;
        while !rest.is_empty() {
            (_, rest) = split_tlv(rest)?;
        }
        Some(Self {
            client,
            verify: u32::from_be_bytes([v0, v1, v2, v3]),
            fields: Tlvs { rest: inner },
        })
    }

    /// Whether the client came by TLS.
    #[must_use]
    pub const fn is_tls(&self) -> bool {
        self.client & Self::CLIENT_SSL != 0
    }

    /// Whether the client showed a certificate, on this connection or earlier in the session, and it was found good.
    #[must_use]
    pub const fn is_certificate_verified(&self) -> bool {
        self.client & (Self::CLIENT_CERT_CONN | Self::CLIENT_CERT_SESS) != 0 && self.verify == 0
    }
}

/// The first field and what is behind it; `None` when it is cut.
fn split_tlv(bytes: &[u8]) -> Option<(Tlv<'_>, &[u8])> {
    let (&[kind, high, low], behind) = bytes.split_first_chunk::<TLV_HEAD_BYTES>()?;
    let (value, behind) = behind.split_at_checked(usize::from(u16::from_be_bytes([high, low])))?;
    Some((Tlv { kind, value }, behind))
}

/// The rules of the types that have some.
pub(super) fn check_value(tlv: Tlv<'_>) -> Result<(), Reason> {
    let is_right = match tlv.kind {
        kind::CRC32C => tlv.value.len() == CRC32C_BYTES,
        kind::UNIQUE_ID => tlv.value.len() <= UNIQUE_ID_BYTES_MAX,
        kind::AUTHORITY => {
            tlv.value.len() <= AUTHORITY_BYTES_MAX && std::str::from_utf8(tlv.value).is_ok()
        }
        kind::SSL => Ssl::read(tlv.value).is_some(),
        _ => true,
    };
    if is_right {
        Ok(())
    } else {
        Err(Reason::TlvValue)
    }
}

/// Whether the four bytes at `at` are the checksum of `whole` with zeros in their place.
fn is_checksum_right(whole: &[u8], at: usize) -> bool {
    let claimed = whole.get(at..at + CRC32C_BYTES);
    claimed.is_some_and(|claimed| claimed == checksum_at(whole, at).to_be_bytes())
}

/// The checksum of `whole` with its own place at `at` taken as zeros.
pub(super) fn checksum_at(whole: &[u8], at: usize) -> u32 {
    let (before, rest) = whole.split_at(at);
    Crc32c::new()
        .with(before)
        .with(&[0; CRC32C_BYTES])
        .with(&rest[CRC32C_BYTES..])
        .finish()
}
