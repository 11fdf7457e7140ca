//! Listening sockets: one, or a group that shares a port.
//!
//! The one idea: a group is opened so that nobody else is in it. SO_REUSEPORT lets any process of the same user join a
//! port in silence, and an old server that still runs would then take a share of the connections. The first socket of a
//! group is therefore bound *without* the option, which fails if anybody is there, and is given the option only
//! afterwards; the kernel lets the others join it then. There is no moment at which the port is free again, as there would
//! be after a trial socket had been closed.
//!
//! Deliberately absent: pausing, counting, choosing. Those need decisions.
//!
//! Invariants: the order of a group is the order in which its sockets began to listen, which is the index a reuseport
//! filter answers with. When a member is closed the kernel moves the last into its place.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, sockopt};

use crate::listen_addr::ListenAddr;
use crate::peer::PeerAddr;
use crate::port_owner::{PortOwner, who_listens};
use crate::stream::{Stream, open};

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
    /// (`ECONNABORTED` and the network errors listed there), or out of descriptors or memory, when the connection stays in
    /// the queue.
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
        ListenAddr::Tcp(at) => listen_first(addr, *at, only_v6(at), options)?,
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
            Some(bound) if options.reuse_port => listen_next(addr, bound, &group[0], options)?,
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

/// Why an address cannot be listened on. Each message is complete: the address, the reason and the way out. (So print
/// the error alone; its source, kept for programs, says the reason again.)
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ListenError {
    /// Somebody listens there already.
    #[error("cannot listen on {addr}: it is in use{by}; stop that process or choose another address", by = ByOwner(owner.as_ref()))]
    AddressInUse {
        /// The address asked for.
        addr: ListenAddr,
        /// Who has it, where the system tells.
        owner: Option<PortOwner>,
    },
    /// This process may not listen there.
    #[error("cannot listen on {addr}: permission denied; {way_out}", way_out = Permission(addr, *unprivileged_port_start))]
    PermissionDenied {
        /// The address asked for.
        addr: ListenAddr,
        /// The lowest port that needs no privilege, where the system tells.
        unprivileged_port_start: Option<u32>,
        /// What the kernel said.
        source: io::Error,
    },
    /// The address does not belong to this host, or its family is switched off.
    #[error(
        "cannot listen on {addr}: this host has no such address; `ip address` lists those it has, *:{port} means \
         all of them, and net.ipv4.ip_nonlocal_bind=1 allows an address that arrives later",
        port = addr.port().unwrap_or(0)
    )]
    NotAvailable {
        /// The address asked for.
        addr: ListenAddr,
        /// What the kernel said.
        source: io::Error,
    },
    /// There is a file at the path of a unix socket, and it is no socket.
    #[error(
        "cannot listen on {addr}: a file that is not a socket is there; move it away or choose another path"
    )]
    NotASocket {
        /// The address asked for.
        addr: ListenAddr,
    },
    /// The process or the host has no descriptor left.
    #[error(
        "cannot listen on {addr}: {source}; raise the limit of open files (`ulimit -n`, LimitNOFILE=, fs.file-max) \
         or use fewer loops"
    )]
    NoDescriptors {
        /// The address asked for.
        addr: ListenAddr,
        /// What the kernel said.
        source: io::Error,
    },
    /// Anything else.
    #[error(
        "cannot listen on {addr}: {step}: {source}; check the address, and the path's directory if it is a unix socket"
    )]
    Os {
        /// The address asked for.
        addr: ListenAddr,
        /// What was being done.
        step: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
}

impl ListenError {
    /// Sorts the kernel's answer into its family.
    fn new(addr: &ListenAddr, step: Step, source: io::Error) -> Self {
        let addr = addr.clone();
        match Errno::from_io_error(&source) {
            Some(Errno::ADDRINUSE) => {
                let owner = who_listens(&addr);
                Self::AddressInUse { addr, owner }
            }
            Some(Errno::ACCESS | Errno::PERM) => {
                let unprivileged_port_start = crate::net::unprivileged_port_start().ok();
                Self::PermissionDenied {
                    addr,
                    unprivileged_port_start,
                    source,
                }
            }
            Some(Errno::ADDRNOTAVAIL | Errno::AFNOSUPPORT | Errno::NODEV) => {
                Self::NotAvailable { addr, source }
            }
            Some(Errno::MFILE | Errno::NFILE) => Self::NoDescriptors { addr, source },
            _ => Self::Os {
                addr,
                step: step.text(),
                source,
            },
        }
    }
}

#[derive(Clone, Copy)]
enum Step {
    Open,
    Bind,
    Listen,
    Name,
    Clear,
}

impl Step {
    fn text(self) -> &'static str {
        match self {
            Self::Open => "opening a socket",
            Self::Bind => "binding it",
            Self::Listen => "starting to listen",
            Self::Name => "asking for its address",
            Self::Clear => "removing a stale socket file",
        }
    }
}

struct ByOwner<'a>(Option<&'a PortOwner>);

impl fmt::Display for ByOwner<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |owner| write!(f, " by {owner}"))
    }
}

struct Permission<'a>(&'a ListenAddr, Option<u32>);

impl fmt::Display for Permission<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0.port().map(u32::from), self.1) {
            (Some(port), Some(start)) if port < start => write!(
                f,
                "ports below {start} need the capability CAP_NET_BIND_SERVICE (`setcap cap_net_bind_service=+ep` on \
                 the binary, AmbientCapabilities= in a systemd unit), or lower net.ipv4.ip_unprivileged_port_start"
            ),
            (Some(_), _) => {
                f.write_str("a security policy (seccomp, Landlock, SELinux) forbids it")
            }
            (None, _) => f.write_str("the user needs write access to the path's directory"),
        }
    }
}

/// The first of a group, exclusively bound: see the module's text.
fn listen_first(
    addr: &ListenAddr,
    at: SocketAddr,
    only_v6: bool,
    options: &ListenOptions,
) -> Result<Listener, ListenError> {
    let fail = |step| move |error: Errno| ListenError::new(addr, step, error.into());
    let socket = open_tcp(&at, only_v6).map_err(fail(Step::Open))?;
    rustix::net::bind(&socket, &at).map_err(fail(Step::Bind))?;
    if options.reuse_port {
        sockopt::set_socket_reuseport(&socket, true).map_err(fail(Step::Bind))?;
    }
    rustix::net::listen(&socket, backlog(options)).map_err(fail(Step::Listen))?;
    Ok(Listener(socket))
}

/// One more of a group, at the address `first` was given.
fn listen_next(
    addr: &ListenAddr,
    bound: SocketAddr,
    first: &Listener,
    options: &ListenOptions,
) -> Result<Listener, ListenError> {
    let fail = |step| move |error: Errno| ListenError::new(addr, step, error.into());
    let only_v6 = bound.is_ipv6() && sockopt::ipv6_v6only(first).map_err(fail(Step::Name))?;
    // The address as asked keeps its IPv6 scope; only the port may have been chosen since.
    let at = match addr {
        ListenAddr::Tcp(asked) => {
            let mut at = *asked;
            at.set_port(bound.port());
            at
        }
        _ => bound,
    };
    let socket = open_tcp(&at, only_v6).map_err(fail(Step::Open))?;
    sockopt::set_socket_reuseport(&socket, true).map_err(fail(Step::Bind))?;
    rustix::net::bind(&socket, &at).map_err(fail(Step::Bind))?;
    rustix::net::listen(&socket, backlog(options)).map_err(fail(Step::Listen))?;
    Ok(Listener(socket))
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
        false,
        options,
    ) {
        Err(ListenError::NotAvailable { .. }) => listen_first(
            addr,
            SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)),
            false,
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
    let fail = |step| move |error: Errno| ListenError::new(addr, step, error.into());
    match remove_stale_socket_file(path) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            return Err(ListenError::NotASocket { addr: addr.clone() });
        }
        Err(error) => return Err(ListenError::new(addr, Step::Clear, error)),
    }
    let name = SocketAddrUnix::new(path).map_err(fail(Step::Bind))?;
    let socket = open(AddressFamily::UNIX).map_err(fail(Step::Open))?;
    // Linux gives the file the mode of the unbound socket, less the umask, so it is never open to others, not even
    // between two calls, and no path is followed twice.
    rustix::fs::fchmod(&socket, Mode::RUSR | Mode::WUSR).map_err(fail(Step::Open))?;
    rustix::net::bind(&socket, &name).map_err(fail(Step::Bind))?;
    let file = RemoveOnFailure(Some(path.to_owned()));
    rustix::net::listen(&socket, backlog(options)).map_err(fail(Step::Listen))?;
    file.keep();
    Ok(Listener(socket))
}

fn open_tcp(at: &SocketAddr, only_v6: bool) -> rustix::io::Result<OwnedFd> {
    let socket = open(if at.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    })?;
    // Without it, connections of the server before us that linger in TIME_WAIT would hold the port for a minute.
    sockopt::set_socket_reuseaddr(&socket, true)?;
    sockopt::set_tcp_nodelay(&socket, true)?;
    if at.is_ipv6() {
        // Said both ways, as net.ipv6.bindv6only decides otherwise.
        sockopt::set_ipv6_v6only(&socket, only_v6)?;
    }
    Ok(socket)
}

fn only_v6(at: &SocketAddr) -> bool {
    at.is_ipv6()
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
