//! Requests and responses of a protocol, as a script.
//!
//! The one idea: a script is a cycle of exchanges, and an exchange is what to send and how to know that its answer is
//! whole. Nothing is computed or remembered from one answer to the next; that keeps the generator faster than what it
//! measures.
//!
//! ```text
//!   # One step a line.
//!   send "PING\r\n"           strings know \r \n \t \0 \xNN \" \\; several sends in a row are one request
//!   expect "+PONG\r\n"        these bytes
//!   send "GET x\r\n"
//!   expect-until "\r\n"       anything up to and with these bytes
//!   expect-bytes 128          this many bytes; several expects in a row are one answer
//!   send "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
//!   expect-http               one HTTP/1.1 response below 400; `expect-http 404`, `2xx` or `any` for others
//! ```
//!
//! Bounds: a script of [`SCRIPT_BYTES_MAX`], an answer of [`ANSWER_BYTES_MAX`], an HTTP head of [`HEAD_BYTES_MAX`] with
//! [`HEAD_FIELDS_MAX`] fields. What goes beyond is told as an error of the script or a wrong answer.

mod error;
mod http;
mod matcher;
mod parse;
mod status;
#[cfg(test)]
mod tests;

pub use error::{ScriptError, ScriptFault};
pub use http::HttpFault;
pub use matcher::{Fed, Matcher, Progress, WrongAnswer};
pub use status::StatusRule;

/// The longest script, in bytes of text.
pub const SCRIPT_BYTES_MAX: usize = 1 << 20;

/// The longest answer: everything that is expected after one request.
pub const ANSWER_BYTES_MAX: usize = 16 << 20;

/// The longest head of an HTTP response, and the longest chunk line or trailer.
pub const HEAD_BYTES_MAX: usize = 64 << 10;

/// Fields in the head of an HTTP response; servers that send more than a few dozen are rare.
pub const HEAD_FIELDS_MAX: usize = 100;

/// A cycle of exchanges. At least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Script {
    exchanges: Vec<Exchange>,
}

/// A request and how to know its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exchange {
    /// What to send; not empty.
    pub(crate) request: Vec<u8>,
    /// What has to come back, in order; at least one.
    pub(crate) expects: Vec<Expect>,
}

/// One part of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Expect {
    /// Exactly these bytes.
    Exactly(Vec<u8>),
    /// Any bytes, this many.
    Length(usize),
    /// Any bytes up to and with a mark.
    Until(Mark),
    /// One HTTP/1.1 response.
    Http {
        /// Which status is a right answer.
        status: StatusRule,
        /// False for the answer to `HEAD`, which has the fields of a body and none.
        has_body: bool,
    },
}

/// A text to be found in a stream, with how to go on after a part of it matched (Knuth, Morris and Pratt's table).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mark {
    bytes: Vec<u8>,
    /// For each prefix, the length of its longest proper prefix that is also its suffix.
    borders: Vec<usize>,
}

impl Script {
    /// Reads a script.
    ///
    /// # Errors
    /// [`ScriptError`], which names the line, the place in it, and what to write instead.
    pub fn parse(text: &str) -> Result<Self, ScriptError> {
        parse::script(text)
    }

    /// Sends the same bytes again and again, each time expecting the same answer.
    ///
    /// # Errors
    /// [`ScriptFault`] when either is empty, or the answer longer than [`ANSWER_BYTES_MAX`].
    pub fn ping_pong(request: &[u8], answer: &[u8]) -> Result<Self, ScriptFault> {
        if request.is_empty() || answer.is_empty() {
            return Err(ScriptFault::EmptyString);
        }
        if answer.len() > ANSWER_BYTES_MAX {
            return Err(ScriptFault::AnswerTooLong);
        }
        Ok(Self::of_one(
            request.to_vec(),
            Expect::Exactly(answer.to_vec()),
        ))
    }

    /// Asks for `path` again and again over a connection that stays, expecting a status below 400.
    ///
    /// # Errors
    /// [`ScriptFault`] when host or path hold a space or a control character, which would make another request of it, or
    /// the path does not begin with `/`.
    pub fn http_get(host: &str, path: &str) -> Result<Self, ScriptFault> {
        let breaks = |text: &str| text.bytes().any(|byte| byte <= b' ' || byte == 0x7f);
        if host.is_empty() || breaks(host) || !path.starts_with('/') || breaks(path) {
            return Err(ScriptFault::NotAUrl);
        }
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: polyloop-load\r\nAccept: */*\r\n\r\n"
        );
        let expect = Expect::Http {
            status: StatusRule::BelowErrors,
            has_body: true,
        };
        Ok(Self::of_one(request.into_bytes(), expect))
    }

    fn of_one(request: Vec<u8>, expect: Expect) -> Self {
        Self {
            exchanges: vec![Exchange {
                request,
                expects: vec![expect],
            }],
        }
    }

    /// How many exchanges make a cycle.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.exchanges.len()
    }

    /// Never: a script has at least one exchange.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.exchanges.is_empty()
    }

    /// The bytes of request `number` of a connection, counted from 0 through all cycles.
    #[must_use]
    pub fn request(&self, number: u64) -> &[u8] {
        let index = number % self.exchanges.len() as u64;
        &self.exchanges[index as usize].request
    }

    /// Bytes of the longest request.
    #[must_use]
    pub fn request_len_max(&self) -> usize {
        let lens = self.exchanges.iter().map(|exchange| exchange.request.len());
        lens.max().unwrap_or(0)
    }
}

impl Mark {
    pub(crate) fn new(bytes: Vec<u8>) -> Self {
        let mut borders = vec![0; bytes.len()];
        let mut border = 0;
        for end in 1..bytes.len() {
            while border > 0 && bytes[end] != bytes[border] {
                border = borders[border - 1];
            }
            if bytes[end] == bytes[border] {
                border += 1;
            }
            borders[end] = border;
        }
        Self { bytes, borders }
    }

    /// Looks on for the mark after `matched` bytes of it. How many bytes it took where it ends here; `matched` is how
    /// much of it the end of `bytes` may begin otherwise.
    pub(crate) fn find(&self, matched: &mut usize, bytes: &[u8]) -> Option<usize> {
        for (index, byte) in bytes.iter().enumerate() {
            while *matched > 0 && *byte != self.bytes[*matched] {
                *matched = self.borders[*matched - 1];
            }
            if *byte == self.bytes[*matched] {
                *matched += 1;
            }
            if *matched == self.bytes.len() {
                *matched = 0;
                return Some(index + 1);
            }
        }
        None
    }
}
