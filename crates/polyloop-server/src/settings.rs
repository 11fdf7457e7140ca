//! From what was typed to what is done: checks, resolves, fills in defaults.
//!
//! The one idea: [`Settings`] is the only input of [`serve`](crate::serve), and is complete. Whatever two flags can
//! contradict each other in is refused here, before anything is opened, with the flags, the reason and the way out.
//!
//! Deliberately absent: facts of the machine (does the core exist, is the port free, how many descriptors are there):
//! those are found out at the start, and are no mistake of the command line.

use std::collections::BTreeMap;
use std::time::Duration;

use polyloop::offload::PoolConfig;
use polyloop::{AcceptMode, MemoryMax, ServerSettings, Spread, Tuning};
use polyloop_core::placement::{LOOPS_MAX, Pin, Wish};
use polyloop_core::units::{format_bytes, format_duration};
use polyloop_sys::ListenAddr;
use tracing_subscriber::filter::LevelFilter;

use crate::args::{AcceptArg, MemoryArg, ServeArgs, TimeOrOff};
use crate::on_core;

/// Everything a server needs to know.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// Where it serves; never empty.
    pub(crate) listen: Vec<ListenAddr>,
    /// Where it answers administrators.
    pub(crate) admin: Option<ListenAddr>,
    /// The interval of the report line.
    pub(crate) report: Option<Duration>,
    /// The least severe messages that are told.
    pub(crate) log: LevelFilter,
    /// What the library is told.
    pub(crate) server: ServerSettings,
}

/// A command line that cannot be meant. Each text names the flag, the reason and the way out.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UsageError {
    #[error(
        "--spread says how the acceptor spreads connections, and --accept is {accept}; add --accept acceptor, or leave \
         out --spread"
    )]
    SpreadWithoutAcceptor { accept: &'static str },
    #[error(
        "--correct-above corrects the kernel's hash, and --accept {accept} does not use it; leave out one of the two \
         (--spread least keeps an acceptor even)"
    )]
    CorrectWithoutReuseport { accept: &'static str },
    #[error("{flag} {why}, and --pin never forbids that; leave out one of the two")]
    NeverPinned {
        flag: &'static str,
        why: &'static str,
    },
    #[error(
        "--on-core {core}: no loop will be on core {core}, as --cores names {cores}; add the core to --cores, or leave \
         out the override"
    )]
    OnCoreNotNamed { core: usize, cores: String },
    #[error(
        "--on-core {core} is given twice; put all its settings into one, as in {core}:spin=50us,events=256"
    )]
    OnCoreTwice { core: usize },
    #[error(transparent)]
    OnCore(#[from] on_core::OnCoreError),
    #[error(
        "--admin {addr} can be reached from other hosts, and nobody is asked for a password there; use 127.0.0.1:{port} \
         or unix:PATH, or add --admin-public if the network is trusted"
    )]
    AdminPublic { addr: ListenAddr, port: u16 },
    #[error(
        "--admin-public allows an --admin address, and there is none; add --admin ADDR, or leave it out"
    )]
    PublicWithoutAdmin,
    #[error("{addr} is given twice ({flags}); give each address once")]
    AddressTwice {
        addr: ListenAddr,
        flags: &'static str,
    },
    #[error("{flag} {value} is out of range; give {range}")]
    OutOfRange {
        flag: &'static str,
        value: String,
        range: String,
    },
}

/// Checks what was typed and completes it.
///
/// # Errors
/// What cannot be meant.
pub(crate) fn resolve(args: ServeArgs) -> Result<Settings, UsageError> {
    check_pinning(&args)?;
    let listen = listen_addrs(&args)?;
    check_admin(&args)?;
    let tuning = tuning(&args)?;
    let report = within(args.report, &times("--report", REPORT_MIN, TIME_MAX))?;
    let server = server_settings(&args, tuning)?;
    Ok(Settings {
        listen,
        admin: args.admin,
        report,
        log: args.log.unwrap_or(LevelFilter::INFO),
        server,
    })
}

fn server_settings(args: &ServeArgs, tuning: Tuning) -> Result<ServerSettings, UsageError> {
    let defaults = ServerSettings::default();
    let loops = within(args.loops, &counts("--loops", 1, LOOPS_MAX as u64))?;
    let backlog = within(args.backlog, &counts("--backlog", 1, i32::MAX as u64))?;
    let stall_after = args.stall_after.map(|TimeOrOff(time)| {
        within(
            time,
            &times("--stall-after", Duration::from_millis(1), TIME_MAX),
        )
    });
    Ok(ServerSettings {
        wish: Wish {
            loops: loops.map(|loops| loops as usize),
            cores: args.cores.clone(),
            pin: args.pin.map_or(Pin::Auto, Pin::from),
        },
        accept: accept_mode(args)?,
        when_full: args.when_full.unwrap_or(defaults.when_full),
        connections_max: within(
            args.max_connections,
            &counts("--max-connections", 1, polyloop::permits::Permits::CAP_MAX),
        )?,
        descriptor_reserve: within(args.reserve, &counts("--reserve", 0, i32::MAX as u64))?,
        backlog: backlog.map_or(defaults.backlog, |count| count as u32),
        tuning_on_core: tuning_on_core(args, &tuning)?,
        tuning,
        pools: pools(args, defaults.pools)?,
        drain: within(args.drain, &times("--drain", Duration::ZERO, TIME_MAX))?
            .unwrap_or(defaults.drain),
        stall_threshold: stall_after.transpose()?.unwrap_or(defaults.stall_threshold),
        memory_max: memory_max(args)?.unwrap_or(defaults.memory_max),
        rescue: !args.no_rescue,
        ..ServerSettings::default()
    })
}

fn memory_max(args: &ServeArgs) -> Result<Option<MemoryMax>, UsageError> {
    if let Some(MemoryArg(MemoryMax::Bytes(size))) = args.memory_max {
        within(
            Some(size),
            &bytes("--memory-max", MEMORY_BYTES.0, MEMORY_BYTES.1),
        )?;
    }
    Ok(args.memory_max.map(|MemoryArg(memory_max)| memory_max))
}

/// The settings of all loops, as far as flags change them.
fn tuning(args: &ServeArgs) -> Result<Tuning, UsageError> {
    let mut tuning = Tuning::default();
    let set = |flag, to: &mut usize, typed: Option<u64>, min, max| {
        *to = within(typed, &counts(flag, min, max))?.map_or(*to, |count| count as usize);
        Ok::<_, UsageError>(())
    };
    set(
        "--events-per-poll",
        &mut tuning.events_max,
        args.events_per_poll,
        1,
        EVENTS_MAX,
    )?;
    set(
        "--accept-burst",
        &mut tuning.accept_max,
        args.accept_burst,
        1,
        COUNT_MAX,
    )?;
    set(
        "--inbox-budget",
        &mut tuning.inbox_max,
        args.inbox_budget,
        1,
        COUNT_MAX,
    )?;
    let sizes = [
        (
            "--read-budget",
            &mut tuning.read_bytes_max,
            args.read_budget,
            READ_BYTES,
        ),
        (
            "--buffer-high",
            &mut tuning.output_high_bytes,
            args.buffer_high,
            OUTPUT_BYTES,
        ),
    ];
    for (flag, to, typed, (min, max)) in sizes {
        *to = within(typed, &bytes(flag, min, max))?.map_or(*to, |size| size as usize);
    }
    let spin = times("--spin", Duration::ZERO, SPIN_MAX);
    tuning.spin = within(args.spin, &spin)?.unwrap_or(tuning.spin);
    let quota = times("--quota", QUOTA_MIN, TIME_MAX);
    tuning.quota = within(args.quota, &quota)?.unwrap_or(tuning.quota);
    let linger = times("--linger", TICK, DEADLINE_MAX);
    tuning.linger_timeout = within(args.linger, &linger)?.unwrap_or(tuning.linger_timeout);
    if let Some(TimeOrOff(time)) = args.idle_timeout {
        tuning.idle_timeout = within(time, &times("--idle-timeout", TICK, DEADLINE_MAX))?;
    }
    Ok(tuning)
}

fn tuning_on_core(args: &ServeArgs, base: &Tuning) -> Result<BTreeMap<usize, Tuning>, UsageError> {
    let mut by_core = BTreeMap::new();
    for override_ in &args.on_core {
        let core = override_.core;
        if let Some(cores) = args.cores.as_ref().filter(|cores| !cores.contains(core)) {
            let cores = cores.to_string();
            return Err(UsageError::OnCoreNotNamed { core, cores });
        }
        let tuning = on_core::merged(base, override_)?;
        if by_core.insert(core, tuning).is_some() {
            return Err(UsageError::OnCoreTwice { core });
        }
    }
    Ok(by_core)
}

fn accept_mode(args: &ServeArgs) -> Result<AcceptMode, UsageError> {
    let accept = args.accept.unwrap_or(AcceptArg::Reuseport);
    let name = match accept {
        AcceptArg::Reuseport => "reuseport",
        AcceptArg::ReuseportCpu => "reuseport-cpu",
        AcceptArg::Acceptor => "acceptor",
    };
    if args.spread.is_some() && accept != AcceptArg::Acceptor {
        return Err(UsageError::SpreadWithoutAcceptor { accept: name });
    }
    if args.correct_above.is_some() && accept != AcceptArg::Reuseport {
        return Err(UsageError::CorrectWithoutReuseport { accept: name });
    }
    Ok(match accept {
        AcceptArg::Reuseport => AcceptMode::Reuseport {
            correct_above_percent: args.correct_above,
        },
        AcceptArg::ReuseportCpu => AcceptMode::ReuseportCpu,
        AcceptArg::Acceptor => AcceptMode::Acceptor(args.spread.unwrap_or(Spread::TwoChoices)),
    })
}

fn check_pinning(args: &ServeArgs) -> Result<(), UsageError> {
    if args.pin.map(Pin::from) != Some(Pin::Never) {
        return Ok(());
    }
    let wants_pinning = [
        (args.cores.is_some(), "--cores", "pins loops to cores"),
        (
            !args.on_core.is_empty(),
            "--on-core",
            "is about a loop that is pinned to its core",
        ),
        (
            args.accept == Some(AcceptArg::ReuseportCpu),
            "--accept reuseport-cpu",
            "gives a connection to the loop of the core it arrived on",
        ),
    ];
    wants_pinning
        .into_iter()
        .find(|(is_given, ..)| *is_given)
        .map_or(Ok(()), |(_, flag, why)| {
            Err(UsageError::NeverPinned { flag, why })
        })
}

fn listen_addrs(args: &ServeArgs) -> Result<Vec<ListenAddr>, UsageError> {
    let mut listen: Vec<ListenAddr> = Vec::new();
    for addr in &args.listen {
        // Port 0 is another port each time.
        if listen.contains(addr) && addr.port() != Some(0) {
            let (addr, flags) = (addr.clone(), "--listen");
            return Err(UsageError::AddressTwice { addr, flags });
        }
        listen.push(addr.clone());
    }
    if listen.is_empty() {
        listen.push(ListenAddr::Tcp(LISTEN_DEFAULT));
    }
    if let Some(addr) = args.admin.clone()
        && listen.contains(&addr)
        && addr.port() != Some(0)
    {
        let flags = "--listen and --admin";
        return Err(UsageError::AddressTwice { addr, flags });
    }
    Ok(listen)
}

fn check_admin(args: &ServeArgs) -> Result<(), UsageError> {
    match &args.admin {
        None if args.admin_public => Err(UsageError::PublicWithoutAdmin),
        Some(addr) if !addr.is_local_only() && !args.admin_public => Err(UsageError::AdminPublic {
            addr: addr.clone(),
            port: addr.port().unwrap_or(0),
        }),
        _ => Ok(()),
    }
}

fn pools(args: &ServeArgs, defaults: Vec<PoolConfig>) -> Result<Vec<PoolConfig>, UsageError> {
    let typed = [
        ("--offload-cpu", args.offload_cpu),
        ("--offload-blocking", args.offload_blocking),
    ];
    let resize = |(mut pool, (flag, threads)): (PoolConfig, (&'static str, Option<u64>))| {
        let threads = within(threads, &counts(flag, 0, THREADS_MAX))?;
        if let Some(threads) = threads {
            pool.threads = threads as usize;
            // As many jobs may wait for a thread as by default, whatever the number of threads.
            pool.queue_len_max = threads as usize * QUEUE_PER_THREAD;
        }
        Ok(pool)
    };
    defaults.into_iter().zip(typed).map(resize).collect()
}

/// A flag and the values that it may have.
struct Range<T> {
    flag: &'static str,
    min: T,
    max: T,
    format: fn(T) -> String,
}

fn counts(flag: &'static str, min: u64, max: u64) -> Range<u64> {
    let format = |count: u64| count.to_string();
    Range {
        flag,
        min,
        max,
        format,
    }
}

fn bytes(flag: &'static str, min: u64, max: u64) -> Range<u64> {
    let format = format_bytes;
    Range {
        flag,
        min,
        max,
        format,
    }
}

fn times(flag: &'static str, min: Duration, max: Duration) -> Range<Duration> {
    let format = format_duration;
    Range {
        flag,
        min,
        max,
        format,
    }
}

/// What was typed, if it is within the range of its flag.
fn within<T: PartialOrd + Copy>(
    typed: Option<T>,
    range: &Range<T>,
) -> Result<Option<T>, UsageError> {
    match typed {
        Some(value) if !(range.min <= value && value <= range.max) => Err(UsageError::OutOfRange {
            flag: range.flag,
            value: (range.format)(value),
            range: format!(
                "{} to {}",
                (range.format)(range.min),
                (range.format)(range.max)
            ),
        }),
        typed => Ok(typed),
    }
}

/// Loopback, so that nothing is exposed by a forgotten flag.
pub(crate) const LISTEN_DEFAULT: std::net::SocketAddr =
    std::net::SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 7000);

/// Between a page and what [`Tuning::sane`] allows.
pub(crate) const READ_BYTES: (u64, u64) = (4096, 16 << 20);
/// A watermark above this is memory that one slow reader can take.
pub(crate) const OUTPUT_BYTES: (u64, u64) = (1, 1 << 30);
/// Less than the program itself takes would never let anybody in, more than any machine has is a slip of the pen.
pub(crate) const MEMORY_BYTES: (u64, u64) = (1 << 20, 1 << 50);
/// An event takes 16 bytes of the loop's memory, twice.
pub(crate) const EVENTS_MAX: u64 = 1 << 20;
/// A budget above this is none.
pub(crate) const COUNT_MAX: u64 = 1 << 20;
/// Longer spins are a loop that never sleeps; a second does that already.
pub(crate) const SPIN_MAX: Duration = Duration::from_secs(1);
/// Shorter than one dispatch, the quota would end every turn after its first sample.
pub(crate) const QUOTA_MIN: Duration = Duration::from_micros(1);
/// Deadlines are kept in milliseconds.
pub(crate) const TICK: Duration = Duration::from_millis(1);
/// As far as 32 bits of milliseconds go: 49 days.
pub(crate) const DEADLINE_MAX: Duration = Duration::from_secs(49 * 86_400);
/// A year: whatever is meant by more is "off".
pub(crate) const TIME_MAX: Duration = Duration::from_secs(365 * 86_400);
const REPORT_MIN: Duration = Duration::from_millis(10);
const THREADS_MAX: u64 = 1024;
const QUEUE_PER_THREAD: usize = 64;

#[cfg(test)]
mod tests;
