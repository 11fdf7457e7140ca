//! Addresses of peers, small enough to keep one per connection.
//!
//! The one idea: the standard `SocketAddr` takes 32 bytes, mostly for fields of IPv6 (flow label, scope) that nobody
//! looks at after the connection is open. [`PeerAddr`] takes 20 and has an answer for unix sockets, whose peers have
//! no address.
//!
//! Deliberately absent: the IPv6 scope, which only link-local addresses need. Whoever has to *connect* to a link-local
//! address uses [`Stream::connect_tcp`](crate::Stream::connect_tcp), which takes the full form.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use rustix::net::{AddressFamily, SocketAddrAny};

/// Who is at the other end of a connection, in 20 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PeerAddr {
    /// A peer reached by IPv4.
    V4 {
        /// Its address.
        ip: Ipv4Addr,
        /// Its port.
        port: u16,
    },
    /// A peer reached by an IPv6 socket. On a dual-stack listener an IPv4 peer appears here with a mapped address
    /// (`::ffff:a.b.c.d`); [`PeerAddr::ip`] undoes that.
    V6 {
        /// Its address, as the kernel gave it.
        ip: Ipv6Addr,
        /// Its port.
        port: u16,
    },
    /// A peer on a unix socket. Clients hardly ever bind a name, so none is kept.
    Unix,
}

impl PeerAddr {
    /// The peer's address, with a mapped IPv4 address turned back into IPv4, so that access rules and hashes see one
    /// client under one name whichever socket it came through. `None` for a unix socket.
    #[must_use]
    pub fn ip(&self) -> Option<IpAddr> {
        match *self {
            Self::V4 { ip, .. } => Some(IpAddr::V4(ip)),
            Self::V6 { ip, .. } => Some(IpAddr::V6(ip).to_canonical()),
            Self::Unix => None,
        }
    }

    /// The peer's port; `None` for a unix socket.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        match *self {
            Self::V4 { port, .. } | Self::V6 { port, .. } => Some(port),
            Self::Unix => None,
        }
    }

    /// The address in the standard library's form, not canonicalised, with no IPv6 scope; `None` for a unix socket.
    #[must_use]
    pub fn socket_addr(&self) -> Option<SocketAddr> {
        match *self {
            Self::V4 { ip, port } => Some(SocketAddr::from((ip, port))),
            Self::V6 { ip, port } => Some(SocketAddr::from((ip, port))),
            Self::Unix => None,
        }
    }

    /// What the kernel said; everything that is not IP is a unix socket, as no other family is ever opened here.
    pub(crate) fn from_any(addr: Option<SocketAddrAny>) -> Self {
        match addr {
            Some(addr)
                if matches!(
                    addr.address_family(),
                    AddressFamily::INET | AddressFamily::INET6
                ) =>
            {
                SocketAddr::try_from(addr).map_or(Self::Unix, Self::from)
            }
            _ => Self::Unix,
        }
    }
}

impl From<SocketAddr> for PeerAddr {
    fn from(addr: SocketAddr) -> Self {
        match addr {
            SocketAddr::V4(v4) => Self::V4 {
                ip: *v4.ip(),
                port: v4.port(),
            },
            SocketAddr::V6(v6) => Self::V6 {
                ip: *v6.ip(),
                port: v6.port(),
            },
        }
    }
}

impl From<Option<SocketAddr>> for PeerAddr {
    fn from(addr: Option<SocketAddr>) -> Self {
        addr.map_or(Self::Unix, Self::from)
    }
}

impl From<PeerAddr> for Option<SocketAddr> {
    fn from(peer: PeerAddr) -> Self {
        peer.socket_addr()
    }
}

impl fmt::Display for PeerAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.socket_addr() {
            Some(addr) => {
                let ip = addr.ip().to_canonical();
                fmt::Display::fmt(&SocketAddr::new(ip, addr.port()), f)
            }
            None => f.pad("unix"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_twenty_bytes() {
        // Goal: a connection's record stays small. Method: ask the compiler.
        assert!(size_of::<PeerAddr>() <= 20);
        assert!(align_of::<PeerAddr>() <= 4);
    }

    #[test]
    fn survives_the_round_trip() {
        // Goal: nothing but the scope is lost. Method: convert there and back.
        for text in ["1.2.3.4:5", "[2001:db8::1]:65535", "[::1]:0"] {
            let addr: SocketAddr = text.parse().unwrap();
            let peer = PeerAddr::from(addr);
            assert_eq!(Option::<SocketAddr>::from(peer), Some(addr));
            assert_eq!(peer.to_string(), text);
            assert_eq!(peer.port(), Some(addr.port()));
        }
        let scoped = PeerAddr::from("[fe80::1%3]:9".parse::<SocketAddr>().unwrap());
        assert_eq!(scoped.to_string(), "[fe80::1]:9");
    }

    #[test]
    fn mapped_addresses_are_ipv4_to_the_reader() {
        // Goal: one client has one address. Method: a mapped address beside the plain one.
        let mapped = PeerAddr::from("[::ffff:10.0.0.1]:80".parse::<SocketAddr>().unwrap());
        assert_eq!(mapped.ip(), Some("10.0.0.1".parse().unwrap()));
        assert_eq!(mapped.to_string(), "10.0.0.1:80");
        assert!(matches!(mapped, PeerAddr::V6 { .. }));
    }

    #[test]
    fn a_unix_peer_has_no_address() {
        // Goal: unix sockets need no special case above. Method: every accessor.
        let peer = PeerAddr::from(None);
        assert_eq!(peer, PeerAddr::Unix);
        assert_eq!(
            (peer.ip(), peer.port(), peer.socket_addr()),
            (None, None, None)
        );
        assert_eq!(peer.to_string(), "unix");
    }
}
