//! Tests of [`super`]: texts, and the laws behind them.

use super::*;
use proptest::prelude::*;

fn sizes(text: &str) -> Sizes {
    text.parse().unwrap()
}

#[test]
fn texts_read_back_as_themselves() {
    // Goal: what a result file says can be typed. Method: a table of texts and their canonical form.
    for (text, canonical) in [
        ("64", "64"),
        ("1024", "1KiB"),
        (" 1 KiB ", "1KiB"),
        ("2k", "2000"),
        ("16MiB", "16MiB"),
        ("64..1400", "64..1400"),
        ("1KiB .. 4096", "1KiB..4KiB"),
        ("exp:512", "exp:512"),
        ("64:90,16KiB:10", "64:90,16KiB:10"),
        ("1..9:1, exp:2048:3", "1..9:1,exp:2KiB:3"),
        ("64:7", "64"),
    ] {
        assert_eq!(sizes(text).to_string(), canonical, "{text}");
        assert_eq!(sizes(canonical), sizes(text), "{text}");
    }
}

#[test]
fn wrong_texts_say_how_to_write_it() {
    // Goal: each mistake names its own way out. Method: a text and a part of the message each.
    let long = vec!["64:1"; 65].join(",");
    for (text, part) in [
        ("", "have an empty part"),
        ("64:1,,1:1", "have an empty part"),
        ("0", "from 1 byte to 16MiB"),
        ("17MiB", "from 1 byte to 16MiB"),
        ("16MiB..17MiB", "\"17MiB\" is out of bounds"),
        ("sixty", "does not start with a number"),
        ("64q", "unknown unit"),
        ("1400..64", "smaller size first"),
        ("exp:", "size \"\" is empty"),
        ("exp:0", "from 1 byte to 16MiB"),
        ("64,128", "\"64\" has no weight"),
        ("64:0,128:1", "weight \"0\" of \"64:0\""),
        ("64:x", "no whole number"),
        ("64:1:2,1:1", "no whole number"),
        ("64:1000001,1:1", "from 1 to 1000000"),
        (long.as_str(), "65 parts, more than 64"),
    ] {
        let message = text.parse::<Sizes>().unwrap_err().to_string();
        assert!(message.contains(part), "{text}: {message}");
    }
}

#[test]
fn laws_have_the_mean_they_claim() {
    // Goal: bytes per second can be planned from the mean. Method: 200,000 draws of each law, within 2 %.
    for (text, mean) in [
        ("64", 64.0),
        ("64..1400", 732.0),
        ("exp:1", 1.0),
        ("exp:2", 2.0),
        ("exp:512", 512.0),
        ("64:90,16KiB:10", 0.9 * 64.0 + 0.1 * 16_384.0),
    ] {
        let sizes = sizes(text);
        assert!(
            (sizes.mean() / mean - 1.0).abs() < 1e-6,
            "{text}: {}",
            sizes.mean()
        );
        let mut random = SplitMix64::new(11);
        let drawn: usize = (0..200_000).map(|_| sizes.sample(&mut random)).sum();
        assert!(
            (drawn as f64 / 200_000.0 / mean - 1.0).abs() < 0.02,
            "{text}: {drawn}"
        );
    }
}

#[test]
fn a_cap_is_part_of_the_mean() {
    // Goal: a mean near the largest size is not overstated. Method: draws against the mean as told.
    let sizes = sizes("exp:8MiB");
    assert_eq!(sizes.max(), SIZE_MAX);
    let mut random = SplitMix64::new(5);
    let drawn: f64 = (0..200_000).map(|_| sizes.sample(&mut random) as f64).sum();
    assert!((drawn / 200_000.0 / sizes.mean() - 1.0).abs() < 0.01);
}

#[test]
fn exponential_sizes_have_an_exponential_tail() {
    // Goal: the law is the one named, not only its mean. Method: the share beyond three means.
    let sizes = sizes("exp:1000");
    let mut random = SplitMix64::new(2);
    let long = (0..200_000)
        .filter(|_| sizes.sample(&mut random) > 3_000)
        .count();
    assert!(
        (long as f64 / 200_000.0 - (-3.0_f64).exp()).abs() < 0.002,
        "{long}"
    );
}

#[test]
fn only_one_size_is_told_as_such() {
    // Goal: the hot path may skip drawing, and nothing else may. Method: one of each shape.
    assert_eq!(sizes("64").only(), Some(64));
    assert_eq!(Sizes::fixed(0).only(), Some(1));
    assert_eq!(sizes("64..65").only(), None);
    assert_eq!(sizes("64:1,65:1").only(), None);
    assert_eq!(sizes("exp:64").only(), None);
}

proptest! {
    #[test]
    fn draws_stay_in_bounds(
        low in 1_usize..SIZE_MAX, span in 0_usize..5_000, mean in 1_usize..=SIZE_MAX, weight in 1_u32..100, seed: u64,
    ) {
        // Goal: no draw leaves the bounds, and any law reads back. Method: a mix of all shapes.
        let high = (low + span).min(SIZE_MAX);
        let sizes = sizes(&format!("{low}:{weight},{low}..{high}:2,exp:{mean}:3"));
        prop_assert_eq!(&sizes.to_string().parse::<Sizes>().unwrap(), &sizes);
        let mut random = SplitMix64::new(seed);
        for _ in 0..200 {
            let size = sizes.sample(&mut random);
            prop_assert!(size >= 1 && size <= sizes.max() && sizes.max() <= SIZE_MAX);
        }
        prop_assert!(sizes.mean() <= sizes.max() as f64);
    }

    #[test]
    fn any_text_is_read_or_refused(text in "[0-9a-zKMi:.,]{0,20}") {
        // Goal: no text panics. Method: letters that the grammar knows.
        let _ = text.parse::<Sizes>();
    }
}
