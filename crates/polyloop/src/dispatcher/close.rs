//! Opening and ending sessions: every way in and out of the slots is here.

use super::session::{Back, Leg, LegFlags, NO_TIMERS, Session, SessionFlags, SessionState};
use super::{Dispatcher, Key, Life};
use crate::close::CloseReason;
use crate::driver::{Driver, Interest};
use crate::guard::guarded;
use crate::handler::{Accepted, End, Factory, Handler};
use crate::telemetry::Callback;
use crate::token::{Side, Token};
use polyloop_core::runqueue::Class;
use polyloop_sys::peer::PeerAddr;

impl<D: Driver, F: Factory> Dispatcher<D, F> {
    /// Takes a connection on. Its permit is ours now, and is given back when the session closes.
    pub(super) fn open(&mut self, stream: D::Stream, peer: PeerAddr, listener: usize) {
        if !self.open_session(stream, peer, listener, false) {
            self.acceptor.release_permit();
        }
    }

    /// Makes a session of a connection; whether that succeeded. If not, the connection has been closed and counted.
    pub(super) fn open_session(
        &mut self,
        stream: D::Stream,
        peer: PeerAddr,
        listener: usize,
        is_admin: bool,
    ) -> bool {
        let local = if self.tuning.asks_local_addr {
            self.driver.local_addr(&stream).ok()
        } else {
            None
        };
        let accepted = Accepted {
            peer,
            local,
            listener,
            loop_index: self.hub.index,
        };
        self.board.beat.enter(0, 0, Callback::Open);
        let made = guarded(|| {
            let handler = self.factory.make(accepted);
            let class = handler.class();
            (handler, class)
        });
        self.board.beat.leave();
        let Ok((handler, class)) = made else {
            self.board.numbers.handler_panics.add(1);
            return self.turn_away(Some(stream), CloseReason::HandlerPanicked);
        };
        let flags = self.first_flags(listener, is_admin);
        let session = self.new_session(Some(stream), peer, handler, class, flags);
        let key = match self.sessions.insert(session) {
            Ok(key) => key,
            Err(Session {
                stream, handler, ..
            }) => {
                self.drop_guarded(handler);
                return self.turn_away(stream, CloseReason::Evicted);
            }
        };
        let token = Token::session(key, Side::Front);
        if let Some(session) = self.sessions.get_mut(key)
            && let Some(stream) = &mut session.stream
        {
            if let Err(error) = self.driver.register(stream, token, Interest::Read) {
                let errno = error.raw_os_error().unwrap_or(0);
                if let Some(Session {
                    stream, handler, ..
                }) = self.sessions.remove(key)
                {
                    self.drop_guarded(handler);
                    self.turn_away(stream, CloseReason::NotRegistered(errno));
                }
                return false;
            }
            self.hub.arm_deadline(key, &mut session.state);
        }
        self.board.numbers.opened.add(1);
        self.publish_live();
        self.call(key, Side::Front, Callback::Open, |handler, cx| {
            handler.on_open(cx)
        });
        true
    }

    /// What is known of a session from its listener.
    fn first_flags(&self, listener: usize, is_admin: bool) -> SessionFlags {
        let mut flags = match self.life {
            // Who comes while the server drains comes to see that, and need not be told.
            Life::Draining { .. } if is_admin => SessionFlags::ADMIN.with(SessionFlags::TOLD_DRAIN),
            _ if is_admin => SessionFlags::ADMIN,
            _ => SessionFlags::default(),
        };
        if self.kept_alive.get(listener).is_some_and(|kept| *kept) {
            flags.set(SessionFlags::YOUNG);
        }
        flags
    }

    fn new_session(
        &self,
        stream: Option<D::Stream>,
        peer: PeerAddr,
        handler: F::Handler,
        class: Class,
        flags: SessionFlags,
    ) -> Session<D::Stream, D::Pipe, F::Handler> {
        let state = SessionState {
            bytes_in: 0,
            bytes_out: 0,
            peer,
            front: Leg::new(LegFlags::default()),
            deadline: None,
            timers: NO_TIMERS,
            active_ms: self.hub.now_ms() as u32,
            idle_ms: self.tuning.idle_timeout.map_or(0, crate::ctx::millis_of),
            flags,
            class,
            end_reason: 0,
        };
        Session {
            state,
            stream,
            back: None,
            handler,
        }
    }

    /// Makes the sessions that the loop has of its own.
    pub(super) fn open_residents(&mut self) {
        let index = self.hub.index;
        let mailer = self.hub.mailer.clone();
        let made = guarded(|| {
            self.factory.started(mailer);
            self.factory.residents(index)
        });
        let Ok(handlers) = made else {
            self.board.numbers.handler_panics.add(1);
            return;
        };
        for handler in handlers {
            let session = self.new_session(
                None,
                PeerAddr::Unix,
                handler,
                Class::Normal,
                SessionFlags::RESIDENT,
            );
            match self.sessions.insert(session) {
                Ok(key) => {
                    self.residents += 1;
                    self.publish_live();
                    self.board.numbers.opened.add(1);
                    if let Some(session) = self.sessions.get_mut(key) {
                        session.state.idle_ms = 0;
                    }
                    self.call(key, Side::Back, Callback::Open, |handler, cx| {
                        handler.on_open(cx)
                    });
                }
                Err(Session { handler, .. }) => self.drop_guarded(handler),
            }
        }
    }

    /// A socket of a session broke, by `error`: that ends the session, unless it is a resident, which may connect again.
    pub(super) fn break_leg(
        &mut self,
        key: Key,
        side: Side,
        reason: CloseReason,
        error: std::io::Error,
    ) {
        let is_resident = self.sessions.get(key).is_some_and(|session| {
            let flags = session.state.flags;
            flags.has(SessionFlags::RESIDENT) && !flags.has(SessionFlags::ENDING)
        });
        if is_resident && side == Side::Back {
            self.drop_back(key, true);
            self.note_connect_failure(key, error);
        } else {
            self.close_by(key, reason, Some(side));
        }
    }

    /// A connection that did not become a session. It counts as one that opened and closed, so that the two counts, one
    /// less the other, say what is open.
    fn turn_away(&mut self, stream: Option<D::Stream>, reason: CloseReason) -> bool {
        if let Some(stream) = stream {
            // A reset: a FIN would pass for an empty answer.
            self.driver.close_stream(stream, true);
        }
        self.board.numbers.opened.add(1);
        self.board.closes[reason.index()].add(1);
        false
    }

    fn publish_live(&mut self) {
        self.hub.alarms.set_live(self.sessions.len() as usize);
        let admin = (self.acceptor.admin_live + self.residents) as u64;
        self.board
            .numbers
            .live
            .set(u64::from(self.sessions.len()).saturating_sub(admin));
    }

    /// Begins to end a session in good order: see [`Verdict::Drain`](crate::Verdict::Drain) and
    /// [`Verdict::Close`](crate::Verdict::Close). It may be over at once.
    pub(super) fn begin_end(&mut self, key: Key, how: SessionFlags, reason: CloseReason) {
        let Some(session) = self.sessions.get_mut(key) else {
            return;
        };
        if session.state.flags.has(SessionFlags::ENDING) {
            return;
        }
        session.state.flags.set(how);
        session.state.end_reason = reason.index() as u8;
        for side in Side::ALL {
            let Some(leg) = session.leg_mut(side) else {
                continue;
            };
            self.hub.blocks.drop_chain(&mut leg.kept);
            leg.flags.clear(LegFlags::AGAIN);
            if how == SessionFlags::DRAINING {
                leg.flags.set(LegFlags::FIN_WANTED);
                leg.flags.clear(LegFlags::PAUSED.with(LegFlags::HELD));
            } else {
                leg.flags.set(LegFlags::PAUSED);
            }
        }
        self.finish_legs(key);
        self.note_deliveries(key);
        if let Some(session) = self.sessions.get_mut(key) {
            self.hub.arm_deadline(key, &mut session.state);
            self.queue_if_due(key);
        }
    }

    /// Closes a session that has nothing left to wait for; sends the FINs that waited for their output.
    pub(super) fn finish_legs(&mut self, key: Key) {
        let Some(session) = self.sessions.get_mut(key) else {
            return;
        };
        if session.is_over() {
            // Closing sends what FINs are still owed.
            let reason = ending_reason(session.state.end_reason);
            self.close(key, reason);
            return;
        }
        for side in Side::ALL {
            let Some((leg, stream)) = session.socket_mut(side) else {
                continue;
            };
            let waits = leg.has_output() || leg.flags.has(LegFlags::CONNECTING);
            if !leg.flags.has(LegFlags::FIN_WANTED) || waits {
                continue;
            }
            leg.flags.clear(LegFlags::FIN_WANTED);
            if leg.flags.has(LegFlags::FIN_OUT) {
                continue;
            }
            leg.flags.set(LegFlags::FIN_OUT);
            if let Err(error) = self.driver.shutdown_write(stream) {
                // The peer's reset came first, and nobody has read it yet.
                let reason = if error.kind() == std::io::ErrorKind::NotConnected {
                    CloseReason::PeerReset
                } else {
                    super::ready::close_reason(&error)
                };
                self.break_leg(key, side, reason, error);
                return;
            }
        }
    }

    /// Drops a back side that could not be connected or is not wanted any more, with what was written to it.
    pub(super) fn drop_back(&mut self, key: Key, aborts: bool) {
        let Some(mut back) = self
            .sessions
            .get_mut(key)
            .and_then(|session| session.back.take())
        else {
            return;
        };
        self.hub.blocks.drop_chain(&mut back.leg.output);
        self.hub.blocks.drop_chain(&mut back.leg.kept);
        self.driver.close_stream(back.stream, aborts);
        let for_front = back.pipes[Side::Front.index()].as_deref();
        let loses_input = for_front.is_some_and(|pipe| D::pipe_len(pipe) > 0);
        for pipe in back.pipes.into_iter().flatten() {
            self.pipes.drop_held(pipe);
        }
        if let Some(session) = self.sessions.get_mut(key) {
            session.state.front.flags.clear(LegFlags::PIPED);
        }
        if loses_input {
            // The handler was told of these bytes, and the front will never get them: what follows would not join on.
            self.close(key, CloseReason::HandlerAborted);
            return;
        }
        // The front was held by the output that is gone; from now on its own is what holds it.
        let high = self.tuning.output_high_bytes;
        if let Some(session) = self.sessions.get_mut(key)
            && self.hub.blocks.len(session.state.front.output) < high
        {
            session.state.front.go_on(LegFlags::HELD);
            self.queue_if_due(key);
        }
    }

    /// Ends a session now. Everything it held goes back: timers, blocks, descriptors, its permit.
    pub(super) fn close(&mut self, key: Key, reason: CloseReason) {
        self.close_by(key, reason, None);
    }

    /// [`close`](Self::close), because of one of its sockets.
    fn close_by(&mut self, key: Key, reason: CloseReason, side: Option<Side>) {
        let Some(session) = self.sessions.remove(key) else {
            return;
        };
        self.deliveries.forget(key);
        let Session {
            mut state,
            stream,
            back,
            mut handler,
        } = session;
        // Counted before the peer can know, so that what is published is never behind what is seen.
        self.board.closes[reason.index()].add(1);
        self.hub.cancel_all(&mut state);
        let has_peer = back.is_some();
        let is_resident = stream.is_none();
        let has_front = stream.is_some();
        let unsent = |leg: &Leg| self.hub.blocks.len(leg.output);
        let end = End {
            reason,
            side,
            peer: state.peer,
            now_ns: self.hub.now_ns,
            unsent_bytes: [
                unsent(&state.front),
                back.as_ref().map_or(0, |back| unsent(&back.leg)),
            ],
        };
        if let Some(stream) = stream {
            self.close_leg(&mut state.front, stream, has_peer, reason);
        }
        if let Some(back) = back {
            let Back {
                mut leg,
                stream,
                pipes,
                keep_alive: _,
            } = *back;
            self.close_leg(&mut leg, stream, has_front, reason);
            for pipe in pipes.into_iter().flatten() {
                self.pipes.drop_held(pipe);
            }
        }
        self.progress = true;
        if is_resident {
            self.residents -= 1;
        } else if state.flags.has(SessionFlags::ADMIN) {
            self.acceptor.admin_live -= 1;
        } else {
            self.acceptor.release_permit();
        }
        self.publish_live();
        let panicked = reason == CloseReason::HandlerPanicked;
        let token = Token::session(key, Side::Front).to_bits();
        let beat = &self.board.beat;
        beat.enter(token, 0, Callback::Close);
        let ended = guarded(move || {
            // A handler that panicked is asked nothing any more, not even its name.
            if !panicked {
                beat.enter(token, handler.name_index(), Callback::Close);
                handler.on_end(&end);
            }
            drop(handler);
        });
        beat.leave();
        if ended.is_err() {
            self.board.numbers.handler_panics.add(1);
        }
    }

    /// Closes one socket of a session that ends for `reason`; with FIN where that is the truth, with a reset where the
    /// peer would take a part for the whole: see [`is_cut_short`].
    fn close_leg(&mut self, leg: &mut Leg, stream: D::Stream, has_peer: bool, reason: CloseReason) {
        let aborts = is_cut_short(leg, has_peer, reason);
        self.hub.blocks.drop_chain(&mut leg.output);
        self.hub.blocks.drop_chain(&mut leg.kept);
        self.driver.close_stream(stream, aborts);
    }

    /// Closes every session; returns how many there were, without those of administrators. Sockets still in the inbox
    /// count too.
    pub(super) fn close_all(&mut self, reason: CloseReason) -> usize {
        self.post.refuse_handed();
        let mut closed = self.sessions.len() as usize - self.acceptor.admin_live - self.residents;
        while self.take_handed() {
            closed += 1;
        }
        self.each_session(|this, key| this.close(key, reason));
        closed
    }

    /// Closes the session that has been idle longest among the next few slots, to make room; whether there was one.
    ///
    /// Looking at all of them would stop the loop, keeping them in order would cost every byte: a sample of
    /// [`EVICTION_SAMPLE`] finds one that is idle longer than most, as Redis does it for its keys.
    pub(super) fn evict_idle(&mut self) -> bool {
        let end = self.sessions.index_end();
        let now_ms = self.hub.now_ms() as u32;
        let mut oldest: Option<(u32, Key)> = None;
        let mut seen = 0;
        for _ in 0..end.min(EVICTION_SCAN) {
            self.acceptor.eviction_cursor = (self.acceptor.eviction_cursor + 1) % end;
            let Some(key) = self.sessions.key_at(self.acceptor.eviction_cursor) else {
                continue;
            };
            let Some(session) = self.sessions.get(key) else {
                continue;
            };
            let exempt = SessionFlags::ADMIN.with(SessionFlags::RESIDENT);
            if session.state.flags.has(exempt) {
                continue;
            }
            let idle_ms = now_ms.wrapping_sub(session.state.active_ms);
            if oldest.is_none_or(|(most, _)| idle_ms > most) {
                oldest = Some((idle_ms, key));
            }
            seen += 1;
            if seen >= EVICTION_SAMPLE {
                break;
            }
        }
        // Who moved bytes a moment ago is not idle: cutting a busy connection for a new one helps nobody.
        let Some((_, key)) = oldest.filter(|(idle_ms, _)| *idle_ms >= EVICTION_IDLE_MS_MIN) else {
            return false;
        };
        self.board.numbers.evicted.add(1);
        self.close(key, CloseReason::Evicted);
        true
    }
}

/// Whether the peer of this socket must be told with a reset that what it got is not everything.
///
/// A FIN says "that was all". It would be a lie where output is dropped, where the handler did not get to its end, and
/// where the session joined two sockets and was cut, by us or because the other one broke: nobody here knows whether the
/// other peer had more to say. It is none where this socket has been sent its FIN before: then what it got was whole.
fn is_cut_short(leg: &Leg, has_peer: bool, reason: CloseReason) -> bool {
    if reason == CloseReason::HandlerAborted || leg.has_output() {
        return true;
    }
    let broke = match reason {
        CloseReason::HandlerPanicked | CloseReason::OutputOverflow => true,
        CloseReason::PeerReset
        | CloseReason::PeerVanished
        | CloseReason::Evicted
        | CloseReason::InputOverflow
        | CloseReason::DrainDeadline
        | CloseReason::Stopped
        | CloseReason::NotRegistered(_)
        | CloseReason::Os(_) => has_peer,
        _ => false,
    };
    broke && !leg.flags.has(LegFlags::FIN_OUT)
}

/// A session that moved bytes more recently than this, in milliseconds, is not evicted.
const EVICTION_IDLE_MS_MIN: u32 = 1000;

/// Live sessions looked at to find one to evict.
const EVICTION_SAMPLE: usize = 64;

/// Slots looked at for them: a loop whose slots are nearly all vacant finds somebody the next time.
const EVICTION_SCAN: u32 = 4096;

/// The reason kept with a session that is ending.
const fn ending_reason(index: u8) -> CloseReason {
    const FINISHED: u8 = CloseReason::PeerFinished.index() as u8;
    const CONNECT_FAILED: u8 = CloseReason::ConnectFailed.index() as u8;
    match index {
        FINISHED => CloseReason::PeerFinished,
        CONNECT_FAILED => CloseReason::ConnectFailed,
        _ => CloseReason::HandlerClosed,
    }
}
