//! Addresses to listen on, as a person types them.
//!
//! The one idea: `:7000` is neither an IPv4 nor an IPv6 address but "everybody who can reach this host", so it has a
//! variant of its own and only the host, asked when the socket is opened, decides which family serves it.
//!
//! Deliberately absent: name resolution. A name may have several addresses, change, or take seconds to look up; the
//! one exception is the literal `localhost`.

use std::ffi::OsStr;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::str::FromStr;

/// Where to listen. Written `127.0.0.1:7000`, `[::1]:7000`, `:7000` or `*:7000`, `localhost:7000`, `unix:/run/x.sock`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ListenAddr {
    /// One address and port. An IPv6 address serves IPv6 alone, even `[::]`.
    Tcp(SocketAddr),
    /// A port on every address of the host: one socket for IPv6 and IPv4, or IPv4 alone where the host has no IPv6.
    TcpAny(u16),
    /// A unix socket at this path.
    Unix(PathBuf),
}

impl ListenAddr {
    /// The port; `None` for a unix socket.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        match self {
            Self::Tcp(addr) => Some(addr.port()),
            Self::TcpAny(port) => Some(*port),
            Self::Unix(_) => None,
        }
    }

    /// Whether only programs on this host can connect.
    #[must_use]
    pub fn is_local_only(&self) -> bool {
        match self {
            Self::Tcp(addr) => addr.ip().to_canonical().is_loopback(),
            Self::TcpAny(_) => false,
            Self::Unix(_) => true,
        }
    }
}

impl From<SocketAddr> for ListenAddr {
    fn from(addr: SocketAddr) -> Self {
        // A mapped address can only be bound by a socket that serves both families; as IPv4 it means the same.
        match addr.ip().to_canonical() {
            IpAddr::V4(ip) => Self::Tcp(SocketAddr::from((ip, addr.port()))),
            IpAddr::V6(_) => Self::Tcp(addr),
        }
    }
}

impl fmt::Display for ListenAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(addr) => fmt::Display::fmt(addr, f),
            Self::TcpAny(port) => write!(f, "*:{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Why a text is not a [`ListenAddr`]. The message quotes the text and says what to write instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not an address to listen on: {problem}")]
pub struct ParseListenAddrError {
    text: String,
    problem: Problem,
}

impl FromStr for ListenAddr {
    type Err = ParseListenAddrError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse(text).map_err(|problem| ParseListenAddrError {
            text: text.to_owned(),
            problem,
        })
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
enum Problem {
    #[error("nothing was given; write 127.0.0.1:7000, [::1]:7000, :7000 or unix:/run/name.sock")]
    Empty,
    #[error("the port is missing; write {0}:7000")]
    NoPort(String),
    #[error("the port {0:?} is not a number from 0 to 65535")]
    BadPort(String),
    #[error("an IPv6 address needs brackets and a port after them; write it as in [::1]:7000")]
    NoBrackets,
    #[error("the address in brackets is not IPv6; write [::1]:7000 or 127.0.0.1:7000")]
    BadBrackets,
    #[error(
        "names are not looked up, since one name may have several addresses; write the address itself, \
         localhost:{0}, or :{0} for every address of this host"
    )]
    Name(u16),
    #[error("the path is missing; write unix:/run/name.sock")]
    NoPath,
    #[error(
        "anybody may connect to an abstract socket; give a path, whose directory can be protected"
    )]
    Abstract,
    #[error(
        "a unix socket's path has at most {UNIX_PATH_BYTES_MAX} bytes and no NUL, this one has {0}"
    )]
    BadPath(usize),
}

fn parse(text: &str) -> Result<ListenAddr, Problem> {
    if let Some(path) = text.strip_prefix("unix:") {
        return parse_unix(path);
    }
    if text.is_empty() {
        return Err(Problem::Empty);
    }
    if let Ok(addr) = text.parse::<SocketAddr>() {
        return Ok(ListenAddr::from(addr));
    }
    if text.parse::<Ipv6Addr>().is_ok() {
        return Err(Problem::NoBrackets);
    }
    let Some((host, port)) = text.rsplit_once(':').filter(|_| !text.ends_with(']')) else {
        let all_digits = text.bytes().all(|byte| byte.is_ascii_digit());
        return Err(match text.parse::<u16>() {
            Ok(_) => Problem::NoPort("127.0.0.1".to_owned()),
            Err(_) if all_digits => Problem::BadPort(text.to_owned()),
            Err(_) => Problem::NoPort(text.to_owned()),
        });
    };
    // Parsing as a number alone would let "+7000" through.
    let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    let port = match port.parse::<u16>() {
        Ok(number) if digits => number,
        _ => return Err(Problem::BadPort(port.to_owned())),
    };
    match host {
        "" | "*" => Ok(ListenAddr::TcpAny(port)),
        "localhost" => Ok(ListenAddr::Tcp(SocketAddr::from((
            Ipv4Addr::LOCALHOST,
            port,
        )))),
        _ if host.starts_with('[') => Err(Problem::BadBrackets),
        _ if host.contains(':') => Err(Problem::NoBrackets),
        _ => Err(Problem::Name(port)),
    }
}

fn parse_unix(path: &str) -> Result<ListenAddr, Problem> {
    if path.is_empty() {
        return Err(Problem::NoPath);
    }
    if path.starts_with('@') {
        return Err(Problem::Abstract);
    }
    if path.len() > UNIX_PATH_BYTES_MAX || path.contains('\0') {
        return Err(Problem::BadPath(path.len()));
    }
    Ok(ListenAddr::Unix(PathBuf::from(OsStr::from_bytes(
        path.as_bytes(),
    ))))
}

/// `sockaddr_un` has 108 bytes for a path, the last a NUL.
const UNIX_PATH_BYTES_MAX: usize = 107;

#[cfg(test)]
mod tests {
    use super::*;

    fn error_of(text: &str) -> String {
        text.parse::<ListenAddr>().unwrap_err().to_string()
    }

    #[test]
    fn every_documented_form_parses_and_prints() {
        // Goal: what is printed can be typed again. Method: parse, print, parse.
        for (text, printed) in [
            ("127.0.0.1:7000", "127.0.0.1:7000"),
            ("[::1]:7000", "[::1]:7000"),
            ("[::]:0", "[::]:0"),
            ("[fe80::1%2]:80", "[fe80::1%2]:80"),
            ("[::ffff:10.0.0.1]:80", "10.0.0.1:80"),
            (":7000", "*:7000"),
            ("*:7000", "*:7000"),
            ("localhost:7000", "127.0.0.1:7000"),
            ("unix:/run/x.sock", "unix:/run/x.sock"),
            ("unix:relative", "unix:relative"),
        ] {
            let addr: ListenAddr = text.parse().unwrap();
            assert_eq!(addr.to_string(), printed);
            assert_eq!(printed.parse::<ListenAddr>().unwrap(), addr);
        }
    }

    #[test]
    fn every_refusal_shows_the_way_out() {
        // Goal: a person can fix it from the message alone. Method: the text is quoted and the advice is in it.
        for (text, advice) in [
            ("", "nothing was given"),
            ("127.0.0.1", "write 127.0.0.1:7000"),
            ("[::1]", "write [::1]:7000"),
            ("7000", "write 127.0.0.1:7000"),
            ("70000", "from 0 to 65535"),
            ("::1", "as in [::1]:7000"),
            ("::1:80", "needs brackets"),
            ("fe80::1%2:80", "needs brackets"),
            ("1.2.3.4:", "from 0 to 65535"),
            (":70000", "\"70000\" is not a number"),
            (":+80", "\"+80\" is not a number"),
            ("[1.2.3.4]:80", "not IPv6"),
            ("example.org:80", "localhost:80"),
            ("1.2.3.4.5:80", "names are not looked up"),
            ("unix:", "unix:/run/name.sock"),
            ("unix:@name", "give a path"),
        ] {
            let message = error_of(text);
            assert!(message.contains(advice), "{text:?}: {message}");
            assert!(message.starts_with(&format!("{text:?}")), "{message}");
        }
        assert!(error_of(&format!("unix:{}", "x".repeat(108))).contains("at most 107"));
    }

    #[test]
    fn knows_what_stays_on_this_host() {
        // Goal: the admin listener can tell loopback from the world. Method: both kinds.
        for text in [
            "127.0.0.1:1",
            "127.9.9.9:1",
            "[::1]:1",
            "unix:/x",
            "[::ffff:127.0.0.1]:1",
        ] {
            assert!(
                text.parse::<ListenAddr>().unwrap().is_local_only(),
                "{text}"
            );
        }
        for text in [":1", "0.0.0.0:1", "[::]:1", "192.168.0.1:1"] {
            assert!(
                !text.parse::<ListenAddr>().unwrap().is_local_only(),
                "{text}"
            );
        }
    }
}
