//! What is wrong with a script, shown where it is wrong.

use std::fmt;

/// A script that cannot be run: the line, the place in it, and the way out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScriptError {
    /// Counted from 1; 0 where it is about the whole text.
    pub line: usize,
    /// In characters, counted from 1.
    pub column: usize,
    /// The line as written, or what a terminal shows of it around the place.
    pub text: String,
    /// Where the place is in `text`, in characters, counted from 0.
    pub(super) caret: usize,
    /// What is wrong.
    pub fault: ScriptFault,
}

/// What is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ScriptFault {
    /// No step in it.
    #[error("there is no step in it; begin with `send \"...\"` and say what to `expect \"...\"`")]
    Empty,
    /// More text than [`SCRIPT_BYTES_MAX`](super::SCRIPT_BYTES_MAX).
    #[error("it has more than 1 MiB; shorten it, or let one cycle stand for many")]
    TooLong,
    /// A word that is no step.
    #[error(
        "`{0}` is no step; the steps are send, expect, expect-bytes, expect-until and expect-http"
    )]
    UnknownStep(String),
    /// A step has nothing to work on.
    #[error("`{0}` needs a text in double quotes behind it, as in {0} \"PING\\r\\n\"")]
    MissingString(&'static str),
    /// A text has no end.
    #[error(
        "the text has no closing quote; end it with \" on the same line, and write \\\" for a quote in it"
    )]
    OpenString,
    /// A text has nothing in it.
    #[error("the text is empty; give it at least one byte, or leave the step out")]
    EmptyString,
    /// A backslash before something else.
    #[error(
        "`\\{0}` stands for nothing; there are \\r \\n \\t \\0 \\xNN \\\" and \\\\, the last for a backslash itself"
    )]
    UnknownEscape(char),
    /// `\x` without two hexadecimal digits.
    #[error("\\x needs two hexadecimal digits behind it, as in \\x0d")]
    BadHex,
    /// Something behind a complete step.
    #[error("nothing may follow here but a comment; put the next step on a line of its own")]
    TrailingText,
    /// Not a number of bytes.
    #[error("expect-bytes needs a number of bytes from 1 to 16MiB, as in expect-bytes 128")]
    BadLength,
    /// Not a rule for a status.
    #[error("expect-http takes a status (404), a class (2xx), `any`, or nothing for all below 400")]
    BadStatus,
    /// An answer before any request.
    #[error("there is no request yet that this could answer; put a send before it")]
    ExpectBeforeSend,
    /// A request whose answer nobody waits for.
    #[error("this request expects no answer, so there is nothing to time; put an expect behind it")]
    SendWithoutExpect,
    /// An answer beyond [`ANSWER_BYTES_MAX`](super::ANSWER_BYTES_MAX).
    #[error("the answer would have more than 16MiB; make several exchanges of it")]
    AnswerTooLong,
    /// A host or path that would make another request of it.
    #[error(
        "host and path must be without spaces and control characters, and the path begin with /; write a space as %20"
    )]
    NotAUrl,
}

impl ScriptError {
    /// An error about the whole text.
    pub(super) const fn of_whole(fault: ScriptFault) -> Self {
        Self {
            line: 0,
            column: 0,
            text: String::new(),
            caret: 0,
            fault,
        }
    }
}

impl fmt::Display for ScriptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line == 0 {
            return write!(f, "script: {}", self.fault);
        }
        // A tab stays one, so that the caret stands below its place however wide a tab is shown.
        let blanks: String = self
            .text
            .chars()
            .take(self.caret)
            .map(|c| if c == '\t' { c } else { ' ' })
            .collect();
        write!(
            f,
            "script, line {}, column {}: {}\n  {}\n  {blanks}^",
            self.line, self.column, self.fault, self.text
        )
    }
}

impl std::error::Error for ScriptError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        None // The fault is already in the message.
    }
}
