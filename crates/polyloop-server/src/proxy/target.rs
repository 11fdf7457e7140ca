//! Where a backend is, as a person types it: `db1:5432`, `10.0.0.1:5432`, `[::1]:5432`, `unix:/path`, `srv:_name`, and
//! after commas what else is known of it: `db1:5432,weight=3,backup,max=200,name=a`.
//!
//! Deliberately absent: whether the name or the address exists, which only the network knows, and may change.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use polyloop_proxy::settings::Target;

use super::suggest;

/// A backend on one line: its target, and its settings as keys and values.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Line<'a> {
    /// The target's text.
    pub(crate) to: &'a str,
    /// The settings after it; a switch has no value.
    pub(crate) options: Vec<(&'a str, Option<&'a str>)>,
}

/// Splits a backend's line. A unix path may not hold a comma there.
pub(crate) fn split_line(text: &str) -> Line<'_> {
    let mut parts = text.split(',').map(str::trim);
    let to = parts.next().unwrap_or_default();
    let option = |part: &'_ str| -> (usize, usize) {
        let equals = part.find('=').unwrap_or(part.len());
        (equals, part.len())
    };
    let options = parts
        .map(|part| match option(part) {
            (equals, len) if equals == len => (part, None),
            (equals, _) => (part[..equals].trim(), Some(part[equals + 1..].trim())),
        })
        .collect();
    Line { to, options }
}

/// Reads a target.
///
/// # Errors
/// The reason and the way out.
pub(crate) fn parse(text: &str) -> Result<Target, String> {
    if let Some(path) = text.strip_prefix("unix:") {
        return unix(path);
    }
    if let Some(name) = text.strip_prefix("srv:") {
        return srv(name);
    }
    if text == "echo" {
        return Ok(Target::Echo);
    }
    if text.is_empty() {
        return Err(format!("the address is missing; {FORMS}"));
    }
    if let Ok(addr) = text.parse::<SocketAddr>() {
        return address(addr);
    }
    if text.parse::<IpAddr>().is_ok_and(|ip| ip.is_ipv6()) {
        return Err(format!(
            "{text:?} has no port; an IPv6 address needs brackets and a port after them, as in [{text}]:5432"
        ));
    }
    let Some((host, port)) = text.rsplit_once(':').filter(|_| !text.ends_with(']')) else {
        return Err(format!("{text:?} has no port; write {text}:5432"));
    };
    if host.starts_with('[') || host.contains(':') {
        return Err(format!(
            "{host:?} is no IPv6 address in brackets; write it as in [::1]:{port}"
        ));
    }
    let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    let port = match port.parse::<u16>() {
        Ok(number @ 1..) if digits => number,
        _ => return Err(format!("the port {port:?} is not a number from 1 to 65535")),
    };
    check_host(host)?;
    Ok(Target::Name {
        host: host.to_owned(),
        port,
    })
}

/// The text that is read as this target.
pub(crate) fn show(target: &Target) -> String {
    match target {
        Target::Addr(addr) => addr.to_string(),
        Target::Unix(path) => format!("unix:{}", path.display()),
        Target::Name { host, port } => format!("{host}:{port}"),
        Target::Srv { name } => format!("srv:{name}"),
        Target::Echo => "echo".to_owned(),
    }
}

fn address(addr: SocketAddr) -> Result<Target, String> {
    // A mapped address is IPv4, whatever it is written as.
    let ip = addr.ip().to_canonical();
    if addr.port() == 0 {
        return Err(format!("nobody listens on port 0; write {FORM_ADDR}"));
    }
    if ip.is_unspecified() {
        let local = match ip {
            IpAddr::V4(_) => IpAddr::from(Ipv4Addr::LOCALHOST),
            IpAddr::V6(_) => IpAddr::from(Ipv6Addr::LOCALHOST),
        };
        let local = SocketAddr::from((local, addr.port()));
        return Err(format!(
            "{addr} can be listened on, not connected to; write {local} for this host"
        ));
    }
    if ip.is_multicast() || ip == IpAddr::from(Ipv4Addr::BROADCAST) {
        return Err(format!("{addr} is no single host; write {FORM_ADDR}"));
    }
    Ok(Target::Addr(match ip {
        IpAddr::V4(ip) => SocketAddr::from((ip, addr.port())),
        IpAddr::V6(_) => addr,
    }))
}

fn unix(path: &str) -> Result<Target, String> {
    if path.is_empty() {
        return Err("the path is missing; write unix:/run/name.sock".to_owned());
    }
    if path.starts_with('@') {
        return Err(
            "abstract sockets are not supported; give a path, whose directory can be protected"
                .to_owned(),
        );
    }
    if path.len() > UNIX_PATH_BYTES_MAX || path.contains('\0') {
        return Err(format!(
            "a unix socket's path has at most {UNIX_PATH_BYTES_MAX} bytes and no NUL, this one has {}",
            path.len()
        ));
    }
    Ok(Target::Unix(PathBuf::from(path)))
}

fn srv(name: &str) -> Result<Target, String> {
    if !name.starts_with('_') {
        let form = "write it as in srv:_postgresql._tcp.example.org";
        return Err(format!("{name:?} is no service name; {form}"));
    }
    check_host(name)?;
    Ok(Target::Srv {
        name: name.to_owned(),
    })
}

/// Whether a name can be looked up at all.
fn check_host(host: &str) -> Result<(), String> {
    if host.is_empty() {
        return Err(format!("the host is missing; {FORMS}"));
    }
    let all_numbers = |byte: u8| byte.is_ascii_digit() || byte == b'.';
    if host.bytes().all(all_numbers) {
        return Err(format!(
            "{host:?} is no IPv4 address: four numbers from 0 to 255, without leading zeros"
        ));
    }
    let is_label = |label: &str| {
        (1..=LABEL_BYTES_MAX).contains(&label.len())
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    // A dot at the end says that no search domain is to be tried.
    let labels = host.strip_suffix('.').unwrap_or(host);
    if host.len() > HOST_BYTES_MAX || !labels.split('.').all(is_label) {
        return Err(format!(
            "{host:?} cannot be a host's name: labels of 1 to {LABEL_BYTES_MAX} letters, digits, - or _, with dots \
             between them, {HOST_BYTES_MAX} bytes in all"
        ));
    }
    Ok(())
}

/// That a setting after a comma is none.
pub(crate) fn unknown_option(written: &str, names: &[&str]) -> String {
    match suggest::nearest(written, names.iter().copied()) {
        Some(near) => format!("{written:?} is no setting of a backend; did you mean {near:?}?"),
        None => format!(
            "{written:?} is no setting of a backend; there are {}, as in db1:5432,weight=3,backup",
            names.join(", ")
        ),
    }
}

const FORM_ADDR: &str = "an address as in 10.0.0.1:5432";
const FORMS: &str =
    "write db1:5432, 10.0.0.1:5432, [::1]:5432, unix:/run/db.sock or srv:_db._tcp.example.org";
/// `sockaddr_un` has 108 bytes for a path, the last a NUL.
const UNIX_PATH_BYTES_MAX: usize = 107;
/// What the DNS can carry.
const HOST_BYTES_MAX: usize = 253;
const LABEL_BYTES_MAX: usize = 63;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_documented_form_is_read_and_shown() {
        // Goal: what is shown can be typed again. Method: read, show, read.
        for (text, shown) in [
            ("10.0.0.1:5432", "10.0.0.1:5432"),
            ("[::1]:5432", "[::1]:5432"),
            ("[::ffff:10.0.0.1]:80", "10.0.0.1:80"),
            ("[fe80::1%2]:80", "[fe80::1%2]:80"),
            ("db1:5432", "db1:5432"),
            ("db-1.example.org.:5432", "db-1.example.org.:5432"),
            ("unix:/run/db.sock", "unix:/run/db.sock"),
            ("srv:_db._tcp.example.org", "srv:_db._tcp.example.org"),
            ("echo", "echo"),
        ] {
            let target = parse(text).unwrap();
            assert_eq!(show(&target), shown);
            assert_eq!(parse(shown).unwrap(), target);
        }
    }

    #[test]
    fn every_refusal_shows_the_way_out() {
        // Goal: a person can mend it from the message alone. Method: one of each kind, by fragments.
        for (text, advice) in [
            ("", "write db1:5432"),
            ("db1", "write db1:5432"),
            ("10.0.0.1", "write 10.0.0.1:5432"),
            ("[::1]", "write [::1]:5432"),
            ("fe80::1", "as in [fe80::1]:5432"),
            ("a:b:80", "as in [::1]:80"),
            ("[1.2.3.4]:80", "brackets"),
            ("db1:", "from 1 to 65535"),
            ("db1:+80", "from 1 to 65535"),
            ("db1:0", "from 1 to 65535"),
            ("db1:65536", "from 1 to 65535"),
            (":80", "the host is missing"),
            ("10.0.0.256:80", "no IPv4 address"),
            ("10.0.0.01:80", "leading zeros"),
            ("10.0.0.1:0", "nobody listens on port 0"),
            ("0.0.0.0:80", "write 127.0.0.1:80"),
            ("[::]:80", "write [::1]:80"),
            ("224.0.0.1:80", "no single host"),
            ("db one:80", "letters, digits"),
            ("a..b:80", "1 to 63"),
            ("-\u{e9}:80", "letters, digits"),
            ("unix:", "unix:/run/name.sock"),
            ("unix:@x", "give a path"),
            ("srv:db", "srv:_postgresql"),
            ("srv:_a b", "letters, digits"),
        ] {
            let message = parse(text).unwrap_err();
            assert!(message.contains(advice), "{text:?}: {message}");
        }
        let long = format!("unix:{}", "x".repeat(108));
        assert!(parse(&long).unwrap_err().contains("this one has 108"));
        let long = format!("{}:1", "abcdefg.".repeat(32));
        assert!(parse(&long).unwrap_err().contains("253 bytes"));
    }

    #[test]
    fn a_line_is_a_target_and_its_settings() {
        // Goal: the short form of a backend. Method: as in the documentation, and with gaps.
        let line = split_line("db1:5432,weight=3, backup ,max = 200");
        assert_eq!(line.to, "db1:5432");
        let options = [
            ("weight", Some("3")),
            ("backup", None),
            ("max", Some("200")),
        ];
        assert_eq!(line.options, options);
        assert_eq!(split_line("x:1").options, []);
        assert_eq!(split_line(",weight=1").to, "");
        assert_eq!(split_line("x:1,").options, [("", None)]);
        let message = unknown_option("wieght", &["weight", "backup"]);
        assert!(message.contains("did you mean \"weight\"?"), "{message}");
    }
}
