//! The picture of a stage while it runs, as lines of text.
//!
//! The one idea: pure. It is given intervals and a width and answers lines that fit; nothing here knows of a terminal.

use std::collections::VecDeque;

use super::super::units::{count, duration_us, or_dash, rate, seconds};
use crate::result::{StageHead, WINDOW_SAMPLES_BEYOND, fault_key, quantile_us};
use crate::tally::{Counts, Interval};

/// How far back the curves go, in intervals.
const CURVE_LEN: usize = 40;

/// Characters of the bar of progress.
const BAR_LEN: usize = 20;

/// A stage so far.
#[derive(Debug, Default)]
pub(super) struct Progress {
    head: Option<StageHead>,
    seconds_planned: Option<f64>,
    from_ns: Option<u64>,
    until_ns: u64,
    /// All of the stage's; only its faults are shown.
    counts: Counts,
    completed_per_s: VecDeque<Option<f64>>,
    p99_us: VecDeque<Option<f64>>,
}

impl Progress {
    pub(super) fn of(head: StageHead, seconds_planned: Option<f64>) -> Self {
        Self {
            head: Some(head),
            seconds_planned,
            ..Self::default()
        }
    }

    pub(super) fn add(&mut self, interval: &Interval) {
        self.from_ns.get_or_insert(interval.from_ns);
        self.until_ns = interval.until_ns;
        self.counts.add(&interval.counts);
        let completed = per_second(interval, interval.counts.completed_in_time());
        remember(&mut self.completed_per_s, Some(completed));
        let p99_us = quantile_us(&interval.latency, 0.99, WINDOW_SAMPLES_BEYOND);
        remember(&mut self.p99_us, p99_us);
    }

    pub(super) fn name(&self) -> &str {
        self.head.as_ref().map_or("", |head| &head.name)
    }

    pub(super) fn rate_planned(&self) -> Option<f64> {
        self.head.as_ref().and_then(|head| head.rate_planned)
    }

    pub(super) fn elapsed_s(&self) -> f64 {
        let from_ns = self.from_ns.unwrap_or(self.until_ns);
        self.until_ns.saturating_sub(from_ns) as f64 / 1e9
    }

    /// The picture after `last`, in lines of at most `width` characters.
    pub(super) fn lines(&self, last: &Interval, width: usize) -> Vec<String> {
        let at = |quantile| {
            let value = quantile_us(&last.latency, quantile, WINDOW_SAMPLES_BEYOND);
            or_dash(value, duration_us)
        };
        let longest = (!last.latency.is_empty()).then(|| last.latency.max() as f64 / 1e3);
        let planned = self.rate_planned().map_or_else(
            || "closed loop".to_owned(),
            |planned| format!("planned {}/s", rate(planned)),
        );
        let lines = [
            self.progress_line(),
            format!(
                "rate     {planned}  sent {}/s  completed {}/s",
                rate(per_second(last, last.counts.sent_in_time())),
                rate(per_second(last, last.counts.completed_in_time()))
            ),
            curve_line("completed", &self.completed_per_s, |top| {
                format!("{}/s", rate(top))
            }),
            format!(
                "latency  p50 {}  p99 {}  max {}",
                at(0.5),
                at(0.99),
                or_dash(longest, duration_us)
            ),
            curve_line("p99", &self.p99_us, duration_us),
            format!(
                "         connections {}  {}",
                count(last.open),
                self.errors()
            ),
        ];
        lines
            .into_iter()
            .map(|line| line.chars().take(width).collect())
            .collect()
    }

    fn progress_line(&self) -> String {
        let elapsed_s = self.elapsed_s();
        // A warm-up goes on beyond its time while the pace is not steady; nobody knows how long.
        let bar_s = self.seconds_planned;
        let Some(planned_s) = bar_s.filter(|bar_s| *bar_s > 0.0 && elapsed_s <= *bar_s) else {
            return format!("{:<8} {}", self.name(), seconds(elapsed_s));
        };
        let share = (elapsed_s / planned_s).clamp(0.0, 1.0);
        let full = (share * BAR_LEN as f64).round() as usize;
        let bar = "█".repeat(full) + &"░".repeat(BAR_LEN - full);
        let left_s = (planned_s - elapsed_s).max(0.0);
        format!(
            "{:<8} {bar} {} of {}, {} left",
            self.name(),
            seconds(elapsed_s),
            seconds(planned_s),
            seconds(left_s)
        )
    }

    /// The number of faults, and the most frequent kinds.
    fn errors(&self) -> String {
        let total = self.counts.faults_total();
        if total == 0 {
            return "errors 0".to_owned();
        }
        let mut kinds: Vec<_> = self.counts.faults.iter().collect();
        kinds.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        let kinds: Vec<String> = kinds
            .into_iter()
            .map(|(fault, number)| format!("{} {}", fault_key(*fault), count(*number)))
            .collect();
        format!("errors {}: {}", count(total), kinds.join(", "))
    }
}

fn per_second(interval: &Interval, count: u64) -> f64 {
    let length_ns = interval.until_ns.saturating_sub(interval.from_ns).max(1);
    count as f64 * 1e9 / length_ns as f64
}

fn remember(curve: &mut VecDeque<Option<f64>>, value: Option<f64>) {
    if curve.len() == CURVE_LEN {
        curve.pop_front();
    }
    curve.push_back(value);
}

/// A curve and what its top stands for.
fn curve_line(name: &str, curve: &VecDeque<Option<f64>>, show: impl Fn(f64) -> String) -> String {
    let top = curve.iter().flatten().copied().fold(0.0, f64::max);
    let points: String = curve.iter().map(|value| point(*value, top)).collect();
    if top > 0.0 {
        format!("         {points}  {name}, up to {}", show(top))
    } else {
        format!("         {points}")
    }
}

/// A character as high as `value` is beside `top`; a blank where nothing is known.
fn point(value: Option<f64>, top: f64) -> char {
    const HEIGHTS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let Some(value) = value else { return ' ' };
    if top <= 0.0 {
        return HEIGHTS[0];
    }
    let height = (value / top * HEIGHTS.len() as f64).ceil() as usize;
    HEIGHTS[height.clamp(1, HEIGHTS.len()) - 1]
}
