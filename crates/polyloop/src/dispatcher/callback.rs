//! Calling a handler, and doing what its verdict says.
//!
//! Every callback goes through [`Dispatcher::call`]: it lends the handler its context, catches a panic, sends what
//! was written, and applies the verdict. It is the only place that knows the order of these.

use super::session::{Back, Leg, LegFlags, SessionFlags};
use super::{Dispatcher, Key};
use crate::close::CloseReason;
use crate::ctx::Ctx;
use crate::driver::{Driver, Interest};
use crate::guard::guarded;
use crate::handler::{Factory, Handler, Verdict};
use crate::telemetry::Callback;
use crate::token::{Side, Token};
use polyloop_core::wheel::TimerKey;
use polyloop_sys::dial::{Dial, KeepAliveNumbers};
use std::io;

impl<D: Driver, F: Factory> Dispatcher<D, F> {
    /// Calls a handler without input. Returns whether the session was there to be called; it may be gone now.
    pub(super) fn call(
        &mut self,
        key: Key,
        side: Side,
        callback: Callback,
        act: impl FnOnce(&mut F::Handler, &mut Ctx<'_, F::Handler>) -> Verdict,
    ) -> bool {
        let session = self.sessions.get_mut(key);
        let Some(session) = session.filter(|s| !s.state.flags.has(SessionFlags::ENDING)) else {
            // What the call would have handed over (a message, a result) is the user's, and so is its `Drop`.
            self.drop_guarded(act);
            return false;
        };
        self.hub.outbox.begin(&[]);
        let handler = &mut session.handler;
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
        let verdict = guarded(|| {
            beat.enter(token, handler.name_index(), callback);
            act(handler, &mut cx)
        });
        beat.leave();
        let Ok(verdict) = verdict else {
            self.end_panicked(key);
            return true;
        };
        self.after_call(key, 0, verdict);
        self.obey_verdict(key, side, verdict, end_reason(callback));
        self.queue_if_due(key);
        true
    }

    /// Does what a callback asked for besides its verdict: output, FIN, a connection. `input_len` bytes of the read
    /// buffer are the input that output may lie in.
    #[inline]
    pub(super) fn after_call(&mut self, key: Key, input_len: usize, verdict: Verdict) {
        if self.hub.disconnects {
            self.hub.disconnects = false;
            self.drop_back(key, true);
            self.forget_connect_failure(key);
        }
        if let Some(dial) = self.hub.connect.take() {
            self.start_connect(key, dial);
        }
        if self.hub.outbox.len(Side::Front) > 0 {
            self.send_outbox(key, Side::Front, input_len);
        }
        if self.hub.outbox.len(Side::Back) > 0 {
            self.send_outbox(key, Side::Back, input_len);
        }
        if verdict == Verdict::Drain {
            // Sends the FINs as it ends the session; where nothing is left to wait for, closing sends them.
            return;
        }
        let Some(session) = self.sessions.get(key) else {
            return;
        };
        let asked = LegFlags::FIN_WANTED;
        if session.state.front.flags.has(asked)
            || session
                .back
                .as_ref()
                .is_some_and(|back| back.leg.flags.has(asked))
        {
            self.finish_legs(key);
        }
    }

    /// Applies a verdict; a session that it ends, ends for `reason`. The session may be gone afterwards.
    #[inline]
    pub(super) fn obey_verdict(
        &mut self,
        key: Key,
        side: Side,
        verdict: Verdict,
        reason: CloseReason,
    ) {
        match verdict {
            Verdict::Continue => {}
            Verdict::Pause => {
                if let Some(leg) = self.sessions.get_mut(key).and_then(|s| s.leg_mut(side)) {
                    leg.flags.set(LegFlags::PAUSED);
                }
            }
            Verdict::Yield => {
                if let Some(leg) = self.sessions.get_mut(key).and_then(|s| s.leg_mut(side)) {
                    leg.flags.set(LegFlags::AGAIN);
                }
            }
            Verdict::Drain => self.begin_end(key, SessionFlags::DRAINING, reason),
            Verdict::Close => self.begin_end(key, SessionFlags::CLOSING, reason),
            Verdict::Abort => self.close(key, CloseReason::HandlerAborted),
        }
    }

    /// Drops what belongs to the user where no session can pay for a panic in its `Drop`: it is counted.
    pub(super) fn drop_guarded<T>(&self, value: T) {
        if guarded(|| drop(value)).is_err() {
            self.board.numbers.handler_panics.add(1);
        }
    }

    /// A handler panicked: that costs its session and nothing else.
    pub(super) fn end_panicked(&mut self, key: Key) {
        self.board.numbers.handler_panics.add(1);
        self.hub.outbox.finish();
        self.hub.connect = None;
        self.hub.forwards = false;
        self.hub.disconnects = false;
        self.close(key, CloseReason::HandlerPanicked);
    }

    /// A timer is due: the session's own deadline, or one that its handler set.
    pub(super) fn fire(&mut self, key: Key, timer: TimerKey) {
        let Some(session) = self.sessions.get_mut(key) else {
            debug_assert!(false, "a session's timers are cancelled when it closes");
            return;
        };
        if session.state.deadline != Some(timer) {
            let is_known = self.hub.forget_timer(&mut session.state, timer);
            debug_assert!(is_known, "a handler's timer is in its session's list");
            self.call(key, Side::Front, Callback::Timer, |handler, cx| {
                handler.on_timer(cx, timer)
            });
            return;
        }
        let state = &mut session.state;
        state.deadline = None;
        if state.flags.has(SessionFlags::ENDING) {
            self.cut_or_wait(key, CloseReason::LingerTimeout);
            return;
        }
        // Lazy: whoever moves bytes only stores the time; here is where it is looked at.
        let now_ms = self.hub.now_ms();
        let idle_ms = (now_ms as u32).wrapping_sub(state.active_ms);
        if state.flags.has(SessionFlags::YOUNG) && (state.idle_ms == 0 || idle_ms <= state.idle_ms)
        {
            self.grow_up(key);
        }
        let Some(session) = self.sessions.get_mut(key) else {
            return;
        };
        let state = &mut session.state;
        if state.idle_ms == 0 {
            return;
        }
        if idle_ms > state.idle_ms {
            self.cut_or_wait(key, CloseReason::IdleTimeout);
        } else {
            // What was delivered before bytes moved again says nothing about the next silence.
            self.deliveries.forget(key);
            let tick = now_ms + 1 + u64::from(state.idle_ms - idle_ms);
            state.deadline = self.hub.wheel.arm(tick, key).ok();
        }
    }

    /// Has the sockets of a session that is no longer young kept alive.
    ///
    /// Not from the start: a keep-alive costs four system calls and a timer in the kernel, some percent of all that a short
    /// session costs, and has nothing to say about a session's first second.
    fn grow_up(&mut self, key: Key) {
        let Some(session) = self.sessions.get_mut(key) else {
            return;
        };
        session.state.flags.clear(SessionFlags::YOUNG);
        // A socket that broke meanwhile is told of by its next read, and needs none.
        if let Some(stream) = &mut session.stream {
            let _ = self.driver.keep_alive(stream, None);
        }
        if let Some(back) = &mut session.back
            && let Some(numbers) = back.keep_alive.take()
        {
            let _ = self.driver.keep_alive(&mut back.stream, Some(numbers));
        }
    }

    /// Tells a handler, once, that the server drains.
    pub(super) fn tell_drain(&mut self, key: Key) {
        let Some(session) = self.sessions.get_mut(key) else {
            return;
        };
        if session.state.flags.has(SessionFlags::TOLD_DRAIN) {
            return;
        }
        session.state.flags.set(SessionFlags::TOLD_DRAIN);
        self.call(key, Side::Front, Callback::Control, |handler, cx| {
            handler.on_drain(cx)
        });
    }

    pub(super) fn tell_signal(&mut self, key: Key, signal: i32) {
        self.call(key, Side::Front, Callback::Control, |handler, cx| {
            handler.on_signal(cx, signal)
        });
    }

    /// Starts the connection that a handler asked for. A failure is told in a later turn: a handler that tries the
    /// next address at once must not recurse through us.
    fn start_connect(&mut self, key: Key, mut dial: Dial) {
        dial.holds_ack |= self.hub.outbox.len(Side::Back) > 0;
        if std::mem::take(&mut self.hub.forwards) && !dial.holds_ack {
            dial.holds_ack = self.has_front_input(key);
        }
        let keep_alive = match self.take_late_keep_alive(key, &mut dial) {
            Ok(keep_alive) => keep_alive,
            Err(error) => return self.note_connect_failure(key, error),
        };
        let made = self.driver.connect(&dial).and_then(|mut stream| {
            let token = Token::session(key, Side::Back);
            match self
                .driver
                .register(&mut stream, token, Interest::ReadWrite)
            {
                Ok(()) => Ok(stream),
                Err(error) => {
                    self.driver.close_stream(stream, false);
                    Err(error)
                }
            }
        });
        match made {
            Ok(stream) => {
                let Some(session) = self.sessions.get_mut(key) else {
                    self.driver.close_stream(stream, false);
                    return;
                };
                let mut flags = LegFlags::CONNECTING.with(LegFlags::WATCHES_WRITE);
                // Who feeds the front's output is the back from now on: if it is full, the back is held in its place.
                let front = &mut session.state.front;
                if front.flags.has(LegFlags::WAS_FULL) {
                    flags.set(LegFlags::HELD);
                    front.go_on(LegFlags::HELD);
                }
                session.back = Some(Box::new(Back {
                    leg: Leg::new(flags),
                    stream,
                    keep_alive,
                    pipes: [None, None],
                }));
            }
            Err(error) => self.note_connect_failure(key, error),
        }
    }

    /// Takes the keep-alive out of a dial if it can wait until the session, which is young, has grown up.
    fn take_late_keep_alive(
        &self,
        key: Key,
        dial: &mut Dial,
    ) -> io::Result<Option<KeepAliveNumbers>> {
        let session = self.sessions.get(key);
        let is_young = session.is_some_and(|session| session.state.flags.has(SessionFlags::YOUNG));
        if !is_young || dial.port().is_none() {
            return Ok(None);
        }
        let keep_alive = dial.vigilance.keep_alive.take();
        keep_alive.map(TryInto::try_into).transpose()
    }

    /// Whether the front has said something that its handler has not taken.
    fn has_front_input(&self, key: Key) -> bool {
        let Some(session) = self.sessions.get(key) else {
            return false;
        };
        let front = session.stream.as_ref();
        !session.state.front.kept.is_empty()
            || front.is_some_and(|stream| self.driver.has_input(stream))
    }

    /// Remembers a failure until it can be told. Until then the session may not ask for another connection, or it would
    /// be told of the wrong one.
    pub(super) fn note_connect_failure(&mut self, key: Key, error: io::Error) {
        if let Some(session) = self.sessions.get_mut(key) {
            session.state.flags.set(SessionFlags::OWED_FAILURE);
            self.connect_failures.push_back((key, error));
        }
    }

    /// A connecting socket has an event: is the attempt over, and how did it end?
    pub(super) fn settle_connect(&mut self, key: Key) {
        let Some(back) = self
            .sessions
            .get_mut(key)
            .and_then(|session| session.back.as_mut())
        else {
            return;
        };
        // Room to write and no trouble is all there is to know; a failed attempt comes with an error or a hang-up.
        let failed = if back.leg.flags.has(LegFlags::TROUBLED) {
            self.driver
                .take_error(&mut back.stream)
                .unwrap_or_else(Some)
        } else {
            None
        };
        match failed {
            None if back.leg.flags.has(LegFlags::WRITABLE) => {
                // A hang-up without an error, while the attempt succeeded, is a known quirk of the kernel: the read
                // that follows tells the truth.
                back.leg
                    .flags
                    .clear(LegFlags::CONNECTING.with(LegFlags::TROUBLED));
                self.call(key, Side::Back, Callback::Connect, |handler, cx| {
                    handler.on_connected(cx)
                });
                self.flush_leg(key, Side::Back);
            }
            None => back.leg.flags.clear(LegFlags::TROUBLED),
            Some(error) => {
                self.drop_back(key, false);
                self.note_connect_failure(key, error);
            }
        }
    }

    /// Forgets a failure that was not told yet: the handler has given that connection up.
    fn forget_connect_failure(&mut self, key: Key) {
        if let Some(session) = self.sessions.get_mut(key)
            && session.state.flags.has(SessionFlags::OWED_FAILURE)
        {
            session.state.flags.clear(SessionFlags::OWED_FAILURE);
            // All of the queue for one entry; but nearly nobody gives up in the one turn between a failure and its news.
            self.connect_failures.retain(|(owed, _)| *owed != key);
        }
    }

    /// Tells handlers that their connections could not be made, at most `max` of them; returns how many.
    pub(super) fn tell_connect_failures(&mut self, max: usize) -> usize {
        let told = self.connect_failures.len().min(max);
        for _ in 0..told {
            let Some((key, error)) = self.connect_failures.pop_front() else {
                break;
            };
            if let Some(session) = self.sessions.get_mut(key) {
                session.state.flags.clear(SessionFlags::OWED_FAILURE);
            }
            self.call(key, Side::Back, Callback::ConnectFailed, |handler, cx| {
                handler.on_connect_failed(cx, error)
            });
        }
        told
    }
}

/// Why a session ends whose handler answered the callback with `Drain` or `Close`.
#[inline]
const fn end_reason(callback: Callback) -> CloseReason {
    match callback {
        Callback::Finished => CloseReason::PeerFinished,
        Callback::ConnectFailed => CloseReason::ConnectFailed,
        _ => CloseReason::HandlerClosed,
    }
}
