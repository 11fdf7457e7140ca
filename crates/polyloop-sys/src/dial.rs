//! How a connection is made: where to, from where, and with which options.
//!
//! Deliberately absent: choosing among addresses, counting ports, retrying.

#![expect(unsafe_code, reason = "IP_BIND_ADDRESS_NO_PORT has no safe wrapper")]

use std::io;
use std::mem::size_of_val;
use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustix::net::sockopt;
use socket2::SockRef;

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

/// A [`KeepAlive`] in six bytes, as the kernel takes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeepAliveNumbers {
    idle_seconds: NonZeroU16,
    interval_seconds: NonZeroU16,
    count: u8,
}

impl TryFrom<KeepAlive> for KeepAliveNumbers {
    type Error = io::Error;

    /// # Errors
    /// `InvalidInput` outside the kernel's ranges: 1 to 32,767 seconds, 1 to 127 questions.
    fn try_from(keep_alive: KeepAlive) -> io::Result<Self> {
        let seconds = |time: Duration| {
            let seconds = Some(time.as_secs()).filter(|s| *s <= KEEP_ALIVE_SECONDS_MAX);
            seconds.and_then(|s| NonZeroU16::new(s as u16))
        };
        let count =
            Some(keep_alive.count).filter(|count| (1..=KEEP_ALIVE_COUNT_MAX).contains(count));
        let numbers = seconds(keep_alive.idle)
            .zip(seconds(keep_alive.interval))
            .zip(count);
        // By its number, as the kernel would say it: who decides by that must not take it for somebody else's fault.
        let ((idle_seconds, interval_seconds), count) =
            numbers.ok_or_else(|| io::Error::from_raw_os_error(libc::EINVAL))?;
        Ok(Self {
            idle_seconds,
            interval_seconds,
            count: count as u8,
        })
    }
}

impl KeepAliveNumbers {
    /// Sets the three numbers on a socket, and nothing in motion.
    pub(crate) fn apply(self, socket: BorrowedFd<'_>) -> io::Result<()> {
        let seconds = |seconds: NonZeroU16| Duration::from_secs(u64::from(seconds.get()));
        sockopt::set_tcp_keepidle(socket, seconds(self.idle_seconds))?;
        sockopt::set_tcp_keepintvl(socket, seconds(self.interval_seconds))?;
        Ok(sockopt::set_tcp_keepcnt(socket, u32::from(self.count))?)
    }
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
    /// Sets the options on a socket.
    ///
    /// # Errors
    /// What setsockopt(2) says; `InvalidInput` outside the kernel's ranges.
    pub fn apply(&self, socket: BorrowedFd<'_>) -> io::Result<()> {
        self.bequeath(socket)?;
        if self.keep_alive.is_some() {
            sockopt::set_socket_keepalive(socket, true)?;
        }
        Ok(())
    }

    /// Sets the options on a listener, for the connections that it will accept, but for the switch of the keep-alive, which
    /// would start a timer in the kernel for each of them: [`Stream::keep_alive`](crate::stream::Stream::keep_alive) turns it on,
    /// with the numbers that were set here.
    ///
    /// # Errors
    /// As [`apply`](Self::apply).
    pub fn bequeath(&self, listener: BorrowedFd<'_>) -> io::Result<()> {
        if let Some(keep_alive) = self.keep_alive {
            KeepAliveNumbers::try_from(keep_alive)?.apply(listener)?;
        }
        if let Some(timeout) = self.user_timeout {
            SockRef::from(&listener).set_tcp_user_timeout(Some(timeout))?;
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
    /// Whether the ACK that ends the handshake may wait for the first bytes and travel with them: one packet less, and one
    /// wake-up of the peer. For those who have these bytes in hand: without any, the ACK goes out a delayed ACK's time later
    /// (200 ms), and a peer that speaks first hears of the connection so much later. No effect on a unix socket.
    pub holds_ack: bool,
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
            holds_ack: false,
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

/// The kernel's bounds: `MAX_TCP_KEEPIDLE`, `MAX_TCP_KEEPINTVL` and `MAX_TCP_KEEPCNT` of `include/net/tcp.h`.
const KEEP_ALIVE_SECONDS_MAX: u64 = 32_767;
const KEEP_ALIVE_COUNT_MAX: u32 = 127;

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
