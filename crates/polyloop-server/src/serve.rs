//! Runs a server from its settings, and says how it ended.

use std::fmt;
use std::io;
use std::sync::Arc;

use polyloop::server::PerLoop;
use polyloop::{Ended, EndedBy, Factory, GateKind, LoopInfo, Server, StartError, Status};
use polyloop_core::admission::AdmissionError;
use polyloop_core::errno::{EMFILE, ENFILE};
use polyloop_core::placement::PlacementError;
use polyloop_core::units::format_duration;
use polyloop_sys::{ListenAddr, net};

use crate::admin::{self, HostRule, Site, VISITORS_MAX};
use crate::echo::Conns;
use crate::exit::Exit;
use crate::logging::{Log, Talk};
use crate::report::{Reporter, dump};
use crate::settings::Settings;
use crate::startup::{self, Machine};

/// Serves echoes until told to end.
pub(crate) fn serve(settings: Settings) -> Exit {
    live(settings, "echo", |settings, talk| {
        let factories = factories(settings, talk);
        let mut server = Server::with_factories(factories).settings(settings.server.clone());
        for addr in &settings.listen {
            server = server.listen_on(addr.clone(), GateKind::Service);
        }
        let ready = |_: &Status| String::new();
        (with_admin(server, settings), ready)
    })
}

/// Adds the listener of administrators, if there is to be one.
pub(crate) fn with_admin<C, F>(
    server: Server<PerLoop<C>>,
    settings: &Settings,
) -> Server<PerLoop<C>>
where
    F: Factory,
    C: Fn(LoopInfo) -> F + Send + Sync + 'static,
{
    match &settings.admin {
        Some(addr) => {
            let kind = GateKind::Admin {
                connections_max: VISITORS_MAX,
            };
            server.listen_on(addr.clone(), kind)
        }
        None => server,
    }
}

/// The life of a server: log, start, serve, last line. `assemble` makes the server of a `service`, and what is done once it
/// serves, which returns more lines for the start-up block.
pub(crate) fn live<C, F, R>(
    settings: Settings,
    service: &'static str,
    assemble: impl FnOnce(&Settings, &Talk) -> (Server<PerLoop<C>>, R),
) -> Exit
where
    F: Factory,
    C: Fn(LoopInfo) -> F + Send + Sync + 'static,
    R: FnOnce(&Status) -> String + Send + 'static,
{
    // Before the first thread, which the log has: see `prepare_descriptors`. What it cannot do the start tells.
    let soft_limit_before = settings
        .server
        .prepare_descriptors()
        .ok()
        .map(|limit| limit.soft_before);
    let log = Log::start(settings.log);
    let drain = settings.server.drain;
    let (server, ready) = assemble(&settings, log.talk());
    let start = Start {
        settings,
        service,
        soft_limit_before,
    };
    let exit = match run(server, start, ready, log.talk()) {
        Ok(ended) => {
            log.talk().say(&format!(
                "stopped: {}\n",
                Epitaph {
                    ended: &ended,
                    drain
                }
            ));
            Exit::of(&ended)
        }
        Err(error) => {
            log.talk()
                .say(&format!("polyloop: {}\n", NotStarted(&error)));
            Exit::Failed
        }
    };
    log.finish();
    exit
}

/// What the start-up block is made from.
struct Start {
    settings: Settings,
    service: &'static str,
    soft_limit_before: Option<u64>,
}

fn run<C, F>(
    mut server: Server<PerLoop<C>>,
    start: Start,
    ready: impl FnOnce(&Status) -> String + Send + 'static,
    talk: &Talk,
) -> Result<Ended, StartError>
where
    F: Factory,
    C: Fn(LoopInfo) -> F + Send + Sync + 'static,
{
    if let Some(interval) = start.settings.report {
        let (talk, mut reporter) = (talk.clone(), Reporter::new());
        server = server.on_report(interval, move |status| talk.say(&reporter.line(status)));
    }
    let dump_talk = talk.clone();
    let start_talk = talk.clone();
    server
        .on_dump(move |status| dump_talk.say(&dump(status, dump_talk.dropped().count())))
        .on_started(move |status| {
            let machine = Machine {
                somaxconn: net::somaxconn().ok(),
                soft_limit_before: start.soft_limit_before,
            };
            let mut block = startup::block(start.service, &start.settings, status, machine);
            block.push_str(&ready(status));
            start_talk.say(&block);
            startup::announce(status, start.settings.listen.len());
        })
        .run()
}

/// Gives this thread, a loop's, what its visitors are to see.
pub(crate) fn open_site(
    settings: &Settings,
    talk: &Talk,
) -> impl Fn(&LoopInfo, Option<Arc<polyloop_proxy::site::Site>>) + use<> {
    let host_rule = settings
        .admin
        .as_ref()
        .map_or(HostRule::AddressOnly, host_rule);
    let dropped = talk.dropped().clone();
    let has_renderers = startup::has_renderers(settings);
    move |info: &LoopInfo, proxy| {
        admin::open_site(Arc::new(Site {
            status: Arc::clone(&info.status),
            proxy,
            dropped: dropped.clone(),
            host_rule,
            has_renderers,
        }));
    }
}

/// Makes the factory of each loop, on its thread.
fn factories(
    settings: &Settings,
    talk: &Talk,
) -> impl Fn(LoopInfo) -> Conns + Send + Sync + 'static + use<> {
    // The admin listener comes after those of the service.
    let admin_listener = settings.admin.as_ref().map(|_| settings.listen.len());
    let open_site = open_site(settings, talk);
    move |info: LoopInfo| {
        open_site(&info, None);
        Conns { admin_listener }
    }
}

fn host_rule(admin: &ListenAddr) -> HostRule {
    match admin {
        ListenAddr::Tcp(_) | ListenAddr::TcpAny(_) if admin.is_local_only() => {
            HostRule::AddressOnly
        }
        ListenAddr::Tcp(_) | ListenAddr::TcpAny(_) | ListenAddr::Unix(_) => HostRule::Any,
    }
}

/// What kept the server from starting, with the flag that decides it.
struct NotStarted<'a>(&'a StartError);

impl fmt::Display for NotStarted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (flag, way_out) = match self.0 {
            StartError::Placement(PlacementError::CoreNotAllowed { .. }) => ("--cores: ", ""),
            StartError::Placement(_) => ("--loops: ", ""),
            StartError::NotPinned { .. } => ("--accept ", "; --pin always pins them"),
            StartError::CoreShared { .. } => ("--accept ", " (--loops, --cores)"),
            StartError::NoLoopOnCore { .. } => ("--on-core: ", "; --cores chooses them"),
            StartError::Descriptors(AdmissionError::NothingLeft { .. }) => {
                ("", ", or keep less back with --reserve")
            }
            StartError::Descriptors(_) => ("--max-connections: ", ""),
            StartError::Os { source, .. } if is_out_of_descriptors(source) => (
                "",
                "; raise the limit of open files (ulimit -n, LimitNOFILE=, fs.file-max), or use fewer loops (--loops)",
            ),
            _ => ("", ""),
        };
        write!(f, "{flag}{}{way_out}", self.0)
    }
}

fn is_out_of_descriptors(error: &io::Error) -> bool {
    // By number: the standard library has no name for them, and the table of accept is not about these calls.
    matches!(error.raw_os_error(), Some(EMFILE | ENFILE))
}

/// How the server ended, for the last line.
struct Epitaph<'a> {
    ended: &'a Ended,
    drain: std::time::Duration,
}

impl fmt::Display for Epitaph<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Ended {
            by,
            cut,
            loops_failed,
            jobs_dropped,
            took,
        } = self.ended;
        let connections = if *cut == 1 {
            "connection"
        } else {
            "connections"
        };
        let took = format_duration(*took);
        match by {
            EndedBy::Drain if *cut == 0 => write!(f, "drained in {took}, 0 connections cut")?,
            EndedBy::Drain => {
                let drain = format_duration(self.drain);
                write!(f, "{cut} {connections} cut at the drain deadline ({drain})")?;
            }
            EndedBy::Stop => write!(
                f,
                "{cut} {connections} cut by a second signal, {took} after the first"
            )?,
            EndedBy::LoopFailed => write!(f, "a loop died, {cut} {connections} cut")?,
        }
        if *jobs_dropped > 0 {
            let jobs = if *jobs_dropped == 1 { "job" } else { "jobs" };
            write!(f, ", {jobs_dropped} offload {jobs} dropped")?;
        }
        for failure in loops_failed {
            write!(f, "; {failure}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn ended(by: EndedBy, cut: usize) -> Ended {
        Ended {
            by,
            cut,
            loops_failed: Vec::new(),
            jobs_dropped: 0,
            took: Duration::from_millis(1200),
        }
    }

    fn told(ended: &Ended) -> String {
        let drain = Duration::from_secs(30);
        Epitaph { ended, drain }.to_string()
    }

    #[test]
    fn the_last_line_says_what_was_left() {
        // Goal: who ended it and what it cost, in one line. Method: each way to end.
        assert_eq!(
            told(&ended(EndedBy::Drain, 0)),
            "drained in 1.2s, 0 connections cut"
        );
        assert_eq!(
            told(&ended(EndedBy::Drain, 3)),
            "3 connections cut at the drain deadline (30s)"
        );
        assert_eq!(
            told(&ended(EndedBy::Stop, 1)),
            "1 connection cut by a second signal, 1.2s after the first"
        );
        let failed = Ended {
            loops_failed: vec!["loop 1 panicked: oh".to_owned()],
            jobs_dropped: 2,
            ..ended(EndedBy::LoopFailed, 5)
        };
        assert_eq!(
            told(&failed),
            "a loop died, 5 connections cut, 2 offload jobs dropped; loop 1 panicked: oh"
        );
    }

    #[test]
    fn a_failed_start_names_the_flag() {
        // Goal: the operator knows what to change. Method: errors that only the machine can decide.
        let allowed = vec![0, 1];
        let error = StartError::Placement(PlacementError::CoreNotAllowed { core: 99, allowed });
        let text = NotStarted(&error).to_string();
        assert!(text.starts_with("--cores: core 99 is not among"), "{text}");
        let reason = "not pinned, as asked".to_owned();
        let text = NotStarted(&StartError::NotPinned { reason }).to_string();
        assert!(text.starts_with("--accept reuseport-cpu needs"), "{text}");
        let (loops, cores) = (4, 2);
        assert_eq!(
            NotStarted(&StartError::CoreShared { loops, cores }).to_string(),
            "--accept reuseport-cpu needs a core of its own for each loop, and there are 4 loops on 2 cores: use fewer \
             loops, or name more cores (--loops, --cores)"
        );
        let what = "opening a loop's poll".to_owned();
        let source = io::Error::from_raw_os_error(EMFILE);
        assert_eq!(
            NotStarted(&StartError::Os { what, source }).to_string(),
            "opening a loop's poll: Too many open files (os error 24); raise the limit of open files (ulimit -n, \
             LimitNOFILE=, fs.file-max), or use fewer loops (--loops)"
        );
    }

    #[test]
    fn only_loopback_checks_the_host() {
        // Goal: rebinding is checked where browsers could be misled, and nowhere else. Method: a table.
        for (addr, rule) in [
            ("127.0.0.1:1", HostRule::AddressOnly),
            ("[::1]:1", HostRule::AddressOnly),
            ("unix:/x", HostRule::Any),
            (":1", HostRule::Any),
            ("10.0.0.1:1", HostRule::Any),
        ] {
            assert_eq!(host_rule(&addr.parse().unwrap()), rule, "{addr}");
        }
    }
}
