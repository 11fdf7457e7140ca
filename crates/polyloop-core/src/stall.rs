//! Which loops are stuck, and when to say so.
//!
//! One idea: a loop publishes its turn number and what it is dispatching, in plain stores and without a clock; the
//! watchdog samples that every few milliseconds and brings the clock. A loop that is at work and whose turn has not
//! changed for the threshold is stuck. It is reported *while* it is stuck, at the threshold and at every doubling of
//! it, at most [`REPORTS_PER_MINUTE`] times a minute and loop; what was left out is counted in the next report.
//!
//! ```text
//!            same turn for the threshold
//!  turning ------------------------------> stuck --+ report at 1, 2, 4, ... thresholds
//!     ^                                      |  <--+
//!     +---- another turn, or idle: Recovered-+
//! ```
//!
//! A turn may be long because one handler does not return, or because many dispatches add up; the two have
//! different cures. [`Stuck::dispatch_since`] tells them apart: it is later than `since` when the dispatch changed.
//!
//! Deliberately absent: reading the published values, and finding out what the thread waits for. Times are
//! nanoseconds of one monotonic clock. A stall is measured from the first sample that showed it, so it lasted at least
//! as long as reported and at most one sampling interval longer.

use std::time::Duration;

#[cfg(test)]
mod tests;

/// The most reports of stuck turns per loop in any 60 seconds.
pub const REPORTS_PER_MINUTE: usize = 5;

/// The threshold unless told otherwise: 100 ms, which is a thousand times what a handler should take and still below
/// what people notice.
pub const THRESHOLD_DEFAULT: Duration = Duration::from_millis(100);

/// What a loop has published, as the watchdog read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sample {
    /// The number of the turn the loop is in.
    pub turn: u64,
    /// The phase of the turn.
    pub phase: u8,
    /// What is being dispatched: a token or a sequence number.
    pub dispatch: u64,
    /// The loop waits for events, which may take for ever.
    pub idle: bool,
}

/// A loop that does not turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stuck {
    /// What it published.
    pub sample: Sample,
    /// When the turn was first seen, in nanoseconds.
    pub since: u64,
    /// When the dispatch was first seen, in nanoseconds: equal to `since` when one dispatch holds the whole turn.
    pub dispatch_since: u64,
    /// How long the turn has lasted, at least.
    pub stuck_for: Duration,
    /// The how-manieth report of this stall, from 1; those left out are counted.
    pub count: u32,
    /// Reports of this loop that were left out since the last one, to keep the rate.
    pub suppressed: u32,
}

/// Something to tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Report {
    /// A loop is stuck, now.
    Stuck(Stuck),
    /// A loop that was reported stuck turns again.
    Recovered {
        /// When the turn was first seen, in nanoseconds.
        since: u64,
        /// How long the turn lasted, up to one sampling interval.
        stuck_for: Duration,
        /// How many reports the stall was worth, those left out included.
        count: u32,
    },
}

/// Watches all loops. Belongs to the watchdog: each sampling round calls [`observe`](Self::observe) once per loop.
#[derive(Debug, Clone)]
pub struct StallDetector {
    threshold_ns: u64,
    loops: Vec<Watched>,
}

/// What is known of one loop.
#[derive(Debug, Clone, Default)]
struct Watched {
    /// The turn under way; `None` while the loop is idle or not yet seen.
    turn: Option<Turn>,
    /// When the last reports were made; a ring, `None` where there was none yet.
    reported_at: [Option<u64>; REPORTS_PER_MINUTE],
    reported_next: usize,
    suppressed: u32,
    stalls: u64,
}

#[derive(Debug, Clone, Copy)]
struct Turn {
    number: u64,
    since: u64,
    dispatch: u64,
    dispatch_since: u64,
    /// The age at which the next report is due. Above the threshold once the turn is a stall.
    report_age_ns: u64,
    /// Reports due so far, made or left out.
    count: u32,
    /// At least one of them was made, so that its end is worth telling.
    told: bool,
}

impl StallDetector {
    /// A detector for `loops` loops. A threshold of zero is taken as one nanosecond.
    #[must_use]
    pub fn new(loops: usize, threshold: Duration) -> Self {
        let threshold_ns = u64::try_from(threshold.as_nanos())
            .unwrap_or(u64::MAX)
            .max(1);
        Self {
            threshold_ns,
            loops: vec![Watched::default(); loops],
        }
    }

    /// Takes a sample of a loop at `now` (nanoseconds) and says what there is to tell.
    ///
    /// # Panics
    /// When `index` is no loop of this detector.
    pub fn observe(&mut self, index: usize, now: u64, sample: Sample) -> Option<Report> {
        let watched = &mut self.loops[index];
        let Some(turn) = watched
            .turn
            .as_mut()
            .filter(|turn| !sample.idle && turn.number == sample.turn)
        else {
            let ended = watched.turn.take();
            if !sample.idle {
                watched.turn = Some(Turn::new(sample, now, self.threshold_ns));
            }
            return ended.and_then(|turn| turn.recover(now));
        };
        if turn.dispatch != sample.dispatch {
            turn.dispatch = sample.dispatch;
            turn.dispatch_since = now;
        }
        let age_ns = now.saturating_sub(turn.since);
        if age_ns < turn.report_age_ns {
            return None;
        }
        if turn.count == 0 {
            watched.stalls += 1;
        }
        turn.count += 1;
        // A watchdog that was late itself makes one report, not one for each doubling it missed. At the top of the
        // range (584 years) saturation ends the loop as well.
        while turn.report_age_ns <= age_ns && turn.report_age_ns < u64::MAX {
            turn.report_age_ns = turn.report_age_ns.saturating_mul(2);
        }
        let oldest = &mut watched.reported_at[watched.reported_next];
        if oldest.is_some_and(|at| now.saturating_sub(at) < MINUTE_NS) {
            watched.suppressed = watched.suppressed.saturating_add(1);
            return None;
        }
        *oldest = Some(now);
        watched.reported_next = (watched.reported_next + 1) % REPORTS_PER_MINUTE;
        turn.told = true;
        Some(Report::Stuck(Stuck {
            sample,
            since: turn.since,
            dispatch_since: turn.dispatch_since,
            stuck_for: Duration::from_nanos(age_ns),
            count: turn.count,
            suppressed: std::mem::take(&mut watched.suppressed),
        }))
    }

    /// Whether the loop was stuck when last observed: others skip it and may accept in its stead.
    ///
    /// # Panics
    /// When `index` is no loop of this detector.
    #[must_use]
    pub fn is_stuck(&self, index: usize) -> bool {
        self.loops[index].turn.is_some_and(|turn| turn.count > 0)
    }

    /// How many stalls the loop has had, reported or not. For metrics.
    ///
    /// # Panics
    /// When `index` is no loop of this detector.
    #[must_use]
    pub fn stalls(&self, index: usize) -> u64 {
        self.loops[index].stalls
    }
}

impl Turn {
    fn new(sample: Sample, now: u64, threshold_ns: u64) -> Self {
        Self {
            number: sample.turn,
            since: now,
            dispatch: sample.dispatch,
            dispatch_since: now,
            report_age_ns: threshold_ns,
            count: 0,
            told: false,
        }
    }

    /// The turn is over. Only a stall that was told of has an end to tell of.
    fn recover(self, now: u64) -> Option<Report> {
        self.told.then(|| Report::Recovered {
            since: self.since,
            stuck_for: Duration::from_nanos(now.saturating_sub(self.since)),
            count: self.count,
        })
    }
}

const MINUTE_NS: u64 = 60_000_000_000;
