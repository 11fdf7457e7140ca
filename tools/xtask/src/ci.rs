//! `cargo xtask ci`: every check but the tests, each timed, none skipped because another failed.
//!
//! A step is a name, the reason it exists, and one command (or `tidy`, which runs in this process). Profiles are shared
//! on purpose: Clippy, documentation, simulation and examples use the `dev` profile that the tests have just built, and
//! only loom, whose `--cfg` changes every crate, builds into a directory of its own.
//!
//! Deliberately absent: parallel steps. Cargo locks the build directory, and a table of times should mean something.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::tidy;

/// Seeds of a simulation sweep unless `SIM_SEEDS` says otherwise: deeper than what `cargo test` does by itself, and
/// well below a minute at `opt-level = 1`.
const SIM_SEEDS: &str = "1000";

/// Pre-emptions that loom explores per execution: the bugs known from sleep/wake protocols need two, and each one more
/// multiplies the time.
const LOOM_PREEMPTIONS_MAX: &str = "3";

/// One check.
struct Step {
    name: &'static str,
    /// One clause for `--list`.
    about: &'static str,
    act: fn(&Path) -> Result<Outcome>,
}

/// How a check ended.
enum Outcome {
    Passed,
    Failed,
    /// Not a failure: what it needs is not there, and the table says what.
    Skipped(&'static str),
}

const STEPS: [Step; 8] = [
    Step {
        name: "fmt",
        about: "rustfmt has nothing to change",
        act: fmt,
    },
    Step {
        name: "tidy",
        about: "the repository's own rules",
        act: tidy_step,
    },
    Step {
        name: "clippy",
        about: "no lint in any target of any member",
        act: clippy,
    },
    Step {
        name: "doc",
        about: "documentation builds without a warning",
        act: doc,
    },
    Step {
        name: "examples",
        about: "the examples of the documentation build",
        act: examples,
    },
    Step {
        name: "sim",
        about: "simulation over SIM_SEEDS seeds",
        act: sim,
    },
    Step {
        name: "loom",
        about: "all interleavings of bell, inbox and permits",
        act: loom,
    },
    Step {
        name: "deny",
        about: "licences, sources and duplicates of dependencies",
        act: deny,
    },
];

/// Prints the names of the steps.
pub(crate) fn list() {
    for step in &STEPS {
        println!("{:<10}{}", step.name, step.about);
    }
}

/// Runs the steps named in `only`, or all; answers whether none failed.
///
/// # Errors
/// If `only` names a step that does not exist. A step that cannot be started counts as failed.
pub(crate) fn run(root: &Path, only: &[String]) -> Result<bool> {
    for name in only {
        if !STEPS.iter().any(|step| step.name == name) {
            bail!("there is no step `{name}`; `cargo xtask ci --list` names them");
        }
    }
    let mut rows = Vec::new();
    let chosen = |step: &&Step| only.is_empty() || only.iter().any(|name| name == step.name);
    for step in STEPS.iter().filter(chosen) {
        println!("==> {}: {}", step.name, step.about);
        let start = Instant::now();
        let outcome = (step.act)(root).unwrap_or_else(|error| {
            eprintln!("xtask: {}: {error:#}", step.name);
            Outcome::Failed
        });
        rows.push(Row {
            name: step.name,
            outcome,
            took: start.elapsed(),
        });
    }
    print!("\n{}", table(&rows));
    Ok(!rows
        .iter()
        .any(|row| matches!(row.outcome, Outcome::Failed)))
}

/// A line of the summary.
struct Row {
    name: &'static str,
    outcome: Outcome,
    took: Duration,
}

fn table(rows: &[Row]) -> String {
    let mut text = format!("{:<10}{:>8}  result\n", "step", "seconds");
    for row in rows {
        let result = match row.outcome {
            Outcome::Passed => "ok".to_owned(),
            Outcome::Failed => "FAILED".to_owned(),
            Outcome::Skipped(why) => format!("skipped: {why}"),
        };
        text.push_str(&format!(
            "{:<10}{:>8.1}  {result}\n",
            row.name,
            row.took.as_secs_f64()
        ));
    }
    text
}

fn fmt(root: &Path) -> Result<Outcome> {
    outcome_of(cargo_at(root).args(["fmt", "--all", "--check"]))
}

fn tidy_step(root: &Path) -> Result<Outcome> {
    Ok(if tidy::run(root)? {
        Outcome::Passed
    } else {
        Outcome::Failed
    })
}

fn clippy(root: &Path) -> Result<Outcome> {
    let words = [
        "clippy",
        "--workspace",
        "--all-targets",
        "--locked",
        "--",
        "-D",
        "warnings",
    ];
    outcome_of(cargo_at(root).args(words))
}

fn doc(root: &Path) -> Result<Outcome> {
    outcome_of(
        cargo_at(root)
            .args(["doc", "--workspace", "--no-deps", "--locked"])
            .env("RUSTDOCFLAGS", "-D warnings"),
    )
}

fn examples(root: &Path) -> Result<Outcome> {
    outcome_of(cargo_at(root).args(["build", "--workspace", "--examples", "--locked"]))
}

/// In the `dev` profile: every `debug_assert!` stays on, and nothing is built a second time.
fn sim(root: &Path) -> Result<Outcome> {
    let seeds = env::var_os("SIM_SEEDS").unwrap_or_else(|| SIM_SEEDS.into());
    outcome_of(
        cargo_at(root)
            .args(["test", "--package", "polyloop-sim", "--locked"])
            .env("SIM_SEEDS", seeds),
    )
}

/// In the `release` profile, as loom replays the same code many thousand times, but without the link-time optimisation
/// that would take longer than it saves.
fn loom(root: &Path) -> Result<Outcome> {
    let mut flags = env::var("RUSTFLAGS").unwrap_or_default();
    flags.push_str(" --cfg loom");
    let preemptions =
        env::var_os("LOOM_MAX_PREEMPTIONS").unwrap_or_else(|| LOOM_PREEMPTIONS_MAX.into());
    let words = [
        "test",
        "--package",
        "polyloop",
        "--release",
        "--locked",
        "--lib",
    ];
    outcome_of(
        cargo_at(root)
            .args(words)
            .env("RUSTFLAGS", flags.trim_start())
            .env("LOOM_MAX_PREEMPTIONS", preemptions)
            .env("CARGO_TARGET_DIR", target_directory(root).join("loom"))
            .env("CARGO_PROFILE_RELEASE_LTO", "off")
            .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16"),
    )
}

/// Advisories are left out: their list lives in a Git repository, and a check must not depend on fetching one.
fn deny(root: &Path) -> Result<Outcome> {
    let probe = cargo_at(root).args(["deny", "--version"]).output();
    if !probe.is_ok_and(|output| output.status.success()) {
        return Ok(Outcome::Skipped("cargo-deny is not installed"));
    }
    let words = [
        "deny",
        "--locked",
        "check",
        "--config",
        ".deny.toml",
        "bans",
        "licenses",
        "sources",
    ];
    outcome_of(cargo_at(root).args(words))
}

/// The Cargo that started us, so that a chosen toolchain stays chosen.
pub(crate) fn cargo() -> OsString {
    env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

pub(crate) fn cargo_at(root: &Path) -> Command {
    let mut command = Command::new(cargo());
    command.current_dir(root);
    command
}

pub(crate) fn target_directory(root: &Path) -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), |named| root.join(named))
}

/// Builds what is to be measured; answers whether all of it could be. Each of `builds` is the words of one call.
pub(crate) fn build_release(root: &Path, builds: &[&[&str]]) -> Result<bool> {
    for words in builds {
        let mut cargo = cargo_at(root);
        cargo.args(["build", "--release", "--locked"]).args(*words);
        let status = cargo
            .status()
            .with_context(|| format!("cannot start {cargo:?}"))?;
        if !status.success() {
            return Ok(false);
        }
    }
    Ok(true)
}

fn outcome_of(command: &mut Command) -> Result<Outcome> {
    let status = command
        .status()
        .with_context(|| format!("cannot start {command:?}"))?;
    Ok(if status.success() {
        Outcome::Passed
    } else {
        Outcome::Failed
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: the table tells all three endings. Method: one row of each.
    #[test]
    fn the_table_tells_each_ending() {
        let row = |name, outcome| Row {
            name,
            outcome,
            took: Duration::from_millis(1540),
        };
        let text = table(&[
            row("fmt", Outcome::Passed),
            row("doc", Outcome::Failed),
            row("deny", Outcome::Skipped("not installed")),
        ]);
        let lines: Vec<&str> = text.lines().skip(1).collect();
        assert_eq!(lines[0], "fmt            1.5  ok");
        assert_eq!(lines[1], "doc            1.5  FAILED");
        assert_eq!(lines[2], "deny           1.5  skipped: not installed");
    }

    /// Goal: a step that does not exist is refused before anything runs. Method: a misspelled name.
    #[test]
    fn an_unknown_step_is_refused() {
        assert!(run(Path::new("."), &["clipy".to_owned()]).is_err());
    }
}
