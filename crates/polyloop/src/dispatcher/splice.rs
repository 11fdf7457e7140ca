//! Moving bytes from one socket of a session to the other without copying them: see [`Ctx::splice`](crate::Ctx::splice).
//!
//! ```text
//!   from --fill--> pipe --drain--> to        the pipe is borrowed from the loop, and given back empty
//!                   |
//!                   +-- `to` has no room: the session keeps the pipe, `from` is held, and the flush drains it first
//! ```
//!
//! The one idea: a pipe belongs to the loop like its read buffer does; only a session whose peer is slow holds one. Where no
//! pipe can be had the bytes are copied as usual, so that splicing never fails, it only does not help. Sessions that hold one
//! leave a quarter of them to those whose peers keep up: beyond that, what a peer does not take is copied out of its pipe.
//!
//! Order: bytes in a pipe come before the kept output of the same leg, which is empty whenever a pipe is filled, and after
//! nothing. Deliberately absent: when to splice; the handler knows its traffic.

use super::session::{LegFlags, SessionFlags};
use super::{Dispatcher, Key};
use crate::close::CloseReason;
use crate::driver::Driver;
use crate::handler::{Factory, Handler};
use crate::telemetry::Callback;
use crate::token::Side;
use polyloop_core::errno::{IoAction, write_action};
use std::io;

/// Bytes spliced for one direction of a session in one turn. The kernel moves pages, so a turn's worth costs about what
/// copying a sixteenth of it does.
const SPLICE_BYTES_MAX: usize = 1024 * 1024;

/// Room asked for in a pipe: fewer, larger moves than with the kernel's 64 KiB.
const PIPE_BYTES: usize = 512 * 1024;

/// Empty pipes kept at hand.
const FREE_KEPT: usize = 16;

/// The pipes of one loop.
#[derive(Debug)]
pub(crate) struct Pipes<P> {
    free: Vec<Box<P>>,
    open: usize,
    open_max: usize,
    /// Of those open, held by sessions that wait for their peers.
    held: usize,
}

impl<P> Pipes<P> {
    pub(crate) const fn new(open_max: usize) -> Self {
        Self {
            free: Vec::new(),
            open: 0,
            open_max,
            held: 0,
        }
    }

    /// How many are open.
    pub(crate) const fn open(&self) -> usize {
        self.open
    }

    fn take<D: Driver<Pipe = P>>(&mut self, driver: &mut D) -> Option<Box<P>> {
        if let Some(pipe) = self.free.pop() {
            return Some(pipe);
        }
        if self.open >= self.open_max {
            return None;
        }
        let pipe = driver.open_pipe(PIPE_BYTES).ok()?;
        self.open += 1;
        Some(Box::new(pipe))
    }

    /// Takes an empty pipe back.
    fn put(&mut self, pipe: Box<P>) {
        if self.free.len() < FREE_KEPT {
            self.free.push(pipe);
        } else {
            self.drop_pipe(pipe);
        }
    }

    /// Whether one more session may keep a pipe while it waits for its peer. Those that wait may have three quarters: were
    /// they to have all, a few peers that do not read would end splicing for everybody.
    const fn may_hold(&self) -> bool {
        let most = self.open_max * 3 / 4;
        self.held < most || self.held == 0
    }

    /// Takes back a pipe that a session has held and that is empty now.
    fn put_held(&mut self, pipe: Box<P>) {
        self.held -= 1;
        self.put(pipe);
    }

    /// Closes a pipe that a session has held, with whatever is in it.
    pub(super) fn drop_held(&mut self, pipe: Box<P>) {
        self.held -= 1;
        self.drop_pipe(pipe);
    }

    /// Closes a pipe, with whatever is in it.
    fn drop_pipe(&mut self, pipe: Box<P>) {
        self.open -= 1;
        drop(pipe);
    }
}

/// What a move through a pipe came to.
enum Moved {
    /// So many bytes were taken in, and passed on.
    Bytes(usize),
    /// There is no more to do now.
    Nothing,
    /// The kernel says that this was all. It says so too at the mark of urgent data, with bytes behind it: only a read that finds
    /// nothing is the end.
    End,
}

/// How draining a pipe ended.
enum Drained {
    /// It is empty.
    Empty,
    /// The socket takes no more for now.
    Blocked,
    /// The socket is broken, by this error; the session does not know yet.
    Broken(io::Error),
}

impl<D: Driver, F: Factory> Dispatcher<D, F> {
    /// Whether the input of `side` can be spliced now: it is asked for, and nothing else is on its way to the other side.
    #[inline]
    pub(super) fn can_splice(&self, key: Key, side: Side) -> bool {
        let Some(session) = self.sessions.get(key) else {
            return false;
        };
        let wants = session.leg(side).is_some_and(|leg| {
            let is_asked = leg.flags.has(LegFlags::SPLICING);
            is_asked && !leg.flags.has(LegFlags::URGENT) && leg.kept.is_empty()
        });
        let waits = LegFlags::CONNECTING.with(LegFlags::PIPED);
        wants
            && !session.state.flags.has(SessionFlags::ENDING)
            && session
                .leg(side.other())
                .is_some_and(|to| to.output.is_empty() && !to.flags.has(waits))
    }

    /// Splices from one side to the other until nothing comes, nothing goes, the handler stops it, or the turn's share is
    /// used up. Returns `false` when there is no pipe, or splicing finds an end that has to be confirmed: then what there is has
    /// to be read as usual.
    pub(super) fn splice_leg(&mut self, key: Key, side: Side) -> bool {
        let mut moved = 0;
        while moved < SPLICE_BYTES_MAX && self.is_readable(key, side) && self.can_splice(key, side)
        {
            let Some(pipe) = self.pipes.take(&mut self.driver) else {
                self.board.numbers.pipes_refused.add(1);
                return false;
            };
            match self.fill_and_drain(key, side, pipe) {
                Moved::Bytes(count) => moved += count,
                Moved::Nothing => break,
                Moved::End => return false,
            }
        }
        if moved >= SPLICE_BYTES_MAX {
            self.board.numbers.budget_bytes.add(1);
        }
        true
    }

    fn is_readable(&self, key: Key, side: Side) -> bool {
        let leg = self.sessions.get(key).and_then(|session| session.leg(side));
        leg.is_some_and(|leg| leg.is_readable())
    }

    /// One move through an empty pipe.
    ///
    /// The handler is told of whatever was taken in, also where the sink was full or broken, and before the FIN behind it is
    /// looked at: it counts what the peer has sent, as it does where bytes are copied.
    fn fill_and_drain(&mut self, key: Key, side: Side, mut pipe: Box<D::Pipe>) -> Moved {
        let now_ms = self.hub.now_ms() as u32;
        // What may have to be copied out of the pipe is no more than what would be read by copying.
        let max = if self.pipes.may_hold() && self.allowance.fills_pipes {
            SPLICE_BYTES_MAX
        } else {
            self.allowance.output_high_bytes.min(SPLICE_BYTES_MAX)
        };
        let session = self.sessions.get_mut(key);
        let Some((_, stream)) = session.and_then(|session| session.socket_mut(side)) else {
            self.pipes.put(pipe);
            return Moved::Nothing;
        };
        let filled = self.driver.fill_pipe(&mut pipe, stream, max);
        self.board.numbers.reads.add(1);
        let count = match filled {
            Ok(0) => {
                self.pipes.put(pipe);
                return Moved::End;
            }
            Ok(count) => count,
            Err(error) => {
                self.pipes.put(pipe);
                self.fill_failed(key, side, &error);
                return Moved::Nothing;
            }
        };
        self.progress = true;
        self.board.numbers.bytes_in.add(count as u64);
        self.board.numbers.bytes_spliced.add(count as u64);
        if let Some(session) = self.sessions.get_mut(key) {
            session.state.bytes_in += count as u64;
            session.state.active_ms = now_ms;
        }
        let drained = self.drain_pipe(key, side.other(), &mut pipe);
        match drained {
            Drained::Empty => self.pipes.put(pipe),
            Drained::Blocked if self.pipes.may_hold() => self.keep_pipe(key, side, pipe),
            Drained::Blocked => self.empty_pipe(key, side.other(), pipe),
            Drained::Broken(_) => self.pipes.drop_pipe(pipe),
        }
        self.call(key, side, Callback::Data, |handler, cx| {
            handler.on_spliced(cx, count)
        });
        match drained {
            Drained::Empty => Moved::Bytes(count),
            Drained::Blocked => Moved::Nothing,
            Drained::Broken(error) => {
                self.break_sink(key, side.other(), error);
                Moved::Nothing
            }
        }
    }

    /// Copies what is left in a pipe to the kept output of a side that does not take it, since enough pipes are held already.
    fn empty_pipe(&mut self, key: Key, to: Side, mut pipe: Box<D::Pipe>) {
        self.board.numbers.pipes_refused.add(1);
        self.block(key, to);
        while D::pipe_len(&pipe) > 0 {
            // The pipe has bytes, so "would block" cannot be; whatever else goes wrong, the rest is lost with the session.
            let read = self.driver.read_pipe(&mut pipe, &mut self.read_buffer);
            match read {
                Ok(count) if count > 0 => {
                    let bytes = &self.read_buffer[..count];
                    if let Some(leg) = self.sessions.get_mut(key).and_then(|s| s.leg_mut(to)) {
                        self.hub.blocks.append(&mut leg.output, bytes);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(_) | Err(_) => {
                    self.pipes.drop_pipe(pipe);
                    self.close(key, CloseReason::OutputOverflow);
                    return;
                }
            }
        }
        self.pipes.put(pipe);
        let leg = self.sessions.get(key).and_then(|session| session.leg(to));
        let kept = leg.map_or(0, |leg| self.hub.blocks.len(leg.output));
        if kept >= self.allowance.output_high_bytes {
            self.hold_feeder(key, to);
        }
    }

    /// A socket did not take what was in a pipe for it, and never will.
    fn break_sink(&mut self, key: Key, side: Side, error: io::Error) {
        self.break_leg(
            key,
            side,
            super::ready::close_reason_of_write(&error),
            error,
        );
    }

    /// Drains a pipe into a side as far as that takes it.
    fn drain_pipe(&mut self, key: Key, side: Side, pipe: &mut D::Pipe) -> Drained {
        let Some(session) = self.sessions.get_mut(key) else {
            return Drained::Blocked;
        };
        while D::pipe_len(pipe) > 0 {
            let Some((_, stream)) = session.socket_mut(side) else {
                return Drained::Blocked;
            };
            let drained = self.driver.drain_pipe(pipe, stream);
            self.board.numbers.writes.add(1);
            match drained {
                // Nothing taken of something offered: as good as no room.
                Ok(0) => return Drained::Blocked,
                Ok(count) => {
                    session.state.bytes_out += count as u64;
                    session.state.active_ms = self.hub.now_ms() as u32;
                    self.board.numbers.bytes_out.add(count as u64);
                    self.progress = true;
                }
                Err(error) => match write_action(error.raw_os_error().unwrap_or(0)) {
                    IoAction::Done => return Drained::Blocked,
                    IoAction::Retry => {}
                    IoAction::Close(_) => return Drained::Broken(error),
                },
            }
        }
        Drained::Empty
    }

    /// Leaves a pipe that could not be drained with its session, holds its source, and waits for room.
    fn keep_pipe(&mut self, key: Key, side: Side, pipe: Box<D::Pipe>) {
        let to = side.other();
        if let Some(session) = self.sessions.get_mut(key)
            && let Some(back) = session.back.as_mut()
        {
            back.pipes[to.index()] = Some(pipe);
            self.pipes.held += 1;
            if let Some(leg) = session.leg_mut(to) {
                leg.flags.set(LegFlags::PIPED.with(LegFlags::WAS_FULL));
            }
            if let Some(leg) = session.leg_mut(side) {
                leg.flags.set(LegFlags::HELD);
            }
            self.board.numbers.reads_held.add(1);
            self.block(key, to);
        } else {
            self.pipes.drop_pipe(pipe);
        }
    }

    /// Drains the pipe that a session holds for a side. Returns whether kept output may follow.
    pub(super) fn flush_pipe(&mut self, key: Key, side: Side) -> bool {
        let Some(session) = self.sessions.get_mut(key) else {
            return false;
        };
        let Some(mut pipe) = session
            .back
            .as_mut()
            .and_then(|back| back.pipes[side.index()].take())
        else {
            return true;
        };
        if let Some(leg) = session.leg_mut(side) {
            leg.flags.clear(LegFlags::BLOCKED);
        }
        match self.drain_pipe(key, side, &mut pipe) {
            Drained::Empty => {
                self.pipes.put_held(pipe);
                if let Some(leg) = self.sessions.get_mut(key).and_then(|s| s.leg_mut(side)) {
                    leg.flags.clear(LegFlags::PIPED);
                }
                true
            }
            Drained::Broken(error) => {
                self.pipes.drop_held(pipe);
                self.break_sink(key, side, error);
                false
            }
            Drained::Blocked => {
                if let Some(back) = self.sessions.get_mut(key).and_then(|s| s.back.as_mut()) {
                    back.pipes[side.index()] = Some(pipe);
                }
                self.block(key, side);
                false
            }
        }
    }

    fn fill_failed(&mut self, key: Key, side: Side, error: &io::Error) {
        let mut pass = super::ready::Pass::empty();
        // The pipe was empty, so "would block" is about the socket.
        let _ = self.read_failed(key, side, 0, error, &mut pass);
    }
}
