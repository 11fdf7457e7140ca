//! The watchdog: sees a loop that does not turn, says why while it is stuck, and has it rescued.
//!
//! Loops publish what they are doing without a clock ([`Beat`](crate::telemetry::Beat)); this thread brings the
//! clock. Whether a stuck thread computes or waits in a system call is read from the system, since the two have
//! different cures. No signal is sent to a loop, and nothing is added to its path.
//!
//! The same thread watches over memory, since it wakes often enough already: [`Rounds`].

use super::memory::MemoryWatch;
use super::status::Status;
use crate::dispatcher::Gate;
use crate::driver::mio::MioDriver;
use crate::telemetry::{BeatSample, Callback, Phase};
use crate::token::{Target, Token};
use crate::wiring::Console;
use crossbeam_channel::{Receiver, RecvTimeoutError};
use polyloop_core::stall::{Report, Sample, StallDetector, Stuck};
use polyloop_core::units::format_duration;
use polyloop_sys::clock::{ThreadClock, monotonic_ns};
use polyloop_sys::listener::Listener;
use polyloop_sys::threads;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// What one thread looks at, round by round.
pub(super) struct Rounds<M> {
    pub(super) stalls: Option<Watchdog<M>>,
    pub(super) memory: Option<MemoryWatch<M>>,
}

/// The watchdog: what is watched of loops.
pub(super) struct Watchdog<M> {
    status: Arc<Status>,
    console: Arc<Console<MioDriver, M>>,
    detector: StallDetector,
    threshold: Duration,
    loops: Vec<Watched>,
}

/// One loop, as the watchdog knows it.
struct Watched {
    clock: ThreadClock,
    /// Copies of its listeners, for whoever rescues it.
    copies: Vec<Gate<Listener>>,
    /// The turn that was seen last, and the thread's CPU time then.
    turn: u64,
    cpu_ns: u64,
    rescued_by: Option<usize>,
}

/// A shorter threshold is taken for this one: the watchdog itself would be what keeps the cores busy.
const THRESHOLD_MIN: Duration = Duration::from_millis(4);

fn sane(threshold: Duration) -> Duration {
    threshold.max(THRESHOLD_MIN)
}

/// Samples in one threshold, so that a stall is seen at most a quarter of it late.
const SAMPLES_PER_THRESHOLD: u32 = 4;

impl<M: Send + 'static> Rounds<M> {
    /// Whether there is nothing to look at.
    pub(super) const fn is_idle(&self) -> bool {
        self.stalls.is_none() && self.memory.is_none()
    }

    /// Watches until `stop` is dropped; the copies of the listeners are closed then.
    pub(super) fn run(mut self, stop: &Receiver<()>) {
        loop {
            // A look too many is harmless: whoever is asked early says how long it still is.
            let stalls = self.stalls.as_mut().map(Watchdog::look_at_all);
            let memory = self
                .memory
                .as_mut()
                .map(|memory| memory.look(monotonic_ns()));
            let Some(interval) = stalls.into_iter().chain(memory).min() else {
                return;
            };
            // Nothing is ever sent: the end of the channel says that it is over.
            if stop.recv_timeout(interval) != Err(RecvTimeoutError::Timeout) {
                return;
            }
        }
    }
}

impl<M: Send + 'static> Watchdog<M> {
    /// `copies` holds, by loop, copies of its listeners; empty lists where nobody is to be rescued.
    pub(super) fn new(
        status: Arc<Status>,
        console: Arc<Console<MioDriver, M>>,
        threshold: Duration,
        clocks: Vec<ThreadClock>,
        copies: Vec<Vec<Gate<Listener>>>,
    ) -> Self {
        let loops = clocks
            .into_iter()
            .zip(copies)
            .map(|(clock, copies)| Watched {
                clock,
                copies,
                turn: 0,
                cpu_ns: 0,
                rescued_by: None,
            })
            .collect();
        let threshold = sane(threshold);
        let detector = StallDetector::new(status.boards.len(), threshold);
        Self {
            status,
            console,
            detector,
            threshold,
            loops,
        }
    }

    /// Looks at all loops; returns how long to the next look.
    fn look_at_all(&mut self) -> Duration {
        let mut is_idle = true;
        for index in 0..self.loops.len() {
            is_idle &= self.look(index);
        }
        // Who is stuck is known of all before anybody is asked to help: one that is stuck helps nobody.
        for index in 0..self.loops.len() {
            self.follow(index);
        }
        // Loops that all sleep need no close watch; a stall that begins now is seen a threshold late at most.
        if is_idle {
            self.threshold
        } else {
            self.threshold / SAMPLES_PER_THRESHOLD
        }
    }

    /// Looks at one loop; whether it was idle.
    fn look(&mut self, index: usize) -> bool {
        let status = Arc::clone(&self.status);
        let board = &status.boards[index];
        let beat = board.beat.sample();
        let is_idle = beat.phase == Phase::Poll;
        let watched = &mut self.loops[index];
        if watched.turn != beat.turn {
            watched.turn = beat.turn;
            watched.cpu_ns = watched.clock.cpu_time_ns().unwrap_or(0);
        }
        let sample = Sample {
            turn: beat.turn,
            phase: beat.phase as u8,
            dispatch: beat.token,
            idle: is_idle,
        };
        match self.detector.observe(index, monotonic_ns(), sample) {
            Some(Report::Stuck(stuck)) => self.report(index, &beat, &stuck),
            Some(Report::Recovered { stuck_for, .. }) => tracing::warn!(
                "loop {index} turns again after {}",
                format_duration(stuck_for)
            ),
            _ => {}
        }
        let is_stuck = self.detector.is_stuck(index);
        if is_stuck != board.is_stuck() {
            board.stuck.store(u8::from(is_stuck), Ordering::Relaxed);
            board.numbers.stalls.add(u64::from(is_stuck));
        }
        is_idle
    }

    /// Has a loop that is stuck rescued, and gives it back what is its own when it turns again. Looked at each time, not only when
    /// a loop gets stuck: its rescuer may get stuck as well, or may not be found at first.
    fn follow(&mut self, index: usize) {
        let boards = &self.status.boards;
        let watched = &mut self.loops[index];
        if !boards[index].is_stuck() {
            if let Some(by) = watched.rescued_by.take() {
                self.console.end_rescue(index, by);
            }
            return;
        }
        let is_rescued = watched.rescued_by.is_some_and(|by| !boards[by].is_stuck());
        let healthy = (0..boards.len())
            .filter(|&other| !boards[other].is_stuck())
            .min_by_key(|&other| boards[other].load());
        let Some(by) = healthy.filter(|_| !is_rescued && !watched.copies.is_empty()) else {
            return;
        };
        let copy = |gate: &Gate<Listener>| {
            let listener = gate.listener.duplicate()?;
            Ok(Gate { listener, ..*gate })
        };
        // All or none: without descriptors there is another look soon.
        let Ok(copies) = watched
            .copies
            .iter()
            .map(copy)
            .collect::<io::Result<Vec<_>>>()
        else {
            return;
        };
        tracing::warn!("loop {by} accepts for loop {index} until it turns again");
        if let Some(before) = watched.rescued_by.replace(by) {
            self.console.end_rescue(index, before);
        }
        self.console.rescue(index, by, copies);
    }

    fn report(&self, index: usize, beat: &BeatSample, stuck: &Stuck) {
        let board = &self.status.boards[index];
        let watched = &self.loops[index];
        let cpu_ns = watched
            .clock
            .cpu_time_ns()
            .unwrap_or(0)
            .saturating_sub(watched.cpu_ns);
        let names = self.status.handler_names;
        let story = Story {
            index,
            core: board.core.load(Ordering::Relaxed),
            beat,
            handler: names
                .get(usize::from(beat.name_index))
                .copied()
                .unwrap_or("?"),
            stuck,
            cpu: Duration::from_nanos(cpu_ns),
            thread: threads::probe(watched.clock.thread_id()).ok(),
        };
        tracing::warn!("{story}");
    }
}

/// One report in words.
struct Story<'a> {
    index: usize,
    core: u32,
    beat: &'a BeatSample,
    handler: &'a str,
    stuck: &'a Stuck,
    cpu: Duration,
    thread: Option<threads::ThreadState>,
}

impl fmt::Display for Story<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "loop {}", self.index)?;
        if self.core != u32::MAX {
            write!(f, " (core {})", self.core)?;
        }
        let stuck_for = format_duration(self.stuck.stuck_for);
        write!(f, " is stuck: it has not turned for {stuck_for}; ")?;
        let phase = self.beat.phase.name();
        match Token::from_bits(self.beat.token).target() {
            Some(Target::Session(key, _)) if self.beat.callback != 0 => write!(
                f,
                "handler {} is in {} for connection {}#{} ({phase} phase)",
                self.handler,
                Callback::name_of(self.beat.callback),
                key.index(),
                key.generation(),
            )?,
            _ => write!(f, "in the {phase} phase, in no handler")?,
        }
        let cpu = format_duration(self.cpu);
        match &self.thread {
            Some(thread) if thread.is_waiting() => {
                write!(f, "; the thread is {thread} (CPU time in this turn {cpu})")?;
            }
            Some(_) => write!(f, "; the thread computes (CPU time in this turn {cpu})")?,
            None => write!(f, "; CPU time in this turn {cpu}")?,
        }
        if self.stuck.suppressed > 0 {
            write!(f, "; {} reports left out", self.stuck.suppressed)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_threshold_makes_the_watchdog_spin() {
        // Goal: between two looks the watchdog sleeps. Method: the interval that comes of a threshold of nothing.
        let interval = sane(Duration::ZERO) / SAMPLES_PER_THRESHOLD;
        assert!(interval >= Duration::from_millis(1), "{interval:?}");
        assert_eq!(sane(Duration::from_secs(1)), Duration::from_secs(1));
    }
}
