//! A server behind a proxy whose clients are of two kinds: those who ask are echoed, and those whose first byte is
//! [`FLOOD`] are sent bytes without end, whether or not they read.
//!
//! The one idea: everything a flooded client does not take stays here, as the kernel takes no more; so what a proxy between
//! the two holds is what it chose to hold. The sockets of this side have little room, so that 8,000 of them do not use up the
//! memory that the system has for sockets.
//!
//! Deliberately absent: checking what is sent (nobody reads it), limits, surviving anything but a lost connection.

use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;

use anyhow::{Context, Result};
use clap::Parser;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use socket2::{Domain, Socket, Type};

use polyloop_benches::flood::{FLOOD, SEGMENT_BYTES, SEND_BUFFER_BYTES};

/// An echo that floods those who ask for it.
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
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Has not said anything.
    New,
    Echo,
    Flood,
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
    let flood = vec![FLOOD; 64 * 1024];
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
            if !serve(connection, &mut buffer, &flood) {
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
    // Both are handed on to what is accepted.
    socket.set_send_buffer_size(SEND_BUFFER_BYTES)?;
    socket.set_tcp_mss(SEGMENT_BYTES)?;
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
                eprintln!("flood: accept: {error}");
                return;
            }
        };
        let index = free.pop().unwrap_or_else(|| {
            connections.push(None);
            connections.len() - 1
        });
        let both = Interest::READABLE | Interest::WRITABLE;
        let registered = stream
            .set_nodelay(true)
            .and_then(|()| poll.registry().register(&mut stream, Token(index), both));
        if registered.is_ok() {
            let kind = Kind::New;
            connections[index] = Some(Connection { stream, kind });
        } else {
            free.push(index);
        }
    }
}

/// Serves one event. Answers whether the connection lives on.
fn serve(connection: &mut Connection, buffer: &mut [u8], flood: &[u8]) -> bool {
    loop {
        let count = match connection.stream.read(buffer) {
            Ok(0) => return false,
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(_) => return false,
        };
        if connection.kind == Kind::New {
            let asks = buffer.first() == Some(&FLOOD);
            connection.kind = if asks { Kind::Flood } else { Kind::Echo };
        }
        // Whoever is echoed has one small message under way, for which there is always room.
        let is_echo = connection.kind == Kind::Echo;
        if is_echo && connection.stream.write_all(&buffer[..count]).is_err() {
            return false;
        }
    }
    connection.kind != Kind::Flood || pour(&mut connection.stream, flood)
}

/// Sends until nobody takes any more; the poll tells when somebody does.
fn pour(stream: &mut TcpStream, flood: &[u8]) -> bool {
    loop {
        match stream.write(flood) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return false,
        }
    }
}

const LISTENER: Token = Token(usize::MAX - 1);
