//! Types that `cidr` and `balance` are about to bring.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// A range of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Cidr {
    addr: IpAddr,
    prefix: u8,
}

impl FromStr for Cidr {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let error = || format!("{text:?} is no range of addresses; write 10.0.0.0/8");
        let (addr, prefix) = text.split_once('/').ok_or_else(error)?;
        Ok(Self {
            addr: addr.parse().map_err(|_| error())?,
            prefix: prefix.parse().map_err(|_| error())?,
        })
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.addr, self.prefix)
    }
}

/// How a backend is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "named as in the command line")]
pub enum Algorithm {
    RoundRobin,
    Least,
    TwoChoices,
    SourceHash,
}
