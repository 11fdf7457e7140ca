//! A range of addresses, as `10.0.0.0/8` or `2001:db8::/32`.
//!
//! One idea: an IPv4 address that comes mapped into IPv6 (`::ffff:10.1.2.3`, as dual-stack listeners see it) *is* the
//! IPv4 address. Ranges and addresses are both brought to that form before they meet, so no spelling of an address is in
//! a range that another spelling is not in. It follows that `::/0` is all of IPv6 and none of IPv4, and that everybody
//! is `0.0.0.0/0` and `::/0`.
//!
//! What could be read in two ways is refused, with what to write instead: a range below `::ffff:0.0.0.0` that is shorter
//! than the 96 bits that make it one of IPv4 addresses, and bits past the prefix.
//!
//! Deliberately absent: netmasks, zones (`%eth0` is a matter of one link), names, ports.
//!
//! Invariant: no bit past the prefix is set, and an IPv6 range lies outside `::ffff:0:0/96`, or around it.

use std::error::Error;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

#[cfg(test)]
mod tests;

/// All addresses that begin with the same bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Cidr {
    network: IpAddr,
    prefix: u8,
}

/// A text that is no range of addresses. The message names the text, the reason and what to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CidrError {
    /// The text as typed.
    pub text: String,
    /// What is wrong with it.
    pub reason: CidrReason,
}

/// Why a text is no range of addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum CidrReason {
    /// What stands before the slash, or alone, is no address.
    NotAnAddress,
    /// The address names a zone.
    Zone,
    /// What stands after the slash is no number.
    NotAPrefix,
    /// The prefix is longer than the address.
    PrefixTooLong {
        /// The bits of such an address.
        bits: u8,
    },
    /// IPv4 addresses mapped into IPv6, with a prefix that reaches beyond them.
    Ambiguous {
        /// What was meant, if the prefix counted the bits of the IPv4 address.
        meant: Option<Cidr>,
    },
    /// The address has bits past the prefix.
    HostBits {
        /// The range around the address.
        range: Cidr,
        /// The address alone.
        single: Cidr,
    },
}

/// Where an address or a range stands: its family, and its bits moved up to the top.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bits {
    pub(crate) is_v4: bool,
    pub(crate) top: u128,
}

impl Cidr {
    /// The range of addresses whose first `prefix` bits are those of `network`.
    ///
    /// # Errors
    /// [`CidrError`] if the prefix is longer than the address, the address has bits past it, or it could mean two
    /// things.
    pub fn new(network: IpAddr, prefix: u8) -> Result<Self, CidrError> {
        Self::check(network, prefix).map_err(|reason| CidrError {
            text: format!("{network}/{prefix}"),
            reason,
        })
    }

    /// The range of this address alone.
    #[must_use]
    pub const fn single(address: IpAddr) -> Self {
        let network = address.to_canonical();
        Self {
            network,
            prefix: address_bits(network),
        }
    }

    /// Its first address; never a mapped one.
    #[must_use]
    pub const fn network(self) -> IpAddr {
        self.network
    }

    /// How many leading bits all its addresses share: up to 32 for IPv4, 128 for IPv6.
    #[must_use]
    pub const fn prefix(self) -> u8 {
        self.prefix
    }

    /// Whether this address lies in the range, mapped or not.
    #[inline]
    #[must_use]
    pub fn contains(self, address: IpAddr) -> bool {
        let (own, other) = (Bits::of(self.network), Bits::of(address));
        own.is_v4 == other.is_v4 && own.top == other.top & mask(self.prefix)
    }

    fn check(address: IpAddr, prefix: u8) -> Result<Self, CidrReason> {
        let bits = address_bits(address);
        if prefix > bits {
            return Err(CidrReason::PrefixTooLong { bits });
        }
        let canonical = address.to_canonical();
        // What the address lost on the way to its canonical form, the prefix loses too.
        let Some(prefix) = prefix.checked_sub(bits - address_bits(canonical)) else {
            let meant =
                (prefix <= address_bits(canonical)).then(|| Self::around(canonical, prefix));
            return Err(CidrReason::Ambiguous { meant });
        };
        let range = Self::around(canonical, prefix);
        if range.network != canonical {
            let single = Self::single(canonical);
            return Err(CidrReason::HostBits { range, single });
        }
        Ok(range)
    }

    /// The range of this prefix that a canonical address lies in. The prefix fits the address.
    fn around(address: IpAddr, prefix: u8) -> Self {
        let bits = Bits::of(address);
        Self::of_bits(bits.is_v4, bits.top & mask(prefix), prefix)
    }

    /// From a family, bits moved up to the top, and a prefix that covers all that are set.
    pub(crate) fn of_bits(is_v4: bool, top: u128, prefix: u8) -> Self {
        let network = if is_v4 {
            // The upper 32 of 128 bits fit.
            IpAddr::V4(Ipv4Addr::from((top >> V4_SHIFT) as u32))
        } else {
            IpAddr::V6(Ipv6Addr::from(top))
        };
        Self { network, prefix }
    }
}

impl Bits {
    #[inline]
    pub(crate) fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(v4) => Self {
                is_v4: true,
                top: u128::from(u32::from(v4)) << V4_SHIFT,
            },
            IpAddr::V6(v6) => Self {
                is_v4: false,
                top: u128::from(v6),
            },
        }
    }
}

impl FromStr for Cidr {
    type Err = CidrError;

    /// Reads `10.0.0.0/8`, or an address alone for its whole length.
    fn from_str(text: &str) -> Result<Self, CidrError> {
        parse(text).map_err(|reason| CidrError {
            text: text.to_owned(),
            reason,
        })
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.prefix)
    }
}

impl fmt::Display for CidrReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAnAddress => f.write_str(
                "is no range of addresses; write 10.0.0.0/8, 2001:db8::/32 or one address",
            ),
            Self::Zone => f.write_str("names a zone; leave out the % and what follows it"),
            Self::NotAPrefix => f.write_str(
                "has no prefix after the slash; write the number of leading bits, as in 10.0.0.0/8",
            ),
            Self::PrefixTooLong { bits } => write!(
                f,
                "has a prefix longer than the {bits} bits of such an address; write at most /{bits}"
            ),
            Self::Ambiguous { meant: Some(meant) } => write!(
                f,
                "could mean IPv4 or IPv6 addresses; write {meant} for the IPv4 addresses"
            ),
            Self::Ambiguous { meant: None } => f.write_str(
                "reaches beyond the IPv4 addresses; write an IPv4 range for them, as 10.0.0.0/8",
            ),
            Self::HostBits { range, single } => write!(
                f,
                "has bits set past its prefix; write {range} for the range or {single} for the one address"
            ),
        }
    }
}

impl fmt::Display for CidrError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {}", self.text, self.reason)
    }
}

impl Error for CidrError {}

fn parse(text: &str) -> Result<Cidr, CidrReason> {
    let (address, prefix) = match text.split_once('/') {
        Some((address, prefix)) => (address, Some(prefix)),
        None => (text, None),
    };
    if address.contains('%') {
        return Err(CidrReason::Zone);
    }
    let address: IpAddr = address.parse().map_err(|_| CidrReason::NotAnAddress)?;
    match prefix {
        Some(prefix) => Cidr::check(address, parse_prefix(prefix, address)?),
        None => Ok(Cidr::single(address)),
    }
}

/// Digits alone: no sign, no space, and no zero before others, which some would read as octal.
fn parse_prefix(text: &str, address: IpAddr) -> Result<u8, CidrReason> {
    let is_number = !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_digit())
        && (text == "0" || !text.starts_with('0'));
    if !is_number {
        return Err(CidrReason::NotAPrefix);
    }
    let bits = address_bits(address);
    text.parse().map_err(|_| CidrReason::PrefixTooLong { bits })
}

const fn address_bits(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

/// The first `prefix` bits of 128, for a prefix of at most 128.
#[inline]
pub(crate) const fn mask(prefix: u8) -> u128 {
    // Past prefix 128 there is nothing, and shifting by 128 is no shift the processor has.
    match u128::MAX.checked_shr(prefix as u32) {
        Some(past) => !past,
        None => u128::MAX,
    }
}

/// From the bottom of 128 bits to the top for an IPv4 address.
const V4_SHIFT: u32 = 96;
