//! What a loop records, and what it hands over once an interval.
//!
//! The one idea: recording is one clock read and an increment on the loop's own memory; merging, percentiles and files
//! are for the collector's thread, which is given a whole [`Interval`] at a time.
//!
//! All durations are nanoseconds. Histograms keep three digits from a nanosecond to two minutes and never lose a sample:
//! what is longer counts as the longest.

use hdrhistogram::Histogram;
use std::collections::BTreeMap;

/// The longest duration a histogram tells apart, in nanoseconds.
pub const LONGEST_NS: u64 = 120_000_000_000;

/// A histogram of durations in nanoseconds: three significant digits, up to [`LONGEST_NS`].
///
/// # Panics
/// Never: the bounds are constants that the library accepts.
#[must_use]
pub fn durations() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LONGEST_NS, 3).expect("the bounds are valid")
}

/// Counts of one loop over one interval, or of several added up.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// Requests whose planned time came.
    pub offered: u64,
    /// Requests sent.
    pub sent: u64,
    /// Requests answered, whole and right.
    pub completed: u64,
    /// Planned but not sent when the stage ended, since every connection that should have sent was waiting.
    pub unsent: u64,
    /// Sent, and not answered before the deadline or the end.
    pub unanswered: u64,
    /// Of those sent, the ones that went out in the grace: they were due, and their connections waited for answers until the stage
    /// was over. What was reached within the stage is without them.
    pub sent_late: u64,
    /// Of those answered, the ones that were sent late.
    pub completed_late: u64,
    /// Requests of the probe that were answered; they are in none of the other counts.
    pub probed: u64,
    /// Bytes written.
    pub bytes_out: u64,
    /// Bytes read.
    pub bytes_in: u64,
    /// Connections asked for.
    pub connects: u64,
    /// Connections made.
    pub connected: u64,
    /// Connections that ended as planned.
    pub closed: u64,
    /// What went wrong, by kind.
    pub faults: BTreeMap<Fault, u64>,
}

impl Counts {
    /// Adds another loop's, or a later interval's.
    pub fn add(&mut self, other: &Self) {
        self.offered += other.offered;
        self.sent += other.sent;
        self.completed += other.completed;
        self.unsent += other.unsent;
        self.unanswered += other.unanswered;
        self.sent_late += other.sent_late;
        self.completed_late += other.completed_late;
        self.probed += other.probed;
        self.bytes_out += other.bytes_out;
        self.bytes_in += other.bytes_in;
        self.connects += other.connects;
        self.connected += other.connected;
        self.closed += other.closed;
        for (fault, count) in &other.faults {
            *self.faults.entry(*fault).or_default() += count;
        }
    }

    /// Requests sent within the time of the stage.
    #[must_use]
    pub const fn sent_in_time(&self) -> u64 {
        self.sent.saturating_sub(self.sent_late)
    }

    /// Requests sent within the time of the stage, and answered whenever.
    #[must_use]
    pub const fn completed_in_time(&self) -> u64 {
        self.completed.saturating_sub(self.completed_late)
    }

    /// Counts one fault.
    pub fn fault(&mut self, fault: Fault) {
        *self.faults.entry(fault).or_default() += 1;
    }

    /// All faults together.
    #[must_use]
    pub fn faults_total(&self) -> u64 {
        self.faults.values().sum()
    }
}

/// What went wrong with a connection or a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fault {
    /// A connection could not be made; the number is the system's errno, 0 where it gave none.
    Connect(i32),
    /// A connection broke; the number is the system's errno.
    Broken(i32),
    /// The server finished a connection that should have gone on.
    Finished,
    /// An answer differed from what was expected.
    Garbage,
    /// No answer before the deadline.
    Timeout,
}

/// What one loop recorded in one interval.
#[derive(Debug, Clone)]
pub struct Interval {
    /// The stage it belongs to.
    pub stage: u32,
    /// The loop, counted from 0.
    pub loop_index: usize,
    /// Where it begins, on the monotonic clock.
    pub from_ns: u64,
    /// Where it ends.
    pub until_ns: u64,
    /// Connections open at its end.
    pub open: u64,
    /// Requests sent and not answered at its end.
    pub outstanding: u64,
    /// Whether it is the last of its stage.
    pub is_last: bool,
    /// Processor time that the loop's thread used in it, waiting for the next send included (`--spin`).
    pub cpu_ns: u64,
    /// Time in which it was at work: not asleep, and not waiting either.
    pub busy_ns: u64,
    /// What happened.
    pub counts: Counts,
    /// What is wrong with the first wrong answer, in words.
    pub first_wrong: Option<Box<str>>,
    /// From the planned send to the whole answer.
    pub latency: Histogram<u64>,
    /// From the actual send to the whole answer: what a closed-loop generator would show.
    pub uncorrected: Histogram<u64>,
    /// From the planned send to the actual one.
    pub lag: Histogram<u64>,
    /// The part of the lag in which the connection was free to send: the generator's own.
    pub own_lag: Histogram<u64>,
    /// Time to make a connection.
    pub connect: Histogram<u64>,
    /// As `latency`, of the probe's connections.
    pub probe: Histogram<u64>,
}

impl Interval {
    /// An interval in which nothing has happened.
    #[must_use]
    pub fn new(stage: u32, loop_index: usize, from_ns: u64) -> Self {
        Self {
            stage,
            loop_index,
            from_ns,
            until_ns: from_ns,
            open: 0,
            outstanding: 0,
            is_last: false,
            cpu_ns: 0,
            busy_ns: 0,
            counts: Counts::default(),
            first_wrong: None,
            latency: durations(),
            uncorrected: durations(),
            lag: durations(),
            own_lag: durations(),
            connect: durations(),
            probe: durations(),
        }
    }

    /// Empties it for another use, without giving its memory back.
    pub fn begin(&mut self, stage: u32, loop_index: usize, from_ns: u64) {
        self.stage = stage;
        self.loop_index = loop_index;
        self.from_ns = from_ns;
        self.until_ns = from_ns;
        self.open = 0;
        self.outstanding = 0;
        self.is_last = false;
        self.cpu_ns = 0;
        self.busy_ns = 0;
        self.counts = Counts::default();
        self.first_wrong = None;
        for histogram in [
            &mut self.latency,
            &mut self.uncorrected,
            &mut self.lag,
            &mut self.own_lag,
            &mut self.connect,
            &mut self.probe,
        ] {
            // An empty one is left alone: emptying walks through all of its memory.
            if !histogram.is_empty() {
                histogram.reset();
            }
        }
    }

    /// Adds what another loop recorded in the same interval, or the same loop in a later one. How many connections are open and
    /// requests outstanding is for the caller to add up: over loops it is a sum, over time it is the last.
    pub fn add(&mut self, other: &Self) {
        self.from_ns = self.from_ns.min(other.from_ns);
        self.until_ns = self.until_ns.max(other.until_ns);
        self.cpu_ns += other.cpu_ns;
        self.busy_ns += other.busy_ns;
        self.counts.add(&other.counts);
        if self.first_wrong.is_none() {
            self.first_wrong.clone_from(&other.first_wrong);
        }
        for (into, from) in [
            (&mut self.latency, &other.latency),
            (&mut self.uncorrected, &other.uncorrected),
            (&mut self.lag, &other.lag),
            (&mut self.own_lag, &other.own_lag),
            (&mut self.connect, &other.connect),
            (&mut self.probe, &other.probe),
        ] {
            // Adding walks through all of the memory, that of an empty one too.
            if !from.is_empty() {
                // Both have the same bounds, so that everything fits.
                let _ = into.add(from);
            }
        }
    }
}
