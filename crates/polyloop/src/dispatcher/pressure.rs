//! What a loop does about the level of memory.
//!
//! The one idea: everything that memory is kept for has a bound already, and under pressure the bounds are smaller. Nobody
//! is closed; slow peers hold up their sources earlier, and at the last level nobody new is let in.
//!
//! Only what *begins to wait* is bounded anew. What a handler is told ([`Ctx::room`](crate::Ctx::room)) keeps to the
//! configured watermark: a handler that was told of room must not find itself waiting for news that nobody owes it.

use super::{Dispatcher, GateKind};
use crate::driver::Driver;
use crate::handler::Factory;
use crate::tuning::Tuning;
use polyloop_core::overload::Level;

/// The bounds that the level of memory leaves: those of the tuning, or less.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Allowance {
    /// Output kept for one socket above which its source is held.
    pub(super) output_high_bytes: usize,
    /// Bytes of one read.
    pub(super) read_bytes_max: usize,
    /// Whether a pipe may be filled with more than the watermark.
    pub(super) fills_pipes: bool,
}

impl Allowance {
    pub(super) fn new(tuning: &Tuning, level: Level) -> Self {
        Self {
            output_high_bytes: level.output_high_bytes(tuning.output_high_bytes),
            read_bytes_max: level.output_high_bytes(tuning.read_bytes_max),
            fills_pipes: !level.is_pressed(),
        }
    }

    /// Output below which a source that was held is read again: half of the watermark, as Envoy does it.
    pub(super) const fn output_low_bytes(self) -> usize {
        self.output_high_bytes / 2
    }
}

impl<D: Driver, F: Factory> Dispatcher<D, F> {
    /// Acts on a level that is another than the last.
    pub(super) fn obey_level(&mut self, level: Level) {
        self.progress = true;
        self.allowance = Allowance::new(&self.tuning, level);
        if level.is_pressed() {
            self.hub.blocks.release_free();
        } else {
            self.hub.blocks.keep_free();
        }
        let admission = self.acceptor.admission_of_mut(GateKind::Service);
        let decision = match level {
            Level::Stop => admission.handle_overload(),
            Level::Normal | Level::Shrink => admission.handle_relief(),
        };
        self.obey_admission(GateKind::Service, decision);
    }
}
