//! What the control thread tells a loop, and what a loop says at its end.

use crate::dispatcher::Gate;

/// An order to one loop.
#[derive(Debug)]
pub(crate) enum Control<L> {
    /// Accept no more; close what is left at the deadline (loop time, nanoseconds).
    Drain { deadline_ns: u64 },
    /// Every other loop has ended, or there is none: while the server drains, visitors are let in no longer than this one has
    /// connections of its own.
    DrainedElsewhere,
    /// Close everything now.
    Stop,
    /// Pass a signal on to every handler.
    Signal(i32),
    /// Loop `of` is stuck: accept through copies of its gates.
    Rescue { of: usize, gates: Vec<Gate<L>> },
    /// Loop `of` turns again.
    RescueEnd { of: usize },
}

/// How a loop ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LoopEnd {
    /// Connections that were still open and were closed by the end.
    pub cut: usize,
}
