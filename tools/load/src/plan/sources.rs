//! From which addresses connections are made.
//!
//! The one idea: a pair of addresses has room for as many connections as there are ports, so a million of them need
//! many sources. On a loopback interface each address of 127.0.0.0/8 is one, without being set up.
//!
//! Invariants: at least one address, all of one family, and none that cannot be a source.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// Connections from one source address to one destination (address and port).
///
/// A port range of 64,512 would allow more. But the kernel tries ports of one parity first and looks longer for a free one
/// the fuller that half is, which shows as connects that take milliseconds; and the range is often only 28,232 wide.
pub const CONNECTIONS_PER_PAIR_MAX: u64 = 25_000;

/// Source addresses, read from text: `127.1.0.0/16`, `127.0.0.2-127.0.0.9`, `fd00::5`, or several with commas.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sources {
    ranges: Vec<Range>,
    len: u64,
}

/// Addresses in a row, of either family, as numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Range {
    first: IpAddr,
    len: u64,
    /// As typed, where the ends do not tell.
    prefix: Option<u8>,
}

/// Why a text is no list of sources.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SourcesError {
    /// Nothing there, or nothing between two commas.
    #[error(
        "the sources {text:?} have an empty part; write addresses as in 127.1.0.0/16 or 127.0.0.2-127.0.0.9"
    )]
    Empty {
        /// The whole text.
        text: String,
    },
    /// Not an address.
    #[error(
        "{text:?} is no address; write one as in 127.0.0.2 or fd00::2, names are not looked up"
    )]
    NotAnAddress {
        /// The part as typed.
        text: String,
    },
    /// Not a length of a prefix.
    #[error(
        "the prefix of {text:?} is no number from 0 to {bits}; write a block as in 127.1.0.0/16 or fd00::/112"
    )]
    Prefix {
        /// The block as typed.
        text: String,
        /// Bits of an address.
        bits: u8,
    },
    /// A range goes down.
    #[error("the range {text:?} ends before it begins; write the lower address first")]
    Backwards {
        /// The range as typed.
        text: String,
    },
    /// Addresses of both families.
    #[error(
        "{text:?} is of another family than the sources before it; a run connects with one of IPv4 and IPv6"
    )]
    Families {
        /// The first part of the other family.
        text: String,
    },
    /// Nobody can connect from it.
    #[error(
        "{address} cannot be a source, as it is {what}; leave it out, or begin the range behind it"
    )]
    Unusable {
        /// The address.
        address: IpAddr,
        /// What it is.
        what: &'static str,
    },
}

/// Too few sources.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "{connections} connections from {sources} source address(es) to {destinations} destination(s) are more than the \
     {CONNECTIONS_PER_PAIR_MAX} that a pair of them has ports for; give at least {sources_needed} sources, on loopback as \
     in --sources 127.1.0.0/16, or more destinations, or ask for at most {connections_max} connections"
)]
pub struct Shortage {
    /// Asked for.
    pub connections: u64,
    /// Source addresses there are.
    pub sources: u64,
    /// Destinations there are.
    pub destinations: u64,
    /// How many sources would do.
    pub sources_needed: u64,
    /// How many connections these are enough for.
    pub connections_max: u64,
}

/// Whether so many connections find ports.
///
/// # Errors
/// [`Shortage`], with what would be enough.
pub fn enough(connections: u64, sources: u64, destinations: u64) -> Result<(), Shortage> {
    let (sources, destinations) = (sources.max(1), destinations.max(1));
    let per_source = destinations.saturating_mul(CONNECTIONS_PER_PAIR_MAX);
    let connections_max = sources.saturating_mul(per_source);
    if connections <= connections_max {
        return Ok(());
    }
    Err(Shortage {
        connections,
        sources,
        destinations,
        sources_needed: connections.div_ceil(per_source),
        connections_max,
    })
}

impl Sources {
    /// How many addresses there are; a block of IPv6 counts as 2^64 - 1 at most.
    #[must_use]
    pub const fn len(&self) -> u64 {
        self.len
    }

    /// Never: there is at least one.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether they are IPv4, as the destinations then have to be.
    #[must_use]
    pub fn is_ipv4(&self) -> bool {
        self.ranges
            .first()
            .is_some_and(|range| range.first.is_ipv4())
    }

    /// The source of connection `index`: one after the other, round and round.
    #[must_use]
    pub fn nth(&self, index: u64) -> IpAddr {
        let mut place = index % self.len;
        for range in &self.ranges {
            if place < range.len {
                return plus(range.first, place);
            }
            place -= range.len;
        }
        unreachable!("a place is below the sum of the lengths");
    }

    /// Whether so many connections find ports.
    ///
    /// # Errors
    /// [`Shortage`], with what would be enough.
    pub fn enough_for(&self, connections: u64, destinations: u64) -> Result<(), Shortage> {
        enough(connections, self.len, destinations)
    }
}

impl FromStr for Sources {
    type Err = SourcesError;

    fn from_str(text: &str) -> Result<Self, SourcesError> {
        let mut ranges: Vec<Range> = Vec::new();
        let mut len = 0_u64;
        for part in text.split(',').map(str::trim) {
            if part.is_empty() {
                return Err(SourcesError::Empty {
                    text: text.to_owned(),
                });
            }
            let range = Range::parse(part)?;
            if ranges
                .first()
                .is_some_and(|first| first.first.is_ipv4() != range.first.is_ipv4())
            {
                return Err(SourcesError::Families {
                    text: part.to_owned(),
                });
            }
            len = len.saturating_add(range.len);
            ranges.push(range);
        }
        Ok(Self { ranges, len })
    }
}

impl Range {
    fn parse(text: &str) -> Result<Self, SourcesError> {
        let range = if let Some((address, prefix)) = text.split_once('/') {
            Self::block(parse_address(address)?, prefix, text)?
        } else if let Some((first, last)) = text.split_once('-') {
            Self::between(parse_address(first)?, parse_address(last)?, text)?
        } else {
            let first = parse_address(text)?;
            Self {
                first,
                len: 1,
                prefix: None,
            }
        };
        for end in [range.first, range.last()] {
            if let Some(what) = why_unusable(end) {
                return Err(SourcesError::Unusable { address: end, what });
            }
        }
        Ok(range)
    }

    /// A block without its ends: the first address names the network, the last one everybody in it.
    fn block(address: IpAddr, prefix: &str, text: &str) -> Result<Self, SourcesError> {
        let bits = bits_of(address);
        let prefix = prefix.trim().parse().ok().filter(|prefix| *prefix <= bits);
        let prefix: u8 = prefix.ok_or_else(|| SourcesError::Prefix {
            text: text.to_owned(),
            bits,
        })?;
        let host_bits = u32::from(bits - prefix);
        let host_mask = 1_u128
            .checked_shl(host_bits)
            .map_or(u128::MAX, |size| size - 1);
        let network = number(address) & !host_mask;
        let (skipped, len) = match host_mask {
            0 | 1 => (0, host_mask + 1),
            // IPv6 has no address for everybody; its first one belongs to the routers.
            _ if bits == 128 => (1, host_mask),
            _ => (1, host_mask - 1),
        };
        Ok(Self {
            first: address_of(network + skipped, address),
            len: u64::try_from(len).unwrap_or(u64::MAX),
            prefix: Some(prefix),
        })
    }

    fn between(first: IpAddr, last: IpAddr, text: &str) -> Result<Self, SourcesError> {
        if first.is_ipv4() != last.is_ipv4() {
            return Err(SourcesError::Families {
                text: text.to_owned(),
            });
        }
        let span = number(last).checked_sub(number(first));
        let span = span.ok_or_else(|| SourcesError::Backwards {
            text: text.to_owned(),
        })?;
        Ok(Self {
            first,
            len: u64::try_from(span).unwrap_or(u64::MAX).saturating_add(1),
            prefix: None,
        })
    }

    fn last(self) -> IpAddr {
        plus(self.first, self.len - 1)
    }
}

impl fmt::Display for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, range) in self.ranges.iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            match range.prefix {
                Some(prefix) => {
                    let network = match range.len {
                        1 | 2 if bits_of(range.first) - prefix <= 1 => range.first,
                        _ => address_of(number(range.first) - 1, range.first),
                    };
                    write!(f, "{network}/{prefix}")?;
                }
                None if range.len == 1 => write!(f, "{}", range.first)?,
                None => write!(f, "{}-{}", range.first, range.last())?,
            }
        }
        Ok(())
    }
}

fn parse_address(text: &str) -> Result<IpAddr, SourcesError> {
    text.trim().parse().map_err(|_| SourcesError::NotAnAddress {
        text: text.to_owned(),
    })
}

fn why_unusable(address: IpAddr) -> Option<&'static str> {
    match address {
        _ if address.is_unspecified() => Some("no address in particular"),
        _ if address.is_multicast() => Some("a multicast group"),
        IpAddr::V4(v4) if v4.is_broadcast() => Some("everybody on the network"),
        IpAddr::V4(_) | IpAddr::V6(_) => None,
    }
}

const fn bits_of(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

/// The address with that number, of the family of another.
fn address_of(number: u128, like: IpAddr) -> IpAddr {
    match like {
        IpAddr::V4(_) => Ipv4Addr::from_bits(number as u32).into(),
        IpAddr::V6(_) => Ipv6Addr::from_bits(number).into(),
    }
}

fn plus(address: IpAddr, steps: u64) -> IpAddr {
    address_of(number(address) + u128::from(steps), address)
}

#[cfg(test)]
mod tests;
