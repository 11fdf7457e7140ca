//! Slow readers: a deadline does not cut off a peer that still takes what it is owed.
//!
//! ```text
//!   deadline due -> is something owed?  no  -> cut
//!                   yes -> ask the kernel how much has arrived by now
//!                          more than at the last look, or no look yet -> another deadline
//!                          no more                                    -> cut
//! ```
//!
//! The kernel says "writable" again when a third of a send buffer is free. That may be megabytes, and minutes of a peer who
//! reads slowly and steadily; to us, such a peer is silent. So what a deadline asks is not when bytes moved here, but whether
//! some have arrived there since it asked last.
//!
//! Looks are kept beside the sessions, since few sessions need one at a time. Deliberately absent: a bound on how long a peer
//! may take that takes something in every deadline. It holds one place, as it would by sending a byte now and then.

use super::session::{Leg, LegFlags};
use super::{Dispatcher, Key};
use crate::close::CloseReason;
use crate::driver::Driver;
use crate::handler::Factory;
use crate::token::Side;
use std::collections::BTreeMap;

/// What had arrived when a deadline looked last, by slot of the session.
#[derive(Debug, Default)]
pub(super) struct Deliveries(BTreeMap<u32, i64>);

impl Deliveries {
    /// The session moves again, or is gone.
    #[inline]
    pub(super) fn forget(&mut self, key: Key) {
        if !self.0.is_empty() {
            self.0.remove(&key.index());
        }
    }
}

impl<D: Driver, F: Factory> Dispatcher<D, F> {
    /// A deadline is due: ends the session for `reason`, or gives it another deadline.
    pub(super) fn cut_or_wait(&mut self, key: Key, reason: CloseReason) {
        let waits = match self.delivered(key) {
            Some(delivered) => {
                let before = self.deliveries.0.insert(key.index(), delivered);
                before.is_none_or(|before| delivered > before)
            }
            None => false,
        };
        match self.sessions.get_mut(key) {
            Some(session) if waits => self.hub.arm_deadline(key, &mut session.state),
            _ => self.close(key, reason),
        }
    }

    /// A session begins to end: if output of it waits, its linger deadline has something to compare with.
    pub(super) fn note_deliveries(&mut self, key: Key) {
        self.deliveries.forget(key);
        let waits = |leg: Option<&Leg>| leg.is_some_and(Leg::has_output);
        let has_output = self
            .sessions
            .get(key)
            .is_some_and(|session| Side::ALL.iter().any(|&side| waits(session.leg(side))));
        if has_output && let Some(delivered) = self.delivered(key) {
            self.deliveries.0.insert(key.index(), delivered);
        }
    }

    /// How many bytes its peers have taken of what the session has written, and `None` if they are owed nothing more: no
    /// output waits here, and none in the kernel before a FIN.
    fn delivered(&mut self, key: Key) -> Option<i64> {
        let session = self.sessions.get_mut(key)?;
        let mut delivered = session.state.bytes_out as i64;
        let mut is_owed = false;
        for side in Side::ALL {
            let Some((leg, stream)) = session.socket_mut(side) else {
                continue;
            };
            if leg.flags.has(LegFlags::CONNECTING) {
                continue;
            }
            // A socket that cannot be asked is broken, which its next event or write will tell.
            let unacked = self.driver.unacked(stream).unwrap_or(0);
            delivered -= unacked as i64;
            is_owed |= leg.has_output() || leg.flags.has(LegFlags::FIN_OUT) && unacked > 0;
        }
        is_owed.then_some(delivered)
    }
}
