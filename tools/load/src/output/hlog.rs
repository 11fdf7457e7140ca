//! The interval log of HdrHistogram: every histogram of every interval, for the tools that exist for it.
//!
//! The one idea: nothing of our own. Values are nanoseconds, the largest is also told in milliseconds (the format's
//! habit), series are told apart by tags, and stages by comments.

use std::time::{Duration, SystemTime};

use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, Tag};

use crate::result::{RunResult, StageHead};
use crate::tally::Interval;

/// Nanoseconds in the unit that the largest value is told in.
const MAX_VALUE_DIVISOR: f64 = 1e6;

/// What stands before the first interval. Times are counted from `opened`.
pub(super) fn header(run: &RunResult, opened: SystemTime) -> Vec<u8> {
    let command = run.command.join(" ");
    let mut bytes = Vec::new();
    let mut serializer = V2DeflateSerializer::new();
    // Writing to memory does not fail.
    let _ = IntervalLogWriterBuilder::new()
        .add_comment("[Histogram log format version 1.3]")
        .add_comment(&format!(
            "[polyloop-load {}, {}]",
            run.version,
            run.mode.in_words()
        ))
        .add_comment(&format!("[command: {command}]"))
        .with_start_time(opened)
        .with_base_time(opened)
        .with_max_value_divisor(MAX_VALUE_DIVISOR)
        .begin_log_with(&mut bytes, &mut serializer);
    bytes
}

/// A comment where a stage begins.
pub(super) fn stage_mark(head: &StageHead) -> Vec<u8> {
    format!("#[stage {}: {}]\n", head.id, head.name.replace('\n', " ")).into_bytes()
}

/// The lines of an interval that began `at` after the log: one for each series that has samples.
pub(super) fn entries(at: Duration, interval: &Interval) -> Vec<u8> {
    let length = Duration::from_nanos(interval.until_ns.saturating_sub(interval.from_ns));
    let mut bytes = Vec::new();
    let mut serializer = V2DeflateSerializer::new();
    let mut builder = IntervalLogWriterBuilder::new();
    builder.with_max_value_divisor(MAX_VALUE_DIVISOR);
    let Ok(mut writer) = builder.begin_log_with(&mut bytes, &mut serializer) else {
        return Vec::new(); // writing to memory does not fail
    };
    for (tag, histogram) in [
        ("latency", &interval.latency),
        ("uncorrected", &interval.uncorrected),
        ("lag", &interval.lag),
        ("connect", &interval.connect),
        ("probe", &interval.probe),
    ] {
        if !histogram.is_empty() || tag == "latency" {
            let _ = writer.write_histogram(histogram, at, length, Tag::new(tag));
        }
    }
    // A writer lives no longer than this call, and begins by telling the divisor, which the header has told.
    let told = bytes
        .iter()
        .position(|&byte| byte == b'\n')
        .map_or(0, |end| end + 1);
    bytes.split_off(told)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::tests::{small_head, small_interval, small_run};
    use hdrhistogram::Histogram;
    use hdrhistogram::serialization::Deserializer;
    use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};

    #[test]
    fn the_log_is_read_back_by_its_own_reader() {
        // Goal: tools for the format find times, tags and counts. Method: the library's reader on a log of one interval.
        let opened = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000);
        let mut log = header(&small_run(), opened);
        log.extend(stage_mark(&small_head()));
        let interval = small_interval(5);
        log.extend(entries(Duration::from_millis(2_500), &interval));
        let entries: Vec<LogEntry<'_>> =
            IntervalLogIterator::new(&log).map(Result::unwrap).collect();
        assert_eq!(entries[0], LogEntry::StartTime(Duration::from_secs(1_000)));
        assert_eq!(entries[1], LogEntry::BaseTime(Duration::from_secs(1_000)));
        let tags: Vec<(&str, Histogram<u64>)> = entries[2..]
            .iter()
            .map(|entry| {
                let LogEntry::Interval(line) = entry else {
                    panic!("{entry:?}");
                };
                assert_eq!(line.start_timestamp(), Duration::from_millis(2_500));
                assert_eq!(line.duration(), Duration::from_secs(1));
                let text = line.encoded_histogram();
                let bytes =
                    base64::Engine::decode(&base64::engine::general_purpose::STANDARD, text)
                        .unwrap();
                let histogram = Deserializer::new().deserialize(&mut &bytes[..]).unwrap();
                (line.tag().unwrap().as_str(), histogram)
            })
            .collect();
        assert_eq!(tags.len(), 3);
        assert_eq!(tags[0], ("latency", interval.latency));
        assert_eq!(tags[1], ("uncorrected", interval.uncorrected));
        assert_eq!(tags[2], ("lag", interval.lag));
        let text = String::from_utf8(log).unwrap();
        assert_eq!(text.matches("MaxValueDivisor").count(), 1, "{text}");
    }
}
