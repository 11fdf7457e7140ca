//! Process-wide facts and settings of networking.
//!
//! Deliberately absent: changing any of the host's settings. What is read here is for messages to the operator.

#![expect(
    unsafe_code,
    reason = "setting a signal's disposition has no safe wrapper"
)]

use std::fs;
use std::io;

use socket2::{Domain, Socket, Type};

/// Makes writing to a closed socket or pipe an error instead of the end of the process.
///
/// The Rust runtime does this before `main`; a library cannot count on that when it is loaded into a program of another
/// language, and `splice` into a closed socket has no flag of its own to suppress the signal.
///
/// # Errors
/// None is known.
pub fn ignore_sigpipe() -> io::Result<()> {
    // SAFETY: SIG_IGN installs no code to run, so nothing has to be async-signal-safe; SIGPIPE is a valid signal that
    // may be ignored.
    let previous = unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
    if previous == libc::SIG_ERR {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// The host's upper bound for a listener's backlog; `listen` cuts larger values down without a word.
///
/// # Errors
/// `NotFound` where `/proc` is not mounted.
pub fn somaxconn() -> io::Result<u32> {
    sysctl("net/core/somaxconn")
}

/// The lowest port that needs no privilege to listen on.
///
/// # Errors
/// `NotFound` where `/proc` is not mounted.
pub fn unprivileged_port_start() -> io::Result<u32> {
    sysctl("net/ipv4/ip_unprivileged_port_start")
}

/// Whether sockets of this process may come from addresses that the host does not have (`IP_TRANSPARENT`): tried on one that
/// is closed again.
///
/// # Errors
/// `PermissionDenied` without `CAP_NET_ADMIN` and `CAP_NET_RAW`; or there is no descriptor for a socket.
pub fn may_be_transparent() -> io::Result<()> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_ip_transparent_v4(true)
}

fn sysctl(name: &str) -> io::Result<u32> {
    let text = fs::read_to_string(format!("/proc/sys/{name}"))?;
    text.trim()
        .parse()
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sigpipe_is_ignored() {
        // Goal: the kernel lists SIGPIPE among the ignored. Method: the bit for signal 13 in the status file.
        ignore_sigpipe().unwrap();
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let ignored = status
            .lines()
            .find_map(|line| line.strip_prefix("SigIgn:"))
            .unwrap();
        let ignored = u64::from_str_radix(ignored.trim(), 16).unwrap();
        assert_ne!(ignored & (1 << (libc::SIGPIPE - 1)), 0);
    }

    #[test]
    fn the_hosts_settings_are_readable() {
        // Goal: numbers that make sense. Method: read them on this host.
        assert!(somaxconn().unwrap() > 0);
        assert!(unprivileged_port_start().unwrap() <= 65_536);
        assert_eq!(
            sysctl("net/no/such").unwrap_err().kind(),
            io::ErrorKind::NotFound
        );
    }
}
