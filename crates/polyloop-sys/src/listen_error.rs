//! Why a server cannot listen, told to the person who started it.
//!
//! The one idea: the kernel answers with a number, and the person needs three things: which address, why, and what to
//! do. The families are the things to do.
//!
//! Deliberately absent: errors of a listener that runs; those are the accept path's and never reach a person one by
//! one.

use std::fmt;
use std::io;

use rustix::io::Errno;

use crate::listen_addr::ListenAddr;
use crate::port_owner::{PortOwner, who_listens};

/// Why an address cannot be listened on. Each message is complete: the address, the reason and the way out. (So print
/// the error alone; its source, kept for programs, says the reason again.)
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ListenError {
    /// Somebody listens there already.
    #[error("cannot listen on {addr}: it is in use{by}", by = ByOwner(owner.as_ref()))]
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
    pub(crate) fn new(addr: &ListenAddr, step: Step, source: io::Error) -> Self {
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

/// What was being done when it failed.
#[derive(Clone, Copy)]
pub(crate) enum Step {
    Open,
    Bind,
    Share,
    Listen,
    Name,
    Clear,
}

impl Step {
    fn text(self) -> &'static str {
        match self {
            Self::Open => "opening a socket",
            Self::Bind => "binding it",
            Self::Share => "sharing its port within the group",
            Self::Listen => "starting to listen",
            Self::Name => "asking for its address",
            Self::Clear => "removing a stale socket file",
        }
    }
}

/// Who has the address, and what to do about it.
struct ByOwner<'a>(Option<&'a PortOwner>);

impl fmt::Display for ByOwner<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(owner) if owner.pid == std::process::id() => {
                write!(f, " by {owner}: two listeners overlap; leave one out")
            }
            Some(owner) => write!(
                f,
                " by {owner}; stop that process or choose another address"
            ),
            None => f.write_str(
                ", and the system does not tell by whom; `ss -tlnp` as root does, or choose another address",
            ),
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_family_of_errors_reads_as_a_whole() {
        // Goal: address, reason and way out in each message. Method: the rare ones, made from the kernel's numbers.
        let addr: ListenAddr = "127.0.0.1:7000".parse().unwrap();
        let text = |errno: Errno, addr: &ListenAddr| {
            ListenError::new(addr, Step::Bind, errno.into()).to_string()
        };
        assert!(text(Errno::MFILE, &addr).contains("ulimit -n"));
        assert!(text(Errno::NFILE, &addr).contains("fs.file-max"));
        assert!(text(Errno::PERM, &addr).contains("security policy"));
        assert!(text(Errno::ACCESS, &ListenAddr::Unix("/x".into())).contains("write access"));
        assert!(text(Errno::AFNOSUPPORT, &addr).contains("ip address"));
        assert!(text(Errno::NOMEM, &addr).contains("127.0.0.1:7000: binding it: "));
    }
}
