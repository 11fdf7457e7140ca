//! `polyloop-load`: see the library's documentation.

use std::io::{ErrorKind, Write};
use std::process::ExitCode;

use clap::Parser;
use polyloop_load::args::{Cli, Command};
use polyloop_load::director::{Director, Ending};
use polyloop_load::settings::Settings;

fn main() -> ExitCode {
    let cli = Cli::parse();
    match cli.command {
        Some(Command::Compare(args)) => match args.run() {
            Ok(report) => {
                let text = report.shown(args.format);
                match std::io::stdout().write_all(text.as_bytes()) {
                    // Whoever reads has seen enough, as `head` does.
                    Err(error) if error.kind() != ErrorKind::BrokenPipe => {
                        eprintln!("polyloop-load: the comparison could not be printed: {error}");
                        ExitCode::from(FAILED)
                    }
                    _ => ExitCode::SUCCESS,
                }
            }
            Err(error) => {
                eprintln!("polyloop-load: {error}");
                ExitCode::from(USAGE)
            }
        },
        None => run(&cli),
    }
}

fn run(cli: &Cli) -> ExitCode {
    let settings = match Settings::new(&cli.run) {
        Ok(settings) => settings,
        Err(error) => {
            eprintln!("polyloop-load: {error}");
            return ExitCode::from(USAGE);
        }
    };
    match Director::start(settings).and_then(Director::run) {
        Ok(Ending::Whole) => ExitCode::SUCCESS,
        Ok(Ending::OutputLost) => ExitCode::from(FAILED),
        Ok(Ending::Interrupted) => ExitCode::from(INTERRUPTED),
        Ok(Ending::Doubtful) => ExitCode::from(DOUBTFUL),
        Err(error) => {
            eprintln!("polyloop-load: {error:#}");
            ExitCode::from(FAILED)
        }
    }
}

const FAILED: u8 = 1;
const USAGE: u8 = 2;
const INTERRUPTED: u8 = 3;
const DOUBTFUL: u8 = 4;
