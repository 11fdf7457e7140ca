//! Objectives read, written and judged.

use super::*;
use crate::tally::durations;

fn objective(text: &str) -> Objective {
    text.parse().unwrap()
}

/// Latencies spread evenly up to `max_us`.
fn even(samples: u64, max_us: u64) -> hdrhistogram::Histogram<u64> {
    let mut histogram = durations();
    for index in 1..=samples {
        let ns = (index * max_us * 1_000).div_ceil(samples);
        histogram.record(ns).unwrap();
    }
    histogram
}

fn judged(text: &str, latency: &hdrhistogram::Histogram<u64>, lost: u64, faults: u64) -> Verdict {
    objective(text).is_met(&Measured {
        latency,
        lost,
        sent: latency.len() + lost,
        faults,
    })
}

#[test]
fn what_is_typed_is_what_is_printed() {
    // Goal: one spelling for every objective. Method: spellings beside their canonical form, each read again.
    for (typed, printed) in [
        ("p99<2ms", "p99<2ms"),
        (" p99.9 <= 2000us and max < 1s ", "p99.9<=2ms,max<1s"),
        ("p50<1.2345ms,errors<0.1%", "p50<1.2345ms,errors<0.1%"),
        ("mean<250us, errors<=0%", "mean<250us,errors<=0%"),
        ("p99.99<1m", "p99.99<60s"),
        ("p90<1s500ns", "p90<1.0000005s"),
        ("errors<33.3%", "errors<33.3%"),
    ] {
        assert_eq!(objective(typed).to_string(), printed);
        assert_eq!(objective(printed), objective(typed), "{printed}");
    }
}

#[test]
fn refusals_name_the_thing_the_reason_and_the_way_out() {
    // Goal: a slip is answered with what to write. Method: one text per reason, and words of its message.
    for (typed, words) in [
        ("", ["nothing there", "p99<2ms"]),
        ("p99<2ms,", ["nothing there", "p99<2ms"]),
        ("p99", ["'p99'", "quotes"]),
        ("p99>2ms", ["no '<'", "p99<2ms"]),
        ("p98<2ms", ["'p98' is no figure", "p99.9"]),
        ("p99<2", ["2", "unit"]),
        ("p99<0", ["no time", "2ms"]),
        ("p99<1h", ["two minutes", "shorter"]),
        ("errors<0.1", ["no '%'", "errors<0.1%"]),
        ("errors<101%", ["100%", "errors<0.1%"]),
        ("errors<0%", ["fewer than none", "errors<=0%"]),
        ("errors<NaN%", ["NaN", "errors<0.1%"]),
    ] {
        let message = typed.parse::<Objective>().unwrap_err().to_string();
        for word in words {
            assert!(message.contains(word), "{typed}: {message}");
        }
    }
}

#[test]
fn a_figure_is_held_against_its_limit() {
    // Goal: met, missed and by how much. Method: 10,000 latencies spread evenly up to 10 ms.
    let latency = even(10_000, 10_000);
    assert_eq!(judged("p50<5.1ms,p99<10ms", &latency, 0, 0), Verdict::Met);
    assert_eq!(
        judged("mean<5.1ms,max<=10.1ms", &latency, 0, 0),
        Verdict::Met
    );
    let Verdict::Missed(miss) = judged("p90<8ms,p50<2.5ms", &latency, 0, 0) else {
        panic!("both are missed");
    };
    assert_eq!(miss.term.figure, Figure::P50, "the one missed by most");
    assert!((miss.excess() - 2.0).abs() < 0.01, "{miss:?}");
    assert_eq!(miss.to_string(), "p50 was 5.00 ms, 2.00 times the limit");
}

#[test]
fn too_few_samples_do_not_tell() {
    // Goal: no verdict on an anecdote, yet a certain miss is told. Method: 5,000 samples, which tell p98.
    let latency = even(5_000, 10_000);
    let verdict = judged("p99<100ms", &latency, 0, 0);
    assert_eq!(
        verdict.to_string(),
        "p99 takes 10,000 samples, and there were 5,000"
    );
    assert!(matches!(
        judged("p99<9ms", &latency, 0, 0),
        Verdict::Missed(_)
    ));
    assert!(matches!(
        judged("p99<100ms,p50<1ms", &latency, 0, 0),
        Verdict::Missed(_)
    ));
    let none = judged("p99<2ms,max<1s", &durations(), 0, 0);
    assert!(matches!(
        none,
        Verdict::Unknown(Shortage { need: 10_000, .. })
    ));
}

#[test]
fn what_was_never_answered_took_longer_than_any_limit() {
    // Goal: losing requests does not improve a figure. Method: fast answers, and 1.5 of 100 lost.
    let latency = even(98_500, 100);
    assert_eq!(judged("p90<1ms", &latency, 1_500, 0), Verdict::Met);
    let verdict = judged("p99<1s", &latency, 1_500, 0);
    assert_eq!(verdict.to_string(), "p99 was never answered");
    assert!(matches!(
        judged("max<1s", &latency, 1, 0),
        Verdict::Missed(_)
    ));
    assert!(matches!(
        judged("p50<1s", &durations(), 200, 0),
        Verdict::Missed(_)
    ));
}

#[test]
fn errors_are_a_share_of_what_was_sent() {
    // Goal: shares and the rule of three. Method: faults among few and many requests.
    let (few, many) = (even(100, 10), even(10_000, 10));
    assert_eq!(judged("errors<0.1%", &many, 0, 9), Verdict::Met);
    let missed = judged("errors<0.1%", &many, 0, 20);
    assert_eq!(
        missed.to_string(),
        "errors were 0.20 %, 2.00 times the limit"
    );
    assert_eq!(
        judged("errors<0.1%", &few, 0, 0).to_string(),
        "errors takes 3,000 samples, and there were 100"
    );
    assert!(matches!(
        judged("errors<0.1%", &few, 0, 3),
        Verdict::Missed(_)
    ));
    assert!(matches!(
        judged("errors<=0%", &many, 0, 1),
        Verdict::Missed(_)
    ));
    assert_eq!(judged("errors<=0%", &many, 0, 0), Verdict::Met);
}
