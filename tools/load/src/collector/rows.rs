//! The windows of a stage as rows of the result: not more than fit into one.
//!
//! The one idea: a run of a day has as many rows as one of some hours, each of several windows put together. The time series
//! (`--csv`, `--hlog`) has every window; it is written as it goes and takes no memory.

use crate::result::{Beside, WindowRow};
use crate::tally::Interval;

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Rows {
    rows: Vec<WindowRow>,
    begins_ns: u64,
    /// Windows of one row; 0 is one, too.
    per_row: u64,
    pending: Option<Pending>,
}

/// Windows that make no whole row yet.
#[derive(Debug)]
struct Pending {
    sum: Box<Interval>,
    beside: Beside,
    windows: u64,
}

impl Rows {
    /// A stage begins that has about so many windows.
    pub(super) fn begin(&mut self, begins_ns: u64, windows: u64) {
        self.rows.clear();
        self.pending = None;
        self.begins_ns = begins_ns;
        self.per_row = windows.div_ceil(ROWS_MAX);
    }

    /// A window is over.
    pub(super) fn push(&mut self, window: &Interval, beside: &Beside) {
        if self.per_row <= 1 {
            self.rows
                .push(WindowRow::of(window, beside, self.begins_ns));
            return;
        }
        match &mut self.pending {
            Some(pending) => pending.add(window, beside),
            None => {
                self.pending = Some(Pending {
                    sum: Box::new(window.clone()),
                    beside: *beside,
                    windows: 1,
                });
            }
        }
        let windows = self.pending.as_ref().map_or(0, |pending| pending.windows);
        if windows >= self.per_row {
            self.end_row();
        }
    }

    /// All rows; the last may be shorter.
    pub(super) fn take(&mut self) -> Vec<WindowRow> {
        self.end_row();
        std::mem::take(&mut self.rows)
    }

    fn end_row(&mut self) {
        if let Some(Pending {
            sum,
            mut beside,
            windows,
        }) = self.pending.take()
        {
            beside.machine_busy_share /= windows as f64;
            beside.machine_steal_share /= windows as f64;
            self.rows.push(WindowRow::of(&sum, &beside, self.begins_ns));
        }
    }
}

impl Pending {
    fn add(&mut self, window: &Interval, beside: &Beside) {
        self.sum.add(window);
        self.sum.open = window.open;
        let both = self.beside.server_cpu_ns.zip(beside.server_cpu_ns);
        self.beside.server_cpu_ns = both.map(|(sum_ns, more_ns)| sum_ns + more_ns);
        self.beside.machine_busy_share += beside.machine_busy_share;
        self.beside.machine_steal_share += beside.machine_steal_share;
        let both = self.beside.retransmits.zip(beside.retransmits);
        self.beside.retransmits = both.map(|(sum, more)| sum + more);
        self.windows += 1;
    }
}

/// Rows of one stage: nearly three hours in seconds, some five megabytes of JSON.
const ROWS_MAX: u64 = 10_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::tests::{SMALL_BESIDE, small_interval};

    fn rows_of(windows: u64) -> Vec<WindowRow> {
        let mut rows = Rows::default();
        rows.begin(0, windows);
        let mut window = small_interval(0);
        for second in 0..windows {
            window.from_ns = second * 1_000_000_000;
            window.until_ns = window.from_ns + 1_000_000_000;
            window.open = second;
            rows.push(&window, &SMALL_BESIDE);
        }
        rows.take()
    }

    #[test]
    fn a_long_stage_has_as_many_rows_as_fit() {
        // Goal: the result of a day is bounded and leaves nothing out. Method: windows that make rows of one, of two, and of two with
        // a remnant; sums, times and shares of the rows.
        assert_eq!(rows_of(3).len(), 3);
        for windows in [10_002, 10_003] {
            let rows = rows_of(windows);
            assert_eq!(rows.len() as u64, windows.div_ceil(2));
            let completed: u64 = rows.iter().map(|row| row.completed).sum();
            assert_eq!(completed, windows * 19_999);
            assert_eq!((rows[1].t_s, rows[1].seconds), (2.0, 2.0));
            assert_eq!((rows[1].connections, rows[1].server_cpu_s), (3, Some(0.12)));
            assert_eq!(rows[1].machine_busy_share, 0.25);
            let last = &rows[rows.len() - 1];
            assert_eq!(last.t_s + last.seconds, windows as f64);
        }
    }
}
