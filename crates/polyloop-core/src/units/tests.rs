//! Tests of [`super`]: tables of what people type, and properties over every value.

use super::*;
use proptest::prelude::*;

#[test]
fn sizes_read_as_documented() {
    // Goal: the prefixes mean what the module says. Method: a table.
    for (text, bytes) in [
        ("0", 0),
        ("4096", 4096),
        ("4096B", 4096),
        ("64k", 64_000),
        ("64K", 64_000),
        ("64kB", 64_000),
        ("64Ki", 65_536),
        ("64KiB", 65_536),
        ("64kib", 65_536),
        ("1M", 1_000_000),
        ("1 MiB", 1 << 20),
        (" 1.5GiB ", 3 << 29),
        ("0.5k", 500),
        ("1.3KiB", 1332),
        ("1.0B", 1),
        ("18446744073709551615", u64::MAX),
        ("000000000000000000000000001", 1),
    ] {
        assert_eq!(parse_bytes(text), Ok(bytes), "{text}");
    }
}

#[test]
fn durations_read_as_documented() {
    // Goal: units, fractions, compounds and the lone zero. Method: a table in nanoseconds.
    for (text, ns) in [
        ("0", 0),
        ("0.0", 0),
        ("0s", 0),
        ("1ns", 1),
        ("50us", 50_000),
        ("50µs", 50_000),
        ("50μs", 50_000),
        ("100ms", 100_000_000),
        ("1.5s", 1_500_000_000),
        ("2m", 120_000_000_000),
        ("2min", 120_000_000_000),
        ("1h", 3_600_000_000_000),
        ("1h30m", 5_400_000_000_000),
        ("1h 5 s", 3_605_000_000_000),
        ("1d", 86_400_000_000_000),
    ] {
        assert_eq!(parse_duration(text), Ok(Duration::from_nanos(ns)), "{text}");
    }
}

#[test]
fn counts_and_percentages_read_as_documented() {
    // Goal: the two small quantities. Method: a table.
    for (text, count) in [
        ("512", 512),
        ("10k", 10_000),
        ("1.5M", 1_500_000),
        ("64Ki", 65_536),
    ] {
        assert_eq!(parse_count(text), Ok(count), "{text}");
    }
    for (text, percent) in [
        ("10%", 10),
        ("0", 0),
        ("0%", 0),
        ("150 %", 150),
        ("65535%", 65_535),
    ] {
        assert_eq!(parse_percent(text), Ok(percent), "{text}");
    }
}

#[test]
fn wrong_texts_say_why() {
    // Goal: each refusal has its own reason. Method: a table over all four quantities.
    use UnitReason::*;
    let unknown = |unit: &str| UnknownUnit(unit.to_owned());
    let sizes = [
        ("", Empty),
        ("  ", Empty),
        ("KiB", NotANumber),
        ("-1", NotANumber),
        (".5k", NotANumber),
        ("5.k", NotANumber),
        ("1.2.3k", NotANumber),
        ("1x", unknown("x")),
        ("1kk", unknown("kk")),
        ("1.5", Fraction),
        ("1.5B", Fraction),
        ("1.0000000000001k", Fraction),
        ("18446744073709551616", TooLarge),
        ("99999999999999999999999", TooLarge),
        ("99999999999999999999Ei", TooLarge),
    ];
    for (text, reason) in sizes {
        assert_eq!(parse_bytes(text).unwrap_err().reason, reason, "{text}");
    }
    let durations = [
        ("", Empty),
        ("5", MissingUnit),
        ("1h5", MissingUnit),
        ("s", NotANumber),
        ("5S", unknown("S")),
        ("5M", unknown("M")),
        ("1.5ns", Fraction),
        ("5s1m", UnitOrder),
        ("1s1s", UnitOrder),
        ("99999999999d", TooLarge),
        ("18446744073s999ms", TooLarge),
    ];
    for (text, reason) in durations {
        assert_eq!(parse_duration(text).unwrap_err().reason, reason, "{text}");
    }
    assert_eq!(parse_count("10KB").unwrap_err().reason, unknown("KB"));
    let percents = [
        ("10", MissingUnit),
        ("10pc", unknown("pc")),
        ("1.5%", Fraction),
        ("65536%", TooLarge),
    ];
    for (text, reason) in percents {
        assert_eq!(parse_percent(text).unwrap_err().reason, reason, "{text}");
    }
}

#[test]
fn messages_name_text_reason_and_way_out() {
    // Goal: a person can mend the flag from the message alone. Method: whole messages.
    assert_eq!(
        parse_duration("5").unwrap_err().to_string(),
        "duration \"5\" has no unit; write a number with ns, us, ms, s, m, h or d, as in 50us, 1.5s or \
         1h30m"
    );
    assert_eq!(
        parse_bytes("64q").unwrap_err().to_string(),
        "size \"64q\" has the unknown unit \"q\"; write bytes as 4096, 64k or 1M (powers of 1000), or \
         64KiB or 1MiB (powers of 1024)"
    );
    assert!(
        parse_percent("10")
            .unwrap_err()
            .to_string()
            .contains("as in 10%")
    );
    assert!(
        parse_count("ten")
            .unwrap_err()
            .to_string()
            .contains("as in 10k")
    );
}

#[test]
fn formats_are_short() {
    // Goal: what operators read. Method: a table.
    for (bytes, text) in [
        (0, "0B"),
        (1000, "1000B"),
        (1023, "1023B"),
        (1024, "1KiB"),
        (1536, "1.5KiB"),
        (65_536, "64KiB"),
        (1_000_000, "976.5KiB"),
        ((1 << 20) - 1, "1023KiB"),
        (u64::MAX, "15.99EiB"),
    ] {
        assert_eq!(format_bytes(bytes), text);
    }
    for (count, text) in [
        (0, "0"),
        (999, "999"),
        (10_000, "10k"),
        (1_234_567, "1.234M"),
        (999_999, "999.9k"),
    ] {
        assert_eq!(format_count(count), text);
    }
    for (ns, text) in [
        (0, "0"),
        (999, "999ns"),
        (50_000, "50us"),
        (1_234_567, "1.234ms"),
        (100_000_000, "100ms"),
        (1_500_000_000, "1.5s"),
        (59_999_999_999, "59.99s"),
        (60_000_000_000, "1m"),
        (61_900_000_000, "1m1s"),
        (3_665_000_000_000, "1h1m5s"),
        (7_200_000_000_000, "2h"),
        (86_399_000_000_000, "23h59m59s"),
        (49 * 86_400_000_000_000, "49d"),
        (86_400_000_000_000 + 3_600_000_000_000, "1d1h"),
    ] {
        assert_eq!(format_duration(Duration::from_nanos(ns)), text);
    }
}

proptest! {
    #[test]
    fn what_is_printed_is_read_back(value in any::<u64>(), shift in 0_u32..64) {
        // Goal: the reader takes the printer's text, loses under 0.1 % (one second from a minute on), never
        // grows, and printing again gives the same text. Method: values of every magnitude.
        let value = value >> shift;
        // The rounding up of the reader may add one.
        let close = |read: u64| read <= value.saturating_add(1) && value - read.min(value) <= value / 1000;

        let text = format_bytes(value);
        let read = parse_bytes(&text).unwrap();
        prop_assert!(close(read), "{value} {text} {read}");
        prop_assert_eq!(format_bytes(read), text);

        let text = format_count(value);
        let read = parse_count(&text).unwrap();
        prop_assert!(close(read), "{value} {text} {read}");
        prop_assert_eq!(format_count(read), text);

        let span = Duration::from_nanos(value);
        let text = format_duration(span);
        let read = parse_duration(&text).unwrap();
        prop_assert!(read <= span);
        prop_assert!(span - read <= (span / 1000).max(Duration::from_secs(1).min(span / 60)), "{text}");
        prop_assert_eq!(format_duration(read), text);
    }

    #[test]
    fn whole_amounts_survive_exactly(amount in 1_u64..1000, unit in 0_usize..5) {
        // Goal: settings such as 64KiB or 100ms print as they were typed. Method: each unit, small amounts.
        let size = ["B", "KiB", "MiB", "GiB", "TiB"][unit];
        let text = format!("{amount}{size}");
        prop_assert_eq!(format_bytes(parse_bytes(&text).unwrap()), text);
        let time = ["ns", "us", "ms"][unit % 3];
        let text = format!("{amount}{time}");
        prop_assert_eq!(format_duration(parse_duration(&text).unwrap()), text);
        let prefix = ["", "k", "M", "G", "T"][unit];
        let text = format!("{amount}{prefix}");
        prop_assert_eq!(format_count(parse_count(&text).unwrap()), text);
    }

    #[test]
    fn no_text_panics(text in "\\PC{0,24}", number in "[0-9.]{0,30}[a-zA-Z%µ ]{0,4}") {
        // Goal: nothing typed can crash the start. Method: any printable text, and nearly right ones.
        for text in [text.as_str(), number.as_str()] {
            for error in [
                parse_bytes(text).err(),
                parse_count(text).err(),
                parse_duration(text).err(),
                parse_percent(text).err(),
            ].into_iter().flatten() {
                prop_assert!(error.to_string().contains("write"));
            }
        }
    }
}
