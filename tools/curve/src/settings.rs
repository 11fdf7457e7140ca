//! A sweep that can be run, worked out from what was typed: subjects found or skipped, axes checked, cores placed.

use anyhow::{Context, Result, bail};
use polyloop_core::units::parse_count;
use polyloop_measure::host;

use crate::args::{HowArgs, RunArgs, Study, SyscallsArg};
use crate::points::{FORMAT, Head};
use crate::run::placement::Placement;
use crate::run::server::find_program;
use crate::run::syscalls::Tracer;
use crate::run::{Sweep, find_load};
use crate::subject::Subject;
use crate::sweep::{Axis, Setup, setups};

/// A sweep and what its file begins with.
#[derive(Debug)]
pub struct Settings {
    /// What is measured.
    pub sweep: Sweep,
    /// What was skipped, and why.
    pub left_out: Vec<String>,
}

impl Settings {
    /// Works out what was typed.
    ///
    /// # Errors
    /// When a subject or an axis is wrong, or nothing is left to measure.
    pub fn new(args: &RunArgs) -> Result<Self> {
        let mut names = args.subject.clone();
        if names.is_empty() {
            names.push("polyloop-echo".to_owned());
        }
        let (mut subjects, mut left_out) = (Vec::new(), Vec::new());
        for name in &names {
            let subject = Subject::find(name)
                .with_context(|| format!("{name} is neither a file nor one of {}", built_in()))?;
            match missing(&subject)? {
                Some(what) => left_out.push(format!("{}: {what} is not here", subject.name)),
                None if subjects
                    .iter()
                    .any(|other: &Subject| other.name == subject.name) =>
                {
                    bail!("two subjects are called {}", subject.name)
                }
                None => subjects.push(subject),
            }
        }
        let (setups, cannot) = setups(&subjects, &args.sweep)?;
        left_out.extend(cannot);
        let (setups, beyond) = within_open_files(setups, host::open_files_max());
        left_out.extend(beyond);
        if setups.is_empty() {
            bail!("nothing to measure: {}", left_out.join("; "));
        }
        for name in subjects
            .clone()
            .iter()
            .filter_map(|subject| subject.upstream.as_ref())
        {
            if !subjects.iter().any(|subject| subject.name == *name) {
                subjects.push(Subject::find(name)?);
            }
        }
        let loops_max = setups.iter().map(Setup::loops).max().unwrap_or(1);
        let sweep = sweep(&args.how, subjects, setups, loops_max)?;
        if args.how.syscalls == SyscallsArg::Auto && sweep.tracer.is_none() {
            left_out.push(
                "system calls: neither perf nor strace is here and may count them".to_owned(),
            );
        }
        Ok(Self { sweep, left_out })
    }

    /// The first line of the file.
    #[must_use]
    pub fn head(&self, command: Vec<String>, started: String) -> Head {
        let subjects = self.sweep.subjects.iter();
        Head {
            format: FORMAT.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            commit: host::commit(),
            started,
            command,
            seed: self.sweep.seed,
            machine: polyloop_load::result::Machine::read(),
            subjects: subjects
                .map(|subject| (subject.name.clone(), subject.text.clone()))
                .collect(),
            left_out: self.left_out.clone(),
            how: self.sweep.how(),
            ..Head::default()
        }
    }
}

/// Leaves out setups with more connections than a server may have descriptors.
fn within_open_files(setups: Vec<Setup>, open_files_max: u64) -> (Vec<Setup>, Vec<String>) {
    let room = open_files_max.saturating_sub(OPEN_FILES_SPARE);
    let (mut kept, mut left_out) = (Vec::new(), Vec::new());
    for setup in setups {
        let connections = setup.settings.get("connections");
        match connections.and_then(|text| parse_count(text).ok()) {
            Some(count) if count > room => left_out.push(format!(
                "{setup}: a process may have {open_files_max} open files here (ulimit -Hn, LimitNOFILE=)"
            )),
            _ => kept.push(setup),
        }
    }
    (kept, left_out)
}

fn sweep(
    how: &HowArgs,
    subjects: Vec<Subject>,
    setups: Vec<Setup>,
    loops_max: usize,
) -> Result<Sweep> {
    let allowed = polyloop_sys::cores::allowed();
    let placement = Placement::new(
        &allowed,
        how.server_cores.as_ref(),
        how.load_cores.as_ref(),
        loops_max,
    )
    .map_err(anyhow::Error::msg)?;
    let mut load_flags: Vec<String> = how
        .load_flags
        .iter()
        .flat_map(|flags| flags.split_whitespace())
        .map(str::to_owned)
        .collect();
    if how.congestion != "host" {
        load_flags.extend(["--congestion".to_owned(), how.congestion.clone()]);
    }
    Ok(Sweep {
        subjects,
        setups,
        rounds: how.rounds,
        seed: how.seed,
        duration: how.duration,
        warm_up: how.warm_up,
        warm_up_max: how
            .warm_up_max
            .unwrap_or_else(|| how.warm_up.saturating_mul(WARM_UP_FACTOR)),
        load: find_load(how.load.as_deref())?,
        load_flags,
        load_loops: how.load_loops,
        placement,
        port: how.port,
        tracer: match how.syscalls {
            SyscallsArg::Auto => Tracer::find(),
            SyscallsArg::Off => None,
        },
    })
}

/// What a subject, or the one behind it, needs and is not here.
///
/// # Errors
/// When the one behind it is wrong.
pub fn missing(subject: &Subject) -> Result<Option<String>> {
    let is_there = |need: &str| find_program(need).is_some();
    if let Some(what) = subject.missing(is_there) {
        return Ok(Some(what.to_owned()));
    }
    match &subject.upstream {
        Some(name) => Ok(Subject::find(name)?.missing(is_there).map(str::to_owned)),
        None => Ok(None),
    }
}

/// A ready-made sweep.
///
/// # Errors
/// Never, as long as the axes below can be read, which a test sees to.
pub fn study(which: Study, how: HowArgs) -> Result<RunArgs> {
    let (subjects, axes): (&[&str], &[&str]) = match which {
        // Cloudflare's experiment of 2017: more clients than workers, a connection each request.
        Study::Distribution => (
            &["uneven-work"],
            &[
                "mode=shared-queue,reuseport,corrected,round-robin,two-choices,least,pool",
                "loops=2",
                "connections=200",
                "requests-per-connection=1",
                "close=reset",
            ],
        ),
        Study::Evenness => (
            &["polyloop-echo"],
            &[
                "mode=reuseport,corrected,round-robin,two-choices,least",
                "loops=2",
                "connections=16,64,256",
                "rate=10k",
            ],
        ),
        Study::Peers => (
            &[
                "polyloop-echo",
                "bare-mio",
                "tokio-echo",
                "redis",
                "polyloop-proxy",
                "tokio-proxy",
                "haproxy",
                "nginx-stream",
            ],
            &["loops=1", "connections=64,1000"],
        ),
        Study::Connections => (
            &["polyloop-echo", "bare-mio", "tokio-echo"],
            &[
                "loops=1",
                "connections=100,200,500,1000,2000,5000,10k,19k,50k,100k",
            ],
        ),
        Study::Loops => (&["polyloop-echo"], &["loops=1,2,4,8", "connections=256"]),
    };
    let axes: Result<Vec<Axis>, _> = axes.iter().map(|axis| axis.parse()).collect();
    Ok(RunArgs {
        subject: subjects.iter().map(|&name| name.to_owned()).collect(),
        sweep: axes?,
        how,
    })
}

/// A point that is not steady after so many times the least that its warm-up takes is measured as it is.
const WARM_UP_FACTOR: u32 = 10;

/// Listeners, polls, wakers, standard streams, pipes and some to spare.
const OPEN_FILES_SPARE: u64 = 128;

fn built_in() -> String {
    Subject::built_in_names().collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use clap::ValueEnum;

    fn run_args(line: &str) -> RunArgs {
        let words = ["polyloop-curve", "run", "--out", "x", "--load", "/bin/true"];
        let cli = crate::args::Cli::parse_from(words.into_iter().chain(line.split_whitespace()));
        match cli.command {
            crate::args::Command::Run(run) => run,
            _ => panic!("another command"),
        }
    }

    #[test]
    fn more_connections_than_descriptors_are_left_out_and_said() {
        // Goal: a study goes on where a host allows less than it asks for. Method: a limit of 20,000 open files.
        let axis = "connections=100,19k,50k".parse().unwrap();
        let subject = Subject::find("bare-mio").unwrap();
        let (all, _) = setups(&[subject], &[axis]).unwrap();
        let (kept, left_out) = within_open_files(all, 20_000);
        assert_eq!(kept.len(), 2);
        let [reason] = &left_out[..] else {
            panic!("{left_out:?}")
        };
        assert!(
            reason.contains("connections=50") && reason.contains("20000 open files"),
            "{reason}"
        );
    }

    #[test]
    fn a_subject_that_is_not_here_is_skipped_and_said() {
        // Goal: the others are measured; with none left, or an unknown one, it is an error. By files made for it.
        let scratch = host::Scratch::new().unwrap();
        let write = |name: &str, needs: &str| {
            let path = scratch.path().join(format!("{name}.toml"));
            let text = format!(
                "name = \"{name}\"\nabout = \"x\"\ncommand = \"x {{port}}\"\nneeds = [\"{needs}\"]\n"
            );
            std::fs::write(&path, text).unwrap();
            path.display().to_string()
        };
        let (here, gone) = (write("here", "sh"), write("gone", "no-such-program"));
        let both = Settings::new(&run_args(&format!("-s {here} -s {gone}"))).unwrap();
        assert_eq!(both.sweep.setups.len(), 1);
        assert_eq!(both.left_out[0], "gone: no-such-program is not here");
        let flags = both.sweep.load_flags.join(" ");
        assert_eq!(flags, "--congestion cubic");
        assert!(Settings::new(&run_args(&format!("-s {gone}"))).is_err());
        assert!(Settings::new(&run_args("-s nobody")).is_err());
        assert!(Settings::new(&run_args(&format!("-s {here} -s {here}"))).is_err());
        let head = both.head(vec!["x".into()], "now".into());
        assert_eq!(head.subjects.len(), 1);
    }

    #[test]
    fn studies_can_be_run() {
        // Goal: each study's axes can be read and are known to its subjects; by working all of them out.
        for which in Study::value_variants() {
            let study = study(*which, run_args("").how).unwrap();
            let subjects: Vec<Subject> = study
                .subject
                .iter()
                .map(|name| Subject::built_in(name).unwrap())
                .collect();
            let (setups, _) = setups(&subjects, &study.sweep).unwrap();
            assert!(setups.len() > 1, "{which:?}");
        }
    }
}
