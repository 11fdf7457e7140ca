//! Figures as an operator reads them: three digits and a unit, counts whole with their thousands apart.
//!
//! The one idea: a figure is as wide as what is known of it. Nothing here is read back by a program; files hold plain
//! numbers with the unit in the name.

/// `50,000`.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `50,000`, `12.5` or `0.50`: per second, without saying so.
pub(crate) fn rate(per_second: f64) -> String {
    if per_second >= 99.95 {
        count(per_second.round() as u64)
    } else {
        three_digits(per_second)
    }
}

/// `45.1 µs`, `1.20 ms`, `1.40 s`.
pub(crate) fn duration_us(us: f64) -> String {
    // What would be rounded up to a thousand belongs to the next unit.
    if us < 999.5 {
        format!("{} µs", three_digits(us))
    } else if us < 999_500.0 {
        format!("{} ms", three_digits(us / 1e3))
    } else {
        format!("{} s", three_digits(us / 1e6))
    }
}

/// `3.05 MiB`.
pub(crate) fn bytes(bytes: f64) -> String {
    let mut value = bytes;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if value < 1023.5 {
            return match unit {
                "B" => format!("{value:.0} B"),
                _ => format!("{} {unit}", three_digits(value)),
            };
        }
        value /= 1024.0;
    }
    format!("{} TiB", three_digits(value))
}

/// `93 %`, `1.4 %`, `99.98 %`: two decimals where they make a difference, near nothing and near everything. It is not
/// 100 % before it is everything.
pub(crate) fn percent(share: f64) -> String {
    let percent = share * 100.0;
    if percent.abs() < 0.005 {
        "0 %".to_owned()
    } else if (99.0..100.0).contains(&percent) {
        format!("{:.2} %", (percent * 100.0).floor() / 100.0)
    } else if percent < 1.0 {
        format!("{percent:.2} %")
    } else if percent < 9.95 {
        format!("{percent:.1} %")
    } else {
        format!("{percent:.0} %")
    }
}

/// `2.0 s`, `1m40s`, `1h2m3s`.
pub(crate) fn seconds(seconds: f64) -> String {
    if seconds < 59.95 {
        return format!("{seconds:.1} s");
    }
    let whole = std::time::Duration::from_secs(seconds.round() as u64);
    polyloop_core::units::format_duration(whole)
}

/// A dash for what is not known.
pub(crate) fn or_dash<T>(value: Option<T>, show: impl FnOnce(T) -> String) -> String {
    value.map_or_else(|| "-".to_owned(), show)
}

fn three_digits(value: f64) -> String {
    if value < 9.995 {
        format!("{value:.2}")
    } else if value < 99.95 {
        format!("{value:.1}")
    } else {
        format!("{value:.0}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_three_digits_and_a_unit() {
        // Goal: no figure jumps in width or claims digits at the seams between units. Method: both sides of each seam.
        assert_eq!(
            [0, 999, 1_000, 1_234_567].map(count),
            ["0", "999", "1,000", "1,234,567"]
        );
        assert_eq!(
            [0.5, 12.34, 99.96, 50_000.4].map(rate),
            ["0.50", "12.3", "100", "50,000"]
        );
        assert_eq!(
            [0.85, 9.996, 45.14, 999.4, 999.6, 1_400_000.0].map(duration_us),
            [
                "0.85 µs", "10.0 µs", "45.1 µs", "999 µs", "1.00 ms", "1.40 s"
            ]
        );
        assert_eq!(
            [0.0, 1023.0, 1024.0, 3.2e6].map(bytes),
            ["0 B", "1023 B", "1.00 KiB", "3.05 MiB"]
        );
        assert_eq!(
            [0.0, 0.004, 0.014, 0.93, 0.99985, 0.999_999, 1.0].map(percent),
            [
                "0 %", "0.40 %", "1.4 %", "93 %", "99.98 %", "99.99 %", "100 %"
            ]
        );
        assert_eq!([2.0, 100.0].map(seconds), ["2.0 s", "1m40s"]);
    }
}
