//! Whether what arrives is the answer.
//!
//! The one idea: a matcher is a place in the script, so that it goes on wherever the bytes were split and keeps none of
//! them; only the head of an HTTP response that came in pieces is put together.
//!
//! Give [`Matcher::feed`] what arrived. After [`Progress::Complete`] feed what was not consumed: it belongs to the next
//! answer. After [`Progress::Wrong`] nothing that follows can be trusted; the connection is of no more use.

use super::http::{Http, HttpFault};
use super::{ANSWER_BYTES_MAX, Expect, Script};

/// Follows the answers of one connection.
#[derive(Debug, Clone, Default)]
pub struct Matcher {
    /// Which exchange is being answered.
    exchange: usize,
    /// Which part of the answer is next.
    part: usize,
    /// How far that part is, where it has bytes to count or to match.
    at: usize,
    /// Bytes of this answer so far.
    taken: usize,
    http: Http,
}

/// What [`Matcher::feed`] made of the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fed {
    /// How many of the bytes belong to this answer.
    pub consumed: usize,
    /// What is to be made of them.
    pub progress: Progress,
}

/// How far an answer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// All bytes are consumed, and more are to come.
    Incomplete,
    /// The answer is whole and right. What was not consumed belongs to the next one.
    Complete,
    /// This is not the answer.
    Wrong(WrongAnswer),
}

/// Why an answer is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WrongAnswer {
    /// Another byte than expected.
    #[error("byte {at} of the answer is not the one expected")]
    Differs {
        /// Counted from 0.
        at: usize,
    },
    /// Longer than [`ANSWER_BYTES_MAX`].
    #[error("the answer has more than 16 MiB and no end")]
    TooLong,
    /// Not the HTTP response it should be.
    #[error(transparent)]
    Http(#[from] HttpFault),
}

impl Matcher {
    /// Waits for the first answer of a script.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes what arrived, up to the end of the current answer. See the module for what to do next.
    pub fn feed(&mut self, script: &Script, bytes: &[u8]) -> Fed {
        let mut consumed = 0;
        loop {
            let rest = &bytes[consumed..];
            if rest.is_empty() {
                return Fed {
                    consumed,
                    progress: Progress::Incomplete,
                };
            }
            let exchange = &script.exchanges[self.exchange];
            let end = match self.feed_part(&exchange.expects[self.part], rest) {
                Ok(end) => end,
                Err(wrong) => {
                    return Fed {
                        consumed,
                        progress: Progress::Wrong(wrong),
                    };
                }
            };
            let taken = end.unwrap_or(rest.len());
            consumed += taken;
            self.taken += taken;
            if self.taken > ANSWER_BYTES_MAX {
                return Fed {
                    consumed,
                    progress: Progress::Wrong(WrongAnswer::TooLong),
                };
            }
            if end.is_some() {
                self.at = 0;
                self.part += 1;
            }
            if self.part == exchange.expects.len() {
                self.part = 0;
                self.taken = 0;
                self.exchange = (self.exchange + 1) % script.exchanges.len();
                return Fed {
                    consumed,
                    progress: Progress::Complete,
                };
            }
        }
    }

    /// Whether no part of an answer has arrived: an end of the stream here cuts nothing off.
    #[must_use]
    pub const fn is_between_answers(&self) -> bool {
        self.part == 0 && self.taken == 0
    }

    /// Whether the last HTTP response said that the server will close the connection: its end is then no fault.
    #[must_use]
    pub const fn is_last_answer(&self) -> bool {
        self.http.says_close()
    }

    /// Where in `bytes` the part ends, if it does.
    fn feed_part(&mut self, expect: &Expect, bytes: &[u8]) -> Result<Option<usize>, WrongAnswer> {
        match expect {
            Expect::Exactly(wanted) => {
                let wanted = &wanted[self.at..];
                let len = wanted.len().min(bytes.len());
                if wanted[..len] != bytes[..len] {
                    let pairs = wanted.iter().zip(bytes);
                    let same = pairs.take_while(|(wanted, got)| wanted == got).count();
                    return Err(WrongAnswer::Differs {
                        at: self.taken + same,
                    });
                }
                self.at += len;
                Ok((len == wanted.len()).then_some(len))
            }
            Expect::Length(wanted) => {
                let len = (wanted - self.at).min(bytes.len());
                self.at += len;
                Ok((self.at == *wanted).then_some(len))
            }
            Expect::Until(mark) => Ok(mark.find(&mut self.at, bytes)),
            Expect::Http { status, has_body } => Ok(self.http.feed(*status, *has_body, bytes)?),
        }
    }
}
