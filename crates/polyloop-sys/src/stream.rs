//! One connected socket, TCP or unix.
//!
//! The one idea: a [`Stream`] is its descriptor and nothing else, four bytes, and each method is one system call whose
//! answer is handed on unchanged. Whether a short read means "drained" or an error means "close" is decided above.
//!
//! Deliberately absent: buffers, readiness, `Read` and `Write` (their provided methods loop, and a loop over a
//! non-blocking socket loses count of what was done).
//!
//! Invariants: non-blocking and close-on-exec if made here. A `Stream` made from a descriptor takes it as it is.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::Path;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendFlags, Shutdown, SocketAddrUnix,
    SocketFlags, SocketType, sockopt,
};

use socket2::SockRef;

use crate::dial::{Dial, KeepAliveNumbers, Remote, Vigilance, bind_without_port};
use crate::peer::PeerAddr;
use crate::send_queue;

/// A connected (or connecting) stream socket that closes when dropped.
#[derive(Debug)]
#[repr(transparent)]
pub struct Stream(OwnedFd);

impl Stream {
    /// The most slices [`Stream::send_vectored`] passes on in one call. The kernel copies the
    /// list at each call, so it stays short; more slices than this take a second call.
    pub const SLICES_MAX: usize = 16;

    /// Reads once into `buffer`; `Ok(0)` is the peer's FIN (or an empty `buffer`).
    ///
    /// # Errors
    /// Whatever `recv(2)` says, `WouldBlock` and `Interrupted` included.
    #[inline]
    pub fn recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let (received_bytes, _) = rustix::net::recv(&self.0, buffer, RecvFlags::empty())?;
        Ok(received_bytes)
    }

    /// Writes once from `bytes`, and answers how many the kernel took. Never raises SIGPIPE.
    ///
    /// # Errors
    /// Whatever `send(2)` says, `WouldBlock` and `Interrupted` included.
    #[inline]
    pub fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        Ok(rustix::net::send(&self.0, bytes, SendFlags::NOSIGNAL)?)
    }

    /// Writes once from the first [`SLICES_MAX`](Self::SLICES_MAX) of `slices`, and answers how many bytes the kernel
    /// took. Never raises SIGPIPE, which is why it is `sendmsg` and not `writev`.
    ///
    /// # Errors
    /// Whatever `sendmsg(2)` says, `WouldBlock` and `Interrupted` included.
    #[inline]
    pub fn send_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let slices = &slices[..slices.len().min(Self::SLICES_MAX)];
        let mut no_control = SendAncillaryBuffer::default();
        Ok(rustix::net::sendmsg(
            &self.0,
            slices,
            &mut no_control,
            SendFlags::NOSIGNAL,
        )?)
    }

    /// Sends FIN after what the kernel already took; reading goes on.
    ///
    /// # Errors
    /// `NotConnected` when the peer's reset came first.
    pub fn shutdown_write(&self) -> io::Result<()> {
        Ok(rustix::net::shutdown(&self.0, Shutdown::Write)?)
    }

    /// Makes the coming close a reset: unsent bytes are thrown away, and no TIME_WAIT stays behind. No effect on a unix
    /// socket.
    ///
    /// # Errors
    /// None is known for an open socket.
    pub fn set_abort_on_close(&self) -> io::Result<()> {
        Ok(sockopt::set_socket_linger(&self.0, Some(Duration::ZERO))?)
    }

    /// The error the kernel keeps for this socket (the outcome of a connect, a reset seen between two calls), which is
    /// cleared by asking: a reset taken here is not told again, and [`recv`](Self::recv) then answers 0 as after a FIN.
    ///
    /// # Errors
    /// None is known for an open socket; a pending error is the `Ok(Some(_))`.
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        Ok(sockopt::socket_error(&self.0)?.err().map(io::Error::from))
    }

    /// Bytes written that the peer has not acknowledged; after a FIN, one more until that is acknowledged too. On a unix
    /// socket it is memory that the peer has not freed by reading: comparable with itself, not a count of bytes.
    ///
    /// # Errors
    /// None is known for a connected socket.
    pub fn unacked_bytes(&self) -> io::Result<usize> {
        send_queue::unacked_bytes(self.as_fd())
    }

    /// Begins to make the connection that `dial` describes. `Ok` means begun: the socket becomes writable when the outcome
    /// is known, and [`take_error`](Self::take_error) tells it.
    ///
    /// # Errors
    /// See [`connect_tcp`](Self::connect_tcp) and [`connect_unix`](Self::connect_unix); `AddrInUse` and `AddrNotAvailable`
    /// when the address or port to come from cannot be had, `PermissionDenied` for a transparent one without the right;
    /// `NotFound` for a congestion control that the kernel does not have.
    pub fn dial(dial: &Dial) -> io::Result<Self> {
        let addr = match &dial.to {
            Remote::Unix(path) => return Self::connect_unix(path),
            Remote::Tcp(addr) => *addr,
        };
        let socket = open_tcp(addr)?;
        if let Some(from) = dial.from {
            bind_from(&socket, from, dial.is_transparent)?;
        }
        dial.vigilance.apply(socket.as_fd())?;
        if let Some(name) = &dial.congestion {
            sockopt::set_tcp_congestion(&socket, name)?;
        }
        if dial.holds_ack {
            sockopt::set_tcp_quickack(&socket, false)?;
        }
        begun(rustix::net::connect(&socket, &addr))?;
        Ok(Self(socket))
    }

    /// Bytes that have come and were not read; a FIN behind them does not count.
    ///
    /// # Errors
    /// None is known for a connected socket.
    pub fn unread_bytes(&self) -> io::Result<u64> {
        Ok(rustix::io::ioctl_fionread(&self.0)?)
    }

    /// Begins to connect to `addr` by TCP, with TCP_NODELAY set: a reactor writes whole answers, so Nagle's
    /// algorithm could only hold the last segment of each back.
    ///
    /// # Errors
    /// Out of descriptors or memory, no route, no free local port, and (on loopback) a refusal at once.
    pub fn connect_tcp(addr: SocketAddr) -> io::Result<Self> {
        let socket = open_tcp(addr)?;
        begun(rustix::net::connect(&socket, &addr))?;
        Ok(Self(socket))
    }

    /// Connects to the unix socket at `path`, which never takes time: it succeeds or fails at once.
    ///
    /// # Errors
    /// `WouldBlock` means that the listener's backlog is full (unix sockets do not queue a connect the way TCP does),
    /// `ConnectionRefused` that nobody listens, `NotFound` that there is no such file.
    pub fn connect_unix(path: &Path) -> io::Result<Self> {
        let socket = open(AddressFamily::UNIX)?;
        begun(rustix::net::connect(&socket, &SocketAddrUnix::new(path)?))?;
        Ok(Self(socket))
    }

    /// Two unix streams connected to each other.
    ///
    /// # Errors
    /// Out of descriptors or memory.
    pub fn pair() -> io::Result<(Self, Self)> {
        let (left, right) = rustix::net::socketpair(
            AddressFamily::UNIX,
            SocketType::STREAM,
            SocketFlags::NONBLOCK | SocketFlags::CLOEXEC,
            None,
        )?;
        Ok((Self(left), Self(right)))
    }

    /// The peer's address.
    ///
    /// # Errors
    /// `NotConnected` while a connect is under way and after a reset.
    pub fn peer_addr(&self) -> io::Result<PeerAddr> {
        Ok(PeerAddr::from_any(rustix::net::getpeername(&self.0)?))
    }

    /// This end's address.
    ///
    /// # Errors
    /// None is known for an open socket.
    pub fn local_addr(&self) -> io::Result<PeerAddr> {
        Ok(PeerAddr::from_any(Some(rustix::net::getsockname(&self.0)?)))
    }

    /// Sets what the kernel watches over. TCP only.
    ///
    /// # Errors
    /// `InvalidInput` outside the kernel's ranges (1 to 32,767 seconds, 1 to 127 questions), `EOPNOTSUPP` on a unix socket.
    pub fn set_vigilance(&self, vigilance: &Vigilance) -> io::Result<()> {
        vigilance.apply(self.as_fd())
    }
}

/// What is set late; see [`Vigilance::bequeath`].
impl Stream {
    /// Turns keep-alive on, with `numbers`, or with those that were inherited from a listener. Silence before it does not count:
    /// the first question comes an idle time after this call at the soonest. TCP only.
    ///
    /// # Errors
    /// `EOPNOTSUPP` on a unix socket.
    pub fn keep_alive(&self, numbers: Option<KeepAliveNumbers>) -> io::Result<()> {
        if let Some(numbers) = numbers {
            numbers.apply(self.as_fd())?;
        }
        Ok(sockopt::set_socket_keepalive(&self.0, true)?)
    }
}

impl From<OwnedFd> for Stream {
    fn from(fd: OwnedFd) -> Self {
        Self(fd)
    }
}

impl From<Stream> for OwnedFd {
    fn from(stream: Stream) -> Self {
        stream.0
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for Stream {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// A stream socket as this crate wants all of them, non-blocking and close-on-exec from the first moment.
fn open(family: AddressFamily) -> rustix::io::Result<OwnedFd> {
    rustix::net::socket_with(
        family,
        SocketType::STREAM,
        SocketFlags::NONBLOCK | SocketFlags::CLOEXEC,
        None,
    )
}

/// A TCP socket for a connection to `addr`.
fn open_tcp(addr: SocketAddr) -> io::Result<OwnedFd> {
    let family = if addr.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let socket = open(family)?;
    sockopt::set_tcp_nodelay(&socket, true)?;
    Ok(socket)
}

/// Gives a socket the address that it comes from.
fn bind_from(socket: &OwnedFd, from: SocketAddr, is_transparent: bool) -> io::Result<()> {
    if is_transparent {
        let socket = SockRef::from(socket);
        if from.is_ipv4() {
            socket.set_ip_transparent_v4(true)?;
        } else {
            socket.set_ip_transparent_v6(true)?;
        }
    }
    if from.port() == 0 {
        bind_without_port(socket.as_fd())?;
    } else {
        sockopt::set_socket_reuseaddr(socket, true)?;
    }
    Ok(rustix::net::bind(socket, &from)?)
}

/// A connect that is under way has begun, which is all a non-blocking caller asks.
fn begun(result: rustix::io::Result<()>) -> io::Result<()> {
    match result {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests;
