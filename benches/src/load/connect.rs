//! Opening many connections from one machine.
//!
//! The one idea: connecting is not what is measured, so it is done with plain blocking calls, in order, and either all connections
//! stand at the end or there is an error with a count.
//!
//! A source address has about 64 thousand ports for one destination, and the kernel's search for a free one slows down
//! when half are taken. Past [`PER_SOURCE_MAX`] connections the sources therefore walk through `127.0.0.0/8`. The bind
//! to such a source reserves the port at once instead of at connect (`IP_BIND_ADDRESS_NO_PORT` has no safe wrapper);
//! as long as each source is used for one destination only, both hold the same number of connections. Loads that are open at once
//! share their sources, so beyond [`PER_SOURCE_MAX`] connections each, all of them together have the ports of one.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use socket2::{Domain, Protocol, Socket, Type};

/// Connections that share one source address.
pub const PER_SOURCE_MAX: usize = 20_000;

/// Which connections to open.
#[derive(Debug, Clone)]
pub struct Connect {
    /// Where to.
    pub target: SocketAddr,
    /// How many.
    pub count: usize,
    /// Congestion control of our side, such as `cubic`; `None` keeps the host's.
    pub congestion: Option<String>,
    /// The ramp: connections opened per second, or `None` for as fast as the server takes them.
    pub per_second: Option<u32>,
}

impl Connect {
    /// Opens all connections.
    ///
    /// # Errors
    /// When one of them cannot be opened; those opened before are closed again.
    pub fn open(&self) -> Result<Vec<TcpStream>> {
        self.open_each(0..self.count)
    }

    /// Opens some of all connections, each in its time of the ramp of all.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_each(
        &self,
        indices: impl ExactSizeIterator<Item = usize>,
    ) -> Result<Vec<TcpStream>> {
        let start = Instant::now();
        let mut streams = Vec::with_capacity(indices.len());
        for index in indices {
            if let Some(per_second) = self.per_second {
                let due = Duration::from_secs_f64(index as f64 / f64::from(per_second.max(1)));
                thread::sleep(due.saturating_sub(start.elapsed()));
            }
            let stream = self.open_one(index).with_context(|| {
                format!(
                    "connection {} of {} to {} could not be opened",
                    index + 1,
                    self.count,
                    self.target
                )
            })?;
            streams.push(stream);
        }
        Ok(streams)
    }

    fn open_one(&self, index: usize) -> Result<TcpStream> {
        let socket = Socket::new(
            Domain::for_address(self.target),
            Type::STREAM,
            Some(Protocol::TCP),
        )
        .context("no socket; is the limit of open files (ulimit -n) too low?")?;
        socket.set_tcp_nodelay(true)?;
        if let Some(congestion) = &self.congestion {
            socket
                .set_tcp_congestion(congestion.as_bytes())
                .with_context(|| format!("congestion control `{congestion}` is not available"))?;
        }
        if let Some(source) = source(self.target.ip(), index) {
            socket.bind(&SocketAddr::new(source, 0).into())?;
        }
        socket.connect_timeout(&self.target.into(), CONNECT_TIMEOUT)?;
        Ok(socket.into())
    }
}

/// The source address of connection `index`; `None` leaves the choice to the kernel.
fn source(target: IpAddr, index: usize) -> Option<IpAddr> {
    let block = index / PER_SOURCE_MAX;
    if block == 0 || !matches!(target, IpAddr::V4(target) if target.is_loopback()) {
        return None;
    }
    let [_, high, mid, low] = u32::try_from(block).ok()?.to_be_bytes();
    // 127.1.0.0 upwards: far from 127.0.0.1, where servers listen.
    Some(Ipv4Addr::new(127, high.checked_add(1)?, mid, low).into())
}

/// Long enough for two lost SYNs (resent after 1 s and 3 s), so that only a server that does not accept fails.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(8);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_change_every_twenty_thousand_connections() {
        // Goal: the first block keeps the kernel's choice and later ones get addresses of their own; by the borders.
        let target = IpAddr::V4(Ipv4Addr::LOCALHOST);
        assert_eq!(source(target, PER_SOURCE_MAX - 1), None);
        let second = source(target, PER_SOURCE_MAX).unwrap();
        assert_eq!(second.to_string(), "127.1.0.1");
        assert_eq!(source(target, 2 * PER_SOURCE_MAX - 1), Some(second));
        let third = source(target, 2 * PER_SOURCE_MAX).unwrap();
        assert_eq!(third.to_string(), "127.1.0.2");
        let remote = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
        assert_eq!(source(remote, 3 * PER_SOURCE_MAX), None);
    }
}
