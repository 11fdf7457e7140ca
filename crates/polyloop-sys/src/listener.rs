//! Listening sockets: one, or a group that shares a port.
//!
//! The one idea: a group is opened so that nobody else is in it. SO_REUSEPORT lets any process of the same user join
//! a port in silence, and an old server that still runs would then take a share of the connections. The first socket
//! of a group is therefore bound *without* the option, which fails if anybody is there, and is given the option only
//! afterwards; the kernel lets the others join it then. There is no moment at which the port is free again, as there
//! would be after a trial socket had been closed.
//!
//! Deliberately absent: pausing, counting, choosing. Those need decisions.
//!
//! Invariants: the order of a group is the order in which its sockets began to listen, which is the index a reuseport
//! filter answers with. When a member is closed the kernel moves the last into its place.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use rustix::fs::Mode;
use rustix::net::SocketFlags;
use socket2::{Domain, SockAddr, Socket, Type};

use crate::listen_addr::ListenAddr;
use crate::listen_error::{ListenError, Step};
use crate::peer::PeerAddr;
use crate::stream::Stream;

/// A listening socket that closes when dropped.
///
/// Closing one of a reuseport group resets the connections waiting in *its* queue: accept until `WouldBlock` first.
#[derive(Debug)]
#[repr(transparent)]
pub struct Listener(OwnedFd);

impl Listener {
    /// Takes one waiting connection, with exactly one system call. The stream is non-blocking, and TCP_NODELAY is set
    /// on it, which Linux lets it inherit.
    ///
    /// # Errors
    /// Whatever `accept4(2)` says: `WouldBlock` when none waits, the error of a connection that died while waiting
    /// (`ECONNABORTED` and the network errors listed there), or out of descriptors or memory, when the connection
    /// stays in the queue.
    #[inline]
    pub fn accept(&self) -> io::Result<(Stream, PeerAddr)> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let (socket, peer) = rustix::net::acceptfrom_with(&self.0, flags)?;
        Ok((Stream::from(socket), PeerAddr::from_any(peer)))
    }

    /// Another descriptor for the same socket and queue, for a loop that helps out.
    ///
    /// # Errors
    /// Out of descriptors.
    pub fn duplicate(&self) -> io::Result<Self> {
        Ok(Self(self.0.try_clone()?))
    }

    /// The address it is bound to, with the port the kernel picked if 0 was asked for.
    ///
    /// # Errors
    /// None is known for an open socket.
    pub fn local_addr(&self) -> io::Result<PeerAddr> {
        Ok(PeerAddr::from_any(Some(rustix::net::getsockname(&self.0)?)))
    }
}

impl From<OwnedFd> for Listener {
    fn from(fd: OwnedFd) -> Self {
        Self(fd)
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for Listener {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// How a group listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListenOptions {
    /// How many connections may wait for each socket. The kernel cuts it down to `net.core.somaxconn`.
    pub backlog: u32,
    /// Whether each socket has a queue of its own. If not, all but the first are duplicates that share its queue.
    pub reuse_port: bool,
}

impl Default for ListenOptions {
    fn default() -> Self {
        // The kernel's own default for somaxconn since 5.4.
        Self {
            backlog: 4_096,
            reuse_port: true,
        }
    }
}

/// Opens `count` listeners on `addr`, in order. Port 0 lets the first choose, and the others follow. A unix socket has
/// one queue, whatever the options say. Nothing stays open or on disk when one of them fails.
///
/// # Errors
/// See [`ListenError`].
pub fn listen_group(
    addr: &ListenAddr,
    count: usize,
    options: &ListenOptions,
) -> Result<Vec<Listener>, ListenError> {
    if count == 0 {
        return Ok(Vec::new());
    }
    let mut group = Vec::with_capacity(count);
    group.push(match addr {
        ListenAddr::Tcp(at) => listen_first(addr, *at, options)?,
        ListenAddr::TcpAny(port) => listen_any(addr, *port, options)?,
        ListenAddr::Unix(path) => listen_unix(addr, path, options)?,
    });
    let fail = |step| move |error| ListenError::new(addr, step, error);
    while group.len() < count {
        let next = match group[0]
            .local_addr()
            .map_err(fail(Step::Name))?
            .socket_addr()
        {
            Some(bound) if options.reuse_port => listen_next(addr, bound, options)?,
            _ => group[0].duplicate().map_err(fail(Step::Open))?,
        };
        group.push(next);
    }
    Ok(group)
}

/// Removes the socket file at `path` if nobody answers on it, and says whether it did. Call it after closing one's own
/// listener, too: the kernel leaves the file.
///
/// # Errors
/// `AlreadyExists` when it is something other than a socket, which is never removed; else what the file system says.
pub fn remove_stale_socket_file(path: &Path) -> io::Result<bool> {
    match std::fs::symlink_metadata(path) {
        Ok(metadata) if metadata.file_type().is_socket() => {}
        Ok(_) => return Err(io::ErrorKind::AlreadyExists.into()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    }
    match Stream::connect_unix(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path)?;
            Ok(true)
        }
        // Connected, a full backlog, a datagram socket, no right to connect: somebody may be there.
        _ => Ok(false),
    }
}

/// The first of a group, exclusively bound: see the module's text.
fn listen_first(
    addr: &ListenAddr,
    at: SocketAddr,
    options: &ListenOptions,
) -> Result<Listener, ListenError> {
    let fail = |step| move |error| ListenError::new(addr, step, error);
    // Of IPv6, only the address that stands for "everything" serves IPv4 as well.
    let only_v6 = !matches!(addr, ListenAddr::TcpAny(_));
    let socket = open_tcp(&at, only_v6).map_err(fail(Step::Open))?;
    socket.bind(&at.into()).map_err(fail(Step::Bind))?;
    if options.reuse_port {
        socket.set_reuse_port(true).map_err(fail(Step::Share))?;
    }
    socket
        .listen(backlog(options))
        .map_err(fail(Step::Listen))?;
    Ok(Listener(socket.into()))
}

/// One more of a group, at the address the first was given.
fn listen_next(
    addr: &ListenAddr,
    bound: SocketAddr,
    options: &ListenOptions,
) -> Result<Listener, ListenError> {
    let fail = |step| move |error| ListenError::new(addr, step, error);
    // The address as asked keeps its IPv6 scope; only the port may have been chosen since.
    let (at, only_v6) = match addr {
        ListenAddr::Tcp(asked) => {
            let mut at = *asked;
            at.set_port(bound.port());
            (at, true)
        }
        _ => (bound, false),
    };
    let socket = open_tcp(&at, only_v6).map_err(fail(Step::Open))?;
    socket.set_reuse_port(true).map_err(fail(Step::Share))?;
    socket.bind(&at.into()).map_err(fail(Step::Bind))?;
    socket
        .listen(backlog(options))
        .map_err(fail(Step::Listen))?;
    Ok(Listener(socket.into()))
}

/// Both families by one socket, or IPv4 alone on a host where IPv6 is compiled out or switched off.
fn listen_any(
    addr: &ListenAddr,
    port: u16,
    options: &ListenOptions,
) -> Result<Listener, ListenError> {
    match listen_first(
        addr,
        SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)),
        options,
    ) {
        Err(ListenError::NotAvailable { .. }) => listen_first(
            addr,
            SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)),
            options,
        ),
        other => other,
    }
}

fn listen_unix(
    addr: &ListenAddr,
    path: &Path,
    options: &ListenOptions,
) -> Result<Listener, ListenError> {
    let fail = |step| move |error| ListenError::new(addr, step, error);
    match remove_stale_socket_file(path) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            return Err(ListenError::NotASocket { addr: addr.clone() });
        }
        Err(error) => return Err(ListenError::new(addr, Step::Clear, error)),
    }
    let name = SockAddr::unix(path).map_err(fail(Step::Bind))?;
    let socket = open(Domain::UNIX).map_err(fail(Step::Open))?;
    // Linux gives the file the mode of the unbound socket, less the umask, so it is never open to others, not even
    // between two calls, and no path is followed twice.
    rustix::fs::fchmod(&socket, Mode::RUSR | Mode::WUSR)
        .map_err(|error| ListenError::new(addr, Step::Open, error.into()))?;
    socket.bind(&name).map_err(fail(Step::Bind))?;
    let file = RemoveOnFailure(Some(path.to_owned()));
    socket
        .listen(backlog(options))
        .map_err(fail(Step::Listen))?;
    file.keep();
    Ok(Listener(socket.into()))
}

fn open_tcp(at: &SocketAddr, only_v6: bool) -> io::Result<Socket> {
    let socket = open(Domain::for_address(*at))?;
    // Without it, connections of the server before us that linger in TIME_WAIT would hold the port for a minute.
    socket.set_reuse_address(true)?;
    socket.set_tcp_nodelay(true)?;
    if at.is_ipv6() {
        // Said both ways, as net.ipv6.bindv6only decides otherwise.
        socket.set_only_v6(only_v6)?;
    }
    Ok(socket)
}

fn open(family: Domain) -> io::Result<Socket> {
    Socket::new_raw(family, Type::STREAM.nonblocking().cloexec(), None)
}

fn backlog(options: &ListenOptions) -> i32 {
    i32::try_from(options.backlog).unwrap_or(i32::MAX)
}

/// Takes the socket file away again when a later step fails.
struct RemoveOnFailure(Option<PathBuf>);

impl RemoveOnFailure {
    fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for RemoveOnFailure {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            // Best effort: the error that matters is on its way to the caller already.
            let _ = std::fs::remove_file(path);
        }
    }
}

#[cfg(test)]
mod tests;
