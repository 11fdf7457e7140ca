//! Which process listens on an address, for the message that says it is taken.
//!
//! The one idea: the kernel's socket tables name an inode, and a process that holds the socket has a link with that
//! inode among its descriptors. Reading the tables takes longer the more connections and
//! descriptors the host has, so this is for a start that has already failed.
//!
//! Deliberately absent: certainty. Another user's process cannot be looked into, and everything may have changed in
//! between.

use std::fmt;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use crate::listen_addr::ListenAddr;

/// A process that holds a listening socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortOwner {
    /// Its process id.
    pub pid: u32,
    /// Its command's name, as the kernel keeps it: at most 15 bytes.
    pub command: String,
}

impl fmt::Display for PortOwner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.pid == std::process::id() {
            f.write_str("this very process")
        } else {
            // The name is the other process's to choose, so control characters must not reach a terminal.
            write!(f, "{} (pid {})", self.command.escape_debug(), self.pid)
        }
    }
}

/// The process that listens on `addr` or on an address that includes it. `None` when nobody does, or when the process
/// belongs to somebody whose descriptors this one may not see.
#[must_use]
pub fn who_listens(addr: &ListenAddr) -> Option<PortOwner> {
    let inode = match addr {
        ListenAddr::Tcp(addr) => tcp_inode(addr.ip(), addr.port()),
        ListenAddr::TcpAny(port) => tcp_inode(IpAddr::V6(Ipv6Addr::UNSPECIFIED), *port),
        ListenAddr::Unix(path) => unix_inode(path),
    }?;
    holder_of(inode)
}

fn tcp_inode(ip: IpAddr, port: u16) -> Option<u64> {
    ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .find_map(|table| {
            // Line by line: with a million connections the table is 150 MB, and listeners come first in it.
            let lines = BufReader::new(File::open(table).ok()?)
                .lines()
                .map_while(Result::ok);
            lines.filter_map(|line| parse_listening(&line)).find_map(
                |(bound_ip, bound_port, inode)| {
                    (bound_port == port && overlap(ip, bound_ip)).then_some(inode)
                },
            )
        })
}

/// Whether sockets on both addresses would be in each other's way. A wildcard counts for both families, as most are
/// dual-stack; this errs on the side of naming somebody.
fn overlap(left: IpAddr, right: IpAddr) -> bool {
    left.is_unspecified() || right.is_unspecified() || left.to_canonical() == right.to_canonical()
}

/// Address, port and inode of one line of `/proc/net/tcp` or `tcp6`, if it is a listener.
fn parse_listening(line: &str) -> Option<(IpAddr, u16, u64)> {
    const STATE_LISTEN: &str = "0A";
    let mut fields = line.split_ascii_whitespace();
    let (ip_hex, port_hex) = fields.nth(1)?.split_once(':')?;
    if fields.nth(1)? != STATE_LISTEN {
        return None;
    }
    let inode = fields.nth(5)?.parse().ok()?;
    Some((
        parse_hex_ip(ip_hex)?,
        u16::from_str_radix(port_hex, 16).ok()?,
        inode,
    ))
}

/// The kernel prints addresses as 32-bit words in the host's byte order, each holding four bytes in network order.
fn parse_hex_ip(hex: &str) -> Option<IpAddr> {
    let word = |index: usize| {
        let digits = hex.get(index * 8..index * 8 + 8)?;
        u32::from_str_radix(digits, 16).ok().map(u32::to_ne_bytes)
    };
    match hex.len() {
        8 => Some(IpAddr::V4(Ipv4Addr::from(word(0)?))),
        32 => {
            let mut octets = [0; 16];
            for (index, bytes) in octets.chunks_exact_mut(4).enumerate() {
                bytes.copy_from_slice(&word(index)?);
            }
            Some(IpAddr::V6(Ipv6Addr::from(octets)))
        }
        _ => None,
    }
}

fn unix_inode(path: &Path) -> Option<u64> {
    let table = fs::read_to_string("/proc/net/unix").ok()?;
    table
        .lines()
        .find_map(|line| parse_unix_listening(line, path.to_str()?))
}

/// The inode of one line of `/proc/net/unix`, if it is a listener bound to `path` as it was given.
fn parse_unix_listening(line: &str, path: &str) -> Option<u64> {
    const FLAG_ACCEPTS: u32 = 1 << 16;
    let line = line.strip_suffix(path)?.strip_suffix(' ')?;
    let mut fields = line.split_ascii_whitespace();
    let flags = u32::from_str_radix(fields.nth(3)?, 16).ok()?;
    let inode = fields.nth(2)?.parse().ok()?;
    (flags & FLAG_ACCEPTS != 0 && fields.next().is_none()).then_some(inode)
}

fn holder_of(inode: u64) -> Option<PortOwner> {
    let link = format!("socket:[{inode}]");
    let processes = fs::read_dir("/proc").ok()?.flatten();
    processes
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .find_map(|pid| {
            let mut descriptors = fs::read_dir(format!("/proc/{pid}/fd")).ok()?.flatten();
            descriptors
                .any(|entry| fs::read_link(entry.path()).is_ok_and(|to| to == Path::new(&link)))
                .then(|| PortOwner {
                    pid,
                    command: command_of(pid),
                })
        })
}

fn command_of(pid: u32) -> String {
    let command = fs::read(format!("/proc/{pid}/comm")).unwrap_or_default();
    String::from_utf8_lossy(command.trim_ascii_end()).into_owned()
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    #[cfg(target_endian = "little")]
    fn the_kernels_lines_parse() {
        // Goal: fields are where we think. Method: lines in the kernel's format, whole, changed and cut off.
        let v4 = "   0: 0100007F:1B58 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 12345 1 0000000000000000 100 0 0 10 0";
        assert_eq!(
            parse_listening(v4),
            Some(("127.0.0.1".parse().unwrap(), 7000, 12345))
        );
        assert_eq!(parse_listening(&v4.replace(" 0A ", " 01 ")), None);
        let v6 = "   1: 00000000000000000000000001000000:0050 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 987 1 0";
        assert_eq!(parse_listening(v6), Some(("::1".parse().unwrap(), 80, 987)));
        let heading = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode";
        assert_eq!(parse_listening(heading), None);
        for length in 0..v4.len() {
            let _ = parse_listening(&v4[..length]);
        }
        let unix = "0000000000000000: 00000002 00000000 00010000 0001 01 4711 /run/x y.sock";
        assert_eq!(parse_unix_listening(unix, "/run/x y.sock"), Some(4711));
        assert_eq!(parse_unix_listening(unix, "y.sock"), None);
        assert_eq!(
            parse_unix_listening(&unix.replace("00010000", "00000000"), "/run/x y.sock"),
            None
        );
    }

    #[test]
    fn finds_the_process_behind_a_port() {
        // Goal: the owner is named for exact and for wildcard requests. Method: this process listens, then no longer.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let own_pid = Some(std::process::id());
        assert_eq!(who_listens(&addr.into()).map(|owner| owner.pid), own_pid);
        assert_eq!(
            who_listens(&ListenAddr::TcpAny(addr.port())).map(|owner| owner.pid),
            own_pid
        );
        let owner = who_listens(&addr.into()).unwrap();
        assert!(!owner.command.is_empty());
        assert_eq!(owner.to_string(), "this very process");
    }

    #[test]
    fn finds_the_process_behind_a_unix_socket() {
        // Goal: unix listeners have owners too. Method: this process listens on a path of its own.
        let path = std::env::temp_dir().join(format!("polyloop-owner-{}.sock", std::process::id()));
        let addr = ListenAddr::Unix(path.clone());
        assert_eq!(who_listens(&addr), None);
        let listener = UnixListener::bind(&path).unwrap();
        assert_eq!(
            who_listens(&addr).map(|owner| owner.pid),
            Some(std::process::id())
        );
        drop(listener);
        assert_eq!(who_listens(&addr), None);
        fs::remove_file(&path).unwrap();
    }

    #[test]
    fn a_hostile_name_cannot_reach_the_terminal() {
        // Goal: escape sequences in a process name stay text. Method: print one.
        let owner = PortOwner {
            pid: u32::MAX,
            command: "\u{1b}[2Jx".into(),
        };
        assert_eq!(
            owner.to_string(),
            format!("\\u{{1b}}[2Jx (pid {})", u32::MAX)
        );
    }
}
