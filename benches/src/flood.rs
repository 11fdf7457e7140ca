//! Clients who ask for bytes without end and never read one.
//!
//! The one idea: what they do not take has to be held by somebody, and the kernel is told to hold little: small windows on
//! their side, small segments (a send buffer grows with them) and a small send buffer at the source. What is left is between
//! the proxy's promise and the proxy.

use std::fs;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};

use anyhow::{Context, Result};
use rustix::param::page_size;
use socket2::{Domain, Protocol, Socket, Type};

/// The first byte of a client who wants to be flooded.
pub const FLOOD: u8 = b'F';

/// Room of a socket of the source.
pub const SEND_BUFFER_BYTES: usize = 4 * 1024;

/// Bytes of a segment. The kernel gives a send buffer room for twenty segments from the start, and one of loopback is 64 KiB.
pub const SEGMENT_BYTES: u32 = 1_400;

/// Opens `count` connections that have room for next to nothing.
///
/// # Errors
/// When one of them cannot be opened.
pub fn open_mute(target: SocketAddr, count: usize) -> Result<Vec<TcpStream>> {
    let open =
        |index| open_one(target).with_context(|| format!("mute client {} of {count}", index + 1));
    (0..count).map(open).collect()
}

/// Asks for the flood on all of them.
///
/// # Errors
/// When one of them has been closed.
pub fn ask_for_flood(streams: &[TcpStream]) -> Result<()> {
    for mut stream in streams {
        stream
            .write_all(&[FLOOD])
            .context("a mute client was cut")?;
    }
    Ok(())
}

fn open_one(target: SocketAddr) -> Result<TcpStream> {
    let domain = Domain::for_address(target);
    let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))
        .context("no socket; is the limit of open files (ulimit -n) too low?")?;
    socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES)?;
    socket.set_tcp_mss(SEGMENT_BYTES)?;
    socket.connect(&target.into())?;
    Ok(socket.into())
}

/// What the kernel holds for all TCP sockets, and from when on that is too much for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TcpMemory {
    /// Held now.
    pub used_bytes: u64,
    /// Above this the kernel takes memory back; not told in every network namespace, though it holds for all.
    pub pressure_bytes: Option<u64>,
}

impl TcpMemory {
    /// Reads both now.
    ///
    /// # Errors
    /// When `/proc` is not mounted or says something else.
    pub fn read() -> Result<Self> {
        let path = "/proc/net/sockstat";
        let sockets = fs::read_to_string(path).with_context(|| path.to_owned())?;
        let limits = fs::read_to_string("/proc/sys/net/ipv4/tcp_mem").unwrap_or_default();
        Self::parse(&sockets, &limits, page_size() as u64)
            .with_context(|| format!("{path} says nothing of the memory of TCP"))
    }

    fn parse(sockets: &str, limits: &str, page_bytes: u64) -> Option<Self> {
        let bytes = |pages: &str| Some(pages.parse::<u64>().ok()? * page_bytes);
        let tcp = sockets.lines().find_map(|line| line.strip_prefix("TCP:"))?;
        let (_, used) = tcp.split_once(" mem ")?;
        Some(Self {
            used_bytes: bytes(used.split_whitespace().next()?)?,
            pressure_bytes: limits.split_whitespace().nth(1).and_then(bytes),
        })
    }

    /// Whether the kernel takes memory back from sockets.
    #[must_use]
    pub fn is_under_pressure(&self) -> bool {
        self.pressure_bytes
            .is_some_and(|pressure_bytes| self.used_bytes >= pressure_bytes)
    }
}

const RECEIVE_BUFFER_BYTES: usize = 4 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_of_sockets_is_counted_in_pages() {
        // Goal: the figure of TCP is taken, and the middle one of the limits; by a text of the kernel's.
        let sockets =
            "sockets: used 291\nTCP: inuse 2 orphan 0 tw 4 alloc 6 mem 30\nUDP: inuse 1 mem 7\n";
        let memory = TcpMemory::parse(sockets, "10\t30\t60\n", 4096).unwrap();
        assert_eq!(memory.used_bytes, 30 * 4096);
        assert!(memory.is_under_pressure());
        assert!(
            !TcpMemory::parse(sockets, "10 31 60", 4096)
                .unwrap()
                .is_under_pressure()
        );
        let untold = TcpMemory::parse(sockets, "", 4096).unwrap();
        assert!(!untold.is_under_pressure());
        assert_eq!(TcpMemory::parse("UDP: mem 7", "10 30 60", 4096), None);
    }

    #[test]
    fn who_asks_is_flooded_and_reads_nothing() {
        // Goal: a mute client asks once and holds little. Method: a listener that sends until nobody takes any more.
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mute = open_mute(listener.local_addr().unwrap(), 1).unwrap();
        ask_for_flood(&mute).unwrap();
        let (mut stream, _) = listener.accept().unwrap();
        let mut first = [0];
        std::io::Read::read_exact(&mut stream, &mut first).unwrap();
        assert_eq!(first, [FLOOD]);
        stream.set_nonblocking(true).unwrap();
        let mut sent = 0;
        while let Ok(count) = stream.write(&[FLOOD; 4096]) {
            sent += count;
        }
        assert!(sent < 1 << 20, "{sent} bytes were taken");
    }
}
