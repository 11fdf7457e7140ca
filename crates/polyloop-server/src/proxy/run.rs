//! Runs the proxy from its settings: assembles the server, tells what is in force, and connects the sessions to the world
//! (records, messages, names).

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};

use polyloop::server::PerLoop;
use polyloop::{GateKind, LoopInfo, Mailer, Server, Status, Vigilance};
use polyloop_proxy::health::{Change, State};
use polyloop_proxy::ports::{PortLevel, PortRange, Shortage};
use polyloop_proxy::session::{Note, vigilance};
use polyloop_proxy::settings::{ProxySettings, Splice, Target};
use polyloop_proxy::site::{LoopSite, Site};
use polyloop_sys::ListenAddr;
use polyloop_sys::clock::monotonic_ns;
use polyloop_sys::net::may_be_transparent;

use super::access_log::{AccessLog, Records};
use super::conn::{Conns, Message};
use super::names;
use super::print;
use super::resolve::Effective;
use super::resolver::Resolver;
use crate::exit::Exit;
use crate::logging::Talk;
use crate::serve;
use crate::settings::Settings;

/// Pipes of each loop, where anything is spliced: only sessions with a slow side hold one for longer than a call.
const PIPES_MAX: usize = 32;

/// Serves until told to end.
pub(super) fn run(mut effective: Effective) -> Exit {
    if let Err(text) = check_rights(&effective.proxy) {
        super::say(&text);
        return Exit::Failed;
    }
    let log = match AccessLog::open(&effective.proxy.access_log.to) {
        Ok(log) => log,
        Err(text) => {
            super::say(&text);
            return Exit::Failed;
        }
    };
    prepare(&mut effective.server, &effective.proxy);
    let rows = rows(&effective);
    let Effective { server, proxy, .. } = effective;
    let gates = gates(&proxy);
    let exit = serve::live(server, "proxy", |settings, talk| {
        assemble(settings, talk, proxy, gates, rows, &log)
    });
    log.finish();
    exit
}

/// Whether the process may do what it is asked to: told now, since every single session would fail for want of it.
fn check_rights(proxy: &ProxySettings) -> Result<(), String> {
    let Some(group) = proxy.groups.iter().find(|group| group.transparent) else {
        return Ok(());
    };
    let name = &group.name;
    match may_be_transparent() {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(format!(
            "error: group {name}: transparent needs CAP_NET_ADMIN or CAP_NET_RAW ({error}); give the process one of them \
             (AmbientCapabilities=), or leave it out\n"
        )),
        // What else may fail is no matter of rights, and the sessions tell of it.
        _ => Ok(()),
    }
}

/// What the library is told because it serves a proxy.
fn prepare(server: &mut Settings, proxy: &ProxySettings) {
    let splices = proxy
        .listeners
        .iter()
        .any(|listener| listener.splice != Splice::Off);
    let asks_local_addr = proxy.groups.iter().any(|group| group.send_proxy.is_some());
    let first = &proxy.listeners[0];
    let high = proxy
        .listeners
        .iter()
        .map(|listener| listener.buffer_high_bytes)
        .min();
    let tunings =
        std::iter::once(&mut server.server.tuning).chain(server.server.tuning_on_core.values_mut());
    for tuning in tunings {
        tuning.pipes_max = if splices { PIPES_MAX } else { 0 };
        tuning.asks_local_addr = asks_local_addr;
        tuning.idle_timeout = first.timeouts.idle;
        tuning.output_high_bytes = usize::try_from(high.unwrap_or(u64::MAX)).unwrap_or(usize::MAX);
    }
}

/// Which listener of the settings each gate belongs to.
fn gates(proxy: &ProxySettings) -> Vec<usize> {
    let listeners = proxy.listeners.iter().enumerate();
    listeners
        .flat_map(|(at, listener)| listener.listen.iter().map(move |_| at))
        .collect()
}

/// Where the listeners listen, and what the kernel watches over there.
fn listens(proxy: &ProxySettings) -> Vec<(ListenAddr, Vigilance)> {
    let listeners = proxy.listeners.iter();
    let addrs = listeners.flat_map(|listener| {
        let watched = vigilance(listener);
        let addrs = listener.listen.iter();
        addrs.map(move |addr| (addr.clone(), watched))
    });
    addrs.collect()
}

fn assemble(
    settings: &Settings,
    talk: &Talk,
    proxy: ProxySettings,
    gates: Vec<usize>,
    rows: String,
    log: &AccessLog,
) -> (
    Server<PerLoop<impl MakeConns + use<>>>,
    impl FnOnce(&Status) -> String + Send + 'static + use<>,
) {
    let has_echo = proxy
        .groups
        .iter()
        .any(|group| group.backends.iter().any(|b| b.to == Target::Echo));
    let listens = listens(&proxy);
    let resolver = Arc::new(Resolver::new(proxy.dns.clone()));
    let home = Home {
        proxy,
        site: OnceLock::new(),
        mailer: Arc::new(OnceLock::new()),
        drain: settings.server.drain,
        records: log.records(talk),
        seed: settings.server.seed,
    };
    let home = Arc::new(home);
    let factories = {
        let home = Arc::clone(&home);
        let open_site = serve::open_site(settings, talk);
        let (has_admin, gates) = (settings.admin.is_some(), gates.clone());
        move |info: LoopInfo| {
            let site = home.site(info.loops);
            open_site(&info, Some(Arc::clone(&site)));
            let part = LoopSite::new(&site, info.index, home.seed);
            let (mailer, resolver) = (Arc::clone(&home.mailer), Arc::clone(&resolver));
            Conns::new(part, &gates, has_admin, mailer, resolver)
        }
    };
    let mut server = Server::with_factories(factories).settings(settings.server.clone());
    for (addr, watched) in listens {
        server = server.listen_with(addr, watched);
    }
    server = serve::with_admin(server, settings);
    let echo_gate = gates.len() + usize::from(settings.admin.is_some());
    if has_echo {
        let any_port = ListenAddr::Tcp(SocketAddr::from(([127, 0, 0, 1], 0)));
        server = server.listen_on(any_port, GateKind::Service);
    }
    let ready = move |status: &Status| {
        let echo = status
            .listeners
            .iter()
            .find(|bound| bound.index == echo_gate);
        if let (true, Some(echo)) = (has_echo, echo.and_then(|echo| echo.addr.parse().ok())) {
            home.site(status.boards.len()).set_echo(echo);
        }
        // Nobody is told that the server serves before its names are known, if they can be known soon.
        names::await_first(&home.site(status.boards.len()));
        rows
    };
    (server, ready)
}

/// Makes the connections of each loop.
trait MakeConns: Fn(LoopInfo) -> Conns + Send + Sync + 'static {}

impl<C: Fn(LoopInfo) -> Conns + Send + Sync + 'static> MakeConns for C {}

/// What the loops' parts of the proxy are made from.
struct Home {
    proxy: ProxySettings,
    site: OnceLock<Arc<Site>>,
    mailer: Arc<OnceLock<Mailer<Message>>>,
    drain: std::time::Duration,
    records: Option<Records>,
    seed: u64,
}

impl Home {
    /// What all loops share; made by the first of them, since only then it is known how many there are.
    fn site(&self, loops: usize) -> Arc<Site> {
        let site = self.site.get_or_init(|| {
            // The standard library seeds its hash tables from the system; an empty hash is that seed mixed.
            let seed = RandomState::new().build_hasher().finish();
            let site = Site::with_seed(self.proxy.clone(), loops, seed);
            site.set_drain_window(self.drain);
            site.set_teller(tell);
            site.set_port_teller(tell_ports);
            if let Some(range) = system_ports() {
                site.set_port_range(range);
            }
            site.set_wall_offset(wall_offset_ms());
            let mailer = Arc::clone(&self.mailer);
            site.set_waker(move |who| {
                // A full inbox: the loop is behind, and whoever waits there stays first and is called again.
                let mailer = mailer.get();
                mailer.is_some_and(|mailer| mailer.send(who, Message::Note(Note::Turn)).is_ok())
            });
            if let Some(records) = &self.records {
                records.clone().connect(&site);
            }
            Arc::new(site)
        });
        Arc::clone(site)
    }
}

/// What the wall clock said when the loops' clock was 0, in milliseconds of the epoch.
fn wall_offset_ms() -> u64 {
    let wall = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let wall_ms = u64::try_from(wall.as_millis()).unwrap_or(u64::MAX);
    wall_ms.saturating_sub(monotonic_ns() / 1_000_000)
}

/// Tells the operator of a change of health.
fn tell(group: &str, backend: &str, change: Change) {
    let (from, to) = (change.from.name(), change.to.name());
    match change.to {
        State::Up => tracing::info!("backend {group}/{backend} is {to} (was {from})"),
        State::CheckedDown | State::Ejected | State::Drain | State::Down | State::NoAddress => {
            tracing::warn!("backend {group}/{backend} is {to} (was {from})");
        }
    }
}

/// Tells the operator of source ports.
fn tell_ports(group: &str, backend: &str, shortage: &Shortage) {
    match shortage.level {
        PortLevel::Ample => tracing::info!("backend {group}/{backend}: {shortage}"),
        PortLevel::Low | PortLevel::Out => {
            tracing::warn!("backend {group}/{backend}: {shortage}");
        }
    }
}

/// The range of ports that the system connects from, of this network namespace.
fn system_ports() -> Option<PortRange> {
    let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok()?;
    let mut ports = text.split_whitespace().map(str::parse::<u16>);
    let (first, last) = (ports.next()?.ok()?, ports.next()?.ok()?);
    PortRange::new(first, last).ok()
}

/// The limits and timeouts in force, each with where it came from.
fn rows(effective: &Effective) -> String {
    let mut text = String::new();
    for block in print::blocks(effective) {
        text.push_str(&format!("  {}\n", block.header));
        for row in block.rows {
            let value = row.value.as_deref().unwrap_or(row.unset);
            text.push_str(&format!("    {:<26} {value}  ({})\n", row.name, row.origin));
        }
    }
    text
}
