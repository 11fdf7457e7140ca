//! `cargo xtask bench-gate`: builds the servers and the curves, measures, and asks for a verdict.
//!
//! What is measured and what a loss is, `polyloop-curve` knows (`study gate`, then `gate`), so that this one goes on knowing
//! nothing about the product. Each start measures anew: a sweep would otherwise go on with the points of code that is no
//! longer there.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::ci::{build_release, target_directory};

/// Answers whether the gate is passed, or undecided without `--strict`; `arguments` are those of the two commands.
///
/// # Errors
/// If something cannot be built or started.
pub(crate) fn run(root: &Path, arguments: &[String]) -> Result<bool> {
    if !build_release(root, &BUILDS)? {
        return Ok(false);
    }
    let target = target_directory(root);
    let curve = target.join("release/polyloop-curve");
    let result = target.join("bench-gate");
    if let Err(error) = fs::remove_dir_all(&result)
        && error.kind() != ErrorKind::NotFound
    {
        return Err(error).with_context(|| format!("{} cannot be removed", result.display()));
    }
    let (judge_flags, study_flags) = split(arguments);
    let mut study = Command::new(&curve);
    // Counting system calls is no part of the verdict.
    study
        .args(["study", "gate", "--syscalls", "off", "--out"])
        .arg(&result);
    if !study_flags.iter().any(|flag| flag.starts_with("--rounds")) {
        study.args(["--rounds", ROUNDS]);
    }
    study.args(&study_flags);
    // Where some points failed the others are judged; where too many did, there is no verdict and no pass.
    if !matches!(code_of(&mut study, root)?, DONE | PARTLY) {
        return Ok(false);
    }
    let mut judge = Command::new(&curve);
    judge.arg("gate").arg(&result);
    judge
        .arg("--baseline")
        .arg(root.join("benches/baseline.toml"));
    judge.args(&judge_flags);
    Ok(code_of(&mut judge, root)? == DONE)
}

/// The flags of the verdict, and those of the measurement.
fn split(arguments: &[String]) -> (Vec<&str>, Vec<&str>) {
    let words = arguments.iter().map(String::as_str);
    words.partition(|word| matches!(*word, "--update" | "--strict"))
}

/// How it ended; a signal is told as the shell tells it, as no code of ours.
fn code_of(command: &mut Command, root: &Path) -> Result<i32> {
    let status = command
        .current_dir(root)
        .status()
        .with_context(|| format!("cannot start {command:?}"))?;
    Ok(status.code().unwrap_or(SIGNALLED))
}

const BUILDS: [&[&str]; 2] = [
    &[
        "--package",
        "polyloop-server",
        "--package",
        "polyloop-load",
        "--package",
        "polyloop-curve",
    ],
    &["--package", "polyloop-benches", "--bin", "bare-mio"],
];

/// Enough for an interval of some percent on a quiet host, in four minutes.
const ROUNDS: &str = "12";

const DONE: i32 = 0;
const PARTLY: i32 = 3;
const SIGNALLED: i32 = 128;

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: each command is given its own flags. Method: a line with flags of both.
    #[test]
    fn flags_go_to_the_command_that_knows_them() {
        let line = ["--rounds", "20", "--update", "--duration", "5s", "--strict"];
        let line = line.map(str::to_owned);
        let (judge, study) = split(&line);
        assert_eq!(judge, ["--update", "--strict"]);
        assert_eq!(study, ["--rounds", "20", "--duration", "5s"]);
    }
}
