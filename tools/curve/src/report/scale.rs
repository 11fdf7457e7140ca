//! Axes: where values go, and which of them get a tick and a word.

/// An axis of a chart.
#[derive(Debug, Clone, PartialEq)]
pub struct Axis {
    /// What it measures, with its unit.
    pub label: String,
    /// How values are spread.
    pub scale: Scale,
    low: f64,
    high: f64,
}

/// How values are spread along an axis.
#[derive(Debug, Clone, PartialEq)]
pub enum Scale {
    /// Evenly, from zero.
    Linear,
    /// By their logarithm.
    Log,
    /// Quantiles by the logarithm of what lies beyond: as much room for 99 to 99.9 as for 90 to 99.
    Quantile,
    /// Names in a row; the value is the place, from 0.
    Names(Vec<String>),
}

impl Axis {
    /// An axis that has room for `values`.
    #[must_use]
    pub fn new(label: &str, scale: Scale, values: impl IntoIterator<Item = f64>) -> Self {
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        for value in values.into_iter().filter(|value| value.is_finite()) {
            low = low.min(value);
            high = high.max(value);
        }
        if low > high {
            (low, high) = (0.0, 1.0);
        }
        Self {
            label: label.to_owned(),
            scale,
            low,
            high,
        }
    }

    /// Where a value goes.
    #[must_use]
    pub fn place(&self, value: f64) -> f64 {
        match self.scale {
            Scale::Linear | Scale::Names(_) => value,
            Scale::Log => value.max(f64::MIN_POSITIVE).log10(),
            Scale::Quantile => -(1.0 - value).max(1e-9).log10(),
        }
    }

    /// The ends, as places.
    #[must_use]
    pub fn range(&self) -> (f64, f64) {
        match &self.scale {
            Scale::Linear => (
                0.0,
                if self.high > 0.0 {
                    self.high * 1.06
                } else {
                    1.0
                },
            ),
            Scale::Log => {
                let (low, high) = (self.place(self.low), self.place(self.high));
                let room = ((high - low) * 0.04).max(0.05);
                (low - room, high + room)
            }
            Scale::Quantile => (0.0, self.place(self.high) + 0.1),
            Scale::Names(names) => (-0.5, names.len().max(1) as f64 - 0.5),
        }
    }

    /// Places and words, not many more than `room`.
    #[must_use]
    pub fn ticks(&self, room: usize) -> Vec<(f64, String)> {
        let (low, high) = self.range();
        match &self.scale {
            Scale::Linear => {
                let step = step((high - low) / room.clamp(2, 6) as f64);
                let count = ((high - low) / step) as usize;
                (0..=count)
                    .map(|index| low + index as f64 * step)
                    .map(|value| (value, short(value)))
                    .collect()
            }
            Scale::Log => self.log_ticks(room),
            Scale::Quantile => QUANTILES
                .into_iter()
                .map(|(value, word)| (self.place(value), word.to_owned()))
                .filter(|(place, _)| *place <= high)
                .collect(),
            Scale::Names(names) => (0..).map(f64::from).zip(names.iter().cloned()).collect(),
        }
    }

    /// Room for the words of an upright axis, in pixels.
    #[must_use]
    pub fn label_width(&self) -> u32 {
        let ticks = self.ticks(usize::MAX);
        let longest = ticks.iter().map(|(_, word)| word.chars().count()).max();
        longest.unwrap_or(0) as u32 * 7 + 30
    }

    /// Powers of ten with 2 and 5 between, or of ten alone where those are too many, or doubling where there are few.
    fn log_ticks(&self, room: usize) -> Vec<(f64, String)> {
        let (low, high) = self.range();
        let within = |value: &f64| (low..=high).contains(&value.log10());
        let decades = (low.floor() as i32)..=(high.ceil() as i32);
        let times = |factors: &[f64]| -> Vec<f64> {
            let powers = decades.clone().map(|exponent| 10_f64.powi(exponent));
            powers
                .flat_map(|power| factors.iter().map(move |factor| power * factor))
                .filter(within)
                .collect()
        };
        let doubling: Vec<f64> = (0..40)
            .map(|exponent| 2_f64.powi(exponent))
            .filter(within)
            .collect();
        let values =
            if high - low < 2.2 && self.low >= 1.0 && (2..=room.min(8)).contains(&doubling.len()) {
                doubling
            } else {
                let fine = times(&[1.0, 2.0, 5.0]);
                if fine.len() <= room.min(9) {
                    fine
                } else {
                    times(&[1.0])
                }
            };
        values
            .into_iter()
            .map(|value| (value.log10(), short(value)))
            .collect()
    }
}

/// 1, 2 or 5 times a power of ten, at least `least`.
fn step(least: f64) -> f64 {
    let power = 10_f64.powf(least.log10().floor());
    let factors = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * power);
    factors
        .into_iter()
        .find(|step| *step >= least * 0.999)
        .unwrap_or(least)
}

/// A number in few letters.
#[must_use]
pub fn short(value: f64) -> String {
    let digits = |value: f64| {
        let text = format!("{value:.2}");
        let text = text.trim_end_matches('0').trim_end_matches('.');
        text.to_owned()
    };
    match value.abs() {
        size if size >= 999_500_000.0 => digits(value / 1e9) + "G",
        size if size >= 999_500.0 => digits(value / 1e6) + "M",
        size if size >= 9_995.0 => digits(value / 1e3) + "k",
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 0.01 || size == 0.0 => digits(value),
        _ => format!("{value:.0e}"),
    }
}

const QUANTILES: [(f64, &str); 7] = [
    (0.0, "0"),
    (0.5, "50"),
    (0.9, "90"),
    (0.99, "99"),
    (0.999, "99.9"),
    (0.9999, "99.99"),
    (0.99999, "99.999"),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn words(axis: &Axis, room: usize) -> String {
        let ticks = axis.ticks(room);
        let words: Vec<String> = ticks.into_iter().map(|(_, word)| word).collect();
        words.join(" ")
    }

    #[test]
    fn ticks_are_round_and_few() {
        // Goal: each scale has the ticks a person would choose; by examples, and none of no values.
        let linear = Axis::new("x", Scale::Linear, [3.0, 93.0]);
        assert_eq!(words(&linear, 5), "0 20 40 60 80");
        let loops = Axis::new("x", Scale::Log, [1.0, 8.0]);
        assert_eq!(words(&loops, 9), "1 2 4 8");
        let wide = Axis::new("x", Scale::Log, [64.0, 100_000.0]);
        assert_eq!(words(&wide, 6), "100 1000 10k 100k");
        let quantile = Axis::new("x", Scale::Quantile, [0.999]);
        assert_eq!(words(&quantile, 9), "0 50 90 99 99.9");
        let names = Axis::new(
            "x",
            Scale::Names(vec!["polyloop".into(), "haproxy".into()]),
            [],
        );
        assert_eq!(words(&names, 8), "polyloop haproxy");
        assert_eq!(Axis::new("x", Scale::Linear, [f64::NAN]).range().0, 0.0);
    }

    #[test]
    fn numbers_are_short() {
        // Goal: few letters at each size; by examples.
        let all = [0.0, 0.25, 0.001, 7.5, 123.4, 12_300.0, 2_000_000.0, 3e9].map(short);
        assert_eq!(all.join(" "), "0 0.25 1e-3 7.5 123 12.3k 2M 3G");
    }
}
