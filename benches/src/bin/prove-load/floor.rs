//! What the machine itself does to a thread that wants nothing but to look at the clock.
//!
//! The one idea: a plan that falls into a gap in which the thread did not run is late by what is left of the gap, whoever
//! made the plan. The gaps of a thread that only reads the clock therefore bound from below how late any generator sends on
//! this core: interrupts, other threads, and a hypervisor that gave the processor to somebody else.
//!
//! A generator at half of its capacity needs as long again to work off what a gap has held up. A plan at u after the gap's
//! beginning is then late by its length less u/2, so that twice as many plans are late as fall into the gap's beginning.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};

/// How late plans are at best.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Floor {
    /// At this quantile, in microseconds.
    pub(crate) p99_9_us: f64,
    /// The share of plans that are later than asked for.
    pub(crate) share_late: f64,
}

/// Watches `core` for so long; `late_us` is what counts as late.
pub(crate) fn measure(core: usize, length: Duration, late_us: f64) -> Result<Floor> {
    // A thread of its own, since pinning cannot be taken back.
    let watch = thread::spawn(move || -> Result<(Vec<f64>, f64)> {
        polyloop_benches::load::pin(Some(core))?;
        let start = Instant::now();
        let (mut last, mut gaps) = (start, Vec::new());
        loop {
            let now = Instant::now();
            let gap_us = now.duration_since(last).as_secs_f64() * 1e6;
            if gap_us > GAP_US_MIN {
                gaps.push(gap_us);
            }
            last = now;
            let watched = now.duration_since(start);
            if watched >= length {
                return Ok((gaps, watched.as_secs_f64() * 1e6));
            }
        }
    });
    let (gaps, total_us) = watch
        .join()
        .map_err(|_| anyhow!("the thread that watches the clock panicked"))??;
    Ok(Floor {
        p99_9_us: late_at(&gaps, total_us, 0.001),
        share_late: share_later_than(&gaps, total_us, late_us),
    })
}

/// The share of plans that are later than `late_us`, at half of the capacity.
fn share_later_than(gaps: &[f64], total_us: f64, late_us: f64) -> f64 {
    let late: f64 = gaps.iter().map(|gap| (gap - late_us).max(0.0)).sum();
    late * 2.0 / total_us
}

/// How late `share` of the plans are at least; by halving, to a tenth of a microsecond.
fn late_at(gaps: &[f64], total_us: f64, share: f64) -> f64 {
    let (mut low, mut high) = (0.0, gaps.iter().copied().fold(0.0, f64::max));
    while high - low > 0.1 {
        let middle = f64::midpoint(low, high);
        if share_later_than(gaps, total_us, middle) > share {
            low = middle;
        } else {
            high = middle;
        }
    }
    high
}

/// Shorter than this is the reading of the clock itself.
const GAP_US_MIN: f64 = 2.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lateness_is_what_is_left_of_a_gap() {
        // Goal: the arithmetic. Method: a second with one gap of 10 ms, which holds up plans of 20 ms: those of the first 18
        // are later than 1 ms, and those of the first one, a thousandth of all, later than 9.5 ms.
        let gaps = [10_000.0];
        assert!((share_later_than(&gaps, 1e6, 1_000.0) - 0.018).abs() < 1e-12);
        assert!((late_at(&gaps, 1e6, 0.001) - 9_500.0).abs() < 0.2);
        assert!(late_at(&[], 1e6, 0.001) < 0.2);
    }
}
