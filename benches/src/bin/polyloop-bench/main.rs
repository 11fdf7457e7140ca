//! `polyloop-bench`: every performance claim of polyloop as one command each.
//!
//! The one idea: a subcommand is a question ("what does an echo cost beside a bare loop?"). It starts the servers it
//! compares, interleaves them, prints a table with ratios and intervals, and writes a JSON file that holds all of it.
//!
//! Exit code 0: measured. 1: could not be measured. 2: wrong usage. 3: measured, doubtful, and `--strict` was given. 4: the gate
//! found a loss.

mod args;
mod balance;
mod capacity;
mod echo_cost;
mod gate;
mod idle;
mod interference;
mod loops;
mod proxy;
mod session;
mod syscalls;

use std::process::ExitCode;

use clap::Parser;

use args::{Args, Question};

fn main() -> ExitCode {
    let args = Args::parse();
    match run(args) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("polyloop-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Answers the exit code.
fn run(args: Args) -> anyhow::Result<u8> {
    polyloop_measure::host::clean_up_on_signals()?;
    polyloop_measure::host::raise_open_files()?;
    let common = args.common;
    let is_strict = common.strict;
    let has_warnings = match args.question {
        Question::Gate(question) => return gate::run(common, &question),
        Question::EchoCost(question) => echo_cost::run(common, question),
        Question::EchoSyscalls(question) => syscalls::run(common, question),
        Question::Loops(question) => loops::run(common, question),
        Question::Balance(question) => balance::run(common, question),
        Question::Stall(question) => interference::run_stall(common, question),
        Question::Offload(question) => interference::run_offload(common, question),
        Question::Idle(question) => idle::run(common, question),
        Question::LoadCapacity(question) => capacity::run(common, question),
        Question::ProxyCost(question) => proxy::cost::run(common, question),
        Question::ProxyBulk(question) => proxy::bulk::run(common, question),
        Question::ProxyConnect(question) => proxy::connect::run(common, question),
        Question::ProxyMemory(question) => proxy::memory::run(common, question),
        Question::ProxyNeverReaders(question) => proxy::never_readers::run(common, question),
        Question::ProxyLatency(question) => proxy::latency::run(common, question),
    }?;
    Ok(if has_warnings && is_strict {
        DOUBTFUL
    } else {
        0
    })
}

const DOUBTFUL: u8 = 3;
