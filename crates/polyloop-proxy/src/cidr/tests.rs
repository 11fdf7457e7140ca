//! Tests of [`super`]: tables of texts, and properties over addresses with a plain model bit by bit.

use super::*;
use proptest::prelude::*;

fn addresses() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        any::<u32>().prop_map(|bits| IpAddr::V4(bits.into())),
        any::<u128>().prop_map(|bits| IpAddr::V6(bits.into())),
        any::<u32>().prop_map(|bits| IpAddr::V6(Ipv4Addr::from(bits).to_ipv6_mapped())),
    ]
}

fn map(v4: Ipv4Addr) -> IpAddr {
    IpAddr::V6(v4.to_ipv6_mapped())
}

/// The model: texts of zeros and ones, compared as texts.
fn contains_by_text(range: Cidr, address: IpAddr) -> bool {
    let text = |address: IpAddr| match address.to_canonical() {
        IpAddr::V4(v4) => format!("{:032b}", u32::from(v4)),
        IpAddr::V6(v6) => format!("{:0128b}", u128::from(v6)),
    };
    let (own, other) = (text(range.network()), text(address));
    own.len() == other.len() && other.starts_with(&own[..usize::from(range.prefix())])
}

#[test]
fn good_texts_read_as_their_canonical_form() {
    // Goal: every spelling of a range is the same range. Method: a table.
    for (text, canonical) in [
        ("10.0.0.0/8", "10.0.0.0/8"),
        ("0.0.0.0/0", "0.0.0.0/0"),
        ("192.0.2.1", "192.0.2.1/32"),
        ("192.0.2.1/32", "192.0.2.1/32"),
        ("192.0.2.0/31", "192.0.2.0/31"),
        ("::1", "::1/128"),
        ("::/0", "::/0"),
        ("2001:db8::/32", "2001:db8::/32"),
        ("2001:DB8:0:0::/32", "2001:db8::/32"),
        ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
        ("::ffff:a00:0/104", "10.0.0.0/8"),
        ("::ffff:0:0/96", "0.0.0.0/0"),
        ("::ffff:10.1.2.3", "10.1.2.3/32"),
        ("::ffff:10.1.2.3/128", "10.1.2.3/32"),
        ("::10.0.0.0/104", "::a00:0/104"),
        ("64:ff9b::/96", "64:ff9b::/96"),
        ("::/64", "::/64"),
    ] {
        assert_eq!(text.parse::<Cidr>().unwrap().to_string(), canonical);
        assert_eq!(text.parse::<Cidr>(), canonical.parse::<Cidr>());
    }
}

#[test]
fn bad_texts_say_what_to_write() {
    // Goal: what is wrong or could mean two things is refused with a way out. Method: a table of texts and of words in
    // the message.
    for (text, words) in [
        ("", "is no range"),
        ("/8", "is no range"),
        ("10.0.0/8", "is no range"),
        ("010.0.0.0/8", "is no range"),
        ("10.0.0.1:80", "is no range"),
        ("localhost", "is no range"),
        (" 10.0.0.0/8", "is no range"),
        ("10.0.0.0 /8", "is no range"),
        ("[::1]", "is no range"),
        ("fe80::1%eth0", "zone"),
        ("fe80::%1/64", "zone"),
        ("10.0.0.0/", "leading bits"),
        ("10.0.0.0/+8", "leading bits"),
        ("10.0.0.0/08", "leading bits"),
        ("10.0.0.0/ 8", "leading bits"),
        ("10.0.0.0/8/8", "leading bits"),
        ("10.0.0.0/255.0.0.0", "leading bits"),
        ("10.0.0.0/33", "at most /32"),
        ("10.0.0.0/999", "at most /32"),
        ("::/129", "at most /128"),
        ("::ffff:10.0.0.0/8", "write 10.0.0.0/8 for the IPv4"),
        ("::ffff:10.1.2.3/8", "write 10.0.0.0/8 for the IPv4"),
        ("::ffff:0.0.0.0/0", "write 0.0.0.0/0 for the IPv4"),
        ("::ffff:10.0.0.0/95", "beyond the IPv4"),
        ("::ffff:0:0/33", "beyond the IPv4"),
        (
            "10.1.2.3/8",
            "write 10.0.0.0/8 for the range or 10.1.2.3/32",
        ),
        (
            "::ffff:10.1.2.3/104",
            "write 10.0.0.0/8 for the range or 10.1.2.3/32",
        ),
        (
            "2001:db8::1/32",
            "write 2001:db8::/32 for the range or 2001:db8::1/128",
        ),
        ("1.2.3.4/0", "write 0.0.0.0/0 for the range"),
    ] {
        let message = text.parse::<Cidr>().unwrap_err().to_string();
        assert!(message.contains(words), "{message}");
        assert!(message.starts_with(&format!("{text:?} ")), "{message}");
    }
}

#[test]
fn families_do_not_mix() {
    // Goal: all of IPv6 is none of IPv4, however it is written. Method: one address each way.
    let (all_v6, all_v4): (Cidr, Cidr) = ("::/0".parse().unwrap(), "0.0.0.0/0".parse().unwrap());
    let v4 = Ipv4Addr::new(10, 1, 2, 3);
    let v6: IpAddr = "2001:db8::1".parse().unwrap();
    assert!(all_v4.contains(v4.into()) && all_v4.contains(map(v4)) && !all_v4.contains(v6));
    assert!(!all_v6.contains(v4.into()) && !all_v6.contains(map(v4)) && all_v6.contains(v6));
}

proptest! {
    #[test]
    fn ranges_contain_what_begins_like_them(around in addresses(), other in addresses(), flip in 0_u32..128, prefix in 0_u8..=128) {
        // Goal: membership is a matter of leading bits alone, and mapping changes nothing. Method: a model of texts;
        // addresses near the edge of the range, and far.
        let range = Cidr::around(around.to_canonical(), prefix.min(address_bits(around.to_canonical())));
        let near = match around.to_canonical() {
            IpAddr::V4(v4) => IpAddr::V4((u32::from(v4) ^ (1 << (flip % 32))).into()),
            IpAddr::V6(v6) => IpAddr::V6((u128::from(v6) ^ (1 << flip)).into()),
        };
        for address in [around, near, other] {
            prop_assert_eq!(range.contains(address), contains_by_text(range, address));
            if let IpAddr::V4(v4) = address {
                prop_assert_eq!(range.contains(address), range.contains(map(v4)));
            }
        }
    }

    #[test]
    fn ranges_read_back(around in addresses(), prefix in 0_u8..=128) {
        // Goal: what is printed is what is read, also by its mapped spelling. Method: random ranges.
        let canonical = around.to_canonical();
        let range = Cidr::around(canonical, prefix.min(address_bits(canonical)));
        prop_assert_eq!(range.to_string().parse(), Ok(range));
        prop_assert_eq!(Cidr::new(range.network(), range.prefix()), Ok(range));
        if let IpAddr::V4(v4) = range.network() {
            prop_assert_eq!(format!("{}/{}", map(v4), range.prefix() + 96).parse(), Ok(range));
        }
    }

    #[test]
    fn no_text_panics(text in "[0-9a-f:./%+ ]{0,30}") {
        // Goal: any text is read or refused. Method: texts of the letters that ranges are made of.
        if let Ok(range) = text.parse::<Cidr>() {
            prop_assert_eq!(range.to_string().parse(), Ok(range));
        }
    }
}
