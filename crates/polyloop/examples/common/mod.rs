//! What the examples' command lines have in common.

use clap::Parser;
use polyloop::{ServerSettings, Status};
use polyloop_core::cores::CoreList;
use polyloop_core::placement::Wish;

/// Where to listen, on how many loops.
#[derive(Debug, Parser)]
pub(crate) struct Args {
    /// The address; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:7000")]
    pub(crate) listen: String,
    /// How many loops.
    #[arg(long)]
    pub(crate) loops: Option<usize>,
    /// The cores to pin them to: 0,2,4-7.
    #[arg(long)]
    pub(crate) cores: Option<CoreList>,
}

impl Args {
    /// The settings: everything else is the default.
    pub(crate) fn settings(&self) -> ServerSettings {
        let wish = Wish {
            loops: self.loops,
            cores: self.cores.clone(),
            ..Wish::default()
        };
        ServerSettings {
            wish,
            ..ServerSettings::default()
        }
    }
}

/// Tells scripts that wait for it where the server listens.
pub(crate) fn print_listeners(status: &Status) {
    for listener in &status.listeners {
        println!("listening on {}", listener.addr);
    }
}
