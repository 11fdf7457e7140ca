//! The other end of a bulk stream: takes everything, checks every byte, and says at the end what arrived.
//!
//! The one idea: as little as a receiver can do, so that what is measured is the proxy before it. One thread per stream,
//! blocking reads. See `polyloop_benches::bulk` for what is on the wire.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread;

use anyhow::{Context, Result};
use clap::Parser;

use polyloop_benches::bulk::{Pattern, drain};

/// A sink of bulk streams that checks every byte.
#[derive(Parser)]
struct Args {
    /// Address to listen on; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Core to run on; unpinned without it.
    #[arg(long)]
    core: Option<usize>,
}

fn main() -> Result<()> {
    let args = Args::parse();
    polyloop_benches::load::pin(args.core)?;
    let listener = TcpListener::bind(args.listen)
        .with_context(|| format!("cannot listen on {}", args.listen))?;
    println!("listening on {}", listener.local_addr()?);
    let pattern = Arc::new(Pattern::new());
    loop {
        let (stream, _) = listener.accept().context("accept")?;
        let pattern = Arc::clone(&pattern);
        // Threads inherit the core. A stream without a number is a question whether anybody is there.
        thread::spawn(move || {
            if let Err(error) = drain(stream, &pattern) {
                eprintln!("bulk-sink: {error:#}");
            }
        });
    }
}
