//! A sweep: rounds of points, each a server, a generator, and a line in the file.
//!
//! ```text
//!   for each round, in its order:   port ─ upstream? ─ server ─ ready ─ generator ─ figures ─ stop ─ written
//! ```
//!
//! The one idea: a point that fails is a result too. It is written with what the programs said, and the sweep goes on;
//! an interrupt ends the servers and leaves a file to resume from.
//!
//! Deliberately absent: any choice of what is measured (`sweep`) and any opinion on it (`report`).

pub mod generator;
pub mod placement;
pub mod server;
pub mod shell;
pub mod syscalls;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, anyhow, bail};
use polyloop_core::units::format_duration;
use polyloop_load::result::rfc3339;
use polyloop_measure::host::Scratch;
use polyloop_sys::{ListenAddr, who_listens};

use crate::points::{Doubt, Measured, Outcome, Point, Points};
use crate::subject::{Post, Subject};
use crate::sweep::{LOAD_AXES, Setup, order};
use generator::{Generator, is_free};
use placement::{Placement, list};
use server::{Server, find_program};
use shell::typed;
use syscalls::Tracer;

/// All that a sweep needs.
#[derive(Debug)]
pub struct Sweep {
    /// Everything that is started, upstreams included.
    pub subjects: Vec<Subject>,
    /// What is measured.
    pub setups: Vec<Setup>,
    /// How often.
    pub rounds: u32,
    /// What the order comes from.
    pub seed: u64,
    /// How long the generator measures.
    pub duration: Duration,
    /// Load before that, at least.
    pub warm_up: Duration,
    /// At most, while the pace still changes.
    pub warm_up_max: Duration,
    /// The generator's binary.
    pub load: PathBuf,
    /// Flags for the generator at every point.
    pub load_flags: Vec<String>,
    /// Loops of the generator; one for each of its cores without.
    pub load_loops: Option<u64>,
    /// The cores.
    pub placement: Placement,
    /// Where servers listen; a free port each without.
    pub port: Option<u16>,
    /// What counts system calls in the first round; nothing where it is not wanted, or not possible.
    pub tracer: Option<Tracer>,
}

/// How a sweep went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// Points measured now.
    pub measured: usize,
    /// Points that were there.
    pub resumed: usize,
    /// Points that failed.
    pub failed: usize,
}

impl Sweep {
    /// Measures what is not in `points` yet; `tell` is given a line for each point.
    ///
    /// # Errors
    /// When a point cannot be written. A point that cannot be measured is no error.
    pub fn run(&self, points: &mut Points, mut tell: impl FnMut(&str)) -> Result<Tally> {
        let mut tally = Tally::default();
        let total = self.setups.len() * self.rounds as usize;
        for round in 0..self.rounds {
            for index in order(self.setups.len(), round, self.seed) {
                let setup = &self.setups[index];
                let number = tally.measured + tally.resumed + tally.failed + 1;
                if points.has(setup, round) {
                    tally.resumed += 1;
                    continue;
                }
                let point = self.point(setup, round);
                match &point.outcome {
                    Outcome::Measured(measured) => {
                        tally.measured += 1;
                        tell(&format!("{number}/{total} {setup}: {}", line(measured)));
                    }
                    Outcome::Failed(reason) => {
                        tally.failed += 1;
                        tell(&format!("{number}/{total} {setup}: FAILED: {reason}"));
                    }
                }
                points.add(point)?;
            }
        }
        Ok(tally)
    }

    fn point(&self, setup: &Setup, round: u32) -> Point {
        let mut point = Point {
            subject: setup.subject.clone(),
            settings: setup.settings.clone(),
            round,
            started: rfc3339(SystemTime::now()),
            server_command: String::new(),
            load_command: String::new(),
            outcome: Outcome::Failed(String::new()),
        };
        point.outcome = match self.measure(setup, &mut point) {
            Ok(measured) => Outcome::Measured(Box::new(measured)),
            Err(error) => Outcome::Failed(format!("{error:#}")),
        };
        point
    }

    fn measure(&self, setup: &Setup, point: &mut Point) -> Result<Measured> {
        let subject = self.subject(&setup.subject)?;
        let upstream = match &subject.upstream {
            Some(name) => Some(self.upstream(name)?),
            None => None,
        };
        let behind = upstream.as_ref().map(|(_, addr, _)| *addr);
        let options = options(subject, setup)?;
        let port = self.port()?;
        let scratch = Scratch::new()?;
        let loops = setup.loops();
        let post = Post {
            port,
            upstream: behind,
            loops,
            cores: self.placement.of_loops(loops),
            dir: scratch.path(),
            options: &options,
        };
        point.server_command = format!(
            "taskset -c {} {}",
            list(post.cores),
            typed(&subject.command.words(post))
        );
        let words = self.load_words(subject, setup, port, self.duration, self.warm_up);
        point.load_command = format!(
            "taskset -c {} polyloop-load {}",
            list(&self.placement.load),
            typed(&words)
        );
        let mut server = Server::start(subject, post)?;
        let generator = |words: Vec<String>, duration: Duration| Generator {
            program: &self.load,
            under: Vec::new(),
            words,
            cores: &self.placement.load,
            dir: scratch.path(),
            loops,
            duration,
            patience: self.warm_up_max + duration + SLACK,
        };
        let mut measured = generator(words, self.duration).run(&mut server)?;
        if let Some(tracer) = self.tracer.filter(|_| point.round == 0) {
            // Behind the measurement, as it slows the server down, and once, as it is the same each time.
            let load = |duration| {
                let words = self.load_words(subject, setup, port, duration, Duration::ZERO);
                generator(words, duration)
            };
            match tracer.count(&mut server, load) {
                Ok(counted) => measured.syscalls = Some(counted),
                Err(error) => measured.doubts.push(Doubt {
                    is_serious: false,
                    ..doubt("no-syscalls", format!("{error:#}"))
                }),
            }
        }
        let cores = post.cores.to_vec();
        if let Err(error) = server.stop() {
            measured
                .doubts
                .push(doubt("ended-badly", format!("{error:#}")));
        }
        if let Some((server, _, _)) = upstream {
            // What it had to say about its end changes no figure.
            drop(server.stop());
        }
        self.doubt(loops, cores, &mut measured);
        Ok(measured)
    }

    /// What is the same for each point, by name: points of which it differs cannot be compared.
    #[must_use]
    pub fn how(&self) -> Vec<(String, String)> {
        let loops = self
            .load_loops
            .map_or_else(|| "one a core".to_owned(), |loops| loops.to_string());
        [
            ("duration", format_duration(self.duration)),
            ("warm-up", format_duration(self.warm_up)),
            ("warm-up at most", format_duration(self.warm_up_max)),
            ("placement of the server", list(&self.placement.server)),
            ("placement of the generator", list(&self.placement.load)),
            ("loops of the generator", loops),
            ("flags of the generator", self.load_flags.join(" ")),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .to_vec()
    }

    /// Adds what only the sweep knows.
    fn doubt(&self, loops: usize, cores: Vec<usize>, measured: &mut Measured) {
        if loops > cores.len() {
            let text = format!("{loops} loops took turns on {} core(s)", cores.len());
            measured.doubts.push(doubt("loops-outnumber-cores", text));
        }
        if measured.faults as f64 > measured.completed as f64 * FAULTS_MAX {
            let text = format!("{} requests went wrong", measured.faults);
            measured.doubts.push(doubt("faults", text));
        }
        measured.server_cores = cores;
        measured.load_cores.clone_from(&self.placement.load);
    }

    fn subject(&self, name: &str) -> Result<&Subject> {
        let subject = self.subjects.iter().find(|subject| subject.name == name);
        subject.with_context(|| format!("no subject {name}"))
    }

    /// Starts the server behind a proxy, on the generator's cores: it is not billed.
    fn upstream(&self, name: &str) -> Result<(Server, SocketAddr, Scratch)> {
        let subject = self.subject(name)?;
        let scratch = Scratch::new()?;
        let port = free_port()?;
        let post = Post {
            port,
            upstream: None,
            loops: 1,
            cores: &self.placement.load[..1],
            dir: scratch.path(),
            options: &[],
        };
        let server = Server::start(subject, post).context("the server behind")?;
        Ok((server, SocketAddr::from(([127, 0, 0, 1], port)), scratch))
    }

    fn port(&self) -> Result<u16> {
        let Some(port) = self.port else {
            return free_port();
        };
        is_free(port).map_err(|error| {
            let addr = SocketAddr::from(([127, 0, 0, 1], port));
            match who_listens(&ListenAddr::Tcp(addr)) {
                Some(owner) => {
                    anyhow!("port {port} is taken by {owner}; leave --port out, or end it")
                }
                None => anyhow!("port {port} cannot be used: {error}"),
            }
        })?;
        Ok(port)
    }

    /// What the generator is told.
    fn load_words(
        &self,
        subject: &Subject,
        setup: &Setup,
        port: u16,
        duration: Duration,
        warm_up: Duration,
    ) -> Vec<String> {
        let mut words = vec![format!("127.0.0.1:{port}")];
        let mut flag = |name: &str, value: String| words.extend([format!("--{name}"), value]);
        for (axis, value) in &setup.settings {
            if LOAD_AXES.contains(&axis.as_str()) {
                flag(axis, value.clone());
            }
        }
        flag("duration", format!("{}ms", duration.as_millis()));
        flag("warm-up", format!("{}ms", warm_up.as_millis()));
        let most = self.warm_up_max.max(warm_up);
        flag("warm-up-max", format!("{}ms", most.as_millis()));
        flag("cores", list(&self.placement.load));
        let loops = self.load_loops.unwrap_or(self.placement.load.len() as u64);
        flag("loops", loops.to_string());
        flag("live", "off".to_owned());
        let paced = ["rate", "stream", "connect-rate"];
        if !paced.iter().any(|axis| setup.settings.contains_key(*axis))
            && !self.load_flags.iter().any(|flag| flag == "--rate")
        {
            words.push("--closed".to_owned());
        }
        words.extend(subject.load.iter().cloned());
        words.extend(self.load_flags.iter().cloned());
        words
    }
}

/// What the subject's own axes add.
fn options(subject: &Subject, setup: &Setup) -> Result<Vec<String>> {
    let mut words = Vec::new();
    for (axis, value) in &setup.settings {
        if let Some(choice) = subject.options.get(axis) {
            match choice.words(value) {
                Some(more) => words.extend(more),
                None => bail!("{} has no {axis}={value}", subject.name),
            }
        }
    }
    Ok(words)
}

/// A port nobody has. Somebody may take it before it is used: the server says so then, and the point fails.
fn free_port() -> Result<u16> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").context("no free port")?;
    Ok(listener.local_addr()?.port())
}

fn doubt(code: &str, text: String) -> Doubt {
    Doubt {
        code: code.to_owned(),
        text,
        is_serious: true,
    }
}

/// A point in a line.
fn line(measured: &Measured) -> String {
    let us =
        |figure: Option<f64>| figure.map_or_else(|| "-".to_owned(), |us| format!("{us:.2} us"));
    let doubts: Vec<&str> = measured
        .doubts
        .iter()
        .filter(|doubt| doubt.is_serious)
        .map(|doubt| doubt.code.as_str())
        .collect();
    let doubts = if doubts.is_empty() {
        String::new()
    } else {
        format!("  doubtful: {}", doubts.join(", "))
    };
    format!(
        "{:.0}/s  server {}  machine {} a request{doubts}",
        measured.rate,
        us(measured.server_us),
        us(measured.machine_us),
    )
}

/// The generator: beside this program, where `cargo build` puts both, or on the path.
///
/// # Errors
/// When it is not there.
pub fn find_load(wish: Option<&Path>) -> Result<PathBuf> {
    match wish {
        Some(path) if path.is_file() => Ok(path.to_owned()),
        Some(path) => bail!("{} is not there", path.display()),
        None => find_program("polyloop-load").context(
            "polyloop-load is neither beside this program nor on the path; build it with `cargo build --release -p polyloop-load`, or say --load PATH",
        ),
    }
}

/// Connecting, grace and the end of a generator take time as well.
const SLACK: Duration = Duration::from_secs(60);

/// More than one in a thousand wrong and the figures are of something else.
const FAULTS_MAX: f64 = 0.001;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::subject::tests::plain;

    const SECOND: Duration = Duration::from_secs(1);

    fn sweep(port: Option<u16>) -> Sweep {
        Sweep {
            subjects: vec![plain("x")],
            setups: Vec::new(),
            rounds: 1,
            seed: 1,
            duration: SECOND,
            warm_up: Duration::ZERO,
            warm_up_max: Duration::ZERO,
            load: "polyloop-load".into(),
            load_flags: Vec::new(),
            load_loops: None,
            placement: Placement {
                server: vec![0],
                load: vec![0],
            },
            port,
            tracer: None,
        }
    }

    fn setup(settings: &[(&str, &str)]) -> Setup {
        let pair = |(axis, value): &(&str, &str)| ((*axis).to_owned(), (*value).to_owned());
        Setup {
            subject: "x".into(),
            settings: settings.iter().map(pair).collect(),
        }
    }

    #[test]
    fn the_generator_is_told_its_axes_and_no_others() {
        // Goal: flags by axis, closed without a pace and open with one; by two setups.
        let mut subject = plain("x");
        subject.load = vec!["--send".into(), "PING\\r\\n".into()];
        let sweep = sweep(None);
        let words = |settings| {
            let words = sweep.load_words(&subject, &setup(settings), 9, SECOND, Duration::ZERO);
            words.join(" ")
        };
        let closed = words(&[("connections", "64"), ("loops", "2"), ("accept", "x")]);
        assert!(
            closed.starts_with("127.0.0.1:9 --connections 64 --duration 1000ms"),
            "{closed}"
        );
        assert!(
            closed.contains("--closed") && closed.ends_with("--send PING\\r\\n"),
            "{closed}"
        );
        assert!(!closed.contains("accept"), "{closed}");
        assert!(!words(&[("rate", "10k")]).contains("--closed"));
    }

    #[test]
    fn a_port_in_use_is_told_with_its_owner() {
        // Goal: no other server is measured by mistake; by a listener of ours, and a point that fails with it.
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let point = sweep(Some(port)).point(&setup(&[]), 0);
        let Outcome::Failed(reason) = point.outcome else {
            panic!("it was measured");
        };
        assert!(reason.contains("taken by this very process"), "{reason}");
    }

    #[test]
    fn doubts_of_the_sweep_are_serious() {
        // Goal: loops that take turns and wrong requests make a point doubtful; good figures do not.
        let sweep = sweep(None);
        let mut good = Measured {
            completed: 10_000,
            faults: 1,
            ..Measured::default()
        };
        let mut bad = good.clone();
        sweep.doubt(1, vec![0], &mut good);
        assert!(!good.is_doubtful() && good.shares_cores());
        bad.faults = 11;
        sweep.doubt(2, vec![0], &mut bad);
        assert_eq!(bad.doubts.len(), 2);
        assert!(line(&bad).contains("doubtful: loops-outnumber-cores, faults"));
    }
}
