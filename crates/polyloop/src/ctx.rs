//! What a handler can do: the context that every callback is given.

use crate::dispatcher::session::{Leg, LegFlags, SessionFlags, SessionState};
use crate::handler::Handler;
use crate::hub::{Hub, Mailer};
use crate::offload::{JobId, PoolId};
use crate::telemetry::LoopBoard;
use crate::token::Side;
use polyloop_core::runqueue::Class;
use polyloop_core::slots::Key;
use polyloop_core::wheel::TimerKey;
use polyloop_sys::dial::Dial;
use polyloop_sys::peer::PeerAddr;
use std::time::Duration;

/// How much room is left for output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "a handler that writes on while the output is full is closed at the hard bound"]
pub enum Room {
    /// Below the watermark.
    Open,
    /// At or above the watermark. The bytes were taken. Reading from the side that feeds this output stops until it
    /// has fallen below half, and then `on_writable` comes; a handler that produces output by itself should wait for
    /// that. At the hard bound the session is closed. A resident reads on whatever its output holds.
    Full,
    /// That side does not exist, or its FIN has been sent: the bytes were dropped.
    Gone,
}

/// A connection, wherever it lives. It can be kept, compared and sent; it never keeps the connection alive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ConnRef {
    pub(crate) loop_index: u32,
    pub(crate) key: Key,
}

impl ConnRef {
    /// The loop that the connection lives on.
    #[must_use]
    pub const fn loop_index(self) -> usize {
        self.loop_index as usize
    }
}

/// Why a message was not sent; the message comes back.
#[derive(Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SendError<M> {
    /// The other loop's inbox is full. It is the sender's turn to decide: drop, keep, or close.
    Full(M),
    /// The other loop has ended.
    Closed(M),
}

/// A pool's queue is full, or as many jobs of this loop are on their way as it has room for results; nothing was queued. Answer "busy", or try again from a timer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolFull;

/// A session may have only so many timers at once.
pub const TIMERS_PER_SESSION_MAX: usize = 64;

/// The context of one callback.
///
/// Time is the loop's: read once per turn, the same for every callback of the turn. Nothing here blocks, and
/// nothing here fails because a peer is slow.
#[derive(Debug)]
pub struct Ctx<'a, H: Handler> {
    pub(crate) hub: &'a mut Hub<H>,
    pub(crate) state: &'a mut SessionState,
    pub(crate) has_front: bool,
    pub(crate) back: Option<&'a mut Leg>,
    pub(crate) key: Key,
    pub(crate) side: Side,
}

impl<H: Handler> Ctx<'_, H> {
    /// Loop time: nanoseconds since an arbitrary start, the same clock on all loops of the process.
    #[must_use]
    pub const fn now_ns(&self) -> u64 {
        self.hub.now_ns
    }

    /// The loop this runs on, counted from 0.
    #[must_use]
    pub const fn loop_index(&self) -> usize {
        self.hub.index
    }

    /// How many loops there are.
    #[must_use]
    pub fn loops(&self) -> usize {
        self.hub.mailer.loops()
    }

    /// This connection, for others to send messages to.
    #[must_use]
    pub const fn this(&self) -> ConnRef {
        ConnRef {
            loop_index: self.hub.index as u32,
            key: self.key,
        }
    }

    /// The other end of the front socket.
    #[must_use]
    pub const fn peer(&self) -> PeerAddr {
        self.state.peer
    }

    /// The side that the callback is about.
    #[must_use]
    pub const fn side(&self) -> Side {
        self.side
    }

    /// Bytes read by this session so far, from both sides.
    #[must_use]
    pub const fn bytes_in(&self) -> u64 {
        self.state.bytes_in
    }

    /// Bytes written to the kernel by this session so far, to both sides.
    #[must_use]
    pub const fn bytes_out(&self) -> u64 {
        self.state.bytes_out
    }

    /// What the loops of this process publish, by loop.
    #[must_use]
    pub fn boards(&self) -> &[std::sync::Arc<LoopBoard>] {
        &self.hub.boards
    }

    /// Writes to the side that the callback is about. See [`write_to`](Self::write_to).
    pub fn write(&mut self, bytes: &[u8]) -> Room {
        self.write_to(self.side, bytes)
    }

    /// Writes to one side. The bytes are taken whole; they leave when the callback returns, or, in
    /// the inbox and timers phases, at the end of the turn: as one system call where that is possible.
    pub fn write_to(&mut self, side: Side, bytes: &[u8]) -> Room {
        let can_write = match self.leg(side) {
            Some(leg) => !leg.flags.has(LegFlags::FIN_WANTED.with(LegFlags::FIN_OUT)),
            // Asked for in this very callback: there will be one.
            None => side == Side::Back && self.hub.connect.is_some(),
        };
        if !can_write {
            return Room::Gone;
        }
        self.hub.outbox.write(side, bytes);
        self.room(side)
    }

    /// How much room there is on one side.
    pub fn room(&self, side: Side) -> Room {
        let is_there = self.leg(side).is_some() || side == Side::Back && self.hub.connect.is_some();
        if !is_there {
            Room::Gone
        } else if self.pending_bytes(side) >= self.hub.output_high_bytes {
            Room::Full
        } else {
            Room::Open
        }
    }

    /// Bytes written to one side that the kernel has not taken yet.
    #[must_use]
    pub fn pending_bytes(&self, side: Side) -> usize {
        let kept = self
            .leg(side)
            .map_or(0, |leg| self.hub.blocks.len(leg.output));
        kept + self.hub.outbox.len(side)
    }

    /// Ends the output of one side: FIN follows what was written. Reading goes on.
    pub fn finish(&mut self, side: Side) {
        if let Some(leg) = self.leg_mut(side) {
            leg.flags.set(LegFlags::FIN_WANTED);
        }
    }

    /// Goes on reading from one side after [`Verdict::Pause`](crate::Verdict::Pause). Input that was left comes again.
    pub fn resume(&mut self, side: Side) {
        if let Some(leg) = self.leg_mut(side) {
            leg.go_on(LegFlags::PAUSED);
        }
    }

    /// Stops reading from one side, as [`Verdict::Pause`](crate::Verdict::Pause) does for the callback's own.
    pub fn pause(&mut self, side: Side) {
        if let Some(leg) = self.leg_mut(side) {
            leg.flags.set(LegFlags::PAUSED);
        }
    }

    /// Schedules this session in another class from its next dispatch on.
    pub const fn set_class(&mut self, class: Class) {
        self.state.class = class;
    }

    /// Replaces the idle timeout of this session, from the next time its deadline is looked at; `None` is never.
    /// Whole milliseconds, at most 49 days.
    pub fn set_idle_timeout(&mut self, timeout: Option<Duration>) {
        self.state.idle_ms = timeout.map_or(0, millis_of);
        self.hub.arm_deadline(self.key, self.state);
    }

    /// How long no byte has moved on this session, on either side, in whole milliseconds. A [`touch`](Self::touch) counts as a
    /// byte.
    #[must_use]
    pub const fn idle_time(&self) -> Duration {
        let idle_ms = (self.hub.now_ms() as u32).wrapping_sub(self.state.active_ms);
        Duration::from_millis(idle_ms as u64)
    }

    /// Begins the idle time anew, as if a byte had moved: for a handler that has kept the session waiting itself.
    pub const fn touch(&mut self) {
        self.state.active_ms = self.hub.now_ms() as u32;
    }

    /// Sets a timer that calls `on_timer` once, not before `after` has passed. Its resolution is one millisecond.
    ///
    /// `None` if this session has [`TIMERS_PER_SESSION_MAX`] timers already.
    pub fn set_timer(&mut self, after: Duration) -> Option<TimerKey> {
        self.hub.set_timer(self.key, self.state, after)
    }

    /// Cancels a timer of this session; whether there was one.
    pub fn cancel_timer(&mut self, timer: TimerKey) -> bool {
        self.hub.cancel_timer(self.state, timer)
    }

    /// Sets an alarm that calls `on_alarm` once, at `at_ns` of the loop's clock ([`now_ns`](Self::now_ns)), exactly, where a timer
    /// counts milliseconds: for those who pace something. If the loop sleeps until then, that costs it a system call
    /// ([`Tuning::alarm_spin`](crate::Tuning::alarm_spin)).
    ///
    /// An alarm cannot be taken back: who has changed its mind ignores it. `false`, and none is set, when this loop has more than
    /// eight for each of its sessions.
    pub fn set_alarm(&mut self, at_ns: u64) -> bool {
        self.hub.alarms.set(at_ns, self.key)
    }

    /// Sends a message to a connection on any loop, this one too. Messages from one handler to one connection
    /// arrive in order; one for a connection that is gone is dropped and counted there.
    ///
    /// # Errors
    /// The inbox of that loop is full, or the loop has ended.
    pub fn send(&mut self, to: ConnRef, message: H::Message) -> Result<(), SendError<H::Message>> {
        self.hub.send(to, message)
    }

    /// What other threads send messages to connections with: this one ([`this`](Self::this)) or any other.
    #[must_use]
    pub fn mailer(&self) -> Mailer<H::Message> {
        self.hub.mailer.clone()
    }

    /// Runs `job` on a pool, off the loop. Its result comes back to `on_offload`; if the connection is gone by then,
    /// it is dropped and counted.
    ///
    /// # Errors
    /// The pool's queue is full, or this loop has as many jobs on their way as it can take results; at once: nothing
    /// waits.
    pub fn offload(
        &mut self,
        pool: PoolId,
        job: impl FnOnce() -> H::Message + Send + 'static,
    ) -> Result<JobId, PoolFull> {
        self.hub.offload(self.key, pool, job)
    }

    /// Moves what comes from one side to the other without copying it through this process, from now on or no longer. Bytes
    /// that are moved so do not come to `on_data`; `on_spliced` tells how many there were. What a handler must see has to be
    /// seen before.
    ///
    /// It pays for streams and costs for small messages (two system calls for a move, one more to find the end). Where it
    /// cannot be done (no back side yet, output still kept, no pipe left: [`Tuning::pipes_max`](crate::Tuning::pipes_max))
    /// bytes are copied and come to `on_data`, which has to pass them on as if nothing had been asked for.
    pub fn splice(&mut self, from: Side, is_on: bool) {
        if let Some(leg) = self.leg_mut(from) {
            if is_on {
                leg.flags.set(LegFlags::SPLICING);
            } else {
                leg.flags.clear(LegFlags::SPLICING);
            }
        }
    }

    /// Closes the back side with a reset, whatever its state; nothing about it is told any more, not even a failure that is
    /// still to be told. What was written to it and not delivered is dropped. Another may be asked for at once. Bytes that
    /// were spliced from it and still wait in a pipe for the front are lost, and the session with them: it ends with
    /// [`CloseReason::HandlerAborted`](crate::CloseReason::HandlerAborted).
    pub fn disconnect(&mut self) {
        self.hub.disconnects = true;
        self.hub.connect = None;
        self.hub.forwards = false;
        self.back = None;
        self.hub.outbox.forget(Side::Back);
    }

    /// Starts a connection, which becomes the back side of this session: `on_connected` or `on_connect_failed`
    /// tells how it went. What is written to it meanwhile, in this callback too, is kept, and dropped if the attempt fails;
    /// [`finish`](Self::finish) and [`pause`](Self::pause) work on it from the next callback on. `false`, and nothing happens, if the session has
    /// a back side already, or has not been told yet how the last attempt failed.
    ///
    /// Where this callback writes to the back too, the handshake's last ACK waits for these bytes ([`Dial::holds_ack`]).
    ///
    /// A session whose front is kept alive by its listener ([`Server::listen_with`](crate::Server::listen_with)) has the back's
    /// keep-alive ([`Vigilance::keep_alive`](crate::Vigilance::keep_alive)) turned on together with that, when it is a second old:
    /// it says nothing before, and short sessions do without its system calls and the kernel's timers.
    pub fn connect(&mut self, to: impl Into<Dial>) -> bool {
        let is_free = self.back.is_none()
            && self.hub.connect.is_none()
            && (self.hub.disconnects || !self.state.flags.has(SessionFlags::OWED_FAILURE));
        if is_free {
            self.hub.connect = Some(to.into());
            self.hub.forwards = false;
        }
        is_free
    }

    /// [`connect`](Self::connect), for a handler that forwards: as soon as the connection stands it will write what the front
    /// has said. If the front has said something by now, the handshake's last ACK waits for that and travels with it
    /// ([`Dial::holds_ack`]), as it does for bytes that are written to the back in this callback.
    pub fn connect_to_forward(&mut self, to: impl Into<Dial>) -> bool {
        let is_free = self.connect(to);
        self.hub.forwards |= is_free;
        is_free
    }

    fn leg(&self, side: Side) -> Option<&Leg> {
        match side {
            Side::Front => self.has_front.then_some(&self.state.front),
            Side::Back => self.back.as_deref(),
        }
    }

    fn leg_mut(&mut self, side: Side) -> Option<&mut Leg> {
        match side {
            Side::Front => self.has_front.then_some(&mut self.state.front),
            Side::Back => self.back.as_deref_mut(),
        }
    }
}

/// Milliseconds of a timeout, rounded up so that it never fires early, and never 0.
pub(crate) fn millis_of(timeout: Duration) -> u32 {
    let millis = timeout.as_nanos().div_ceil(1_000_000);
    u32::try_from(millis).unwrap_or(u32::MAX).max(1)
}
