//! How long messages are.
//!
//! The one idea: a law is a weighted mix of simple ones, and each simple one is drawn with one random number, so that
//! the sizes of a run follow from its seed. What is printed reads back as the same law.
//!
//! Invariant: every size is between 1 byte and [`SIZE_MAX`].

use std::fmt;
use std::str::FromStr;

use polyloop_core::units::{self, UnitError};
use polyloop_measure::stats::SplitMix64;

/// The longest message, in bytes: what a server may be asked to hold for one of them, and what the pattern of payloads
/// costs in memory.
pub const SIZE_MAX: usize = 16 << 20;

/// A law of sizes, read from text: `64`, `1KiB`, `64..1400`, `exp:512`, `64:90,16KiB:10`.
#[derive(Debug, Clone, PartialEq)]
pub struct Sizes {
    /// At least one.
    parts: Vec<Part>,
    /// The sum of the weights.
    weight: u64,
}

#[derive(Debug, Clone, PartialEq)]
struct Part {
    shape: Shape,
    weight: u32,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Shape {
    Fixed(usize),
    /// Both ends included.
    Uniform(usize, usize),
    /// Geometric, the exponential law of whole numbers, cut at [`EXPONENTIAL_CAP`] times its mean.
    Exponential(usize),
}

/// Why a text is no law of sizes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SizesError {
    /// There is nothing there, or nothing between two commas.
    #[error(
        "the sizes {text:?} have an empty part; write a size as in 64, a range as in 64..1400, or exp:512"
    )]
    Empty {
        /// The whole text.
        text: String,
    },
    /// A size is no size.
    #[error(transparent)]
    Unit(#[from] UnitError),
    /// A size is out of bounds.
    #[error("the size {text:?} is out of bounds; messages have from 1 byte to 16MiB")]
    OutOfBounds {
        /// The size as typed.
        text: String,
    },
    /// A range goes down.
    #[error("the range {text:?} ends before it begins; write the smaller size first")]
    Backwards {
        /// The range as typed.
        text: String,
    },
    /// A weight is not a whole number above zero.
    #[error(
        "the weight {text:?} of {part:?} is no whole number from 1 to 1000000; write a mix as in 64:90,16KiB:10"
    )]
    Weight {
        /// The weight as typed.
        text: String,
        /// The part it belongs to.
        part: String,
    },
    /// Some parts have a weight and some have none.
    #[error("{part:?} has no weight and is one of several; write a mix as in 64:90,16KiB:10")]
    Unweighted {
        /// The part without one.
        part: String,
    },
    /// More parts than anybody types.
    #[error(
        "the mix has {count} parts, more than {PARTS_MAX}; use a range or exp: for the bulk of it"
    )]
    TooMany {
        /// How many there are.
        count: usize,
    },
}

impl Sizes {
    /// All messages have `bytes`, held between 1 and [`SIZE_MAX`].
    #[must_use]
    pub fn fixed(bytes: usize) -> Self {
        Self {
            parts: vec![Part {
                shape: Shape::Fixed(bytes.clamp(1, SIZE_MAX)),
                weight: 1,
            }],
            weight: 1,
        }
    }

    /// Draws a size.
    pub fn sample(&self, random: &mut SplitMix64) -> usize {
        let [only] = self.parts.as_slice() else {
            let mut ticket = scaled(random.next_u64(), self.weight);
            for part in &self.parts {
                let weight = u64::from(part.weight);
                if ticket < weight {
                    return part.shape.sample(random);
                }
                ticket -= weight;
            }
            unreachable!("a ticket is below the sum of the weights");
        };
        only.shape.sample(random)
    }

    /// The largest size that can be drawn.
    #[must_use]
    pub fn max(&self) -> usize {
        let sizes = self.parts.iter().map(|part| part.shape.max());
        sizes.max().unwrap_or(1)
    }

    /// The mean of what is drawn, caps included.
    #[must_use]
    pub fn mean(&self) -> f64 {
        let weighted = |part: &Part| part.shape.mean() * f64::from(part.weight);
        self.parts.iter().map(weighted).sum::<f64>() / self.weight as f64
    }

    /// The only size there is, where no drawing is needed.
    #[must_use]
    pub fn only(&self) -> Option<usize> {
        match self.parts.as_slice() {
            [
                Part {
                    shape: Shape::Fixed(size),
                    ..
                },
            ] => Some(*size),
            _ => None,
        }
    }
}

impl Shape {
    fn sample(self, random: &mut SplitMix64) -> usize {
        match self {
            Self::Fixed(size) => size,
            Self::Uniform(low, high) => low + random.below(high - low + 1),
            Self::Exponential(mean) => {
                let failure = 1.0 - 1.0 / mean as f64;
                let uniform = ((random.next_u64() >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
                // The number of tries up to the first success, by inversion. For a mean of 1 the divisor is minus
                // infinity and the first try succeeds.
                let size = (uniform.ln() / failure.ln()).ceil() as usize;
                size.clamp(1, self.max())
            }
        }
    }

    fn max(self) -> usize {
        match self {
            Self::Fixed(size) | Self::Uniform(_, size) => size,
            Self::Exponential(mean) => (mean * EXPONENTIAL_CAP).min(SIZE_MAX),
        }
    }

    fn mean(self) -> f64 {
        match self {
            Self::Fixed(size) => size as f64,
            Self::Uniform(low, high) => (low + high) as f64 / 2.0,
            // The sum of the odds of reaching each size up to the cap.
            Self::Exponential(mean) => {
                let failure = 1.0 - 1.0 / mean as f64;
                mean as f64 * (1.0 - failure.powf(self.max() as f64))
            }
        }
    }
}

impl FromStr for Sizes {
    type Err = SizesError;

    fn from_str(text: &str) -> Result<Self, SizesError> {
        let texts: Vec<&str> = text.split(',').map(str::trim).collect();
        if texts.len() > PARTS_MAX {
            return Err(SizesError::TooMany { count: texts.len() });
        }
        let mut parts = Vec::with_capacity(texts.len());
        for part in &texts {
            if part.is_empty() {
                return Err(SizesError::Empty {
                    text: text.to_owned(),
                });
            }
            parts.push(parse_part(part, texts.len() > 1)?);
        }
        let weight = parts.iter().map(|part| u64::from(part.weight)).sum();
        Ok(Self { parts, weight })
    }
}

fn parse_part(text: &str, is_one_of_several: bool) -> Result<Part, SizesError> {
    let (is_exponential, rest) = match text.strip_prefix("exp:") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (shape, weight) = match rest.split_once(':') {
        Some((shape, weight)) => (shape, parse_weight(weight, text)?),
        None if is_one_of_several => {
            return Err(SizesError::Unweighted {
                part: text.to_owned(),
            });
        }
        None => (rest, 1),
    };
    let shape = if is_exponential {
        Shape::Exponential(parse_size(shape)?)
    } else if let Some((low, high)) = shape.split_once("..") {
        let (low, high) = (parse_size(low)?, parse_size(high)?);
        if low > high {
            return Err(SizesError::Backwards {
                text: shape.to_owned(),
            });
        }
        Shape::Uniform(low, high)
    } else {
        Shape::Fixed(parse_size(shape)?)
    };
    // Alone, a weight says nothing.
    let weight = if is_one_of_several { weight } else { 1 };
    Ok(Part { shape, weight })
}

fn parse_weight(text: &str, part: &str) -> Result<u32, SizesError> {
    let weight = text.trim().parse().ok();
    weight
        .filter(|weight| (1..=WEIGHT_MAX).contains(weight))
        .ok_or_else(|| SizesError::Weight {
            text: text.to_owned(),
            part: part.to_owned(),
        })
}

/// Reads one size.
pub(crate) fn parse_size(text: &str) -> Result<usize, SizesError> {
    let bytes = units::parse_bytes(text)?;
    usize::try_from(bytes)
        .ok()
        .filter(|bytes| (1..=SIZE_MAX).contains(bytes))
        .ok_or_else(|| SizesError::OutOfBounds {
            text: text.to_owned(),
        })
}

impl fmt::Display for Sizes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, part) in self.parts.iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            part.shape.fmt(f)?;
            if self.parts.len() > 1 {
                write!(f, ":{}", part.weight)?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(size) => f.write_str(&exact(*size)),
            Self::Uniform(low, high) => write!(f, "{}..{}", exact(*low), exact(*high)),
            Self::Exponential(mean) => write!(f, "exp:{}", exact(*mean)),
        }
    }
}

/// A size in the largest unit that needs no fraction: nothing is cut, unlike in what people are shown elsewhere.
fn exact(bytes: usize) -> String {
    match bytes {
        _ if bytes.is_multiple_of(1 << 20) => format!("{}MiB", bytes >> 20),
        _ if bytes.is_multiple_of(1 << 10) => format!("{}KiB", bytes >> 10),
        _ => bytes.to_string(),
    }
}

/// A random word as a number below `bound`.
fn scaled(word: u64, bound: u64) -> u64 {
    ((u128::from(word) * u128::from(bound)) >> 64) as u64
}

/// Beyond 16 means lies one message in nine million; without an end, one of them could take any buffer.
const EXPONENTIAL_CAP: usize = 16;

/// Keeps the sum of weights far from overflow; a millionth is finer than any run can show.
const WEIGHT_MAX: u32 = 1_000_000;

/// More parts than anybody types.
const PARTS_MAX: usize = 64;

#[cfg(test)]
mod tests;
