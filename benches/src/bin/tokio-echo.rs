//! An echo server as a tokio user writes it: the framework most people would otherwise take.
//!
//! The one idea: no tricks for and none against. One task per connection, a buffer each, `read` and `write_all`; one
//! thread by default, `--threads` of more than one for the work-stealing runtime.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use clap::Parser;
use polyloop_benches::tokio_anchor::{listen, runtime};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// The usual tokio echo server.
#[derive(Parser)]
struct Args {
    /// Address to listen on; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Core to run on, all threads of it; unpinned without it.
    #[arg(long)]
    core: Option<usize>,
    /// Threads: one is the current-thread runtime, more are workers of the work-stealing one.
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Bytes of each connection's buffer.
    #[arg(long, default_value_t = 4096)]
    buffer_bytes: usize,
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
        tokio::spawn(serve(listener, args.buffer_bytes)).await?;
        Ok(())
    })
}

async fn serve(listener: TcpListener, buffer_bytes: usize) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                tokio::spawn(echo(stream, buffer_bytes));
            }
            Err(error) => {
                eprintln!("tokio-echo: accept: {error}");
                tokio::task::yield_now().await;
            }
        }
    }
}

async fn echo(mut stream: TcpStream, buffer_bytes: usize) {
    if stream.set_nodelay(true).is_err() {
        return;
    }
    let mut buffer = vec![0; buffer_bytes];
    while let Ok(count @ 1..) = stream.read(&mut buffer).await {
        if stream.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}
