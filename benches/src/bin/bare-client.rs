//! An echo client written by hand on mio, with nothing in it that a closed loop does not need: the lower bound for a load
//! generator.
//!
//! The one idea: what remains when the generator is taken away. One thread, a poll, one shared buffer; a connection sends its
//! message again as soon as the last byte of the answer is there and has been compared. Nothing is timed.
//!
//! Deliberately absent: histograms, plans, deadlines, messages that change from one request to the next, and going on after
//! an error.

use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use polyloop_benches::load::{Connect, PLAIN, fill};

/// The lower bound: a bare mio closed loop. Prints `N requests in S s`.
#[derive(Parser)]
struct Args {
    /// The echo server.
    target: SocketAddr,
    /// Connections, each with one message under way.
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// How long, in seconds.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Size of a message.
    #[arg(long, default_value_t = 64)]
    message_bytes: usize,
    /// Congestion control of the connections; the host's without it.
    #[arg(long)]
    congestion: Option<String>,
}

struct Connection {
    stream: TcpStream,
    /// Bytes of the answer that have come.
    received: usize,
}

fn main() -> Result<()> {
    let args = Args::parse();
    ensure!(args.message_bytes > 0, "a message has at least one byte");
    let mut poll = Poll::new()?;
    let mut connections = connect(&args, &poll)?;
    // Connection i sends the bytes from its message on: each its own, none kept.
    let stride = args.message_bytes;
    let mut messages = vec![0; stride * connections.len()];
    for (number, message) in messages.chunks_mut(stride).enumerate() {
        fill(message, PLAIN, u32::try_from(number)?, 0);
    }
    let mut inbox = vec![0; (stride + 1).max(4096)];
    let mut events = Events::with_capacity(1024);
    let mut requests = 0_u64;

    let start = Instant::now();
    let length = Duration::try_from_secs_f64(args.seconds)?;
    for (connection, message) in connections.iter_mut().zip(messages.chunks(stride)) {
        send(connection, message)?;
    }
    while start.elapsed() < length {
        match poll.poll(&mut events, Some(PATIENCE)) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            outcome => outcome?,
        }
        ensure!(!events.is_empty(), "no answer within {PATIENCE:?}");
        for event in &events {
            let index = event.token().0;
            let message = &messages[index * stride..][..stride];
            let connection = &mut connections[index];
            if receive(connection, message, &mut inbox)? {
                requests += 1;
                send(connection, message)?;
            }
        }
    }
    println!(
        "{requests} requests in {:.6} s",
        start.elapsed().as_secs_f64()
    );
    Ok(())
}

fn connect(args: &Args, poll: &Poll) -> Result<Vec<Connection>> {
    let connect = Connect {
        target: args.target,
        count: args.connections,
        congestion: args.congestion.clone(),
        per_second: None,
    };
    let mut connections = Vec::with_capacity(args.connections);
    for (index, stream) in connect.open()?.into_iter().enumerate() {
        stream.set_nonblocking(true)?;
        let mut stream = TcpStream::from_std(stream);
        poll.registry()
            .register(&mut stream, Token(index), Interest::READABLE)?;
        connections.push(Connection {
            stream,
            received: 0,
        });
    }
    Ok(connections)
}

fn send(connection: &mut Connection, message: &[u8]) -> Result<()> {
    connection.received = 0;
    let sent = connection.stream.write(message).context("a send")?;
    ensure!(sent == message.len(), "the socket did not take a message");
    Ok(())
}

/// Answers whether the whole answer is there.
fn receive(connection: &mut Connection, message: &[u8], inbox: &mut [u8]) -> Result<bool> {
    loop {
        let count = match connection.stream.read(inbox) {
            Ok(0) => bail!("the server closed a connection"),
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(error).context("a read"),
        };
        let expected = &message[connection.received..];
        ensure!(
            expected.starts_with(&inbox[..count]),
            "an answer differs from its message"
        );
        connection.received += count;
        // A read that did not fill the buffer has emptied the socket.
        if connection.received == message.len() || count < inbox.len() {
            return Ok(connection.received == message.len());
        }
    }
}

/// A server that answers nothing for so long is gone.
const PATIENCE: Duration = Duration::from_secs(10);
