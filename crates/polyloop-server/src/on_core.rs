//! What `--on-core 2:spin=100us,events=256` changes for the loops on one core.
//!
//! The one idea: an override is laid over the settings of all loops, so it says only what is different. Its keys have
//! the ranges of the flags they stand for.

use std::fmt;
use std::time::Duration;

use polyloop::Tuning;
use polyloop_core::cores::OnCore;
use polyloop_core::units::{
    UnitError, format_bytes, format_duration, parse_bytes, parse_count, parse_duration,
};

use crate::args::TimeOrOff;
use crate::settings::{
    COUNT_MAX, DEADLINE_MAX, EVENTS_MAX, OUTPUT_BYTES, QUOTA_MIN, READ_BYTES, SPIN_MAX, TICK,
    TIME_MAX,
};

/// The keys, in the order in which they are listed to somebody who typed another.
pub(crate) const KEYS: [&str; 8] = [
    "spin",
    "events",
    "read-bytes",
    "quota",
    "accept-burst",
    "inbox",
    "output-high",
    "idle",
];

/// Why an override cannot be meant.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("--on-core {core}: {problem}")]
pub(crate) struct OnCoreError {
    core: usize,
    problem: Problem,
}

#[derive(Debug, PartialEq, Eq)]
enum Problem {
    UnknownKey {
        key: String,
    },
    Value {
        key: String,
        why: String,
    },
    OutOfRange {
        key: String,
        value: String,
        range: String,
    },
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownKey { key } => {
                write!(
                    f,
                    "{key:?} is no setting of a loop; the settings are {}",
                    KEYS.join(", ")
                )
            }
            Self::Value { key, why } => write!(f, "{key}: {why}"),
            Self::OutOfRange { key, value, range } => {
                write!(f, "{key}={value} is out of range; give {range}")
            }
        }
    }
}

/// The settings of all loops with one core's override laid over them.
///
/// # Errors
/// A key that is no setting, or a value that it cannot have.
pub(crate) fn merged(base: &Tuning, over: &OnCore) -> Result<Tuning, OnCoreError> {
    let mut tuning = base.clone();
    for (key, value) in &over.settings {
        set(&mut tuning, key, value).map_err(|problem| OnCoreError {
            core: over.core,
            problem,
        })?;
    }
    Ok(tuning)
}

fn set(tuning: &mut Tuning, key: &str, value: &str) -> Result<(), Problem> {
    match key {
        "spin" => tuning.spin = time(key, value, Duration::ZERO, SPIN_MAX)?,
        "events" => tuning.events_max = count(key, value, EVENTS_MAX)?,
        "read-bytes" => tuning.read_bytes_max = size(key, value, READ_BYTES)?,
        "quota" => tuning.quota = time(key, value, QUOTA_MIN, TIME_MAX)?,
        "accept-burst" => tuning.accept_max = count(key, value, COUNT_MAX)?,
        "inbox" => tuning.inbox_max = count(key, value, COUNT_MAX)?,
        "output-high" => tuning.output_high_bytes = size(key, value, OUTPUT_BYTES)?,
        "idle" => {
            let TimeOrOff(typed) = value.parse().map_err(|why| not_a_value(key, &why))?;
            tuning.idle_timeout = typed
                .map(|typed| in_range(key, typed, (TICK, DEADLINE_MAX), format_duration))
                .transpose()?;
        }
        _ => {
            let key = key.to_owned();
            return Err(Problem::UnknownKey { key });
        }
    }
    Ok(())
}

fn time(key: &str, value: &str, min: Duration, max: Duration) -> Result<Duration, Problem> {
    let typed = parse_duration(value).map_err(|why: UnitError| not_a_value(key, &why))?;
    in_range(key, typed, (min, max), format_duration)
}

fn count(key: &str, value: &str, max: u64) -> Result<usize, Problem> {
    let typed = parse_count(value).map_err(|why| not_a_value(key, &why))?;
    in_range(key, typed, (1, max), |count| count.to_string()).map(|count| count as usize)
}

fn size(key: &str, value: &str, range: (u64, u64)) -> Result<usize, Problem> {
    let typed = parse_bytes(value).map_err(|why| not_a_value(key, &why))?;
    in_range(key, typed, range, format_bytes).map(|bytes| bytes as usize)
}

fn in_range<T: PartialOrd + Copy>(
    key: &str,
    typed: T,
    (min, max): (T, T),
    format: fn(T) -> String,
) -> Result<T, Problem> {
    if min <= typed && typed <= max {
        return Ok(typed);
    }
    Err(Problem::OutOfRange {
        key: key.to_owned(),
        value: format(typed),
        range: format!("{} to {}", format(min), format(max)),
    })
}

fn not_a_value(key: &str, why: &dyn fmt::Display) -> Problem {
    Problem::Value {
        key: key.to_owned(),
        why: why.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merge(text: &str) -> Result<Tuning, String> {
        let over: OnCore = text.parse().unwrap();
        merged(&Tuning::default(), &over).map_err(|error| error.to_string())
    }

    #[test]
    fn every_key_reaches_its_setting() {
        // Goal: an override changes what it names and nothing else. Method: all keys at once, against the default.
        let text = "2:spin=100us,events=256,read-bytes=8KiB,quota=1ms,accept-burst=4,inbox=9,output-high=1k,idle=off";
        let expected = Tuning {
            spin: Duration::from_micros(100),
            events_max: 256,
            read_bytes_max: 8192,
            quota: Duration::from_millis(1),
            accept_max: 4,
            inbox_max: 9,
            output_high_bytes: 1000,
            idle_timeout: None,
            ..Tuning::default()
        };
        assert_eq!(merge(text).unwrap(), expected);
        assert_eq!(KEYS.len(), text.matches('=').count());
        assert_eq!(
            merge("0:idle=5s").unwrap().idle_timeout,
            Some(Duration::from_secs(5))
        );
    }

    #[test]
    fn mistakes_name_core_key_and_way_out() {
        // Goal: each refusal can be acted on. Method: one of each kind, by fragments.
        for (text, fragments) in [
            (
                "2:sprin=1us",
                ["--on-core 2", "\"sprin\"", "spin, events, read-bytes"],
            ),
            ("2:spin=5", ["--on-core 2", "spin: duration \"5\"", "50us"]),
            ("2:spin=2s", ["--on-core 2", "spin=2s", "0 to 1s"]),
            ("3:events=0", ["--on-core 3", "events=0", "1 to 1048576"]),
            ("3:read-bytes=1", ["read-bytes=1B", "4KiB", "16MiB"]),
            ("3:idle=never", ["idle:", "\"never\"", "or off"]),
            ("3:idle=50d", ["idle=50d", "1ms", "49d"]),
        ] {
            let message = merge(text).unwrap_err();
            for fragment in fragments {
                assert!(message.contains(fragment), "{text}: {message}");
            }
        }
    }
}
