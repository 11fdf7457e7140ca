//! Starting: everything that can fail is done before the first connection is taken.

use super::control::{Command, LoopCommands, LoopExit, Signals, SocketFiles, Started};
use super::memory::MemoryLimit;
use super::status::{BoundListener, DescriptorFacts, Life, Status};
use super::{
    AcceptMode, DescriptorTables, Listening, LoopInfo, MakeFactory, Server, ServerSettings,
    StartError,
};
use crate::dispatcher::{Choice, Dispatcher, Gate, GateKind, MessageOf, Spreading};
use crate::driver::Driver;
use crate::driver::mio::MioDriver;
use crate::handler::{Factory, Handler};
use crate::jobs::Offload;
use crate::offload::OffloadPools;
use crate::tuning::Tuning;
use crate::wiring::{Capacities, Console, Seat, wire};
use polyloop_core::admission;
use polyloop_core::placement::{Facts, LOOPS_MAX, Placement, Reason, place};
use polyloop_core::spread::{Chooser, Spread};
use polyloop_sys::descriptors::DescriptorLimit;
use polyloop_sys::listener::{ListenOptions, Listener, listen_group};
use polyloop_sys::{ListenAddr, ThreadClock, attach_cpu_filter, cores, descriptors, net};
use std::collections::BTreeSet;
use std::io;
use std::os::fd::AsFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread::{self, JoinHandle};

type Message<M> = MessageOf<<M as MakeFactory>::Factory>;

/// Opens everything, starts the loops and waits until each of them serves.
pub(super) fn start<M: MakeFactory>(
    server: Server<M>,
    signals: Signals,
) -> Result<Started<Message<M>>, StartError> {
    let Server {
        make,
        settings,
        listeners,
        needs_listeners,
        hooks,
    } = server;
    if needs_listeners && listeners.is_empty() {
        return Err(StartError::NoListener);
    }
    if settings.tables == DescriptorTables::Private && !listeners.is_empty() {
        return Err(StartError::TablesPrivate);
    }
    let limit = prepare_process()?;
    let placement = find_placement(&settings)?;
    let tunings = tunings(&settings, &placement)?;
    // Before the listeners, so that it is dropped after them.
    let mut files = SocketFiles::default();
    let opened = open_listeners(&settings, &placement, &listeners, &mut files)?;
    let memory = MemoryLimit::find(settings.memory_max)?;
    let drivers = open_drivers(&tunings)?;
    let descriptors = budget(&settings, &tunings, limit)?;
    let wakers = drivers.iter().map(Driver::waker).collect();
    // The pools' threads are made before any thread is pinned, so that they may run on every core.
    let pools = OffloadPools::start(&settings.pools).map_err(os("starting the offload pools"))?;
    let pools = Arc::new(pools);
    let offload: Arc<dyn Offload> = Arc::clone(&pools) as _;
    let (mut seats, console) = wire(wakers, capacities(&settings, &descriptors), &offload);
    let kept_alive: Arc<[bool]> = listeners.iter().map(Listening::is_kept_alive).collect();
    for seat in &mut seats {
        seat.set_kept_alive(&kept_alive);
    }
    let status = status_of::<M>(
        &console,
        pools,
        placement,
        descriptors,
        memory.as_ref(),
        opened.bound,
    );
    let mut started = Started::new(
        &settings,
        status,
        console,
        hooks,
        signals,
        opened.copies,
        files,
    )
    .map_err(os("opening the control thread's poll"))?;
    started.watch_memory(memory);
    launch_all(
        started,
        make,
        &settings,
        tunings,
        drivers,
        seats,
        opened.gates,
    )?
    .wait_until_serving()
}

/// Starts the thread of each loop.
fn launch_all<M: MakeFactory>(
    mut started: Started<Message<M>>,
    make: M,
    settings: &ServerSettings,
    tunings: Vec<Tuning>,
    drivers: Vec<MioDriver>,
    seats: Vec<Seat<MioDriver, Message<M>>>,
    gates: Vec<Vec<Gate<Listener>>>,
) -> Result<Started<Message<M>>, StartError> {
    let loops = drivers.len();
    let make = Arc::new(make);
    let crew = drivers.into_iter().zip(seats).zip(gates).zip(tunings);
    for (index, (((driver, seat), gates), tuning)) in crew.enumerate() {
        let berth = Berth {
            index,
            driver,
            seat,
            gates,
            tuning,
            tables: settings.tables,
            core: started.status().placement.loops[index],
            spreading: spreading(settings, index, loops),
            status: Arc::clone(started.status()),
            make: Arc::clone(&make),
            commands: started.commands(),
        };
        match berth.launch() {
            Ok(thread) => started.add(thread),
            Err(error) => return Err(started.give_up(error)),
        }
    }
    Ok(started)
}

/// What the server will publish.
fn status_of<M: MakeFactory>(
    console: &Console<MioDriver, Message<M>>,
    pools: Arc<OffloadPools>,
    placement: Placement,
    descriptors: DescriptorFacts,
    memory: Option<&MemoryLimit>,
    listeners: Vec<BoundListener>,
) -> Arc<Status> {
    Arc::new(Status {
        boards: Arc::clone(console.boards()),
        permits: Arc::clone(console.permits()),
        pools,
        placement,
        descriptors,
        memory: memory.map(|limit| limit.facts.clone()),
        overload: Arc::clone(console.overload()),
        listeners,
        handler_names: <<M::Factory as Factory>::Handler as Handler>::NAMES,
        started_ns: polyloop_sys::clock::monotonic_ns(),
        bells: console.bells().to_vec(),
        life: AtomicU8::new(Life::Starting as u8),
    })
}

/// Everything one loop's thread takes with it.
struct Berth<M: MakeFactory> {
    index: usize,
    driver: MioDriver,
    seat: Seat<MioDriver, Message<M>>,
    gates: Vec<Gate<Listener>>,
    tuning: Tuning,
    tables: DescriptorTables,
    core: Option<usize>,
    spreading: Spreading,
    status: Arc<Status>,
    make: Arc<M>,
    commands: LoopCommands,
}

impl<M: MakeFactory> Berth<M> {
    fn launch(self) -> Result<JoinHandle<()>, StartError> {
        thread::Builder::new()
            .name(format!("loop-{}", self.index))
            .spawn(move || self.run())
            .map_err(os("starting a loop's thread"))
    }

    /// The loop's thread: from here to its end nobody else touches what it holds.
    fn run(self) {
        let index = self.index;
        let commands = self.commands.clone();
        let ended = catch_unwind(AssertUnwindSafe(|| self.serve()));
        let exit = match ended {
            Ok(Ok(end)) => LoopExit::Ended(end),
            Ok(Err(error)) => LoopExit::Failed(error),
            Err(panic) => LoopExit::Panicked(panic_text(panic.as_ref())),
        };
        // The control thread outlives its loops; were it gone, nobody would be left to be told.
        commands.send(Command::LoopExited { index, exit });
    }

    fn serve(self) -> io::Result<crate::LoopEnd> {
        // The control thread takes the signals.
        polyloop_sys::signals::block_all_on_this_thread()?;
        if self.tables == DescriptorTables::Private {
            // Polls and wakers were opened before, so that this table has them too, with the same numbers. Without listeners no
            // socket comes from another loop or goes to one.
            descriptors::part_from_shared_table()?;
        }
        let board = &self.status.boards[self.index];
        if let Some(core) = self.core {
            cores::pin_current_thread(core)?;
            board.core.store(core as u32, Ordering::Relaxed);
        }
        let clock = ThreadClock::current();
        board.thread_id.store(clock.thread_id(), Ordering::Relaxed);
        let info = LoopInfo {
            index: self.index,
            loops: self.status.boards.len(),
            core: self.core,
            status: Arc::clone(&self.status),
        };
        let factory = self.make.make_factory(info);
        let mut dispatcher = Dispatcher::new(
            self.driver,
            factory,
            self.tuning,
            self.seat,
            self.gates,
            self.spreading,
        )?;
        self.commands.send(Command::LoopServes {
            index: self.index,
            clock,
        });
        dispatcher.run()
    }
}

/// What a panic said.
fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a text".to_owned())
}

/// What is set for the whole process: no SIGPIPE, and as many descriptors as it may have.
fn prepare_process() -> Result<DescriptorLimit, StartError> {
    net::ignore_sigpipe().map_err(os("ignoring SIGPIPE"))?;
    descriptors::raise_limit().map_err(os("raising RLIMIT_NOFILE"))
}

fn find_placement(settings: &ServerSettings) -> Result<Placement, StartError> {
    let allowed = cores::allowed();
    let quota = cores::quota();
    let topology = cores::topology()
        .into_iter()
        .map(|core| polyloop_core::placement::CoreFacts {
            core: core.core,
            package: core.package,
            physical: core.physical,
        })
        .collect();
    let quota = (quota < allowed.len()).then_some(quota);
    let placement = place(
        &Facts {
            allowed,
            quota,
            topology,
        },
        &settings.wish,
    )
    .map_err(StartError::Placement)?;
    if settings.accept == AcceptMode::ReuseportCpu {
        check_cores_apart(&placement)?;
    }
    Ok(placement)
}

/// The filter of `reuseport-cpu` answers a core with one loop: each has to have a core, and none the same.
fn check_cores_apart(placement: &Placement) -> Result<(), StartError> {
    if let Reason::MoreLoopsThanCores { loops, allowed } = placement.reason {
        return Err(StartError::CoreShared {
            loops,
            cores: allowed,
        });
    }
    if !placement.is_pinned() {
        return Err(StartError::NotPinned {
            reason: placement.reason.to_string(),
        });
    }
    let loops = placement.loops.len();
    let cores = placement
        .loops
        .iter()
        .flatten()
        .collect::<BTreeSet<_>>()
        .len();
    if cores < loops {
        return Err(StartError::CoreShared { loops, cores });
    }
    Ok(())
}

/// Computes the cap from what is left of the limit, and grows the table before there are threads to wait for it.
fn budget(
    settings: &ServerSettings,
    tunings: &[Tuning],
    limit: DescriptorLimit,
) -> Result<DescriptorFacts, StartError> {
    let loops = tunings.len();
    let pipes: u64 = tunings.iter().map(|tuning| tuning.pipes_max as u64).sum();
    let open_at_start =
        descriptors::count_open().map_err(os("counting open descriptors in /proc/self/fd"))?;
    let reserve = settings
        .descriptor_reserve
        .unwrap_or_else(|| admission::default_reserve(loops as u64))
        .saturating_add(pipes.saturating_mul(2));
    let cost = settings.connection_cost.max(1);
    let budget = admission::Budget {
        limit_nofile: limit.soft,
        open_now: open_at_start,
        reserve,
        cost_per_connection: cost,
        wanted: settings.connections_max,
    };
    let connections_max = budget.compute().map_err(StartError::Descriptors)?;
    grow_table(
        limit,
        open_at_start + reserve + connections_max.saturating_mul(cost),
    );
    Ok(DescriptorFacts {
        limit,
        open_at_start,
        reserve,
        cost,
        connections_max,
    })
}

/// Growing a table that threads share waits for all of them, tens of milliseconds in the middle of serving.
fn grow_table(limit: DescriptorLimit, target: u64) {
    // A system that cannot do it now will do it later, slowly.
    let _ = descriptors::grow_table(target.min(limit.soft).min(TABLE_GROWN_MAX));
}

impl ServerSettings {
    /// Raises the limit of open files and grows the descriptor table, as every start does. For a program that has
    /// threads of its own before its server starts, and calls this before them: a table that threads share already
    /// grows slowly. The limit that it tells holds what it was before.
    ///
    /// # Errors
    /// The limit cannot be raised.
    pub fn prepare_descriptors(&self) -> Result<DescriptorLimit, StartError> {
        let limit = descriptors::raise_limit().map_err(os("raising RLIMIT_NOFILE"))?;
        // Where the loops are and what they open is not known yet: there is room for the most that there can be.
        let room = admission::default_reserve(LOOPS_MAX as u64);
        let reserve = self.descriptor_reserve.unwrap_or(0);
        let connections = self.connections_max.unwrap_or(limit.soft);
        let cost = self.connection_cost.max(1);
        let target = connections.saturating_mul(cost);
        grow_table(limit, target.saturating_add(reserve).saturating_add(room));
        Ok(limit)
    }
}

/// The table is grown ahead for at most this many descriptors, 8 MiB of kernel memory.
const TABLE_GROWN_MAX: u64 = 1 << 20;

fn tunings(settings: &ServerSettings, placement: &Placement) -> Result<Vec<Tuning>, StartError> {
    if let Some(&core) = settings
        .tuning_on_core
        .keys()
        .find(|&&core| !placement.loops.contains(&Some(core)))
    {
        let cores: Vec<_> = placement
            .loops
            .iter()
            .flatten()
            .map(ToString::to_string)
            .collect();
        let cores = if cores.is_empty() {
            "no core in particular".into()
        } else {
            cores.join(", ")
        };
        return Err(StartError::NoLoopOnCore { core, cores });
    }
    let tuning = |core: &Option<usize>| {
        let own = core.and_then(|core| settings.tuning_on_core.get(&core));
        own.unwrap_or(&settings.tuning).clone().sane()
    };
    Ok(placement.loops.iter().map(tuning).collect())
}

/// The listeners, by loop, with the copies for a rescue.
struct Opened {
    gates: Vec<Vec<Gate<Listener>>>,
    copies: Vec<Vec<Gate<Listener>>>,
    bound: Vec<BoundListener>,
}

fn open_listeners(
    settings: &ServerSettings,
    placement: &Placement,
    listeners: &[Listening],
    files: &mut SocketFiles,
) -> Result<Opened, StartError> {
    let loops = placement.loops.len();
    let mut opened = Opened {
        gates: (0..loops).map(|_| Vec::new()).collect(),
        copies: (0..loops).map(|_| Vec::new()).collect(),
        bound: Vec::new(),
    };
    let is_rescued = settings.rescue && settings.stall_threshold.is_some() && loops > 1;
    for (index, listening) in listeners.iter().enumerate() {
        let Listening {
            addr,
            kind,
            vigilance,
        } = listening;
        let is_shared = *kind == GateKind::Service
            && !matches!(settings.accept, AcceptMode::Acceptor(_))
            && !matches!(addr, ListenAddr::Unix(_));
        let count = if is_shared { loops } else { 1 };
        let options = ListenOptions {
            backlog: settings.backlog,
            reuse_port: is_shared && loops > 1,
        };
        let group = listen_group(addr, count, &options).map_err(StartError::Listen)?;
        if let ListenAddr::Unix(path) = addr {
            files.0.push(path.clone());
        }
        if is_shared && settings.accept == AcceptMode::ReuseportCpu && loops > 1 {
            let cores: Vec<_> = placement.loops.iter().flatten().copied().collect();
            attach_cpu_filter(&group[0], &cores)
                .map_err(os("attaching the socket filter of reuseport-cpu"))?;
        }
        if !matches!(addr, ListenAddr::Unix(_)) {
            for listener in &group {
                vigilance
                    .bequeath(listener.as_fd())
                    .map_err(os("setting keep-alive and user timeout of a listener"))?;
            }
        }
        let bound = bound_addr(addr, &group[0])?;
        opened.bound.push(BoundListener {
            addr: bound,
            index,
            kind: *kind,
        });
        for (owner, listener) in group.into_iter().enumerate() {
            if is_rescued {
                // Those of administrators too: who asks why a loop is stuck must not have to ask that very loop.
                let copy = listener
                    .duplicate()
                    .map_err(os("copying a listener for a rescue"))?;
                opened.copies[owner].push(Gate {
                    listener: copy,
                    index,
                    kind: *kind,
                });
            }
            opened.gates[owner].push(Gate {
                listener,
                index,
                kind: *kind,
            });
        }
    }
    Ok(opened)
}

/// The address as it is told. `:port` listens on both families by one IPv6 socket, whose own name for that would be
/// taken for IPv6 alone.
fn bound_addr(addr: &ListenAddr, listener: &Listener) -> Result<String, StartError> {
    if let ListenAddr::Unix(_) = addr {
        return Ok(addr.to_string());
    }
    let bound = listener
        .local_addr()
        .map_err(os("asking for a listener's address"))?;
    Ok(match (addr, bound.socket_addr()) {
        (ListenAddr::TcpAny(_), Some(bound)) => ListenAddr::TcpAny(bound.port()).to_string(),
        _ => bound.to_string(),
    })
}

fn open_drivers(tunings: &[Tuning]) -> Result<Vec<MioDriver>, StartError> {
    let open = |tuning: &Tuning| MioDriver::new(tuning.events_max);
    tunings
        .iter()
        .map(open)
        .collect::<io::Result<_>>()
        .map_err(os("opening a loop's poll"))
}

fn capacities(settings: &ServerSettings, descriptors: &DescriptorFacts) -> Capacities {
    let jobs = settings
        .pools
        .iter()
        .map(|pool| pool.threads + pool.queue_len_max)
        .sum();
    Capacities {
        connections_max: descriptors.connections_max,
        handed_max: settings.handed_max.max(1),
        messages_max: settings.messages_max.max(1),
        jobs_max: jobs,
    }
}

fn spreading(settings: &ServerSettings, index: usize, loops: usize) -> Spreading {
    let seed = settings.seed.wrapping_add(index as u64);
    let choice = match settings.accept {
        AcceptMode::Reuseport {
            correct_above_percent: Some(above_percent),
        } => Choice::Correct {
            above_percent,
            chooser: Chooser::new(Spread::Least, index, loops, seed),
        },
        AcceptMode::Reuseport { .. } | AcceptMode::ReuseportCpu => Choice::Stay,
        AcceptMode::Acceptor(spread) => Choice::Spread(Chooser::new(spread, index, loops, seed)),
    };
    Spreading {
        choice,
        when_full: settings.when_full,
    }
}

fn os(what: &str) -> impl Fn(io::Error) -> StartError + '_ {
    move |source| StartError::Os {
        what: what.to_owned(),
        source,
    }
}
