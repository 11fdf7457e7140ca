//! What is told once the server serves: the start-up block, the warnings, and the addresses.
//!
//! The one idea: whoever asks later why there are three loops, or why there is no room for the 20,001st connection,
//! finds the answer with its arithmetic at the top of the log.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::thread;
use std::time::Duration;

use polyloop::{AcceptMode, BoundListener, GateKind, MemoryMax, Status, WhenFull};
use polyloop_core::overload::{SHRINK_AT_PERCENT, STOP_AT_PERCENT};
use polyloop_core::units::{format_bytes, format_duration};

use crate::settings::Settings;

/// What the machine said about this process, where it said it.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Machine {
    /// The kernel's bound of a backlog.
    pub(crate) somaxconn: Option<u32>,
    /// The soft limit of open files that the process was started with.
    pub(crate) soft_limit_before: Option<u64>,
}

/// The start-up block, in lines.
pub(crate) fn block(
    service: &str,
    settings: &Settings,
    status: &Status,
    machine: Machine,
) -> String {
    let rows = [
        ("loops", loops(status)),
        ("accept", accept(settings)),
        ("listening", listeners(status)),
        ("connections", connections(settings, status)),
        ("memory", memory(settings, status)),
        ("timeouts", timeouts(settings)),
        ("buffers", buffers(settings)),
        ("offload", offload(settings)),
        ("watchdog", watchdog(settings, status)),
    ];
    let mut text = format!(
        "polyloop {} {service}, process {}\n",
        env!("CARGO_PKG_VERSION"),
        std::process::id()
    );
    // Writing to a string cannot fail.
    for (name, value) in rows {
        let _ = writeln!(text, "  {name:<12} {value}");
    }
    for warning in warnings(settings, status, machine) {
        let _ = writeln!(text, "  warning: {warning}");
    }
    text
}

/// Tells the addresses on standard output, for whoever started the program: one line each, of the first `services`
/// listeners and of administrators'. Standard output may be closed or full; the server serves all the same, and ends when it is
/// told to: a pipe that nobody reads holds up a thread that nobody waits for.
pub(crate) fn announce(status: &Status, services: usize) {
    let mut text = String::new();
    let is_told = |listener: &&BoundListener| {
        listener.index < services || matches!(listener.kind, GateKind::Admin { .. })
    };
    for listener in status.listeners.iter().filter(is_told) {
        let _ = writeln!(text, "{}", announcement(listener));
    }
    let tell = move || {
        let mut out = io::stdout().lock();
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    };
    if let Err(error) = thread::Builder::new().name("announce".into()).spawn(tell) {
        tracing::warn!(%error, "the addresses are not told on standard output: no thread could be started");
    }
}

fn announcement(listener: &BoundListener) -> String {
    match listener.kind {
        GateKind::Service => format!("listening on {}", listener.addr),
        GateKind::Admin { .. } if listener.addr.starts_with("unix:") => {
            format!("admin on {}", listener.addr)
        }
        GateKind::Admin { .. } => format!("admin on http://{}", listener.addr),
    }
}

fn loops(status: &Status) -> String {
    let cores: Vec<_> = status
        .placement
        .loops
        .iter()
        .flatten()
        .map(ToString::to_string)
        .collect();
    let count = status.boards.len();
    let on = match cores.len() {
        0 => String::new(),
        1 => format!(" on core {}", cores[0]),
        _ => format!(" on cores {}", cores.join(", ")),
    };
    format!("{count}{on}: {}", status.placement.reason)
}

fn accept(settings: &Settings) -> String {
    match settings.server.accept {
        AcceptMode::Reuseport {
            correct_above_percent: None,
        } => "reuseport: every loop listens, the kernel spreads by a hash of the addresses"
            .to_owned(),
        AcceptMode::Reuseport {
            correct_above_percent: Some(percent),
        } => format!(
            "reuseport: every loop listens; a loop more than {percent}% over the mean hands new ones on"
        ),
        AcceptMode::ReuseportCpu => {
            "reuseport-cpu: the loop of the core that a connection arrives on takes it".to_owned()
        }
        AcceptMode::Acceptor(spread) => {
            format!("acceptor: loop 0 listens and spreads by {}", spread.name())
        }
    }
}

fn listeners(status: &Status) -> String {
    let texts: Vec<_> = status
        .listeners
        .iter()
        .map(|listener| match listener.kind {
            GateKind::Service => listener.addr.clone(),
            GateKind::Admin { .. } => format!("{} (admin)", listener.addr),
        })
        .collect();
    texts.join(", ")
}

fn connections(settings: &Settings, status: &Status) -> String {
    let facts = &status.descriptors;
    let limit = facts.limit.soft;
    let room = limit
        .saturating_sub(facts.open_at_start)
        .saturating_sub(facts.reserve)
        / facts.cost.max(1);
    let mut text = format!(
        "{} at most: {limit} descriptors - {} open - {} reserve = {room}",
        facts.connections_max, facts.open_at_start, facts.reserve,
    );
    if facts.connections_max < room {
        text.push_str(match settings.server.connections_max {
            Some(_) => ", limited by --max-connections",
            None => ", limited by what one process can count",
        });
    }
    let when_full = match settings.server.when_full {
        WhenFull::Wait => "more wait in the backlog",
        WhenFull::Refuse => "more are closed at once",
        WhenFull::EvictIdle => "more take the place of the longest idle",
    };
    let _ = write!(text, "; {when_full}");
    text
}

fn memory(settings: &Settings, status: &Status) -> String {
    let Some(facts) = &status.memory else {
        return match settings.server.memory_max {
            MemoryMax::Off => "not watched, as asked".to_owned(),
            _ => {
                "not watched: no control group has a limit, and there is no --memory-max".to_owned()
            }
        };
    };
    let max = format_bytes(facts.max_bytes);
    let (shrink, stop) = (SHRINK_AT_PERCENT, STOP_AT_PERCENT);
    let from = match &facts.group {
        Some(group) if facts.is_of_group => format!("the limit of {}", group.display()),
        Some(group) => format!("--memory-max, of the use of {}", group.display()),
        None => "--memory-max, of what is resident".to_owned(),
    };
    format!(
        "{max} at most ({from}); from {shrink}% slow peers are waited for earlier, from {stop}% nobody new is let in"
    )
}

fn timeouts(settings: &Settings) -> String {
    let tuning = &settings.server.tuning;
    format!(
        "idle {}, linger {}, drain {}",
        time_or_off(tuning.idle_timeout),
        format_duration(tuning.linger_timeout),
        format_duration(settings.server.drain),
    )
}

fn buffers(settings: &Settings) -> String {
    let tuning = &settings.server.tuning;
    format!(
        "{} read per connection and turn; reading stops with {} unsent",
        format_bytes(tuning.read_bytes_max as u64),
        format_bytes(tuning.output_high_bytes as u64),
    )
}

fn offload(settings: &Settings) -> String {
    let texts: Vec<_> = settings
        .server
        .pools
        .iter()
        .map(|pool| {
            let threads = if pool.threads == 1 {
                "thread"
            } else {
                "threads"
            };
            format!(
                "{} {} {threads}, {} jobs may wait",
                pool.name, pool.threads, pool.queue_len_max
            )
        })
        .collect();
    texts.join("; ")
}

fn watchdog(settings: &Settings, status: &Status) -> String {
    let Some(threshold) = settings.server.stall_threshold else {
        return "off: a stuck loop is not reported".to_owned();
    };
    let rescue = match (settings.server.rescue, status.boards.len()) {
        (false, _) => "its listeners are left alone",
        (true, 1) => "there is no other loop to accept for it",
        (true, _) => "another loop accepts for it meanwhile",
    };
    let threshold = format_duration(threshold);
    format!("a loop that does not turn for {threshold} is reported; {rescue}")
}

fn warnings(settings: &Settings, status: &Status, machine: Machine) -> Vec<String> {
    let mut warnings = Vec::new();
    let loops = status.boards.len();
    if status.placement.oversubscribed {
        warnings.push(format!(
            "{loops} loops share fewer cores and take turns on them: expect higher latency; leave out --loops, or name \
             more cores"
        ));
    }
    let backlog = settings.server.backlog;
    if let Some(somaxconn) = machine.somaxconn.filter(|&most| most < backlog) {
        warnings.push(format!(
            "the kernel cuts the backlog of {backlog} to {somaxconn}: bursts beyond it are lost; raise it \
             (sysctl net.core.somaxconn={backlog}), or set --backlog {somaxconn}"
        ));
    }
    let limit = &status.descriptors.limit;
    let before = machine.soft_limit_before.unwrap_or(limit.soft_before);
    if before < limit.soft {
        warnings.push(format!(
            "the soft limit of open files was raised from {before} to the hard limit, {}; programs that this one \
             starts inherit that",
            limit.soft,
        ));
    }
    if settings.admin.is_some() && !has_renderers(settings) {
        warnings.push(
            "without threads for blocking work /metrics and /loops are answered with 503; set --offload-blocking to 1 \
             or more"
                .to_owned(),
        );
    }
    if let (Some(facts), MemoryMax::Bytes(asked)) = (&status.memory, settings.server.memory_max)
        && facts.max_bytes < asked
    {
        warnings.push(format!(
            "--memory-max {} is beyond the limit of the control group, {}, which counts",
            format_bytes(asked),
            format_bytes(facts.max_bytes),
        ));
    }
    let is_spread_by_kernel = !matches!(settings.server.accept, AcceptMode::Acceptor(_));
    let is_unix = |listener: &&BoundListener| {
        listener.kind == GateKind::Service && listener.addr.starts_with("unix:")
    };
    if let Some(listener) = status.listeners.iter().find(is_unix)
        && is_spread_by_kernel
        && loops > 1
    {
        warnings.push(format!(
            "the kernel does not spread connections of a unix socket: all of {} stay on loop 0; use --accept acceptor",
            listener.addr,
        ));
    }
    warnings
}

/// Whether there are threads that render the admin pages.
pub(crate) fn has_renderers(settings: &Settings) -> bool {
    let pools = &settings.server.pools;
    pools
        .iter()
        .any(|pool| pool.name == "blocking" && pool.threads > 0)
}

fn time_or_off(time: Option<Duration>) -> String {
    time.map_or_else(|| "off".to_owned(), format_duration)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{AcceptArg, MemoryArg, ServeArgs};
    use crate::echo::Conns;
    use crate::settings::resolve;
    use polyloop::Server;

    fn block_of(args: ServeArgs, machine: Machine) -> String {
        let settings = resolve(args).unwrap();
        let running = Server::with_factories(|_| Conns {
            admin_listener: None,
        })
        .listen("127.0.0.1:0")
        .unwrap()
        .settings(settings.server.clone())
        .start()
        .unwrap();
        let text = block("echo", &settings, running.status(), machine);
        running.stop();
        let _ = running.join();
        text
    }

    #[test]
    fn the_block_says_what_and_why() {
        // Goal: the arithmetic and every choice are there, one line each. Method: a real server with the defaults.
        let machine = Machine {
            somaxconn: Some(4096),
            soft_limit_before: None,
        };
        let text = block_of(ServeArgs::default(), machine);
        for fragment in [
            "polyloop 0.1.0 echo, process ",
            "loops ",
            "the kernel spreads by a hash",
            "listening    127.0.0.1:",
            " open - ",
            " reserve = ",
            "more wait in the backlog",
            "memory       ",
            "idle 10m, linger 30s, drain 30s",
            "does not turn for 100ms is reported",
            "cpu 1 thread, 64 jobs may wait; blocking 4 threads, 256 jobs may wait",
        ] {
            assert!(text.contains(fragment), "{fragment}\n{text}");
        }
        assert!(!text.contains("somaxconn"), "{text}");
    }

    #[test]
    fn what_will_surprise_is_warned_of() {
        // Goal: each warning names its way out. Method: settings that cause it.
        let args = ServeArgs {
            loops: Some(64),
            max_connections: Some(100),
            accept: Some(AcceptArg::Acceptor),
            memory_max: Some(MemoryArg(MemoryMax::Bytes(1 << 30))),
            admin: Some("127.0.0.1:9000".parse().unwrap()),
            offload_blocking: Some(0),
            ..ServeArgs::default()
        };
        let machine = Machine {
            somaxconn: Some(128),
            soft_limit_before: Some(8),
        };
        let text = block_of(args, machine);
        for fragment in [
            "64 loops share fewer cores",
            "backlog of 4096 to 128",
            "--backlog 128",
            "100 at most",
            "1GiB at most (--memory-max, of ",
            "from 92% slow peers are waited for earlier, from 95% nobody new is let in",
            "limited by --max-connections",
            "spreads by two-choices",
            "raised from 8 to the hard limit",
            "answered with 503; set --offload-blocking",
        ] {
            assert!(text.contains(fragment), "{fragment}\n{text}");
        }
    }

    #[test]
    fn addresses_are_told_for_scripts() {
        // Goal: one line per listener, to be read by a program. Method: the three kinds.
        let told = |addr: &str, kind| {
            announcement(&BoundListener {
                addr: addr.to_owned(),
                index: 0,
                kind,
            })
        };
        let admin = GateKind::Admin { connections_max: 1 };
        assert_eq!(
            told("127.0.0.1:7000", GateKind::Service),
            "listening on 127.0.0.1:7000"
        );
        assert_eq!(told("unix:/x", GateKind::Service), "listening on unix:/x");
        assert_eq!(
            told("127.0.0.1:9000", admin),
            "admin on http://127.0.0.1:9000"
        );
        assert_eq!(told("unix:/x", admin), "admin on unix:/x");
    }
}
