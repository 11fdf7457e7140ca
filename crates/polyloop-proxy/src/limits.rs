//! How many, how often, how fast: what one source, or everybody together, may use.
//!
//! * [`TokenBucket`]: new connections per second, with room for a burst.
//! * [`Sources`]: connections open at once and per second of each source, in a table that cannot outgrow its bound.
//! * [`Pace`]: bytes per second of one session.
//!
//! The one idea: whole numbers of a unit so fine that nothing is rounded. A bucket holds billionths of a token, so that
//! each nanosecond brings as many of them as there are tokens per second; a pace carries the remainder of its division.
//!
//! Deliberately absent: sharing. These are plain values for one owner. What holds for the process goes behind a lock, or
//! behind one for each shard of the sources ([`SourceKey::shard`]). Times may run backwards by what loops' clocks differ;
//! the later one counts.

mod bucket;
mod pace;
mod sources;
#[cfg(test)]
mod tests;

pub use bucket::{Refill, TokenBucket};
pub use pace::{ByteRate, Pace};
pub use sources::{Admission, SourceKey, SourceLimits, Sources, Ticket, WhenFull};
