//! The ready phase: sockets with work, by class, each within its bytes, all within a time quota.

use super::session::{LegFlags, Session, SessionFlags};
use super::{Dispatcher, Key};
use crate::blocks::Chain;
use crate::close::CloseReason;
use crate::ctx::Ctx;
use crate::driver::Driver;
use crate::guard::guarded;
use crate::handler::{Factory, Handler, Verdict};
use crate::input::Input;
use crate::telemetry::{Callback, Phase};
use crate::token::{Side, Token};
use polyloop_core::errno::{Blame, IoAction, read_action, write_action};
use std::io;

/// One dispatch in so many is timed: no clock is read per event.
const SAMPLE_EVERY: u32 = 64;

/// Reads tried again at once after `EINTR`; a kernel that interrupts more often is asked again in the next turn.
const INTERRUPTS_MAX: u32 = 8;

/// Where a session's reading of one turn stands.
pub(super) struct Pass {
    /// Bytes that it may still read.
    budget: usize,
    interrupts: u32,
    /// The handler was told that more is to come, and perhaps it does not.
    owes_batch_end: bool,
}

impl Pass {
    /// A pass that reads nothing.
    pub(super) const fn empty() -> Self {
        Self {
            budget: 0,
            interrupts: 0,
            owes_batch_end: false,
        }
    }
}

/// What one read came to.
pub(super) enum Step {
    /// Read on, there may be more.
    More,
    /// Nothing more now: drained, stopped, or over its budget.
    Enough,
    /// The session is gone, or ending.
    Over,
}

impl<D: Driver, F: Factory> Dispatcher<D, F> {
    /// Serves the run queue as it was at the beginning of the phase; what is queued meanwhile is for the next turn.
    pub(super) fn phase_ready(&mut self) {
        self.board.beat.phase(Phase::Ready);
        let quota_ns = u64::try_from(self.tuning.quota.as_nanos()).unwrap_or(u64::MAX);
        let until_ns = self.turn_started_ns.saturating_add(quota_ns);
        self.runqueue.begin_turn();
        self.stride.begin(self.turn_started_ns);
        while let Some(key) = self.runqueue.next() {
            self.dispatches = self.dispatches.wrapping_add(1);
            if self.dispatches.is_multiple_of(SAMPLE_EVERY) {
                let from_ns = self.driver.now();
                self.dispatch(key);
                let took_ns = self.driver.now().saturating_sub(from_ns);
                self.board.handler_time.record(took_ns);
            } else {
                self.dispatch(key);
            }
            if !self.stride.pass() {
                continue;
            }
            let now_ns = self.driver.now();
            self.stride.look(now_ns, quota_ns);
            if now_ns >= until_ns && !self.runqueue.is_empty() {
                self.board.numbers.budget_quota.add(1);
                break;
            }
        }
    }

    /// Serves one session: what came of a connection attempt, room to write, trouble, then input.
    fn dispatch(&mut self, key: Key) {
        let Some(session) = self.sessions.get(key) else {
            return;
        };
        let has_back = session.back.is_some();
        // A failed attempt is told before the front is served: the handler may want to have what is still to be read for another.
        let owes_failure = session.owes_failure();
        if session.is_connecting() {
            // Its answer first: what the front has waited with then goes out in this turn.
            self.dispatch_leg(key, Side::Back);
            if !self.sessions.get(key).is_some_and(Session::owes_failure) {
                self.dispatch_leg(key, Side::Front);
            }
        } else {
            if !owes_failure {
                self.dispatch_leg(key, Side::Front);
            }
            if has_back {
                self.dispatch_leg(key, Side::Back);
            }
        }
        self.queue_again_if_due(key);
    }

    /// Takes a session that has been served out of the run queue, or puts it there again. It counts as queued until now, since
    /// what a callback makes due has been served by then, mostly.
    fn queue_again_if_due(&mut self, key: Key) {
        if let Some(session) = self.sessions.get_mut(key) {
            if session.has_work() {
                self.runqueue.push(session.state.class, key);
            } else {
                session.state.flags.clear(SessionFlags::QUEUED);
            }
        }
    }

    fn dispatch_leg(&mut self, key: Key, side: Side) {
        let Some(leg) = self.sessions.get(key).and_then(|session| session.leg(side)) else {
            return;
        };
        let flags = leg.flags;
        if flags.has(LegFlags::CONNECTING) {
            if flags.has(LegFlags::WRITABLE.with(LegFlags::TROUBLED)) {
                self.settle_connect(key);
            }
            return;
        }
        if leg.is_flushable() {
            self.flush_leg(key, side);
        }
        if flags.has(LegFlags::TROUBLED) && !self.survives_trouble(key, side) {
            return;
        }
        self.read_leg(key, side);
    }

    /// The poll told of an error or a hang-up. A socket that is being read finds out by reading; one that is not
    /// (paused, held, or its FIN long read) would never know that its peer is gone, so it is asked.
    fn survives_trouble(&mut self, key: Key, side: Side) -> bool {
        let Some(session) = self.sessions.get_mut(key) else {
            return false;
        };
        let Some((leg, stream)) = session.socket_mut(side) else {
            return false;
        };
        if leg.is_readable() {
            // The trouble stays noted: if the handler stops reading before the read that would tell, it is asked after all.
            return true;
        }
        leg.flags.clear(LegFlags::TROUBLED);
        match self.driver.take_error(stream) {
            Ok(None) => true,
            Ok(Some(error)) | Err(error) => {
                self.break_leg(key, side, close_reason(&error), error);
                false
            }
        }
    }

    /// Reads one side until it is drained, stopped, or over its bytes of this turn.
    fn read_leg(&mut self, key: Key, side: Side) {
        if self.can_splice(key, side) && self.splice_leg(key, side) {
            return;
        }
        let mut pass = Pass {
            budget: self.tuning.read_bytes_max,
            interrupts: 0,
            owes_batch_end: false,
        };
        loop {
            match self.read_once(key, side, &mut pass) {
                Step::More => {}
                Step::Enough => break,
                Step::Over => return,
            }
        }
        if pass.budget == 0 {
            self.board.numbers.budget_bytes.add(1);
        }
        if pass.owes_batch_end {
            self.call(key, side, Callback::Data, |handler, cx| {
                handler.on_batch_end(cx)
            });
        }
    }

    /// One read, and what comes of it.
    #[inline]
    fn read_once(&mut self, key: Key, side: Side, pass: &mut Pass) -> Step {
        let Some(session) = self.sessions.get_mut(key) else {
            return Step::Over;
        };
        let is_ending = session.state.flags.has(SessionFlags::ENDING);
        let Some((leg, stream)) = session.socket_mut(side) else {
            return Step::Over;
        };
        if !leg.is_readable() {
            if leg.is_owed_input() {
                self.hand_over_again(key, side);
            }
            return Step::Enough;
        }
        let kept = if leg.kept.is_empty() {
            0
        } else {
            self.hub
                .blocks
                .take_into(&mut leg.kept, &mut self.read_buffer)
        };
        let room = &mut self.read_buffer[kept..];
        if room.is_empty() {
            if leg.flags.has(LegFlags::AGAIN) {
                // The handler left it on purpose and has asked for it again; it may take some now.
                return match self.hand_over(key, side, kept, true) {
                    Step::Over => Step::Over,
                    Step::More | Step::Enough => Step::Enough,
                };
            }
            self.close(key, CloseReason::InputOverflow);
            return Step::Over;
        }
        let asked = room.len().min(self.allowance.read_bytes_max);
        let read = self.driver.read(stream, &mut room[..asked]);
        self.board.numbers.reads.add(1);
        let count = match read {
            Ok(0) => return self.end_of_input(key, side, kept, pass),
            Ok(count) => count,
            Err(error) => return self.read_failed(key, side, kept, &error, pass),
        };
        // A short read has drained the socket, unless the peer has closed: then there is an end to be read. A read also stops
        // short where urgent data was sent, whatever is behind it; the poll hints at that in the same way.
        let is_short = count < asked;
        let is_drained = is_short && !leg.flags.has(LegFlags::FIN_HINT);
        if is_drained {
            leg.flags.clear(LegFlags::READABLE);
        }
        pass.budget = pass.budget.saturating_sub(count);
        session.state.bytes_in += count as u64;
        session.state.active_ms = self.hub.now_ms() as u32;
        self.board.numbers.bytes_in.add(count as u64);
        self.progress = true;
        let is_enough = is_drained || pass.budget == 0;
        if !is_ending {
            pass.owes_batch_end = !is_short && !is_enough;
            match self.hand_over(key, side, kept + count, !pass.owes_batch_end) {
                Step::More => {}
                step => {
                    pass.owes_batch_end = false;
                    return step;
                }
            }
        }
        if is_enough { Step::Enough } else { Step::More }
    }

    /// Gives the handler the first `len` bytes of the read buffer, keeps what it leaves, sends what it writes.
    #[inline]
    fn hand_over(&mut self, key: Key, side: Side, len: usize, is_last: bool) -> Step {
        let Some(session) = self.sessions.get_mut(key) else {
            return Step::Over;
        };
        if let Some(leg) = session.leg_mut(side) {
            leg.flags.clear(LegFlags::AGAIN);
        }
        let handler = &mut session.handler;
        let bytes = &self.read_buffer[..len];
        self.hub.outbox.begin(bytes);
        let token = Token::session(key, side).to_bits();
        let beat = &self.board.beat;
        let mut cx = Ctx {
            hub: &mut self.hub,
            state: &mut session.state,
            has_front: session.stream.is_some(),
            back: session.back.as_mut().map(|back| &mut back.leg),
            key,
            side,
        };
        let mut input = Input::new(bytes, is_last);
        let verdict = guarded(|| {
            beat.enter(token, handler.name_index(), Callback::Data);
            match handler.on_data(&mut cx, &mut input) {
                Verdict::Continue if is_last => handler.on_batch_end(&mut cx),
                verdict => verdict,
            }
        });
        beat.leave();
        let Ok(verdict) = verdict else {
            self.end_panicked(key);
            return Step::Over;
        };
        let left = input.len();
        if left > 0 {
            self.keep(key, side, len - left, len);
        }
        self.after_call(key, len, verdict);
        if verdict != Verdict::Continue {
            self.obey_verdict(key, side, verdict, CloseReason::HandlerClosed);
        }
        match self.sessions.get(key) {
            None => Step::Over,
            Some(session) if session.state.flags.has(SessionFlags::ENDING) => Step::Over,
            Some(_) if matches!(verdict, Verdict::Yield | Verdict::Pause) => Step::Enough,
            Some(_) => Step::More,
        }
    }

    /// Hands input that was left over again, although nothing new has come.
    fn hand_over_again(&mut self, key: Key, side: Side) {
        let Some(leg) = self.sessions.get_mut(key).and_then(|s| s.leg_mut(side)) else {
            return;
        };
        leg.flags.clear(LegFlags::AGAIN);
        if leg.kept.is_empty() {
            return;
        }
        let len = self
            .hub
            .blocks
            .take_into(&mut leg.kept, &mut self.read_buffer);
        self.progress = true;
        self.hand_over(key, side, len, true);
    }

    /// Puts read_buffer[from..to] back into the leg's kept input.
    fn keep(&mut self, key: Key, side: Side, from: usize, to: usize) {
        let Some(leg) = self.sessions.get_mut(key).and_then(|s| s.leg_mut(side)) else {
            return;
        };
        debug_assert!(
            leg.kept == Chain::EMPTY,
            "kept input is taken whole before a read"
        );
        self.hub
            .blocks
            .append(&mut leg.kept, &self.read_buffer[from..to]);
    }

    /// The peer's FIN. What the handler had left of the input before it (`kept` bytes) stays left.
    fn end_of_input(&mut self, key: Key, side: Side, kept: usize, pass: &mut Pass) -> Step {
        self.progress = true;
        let owed = self.sessions.get(key).and_then(|session| session.leg(side));
        if kept > 0 && owed.is_some_and(|leg| leg.flags.has(LegFlags::AGAIN)) {
            // The handler has asked for the rest and comes first. The FIN is not lost: the next read says it again.
            return match self.hand_over(key, side, kept, true) {
                Step::Over => Step::Over,
                Step::More | Step::Enough => Step::Enough,
            };
        }
        if kept > 0 {
            self.keep(key, side, 0, kept);
        }
        if std::mem::take(&mut pass.owes_batch_end) {
            self.call(key, side, Callback::Data, |handler, cx| {
                handler.on_batch_end(cx)
            });
        }
        let Some(session) = self.sessions.get_mut(key) else {
            return Step::Over;
        };
        let is_ending = session.state.flags.has(SessionFlags::ENDING);
        if let Some(leg) = session.leg_mut(side) {
            leg.flags.set(LegFlags::FIN_IN);
            leg.flags.clear(LegFlags::READABLE);
        }
        if is_ending {
            self.finish_legs(key);
        } else {
            self.call(key, side, Callback::Finished, |handler, cx| {
                handler.on_finished(cx)
            });
        }
        Step::Over
    }

    pub(super) fn read_failed(
        &mut self,
        key: Key,
        side: Side,
        kept: usize,
        error: &io::Error,
        pass: &mut Pass,
    ) -> Step {
        if kept > 0 {
            self.keep(key, side, 0, kept);
        }
        match read_action(error.raw_os_error().unwrap_or(0)) {
            IoAction::Retry if pass.interrupts < INTERRUPTS_MAX => {
                pass.interrupts += 1;
                Step::More
            }
            IoAction::Retry => {
                self.progress = true;
                Step::Enough
            }
            IoAction::Done => {
                if let Some(leg) = self.sessions.get_mut(key).and_then(|s| s.leg_mut(side)) {
                    let over = LegFlags::READABLE.with(LegFlags::FIN_HINT);
                    leg.flags.clear(over.with(LegFlags::URGENT));
                }
                Step::Enough
            }
            IoAction::Close(blame) => {
                self.break_leg(key, side, reason_of(blame, error), copy_of(error));
                Step::Over
            }
        }
    }
}

/// Errors are not `Clone`; those of the kernel are a number.
pub(super) fn copy_of(error: &io::Error) -> io::Error {
    error.raw_os_error().map_or_else(
        || io::Error::from(error.kind()),
        io::Error::from_raw_os_error,
    )
}

/// The close reason of an error that a socket had kept for us.
pub(super) fn close_reason(error: &io::Error) -> CloseReason {
    match read_action(error.raw_os_error().unwrap_or(0)) {
        IoAction::Close(blame) => reason_of(blame, error),
        IoAction::Done | IoAction::Retry => CloseReason::Os(error.raw_os_error().unwrap_or(0)),
    }
}

/// The close reason of an error that a write came to.
pub(super) fn close_reason_of_write(error: &io::Error) -> CloseReason {
    match write_action(error.raw_os_error().unwrap_or(0)) {
        IoAction::Close(blame) => reason_of(blame, error),
        IoAction::Done | IoAction::Retry => CloseReason::Os(error.raw_os_error().unwrap_or(0)),
    }
}

/// The close reason for whom the table of errno blames.
pub(super) fn reason_of(blame: Blame, error: &io::Error) -> CloseReason {
    match blame {
        Blame::Reset => CloseReason::PeerReset,
        Blame::Vanished => CloseReason::PeerVanished,
        Blame::System | Blame::OurBug => CloseReason::Os(error.raw_os_error().unwrap_or(0)),
    }
}
