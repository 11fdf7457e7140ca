//! From text to a script.
//!
//! The one idea: a line is read by a cursor that knows its column, so that every error points at a place.

use super::error::{ScriptError, ScriptFault};
use super::status::StatusRule;
use super::{ANSWER_BYTES_MAX, Exchange, Expect, Mark, SCRIPT_BYTES_MAX, Script};
use crate::plan::sizes::parse_size;

/// Reads all lines.
pub(super) fn script(text: &str) -> Result<Script, ScriptError> {
    if text.len() > SCRIPT_BYTES_MAX {
        return Err(ScriptError::of_whole(ScriptFault::TooLong));
    }
    let mut exchanges: Vec<Exchange> = Vec::new();
    let mut last_send = None;
    for (number, line) in (1..).zip(text.lines()) {
        let mut cursor = Cursor::new(line);
        let step = cursor
            .step()
            .and_then(|step| step.map_or(Ok(()), |step| add(&mut exchanges, step, &mut cursor)));
        step.map_err(|fault| error_at(number, line, cursor.blamed, fault))?;
        if exchanges.last().is_some_and(|last| last.expects.is_empty()) && !cursor.is_blank {
            last_send = Some((number, line));
        }
    }
    match (exchanges.last(), last_send) {
        (None, _) => Err(ScriptError::of_whole(ScriptFault::Empty)),
        (Some(last), Some((number, line))) if last.expects.is_empty() => {
            let indent = line.len() - line.trim_start().len();
            Err(error_at(
                number,
                line,
                indent,
                ScriptFault::SendWithoutExpect,
            ))
        }
        _ => Ok(Script { exchanges }),
    }
}

/// A line's meaning.
enum Step {
    Send(Vec<u8>),
    Expect(Expect),
}

/// Puts a step where it belongs.
fn add(
    exchanges: &mut Vec<Exchange>,
    step: Step,
    cursor: &mut Cursor<'_>,
) -> Result<(), ScriptFault> {
    match (step, exchanges.last_mut()) {
        // Sends in a row are one request, in as many lines as its writer likes.
        (Step::Send(bytes), Some(last)) if last.expects.is_empty() => last.request.extend(bytes),
        (Step::Send(request), _) => exchanges.push(Exchange {
            request,
            expects: Vec::new(),
        }),
        (Step::Expect(_), None) => {
            cursor.blamed = cursor.step_at;
            return Err(ScriptFault::ExpectBeforeSend);
        }
        (Step::Expect(expect), Some(last)) => {
            let expect = for_request(expect, &last.request);
            last.expects.push(expect);
            let len: usize = last.expects.iter().map(least_len).sum();
            if len > ANSWER_BYTES_MAX {
                cursor.blamed = cursor.step_at;
                return Err(ScriptFault::AnswerTooLong);
            }
        }
    }
    Ok(())
}

/// What answers a `HEAD` has a length and no body.
fn for_request(expect: Expect, request: &[u8]) -> Expect {
    match expect {
        Expect::Http { status, .. } => Expect::Http {
            status,
            has_body: !request.starts_with(b"HEAD "),
        },
        other => other,
    }
}

/// How many bytes this takes at least.
const fn least_len(expect: &Expect) -> usize {
    match expect {
        Expect::Exactly(bytes) => bytes.len(),
        Expect::Length(len) => *len,
        Expect::Until(mark) => mark.bytes.len(),
        Expect::Http { .. } => 1,
    }
}

/// Reads one line from left to right. All places are in bytes.
struct Cursor<'a> {
    line: &'a str,
    at: usize,
    /// Where the step's word begins.
    step_at: usize,
    /// Where the fault is, if there is one.
    blamed: usize,
    /// Nothing but blanks or a comment.
    is_blank: bool,
}

impl<'a> Cursor<'a> {
    const fn new(line: &'a str) -> Self {
        Self {
            line,
            at: 0,
            step_at: 0,
            blamed: 0,
            is_blank: false,
        }
    }

    /// The step of this line, if it has one.
    fn step(&mut self) -> Result<Option<Step>, ScriptFault> {
        self.skip_blanks();
        self.step_at = self.at;
        if self.is_at_end() {
            self.is_blank = true;
            return Ok(None);
        }
        let word = self.word();
        let step = match word {
            "send" => Step::Send(self.string("send")?),
            "expect" => Step::Expect(Expect::Exactly(self.string("expect")?)),
            "expect-until" => Step::Expect(Expect::Until(Mark::new(self.string("expect-until")?))),
            "expect-bytes" => Step::Expect(Expect::Length(self.length()?)),
            "expect-http" => Step::Expect(self.http()?),
            _ => {
                self.blamed = self.step_at;
                return Err(ScriptFault::UnknownStep(shortened(word)));
            }
        };
        self.skip_blanks();
        if !self.is_at_end() {
            self.blamed = self.at;
            return Err(ScriptFault::TrailingText);
        }
        Ok(Some(step))
    }

    fn rest(&self) -> &'a str {
        &self.line[self.at..]
    }

    fn skip_blanks(&mut self) {
        self.at = self.line.len() - self.rest().trim_start().len();
    }

    /// Whether nothing follows but a comment.
    fn is_at_end(&self) -> bool {
        self.rest().is_empty() || self.rest().starts_with('#')
    }

    /// Everything up to the next blank, quote or comment.
    fn word(&mut self) -> &'a str {
        let rest = self.rest();
        let end = rest
            .find(|c: char| c.is_whitespace() || c == '"' || c == '#')
            .unwrap_or(rest.len());
        self.at += end;
        &rest[..end]
    }

    fn length(&mut self) -> Result<usize, ScriptFault> {
        self.skip_blanks();
        self.blamed = self.at;
        parse_size(self.word()).map_err(|_| ScriptFault::BadLength)
    }

    fn http(&mut self) -> Result<Expect, ScriptFault> {
        self.skip_blanks();
        self.blamed = self.at;
        let status = StatusRule::parse(self.word()).ok_or(ScriptFault::BadStatus)?;
        Ok(Expect::Http {
            status,
            has_body: true,
        })
    }

    /// A text in quotes, with what its escapes stand for.
    fn string(&mut self, step: &'static str) -> Result<Vec<u8>, ScriptFault> {
        self.skip_blanks();
        let start = self.at;
        self.blamed = start;
        if !self.rest().starts_with('"') {
            return Err(ScriptFault::MissingString(step));
        }
        self.at += 1;
        let mut bytes = Vec::new();
        loop {
            let Some(next) = self.rest().chars().next() else {
                return Err(ScriptFault::OpenString);
            };
            let place = self.at;
            self.at += next.len_utf8();
            match next {
                '"' if bytes.is_empty() => return Err(ScriptFault::EmptyString),
                '"' => return Ok(bytes),
                '\\' => {
                    let escaped = self.escape();
                    if !matches!(escaped, Err(ScriptFault::OpenString)) {
                        self.blamed = place;
                    }
                    bytes.push(escaped?);
                    self.blamed = start;
                }
                _ => bytes.extend(next.encode_utf8(&mut [0; 4]).bytes()),
            }
        }
    }

    /// What stands behind a backslash.
    fn escape(&mut self) -> Result<u8, ScriptFault> {
        let Some(letter) = self.rest().chars().next() else {
            return Err(ScriptFault::OpenString);
        };
        self.at += letter.len_utf8();
        match letter {
            'r' => Ok(b'\r'),
            'n' => Ok(b'\n'),
            't' => Ok(b'\t'),
            '0' => Ok(0),
            '"' => Ok(b'"'),
            '\\' => Ok(b'\\'),
            'x' => {
                let digits = self.rest().get(..2).ok_or(ScriptFault::BadHex)?;
                if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                    return Err(ScriptFault::BadHex);
                }
                self.at += 2;
                u8::from_str_radix(digits, 16).map_err(|_| ScriptFault::BadHex)
            }
            other => Err(ScriptFault::UnknownEscape(other)),
        }
    }
}

/// An error at byte `at` of a line. Long lines are cut around that place, so that the caret stays on the screen.
fn error_at(line: usize, text: &str, at: usize, fault: ScriptFault) -> ScriptError {
    let column = text[..at].chars().count();
    let skipped = column.saturating_sub(SHOWN_BEFORE);
    let shown: String = text.chars().skip(skipped).take(SHOWN).collect();
    ScriptError {
        line,
        column: column + 1,
        text: shown,
        caret: column - skipped,
        fault,
    }
}

fn shortened(word: &str) -> String {
    word.chars().take(40).collect()
}

/// Characters of a line in an error, and how many of them at most before the fault.
const SHOWN: usize = 100;
const SHOWN_BEFORE: usize = 60;
