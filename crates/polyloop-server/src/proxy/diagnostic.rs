//! What is wrong with flags and files, told as a compiler tells it.
//!
//! ```text
//!   proxy.toml:12:1: error: "idle-timout" is no setting of a listener; did you mean "idle-timeout"?
//!      12 | idle-timout = "5m"
//!         | ^^^^^^^^^^^
//! ```
//!
//! The one idea: mistakes are collected, not thrown, so that one run tells all of them, in the order of the file.

use std::fmt::Write as _;
use std::ops::Range;
use std::path::PathBuf;

/// A file that was read.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    /// Its path, as typed.
    pub(crate) path: PathBuf,
    /// Its text.
    pub(crate) text: String,
}

impl Source {
    /// Line and column (in characters) of a byte, both from 1.
    pub(crate) fn place(&self, byte: usize) -> (usize, usize) {
        let before = &self.text[..self.boundary(byte)];
        let start = before.rfind('\n').map_or(0, |at| at + 1);
        let line = before.bytes().filter(|&byte| byte == b'\n').count() + 1;
        (line, before[start..].chars().count() + 1)
    }

    /// `path:line` of a byte.
    pub(crate) fn line_of(&self, byte: usize) -> String {
        format!("{}:{}", self.path.display(), self.place(byte).0)
    }

    /// The line of a byte, without its end, and where it begins.
    fn line(&self, byte: usize) -> (usize, &str) {
        let byte = self.boundary(byte);
        let start = self.text[..byte].rfind('\n').map_or(0, |at| at + 1);
        let end = self.text[byte..]
            .find('\n')
            .map_or(self.text.len(), |at| byte + at);
        (start, self.text[start..end].trim_end_matches('\r'))
    }

    /// The beginning of the character that a byte belongs to, or the end of the text.
    fn boundary(&self, byte: usize) -> usize {
        self.text.floor_char_boundary(byte)
    }
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Severity {
    /// It cannot be meant.
    Error,
    /// It can be meant, and rarely is.
    Warning,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Diagnostic {
    /// How bad it is.
    pub(crate) severity: Severity,
    /// Where, in bytes of the file; `None` if it is about a flag.
    pub(crate) span: Option<Range<usize>>,
    /// What, why, and the way out.
    pub(crate) message: String,
}

/// All that is wrong.
#[derive(Debug, Default)]
pub(crate) struct Diagnostics {
    all: Vec<Diagnostic>,
}

impl Diagnostics {
    pub(crate) fn error(&mut self, span: Option<Range<usize>>, message: impl Into<String>) {
        self.add(Severity::Error, span, message.into());
    }

    pub(crate) fn warn(&mut self, span: Option<Range<usize>>, message: impl Into<String>) {
        self.add(Severity::Warning, span, message.into());
    }

    fn add(&mut self, severity: Severity, span: Option<Range<usize>>, message: String) {
        let diagnostic = Diagnostic {
            severity,
            span,
            message,
        };
        // Two checks may come to the same finding.
        if !self.all.contains(&diagnostic) {
            self.all.push(diagnostic);
        }
    }

    pub(crate) fn errors(&self) -> usize {
        let is_error = |diagnostic: &&Diagnostic| diagnostic.severity == Severity::Error;
        self.all.iter().filter(is_error).count()
    }

    pub(crate) fn warnings(&self) -> usize {
        self.all.len() - self.errors()
    }

    /// All of them as text, in the order of the file, those about flags first.
    pub(crate) fn render(&self, source: Option<&Source>) -> String {
        let mut ordered: Vec<_> = self.all.iter().collect();
        ordered.sort_by_key(|diagnostic| diagnostic.span.as_ref().map(|span| span.start));
        let mut text = String::new();
        for diagnostic in ordered {
            render(&mut text, diagnostic, source);
        }
        text
    }

    /// The messages alone, with their place, one a line.
    #[cfg(test)]
    pub(crate) fn brief(&self, source: Option<&Source>) -> Vec<String> {
        let text = self.render(source);
        let is_message = |line: &&str| !line.starts_with(' ');
        text.lines().filter(is_message).map(str::to_owned).collect()
    }
}

fn render(text: &mut String, diagnostic: &Diagnostic, source: Option<&Source>) {
    let severity = match diagnostic.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    };
    let message = &diagnostic.message;
    let (Some(source), Some(span)) = (source, diagnostic.span.as_ref()) else {
        let _ = writeln!(text, "{severity}: {message}");
        return;
    };
    let (line, column) = source.place(span.start);
    let path = source.path.display();
    // Writing to a string cannot fail.
    let _ = writeln!(text, "{path}:{line}:{column}: {severity}: {message}");
    excerpt(text, source, span, line);
}

/// The line, and marks under what is meant. Of a long line, the part around it.
fn excerpt(text: &mut String, source: &Source, span: &Range<usize>, number: usize) {
    let (start, line) = source.line(span.start);
    let visible = |c: char| {
        if c.is_control() || is_reordering(c) {
            ' '
        } else {
            c
        }
    };
    let chars: Vec<char> = line.chars().map(visible).collect();
    let count_to = |byte: usize| {
        let within = source.boundary(byte).saturating_sub(start).min(line.len());
        line[..line.floor_char_boundary(within)].chars().count()
    };
    let (from, to) = (count_to(span.start), count_to(span.end));
    let skip = from.saturating_sub(LINE_CHARS_MAX / 2);
    let shown: String = chars.iter().skip(skip).take(LINE_CHARS_MAX).collect();
    let marks = to.saturating_sub(from).clamp(1, LINE_CHARS_MAX / 2);
    let width = number.to_string().len().max(4);
    let indent = from - skip;
    let _ = writeln!(text, "{number:>width$} | {}", shown.trim_end());
    let _ = writeln!(text, "{:>width$} | {:indent$}{}", "", "", "^".repeat(marks));
}

/// Characters that would change what a terminal shows around them.
fn is_reordering(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{2028}' | '\u{2029}')
}

/// A line of a terminal, roughly.
const LINE_CHARS_MAX: usize = 120;

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Source {
        Source {
            path: "x.toml".into(),
            text: text.to_owned(),
        }
    }

    fn told(text: &str, span: Range<usize>) -> String {
        let mut diagnostics = Diagnostics::default();
        diagnostics.error(Some(span), "wrong");
        diagnostics.render(Some(&source(text)))
    }

    #[test]
    fn the_line_and_the_place_are_shown() {
        // Goal: an editor can jump there, a person sees it. Method: the first, a middle and the last line.
        let text = "a = 1\nbad = 2\r\nlast = \"x\"";
        assert_eq!(
            told(text, 6..9),
            "x.toml:2:1: error: wrong\n   2 | bad = 2\n     | ^^^\n"
        );
        let expected = "x.toml:3:8: error: wrong\n   3 | last = \"x\"\n     |        ^^^\n";
        assert_eq!(told(text, 22..25), expected);
        assert!(told(text, 0..100).contains("   1 | a = 1\n     | ^^^^^\n"));
        assert!(told("", 0..0).contains("x.toml:1:1: error"));
        assert!(told("a\n", 2..2).contains("x.toml:2:1: error"));
    }

    #[test]
    fn columns_count_characters_and_nothing_is_let_through() {
        // Goal: no terminal is driven by a file, and no byte index splits a character. Method: odd text, every span.
        let text = "k = \"\u{e9}\u{1b}[31m\u{202e}\" x\n\t# \u{1f980}";
        assert!(told(text, 6..7).contains(":1:6:"), "{}", told(text, 6..7));
        for start in 0..=text.len() {
            for end in start..=text.len() + 1 {
                let told = told(text, start..end);
                assert!(!told.contains(['\u{1b}', '\u{202e}', '\t']), "{told}");
            }
        }
        let long = format!("{}bad", "x".repeat(10_000));
        let told = told(&long, 10_000..10_003);
        assert!(
            told.lines().all(|line| line.chars().count() < 140),
            "{told}"
        );
        assert!(told.contains(":1:10001:") && told.contains("bad"), "{told}");
    }

    #[test]
    fn all_are_told_in_the_order_of_the_file() {
        // Goal: one pass mends everything. Method: out of order, twice, and about a flag.
        let mut diagnostics = Diagnostics::default();
        diagnostics.warn(Some(6..7), "second");
        diagnostics.error(Some(0..1), "first");
        diagnostics.error(Some(0..1), "first");
        diagnostics.error(None, "--flag: zeroth");
        assert_eq!((diagnostics.errors(), diagnostics.warnings()), (2, 1));
        let brief = diagnostics.brief(Some(&source("a = 1\nb = 2\n")));
        let expected = [
            "error: --flag: zeroth",
            "x.toml:1:1: error: first",
            "x.toml:2:1: warning: second",
        ];
        assert_eq!(brief, expected);
    }
}
