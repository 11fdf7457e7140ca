//! How each kind of value is read and shown.
//!
//! The one idea: a kind is a value of its own (a range, a list of names), so that a table of settings can say in one
//! line what a setting takes. `read` and `show` are each other's inverse: [`print`](super::print) relies on it.

use std::fmt::Display;
use std::marker::PhantomData;
use std::str::FromStr;
use std::time::Duration;

use polyloop_core::units::{
    format_bytes, format_duration, parse_bytes, parse_count, parse_duration, parse_percent,
};

use super::suggest;
use super::value::{Value, Wrong};
use crate::args::TimeOrOff;

/// A kind of value.
pub(crate) trait Codec {
    /// What it is read into.
    type Of;

    /// Reads a value.
    fn read(&self, value: &Value) -> Result<Self::Of, Wrong>;

    /// Shows a value so that it can be read again; `None` if it is not set.
    fn show(&self, of: &Self::Of) -> Option<Value>;
}

/// A span of time.
pub(crate) struct Time {
    pub(crate) min: Duration,
    pub(crate) max: Duration,
    /// What it is counted in: a fraction of this cannot be kept.
    pub(crate) step: Duration,
}

impl Codec for Time {
    type Of = Duration;

    fn read(&self, value: &Value) -> Result<Duration, Wrong> {
        let time = parse_duration(value.as_text("a time, as in \"30s\"")?).map_err(Wrong::new)?;
        let time = in_range(time, (self.min, self.max), show_time)?;
        if time.as_nanos().is_multiple_of(self.step.as_nanos()) {
            return Ok(time);
        }
        let (time, step) = (show_time(time), show_time(self.step));
        Err(Wrong::new(format!("{time} is no multiple of {step}")))
    }

    fn show(&self, of: &Duration) -> Option<Value> {
        Some(Value::Text(show_time(*of)))
    }
}

/// The shortest text that is read as exactly this time.
fn show_time(time: Duration) -> String {
    let short = format_duration(time);
    if parse_duration(&short) == Ok(time) {
        short
    } else if time.subsec_nanos().is_multiple_of(1_000_000) {
        format!("{}ms", time.as_millis())
    } else {
        format!("{}ns", time.as_nanos())
    }
}

/// A time that can be off, as the flags of the server have it.
pub(crate) struct ServerTimeOrOff;

impl Codec for ServerTimeOrOff {
    type Of = TimeOrOff;

    fn read(&self, value: &Value) -> Result<TimeOrOff, Wrong> {
        let text = value.as_text("a time or off, as in \"30s\"")?;
        text.parse().map_err(Wrong::new)
    }

    fn show(&self, of: &TimeOrOff) -> Option<Value> {
        Some(of.0.map_or_else(|| Value::text("off"), |time| Value::Text(show_time(time))))
    }
}

/// A number of things.
pub(crate) struct Count<T> {
    pub(crate) min: u64,
    pub(crate) max: u64,
    pub(crate) of: PhantomData<T>,
}

/// A number of things from `min` to `max`.
pub(crate) const fn count<T>(min: u64, max: u64) -> Count<T> {
    Count {
        min,
        max,
        of: PhantomData,
    }
}

impl<T: TryFrom<u64> + Into<u64> + Copy> Codec for Count<T> {
    type Of = T;

    fn read(&self, value: &Value) -> Result<T, Wrong> {
        let text = value.as_text("a whole number, as in 512 or \"10k\"")?;
        let number = parse_count(text).map_err(Wrong::new)?;
        let show = |number: u64| number.to_string();
        let number = in_range(number, (self.min, self.max), show)?;
        // The range is within the type.
        T::try_from(number).map_err(|_| Wrong::new(format!("{number} is too large")))
    }

    fn show(&self, of: &T) -> Option<Value> {
        Some(Value::integer(*of))
    }
}

/// A number of bytes.
pub(crate) struct Size {
    pub(crate) min: u64,
    pub(crate) max: u64,
}

impl Codec for Size {
    type Of = u64;

    fn read(&self, value: &Value) -> Result<u64, Wrong> {
        let text = value.as_text("a number of bytes, as in 4096 or \"64KiB\"")?;
        let bytes = parse_bytes(text).map_err(Wrong::new)?;
        in_range(bytes, (self.min, self.max), format_bytes)
    }

    fn show(&self, of: &u64) -> Option<Value> {
        let short = format_bytes(*of);
        let is_exact = parse_bytes(&short) == Ok(*of);
        Some(if is_exact {
            Value::Text(short)
        } else {
            Value::integer(*of)
        })
    }
}

/// A whole percentage.
pub(crate) struct Percent {
    pub(crate) max: u16,
}

impl Codec for Percent {
    type Of = u16;

    fn read(&self, value: &Value) -> Result<u16, Wrong> {
        let text = value.as_text("a percentage, as in \"10%\"")?;
        let percent = parse_percent(text).map_err(Wrong::new)?;
        in_range(percent, (0, self.max), |percent| format!("{percent}%"))
    }

    fn show(&self, of: &u16) -> Option<Value> {
        Some(Value::Text(format!("{of}%")))
    }
}

/// One of several names.
pub(crate) struct Choice<T: 'static>(pub(crate) &'static [(&'static str, T)]);

impl<T: Clone + PartialEq> Codec for Choice<T> {
    type Of = T;

    fn read(&self, value: &Value) -> Result<T, Wrong> {
        let names: Vec<_> = self.0.iter().map(|(name, _)| *name).collect();
        let text = value.as_text(&format!("one of {}", names.join(", ")))?;
        let found = self.0.iter().find(|(name, _)| *name == text);
        found.map(|(_, of)| of.clone()).ok_or_else(|| {
            let hint = suggest::hint(text, names.iter().copied());
            Wrong::new(format!("{text:?} is none of {}{hint}", names.join(", ")))
        })
    }

    fn show(&self, of: &T) -> Option<Value> {
        let named = self.0.iter().find(|(_, named)| named == of);
        named.map(|(name, _)| Value::text(name))
    }
}

/// `true` or `false`.
pub(crate) struct Switch;

impl Codec for Switch {
    type Of = bool;

    fn read(&self, value: &Value) -> Result<bool, Wrong> {
        match value {
            Value::Switch(is_on) => Ok(*is_on),
            other => Err(other.is_not("true or false")),
        }
    }

    fn show(&self, of: &bool) -> Option<Value> {
        Some(Value::Switch(*of))
    }
}

/// What a type reads and prints by itself.
pub(crate) struct Parsed<T> {
    pub(crate) form: &'static str,
    pub(crate) of: PhantomData<T>,
}

/// What a type reads and prints by itself; `form` is told to somebody who gives a list or a switch.
pub(crate) const fn parsed<T>(form: &'static str) -> Parsed<T> {
    Parsed {
        form,
        of: PhantomData,
    }
}

impl<T: FromStr<Err: Display> + Display> Codec for Parsed<T> {
    type Of = T;

    fn read(&self, value: &Value) -> Result<T, Wrong> {
        value.as_text(self.form)?.parse().map_err(Wrong::new)
    }

    fn show(&self, of: &T) -> Option<Value> {
        Some(Value::text(of))
    }
}

/// A value that can be switched off.
pub(crate) struct OrOff<C>(pub(crate) C);

impl<C: Codec> Codec for OrOff<C> {
    type Of = Option<C::Of>;

    fn read(&self, value: &Value) -> Result<Option<C::Of>, Wrong> {
        if *value == Value::text("off") {
            return Ok(None);
        }
        let or_off = |wrong: Wrong| Wrong {
            why: format!("{}, or off", wrong.why),
            ..wrong
        };
        self.0.read(value).map(Some).map_err(or_off)
    }

    fn show(&self, of: &Option<C::Of>) -> Option<Value> {
        of.as_ref()
            .map_or_else(|| Some(Value::text("off")), |of| self.0.show(of))
    }
}

/// A value that need not be set.
pub(crate) struct Maybe<C>(pub(crate) C);

impl<C: Codec> Codec for Maybe<C> {
    type Of = Option<C::Of>;

    fn read(&self, value: &Value) -> Result<Option<C::Of>, Wrong> {
        self.0.read(value).map(Some)
    }

    fn show(&self, of: &Option<C::Of>) -> Option<Value> {
        of.as_ref().and_then(|of| self.0.show(of))
    }
}

/// Several values: a list, a single value, or, with `splits`, a text with commas.
pub(crate) struct List<C> {
    pub(crate) of: C,
    pub(crate) splits: bool,
}

impl<C: Codec> Codec for List<C> {
    type Of = Vec<C::Of>;

    fn read(&self, value: &Value) -> Result<Vec<C::Of>, Wrong> {
        let read = |item: &Value| match item {
            Value::Text(text) if self.splits => text
                .split(',')
                .map(|part| self.of.read(&Value::text(part.trim())))
                .collect(),
            item => self.of.read(item).map(|of| vec![of]),
        };
        Ok(value.each(read)?.into_iter().flatten().collect())
    }

    fn show(&self, of: &Vec<C::Of>) -> Option<Value> {
        let items: Vec<_> = of.iter().filter_map(|of| self.of.show(of)).collect();
        (!items.is_empty()).then_some(Value::List(items))
    }
}

fn in_range<T: PartialOrd + Copy>(
    value: T,
    (min, max): (T, T),
    show: impl Fn(T) -> String,
) -> Result<T, Wrong> {
    if min <= value && value <= max {
        return Ok(value);
    }
    let (value, min, max) = (show(value), show(min), show(max));
    Err(Wrong::new(format!(
        "{value} is out of range; give {min} to {max}"
    )))
}

#[cfg(test)]
mod tests;
