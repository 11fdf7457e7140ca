//! Which backend, and the way to it: places, the queue, connecting, and trying another one.
//!
//! ```text
//!   choose ── place taken ──> connect ── answered ──> connected (session.rs)
//!     │ no place free            │ failed: another port, another backend, or given up
//!     v                          v
//!   queue ── called, or a look ──> choose
//! ```
//!
//! Each attempt has the whole connect timeout. Other addresses of the same backend are no retries: they are bounded by how
//! many there are, and the backend has failed once, however many it has.
//!
//! The one idea: whatever has failed is somebody's fault, and what is tried next follows from whose. A port that is in use is
//! ours: the next port, at the same backend. A backend that refuses: another backend. Nothing left on this host: nobody else
//! can help, but another backend may have ports left.
//!
//! Deliberately absent: who may be used (`scene.rs`) and who is first in line (`queue.rs`).

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use polyloop::{Ctx, Dial, Handler, PeerAddr, Remote, Side, Verdict};
use polyloop_core::errno::{ConnectAction, EADDRINUSE, EADDRNOTAVAIL, EAGAIN, connect_action};

use super::{NO_BACKEND, Note, Phase, Session, millis, vigilance};
use crate::balance::Tried;
use crate::settings::Target;
use crate::site::{Joins, LOOK_INTERVAL_MS, NoPlace, PortPass, Taken};
use crate::termination::Cause;

/// How long a session waits before it asks a unix socket again whose queue was full.
const BACKLOG_PAUSE: Duration = Duration::from_millis(10);

/// Ports of a configured range that are tried for one connection.
const PORTS_TRIED_MAX: u8 = 8;

/// From the client's address: its own port, then any.
const TRANSPARENT_TRIES_MAX: u8 = 2;

impl Session {
    /// Takes a place at a backend and connects to it, or waits for one, or gives up.
    pub(super) fn choose<H: Handler>(&mut self, cx: &mut Ctx<'_, H>) -> Verdict {
        // Nothing is read until there is somebody to give it to.
        cx.pause(Side::Front);
        let group = usize::from(self.group);
        let is_newcomer = !matches!(self.phase, Phase::Queue | Phase::Connecting);
        if is_newcomer && self.home.site.groups[group].queue.is_ahead_of_newcomers() {
            return self.queue_up(cx);
        }
        let source = self.client(cx.peer()).ip();
        let now_ms = cx.now_ns() / 1_000_000;
        let mut taken = self.home.take_place(group, source, &self.tried(), now_ms);
        if taken.is_err() && self.phase == Phase::Queue {
            // It is its turn: a backend that has failed it is better than a place that nobody behind it can have.
            taken = self.home.take_place(group, source, &Tried::new(), now_ms);
        }
        match taken {
            Ok(taken) => {
                let has_waited = self.phase == Phase::Queue;
                self.stop_waiting(cx.now_ns());
                let verdict = self.connect(cx, &taken);
                if has_waited {
                    // There may be room for more than one.
                    self.home.pass_turn_on(group, &Tried::new(), now_ms);
                }
                verdict
            }
            Err(NoPlace::NoneUsable) if self.phase != Phase::Queue => {
                // Where all were tried, the last failure is the reason.
                let failure = self.early.as_ref().and_then(|e| e.failure);
                self.refuse(failure.unwrap_or(Cause::NoBackend))
            }
            // Who waits already waits on until its time is up: a backend may come back.
            Err(_) => self.queue_up(cx),
        }
    }

    /// Waits in line.
    fn queue_up<H: Handler>(&mut self, cx: &mut Ctx<'_, H>) -> Verdict {
        let max = self.group().queue_max as usize;
        let joins = match self.phase {
            Phase::Queue | Phase::Connecting => Joins::AtFront,
            _ => Joins::AtEnd { max },
        };
        let group = usize::from(self.group);
        if max == 0 || !self.home.site.groups[group].queue.join(cx.this(), joins) {
            return self.refuse(Cause::QueueFull);
        }
        let this = cx.this();
        self.early().queued_as = Some(this);
        if self.phase != Phase::Queue {
            self.board().queued.add(1);
            self.early().queued_ns = cx.now_ns();
            let timeout = self.listener().timeouts.queue;
            self.enter(cx, Phase::Queue, Some(timeout));
            self.look_again_later(cx);
        }
        // A place may have been given back between the look at the places and the joining, when nobody was there to be
        // called.
        let tried = self.tried();
        self.home
            .pass_turn_on(group, &tried, cx.now_ns() / 1_000_000);
        Verdict::Continue
    }

    /// The backends that have failed it.
    fn tried(&self) -> Tried {
        self.early.as_ref().map_or_else(Tried::new, |e| e.tried)
    }

    fn look_again_later<H: Handler>(&mut self, cx: &mut Ctx<'_, H>) {
        let again = cx.set_timer(Duration::from_millis(LOOK_INTERVAL_MS));
        self.early().again = again;
    }

    /// The timer of what is to be tried again.
    pub(super) fn try_again<H: Handler>(&mut self, cx: &mut Ctx<'_, H>) -> Verdict {
        match self.phase {
            Phase::Queue => {
                let (group, now_ms) = (usize::from(self.group), cx.now_ns() / 1_000_000);
                if self.home.site.groups[group].queue.is_look_due(now_ms) {
                    self.home.pass_turn_on(group, &self.tried(), now_ms);
                }
                self.look_again_later(cx);
                Verdict::Continue
            }
            Phase::Connecting => self.connect_once_more(cx),
            _ => Verdict::Continue,
        }
    }

    /// Waits no longer. If it has been called meanwhile, the call is for the next.
    pub(super) fn leave_queue(&mut self) {
        let Some(this) = self.early.as_mut().and_then(|e| e.queued_as.take()) else {
            return;
        };
        let group = usize::from(self.group);
        let queue = &self.home.site.groups[group].queue;
        if !queue.leave(this) {
            queue.answered();
            self.home.site.wake_next(group);
        }
    }

    /// It has been called: a place may be free.
    pub fn note<H: Handler>(&mut self, cx: &mut Ctx<'_, H>, note: Note) -> Verdict {
        let Note::Turn = note;
        // Without this it has given the turn on already.
        let Some(this) = self.early.as_mut().and_then(|e| e.queued_as.take()) else {
            return Verdict::Continue;
        };
        let queue = &self.home.site.groups[usize::from(self.group)].queue;
        if !queue.leave(this) {
            queue.answered();
        }
        self.choose(cx)
    }

    /// What the record will tell of the time in the queue.
    pub(super) fn stop_waiting(&mut self, now_ns: u64) {
        if self.phase == Phase::Queue {
            let queued_ns = self.early().queued_ns;
            let extra = self.extra();
            let waited_ms = millis(now_ns.saturating_sub(queued_ns));
            extra.queue_ms = Some(extra.queue_ms.unwrap_or(0).saturating_add(waited_ms));
        }
    }

    fn connect<H: Handler>(&mut self, cx: &mut Ctx<'_, H>, taken: &Taken) -> Verdict {
        if self.backend != NO_BACKEND {
            self.retries = self.retries.saturating_add(1);
            self.backend_board().retried.add(1);
        }
        (self.backend, self.has_place) = (taken.backend as u16, true);
        if taken.others > 0 || taken.is_trial || self.early.is_some() {
            let early = self.early();
            (early.place, early.places_left) = (taken.turn, taken.others);
            early.is_trial = taken.is_trial;
        }
        self.connect_to(cx, &taken.place)
    }

    /// Tries another address of the same backend, if there is one that was not tried.
    pub(super) fn try_next_place<H: Handler>(&mut self, cx: &mut Ctx<'_, H>) -> Option<Verdict> {
        let early = self.early.as_mut()?;
        early.places_left = early.places_left.checked_sub(1)?;
        early.place = early.place.wrapping_add(1);
        let (group, backend) = (usize::from(self.group), usize::from(self.backend));
        // Its name may have lost them meanwhile.
        let place = self.home.place(group, backend, early.place)?;
        Some(self.connect_to(cx, &place))
    }

    /// Asks the same address once more, within the time that is left.
    fn connect_once_more<H: Handler>(&mut self, cx: &mut Ctx<'_, H>) -> Verdict {
        let (group, backend) = (usize::from(self.group), usize::from(self.backend));
        let nth = self.early.as_ref().map_or(0, |early| early.place);
        match self.home.place(group, backend, nth) {
            Some(place) => self.dial_to(cx, &place),
            None => self.try_next(cx, Cause::NameUnknown),
        }
    }

    fn connect_to<H: Handler>(&mut self, cx: &mut Ctx<'_, H>, place: &Remote) -> Verdict {
        self.note_attempt(cx.now_ns(), place);
        let timeout = self.listener().timeouts.connect;
        self.enter(cx, Phase::Connecting, Some(timeout));
        self.dial_to(cx, place)
    }

    fn dial_to<H: Handler>(&mut self, cx: &mut Ctx<'_, H>, place: &Remote) -> Verdict {
        let dial = match self.dial(cx.peer(), place) {
            Ok(dial) => dial,
            Err(Cause::PortsExhausted) => {
                // Not begun, as it must fail. Another backend may have ports left.
                self.backend_board().connect_local.add(1);
                return self.try_next(cx, Cause::PortsExhausted);
            }
            Err(cause) => {
                self.backend_board().connect_local.add(1);
                return self.refuse(cause);
            }
        };
        let is_asked = if self.group().hold_ack {
            cx.connect_to_forward(dial)
        } else {
            cx.connect(dial)
        };
        if !is_asked {
            debug_assert!(false, "a session connects when it has no back side");
            return self.refuse(Cause::ConnectMisconfigured);
        }
        Verdict::Continue
    }

    /// Remembers when the attempt began, where it is not the first moment of the session, and where it goes, where that
    /// changes.
    fn note_attempt(&mut self, now_ns: u64, place: &Remote) {
        if now_ns != self.opened_ns {
            self.early().asked_ns = now_ns;
            let asked_ms = millis(now_ns.saturating_sub(self.opened_ns));
            self.extra().asked_ms = asked_ms;
        }
        let backend = &self.group().backends[usize::from(self.backend)];
        if matches!(backend.to, Target::Name { .. } | Target::Srv { .. }) {
            self.extra().place = Some(place.clone());
        }
    }

    fn dial(&mut self, peer: PeerAddr, place: &Remote) -> Result<Dial, Cause> {
        self.release_port();
        let listener = self.listener();
        let group = self.group();
        let mut dial = Dial::to(place.clone());
        let Remote::Tcp(addr) = place else {
            return Ok(dial);
        };
        dial.vigilance = vigilance(listener);
        // The header is written as soon as the backend answers.
        dial.holds_ack = group.hold_ack && group.send_proxy.is_some();
        if group.transparent {
            // A mapped address is IPv4, whatever listener it came through.
            let mut from = self.client(peer).socket_addr().map(canonical);
            // The client's port was in use: its address alone is left.
            if self.early().ports_tried > 0
                && let Some(from) = &mut from
            {
                from.set_port(0);
            }
            if from.is_some_and(|from| from.is_ipv4() != addr.is_ipv4()) {
                // No backend of this address is at fault, and no other attempt would end otherwise.
                return Err(Cause::ConnectMisconfigured);
            }
            dial.from = from;
            dial.is_transparent = from.is_some();
        } else {
            let (group, backend) = (usize::from(self.group), usize::from(self.backend));
            let port = self.home.take_port(group, backend, *addr);
            (dial.from, self.port) = port.ok_or(Cause::PortsExhausted)?;
        }
        Ok(dial)
    }

    /// The backend could not be had.
    pub fn connect_failed<H: Handler>(
        &mut self,
        cx: &mut Ctx<'_, H>,
        error: &io::Error,
    ) -> Verdict {
        let errno = error.raw_os_error().unwrap_or(0);
        if self.is_port_taken(errno) {
            return self.connect_once_more(cx);
        }
        if errno == EADDRNOTAVAIL && self.port != PortPass::NONE {
            let pass = std::mem::replace(&mut self.port, PortPass::NONE);
            let (group, backend) = (usize::from(self.group), usize::from(self.backend));
            let now_ms = cx.now_ns() / 1_000_000;
            self.home.no_port(group, backend, pass, now_ms);
            if self.has_other_source() {
                return self.connect_once_more(cx);
            }
        }
        if errno == EAGAIN && self.is_at_unix_socket() {
            // Its queue is full, which TCP would deal with by asking again.
            let again = cx.set_timer(BACKLOG_PAUSE);
            self.early().again = again;
            return Verdict::Continue;
        }
        let is_backends_fault =
            matches!(connect_action(errno), ConnectAction::TryAnother) || errno == 0;
        let board = self.backend_board();
        if is_backends_fault {
            board.connect_refused.add(1);
        } else {
            board.connect_local.add(1);
        }
        if let Some(verdict) = self.try_next_place(cx) {
            return verdict;
        }
        if is_backends_fault {
            self.report_failure(cx.now_ns());
        }
        self.try_next(cx, Cause::of_connect_errno(errno))
    }

    /// Whether a port of a configured range, or the client's, was in use, and the next may not be.
    fn is_port_taken(&mut self, errno: i32) -> bool {
        if !matches!(errno, EADDRINUSE | EADDRNOTAVAIL) {
            return false;
        }
        let group = self.group();
        let tries_max = if group.transparent {
            TRANSPARENT_TRIES_MAX
        } else if group.sources.iter().any(|source| source.ports.is_some()) {
            PORTS_TRIED_MAX
        } else {
            return false;
        };
        let early = self.early();
        early.ports_tried += 1;
        early.ports_tried < tries_max
    }

    /// Whether there is another address to connect from; as often as there are addresses.
    fn has_other_source(&mut self) -> bool {
        let sources = self.group().sources.len();
        let early = self.early();
        early.ports_tried += 1;
        usize::from(early.ports_tried) < sources.min(usize::from(PORTS_TRIED_MAX))
    }

    fn is_at_unix_socket(&self) -> bool {
        let backend = usize::from(self.backend);
        matches!(self.group().backends[backend].to, Target::Unix(_))
    }

    /// Gives the place back and tries another backend, if there are tries left.
    pub(super) fn try_next<H: Handler>(&mut self, cx: &mut Ctx<'_, H>, cause: Cause) -> Verdict {
        let failed = usize::from(self.backend);
        self.give_place_back();
        if u32::from(self.retries) >= self.group().retries {
            return self.refuse(cause);
        }
        let early = self.early();
        early.failure = Some(cause);
        early.tried.insert(failed);
        early.ports_tried = 0;
        self.choose(cx)
    }
}

fn canonical(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip().to_canonical(), addr.port())
}
