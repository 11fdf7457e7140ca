//! One run: stages in order, each ordered, waited for, settled and summed up.
//!
//! ```text
//!   stage:  order ──> begins ════════ requests are planned ════════ ends ── grace ── closed ── settled
//!                     │ window │ window │ window │ ...               │ answers still  │ what is missing
//!                     │                                              │ come in        │ counts with its age
//! ```
//!
//! The one idea: a stage leaves nothing behind. The next begins when every request of the last is answered or counted as
//! unanswered, so that no stage measures the queue that another built up.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use crossbeam_channel::RecvTimeoutError;
use polyloop_measure::machine::Machine;
use polyloop_sys::clock::monotonic_ns;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use crate::collector::Collector;
use crate::engine::{Engine, Order, Pace, Phase, Plan};
use crate::output::Output;
use crate::result::{
    RunResult, StageHead, StageKind, StageResult, explain_fault, fault_key, rfc3339,
};
use crate::settings::Settings;
use crate::tally::{Counts, Interval};
use crate::warmup::WarmUp;

/// See the module's documentation.
pub struct Director {
    pub(crate) settings: Settings,
    plan: Arc<Plan>,
    engine: Engine,
    collector: Collector,
    output: Output,
    pub(crate) run: RunResult,
    interrupted: Arc<AtomicBool>,
    stages: u32,
}

/// A stage that is over.
pub(crate) struct Staged {
    pub(crate) result: StageResult,
    pub(crate) total: Interval,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// As planned.
    Whole,
    /// By a signal; what was measured is written.
    Interrupted,
    /// Measured, and something could not be written.
    OutputLost,
    /// Measured, and doubtful.
    Doubtful,
}

impl Director {
    /// Opens the outputs and starts the loops.
    ///
    /// # Errors
    /// An output has no place, or the loops cannot start.
    pub fn start(mut settings: Settings) -> Result<Self> {
        let command = std::env::args().collect();
        let started = rfc3339(std::time::SystemTime::now());
        let mut run = RunResult::new(settings.mode, command, started, Machine::read());
        run.settings = std::mem::take(&mut settings.list);
        run.seed = settings.plan.seed;
        let output = Output::open(std::mem::take(&mut settings.output), &run)?;
        let interrupted = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            // In this order: the first signal sets what makes the second end the process.
            flag::register_conditional_shutdown(signal, INTERRUPTED, Arc::clone(&interrupted))
                .and_then(|_| flag::register(signal, Arc::clone(&interrupted)))
                .context("listening for signals")?;
        }
        let plan = Arc::clone(&settings.plan);
        let loops = plan.loops + usize::from(plan.probe_connections > 0);
        let collector = Collector::new(loops, settings.server_pids.clone());
        let engine = Engine::start(Arc::clone(&plan), settings.server.clone())?;
        Ok(Self {
            settings,
            plan,
            engine,
            collector,
            output,
            run,
            interrupted,
            stages: 0,
        })
    }

    /// Runs all stages, and writes what came of them.
    ///
    /// # Errors
    /// Nobody answers, so that there is nothing to measure.
    pub fn run(mut self) -> Result<Ending> {
        let outcome = self.run_stages();
        let is_interrupted = self.is_interrupted();
        self.run.is_complete = outcome.is_ok() && !is_interrupted;
        let pids = &self.settings.server_pids;
        crate::judge::judge(&mut self.run, &self.plan, pids, is_interrupted);
        let is_doubtful = crate::judge::is_doubtful(&self.run);
        let _ = self.engine.stop();
        let written = self.output.finish(&mut self.run);
        outcome?;
        Ok(if is_interrupted {
            Ending::Interrupted
        } else if !written.is_whole {
            Ending::OutputLost
        } else if self.settings.is_strict && is_doubtful {
            Ending::Doubtful
        } else {
            Ending::Whole
        })
    }

    fn run_stages(&mut self) -> Result<()> {
        self.ramp()?;
        if self.is_interrupted() {
            return Ok(());
        }
        if let Some(find) = self.settings.find_max.clone() {
            return crate::hunt::hunt(self, &find);
        }
        let pace = self.settings.pace;
        self.warm_up(pace)?;
        if !self.is_interrupted() {
            let duration = self.settings.duration;
            let staged = self.stage("measure", StageKind::Measure, pace, duration)?;
            let counts = &staged.total.counts;
            // Churn connects in this stage only.
            if counts.connects > 0 && counts.connected == 0 && counts.sent == 0 {
                return self.nobody_answers(counts);
            }
        }
        Ok(())
    }

    /// Whether the run was told to end.
    pub(crate) fn is_interrupted(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed)
    }

    /// Connections are made. Those of churn are made by request, later.
    fn ramp(&mut self) -> Result<()> {
        let wanted = if self.plan.churn.is_some() {
            self.plan.probe_connections
        } else {
            self.plan.connections + self.plan.probe_connections
        };
        let begins_ns = self.plan.dial_from_ns;
        let head = self.head("ramp", StageKind::Ramp, Pace::Silent);
        self.output.stage_begins(&head, None);
        self.collector.begin(0, begins_ns, u64::MAX, 0);
        self.collector.start_meters();
        let dialled_ns = self.plan.dial_at_ns(wanted);
        let mut open = 0;
        let mut changed_ns = monotonic_ns();
        let mut window_ns = monotonic_ns() + self.interval_ns();
        while self.collector.open() < wanted && !self.is_interrupted() {
            self.receive(monotonic_ns() + TICK_NS);
            let now_ns = monotonic_ns();
            if now_ns >= window_ns {
                self.cut_window(now_ns);
                window_ns = now_ns + self.interval_ns();
            }
            if self.collector.open() != open {
                open = self.collector.open();
                changed_ns = self.collector.told_until_ns().max(changed_ns);
            }
            let since_ns = changed_ns.max(dialled_ns);
            let has_failed = self.collector.total().counts.faults_total() > 0;
            let patience_ns = if has_failed {
                PATIENCE_NS
            } else {
                self.plan.timeout_ns
            };
            // Loops that are busy connecting tell late; only what they have told says that nothing happens.
            let told_ns = self.collector.told_until_ns();
            let is_stuck = now_ns > told_ns.max(since_ns).saturating_add(SILENCE_NS_MAX);
            if told_ns > since_ns.saturating_add(patience_ns) || is_stuck {
                break;
            }
        }
        let now_ns = monotonic_ns();
        self.cut_window(now_ns);
        let beside = self.collector.stop_meters();
        let open = self.collector.open();
        let collected = self.collector.finish(beside, now_ns);
        let counts = collected.total.counts.clone();
        let result = StageResult::of(head, &collected.total, &collected.beside, collected.windows);
        self.end_stage(result);
        if open == 0 && wanted > 0 && !self.is_interrupted() {
            return self.nobody_answers(&counts);
        }
        Ok(())
    }

    fn nobody_answers(&self, counts: &Counts) -> Result<()> {
        let worst = counts.faults.iter().max_by_key(|(_, count)| **count);
        let why = worst.map_or_else(
            || "no answer to any attempt".to_owned(),
            |(fault, count)| {
                let key = fault_key(*fault);
                format!("{key} ({count} times): {}", explain_fault(&key))
            },
        );
        bail!(
            "no connection to {} could be made in {} attempts: {why}",
            self.run.settings[0].value,
            counts.connects
        );
    }

    /// Load until the pace is steady, if that was asked for.
    pub(crate) fn warm_up(&mut self, pace: Pace) -> Result<()> {
        let (least, most) = (self.settings.warm_up, self.settings.warm_up_max);
        // Where nothing is asked there is no pace to look at.
        let duration = if pace == Pace::Silent { least } else { most };
        if !least.is_zero() {
            self.stage("warm-up", StageKind::WarmUp, pace, duration)?;
        }
        Ok(())
    }

    /// What ends a warm-up before its time; nothing does where a fixed time was asked for.
    fn settling(&self, head: &StageHead, pace: Pace, begins_ns: u64) -> Option<WarmUp> {
        let (least, most) = (self.settings.warm_up, self.settings.warm_up_max);
        let is_open = head.kind == StageKind::WarmUp && pace != Pace::Silent && most > least;
        let least_ns = least.as_nanos() as u64;
        is_open.then(|| WarmUp::new(begins_ns, least_ns, self.plan.interval_ns))
    }

    /// One stage of load. It may be cut short by a signal, and a warm-up ends when the pace is steady.
    pub(crate) fn stage(
        &mut self,
        name: &str,
        kind: StageKind,
        pace: Pace,
        duration: Duration,
    ) -> Result<Staged> {
        self.stages += 1;
        let head = self.head(name, kind, pace);
        let begins_ns = self.next_begin_ns();
        let mut warm_up = self.settling(&head, pace, begins_ns);
        let least = warm_up.as_ref().map(WarmUp::least);
        let duration = duration.max(least.unwrap_or_default());
        let length_ns = (duration.as_nanos() as u64).next_multiple_of(self.plan.interval_ns);
        let mut order = Order {
            stage: self.stages,
            begins_ns,
            ends_ns: begins_ns + length_ns,
            pace,
            phase: Phase::Runs,
        };
        // A warm-up may be over after the least time.
        let planned = least.unwrap_or(duration).as_secs_f64();
        self.output.stage_begins(&head, Some(planned));
        let windows = length_ns / self.interval_ns();
        self.collector
            .begin(self.stages, begins_ns, order.ends_ns, windows);
        self.engine.orders().give(order);
        self.receive_until(begins_ns);
        self.collector.start_meters();
        self.go_through(&mut order, warm_up.as_mut());
        let beside = self.collector.stop_meters();
        let grace_ns = self.settings.grace.as_nanos() as u64;
        let deadline_ns = order.ends_ns + grace_ns;
        while !self.collector.is_quiet_after(order.ends_ns)
            && monotonic_ns() < deadline_ns
            && !self.is_interrupted()
        {
            self.receive(deadline_ns);
        }
        order.phase = Phase::Closed;
        self.engine.orders().give(order);
        let deadline_ns = monotonic_ns() + SETTLE_NS_MAX;
        while !self.collector.is_settled() {
            if monotonic_ns() >= deadline_ns {
                bail!(
                    "a loop of the generator did not settle the stage {name} in time: that is a bug of the generator"
                );
            }
            self.receive(deadline_ns);
        }
        self.cut_window(order.ends_ns);
        let collected = self.collector.finish(beside, order.ends_ns);
        let mut result =
            StageResult::of(head, &collected.total, &collected.beside, collected.windows);
        // One that was cut short was not judged.
        let judged = warm_up.as_ref().filter(|_| !self.is_interrupted());
        result.settled = judged.map(WarmUp::settled);
        self.end_stage(result.clone());
        Ok(Staged {
            result,
            total: collected.total,
        })
    }

    /// The time of a stage goes by, window by window. An interrupt ends it earlier, and so does a warm-up that is over.
    fn go_through(&mut self, order: &mut Order, mut warm_up: Option<&mut WarmUp>) {
        let mut cut_ns = order.begins_ns + self.interval_ns();
        loop {
            let look_ns = warm_up.as_ref().map_or(u64::MAX, |it| it.next_look_ns());
            let until_ns = cut_ns.min(look_ns).min(order.ends_ns);
            // The loops hand over at that time; what they hand over comes a little later.
            self.receive_until(until_ns + HAND_OVER_SLACK_NS);
            if self.is_interrupted() {
                // Until the loops look at their orders again they go on sending, and that counts.
                let looked_ns = monotonic_ns().next_multiple_of(self.plan.interval_ns);
                order.ends_ns = order.ends_ns.min(looked_ns);
                return;
            }
            if until_ns == look_ns && self.is_over(warm_up.as_deref_mut()) {
                warm_up = None;
                self.shorten(order);
            }
            if until_ns == order.ends_ns {
                return;
            }
            if until_ns == cut_ns {
                self.cut_window(until_ns);
                cut_ns += self.interval_ns();
            }
        }
    }

    /// When a stage may begin, or end, that is ordered now.
    fn next_begin_ns(&self) -> u64 {
        (monotonic_ns() + LEAD_NS).next_multiple_of(self.plan.interval_ns)
    }

    /// What this stage has done so far: requests, or the bytes of a stream.
    fn done(&self) -> u64 {
        let counts = &self.collector.total().counts;
        if self.plan.workload.is_stream() {
            counts.bytes_in + counts.bytes_out
        } else {
            counts.completed
        }
    }

    fn is_over(&self, warm_up: Option<&mut WarmUp>) -> bool {
        let told_ns = self.collector.told_mean_ns();
        warm_up.is_some_and(|it| it.look(told_ns, self.done()))
    }

    /// The stage may end now: as soon as all loops know.
    fn shorten(&mut self, order: &mut Order) {
        order.ends_ns = order.ends_ns.min(self.next_begin_ns());
        self.engine.orders().give(*order);
        self.collector.end_at(order.ends_ns);
    }

    fn head(&self, name: &str, kind: StageKind, pace: Pace) -> StageHead {
        StageHead {
            id: self.stages,
            name: name.to_owned(),
            kind,
            rate_planned: match pace {
                Pace::Open { rate_per_s } => Some(rate_per_s * self.requests_per_arrival()),
                Pace::Closed | Pace::Silent => None,
            },
        }
    }

    /// A rate of connections is one of all their requests.
    fn requests_per_arrival(&self) -> f64 {
        match self.plan.churn {
            Some(churn) if churn.rate_is_of_connects => churn.requests as f64,
            _ => 1.0,
        }
    }

    fn end_stage(&mut self, result: StageResult) {
        self.output.stage_ends(&result);
        self.run.stages.push(result);
    }

    /// Tells the operator something.
    pub(crate) fn say(&mut self, text: &str) {
        self.output.say(text);
    }

    fn interval_ns(&self) -> u64 {
        (self.settings.interval.as_nanos() as u64).next_multiple_of(self.plan.interval_ns)
    }

    fn cut_window(&mut self, until_ns: u64) {
        let output = &mut self.output;
        self.collector
            .cut_window(until_ns, |window, beside| output.interval(window, beside));
    }

    fn receive_until(&mut self, until_ns: u64) {
        while monotonic_ns() < until_ns && !self.is_interrupted() {
            self.receive(until_ns);
        }
    }

    /// Takes what a loop hands over, waiting until `until_ns`, and no longer than a tick: a signal wakes nobody.
    fn receive(&mut self, until_ns: u64) {
        let wait_ns = until_ns.saturating_sub(monotonic_ns()).min(TICK_NS);
        match self
            .engine
            .intervals()
            .recv_timeout(Duration::from_nanos(wait_ns))
        {
            Ok(mut interval) => {
                self.collector.absorb(&mut interval);
                self.engine.recycle(interval);
            }
            Err(RecvTimeoutError::Timeout) => {}
            // The loops have ended: the deadlines of those who wait say so.
            Err(RecvTimeoutError::Disconnected) => {
                std::thread::sleep(Duration::from_nanos(wait_ns))
            }
        }
    }
}

/// The exit code of a run that was interrupted.
pub const INTERRUPTED: i32 = 3;

/// From an order to the beginning of its stage: every loop looks at orders ten times a second.
const LEAD_NS: u64 = 150_000_000;

/// From the end of a window to its last tenth being here.
const HAND_OVER_SLACK_NS: u64 = 20_000_000;

/// How often a signal is looked for.
const TICK_NS: u64 = 50_000_000;

/// A loop that has told nothing for so long is not waited for.
const SILENCE_NS_MAX: u64 = 60_000_000_000;

/// Connections that have failed are tried again so long before the run goes on without them.
const PATIENCE_NS: u64 = 2_000_000_000;

/// Counting what is missing is work without waiting.
const SETTLE_NS_MAX: u64 = 10_000_000_000;
