//! A line in the making, in either format.
//!
//! The one idea: the two formats differ in separators and in whether quotes may be left out, and in nothing else. A
//! quoted text is a JSON string in both.

use std::fmt::Write as _;

use polyloop::PeerAddr;

use super::{TEXT_BYTES_MAX, time};
use crate::settings::AccessLogFormat;

/// Appends fields to a buffer; [`begin`](Self::begin) first, [`end`](Self::end) last.
pub(super) struct Line<'o> {
    out: &'o mut String,
    format: AccessLogFormat,
    is_first: bool,
}

impl<'o> Line<'o> {
    pub(super) fn begin(format: AccessLogFormat, out: &'o mut String) -> Self {
        if format == AccessLogFormat::Json {
            out.push('{');
        }
        Self {
            out,
            format,
            is_first: true,
        }
    }

    pub(super) fn end(self) {
        self.out.push_str(match self.format {
            AccessLogFormat::Json => "}\n",
            AccessLogFormat::Logfmt => "\n",
        });
    }

    pub(super) fn number(&mut self, key: &str, value: u64) {
        self.key(key);
        self.write(format_args!("{value}"));
    }

    pub(super) fn time(&mut self, key: &str, unix_ms: u64) {
        self.key(key);
        self.bare(time::Rfc3339(unix_ms));
    }

    pub(super) fn address(&mut self, key: &str, addr: PeerAddr) {
        self.key(key);
        self.bare(addr);
    }

    /// The name of a unix socket, an abstract one with `@` in the place of its zero byte, as `ss` shows it.
    pub(super) fn unix(&mut self, key: &str, name: &[u8]) {
        match name.split_first() {
            Some((0, abstract_name)) => self.text_behind(key, "unix:@", abstract_name),
            _ => self.text_behind(key, "unix:", name),
        }
    }

    pub(super) fn text(&mut self, key: &str, value: &[u8]) {
        self.text_behind(key, "", value);
    }

    /// `prefix`, of harmless ASCII, and a text from anywhere.
    fn text_behind(&mut self, key: &str, prefix: &str, value: &[u8]) {
        self.key(key);
        let is_bare = self.format == AccessLogFormat::Logfmt
            && value.len() + prefix.len() > 0
            && value.len() <= TEXT_BYTES_MAX
            && value.iter().all(|byte| is_bare(*byte));
        if !is_bare {
            self.out.push('"');
        }
        self.out.push_str(prefix);
        push_escaped(self.out, value);
        if !is_bare {
            self.out.push('"');
        }
    }

    /// A value whose characters are all harmless.
    fn bare(&mut self, value: impl std::fmt::Display) {
        match self.format {
            AccessLogFormat::Json => self.write(format_args!("\"{value}\"")),
            AccessLogFormat::Logfmt => self.write(format_args!("{value}")),
        }
    }

    /// The keys are ours, and need no escaping.
    fn key(&mut self, key: &str) {
        let is_first = std::mem::replace(&mut self.is_first, false);
        match self.format {
            AccessLogFormat::Json => {
                let comma = if is_first { "" } else { "," };
                self.write(format_args!("{comma}\"{key}\":"));
            }
            AccessLogFormat::Logfmt => {
                let space = if is_first { "" } else { " " };
                self.write(format_args!("{space}{key}="));
            }
        }
    }

    fn write(&mut self, text: std::fmt::Arguments<'_>) {
        // Writing to a string fails only when a `Display` does, and none of ours does.
        let _ = self.out.write_fmt(text);
    }
}

/// Whether logfmt takes this byte without quotes: visible ASCII but what quotes, separates or escapes.
const fn is_bare(byte: u8) -> bool {
    byte.is_ascii_graphic() && !matches!(byte, b'"' | b'=' | b'\\')
}

/// Appends at most [`TEXT_BYTES_MAX`] bytes of `value` as the inside of a JSON string, and an ellipsis for the rest.
fn push_escaped(out: &mut String, value: &[u8]) {
    let mut room = TEXT_BYTES_MAX;
    for chunk in value.utf8_chunks() {
        let replaced = (!chunk.invalid().is_empty())
            .then_some((char::REPLACEMENT_CHARACTER, chunk.invalid().len()));
        let valid = chunk.valid().chars().map(|valid| (valid, valid.len_utf8()));
        for (character, taken) in valid.chain(replaced) {
            if taken > room {
                out.push('…');
                return;
            }
            room -= taken;
            push_character(out, character);
        }
    }
}

fn push_character(out: &mut String, character: char) {
    match character {
        '"' => out.push_str("\\\""),
        '\\' => out.push_str("\\\\"),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        hidden if is_hidden(hidden) => {
            for unit in hidden.encode_utf16(&mut [0; 2]) {
                let _ = write!(out, "\\u{unit:04x}");
            }
        }
        shown => out.push(shown),
    }
}

/// Whether a character does something to a terminal, a log or a reader other than being seen: the control characters
/// C0, DEL and C1, line and paragraph separators, marks, embeddings, overrides and isolates of direction, what has no
/// width, and the tags that spell invisible text.
const fn is_hidden(character: char) -> bool {
    matches!(character,
        '\0'..='\u{1f}'
        | '\u{7f}'..='\u{9f}'
        | '\u{ad}'
        | '\u{61c}'
        | '\u{180e}'
        | '\u{200b}'..='\u{200f}'
        | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}'
        | '\u{feff}'
        | '\u{fff9}'..='\u{fffb}'
        | '\u{e0000}'..='\u{e007f}')
}
