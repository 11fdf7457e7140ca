//! The requests that the admin listener understands.
//!
//! The one idea: a request is parsed from all bytes there are, each time, so that there is no state between two
//! reads and a request split at any byte is the same request. Its size is bounded, so the work is too.
//!
//! A refusal is a request as well, one whose answer is known; it always ends the connection, since what follows it
//! cannot be trusted to be the next request.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::After;
use super::backends_json::Order;

/// A request head, with everything the answer depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) asked: Asked,
    /// HEAD: the answer has no body.
    pub(super) is_head: bool,
    pub(super) after: After,
}

/// What is to be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    Index,
    Metrics,
    Loops,
    Health,
    /// The backends of a proxy.
    Backends,
    /// Something to be done to one of them.
    Order(Order),
    Refused(Refusal),
}

/// Why there is no page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Not HTTP, or a head that means two things.
    Malformed,
    /// Too many bytes or too many fields.
    TooLarge,
    /// Neither HTTP/1.0 nor HTTP/1.1.
    Version,
    /// Neither GET nor HEAD.
    Method,
    /// An order that was not sent with POST.
    OrderMethod,
    /// A POST from a web page: browsers say where it comes from, and nobody else does.
    Origin,
    /// A body, which no page takes.
    Body,
    /// A name that a foreign page could have made a browser use.
    Host,
    /// No such page.
    Path,
}

/// Which `Host` is accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HostRule {
    /// An address, or `localhost`. A browser on this host can be told by any web page to ask for a name that its owner
    /// then points at 127.0.0.1 (DNS rebinding); it cannot be told to send an address it did not ask.
    AddressOnly,
    /// Any: a unix socket, which no browser reaches, or a listener that is public anyway.
    Any,
}

/// What the bytes so far are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Parsed {
    /// The beginning of a request.
    Partial,
    /// A request, or a refusal, in the first `len` bytes.
    Complete { request: Request, len: usize },
}

/// A request head may have so many bytes. Those of browsers with many cookies stay below; nobody needs more here.
pub(super) const REQUEST_BYTES_MAX: usize = 8 * 1024;
const FIELDS_MAX: usize = 64;

impl Request {
    pub(super) const fn refused(refusal: Refusal) -> Self {
        Self {
            asked: Asked::Refused(refusal),
            is_head: false,
            after: match refusal {
                Refusal::TooLarge => After::Close,
                _ => After::Drain,
            },
        }
    }

    /// Whether its answer is short and ready: worth no job.
    pub(super) const fn is_cheap(&self) -> bool {
        !matches!(self.asked, Asked::Metrics | Asked::Loops | Asked::Backends)
    }
}

/// Parses the first request in `bytes`.
pub(super) fn parse(bytes: &[u8], host_rule: HostRule) -> Parsed {
    let refused = |refusal| Parsed::Complete {
        request: Request::refused(refusal),
        len: bytes.len(),
    };
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut head = httparse::Request::new(&mut fields);
    match head.parse(&bytes[..bytes.len().min(REQUEST_BYTES_MAX)]) {
        Ok(httparse::Status::Complete(len)) => Parsed::Complete {
            request: judge(&head, host_rule),
            len,
        },
        Ok(httparse::Status::Partial) if bytes.len() < REQUEST_BYTES_MAX => Parsed::Partial,
        Ok(httparse::Status::Partial) | Err(httparse::Error::TooManyHeaders) => {
            refused(Refusal::TooLarge)
        }
        Err(httparse::Error::Version) if names_http(bytes) => refused(Refusal::Version),
        Err(_) => refused(Refusal::Malformed),
    }
}

/// Whether the first line ends like one of HTTP, in whatever version.
fn names_http(bytes: &[u8]) -> bool {
    let line = bytes
        .split(|&byte| byte == b'\n')
        .find(|line| !line.trim_ascii().is_empty());
    line.and_then(|line| line.trim_ascii().rsplit(|&byte| byte == b' ').next())
        .is_some_and(|version| version.starts_with(b"HTTP/"))
}

fn judge(head: &httparse::Request<'_, '_>, host_rule: HostRule) -> Request {
    let is_1_1 = head.version == Some(1);
    let checked = check_fields(head.headers, is_1_1, host_rule);
    let (is_head, method) = match head.method {
        Some("GET") => (false, Ok(())),
        Some("HEAD") => (true, Ok(())),
        _ => (false, Err(Refusal::Method)),
    };
    let order = order_of(head.path.unwrap_or(""));
    let is_post = head.method == Some("POST");
    let asked = match (order, is_post) {
        (Some(_), true) if values(head.headers, "origin").next().is_some() => Err(Refusal::Origin),
        (Some(order), true) => checked.map(|()| Asked::Order(order)),
        (Some(_), false) => Err(Refusal::OrderMethod),
        (None, _) => method
            .and(checked)
            .and_then(|()| page(head.path.unwrap_or(""))),
    };
    let wants_close = has_token(head.headers, "connection", "close");
    let wants_more = is_1_1 || has_token(head.headers, "connection", "keep-alive");
    match asked {
        Ok(asked) => Request {
            asked,
            is_head,
            after: if wants_more && !wants_close {
                After::KeepAlive
            } else {
                After::Drain
            },
        },
        Err(refusal) => Request {
            is_head,
            ..Request::refused(refusal)
        },
    }
}

fn check_fields(
    fields: &[httparse::Header<'_>],
    is_1_1: bool,
    host_rule: HostRule,
) -> Result<(), Refusal> {
    let mut hosts = values(fields, "host");
    let host = match (hosts.next(), hosts.next()) {
        (_, Some(_)) => return Err(Refusal::Malformed),
        (None, None) if is_1_1 => return Err(Refusal::Malformed),
        (host, None) => host,
    };
    if values(fields, "transfer-encoding").next().is_some()
        || values(fields, "content-length").any(|length| length.trim_ascii() != b"0")
    {
        return Err(Refusal::Body);
    }
    match (host_rule, host) {
        (HostRule::Any, _) | (HostRule::AddressOnly, None) => Ok(()),
        (HostRule::AddressOnly, Some(host)) if is_address(host) => Ok(()),
        (HostRule::AddressOnly, Some(_)) => Err(Refusal::Host),
    }
}

fn order_of(target: &str) -> Option<Order> {
    target.strip_prefix("/backends/").and_then(Order::parse)
}

fn page(target: &str) -> Result<Asked, Refusal> {
    // The absolute form, which proxies use: the authority in it is not looked at, as Host has to say the same.
    let path = match target.strip_prefix("http://") {
        Some(rest) => rest.find('/').map_or("/", |at| &rest[at..]),
        None => target,
    };
    let path = path.split_once('?').map_or(path, |(path, _)| path);
    match path {
        "/" => Ok(Asked::Index),
        "/metrics" => Ok(Asked::Metrics),
        "/loops" => Ok(Asked::Loops),
        "/healthz" => Ok(Asked::Health),
        "/backends" => Ok(Asked::Backends),
        _ if path.starts_with('/') => Err(Refusal::Path),
        _ => Err(Refusal::Malformed),
    }
}

/// Whether `Host: host` names an address, with or without a port, or `localhost`.
fn is_address(host: &[u8]) -> bool {
    let Ok(host) = std::str::from_utf8(host.trim_ascii()) else {
        return false;
    };
    if let Some(rest) = host.strip_prefix('[') {
        return rest.split_once(']').is_some_and(|(ip, port)| {
            ip.parse::<Ipv6Addr>().is_ok() && (port.is_empty() || is_port(port))
        });
    }
    let name = match host.find(':') {
        Some(at) if is_port(&host[at..]) => &host[..at],
        Some(_) => return false,
        None => host,
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<Ipv4Addr>().is_ok()
}

fn is_port(text: &str) -> bool {
    text.strip_prefix(':')
        .is_some_and(|port| port.bytes().all(|byte| byte.is_ascii_digit()) && port.len() <= 5)
}

fn values<'a>(fields: &'a [httparse::Header<'a>], name: &'a str) -> impl Iterator<Item = &'a [u8]> {
    fields
        .iter()
        .filter(move |field| field.name.eq_ignore_ascii_case(name))
        .map(|field| field.value)
}

fn has_token(fields: &[httparse::Header<'_>], name: &str, token: &str) -> bool {
    values(fields, name)
        .flat_map(|value| value.split(|&byte| byte == b','))
        .any(|part| part.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
}

#[cfg(test)]
mod tests;
