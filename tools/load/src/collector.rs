//! Adds up what the loops hand over: the stage as a whole, and a window at a time.
//!
//! The one idea: loops hand over at multiples of a tenth of a second, stages begin and end there, and windows are made of whole
//! tenths, so that nothing has to be divided. What is answered after the end of a stage, in its grace, still counts for the
//! stage and its last window; the processor time of the grace does not.

mod rows;

use polyloop_measure::bill::ProcessBill;
use polyloop_measure::host::{MachineTime, tcp_retransmits};

use crate::result::{Beside, WindowRow};
use crate::tally::Interval;
use rows::Rows;

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Collector {
    /// Connections open and requests outstanding, by loop, as told last.
    open: Vec<u64>,
    outstanding: Vec<u64>,
    /// Until when each loop has told.
    told_until_ns: Vec<u64>,
    /// Whether the loop has handed over the last of the stage.
    is_settled: Vec<bool>,
    /// How long each loop was at work in the time of the stage.
    busy_ns: Vec<u64>,
    stage: u32,
    begins_ns: u64,
    ends_ns: u64,
    total: Interval,
    window: Interval,
    /// Where the window begins. What is added to it may have begun earlier: a loop obeys an order ahead of the stage.
    window_from_ns: u64,
    rows: Rows,
    meter: Meter,
    /// What the meter said where the time of the stage was over: the last window is cut after its grace.
    last_beside: Option<Beside>,
    stage_meter: Meter,
}

/// What a stage came to.
pub(crate) struct Collected {
    pub(crate) total: Interval,
    pub(crate) beside: Beside,
    pub(crate) windows: Vec<WindowRow>,
}

impl Collector {
    pub(crate) fn new(loops: usize, server_pids: Vec<u32>) -> Self {
        let meter = Meter::new(server_pids);
        Self {
            open: vec![0; loops],
            outstanding: vec![0; loops],
            told_until_ns: vec![0; loops],
            is_settled: vec![false; loops],
            busy_ns: vec![0; loops],
            stage: 0,
            begins_ns: 0,
            ends_ns: u64::MAX,
            total: Interval::new(0, 0, 0),
            window: Interval::new(0, 0, 0),
            window_from_ns: 0,
            rows: Rows::default(),
            stage_meter: meter.clone(),
            meter,
            last_beside: None,
        }
    }

    /// A stage begins, which has about so many windows.
    pub(crate) fn begin(&mut self, stage: u32, begins_ns: u64, ends_ns: u64, windows: u64) {
        self.stage = stage;
        self.begins_ns = begins_ns;
        self.ends_ns = ends_ns;
        self.is_settled.fill(false);
        self.busy_ns.fill(0);
        self.last_beside = None;
        self.total.begin(stage, 0, begins_ns);
        self.window.begin(stage, 0, begins_ns);
        self.window_from_ns = begins_ns;
        self.rows.begin(begins_ns, windows);
    }

    /// The stage ends earlier than it was to.
    pub(crate) const fn end_at(&mut self, ends_ns: u64) {
        self.ends_ns = ends_ns;
    }

    /// The time of the stage begins: what was used before is not on its bill.
    pub(crate) fn start_meters(&mut self) {
        self.meter.restart();
        self.stage_meter.restart();
    }

    /// Adds what a loop handed over.
    pub(crate) fn absorb(&mut self, interval: &mut Interval) {
        let at = interval.loop_index;
        self.open[at] = interval.open;
        self.outstanding[at] = interval.outstanding;
        self.told_until_ns[at] = interval.until_ns;
        if interval.stage != self.stage {
            return;
        }
        self.is_settled[at] |= interval.is_last;
        if interval.until_ns <= self.begins_ns || interval.from_ns >= self.ends_ns {
            interval.cpu_ns = 0;
            interval.busy_ns = 0;
        }
        self.busy_ns[at] += interval.busy_ns;
        self.total.add(interval);
        self.window.add(interval);
    }

    /// Closes the window that ends at `until_ns`, and begins the next.
    pub(crate) fn cut_window(&mut self, until_ns: u64, each: impl FnOnce(&Interval, &Beside)) {
        let now = self.meter.read_and_restart();
        let beside = self.last_beside.take().unwrap_or(now);
        self.window.from_ns = self.window_from_ns;
        self.window.until_ns = until_ns;
        self.window.open = self.open();
        self.window.outstanding = self.outstanding();
        each(&self.window, &beside);
        self.rows.push(&self.window, &beside);
        self.window.begin(self.stage, 0, until_ns);
        self.window_from_ns = until_ns;
    }

    /// The time of the stage is over; what still comes is its grace.
    pub(crate) fn stop_meters(&mut self) -> Beside {
        self.last_beside = Some(self.meter.read_and_restart());
        self.stage_meter.read_and_restart()
    }

    /// The stage, whole. `beside` is what [`stop_meters`](Self::stop_meters) said.
    pub(crate) fn finish(&mut self, mut beside: Beside, ends_ns: u64) -> Collected {
        let length_ns = ends_ns.saturating_sub(self.begins_ns).max(1);
        let busiest_ns = self.busy_ns.iter().copied().max();
        beside.busiest_loop_share = busiest_ns.map(|ns| ns as f64 / length_ns as f64);
        let mut total = Interval::new(self.stage, 0, self.begins_ns);
        std::mem::swap(&mut total, &mut self.total);
        total.from_ns = self.begins_ns;
        total.until_ns = ends_ns;
        total.open = self.open();
        Collected {
            total,
            beside,
            windows: self.rows.take(),
        }
    }

    pub(crate) fn open(&self) -> u64 {
        self.open.iter().sum()
    }

    pub(crate) fn outstanding(&self) -> u64 {
        self.outstanding.iter().sum()
    }

    /// Until when all loops have told.
    pub(crate) fn told_until_ns(&self) -> u64 {
        self.told_until_ns.iter().copied().min().unwrap_or(0)
    }

    /// Whether nothing was outstanding at some time from `ns` on, on any loop.
    pub(crate) fn is_quiet_after(&self, ns: u64) -> bool {
        self.told_until_ns() >= ns && self.outstanding() == 0
    }

    /// Until when the loops have told, on average: what they have told was done until about then.
    pub(crate) fn told_mean_ns(&self) -> u64 {
        let sum: u128 = self.told_until_ns.iter().map(|&ns| u128::from(ns)).sum();
        (sum / self.told_until_ns.len().max(1) as u128) as u64
    }

    pub(crate) fn is_settled(&self) -> bool {
        self.is_settled.iter().all(|is_settled| *is_settled)
    }

    pub(crate) const fn total(&self) -> &Interval {
        &self.total
    }
}

/// What is used beside the load.
#[derive(Debug, Clone)]
struct Meter {
    server_pids: Vec<u32>,
    server_cpu_ns: Option<u64>,
    machine: Option<MachineTime>,
    retransmits: Option<u64>,
}

impl Meter {
    fn new(server_pids: Vec<u32>) -> Self {
        let mut meter = Self {
            server_pids,
            server_cpu_ns: None,
            machine: None,
            retransmits: None,
        };
        meter.restart();
        meter
    }

    fn server_now_ns(&self) -> Option<u64> {
        if self.server_pids.is_empty() {
            return None;
        }
        // One that is gone leaves a sum that says nothing.
        self.server_pids.iter().try_fold(0, |sum, &pid| {
            Some(sum + ProcessBill::read(pid).ok()?.cpu_ns)
        })
    }

    fn restart(&mut self) {
        self.server_cpu_ns = self.server_now_ns();
        // A machine without /proc/stat has nothing to say.
        self.machine = MachineTime::read().ok();
        self.retransmits = tcp_retransmits();
    }

    fn read_and_restart(&mut self) -> Beside {
        let (server_before, machine_before) = (self.server_cpu_ns, self.machine);
        let retransmits_before = self.retransmits;
        self.restart();
        let server_cpu_ns = self
            .server_cpu_ns
            .zip(server_before)
            .map(|(now_ns, before_ns)| now_ns.saturating_sub(before_ns));
        let machine = self
            .machine
            .zip(machine_before)
            .map(|(now, before)| now.since(before));
        Beside {
            server_cpu_ns,
            busiest_loop_share: None,
            machine_busy_share: machine.map_or(0.0, |time| {
                time.busy_ticks as f64 / time.total_ticks.max(1) as f64
            }),
            machine_steal_share: machine.map_or(0.0, MachineTime::steal_share),
            retransmits: self
                .retransmits
                .zip(retransmits_before)
                .map(|(now, before)| now.saturating_sub(before)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_window_is_not_billed_for_the_grace() {
        // Goal: what the server uses after the stage's time is in no row, as it is not in the sum. Method: this process as the server,
        // which works for 50 ms of processor time between the end of the time and the last cut.
        let pid = std::process::id();
        let used_ns = || ProcessBill::read(pid).unwrap().cpu_ns;
        let mut collector = Collector::new(1, vec![pid]);
        collector.begin(1, 0, 1_000_000_000, 1);
        collector.start_meters();
        let stage = collector.stop_meters();
        let from_ns = used_ns();
        while used_ns() < from_ns + 50_000_000 {
            std::hint::spin_loop();
        }
        let mut row = None;
        collector.cut_window(1_000_000_000, |_, beside| row = beside.server_cpu_ns);
        let (row, stage) = (row.unwrap(), stage.server_cpu_ns.unwrap());
        assert!(row < stage + 25_000_000, "{row} {stage}");
    }

    #[test]
    fn the_busiest_loop_is_told_and_not_the_mean() {
        // Goal: one loop without a moment left is not hidden by others that rest. Method: two loops, and a grace that is not counted.
        let mut collector = Collector::new(2, Vec::new());
        collector.begin(1, 0, 1_000_000_000, 1);
        let mut hand_over = |loop_index, from_ns, until_ns, busy_ns| {
            let mut interval = Interval::new(1, loop_index, from_ns);
            interval.until_ns = until_ns;
            interval.busy_ns = busy_ns;
            collector.absorb(&mut interval);
        };
        hand_over(0, 0, 1_000_000_000, 100_000_000);
        hand_over(1, 0, 1_000_000_000, 950_000_000);
        hand_over(1, 1_000_000_000, 1_100_000_000, 100_000_000);
        let beside = collector.stop_meters();
        let collected = collector.finish(beside, 1_000_000_000);
        assert_eq!(collected.beside.busiest_loop_share, Some(0.95));
    }
}
