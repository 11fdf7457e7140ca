//! The name and the protocols that a TLS client asks for, read from its first message without terminating TLS.
//!
//! The one idea: [`HelloReader`] only counts until the message is whole, going from record to record and never back, so
//! that a client which sends byte by byte, or one byte to a record, costs time proportional to its bytes. Then the
//! message is read once. One record around it, which is what nearly all clients send, is read in place; over several
//! records it is put together in the caller's buffer first, because a name may be cut in two.
//!
//! ```text
//!   wire:    | 22 3 x len | handshake bytes | 22 3 x len | handshake bytes | ...
//!   message: | 1 len24 | version random session ciphers compression | extensions: 0 name, 16 protocols, ...
//! ```
//!
//! Deliberately absent: TLS. Versions, ciphers and key shares are the backend's business; a client with an old or odd
//! choice of them is passed on. Unknown extensions, GREASE values among them, are stepped over by their length.
//!
//! What is refused although a lenient server might take it, as routing by a name that two parsers read in two ways is
//! how access rules are walked around: extensions that do not fill the message exactly, two names or two lists of
//! protocols, an empty record, another kind of record in the middle, and a name that is no host name
//! ([`ServerName`] says what is).
//!
//! A client that encrypts its hello (ECH) shows the name of the server that can decrypt it. [`Hello::is_encrypted`]
//! says so; the flag may also be a decoy that many browsers send, and nobody but the server can tell.
//!
//! Bounds: [`WIRE_BYTES_MAX`] bytes are looked at in all, and the caller's buffer grows no further than that.

use std::fmt;

mod message;
mod name;

#[cfg(test)]
mod tests;

pub use message::{Alpn, Hello};
pub use name::ServerName;

/// How many bytes from the client a hello may take, record headers included: 16 KiB.
///
/// Hellos are between 200 and 2,000 bytes today; post-quantum key shares and an encrypted inner hello have room left.
pub const WIRE_BYTES_MAX: usize = 16 * 1024;

/// Type, version, length.
const RECORD_HEAD_BYTES: usize = 5;

/// The longest record that is not encrypted.
const RECORD_BYTES_MAX: usize = 1 << 14;

/// Type and length of a handshake message.
const MESSAGE_HEAD_BYTES: usize = 4;

const HANDSHAKE_RECORD: u8 = 22;
const CLIENT_HELLO: u8 = 1;

/// The high byte of every version from SSL 3.0 to TLS 1.3.
const MAJOR_VERSION: u8 = 3;

/// What the bytes so far are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HelloRead<'a> {
    /// The beginning of a hello: read on.
    NeedMore,
    /// A whole hello.
    Hello(Hello<'a>),
    /// Another protocol: what to do with it is the listener's setting.
    NotTls,
    /// TLS, but nothing to route by: close.
    Bad(Reason),
}

/// Why TLS bytes are no usable hello.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// More than [`WIRE_BYTES_MAX`] bytes, as sent or as announced.
    TooLong,
    /// A record that is empty or longer than TLS allows.
    RecordLength,
    /// Another kind of record before the message was whole.
    RecordType,
    /// The first message is not a client's hello.
    NotAHello,
    /// A length inside the message that does not fit what holds it.
    Malformed,
    /// Two extensions of a kind that may be there once, or two host names.
    Twice,
    /// The name asked for is not a host name.
    HostName,
}

impl Reason {
    /// Every reason, for counters and documentation.
    pub const ALL: [Self; 7] = [
        Self::TooLong,
        Self::RecordLength,
        Self::RecordType,
        Self::NotAHello,
        Self::Malformed,
        Self::Twice,
        Self::HostName,
    ];

    /// The name in metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::TooLong => "too_long",
            Self::RecordLength => "record_length",
            Self::RecordType => "record_type",
            Self::NotAHello => "not_a_hello",
            Self::Malformed => "malformed",
            Self::Twice => "twice",
            Self::HostName => "host_name",
        }
    }

    /// The reason in words, for a log.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::TooLong => "TLS hello: longer than 16 KiB",
            Self::RecordLength => "TLS hello: a record that is empty or too long",
            Self::RecordType => "TLS hello: another record in the middle of it",
            Self::NotAHello => "TLS: the first message is not a client's hello",
            Self::Malformed => "TLS hello: lengths that contradict each other",
            Self::Twice => "TLS hello: a name or a list of protocols twice",
            Self::HostName => "TLS hello: the name asked for is not a host name",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.words())
    }
}

/// How far the records of one connection have been counted.
///
/// One reader belongs to one connection. Each [`read`](Self::read) is given all bytes from the connection's first one
/// on; what they gain from call to call is all that is looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HelloReader {
    /// Where in the wire's bytes the record begins that is not whole yet.
    record_at: u16,
    /// How many bytes of the message the records before it hold.
    message_bytes: u16,
}

impl HelloReader {
    /// A reader at the beginning.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            record_at: 0,
            message_bytes: 0,
        }
    }

    /// Reads the hello that stands at the beginning of `wire`, which are all the bytes received so far.
    ///
    /// `scratch` is overwritten when the hello is spread over several records and left alone otherwise; it may be
    /// shared by all connections of a loop. What is found borrows from `wire` or from it.
    ///
    /// Every answer but [`HelloRead::NeedMore`] is final, and `NeedMore` is never given to [`WIRE_BYTES_MAX`] bytes.
    #[must_use]
    pub fn read<'a>(&mut self, wire: &'a [u8], scratch: &'a mut Vec<u8>) -> HelloRead<'a> {
        let is_full = wire.len() >= WIRE_BYTES_MAX;
        let wire = &wire[..wire.len().min(WIRE_BYTES_MAX)];
        match self.count(wire) {
            Err(refusal) => refusal.into(),
            Ok(None) if is_full => HelloRead::Bad(Reason::TooLong),
            Ok(None) => HelloRead::NeedMore,
            Ok(Some(message_len)) => {
                let message = one_record(wire, message_len).unwrap_or_else(move || {
                    scratch.clear();
                    scratch.reserve_exact(message_len);
                    gather(wire, message_len, |part| scratch.extend_from_slice(part));
                    scratch
                });
                match message::parse(&message[MESSAGE_HEAD_BYTES..]) {
                    Ok(hello) => HelloRead::Hello(hello),
                    Err(reason) => HelloRead::Bad(reason),
                }
            }
        }
    }

    /// Steps over the records that are whole. The length of the message with its head, once all of it is there.
    fn count(&mut self, wire: &[u8]) -> Result<Option<usize>, Refusal> {
        loop {
            let record = wire.get(usize::from(self.record_at)..).unwrap_or(&[]);
            let Some(record_len) = read_record_head(record, self.record_at == 0)? else {
                return Ok(None);
            };
            let there = record_len.min(record.len() - RECORD_HEAD_BYTES);
            let message_bytes = usize::from(self.message_bytes) + there;
            if let Some(message_len) = read_message_len(wire, message_bytes)?
                && message_bytes >= message_len
            {
                return Ok(Some(message_len));
            }
            if there < record_len {
                return Ok(None);
            }
            // `wire` is no longer than `WIRE_BYTES_MAX`, so both fit.
            self.record_at += (RECORD_HEAD_BYTES + record_len) as u16;
            self.message_bytes = message_bytes as u16;
        }
    }
}

/// An answer that ends the reading before the message is whole.
enum Refusal {
    NotTls,
    Bad(Reason),
}

impl From<Refusal> for HelloRead<'_> {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::NotTls => Self::NotTls,
            Refusal::Bad(reason) => Self::Bad(reason),
        }
    }
}

/// The length of the record that begins here, once its head is there; each byte of it is judged as it comes. The
/// version's low byte is not looked at, as clients write what they like there and servers have to ignore it.
fn read_record_head(record: &[u8], is_first: bool) -> Result<Option<usize>, Refusal> {
    let other = |reason| {
        if is_first {
            Refusal::NotTls
        } else {
            Refusal::Bad(reason)
        }
    };
    if record.first().is_some_and(|kind| *kind != HANDSHAKE_RECORD) {
        return Err(other(Reason::RecordType));
    }
    if record.get(1).is_some_and(|major| *major != MAJOR_VERSION) {
        return Err(other(Reason::RecordType));
    }
    let Some(&[_, _, _, high, low]) = record.first_chunk::<RECORD_HEAD_BYTES>() else {
        return Ok(None);
    };
    let record_len = usize::from(u16::from_be_bytes([high, low]));
    if record_len == 0 || record_len > RECORD_BYTES_MAX {
        return Err(Refusal::Bad(Reason::RecordLength));
    }
    Ok(Some(record_len))
}

/// The length of the message with its head, of which `message_bytes` are there; `None` while the head is not.
fn read_message_len(wire: &[u8], message_bytes: usize) -> Result<Option<usize>, Refusal> {
    let mut head = [0; MESSAGE_HEAD_BYTES];
    let mut known = 0;
    gather(wire, message_bytes.min(MESSAGE_HEAD_BYTES), |part| {
        head[known..known + part.len()].copy_from_slice(part);
        known += part.len();
    });
    if known > 0 && head[0] != CLIENT_HELLO {
        return Err(Refusal::Bad(Reason::NotAHello));
    }
    if known < MESSAGE_HEAD_BYTES {
        return Ok(None);
    }
    let body_len = u32::from_be_bytes([0, head[1], head[2], head[3]]) as usize;
    let message_len = MESSAGE_HEAD_BYTES + body_len;
    if RECORD_HEAD_BYTES + message_len > WIRE_BYTES_MAX {
        return Err(Refusal::Bad(Reason::TooLong));
    }
    Ok(Some(message_len))
}

/// The message in place, when the first record holds all of it.
fn one_record(wire: &[u8], message_len: usize) -> Option<&[u8]> {
    let (head, rest) = wire.split_first_chunk::<RECORD_HEAD_BYTES>()?;
    let record_len = usize::from(u16::from_be_bytes([head[3], head[4]]));
    (record_len >= message_len).then(|| rest.get(..message_len))?
}

/// Hands over the first `len` bytes of the message, record by record. The records have been counted before.
fn gather(wire: &[u8], len: usize, mut take: impl FnMut(&[u8])) {
    let mut rest = wire;
    let mut missing = len;
    while missing > 0 {
        let Some((head, behind)) = rest.split_first_chunk::<RECORD_HEAD_BYTES>() else {
            return;
        };
        let record_len = usize::from(u16::from_be_bytes([head[3], head[4]]));
        let (record, behind) = behind.split_at(record_len.min(behind.len()));
        let part = &record[..record.len().min(missing)];
        take(part);
        missing -= part.len();
        rest = behind;
    }
}
