//! Lines that are redrawn in place with plain ANSI sequences.
//!
//! The one idea: go up over what was drawn, write each line over the old one and clear what is left of it. Nothing is
//! blanked first, so nothing flickers; no mode of the terminal is changed, so nothing has to be put back but the lines.

use std::io::stderr;

use super::frame::Progress;
use crate::tally::Interval;

/// Columns and rows of the terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Size {
    pub(super) columns: usize,
    pub(super) rows: usize,
}

/// Where there is no terminal to ask.
const SIZE_ASSUMED: Size = Size {
    columns: 80,
    rows: 24,
};

/// Redrawing more often than this is work for nobody's eyes.
const REDRAW_NS_MIN: u64 = 90_000_000;

/// What stands on the screen.
#[derive(Debug, Default)]
pub(super) struct Screen {
    drawn: Vec<String>,
    drawn_until_ns: u64,
}

impl Screen {
    /// What to write after an interval; nothing when the last picture is too fresh.
    pub(super) fn draw(&mut self, progress: &Progress, last: &Interval, size: Size) -> String {
        let is_fresh = last.until_ns.saturating_sub(self.drawn_until_ns) < REDRAW_NS_MIN;
        if is_fresh && !self.drawn.is_empty() {
            return String::new();
        }
        self.drawn_until_ns = last.until_ns;
        let up = self.up(size);
        // The last column is left free, as some terminals wrap when it is filled; so is the last row, for the cursor.
        let mut lines = progress.lines(last, size.columns.saturating_sub(1));
        lines.truncate(size.rows.saturating_sub(1));
        self.drawn = lines;
        up + &self.redrawn()
    }

    /// What to write to put a line above the picture.
    pub(super) fn insert(&mut self, text: &str, size: Size) -> String {
        format!("{}{CLEAR_BELOW}{text}\n{}", self.up(size), self.redrawn())
    }

    /// What to write to take the picture away.
    pub(super) fn erase(&mut self, size: Size) -> String {
        if self.drawn.is_empty() {
            return String::new();
        }
        let text = self.up(size) + CLEAR_BELOW;
        self.drawn.clear();
        text
    }

    /// To the first line of the picture, which may have been wrapped since by a terminal that became narrower.
    fn up(&self, size: Size) -> String {
        let columns = size.columns.max(1);
        let rows: usize = self
            .drawn
            .iter()
            .map(|line| line.chars().count().div_ceil(columns).max(1))
            .sum();
        match rows {
            0 => String::new(),
            rows => format!("\r\x1b[{rows}A"),
        }
    }

    fn redrawn(&self) -> String {
        let mut text = String::new();
        for line in &self.drawn {
            text.push_str(line);
            text.push_str("\x1b[K\n");
        }
        if !text.is_empty() {
            text.push_str(CLEAR_BELOW);
        }
        text
    }
}

const CLEAR_BELOW: &str = "\x1b[J";

/// The size of the terminal on stderr now.
pub(super) fn size() -> Size {
    match rustix::termios::tcgetwinsize(stderr()) {
        Ok(size) if size.ws_col > 0 && size.ws_row > 0 => Size {
            columns: size.ws_col.into(),
            rows: size.ws_row.into(),
        },
        _ => SIZE_ASSUMED,
    }
}
