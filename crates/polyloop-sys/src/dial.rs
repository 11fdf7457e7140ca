//! How a connection is made: where to, from where, and with which options.
//!
//! Deliberately absent: choosing among addresses, counting ports, retrying.

#![expect(unsafe_code, reason = "IP_BIND_ADDRESS_NO_PORT has no safe wrapper")]

use std::io;
use std::mem::size_of_val;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};

use crate::peer::PeerAddr;

/// Where a connection goes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Remote {
    /// To a TCP port.
    Tcp(SocketAddr),
    /// To the unix socket of this name.
    Unix(Arc<Path>),
}

/// When the kernel asks a silent TCP peer whether it is still there. Whole seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeepAlive {
    /// Silence before the first question.
    pub idle: Duration,
    /// Time between questions.
    pub interval: Duration,
    /// Questions without an answer after which the connection ends with `ETIMEDOUT`.
    pub count: u32,
}

/// Options of a TCP socket that the kernel watches over. The default changes nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Vigilance {
    /// Questions to a silent peer.
    pub keep_alive: Option<KeepAlive>,
    /// Sent bytes may stay unacknowledged, or a window closed, for so long (`TCP_USER_TIMEOUT`); whole milliseconds.
    pub user_timeout: Option<Duration>,
}

impl Vigilance {
    /// Sets the options on a socket; on a listener, for the connections that it will accept.
    ///
    /// # Errors
    /// What setsockopt(2) says: `InvalidInput` outside the kernel's ranges.
    pub fn apply(&self, socket: BorrowedFd<'_>) -> io::Result<()> {
        let socket = SockRef::from(&socket);
        if let Some(keep_alive) = &self.keep_alive {
            let settings = TcpKeepalive::new()
                .with_time(keep_alive.idle)
                .with_interval(keep_alive.interval)
                .with_retries(keep_alive.count);
            socket.set_tcp_keepalive(&settings)?;
        }
        if let Some(timeout) = self.user_timeout {
            socket.set_tcp_user_timeout(Some(timeout))?;
        }
        Ok(())
    }
}

/// A connection to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dial {
    /// Where to.
    pub to: Remote,
    /// The address, and the port if not 0, to come from; `None` leaves both to the kernel.
    pub from: Option<SocketAddr>,
    /// Whether `from` may be an address that this host does not have (`IP_TRANSPARENT`, which needs `CAP_NET_ADMIN` or
    /// `CAP_NET_RAW`).
    pub is_transparent: bool,
    /// What the kernel watches over.
    pub vigilance: Vigilance,
    /// The congestion control of a TCP connection, as `cubic`; `None` leaves it to the system
    /// (`net.ipv4.tcp_congestion_control`).
    pub congestion: Option<Arc<str>>,
}

impl Dial {
    /// A connection to `to` with nothing else asked for.
    #[must_use]
    pub fn to(to: Remote) -> Self {
        Self {
            to,
            from: None,
            is_transparent: false,
            vigilance: Vigilance::default(),
            congestion: None,
        }
    }

    /// The TCP port at the other end; `None` for a unix socket.
    #[must_use]
    pub const fn port(&self) -> Option<u16> {
        match &self.to {
            Remote::Tcp(addr) => Some(addr.port()),
            Remote::Unix(_) => None,
        }
    }
}

impl From<SocketAddr> for Dial {
    fn from(addr: SocketAddr) -> Self {
        Self::to(Remote::Tcp(addr))
    }
}

impl From<PeerAddr> for Dial {
    /// A peer on a unix socket has no name: dialling it fails with `AddrNotAvailable`, as port 0 does.
    fn from(peer: PeerAddr) -> Self {
        let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
        Self::from(peer.socket_addr().unwrap_or(nowhere))
    }
}

/// Lets a bind to a port of 0 leave the choice to connect, which then needs a port that is free towards *that* peer only
/// instead of one that nobody uses at all: 64,000 connections from one address to each backend instead of to all of them.
pub(crate) fn bind_without_port(socket: BorrowedFd<'_>) -> io::Result<()> {
    let on: libc::c_int = 1;
    let len = size_of_val(&on) as libc::socklen_t;
    // SAFETY: the pointer is to an int that outlives the call, and `len` is its size; the descriptor is borrowed and open.
    let answer = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_IP,
            libc::IP_BIND_ADDRESS_NO_PORT,
            (&raw const on).cast(),
            len,
        )
    };
    if answer == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_can_be_dialled_back() {
        // Goal: an accepted peer's address is a place to connect to. Method: one of each family, and one without a name.
        let v6: SocketAddr = "[::1]:5432".parse().unwrap();
        assert_eq!(Dial::from(PeerAddr::from(v6)).to, Remote::Tcp(v6));
        assert_eq!(Dial::from(v6).port(), Some(5432));
        assert_eq!(Dial::from(PeerAddr::Unix).port(), Some(0));
    }
}
