//! `polyloop-curve`: see the library's documentation.

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::SystemTime;

use anyhow::Result;
use clap::Parser;
use polyloop_core::units::format_duration;
use polyloop_curve::args::{Cli, Command, CompareArgs, RunArgs, SimulateArgs};
use polyloop_curve::compare::Compared;
use polyloop_curve::points::Points;
use polyloop_curve::queue::{Mode, Plan, simulate};
use polyloop_curve::report;
use polyloop_curve::settings::{Settings, missing, study};
use polyloop_curve::subject::Subject;
use polyloop_curve::sweep::Setup;
use polyloop_load::result::rfc3339;
use polyloop_measure::host;

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Run(args) => run(&args),
        Command::Study(args) => study(args.which, args.how).and_then(|args| run(&args)),
        Command::Report(args) => write_report(&args.result).map(|()| DONE),
        Command::Compare(args) => compare(&args),
        Command::Subjects => subjects().map(|()| DONE),
        Command::Simulate(args) => simulated(&args).map(|()| DONE),
    };
    match done {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("polyloop-curve: {error:#}");
            ExitCode::from(FAILED)
        }
    }
}

fn run(args: &RunArgs) -> Result<u8> {
    let settings = match Settings::new(args) {
        Ok(settings) => settings,
        Err(error) => {
            eprintln!("polyloop-curve: {error:#}");
            return Ok(USAGE);
        }
    };
    for reason in &settings.left_out {
        eprintln!("left out: {reason}");
    }
    let sweep = &settings.sweep;
    let total = sweep.setups.len() * sweep.rounds as usize;
    let least = (sweep.duration + sweep.warm_up).saturating_mul(total as u32);
    eprintln!(
        "{total} points of {} setups, at least {}; servers on cores {:?}, generator on {:?}",
        sweep.setups.len(),
        format_duration(least),
        sweep.placement.server,
        sweep.placement.load
    );
    if sweep.placement.is_shared() {
        eprintln!("GENERATOR AND SERVER SHARE CORES: read processor time per request, not rates");
    }
    let cores = sweep.placement.server.len();
    let most = sweep.setups.iter().map(Setup::loops).max().unwrap_or(1);
    if most > cores {
        eprintln!(
            "FEWER CORES THAN LOOPS: up to {most} loops take turns on {cores} core(s); points of more loops than cores are doubted"
        );
    }
    if args.how.dry_run {
        for setup in &sweep.setups {
            println!("{setup}");
        }
        return Ok(DONE);
    }
    host::raise_open_files()?;
    host::clean_up_on_signals()?;
    let wanted = (args.how.congestion != "host").then_some(args.how.congestion.as_str());
    let congestion = host::Congestion::set(wanted);
    eprintln!("congestion control: {}", congestion.told());
    let head = settings.head(std::env::args().collect(), rfc3339(SystemTime::now()));
    let mut points = Points::open(&args.how.out, head)?;
    let tally = sweep.run(&mut points, |line| eprintln!("{line}"))?;
    drop(congestion);
    eprintln!(
        "{} measured, {} were there, {} failed",
        tally.measured, tally.resumed, tally.failed
    );
    let path = report::write(&points.head, &points.all, &args.how.out)?;
    println!("report: {}", path.display());
    Ok(match (tally.failed, tally.measured + tally.resumed) {
        (0, _) => DONE,
        (_, 0) => FAILED,
        _ => PARTLY,
    })
}

fn write_report(directory: &Path) -> Result<()> {
    let points = Points::read(directory)?;
    let path = report::write(&points.head, &points.all, directory)?;
    println!("report: {}", path.display());
    Ok(())
}

fn compare(args: &CompareArgs) -> Result<u8> {
    let compared = Compared::new(&Points::read(&args.old)?, &Points::read(&args.new)?);
    print!("{}", compared.text());
    let Some(percent) = args.fail_above else {
        return Ok(DONE);
    };
    let worse = compared.worse(percent);
    for row in &worse {
        eprintln!(
            "{} costs significantly more than {percent} % more",
            row.name
        );
    }
    Ok(if worse.is_empty() { DONE } else { WORSE })
}

fn subjects() -> Result<()> {
    for subject in Subject::built_in_names().filter_map(Subject::built_in) {
        let here = match missing(&subject)? {
            None => "here".to_owned(),
            Some(what) => format!("{what} is not here"),
        };
        println!("{:16} {:24} {here}", subject.name, subject.about);
    }
    Ok(())
}

fn simulated(args: &SimulateArgs) -> Result<()> {
    // A reader that has seen enough, such as `head`, is no reason to fail.
    let mut out = std::io::stdout().lock();
    let mut tell = |line: String| writeln!(out, "{line}").is_ok();
    tell("SIMULATED, not measured. Times are in units of the mean service.".to_owned());
    tell("mode          loops  imbalance     p50     p99    p99.9  deviation".to_owned());
    for mode in Mode::ALL {
        for loops in [4, 8, 16, 32, 64, 128] {
            let result = simulate(&Plan {
                loops,
                mode,
                connections_per_loop: args.connections_per_loop,
                utilisation: args.utilisation,
                requests_per_connection: 50.0,
                unevenness: args.unevenness,
                requests: 200_000,
                seed: args.seed,
            });
            let line = format!(
                "{:13} {loops:5}  {:9.3} {:7.2} {:7.2} {:8.2} {:10.2}",
                mode.name(),
                result.imbalance,
                result.p50,
                result.p99,
                result.p99_9,
                result.deviation
            );
            if !tell(line) {
                return Ok(());
            }
        }
    }
    Ok(())
}

const DONE: u8 = 0;
const FAILED: u8 = 1;
const USAGE: u8 = 2;
const PARTLY: u8 = 3;
const WORSE: u8 = 4;
