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

use std::rc::Rc;
use std::time::Duration;

use polyloop::{
    ConnRef, Ctx, Handler, Input, KeepAlive, PeerAddr, Side, TimerKey, Verdict, Vigilance,
};

use crate::balance::Tried;
use crate::doors::Passes;
use crate::health::State;
use crate::limits::Pace;
use crate::proxy_protocol::{self, Checksum, PeerEndpoint, Tlv, V1_BYTES_MAX};
use crate::relay::{Advice, AfterFin, Relay};
use crate::settings::{
    DrainClose, GroupSettings, ListenerSettings, OnDown, ProxyTlv, SendProxy, Splice,
};
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
    /// What few sessions have.
    extra: Option<Box<Extra>>,
    /// Milliseconds from accept to the backend's answer; [`NEVER`] while there was none.
    connected_ms: u32,
    listener: u16,
    group: u16,
    /// [`NO_BACKEND`] while it has no place.
    backend: u16,
    tries: u8,
    /// The source port that is counted for its connection.
    port: PortPass,
    phase: Phase,
    cause: Option<Cause>,
}

/// What few sessions have: those that were asked for a header or a name, were refused by a backend, or have a lifetime.
#[derive(Debug, Default)]
struct Extra {
    /// Whether it is needed once the backend has answered. What only the way there needs goes with it.
    outlasts_connect: bool,
    tried: Tried,
    /// Which of its backend's addresses it tries, and how many are left to be tried.
    place: usize,
    places_left: u16,
    /// Who the PROXY header says the client is, and where it meant to go.
    client: Option<PeerAddr>,
    dest: Option<PeerAddr>,
    /// The socket's own end, where it is known.
    local: Option<PeerAddr>,
    name: Option<Box<str>>,
    protocol: Option<Box<[u8]>>,
    hello: HelloReader,
    /// Under which name it stands in its group's queue.
    queued_as: Option<ConnRef>,
    lifetime: Option<TimerKey>,
    /// When it looks whether its backend is down, where sessions are closed then.
    watch: Option<TimerKey>,
    /// When it will be closed because the server drains.
    drain: Option<TimerKey>,
    /// When it looks for a place once more, or asks a backend once more.
    again: Option<TimerKey>,
    /// When the connection under way was asked for.
    asked_ns: u64,
    /// What each direction owes to its byte rate, and the timer that lets it go on.
    paces: [Pace; 2],
    resumes: [Option<TimerKey>; 2],
    /// Ports of a range that were in use, for the attempt under way.
    ports_tried: u8,
    /// How often its end has waited for a quiet moment.
    postponed: u8,
    /// Whether it tries a backend out after an ejection.
    is_trial: bool,
    /// Whether its backend was up since it has been there.
    was_up: bool,
}

/// A session on which nothing moved for so long is at rest: ending it cuts nothing off.
const QUIET: Duration = Duration::from_millis(200);

/// How often the end of a busy session waits for a quiet moment, [`QUIET`] each: five seconds in all.
const POSTPONED_MAX: u8 = 25;

/// Byte rates below this are kept by copying: one move through a pipe may be half a megabyte, a burst of its own.
const SPLICED_RATE_MIN: u64 = 8 * 1024 * 1024;

/// How often a session looks whether its backend is down, where sessions are closed then.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);

const NO_BACKEND: u16 = u16::MAX;
const NEVER: u32 = u32::MAX;

impl Session {
    /// A session for a connection that came through a listener of the settings.
    #[must_use]
    pub fn new(home: &Rc<LoopSite>, listener: usize, local: Option<PeerAddr>) -> Self {
        let extra = local.map(|local| {
            Box::new(Extra {
                outlasts_connect: true,
                local: Some(local),
                ..Extra::default()
            })
        });
        Self {
            home: Rc::clone(home),
            relay: Relay::new(),
            opened_ns: 0,
            timer: None,
            passes: Passes::default(),
            extra,
            connected_ms: NEVER,
            // Listeners and groups are lists that a person writes.
            listener: listener as u16,
            group: 0,
            backend: NO_BACKEND,
            tries: 0,
            port: PortPass::NONE,
            phase: Phase::Header,
            cause: None,
        }
    }

    fn listener(&self) -> &ListenerSettings {
        &self.home.site.settings.listeners[usize::from(self.listener)]
    }

    fn group(&self) -> &GroupSettings {
        &self.home.site.settings.groups[usize::from(self.group)]
    }

    fn extra(&mut self) -> &mut Extra {
        let extra = self.extra.get_or_insert_default();
        extra.outlasts_connect = true;
        extra
    }

    /// The same for what is of no use any more once the backend has answered.
    fn extra_until_connected(&mut self) -> &mut Extra {
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
            let timer = cx.set_timer(jittered);
            self.extra().lifetime = timer;
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
        let waits_for_bytes =
            self.listener().connect_when == crate::settings::ConnectWhen::FirstBytes;
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
            .extra
            .as_ref()
            .map_or(0, |e| e.asked_ns)
            .max(self.opened_ns);
        self.connected_ms = millis(now_ns.saturating_sub(self.opened_ns));
        self.backend_board().connected.add(1);
        let backend =
            &self.home.site.groups[usize::from(self.group)].backends[usize::from(self.backend)];
        backend
            .connect_time
            .record_shared(now_ns.saturating_sub(asked_ns));
        self.cause = None;
        self.end_trial();
        if self.extra.as_ref().is_some_and(|e| !e.outlasts_connect) {
            self.extra = None;
        }
        if !self.write_header(cx) {
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
        if self.group().on_down == OnDown::Close {
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
        let has_spoken = listener.connect_when == crate::settings::ConnectWhen::FirstBytes
            || !listener.routing.routes.is_empty();
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

    /// Ends the session if its backend went down meanwhile. One that was given a backend although that was down, as a group
    /// that fails open does, stays until the backend has been up. An ejection is no reason: it says that other sessions
    /// failed, and this one works.
    fn watch_backend<H: Handler>(&mut self, cx: &mut Ctx<'_, H>) -> Verdict {
        let now_ms = cx.now_ns() / 1_000_000;
        let backends = &self.home.site.groups[usize::from(self.group)].backends;
        let state = backends[usize::from(self.backend)]
            .published()
            .state(now_ms);
        let is_down = match state {
            State::Up => {
                self.extra().was_up = true;
                false
            }
            // An address that its name no longer has is not known to be dead.
            State::Drain | State::Ejected | State::NoAddress => false,
            State::CheckedDown => self.extra().was_up,
            State::Down => true,
        };
        if !is_down {
            self.extra().watch = cx.set_timer(WATCH_INTERVAL);
            return Verdict::Continue;
        }
        // A reset: nobody knows what the backend did not say any more.
        self.cause = Some(Cause::BackendDown);
        Verdict::Abort
    }

    /// Tells the backend who the client is, where it wants to know. `false` if there is no room for all that was to be told,
    /// which the settings' check excludes: a backend that expects a header must not get payload in its place.
    fn write_header<H: Handler>(&self, cx: &mut Ctx<'_, H>) -> bool {
        let Some(send) = &self.group().send_proxy else {
            return true;
        };
        let extra = self.extra.as_ref();
        let source = self.client(cx.peer());
        let dest = extra
            .and_then(|e| e.dest.or(e.local))
            .unwrap_or(PeerAddr::Unix);
        let (source, dest) = (endpoint(source), endpoint(dest));
        match send {
            SendProxy::V1 => {
                let mut line = [0; V1_BYTES_MAX];
                let len = proxy_protocol::write_v1(&mut line, source, dest);
                let _ = cx.write_to(Side::Back, &line[..len]);
                true
            }
            SendProxy::V2 { tlvs, checksum } => {
                let id = self.opened_ns.to_be_bytes();
                let mut block = [0; proxy_protocol::HEADER_BYTES_MAX];
                let values = self.tlv_values(tlvs, &id);
                let checksum = if *checksum {
                    Checksum::Append
                } else {
                    Checksum::Omit
                };
                let written = proxy_protocol::write_v2(&mut block, source, dest, &values, checksum);
                if let Ok(len) = written {
                    let _ = cx.write_to(Side::Back, &block[..len]);
                }
                written.is_ok()
            }
        }
    }

    fn tlv_values<'a>(&'a self, tlvs: &'a [ProxyTlv], id: &'a [u8]) -> Vec<Tlv<'a>> {
        use crate::proxy_protocol::kind;
        let extra = self.extra.as_ref();
        let name = extra.and_then(|e| e.name.as_deref()).map(str::as_bytes);
        let protocol = extra.and_then(|e| e.protocol.as_deref());
        tlvs.iter()
            .filter_map(|tlv| {
                let (kind, value) = match tlv {
                    ProxyTlv::Authority => (kind::AUTHORITY, name?),
                    ProxyTlv::Alpn => (kind::ALPN, protocol?),
                    ProxyTlv::UniqueId => (kind::UNIQUE_ID, id),
                    ProxyTlv::Custom { kind, value } => (*kind, value.as_slice()),
                };
                Some(Tlv { kind, value })
            })
            .collect()
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
        if side == Side::Back && self.relay.bytes(side) == 0 {
            self.report_success(cx.now_ns());
        }
        self.count(side, bytes.len());
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
        let extra = self.extra();
        let resume_at_ns = extra.paces[side.index()].handle_moved(rate, bytes as u64, now_ns);
        if resume_at_ns <= now_ns {
            return Verdict::Continue;
        }
        let wait = Duration::from_nanos(resume_at_ns - now_ns);
        extra.resumes[side.index()] = cx.set_timer(wait);
        Verdict::Pause
    }

    /// Bytes have passed by themselves.
    pub fn spliced<H: Handler>(&mut self, cx: &mut Ctx<'_, H>, bytes: usize) -> Verdict {
        let side = cx.side();
        if side == Side::Back && self.relay.bytes(side) == 0 {
            self.report_success(cx.now_ns());
        }
        self.count(side, bytes);
        if side == Side::Front && self.timer.is_some() {
            self.stop_timer(cx);
        }
        let policy = self.splice_policy();
        if self.relay.handle_spliced(side, bytes, policy) == Advice::Copy {
            cx.splice(side, false);
        }
        self.keep_pace(cx, bytes)
    }

    #[inline]
    fn count(&self, side: Side, bytes: usize) {
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
        let Some(extra) = &mut self.extra else {
            return Verdict::Continue;
        };
        for side in Side::ALL {
            if extra.resumes[side.index()] == Some(timer) {
                extra.resumes[side.index()] = None;
                // That nothing moved was our doing.
                cx.touch();
                cx.resume(side);
                return Verdict::Continue;
            }
        }
        if extra.watch == Some(timer) {
            return self.watch_backend(cx);
        }
        if extra.again == Some(timer) {
            extra.again = None;
            return self.try_again(cx);
        }
        if extra.lifetime == Some(timer) {
            extra.lifetime = None;
            return self.end_when_quiet(cx, Cause::LifetimeReached);
        }
        self.end_when_quiet(cx, Cause::Drained)
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
        match cause {
            Cause::LifetimeReached => self.extra().lifetime = timer,
            _ => self.extra().drain = timer,
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
            // The rest of the window is for those that wait for a quiet moment.
            let window = self.home.site.drain_window() / 5 * 4;
            let timer = cx.set_timer(jittered(window, 100, self.home.draw()));
            self.extra().drain = timer;
        }
        Verdict::Continue
    }

    /// Ends a session that cannot be served: a reset, since a FIN would look like an empty answer.
    fn refuse(&mut self, cause: Cause) -> Verdict {
        let board = self.board();
        match cause {
            Cause::AccessDenied => &board.refused_access,
            Cause::ListenerFull
            | Cause::SourceFull
            | Cause::RateExceeded
            | Cause::SourceRateExceeded => &board.refused_limit,
            Cause::HeaderRefused | Cause::HeaderTimeout => &board.refused_header,
            Cause::HelloRefused | Cause::HelloTimeout | Cause::NoRoute | Cause::NotTls => {
                &board.refused_hello
            }
            Cause::QueueFull | Cause::QueueTimeout => &board.refused_queue,
            _ => &board.refused_backend,
        }
        .add(1);
        self.cause = Some(cause);
        Verdict::Abort
    }

    fn enter<H: Handler>(&mut self, cx: &mut Ctx<'_, H>, phase: Phase, timeout: Option<Duration>) {
        self.stop_timer(cx);
        if let Some(again) = self.extra.as_mut().and_then(|extra| extra.again.take()) {
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
    fn report_success(&self, now_ns: u64) {
        let (group, backend) = (usize::from(self.group), usize::from(self.backend));
        self.home.report_success(group, backend, now_ns / 1_000_000);
    }

    /// Others may use the backend that it tried out.
    fn end_trial(&mut self) {
        if let Some(extra) = &mut self.extra
            && std::mem::take(&mut extra.is_trial)
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
        if self.backend != NO_BACKEND {
            let backend = usize::from(std::mem::replace(&mut self.backend, NO_BACKEND));
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

/// The end of a connection as a header names it. A unix socket's end has no name.
fn endpoint(addr: PeerAddr) -> PeerEndpoint<'static> {
    addr.socket_addr()
        .map_or(PeerEndpoint::Unix(b""), PeerEndpoint::Inet)
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
            size_of::<Session>() <= 120,
            "{} bytes",
            size_of::<Session>()
        );
        assert!(size_of::<Extra>() <= 320, "{} bytes", size_of::<Extra>());
    }
}
