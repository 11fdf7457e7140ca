//! What a process has used, read from outside.
//!
//! The one idea: the processor clock of another process counts nanoseconds in user and kernel mode over all its threads
//! and leaves stolen time out, so no program has to be asked about itself, and all are measured alike.
//!
//! Deliberately absent: the split into user and kernel time, which the kernel only samples.

use std::fs;

use anyhow::{Context, Result};

use crate::host;

/// Counters of a process that only grow, except for its memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProcessBill {
    /// Processor time of all threads, in nanoseconds.
    pub cpu_ns: u64,
    /// Times a thread went to sleep by itself.
    pub switches_voluntary: u64,
    /// Times a thread was made to give way.
    pub switches_forced: u64,
}

impl ProcessBill {
    /// Reads the bill of process `pid` so far.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn read(pid: u32) -> Result<Self> {
        let mut bill = Self {
            cpu_ns: polyloop_sys::clock::process_cpu_ns(pid)
                .with_context(|| format!("process {pid} has no processor clock"))?,
            switches_voluntary: 0,
            switches_forced: 0,
        };
        let tasks = format!("/proc/{pid}/task");
        for task in fs::read_dir(&tasks).with_context(|| tasks.clone())? {
            let Ok(status) = fs::read_to_string(task?.path().join("status")) else {
                continue; // the thread ended meanwhile
            };
            bill.switches_voluntary += host::labelled_number(&status, "voluntary_ctxt_switches")?;
            bill.switches_forced += host::labelled_number(&status, "nonvoluntary_ctxt_switches")?;
        }
        Ok(bill)
    }

    /// Adds what another process has used.
    pub fn add(&mut self, other: Self) {
        self.cpu_ns += other.cpu_ns;
        self.switches_voluntary += other.switches_voluntary;
        self.switches_forced += other.switches_forced;
    }

    /// What was added since `earlier`.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        Self {
            cpu_ns: self.cpu_ns.saturating_sub(earlier.cpu_ns),
            switches_voluntary: self
                .switches_voluntary
                .saturating_sub(earlier.switches_voluntary),
            switches_forced: self.switches_forced.saturating_sub(earlier.switches_forced),
        }
    }
}

/// Resident memory of process `pid` in bytes, exact at the moment of asking.
///
/// # Errors
/// When the process is gone.
pub fn resident_bytes(pid: u32) -> Result<u64> {
    // `status` and `statm` lag behind by a batch of pages per thread; this walks the pages.
    let rollup = host::read_process(pid, "smaps_rollup")?;
    Ok(host::labelled_number(&rollup, "Rss")? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bill_of_a_process_counts_its_own_work() {
        // Goal: processor time grows by work and memory by pages touched, by doing both in this process.
        let pid = std::process::id();
        let before = ProcessBill::read(pid).unwrap();
        let resident = resident_bytes(pid).unwrap();
        let pages = vec![1_u8; 64 << 20];
        assert!(pages.iter().map(|&byte| u64::from(byte)).sum::<u64>() > 0);
        let bill = ProcessBill::read(pid).unwrap().since(before);
        assert!(bill.cpu_ns > 0);
        assert!(resident_bytes(pid).unwrap() >= resident + (32 << 20));
        drop(pages);
    }
}
