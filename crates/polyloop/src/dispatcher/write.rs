//! Output: straight to the kernel while it takes it, kept in blocks while it does not.
//!
//! Above the watermark the side that feeds the output is no longer read; below half of it, it is read again and the
//! handler told. Above the hard bound the session is closed: its handler does not listen.

use super::ready::{copy_of, reason_of};
use super::session::{Leg, LegFlags, SessionFlags};
use super::{Dispatcher, Key};
use crate::close::CloseReason;
use crate::driver::{Driver, Interest, SLICES_MAX};
use crate::handler::{Factory, Handler};
use crate::telemetry::{Callback, Phase};
use crate::token::{Side, Token};
use polyloop_core::errno::{IoAction, write_action};
use std::io::{self, IoSlice};

/// Vectored writes of one flush; what is left after them waits for the next turn.
const FLUSH_WRITES_MAX: usize = 4;

impl<D: Driver, F: Factory> Dispatcher<D, F> {
    /// The flush phase: what was written outside of the ready phase, one system call for each session.
    pub(super) fn phase_flush(&mut self) {
        self.board.beat.phase(Phase::Flush);
        // Handlers that are told of new room may write again; that goes to the other list, for the next turn. Two lists
        // that change places never give their memory back.
        std::mem::swap(&mut self.flush_list, &mut self.flush_list_done);
        for at in 0..self.flush_list_done.len() {
            let key = self.flush_list_done[at];
            let Some(session) = self.sessions.get_mut(key) else {
                continue;
            };
            session.state.flags.clear(SessionFlags::FLUSH_LISTED);
            self.flush_leg(key, Side::Front);
            self.flush_leg(key, Side::Back);
        }
        self.flush_list_done.clear();
    }

    /// Sends what the callback wrote to one side, or keeps it.
    #[inline]
    pub(super) fn send_outbox(&mut self, key: Key, side: Side, input_len: usize) {
        let was_told_full = self.note_full(key, side);
        let Some(session) = self.sessions.get_mut(key) else {
            return;
        };
        let Some((leg, stream)) = session.socket_mut(side) else {
            return;
        };
        let waits = LegFlags::BLOCKED
            .with(LegFlags::CONNECTING)
            .with(LegFlags::PIPED);
        if self.defers_output || !leg.output.is_empty() || leg.flags.has(waits) {
            self.keep_outbox(key, side, input_len, 0);
            return;
        }
        let input = &self.read_buffer[..input_len];
        let outbox = &self.hub.outbox;
        let wanted = outbox.len(side);
        let mut offered = wanted;
        let written = if let Some(bytes) = outbox.whole(side, input) {
            self.driver.write(stream, bytes)
        } else {
            let mut slices = [IoSlice::new(&[]); SLICES_MAX];
            let count = outbox.slices(side, input, &mut slices);
            offered = slices[..count].iter().map(|slice| slice.len()).sum();
            self.driver.write_vectored(stream, &slices[..count])
        };
        self.board.numbers.writes.add(1);
        match written {
            Ok(count) => {
                session.state.bytes_out += count as u64;
                session.state.active_ms = self.hub.now_ms() as u32;
                self.board.numbers.bytes_out.add(count as u64);
                if count < offered {
                    // Blocked first: what is kept then waits for the kernel, not for the flush phase.
                    self.block(key, side);
                    self.keep_outbox(key, side, input_len, count);
                } else if count < wanted {
                    self.keep_outbox(key, side, input_len, count);
                } else if was_told_full {
                    self.list_flush(key);
                }
            }
            Err(error) => self.send_failed(key, side, input_len, &error),
        }
    }

    /// Whether the handler was told that this output is full. Then it waits for `on_writable`, also if the kernel takes
    /// everything at once; and what it left of its input must not be overtaken by a FIN meanwhile.
    #[inline]
    fn note_full(&mut self, key: Key, side: Side) -> bool {
        let Some(session) = self.sessions.get_mut(key) else {
            return false;
        };
        let Some(leg) = session.leg_mut(side) else {
            return false;
        };
        let bytes = self.hub.blocks.len(leg.output) + self.hub.outbox.len(side);
        let is_full = bytes >= self.tuning.output_high_bytes;
        if is_full {
            leg.flags.set(LegFlags::WAS_FULL);
            if let Some(leg) = session.feeder_leg_mut(side)
                && !leg.kept.is_empty()
            {
                leg.flags.set(LegFlags::HELD);
            }
        }
        is_full
    }

    fn send_failed(&mut self, key: Key, side: Side, input_len: usize, error: &io::Error) {
        match write_action(error.raw_os_error().unwrap_or(0)) {
            IoAction::Done => {
                self.block(key, side);
                self.keep_outbox(key, side, input_len, 0);
            }
            IoAction::Retry => {
                self.keep_outbox(key, side, input_len, 0);
                self.list_flush(key);
            }
            IoAction::Close(blame) => {
                self.break_leg(key, side, reason_of(blame, error), copy_of(error));
            }
        }
    }

    /// Keeps what the callback wrote to one side, after the first `skip` bytes.
    fn keep_outbox(&mut self, key: Key, side: Side, input_len: usize, skip: usize) {
        let Some(leg) = self.sessions.get_mut(key).and_then(|s| s.leg_mut(side)) else {
            return;
        };
        let hub = &mut self.hub;
        let input = &self.read_buffer[..input_len];
        hub.outbox.each_after(side, input, skip, |piece| {
            hub.blocks.append(&mut leg.output, piece)
        });
        let kept = hub.blocks.len(leg.output);
        let is_waiting = leg.flags.has(LegFlags::BLOCKED.with(LegFlags::CONNECTING));
        if kept > self.tuning.output_max_bytes {
            self.close(key, CloseReason::OutputOverflow);
            return;
        }
        if kept >= self.allowance.output_high_bytes {
            self.hold_feeder(key, side);
        }
        if !is_waiting {
            self.list_flush(key);
        }
    }

    fn list_flush(&mut self, key: Key) {
        if let Some(session) = self.sessions.get_mut(key)
            && !session.state.flags.has(SessionFlags::FLUSH_LISTED)
        {
            session.state.flags.set(SessionFlags::FLUSH_LISTED);
            self.flush_list.push(key);
        }
    }

    /// Output over the watermark: whoever feeds it is no longer read.
    pub(super) fn hold_feeder(&mut self, key: Key, side: Side) {
        let Some(session) = self.sessions.get_mut(key) else {
            return;
        };
        if let Some(leg) = session.leg_mut(side) {
            leg.flags.set(LegFlags::WAS_FULL);
        }
        if session.state.flags.has(SessionFlags::ENDING) {
            return;
        }
        if let Some(leg) = session.feeder_leg_mut(side)
            && !leg.flags.has(LegFlags::HELD)
        {
            leg.flags.set(LegFlags::HELD);
            self.board.numbers.reads_held.add(1);
        }
    }

    /// The kernel takes no more: wait to be told. The first time, the poll has to be asked to tell.
    pub(super) fn block(&mut self, key: Key, side: Side) {
        self.board.numbers.writes_short.add(1);
        let Some(session) = self.sessions.get_mut(key) else {
            return;
        };
        let Some((leg, stream)) = session.socket_mut(side) else {
            return;
        };
        leg.flags.set(LegFlags::BLOCKED);
        leg.flags.clear(LegFlags::WRITABLE);
        if leg.flags.has(LegFlags::WATCHES_WRITE) {
            return;
        }
        leg.flags.set(LegFlags::WATCHES_WRITE);
        // Asking tests readiness anew, so room that came since the write is not missed.
        let token = Token::session(key, side);
        if let Err(error) = self.driver.set_interest(stream, token, Interest::ReadWrite) {
            self.close(
                key,
                CloseReason::NotRegistered(error.raw_os_error().unwrap_or(0)),
            );
        }
    }

    /// Writes kept output of one side as far as the kernel takes it, then looks at the watermarks and at what waited
    /// for the output to be empty.
    pub(super) fn flush_leg(&mut self, key: Key, side: Side) {
        let is_piped = |leg: &Leg| leg.flags.has(LegFlags::PIPED);
        let leg = self.sessions.get(key).and_then(|session| session.leg(side));
        if leg.is_some_and(is_piped) && !self.flush_pipe(key, side) {
            return;
        }
        for _ in 0..FLUSH_WRITES_MAX {
            let Some(session) = self.sessions.get_mut(key) else {
                return;
            };
            let Some((leg, stream)) = session.socket_mut(side) else {
                return;
            };
            if leg.output.is_empty() || leg.flags.has(LegFlags::CONNECTING) {
                break;
            }
            leg.flags.clear(LegFlags::BLOCKED);
            let mut slices = [IoSlice::new(&[]); SLICES_MAX];
            let count = self.hub.blocks.slices(leg.output, &mut slices);
            let wanted: usize = slices[..count].iter().map(|slice| slice.len()).sum();
            let written = self.driver.write_vectored(stream, &slices[..count]);
            self.board.numbers.writes.add(1);
            match written {
                Ok(done) => {
                    self.hub.blocks.consume(&mut leg.output, done);
                    session.state.bytes_out += done as u64;
                    session.state.active_ms = self.hub.now_ms() as u32;
                    self.board.numbers.bytes_out.add(done as u64);
                    self.progress |= done > 0;
                    if done < wanted {
                        self.block(key, side);
                        break;
                    }
                }
                Err(error) => match write_action(error.raw_os_error().unwrap_or(0)) {
                    IoAction::Done => {
                        self.block(key, side);
                        break;
                    }
                    IoAction::Retry => {}
                    IoAction::Close(blame) => {
                        self.break_leg(key, side, reason_of(blame, &error), error);
                        return;
                    }
                },
            }
        }
        self.after_flush(key, side);
    }

    /// Room again? Then the feeder is read, the handler told, and FIN sent where it waited for the output.
    fn after_flush(&mut self, key: Key, side: Side) {
        let low = self.allowance.output_low_bytes();
        let Some(session) = self.sessions.get_mut(key) else {
            return;
        };
        let Some(leg) = session.leg_mut(side) else {
            return;
        };
        let left = self.hub.blocks.len(leg.output);
        let is_blocked = leg.flags.has(LegFlags::BLOCKED.with(LegFlags::CONNECTING));
        let has_room = leg.flags.has(LegFlags::WAS_FULL) && left <= low;
        if has_room {
            leg.flags.clear(LegFlags::WAS_FULL);
            if let Some(leg) = session.feeder_leg_mut(side) {
                leg.go_on(LegFlags::HELD);
            }
            self.call(key, side, Callback::Writable, |handler, cx| {
                handler.on_writable(cx)
            });
        }
        if left == 0 {
            self.finish_legs(key);
        } else if !is_blocked {
            self.board.numbers.budget_flush.add(1);
            self.list_flush(key);
        }
        self.queue_if_due(key);
    }
}
