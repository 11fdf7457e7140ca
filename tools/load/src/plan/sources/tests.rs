//! Tests of [`super`]: texts, the addresses behind them, and how far they reach.

use super::*;
use proptest::prelude::*;

fn sources(text: &str) -> Sources {
    text.parse().unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn texts_stand_for_addresses() {
    // Goal: each form means what is written. Method: the count, the first, the last, the one after, and the text again.
    for (text, len, first, last, canonical) in [
        ("127.0.0.2", 1, "127.0.0.2", "127.0.0.2", "127.0.0.2"),
        (
            "127.1.0.0/16",
            65_534,
            "127.1.0.1",
            "127.1.255.254",
            "127.1.0.0/16",
        ),
        (
            "127.1.2.3/16",
            65_534,
            "127.1.0.1",
            "127.1.255.254",
            "127.1.0.0/16",
        ),
        ("10.0.0.4/31", 2, "10.0.0.4", "10.0.0.5", "10.0.0.4/31"),
        ("10.0.0.4/30", 2, "10.0.0.5", "10.0.0.6", "10.0.0.4/30"),
        ("10.0.0.4/32", 1, "10.0.0.4", "10.0.0.4", "10.0.0.4/32"),
        (
            " 127.0.0.2 - 127.0.0.9 ",
            8,
            "127.0.0.2",
            "127.0.0.9",
            "127.0.0.2-127.0.0.9",
        ),
        (
            "10.0.0.1, 127.0.0.2-127.0.0.3",
            3,
            "10.0.0.1",
            "127.0.0.3",
            "10.0.0.1,127.0.0.2-127.0.0.3",
        ),
        ("fd00::/120", 255, "fd00::1", "fd00::ff", "fd00::/120"),
        (
            "fd00::5-fd00::6,::1",
            3,
            "fd00::5",
            "::1",
            "fd00::5-fd00::6,::1",
        ),
    ] {
        let sources = sources(text);
        assert_eq!(sources.len(), len, "{text}");
        assert!(!sources.is_empty());
        assert_eq!(sources.nth(0), ip(first), "{text}");
        assert_eq!(sources.nth(len - 1), ip(last), "{text}");
        assert_eq!(sources.nth(len), ip(first), "{text}");
        assert_eq!(sources.to_string(), canonical, "{text}");
        assert_eq!(sources.is_ipv4(), !text.contains("::"));
    }
    let wide = sources("2001:db8::/32");
    assert_eq!(wide.len(), u64::MAX);
    assert_eq!(wide.nth(1), ip("2001:db8::2"));
    assert_eq!(sources("fd00::-fd00:0:0:1::").len(), u64::MAX);
}

#[test]
fn wrong_texts_say_how_to_write_it() {
    // Goal: each mistake names its own way out. Method: a text and a part of the message each.
    for (text, part) in [
        ("", "have an empty part"),
        ("127.0.0.2,", "have an empty part"),
        ("localhost", "names are not looked up"),
        ("127.0.0", "is no address"),
        ("127.0.0.2-", "is no address"),
        ("127.0.0.0/33", "from 0 to 32"),
        ("fd00::/129", "from 0 to 128"),
        ("127.0.0.0/x", "no number"),
        ("127.0.0.9-127.0.0.2", "lower address first"),
        ("127.0.0.1,::1", "\"::1\" is of another family"),
        ("127.0.0.1-::1", "another family"),
        ("0.0.0.0", "no address in particular"),
        ("::", "no address in particular"),
        ("224.0.0.1", "a multicast group"),
        ("10.0.0.0-255.255.255.255", "everybody on the network"),
        ("ff02::1", "a multicast group"),
    ] {
        let message = text.parse::<Sources>().unwrap_err().to_string();
        assert!(message.contains(part), "{text}: {message}");
    }
}

#[test]
fn a_shortage_says_what_would_be_enough() {
    // Goal: the message is the way out. Method: at the border, beyond it, and the whole text once.
    let one = sources("127.0.0.2");
    assert_eq!(one.enough_for(25_000, 1), Ok(()));
    assert_eq!(one.enough_for(50_000, 2), Ok(()));
    let shortage = one.enough_for(1_000_000, 2).unwrap_err();
    assert_eq!(
        (shortage.sources_needed, shortage.connections_max),
        (20, 50_000)
    );
    assert_eq!(
        shortage.to_string(),
        "1000000 connections from 1 source address(es) to 2 destination(s) are more than the 25000 that a pair of \
         them has ports for; give at least 20 sources, on loopback as in --sources 127.1.0.0/16, or more destinations, \
         or ask for at most 50000 connections"
    );
    assert_eq!(sources("127.1.0.0/16").enough_for(1_000_000, 1), Ok(()));
    assert_eq!(enough(u64::MAX, 0, 0).unwrap_err().sources, 1);
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in "[0-9a-f:./,-]{0,24}") {
        // Goal: no text panics, and what is read prints and counts. Method: letters that the grammar knows.
        if let Ok(sources) = text.parse::<Sources>() {
            prop_assert_eq!(sources.to_string().parse::<Sources>().unwrap(), sources.clone());
            prop_assert_eq!(sources.nth(u64::MAX).is_ipv4(), sources.is_ipv4());
        }
    }
}
