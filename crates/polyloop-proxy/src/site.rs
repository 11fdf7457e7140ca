//! What the loops of a proxy share: settings, backends with their counts, who waits for a place.
//!
//! ```text
//!   Site (one)        groups: backends: places taken, health, counters     queue: who waits for a backend below its cap
//!     ^ Arc
//!   LoopSite (one a loop)   a picker for each group, the loop's clock reading, random state
//!     ^ Rc
//!   Session (one a connection)
//! ```
//!
//! The one idea: a session changes shared state at its beginning and at its end, and nothing is shared for each event. What
//! choices depend on, the places taken at a backend, is one number that all loops see, so `least` and caps are right across
//! loops; limits, source ports and queues are behind short locks of their own. Counters that only tell are owned by a loop
//! and added up by who reads them.
//!
//! Deliberately absent: sockets, and the session's phases ([`session`](crate::session)).

mod backend;
mod boards;
mod queue;
mod scene;
mod shares;
mod source_ports;
mod spread;

use std::cell::{Cell, RefCell, RefMut};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Arc, OnceLock, RwLock};
use std::time::Duration;

pub use backend::{Backend, SESSION_TICK_NS};
pub use boards::{BackendBoard, Changes, Ended, ListenerBoard, RecordsLost};
pub use shares::Shares;
pub use source_ports::SourcePorts;
pub use spread::{BYTES_BOUNDS, CONNECT_BOUNDS_NS, LENGTH_BOUNDS_NS, Spread, SpreadTotal};

use polyloop::{ConnRef, Remote};

use crate::access::Access;
use crate::balance::random::SplitMix64;
use crate::balance::{Algorithm, Picker, Tried, Weight, identity};
use crate::doors::Doors;
use crate::health::{Change, EjectionPolicy, HealthPolicy, Hysteresis, Initial, State, may_eject};
use crate::limits::ByteRate;
use crate::names::Name;
use crate::ports::{PortRange, Shortage};
use crate::record::Sampler;
use crate::settings::{GroupSettings, ListenerSettings, ProxySettings, SourceAddr, Target};
use crate::termination::Termination;
use crate::tls_hello::Hello;
pub(crate) use queue::{Joins, LOOK_INTERVAL_MS, Queue};
use scene::{Offer, Scene};
pub(crate) use source_ports::PortPass;

/// What the loops share. See the module's documentation.
pub struct Site {
    /// What the proxy was told.
    pub settings: ProxySettings,
    /// In the order of the settings.
    pub groups: Box<[Group]>,
    /// What is made of each listener, in the order of the settings.
    pub listeners: Box<[Listener]>,
    pub(crate) doors: Doors,
    /// What is to be looked up, in the order of the settings.
    pub names: Box<[Name]>,
    /// How a session that waits is told that it is its turn; set before the first loop runs.
    waker: OnceLock<Waker>,
    teller: OnceLock<Teller>,
    port_teller: OnceLock<PortTeller>,
    /// The system's range of source ports.
    port_range: OnceLock<PortRange>,
    /// Where access records go; set before the first loop runs.
    records: OnceLock<RecordSink>,
    losses: OnceLock<LossTeller>,
    drain_window_ms: AtomicU64,
    /// The wall clock when the loops' clock was 0, in milliseconds of the epoch.
    wall_offset_ms: AtomicU64,
    loops: usize,
}

/// Takes one access record, a line with its end. It must not wait.
type RecordSink = Box<dyn Fn(&str) + Send + Sync>;

/// Tells how many access records nobody will read.
type LossTeller = Box<dyn Fn() -> RecordsLost + Send + Sync>;

/// Tells the operator of a change of a backend's health: group, backend, change.
type Teller = Box<dyn Fn(&str, &str, Change) + Send + Sync>;

/// Tells the operator of source ports that run out: group, backend, how bad it is.
type PortTeller = Box<dyn Fn(&str, &str, &Shortage) + Send + Sync>;

/// Tells a waiting session that it is its turn; `false` if it cannot be told now.
type Waker = Box<dyn Fn(ConnRef) -> bool + Send + Sync>;

/// A group of backends.
pub struct Group {
    /// In the order of the settings.
    pub backends: Box<[Backend]>,
    slow_start_ms: u64,
    algorithm: Algorithm,
    /// The backends' shares. Replaced when the records of a service say otherwise, which is rare.
    shares: RwLock<Arc<Shares>>,
    /// Of the shares: what a loop compares to see that it has old ones.
    generation: AtomicU64,
    /// Sessions that wait for a place, over all loops.
    pub(crate) queue: Queue,
}

/// What is made of a listener's settings.
#[derive(Debug)]
pub struct Listener {
    /// By loop.
    pub boards: Box<[ListenerBoard]>,
    access: Access,
    pub(crate) byte_rate: Option<ByteRate>,
    /// Who must send a PROXY header.
    trusted: Access,
}

impl Listener {
    fn new(settings: &ListenerSettings, loops: usize) -> Self {
        let trusted = settings
            .accept_proxy
            .as_ref()
            .map_or_else(Access::default, |accept| Access::new(&accept.from, &[]));
        Self {
            boards: (0..loops).map(|_| ListenerBoard::default()).collect(),
            access: Access::new(&settings.allow, &settings.deny),
            byte_rate: settings.bytes_per_second_max.map(ByteRate::new),
            trusted,
        }
    }
}

impl Site {
    /// Shared state for these settings and `loops` loops. The embedded echo has no address yet: see
    /// [`set_echo`](Self::set_echo).
    #[must_use]
    pub fn new(settings: ProxySettings, loops: usize) -> Self {
        Self::with_seed(settings, loops, SOURCES_SEED)
    }

    /// The same with a seed for the hash of sources: one that nobody outside can know keeps them from choosing addresses
    /// that collide.
    #[must_use]
    pub fn with_seed(settings: ProxySettings, loops: usize, seed: u64) -> Self {
        let groups = settings
            .groups
            .iter()
            .map(|group| Group::new(group, loops))
            .collect();
        let listeners = settings
            .listeners
            .iter()
            .map(|listener| Listener::new(listener, loops))
            .collect();
        let doors = Doors::new(&settings, seed);
        let names = Name::all(&settings);
        Self {
            settings,
            groups,
            listeners,
            doors,
            names,
            waker: OnceLock::new(),
            teller: OnceLock::new(),
            port_teller: OnceLock::new(),
            port_range: OnceLock::new(),
            records: OnceLock::new(),
            losses: OnceLock::new(),
            drain_window_ms: AtomicU64::new(0),
            wall_offset_ms: AtomicU64::new(0),
            loops,
        }
    }

    /// How many loops there are.
    #[must_use]
    pub const fn loops(&self) -> usize {
        self.loops
    }

    /// Sets how waiting sessions are told that it is their turn. It answers whether they could be: if not, they are called
    /// again later. The second call changes nothing.
    pub fn set_waker(&self, waker: impl Fn(ConnRef) -> bool + Send + Sync + 'static) {
        let _ = self.waker.set(Box::new(waker));
    }

    /// Sets where access records go; the second call changes nothing.
    pub fn set_records(&self, sink: impl Fn(&str) + Send + Sync + 'static) {
        let _ = self.records.set(Box::new(sink));
    }

    /// Sets how to find out which records were lost; the second call changes nothing.
    pub fn set_records_lost(&self, teller: impl Fn() -> RecordsLost + Send + Sync + 'static) {
        let _ = self.losses.set(Box::new(teller));
    }

    /// Access records that were lost so far.
    #[must_use]
    pub fn records_lost(&self) -> RecordsLost {
        self.losses
            .get()
            .map_or_else(RecordsLost::default, |tell| tell())
    }

    /// Sets what the wall clock said (in milliseconds of the epoch) when the loops' clock was 0. Records and the names of
    /// sessions are dated by it.
    pub fn set_wall_offset(&self, wall_offset_ms: u64) {
        self.wall_offset_ms.store(wall_offset_ms, Relaxed);
    }

    /// What the wall clock said at this loop time.
    pub(crate) fn wall_ms(&self, loop_ms: u64) -> u64 {
        self.wall_offset_ms.load(Relaxed).saturating_add(loop_ms)
    }

    /// Sets how long a drain lasts, over which sessions are closed if the settings say so.
    pub fn set_drain_window(&self, window: Duration) {
        let millis = u64::try_from(window.as_millis()).unwrap_or(u64::MAX);
        self.drain_window_ms.store(millis, Relaxed);
    }

    pub(crate) fn drain_window(&self) -> Duration {
        Duration::from_millis(self.drain_window_ms.load(Relaxed))
    }

    /// Whether a PROXY header is expected from this address. On a unix socket, whoever may open it is trusted.
    pub(crate) fn is_trusted(&self, listener: usize, peer: Option<IpAddr>) -> bool {
        peer.is_none_or(|ip| self.listeners[listener].trusted.admits(ip))
    }

    /// Whether a client with this address may come. One without an address came through a unix socket, whose file says who
    /// may.
    pub(crate) fn is_allowed(&self, listener: usize, client: Option<IpAddr>) -> bool {
        client.is_none_or(|ip| self.listeners[listener].access.admits(ip))
    }

    /// The group for a client's hello; `None` for a client that does not speak TLS.
    pub(crate) fn route_of(&self, listener: usize, hello: Option<&Hello<'_>>) -> Option<usize> {
        let routing = &self.settings.listeners[listener].routing;
        let matching = hello.and_then(|hello| {
            routing.routes.iter().find(|route| {
                let is_named = route.sni.is_empty()
                    || hello
                        .sni
                        .is_some_and(|name| route.sni.iter().any(|sni| sni.matches(name.as_str())));
                is_named
                    && (route.alpn.is_empty()
                        || route
                            .alpn
                            .iter()
                            .any(|protocol| hello.alpn.offers(protocol.as_bytes())))
            })
        });
        matching.map(|route| route.group).or(routing.otherwise)
    }

    /// Tells where the embedded echo listens.
    pub fn set_echo(&self, addr: SocketAddr) {
        for (group, settings) in self.groups.iter().zip(&self.settings.groups) {
            for (backend, settings) in group.backends.iter().zip(&settings.backends) {
                if settings.to == Target::Echo {
                    backend.set_places(vec![Remote::Tcp(addr)]);
                }
            }
        }
    }

    /// Whoever waits longest for a place in a group may try now.
    pub fn wake_next(&self, group: usize) {
        self.groups[group]
            .queue
            .call_next(|next| self.waker.get().is_some_and(|waker| waker(next)));
    }
}

impl Site {
    /// Sessions that a listener has.
    #[must_use]
    pub fn live(&self, listener: usize) -> u32 {
        self.doors.live(listener)
    }

    /// Tells the operator of a change of health, and those who wait of a backend that can be used again.
    pub fn tell(&self, group: usize, backend: usize, change: Option<Change>) {
        let Some(change) = change else {
            return;
        };
        if change.to == State::Up {
            // Who takes a place calls the next.
            self.wake_next(group);
        }
        if let Some(teller) = self.teller.get() {
            let settings = &self.settings.groups[group];
            teller(&settings.name, &settings.backends[backend].name, change);
        }
    }

    /// Sets the range of ports that the system connects from; the second call changes nothing. Without it, Linux's default.
    pub fn set_port_range(&self, range: PortRange) {
        let _ = self.port_range.set(range);
    }

    /// The range of ports that the system connects from.
    #[must_use]
    pub fn port_range(&self) -> PortRange {
        let range = self.port_range.get();
        range.copied().unwrap_or(PortRange::LINUX_DEFAULT)
    }

    /// Sets how the operator is told of source ports (group, backend, how many are left); the second call changes nothing.
    pub fn set_port_teller(&self, teller: impl Fn(&str, &str, &Shortage) + Send + Sync + 'static) {
        let _ = self.port_teller.set(Box::new(teller));
    }

    fn tell_ports(&self, group: usize, backend: usize, news: Option<Shortage>) {
        let (Some(news), Some(teller)) = (news, self.port_teller.get()) else {
            return;
        };
        let settings = &self.settings.groups[group];
        teller(&settings.name, &settings.backends[backend].name, &news);
    }

    /// Sets how the operator is told of changes of health (group, backend, change); the second call changes nothing.
    pub fn set_teller(&self, teller: impl Fn(&str, &str, Change) + Send + Sync + 'static) {
        let _ = self.teller.set(Box::new(teller));
    }
}

impl fmt::Debug for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Site")
            .field("groups", &self.groups.len())
            .field("loops", &self.loops)
            .finish_non_exhaustive()
    }
}

impl Group {
    fn new(settings: &GroupSettings, loops: usize) -> Self {
        let weights: Vec<Weight> = settings
            .backends
            .iter()
            .map(|backend| Weight {
                weight: match backend.to {
                    // Until there is a record, nobody knows its share.
                    Target::Srv { .. } => 0,
                    _ => backend.weight,
                },
                backup: backend.backup,
                identity: identity(&backend.name),
            })
            .collect();
        let policy = policy_of(settings);
        let backends = settings
            .backends
            .iter()
            .map(|backend| Backend::new(backend, &policy, loops))
            .collect();
        let slow_start_ms = settings.slow_start.map_or(0, |time| {
            u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
        });
        Self {
            backends,
            slow_start_ms,
            algorithm: settings.balance,
            shares: RwLock::new(Arc::new(Shares::new(0, weights, settings.balance))),
            generation: AtomicU64::new(0),
            queue: Queue::default(),
        }
    }

    /// Sessions that wait for a place.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.queue.waiting()
    }
}

impl fmt::Debug for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Group")
            .field("backends", &self.backends.len())
            .field("waiting", &self.waiting())
            .finish_non_exhaustive()
    }
}

/// One loop's part of a site.
pub struct LoopSite {
    /// What it shares with the others.
    pub site: Arc<Site>,
    /// The loop, counted from 0.
    pub index: usize,
    pickers: RefCell<Vec<LoopGroup>>,
    turn: Cell<usize>,
    /// Loop time when a session last looked for a place, for what happens without a look at the clock.
    now_ms: Cell<u64>,
    random: RefCell<SplitMix64>,
    sessions: Cell<u32>,
    scratch: RefCell<Vec<u8>>,
    sampler: RefCell<Sampler>,
    line: RefCell<String>,
}

/// How one loop chooses among the backends of one group.
#[derive(Debug)]
struct LoopGroup {
    picker: Picker,
    shares: Arc<Shares>,
}

/// A place at a backend that a session has taken, and where that is.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) backend: usize,
    pub(crate) place: Remote,
    /// Which place that is, if one counts on and on, and how many others the backend has.
    pub(crate) turn: usize,
    pub(crate) others: u16,
    /// Whether it is the one session that tries the backend out after an ejection.
    pub(crate) is_trial: bool,
}

/// Why no place could be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoPlace {
    /// All that may be used are at their cap: one may become free.
    Full,
    /// None may be used.
    NoneUsable,
}

impl LoopSite {
    /// The part of one loop.
    #[must_use]
    pub fn new(site: &Arc<Site>, index: usize, seed: u64) -> Rc<Self> {
        let pickers = site
            .settings
            .groups
            .iter()
            .zip(&site.groups)
            .map(|(settings, group)| {
                let mut picker = Picker::new(settings.balance, index, site.loops, seed);
                let shares = group.shares();
                shares.tell(&mut picker);
                LoopGroup { picker, shares }
            })
            .collect();
        Rc::new(Self {
            site: Arc::clone(site),
            index,
            pickers: RefCell::new(pickers),
            turn: Cell::new(index),
            now_ms: Cell::new(0),
            random: RefCell::new(SplitMix64::new(seed ^ (index as u64) << 32)),
            sessions: Cell::new(0),
            scratch: RefCell::new(Vec::new()),
            sampler: RefCell::new(Sampler::new(
                NonZeroU32::new(site.settings.access_log.sample_every).unwrap_or(NonZeroU32::MIN),
                seed ^ index as u64,
            )),
            line: RefCell::new(String::new()),
        })
    }

    /// This loop's counters for a backend.
    pub(crate) fn backend_board(&self, group: usize, backend: usize) -> &BackendBoard {
        &self.site.groups[group].backends[backend].boards[self.index]
    }

    /// This loop's counters for a listener.
    pub(crate) fn listener_board(&self, listener: usize) -> &ListenerBoard {
        &self.site.listeners[listener].boards[self.index]
    }

    /// Chooses a backend that was not tried and takes a place there.
    pub(crate) fn take_place(
        &self,
        group: usize,
        source: Option<IpAddr>,
        tried: &Tried,
        now_ms: u64,
    ) -> Result<Taken, NoPlace> {
        self.now_ms.set(now_ms);
        let group_site = &self.site.groups[group];
        let backends = &group_site.backends;
        let pickers = &mut *self.pickers.borrow_mut();
        let LoopGroup { picker, shares } = &mut pickers[group];
        if shares.generation != group_site.generation.load(Relaxed) {
            *shares = group_site.shares();
            shares.tell(picker);
        }
        let scene = Scene::new(&self.site, group, shares, tried, now_ms);
        let is_full = Cell::new(false);
        let candidate = |index: usize| match scene.offer(index) {
            Offer::Usable(candidate) => Some(candidate),
            Offer::Full => {
                is_full.set(true);
                None
            }
            Offer::Unusable => None,
        };
        let mut unplaced = *tried;
        // Another loop may take the last place in between; then it is full, and the next choice knows.
        for _ in 0..CHOICES_MAX {
            let Some(index) = picker.pick(source, candidate, &unplaced) else {
                break;
            };
            self.turn.set(self.turn.get().wrapping_add(1));
            let turn = self.turn.get();
            let Some((place, others)) = backends[index].place(turn) else {
                // A name that has lost its addresses just now.
                unplaced.insert(index);
                continue;
            };
            let is_trial = scene.is_on_trial(index);
            if is_trial && backends[index].is_tried_out.swap(true, SeqCst) && scene.has_others {
                // Somebody on another loop was quicker to try it out.
                unplaced.insert(index);
                continue;
            }
            if backends[index].take() {
                self.backend_board(group, index).chosen.add(1);
                return Ok(Taken {
                    backend: index,
                    place,
                    turn,
                    others,
                    is_trial,
                });
            }
            is_full.set(true);
            if is_trial {
                backends[index].end_trial();
            }
        }
        Err(if is_full.get() {
            NoPlace::Full
        } else {
            NoPlace::NoneUsable
        })
    }

    /// Whether a session that has tried these could take a place now: whether calling one that waits is worth it.
    fn has_place(&self, group: usize, tried: &Tried, now_ms: u64) -> bool {
        let shares = self.site.groups[group].shares();
        let scene = Scene::new(&self.site, group, &shares, tried, now_ms);
        (0..shares.weights.len()).any(|index| matches!(scene.offer(index), Offer::Usable(_)))
    }

    /// Lets the next in a group's queue try, if there is a place for a session that has tried these.
    pub(crate) fn pass_turn_on(&self, group: usize, tried: &Tried, now_ms: u64) {
        if self.site.groups[group].queue.waiting() > 0 && self.has_place(group, tried, now_ms) {
            self.site.wake_next(group);
        }
    }

    /// A number that looks random, another each time.
    pub(crate) fn draw(&self) -> u64 {
        self.random.borrow_mut().draw()
    }

    /// One of a backend's places, another for each number that follows.
    pub(crate) fn place(&self, group: usize, backend: usize, nth: usize) -> Option<Remote> {
        let (place, _) = self.site.groups[group].backends[backend].place(nth)?;
        Some(place)
    }

    /// A session could not be connected, or was reset before the backend's first byte.
    pub(crate) fn report_failure(&self, group: usize, backend: usize, now_ms: u64) {
        let Some(ejection) = &self.site.settings.groups[group].passive else {
            return;
        };
        let backends = &self.site.groups[group].backends;
        let change = backends[backend].judge(now_ms, |health| {
            health.handle_failure(now_ms, || {
                let words = backends.iter().map(Backend::published);
                may_eject(words, now_ms, ejection.share_max_percent)
            })
        });
        self.site.tell(group, backend, change);
    }

    /// A session got the backend's first byte.
    pub(crate) fn report_success(&self, group: usize, backend: usize, now_ms: u64) {
        let subject = &self.site.groups[group].backends[backend];
        if subject.published().suspect {
            let change = subject.judge(now_ms, |health| health.handle_success(now_ms));
            self.site.tell(group, backend, change);
        }
    }

    /// Which session of this loop a new one is; it comes round after four thousand million.
    pub(crate) fn next_session(&self) -> u32 {
        let nth = self.sessions.get();
        self.sessions.set(nth.wrapping_add(1));
        nth
    }

    /// Room for a hello that comes in pieces.
    pub(crate) fn scratch(&self) -> RefMut<'_, Vec<u8>> {
        self.scratch.borrow_mut()
    }

    /// Where to connect from, and the port counted for it: the group's sources of the right family in turn, passing over those
    /// that have no port left; ports of a range in turn as well. `None` if no source has any.
    pub(crate) fn take_port(
        &self,
        group: usize,
        backend: usize,
        to: SocketAddr,
    ) -> Option<(Option<SocketAddr>, PortPass)> {
        let sources = &self.site.settings.groups[group].sources;
        let fitting = || {
            let sources = sources.iter();
            sources.filter(|source| source.ip.is_ipv4() == to.is_ipv4())
        };
        let count = fitting().count();
        if count == 0 {
            let pass = self.ask_port(group, backend, None, to)?;
            return Some((None, pass));
        }
        for _ in 0..count {
            let turn = self.turn.get().wrapping_add(1);
            self.turn.set(turn);
            let source = fitting().nth(turn % count)?;
            let Some(pass) = self.ask_port(group, backend, Some(source), to) else {
                continue;
            };
            let port = source.ports.map_or(0, |(first, last)| {
                let ports = usize::from(last.saturating_sub(first)) + 1;
                // Loops start apart, and each goes round: two loops seldom try the same port at once.
                let start = ports * self.index / self.site.loops;
                first + ((start + turn / count) % ports) as u16
            });
            return Some((Some(SocketAddr::new(source.ip, port)), pass));
        }
        None
    }

    fn ask_port(
        &self,
        group: usize,
        backend: usize,
        source: Option<&SourceAddr>,
        to: SocketAddr,
    ) -> Option<PortPass> {
        let own = source.and_then(|source| source.ports);
        let own = own.and_then(|(first, last)| PortRange::new(first, last).ok());
        let range = own.unwrap_or_else(|| self.site.port_range());
        let ports = &self.site.groups[group].backends[backend].ports;
        let now_ms = self.now_ms.get();
        let asked = ports.take(source.map(|s| s.ip), to, range, own.is_some(), now_ms);
        self.site.tell_ports(group, backend, asked.news);
        asked.pass
    }

    /// A connection has ended, or was not made.
    pub(crate) fn release_port(&self, group: usize, backend: usize, pass: PortPass) {
        let ports = &self.site.groups[group].backends[backend].ports;
        let news = ports.release(pass, self.now_ms.get());
        self.site.tell_ports(group, backend, news);
    }

    /// The kernel found no port for a connection.
    pub(crate) fn no_port(&self, group: usize, backend: usize, pass: PortPass, now_ms: u64) {
        let ports = &self.site.groups[group].backends[backend].ports;
        let news = ports.exhausted(pass, now_ms);
        self.site.tell_ports(group, backend, news);
    }

    /// Writes a session's record, if it is to be told.
    pub(crate) fn record(
        &self,
        write: impl FnOnce(&mut String, RecordContext<'_>),
        termination: &Termination,
    ) {
        let Some(sink) = self.site.records.get() else {
            return;
        };
        let Some(weight) = self.sampler.borrow_mut().keep(termination) else {
            return;
        };
        let mut line = self.line.borrow_mut();
        line.clear();
        write(
            &mut line,
            RecordContext {
                site: &self.site,
                weight,
            },
        );
        sink(&line);
    }

    /// Gives a place back, and lets the next in the queue try.
    pub(crate) fn give_place_back(&self, group: usize, backend: usize) {
        self.site.groups[group].backends[backend].give_back();
        self.site.wake_next(group);
    }
}

impl fmt::Debug for LoopSite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoopSite")
            .field("index", &self.index)
            .finish_non_exhaustive()
    }
}

fn policy_of(settings: &GroupSettings) -> HealthPolicy {
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    HealthPolicy {
        checks: settings.health.as_ref().map(|check| Hysteresis {
            rise: check.rise,
            fall: check.fall,
            initial: Initial::default(),
        }),
        ejection: settings.passive.as_ref().map(|passive| EjectionPolicy {
            errors: passive.errors,
            base_ms: millis(passive.base),
            max_ms: millis(passive.max),
        }),
    }
}

/// What a record needs beside its session.
pub(crate) struct RecordContext<'a> {
    pub(crate) site: &'a Site,
    pub(crate) weight: u32,
}

/// Where the hash of sources begins for who gives no seed: tests and simulations, which are to repeat themselves.
const SOURCES_SEED: u64 = 0x706f_6c79_6c6f_6f70;

/// Choices for one session at one moment, when others are faster or names have no addresses.
const CHOICES_MAX: usize = 8;
