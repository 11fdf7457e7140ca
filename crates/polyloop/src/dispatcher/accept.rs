//! The accept phase: new connections, a burst at a time, spread over the loops, never beyond the permits.
//!
//! A loop that may not accept takes its listeners out of the poll, so that connections which queue up meanwhile do
//! not wake it; putting them back tests readiness anew, so that none is stranded. It goes on because a connection of
//! ours closed; a timer is only the safety net for descriptors that somebody else frees.

use super::{Dispatcher, MessageOf};
use crate::driver::Driver;
use crate::handler::Factory;
use crate::permits::{Permits, Wait};
use crate::telemetry::{LoopBoard, Phase};
use crate::token::Token;
use crate::wiring::{Handed, Links};
use polyloop_core::admission::{Admission, Decision, State, WhenFull};
use polyloop_core::errno::{AcceptAction, SKIPS_IN_A_ROW_MAX, accept_action};
use polyloop_core::spread::Chooser;
use polyloop_sys::peer::PeerAddr;
use std::fmt;
use std::io;
use std::sync::Arc;

/// A listener of one loop.
#[derive(Debug)]
pub struct Gate<L> {
    /// The listening socket.
    pub listener: L,
    /// Which of the server's listeners it belongs to, as told to the factory.
    pub index: usize,
    /// How its connections are treated.
    pub kind: GateKind,
}

/// How the connections of a gate are treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GateKind {
    /// Spread over the loops; each takes a permit.
    Service,
    /// For administrators, who must get in when the server is full: they stay on the loop that accepted them, take
    /// no permit, are not evicted and not counted as live. They live on the descriptor reserve, hence the bound.
    Admin {
        /// Connections that may be open at once; one more is closed at once.
        connections_max: usize,
    },
}

/// How a loop spreads the connections it accepts, and what it does when there is no permit for one.
#[derive(Debug)]
pub struct Spreading {
    /// Who gets a connection.
    pub choice: Choice,
    /// What happens at the cap.
    pub when_full: WhenFull,
}

/// Who gets a connection.
#[derive(Debug)]
pub enum Choice {
    /// The loop that accepted it.
    Stay,
    /// The loop that accepted it, unless it has more than this many percent over the others: then the one with the
    /// least load.
    Correct {
        /// The margin in percent.
        above_percent: u16,
        /// Chooses the other.
        chooser: Chooser,
    },
    /// Whom the chooser names.
    Spread(Chooser),
}

/// What a loop accepts through, and where it sends what it has accepted.
pub(super) struct Acceptor<D: Driver, M> {
    own: usize,
    links: Links<D::Stream, M>,
    boards: Arc<[Arc<LoopBoard>]>,
    spreading: Spreading,
    slots: Vec<Option<Slot<D::Listener>>>,
    /// Whether service gates accept.
    admission: Admission,
    /// Whether admin gates do: they have no cap that could be full, but descriptors run out for them too.
    admin_admission: Admission,
    /// Accepts in a row that lost their connection.
    skips: u32,
    pub(super) eviction_cursor: u32,
    /// Connections through admin gates.
    pub(super) admin_live: usize,
}

struct Slot<L> {
    gate: Gate<L>,
    /// The loop it belongs to; another than ours while that one is being rescued.
    of: usize,
    /// Whether the poll reports it.
    is_watched: bool,
    /// Whether the poll said that somebody waits, and no accept has proved otherwise since.
    is_ready: bool,
}

/// What an attempt to accept came to.
enum Attempt {
    Accepted,
    /// A connection was lost; the next may not be.
    Skipped(io::Error),
    /// Nothing happened, and something may if it is tried again.
    Again,
    /// Nobody waits any more.
    Drained,
    /// The loop may not accept for now.
    Paused,
}

impl<D: Driver, M: Send> Acceptor<D, M> {
    pub(super) fn new(
        own: usize,
        links: Links<D::Stream, M>,
        boards: Arc<[Arc<LoopBoard>]>,
        spreading: Spreading,
        gates: Vec<Gate<D::Listener>>,
    ) -> Self {
        let cap = links.permits().cap().max(1);
        let slots = gates
            .into_iter()
            .map(|gate| Some(Slot::new(gate, own)))
            .collect();
        Self {
            own,
            links,
            boards,
            spreading,
            slots,
            admission: Admission::new(cap),
            admin_admission: Admission::new(u64::MAX),
            skips: 0,
            eviction_cursor: 0,
            admin_live: 0,
        }
    }

    fn permits(&self) -> &Permits {
        self.links.permits()
    }

    /// Takes the loop off the lists of those who wait, once neither kind of gate waits for anything. A loop has one seat for
    /// both kinds: were it cleared when one of them goes on, nobody would tell the other, which a full loop waits for without
    /// a timer. What the seat says too much costs one look.
    fn stop_waiting_if_open(&self) {
        let waits = |admission: &Admission| {
            matches!(admission.state(), State::Full | State::Starved { .. })
        };
        if !waits(&self.admission) && !waits(&self.admin_admission) {
            self.permits().stop_waiting(self.own);
        }
    }

    /// Gives the permit of a connection back; the descriptor has been closed before.
    pub(super) fn release_permit(&self) {
        self.permits().release(1);
    }

    /// The poll says that somebody waits at a gate; whether there is such a gate.
    pub(super) fn note_ready(&mut self, at: u32) -> bool {
        let slot = self.slots.get_mut(at as usize).and_then(Option::as_mut);
        slot.is_some_and(|slot| {
            slot.is_ready = true;
            true
        })
    }

    /// Whether somebody waits who could be let in now.
    pub(super) fn has_ready_gate(&self) -> bool {
        self.slots
            .iter()
            .flatten()
            .any(|slot| slot.is_ready && self.admits(slot.gate.kind))
    }

    const fn admits(&self, kind: GateKind) -> bool {
        self.admission_of(kind).is_open()
    }

    const fn admission_of(&self, kind: GateKind) -> &Admission {
        match kind {
            GateKind::Service => &self.admission,
            GateKind::Admin { .. } => &self.admin_admission,
        }
    }

    pub(super) const fn admission_of_mut(&mut self, kind: GateKind) -> &mut Admission {
        match kind {
            GateKind::Service => &mut self.admission,
            GateKind::Admin { .. } => &mut self.admin_admission,
        }
    }

    /// When a safety timer is due.
    pub(super) fn retry_at_ns(&self) -> Option<u64> {
        let service = starved_until(&self.admission);
        let admin = starved_until(&self.admin_admission);
        [service, admin].into_iter().flatten().min()
    }

    /// Takes all gates into the poll that may be and are not; their readiness is tested anew.
    pub(super) fn resume_all(&mut self, driver: &mut D) -> io::Result<()> {
        let admits = [self.admission.is_open(), self.admin_admission.is_open()];
        for (at, slot) in self.slots.iter_mut().enumerate() {
            if let Some(slot) = slot
                && !slot.is_watched
                && admits[usize::from(slot.gate.kind != GateKind::Service)]
            {
                driver.resume_listener(&mut slot.gate.listener, Token::listener(at as u32))?;
                slot.is_watched = true;
            }
        }
        Ok(())
    }

    /// Takes the gates of a kind out of the poll, so that who queues up does not wake the loop.
    fn pause_all(&mut self, driver: &mut D, kind: GateKind) {
        for slot in self.slots.iter_mut().flatten() {
            let is_meant = (slot.gate.kind == GateKind::Service) == (kind == GateKind::Service);
            if slot.is_watched && is_meant {
                // What the poll may still say about it is harmless: it is not asked.
                let _ = driver.pause_listener(&mut slot.gate.listener);
                slot.is_watched = false;
                slot.is_ready = false;
            }
        }
    }

    /// Closes the gates of the service for good, and those of other loops, which nobody gives back any more. Those of
    /// administrators stay, in their places: their tokens name these.
    pub(super) fn close_services(&mut self, driver: &mut D) {
        let _ = self.admission.handle_drain();
        self.stop_waiting_if_open();
        let own = self.own;
        for slot in &mut self.slots {
            let ends = |slot: &mut Slot<_>| slot.gate.kind == GateKind::Service || slot.of != own;
            if let Some(closed) = slot.take_if(ends) {
                driver.close_listener(closed.gate.listener);
            }
        }
    }

    /// Whether there is a gate left.
    pub(super) fn has_gates(&self) -> bool {
        self.slots.iter().any(Option::is_some)
    }

    /// Closes all gates for good.
    pub(super) fn close_all(&mut self, driver: &mut D) {
        // Everything is closed below, whatever was watched before.
        let _ = self.admission.handle_drain();
        let _ = self.admin_admission.handle_drain();
        self.permits().stop_waiting(self.own);
        for slot in self.slots.drain(..).flatten() {
            driver.close_listener(slot.gate.listener);
        }
    }

    /// Accepts for a loop that is stuck, too.
    pub(super) fn rescue(&mut self, driver: &mut D, of: usize, gates: Vec<Gate<D::Listener>>) {
        if self.admission.state() == State::Draining {
            for gate in gates {
                driver.close_listener(gate.listener);
            }
            return;
        }
        for gate in gates {
            let slot = Some(Slot::new(gate, of));
            match self.slots.iter_mut().find(|slot| slot.is_none()) {
                Some(free) => *free = slot,
                None => self.slots.push(slot),
            }
        }
        // Those of a kind that may not accept now stay out of the poll; one that cannot be watched is not worse off than
        // before.
        let _ = self.resume_all(driver);
    }

    /// That loop turns again.
    pub(super) fn end_rescue(&mut self, driver: &mut D, of: usize) {
        for slot in &mut self.slots {
            if of != self.own
                && let Some(ended) = slot.take_if(|slot| slot.of == of)
            {
                driver.close_listener(ended.gate.listener);
            }
        }
    }

    /// Who gets a connection from `peer`.
    fn choose(&mut self, peer: PeerAddr) -> usize {
        let boards = &self.boards;
        let load = |index: usize| {
            let board = &boards[index];
            (!board.is_stuck()).then(|| board.load())
        };
        match &mut self.spreading.choice {
            Choice::Stay => self.own,
            Choice::Correct {
                above_percent,
                chooser,
            } => chooser.correct(*above_percent, load).unwrap_or(self.own),
            Choice::Spread(chooser) => chooser.choose(load, peer.ip()),
        }
    }
}

impl<L> Slot<L> {
    const fn new(gate: Gate<L>, of: usize) -> Self {
        Self {
            gate,
            of,
            is_watched: false,
            is_ready: false,
        }
    }
}

impl<D: Driver, M> fmt::Debug for Acceptor<D, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Acceptor")
            .field("own", &self.own)
            .field("admission", &self.admission)
            .field("gates", &self.slots.len())
            .finish_non_exhaustive()
    }
}

impl<D: Driver, F: Factory> Dispatcher<D, F> {
    /// Accepts from every gate at which somebody waits, a burst each.
    pub(super) fn phase_accept(&mut self) {
        self.board.beat.phase(Phase::Accept);
        for kind in [GateKind::Service, ADMIN] {
            let now_ns = self.hub.now_ns;
            let admission = self.acceptor.admission_of_mut(kind);
            if starved_until(admission).is_some_and(|until_ns| until_ns <= now_ns) {
                let decision = admission.handle_timer(now_ns);
                self.obey_admission(kind, decision);
            }
        }
        for at in 0..self.acceptor.slots.len() {
            self.accept_burst(at);
        }
    }

    fn accept_burst(&mut self, at: usize) {
        for _ in 0..self.tuning.accept_max {
            let Some(slot) = self.acceptor.slots[at].as_ref() else {
                return;
            };
            if !slot.is_ready || !self.acceptor.admits(slot.gate.kind) {
                return;
            }
            match self.accept_one(at) {
                Attempt::Accepted => self.acceptor.skips = 0,
                Attempt::Skipped(error) => {
                    self.acceptor.skips += 1;
                    if self.acceptor.skips >= SKIPS_IN_A_ROW_MAX {
                        self.acceptor.skips = 0;
                        // Something forbids every accept: going on would spin.
                        let kind = self.gate_kind(at);
                        self.starve(kind, &error);
                        return;
                    }
                }
                Attempt::Again => {}
                Attempt::Drained | Attempt::Paused => return,
            }
        }
        self.board.numbers.budget_accept.add(1);
    }

    fn accept_one(&mut self, at: usize) -> Attempt {
        let Some(slot) = self.acceptor.slots[at].as_ref() else {
            return Attempt::Drained;
        };
        let is_service = slot.gate.kind == GateKind::Service;
        match self.acceptor.spreading.when_full {
            WhenFull::Refuse | WhenFull::EvictIdle if is_service => self.accept_then_permit(at),
            WhenFull::Wait if is_service && !self.acceptor.permits().try_acquire(1) => {
                self.wait_at_the_cap()
            }
            _ => self.accept_with_permit(at),
        }
    }

    /// Takes one connection from a gate; its permit, where it needs one, is held.
    fn accept_with_permit(&mut self, at: usize) -> Attempt {
        let Some(slot) = self.acceptor.slots[at].as_ref() else {
            return Attempt::Drained;
        };
        let (kind, index) = (slot.gate.kind, slot.gate.index);
        let is_rescued = slot.of != self.hub.index;
        match self.take_connection(at) {
            Ok((stream, peer)) => {
                self.progress = true;
                self.board.numbers.accepted.add(1);
                self.board
                    .numbers
                    .accepted_rescued
                    .add(u64::from(is_rescued));
                match kind {
                    GateKind::Service => self.place(stream, peer, index),
                    GateKind::Admin { connections_max } => {
                        self.open_admin(stream, peer, index, connections_max);
                    }
                }
                Attempt::Accepted
            }
            Err(error) => {
                if kind == GateKind::Service {
                    self.acceptor.permits().put_back(1);
                }
                self.accept_failed(at, error)
            }
        }
    }

    /// Accepts. Where the system refuses, the loop first asks to be told of the next close and then tries once more: what was
    /// released between the refusal and that is seen here, or told.
    fn take_connection(&mut self, at: usize) -> io::Result<(D::Stream, PeerAddr)> {
        let Some(slot) = self.acceptor.slots[at].as_mut() else {
            return Err(io::ErrorKind::WouldBlock.into());
        };
        let listener = &mut slot.gate.listener;
        let error = match self.driver.accept(listener) {
            Err(error) if is_exhausted(&error) => error,
            taken => return taken,
        };
        self.acceptor.links.permits().wait_any(self.hub.index);
        match self.driver.accept(listener) {
            Err(again) if is_exhausted(&again) => Err(error),
            taken => {
                self.acceptor.stop_waiting_if_open();
                taken
            }
        }
    }

    /// Serves a connection here, or gives it to the loop that was chosen for it.
    fn place(&mut self, stream: D::Stream, peer: PeerAddr, listener: usize) {
        let to = self.acceptor.choose(peer);
        if to == self.hub.index {
            self.open(stream, peer, listener);
            return;
        }
        let handed = Handed {
            stream,
            peer,
            listener,
            sent_ns: self.hub.now_ns,
        };
        match self
            .acceptor
            .links
            .hand(to, &self.acceptor.boards[to], handed)
        {
            Ok(()) => self.board.numbers.handed_out.add(1),
            Err(Handed {
                stream,
                peer,
                listener,
                ..
            }) => {
                // A full inbox says that the other loop is behind; this one at least has time to notice.
                self.board.numbers.hand_over_refused.add(1);
                self.open(stream, peer, listener);
            }
        }
    }

    /// The table of errno decides: see docs/ERRORS.md.
    fn accept_failed(&mut self, at: usize, error: io::Error) -> Attempt {
        match accept_action(error.raw_os_error().unwrap_or(0)) {
            AcceptAction::Done => {
                if let Some(slot) = self.acceptor.slots[at].as_mut() {
                    slot.is_ready = false;
                }
                Attempt::Drained
            }
            AcceptAction::Retry => {
                // A turn that a signal spoilt is not a turn for nothing.
                self.progress = true;
                Attempt::Again
            }
            AcceptAction::Skip => {
                self.progress = true;
                self.board.numbers.accept_errors.add(1);
                Attempt::Skipped(error)
            }
            AcceptAction::Pause => {
                self.board.numbers.accept_exhausted.add(1);
                let kind = self.gate_kind(at);
                self.starve(kind, &error);
                Attempt::Paused
            }
            // The process must not serve on with a deaf listener: this ends the loop, and the loop's end the process.
            AcceptAction::Broken => panic!("a listener is none: {error}"),
        }
    }

    /// The system has nothing left for us: pause, and try again when a connection of ours has closed, or soon.
    fn starve(&mut self, kind: GateKind, error: &io::Error) {
        let now_ns = self.hub.now_ns;
        if self.acceptor.admits(kind) && self.acceptor.permits().may_tell(now_ns) {
            tracing::warn!(
                "loop {}: accepting is paused, the system refuses ({error}); it goes on when a connection closes",
                self.hub.index
            );
        }
        self.progress = true;
        self.acceptor.permits().wait_any(self.hub.index);
        let errno = error.raw_os_error().unwrap_or(0);
        let admission = self.acceptor.admission_of_mut(kind);
        let decision = admission.handle_exhausted(errno, now_ns);
        self.obey_admission(kind, decision);
    }

    fn gate_kind(&self, at: usize) -> GateKind {
        let slot = self.acceptor.slots[at].as_ref();
        slot.map_or(GateKind::Service, |slot| slot.gate.kind)
    }

    /// Does to the gates what the admission has decided.
    pub(super) fn obey_admission(&mut self, kind: GateKind, decision: Decision) {
        match decision {
            Decision::StayOpen | Decision::StayPaused => {}
            Decision::Pause { .. } => {
                self.acceptor.pause_all(&mut self.driver, kind);
            }
            Decision::Resume => {
                self.acceptor.stop_waiting_if_open();
                if let Err(error) = self.acceptor.resume_all(&mut self.driver) {
                    // The poll itself lacks memory: that is starvation as well.
                    self.starve(kind, &error);
                }
            }
        }
        self.progress = true;
        let (service, admin) = (
            self.acceptor.admission.counts(),
            self.acceptor.admin_admission.counts(),
        );
        let numbers = &self.board.numbers;
        numbers
            .accept_paused
            .set(service.full + service.starved + service.overloaded + admin.starved);
        numbers.accept_paused_by_memory.set(service.overloaded);
        numbers
            .accept_resumed_by_memory
            .set(service.resumed_by_relief);
        numbers
            .accept_resumed_by_release
            .set(service.resumed_by_release + admin.resumed_by_release);
        numbers
            .accept_resumed_by_timer
            .set(service.resumed_by_timer + admin.resumed_by_timer);
        numbers
            .paused
            .set(u64::from(!self.acceptor.admission.is_open()));
    }

    /// The process is at its cap, and whoever comes waits.
    fn wait_at_the_cap(&mut self) -> Attempt {
        self.tell_of_the_cap("who comes waits in the backlog");
        let decision = self.acceptor.admission.handle_full();
        self.obey_admission(GateKind::Service, decision);
        self.wait_for_permits();
        Attempt::Paused
    }

    /// Says that the process is at its cap: one of the loops, once a second.
    fn tell_of_the_cap(&self, what_follows: &str) {
        let permits = self.acceptor.permits();
        if permits.may_tell(self.hub.now_ns) {
            let (own, cap) = (self.hub.index, permits.cap());
            tracing::warn!("loop {own}: the cap of {cap} connections is reached, {what_follows}");
        }
    }

    /// Asks to be told when there are permits again. If there are by now, goes on at once.
    fn wait_for_permits(&mut self) {
        if self.acceptor.permits().wait(self.hub.index) == Wait::TryAgain {
            let decision = self.acceptor.admission.handle_released(0);
            self.obey_admission(GateKind::Service, decision);
        }
    }

    /// Accepts a connection, on the descriptor reserve if need be, and then asks for its permit: so permits are held by
    /// connections alone, and nobody is refused for one that another loop has taken before it knew whether somebody waits.
    /// Without a permit the connection gets the place of an idle one, or is closed at once: its client knows where it stands.
    fn accept_then_permit(&mut self, at: usize) -> Attempt {
        let evicts = self.acceptor.spreading.when_full == WhenFull::EvictIdle;
        let Some(slot) = self.acceptor.slots[at].as_ref() else {
            return Attempt::Drained;
        };
        let index = slot.gate.index;
        let is_rescued = slot.of != self.hub.index;
        match self.take_connection(at) {
            Ok((stream, peer)) => {
                self.progress = true;
                let is_full = !self.acceptor.permits().try_acquire(1);
                let has_permit = !is_full
                    || evicts && self.evict_idle() && self.acceptor.permits().try_acquire(1);
                if is_full {
                    self.tell_of_the_cap(if has_permit {
                        "who comes takes the place of the longest idle"
                    } else {
                        "who comes is closed at once"
                    });
                }
                if has_permit {
                    self.board.numbers.accepted.add(1);
                    self.board
                        .numbers
                        .accepted_rescued
                        .add(u64::from(is_rescued));
                    self.place(stream, peer, index);
                } else {
                    // Counted first: who sees the end finds it counted.
                    self.board.numbers.refused.add(1);
                    self.driver.close_stream(stream, false);
                }
                Attempt::Accepted
            }
            Err(error) => self.accept_failed(at, error),
        }
    }

    /// A connection of ours closed while this loop waited for that.
    pub(super) fn resume_after_release(&mut self) {
        let in_use = self.acceptor.permits().in_use();
        let decision = self.acceptor.admission.handle_released(in_use);
        self.obey_admission(GateKind::Service, decision);
        let decision = self.acceptor.admin_admission.handle_released(0);
        self.obey_admission(ADMIN, decision);
        if self.acceptor.admission.state() == State::Full {
            // Another loop was faster.
            self.wait_for_permits();
        }
    }

    /// Before the gates close for good: who has been promised a connection by the kernel gets it. Bounded by the
    /// kernel's queue and the permits.
    pub(super) fn accept_last(&mut self) {
        for at in 0..self.acceptor.slots.len() {
            for _ in 0..LAST_ACCEPTS_MAX {
                let Some(slot) = self.acceptor.slots[at].as_ref() else {
                    break;
                };
                if slot.gate.kind != GateKind::Service || !self.acceptor.admission.is_open() {
                    break;
                }
                match self.accept_one(at) {
                    Attempt::Accepted | Attempt::Skipped(_) | Attempt::Again => {}
                    Attempt::Drained | Attempt::Paused => break,
                }
            }
        }
    }

    fn open_admin(&mut self, stream: D::Stream, peer: PeerAddr, listener: usize, max: usize) {
        if self.acceptor.admin_live >= max {
            self.board.numbers.refused.add(1);
            self.driver.close_stream(stream, false);
            return;
        }
        self.acceptor.admin_live += 1;
        if !self.open_session(stream, peer, listener, true) {
            self.acceptor.admin_live -= 1;
        }
    }
}

/// Whether an accept failed because something ran out.
fn is_exhausted(error: &io::Error) -> bool {
    accept_action(error.raw_os_error().unwrap_or(0)) == AcceptAction::Pause
}

/// Admin gates, where their bound does not matter.
const ADMIN: GateKind = GateKind::Admin { connections_max: 0 };

/// When the safety timer of a starved admission is due.
const fn starved_until(admission: &Admission) -> Option<u64> {
    match admission.state() {
        State::Starved { retry_at, .. } => Some(retry_at),
        State::Open | State::Full | State::Overloaded | State::Draining => None,
    }
}

/// The message type is the factory's; it only passes through here.
pub(super) type AcceptorOf<D, F> = Acceptor<D, MessageOf<F>>;

/// Connections taken from one listener when it closes for good: the largest backlog that a listener is given.
const LAST_ACCEPTS_MAX: usize = 65_536;
