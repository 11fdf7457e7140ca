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
//! The one idea: a session changes shared state twice, when it takes a place at a backend and when it gives it back. Both
//! are one atomic addition to the count that all loops see, so `least` and caps are right across loops; nothing is shared for
//! each event. Counters that only tell are owned by a loop and added up by who reads them.
//!
//! Deliberately absent: sockets, and the session's phases ([`session`](crate::session)).

use std::cell::{Cell, RefCell, RefMut};
use std::collections::VecDeque;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::time::Duration;

mod boards;
mod spread;

pub use boards::{BackendBoard, Changes, Ended, ListenerBoard, RecordsLost};
pub use spread::{BYTES_BOUNDS, CONNECT_BOUNDS_NS, LENGTH_BOUNDS_NS, Spread, SpreadTotal};

use polyloop::hist::AtomicHistogram;
use polyloop::{ConnRef, Remote};

use crate::access::Access;
use crate::balance::{Candidate, Picker, SourceTable, Tried, Weight, identity};
use crate::doors::Doors;
use crate::health::{
    Change, EjectionPolicy, Health, HealthPolicy, Hysteresis, Initial, Manual, Outcome, Published,
    State, group_mode, may_eject,
};
use crate::limits::ByteRate;
use crate::record::Sampler;
use crate::settings::{GroupSettings, ListenerSettings, ProxySettings, Target};
use crate::termination::Termination;
use crate::tls_hello::Hello;

/// What the loops share. See the module's documentation.
pub struct Site {
    /// What the proxy was told.
    pub settings: ProxySettings,
    /// In the order of the settings.
    pub groups: Box<[Group]>,
    /// What is made of each listener, in the order of the settings.
    pub listeners: Box<[Listener]>,
    pub(crate) doors: Doors,
    /// How a session that waits is told that it is its turn; set before the first loop runs.
    waker: OnceLock<Waker>,
    teller: OnceLock<Teller>,
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

/// Tells a waiting session that it is its turn.
type Waker = Box<dyn Fn(ConnRef) + Send + Sync>;

/// A group of backends.
pub struct Group {
    /// In the order of the settings.
    pub backends: Box<[Backend]>,
    weights: Vec<Weight>,
    slow_start_ms: u64,
    table: Option<SourceTable>,
    /// Sessions that wait for a place, over all loops.
    waiting: AtomicUsize,
    queue: Mutex<VecDeque<ConnRef>>,
}

/// A backend, as all loops see it.
pub struct Backend {
    /// Where it is now.
    place: RwLock<Vec<Remote>>,
    /// Sessions that have a place, or are on their way to one.
    taken: AtomicU64,
    taken_max: u64,
    /// What is known of it; changed rarely, by checks, failures and operators.
    health: Mutex<Health>,
    /// The same as a word that every choice reads: [`Published`].
    published: AtomicU64,
    /// When a check ended last, in milliseconds of loop time, twice, and one more if it passed; 0 before the first.
    last_check: AtomicU64,
    /// How often its health changed, to what.
    pub changes: Changes,
    /// By loop.
    pub boards: Box<[BackendBoard]>,
    /// Nanoseconds from asking for a connection to having it, for quantiles.
    pub connect_time: AtomicHistogram,
    /// From accept to the end, in [`SESSION_TICK_NS`].
    pub session_time: AtomicHistogram,
}

/// The unit of [`Backend::session_time`]: a histogram of nanoseconds ends after a minute, one of these after 79 days.
pub const SESSION_TICK_NS: u64 = 100_000;

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
        Self {
            settings,
            groups,
            listeners,
            doors,
            waker: OnceLock::new(),
            teller: OnceLock::new(),
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

    /// Sets how waiting sessions are told that it is their turn; the second call changes nothing.
    pub fn set_waker(&self, waker: impl Fn(ConnRef) + Send + Sync + 'static) {
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
        let group = &self.groups[group];
        if group.waiting.load(SeqCst) == 0 {
            return;
        }
        let next = group.lock_queue().pop_front();
        if let (Some(next), Some(waker)) = (next, self.waker.get()) {
            group.waiting.fetch_sub(1, SeqCst);
            waker(next);
        }
    }
}

impl Site {
    /// Sessions that a listener has.
    #[must_use]
    pub fn live(&self, listener: usize) -> u32 {
        self.doors.live(listener)
    }

    /// Tells the operator of a change of health.
    pub fn tell(&self, group: usize, backend: usize, change: Option<Change>) {
        let (Some(change), Some(teller)) = (change, self.teller.get()) else {
            return;
        };
        let settings = &self.settings.groups[group];
        teller(&settings.name, &settings.backends[backend].name, change);
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
                weight: backend.weight,
                backup: backend.backup,
                identity: identity(&backend.name),
            })
            .collect();
        let policy = policy_of(settings);
        let backends = settings
            .backends
            .iter()
            .map(|backend| {
                let place = match &backend.to {
                    Target::Addr(addr) => vec![Remote::Tcp(*addr)],
                    Target::Unix(path) => vec![Remote::Unix(Arc::from(path.as_path()))],
                    Target::Name { .. } | Target::Srv { .. } | Target::Echo => Vec::new(),
                };
                let health = Health::new(&policy);
                Backend {
                    place: RwLock::new(place),
                    taken: AtomicU64::new(0),
                    taken_max: backend.connections_max.map_or(u64::MAX, u64::from),
                    published: AtomicU64::new(health.published(0).pack()),
                    health: Mutex::new(health),
                    last_check: AtomicU64::new(0),
                    changes: Changes::default(),
                    boards: (0..loops).map(|_| BackendBoard::default()).collect(),
                    connect_time: AtomicHistogram::new(),
                    session_time: AtomicHistogram::new(),
                }
            })
            .collect();
        let slow_start_ms = settings.slow_start.map_or(0, |time| {
            u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
        });
        let table = (settings.balance == crate::balance::Algorithm::SourceHash)
            .then(|| SourceTable::build(&weights));
        Self {
            backends,
            weights,
            slow_start_ms,
            table,
            waiting: AtomicUsize::new(0),
            queue: Mutex::new(VecDeque::new()),
        }
    }

    /// Sessions that wait for a place.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.load(Relaxed)
    }

    /// Puts a session at the end of the queue, unless `max` wait already.
    ///
    /// Whoever gives a place back looks at the queue after that, and who queues looks at the places after this: one of the
    /// two sees the other, so the caller must try once more when this says `true`.
    #[must_use]
    pub(crate) fn queue_up(&self, who: ConnRef, has_waited: bool, max: usize) -> bool {
        let mut queue = self.lock_queue();
        if queue.len() >= max && !has_waited {
            return false;
        }
        if has_waited {
            queue.push_front(who);
        } else {
            queue.push_back(who);
        }
        self.waiting.fetch_add(1, SeqCst);
        true
    }

    /// Takes a session out of the queue; whether it was there.
    pub(crate) fn leave_queue(&self, who: ConnRef) -> bool {
        let mut queue = self.lock_queue();
        let Some(at) = queue.iter().position(|waiting| *waiting == who) else {
            return false;
        };
        queue.remove(at);
        self.waiting.fetch_sub(1, SeqCst);
        true
    }

    fn lock_queue(&self) -> std::sync::MutexGuard<'_, VecDeque<ConnRef>> {
        // Nothing in here panics with the lock held.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
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

impl Backend {
    /// Sessions that have a place here.
    #[must_use]
    pub fn taken(&self) -> u64 {
        self.taken.load(Relaxed)
    }

    /// What is known of its health.
    #[must_use]
    pub fn published(&self) -> Published {
        Published::unpack(self.published.load(Relaxed))
    }

    /// What an operator wants of it, and until when it is ejected, if it is at `now_ms`.
    #[must_use]
    pub fn wanted(&self, now_ms: u64) -> (Manual, Option<u64>) {
        let health = self.health.lock().unwrap_or_else(PoisonError::into_inner);
        (health.manual(), health.ejected_until_ms(now_ms))
    }

    /// A check of it has ended.
    pub(crate) fn note_check(&self, now_ms: u64, outcome: Outcome) {
        let word = now_ms << 1 | u64::from(outcome == Outcome::Passed);
        self.last_check.store(word, Relaxed);
    }

    /// When a check of it ended last, in milliseconds of loop time, and how.
    #[must_use]
    pub fn last_check(&self) -> Option<(u64, Outcome)> {
        let word = self.last_check.load(Relaxed);
        let outcome = if word & 1 == 1 {
            Outcome::Passed
        } else {
            Outcome::Failed
        };
        (word != 0).then_some((word >> 1, outcome))
    }

    /// Lets `act` judge its health at `now_ms`, and publishes what came of it. Returns the change of state, if there was one.
    pub fn judge(
        &self,
        now_ms: u64,
        act: impl FnOnce(&mut Health) -> Option<Change>,
    ) -> Option<Change> {
        let mut health = self.health.lock().unwrap_or_else(PoisonError::into_inner);
        let change = act(&mut health);
        self.published
            .store(health.published(now_ms).pack(), Relaxed);
        if let Some(change) = change {
            let counter = match change.to {
                State::Up => &self.changes.up,
                State::CheckedDown => &self.changes.down,
                State::Ejected => &self.changes.ejected,
                State::Drain | State::Down => &self.changes.by_operator,
            };
            counter.fetch_add(1, Relaxed);
        }
        change
    }

    /// Where it is, now; empty while its name has no addresses.
    #[must_use]
    pub fn places(&self) -> Vec<Remote> {
        self.place
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Moves it.
    pub fn set_places(&self, places: Vec<Remote>) {
        *self.place.write().unwrap_or_else(PoisonError::into_inner) = places;
    }

    /// One of its places, another each time.
    fn place(&self, nth: usize) -> Option<Remote> {
        let places = self.place.read().unwrap_or_else(PoisonError::into_inner);
        let count = places.len();
        (count > 0).then(|| places[nth % count].clone())
    }

    /// Takes a place, if one is free.
    #[must_use]
    fn take(&self) -> bool {
        if self.taken_max == u64::MAX {
            self.taken.fetch_add(1, SeqCst);
            return true;
        }
        self.taken
            .try_update(SeqCst, SeqCst, |taken| {
                (taken < self.taken_max).then_some(taken + 1)
            })
            .is_ok()
    }

    fn is_full(&self) -> bool {
        self.taken() >= self.taken_max
    }

    fn give_back(&self) {
        let before = self.taken.fetch_sub(1, SeqCst);
        assert!(before > 0, "more places given back than were taken");
    }
}

impl fmt::Debug for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Backend")
            .field("taken", &self.taken())
            .field("published", &self.published())
            .finish_non_exhaustive()
    }
}

/// One loop's part of a site.
pub struct LoopSite {
    /// What it shares with the others.
    pub site: Arc<Site>,
    /// The loop, counted from 0.
    pub index: usize,
    pickers: RefCell<Vec<Picker>>,
    turn: Cell<usize>,
    sessions: Cell<u32>,
    scratch: RefCell<Vec<u8>>,
    sampler: RefCell<Sampler>,
    line: RefCell<String>,
}

/// A place at a backend that a session has taken, and where that is.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) backend: usize,
    pub(crate) place: Remote,
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
                match &group.table {
                    Some(table) => picker.set_source_table(table),
                    None => {
                        // What is past the bound of a group was refused with the settings.
                        picker.set_backends(&group.weights);
                    }
                }
                picker
            })
            .collect();
        Rc::new(Self {
            site: Arc::clone(site),
            index,
            pickers: RefCell::new(pickers),
            turn: Cell::new(index),
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
        let fails_open = self.site.settings.groups[group].fail_open;
        let group_site = &self.site.groups[group];
        let backends = &group_site.backends;
        let mode = group_mode(backends.iter().map(Backend::published), now_ms, fails_open);
        let is_full = Cell::new(false);
        let candidate = |index: usize| {
            let backend = &backends[index];
            let published = backend.published();
            if !published.usable(now_ms, mode) {
                return None;
            }
            if backend.is_full() {
                is_full.set(true);
                return None;
            }
            let weight = group_site.weights[index].weight;
            Some(Candidate {
                live: backend.taken(),
                weight_now: published.weight_now(weight, now_ms, group_site.slow_start_ms),
            })
        };
        let mut unplaced = *tried;
        let pickers = &mut *self.pickers.borrow_mut();
        // Another loop may take the last place in between; then it is full, and the next choice knows.
        for _ in 0..CHOICES_MAX {
            let Some(index) = pickers[group].pick(source, candidate, &unplaced) else {
                break;
            };
            self.turn.set(self.turn.get().wrapping_add(1));
            let Some(place) = backends[index].place(self.turn.get()) else {
                // A name without addresses.
                unplaced.insert(index);
                continue;
            };
            if backends[index].take() {
                self.backend_board(group, index).chosen.add(1);
                return Ok(Taken {
                    backend: index,
                    place,
                });
            }
            is_full.set(true);
        }
        Err(if is_full.get() {
            NoPlace::Full
        } else {
            NoPlace::NoneUsable
        })
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

    /// Where to connect from: the group's sources of the right family, in turn; ports of a range in turn as well.
    pub(crate) fn source_for(&self, group: &GroupSettings, to: &SocketAddr) -> Option<SocketAddr> {
        let fitting = || {
            let sources = group.sources.iter();
            sources.filter(|source| source.ip.is_ipv4() == to.is_ipv4())
        };
        let count = fitting().count();
        if count == 0 {
            return None;
        }
        let turn = self.turn.get().wrapping_add(1);
        self.turn.set(turn);
        let source = fitting().nth(turn % count)?;
        let port = source.ports.map_or(0, |(first, last)| {
            let ports = usize::from(last.saturating_sub(first)) + 1;
            // Loops start apart, and each goes round: two loops seldom try the same port at once.
            let start = ports * self.index / self.site.loops;
            first + ((start + turn / count) % ports) as u16
        });
        Some(SocketAddr::new(source.ip, port))
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
