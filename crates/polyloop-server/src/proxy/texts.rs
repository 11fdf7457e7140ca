//! The kinds of value that only the proxy has: rates, ranges of addresses, names, bytes, PROXY headers.

use std::net::{IpAddr, SocketAddr};

use polyloop_core::units::parse_count;
use polyloop_proxy::settings::{NamePattern, ProxyTlv, Rate, SendProxy, SourceAddr};

use super::codec::Codec;
use super::suggest;
use super::value::{Value, Wrong};

/// New connections over time: `100`, `100/s`, `100/s,burst=500`.
pub(crate) struct RateText;

impl Codec for RateText {
    type Of = Rate;

    fn read(&self, value: &Value) -> Result<Rate, Wrong> {
        const FORM: &str = "a rate, as in \"100/s\" or \"100/s,burst=500\"";
        let text = value.as_text(FORM)?;
        let (rate, burst) = match text.split_once(',') {
            Some((rate, burst)) => (rate.trim(), Some(burst.trim())),
            None => (text, None),
        };
        let rate = match rate.split_once('/') {
            None => rate,
            Some((rate, "s")) => rate,
            Some((_, per)) => {
                let why = format!("a rate is per second, not per {per:?}; write {FORM}");
                return Err(Wrong::new(why));
            }
        };
        let number = |text: &str| match parse_count(text).map_err(Wrong::new)? {
            0 => Err(Wrong::new(format!(
                "a rate of 0 refuses everybody; write {FORM}"
            ))),
            number => u32::try_from(number).map_err(|_| {
                Wrong::new(format!("{number} is out of range; give 1 to {}", u32::MAX))
            }),
        };
        let per_second = number(rate)?;
        let burst = match burst.map(|burst| burst.split_once('=')) {
            None => per_second,
            Some(Some(("burst", burst))) => number(burst)?,
            Some(_) => {
                return Err(Wrong::new(format!(
                    "after the comma comes burst=COUNT; write {FORM}"
                )));
            }
        };
        Ok(Rate { per_second, burst })
    }

    fn show(&self, of: &Rate) -> Option<Value> {
        let Rate { per_second, burst } = of;
        Some(Value::Text(if burst == per_second {
            format!("{per_second}/s")
        } else {
            format!("{per_second}/s,burst={burst}")
        }))
    }
}

/// A name server: `10.0.0.2`, `10.0.0.2:5353`, `[fd00::2]:5353`.
pub(crate) struct ServerText;

impl Codec for ServerText {
    type Of = SocketAddr;

    fn read(&self, value: &Value) -> Result<SocketAddr, Wrong> {
        const FORM: &str = "the address of a name server, as in \"10.0.0.2\" or \"10.0.0.2:5353\"";
        let text = value.as_text(FORM)?;
        let bare = text.trim_start_matches('[').trim_end_matches(']');
        let read = text.parse::<SocketAddr>().or_else(|_| {
            let ip = bare.parse::<IpAddr>();
            ip.map(|ip| SocketAddr::new(ip, DNS_PORT))
        });
        match read {
            Ok(addr) if addr.port() > 0 && !addr.ip().is_unspecified() => Ok(addr),
            // Who would have to be asked for the name of whom to ask?
            _ => Err(Wrong::new(format!(
                "{text:?} is no name server; write {FORM}"
            ))),
        }
    }

    fn show(&self, of: &SocketAddr) -> Option<Value> {
        Some(Value::Text(if of.port() == DNS_PORT {
            of.ip().to_string()
        } else {
            of.to_string()
        }))
    }
}

const DNS_PORT: u16 = 53;

/// An address to connect from: `10.0.0.5`, `10.0.0.5:20000-29999`, `[fd00::5]:20000-29999`.
pub(crate) struct SourceText;

impl Codec for SourceText {
    type Of = SourceAddr;

    fn read(&self, value: &Value) -> Result<SourceAddr, Wrong> {
        let text = value.as_text("an address of this host, as in \"10.0.0.5\"")?;
        let wrong = || {
            Wrong::new(format!(
                "{text:?} is no address to connect from; {SOURCE_FORMS}"
            ))
        };
        if let Ok(ip) = text.parse::<IpAddr>() {
            return source(ip, None).ok_or_else(wrong);
        }
        let (host, ports) = text.rsplit_once(':').ok_or_else(wrong)?;
        let ip = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'));
        // Brackets hold IPv6, and IPv6 with ports needs them.
        let ip: IpAddr = ip.unwrap_or(host).parse().map_err(|_| wrong())?;
        if ip.is_ipv6() != host.starts_with('[') {
            return Err(wrong());
        }
        let (first, last) = ports.split_once('-').ok_or_else(wrong)?;
        let port = |text: &str| text.parse::<u16>().ok().filter(|&port| port > 0);
        let ports = (
            port(first).ok_or_else(wrong)?,
            port(last).ok_or_else(wrong)?,
        );
        if ports.0 > ports.1 {
            return Err(Wrong::new(format!(
                "the ports {first}-{last} go down; write {last}-{first}"
            )));
        }
        source(ip, Some(ports)).ok_or_else(wrong)
    }

    fn show(&self, of: &SourceAddr) -> Option<Value> {
        let SourceAddr { ip, ports } = of;
        Some(Value::Text(match (ports, ip) {
            (None, ip) => ip.to_string(),
            (Some((first, last)), IpAddr::V4(ip)) => format!("{ip}:{first}-{last}"),
            (Some((first, last)), IpAddr::V6(ip)) => format!("[{ip}]:{first}-{last}"),
        }))
    }
}

fn source(ip: IpAddr, ports: Option<(u16, u16)>) -> Option<SourceAddr> {
    let ip = ip.to_canonical();
    let can_be_used = !ip.is_unspecified() && !ip.is_multicast();
    can_be_used.then_some(SourceAddr { ip, ports })
}

/// Bytes as text with escapes: `PING\r\n`, `\x00\x01`.
pub(crate) struct Escaped;

impl Codec for Escaped {
    type Of = Vec<u8>;

    fn read(&self, value: &Value) -> Result<Vec<u8>, Wrong> {
        let text = value.as_text(r"a text, as in 'PING\r\n'")?;
        let bytes = unescape(text)?;
        if bytes.len() > ESCAPED_BYTES_MAX {
            return Err(Wrong::new(format!(
                "it has {} bytes; give at most {ESCAPED_BYTES_MAX}",
                bytes.len()
            )));
        }
        Ok(bytes)
    }

    fn show(&self, of: &Vec<u8>) -> Option<Value> {
        Some(Value::Text(escape(of)))
    }
}

fn unescape(text: &str) -> Result<Vec<u8>, Wrong> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            continue;
        }
        bytes.push(match chars.next() {
            Some('r') => b'\r',
            Some('n') => b'\n',
            Some('t') => b'\t',
            Some('0') => 0,
            Some('\\') => b'\\',
            Some('x') => {
                let digits: String = chars.by_ref().take(2).collect();
                let is_hex = digits.len() == 2 && digits.bytes().all(|b| b.is_ascii_hexdigit());
                u8::from_str_radix(&digits, 16)
                    .ok()
                    .filter(|_| is_hex)
                    .ok_or_else(|| Wrong::new(format!("\\x{digits} is no byte; {ESCAPES}")))?
            }
            Some(c) => return Err(Wrong::new(format!("\\{c} means nothing; {ESCAPES}"))),
            None => return Err(Wrong::new(format!("it ends in a lone \\; {ESCAPES}"))),
        });
    }
    Ok(bytes)
}

fn escape(bytes: &[u8]) -> String {
    let escape = |&byte: &u8| match byte {
        b'\r' => "\\r".to_owned(),
        b'\n' => "\\n".to_owned(),
        b'\t' => "\\t".to_owned(),
        b'\\' => "\\\\".to_owned(),
        b' '..=b'~' => char::from(byte).to_string(),
        byte => format!("\\x{byte:02x}"),
    };
    bytes.iter().map(escape).collect()
}

/// The PROXY header to send: `off`, `v1`, `v2`, `v2,crc32c,authority,alpn,unique-id,0xE0=text`.
pub(crate) struct SendProxyText;

impl Codec for SendProxyText {
    type Of = Option<SendProxy>;

    fn read(&self, value: &Value) -> Result<Option<SendProxy>, Wrong> {
        let text = value.as_text("off, v1 or v2, as in \"v2,crc32c\"")?;
        let mut parts = text.split(',').map(str::trim);
        let version = parts.next().unwrap_or_default();
        let (mut tlvs, mut checksum) = (Vec::new(), false);
        for part in parts {
            if version != "v2" {
                let why = format!("{part:?} is told by version 2 only; write v2,{part}");
                return Err(Wrong::new(why));
            }
            let tlv = match part {
                "crc32c" if checksum => return Err(twice(part)),
                "crc32c" => {
                    checksum = true;
                    continue;
                }
                part => tlv(part)?,
            };
            let kind = |tlv: &ProxyTlv| match tlv {
                ProxyTlv::Custom { kind, .. } => Some(*kind),
                ProxyTlv::Authority | ProxyTlv::Alpn | ProxyTlv::UniqueId => None,
            };
            let is_same = |other: &ProxyTlv| {
                *other == tlv || kind(&tlv).is_some() && kind(other) == kind(&tlv)
            };
            if tlvs.iter().any(is_same) {
                return Err(twice(part));
            }
            tlvs.push(tlv);
        }
        match version {
            "off" => Ok(None),
            "v1" => Ok(Some(SendProxy::V1)),
            "v2" => Ok(Some(SendProxy::V2 { tlvs, checksum })),
            other => Err(Wrong::new(format!("{other:?} is none of off, v1, v2"))),
        }
    }

    fn show(&self, of: &Option<SendProxy>) -> Option<Value> {
        Some(Value::Text(match of {
            None => "off".to_owned(),
            Some(SendProxy::V1) => "v1".to_owned(),
            Some(SendProxy::V2 { tlvs, checksum }) => {
                let mut text = "v2".to_owned();
                if *checksum {
                    text.push_str(",crc32c");
                }
                for tlv in tlvs {
                    text.push(',');
                    match tlv {
                        ProxyTlv::Authority => text.push_str("authority"),
                        ProxyTlv::Alpn => text.push_str("alpn"),
                        ProxyTlv::UniqueId => text.push_str("unique-id"),
                        ProxyTlv::Custom { kind, value } => {
                            text.push_str(&format!("0x{kind:X}={}", escape_list(value)));
                        }
                    }
                }
                text
            }
        }))
    }
}

/// A value within a list with commas.
fn escape_list(value: &[u8]) -> String {
    // A space at either end would be taken for the list's.
    escape(value).replace(',', "\\x2c").replace(' ', "\\x20")
}

fn tlv(part: &str) -> Result<ProxyTlv, Wrong> {
    match part {
        "authority" => return Ok(ProxyTlv::Authority),
        "alpn" => return Ok(ProxyTlv::Alpn),
        "unique-id" => return Ok(ProxyTlv::UniqueId),
        _ => {}
    }
    let Some((kind, value)) = part.split_once('=') else {
        let names = ["crc32c", "authority", "alpn", "unique-id"];
        let hint = suggest::hint(part, names);
        return Err(Wrong::new(format!(
            "{part:?} is none of {}, 0xE0=TEXT{hint}",
            names.join(", ")
        )));
    };
    let digits = kind.strip_prefix("0x").or_else(|| kind.strip_prefix("0X"));
    let kind = digits
        .and_then(|digits| u8::from_str_radix(digits, 16).ok())
        .filter(|kind| (0xe0..=0xef).contains(kind))
        .ok_or_else(|| {
            Wrong::new(format!(
                "{kind:?} is no type of one's own; give 0xE0 to 0xEF"
            ))
        })?;
    let value = unescape(value)?;
    if value.len() > ESCAPED_BYTES_MAX {
        let why = format!(
            "0x{kind:X} has {} bytes; give at most {ESCAPED_BYTES_MAX}",
            value.len()
        );
        return Err(Wrong::new(why));
    }
    Ok(ProxyTlv::Custom { kind, value })
}

fn twice(part: &str) -> Wrong {
    Wrong::new(format!("{part:?} is given twice; give it once"))
}

/// A server name, or all below one: `db.example.org`, `*.example.org`.
pub(crate) struct SniText;

impl Codec for SniText {
    type Of = NamePattern;

    fn read(&self, value: &Value) -> Result<NamePattern, Wrong> {
        let text = value.as_text("a server name, as in \"db.example.org\" or \"*.example.org\"")?;
        let (name, is_below) = match text.strip_prefix("*.") {
            Some(name) => (name, true),
            None => (text, false),
        };
        let name = server_name(name).map_err(|why| Wrong::new(format!("{text:?} {why}")))?;
        Ok(if is_below {
            NamePattern::Below(name)
        } else {
            NamePattern::Exact(name)
        })
    }

    fn show(&self, of: &NamePattern) -> Option<Value> {
        Some(Value::Text(match of {
            NamePattern::Exact(name) => name.clone(),
            NamePattern::Below(name) => format!("*.{name}"),
        }))
    }
}

/// A server name to ask for.
pub(crate) struct ServerName;

impl Codec for ServerName {
    type Of = String;

    fn read(&self, value: &Value) -> Result<String, Wrong> {
        let text = value.as_text("a server name, as in \"db.example.org\"")?;
        server_name(text).map_err(|why| Wrong::new(format!("{text:?} {why}")))
    }

    fn show(&self, of: &String) -> Option<Value> {
        Some(Value::text(of))
    }
}

/// As it comes in a TLS hello: lower case, without the dot at the end, never an address.
fn server_name(text: &str) -> Result<String, &'static str> {
    if text.parse::<IpAddr>().is_ok() || text.parse::<SocketAddr>().is_ok() {
        return Err("is an address; a TLS hello has names only");
    }
    if text.contains('*') {
        return Err("has a * that is not the whole first label; write *.example.org");
    }
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    let name = text.strip_suffix('.').unwrap_or(text);
    if name.len() > 253 || !name.split('.').all(is_label) {
        return Err(
            "cannot be a server name: labels of letters, digits, - or _, with dots between them (other scripts in \
             their xn-- form)",
        );
    }
    Ok(name.to_ascii_lowercase())
}

/// A protocol of ALPN: `h2`, `postgresql`.
pub(crate) struct AlpnText;

impl Codec for AlpnText {
    type Of = String;

    fn read(&self, value: &Value) -> Result<String, Wrong> {
        let text = value.as_text("a protocol, as in \"h2\"")?;
        let is_visible = text.bytes().all(|byte| byte.is_ascii_graphic());
        if !is_visible || !(1..=255).contains(&text.len()) {
            let why = format!("{text:?} is no protocol: 1 to 255 visible ASCII characters");
            return Err(Wrong::new(why));
        }
        Ok(text.to_owned())
    }

    fn show(&self, of: &String) -> Option<Value> {
        Some(Value::text(of))
    }
}

/// The name of a listener, a group or a backend, as it stands in logs and metrics.
pub(crate) struct NameText;

impl Codec for NameText {
    type Of = String;

    fn read(&self, value: &Value) -> Result<String, Wrong> {
        let text = value.as_text("a name")?;
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:/@[]".contains(&byte);
        if !(1..=NAME_BYTES_MAX).contains(&text.len()) || !text.bytes().all(is_plain) {
            return Err(Wrong::new(format!(
                "{text:?} is no name: 1 to {NAME_BYTES_MAX} letters, digits, or any of - _ . : / @ [ ]"
            )));
        }
        Ok(text.to_owned())
    }

    fn show(&self, of: &String) -> Option<Value> {
        (!of.is_empty()).then(|| Value::text(of))
    }
}

/// A label of a metric is repeated on every line of it.
pub(crate) const NAME_BYTES_MAX: usize = 128;
/// A check fits into one packet, and a header's value into its buffer.
const ESCAPED_BYTES_MAX: usize = 1024;
const ESCAPES: &str = r"escapes are \r \n \t \0 \\ \x00";
const SOURCE_FORMS: &str =
    "write 10.0.0.5, 10.0.0.5:20000-29999 for a range of ports, or [fd00::5]:20000-29999";

#[cfg(test)]
mod tests;
