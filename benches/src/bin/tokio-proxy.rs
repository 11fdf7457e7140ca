//! A TCP proxy as a tokio user writes it: a task per connection, and `copy_bidirectional`.
//!
//! The one idea: no tricks for and none against. The library's own function carries the bytes and the half-closes; what
//! is added is what any proxy needs, to accept, to connect and to switch off Nagle's algorithm on both sides.
//!
//! Deliberately absent: timeouts, limits, retries and a choice of servers.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use clap::Parser;
use polyloop_benches::tokio_anchor::{listen, runtime};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};

/// The usual tokio proxy.
#[derive(Parser)]
struct Args {
    /// Address to listen on; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Address of the server behind.
    #[arg(long)]
    to: SocketAddr,
    /// Core to run on, all threads of it; unpinned without it.
    #[arg(long)]
    core: Option<usize>,
    /// Threads: one is the current-thread runtime, more are workers of the work-stealing one.
    #[arg(long, default_value_t = 1)]
    threads: usize,
}

fn main() -> Result<()> {
    let args = Args::parse();
    // Before the runtime makes its threads, which inherit the core.
    polyloop_benches::load::pin(args.core)?;
    runtime(args.threads)?.block_on(async move {
        let listener =
            listen(args.listen).with_context(|| format!("cannot listen on {}", args.listen))?;
        println!("listening on {}", listener.local_addr()?);
        // A task of its own, so that on several threads accepting is not bound to the thread of `main`.
        tokio::spawn(serve(listener, args.to)).await?;
        Ok(())
    })
}

async fn serve(listener: TcpListener, to: SocketAddr) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                tokio::spawn(carry(stream, to));
            }
            Err(error) => {
                eprintln!("tokio-proxy: accept: {error}");
                tokio::task::yield_now().await;
            }
        }
    }
}

/// One connection. However it ends, both sides are closed with it; its clients see that, and nobody else needs to.
async fn carry(mut client: TcpStream, to: SocketAddr) {
    let mut server = match TcpStream::connect(to).await {
        Ok(server) => server,
        Err(error) => {
            eprintln!("tokio-proxy: {to}: {error}");
            return;
        }
    };
    for stream in [&client, &server] {
        if stream.set_nodelay(true).is_err() {
            return;
        }
    }
    drop(copy_bidirectional(&mut client, &mut server).await);
}
