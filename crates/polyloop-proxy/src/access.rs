//! Who may connect: two lists of ranges, and what holds for those in neither.
//!
//! * The longest prefix that holds the address decides, whichever list it is in; of two equally long, `deny`.
//! * An address in no range may connect only if there is no `allow` list: whoever lists friends means nobody else.
//!
//! One idea: all ranges of one family and one prefix length are a sorted list, and the lists are asked from the longest
//! prefix down. A look-up costs one binary search for each length in use, which are few however many ranges there are.
//!
//! Deliberately absent: names, ports, and sources without an address (a Unix socket has file permissions).
//!
//! Invariant: an IPv4 address and the same one mapped into IPv6 get the same answer, see [`cidr`](crate::cidr).

use std::net::IpAddr;

use crate::cidr::{Bits, Cidr, mask};

/// Judges addresses by a list of ranges that may connect and one of ranges that may not.
#[derive(Debug, Clone, Default)]
pub struct Access {
    v4: Ranges,
    v6: Ranges,
    /// Whether only those on the `allow` list may connect.
    lists_friends: bool,
}

/// What holds for an address, and the range that says so; `None` if it is in none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Judgement {
    /// It may connect.
    Allowed(Option<Cidr>),
    /// It may not.
    Denied(Option<Cidr>),
}

impl Access {
    /// From the two lists. An empty `allow` list allows everybody who is not denied.
    #[must_use]
    pub fn new(allow: &[Cidr], deny: &[Cidr]) -> Self {
        Self {
            v4: Ranges::new(true, allow, deny),
            v6: Ranges::new(false, allow, deny),
            lists_friends: !allow.is_empty(),
        }
    }

    /// What holds for this address.
    #[must_use]
    pub fn judge(&self, address: IpAddr) -> Judgement {
        let bits = Bits::of(address);
        let ranges = if bits.is_v4 { &self.v4 } else { &self.v6 };
        match ranges.find(bits.top) {
            Some(Found { range, listed }) => {
                let by = Some(Cidr::of_bits(bits.is_v4, range.top, range.prefix));
                match listed {
                    Listed::Deny => Judgement::Denied(by),
                    Listed::Allow => Judgement::Allowed(by),
                }
            }
            None if self.lists_friends => Judgement::Denied(None),
            None => Judgement::Allowed(None),
        }
    }

    /// Whether this address may connect.
    #[inline]
    #[must_use]
    pub fn admits(&self, address: IpAddr) -> bool {
        self.admits_everybody() || matches!(self.judge(address), Judgement::Allowed(_))
    }

    /// Whether both lists are empty.
    #[inline]
    #[must_use]
    pub const fn admits_everybody(&self) -> bool {
        !self.lists_friends && self.v4.list.is_empty() && self.v6.list.is_empty()
    }
}

/// The ranges of one family: by prefix, longest first, then by address.
#[derive(Debug, Clone, Default)]
struct Ranges {
    list: Vec<Found>,
    /// For each prefix in use, longest first, where its ranges end in `list`. They begin where the ones before end.
    ends: Vec<(u8, usize)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Found {
    range: Range,
    listed: Listed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Range {
    prefix: u8,
    /// Its bits, moved up to the top.
    top: u128,
}

/// `Deny` comes first, so that of two equal ranges it is the one that is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Listed {
    Deny,
    Allow,
}

impl Ranges {
    fn new(is_v4: bool, allow: &[Cidr], deny: &[Cidr]) -> Self {
        let listed = |cidrs: &[Cidr], listed| -> Vec<Found> {
            cidrs
                .iter()
                .map(|cidr| (Bits::of(cidr.network()), cidr.prefix()))
                .filter(|(bits, _)| bits.is_v4 == is_v4)
                .map(|(bits, prefix)| Found {
                    range: Range {
                        prefix,
                        top: bits.top,
                    },
                    listed,
                })
                .collect()
        };
        let mut list = listed(deny, Listed::Deny);
        list.extend(listed(allow, Listed::Allow));
        list.sort_by_key(|found| {
            let Range { prefix, top } = found.range;
            (u8::MAX - prefix, top, found.listed)
        });
        list.dedup_by_key(|found| found.range);
        let mut ends: Vec<(u8, usize)> = Vec::new();
        for (place, found) in list.iter().enumerate() {
            match ends.last_mut() {
                Some((prefix, end)) if *prefix == found.range.prefix => *end = place + 1,
                _ => ends.push((found.range.prefix, place + 1)),
            }
        }
        Self { list, ends }
    }

    fn find(&self, address: u128) -> Option<Found> {
        let mut start = 0;
        for &(prefix, end) in &self.ends {
            let same_length = &self.list[start..end];
            let top = address & mask(prefix);
            if let Ok(place) = same_length.binary_search_by_key(&top, |found| found.range.top) {
                return Some(same_length[place]);
            }
            start = end;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cidrs(texts: &[&str]) -> Vec<Cidr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn the_longest_prefix_decides_and_deny_wins_ties() {
        // Goal: the rules of the module. Method: nested ranges in both lists.
        let access = Access::new(
            &cidrs(&["10.0.0.0/8", "10.1.2.3", "2001:db8::/32", "192.0.2.0/24"]),
            &cidrs(&["10.1.0.0/16", "192.0.2.0/24", "::ffff:10.9.0.0/112"]),
        );
        for (address, judgement) in [
            ("10.0.0.1", Judgement::Allowed(Some("10.0.0.0/8"))),
            ("10.1.0.1", Judgement::Denied(Some("10.1.0.0/16"))),
            ("10.1.2.3", Judgement::Allowed(Some("10.1.2.3/32"))),
            ("::ffff:10.1.2.3", Judgement::Allowed(Some("10.1.2.3/32"))),
            ("::ffff:10.1.2.4", Judgement::Denied(Some("10.1.0.0/16"))),
            ("::10.1.2.3", Judgement::Denied(None)),
            ("10.9.255.255", Judgement::Denied(Some("10.9.0.0/16"))),
            ("192.0.2.7", Judgement::Denied(Some("192.0.2.0/24"))),
            ("2001:db8::1", Judgement::Allowed(Some("2001:db8::/32"))),
            ("127.0.0.1", Judgement::Denied(None)),
        ] {
            let read = |text: Option<&str>| text.map(|text| text.parse().unwrap());
            let expected = match judgement {
                Judgement::Allowed(by) => super::Judgement::Allowed(read(by)),
                Judgement::Denied(by) => super::Judgement::Denied(read(by)),
            };
            assert_eq!(
                access.judge(address.parse().unwrap()),
                expected,
                "{address}"
            );
        }
    }

    /// As the one above, with texts.
    enum Judgement {
        Allowed(Option<&'static str>),
        Denied(Option<&'static str>),
    }

    #[test]
    fn without_friends_everybody_else_may() {
        // Goal: an empty allow list allows; an allow list of one family excludes the other. Method: small lists.
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        assert!(Access::default().admits_everybody() && Access::default().admits(address("::1")));
        let denies = Access::new(&[], &cidrs(&["::/0"]));
        assert!(!denies.admits_everybody());
        assert!(denies.admits(address("10.0.0.1")) && denies.admits(address("::ffff:10.0.0.1")));
        assert!(!denies.admits(address("::1")));
        let allows = Access::new(&cidrs(&["0.0.0.0/0"]), &[]);
        assert!(allows.admits(address("::ffff:10.0.0.1")) && !allows.admits(address("::1")));
    }

    /// Few different bits, so that ranges nest and addresses hit.
    fn addresses() -> impl Strategy<Value = IpAddr> {
        let bits = prop::sample::select(vec![
            0_u32,
            1,
            0x0a00_0000,
            0x0a01_0000,
            0x0a01_0203,
            u32::MAX,
        ]);
        prop_oneof![
            bits.clone().prop_map(|bits| IpAddr::V4(bits.into())),
            bits.prop_map(|bits| IpAddr::V6((u128::from(bits) << 96 | 1).into())),
        ]
    }

    fn ranges() -> impl Strategy<Value = Vec<Cidr>> {
        let range = (addresses(), 0_u8..=128).prop_map(|(address, prefix)| {
            let bits = Bits::of(address);
            let prefix = prefix.min(if bits.is_v4 { 32 } else { 128 });
            Cidr::of_bits(bits.is_v4, bits.top & mask(prefix), prefix)
        });
        prop::collection::vec(range, 0..12)
    }

    proptest! {
        #[test]
        fn agrees_with_a_look_at_every_range(allow in ranges(), deny in ranges(), address in addresses()) {
            // Goal: sorted lists answer as a plain walk does, and mapped addresses as their originals. Method: the walk.
            let longest = |list: &[Cidr]| {
                list.iter().filter(|cidr| cidr.contains(address)).map(|cidr| cidr.prefix()).max()
            };
            let admits = match (longest(&allow), longest(&deny)) {
                (None, None) => allow.is_empty(),
                // `None` is less than any prefix; equal prefixes deny.
                (allow, deny) => allow > deny,
            };
            let access = Access::new(&allow, &deny);
            prop_assert_eq!(access.admits(address), admits);
            if let IpAddr::V4(v4) = address {
                prop_assert_eq!(access.admits(IpAddr::V6(v4.to_ipv6_mapped())), admits);
            }
            if let super::Judgement::Allowed(Some(by)) | super::Judgement::Denied(Some(by)) = access.judge(address) {
                prop_assert!(by.contains(address) && (allow.contains(&by) || deny.contains(&by)));
                prop_assert_eq!(Some(by.prefix()), longest(&allow).max(longest(&deny)));
            }
        }
    }
}
