//! Many loops: one thread each, pinned to its core, started together and ended together.
//!
//! ```text
//!   control thread                     loop 0 (core 0)     loop 1 (core 1)   ...
//!   signals, reports, supervision  ->  inbox               inbox
//!                                      poll, sessions      poll, sessions
//!   watchdog thread: reads beats and    <- sockets and messages between loops ->
//!   memory, brings the clock           offload pools: cpu, blocking
//! ```
//!
//! Everything that several loops touch (polls, wakers, listeners, pools) is opened before the first loop runs, so
//! that a start that fails leaves nothing behind. A loop that dies by a bug of ours ends the process: a server that
//! goes on with one deaf listener is worse than one that its supervisor restarts.

mod control;
mod memory;
mod start;
mod status;
mod watchdog;

use crate::dispatcher::GateKind;
use crate::handler::{Accepted, Factory, Handler};
use crate::offload::PoolConfig;
use crate::tuning::Tuning;
use polyloop_core::admission::WhenFull;
use polyloop_core::placement::{PlacementError, Wish};
use polyloop_core::spread::Spread;
use polyloop_sys::dial::Vigilance;
use polyloop_sys::{ListenAddr, ListenError, ParseListenAddrError};
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

pub use control::{Ended, EndedBy, Running};
pub use memory::MemoryFacts;
pub use status::{BoundListener, DescriptorFacts, Life, Status};

/// How connections come to the loops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AcceptMode {
    /// Every loop listens; the kernel spreads by a hash of the addresses. Best for short connections.
    Reuseport {
        /// A loop with more than this many percent of connections over the mean hands a new one to the least
        /// loaded; `None` leaves everything to the hash.
        correct_above_percent: Option<u16>,
    },
    /// Every loop listens; a filter in the kernel gives a connection to the loop of the core that it arrived on.
    /// Needs pinned loops. Best where the network card spreads its queues over the cores.
    ReuseportCpu,
    /// Loop 0 listens and hands connections over. Best for few, long or uneven connections.
    Acceptor(Spread),
}

impl Default for AcceptMode {
    fn default() -> Self {
        Self::Reuseport {
            correct_above_percent: None,
        }
    }
}

/// Where the descriptors of a loop are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DescriptorTables {
    /// In the one table of the process.
    #[default]
    Shared,
    /// In a table of the loop's own, so that `RLIMIT_NOFILE` holds for each loop instead of all together. For servers without
    /// listeners ([`Server::without_listeners`]), whose loops have nothing to hand to each other. A descriptor for each loop
    /// stays in the process's table when the server has ended.
    Private,
}

/// How much memory the server may use before it sheds load: see [`Level`](crate::Level).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MemoryMax {
    /// The smallest limit of the process's control group and those above it; nothing is watched where there is none. The memory of
    /// the machine is no limit: others live there too.
    #[default]
    Auto,
    /// Nothing is watched.
    Off,
    /// So many bytes; the limit of a control group if that is smaller. In such a group its whole use counts, elsewhere what of
    /// the process is resident.
    Bytes(u64),
}

/// What a server is told. The defaults are safe: bounded connections, idle and linger timeouts on.
#[derive(Debug, Clone)]
pub struct ServerSettings {
    /// How many loops, on which cores.
    pub wish: Wish,
    /// How connections come to the loops.
    pub accept: AcceptMode,
    /// What happens at the cap.
    pub when_full: WhenFull,
    /// The cap; `None` computes it from `RLIMIT_NOFILE`.
    pub connections_max: Option<u64>,
    /// Descriptors that one connection needs: 1, or 2 for a handler that connects.
    pub connection_cost: u64,
    /// Descriptors that are not for connections, besides those of pipes ([`Tuning::pipes_max`]); `None` is 32 and 4 for
    /// each loop.
    pub descriptor_reserve: Option<u64>,
    /// Connections that the kernel keeps for each listener until they are accepted; it takes at most
    /// `net.core.somaxconn`.
    pub backlog: u32,
    /// The settings of every loop.
    pub tuning: Tuning,
    /// The settings of loops pinned to certain cores, in place of `tuning`.
    pub tuning_on_core: BTreeMap<usize, Tuning>,
    /// The offload pools. The first two are [`PoolId::CPU`](crate::PoolId::CPU) and
    /// [`PoolId::BLOCKING`](crate::PoolId::BLOCKING).
    pub pools: Vec<PoolConfig>,
    /// How long a drain waits for connections to end.
    pub drain: Duration,
    /// A loop that does not turn for this long is reported; `None` reports none, and runs no watchdog but for memory.
    pub stall_threshold: Option<Duration>,
    /// How much memory may be used before load is shed.
    pub memory_max: MemoryMax,
    /// Whether a healthy loop accepts from the listeners of one that is stuck.
    pub rescue: bool,
    /// Whether loops share the process's table of descriptors.
    pub tables: DescriptorTables,
    /// Sockets on their way to one loop.
    pub handed_max: usize,
    /// Messages on their way to one loop.
    pub messages_max: usize,
    /// Signals that every handler is told of, besides those that the server takes itself (SIGTERM, SIGINT, SIGUSR1).
    pub pass_signals: Vec<i32>,
    /// Where the random choices of spreading begin.
    pub seed: u64,
}

impl Default for ServerSettings {
    fn default() -> Self {
        let capacities = crate::Capacities::default();
        Self {
            wish: Wish::default(),
            accept: AcceptMode::default(),
            when_full: WhenFull::Wait,
            connections_max: None,
            connection_cost: 1,
            descriptor_reserve: None,
            backlog: 4096,
            tuning: Tuning::default(),
            tuning_on_core: BTreeMap::new(),
            pools: default_pools(),
            drain: Duration::from_secs(30),
            stall_threshold: Some(polyloop_core::stall::THRESHOLD_DEFAULT),
            memory_max: MemoryMax::Auto,
            rescue: true,
            tables: DescriptorTables::Shared,
            handed_max: capacities.handed_max,
            messages_max: capacities.messages_max,
            pass_signals: Vec::new(),
            seed: 0x5eed,
        }
    }
}

/// One thread for what computes (the loops have the cores already), four for what waits; nginx bounds its queue too,
/// and a queue that never is full never says no in time.
fn default_pools() -> Vec<PoolConfig> {
    vec![
        PoolConfig::new("cpu", 1, 64),
        PoolConfig::new("blocking", 4, 256),
    ]
}

/// What a loop's factory is made from.
#[derive(Debug, Clone)]
pub struct LoopInfo {
    /// The loop, counted from 0.
    pub index: usize,
    /// How many there are.
    pub loops: usize,
    /// The core it is pinned to.
    pub core: Option<usize>,
    /// What all loops publish.
    pub status: Arc<Status>,
}

/// A server that is being put together. See the crate's documentation for the shortest one.
pub struct Server<M> {
    make: M,
    settings: ServerSettings,
    listeners: Vec<Listening>,
    needs_listeners: bool,
    hooks: control::Hooks,
}

impl<M> fmt::Debug for Server<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("settings", &self.settings)
            .field("listeners", &self.listeners)
            .finish_non_exhaustive()
    }
}

/// A listener that was asked for.
#[derive(Debug)]
struct Listening {
    addr: ListenAddr,
    kind: GateKind,
    /// For the connections that it accepts, which inherit it; all but the switch of the keep-alive, which their loops turn on.
    vigilance: Vigilance,
}

impl Listening {
    const fn is_kept_alive(&self) -> bool {
        self.vigilance.keep_alive.is_some() && !matches!(self.addr, ListenAddr::Unix(_))
    }
}

/// Makes a factory on each loop from one closure that makes handlers.
#[derive(Debug, Clone)]
pub struct PerConnection<C>(C);

/// Makes the factory of a loop, on its thread.
pub trait MakeFactory: Send + Sync + 'static {
    /// The factory.
    type Factory: Factory;

    /// Makes the factory of one loop.
    fn make_factory(&self, info: LoopInfo) -> Self::Factory;
}

impl<H: Handler, C: Fn(Accepted) -> H + Clone + Send + Sync + 'static> MakeFactory
    for PerConnection<C>
{
    type Factory = C;

    fn make_factory(&self, _info: LoopInfo) -> C {
        self.0.clone()
    }
}

impl<F: Factory, C: Fn(LoopInfo) -> F + Send + Sync + 'static> MakeFactory for PerLoop<C> {
    type Factory = F;

    fn make_factory(&self, info: LoopInfo) -> F {
        (self.0)(info)
    }
}

/// Makes the factory of each loop from one closure.
#[derive(Debug, Clone)]
pub struct PerLoop<C>(C);

impl<H: Handler, C: Fn(Accepted) -> H + Clone + Send + Sync + 'static> Server<PerConnection<C>> {
    /// A server whose every connection gets the handler that `make` returns. The closure is cloned for each loop.
    #[must_use]
    pub fn new(make: C) -> Self {
        Self::with(PerConnection(make))
    }
}

impl<F: Factory, C: Fn(LoopInfo) -> F + Send + Sync + 'static> Server<PerLoop<C>> {
    /// A server whose loops each make a factory of their own, on their own thread: what a factory shares with its
    /// handlers (through `Rc`, say) belongs to that loop alone.
    #[must_use]
    pub fn with_factories(make: C) -> Self {
        Self::with(PerLoop(make))
    }
}

impl<M: MakeFactory> Server<M> {
    fn with(make: M) -> Self {
        Self {
            make,
            settings: ServerSettings::default(),
            listeners: Vec::new(),
            needs_listeners: true,
            hooks: control::Hooks::default(),
        }
    }

    /// Adds a listener: `127.0.0.1:7000`, `[::1]:7000`, `:7000`, `unix:/run/x.sock`.
    ///
    /// # Errors
    /// The text is no address.
    pub fn listen(self, addr: &str) -> Result<Self, StartError> {
        let addr = addr.parse().map_err(StartError::Address)?;
        Ok(self.listen_on(addr, GateKind::Service))
    }

    /// Adds a listener of a kind. Admin listeners live on loop 0.
    #[must_use]
    pub fn listen_on(mut self, addr: ListenAddr, kind: GateKind) -> Self {
        self.listeners.push(Listening {
            addr,
            kind,
            vigilance: Vigilance::default(),
        });
        self
    }

    /// Adds a service listener whose connections the kernel watches over; by keep-alive once a session is a second old, counted
    /// from accept or from the last time its idle timeout was set before that.
    #[must_use]
    pub fn listen_with(mut self, addr: ListenAddr, vigilance: Vigilance) -> Self {
        self.listeners.push(Listening {
            addr,
            kind: GateKind::Service,
            vigilance,
        });
        self
    }

    /// Starts without a listener too: for a program whose loops only have residents
    /// ([`Factory::residents`]), such as one that connects to others.
    #[must_use]
    pub const fn without_listeners(mut self) -> Self {
        self.needs_listeners = false;
        self
    }

    /// Replaces all settings.
    #[must_use]
    pub fn settings(mut self, settings: ServerSettings) -> Self {
        self.settings = settings;
        self
    }

    /// Calls `report` once an interval, on the control thread.
    #[must_use]
    pub fn on_report(
        mut self,
        interval: Duration,
        report: impl FnMut(&Status) + Send + 'static,
    ) -> Self {
        self.hooks.report = Some((interval.max(REPORT_INTERVAL_MIN), Box::new(report)));
        self
    }

    /// Calls `dump` on SIGUSR1, on the control thread.
    #[must_use]
    pub fn on_dump(mut self, dump: impl FnMut(&Status) + Send + 'static) -> Self {
        self.hooks.dump = Some(Box::new(dump));
        self
    }

    /// Calls `started` once every loop serves.
    #[must_use]
    pub fn on_started(mut self, started: impl FnOnce(&Status) + Send + 'static) -> Self {
        self.hooks.started = Some(Box::new(started));
        self
    }

    /// Serves until the process is told to end: SIGTERM or SIGINT drains, a second one stops at once.
    ///
    /// # Errors
    /// What kept the server from starting; nothing is left behind then.
    pub fn run(self) -> Result<Ended, StartError> {
        start::start(self, control::Signals::Taken).map(control::Started::run)
    }

    /// Serves on threads of its own until told to end. Signals are left alone.
    ///
    /// # Errors
    /// What kept the server from starting; nothing is left behind then.
    pub fn start(self) -> Result<Running, StartError> {
        start::start(self, control::Signals::LeftAlone)?.run_beside()
    }
}

/// Reports more often than this would be most of the work.
const REPORT_INTERVAL_MIN: Duration = Duration::from_millis(10);

/// What kept a server from starting. The text names the thing, the reason and the way out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// A text is no address.
    #[error("{0}")]
    Address(ParseListenAddrError),
    /// No listener was added.
    #[error("there is nothing to listen on: add a listener")]
    NoListener,
    /// Private tables of descriptors, and a listener.
    #[error(
        "loops that listen share one table of descriptors: start without listeners, or leave the tables shared"
    )]
    TablesPrivate,
    /// A listener cannot be opened.
    #[error("{0}")]
    Listen(ListenError),
    /// Loops and cores cannot be had as wished.
    #[error("{0}")]
    Placement(PlacementError),
    /// The descriptor limit has no room for connections.
    #[error("{0}")]
    Descriptors(polyloop_core::admission::AdmissionError),
    /// `reuseport-cpu` without pinned loops.
    #[error(
        "reuseport-cpu needs loops that are pinned to cores, and they are not ({reason}): pin them, or choose another \
         way to accept"
    )]
    NotPinned {
        /// Why they are not pinned.
        reason: String,
    },
    /// `reuseport-cpu` with several loops on one core: connections that arrive on a core can go to one loop only.
    #[error(
        "reuseport-cpu needs a core of its own for each loop, and there are {loops} loops on {}: use fewer loops, or \
         name more cores",
        CoreCount(*cores)
    )]
    CoreShared {
        /// How many loops there are.
        loops: usize,
        /// How many cores they have.
        cores: usize,
    },
    /// A loop is given settings for a core that no loop is pinned to.
    #[error(
        "there are settings for core {core}, but no loop is pinned to it; loops are on {cores}"
    )]
    NoLoopOnCore {
        /// The core.
        core: usize,
        /// Where the loops are.
        cores: String,
    },
    /// The operating system refused something else.
    #[error("{what}: {source}")]
    Os {
        /// What was being done.
        what: String,
        /// What it said.
        source: io::Error,
    },
}

struct CoreCount(usize);

impl fmt::Display for CoreCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cores = if self.0 == 1 { "core" } else { "cores" };
        write!(f, "{} {cores}", self.0)
    }
}
