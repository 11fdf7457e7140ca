//! Tests of each kind of value: what it reads, how it shows that again, and what it says of the rest.

use super::*;

fn reads<C: Codec>(codec: &C, text: &str) -> Result<C::Of, String> {
    codec.read(&Value::text(text)).map_err(|wrong| wrong.why)
}

/// Reads a text, shows it, reads that, and shows it again.
#[track_caller]
fn shown<C: Codec>(codec: &C, text: &str) -> String {
    let show = |of: &C::Of| codec.show(of).map(|value| value.to_toml());
    let first = show(&reads(codec, text).unwrap_or_else(|why| panic!("{why}")));
    let value = codec.show(&reads(codec, text).unwrap()).unwrap();
    let second = codec
        .read(&value)
        .unwrap_or_else(|wrong| panic!("{wrong:?}"));
    assert_eq!(first, show(&second), "{text}");
    first.unwrap()
}

const TIME: Time = Time {
    min: Duration::from_millis(1),
    max: Duration::from_secs(3600),
    step: Duration::from_millis(1),
};

#[test]
fn times_are_exact() {
    // Goal: no time changes by being shown, and none is rounded silently. Method: times that the short form cuts.
    assert_eq!(shown(&TIME, "1m30s"), "\"1m30s\"");
    assert_eq!(shown(&TIME, "90.5s"), "\"90500ms\"");
    let fine = Time {
        min: Duration::ZERO,
        max: Duration::MAX,
        step: Duration::from_nanos(1),
    };
    assert_eq!(shown(&fine, "60000000001ns"), "\"60000000001ns\"");
    assert_eq!(shown(&fine, "0"), "\"0\"");
    assert!(
        reads(&TIME, "1500us")
            .unwrap_err()
            .contains("no multiple of 1ms")
    );
    assert!(
        reads(&TIME, "2h")
            .unwrap_err()
            .contains("2h is out of range; give 1ms to 1h")
    );
    assert!(reads(&TIME, "5").unwrap_err().contains("has no unit"));
    assert_eq!(shown(&ServerTimeOrOff, "off"), "\"off\"");
    assert_eq!(shown(&ServerTimeOrOff, "61001ms"), "\"61001ms\"");
}

#[test]
fn numbers_sizes_and_shares_are_exact() {
    // Goal: as for times. Method: values with and without a short form.
    let size = Size {
        min: 1,
        max: 1 << 30,
    };
    assert_eq!(shown(&size, "64KiB"), "\"64KiB\"");
    assert_eq!(shown(&size, "65537"), "65537");
    assert!(
        reads(&size, "2GiB")
            .unwrap_err()
            .contains("give 1B to 1GiB")
    );
    let number = count::<u32>(1, 10_000);
    assert_eq!(shown(&number, "10k"), "10000");
    assert!(reads(&number, "0").unwrap_err().contains("give 1 to 10000"));
    assert!(
        reads(&number, "-1")
            .unwrap_err()
            .contains("does not start with a number")
    );
    assert_eq!(number.read(&Value::Integer("7".to_owned())), Ok(7));
    let percent = Percent { max: 100 };
    assert_eq!(shown(&percent, "10%"), "\"10%\"");
    assert!(
        reads(&percent, "101%")
            .unwrap_err()
            .contains("give 0% to 100%")
    );
    assert!(reads(&percent, "10").unwrap_err().contains("as in 10%"));
}

#[test]
fn choices_and_switches_are_strict() {
    // Goal: one spelling each, the near one suggested. Method: near and far ones, and other kinds of value.
    let choice = Choice(&[("auto", 1), ("off", 2)]);
    assert_eq!(shown(&choice, "auto"), "\"auto\"");
    assert_eq!(
        reads(&choice, "atuo").unwrap_err(),
        "\"atuo\" is none of auto, off; did you mean \"auto\"?"
    );
    let wrong = choice.read(&Value::Switch(false)).unwrap_err();
    assert_eq!(
        wrong.why,
        "it takes one of auto, off, and this is true or false"
    );
    assert_eq!(Switch.read(&Value::Switch(true)), Ok(true));
    assert!(
        reads(&Switch, "true")
            .unwrap_err()
            .contains("this is a text")
    );
}

#[test]
fn off_and_unset_differ() {
    // Goal: a limit that is off is said to be, a value nobody gave is not shown. Method: both wrappers.
    let or_off = OrOff(count::<u32>(1, 9));
    assert_eq!(reads(&or_off, "off"), Ok(None));
    assert_eq!(
        (shown(&or_off, "off"), shown(&or_off, "3")),
        ("\"off\"".to_owned(), "3".to_owned())
    );
    assert!(
        reads(&or_off, "0")
            .unwrap_err()
            .ends_with("give 1 to 9, or off")
    );
    let maybe = Maybe(count::<u32>(1, 9));
    assert_eq!(maybe.show(&None), None);
    assert_eq!(reads(&maybe, "3"), Ok(Some(3)));
    assert!(reads(&maybe, "off").is_err());
}

#[test]
fn lists_take_one_several_or_commas() {
    // Goal: the short form and the long one mean the same. Method: all three, and one that may hold commas.
    let list = List {
        of: count::<u32>(1, 9),
        splits: true,
    };
    let several = Value::List(vec![Value::text("1, 2"), Value::Integer("3".to_owned())]);
    assert_eq!(list.read(&several), Ok(vec![1, 2, 3]));
    assert_eq!(reads(&list, "1,2,3"), Ok(vec![1, 2, 3]));
    assert_eq!(shown(&list, "1,2"), "[1, 2]");
    assert_eq!(list.show(&Vec::new()), None);
    let wrong = list.read(&Value::List(vec![Value::text("1"), Value::text("10")]));
    assert_eq!(wrong.unwrap_err().item, Some(1));
    let whole = List {
        of: parsed::<String>("a text"),
        splits: false,
    };
    assert_eq!(reads(&whole, "a,b"), Ok(vec!["a,b".to_owned()]));
}
