//! One session: its handler, its sockets, and what the loop remembers about them.
//!
//! An idle session is as small as it can be: no buffer, no list, no cached text; 88 bytes for a handler without
//! fields, with its peer's address and its counters. The second socket of a session that has one is boxed, so that
//! those with one socket do not pay for it.

use crate::blocks::Chain;
use crate::token::Side;
use polyloop_core::runqueue::Class;
use polyloop_core::wheel::TimerKey;
use polyloop_sys::dial::KeepAliveNumbers;
use polyloop_sys::peer::PeerAddr;

/// A set of bits with names; the same few operations for sockets and sessions.
macro_rules! flags {
    ($(#[$doc:meta])* $set:ident($bits:ty): $($(#[$flag_doc:meta])* $flag:ident = $bit:expr,)*) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
        pub(crate) struct $set($bits);

        impl $set {
            $($(#[$flag_doc])* pub(crate) const $flag: Self = Self(1 << $bit);)*

            /// Whether any bit of `other` is set.
            #[inline]
            pub(crate) const fn has(self, other: Self) -> bool {
                self.0 & other.0 != 0
            }

            #[inline]
            pub(crate) const fn set(&mut self, other: Self) {
                self.0 |= other.0;
            }

            #[inline]
            pub(crate) const fn clear(&mut self, other: Self) {
                self.0 &= !other.0;
            }

            /// Both sets together.
            pub(crate) const fn with(self, other: Self) -> Self {
                Self(self.0 | other.0)
            }
        }
    };
}

flags! {
    /// What is known and wanted of one socket. The first three are the edge-triggered truth: told once by the
    /// kernel, kept here until a call proves them over.
    LegFlags(u32):
    /// An edge said that there is something to read, and no read has proved otherwise since.
    READABLE = 0,
    /// The poll hinted at the peer's FIN: a short read does not mean drained, read on to the end.
    FIN_HINT = 1,
    /// The poll told of an error or a hang-up.
    TROUBLED = 2,
    /// An edge said that there is room to write.
    WRITABLE = 3,
    /// The handler stopped reading.
    PAUSED = 4,
    /// Reading is stopped because the output it feeds is full.
    HELD = 5,
    /// The peer's FIN has been read.
    FIN_IN = 6,
    /// FIN is to be sent once the output is empty.
    FIN_WANTED = 7,
    /// FIN has been sent.
    FIN_OUT = 8,
    /// The kernel took less than it was given: wait for `WRITABLE`.
    BLOCKED = 9,
    /// The poll is asked for writability too.
    WATCHES_WRITE = 10,
    /// The connection is not made yet.
    CONNECTING = 11,
    /// The output went over the watermark: `on_writable` is owed.
    WAS_FULL = 12,
    /// Input that the handler left is to be handed over again, even without new bytes: it yielded, or reading goes on
    /// after a stop.
    AGAIN = 13,
    /// What comes is to be moved to the other side without copying.
    SPLICING = 14,
    /// Output of this side lies in a pipe that the session holds; it goes before what is kept.
    PIPED = 15,
    /// The poll told of urgent data, and no read has found the end since: the kernel's reads stop at the mark, and splicing
    /// does not get past it.
    URGENT = 16,
}

flags! {
    /// Where a session stands.
    SessionFlags(u16):
    /// It is in the run queue.
    QUEUED = 0,
    /// It is in the list of the flush phase.
    FLUSH_LISTED = 1,
    /// It ends in good order: input is dropped, output delivered, FINs exchanged.
    DRAINING = 2,
    /// It closes as soon as its output is delivered.
    CLOSING = 3,
    /// It has been told that the server drains.
    TOLD_DRAIN = 4,
    /// It came through an admin gate: no permit, not counted as live, not evicted.
    ADMIN = 5,
    /// A connection that it asked for has failed, and it has not been told yet.
    OWED_FAILURE = 6,
    /// It was made by the loop itself, not for a connection: it has no front, takes no permit, and does not hold up a drain.
    RESIDENT = 7,
    /// Its deadline comes early, to have its sockets kept alive.
    YOUNG = 8,
}

impl SessionFlags {
    /// The handler gets no callback any more but `on_close`.
    pub(crate) const ENDING: Self = Self::DRAINING.with(Self::CLOSING);
}

/// What is remembered about one socket.
#[derive(Debug)]
pub(crate) struct Leg {
    /// Written by the handler, not taken by the kernel.
    pub(crate) output: Chain,
    /// Given to the handler, not taken by it.
    pub(crate) kept: Chain,
    pub(crate) flags: LegFlags,
}

impl Leg {
    pub(crate) const fn new(flags: LegFlags) -> Self {
        Self {
            output: Chain::EMPTY,
            kept: Chain::EMPTY,
            flags,
        }
    }

    /// Whether a read may bring something and nobody has forbidden it.
    #[inline]
    pub(crate) const fn is_readable(&self) -> bool {
        self.flags.has(LegFlags::READABLE)
            && !self.flags.has(
                LegFlags::PAUSED
                    .with(LegFlags::HELD)
                    .with(LegFlags::FIN_IN)
                    .with(LegFlags::CONNECTING),
            )
    }

    /// Whether there is output, and reason to think that the kernel takes some of it.
    #[inline]
    pub(crate) const fn is_flushable(&self) -> bool {
        self.flags.has(LegFlags::WRITABLE)
            && self.has_output()
            && !self.flags.has(LegFlags::CONNECTING)
    }

    /// Whether something is still to be written, from blocks or from a pipe.
    #[inline]
    pub(crate) const fn has_output(&self) -> bool {
        !self.output.is_empty() || self.flags.has(LegFlags::PIPED)
    }

    /// Whether left input is to be handed over again, and may be.
    #[inline]
    pub(crate) const fn is_owed_input(&self) -> bool {
        self.flags.has(LegFlags::AGAIN)
            && !self.kept.is_empty()
            && !self
                .flags
                .has(LegFlags::PAUSED.with(LegFlags::HELD).with(LegFlags::FIN_IN))
    }

    /// Lifts what stops reading; input that was left comes again.
    pub(crate) const fn go_on(&mut self, stop: LegFlags) {
        self.flags.clear(stop);
        if !self.kept.is_empty() {
            self.flags.set(LegFlags::AGAIN);
        }
    }

    /// Whether this socket gives the session a reason to be in the run queue.
    #[inline]
    pub(crate) const fn has_work(&self) -> bool {
        self.is_readable()
            || self.is_flushable()
            || self.is_owed_input()
            || self.flags.has(LegFlags::TROUBLED)
            || self.flags.has(LegFlags::CONNECTING) && self.flags.has(LegFlags::WRITABLE)
    }
}

/// The part of a session that its handler's context works on.
#[derive(Debug)]
pub(crate) struct SessionState {
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
    pub(crate) peer: PeerAddr,
    pub(crate) front: Leg,
    /// The idle deadline, or the linger deadline of a session that is ending.
    pub(crate) deadline: Option<TimerKey>,
    /// Index of the list of the handler's timers, [`NO_TIMERS`] if it has never set one.
    pub(crate) timers: u32,
    /// Loop time of the last byte moved, in milliseconds; wraps.
    pub(crate) active_ms: u32,
    /// The idle timeout in milliseconds; 0 is none.
    pub(crate) idle_ms: u32,
    pub(crate) flags: SessionFlags,
    pub(crate) class: Class,
    /// [`CloseReason::index`](crate::CloseReason::index) of a session that is ending.
    pub(crate) end_reason: u8,
}

/// No list of timers.
pub(crate) const NO_TIMERS: u32 = u32::MAX;

/// The second socket of a session.
#[derive(Debug)]
pub(crate) struct Back<S, P> {
    pub(crate) leg: Leg,
    pub(crate) stream: S,
    /// What keep-alive it is to get once the session is no longer young.
    pub(crate) keep_alive: Option<KeepAliveNumbers>,
    /// Pipes that could not be drained, by the side that their bytes are for.
    pub(crate) pipes: [Option<Box<P>>; 2],
}

/// A session in its slot.
#[derive(Debug)]
pub(crate) struct Session<S, P, H> {
    pub(crate) state: SessionState,
    /// The front's socket; a resident has none.
    pub(crate) stream: Option<S>,
    pub(crate) back: Option<Box<Back<S, P>>>,
    pub(crate) handler: H,
}

impl<S, P, H> Session<S, P, H> {
    /// The leg of a side that exists.
    #[inline]
    pub(crate) fn leg(&self, side: Side) -> Option<&Leg> {
        match side {
            Side::Front => self.stream.is_some().then_some(&self.state.front),
            Side::Back => self.back.as_ref().map(|back| &back.leg),
        }
    }

    #[inline]
    pub(crate) fn leg_mut(&mut self, side: Side) -> Option<&mut Leg> {
        match side {
            Side::Front => self.stream.is_some().then_some(&mut self.state.front),
            Side::Back => self.back.as_mut().map(|back| &mut back.leg),
        }
    }

    /// Leg and stream of a side that exists.
    #[inline]
    pub(crate) fn socket_mut(&mut self, side: Side) -> Option<(&mut Leg, &mut S)> {
        match side {
            Side::Front => self
                .stream
                .as_mut()
                .map(|stream| (&mut self.state.front, stream)),
            Side::Back => self
                .back
                .as_mut()
                .map(|back| (&mut back.leg, &mut back.stream)),
        }
    }

    /// The side whose reading fills the output of `side`: the other one, or itself where there is one socket only.
    /// (Were a full output to stop both, two peers that each wait for us to read would wait for ever.) A resident has none:
    /// it began the conversation, so its peer may well wait with taking more until its answers are read.
    #[inline]
    pub(crate) fn feeder(&self, side: Side) -> Option<Side> {
        match (&self.stream, &self.back) {
            (Some(_), Some(_)) => Some(side.other()),
            (Some(_), None) => Some(Side::Front),
            (None, _) => None,
        }
    }

    /// The leg that is read to fill the output of `side`.
    #[inline]
    pub(crate) fn feeder_leg_mut(&mut self, side: Side) -> Option<&mut Leg> {
        self.feeder(side).and_then(|feeder| self.leg_mut(feeder))
    }

    /// Whether the session is ending and has nothing left to wait for: no output, and, if it drains, no FIN.
    pub(crate) fn is_over(&self) -> bool {
        let is_draining = self.state.flags.has(SessionFlags::DRAINING);
        let is_leg_over = |leg: &Leg| {
            // A connection that never stood owes nothing to anybody.
            leg.flags.has(LegFlags::CONNECTING)
                || !leg.has_output() && (!is_draining || leg.flags.has(LegFlags::FIN_IN))
        };
        self.state.flags.has(SessionFlags::ENDING)
            && (self.stream.is_none() || is_leg_over(&self.state.front))
            && self.back.as_ref().is_none_or(|back| is_leg_over(&back.leg))
    }

    /// Whether its handler has not been told yet that a connection failed.
    #[inline]
    pub(crate) const fn owes_failure(&self) -> bool {
        self.state.flags.has(SessionFlags::OWED_FAILURE)
    }

    /// Whether the connection to the back is not made yet.
    #[inline]
    pub(crate) fn is_connecting(&self) -> bool {
        let back = self.back.as_ref();
        back.is_some_and(|back| back.leg.flags.has(LegFlags::CONNECTING))
    }

    /// Whether the run queue should have it.
    #[inline]
    pub(crate) fn has_work(&self) -> bool {
        self.stream.is_some() && self.state.front.has_work()
            || self.back.as_ref().is_some_and(|back| back.leg.has_work())
    }
}
