//! The wall clock as people read it: RFC 3339 in UTC, to the millisecond.
//!
//! The one idea: count days from the first of March of the year 0. A year then ends with its leap day, so every cycle
//! of 400, 100, 4 and 1 years is a plain division, but for the last of its kind, which is a day longer.

use std::fmt;

const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// From 0000-03-01 to 1970-01-01.
const DAYS_TO_1970: u64 = 719_468;

const DAYS_IN_400_YEARS: u64 = 146_097;
const DAYS_IN_100_YEARS: u64 = 36_524;
const DAYS_IN_4_YEARS: u64 = 1_461;
const DAYS_IN_YEAR: u64 = 365;

/// From March to February.
const DAYS_IN_MONTHS: [u64; 12] = [31, 30, 31, 30, 31, 31, 30, 31, 30, 31, 31, 29];

/// 9999-12-31T23:59:59.999Z, the last moment that the format can express; shown for any later one.
const LAST_MS: u64 = 253_402_300_799_999;

/// Milliseconds since 1970-01-01T00:00:00Z, shown as `2026-02-03T04:05:06.789Z`.
#[derive(Clone, Copy)]
pub(super) struct Rfc3339(pub(super) u64);

impl fmt::Display for Rfc3339 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unix_ms = self.0.min(LAST_MS);
        let (year, month, day) = civil(unix_ms / DAY_MS);
        let in_day_ms = unix_ms % DAY_MS;
        let (seconds, ms) = (in_day_ms / 1000, in_day_ms % 1000);
        let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
        write!(
            f,
            "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z"
        )
    }
}

/// Year, month and day, the latter two from 1, of the day so many days after 1970-01-01.
const fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + DAYS_TO_1970;
    let (eras, days) = (days / DAYS_IN_400_YEARS, days % DAYS_IN_400_YEARS);
    let (centuries, days) = cycle(days, DAYS_IN_100_YEARS, 4);
    let (fours, days) = (days / DAYS_IN_4_YEARS, days % DAYS_IN_4_YEARS);
    let (years, mut days) = cycle(days, DAYS_IN_YEAR, 4);
    let year_from_march = 400 * eras + 100 * centuries + 4 * fours + years;
    let mut months = 0;
    while days >= DAYS_IN_MONTHS[months] {
        days -= DAYS_IN_MONTHS[months];
        months += 1;
    }
    // January and February are the last two months of a year that began in March.
    let (year, month) = if months < 10 {
        (year_from_march, months as u64 + 3)
    } else {
        (year_from_march + 1, months as u64 - 9)
    };
    (year, month, days + 1)
}

/// Which of `count` cycles of `len` days it is, and the days into it; the last cycle may be a day longer.
const fn cycle(days: u64, len: u64, count: u64) -> (u64, u64) {
    let index = if days / len < count {
        days / len
    } else {
        count - 1
    };
    (index, days - index * len)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_moments() {
        // Goal: the format and the anchors. Method: moments known from elsewhere, the bounds among them.
        for (unix_ms, expected) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_000_000_000_000, "2001-09-09T01:46:40.000Z"),
            (1_709_251_199_999, "2024-02-29T23:59:59.999Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
            (LAST_MS, "9999-12-31T23:59:59.999Z"),
            (u64::MAX, "9999-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(Rfc3339(unix_ms).to_string(), expected);
        }
    }

    #[test]
    fn every_day_follows_the_day_before() {
        // Goal: no day is skipped or doubled in 800 years. Method: a calendar that only knows how to add one day.
        let (mut year, mut month, mut day) = (1970, 1, 1);
        for days in 0..2 * DAYS_IN_400_YEARS {
            assert_eq!(civil(days), (year, month, day));
            let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
            let month_days = match month {
                2 if is_leap => 29,
                2 => 28,
                4 | 6 | 9 | 11 => 30,
                _ => 31,
            };
            day += 1;
            if day > month_days {
                (month, day) = (month + 1, 1);
            }
            if month > 12 {
                (year, month) = (year + 1, 1);
            }
        }
    }
}
