//! What an operator sees while it runs, on stderr.
//!
//! The one idea: one picture of the run ([`Progress`]) and two ways to show it. On a terminal a few lines are redrawn in
//! place; elsewhere one plain line goes out per second, or per interval where that is longer, so that a log stays
//! readable. Either way a finished stage leaves one line behind.
//!
//! A view that cannot be written is no reason to end a run: such errors are passed over.

mod frame;
mod screen;

use std::io::Write;

use super::units::{count, duration_us, or_dash, rate, seconds};
use crate::result::{StageHead, StageResult, WINDOW_SAMPLES_BEYOND, quantile_us};
use crate::tally::Interval;
use frame::Progress;
use screen::Screen;

/// What is shown while it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Live {
    /// Redrawn in place when stderr is a terminal, plain lines otherwise.
    #[default]
    Auto,
    /// Redrawn in place.
    On,
    /// One plain line per second.
    Plain,
    /// Nothing but what went wrong.
    Off,
}

pub(super) struct View {
    shown: Shown,
    err: Box<dyn Write + Send>,
    progress: Progress,
}

enum Shown {
    Nothing,
    /// What happened since the last line.
    Plain(Option<Box<Interval>>),
    Screen(Screen),
}

impl View {
    pub(super) fn new(live: Live, err: Box<dyn Write + Send>, is_terminal: bool) -> Self {
        let shown = match live {
            Live::Off => Shown::Nothing,
            Live::On => Shown::Screen(Screen::default()),
            Live::Auto if is_terminal => Shown::Screen(Screen::default()),
            Live::Auto | Live::Plain => Shown::Plain(None),
        };
        Self {
            shown,
            err,
            progress: Progress::default(),
        }
    }

    pub(super) fn stage_begins(&mut self, head: &StageHead, seconds_planned: Option<f64>) {
        self.progress = Progress::of(head.clone(), seconds_planned);
    }

    pub(super) fn interval(&mut self, interval: &Interval) {
        self.progress.add(interval);
        match &mut self.shown {
            Shown::Nothing => {}
            Shown::Plain(pending) => {
                let since = match pending.take() {
                    None => Box::new(interval.clone()),
                    Some(mut since) => {
                        since.add(interval);
                        since.open = interval.open;
                        since
                    }
                };
                if since.until_ns.saturating_sub(since.from_ns) >= PLAIN_NS_MIN {
                    let line = plain_line(&self.progress, &since);
                    self.write(&(line + "\n"));
                } else {
                    *pending = Some(since);
                }
            }
            Shown::Screen(screen) => {
                let text = screen.draw(&self.progress, interval, screen::size());
                self.write(&text);
            }
        }
    }

    pub(super) fn stage_ends(&mut self, stage: &StageResult) {
        match &mut self.shown {
            Shown::Nothing => {}
            Shown::Plain(pending) => {
                *pending = None;
                self.write(&(stage_line(stage) + "\n"));
            }
            Shown::Screen(screen) => {
                let text = screen.erase(screen::size()) + &stage_line(stage) + "\n";
                self.write(&text);
            }
        }
    }

    /// A line that stays. It is told even where nothing else is shown.
    pub(super) fn say(&mut self, text: &str) {
        let text = match &mut self.shown {
            Shown::Screen(screen) => screen.insert(text, screen::size()),
            _ => format!("{text}\n"),
        };
        self.write(&text);
    }

    /// Leaves the terminal as it was.
    pub(super) fn end(&mut self) {
        if let Shown::Screen(screen) = &mut self.shown {
            let text = screen.erase(screen::size());
            self.write(&text);
        }
    }

    fn write(&mut self, text: &str) {
        // One write for all of it, so that nobody sees half a picture.
        let _ = self.err.write_all(text.as_bytes());
        let _ = self.err.flush();
    }
}

impl Drop for View {
    fn drop(&mut self) {
        self.end();
    }
}

/// The line of one second.
fn plain_line(progress: &Progress, since: &Interval) -> String {
    let length_s = since.until_ns.saturating_sub(since.from_ns) as f64 / 1e9;
    let per_second = |count: u64| rate(count as f64 / length_s);
    let at = |quantile| {
        let value = quantile_us(&since.latency, quantile, WINDOW_SAMPLES_BEYOND);
        or_dash(value, duration_us)
    };
    let longest = (!since.latency.is_empty()).then(|| since.latency.max() as f64 / 1e3);
    let planned = progress.rate_planned().map_or_else(String::new, |planned| {
        format!("  planned {}/s", rate(planned))
    });
    format!(
        "{} {}{planned}  sent {}/s  completed {}/s  p50 {}  p99 {}  max {}  connections {}  errors {}",
        progress.name(),
        seconds(progress.elapsed_s()),
        per_second(since.counts.sent_in_time()),
        per_second(since.counts.completed_in_time()),
        at(0.5),
        at(0.99),
        or_dash(longest, duration_us),
        count(since.open),
        count(since.counts.faults_total()),
    )
}

/// The line that a stage leaves behind.
fn stage_line(stage: &StageResult) -> String {
    format!(
        "{} done after {}: completed {}/s  p50 {}  p99 {}  max {}  connections {}  errors {}",
        stage.name,
        seconds(stage.seconds),
        rate(stage.rates.completed),
        or_dash(stage.latency.p50_us, duration_us),
        or_dash(stage.latency.p99_us, duration_us),
        or_dash(stage.latency.max_us, duration_us),
        count(stage.connections),
        count(stage.counts.faults.values().sum()),
    )
}

/// A second, less what a timer may be early.
const PLAIN_NS_MIN: u64 = 990_000_000;

#[cfg(test)]
mod tests;
