//! The `polyloop` binary.
//!
//! ```text
//!   args (what was typed) -> settings (checked, complete) -> serve -> exit code
//!                                                              |
//!       startup (first words)   report (lines, dump)   echo + admin (connections)   logging (never waits)
//!
//!   proxy: the same for `polyloop proxy`, with a file of settings beside the flags, and `polyloop check` for the file
//! ```
//!
//! Exit codes: 0 every connection ended by itself, 1 the server could not start or a loop died, 2 the command line is
//! wrong, 3 connections were cut (at the drain's deadline, or by a second signal).

mod admin;
mod args;
mod echo;
mod exit;
mod logging;
mod metrics;
mod on_core;
mod process;
mod proxy;
mod quantiles;
mod report;
mod serve;
mod settings;
mod startup;

use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};

use args::{Cli, Command};
use exit::Exit;

fn main() -> ExitCode {
    process::note_start();
    let Cli { command } = Cli::parse();
    let args = match command {
        Command::Echo(args) => args,
        Command::Proxy(args) => return proxy::proxy(*args).into(),
        Command::Check(args) => return proxy::check(args).into(),
    };
    match settings::resolve(*args) {
        Ok(settings) => serve::serve(settings).into(),
        Err(error) => {
            let mut command = Cli::command();
            command.build();
            // In the same form as the mistakes that the parser finds itself, with the usage of the subcommand.
            let echo = command.find_subcommand_mut("echo");
            if let Some(error) = echo.map(|echo| echo.error(ErrorKind::ArgumentConflict, error)) {
                // A closed standard error changes nothing about the exit code.
                let _ = error.print();
            }
            Exit::Usage.into()
        }
    }
}
