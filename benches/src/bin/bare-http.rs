//! The least that answers HTTP/1.1 GET requests, for load generators that speak nothing else.
//!
//! The one idea: `wrk` wants HTTP, and a real server would cost more than the generator and set the pace. A request ends at
//! an empty line; each gets the same answer of two bytes. One thread, one shared buffer, one read and one write per event.
//!
//! Deliberately absent: requests with bodies, and answers that the socket does not take at once: a peer that does not read is
//! closed.

use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;

use anyhow::{Context, Result};
use clap::Parser;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};

/// A bare mio loop that answers every HTTP request alike.
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
    /// Bytes of the empty line that have been seen.
    matched: usize,
}

fn main() -> Result<()> {
    let args = Args::parse();
    polyloop_benches::load::pin(args.core)?;
    let mut listener = TcpListener::bind(args.listen)
        .with_context(|| format!("cannot listen on {}", args.listen))?;
    let mut poll = Poll::new()?;
    poll.registry()
        .register(&mut listener, LISTENER, Interest::READABLE)?;
    println!("listening on {}", listener.local_addr()?);

    let mut events = Events::with_capacity(1024);
    let mut connections: Vec<Option<Connection>> = Vec::new();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match poll.poll(&mut events, None) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            outcome => outcome?,
        }
        for event in &events {
            if event.token() == LISTENER {
                accept(&poll, &listener, &mut connections);
                continue;
            }
            let place = &mut connections[event.token().0];
            if let Some(connection) = place
                && !answer(connection, &mut buffer)
            {
                *place = None;
            }
        }
    }
}

fn accept(poll: &Poll, listener: &TcpListener, connections: &mut Vec<Option<Connection>>) {
    loop {
        let mut stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return,
            Err(error) if error.kind() == ErrorKind::ConnectionAborted => continue,
            Err(error) => {
                eprintln!("bare-http: accept: {error}");
                return;
            }
        };
        let free = connections.iter().position(Option::is_none);
        let index = free.unwrap_or_else(|| {
            connections.push(None);
            connections.len() - 1
        });
        let registered = stream.set_nodelay(true).and_then(|()| {
            poll.registry()
                .register(&mut stream, Token(index), Interest::READABLE)
        });
        if registered.is_ok() {
            connections[index] = Some(Connection { stream, matched: 0 });
        }
    }
}

/// Serves one event. Answers whether the connection lives on.
fn answer(connection: &mut Connection, buffer: &mut [u8]) -> bool {
    loop {
        let count = match connection.stream.read(buffer) {
            Ok(0) => return false,
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(_) => return false,
        };
        for _ in 0..requests_in(&buffer[..count], &mut connection.matched) {
            let sent = connection.stream.write(ANSWER);
            if !matches!(sent, Ok(sent) if sent == ANSWER.len()) {
                return false;
            }
        }
        // A read that did not fill the buffer has emptied the socket; an end is told by another event.
        if count < buffer.len() {
            return true;
        }
    }
}

/// Requests that end in `bytes`; `matched` is carried from one read to the next.
fn requests_in(bytes: &[u8], matched: &mut usize) -> usize {
    let mut requests = 0;
    for &byte in bytes {
        *matched = match byte {
            _ if byte == END[*matched] => *matched + 1,
            b'\r' => 1,
            _ => 0,
        };
        if *matched == END.len() {
            *matched = 0;
            requests += 1;
        }
    }
    requests
}

const END: [u8; 4] = *b"\r\n\r\n";

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

const LISTENER: Token = Token(usize::MAX - 1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_wherever_a_read_ends() {
        // Goal: an empty line split over reads is one; by cutting two requests at every place.
        let text = b"GET / HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\n\r\n";
        for cut in 0..=text.len() {
            let mut matched = 0;
            let first = requests_in(&text[..cut], &mut matched);
            let second = requests_in(&text[cut..], &mut matched);
            assert_eq!(first + second, 2, "{cut}");
        }
    }
}
