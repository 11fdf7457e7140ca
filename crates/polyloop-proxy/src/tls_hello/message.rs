//! The inside of a client's hello, once all of it is in one slice.
//!
//! The one idea: a [`Cursor`] takes what a length announces or fails; nothing is indexed, so nothing can be read
//! beyond what holds it.

use super::{Reason, ServerName};

/// Extension numbers.
const SERVER_NAME: u16 = 0;
const PROTOCOLS: u16 = 16;
const ENCRYPTED_HELLO: u16 = 0xfe0d;

/// The one type of name there is.
const HOST_NAME: u8 = 0;

const RANDOM_BYTES: usize = 32;

/// What a client asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hello<'a> {
    /// The host name (SNI), where the client sent one.
    pub sni: Option<ServerName<'a>>,
    /// The application protocols (ALPN), the most wanted first; empty where the client sent none.
    pub alpn: Alpn<'a>,
    /// Whether the client sent, or made as if it sent, an encrypted hello inside; the names here are then the outer
    /// ones.
    pub is_encrypted: bool,
}

/// The protocols in a hello, each of 1 to 255 bytes; any bytes, GREASE values included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Alpn<'a> {
    rest: &'a [u8],
}

impl Alpn<'_> {
    const EMPTY: Self = Self { rest: &[] };

    /// Whether `protocol` is among them, byte for byte.
    #[must_use]
    pub fn offers(mut self, protocol: &[u8]) -> bool {
        self.any(|offered| offered == protocol)
    }

    /// Whether there are none left.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }
}

impl<'a> Iterator for Alpn<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<Self::Item> {
        let (len, rest) = self.rest.split_first()?;
        let (protocol, rest) = rest.split_at_checked(usize::from(*len))?;
        self.rest = rest;
        Some(protocol)
    }
}

/// Reads the message behind its head.
pub(super) fn parse(body: &[u8]) -> Result<Hello<'_>, Reason> {
    let mut rest = Cursor(body);
    let [major, _] = rest.array()?;
    if major != super::MAJOR_VERSION {
        return Err(Reason::Malformed);
    }
    rest.take(RANDOM_BYTES)?;
    let session = rest.list8()?;
    let ciphers = rest.list16()?;
    let compressions = rest.list8()?;
    let is_sane = session.0.len() <= 32
        && !ciphers.0.is_empty()
        && ciphers.0.len() % 2 == 0
        && !compressions.0.is_empty();
    if !is_sane {
        return Err(Reason::Malformed);
    }
    // Before TLS 1.3 the message may end here.
    let mut extensions = if rest.is_empty() {
        rest
    } else {
        rest.list16()?
    };
    if !rest.is_empty() {
        return Err(Reason::Malformed);
    }
    let mut sni = None;
    let mut alpn = None;
    let mut is_encrypted = false;
    while !extensions.is_empty() {
        let kind = u16::from_be_bytes(extensions.array()?);
        let value = extensions.list16()?;
        let was_there = match kind {
            SERVER_NAME => sni.replace(read_names(value)?).is_some(),
            PROTOCOLS => alpn.replace(read_protocols(value)?).is_some(),
            ENCRYPTED_HELLO => std::mem::replace(&mut is_encrypted, true),
            _ => false,
        };
        if was_there {
            return Err(Reason::Twice);
        }
    }
    Ok(Hello {
        sni: sni.flatten(),
        alpn: alpn.unwrap_or(Alpn::EMPTY),
        is_encrypted,
    })
}

/// The list of names. `None` when none of them is a host name: types to come are promised to begin with a length.
fn read_names(mut value: Cursor<'_>) -> Result<Option<ServerName<'_>>, Reason> {
    let mut names = value.list16()?;
    if !value.is_empty() || names.is_empty() {
        return Err(Reason::Malformed);
    }
    let mut found = None;
    while !names.is_empty() {
        let [kind] = names.array()?;
        let name = names.list16()?;
        if kind == HOST_NAME && found.replace(ServerName::new(name.0)?).is_some() {
            return Err(Reason::Twice);
        }
    }
    Ok(found)
}

/// The list of protocols, walked once so that [`Alpn`] meets no bad length.
fn read_protocols(mut value: Cursor<'_>) -> Result<Alpn<'_>, Reason> {
    let list = value.list16()?;
    if !value.is_empty() || list.is_empty() {
        return Err(Reason::Malformed);
    }
    let mut rest = list;
    while !rest.is_empty() {
        if rest.list8()?.is_empty() {
            return Err(Reason::Malformed);
        }
    }
    Ok(Alpn { rest: list.0 })
}

/// Bytes not looked at yet.
#[derive(Clone, Copy)]
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn take(&mut self, len: usize) -> Result<Self, Reason> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or(Reason::Malformed)?;
        self.0 = rest;
        Ok(Self(taken))
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Reason> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(Reason::Malformed)?;
        self.0 = rest;
        Ok(*taken)
    }

    /// What a length of one byte announces.
    fn list8(&mut self) -> Result<Self, Reason> {
        let [len] = self.array()?;
        self.take(usize::from(len))
    }

    /// What a length of two bytes announces.
    fn list16(&mut self) -> Result<Self, Reason> {
        let len = u16::from_be_bytes(self.array()?);
        self.take(usize::from(len))
    }
}
