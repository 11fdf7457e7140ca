//! Checks of this repository, as `cargo xtask <verb>`.
//!
//! One idea: every rule a machine can check is checked here and nowhere else, so that review is left with questions
//! of taste. `tidy` reads the tree and judges it; `ci` runs every other check, times it and goes on after a failure,
//! so that one run tells everything that is wrong. `prove-load` is apart from both, as it takes the machine for a quarter of
//! an hour: it builds the load generator and its proof, and runs that. So is `bench-gate`, for some minutes: it measures an
//! echo beside the bare loop and holds the ratio against the committed one.
//!
//! Deliberately absent: the tests. `.ci/run` calls the README's test command first, exactly as a newcomer would.

mod ci;
mod gate;
mod prove;
mod tidy;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};

const USAGE: &str = "\
usage: cargo xtask <verb>

  tidy               judge the tree against the rules of docs/TESTING.md
  ci                 run every check, print a table, fail if one failed
  ci --list          name the steps
  ci --only STEP     run one step (may be given several times)
  prove-load         build polyloop-load and prove on the real clock that it tells the truth
                     [--quick] [--only stop|delays|lag|pairs]; `prove-load --help` names the rest
  bench-gate         measure an echo beside the bare loop; fail on a significant loss of more than 3 % in CPU per
                     request against benches/baseline.toml
                     [--update] writes that file anew, [--strict] also fails when undecided; other flags, such as
                     --rounds 20, are those of `polyloop-bench gate`
";

/// What was typed, and nothing else.
#[derive(Debug, PartialEq, Eq)]
enum Verb {
    Tidy,
    CiList,
    CiRun { only: Vec<String> },
    ProveLoad { arguments: Vec<String> },
    BenchGate { arguments: Vec<String> },
    Help,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let verb = match parse(&arguments) {
        Ok(verb) => verb,
        Err(error) => {
            eprintln!("xtask: {error:#}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match run(verb) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Answers whether everything that was checked is in order.
fn run(verb: Verb) -> Result<bool> {
    let root = repository_root()?;
    match verb {
        Verb::Tidy => tidy::run(&root),
        Verb::CiList => {
            ci::list();
            Ok(true)
        }
        Verb::CiRun { only } => ci::run(&root, &only),
        Verb::ProveLoad { arguments } => prove::run(&root, &arguments),
        Verb::BenchGate { arguments } => gate::run(&root, &arguments),
        Verb::Help => {
            print!("{USAGE}");
            Ok(true)
        }
    }
}

fn parse(arguments: &[String]) -> Result<Verb> {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["tidy"] => Ok(Verb::Tidy),
        ["ci", "--list"] => Ok(Verb::CiList),
        ["ci", rest @ ..] => Ok(Verb::CiRun {
            only: parse_only(rest)?,
        }),
        ["prove-load", rest @ ..] => Ok(Verb::ProveLoad {
            arguments: rest.iter().map(|&word| word.to_owned()).collect(),
        }),
        ["bench-gate", rest @ ..] => Ok(Verb::BenchGate {
            arguments: rest.iter().map(|&word| word.to_owned()).collect(),
        }),
        ["help" | "--help" | "-h"] => Ok(Verb::Help),
        [] => bail!("no verb given"),
        _ => bail!("cannot make sense of `{}`", words.join(" ")),
    }
}

fn parse_only(words: &[&str]) -> Result<Vec<String>> {
    let mut only = Vec::new();
    let mut rest = words;
    while let [flag, after @ ..] = rest {
        if *flag != "--only" {
            bail!("`ci` does not know `{flag}`");
        }
        let [step, after @ ..] = after else {
            bail!("`--only` wants the name of a step; `cargo xtask ci --list` names them");
        };
        only.push((*step).to_owned());
        rest = after;
    }
    Ok(only)
}

/// Two levels above this package's manifest, as Cargo tells it at run time; at build time when started by hand.
fn repository_root() -> Result<PathBuf> {
    let here = std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    here.ancestors()
        .nth(2)
        .map(PathBuf::from)
        .with_context(|| format!("{} lies too high to be tools/xtask", here.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split_whitespace().map(str::to_owned).collect()
    }

    /// Goal: each documented form parses to its verb. Method: the lines of the usage text.
    #[test]
    fn documented_forms_parse() {
        let only = vec!["fmt".to_owned(), "doc".to_owned()];
        assert_eq!(parse(&words("tidy")).unwrap(), Verb::Tidy);
        assert_eq!(parse(&words("ci --list")).unwrap(), Verb::CiList);
        assert_eq!(
            parse(&words("ci")).unwrap(),
            Verb::CiRun { only: Vec::new() }
        );
        assert_eq!(
            parse(&words("ci --only fmt --only doc")).unwrap(),
            Verb::CiRun { only }
        );
        let arguments = words("--quick --only stop");
        assert_eq!(
            parse(&words("prove-load --quick --only stop")).unwrap(),
            Verb::ProveLoad { arguments }
        );
        let arguments = words("--update --rounds 20");
        assert_eq!(
            parse(&words("bench-gate --update --rounds 20")).unwrap(),
            Verb::BenchGate { arguments }
        );
    }

    /// Goal: a slip of the keyboard is told, not guessed at. Method: lines that are nearly right.
    #[test]
    fn near_misses_are_refused() {
        for line in ["", "tidi", "ci --only", "ci fmt", "tidy --fix"] {
            assert!(parse(&words(line)).is_err(), "`{line}` was accepted");
        }
    }
}
