//! An echo server written by hand on mio, with nothing in it that an echo does not need: the lower bound.
//!
//! The one idea: what remains when the framework is taken away. One thread, a `Vec` of connections, one shared buffer;
//! an event is one read and one write. A read that does not fill the buffer has emptied the socket, so nothing is read
//! again just to be told so.
//!
//! Deliberately absent: timers, limits, statistics, back-pressure beyond one connection's unsent bytes, and surviving
//! anything but a lost connection.

use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;

use anyhow::{Context, Result};
use clap::Parser;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use socket2::{Domain, Socket, Type};

/// The lower bound: a bare mio echo loop.
#[derive(Parser)]
struct Args {
    /// Address to listen on; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Core to run on; unpinned without it.
    #[arg(long)]
    core: Option<usize>,
}

struct Connection {
    stream: TcpStream,
    /// Bytes the socket did not take; empty, and without memory, almost always.
    unsent: Vec<u8>,
}

fn main() -> Result<()> {
    let args = Args::parse();
    polyloop_benches::load::pin(args.core)?;
    let mut listener =
        listen(args.listen).with_context(|| format!("cannot listen on {}", args.listen))?;
    let mut poll = Poll::new()?;
    poll.registry()
        .register(&mut listener, LISTENER, Interest::READABLE)?;
    println!("listening on {}", listener.local_addr()?);

    let mut events = Events::with_capacity(1024);
    let mut connections: Vec<Option<Connection>> = Vec::new();
    let mut free: Vec<usize> = Vec::new();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match poll.poll(&mut events, None) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            outcome => outcome?,
        }
        for event in &events {
            if event.token() == LISTENER {
                accept(&poll, &listener, &mut connections, &mut free);
                continue;
            }
            let index = event.token().0;
            let Some(connection) = &mut connections[index] else {
                continue;
            };
            let closing = event.is_read_closed();
            if !echo(connection, &poll, event.token(), &mut buffer, closing) {
                connections[index] = None;
                free.push(index);
            }
        }
    }
}

fn listen(addr: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    socket.listen(4096)?;
    Ok(TcpListener::from_std(socket.into()))
}

fn accept(
    poll: &Poll,
    listener: &TcpListener,
    connections: &mut Vec<Option<Connection>>,
    free: &mut Vec<usize>,
) {
    loop {
        let mut stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return,
            Err(error) if error.kind() == ErrorKind::ConnectionAborted => continue,
            Err(error) => {
                eprintln!("bare-mio: accept: {error}");
                return;
            }
        };
        let index = free.pop().unwrap_or_else(|| {
            connections.push(None);
            connections.len() - 1
        });
        let registered = stream.set_nodelay(true).and_then(|()| {
            poll.registry()
                .register(&mut stream, Token(index), Interest::READABLE)
        });
        if registered.is_ok() {
            connections[index] = Some(Connection {
                stream,
                unsent: Vec::new(),
            });
        } else {
            free.push(index);
        }
    }
}

/// Serves one event. Answers whether the connection lives on.
fn echo(
    connection: &mut Connection,
    poll: &Poll,
    token: Token,
    buffer: &mut [u8],
    closing: bool,
) -> bool {
    if !connection.unsent.is_empty() && !flush(connection, poll, token) {
        return false;
    }
    // While bytes are unsent nothing is read: the peer has to take its answers first.
    while connection.unsent.is_empty() {
        let count = match connection.stream.read(buffer) {
            Ok(0) => return false,
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(_) => return false,
        };
        let sent = match connection.stream.write(&buffer[..count]) {
            Ok(sent) => sent,
            Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
            Err(_) => return false,
        };
        if sent < count {
            connection.unsent.extend_from_slice(&buffer[sent..count]);
            let both = Interest::READABLE | Interest::WRITABLE;
            // Registering again reports a socket that became writable meanwhile.
            return poll
                .registry()
                .reregister(&mut connection.stream, token, both)
                .is_ok();
        }
        if count < buffer.len() && !closing {
            return true;
        }
    }
    true
}

/// Sends what was left over. Answers whether the connection lives on.
fn flush(connection: &mut Connection, poll: &Poll, token: Token) -> bool {
    while !connection.unsent.is_empty() {
        match connection.stream.write(&connection.unsent) {
            Ok(sent) => drop(connection.unsent.drain(..sent)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return false,
        }
    }
    connection.unsent = Vec::new();
    poll.registry()
        .reregister(&mut connection.stream, token, Interest::READABLE)
        .is_ok()
}

const LISTENER: Token = Token(usize::MAX - 1);
