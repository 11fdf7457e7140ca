//! One proxied connection: from accept to its record.
//!
//! ```text
//!              header needed?      routes by name?       no place free
//!   on_open --> Header ---------> Hello -------> choose ------------> Queue
//!                 |  bad, late      |  bad, late   |  place taken       |  its turn
//!                 v                 v              v                    |
//!               refused          refused       Connecting <-------------+
//!                                                  |  failed, and not the last try: choose another
//!                                                  v
//!                                                Relay --> both finished, broken, or out of time
//! ```
//!
//! The one idea: until a backend has answered, nothing that the client said is taken from the library, so that another
//! backend can be tried at any moment before: the client's bytes wait in the kernel, or, where a header or a hello had to be
//! read, in what the library keeps of input that was left.
//!
//! A backend with several addresses has failed a session only when all of them have: each is tried before another backend is.
//!
//! Deliberately absent: what is decided without a socket ([`relay`](crate::relay), [`balance`](crate::balance),
//! `proxy_protocol`, [`tls_hello`](crate::tls_hello), [`termination`](crate::termination)).
//!
//! The methods take the context of any handler, so that a server with other kinds of connection can put a session into an
//! enum; [`Session`] is a handler of its own as well.

mod choosing;
mod ending;
mod entering;
mod handler;
mod naming;

use std::rc::Rc;
use std::time::Duration;

use polyloop::{
    ConnRef, Ctx, Handler, Input, KeepAlive, PeerAddr, Remote, Side, TimerKey, Verdict, Vigilance,
};

use crate::balance::Tried;
use crate::doors::Passes;
use crate::health::State;
use crate::limits::Pace;
use crate::relay::{Advice, AfterFin, Relay};
use crate::settings::{ConnectWhen, DrainClose, GroupSettings, ListenerSettings, OnDown, Splice};
use crate::site::{LoopSite, PortPass};
use crate::termination::{Cause, Leg};
use crate::tls_hello::HelloReader;

/// What a session is told by others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Note {
    /// A place may be free: try again.
    Turn,
}

/// Where a session stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// A PROXY header must come first.
    Header,
    /// A TLS hello says where to go.
    Hello,
    /// The client speaks before a backend is connected to.
    FirstByte,
    /// All backends are at their cap.
    Queue,
    /// A place is taken, and the connection under way.
    Connecting,
    /// Bytes pass.
    Relay,
    /// It has been decided that it ends.
    Ending,
}

/// One proxied connection. See the module's documentation.
#[derive(Debug)]
pub struct Session {
    home: Rc<LoopSite>,
    relay: Relay,
    opened_ns: u64,
    /// What the current phase waits for at most.
    timer: Option<TimerKey>,
    passes: Passes,
    /// What is needed until a backend has answered; then it is dropped, as most of a session's life comes after.
    early: Option<Box<Early>>,
    /// What few sessions have.
    extra: Option<Box<Extra>>,
    /// Milliseconds from accept to the backend's answer; [`NEVER`] while there was none.
    connected_ms: u32,
    /// Milliseconds from that to the backend's first byte; [`NEVER`] while there was none.
    first_byte_ms: u32,
    /// Which session of its loop it is.
    nth: u32,
    listener: u16,
    group: u16,
    /// Where it has a place, or had one last; [`NO_BACKEND`] before the first.
    backend: u16,
    has_place: bool,
    /// Backends that were tried after the first.
    retries: u8,
    /// The source port that is counted for its connection.
    port: PortPass,
    phase: Phase,
    cause: Option<Cause>,
    /// Who sent the last byte.
    last_from: Option<Side>,
}

/// What a session needs until a backend has answered.
#[derive(Debug, Default)]
struct Early {
    tried: Tried,
    /// Where the PROXY header says that the client meant to go.
    dest: Option<PeerAddr>,
    /// The socket's own end, where it is known.
    local: Option<PeerAddr>,
    protocol: Option<Box<[u8]>>,
    hello: HelloReader,
    /// Under which name it stands in its group's queue, and since when.
    queued_as: Option<ConnRef>,
    queued_ns: u64,
    /// When the connection under way was asked for.
    asked_ns: u64,
    /// What the last backend that was tried did.
    failure: Option<Cause>,
    /// When it looks for a place once more, or asks a backend once more.
    again: Option<TimerKey>,
    /// Which of its backend's addresses it tries, and how many are left to be tried.
    place: usize,
    places_left: u16,
    /// Ports of a range, or sources, that could not be had for the attempt under way.
    ports_tried: u8,
    /// Whether it tries a backend out after an ejection.
    is_trial: bool,
}

/// What few sessions have: those with a header or a name, that waited, have a lifetime or a byte rate, or failed.
#[derive(Debug, Default)]
struct Extra {
    /// Who the PROXY header says the client is.
    client: Option<PeerAddr>,
    /// The name in the TLS hello.
    name: Option<Box<str>>,
    /// Where the backend was, if that changes: one that has a name.
    place: Option<Remote>,
    /// What more there is to say of why it was refused.
    detail: Option<&'static str>,
    /// When it looks what has become of its backend, where that may end it.
    watch: Option<TimerKey>,
    /// When it will be closed because the server or its backend drains.
    drain: Option<TimerKey>,
    /// Milliseconds in the queue; `None` if it has not waited.
    queue_ms: Option<u32>,
    /// Milliseconds from accept to asking for the connection that succeeded.
    asked_ms: u32,
    throttle: Option<Box<Throttle>>,
    /// How often its end has waited for a quiet moment.
    postponed: u8,
    /// Whether its backend was up since it has been there.
    was_up: bool,
    /// Whether it will be closed because its backend drains, and not the whole server.
    leaves_backend: bool,
}

/// What each direction owes to its byte rate, and the timer that lets it go on.
#[derive(Debug, Default)]
struct Throttle {
    paces: [Pace; 2],
    resumes: [Option<TimerKey>; 2],
}

/// A session on which nothing moved for so long is at rest: ending it cuts nothing off.
const QUIET: Duration = Duration::from_millis(200);

/// How often the end of a busy session waits for a quiet moment, [`QUIET`] each: five seconds in all.
const POSTPONED_MAX: u8 = 25;

/// Byte rates below this are kept by copying: one move through a pipe may be half a megabyte, a burst of its own.
const SPLICED_RATE_MIN: u64 = 8 * 1024 * 1024;

/// How often a session looks what has become of its backend, where that may end it.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);

const NO_BACKEND: u16 = u16::MAX;
const NEVER: u32 = u32::MAX;

impl Session {
    /// A session for a connection that came through a listener of the settings.
    #[must_use]
    pub fn new(home: &Rc<LoopSite>, listener: usize, local: Option<PeerAddr>) -> Self {
        let early = local.map(|local| {
            Box::new(Early {
                local: Some(local),
                ..Early::default()
            })
        });
        Self {
            home: Rc::clone(home),
            relay: Relay::new(),
            opened_ns: 0,
            timer: None,
            passes: Passes::default(),
            early,
            extra: None,
            connected_ms: NEVER,
            first_byte_ms: NEVER,
            nth: home.next_session(),
            // Listeners and groups are lists that a person writes.
            listener: listener as u16,
            group: 0,
            backend: NO_BACKEND,
            has_place: false,
            retries: 0,
            port: PortPass::NONE,
            phase: Phase::Header,
            cause: None,
            last_from: None,
        }
    }

    fn listener(&self) -> &ListenerSettings {
        &self.home.site.settings.listeners[usize::from(self.listener)]
    }

    fn group(&self) -> &GroupSettings {
        &self.home.site.settings.groups[usize::from(self.group)]
    }

    fn early(&mut self) -> &mut Early {
        self.early.get_or_insert_default()
    }

    fn extra(&mut self) -> &mut Extra {
        self.extra.get_or_insert_default()
    }

    /// Who the client is: as its PROXY header says, or its socket.
    fn client(&self, peer: PeerAddr) -> PeerAddr {
        let told = self.extra.as_ref().and_then(|extra| extra.client);
        told.unwrap_or(peer)
    }

    /// The connection is open.
    pub fn opened<H: Handler>(&mut self, cx: &mut Ctx<'_, H>) -> Verdict {
        self.opened_ns = cx.now_ns();
        let home = Rc::clone(&self.home);
        let listener = self.listener();
        let timeouts = &listener.timeouts;
        home.listener_board(usize::from(self.listener))
            .sessions
            .add(1);
        if let Some(lifetime) = timeouts.lifetime {
            let jittered = jittered(lifetime, timeouts.lifetime_jitter_percent, home.draw());
            // It is never cancelled, and whatever timer is no other is this one.
            let _ = cx.set_timer(jittered);
        }
        let listener = self.listener();
        // The loop's own default is the first listener's.
        if listener.timeouts.idle != home.site.settings.listeners[0].timeouts.idle {
            cx.set_idle_timeout(listener.timeouts.idle);
        }
        let expects_header = listener.accept_proxy.is_some()
            && home
                .site
                .is_trusted(usize::from(self.listener), cx.peer().ip());
        if expects_header {
            let timeout = listener.timeouts.proxy_header;
            self.enter(cx, Phase::Header, Some(timeout));
            return Verdict::Continue;
        }
        self.admit(cx)
    }

    /// The client's address is known: may it come, and is its name needed?
    fn admit<H: Handler>(&mut self, cx: &mut Ctx<'_, H>) -> Verdict {
        let client = self.client(cx.peer());
        if !self
            .home
            .site
            .is_allowed(usize::from(self.listener), client.ip())
        {
            return self.refuse(Cause::AccessDenied);
        }
        let site = &self.home.site;
        match site
            .doors
            .admit(usize::from(self.listener), client.ip(), cx.now_ns())
        {
            Ok(passes) => self.passes = passes,
            Err(cause) => return self.refuse(cause),
        }
        let listener = self.listener();
        if !listener.routing.routes.is_empty() {
            let timeout = listener.timeouts.hello;
            self.enter(cx, Phase::Hello, Some(timeout));
            return Verdict::Continue;
        }
        let Some(group) = listener.routing.otherwise else {
            return self.refuse(Cause::NoRoute);
        };
        self.route(cx, group)
    }

    /// The group is known.
    fn route<H: Handler>(&mut self, cx: &mut Ctx<'_, H>, group: usize) -> Verdict {
        self.group = group as u16;
        let waits_for_bytes = self.listener().connect_when == ConnectWhen::FirstBytes;
        if waits_for_bytes && self.phase != Phase::Hello {
            let timeout = self.listener().timeouts.first_byte;
            self.enter(cx, Phase::FirstByte, timeout);
            return Verdict::Continue;
        }
        self.choose(cx)
    }

    /// The backend has answered.
    pub fn connected<H: Handler>(&mut self, cx: &mut Ctx<'_, H>) -> Verdict {
        let now_ns = cx.now_ns();
        let asked_ns = self
            .early
            .as_ref()
            .map_or(0, |e| e.asked_ns)
            .max(self.opened_ns);
        self.connected_ms = millis(now_ns.saturating_sub(self.opened_ns));
        let took_ns = now_ns.saturating_sub(asked_ns);
        let board = self.backend_board();
        board.connected.add(1);
        board.connect_spread.record(took_ns);
        let backend =
            &self.home.site.groups[usize::from(self.group)].backends[usize::from(self.backend)];
        backend.connect_time.record_shared(took_ns);
        self.end_trial();
        let is_told = self.write_header(cx);
        self.early = None;
        if !is_told {
            self.backend_board().connect_local.add(1);
            return self.refuse(Cause::ConnectMisconfigured);
        }
        let timeout = self.first_byte_left(now_ns);
        self.enter(cx, Phase::Relay, timeout);
        if self.splice_policy() == Splice::Always {
            for side in Side::ALL {
                cx.splice(side, true);
            }
            self.board().spliced.add(2);
        }
        if self.group().on_down == OnDown::Close
            || self.home.site.settings.drain_close == DrainClose::Spread
        {
            let backends = &self.home.site.groups[usize::from(self.group)].backends;
            let word = backends[usize::from(self.backend)].published();
            let extra = self.extra();
            extra.was_up = word.state(now_ns / 1_000_000) == State::Up;
            extra.watch = cx.set_timer(WATCH_INTERVAL);
        }
        cx.resume(Side::Front);
        Verdict::Continue
    }

    /// How long the client may still take until its first byte; `None` if there is no limit, or it has said something to get
    /// here.
    fn first_byte_left(&self, now_ns: u64) -> Option<Duration> {
        let listener = self.listener();
        let has_spoken =
            listener.connect_when == ConnectWhen::FirstBytes || !listener.routing.routes.is_empty();
        let limit = listener.timeouts.first_byte.filter(|_| !has_spoken)?;
        let since = Duration::from_nanos(now_ns.saturating_sub(self.opened_ns));
        Some(limit.saturating_sub(since))
    }

    /// What the listener says about splicing, unless its byte rate is too low for it.
    fn splice_policy(&self) -> Splice {
        let listener = self.listener();
        match listener.bytes_per_second_max {
            Some(rate) if rate < SPLICED_RATE_MIN => Splice::Off,
            _ => listener.splice,
        }
    }

    /// Looks what has become of its backend, where that may end the session.
    fn watch_backend<H: Handler>(&mut self, cx: &mut Ctx<'_, H>) -> Verdict {
        let now_ms = cx.now_ns() / 1_000_000;
        let backends = &self.home.site.groups[usize::from(self.group)].backends;
        let state = backends[usize::from(self.backend)]
            .published()
            .state(now_ms);
        let closes = self.group().on_down == OnDown::Close;
        let spreads = self.home.site.settings.drain_close == DrainClose::Spread;
        let extra = self.extra();
        extra.was_up |= state == State::Up;
        // One that was given a backend although that was down, as a group that fails open does, stays until the backend has
        // been up. An ejection is no reason: it says that other sessions failed, and this one works. An address that its name
        // no longer has is not known to be dead.
        let is_down = match state {
            State::Up | State::Drain | State::Ejected | State::NoAddress => false,
            State::CheckedDown => extra.was_up,
            State::Down => true,
        };
        if closes && is_down {
            // A reset: nobody knows what the backend did not say any more.
            self.cause = Some(Cause::BackendDown);
            return Verdict::Abort;
        }
        let drains = spreads && state == State::Drain;
        if drains && extra.drain.is_none() {
            extra.leaves_backend = true;
            self.leave_in_time(cx);
        } else if extra.leaves_backend && !drains {
            // The operator has thought better of it.
            extra.leaves_backend = false;
            if let Some(timer) = extra.drain.take() {
                cx.cancel_timer(timer);
            }
        }
        let watch = cx.set_timer(WATCH_INTERVAL);
        self.extra().watch = watch;
        Verdict::Continue
    }

    /// Plans its end for some moment of the drain's window; the rest of it is for those that wait for a quiet moment.
    fn leave_in_time<H: Handler>(&mut self, cx: &mut Ctx<'_, H>) {
        let window = self.home.site.drain_window() / 5 * 4;
        let timer = cx.set_timer(jittered(window, 100, self.home.draw()));
        self.extra().drain = timer;
    }

    /// Bytes have arrived.
    #[inline]
    pub fn data<H: Handler>(&mut self, cx: &mut Ctx<'_, H>, input: &mut Input<'_>) -> Verdict {
        if self.phase == Phase::Relay {
            return self.pass(cx, input);
        }
        match self.phase {
            Phase::Header => self.read_header(cx, input),
            Phase::Hello => self.read_hello(cx, input),
            Phase::FirstByte => self.choose(cx),
            // Left for when there is somebody to give it to.
            Phase::Queue | Phase::Connecting => Verdict::Pause,
            Phase::Relay | Phase::Ending => Verdict::Continue,
        }
    }

    /// Passes what came from one side to the other.
    #[inline]
    fn pass<H: Handler>(&mut self, cx: &mut Ctx<'_, H>, input: &mut Input<'_>) -> Verdict {
        let side = cx.side();
        let bytes = input.take_all();
        let _ = cx.write_to(side.other(), bytes);
        self.note_bytes(side, bytes.len(), cx.now_ns());
        if side == Side::Front && self.timer.is_some() {
            self.stop_timer(cx);
        }
        let policy = self.splice_policy();
        if self.relay.handle_copied(side, bytes.len(), policy) == Advice::Splice {
            cx.splice(side, true);
            self.board().spliced.add(1);
        }
        self.keep_pace(cx, bytes.len())
    }

    /// Stops reading a side that has moved more than its byte rate allows, until it has not.
    #[inline]
    fn keep_pace<H: Handler>(&mut self, cx: &mut Ctx<'_, H>, bytes: usize) -> Verdict {
        if self.home.site.listeners[usize::from(self.listener)]
            .byte_rate
            .is_none()
        {
            return Verdict::Continue;
        }
        self.keep_rate(cx, bytes)
    }

    fn keep_rate<H: Handler>(&mut self, cx: &mut Ctx<'_, H>, bytes: usize) -> Verdict {
        let home = Rc::clone(&self.home);
        let Some(rate) = &home.site.listeners[usize::from(self.listener)].byte_rate else {
            return Verdict::Continue;
        };
        let (side, now_ns) = (cx.side(), cx.now_ns());
        let throttle = self.extra().throttle.get_or_insert_default();
        let resume_at_ns = throttle.paces[side.index()].handle_moved(rate, bytes as u64, now_ns);
        if resume_at_ns <= now_ns {
            return Verdict::Continue;
        }
        let wait = Duration::from_nanos(resume_at_ns - now_ns);
        throttle.resumes[side.index()] = cx.set_timer(wait);
        Verdict::Pause
    }

    /// Bytes have passed by themselves.
    pub fn spliced<H: Handler>(&mut self, cx: &mut Ctx<'_, H>, bytes: usize) -> Verdict {
        let side = cx.side();
        self.note_bytes(side, bytes, cx.now_ns());
        if side == Side::Front && self.timer.is_some() {
            self.stop_timer(cx);
        }
        let policy = self.splice_policy();
        if self.relay.handle_spliced(side, bytes, policy) == Advice::Copy {
            cx.splice(side, false);
        }
        self.keep_pace(cx, bytes)
    }

    /// What is to be known of bytes that pass, before the relay counts them.
    #[inline]
    fn note_bytes(&mut self, side: Side, bytes: usize, now_ns: u64) {
        if side == Side::Back && self.first_byte_ms == NEVER {
            self.first_byte(now_ns);
        }
        self.last_from = Some(side);
        let board = self.backend_board();
        match side {
            Side::Front => &board.bytes_up,
            Side::Back => &board.bytes_down,
        }
        .add(bytes as u64);
    }

    /// A side has finished.
    pub fn finished<H: Handler>(&mut self, cx: &mut Ctx<'_, H>) -> Verdict {
        let side = cx.side();
        if self.phase != Phase::Relay {
            // Only the client can, and before anything was done for it.
            self.phase = Phase::Ending;
            return Verdict::Close;
        }
        if side == Side::Front {
            // It has nothing to say, and has said so.
            self.stop_timer(cx);
        }
        cx.finish(side.other());
        match self.relay.handle_finished(side) {
            AfterFin::Over => {
                self.cause = Some(Cause::Finished);
                Verdict::Drain
            }
            AfterFin::HalfClosed => {
                let timeout = self.listener().timeouts.half_close;
                cx.set_idle_timeout(Some(timeout));
                Verdict::Continue
            }
        }
    }

    /// A timer is due.
    pub fn timer<H: Handler>(&mut self, cx: &mut Ctx<'_, H>, timer: TimerKey) -> Verdict {
        if self.timer == Some(timer) {
            self.timer = None;
            return self.phase_timed_out(cx);
        }
        let again = self.early.as_mut().map(|early| &mut early.again);
        if let Some(again) = again
            && *again == Some(timer)
        {
            *again = None;
            return self.try_again(cx);
        }
        let mut cause = Cause::LifetimeReached;
        if let Some(extra) = &mut self.extra {
            let resumes = extra
                .throttle
                .as_mut()
                .map(|throttle| &mut throttle.resumes);
            let due = resumes.and_then(|resumes| {
                let side = Side::ALL
                    .into_iter()
                    .find(|side| resumes[side.index()] == Some(timer))?;
                resumes[side.index()] = None;
                Some(side)
            });
            if let Some(side) = due {
                // That nothing moved was our doing.
                cx.touch();
                cx.resume(side);
                return Verdict::Continue;
            }
            if extra.watch == Some(timer) {
                return self.watch_backend(cx);
            }
            if extra.drain == Some(timer) {
                cause = if extra.leaves_backend {
                    Cause::BackendDrained
                } else {
                    Cause::Drained
                };
            }
        }
        self.end_when_quiet(cx, cause)
    }

    /// Ends a session that did nothing wrong, at a moment when nothing moves, so that its FIN cuts nothing off. One that never
    /// rests is reset in the end, so that nobody takes a part for the whole.
    fn end_when_quiet<H: Handler>(&mut self, cx: &mut Ctx<'_, H>, cause: Cause) -> Verdict {
        if self.phase != Phase::Relay || cx.idle_time() >= QUIET {
            self.cause = Some(cause);
            return self.end_politely();
        }
        let extra = self.extra();
        if extra.postponed >= POSTPONED_MAX {
            self.cause = Some(cause);
            return Verdict::Abort;
        }
        extra.postponed += 1;
        let timer = cx.set_timer(QUIET);
        // That of the lifetime is whatever timer is no other.
        if cause != Cause::LifetimeReached {
            extra.drain = timer;
        }
        Verdict::Continue
    }

    fn phase_timed_out<H: Handler>(&mut self, cx: &mut Ctx<'_, H>) -> Verdict {
        match self.phase {
            Phase::Header => self.refuse(Cause::HeaderTimeout),
            Phase::Hello => self.refuse(Cause::HelloTimeout),
            Phase::FirstByte | Phase::Relay => self.refuse(Cause::FirstByteTimeout(Leg::Client)),
            Phase::Queue => {
                self.leave_queue();
                self.refuse(Cause::QueueTimeout)
            }
            Phase::Connecting => {
                self.backend_board().connect_timeouts.add(1);
                cx.disconnect();
                if let Some(verdict) = self.try_next_place(cx) {
                    return verdict;
                }
                self.report_failure(cx.now_ns());
                self.try_next(cx, Cause::ConnectTimeout)
            }
            Phase::Ending => Verdict::Continue,
        }
    }

    /// Ends a session that did nothing wrong: what is on its way is delivered.
    fn end_politely(&mut self) -> Verdict {
        match std::mem::replace(&mut self.phase, Phase::Ending) {
            Phase::Relay => Verdict::Drain,
            _ => Verdict::Close,
        }
    }

    /// The server drains.
    pub fn drain<H: Handler>(&mut self, cx: &mut Ctx<'_, H>) -> Verdict {
        match self.phase {
            Phase::Header | Phase::Hello | Phase::FirstByte | Phase::Queue => {
                self.leave_queue();
                self.cause = Some(Cause::Drained);
                return self.end_politely();
            }
            Phase::Connecting | Phase::Relay | Phase::Ending => {}
        }
        if self.home.site.settings.drain_close == DrainClose::Spread {
            if let Some(extra) = &mut self.extra {
                extra.leaves_backend = false;
                if let Some(timer) = extra.drain.take() {
                    cx.cancel_timer(timer);
                }
            }
            self.leave_in_time(cx);
        }
        Verdict::Continue
    }

    /// Ends a session that cannot be served: a reset, since a FIN would look like an empty answer.
    fn refuse(&mut self, cause: Cause) -> Verdict {
        if let Some(reason) = cause.refusal() {
            self.board().refused[reason].add(1);
        }
        self.cause = Some(cause);
        Verdict::Abort
    }

    fn enter<H: Handler>(&mut self, cx: &mut Ctx<'_, H>, phase: Phase, timeout: Option<Duration>) {
        self.stop_timer(cx);
        if let Some(again) = self.early.as_mut().and_then(|early| early.again.take()) {
            cx.cancel_timer(again);
        }
        self.phase = phase;
        self.timer = timeout.and_then(|timeout| cx.set_timer(timeout));
    }

    fn stop_timer<H: Handler>(&mut self, cx: &mut Ctx<'_, H>) {
        if let Some(timer) = self.timer.take() {
            cx.cancel_timer(timer);
        }
    }

    fn report_failure(&self, now_ns: u64) {
        let (group, backend) = (usize::from(self.group), usize::from(self.backend));
        self.home.report_failure(group, backend, now_ns / 1_000_000);
    }

    /// The backend's first byte proves that it works.
    #[cold]
    fn first_byte(&mut self, now_ns: u64) {
        let since_accept = millis(now_ns.saturating_sub(self.opened_ns));
        self.first_byte_ms = since_accept.saturating_sub(self.connected_ms);
        let (group, backend) = (usize::from(self.group), usize::from(self.backend));
        self.home.report_success(group, backend, now_ns / 1_000_000);
    }

    /// Others may use the backend that it tried out.
    fn end_trial(&mut self) {
        if let Some(early) = &mut self.early
            && std::mem::take(&mut early.is_trial)
        {
            let backends = &self.home.site.groups[usize::from(self.group)].backends;
            backends[usize::from(self.backend)].end_trial();
        }
    }

    fn release_port(&mut self) {
        let pass = std::mem::replace(&mut self.port, PortPass::NONE);
        if pass != PortPass::NONE {
            let (group, backend) = (usize::from(self.group), usize::from(self.backend));
            self.home.release_port(group, backend, pass);
        }
    }

    /// Gives everything back that others may wait for. Doing it twice does nothing.
    fn let_go(&mut self) {
        self.leave_queue();
        let listener = usize::from(self.listener);
        let mut passes = std::mem::take(&mut self.passes);
        self.home.site.doors.release(listener, &mut passes);
        self.give_place_back();
    }

    fn give_place_back(&mut self) {
        self.end_trial();
        self.release_port();
        if std::mem::take(&mut self.has_place) {
            let backend = usize::from(self.backend);
            self.home.give_place_back(usize::from(self.group), backend);
        }
    }

    fn board(&self) -> &crate::site::ListenerBoard {
        self.home.listener_board(usize::from(self.listener))
    }

    #[inline]
    fn backend_board(&self) -> &crate::site::BackendBoard {
        self.home
            .backend_board(usize::from(self.group), usize::from(self.backend))
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // One that panicked was not told of its end.
        self.let_go();
    }
}

/// What the kernel watches over, on both sides of a session.
#[must_use]
pub fn vigilance(listener: &ListenerSettings) -> Vigilance {
    Vigilance {
        keep_alive: listener.keepalive.map(|keepalive| KeepAlive {
            idle: keepalive.idle,
            interval: keepalive.interval,
            count: keepalive.count,
        }),
        user_timeout: listener.user_timeout,
    }
}

/// `whole`, less a share of up to `percent` that is spread by `seed`.
fn jittered(whole: Duration, percent: u16, seed: u64) -> Duration {
    let share = u64::from(percent.min(100));
    let millis = u64::try_from(whole.as_millis()).unwrap_or(u64::MAX);
    let most = (u128::from(millis) * u128::from(share) / 100) as u64;
    Duration::from_millis(millis - crate::balance::random::mix(seed) % (most + 1))
}

fn millis(ns: u64) -> u32 {
    u32::try_from(ns.div_ceil(1_000_000)).map_or(NEVER - 1, |millis| millis.min(NEVER - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_small() {
        // Goal: what an idle session holds is known. Method: the sizes of its parts, as the compiler lays them out.
        assert!(
            size_of::<Session>() <= 112,
            "{} bytes",
            size_of::<Session>()
        );
        assert!(size_of::<Early>() <= 160, "{} bytes", size_of::<Early>());
        assert!(size_of::<Extra>() <= 160, "{} bytes", size_of::<Extra>());
    }
}
