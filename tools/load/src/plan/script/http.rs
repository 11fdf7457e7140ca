//! Where an HTTP/1.1 response ends.
//!
//! The one idea: bytes are followed by a small machine that knows only lines, lengths and chunks; what the head says is
//! read once, when it is whole, by `httparse`.
//!
//! ```text
//!   Head ──> nothing: HEAD, 101, 204, 304          (100, 102, 103: the next head)
//!     ├────> Body ── Content-Length bytes
//!     └────> ChunkLine ─> Chunk ─> ChunkEnd ─┐
//!               │  ^─────────────────────────┘
//!               └─ size 0 ─> Trailer
//! ```
//!
//! Deliberately absent: bodies that end with the connection. Their end cannot be told from a broken connection, so they
//! are refused.

use std::mem::MaybeUninit;

use super::status::StatusRule;
use super::{ANSWER_BYTES_MAX, HEAD_BYTES_MAX, HEAD_FIELDS_MAX};

/// Follows one response after the other.
#[derive(Debug, Clone, Default)]
pub(super) struct Http {
    state: State,
    /// The beginning of a head that came in pieces.
    head: Vec<u8>,
    says_close: bool,
}

#[derive(Debug, Clone, Copy)]
enum State {
    /// Lines up to an empty one.
    Head(Lines),
    /// Bytes of a body with a length.
    Body { left: usize },
    /// The line that gives a chunk's size.
    ChunkLine(ChunkLine),
    /// Bytes of a chunk.
    Chunk { left: usize },
    /// The line's end behind a chunk.
    ChunkEnd { has_return: bool },
    /// Lines behind the last chunk, up to an empty one.
    Trailer(Lines),
}

/// What is wrong with a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HttpFault {
    /// It does not begin as one.
    #[error("the answer does not begin with HTTP/1.")]
    NotHttp,
    /// The head cannot be read.
    #[error("the head of the response cannot be read: {0}")]
    Head(httparse::Error),
    /// A head or a line beyond [`HEAD_BYTES_MAX`](super::HEAD_BYTES_MAX).
    #[error("the head of the response, or a line of it, has more than 64 KiB")]
    HeadTooLong,
    /// Another status than the script accepts.
    #[error("the status is {got}, expected was {wanted}")]
    Status {
        /// What came.
        got: u16,
        /// What would be right.
        wanted: StatusRule,
    },
    /// A length that is no number, or several that differ.
    #[error("the Content-Length of the response is not one number")]
    BadLength,
    /// Nothing tells where the body ends.
    #[error("the response has neither Content-Length nor chunks, so that only closing ends it")]
    NoLength,
    /// A body beyond [`ANSWER_BYTES_MAX`](super::ANSWER_BYTES_MAX).
    #[error("the body of the response has more than 16 MiB")]
    BodyTooLong,
    /// The line of a chunk, or what ends it, is malformed.
    #[error("a chunk of the response is malformed")]
    BadChunk,
}

impl Http {
    /// Takes what arrived. Where in `bytes` the response ends, if it does.
    pub(super) fn feed(
        &mut self,
        status: StatusRule,
        has_body: bool,
        bytes: &[u8],
    ) -> Result<Option<usize>, HttpFault> {
        let mut at = 0;
        while at < bytes.len() {
            let rest = &bytes[at..];
            let (taken, next) = match self.state {
                State::Head(lines) => self.feed_head(lines, (status, has_body), rest)?,
                State::Body { left } => {
                    let taken = left.min(rest.len());
                    let left = left - taken;
                    let next = if left > 0 {
                        Next::Go(State::Body { left })
                    } else {
                        Next::Done
                    };
                    (taken, next)
                }
                State::ChunkLine(line) => (1, line.step(rest[0])?),
                State::Chunk { left } => {
                    let taken = left.min(rest.len());
                    (taken, Next::Go(after_chunk(left - taken)))
                }
                State::ChunkEnd { has_return } => (1, step_chunk_end(has_return, rest[0])?),
                State::Trailer(mut lines) => match lines.find_end(rest)? {
                    Some(end) => (end, Next::Done),
                    None => (rest.len(), Next::Go(State::Trailer(lines))),
                },
            };
            at += taken;
            match next {
                Next::Go(state) => self.state = state,
                Next::Done => {
                    self.state = State::default();
                    return Ok(Some(at));
                }
            }
        }
        Ok(None)
    }

    pub(super) const fn says_close(&self) -> bool {
        self.says_close
    }

    /// Puts a head together and reads it when it is whole.
    fn feed_head(
        &mut self,
        mut lines: Lines,
        (status, has_body): (StatusRule, bool),
        bytes: &[u8],
    ) -> Result<(usize, Next), HttpFault> {
        let Some(end) = lines.find_end(bytes)? else {
            self.head.extend_from_slice(bytes);
            return Ok((bytes.len(), Next::Go(State::Head(lines))));
        };
        let head = if self.head.is_empty() {
            read_head(&bytes[..end])?
        } else {
            self.head.extend_from_slice(&bytes[..end]);
            // Given back whole, as of a million connections few are within a head.
            read_head(&std::mem::take(&mut self.head))?
        };
        if head.is_interim() {
            return Ok((end, Next::Go(State::default())));
        }
        if !status.accepts(head.status) {
            return Err(HttpFault::Status {
                got: head.status,
                wanted: status,
            });
        }
        self.says_close = head.says_close;
        let next = if has_body && head.may_have_body() {
            head.body?
        } else {
            Next::Done
        };
        Ok((end, next))
    }
}

impl Default for State {
    fn default() -> Self {
        Self::Head(Lines::of_head())
    }
}

/// What follows a step.
#[derive(Debug, Clone, Copy)]
enum Next {
    Go(State),
    Done,
}

/// What a head says.
struct Head {
    status: u16,
    says_close: bool,
    /// How the body would be told apart, if there is one.
    body: Result<Next, HttpFault>,
}

impl Head {
    /// Whether the response itself is still to come.
    const fn is_interim(&self) -> bool {
        self.status / 100 == 1 && self.status != 101
    }

    const fn may_have_body(&self) -> bool {
        !matches!(self.status, 101 | 204 | 304)
    }
}

fn read_head(bytes: &[u8]) -> Result<Head, HttpFault> {
    let mut fields = [const { MaybeUninit::uninit() }; HEAD_FIELDS_MAX];
    let mut response = httparse::Response::new(&mut []);
    let read = httparse::ParserConfig::default()
        .parse_response_with_uninit_headers(&mut response, bytes, &mut fields)
        .map_err(HttpFault::Head)?;
    let (Some(status), Some(minor)) = (response.code, response.version) else {
        return Err(HttpFault::Head(httparse::Error::Status));
    };
    if !read.is_complete() {
        return Err(HttpFault::Head(httparse::Error::NewLine));
    }
    Ok(Head {
        status,
        says_close: says_close(response.headers, minor),
        body: body_of(response.headers),
    })
}

/// HTTP/1.1 connections stay unless a response says otherwise, HTTP/1.0 ones close unless it does.
fn says_close(fields: &[httparse::Header<'_>], minor: u8) -> bool {
    let mut tokens = tokens_of(fields, "Connection");
    if minor == 0 {
        !tokens.any(|token| token.eq_ignore_ascii_case(b"keep-alive"))
    } else {
        tokens.any(|token| token.eq_ignore_ascii_case(b"close"))
    }
}

fn body_of(fields: &[httparse::Header<'_>]) -> Result<Next, HttpFault> {
    if let Some(coding) = tokens_of(fields, "Transfer-Encoding").last() {
        // Chunks go before a length where both are there; the last coding is the outermost.
        return if coding.eq_ignore_ascii_case(b"chunked") {
            Ok(Next::Go(State::ChunkLine(ChunkLine::default())))
        } else {
            Err(HttpFault::NoLength)
        };
    }
    let mut length = None;
    for token in tokens_of(fields, "Content-Length") {
        let digits = std::str::from_utf8(token).ok();
        let digits = digits.filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
        let value: u64 = digits
            .and_then(|digits| digits.parse().ok())
            .ok_or(HttpFault::BadLength)?;
        if length.is_some_and(|other| other != value) {
            return Err(HttpFault::BadLength);
        }
        length = Some(value);
    }
    match length.map(usize::try_from) {
        None => Err(HttpFault::NoLength),
        Some(Ok(0)) => Ok(Next::Done),
        Some(Ok(left)) if left <= ANSWER_BYTES_MAX => Ok(Next::Go(State::Body { left })),
        Some(_) => Err(HttpFault::BodyTooLong),
    }
}

/// The comma-separated parts of all fields of that name.
fn tokens_of<'a>(
    fields: &'a [httparse::Header<'a>],
    name: &'static str,
) -> impl Iterator<Item = &'a [u8]> {
    fields
        .iter()
        .filter(move |field| field.name.eq_ignore_ascii_case(name))
        .flat_map(|field| field.value.split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
}

/// Looks for the empty line that ends a head or a trailer. Lines end as `httparse` lets them: with or without `\r`.
#[derive(Debug, Clone, Copy)]
struct Lines {
    place: Place,
    /// How many bytes of [`MAGIC`] have come; only a head has to have them.
    magic: u8,
    seen: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Before the first line of a head, where empty lines mean nothing.
    Before,
    Within,
    /// At the beginning of a line.
    Beginning,
    /// Behind a `\r` at the beginning of a line.
    Return,
}

impl Lines {
    const fn of_head() -> Self {
        Self {
            place: Place::Before,
            magic: 0,
            seen: 0,
        }
    }

    const fn of_trailer() -> Self {
        Self {
            place: Place::Beginning,
            magic: MAGIC.len() as u8,
            seen: 0,
        }
    }

    /// Where in `bytes` the empty line ends, if it does.
    fn find_end(&mut self, bytes: &[u8]) -> Result<Option<usize>, HttpFault> {
        let end = self.scan(bytes)?;
        let seen = end.unwrap_or(bytes.len()) + self.seen as usize;
        if seen > HEAD_BYTES_MAX {
            return Err(HttpFault::HeadTooLong);
        }
        self.seen = seen as u32;
        Ok(end)
    }

    fn scan(&mut self, bytes: &[u8]) -> Result<Option<usize>, HttpFault> {
        for (index, byte) in bytes.iter().enumerate() {
            self.place = match (self.place, byte) {
                (Place::Before, b'\r' | b'\n') => continue,
                (Place::Beginning | Place::Return, b'\n') => return Ok(Some(index + 1)),
                (_, b'\n') => Place::Beginning,
                (Place::Beginning, b'\r') => Place::Return,
                _ => Place::Within,
            };
            if let Some(wanted) = MAGIC.get(usize::from(self.magic)) {
                // Told at once: what is no HTTP may never send an empty line.
                if byte != wanted {
                    return Err(HttpFault::NotHttp);
                }
                self.magic += 1;
            }
        }
        Ok(None)
    }
}

/// How each response begins.
const MAGIC: &[u8] = b"HTTP/1.";

/// The line of a chunk's size: hexadecimal digits, perhaps an extension that means nothing here.
#[derive(Debug, Clone, Copy, Default)]
struct ChunkLine {
    size: usize,
    has_digits: bool,
    is_past_size: bool,
    has_return: bool,
    seen: u32,
}

impl ChunkLine {
    fn step(mut self, byte: u8) -> Result<Next, HttpFault> {
        self.seen += 1;
        if self.seen as usize > HEAD_BYTES_MAX {
            return Err(HttpFault::HeadTooLong);
        }
        match byte {
            b'\n' if self.has_return && self.has_digits => return Ok(Next::Go(self.end())),
            _ if self.has_return => return Err(HttpFault::BadChunk),
            b'\r' => self.has_return = true,
            _ if self.is_past_size => {}
            b';' | b' ' | b'\t' if self.has_digits => self.is_past_size = true,
            _ => {
                let digit = (byte as char).to_digit(16).ok_or(HttpFault::BadChunk)?;
                self.has_digits = true;
                self.size = self.size * 16 + digit as usize;
                if self.size > ANSWER_BYTES_MAX {
                    return Err(HttpFault::BodyTooLong);
                }
            }
        }
        Ok(Next::Go(State::ChunkLine(self)))
    }

    const fn end(self) -> State {
        match self.size {
            0 => State::Trailer(Lines::of_trailer()),
            left => State::Chunk { left },
        }
    }
}

const fn after_chunk(left: usize) -> State {
    match left {
        0 => State::ChunkEnd { has_return: false },
        _ => State::Chunk { left },
    }
}

fn step_chunk_end(has_return: bool, byte: u8) -> Result<Next, HttpFault> {
    match (has_return, byte) {
        (false, b'\r') => Ok(Next::Go(State::ChunkEnd { has_return: true })),
        (true, b'\n') => Ok(Next::Go(State::ChunkLine(ChunkLine::default()))),
        _ => Err(HttpFault::BadChunk),
    }
}
