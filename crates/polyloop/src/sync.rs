//! The one place that decides which atomics the protocols between loops are built from.
//!
//! `bell`, `inbox` and `permits` are the only code here whose correctness rests on the order in which two threads see
//! each other's stores. They take their primitives from this module, so that a build with `--cfg loom` replaces them by
//! ones whose every interleaving and every permitted stale read is tried.
//!
//! Deliberately absent:
//! * A modelled `Arc`. None of the protocols rests on reference counts, and an `Arc<dyn Wake>` needs the unsizing
//!   coercion that only the standard one has.
//! * Modelled statistics. [`Tally`] is a standard atomic in both builds: nothing is decided from it, and each modelled
//!   cell multiplies the number of executions to walk.
//! * `SeqCst` loads and stores. The checker treats them as acquire and release, so the protocols use sequentially
//!   consistent *fences* and read-modify-write operations, which it models exactly.

#[cfg(not(loom))]
pub(crate) use std::sync::atomic::{AtomicU32, AtomicU64, fence};

#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicU32, AtomicU64, fence};

pub(crate) use std::sync::Arc;
pub(crate) use std::sync::atomic::Ordering;

/// A statistic that any thread may add to and any thread may read. Relaxed: it orders nothing.
#[derive(Debug, Default)]
pub(crate) struct Tally(std::sync::atomic::AtomicU64);

impl Tally {
    pub(crate) fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
