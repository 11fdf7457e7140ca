//! The command line as it was typed. What it means is worked out in `settings`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use polyloop_core::cores::CoreList;
use polyloop_core::units::parse_duration;

use crate::sweep::Axis;

/// What was typed.
#[derive(Debug, Parser)]
#[command(
    name = "polyloop-curve",
    version,
    about = "Scaling curves that anyone can reproduce: sweeps, models, and a report to look at",
    after_help = EXAMPLES,
    arg_required_else_help = true
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What can be done.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Measure a sweep, or go on with one, and write its report
    Run(RunArgs),
    /// A sweep that comes ready-made, and its report
    Study(StudyArgs),
    /// Write the report of a result again
    Report(ReportArgs),
    /// Compare two results point by point: what is different, and what is noise
    Compare(CompareArgs),
    /// The subjects that come with this program, and whether they are here
    Subjects,
    /// Simulated loops, 4 to 128: imbalance and tail latency of each way to spread connections
    Simulate(SimulateArgs),
}

/// A sweep.
#[derive(Debug, Clone, Args)]
pub struct RunArgs {
    /// A server: a name of `polyloop-curve subjects`, or a TOML file; may be repeated [default: polyloop-echo]
    #[arg(long, short = 's', value_name = "NAME|FILE")]
    pub subject: Vec<String>,
    /// What varies, as in loops=1,2,4 or connections=64..16k (doubling) or mode=reuseport,least; may be repeated. One
    /// value holds still
    #[arg(long, value_name = "AXIS=VALUES")]
    pub sweep: Vec<Axis>,
    /// How the rest is run.
    #[command(flatten)]
    pub how: HowArgs,
}

/// How a sweep is run, whatever it sweeps.
#[derive(Debug, Clone, Args)]
pub struct HowArgs {
    /// Where the result goes; one that is there is gone on with
    #[arg(long, short = 'o', value_name = "DIR")]
    pub out: PathBuf,
    /// How often each point is measured [default: 7, as fewer than 6 leave an interval open]
    #[arg(long, value_name = "COUNT", default_value_t = 7, hide_default_value = true, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub rounds: u32,
    /// How long a point is measured
    #[arg(long, short = 'd', value_name = "TIME", default_value = "3s", value_parser = parse_duration)]
    pub duration: Duration,
    /// Load before that: so long at least, and until the pace no longer changes
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = parse_duration)]
    pub warm_up: Duration,
    /// So long at most, and then the point is doubted; the same as --warm-up for a fixed time [default: ten times --warm-up]
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub warm_up_max: Option<Duration>,
    /// What the order of each round is drawn from
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    pub seed: u64,
    /// Cores for servers, as in 0,2,4-7 [default: the first ones, as many as there are loops]
    #[arg(long, value_name = "LIST")]
    pub server_cores: Option<CoreList>,
    /// Cores for the generator and servers behind proxies [default: the others, or all when none is left]
    #[arg(long, value_name = "LIST")]
    pub load_cores: Option<CoreList>,
    /// Loops of the generator [default: one for each of its cores]
    #[arg(long, value_name = "COUNT")]
    pub load_loops: Option<u64>,
    /// The generator's binary [default: beside this program, or on the path]
    #[arg(long, value_name = "PATH")]
    pub load: Option<PathBuf>,
    /// Flags for the generator at every point, as in '--pipeline 4'
    #[arg(long, value_name = "FLAGS", allow_hyphen_values = true)]
    pub load_flags: Option<String>,
    /// Congestion control of the host while the sweep runs, or `host` to keep it [default: cubic, as bbr paces even on
    /// loopback]
    #[arg(
        long,
        value_name = "NAME",
        default_value = "cubic",
        hide_default_value = true
    )]
    pub congestion: String,
    /// The port of servers [default: a free one each time]
    #[arg(long, value_name = "PORT")]
    pub port: Option<u16>,
    /// Whether system calls are counted, in two more loads of a second each in the first round of each setup [default: auto, where perf
    /// or strace may]
    #[arg(
        long,
        value_name = "WHETHER",
        value_enum,
        default_value = "auto",
        hide_default_value = true
    )]
    pub syscalls: SyscallsArg,
    /// Tell what would be measured, and how long it takes
    #[arg(long)]
    pub dry_run: bool,
}

/// Whether system calls are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SyscallsArg {
    /// Where perf or strace may.
    Auto,
    /// Never.
    Off,
}

/// A ready-made sweep.
#[derive(Debug, Args)]
pub struct StudyArgs {
    /// Which
    #[arg(value_enum)]
    pub which: Study,
    /// How it is run.
    #[command(flatten)]
    pub how: HowArgs,
}

/// The ready-made sweeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Study {
    /// Ways to spread connections over loops under uneven work: how unevenly requests wait
    Distribution,
    /// Ways to spread connections over loops: how evenly the loops are loaded
    Evenness,
    /// Echo and proxy beside those of others
    Peers,
    /// Cost per request from few connections to many
    Connections,
    /// What another loop buys
    Loops,
}

/// A report.
#[derive(Debug, Args)]
pub struct ReportArgs {
    /// The directory of a result
    pub result: PathBuf,
}

/// A comparison.
#[derive(Debug, Args)]
pub struct CompareArgs {
    /// The directory of the older result
    pub old: PathBuf,
    /// The directory of the newer one
    pub new: PathBuf,
    /// Fail (exit code 4) when a point costs significantly more than so many percent more
    #[arg(long, value_name = "PERCENT", value_parser = percent)]
    pub fail_above: Option<f64>,
}

/// A simulation.
#[derive(Debug, Args)]
pub struct SimulateArgs {
    /// The share of time that loops are busy
    #[arg(long, default_value_t = 0.6, value_parser = share)]
    pub utilisation: f64,
    /// Connections for each loop
    #[arg(long, default_value_t = 16, value_parser = connections)]
    pub connections_per_loop: usize,
    /// One request in ten takes so many times as long as the others
    #[arg(long, default_value_t = 1.0)]
    pub unevenness: f64,
    /// Where everything random begins
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

/// Strictly between 0 and 1: a queue under full load grows for ever.
fn share(text: &str) -> Result<f64, String> {
    let share: f64 = text.parse().map_err(|_| "no number".to_owned())?;
    if share > 0.0 && share < 1.0 {
        Ok(share)
    } else {
        Err("loops are busy for a share of their time between 0 and 1".to_owned())
    }
}

/// A limit: not below nothing, and a number.
fn percent(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(percent) if percent >= 0.0 && percent.is_finite() => Ok(percent),
        _ => Err("a number of percent, 0 or more".to_owned()),
    }
}

fn connections(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(count @ 1..=100_000) => Ok(count),
        _ => Err("a whole number from 1 to 100000".to_owned()),
    }
}

const EXAMPLES: &str = "\
Examples:
  polyloop-curve run --sweep loops=1,2 --sweep connections=64..1k --out result
  polyloop-curve run -s polyloop-proxy -s haproxy -s nginx-stream --sweep connections=64,1k --out proxies
  polyloop-curve run --sweep rate=5k,10k,20k,40k --sweep connections=64 --out hockey-stick
  polyloop-curve study distribution --out distribution
  polyloop-curve compare before after --fail-above 3

Exit codes: 0 done, 1 could not (nothing was measured, a file could not be written), 2 wrong usage, 3 some points failed,
4 worse than --fail-above; 130 interrupted: the same command goes on.";

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        // Goal: no flag clashes with another, and axes are read. Method: clap's own check, and one line.
        Cli::command().debug_assert();
        let line = "polyloop-curve run --sweep loops=1,2 --out x --load-flags --pipeline=4";
        let cli = Cli::try_parse_from(line.split(' ')).unwrap();
        let Command::Run(run) = cli.command else {
            panic!("another command");
        };
        assert_eq!(run.sweep[0].values, ["1", "2"]);
        assert_eq!((run.how.rounds, run.how.duration.as_secs()), (7, 3));
        assert!(
            Cli::try_parse_from(["polyloop-curve", "run", "--sweep", "loops=0", "--out", "x"])
                .is_err()
        );
    }
}
