//! Sizes, durations, counts and percentages as an operator types and reads them.
//!
//! One idea: a number is digits with at most one point, followed by a unit from a fixed table, and is
//! worked out in whole numbers (`u128`), never in floating point, so that what is typed is what is set.
//! What the `format_*` functions print, the matching `parse_*` function reads.
//!
//! * Without an `i`, a prefix is a power of 1000 (`64k` is 64,000); with it, a power of 1024 (`64Ki` and
//!   `64KiB` are 65,536). Prefixes may be written in either case; units of time are lower case, because
//!   `M` next to `m` would be read as something else.
//! * A fraction that is no whole number of bytes, things or nanoseconds is rounded up: nobody gets less
//!   than was typed. A fraction of the base unit itself (`1.5B`) is refused.
//! * A duration needs its unit, and so does a percentage: a bare `5` has cost people a day before. Only
//!   `0` stands for itself.
//!
//! Deliberately absent: signs, exponents, digit groups and locales.

use std::error::Error;
use std::fmt;
use std::time::Duration;

#[cfg(test)]
mod tests;

/// What a text was meant to be. Part of every [`UnitError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Quantity {
    /// A number of bytes.
    Size,
    /// A span of time.
    Duration,
    /// A number of things: connections, events, requests.
    Count,
    /// A whole percentage.
    Percent,
}

/// Why a text is not the quantity it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum UnitReason {
    /// There is nothing there.
    Empty,
    /// A number was expected at the start, or after a previous unit.
    NotANumber,
    /// The number has no unit and the quantity needs one.
    MissingUnit,
    /// The unit is not one of this quantity.
    UnknownUnit(
        /// The unit as typed.
        String,
    ),
    /// A fraction of the smallest unit.
    Fraction,
    /// The units of a compound duration do not get smaller (`5s1m`, `1s1s`).
    UnitOrder,
    /// The value does not fit.
    TooLarge,
}

/// A text that is not the quantity it should be. The message names the text, the reason and what to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitError {
    /// What the text should have been.
    pub quantity: Quantity,
    /// The text as typed.
    pub text: String,
    /// What is wrong with it.
    pub reason: UnitReason,
}

/// Reads a number of bytes: `4096`, `64k`, `1M`, `1.5GiB`.
///
/// # Errors
/// [`UnitError`] when the text is empty, has no number, an unknown unit, a fraction of a byte, or exceeds
/// `u64`.
pub fn parse_bytes(text: &str) -> Result<u64, UnitError> {
    parse_scaled(text, Quantity::Size)
        .map_err(|reason| UnitError::new(Quantity::Size, text, reason))
}

/// Reads a number of things: `512`, `10k`, `1.5M`, `64Ki`.
///
/// # Errors
/// [`UnitError`] as for [`parse_bytes`].
pub fn parse_count(text: &str) -> Result<u64, UnitError> {
    parse_scaled(text, Quantity::Count)
        .map_err(|reason| UnitError::new(Quantity::Count, text, reason))
}

/// Reads a whole percentage: `10%`, or `0`.
///
/// More than 100 is allowed (a loop may be 150 % over the others); more than 65,535 is not.
///
/// # Errors
/// [`UnitError`] when the `%` is missing, the number is no whole number, or does not fit.
pub fn parse_percent(text: &str) -> Result<u16, UnitError> {
    let fail = |reason| UnitError::new(Quantity::Percent, text, reason);
    let (number, unit) = Number::take(text.trim()).map_err(fail)?;
    match unit.trim_start() {
        "%" => {}
        "" if number.is_zero() => {}
        "" => return Err(fail(UnitReason::MissingUnit)),
        other => return Err(fail(UnitReason::UnknownUnit(other.to_owned()))),
    }
    let percent = number.scale(1).map_err(fail)?;
    u16::try_from(percent).map_err(|_| fail(UnitReason::TooLarge))
}

/// Reads a span of time: `50us`, `1.5s`, `100ms`, `2m`, `1h`, `1h30m`, or `0`.
///
/// Units are `ns`, `us` (or `µs`), `ms`, `s`, `m` (or `min`), `h` and `d`. Several may follow each other, the
/// larger first.
///
/// # Errors
/// [`UnitError`] when a unit is missing or unknown, units do not get smaller, a fraction of a nanosecond is
/// asked for, or the span exceeds `u64` nanoseconds (584 years).
pub fn parse_duration(text: &str) -> Result<Duration, UnitError> {
    let fail = |reason| UnitError::new(Quantity::Duration, text, reason);
    let mut rest = text.trim();
    if let Ok((number, "")) = Number::take(rest)
        && number.is_zero()
    {
        return Ok(Duration::ZERO);
    }
    let mut total_ns: u64 = 0;
    let mut unit_before = u128::MAX;
    // Each unit is smaller than the one before, so the loop ends after as many rounds as there are units.
    loop {
        let (number, tail) = Number::take(rest).map_err(fail)?;
        let end = tail
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(tail.len());
        let (unit, next) = tail.split_at(end);
        let unit = unit.trim();
        if unit.is_empty() {
            return Err(fail(UnitReason::MissingUnit));
        }
        let unit_ns =
            time_unit_ns(unit).ok_or_else(|| fail(UnitReason::UnknownUnit(unit.to_owned())))?;
        if unit_ns >= unit_before {
            return Err(fail(UnitReason::UnitOrder));
        }
        unit_before = unit_ns;
        let part_ns = number.scale(unit_ns).map_err(fail)?;
        total_ns = total_ns
            .checked_add(part_ns)
            .ok_or_else(|| fail(UnitReason::TooLarge))?;
        if next.is_empty() {
            return Ok(Duration::from_nanos(total_ns));
        }
        rest = next;
    }
}

/// Prints a number of bytes for people: `512B`, `64KiB`, `1.5GiB`, `976.5KiB`.
///
/// At most four significant digits, cut rather than rounded, so that it never claims more than there is.
#[must_use]
pub fn format_bytes(bytes: u64) -> String {
    const UNITS: [(&str, u64); 6] = [
        ("EiB", 1 << 60),
        ("PiB", 1 << 50),
        ("TiB", 1 << 40),
        ("GiB", 1 << 30),
        ("MiB", 1 << 20),
        ("KiB", 1 << 10),
    ];
    for (unit, size) in UNITS {
        if bytes >= size {
            return with_decimals(bytes, size, unit);
        }
    }
    format!("{bytes}B")
}

/// Prints a number of things for people: `512`, `10k`, `1.234M`. Cut like [`format_bytes`].
#[must_use]
pub fn format_count(count: u64) -> String {
    const UNITS: [(&str, u64); 5] = [
        ("P", 1_000_000_000_000_000),
        ("T", 1_000_000_000_000),
        ("G", 1_000_000_000),
        ("M", 1_000_000),
        ("k", 1_000),
    ];
    for (unit, size) in UNITS {
        if count >= size {
            return with_decimals(count, size, unit);
        }
    }
    count.to_string()
}

/// Prints a span of time for people: `0`, `50us`, `1.234s`, `2m`, `1h1m5s`, `49d`.
///
/// Below a minute at most four significant digits; from a minute on, whole seconds. Cut, never rounded up.
#[must_use]
pub fn format_duration(span: Duration) -> String {
    const MINUTE_S: u64 = 60;
    const HOUR_S: u64 = 3600;
    const DAY_S: u64 = 86_400;
    let seconds = span.as_secs();
    if seconds < MINUTE_S {
        // Below a minute the nanoseconds fit easily; the fallback can never be taken.
        return format_below_minute(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX));
    }
    let mut text = String::new();
    for (amount, unit) in [
        (seconds / DAY_S, "d"),
        (seconds % DAY_S / HOUR_S, "h"),
        (seconds % HOUR_S / MINUTE_S, "m"),
        (seconds % MINUTE_S, "s"),
    ] {
        if amount > 0 {
            text.push_str(&amount.to_string());
            text.push_str(unit);
        }
    }
    text
}

impl UnitError {
    fn new(quantity: Quantity, text: &str, reason: UnitReason) -> Self {
        Self {
            quantity,
            text: text.to_owned(),
            reason,
        }
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Size => "size",
            Self::Duration => "duration",
            Self::Count => "count",
            Self::Percent => "percentage",
        })
    }
}

impl fmt::Display for UnitReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("is empty"),
            Self::NotANumber => f.write_str("does not start with a number"),
            Self::MissingUnit => f.write_str("has no unit"),
            Self::UnknownUnit(unit) => write!(f, "has the unknown unit {unit:?}"),
            Self::Fraction => f.write_str("is a fraction of the smallest unit"),
            Self::UnitOrder => f.write_str("does not go from larger to smaller units"),
            Self::TooLarge => f.write_str("is too large"),
        }
    }
}

impl fmt::Display for UnitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let way_out = match self.quantity {
            Quantity::Size => {
                "write bytes as 4096, 64k or 1M (powers of 1000), or 64KiB or 1MiB (powers of 1024)"
            }
            Quantity::Duration => {
                "write a number with ns, us, ms, s, m, h or d, as in 50us, 1.5s or 1h30m"
            }
            Quantity::Count => {
                "write a whole number, or one with k, M or G (powers of 1000), as in 10k"
            }
            Quantity::Percent => "write a whole number with %, up to 65535%, as in 10%",
        };
        write!(
            f,
            "{} {:?} {}; {way_out}",
            self.quantity, self.text, self.reason
        )
    }
}

impl Error for UnitError {}

/// A decimal number before its unit is known: `digits / 10^scale`.
#[derive(Debug, Clone, Copy)]
struct Number {
    digits: u128,
    ten_to: u128,
}

impl Number {
    /// Takes the number off the front; the rest (the unit, maybe more) is returned as it is.
    fn take(text: &str) -> Result<(Self, &str), UnitReason> {
        if text.is_empty() {
            return Err(UnitReason::Empty);
        }
        let end = text
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(text.len());
        let (number, rest) = text.split_at(end);
        let (whole, fraction) = match number.split_once('.') {
            Some((_, "")) => return Err(UnitReason::NotANumber),
            Some(parts) => parts,
            None => (number, ""),
        };
        if whole.is_empty() || fraction.contains('.') {
            return Err(UnitReason::NotANumber);
        }
        // 20 digits hold any u64, and 20 + 12 digits times the largest unit (2^60) stay inside u128 for
        // every product that is not refused by the checked multiplication in `scale`.
        let whole = whole.trim_start_matches('0');
        let fraction = fraction.trim_end_matches('0');
        if whole.len() > WHOLE_DIGITS_MAX {
            return Err(UnitReason::TooLarge);
        }
        if fraction.len() > FRACTION_DIGITS_MAX {
            return Err(UnitReason::Fraction);
        }
        let digits = whole
            .bytes()
            .chain(fraction.bytes())
            .fold(0_u128, |sum, digit| sum * 10 + u128::from(digit - b'0'));
        let ten_to = fraction.bytes().fold(1, |power, _| power * 10);
        Ok((Self { digits, ten_to }, rest))
    }

    fn is_zero(self) -> bool {
        self.digits == 0
    }

    /// The number times `unit`, rounded up to a whole one.
    fn scale(self, unit: u128) -> Result<u64, UnitReason> {
        if unit == 1 && self.ten_to != 1 {
            return Err(UnitReason::Fraction);
        }
        let product = self.digits.checked_mul(unit).ok_or(UnitReason::TooLarge)?;
        u64::try_from(product.div_ceil(self.ten_to)).map_err(|_| UnitReason::TooLarge)
    }
}

fn parse_scaled(text: &str, quantity: Quantity) -> Result<u64, UnitReason> {
    let (number, unit) = Number::take(text.trim())?;
    let unit = unit.trim_start();
    let mut prefix = unit;
    if quantity == Quantity::Size {
        prefix = prefix.strip_suffix(['B', 'b']).unwrap_or(prefix);
    }
    let size: u128 = match prefix.to_ascii_lowercase().as_str() {
        "" => 1,
        "k" => 1000,
        "m" => 1000_u128.pow(2),
        "g" => 1000_u128.pow(3),
        "t" => 1000_u128.pow(4),
        "p" => 1000_u128.pow(5),
        "ki" => 1 << 10,
        "mi" => 1 << 20,
        "gi" => 1 << 30,
        "ti" => 1 << 40,
        "pi" => 1 << 50,
        "ei" => 1 << 60,
        _ => return Err(UnitReason::UnknownUnit(unit.to_owned())),
    };
    number.scale(size)
}

fn time_unit_ns(unit: &str) -> Option<u128> {
    Some(match unit {
        "ns" => 1,
        // Both signs for micro: U+00B5 is on keyboards, U+03BC is what Unicode prefers.
        "us" | "\u{b5}s" | "\u{3bc}s" => MICROSECOND_NS.into(),
        "ms" => MILLISECOND_NS.into(),
        "s" => SECOND_NS.into(),
        "m" | "min" => u128::from(SECOND_NS) * 60,
        "h" => u128::from(SECOND_NS) * 3600,
        "d" => u128::from(SECOND_NS) * 86_400,
        _ => return None,
    })
}

fn format_below_minute(span_ns: u64) -> String {
    match span_ns {
        0 => "0".to_owned(),
        SECOND_NS.. => with_decimals(span_ns, SECOND_NS, "s"),
        MILLISECOND_NS.. => with_decimals(span_ns, MILLISECOND_NS, "ms"),
        MICROSECOND_NS.. => with_decimals(span_ns, MICROSECOND_NS, "us"),
        _ => format!("{span_ns}ns"),
    }
}

/// `value / size` with four significant digits (all digits of the whole part), cut, without trailing zeros.
fn with_decimals(value: u64, size: u64, unit: &str) -> String {
    let whole = value / size;
    let decimals: usize = match whole {
        0..10 => 3,
        10..100 => 2,
        100..1000 => 1,
        _ => 0,
    };
    let ten_to = 10_u128.pow(decimals as u32);
    let fraction = u128::from(value % size) * ten_to / u128::from(size);
    if fraction == 0 {
        return format!("{whole}{unit}");
    }
    let digits = format!("{fraction:0decimals$}");
    format!("{whole}.{}{unit}", digits.trim_end_matches('0'))
}

const MICROSECOND_NS: u64 = 1_000;
const MILLISECOND_NS: u64 = 1_000_000;
const SECOND_NS: u64 = 1_000_000_000;

/// `u64::MAX` has 20 digits.
const WHOLE_DIGITS_MAX: usize = 20;

/// Twelve places say a byte of a TiB; more is a slip of the hand.
const FRACTION_DIGITS_MAX: usize = 12;
